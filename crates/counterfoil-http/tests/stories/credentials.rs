//! What a request presents, and what it is told when that does not do.

use axum::body::Body;
use axum::http::{HeaderValue, Method, header};
use counterfoil_http::{Access, ROUTES};
use serde_json::json;

use crate::world::{BARE, INVALID_REQUEST, TestServer, concrete};

#[tokio::test]
async fn r03_an_invented_token_is_refused_without_asking_the_store() {
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    let mut bent = ada.secret.clone().into_bytes();
    bent[20] = if bent[20] == b'x' { b'y' } else { b'x' };
    let before = server.store.calls();
    server.token(std::str::from_utf8(&bent).unwrap()).get("/v1/me").await.is_invalid_token();
    server.token(&format!("cf_{}", "0".repeat(49))).get("/v1/me").await.is_invalid_token();
    assert_eq!(server.store.calls(), before);
    assert_eq!(ada.get("/v1/me").await.status, 200);
}

#[tokio::test]
async fn a01_a_token_cut_or_extended_is_refused() {
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    for length in 1..ada.secret.len() {
        server.token(&ada.secret[..length]).get("/v1/me").await.is_invalid_token();
    }
    for suffix in ["x", "=", "==", ".", "/", "~0", &ada.secret] {
        server.token(&format!("{}{suffix}", ada.secret)).get("/v1/me").await.is_invalid_token();
    }
}

#[tokio::test]
async fn a02_a_token_has_one_spelling() {
    let server = TestServer::with_ada().await;
    let text = server.ada().await.secret;
    for other in [text.to_uppercase(), text.to_lowercase(), text.replacen("cf_", "CF_", 1), text.replacen('_', "-", 1)]
    {
        server.token(&other).get("/v1/me").await.is_invalid_token();
    }
    for other in [text.replacen('_', "%5F", 1), format!("\"{text}\""), format!("{text};"), format!("{text}\u{a0}")] {
        server.token(&other).get("/v1/me").await.is_problem(400, "invalid-request", INVALID_REQUEST);
    }
}

#[tokio::test]
async fn r19_without_a_token_every_route_that_wants_one_gives_a_bare_challenge() {
    let server = TestServer::with_ada().await;
    for route in ROUTES.iter().filter(|route| !matches!(route.access, Access::Open | Access::OpenOr(_))) {
        let path = concrete(route.path, "019a9f3c-0000-7000-8000-000000000000");
        let answer = server.anonymous().send(route.method.clone(), &path, Body::empty()).await;
        answer.is_problem(401, "token-missing", BARE);
        let basic = server.anonymous().with(header::AUTHORIZATION, "Basic YWRhOng=");
        basic.send(route.method.clone(), &path, Body::empty()).await.is_problem(401, "token-missing", BARE);
        let garbage = server.token("cf_garbage");
        garbage.send(route.method.clone(), &path, Body::empty()).await.is_invalid_token();
    }
}

#[tokio::test]
async fn r20_both_schemes_are_read_in_any_case() {
    let server = TestServer::with_ada().await;
    let text = server.ada().await.secret;
    for scheme in ["Bearer", "bEaReR", "TOKEN", "Token", "token"] {
        let actor = server.anonymous().with(header::AUTHORIZATION, format!("{scheme} {text}"));
        assert_eq!(actor.get("/v1/me").await.status, 200, "{scheme}");
    }
}

#[tokio::test]
async fn a33_two_authorization_headers_are_a_bad_request() {
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    let text = &ada.secret;
    let twice = ada.clone().with(header::AUTHORIZATION, format!("Bearer {text}"));
    twice.get("/v1/me").await.is_problem(400, "invalid-request", INVALID_REQUEST);
    let two_schemes = ada.clone().with(header::AUTHORIZATION, "Basic YWRhOng=");
    two_schemes.get("/v1/me").await.is_problem(400, "invalid-request", INVALID_REQUEST);
    for line in [
        format!("Bearer {text}, Bearer {text}"),
        format!("Bearer {text},{text}"),
        format!("Bearer {text} Token {text}"),
        format!("Basic YWRhOng=, Bearer {text}"),
    ] {
        let joined = server.anonymous().with(header::AUTHORIZATION, &line);
        joined.get("/v1/me").await.is_problem(400, "invalid-request", INVALID_REQUEST);
    }
}

