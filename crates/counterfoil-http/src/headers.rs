//! The headers that every answer carries, whatever it is.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

/// Nothing here is meant to be shown, framed, sniffed or kept by a browser, so everything is forbidden.
const EVERYWHERE: [(HeaderName, &str); 7] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"),
    // Ignored over plain HTTP (RFC 6797 §8.1), so it does no harm where TLS ends at a proxy.
    (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000; includeSubDomains"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::REFERRER_POLICY, "no-referrer"),
];

/// Adds them, each where a handler has not chosen its own.
pub(crate) fn protect(headers: &mut HeaderMap) {
    for (name, value) in EVERYWHERE {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}
