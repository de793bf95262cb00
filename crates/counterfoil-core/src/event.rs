//! What happened, for whoever wants to know: [`Event`]. Never holds a password, a secret or a digest.

use std::fmt;

use crate::client::ClientName;
use crate::clock::Timestamp;
use crate::refusal::Refusal;
use crate::subject::SubjectId;
use crate::token::{Kind, Source, TokenId};

/// Something happened: what, when and where from.
#[derive(Debug, Clone, PartialEq)]
pub struct Occurrence {
    /// When.
    pub at: Timestamp,
    /// Where from; empty for the operator's own commands.
    pub source: Source,
    /// What.
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Someone tries to log in; comes before the password is looked at.
    LoginStarted {
        /// What they typed as a name.
        username: String,
        /// The client they named.
        client: ClientName,
    },
    /// A password was right and a token was issued.
    LoggedIn(TokenRef),
    /// A login was refused.
    LoginFailed {
        /// What they typed as a name.
        username: String,
        /// The account of that name, if there is one.
        subject: Option<SubjectId>,
        /// Why, in more detail than the caller is told.
        why: LoginFailure,
    },
    /// A token ended itself.
    LoggedOut(TokenRef),
    /// A subject, a client or everybody was signed out.
    Ended {
        /// Whose tokens died.
        scope: Scope,
        /// Whether API keys died with the login tokens.
        keys_too: bool,
    },
    /// A token was made.
    TokenIssued(TokenRef),
    /// An expired token was presented.
    TokenExpired(TokenRef),
    /// A token's expiry moved on.
    TokenRenewed(TokenRef),
    /// A token got a new secret.
    TokenRotated(TokenRef),
    /// A token was ended by something other than itself.
    TokenRevoked(TokenRef, RevokedBy),
    /// A secret came back that its token had given up: someone kept a copy.
    ReuseDetected(TokenRef),
    /// A token asked for something and was refused.
    Refused(TokenRef, Refusal),
    /// An account was made.
    AccountCreated(SubjectId),
    /// An account was disabled: all its tokens are refused.
    AccountDisabled(SubjectId),
    /// An account was enabled again.
    AccountEnabled(SubjectId),
    /// An account was deleted and its tokens with it.
    AccountDeleted(SubjectId),
    /// An account's password was set.
    PasswordChanged(SubjectId),
    /// An account became, or is no longer, staff or administrator.
    RoleChanged(SubjectId),
    /// A client was made.
    ClientCreated(ClientName),
    /// A client's rules changed.
    ClientChanged(ClientName),
    /// A client was deleted and its tokens with it.
    ClientDeleted(ClientName),
    /// Sightings or renewals were given up, because the store could not take them in time.
    MarksLost(u64),
}

impl Event {
    /// One word for it, as logs and audit entries have it.
    pub const fn name(&self) -> &'static str {
        match self {
            Event::LoginStarted { .. } => "login_started",
            Event::LoggedIn(_) => "logged_in",
            Event::LoginFailed { .. } => "login_failed",
            Event::LoggedOut(_) => "logged_out",
            Event::Ended { .. } => "ended",
            Event::TokenIssued(_) => "token_issued",
            Event::TokenExpired(_) => "token_expired",
            Event::TokenRenewed(_) => "token_renewed",
            Event::TokenRotated(_) => "token_rotated",
            Event::TokenRevoked(..) => "token_revoked",
            Event::ReuseDetected(_) => "reuse_detected",
            Event::Refused(..) => "refused",
            Event::AccountCreated(_) => "account_created",
            Event::AccountDisabled(_) => "account_disabled",
            Event::AccountEnabled(_) => "account_enabled",
            Event::AccountDeleted(_) => "account_deleted",
            Event::PasswordChanged(_) => "password_changed",
            Event::RoleChanged(_) => "role_changed",
            Event::ClientCreated(_) => "client_created",
            Event::ClientChanged(_) => "client_changed",
            Event::ClientDeleted(_) => "client_deleted",
            Event::MarksLost(_) => "marks_lost",
        }
    }
}

/// Which token it happened to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRef {
    /// Its public name.
    pub id: TokenId,
    /// Login token or API key.
    pub kind: Kind,
    /// Whom it stands for.
    pub subject: SubjectId,
    /// The client it was issued on.
    pub client: ClientName,
}

/// Why a login failed, for the operator; the caller is told one thing for the first four.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginFailure {
    /// There is no such account.
    UnknownUser,
    /// The password is wrong or the account has none that works.
    WrongPassword,
    /// The account is not active.
    Inactive,
    /// The account changed while the password was being checked.
    Overtaken,
    /// The password was right, and something else stood in the way.
    Refused(Refusal),
}

/// Whose tokens died at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// One subject's.
    Subject(SubjectId),
    /// One client's.
    Client(ClientName),
    /// Everybody's.
    Everybody,
}

/// Who or what ended a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevokedBy {
    /// Its owner, with another token.
    Owner,
    /// The operator.
    Operator,
    /// A later login beyond the cap, or one that replaces it.
    LaterLogin,
    /// A copy of an old secret was used.
    Reuse,
}

/// Where occurrences go. Called on the thread of the request, so an implementation that may block hands them on.
pub trait EventSink: Send + Sync + fmt::Debug {
    /// Takes note.
    fn publish(&self, occurrence: &Occurrence);
}

/// Takes note of nothing.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl EventSink for Silent {
    fn publish(&self, _: &Occurrence) {}
}
