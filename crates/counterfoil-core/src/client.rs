//! A registered application and its rules: [`Client`], [`Policy`].

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::entropy::{Entropy, EntropyError};
use crate::secret::Prefix;
use crate::subject::Epoch;
use crate::throttle::Rate;
use crate::token::{Kind, Metadata};

/// The name of a client in the store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ClientId(Uuid);

impl ClientId {
    /// A new id.
    ///
    /// # Errors
    /// When the source of randomness fails.
    pub fn generate(now: Timestamp, entropy: &dyn Entropy) -> Result<ClientId, EntropyError> {
        crate::token::uuid_v7(now, entropy).map(ClientId)
    }

    /// Takes in what a store kept.
    pub const fn from_bytes(bytes: [u8; 16]) -> ClientId {
        ClientId(Uuid::from_bytes(bytes))
    }

    /// The bytes a store keeps.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for ClientId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::from_str(text).map(ClientId)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What people call a client: 1 to 64 characters, none of them a control character or white space at an end.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ClientName(Arc<str>);

impl ClientName {
    /// The client that is there from the start, used when a login names none.
    pub fn default_client() -> ClientName {
        ClientName("default".into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// The text is not the name of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAClientName;

impl fmt::Display for NotAClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a client's name is 1 to 64 characters without control characters or white space at the ends")
    }
}

impl std::error::Error for NotAClientName {}

impl FromStr for ClientName {
    type Err = NotAClientName;

    fn from_str(text: &str) -> Result<Self, NotAClientName> {
        let fits = text.len() <= 4 * 64 && (1..=64).contains(&text.chars().count());
        if fits && text.trim() == text && !text.chars().any(char::is_control) {
            Ok(ClientName(text.into()))
        } else {
            Err(NotAClientName)
        }
    }
}

/// A length of time as people write it: `30d`, `12h`, `10m`, `45s`. Between one second and 36,500 days, so that a zero never
/// makes tokens that are dead at birth and no addition overflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lifetime(u64);

impl Lifetime {
    /// 30 days, the default time to live.
    pub const DEFAULT: Lifetime = Lifetime(30 * 86_400);
    const MAX_SECONDS: u64 = 36_500 * 86_400;

    /// So many seconds.
    ///
    /// # Errors
    /// When it is 0 or more than 36,500 days.
    pub const fn from_seconds(seconds: u64) -> Result<Lifetime, NotALifetime> {
        if seconds >= 1 && seconds <= Self::MAX_SECONDS { Ok(Lifetime(seconds)) } else { Err(NotALifetime) }
    }

    /// The length in seconds.
    pub const fn seconds(self) -> u64 {
        self.0
    }

    /// The length in milliseconds.
    pub const fn millis(self) -> u64 {
        self.0 * 1_000
    }
}

/// The text is not a length of time within the bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotALifetime;

impl fmt::Display for NotALifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a time from 1s to 36500d, a whole number followed by s, m, h, d or w: \"30d\"")
    }
}

impl std::error::Error for NotALifetime {}

impl FromStr for Lifetime {
    type Err = NotALifetime;

    fn from_str(text: &str) -> Result<Self, NotALifetime> {
        let unit = text.chars().next_back().ok_or(NotALifetime)?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 7 * 86_400,
            _ => return Err(NotALifetime),
        };
        let number = &text[..text.len() - 1];
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NotALifetime);
        }
        let number: u64 = number.parse().map_err(|_| NotALifetime)?;
        Lifetime::from_seconds(number.checked_mul(seconds).ok_or(NotALifetime)?)
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = match self.0 {
            seconds if seconds % 86_400 == 0 => (seconds / 86_400, 'd'),
            seconds if seconds % 3_600 == 0 => (seconds / 3_600, 'h'),
            seconds if seconds % 60 == 0 => (seconds / 60, 'm'),
            seconds => (seconds, 's'),
        };
        write!(f, "{number}{unit}")
    }
}

