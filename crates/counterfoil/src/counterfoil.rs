//! A running deployment in this process: [`Counterfoil`], and how it is started: [`Builder`].

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
#[cfg(feature = "sqlite")]
use std::panic;
#[cfg(feature = "sqlite")]
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use counterfoil_core::authority::MailParts;
use counterfoil_core::cache::Cache;
use counterfoil_core::event::Silent;
use counterfoil_core::hashing::{Hashing, OnThisThread};
use counterfoil_core::hook::BeforeIssuing;
use counterfoil_core::import::{ImportStore, Importer};
use counterfoil_core::mail::Mailer;
use counterfoil_core::memory::MemoryStore;
use counterfoil_core::seal::KeyRing;
use counterfoil_core::store::{AccountQuery, MailStore};
use counterfoil_core::{
    AccountStore, AuditStore, Authority, Clock, Entropy, Error, EventSink, Parts, Settings, SharedLimits, StoreClock,
    StoreError, TokenStore,
};
#[cfg(feature = "axum")]
use counterfoil_http::{AuthLayer, Http, HttpSettings, Selection};
#[cfg(feature = "postgres")]
use counterfoil_store::postgres::{ConnectError, ConnectOptions, PostgresStore};
#[cfg(feature = "redis")]
use counterfoil_store::redis::{Address as RedisAddress, LimitsAddress, RedisLimits, RedisStore};
#[cfg(feature = "sqlite")]
use counterfoil_store::sqlite::{
    Absent, BackupError, Contents, OpenError, OpenOptions, Progress, Rewound, SqliteStore,
};
#[cfg(feature = "redis")]
use counterfoil_store::tally::{Disagreement, Tally, TallyStore, agree};

use crate::background::Background;
use crate::guarded_limits::Guarded;
use crate::hashing_threads::{HashingCapacity, HashingThreads};
use crate::hook_threads::HookThreads;
use crate::subscribers::{Ears, Subscribers};
use crate::watched_mailer::WatchedMailer;
use crate::{EventSinks, MetricEvents, OsEntropy, SystemClock, TracingEvents};

/// How long subscribers may take to hear what waits for them when everything ends.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A deployment that is open in this process, with the work in the background that it needs.
///
/// A clone is another handle of the same deployment: hand one to your handlers as their state. End it with
/// [`Counterfoil::shutdown`]. If the last handle is dropped instead, the background work ends by itself soon after, and what
/// was seen of tokens during the last half second may be lost; nothing that was acknowledged is.
#[derive(Debug, Clone)]
pub struct Counterfoil {
    open: Arc<Open>,
}

#[derive(Debug)]
struct Open {
    authority: Arc<Authority>,
    importer: Option<Importer>,
    clock: Arc<dyn Clock>,
    /// The same one, where it goes by the store's date.
    store_clock: Option<Arc<StoreClock>>,
    /// `None`: it has been shut down.
    running: Mutex<Option<Running>>,
    #[cfg(feature = "redis")]
    tally: Option<Tally>,
    #[cfg(feature = "sqlite")]
    sqlite: Option<Arc<SqliteStore>>,
    #[cfg(feature = "postgres")]
    postgres: Option<Arc<PostgresStore>>,
}

/// What goes on beside the requests.
#[derive(Debug)]
struct Running {
    /// `None`: for one command.
    background: Option<Background>,
    subscribers: Subscribers,
}

impl Counterfoil {
    /// Says where things are kept and how, then [`Builder::start`]s.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The front door: whoever wants something of a token, an account or a client calls it here.
    pub fn authority(&self) -> &Arc<Authority> {
        &self.open.authority
    }

    /// What brings accounts and tokens over from other systems; nothing where they lie in two stores, or in stores of your own: both come
    /// in one transition.
    pub fn importer(&self) -> Option<&Importer> {
        self.open.importer.as_ref()
    }

