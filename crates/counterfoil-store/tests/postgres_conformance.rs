//! The contract of the stores, held over PostgreSQL.
#![cfg(feature = "postgres")]

use std::cell::RefCell;
use std::sync::Arc;

use counterfoil_core::conformance::{self, Stores};
use counterfoil_lab::postgres;
use counterfoil_store::{ConnectOptions, PostgresStore};

#[test]
fn postgres_keeps_the_contract() {
    // The cases block the thread they run on, and so do their racers: connections live elsewhere.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    // Held to the end, so that a server of this process's own is not made anew for each case.
    let _server = postgres::database();
    // One case after the other: the store and the database of the one before go when the next begins.
    let (last, options) = (RefCell::new(None), ConnectOptions::default());
    conformance::run_all(|_case| {
        if let Some((store, database)) = last.take() {
            let store: PostgresStore = store;
            runtime.block_on(store.close());
            drop(database);
        }
        let database = postgres::database();
        let store = runtime.block_on(PostgresStore::connect(database.url(), &options)).expect("an empty store");
        last.replace(Some((store.clone(), database)));
        let store = Arc::new(store);
        Stores {
            tokens: store.clone(),
            accounts: store.clone(),
            mail: store.clone(),
            imports: store.clone(),
            audit: store,
        }
    });
}
