//! Counts that all nodes of a deployment share, so that several of them let no more through than one: [`SharedLimits`], what it is
//! asked, and the [`Breaker`] that asks no more while nobody answers.
//!
//! Each node counts for itself as ever, and refuses by itself what goes beyond a rate here. Only what it would let through is
//! asked of the shared counts, and the stricter of the two decides. Where these fail, answer too late or answer nonsense, what was
//! counted here decides: a limit may let through as many times more as there are nodes, but it is never off, and no request fails
//! because of it.

use std::collections::HashMap;
use std::fmt;
use std::future::{self, Future};
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::attempts::Tries;
use crate::clock::{Now, Timestamp};
use crate::throttle::{Count, Rate, Schedule, nanos};

/// Counts that all nodes share.
///
/// One question is one atomic transition, and the answer is the one that the counts of a single process give: a sliding log and a
/// schedule as [`crate::throttle::Throttles`] keeps them, and tries as [`Tries`] judges them. Counts may be lost at any time
/// (an emptied server, an eviction); then they begin anew.
///
/// Time is passed in, by the clock that all nodes go by. Where one is behind what was counted already, by a minute at most, the
/// later instant holds; where it is further behind, the clock was set back, and what lies ahead counts as of now.
pub trait SharedLimits: fmt::Debug + Send + Sync {
    /// Answers soon or not at all: a request waits for it.
    ///
    /// # Errors
    /// When nobody knows; the one who asks goes by what it has counted itself.
    fn ask(&self, question: Question) -> SharedAnswer<'_>;
}

/// What [`SharedLimits::ask`] comes to.
pub type SharedAnswer<'a> = Pin<Box<dyn Future<Output = Result<Verdict, SharedLimitsError>> + Send + 'a>>;

/// How far the clocks of two nodes may be apart, in milliseconds, before one of them is taken for wrong.
pub const CLOCKS_APART_MILLIS: u64 = 60_000;

/// What is counted, and whether it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// Who or what is counted.
    pub key: CountKey,
    /// How.
    pub count: SharedCount,
    /// When.
    pub at: Timestamp,
}

/// Who or what is counted: a tag of it under a key of the deployment, so that whoever reads the counts learns nobody's name and
/// no address, and nobody can choose with whom to share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CountKey([u8; 16]);

impl CountKey {
    /// From its bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> CountKey {
        CountKey(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// How something is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedCount {
    /// One more in a sliding log of at most 1,000 instants, if the rate lets it through.
    Log(Rate),
    /// By the generic cell rate algorithm.
    Schedule(Rate, Step),
    /// Tries at a password that does not exist.
    Tries(Step),
}

/// What is done to a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// One more, if it is let through.
    Take,
    /// Nothing: whether one more would be let through.
    Judge,
    /// One that was let through is taken back. The answer is of no matter.
    GiveBack,
}

/// What the counts say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is let through, and counted if it was to be.
    Pass,
    /// It is not let through and not counted; the next one is after so many nanoseconds.
    Wait(u64),
}

impl Question {
    /// Whether that can be an answer: who is told to wait longer than the rate can ask for has been told nonsense.
    pub fn fits(&self, verdict: Verdict) -> bool {
        let longest = match self.count {
            SharedCount::Log(rate) | SharedCount::Schedule(rate, _) => rate.period.millis() + CLOCKS_APART_MILLIS,
            SharedCount::Tries(_) => Tries::LONGEST_DELAY_SECONDS * 1_000,
        };
        match verdict {
            Verdict::Pass => true,
            Verdict::Wait(nanos) => (1..=longest * 1_000_000).contains(&nanos),
        }
    }
}

/// Nobody knows what the nodes have counted together.
#[derive(Debug)]
pub struct SharedLimitsError(Box<dyn std::error::Error + Send + Sync>);

impl SharedLimitsError {
    /// Keeps `source` for the operator.
    pub fn new(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> SharedLimitsError {
        SharedLimitsError(source.into())
    }
}

impl fmt::Display for SharedLimitsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the limits that all nodes share did not answer")
    }
}

impl std::error::Error for SharedLimitsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.0.as_ref())
    }
}

/// The reference: counts of one process, shared by the authorities in it. For tests; it forgets nobody.
#[derive(Debug, Default)]
pub struct MemoryLimits {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    logs: HashMap<CountKey, Count>,
    schedules: HashMap<CountKey, Schedule>,
    tries: HashMap<CountKey, Tries>,
}

impl SharedLimits for MemoryLimits {
    fn ask(&self, question: Question) -> SharedAnswer<'_> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        Box::pin(future::ready(Ok(kept.ask(question))))
    }
}