    /// The clock that everything here goes by. Read it once for each request and hand the time down.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.open.clock
    }

    /// The ready-made routes, for a service to merge with its own or to nest under a path, with the defaults of
    /// [`HttpSettings`] and what else the service answers left to it. For other settings, or without some of them,
    /// `counterfoil.http(settings).routes(&selection)`: see [`Selection`].
    #[cfg(feature = "axum")]
    pub fn routes(&self) -> axum::Router {
        self.http(HttpSettings::default()).routes(&Selection::all())
    }

    /// The ready-made routes as the server has them, with an answer to every other path as well.
    #[cfg(feature = "axum")]
    pub fn router(&self, settings: HttpSettings) -> axum::Router {
        self.http(settings).router()
    }

    /// What routes of your own need to see who is asking: [`Http::router_with`] serves them together with ours.
    #[cfg(feature = "axum")]
    pub fn http(&self, settings: HttpSettings) -> Http {
        Http::new(Arc::clone(self.authority()), Arc::clone(self.clock()), settings)
    }

    /// The tower layer that finds out who sends each request, with the defaults of [`HttpSettings`]; for others,
    /// `counterfoil.http(settings).layer()`.
    #[cfg(feature = "axum")]
    pub fn layer(&self) -> AuthLayer {
        self.http(HttpSettings::default()).layer()
    }

    /// What the Redis that keeps the tokens and the store of the rest have in common; nothing where one store keeps both, or where the rest
    /// is not in SQLite or PostgreSQL.
    #[cfg(feature = "redis")]
    pub fn tally(&self) -> Option<Tally> {
        self.open.tally
    }

    /// The embedded store, if that is what keeps everything, or everything but the tokens.
    #[cfg(feature = "sqlite")]
    pub fn sqlite(&self) -> Option<&SqliteStore> {
        self.open.sqlite.as_deref()
    }

    /// Copies everything to `file`, which must not be there, while it is in use; see [`SqliteStore::backup`]. The sealing
    /// key ring is not in it, nor are tokens that are kept elsewhere. `progress` hears of it every few megabytes, on another thread.
    ///
    /// # Errors
    /// [`NotBackedUp`]; then there is nothing at `file`, unless there was before.
    #[cfg(feature = "sqlite")]
    pub async fn backup(
        &self,
        file: impl Into<PathBuf>,
        progress: impl FnMut(Progress) + Send + 'static,
    ) -> Result<Contents, NotBackedUp> {
        let Some(sqlite) = self.open.sqlite.clone() else { return Err(NotBackedUp::NotSqlite) };
        let file = file.into();
        let done = tokio::task::spawn_blocking(move || sqlite.backup(&file, progress)).await;
        done.unwrap_or_else(|panicked| panic::resume_unwind(panicked.into_panic())).map_err(NotBackedUp::Failed)
    }

    /// Ends the background work, writes what is left to write, lets subscribers hear what waits for them, for five seconds
    /// at most, and closes the store. Stop taking requests first: one that comes later is answered as if the store were
    /// away. Once for all handles; a second call does nothing.
    pub async fn shutdown(&self) {
        let running = self.open.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Running { background, subscribers }) = running else { return };
        match background {
            Some(background) => background.stop().await,
            None => {
                if let Err(error) = self.authority().flush(self.clock().now()).await {
                    tracing::error!(%error, "what was seen of tokens last could not be written down");
                }
            }
        }
        self.authority().stop_recalling(); // nobody follows the store any more
        subscribers.stop(LAST_WORDS).await;
        #[cfg(feature = "postgres")]
        if let Some(postgres) = &self.open.postgres {
            postgres.close().await;
        }
        #[cfg(feature = "sqlite")]
        if let Some(sqlite) = self.open.sqlite.clone() {
            // Closing waits for the disk.
            if let Err(error) = tokio::task::spawn_blocking(move || sqlite.close()).await {
                tracing::error!(%error, "the store was not closed in order; the next start looks for damage");
            }
        }
    }
}

/// How a [`Counterfoil`] is to be started. Only the store must be said; everything else has a default.
#[derive(Debug)]
pub struct Builder {
    store: Store,
    #[cfg(feature = "sqlite")]
    rewound: OnRewind,
    /// Where the tokens are, if not with the rest.
    #[cfg(feature = "redis")]
    tokens: Option<RedisAddress>,
    #[cfg(feature = "redis")]
    tokens_anew: bool,
    accounts: Option<Arc<dyn AccountStore>>,
    audit: Option<Arc<dyn AuditStore>>,
    settings: Settings,
    capacity: HashingCapacity,
    events: Option<Arc<dyn EventSink>>,
    ears: Ears,
    hook: Option<Arc<dyn BeforeIssuing>>,
    mailer: Option<Arc<dyn Mailer>>,
    mail_store: Option<Arc<dyn MailStore>>,
    ring: Option<KeyRing>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    cached: Option<NonZeroUsize>,
    shared_limits: SharedBy,
}

