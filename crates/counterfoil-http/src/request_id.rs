//! A name for each request, the same in its answer, its problem document and its log lines: [`RequestId`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use counterfoil_core::Timestamp;

/// The header that carries it both ways.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id taken from a proxy, in bytes.
const MAX_LENGTH: usize = 64;

/// The name of one request: 1 to 64 of `A-Z a-z 0-9 . _ -`, the first a letter or digit, so that it is a relative URI
/// reference, a header value and one field of a log line without any encoding.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(text: &[u8]) -> Option<RequestId> {
        let fits = (1..=MAX_LENGTH).contains(&text.len())
            && text[0].is_ascii_alphanumeric()
            && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte));
        let text = std::str::from_utf8(text).ok().filter(|_| fits)?;
        Some(RequestId(text.into()))
    }

    /// The id that a proxy gave the request, if it gave exactly one that fits.
    pub(crate) fn given(headers: &HeaderMap) -> Option<RequestId> {
        let mut given = headers.get_all(X_REQUEST_ID).iter();
        let first = given.next()?;
        if given.next().is_some() { None } else { RequestId::parse(first.as_bytes()) }
    }

    pub(crate) fn header_value(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Counts requests. Ids need to differ, not to be hard to guess, so there is no chance in them.
#[derive(Debug)]
pub(crate) struct RequestIds {
    prefix: String,
    made: AtomicU64,
}

impl RequestIds {
    /// Ids that begin with `prefix`, or else with the time `started`.
    pub(crate) fn new(prefix: Option<&str>, started: Timestamp) -> RequestIds {
        let chosen = prefix.filter(|prefix| prefix.len() <= 32 && RequestId::parse(prefix.as_bytes()).is_some());
        let prefix = chosen.map_or_else(|| format!("{:x}", started.millis()), str::to_owned);
        RequestIds { prefix, made: AtomicU64::new(0) }
    }

    pub(crate) fn next(&self) -> RequestId {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        RequestId(format!("{}-{number}", self.prefix).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_begin_with_the_prefix_or_the_start() {
        let ids = RequestIds::new(Some("node-1"), Timestamp::MIN);
        assert_eq!((ids.next().as_str(), ids.next().as_str()), ("node-1-0", "node-1-1"));
        let ids = RequestIds::new(None, Timestamp::from_millis(255));
        assert_eq!(ids.next().as_str(), "ff-0");
        let ids = RequestIds::new(Some("no spaces"), Timestamp::from_millis(255));
        assert_eq!(ids.next().as_str(), "ff-0");
    }

    #[test]
    fn a83_an_id_that_could_break_a_log_line_is_not_taken() {
        let long = "x".repeat(65);
        for bad in ["", "a b", "a\"b", "-a", ".", "ä", "a/b", "a:b", &long] {
            assert_eq!(RequestId::parse(bad.as_bytes()), None, "{bad:?}");
        }
        for good in ["a", "4f2a-17", "7.B_c"] {
            assert_eq!(RequestId::parse(good.as_bytes()).expect(good).as_str(), good);
        }
        let mut headers = HeaderMap::new();
        headers.append(X_REQUEST_ID, HeaderValue::from_static("one"));
        assert_eq!(RequestId::given(&headers).expect("one").as_str(), "one");
        headers.append(X_REQUEST_ID, HeaderValue::from_static("two"));
        assert_eq!(RequestId::given(&headers), None);
    }
}
