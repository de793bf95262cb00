//! What may go wrong behind the authority: a store, a generator and a hashing queue that fail on demand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use counterfoil_core::account::{Account, AccountChange, Credentials, Email, LoginName, Role};
use counterfoil_core::attempts::{Tries, TryLater};
use counterfoil_core::audit::Entry;
use counterfoil_core::client::Client;
use counterfoil_core::entropy::PredictableEntropy;
use counterfoil_core::hashing::{CheckTask, Checked, HashTask, Hashed, Hashing, OnThisThread, Overloaded};
use counterfoil_core::link::{Link, Purpose};
use counterfoil_core::mail::{MailId, MailOrder, Registration, Waiting};
use counterfoil_core::password::{Cost, EncodedPassword};
use counterfoil_core::seal::Sealed;
use counterfoil_core::secret::{Candidates, CheckKey, DigestScheme};
use counterfoil_core::store::{AccountQuery, AuditQuery, Claimed, MailStore, NumberedEntry, SealedSecret, TokenFilter};
use counterfoil_core::store::{
    Bump, Changes, ClientOutcome, ClientUpdate, ExpiringQuery, Formats, Found, Issue, IssueOutcome, NewClient, News,
    RenewOutcome, RevokeOutcome, RotateOutcome, Rotation, TokenQuery, Touch,
};
use counterfoil_core::{
    AccountStore, Answer, AuditStore, ClientId, ClientName, Distinct, Entropy, EntropyError, Kind, MemoryStore,
    StoreError, Subject, SubjectId, SubjectState, Timestamp, Token, TokenDigest, TokenId, TokenName, TokenStore,
    Username,
};

/// What is broken right now.
#[derive(Debug, Default)]
pub(crate) struct Outages {
    pub(crate) store: AtomicBool,
    /// Only looking tokens up.
    pub(crate) find: AtomicBool,
    pub(crate) entropy: AtomicBool,
    pub(crate) entropy_repeats: AtomicBool,
    pub(crate) hashing: AtomicBool,
    /// No outage: other nodes answer from what they know of the store.
    pub(crate) shared: AtomicBool,
}

/// The words of a cause that only the operator may see.
pub(crate) const CAUSE: &str = "disk 7 is on fire";

/// The reference store, with a switch and a counter.
#[derive(Debug)]
pub(crate) struct UnreliableStore {
    memory: MemoryStore,
    outages: Arc<Outages>,
    calls: AtomicU64,
}

impl UnreliableStore {
    pub(crate) fn new(outages: Arc<Outages>) -> UnreliableStore {
        UnreliableStore { memory: MemoryStore::new(), outages, calls: AtomicU64::new(0) }
    }

    /// How often it has been asked anything.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    fn through<'a, T: Send + 'a>(&'a self, ask: impl FnOnce(&'a MemoryStore) -> Answer<'a, T>) -> Answer<'a, T> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.outages.store.load(Ordering::SeqCst) {
            return Box::pin(std::future::ready(Err(StoreError::new("answering a test", CAUSE))));
        }
        ask(&self.memory)
    }
}

