//! The store as a node sees it: [`Wire`], behind a connection on which everything may be late or lost.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use counterfoil_core::attempts::{Tries, TryLater};
use counterfoil_core::client::{Client, ClientId, ClientName};
use counterfoil_core::mutant::Mutant;
use counterfoil_core::seal::Sealed;
use counterfoil_core::secret::{Candidates, CheckKey, DigestScheme};
use counterfoil_core::store::{
    Bump, Changes, ClientOutcome, ClientUpdate, ExpiringQuery, Formats, Found, Issue, IssueOutcome, NewClient, News,
    RenewOutcome, RevokeOutcome, RotateOutcome, Rotation, SealedSecret, TokenFilter, TokenQuery, Touch,
};
use counterfoil_core::token::Kind as TokenKind;
use counterfoil_core::{
    Answer, MemoryStore, StoreError, Subject, SubjectId, SubjectState, Timestamp, Token, TokenDigest, TokenId,
    TokenName, TokenStore,
};

use crate::database::{Kind, at_once, away};
use crate::kernel::{MILLIS, Micros, SECONDS, Slot, lock};
use crate::world::World;

/// How the way between a node and the store is at present.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Link {
    /// What the node sends does not arrive.
    pub(crate) to_lost: bool,
    /// What the store sends does not arrive.
    pub(crate) from_lost: bool,
    /// Each way takes up to this much longer.
    pub(crate) slow: Micros,
    /// Words of changes do not arrive.
    pub(crate) news_lost: bool,
    /// Words of changes arrive this many times more.
    pub(crate) news_repeated: u64,
    /// The node was led to a replica.
    pub(crate) to_replica: bool,
}

/// The store as one life of one node sees it.
pub(crate) struct Wire {
    world: Arc<World>,
    node: usize,
    news: Mutex<Signal>,
    /// What was answered last, and whether there was word of changes since: for the mutant that goes by words alone.
    last: Mutex<(Option<Changes>, bool)>,
    /// Look-ups under way, for the mutant that joins them.
    under_way: Mutex<BTreeMap<[u8; 32], Arc<Joined>>>,
}

#[derive(Debug, Default)]
struct Signal {
    given: bool,
    waker: Option<Waker>,
}

/// A look-up that others may have joined.
#[derive(Default)]
struct Joined(Mutex<(Option<Option<Found>>, Vec<Waker>)>);

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wire({})", self.node)
    }
}

impl Wire {
    pub(crate) fn new(world: &Arc<World>, node: usize) -> Wire {
        Wire {
            world: Arc::clone(world),
            node,
            news: Mutex::default(),
            last: Mutex::default(),
            under_way: Mutex::default(),
        }
    }

    /// There is word of a change.
    pub(crate) fn hear(&self) {
        lock(&self.last).1 = true;
        let mut signal = lock(&self.news);
        signal.given = true;
        if let Some(waker) = signal.waker.take() {
            waker.wake();
        }
    }

