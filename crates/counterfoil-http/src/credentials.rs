//! The `Authorization` header: which token a request presents, if any.

use axum::http::{HeaderMap, header};
use counterfoil_core::SecretToken;

/// Why a request presents no token that could be looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoToken {
    /// There is no `Authorization` header, or it is of a scheme that is not ours (RFC 6750 §3.1: "attempts using an
    /// unsupported authentication method").
    Missing,
    /// There is one that cannot be read, or more than one; what is wrong with it, as a sentence for the caller.
    Malformed(&'static str),
}

/// The token in the one `Authorization` header.
///
/// `Bearer` or `Token` in any case, exactly one space, and the characters of RFC 6750 §2.1. What two parsers could read
/// differently (two headers, a list, a tab, two spaces) is refused rather than guessed: behind a proxy that guesses
/// otherwise it is a way around it. Query strings are never looked at, because they end up in logs.
///
/// # Errors
/// [`NoToken`].
pub fn presented(headers: &HeaderMap) -> Result<SecretToken, NoToken> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let value = all.next().ok_or(NoToken::Missing)?.as_bytes();
    if all.next().is_some() {
        return Err(NoToken::Malformed("There is more than one Authorization header."));
    }
    if value.contains(&b',') {
        // RFC 9110 §11.6.2 has one credential per header; a comma is what merges two of them into one.
        return Err(NoToken::Malformed("The Authorization header holds more than one credential."));
    }
    let scheme_end = value.iter().position(|byte| !is_token_char(*byte)).unwrap_or(value.len());
    let (scheme, rest) = value.split_at(scheme_end);
    if !scheme.eq_ignore_ascii_case(b"bearer") && !scheme.eq_ignore_ascii_case(b"token") {
        return Err(if scheme.is_empty() || !(rest.is_empty() || rest[0] == b' ') {
            NoToken::Malformed("The Authorization header does not begin with a scheme and a space.")
        } else {
            NoToken::Missing
        });
    }
    match rest.strip_prefix(b" ") {
        Some(text) if !text.is_empty() && text.iter().copied().all(is_b64token_char) => {
            let text = std::str::from_utf8(text).map_err(|_| NoToken::Malformed(SHAPE))?;
            Ok(SecretToken::from_text(text))
        }
        Some(_) | None => Err(NoToken::Malformed(SHAPE)),
    }
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
