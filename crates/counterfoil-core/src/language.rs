//! Which languages somebody reads: [`Languages`].

use std::fmt;

use serde::{Deserialize, Serialize};

/// The languages that somebody reads, the preferred one first, as BCP 47 tags in lower case. Whatever a stranger sends as
/// `Accept-Language` becomes at most eight short tags.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Vec<String>", into = "Vec<String>")]
pub struct Languages(Vec<String>);

impl Languages {
    /// How many are kept.
    pub const MOST: usize = 8;
    /// Longest tag, in bytes: RFC 5646 §4.4.1 asks for at least 35.
    pub const MAX_BYTES: usize = 35;

    /// What the account says, then what the request says (`Accept-Language`, RFC 9110 §12.5.4). What is no tag is left out,
    /// and so is what is wanted with a weight of 0.
    pub fn of(locale: Option<&str>, accept: Option<&str>) -> Languages {
        let mut weighted: Vec<(u16, &str)> = accept
            .unwrap_or_default()
            .split(',')
            .take(4 * Self::MOST)
            .map(|range| {
                let (tag, parameter) = range.split_once(';').unwrap_or((range, ""));
                let weight = parameter.trim().strip_prefix("q=").map_or(1_000, thousandths);
                (weight, tag.trim())
            })
            .filter(|(weight, _)| *weight > 0)
            .collect();
        // Stable: what is wanted as much keeps its order.
        weighted.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
        Languages::from_iter(locale.into_iter().chain(weighted.into_iter().map(|(_, tag)| tag)))
    }

    /// The first of `available` (tags in lower case) that somebody reads: each wish as it is, then without its last subtag, and
    /// so on (the lookup of RFC 4647 §3.4).
    pub fn choose<'a>(&self, available: &[&'a str]) -> Option<&'a str> {
        self.0.iter().find_map(|wish| {
            let mut wish = wish.as_str();
            loop {
                if let Some(found) = available.iter().find(|tag| **tag == wish) {
                    return Some(*found);
                }
                wish = wish.rsplit_once('-')?.0;
            }
        })
    }

    /// The tags, in order of preference.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl<'a> FromIterator<&'a str> for Languages {
    fn from_iter<I: IntoIterator<Item = &'a str>>(tags: I) -> Self {
        let mut kept: Vec<String> = Vec::new();
        for tag in tags.into_iter().filter(|tag| is_tag(tag)) {
            let tag = tag.to_ascii_lowercase();
            if kept.len() < Self::MOST && !kept.contains(&tag) {
                kept.push(tag);
            }
        }
        Languages(kept)
    }
}

impl From<Vec<String>> for Languages {
    fn from(tags: Vec<String>) -> Languages {
        tags.iter().map(String::as_str).collect()
    }
}

impl From<Languages> for Vec<String> {
    fn from(languages: Languages) -> Vec<String> {
        languages.0
    }
}

impl fmt::Display for Languages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

/// Whether `text` has the form of a language tag: letters, then letters and digits in groups of at most eight.
pub fn is_tag(text: &str) -> bool {
    let mut subtags = text.split('-');
    let primary = subtags.next().unwrap_or_default();
    text.len() <= Languages::MAX_BYTES
        && (2..=8).contains(&primary.len())
        && primary.bytes().all(|byte| byte.is_ascii_alphabetic())
        && subtags.all(|tag| (1..=8).contains(&tag.len()) && tag.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// A weight, `0` to `1` with at most three decimals; anything else counts as not wanted.
fn thousandths(text: &str) -> u16 {
    let text = text.trim();
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits = decimals.len() <= 3 && decimals.bytes().all(|byte| byte.is_ascii_digit());
    match (whole, digits) {
        ("0", true) => format!("{decimals:0<3}").parse().unwrap_or(0),
        ("1", true) if decimals.bytes().all(|byte| byte == b'0') => 1_000,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(locale: Option<&str>, accept: &str) -> Vec<String> {
        Languages::of(locale, Some(accept)).into()
    }

    #[test]
    fn the_account_comes_first_then_the_request_by_weight() {
        assert_eq!(tags(Some("de-AT"), "en;q=0.5, fr-CH, fr;q=0.9"), ["de-at", "fr-ch", "fr", "en"]);
        assert_eq!(tags(None, "en, de;q=0, *;q=0.1"), ["en"]);
        assert_eq!(tags(None, "en;q=0.123, de;q=0.124"), ["de", "en"]);
        assert_eq!(Languages::of(None, None), Languages::default());
    }

    #[test]
    fn a_hostile_header_is_a_few_short_tags_or_none() {
        let many = (0..10_000).map(|n| format!("aa-{n}")).collect::<Vec<_>>().join(",");
        assert_eq!(tags(None, &many).len(), Languages::MOST);
        for bad in ["../../etc/passwd", "en\r\nBcc: x", "e", "", "en--gb", "en-", "123", &"x".repeat(100), "dé"] {
            assert!(tags(None, bad).is_empty(), "{bad}");
        }
        assert!(tags(None, "en;q=2, de;q=-1, fr;q=0.1234, it;q=, es;q=1.5").is_empty());
    }

    #[test]
    fn a_wish_is_met_by_the_nearest_more_general_language() {
        let available = ["en", "de", "pt-br"];
        let choose = |accept: &str| Languages::of(None, Some(accept)).choose(&available);
        assert_eq!(choose("de-CH-1996, en"), Some("de"));
        assert_eq!(choose("pt-BR"), Some("pt-br"));
        assert_eq!(choose("pt, fr, en;q=0.1"), Some("en"));
        assert_eq!(choose("fr"), None);
    }
}
