//! The end of single tokens: [`Revoking`] gathers those that wait into one transition.
//!
//! A commit takes as long as the disk does, and the lock of the change log lets one in at a time; so whoever comes while one is on its
//! way goes with the next, all of them together.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use counterfoil_core::secret::TokenDigest;
use counterfoil_core::store::{Changed, RevokeOutcome};
use counterfoil_core::token::{Kind, Standing, TokenId};
use counterfoil_core::{SubjectId, Timestamp};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::Inner;
use super::column::{Value, get, signed};
use super::fault::Fault;
use super::tokens::{Held, holding, statements};
use super::transaction::{Deadlines, Transaction, transact};

/// Which token to revoke, of this owner and kind where they are named.
#[derive(Debug)]
pub(super) struct Revocation {
    pub(super) id: TokenId,
    pub(super) owner: Option<SubjectId>,
    pub(super) kind: Option<Kind>,
    pub(super) now: Timestamp,
}

/// Revocations in one transition, at most.
const TOGETHER: usize = 256;

/// Those that wait, at most.
const QUEUE: usize = 16_384;

/// How long a lane waits for as many as it had last, beside those who came meanwhile. Those who have just been answered read the log
/// and, where they have more to end, are here again within this; without it the first of them would go alone, and all others wait for
/// its commit.
const GATHERING: Duration = Duration::from_millis(1);

/// A transition that takes longer waits for a row that somebody else holds. Whoever stands behind it need not.
const STUCK: Duration = Duration::from_millis(250);

/// Transitions under way at once, where those before are stuck. Two that are not would only halve what goes together.
const LANES: usize = 4;

type Reply = oneshot::Sender<Result<RevokeOutcome, Fault>>;

/// Those that wait, and what is on its way.
#[derive(Debug, Default)]
pub(super) struct Revoking {
    waiting: Mutex<Waiting>,
    /// Somebody has come.
    came: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    line: Vec<(Revocation, Reply)>,
    lanes: usize,
    /// Lanes among them that are held up.
    stuck: usize,
}

impl Waiting {
    /// Whether those that wait need another lane, which is then counted.
    fn opens_a_lane(&mut self) -> bool {
        let opens = !self.line.is_empty() && self.lanes == self.stuck && self.lanes < LANES;
        self.lanes += usize::from(opens);
        opens
    }
}

impl Revoking {
    /// See [`counterfoil_core::TokenStore::revoke`]. Goes on to its end even if nobody waits for it any more, as those do not who
    /// have waited for a whole transition; they are told that it may be done.
    pub(super) async fn revoke(inner: &Arc<Inner>, revocation: Revocation) -> Result<RevokeOutcome, Fault> {
        let (reply, answer) = oneshot::channel();
        Revoking::change(inner, |waiting| {
            if waiting.line.len() >= QUEUE {
                return Err(Fault::Crowded);
            }
            waiting.line.push((revocation, reply));
            Ok(())
        })?;
        inner.revoking.came.notify_one();
        let in_time = {
            let _on = inner.runtime.enter();
            timeout(inner.transition_deadline, answer)
        };
        match in_time.await {
            Ok(answer) => answer.unwrap_or(Err(Fault::Panicked)),
            Err(_) => Err(Fault::Unknown(Box::new(Fault::Deadline))),
        }
    }

    /// Changes who waits, and starts a lane if they need one.
    fn change<T>(inner: &Arc<Inner>, change: impl FnOnce(&mut Waiting) -> T) -> T {
        let (changed, opens) = {
            let mut waiting = inner.revoking.lock();
            (change(&mut waiting), waiting.opens_a_lane())
        };
        if opens {
            // Boxed, because a lane may start another one.
            let lane: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(Revoking::run(Arc::clone(inner)));
            inner.runtime.spawn(lane);
        }
        changed
    }

