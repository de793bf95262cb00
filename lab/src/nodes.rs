//! Several nodes on one PostgreSQL, or with their tokens in one Redis, with everything that can go wrong between them, and a
//! checker outside that writes down what it was answered and when. How far to trust it: `docs/reliability.md`.

pub mod checker;
pub mod conductor;
mod faults;
mod front;
mod history;
mod http;
mod judge;
mod site;

use std::error::Error;

use rustix::time::{ClockId, clock_gettime};

/// Why a run stopped.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Nanoseconds on the one clock that everything here is told by: that of the lease, which goes on while the machine sleeps.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Milliseconds in the unit of [`now`].
pub(crate) const fn millis(number: u64) -> u64 {
    number * 1_000_000
}
