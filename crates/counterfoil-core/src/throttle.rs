//! How often a subject may be authenticated on a client: [`Rate`], and the counts it is held against, [`Throttles`].

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::client::ClientId;
use crate::clock::Now;
use crate::subject::SubjectId;

/// So many requests in a second, minute, hour or day: `100/h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    /// How many requests; at most 1,000,000.
    pub number: NonZeroU32,
    /// In what time.
    pub period: Period,
}

/// The time over which a [`Rate`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Period {
    /// `s`
    Second,
    /// `m`
    Minute,
    /// `h`
    Hour,
    /// `d`
    Day,
}

impl Period {
    /// Its length.
    pub const fn millis(self) -> u64 {
        match self {
            Period::Second => 1_000,
            Period::Minute => 60_000,
            Period::Hour => 3_600_000,
            Period::Day => 86_400_000,
        }
    }

    const fn nanos(self) -> u64 {
        self.millis() * 1_000_000
    }

    const fn letter(self) -> char {
        match self {
            Period::Second => 's',
            Period::Minute => 'm',
            Period::Hour => 'h',
            Period::Day => 'd',
        }
    }
}

/// The text is not a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotARate;

impl fmt::Display for NotARate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a rate is a number from 1 to 1000000, a slash and one of s, m, h, d: \"100/h\"")
    }
}

impl std::error::Error for NotARate {}

impl FromStr for Rate {
    type Err = NotARate;

    fn from_str(text: &str) -> Result<Self, NotARate> {
        let (number, period) = text.split_once('/').ok_or(NotARate)?;
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NotARate); // `u32::from_str` takes a plus sign
        }
        let number: NonZeroU32 = number.parse().map_err(|_| NotARate)?;
        let period = match period {
            "s" => Period::Second,
            "m" => Period::Minute,
            "h" => Period::Hour,
            "d" => Period::Day,
            _ => return Err(NotARate),
        };
        if number.get() > 1_000_000 { Err(NotARate) } else { Ok(Rate { number, period }) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.period.letter())
    }
}

/// The largest number that is counted one by one. Beyond it the log of one subject would outgrow what it protects.
const COUNTED_ONE_BY_ONE: u32 = 1_000;
const SHARDS: usize = 16;

/// Counts requests per subject and client.
///
/// Up to 1,000 in a period a sliding log of instants is kept, as Django REST Framework does: exact, no window whose edge lets
/// twice the number through. Beyond that the generic cell rate algorithm spaces requests out with a burst of the whole
/// number. A refused request does not count. Only requests with a live token get here, so there is one log for each subject
/// that is at work, and [`Throttles::forget_idle`] drops the others.
///
/// Time is the boot clock where there is one: setting the date neither opens nor shuts the gate.
///
/// `C` is what names the client: its id, or more than that where a route has counts of its own.
#[derive(Debug)]
pub struct Throttles<C = ClientId> {
    shards: [Shard<C>; SHARDS],
}

type Shard<C> = Mutex<HashMap<(SubjectId, C), Count>>;

/// What is remembered of one subject on one client.
#[derive(Debug)]
pub(crate) struct Count {
    pub(crate) rate: Rate,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    /// When each request of the last period was let through, oldest first, in nanoseconds.
    Log(VecDeque<u64>),
    /// When the next one is due.
    Schedule(Schedule),
}

/// What a route is for, as far as limits go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteClass {
    /// Logging in, counted for each address.
    Login,
    /// Whatever else a token's holder does on the native routes, counted for each subject and client.
    Api,
    /// Introspecting and revoking by services, counted for each service.
    Introspection,
}

/// How many requests each class of routes takes; `None`: any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RouteRates {
    /// See [`RouteClass::Login`].
    pub login: Option<Rate>,
    /// See [`RouteClass::Api`].
    pub api: Option<Rate>,
    /// See [`RouteClass::Introspection`].
    pub introspection: Option<Rate>,
}

