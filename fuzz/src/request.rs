//! Whole requests to every native route, through the real router and a deployment in memory: bodies in JSON and as forms,
//! queries, ids.
//!
//! Every input meets a deployment of its own, so that what is found can be found again.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use counterfoil_core::account::{NewAccount, Role};
use counterfoil_core::authority::{Expiry, TokenOrder};
use counterfoil_core::entropy::PredictableEntropy;
use counterfoil_core::event::Silent;
use counterfoil_core::hashing::OnThisThread;
use counterfoil_core::password::{HashingParams, Password};
use counterfoil_core::token::Metadata;
use counterfoil_core::{
    Abilities, Authority, By, ClientName, Clock, Kind, ManualClock, MemoryStore, Parts, Settings, Timestamp,
};
use counterfoil_http::{HttpSettings, ROUTES, Route};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

/// The password of everybody.
const PASSWORD: &str = "correct horse battery staple";
/// 2026-11-20T11:00:00.000Z
const START: Timestamp = Timestamp::from_millis(1_795_172_400_000);

/// Three lines and a body: `POST /v1/keys` (anything else is some route or other), three bytes that say who asks, in which
/// media type, and about whose things, and a query. In query and body `{id}` and `{other}` stand for the caller's own token
/// and somebody else's, `{user}` and `{client}` for the user and the client that a path would name.
pub fn run(input: &[u8]) {
    let mut parts = input.splitn(4, |&byte| byte == b'\n');
    let mut part = || parts.next().unwrap_or_default();
    let (named, manner, query, body) = (part(), part(), part(), part());
    let asked = Asked {
        route: route(named),
        caller: manner.first().copied().unwrap_or_default(),
        media: manner.get(1).copied().unwrap_or_default(),
        about_own: manner.get(2).is_none_or(|byte| byte % 2 == 0),
        query,
        body,
    };
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            Deployment::new().await.answer(&asked).await;
        });
    });
}

/// By name, so that a route more does not turn the corpus into something else. Not the pages: their answers are for people, and
/// no description holds them to anything.
fn route(named: &[u8]) -> &'static Route {
    static DESCRIBED: LazyLock<Vec<&Route>> =
        LazyLock::new(|| ROUTES.iter().filter(|route| !route.is_page()).collect());
    let is_named = |route: &&&Route| format!("{} {}", route.method, route.path).as_bytes() == named;
    let some = named.iter().map(|&byte| usize::from(byte)).sum::<usize>() % DESCRIBED.len();
    DESCRIBED.iter().find(is_named).unwrap_or(&DESCRIBED[some])
}

/// What an input stands for.
struct Asked<'a> {
    route: &'static Route,
    caller: u8,
    media: u8,
    about_own: bool,
    query: &'a [u8],
    body: &'a [u8],
}

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap_or_else(|error| panic!("no runtime: {error}"));
}

/// The operations of the description, by method and path.
static DESCRIBED: LazyLock<BTreeMap<(String, String), Value>> = LazyLock::new(|| {
    let document = counterfoil_http::openapi();
    let mut described = BTreeMap::new();
    for (path, methods) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            described.insert((method.to_uppercase(), path.clone()), operation.clone());
        }
    }
    described
});

fn description(route: &Route) -> &'static Value {
    &DESCRIBED[&(route.method.to_string(), route.path.to_owned())]
}

struct Deployment {
    router: Router,
    /// Of a user, of another one, of staff, of an administrator, of a service's key, of a key that may nothing.
    tokens: Vec<Held>,
    /// The id of a client.
    client: String,
}

/// A token, and whose it is.
#[derive(Clone, Default)]
struct Held {
    secret: String,
    id: String,
    user: String,
}

impl Deployment {
    async fn new() -> Deployment {
        let clock = Arc::new(ManualClock::at(START));
        let store = Arc::new(MemoryStore::new());
        let parts = Parts {
            tokens: store.clone(),
            accounts: store.clone(),
            audit: Some(store),
            mail: None,
            hashing: Arc::new(OnThisThread),
            entropy: Arc::new(PredictableEntropy::from_seed(1)),
            events: Arc::new(Silent),
            hook: None,
            ring: None,
            settings: Settings { hashing: HashingParams::insecure_for_tests(), ..Settings::default() },
        };
        let authority = Authority::open(parts, clock.now()).await.expect("a store in memory");
        let everything = "* tokens:introspect tokens:revoke".parse::<Abilities>().expect("three of them");
        let mut tokens = Vec::new();
        for (name, role, kind, abilities) in [
            ("ada", Role::User, Kind::Login, Abilities::everything()),
            ("bob", Role::User, Kind::Login, Abilities::everything()),
            ("sue", Role::Staff, Kind::Login, Abilities::everything()),
            ("ann", Role::Admin, Kind::Login, Abilities::everything()),
            ("svc", Role::User, Kind::Key, everything),
            ("kim", Role::User, Kind::Key, Abilities::new([]).expect("none of them")),
        ] {
            let (by, now) = (By::operator(), clock.now());
            let new = NewAccount { role, ..NewAccount::named(name.parse().expect("a name")) };
            let password = Password::new(PASSWORD).expect("a password");
            let account = authority.create_user(new, Some(password), &by, now).await.expect("a user");
            let order = TokenOrder {
                kind,
                subject: account.subject.clone(),
                client: None,
                name: None,
                abilities,
                metadata: Metadata::default(),
                expiry: Expiry::ByPolicy,
            };
            let issued = authority.issue(order, &by, now).await.expect("a token");
            tokens.push(Held {
                secret: issued.secret.expose().to_owned(),
                id: issued.token.id.to_string(),
                user: account.subject.to_string(),
            });
        }
        let client = authority.client(&ClientName::default_client()).await.expect("a client").id.to_string();
        let router = counterfoil_http::router(Arc::new(authority), clock, HttpSettings::default());
        Deployment { router, tokens, client }
    }

