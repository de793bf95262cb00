//! django-drf-advanced-token.

use std::sync::atomic::Ordering;

use axum::http::{Method, header};
use counterfoil_core::{By, Clock, Source};
use counterfoil_http::DialectName;
use serde_json::json;

use super::site::{Site, refused};
use crate::world::{Actor, Answer};

async fn advanced(settings: serde_json::Value) -> Site {
    Site::of_john(DialectName::Advanced, settings).await
}

async fn token(site: &Site) -> String {
    let answer = site.stranger().form("/auth/login/", "username=john&password=foobar123").await;
    answer.json()["token"].as_str().unwrap().to_owned()
}

fn holding(site: &Site, line: &str) -> Actor {
    site.stranger().with(header::AUTHORIZATION, line)
}

const NOT_PROVIDED: &str = r#"{"detail": "Authentication credentials were not provided."}"#;

fn stopped(answer: &Answer) {
    let headers = ["vary", "www-authenticate", "allow", "content-type"].map(|name| answer.header(name));
    assert_eq!((answer.status, answer.text()), (401, NOT_PROVIDED));
    assert_eq!(headers, ["Cookie", "", "", "application/json"]);
}

#[tokio::test]
async fn the_middleware_stands_before_every_address() {
    let site = advanced(json!({})).await;
    let token = token(&site).await;
    for path in ["/auth/login/", "/auth/token/", "/me/", "/me", "/nowhere", "/greet"] {
        for line in [
            "Token",
            "Token nonsense",
            "Bearer x",
            "token x",
            "Basic eDp5",
            &format!("token {token}"),
            &format!("Token  {token}"),
            &format!("Token\t{token}"),
            &format!("Token {token}x"),
        ] {
            stopped(&holding(&site, line).get(path).await);
        }
        let nothing = site.stranger().get(path).await;
        assert_ne!(nothing.text(), NOT_PROVIDED, "{path}");
        assert!(nothing.header("vary").contains("Cookie"), "{path}");
    }
    let words = holding(&site, &format!("Token {token} x")).get("/me/").await;
    assert_eq!(words.text(), r#"{"detail":"Invalid token header. Token string should not contain spaces."}"#);
    assert_eq!(holding(&site, &format!("  Token {token}  ")).get("/greet").await.text(), r#"{"somebody":true}"#);
    assert_eq!(site.stranger().get("/greet").await.text(), r#"{"somebody":false}"#);
}

#[tokio::test]
async fn whoever_is_disabled_is_told_so_by_the_views_and_is_nobody_elsewhere() {
    let site = advanced(json!({})).await;
    let john = holding(&site, &format!("Token {}", token(&site).await));
    let subject = site.server.authority.user("john").await.unwrap().subject;
    site.server.authority.disable_user(&subject, &By::operator(), site.server.clock.now()).await.unwrap();
    assert_eq!(john.get("/auth/token/").await.text(), r#"{"detail":"User inactive or deleted."}"#);
    assert_eq!(john.get("/greet").await.text(), r#"{"somebody":false}"#);
}

#[tokio::test]
async fn a78_a_logout_by_get_takes_its_token_from_the_header_alone() {
    let site = advanced(json!({})).await;
    let text = token(&site).await;
    for name in ["token", "Token", "sessionid", "__Host-counterfoil", "auth_token"] {
        let cookie = site.stranger().with(header::COOKIE, format!("{name}={text}"));
        for path in ["/auth/logout/", "/auth/logout/?token={text}"] {
            assert_eq!(cookie.get(&path.replace("{text}", &text)).await.status, 401);
        }
    }
    let john = holding(&site, &format!("Token {text}"));
    assert_eq!(john.get("/auth/token/").await.status, 200, "nothing of that was a logout");
    let out = john.send(Method::HEAD, "/auth/logout/", "".into()).await;
    assert_eq!((out.status, out.text(), out.header("allow")), (200, "", "GET, HEAD, OPTIONS"));
    stopped(&john.get("/auth/token/").await);
}

#[tokio::test]
async fn another_token_ends_the_one_before_for_all_devices_unless_that_is_prevented() {
    let site = advanced(json!({})).await;
    let (desk, phone) = (token(&site).await, token(&site).await);
    assert_eq!(desk, phone, "one token for all devices");
    let john = holding(&site, &format!("Token {desk}"));
    let answer = john.send(Method::PUT, "/auth/token/", "no JSON".into()).await;
    let new = answer.json()["token"].as_str().unwrap().to_owned();
    assert_ne!(new, desk);
    stopped(&john.get("/me/").await);
    assert_eq!(token(&site).await, new);

    let prevented = advanced(json!({"PREVENT_TOKEN_API_CHANGE": true, "PREVENT_TOKEN_LOGOUT": true})).await;
    let john = holding(&prevented, &format!("Token {}", token(&prevented).await));
    for (method, path) in [(Method::PUT, "/auth/token/"), (Method::GET, "/auth/logout/")] {
        let answer = john.send(method, path, "".into()).await;
        assert_eq!((answer.status, answer.text(), answer.header("content-type")), (405, "", ""));
    }
    assert_eq!(john.get("/me/").await.status, 200);
}

#[tokio::test]
async fn whoever_has_locked_their_token_keeps_it_and_can_log_out() {
    let site = advanced(json!({})).await;
    let john = holding(&site, &format!("Token {}", token(&site).await));
    let (authority, now, source) = (&site.server.authority, site.server.clock.now(), Source::default());
    let text = token(&site).await;
    let who = authority.authenticate(&text, &source, now).await.unwrap();
    authority.lock_rotation(&who, true, &source, now).await.unwrap();
    let answer = john.send(Method::PUT, "/auth/token/", "".into()).await;
    assert_eq!((answer.status, answer.text(), answer.header("allow")), (405, "", "GET, PUT, HEAD, OPTIONS"));
    assert_eq!(john.get("/auth/logout/").await.status, 200);
}

#[tokio::test]
async fn of_requests_at_once_one_token_remains() {
    let site = advanced(json!({})).await;
    let login = async || site.stranger().form("/auth/login/", "username=john&password=foobar123").await;
    let (first, second, third) = tokio::join!(login(), login(), login());
    assert_eq!((first.status, second.status, third.status), (200, 200, 200), "no first login loses a race");
    assert_eq!(first.text(), second.text());
    let john = holding(&site, &format!("Token {}", first.json()["token"].as_str().unwrap()));
    let put = async || john.send(Method::PUT, "/auth/token/", "".into()).await;
    let (one, two, three) = tokio::join!(put(), put(), put());
    let given: Vec<_> = [one, two, three].into_iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(given.len(), 1, "the others came with a token that was dead by then");
    assert_eq!(token(&site).await, given[0].json()["token"]);
}

#[tokio::test]
async fn a_login_that_shows_a_token_is_forged_for_all_that_is_known_where_sessions_count() {
    let site = advanced(json!({})).await;
    let text = token(&site).await;
    let answer =
        holding(&site, &format!("Token {text}")).form("/auth/login/", "username=john&password=foobar123").await;
    assert_eq!((answer.status, answer.text()), (403, r#"{"detail":"CSRF Failed: CSRF cookie not set."}"#));
    assert_eq!(answer.header("www-authenticate"), "");
    let by_token = json!({"REST_FRAMEWORK": {"DEFAULT_AUTHENTICATION_CLASSES": ["x.TokenAuthentication"]}});
    let site = advanced(by_token).await;
    let text = token(&site).await;
    let answer =
        holding(&site, &format!("Token {text}")).form("/auth/login/", "username=john&password=foobar123").await;
    assert_eq!(answer.json()["token"], text);
}

#[tokio::test]
async fn what_cannot_be_read_is_403_and_what_is_no_account_401() {
    let site = advanced(json!({})).await;
    for (body, status) in [
        (r#"{"username":"john"}"#, 403),
        (r#"{"username":"john","password":5}"#, 403),
        (r#"["john"]"#, 403),
        ("null", 403),
        (r#"{"username":null,"password":5}"#, 401),
        (r#"{"username":["john"],"password":"foobar123"}"#, 401),
        (r#"{"username":" john ","password":"foobar123"}"#, 401),
        (r#"{"username":"john","password":""}"#, 401),
    ] {
        let answer = site.stranger().typed(Method::POST, "/auth/login/", "application/json", body).await;
        assert_eq!((answer.status, answer.text(), answer.header("content-type")), (status, "", ""), "{body}");
    }
}

#[tokio::test]
async fn without_its_store_the_middleware_lets_nobody_pass() {
    let site = advanced(json!({})).await;
    let text = token(&site).await;
    site.server.outages.store.store(true, Ordering::SeqCst);
    let john = holding(&site, &format!("Token {text}"));
    for path in ["/greet", "/me/", "/nowhere"] {
        assert_eq!(john.get(path).await.status, 503, "{path}");
    }
}

#[tokio::test]
async fn texts_may_be_the_packages_and_bearer_works_beside_token() {
    let site = advanced(json!({"tokens": "package", "BEARER_PREFIX": "Bearer"})).await;
    let text = token(&site).await;
    assert_eq!((text.len(), text.matches('-').count()), (36, 4), "{text}");
    for line in ["Token", "Bearer"] {
        assert_eq!(holding(&site, &format!("{line} {text}")).get("/me/").await.status, 200);
    }
}

#[test]
fn settings_that_there_are_not_are_refused() {
    let refused = |settings| refused(DialectName::Advanced, settings);
    assert_eq!(refused(json!({"BEARER_PREFIX": "a b"})), "BEARER_PREFIX: is one word");
    assert_eq!(refused(json!({"PREVENT_TOKEN_LOGOUT": "yes"})), "PREVENT_TOKEN_LOGOUT: is true or false");
}
