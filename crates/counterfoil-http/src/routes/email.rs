//! The address of one's account: confirming it, changing it, taking that back.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use counterfoil_core::authority::{ChangeOfAddress, Proof};
use counterfoil_core::{Email, Refusal};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::admin::users::password;
use crate::arrival::Arrival;
use crate::body::{self, SecretText, parsed};
use crate::caller::Caller;
use crate::http::Http;
use crate::problem::{Problem, ProblemKind};
use crate::reader::Reader;
use crate::rights::ACCOUNT_WRITE;

/// The secret of a mailed link, and what shows that the account is one's own.
// Not to be printed, hence without `Debug`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfirmBody {
    /// What the link ends with.
    #[schema(value_type = String, format = Password)]
    token: SecretText,
    /// The password of the account, or of the registration. Without one the request has to carry a live login token of the
    /// account.
    #[schema(value_type = Option<String>, format = Password)]
    password: Option<SecretText>,
}

/// What a link has done.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConfirmedUser {
    /// The account, with the configured fields; null where the host keeps its users itself.
    #[schema(value_type = Option<Object>, required)]
    user: Option<Map<String, Value>>,
    /// Where to go on to, if that was said when the mail was asked for.
    #[schema(required)]
    next: Option<String>,
}

pub(crate) async fn confirm(
    State(http): State<Http>,
    arrival: Arrival,
    caller: Result<Caller, Problem>,
    body::Json(body): body::Json<ConfirmBody>,
) -> Result<Json<ConfirmedUser>, Problem> {
    let holder;
    let proof = match body.password {
        Some(text) => Proof::Password(password("password", text)?),
        None => {
            const WANTED: &str =
                "Send the password of this account, or a live login token of it in the header Authorization.";
            holder = holder_or(caller, || Problem::new(ProblemKind::WrongPassword, WANTED))?;
            Proof::Holder(&holder.who)
        }
    };
    let Arrival { source, now, .. } = &arrival;
    let confirmed = http.authority().confirm_email(body.token.as_str(), proof, source, *now).await?;
    let account = confirmed.account;
    let user = http.user(&account.subject, Some(&account)).await?;
    Ok(Json(ConfirmedUser { user, next: confirmed.next }))
}

/// Whoever asks with a token that may change the account; `missing` where there is none.
fn holder_or(caller: Result<Caller, Problem>, missing: impl FnOnce() -> Problem) -> Result<Caller, Problem> {
    let caller = caller.map_err(|problem| match problem.kind() == ProblemKind::TokenMissing {
        true => missing(),
        false => problem,
    })?;
    caller.may(&ACCOUNT_WRITE)?;
    Ok(caller)
}

/// Whose address another link is to go to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResendBody {
    /// Which address. Without one the request has to carry a live token, and it is the address of that account.
    email: Option<String>,
    /// Where the page behind the link shall go on to: a page that the operator has listed.
    next: Option<String>,
}

pub(crate) async fn resend(
    State(http): State<Http>,
    arrival: Arrival,
    caller: Result<Caller, Problem>,
    Reader(languages): Reader,
    body::Json(body): body::Json<ResendBody>,
) -> Result<StatusCode, Problem> {
    let Arrival { source, now, .. } = &arrival;
    let next = body.next.as_deref();
    match body.email {
        Some(text) => {
            let email: Email = parsed("email", &text)?;
            http.authority().ask_confirmation_by_address(&email, languages, next, source, *now).await?;
        }
        None => {
            let nobody = || Refusal::invalid("email", "is needed where no token is sent").into();
            let holder = holder_or(caller, nobody)?;
            http.authority().ask_confirmation(&holder.who, languages, next, source, *now).await?;
        }
    }
    Ok(StatusCode::ACCEPTED)
}

/// Another address for one's account.
// Not to be printed, hence without `Debug`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeEmailBody {
    /// Which. Nothing changes before the link that is mailed there is used.
    email: String,
    /// The password of the account.
    #[schema(value_type = String, format = Password)]
    password: SecretText,
    /// Where the page behind the link shall go on to: a page that the operator has listed.
    next: Option<String>,
}

pub(crate) async fn change(
    caller: Caller,
    Reader(languages): Reader,
    body::Json(body): body::Json<ChangeEmailBody>,
) -> Result<StatusCode, Problem> {
    caller.may(&ACCOUNT_WRITE)?;
    let wanted = ChangeOfAddress {
        email: parsed("email", &body.email)?,
        password: password("password", body.password)?,
        languages,
        next: body.next,
    };
    let Arrival { source, now, .. } = &caller.arrival;
    caller.authority().ask_email_change(&caller.who, wanted, source, *now).await?;
    Ok(StatusCode::ACCEPTED)
}

/// The secret of the link that the old address got.
// Not to be printed, hence without `Debug`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UndoBody {
    /// What the link ends with.
    #[schema(value_type = String, format = Password)]
    token: SecretText,
}

pub(crate) async fn undo(
    State(http): State<Http>,
    arrival: Arrival,
    body::Json(body): body::Json<UndoBody>,
) -> Result<StatusCode, Problem> {
    http.authority().undo_email_change(body.token.as_str(), &arrival.source, arrival.now).await?;
    Ok(StatusCode::NO_CONTENT)
}
