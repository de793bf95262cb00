//! What happened, for whoever wants to know: [`Event`]. Never holds a password, a secret or a digest.

use std::fmt;

use crate::account::Role;
use crate::actor::Actor;
use crate::client::ClientName;
use crate::clock::Timestamp;
use crate::refusal::Refusal;
use crate::store::TokenFilter;
use crate::subject::SubjectId;
use crate::throttle::RouteClass;
use crate::token::{Kind, Source, TokenId};

/// Something happened: what, when and where from.
#[derive(Debug, Clone, PartialEq)]
pub struct Occurrence {
    /// When.
    pub at: Timestamp,
    /// Who did it.
    pub actor: Actor,
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
        /// What they typed as a name, if there is an account of that name. What else is typed there may be a password, or
        /// a token, in the wrong field.
        username: Option<String>,
        /// That account.
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
    /// The secret of a token that lives already was given out again, on a client with `reissue = same`.
    SecretRepeated(TokenRef),
    /// An expired token was presented.
    TokenExpired(TokenRef),
    /// A token's expiry moved on.
    TokenRenewed(TokenRef),
    /// A token was given another name by the operator or staff.
    TokenRenamed(TokenRef),
    /// A token got a new secret.
    TokenRotated(TokenRef),
    /// A token was ended by something other than itself.
    TokenRevoked(TokenRef, RevokedBy),
    /// A secret came back that its token had given up: someone kept a copy.
    ReuseDetected(TokenRef),
    /// A token asked for something and was refused.
    Refused(TokenRef, Refusal),
    /// A limit that is no subject's own was hit.
    LimitHit(Limit),
    /// Tokens were ended by what they have in common.
    RevokedMatching {
        /// What that is.
        filter: Box<TokenFilter>,
        /// How many they were.
        count: u64,
    },
    /// An account was made.
    AccountCreated(SubjectId),
    /// Accounts and tokens were brought over from another system.
    Imported {
        /// How many accounts.
        accounts: u64,
        /// How many tokens.
        tokens: u64,
    },
    /// What is known of an account was changed by the operator or staff.
    AccountChanged(SubjectId),
    /// An account was disabled: all its tokens are refused.
    AccountDisabled(SubjectId),
    /// An account was enabled again.
    AccountEnabled(SubjectId),
    /// The failed logins of an account were forgotten by the operator or staff.
    AccountUnlocked(SubjectId),
    /// All that is kept about an account was handed out.
    AccountExported(SubjectId),
    /// An account was deleted and its tokens with it.
    AccountDeleted(SubjectId),
    /// An account's password was set.
    PasswordChanged(SubjectId),
    /// Somebody wants an account, and was mailed a link to prove their address.
    RegistrationAsked,
    /// Somebody made an account for themselves.
    Registered(SubjectId),
    /// An owner was mailed a link to confirm an address.
    ConfirmationAsked(SubjectId),
    /// An owner has proved to read the mail of their address.
    EmailConfirmed(SubjectId),
    /// An owner wants another address, and was mailed a link there.
    EmailChangeAsked(SubjectId),
    /// An account was given another address by its owner.
    EmailChanged(SubjectId),
    /// The old address took that back.
    EmailChangeUndone(SubjectId),
    /// Somebody, the owner perhaps, had a link mailed to choose a new password.
    ResetAsked(SubjectId),
    /// A link was used to choose a new password.
    PasswordReset(SubjectId),
    /// A password that was asked for again was wrong.
    PasswordRefused(SubjectId),
    /// A mail was given up.
    MailLost {
        /// Whose account it is about.
        subject: SubjectId,
        /// What it was to tell: see [`crate::mail::MailKind::name`].
        kind: &'static str,
        /// Why.
        why: MailLoss,
    },
    /// An account became, or is no longer, staff or administrator.
    RoleChanged(SubjectId, Role),
    /// An owner barred their tokens from changing their secret.
    RotationLocked(SubjectId),
    /// An owner allowed it again.
    RotationUnlocked(SubjectId),
    /// A client was made.
    ClientCreated(ClientName),
    /// A client's rules changed.
    ClientChanged(ClientName),
    /// A client was deleted and its tokens with it.
    ClientDeleted(ClientName),
    /// So many sealed secrets were sealed anew with the newest key.
    SecretsResealed(u64),
    /// Sightings or renewals were given up, because the store could not take them in time.
    MarksLost(u64),
    /// Audit entries were given up, because the store could not take them in time.
    AuditLost(u64),
}

