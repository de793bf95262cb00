//! Opening a data directory: [`OpenOptions`], [`OpenError`], and what is checked before anything in it is trusted.

use std::error::Error;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};

use super::column::get;
use super::place::{self, Place, private_directory, private_file, sync_directory};
use super::schema;
use super::witness::{Left, Look, Mark, Seen, Witness};

/// How to open a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenOptions {
    /// Whether to serve from it, which only one process does at a time.
    pub role: Role,
    /// What to do where there is no database yet.
    pub absent: Absent,
    /// What to do with a database that has lost commits.
    pub rewound: Rewound,
    /// How long a write waits for other processes that write, 5 s by default. Longer than any transaction takes that is
    /// not stuck; until then callers wait, after it they get an error.
    pub busy_timeout: Duration,
}

/// Whether to serve from a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The one server: takes the lock, and looks for damage if the last one did not stop in order.
    Server,
    /// A command line, beside a server or alone.
    Beside,
}

/// What to do where there is no database yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// Make one.
    Create,
    /// Refuse.
    Refuse,
}

/// What to do with a database that is older than what was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewound {
    /// Refuse: tokens revoked since then would live again.
    Refuse,
    /// Go on from what is there, as another incarnation. For the server alone; a command line refuses all the same.
    Accept,
}

impl OpenOptions {
    /// For the one server.
    pub fn serve() -> OpenOptions {
        OpenOptions {
            role: Role::Server,
            absent: Absent::Create,
            rewound: Rewound::Refuse,
            busy_timeout: Duration::from_secs(5),
        }
    }

    /// For a command line, beside a server or alone.
    pub fn beside() -> OpenOptions {
        OpenOptions { role: Role::Beside, ..OpenOptions::serve() }
    }
}

/// Why a data directory was not opened. The text says what to do.
#[derive(Debug)]
pub enum OpenError {
    /// The directory, or a file in it that is not the database, cannot be used.
    Unusable(PathBuf, io::Error),
    /// Another server holds the lock.
    Served(PathBuf),
    /// There is no database, and none was to be made.
    Absent(PathBuf),
    /// There is no database where there has been one.
    Vanished(PathBuf),
    /// The file is empty.
    Empty(PathBuf),
    /// The file is no database of counterfoil.
    Foreign(PathBuf),
    /// A newer version has changed the schema.
    Newer {
        /// The file.
        path: PathBuf,
        /// The schema it has.
        found: i64,
        /// The newest one that this program knows.
        known: i64,
    },
    /// The file is damaged; the text is SQLite's.
    Damaged(PathBuf, String),
    /// The database lacks commits that were acknowledged: it has counted fewer, or as many but other ones.
    Rewound {
        /// The file.
        path: PathBuf,
        /// Commits it has counted.
        found: u64,
        /// Commits that were acknowledged.
        acknowledged: u64,
    },
    /// SQLite cannot open or write the file.
    Sqlite(PathBuf, rusqlite::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Unusable(path, _) => write!(f, "{} cannot be used; check its owner and mode", path.display()),
            OpenError::Served(path) => write!(
                f,
                "another server is running on {}; stop it, or give this one a data directory of its own",
                path.display()
            ),
            OpenError::Absent(path) => {
                write!(f, "there is no database at {}; check the data directory", path.display())
            }
            OpenError::Vanished(path) => write!(
                f,
                "{} is gone, but files that belong to it are still there; put it back or restore a backup, or remove \
                 counterfoil.db-wal and counterfoil.witness as well to start with an empty one",
                path.display()
            ),
            OpenError::Empty(path) => write!(
                f,
                "{} is empty, which no database of ours ever is; restore a backup, or remove it together with \
                 counterfoil.db-wal and counterfoil.witness to start with an empty one",
                path.display()
            ),
            OpenError::Foreign(path) => {
                write!(f, "{} is not a database of counterfoil; check the data directory", path.display())
            }
            OpenError::Newer { path, found, known } => write!(
                f,
                "{} has schema {found} and this program knows {known}; run the newer version, or restore the backup \
                 from before the upgrade",
                path.display()
            ),
            OpenError::Damaged(path, what) => {
                write!(f, "{} is damaged ({what}); restore a backup, and look at the disk", path.display())
            }
            OpenError::Rewound { path, found, acknowledged } if found == acknowledged => write!(
                f,
                "{} has seen {found} commits, but not the {acknowledged} that were acknowledged: an older copy was put \
                 back and has been written to since; tokens revoked in between would live again, so put the newer files \
                 back or accept the rewind",
                path.display()
            ),
            OpenError::Rewound { path, found, acknowledged } => write!(
                f,
                "{} has seen {found} commits, but {acknowledged} were acknowledged: counterfoil.db-wal was lost, or an \
                 older copy was put back; tokens revoked since would live again, so put the newer files back or accept \
                 the rewind",
                path.display()
            ),
            OpenError::Sqlite(path, _) => write!(f, "SQLite cannot use {}", path.display()),
        }
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            OpenError::Unusable(_, error) => Some(error),
            OpenError::Sqlite(_, error) => Some(error),
            OpenError::Served(_)
            | OpenError::Absent(_)
            | OpenError::Vanished(_)
            | OpenError::Empty(_)
            | OpenError::Foreign(_)
            | OpenError::Newer { .. }
            | OpenError::Damaged(..)
            | OpenError::Rewound { .. } => None,
        }
    }
}

