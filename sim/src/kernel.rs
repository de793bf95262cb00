//! Virtual time and what runs in it: [`Kernel`].
//!
//! One thread. What can go on goes on in the order in which it was woken; when nothing can, the clock leaps to whatever is due
//! next. So a minute takes milliseconds, and the same choices give the same run, event by event.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Microseconds since the run began, by the one true clock.
pub(crate) type Micros = u64;

pub(crate) const MILLIS: Micros = 1_000;
pub(crate) const SECONDS: Micros = 1_000_000;

/// Whose a task is: a node's goes with it when it is stopped or dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    World,
    Nemesis,
    Node(usize),
}

/// Something that happened, for telling what was first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    /// How many moments were before.
    pub(crate) order: u64,
    /// When.
    pub(crate) at: Micros,
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Task {
    owner: Owner,
    serial: u64,
    /// `None` while it is being polled.
    work: Option<Work>,
}

enum Due {
    Wake(Waker),
    Do(Box<dyn FnOnce() + Send>),
}

#[derive(Default)]
struct State {
    now: Micros,
    drawn: u64,
    moments: u64,
    due: BTreeMap<(Micros, u64), Due>,
    tasks: Vec<Option<Task>>,
    free: Vec<usize>,
    stopped: Vec<usize>,
    /// Tasks of nodes that are stopped, woken meanwhile.
    held: Vec<(usize, u64)>,
}

/// See the module's own words.
#[derive(Default)]
pub(crate) struct Kernel {
    state: Mutex<State>,
    ready: Arc<Ready>,
}

#[derive(Default)]
struct Ready(Mutex<VecDeque<(usize, u64)>>);

