//! Pages of other origins that call the routes from a browser.

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderName, Method, header};
use axum::routing::get;
use counterfoil_http::HttpSettings;
use serde_json::json;
use std::time::Duration;

use crate::world::{Actor, Answer, BARE, PASSWORD, TestServer};

const APP: &str = "https://app.example.org";

async fn sharing() -> TestServer {
    let settings = HttpSettings {
        cors_origins: vec![APP.parse().unwrap(), "http://localhost:3000".parse().unwrap()],
        ..HttpSettings::default()
    };
    let slow = get(async || tokio::time::sleep(Duration::from_secs(3_600)).await);
    let server = TestServer::with(settings, Router::new().route("/slow", slow)).await;
    server.user("ada", PASSWORD).await;
    server
}

fn page(actor: &Actor, origin: &str) -> Actor {
    actor.clone().with(header::ORIGIN, origin)
}

async fn preflight(actor: &Actor, path: &str) -> Answer {
    let asking = actor
        .clone()
        .with(header::ACCESS_CONTROL_REQUEST_METHOD, "DELETE")
        .with(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization");
    asking.send(Method::OPTIONS, path, Body::empty()).await
}

fn cors_headers(answer: &Answer) -> Vec<&str> {
    answer.headers.keys().map(HeaderName::as_str).filter(|name| name.starts_with("access-control")).collect()
}

#[track_caller]
fn is_shared(answer: &Answer, origin: &str) {
    assert_eq!(answer.header("access-control-allow-origin"), origin);
    assert_eq!(answer.header("access-control-allow-credentials"), "");
    assert!(answer.header("vary").contains("origin"), "{:?}", answer.headers);
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert!(!answer.header("x-request-id").is_empty());
}

#[tokio::test]
async fn a43_a_preflight_of_a_listed_origin_is_answered_without_a_token() {
    let server = sharing().await;
    for origin in [APP, "http://localhost:3000"] {
        for path in ["/v1/tokens", "/v1/tokens/0", "/v1/login"] {
            let answer = preflight(&page(&server.anonymous(), origin), path).await;
            assert_eq!((answer.status, answer.text()), (200, ""), "{path}");
            is_shared(&answer, origin);
            let mut methods: Vec<&str> = answer.header("access-control-allow-methods").split(',').collect();
            methods.sort_unstable();
            assert_eq!(methods, ["DELETE", "GET", "PATCH", "POST"]);
            assert_eq!(answer.header("access-control-allow-headers"), "authorization,content-type");
            assert_eq!(answer.header("access-control-max-age"), "600");
        }
    }
}

#[tokio::test]
async fn a43_only_listed_origins_read_answers() {
    let server = sharing().await;
    let ada = server.ada().await;
    let before = server.store.calls();
    for origin in [
        "null",
        "https://app.example.org.evil.example",
        "https://evil.example",
        "http://app.example.org",
        "https://app.example.org:8443",
        "https://APP.example.org",
        "https://app.example.org/",
        "http://localhost",
        "*",
        "",
    ] {
        let refused = preflight(&page(&server.anonymous(), origin), "/v1/tokens").await;
        refused.is_problem(405, "method-not-allowed", "");
        assert_eq!(cors_headers(&refused), [""; 0], "{origin}");
        assert_eq!(refused.header("vary"), "origin", "a cache must not give this to the app");
        assert_eq!(server.store.calls(), before);
    }
    // A call that needs no preflight is answered, as it is to a program; the page does not get to read it.
    let stranger = page(&ada, "https://evil.example").get("/v1/me").await;
    assert_eq!((stranger.status, cors_headers(&stranger).len()), (200, 0));
    let twice = page(&page(&ada, APP), "https://evil.example").get("/v1/me").await;
    assert_eq!(cors_headers(&twice), [""; 0]);
    let program = ada.get("/v1/me").await;
    assert_eq!((program.status, program.header("vary"), cors_headers(&program).len()), (200, "origin", 0));
}

#[tokio::test(start_paused = true)]
async fn a_listed_page_reads_refusals_as_well() {
    let server = sharing().await;
    let app = page(&server.anonymous(), APP);
    let refused = app.get("/v1/me").await;
    refused.is_problem(401, "token-missing", BARE);
    let wrong = app.json(Method::POST, "/v1/login", &json!({"username": "ada", "password": "wrong"})).await;
    assert_eq!(wrong.status, 401);
    let nowhere = app.get("/nowhere").await;
    nowhere.is_problem(404, "not-found", "");
    let late = app.get("/slow").await;
    late.is_problem(503, "timeout", "");
    for answer in [refused, wrong, nowhere, late] {
        is_shared(&answer, APP);
        let readable = answer.header("access-control-expose-headers");
        for name in ["www-authenticate", "retry-after", "x-request-id", "ratelimit"] {
            assert!(readable.contains(name), "{readable}");
        }
    }
}

#[tokio::test]
async fn a43_without_a_list_there_is_no_word_of_other_origins() {
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    let refused = preflight(&page(&server.anonymous(), APP), "/v1/tokens").await;
    refused.is_problem(405, "method-not-allowed", "");
    for answer in [refused, page(&ada, APP).get("/v1/me").await, page(&ada, "null").get("/v1/me").await] {
        assert_eq!(cors_headers(&answer), [""; 0]);
        assert_eq!(answer.header("vary"), "");
    }
}