/// Where all nodes count together.
#[derive(Debug)]
enum SharedBy {
    Nobody,
    Own(Arc<dyn SharedLimits>),
    #[cfg(feature = "redis")]
    Redis(LimitsAddress),
}

/// What to do with a database that has lost commits, before the time of it is known.
#[cfg(feature = "sqlite")]
#[derive(Debug, Clone, Copy)]
enum OnRewind {
    Refuse,
    Accept,
    Revoke,
}

#[derive(Debug)]
enum Store {
    NotSaid,
    Memory,
    #[cfg(feature = "sqlite")]
    Sqlite {
        path: PathBuf,
        absent: Absent,
    },
    #[cfg(feature = "postgres")]
    Postgres {
        url: PostgresUrl,
        options: ConnectOptions,
    },
    Own(Arc<dyn TokenStore>, Arc<dyn AccountStore>),
}

/// Where a database is, which may have a password in it.
#[cfg(feature = "postgres")]
struct PostgresUrl(String);

#[cfg(feature = "postgres")]
impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresUrl")
    }
}

/// The stores of a deployment; not everything is kept everywhere.
struct Stores {
    tokens: Arc<dyn TokenStore>,
    accounts: Arc<dyn AccountStore>,
    audit: Option<Arc<dyn AuditStore>>,
    mails: Option<Arc<dyn MailStore>>,
    imports: Option<Arc<dyn ImportStore>>,
}

impl Stores {
    /// One that keeps everything, or everything but the tokens.
    ///
    /// Its accounts tell which of the two it is: who has one is a subject of the store that keeps the tokens. To go on with the other one
    /// would revive what was ended, or end where nobody looks.
    async fn of<S>(store: &Arc<S>, elsewhere: Option<Arc<dyn TokenStore>>) -> Result<Stores, StartError>
    where
        S: TokenStore + AccountStore + AuditStore + MailStore + ImportStore + 'static,
    {
        let failed = |error: StoreError| StartError::Authority(error.into());
        let any = AccountQuery { limit: 1, ..AccountQuery::default() };
        if let Some(account) = store.accounts(&any).await.map_err(failed)?.first() {
            let is_here = store.subject(&account.subject).await.map_err(failed)?.is_some();
            match (is_here, &elsewhere) {
                (true, Some(_)) => return Err(StartError::TokensHere),
                (false, None) => return Err(StartError::TokensElsewhere),
                (false, Some(_)) | (true, None) => {}
            }
        }
        let imports = elsewhere.is_none().then(|| Arc::clone(store) as Arc<dyn ImportStore>);
        Ok(Stores {
            tokens: elsewhere.unwrap_or_else(|| Arc::clone(store) as _),
            accounts: Arc::clone(store) as _,
            audit: Some(Arc::clone(store) as _),
            mails: Some(Arc::clone(store) as _),
            imports,
        })
    }

    /// Those of the host.
    fn of_hosts(tokens: Arc<dyn TokenStore>, accounts: Arc<dyn AccountStore>) -> Stores {
        Stores { tokens, accounts, audit: None, mails: None, imports: None }
    }
}

impl Default for Builder {
    fn default() -> Self {
        Builder {
            store: Store::NotSaid,
            #[cfg(feature = "sqlite")]
            rewound: OnRewind::Refuse,
            #[cfg(feature = "redis")]
            tokens: None,
            #[cfg(feature = "redis")]
            tokens_anew: false,
            accounts: None,
            audit: None,
            settings: Settings::default(),
            capacity: HashingCapacity::default(),
            events: None,
            ears: Vec::new(),
            hook: None,
            mailer: None,
            mail_store: None,
            ring: None,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(OsEntropy),
            cached: Some(CACHED_TOKENS),
            shared_limits: SharedBy::Nobody,
        }
    }
}

/// 17 MB when all of them are in use, besides their subjects.
const CACHED_TOKENS: NonZeroUsize = NonZeroUsize::new(200_000).expect("more than none");

impl Builder {
    /// Keeps everything in SQLite, in the directory `path`, which is made where it is absent. One process serves from a
    /// directory at a time.
    #[cfg(feature = "sqlite")]
    #[must_use]
    pub fn sqlite(self, path: impl Into<PathBuf>) -> Builder {
        Builder { store: Store::Sqlite { path: path.into(), absent: Absent::Create }, ..self }
    }