    async fn answer(&self, asked: &Asked<'_>) {
        // 0 is nobody, 1 to 6 are those above.
        let who = usize::from(asked.caller.wrapping_sub(b'0')) % (self.tokens.len() + 1);
        let own = who.checked_sub(1).map(|who| self.tokens[who].clone()).unwrap_or_default();
        let other = &self.tokens[who % self.tokens.len()];
        let named = if asked.about_own { &own } else { other };
        let filled = |text: &[u8]| {
            let marks =
                [("{id}", &own.id), ("{other}", &other.id), ("{user}", &named.user), ("{client}", &self.client)];
            marks.iter().fold(text.to_vec(), |text, (mark, id)| replaced(&text, mark.as_bytes(), id.as_bytes()))
        };
        let (query, body) = (filled(asked.query), filled(asked.body));
        let id = match asked.route.path {
            path if path.contains("/users/") => &named.user,
            path if path.contains("/clients/") => &self.client,
            _ => &named.id,
        };
        let mut target = asked.route.path.replace("{id}", id).into_bytes();
        if !query.is_empty() {
            target.push(b'?');
            target.extend(query);
        }
        let mut request = Request::builder().method(&asked.route.method).uri(target.as_slice());
        let media = match asked.media % 4 {
            0 => Some("application/json"),
            1 => Some("application/x-www-form-urlencoded"),
            2 => Some("application/json; charset=utf-8"),
            _ => None,
        };
        if let Some(media) = media {
            request = request.header(header::CONTENT_TYPE, media);
        }
        if !own.secret.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", own.secret));
        }
        // What no server would parse as a request target is not ours to answer.
        let Ok(request) = request.body(Body::from(body.clone())) else { return };
        let answer = self.router.clone().oneshot(request).await.expect("a router never fails");
        let status = answer.status().as_u16();
        let content = answer.headers().get(header::CONTENT_TYPE).map(|value| value.as_bytes().to_vec());
        let said = answer.into_body().collect().await.expect("an answer in memory").to_bytes();
        let line = format!("{} {}", asked.route.method, String::from_utf8_lossy(&target));
        judge(asked.route, &line, status, content.as_deref(), &said);
        let is_json = media.is_some_and(|media| media.starts_with("application/json"));
        let takes_json = description(asked.route)["requestBody"]["content"].get("application/json").is_some();
        if (200..300).contains(&status) && is_json && takes_json {
            is_taken_rightly(&line, &body);
        }
    }
}

/// An answer is one that the description knows, in the form that it says, and never our own fault.
fn judge(route: &Route, asked: &str, status: u16, content: Option<&[u8]>, said: &[u8]) {
    let text = String::from_utf8_lossy(said);
    assert!(status < 500, "{asked} is answered with {status} {text}");
    let documented = &description(route)["responses"];
    let is_documented = documented.get(status.to_string()).is_some();
    assert!(is_documented, "{asked} is answered with {status} {text}, which is not documented");
    if status >= 400 {
        let content = String::from_utf8_lossy(content.unwrap_or_default());
        let is_documented = documented[status.to_string()]["content"].get(&*content).is_some();
        assert!(is_documented, "{asked} is answered with {status} as {content:?}: {text}");
        let problem: Value = serde_json::from_slice(said).expect("a problem is JSON");
        assert_eq!(problem["status"], status, "{asked}: {text}");
    }
}

/// A body that was taken as JSON is one object to any other parser as well.
fn is_taken_rightly(asked: &str, body: &[u8]) {
    let read = serde_json::from_slice::<Value>(body);
    assert!(read.is_ok_and(|value| value.is_object()), "{asked} took {:?}", String::from_utf8_lossy(body));
}

fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut made = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        match rest.strip_prefix(from) {
            Some(after) => {
                made.extend(to);
                rest = after;
            }
            None => {
                made.push(first);
                rest = after;
            }
        }
    }
    made
}
