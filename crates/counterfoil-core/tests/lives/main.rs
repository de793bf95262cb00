//! What may become of a token, in any order, against a small model of it.
#![expect(clippy::unwrap_used, reason = "a test stops where something is missing")]

mod machine;
mod model;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use counterfoil_core::MemoryStore;
use machine::{HITS, Stores, tell_many};

#[test]
fn every_secret_gets_the_answer_of_the_model_after_every_step() {
    tell_many(5_000, || in_memory(None));
}

/// Few lines, which are close together.
#[test]
fn every_secret_gets_the_answer_of_the_model_from_a_cache_too() {
    tell_many(5_000, || in_memory(NonZeroUsize::new(6)));
    assert!(HITS.load(Ordering::Relaxed) > 20_000, "{HITS:?} answers came from it");
}

fn in_memory(cached: Option<NonZeroUsize>) -> Stores {
    let store = Arc::new(MemoryStore::new());
    Stores { tokens: store.clone(), accounts: store, cached }
}
