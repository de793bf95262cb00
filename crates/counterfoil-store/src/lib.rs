//! Stores for counterfoil: where tokens and accounts are kept.
//!
//! [`SqliteStore`] (feature `sqlite`, on by default) keeps everything in one file beside the program that serves it.

#[cfg(feature = "sqlite")]
pub mod sqlite;

#[cfg(feature = "sqlite")]
pub use sqlite::{OpenError, OpenOptions, SqliteStore};
