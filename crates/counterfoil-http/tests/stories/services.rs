//! What services ask about tokens.

use std::sync::atomic::Ordering;

use axum::http::{Method, header};
use counterfoil_core::throttle::{Period, Rate, RouteRates};
use counterfoil_core::{By, Clock, Kind, Policy};
use serde_json::{Value, json};

use crate::world::{Actor, Answer, BARE, INVALID_REQUEST, PASSWORD, TestServer};

const FORM: &str = "application/x-www-form-urlencoded";

/// A service that may do this.
async fn service(server: &TestServer, abilities: &str) -> Actor {
    let account = server.user(&format!("service {abilities}"), PASSWORD).await;
    server.issued(&account, Kind::Key, abilities).await
}

fn about(token: &Actor) -> String {
    format!("token={}", token.secret)
}

/// RFC 6749 §5.2, with what a problem says besides.
#[track_caller]
fn is_invalid_request(answer: &Answer, field: &Value) {
    assert_eq!((answer.status, answer.header("content-type")), (400, "application/json"), "{}", answer.text());
    let document = answer.json();
    assert_eq!(document["error"], "invalid_request");
    assert_eq!(document["type"], "urn:counterfoil:problem:invalid-request");
    assert_eq!(&document["field"], field);
    let described = document["error_description"].as_str().unwrap();
    assert!(described.ends_with(document["detail"].as_str().unwrap()), "{described}");
    assert!(described.bytes().all(|byte| (b' '..=b'~').contains(&byte) && !b"\"\\".contains(&byte)), "{described}");
}

#[tokio::test]
async fn r22_a_service_is_told_what_a_live_token_is() {
    let server = TestServer::with_ada().await;
    let (service, ada) = (service(&server, "tokens:introspect").await, server.ada().await);
    let me = ada.get("/v1/me").await.json();
    let answer = service.form("/v1/introspect", &about(&ada)).await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"));
    assert_eq!(
        answer.json(),
        json!({
            "active": true, "scope": "*", "client_id": "default", "username": "ada", "token_type": "Bearer",
            "exp": 1_797_764_400, "iat": 1_795_172_400, "sub": me["user"]["id"], "jti": ada.id, "kind": "login",
        })
    );
    let body = json!({"abilities": ["files:read", "mail:send"]});
    let key = ada.json(Method::POST, "/v1/keys", &body).await.json();
    let told = service.form("/v1/introspect", &format!("token={}", key["token"].as_str().unwrap())).await.json();
    assert_eq!((&told["scope"], &told["kind"]), (&json!("files:read mail:send"), &json!("key")));
    assert_eq!(told.get("exp"), None, "a key that never expires has no exp");
}

#[tokio::test]
async fn r22_of_a_token_that_is_not_live_nothing_else_is_said() {
    let server = TestServer::with_ada().await;
    server.client("minute", Policy { ttl: "60s".parse().ok(), ..Policy::default() }).await;
    let service = service(&server, "tokens:introspect").await;
    let (revoked, disabled) = (server.ada().await, server.user("bob", PASSWORD).await);
    let bob = server.logged_in("bob", "default", "x").await;
    let expired = server.logged_in("ada", "minute", "x").await;
    revoked.post("/v1/logout").await.is_done();
    server.authority.disable_user(&disabled.subject, &By::operator(), server.clock.now()).await.unwrap();
    server.wait(60_000);
    let mut bent = server.ada().await;
    bent.secret.replace_range(20..21, if &bent.secret[20..21] == "x" { "y" } else { "x" });
    for text in [&revoked.secret, &bob.secret, &expired.secret, &bent.secret, "nonsense", "%F0%9F%A6%80", " ", "a b"] {
        let answer = service.form("/v1/introspect", &format!("token={text}")).await;
        assert_eq!((answer.status, answer.json()), (200, json!({"active": false})), "{text}");
    }
}

