//! What a client sees when something breaks: never a yes, never a lie.

use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use axum::http::Method;
use axum::routing::get;
use counterfoil_core::Kind;
use counterfoil_http::{Access, Group, HttpSettings, ROUTES, Route};
use serde_json::json;

use crate::outages::CAUSE;
use crate::world::{PASSWORD, TestServer, concrete};

#[tokio::test]
async fn r32_a_store_that_fails_is_neither_yes_nor_no() {
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    server.outages.store.store(true, Ordering::SeqCst);
    // Those of one's own account have a story of their own: what they ask depends on what they are sent.
    let asks = |route: &&Route| {
        !matches!(route.path, "/healthz" | "/openapi.json" | "/docs")
            && !route.is_page()
            && route.group() != Group::Accounts
    };
    for route in ROUTES.iter().filter(asks) {
        let path = concrete(route.path, &ada.id);
        let body = match route.path {
            "/v1/login" => json!({"username": "ada", "password": PASSWORD}),
            "/v1/admin/users/reset" | "/v1/admin/users/confirm" => json!({"ids": ["x"]}),
            _ => json!({"name": null}),
        };
        let answer = ada.json(route.method.clone(), &path, &body).await;
        answer.is_problem(503, "unavailable", "");
        assert_eq!(answer.header("retry-after"), "5");
        assert!(!answer.text().contains(CAUSE) && !answer.text().contains("answering"), "{}", answer.text());
    }
    assert_eq!(ada.get("/healthz").await.status, 200);
    server.token("cf_garbage").get("/v1/me").await.is_invalid_token();

    server.outages.store.store(false, Ordering::SeqCst);
    assert_eq!(ada.get("/v1/me").await.status, 200, "nothing was lost");
}

#[tokio::test]
async fn f36_a_panic_is_a_500_for_that_request_alone() {
    let more = Router::new().route("/panic", get(async || -> () { panic!("{PASSWORD}") }));
    let server = TestServer::with(HttpSettings::default(), more).await;
    server.user("ada", PASSWORD).await;
    let ada = server.ada().await;
    for _ in 0..3 {
        let answer = ada.get("/panic").await;
        answer.is_problem(500, "internal", "");
        assert!(!answer.text().contains(PASSWORD));
        assert_eq!(ada.get("/v1/me").await.status, 200);
    }
}

#[tokio::test]
async fn f37_without_entropy_no_token_is_issued() {
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    server.outages.entropy.store(true, Ordering::SeqCst);
    let login = json!({"username": "ada", "password": PASSWORD});
    for answer in [
        ada.json(Method::POST, "/v1/login", &login).await,
        ada.json(Method::POST, "/v1/keys", &json!({})).await,
        ada.post("/v1/rotate").await,
    ] {
        answer.is_problem(503, "unavailable", "");
        assert_eq!(answer.header("retry-after"), "5");
        assert!(!answer.text().contains("cf_") && !answer.text().contains(CAUSE));
    }
    assert_eq!(ada.get("/v1/me").await.status, 200, "what there is goes on");
    assert_eq!(ada.get("/v1/keys").await.json()["items"], json!([]));
}

#[tokio::test]
async fn a19_a_generator_that_repeats_itself_overwrites_nothing() {
    let server = TestServer::with_ada().await;
    server.user("bob", PASSWORD).await;
    server.outages.entropy_repeats.store(true, Ordering::SeqCst);
    let ada = server.ada().await;
    let login = json!({"username": "bob", "password": PASSWORD});
    server.anonymous().json(Method::POST, "/v1/login", &login).await.is_problem(503, "unavailable", "");
    ada.post("/v1/rotate").await.is_problem(503, "unavailable", "");
    assert_eq!(ada.get("/v1/me").await.json()["user"]["username"], "ada");
}

#[tokio::test]
async fn a59_a_full_hashing_queue_sheds_logins_and_leaves_tokens_alone() {
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    server.outages.hashing.store(true, Ordering::SeqCst);
    let login = json!({"username": "ada", "password": PASSWORD});
    for _ in 0..1_000 {
        let answer = server.anonymous().json(Method::POST, "/v1/login", &login).await;
        answer.is_problem(503, "overloaded", "");
        assert_eq!(answer.header("retry-after"), "1");
    }
    assert_eq!(ada.get("/v1/me").await.status, 200);
    server.outages.hashing.store(false, Ordering::SeqCst);
    assert_eq!(server.anonymous().json(Method::POST, "/v1/login", &login).await.status, 200);
}

#[tokio::test]
async fn r32_no_route_answers_anything_to_a_token_that_may_nothing() {
    let server = TestServer::with_ada().await;
    let eve = server.user("eve", PASSWORD).await;
    for route in ROUTES.iter().filter(|route| matches!(route.access, Access::Ability(_))) {
        let nothing = server.issued(&eve, Kind::Key, "").await;
        let path = concrete(route.path, &nothing.id);
        // Without a body, with a broken one and with a good one.
        for body in ["", "{", "{\"name\": null}"] {
            let answer = nothing.typed(route.method.clone(), &path, "application/json", Body::from(body)).await;
            assert!(matches!(answer.status, 400 | 403), "{} {path}: {}", route.method, answer.text());
        }
    }
}
