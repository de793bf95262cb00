//! What a store must do: [`TokenStore`] and [`AccountStore`], two traits because an embedding service may bring its own
//! users and still keep its tokens with us; [`MailStore`] for what goes out by mail, and [`AuditStore`].
//!
//! # The contract
//!
//! Each clause is a test of `conformance`, which every store runs.
//!
//! 1. Each method is one atomic transition: all of it happened or none of it. A write that follows a read restates its
//!    condition, so that what was judged still holds when it is written.
//! 2. Time comes in. A store never reads a clock.
//! 3. A store never sees the text of a secret. A sealed one is opaque to it.
//! 4. Absence and conflict are values. `Err` means that the backend failed, and keeps the cause.
//! 5. Touching and renewing never revive a token and never shorten its life.
//! 6. No method has a default body: what a store forgets does not compile.
//! 7. A revocation is visible to the next `find`. Every write that can turn a yes into a no, or change what an answer
//!    says, is in the change log, in the order of commits, naming what it ends.
//! 8. Racers never break a rule: a cap is never exceeded, revoking beats renewing, and deleting, logging out everywhere
//!    and changing the password beat a login under way.
//!
//! Who locks, locks in one order: subject, client, tokens by id, change log.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use crate::ability::Abilities;
use crate::account::{Account, AccountChange, Credentials, Email, LoginName, Role};
use crate::actor::Actor;
use crate::attempts::{Tries, TryLater};
use crate::audit::Entry;
use crate::client::{Cap, Client, ClientId, ClientName, Policy, Reissue};
use crate::clock::Timestamp;
use crate::link::{Link, Purpose};
use crate::mail::{MailId, MailOrder, Registration, Waiting};
use crate::password::{Cost, EncodedPassword};
use crate::seal::Sealed;
use crate::secret::{Candidates, CheckKey, DigestScheme, TokenDigest};
use crate::subject::{Epoch, Epochs, Subject, SubjectId, SubjectState};
use crate::token::{self, Kind, Metadata, Sighting, Source, Standing, Token, TokenId, TokenName};
use crate::username::{Distinct, Username};

/// What a store method returns: a boxed future, so that stores live behind `dyn`.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// What [`TokenStore::news`] returns.
pub type News<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// The backend failed. Never says anything about the thing that was asked for.
#[derive(Debug)]
pub struct StoreError {
    doing: &'static str,
    source: Box<dyn Error + Send + Sync>,
}

impl StoreError {
    /// While `doing` (a verb in the progressive: "issuing a token"), `source` happened.
    pub fn new(doing: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
        StoreError { doing, source: source.into() }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store failed while {}", self.doing)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.source.as_ref())
    }
}

