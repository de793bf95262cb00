//! A site that had a package and has its dialect now.

use axum::Json;
use axum::Router;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use counterfoil_core::account::{NewAccount, Role};
use counterfoil_core::entropy::PredictableEntropy;
use counterfoil_core::password::Password;
use counterfoil_core::seal::KeyRing;
use counterfoil_core::secret::DigestScheme;
use counterfoil_core::store::{Issue, IssueOutcome, Warrant};
use counterfoil_core::token::{Metadata, Source};
use counterfoil_core::{Abilities, By, Clock, Kind, Reissue, TokenId, TokenStore};
use counterfoil_http::{Authenticated, Dialect, DialectName, HttpSettings, Mounted, Problem, ProblemKind};
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
            .fallback(mounted.fallback())
            .layer(mounted.middleware());
        Site { server, mounted, app }
    }

    /// One with john, and nothing imported.
    pub(crate) async fn of_john(name: DialectName, settings: Value) -> Site {
        let setup = json!({"users": [{"username": "john", "password": "foobar123"}]});
        let path = match name {
            DialectName::Authtoken => "/api-token-auth/",
            DialectName::Multitoken => "/api/auth/",
            DialectName::Advanced => "/auth/",
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

/// A token that the package kept as it is, carried over.
async fn import(server: &TestServer, mounted: &Mounted, token: &Value) {
    let now = server.clock.now();
    let account = server.authority.user(token["user"].as_str().unwrap()).await.unwrap();
    let client = server.authority.client(&mounted.dialect().client().unwrap().name).await.unwrap();
    let issue = Issue {
        id: TokenId::generate(now.wall, &PredictableEntropy::from_seed(token["label"].to_string().len() as u64))
            .unwrap(),
        kind: Kind::Login,
        subject: account.subject,
        client: client.id,
        client_version: client.version,
        warrant: Warrant::Operator,
        name: None,
        abilities: Abilities::everything(),
        metadata: Metadata::default(),
        expires_at: None,
        digest: DigestScheme::PlainText.digest(token["token"].as_str().unwrap()).unwrap(),
        scheme: DigestScheme::PlainText,
        sealed: None,
        source: Source::default(),
        cap: None,
        reissue: Reissue::New,
    };
    let outcome = server.store.issue(&issue, now.wall).await.unwrap();
    assert!(matches!(outcome, IssueOutcome::Issued { .. }), "{outcome:?}");
}

/// The host's own view: who asks.
async fn me(who: Authenticated) -> Json<Value> {
    let account = who.authority().account_of(&who.subject).await.unwrap().unwrap();
    Json(json!({"username": account.username.to_string()}))
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
