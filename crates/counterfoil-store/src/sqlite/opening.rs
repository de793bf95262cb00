//! Opening a data directory: [`OpenOptions`], [`OpenError`], and what is checked before anything in it is trusted.

use std::error::Error;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use counterfoil_core::Timestamp;
use counterfoil_core::store::{Bump, Changed};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::backup::{self, BackupError, beside, quick_check, without_a_log};
use super::changes::log;
use super::column::get;
use super::fault::Fault;
use super::mail;
use super::place::{self, Hold, Place, locked, private_directory, private_file, sync_directory};
use super::schema::{self, Schema};
use super::subjects;
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
    Accept {
        /// When it was accepted.
        at: Timestamp,
    },
    /// As `Accept`, but end every token that was issued before, so that none that was revoked lives again, and forget mailed
    /// links, so that none that was used works again.
    EndTokens {
        /// When they end.
        at: Timestamp,
    },
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
    /// A command of a newer version would change the schema under the server that is running.
    Older {
        /// The file.
        path: PathBuf,
        /// The schema it has.
        found: i64,
        /// The one that this program would bring it to.
        known: i64,
    },
    /// The schema is older, and there is no copy of the file as it is now, without which it is not changed.
    NotCopied(BackupError),
    /// A backup is being put in place.
    Restoring(PathBuf),
    /// The file is damaged; the text is SQLite's.
    Damaged(PathBuf, String),
    /// The file is a copy, and nobody has said yet how to go on from it.
    Copied(PathBuf),
    /// A copy was put in place and the log of the database before it is still there.
    OtherLog(PathBuf),
    /// The file belongs to another life of the store than the one that was acknowledged last.
    OtherLife(PathBuf),
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
            OpenError::Older { path, found, known } => write!(
                f,
                "{} has schema {found} and is in use by a server or a command; this program would bring it to {known}, so \
                 stop them first, or use the program of the same version",
                path.display()
            ),
            OpenError::NotCopied(_) => f.write_str(
                "the database was not upgraded, because a copy of it as it is now could not be made; make room, or see to \
                 the mode of the data directory",
            ),
            OpenError::Restoring(path) => {
                write!(f, "a backup is being put in place in {}; try again when that is done", path.display())
            }
            OpenError::Damaged(path, what) => {
                write!(f, "{} is damaged ({what}); restore a backup, and look at the disk", path.display())
            }
            OpenError::Copied(path) => write!(
                f,
                "{} is a copy that was put in place; tokens revoked since it was made would live again, so accept the \
                 rewind, or end every token that was issued before",
                path.display()
            ),
            OpenError::OtherLog(path) => write!(
                f,
                "{} is not of the copy that was put in place beside it; `counterfoil restore` puts one in place whole, by \
                 hand that log has to go, too",
                path.display()
            ),
            OpenError::OtherLife(path) => write!(
                f,
                "{} is not the database that was last in use here: an older copy, from before a rewind that was accepted, \
                 or one of another deployment was put in its place; put the newer files back, or accept the rewind",
                path.display()
            ),
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
            OpenError::NotCopied(error) => Some(error),
            OpenError::Served(_)
            | OpenError::Absent(_)
            | OpenError::Vanished(_)
            | OpenError::Empty(_)
            | OpenError::Foreign(_)
            | OpenError::Newer { .. }
            | OpenError::Older { .. }
            | OpenError::Restoring(_)
            | OpenError::Damaged(..)
            | OpenError::Copied(_)
            | OpenError::OtherLog(_)
            | OpenError::OtherLife(_)
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
    pub(super) held: Held,
}

/// What keeps others out for as long as the database is open.
#[derive(Debug)]
pub(super) struct Held {
    /// Another server.
    _server: Option<File>,
    /// A restore.
    _in_use: File,
}