/// Tokens, subjects, clients, epochs, check keys and the change log.
pub trait TokenStore: Send + Sync + fmt::Debug {
    /// Keeps `key` and makes the default client, each only where the store has none yet; then tells what the token format
    /// of this deployment is. N nodes that start at once agree.
    fn open<'a>(&'a self, key: &'a CheckKey, default_client: &'a NewClient) -> Answer<'a, Formats>;

    /// Whether the store can answer and commit right now.
    fn ready(&self) -> Answer<'_, ()>;

    /// Which schemes without our check have tokens, dead ones included: see [`Formats::imported`].
    fn imported(&self) -> Answer<'_, Vec<DigestScheme>>;

    // ── Look-ups ────────────────────────────────────────────────────────────────────────────────────────────────────

    /// The token with one of these digests, whatever its standing, with everything its standing depends on, read in one
    /// snapshot. A retired secret finds its token too. An imported digest matches only under its own scheme.
    fn find<'a>(&'a self, candidates: &'a Candidates) -> Answer<'a, Option<Found>>;

    /// One record, whatever its standing. With an `owner`, only theirs.
    fn token<'a>(&'a self, id: TokenId, owner: Option<&'a SubjectId>) -> Answer<'a, Option<Token>>;

    /// A page of records in ascending order of their numbers.
    fn list<'a>(&'a self, query: &'a TokenQuery) -> Answer<'a, Vec<Token>>;

    /// A page of records that were not revoked, in the order in which they expire.
    fn expiring<'a>(&'a self, query: &'a ExpiringQuery) -> Answer<'a, Vec<Token>>;

    /// How many tokens of `filter` are live at `now`, be their subjects active or not: what
    /// [`TokenStore::revoke_matching`] would end.
    fn count_matching<'a>(&'a self, filter: &'a TokenFilter, now: Timestamp) -> Answer<'a, u64>;

    // ── Subjects ────────────────────────────────────────────────────────────────────────────────────────────────────

    /// The subject of that name, if any token or account ever stood for it.
    fn subject<'a>(&'a self, id: &'a SubjectId) -> Answer<'a, Option<Subject>>;

    /// Makes the subject where there is none, active and at epoch 0; returns it as it stands. A buried one stays buried.
    fn open_subject<'a>(&'a self, id: &'a SubjectId, now: Timestamp) -> Answer<'a, Subject>;

    /// Sets the state; `None` where there is no such subject or it is buried already. Logged.
    fn set_subject_state<'a>(
        &'a self,
        id: &'a SubjectId,
        state: SubjectState,
        now: Timestamp,
    ) -> Answer<'a, Option<Subject>>;

    /// Notes in the change log that what an answer says of this subject's account has changed.
    fn subject_changed<'a>(&'a self, id: &'a SubjectId, now: Timestamp) -> Answer<'a, ()>;

    /// Bumps one row's epoch and so ends every token stamped before; returns whether there is such a row. Logged.
    fn bump_epoch<'a>(&'a self, bump: &'a Bump, now: Timestamp) -> Answer<'a, bool>;

    // ── Tokens ──────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Adds a token if everything that `issue` restates still holds; evicts, replaces or finds the same one as it says.
    fn issue<'a>(&'a self, issue: &'a Issue, now: Timestamp) -> Answer<'a, IssueOutcome>;

    /// Gives a token of this owner another name, or none; `None` where there is no live one.
    fn rename<'a>(
        &'a self,
        id: TokenId,
        owner: &'a SubjectId,
        kind: Kind,
        name: Option<TokenName>,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>>;

    /// Moves the expiry of a live token of an active subject on to `until` (`None`: for ever) and never back.
    fn renew(&self, id: TokenId, until: Option<Timestamp>, now: Timestamp) -> Answer<'_, RenewOutcome>;

    /// Gives a live token of an active subject a new secret, if the presented one may still be exchanged. Logged.
    fn rotate<'a>(&'a self, rotation: &'a Rotation, now: Timestamp) -> Answer<'a, RotateOutcome>;

    /// Notes that `successor` has been used, which ends the grace of the secret before it for good: a clock that is set back
    /// does not open it again. Does nothing where `successor` is no longer the token's secret. Logged, because the old secret turns from yes to no.
    fn settle_rotation<'a>(&'a self, id: TokenId, successor: &'a TokenDigest, now: Timestamp) -> Answer<'a, ()>;

    /// Replaces what is kept of an imported secret by the digest of its text, under [`DigestScheme::PlainText`], where the token has
    /// still the one that was found; whether it was replaced. Logged under the digest before, by which it may be known.
    fn adopt<'a>(
        &'a self,
        id: TokenId,
        was: (DigestScheme, TokenDigest),
        digest: &'a TokenDigest,
        now: Timestamp,
    ) -> Answer<'a, bool>;

    /// Revokes one token, of this owner and kind where they are named. Logged unless it was dead already by revocation.
    fn revoke<'a>(
        &'a self,
        id: TokenId,
        owner: Option<&'a SubjectId>,
        kind: Option<Kind>,
        now: Timestamp,
    ) -> Answer<'a, RevokeOutcome>;

    /// Revokes tokens of `filter` that are live at `now`, be their subjects active or not, in order of their numbers, at
    /// most `batch` of them, and returns how many: fewer than `batch` once none is left. Logged.
    fn revoke_matching<'a>(&'a self, filter: &'a TokenFilter, batch: u32, now: Timestamp) -> Answer<'a, u64>;

    /// Writes down where tokens were seen and moves sliding expiries on, all in one transaction. Each renewal is
    /// conditional as [`TokenStore::renew`] is. Tokens that are gone are passed over.
    fn touch<'a>(&'a self, touches: &'a [Touch], now: Timestamp) -> Answer<'a, ()>;

    /// Removes what has been dead since `dead_since` or longer, at most `batch` rows, and returns how many: tokens revoked,
    /// expired or outlived by an epoch; retired secrets; and change-log rows but the newest
    /// [`CHANGES_KEPT`].
    fn purge(&self, dead_since: Timestamp, batch: u32) -> Answer<'_, u64>;

    // ── Failed logins ─────────────────────────────────────────────────────────────────────────────────────────────────

    /// Counts a try at the password of `subject`, if one may be made at `now`: see [`Tries::judge`]. It counts as failed
    /// before the password is looked at, so that N racers never try more often than is allowed, and a crash forgets none.
    ///
    /// `None` is a name that nobody has: nothing is kept of it, nothing refused, and it takes as long.
    fn count_try<'a>(&'a self, subject: Option<&'a SubjectId>, now: Timestamp) -> Answer<'a, Result<(), TryLater>>;

    /// Takes one counted try back, because the password was not looked at after all. `None` as in
    /// [`TokenStore::count_try`]: nothing, and it takes as long.
    fn give_back_try<'a>(&'a self, subject: Option<&'a SubjectId>) -> Answer<'a, ()>;

    /// Forgets the failed tries: the password proved right, or was replaced. Issuing on [`Warrant::Password`] forgets them
    /// in its own transition, and burying a subject does.
    fn forget_tries<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, ()>;

    /// The tries that have failed since one went well.
    fn tries<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, Tries>;

    // ── Sealed secrets ────────────────────────────────────────────────────────────────────────────────────────────────

    /// A page of secrets that are sealed with another key than `key_id`, in ascending order of their tokens' numbers. What
    /// was revoked by itself keeps none.
    fn sealed_otherwise<'a>(&'a self, key_id: u32, after: u64, limit: u32) -> Answer<'a, Vec<SealedSecret>>;

    /// Of the secrets of tokens that are live at `now`, one for each key that they are sealed with, in ascending order of
    /// the keys' numbers: whoever opens these has a ring to open all with.
    fn sealed_samples(&self, now: Timestamp) -> Answer<'_, Vec<SealedSecret>>;

    /// Replaces the sealed form of a secret, where it is still the one that was read; whether it was.
    fn reseal<'a>(&'a self, was: &'a SealedSecret, sealed: &'a Sealed) -> Answer<'a, bool>;

    // ── Clients ─────────────────────────────────────────────────────────────────────────────────────────────────────

    /// The client of that name.
    fn client<'a>(&'a self, name: &'a ClientName) -> Answer<'a, Option<Arc<Client>>>;

    /// Every client, by name. There are tens of them, not millions.
    fn clients(&self) -> Answer<'_, Vec<Arc<Client>>>;

    /// Adds a client; `None` where the name is taken.
    fn create_client<'a>(&'a self, client: &'a NewClient) -> Answer<'a, Option<Arc<Client>>>;

    /// Replaces what may change of a client, if it is still at `version`; its version grows. Logged.
    fn update_client<'a>(&'a self, update: &'a ClientUpdate, now: Timestamp) -> Answer<'a, ClientOutcome>;

    /// Removes a client and every token of it; `false` where there is none. Logged.
    fn delete_client<'a>(&'a self, id: ClientId, now: Timestamp) -> Answer<'a, bool>;

    // ── Change log ──────────────────────────────────────────────────────────────────────────────────────────────────

    /// The head of the log and, in order, up to `limit` changes after number `after`, read in one snapshot. What is looked
    /// up once this has answered is no older than that snapshot: a cache relies on it.
    fn changes(&self, after: u64, limit: u32) -> Answer<'_, Changes>;

    /// Completes when somebody else may have changed something: a hint, which may come late, twice or never, so that who
    /// follows the log need not wait for the next time it asks anyway. Never, where a store has no such word.
    fn news(&self) -> News<'_>;

    /// Whether other processes may answer for tokens from what they know of this store.
    fn is_shared(&self) -> bool;
}

