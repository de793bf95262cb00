//! Why a command failed, in one line and with a hint: [`Failure`].

use std::fmt::{self, Write as _};
use std::process::ExitCode;

use clap::error::ErrorKind;
use counterfoil::tally::Disagreement;
use counterfoil::{ConnectError, Error, OpenError, Refusal, RestoreError, StartError};
use serde_json::{Value, json};

/// What went wrong and what to do about it, for the person at the keyboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    status: Status,
    message: String,
    hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    /// The command was understood and could not be carried out: status 1.
    Refused,
    /// The command or the configuration makes no sense: status 2, as the argument parser has it.
    Usage,
    /// Whoever read the answer has hung up, as `… | head -n 1` does: nothing to tell, status 0.
    Unheard,
}

impl Failure {
    /// The command was understood and could not be carried out.
    pub(crate) fn refused(message: impl fmt::Display) -> Failure {
        Failure { status: Status::Refused, message: message.to_string(), hint: None }
    }

    /// The command or the configuration makes no sense.
    pub(crate) fn usage(message: impl fmt::Display) -> Failure {
        Failure { status: Status::Usage, message: message.to_string(), hint: None }
    }

    /// The command was understood and failed because of `error`, whose causes are told as well.
    pub(crate) fn caused_by(message: impl fmt::Display, error: &dyn std::error::Error) -> Failure {
        Failure::refused(format!("{message}: {}", causes(error)))
    }

    #[must_use]
    pub(crate) fn hint(self, hint: impl fmt::Display) -> Failure {
        Failure { hint: Some(hint.to_string()), ..self }
    }

    /// What the argument parser says in paragraphs: the first is why, the others what to do.
    pub(crate) fn of_arguments(error: &clap::Error) -> Failure {
        if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            return Failure::usage("the command is not complete").hint("--help after it shows what may follow");
        }
        let text = error.render().to_string();
        let (why, hint) = text.split_once("\n\n").unwrap_or((&text, ""));
        let in_one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let failure = Failure::usage(in_one_line(why.strip_prefix("error: ").unwrap_or(why)));
        if hint.is_empty() { failure } else { failure.hint(in_one_line(hint)) }
    }

    /// For the log.
    pub(crate) fn in_one_line(&self) -> String {
        let hint = self.hint.as_ref().map_or(String::new(), |hint| format!(" ({hint})"));
        printable(&format!("{}{hint}", self.message))
    }

    /// What went wrong, and what to do about it.
    pub(crate) fn parts(&self) -> (&str, Option<&str>) {
        (&self.message, self.hint.as_deref())
    }

    /// For programs: `{"error", "hint"}`, the hint null where there is none.
    pub(crate) fn to_json(&self) -> Value {
        json!({ "error": self.message, "hint": self.hint })
    }

    /// A destructive command without `--yes`.
    pub(crate) fn unconfirmed(what: impl fmt::Display) -> Failure {
        Failure::usage(format!("this {what}; nothing was done")).hint("add --yes if that is what you want")
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self.status {
            Status::Refused => ExitCode::from(1),
            Status::Usage => ExitCode::from(2),
            Status::Unheard => ExitCode::SUCCESS,
        }
    }

    /// Whoever read the answer has seen enough.
    pub(crate) fn unheard() -> Failure {
        Failure { status: Status::Unheard, message: "nobody reads the answer".to_owned(), hint: None }
    }

    pub(crate) fn is_unheard(&self) -> bool {
        self.status == Status::Unheard
    }
}

/// One line and perhaps another one with the hint; what is not printable is escaped, because file names and settings are
/// in it.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", printable(&self.message))?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {}", printable(hint)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

/// `text` with everything escaped that is not printable: control characters, line breaks, invisible and reordering marks.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        // After a letter, because a combining mark is fine where it has something to combine with. Quotes and backslashes
        // need no escape outside a literal.
        let plain = String::from_iter(['a', c]).escape_debug().eq(['a', c]);
        if plain || matches!(c, '"' | '\'' | '\\') {
            shown.push(c);
        } else {
            shown.extend(c.escape_debug());
        }
    }
    shown
}