impl Serialize for Lifetime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ClientName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Lifetime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// When a login token's expiry moves on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Renewal {
    /// Never: it lives for `ttl` and no longer.
    Never,
    /// When its client asks.
    OnRequest,
    /// By being used, and when its client asks.
    OnUse {
        /// No more often than this; at least 10 s, so that a busy token does not mean a busy disk.
        at_most_every: Lifetime,
    },
}

/// How many live login tokens one subject may have on a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cap {
    /// The most there may be.
    pub limit: NonZeroU32,
    /// What happens to the one beyond.
    pub at_cap: AtCap,
}

/// What a login does that would go beyond the cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AtCap {
    /// It is refused.
    #[default]
    Refuse,
    /// It revokes the subject's oldest tokens on this client.
    EvictOldest,
}

/// What a second login of the same subject on a client gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reissue {
    /// One more token.
    #[default]
    New,
    /// A new token; the earlier ones on this client are revoked.
    Replace,
    /// The same secret again, kept sealed; needs a key ring.
    Same,
}

/// The rules that a client's tokens live by. Changing them bears on tokens issued from then on, and on every renewal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// How long a token lives from issue or renewal; `None`: until it is revoked.
    pub ttl: Option<Lifetime>,
    /// How long after issue no renewal reaches; `None`: no such end.
    pub max_lifetime: Option<Lifetime>,
    /// When expiry moves on.
    pub renewal: Renewal,
    /// How many live login tokens one subject may have here; `None`: any number.
    pub cap: Option<Cap>,
    /// What a second login gives.
    pub reissue: Reissue,
    /// How often one subject may be authenticated here; `None`: any number of times.
    pub throttle: Option<Rate>,
    /// What the texts of its tokens start with.
    pub prefix: Prefix,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            ttl: Some(Lifetime::DEFAULT),
            max_lifetime: None,
            renewal: Renewal::OnRequest,
            cap: None,
            reissue: Reissue::New,
            throttle: None,
            prefix: Prefix::default(),
        }
    }
}

/// Why a policy makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyConflict {
    /// A token would be dead before its first renewal.
    MaxLifetimeBelowTtl,
    /// Nothing to renew.
    RenewalWithoutTtl,
    /// More than one write per 10 s and token.
    RenewalTooOften,
    /// It would be renewed by every request.
    TtlTooShortToSlide,
    /// One secret for ever and a cap on how many: one of them is idle.
    CapWithSame,
}

impl fmt::Display for PolicyConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PolicyConflict::MaxLifetimeBelowTtl => "max_lifetime must not be shorter than ttl",
            PolicyConflict::RenewalWithoutTtl => "renewal on use needs a ttl to renew",
            PolicyConflict::RenewalTooOften => "renewal on use happens at most every 10s or more",
            PolicyConflict::TtlTooShortToSlide => "renewal on use needs a ttl 5s longer than how often it happens",
            PolicyConflict::CapWithSame => "reissue same keeps one token for each subject; leave out the cap",
        })
    }
}

impl std::error::Error for PolicyConflict {}

impl Policy {
    /// Whether its parts go together.
    ///
    /// # Errors
    /// The first conflict found.
    pub fn check(&self) -> Result<(), PolicyConflict> {
        if let (Some(max), Some(ttl)) = (self.max_lifetime, self.ttl)
            && max < ttl
        {
            return Err(PolicyConflict::MaxLifetimeBelowTtl);
        }
        if let Renewal::OnUse { at_most_every } = self.renewal {
            let Some(ttl) = self.ttl else { return Err(PolicyConflict::RenewalWithoutTtl) };
            // A token in its last five seconds is renewed at once; that must not be all of its life.
            if ttl.seconds() < at_most_every.seconds() + 5 {
                return Err(PolicyConflict::TtlTooShortToSlide);
            }
            if at_most_every.seconds() < 10 {
                return Err(PolicyConflict::RenewalTooOften);
            }
        }
        if self.reissue == Reissue::Same && self.cap.is_some() {
            return Err(PolicyConflict::CapWithSame);
        }
        Ok(())
    }

