//! `rest_framework.authtoken`.

use axum::http::{Method, header};
use counterfoil_http::DialectName;
use serde_json::json;

use super::recorded::replay;
use super::site::{Site, refused};

#[tokio::test]
async fn every_recorded_answer_of_authtoken_is_ours_to_the_byte() {
    assert_eq!(replay("drfauthtoken", DialectName::Authtoken, "/api-token-auth/", &[]).await, 35);
}

#[tokio::test]
async fn a_second_login_gives_the_same_token_or_what_the_settings_say() {
    for (reissue, is_same, first_lives) in [("same", true, true), ("new", false, true), ("replace", false, false)] {
        let site = Site::of_john(DialectName::Authtoken, json!({"reissue": reissue})).await;
        let login = async || {
            let answer = site.stranger().form("/api-token-auth/", "username=john&password=foobar123").await;
            answer.json()["token"].as_str().unwrap().to_owned()
        };
        let (first, second) = (login().await, login().await);
        assert_eq!(first == second, is_same, "{reissue}");
        let me = site.stranger().with(header::AUTHORIZATION, format!("Token {first}")).get("/me/").await;
        assert_eq!(me.status == 200, first_lives, "{reissue}");
    }
}

#[tokio::test]
async fn options_tell_what_the_package_tells() {
    let site = Site::of_john(DialectName::Authtoken, json!({})).await;
    let answer = site.stranger().send(Method::OPTIONS, "/api-token-auth/", "".into()).await;
    assert_eq!(
        answer.text(),
        r#"{"name":"Obtain Auth Token","description":"","renders":["application/json"],"parses":["application/x-www-form-urlencoded","multipart/form-data","application/json"],"actions":{"POST":{"username":{"type":"string","required":true,"read_only":false,"label":"Username"},"password":{"type":"string","required":true,"read_only":false,"label":"Password"},"token":{"type":"string","required":false,"read_only":true,"label":"Token"}}}}"#
    );
    assert_eq!((answer.header("allow"), answer.header("vary")), ("POST, OPTIONS", ""));
}

#[test]
fn settings_that_there_are_not_are_refused() {
    let refused = |settings| refused(DialectName::Authtoken, settings);
    assert_eq!(refused(json!({"REST_DURIN": {"X": 1}})), "REST_DURIN.X: there is no such setting");
    assert_eq!(refused(json!({"reissue": "often"})), "reissue: is one of same, new, replace");
    assert_eq!(refused(json!({"client": ""})).split(':').next(), Some("client"));
    assert_eq!(
        refused(json!({"REST_FRAMEWORK": {"DEFAULT_AUTHENTICATION_CLASSES": ["a.SessionAuthentication"]}})),
        "REST_FRAMEWORK.DEFAULT_AUTHENTICATION_CLASSES: this dialect has TokenAuthentication"
    );
    let key = "REST_FRAMEWORK.DEFAULT_PERMISSION_CLASSES";
    let words = refused(json!({key: ["rest_framework.permissions.IsAdminUser"]}));
    assert!(words.starts_with(key), "{words}");
}
