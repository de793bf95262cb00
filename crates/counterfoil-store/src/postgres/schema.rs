//! Which tables there are: migrations that are applied once, in order, and never change.

use sha2::{Digest, Sha256};

use super::ConnectError;
use super::column::{get, value};
use super::session::Session;

/// One step of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// Its place, from 1.
    pub number: i64,
    /// What it is about.
    pub name: &'static str,
    /// What it runs.
    pub sql: &'static str,
}

/// Every one, in order.
const MIGRATIONS: &[Migration] = &[
    Migration { number: 1, name: "initial", sql: include_str!("../../migrations/postgres/0001_initial.sql") },
    Migration { number: 2, name: "tally", sql: include_str!("../../migrations/postgres/0002_tally.sql") },
];

impl Migration {
    fn checksum(&self) -> [u8; 32] {
        Sha256::digest(self.sql).into()
    }
}

/// The first server whose features are relied on.
const OLDEST: i64 = 150_000;

const SERVER: &str = "
    SELECT CAST(current_setting('server_version_num') AS bigint), current_setting('server_encoding')";

/// Whether the server can keep what is ours.
pub(super) async fn suits(session: &Session) -> Result<(), ConnectError> {
    let row = session.query_one(SERVER, &[]).await?;
    let (version, encoding): (i64, String) = (get(&row, 0)?, get(&row, 1)?);
    if version < OLDEST {
        return Err(ConnectError::TooOld(version / 10_000));
    }
    if encoding != "UTF8" {
        return Err(ConnectError::Encoding(encoding));
    }
    Ok(())
}

// Not to_regclass(), which may go by what the session remembers from before it waited for another one that made the table.
const HAS_MIGRATIONS: &str = "
    SELECT EXISTS (SELECT 1 FROM pg_class WHERE relname = 'migrations' AND relkind = 'r' AND pg_table_is_visible(oid))";

const APPLIED: &str = "SELECT number, checksum FROM migrations ORDER BY number";

/// Those that the database has yet to be given.
pub(super) async fn pending(session: &Session) -> Result<Vec<Migration>, ConnectError> {
    if !get::<bool>(&session.query_one(HAS_MIGRATIONS, &[]).await?, 0)? {
        return Ok(MIGRATIONS.to_vec());
    }
    let mut missing = MIGRATIONS.iter();
    for row in session.query(APPLIED, &[]).await? {
        let (number, checksum): (i64, [u8; 32]) = (get(&row, 0)?, get(&row, 1)?);
        match missing.next() {
            Some(known) if known.number != number || known.checksum() != checksum => {
                return Err(ConnectError::Altered(number));
            }
            Some(_) => {}
            None => return Err(ConnectError::Newer { found: number, known: MIGRATIONS.len() as i64 }),
        }
    }
    Ok(missing.copied().collect())
}

// The first eight bytes of a digest of "counterfoil migrations". Building an index may take longer than any other statement.
const LOCK: &str = "SET LOCAL statement_timeout = 0; SELECT pg_advisory_xact_lock(6543605367371237745)";

// When it was applied is for the operator; nothing here reads it.
const REMEMBER: &str = "
    CREATE TABLE IF NOT EXISTS migrations (
        number bigint NOT NULL CONSTRAINT migrations_pkey PRIMARY KEY,
        name text NOT NULL,
        checksum bytea NOT NULL CONSTRAINT migrations_checksum_is_32_bytes CHECK (length(checksum) = 32),
        applied_at timestamptz NOT NULL DEFAULT now()
    )";

const APPLY: &str = "INSERT INTO migrations (number, name, checksum) VALUES ($1, $2, $3)";

/// Applies what is missing, all or none of it, and tells what it was. Of N nodes that start at once one does, and the others wait.
pub(super) async fn migrate(session: &Session) -> Result<Vec<Migration>, ConnectError> {
    session.begin().await?;
    let migrated = apply(session).await;
    session.run(if migrated.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
    migrated
}

async fn apply(session: &Session) -> Result<Vec<Migration>, ConnectError> {
    session.run(LOCK).await?;
    let missing = pending(session).await?;
    if missing.is_empty() {
        return Ok(missing);
    }
    session.run(REMEMBER).await?;
    for migration in &missing {
        session
            .run(migration.sql)
            .await
            .map_err(|fault| ConnectError::Migration(migration.number, fault.to_string()))?;
        let checksum = migration.checksum();
        session.execute(APPLY, &[value(migration.number), value(migration.name), value(checksum.as_slice())]).await?;
    }
    Ok(missing)
}