    /// When a token issued at `issued_at` dies if it is issued or renewed at `now`; `None`: never by time.
    pub fn expiry(&self, issued_at: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let by_ttl = self.ttl.map(|ttl| now.plus_millis(ttl.millis()));
        let by_max = self.max_lifetime.map(|max| issued_at.plus_millis(max.millis()));
        match (by_ttl, by_max) {
            (Some(ttl), Some(max)) => Some(ttl.min(max)),
            (ttl, max) => ttl.or(max),
        }
    }

    /// Where the expiry of a login token slides to by being used at `now`, if this policy slides it and the last time is
    /// long enough ago.
    pub fn slides_to(
        &self,
        kind: Kind,
        issued_at: Timestamp,
        expires_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let Renewal::OnUse { at_most_every } = self.renewal else { return None };
        let end = expires_at?;
        if kind != Kind::Login {
            return None;
        }
        let until = self.expiry(issued_at, now)?;
        let gained = until.millis_since(end);
        let ends_soon = gained > 0 && end.millis_since(now) < RENEW_AT_ONCE_MILLIS;
        (gained >= at_most_every.millis() || ends_soon).then_some(until)
    }
}

/// A sliding renewal that would otherwise wait for the next flush is written at once when the token has less than this
/// left, so that a token in use never dies between a yes and its flush.
pub(crate) const RENEW_AT_ONCE_MILLIS: u64 = 5_000;

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A registered application.
#[derive(Debug, Clone, PartialEq)]
pub struct Client {
    /// Its name in the store.
    pub id: ClientId,
    /// What people call it.
    pub name: ClientName,
    /// The rules of its tokens.
    pub policy: Policy,
    /// Whether anyone may log in on it; if not, its tokens are issued by the operator or the host alone.
    pub allow_login: bool,
    /// The host's own facts about it.
    pub metadata: Metadata,
    /// Stamped on its tokens.
    pub epoch: Epoch,
    /// Grows with every change to this record, so that a transition can restate what it was judged by.
    pub version: u64,
    /// When it was made.
    pub created_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn life(text: &str) -> Lifetime {
        text.parse().expect("lifetime")
    }

    #[test]
    fn lifetimes_read_back_in_their_largest_whole_unit() {
        for (text, seconds, shown) in [
            ("1s", 1, "1s"),
            ("90s", 90, "90s"),
            ("60m", 3_600, "1h"),
            ("30d", 2_592_000, "30d"),
            ("2w", 1_209_600, "14d"),
        ] {
            assert_eq!(life(text).seconds(), seconds);
            assert_eq!(life(text).to_string(), shown);
        }
    }

    #[test]
    fn a18_lifetimes_of_zero_below_zero_or_beyond_the_calendar_are_refused() {
        let beyond = [
            "0s",
            "0d",
            "-1s",
            "36501d",
            "9223372036854775807s",
            "1000000000000000000s",
            "18446744073709551616d",
            "",
            "s",
            "1",
            "1.5h",
            "+1s",
            " 1s",
            "1 s",
            "1y",
            "١s",
            "1д",
        ];
        for text in beyond {
            assert_eq!(text.parse::<Lifetime>(), Err(NotALifetime), "{text}");
        }
    }

