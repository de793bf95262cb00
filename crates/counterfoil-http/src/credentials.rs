//! Where a request may carry its token, and which one it carries: [`Scheme`], [`Place`], [`presented`].

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use axum::http::{HeaderMap, HeaderName, header};
use counterfoil_core::SecretToken;

/// A scheme of the `Authorization` header (RFC 9110 §11.1), compared in any case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheme(Cow<'static, str>);

impl Scheme {
    /// `Bearer`, as RFC 6750 has it.
    pub const BEARER: Scheme = Scheme(Cow::Borrowed("Bearer"));
    /// `Token`, as clients of Django REST Framework have it.
    pub const TOKEN: Scheme = Scheme(Cow::Borrowed("Token"));

    /// The scheme, as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn is(&self, sent: &[u8]) -> bool {
        self.0.as_bytes().eq_ignore_ascii_case(sent)
    }
}

/// The text is not one word of letters, digits and the signs of RFC 9110 §5.6.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAScheme;

impl fmt::Display for NotAScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scheme is one word, such as Bearer or Token")
    }
}

impl std::error::Error for NotAScheme {}

impl FromStr for Scheme {
    type Err = NotAScheme;

    fn from_str(text: &str) -> Result<Scheme, NotAScheme> {
        let word = !text.is_empty() && text.bytes().all(is_token_char);
        if word { Ok(Scheme(Cow::Owned(text.to_owned()))) } else { Err(NotAScheme) }
    }
}

/// The header of [`Place::ApiKeyHeader`].
pub(crate) const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Where a request carries its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// `Authorization: Bearer …`
    Authorization,
    /// `X-Api-Key: …`
    ApiKeyHeader,
    /// The cookie of [`Cookies`](crate::Cookies).
    Cookie,
}

/// A text that may be a token's, and where it was found.
#[derive(Clone, Copy)]
pub(crate) struct Credential<'a> {
    pub(crate) text: &'a str,
    pub(crate) place: Place,
}

/// Why a request presents no token that could be looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoToken {
    /// There is none in any place that is looked at; an `Authorization` header of a scheme that is not ours is none
    /// (RFC 6750 §3.1: "attempts using an unsupported authentication method").
    Missing,
    /// There is one that cannot be read, or more than one; what is wrong with it, as a sentence for the caller.
    Malformed(&'static str),
}

/// The token in the one `Authorization` header, of the schemes `Bearer` and `Token`.
///
/// Exactly one space, and the characters of RFC 6750 §2.1. What two parsers could read differently (two headers, a list, a
/// tab, two spaces) is refused rather than guessed: behind a proxy that guesses otherwise it is a way around it. Query
/// strings are never looked at, because they end up in logs.
///
/// # Errors
/// [`NoToken`].
pub fn presented(headers: &HeaderMap) -> Result<SecretToken, NoToken> {
    in_authorization(headers, &[Scheme::BEARER, Scheme::TOKEN])?.map(SecretToken::from_text).ok_or(NoToken::Missing)
}

/// The one token in any of these places; more than one is malformed, whatever they are.
///
/// # Errors
/// [`NoToken::Malformed`].
pub(crate) fn find<'h>(
    headers: &'h HeaderMap,
    schemes: &[Scheme],
    api_key_header: bool,
    cookie: Option<&str>,
) -> Result<Option<Credential<'h>>, NoToken> {
    let found = |text: Option<&'h str>, place| text.map(|text| Credential { text, place });
    let mut first = found(in_authorization(headers, schemes)?, Place::Authorization);
    let mut also = |other: Option<Credential<'h>>| match (first, other) {
        (Some(_), Some(_)) => Err(NoToken::Malformed("The request carries more than one token. Send one.")),
        (None, Some(_)) => {
            first = other;
            Ok(())
        }
        (_, None) => Ok(()),
    };
    if api_key_header {
        also(found(in_api_key_header(headers)?, Place::ApiKeyHeader))?;
    }
    if let Some(name) = cookie {
        also(found(in_cookie(headers, name)?, Place::Cookie))?;
    }
    Ok(first)
}