    /// As [`Builder::sqlite`], but fails where there is nothing rather than begin a new deployment: for commands, where a
    /// mistyped path must not read as "no users".
    #[cfg(feature = "sqlite")]
    #[must_use]
    pub fn existing_sqlite(self, path: impl Into<PathBuf>) -> Builder {
        Builder { store: Store::Sqlite { path: path.into(), absent: Absent::Refuse }, ..self }
    }

    /// Keeps everything in PostgreSQL, at a URL such as `postgres://app:secret@db/tokens`, which any number of nodes share: what
    /// one of them ends, every other one refuses within a second. Tables that are missing are made at the start. See
    /// [`PostgresStore`] for what the URL may say.
    #[cfg(feature = "postgres")]
    #[must_use]
    pub fn postgres(self, url: impl Into<String>) -> Builder {
        self.postgres_with(url, ConnectOptions::default())
    }

    /// The same, with deadlines of your own, or with tables that somebody else makes.
    #[cfg(feature = "postgres")]
    #[must_use]
    pub fn postgres_with(self, url: impl Into<String>, options: ConnectOptions) -> Builder {
        Builder { store: Store::Postgres { url: PostgresUrl(url.into()), options }, ..self }
    }

    /// Goes on from a database that has lost commits, as it is after an older copy was put back; otherwise [`start`] refuses
    /// it. Tokens that were revoked since that copy was made live again.
    ///
    /// [`start`]: Builder::start
    #[cfg(feature = "sqlite")]
    #[must_use]
    pub fn accept_rewind(self) -> Builder {
        Builder { rewound: OnRewind::Accept, ..self }
    }

    /// As [`Builder::accept_rewind`], but ends every token that was issued before, keys included, so that none that was
    /// revoked lives again. A database that has lost nothing is served as ever.
    #[cfg(feature = "sqlite")]
    #[must_use]
    pub fn revoke_rewound(self) -> Builder {
        Builder { rewound: OnRewind::Revoke, ..self }
    }

    /// Keeps everything in memory, gone with the process: for tests and demonstrations.
    #[must_use]
    pub fn memory(self) -> Builder {
        Builder { store: Store::Memory, ..self }
    }

    /// Keeps everything in stores of your own, which pass the `conformance` suite.
    #[must_use]
    pub fn stores(self, tokens: Arc<dyn TokenStore>, accounts: Arc<dyn AccountStore>) -> Builder {
        Builder { store: Store::Own(tokens, accounts), ..self }
    }

    /// Keeps tokens in Redis or Valkey, which any number of nodes share, and clients, epochs and failed tries with them; whatever else is
    /// said keeps the rest: `.sqlite(…)`, `.postgres(…)`, `.memory()`, or [`Builder::accounts`] alone. What is promised there, until a
    /// failover, and how the server must be set up: [`RedisStore`] and `docs/redis.md`. No server at the start is an error, and so is one
    /// that keeps tokens of another deployment than the accounts: SQLite and PostgreSQL know theirs by their [`Tally`]; with `.memory()`
    /// or accounts of your own alone it is yours to name the right one.
    ///
    /// It is said at the first start or never: tokens do not move, and a store whose accounts have theirs in Redis is opened only
    /// together with it. [`Counterfoil::importer`] has nothing to import into.
    #[cfg(feature = "redis")]
    #[must_use]
    pub fn tokens_in_redis(self, address: RedisAddress) -> Builder {
        Builder { tokens: Some(address), ..self }
    }

    /// Begins with no token in a Redis that has none of this deployment, because it was flushed or lost. Without this it is an error, where
    /// there are accounts or tokens were begun elsewhere: another Redis than theirs, by a mistake in its address, would acknowledge the
    /// end of tokens that live on.
    #[cfg(feature = "redis")]
    #[must_use]
    pub fn begin_tokens_anew(self) -> Builder {
        Builder { tokens_anew: true, ..self }
    }

    /// Takes accounts from here, whatever keeps the tokens: for a service that has its own table of users.
    #[must_use]
    pub fn accounts(self, accounts: Arc<dyn AccountStore>) -> Builder {
        Builder { accounts: Some(accounts), ..self }
    }

    /// Keeps the audit log here. In SQLite and in memory it is kept beside the rest unless told otherwise; with stores of
    /// your own there is none.
    #[must_use]
    pub fn audit(self, audit: Arc<dyn AuditStore>) -> Builder {
        Builder { audit: Some(audit), ..self }
    }

