//! A site that had a package and has its dialect now.

use axum::Json;
use axum::Router;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use counterfoil_core::account::{NewAccount, Role};
use counterfoil_core::client::Lifetime;
use counterfoil_core::entropy::PredictableEntropy;
use counterfoil_core::password::Password;
use counterfoil_core::seal::KeyRing;
use counterfoil_core::secret::DigestScheme;
use counterfoil_core::store::{Issue, IssueOutcome, Warrant};
use counterfoil_core::token::{Metadata, Source};
use counterfoil_core::{Abilities, By, Clock, Kind, Policy, Reissue, Timestamp, TokenId, TokenStore};
use counterfoil_http::{Authenticated, Dialect, DialectName, HostView, HttpSettings, Mounted, Problem, ProblemKind};
use serde_json::{Value, json};

use crate::world::{Actor, TestServer};

/// A deployment, and a dialect on it with a view of the host's own.
pub(crate) struct Site {
    pub(crate) server: TestServer,
    pub(crate) mounted: Mounted,
    pub(crate) app: Router,
}

impl Site {
    /// With these users and imported tokens, as the recorded cases have them.
    pub(crate) async fn with(name: DialectName, path: &str, settings: &Value, setup: &Value) -> Site {
        let server = TestServer::with(HttpSettings::default(), Router::new()).await.restarted_with(Some(ring())).await;
        let Value::Object(settings) = settings else { panic!("settings are an object") };
        let dialect = Dialect::from_settings(name, settings).unwrap();
        let mounted = server.http.dialect(dialect.clone());
        mounted.prepare().await.unwrap();
        for user in setup["users"].as_array().unwrap() {
            add_user(&server, user).await;
        }
        for client in setup["clients"].as_array().into_iter().flatten() {
            add_client(&server, client).await;
        }
        for token in setup["tokens"].as_array().into_iter().flatten() {
            import(&server, &mounted, token).await;
        }
        for user in setup["users"].as_array().unwrap() {
            if user["is_active"] == json!(false) {
                let subject = server.authority.user(user["username"].as_str().unwrap()).await.unwrap().subject;
                server.authority.disable_user(&subject, &By::operator(), server.clock.now()).await.unwrap();
            }
        }
        // Only a process that starts asks which kinds of imported tokens there are.
        let server = server.restarted_with(Some(ring())).await;
        let mounted = server.http.dialect(dialect);
        mounted.prepare().await.unwrap();
        let app = Router::new()
            .merge(mounted.routes_at(path))
            .route("/me/", mounted.view("Me", &[Method::GET, Method::POST]).around(get(me).post(me)))
            .route("/me", mounted.missing_slash())
            .route("/open/", mounted.view("Open", &[Method::GET]).open().around(get(greet)))
            .route("/gone/", mounted.view("Gone", &[Method::DELETE]).around(delete(gone)))
            .route("/broken/", mounted.view("Broken", &[Method::POST]).around(post(broken)))
            .route("/greet", get(greet))
            .fallback(mounted.fallback());
        let app = if name == DialectName::Durin { with_views_of_durin(app, &mounted) } else { app };
        let app = app.layer(mounted.middleware());
        Site { server, mounted, app }
    }

    /// One with john, and nothing imported.
    pub(crate) async fn of_john(name: DialectName, settings: Value) -> Site {
        let clients = match name {
            DialectName::Durin => json!([
                {"name": "web", "token_ttl": "1 00:00:00", "throttle_rate": ""},
                {"name": "api", "token_ttl": "365 00:00:00", "throttle_rate": ""},
                {"name": "week", "token_ttl": "7 00:00:00", "throttle_rate": "2/m"},
            ]),
            DialectName::Authtoken
            | DialectName::Knox
            | DialectName::Multitoken
            | DialectName::Advanced
            | DialectName::Djforge
            | DialectName::RestAuthtoken => json!([]),
        };
        let setup = json!({"users": [{"username": "john", "password": "foobar123"}], "clients": clients});
        let path = match name {
            DialectName::Authtoken => "/api-token-auth/",
            DialectName::Durin | DialectName::Knox | DialectName::Multitoken => "/api/auth/",
            DialectName::Advanced | DialectName::RestAuthtoken => "/auth/",
            DialectName::Djforge => "/",
        };
        Site::with(name, path, &settings, &setup).await
    }

    pub(crate) fn stranger(&self) -> Actor {
        self.server.anonymous().facing(&self.app)
    }

    /// John, who has just logged in at this path.
    pub(crate) async fn john(&self, login: &str) -> Actor {
        let answer = self.stranger().form(login, "username=john&password=foobar123").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        self.stranger().with(header::AUTHORIZATION, format!("Token {}", answer.json()["token"].as_str().unwrap()))
    }
}

pub(crate) fn ring() -> KeyRing {
    KeyRing::generate(&PredictableEntropy::from_seed(7)).unwrap()
}

