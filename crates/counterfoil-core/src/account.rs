//! A subject we hold a password for: [`Account`], [`Email`].

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use unicode_normalization::UnicodeNormalization;

use crate::clock::Timestamp;
use crate::password::EncodedPassword;
use crate::subject::SubjectId;
use crate::token::Metadata;
use crate::username::{Username, fold};

/// An e-mail address as its owner wrote it: at most 254 bytes, one `@` with something on both sides, no white space,
/// control characters, quotes or brackets. Whether mail arrives there is for a confirmation to find out.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct Email(Arc<str>);

impl Email {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form under which addresses are compared. Providers that tell case apart in the local part are not known to
    /// exist; two accounts with addresses that fold alike simply do not log in by address.
    pub fn folded(&self) -> String {
        self.0.to_lowercase()
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not an e-mail address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnEmail;

impl fmt::Display for NotAnEmail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an e-mail address of the form name@example.org")
    }
}

impl std::error::Error for NotAnEmail {}

impl FromStr for Email {
    type Err = NotAnEmail;

    fn from_str(text: &str) -> Result<Self, NotAnEmail> {
        let forbidden = |c: char| c.is_whitespace() || c.is_control() || r#""(),:;<>[\]"#.contains(c);
        let (local, domain) = text.split_once('@').ok_or(NotAnEmail)?;
        let domain_fits = !domain.is_empty()
            && !domain.contains('@')
            && domain.split('.').all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'));
        if text.len() <= 254 && (1..=64).contains(&local.len()) && domain_fits && !text.contains(forbidden) {
            Ok(Email(text.into()))
        } else {
            Err(NotAnEmail)
        }
    }
}

impl<'de> Deserialize<'de> for Email {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What an account may do beyond its own affairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Role {
    /// Nothing.
    #[default]
    User,
    /// Look after other accounts and their tokens.
    Staff,
    /// Everything staff may, and staff, clients, keys and everybody's epoch as well.
    Admin,
}

impl Role {
    /// The word that stores keep.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Staff => "staff",
            Role::Admin => "admin",
        }
    }

    /// The role of that word.
    pub fn named(word: &str) -> Option<Role> {
        [Role::User, Role::Staff, Role::Admin].into_iter().find(|role| role.as_str() == word)
    }
}

/// A subject we hold a password for. The password is not in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    /// Whom its tokens stand for.
    pub subject: SubjectId,
    /// What its owner types.
    pub username: Username,
    /// Where mail goes.
    pub email: Option<Email>,
    /// When its owner proved to read that mail.
    pub email_confirmed_at: Option<Timestamp>,
    /// Given name.
    pub first_name: String,
    /// Family name.
    pub last_name: String,
    /// The host's own facts about it.
    pub attributes: Metadata,
    /// BCP 47 tag of the language its owner reads.
    pub locale: Option<String>,
    /// Whether it may log in; its tokens are suspended while it may not.
    pub active: bool,
    /// What it may do beyond its own affairs.
    pub role: Role,
    /// When it was made.
    pub created_at: Timestamp,
    /// When a password last opened it.
    pub last_login_at: Option<Timestamp>,
    /// Whether its owner has barred its tokens from changing their secret.
    pub rotation_locked: bool,
}

/// One field of an account that login answers and `me` may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountField {
    /// The subject.
    Id,
    /// See [`Account::username`].
    Username,
    /// See [`Account::email`].
    Email,
    /// Whether the e-mail address is confirmed.
    EmailConfirmed,
    /// See [`Account::first_name`].
    FirstName,
    /// See [`Account::last_name`].
    LastName,
    /// See [`Account::attributes`].
    Attributes,
    /// See [`Account::locale`].
    Locale,
    /// Whether the account is staff or an administrator.
    Staff,
    /// Whether the account is an administrator.
    Admin,
    /// See [`Account::created_at`].
    CreatedAt,
    /// See [`Account::last_login_at`].
    LastLoginAt,
}

impl AccountField {
    /// What an answer carries unless configured otherwise.
    pub const DEFAULT: [AccountField; 6] = [
        AccountField::Id,
        AccountField::Username,
        AccountField::Email,
        AccountField::EmailConfirmed,
        AccountField::FirstName,
        AccountField::LastName,
    ];
}

impl Account {
    /// An active user's, without anything else: for a host that makes one of a row of its own table.
    pub fn named(subject: SubjectId, username: Username, created_at: Timestamp) -> Account {
        Account {
            subject,
            username,
            email: None,
            email_confirmed_at: None,
            first_name: String::new(),
            last_name: String::new(),
            attributes: Metadata::default(),
            locale: None,
            active: true,
            role: Role::User,
            created_at,
            last_login_at: None,
            rotation_locked: false,
        }
    }

