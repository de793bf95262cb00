//! Throw-away servers for tests: PostgreSQL, PgBouncer and Redis as Debian brings them, each in a directory of its own that goes
//! with it, on a free port of the loopback interface; and networks with faults between them.
//!
//! ```no_run
//! let database = counterfoil_lab::postgres::database();
//! let shared = counterfoil_lab::redis::database();
//! println!("{} {}", database.url(), shared.url());
//! ```
//!
//! A server that tests share is named by `LAB_POSTGRES_URL` and `LAB_REDIS_URL`, which `cargo xtask test` sets; without them a process
//! that asks starts its own. Nobody but this machine can reach these servers, and everybody on it can: they hold what tests put there.
//!
//! What cannot be started or asked is a panic with the reason, because there is nothing a test could do about it.
#![cfg(target_os = "linux")]
#![expect(
    clippy::disallowed_methods,
    reason = "it waits for other processes, by the real clock, and is told by the environment which servers there are"
)]

mod child;
mod directory;
pub mod network;
pub mod nodes;
pub mod pgbouncer;
mod port;
pub mod postgres;
pub mod proxy;
pub mod redis;
mod waiting;

pub use waiting::{PATIENCE, pause, within};
