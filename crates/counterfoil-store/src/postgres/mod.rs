//! The store of several nodes: PostgreSQL.
//!
//! # How a statement gets here
//!
//! Each file is about one thing, as in [`crate::sqlite`], and holds its statements as constants beside the functions that send
//! them. Parameters are `$1`, `$2`, … and are made by `column::value` (`if_any` for what may be NULL), which knows their types;
//! columns are read back by `column::get`. There are three ways for a statement to be sent:
//!
//! - **a look-up** (`PostgresStore::look_up`): a question with a short answer out of an index. It goes over the one pipelined
//!   connection and is given up after [`ConnectOptions::look_up_deadline`]. Two statements in a look-up see two snapshots: where
//!   that matters, it is one statement.
//! - **a longer read** (`PostgresStore::read`): pages and searches, on a connection of the pool.
//! - **a transition** (`PostgresStore::transact`): a function that takes a `Transaction` and what it is about, owned and shared
//!   (`Arc`), because it may be run again: where it lost a race (40001, 40P01, and also a row that is suddenly there or gone) it
//!   starts from the beginning. It runs on the store's runtime to its end, whether or not anybody still waits for it.
//!
//! Transactions are READ COMMITTED: a statement sees what was committed before *it*. So what is restated is locked first, by a
//! statement of its own (`SELECT … FOR NO KEY UPDATE`), and read by the next one; both go out in one `flight`. The order of locks is
//! subject, client, tokens by number, change log, everywhere. Changes are noted by `Transaction::log`, and written with the
//! commit in one flight: the lock of the log is held no longer than the commit takes.
//!
//! Callers need no runtime of their own: timers and connections belong to the one that the store was connected on.

mod accounts;
mod attempts;
mod audit;
mod changes;
mod clients;
mod column;
#[cfg(feature = "sqlite")]
pub(crate) mod copying;
mod deadline;
mod fault;
mod import;
mod inspection;
mod look_ups;
mod mail;
mod matching;
mod news;
#[cfg(test)]
mod plans;
mod pool;
mod purge;
mod revoking;
mod schema;
mod sealing;
mod session;
mod settings;
mod subjects;
mod tally;
mod tokens;
mod transaction;

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use counterfoil_core::attempts::{Tries, TryLater};
use counterfoil_core::client::{Client, ClientId, ClientName};
use counterfoil_core::seal::Sealed;
use counterfoil_core::secret::{Candidates, CheckKey, DigestScheme, TokenDigest};
use counterfoil_core::store::{
    Answer, Bump, Changes, ClientOutcome, ClientUpdate, ExpiringQuery, Formats, Found, Issue, IssueOutcome, NewClient,
    News, RenewOutcome, RevokeOutcome, RotateOutcome, Rotation, SealedSecret, TokenFilter, TokenQuery, Touch,
};
use counterfoil_core::token::{Kind, Token, TokenId, TokenName};
use counterfoil_core::{Subject, SubjectId, SubjectState, Timestamp, TokenStore};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::changes::READ_ONLY;
use self::clients::Shared;
use self::column::{get, value};
use self::deadline::Deadline;
use self::fault::Fault;
pub use self::inspection::{Inspection, Role, Standby, inspect};
use self::look_ups::LookUps;
use self::matching::{Live, Search};
use self::pool::Pool;
use self::revoking::{Revocation, Revoking};
pub use self::schema::Migration;
use self::session::Session;
use self::settings::{Pooler, Settings};
use self::tokens::{Adoption, Renaming};
use self::transaction::{Deadlines, Transaction};

