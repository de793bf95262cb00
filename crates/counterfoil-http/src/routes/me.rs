//! Who am I, and with which token?

use axum::Json;
use axum::extract::State;
use counterfoil_core::Account;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::arrival::Arrival;
use crate::body;
use crate::caller::Caller;
use crate::http::Http;
use crate::problem::Problem;
use crate::record::{Record, user};
use crate::rights::ACCOUNT_WRITE;

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
}

impl Me {
    fn of(account: Option<&Account>, token: Record, http: &Http) -> Me {
        let rotation_locked = account.is_some_and(|account| account.rotation_locked);
        Me { user: user(account, http), rotation_locked, token }
    }
}

pub(crate) async fn show(State(http): State<Http>, caller: Caller) -> Result<Json<Me>, Problem> {
    let (token, account) = caller.authority().me(&caller.who).await?;
    Ok(Json(Me::of(account.as_ref(), Record::of(token, &caller), &http)))
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
    Ok(Json(Me::of(Some(&account), Record::of(token, &caller), &http)))
}
