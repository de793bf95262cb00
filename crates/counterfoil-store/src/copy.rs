//! Moving to another store: everything from SQLite to PostgreSQL, or from PostgreSQL to SQLite.
//!
//! What is copied is what was committed when the copy began; nobody serves from SQLite meanwhile, and nobody writes to PostgreSQL. It
//! comes in one transaction, and is read through again before that is committed: nothing of a broken copy remains. Keys, numbers,
//! epochs and the change log come along, so that every token, cursor and link means what it meant; but a copy is another life of
//! the store, so that no cache goes on with what it knew of the one before.

mod table;

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::postgres::copying::Target as Postgres;
use crate::sqlite::copying::Target as Sqlite;
use crate::{ConnectError, OpenError};

pub(crate) use self::table::{Cell, Checksum, Kind, TABLES, Table};

/// A store that is copied from, or to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The data directory of a database of SQLite's.
    Sqlite(PathBuf),
    /// The URL of a database of PostgreSQL's; see [`crate::PostgresStore`].
    Postgres(String),
}

impl fmt::Display for Place {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Sqlite(directory) => write!(f, "sqlite:{}", directory.display()),
            Place::Postgres(url) => f.write_str(&crate::postgres::copying::without_password(url)),
        }
    }
}

/// How far a copy has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Of which table.
    pub table: &'static str,
    /// Whether rows are copied, or read again.
    pub verifying: bool,
    /// Rows of it that are done.
    pub done: u64,
    /// Rows that there are of it.
    pub total: u64,
}

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Each table, with its rows.
    pub tables: Vec<(&'static str, u64)>,
}

impl Copied {
    /// How many rows of a table there are; 0 of one that is not copied.
    pub fn rows_of(&self, table: &str) -> u64 {
        self.tables.iter().find(|(name, _)| *name == table).map_or(0, |(_, rows)| *rows)
    }
}

/// Why nothing was copied. The text says what to do, and shows no password.
#[derive(Debug)]
#[non_exhaustive]
pub enum CopyError {
    /// Both are of one kind: a backup and a dump do that better.
    SameKind,
    /// The database of SQLite's does not open.
    Sqlite(OpenError),
    /// There is a database of SQLite's in the directory that was to be copied to.
    Present(PathBuf),
    /// SQLite fails.
    SqliteFailed(rusqlite::Error),
    /// The database of PostgreSQL's does not open.
    Postgres(ConnectError),
    /// PostgreSQL fails; the text is its own.
    PostgresFailed(String),
    /// PgBouncer deals out transactions there.
    Pooled,
    /// There is something in this table of what was to be copied to.
    NotEmpty(&'static str),
    /// PostgreSQL keeps no U+0000 in text: the table, the column and the key of the row.
    Unkeepable {
        /// In which table.
        table: &'static str,
        /// In which column.
        column: &'static str,
        /// Of which row: the first column, as people write it.
        row: String,
    },
    /// What was read again is not what was written.
    Different(&'static str),
}

impl fmt::Display for CopyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CopyError::SameKind => f.write_str(
                "both stores are of one kind: `counterfoil backup` copies one of SQLite's, pg_dump one of PostgreSQL's",
            ),
            CopyError::Sqlite(error) => fmt::Display::fmt(error, f),
            CopyError::Present(directory) => write!(
                f,
                "there is a database in {} already: nothing is copied over it; name a directory that has none",
                directory.display()
            ),
            CopyError::SqliteFailed(error) => write!(f, "SQLite failed, and nothing was copied: {error}"),
            CopyError::Postgres(error) => fmt::Display::fmt(error, f),
            CopyError::PostgresFailed(why) => write!(f, "PostgreSQL failed, and nothing was copied: {why}"),
            CopyError::Pooled => {
                f.write_str("a copy takes a connection of its own: name the server itself, without pooler=transaction")
            }
            CopyError::NotEmpty(table) => write!(
                f,
                "the table {table} of the database that was to be copied to is not empty: nothing is copied over it; make a \
                 database that has none"
            ),
            CopyError::Unkeepable { table, column, row } => write!(
                f,
                "PostgreSQL keeps no U+0000 in text, and the {column} of row {row} of the table {table} has one: change it \
                 there, and copy again; nothing was copied"
            ),
            CopyError::Different(table) => write!(
                f,
                "what was read again of the table {table} is not what was written: nothing was kept of the copy"
            ),
        }
    }
}

impl Error for CopyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            CopyError::Sqlite(error) => error.source(),
            CopyError::SameKind
            | CopyError::Present(_)
            | CopyError::SqliteFailed(_)
            | CopyError::Postgres(_)
            | CopyError::PostgresFailed(_)
            | CopyError::Pooled
            | CopyError::NotEmpty(_)
            | CopyError::Unkeepable { .. }
            | CopyError::Different(_) => None,
        }
    }
}

