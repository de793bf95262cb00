//! What people may do with accounts of their own: [`AccountRules`].

use std::fmt;

use crate::client::Lifetime;
use crate::link::Purpose;
use crate::mail::LetterUrl;
use crate::password_policy::PasswordPolicy;
use crate::redirect::{self, Redirects};
use crate::secret::SecretToken;
use crate::shape::TokenShape;
use crate::throttle::{Period, Rate};

/// What people may do with accounts of their own. The default lets nobody register, and whoever has an account log in,
/// change their password and have a forgotten one replaced by mail, where mail is set up.
#[derive(Debug, Clone)]
pub struct AccountRules {
    /// Who may make an account.
    pub registration: Registering,
    /// Whether somebody who registers gives an address.
    pub email: EmailRule,
    /// Who may log in whose address is not confirmed.
    pub unconfirmed: Unconfirmed,
    /// Which passwords people may choose.
    pub passwords: PasswordPolicy,
    /// How long a link that confirms an address works. 24 h. Longer leaves what nobody confirms lying about.
    pub confirm_within: Lifetime,
    /// How long a link that replaces a password works. 1 h: whoever reads the mail of others may come late.
    pub reset_within: Lifetime,
    /// How long a change of address can be taken back by the old one. 7 days: people are away.
    pub undo_within: Lifetime,
    /// What links look like.
    pub links: Links,
    /// Where the pages behind links may go on to. Nowhere.
    pub redirects: Redirects,
    /// What the site is called, in mails and as a word that no password is made of.
    pub site: String,
    /// How many mails one address is sent on somebody's request. 5/h. Each of them works, so whoever asks for more than that in
    /// somebody else's name keeps nobody from theirs.
    pub mails_per_address: Rate,
    /// How many mails and registrations are asked for from one address of the network. 20/h.
    pub mails_per_source: Rate,
    /// What owners are told unasked.
    pub notices: Notices,
}

/// That many hours.
const fn hours(hours: u64) -> Lifetime {
    match Lifetime::from_seconds(hours * 60 * 60) {
        Ok(lifetime) => lifetime,
        Err(_) => panic!("not a lifetime"),
    }
}

impl Default for AccountRules {
    fn default() -> Self {
        const CONFIRM: Lifetime = hours(24);
        const RESET: Lifetime = hours(1);
        const UNDO: Lifetime = hours(7 * 24);
        AccountRules {
            registration: Registering::Nobody,
            email: EmailRule::Required,
            unconfirmed: Unconfirmed::LogsIn,
            passwords: PasswordPolicy::default(),
            confirm_within: CONFIRM,
            reset_within: RESET,
            undo_within: UNDO,
            links: Links::default(),
            redirects: Redirects::default(),
            site: "counterfoil".to_owned(),
            mails_per_address: Rate::per(5, Period::Hour),
            mails_per_source: Rate::per(20, Period::Hour),
            notices: Notices::default(),
        }
    }
}

/// Who may make an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Registering {
    /// The operator and staff alone.
    #[default]
    Nobody,
    /// Anybody.
    Anybody,
}

/// Whether somebody who registers gives an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EmailRule {
    /// It is not asked for, and refused.
    NotAsked,
    /// It may be given.
    Optional,
    /// It has to be given.
    #[default]
    Required,
}

/// Who may log in whose address is not confirmed. An account without an address is not meant by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unconfirmed {
    /// They may; by name, that is: an address opens nothing before it is confirmed.
    #[default]
    LogsIn,
    /// They may not. Who registers has no account before their address is confirmed.
    Waits,
}

/// What owners are told by mail without having asked; only at an address that is confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notices {
    /// That a login came from a device that had not been seen. On.
    pub new_device: bool,
    /// That an API key will expire, and how long before. Off.
    pub expiring: Option<Lifetime>,
    /// Whether that goes for login tokens too. Off: most people let them expire.
    pub expiring_logins: bool,
}

impl Default for Notices {
    fn default() -> Self {
        Notices { new_device: true, expiring: None, expiring_logins: false }
    }
}

/// What links in mails look like. Nothing that a request says of hosts has a part in it (OWASP, Forgot Password Cheat Sheet).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Links {
    /// What they begin with: where our own pages are, without a slash at the end. `None`: there are none, and what needs one
    /// is not offered.
    pub base: Option<String>,
    /// Where an address is confirmed instead of on our page, with `{token}` in the place of the secret.
    pub confirm: Option<LinkPattern>,
    /// Where a new password is chosen instead of on our page, likewise.
    pub reset: Option<LinkPattern>,
    /// Where somebody looks after their account: what mails without a link of their own lead to. `None`: `base`.
    pub account: Option<String>,
    /// What the secrets of links that confirm an address look like: where a dialect's clients know them by their characters.
    pub shape: TokenShape,
}