    /// What the operator chose. See [`Settings`] for the defaults.
    #[must_use]
    pub fn settings(self, settings: Settings) -> Builder {
        Builder { settings, ..self }
    }

    /// How much hashing may go on at once, and how much may wait.
    #[must_use]
    pub fn hashing(self, capacity: HashingCapacity) -> Builder {
        Builder { capacity, ..self }
    }

    /// Where events go instead of the log and the counters, see [`TracingEvents`], [`MetricEvents`] and [`EventSinks`]. It is
    /// called on the thread of the request, so it must neither block nor panic; [`Builder::subscribe`] may do both.
    #[must_use]
    pub fn events(self, events: Arc<dyn EventSink>) -> Builder {
        Builder { events: Some(events), ..self }
    }

    /// Tells a subscriber of yours every event as well, in order, on a thread of its own: it may block and it may panic, and
    /// neither a request nor another subscriber notices. It is told after the fact and may be a little late; what it has no
    /// room for, 4,096 events, is dropped and counted, and the audit log has it all the same. `name` is what the log and the
    /// counters call it.
    #[must_use]
    pub fn subscribe(mut self, name: &'static str, subscriber: impl EventSink + 'static) -> Builder {
        self.ears.push((name, Arc::new(subscriber)));
        self
    }

    /// Asks the host before a token is made: see [`BeforeIssuing`]. It may await and it may block: it has a thread of its own.
    /// Without an answer within `patience` (two seconds are many, a login waits for them), after a panic, and when it fails,
    /// nothing is issued and the answer is 503. It is run by the tokio runtime in which a token is asked for.
    #[must_use]
    pub fn before_issuing(self, hook: impl BeforeIssuing + 'static, patience: Duration) -> Builder {
        Builder { hook: Some(Arc::new(HookThreads::new(Arc::new(hook), patience))), ..self }
    }

    /// Sends mails, by a `counterfoil::mail::Postman` with templates and SMTP or by whatever else sends mails for you; without
    /// it there are no confirmations, no new passwords for those who forgot theirs, and no notices. Where their links lead is
    /// among the settings ([`AccountRules::links`](counterfoil_core::account_rules::AccountRules::links)).
    ///
    /// A request waits for no mail: it is queued in the store, sent in the background, and tried again, at most every half minute
    /// and at least every half hour, until it is of no use any more.
    #[must_use]
    pub fn mail(self, mailer: Arc<dyn Mailer>) -> Builder {
        Builder { mailer: Some(mailer), ..self }
    }

    /// Keeps the queue of mails here, and what their links are good for. In SQLite and in memory they are kept beside the rest
    /// unless told otherwise; with stores of your own, [`Builder::mail`] needs it.
    #[must_use]
    pub fn mail_store(self, mails: Arc<dyn MailStore>) -> Builder {
        Builder { mail_store: Some(mails), ..self }
    }

    /// What seals the secrets of clients with `reissue = same`.
    #[must_use]
    pub fn key_ring(self, ring: KeyRing) -> Builder {
        Builder { ring: Some(ring), ..self }
    }

    /// How many tokens are answered from memory, 200,000 unless said: 90 bytes each once they are in use, and 72 more for
    /// each subject. `None`: every request asks the store.
    ///
    /// What this process changes holds at once; what others change, a command line beside it or another node, within a
    /// second: that is the lease of [`counterfoil_core::lease`]. Where the machine has no clock that runs on while it is
    /// suspended, every request asks the store whatever is said here.
    #[must_use]
    pub fn cached_tokens(self, tokens: Option<NonZeroUsize>) -> Builder {
        Builder { cached: tokens, ..self }
    }

    /// Counts requests and tries together with all nodes that share these limits; without it each node counts for itself, and three
    /// nodes let three times as much through.
    ///
    /// A request that is counted waits for the answer, for a tenth of a second at most. Where none comes, or one that no count can
    /// give, what this node has counted decides: a limit is never off, and no request fails because of it. After three such in a row
    /// one request a second asks, and the others do not wait. Call what uses it in a tokio runtime.
    #[must_use]
    pub fn shared_limits(self, shared: Arc<dyn SharedLimits>) -> Builder {
        Builder { shared_limits: SharedBy::Own(shared), ..self }
    }

