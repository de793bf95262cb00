//! What a person types to log in: [`Username`].

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;
use unicode_normalization::UnicodeNormalization;

/// What a person types to log in: 1 to 150 characters in Unicode's NFKC, no control characters, no white space at the
/// ends.
///
/// Full-width and other compatibility forms are one name (RFC 8265 §3.3 does the same); case is kept, and two names that
/// differ by case alone cannot both be registered here, though an import keeps what it finds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Username(Arc<str>);

impl Username {
    /// Longest name, in characters.
    pub const MAX_CHARS: usize = 150;

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form under which names that differ by case are one.
    pub fn folded(&self) -> String {
        fold(&self.0)
    }
}

/// NFKC, lower case, NFKC again: lowering can make text that is no longer normal.
pub(crate) fn fold(text: &str) -> String {
    text.nfkc().collect::<String>().to_lowercase().nfkc().collect()
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// The text is not a user name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAUsername;

impl fmt::Display for NotAUsername {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a user name is 1 to 150 characters without control characters or white space at the ends")
    }
}

impl std::error::Error for NotAUsername {}

impl FromStr for Username {
    type Err = NotAUsername;

    fn from_str(text: &str) -> Result<Self, NotAUsername> {
        // Cut off before normalising: one character can become eighteen.
        if text.len() > 4 * Self::MAX_CHARS {
            return Err(NotAUsername);
        }
        let normal: String = text.nfkc().collect();
        let fits = (1..=Self::MAX_CHARS).contains(&normal.chars().count());
        if fits && normal.trim() == normal && !normal.chars().any(char::is_control) {
            Ok(Username(normal.into()))
        } else {
            Err(NotAUsername)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a79_hostile_names_are_text_or_refused() {
        for good in ["ada", "<svg onload=x>", "javascript:alert(1)", "عائشة", "a b", "O'Hara", "100%", "_"] {
            assert_eq!(good.parse::<Username>().expect(good).as_str(), good);
        }
        let long = "x".repeat(10_000);
        for bad in [
            "",
            " ada",
            "ada ",
            "a\nb",
            "a\u{0}b",
            "a\u{1b}[31m",
            &long,
            "\u{fdfa}\u{fdfa}\u{fdfa}\u{fdfa}\u{fdfa}\u{fdfa}\u{fdfa}\u{fdfa}\u{fdfa}",
        ] {
            assert_eq!(bad.parse::<Username>(), Err(NotAUsername), "{bad:?}");
        }
    }
}
