//! What may become of a token, in any order, on Redis against a small model of it.
#![cfg(feature = "redis")]
#![expect(clippy::unwrap_used, reason = "a test stops where something is missing")]

mod cellar;
#[path = "../../counterfoil-core/tests/lives/machine.rs"]
mod machine;
#[path = "../../counterfoil-core/tests/lives/model.rs"]
mod model;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use counterfoil_core::MemoryStore;
use machine::{HITS, Stores, tell_many};

#[test]
fn every_secret_gets_the_answer_of_the_model_after_every_step_on_redis() {
    let database = counterfoil_lab::redis::database();
    let cached = NonZeroUsize::new(1_000);
    let stores =
        Stores { tokens: Arc::new(cellar::connect(database.url())), accounts: Arc::new(MemoryStore::new()), cached };
    tell_many(100, || stores.clone());
    assert!(HITS.load(Ordering::Relaxed) > 50, "{HITS:?} answers came from the cache");
    tell_many(100, || Stores { cached: None, ..stores.clone() });
}
