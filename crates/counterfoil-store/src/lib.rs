//! Stores for counterfoil: where tokens and accounts are kept.
//!
//! [`SqliteStore`] (feature `sqlite`, on by default) keeps everything in one file beside the program that serves it.

// The tests in here share a stage with those outside, which know this crate by its name.
#[cfg(test)]
extern crate self as counterfoil_store;

#[cfg(feature = "sqlite")]
pub mod sqlite;

#[cfg(feature = "sqlite")]
pub use sqlite::{BackupError, OpenError, OpenOptions, RestoreError, SqliteStore, restore};