    /// As [`Builder::shared_limits`], in Redis or Valkey: one server, what Sentinels name, or a Cluster. That it is away at the start
    /// is no error.
    #[cfg(feature = "redis")]
    #[must_use]
    pub fn limits_in_redis(self, address: LimitsAddress) -> Builder {
        Builder { shared_limits: SharedBy::Redis(address), ..self }
    }

    /// Another clock than the machine's: for tests.
    #[must_use]
    pub fn clock(self, clock: Arc<dyn Clock>) -> Builder {
        Builder { clock, ..self }
    }

    /// Another source of randomness than the operating system's: for tests.
    #[must_use]
    pub fn entropy(self, entropy: Arc<dyn Entropy>) -> Builder {
        Builder { entropy, ..self }
    }

    /// Opens the store for serving, with threads for hashing and the background work. Call it in a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(mut self) -> Result<Counterfoil, StartError> {
        let hashing = HashingThreads::start(self.capacity).map_err(StartError::Threads)?;
        let events =
            self.events.take().unwrap_or_else(|| Arc::new(EventSinks::new().with(TracingEvents).with(MetricEvents)));
        let counterfoil = self.open_with(Arc::new(hashing), events, true).await?;
        #[cfg(feature = "sqlite")]
        let measure = {
            let sqlite = counterfoil.open.sqlite.clone();
            move || {
                if let Some(sqlite) = &sqlite {
                    // Far below 2⁵³.
                    metrics::gauge!("counterfoil_write_ahead_bytes").set(sqlite.write_ahead_bytes() as f64);
                }
            }
        };
        #[cfg(not(feature = "sqlite"))]
        let measure = || {};
        let store_clock = counterfoil.open.store_clock.clone();
        let background = Background::start(counterfoil.authority(), counterfoil.clock(), store_clock, measure);
        if let Some(running) = &mut *counterfoil.open.running.lock().unwrap_or_else(PoisonError::into_inner) {
            running.background = Some(background);
        }
        Ok(counterfoil)
    }

    /// Opens the store for one command beside a server that may be running on it: passwords are hashed on the calling
    /// thread, nothing goes on in the background, and events go nowhere unless told to.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn open(mut self) -> Result<Counterfoil, StartError> {
        let events = self.events.take().unwrap_or_else(|| Arc::new(Silent));
        self.open_with(Arc::new(OnThisThread), events, false).await
    }

    async fn open_with(
        self,
        hashing: Arc<dyn Hashing>,
        events: Arc<dyn EventSink>,
        serve: bool,
    ) -> Result<Counterfoil, StartError> {
        #[cfg(feature = "sqlite")]
        let mut sqlite = None;
        #[cfg(feature = "postgres")]
        let mut postgres = None;
        // First: where it is away, nothing is made.
        #[cfg(feature = "redis")]
        let redis = match self.tokens {
            Some(address) => {
                let connected = Box::pin(RedisStore::connect(address, Arc::clone(&self.entropy))).await;
                Some(Arc::new(connected.map_err(StartError::Redis)?))
            }
            None => None,
        };
        #[cfg(feature = "redis")]
        let elsewhere = redis.clone().map(|redis| redis as Arc<dyn TokenStore>);
        #[cfg(not(feature = "redis"))]
        let elsewhere: Option<Arc<dyn TokenStore>> = None;
        let Stores { tokens, accounts, audit, mails, imports } = match self.store {
            Store::NotSaid => match (elsewhere, &self.accounts) {
                (Some(tokens), Some(accounts)) => Stores::of_hosts(tokens, Arc::clone(accounts)),
                (Some(_), None) | (None, _) => return Err(StartError::NoStore),
            },
            Store::Memory => Stores::of(&Arc::new(MemoryStore::default()), elsewhere).await?,
            #[cfg(feature = "sqlite")]
            Store::Sqlite { path, absent } => {
                let options = if serve { OpenOptions::serve() } else { OpenOptions::beside() };
                let at = self.clock.now().wall;
                let rewound = match self.rewound {
                    OnRewind::Refuse => Rewound::Refuse,
                    OnRewind::Accept => Rewound::Accept { at },
                    OnRewind::Revoke if elsewhere.is_some() => return Err(StartError::TokensNotRewound),
                    OnRewind::Revoke => Rewound::EndTokens { at },
                };
                let options = OpenOptions { absent, rewound, ..options };
                let store = Arc::new(SqliteStore::open(&path, &options).map_err(StartError::Open)?);
                sqlite = Some(Arc::clone(&store));
                Stores::of(&store, elsewhere).await?
            }
            #[cfg(feature = "postgres")]
            Store::Postgres { url: PostgresUrl(url), options } => {
                let store = Arc::new(PostgresStore::connect(&url, &options).await.map_err(StartError::Connect)?);
                postgres = Some(Arc::clone(&store));
                Stores::of(&store, elsewhere).await?
            }
            Store::Own(tokens, accounts) => Stores::of_hosts(elsewhere.unwrap_or(tokens), accounts),
        };
        #[cfg(feature = "redis")]
        let tally = {
            let beside: Option<&dyn TallyStore> = None;
            #[cfg(feature = "sqlite")]
            let beside = beside.or(sqlite.as_deref().map(|sqlite| sqlite as _));
            #[cfg(feature = "postgres")]
            let beside = beside.or(postgres.as_deref().map(|postgres| postgres as _));
            match (&redis, beside) {
                (Some(tokens), Some(accounts)) => {
                    let agreed = agree(accounts, tokens, self.tokens_anew, self.entropy.as_ref()).await;
                    Some(agreed.map_err(StartError::OtherTokens)?)
                }
                (Some(_), None) | (None, _) => None,
            }
        };
        let store_clock = store_clock(tokens.as_ref(), &self.clock).await?;
        let clock = store_clock.clone().map_or(self.clock, |clock| clock as Arc<dyn Clock>);
        let mail = match (self.mailer, self.mail_store.or(mails)) {
            (None, _) => None,
            (Some(_), None) => return Err(StartError::NoMailStore),
            (Some(mailer), Some(store)) => Some(MailParts { store, mailer: Arc::new(WatchedMailer::new(mailer)) }),
        };
        let cache = match self.cached {
            // A command beside a server is over before a second look-up.
            Some(tokens) if serve => Some(Cache::new(tokens, self.entropy.as_ref())),
            Some(_) | None => None,
        };
        let cache = cache.transpose().map_err(|error| StartError::Authority(error.into()))?;
        let subscribers = Subscribers::start(self.ears).map_err(StartError::Threads)?;
        let events = subscribers.sinks().fold(EventSinks::new().and(events), EventSinks::with);
        let shared: Option<Arc<dyn SharedLimits>> = match self.shared_limits {
            SharedBy::Nobody => None,
            SharedBy::Own(shared) => Some(shared),
            // A command lets nobody in.
            #[cfg(feature = "redis")]
            SharedBy::Redis(address) if serve => Some(Arc::new(Box::pin(RedisLimits::connect(address)).await)),
            #[cfg(feature = "redis")]
            SharedBy::Redis(_) => None,
        };
        let parts = Parts {
            tokens,
            accounts: self.accounts.unwrap_or(accounts),
            audit: self.audit.or(audit),
            mail,
            hashing,
            entropy: self.entropy,
            events: Arc::new(events),
            hook: self.hook,
            ring: self.ring,
            settings: self.settings,
        };
        let now = clock.now();
        let opened = if serve { Authority::open(parts, now).await } else { Authority::open_beside(parts, now).await };
        let mut authority = opened.map_err(StartError::Authority)?;
        if let Some(shared) = shared {
            authority = authority.with_shared_limits(Arc::new(Guarded::new(shared, Arc::clone(&clock))));
        }
        if let Some(cache) = cache {
            authority = authority.with_cache(cache);
            authority.follow(clock.now()).await.map_err(StartError::Authority)?;
        }
        let running = Mutex::new(Some(Running { background: None, subscribers }));
        let authority = Arc::new(authority);
        let importer = imports.map(|store| Importer::new(Arc::clone(&authority), store));
        Ok(Counterfoil {
            open: Arc::new(Open {
                authority,
                importer,
                clock,
                store_clock,
                running,
                #[cfg(feature = "redis")]
                tally,
                #[cfg(feature = "sqlite")]
                sqlite,
                #[cfg(feature = "postgres")]
                postgres,
            }),
        })
    }
}

