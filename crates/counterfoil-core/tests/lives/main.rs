//! What may become of a token, in any order, against a small model of it.
#![expect(clippy::unwrap_used, reason = "a test stops where something is missing")]

mod machine;
mod model;

use std::sync::Arc;

use counterfoil_core::MemoryStore;
use machine::{Stores, tell_many};

#[test]
fn every_secret_gets_the_answer_of_the_model_after_every_step() {
    tell_many(20_000, || {
        let store = Arc::new(MemoryStore::new());
        Stores { tokens: store.clone(), accounts: store }
    });
}
