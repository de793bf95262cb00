//! The record of one issued credential: [`Token`], its [`Standing`], and what a request gets of it, [`Identity`].

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::ability::Abilities;
use crate::client::ClientName;
use crate::clock::Timestamp;
use crate::entropy::{Entropy, EntropyError};
use crate::secret::SecretToken;
use crate::subject::{Epochs, SubjectId, SubjectState};

/// The public name of a token, safe to show and to log: a UUIDv7, whose 74 random bits leave no neighbours to guess.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenId(Uuid);

impl TokenId {
    /// A new id, ordered by `now`.
    ///
    /// # Errors
    /// When the source of randomness fails.
    pub fn generate(now: Timestamp, entropy: &dyn Entropy) -> Result<TokenId, EntropyError> {
        uuid_v7(now, entropy).map(TokenId)
    }

    /// Takes in what a store kept.
    pub const fn from_bytes(bytes: [u8; 16]) -> TokenId {
        TokenId(Uuid::from_bytes(bytes))
    }

    /// The bytes a store keeps.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The instant that it begins with, RFC 9562 §5.7: that of issue, for every token that was issued here.
    pub fn issued_at(&self) -> Timestamp {
        let (millis, _) = self.0.as_u64_pair();
        Timestamp::from_millis((millis >> 16).cast_signed())
    }
}

/// RFC 9562 §5.7: 48 bits of milliseconds, the rest random.
pub(crate) fn uuid_v7(now: Timestamp, entropy: &dyn Entropy) -> Result<Uuid, EntropyError> {
    let mut random = [0; 10];
    entropy.fill(&mut random)?;
    Ok(uuid::Builder::from_unix_timestamp_millis(now.millis().unsigned_abs(), &random).into_uuid())
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for TokenId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::from_str(text).map(TokenId)
    }
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A signed-in device, made by logging in; ended by logout-all, caps and a changed password.
    Login,
    /// An API key, made on purpose; ended by its owner or an administrator alone.
    Key,
}

impl Kind {
    /// The word on the wire and in stores.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Login => "login",
            Kind::Key => "key",
        }
    }
}

/// Whether a token is to be accepted, as far as the token itself says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Yes.
    Live,
    /// No: `now >= expires_at` (RFC 7519 §4.1.4 draws the same line: "on or after").
    Expired,
    /// No: revoked by itself or outlived by an epoch.
    Revoked,
}

/// The rule of every path alike; revocation outranks expiry, so that a revoked token never reads as merely old.
pub fn standing(
    revoked_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    stamped: &Epochs,
    current: &Epochs,
    now: Timestamp,
) -> Standing {
    if revoked_at.is_some() || stamped.are_behind(current) {
        Standing::Revoked
    } else if expires_at.is_some_and(|end| now >= end) {
        Standing::Expired
    } else {
        Standing::Live
    }
}

/// The whole record of a token. The secret is not in it; nor is its digest, which never leaves the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Its public name.
    pub id: TokenId,
    /// Its serial in this store, which dialects show and pages are ordered by.
    pub number: u64,
    /// Login token or API key.
    pub kind: Kind,
    /// Whom it stands for.
    pub subject: SubjectId,
    /// The client it was issued on.
    pub client: ClientName,
    /// What its owner calls it.
    pub name: Option<TokenName>,
    /// What it may do.
    pub abilities: Abilities,
    /// The host's own facts about it.
    pub metadata: Metadata,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// The first instant at which it is dead; `None`: never by time.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked by itself.
    pub revoked_at: Option<Timestamp>,
    /// The epochs it was stamped with.
    pub stamped: Epochs,
    /// The epochs as they stood when this record was read.
    pub current: Epochs,
    /// Whether its subject's tokens were accepted when this record was read.
    pub subject_state: SubjectState,
    /// Where it was issued.
    pub first_seen: Sighting,
    /// Where it was last used, up to a minute ago.
    pub last_seen: Option<Sighting>,
}

impl Token {
    /// Whether the token was live at `now`, by the epochs this record was read with.
    pub fn standing(&self, now: Timestamp) -> Standing {
        standing(self.revoked_at, self.expires_at, &self.stamped, &self.current, now)
    }
}

/// A token and its secret, which nobody will see again. What issuing and rotating return.
#[derive(Debug)]
pub struct Issued {
    /// The record.
    pub token: Token,
    /// The text for the client to keep.
    pub secret: SecretToken,
    /// Whether the subject had never had a token before.
    pub first_of_subject: bool,
    /// Whether the token was there already, and others hold the same secret: see [`Reissue::Same`](crate::client::Reissue).
    pub repeated: bool,
}

/// What a request gets of the token that it carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The token's public name.
    pub id: TokenId,
    /// Login token or API key.
    pub kind: Kind,
    /// Whom it stands for.
    pub subject: SubjectId,
    /// The client it was issued on.
    pub client: ClientName,
    /// What it may do.
    pub abilities: Abilities,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// The first instant at which it is dead.
    pub expires_at: Option<Timestamp>,
}

/// What its owner calls a token: 1 to 100 characters; what is longer is cut.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct TokenName(Arc<str>);

impl TokenName {
    /// Longest name kept, in characters.
    pub const MAX_CHARS: usize = 100;

    /// The name in `text` without the white space around it, cut after [`TokenName::MAX_CHARS`] characters; `None` when
    /// nothing is left. Cut rather than refused, because a device name is a courtesy and must not stop a login.
    pub fn cut(text: &str) -> Option<TokenName> {
        let cut = cut_chars(text.trim(), Self::MAX_CHARS).trim_end();
        (!cut.is_empty()).then(|| TokenName(cut.into()))
    }