    fn ask<'a, T: Send + 'static>(
        &'a self,
        kind: Kind,
        doing: &'static str,
        run: impl FnOnce(&MemoryStore) -> Result<T, StoreError> + Send + 'static,
    ) -> Answer<'a, T> {
        Box::pin(async move {
            let slot = Slot::new();
            send(&self.world, self.node, kind, doing, Arc::clone(&slot), move |database, _| run(database.kept()));
            let answer = self.answer(slot).await;
            if kind == Kind::Write {
                lock(&self.last).1 = true; // what a node has done itself it needs no word of
            }
            answer
        })
    }

    async fn answer<T>(&self, slot: Arc<Slot<Result<T, StoreError>>>) -> Result<T, StoreError> {
        let answer = self.world.kernel.within(self.world.deadline, slot.take()).await;
        answer.unwrap_or_else(|| Err(away("no answer in time")))
    }

    fn read<'a, T: Send + 'static>(
        &'a self,
        run: impl FnOnce(&MemoryStore) -> Answer<'_, T> + Send + 'static,
    ) -> Answer<'a, T> {
        self.ask(Kind::Read, "reading", |kept| at_once(run(kept)))
    }

    fn write<'a, T: Send + 'static>(
        &'a self,
        doing: &'static str,
        run: impl FnOnce(&MemoryStore) -> Result<T, StoreError> + Send + 'static,
    ) -> Answer<'a, T> {
        self.ask(Kind::Write, doing, run)
    }

    /// A look-up that joins another's under way, be it ever so old.
    async fn joined(&self, key: [u8; 32], candidates: Candidates) -> Result<Option<Found>, StoreError> {
        let others = lock(&self.under_way).get(&key).cloned();
        if let Some(joined) = others {
            let answered = std::future::poll_fn(|context| {
                let mut joined = lock(&joined.0);
                match &joined.0 {
                    Some(found) => Poll::Ready(found.clone()),
                    None => {
                        joined.1.push(context.waker().clone());
                        Poll::Pending
                    }
                }
            });
            let answer = self.world.kernel.within(self.world.deadline, answered).await;
            return answer.ok_or_else(|| away("no answer in time"));
        }
        let joined = Arc::new(Joined::default());
        lock(&self.under_way).insert(key, Arc::clone(&joined));
        let found = self.read(move |kept| {
            let found = at_once(kept.find(&candidates));
            Box::pin(std::future::ready(found))
        });
        let found = found.await;
        lock(&self.under_way).remove(&key);
        if let Ok(found) = &found {
            let mut joined = lock(&joined.0);
            joined.0 = Some(found.clone());
            joined.1.drain(..).for_each(Waker::wake);
        }
        found
    }
}

/// Sends a call to the store, where it is carried out whatever becomes of the node meanwhile; what it comes to goes into `slot`.
fn send<T: Send + 'static>(
    world: &Arc<World>,
    node: usize,
    kind: Kind,
    doing: &'static str,
    slot: Arc<Slot<Result<T, StoreError>>>,
    run: impl FnOnce(&crate::database::Database, Timestamp) -> Result<T, StoreError> + Send + 'static,
) {
    let link = lock(&world.links)[node];
    if link.to_lost {
        world.trace(|| format!("node {node}: {kind} ({doing}) is lost on its way"));
        return;
    }
    let generation = lock(&world.cluster).generation;
    let world = Arc::clone(world);
    let way = world.way(&link);
    Arc::clone(&world.kernel).after(way, move || {
        let (late, reserved, to_replica) = {
            let mut cluster = lock(&world.cluster);
            let late = cluster.late.filter(|_| kind == Kind::Write && world.chance.permille(400));
            let numbered = kind == Kind::Write && world.mutant == Some(Mutant::NumberedBeforeCommit);
            let to_replica = lock(&world.links)[node].to_replica;
            let reserved = numbered.then(|| cluster.primary.reserve());
            (late.map_or(0, |most| world.chance.magnitude(MILLIS, most)), reserved, to_replica)
        };
        let carry_out = {
            let world = Arc::clone(&world);
            move || {
                let store_time = world.store_time();
                let (outcome, changed) = {
                    let mut cluster = lock(&world.cluster);
                    let lost = cluster.generation != generation && kind == Kind::Write && !to_replica;
                    match cluster.asked(to_replica, kind, world.mutant) {
                        _ if lost => (Err(away("the connection was lost")), false),
                        Ok(database) => {
                            let outcome = run(database, store_time);
                            let changed = kind == Kind::Write && database.commit(reserved, || world.chance.next());
                            (outcome, changed)
                        }
                        Err(error) => (Err(error), false),
                    }
                };
                if kind == Kind::Write {
                    let how = if outcome.is_ok() { "is carried out" } else { "fails" };
                    let head = lock(&world.cluster).primary.head();
                    world.trace(|| format!("store: {doing} of node {node} {how}; the log ends at {head}"));
                }
                if changed {
                    tell(&world);
                }
                let link = lock(&world.links)[node];
                if link.from_lost {
                    world.trace(|| format!("node {node}: the answer to a {kind} ({doing}) is lost"));
                    return;
                }
                let way = world.way(&link);
                world.kernel.after(way, move || slot.put(outcome));
            }
        };
        world.kernel.after(late, carry_out);
    });
}

