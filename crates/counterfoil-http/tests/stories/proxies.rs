//! What proxies say of a request, and who may say it.

use axum::Router;
use axum::http::{HeaderMap, HeaderName, Method, header};
use axum::routing::get;
use counterfoil_http::{Authenticated, HttpSettings, TrustedProxy};
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::world::{Actor, Answer, PASSWORD, TestServer};

const PROXY: &str = "10.0.0.1";
const STRANGER: &str = "192.0.2.7";

async fn behind_a_proxy() -> TestServer {
    let ours: IpNet = "10.0.0.0/8".parse().unwrap();
    let settings = HttpSettings { trusted_proxies: vec![TrustedProxy::Network(ours)], ..HttpSettings::default() };
    let server = TestServer::with(settings, Router::new()).await;
    server.user("ada", PASSWORD).await;
    server
}

/// All that there is to see, but for what differs from one request to the next.
fn seen(answer: &Answer) -> (u16, HeaderMap, Value) {
    let mut headers = answer.headers.clone();
    headers.remove("x-request-id");
    // The path of a new key ends with its id.
    headers.remove(header::LOCATION);
    headers.remove(header::CONTENT_LENGTH);
    let mut body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    for varying in ["instance", "id", "token", "issued_at", "expires_at"] {
        body.as_object_mut().and_then(|body| body.remove(varying));
    }
    (answer.status, headers, body)
}

/// Every header by which one proxy or another says what a request was before it came through.
const FORGED: [(&str, &str); 14] = [
    ("x-forwarded-uri", "/healthz"),
    ("x-original-url", "/healthz"),
    ("x-rewrite-url", "/healthz"),
    ("x-original-uri", "/healthz"),
    ("x-forwarded-prefix", "/healthz?"),
    ("x-forwarded-host", "evil.example"),
    ("x-host", "evil.example"),
    ("x-forwarded-port", "1"),
    ("x-forwarded-proto", "http"),
    ("x-forwarded-method", "GET"),
    ("x-http-method-override", "GET"),
    ("x-forwarded-user", "ada"),
    ("x-remote-user", "ada"),
    ("forwarded", "for=127.0.0.1;host=evil.example;proto=http"),
];

async fn a_forged_header_changes_nothing(about: &[&str]) {
    let server = behind_a_proxy().await;
    let ada = server.ada().await;
    for address in [STRANGER, PROXY] {
        let plain = |actor: &Actor| actor.clone().at(address);
        for (name, value) in FORGED.into_iter().filter(|(name, _)| about.contains(name)) {
            let forging = |actor: &Actor| plain(actor).with(HeaderName::from_static(name), value);
            for path in ["/v1/me", "/v1/tokens", "/nowhere", "/readyz"] {
                let nobody = server.anonymous();
                let (honest, forged) = (plain(&nobody).get(path).await, forging(&nobody).get(path).await);
                assert_eq!(seen(&honest), seen(&forged), "{name} of {address} at {path}");
            }
            let refused = forging(&server.anonymous()).delete("/v1/tokens").await;
            refused.is_problem(401, "token-missing", crate::world::BARE);
            let made = forging(&ada).json(Method::POST, "/v1/keys", &json!({"name": "k"})).await;
            let location = made.header("location").to_owned();
            assert_eq!((made.status, location), (201, format!("/v1/keys/{}", made.json()["id"].as_str().unwrap())));
            let honest = plain(&ada).json(Method::POST, "/v1/keys", &json!({"name": "k"})).await;
            assert_eq!(seen(&made), seen(&honest), "{name} of {address}");
        }
    }
}

#[tokio::test]
async fn a28_a_path_or_user_named_in_a_header_is_ignored_whoever_names_it() {
    a_forged_header_changes_nothing(&[
        "x-forwarded-uri",
        "x-original-url",
        "x-rewrite-url",
        "x-original-uri",
        "x-forwarded-method",
        "x-http-method-override",
        "x-forwarded-user",
        "x-remote-user",
    ])
    .await;
}

