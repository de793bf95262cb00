//! How often a password may be tried: [`Tries`] for an account, [`Strangers`] for names that nobody has, [`Limiter`]
//! for the addresses that the tries come from.
//!
//! A guess costs the guesser time, never the owner their sessions: live tokens and a reset are not touched by anything here
//! (NIST SP 800-63B-4 §3.2.2; OWASP ASVS 5.0 6.1.1, 6.3.1).

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::{Now, Timestamp};
use crate::throttle::{Rate, Schedule, TooMany};

/// Tries at one password that have failed since one went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tries {
    /// How many.
    pub failed: u32,
    /// When the last one was made.
    pub last: Timestamp,
}

impl Tries {
    /// So many are free of any delay: people mistype.
    pub const FREE: u32 = 5;
    /// After so many the password opens nothing until it is replaced or staff forgets them: whoever guesses gets no more
    /// than that, however long they wait.
    pub const MOST: u32 = 100;
    /// The longest delay.
    pub const LONGEST_DELAY_SECONDS: u64 = 15 * 60;

    /// Whether the password may be tried at `now`: at once for the first five, then after a delay that doubles from one
    /// second to fifteen minutes with each failure, and after a hundred never.
    ///
    /// # Errors
    /// [`TryLater`]. A try that is refused does not count.
    pub fn judge(&self, now: Timestamp) -> Result<(), TryLater> {
        if self.failed >= Tries::MOST {
            return Err(TryLater { seconds: Tries::LONGEST_DELAY_SECONDS });
        }
        let Some(doubled) = self.failed.checked_sub(Tries::FREE) else { return Ok(()) };
        let delay = Tries::LONGEST_DELAY_SECONDS.min(1_u64.checked_shl(doubled).unwrap_or(u64::MAX));
        let left = (delay * 1_000).saturating_sub(now.millis_since(self.last));
        if left == 0 { Ok(()) } else { Err(TryLater { seconds: left.div_ceil(1_000) }) }
    }

    /// These as they are seen at `now`: a clock that was set back since the last try begins its delay anew, once, and does not
    /// make it last until the old time has come again. A store keeps what this returns.
    #[must_use]
    pub fn seen_at(&self, now: Timestamp) -> Tries {
        Tries { last: self.last.min(now), ..*self }
    }

    /// These and one more, made at `now`.
    #[must_use]
    pub fn and_one(&self, now: Timestamp) -> Tries {
        Tries { failed: self.failed.saturating_add(1), last: now }
    }

    /// One fewer, because it was not made after all.
    #[must_use]
    pub fn but_one(&self) -> Tries {
        Tries { failed: self.failed.saturating_sub(1), ..*self }
    }

    /// Whether only a new password, or staff, ends the refusals.
    pub fn exhausted(&self) -> bool {
        self.failed >= Tries::MOST
    }
}

/// A password may not be tried yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TryLater {
    /// After how long it may, rounded up to whole seconds; at least 1. Where it never may again, the longest delay: whether
    /// an account is that far gone is between its owner and staff.
    pub seconds: u64,
}

/// Tries at names that nobody has, in memory and nowhere else, so that they are refused as those of an account are.
#[derive(Debug, Default)]
pub struct Strangers {
    tries: Mutex<Kept<Tries>>,
}

impl Strangers {
    /// As [`crate::TokenStore::count_try`] does for an account. A name goes by a keyed tag of it.
    ///
    /// # Errors
    /// [`TryLater`].
    pub fn count_try(&self, name: u64, now: Timestamp) -> Result<(), TryLater> {
        let mut kept = lock(&self.tries);
        let tries = kept.entry(name, |tries| u64::from(tries.failed));
        *tries = tries.seen_at(now);
        tries.judge(now)?;
        *tries = tries.and_one(now);
        Ok(())
    }

    /// As [`crate::TokenStore::give_back_try`] does for an account.
    pub fn give_back_try(&self, name: u64) {
        if let Some(tries) = lock(&self.tries).get(name) {
            *tries = tries.but_one();
        }
    }
}

/// A rate for each of many strangers or acquaintances, in memory. Who they are says a keyed tag: of an address as
/// [`counted_as`] has it, or of whatever else is counted.
#[derive(Debug, Default)]
pub struct Limiter {
    schedules: Mutex<Kept<Schedule>>,
}