/// How many changes survive a purge, however old they are.
pub const CHANGES_KEPT: u64 = 10_000;

/// What the texts of tokens look like in this deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formats {
    /// The keys of the check, newest first; never empty.
    pub check_keys: Vec<CheckKey>,
    /// Schemes without our check that still have tokens.
    pub imported: Vec<DigestScheme>,
}

/// A token that was found by a digest, with all that its standing depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its public name.
    pub id: TokenId,
    /// Login token or API key.
    pub kind: Kind,
    /// Whom it stands for.
    pub subject: SubjectId,
    /// Whether that subject's tokens are accepted.
    pub subject_state: SubjectState,
    /// The client it was issued on, as it is now.
    pub client: Arc<Client>,
    /// What it may do.
    pub abilities: Abilities,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// The first instant at which it is dead.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked by itself.
    pub revoked_at: Option<Timestamp>,
    /// The epochs it was stamped with.
    pub stamped: Epochs,
    /// The epochs as they stand.
    pub current: Epochs,
    /// The digest that was found: one of the candidates.
    pub digest: TokenDigest,
    /// Which of the token's secrets was presented.
    pub presented: Presented,
}

impl Found {
    /// Whoever presents it.
    pub fn holder(&self) -> Actor {
        Actor::Holder { subject: self.subject.clone(), token: self.id }
    }

