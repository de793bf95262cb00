//! A deployment on the reference store, and the actors who use it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use counterfoil_core::account::{Account, NewAccount, Role};
use counterfoil_core::account_rules::{AccountRules, EmailRule, Links, Registering};
use counterfoil_core::authority::{ClientOrder, Expiry, MailParts, TokenOrder};
use counterfoil_core::entropy::PredictableEntropy;
use counterfoil_core::event::Silent;
use counterfoil_core::password::{HashingParams, Password};
use counterfoil_core::seal::KeyRing;
use counterfoil_core::throttle::RouteRates;
use counterfoil_core::token::Metadata;
use counterfoil_core::{
    Abilities, Authority, By, Clock, Kind, ManualClock, Parts, Policy, Settings, Timestamp, TokenName,
};
use counterfoil_http::{Http, HttpSettings};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use crate::outages::{Outages, UnreliableEntropy, UnreliableHashing, UnreliableStore};
use crate::post::{BASE, Postbox};

/// 2026-11-20T11:00:00.000Z
pub(crate) const START: Timestamp = Timestamp::from_millis(1_795_172_400_000);
pub(crate) const PASSWORD: &str = "correct horse battery staple";
/// Where actors sit, unless they say otherwise.
pub(crate) const ADDRESS: &str = "192.0.2.7";

/// One deployment.
pub(crate) struct TestServer {
    pub(crate) authority: Arc<Authority>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) store: Arc<UnreliableStore>,
    pub(crate) outages: Arc<Outages>,
    pub(crate) http: Http,
    pub(crate) router: Router,
    pub(crate) postbox: Arc<Postbox>,
    entropy_seed: u64,
}

impl TestServer {
    /// A deployment with the user ada.
    pub(crate) async fn with_ada() -> TestServer {
        let server = TestServer::with(HttpSettings::default(), Router::new()).await;
        server.user("ada", PASSWORD).await;
        server
    }

    /// An empty deployment with these settings and routes besides the native ones.
    pub(crate) async fn with(settings: HttpSettings, more: Router<Http>) -> TestServer {
        let outages = Arc::new(Outages::default());
        let store = Arc::new(UnreliableStore::new(Arc::clone(&outages)));
        TestServer::over(store, outages, Arc::new(ManualClock::at(START)), settings, more, 1, None).await
    }

    async fn over(
        store: Arc<UnreliableStore>,
        outages: Arc<Outages>,
        clock: Arc<ManualClock>,
        settings: HttpSettings,
        more: Router<Http>,
        entropy_seed: u64,
        ring: Option<KeyRing>,
    ) -> TestServer {
        let postbox = Arc::new(Postbox::default());
        // Whoever reads the description may do what is in it.
        let accounts = AccountRules {
            registration: Registering::Anybody,
            email: EmailRule::Optional,
            links: Links { base: Some(BASE.to_owned()), ..Links::default() },
            ..AccountRules::default()
        };
        let parts = Parts {
            tokens: store.clone(),
            accounts: store.clone(),
            audit: Some(store.clone()),
            mail: Some(MailParts { store: store.clone(), mailer: postbox.clone() }),
            hashing: Arc::new(UnreliableHashing(Arc::clone(&outages))),
            entropy: Arc::new(UnreliableEntropy::new(
                Arc::clone(&outages),
                PredictableEntropy::from_seed(entropy_seed),
            )),
            events: Arc::new(Silent),
            hook: None,
            ring,
            settings: Settings { hashing: HashingParams::insecure_for_tests(), accounts, ..Settings::default() },
        };
        let authority = Arc::new(Authority::open(parts, clock.now()).await.unwrap());
        let http = Http::new(Arc::clone(&authority), clock.clone(), settings);
        let router = http.router_with(more);
        TestServer { authority, clock, store, outages, http, router, postbox, entropy_seed }
    }

    /// The same deployment after its process was stopped and started.
    pub(crate) async fn restarted(self) -> TestServer {
        self.restarted_with(None).await
    }

    /// The same, with this key ring.
    pub(crate) async fn restarted_with(self, ring: Option<KeyRing>) -> TestServer {
        let TestServer { clock, store, outages, entropy_seed, .. } = self;
        TestServer::over(store, outages, clock, HttpSettings::default(), Router::new(), entropy_seed + 1, ring).await
    }

