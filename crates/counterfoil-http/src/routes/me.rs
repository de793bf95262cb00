//! Who am I, and with which token?

use axum::Json;
use axum::extract::State;
use counterfoil_core::{Account, Token};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::arrival::Arrival;
use crate::body::{self, SecretText};
use crate::browser::Forgetting;
use crate::caller::Caller;
use crate::credentials::Place;
use crate::http::Http;
use crate::problem::Problem;
use crate::record::Record;
use crate::rights::ACCOUNT_WRITE;
use crate::routes::admin::export::Export;
use crate::routes::admin::users::password;

/// Who is asking.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Me {
    /// The account, with the configured fields; null where the host keeps its users itself.
    #[schema(value_type = Option<Object>, required)]
    user: Option<Map<String, Value>>,
    /// Whether the owner has barred their tokens from changing their secret.
    rotation_locked: bool,
    /// The token that this request carries.
    token: Record,
    /// What a page sends as `X-CSRF-Token`, where the token is in a cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    csrf_token: Option<String>,
}

impl Me {
    async fn of(account: Option<&Account>, token: Token, caller: &Caller, http: &Http) -> Result<Me, Problem> {
        Ok(Me {
            user: http.user(&token.subject, account).await?,
            rotation_locked: account.is_some_and(|account| account.rotation_locked),
            token: Record::of(token, caller),
            csrf_token: match caller.place() {
                Place::Cookie => Some(http.authority().csrf_token(&caller.who)),
                Place::Authorization | Place::ApiKeyHeader => None,
            },
        })
    }
}

pub(crate) async fn show(State(http): State<Http>, caller: Caller) -> Result<Json<Me>, Problem> {
    let (token, account) = caller.authority().me(&caller.who).await?;
    Ok(Json(Me::of(account.as_ref(), token, &caller, &http).await?))
}

/// What an owner chooses for their account.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MeBody {
    /// Whether no token of this account may change its secret.
    rotation_locked: bool,
}

pub(crate) async fn change(
    State(http): State<Http>,
    caller: Caller,
    body::Json(body): body::Json<MeBody>,
) -> Result<Json<Me>, Problem> {
    caller.may(&ACCOUNT_WRITE)?;
    let (token, _) = caller.authority().me(&caller.who).await?;
    let Arrival { source, now, .. } = &caller.arrival;
    let account = caller.authority().lock_rotation(&caller.who, body.rotation_locked, source, *now).await?;
    Ok(Json(Me::of(Some(&account), token, &caller, &http).await?))
}

/// The password of one's account, asked again.
// Not to be printed, hence without `Debug`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasswordBody {
    /// It opens the account.
    #[schema(value_type = String, format = Password)]
    password: SecretText,
}

pub(crate) async fn export(
    caller: Caller,
    body::Json(body): body::Json<PasswordBody>,
) -> Result<Json<Export>, Problem> {
    caller.may(&ACCOUNT_WRITE)?;
    let password = password("password", body.password)?;
    let Arrival { source, now, .. } = &caller.arrival;
    let export = caller.authority().export_own(&caller.who, password, source, *now).await?;
    Ok(Json(Export::of(export, &caller)))
}

pub(crate) async fn delete(
    State(http): State<Http>,
    caller: Caller,
    body::Json(body): body::Json<PasswordBody>,
) -> Result<Forgetting, Problem> {
    caller.may(&ACCOUNT_WRITE)?;
    let password = password("password", body.password)?;
    let Arrival { source, now, .. } = &caller.arrival;
    caller.authority().delete_own(&caller.who, password, source, *now).await?;
    Ok(Forgetting::by(&caller, &http))
}