/// Opens `directory`, or says why not.
pub(super) fn open(directory: &Path, options: &OpenOptions, schema: Schema) -> Result<Opened, OpenError> {
    let place = Place::in_directory(directory);
    let unusable = |error| OpenError::Unusable(place.directory.clone(), error);
    if options.absent == Absent::Create {
        private_directory(directory).map_err(unusable)?;
    } else if !place.database.exists() {
        return Err(OpenError::Absent(place.database));
    }
    let server = match options.role {
        Role::Server => Some(be_the_server(&place)?.ok_or_else(|| OpenError::Served(place.directory.clone()))?),
        Role::Beside => None,
    };
    let held = Held { _server: server, _in_use: keep_in_use(&place)? };
    let is_new = prepare_file(&place, options, schema)?;
    if lies_under_another_log(&place) {
        return Err(OpenError::OtherLog(place.write_ahead));
    }

    let sqlite = |error| trouble(&place, error);
    let mut connection = place.writing(options.busy_timeout).map_err(sqlite)?;
    let (application, version) = schema::identity(&connection).map_err(sqlite)?;
    if application != schema::APPLICATION_ID || version < 1 {
        return Err(OpenError::Foreign(place.database));
    }
    if version > schema.newest() {
        return Err(OpenError::Newer { path: place.database, found: version, known: schema.newest() });
    }

    let mut witness = Witness::open(&place).map_err(|error| OpenError::Unusable(place.witness.clone(), error))?;
    let seen = witness.read().map_err(|error| OpenError::Unusable(place.witness.clone(), error))?;
    // After the witness, so that what another process commits in between puts the database ahead of it.
    let mut mark = marked(&connection).map_err(sqlite)?;
    let look = Look::of(&place.database).map_err(unusable)?;
    let undisturbed = seen.map_or(is_new, |seen| seen.left == Left::Shut(look));
    let told = match rewound(&place, &connection, mark, seen).map_err(sqlite)? {
        None => Rewound::Refuse,
        Some(refusal) => match (options.role, options.rewound) {
            // A command line too: what it writes would raise the count until nobody could tell any more.
            (Role::Beside, _) | (Role::Server, Rewound::Refuse) => return Err(refusal),
            (Role::Server, told @ (Rewound::Accept { .. } | Rewound::EndTokens { .. })) => told,
        },
    };
    if options.role == Role::Server && !undisturbed {
        look_for_damage(&place, &connection)?;
    }
    let before = match told {
        Rewound::Refuse => None,
        Rewound::Accept { at } => Some((Before::Stays, at)),
        Rewound::EndTokens { at } => Some((Before::Ends, at)),
    };
    if before.is_some() {
        // No log beside a file that calls itself a copy, not even after a crash: see `lies_under_another_log`.
        without_a_log(&connection).map_err(sqlite)?;
    }
    if version < schema.newest() {
        upgrade(&place, &mut connection, schema, version, options)?;
    }
    if let Some((before, at)) = before {
        mark = begin_anew(&mut connection, before, at).map_err(sqlite)?;
        match before {
            Before::Stays => {
                tracing::warn!("a rewind was accepted: tokens revoked since that copy was made live again");
            }
            Before::Ends => tracing::warn!("a rewind was accepted, and every token that was issued before has ended"),
        }
    }
    keep_write_ahead_log(&connection).map_err(sqlite)?;
    if options.role == Role::Server {
        make_recovered_commits_durable(&place).map_err(unusable)?;
        let seen = Seen { mark, left: Left::Open };
        witness.write(&seen).map_err(|error| OpenError::Unusable(place.witness.clone(), error))?;
    }
    Ok(Opened { place: Arc::new(place), connection, witness, mark, undisturbed, held })
}

/// Whether a copy was put in place and the log of the database before it was left there: SQLite would take that for the
/// copy's own, and mix the two. Nothing of ours leaves a log beside a copy.
pub(super) fn lies_under_another_log(place: &Place) -> bool {
    // An error here is one of the opening, which has better words for it.
    place.write_ahead_bytes() > 0
        && place.without_its_log().and_then(|connection| is_copy(&connection)).is_ok_and(|copied| copied)
}

fn is_copy(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT copied FROM deployment", [], |row| row.get(0))
}

/// Why the database may lack what was acknowledged, if it may.
pub(super) fn rewound(
    place: &Place,
    connection: &Connection,
    mark: Mark,
    seen: Option<Seen>,
) -> rusqlite::Result<Option<OpenError>> {
    let path = place.database.clone();
    if is_copy(connection)? {
        return Ok(Some(OpenError::Copied(path)));
    }
    let Some(Seen { mark: acknowledged, .. }) = seen else { return Ok(None) };
    if mark.lacks(&acknowledged) {
        let acknowledged = acknowledged.commits;
        return Ok(Some(OpenError::Rewound { path, found: mark.commits, acknowledged }));
    }
    // The witness is written after a rewind that was accepted, so a crash in between leaves it one life behind.
    let predecessor: Option<[u8; 16]> =
        connection.query_row("SELECT predecessor FROM deployment", [], |row| row.get(0))?;
    let follows = mark.incarnation == acknowledged.incarnation || predecessor == Some(acknowledged.incarnation);
    Ok(if follows { None } else { Some(OpenError::OtherLife(path)) })
}

/// Applies the migrations that are missing, and before them keeps a copy of what there was. What others write waits
/// meanwhile, so that the copy has all of it.
fn upgrade(
    place: &Place,
    connection: &mut Connection,
    schema: Schema,
    found: i64,
    options: &OpenOptions,
) -> Result<(), OpenError> {
    let sqlite = |error| trouble(place, error);
    // Under a server of an older version the schema stays: its next start would be refused.
    let older = || OpenError::Older { path: place.database.clone(), found, known: schema.newest() };
    let _alone = match options.role {
        Role::Server => None,
        Role::Beside => Some(be_the_server(place)?.ok_or_else(older)?),
    };
    let whole = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sqlite)?;
    // Another process may have done all that since.
    let (_, version) = schema::identity(&whole).map_err(sqlite)?;
    if version < schema.newest() {
        keep_copy(place, version, options.busy_timeout)?;
    }
    schema.apply(&whole).map_err(sqlite)?;
    whole.commit().map_err(sqlite)?;
    tracing::info!(from = version, to = schema.newest(), "the schema of the database was upgraded");
    Ok(())
}

