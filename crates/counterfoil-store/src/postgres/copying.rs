//! What a copy to or from another store reads and writes here: [`Target`].

use std::time::Duration;

use counterfoil_core::token::TokenId;
use tokio_postgres::Row;

use super::column::{Value, get, get_if_any, value};
use super::fault::Fault;
use super::session::Session;
use super::settings::{Pooler, Settings};
use super::{ConnectError, schema};
use crate::copy::{BATCH, Cell, Checksum, CopyError, Deployment, Kind, TABLES, Table};

/// A connection with a transaction open on it.
pub(crate) struct Target {
    session: Session,
}

/// The URL without what is nobody's business, for whoever is told where the copy went.
pub(crate) fn without_password(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match url.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://{}", rest.rsplit_once('@').map_or(rest, |(_, host)| host)),
        None => String::new(),
    }
}

impl From<Fault> for CopyError {
    fn from(fault: Fault) -> CopyError {
        CopyError::PostgresFailed(fault.to_string())
    }
}

impl From<ConnectError> for CopyError {
    fn from(error: ConnectError) -> CopyError {
        CopyError::Postgres(error)
    }
}

// The one snapshot that everything is read from.
const BEGIN_READING: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

const BEGIN_WRITING: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

// Millions of rows take as long as they take; but nobody else is waited for.
const PATIENCE: &str = "
    SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL lock_timeout = 5000";

const DEPLOYMENT: &str = "SELECT epoch, tally, next_tally FROM deployment";

// A new life of the store: no cache goes on with what it knew of another.
const FOLLOW: &str = "UPDATE deployment SET epoch = $1, tally = $2, next_tally = $3, incarnation = gen_random_uuid()";

impl Target {
    /// To be copied from.
    pub(crate) async fn reading(url: &str) -> Result<Target, CopyError> {
        let session = connected(url).await?;
        let missing = schema::pending(&session).await?;
        if !missing.is_empty() {
            return Err(ConnectError::Pending(missing.len()).into());
        }
        session.run(BEGIN_READING).await?;
        session.run(PATIENCE).await?;
        Ok(Target { session })
    }

    /// To be copied to: the tables are made where they are missing, and nobody else writes to them.
    pub(crate) async fn empty(url: &str) -> Result<Target, CopyError> {
        let session = connected(url).await?;
        schema::migrate(&session).await?;
        session.run(BEGIN_WRITING).await?;
        session.run(PATIENCE).await?;
        let tables: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
        session.run(&format!("LOCK TABLE deployment, {} IN SHARE ROW EXCLUSIVE MODE", tables.join(", "))).await?;
        let target = Target { session };
        for table in TABLES {
            if target.count(table).await? > 0 {
                return Err(CopyError::NotEmpty(table.name));
            }
        }
        if target.deployment().await?.epoch > 0 {
            return Err(CopyError::NotEmpty("deployment"));
        }
        Ok(target)
    }

    pub(crate) async fn count(&self, table: &Table) -> Result<u64, CopyError> {
        Ok(get(&self.session.query_one(&format!("SELECT count(*) FROM {}", table.name), &[]).await?, 0)?)
    }

    /// Hands all rows to `take`, some at a time, in the order of the table's key.
    pub(crate) async fn each(
        &self,
        table: &Table,
        batch: usize,
        mut take: impl FnMut(&[Vec<Cell>]) -> Result<(), CopyError>,
    ) -> Result<(), CopyError> {
        let (name, columns, key) = (table.name, table.column_list(), table.key());
        let first = format!("SELECT {columns} FROM {name} ORDER BY {key} LIMIT {batch}");
        let next = format!("SELECT {columns} FROM {name} WHERE {key} > $1 ORDER BY {key} LIMIT {batch}");
        let mut after: Option<Cell> = None;
        loop {
            let rows = match &after {
                None => self.session.query(&first, &[]).await?,
                Some(after) => self.session.query(&next, &[key_of(table, after)]).await?,
            };
            let rows = rows.iter().map(|row| cells(row, table)).collect::<Result<Vec<_>, Fault>>()?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.first().cloned();
            take(&rows)?;
        }
    }

    pub(crate) async fn checksum(&self, table: &Table, mut tell: impl FnMut(u64)) -> Result<Checksum, CopyError> {
        let mut checksum = Checksum::default();
        self.each(table, BATCH, |rows| {
            rows.iter().for_each(|row| checksum.add(row));
            tell(checksum.rows());
            Ok(())
        })
        .await?;
        Ok(checksum)
    }

    pub(crate) async fn add(&self, table: &Table, rows: &[Vec<Cell>]) -> Result<(), CopyError> {
        let values: Vec<Vec<Value<'_>>> = rows
            .iter()
            .map(|row| table.columns.iter().zip(row).map(|((_, kind), cell)| parameter(*kind, cell)).collect())
            .collect();
        Ok(self.session.load(table.name, &table.column_list(), &values).await?)
    }