    /// The text, as its owner wrote it: encode it wherever it is shown.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a client program calls itself: at most 256 characters; what is longer is cut.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct UserAgent(Arc<str>);

impl UserAgent {
    /// Longest agent kept, in characters.
    pub const MAX_CHARS: usize = 256;

    /// The agent in the bytes of a header; what is not UTF-8 becomes U+FFFD. `None` for an empty one.
    pub fn cut(bytes: &[u8]) -> Option<UserAgent> {
        // No character has more than four bytes, so nothing beyond is looked at.
        let bytes = &bytes[..bytes.len().min(4 * Self::MAX_CHARS + 4)];
        let text = String::from_utf8_lossy(bytes);
        let cut = cut_chars(text.trim(), Self::MAX_CHARS);
        (!cut.is_empty()).then(|| UserAgent(cut.into()))
    }

    /// The text, as a stranger wrote it: encode it wherever it is shown.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn cut_chars(text: &str, chars: usize) -> &str {
    if text.len() <= chars {
        return text; // no character is shorter than a byte
    }
    text.char_indices().nth(chars).map_or(text, |(end, _)| &text[..end])
}

/// Where a request came from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Source {
    /// The peer's address, or what a trusted proxy says it is.
    pub ip: Option<IpAddr>,
    /// What the client program calls itself.
    pub user_agent: Option<UserAgent>,
}

/// A token was seen: when, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// When.
    pub at: Timestamp,
    /// From where.
    pub source: Source,
}

/// A host's own facts about a token: a JSON object of at most 4,096 bytes.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Metadata(Map<String, Value>);

impl Metadata {
    /// Longest metadata, in bytes of compact JSON.
    pub const MAX_BYTES: usize = 4096;

    /// Takes in an object.
    ///
    /// # Errors
    /// When its compact JSON is longer than [`Metadata::MAX_BYTES`].
    pub fn new(object: Map<String, Value>) -> Result<Metadata, MetadataTooLong> {
        let metadata = Metadata(object);
        if metadata.to_json().len() <= Self::MAX_BYTES { Ok(metadata) } else { Err(MetadataTooLong) }
    }

    /// The object as compact JSON.
    pub fn to_json(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }

    /// The object.
    pub fn as_object(&self) -> &Map<String, Value> {
        &self.0
    }
}

/// The metadata is longer than [`Metadata::MAX_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetadataTooLong;

impl fmt::Display for MetadataTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "metadata is a JSON object of at most {} bytes", Metadata::MAX_BYTES)
    }
}

impl std::error::Error for MetadataTooLong {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::PredictableEntropy;
    use crate::subject::Epoch;

    #[test]
    fn a18_a_token_is_dead_at_the_very_instant_of_expiry() {
        let end = Timestamp::from_millis(1_000);
        let same = Epochs::default();
        for (now, expected) in [(999, Standing::Live), (1_000, Standing::Expired), (1_001, Standing::Expired)] {
            assert_eq!(standing(None, Some(end), &same, &same, Timestamp::from_millis(now)), expected, "at {now}");
        }
        assert_eq!(standing(None, None, &same, &same, Timestamp::MAX), Standing::Live);
        assert_eq!(standing(None, Some(Timestamp::MIN), &same, &same, Timestamp::MIN), Standing::Expired);
    }

    #[test]
    fn a08_any_newer_epoch_is_enough_and_outranks_expiry() {
        let stamped = Epochs { subject: Epoch(3), client: Epoch(3), deployment: Epoch(3) };
        let now = Timestamp::from_millis(5);
        for current in [
            Epochs { subject: Epoch(4), ..stamped },
            Epochs { client: Epoch(4), ..stamped },
            Epochs { deployment: Epoch(4), ..stamped },
        ] {
            assert_eq!(standing(None, None, &stamped, &current, now), Standing::Revoked);
            assert_eq!(standing(None, Some(Timestamp::MIN), &stamped, &current, now), Standing::Revoked);
        }
        assert_eq!(standing(Some(now), None, &stamped, &stamped, now), Standing::Revoked);
    }

    #[test]
    fn a16_ids_made_in_the_same_millisecond_are_no_neighbours() {
        let entropy = PredictableEntropy::from_seed(1);
        let now = Timestamp::from_millis(1_795_172_400_123);
        let one = TokenId::generate(now, &entropy).expect("entropy");
        let two = TokenId::generate(now, &entropy).expect("entropy");
        let differing: u32 = one.as_bytes().iter().zip(two.as_bytes()).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert!(differing > 15, "{one} {two}");
        assert_eq!(one.to_string().parse::<TokenId>().expect("uuid"), one);
    }

    #[test]
    fn a79_names_and_agents_are_cut_at_a_character() {
        let long = "🦀".repeat(10_000);
        assert_eq!(TokenName::cut(&long).expect("name").as_str().chars().count(), TokenName::MAX_CHARS);
        assert_eq!(UserAgent::cut(long.as_bytes()).expect("agent").as_str().chars().count(), UserAgent::MAX_CHARS);
        assert_eq!(TokenName::cut("  \t\n"), None);
        assert_eq!(UserAgent::cut(b""), None);
        assert_eq!(UserAgent::cut(b"ab\xff").expect("agent").as_str(), "ab\u{fffd}");
        assert_eq!(TokenName::cut("<svg onload=x>").expect("name").as_str(), "<svg onload=x>");
    }
}
