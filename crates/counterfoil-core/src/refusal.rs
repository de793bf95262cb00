//! Their fault or ours: [`Refusal`] explains itself to the caller, [`Error`] also holds what only the operator may see.

use std::fmt;

use crate::ability::Ability;
use crate::attempts::TryLater;
use crate::client::PolicyConflict;
use crate::entropy::EntropyError;
use crate::event::Limit;
use crate::hook::{HookFailed, Ruling};
use crate::password_policy::TooWeak;
use crate::seal::UnsealError;
use crate::store::StoreError;
use crate::throttle::TooMany;

/// Why a request is refused. Closed on purpose: every way out writes a `match`, so that a new refusal cannot be forgotten.
///
/// The first four are one answer on the wire: a caller learns that the token is not valid, the operator's log says why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No token has this text, or none of its kind.
    TokenUnknown,
    /// Its time is over.
    TokenExpired,
    /// It was revoked, by itself or with others.
    TokenRevoked,
    /// Its subject is disabled or gone.
    SubjectInactive,
    /// Unknown user, wrong password or inactive account; never says which.
    CredentialsRejected,
    /// A login names a client that there is not.
    ClientUnknown,
    /// Nobody logs in on this client.
    LoginNotAllowed,
    /// The subject has as many live tokens on this client as it may.
    CapReached {
        /// How many that is.
        limit: u32,
    },
    /// The client's policy, or the token's kind, does not let its expiry move on.
    RenewalNotAllowed,
    /// The owner has locked the secrets of their tokens.
    RotationLocked,
    /// The subject has been authenticated on this client as often as its policy allows.
    Throttled(TooMany),
    /// A limit that is not a client's own was hit.
    LimitHit(Limit, TooMany),
    /// Too many logins by this name have failed; the password was not looked at.
    TooManyAttempts(TryLater),
    /// Only staff may do this.
    StaffNeeded,
    /// Only an administrator may do this.
    AdminNeeded,
    /// The token may not do this.
    AbilityMissing(Ability),
    /// A key would be allowed more than its maker.
    AbilityBeyondMaker(Ability),
    /// A key would outlive the key that makes it.
    ExpiryBeyondMaker,
    /// There is no such thing, or it is not the caller's: the two are one answer.
    NotFound,
    /// The user name, or one that differs by case alone, is in use.
    UsernameTaken,
    /// A client has this name.
    ClientNameTaken,
    /// The default client cannot be deleted.
    ClientNeeded,
    /// A value cannot be taken.
    Invalid(Invalid),
    /// A password is too easy to guess to be chosen.
    PasswordWeak {
        /// The name of the field, as the caller writes it.
        field: &'static str,
        /// Why.
        why: TooWeak,
    },
    /// `reissue = same` needs a key ring.
    KeyRingMissing,
    /// The service around us does not want this token made, for the reason it gives.
    RefusedByHost(String),
    /// Nobody makes an account for themselves here.
    RegistrationClosed,
    /// What goes by mail is not offered: none is sent here, or nothing is known of where the pages of its links are.
    NoMail,
    /// The link is not one, was used, is too old, or its account has changed since it was mailed.
    LinkDead,
    /// The password that was asked for again is not the account's.
    PasswordWrong,
    /// Somebody else logs in by this address. Told only to whoever has proved to read its mail.
    EmailTaken,
}

/// A value that cannot be taken, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The name of the field, as the caller writes it.
    pub field: &'static str,
    /// What would be right, without the value itself.
    pub why: String,
}

impl Refusal {
    /// The field named `field` cannot be taken, because of `why`.
    pub fn invalid(field: &'static str, why: impl fmt::Display) -> Refusal {
        Refusal::Invalid(Invalid { field, why: why.to_string() })
    }

    /// In the host's words, made fit for one line of a log.
    pub(crate) fn by_host(reason: &str) -> Refusal {
        let shown = reason.chars().filter(|character| !character.is_control());
        Refusal::RefusedByHost(shown.take(Ruling::MAX_REASON_CHARS).collect())
    }
}

