//! Whole copies of a database: [`write`] makes one while others read and write, [`Contents`] is what is in it.
//!
//! A copy is one file, written under a draft name and given its own only when it is whole, proved and on disk. It says of
//! itself that it is a copy, so that nothing serves from it before an operator has said how: what was revoked after it was
//! made would live again.

use std::error::Error;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::StepResult;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use super::column::get;
use super::opening::marked;
use super::place::{self, directory_of, is_full, new_private_file, remove_if_there, sync_directory};
use super::schema;
use super::witness::Mark;

/// Pages between two words about progress: 4 MiB, a few milliseconds.
const STRIDE: i32 = 1_024;

/// What is in a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contents {
    /// How large the file is.
    pub bytes: u64,
    /// Which schema it has.
    pub schema: i64,
    /// Tokens of either kind, living and dead.
    pub tokens: u64,
    /// Accounts.
    pub accounts: u64,
}

/// How far a copy has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes written.
    pub done: u64,
    /// Bytes that there will be.
    pub of: u64,
}

/// Why there is no copy. The text says what to do.
#[derive(Debug)]
pub enum BackupError {
    /// There is something of that name, and nothing is overwritten.
    Exists(PathBuf),
    /// The copy cannot be made there.
    Unusable(PathBuf, io::Error),
    /// There is no room for it.
    Full(PathBuf),
    /// SQLite cannot read the database, or cannot write the copy.
    Sqlite(PathBuf, rusqlite::Error),
    /// What was written is not what was read; the text says in what.
    Unsound(PathBuf, String),
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackupError::Exists(path) => {
                write!(f, "{} is there already and is not overwritten; name a new file", path.display())
            }
            BackupError::Unusable(path, _) => {
                write!(
                    f,
                    "{} cannot be written; check that its directory is there and who may write to it",
                    path.display()
                )
            }
            BackupError::Full(path) => {
                write!(f, "there is not enough room for {}; nothing of it was kept", path.display())
            }
            BackupError::Sqlite(path, _) => write!(f, "SQLite cannot make {}", path.display()),
            BackupError::Unsound(path, what) => {
                write!(
                    f,
                    "what was written to {} does not hold ({what}) and was not kept; look at both disks",
                    path.display()
                )
            }
        }
    }
}

impl Error for BackupError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            BackupError::Unusable(_, error) => Some(error),
            BackupError::Sqlite(_, error) => Some(error),
            BackupError::Exists(_) | BackupError::Full(_) | BackupError::Unsound(..) => None,
        }
    }
}

/// Copies what `source` sees now to `to`, which must not be there, by way of `draft`, which must not be either. Others
/// read and write meanwhile; what they write stays in their log until it is done.
pub(super) fn write(
    source: &Connection,
    to: &Path,
    draft: &Path,
    busy: Duration,
    progress: &mut dyn FnMut(Progress),
) -> Result<Contents, BackupError> {
    if fs::symlink_metadata(to).is_ok() {
        return Err(BackupError::Exists(to.to_owned()));
    }
    let unusable = |error| unwritten(to, error);
    let file = new_private_file(draft).map_err(unusable)?;
    let _draft = Draft(draft);
    let read = fill(source, draft, progress).map_err(|error| trouble(to, error))?;
    let written = sign(draft, busy).map_err(|error| trouble(to, error))?;
    match written {
        Written { finding, .. } if finding != "ok" => return Err(BackupError::Unsound(to.to_owned(), finding)),
        Written { identity, .. } if identity.0 != schema::APPLICATION_ID => {
            return Err(BackupError::Unsound(to.to_owned(), "it is not a database of counterfoil".to_owned()));
        }
        Written { inside, .. } if inside != read => {
            return Err(BackupError::Unsound(to.to_owned(), format!("read {read:?}, wrote {inside:?}")));
        }
        Written { .. } => {}
    }
    file.sync_all().map_err(unusable)?;
    let bytes = file.metadata().map_err(unusable)?.len();
    give_name(draft, to)?;
    let Inside { tokens, accounts, .. } = read;
    Ok(Contents { bytes, schema: written.identity.1, tokens, accounts })
}

/// A file that goes, with what SQLite puts beside it, unless it was given another name.
pub(super) struct Draft<'a>(pub(super) &'a Path);

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        clear(self.0).ok();
    }
}

/// Removes a draft that a crash has left, with what SQLite puts beside it.
pub(super) fn clear(draft: &Path) -> io::Result<()> {
    remove_if_there(draft)?;
    ["-wal", "-shm", "-journal"].iter().try_for_each(|end| remove_if_there(&beside(draft, end)))
}