/// Tokens, accounts and the audit log in one PostgreSQL database, which any number of nodes share. Cheap to clone.
///
/// The URL is that of libpq, with more than one host if there are standbys: the one that takes writes is used. Beyond what the
/// driver knows it takes `sslmode` (a certificate is always looked at; `disable` for a server elsewhere must be said),
/// `sslrootcert=FILE`, `pool_size=N`, and `pooler=transaction` where PgBouncer deals out transactions.
#[derive(Debug, Clone)]
pub struct PostgresStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    runtime: Handle,
    pool: Arc<Pool>,
    look_ups: LookUps,
    transition_deadline: Duration,
    shared: Arc<Shared>,
    revoking: Revoking,
    /// How far a revocation in batches has come.
    revoked_up_to: matching::Progress,
    news: Arc<Notify>,
    /// Who hears of news; nobody, where a pooler stands between.
    listener: Option<JoinHandle<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.abort();
        }
    }
}

/// How to connect.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// What to do where tables are missing.
    pub migrations: Migrations,
    /// Under which name the server lists these connections, unless the URL says another.
    pub application_name: String,
    /// After how long a look-up is given up.
    pub look_up_deadline: Duration,
    /// After how long the server gives up one statement of anything else.
    pub statement_timeout: Duration,
    /// After how long a transition, or a longer read, is given up: waiting for its turn and for a connection, its work, every
    /// attempt at it and its commit together. A quarter is kept for the commit.
    pub transition_deadline: Duration,
}

impl Default for ConnectOptions {
    fn default() -> ConnectOptions {
        ConnectOptions {
            migrations: Migrations::Apply,
            application_name: "counterfoil".to_owned(),
            look_up_deadline: Duration::from_secs(2),
            statement_timeout: Duration::from_secs(5),
            transition_deadline: Duration::from_secs(8),
        }
    }
}

/// What to do where the database lacks tables that this version needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Migrations {
    /// Make them: the role may.
    Apply,
    /// Refuse: another role makes them, by `counterfoil migrate`.
    Require,
}

/// Why there is no store. Shows no password.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL is not one, and why.
    Url(String),
    /// What is to be trusted cannot be read.
    Roots(PathBuf, String),
    /// No host lets us in, or none of them takes writes.
    Unreachable(String),
    /// The server is of this version, and too old.
    TooOld(i64),
    /// The database keeps text in this encoding.
    Encoding(String),
    /// The database has been migrated by a newer version.
    Newer {
        /// The number of its last migration.
        found: i64,
        /// The last one that this version knows.
        known: i64,
    },
    /// This migration is another one in the database than here.
    Altered(i64),
    /// So many migrations are missing, and are not to be applied at the start.
    Pending(usize),
    /// This migration failed; none of those that were missing has been applied.
    Migration(i64, String),
    /// The server failed.
    Failed(String),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Url(why) => write!(f, "the URL of the store is not one: {why}"),
            ConnectError::Roots(path, why) => write!(f, "cannot use {} for sslrootcert: {why}", path.display()),
            ConnectError::Unreachable(why) => f.write_str(why),
            ConnectError::TooOld(version) => {
                write!(f, "the server is PostgreSQL {version}: 15 or a newer one is needed")
            }
            ConnectError::Encoding(encoding) => {
                write!(f, "the database keeps its text as {encoding}: make one with ENCODING 'UTF8'")
            }
            ConnectError::Newer { found, known } => write!(
                f,
                "the database was migrated by a newer version (to {found}; this one knows {known}): run the newer version"
            ),
            ConnectError::Altered(number) => write!(
                f,
                "migration {number} in the database is not the one of this version: it is another program's database, or was \
                 changed by hand"
            ),
            ConnectError::Pending(count) => write!(
                f,
                "the database lacks {count} migration(s) of this version: run `counterfoil migrate` with a role that owns it"
            ),
            ConnectError::Migration(number, why) => write!(f, "migration {number} failed, and none was applied: {why}"),
            ConnectError::Failed(why) => f.write_str(why),
        }
    }
}

impl Error for ConnectError {}