    /// Whether the token is live at `now`.
    pub fn standing(&self, now: Timestamp) -> Standing {
        token::standing(self.revoked_at, self.expires_at, &self.stamped, &self.current, now)
    }
}

/// Which of a token's secrets was presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presented {
    /// The one it has.
    Current,
    /// The one it has, for the first time since a rotation whose grace is still open.
    Successor,
    /// One it gave up, accepted before this instant and never again from then on.
    Retired {
        /// The end of the grace: the first instant at which it counts as reuse.
        grace_until: Timestamp,
    },
    /// One that was handed out by a rotation, never used, and taken back by the next rotation.
    TakenBack,
}

/// Which tokens are meant. What is `None` does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenFilter {
    /// Whose.
    pub subject: Option<SubjectId>,
    /// On which client.
    pub client: Option<ClientName>,
    /// Of which kind.
    pub kind: Option<Kind>,
    /// Only those issued before this instant.
    pub issued_before: Option<Timestamp>,
    /// Only those last used before this instant; one that never was counts as used when it was issued.
    pub used_before: Option<Timestamp>,
    /// Only those that were first or last seen at this address.
    pub ip: Option<IpAddr>,
}

impl TokenFilter {
    /// All of this subject's.
    pub fn of(subject: SubjectId) -> TokenFilter {
        TokenFilter { subject: Some(subject), ..TokenFilter::default() }
    }
}

/// Which tokens to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenQuery {
    /// Which ones.
    pub filter: TokenFilter,
    /// Only those that are live at this instant and whose subject is active; `None`: dead ones too.
    pub live_at: Option<Timestamp>,
    /// Only numbers greater than this.
    pub after: u64,
    /// At most so many.
    pub limit: u32,
}

/// Which tokens to list by when they end. Those of subjects that are not active, and those that an epoch has outlived, are on
/// the list as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpiringQuery {
    /// Only those that expire at or after this instant.
    pub from: Timestamp,
    /// Only those that expire before this one.
    pub until: Timestamp,
    /// Only those behind this one: of that expiry and number.
    pub after: Option<(Timestamp, u64)>,
    /// At most so many.
    pub limit: u32,
}

/// Whose epoch to bump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bump {
    /// One subject's.
    Subject {
        /// Whose.
        id: SubjectId,
        /// Whether its API keys die too.
        keys_too: bool,
        /// A token of this subject to restamp, if it was live but for the bump itself. Never revives.
        keep: Option<TokenId>,
    },
    /// One client's: all its tokens of either kind.
    Client(ClientId),
    /// Everybody's: all tokens of either kind.
    Deployment,
}