impl TokenStore for UnreliableStore {
    fn open<'a>(&'a self, key: &'a CheckKey, default_client: &'a NewClient) -> Answer<'a, Formats> {
        self.through(|memory| memory.open(key, default_client))
    }

    fn ready(&self) -> Answer<'_, ()> {
        // Not at once, so that others ask meanwhile.
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.through(|memory| memory.ready()).await
        })
    }

    fn imported(&self) -> Answer<'_, Vec<DigestScheme>> {
        self.through(|memory| memory.imported())
    }

    fn find<'a>(&'a self, candidates: &'a Candidates) -> Answer<'a, Option<Found>> {
        self.through(|memory| {
            if self.outages.find.load(Ordering::SeqCst) {
                return Box::pin(std::future::ready(Err(StoreError::new("answering a test", CAUSE))));
            }
            memory.find(candidates)
        })
    }

    fn token<'a>(&'a self, id: TokenId, owner: Option<&'a SubjectId>) -> Answer<'a, Option<Token>> {
        self.through(|memory| memory.token(id, owner))
    }

    fn list<'a>(&'a self, query: &'a TokenQuery) -> Answer<'a, Vec<Token>> {
        self.through(|memory| memory.list(query))
    }

    fn expiring<'a>(&'a self, query: &'a ExpiringQuery) -> Answer<'a, Vec<Token>> {
        self.through(|memory| memory.expiring(query))
    }

    fn subject<'a>(&'a self, id: &'a SubjectId) -> Answer<'a, Option<Subject>> {
        self.through(|memory| memory.subject(id))
    }

    fn open_subject<'a>(&'a self, id: &'a SubjectId, now: Timestamp) -> Answer<'a, Subject> {
        self.through(|memory| memory.open_subject(id, now))
    }

    fn set_subject_state<'a>(
        &'a self,
        id: &'a SubjectId,
        state: SubjectState,
        now: Timestamp,
    ) -> Answer<'a, Option<Subject>> {
        self.through(|memory| memory.set_subject_state(id, state, now))
    }

    fn subject_changed<'a>(&'a self, id: &'a SubjectId, now: Timestamp) -> Answer<'a, ()> {
        self.through(|memory| memory.subject_changed(id, now))
    }

    fn bump_epoch<'a>(&'a self, bump: &'a Bump, now: Timestamp) -> Answer<'a, bool> {
        self.through(|memory| memory.bump_epoch(bump, now))
    }

    fn issue<'a>(&'a self, issue: &'a Issue, now: Timestamp) -> Answer<'a, IssueOutcome> {
        self.through(|memory| memory.issue(issue, now))
    }

    fn rename<'a>(
        &'a self,
        id: TokenId,
        owner: &'a SubjectId,
        kind: Kind,
        name: Option<TokenName>,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        self.through(|memory| memory.rename(id, owner, kind, name, now))
    }

    fn renew(&self, id: TokenId, until: Option<Timestamp>, now: Timestamp) -> Answer<'_, RenewOutcome> {
        self.through(|memory| memory.renew(id, until, now))
    }

    fn rotate<'a>(&'a self, rotation: &'a Rotation, now: Timestamp) -> Answer<'a, RotateOutcome> {
        self.through(|memory| memory.rotate(rotation, now))
    }

    fn settle_rotation<'a>(&'a self, id: TokenId, successor: &'a TokenDigest, now: Timestamp) -> Answer<'a, ()> {
        self.through(|memory| memory.settle_rotation(id, successor, now))
    }

    fn adopt<'a>(
        &'a self,
        id: TokenId,
        was: (DigestScheme, TokenDigest),
        digest: &'a TokenDigest,
        now: Timestamp,
    ) -> Answer<'a, bool> {
        self.through(|memory| memory.adopt(id, was, digest, now))
    }

    fn revoke<'a>(
        &'a self,
        id: TokenId,
        owner: Option<&'a SubjectId>,
        kind: Option<Kind>,
        now: Timestamp,
    ) -> Answer<'a, RevokeOutcome> {
        self.through(|memory| memory.revoke(id, owner, kind, now))
    }

    fn touch<'a>(&'a self, touches: &'a [Touch], now: Timestamp) -> Answer<'a, ()> {
        self.through(|memory| memory.touch(touches, now))
    }

    fn purge(&self, dead_since: Timestamp, batch: u32) -> Answer<'_, u64> {
        self.through(|memory| memory.purge(dead_since, batch))
    }

    fn count_matching<'a>(&'a self, filter: &'a TokenFilter, now: Timestamp) -> Answer<'a, u64> {
        self.through(|memory| memory.count_matching(filter, now))
    }

    fn revoke_matching<'a>(&'a self, filter: &'a TokenFilter, batch: u32, now: Timestamp) -> Answer<'a, u64> {
        self.through(|memory| memory.revoke_matching(filter, batch, now))
    }

    fn count_try<'a>(&'a self, subject: Option<&'a SubjectId>, now: Timestamp) -> Answer<'a, Result<(), TryLater>> {
        self.through(|memory| memory.count_try(subject, now))
    }

    fn give_back_try<'a>(&'a self, subject: Option<&'a SubjectId>) -> Answer<'a, ()> {
        self.through(|memory| memory.give_back_try(subject))
    }

    fn forget_tries<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, ()> {
        self.through(|memory| memory.forget_tries(subject))
    }

    fn tries<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, Tries> {
        self.through(|memory| memory.tries(subject))
    }

    fn sealed_otherwise<'a>(&'a self, key_id: u32, after: u64, limit: u32) -> Answer<'a, Vec<SealedSecret>> {
        self.through(|memory| memory.sealed_otherwise(key_id, after, limit))
    }

    fn sealed_samples(&self, now: Timestamp) -> Answer<'_, Vec<SealedSecret>> {
        self.through(|memory| memory.sealed_samples(now))
    }

    fn reseal<'a>(&'a self, was: &'a SealedSecret, sealed: &'a Sealed) -> Answer<'a, bool> {
        self.through(|memory| memory.reseal(was, sealed))
    }

    fn client<'a>(&'a self, name: &'a ClientName) -> Answer<'a, Option<Arc<Client>>> {
        self.through(|memory| memory.client(name))
    }

    fn clients(&self) -> Answer<'_, Vec<Arc<Client>>> {
        self.through(|memory| memory.clients())
    }

    fn create_client<'a>(&'a self, client: &'a NewClient) -> Answer<'a, Option<Arc<Client>>> {
        self.through(|memory| memory.create_client(client))
    }

    fn update_client<'a>(&'a self, update: &'a ClientUpdate, now: Timestamp) -> Answer<'a, ClientOutcome> {
        self.through(|memory| memory.update_client(update, now))
    }

    fn delete_client<'a>(&'a self, id: ClientId, now: Timestamp) -> Answer<'a, bool> {
        self.through(|memory| memory.delete_client(id, now))
    }

    fn changes(&self, after: u64, limit: u32) -> Answer<'_, Changes> {
        self.through(|memory| memory.changes(after, limit))
    }

    fn news(&self) -> News<'_> {
        self.memory.news()
    }

    fn is_shared(&self) -> bool {
        self.outages.shared.load(Ordering::SeqCst)
    }
}

