//! Bodies that come long after their head: what happens in between counts.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::Method;
use counterfoil_core::Policy;
use counterfoil_core::client::Lifetime;
use counterfoil_http::{Access, ROUTES, Route};
use http_body::Frame;
use serde_json::{Value, json};

use crate::world::{Actor, Answer, BARE, TestServer, concrete};

/// A JSON object whose last character comes when something else has happened.
struct Late {
    meanwhile: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    chunks: Vec<&'static [u8]>,
}

/// `{"name": null}`, and before its end `meanwhile`.
pub(crate) fn late(meanwhile: impl Future<Output = ()> + Send + 'static) -> Body {
    Body::new(Late { meanwhile: Some(Box::pin(meanwhile)), chunks: vec![b"}", b"{\"name\":null"] })
}

impl HttpBody for Late {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.chunks.len() == 1
            && let Some(meanwhile) = &mut self.meanwhile
        {
            ready!(meanwhile.as_mut().poll(context));
            self.meanwhile = None;
        }
        Poll::Ready(self.chunks.pop().map(|chunk| Ok(Frame::data(Bytes::from_static(chunk)))))
    }
}

async fn send(actor: &Actor, route: &Route, path: &str, body: Body) -> Answer {
    let path =
        if route.method == Method::DELETE && route.path == "/v1/tokens" { "/v1/tokens?keep=current" } else { path };
    let media = match route.access {
        Access::Service(_) => "application/x-www-form-urlencoded",
        Access::Open | Access::OpenOr(_) | Access::Token | Access::Ability(_) | Access::Staff(_) => "application/json",
    };
    actor.typed(route.method.clone(), path, media, body).await
}

/// The routes that wait for a body and act for a caller.
fn acting() -> impl Iterator<Item = &'static Route> {
    let is_open = |route: &Route| matches!(route.access, Access::Open | Access::OpenOr(_));
    ROUTES.iter().filter(move |route| route.method != Method::GET && !is_open(route))
}

/// A laptop that lives for a minute, and a phone and a key that live on.
struct Devices {
    server: TestServer,
    laptop: Actor,
    phone: Actor,
    key: Actor,
}

impl Devices {
    async fn of_ada() -> Devices {
        let server = TestServer::with_ada().await;
        let ttl = Some(Lifetime::from_seconds(60).unwrap());
        server.client("minute", Policy { ttl, ..Policy::default() }).await;
        let laptop = server.logged_in("ada", "minute", "laptop").await;
        let phone = server.logged_in("ada", "default", "phone").await;
        let key = phone.json(Method::POST, "/v1/keys", &json!({"name": "robot"})).await.json();
        let key = server.token(key["token"].as_str().unwrap()).known_as(key["id"].as_str().unwrap());
        Devices { server, laptop, phone, key }
    }

    /// The path of `route`, pointed at the phone or the key.
    fn path(&self, route: &Route) -> String {
        concrete(route.path, if route.path.starts_with("/v1/keys") { &self.key.id } else { &self.phone.id })
    }

    /// The laptop was refused and has done nothing.
    async fn nothing_was_done(&self, answer: &Answer, route: &Route) {
        assert_eq!(answer.status, 401, "{} {}: {}", route.method, route.path, answer.text());
        answer.is_invalid_token();
        self.laptop.get("/v1/me").await.is_invalid_token();
        assert_eq!(self.phone.get("/v1/me").await.json()["token"]["name"], "phone", "{} {}", route.method, route.path);
        let names = |page: &Value| -> Vec<String> {
            let items = page["items"].as_array().unwrap();
            items.iter().map(|item| item["name"].as_str().unwrap_or("none").to_owned()).collect()
        };
        assert_eq!(names(&self.phone.get("/v1/keys").await.json()), ["robot"], "{} {}", route.method, route.path);
        assert_eq!(names(&self.phone.get("/v1/tokens").await.json()), ["phone"], "{} {}", route.method, route.path);
    }
}

#[tokio::test]
async fn a_token_that_expires_while_its_body_is_sent_does_nothing_more() {
    for route in acting() {
        let devices = Devices::of_ada().await;
        let (clock, laptop) = (devices.server.clock.clone(), devices.laptop.clone());
        let body = late(async move {
            clock.advance(Duration::from_millis(59_999));
            assert_eq!(laptop.get("/v1/me").await.status, 200);
            clock.advance(Duration::from_millis(1));
        });
        let answer = send(&devices.laptop, route, &devices.path(route), body).await;
        devices.nothing_was_done(&answer, route).await;
    }
}

#[tokio::test]
async fn a_token_that_is_revoked_while_its_body_is_sent_does_nothing_more() {
    for route in acting() {
        let devices = Devices::of_ada().await;
        let (phone, laptop) = (devices.phone.clone(), devices.laptop.id.clone());
        let body = late(async move { phone.delete(&format!("/v1/tokens/{laptop}")).await.is_done() });
        let answer = send(&devices.laptop, route, &devices.path(route), body).await;
        devices.nothing_was_done(&answer, route).await;
    }
}

#[tokio::test]
async fn a_secret_that_is_rotated_out_while_its_body_is_sent_gets_no_more_grace() {
    for path in ["/v1/rotate", "/v1/renew"] {
        let server = TestServer::with_ada().await;
        let old = server.ada().await;
        assert_eq!(old.post("/v1/rotate").await.status, 200);
        let (clock, still) = (server.clock.clone(), old.clone());
        let body = late(async move {
            assert_eq!(still.get("/v1/me").await.status, 200, "the grace");
            clock.advance(Duration::from_secs(86_400));
        });
        old.typed(Method::POST, path, "application/json", body).await.is_invalid_token();
    }
}

#[tokio::test]
async fn what_is_made_is_dated_when_its_body_was_there() {
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    let clock = server.clock.clone();
    let body = late(async move { clock.advance(Duration::from_secs(5)) });
    let key = ada.typed(Method::POST, "/v1/keys", "application/json", body).await;
    assert_eq!((key.status, &key.json()["issued_at"]), (201, &json!("2026-11-20T11:00:05.000Z")));
    let clock = server.clock.clone();
    let body = late(async move { clock.advance(Duration::from_secs(5)) });
    let renewed = ada.typed(Method::POST, "/v1/renew", "application/json", body).await;
    assert_eq!(renewed.json(), json!({"expires_at": "2026-12-20T11:00:10.000Z"}));
}

#[tokio::test]
async fn the_token_is_refused_before_the_path_and_the_path_before_the_body() {
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    let large = || Body::from(vec![b' '; 65_537]);
    for (media, body) in
        [("application/json", large()), ("text/plain", Body::empty()), ("application/json", "{".into())]
    {
        server.token("cf_garbage").typed(Method::POST, "/v1/keys", media, body).await.is_invalid_token();
    }
    ada.typed(Method::PATCH, "/v1/tokens/x", "application/json", large()).await.is_problem(404, "not-found", "");
    let path = format!("/v1/tokens/{}", ada.id);
    ada.typed(Method::PATCH, &path, "application/json", large()).await.is_problem(413, "body-too-large", "");
}

#[tokio::test]
async fn a_body_without_a_token_is_not_waited_for() {
    let server = TestServer::with_ada().await;
    for route in acting() {
        let body = late(async { panic!("nobody waits for this") });
        let answer = send(&server.anonymous(), route, &concrete(route.path, "x"), body).await;
        answer.is_problem(401, "token-missing", BARE);
    }
}
