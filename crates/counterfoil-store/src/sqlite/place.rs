//! Where the files of a store lie, and how each kind of connection is opened: [`Place`].

use std::fmt::Write as _;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::accounts;

/// The data directory and the names in it. Files of other names are none of our business.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) directory: PathBuf,
    /// The database.
    pub(super) database: PathBuf,
    /// SQLite's write-ahead log: commits that are not in the database file yet. Losing it is losing them.
    pub(super) write_ahead: PathBuf,
    /// Held by the one server.
    pub(super) lock: PathBuf,
    /// Held by everybody who has the database open, and by a restore alone.
    pub(super) in_use: PathBuf,
    /// How far the database had come when it was last written, kept outside it.
    pub(super) witness: PathBuf,
    /// Room that revocations may use when there is no other.
    pub(super) reserve: PathBuf,
}

impl Place {
    pub(super) fn in_directory(directory: &Path) -> Place {
        Place {
            directory: directory.to_owned(),
            database: directory.join("counterfoil.db"),
            write_ahead: directory.join("counterfoil.db-wal"),
            lock: directory.join("counterfoil.lock"),
            in_use: directory.join("counterfoil.in-use"),
            witness: directory.join("counterfoil.witness"),
            reserve: directory.join("counterfoil.reserve"),
        }
    }

    /// How large the write-ahead log is; none is none.
    pub(super) fn write_ahead_bytes(&self) -> u64 {
        fs::metadata(&self.write_ahead).map_or(0, |metadata| metadata.len())
    }

    /// A connection that writes, and waits up to `busy` for others that do. Never creates the file.
    pub(super) fn writing(&self, busy: Duration) -> rusqlite::Result<Connection> {
        let connection = writing(&self.database, busy)?;
        // Neither here nor at close: a checkpoint would hold up every writer that waits. Its own thread does it.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        Ok(connection)
    }

    /// A connection that only reads, and waits up to `busy` where another one is in the way.
    pub(super) fn reading(&self, busy: Duration) -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(
            &self.database,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        guard(&connection, busy)?;
        connection.execute_batch(READING)?;
        Ok(connection)
    }

    /// The database file as it is by itself. What it says is a hint, because others may be writing to it.
    pub(super) fn without_its_log(&self) -> rusqlite::Result<Connection> {
        // By SQLite and not by hand: closing the file would drop the locks that SQLite holds on it in this process.
        let mut name = String::from("file:");
        for byte in self.database.as_os_str().as_encoded_bytes() {
            // Writing to a String cannot fail.
            write!(name, "%{byte:02x}").ok();
        }
        name.push_str("?immutable=1");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        Connection::open_with_flags(name, flags)
    }
}

const WRITING: &str = "
    PRAGMA synchronous = FULL;
    PRAGMA fullfsync = ON;
    PRAGMA checkpoint_fullfsync = ON;
    PRAGMA foreign_keys = ON;
    PRAGMA trusted_schema = OFF;
    PRAGMA cell_size_check = ON;
    PRAGMA secure_delete = FAST;
    PRAGMA temp_store = MEMORY;
    PRAGMA mmap_size = 0;
    PRAGMA cache_size = -16384;
    PRAGMA journal_size_limit = 67108864;
";

/// The cache is per connection and grows only with use. Eight megabytes hold the inner pages of the index that look-ups
/// go through at ten million tokens; its leaves come from the kernel's cache, without mmap, which turns a disk error
/// into a SIGBUS.
const READING: &str = "
    PRAGMA trusted_schema = OFF;
    PRAGMA temp_store = MEMORY;
    PRAGMA mmap_size = 0;
    PRAGMA cache_size = -8192;
";

/// As [`Place::writing`], for a file that is not in its place yet.
pub(super) fn writing(database: &Path, busy: Duration) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    guard(&connection, busy)?;
    connection.execute_batch(WRITING)?;
    accounts::teach_skeletons(&connection)?;
    Ok(connection)
}

fn guard(connection: &Connection, busy: Duration) -> rusqlite::Result<()> {
    connection.busy_timeout(busy)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    // One plan to a statement. Without it SQLite may plan anew whenever a value is bound, to see whether an index suits
    // that value better; measured on a million tokens, a look-up then took 40 µs instead of 7.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Opens a file of ours for reading and writing, making it if need be, for its owner alone.
pub(super) fn private_file(path: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Who may hold the lock of a file at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// Nobody else.
    Alone,
    /// All others who hold it so.
    Shared,
}

/// The file, made if need be, with its lock, which goes when the process does, however it ends; `None` where somebody
/// holds it otherwise.
pub(super) fn locked(path: &Path, hold: Hold) -> io::Result<Option<File>> {
    let file = private_file(path)?;
    let lock = match hold {
        Hold::Alone => file.try_lock(),
        Hold::Shared => file.try_lock_shared(),
    };
    match lock {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Makes a file for its owner alone, and fails where there is one.
pub(super) fn new_private_file(path: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// There was no room left to write.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Removes a file that may be gone already.
pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// The directory that a file of this name is in.
pub(super) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the directory and what is missing above it; for its owner alone where it is new, and there after a power cut.
pub(super) fn private_directory(path: &Path) -> io::Result<()> {
    let is_missing = |level: &&Path| !level.as_os_str().is_empty() && !level.exists();
    let missing: Vec<&Path> = path.ancestors().take_while(is_missing).collect();
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)?;
    for level in missing {
        // What is synced in a directory is lost all the same if its own name is.
        match sync_directory(directory_of(level)) {
            // One that we may write to and not read cannot be synced.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            done => done?,
        }
    }
    Ok(())
}

/// Makes a new name in `directory` survive a power cut, where the platform has a way to say so.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}