impl AuditStore for UnreliableStore {
    fn append<'a>(&'a self, entries: &'a [Entry]) -> Answer<'a, ()> {
        self.through(|memory| memory.append(entries))
    }

    fn entries<'a>(&'a self, query: &'a AuditQuery) -> Answer<'a, Vec<NumberedEntry>> {
        self.through(|memory| memory.entries(query))
    }

    fn forget(&self, removed_before: Timestamp, anonymous_before: Timestamp, batch: u32) -> Answer<'_, u64> {
        self.through(|memory| memory.forget(removed_before, anonymous_before, batch))
    }
}

impl MailStore for UnreliableStore {
    fn post<'a>(
        &'a self,
        orders: &'a [MailOrder],
        registration: Option<&'a Registration>,
        most: u64,
    ) -> Answer<'a, bool> {
        self.through(|memory| memory.post(orders, registration, most))
    }

    fn claim(&self, now: Timestamp, until: Timestamp, limit: u32) -> Answer<'_, Claimed> {
        self.through(|memory| memory.claim(now, until, limit))
    }

    fn done(&self, id: MailId) -> Answer<'_, ()> {
        self.through(|memory| memory.done(id))
    }

    fn postpone<'a>(&'a self, id: MailId, next_try_at: Timestamp, error: &'a str) -> Answer<'a, ()> {
        self.through(|memory| memory.postpone(id, next_try_at, error))
    }

    fn waiting_count(&self) -> Answer<'_, u64> {
        self.through(|memory| memory.waiting_count())
    }

    fn waiting(&self, limit: u32) -> Answer<'_, Vec<Waiting>> {
        self.through(|memory| memory.waiting(limit))
    }

    fn keep_link<'a>(&'a self, link: &'a Link) -> Answer<'a, bool> {
        self.through(|memory| memory.keep_link(link))
    }

    fn link<'a>(&'a self, digest: &'a TokenDigest) -> Answer<'a, Option<Link>> {
        self.through(|memory| memory.link(digest))
    }

    fn has_link<'a>(&'a self, subject: &'a SubjectId, purpose: Purpose, now: Timestamp) -> Answer<'a, bool> {
        self.through(|memory| memory.has_link(subject, purpose, now))
    }

    fn use_link<'a>(&'a self, digest: &'a TokenDigest, purpose: Purpose, now: Timestamp) -> Answer<'a, Option<Link>> {
        self.through(|memory| memory.use_link(digest, purpose, now))
    }

    fn drop_links<'a>(&'a self, subject: &'a SubjectId, purposes: &'a [Purpose]) -> Answer<'a, ()> {
        self.through(|memory| memory.drop_links(subject, purposes))
    }

    fn registration<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, Option<Registration>> {
        self.through(|memory| memory.registration(subject))
    }

    fn registrations_of<'a>(&'a self, email: &'a Email, limit: u32) -> Answer<'a, Vec<Registration>> {
        self.through(|memory| memory.registrations_of(email, limit))
    }

    fn forget_registration<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, ()> {
        self.through(|memory| memory.forget_registration(subject))
    }

    fn forget_expired(&self, now: Timestamp, batch: u32) -> Answer<'_, u64> {
        self.through(|memory| MailStore::forget_expired(memory, now, batch))
    }

    fn advance_reminders(&self, from: Option<Timestamp>, until: Timestamp) -> Answer<'_, bool> {
        self.through(|memory| memory.advance_reminders(from, until))
    }

    fn reminded_until(&self) -> Answer<'_, Option<Timestamp>> {
        self.through(|memory| memory.reminded_until())
    }
}

