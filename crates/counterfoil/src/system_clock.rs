//! The one place that reads the machine's clocks: [`SystemClock`].

use counterfoil_core::{Clock, Now, Timestamp};

/// The machine's own clocks: the date as of the last tick, 1 to 10 ms ago at most, and on Linux `CLOCK_BOOTTIME`, which nobody can set and which counts on through a
/// suspend. Elsewhere there is no such clock to be had without `unsafe`, so [`Now::boot`] is `None` there.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[cfg(target_os = "linux")]
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the place that reads the clocks")]
    fn now(&self) -> Now {
        use rustix::time::{ClockId, clock_gettime};

        // The date as of the last tick, 4 ms ago at most with most kernels: it is read for every request, and reading the counter of the
        // processor a second time costs as much as half a hash. The lease goes by the exact one.
        let wall = clock_gettime(ClockId::RealtimeCoarse);
        let boot = clock_gettime(ClockId::Boottime);
        // Both are normal: 0 <= tv_nsec < 10⁹. A date beyond the range becomes the nearer end.
        let millis = wall.tv_sec.saturating_mul(1_000).saturating_add(wall.tv_nsec / 1_000_000);
        let nanos = u64::try_from(boot.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000);
        let nanos = nanos.saturating_add(u64::try_from(boot.tv_nsec).unwrap_or(0));
        Now { wall: Timestamp::from_millis(millis), boot: Some(counterfoil_core::BootTime(nanos)) }
    }
}

#[cfg(not(target_os = "linux"))]
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the place that reads the clocks")]
    fn now(&self) -> Now {
        use std::time::{SystemTime, UNIX_EPOCH};

        // Before 1970 the clock is not set at all.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        Now { wall: Timestamp::from_millis(millis), boot: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_after_this_was_written_and_the_boot_clock_only_grows() {
        let first = SystemClock.now();
        let second = SystemClock.now();
        assert!(first.wall > "2026-01-01T00:00:00Z".parse().expect("time"));
        assert!(first.boot <= second.boot);
        assert_eq!(first.boot.is_some(), cfg!(target_os = "linux"));
    }
}