impl Event {
    /// Every word that [`Event::name`] gives, in its order: what there is to ask an audit log for. `docs/audit.md` explains them.
    pub const NAMES: [&str; 45] = [
        "login_started",
        "logged_in",
        "login_failed",
        "logged_out",
        "ended",
        "token_issued",
        "secret_repeated",
        "token_expired",
        "token_renewed",
        "token_renamed",
        "token_rotated",
        "token_revoked",
        "reuse_detected",
        "refused",
        "limit_hit",
        "tokens_revoked",
        "account_created",
        "imported",
        "account_changed",
        "account_disabled",
        "account_enabled",
        "account_unlocked",
        "account_exported",
        "account_deleted",
        "password_changed",
        "registration_asked",
        "registered",
        "confirmation_asked",
        "email_confirmed",
        "email_change_asked",
        "email_changed",
        "email_change_undone",
        "reset_asked",
        "password_reset",
        "password_refused",
        "mail_lost",
        "role_changed",
        "rotation_locked",
        "rotation_unlocked",
        "client_created",
        "client_changed",
        "client_deleted",
        "secrets_resealed",
        "marks_lost",
        "audit_lost",
    ];

    /// One word for it, as logs and audit entries have it.
    pub const fn name(&self) -> &'static str {
        self.facts().0
    }

    /// How much it matters to whoever reads a log.
    pub const fn gravity(&self) -> Gravity {
        self.facts().1
    }

    /// Whether a client that does not give up makes it happen again and again, as fast as it can ask.
    pub const fn is_repeatable(&self) -> bool {
        self.facts().2
    }

    /// Its word, its gravity, whether it is repeatable. In one place, so that a new event is given all three.
    const fn facts(&self) -> (&'static str, Gravity, bool) {
        match self {
            Event::LoginStarted { .. } => ("login_started", Gravity::Detail, false),
            Event::LoggedIn(_) => ("logged_in", Gravity::Notice, false),
            Event::LoginFailed { why: LoginFailure::TooManyAttempts, .. } => ("login_failed", Gravity::Warning, true),
            Event::LoginFailed { .. } => ("login_failed", Gravity::Warning, false),
            Event::LoggedOut(_) => ("logged_out", Gravity::Notice, false),
            Event::Ended { .. } => ("ended", Gravity::Notice, false),
            Event::TokenIssued(_) => ("token_issued", Gravity::Notice, false),
            Event::SecretRepeated(_) => ("secret_repeated", Gravity::Notice, false),
            Event::TokenExpired(_) => ("token_expired", Gravity::Notice, true),
            Event::TokenRenewed(_) => ("token_renewed", Gravity::Notice, false),
            Event::TokenRenamed(_) => ("token_renamed", Gravity::Notice, false),
            Event::TokenRotated(_) => ("token_rotated", Gravity::Notice, false),
            Event::TokenRevoked(..) => ("token_revoked", Gravity::Notice, false),
            Event::ReuseDetected(_) => ("reuse_detected", Gravity::Warning, true),
            Event::Refused(..) => ("refused", Gravity::Notice, true),
            Event::LimitHit(_) => ("limit_hit", Gravity::Warning, true),
            Event::RevokedMatching { .. } => ("tokens_revoked", Gravity::Notice, false),
            Event::AccountCreated(_) => ("account_created", Gravity::Notice, false),
            Event::Imported { .. } => ("imported", Gravity::Notice, false),
            Event::AccountChanged(_) => ("account_changed", Gravity::Notice, false),
            Event::AccountDisabled(_) => ("account_disabled", Gravity::Notice, false),
            Event::AccountEnabled(_) => ("account_enabled", Gravity::Notice, false),
            Event::AccountUnlocked(_) => ("account_unlocked", Gravity::Notice, false),
            Event::AccountExported(_) => ("account_exported", Gravity::Notice, false),
            Event::AccountDeleted(_) => ("account_deleted", Gravity::Notice, false),
            Event::PasswordChanged(_) => ("password_changed", Gravity::Notice, false),
            Event::RegistrationAsked => ("registration_asked", Gravity::Notice, true),
            Event::Registered(_) => ("registered", Gravity::Notice, false),
            Event::ConfirmationAsked(_) => ("confirmation_asked", Gravity::Notice, true),
            Event::EmailConfirmed(_) => ("email_confirmed", Gravity::Notice, false),
            Event::EmailChangeAsked(_) => ("email_change_asked", Gravity::Notice, false),
            Event::EmailChanged(_) => ("email_changed", Gravity::Notice, false),
            Event::EmailChangeUndone(_) => ("email_change_undone", Gravity::Warning, false),
            Event::ResetAsked(_) => ("reset_asked", Gravity::Notice, true),
            Event::PasswordReset(_) => ("password_reset", Gravity::Notice, false),
            Event::PasswordRefused(_) => ("password_refused", Gravity::Warning, false),
            Event::MailLost { .. } => ("mail_lost", Gravity::Warning, true),
            Event::RoleChanged(..) => ("role_changed", Gravity::Notice, false),
            Event::RotationLocked(_) => ("rotation_locked", Gravity::Notice, false),
            Event::RotationUnlocked(_) => ("rotation_unlocked", Gravity::Notice, false),
            Event::ClientCreated(_) => ("client_created", Gravity::Notice, false),
            Event::ClientChanged(_) => ("client_changed", Gravity::Notice, false),
            Event::ClientDeleted(_) => ("client_deleted", Gravity::Notice, false),
            Event::SecretsResealed(_) => ("secrets_resealed", Gravity::Notice, false),
            Event::MarksLost(_) => ("marks_lost", Gravity::Warning, false),
            Event::AuditLost(_) => ("audit_lost", Gravity::Warning, false),
        }
    }
}

