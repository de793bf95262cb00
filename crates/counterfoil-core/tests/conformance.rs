//! The reference store keeps the contract.
#![cfg(feature = "conformance")]

use std::sync::Arc;

use counterfoil_core::{MemoryStore, conformance};

#[test]
fn memory_store_keeps_the_contract() {
    conformance::run_all(|_case| {
        let store = Arc::new(MemoryStore::new());
        conformance::Stores {
            tokens: store.clone(),
            accounts: store.clone(),
            mail: store.clone(),
            imports: store.clone(),
            audit: store,
        }
    });
}
