//! Whom a token stands for: [`Subject`], and the [`Epoch`]s that end many tokens by changing one row.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

/// The name of a subject: an opaque text of 1 to 64 bytes without control characters. Ours are UUIDs; a host with its own
/// users uses its own ids.
///
/// It holds its text itself, so that a token that is found in the cache is answered without an allocation and without a
/// count that every core writes to.
#[derive(Clone, PartialEq, Eq)]
pub struct SubjectId {
    /// The text, and zeros behind it.
    bytes: [u8; SubjectId::MAX_BYTES],
    length: u8,
}

impl SubjectId {
    /// Longest name, in bytes.
    pub const MAX_BYTES: usize = 64;

    /// The text.
    pub fn as_str(&self) -> &str {
        // Made of a text, so it is one; the check that it is costs a few nanoseconds.
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }

    /// The text in words, zeros behind it, and its length in bytes.
    pub(crate) fn to_words(&self) -> ([u64; Self::MAX_BYTES / 8], usize) {
        let (words, _) = self.bytes.as_chunks::<8>();
        (std::array::from_fn(|word| u64::from_le_bytes(words[word])), self.length.into())
    }

    /// The other way round.
    pub(crate) fn from_words(words: [u64; Self::MAX_BYTES / 8], length: usize) -> SubjectId {
        let mut bytes = [0; Self::MAX_BYTES];
        for (bytes, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
        SubjectId { bytes, length: length.min(Self::MAX_BYTES) as u8 }
    }
}

impl PartialOrd for SubjectId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SubjectId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for SubjectId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Serialize for SubjectId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Display for SubjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SubjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// The text is not the name of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotASubject;

impl fmt::Display for NotASubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a subject is 1 to 64 bytes without control characters")
    }
}

impl std::error::Error for NotASubject {}

impl FromStr for SubjectId {
    type Err = NotASubject;

    fn from_str(text: &str) -> Result<Self, NotASubject> {
        if !(1..=Self::MAX_BYTES).contains(&text.len()) || text.chars().any(char::is_control) {
            return Err(NotASubject);
        }
        let mut bytes = [0; Self::MAX_BYTES];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Ok(SubjectId { bytes, length: text.len() as u8 })
    }
}

impl<'de> Deserialize<'de> for SubjectId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A counter that tokens are stamped with when issued. A token with an older stamp than the current one is dead, so that
/// one changed row ends any number of tokens at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u64);

/// The three epochs that bear on a token: as stamped at issue, or as they stand now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Epochs {
    /// Of the subject: its `epoch` for login tokens, its `key_epoch` for API keys.
    pub subject: Epoch,
    /// Of the client.
    pub client: Epoch,
    /// Of everybody.
    pub deployment: Epoch,
}

impl Epochs {
    /// Whether a token stamped with `self` has outlived one of the `current` epochs.
    pub fn are_behind(&self, current: &Epochs) -> bool {
        self.subject < current.subject || self.client < current.client || self.deployment < current.deployment
    }
}

/// What may become of a subject's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SubjectState {
    /// They live their own lives.
    Active,
    /// All are refused until the subject is enabled again.
    Disabled,
    /// All are dead, and the name is never used again.
    Buried,
}

impl SubjectState {
    /// The word that stores keep.
    pub const fn as_str(self) -> &'static str {
        match self {
            SubjectState::Active => "active",
            SubjectState::Disabled => "disabled",
            SubjectState::Buried => "buried",
        }
    }

    /// The state of that word.
    pub fn named(word: &str) -> Option<SubjectState> {
        [SubjectState::Active, SubjectState::Disabled, SubjectState::Buried]
            .into_iter()
            .find(|state| state.as_str() == word)
    }
}

/// A subject as the token store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Its name.
    pub id: SubjectId,
    /// Whether its tokens are accepted.
    pub state: SubjectState,
    /// Stamped on login tokens: bumped by logout-all and by a changed password.
    pub epoch: Epoch,
    /// Stamped on API keys, which those two leave alone unless asked.
    pub key_epoch: Epoch,
}
