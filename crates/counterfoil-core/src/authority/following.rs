//! A store whose changes are known to the cache before they are acknowledged: [`Following`].

use std::fmt;
use std::sync::Arc;

use crate::attempts::{Tries, TryLater};
use crate::cache::{Cache, Followed};
use crate::client::{Client, ClientId, ClientName};
use crate::clock::{BootTime, Timestamp};
use crate::joint_work::JointWork;
use crate::lease::Doubt;
use crate::seal::Sealed;
use crate::secret::{Candidates, CheckKey, DigestScheme, TokenDigest};
use crate::store::{
    Answer, Bump, Changes, ClientOutcome, ClientUpdate, ExpiringQuery, Formats, Found, Issue, IssueOutcome, NewClient,
    News, RenewOutcome, RevokeOutcome, RotateOutcome, Rotation, SealedSecret, StoreError, TokenFilter, TokenQuery,
    TokenStore, Touch,
};
use crate::subject::{Subject, SubjectId, SubjectState};
use crate::token::{Kind, Token, TokenId, TokenName};

/// Answers to follow up at most before giving up for now: more changes than any store keeps.
const ROUNDS: usize = 64;

/// What following the store came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CaughtUp {
    /// Why what was known had to be forgotten, if it had since the last call.
    pub doubt: Option<Doubt>,
    /// The store's own clock, read while it was asked, where it has one.
    pub clock: Option<Timestamp>,
}

/// How far a process that answers from memory has followed the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recalling {
    /// The number of the last change it knows.
    pub change: u64,
    /// How long ago it asked the last question that was answered: what was committed before that, it knows.
    pub age_millis: u64,
}

/// Takes in what `tokens` tells of changes, and extends the lease if `sent` is when it was asked; the store's clock, where it has one.
pub(super) async fn follow(
    cache: &Cache,
    tokens: &dyn TokenStore,
    sent: Option<BootTime>,
) -> Result<Option<Timestamp>, StoreError> {
    for _ in 0..ROUNDS {
        let poll = cache.ask();
        let answer = tokens.changes(poll.after, poll.limit).await?;
        match cache.answered(&poll, &answer, sent) {
            Followed::UpToDate => return Ok(answer.clock),
            Followed::More | Followed::Forgotten(_) => {}
        }
    }
    Err(StoreError::new("reading the change log", "it grows faster than it can be read"))
}

/// The same store. What may have ended a token is acknowledged when this process no longer answers for that token: its row
/// in the change log, and whatever lies before it, is applied first.
///
/// Where that fails, or the one who waited for it has gone away in the middle, the cache answers nothing until the store has
/// been asked anew.
pub(super) struct Following {
    store: Arc<dyn TokenStore>,
    cache: Arc<Cache>,
    /// Of the log, on behalf of writes that are done: a thousand revocations at once do not ask a thousand times.
    readings: JointWork,
}

impl fmt::Debug for Following {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.store, f)
    }
}

impl Following {
    pub(super) fn of(store: Arc<dyn TokenStore>, cache: Arc<Cache>) -> Following {
        Following { store, cache, readings: JointWork::default() }
    }

    /// What `write` came to, once it is applied here, if `ends` says that it may have ended a token.
    /// For what ends nothing whatever comes of it, this is not needed; a stranger who could have it begun and left would
    /// keep everybody from being answered from memory.
    fn settled<'a, T: Send + 'a>(&'a self, write: Answer<'a, T>, ends: fn(&T) -> bool) -> Answer<'a, T> {
        Box::pin(async move {
            let unsettled = Unsettled(Some(&self.cache));
            let outcome = write.await;
            // One that failed may have been carried out all the same.
            let settled = match &outcome {
                Ok(done) if !ends(done) => true,
                Ok(_) | Err(_) => {
                    let reading = async { follow(&self.cache, self.store.as_ref(), None).await.is_ok() };
                    self.readings.one_begun_from_now_on(reading).await
                }
            };
            if settled {
                unsettled.settle();
            }
            outcome
        })
    }
}

/// Dropped before it is settled, whatever the reason, it suspends the cache.
struct Unsettled<'a>(Option<&'a Cache>);

impl Unsettled<'_> {
    fn settle(mut self) {
        self.0 = None;
    }
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        if let Some(cache) = self.0 {
            cache.suspend();
        }
    }
}

