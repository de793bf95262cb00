//! A SQLite file, read beside the Django that may be using it.
//!
//! A long read would keep Django from committing where the file has no write-ahead log, which is Django's default. So a table is
//! read in pages, in order of rowid, and nothing is held between them. What changes meanwhile is what `--follow`, or the next run,
//! finds.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use super::{Column, Source, Table, quoted};
use crate::failure::{Failure, causes};
use crate::import::cell::{Cell, MAX_CELL, Odd};

/// Rows of a page: some ten milliseconds, in which a commit waits.
const PAGE: u32 = 1_000;

/// What a file is while nobody changes it.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    changed: SystemTime,
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Stamp> {
        let metadata = fs::metadata(path)?;
        Ok(Stamp { bytes: metadata.len(), changed: metadata.modified()? })
    }
}

pub(super) struct Sqlite {
    path: PathBuf,
    connection: Connection,
    /// As which the file is read as one that nobody changes: see [`Sqlite::connect`].
    still: Option<Stamp>,
}

impl Sqlite {
    pub(super) fn open(path: &Path) -> Result<Sqlite, Failure> {
        super::is_a_file(path)?;
        let mut header = [0; 20];
        let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
        read.map_err(|error| Failure::caused_by(format!("cannot read {}", path.display()), &error))?;
        if !header.starts_with(b"SQLite format 3\0") {
            return Err(Failure::refused(format!("{} is no SQLite database", path.display())));
        }
        let (connection, still) = Sqlite::connect(path)?;
        Ok(Sqlite { path: path.to_owned(), connection, still })
    }

    /// Opens it for reading only.
    ///
    /// A file that has a write-ahead log, and that nobody has open, would get two files beside it by being read, of the
    /// importer's user: a Django that starts under another could not write any more. Such a file is read as one that does not
    /// change, and looked at again after each page.
    fn connect(path: &Path) -> Result<(Connection, Option<Stamp>), Failure> {
        let failed =
            |error: &dyn std::error::Error| Failure::caused_by(format!("cannot open {}", path.display()), error);
        let mut header = [0; 20];
        File::open(path).and_then(|mut file| file.read_exact(&mut header)).map_err(|error| failed(&error))?;
        let logs_ahead = header[18] == 2 || header[19] == 2;
        let stamp = Stamp::of(path).map_err(|error| failed(&error))?;
        let still = (logs_ahead && !beside(path, "-wal").exists()).then_some(stamp);
        let full = fs::canonicalize(path).map_err(|error| failed(&error))?;
        let text = full.to_str().ok_or_else(|| Failure::refused("the path of the database is not UTF-8"))?;
        let escaped = text.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
        let uri = format!("file:{escaped}?mode=ro{}", if still.is_some() { "&immutable=1" } else { "" });
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(uri, flags).map_err(|error| failed(&error))?;
        let made = connection
            .busy_timeout(Duration::from_secs(30))
            .and_then(|()| connection.pragma_update(None, "query_only", true))
            // A column type in the file's schema could otherwise call what the schema's author defined.
            .and_then(|()| connection.pragma_update(None, "trusted_schema", false))
            .and_then(|()| connection.pragma_update(None, "cache_size", -8_192));
        made.map_err(|error| failed(&error))?;
        Ok((connection, still))
    }

    /// Whether a file that was taken for still has come into use.
    fn look_that_it_is_still(&self) -> Result<(), Failure> {
        let Some(stamp) = &self.still else { return Ok(()) };
        // Whoever came and went since has left another file, or none.
        if beside(&self.path, "-wal").exists() || Stamp::of(&self.path).ok().as_ref() != Some(stamp) {
            return Err(Failure::refused(format!("{} came into use while it was read", self.path.display()))
                .hint("run the same command again: it goes on from where it was"));
        }
        Ok(())
    }

    /// Another number after each change of the schema and each VACUUM.
    fn shape(&self) -> Result<i64, Failure> {
        let read = self.connection.query_row("PRAGMA schema_version", [], |row| row.get(0));
        read.map_err(|error| self.failed("read the schema", &error))
    }

    fn failed(&self, doing: &str, error: &rusqlite::Error) -> Failure {
        Failure::refused(format!("cannot {doing} of {}: {}", self.path.display(), causes(error)))
    }

