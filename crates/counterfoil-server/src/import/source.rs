//! Where an import reads from: [`Source`], the databases that a Django project may have, each row by row in constant memory.

mod dump;
mod postgres;
mod sqlite;

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::failure::Failure;
use crate::import::cell::Cell;

/// A table as the source describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// The type as the source calls it, in lower case; empty where it has none.
    pub(crate) kind: String,
    pub(crate) primary: bool,
    /// The table whose rows it refers to.
    pub(crate) refers_to: Option<String>,
}

impl Table {
    pub(crate) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The one column of its primary key.
    pub(crate) fn primary(&self) -> Option<&Column> {
        let mut primary = self.columns.iter().filter(|column| column.primary);
        let only = primary.next()?;
        primary.next().is_none().then_some(only)
    }
}

/// Somebody's database, which is only read.
pub(crate) trait Source: Send {
    /// Begins another look: what is read from here on is at least as new as this call.
    fn look(&mut self) -> Result<(), Failure>;

    /// Its tables.
    fn tables(&mut self) -> Result<Vec<Table>, Failure>;

    /// How many rows a table has, to tell how far it has come.
    fn count(&mut self, table: &Table) -> Result<u64, Failure>;

    /// Calls `each` with every row: the values of `columns`, in that order. An error of `each` ends it.
    fn rows(
        &mut self,
        table: &Table,
        columns: &[&str],
        each: &mut dyn FnMut(&[Cell]) -> Result<(), Failure>,
    ) -> Result<(), Failure>;

    /// How many things there were, when its tables were read, that are rows of none.
    fn strays(&self) -> u64;
}

/// What `--from` names.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// `sqlite:PATH`
    Sqlite(PathBuf),
    /// `postgres://…`, which may have a password in it, and one from elsewhere.
    Postgres(String, Option<String>),
    /// `dump:FILE`
    Dump(PathBuf),
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Place, Self::Err> {
        let scheme = text.split_once(':').map(|(scheme, rest)| (scheme, rest.strip_prefix("//").unwrap_or(rest)));
        match scheme {
            Some(("sqlite", path)) if !path.is_empty() => Ok(Place::Sqlite(path.into())),
            Some(("dump", path)) if !path.is_empty() => Ok(Place::Dump(path.into())),
            Some(("postgres" | "postgresql", _)) => Ok(Place::Postgres(text.to_owned(), None)),
            _ => Err("expected sqlite:PATH, postgres://USER@HOST/DATABASE or dump:FILE"),
        }
    }
}

/// Without the password that may be in it.
impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Place::Postgres(..) => f.write_str("postgres"),
            Place::Dump(path) => write!(f, "dump:{}", path.display()),
        }
    }
}

impl Place {
    pub(crate) fn with_password(self, password: &str) -> Result<Place, Failure> {
        match self {
            Place::Postgres(url, _) => Ok(Place::Postgres(url, Some(password.to_owned()))),
            Place::Sqlite(_) | Place::Dump(_) => Err(Failure::usage("a file has no password")),
        }
    }

    pub(crate) fn open(&self) -> Result<Box<dyn Source>, Failure> {
        Ok(match self {
            Place::Sqlite(path) => Box::new(sqlite::Sqlite::open(path)?),
            Place::Postgres(url, password) => Box::new(postgres::Postgres::open(url, password.as_deref())?),
            Place::Dump(path) => Box::new(dump::Dump::open(path)?),
        })
    }
}

/// A name in double quotes, as both databases have it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What is read several times has to be a file, and not a pipe or a directory.
fn is_a_file(path: &Path) -> Result<(), Failure> {
    let metadata =
        fs::metadata(path).map_err(|error| Failure::caused_by(format!("cannot read {}", path.display()), &error))?;
    if metadata.is_file() {
        return Ok(());
    }
    let failure = Failure::refused(format!("{} is no file", path.display()));
    Err(failure.hint("it is read several times: write what comes out of a pipe to a file first"))
}
