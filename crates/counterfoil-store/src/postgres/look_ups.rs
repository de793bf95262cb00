//! The connection for look-ups: [`LookUps`].
//!
//! One connection with many questions under way: each is on its way as soon as it is asked, and nobody waits for a connection to
//! come back. What may take long never goes over it, since everybody behind would wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Mutex as Gate, Semaphore};
use tokio::time::timeout;

use super::fault::Fault;
use super::session::Session;
use super::settings::Settings;

/// Look-ups under way, at most. More than that wait for a server that does not keep up: better told at once.
const UNDER_WAY: usize = 2_048;

/// The connection, made when it is first needed and made anew when it has failed.
#[derive(Debug)]
pub(super) struct LookUps {
    settings: Arc<Settings>,
    runtime: Handle,
    deadline: Duration,
    current: Mutex<Option<Arc<Session>>>,
    /// Held by whoever connects: the fault of the last attempt.
    connecting: Gate<Option<Arc<Fault>>>,
    attempts: AtomicU64,
    room: Semaphore,
}

impl LookUps {
    pub(super) fn new(settings: Arc<Settings>, runtime: Handle, deadline: Duration) -> LookUps {
        LookUps {
            settings,
            runtime,
            deadline,
            current: Mutex::default(),
            connecting: Gate::new(None),
            attempts: AtomicU64::new(0),
            room: Semaphore::new(UNDER_WAY),
        }
    }

    /// Asks what `read` asks. May be called from anywhere, also where no runtime is.
    pub(super) async fn ask<T, F>(&self, read: impl FnOnce(Arc<Session>) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let _room = self.room.try_acquire().map_err(|_| Fault::Crowded)?;
        let asked = async {
            let session = self.session().await?;
            let answer = read(Arc::clone(&session)).await;
            if let Err(fault) = &answer
                && fault.spoils_the_connection()
            {
                self.leave(&session);
            }
            answer
        };
        let timed = {
            let _on = self.runtime.enter();
            timeout(self.deadline, asked)
        };
        match timed.await {
            Ok(answer) => answer,
            Err(_) => {
                // Whatever the server is busy with, those who come now must not wait behind it.
                self.lock().take();
                Err(Fault::Deadline)
            }
        }
    }

    pub(super) fn close(&self) {
        self.room.close();
        self.lock().take();
    }

    async fn session(&self) -> Result<Arc<Session>, Fault> {
        if let Some(session) = self.present() {
            return Ok(session);
        }
        let seen = self.attempts.load(Ordering::Acquire);
        let mut last = self.connecting.lock().await;
        if let Some(session) = self.present() {
            return Ok(session);
        }
        // All who waited here while somebody tried have had their attempt.
        if self.attempts.load(Ordering::Acquire) != seen
            && let Some(fault) = &*last
        {
            return Err(Fault::Together(Arc::clone(fault)));
        }
        let settings = Arc::clone(&self.settings);
        let connected = self.runtime.spawn(async move { Session::connect(&settings, None).await }).await;
        self.attempts.fetch_add(1, Ordering::AcqRel);
        match connected.unwrap_or(Err(Fault::Panicked)) {
            Ok(session) => {
                *last = None;
                let session = Arc::new(session);
                *self.lock() = Some(Arc::clone(&session));
                Ok(session)
            }
            Err(fault) => {
                let fault = Arc::new(fault);
                *last = Some(Arc::clone(&fault));
                Err(Fault::Together(fault))
            }
        }
    }

    fn present(&self) -> Option<Arc<Session>> {
        self.lock().as_ref().filter(|session| !session.is_closed()).map(Arc::clone)
    }

    /// Nobody comes to this one any more.
    fn leave(&self, session: &Arc<Session>) {
        let mut current = self.lock();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, session)) {
            current.take();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Session>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
