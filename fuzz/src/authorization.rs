//! The `Authorization` header, beside a slow reading of RFC 6750 and RFC 9110.

use axum::http::{HeaderMap, HeaderValue, header};
use counterfoil_http::credentials::{NoToken, presented};

/// What a request presents.
#[derive(Debug, PartialEq)]
enum Presents {
    Token(String),
    Nothing,
    Nonsense,
}

/// Each line of the input is a header line.
pub fn run(input: &[u8]) {
    let mut headers = HeaderMap::new();
    let mut values = Vec::new();
    for line in crate::lines(input).take(4) {
        let Ok(value) = HeaderValue::from_bytes(line) else { return };
        values.push(line.iter().copied().map(char::from).collect());
        headers.append(header::AUTHORIZATION, value);
    }
    let found = match presented(&headers) {
        Ok(secret) => Presents::Token(secret.expose().to_owned()),
        Err(NoToken::Missing) => Presents::Nothing,
        Err(NoToken::Malformed(_)) => Presents::Nonsense,
    };
    assert_eq!(found, slowly(&values), "{values:?}");
}

fn slowly(values: &[String]) -> Presents {
    let [value] = values else { return Presents::Nonsense };
    // More than one credential, as RFC 9110 §11.6.2 would list them.
    if value.split(',').count() != 1 {
        return Presents::Nonsense;
    }
    // RFC 9110 §5.6.2: a token is of visible ASCII without delimiters.
    let is_of_scheme = |letter: &char| letter.is_ascii_graphic() && !"\"(),/:;<=>?@[\\]{}".contains(*letter);
    let scheme: String = value.chars().take_while(is_of_scheme).collect();
    let rest = &value[scheme.len()..];
    match scheme.to_lowercase().as_str() {
        "bearer" | "token" => match rest.strip_prefix(' ') {
            // RFC 6750 §2.1, with `=` anywhere.
            Some(text) if !text.is_empty() && text.chars().all(is_b64token) => Presents::Token(text.to_owned()),
            Some(_) | None => Presents::Nonsense,
        },
        "" => Presents::Nonsense,
        _ if rest.is_empty() || rest.starts_with(' ') => Presents::Nothing,
        _ => Presents::Nonsense,
    }
}

fn is_b64token(letter: char) -> bool {
    matches!(letter, 'A'..='Z' | 'a'..='z' | '0'..='9' | '-' | '.' | '_' | '~' | '+' | '/' | '=')
}