/// The path with `end` put to its last name.
pub(super) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(end);
    path.into()
}

/// What must be the same in a copy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Inside {
    mark: Mark,
    pub(super) tokens: u64,
    pub(super) accounts: u64,
}

impl Inside {
    pub(super) fn of(connection: &Connection) -> rusqlite::Result<Inside> {
        let count = |sql| connection.query_row(sql, [], |row| get(row, 0));
        Ok(Inside {
            mark: marked(connection)?,
            tokens: count("SELECT count(*) FROM tokens")?,
            accounts: count("SELECT count(*) FROM accounts")?,
        })
    }
}

/// Copies page by page, out of one transaction, so that whatever is committed meanwhile is not in it. Returns what that
/// transaction saw.
fn fill(source: &Connection, draft: &Path, progress: &mut dyn FnMut(Progress)) -> rusqlite::Result<Inside> {
    let snapshot = source.unchecked_transaction()?;
    let read = Inside::of(&snapshot)?;
    let page: u64 = snapshot.pragma_query_value(None, "page_size", |row| get(row, 0))?;
    let mut copy =
        Connection::open_with_flags(draft, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // A crash leaves a draft, whatever is in it; the whole file is synced before it is more than that.
    copy.execute_batch("PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY; PRAGMA mmap_size = 0")?;
    let backup = rusqlite::backup::Backup::new(&snapshot, &mut copy)?;
    loop {
        let step = backup.step(STRIDE)?;
        let pages = backup.progress();
        let bytes = |pages: i32| u64::try_from(pages).unwrap_or(0) * page;
        progress(Progress { done: bytes(pages.pagecount - pages.remaining), of: bytes(pages.pagecount) });
        if step == StepResult::Done {
            break;
        }
        if step != StepResult::More {
            // Nobody else has either of the two: it would not pass by waiting.
            return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None));
        }
    }
    drop(backup);
    copy.close().map_err(|(_, error)| error)?;
    Ok(read)
}

/// What a draft turned out to be.
struct Written {
    identity: (i64, i64),
    finding: String,
    inside: Inside,
}

const IS_A_COPY: &str = "UPDATE deployment SET copied = 1";

/// Makes it one file, has it say that it is a copy, and reads it all.
fn sign(draft: &Path, busy: Duration) -> rusqlite::Result<Written> {
    let copy = place::writing(draft, busy)?;
    without_a_log(&copy)?;
    copy.execute(IS_A_COPY, [])?;
    let written =
        Written { identity: schema::identity(&copy)?, finding: quick_check(&copy)?, inside: Inside::of(&copy)? };
    copy.close().map_err(|(_, error)| error)?;
    Ok(written)
}

/// Puts everything into the one file.
pub(super) fn without_a_log(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "journal_mode", "delete", |_| Ok(()))
}

/// Another file of that name, made meanwhile, stays.
fn give_name(draft: &Path, to: &Path) -> Result<(), BackupError> {
    match fs::hard_link(draft, to) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(BackupError::Exists(to.to_owned())),
        // A file system without links, as sticks have.
        Err(_) if fs::symlink_metadata(to).is_ok() => return Err(BackupError::Exists(to.to_owned())),
        Err(_) => fs::rename(draft, to).map_err(|error| unwritten(to, error))?,
    }
    remove_if_there(draft).and_then(|()| sync_directory(directory_of(to))).map_err(|error| unwritten(to, error))
}

fn unwritten(to: &Path, error: io::Error) -> BackupError {
    if is_full(&error) { BackupError::Full(to.to_owned()) } else { BackupError::Unusable(to.to_owned(), error) }
}

fn trouble(to: &Path, error: rusqlite::Error) -> BackupError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => BackupError::Full(to.to_owned()),
        Some(_) | None => BackupError::Sqlite(to.to_owned(), error),
    }
}

/// The mark of the copy at `path`, if it is one that can be read.
pub(super) fn mark_of(path: &Path) -> Option<Mark> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags).and_then(|copy| marked(&copy)).ok()
}

/// A name for a draft of `to` that nobody uses. A number of a process comes again, and with it what one that was killed
/// has left.
pub(super) fn draft_of(to: &Path) -> PathBuf {
    let mut draft = beside(to, &format!(".draft-{}", std::process::id()));
    while fs::symlink_metadata(&draft).is_ok() {
        draft = beside(&draft, "-");
    }
    draft
}

/// What SQLite finds wrong with the file first, or "ok".
pub(super) fn quick_check(connection: &Connection) -> rusqlite::Result<String> {
    connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
}

/// Syncs a file by its name.
pub(super) fn sync_file(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