impl AccountStore for UnreliableStore {
    fn create<'a>(
        &'a self,
        account: &'a Account,
        password: &'a EncodedPassword,
        distinct: Distinct,
    ) -> Answer<'a, bool> {
        self.through(|memory| memory.create(account, password, distinct))
    }

    fn has_lookalike<'a>(&'a self, name: &'a Username) -> Answer<'a, bool> {
        self.through(|memory| memory.has_lookalike(name))
    }

    fn named<'a>(&'a self, name: &'a LoginName) -> Answer<'a, Vec<Credentials>> {
        self.through(|memory| memory.named(name))
    }

    fn account<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, Option<Credentials>> {
        self.through(|memory| memory.account(subject))
    }

    fn accounts<'a>(&'a self, query: &'a AccountQuery) -> Answer<'a, Vec<Account>> {
        self.through(|memory| memory.accounts(query))
    }

    fn has_role(&self, role: Role) -> Answer<'_, bool> {
        self.through(|memory| memory.has_role(role))
    }

    fn greatest_number(&self) -> Answer<'_, u64> {
        self.through(|memory| memory.greatest_number())
    }

    fn password_costs(&self) -> Answer<'_, Vec<Cost>> {
        self.through(|memory| memory.password_costs())
    }

    fn set_password<'a>(
        &'a self,
        subject: &'a SubjectId,
        expected: Option<&'a EncodedPassword>,
        password: &'a EncodedPassword,
    ) -> Answer<'a, bool> {
        self.through(|memory| memory.set_password(subject, expected, password))
    }

    fn change<'a>(&'a self, subject: &'a SubjectId, changes: &'a [AccountChange]) -> Answer<'a, Option<Account>> {
        self.through(|memory| memory.change(subject, changes))
    }

    fn delete<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, bool> {
        self.through(|memory| memory.delete(subject))
    }
}

/// Foretellable chance, with two switches.
#[derive(Debug)]
pub(crate) struct UnreliableEntropy {
    outages: Arc<Outages>,
    entropy: PredictableEntropy,
}

impl UnreliableEntropy {
    pub(crate) fn new(outages: Arc<Outages>, entropy: PredictableEntropy) -> UnreliableEntropy {
        UnreliableEntropy { outages, entropy }
    }
}

impl Entropy for UnreliableEntropy {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        if self.outages.entropy.load(Ordering::SeqCst) {
            return Err(EntropyError::new(CAUSE));
        }
        if self.outages.entropy_repeats.load(Ordering::SeqCst) {
            buffer.fill(7);
            return Ok(());
        }
        self.entropy.fill(buffer)
    }
}

/// Hashes at once, or has a full queue.
#[derive(Debug)]
pub(crate) struct UnreliableHashing(pub(crate) Arc<Outages>);

impl Hashing for UnreliableHashing {
    fn check(&self, task: CheckTask) -> Hashed<'_, Checked> {
        if self.0.hashing.load(Ordering::SeqCst) {
            return Box::pin(std::future::ready(Err(Overloaded)));
        }
        OnThisThread.check(task)
    }

    fn hash(&self, task: HashTask) -> Hashed<'_, EncodedPassword> {
        if self.0.hashing.load(Ordering::SeqCst) {
            return Box::pin(std::future::ready(Err(Overloaded)));
        }
        OnThisThread.hash(task)
    }
}
