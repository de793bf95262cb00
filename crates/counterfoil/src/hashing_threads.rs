//! Password hashing on threads of its own: [`HashingThreads`].

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use counterfoil_core::hashing::{CheckTask, Checked, HashTask, Hashed, Hashing, Overloaded};
use counterfoil_core::password::{EncodedPassword, Scratch};
use counterfoil_core::{BootTime, Clock, Now};
use metrics::{counter, gauge, histogram};
use tokio::sync::oneshot;

use crate::SystemClock;

/// How much hashing may go on at once, and how much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashingCapacity {
    /// Threads. Each keeps the memory of one hash from its first one on: 19 MiB with the default parameters. More threads
    /// than cores only make every login slower.
    pub threads: NonZeroUsize,
    /// Passwords that may wait. At about 20 ms each a queue of 64 on one thread makes the last one wait for 1.3 s; whoever
    /// comes after that is told to try again, and so is whoever has waited for five seconds.
    pub queue: NonZeroUsize,
}

/// How long a password waits at most for its turn. On a machine that is slow or busy the queue is longer in time than it was
/// meant to be, and whoever waits behind it for longer has given up.
const PATIENCE: Duration = Duration::from_secs(5);

impl Default for HashingCapacity {
    /// One thread for every two cores, so that a storm of logins leaves half the machine to everything else; a queue of 64.
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        HashingCapacity {
            threads: NonZeroUsize::new(cores / 2).unwrap_or(NonZeroUsize::MIN),
            queue: const { NonZeroUsize::new(64).expect("64 is not zero") },
        }
    }
}

/// Hashes passwords on a few threads of lowered priority, behind a queue of bounded length.
///
/// Nothing is allocated before the first hash. A caller that has gone away by the time its turn comes costs nothing: its
/// work is passed over. A hash that panics is one failed login, not one thread less. When the last handle is dropped, the
/// threads end after the work in hand; what still waits is given up.
#[derive(Debug)]
pub struct HashingThreads {
    queue: Arc<Queue>,
}

impl HashingThreads {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system refuses a thread; those already started end again.
    pub fn start(capacity: HashingCapacity) -> io::Result<HashingThreads> {
        HashingThreads::start_by(Arc::new(SystemClock), capacity)
    }

    fn start_by(clock: Arc<dyn Clock>, capacity: HashingCapacity) -> io::Result<HashingThreads> {
        let queue = Arc::new(Queue {
            clock,
            jobs: Mutex::new(Jobs { waiting: VecDeque::new(), closed: false }),
            arrived: Condvar::new(),
            limit: capacity.queue.get(),
        });
        let threads = HashingThreads { queue };
        for number in 0..capacity.threads.get() {
            let queue = Arc::clone(&threads.queue);
            thread::Builder::new().name(format!("hashing-{number}")).spawn(move || work(&queue))?;
        }
        Ok(threads)
    }

    fn submit<T: Send + 'static>(&self, job: Job, answer: oneshot::Receiver<T>) -> Hashed<'_, T> {
        let taken = self.queue.push(job);
        Box::pin(async move {
            taken?;
            // Without an answer the job was given up at the end of the program or panicked: nothing is known of the
            // password, which is what `Overloaded` says.
            answer.await.map_err(|_| Overloaded)
        })
    }
}

impl Hashing for HashingThreads {
    fn check(&self, task: CheckTask) -> Hashed<'_, Checked> {
        let (reply, answer) = oneshot::channel();
        self.submit(Job::Check(Box::new(task), reply), answer)
    }

    fn hash(&self, task: HashTask) -> Hashed<'_, EncodedPassword> {
        let (reply, answer) = oneshot::channel();
        self.submit(Job::Hash(Box::new(task), reply), answer)
    }
}

impl Drop for HashingThreads {
    fn drop(&mut self) {
        self.queue.close();
    }
}

#[derive(Debug)]
struct Queue {
    clock: Arc<dyn Clock>,
    jobs: Mutex<Jobs>,
    arrived: Condvar,
    limit: usize,
}

#[derive(Debug)]
struct Jobs {
    /// Each with the moment it came.
    waiting: VecDeque<(Now, Job)>,
    closed: bool,
}

impl Jobs {
    fn tell_how_many_wait(&self) {
        // Far fewer than 2⁵³.
        gauge!("counterfoil_hashing_waiting").set(self.waiting.len() as f64);
    }
}

#[derive(Debug)]
enum Job {
    Check(Box<CheckTask>, oneshot::Sender<Checked>),
    Hash(Box<HashTask>, oneshot::Sender<EncodedPassword>),
    #[cfg(test)]
    Call(fn(), oneshot::Sender<()>),
}

