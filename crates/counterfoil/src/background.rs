//! The work that nobody asks for: following what changes in the store, writing down what was seen, removing what has been dead
//! for long, sending mails, and telling owners what they should know.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use counterfoil_core::authority::Delivery;
use counterfoil_core::{Authority, Clock, Error, StoreClock};
use metrics::{counter, gauge};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

/// A quarter of the time that what is cached may be answered, roughly: one answer may be lost, and the next one late.
const FOLLOW_EVERY: Duration = Duration::from_millis(250);
/// What was seen of a token, and sliding renewals, are written within a second.
const FLUSH_EVERY: Duration = Duration::from_millis(500);
/// The first purge comes after this as well, so that a start is not slowed by yesterday's dead.
const PURGE_EVERY: Duration = Duration::from_secs(60);
const PURGE_BATCH: u32 = 500;
/// Between two batches, so that the logins that wait for the store get their turn.
const PURGE_PAUSE: Duration = Duration::from_millis(50);
/// People wait for most mails.
const MAIL_EVERY: Duration = Duration::from_millis(500);
/// Mails that are being sent at once.
const MAILS_AT_ONCE: usize = 4;
/// How long mails that are being sent may take to be sent when everything ends. What has not been is sent after the next start.
const LAST_MAILS: Duration = Duration::from_secs(5);
/// How often it is counted how many mails wait.
const COUNT_MAILS_EVERY: Duration = Duration::from_secs(5);
/// Owners hear of a new device while they may still remember.
const NOTICE_EVERY: Duration = Duration::from_secs(1);
const REMIND_EVERY: Duration = Duration::from_secs(300);

/// The tasks, and the word that ends them.
#[derive(Debug)]
pub(crate) struct Background {
    /// Dropped or set to `true`: the tasks end.
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Background {
    /// Starts all on the current tokio runtime; `measure` is called as often as marks are flushed.
    pub(crate) fn start(
        authority: &Arc<Authority>,
        clock: &Arc<dyn Clock>,
        store_clock: Option<Arc<StoreClock>>,
        measure: impl Fn() + Send + 'static,
    ) -> Background {
        let (stop, stopped) = watch::channel(false);
        let follower = follow(Arc::clone(authority), Arc::clone(clock), store_clock, stopped.clone());
        let flusher = flush(Arc::clone(authority), Arc::clone(clock), measure, stopped.clone());
        let purger = purge(Arc::clone(authority), Arc::clone(clock), stopped.clone());
        let mut tasks = vec![tokio::spawn(follower), tokio::spawn(flusher), tokio::spawn(purger)];
        if authority.has_mailer() {
            tasks.push(tokio::spawn(send_mails(Arc::clone(authority), Arc::clone(clock), stopped.clone())));
            tasks.push(tokio::spawn(count_mails(Arc::clone(authority), stopped.clone())));
            tasks.push(tokio::spawn(tell_owners(Arc::clone(authority), Arc::clone(clock), stopped)));
        }
        Background { stop, tasks }
    }

    /// Ends all and waits until they have; the flusher writes what is left before it goes.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a background task ended before its time");
            }
        }
    }
}

async fn follow(
    authority: Arc<Authority>,
    clock: Arc<dyn Clock>,
    store_clock: Option<Arc<StoreClock>>,
    mut stopped: watch::Receiver<bool>,
) {
    if authority.cache().is_none() && store_clock.is_none() {
        return;
    }
    let mut health = Health::of("follow", "following what changes in the store");
    let mut ticks = interval(FOLLOW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pace = Pace::default();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = async { pace.free().await; authority.news().await } => pace.spend(),
            () = told_to_stop(&mut stopped) => return,
        }
        let asked = clock.now();
        let caught_up = health.note(authority.follow(asked).await).unwrap_or_default();
        if let (Some(store_clock), Some(date)) = (&store_clock, caught_up.clock) {
            store_clock.heard(date, asked.boot, clock.now().boot);
        }
        if let Some(doubt) = caught_up.doubt {
            counter!("counterfoil_cache_emptied_total", "reason" => doubt.as_str()).increment(1);
            tracing::warn!(reason = doubt.as_str(), "{doubt}; every token is looked up anew");
        }
        if let Some(cache) = authority.cache() {
            let recalling = authority.recalling(clock.now());
            gauge!("counterfoil_cache_answers").set(if recalling.is_some() { 1.0 } else { 0.0 });
            // All far below 2⁵³.
            if let Some(recalling) = recalling {
                gauge!("counterfoil_log_applied").set(recalling.change as f64);
            }
            gauge!("counterfoil_cached_tokens").set(cache.len() as f64);
            counter!("counterfoil_cache_misses_total").absolute(cache.misses());
        }
    }
}

