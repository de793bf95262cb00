//! An account for oneself.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use counterfoil_core::authority::{NewRegistration, Registered};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::admin::users::{password, personal_name};
use crate::arrival::Arrival;
use crate::body::{self, SecretText, parsed};
use crate::http::Http;
use crate::problem::Problem;
use crate::reader::Reader;

/// What somebody gives who wants an account.
// Not to be printed, hence without `Debug`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RegisterBody {
    /// What they want to type: 1 to 150 characters.
    username: String,
    /// As long as the server asks for, 15 characters unless it says otherwise, to 4,096 bytes; none that an attacker tries
    /// first.
    #[schema(value_type = String, format = Password)]
    password: SecretText,
    /// Where mail reaches them. Whether it has to be there, may be there or must not is the server's to choose.
    email: Option<String>,
    /// Given name.
    #[serde(default)]
    first_name: String,
    /// Family name.
    #[serde(default)]
    last_name: String,
    /// The language they read, as a BCP 47 tag.
    locale: Option<String>,
    /// Where the page behind the mailed link shall go on to: a page that the operator has listed.
    next: Option<String>,
}

/// The account of whoever asks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OwnUser {
    /// The account, with the configured fields; null where the host keeps its users itself.
    #[schema(value_type = Option<Object>, required)]
    user: Option<Map<String, Value>>,
}

/// A mail is on its way, or none is: it is the same answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProofAsked {
    /// Always `proof-asked`: whoever reads the mail of that address finds there what to do.
    status: ProofAskedWord,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum ProofAskedWord {
    ProofAsked,
}

/// What became of it.
pub(crate) enum Made {
    Account(OwnUser),
    Nothing(ProofAsked),
}

impl IntoResponse for Made {
    fn into_response(self) -> Response {
        match self {
            Made::Account(user) => (StatusCode::CREATED, Json(user)).into_response(),
            Made::Nothing(asked) => (StatusCode::ACCEPTED, Json(asked)).into_response(),
        }
    }
}

pub(crate) async fn register(
    State(http): State<Http>,
    arrival: Arrival,
    Reader(languages): Reader,
    body::Json(body): body::Json<RegisterBody>,
) -> Result<Made, Problem> {
    let new = NewRegistration {
        username: parsed("username", &body.username)?,
        password: password("password", body.password)?,
        email: body.email.as_deref().map(|text| parsed("email", text)).transpose()?,
        first_name: personal_name("first_name", body.first_name)?,
        last_name: personal_name("last_name", body.last_name)?,
        locale: body.locale,
        languages,
        next: body.next,
    };
    match http.authority().register(new, &arrival.source, arrival.now).await? {
        Registered::Account(account) => {
            let user = http.user(&account.subject, Some(&account)).await?;
            Ok(Made::Account(OwnUser { user }))
        }
        Registered::ProofAsked => Ok(Made::Nothing(ProofAsked { status: ProofAskedWord::ProofAsked })),
    }
}