/// A data directory that may be trusted.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) place: Arc<Place>,
    /// The connection that was used for looking, fit for writing.
    pub(super) connection: Connection,
    pub(super) witness: Witness,
    /// How far the database has come.
    pub(super) mark: Mark,
    /// Whether the database file is as the last orderly stop left it, or new.
    pub(super) undisturbed: bool,
    /// The server's, for as long as it runs.
    pub(super) lock: Option<File>,
}

/// Opens `directory`, or says why not.
pub(super) fn open(directory: &Path, options: &OpenOptions) -> Result<Opened, OpenError> {
    let place = Place::in_directory(directory);
    let unusable = |error| OpenError::Unusable(place.directory.clone(), error);
    if options.absent == Absent::Create {
        private_directory(directory).map_err(unusable)?;
    }
    let lock = match options.role {
        Role::Server => Some(take_lock(&place)?),
        Role::Beside => None,
    };
    let is_new = prepare_file(&place, options)?;

    let sqlite = |error| trouble(&place, error);
    let mut connection = place.writing(options.busy_timeout).map_err(sqlite)?;
    let (application, version) = schema::identity(&connection).map_err(sqlite)?;
    if application != schema::APPLICATION_ID || version < 1 {
        return Err(OpenError::Foreign(place.database));
    }
    if version > schema::NEWEST {
        return Err(OpenError::Newer { path: place.database, found: version, known: schema::NEWEST });
    }
    if version < schema::NEWEST {
        schema::migrate(&mut connection).map_err(sqlite)?;
    }
    keep_write_ahead_log(&connection).map_err(sqlite)?;

    let mut witness = Witness::open(&place).map_err(|error| OpenError::Unusable(place.witness.clone(), error))?;
    let seen = witness.read().map_err(|error| OpenError::Unusable(place.witness.clone(), error))?;
    // After the witness, so that what another process commits in between puts the database ahead of it.
    let mut mark = marked(&connection).map_err(sqlite)?;
    let look = Look::of(&place.database).map_err(unusable)?;
    let undisturbed = seen.map_or(is_new, |seen| seen.left == Left::Shut(look));
    if let Some(Seen { mark: acknowledged, .. }) = seen
        && mark.lacks(&acknowledged)
    {
        match (options.role, options.rewound) {
            // A command line too: what it writes would raise the count until nobody could tell any more.
            (Role::Server, Rewound::Refuse) | (Role::Beside, Rewound::Refuse | Rewound::Accept) => {
                let acknowledged = acknowledged.commits;
                return Err(OpenError::Rewound { path: place.database, found: mark.commits, acknowledged });
            }
            (Role::Server, Rewound::Accept) => mark = begin_anew(&connection).map_err(sqlite)?,
        }
    }
    if options.role == Role::Server {
        if !undisturbed {
            look_for_damage(&place, &connection)?;
        }
        make_recovered_commits_durable(&place).map_err(unusable)?;
        let seen = Seen { mark, left: Left::Open };
        witness.write(&seen).map_err(|error| OpenError::Unusable(place.witness.clone(), error))?;
    }
    Ok(Opened { place: Arc::new(place), connection, witness, mark, undisturbed, lock })
}

