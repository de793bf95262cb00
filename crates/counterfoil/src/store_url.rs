//! Where everything is kept, in one text: [`Builder::store_url`].

use std::fmt;

use crate::Builder;

/// Why a text says no place that this crate can keep things in. Repeats the scheme alone: the rest may hold a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotAStoreUrl {
    /// It has no scheme.
    NoScheme,
    /// A Redis, which keeps tokens alone: `Builder::tokens_in_redis`.
    TokensAlone,
    /// A feature of this crate that is switched off.
    NoFeature(&'static str),
    /// A scheme that means nothing here.
    Unknown(String),
    /// The part behind the scheme is not right, for this reason.
    Place(&'static str),
}

impl fmt::Display for NotAStoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const EXPECTED: &str = "expected sqlite:///DIRECTORY, postgres://USER@HOST/DATABASE or memory:";
        match self {
            NotAStoreUrl::NoScheme => write!(f, "the store's URL has no scheme; {EXPECTED}"),
            NotAStoreUrl::TokensAlone => {
                write!(
                    f,
                    "a Redis keeps tokens alone: name it with Builder::tokens_in_redis, and what keeps the rest here; {EXPECTED}"
                )
            }
            NotAStoreUrl::NoFeature(feature) => {
                write!(f, "this program was built without the feature `{feature}` of counterfoil")
            }
            NotAStoreUrl::Unknown(scheme) => write!(f, "there is no store of the scheme `{scheme}`; {EXPECTED}"),
            NotAStoreUrl::Place(why) => write!(f, "the store's URL {why}"),
        }
    }
}

impl std::error::Error for NotAStoreUrl {}

impl Builder {
    /// Keeps everything where this URL says, as it may stand in a service's own configuration:
    ///
    /// - `sqlite:///var/lib/app/tokens`: the directory `/var/lib/app/tokens`; `sqlite:data` and `sqlite://data`: the
    ///   directory `data` beside the program. See [`Builder::sqlite`]. The path is taken as it is written: nothing is
    ///   decoded, and there are no options behind a `?`.
    /// - `postgres://USER:PASSWORD@HOST/DATABASE`: see [`Builder::postgres`].
    /// - `memory:`: see [`Builder::memory`].
    ///
    /// Stores of your own are named by [`Builder::stores`].
    ///
    /// ```
    /// use counterfoil::{Counterfoil, NotAStoreUrl};
    ///
    /// # fn main() -> Result<(), NotAStoreUrl> {
    /// let builder = Counterfoil::builder().store_url("sqlite:///var/lib/app/tokens")?;
    /// let refused = Counterfoil::builder().store_url("mysql://app:secret@db/app").expect_err("no such store");
    /// assert!(refused.to_string().starts_with("there is no store of the scheme `mysql`"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`NotAStoreUrl`], which says what would be right.
    pub fn store_url(self, url: &str) -> Result<Builder, NotAStoreUrl> {
        let (scheme, place) = url.split_once(':').ok_or(NotAStoreUrl::NoScheme)?;
        match scheme.to_ascii_lowercase().as_str() {
            "memory" if place.is_empty() => Ok(self.memory()),
            "memory" => Err(NotAStoreUrl::Place("is `memory:` and nothing behind it: what is kept there has no place")),
            "sqlite" => self.sqlite_at(place),
            "postgres" | "postgresql" => self.postgres_at(url),
            redis if ["redis", "valkey"].iter().any(|name| redis.starts_with(name)) => Err(NotAStoreUrl::TokensAlone),
            // A path of Windows, or a text in the wrong place.
            scheme if scheme.len() < 2 || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+') => {
                Err(NotAStoreUrl::NoScheme)
            }
            scheme => Err(NotAStoreUrl::Unknown(scheme.chars().take(20).collect())),
        }
    }

    #[cfg(feature = "sqlite")]
    fn sqlite_at(self, place: &str) -> Result<Builder, NotAStoreUrl> {
        let path = place.strip_prefix("//").unwrap_or(place);
        if path.is_empty() {
            return Err(NotAStoreUrl::Place("names no directory; write sqlite:///DIRECTORY"));
        }
        if path.starts_with(":memory:") {
            return Err(NotAStoreUrl::Place("names no directory; to keep things in memory write memory:"));
        }
        // Where it would mean something in other programs, it must not become part of a name here.
        if path.contains(['?', '#', '%']) {
            return Err(NotAStoreUrl::Place("has ?, # or % in its path; name such a directory with Builder::sqlite"));
        }
        Ok(self.sqlite(path))
    }

    #[cfg(feature = "postgres")]
    fn postgres_at(self, url: &str) -> Result<Builder, NotAStoreUrl> {
        Ok(self.postgres(url))
    }

    #[cfg(not(feature = "postgres"))]
    fn postgres_at(self, _: &str) -> Result<Builder, NotAStoreUrl> {
        Err(NotAStoreUrl::NoFeature("postgres"))
    }

    #[cfg(not(feature = "sqlite"))]
    fn sqlite_at(self, _: &str) -> Result<Builder, NotAStoreUrl> {
        Err(NotAStoreUrl::NoFeature("sqlite"))
    }
}

#[cfg(test)]
mod tests {
    use crate::Counterfoil;

    fn said(url: &str) -> String {
        match Counterfoil::builder().store_url(url) {
            Ok(builder) => {
                let said = format!("{builder:?}");
                let store = said.split_once("store: ").expect("a store").1;
                store.split_once(", rewound").expect("what follows it").0.to_owned()
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_store_is_named_by_a_url_and_what_is_none_says_what_would_be() {
        assert_eq!(said("memory:"), "Memory");
        for (url, path) in [
            ("sqlite:///var/lib/app", "/var/lib/app"),
            ("SQLite:/var/lib/app", "/var/lib/app"),
            ("sqlite://data", "data"),
            ("sqlite:./data dir", "./data dir"),
        ] {
            assert_eq!(said(url), format!("Sqlite {{ path: {path:?}, absent: Create }}"), "{url}");
        }
        for (url, why) in [
            (
                "",
                "the store's URL has no scheme; expected sqlite:///DIRECTORY, postgres://USER@HOST/DATABASE or memory:",
            ),
            (
                "/var/lib/app",
                "the store's URL has no scheme; expected sqlite:///DIRECTORY, postgres://USER@HOST/DATABASE or memory:",
            ),
            (
                r"C:\data",
                "the store's URL has no scheme; expected sqlite:///DIRECTORY, postgres://USER@HOST/DATABASE or memory:",
            ),
            (
                "mysql://u:p@h/d",
                "there is no store of the scheme `mysql`; expected sqlite:///DIRECTORY, postgres://USER@HOST/DATABASE or memory:",
            ),
            (
                "rediss://u:p@h",
                "a Redis keeps tokens alone: name it with Builder::tokens_in_redis, and what keeps the rest here; expected sqlite:///DIRECTORY, postgres://USER@HOST/DATABASE or memory:",
            ),
            ("sqlite:", "the store's URL names no directory; write sqlite:///DIRECTORY"),
            ("sqlite://", "the store's URL names no directory; write sqlite:///DIRECTORY"),
            ("sqlite::memory:", "the store's URL names no directory; to keep things in memory write memory:"),
            (
                "sqlite:///data?mode=rwc",
                "the store's URL has ?, # or % in its path; name such a directory with Builder::sqlite",
            ),
            ("memory://x", "the store's URL is `memory:` and nothing behind it: what is kept there has no place"),
        ] {
            assert_eq!(said(url), why, "{url}");
        }
    }
}