#[tokio::test]
async fn a30_a_forged_prefix_host_port_or_protocol_is_part_of_no_decision() {
    a_forged_header_changes_nothing(&[
        "x-forwarded-prefix",
        "x-forwarded-host",
        "x-host",
        "x-forwarded-port",
        "x-forwarded-proto",
        "forwarded",
    ])
    .await;
}

#[tokio::test]
async fn a26_a_forwarded_address_that_is_none_leaves_every_check_in_place() {
    let server = behind_a_proxy().await;
    let ada = server.ada().await;
    let forwarded = HeaderName::from_static("x-forwarded-for");
    let long = "1,".repeat(20_000);
    for line in ["a", "", ",", "0", "256.256.256.256", "::1::", "127.0.0.1\t\u{e4}", "for=1.2.3.4", "1.2.3.4:", &long] {
        let by = |actor: &Actor, address| actor.clone().at(address).with(forwarded.clone(), line);
        for address in [PROXY, STRANGER] {
            by(&server.anonymous(), address).get("/v1/me").await.is_problem(401, "token-missing", crate::world::BARE);
            by(&server.token("cf_wrong"), address).get("/v1/me").await.is_invalid_token();
            let wrong = json!({"username": "ada", "password": "wrong"});
            let refused = by(&server.anonymous(), address).json(Method::POST, "/v1/login", &wrong).await;
            assert_eq!(refused.status, 401, "{line:?}");
            let right = json!({"username": "ada", "password": PASSWORD});
            let token = by(&server.anonymous(), address).json(Method::POST, "/v1/login", &right).await.json();
            let me = server.token(token["token"].as_str().unwrap()).get("/v1/me").await.json();
            assert_eq!(me["token"]["first_seen"]["ip"], address, "{line:?}: nobody else's address is made up");
        }
    }
    assert_eq!(ada.get("/v1/me").await.status, 200);
}

#[tokio::test]
async fn r26_what_proxies_set_a_client_cannot() {
    let server = behind_a_proxy().await;
    let by = |address| {
        server
            .anonymous()
            .at(address)
            .with(HeaderName::from_static("x-forwarded-for"), "203.0.113.9")
            .with(HeaderName::from_static("x-real-ip"), "203.0.113.10")
            .with(HeaderName::from_static("x-request-id"), "chosen")
    };
    for (address, ip, id) in [(PROXY, "203.0.113.9", true), (STRANGER, STRANGER, false)] {
        let answer =
            by(address).json(Method::POST, "/v1/login", &json!({"username": "ada", "password": PASSWORD})).await;
        assert_eq!(answer.header("x-request-id") == "chosen", id, "{address}");
        let me = server.token(answer.json()["token"].as_str().unwrap()).get("/v1/me").await.json();
        assert_eq!(me["token"]["first_seen"]["ip"], ip, "{address}");
    }
}

#[tokio::test]
async fn r26_a_deployment_within_another_believes_its_own_proxies_alone() {
    async fn from_where(who: Authenticated) -> String {
        who.source().ip.map_or("nowhere".to_owned(), |ip| ip.to_string())
    }
    let inner = TestServer::with_ada().await;
    let routes = Router::new().route("/", get(from_where)).layer(inner.http.layer());
    let ours: IpNet = "10.0.0.0/8".parse().unwrap();
    let settings = HttpSettings { trusted_proxies: vec![TrustedProxy::Network(ours)], ..HttpSettings::default() };
    let outer = TestServer::with(settings, Router::new().nest_service("/inner", routes)).await;
    let ada = inner.ada().await.facing(&outer.router).at(PROXY);
    let answer = ada.with(HeaderName::from_static("x-forwarded-for"), "203.0.113.9").get("/inner").await;
    assert_eq!((answer.status, answer.text()), (200, PROXY));
}
