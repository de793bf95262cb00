//! In and out: log in, log out here, log out everywhere.

use axum::extract::State;
use counterfoil_core::authority::LoggedIn;
use counterfoil_core::password::Password;
use counterfoil_core::{Account, Identity, Login, Refusal, SecretToken, TokenName};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::arrival::Arrival;
use crate::body::{JsonOrForm, NoBody, SecretText};
use crate::browser::{Browser, Forgetting, Leaving};
use crate::caller::Caller;
use crate::http::Http;
use crate::problem::Problem;
use crate::record::{NewToken, Shown};
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
    /// Whether the token shall go into a cookie and not into the answer: for a page of the same origin, where the server
    /// keeps tokens in cookies.
    #[serde(default)]
    cookie: bool,
}

pub(crate) async fn login(
    State(http): State<Http>,
    arrival: Arrival,
    browser: Browser,
    JsonOrForm(body): JsonOrForm<LoginBody>,
) -> Result<Shown, Problem> {
    let LoginBody { username, password, client, name, cookie } = body;
    let kept_before = if cookie { Some(browser.may_keep(&http)?) } else { None };
    let login = Login {
        username,
        password: Password::new(password.into_bytes()).map_err(|error| Refusal::invalid("password", error))?,
        // A text that no client can have is a client that there is not.
        client: client.map(|name| name.parse().map_err(|_| Refusal::ClientUnknown)).transpose()?,
        name: name.as_deref().and_then(TokenName::cut),
    };
    let LoggedIn { issued, account } = http.authority().login(login, &arrival.source, arrival.now).await?;
    let new = Identity::from(&issued.token);
    let user = match conclude(&http, &new, &account, kept_before.as_ref().and_then(Option::as_ref), &arrival).await {
        Ok(user) => user,
        Err(problem) => {
            // Nobody will hold it. One that was handed out again is somebody's already.
            if !issued.repeated {
                http.authority().logout(&new, &arrival.source, arrival.now).await.ok();
            }
            return Err(problem);
        }
    };
    let token = NewToken::of(issued, user);
    Ok(match &http.settings().cookies {
        Some(cookies) if cookie => token.into_cookie(cookies, http.authority().csrf_token(&new), arrival.now.wall),
        Some(_) | None => token.into(),
    })
}

/// What remains to be done for a login: what its answer says of the user, and the end of the session that the browser had
/// before (ASVS 7.2.4).
async fn conclude(
    http: &Http,
    new: &Identity,
    account: &Account,
    kept_before: Option<&SecretToken>,
    arrival: &Arrival,
) -> Result<Option<Map<String, Value>>, Problem> {
    let user = http.user(&new.subject, Some(account)).await?;
    if let Some(secret) = kept_before {
        let Arrival { source, now, .. } = arrival;
        http.authority().end_session_before(secret.expose(), new.id, source, *now).await?;
    }
    Ok(user)
}

/// Ends the token and has a browser forget it; also one that is dead already, which its page could not get rid of.
pub(crate) async fn logout(State(http): State<Http>, leaving: Leaving, _: NoBody) -> Result<Forgetting, Problem> {
    match leaving {
        Leaving::Alive(caller) => {
            caller.authority().logout(&caller.who, &caller.arrival.source, caller.arrival.now).await?;
            Ok(Forgetting::by(&caller, &http))
        }
        Leaving::Dead(forgetting) => Ok(forgetting),
    }
}

pub(crate) async fn logout_all(State(http): State<Http>, caller: Caller, _: NoBody) -> Result<Forgetting, Problem> {
    caller.may(&TOKENS_WRITE)?;
    caller.authority().logout_all(&caller.who, &caller.arrival.source, caller.arrival.now).await?;
    Ok(Forgetting::by(&caller, &http))
}