impl From<rusqlite::Error> for CopyError {
    fn from(error: rusqlite::Error) -> CopyError {
        CopyError::SqliteFailed(error)
    }
}

/// What is carried of the one row of the deployment.
pub(crate) struct Deployment {
    pub(crate) epoch: i64,
    /// Those of tokens that are kept elsewhere: the copy goes on with them.
    pub(crate) tally: Cell,
    pub(crate) next_tally: Cell,
}

/// Rows that are on their way at once.
pub(crate) const BATCH: usize = 5_000;

/// Copies everything that is in `from` to `to`, which must be empty or not be there, and tells `progress` how far it has come.
///
/// Blocks the thread now and then, for as long as the disk takes. To be called on a runtime.
///
/// # Errors
/// [`CopyError`]; then there is nothing in `to` that was not there before, but for tables without rows.
pub async fn copy(from: &Place, to: &Place, mut progress: impl FnMut(Progress)) -> Result<Copied, CopyError> {
    match (from, to) {
        (Place::Sqlite(directory), Place::Postgres(url)) => {
            let source = Sqlite::open(directory)?;
            let target = Postgres::empty(url).await?;
            let copied = into_postgres(&source, &target, &mut progress).await;
            let ended = target.end(copied.is_ok()).await;
            source.close();
            copied.and_then(|copied| ended.map(|()| copied))
        }
        (Place::Postgres(url), Place::Sqlite(directory)) => {
            let source = Postgres::reading(url).await?;
            let target = Sqlite::empty(directory)?;
            let copied = into_sqlite(&source, &target, &mut progress).await;
            let ended = target.end(copied.is_ok());
            source.end(false).await?;
            copied.and_then(|copied| ended.map(|()| copied))
        }
        (Place::Sqlite(_), Place::Sqlite(_)) | (Place::Postgres(_), Place::Postgres(_)) => Err(CopyError::SameKind),
    }
}

async fn into_postgres(
    source: &Sqlite,
    target: &Postgres,
    progress: &mut dyn FnMut(Progress),
) -> Result<Copied, CopyError> {
    let mut tables = Vec::new();
    for table in TABLES {
        let total = source.count(table)?;
        let mut tell = |verifying, done| progress(Progress { table: table.name, verifying, done, total });
        tell(false, 0);
        let mut read = Checksum::default();
        let mut after = None;
        loop {
            let rows = source.rows(table, after.as_ref(), BATCH)?;
            let Some(last) = rows.last() else { break };
            after = last.first().cloned();
            for row in &rows {
                keepable(table, row)?;
                read.add(row);
            }
            target.add(table, &rows).await?;
            tell(false, read.rows());
        }
        let written = target.checksum(table, |done| tell(true, done)).await?;
        if read != written {
            return Err(CopyError::Different(table.name));
        }
        tables.push((table.name, read.rows()));
    }
    target.follow(&source.deployment()?, &source.last_numbers()?).await?;
    Ok(Copied { tables })
}

async fn into_sqlite(
    source: &Postgres,
    target: &Sqlite,
    progress: &mut dyn FnMut(Progress),
) -> Result<Copied, CopyError> {
    let mut tables = Vec::new();
    for table in TABLES {
        let total = source.count(table).await?;
        let mut tell = |verifying, done| progress(Progress { table: table.name, verifying, done, total });
        tell(false, 0);
        let mut read = Checksum::default();
        source
            .each(table, BATCH, |rows| {
                rows.iter().for_each(|row| read.add(row));
                target.add(table, rows)?;
                tell(false, read.rows());
                Ok(())
            })
            .await?;
        let mut written = Checksum::default();
        let mut after = None;
        loop {
            let rows = target.rows(table, after.as_ref(), BATCH)?;
            let Some(last) = rows.last() else { break };
            after = last.first().cloned();
            rows.iter().for_each(|row| written.add(row));
            tell(true, written.rows());
        }
        if read != written {
            return Err(CopyError::Different(table.name));
        }
        tables.push((table.name, read.rows()));
    }
    target.follow(&source.deployment().await?, &source.last_numbers().await?)?;
    Ok(Copied { tables })
}

/// Whether PostgreSQL can keep the row as it is.
fn keepable(table: &Table, row: &[Cell]) -> Result<(), CopyError> {
    for ((column, _), cell) in table.columns.iter().zip(row) {
        if matches!(cell, Cell::Text(text) if text.contains('\0')) {
            let row = row.first().map(ToString::to_string).unwrap_or_default();
            return Err(CopyError::Unkeepable { table: table.name, column, row });
        }
    }
    Ok(())
}

/// Whether there is a database of SQLite's in a directory.
pub(crate) fn is_there(directory: &Path) -> bool {
    directory.join("counterfoil.db").exists()
}