/// A token to be added, and what must still be true when it is.
#[derive(Debug, Clone)]
pub struct Issue {
    /// Its public name.
    pub id: TokenId,
    /// Login token or API key.
    pub kind: Kind,
    /// Whom it stands for; must exist and be active.
    pub subject: SubjectId,
    /// The client it is issued on.
    pub client: ClientId,
    /// The version of the client that this was judged by.
    pub client_version: u64,
    /// What gives the right to issue.
    pub warrant: Warrant,
    /// What its owner calls it.
    pub name: Option<TokenName>,
    /// What it may do.
    pub abilities: Abilities,
    /// The host's own facts.
    pub metadata: Metadata,
    /// The first instant at which it is dead.
    pub expires_at: Option<Timestamp>,
    /// What is kept of its secret.
    pub digest: TokenDigest,
    /// How the digest was made.
    pub scheme: DigestScheme,
    /// The secret sealed, for a client with `reissue = same`.
    pub sealed: Option<Sealed>,
    /// Where the request came from.
    pub source: Source,
    /// How many live login tokens the subject may have on the client, this one included. Ignored for keys.
    pub cap: Option<Cap>,
    /// What becomes of the live login tokens that the subject has there already. Ignored for keys.
    pub reissue: Reissue,
}

impl Issue {
    /// Whether it may end other tokens, by a cap or in their place.
    pub fn may_end_tokens(&self) -> bool {
        match self.kind {
            Kind::Login => self.cap.is_some() || self.reissue != Reissue::New,
            Kind::Key => false,
        }
    }
}

/// What gives the right to issue a token; restated in the transition that does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warrant {
    /// A password that was checked after the subject stood at this epoch.
    Password(Epoch),
    /// A token of the same subject, which must be live.
    Token(TokenId),
    /// The operator or the host.
    Operator,
}

/// What became of an [`Issue`].
#[derive(Debug, Clone)]
pub enum IssueOutcome {
    /// The token exists.
    Issued {
        /// Its record.
        token: Box<Token>,
        /// Whether the subject had never had a token before.
        first_of_subject: bool,
        /// Tokens that the cap or a replacement ended.
        ended: Vec<TokenId>,
    },
    /// `reissue = same`: this one is live already. Nothing was added.
    Same {
        /// Its record.
        token: Box<Token>,
        /// Its secret, sealed.
        sealed: Sealed,
        /// What its secret must hash to.
        digest: TokenDigest,
    },
    /// The subject has as many live tokens as the cap allows, and the policy is to refuse.
    CapReached,
    /// The epoch has moved or the maker's token has died: the right to issue is gone.
    WarrantVoid,
    /// The subject does not exist, is disabled or is buried.
    SubjectInactive,
    /// The client has changed or gone since it was read: judge anew.
    ClientChanged,
    /// A token with this digest or id exists, or existed: take another secret.
    Taken,
}

impl IssueOutcome {
    /// Whether a token was ended by it.
    pub fn ends_tokens(&self) -> bool {
        match self {
            IssueOutcome::Issued { ended, .. } => !ended.is_empty(),
            IssueOutcome::Same { .. }
            | IssueOutcome::CapReached
            | IssueOutcome::WarrantVoid
            | IssueOutcome::SubjectInactive
            | IssueOutcome::ClientChanged
            | IssueOutcome::Taken => false,
        }
    }
}

/// What became of a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenewOutcome {
    /// It lives until then; `None`: for ever. Never earlier than before.
    Renewed(Option<Timestamp>),
    /// It is dead, its subject is not active, or there is no such token.
    Dead,
}

/// A secret to be exchanged.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// The token.
    pub id: TokenId,
    /// The secret that its client presented.
    pub presented: TokenDigest,
    /// The new one.
    pub successor: TokenDigest,
    /// The new one sealed, where the client keeps it so.
    pub sealed: Option<Sealed>,
    /// When a presented current secret stops being accepted.
    pub grace_until: Timestamp,
}

