//! What is counted of requests. Names, labels and units are in `docs/metrics.md`.
//!
//! Counts go to the recorder that the program has installed, if it has: this crate brings none. No label says who: their
//! values come from short lists, or a stranger could fill the memory of whatever collects them.

use axum::http::StatusCode;
use counterfoil_core::{Error, Identity, Refusal};
use metrics::{counter, histogram};

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

/// The token of a request was judged.
pub(crate) fn judged(judgement: &Result<Identity, Error>) {
    let outcome = match judgement {
        Ok(_) => "accepted",
        Err(Error::Refused(refusal)) => of_token(refusal),
        Err(Error::Store(_) | Error::Entropy(_) | Error::Overloaded | Error::Unseal(_) | Error::Hook(_)) => "failed",
    };
    counter!("counterfoil_token_checks_total", "outcome" => outcome).increment(1);
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