/// Keeps a copy of the database as it is in its own directory, under a name that says which schema it has. One that an
/// interrupted upgrade has left stands if it is of the same state; whatever else is there stays.
fn keep_copy(place: &Place, version: i64, busy: Duration) -> Result<(), OpenError> {
    let sqlite = |error| trouble(place, error);
    let source = place.reading(busy).map_err(sqlite)?;
    let mark = marked(&source).map_err(sqlite)?;
    let first = beside(&place.database, &format!(".schema-{version}"));
    let draft = beside(&first, ".draft");
    // Whoever wrote it is gone: this process has the directory's lock.
    backup::clear(&draft).map_err(|error| OpenError::NotCopied(BackupError::Unusable(draft.clone(), error)))?;
    let mut path = first.clone();
    let mut number = 1;
    while path.exists() {
        if backup::mark_of(&path) == Some(mark) {
            return Ok(());
        }
        number += 1;
        path = beside(&first, &format!(".{number}"));
    }
    backup::write(&source, &path, &draft, busy, &mut |_| ()).map_err(OpenError::NotCopied)?;
    tracing::info!(copy = %path.display(), "the database as it was before the upgrade is kept");
    Ok(())
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

/// Of the two that want to be the one server, or to do what no server may run beside, one waits for the other to end.
pub(super) fn be_the_server(place: &Place) -> Result<Option<File>, OpenError> {
    locked(&place.lock, Hold::Alone).map_err(|error| OpenError::Unusable(place.lock.clone(), error))
}

/// Shared by all who have the database open; whoever restores one has it alone.
pub(super) fn keep_in_use(place: &Place) -> Result<File, OpenError> {
    match locked(&place.in_use, Hold::Shared) {
        Ok(Some(file)) => Ok(file),
        Ok(None) => Err(OpenError::Restoring(place.directory.clone())),
        Err(error) => Err(OpenError::Unusable(place.in_use.clone(), error)),
    }
}

/// Sees that there is a file to open, and makes one only where nothing hints that there has been one. Returns whether it
/// made one.
fn prepare_file(place: &Place, options: &OpenOptions, schema: Schema) -> Result<bool, OpenError> {
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
        Err(_) => create(place, options.busy_timeout, schema).map(|()| true),
    }
}

/// Makes the database under another name, whole and on disk, and gives it its own only then: a crash on the way leaves no
/// half of one. Of two processes that do so at once one wins, and both go on with its file.
fn create(place: &Place, busy: Duration, schema: Schema) -> Result<(), OpenError> {
    let unusable = |error| OpenError::Unusable(place.directory.clone(), error);
    static DRAFTS: AtomicU32 = AtomicU32::new(0);
    let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let draft = place.directory.join(format!("counterfoil.db.new-{}-{number}", std::process::id()));
    let write = || -> Result<(), OpenError> {
        let sqlite = |error| OpenError::Sqlite(draft.clone(), error);
        private_file(&draft).and_then(|file| file.set_len(0)).map_err(unusable)?;
        let mut connection = place::writing(&draft, busy).map_err(sqlite)?;
        schema.migrate(&mut connection).map_err(sqlite)?;
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

/// What becomes of the tokens that were issued before another life of the store begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// They are what they were.
    Stays,
    /// They end, and mailed links and registrations with them.
    Ends,
}

const BEGIN_ANEW: &str = "
    UPDATE deployment
    SET predecessor = incarnation, incarnation = randomblob(16), copied = 0, commits = commits + 1, tag = random()";

/// Draws another incarnation, so that every cache filled from the lost one empties itself.
pub(super) fn begin_anew(connection: &mut Connection, before: Before, at: Timestamp) -> rusqlite::Result<Mark> {
    let whole = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let noted = match before {
        Before::Stays => log(&whole, &Changed::Everything, at),
        Before::Ends => {
            // A link that was used since opens an account as a token does that was revoked since.
            mail::forget_links(&whole).and_then(|()| subjects::bump(&whole, &Bump::Deployment, at)).map(drop)
        }
    };
    noted.map_err(in_words_of_sqlite)?;
    whole.execute(BEGIN_ANEW, [])?;
    whole.commit()?;
    marked(connection)
}

/// What is done here on a connection fails in no other way; a fault of another kind keeps its text.
fn in_words_of_sqlite(fault: Fault) -> rusqlite::Error {
    if let Fault::Sqlite(error) = fault { error } else { rusqlite::Error::ToSqlConversionFailure(Box::new(fault)) }
}

/// Reads every page once. Not a proof: a changed byte inside a value passes.
fn look_for_damage(place: &Place, connection: &Connection) -> Result<(), OpenError> {
    let finding = quick_check(connection).map_err(|error| trouble(place, error))?;
    if finding == "ok" { Ok(()) } else { Err(OpenError::Damaged(place.database.clone(), finding)) }
}

/// SQLite's word in ours.
pub(super) fn trouble(place: &Place, error: rusqlite::Error) -> OpenError {
    let path = place.database.clone();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::Foreign(path),
        Some(ErrorCode::DatabaseCorrupt) => OpenError::Damaged(path, error.to_string()),
        Some(_) | None => OpenError::Sqlite(path, error),
    }
}
