//! The site that djforge was recorded on: its demo's views, and the window on how long tokens live.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::Method;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use counterfoil::{Account, AccountQuery, Counterfoil, MemoryStore, TokenFilter, TokenQuery, TokenStore as _};
use counterfoil_core::SecretToken;
use counterfoil_core::secret::{Candidates, DigestScheme};
use counterfoil_core::token::Standing;
use counterfoil_http::Mounted;
use serde_json::{Value, json};

use super::views::failed;

#[derive(Debug, Clone)]
struct Site {
    counterfoil: Counterfoil,
    store: Arc<MemoryStore>,
}

/// Its views at the paths where they were.
pub(super) fn views(counterfoil: &Counterfoil, store: Arc<MemoryStore>, mounted: &Mounted) -> Router {
    let mock = mounted.view("Mock", &[Method::GET, Method::POST, Method::PUT]);
    let root = mounted.view("Api Root", &[Method::GET]).open();
    let root = root.description("The default basic root view for DefaultRouter");
    Router::new()
        .route("/token/", mock.around(get(abc).post(abc).put(abc)))
        .route("/users/", mounted.view("User List", &[Method::GET]).around(get(users)))
        .route("/users/{pk}/", mounted.view("User Instance", &[Method::GET]).around(get(user)))
        .route("/", root.around(get(api_root)))
        .route("/_lab/ttl/", mounted.view("Times To Live", &[Method::POST]).open().around(post(times_to_live)))
        .route("/token", mounted.missing_slash())
        .route("/users", mounted.missing_slash())
        .route("/users/{pk}", mounted.missing_slash())
        .route("/_lab/ttl", mounted.missing_slash())
        .with_state(Site { counterfoil: counterfoil.clone(), store })
}

async fn abc() -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"))], "abc").into_response()
}

fn host(headers: &HeaderMap) -> &str {
    headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()
}

async fn api_root(headers: HeaderMap) -> Json<Value> {
    Json(json!({"users": format!("http://{}/users/", host(&headers))}))
}

/// In the order in which the demo shows them: the last one made comes first.
async fn users(State(site): State<Site>, headers: HeaderMap) -> Response {
    let query = AccountQuery { limit: 1_000, ..AccountQuery::default() };
    match site.counterfoil.authority().users(&query).await {
        Ok(mut users) => {
            users.sort_by_key(|user| std::cmp::Reverse(user.subject.as_str().parse::<u64>().unwrap_or_default()));
            Written(users.iter().map(|user| shown(user, host(&headers))).collect::<Vec<_>>().join(",")).listed()
        }
        Err(error) => failed(&error),
    }
}

async fn user(State(site): State<Site>, Path(pk): Path<String>, headers: HeaderMap) -> Response {
    let account = match pk.parse() {
        Ok(subject) => site.counterfoil.authority().account_of(&subject).await,
        Err(_) => Ok(None),
    };
    match account {
        Ok(Some(account)) => Written(shown(&account, host(&headers))).json(),
        Ok(None) => {
            (StatusCode::NOT_FOUND, Json(json!({"detail": "No User matches the given query."}))).into_response()
        }
        Err(error) => failed(&error),
    }
}

/// JSON whose keys are in an order of their own.
struct Written(String);

impl Written {
    fn json(self) -> Response {
        ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], self.0).into_response()
    }

    fn listed(self) -> Response {
        Written(format!("[{}]", self.0)).json()
    }
}

fn shown(user: &Account, host: &str) -> String {
    let url = json!(format!("http://{host}/users/{}/", user.subject.as_str()));
    let email = json!(user.email.as_ref().map(|email| email.as_str()).unwrap_or_default());
    format!(r#"{{"url":{url},"username":{},"email":{email},"groups":[]}}"#, json!(user.username.as_str()))
}

/// For how long the token of the body lives, and how many its owner has.
async fn times_to_live(State(site): State<Site>, Json(body): Json<Value>) -> Response {
    let text = body.get("token").and_then(Value::as_str).unwrap_or_default();
    match site.times_to_live(text).await {
        Ok(Times { of_token, of_user, devices }) => {
            Written(format!(r#"{{"hash_ttl":{of_token},"user_ttl":{of_user},"devices":{devices}}}"#)).json()
        }
        Err(error) => failed(&error),
    }
}

/// As Redis tells them: seconds, null for what has no end, 0 for what is not there.
struct Times {
    of_token: Value,
    of_user: Value,
    devices: usize,
}

impl Site {
    async fn times_to_live(&self, text: &str) -> Result<Times, counterfoil::Error> {
        // What the last request has moved on is written down a little later.
        let now = self.counterfoil.clock().now();
        self.counterfoil.authority().flush(now).await?;
        let digest = SecretToken::from_text(text).digest();
        let mut imported = vec![(DigestScheme::PlainText, digest)];
        let hash = text.split_once(":hash:").and_then(|(_, hash)| DigestScheme::of_djforge(hash));
        imported.extend(hash.map(|digest| (DigestScheme::Djforge, digest)));
        let mut found = self.store.find(&Candidates::Native(digest)).await?;
        if found.is_none() {
            found = self.store.find(&Candidates::Imported(imported)).await?;
        }
        let Some(found) = found else {
            return Ok(Times { of_token: json!(0), of_user: json!(0), devices: 0 });
        };
        let filter = TokenFilter::of(found.subject.clone());
        let all = TokenQuery { filter, live_at: None, after: 0, limit: 1_000 };
        let mut tokens = self.store.list(&all).await?;
        // Those of an account that is disabled are kept, and count here.
        tokens.retain(|token| token.standing(now.wall) == Standing::Live);
        let left = |end: Option<counterfoil::Timestamp>| {
            end.map_or(Value::Null, |end| json!(((end.millis() - now.wall.millis()).max(0) + 999) / 1_000))
        };
        let live = tokens.iter().any(|token| token.id == found.id);
        // The package's list of a user's tokens ends a while after the last login; here there is none, and that login's token tells.
        let last = tokens.iter().max_by_key(|token| token.number);
        let of_user = last.map_or(json!(0), |last| left(last.expires_at));
        Ok(Times { of_token: if live { left(found.expires_at) } else { json!(0) }, of_user, devices: tokens.len() })
    }
}
