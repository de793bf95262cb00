//! In and out: log in, log out here, log out everywhere.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use counterfoil_core::password::Password;
use counterfoil_core::{Login, Refusal, TokenName};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::arrival::Arrival;
use crate::body::{JsonOrForm, NoBody, SecretText};
use crate::caller::Caller;
use crate::http::Http;
use crate::problem::Problem;
use crate::record::NewToken;
use crate::rights::TOKENS_WRITE;

/// What someone types to log in.
// Not to be printed, hence without `Debug`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoginBody {
    /// A user name or a confirmed e-mail address.
    username: String,
    /// The password, byte for byte; at most 4,096 bytes.
    #[schema(value_type = String, format = Password)]
    password: SecretText,
    /// The registered application; without it the one named `default`.
    client: Option<String>,
    /// What the new token shall be called, such as the name of the device; cut after 100 characters.
    name: Option<String>,
}

pub(crate) async fn login(
    State(http): State<Http>,
    arrival: Arrival,
    JsonOrForm(body): JsonOrForm<LoginBody>,
) -> Result<Json<NewToken>, Problem> {
    let LoginBody { username, password, client, name } = body;
    let login = Login {
        username,
        password: Password::new(password.into_bytes()).map_err(|error| Refusal::invalid("password", error))?,
        // A text that no client can have is a client that there is not.
        client: client.map(|name| name.parse().map_err(|_| Refusal::ClientUnknown)).transpose()?,
        name: name.as_deref().and_then(TokenName::cut),
    };
    let logged_in = http.authority().login(login, &arrival.source, arrival.now).await?;
    Ok(Json(NewToken::of(logged_in.issued, Some(&logged_in.account), &http)))
}

pub(crate) async fn logout(caller: Caller, _: NoBody) -> Result<StatusCode, Problem> {
    caller.authority().logout(&caller.who, &caller.arrival.source, caller.arrival.now).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn logout_all(caller: Caller, _: NoBody) -> Result<StatusCode, Problem> {
    caller.may(&TOKENS_WRITE)?;
    caller.authority().logout_all(&caller.who, &caller.arrival.source, caller.arrival.now).await?;
    Ok(StatusCode::NO_CONTENT)
}
