//! Who am I, and with which token?

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::http::Http;
use crate::problem::Problem;
use crate::record::{Record, user};

/// Who is asking.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Me {
    /// The account, with the configured fields; null where the host keeps its users itself.
    #[schema(value_type = Option<Object>, required)]
    user: Option<Map<String, Value>>,
    /// The token that this request carries.
    token: Record,
}

pub(crate) async fn show(State(http): State<Http>, caller: Caller) -> Result<Json<Me>, Problem> {
    let (token, account) = caller.authority().me(&caller.who).await?;
    Ok(Json(Me { user: user(account.as_ref(), &http), token: Record::of(token, &caller) }))
}
