//! What a copy to or from another store reads and writes here: [`Target`].

use std::path::{Path, PathBuf};

use rusqlite::types::{Null, ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row, ToSql, params_from_iter};

use super::place::remove_if_there;
use super::{Absent, OpenOptions, SqliteStore, accounts};
use crate::copy::{Cell, CopyError, Deployment, Kind, Table, is_there};

/// A data directory of which nobody else is the server, with a transaction open that no other process can write beside.
pub(crate) struct Target {
    store: SqliteStore,
    connection: Connection,
    /// Where the files are that go again if nothing comes of it; none of what was there before.
    made: Option<PathBuf>,
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Cell::Nothing => Null.into(),
            Cell::Integer(number) => (*number).into(),
            Cell::Flag(flag) => i64::from(*flag).into(),
            Cell::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Cell::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
            Cell::Id(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
        })
    }
}

fn cell(row: &Row<'_>, place: usize, kind: Kind) -> rusqlite::Result<Cell> {
    Ok(match kind {
        Kind::Integer => row.get::<_, Option<i64>>(place)?.map_or(Cell::Nothing, Cell::Integer),
        Kind::Flag => row.get::<_, Option<bool>>(place)?.map_or(Cell::Nothing, Cell::Flag),
        Kind::Text => row.get::<_, Option<String>>(place)?.map_or(Cell::Nothing, Cell::Text),
        Kind::Bytes => row.get::<_, Option<Vec<u8>>>(place)?.map_or(Cell::Nothing, Cell::Bytes),
        Kind::Id => row.get::<_, Option<[u8; 16]>>(place)?.map_or(Cell::Nothing, Cell::Id),
    })
}

impl Target {
    /// To be copied from.
    pub(crate) fn open(directory: &Path) -> Result<Target, CopyError> {
        let target = Target::locked(directory, Absent::Refuse, None)?;
        // What a program of an older version has left empty; gone again with the transaction.
        target.connection.execute(accounts::FILL, [])?;
        Ok(target)
    }

    /// To be copied to.
    pub(crate) fn empty(directory: &Path) -> Result<Target, CopyError> {
        if is_there(directory) {
            return Err(CopyError::Present(directory.to_owned()));
        }
        Target::locked(directory, Absent::Create, Some(directory.to_owned()))
    }

    fn locked(directory: &Path, absent: Absent, made: Option<PathBuf>) -> Result<Target, CopyError> {
        let options = OpenOptions { absent, ..OpenOptions::serve() };
        let store = SqliteStore::open(directory, &options).map_err(CopyError::Sqlite)?;
        let connection = store.place.writing(options.busy_timeout)?;
        connection.execute_batch("BEGIN IMMEDIATE")?;
        Ok(Target { store, connection, made })
    }

    pub(crate) fn count(&self, table: &Table) -> Result<u64, CopyError> {
        Ok(self
            .connection
            .query_row(&format!("SELECT count(*) FROM {}", table.name), [], |row| row.get::<_, i64>(0))?
            .unsigned_abs())
    }

    /// Some rows in the order of the table's key, behind `after`.
    pub(crate) fn rows(&self, table: &Table, after: Option<&Cell>, limit: usize) -> Result<Vec<Vec<Cell>>, CopyError> {
        let (name, columns, key) = (table.name, table.column_list(), table.key());
        let behind = if after.is_some() { format!("WHERE {key} > ?1") } else { String::new() };
        let sql = format!("SELECT {columns} FROM {name} {behind} ORDER BY {key} LIMIT {limit}");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map(params_from_iter(after), |row| {
            table.columns.iter().enumerate().map(|(place, (_, kind))| cell(row, place, *kind)).collect()
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(crate) fn add(&self, table: &Table, rows: &[Vec<Cell>]) -> Result<(), CopyError> {
        let places = vec!["?"; table.columns.len()].join(", ");
        let sql = format!("INSERT INTO {} ({}) VALUES ({places})", table.name, table.column_list());
        let mut statement = self.connection.prepare_cached(&sql)?;
        for row in rows {
            statement.execute(params_from_iter(row))?;
        }
        Ok(())
    }

    /// What the deployment has that is no row of a table.
    pub(crate) fn deployment(&self) -> Result<Deployment, CopyError> {
        const READ: &str = "SELECT epoch, tally, next_tally FROM deployment";
        Ok(self.connection.query_row(READ, [], |row| {
            let (tally, next_tally) = (cell(row, 1, Kind::Id)?, cell(row, 2, Kind::Id)?);
            Ok(Deployment { epoch: row.get(0)?, tally, next_tally })
        })?)
    }

    /// The last number that each numbered table has given out, be it there still or not.
    pub(crate) fn last_numbers(&self) -> Result<Vec<(&'static str, i64)>, CopyError> {
        crate::copy::TABLES
            .iter()
            .filter(|table| table.is_numbered)
            .map(|table| {
                let sql = format!(
                    "SELECT max(coalesce((SELECT max({}) FROM {name}), 0),
                                coalesce((SELECT seq FROM sqlite_sequence WHERE name = '{name}'), 0))",
                    table.key(),
                    name = table.name
                );
                Ok((table.name, self.connection.query_row(&sql, [], |row| row.get(0))?))
            })
            .collect()
    }

    /// Goes on where the other store stood. Which life this is was drawn when the database was made.
    pub(crate) fn follow(&self, deployment: &Deployment, numbers: &[(&'static str, i64)]) -> Result<(), CopyError> {
        const GO_ON: &str = "
            UPDATE deployment
            SET epoch = ?1, tally = ?2, next_tally = ?3, commits = commits + 1, tag = random()";
        const NUMBERED: &str =
            "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = ?1 AND sql LIKE '%AUTOINCREMENT%')";
        let Deployment { epoch, tally, next_tally } = deployment;
        self.connection.execute(GO_ON, (epoch, tally, next_tally))?;
        for (table, last) in numbers {
            // The others have never removed their last row.
            if self.connection.query_row(NUMBERED, [table], |row| row.get(0))? {
                self.connection.execute("DELETE FROM sqlite_sequence WHERE name = ?1", [table])?;
                self.connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)", (table, last))?;
            }
        }
        Ok(())
    }

    /// Keeps what was written, or nothing of it.
    pub(crate) fn end(self, keep: bool) -> Result<(), CopyError> {
        let ended = self.connection.execute_batch(if keep { "COMMIT" } else { "ROLLBACK" });
        drop(self.connection);
        self.store.close();
        if let (Some(directory), false) = (&self.made, keep && ended.is_ok()) {
            let place = &self.store.place;
            let mut shared = place.database.clone().into_os_string();
            shared.push("-shm");
            let shared = PathBuf::from(shared);
            for file in [
                &place.database,
                &place.write_ahead,
                &shared,
                &place.witness,
                &place.reserve,
                &place.in_use,
                &place.lock,
            ] {
                // What is left holds no row: the transaction is not there.
                remove_if_there(file).ok();
            }
            // Goes only if it is empty.
            std::fs::remove_dir(directory).ok();
        }
        Ok(ended?)
    }

    /// Lets go of what was only read.
    pub(crate) fn close(self) {
        self.end(false).ok();
    }
}
