//! Stores for counterfoil: where tokens and accounts are kept.
//!
//! [`SqliteStore`] (feature `sqlite`, on by default) keeps everything in one file beside the program that serves it;
//! `PostgresStore` (feature `postgres`) in a database that several nodes share. `RedisStore` (feature `redis`) keeps tokens, and
//! tokens alone, in Redis or Valkey; `RedisLimits` counts there what all nodes count together.

// The tests in here share a stage with those outside, which know this crate by its name.
#[cfg(test)]
extern crate self as counterfoil_store;

#[cfg(all(feature = "sqlite", feature = "postgres"))]
pub mod copy;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod tally;

#[cfg(feature = "postgres")]
pub use postgres::{ConnectError, ConnectOptions, PostgresStore};

#[cfg(feature = "redis")]
pub use redis::{RedisLimits, RedisStore};
#[cfg(feature = "sqlite")]
pub use sqlite::{BackupError, OpenError, OpenOptions, RestoreError, SqliteStore, restore};
pub use tally::Tally;