fn in_authorization<'h>(headers: &'h HeaderMap, schemes: &[Scheme]) -> Result<Option<&'h str>, NoToken> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = all.next() else { return Ok(None) };
    let value = value.as_bytes();
    if all.next().is_some() {
        return Err(NoToken::Malformed("There is more than one Authorization header."));
    }
    if value.contains(&b',') {
        // RFC 9110 §11.6.2 has one credential per header; a comma is what merges two of them into one.
        return Err(NoToken::Malformed("The Authorization header holds more than one credential."));
    }
    let scheme_end = value.iter().position(|byte| !is_token_char(*byte)).unwrap_or(value.len());
    let (scheme, rest) = value.split_at(scheme_end);
    if !schemes.iter().any(|ours| ours.is(scheme)) {
        if scheme.is_empty() || !(rest.is_empty() || rest[0] == b' ') {
            return Err(NoToken::Malformed("The Authorization header does not begin with a scheme and a space."));
        }
        return Ok(None);
    }
    match rest.strip_prefix(b" ") {
        Some(text) => Ok(Some(read(text).ok_or(NoToken::Malformed(SHAPE))?)),
        None => Err(NoToken::Malformed(SHAPE)),
    }
}

fn in_api_key_header(headers: &HeaderMap) -> Result<Option<&str>, NoToken> {
    let mut all = headers.get_all(X_API_KEY).iter();
    let Some(value) = all.next() else { return Ok(None) };
    if all.next().is_some() {
        return Err(NoToken::Malformed("There is more than one X-Api-Key header."));
    }
    let malformed = NoToken::Malformed("X-Api-Key holds a token and nothing else.");
    read(value.as_bytes()).map(Some).ok_or(malformed)
}

/// The value of the cookie `name`; cookies of other names are somebody else's, whatever they look like. HTTP/2 may send
/// several headers (RFC 9113 §8.2.3), which are one list.
fn in_cookie<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, NoToken> {
    let lines = headers.get_all(header::COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b';'));
    let mut values = pairs.filter_map(|pair| {
        let pair = pair.trim_ascii();
        let equals = pair.iter().position(|&byte| byte == b'=').unwrap_or(pair.len());
        let (key, value) = pair.split_at(equals);
        (key.trim_ascii_end() == name.as_bytes()).then_some(value)
    });
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        // No browser has two of a `__Host-` name: one of them is an attacker's, and who knows which.
        return Err(NoToken::Malformed("There is more than one cookie of this name."));
    }
    let text = value.strip_prefix(b"=").and_then(read);
    text.map(Some).ok_or(NoToken::Malformed("The cookie does not hold a token."))
}

/// What has the characters of a token, and at least one.
fn read(text: &[u8]) -> Option<&str> {
    let plain = !text.is_empty() && text.iter().copied().all(is_b64token_char);
    std::str::from_utf8(text).ok().filter(|_| plain)
}

const SHAPE: &str = "After the scheme comes exactly one space and then the token, nothing else.";

/// RFC 9110 §5.6.2.
fn is_token_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 6750 §2.1.
fn is_b64token_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn of(lines: &[&[u8]]) -> Result<String, NoToken> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::AUTHORIZATION, HeaderValue::from_bytes(line).expect("value"));
        }
        presented(&headers).map(|secret| secret.expose().to_owned())
    }

    #[test]
    fn r20_the_scheme_is_read_in_any_case() {
        for line in ["Bearer cf_x", "bEaReR cf_x", "Token cf_x", "TOKEN cf_x"] {
            assert_eq!(of(&[line.as_bytes()]).as_deref(), Ok("cf_x"), "{line}");
        }
    }

    #[test]
    fn a33_two_credentials_are_malformed() {
        for lines in [
            [b"Bearer a".as_slice(), b"Bearer b"].as_slice(),
            &[b"Bearer a", b"Basic b"],
            &[b"Bearer a, Bearer b"],
            &[b"Bearer a,b"],
            &[b"Bearer a Token b"],
            &[b"Basic a, Bearer b"],
        ] {
            assert!(matches!(of(lines), Err(NoToken::Malformed(_))), "{lines:?}");
        }
    }

    #[test]
    fn a35_only_one_space_and_plain_characters_are_read() {
        for line in [
            b"Bearer".as_slice(),
            b"Bearer ",
            b"Bearer  a",
            b"Bearer\ta",
            b"Bearer a\tb",
            b"Bearer a ",
            b"Bearer \xe4",
            b"Bearer a\xff",
            b"Bearer \"a\"",
            b"Bearer a%00",
            b" Bearer a",
            b"",
            b"\xff",
            b"Basic\ta",
        ] {
            assert!(matches!(of(&[line]), Err(NoToken::Malformed(_))), "{line:?}");
        }
    }

    #[test]
    fn r19_a_scheme_that_is_not_ours_is_no_credential() {
        assert_eq!(of(&[]), Err(NoToken::Missing));
        assert_eq!(of(&[b"Basic YTpi"]), Err(NoToken::Missing));
        assert_eq!(of(&[b"cf_token_without_a_scheme"]), Err(NoToken::Missing));
    }
}