impl Limiter {
    /// Counts one of this tag, if `rate` lets it through.
    ///
    /// # Errors
    /// [`TooMany`], and nothing is counted.
    pub fn count(&self, tag: u64, rate: Rate, now: Now) -> Result<(), TooMany> {
        lock(&self.schedules).entry(tag, Schedule::next).take(rate, now)
    }

    /// Whether one more of this tag would be let through. Counts nothing.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn judge(&self, tag: u64, rate: Rate, now: Now) -> Result<(), TooMany> {
        let mut known = lock(&self.schedules).get(tag).copied().unwrap_or_default();
        known.take(rate, now)
    }

    /// Takes back what [`Limiter::count`] counted.
    pub fn give_back(&self, tag: u64, rate: Rate) {
        if let Some(schedule) = lock(&self.schedules).get(tag) {
            schedule.give_back(rate);
        }
    }

    /// Drops what no longer bears on any request. To be called now and then.
    pub fn forget_idle(&self, now: Now) {
        lock(&self.schedules).retain(|schedule| !schedule.is_idle(now));
    }
}

/// So many sets of eight: strangers are remembered up to 65,536 of them, in at most 2 MiB.
const SETS: usize = 8_192;
const WAYS: usize = 8;

/// What is remembered of strangers, by tags that nobody can choose. Where a set is full, whoever comes next takes the place
/// of the least burdened, so that making up names or addresses costs no memory and forgives nobody who is far gone.
#[derive(Debug)]
struct Kept<V> {
    /// Empty until the first comes.
    sets: Vec<Vec<(u64, V)>>,
}

impl<V> Default for Kept<V> {
    fn default() -> Self {
        Kept { sets: Vec::new() }
    }
}

impl<V: Default> Kept<V> {
    fn get(&mut self, tag: u64) -> Option<&mut V> {
        let set = self.sets.get_mut(set_of(tag))?;
        set.iter_mut().find(|(known, _)| *known == tag).map(|(_, value)| value)
    }

    /// What is kept of this one, from now on if it is new.
    fn entry(&mut self, tag: u64, burden: impl Fn(&V) -> u64) -> &mut V {
        if self.sets.is_empty() {
            self.sets.resize_with(SETS, Vec::new);
        }
        let set = &mut self.sets[set_of(tag)];
        let place = set.iter().position(|(known, _)| *known == tag).unwrap_or_else(|| {
            if set.len() < WAYS {
                set.push((tag, V::default()));
                return set.len() - 1;
            }
            let least = set.iter().enumerate().min_by_key(|(_, (_, value))| burden(value));
            let place = least.map_or(0, |(place, _)| place);
            set[place] = (tag, V::default());
            place
        });
        &mut set[place].1
    }

    fn retain(&mut self, keep: impl Fn(&V) -> bool) {
        for set in &mut self.sets {
            set.retain(|(_, value)| keep(value));
            set.shrink_to_fit();
        }
        if self.sets.iter().all(Vec::is_empty) {
            self.sets = Vec::new();
        }
    }
}

fn set_of(tag: u64) -> usize {
    (tag % SETS as u64) as usize
}