impl TokenStore for Following {
    fn open<'a>(&'a self, key: &'a CheckKey, default_client: &'a NewClient) -> Answer<'a, Formats> {
        self.store.open(key, default_client)
    }

    fn ready(&self) -> Answer<'_, ()> {
        self.store.ready()
    }

    fn imported(&self) -> Answer<'_, Vec<DigestScheme>> {
        self.store.imported()
    }

    fn find<'a>(&'a self, candidates: &'a Candidates) -> Answer<'a, Option<Found>> {
        self.store.find(candidates)
    }

    fn token<'a>(&'a self, id: TokenId, owner: Option<&'a SubjectId>) -> Answer<'a, Option<Token>> {
        self.store.token(id, owner)
    }

    fn list<'a>(&'a self, query: &'a TokenQuery) -> Answer<'a, Vec<Token>> {
        self.store.list(query)
    }

    fn expiring<'a>(&'a self, query: &'a ExpiringQuery) -> Answer<'a, Vec<Token>> {
        self.store.expiring(query)
    }

    fn count_matching<'a>(&'a self, filter: &'a TokenFilter, now: Timestamp) -> Answer<'a, u64> {
        self.store.count_matching(filter, now)
    }

    fn subject<'a>(&'a self, id: &'a SubjectId) -> Answer<'a, Option<Subject>> {
        self.store.subject(id)
    }

    fn open_subject<'a>(&'a self, id: &'a SubjectId, now: Timestamp) -> Answer<'a, Subject> {
        self.store.open_subject(id, now)
    }

    fn set_subject_state<'a>(
        &'a self,
        id: &'a SubjectId,
        state: SubjectState,
        now: Timestamp,
    ) -> Answer<'a, Option<Subject>> {
        self.settled(self.store.set_subject_state(id, state, now), |_| true)
    }

    fn subject_changed<'a>(&'a self, id: &'a SubjectId, now: Timestamp) -> Answer<'a, ()> {
        self.settled(self.store.subject_changed(id, now), |_| true)
    }

    fn bump_epoch<'a>(&'a self, bump: &'a Bump, now: Timestamp) -> Answer<'a, bool> {
        self.settled(self.store.bump_epoch(bump, now), |_| true)
    }

    fn issue<'a>(&'a self, issue: &'a Issue, now: Timestamp) -> Answer<'a, IssueOutcome> {
        let write = self.store.issue(issue, now);
        if issue.may_end_tokens() { self.settled(write, IssueOutcome::ends_tokens) } else { write }
    }

    fn rename<'a>(
        &'a self,
        id: TokenId,
        owner: &'a SubjectId,
        kind: Kind,
        name: Option<TokenName>,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        self.store.rename(id, owner, kind, name, now)
    }

    fn renew(&self, id: TokenId, until: Option<Timestamp>, now: Timestamp) -> Answer<'_, RenewOutcome> {
        self.store.renew(id, until, now)
    }

    fn rotate<'a>(&'a self, rotation: &'a Rotation, now: Timestamp) -> Answer<'a, RotateOutcome> {
        self.settled(self.store.rotate(rotation, now), |_| true)
    }

    fn settle_rotation<'a>(&'a self, id: TokenId, successor: &'a TokenDigest, now: Timestamp) -> Answer<'a, ()> {
        self.settled(self.store.settle_rotation(id, successor, now), |_| true)
    }

    fn adopt<'a>(
        &'a self,
        id: TokenId,
        was: (DigestScheme, TokenDigest),
        digest: &'a TokenDigest,
        now: Timestamp,
    ) -> Answer<'a, bool> {
        self.settled(self.store.adopt(id, was, digest, now), |_| true)
    }

    fn revoke<'a>(
        &'a self,
        id: TokenId,
        owner: Option<&'a SubjectId>,
        kind: Option<Kind>,
        now: Timestamp,
    ) -> Answer<'a, RevokeOutcome> {
        self.settled(self.store.revoke(id, owner, kind, now), |_| true)
    }

    fn revoke_matching<'a>(&'a self, filter: &'a TokenFilter, batch: u32, now: Timestamp) -> Answer<'a, u64> {
        self.settled(self.store.revoke_matching(filter, batch, now), |_| true)
    }

    fn touch<'a>(&'a self, touches: &'a [Touch], now: Timestamp) -> Answer<'a, ()> {
        self.store.touch(touches, now)
    }

    fn purge(&self, dead_since: Timestamp, batch: u32) -> Answer<'_, u64> {
        self.store.purge(dead_since, batch)
    }

    fn count_try<'a>(&'a self, subject: Option<&'a SubjectId>, now: Timestamp) -> Answer<'a, Result<(), TryLater>> {
        self.store.count_try(subject, now)
    }

    fn give_back_try<'a>(&'a self, subject: Option<&'a SubjectId>) -> Answer<'a, ()> {
        self.store.give_back_try(subject)
    }

    fn forget_tries<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, ()> {
        self.store.forget_tries(subject)
    }

    fn tries<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, Tries> {
        self.store.tries(subject)
    }

    fn sealed_otherwise<'a>(&'a self, key_id: u32, after: u64, limit: u32) -> Answer<'a, Vec<SealedSecret>> {
        self.store.sealed_otherwise(key_id, after, limit)
    }

    fn sealed_samples(&self, now: Timestamp) -> Answer<'_, Vec<SealedSecret>> {
        self.store.sealed_samples(now)
    }

    fn reseal<'a>(&'a self, was: &'a SealedSecret, sealed: &'a Sealed) -> Answer<'a, bool> {
        self.store.reseal(was, sealed)
    }

    fn client<'a>(&'a self, name: &'a ClientName) -> Answer<'a, Option<Arc<Client>>> {
        self.store.client(name)
    }

    fn clients(&self) -> Answer<'_, Vec<Arc<Client>>> {
        self.store.clients()
    }

    fn create_client<'a>(&'a self, client: &'a NewClient) -> Answer<'a, Option<Arc<Client>>> {
        self.store.create_client(client)
    }

    fn update_client<'a>(&'a self, update: &'a ClientUpdate, now: Timestamp) -> Answer<'a, ClientOutcome> {
        self.settled(self.store.update_client(update, now), |_| true)
    }

    fn delete_client<'a>(&'a self, id: ClientId, now: Timestamp) -> Answer<'a, bool> {
        self.settled(self.store.delete_client(id, now), |_| true)
    }

    fn changes(&self, after: u64, limit: u32) -> Answer<'_, Changes> {
        self.store.changes(after, limit)
    }

    fn news(&self) -> News<'_> {
        self.store.news()
    }

    fn is_shared(&self) -> bool {
        self.store.is_shared()
    }
}