impl Kept {
    fn ask(&mut self, Question { key, count, at }: Question) -> Verdict {
        let now = Now { wall: at, boot: None };
        let verdict = |taken: Result<(), u64>| taken.map_or_else(Verdict::Wait, |()| Verdict::Pass);
        match count {
            SharedCount::Log(rate) => {
                let log = self.logs.entry(key).or_insert_with(|| Count::begin(rate));
                if log.rate != rate {
                    *log = log.under(rate);
                }
                verdict(log.take(now))
            }
            SharedCount::Schedule(rate, step) => {
                let schedule = self.schedules.entry(key).or_default();
                match step {
                    Step::Take => verdict(schedule.take_or_wait(rate, now)),
                    Step::Judge => verdict({ *schedule }.take_or_wait(rate, now)),
                    Step::GiveBack => {
                        schedule.give_back(rate);
                        Verdict::Pass
                    }
                }
            }
            SharedCount::Tries(step) => {
                let tries = self.tries.entry(key).or_default();
                *tries = tries.seen_at(at);
                let judged = tries.judge(at).map_err(|later| later.seconds * 1_000_000_000);
                match step {
                    Step::Take if judged.is_ok() => *tries = tries.and_one(at),
                    Step::Take | Step::Judge => {}
                    Step::GiveBack => *tries = tries.but_one(),
                }
                verdict(judged)
            }
        }
    }
}

/// After so many failures in a row nobody is asked for a while.
const ENOUGH_FAILURES: u32 = 3;
/// For so long; then one request asks, and if it is answered all do.
const PAUSE_NANOS: u64 = 1_000_000_000;

/// Whether the shared counts are worth asking, so that not every request waits for somebody who is not there.
#[derive(Debug, Default)]
pub struct Breaker {
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// With so many failures since the last answer.
    Asking { failures: u32 },
    /// Until then nobody asks.
    Pausing { until: u64 },
}

impl Default for State {
    fn default() -> Self {
        State::Asking { failures: 0 }
    }
}

/// What has changed with the last answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing.
    None,
    /// From now on each node counts for itself.
    Away,
    /// From now on all count together again.
    Back,
}

impl Breaker {
    /// Whether to ask. While nobody answers, one request a second is told to.
    pub fn allows(&self, now: Now) -> bool {
        let mut state = self.lock();
        match *state {
            State::Asking { .. } => true,
            State::Pausing { until } if nanos(now) < until => false,
            State::Pausing { .. } => {
                *state = State::Pausing { until: nanos(now).saturating_add(PAUSE_NANOS) };
                true
            }
        }
    }

    /// An answer came.
    pub fn answered(&self) -> Turn {
        match std::mem::take(&mut *self.lock()) {
            State::Asking { .. } => Turn::None,
            State::Pausing { .. } => Turn::Back,
        }
    }

    /// None came.
    pub fn failed(&self, now: Now) -> Turn {
        let mut state = self.lock();
        let pausing = State::Pausing { until: nanos(now).saturating_add(PAUSE_NANOS) };
        match *state {
            State::Asking { failures } if failures + 1 < ENOUGH_FAILURES => {
                *state = State::Asking { failures: failures + 1 };
                Turn::None
            }
            State::Asking { .. } => {
                *state = pausing;
                Turn::Away
            }
            // The one that was sent to ask, or one that had been waiting since before.
            State::Pausing { .. } => Turn::None,
        }
    }

    /// Whether nodes count together, as far as is known.
    pub fn is_away(&self) -> bool {
        matches!(*self.lock(), State::Pausing { .. })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::BootTime;

    fn at(millis: u64) -> Now {
        Now { wall: Timestamp::MIN, boot: Some(BootTime(millis * 1_000_000)) }
    }

    #[test]
    fn after_three_failures_in_a_row_one_request_a_second_asks_until_one_is_answered() {
        let breaker = Breaker::default();
        assert_eq!((breaker.failed(at(0)), breaker.failed(at(0))), (Turn::None, Turn::None));
        assert_eq!(breaker.answered(), Turn::None, "two, and an answer in between");
        for turn in [Turn::None, Turn::None, Turn::Away, Turn::None] {
            assert!(breaker.allows(at(10)) || breaker.is_away());
            assert_eq!(breaker.failed(at(10)), turn);
        }
        assert!(!breaker.allows(at(1_009)));
        assert!(breaker.allows(at(1_010)) && !breaker.allows(at(1_010)), "one of them");
        assert_eq!(breaker.failed(at(1_100)), Turn::None);
        assert!(!breaker.allows(at(2_009)) && breaker.allows(at(2_010)));
        assert_eq!(breaker.answered(), Turn::Back);
        assert!(breaker.allows(at(2_010)) && breaker.allows(at(2_010)) && !breaker.is_away());
    }

    #[test]
    fn who_is_told_to_wait_longer_than_the_rate_can_ask_for_was_told_nonsense() {
        let rate: Rate = "5/m".parse().expect("a rate");
        let ask = |count| Question { key: CountKey::from_bytes([0; 16]), count, at: Timestamp::MIN };
        for count in [SharedCount::Log(rate), SharedCount::Schedule(rate, Step::Take)] {
            assert!(ask(count).fits(Verdict::Pass));
            assert!(ask(count).fits(Verdict::Wait(120_000_000_000)));
            assert!(!ask(count).fits(Verdict::Wait(120_000_000_001)));
            assert!(!ask(count).fits(Verdict::Wait(0)));
        }
        assert!(!ask(SharedCount::Tries(Step::Take)).fits(Verdict::Wait(900_000_000_001)));
    }
}
