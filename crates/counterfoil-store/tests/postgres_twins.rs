//! One random history told to two stores: PostgreSQL and SQLite give the same answers.
#![cfg(all(feature = "postgres", feature = "sqlite"))]

mod history;
mod office;

use counterfoil_core::conformance::wait;
use counterfoil_core::{CheckKey, TokenStore};
use counterfoil_lab::postgres;
use counterfoil_store::{ConnectOptions, PostgresStore};
use office::Office;

/// Without U+0000, which PostgreSQL keeps in no text: what must not change and holds one is an error there, and the audit log keeps
/// U+FFFD instead.
const TEXTS: [&str; 4] = ["", "Ada", "'; DROP TABLE accounts; --", "%_\\\u{1}\n\u{10ffff}"];

#[test]
fn s7_postgres_answers_as_sqlite_does_whatever_happened_before() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    // Held to the end, so that a server of this process's own is not made anew for each history.
    let _server = postgres::database();
    for seed in 0..6 {
        let office = Office::new();
        let sqlite = office.serve();
        let database = postgres::database();
        let store = runtime.block_on(PostgresStore::connect(database.url(), &ConnectOptions::default()));
        let store = store.expect("an empty store");
        let key = CheckKey::generate(&office.entropy).expect("entropy");
        let default = history::default_client(office::default_client(&sqlite).id);
        wait(TokenStore::open(&store, &key, &default));
        history::tell_both(seed, 150, &store, &sqlite, &TEXTS);
        runtime.block_on(store.close());
    }
}
