//! What is counted of requests. Names, labels and units are in `docs/metrics.md`.
//!
//! Counts go to the recorder that the program has installed, if it has: this crate brings none. No label says who: their
//! values come from short lists, or a stranger could fill the memory of whatever collects them.

use std::fmt;
use std::sync::OnceLock;

use axum::http::StatusCode;
use counterfoil_core::{Error, Identity, Refusal};
use metrics::{Counter, counter, histogram};

use crate::problem::Problem;

/// A request was answered. `route` is its template, never its path.
pub(crate) fn answered(method: &'static str, route: &str, status: StatusCode, seconds: Option<f64>) {
    let route = route.to_owned();
    if let Some(seconds) = seconds {
        histogram!("counterfoil_http_request_duration_seconds", "method" => method, "route" => route.clone())
            .record(seconds);
    }
    let status = match status.as_u16() {
        ..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        500.. => "5xx",
    };
    counter!("counterfoil_http_requests_total", "method" => method, "route" => route, "status" => status).increment(1);
}

/// A request was refused or could not be answered.
pub(crate) fn refused(problem: &Problem) {
    counter!("counterfoil_problems_total", "type" => problem.kind().slug()).increment(1);
    match problem.cause() {
        Some(Error::Store(_)) => counter!("counterfoil_store_errors_total", "work" => "request").increment(1),
        Some(Error::Refused(_) | Error::Entropy(_) | Error::Overloaded | Error::Unseal(_) | Error::Hook(_)) | None => {}
    }
}

/// Tokens of requests that were judged.
#[derive(Default)]
pub(crate) struct Checks {
    /// Looked up once: finding a counter by its name costs a request more than counting. Hence the recorder has to be there
    /// before the first request.
    accepted: OnceLock<Counter>,
}

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Checks")
    }
}

const CHECKS: &str = "counterfoil_token_checks_total";

impl Checks {
    /// One more.
    pub(crate) fn judged(&self, judgement: &Result<Identity, Error>) {
        match judgement {
            Ok(_) => self.accepted.get_or_init(|| counter!(CHECKS, "outcome" => "accepted")).increment(1),
            Err(error) => refused_or_failed(error),
        }
    }
}

fn refused_or_failed(error: &Error) {
    let outcome = match error {
        Error::Refused(refusal) => of_token(refusal),
        Error::Store(_) | Error::Entropy(_) | Error::Overloaded | Error::Unseal(_) | Error::Hook(_) => "failed",
    };
    counter!(CHECKS, "outcome" => outcome).increment(1);
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what else there is to refuse is not about a token")]
fn of_token(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::TokenUnknown => "unknown",
        Refusal::TokenExpired => "expired",
        Refusal::TokenRevoked => "revoked",
        Refusal::SubjectInactive => "inactive",
        Refusal::Throttled(_) | Refusal::LimitHit(..) => "throttled",
        _ => "refused",
    }
}