impl RouteRates {
    /// The rate of that class.
    pub const fn of(&self, class: RouteClass) -> Option<Rate> {
        match class {
            RouteClass::Login => self.login,
            RouteClass::Api => self.api,
            RouteClass::Introspection => self.introspection,
        }
    }
}

/// Why a request has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany {
    /// The rate that it went beyond.
    pub rate: Rate,
    /// After how long the next one is let through, rounded up to whole seconds; at least 1.
    pub retry_after_seconds: u64,
}

impl TooMany {
    pub(crate) fn after(rate: Rate, nanos: u64) -> TooMany {
        TooMany { rate, retry_after_seconds: nanos.div_ceil(1_000_000_000).max(1) }
    }
}

impl Rate {
    /// Whether requests are counted one by one at this rate: up to 1,000 in a period.
    pub const fn counts_one_by_one(self) -> bool {
        self.number.get() <= COUNTED_ONE_BY_ONE
    }

    /// `number` in a `period`; 0 counts as 1.
    pub const fn per(number: u32, period: Period) -> Rate {
        let number = match NonZeroU32::new(number) {
            Some(number) => number,
            None => NonZeroU32::MIN,
        };
        Rate { number, period }
    }

    /// How far apart requests are at this rate, in nanoseconds.
    pub const fn spacing(self) -> u64 {
        self.period.nanos() / self.number.get() as u64
    }
}

impl<C> Default for Throttles<C> {
    fn default() -> Self {
        Throttles { shards: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl<C: Eq + Hash> Throttles<C> {
    fn shard(&self, key: &(SubjectId, C)) -> &Shard<C> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(key);
        &self.shards[(hash % SHARDS as u64) as usize]
    }

    /// Counts a request of `subject` on `client`, if `rate` lets it through.
    ///
    /// # Errors
    /// [`TooMany`], and nothing is counted.
    pub fn count(&self, subject: &SubjectId, client: C, rate: Rate, now: Now) -> Result<(), TooMany> {
        let key = (subject.clone(), client);
        let mut counts = self.shard(&key).lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key).or_insert_with(|| Count::begin(rate));
        if count.rate != rate {
            *count = count.under(rate); // the client's policy has changed
        }
        count.take(now).map_err(|nanos| TooMany::after(rate, nanos))
    }

    /// Takes back what [`Throttles::count`] counted at that very time.
    pub fn give_back(&self, subject: &SubjectId, client: C, rate: Rate, now: Now) {
        let key = (subject.clone(), client);
        let mut counts = self.shard(&key).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&key) {
            count.give_back(rate, now);
        }
    }

    /// Drops what no longer bears on any request. To be called now and then.
    pub fn forget_idle(&self, now: Now) {
        for shard in &self.shards {
            let mut counts = shard.lock().unwrap_or_else(PoisonError::into_inner);
            counts.retain(|_, count| !count.is_idle(now));
            if counts.capacity() > 4 * counts.len() {
                counts.shrink_to_fit();
            }
        }
    }
}

pub(crate) fn nanos(now: Now) -> u64 {
    now.boot.map_or_else(|| now.wall.millis().unsigned_abs().saturating_mul(1_000_000), |boot| boot.0)
}

impl Count {
    pub(crate) fn begin(rate: Rate) -> Count {
        let kept =
            if rate.counts_one_by_one() { Kept::Log(VecDeque::new()) } else { Kept::Schedule(Schedule::default()) };
        Count { rate, kept }
    }

    /// The same requests counted under another rate, where both keep a log; else from the start.
    pub(crate) fn under(&mut self, rate: Rate) -> Count {
        let mut fresh = Count::begin(rate);
        if let (Kept::Log(old), Kept::Log(new)) = (&mut self.kept, &mut fresh.kept) {
            *new = std::mem::take(old);
        }
        fresh
    }