/// What became of a [`Rotation`].
#[derive(Debug, Clone)]
pub enum RotateOutcome {
    /// The successor is the token's secret now. A successor from before that was never used has been taken back.
    Rotated(Box<Token>),
    /// The presented secret may not be exchanged: it is neither current nor in a grace whose successor is unused, or the
    /// token is dead, or its subject not active.
    Dead,
    /// A token with the new digest exists: take another secret.
    Taken,
}

/// What became of a revocation.
#[derive(Debug, Clone)]
pub enum RevokeOutcome {
    /// It is dead now, and was not revoked before.
    Revoked(Box<Token>),
    /// It had been revoked, or outlived by an epoch, already.
    AlreadyRevoked,
    /// There is no such token, or it is not the owner's.
    Unknown,
}

/// A token was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    /// Which.
    pub id: TokenId,
    /// When and where from.
    pub seen: Sighting,
    /// Where its expiry slides to, if it slides.
    pub renew_until: Option<Timestamp>,
}

/// A sealed secret with what it is bound to and must hash to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSecret {
    /// The number of the token.
    pub number: u64,
    /// The token.
    pub token: TokenId,
    /// Whom it stands for.
    pub subject: SubjectId,
    /// The client it was issued on.
    pub client: ClientId,
    /// What its secret hashes to.
    pub digest: TokenDigest,
    /// The secret, sealed.
    pub sealed: Sealed,
}

/// A client to be added.
#[derive(Debug, Clone, PartialEq)]
pub struct NewClient {
    /// Its name in the store.
    pub id: ClientId,
    /// What people call it.
    pub name: ClientName,
    /// Its rules.
    pub policy: Policy,
    /// Whether anyone may log in on it.
    pub allow_login: bool,
    /// The host's own facts.
    pub metadata: Metadata,
    /// When it is made.
    pub created_at: Timestamp,
}

/// A client's new rules.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientUpdate {
    /// Which.
    pub id: ClientId,
    /// The version that was read.
    pub version: u64,
    /// What people call it from now on.
    pub name: ClientName,
    /// Its rules from now on.
    pub policy: Policy,
    /// Whether anyone may log in on it.
    pub allow_login: bool,
}

/// What became of a [`ClientUpdate`].
#[derive(Debug, Clone)]
pub enum ClientOutcome {
    /// As it is now.
    Updated(Arc<Client>),
    /// It has changed or gone since it was read: judge anew.
    Changed,
    /// Another client has this name.
    NameTaken,
}

/// The change log from some number on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Which life of the store this is; another one means that it was restored or replaced.
    pub incarnation: [u8; 16],
    /// The number of the newest change; 0 when there is none.
    pub head: u64,
    /// Changes in ascending order. Their numbers are contiguous; a gap after `after` means that the log was trimmed.
    pub rows: Vec<Change>,
    /// The date by the store's own clock when it answered, where that is another machine's: nodes that go by it judge every
    /// expiry alike. `None`: it has none of its own.
    pub clock: Option<Timestamp>,
}

/// One change that a cache must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its place in the order of commits, from 1, without gaps.
    pub number: u64,
    /// Random: the same number with another tag means that history was rewritten.
    pub tag: u64,
    /// When.
    pub at: Timestamp,
    /// What it ends or alters.
    pub what: Changed,
}

/// What a change ends or alters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// The tokens with these digests.
    Tokens(Vec<TokenDigest>),
    /// Every token of this subject.
    Subject(SubjectId),
    /// Every token of this client.
    Client(ClientId),
    /// Every token.
    Everything,
}