/// A clock that goes by the date of the store, where the store is shared and has one.
async fn store_clock(tokens: &dyn TokenStore, machine: &Arc<dyn Clock>) -> Result<Option<Arc<StoreClock>>, StartError> {
    if !tokens.is_shared() {
        return Ok(None);
    }
    let asked = machine.now().boot;
    let head = tokens.changes(i64::MAX.unsigned_abs(), 0).await;
    let head = head.map_err(|error| StartError::Authority(error.into()))?;
    Ok(head.clock.map(|date| {
        let clock = StoreClock::new(Arc::clone(machine));
        clock.heard(date, asked, machine.now().boot);
        Arc::new(clock)
    }))
}

/// Why there is no backup.
#[cfg(feature = "sqlite")]
#[derive(Debug)]
pub enum NotBackedUp {
    /// Everything is kept somewhere else than in the embedded store, which alone has a way to copy it.
    NotSqlite,
    /// It was tried.
    Failed(BackupError),
}

#[cfg(feature = "sqlite")]
impl fmt::Display for NotBackedUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotBackedUp::NotSqlite => f.write_str("only the embedded store can be backed up from here"),
            NotBackedUp::Failed(error) => fmt::Display::fmt(error, f),
        }
    }
}

#[cfg(feature = "sqlite")]
impl std::error::Error for NotBackedUp {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            NotBackedUp::NotSqlite => None,
            NotBackedUp::Failed(error) => error.source(),
        }
    }
}

