//! What whoever asks reads: [`Reader`].

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use counterfoil_core::language::Languages;

/// The languages that `Accept-Language` names.
pub(crate) struct Reader(pub(crate) Languages);

impl Reader {
    pub(crate) fn of(headers: &HeaderMap) -> Reader {
        // Sent twice it means one list (RFC 9110 §5.3); nobody does, and the first one will do.
        let accept = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        Reader(Languages::of(None, accept))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Reader {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Reader::of(&parts.headers))
    }
}
