//! For whoever runs it: is it up, can it answer, what does it offer?

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::Http;
use crate::nested::NestedUnder;
use crate::openapi;
use crate::problem::Problem;

/// How it is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok` or `ready`.
    status: &'static str,
}

/// Whether it may be sent requests, and how far it follows the store.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// `ready`.
    status: &'static str,
    /// How long ago, in milliseconds, the store was asked last what has changed and has answered: what was ended before that is
    /// refused here. `null` while each token is asked of the store.
    behind_ms: Option<u64>,
}

/// The process is up. Touches nothing, so that a store that is away does not get the process restarted.
pub(crate) async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// The store can answer and commit, or could within the last second.
pub(crate) async fn readyz(State(http): State<Http>) -> Result<Json<Readiness>, Problem> {
    http.ready().await?;
    let recalling = http.authority().recalling(http.clock().now());
    Ok(Json(Readiness { status: "ready", behind_ms: recalling.map(|recalling| recalling.age_millis) }))
}

pub(crate) async fn describe(State(http): State<Http>, prefix: NestedUnder) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], openapi::under(prefix.as_str(), http.description().openapi()))
}
