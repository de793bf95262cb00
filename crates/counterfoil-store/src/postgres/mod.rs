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

#![expect(dead_code, reason = "the methods of the stores come next")]

mod changes;
mod column;
mod fault;
mod inspection;
mod look_ups;
mod pool;
mod schema;
mod session;
mod settings;
mod transaction;

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use counterfoil_core::store::Answer;
use tokio::runtime::Handle;
use tokio::time::timeout;

use self::fault::Fault;
pub use self::inspection::{Inspection, Role, Standby, inspect};
use self::look_ups::LookUps;
use self::pool::Pool;
pub use self::schema::Migration;
use self::session::Session;
use self::settings::Settings;
use self::transaction::Transaction;

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
    /// After how long a transition is given up: its work, and again its commit.
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
        let look_ups = LookUps::new(settings, runtime.clone(), options.look_up_deadline);
        let transition_deadline = options.transition_deadline;
        Ok(PostgresStore { inner: Arc::new(Inner { runtime, pool, look_ups, transition_deadline }) })
    }

    /// Finishes what has been asked for and lets every connection go. What is asked for afterwards fails; closing again does
    /// nothing. On the runtime that it was connected on.
    pub async fn close(&self) {
        self.inner.look_ups.close();
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
    fn read<'a, A, T, F>(&'a self, doing: &'static str, wanted: A, read: fn(Arc<Session>, Arc<A>) -> F) -> Answer<'a, T>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        let (pool, deadline) = (Arc::clone(&self.inner.pool), self.inner.transition_deadline);
        Box::pin(async move {
            let reading = self.inner.runtime.spawn(async move {
                let lease = timeout(deadline, pool.take()).await.unwrap_or(Err(Fault::Deadline))?;
                let asked = timeout(deadline, read(Arc::clone(lease.session()), Arc::new(wanted)));
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
        let (pool, deadline) = (Arc::clone(&self.inner.pool), self.inner.transition_deadline);
        let wanted = Arc::new(wanted);
        Box::pin(async move {
            // Begun with the first poll: whoever never asks has asked for nothing.
            let under_way = self.inner.runtime.spawn(async move {
                transaction::transact(&pool, deadline, |transaction| work(transaction, Arc::clone(&wanted))).await
            });
            under_way.await.unwrap_or(Err(Fault::Panicked)).map_err(|fault| fault.while_doing(doing))
        })
    }
}