    #[test]
    fn a_policy_whose_parts_conflict_is_refused() {
        let on_use = |every| Renewal::OnUse { at_most_every: life(every) };
        let fine = Policy::default();
        assert_eq!(fine.check(), Ok(()));
        for (policy, conflict) in [
            (Policy { max_lifetime: Some(life("1d")), ..fine.clone() }, PolicyConflict::MaxLifetimeBelowTtl),
            (Policy { ttl: None, renewal: on_use("1m"), ..fine.clone() }, PolicyConflict::RenewalWithoutTtl),
            (Policy { renewal: on_use("9s"), ..fine.clone() }, PolicyConflict::RenewalTooOften),
            (
                Policy { ttl: Some(life("14s")), renewal: on_use("10s"), ..fine.clone() },
                PolicyConflict::TtlTooShortToSlide,
            ),
        ] {
            assert_eq!(policy.check(), Err(conflict));
        }
        assert_eq!(Policy { renewal: on_use("10s"), max_lifetime: Some(life("30d")), ..fine }.check(), Ok(()));
    }

    #[test]
    fn r06_renewal_never_passes_the_absolute_end() {
        let policy = Policy { ttl: Some(life("10s")), max_lifetime: Some(life("25s")), ..Policy::default() };
        let issued = Timestamp::from_millis(1_000);
        for (now, end) in [(1_000, 11_000), (15_999, 25_999), (16_000, 26_000), (16_001, 26_000), (25_999, 26_000)] {
            assert_eq!(
                policy.expiry(issued, Timestamp::from_millis(now)),
                Some(Timestamp::from_millis(end)),
                "at {now}"
            );
        }
        let forever = Policy { ttl: None, ..Policy::default() };
        assert_eq!(forever.expiry(issued, issued), None);
        let ending = Policy { ttl: None, max_lifetime: Some(life("25s")), ..Policy::default() };
        assert_eq!(ending.expiry(issued, Timestamp::from_millis(9_000)), Some(Timestamp::from_millis(26_000)));
    }

    #[test]
    fn a_policy_is_kept_as_json_that_people_can_read() {
        let policy = Policy {
            renewal: Renewal::OnUse { at_most_every: life("1m") },
            cap: Some(Cap { limit: NonZeroU32::MIN, at_cap: AtCap::EvictOldest }),
            throttle: Some("100/h".parse().expect("rate")),
            ..Policy::default()
        };
        let json = serde_json::to_string(&policy).expect("json");
        assert_eq!(
            json,
            r#"{"ttl":"30d","max_lifetime":null,"renewal":{"on_use":{"at_most_every":"1m"}},"cap":{"limit":1,"at_cap":"evict_oldest"},"reissue":"new","throttle":"100/h","prefix":"cf_"}"#
        );
        assert_eq!(serde_json::from_str::<Policy>(&json).expect("policy"), policy);
        assert!(serde_json::from_str::<Policy>(r#"{"tll":"30d"}"#).is_err(), "unknown keys are errors");
    }

    #[test]
    fn client_names_are_short_and_printable() {
        assert!("x".repeat(64).parse::<ClientName>().is_ok());
        for bad in ["", " web", "web ", "a\nb", "a\u{0}b", &"x".repeat(65)] {
            assert_eq!(bad.parse::<ClientName>(), Err(NotAClientName), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn expiry_never_precedes_issue_nor_overflows(
            issued in 0_i64..=253_402_207_199_999,
            later in 0_u64..=u64::MAX,
            ttl in prop::option::of(1_u64..=3_153_600_000),
            max in prop::option::of(1_u64..=3_153_600_000),
        ) {
            let lifetime = |seconds: u64| Lifetime::from_seconds(seconds).expect("in range");
            let policy = Policy { ttl: ttl.map(lifetime), max_lifetime: max.map(lifetime), ..Policy::default() };
            let issued = Timestamp::from_millis(issued);
            let now = issued.plus_millis(later);
            if let Some(end) = policy.expiry(issued, now) {
                prop_assert!(end > issued || end == Timestamp::MAX);
                if let Some(max) = policy.max_lifetime {
                    prop_assert!(end <= issued.plus_millis(max.millis()));
                }
            } else {
                prop_assert!(ttl.is_none() && max.is_none());
            }
        }
    }
}
