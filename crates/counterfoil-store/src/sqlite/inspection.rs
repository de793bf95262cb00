//! Looking at a data directory without changing what is in it: [`inspect`].

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::backup::quick_check;
use super::opening::{OpenError, be_the_server, keep_in_use, lies_under_another_log, marked, rewound, trouble};
use super::place::Place;
use super::reserve::Reserve;
use super::schema;
use super::witness::{Left, Look, Seen};
use counterfoil_core::attempts::Tries;

/// How long to wait for a process that writes the very pages that are read.
const BUSY: Duration = Duration::from_secs(5);

/// What a data directory is like that may be served from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Whether a server runs on it.
    pub served: bool,
    /// How the last server left it.
    pub left: LeftBehind,
    /// The schema that it has.
    pub schema: i64,
    /// The schema that this program would bring it to.
    pub known_schema: i64,
    /// How large the database file is.
    pub database_bytes: u64,
    /// How large the write-ahead log is.
    pub write_ahead_bytes: u64,
    /// Whether the room is held that revocations have on a full disk.
    pub reserve_held: bool,
    /// What reading every page gave.
    pub pages: Pages,
    /// Accounts whose password opens nothing before it is replaced or staff forgets their failed logins. 0 with an older
    /// schema.
    pub locked_out: u64,
}

/// How the last server left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftBehind {
    /// One still runs, or none ever did.
    Nothing,
    /// In order.
    Shut,
    /// In order, but the database file was written to since, by a command or by somebody else.
    Disturbed,
    /// It was killed, or the power went. The next one looks for damage.
    Open,
}

/// What reading every page gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pages {
    /// Nothing wrong.
    Sound,
    /// What SQLite found.
    Damaged(String),
    /// They were not read: there are too many to do so beside a server.
    Unread,
}

/// Looks at `directory`. Reads every page of the database where no server runs, or where it has at most `most_bytes`.
///
/// Takes the lock of a server for the time of a system call, to see whether one holds it; one that starts in that very
/// instant is told that another is running.
///
/// # Errors
/// [`OpenError`], as opening it would be refused.
pub fn inspect(directory: &Path, most_bytes: u64) -> Result<Inspection, OpenError> {
    let place = Place::in_directory(directory);
    let unusable = |error| OpenError::Unusable(place.database.clone(), error);
    let database_bytes = match fs::metadata(&place.database) {
        Ok(metadata) if metadata.len() == 0 => return Err(OpenError::Empty(place.database)),
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(OpenError::Absent(place.database)),
        Err(error) => return Err(unusable(error)),
    };
    let _in_use = keep_in_use(&place)?;
    // Taking the lock would make its file.
    let was_served = place.lock.exists();
    let served = was_served && be_the_server(&place)?.is_none();
    if lies_under_another_log(&place) {
        return Err(OpenError::OtherLog(place.write_ahead));
    }
    let sqlite = |error| trouble(&place, error);
    let connection = place.reading(BUSY).map_err(sqlite)?;
    let (application, version) = schema::identity(&connection).map_err(sqlite)?;
    let known_schema = schema::OURS.newest();
    if application != schema::APPLICATION_ID || version < 1 {
        return Err(OpenError::Foreign(place.database));
    }
    if version > known_schema {
        return Err(OpenError::Newer { path: place.database, found: version, known: known_schema });
    }
    let seen = witnessed(&place).map_err(|error| OpenError::Unusable(place.witness.clone(), error))?;
    // After the witness, as when opening.
    let mark = marked(&connection).map_err(sqlite)?;
    if let Some(refusal) = rewound(&place, &connection, mark, seen).map_err(sqlite)? {
        return Err(refusal);
    }
    let look = Look::of(&place.database).map_err(unusable)?;
    Ok(Inspection {
        served,
        left: match seen {
            None => LeftBehind::Nothing,
            Some(_) if served || !was_served => LeftBehind::Nothing,
            Some(Seen { left: Left::Shut(then), .. }) if then == look => LeftBehind::Shut,
            Some(Seen { left: Left::Shut(_), .. }) => LeftBehind::Disturbed,
            Some(Seen { left: Left::Open, .. }) => LeftBehind::Open,
        },
        schema: version,
        known_schema,
        database_bytes,
        write_ahead_bytes: place.write_ahead_bytes(),
        reserve_held: Reserve::at(&place).is_held(),
        pages: if served && database_bytes > most_bytes {
            Pages::Unread
        } else {
            pages(&connection).map_err(sqlite)?
        },
        locked_out: if version == known_schema { locked_out(&connection).map_err(sqlite)? } else { 0 },
    })
}

/// What the witness says, where there is one: looking at it must not make one.
fn witnessed(place: &Place) -> io::Result<Option<Seen>> {
    match fs::read(&place.witness) {
        Ok(bytes) => Ok(str::from_utf8(&bytes).ok().and_then(Seen::parse)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn pages(connection: &Connection) -> rusqlite::Result<Pages> {
    let finding = quick_check(connection)?;
    Ok(if finding == "ok" { Pages::Sound } else { Pages::Damaged(finding) })
}

/// As many rows are read as accounts have failed logins.
fn locked_out(connection: &Connection) -> rusqlite::Result<u64> {
    let count: i64 =
        connection.query_row("SELECT count(*) FROM tries WHERE failed >= ?1", [Tries::MOST], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}
