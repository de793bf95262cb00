//! The host's word before a token is made: [`BeforeIssuing`].

use std::error::Error;
use std::fmt;
use std::pin::Pin;

use crate::ability::Abilities;
use crate::account::Account;
use crate::actor::By;
use crate::client::ClientName;
use crate::clock::Timestamp;
use crate::subject::SubjectId;
use crate::token::{Identity, Kind, Source, TokenName};

/// Asked before every token that is made: for a login when its password has proved right, for an API key, and for what the
/// operator, the host's own code or staff order. Not asked when a token gets a new secret or a later expiry.
///
/// Other logins of the same name wait for it, and one in 256 of any other; what it allows is still judged by every other rule.
/// Whatever is not a [`Ruling`] issues nothing: an error, a panic, and in the crate `counterfoil` also an answer that takes
/// too long.
///
/// ```
/// use counterfoil_core::hook::{BeforeIssuing, Intent, Occasion, Ruled, Ruling};
///
/// /// Nobody logs in from outside, and the editors have a client of their own.
/// #[derive(Debug)]
/// struct House;
///
/// impl BeforeIssuing for House {
///     fn rule(&self, intent: Intent) -> Ruled<'_> {
///         Box::pin(async move {
///             let inside = intent.source.ip.is_some_and(|ip| ip.is_loopback());
///             Ok(match intent.occasion {
///                 Occasion::Login if !inside => Ruling::Refuse { reason: "only in the house".to_owned() },
///                 Occasion::Login if intent.subject.as_str().starts_with("editor-") => Ruling::OnClient("editors".parse()?),
///                 Occasion::Login | Occasion::Further { .. } | Occasion::Key { .. } | Occasion::Order(_) => Ruling::Allow,
///             })
///         })
///     }
/// }
/// ```
pub trait BeforeIssuing: Send + Sync + fmt::Debug {
    /// Whether this token may be made, and on which client.
    fn rule(&self, intent: Intent) -> Ruled<'_>;
}

/// What a hook answers, in time.
pub type Ruled<'a> = Pin<Box<dyn Future<Output = Result<Ruling, Box<dyn Error + Send + Sync>>> + Send + 'a>>;

/// A token that is about to be made.
#[derive(Debug, Clone)]
pub struct Intent {
    /// Login token or API key.
    pub kind: Kind,
    /// Whom it shall stand for.
    pub subject: SubjectId,
    /// Their account, where one is kept.
    pub account: Option<Account>,
    /// The client that was named, or the default one.
    pub client: ClientName,
    /// What it shall be called.
    pub name: Option<TokenName>,
    /// What it may do.
    pub abilities: Abilities,
    /// Why it is made.
    pub occasion: Occasion,
    /// Where that comes from.
    pub source: Source,
    /// When.
    pub at: Timestamp,
}

/// Why a token is made.
#[derive(Debug, Clone)]
pub enum Occasion {
    /// A password was right.
    Login,
    /// The holder of a token makes an API key.
    Key {
        /// Who that is.
        maker: Identity,
    },
    /// The holder of a login token gets another one, on a dialect's route.
    Further {
        /// Who that is.
        holder: Identity,
    },
    /// The operator, the host's own code or staff order it.
    Order(By),
}

/// What becomes of a token that is about to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// As it was asked for.
    Allow,
    /// On this client instead, whose own rules are judged as if it had been named: there must be such a client, and for a
    /// login one that people log in on.
    OnClient(ClientName),
    /// Not at all.
    Refuse {
        /// What whoever asks is told, and the audit log. At most [`Ruling::MAX_REASON_CHARS`] characters of it.
        reason: String,
    },
}

impl Ruling {
    /// How much of a reason is told.
    pub const MAX_REASON_CHARS: usize = 200;
}

/// A hook gave no ruling; nothing was issued.
#[derive(Debug)]
pub struct HookFailed(Box<dyn Error + Send + Sync>);

impl HookFailed {
    /// For that cause.
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> HookFailed {
        HookFailed(cause.into())
    }
}

impl fmt::Display for HookFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the hook before issuing gave no ruling")
    }
}

impl Error for HookFailed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}
