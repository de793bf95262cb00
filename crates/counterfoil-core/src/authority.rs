//! The one front door: [`Authority`].
//!
//! Whoever wants something of a token, an account or a client calls it here, with the time and where the call came from.
//! It judges; a store makes one atomic transition; an event says what happened. Routes, the command line and imports decide
//! nothing themselves.

mod address;
mod authenticate;
mod clients;
mod following;
mod hosts;
mod imports;
mod issue;
mod limits;
mod login;
mod own_account;
mod own_password;
mod pages;
mod post;
mod records;
mod registration;
mod reseal;
mod services;
mod session;
mod staff;
mod tokens;
mod users;

use std::sync::{Arc, PoisonError, RwLock};

pub use address::{ChangeOfAddress, Confirmed, Proof};
pub use authenticate::Authenticating;
pub use clients::{ClientOrder, WhichClient};
pub use following::{CaughtUp, Recalling};
pub use issue::{Expiry, FurtherLogin, NewKey, Others, TokenOrder};
pub use limits::FailedLogins;
pub use login::{Claim, LoggedIn, Login, LoginTerms, Proven, Spelling};
pub use own_password::ChangeOfPassword;
pub use pages::{Cursor, List, Page, PageRequest, Place};
pub use post::{Delivery, Linked, MailParts};
pub use records::{AuditPage, UserExport};
pub use registration::{NewRegistration, Registered, RegistrationTerms};
pub use services::Introspected;
pub use staff::Ending;
pub use tokens::Renewed;

use crate::account_rules::AccountRules;
use crate::actor::{Actor, By};
use crate::audit::AuditLog;
use crate::authority::following::Following;
use crate::authority::limits::Limits;
use crate::authority::post::LoginsNoted;
use crate::cache::Cache;
use crate::client::ClientId;
use crate::client::{ClientName, Lifetime, Policy, Reissue};
use crate::clock::{Now, Timestamp};
use crate::entropy::Entropy;
use crate::event::{Event, EventSink, Occurrence, TokenRef};
use crate::hashing::Hashing;
use crate::hook::BeforeIssuing;
use crate::lease::EVERYWHERE_AFTER_MILLIS;
use crate::marks::Marks;
use crate::password::HashingParams;
use crate::refusal::{Error, Refusal};
use crate::seal::{KeyRing, SealedFor};
use crate::secret::{CheckKey, TokenFormat};
use crate::shared_limits::SharedLimits;
use crate::store::{AccountStore, AuditStore, Found, NewClient, SealedSecret, StoreError, TokenStore};
use crate::subject::SubjectId;
use crate::throttle::{Period, Rate, RouteRates, Throttles};
use crate::token::{Identity, Metadata, Source, Token};

/// How many marks share a transaction: few enough that a revocation behind them hardly waits.
const FLUSHED_AT_ONCE: usize = 1_000;

/// How many lines of the cache are looked through at each flush for tokens that are dead: a million in two minutes.
const TIDIED_AT_ONCE: usize = 4_096;

/// What an [`Authority`] is made of.
#[derive(Debug)]
pub struct Parts {
    /// Where tokens are kept.
    pub tokens: Arc<dyn TokenStore>,
    /// Where accounts are kept.
    pub accounts: Arc<dyn AccountStore>,
    /// Where the audit log is kept; `None`: events go to `events` alone.
    pub audit: Option<Arc<dyn AuditStore>>,
    /// How mail is sent; `None`: none is.
    pub mail: Option<MailParts>,
    /// Where passwords are hashed.
    pub hashing: Arc<dyn Hashing>,
    /// Where chance comes from.
    pub entropy: Arc<dyn Entropy>,
    /// Where events go.
    pub events: Arc<dyn EventSink>,
    /// What the host has to say before a token is made.
    pub hook: Option<Arc<dyn BeforeIssuing>>,
    /// What seals the secrets of clients with `reissue = same`.
    pub ring: Option<KeyRing>,
    /// What the operator may choose.
    pub settings: Settings,
}