struct TaskWaker {
    at: usize,
    serial: u64,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        lock(&self.ready.0).push_back((self.at, self.serial));
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kernel(at {} µs)", self.now())
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kernel {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(crate) fn now(&self) -> Micros {
        self.state().now
    }

    /// This moment, which is after every one that was taken before.
    pub(crate) fn moment(&self) -> Moment {
        let mut state = self.state();
        state.moments += 1;
        Moment { order: state.moments, at: state.now }
    }

    /// Does `work` after `delay`, whatever becomes of nodes meanwhile.
    pub(crate) fn after(&self, delay: Micros, work: impl FnOnce() + Send + 'static) {
        let mut state = self.state();
        state.drawn += 1;
        let key = (state.now + delay, state.drawn);
        state.due.insert(key, Due::Do(Box::new(work)));
    }

    pub(crate) fn spawn(&self, owner: Owner, work: impl Future<Output = ()> + Send + 'static) {
        let mut state = self.state();
        state.drawn += 1;
        let serial = state.drawn;
        let task = Some(Task { owner, serial, work: Some(Box::pin(work)) });
        let at = match state.free.pop() {
            Some(at) => {
                state.tasks[at] = task;
                at
            }
            None => {
                state.tasks.push(task);
                state.tasks.len() - 1
            }
        };
        lock(&self.ready.0).push_back((at, serial));
    }

    /// Nothing of this node goes on until [`Kernel::go_on`].
    pub(crate) fn stop(&self, node: usize) {
        self.state().stopped.push(node);
    }

    pub(crate) fn go_on(&self, node: usize) {
        let mut state = self.state();
        if let Some(at) = state.stopped.iter().position(|stopped| *stopped == node) {
            state.stopped.swap_remove(at);
        }
        let held = std::mem::take(&mut state.held);
        lock(&self.ready.0).extend(held);
    }

    pub(crate) fn is_stopped(&self, node: usize) -> bool {
        self.state().stopped.contains(&node)
    }

    /// Drops whatever this one was doing.
    pub(crate) fn kill(&self, owner: Owner) {
        let mut state = self.state();
        let state = &mut *state;
        let mut dropped = Vec::new();
        for (at, task) in state.tasks.iter_mut().enumerate() {
            if task.as_ref().is_some_and(|task| task.owner == owner) {
                dropped.push(task.take());
                state.free.push(at);
            }
        }
        // Later, when nobody holds anything that what is dropped may ask for.
        state.drawn += 1;
        state.due.insert((state.now, state.drawn), Due::Do(Box::new(move || drop(dropped))));
    }

    /// Drops everything that is going on or will.
    pub(crate) fn clear(&self) {
        let (tasks, due) = {
            let mut state = self.state();
            (std::mem::take(&mut state.tasks), std::mem::take(&mut state.due))
        };
        drop(tasks);
        drop(due);
    }

    /// Runs until `end`.
    pub(crate) fn run_until(&self, end: Micros) {
        loop {
            while let Some((at, serial)) = self.next_ready() {
                self.poll(at, serial);
            }
            let mut state = self.state();
            let Some(first) = state.due.first_entry().filter(|first| first.key().0 <= end) else {
                state.now = end;
                return;
            };
            let (now, _) = *first.key();
            let due = first.remove();
            state.now = now;
            drop(state);
            match due {
                Due::Wake(waker) => waker.wake(),
                Due::Do(work) => work(),
            }
        }
    }

    fn next_ready(&self) -> Option<(usize, u64)> {
        lock(&self.ready.0).pop_front()
    }

    fn poll(&self, at: usize, serial: u64) {
        let mut state = self.state();
        let state_ref = &mut *state;
        let Some(task) = state_ref.tasks.get_mut(at).and_then(Option::as_mut).filter(|task| task.serial == serial)
        else {
            return;
        };
        if let Owner::Node(node) = task.owner
            && state_ref.stopped.contains(&node)
        {
            if !state_ref.held.contains(&(at, serial)) {
                state_ref.held.push((at, serial));
            }
            return;
        }
        let Some(mut work) = task.work.take() else { return };
        drop(state);
        let waker = Waker::from(Arc::new(TaskWaker { at, serial, ready: Arc::clone(&self.ready) }));
        let done = work.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let mut state = self.state();
        let Some(task) = state.tasks.get_mut(at).and_then(Option::as_mut).filter(|task| task.serial == serial) else {
            drop(state);
            return; // killed by what it did itself
        };
        if done {
            state.tasks[at] = None;
            state.free.push(at);
            drop(state);
        } else {
            task.work = Some(work);
        }
    }

    /// Completes after `delay`.
    pub(crate) fn sleep(self: &Arc<Self>, delay: Micros) -> Sleep {
        Sleep { kernel: Arc::clone(self), until: self.now() + delay, due: None }
    }

    /// What `work` comes to within `delay`; dropped where it takes longer.
    pub(crate) async fn within<T>(self: &Arc<Self>, delay: Micros, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let mut sleep = self.sleep(delay);
        std::future::poll_fn(|context| {
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Some(done));
            }
            Pin::new(&mut sleep).poll(context).map(|()| None)
        })
        .await
    }
}

/// See [`Kernel::sleep`].
pub(crate) struct Sleep {
    kernel: Arc<Kernel>,
    until: Micros,
    due: Option<(Micros, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.kernel.state);
        if state.now >= self.until {
            return Poll::Ready(());
        }
        let key = match self.due {
            Some(key) => key,
            None => {
                state.drawn += 1;
                (self.until, state.drawn)
            }
        };
        state.due.insert(key, Due::Wake(context.waker().clone()));
        drop(state);
        self.due = Some(key);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.due {
            lock(&self.kernel.state).due.remove(&key);
        }
    }
}

/// A place for one answer, which one waits for.
pub(crate) struct Slot<T>(Mutex<(Option<T>, Option<Waker>)>);

impl<T> Slot<T> {
    pub(crate) fn new() -> Arc<Slot<T>> {
        Arc::new(Slot(Mutex::new((None, None))))
    }

    pub(crate) fn put(&self, value: T) {
        let waker = {
            let mut slot = lock(&self.0);
            slot.0 = Some(value);
            slot.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    #[cfg(test)]
    pub(crate) fn try_take(&self) -> Option<T> {
        lock(&self.0).0.take()
    }

    pub(crate) async fn take(&self) -> T {
        std::future::poll_fn(|context| {
            let mut slot = lock(&self.0);
            match slot.0.take() {
                Some(value) => Poll::Ready(value),
                None => {
                    slot.1 = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}
