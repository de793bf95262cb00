//! django-rest-authtoken.

use std::sync::atomic::Ordering;

use axum::http::{Method, header};
use counterfoil_http::DialectName;
use serde_json::{Value, json};

use super::site::{Site, refused};

async fn rest_authtoken(settings: Value) -> Site {
    Site::of_john(DialectName::RestAuthtoken, settings).await
}

fn confirming(confirm: &str) -> Value {
    json!({
        "REGISTRATION_ENABLED": true,
        "REGISTRATION_EMAIL_CONFIRM": true,
        "REGISTRATION_CONFIRM_REDIRECT_PATH": "/welcome/",
        "confirm": confirm,
    })
}

/// Somebody who has registered, and the secret of the link that was mailed to them.
async fn registered(site: &Site) -> String {
    let body = json!({"username": "grace", "password": "secret1", "email": "grace@example.org"});
    let answer = site.stranger().tell("/auth/register/", body).await;
    assert_eq!((answer.status, answer.text()), (201, r#"{"success":true}"#));
    site.server.mail("confirm_address").await.secret()
}

async fn is_confirmed(site: &Site) -> bool {
    site.server.authority.user("grace").await.unwrap().email_confirmed_at.is_some()
}

#[tokio::test]
async fn a_token_ends_at_the_instant_and_use_does_not_move_it() {
    let site = rest_authtoken(json!({"AUTH_TOKEN_VALIDITY": "1 00:00:00"})).await;
    let john = site.john("/auth/login/").await;
    site.server.wait(86_399_999);
    assert_eq!(john.get("/me/").await.status, 200);
    site.server.wait(1);
    assert_eq!(john.get("/me/").await.text(), r#"{"detail":"invalid auth token"}"#);
}

#[tokio::test]
async fn a_token_has_one_spelling() {
    let site = rest_authtoken(json!({})).await;
    let answer = site.stranger().form("/auth/login/", "username=john&password=foobar123").await;
    let text = answer.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(text.len(), 64);
    for other in [format!("{text}="), format!("{text}!"), format!("~{text}"), text.to_lowercase()] {
        let me = site.stranger().with(header::AUTHORIZATION, format!("Token {other}")).get("/me/").await;
        assert_eq!((me.status, me.text()), (401, r#"{"detail":"invalid auth token"}"#), "{other}");
    }
}

#[tokio::test]
async fn every_login_that_is_refused_is_refused_alike() {
    let site = rest_authtoken(json!({})).await;
    for body in [
        "[]",
        "5",
        "{}",
        r#"{"username":"john","password":5}"#,
        r#"{"username":"john","password":"x"}"#,
        r#"{"username":" john ","password":"foobar123"}"#,
    ] {
        let answer = site.stranger().typed(Method::POST, "/auth/login/", "application/json", body).await;
        assert_eq!((answer.status, answer.text()), (401, r#""invalid credentials""#), "{body}");
        assert_eq!(answer.header("www-authenticate"), "");
    }
}

#[tokio::test]
async fn whoever_registers_has_the_next_number_and_logs_in_with_what_they_typed() {
    let site = rest_authtoken(json!({"REGISTRATION_ENABLED": true, "USER_FIELDS": ["id", "username"]})).await;
    for (name, id) in [("grace", 1), ("edsger", 2)] {
        let body = json!({"username": name, "password": "  six123 ", "is_superuser": true});
        assert_eq!(site.stranger().tell("/auth/register/", body).await.status, 201);
        let login = json!({"username": name, "password": "  six123 "});
        let user = &site.stranger().tell("/auth/login/", login).await.json()["user"];
        assert_eq!(user, &json!({"id": id, "username": name}));
    }
}

#[tokio::test]
async fn of_registrations_at_once_each_gets_a_number_and_one_the_name() {
    let site = rest_authtoken(json!({"REGISTRATION_ENABLED": true})).await;
    let register = async |name: &str| {
        site.stranger().tell("/auth/register/", json!({"username": name, "password": "secret1"})).await.status
    };
    let (a, b, c) = tokio::join!(register("ada"), register("bea"), register("cleo"));
    assert_eq!((a, b, c), (201, 201, 201));
    let (a, b, c) = tokio::join!(register("dora"), register("dora"), register("DORA"));
    assert_eq!(u32::from(a) + u32::from(b) + u32::from(c), 201 + 400 + 400);
}

#[tokio::test]
async fn what_is_wrong_is_said_of_all_fields_together() {
    let site = rest_authtoken(json!({"REGISTRATION_ENABLED": true})).await;
    let answer = site.stranger().tell("/auth/register/", json!({"username": "john", "password": "x"})).await;
    let taken = "A user with that username already exists.";
    assert_eq!(answer.text(), format!(r#"{{"username":["{taken}"],"password":["password too short"]}}"#));
}

#[tokio::test]
async fn a_link_that_is_looked_at_confirms_nothing_and_its_button_does_once() {
    let site = rest_authtoken(confirming("page")).await;
    let link = format!("/auth/register/confirm/{}/", registered(&site).await);
    for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
        assert_eq!(site.stranger().send(method, &link, "".into()).await.status, 200);
    }
    assert_eq!(site.stranger().send(Method::DELETE, &link, "".into()).await.status, 403);
    assert!(!is_confirmed(&site).await, "a scanner of mails has not confirmed it");
    let answer = site.stranger().post(&link).await;
    assert_eq!((answer.status, answer.header("location")), (302, "/welcome/"));
    assert!(is_confirmed(&site).await);
    let again = site.stranger().post(&link).await;
    assert_eq!((again.status, again.text()), (400, "invalid token!"));
}

#[tokio::test]
async fn a_link_may_confirm_by_being_followed_where_the_settings_say_so() {
    let site = rest_authtoken(confirming("get")).await;
    let link = format!("/auth/register/confirm/{}/", registered(&site).await);
    assert_eq!(site.stranger().post(&link).await.status, 403);
    let answer = site.stranger().send(Method::HEAD, &link, "".into()).await;
    assert_eq!((answer.status, answer.header("location")), (302, "/welcome/"));
    assert!(is_confirmed(&site).await);
}

#[tokio::test]
async fn a51_an_address_that_has_an_account_is_answered_like_one_that_has_none() {
    let site = rest_authtoken(confirming("get")).await;
    let secret = registered(&site).await;
    site.stranger().get(&format!("/auth/register/confirm/{secret}/")).await;
    let body = json!({"username": "mallory", "password": "secret1", "email": "grace@example.org"});
    let answer = site.stranger().tell("/auth/register/", body).await;
    assert_eq!((answer.status, answer.text()), (201, r#"{"success":true}"#));
}

#[tokio::test]
async fn without_its_store_nothing_is_made_and_nothing_confirmed() {
    let site = rest_authtoken(confirming("get")).await;
    let link = format!("/auth/register/confirm/{}/", registered(&site).await);
    site.server.outages.store.store(true, Ordering::SeqCst);
    assert_eq!(site.stranger().get(&link).await.status, 503);
    let body = json!({"username": "edsger", "password": "secret1", "email": "e@example.org"});
    assert_eq!(site.stranger().tell("/auth/register/", body).await.status, 503);
    site.server.outages.store.store(false, Ordering::SeqCst);
    assert_eq!(site.stranger().get(&link).await.status, 302, "the link is still good");
}

#[test]
fn settings_that_there_are_not_are_refused() {
    let refused = |settings| refused(DialectName::RestAuthtoken, settings);
    let serializer = refused(json!({"USER_SERIALIZER": "app.serializers.User"}));
    assert_eq!(serializer, "USER_SERIALIZER: is code of Python: say in USER_FIELDS what it shows");
    let base = refused(json!({"REGISTRATION_EMAIL": {"BASE_URL": "http://example.org"}}));
    assert_eq!(base, "REGISTRATION_EMAIL.BASE_URL: is https:// and a host; http:// on this machine alone");
}
