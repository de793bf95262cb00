//! The connection for look-ups: [`LookUps`].
//!
//! One connection with many questions under way: each is on its way as soon as it is asked, and nobody waits for a connection to
//! come back. What may take long never goes over it, since everybody behind would wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Mutex as Gate, OwnedMutexGuard, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Timeout, timeout};

use super::deadline::Deadline;
use super::fault::Fault;
use super::session::{ADMISSION, Session};
use super::settings::Settings;

/// Look-ups under way, at most. More than that wait for a server that does not keep up: better told at once.
const UNDER_WAY: usize = 2_048;

/// How long an attempt to connect has before another one sets out beside it.
const AGAIN: Duration = Duration::from_millis(500);

/// The connection, made when it is first needed and made anew when it has failed.
#[derive(Debug)]
pub(super) struct LookUps {
    line: Arc<Line>,
    runtime: Handle,
    deadline: Duration,
    /// Held while somebody connects: the fault of the last attempt.
    connecting: Arc<Gate<Option<Arc<Fault>>>>,
}

/// What an attempt to connect leaves behind, which may take longer than those have time who asked for it.
#[derive(Debug)]
struct Line {
    settings: Arc<Settings>,
    current: Mutex<Option<Arc<Session>>>,
    attempts: AtomicU64,
    room: Semaphore,
}

impl LookUps {
    pub(super) fn new(settings: Arc<Settings>, runtime: Handle, deadline: Duration) -> LookUps {
        let line =
            Line { settings, current: Mutex::default(), attempts: AtomicU64::new(0), room: Semaphore::new(UNDER_WAY) };
        LookUps { line: Arc::new(line), runtime, deadline, connecting: Arc::default() }
    }

    /// Asks what `read` asks. May be called from anywhere, also where no runtime is.
    pub(super) async fn ask<T, F>(&self, read: impl FnOnce(Arc<Session>) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let _room = self.line.room.try_acquire().map_err(|_| Fault::Crowded)?;
        let deadline = Deadline::within(self.deadline);
        let session = self.until(deadline, self.session()).await.unwrap_or(Err(Fault::Deadline))?;
        let long_enough = Deadline::within(self.deadline / 2);
        match self.until(deadline, read(Arc::clone(&session))).await {
            Ok(answer) => {
                if let Err(fault) = &answer
                    && fault.spoils_the_connection()
                {
                    self.line.leave(&session);
                }
                answer
            }
            Err(_) => {
                // Whatever the server is busy with, those who come now must not wait behind it. Where connecting took most of
                // the time, nothing is known of the server.
                if long_enough.is_over() {
                    self.line.leave(&session);
                }
                Err(Fault::Deadline)
            }
        }
    }

    fn until<F: Future>(&self, deadline: Deadline, asked: F) -> Timeout<F> {
        let _on = self.runtime.enter();
        deadline.before(asked)
    }

    pub(super) fn close(&self) {
        self.line.room.close();
        self.line.lock().take();
    }

    async fn session(&self) -> Result<Arc<Session>, Fault> {
        if let Some(session) = self.line.present() {
            return Ok(session);
        }
        let seen = self.line.attempts.load(Ordering::Acquire);
        let last = Arc::clone(&self.connecting).lock_owned().await;
        if let Some(session) = self.line.present() {
            return Ok(session);
        }
        // All who waited here while somebody tried have had their attempt.
        if self.line.attempts.load(Ordering::Acquire) != seen
            && let Some(fault) = &*last
        {
            return Err(Fault::Together(Arc::clone(fault)));
        }
        // Goes on though nobody waits any more: the first of several hosts may use up the time of whoever asks, every time.
        let connecting = self.runtime.spawn(Arc::clone(&self.line).connect(last));
        connecting.await.unwrap_or(Err(Fault::Panicked))
    }
}

impl Line {
    async fn connect(self: Arc<Line>, mut last: OwnedMutexGuard<Option<Arc<Fault>>>) -> Result<Arc<Session>, Fault> {
        let connected = self.connected().await;
        self.attempts.fetch_add(1, Ordering::AcqRel);
        match connected {
            Ok(session) => {
                *last = None;
                let session = Arc::new(session);
                let mut current = self.lock();
                if !self.room.is_closed() {
                    *current = Some(Arc::clone(&session));
                }
                Ok(session)
            }
            Err(fault) => {
                let fault = Arc::new(fault);
                *last = Some(Arc::clone(&fault));
                Err(Fault::Together(fault))
            }
        }
    }

    /// Sets out again and again: what was sent while nothing came through stays lost when the way is open again.
    async fn connected(&self) -> Result<Session, Fault> {
        let enough = Deadline::within(ADMISSION * u32::try_from(self.settings.hosts.len()).unwrap_or(u32::MAX));
        let mut under_way = JoinSet::new();
        while !enough.is_over() {
            let settings = Arc::clone(&self.settings);
            under_way.spawn(async move { Session::connect(&settings, None).await });
            match timeout(AGAIN, under_way.join_next()).await {
                Ok(Some(Ok(Ok(session)))) => return Ok(session),
                // Told at once that nobody is there.
                Ok(Some(Ok(Err(fault)))) if under_way.is_empty() => return Err(fault),
                Ok(Some(Err(_))) => return Err(Fault::Panicked),
                // One that was refused at once is no reason to ask again at once, while another waits for an answer.
                Ok(Some(Ok(Err(_))) | None) => tokio::time::sleep(AGAIN).await,
                Err(_) => {}
            }
        }
        // The first one has come to its end by now, and says of each host what was the matter.
        match under_way.join_next().await {
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) | None => Err(Fault::Panicked),
        }
    }

    fn present(&self) -> Option<Arc<Session>> {
        self.lock().as_ref().filter(|session| !session.is_closed()).map(Arc::clone)
    }

    /// Nobody comes to this one any more.
    fn leave(&self, session: &Arc<Session>) {
        session.leave();
        let mut current = self.lock();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, session)) {
            current.take();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Session>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
