//! An instant as people type it: [`When`], a time or an age.

use std::fmt;
use std::str::FromStr;

use counterfoil::{Lifetime, Now, Timestamp};

/// An instant, or how long ago it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    At(Timestamp),
    Ago(Lifetime),
}

impl When {
    pub(crate) fn instant(self, now: Now) -> Timestamp {
        match self {
            When::At(instant) => instant,
            When::Ago(age) => now.wall.minus_millis(age.millis()),
        }
    }
}

/// The text is neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotAWhen;

impl fmt::Display for NotAWhen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a time such as 2027-01-31T12:00:00Z, or how long ago: 30d, 12h, …")
    }
}

impl std::error::Error for NotAWhen {}

impl FromStr for When {
    type Err = NotAWhen;

    fn from_str(text: &str) -> Result<Self, NotAWhen> {
        match (text.parse(), text.parse()) {
            (Ok(instant), _) => Ok(When::At(instant)),
            (Err(_), Ok(age)) => Ok(When::Ago(age)),
            (Err(_), Err(_)) => Err(NotAWhen),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_counts_back_from_now_and_a_time_stands() {
        let wall: Timestamp = "2026-11-20T12:00:00Z".parse().expect("a time");
        let now = Now { wall, boot: None };
        for (text, instant) in [
            ("30d", "2026-10-21T12:00:00Z"),
            ("90s", "2026-11-20T11:58:30Z"),
            ("36500d", "1970-01-01T00:00:00Z"),
            ("2027-01-31T12:00:00+01:00", "2027-01-31T11:00:00Z"),
        ] {
            let when: When = text.parse().expect(text);
            assert_eq!(when.instant(now), instant.parse().expect("a time"), "{text}");
        }
        for text in ["", "30", "yesterday", "2027-01-31", "-1d", "0s"] {
            assert_eq!(text.parse::<When>(), Err(NotAWhen), "{text}");
        }
    }
}