impl From<Fault> for ConnectError {
    fn from(fault: Fault) -> ConnectError {
        let why = fault.to_string();
        if let Fault::Unreachable(_) = fault { ConnectError::Unreachable(why) } else { ConnectError::Failed(why) }
    }
}

/// The migrations that the database behind `url` lacks, in order; changes nothing.
///
/// # Errors
/// [`ConnectError`], among others where it was migrated by a newer version.
pub async fn pending_migrations(url: &str, options: &ConnectOptions) -> Result<Vec<Migration>, ConnectError> {
    let settings = Settings::parse(url, &options.application_name, options.statement_timeout)?;
    let session = Session::connect(&settings, None).await?;
    schema::suits(&session).await?;
    schema::pending(&session).await
}

/// Applies the migrations that the database behind `url` lacks, all or none of them, and tells which they were.
///
/// # Errors
/// [`ConnectError`], among others where it was migrated by a newer version.
pub async fn migrate(url: &str, options: &ConnectOptions) -> Result<Vec<Migration>, ConnectError> {
    let settings = Settings::parse(url, &options.application_name, options.statement_timeout)?;
    let session = Session::connect(&settings, None).await?;
    schema::suits(&session).await?;
    schema::migrate(&session).await
}

impl PostgresStore {
    /// Connects, on the runtime that this is called on, and looks whether the database is one of ours. Connections beyond the
    /// first are made when they are needed.
    ///
    /// # Errors
    /// [`ConnectError`], whose text says what to do.
    pub async fn connect(url: &str, options: &ConnectOptions) -> Result<PostgresStore, ConnectError> {
        let settings = Settings::parse(url, &options.application_name, options.statement_timeout)?;
        let settings = Arc::new(settings);
        let session = Session::connect(&settings, None).await?;
        schema::suits(&session).await?;
        let missing = schema::pending(&session).await?;
        match options.migrations {
            Migrations::Apply if !missing.is_empty() => {
                let applied = schema::migrate(&session).await?;
                for migration in applied {
                    tracing::info!(number = migration.number, name = migration.name, "the database was migrated");
                }
            }
            Migrations::Require if !missing.is_empty() => return Err(ConnectError::Pending(missing.len())),
            Migrations::Apply | Migrations::Require => {}
        }
        let runtime = Handle::current();
        let pool = Arc::new(Pool::new(Arc::clone(&settings)));
        let look_ups = LookUps::new(Arc::clone(&settings), runtime.clone(), options.look_up_deadline);
        let news = Arc::new(Notify::new());
        let listener = match settings.pooler {
            Pooler::None => Some(runtime.spawn(news::listen(settings, Arc::clone(&news)))),
            Pooler::Transaction => None,
        };
        let inner = Inner {
            runtime,
            pool,
            look_ups,
            transition_deadline: options.transition_deadline,
            shared: Arc::new(Shared::new()),
            revoking: Revoking::default(),
            revoked_up_to: matching::Progress::default(),
            news,
            listener,
        };
        Ok(PostgresStore { inner: Arc::new(inner) })
    }

    /// Finishes what has been asked for and lets every connection go. What is asked for afterwards fails; closing again does
    /// nothing. On the runtime that it was connected on.
    pub async fn close(&self) {
        self.inner.look_ups.close();
        if let Some(listener) = &self.inner.listener {
            listener.abort();
        }
        // What has not come to its end by then is given up by its own deadline.
        timeout(self.inner.transition_deadline * 3, self.inner.pool.close()).await.ok();
    }

