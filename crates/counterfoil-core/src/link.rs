//! What a mailed link is good for: [`Link`].

use serde::{Deserialize, Serialize};

use crate::account::Email;
use crate::clock::Timestamp;
use crate::secret::TokenDigest;
use crate::subject::SubjectId;

/// A single-use proof that somebody reads the mail of an address. Its text is in the mail and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// What is kept of its secret.
    pub digest: TokenDigest,
    /// The one thing that it is good for.
    pub purpose: Purpose,
    /// Whose account, or whose registration.
    pub subject: SubjectId,
    /// The address that it was mailed to.
    pub email: Email,
    /// Where the page goes on to once it has been used.
    pub next: Option<String>,
    /// The first instant at which it is dead.
    pub expires_at: Timestamp,
}

/// The one thing that a link is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Making the account of a registration.
    Register,
    /// Confirming the address that an account has.
    Confirm,
    /// Giving an account another address.
    ChangeAddress,
    /// Taking back that an account was given another address.
    UndoChange,
    /// Choosing a new password.
    Reset,
}

impl Purpose {
    /// Each of them.
    pub const ALL: [Purpose; 5] =
        [Purpose::Register, Purpose::Confirm, Purpose::ChangeAddress, Purpose::UndoChange, Purpose::Reset];

    /// The word that stores keep.
    pub const fn as_str(self) -> &'static str {
        match self {
            Purpose::Register => "register",
            Purpose::Confirm => "confirm",
            Purpose::ChangeAddress => "change_address",
            Purpose::UndoChange => "undo_change",
            Purpose::Reset => "reset",
        }
    }

    /// The purpose of that word.
    pub fn named(word: &str) -> Option<Purpose> {
        Purpose::ALL.into_iter().find(|purpose| purpose.as_str() == word)
    }
}
