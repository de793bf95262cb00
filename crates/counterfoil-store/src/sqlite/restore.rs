//! Putting a backup in place: [`restore`].

use std::error::Error;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use counterfoil_core::Timestamp;
use rusqlite::{Connection, ErrorCode};

use super::backup::{Contents, Draft, Inside, Progress, beside, clear, quick_check, sync_file, without_a_log};
use super::opening::{Before, begin_anew};
use super::place::{
    self, Hold, Place, is_full, locked, new_private_file, private_directory, remove_if_there, sync_directory,
};
use super::schema;

/// How to put a backup in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restore {
    /// What to do with a database that is there.
    pub present: Present,
    /// What becomes of the tokens in the backup.
    pub issued: Issued,
}

/// What to do with a database that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Present {
    /// Refuse.
    Refuse,
    /// Keep it in a directory of its own, `replaced-1` or the next number that is free, which is a whole data directory.
    SetAside,
}

/// What becomes of the tokens in a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Issued {
    /// That is for whoever serves first to say: see [`super::Rewound`]. Until then nothing opens the database.
    Undecided,
    /// They end, all of them, so that none that was revoked since lives again; and mailed links, so that none that was used
    /// since works again. The database serves without more words.
    Ended {
        /// When they end.
        at: Timestamp,
    },
}

/// What was put in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What is in it.
    pub contents: Contents,
    /// Where what was there before is kept now.
    pub set_aside: Option<PathBuf>,
}

/// Why a backup was not put in place. The text says what to do.
#[derive(Debug)]
pub enum RestoreError {
    /// The backup cannot be read.
    Unreadable(PathBuf, io::Error),
    /// The backup has a write-ahead log, so it is a database in use, or as a crash left it.
    HasLog(PathBuf),
    /// It is no database of counterfoil.
    Foreign(PathBuf),
    /// A newer version made it.
    Newer {
        /// The backup.
        path: PathBuf,
        /// The schema it has.
        found: i64,
        /// The newest one that this program knows.
        known: i64,
    },
    /// It is damaged; the text is SQLite's.
    Damaged(PathBuf, String),
    /// A server is running on the data directory.
    Served(PathBuf),
    /// A command is using it, or another restore.
    InUse(PathBuf),
    /// There is a database, which was not to be replaced.
    Present(PathBuf),
    /// There is no room for it.
    Full(PathBuf),
    /// The data directory, or a file in it, cannot be used.
    Unusable(PathBuf, io::Error),
    /// SQLite cannot work on the copy.
    Sqlite(PathBuf, rusqlite::Error),
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestoreError::Unreadable(path, _) => write!(f, "{} cannot be read", path.display()),
            RestoreError::HasLog(path) => write!(
                f,
                "{} has a write-ahead log beside it, so it is a database and not a backup of one; \
                 make one of it with `counterfoil backup`",
                path.display()
            ),
            RestoreError::Foreign(path) => write!(f, "{} is not a backup of counterfoil", path.display()),
            RestoreError::Newer { path, found, known } => write!(
                f,
                "{} has schema {found} and this program knows {known}; restore it with the newer version",
                path.display()
            ),
            RestoreError::Damaged(path, what) => {
                write!(f, "{} is damaged ({what}); take another backup", path.display())
            }
            RestoreError::Served(path) => {
                write!(f, "a server is running on {}; stop it first", path.display())
            }
            RestoreError::InUse(path) => {
                write!(f, "a command is using {}; try again when it has ended", path.display())
            }
            RestoreError::Present(path) => write!(f, "{} is there already", path.display()),
            RestoreError::Full(path) => {
                write!(f, "there is not enough room in {}; nothing was changed", path.display())
            }
            RestoreError::Unusable(path, _) => {
                write!(f, "{} cannot be used; check its owner and mode", path.display())
            }
            RestoreError::Sqlite(path, _) => write!(f, "SQLite cannot use {}", path.display()),
        }
    }
}

impl Error for RestoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            RestoreError::Unreadable(_, error) | RestoreError::Unusable(_, error) => Some(error),
            RestoreError::Sqlite(_, error) => Some(error),
            RestoreError::HasLog(_)
            | RestoreError::Foreign(_)
            | RestoreError::Newer { .. }
            | RestoreError::Damaged(..)
            | RestoreError::Served(_)
            | RestoreError::InUse(_)
            | RestoreError::Present(_)
            | RestoreError::Full(_) => None,
        }
    }
}

/// Puts the backup `file` in place as the database of `data_directory`, which is made where it is absent. The backup
/// itself stays as it is. A crash leaves the old database or the new one, or an old one that is refused because its log
/// has gone ahead of it to where it is set aside; never a mixture.
///
/// # Errors
/// [`RestoreError`]; then nothing has changed.
pub fn restore(
    file: &Path,
    data_directory: &Path,
    options: &Restore,
    mut progress: impl FnMut(Progress),
) -> Result<Restored, RestoreError> {
    let place = Place::in_directory(data_directory);
    let unusable = |error| unwritten(&place, error);
    // Before anything is made or locked: most mistakes are in this name.
    let backup = File::open(file).map_err(|error| RestoreError::Unreadable(file.to_owned(), error))?;
    if beside(file, "-wal").exists() {
        return Err(RestoreError::HasLog(file.to_owned()));
    }
    private_directory(data_directory).map_err(unusable)?;
    let _server = alone(&place.lock, || RestoreError::Served(place.directory.clone()))?;
    let _others = alone(&place.in_use, || RestoreError::InUse(place.directory.clone()))?;
    if options.present == Present::Refuse && place.database.exists() {
        return Err(RestoreError::Present(place.database));
    }
    let draft = beside(&place.database, ".restoring");
    clear(&draft).map_err(unusable)?;
    let _draft = Draft(&draft);
    copy(file, backup, &draft, &place, &mut progress)?;
    let contents = prepare(file, &draft, options.issued)?;
    sync_file(&draft).and_then(|()| sync_directory(&place.directory)).map_err(unusable)?;
    let set_aside = set_aside(&place).map_err(unusable)?;
    replace(&place, &draft).map_err(unusable)?;
    Ok(Restored { contents, set_aside })
}