    /// A question with a short answer, over the one pipelined connection.
    fn look_up<'a, T, F>(
        &'a self,
        doing: &'static str,
        read: impl FnOnce(Arc<Session>) -> F + Send + 'a,
    ) -> Answer<'a, T>
    where
        T: Send + 'a,
        F: Future<Output = Result<T, Fault>> + Send + 'a,
    {
        Box::pin(async move { self.inner.look_ups.ask(read).await.map_err(|fault| fault.while_doing(doing)) })
    }

    /// Anything longer, on a connection of the pool. `read` is handed `wanted`, and must be one statement where a snapshot
    /// matters.
    fn read<'a, A, T, F>(
        &'a self,
        doing: &'static str,
        wanted: A,
        read: impl FnOnce(Arc<Session>, Arc<A>) -> F + Send + 'static,
    ) -> Answer<'a, T>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        let (pool, whole) = (Arc::clone(&self.inner.pool), self.inner.transition_deadline);
        Box::pin(async move {
            let deadline = Deadline::within(whole);
            let reading = self.inner.runtime.spawn(async move {
                let lease = deadline.before(pool.take()).await.unwrap_or(Err(Fault::Deadline))?;
                let asked = deadline.before(read(Arc::clone(lease.session()), Arc::new(wanted)));
                let answer = asked.await.unwrap_or(Err(Fault::Deadline));
                match &answer {
                    Err(fault) if fault.spoils_the_connection() => lease.discard(fault),
                    Ok(_) | Err(_) => lease.give_back(),
                }
                answer
            });
            reading.await.unwrap_or(Err(Fault::Panicked)).map_err(|fault| fault.while_doing(doing))
        })
    }

    /// One stretch of a search for live tokens.
    fn look_for<'a>(
        &'a self,
        doing: &'static str,
        filter: &TokenFilter,
        now: Timestamp,
        after: u64,
        wanted: usize,
    ) -> Answer<'a, Live> {
        self.read(doing, Search { filter: filter.clone(), now, after, wanted }, matching::look_for)
    }

    /// One transition: `work` is handed the transaction and `wanted`, and what it returns is the answer once it is committed.
    /// Runs to its end even if nobody waits for it any more.
    fn transact<'a, A, T, F>(
        &'a self,
        doing: &'static str,
        wanted: A,
        work: impl Fn(Transaction, Arc<A>) -> F + Send + Sync + 'static,
    ) -> Answer<'a, T>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        let (pool, whole) = (Arc::clone(&self.inner.pool), self.inner.transition_deadline);
        let wanted = Arc::new(wanted);
        Box::pin(async move {
            let deadlines = Deadlines::within(whole);
            // Begun with the first poll: whoever never asks has asked for nothing.
            let under_way = self.inner.runtime.spawn(async move {
                transaction::transact(&pool, deadlines, |transaction| work(transaction, Arc::clone(&wanted))).await
            });
            under_way.await.unwrap_or(Err(Fault::Panicked)).map_err(|fault| fault.while_doing(doing))
        })
    }
}

const CHECK_KEYS: &str = "SELECT key FROM check_keys ORDER BY number DESC";

const HAS_DEFAULT_CLIENT: &str = "SELECT EXISTS (SELECT 1 FROM clients WHERE name = $1 AND NOT deleted)";

// A seek each in indexes that are empty where nothing was imported. A secret in its grace is looked up, too.
const HAS_SCHEME: &str = "
    SELECT EXISTS (SELECT 1 FROM tokens WHERE scheme = $1 AND scheme <> 'native')
        OR EXISTS (SELECT 1 FROM retired WHERE scheme = $1 AND scheme <> 'native')";

async fn formats(session: &Session) -> Result<Formats, Fault> {
    let check_keys = session.query(CHECK_KEYS, &[]).await?.iter().map(|row| get(row, 0)).collect::<Result<_, _>>()?;
    Ok(Formats { check_keys, imported: imported(session).await? })
}

async fn imported(session: &Session) -> Result<Vec<DigestScheme>, Fault> {
    let mut imported = Vec::new();
    for scheme in DigestScheme::IMPORTED {
        if get(&session.query_one(HAS_SCHEME, &[value(scheme)]).await?, 0)? {
            imported.push(scheme);
        }
    }
    Ok(imported)
}

