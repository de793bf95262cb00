//! What goes wrong behind a [`StoreError`]: [`Fault`].

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use counterfoil_core::StoreError;
use rusqlite::ErrorCode;

/// Why a job, or the transaction it was part of, failed. Holds no value of any row.
#[derive(Debug)]
pub(super) enum Fault {
    /// SQLite said so, or a row did not parse.
    Sqlite(rusqlite::Error),
    /// Something beside the database file.
    Io(io::Error),
    /// The store has been closed.
    Closed,
    /// More is waiting than the queue holds.
    Crowded,
    /// The job panicked; nothing of it stands.
    Panicked,
    /// The thread that had the job is gone.
    Abandoned,
    /// The disk is full, and what is held in reserve is for revocations.
    Reserved,
    /// The file holds less than this process has acknowledged.
    Rewound,
    /// The whole transaction failed, and every job in it.
    Together(Arc<Fault>),
}

impl Fault {
    /// The error to hand out.
    pub(super) fn while_doing(self, doing: &'static str) -> StoreError {
        StoreError::new(doing, self)
    }

    fn code(&self) -> Option<ErrorCode> {
        match self {
            Fault::Sqlite(error) => error.sqlite_error_code(),
            Fault::Together(fault) => fault.code(),
            Fault::Io(_)
            | Fault::Closed
            | Fault::Crowded
            | Fault::Panicked
            | Fault::Abandoned
            | Fault::Reserved
            | Fault::Rewound => None,
        }
    }

    /// Another connection was in the way; later, or with patience, it may work.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self.code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
    }

    /// There was no room left to write.
    pub(super) fn is_full(&self) -> bool {
        self.code() == Some(ErrorCode::DiskFull)
    }

    /// The connection can no longer be trusted. After a failed fsync the kernel may have dropped what it could not
    /// write and call the next fsync a success, so only what is read anew from the file counts.
    pub(super) fn spoils_the_connection(&self) -> bool {
        matches!(self, Fault::Rewound)
            || matches!(
                self.code(),
                Some(
                    ErrorCode::SystemIoFailure
                        | ErrorCode::DatabaseCorrupt
                        | ErrorCode::NotADatabase
                        | ErrorCode::CannotOpen
                        | ErrorCode::ReadOnly
                        | ErrorCode::FileLockingProtocolFailed
                        | ErrorCode::OutOfMemory
                        | ErrorCode::InternalMalfunction
                        | ErrorCode::ApiMisuse
                )
            )
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Fault {
        Fault::Sqlite(error)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        Fault::Io(error)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Sqlite(error) => fmt::Display::fmt(error, f),
            Fault::Io(error) => fmt::Display::fmt(error, f),
            Fault::Closed => f.write_str("the store has been closed"),
            Fault::Crowded => f.write_str("too much work is waiting for the database"),
            Fault::Panicked => f.write_str("the work panicked; nothing of it stands"),
            Fault::Abandoned => f.write_str("the thread that had the work is gone; whether it was done is unknown"),
            Fault::Reserved => f.write_str("the disk is full; what is left is held in reserve for revocations"),
            Fault::Rewound => f.write_str("the database file is older than what was acknowledged"),
            Fault::Together(fault) => fmt::Display::fmt(fault, f),
        }
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Fault::Sqlite(error) => error.source(),
            Fault::Io(error) => error.source(),
            Fault::Together(fault) => fault.source(),
            Fault::Closed | Fault::Crowded | Fault::Panicked | Fault::Abandoned | Fault::Reserved | Fault::Rewound => {
                None
            }
        }
    }
}
