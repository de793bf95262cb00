//! What Django itself does around every view.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;

use super::answer::Answer;

/// Left with an answer that has all the headers that it is to have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AsDjango;

/// What Django's middleware adds to every answer; `no-store` is ours, because a token may be in it.
const EVERYWHERE: [(HeaderName, &str); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
];

/// The answer with the headers of the middleware, and these.
pub(crate) fn finish(mut response: Response, more: Vec<(HeaderName, HeaderValue)>) -> Response {
    let redirects = response.status() == StatusCode::MOVED_PERMANENTLY;
    let headers = response.headers_mut();
    for (name, value) in more {
        headers.insert(name, value);
    }
    for (name, value) in EVERYWHERE {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if !redirects {
        // The redirect to a slash is made before this one has its turn.
        headers.entry(header::X_FRAME_OPTIONS).or_insert(HeaderValue::from_static("DENY"));
    }
    response.extensions_mut().insert(AsDjango);
    response
}

/// 404 for an address that there is not.
pub(crate) fn not_found() -> Answer {
    let words = "The requested resource was not found on this server.";
    Answer::django(StatusCode::NOT_FOUND, page("Not Found", words))
}

/// 400 for a form with more fields than Django reads.
pub(crate) fn bad_request() -> Answer {
    Answer::django(StatusCode::BAD_REQUEST, page("Bad Request (400)", ""))
}

/// 403 for a request that could be forged from another site.
pub(crate) fn forbidden() -> Answer {
    let words = "CSRF verification failed. Request aborted.";
    Answer::django(StatusCode::FORBIDDEN, page("403 Forbidden", words))
}

fn page(title: &str, words: &str) -> String {
    format!(
        "\n<!doctype html>\n<html lang=\"en\">\n<head>\n  <title>{title}</title>\n</head>\n<body>\n  \
         <h1>{title}</h1><p>{words}</p>\n</body>\n</html>\n"
    )
}

/// 301 from a path without its slash to the one with it, whatever the method. `path` is the whole path, as it was sent.
pub(crate) fn to_the_slash(path: &str, query: Option<&str>) -> Answer {
    let mut location = quoted(path);
    // Two slashes at the beginning would be another host.
    if let Some(rest) = location.strip_prefix("//") {
        location = format!("/%2F{rest}");
    }
    location.push('/');
    if let Some(query) = query.filter(|query| !query.is_empty()) {
        location.push('?');
        location.push_str(&quoted(query));
    }
    let answer = Answer::django(StatusCode::MOVED_PERMANENTLY, "");
    match HeaderValue::from_str(&location) {
        Ok(location) => answer.with(header::LOCATION, location),
        Err(_) => not_found(),
    }
}

/// What cannot stand in a URL as it is, as percent signs.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'!' | b'#'..=b';' | b'=' | b'?'..=b'Z' | b'[' | b']' | b'_' | b'a'..=b'z' | b'~' => {
                quoted.push(char::from(byte));
            }
            _ => quoted.push_str(&format!("%{byte:02X}")),
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_keeps_the_query_and_the_host() {
        let location = |path: &str, query: Option<&str>| {
            let response = finish(Response::default(), Vec::new());
            assert!(response.headers().contains_key(header::X_FRAME_OPTIONS));
            let answer = to_the_slash(path, query);
            assert_eq!(answer.status(), StatusCode::MOVED_PERMANENTLY);
            let view = crate::dialect::drf::view::View::named("View", &[]);
            let form = crate::dialect::drf::negotiation::Form::Json { indent: None };
            let response = answer.render(&view, form, "");
            assert!(!response.headers().contains_key(header::X_FRAME_OPTIONS));
            assert!(!response.headers().contains_key(header::ALLOW));
            response.headers()[header::LOCATION].to_str().expect("text").to_owned()
        };
        assert_eq!(location("/api/auth/refresh", None), "/api/auth/refresh/");
        assert_eq!(location("/a", Some("b=%20c&d=ä")), "/a/?b=%20c&d=%C3%A4");
        assert_eq!(location("/a", Some("")), "/a/");
        assert_eq!(location("//evil.example", None), "/%2Fevil.example/");
    }

    #[test]
    fn the_page_of_404_is_djangos_to_the_byte() {
        assert_eq!(not_found().text().len(), 179);
    }
}