impl Job {
    fn is_abandoned(&self) -> bool {
        match self {
            Job::Check(_, reply) => reply.is_closed(),
            Job::Hash(_, reply) => reply.is_closed(),
            #[cfg(test)]
            Job::Call(_, reply) => reply.is_closed(),
        }
    }

    fn run(self, scratch: &mut Scratch) {
        // The caller may go away at the last moment; then nobody wants the answer.
        match self {
            Job::Check(task, reply) => drop(reply.send(timed(|| task.run(scratch)))),
            Job::Hash(task, reply) => drop(reply.send(timed(|| task.run(scratch)))),
            #[cfg(test)]
            Job::Call(function, reply) => {
                function();
                reply.send(()).ok();
            }
        }
    }
}

impl Queue {
    /// A panic elsewhere cannot leave the queue half changed: every change is one call.
    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Job) -> Result<(), Overloaded> {
        let mut jobs = self.lock();
        if jobs.waiting.len() >= self.limit {
            // Callers that have hung up make room before anyone is turned away.
            jobs.waiting.retain(|(_, job)| !job.is_abandoned());
        }
        if jobs.closed || jobs.waiting.len() >= self.limit {
            counter!("counterfoil_hashing_refused_total").increment(1);
            return Err(Overloaded);
        }
        jobs.waiting.push_back((self.clock.now(), job));
        jobs.tell_how_many_wait();
        drop(jobs);
        self.arrived.notify_one();
        Ok(())
    }

    /// The next job that somebody still waits for, and has not waited for too long; `None` when there will be none.
    fn next(&self) -> Option<Job> {
        let mut jobs = self.lock();
        loop {
            if jobs.closed {
                return None;
            }
            let next = jobs.waiting.pop_front();
            jobs.tell_how_many_wait();
            match next {
                Some((_, job)) if job.is_abandoned() => {}
                Some((came, _)) if has_waited_too_long(came, self.clock.now()) => {
                    counter!("counterfoil_hashing_refused_total").increment(1);
                }
                Some((_, job)) => return Some(job),
                None => jobs = self.arrived.wait(jobs).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn close(&self) {
        let mut jobs = self.lock();
        jobs.closed = true;
        jobs.waiting.clear();
        drop(jobs);
        self.arrived.notify_all();
    }
}

/// Nobody has where the machine has no clock that nobody can set.
fn has_waited_too_long(came: Now, now: Now) -> bool {
    let (Some(BootTime(came)), Some(BootTime(now))) = (came.boot, now.boot) else { return false };
    Duration::from_nanos(now.saturating_sub(came)) > PATIENCE
}

fn timed<T>(hash: impl FnOnce() -> T) -> T {
    let begun = SystemClock.now().boot;
    let hashed = hash();
    if let (Some(BootTime(begun)), Some(BootTime(ended))) = (begun, SystemClock.now().boot) {
        let taken = Duration::from_nanos(ended.saturating_sub(begun));
        histogram!("counterfoil_hashing_duration_seconds").record(taken.as_secs_f64());
    }
    hashed
}

fn work(queue: &Queue) {
    yield_to_requests();
    let mut scratch = Scratch::new();
    while let Some(job) = queue.next() {
        if catch_unwind(AssertUnwindSafe(|| job.run(&mut scratch))).is_err() {
            tracing::error!("hashing a password panicked; that login was given up");
            scratch = Scratch::new();
        }
    }
}

/// A thread at nice 10 gets a tenth of a core that a request wants too, and all of one that nobody wants. Not 19: there a
/// busy machine would hardly log anybody in.
#[cfg(target_os = "linux")]
fn yield_to_requests() {
    // On Linux "process 0" is the calling thread. A refusal costs speed, not correctness.
    if let Err(error) = rustix::process::setpriority_process(None, 10) {
        tracing::debug!(%error, "hashing runs at the priority of everything else");
    }
}

#[cfg(not(target_os = "linux"))]
fn yield_to_requests() {}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;
    use counterfoil_core::password::{HashingParams, Password, Verdict};
    use counterfoil_core::{ManualClock, Timestamp};

    fn threads(queue: usize) -> HashingThreads {
        let queue = NonZeroUsize::new(queue).expect("not zero");
        HashingThreads::start(HashingCapacity { threads: NonZeroUsize::MIN, queue }).expect("thread")
    }

    fn hash(word: &str) -> HashTask {
        let password = Password::new(word).expect("short");
        HashTask { password, params: HashingParams::insecure_for_tests(), salt: [7; 16] }
    }

    fn check(word: &str, against: EncodedPassword) -> CheckTask {
        CheckTask {
            password: Password::new(word).expect("short"),
            against: Some(against),
            present: Vec::new(),
            params: HashingParams::insecure_for_tests(),
            salt: [8; 16],
        }
    }

    fn call(threads: &HashingThreads, function: fn()) -> Hashed<'_, ()> {
        let (reply, answer) = oneshot::channel();
        threads.submit(Job::Call(function, reply), answer)
    }

    #[test]
    fn a_password_hashed_here_is_told_from_another_one() {
        let threads = threads(4);
        let row = pollster::block_on(threads.hash(hash("correct horse"))).expect("hashed");
        let right = pollster::block_on(threads.check(check("correct horse", row.clone()))).expect("checked");
        assert_eq!(right.verdict.ok(), Some(Verdict::Match { outdated: false }));
        let wrong = pollster::block_on(threads.check(check("battery staple", row))).expect("checked");
        assert_eq!(wrong.verdict.ok(), Some(Verdict::NoMatch));
    }

    #[test]
    fn a_panicking_hash_is_one_failure_and_not_one_thread_less() {
        let threads = threads(4);
        let planted = || panic!("planted");
        assert_eq!(pollster::block_on(call(&threads, planted)), Err(Overloaded));
        assert_eq!(pollster::block_on(call(&threads, || ())), Ok(()));
    }

    /// Holds the one thread until the sender is dropped.
    static GATE: Mutex<Option<mpsc::Receiver<()>>> = Mutex::new(None);
    static DONE: AtomicUsize = AtomicUsize::new(0);

    #[test]
    fn a_full_queue_refuses_and_an_abandoned_wait_makes_room_and_costs_nothing() {
        let threads = threads(2);
        let (open, gate) = mpsc::channel::<()>();
        *GATE.lock().expect("gate") = Some(gate);
        let (entered, enters) = mpsc::sync_channel(1);
        static ENTERED: Mutex<Option<mpsc::SyncSender<()>>> = Mutex::new(None);
        *ENTERED.lock().expect("entered") = Some(entered);
        let wait = || {
            ENTERED.lock().expect("entered").take().expect("sender").send(()).expect("receiver");
            let gate = GATE.lock().expect("gate").take().expect("gate");
            assert!(gate.recv().is_err(), "the gate opens by being dropped");
        };
        let count = || {
            DONE.fetch_add(1, Ordering::SeqCst);
        };

        let running = call(&threads, wait);
        enters.recv().expect("the thread has begun");
        let first = call(&threads, count);
        let second = call(&threads, count);
        assert_eq!(pollster::block_on(call(&threads, count)), Err(Overloaded), "two wait already");
        drop(first);
        let third = call(&threads, count);
        drop(open);
        for kept in [running, second, third] {
            assert_eq!(pollster::block_on(kept), Ok(()));
        }
        assert_eq!(DONE.load(Ordering::SeqCst), 2, "the abandoned one never ran");
    }

    #[test]
    fn f34_whoever_has_waited_for_five_seconds_is_told_to_try_again() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_795_172_400_000)));
        let queue = NonZeroUsize::new(4).expect("not zero");
        let capacity = HashingCapacity { threads: NonZeroUsize::MIN, queue };
        let threads = HashingThreads::start_by(clock.clone(), capacity).expect("thread");
        let (open, gate) = mpsc::channel::<()>();
        static SLOW: Mutex<Option<mpsc::Receiver<()>>> = Mutex::new(None);
        *SLOW.lock().expect("gate") = Some(gate);
        let (entered, enters) = mpsc::sync_channel(1);
        static BEGUN: Mutex<Option<mpsc::SyncSender<()>>> = Mutex::new(None);
        *BEGUN.lock().expect("begun") = Some(entered);
        let slow = || {
            BEGUN.lock().expect("begun").take().expect("sender").send(()).expect("receiver");
            assert!(
                SLOW.lock().expect("gate").take().expect("gate").recv().is_err(),
                "the gate opens by being dropped"
            );
        };

        let running = call(&threads, slow);
        enters.recv().expect("the thread has begun");
        let first = call(&threads, || ());
        clock.advance(Duration::from_millis(1));
        let second = call(&threads, || ());
        clock.advance(PATIENCE);
        let third = call(&threads, || ());
        drop(open);
        assert_eq!(pollster::block_on(running), Ok(()), "what has begun is done");
        assert_eq!(pollster::block_on(first), Err(Overloaded), "a millisecond too long");
        assert_eq!(pollster::block_on(second), Ok(()), "at the last moment");
        assert_eq!(pollster::block_on(third), Ok(()));
    }

    #[test]
    fn threads_end_when_the_last_handle_is_dropped() {
        let threads = threads(1);
        let queue = Arc::downgrade(&threads.queue);
        assert_eq!(pollster::block_on(call(&threads, || ())), Ok(()));
        drop(threads);
        while queue.strong_count() > 0 {
            thread::yield_now();
        }
    }
}
