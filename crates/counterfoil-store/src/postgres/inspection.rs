//! What an operator should know of the server and the database: [`inspect`].

use std::time::Duration;

use counterfoil_core::Timestamp;
use counterfoil_core::attempts::Tries;

use super::column::{get, get_if_any, value};
use super::fault::Fault;
use super::schema::{self, Migration};
use super::session::Session;
use super::settings::Settings;
use super::{ConnectError, ConnectOptions};

/// The server and the database as they are, for a person who looks after them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Inspection {
    /// The version of the server, as it says it.
    pub version: String,
    /// How long it took to ask once, there and back.
    pub round_trip: Duration,
    /// The server's clock, read between the two instants that [`Inspection::round_trip`] lies between.
    pub clock: Timestamp,
    /// `synchronous_commit`: what is on disk, here or on a standby, before a commit is acknowledged.
    pub synchronous_commit: String,
    /// `fsync`: whether anything is.
    pub fsync: bool,
    /// `full_page_writes`: whether a page that was half written at a power cut can be repaired.
    pub full_page_writes: bool,
    /// `synchronous_standby_names`: which standbys a commit waits for; empty: for none.
    pub synchronous_standby_names: String,
    /// The standbys that are connected right now.
    pub standbys: Vec<Standby>,
    /// Whether the connection is encrypted.
    pub encrypted: bool,
    /// The role that we are.
    pub role: Role,
    /// How many connections the server takes.
    pub max_connections: i64,
    /// How many connections of ours one node opens at most.
    pub node_connections: i64,
    /// Bytes of the database on disk.
    pub database_bytes: i64,
    /// What the database lacks of this version's tables.
    pub missing: Vec<Migration>,
    /// The number of the newest change in the log, and how many are kept; `None` while tables are missing.
    pub log: Option<(i64, i64)>,
    /// Accounts that are locked because of failed logins; 0 while tables are missing.
    pub locked_out: u64,
    /// The oldest transaction that is open anywhere on the server: it keeps the space of dead rows from being used again.
    pub oldest_transaction: Option<Duration>,
}

/// A standby of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standby {
    /// Its `application_name`.
    pub name: String,
    /// Whether a commit waits for it: `sync`, `quorum`, `potential` or `async`; `None` where the role may not see it.
    pub sync_state: Option<String>,
    /// How many bytes of the log it has yet to flush, where the role may see it.
    pub behind_bytes: Option<i64>,
}

/// A role of the server, and whether it may more than it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Whether it is a superuser.
    pub superuser: bool,
    /// Whether the tables are its own: it may then drop them, too.
    pub owner: bool,
}

// Everything in one row. `pg_stat_ssl` shows a role its own connection at least.
const SERVER: &str = "
    SELECT current_setting('server_version'),
           CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS bigint),
           current_setting('synchronous_commit'), current_setting('fsync') = 'on',
           current_setting('full_page_writes') = 'on', current_setting('synchronous_standby_names'),
           coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false),
           CAST(current_user AS text), (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
           coalesce((SELECT tableowner = current_user FROM pg_tables
                     WHERE schemaname = current_schema() AND tablename = 'tokens'), true),
           CAST(current_setting('max_connections') AS bigint), pg_database_size(current_database()),
           (SELECT CAST(floor(extract(epoch FROM max(clock_timestamp() - xact_start))) AS bigint)
            FROM pg_stat_activity WHERE pid <> pg_backend_pid())";

const STANDBYS: &str = "
    SELECT coalesce(application_name, ''), sync_state,
           CAST(pg_wal_lsn_diff(sent_lsn, flush_lsn) AS bigint)
    FROM pg_stat_replication ORDER BY 1";

const LOG: &str = "SELECT coalesce(max(n), 0), count(*) FROM log";

// As many rows are read as accounts have failed logins.
const LOCKED_OUT: &str = "SELECT count(*) FROM tries WHERE failed >= $1";

/// Looks at the server behind `url` and at the database; changes nothing. `since` tells the time since some fixed instant, so that how
/// long an answer took can be told.
///
/// # Errors
/// [`ConnectError`], among others where the server is too old, takes no writes, or the database is another program's.
pub async fn inspect(
    url: &str,
    options: &ConnectOptions,
    since: impl Fn() -> Duration,
) -> Result<Inspection, ConnectError> {
    let settings = Settings::parse(url, &options.application_name, options.statement_timeout)?;
    let session = Session::connect(&settings, None).await?;
    schema::suits(&session).await?;
    let missing = schema::pending(&session).await?;
    // Once before, because the first time it is prepared as well.
    session.query_one(SERVER, &[]).await?;
    let asked = since();
    let row = session.query_one(SERVER, &[]).await?;
    let round_trip = since().saturating_sub(asked);
    let standbys = session.query(STANDBYS, &[]).await?;
    let standbys = standbys.iter().map(|row| {
        Ok(Standby { name: get(row, 0)?, sync_state: get_if_any(row, 1)?, behind_bytes: get_if_any(row, 2)? })
    });
    let (log, locked_out) = if missing.is_empty() {
        let [log, locked_out] = session.flight([(LOG, &[]), (LOCKED_OUT, &[value(Tries::MOST)])]).await?;
        let (log, locked_out) = (log.first().ok_or(Fault::Miscounted)?, locked_out.first().ok_or(Fault::Miscounted)?);
        (Some((get(log, 0)?, get(log, 1)?)), get(locked_out, 0)?)
    } else {
        (None, 0)
    };
    let oldest: Option<i64> = get_if_any(&row, 12)?;
    Ok(Inspection {
        version: get(&row, 0)?,
        round_trip,
        clock: get(&row, 1)?,
        synchronous_commit: get(&row, 2)?,
        fsync: get(&row, 3)?,
        full_page_writes: get(&row, 4)?,
        synchronous_standby_names: get(&row, 5)?,
        standbys: standbys.collect::<Result<_, ConnectError>>()?,
        encrypted: get(&row, 6)?,
        role: Role { name: get(&row, 7)?, superuser: get(&row, 8)?, owner: get(&row, 9)? },
        max_connections: get(&row, 10)?,
        node_connections: settings.connections(),
        database_bytes: get(&row, 11)?,
        missing,
        log,
        locked_out,
        oldest_transaction: oldest.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs),
    })
}
