//! The host's own ears for events, kept from harming anybody: [`Subscribers`].

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use counterfoil_core::event::{EventSink, Occurrence};
use metrics::counter;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Events that may wait for one subscriber: a few seconds of a busy service, at less than a kilobyte each.
const MOST_WAITING: usize = 4_096;

/// What the host wants to hear events with, before there are threads for it.
pub(crate) type Ears = Vec<(&'static str, Arc<dyn EventSink>)>;

/// Each subscriber has a thread and a queue of its own, so that one that blocks stops neither a request nor another one.
#[derive(Debug, Default)]
pub(crate) struct Subscribers(Vec<Subscriber>);

#[derive(Debug)]
struct Subscriber {
    queue: Arc<Queue>,
    /// Gone when its thread has heard everything.
    ended: oneshot::Receiver<()>,
}

impl Subscribers {
    /// Starts a thread for each.
    ///
    /// # Errors
    /// When the system refuses a thread; those already started end again.
    pub(crate) fn start(ears: Ears) -> io::Result<Subscribers> {
        let mut subscribers = Subscribers::default();
        for (name, sink) in ears {
            subscribers.0.push(Subscriber::start(name, sink, MOST_WAITING)?);
        }
        Ok(subscribers)
    }

    /// Where to publish, for each of them: takes note at once, and never waits for the subscriber.
    pub(crate) fn sinks(&self) -> impl Iterator<Item = impl EventSink + 'static> {
        self.0.iter().map(|subscriber| Hearing(Arc::clone(&subscriber.queue)))
    }

    /// Lets them hear what waits, for so long at most, all of them at the same time.
    pub(crate) async fn stop(mut self, patience: Duration) {
        for subscriber in &self.0 {
            subscriber.queue.close();
        }
        let all = async {
            for subscriber in &mut self.0 {
                // An error is the end that is waited for.
                (&mut subscriber.ended).await.ok();
            }
        };
        if timeout(patience, all).await.is_err() {
            for subscriber in &self.0 {
                subscriber.queue.give_up();
            }
        }
    }
}

/// Without a shutdown the threads hear what waits and end by themselves.
impl Drop for Subscriber {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Subscriber {
    fn start(name: &'static str, sink: Arc<dyn EventSink>, most: usize) -> io::Result<Subscriber> {
        let queue = Arc::new(Queue { name, most, waiting: Mutex::default(), arrived: Condvar::new() });
        let (alive, ended) = oneshot::channel();
        let work = {
            let queue = Arc::clone(&queue);
            move || {
                hear(&queue, sink.as_ref());
                drop::<oneshot::Sender<()>>(alive);
            }
        };
        thread::Builder::new().name(format!("events-{name}")).spawn(work)?;
        Ok(Subscriber { queue, ended })
    }
}

/// The thread of one subscriber.
fn hear(queue: &Queue, sink: &dyn EventSink) {
    let mut well = true;
    while let Some(occurrence) = queue.next() {
        let heard = catch_unwind(AssertUnwindSafe(|| sink.publish(&occurrence))).is_ok();
        if !heard {
            queue.count_lost(1, "panicked");
            if well {
                tracing::error!(
                    subscriber = queue.name,
                    "a subscriber of events panicked; it goes on with the next one"
                );
            }
        }
        // One line when it begins and not one for each event.
        well = heard;
    }
}

#[derive(Debug)]
struct Hearing(Arc<Queue>);

impl EventSink for Hearing {
    fn publish(&self, occurrence: &Occurrence) {
        self.0.push(occurrence);
    }
}

#[derive(Debug)]
struct Queue {
    name: &'static str,
    most: usize,
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    occurrences: VecDeque<Occurrence>,
    closed: bool,
    /// Dropped since there was no room.
    dropped: u64,
}

impl Queue {
    /// A panic elsewhere cannot leave the queue half changed: every change is one call.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, occurrence: &Occurrence) {
        let mut waiting = self.lock();
        if waiting.closed || waiting.occurrences.len() >= self.most {
            waiting.dropped += 1;
            let (first, closed) = (waiting.dropped == 1, waiting.closed);
            drop(waiting);
            self.count_lost(1, if closed { "late" } else { "full" });
            if first && !closed {
                tracing::warn!(
                    subscriber = self.name,
                    "a subscriber of events is too slow; what it has no room for is dropped"
                );
            }
            return;
        }
        waiting.occurrences.push_back(occurrence.clone());
        drop(waiting);
        self.arrived.notify_one();
    }