/// What the operator may choose.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a rotated secret is still accepted while its successor is unused. 30 s: long enough for a client to try
    /// again after a lost reply, short enough that a thief gains little.
    pub rotation_grace: Lifetime,
    /// How passwords are hashed from now on.
    pub hashing: HashingParams,
    /// How long a dead token is kept for its owner and the operator to look back at.
    pub retention: Lifetime,
    /// How many logins may fail.
    pub failed_logins: FailedLogins,
    /// How many texts from one address may look like imported tokens and be none: each costs a query. 60/m. Matters only
    /// while the store holds imported tokens.
    pub misses: Rate,
    /// How many requests each class of native routes takes.
    pub requests: RouteRates,
    /// What people may do with accounts of their own.
    pub accounts: AccountRules,
    /// How long entries of the audit log are kept. 365d.
    pub audit_retention: Lifetime,
    /// How long entries of the audit log tell address and agent. 90d.
    pub audit_anonymous_after: Lifetime,
}

/// A lifetime that is known when this is compiled.
const fn lifetime(seconds: u64) -> Lifetime {
    match Lifetime::from_seconds(seconds) {
        Ok(lifetime) => lifetime,
        Err(_) => panic!("not a lifetime"),
    }
}

impl Default for Settings {
    fn default() -> Self {
        const GRACE: Lifetime = lifetime(30);
        const YEAR: Lifetime = lifetime(365 * 24 * 60 * 60);
        const QUARTER: Lifetime = lifetime(90 * 24 * 60 * 60);
        Settings {
            rotation_grace: GRACE,
            hashing: HashingParams::default(),
            retention: Lifetime::DEFAULT,
            failed_logins: FailedLogins::default(),
            misses: Rate::per(60, Period::Minute),
            requests: RouteRates::default(),
            accounts: AccountRules::default(),
            audit_retention: YEAR,
            audit_anonymous_after: QUARTER,
        }
    }
}

/// Judges what may happen to tokens, accounts and clients. One for each deployment and process; share it in an [`Arc`].
#[derive(Debug)]
pub struct Authority {
    tokens: Arc<dyn TokenStore>,
    /// What is known of live tokens in this process; kept true by [`Following`].
    cache: Option<Arc<Cache>>,
    accounts: Arc<dyn AccountStore>,
    mail: Option<MailParts>,
    logins_noted: LoginsNoted,
    hashing: Arc<dyn Hashing>,
    entropy: Arc<dyn Entropy>,
    events: Arc<dyn EventSink>,
    hook: Option<Arc<dyn BeforeIssuing>>,
    audit: Option<AuditLog>,
    chosen: RwLock<Arc<Chosen>>,
    format: TokenFormat,
    marks: Marks,
    throttles: Throttles,
    limits: Limits,
    /// A subject that nobody is: what is looked up for a login whose user does not exist.
    nobody: SubjectId,
}

/// What may change while everything runs.
#[derive(Debug)]
struct Chosen {
    settings: Settings,
    ring: Option<KeyRing>,
}

/// What a [`Authority::purge`] has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purged {
    /// Rows of the token store that were removed.
    pub rows: u64,
    /// Whether there may be more to do, there or in the audit log.
    pub more: bool,
}

impl Authority {
    /// Opens the deployment kept in the stores of `parts`; a store that has none yet gets a check key and the client named
    /// `default`.
    ///
    /// # Errors
    /// When a store or the source of randomness fails, and where secrets are sealed that the ring does not open, see
    /// [`Authority::ring_opens`]: a node without it would log nobody in on that client.
    pub async fn open(parts: Parts, now: Now) -> Result<Authority, Error> {
        let authority = Authority::open_beside(parts, now).await?;
        authority.ring_opens(now).await?;
        Ok(authority)
    }