async fn add_user(server: &TestServer, user: &Value) {
    let new = NewAccount::named(user["username"].as_str().unwrap().parse().unwrap());
    let password = user["password"].as_str().map(|password| Password::new(password).unwrap());
    let now = server.clock.now();
    let account = server.authority.create_user(new, password, &By::operator(), now).await.unwrap();
    if user["is_superuser"] == json!(true) {
        server.authority.set_role(&account.subject, Role::Admin, &By::operator(), now).await.unwrap();
    }
}

/// What the recorded site has besides, with durin's permissions and throttle.
fn with_views_of_durin(app: Router, mounted: &Mounted) -> Router {
    let (web, cli) = (|| ["web".parse().unwrap()], || ["cli".parse().unwrap()]);
    app.route("/only-web/", me_of(mounted).only_clients(web()).around(get(me).post(me)))
        .route("/only-web-bare/", me_of(mounted).only_clients(web()).around(get(me).post(me)))
        .route("/not-cli/", me_of(mounted).except_clients(cli()).around(get(me).post(me)))
        .route("/not-cli-bare/", me_of(mounted).except_clients(cli()).around(get(me).post(me)))
        .route("/throttled/", me_of(mounted).throttled().around(get(me).post(me)))
        .route("/throttled-open/", me_of(mounted).open().throttled().around(get(fine).post(fine)))
}

fn me_of(mounted: &Mounted) -> HostView {
    mounted.view("Me", &[Method::GET, Method::POST])
}

/// A client as durin has them: one token for each user.
async fn add_client(server: &TestServer, client: &Value) {
    let (days, clock) = client["token_ttl"].as_str().unwrap().split_once(' ').unwrap();
    let hours: u64 = clock.split_once(':').unwrap().0.parse().unwrap();
    // Ours live for a second at least.
    let ttl = Lifetime::from_seconds((days.parse::<u64>().unwrap() * 86_400 + hours * 3_600).max(1)).unwrap();
    let throttle = client["throttle_rate"].as_str().filter(|rate| !rate.is_empty()).map(|rate| rate.parse().unwrap());
    let policy = Policy { ttl: Some(ttl), reissue: Reissue::Same, throttle, ..Policy::default() };
    server.client(client["name"].as_str().unwrap(), policy).await;
}

/// A token that the package kept as it is, carried over.
async fn import(server: &TestServer, mounted: &Mounted, token: &Value) {
    let offset = |key: &str| {
        let seconds = token[key].as_i64()?;
        Some(Timestamp::from_millis(server.clock.now().wall.millis() + seconds * 1_000))
    };
    let issued_at = offset("created_offset_s").unwrap_or(server.clock.now().wall);
    let account = server.authority.user(token["user"].as_str().unwrap()).await.unwrap();
    let client = match token["client"].as_str() {
        Some(name) => name.parse().unwrap(),
        None => mounted.dialect().client().unwrap().name.clone(),
    };
    let client = server.authority.client(&client).await.unwrap();
    let seed = token["label"].to_string().bytes().fold(1, |seed, byte| seed * 31 % 1_000_003 + u64::from(byte));
    let issue = Issue {
        id: TokenId::generate(issued_at, &PredictableEntropy::from_seed(seed)).unwrap(),
        kind: Kind::Login,
        subject: account.subject,
        client: client.id,
        client_version: client.version,
        warrant: Warrant::Operator,
        name: None,
        abilities: Abilities::everything(),
        metadata: Metadata::default(),
        expires_at: offset("expiry_offset_s"),
        digest: DigestScheme::PlainText.digest(token["token"].as_str().unwrap()).unwrap(),
        scheme: DigestScheme::PlainText,
        sealed: None,
        source: Source::default(),
        cap: None,
        reissue: Reissue::New,
    };
    let outcome = server.store.issue(&issue, issued_at).await.unwrap();
    assert!(matches!(outcome, IssueOutcome::Issued { .. }), "{outcome:?}");
}

/// The host's own view: who asks.
async fn me(who: Authenticated) -> Json<Value> {
    let account = who.authority().account_of(&who.subject).await.unwrap().unwrap();
    Json(json!({"username": account.username.to_string()}))
}

async fn fine() -> Json<Value> {
    Json(json!({"ok": true}))
}

async fn greet(who: Option<Authenticated>) -> Json<Value> {
    Json(json!({"somebody": who.is_some()}))
}

async fn gone(_: Authenticated) -> StatusCode {
    StatusCode::NO_CONTENT
}

/// A handler that refuses in our own way.
async fn broken(_: Authenticated) -> Response {
    Problem::new(ProblemKind::Conflict, "Not now.").into_response()
}

/// A dialect of this name with these settings.
pub(crate) fn refused(name: DialectName, settings: Value) -> String {
    let Value::Object(settings) = settings else { panic!("settings are an object") };
    Dialect::from_settings(name, &settings).expect_err("refused").to_string()
}
