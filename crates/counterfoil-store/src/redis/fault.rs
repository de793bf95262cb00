//! What can go wrong: [`Fault`].

use std::fmt;

use redis::RedisError;

/// Why the store could not answer. What a server says is kept; a password never is in it.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// The server or the way to it.
    Server(RedisError),
    /// It did not answer in time.
    Late,
    /// Whoever asked before has just been told that nobody is there.
    Away(String),
    /// It is not the primary, or none is known.
    NoPrimary(&'static str),
    /// It answered something that no script of ours answers, or a row is damaged.
    Unreadable(&'static str),
    /// A write is there, but not on as many replicas as were asked for.
    TooFewReplicas { reached: i64, wanted: u32 },
    /// The source of randomness failed.
    NoChance,
    /// The runtime that the store lives on has ended.
    Stopped,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Server(error) => write!(f, "{error}"),
            Fault::Late => f.write_str("Redis did not answer in time"),
            Fault::Away(why) => write!(f, "Redis cannot be reached: {why}"),
            Fault::NoPrimary(why) => f.write_str(why),
            Fault::Unreadable(what) => write!(f, "Redis answered what cannot be read: {what}"),
            Fault::TooFewReplicas { reached, wanted } => {
                write!(f, "written, but {reached} of {wanted} replicas acknowledged it in time")
            }
            Fault::NoChance => f.write_str("the source of randomness failed"),
            Fault::Stopped => f.write_str("the runtime of the store has ended"),
        }
    }
}

impl std::error::Error for Fault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // Its words are ours already.
            Fault::Server(_)
            | Fault::Late
            | Fault::Away(_)
            | Fault::NoPrimary(_)
            | Fault::Unreadable(_)
            | Fault::TooFewReplicas { .. }
            | Fault::NoChance
            | Fault::Stopped => None,
        }
    }
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Fault {
        if error.is_timeout() { Fault::Late } else { Fault::Server(error) }
    }
}

/// What to do about a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Nothing was done, and by another connection it may be: that server is no primary any more, has another life, or is another one.
    ElsewhereAgain,
    /// The connection is of no use any more; whether something was done is not known.
    Elsewhere,
    /// The server has said no, and will say the same again.
    None,
}

impl Fault {
    /// Whether it is that no store is kept there.
    pub(super) fn is_of_emptiness(&self) -> bool {
        matches!(self, Fault::Server(error) if error.code() == Some("CFEMPTY"))
    }

    pub(super) fn remedy(&self) -> Remedy {
        match self {
            Fault::Server(error) => match error.code() {
                Some(
                    "CFLIFE" | "CFEMPTY" | "CFOTHER" | "READONLY" | "LOADING" | "MASTERDOWN" | "MOVED" | "ASK"
                    | "CLUSTERDOWN" | "TRYAGAIN",
                ) => Remedy::ElsewhereAgain,
                Some(_) if !error.is_io_error() => Remedy::None,
                Some(_) | None => Remedy::Elsewhere,
            },
            Fault::Late => Remedy::Elsewhere,
            Fault::Away(_)
            | Fault::NoPrimary(_)
            | Fault::Unreadable(_)
            | Fault::TooFewReplicas { .. }
            | Fault::NoChance
            | Fault::Stopped => Remedy::None,
        }
    }
}
