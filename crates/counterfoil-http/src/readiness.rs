//! Whether the store can answer and commit, asked rarely: [`Readiness`].

use std::time::Duration;

use counterfoil_core::{Authority, BootTime, Clock, Now};
use tokio::sync::Mutex;

use crate::problem::Problem;

/// How long an answer is good for.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// The last answer, good or bad. Anyone may ask, and a probe is a durable commit: without this, whoever asks fast enough
/// decides what the disk is busy with.
#[derive(Debug, Default)]
pub(crate) struct Readiness(Mutex<Option<(Now, Result<(), Problem>)>>);

impl Readiness {
    /// The last answer while it is good, else that of a new probe. There is one probe at a time; who comes meanwhile waits.
    ///
    /// The lock is held across the probe on purpose: where its caller is given up, as at the deadline of the request, the
    /// lock is free again and the next in line probes, which a flag of our own would have to be taught.
    pub(crate) async fn ask(&self, authority: &Authority, clock: &dyn Clock) -> Result<(), Problem> {
        let mut last = self.0.lock().await;
        if let Some((answered, answer)) = &*last
            && is_good(*answered, clock.now())
        {
            return answer.clone();
        }
        let answer = authority.ready().await.map_err(Problem::from);
        // By the clock after it: those who waited for a slow probe are not to start another.
        *last = Some((clock.now(), answer.clone()));
        answer
    }
}

/// By the boot clock, which nobody sets; by the date where there is none, and then a clock that was set back asks anew.
fn is_good(answered: Now, now: Now) -> bool {
    match (answered.boot, now.boot) {
        (Some(BootTime(then)), Some(BootTime(now))) => u128::from(now.saturating_sub(then)) < GOOD_FOR.as_nanos(),
        (Some(_) | None, None) | (None, Some(_)) => {
            now.wall >= answered.wall && u128::from(now.wall.millis_since(answered.wall)) < GOOD_FOR.as_millis()
        }
    }
}