impl Links {
    /// The URL for a link that is good for `purpose`; `None` where nothing is known of where pages are.
    pub fn of(&self, purpose: Purpose, secret: &SecretToken) -> Option<LetterUrl> {
        let (pattern, path) = match purpose {
            Purpose::Register | Purpose::Confirm | Purpose::ChangeAddress => (&self.confirm, "email/confirm"),
            Purpose::Reset => (&self.reset, "password/reset"),
            Purpose::UndoChange => (&None, "email/undo"),
        };
        match (pattern, &self.base) {
            (Some(pattern), _) => Some(LetterUrl::new(pattern.with(secret))),
            (None, Some(base)) => Some(LetterUrl::new(format!("{base}/{path}/{}", secret.expose()))),
            (None, None) => None,
        }
    }

    /// Whether there is a page for links that are good for `purpose`.
    pub fn lead(&self, purpose: Purpose) -> bool {
        let own = match purpose {
            Purpose::Register | Purpose::Confirm | Purpose::ChangeAddress => self.confirm.is_some(),
            Purpose::Reset => self.reset.is_some(),
            Purpose::UndoChange => false,
        };
        own || self.base.is_some()
    }

    /// Whether `text` is the URL of a page that mails may lead to: `https://` (`http://` on this machine alone) and a host,
    /// without a name or password before it, in ASCII and as URLs are written.
    pub fn is_page(text: &str) -> bool {
        let plain = text.bytes().all(|byte| matches!(byte, b'!'..=b'~'));
        plain && redirect::strict(text).is_ok_and(|url| redirect::is_safe(&url))
    }

    /// Where somebody asks for a new password.
    pub fn forgot(&self) -> Option<LetterUrl> {
        self.base.as_ref().map(|base| LetterUrl::new(format!("{base}/password/forgot")))
    }

    /// Where somebody looks after their account.
    pub fn account(&self) -> Option<LetterUrl> {
        self.account.as_ref().or(self.base.as_ref()).map(|url| LetterUrl::new(url.clone()))
    }
}

/// A URL with a place for the secret of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkPattern {
    before: String,
    after: String,
}

impl LinkPattern {
    /// What stands in the place of the secret.
    pub const PLACE: &str = "{token}";

    fn with(&self, secret: &SecretToken) -> String {
        format!("{}{}{}", self.before, secret.expose(), self.after)
    }
}

/// The text is no pattern for links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotALinkPattern;

impl fmt::Display for NotALinkPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a link is https:// and a host (http:// on this machine alone) with {token} once in path, query or fragment",
        )
    }
}

impl std::error::Error for NotALinkPattern {}

impl std::str::FromStr for LinkPattern {
    type Err = NotALinkPattern;

    fn from_str(text: &str) -> Result<Self, NotALinkPattern> {
        let (before, after) = text.split_once(Self::PLACE).ok_or(NotALinkPattern)?;
        let is_page = Links::is_page(&format!("{before}token{after}"));
        // Behind the host, or the secret would choose where it is sent.
        let host_ends = before.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
        if host_ends && is_page && !after.contains(Self::PLACE) {
            Ok(LinkPattern { before: before.to_owned(), after: after.to_owned() })
        } else {
            Err(NotALinkPattern)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r17_a_link_begins_with_what_was_configured() {
        let secret = || SecretToken::from_text("cfl_secret");
        let links = Links { base: Some("https://auth.example.org/sso".to_owned()), ..Links::default() };
        let text = |links: &Links, purpose| links.of(purpose, &secret()).map(|url| url.expose().to_owned());
        let base = "https://auth.example.org/sso";
        assert_eq!(text(&links, Purpose::Confirm), Some(format!("{base}/email/confirm/cfl_secret")));
        assert_eq!(text(&links, Purpose::Reset), Some(format!("{base}/password/reset/cfl_secret")));
        assert_eq!(text(&links, Purpose::UndoChange), Some(format!("{base}/email/undo/cfl_secret")));
        let own =
            Links { confirm: Some("https://app.example.org/#confirm={token}".parse().expect("a pattern")), ..links };
        assert_eq!(text(&own, Purpose::Register).as_deref(), Some("https://app.example.org/#confirm=cfl_secret"));
        assert_eq!(text(&Links::default(), Purpose::Reset), None);
    }

    #[test]
    fn a85_a_pattern_that_would_send_a_secret_astray_is_refused() {
        for good in ["https://app.example.org/c?t={token}", "http://localhost:3000/{token}", "http://[::1]/{token}/x"] {
            good.parse::<LinkPattern>().expect(good);
        }
        for bad in [
            "https://app.example.org/c",
            "https://{token}.example.org/",
            "https://app.example.org{token}",
            "https://app.example.org/{token}/{token}",
            "http://app.example.org/{token}",
            "http://localhost.example.org/{token}",
            "https://app@example.org/{token}",
            "https:///{token}",
            "https:///confirm/{token}",
            "https://?/{token}",
            "https://:443/{token}",
            "https://app.example.org:65536/{token}",
            "https://app.example.org:443@evil.example/{token}",
            "https://app.example.org\\@evil.example/{token}",
            "http://localhost:x@evil.example/{token}",
            "https://app.example.org/ {token}",
            "javascript:alert('/{token}')",
            "{token}",
        ] {
            assert_eq!(bad.parse::<LinkPattern>(), Err(NotALinkPattern), "{bad}");
        }
    }
}