/// How much an event matters to whoever reads a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gravity {
    /// For whoever looks for a cause.
    Detail,
    /// What happens every day.
    Notice,
    /// What somebody should look at.
    Warning,
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

/// Why a login failed, for the operator; the caller is told one thing for the first five.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginFailure {
    /// There is no such account.
    UnknownUser,
    /// The password is wrong or the account has none that works.
    WrongPassword,
    /// The account is not active.
    Inactive,
    /// Its address is not confirmed, and has to be.
    Unconfirmed,
    /// The account changed while the password was being checked.
    Overtaken,
    /// Too many have failed before; the password was not looked at.
    TooManyAttempts,
    /// No answer could be given: too much was waiting, or the store was away.
    Unanswered,
    /// The password was right, and something else stood in the way.
    Refused(Refusal),
}

impl fmt::Display for LoginFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoginFailure::UnknownUser => f.write_str("unknown user"),
            LoginFailure::WrongPassword => f.write_str("wrong password"),
            LoginFailure::Inactive => f.write_str("inactive account"),
            LoginFailure::Unconfirmed => f.write_str("unconfirmed address"),
            LoginFailure::Overtaken => f.write_str("the account changed meanwhile"),
            LoginFailure::TooManyAttempts => f.write_str("too many failed attempts before"),
            LoginFailure::Unanswered => f.write_str("no answer could be given"),
            LoginFailure::Refused(refusal) => fmt::Display::fmt(refusal, f),
        }
    }
}

/// Why a mail was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailLoss {
    /// It was not sent in time.
    Expired,
    /// It cannot be sent: the address was refused, or the mail could not be written.
    Refused,
    /// Too many are waiting.
    QueueFull,
}

impl MailLoss {
    /// In a few words.
    pub const fn as_str(self) -> &'static str {
        match self {
            MailLoss::Expired => "not sent in time",
            MailLoss::Refused => "cannot be sent",
            MailLoss::QueueFull => "too many are waiting",
        }
    }
}

/// A limit that is counted for an address rather than for a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Logins that failed.
    FailedLogins,
    /// Texts that look like imported tokens and are none.
    Misses,
    /// Requests to a class of routes.
    Requests(RouteClass),
    /// Requests to a host's route that has a rate of its own.
    Route,
    /// Mails and registrations that somebody asks for.
    Mails,
    /// Mails to one address that somebody asks for.
    MailsToAddress,
}

impl Limit {
    /// In a few words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Limit::FailedLogins => "failed logins from this address",
            Limit::Misses => "unknown tokens from this address",
            Limit::Requests(RouteClass::Login) => "logins from this address",
            Limit::Requests(RouteClass::Api) => "requests of this token's user",
            Limit::Requests(RouteClass::Introspection) => "introspections by this service",
            Limit::Route => "requests of this token's user to this route",
            Limit::Mails => "mails and registrations asked for from this address",
            Limit::MailsToAddress => "mails asked for to one mailbox",
        }
    }
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
    /// The operator, or staff.
    Operator,
    /// A later login beyond the cap, or one that replaces it.
    LaterLogin,
    /// A copy of an old secret was used.
    Reuse,
    /// A service that was shown its text.
    Service,
}

