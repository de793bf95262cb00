//! One's own API keys.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use counterfoil_core::authority::NewKey;
use counterfoil_core::{Abilities, Kind, Timestamp, TokenName};
use serde::Deserialize;
use utoipa::ToSchema;

use super::tokens::{Id, PageQuery, page};
use crate::arrival::Arrival;
use crate::body::{self, NoBody, Query};
use crate::caller::Caller;
use crate::http::Http;
use crate::nested::NestedUnder;
use crate::problem::Problem;
use crate::record::{NewToken, Page};
use crate::rights::{KEYS_READ, KEYS_WRITE};

pub(crate) async fn list(caller: Caller, Query(query): Query<PageQuery>) -> Result<Json<Page>, Problem> {
    caller.may(&KEYS_READ)?;
    Ok(Json(page(&caller, Kind::Key, query).await?))
}

/// An API key to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyBody {
    /// What it shall be called; cut after 100 characters.
    name: Option<String>,
    /// The first instant at which it is dead, in RFC 3339; without it never by time, or with the key that makes it.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// What it may do; without it, what the token that makes it may.
    #[schema(value_type = Option<Vec<String>>, example = json!(["files:read"]))]
    abilities: Option<Abilities>,
}

pub(crate) async fn create(
    State(http): State<Http>,
    caller: Caller,
    prefix: NestedUnder,
    body::Json(body): body::Json<KeyBody>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<NewToken>), Problem> {
    caller.may(&KEYS_WRITE)?;
    let KeyBody { name, expires_at, abilities } = body;
    let key = NewKey { name: name.as_deref().and_then(TokenName::cut), abilities, expires_at };
    // First, so that a failing store leaves no key behind whose secret nobody has seen.
    let (_, account) = caller.authority().me(&caller.who).await?;
    let user = http.user(&caller.who.subject, account.as_ref()).await?;
    let Arrival { source, now, .. } = &caller.arrival;
    let issued = caller.authority().create_key(&caller.who, key, source, *now).await?;
    let key = NewToken::of(issued, user);
    let location = format!("{prefix}/v1/keys/{}", key.id());
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(key)))
}

pub(crate) async fn revoke(caller: Caller, Id(id): Id, _: NoBody) -> Result<StatusCode, Problem> {
    caller.may(&KEYS_WRITE)?;
    let Arrival { source, now, .. } = &caller.arrival;
    caller.authority().revoke(&caller.who, id, Kind::Key, source, *now).await?;
    Ok(StatusCode::NO_CONTENT)
}