    /// Makes one change.
    pub fn apply(&mut self, change: &AccountChange) {
        match change {
            AccountChange::Active(active) => self.active = *active,
            AccountChange::Role(role) => self.role = *role,
            AccountChange::Email(email, confirmed_at) => {
                self.email.clone_from(email);
                self.email_confirmed_at = confirmed_at.filter(|_| email.is_some());
            }
            AccountChange::EmailReplaced { from, email, at } => {
                if self.email == *from {
                    self.email = Some(email.clone());
                    self.email_confirmed_at = Some(*at);
                }
            }
            AccountChange::EmailConfirmed(email, at) => {
                if self.email.as_ref() == Some(email) {
                    self.email_confirmed_at = Some(*at);
                }
            }
            AccountChange::FirstName(name) => self.first_name.clone_from(name),
            AccountChange::LastName(name) => self.last_name.clone_from(name),
            AccountChange::Attributes(attributes) => self.attributes = attributes.clone(),
            AccountChange::Locale(locale) => self.locale.clone_from(locale),
            AccountChange::RotationLocked(locked) => self.rotation_locked = *locked,
            AccountChange::LoggedIn(at) => self.last_login_at = Some(*at),
        }
    }

    /// The account as an answer shows it: `fields` and nothing else.
    pub fn view(&self, fields: &[AccountField]) -> Map<String, Value> {
        let time = |at: Option<Timestamp>| at.map_or(Value::Null, |at| at.to_string().into());
        fields
            .iter()
            .map(|field| {
                let (key, value): (&str, Value) = match field {
                    AccountField::Id => ("id", self.subject.as_str().into()),
                    AccountField::Username => ("username", self.username.as_str().into()),
                    AccountField::Email => ("email", self.email.as_ref().map(Email::as_str).into()),
                    AccountField::EmailConfirmed => ("email_confirmed", self.email_confirmed_at.is_some().into()),
                    AccountField::FirstName => ("first_name", self.first_name.as_str().into()),
                    AccountField::LastName => ("last_name", self.last_name.as_str().into()),
                    AccountField::Attributes => ("attributes", self.attributes.as_object().clone().into()),
                    AccountField::Locale => ("locale", self.locale.as_deref().into()),
                    AccountField::Staff => ("staff", (self.role >= Role::Staff).into()),
                    AccountField::Admin => ("admin", (self.role == Role::Admin).into()),
                    AccountField::CreatedAt => ("created_at", time(Some(self.created_at))),
                    AccountField::LastLoginAt => ("last_login_at", time(self.last_login_at)),
                };
                (key.to_owned(), value)
            })
            .collect()
    }
}

/// An account to be made.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// What its owner types.
    pub username: Username,
    /// Where mail goes.
    pub email: Option<Email>,
    /// Whether the operator vouches for the address, so that it logs in without a confirmation.
    pub email_confirmed: bool,
    /// Given name.
    pub first_name: String,
    /// Family name.
    pub last_name: String,
    /// What it may do beyond its own affairs.
    pub role: Role,
}

impl NewAccount {
    /// An ordinary account of that name and nothing else.
    pub fn named(username: Username) -> NewAccount {
        NewAccount {
            username,
            email: None,
            email_confirmed: false,
            first_name: String::new(),
            last_name: String::new(),
            role: Role::User,
        }
    }
}

/// One change to an account.
#[derive(Debug, Clone, PartialEq)]
pub enum AccountChange {
    /// It may or may not log in. Goes with its subject's state, which [`crate::Authority`] sees to.
    Active(bool),
    /// What it may do.
    Role(Role),
    /// Where mail goes, and since when that is proved.
    Email(Option<Email>, Option<Timestamp>),
    /// Its owner has proved to read the mail of another address; does nothing where it has another one by now than `from`.
    EmailReplaced {
        /// The address that it had when that was judged.
        from: Option<Email>,
        /// The one that it gets.
        email: Email,
        /// When it was proved.
        at: Timestamp,
    },
    /// Its owner has proved to read the mail of this address; does nothing where it is not the account's any more.
    EmailConfirmed(Email, Timestamp),
    /// Given name.
    FirstName(String),
    /// Family name.
    LastName(String),
    /// The host's own facts about it.
    Attributes(Metadata),
    /// The language its owner reads.
    Locale(Option<String>),
    /// Whether its owner bars its tokens from changing their secret.
    RotationLocked(bool),
    /// A password opened it.
    LoggedIn(Timestamp),
}

/// An account with what its password is checked against. Not to be shown, hence without `Serialize`.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The account.
    pub account: Account,
    /// Its encoded password.
    pub password: EncodedPassword,
}

/// What was typed in place of a name: a user name or an e-mail address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginName {
    /// In NFKC.
    pub exact: String,
    /// Folded, for the second and third try.
    pub folded: String,
}

impl LoginName {
    /// Longest text looked up, in bytes.
    pub const MAX_BYTES: usize = 600;