/// Why nothing was started.
#[derive(Debug)]
pub enum StartError {
    /// The builder was not told where to keep things.
    NoStore,
    /// The builder was told how to send mails, and not where to keep them.
    NoMailStore,
    /// The store did not open.
    #[cfg(feature = "sqlite")]
    Open(OpenError),
    /// There is no store in PostgreSQL, and why.
    #[cfg(feature = "postgres")]
    Connect(ConnectError),
    /// There is no Redis to keep tokens in, and why.
    #[cfg(feature = "redis")]
    Redis(StoreError),
    /// The tokens of the accounts in this store are in another one, which was not named.
    TokensElsewhere,
    /// Tokens were to be kept in another store than the rest, and this one has accounts whose tokens are in it.
    TokensHere,
    /// The Redis that was named does not keep the tokens of the accounts in this store.
    #[cfg(feature = "redis")]
    OtherTokens(Disagreement),
    /// Tokens were to be ended because the store was put back to an earlier state, and they are not in it.
    TokensNotRewound,
    /// The deployment in the store did not open.
    Authority(Error),
    /// The system gave no threads.
    Threads(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::NoStore => {
                f.write_str("no store was named: call `sqlite`, `postgres`, `store_url`, `memory` or `stores` first")
            }
            StartError::NoMailStore => {
                f.write_str("mails are to be sent, and no store for them was named: call `mail_store` as well")
            }
            #[cfg(feature = "sqlite")]
            StartError::Open(error) => fmt::Display::fmt(error, f),
            #[cfg(feature = "postgres")]
            StartError::Connect(error) => fmt::Display::fmt(error, f),
            #[cfg(feature = "redis")]
            StartError::Redis(_) => f.write_str("the Redis that tokens are to be kept in cannot be used"),
            StartError::TokensElsewhere => f.write_str(
                "the accounts in this store have their tokens in another one, which must be named as well: nothing that is ended here \
                 would end there",
            ),
            StartError::TokensHere => f.write_str(
                "the accounts in this store have their tokens in it as well; in another one, whoever is disabled or deleted would not be",
            ),
            #[cfg(feature = "redis")]
            StartError::OtherTokens(disagreement) => fmt::Display::fmt(disagreement, f),
            StartError::TokensNotRewound => {
                f.write_str("the tokens are in another store, which was not put back, so that none of them has come back to life")
            }
            StartError::Authority(error) => fmt::Display::fmt(error, f),
            StartError::Threads(_) => f.write_str("no thread could be started"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartError::NoStore
            | StartError::NoMailStore
            | StartError::TokensElsewhere
            | StartError::TokensHere
            | StartError::TokensNotRewound => None,
            #[cfg(feature = "redis")]
            StartError::OtherTokens(disagreement) => disagreement.source(),
            #[cfg(feature = "sqlite")]
            StartError::Open(error) => error.source(),
            #[cfg(feature = "postgres")]
            StartError::Connect(error) => error.source(),
            #[cfg(feature = "redis")]
            StartError::Redis(error) => Some(error),
            StartError::Authority(error) => error.source(),
            StartError::Threads(error) => Some(error),
        }
    }
}
