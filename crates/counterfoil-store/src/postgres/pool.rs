//! Connections for transactions and for what takes longer: [`Pool`].
//!
//! Of our own, because a connection must never come back whose transaction may still be open or whose server has gone out of
//! service, and all of them go when one of them finds that out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::fault::Fault;
use super::session::Session;
use super::settings::Settings;

/// Callers that wait for a connection, at most; whoever comes then is told so at once.
const QUEUE: usize = 2_048;

/// So many connections and no more, made when they are first needed.
#[derive(Debug)]
pub(super) struct Pool {
    settings: Arc<Settings>,
    /// The one that came back last is at the end and goes out first, so that few stay busy and the rest can be let go.
    idle: Mutex<Vec<Arc<Session>>>,
    permits: Arc<Semaphore>,
    queue: Arc<Semaphore>,
}

impl Pool {
    pub(super) fn new(settings: Arc<Settings>) -> Pool {
        let permits = Arc::new(Semaphore::new(settings.pool_size));
        let queue = Arc::new(Semaphore::new(QUEUE + settings.pool_size));
        Pool { settings, idle: Mutex::default(), permits, queue }
    }

    /// A connection for one caller. Waits for one to come back where all are out.
    pub(super) async fn take(self: &Arc<Pool>) -> Result<Lease, Fault> {
        let queued = Arc::clone(&self.queue).try_acquire_owned().map_err(|_| Fault::Crowded)?;
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| Fault::Closed)?;
        let session = loop {
            let idle = self.idle().pop();
            match idle {
                Some(session) if session.is_closed() => {}
                Some(session) => break session,
                None => break Arc::new(Session::connect(&self.settings, None).await?),
            }
        };
        Ok(Lease { session, pool: Arc::clone(self), _permits: [permit, queued] })
    }

    /// Lets every connection go that nobody uses: they lead where the one led that failed.
    pub(super) fn forget_idle(&self) {
        self.idle().clear();
    }

    /// Waits until everything that was begun is done, and takes nothing more.
    pub(super) async fn close(&self) {
        let all = u32::try_from(self.settings.pool_size).unwrap_or(u32::MAX);
        let back = self.permits.acquire_many(all).await;
        self.permits.close();
        drop(back);
        self.forget_idle();
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Arc<Session>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that is one caller's for a while. Dropped, it is closed: only who knows that no transaction is open on it gives it
/// back.
#[derive(Debug)]
pub(super) struct Lease {
    session: Arc<Session>,
    pool: Arc<Pool>,
    _permits: [OwnedSemaphorePermit; 2],
}

impl Lease {
    pub(super) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// It can be used again.
    pub(super) fn give_back(self) {
        if !self.session.is_closed() {
            self.pool.idle().push(self.session);
        }
    }

    /// It cannot, because of `fault`.
    pub(super) fn discard(self, fault: &Fault) {
        if fault.spoils_the_connection() {
            self.pool.forget_idle();
        }
    }
}
