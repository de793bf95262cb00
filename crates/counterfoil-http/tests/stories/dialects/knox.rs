//! django-rest-knox.

use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::{Method, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use counterfoil_http::DialectName;
use serde_json::{Value, json};

use super::recorded::replay;
use super::site::{Site, refused};
use crate::world::{Actor, Answer};

const BASIC: &str = "/api/auth/login/";
const PASSWORD: &str = "/api/auth/password-login/";
const TOKEN: &str = "/api/auth/token-login/";

async fn site(settings: Value) -> Site {
    Site::of_john(DialectName::Knox, settings).await
}

fn by_password(site: &Site, password: &str) -> Actor {
    let credentials = STANDARD.encode(format!("john:{password}"));
    site.stranger().with(header::AUTHORIZATION, format!("Basic {credentials}"))
}

async fn token(site: &Site) -> String {
    let answer = by_password(site, "foobar123").post(BASIC).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["token"].as_str().unwrap().to_owned()
}

fn holder(site: &Site, token: &str) -> Actor {
    site.stranger().with(header::AUTHORIZATION, format!("Token {token}"))
}

#[track_caller]
fn says(answer: &Answer, status: u16, words: &str) {
    assert_eq!((answer.status, answer.text()), (status, words));
}

#[tokio::test]
async fn every_recorded_answer_of_knox_is_ours() {
    assert_eq!(replay("knox", DialectName::Knox, "/api/auth/", &[]).await, 75);
}

#[tokio::test]
async fn every_login_gives_another_token_and_a_logout_ends_its_own() {
    let site = site(json!({})).await;
    let (one, two) = (token(&site).await, token(&site).await);
    assert_ne!(one, two);
    let three = holder(&site, &one).post(TOKEN).await.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(holder(&site, &one).post("/api/auth/logout/").await.status, 204);
    says(&holder(&site, &one).post(TOKEN).await, 401, r#"{"detail":"Invalid token."}"#);
    for left in [&two, &three] {
        assert_eq!(holder(&site, left).get("/me/").await.status, 200);
    }
    assert_eq!(holder(&site, &two).post("/api/auth/logoutall/").await.status, 204);
    for ended in [&two, &three] {
        says(&holder(&site, ended).get("/me/").await, 401, r#"{"detail":"Invalid token."}"#);
    }
}

#[tokio::test]
async fn a_login_by_password_begins_no_session() {
    let site = site(json!({})).await;
    let answer = site.stranger().form(PASSWORD, "username=john&password=foobar123").await;
    assert_eq!((answer.status, answer.header("vary"), answer.header("set-cookie")), (200, "Accept, Cookie", ""));
    let refused = site.stranger().form(PASSWORD, "username=john&password=wrong").await;
    assert_eq!((refused.status, refused.header("vary")), (400, "Accept"));
}

#[tokio::test]
async fn of_many_logins_at_once_no_more_succeed_than_the_limit() {
    let site = site(json!({"REST_KNOX": {"TOKEN_LIMIT_PER_USER": 3}})).await;
    let logins: Vec<_> = (0..8)
        .map(|_| {
            let john = by_password(&site, "foobar123");
            tokio::spawn(async move { john.post(BASIC).await })
        })
        .collect();
    let mut given = 0;
    for login in logins {
        let answer = login.await.unwrap();
        match answer.status {
            200 => given += 1,
            _ => says(&answer, 403, r#"{"error":"Maximum amount of tokens allowed per user exceeded."}"#),
        }
    }
    assert_eq!(given, 3);
}

#[tokio::test]
async fn a_token_is_dead_at_the_instant_of_its_expiry_and_null_is_for_ever() {
    let ten_hours = site(json!({})).await;
    let old = token(&ten_hours).await;
    ten_hours.server.wait(35_999_999);
    assert_eq!(holder(&ten_hours, &old).get("/me/").await.status, 200);
    ten_hours.server.wait(1);
    for _ in 0..2 {
        says(&holder(&ten_hours, &old).get("/me/").await, 401, r#"{"detail":"Invalid token."}"#);
    }
    let for_ever = site(json!({"REST_KNOX": {"TOKEN_TTL": null}})).await;
    let answer = by_password(&for_ever, "foobar123").post(BASIC).await.json();
    assert_eq!(answer["expiry"], Value::Null);
    for_ever.server.wait(400 * 86_400_000);
    assert_eq!(holder(&for_ever, answer["token"].as_str().unwrap()).get("/me/").await.status, 200);
}

#[tokio::test]
async fn a_use_moves_the_expiry_by_more_than_the_interval_and_never_beyond_the_longest_life() {
    let knox = json!({"AUTO_REFRESH": true, "TOKEN_TTL": "1h", "MIN_REFRESH_INTERVAL": 60, "AUTO_REFRESH_MAX_TTL": "02:00:00"});
    let site = site(json!({"REST_KNOX": knox})).await;
    let used = token(&site).await;
    let uses = async |minutes: u64| {
        site.server.wait(minutes * 60_000);
        holder(&site, &used).get("/me/").await.status
    };
    assert_eq!(uses(1).await, 200);
    assert_eq!(uses(57).await, 200);
    assert_eq!(uses(59).await, 200);
    site.server.wait(179_999);
    assert_eq!(holder(&site, &used).get("/me/").await.status, 200);
    site.server.wait(1);
    assert_eq!(holder(&site, &used).get("/me/").await.status, 401, "two hours after its login");
    let unused = token(&site).await;
    assert_eq!(uses(1).await, 401);
    site.server.wait(59 * 60_000);
    assert_eq!(holder(&site, &unused).get("/me/").await.status, 401);
}

#[tokio::test]
async fn a_minute_is_not_more_than_a_minute() {
    for (after, lives) in [(60_000, false), (60_001, true)] {
        let site = site(json!({"REST_KNOX": {"AUTO_REFRESH": true, "TOKEN_TTL": 3600}})).await;
        let used = token(&site).await;
        site.server.wait(after);
        assert_eq!(holder(&site, &used).get("/me/").await.status, 200);
        site.server.wait(3_600_000 - after);
        assert_eq!(holder(&site, &used).get("/me/").await.status == 200, lives, "{after}");
    }
}

#[tokio::test]
async fn a_password_in_the_header_is_tried_no_more_often_than_anywhere_else() {
    let site = site(json!({})).await;
    for method in [Method::OPTIONS, Method::GET, Method::POST, Method::OPTIONS, Method::GET] {
        let answer = by_password(&site, "wrong").send(method, BASIC, Body::empty()).await;
        says(&answer, 401, r#"{"detail":"Invalid username/password."}"#);
        assert_eq!(answer.header("www-authenticate"), "Basic realm=\"api\"");
    }
    for method in [Method::OPTIONS, Method::POST] {
        let waits = by_password(&site, "foobar123").send(method, BASIC, Body::empty()).await;
        assert_eq!(waits.status, 429, "{}", waits.text());
        assert_ne!(waits.header("retry-after"), "");
    }
}

#[tokio::test]
async fn a_right_password_without_a_login_gives_no_token_and_counts_as_no_failure() {
    let site = site(json!({"REST_KNOX": {"TOKEN_LIMIT_PER_USER": 1}})).await;
    let john = by_password(&site, "foobar123");
    for _ in 0..12 {
        assert_eq!(john.send(Method::OPTIONS, BASIC, Body::empty()).await.json()["name"], "Basic Login");
        assert_eq!(john.get(BASIC).await.status, 405);
    }
    assert_eq!(john.post(BASIC).await.status, 200);
}

#[tokio::test]
async fn short_tokens_behind_a_prefix_work_from_the_first_one_on() {
    let knox = json!({"TOKEN_PREFIX": "cf_", "AUTH_TOKEN_CHARACTER_LENGTH": 32, "AUTH_HEADER_PREFIX": "Bearer"});
    let site = site(json!({"REST_KNOX": knox, "user_fields": ["id", "username", "is_staff"]})).await;
    let answer = by_password(&site, "foobar123").post(BASIC).await.json();
    let token = answer["token"].as_str().unwrap();
    assert!(token.len() == 35 && token.starts_with("cf_"), "{token}");
    assert_eq!((&answer["user"]["username"], &answer["user"]["is_staff"]), (&json!("john"), &json!(false)));
    let bearer = |text: &str| site.stranger().with(header::AUTHORIZATION, format!("Bearer {text}"));
    assert_eq!(bearer(token).get("/me/").await.status, 200);
    for other in [&token[3..], &token.to_uppercase(), "cf_", &format!("{token}0")] {
        says(&bearer(other).get("/me/").await, 401, r#"{"detail":"Invalid token."}"#);
    }
}

#[tokio::test]
async fn without_a_store_nobody_is_let_in_and_nobody_told_a_lie() {
    let site = site(json!({"REST_KNOX": {"AUTO_REFRESH": true}})).await;
    let john = holder(&site, &token(&site).await);
    site.server.outages.store.store(true, Ordering::SeqCst);
    for method in [Method::POST, Method::OPTIONS] {
        assert_eq!(by_password(&site, "foobar123").send(method, BASIC, Body::empty()).await.status, 503);
    }
    assert_eq!(site.stranger().form(PASSWORD, "username=john&password=foobar123").await.status, 503);
    for path in [TOKEN, "/api/auth/logout/", "/api/auth/logoutall/", "/me/"] {
        assert_eq!(john.post(path).await.status, 503, "{path}");
    }
}

#[tokio::test]
async fn logins_are_where_the_settings_put_them() {
    let settings = json!({"basic_login": false, "password_login": "login/", "token_login": false});
    let site = site(settings).await;
    let answer = site.stranger().form("/api/auth/login/", "username=john&password=foobar123").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(site.stranger().post("/api/auth/login").await.header("location"), "/api/auth/login/");
    for path in [PASSWORD, TOKEN] {
        assert_eq!(site.stranger().post(path).await.status, 404);
    }
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let refused = |settings| refused(DialectName::Knox, settings);
    assert_eq!(refused(json!({"REST_KNOX": {"X": 1}})), "REST_KNOX.X: there is no such setting");
    assert_eq!(refused(json!({"token_login": "login/"})), "token_login: there is another view at /login/ already");
    assert!(refused(json!({"basic_login": "{x}"})).starts_with("basic_login: is a path"));
    assert!(refused(json!({"REST_KNOX": {"TOKEN_TTL": 0}})).starts_with("REST_KNOX.TOKEN_TTL: "));
    assert!(refused(json!({"REST_KNOX": {"TOKEN_TTL": 0.5}})).starts_with("REST_KNOX.TOKEN_TTL: "));
    assert!(refused(json!({"REST_KNOX": {"TOKEN_LIMIT_PER_USER": 0}})).starts_with("REST_KNOX.TOKEN_LIMIT_PER_USER: "));
    assert!(refused(json!({"REST_KNOX": {"TOKEN_PREFIX": "elevenbytes"}})).starts_with("tokens: "));
}