#[tokio::test]
async fn a34_a_token_in_header_and_form_is_a_bad_request_and_one_in_the_query_is_not_read() {
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    let text = &ada.secret;
    for route in ["/v1/logout", "/v1/logout-all", "/v1/renew", "/v1/rotate"] {
        for field in ["access_token", "token", "%74oken"] {
            let both = ada.form(route, &format!("x=1&{field}={text}")).await;
            both.is_problem(400, "invalid-request", INVALID_REQUEST);
            let alone = server.anonymous().form(route, &format!("{field}={text}")).await;
            alone.is_problem(401, "token-missing", BARE);
        }
    }
    for field in ["access_token", "token"] {
        let alone = server.anonymous().get(&format!("/v1/me?{field}={text}")).await;
        alone.is_problem(401, "token-missing", BARE);
        let other = server.ada().await;
        let both = other.get(&format!("/v1/me?{field}={text}")).await;
        assert_eq!(both.json()["token"]["id"], other.id, "the header counts, the query does not");
        let listed = other.get(&format!("/v1/tokens?{field}={text}")).await;
        listed.is_about(400, "invalid-request", field);
        assert!(!listed.text().contains(text.as_str()));
    }
    assert_eq!(ada.form("/v1/renew", "x=1").await.status, 200, "a stray form is no credential");
}

#[tokio::test]
async fn a35_anything_but_one_space_and_plain_characters_is_a_bad_request() {
    let server = TestServer::with_ada().await;
    let text = server.ada().await.secret;
    let before = server.store.calls();
    for line in [
        format!("Bearer  {text}").into_bytes(),
        format!("Bearer\t{text}").into_bytes(),
        format!("Bearer \t{text}").into_bytes(),
        format!("Bearer {text}\t").into_bytes(),
        format!("Bearer{text}, ").into_bytes(),
        b"Bearer".to_vec(),
        b"Bearer ".to_vec(),
        [b"Bearer ", text.as_bytes(), b"\xff"].concat(),
        b"Bearer \xc3\xa4".to_vec(),
        b"".to_vec(),
    ] {
        let actor = server.anonymous().with(header::AUTHORIZATION, &line);
        actor.get("/v1/me").await.is_problem(400, "invalid-request", INVALID_REQUEST);
    }
    assert!(HeaderValue::from_bytes(b"Bearer a\0").is_err(), "a NUL does not come this far; see wire.rs");
    assert_eq!(server.store.calls(), before);
}

#[tokio::test]
async fn a36_no_text_of_a_client_reaches_a_header_of_the_answer() {
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    let evil = "x\r\nX-Evil: 1\u{e4}";
    let made = ada.json(Method::POST, "/v1/keys", &json!({"name": evil})).await;
    assert_eq!((made.status, &made.json()["name"]), (201, &json!(evil)));
    let renamed = ada.json(Method::PATCH, &format!("/v1/tokens/{}", ada.id), &json!({"name": evil})).await;
    assert_eq!((renamed.status, &renamed.json()["name"]), (200, &json!(evil)));
    let id = axum::http::HeaderName::from_static("x-request-id");
    let named = ada.clone().with(id, "chosen-by-a-stranger").get("/v1/me").await;
    for answer in [made, renamed, named] {
        let printable = |value: &HeaderValue| value.as_bytes().iter().all(|byte| (b' '..=b'~').contains(byte));
        assert!(answer.headers.values().all(printable), "{:?}", answer.headers);
        let text = format!("{:?}", answer.headers);
        assert!(!text.contains("vil") && !text.contains("stranger"), "{text}");
    }
}