/// Tells every node that something has changed.
pub(crate) fn tell(world: &Arc<World>) {
    for node in 0..world.nodes.len() {
        let link = lock(&world.links)[node];
        if link.news_lost || link.from_lost || link.to_replica {
            continue;
        }
        for _ in 0..=link.news_repeated {
            let heard = Arc::clone(world);
            let way = world.way(&link);
            world.kernel.after(way, move || {
                let wire = lock(&heard.nodes[node].life).wire.clone();
                if let Some(wire) = wire {
                    wire.hear();
                }
            });
        }
    }
}

impl World {
    /// How long one way takes.
    fn way(&self, link: &Link) -> Micros {
        let usual = self.chance.between(50, 1_000);
        let slow = if link.slow > 0 { self.chance.magnitude(MILLIS, link.slow) } else { 0 };
        let stray = if self.chance.permille(self.strays.load(Ordering::Relaxed)) {
            self.chance.magnitude(5 * MILLIS, 2 * SECONDS)
        } else {
            0
        };
        usual + slow + stray
    }
}

impl TokenStore for Wire {
    fn open<'a>(&'a self, key: &'a CheckKey, default_client: &'a NewClient) -> Answer<'a, Formats> {
        let (key, client) = (key.clone(), default_client.clone());
        self.write("opening", move |kept| at_once(kept.open(&key, &client)))
    }

    fn ready(&self) -> Answer<'_, ()> {
        self.read(|kept| kept.ready())
    }

    fn imported(&self) -> Answer<'_, Vec<DigestScheme>> {
        self.read(|kept| kept.imported())
    }

    fn find<'a>(&'a self, candidates: &'a Candidates) -> Answer<'a, Option<Found>> {
        let candidates = candidates.clone();
        if self.world.mutant == Some(Mutant::JoinWithoutAgeLimit)
            && let Candidates::Native(digest) = &candidates
        {
            return Box::pin(self.joined(*digest.as_bytes(), candidates));
        }
        self.ask(Kind::Read, "finding", move |kept| at_once(kept.find(&candidates)))
    }

    fn token<'a>(&'a self, id: TokenId, owner: Option<&'a SubjectId>) -> Answer<'a, Option<Token>> {
        let owner = owner.cloned();
        self.ask(Kind::Read, "reading", move |kept| at_once(kept.token(id, owner.as_ref())))
    }

    fn list<'a>(&'a self, query: &'a TokenQuery) -> Answer<'a, Vec<Token>> {
        let query = query.clone();
        self.ask(Kind::Read, "listing", move |kept| at_once(kept.list(&query)))
    }

    fn expiring<'a>(&'a self, query: &'a ExpiringQuery) -> Answer<'a, Vec<Token>> {
        let query = *query;
        self.ask(Kind::Read, "listing", move |kept| at_once(kept.expiring(&query)))
    }

    fn count_matching<'a>(&'a self, filter: &'a TokenFilter, now: Timestamp) -> Answer<'a, u64> {
        let filter = filter.clone();
        self.ask(Kind::Read, "counting", move |kept| at_once(kept.count_matching(&filter, now)))
    }

    fn subject<'a>(&'a self, id: &'a SubjectId) -> Answer<'a, Option<Subject>> {
        let id = id.clone();
        self.ask(Kind::Read, "reading", move |kept| at_once(kept.subject(&id)))
    }

    fn open_subject<'a>(&'a self, id: &'a SubjectId, now: Timestamp) -> Answer<'a, Subject> {
        let id = id.clone();
        self.write("opening a subject", move |kept| at_once(kept.open_subject(&id, now)))
    }

    fn set_subject_state<'a>(
        &'a self,
        id: &'a SubjectId,
        state: SubjectState,
        now: Timestamp,
    ) -> Answer<'a, Option<Subject>> {
        let id = id.clone();
        self.write("setting a state", move |kept| at_once(kept.set_subject_state(&id, state, now)))
    }

    fn subject_changed<'a>(&'a self, id: &'a SubjectId, now: Timestamp) -> Answer<'a, ()> {
        let id = id.clone();
        self.write("noting a change", move |kept| at_once(kept.subject_changed(&id, now)))
    }

    fn bump_epoch<'a>(&'a self, bump: &'a Bump, now: Timestamp) -> Answer<'a, bool> {
        let bump = bump.clone();
        self.write("bumping an epoch", move |kept| at_once(kept.bump_epoch(&bump, now)))
    }

    fn issue<'a>(&'a self, issue: &'a Issue, now: Timestamp) -> Answer<'a, IssueOutcome> {
        let (issue, world) = (issue.clone(), Arc::clone(&self.world));
        self.write("issuing", move |kept| {
            let outcome = at_once(kept.issue(&issue, now));
            if let Ok(IssueOutcome::Issued { ended, .. }) = &outcome {
                // What the answer to whoever ordered it does not tell.
                lock(&world.checker).evicts(issue.id, ended.clone());
            }
            outcome
        })
    }

    fn rename<'a>(
        &'a self,
        id: TokenId,
        owner: &'a SubjectId,
        kind: TokenKind,
        name: Option<TokenName>,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        let owner = owner.clone();
        self.write("renaming", move |kept| at_once(kept.rename(id, &owner, kind, name, now)))
    }

    fn renew(&self, id: TokenId, until: Option<Timestamp>, now: Timestamp) -> Answer<'_, RenewOutcome> {
        self.write("renewing", move |kept| at_once(kept.renew(id, until, now)))
    }

    fn rotate<'a>(&'a self, rotation: &'a Rotation, now: Timestamp) -> Answer<'a, RotateOutcome> {
        let rotation = rotation.clone();
        self.write("rotating", move |kept| at_once(kept.rotate(&rotation, now)))
    }

    fn settle_rotation<'a>(&'a self, id: TokenId, successor: &'a TokenDigest, now: Timestamp) -> Answer<'a, ()> {
        let successor = *successor;
        self.write("settling a rotation", move |kept| at_once(kept.settle_rotation(id, &successor, now)))
    }

    fn adopt<'a>(
        &'a self,
        id: TokenId,
        was: (DigestScheme, TokenDigest),
        digest: &'a TokenDigest,
        now: Timestamp,
    ) -> Answer<'a, bool> {
        let digest = *digest;
        self.write("adopting", move |kept| at_once(kept.adopt(id, was, &digest, now)))
    }

    fn revoke<'a>(
        &'a self,
        id: TokenId,
        owner: Option<&'a SubjectId>,
        kind: Option<TokenKind>,
        now: Timestamp,
    ) -> Answer<'a, RevokeOutcome> {
        let owner = owner.cloned();
        self.write("revoking", move |kept| at_once(kept.revoke(id, owner.as_ref(), kind, now)))
    }

    fn revoke_matching<'a>(&'a self, filter: &'a TokenFilter, batch: u32, now: Timestamp) -> Answer<'a, u64> {
        let filter = filter.clone();
        self.write("revoking many", move |kept| at_once(kept.revoke_matching(&filter, batch, now)))
    }

    fn touch<'a>(&'a self, touches: &'a [Touch], now: Timestamp) -> Answer<'a, ()> {
        let touches = touches.to_vec();
        self.write("noting uses", move |kept| at_once(kept.touch(&touches, now)))
    }

    fn purge(&self, dead_since: Timestamp, batch: u32) -> Answer<'_, u64> {
        self.write("purging", move |kept| at_once(kept.purge(dead_since, batch)))
    }

    fn count_try<'a>(&'a self, subject: Option<&'a SubjectId>, now: Timestamp) -> Answer<'a, Result<(), TryLater>> {
        let subject = subject.cloned();
        self.write("counting a try", move |kept| at_once(kept.count_try(subject.as_ref(), now)))
    }

    fn give_back_try<'a>(&'a self, subject: Option<&'a SubjectId>) -> Answer<'a, ()> {
        let subject = subject.cloned();
        self.write("giving back a try", move |kept| at_once(kept.give_back_try(subject.as_ref())))
    }

    fn forget_tries<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, ()> {
        let subject = subject.clone();
        self.write("forgetting tries", move |kept| at_once(kept.forget_tries(&subject)))
    }

    fn tries<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, Tries> {
        let subject = subject.clone();
        self.ask(Kind::Read, "reading", move |kept| at_once(kept.tries(&subject)))
    }

    fn sealed_otherwise<'a>(&'a self, key_id: u32, after: u64, limit: u32) -> Answer<'a, Vec<SealedSecret>> {
        self.read(move |kept| kept.sealed_otherwise(key_id, after, limit))
    }

    fn sealed_samples(&self, now: Timestamp) -> Answer<'_, Vec<SealedSecret>> {
        self.read(move |kept| kept.sealed_samples(now))
    }

    fn reseal<'a>(&'a self, was: &'a SealedSecret, sealed: &'a Sealed) -> Answer<'a, bool> {
        let (was, sealed) = (was.clone(), sealed.clone());
        self.write("resealing", move |kept| at_once(kept.reseal(&was, &sealed)))
    }

    fn client<'a>(&'a self, name: &'a ClientName) -> Answer<'a, Option<Arc<Client>>> {
        let name = name.clone();
        self.ask(Kind::Read, "reading", move |kept| at_once(kept.client(&name)))
    }

    fn clients(&self) -> Answer<'_, Vec<Arc<Client>>> {
        self.read(|kept| kept.clients())
    }

    fn create_client<'a>(&'a self, client: &'a NewClient) -> Answer<'a, Option<Arc<Client>>> {
        let client = client.clone();
        self.write("making a client", move |kept| at_once(kept.create_client(&client)))
    }

    fn update_client<'a>(&'a self, update: &'a ClientUpdate, now: Timestamp) -> Answer<'a, ClientOutcome> {
        let update = update.clone();
        self.write("changing a client", move |kept| at_once(kept.update_client(&update, now)))
    }

    fn delete_client<'a>(&'a self, id: ClientId, now: Timestamp) -> Answer<'a, bool> {
        self.write("deleting a client", move |kept| at_once(kept.delete_client(id, now)))
    }

    fn changes(&self, after: u64, limit: u32) -> Answer<'_, Changes> {
        Box::pin(async move {
            if self.world.mutant == Some(Mutant::NotifyOnly) {
                let mut last = lock(&self.last);
                if let (Some(answer), false) = (&last.0, last.1)
                    && (after + 1 == answer.head || answer.head == 0)
                {
                    return Ok(answer.clone());
                }
                last.1 = false;
            }
            let slot = Slot::new();
            let run =
                move |database: &crate::database::Database, clock: Timestamp| Ok(database.changes(after, limit, clock));
            send(&self.world, self.node, Kind::Poll, "asking for changes", Arc::clone(&slot), run);
            let answer = self.answer(slot).await;
            if self.world.mutant == Some(Mutant::NotifyOnly) {
                let mut last = lock(&self.last);
                match &answer {
                    Ok(answer) => {
                        let rows = answer.rows.last().cloned().into_iter().collect();
                        last.0 = Some(Changes { rows, clock: None, ..answer.clone() });
                    }
                    Err(_) => last.1 = true,
                }
            }
            answer
        })
    }

    fn news(&self) -> News<'_> {
        Box::pin(std::future::poll_fn(|context| {
            let mut signal = lock(&self.news);
            if std::mem::take(&mut signal.given) {
                return Poll::Ready(());
            }
            signal.waker = Some(context.waker().clone());
            Poll::Pending
        }))
    }

    fn is_shared(&self) -> bool {
        true
    }
}
