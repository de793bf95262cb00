//! Time as an argument: [`Timestamp`], [`Now`] and the [`Clock`] that the program (and no rule) reads.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time: milliseconds since 1970-01-01T00:00:00Z, between [`Timestamp::MIN`] and [`Timestamp::MAX`].
///
/// Every store keeps this integer, so that no time zone, daylight saving or calendar library can move an expiry. Its text
/// form is RFC 3339 in UTC with three fractional digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01T00:00:00.000Z. Nothing of ours is older.
    pub const MIN: Timestamp = Timestamp(0);
    /// 9999-12-30T21:59:59.999Z, the last instant that every zone offset still leaves in a year of four digits.
    pub const MAX: Timestamp = Timestamp(253_402_207_199_999);

    /// The instant `millis` after the epoch; what lies outside `MIN..=MAX` becomes the nearer end, so that a clock gone
    /// mad can neither overflow an addition nor write a year that nobody can read back.
    pub const fn from_millis(millis: i64) -> Timestamp {
        if millis < Self::MIN.0 {
            Self::MIN
        } else if millis > Self::MAX.0 {
            Self::MAX
        } else {
            Timestamp(millis)
        }
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// This instant plus `millis`, held within the range.
    #[must_use]
    pub const fn plus_millis(self, millis: u64) -> Timestamp {
        let millis = if millis > Self::MAX.0 as u64 { Self::MAX.0 } else { millis as i64 };
        Self::from_millis(self.0 + millis)
    }

    /// This instant minus `millis`, held within the range.
    #[must_use]
    pub const fn minus_millis(self, millis: u64) -> Timestamp {
        let millis = if millis > Self::MAX.0 as u64 { Self::MAX.0 } else { millis as i64 };
        Self::from_millis(self.0 - millis)
    }

    /// Milliseconds from `earlier` to here; 0 when `earlier` is not earlier.
    pub const fn millis_since(self, earlier: Timestamp) -> u64 {
        if self.0 > earlier.0 { (self.0 - earlier.0) as u64 } else { 0 }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(instant) = jiff::Timestamp::from_millisecond(self.0) else {
            return write!(f, "{}", self.0); // unreachable: the range above lies within jiff's
        };
        write!(f, "{instant:.3}")
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not an RFC 3339 instant with an offset, or lies outside the years 1970 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotATimestamp;

impl fmt::Display for NotATimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected an RFC 3339 time with an offset, such as 2027-01-31T12:00:00Z, from 1970 to 9999")
    }
}

impl std::error::Error for NotATimestamp {}

impl FromStr for Timestamp {
    type Err = NotATimestamp;

    /// Reads an RFC 3339 instant; what is finer than a millisecond is cut off.
    fn from_str(text: &str) -> Result<Self, NotATimestamp> {
        let instant: jiff::Timestamp = text.parse().map_err(|_| NotATimestamp)?;
        let millis = instant.as_millisecond();
        if (Self::MIN.0..=Self::MAX.0).contains(&millis) { Ok(Timestamp(millis)) } else { Err(NotATimestamp) }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Time since the machine started, in nanoseconds, counting while it was suspended (`CLOCK_BOOTTIME` on Linux).
///
/// It only ever grows and nobody can set it, which is what a lease needs; it says nothing about the date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootTime(pub u64);

/// What time it is, read once per request and handed down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The date; decides expiry.
    pub wall: Timestamp,
    /// The boot clock; decides leases. `None` where the platform has no clock that runs on through a suspend.
    pub boot: Option<BootTime>,
}

/// Where the program reads the time. Rules take [`Now`] instead.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Reads both clocks.
    fn now(&self) -> Now;
}

/// A clock that stands still until it is told to move: for tests at the very instant.
#[derive(Debug)]
pub struct ManualClock {
    wall: AtomicI64,
    boot: AtomicU64,
}

impl ManualClock {
    /// A clock standing at `wall`, one second after boot.
    pub fn at(wall: Timestamp) -> Self {
        ManualClock { wall: AtomicI64::new(wall.millis()), boot: AtomicU64::new(1_000_000_000) }
    }

    /// Moves both clocks on.
    pub fn advance(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.wall.fetch_add(millis, Ordering::SeqCst);
        self.boot.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Sets the date alone, as an operator or a time server may; the boot clock does not notice.
    pub fn set_wall(&self, wall: Timestamp) {
        self.wall.store(wall.millis(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        Now {
            wall: Timestamp::from_millis(self.wall.load(Ordering::SeqCst)),
            boot: Some(BootTime(self.boot.load(Ordering::SeqCst))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_reads_back_what_it_writes() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_795_172_400_123, "2026-11-20T11:00:00.123Z"),
            (253_402_207_199_999, "9999-12-30T21:59:59.999Z"),
        ] {
            let instant = Timestamp::from_millis(millis);
            assert_eq!(instant.to_string(), text);
            assert_eq!(text.parse(), Ok(instant));
        }
    }

    #[test]
    fn times_without_an_offset_or_outside_the_years_are_refused() {
        for text in ["2026-11-20", "2026-11-20T11:00:00", "1969-12-31T23:59:59Z", "", "now", "-009999-01-01T00:00:00Z"]
        {
            assert_eq!(text.parse::<Timestamp>(), Err(NotATimestamp), "{text}");
        }
    }

    #[test]
    fn additions_stop_at_the_ends_instead_of_wrapping() {
        assert_eq!(Timestamp::MAX.plus_millis(1), Timestamp::MAX);
        assert_eq!(Timestamp::MIN.plus_millis(u64::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::MIN.minus_millis(u64::MAX), Timestamp::MIN);
        assert_eq!(Timestamp::from_millis(i64::MIN), Timestamp::MIN);
        assert_eq!(Timestamp::MIN.millis_since(Timestamp::MAX), 0);
    }
}