async fn has_default_client(session: &Session, name: &ClientName) -> Result<bool, Fault> {
    get(&session.query_one(HAS_DEFAULT_CLIENT, &[value(name)]).await?, 0)
}

// The first eight bytes of a digest of "counterfoil opening": of nodes that open an empty database at once, one makes the key.
const OPENING: &str = "SELECT pg_advisory_xact_lock(-9037896086710114655)";

const KEEP_CHECK_KEY: &str = "INSERT INTO check_keys (key) SELECT $1 WHERE NOT EXISTS (SELECT 1 FROM check_keys)";

async fn opened(transaction: Transaction, wanted: Arc<(CheckKey, NewClient)>) -> Result<Formats, Fault> {
    transaction.flight([(OPENING, [].as_slice()), (KEEP_CHECK_KEY, &[value(&wanted.0)])]).await?;
    if !has_default_client(&transaction, &wanted.1.name).await? {
        clients::create(transaction.clone(), Arc::new(wanted.1.clone())).await?;
    }
    formats(&transaction).await
}

/// A commit that changes nothing but is one: it writes a word into the write-ahead log, and waits for the disk and for standbys
/// as any other.
async fn proven(transaction: Transaction, _: Arc<()>) -> Result<(), Fault> {
    let proving = format!("SELECT {READ_ONLY}, CAST(pg_logical_emit_message(true, 'counterfoil', 'ready') AS text)");
    if get(&transaction.query_one(&proving, &[]).await?, 0)? { Err(Fault::ReadOnly) } else { Ok(()) }
}