    /// As [`Authority::open`], for a command beside the nodes: a ring that does not open what is sealed will do, since
    /// ending what it sealed is the way on from a ring that was lost.
    ///
    /// # Errors
    /// When a store or the source of randomness fails, and with [`Refusal::KeyRingMissing`] where a client hands out sealed
    /// secrets and there is no ring at all.
    pub async fn open_beside(parts: Parts, now: Now) -> Result<Authority, Error> {
        let Parts { tokens, accounts, audit, mail, hashing, entropy, events, hook, ring, settings } = parts;
        let key = CheckKey::generate(entropy.as_ref())?;
        let default_client = NewClient {
            id: ClientId::generate(now.wall, entropy.as_ref())?,
            name: ClientName::default_client(),
            policy: Policy::default(),
            allow_login: true,
            metadata: Metadata::default(),
            created_at: now.wall,
        };
        let formats = tokens.open(&key, &default_client).await?;
        let mut keys = formats.check_keys.into_iter();
        let newest = keys.next().ok_or_else(|| StoreError::new("opening the deployment", "there is no check key"))?;
        let format = TokenFormat::new(newest, keys.collect(), &formats.imported);
        ring_is_there(ring.as_ref(), tokens.as_ref()).await?;
        let nobody = "-".parse().map_err(|error| StoreError::new("opening the deployment", error))?;
        Ok(Authority {
            tokens,
            cache: None,
            accounts,
            mail,
            logins_noted: LoginsNoted::default(),
            hashing,
            entropy,
            events,
            hook,
            audit: audit.map(AuditLog::new),
            chosen: RwLock::new(Arc::new(Chosen { settings, ring })),
            format,
            marks: Marks::default(),
            throttles: Throttles::default(),
            limits: Limits::default(),
            nobody,
        })
    }

    /// The same, answering from `cache` what it may. Nothing is answered from it until [`Authority::follow`] is called, and
    /// never for longer than a lease after the last call.
    #[must_use]
    pub fn with_cache(self, cache: Cache) -> Authority {
        let cache = Arc::new(cache);
        let tokens = Arc::new(Following::of(self.tokens, Arc::clone(&cache)));
        Authority { tokens, cache: Some(cache), ..self }
    }

    /// The same, counting together with all nodes that share these limits. What goes beyond a rate here is refused as ever,
    /// without asking; and where `shared` has no answer, what was counted here decides. A request of a client with a throttle is
    /// then never answered by [`Authority::try_cached`].
    #[must_use]
    pub fn with_shared_limits(mut self, shared: Arc<dyn SharedLimits>) -> Authority {
        self.limits.share(shared);
        self
    }

    /// What is known of live tokens in this process, if anything is kept.
    pub fn cache(&self) -> Option<&Cache> {
        self.cache.as_deref()
    }

    /// Takes in what has changed in the store, by whomever, and extends the lease of the cache; to be called every quarter of
    /// a second, and after [`Authority::news`], with the time read right before.
    ///
    /// # Errors
    /// When the store fails; then the lease runs out, and every request asks the store.
    pub async fn follow(&self, now: Now) -> Result<CaughtUp, Error> {
        match &self.cache {
            Some(cache) => {
                let clock = following::follow(cache, self.tokens.as_ref(), now.boot).await?;
                Ok(CaughtUp { doubt: cache.take_doubt(), clock })
            }
            None if self.tokens.is_shared() => {
                let head = self.tokens.changes(i64::MAX.unsigned_abs(), 0).await?;
                Ok(CaughtUp { doubt: None, clock: head.clock })
            }
            None => Ok(CaughtUp::default()),
        }
    }

    /// Completes when somebody else may have changed something in the store: see [`TokenStore::news`].
    pub async fn news(&self) {
        self.tokens.news().await;
    }

    /// Whether other processes may answer for tokens from what they know of the store.
    pub fn is_shared(&self) -> bool {
        self.tokens.is_shared()
    }

    /// How long after something was ended no process can still answer for it from memory: the lease and a little more, for clocks
    /// that do not run alike; nothing where no other process does.
    pub fn everywhere_after_millis(&self) -> u64 {
        if self.tokens.is_shared() { EVERYWHERE_AFTER_MILLIS } else { 0 }
    }

