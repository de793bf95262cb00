//! djforge-redis-multitokens.

use axum::http::header;
use counterfoil_http::DialectName;
use serde_json::{Value, json};

use super::site::{Site, refused};

async fn djforge(settings: Value) -> Site {
    Site::of_john(DialectName::Djforge, settings).await
}

fn lasting(seconds: u64, own: &Value) -> Value {
    json!({"CACHES": {"tokens": {"TIMEOUT": seconds, "BACKEND": "x"}, "default": {"LOCATION": "y"}}, "DJFORGE_REDIS_MULTITOKENS": own})
}

#[tokio::test]
async fn the_first_device_is_told_as_long_as_there_is_no_other() {
    let site = djforge(json!({})).await;
    let login = async || site.stranger().form("/login/", "username=john&password=foobar123").await.json();
    assert_eq!(login().await["first_device"], true);
    assert_eq!(login().await["first_device"], false);
    let john = site.john("/login/").await;
    let out = john.post("/logoutall/").await;
    assert_eq!((out.status, out.text()), (204, ""));
    assert_eq!(john.get("/me/").await.text(), r#"{"detail":"Invalid token."}"#);
    assert_eq!(login().await["first_device"], true);
}

#[tokio::test]
async fn a_token_slides_by_use_and_ends_at_the_instant() {
    let site = djforge(lasting(1_000, &json!({}))).await;
    let john = site.john("/login/").await;
    site.server.wait(999_999);
    assert_eq!(john.get("/me/").await.status, 200);
    site.server.authority.flush(counterfoil_core::Clock::now(site.server.clock.as_ref())).await.unwrap();
    site.server.wait(999_999);
    assert_eq!(john.get("/me/").await.status, 200);
    site.server.authority.flush(counterfoil_core::Clock::now(site.server.clock.as_ref())).await.unwrap();
    site.server.wait(1_000_000);
    assert_eq!(john.get("/me/").await.text(), r#"{"detail":"Invalid token."}"#);
}

#[tokio::test]
async fn where_use_resets_nothing_a_token_lives_as_long_as_it_was_given() {
    let own = json!({"RESET_TOKEN_TTL_ON_USER_LOG_IN": false, "OVERWRITE_NONE_TTL": false});
    let site = djforge(lasting(1_000, &own)).await;
    let john = site.john("/login/").await;
    site.server.wait(999_999);
    assert_eq!(john.get("/me/").await.status, 200);
    site.server.wait(1);
    assert_eq!(john.get("/me/").await.status, 401);
}

#[tokio::test]
async fn whatever_is_sent_a_login_is_refused_in_the_same_words() {
    let site = djforge(json!({})).await;
    for body in [
        "[]",
        "null",
        "5",
        r#""john""#,
        "{}",
        r#"{"username":"john","password":5}"#,
        r#"{"username":"john","password":"x"}"#,
    ] {
        let answer = site.stranger().typed(axum::http::Method::POST, "/login/", "application/json", body).await;
        assert_eq!(answer.text(), r#"{"detail":"Unable to log in with provided credentials."}"#, "{body}");
        assert_eq!(answer.status, 400);
    }
    let stale = site
        .stranger()
        .with(header::AUTHORIZATION, "Token x")
        .form("/login/", "username=john&password=foobar123")
        .await;
    assert_eq!((stale.status, stale.text()), (401, r#"{"detail":"Invalid token."}"#));
}

#[test]
fn settings_that_there_are_not_are_refused() {
    let refused = |settings| refused(DialectName::Djforge, settings);
    let wrong = refused(lasting(0, &json!({})));
    assert!(wrong.starts_with("CACHES.tokens.TIMEOUT: is a number of whole seconds"), "{wrong}");
    let unknown = refused(json!({"DJFORGE_REDIS_MULTITOKENS": {"RESET": true}}));
    assert_eq!(unknown, "DJFORGE_REDIS_MULTITOKENS.RESET: there is no such setting");
}

#[test]
fn tokens_without_an_end_are_worth_a_warning() {
    let warnings = |settings: Value| {
        let Value::Object(settings) = settings else { panic!("an object") };
        counterfoil_http::Dialect::from_settings(DialectName::Djforge, &settings).unwrap().warnings().len()
    };
    assert_eq!((warnings(json!({})), warnings(lasting(1_000, &json!({})))), (1, 0));
}
