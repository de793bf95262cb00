//! What the real framework answered to requests that nobody would think of: `conformance/python/asked.py` made them at random.

use std::time::Duration;

use axum::body::Body;
use axum::http::header;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use counterfoil_core::authority::FailedLogins;
use counterfoil_core::{Clock, Settings};
use counterfoil_http::{Dialect, DialectName};
use serde_json::{Map, Value, json};

use super::recorded::same_token;
use super::site::{Site, ring};

#[tokio::test]
async fn what_the_framework_was_asked_at_random_is_answered_alike() {
    let asked: Value = serde_json::from_str(include_str!("asked.json")).unwrap();
    let site = Site::with(DialectName::Authtoken, "/api-token-auth/", &json!({}), &asked).await;
    // So many wrong passwords would have to wait.
    let failed_logins = FailedLogins::insecure_unlimited_for_tests();
    let settings = Settings { failed_logins, ..site.server.authority.settings() };
    site.server.authority.adopt(settings, Some(ring()), site.server.clock.now()).await.unwrap();
    let multitoken = Dialect::from_settings(DialectName::Multitoken, &Map::new()).unwrap();
    let multitoken = site.server.http.dialect(multitoken);
    multitoken.prepare().await.unwrap();
    let app = site.app.clone().merge(multitoken.routes_at("/api/auth/"));
    let cases = asked["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 800);
    for case in cases {
        // Texts that are no tokens are looked up so often and no oftener.
        site.server.clock.advance(Duration::from_secs(60));
        let mut actor = site.server.anonymous().facing(&app);
        for (key, name) in [
            ("accept", header::ACCEPT),
            ("authorization", header::AUTHORIZATION),
            ("content_type", header::CONTENT_TYPE),
        ] {
            if let Some(value) = case[key].as_str() {
                actor = actor.with(name, value.chars().map(|character| character as u8).collect::<Vec<u8>>());
            }
        }
        let body = STANDARD.decode(case["body"].as_str().unwrap_or_default()).unwrap();
        let (method, path) = (case["method"].as_str().unwrap(), case["path"].as_str().unwrap());
        let answer = actor.send(method.parse().unwrap(), path, Body::from(body)).await;
        assert_eq!(answer.status, case["status"], "{case}");
        for name in ["content-type", "www-authenticate", "allow", "location", "vary", "x-frame-options"] {
            assert_eq!(answer.header(name), case["headers"][name].as_str().unwrap_or_default(), "{name}: {case}");
        }
        let is_page = case["headers"]["content-type"].as_str().unwrap_or_default().contains("html");
        if !is_page || answer.status == 404 {
            let expected = case["answer"].as_str().unwrap_or_default();
            assert_eq!(same_token(answer.text(), expected), expected, "{case}");
        }
    }
}