    /// What the deployment has that is no row of a table.
    pub(crate) async fn deployment(&self) -> Result<Deployment, CopyError> {
        let row = self.session.query_one(DEPLOYMENT, &[]).await?;
        let (tally, next_tally) = (cell(&row, 1, Kind::Id)?, cell(&row, 2, Kind::Id)?);
        Ok(Deployment { epoch: get(&row, 0)?, tally, next_tally })
    }

    /// The last number that each numbered table has given out, be it there still or not.
    pub(crate) async fn last_numbers(&self) -> Result<Vec<(&'static str, i64)>, CopyError> {
        let mut numbers = Vec::new();
        for table in TABLES.iter().filter(|table| table.is_numbered) {
            let (name, key) = (table.name, table.key());
            let sql = format!(
                "SELECT greatest(coalesce((SELECT max({key}) FROM {name}), 0),
                    coalesce(pg_sequence_last_value(CAST(pg_get_serial_sequence('{name}', '{key}') AS regclass)), 0))"
            );
            numbers.push((name, get(&self.session.query_one(&sql, &[]).await?, 0)?));
        }
        Ok(numbers)
    }

    /// Goes on where the other store stood.
    pub(crate) async fn follow(
        &self,
        deployment: &Deployment,
        numbers: &[(&'static str, i64)],
    ) -> Result<(), CopyError> {
        let Deployment { epoch, tally, next_tally } = deployment;
        let [tally, next_tally] = [tally, next_tally].map(|tally| parameter(Kind::Id, tally));
        self.session.execute(FOLLOW, &[value(*epoch), tally, next_tally]).await?;
        for table in TABLES.iter().filter(|table| table.is_numbered) {
            let last = numbers.iter().find(|(name, _)| *name == table.name).map_or(0, |(_, last)| *last);
            if last > 0 {
                let sql = format!("SELECT setval(pg_get_serial_sequence('{}', '{}'), $1)", table.name, table.key());
                self.session.query(&sql, &[value(last)]).await?;
            }
        }
        Ok(())
    }

    /// Keeps what was written, or nothing of it.
    pub(crate) async fn end(&self, keep: bool) -> Result<(), CopyError> {
        if keep && self.session.has_failed() {
            return Err(Fault::Failed.into());
        }
        Ok(self.session.run(if keep { "COMMIT" } else { "ROLLBACK" }).await?)
    }
}

async fn connected(url: &str) -> Result<Session, CopyError> {
    let settings = Settings::parse(url, "counterfoil store copy", Duration::from_secs(30))?;
    if settings.pooler == Pooler::Transaction {
        return Err(CopyError::Pooled);
    }
    let session = Session::connect(&settings, None).await.map_err(ConnectError::from)?;
    schema::suits(&session).await?;
    Ok(session)
}

fn cells(row: &Row, table: &Table) -> Result<Vec<Cell>, Fault> {
    table.columns.iter().enumerate().map(|(place, (_, kind))| cell(row, place, *kind)).collect()
}

fn cell(row: &Row, place: usize, kind: Kind) -> Result<Cell, Fault> {
    Ok(match kind {
        Kind::Integer => get_if_any(row, place)?.map_or(Cell::Nothing, Cell::Integer),
        Kind::Flag => get_if_any(row, place)?.map_or(Cell::Nothing, Cell::Flag),
        Kind::Text => get_if_any(row, place)?.map_or(Cell::Nothing, Cell::Text),
        Kind::Bytes => get_if_any(row, place)?.map_or(Cell::Nothing, Cell::Bytes),
        // Every id is sixteen bytes, whatever it names.
        Kind::Id => get_if_any::<TokenId>(row, place)?.map_or(Cell::Nothing, |id| Cell::Id(*id.as_bytes())),
    })
}

fn key_of<'a>(table: &Table, key: &'a Cell) -> Value<'a> {
    parameter(table.columns.first().map_or(Kind::Integer, |(_, kind)| *kind), key)
}

/// A parameter, or a column of a row on its way, of the type that the column has even where there is nothing in it.
fn parameter(kind: Kind, cell: &Cell) -> Value<'_> {
    match (cell, kind) {
        (Cell::Integer(number), _) => Value::Integer(Some(*number)),
        (Cell::Flag(flag), _) => Value::Flag(*flag),
        (Cell::Text(text), _) => Value::Text(Some(text.into())),
        (Cell::Bytes(bytes), _) => Value::Bytes(Some(bytes.into())),
        (Cell::Id(bytes), _) => Value::Id(Some(*bytes)),
        (Cell::Nothing, Kind::Integer) => Value::Integer(None),
        // No flag of ours may be absent.
        (Cell::Nothing, Kind::Flag) => Value::Flag(false),
        (Cell::Nothing, Kind::Text) => Value::Text(None),
        (Cell::Nothing, Kind::Bytes) => Value::Bytes(None),
        (Cell::Nothing, Kind::Id) => Value::Id(None),
    }
}
