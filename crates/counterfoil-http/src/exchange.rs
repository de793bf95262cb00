//! What happens around every handler: time, source and name of the request, its span and the headers ([`around`]); within
//! that its deadline and problem documents ([`answered`]); a panic.

use std::any::Any;
use std::error::Error as _;
use std::panic::resume_unwind;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use counterfoil_core::{BootTime, Clock, Error};
use tracing::{Instrument as _, Span, field};

use crate::arrival::Arrival;
use crate::body;
use crate::device::Peer;
use crate::dialect::drf::django::AsDjango;
use crate::drain::Drained;
use crate::headers;
use crate::http::Http;
use crate::meter;
use crate::problem::{Problem, ProblemKind};
use crate::request_id::X_REQUEST_ID;

/// The outermost layer. Nothing that a client sends gets into the span but the names we know: not the path, not the query,
/// no header and no body, because any of them may hold a secret or break a log line.
pub(crate) async fn around(State(http): State<Http>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let arrival = Arrival::of(&parts, &http);
    let method = known_method(&parts.method);
    let matched: Option<MatchedPath> = parts.extensions.get().cloned();
    let route = matched.as_ref().map_or("none", MatchedPath::as_str);
    let span = tracing::info_span!(
        "request",
        method,
        route,
        id = arrival.request_id.as_str(),
        status = field::Empty,
        duration_ms = field::Empty,
    );
    let body = Body::new(Drained::new(body, waits_for_continue(&parts.headers)));
    parts.extensions.insert(arrival.clone());
    let request = Request::from_parts(parts, body);
    let hung_up = HungUp(Some(&span));
    let mut response = next.run(request).instrument(span.clone()).await;
    hung_up.did_not_happen();
    if response.extensions().get::<AsDjango>().is_none() {
        headers::protect(response.headers_mut());
    }
    if let Some(id) = arrival.request_id.header_value() {
        response.headers_mut().insert(X_REQUEST_ID, id);
    }
    let taken = time_since(arrival.now.boot, http.clock());
    meter::answered(method, route, response.status(), taken.map(|taken| taken.as_secs_f64()));
    log(&span, &response, taken);
    response
}

/// Says so in the log when a request is dropped because its client hung up.
struct HungUp<'a>(Option<&'a Span>);

impl HungUp<'_> {
    fn did_not_happen(mut self) {
        self.0 = None;
    }
}

impl Drop for HungUp<'_> {
    fn drop(&mut self) {
        if let Some(span) = self.0 {
            span.in_scope(|| tracing::info!("the client hung up before the answer"));
        }
    }
}

/// The layer within that one: whatever happens, there is an answer in time, and a problem is told as a document.
pub(crate) async fn answered(State(http): State<Http>, arrival: Arrival, request: Request, next: Next) -> Response {
    let mut response = in_time(&http, request, next).await;
    match problem_of(&mut response) {
        Some(problem) => problem.render(http.settings(), Some(&arrival.request_id)),
        None => response,
    }
}

/// An answer, which may be a problem that is not told yet.
pub(crate) async fn in_time(http: &Http, request: Request, next: Next) -> Response {
    let handled = async {
        if names_its_host(&request) {
            next.run(request).await
        } else {
            Problem::new(ProblemKind::InvalidRequest, "HTTP/1.1 takes exactly one Host header.").into_response()
        }
    };
    match tokio::time::timeout(http.settings().request_timeout, handled).await {
        Ok(response) => response,
        Err(_) => Problem::new(ProblemKind::Timeout, "There is no answer yet. Try again later.").into_response(),
    }
}

/// The problem that an answer is, if it is one; counted, and its cause in the log.
pub(crate) fn problem_of(response: &mut Response) -> Option<Problem> {
    let problem = response.extensions_mut().remove::<Problem>()?;
    note(&problem);
    Some(problem)
}

/// Counts a problem that is told, and logs its cause.
pub(crate) fn note(problem: &Problem) {
    meter::refused(problem);
    if let Some(cause) = problem.cause() {
        tracing::error!(error = chain(cause), "no answer could be given");
    }
}