    pub(crate) async fn user(&self, name: &str, password: &str) -> Account {
        let new = NewAccount { role: Role::User, ..NewAccount::named(name.parse().unwrap()) };
        let password = Password::new(password).unwrap();
        self.authority.create_user(new, Some(password), &By::operator(), self.clock.now()).await.unwrap()
    }

    /// Somebody of this role, who has just logged in, and their account.
    pub(crate) async fn of_role(&self, name: &str, role: Role) -> (Actor, Account) {
        let account = self.user(name, PASSWORD).await;
        let now = self.clock.now();
        let account = self.authority.set_role(&account.subject, role, &By::operator(), now).await.unwrap();
        (self.logged_in(name, "default", "desk").await, account)
    }

    /// Puts limits on the classes of routes.
    pub(crate) async fn limit_requests(&self, requests: RouteRates) {
        let settings = Settings { requests, ..self.authority.settings() };
        self.authority.adopt(settings, None, self.clock.now()).await.unwrap();
    }

    /// Changes what people may do with accounts of their own.
    pub(crate) async fn rule(&self, change: impl FnOnce(&mut AccountRules)) {
        let mut settings = self.authority.settings();
        change(&mut settings.accounts);
        self.authority.adopt(settings, None, self.clock.now()).await.unwrap();
    }

    pub(crate) async fn client(&self, name: &str, policy: Policy) {
        self.registered(ClientOrder { policy, ..ClientOrder::named(name.parse().unwrap()) }).await;
    }

    pub(crate) async fn registered(&self, order: ClientOrder) {
        self.authority.create_client(order, &By::operator(), self.clock.now()).await.unwrap();
    }

    /// A token with these abilities, made by the operator.
    pub(crate) async fn issued(&self, account: &Account, kind: Kind, abilities: &str) -> Actor {
        self.issued_on("default", account, kind, abilities).await
    }

    /// The same on a client.
    pub(crate) async fn issued_on(&self, client: &str, account: &Account, kind: Kind, abilities: &str) -> Actor {
        let order = TokenOrder {
            kind,
            subject: account.subject.clone(),
            client: Some(client.parse().unwrap()),
            name: TokenName::cut("issued"),
            abilities: abilities.parse::<Abilities>().unwrap(),
            metadata: Metadata::default(),
            expiry: Expiry::Never,
        };
        let issued = self.authority.issue(order, &By::operator(), self.clock.now()).await.unwrap();
        self.token(issued.secret.expose()).known_as(&issued.token.id.to_string())
    }

    pub(crate) fn wait(&self, millis: u64) {
        self.clock.advance(Duration::from_millis(millis));
    }

    /// Somebody without a token.
    pub(crate) fn anonymous(&self) -> Actor {
        Actor {
            router: self.router.clone(),
            headers: HeaderMap::new(),
            address: ADDRESS.parse().unwrap(),
            secret: String::new(),
            id: String::new(),
        }
    }

    /// Somebody who presents this text.
    pub(crate) fn token(&self, text: &str) -> Actor {
        let actor = self.anonymous().with(header::AUTHORIZATION, format!("Bearer {text}"));
        Actor { secret: text.to_owned(), ..actor }
    }

    /// Ada, who has just logged in.
    pub(crate) async fn ada(&self) -> Actor {
        self.logged_in("ada", "default", "laptop").await
    }

    pub(crate) async fn logged_in(&self, username: &str, client: &str, name: &str) -> Actor {
        let body = serde_json::json!({"username": username, "password": PASSWORD, "client": client, "name": name});
        let answer = self.anonymous().json(Method::POST, "/v1/login", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let token = answer.json();
        self.token(token["token"].as_str().unwrap()).known_as(token["id"].as_str().unwrap())
    }
}

/// Somebody with a client program.
#[derive(Clone)]
pub(crate) struct Actor {
    router: Router,
    headers: HeaderMap,
    address: IpAddr,
    /// The text of the token presented.
    pub(crate) secret: String,
    /// Its id, where the actor knows it.
    pub(crate) id: String,
}

impl Actor {
    pub(crate) fn with(mut self, name: HeaderName, value: impl AsRef<[u8]>) -> Actor {
        self.headers.append(name, HeaderValue::from_bytes(value.as_ref()).unwrap());
        self
    }

    pub(crate) fn known_as(self, id: &str) -> Actor {
        Actor { id: id.to_owned(), ..self }
    }