    /// The next one; `None` when there will be none.
    fn next(&self) -> Option<Occurrence> {
        let mut waiting = self.lock();
        loop {
            if let Some(next) = waiting.occurrences.pop_front() {
                // Half empty before it counts as well again, or every event at the brim would have its line.
                if waiting.dropped > 0 && !waiting.closed && waiting.occurrences.len() <= self.most / 2 {
                    let dropped = std::mem::take(&mut waiting.dropped);
                    drop(waiting);
                    tracing::info!(subscriber = self.name, dropped, "a subscriber of events has caught up");
                }
                return Some(next);
            }
            if waiting.closed {
                return None;
            }
            waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    /// Whatever still waits is not heard.
    fn give_up(&self) {
        let lost = std::mem::take(&mut self.lock().occurrences).len();
        self.count_lost(lost as u64, "late");
        tracing::warn!(subscriber = self.name, lost, "a subscriber of events did not come to an end in time");
    }

    fn count_lost(&self, lost: u64, why: &'static str) {
        counter!("counterfoil_events_lost_total", "subscriber" => self.name, "why" => why).increment(lost);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use counterfoil_core::event::Event;
    use counterfoil_core::{Actor, Source, Timestamp};

    use super::*;

    fn occurrence(number: u64) -> Occurrence {
        let (actor, source) = (Actor::Deployment, Source::default());
        Occurrence { at: Timestamp::from_millis(0), actor, source, event: Event::MarksLost(number) }
    }

    /// Passes on the number of each event it hears, after it has been let.
    #[derive(Debug)]
    struct Ear {
        /// Hung up: no longer asked.
        may: Mutex<mpsc::Receiver<()>>,
        heard: mpsc::Sender<u64>,
    }

    impl EventSink for Ear {
        fn publish(&self, occurrence: &Occurrence) {
            let Event::MarksLost(number) = occurrence.event else { panic!("another event") };
            self.may.lock().expect("one thread").recv().ok();
            assert_ne!(number, 13, "planted");
            self.heard.send(number).ok();
        }
    }

    fn subscribed(most: usize) -> (Subscribers, mpsc::Sender<()>, mpsc::Receiver<u64>) {
        let ((let_it, may), (heard, hears)) = (mpsc::channel(), mpsc::channel());
        let ear = Arc::new(Ear { may: Mutex::new(may), heard });
        let subscriber = Subscriber::start("ear", ear, most).expect("thread");
        (Subscribers(vec![subscriber]), let_it, hears)
    }

    fn publish(subscribers: &Subscribers, numbers: std::ops::Range<u64>) {
        for sink in subscribers.sinks() {
            numbers.clone().for_each(|number| sink.publish(&occurrence(number)));
        }
    }

    #[tokio::test]
    async fn a_subscriber_hears_everything_in_order_and_what_waits_at_the_end_as_well() {
        let (subscribers, let_it, hears) = subscribed(100);
        publish(&subscribers, 0..10);
        drop(let_it);
        subscribers.stop(Duration::from_secs(60)).await;
        assert_eq!(hears.iter().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_subscriber_that_panics_is_told_of_the_next_event() {
        let (subscribers, let_it, hears) = subscribed(100);
        drop(let_it);
        publish(&subscribers, 12..15);
        subscribers.stop(Duration::from_secs(60)).await;
        assert_eq!(hears.iter().collect::<Vec<_>>(), [12, 14]);
    }

    #[tokio::test]
    async fn a_subscriber_that_blocks_stops_nobody_and_loses_what_it_has_no_room_for() {
        let (subscribers, let_it, hears) = subscribed(4);
        // Returns, which is the point: on this one thread nobody lets the subscriber go on.
        publish(&subscribers, 0..1_000);
        let dropped = subscribers.0[0].queue.lock().dropped;
        assert!((995..=996).contains(&dropped), "{dropped}: all but those that wait and perhaps the one in hand");
        drop(let_it);
        let heard: Vec<_> = (0..1_000 - dropped).map(|_| hears.recv().expect("heard")).collect();
        assert_eq!(heard.first(), Some(&0));
        // It has caught up and hears on.
        publish(&subscribers, 2_000..2_001);
        assert_eq!(hears.recv(), Ok(2_000));
        assert_eq!(subscribers.0[0].queue.lock().dropped, 0);
        subscribers.stop(Duration::from_secs(60)).await;
    }

    #[tokio::test]
    async fn a_subscriber_that_never_ends_does_not_hold_up_the_end() {
        let (subscribers, let_it, hears) = subscribed(100);
        publish(&subscribers, 0..10);
        let_it.send(()).expect("the subscriber");
        assert_eq!(hears.recv(), Ok(0));
        let queue = Arc::clone(&subscribers.0[0].queue);
        subscribers.stop(Duration::from_millis(20)).await;
        assert!(queue.lock().occurrences.is_empty(), "given up");
        queue.push(&occurrence(99));
        assert!(queue.lock().occurrences.is_empty(), "nothing is kept for it any more");
        drop(let_it);
        let rest: Vec<_> = hears.iter().collect();
        assert!(rest.is_empty() || rest == [1], "{rest:?}: the one in hand, if it had one");
    }
}