/// Where the store says that something has changed it is asked at once; a flood of such words costs a hundred questions a second.
#[derive(Debug, Default)]
struct Pace {
    free_from: Option<Instant>,
}

impl Pace {
    /// What one question costs.
    const EACH: Duration = Duration::from_millis(10);
    /// What may have been saved up: a few words on each other's heels are nothing unusual.
    const SAVED: Duration = Duration::from_millis(50);

    /// Until another question may be asked.
    async fn free(&self) {
        if let Some(free_from) = self.free_from {
            sleep_until(free_from).await;
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a pause between questions, and no answer hangs on it")]
    fn spend(&mut self) {
        let now = Instant::now();
        let saved_from = now.checked_sub(Pace::SAVED).unwrap_or(now);
        self.free_from = Some(self.free_from.map_or(saved_from, |free_from| free_from.max(saved_from)) + Pace::EACH);
    }
}

async fn flush(
    authority: Arc<Authority>,
    clock: Arc<dyn Clock>,
    measure: impl Fn() + Send,
    mut stopped: watch::Receiver<bool>,
) {
    let mut health = Health::of("flush", "writing down what was seen of tokens");
    let mut ticks = interval(FLUSH_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let last = tokio::select! {
            _ = ticks.tick() => false,
            () = told_to_stop(&mut stopped) => true,
        };
        health.note(authority.flush(clock.now()).await);
        measure();
        if last {
            return;
        }
    }
}

async fn purge(authority: Arc<Authority>, clock: Arc<dyn Clock>, mut stopped: watch::Receiver<bool>) {
    let mut health = Health::of("purge", "removing dead tokens");
    loop {
        tokio::select! {
            () = sleep(PURGE_EVERY) => {}
            () = told_to_stop(&mut stopped) => return,
        }
        while let Some(purged) = health.note(authority.purge(PURGE_BATCH, clock.now()).await) {
            counter!("counterfoil_tokens_purged_total").increment(purged.rows);
            if !purged.more {
                break;
            }
            tokio::select! {
                () = sleep(PURGE_PAUSE) => {}
                () = told_to_stop(&mut stopped) => return,
            }
        }
    }
}

async fn send_mails(authority: Arc<Authority>, clock: Arc<dyn Clock>, mut stopped: watch::Receiver<bool>) {
    let mut health = Health::of("mail", "taking mails from the store and noting what became of them");
    let mut under_way: JoinSet<Result<Delivery, Error>> = JoinSet::new();
    let mut ticks = interval(MAIL_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Whether the store had as many as there was room for.
    let mut more = false;
    loop {
        let room = MAILS_AT_ONCE - under_way.len();
        if !more || room == 0 {
            tokio::select! {
                _ = ticks.tick(), if room > 0 => {}
                Some(delivered) = under_way.join_next() => {
                    note_delivery(delivered, &mut health);
                    continue;
                }
                () = told_to_stop(&mut stopped) => break,
            }
        }
        let limit = u32::try_from(room).unwrap_or(1);
        let claimed = health.note(authority.claim_mails(limit, clock.now()).await).unwrap_or_default();
        more = claimed.len() == room;
        for mail in claimed {
            let (authority, clock) = (Arc::clone(&authority), Arc::clone(&clock));
            under_way.spawn(async move { authority.deliver(mail, clock.now()).await });
        }
        if *stopped.borrow() {
            break;
        }
    }
    let last = async {
        while let Some(delivered) = under_way.join_next().await {
            note_delivery(delivered, &mut health);
        }
    };
    if timeout(LAST_MAILS, last).await.is_err() {
        tracing::warn!("mails that were being sent were left; they are sent after the next start, some perhaps again");
    }
}

fn note_delivery(delivered: Result<Result<Delivery, Error>, tokio::task::JoinError>, health: &mut Health) {
    let outcome = match delivered {
        Ok(delivered) => health.note(delivered).map(|delivery| match delivery {
            Delivery::Sent => "sent",
            Delivery::Postponed => "postponed",
            Delivery::GivenUp => "given_up",
            Delivery::Pointless => "pointless",
        }),
        Err(error) => {
            tracing::error!(%error, "the sending of a mail ended before its time; it is tried again");
            None
        }
    };
    counter!("counterfoil_mails_total", "outcome" => outcome.unwrap_or("failed")).increment(1);
}

async fn count_mails(authority: Arc<Authority>, mut stopped: watch::Receiver<bool>) {
    let mut health = Health::of("count_mails", "counting the mails that wait");
    let mut ticks = interval(COUNT_MAILS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = told_to_stop(&mut stopped) => return,
        }
        if let Some((_, waiting)) = health.note(authority.mails_waiting(0).await) {
            // Far below 2⁵³.
            gauge!("counterfoil_mails_waiting").set(waiting as f64);
        }
    }
}

async fn tell_owners(authority: Arc<Authority>, clock: Arc<dyn Clock>, mut stopped: watch::Receiver<bool>) {
    let mut health = Health::of("notices", "telling owners of new devices and of tokens that expire");
    let mut ticks = interval(NOTICE_EVERY);
    let mut reminders = interval(REMIND_EVERY);
    for timer in [&mut ticks, &mut reminders] {
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    loop {
        let (told, last) = tokio::select! {
            _ = ticks.tick() => (authority.notice_devices(clock.now()).await, false),
            _ = reminders.tick() => (authority.remind(clock.now()).await, false),
            // What was noted is in memory alone.
            () = told_to_stop(&mut stopped) => (authority.notice_devices(clock.now()).await, true),
        };
        health.note(told);
        if last {
            return;
        }
    }
}

/// Also when the handle was dropped without a shutdown.
async fn told_to_stop(stopped: &mut watch::Receiver<bool>) {
    stopped.wait_for(|stop| *stop).await.ok();
}

/// Tells the log when something begins to fail and when it works again, and not every half second in between.
struct Health {
    work: &'static str,
    doing: &'static str,
    failing: bool,
}

impl Health {
    fn of(work: &'static str, doing: &'static str) -> Health {
        Health { work, doing, failing: false }
    }

    fn count(&self, outcome: &'static str, healthy: f64) {
        counter!("counterfoil_background_runs_total", "work" => self.work, "outcome" => outcome).increment(1);
        gauge!("counterfoil_background_healthy", "work" => self.work).set(healthy);
    }

    fn note<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        match result {
            Ok(value) => {
                self.count("succeeded", 1.0);
                if self.failing {
                    tracing::info!("{} works again", self.doing);
                }
                self.failing = false;
                Some(value)
            }
            Err(error) => {
                self.count("failed", 0.0);
                if matches!(error, Error::Store(_)) {
                    counter!("counterfoil_store_errors_total", "work" => self.work).increment(1);
                }
                if !self.failing {
                    tracing::error!(error = %Chain(&error), "{} fails; it is tried again", self.doing);
                }
                self.failing = true;
                None
            }
        }
    }
}

/// An error and its causes in one line.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    #[expect(clippy::disallowed_methods, reason = "the clock of a runtime that stands still")]
    async fn f15_a_few_words_of_changes_are_followed_at_once_and_a_flood_a_hundred_times_a_second() {
        let mut pace = Pace::default();
        let begun = Instant::now();
        let mut asked = Vec::new();
        while begun.elapsed() < Duration::from_secs(10) {
            pace.free().await;
            pace.spend();
            asked.push(begun.elapsed());
        }
        assert!(asked[4].is_zero(), "five at once: {:?}", &asked[..6]);
        assert!((990..=1_010).contains(&asked.len()), "{} in ten seconds", asked.len());
        sleep(Duration::from_secs(1)).await;
        let rested = Instant::now();
        pace.free().await;
        assert!(rested.elapsed().is_zero());
    }
}
