//! Waiting for what another process does.

use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Longer than anything takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until there is an answer.
///
/// # Panics
/// When there is none within [`PATIENCE`], naming what was waited for.
#[track_caller]
pub fn within<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        pause(Duration::from_millis(5));
    }
}

/// Lets time pass for others.
pub fn pause(time: Duration) {
    let (_kept, never) = mpsc::channel::<()>();
    never.recv_timeout(time).ok();
}