/// An error and its causes in one line.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a string cannot fail.
        write!(text, ": {error}").ok();
        cause = error.source();
    }
    text
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        let failure = Failure::refused(&refusal);
        match refusal {
            Refusal::KeyRingMissing => failure.hint(
                "make one with `counterfoil keyring init --file FILE` and name it with the setting key_ring_file",
            ),
            Refusal::ClientUnknown => failure.hint("`counterfoil client list` shows all there are"),
            Refusal::ClientNameTaken => failure.hint("`counterfoil client update` changes it"),
            Refusal::UsernameTaken => failure.hint("`counterfoil user show NAME` shows who has it"),
            Refusal::CapReached { .. } => failure.hint("revoke one first, or raise the cap of the client"),
            Refusal::SubjectInactive => failure.hint("`counterfoil user enable NAME` lets a disabled user in again"),
            Refusal::NoMail => {
                failure.hint("set base_url and the settings of mail: `counterfoil config defaults` tells of them")
            }
            Refusal::TokenUnknown
            | Refusal::TokenExpired
            | Refusal::TokenRevoked
            | Refusal::CredentialsRejected
            | Refusal::LoginNotAllowed
            | Refusal::RenewalNotAllowed
            | Refusal::RotationLocked
            | Refusal::Throttled(_)
            | Refusal::LimitHit(..)
            | Refusal::TooManyAttempts(_)
            | Refusal::StaffNeeded
            | Refusal::AdminNeeded
            | Refusal::AbilityMissing(_)
            | Refusal::AbilityBeyondMaker(_)
            | Refusal::ExpiryBeyondMaker
            | Refusal::NotFound
            | Refusal::ClientNeeded
            | Refusal::RefusedByHost(_)
            | Refusal::RegistrationClosed
            | Refusal::LinkDead
            | Refusal::PasswordWrong
            | Refusal::EmailTaken
            | Refusal::Invalid(_)
            | Refusal::PasswordWeak { .. } => failure,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Refused(refusal) => refusal.into(),
            Error::Unseal(error) => Failure::refused(error).hint(
                "name the ring that sealed them with the setting key_ring_file; if it is lost, make another one and end \
                 what it sealed with `counterfoil token revoke --client NAME --all`, then those users log in anew",
            ),
            Error::Store(_) | Error::Entropy(_) | Error::Overloaded | Error::Hook(_) => Failure::refused(causes(&error)),
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Failure {
        match error {
            StartError::Authority(error) => error.into(),
            StartError::Open(error) => error.into(),
            StartError::Connect(error) => error.into(),
            StartError::Redis(_) => Failure::refused(causes(&error))
                .hint("see that the server of store.tokens_url runs, is a primary, and lets this machine in: docs/redis.md"),
            StartError::TokensElsewhere => Failure::refused(causes(&error))
                .hint("set store.tokens_url as the server has it: docs/redis.md"),
            StartError::TokensHere => Failure::refused(causes(&error)).hint(
                "leave store.tokens_url out, or begin another deployment with it: tokens do not move to Redis (docs/redis.md)",
            ),
            StartError::OtherTokens(Disagreement::Empty) => Failure::refused(causes(&error)).hint(
                "name the Redis of this deployment in store.tokens_url; where that one was flushed or lost: `counterfoil serve \
                 --begin-tokens-anew`, and everybody logs in again",
            ),
            StartError::OtherTokens(Disagreement::Others { .. }) => Failure::refused(causes(&error)).hint(
                "name the Redis of this deployment in store.tokens_url: `counterfoil doctor` tells the tally of each deployment; two on one \
                 server need a database or a ?prefix= each. For accounts that were put back to an older state see docs/redis.md",
            ),
            StartError::OtherTokens(Disagreement::Failed(_)) => Failure::refused(causes(&error)),
            StartError::TokensNotRewound | StartError::NoStore | StartError::NoMailStore | StartError::Threads(_) => {
                Failure::refused(causes(&error))
            }
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Failure {
        let failure = Failure::refused(causes(&error));
        // The texts of the others say what to do.
        if let ConnectError::Url(_) = error {
            failure.hint("expected postgres://USER@HOST/DATABASE; see docs/postgres.md")
        } else if let ConnectError::Unreachable(_) = error {
            failure.hint("see that the server runs, takes writes, and lets this machine in: docs/postgres.md")
        } else {
            failure
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Failure {
        let failure = Failure::refused(causes(&error));
        match error {
            OpenError::Absent(_) => failure.hint(
                "name another one with --data-dir DIR; `counterfoil serve` and `counterfoil user create` make one",
            ),
            OpenError::Rewound { .. } | OpenError::Copied(_) | OpenError::OtherLife(_) => failure.hint(
                "`counterfoil serve --accept-rewind` goes on from what is there; `counterfoil serve --revoke-rewound` does, \
                 and ends every token issued before",
            ),
            OpenError::Unusable(..)
            | OpenError::Served(_)
            | OpenError::Vanished(_)
            | OpenError::Empty(_)
            | OpenError::Foreign(_)
            | OpenError::Newer { .. }
            | OpenError::Older { .. }
            | OpenError::NotCopied(_)
            | OpenError::Restoring(_)
            | OpenError::OtherLog(_)
            | OpenError::Damaged(..)
            | OpenError::Sqlite(..) => failure,
        }
    }
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Failure {
        let failure = Failure::refused(causes(&error));
        match error {
            RestoreError::Present(_) => failure.hint(
                "--replace keeps it whole in a directory replaced-1 beside it, or the next number that is free, and puts \
                 the backup in its place",
            ),
            RestoreError::Unreadable(..)
            | RestoreError::HasLog(_)
            | RestoreError::Foreign(_)
            | RestoreError::Newer { .. }
            | RestoreError::Damaged(..)
            | RestoreError::Served(_)
            | RestoreError::InUse(_)
            | RestoreError::Full(_)
            | RestoreError::Unusable(..)
            | RestoreError::Sqlite(..) => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_printable_is_escaped_and_nothing_else() {
        for (text, shown) in [
            ("O'Hara \"Q\" \\ 100%", "O'Hara \"Q\" \\ 100%"),
            ("a\nb\r\u{1b}[2J\u{7}", "a\\nb\\r\\u{1b}[2J\\u{7}"),
            ("\u{202e}gpj.exe\u{2066}\u{200b}", "\\u{202e}gpj.exe\\u{2066}\\u{200b}"),
            ("é e\u{301} عائشة हिन्दी", "é e\u{301} عائشة हिन्दी"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }
}