impl TokenStore for PostgresStore {
    fn open<'a>(&'a self, key: &'a CheckKey, default_client: &'a NewClient) -> Answer<'a, Formats> {
        Box::pin(async move {
            const DOING: &str = "opening it";
            let ready = self.look_up(DOING, async move |session: Arc<Session>| {
                let formats = formats(&session).await?;
                let complete =
                    !formats.check_keys.is_empty() && has_default_client(&session, &default_client.name).await?;
                Ok(complete.then_some(formats))
            });
            if let Some(formats) = ready.await? {
                // Every start but the first ends here, without a write.
                return Ok(formats);
            }
            self.transact(DOING, (key.clone(), default_client.clone()), opened).await
        })
    }

    fn ready(&self) -> Answer<'_, ()> {
        self.transact("seeing whether it can commit", (), proven)
    }

    fn imported(&self) -> Answer<'_, Vec<DigestScheme>> {
        self.look_up("looking for imported tokens", |session| async move { imported(&session).await })
    }

    fn find<'a>(&'a self, candidates: &'a Candidates) -> Answer<'a, Option<Found>> {
        self.look_up("looking a token up by its digest", move |session| async move {
            tokens::find(&session, &self.inner.shared, candidates).await
        })
    }

    fn token<'a>(&'a self, id: TokenId, owner: Option<&'a SubjectId>) -> Answer<'a, Option<Token>> {
        self.look_up(
            "looking a token up by its id",
            move |session| async move { tokens::token(&session, id, owner).await },
        )
    }

    fn list<'a>(&'a self, query: &'a TokenQuery) -> Answer<'a, Vec<Token>> {
        self.read("listing tokens", query.clone(), tokens::list)
    }

    fn expiring<'a>(&'a self, query: &'a ExpiringQuery) -> Answer<'a, Vec<Token>> {
        self.read("looking for tokens that expire", *query, tokens::expiring)
    }

    fn count_matching<'a>(&'a self, filter: &'a TokenFilter, now: Timestamp) -> Answer<'a, u64> {
        Box::pin(async move {
            // Each stretch in a snapshot of its own: numbers never change, so no token is counted twice.
            let (mut count, mut after) = (0, Some(0));
            while let Some(from) = after {
                let live = self.look_for("counting tokens", filter, now, from, usize::MAX).await?;
                count += live.numbers.len() as u64;
                after = live.reached;
            }
            Ok(count)
        })
    }

    fn subject<'a>(&'a self, id: &'a SubjectId) -> Answer<'a, Option<Subject>> {
        self.look_up("looking a subject up", move |session| async move { subjects::subject(&session, id).await })
    }

    fn open_subject<'a>(&'a self, id: &'a SubjectId, _now: Timestamp) -> Answer<'a, Subject> {
        Box::pin(async move {
            // Rows of subjects never go, so one that is there need not be made.
            match self.subject(id).await? {
                Some(subject) => Ok(subject),
                None => self.transact("making a subject", id.clone(), subjects::open).await,
            }
        })
    }

    fn set_subject_state<'a>(
        &'a self,
        id: &'a SubjectId,
        state: SubjectState,
        now: Timestamp,
    ) -> Answer<'a, Option<Subject>> {
        self.transact("setting the state of a subject", (id.clone(), state, now), subjects::set_state)
    }

    fn subject_changed<'a>(&'a self, id: &'a SubjectId, now: Timestamp) -> Answer<'a, ()> {
        self.transact("noting a change of an account", (id.clone(), now), subjects::changed)
    }

    fn bump_epoch<'a>(&'a self, bump: &'a Bump, now: Timestamp) -> Answer<'a, bool> {
        self.transact("bumping an epoch", (bump.clone(), now), subjects::bump)
    }

    fn issue<'a>(&'a self, issue: &'a Issue, now: Timestamp) -> Answer<'a, IssueOutcome> {
        self.transact("issuing a token", (issue.clone(), now), tokens::issue)
    }

    fn rename<'a>(
        &'a self,
        id: TokenId,
        owner: &'a SubjectId,
        kind: Kind,
        name: Option<TokenName>,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        self.transact("renaming a token", Renaming { id, owner: owner.clone(), kind, name, now }, tokens::rename)
    }

    fn renew(&self, id: TokenId, until: Option<Timestamp>, now: Timestamp) -> Answer<'_, RenewOutcome> {
        self.transact("renewing a token", (id, until, now), tokens::renew)
    }

    fn rotate<'a>(&'a self, rotation: &'a Rotation, now: Timestamp) -> Answer<'a, RotateOutcome> {
        self.transact("rotating a token", (rotation.clone(), now), tokens::rotate)
    }

    fn settle_rotation<'a>(&'a self, id: TokenId, successor: &'a TokenDigest, now: Timestamp) -> Answer<'a, ()> {
        self.transact("ending the grace of a rotated secret", (id, *successor, now), tokens::settle_rotation)
    }

    fn adopt<'a>(
        &'a self,
        id: TokenId,
        was: (DigestScheme, TokenDigest),
        digest: &'a TokenDigest,
        now: Timestamp,
    ) -> Answer<'a, bool> {
        let adoption = Adoption { id, scheme: was.0, was: was.1, digest: *digest, now };
        self.transact("adopting an imported secret", adoption, tokens::adopt)
    }

    fn revoke<'a>(
        &'a self,
        id: TokenId,
        owner: Option<&'a SubjectId>,
        kind: Option<Kind>,
        now: Timestamp,
    ) -> Answer<'a, RevokeOutcome> {
        let revocation = Revocation { id, owner: owner.cloned(), kind, now };
        Box::pin(async move {
            let revoked = Revoking::revoke(&self.inner, revocation).await;
            revoked.map_err(|fault| fault.while_doing("revoking a token"))
        })
    }

    fn revoke_matching<'a>(&'a self, filter: &'a TokenFilter, batch: u32, now: Timestamp) -> Answer<'a, u64> {
        const DOING: &str = "revoking tokens by what they have in common";
        Box::pin(async move {
            let from = self.inner.revoked_up_to.of(filter, now);
            loop {
                let (mut numbers, mut after) = (Vec::new(), Some(from));
                while let Some(reached) = after
                    && numbers.len() < batch as usize
                {
                    let wanted = batch as usize - numbers.len();
                    let mut live = self.look_for(DOING, filter, now, reached, wanted).await?;
                    numbers.append(&mut live.numbers);
                    after = live.reached;
                }
                let count = numbers.len() as u64;
                let meant = matching::Batch { numbers, filter: filter.clone(), now };
                if count == 0 || self.transact(DOING, meant, matching::revoke).await? {
                    self.inner.revoked_up_to.note(filter, now, after);
                    return Ok(count);
                }
            }
        })
    }

    fn touch<'a>(&'a self, touches: &'a [Touch], now: Timestamp) -> Answer<'a, ()> {
        self.transact("noting where tokens were seen", (touches.to_vec(), now), tokens::touch)
    }

    fn purge(&self, dead_since: Timestamp, batch: u32) -> Answer<'_, u64> {
        self.transact("purging what is dead", (dead_since, batch), purge::purge)
    }

    fn count_try<'a>(&'a self, subject: Option<&'a SubjectId>, now: Timestamp) -> Answer<'a, Result<(), TryLater>> {
        self.transact("counting a try at a password", (subject.cloned(), now), attempts::count_try)
    }

    fn give_back_try<'a>(&'a self, subject: Option<&'a SubjectId>) -> Answer<'a, ()> {
        self.transact("giving a try at a password back", subject.cloned(), attempts::give_back_try)
    }

    fn forget_tries<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, ()> {
        self.transact("forgetting failed logins", subject.clone(), attempts::forget)
    }

    fn tries<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, Tries> {
        self.look_up("looking failed logins up", move |session| async move { attempts::tries(&session, subject).await })
    }

    fn sealed_otherwise<'a>(&'a self, key_id: u32, after: u64, limit: u32) -> Answer<'a, Vec<SealedSecret>> {
        self.read("listing sealed secrets", (key_id, after, limit), sealing::sealed_otherwise)
    }

    fn sealed_samples(&self, now: Timestamp) -> Answer<'_, Vec<SealedSecret>> {
        self.read("looking for sealed secrets", now, sealing::sealed_samples)
    }

    fn reseal<'a>(&'a self, was: &'a SealedSecret, sealed: &'a Sealed) -> Answer<'a, bool> {
        self.transact("sealing a secret anew", (was.clone(), sealed.clone()), sealing::reseal)
    }

    fn client<'a>(&'a self, name: &'a ClientName) -> Answer<'a, Option<Arc<Client>>> {
        self.look_up("looking a client up", move |session| async move {
            clients::client(&session, &self.inner.shared, name).await
        })
    }

    fn clients(&self) -> Answer<'_, Vec<Arc<Client>>> {
        let shared = Arc::clone(&self.inner.shared);
        self.read("listing clients", (), |session, _| async move { clients::clients(&session, &shared).await })
    }

    fn create_client<'a>(&'a self, client: &'a NewClient) -> Answer<'a, Option<Arc<Client>>> {
        self.transact("making a client", client.clone(), clients::create)
    }

    fn update_client<'a>(&'a self, update: &'a ClientUpdate, now: Timestamp) -> Answer<'a, ClientOutcome> {
        self.transact("changing a client", (update.clone(), now), clients::update)
    }

    fn delete_client<'a>(&'a self, id: ClientId, now: Timestamp) -> Answer<'a, bool> {
        self.transact("deleting a client", (id, now), clients::delete)
    }

    fn changes(&self, after: u64, limit: u32) -> Answer<'_, Changes> {
        self.look_up("reading the change log", move |session| async move {
            let changes = changes::changes(&session, after, limit).await?;
            self.inner.shared.belong_to(changes.incarnation);
            Ok(changes)
        })
    }

    fn news(&self) -> News<'_> {
        Box::pin(self.inner.news.notified())
    }

    fn is_shared(&self) -> bool {
        true
    }
}
