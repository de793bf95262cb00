//! The limits that all nodes share, asked so that nobody waits long for them: [`Guarded`].

use std::sync::Arc;
use std::time::Duration;

use counterfoil_core::shared_limits::{
    Breaker, Question, SharedAnswer, SharedLimits, SharedLimitsError, Turn, Verdict,
};
use counterfoil_core::{BootTime, Clock, Now};
use metrics::{counter, gauge, histogram};
use tokio::time::timeout;

/// A request waits for the answer.
const DEADLINE: Duration = Duration::from_millis(100);

/// Limits behind a deadline and a [`Breaker`]. What is not answered in time, or not sensibly, is an error, which the authority meets
/// with its own counts; after three in a row one request a second asks, and the others do not wait.
#[derive(Debug)]
pub(crate) struct Guarded {
    shared: Arc<dyn SharedLimits>,
    clock: Arc<dyn Clock>,
    breaker: Breaker,
}

impl Guarded {
    pub(crate) fn new(shared: Arc<dyn SharedLimits>, clock: Arc<dyn Clock>) -> Guarded {
        gauge!("counterfoil_shared_limits_healthy").set(1.0);
        Guarded { shared, clock, breaker: Breaker::default() }
    }

    async fn answer(&self, question: Question) -> Result<Verdict, SharedLimitsError> {
        let asked = self.clock.now();
        if !self.breaker.allows(asked) {
            count("not_asked");
            return Err(SharedLimitsError::new("they did not answer a moment ago"));
        }
        let answer = match timeout(DEADLINE, self.shared.ask(question)).await {
            Ok(Ok(verdict)) if question.fits(verdict) => {
                count("answered");
                Ok(verdict)
            }
            Ok(Ok(_)) => {
                count("nonsense");
                Err(SharedLimitsError::new("they answered what no count can say"))
            }
            Ok(Err(error)) => {
                count("failed");
                Err(error)
            }
            Err(_) => {
                count("late");
                Err(SharedLimitsError::new("they did not answer in time"))
            }
        };
        let answered = self.clock.now();
        histogram!("counterfoil_shared_limits_duration_seconds").record(seconds_between(asked, answered));
        match &answer {
            Ok(_) => match self.breaker.answered() {
                Turn::Back => {
                    gauge!("counterfoil_shared_limits_healthy").set(1.0);
                    tracing::info!("the limits that all nodes share answer again");
                }
                Turn::None | Turn::Away => {}
            },
            Err(error) => match self.breaker.failed(answered) {
                Turn::Away => {
                    gauge!("counterfoil_shared_limits_healthy").set(0.0);
                    let source = std::error::Error::source(error).map_or_else(String::new, ToString::to_string);
                    tracing::warn!(
                        error = %source,
                        "the limits that all nodes share do not answer; until they do, each node holds to them by its own counts"
                    );
                }
                Turn::None | Turn::Back => {}
            },
        }
        answer
    }
}

impl SharedLimits for Guarded {
    fn ask(&self, question: Question) -> SharedAnswer<'_> {
        Box::pin(self.answer(question))
    }
}

fn count(outcome: &'static str) {
    counter!("counterfoil_shared_limits_answers_total", "outcome" => outcome).increment(1);
}

/// Nothing where the machine has no clock that nobody can set.
fn seconds_between(earlier: Now, later: Now) -> f64 {
    let (Some(BootTime(from)), Some(BootTime(to))) = (earlier.boot, later.boot) else { return 0.0 };
    Duration::from_nanos(to.saturating_sub(from)).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use std::future;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    use counterfoil_core::shared_limits::{CountKey, MemoryLimits, SharedCount};
    use counterfoil_core::{ManualClock, Timestamp};

    use super::*;

    #[derive(Debug, Default)]
    struct Moody {
        counts: MemoryLimits,
        mood: Mutex<Mood>,
        asked: AtomicU64,
    }

    #[derive(Debug, Default, Clone, Copy)]
    enum Mood {
        #[default]
        Well,
        Away,
        Slow,
        Mad,
    }

    impl SharedLimits for Moody {
        fn ask(&self, question: Question) -> SharedAnswer<'_> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let mood = *self.mood.lock().expect("a mood");
            match mood {
                Mood::Well => self.counts.ask(question),
                Mood::Away => Box::pin(future::ready(Err(SharedLimitsError::new("away")))),
                Mood::Slow => Box::pin(future::pending()),
                Mood::Mad => Box::pin(future::ready(Ok(Verdict::Wait(u64::MAX)))),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn f24_whoever_does_not_answer_is_waited_for_three_times_and_then_once_a_second() {
        for mood in [Mood::Away, Mood::Slow, Mood::Mad] {
            let clock = Arc::new(ManualClock::at(Timestamp::MIN));
            let moody = Arc::new(Moody::default());
            let guarded = Guarded::new(moody.clone(), clock.clone());
            let rate = "1000/d".parse().expect("a rate");
            let at = Timestamp::MIN;
            let question = Question { key: CountKey::from_bytes([1; 16]), count: SharedCount::Log(rate), at };
            let asked = || moody.asked.swap(0, Ordering::Relaxed);
            guarded.ask(question).await.expect("an answer");
            *moody.mood.lock().expect("a mood") = mood;
            asked();
            let fifty = async {
                for _ in 0..50 {
                    guarded.ask(question).await.expect_err("no answer");
                }
            };
            timeout(4 * DEADLINE, fifty).await.expect("three of them have waited");
            assert_eq!(asked(), 3, "{mood:?}");
            clock.advance(Duration::from_secs(1));
            for _ in 0..50 {
                guarded.ask(question).await.expect_err("no answer");
            }
            assert_eq!(asked(), 1, "{mood:?}");
            *moody.mood.lock().expect("a mood") = Mood::Well;
            guarded.ask(question).await.expect_err("not yet");
            clock.advance(Duration::from_secs(1));
            guarded.ask(question).await.expect("an answer again");
            guarded.ask(question).await.expect("an answer again");
            assert_eq!(asked(), 2, "{mood:?}");
        }
    }
}