    /// How far behind the store this process may be, while it answers from memory; `None` while it does not.
    pub fn recalling(&self, now: Now) -> Option<Recalling> {
        let (change, age_millis) = self.cache.as_ref()?.reached(now)?;
        Some(Recalling { change, age_millis })
    }

    /// Answers nothing from memory until [`Authority::follow`] is called again: for the one who stops calling it.
    pub fn stop_recalling(&self) {
        if let Some(cache) = &self.cache {
            cache.suspend();
        }
    }

    /// Whether the store can answer and commit.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn ready(&self) -> Result<(), Error> {
        Ok(self.tokens.ready().await?)
    }

    /// What was chosen.
    pub fn settings(&self) -> Settings {
        self.chosen().settings.clone()
    }

    /// Goes by other settings and another ring from now on; what is under way ends by those it began with.
    ///
    /// # Errors
    /// As [`Authority::ring_opens`] of the other ring; then nothing changes.
    pub async fn adopt(&self, settings: Settings, ring: Option<KeyRing>, now: Now) -> Result<(), Error> {
        ring_is_there(ring.as_ref(), self.tokens.as_ref()).await?;
        opens_what_is_sealed(ring.as_ref(), self.tokens.as_ref(), now).await?;
        *self.chosen.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Chosen { settings, ring });
        Ok(())
    }

    /// Whether the ring has every key that secrets of live tokens are sealed with. One of each is opened, so that another
    /// key of the same number is found out.
    ///
    /// # Errors
    /// [`Refusal::KeyRingMissing`] where there is no ring; [`Error::Unseal`] where it lacks a key or has another one; when
    /// the store fails.
    pub async fn ring_opens(&self, now: Now) -> Result<(), Error> {
        opens_what_is_sealed(self.chosen().ring.as_ref(), self.tokens.as_ref(), now).await
    }

    fn chosen(&self) -> Arc<Chosen> {
        Arc::clone(&self.chosen.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes down what was seen of tokens, and what is for the audit log, since the last call, and looks whether another process
    /// has brought tokens of other systems; to be called about every second and once at the end. What the store does not take is kept for the next call.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn flush(&self, now: Now) -> Result<usize, Error> {
        let (touches, lost) = self.marks.drain();
        if lost > 0 {
            self.publish(Event::MarksLost(lost), Actor::Deployment, &Source::default(), now.wall);
        }
        for (written, chunk) in touches.chunks(FLUSHED_AT_ONCE).enumerate() {
            if let Err(error) = self.tokens.touch(chunk, now.wall).await {
                self.marks.put_back(touches.into_iter().skip(written * FLUSHED_AT_ONCE));
                return Err(error.into());
            }
        }
        if let Some(cache) = &self.cache {
            cache.tidy(TIDIED_AT_ONCE, now.wall);
        }
        self.accept_imported().await?;
        self.write_audit(now).await?;
        Ok(touches.len())
    }

    /// Forgets the limits of whoever is idle, and removes up to `batch` rows that have been dead for longer than the
    /// retention, as many of the audit log, and of links that were never used. To be called until there is no more, with pauses, so that it never holds up
    /// a login for long.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn purge(&self, batch: u32, now: Now) -> Result<Purged, Error> {
        self.throttles.forget_idle(now);
        self.limits.forget_idle(now);
        let Settings { retention, audit_retention, audit_anonymous_after, .. } = self.settings();
        let before = |age: Lifetime| now.wall.minus_millis(age.millis());
        let rows = self.tokens.purge(before(retention), batch).await?;
        let forgotten = match &self.audit {
            Some(audit) => audit.store().forget(before(audit_retention), before(audit_anonymous_after), batch).await?,
            None => 0,
        };
        let expired = self.forget_expired_links(batch, now).await?;
        Ok(Purged { rows, more: rows.max(forgotten).max(expired) >= batch.into() })
    }

    /// Forgets up to `batch` links that have expired, and as many registrations, and returns how many of both; [`Authority::purge`]
    /// does it now and then.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget_expired_links(&self, batch: u32, now: Now) -> Result<u64, Error> {
        match &self.mail {
            Some(mail) => Ok(mail.store.forget_expired(now.wall, batch).await?),
            None => Ok(0),
        }
    }

    /// Writes what is for the audit log and was published so far.
    async fn write_audit(&self, now: Now) -> Result<(), Error> {
        match &self.audit {
            Some(audit) => Ok(audit.write(now.wall).await?),
            None => Ok(()),
        }
    }

    fn publish(&self, event: Event, actor: Actor, source: &Source, at: Timestamp) {
        let occurrence = Occurrence { at, actor, source: source.clone(), event };
        self.events.publish(&occurrence);
        if let Some(audit) = &self.audit {
            audit.note(&occurrence);
        }
    }

    /// Tells what was done on an order, and sees it written into the audit log before the order is acknowledged.
    ///
    /// # Errors
    /// When the entry was not written; the text says that the order was carried out all the same.
    async fn record(&self, event: Event, by: &By, now: Now) -> Result<(), Error> {
        const DOING: &str = "writing into the audit log what was ordered and is done";
        self.publish(event, by.actor.clone(), &by.source, now.wall);
        match &self.audit {
            Some(audit) => Ok(audit.write(now.wall).await.map_err(|error| StoreError::new(DOING, error))?),
            None => Ok(()),
        }
    }

    /// As [`Authority::record`], for what ends tokens: it holds, and on a full disk it holds alone. To answer that it failed
    /// would be untrue, so the entry waits for the next flush; and so it does where the store was just found out of reach, which
    /// would keep the acknowledgement waiting for as long again.
    async fn record_ending(&self, event: Event, by: &By, now: Now) {
        self.publish(event, by.actor.clone(), &by.source, now.wall);
        let is_in_doubt = self.cache.as_ref().is_some_and(|cache| cache.reached(now).is_none());
        if !is_in_doubt {
            self.write_audit(now).await.ok();
        }
    }
}

