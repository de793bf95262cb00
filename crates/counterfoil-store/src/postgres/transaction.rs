//! Transitions: [`Transaction`], and what runs one to its end.

use std::hash::{BuildHasher, RandomState};
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use counterfoil_core::Timestamp;
use counterfoil_core::store::Changed;
use tokio::time::{sleep, timeout};

use super::changes;
use super::column::Value;
use super::deadline::Deadline;
use super::fault::Fault;
use super::pool::{Lease, Pool};
use super::session::{Session, Step};

/// How often a transition is tried that lost a race: what it lost to has committed, so one is enough but where many race.
const ATTEMPTS: u32 = 8;

/// The pause before the second attempt, at most; each further one waits up to twice as long.
const PAUSE: Duration = Duration::from_millis(8);

/// Until when a transition may take, whatever it waits for on its way: those before it in a line, a connection, its attempts, the
/// server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    /// Work that is given up is undone.
    work: Deadline,
    /// A commit that is given up may stand: so it has time of its own, which no work can use up.
    commit: Deadline,
}

impl Deadlines {
    /// `whole` from now on.
    pub(super) fn within(whole: Duration) -> Deadlines {
        Deadlines { work: Deadline::within(whole * 3 / 4), commit: Deadline::within(whole) }
    }
}

/// One transition under way; every [`Session`] method sends its statement into it. Cheap to clone. Dropped, it is rolled back.
#[derive(Debug, Clone)]
pub(super) struct Transaction {
    session: Arc<Session>,
    last: Arc<Mutex<Last>>,
}

/// What goes out together with the commit.
#[derive(Debug, Default)]
struct Last {
    statements: Vec<(&'static str, Vec<Value<'static>>)>,
    changes: Vec<(Changed, Timestamp)>,
}

impl Deref for Transaction {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl Transaction {
    /// Notes a change, which is written into the change log together with the commit: whoever holds the lock of the log keeps
    /// every other writer waiting, so nothing may come between.
    pub(super) fn log(&self, what: Changed, at: Timestamp) {
        self.last().changes.push((what, at));
    }

    /// A write that nothing hangs on any more: it goes out with the commit.
    pub(super) fn finally(&self, sql: &'static str, values: Vec<Value<'static>>) {
        self.last().statements.push((sql, values));
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn commit(&self) -> Result<(), Fault> {
        if self.has_failed() {
            return Err(Fault::Failed);
        }
        let last = std::mem::take(&mut *self.last());
        let entries = changes::entries(&last.changes);
        let mut steps: Vec<Step<'_>> = last.statements.iter().map(|(sql, values)| (*sql, values.as_slice())).collect();
        if !last.changes.is_empty() {
            steps.extend([(changes::LOCK, [].as_slice()), (changes::APPEND, entries.as_slice())]);
        }
        steps.push(("COMMIT", &[]));
        let asked = steps.len() - 1;
        match self.fly(&steps).await {
            Ok(_) if self.is_unreplicated() => Err(Fault::Unknown(Box::new(Fault::NotReplicated))),
            Ok(_) => Ok(()),
            Err((place, fault @ (Fault::Server { .. } | Fault::Failed)))
                if place < asked || fault.undoes_the_commit() =>
            {
                Err(fault)
            }
            Err((_, fault)) => Err(Fault::Unknown(Box::new(fault))),
        }
    }
}

/// Runs `work` in a transaction and commits it; again from the beginning where it lost a race and there is time. Must be called on
/// the runtime.
pub(super) async fn transact<T, F>(
    pool: &Arc<Pool>,
    deadlines: Deadlines,
    work: impl Fn(Transaction) -> F,
) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    for attempt in 1.. {
        match once(pool, deadlines, &work).await {
            Err(fault) if fault.is_a_lost_race() && attempt < ATTEMPTS && !deadlines.work.is_over() => {
                sleep(jittered(attempt)).await;
            }
            outcome => return outcome,
        }
    }
    Err(Fault::Miscounted) // unreachable: the numbers do not end
}

/// Those who met once must not meet again: nothing more hangs on the chance in it.
fn jittered(attempt: u32) -> Duration {
    let chance = RandomState::new().hash_one(attempt) % 1_000;
    PAUSE * 2_u32.pow(attempt - 1) * chance as u32 / 1_000
}

async fn once<T, F>(pool: &Arc<Pool>, deadlines: Deadlines, work: impl Fn(Transaction) -> F) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    let lease = deadlines.work.before(begun(pool)).await.unwrap_or(Err(Fault::Deadline))?;
    let transaction = Transaction { session: Arc::clone(lease.session()), last: Arc::default() };
    let worked = deadlines.work.before(work(transaction.clone())).await.unwrap_or(Err(Fault::Deadline));
    let outcome = match worked {
        Ok(value) => {
            let unknown = || {
                // A commit that waits for a standby waits on when we are gone, for as long as that is away, with its locks and
                // its place among the server's connections.
                let session = Arc::clone(lease.session());
                tokio::spawn(async move { session.cancel().await });
                Err(Fault::Unknown(Box::new(Fault::Deadline)))
            };
            deadlines.commit.before(transaction.commit()).await.unwrap_or_else(|_| unknown()).map(|()| value)
        }
        Err(fault) => Err(fault),
    };
    match outcome {
        Ok(value) => {
            lease.give_back();
            Ok(value)
        }
        Err(fault) => {
            let undone = deadlines.commit.before(transaction.run("ROLLBACK"));
            let is_sound = !fault.spoils_the_connection() && undone.await.is_ok_and(|undone| undone.is_ok());
            if is_sound {
                lease.give_back();
            } else {
                lease.discard(&fault);
            }
            Err(fault)
        }
    }
}

/// How long a server that is well takes at the very most to begin a transaction. What does not answer by then is taken for a
/// connection that has died without a word.
const PROMPT: Duration = Duration::from_secs(2);

/// A connection with a transaction open on it. One that has died meanwhile is found out here, where nothing is lost by taking
/// another.
async fn begun(pool: &Arc<Pool>) -> Result<Lease, Fault> {
    let lease = pool.take().await?;
    let begun = timeout(PROMPT, lease.session().begin()).await.unwrap_or(Err(Fault::Deadline));
    let Err(fault) = begun else { return Ok(lease) };
    lease.discard(&fault);
    let lease = pool.take().await?;
    lease.session().begin().await?;
    Ok(lease)
}
