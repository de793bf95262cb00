//! What a package has before every view of a site: [`Middleware`].

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use counterfoil_core::{Error, Identity, Refusal};
use tower::{Layer, Service};
use zeroize::Zeroizing;

use super::drf::answer::Answer;
use super::drf::authorization::{self, TokenScheme};
use super::drf::django;
use super::serving::{Mount, Mounted, plain};
use crate::arrival::Arrival;
use crate::authenticated::{Verdict, Who};
use crate::credentials::Place;
use crate::drain::Drained;
use crate::exchange;
use crate::http::Http;
use crate::settings::HttpSettings;

/// A package's middleware, for any service whose requests and answers are axum's; made by [`Mounted::middleware`]. Put it around
/// the whole application, with the routes of the dialect in it: it answers for addresses that there are not, too.
///
/// Behind it a handler may take `Option<Authenticated>` on any route. Whoever has a token of an account that is disabled is nobody
/// there.
#[derive(Debug, Clone)]
pub struct Middleware {
    mounted: Mounted,
    /// Finds tokens where no native route does, so that what was found here says nothing there.
    http: Http,
}

/// A service with a [`Middleware`] around it.
#[derive(Debug, Clone)]
pub struct BehindMiddleware<S> {
    inner: S,
    middleware: Middleware,
}

/// Left with a request that the middleware of this mount has let pass.
#[derive(Clone)]
pub(super) struct Passed {
    mount: Arc<Mount>,
    /// Whom it has found.
    pub(super) who: Option<Identity>,
}

impl Passed {
    pub(super) fn of<'a>(parts: &'a Parts, mounted: &Mounted) -> Option<&'a Passed> {
        parts.extensions.get().filter(|passed: &&Passed| Arc::ptr_eq(&passed.mount, mounted.mount()))
    }
}

impl Mounted {
    /// The package's middleware, for [`Router::layer`](axum::Router::layer) around the whole application. Of a package that has none it
    /// lets everything pass.
    pub fn middleware(&self) -> Middleware {
        let http = &self.mount().http;
        let settings =
            HttpSettings { schemes: Vec::new(), api_key_header: false, cookies: None, ..http.settings().clone() };
        Middleware { http: http.with_settings(settings), mounted: self.clone() }
    }
}

impl<S> Layer<S> for Middleware {
    type Service = BehindMiddleware<S>;

    fn layer(&self, inner: S) -> BehindMiddleware<S> {
        BehindMiddleware { inner, middleware: self.clone() }
    }
}

impl<S> Service<Request> for BehindMiddleware<S>
where
    S: Service<Request, Response: IntoResponse> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // The one that is ready is called, and a copy of it stays here.
        let copy = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, copy);
        let middleware = self.middleware.clone();
        Box::pin(async move {
            match middleware.judge(request).await {
                Ok((request, is_first)) => {
                    let mut response = inner.call(request).await?.into_response();
                    if is_first {
                        vary_by_cookie(response.headers_mut());
                    }
                    Ok(response)
                }
                Err(response) => Ok(response),
            }
        })
    }
}

impl Middleware {
    /// The request with whom it is from, and whether it is judged for the first time.
    ///
    /// # Errors
    /// The answer in its place.
    async fn judge(&self, request: Request) -> Result<(Request, bool), Response> {
        let Some(scheme) = self.mounted.dialect().middleware_scheme() else { return Ok((request, false)) };
        let (mut parts, body) = request.into_parts();
        if Passed::of(&parts, &self.mounted).is_some() {
            return Ok((Request::from_parts(parts, body), false));
        }
        let http = &self.mounted.mount().http;
        let arrival = match Arrival::known(&parts.extensions, http) {
            Some(known) => known.clone(),
            None => Arrival::of(&parts, http),
        };
        let body = match Arrival::known(&parts.extensions, http) {
            Some(_) => body,
            // Nobody around us drains what is refused unread.
            None => Body::new(Drained::new(body, exchange::waits_for_continue(&parts.headers))),
        };
        let who = self.who(scheme, &parts.headers, &arrival).await?;
        let known = who.clone().map_or(Who::Nobody, |who| Who::Known(who, Place::Authorization));
        parts.extensions.insert(Verdict {
            who: known,
            now: arrival.now,
            source: arrival.source,
            http: self.http.clone(),
        });
        parts.extensions.insert(Passed { mount: Arc::clone(self.mounted.mount()), who });
        Ok((Request::from_parts(parts, body), true))
    }

    async fn who(
        &self,
        scheme: &TokenScheme,
        headers: &HeaderMap,
        arrival: &Arrival,
    ) -> Result<Option<Identity>, Response> {
        let line = authorization::line(headers);
        let line = Zeroizing::new(line.trim_ascii().to_vec());
        if line.is_empty() {
            return Ok(None);
        }
        let mut words = line.split(|&byte| byte == b' ');
        let token = match (words.next(), words.next().map(std::str::from_utf8)) {
            (Some(word), Some(Ok(token))) if scheme.keywords().any(|keyword| word == keyword.as_bytes()) => token,
            (_, _) => return Err(not_provided()),
        };
        let http = &self.mounted.mount().http;
        let judgement = http.authority().authenticate_unthrottled(token, &arrival.source, arrival.now).await;
        http.count_check(&judgement);
        match judgement {
            Ok(who) => Ok(Some(who)),
            // The views say it in words of their own.
            Err(Error::Refused(Refusal::SubjectInactive)) => Ok(None),
            Err(Error::Refused(Refusal::TokenUnknown | Refusal::TokenRevoked | Refusal::TokenExpired)) => {
                Err(not_provided())
            }
            Err(error) => Err(told(self.mounted.failed(error))),
        }
    }
}

/// As `JsonResponse` writes it, with a blank.
fn not_provided() -> Response {
    const BODY: &str = r#"{"detail": "Authentication credentials were not provided."}"#;
    let json = HeaderValue::from_static("application/json");
    let response = (StatusCode::UNAUTHORIZED, [(header::CONTENT_TYPE, json)], BODY).into_response();
    let mut response = django::finish(response, Vec::new());
    vary_by_cookie(response.headers_mut());
    response
}

fn told(answer: Answer) -> Response {
    let mut response = plain(answer);
    response.headers_mut().remove(header::ALLOW);
    vary_by_cookie(response.headers_mut());
    response
}

/// As Django's sessions do.
fn vary_by_cookie(headers: &mut HeaderMap) {
    let said: Vec<&str> = headers.get_all(header::VARY).iter().filter_map(|vary| vary.to_str().ok()).collect();
    let said = said.join(", ");
    if said == "*" || said.split(',').any(|name| name.trim().eq_ignore_ascii_case("cookie")) {
        return;
    }
    let all = if said.is_empty() { "Cookie".to_owned() } else { format!("{said}, Cookie") };
    if let Ok(all) = HeaderValue::from_str(&all) {
        headers.insert(header::VARY, all);
    }
}

/// What `SessionAuthentication` says of a request that could be forged from another site: of all but these methods, because nobody
/// here has the cookie that it looks for.
pub(super) fn forged(method: &Method) -> Option<Answer> {
    let is_safe = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE);
    (!is_safe).then(|| Answer::detail(StatusCode::FORBIDDEN, "CSRF Failed: CSRF cookie not set."))
}
