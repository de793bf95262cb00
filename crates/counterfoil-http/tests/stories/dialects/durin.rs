//! django-rest-durin.

use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::{Method, header};
use counterfoil_core::{By, Clock, Policy};
use counterfoil_http::DialectName;
use serde_json::{Value, json};

use super::recorded::replay;
use super::site::{Site, refused};
use crate::world::{Actor, Answer};

const LOGIN: &str = "/api/auth/login/";
const API: &str = "/api/auth/apiaccess/";
const SESSIONS: &str = "/api/auth/sessions/";

async fn site(settings: Value) -> Site {
    let authenticated = json!(["rest_framework.permissions.IsAuthenticated"]);
    let mut all = json!({"REST_FRAMEWORK.DEFAULT_PERMISSION_CLASSES": authenticated});
    all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    Site::of_john(DialectName::Durin, all).await
}

async fn login(site: &Site, client: &str) -> Answer {
    let body = json!({"username": "john", "password": "foobar123", "client": client});
    site.stranger().tell(LOGIN, body).await
}

async fn token(site: &Site, client: &str) -> String {
    let answer = login(site, client).await;
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
async fn every_recorded_answer_of_durin_is_ours_but_for_what_is_meant() {
    let meant = [
        // An expired token is never handed out; one that is born dead lives for a second.
        "login-zero-ttl",
        "rol-login-revives-expired",
    ];
    assert_eq!(replay("durin", DialectName::Durin, "/api/auth/", &meant).await, 129);
}

#[tokio::test]
async fn logins_at_once_give_one_token() {
    let site = site(json!({})).await;
    let logins = (0..8).map(|_| {
        let actor = site.stranger();
        tokio::spawn(async move {
            let body = json!({"username": "john", "password": "foobar123", "client": "web"});
            actor.tell(LOGIN, body).await
        })
    });
    let mut tokens = Vec::new();
    for login in logins.collect::<Vec<_>>() {
        let answer = login.await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        tokens.push(answer.json()["token"].clone());
    }
    assert!(tokens.windows(2).all(|pair| pair[0] == pair[1]), "{tokens:?}");
    let listed = holder(&site, tokens[0].as_str().unwrap()).get(SESSIONS).await;
    assert_eq!(listed.json().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_expired_token_says_so_once_and_is_never_handed_out_again() {
    let site = site(json!({})).await;
    let old = token(&site, "web").await;
    site.server.wait(86_399_999);
    assert_eq!(holder(&site, &old).get("/me/").await.status, 200);
    assert_eq!(token(&site, "web").await, old);
    site.server.wait(1);
    let new = token(&site, "web").await;
    assert_ne!(new, old);
    says(&holder(&site, &old).get("/me/").await, 401, r#"{"detail":"The given token has expired."}"#);
    says(&holder(&site, &old).get("/me/").await, 401, r#"{"detail":"Invalid token."}"#);
    let sessions = holder(&site, &new).get(SESSIONS).await.json();
    assert_eq!(sessions.as_array().unwrap().len(), 1, "{sessions}");
}

#[tokio::test]
async fn sessions_tell_an_expired_one_until_another_takes_its_place() {
    let site = site(json!({})).await;
    token(&site, "web").await;
    site.server.wait(86_400_000);
    let week = token(&site, "week").await;
    let listed = holder(&site, &week).get(SESSIONS).await;
    assert_eq!(
        listed.text(),
        r#"[{"id":1,"client":"web","created":"2026-11-20T11:00:00.000000Z","expiry":"2026-11-21T11:00:00.000000Z","has_expired":true,"is_current":false,"expires_in_str":"a day"},{"id":2,"client":"week","created":"2026-11-21T11:00:00.000000Z","expiry":"2026-11-28T11:00:00.000000Z","has_expired":false,"is_current":true,"expires_in_str":"6 days"}]"#
    );
    assert_eq!(holder(&site, &week).delete("/api/auth/sessions//1").await.status, 204);
    assert_eq!(holder(&site, &week).get(SESSIONS).await.json().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn nobody_ends_the_session_of_another() {
    let setup = json!({
        "users": [{"username": "john", "password": "foobar123"}, {"username": "jane", "password": "janepass456"}],
        "clients": [{"name": "web", "token_ttl": "1 00:00:00", "throttle_rate": ""}],
    });
    let site = Site::with(DialectName::Durin, "/api/auth/", &json!({}), &setup).await;
    let john = token(&site, "web").await;
    let body = json!({"username": "jane", "password": "janepass456", "client": "web"});
    let jane = site.stranger().tell(LOGIN, body).await.json()["token"].as_str().unwrap().to_owned();
    let none = r#"{"detail":"No AuthToken matches the given query."}"#;
    says(&holder(&site, &jane).delete("/api/auth/sessions//1").await, 404, none);
    assert_eq!(holder(&site, &john).get("/me/").await.status, 200);
    let own = r#"["Can't delete token if the request is authed with it.Use /api/auth/logout/ instead."]"#;
    says(&holder(&site, &john).delete("/api/auth/sessions//1").await, 400, own);
    says(&holder(&site, &john).delete("/api/auth/sessions//x").await, 404, r#"{"detail":"Not found."}"#);
    assert_eq!(holder(&site, &john).delete("/api/auth/sessions//1.5").await.header("allow"), "");
}

#[tokio::test]
async fn the_token_for_programs_is_shown_once_or_where_the_settings_say_so() {
    for (shows, apart) in [(false, false), (true, true)] {
        let site = site(json!({"REST_DURIN": {
            "API_ACCESS_CLIENT_NAME": "api",
            "API_ACCESS_RESPONSE_INCLUDE_TOKEN": shows,
            "API_ACCESS_EXCLUDE_FROM_SESSIONS": apart,
        }}))
        .await;
        let john = holder(&site, &token(&site, "web").await);
        says(&john.get(API).await, 404, r#"{"detail":"Not found."}"#);
        let made = john.post(API).await;
        let api = made.json()["token"].as_str().unwrap().to_owned();
        assert_eq!(made.status, 201);
        says(&john.post(API).await, 400, r#"["An API token was already issued to you."]"#);
        let shown = john.get(API).await.json();
        assert_eq!(shown.get("token").and_then(Value::as_str), shows.then_some(&*api));
        assert_eq!(shown["expires_in_str"], "a year");
        assert_eq!(john.get(SESSIONS).await.json().as_array().unwrap().len(), if apart { 1 } else { 2 });
        assert_eq!(token(&site, "api").await, api, "a login on its client gives the same");
        assert_eq!(holder(&site, &api).delete(API).await.status, 204);
        says(&holder(&site, &api).get("/me/").await, 401, r#"{"detail":"Invalid token."}"#);
        says(&john.delete(API).await, 404, r#"{"detail":"Not found."}"#);
    }
}

#[tokio::test]
async fn one_of_many_who_ask_at_once_for_a_token_for_programs_gets_it() {
    let site = site(json!({"REST_DURIN": {"API_ACCESS_CLIENT_NAME": "api"}})).await;
    let john = holder(&site, &token(&site, "web").await);
    let asked: Vec<_> = (0..8)
        .map(|_| {
            let john = john.clone();
            tokio::spawn(async move { john.post(API).await.status })
        })
        .collect();
    let mut made = 0;
    for asked in asked {
        match asked.await.unwrap() {
            201 => made += 1,
            status => assert_eq!(status, 400),
        }
    }
    assert_eq!(made, 1);
}

#[tokio::test]
async fn what_the_package_fails_at_is_refused_with_a_reason() {
    let site = Site::of_john(DialectName::Durin, json!({})).await;
    let nobody = r#"{"detail":"Authentication credentials were not provided."}"#;
    for (method, path) in [
        (Method::POST, "/api/auth/refresh/"),
        (Method::POST, "/api/auth/logout/"),
        (Method::POST, "/api/auth/logoutall/"),
        (Method::GET, SESSIONS),
        (Method::DELETE, "/api/auth/sessions//1"),
        (Method::POST, API),
    ] {
        let answer = site.stranger().send(method.clone(), path, Body::empty()).await;
        says(&answer, 401, nobody);
        assert_eq!(answer.header("www-authenticate"), "Token", "{method} {path}");
    }
    let john = holder(&site, &token(&site, "web").await);
    for method in [Method::GET, Method::POST, Method::DELETE] {
        says(&john.send(method, API, Body::empty()).await, 404, r#"{"detail":"Not found."}"#);
    }
}

#[tokio::test]
async fn a_refresh_gives_a_whole_life_and_a_login_does_where_the_settings_say_so() {
    let site = site(json!({"REST_DURIN": {
        "REFRESH_TOKEN_ON_LOGIN": true,
        "EXPIRY_DATETIME_FORMAT": "%Y-%m-%d %H:%M:%S",
        "USER_SERIALIZER": "durin.serializers.UserSerializer",
    }}))
    .await;
    let first = login(&site, "web").await.json();
    assert_eq!((&first["expiry"], &first["user"]), (&json!("2026-11-21 11:00:00"), &json!({"username": "john"})));
    site.server.wait(3_600_000);
    let second = login(&site, "web").await.json();
    assert_eq!((&second["expiry"], &second["token"]), (&json!("2026-11-21 12:00:00"), &first["token"]));
    site.server.wait(3_600_000);
    let john = holder(&site, first["token"].as_str().unwrap());
    says(&john.post("/api/auth/refresh/").await, 200, r#"{"expiry":"2026-11-21 13:00:00"}"#);
}

#[tokio::test]
async fn without_a_store_nobody_is_let_in_and_nobody_told_a_lie() {
    let site = site(json!({"REST_DURIN": {"API_ACCESS_CLIENT_NAME": "api"}})).await;
    let john = holder(&site, &token(&site, "web").await);
    site.server.outages.store.store(true, Ordering::SeqCst);
    assert_eq!(login(&site, "web").await.status, 503);
    for (method, path) in [
        (Method::POST, "/api/auth/refresh/"),
        (Method::POST, "/api/auth/logout/"),
        (Method::POST, "/api/auth/logoutall/"),
        (Method::GET, SESSIONS),
        (Method::DELETE, "/api/auth/sessions//1"),
        (Method::GET, API),
        (Method::POST, API),
        (Method::DELETE, API),
        (Method::GET, "/me/"),
    ] {
        let answer = john.send(method.clone(), path, Body::empty()).await;
        assert_eq!(answer.status, 503, "{method} {path}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_client_that_nobody_may_log_in_on_is_none() {
    let site = site(json!({})).await;
    let name = "web".parse().unwrap();
    let now = site.server.clock.now();
    let order = |client: &counterfoil_core::Client| {
        let mut order = counterfoil_core::authority::ClientOrder::named(client.name.clone());
        order.policy = Policy { ..client.policy.clone() };
        order.allow_login = false;
        Ok(order)
    };
    site.server.authority.update_client(&name, order, &By::operator(), now).await.unwrap();
    for client in ["web", "nowhere"] {
        says(&login(&site, client).await, 400, r#"{"detail":"No client with that name."}"#);
    }
}

#[tokio::test]
async fn every_view_counts_where_the_settings_throttle_them_all() {
    let site = site(json!({"REST_FRAMEWORK": {
        "DEFAULT_THROTTLE_CLASSES": ["durin.throttling.UserClientRateThrottle"],
        "DEFAULT_THROTTLE_RATES": {"user_per_client": "3/min"},
    }}))
    .await;
    let john = holder(&site, &token(&site, "week").await);
    assert_eq!((john.get(SESSIONS).await.status, john.get("/me/").await.status), (200, 200));
    let throttled = john.post("/api/auth/refresh/").await;
    says(&throttled, 429, r#"{"detail":"Request was throttled. Expected available in 60 seconds."}"#);
    assert_eq!(throttled.header("retry-after"), "60");
    let (second, third) = (login(&site, "web").await.status, login(&site, "web").await.status);
    assert_eq!((second, third), (200, 200));
    assert_eq!(login(&site, "web").await.status, 429, "logins count by address");
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let refused = |settings| refused(DialectName::Durin, settings);
    assert_eq!(refused(json!({"REST_DURIN": {"X": 1}})), "REST_DURIN.X: there is no such setting");
    assert_eq!(
        refused(json!({"REST_DURIN": {"USER_SERIALIZER": "shop.serializers.User"}})),
        "REST_DURIN.USER_SERIALIZER: is durin.serializers.UserSerializer; say what another shows in user_fields"
    );
    assert_eq!(refused(json!({"humanize": "5"})), "humanize: is one of 4.15, 4.14");
    assert_eq!(
        refused(json!({"REST_DURIN.AUTH_HEADER_PREFIX": "a b"})),
        "REST_DURIN.AUTH_HEADER_PREFIX: is one word of ASCII"
    );
    assert!(refused(json!({"REST_DURIN.TOKEN_CHARACTER_LENGTH": 16})).starts_with("tokens: "));
    assert!(refused(json!({"TIME_ZONE": "Europe/Berlin"})).starts_with("TIME_ZONE: is UTC"));
}
