//! The password of one's account: changing it, and a new one for one that was forgotten.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use counterfoil_core::Email;
use counterfoil_core::authority::ChangeOfPassword;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::admin::users::password;
use crate::arrival::Arrival;
use crate::body::{self, SecretText, parsed};
use crate::caller::Caller;
use crate::http::Http;
use crate::problem::Problem;
use crate::reader::Reader;
use crate::rights::ACCOUNT_WRITE;

/// A new password for an old one.
// Not to be printed, hence without `Debug`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangePasswordBody {
    /// The one that opens the account now.
    #[schema(value_type = String, format = Password)]
    current_password: SecretText,
    /// The one that shall.
    #[schema(value_type = String, format = Password)]
    new_password: SecretText,
    /// Whether API keys end too; false if it is left out. Every other login token ends in any case.
    #[serde(default)]
    keys: bool,
}

pub(crate) async fn change(
    caller: Caller,
    body::Json(body): body::Json<ChangePasswordBody>,
) -> Result<StatusCode, Problem> {
    caller.may(&ACCOUNT_WRITE)?;
    let change = ChangeOfPassword {
        current: password("current_password", body.current_password)?,
        new: password("new_password", body.new_password)?,
        keys_too: body.keys,
    };
    let Arrival { source, now, .. } = &caller.arrival;
    caller.authority().change_own_password(&caller.who, change, source, *now).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whose password was forgotten.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForgotBody {
    /// The address of the account. It may or may not be that of one: the answer is the same.
    email: String,
    /// Where the page behind the link shall go on to: a page that the operator has listed.
    next: Option<String>,
}

pub(crate) async fn forgot(
    State(http): State<Http>,
    arrival: Arrival,
    Reader(languages): Reader,
    body::Json(body): body::Json<ForgotBody>,
) -> Result<StatusCode, Problem> {
    let email: Email = parsed("email", &body.email)?;
    let Arrival { source, now, .. } = &arrival;
    http.authority().ask_reset(&email, languages, body.next.as_deref(), source, *now).await?;
    Ok(StatusCode::ACCEPTED)
}

/// The secret of a mailed link, and a new password.
// Not to be printed, hence without `Debug`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResetBody {
    /// What the link ends with.
    #[schema(value_type = String, format = Password)]
    token: SecretText,
    /// The new password.
    #[schema(value_type = String, format = Password)]
    new_password: SecretText,
}

/// Where to go on to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GoOn {
    /// A page, if one was said when the mail was asked for.
    #[schema(required)]
    next: Option<String>,
}

pub(crate) async fn reset(
    State(http): State<Http>,
    arrival: Arrival,
    body::Json(body): body::Json<ResetBody>,
) -> Result<Json<GoOn>, Problem> {
    let new = password("new_password", body.new_password)?;
    let Arrival { source, now, .. } = &arrival;
    let next = http.authority().reset_password(body.token.as_str(), new, source, *now).await?;
    Ok(Json(GoOn { next }))
}
