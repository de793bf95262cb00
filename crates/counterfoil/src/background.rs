//! The work that nobody asks for: following what changes in the store, writing down what was seen, and removing what has
//! been dead for long.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use counterfoil_core::{Authority, Clock, Error};
use metrics::{counter, gauge};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};

/// A quarter of the time that what is cached may be answered, roughly: one answer may be lost, and the next one late.
const FOLLOW_EVERY: Duration = Duration::from_millis(250);
/// What was seen of a token, and sliding renewals, are written within a second.
const FLUSH_EVERY: Duration = Duration::from_millis(500);
/// The first purge comes after this as well, so that a start is not slowed by yesterday's dead.
const PURGE_EVERY: Duration = Duration::from_secs(60);
const PURGE_BATCH: u32 = 500;
/// Between two batches, so that the logins that wait for the store get their turn.
const PURGE_PAUSE: Duration = Duration::from_millis(50);

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
        measure: impl Fn() + Send + 'static,
    ) -> Background {
        let (stop, stopped) = watch::channel(false);
        let follower = follow(Arc::clone(authority), Arc::clone(clock), stopped.clone());
        let flusher = flush(Arc::clone(authority), Arc::clone(clock), measure, stopped.clone());
        let purger = purge(Arc::clone(authority), Arc::clone(clock), stopped);
        Background { stop, tasks: vec![tokio::spawn(follower), tokio::spawn(flusher), tokio::spawn(purger)] }
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

async fn follow(authority: Arc<Authority>, clock: Arc<dyn Clock>, mut stopped: watch::Receiver<bool>) {
    if authority.cache().is_none() {
        return;
    }
    let mut health = Health::of("follow", "following what changes in the store");
    let mut ticks = interval(FOLLOW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = told_to_stop(&mut stopped) => return,
        }
        if let Some(Some(doubt)) = health.note(authority.follow(clock.now()).await) {
            counter!("counterfoil_cache_emptied_total", "reason" => doubt.as_str()).increment(1);
            tracing::warn!(reason = doubt.as_str(), "{doubt}; every token is looked up anew");
        }
        if let Some(cache) = authority.cache() {
            // Far below 2⁵³.
            gauge!("counterfoil_cached_tokens").set(cache.len() as f64);
            counter!("counterfoil_cache_misses_total").absolute(cache.misses());
        }
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
struct Chain<'a>(&'a dyn std::error::Error);

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