    /// Lets one through, or says how many nanoseconds it has to wait.
    pub(crate) fn take(&mut self, now: Now) -> Result<(), u64> {
        let (rate, time) = (self.rate, nanos(now));
        let (number, period) = (u64::from(rate.number.get()), rate.period.nanos());
        match &mut self.kept {
            Kept::Log(log) => {
                // One that was let through a whole period ago no longer counts, as in Django REST Framework.
                while log.front().is_some_and(|&oldest| time >= oldest.saturating_add(period)) {
                    log.pop_front();
                }
                if (log.len() as u64) < number {
                    log.push_back(time);
                    return Ok(());
                }
                // A lowered number may have left more in the log than it allows: all but `number - 1` must leave first.
                let blocking = log[log.len() - number as usize];
                Err(blocking.saturating_add(period).saturating_sub(time))
            }
            Kept::Schedule(schedule) => schedule.take_or_wait(rate, now),
        }
    }

    fn give_back(&mut self, rate: Rate, now: Now) {
        match &mut self.kept {
            Kept::Log(log) => {
                let time = nanos(now);
                if let Some(place) = log.iter().rposition(|&counted| counted == time) {
                    log.remove(place);
                }
            }
            Kept::Schedule(schedule) => {
                if self.rate == rate {
                    schedule.give_back(rate);
                }
            }
        }
    }

    fn is_idle(&self, now: Now) -> bool {
        match &self.kept {
            Kept::Log(log) => {
                log.back().is_none_or(|&newest| nanos(now) >= newest.saturating_add(self.rate.period.nanos()))
            }
            Kept::Schedule(schedule) => schedule.is_idle(now),
        }
    }
}

/// The generic cell rate algorithm: requests are spaced out, with a burst of the whole number. One integer, however large
/// the number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Schedule(
    /// The theoretical arrival time of the next request that would be on schedule, in nanoseconds.
    u64,
);

impl Schedule {
    /// Lets one through, or says how long it has to wait.
    ///
    /// # Errors
    /// [`TooMany`], and nothing is counted.
    pub fn take(&mut self, rate: Rate, now: Now) -> Result<(), TooMany> {
        self.take_or_wait(rate, now).map_err(|nanos| TooMany::after(rate, nanos))
    }

    /// The same, in nanoseconds.
    pub(crate) fn take_or_wait(&mut self, rate: Rate, now: Now) -> Result<(), u64> {
        let spacing = rate.spacing();
        let due = self.0.max(nanos(now));
        let early = due - nanos(now);
        let burst = rate.period.nanos() - spacing;
        if early > burst {
            return Err(early - burst);
        }
        self.0 = due + spacing;
        Ok(())
    }

    /// Takes back one that was let through.
    pub fn give_back(&mut self, rate: Rate) {
        self.0 = self.0.saturating_sub(rate.spacing());
    }

    /// When the next one is due, in nanoseconds.
    pub fn next(&self) -> u64 {
        self.0
    }

