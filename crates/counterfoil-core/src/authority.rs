//! The one front door: [`Authority`].
//!
//! Whoever wants something of a token, an account or a client calls it here, with the time and where the call came from.
//! It judges; a store makes one atomic transition; an event says what happened. Routes, the command line and imports decide
//! nothing themselves.

mod authenticate;
mod clients;
mod issue;
mod login;
mod tokens;
mod users;

use std::sync::Arc;

pub use authenticate::Authenticating;
pub use clients::ClientOrder;
pub use issue::{Expiry, NewKey, TokenOrder};
pub use login::{LoggedIn, Login};
pub use tokens::{Cursor, Page, PageRequest};
pub use users::Ending;

use crate::client::ClientId;
use crate::client::{ClientName, Lifetime, Policy, Reissue};
use crate::clock::{Now, Timestamp};
use crate::entropy::Entropy;
use crate::event::{Event, EventSink, Occurrence, TokenRef};
use crate::hashing::Hashing;
use crate::marks::Marks;
use crate::password::HashingParams;
use crate::refusal::{Error, Refusal};
use crate::seal::KeyRing;
use crate::secret::{CheckKey, TokenFormat};
use crate::store::{AccountStore, Found, NewClient, StoreError, TokenStore};
use crate::subject::SubjectId;
use crate::throttle::Throttles;
use crate::token::{Authenticated, Metadata, Source, Token};

/// How many marks share a transaction: few enough that a revocation behind them hardly waits.
const FLUSHED_AT_ONCE: usize = 1_000;

/// What an [`Authority`] is made of.
#[derive(Debug)]
pub struct Parts {
    /// Where tokens are kept.
    pub tokens: Arc<dyn TokenStore>,
    /// Where accounts are kept.
    pub accounts: Arc<dyn AccountStore>,
    /// Where passwords are hashed.
    pub hashing: Arc<dyn Hashing>,
    /// Where chance comes from.
    pub entropy: Arc<dyn Entropy>,
    /// Where events go.
    pub events: Arc<dyn EventSink>,
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
}

impl Default for Settings {
    fn default() -> Self {
        const GRACE: Lifetime = match Lifetime::from_seconds(30) {
            Ok(lifetime) => lifetime,
            Err(_) => panic!("30 s is a lifetime"),
        };
        Settings { rotation_grace: GRACE, hashing: HashingParams::default(), retention: Lifetime::DEFAULT }
    }
}

/// Judges what may happen to tokens, accounts and clients. One for each deployment and process; share it in an [`Arc`].
#[derive(Debug)]
pub struct Authority {
    tokens: Arc<dyn TokenStore>,
    accounts: Arc<dyn AccountStore>,
    hashing: Arc<dyn Hashing>,
    entropy: Arc<dyn Entropy>,
    events: Arc<dyn EventSink>,
    ring: Option<KeyRing>,
    settings: Settings,
    format: TokenFormat,
    marks: Marks,
    throttles: Throttles,
    /// A subject that nobody is: what is looked up for a login whose user does not exist.
    nobody: SubjectId,
}

impl Authority {
    /// Opens the deployment kept in the stores of `parts`; a store that has none yet gets a check key and the client named
    /// `default`.
    ///
    /// # Errors
    /// When a store or the source of randomness fails, and with [`Refusal::KeyRingMissing`] where a client hands out sealed
    /// secrets and there is no ring to open them with: a node without it would log nobody in on that client.
    pub async fn open(parts: Parts, now: Now) -> Result<Authority, Error> {
        let Parts { tokens, accounts, hashing, entropy, events, ring, settings } = parts;
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
        let format = TokenFormat::new(newest, keys.collect(), formats.imported);
        if ring.is_none() && tokens.clients().await?.iter().any(|client| client.policy.reissue == Reissue::Same) {
            return Err(Refusal::KeyRingMissing.into());
        }
        let nobody = "-".parse().map_err(|error| StoreError::new("opening the deployment", error))?;
        Ok(Authority {
            tokens,
            accounts,
            hashing,
            entropy,
            events,
            ring,
            settings,
            format,
            marks: Marks::default(),
            throttles: Throttles::default(),
            nobody,
        })
    }

    /// Whether the store can answer and commit.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn ready(&self) -> Result<(), Error> {
        Ok(self.tokens.ready().await?)
    }

    /// What was chosen.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Writes down what was seen of tokens since the last call; to be called about every second and once at the end. What
    /// the store does not take is kept for the next call.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn flush(&self, now: Now) -> Result<usize, Error> {
        let (touches, lost) = self.marks.drain();
        if lost > 0 {
            self.publish(Event::MarksLost(lost), &Source::default(), now.wall);
        }
        for (written, chunk) in touches.chunks(FLUSHED_AT_ONCE).enumerate() {
            if let Err(error) = self.tokens.touch(chunk, now.wall).await {
                self.marks.put_back(touches.into_iter().skip(written * FLUSHED_AT_ONCE));
                return Err(error.into());
            }
        }
        Ok(touches.len())
    }

    /// Forgets the throttles of subjects that are idle, and removes up to `batch` rows that have been dead for longer than the retention; returns how many. To be called until
    /// it returns less than `batch`, with pauses, so that it never holds up a login for long.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn purge(&self, batch: u32, now: Now) -> Result<u64, Error> {
        self.throttles.forget_idle(now);
        let dead_since = now.wall.minus_millis(self.settings.retention.millis());
        Ok(self.tokens.purge(dead_since, batch).await?)
    }

    fn publish(&self, event: Event, source: &Source, at: Timestamp) {
        self.events.publish(&Occurrence { at, source: source.clone(), event });
    }
}

impl From<&Token> for TokenRef {
    fn from(token: &Token) -> TokenRef {
        TokenRef { id: token.id, kind: token.kind, subject: token.subject.clone(), client: token.client.clone() }
    }
}

impl From<&Authenticated> for TokenRef {
    fn from(who: &Authenticated) -> TokenRef {
        TokenRef { id: who.id, kind: who.kind, subject: who.subject.clone(), client: who.client.clone() }
    }
}

impl From<&Found> for TokenRef {
    fn from(found: &Found) -> TokenRef {
        TokenRef { id: found.id, kind: found.kind, subject: found.subject.clone(), client: found.client.name.clone() }
    }
}
