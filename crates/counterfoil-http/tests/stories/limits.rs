//! Bodies that are too large, too slow, or not what they say.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Method, header};
use axum::routing::get;
use counterfoil_http::HttpSettings;
use http_body::Frame;
use serde_json::json;

use crate::world::{PASSWORD, TestServer};

#[tokio::test]
async fn a_body_that_is_no_json_object_is_a_bad_request() {
    let server = TestServer::with_ada().await;
    let anonymous = server.anonymous();
    for body in [
        "",
        "   ",
        "null",
        "[]",
        "[\"ada\",\"x\"]",
        "\"ada\"",
        "5",
        "{",
        "{}{}",
        "{\"username\":\"ada\",\"password\":\"x\"} x",
        "{\"username\":\"ada\",\"password\":\"x\",}",
        "{'username':'ada'}",
        "{\"username\":\"\\ud800\",\"password\":\"x\"}",
        "{\"username\":\"a\u{1}\",\"password\":\"x\"}",
        "\u{feff}{}",
    ] {
        let answer = anonymous.typed(Method::POST, "/v1/login", "application/json", body).await;
        answer.is_problem(400, "invalid-request", "");
    }
    let not_utf8 = b"{\"username\":\"\xff\",\"password\":\"x\"}".as_slice();
    let answer = anonymous.typed(Method::POST, "/v1/login", "application/json", not_utf8).await;
    answer.is_problem(400, "invalid-request", "");
}

#[tokio::test]
async fn a_form_that_is_no_text_is_a_bad_request_and_not_another_password() {
    let server = TestServer::with_ada().await;
    server.user("eve", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}").await;
    let anonymous = server.anonymous();
    for bytes in ["%fe".repeat(8), "%FF".repeat(8), "%c3".repeat(8), "%ed%a0%80".repeat(8), "%f0%9f%a6".to_owned()] {
        for form in [
            format!("username=eve&password={bytes}"),
            format!("password={bytes}&username=eve"),
            format!("username={bytes}&password=x"),
            format!("username=eve&password=x&{bytes}=x"),
        ] {
            anonymous.form("/v1/login", &form).await.is_problem(400, "invalid-request", "");
        }
    }
    let raw = [b"username=eve&password=".as_slice(), &[0xfe; 8]].concat();
    let answer = anonymous.typed(Method::POST, "/v1/login", "application/x-www-form-urlencoded", raw).await;
    answer.is_problem(400, "invalid-request", "");
    let password = "%ef%bf%bd".repeat(8);
    assert_eq!(anonymous.form("/v1/login", &format!("username=eve&password={password}")).await.status, 200);

    server.user("bob", "100%, wirklich 🦀+%zz").await;
    let password = "100%,+wirklich+%f0%9f%A6%80%2b%zz";
    assert_eq!(anonymous.form("/v1/login", &format!("username=bob&password={password}")).await.status, 200);
    let ada = server.ada().await;
    ada.get("/v1/tokens?cursor=%fe").await.is_problem(400, "invalid-request", "");
}