/// A node without the ring would log nobody in on a client that hands out sealed secrets.
async fn ring_is_there(ring: Option<&KeyRing>, tokens: &dyn TokenStore) -> Result<(), Error> {
    if ring.is_none() && tokens.clients().await?.iter().any(|client| client.policy.reissue == Reissue::Same) {
        return Err(Refusal::KeyRingMissing.into());
    }
    Ok(())
}

/// See [`Authority::ring_opens`].
async fn opens_what_is_sealed(ring: Option<&KeyRing>, tokens: &dyn TokenStore, now: Now) -> Result<(), Error> {
    for SealedSecret { token, subject, client, digest, sealed, .. } in tokens.sealed_samples(now.wall).await? {
        let ring = ring.ok_or(Refusal::KeyRingMissing)?;
        ring.open(&sealed, SealedFor { token, subject: &subject, client }, &digest)?;
    }
    Ok(())
}

impl From<&Token> for TokenRef {
    fn from(token: &Token) -> TokenRef {
        TokenRef { id: token.id, kind: token.kind, subject: token.subject.clone(), client: token.client.clone() }
    }
}

impl From<&Identity> for TokenRef {
    fn from(who: &Identity) -> TokenRef {
        TokenRef { id: who.id, kind: who.kind, subject: who.subject.clone(), client: who.client.clone() }
    }
}

impl From<&Found> for TokenRef {
    fn from(found: &Found) -> TokenRef {
        TokenRef { id: found.id, kind: found.kind, subject: found.subject.clone(), client: found.client.name.clone() }
    }
}

impl From<&Token> for Identity {
    fn from(token: &Token) -> Identity {
        Identity {
            id: token.id,
            kind: token.kind,
            subject: token.subject.clone(),
            client: token.client.clone(),
            abilities: token.abilities.clone(),
            issued_at: token.issued_at,
            expires_at: token.expires_at,
        }
    }
}

impl From<&Found> for Identity {
    fn from(found: &Found) -> Identity {
        Identity {
            id: found.id,
            kind: found.kind,
            subject: found.subject.clone(),
            client: found.client.name.clone(),
            abilities: found.abilities.clone(),
            issued_at: found.issued_at,
            expires_at: found.expires_at,
        }
    }
}
