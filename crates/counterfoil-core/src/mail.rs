//! Mails as values: what is waiting to be sent, [`MailOrder`]; what is handed to a [`Mailer`], [`Letter`].
//!
//! An order says what is to be told to whom. It holds no link: the secret of one is made when its letter is sent, so that
//! whoever reads the queue can use nothing in it. Each attempt makes another one, and using any of them ends them all.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::account::Email;
use crate::client::ClientName;
use crate::clock::Timestamp;
use crate::entropy::{Entropy, EntropyError};
use crate::language::Languages;
use crate::link::Purpose;
use crate::password::EncodedPassword;
use crate::subject::SubjectId;
use crate::token::{Kind, uuid_v7};
use crate::username::Username;

/// What a mail is called in queue and log; the same at each attempt, so that a mail that arrives twice can be told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailId(Uuid);

impl MailId {
    /// A new one.
    ///
    /// # Errors
    /// When the source of randomness fails.
    pub fn generate(now: Timestamp, entropy: &dyn Entropy) -> Result<MailId, EntropyError> {
        uuid_v7(now, entropy).map(MailId)
    }

    /// Takes in what a store kept.
    pub const fn from_bytes(bytes: [u8; 16]) -> MailId {
        MailId(Uuid::from_bytes(bytes))
    }

    /// The bytes a store keeps.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for MailId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for MailId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What a mail tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum MailKind {
    /// Somebody registered with this address: confirm it, and the account is made.
    ConfirmRegistration,
    /// Somebody registered with this address, which has an account already.
    AlreadyRegistered,
    /// An account has this address: confirm it.
    ConfirmAddress,
    /// An account is to have this address instead of another: confirm it.
    ConfirmNewAddress,
    /// To the old address: the account is to have another one.
    AddressChangeAsked {
        /// Which.
        new: Email,
    },
    /// To the old address: the account has another one now.
    AddressChanged {
        /// Which.
        new: Email,
        /// Whether its link takes that back. Of several changes in a row the first old address alone can: else whoever makes
        /// two has one, too.
        can_undo: bool,
    },
    /// To the new address: the account has this one now.
    AddressTaken,
    /// Somebody asked for a new password.
    ResetPassword,
    /// The password was changed.
    PasswordChanged,
    /// A login from a device that was not known.
    NewDevice {
        /// The client that was logged in on.
        client: ClientName,
        /// What the client program calls itself. Text of a stranger.
        user_agent: Option<String>,
        /// Where from.
        ip: Option<IpAddr>,
    },
    /// A token will soon be dead.
    TokenExpiring {
        /// Login token or API key.
        token_kind: Kind,
        /// What its owner calls it. Text of its owner's.
        name: Option<String>,
        /// The client it was issued on.
        client: ClientName,
        /// When it will be.
        expires_at: Timestamp,
    },
    /// The operator wants to see whether mail arrives.
    Test,
}

impl MailKind {
    /// The word for it, which is the name of its template as well.
    pub const fn name(&self) -> &'static str {
        match self {
            MailKind::ConfirmRegistration => "confirm_registration",
            MailKind::AlreadyRegistered => "already_registered",
            MailKind::ConfirmAddress => "confirm_address",
            MailKind::ConfirmNewAddress => "confirm_new_address",
            MailKind::AddressChangeAsked { .. } => "address_change_asked",
            MailKind::AddressChanged { .. } => "address_changed",
            MailKind::AddressTaken => "address_taken",
            MailKind::ResetPassword => "reset_password",
            MailKind::PasswordChanged => "password_changed",
            MailKind::NewDevice { .. } => "new_device",
            MailKind::TokenExpiring { .. } => "token_expiring",
            MailKind::Test => "test",
        }
    }

    /// Every word that [`MailKind::name`] gives: what there has to be a template for.
    pub const NAMES: [&str; 12] = [
        "confirm_registration",
        "already_registered",
        "confirm_address",
        "confirm_new_address",
        "address_change_asked",
        "address_changed",
        "address_taken",
        "reset_password",
        "password_changed",
        "new_device",
        "token_expiring",
        "test",
    ];

    /// What the link in it is good for, if there is one. A notice that its reader may not have expected carries the way to act:
    /// a new password, which signs out every device.
    pub const fn purpose(&self) -> Option<Purpose> {
        match self {
            MailKind::ConfirmRegistration => Some(Purpose::Register),
            MailKind::ConfirmAddress => Some(Purpose::Confirm),
            MailKind::ConfirmNewAddress => Some(Purpose::ChangeAddress),
            MailKind::AddressChanged { can_undo: true, .. } => Some(Purpose::UndoChange),
            MailKind::ResetPassword
            | MailKind::PasswordChanged
            | MailKind::AddressChangeAsked { .. }
            | MailKind::NewDevice { .. } => Some(Purpose::Reset),
            MailKind::AddressChanged { can_undo: false, .. }
            | MailKind::AlreadyRegistered
            | MailKind::AddressTaken
            | MailKind::TokenExpiring { .. }
            | MailKind::Test => None,
        }
    }
}

