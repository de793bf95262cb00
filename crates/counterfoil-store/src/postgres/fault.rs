//! What goes wrong behind a [`StoreError`]: [`Fault`].

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use counterfoil_core::StoreError;
use tokio_postgres::error::SqlState;

/// Why a statement, or the transaction it was part of, failed. Holds no value of any row: of what the server says, its details,
/// which quote rows, are left out.
#[derive(Debug)]
pub(super) enum Fault {
    /// The server refused a statement; nothing of its transaction stands.
    Server {
        code: SqlState,
        message: String,
        /// The one that was broken, by the name that the migration gives it.
        constraint: Option<String>,
    },
    /// The connection failed, or what came over it made no sense.
    Link(tokio_postgres::Error),
    /// A statement of the transaction has failed, and whoever sent it went on.
    Failed,
    /// What was judged has changed before it was written: to be judged anew.
    Outrun,
    /// No server could be connected to.
    Unreachable(Vec<String>),
    /// There was no answer in time.
    Deadline,
    /// The connection failed, or time ran out, when the commit had been asked for: it may stand.
    Unknown(Box<Fault>),
    /// The server committed, but did not wait for the standby that it is set up to wait for: a failover may lose it.
    NotReplicated,
    /// The server is a standby, or lets nobody write.
    ReadOnly,
    /// More is waiting than is let in.
    Crowded,
    /// A row does not parse.
    Unreadable(&'static str),
    /// Not the number of rows that a statement gives.
    Miscounted,
    /// The store has been closed.
    Closed,
    /// The work panicked; nothing of it stands.
    Panicked,
    /// A fault that several callers share.
    Together(Arc<Fault>),
}

impl Fault {
    /// The error to hand out.
    pub(super) fn while_doing(self, doing: &'static str) -> StoreError {
        StoreError::new(doing, self)
    }

    /// What the server calls it.
    pub(super) fn code(&self) -> Option<&SqlState> {
        match self {
            Fault::Server { code, .. } => Some(code),
            Fault::Together(fault) => fault.code(),
            Fault::Link(_)
            | Fault::Failed
            | Fault::Outrun
            | Fault::Unreachable(_)
            | Fault::Deadline
            | Fault::Unknown(_)
            | Fault::NotReplicated
            | Fault::ReadOnly
            | Fault::Crowded
            | Fault::Unreadable(_)
            | Fault::Miscounted
            | Fault::Closed
            | Fault::Panicked => None,
        }
    }

    /// Refused for good, at the commit itself: nothing stands.
    pub(super) fn undoes_the_commit(&self) -> bool {
        // 40003 says that it does not know.
        self.code().is_some_and(|code| {
            (code.code().starts_with("40") || code.code().starts_with("23"))
                && *code != SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN
        })
    }

    /// Somebody else was quicker, and nothing stands: tried again from the beginning, it finds what they have left. A row that is
    /// there already (23505) or gone (23503) is the same: the next look sees it.
    pub(super) fn is_a_lost_race(&self) -> bool {
        matches!(self, Fault::Outrun)
            || self.code().is_some_and(|code| {
                [
                    SqlState::T_R_SERIALIZATION_FAILURE,
                    SqlState::T_R_DEADLOCK_DETECTED,
                    SqlState::UNIQUE_VIOLATION,
                    SqlState::FOREIGN_KEY_VIOLATION,
                ]
                .contains(code)
            })
    }

    /// The connection is not to be used again: it is broken, leads to a server that went out of service, or its statements are of
    /// a schema before.
    pub(super) fn spoils_the_connection(&self) -> bool {
        match self {
            Fault::Server { code, .. } => {
                // 57P…: the server is stopping. 25006: it lets nobody write. 08…: the connection. 26000, 0A000: what was prepared
                // is gone or means something else now. XX…, 58…: it is broken itself.
                let code = code.code();
                ["57P", "08", "XX", "58"].iter().any(|class| code.starts_with(class))
                    || ["25006", "26000", "0A000"].contains(&code)
            }
            Fault::Link(_)
            | Fault::Unreachable(_)
            | Fault::Deadline
            | Fault::Unknown(_)
            | Fault::NotReplicated
            | Fault::ReadOnly
            | Fault::Panicked => true,
            Fault::Together(fault) => fault.spoils_the_connection(),
            Fault::Failed
            | Fault::Outrun
            | Fault::Crowded
            | Fault::Unreadable(_)
            | Fault::Miscounted
            | Fault::Closed => false,
        }
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Fault {
        match error.as_db_error() {
            Some(refused) => Fault::Server {
                code: refused.code().clone(),
                message: refused.message().to_owned(),
                constraint: refused.constraint().map(str::to_owned),
            },
            None => Fault::Link(error),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Server { code, message, constraint: None } => {
                write!(f, "PostgreSQL says {}: {message}", code.code())
            }
            Fault::Server { code, message, constraint: Some(constraint) } => {
                write!(f, "PostgreSQL says {} of {constraint}: {message}", code.code())
            }
            Fault::Link(error) => match error.source() {
                Some(cause) => write!(f, "{error}: {cause}"),
                None => fmt::Display::fmt(error, f),
            },
            Fault::Failed => f.write_str("a statement of the transaction has failed; nothing of it stands"),
            Fault::Outrun => f.write_str("what was judged changed before it was written"),
            Fault::Unreachable(tried) => write!(f, "no PostgreSQL that takes writes: {}", tried.join("; ")),
            Fault::Deadline => f.write_str("PostgreSQL did not answer in time"),
            Fault::Unknown(fault) => write!(f, "whether it was carried out is unknown: {fault}"),
            Fault::NotReplicated => f.write_str(
                "it was carried out, but PostgreSQL stopped waiting for its standby: a failover may lose it",
            ),
            Fault::ReadOnly => f.write_str("the server is a standby, or lets nobody write"),
            Fault::Crowded => f.write_str("too much work is waiting for the database"),
            Fault::Unreadable(what) => write!(f, "a row holds what is {what}"),
            Fault::Miscounted => f.write_str("a statement gave another number of rows than it can"),
            Fault::Closed => f.write_str("the store has been closed"),
            Fault::Panicked => f.write_str("the work panicked; nothing of it stands"),
            Fault::Together(fault) => fmt::Display::fmt(fault, f),
        }
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Fault::Link(error) => error.source().and_then(Error::source),
            Fault::Unknown(fault) => fault.source(),
            Fault::Together(fault) => fault.source(),
            Fault::Server { .. }
            | Fault::Failed
            | Fault::Outrun
            | Fault::Unreachable(_)
            | Fault::Deadline
            | Fault::NotReplicated
            | Fault::ReadOnly
            | Fault::Crowded
            | Fault::Unreadable(_)
            | Fault::Miscounted
            | Fault::Closed
            | Fault::Panicked => None,
        }
    }
}