#[tokio::test]
async fn a_field_that_does_not_fit_is_named() {
    let server = TestServer::with_ada().await;
    let anonymous = server.anonymous();
    for (body, kind, field) in [
        (r#"{"password":"x"}"#, "invalid-request", json!("username")),
        (r#"{"username":"ada"}"#, "invalid-request", json!("password")),
        (r#"{"username":"ada","password":"x","password":"y"}"#, "invalid-request", json!("password")),
        (r#"{"username":"ada","password":"x","admin":true}"#, "invalid-request", json!("admin")),
        (r#"{"username":"ada","password":"x","\u0041dmin":true}"#, "invalid-request", json!(null)),
        (r#"{"username":"ada","password":"x","hunter2 is my password":1}"#, "invalid-request", json!(null)),
        (r#"{"username":5,"password":"x"}"#, "invalid-value", json!("username")),
        (r#"{"username":"ada","password":["x"]}"#, "invalid-value", json!("password")),
        (r#"{"username":"ada","password":null}"#, "invalid-value", json!("password")),
        (r#"{"username":"ada","password":"x","client":{}}"#, "invalid-value", json!("client")),
        (r#"{"username":"ada","password":"x","name":1e400}"#, "invalid-request", json!(null)),
    ] {
        let answer = anonymous.typed(Method::POST, "/v1/login", "application/json", body).await;
        answer.is_problem(400, kind, "");
        assert_eq!(answer.json()["field"], field, "{body}");
    }
}

#[tokio::test]
async fn a46_deep_nesting_is_a_bad_request_and_no_stack_overflow() {
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = |depth: usize| format!("{{\"name\":{}1{}}}", open.repeat(depth), close.repeat(depth));
        for path in ["/v1/login", "/v1/keys"] {
            let answer = ada.typed(Method::POST, path, "application/json", deep(10_000)).await;
            assert_eq!(answer.status, 400, "{}", answer.text());
            let answer = ada.typed(Method::POST, path, "application/json", deep(100_000)).await;
            answer.is_problem(413, "body-too-large", "");
        }
    }
    let bomb = format!("Fri, 20 Nov 2026 {}", "(".repeat(60_000));
    let answer = ada.json(Method::POST, "/v1/keys", &json!({"expires_at": bomb})).await;
    answer.is_about(400, "invalid-value", "expires_at");
}

#[tokio::test]
async fn another_type_of_body_is_not_guessed_at() {
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    let login = json!({"username": "ada", "password": PASSWORD}).to_string();
    for media in ["text/plain", "application/x-json", "multipart/form-data; boundary=x", "application/jsonp", ""] {
        let answer = server.anonymous().typed(Method::POST, "/v1/login", media, login.clone()).await;
        answer.is_problem(415, "unsupported-media-type", "");
    }
    let untyped = server.anonymous().send(Method::POST, "/v1/login", Body::from(login.clone())).await;
    untyped.is_problem(415, "unsupported-media-type", "");
    let twice = server.anonymous().with(header::CONTENT_TYPE, "text/plain");
    twice.typed(Method::POST, "/v1/login", "application/json", login.clone()).await.is_problem(
        415,
        "unsupported-media-type",
        "",
    );
    for media in ["application/json", "Application/JSON; charset=utf-8"] {
        let answer = server.anonymous().typed(Method::POST, "/v1/login", media, login.clone()).await;
        assert_eq!(answer.status, 200, "{media}");
    }
    ada.form("/v1/keys", "name=x").await.is_problem(415, "unsupported-media-type", "");
    assert_eq!(ada.json(Method::POST, "/v1/renew", &json!({})).await.status, 200);
    assert_eq!(ada.json(Method::POST, "/v1/renew", &json!(null)).await.status, 200);
}

#[tokio::test]
async fn a48_the_largest_body_is_read_and_one_byte_more_is_not() {
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    let padded = |length: usize| {
        let body = "{\"name\":\"x\"}";
        format!("{body}{}", " ".repeat(length - body.len()))
    };
    let whole = ada.typed(Method::POST, "/v1/keys", "application/json", padded(65_536)).await;
    assert_eq!(whole.status, 201);
    for path in ["/v1/login", "/v1/keys", "/v1/logout"] {
        let before = server.store.calls();
        let anonymous = server.anonymous().typed(Method::POST, path, "application/json", padded(65_537)).await;
        if path == "/v1/login" {
            anonymous.is_problem(413, "body-too-large", "");
        } else {
            anonymous.is_problem(401, "token-missing", crate::world::BARE);
        }
        assert_eq!(server.store.calls(), before);
        let answer = ada.typed(Method::POST, path, "application/json", padded(65_537)).await;
        answer.is_problem(413, "body-too-large", "");
    }
    assert_eq!(ada.get("/v1/me").await.status, 200, "a refused logout is none");
}

/// A body of unknown length that never ends.
struct Endless {
    read: Arc<AtomicUsize>,
}

impl HttpBody for Endless {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.read.fetch_add(1024, Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b' '; 1024])))))
    }
}

#[tokio::test]
async fn a48_a_stream_without_an_end_is_refused_early_and_drained_for_a_while() {
    let server = TestServer::with_ada().await;
    let read = Arc::new(AtomicUsize::new(0));
    let body = Body::new(Endless { read: Arc::clone(&read) });
    let answer = server.anonymous().typed(Method::POST, "/v1/login", "application/json", body).await;
    answer.is_problem(413, "body-too-large", "");
    assert_eq!(read.load(Ordering::SeqCst), 65 * 1024, "the answer waits for no more than it takes to know");
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(read.load(Ordering::SeqCst), 65 * 1024 + 8 * 1024 * 1024 + 1024);
}

/// A body that never comes.
struct Stalled;

impl HttpBody for Stalled {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_in_time_is_given_up() {
    let server = TestServer::with_ada().await;
    let answer = server.anonymous().typed(Method::POST, "/v1/login", "application/json", Body::new(Stalled)).await;
    answer.is_problem(408, "body-timeout", "");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_takes_too_long_is_given_up() {
    let slow = get(async || tokio::time::sleep(Duration::from_secs(3_600)).await);
    let server = TestServer::with(HttpSettings::default(), Router::new().route("/slow", slow)).await;
    let answer = server.anonymous().get("/slow").await;
    answer.is_problem(503, "timeout", "");
    assert_eq!(answer.header("retry-after"), "5");
}