#[tokio::test]
async fn a42_whoever_is_no_service_is_told_nothing() {
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    let dead = server.ada().await;
    dead.post("/v1/logout").await.is_done();
    let (reader, revoker) = (service(&server, "tokens:introspect").await, service(&server, "tokens:revoke *").await);
    for (path, wanted, other) in
        [("/v1/introspect", "tokens:introspect", &revoker), ("/v1/revoke", "tokens:revoke", &reader)]
    {
        for text in [&ada.secret, &dead.secret, "nonsense"] {
            let form = format!("token={text}");
            server.anonymous().form(path, &form).await.is_problem(401, "token-missing", BARE);
            let basic = server.anonymous().with(header::AUTHORIZATION, "Basic YWRhOng=");
            basic.form(path, &form).await.is_problem(401, "token-missing", BARE);
            dead.form(path, &form).await.is_invalid_token();
            let challenge = format!(r#"Bearer realm="counterfoil", error="insufficient_scope", scope="{wanted}""#);
            ada.form(path, &form).await.is_problem(403, "insufficient-ability", &challenge);
            other.form(path, &form).await.is_problem(403, "insufficient-ability", &challenge);
        }
    }
    assert_eq!(ada.get("/v1/me").await.status, 200);
}

#[tokio::test]
async fn what_is_wrong_with_the_request_of_a_service_is_told_as_oauth_has_it() {
    let server = TestServer::with_ada().await;
    let (ada, service) = (server.ada().await, service(&server, "tokens:introspect tokens:revoke").await);
    for path in ["/v1/introspect", "/v1/revoke"] {
        for (form, field) in [
            (String::new(), json!("token")),
            ("token=".to_owned(), json!("token")),
            ("token_type_hint=access_token".to_owned(), json!("token")),
            (format!("token={0}&token={0}", ada.secret), json!("token")),
            (format!("token={}&token_type_hint=a&token_type_hint=b", ada.secret), json!("token_type_hint")),
            ("token=%ff".to_owned(), Value::Null),
        ] {
            let answer = service.form(path, &form).await;
            is_invalid_request(&answer, &field);
            assert_eq!(answer.header("www-authenticate"), "");
        }
        let second = service.form(path, &format!("token={0}&access_token={0}", ada.secret)).await;
        is_invalid_request(&second, &Value::Null);
        assert_eq!(second.header("www-authenticate"), INVALID_REQUEST, "a34: that is a second credential");
        let twice = service.clone().with(header::AUTHORIZATION, "Bearer x");
        is_invalid_request(&twice.form(path, &about(&ada)).await, &Value::Null);
        let json = service.json(Method::POST, path, &json!({"token": ada.secret})).await;
        json.is_problem(415, "unsupported-media-type", "");
        let large = service.form(path, &format!("token={}", "x".repeat(70_000))).await;
        large.is_problem(413, "body-too-large", "");
    }
    assert_eq!(ada.get("/v1/me").await.status, 200, "nothing was revoked");
    let extended = format!("{}&token_type_hint=refresh_token&resource=a&resource=b", about(&ada));
    assert_eq!(service.form("/v1/introspect", &extended).await.json()["active"], true);
    let plain = service.typed(Method::POST, "/v1/introspect", &format!("{FORM}; charset=utf-8"), about(&ada)).await;
    assert_eq!(plain.status, 200);
}

#[tokio::test]
async fn a41_revoking_is_done_and_tells_nobody_what_was_known() {
    let server = TestServer::with_ada().await;
    let (ada, service) = (server.ada().await, service(&server, "tokens:revoke").await);
    let revoke = async |text: &str| {
        let answer = service.form("/v1/revoke", &format!("token={text}")).await;
        let mut headers = answer.headers.clone();
        headers.remove("x-request-id");
        (answer.status, answer.text().to_owned(), headers)
    };
    let unknown = revoke("nonsense").await;
    assert_eq!((unknown.0, unknown.1.as_str()), (200, ""));
    let key = ada.json(Method::POST, "/v1/keys", &json!({})).await.json();
    let key = server.token(key["token"].as_str().unwrap());
    assert_eq!(revoke(&ada.secret).await, unknown);
    ada.get("/v1/me").await.is_invalid_token();
    assert_eq!(revoke(&ada.secret).await, unknown, "it is dead already");
    assert_eq!(key.get("/v1/me").await.status, 200);
    assert_eq!(revoke(&key.secret).await, unknown);
    key.get("/v1/me").await.is_invalid_token();
    assert_eq!(revoke("cf_0000000000000000000000000000000000000000000000000").await, unknown);
}

#[tokio::test]
async fn r21_while_the_store_is_away_nothing_is_told_and_nothing_is_acknowledged() {
    let server = TestServer::with_ada().await;
    let (ada, service) = (server.ada().await, service(&server, "tokens:introspect tokens:revoke").await);
    server.outages.store.store(true, Ordering::SeqCst);
    for path in ["/v1/introspect", "/v1/revoke"] {
        let answer = service.form(path, &about(&ada)).await;
        answer.is_problem(503, "unavailable", "");
        assert_eq!(answer.header("retry-after"), "5");
    }
    server.outages.store.store(false, Ordering::SeqCst);
    assert_eq!(ada.get("/v1/me").await.status, 200);
    assert_eq!(service.form("/v1/revoke", &about(&ada)).await.status, 200);
    ada.get("/v1/me").await.is_invalid_token();
}

#[tokio::test]
async fn a_revocation_by_anybody_shows_at_the_next_introspection() {
    let server = TestServer::with_ada().await;
    let (ada, phone) = (server.ada().await, server.ada().await);
    let service = service(&server, "tokens:introspect").await;
    let fresh = service.clone().with(header::CACHE_CONTROL, "no-cache");
    for asking in [&service, &fresh] {
        assert_eq!(asking.form("/v1/introspect", &about(&phone)).await.json()["active"], true);
    }
    ada.delete(&format!("/v1/tokens/{}", phone.id)).await.is_done();
    for asking in [&service, &fresh] {
        assert_eq!(asking.form("/v1/introspect", &about(&phone)).await.json(), json!({"active": false}));
    }
}

#[tokio::test]
async fn services_and_people_have_limits_of_their_own() {
    let server = TestServer::with_ada().await;
    let (ada, bob) = (server.ada().await, server.user("bob", PASSWORD).await);
    let bob = server.issued(&bob, Kind::Key, "*").await;
    let (one, other) = (service(&server, "tokens:introspect").await, service(&server, "tokens:revoke").await);
    let two = Some(Rate::per(2, Period::Minute));
    server.limit_requests(RouteRates { api: two, introspection: two, login: two }).await;
    for _ in 0..2 {
        assert_eq!(one.form("/v1/introspect", &about(&ada)).await.status, 200);
        assert_eq!(ada.post("/v1/renew").await.status, 200);
    }
    let limited = |answer: Answer, quota: &str| {
        answer.is_problem(429, "quota-exceeded", "");
        assert_eq!(answer.header("retry-after"), "30");
        assert_eq!(answer.header("ratelimit"), format!("\"{quota}\";r=0;t=30"));
        assert_eq!(answer.header("ratelimit-policy"), format!("\"{quota}\";q=2;w=60"));
    };
    limited(one.form("/v1/introspect", &about(&ada)).await, "introspection");
    for path in ["/v1/renew", "/v1/rotate", "/v1/logout"] {
        limited(ada.post(path).await, "api");
    }
    limited(ada.get("/v1/me").await, "api");
    assert_eq!(other.form("/v1/revoke", "token=x").await.status, 200, "another service");
    assert_eq!(bob.get("/v1/me").await.status, 200, "another user");
    assert_eq!(ada.get("/healthz").await.status, 200);
    server.wait(30_000);
    assert_eq!(ada.get("/v1/me").await.status, 200);
}
