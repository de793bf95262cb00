//! One's own API keys.

use axum::http::Method;
use counterfoil_core::Kind;
use serde_json::json;

use crate::world::{BARE, TestServer};

#[tokio::test]
async fn a_key_is_made_listed_used_and_ended() {
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    let body = json!({"name": "ci", "abilities": ["keys:read", "files:read"], "expires_at": "2027-01-01T00:00:00Z"});
    let answer = ada.json(Method::POST, "/v1/keys", &body).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let mut key = answer.json();
    let id = key["id"].take();
    let id = id.as_str().unwrap();
    assert_eq!(answer.header("location"), format!("/v1/keys/{id}"));
    let secret = key["token"].take();
    key["user"].take();
    assert_eq!(
        key,
        json!({
            "token": null, "id": null, "kind": "key", "client": "default", "name": "ci",
            "abilities": ["files:read", "keys:read"], "issued_at": "2026-11-20T11:00:00.000Z",
            "expires_at": "2027-01-01T00:00:00.000Z", "user": null,
        })
    );

    let robot = server.token(secret.as_str().unwrap());
    let list = robot.get("/v1/keys").await.json();
    assert_eq!(
        list,
        json!({
            "items": [{
                "id": id, "kind": "key", "client": "default", "name": "ci", "abilities": ["files:read", "keys:read"],
                "issued_at": "2026-11-20T11:00:00.000Z", "expires_at": "2027-01-01T00:00:00.000Z", "current": true,
                "first_seen": {"at": "2026-11-20T11:00:00.000Z", "ip": "192.0.2.7", "user_agent": null},
                "last_seen": null,
            }],
            "next": null,
        })
    );
    assert_eq!(ada.get("/v1/tokens").await.json()["items"].as_array().unwrap().len(), 1, "a key is no device");

    ada.delete(&format!("/v1/keys/{id}")).await.is_done();
    robot.get("/v1/me").await.is_invalid_token();
    ada.delete(&format!("/v1/keys/{}", ada.id)).await.is_problem(404, "not-found", "");
}

#[tokio::test]
async fn a_key_is_never_above_its_maker() {
    let server = TestServer::with_ada().await;
    let eve = server.user("eve", crate::world::PASSWORD).await;
    let maker = server.issued(&eve, Kind::Key, "keys:write files:read").await;
    let make = |body: serde_json::Value| {
        let maker = maker.clone();
        async move { maker.json(Method::POST, "/v1/keys", &body).await }
    };
    for abilities in [json!(["*"]), json!(["files:read", "files:write"]), json!(["tokens:introspect"])] {
        let answer = make(json!({"abilities": abilities})).await;
        answer.is_about(403, "beyond-maker", "abilities");
        let sent = ["files:write", "tokens:introspect"];
        assert!(!sent.iter().any(|ability| answer.text().contains(ability)), "{}", answer.text());
    }
    let everything = server.ada().await;
    let reserved = json!({"abilities": ["tokens:introspect"]});
    everything.json(Method::POST, "/v1/keys", &reserved).await.is_about(403, "beyond-maker", "abilities");

    let child = make(json!({"expires_at": "2027-01-01T00:00:00Z"})).await.json();
    assert_eq!(child["abilities"], json!(["files:read", "keys:write"]), "without a list, what its maker may");
    let child = server.token(child["token"].as_str().unwrap());
    let longer = child.json(Method::POST, "/v1/keys", &json!({"expires_at": "2027-01-02T00:00:00Z"})).await;
    longer.is_about(403, "beyond-maker", "expires_at");
    let grandchild = child.json(Method::POST, "/v1/keys", &json!({})).await.json();
    assert_eq!(grandchild["expires_at"], "2027-01-01T00:00:00.000Z");
    child.post("/v1/renew").await.is_problem(403, "renewal-not-allowed", "");
}

#[tokio::test]
async fn a14_nobody_makes_a_key_for_somebody_else() {
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    for field in ["user_id", "user", "subject", "kind", "client"] {
        let body = json!({"name": "x", field: "ada"});
        server.anonymous().json(Method::POST, "/v1/keys", &body).await.is_problem(401, "token-missing", BARE);
        ada.json(Method::POST, "/v1/keys", &body).await.is_about(400, "invalid-request", field);
    }
    assert_eq!(ada.get("/v1/keys").await.json()["items"], json!([]));
}

#[tokio::test]
async fn a18_an_expiry_that_makes_no_sense_is_refused() {
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    for expiry in [
        json!(0),
        json!(-1),
        json!(i64::MAX),
        json!(1e18),
        json!("0"),
        json!("2026-11-20T11:00:00Z"),
        json!("2026-11-20T10:59:59.999Z"),
        json!("1969-12-31T23:59:59Z"),
        json!("+10000-01-01T00:00:00Z"),
        json!("9999-12-31T23:59:60Z"),
        json!("2027-01-01"),
        json!("2027-01-01T00:00:00"),
        json!("Fri, 20 Nov 2026 11:00:00 GMT"),
        json!(""),
        json!({"$gt": ""}),
    ] {
        let answer = ada.json(Method::POST, "/v1/keys", &json!({"expires_at": expiry})).await;
        answer.is_about(400, "invalid-value", "expires_at");
    }
    let next = ada.json(Method::POST, "/v1/keys", &json!({"expires_at": "2026-11-20T11:00:00.001Z"})).await;
    assert_eq!(next.status, 201);
    let forever = ada.json(Method::POST, "/v1/keys", &json!({"expires_at": null})).await;
    assert_eq!(forever.json()["expires_at"], json!(null));
    for abilities in [json!("*"), json!(["*", 5]), json!(["a b:c"]), json!([""]), json!({}), json!(vec!["x:y1"; 1])] {
        let answer = ada.json(Method::POST, "/v1/keys", &json!({"abilities": abilities})).await;
        if answer.status != 201 {
            answer.is_about(400, "invalid-value", "abilities");
        }
    }
    let many: Vec<String> = (0..65).map(|number| format!("a:b{number}")).collect();
    ada.json(Method::POST, "/v1/keys", &json!({"abilities": many})).await.is_about(400, "invalid-value", "abilities");
}