    /// The name in `text`; `None` where no account can have it, because it is empty or too long.
    pub fn new(text: &str) -> Option<LoginName> {
        if text.is_empty() || text.len() > Self::MAX_BYTES {
            return None;
        }
        Some(LoginName { exact: text.nfkc().collect(), folded: fold(text) })
    }

    /// Which of the accounts that the store found is meant: the one of exactly this user name; else the only one whose
    /// user name differs by case alone; else the only one with this confirmed address. More than one is none: two people
    /// are never merged.
    pub fn choose(&self, mut found: Vec<Credentials>) -> Option<Credentials> {
        let position = self.position_in(&found)?;
        Some(found.swap_remove(position))
    }

    fn position_in(&self, found: &[Credentials]) -> Option<usize> {
        let only = |wanted: &dyn Fn(&Account) -> bool| {
            let mut matching = (0..found.len()).filter(|&position| wanted(&found[position].account));
            let first = matching.next()?;
            matching.next().is_none().then_some(first)
        };
        let exactly = |credentials: &Credentials| credentials.account.username.as_str() == self.exact;
        if let Some(position) = found.iter().position(exactly) {
            return Some(position);
        }
        let by_name = |account: &Account| account.username.folded() == self.folded;
        if found.iter().any(|credentials| by_name(&credentials.account)) {
            return only(&by_name);
        }
        only(&|account: &Account| {
            account.email_confirmed_at.is_some()
                && account.email.as_ref().is_some_and(|email| email.folded() == self.folded)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(username: &str, email: Option<(&str, bool)>) -> Credentials {
        Credentials {
            account: Account {
                subject: username.parse().expect("subject"),
                username: username.parse().expect("username"),
                email: email.map(|(text, _)| text.parse().expect("email")),
                email_confirmed_at: email.and_then(|(_, confirmed)| confirmed.then_some(Timestamp::MIN)),
                first_name: String::new(),
                last_name: String::new(),
                attributes: Metadata::default(),
                locale: None,
                active: true,
                role: Role::User,
                created_at: Timestamp::MIN,
                last_login_at: None,
                rotation_locked: false,
            },
            password: EncodedPassword::unusable(),
        }
    }

    fn chosen(text: &str, found: &[Credentials]) -> Option<String> {
        let chosen = LoginName::new(text)?.choose(found.to_vec())?;
        Some(chosen.account.username.as_str().to_owned())
    }

    #[test]
    fn the_exact_name_comes_first_then_case_then_a_confirmed_address() {
        let two = [credentials("Bob", None), credentials("bob", None)];
        assert_eq!(chosen("Bob", &two).as_deref(), Some("Bob"));
        assert_eq!(chosen("bob", &two).as_deref(), Some("bob"));
        assert_eq!(chosen("BOB", &two), None, "two people are never merged");
        assert_eq!(chosen("BOB", &two[..1]).as_deref(), Some("Bob"));
        assert_eq!(chosen("Ｂｏｂ", &two).as_deref(), Some("Bob"), "full-width is a spelling of the same name");

        let by_mail = [credentials("ada", Some(("Ada@Example.org", true)))];
        assert_eq!(chosen("ada@example.org", &by_mail).as_deref(), Some("ada"));
        let unconfirmed = [credentials("ada", Some(("ada@example.org", false)))];
        assert_eq!(chosen("ada@example.org", &unconfirmed), None);
        let shadow = [credentials("eve@example.org", None), credentials("eve", Some(("eve@example.org", true)))];
        assert_eq!(chosen("EVE@example.org", &shadow).as_deref(), Some("eve@example.org"));
        let shared = [credentials("a", Some(("x@example.org", true))), credentials("b", Some(("X@example.org", true)))];
        assert_eq!(chosen("x@example.org", &shared), None);
        assert_eq!(LoginName::new(""), None);
        assert_eq!(LoginName::new(&"x".repeat(601)), None);
    }

    #[test]
    fn addresses_have_one_form() {
        for good in ["a@b", "ada.l+x@mail.example.org", "ä@example.org"] {
            assert!(good.parse::<Email>().is_ok(), "{good}");
        }
        let long = format!("{}@example.org", "x".repeat(65));
        for bad in ["", "@", "a@", "@b", "a@b@c", "a b@c", "a@b\r\nBcc: x", "\"a\"@b", "a@b..c", "a@-b", "<a@b>", &long]
        {
            assert_eq!(bad.parse::<Email>(), Err(NotAnEmail), "{bad:?}");
        }
    }

    #[test]
    fn a17_a_view_holds_the_listed_fields_and_no_other() {
        let account = credentials("ada", None).account;
        let view = Value::Object(account.view(&[AccountField::Username, AccountField::Staff]));
        assert_eq!(view.to_string(), r#"{"staff":false,"username":"ada"}"#);
    }
}
