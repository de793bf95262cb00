//! What services ask about tokens: RFC 7662 and RFC 7009.

use axum::Json;
use axum::http::StatusCode;
use counterfoil_core::authority::Introspected;
use counterfoil_core::{ClientName, SubjectId, Timestamp, TokenId, Username};
use serde::Serialize;
use utoipa::ToSchema;

use crate::arrival::Arrival;
use crate::body::TokenForm;
use crate::caller::Caller;
use crate::problem::Problem;
use crate::record::KindWord;

/// What a service is told of a token (RFC 7662 §2.2). Where it is not live, `active` is all that is said.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Introspection {
    /// Whether the token is live.
    active: bool,
    /// What it may do, with spaces in between.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// The name of the client it was issued on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    client_id: Option<ClientName>,
    /// What its user is called; not there where the host keeps its users itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    username: Option<Username>,
    /// Always `Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<&'static str>,
    /// When it is dead, in seconds since 1970; not there where it never is by time.
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    /// When it was issued, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<i64>,
    /// The id of its user.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    sub: Option<SubjectId>,
    /// Its public name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    jti: Option<TokenId>,
    /// A signed-in device or an API key.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<KindWord>,
}

impl From<Introspected> for Introspection {
    fn from(token: Introspected) -> Introspection {
        Introspection {
            active: true,
            scope: Some(token.abilities.to_string()),
            client_id: Some(token.client),
            username: token.username,
            token_type: Some("Bearer"),
            // Rounded down: whoever goes by it never accepts a token for longer than we do.
            exp: token.expires_at.map(seconds),
            iat: Some(seconds(token.issued_at)),
            sub: Some(token.subject),
            jti: Some(token.id),
            kind: Some(token.kind.into()),
        }
    }
}

fn seconds(at: Timestamp) -> i64 {
    at.millis().div_euclid(1_000)
}

/// Asks the store every time, whatever `Cache-Control` says: there is nothing yet that a `no-cache` would have to pass by.
pub(crate) async fn introspect(caller: Caller, TokenForm(token): TokenForm) -> Result<Json<Introspection>, Problem> {
    let Arrival { source, now, .. } = &caller.arrival;
    let live = caller.authority().introspect(&caller.who, token.expose(), source, *now).await?;
    Ok(Json(live.map(Introspection::from).unwrap_or_default()))
}

pub(crate) async fn revoke(caller: Caller, TokenForm(token): TokenForm) -> Result<StatusCode, Problem> {
    let Arrival { source, now, .. } = &caller.arrival;
    caller.authority().revoke_text(&caller.who, token.expose(), source, *now).await?;
    Ok(StatusCode::OK)
}
