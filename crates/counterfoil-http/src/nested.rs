//! Under which path of the host's the native routes are: [`NestedUnder`].

use std::convert::Infallible;
use std::fmt;

use axum::extract::{FromRequestParts, OriginalUri};
use axum::http::request::Parts;

/// What a host nested our routes under, such as `/auth`; empty where they are at the root.
pub(crate) struct NestedUnder(String);

impl NestedUnder {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NestedUnder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for NestedUnder {
    type Rejection = Infallible;

    /// What axum took off the path before it came to our routes.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let original: Option<&OriginalUri> = parts.extensions.get();
        let prefix = original.and_then(|OriginalUri(uri)| uri.path().strip_suffix(parts.uri.path()));
        Ok(NestedUnder(prefix.unwrap_or_default().to_owned()))
    }
}