impl MailKind {
    /// The purpose whose links end this mail with them while it waits. A notice stays: that something happened is told in any
    /// case, and the link in it is made when it is sent.
    pub const fn ends_with(&self) -> Option<Purpose> {
        match self {
            MailKind::PasswordChanged | MailKind::AddressChangeAsked { .. } | MailKind::NewDevice { .. } => None,
            MailKind::ConfirmRegistration
            | MailKind::AlreadyRegistered
            | MailKind::ConfirmAddress
            | MailKind::ConfirmNewAddress
            | MailKind::AddressChanged { .. }
            | MailKind::AddressTaken
            | MailKind::ResetPassword
            | MailKind::TokenExpiring { .. }
            | MailKind::Test => self.purpose(),
        }
    }
}

/// A mail that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailOrder {
    /// What it is called.
    pub id: MailId,
    /// What it tells.
    pub kind: MailKind,
    /// Whose account, or whose registration, it is about. It is looked up again before it is sent; where it is gone, or has
    /// another address, nothing is sent.
    pub subject: SubjectId,
    /// Where it goes.
    pub to: Email,
    /// What its reader reads.
    pub languages: Languages,
    /// Where the page behind its link goes on to.
    pub next: Option<String>,
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// The first instant at which it is of no use any more, and neither is its link.
    pub expires_at: Timestamp,
}

/// A mail in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// What is to be sent.
    pub order: MailOrder,
    /// How often that was begun.
    pub tries: u32,
    /// Not before this instant again.
    pub next_try_at: Timestamp,
    /// What went wrong last, in one line.
    pub last_error: Option<String>,
}

impl Waiting {
    /// How long after a failed attempt the next one is made: half a minute, and twice as long each time, up to half an hour.
    pub fn delay_millis(tries: u32) -> u64 {
        const FIRST: u64 = 30_000;
        const LONGEST: u64 = 30 * 60_000;
        LONGEST.min(FIRST << tries.saturating_sub(1).min(10))
    }
}

/// Somebody who wants an account, and has yet to prove their address.
#[derive(Debug, Clone)]
pub struct Registration {
    /// What the account will be called in the store.
    pub subject: SubjectId,
    /// What its owner wants to type.
    pub username: Username,
    /// The address to be proved.
    pub email: Email,
    /// What its password is checked against.
    pub password: EncodedPassword,
    /// Given name.
    pub first_name: String,
    /// Family name.
    pub last_name: String,
    /// BCP 47 tag of the language its owner reads.
    pub locale: Option<String>,
    /// When it is forgotten unless it was proved.
    pub expires_at: Timestamp,
}