    fn page(
        &self,
        sql: &str,
        after: Option<i64>,
        width: usize,
        each: &mut dyn FnMut(&[Cell]) -> Result<(), Failure>,
    ) -> Result<Option<i64>, Failure> {
        let failed = |error: rusqlite::Error| self.failed("read rows", &error);
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let mut rows = statement.query((after.unwrap_or(i64::MIN), PAGE)).map_err(failed)?;
        let (mut last, mut count) = (after, 0);
        // Read first and told afterwards, because the file is locked against commits until the page ends.
        let mut page = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            for index in 0..width {
                page.push(cell(row.get_ref(index).map_err(failed)?));
            }
            last = Some(row.get(width).map_err(failed)?);
            count += 1;
        }
        drop(rows);
        drop(statement);
        // Before anything is told of them: a page that was being written meanwhile may lack rows.
        self.look_that_it_is_still()?;
        for row in page.chunks(width) {
            each(row)?;
        }
        Ok(if count < PAGE { None } else { last })
    }
}

impl Source for Sqlite {
    fn look(&mut self) -> Result<(), Failure> {
        // Whether it is still may have changed since, and the file may be another one.
        (self.connection, self.still) = Sqlite::connect(&self.path)?;
        Ok(())
    }

    fn tables(&mut self) -> Result<Vec<Table>, Failure> {
        let failed = |error: rusqlite::Error| self.failed("read the tables", &error);
        let mut names = self
            .connection
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'")
            .map_err(failed)?;
        let names = names.query_map([], |row| row.get::<_, String>(0)).map_err(failed)?;
        let names: Vec<String> = names.collect::<Result<_, _>>().map_err(failed)?;
        let mut tables = Vec::new();
        for name in names {
            let mut statement =
                self.connection.prepare("SELECT name, lower(type), pk FROM pragma_table_info(?1)").map_err(failed)?;
            let columns = statement
                .query_map([&name], |row| {
                    Ok(Column {
                        name: row.get(0)?,
                        kind: row.get(1)?,
                        primary: row.get::<_, i64>(2)? > 0,
                        refers_to: None,
                    })
                })
                .map_err(failed)?;
            let mut columns: Vec<Column> = columns.collect::<Result<_, _>>().map_err(failed)?;
            let mut statement = self
                .connection
                .prepare("SELECT \"from\", \"table\" FROM pragma_foreign_key_list(?1)")
                .map_err(failed)?;
            let references = statement
                .query_map([&name], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
                .map_err(failed)?;
            for reference in references {
                let (from, to) = reference.map_err(failed)?;
                if let Some(column) = columns.iter_mut().find(|column| column.name == from) {
                    column.refers_to = Some(to);
                }
            }
            tables.push(Table { name, columns });
        }
        Ok(tables)
    }

    fn strays(&self) -> u64 {
        0
    }

    fn count(&mut self, table: &Table) -> Result<u64, Failure> {
        let sql = format!("SELECT count(*) FROM {}", quoted(&table.name));
        let counted = self.connection.query_row(&sql, [], |row| row.get::<_, i64>(0));
        counted.map(|count| count.max(0) as u64).map_err(|error| self.failed("count the rows", &error))
    }

    fn rows(
        &mut self,
        table: &Table,
        columns: &[&str],
        each: &mut dyn FnMut(&[Cell]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        // A value that is as long as a gigabyte is cut before it is handed over; numbers stay numbers.
        let most = MAX_CELL + 1;
        let bounded = |name: &&str| {
            let name = quoted(name);
            format!(
                "CASE typeof({name}) WHEN 'text' THEN substr({name}, 1, {most}) WHEN 'blob' THEN substr({name}, 1, {most}) ELSE {name} END"
            )
        };
        let list = columns.iter().map(bounded).collect::<Vec<_>>().join(", ");
        let sql = format!("SELECT {list}, rowid FROM {} WHERE rowid > ?1 ORDER BY rowid LIMIT ?2", quoted(&table.name));
        let shape = self.shape()?;
        let mut after = None;
        loop {
            after = self.page(&sql, after, columns.len(), each)?;
            // VACUUM may number rows anew, so that one is passed over that was there all the time.
            if self.shape()? != shape {
                return Err(Failure::refused(format!("{} was rebuilt while it was read", self.path.display()))
                    .hint("run the same command again: it goes on from where it was"));
            }
            if after.is_none() {
                return Ok(());
            }
        }
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(number) => Cell::Int(number),
        ValueRef::Real(number) => Cell::Real(number),
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Cell::of_text(text),
            Err(_) => Cell::Odd(Odd::NotUtf8),
        },
        ValueRef::Blob(bytes) if bytes.len() > MAX_CELL => Cell::Odd(Odd::TooLong),
        ValueRef::Blob(bytes) => Cell::Bytes(bytes.to_vec()),
    }
}