fn lock<V>(kept: &Mutex<Kept<V>>) -> MutexGuard<'_, Kept<V>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an address counts as: itself, or the /64 it is in. An IPv4 address written as an IPv6 one is the IPv4 one, and what
/// nobody knows is one address.
pub fn counted_as(address: Option<IpAddr>) -> [u8; 16] {
    let Some(address) = address else { return [0; 16] };
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => {
            let mut octets = v6.octets();
            octets[8..].fill(0);
            octets
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::BootTime;

    const START: Timestamp = Timestamp::from_millis(1_795_172_400_000);

    fn at(millis: u64) -> Timestamp {
        START.plus_millis(millis)
    }

    fn now(seconds: u64) -> Now {
        Now { wall: at(seconds * 1_000), boot: Some(BootTime(seconds * 1_000_000_000)) }
    }

    #[test]
    fn five_tries_are_free_and_then_each_failure_doubles_the_delay() {
        let mut tries = Tries::default();
        for _ in 0..5 {
            assert_eq!(tries.judge(START), Ok(()));
            tries = tries.and_one(START);
        }
        let mut delays = Vec::new();
        while let Err(TryLater { seconds }) = tries.judge(START) {
            delays.push(seconds);
            if tries.exhausted() {
                break;
            }
            assert_eq!(tries.judge(at(seconds * 1_000 - 1)), Err(TryLater { seconds: 1 }), "a millisecond early");
            assert_eq!(tries.judge(at(seconds * 1_000)), Ok(()), "at the very instant");
            tries = tries.and_one(START);
        }
        assert_eq!(&delays[..12], [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]);
        assert_eq!(delays.len(), 96, "after the hundredth failure there is no end to it");
    }

    #[test]
    fn r14_after_a_hundred_failures_no_wait_is_long_enough() {
        let tries = Tries { failed: 100, last: START };
        assert!(tries.judge(Timestamp::MAX).is_err());
        assert!(Tries { failed: u32::MAX, last: START }.and_one(START).judge(Timestamp::MAX).is_err());
        assert_eq!(Tries { failed: 99, last: START }.judge(Timestamp::MAX), Ok(()));
    }

    #[test]
    fn f29_a_clock_that_is_set_back_lengthens_a_delay_to_its_whole_and_no_further() {
        let tries = Tries { failed: 5, last: at(3_600_000) }.seen_at(START);
        assert_eq!(tries.judge(START), Err(TryLater { seconds: 1 }));
        assert_eq!(tries.seen_at(at(999)).judge(at(999)), Err(TryLater { seconds: 1 }));
        assert_eq!(tries.seen_at(at(1_000)).judge(at(1_000)), Ok(()), "an hour early by the old clock");
    }

    #[test]
    fn a58_strangers_take_bounded_memory_and_the_most_burdened_are_remembered() {
        let strangers = Strangers::default();
        for _ in 0..Tries::FREE {
            assert_eq!(strangers.count_try(7, START), Ok(()));
        }
        // Tags are as good as random; these are all different and fall into every set.
        for name in 0..2_000_000_u64 {
            strangers.count_try(name.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 << 63, START).ok();
        }
        let kept = lock(&strangers.tries);
        assert!(kept.sets.iter().all(|set| set.capacity() <= WAYS));
        assert_eq!(kept.sets.len(), SETS);
        drop(kept);
        assert_eq!(strangers.count_try(7, START), Err(TryLater { seconds: 1 }), "five failures outweigh one");
        strangers.give_back_try(7);
        assert_eq!(strangers.count_try(7, START), Ok(()));
    }

    #[test]
    fn a53_an_address_has_one_count_however_it_is_spelled_and_a_subscriber_one_for_a_64() {
        let key = |text: &str| counted_as(Some(text.parse().expect(text)));
        assert_eq!(key("2001:db8:0:1::1"), key("2001:DB8:0:1:ffff:ffff:ffff:ffff"));
        assert_ne!(key("2001:db8:0:1::1"), key("2001:db8:0:2::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_eq!(key("::ffff:c000:201"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_ne!(counted_as(None), key("192.0.2.1"));
        assert_ne!(key("2001:db8::1"), key("192.0.2.1"));
    }

    #[test]
    fn a_source_is_let_through_at_its_rate_and_gets_back_what_was_no_failure() {
        let limit = Limiter::default();
        let rate: Rate = "3/m".parse().expect("a rate");
        for _ in 0..3 {
            assert_eq!(limit.count(1, rate, now(0)), Ok(()));
        }
        assert!(limit.judge(1, rate, now(0)).is_err() && limit.judge(2, rate, now(0)).is_ok());
        assert_eq!(limit.count(1, rate, now(0)).expect_err("a fourth").retry_after_seconds, 20);
        limit.give_back(1, rate);
        assert_eq!(limit.count(1, rate, now(0)), Ok(()));
        assert_eq!(limit.count(1, rate, now(20)), Ok(()));
        assert!(limit.count(1, rate, now(20)).is_err());
        limit.forget_idle(now(79));
        assert!(!lock(&limit.schedules).sets.is_empty());
        limit.forget_idle(now(80));
        assert!(lock(&limit.schedules).sets.is_empty());
    }
}