/// One mail, for whoever writes and sends it. It may hold a link with a secret: not to be logged, hence a `Debug` without it.
pub struct Letter {
    /// What it is called; the same at each attempt.
    pub id: MailId,
    /// What it tells.
    pub kind: MailKind,
    /// Where it goes.
    pub to: Email,
    /// Whom it addresses; `None` for a test.
    pub username: Option<Username>,
    /// What its reader reads.
    pub languages: Languages,
    /// The link it is about, or the page where its reader can act.
    pub url: Option<LetterUrl>,
    /// What the site is called.
    pub site: String,
    /// When what it tells of happened or was asked for.
    pub at: Timestamp,
    /// Until when its link works.
    pub expires_at: Timestamp,
}

impl fmt::Debug for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Letter").field("id", &self.id).field("kind", &self.kind.name()).finish_non_exhaustive()
    }
}

/// The URL in a letter. Wiped when dropped; [`LetterUrl::expose`] is the one way to its text.
pub struct LetterUrl(Zeroizing<String>);

impl LetterUrl {
    /// Takes in a finished URL.
    pub fn new(url: String) -> LetterUrl {
        LetterUrl(Zeroizing::new(url))
    }

    /// The text, for the one mail that it goes into.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for LetterUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LetterUrl")
    }
}

/// Writes and sends letters: see the crate `counterfoil` for one with templates and SMTP, or send them by the service that
/// you send everything else by.
///
/// It is called in the background, several times at once, and never while a request waits. It has to give up by itself within
/// a minute. The same letter may come twice, where a process ended before it could note that it was sent.
pub trait Mailer: Send + Sync + fmt::Debug {
    /// Sends it.
    fn send(&self, letter: Letter) -> Sending<'_>;
}

/// What becomes of a letter, in time.
pub type Sending<'a> = Pin<Box<dyn Future<Output = Result<(), NotSent>> + Send + 'a>>;

/// Why a letter was not sent. What is said here is shown to the operator and kept in the queue: it must not hold the letter.
#[derive(Debug)]
pub enum NotSent {
    /// It may go better later: the server is away, or says so (SMTP 4xx).
    Later(Box<dyn Error + Send + Sync>),
    /// It never will: the address is refused (SMTP 5xx), or the letter cannot be written.
    Never(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotSent::Later(_) => f.write_str("the mail was not sent and will be tried again"),
            NotSent::Never(_) => f.write_str("the mail cannot be sent"),
        }
    }
}

impl Error for NotSent {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            NotSent::Later(error) | NotSent::Never(error) => Some(error.as_ref()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_from_half_a_minute_to_half_an_hour() {
        let delays: Vec<u64> = (1..=9).map(|tries| Waiting::delay_millis(tries) / 1_000).collect();
        assert_eq!(delays, [30, 60, 120, 240, 480, 960, 1_800, 1_800, 1_800]);
        assert_eq!(Waiting::delay_millis(u32::MAX), 1_800_000);
    }

    #[test]
    fn the_name_of_a_kind_is_the_word_that_the_store_keeps() {
        let kinds = [
            MailKind::ConfirmRegistration,
            MailKind::AlreadyRegistered,
            MailKind::ConfirmAddress,
            MailKind::ConfirmNewAddress,
            MailKind::AddressChangeAsked { new: "new@example.org".parse().expect("an address") },
            MailKind::AddressChanged { new: "new@example.org".parse().expect("an address"), can_undo: true },
            MailKind::AddressTaken,
            MailKind::ResetPassword,
            MailKind::PasswordChanged,
            MailKind::NewDevice { client: ClientName::default_client(), user_agent: None, ip: None },
            MailKind::TokenExpiring {
                token_kind: Kind::Key,
                name: Some("ci".to_owned()),
                client: ClientName::default_client(),
                expires_at: Timestamp::from_millis(1_795_172_400_000),
            },
            MailKind::Test,
        ];
        assert_eq!(kinds.each_ref().map(MailKind::name), MailKind::NAMES);
        for kind in kinds {
            let kept = serde_json::to_string(&kind).expect("JSON");
            assert!(kept.starts_with(&format!("{{\"kind\":\"{}\"", kind.name())), "{kept}");
            assert_eq!(serde_json::from_str::<MailKind>(&kept).expect(&kept), kind);
        }
    }
}
