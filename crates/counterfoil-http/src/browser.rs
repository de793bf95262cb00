//! What native routes do for a browser that keeps its token in a cookie.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use counterfoil_core::{Now, Refusal, SecretToken, Timestamp};

use crate::caller::Caller;
use crate::cookie::Cookies;
use crate::credentials::{self, Credential, Place};
use crate::http::Http;
use crate::problem::{Problem, ProblemKind};

/// The head of a request that may be a browser's.
pub(crate) struct Browser {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl FromRequestParts<Http> for Browser {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Http) -> Result<Self, Infallible> {
        let Parts { method, uri, headers, .. } = parts;
        Ok(Browser { method: method.clone(), uri: uri.clone(), headers: headers.clone() })
    }
}

impl Browser {
    /// Whether it may keep a new token in a cookie, and the one that it has kept there so far. A login that another site
    /// began would log somebody in as somebody else.
    ///
    /// # Errors
    /// 400 where this server has no cookies; 403 `cross-site`.
    pub(crate) fn may_keep(&self, http: &Http) -> Result<Option<SecretToken>, Problem> {
        const NONE: &str = "this server keeps no tokens in cookies";
        let cookies = http.settings().cookies.as_ref().ok_or_else(|| Refusal::invalid("cookie", NONE))?;
        cookies.judge(&self.method, &self.uri, &self.headers)?;
        // One that cannot be read ends nothing, and is no reason to refuse another.
        let kept = credentials::find(&self.headers, &[], false, Some(cookies.name())).ok().flatten();
        Ok(kept.map(|Credential { text, .. }| SecretToken::from_text(text)))
    }
}

/// Who logs out.
pub(crate) enum Leaving {
    /// The holder of a live token.
    Alive(Box<Caller>),
    /// A browser that keeps a dead one.
    Dead(Forgetting),
}

impl FromRequestParts<Http> for Leaving {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, http: &Http) -> Result<Self, Problem> {
        let problem = match Caller::from_request_parts(parts, http).await {
            Ok(caller) => return Ok(Leaving::Alive(Box::new(caller))),
            Err(problem) => problem,
        };
        let carried = http.credential(&parts.method, &parts.uri, &parts.headers).ok().flatten();
        match carried {
            Some(Credential { place: Place::Cookie, .. }) if problem.kind() == ProblemKind::InvalidToken => {
                Ok(Leaving::Dead(Forgetting(http.settings().cookies.as_ref().and_then(Cookies::forget))))
            }
            Some(_) | None => Err(problem),
        }
    }
}

/// 204, and a browser forgets its token.
pub(crate) struct Forgetting(Option<HeaderValue>);

impl Forgetting {
    /// Where `caller` keeps it in a cookie.
    pub(crate) fn by(caller: &Caller, http: &Http) -> Forgetting {
        let cookies = http.settings().cookies.as_ref().filter(|_| caller.place() == Place::Cookie);
        Forgetting(cookies.and_then(Cookies::forget))
    }
}

impl IntoResponse for Forgetting {
    fn into_response(self) -> Response {
        (StatusCode::NO_CONTENT, self.0.map(|cookie| [(header::SET_COOKIE, cookie)]), ()).into_response()
    }
}

/// The cookie that keeps `secret` for as long as it now lives, where it came in one.
pub(crate) fn kept(
    secret: &SecretToken,
    place: Place,
    expires_at: Option<Timestamp>,
    now: Now,
    http: &Http,
) -> Option<HeaderValue> {
    let cookies = http.settings().cookies.as_ref().filter(|_| place == Place::Cookie)?;
    cookies.keep(secret, expires_at, now.wall)
}
