//! The contract of the stores, held over SQLite.
#![cfg(feature = "sqlite")]

use std::cell::RefCell;
use std::sync::Arc;

use counterfoil_core::conformance::{self, Stores};
use counterfoil_store::{OpenOptions, SqliteStore};

#[test]
fn sqlite_keeps_the_contract() {
    let directories = RefCell::new(Vec::new());
    conformance::run_all(|_case| {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Arc::new(SqliteStore::open(directory.path(), &OpenOptions::serve()).expect("an empty store"));
        directories.borrow_mut().push(directory);
        Stores {
            tokens: store.clone(),
            accounts: store.clone(),
            mail: store.clone(),
            imports: store.clone(),
            audit: store,
        }
    });
}