impl RevokedBy {
    /// In a few words.
    pub const fn as_str(self) -> &'static str {
        match self {
            RevokedBy::Owner => "by its owner",
            RevokedBy::Operator => "by the operator or staff",
            RevokedBy::LaterLogin => "by a later login",
            RevokedBy::Reuse => "because an old secret was used",
            RevokedBy::Service => "by a service",
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::TokenId;

    /// One of each, in the order of their declaration. A new one does not compile until it stands here.
    fn next(event: Option<&Event>) -> Option<Event> {
        let subject = || -> SubjectId { "subject".parse().expect("a subject") };
        let client = ClientName::default_client;
        let token =
            || TokenRef { id: TokenId::from_bytes([7; 16]), kind: Kind::Key, subject: subject(), client: client() };
        let Some(event) = event else {
            return Some(Event::LoginStarted { username: String::new(), client: client() });
        };
        Some(match event {
            Event::LoginStarted { .. } => Event::LoggedIn(token()),
            Event::LoggedIn(_) => Event::LoginFailed { username: None, subject: None, why: LoginFailure::UnknownUser },
            Event::LoginFailed { .. } => Event::LoggedOut(token()),
            Event::LoggedOut(_) => Event::Ended { scope: Scope::Everybody, keys_too: true },
            Event::Ended { .. } => Event::TokenIssued(token()),
            Event::TokenIssued(_) => Event::SecretRepeated(token()),
            Event::SecretRepeated(_) => Event::TokenExpired(token()),
            Event::TokenExpired(_) => Event::TokenRenewed(token()),
            Event::TokenRenewed(_) => Event::TokenRenamed(token()),
            Event::TokenRenamed(_) => Event::TokenRotated(token()),
            Event::TokenRotated(_) => Event::TokenRevoked(token(), RevokedBy::Owner),
            Event::TokenRevoked(..) => Event::ReuseDetected(token()),
            Event::ReuseDetected(_) => Event::Refused(token(), Refusal::TokenRevoked),
            Event::Refused(..) => Event::LimitHit(Limit::Misses),
            Event::LimitHit(_) => Event::RevokedMatching { filter: Box::default(), count: 1 },
            Event::RevokedMatching { .. } => Event::AccountCreated(subject()),
            Event::AccountCreated(_) => Event::Imported { accounts: 1, tokens: 2 },
            Event::Imported { .. } => Event::AccountChanged(subject()),
            Event::AccountChanged(_) => Event::AccountDisabled(subject()),
            Event::AccountDisabled(_) => Event::AccountEnabled(subject()),
            Event::AccountEnabled(_) => Event::AccountUnlocked(subject()),
            Event::AccountUnlocked(_) => Event::AccountExported(subject()),
            Event::AccountExported(_) => Event::AccountDeleted(subject()),
            Event::AccountDeleted(_) => Event::PasswordChanged(subject()),
            Event::PasswordChanged(_) => Event::RegistrationAsked,
            Event::RegistrationAsked => Event::Registered(subject()),
            Event::Registered(_) => Event::ConfirmationAsked(subject()),
            Event::ConfirmationAsked(_) => Event::EmailConfirmed(subject()),
            Event::EmailConfirmed(_) => Event::EmailChangeAsked(subject()),
            Event::EmailChangeAsked(_) => Event::EmailChanged(subject()),
            Event::EmailChanged(_) => Event::EmailChangeUndone(subject()),
            Event::EmailChangeUndone(_) => Event::ResetAsked(subject()),
            Event::ResetAsked(_) => Event::PasswordReset(subject()),
            Event::PasswordReset(_) => Event::PasswordRefused(subject()),
            Event::PasswordRefused(_) => Event::MailLost { subject: subject(), kind: "test", why: MailLoss::Expired },
            Event::MailLost { .. } => Event::RoleChanged(subject(), Role::Staff),
            Event::RoleChanged(..) => Event::RotationLocked(subject()),
            Event::RotationLocked(_) => Event::RotationUnlocked(subject()),
            Event::RotationUnlocked(_) => Event::ClientCreated(client()),
            Event::ClientCreated(_) => Event::ClientChanged(client()),
            Event::ClientChanged(_) => Event::ClientDeleted(client()),
            Event::ClientDeleted(_) => Event::SecretsResealed(1),
            Event::SecretsResealed(_) => Event::MarksLost(1),
            Event::MarksLost(_) => Event::AuditLost(1),
            Event::AuditLost(_) => return None,
        })
    }

    #[test]
    fn r31_every_event_has_its_name_and_its_row_in_the_manual() {
        let events = std::iter::successors(next(None), |event| next(Some(event)));
        let names: Vec<&str> = events.map(|event| event.name()).collect();
        assert_eq!(names, Event::NAMES);
        let page = include_str!("../../../docs/audit.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
        let explained: Vec<&str> = rows.map(|(name, _)| name).filter(|name| Event::NAMES.contains(name)).collect();
        for name in names {
            assert_eq!(explained.iter().filter(|row| **row == name).count(), 1, "docs/audit.md on {name}");
        }
    }
}