/// Lets a handler run to its end though its client hangs up or the deadline passes: what it began may be done by then, and
/// the entry of it in the audit log, or the second of two stores, comes after.
///
/// There may be so many of them and no more, or clients that ask and hang up would leave behind as many as they like.
pub(crate) async fn to_its_end(State(http): State<Http>, request: Request, next: Next) -> Response {
    if body::is_refused(&request) {
        return next.run(request).await; // nothing is begun
    }
    whole(&http, next.run(request)).await.unwrap_or_else(Problem::into_response)
}

/// See [`to_its_end`].
///
/// # Errors
/// 503 where there are too many of them.
pub(crate) async fn whole<T: Send + 'static>(
    http: &Http,
    begun: impl Future<Output = T> + Send + 'static,
) -> Result<T, Problem> {
    let Ok(place) = http.places().try_acquire_owned() else {
        return Err(Problem::new(ProblemKind::Overloaded, "Too much is under way, and this was not begun."));
    };
    let handled = async move {
        let done = begun.await;
        drop(place);
        done
    };
    match tokio::spawn(handled.in_current_span()).await {
        Ok(done) => Ok(done),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime is ending, and with it whoever could read this.
            Err(_) => Err(Problem::new(ProblemKind::Unavailable, "The server is stopping.")),
        },
    }
}

/// Turns a panic into an answer. Its message stays with the panic hook: it may quote what a client sent.
pub(crate) fn panicked(_: Box<dyn Any + Send>) -> Response {
    tracing::error!("a handler panicked; the panic hook has said where");
    let detail = "The operator finds the cause in the log, under this instance.";
    Problem::new(ProblemKind::Internal, detail).into_response()
}

/// No such path.
pub(crate) async fn not_found() -> Problem {
    Problem::new(ProblemKind::NotFound, "There is no such route.")
}

/// There is, but not with this method; `Allow` names the ones it has.
pub(crate) async fn method_not_allowed() -> Problem {
    Problem::new(ProblemKind::MethodNotAllowed, "The header Allow lists the methods of this route.")
}

/// An error and everything behind it, on one line.
pub(crate) fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

fn time_since(arrived: Option<BootTime>, clock: &dyn Clock) -> Option<Duration> {
    let (BootTime(start), BootTime(end)) = (arrived?, clock.now().boot?);
    Some(Duration::from_nanos(end.saturating_sub(start)))
}

fn log(span: &Span, response: &Response, taken: Option<Duration>) {
    span.record("status", response.status().as_u16());
    if let Some(taken) = taken {
        span.record("duration_ms", u64::try_from(taken.as_millis()).unwrap_or(u64::MAX));
    }
    span.in_scope(|| tracing::info!("answered"));
}

/// A method is whatever a client writes; in the log it is one of those that there are.
fn known_method(method: &Method) -> &'static str {
    const KNOWN: [(Method, &str); 9] = [
        (Method::GET, "GET"),
        (Method::HEAD, "HEAD"),
        (Method::POST, "POST"),
        (Method::PUT, "PUT"),
        (Method::PATCH, "PATCH"),
        (Method::DELETE, "DELETE"),
        (Method::OPTIONS, "OPTIONS"),
        (Method::TRACE, "TRACE"),
        (Method::CONNECT, "CONNECT"),
    ];
    KNOWN.iter().find(|(known, _)| known == method).map_or("other", |(_, name)| name)
}

/// RFC 9112 §3.2: no `Host` in HTTP/1.1, or more than one in any version, "MUST" be answered with 400. A proxy and we could
/// differ over which of two is meant.
///
/// That there is none counts only where a connection's peer is known. A host's tests hand requests to the router without a
/// connection, and those say HTTP/1.1 and no more because that is what a request says that nobody sent.
fn names_its_host(request: &Request) -> bool {
    let served = Peer::of(request.extensions()).is_some();
    match request.headers().get_all(header::HOST).iter().count() {
        0 => !served || request.version() != Version::HTTP_11,
        1 => true,
        2.. => false,
    }
}

/// RFC 9110 §10.1.1.
pub(crate) fn waits_for_continue(headers: &HeaderMap) -> bool {
    headers.get(header::EXPECT).is_some_and(|expected| expected.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
