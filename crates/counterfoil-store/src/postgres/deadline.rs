//! Until when something may take: [`Deadline`].

use std::time::Duration;

use tokio::time::{Instant, Timeout, timeout_at};

/// An instant at which something is given up, whatever it waits for on its way. By a clock that nobody sets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(Instant);

impl Deadline {
    /// So much time from now on.
    pub(super) fn within(time: Duration) -> Deadline {
        Deadline(now() + time)
    }

    pub(super) fn is_over(self) -> bool {
        now() >= self.0
    }

    /// `asked`, or an error when time is over. Must be called on the runtime; what it returns can be awaited anywhere.
    pub(super) fn before<F: Future>(self, asked: F) -> Timeout<F> {
        timeout_at(self.0, asked)
    }
}

#[expect(clippy::disallowed_methods, reason = "how long somebody waits for a server is no rule that a test could turn")]
fn now() -> Instant {
    Instant::now()
}