/// A killed process may have left commits in the log that it had not synced yet; recovery takes them in, and this server
/// would answer by them and note them in the witness. The power could still take them: after a cut the witness would be
/// ahead of the database. SQLite holds no lock on the log, so that closing it here drops none.
fn make_recovered_commits_durable(place: &Place) -> io::Result<()> {
    match File::open(&place.write_ahead) {
        Ok(log) => log.sync_data(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The lock goes when the process does, however it ends.
fn take_lock(place: &Place) -> Result<File, OpenError> {
    let unusable = |error| OpenError::Unusable(place.lock.clone(), error);
    let file = private_file(&place.lock).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Served(place.directory.clone())),
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

/// Sees that there is a file to open, and makes one only where nothing hints that there has been one. Returns whether it
/// made one.
fn prepare_file(place: &Place, options: &OpenOptions) -> Result<bool, OpenError> {
    let unusable = |error| OpenError::Unusable(place.database.clone(), error);
    match fs::metadata(&place.database) {
        Ok(metadata) if metadata.len() == 0 => Err(OpenError::Empty(place.database.clone())),
        Ok(_) => Ok(false),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unusable(error)),
        Err(_) if options.absent == Absent::Refuse => Err(OpenError::Absent(place.database.clone())),
        Err(_) if place.write_ahead.exists() || place.witness.exists() => {
            // Another process may have made it since: it links the database before it writes anything else.
            if place.database.exists() { Ok(false) } else { Err(OpenError::Vanished(place.database.clone())) }
        }
        Err(_) => create(place, options.busy_timeout).map(|()| true),
    }
}

/// Makes the database under another name, whole and on disk, and gives it its own only then: a crash on the way leaves no
/// half of one. Of two processes that do so at once one wins, and both go on with its file.
fn create(place: &Place, busy: Duration) -> Result<(), OpenError> {
    let unusable = |error| OpenError::Unusable(place.directory.clone(), error);
    static DRAFTS: AtomicU32 = AtomicU32::new(0);
    let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let draft = place.directory.join(format!("counterfoil.db.new-{}-{number}", std::process::id()));
    let write = || -> Result<(), OpenError> {
        let sqlite = |error| OpenError::Sqlite(draft.clone(), error);
        private_file(&draft).and_then(|file| file.set_len(0)).map_err(unusable)?;
        let mut connection = place::writing(&draft, busy).map_err(sqlite)?;
        schema::migrate(&mut connection).map_err(sqlite)?;
        keep_write_ahead_log(&connection).map_err(sqlite)?;
        close_whole(connection).map_err(sqlite)?;
        File::open(&draft).and_then(|file| file.sync_all()).map_err(unusable)
    };
    let made = write().and_then(|()| match fs::hard_link(&draft, &place.database) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // A file system without links: the window in which two processes can meet is a rename wide.
        Err(_) => fs::rename(&draft, &place.database).map_err(unusable),
    });
    fs::remove_file(&draft).ok();
    made?;
    sync_directory(&place.directory).map_err(unusable)
}

/// The mode is kept in the file; another program may have changed it.
fn keep_write_ahead_log(connection: &Connection) -> rusqlite::Result<()> {
    let mode = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
    if connection.pragma_query_value(None, "journal_mode", mode)? != "wal" {
        connection.pragma_update_and_check(None, "journal_mode", "wal", mode)?;
    }
    Ok(())
}

/// Closes the connection so that, if it is the last one, the log is written back and removed.
pub(super) fn close_whole(connection: Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    connection.close().map_err(|(_, error)| error)
}

/// How far the database has come.
pub(super) fn marked(connection: &Connection) -> rusqlite::Result<Mark> {
    connection
        .prepare_cached("SELECT incarnation, commits, tag FROM deployment")?
        .query_row([], |row| Ok(Mark { incarnation: get(row, 0)?, commits: get(row, 1)?, tag: row.get(2)? }))
}

/// Draws another incarnation, so that every cache filled from the lost one empties itself.
fn begin_anew(connection: &Connection) -> rusqlite::Result<Mark> {
    connection
        .execute("UPDATE deployment SET incarnation = randomblob(16), commits = commits + 1, tag = random()", [])?;
    marked(connection)
}

/// Reads every page once. Not a proof: a changed byte inside a value passes.
fn look_for_damage(place: &Place, connection: &Connection) -> Result<(), OpenError> {
    let finding: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|error| trouble(place, error))?;
    if finding == "ok" { Ok(()) } else { Err(OpenError::Damaged(place.database.clone(), finding)) }
}

/// SQLite's word in ours.
fn trouble(place: &Place, error: rusqlite::Error) -> OpenError {
    let path = place.database.clone();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::Foreign(path),
        Some(ErrorCode::DatabaseCorrupt) => OpenError::Damaged(path, error.to_string()),
        Some(_) | None => OpenError::Sqlite(path, error),
    }
}
