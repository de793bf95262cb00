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

/// The process is up. Touches nothing, so that a store that is away does not get the process restarted.
pub(crate) async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// The store can answer and commit, or could within the last second.
pub(crate) async fn readyz(State(http): State<Http>) -> Result<Json<Health>, Problem> {
    http.ready().await?;
    Ok(Json(Health { status: "ready" }))
}

pub(crate) async fn describe(State(http): State<Http>, prefix: NestedUnder) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], openapi::under(prefix.as_str(), http.description().openapi()))
}