/// Accounts: subjects that log in with a password kept here. An embedding service may bring its own.
pub trait AccountStore: Send + Sync + fmt::Debug {
    /// Adds an account; `false` where its subject is in use, or its user name or one that folds alike; with
    /// [`Distinct::ByLook`] also one that looks alike.
    fn create<'a>(
        &'a self,
        account: &'a Account,
        password: &'a EncodedPassword,
        distinct: Distinct,
    ) -> Answer<'a, bool>;

    /// Whether an account has a name that people could take for this one: see [`Username::looks_like`]. Said early to whoever
    /// wants the name; [`AccountStore::create`] restates it.
    fn has_lookalike<'a>(&'a self, name: &'a Username) -> Answer<'a, bool>;

    /// Every account that `name` could mean: of that user name exactly, or folded, or with that confirmed address folded.
    /// At most eight; [`LoginName::choose`] decides.
    fn named<'a>(&'a self, name: &'a LoginName) -> Answer<'a, Vec<Credentials>>;

    /// The account of this subject.
    fn account<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, Option<Credentials>>;

    /// A page of accounts in the order of their user names, folded and then exact, from behind `after` on: an import may
    /// have brought names that differ by case alone, and a page must not end between them for good.
    fn accounts<'a>(&'a self, query: &'a AccountQuery) -> Answer<'a, Vec<Account>>;

    /// Whether any account has this role.
    fn has_role(&self, role: Role) -> Answer<'_, bool>;

    /// The greatest whole number that is the subject of an account, below 2⁵³; 0 where there is none.
    fn greatest_number(&self) -> Answer<'_, u64>;

    /// The different costs of the passwords kept here, so that a refusal can be made as dear as the dearest.
    fn password_costs(&self) -> Answer<'_, Vec<Cost>>;

    /// Sets the password; with `expected`, only where it is still that one. Returns whether it was set.
    fn set_password<'a>(
        &'a self,
        subject: &'a SubjectId,
        expected: Option<&'a EncodedPassword>,
        password: &'a EncodedPassword,
    ) -> Answer<'a, bool>;

    /// Makes all of `changes`; the account as it is now, or `None` where there is none.
    fn change<'a>(&'a self, subject: &'a SubjectId, changes: &'a [AccountChange]) -> Answer<'a, Option<Account>>;

    /// Removes the account; whether there was one.
    fn delete<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, bool>;
}

/// Which accounts to list. What is `None` does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccountQuery {
    /// Only those whose user name begins with this, in any case.
    pub name: Option<String>,
    /// Only those with this address, confirmed or not, in any case.
    pub email: Option<Email>,
    /// Only those of this role.
    pub role: Option<Role>,
    /// Only those that may, or may not, log in.
    pub active: Option<bool>,
    /// Only names behind this one.
    pub after: Option<Username>,
    /// At most so many.
    pub limit: u32,
}

