//! The contract of the stores, held over PostgreSQL.
#![cfg(feature = "postgres")]

use std::cell::RefCell;
use std::sync::Arc;

use counterfoil_core::conformance::{self, Stores};
use counterfoil_core::{MemoryStore, TokenStore};
use counterfoil_lab::postgres;
use counterfoil_store::{ConnectOptions, PostgresStore};

/// Cases about imports, which bring tokens by the other door of the same store: until PostgreSQL has that door, memory stands here.
const OF_IMPORTS: [&str; 9] = [
    "accounts_are_brought_as_they_are_and_nobody_is_merged",
    "a_password_changed_in_the_source_is_carried_over_where_it_was_not_changed_here",
    "the_ledger_is_read_in_pages_and_forgotten_in_batches",
    "an_imported_token_is_found_with_all_its_facts",
    "numbers_are_kept_where_they_are_free_and_none_is_given_twice",
    "what_was_brought_is_not_brought_again_and_what_was_ended_stays_so",
    "an_imported_token_needs_its_subject_its_client_and_a_text_of_its_own",
    "a_token_is_stamped_with_the_epochs_as_they_stand",
    "an_adopted_secret_is_found_by_its_text_alone_and_its_change_is_logged",
];

#[test]
fn postgres_keeps_the_contract() {
    // The cases block the thread they run on, and so do their racers: connections live elsewhere.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    // One case after the other: the store and the database of the one before go when the next begins.
    let (last, options) = (RefCell::new(None), ConnectOptions::default());
    conformance::run_all(|case| {
        if let Some((store, database)) = last.take() {
            let store: PostgresStore = store;
            runtime.block_on(store.close());
            drop(database);
        }
        let database = postgres::database();
        let store = runtime.block_on(PostgresStore::connect(database.url(), &options)).expect("an empty store");
        last.replace(Some((store.clone(), database)));
        let rest = Arc::new(MemoryStore::new());
        let tokens: Arc<dyn TokenStore> = if OF_IMPORTS.contains(&case) { rest.clone() } else { Arc::new(store) };
        Stores { tokens, accounts: rest.clone(), mail: rest.clone(), imports: rest.clone(), audit: rest }
    });
}
