//! What may become of a token, in any order, on SQLite against a small model of it.
#![cfg(feature = "sqlite")]
#![expect(clippy::unwrap_used, reason = "a test stops where something is missing")]

#[path = "../../counterfoil-core/tests/lives/machine.rs"]
mod machine;
#[path = "../../counterfoil-core/tests/lives/model.rs"]
mod model;

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use counterfoil_store::{OpenOptions, SqliteStore};
use machine::{HITS, Stores, tell_many};

#[test]
fn every_secret_gets_the_answer_of_the_model_after_every_step_on_sqlite() {
    // Every step commits, and what commits cost is not what is tested: in memory where the system has a place for it.
    let memory = Path::new("/dev/shm");
    let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let store = Arc::new(SqliteStore::open(directory.path(), &OpenOptions::serve()).unwrap());
    let cached = NonZeroUsize::new(1_000);
    let stores = Stores { tokens: store.clone(), accounts: store, cached };
    tell_many(250, || stores.clone());
    assert!(HITS.load(Ordering::Relaxed) > 100, "{HITS:?} answers came from the cache");
    tell_many(250, || Stores { cached: None, ..stores.clone() });
}