    /// One lane, until nobody waits.
    async fn run(inner: Arc<Inner>) {
        let mut expected = 1;
        loop {
            timeout(GATHERING, inner.revoking.are_waiting(expected)).await.ok();
            let together = {
                let mut waiting = inner.revoking.lock();
                if waiting.line.is_empty() {
                    waiting.lanes -= 1;
                    return;
                }
                let count = waiting.line.len().min(TOGETHER);
                waiting.line.drain(..count).collect::<Vec<_>>()
            };
            let (revocations, replies): (Vec<_>, Vec<_>) = together.into_iter().unzip();
            let revocations = Arc::new(revocations);
            // Apart, so that a panic ends these and not the lane.
            let mut under_way = inner.runtime.spawn({
                let inner = Arc::clone(&inner);
                async move {
                    let work = |transaction| revoke(transaction, Arc::clone(&revocations));
                    transact(&inner.pool, Deadlines::within(inner.transition_deadline), work).await
                }
            });
            let ended = match timeout(STUCK, &mut under_way).await {
                Ok(ended) => ended,
                Err(_) => {
                    Revoking::change(&inner, |waiting| waiting.stuck += 1);
                    let ended = under_way.await;
                    inner.revoking.lock().stuck -= 1;
                    ended
                }
            };
            expected = (replies.len() + inner.revoking.lock().line.len()).min(TOGETHER);
            match ended.unwrap_or(Err(Fault::Panicked)) {
                Ok(outcomes) => {
                    for (reply, outcome) in replies.into_iter().zip(outcomes) {
                        reply.send(Ok(outcome)).ok();
                    }
                }
                Err(fault) => {
                    let fault = Arc::new(fault);
                    for reply in replies {
                        reply.send(Err(Fault::Together(Arc::clone(&fault)))).ok();
                    }
                }
            }
        }
    }

    /// Until so many wait.
    async fn are_waiting(&self, count: usize) {
        while self.lock().line.len() < count {
            self.came.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const END: &str = "
    UPDATE tokens SET revoked_at = ended.at, sealed = NULL, sealed_key = NULL
    FROM unnest($1, $2) AS ended (number, at) WHERE tokens.number = ended.number";

// Nothing is retired but by whoever holds the lock of its token.
const RETIRED_OF: &str = "
    SELECT digest, token FROM retired WHERE token = ANY(ARRAY(SELECT number FROM tokens WHERE id = ANY($1)))";

/// Revokes as if one after the other.
async fn revoke(transaction: Transaction, wanted: Arc<Vec<Revocation>>) -> Result<Vec<RevokeOutcome>, Fault> {
    let ids = [Value::Ids(wanted.iter().map(|revocation| Some(*revocation.id.as_bytes())).collect())];
    let steps = [(statements().holding_ids.as_str(), ids.as_slice()), (RETIRED_OF, &ids)];
    let [rows, retired] = transaction.flight(steps).await?;
    let mut held = rows.iter().map(holding).collect::<Result<Vec<Held>, _>>()?;
    let mut ending = Vec::new();
    let outcomes = wanted.iter().map(|revocation| outcome(revocation, &mut held, &mut ending)).collect();
    if ending.is_empty() {
        return Ok(outcomes);
    }
    let numbers = Value::Integers(ending.iter().map(|end| end.number).collect());
    let instants = Value::Integers(ending.iter().map(|end| end.at.millis()).collect());
    transaction.finally(END, vec![numbers, instants]);
    let mut also: BTreeMap<i64, Vec<TokenDigest>> = BTreeMap::new();
    for row in &retired {
        also.entry(get(row, 1)?).or_default().push(get(row, 0)?);
    }
    for end in ending {
        let mut digests = vec![end.digest];
        digests.extend(also.remove(&end.number).unwrap_or_default());
        transaction.log(Changed::Tokens(digests), end.at);
    }
    Ok(outcomes)
}

/// A token that is ended.
struct End {
    number: i64,
    at: Timestamp,
    digest: TokenDigest,
}

/// What becomes of one revocation, given those before it.
fn outcome(wanted: &Revocation, held: &mut [Held], ending: &mut Vec<End>) -> RevokeOutcome {
    let is_meant = |held: &&mut Held| {
        held.token.id == wanted.id
            && wanted.owner.as_ref().is_none_or(|owner| held.token.subject == *owner)
            && wanted.kind.is_none_or(|kind| held.token.kind == kind)
    };
    let Some(held) = held.iter_mut().find(is_meant) else { return RevokeOutcome::Unknown };
    match held.token.standing(wanted.now) {
        Standing::Revoked => return RevokeOutcome::AlreadyRevoked,
        Standing::Live | Standing::Expired => {}
    }
    held.token.revoked_at = Some(wanted.now);
    ending.push(End { number: signed(held.token.number), at: wanted.now, digest: held.digest });
    RevokeOutcome::Revoked(Box::new(held.token.clone()))
}
