//! The date by the store's clock, so that all nodes on one store judge every expiry alike: [`StoreClock`].

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::clock::{BootTime, Clock, Now, Timestamp};

/// Not an offset: nothing has been heard of the store's clock yet.
const UNKNOWN: i64 = i64::MIN;

/// The machine's clocks, with the store's date in the place of the machine's once it has been heard of.
///
/// From one answer of the store to the next the date is carried on by the boot clock, which nobody can set: a machine whose date is
/// wrong, or jumps, judges an expiry as all the others do. Until the store has answered once, and where the machine has no boot clock,
/// the date is the machine's.
#[derive(Debug)]
pub struct StoreClock {
    machine: Arc<dyn Clock>,
    /// Milliseconds from the start of the machine to the store's date.
    offset: AtomicI64,
}

impl StoreClock {
    /// Goes by `machine`, until the store has answered.
    pub fn new(machine: Arc<dyn Clock>) -> StoreClock {
        StoreClock { machine, offset: AtomicI64::new(UNKNOWN) }
    }

    /// The store's clock showed `date` at some instant between `asked` and `answered`.
    ///
    /// What is held already stays as it is where it agrees with that, and else moves as little as it must: the date does not waver
    /// with how long each answer was on its way.
    pub fn heard(&self, date: Timestamp, asked: Option<BootTime>, answered: Option<BootTime>) {
        let (Some(asked), Some(answered)) = (asked, answered) else { return };
        let (least, most) = (date.millis() - millis(answered), date.millis() - millis(asked));
        if least > most {
            return; // the two were not read in this order
        }
        let held = self.offset.load(Ordering::Relaxed);
        let offset = if held == UNKNOWN { least.midpoint(most) } else { held.clamp(least, most) };
        self.offset.store(offset, Ordering::Relaxed);
    }
}

impl Clock for StoreClock {
    fn now(&self) -> Now {
        let now = self.machine.now();
        match (self.offset.load(Ordering::Relaxed), now.boot) {
            (UNKNOWN, _) | (_, None) => now,
            (offset, Some(boot)) => Now { wall: Timestamp::from_millis(millis(boot).saturating_add(offset)), ..now },
        }
    }
}

/// Far below 2⁶³: 2⁶⁴ nanoseconds are 584 years.
fn millis(BootTime(nanos): BootTime) -> i64 {
    (nanos / 1_000_000) as i64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::clock::ManualClock;

    use super::*;

    fn at(millis: u64) -> Option<BootTime> {
        Some(BootTime(millis * 1_000_000))
    }

    fn date(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    /// A machine that was started a minute ago, whose date is this.
    fn machine(wall: &str) -> Arc<ManualClock> {
        let clock = ManualClock::at(wall.parse().expect("a date"));
        clock.advance(Duration::from_secs(60));
        Arc::new(clock)
    }

    #[test]
    fn f30_nodes_whose_dates_differ_go_by_the_stores_from_its_first_answer_on() {
        let store = date(1_800_000_000_000);
        let walls = ["2026-11-22T10:00:00Z", "2026-11-22T10:05:00Z", "2026-11-22T09:55:00Z"];
        let seen = walls.map(|wall| {
            let machine = machine(wall);
            let clock = StoreClock::new(Arc::clone(&machine) as _);
            assert_eq!(clock.now(), machine.now(), "until then by its own");
            let boot = machine.now().boot;
            clock.heard(store, boot, boot);
            machine.advance(Duration::from_secs(1));
            clock.now().wall
        });
        assert_eq!(seen, [store.plus_millis(1_000); 3]);
    }

    #[test]
    fn f29_a_date_that_is_set_back_or_on_moves_nothing_once_the_store_has_answered() {
        let machine = machine("2026-11-22T10:00:00Z");
        let clock = StoreClock::new(Arc::clone(&machine) as _);
        let boot = machine.now().boot;
        clock.heard(date(1_800_000_000_000), boot, boot);
        for wall in ["1970-01-01T00:00:00Z", "2038-01-19T03:14:08Z", "2026-11-22T09:59:50Z"] {
            machine.set_wall(wall.parse().expect("a date"));
            assert_eq!(clock.now().wall, date(1_800_000_000_000), "{wall}");
        }
    }

    #[test]
    fn an_answer_that_was_long_on_its_way_moves_the_date_no_further_than_it_must() {
        let clock = StoreClock::new(machine("2026-11-22T10:00:00Z"));
        clock.heard(date(1_000_000), at(1_000), at(1_002));
        assert_eq!(clock.offset.load(Ordering::Relaxed), 998_999);
        // Asked at 2,000 and answered at 2,500: anything between agrees.
        clock.heard(date(1_001_400), at(2_000), at(2_500));
        assert_eq!(clock.offset.load(Ordering::Relaxed), 998_999);
        // The store's clock was set on by a second, and back again.
        clock.heard(date(1_003_000), at(3_000), at(3_002));
        assert_eq!(clock.offset.load(Ordering::Relaxed), 999_998);
        clock.heard(date(1_003_000), at(4_000), at(4_002));
        assert_eq!(clock.offset.load(Ordering::Relaxed), 999_000);
    }

    #[test]
    fn what_makes_no_sense_is_not_heard() {
        let clock = StoreClock::new(machine("2026-11-22T10:00:00Z"));
        let before = clock.now();
        clock.heard(date(1), at(2), at(1));
        clock.heard(date(1), None, at(1));
        assert_eq!(clock.now(), before);
    }
}