    /// Whether it no longer bears on any request.
    pub fn is_idle(&self, now: Now) -> bool {
        nanos(now) >= self.0
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::clock::{Clock, ManualClock, Timestamp};

    struct Gate {
        throttles: Throttles,
        clock: ManualClock,
        rate: Rate,
    }

    impl Gate {
        fn at(rate: &str) -> Gate {
            let clock = ManualClock::at(Timestamp::from_millis(1_795_172_400_000));
            Gate { throttles: Throttles::default(), clock, rate: rate.parse().expect(rate) }
        }

        fn ask(&self, subject: &str, client: u8) -> Result<(), u64> {
            let subject = subject.parse().expect("a subject");
            let client = ClientId::from_bytes([client; 16]);
            let answer = self.throttles.count(&subject, client, self.rate, self.clock.now());
            answer.map_err(|too_many| too_many.retry_after_seconds)
        }

        fn wait(&self, millis: u64) {
            self.clock.advance(Duration::from_millis(millis));
        }
    }

    #[test]
    fn the_window_slides_and_the_very_instant_counts() {
        let gate = Gate::at("2/m");
        assert_eq!(gate.ask("ada", 1), Ok(()));
        gate.wait(30_000);
        assert_eq!(gate.ask("ada", 1), Ok(()));
        assert_eq!(gate.ask("ada", 1), Err(30));
        gate.wait(29_999);
        assert_eq!(gate.ask("ada", 1), Err(1), "a millisecond early, rounded up");
        gate.wait(1);
        assert_eq!(gate.ask("ada", 1), Ok(()));
        assert_eq!(gate.ask("ada", 1), Err(30), "a refused request did not count");
    }

    #[test]
    fn subjects_and_clients_have_counts_of_their_own() {
        let gate = Gate::at("1/d");
        assert_eq!(gate.ask("ada", 1), Ok(()));
        assert_eq!(gate.ask("ada", 2), Ok(()));
        assert_eq!(gate.ask("bob", 1), Ok(()));
        assert_eq!(gate.ask("ada", 1), Err(86_400));
    }

    #[test]
    fn the_date_neither_opens_nor_shuts_the_gate() {
        let gate = Gate::at("1/h");
        assert_eq!(gate.ask("ada", 1), Ok(()));
        for wall in [Timestamp::MAX, Timestamp::MIN] {
            gate.clock.set_wall(wall);
            assert_eq!(gate.ask("ada", 1), Err(3_600));
        }
    }

    #[test]
    fn a_large_number_is_spaced_out_after_a_burst_of_all_of_it() {
        let gate = Gate::at("3600/h");
        let burst = (0..5_000).filter(|_| gate.ask("ada", 1).is_ok()).count();
        assert_eq!(burst, 3_600);
        assert_eq!(gate.ask("ada", 1), Err(1));
        gate.wait(1_000);
        assert_eq!(gate.ask("ada", 1), Ok(()));
        assert_eq!(gate.ask("ada", 1), Err(1));
    }

    #[test]
    fn a_changed_rate_holds_at_once() {
        let mut gate = Gate::at("5/m");
        (0..4).for_each(|_| assert_eq!(gate.ask("ada", 1), Ok(())));
        gate.rate = "2/m".parse().expect("rate");
        assert_eq!(gate.ask("ada", 1), Err(60));
        gate.rate = "5/m".parse().expect("rate");
        assert_eq!(gate.ask("ada", 1), Ok(()));
    }

    #[test]
    fn what_is_idle_is_forgotten_and_nothing_else() {
        let gate = Gate::at("1/m");
        gate.ask("ada", 1).expect("first");
        gate.wait(30_000);
        gate.ask("bob", 1).expect("first");
        let known = || -> usize { gate.throttles.shards.iter().map(|shard| shard.lock().expect("whole").len()).sum() };
        gate.wait(29_999);
        gate.throttles.forget_idle(gate.clock.now());
        assert_eq!(known(), 2);
        gate.wait(1);
        gate.throttles.forget_idle(gate.clock.now());
        assert_eq!(known(), 1);
        assert_eq!(gate.ask("bob", 1), Err(30));
    }

    proptest! {
        /// However requests fall, no span of a period holds more than the number that were let through.
        #[test]
        fn no_window_lets_more_through_than_the_rate(
            number in 1_u32..6,
            gaps in prop::collection::vec(0_u64..30_000, 1..80),
        ) {
            let gate = Gate::at(&format!("{number}/m"));
            let (mut at, mut passed) = (0_u64, Vec::new());
            for gap in gaps {
                gate.wait(gap);
                at += gap;
                if gate.ask("ada", 1).is_ok() {
                    passed.push(at);
                }
            }
            for (position, &start) in passed.iter().enumerate() {
                let within = passed[position..].iter().filter(|&&one| one < start + 60_000).count();
                prop_assert!(within <= number as usize);
            }
        }
    }

    #[test]
    fn rates_read_back_and_nonsense_is_refused() {
        for text in ["1/s", "100/h", "1000000/d", "7/m"] {
            assert_eq!(text.parse::<Rate>().expect(text).to_string(), text);
        }
        for text in ["", "/", "0/s", "1", "1/", "/s", "-1/s", "+1/s", "1/hour", "1000001/d", "99999999999/d", "1 /s"] {
            assert_eq!(text.parse::<Rate>(), Err(NotARate), "{text}");
        }
    }
}