/// Keeps others out from now on, or says who is in.
fn alone(path: &Path, held: impl Fn() -> RestoreError) -> Result<File, RestoreError> {
    let file = locked(path, Hold::Alone).map_err(|error| RestoreError::Unusable(path.to_owned(), error))?;
    file.ok_or_else(held)
}

fn copy(
    file: &Path,
    mut backup: File,
    draft: &Path,
    place: &Place,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), RestoreError> {
    let unreadable = |error| RestoreError::Unreadable(file.to_owned(), error);
    let of = backup.metadata().map_err(unreadable)?.len();
    let mut copy = new_private_file(draft).map_err(|error| unwritten(place, error))?;
    let mut piece = vec![0; 4 * 1024 * 1024];
    let mut done = 0;
    loop {
        let read = match backup.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(error)),
        };
        copy.write_all(&piece[..read]).map_err(|error| unwritten(place, error))?;
        done += read as u64;
        progress(Progress { done, of });
    }
}

/// Sees that it is ours, known and sound, and has it say how it may be gone on from.
fn prepare(file: &Path, draft: &Path, issued: Issued) -> Result<Contents, RestoreError> {
    let sqlite = |error| trouble(file, error);
    let mut copy = place::writing(draft, Duration::ZERO).map_err(sqlite)?;
    let (application, found) = schema::identity(&copy).map_err(sqlite)?;
    if application != schema::APPLICATION_ID || found < 1 {
        return Err(RestoreError::Foreign(file.to_owned()));
    }
    let known = schema::OURS.newest();
    if found > known {
        return Err(RestoreError::Newer { path: file.to_owned(), found, known });
    }
    let finding = quick_check(&copy).map_err(sqlite)?;
    if finding != "ok" {
        return Err(RestoreError::Damaged(file.to_owned(), finding));
    }
    without_a_log(&copy).map_err(sqlite)?;
    // No other copy of what was before: the backup is one.
    schema::OURS.migrate(&mut copy).map_err(sqlite)?;
    decide(&mut copy, issued).map_err(sqlite)?;
    let Inside { tokens, accounts, .. } = Inside::of(&copy).map_err(sqlite)?;
    copy.close().map_err(|(_, error)| sqlite(error))?;
    let bytes = fs::metadata(draft).map_err(|error| RestoreError::Unusable(draft.to_owned(), error))?.len();
    Ok(Contents { bytes, schema: known, tokens, accounts })
}

fn decide(copy: &mut Connection, issued: Issued) -> rusqlite::Result<()> {
    match issued {
        // It says so already if it was made by us, and not if somebody copied the file of a server that had stopped.
        Issued::Undecided => copy.execute("UPDATE deployment SET copied = 1", []).map(drop),
        Issued::Ended { at } => begin_anew(copy, Before::Ends, at).map(drop),
    }
}

/// Gives what there is a second name in a new directory; where it is now it stays until it is replaced.
fn set_aside(place: &Place) -> io::Result<Option<PathBuf>> {
    let journal = beside(&place.database, "-journal");
    let there = [&place.database, &place.write_ahead, &journal, &place.witness].map(|path| (path, path.exists()));
    if there.iter().all(|(_, exists)| !exists) {
        return Ok(None);
    }
    let directory = numbered_directory(&place.directory)?;
    for (path, _) in there.iter().filter(|(_, exists)| *exists) {
        let Some(name) = path.file_name() else { continue };
        let kept = directory.join(name);
        // A file system without links: a copy does as well.
        fs::hard_link(path, &kept).or_else(|_| fs::copy(path, &kept).and_then(|_| sync_file(&kept)))?;
    }
    sync_directory(&directory)?;
    sync_directory(&place.directory)?;
    Ok(Some(directory))
}

fn numbered_directory(above: &Path) -> io::Result<PathBuf> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let mut number = 1_u32;
    loop {
        let directory = above.join(format!("replaced-{number}"));
        match builder.create(&directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            made => return made.map(|()| directory),
        }
    }
}

/// In this order, each on disk before the next: a log must never lie beside a database that is not its own, and the
/// witness goes last, because without it an old database that has lost its log would not be recognised.
fn replace(place: &Place, draft: &Path) -> io::Result<()> {
    for end in ["-wal", "-journal", "-shm"] {
        remove_if_there(&beside(&place.database, end))?;
    }
    sync_directory(&place.directory)?;
    fs::rename(draft, &place.database)?;
    sync_directory(&place.directory)?;
    remove_if_there(&place.witness)?;
    sync_directory(&place.directory)
}

fn unwritten(place: &Place, error: io::Error) -> RestoreError {
    if is_full(&error) {
        RestoreError::Full(place.directory.clone())
    } else {
        RestoreError::Unusable(place.directory.clone(), error)
    }
}

/// SQLite's word on the copy, about the file it was made of.
fn trouble(file: &Path, error: rusqlite::Error) -> RestoreError {
    let path = file.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => RestoreError::Foreign(path),
        Some(ErrorCode::DatabaseCorrupt) => RestoreError::Damaged(path, error.to_string()),
        Some(ErrorCode::DiskFull) => RestoreError::Full(path),
        Some(_) | None => RestoreError::Sqlite(path, error),
    }
}