/// What mail needs to be remembered: what waits to be sent, what a link that was sent is good for, and who wants an account
/// and has yet to prove their address.
pub trait MailStore: Send + Sync + fmt::Debug {
    /// Puts these mails into the queue, and keeps the registration that one of them is about; none of it, and `false`, where
    /// more than `most` would be waiting. One whose subject nobody is takes as long as any other: who asks must not be able
    /// to tell.
    fn post<'a>(
        &'a self,
        orders: &'a [MailOrder],
        registration: Option<&'a Registration>,
        most: u64,
    ) -> Answer<'a, bool>;

    /// Takes up to `limit` mails to send, those that have been due longest first: they are not due again before `until`, and
    /// have been tried once more. No two callers get the same one. Those that are of no use any more at `now` are removed and
    /// handed out beside them.
    fn claim(&self, now: Timestamp, until: Timestamp, limit: u32) -> Answer<'_, Claimed>;

    /// Removes a mail from the queue: it was sent, or never will be.
    fn done(&self, id: MailId) -> Answer<'_, ()>;

    /// Notes why a mail was not sent and when to try again. Does nothing where it is gone.
    fn postpone<'a>(&'a self, id: MailId, next_try_at: Timestamp, error: &'a str) -> Answer<'a, ()>;

    /// How many mails are waiting.
    fn waiting_count(&self) -> Answer<'_, u64>;

    /// The first `limit` mails that are waiting, in the order in which they will be tried.
    fn waiting(&self, limit: u32) -> Answer<'_, Vec<Waiting>>;

    /// Keeps what a link is good for. `false` where a link has this digest already.
    fn keep_link<'a>(&'a self, link: &'a Link) -> Answer<'a, bool>;

    /// The link of this digest, be it of use at any instant or not. Changes nothing.
    fn link<'a>(&'a self, digest: &'a TokenDigest) -> Answer<'a, Option<Link>>;

    /// Whether a subject has a link for `purpose` that is of use at `now`, or a mail waiting that will bring one.
    fn has_link<'a>(&'a self, subject: &'a SubjectId, purpose: Purpose, now: Timestamp) -> Answer<'a, bool>;

    /// Uses the link of this digest for `purpose`, and with it up all that its subject has for the same: of N that try at once
    /// one gets it. `None` where there is none that is of use at `now`.
    fn use_link<'a>(&'a self, digest: &'a TokenDigest, purpose: Purpose, now: Timestamp) -> Answer<'a, Option<Link>>;

    /// Removes the links that a subject has for these purposes, and the mails waiting that would bring more of them, but for
    /// notices: see [`crate::mail::MailKind::ends_with`].
    fn drop_links<'a>(&'a self, subject: &'a SubjectId, purposes: &'a [Purpose]) -> Answer<'a, ()>;

    /// Who wants that account.
    fn registration<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, Option<Registration>>;

    /// Who wants an account with this address, in any case of its ASCII letters; at most `limit`, those that last longest
    /// first: who has asked often keeps nobody from theirs.
    fn registrations_of<'a>(&'a self, email: &'a Email, limit: u32) -> Answer<'a, Vec<Registration>>;

    /// Forgets who wanted that account.
    fn forget_registration<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, ()>;

    /// Removes up to `batch` links, and as many registrations, that are of no use any more at `now`; returns how many of
    /// both.
    fn forget_expired(&self, now: Timestamp, batch: u32) -> Answer<'_, u64>;

    /// Moves the instant up to which owners have been told of tokens that expire on to `until`, from `from`, which it must
    /// still be (`None`: it was never set), so that of several nodes one tells them. Returns whether it did.
    fn advance_reminders(&self, from: Option<Timestamp>, until: Timestamp) -> Answer<'_, bool>;

    /// The instant up to which owners have been told of tokens that expire.
    fn reminded_until(&self) -> Answer<'_, Option<Timestamp>>;
}

/// Mails to be sent, and mails that came too late.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claimed {
    /// To be sent now.
    pub due: Vec<Waiting>,
    /// Of no use any more; they are in the queue no longer.
    pub expired: Vec<Waiting>,
}

/// The audit log: what happened, in the order in which it was written down. Nothing in it is ever changed, but that
/// addresses and agents are forgotten and old entries removed, each after its time.
pub trait AuditStore: Send + Sync + fmt::Debug {
    /// Adds entries, all or none, in this order. Numbers have the order of commits: nothing appears behind what has been read.
    fn append<'a>(&'a self, entries: &'a [Entry]) -> Answer<'a, ()>;

    /// A page of entries, newest first.
    fn entries<'a>(&'a self, query: &'a AuditQuery) -> Answer<'a, Vec<NumberedEntry>>;

    /// Removes up to `batch` of the entries written before `removed_before`, and forgets the address and the agent in up to
    /// `batch` of those written before `anonymous_before`; returns how many entries were changed in either way.
    fn forget(&self, removed_before: Timestamp, anonymous_before: Timestamp, batch: u32) -> Answer<'_, u64>;
}

/// Which entries of the audit log to read. What is `None` does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditQuery {
    /// Only those with this [`crate::Event::name`].
    pub event: Option<String>,
    /// Only those about this subject.
    pub subject: Option<SubjectId>,
    /// Only those by the holder of a token of this subject.
    pub by: Option<SubjectId>,
    /// Only those about this client.
    pub client: Option<ClientName>,
    /// Only those about, or by, this token.
    pub token: Option<TokenId>,
    /// Only those from this address.
    pub ip: Option<IpAddr>,
    /// Only those from this instant on.
    pub since: Option<Timestamp>,
    /// Only those before this instant.
    pub until: Option<Timestamp>,
    /// Only numbers below this one.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: u32,
}

/// An entry as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct NumberedEntry {
    /// Its place in the log; ascending, and never given out twice.
    pub number: u64,
    /// The entry.
    pub entry: Entry,
}