impl From<PolicyConflict> for Refusal {
    fn from(conflict: PolicyConflict) -> Refusal {
        Refusal::invalid("policy", conflict)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::TokenUnknown => f.write_str("unknown token"),
            Refusal::TokenExpired => f.write_str("expired token"),
            Refusal::TokenRevoked => f.write_str("revoked token"),
            Refusal::SubjectInactive => f.write_str("disabled or deleted user"),
            Refusal::CredentialsRejected => f.write_str("the user name or the password is wrong"),
            Refusal::ClientUnknown => f.write_str("no client of this name"),
            Refusal::LoginNotAllowed => f.write_str("nobody may log in on this client"),
            Refusal::CapReached { limit } => write!(f, "this user already has {limit} live tokens on this client"),
            Refusal::RenewalNotAllowed => f.write_str("this token cannot be renewed"),
            Refusal::Throttled(TooMany { rate, .. }) => write!(f, "more requests than {rate} on this client"),
            Refusal::LimitHit(limit, TooMany { rate, .. }) => write!(f, "more than {rate}: {}", limit.as_str()),
            Refusal::TooManyAttempts(TryLater { seconds }) => {
                write!(f, "too many failed logins by this name; try again in {seconds} s")
            }
            Refusal::StaffNeeded => f.write_str("only staff may do this"),
            Refusal::AdminNeeded => f.write_str("only an administrator may do this"),
            Refusal::RotationLocked => f.write_str("the owner has locked the secrets of these tokens"),
            Refusal::AbilityMissing(ability) => write!(f, "this token lacks the ability {ability}"),
            Refusal::AbilityBeyondMaker(ability) => {
                write!(f, "the ability {ability} is beyond what this token may hand on")
            }
            Refusal::ExpiryBeyondMaker => f.write_str("a key made by a key cannot outlive it"),
            Refusal::NotFound => f.write_str("not found"),
            Refusal::UsernameTaken => f.write_str("this user name, or one that differs by case alone, is taken"),
            Refusal::ClientNameTaken => f.write_str("a client of this name exists"),
            Refusal::ClientNeeded => f.write_str("the default client cannot be deleted; disallow logging in on it"),
            Refusal::Invalid(invalid) => write!(f, "{}: {}", invalid.field, invalid.why),
            Refusal::PasswordWeak { field, why } => write!(f, "{field}: {why}"),
            Refusal::KeyRingMissing => f.write_str("reissue same needs a key ring to seal secrets with"),
            Refusal::RefusedByHost(reason) => write!(f, "refused by the host: {reason}"),
            Refusal::RegistrationClosed => f.write_str("nobody makes an account for themselves here"),
            Refusal::NoMail => f.write_str("no mail is sent here"),
            Refusal::LinkDead => f.write_str("this link has been used, is too old, or was never one"),
            Refusal::PasswordWrong => f.write_str("the password is wrong"),
            Refusal::EmailTaken => f.write_str("somebody else logs in by this address"),
        }
    }
}

impl std::error::Error for Refusal {}

/// Why the authority gave no answer: their fault, or ours.
#[derive(Debug)]
pub enum Error {
    /// The caller asked for what cannot be had.
    Refused(Refusal),
    /// The store failed. Says nothing about the token: answer 503, never 401 and never 200.
    Store(StoreError),
    /// The source of randomness failed; nothing was issued.
    Entropy(EntropyError),
    /// More passwords are waiting to be hashed than the queue takes; nothing was checked.
    Overloaded,
    /// A sealed secret did not open.
    Unseal(UnsealError),
    /// The hook before issuing gave no ruling; nothing was issued.
    Hook(HookFailed),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Refused(refusal) => fmt::Display::fmt(refusal, f),
            Error::Store(_) => f.write_str("the store failed"),
            Error::Entropy(error) => fmt::Display::fmt(error, f),
            Error::Overloaded => f.write_str("too many passwords are waiting to be checked"),
            Error::Unseal(error) => fmt::Display::fmt(error, f),
            Error::Hook(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Refused(_) | Error::Overloaded => None,
            Error::Store(error) => Some(error),
            Error::Entropy(error) => Some(error),
            Error::Unseal(error) => Some(error),
            Error::Hook(error) => Some(error),
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        Error::Refused(refusal)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Error {
        Error::Store(error)
    }
}

impl From<EntropyError> for Error {
    fn from(error: EntropyError) -> Error {
        Error::Entropy(error)
    }
}

impl From<UnsealError> for Error {
    fn from(error: UnsealError) -> Error {
        Error::Unseal(error)
    }
}

impl From<HookFailed> for Error {
    fn from(error: HookFailed) -> Error {
        Error::Hook(error)
    }
}
