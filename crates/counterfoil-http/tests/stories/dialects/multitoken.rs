//! drf-multitokenauth.

use axum::http::Method;
use counterfoil_http::DialectName;
use serde_json::json;

use super::recorded::replay;
use super::site::Site;

#[tokio::test]
async fn every_recorded_answer_of_multitoken_is_ours_to_the_byte_but_for_its_cache() {
    // The package's cache answers for sixty seconds after a logout; what is logged out here is refused at once.
    let grace = ["cached-auth-logout-keeps-working", "cached-auth-logout-twice"];
    assert_eq!(replay("multitoken", DialectName::Multitoken, "/api/auth/", &grace).await, 67);
}

#[tokio::test]
async fn a_logout_is_at_once_whatever_cache_the_settings_name() {
    let cached = "drf_multitokenauth.coreauthentication.CachedMultiTokenAuthentication";
    let settings = json!({"REST_FRAMEWORK": {"DEFAULT_AUTHENTICATION_CLASSES": [cached]}});
    let site = Site::of_john(DialectName::Multitoken, settings).await;
    let john = site.john("/api/auth/login").await;
    assert_eq!(john.get("/me/").await.status, 200);
    assert_eq!(john.post("/api/auth/logout").await.text(), r#"{"status":"logged out"}"#);
    for answer in [john.get("/me/").await, john.post("/api/auth/logout").await] {
        assert_eq!((answer.status, answer.text()), (401, r#"{"detail":"Invalid token."}"#));
    }
}

#[tokio::test]
async fn a_name_of_any_length_is_taken_and_kept_as_far_as_it_goes() {
    let site = Site::of_john(DialectName::Multitoken, json!({})).await;
    let body = json!({"username": "john", "password": "foobar123", "token_name": "n".repeat(5_000)});
    assert_eq!(site.stranger().tell("/api/auth/login", body).await.status, 200);
}

#[tokio::test]
async fn options_tell_what_the_package_tells() {
    let site = Site::of_john(DialectName::Multitoken, json!({})).await;
    let login = site.stranger().send(Method::OPTIONS, "/api/auth/login", "".into()).await;
    assert_eq!(
        login.text(),
        r#"{"name":"Login And Obtain Auth Token","description":"Custom View for logging in and getting the auth token","renders":["application/json"],"parses":["application/x-www-form-urlencoded","multipart/form-data","application/json"]}"#
    );
    let logout = site.stranger().send(Method::OPTIONS, "/api/auth/logout", "".into()).await;
    assert_eq!(
        logout.text(),
        r#"{"name":"Logout And Delete Auth Token","description":"Custom API View for logging out","renders":["application/json","text/html"],"parses":["application/json","application/x-www-form-urlencoded","multipart/form-data"]}"#
    );
}