    /// The same with this as the only header of its name.
    pub(crate) fn saying(mut self, name: HeaderName, value: impl AsRef<[u8]>) -> Actor {
        self.headers.insert(name, HeaderValue::from_bytes(value.as_ref()).unwrap());
        self
    }

    /// The same before another service.
    pub(crate) fn facing(self, router: &Router) -> Actor {
        Actor { router: router.clone(), ..self }
    }

    pub(crate) fn at(self, address: &str) -> Actor {
        Actor { address: address.parse().unwrap(), ..self }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, Body::empty()).await
    }

    pub(crate) async fn post(&self, path: &str) -> Answer {
        self.send(Method::POST, path, Body::empty()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, Body::empty()).await
    }

    pub(crate) async fn json(&self, method: Method, path: &str, body: &Value) -> Answer {
        self.typed(method, path, "application/json", body.to_string()).await
    }

    pub(crate) async fn tell(&self, path: &str, body: Value) -> Answer {
        self.json(Method::POST, path, &body).await
    }

    pub(crate) async fn form(&self, path: &str, body: &str) -> Answer {
        self.typed(Method::POST, path, "application/x-www-form-urlencoded", body.to_owned()).await
    }

    pub(crate) async fn typed(&self, method: Method, path: &str, media: &str, body: impl Into<Body>) -> Answer {
        self.clone().with(header::CONTENT_TYPE, media).send(method, path, body.into()).await
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Body) -> Answer {
        let mut request = Request::builder().method(method).uri(path).body(body).unwrap();
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().insert(header::HOST, HeaderValue::from_static("counterfoil.test"));
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(self.address, 40_000)));
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }
}

/// All that a client sees.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        assert!(self.header("content-type").ends_with("json"), "{} {}", self.status, self.text());
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The value of a header that is there at most once; empty where it is not.
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next().map_or("", |value| value.to_str().unwrap());
        assert!(values.next().is_none(), "{name} is there twice");
        value
    }

    /// Asserts the whole of a problem: status, media type, challenge and document but its instance.
    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, slug: &str, challenge: &str) {
        self.is_refused(status, slug, challenge);
        assert_eq!(self.json()["instance"], self.header("x-request-id"));
    }

    /// The same of a service that is not within our own layers, where requests have no names.
    #[track_caller]
    pub(crate) fn is_refused(&self, status: u16, slug: &str, challenge: &str) {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.header("www-authenticate"), challenge);
        assert_eq!(self.header("cache-control"), "no-store");
        let document = self.json();
        assert_eq!(document["type"], format!("urn:counterfoil:problem:{slug}"), "{document}");
        assert_eq!(document["status"], status);
        assert!(!document["title"].as_str().unwrap().is_empty());
        assert!(document["detail"].as_str().unwrap().ends_with('.'), "{document}");
    }

    /// The same for a problem about one field.
    #[track_caller]
    pub(crate) fn is_about(&self, status: u16, slug: &str, field: &str) {
        self.is_problem(status, slug, "");
        assert_eq!(self.json()["field"], field, "{}", self.text());
    }

    /// Asserts 204 and nothing else.
    #[track_caller]
    pub(crate) fn is_done(&self) {
        assert_eq!((self.status, self.text()), (204, ""));
    }

    /// Asserts the one answer for a token that is not valid, whatever the cause.
    #[track_caller]
    pub(crate) fn is_invalid_token(&self) {
        self.is_problem(401, "invalid-token", INVALID_TOKEN);
        let mut document = self.json();
        document["instance"] = Value::Null;
        assert_eq!(
            document,
            serde_json::json!({
                "type": "urn:counterfoil:problem:invalid-token",
                "title": "The token is not valid",
                "status": 401,
                "detail": "It is unknown, expired or revoked, or its user is not active. Log in again.",
                "instance": null,
            })
        );
    }
}

pub(crate) const BARE: &str = r#"Bearer realm="counterfoil""#;
pub(crate) const INVALID_TOKEN: &str =
    r#"Bearer realm="counterfoil", error="invalid_token", error_description="The token is not valid""#;
pub(crate) const INVALID_REQUEST: &str = r#"Bearer realm="counterfoil", error="invalid_request""#;

/// The table's path with a real id in it.
pub(crate) fn concrete(path: &str, id: &str) -> String {
    path.replace("{id}", id).replace("{link}", id)
}
