//! In and out.

use axum::http::Method;
use counterfoil_core::account::NewAccount;
use counterfoil_core::authority::ClientOrder;
use counterfoil_core::client::{AtCap, Cap};
use counterfoil_core::password::Password;
use counterfoil_core::{AccountField, By, Policy};
use counterfoil_http::HttpSettings;
use serde_json::json;
use std::num::NonZeroU32;

use crate::world::{BARE, PASSWORD, TestServer};
use axum::Router;

#[tokio::test]
async fn a_login_gives_a_token_that_opens_what_it_should() {
    let server = TestServer::with_ada().await;
    let body = json!({"username": "ada", "password": PASSWORD, "client": "default", "name": "  laptop "});
    let answer = server.anonymous().json(Method::POST, "/v1/login", &body).await;

    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "no-store");
    let mut token = answer.json();
    let secret = token["token"].take();
    let (id, subject) = (token["id"].take(), token["user"]["id"].take());
    assert_eq!(
        token,
        json!({
            "token": null, "id": null, "kind": "login", "client": "default", "name": "laptop",
            "issued_at": "2026-11-20T11:00:00.000Z", "expires_at": "2026-12-20T11:00:00.000Z",
            "user": {
                "id": null, "username": "ada", "email": null, "email_confirmed": false, "first_name": "",
                "last_name": "",
            },
        })
    );
    let secret = secret.as_str().unwrap();
    assert!(secret.starts_with("cf_") && secret.len() == 52);

    let mut me = server.token(secret).get("/v1/me").await.json();
    assert_eq!((me["token"]["id"].take(), me["user"]["id"].take()), (id, subject));
    assert_eq!(
        me,
        json!({
            "user": {
                "id": null, "username": "ada", "email": null, "email_confirmed": false, "first_name": "",
                "last_name": "",
            },
            "rotation_locked": false,
            "token": {
                "id": null, "kind": "login", "client": "default", "name": "laptop", "abilities": ["*"],
                "issued_at": "2026-11-20T11:00:00.000Z", "expires_at": "2026-12-20T11:00:00.000Z", "current": true,
                "first_seen": {"at": "2026-11-20T11:00:00.000Z", "ip": "192.0.2.7", "user_agent": null},
                "last_seen": null,
            },
        })
    );
}

#[tokio::test]
async fn a_form_logs_in_as_json_does() {
    let server = TestServer::with_ada().await;
    let form = "username=ada&password=correct+horse%20battery+staple&name=B%C3%BCro";
    let answer = server.anonymous().form("/v1/login", form).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["name"], "Büro");

    let twice = server.anonymous().form("/v1/login", "username=ada&password=a&password=b").await;
    twice.is_about(400, "invalid-request", "password");
    let foreign = server.anonymous().form("/v1/login", "username=ada&password=a&token=b").await;
    foreign.is_about(400, "invalid-request", "token");
}

#[tokio::test]
async fn an_answer_says_of_the_account_what_the_operator_chose() {
    let settings = HttpSettings { user_fields: vec![AccountField::Username], ..HttpSettings::default() };
    let server = TestServer::with(settings, Router::new()).await;
    server.user("ada", PASSWORD).await;
    let ada = server.ada().await;
    assert_eq!(ada.get("/v1/me").await.json()["user"], json!({"username": "ada"}));
    assert_eq!(ada.post("/v1/rotate").await.json()["user"], json!({"username": "ada"}));
}

#[tokio::test]
async fn r15_unknown_user_wrong_password_and_inactive_account_are_one_answer() {
    let server = TestServer::with_ada().await;
    let bob = server.user("bob", PASSWORD).await;
    server
        .authority
        .disable_user(&bob.subject, &By::operator(), counterfoil_core::Clock::now(&*server.clock))
        .await
        .unwrap();

    let mut seen = Vec::new();
    for (username, password) in [("ada", "wrong"), ("nobody", PASSWORD), ("bob", PASSWORD), ("", PASSWORD), ("ada", "")]
    {
        let body = json!({"username": username, "password": password});
        let answer = server.anonymous().json(Method::POST, "/v1/login", &body).await;
        answer.is_problem(401, "invalid-credentials", BARE);
        let mut headers = answer.headers.clone();
        headers.remove("x-request-id");
        let mut document = answer.json();
        document["instance"].take();
        seen.push((headers, document, answer.body.len()));
    }
    assert!(seen.windows(2).all(|two| two[0] == two[1]), "{seen:#?}");
}

#[tokio::test]
async fn a_login_names_a_client_that_there_is_and_that_takes_logins() {
    let server = TestServer::with_ada().await;
    let login = |client: &str| json!({"username": "ada", "password": PASSWORD, "client": client});
    let too_long = "x".repeat(65);
    for unknown in ["nowhere", "", " default", "a\nb", &too_long] {
        let answer = server.anonymous().json(Method::POST, "/v1/login", &login(unknown)).await;
        answer.is_about(400, "unknown-client", "client");
    }

    let order = ClientOrder { allow_login: false, ..ClientOrder::named("machines".parse().unwrap()) };
    server.registered(order).await;
    let answer = server.anonymous().json(Method::POST, "/v1/login", &login("machines")).await;
    answer.is_problem(403, "login-not-allowed", "");
}

#[tokio::test]
async fn a_full_client_says_how_many_tokens_it_allows() {
    let server = TestServer::with_ada().await;
    let cap = Cap { limit: NonZeroU32::MIN, at_cap: AtCap::Refuse };
    server.client("single", Policy { cap: Some(cap), ..Policy::default() }).await;
    server.logged_in("ada", "single", "first").await;
    let body = json!({"username": "ada", "password": PASSWORD, "client": "single"});
    let answer = server.anonymous().json(Method::POST, "/v1/login", &body).await;
    answer.is_problem(403, "cap-reached", "");
    assert_eq!(answer.json()["limit"], 1);
}

#[tokio::test]
async fn logging_out_ends_this_token_and_no_other() {
    let server = TestServer::with_ada().await;
    let (laptop, phone) = (server.ada().await, server.ada().await);
    laptop.post("/v1/logout").await.is_done();
    laptop.get("/v1/me").await.is_invalid_token();
    laptop.post("/v1/logout").await.is_invalid_token();
    assert_eq!(phone.get("/v1/me").await.status, 200);
}

#[tokio::test]
async fn a76_no_login_survives_a_logout_everywhere_that_was_acknowledged() {
    let server = TestServer::with_ada().await;
    let key = server.ada().await;
    let key = key.json(Method::POST, "/v1/keys", &json!({})).await.json();
    let key = server.token(key["token"].as_str().unwrap());
    let (one, two) = tokio::join!(server.ada(), server.ada());
    one.post("/v1/logout-all").await.is_done();
    one.get("/v1/me").await.is_invalid_token();
    two.get("/v1/me").await.is_invalid_token();
    assert_eq!(key.get("/v1/me").await.status, 200, "an API key is not a signed-in device");
    assert_eq!(server.ada().await.get("/v1/me").await.status, 200, "logging in again works");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a75_logins_at_once_never_exceed_the_cap() {
    let server = TestServer::with_ada().await;
    let limit = NonZeroU32::new(3).unwrap();
    let cap = Cap { limit, at_cap: AtCap::Refuse };
    server.client("three", Policy { cap: Some(cap), ..Policy::default() }).await;
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let somebody = server.anonymous();
        running.spawn(async move {
            let body = json!({"username": "ada", "password": PASSWORD, "client": "three"});
            let answer = somebody.json(Method::POST, "/v1/login", &body).await;
            if answer.status != 200 {
                answer.is_problem(403, "cap-reached", "");
            }
            answer.status
        });
    }
    let answers = running.join_all().await;
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 3, "{answers:?}");
    let list = server.ada().await.get("/v1/tokens").await.json();
    let on_three = list["items"].as_array().unwrap().iter().filter(|token| token["client"] == "three").count();
    assert_eq!(on_three, 3);
}

#[tokio::test]
async fn a60_a_password_is_its_bytes_with_nul_and_all() {
    let server = TestServer::with_ada().await;
    server.user("nul", "password\0x").await;
    server.user("short", "password").await;
    let login = |username: &'static str, password: &'static str| {
        let somebody = server.anonymous();
        async move {
            let body = json!({"username": username, "password": password});
            somebody.json(Method::POST, "/v1/login", &body).await
        }
    };
    assert_eq!(login("nul", "password\0x").await.status, 200);
    for (username, wrong) in
        [("nul", "password"), ("nul", "password\0y"), ("short", "password\0x"), ("short", "password ")]
    {
        login(username, wrong).await.is_problem(401, "invalid-credentials", BARE);
    }
    assert_eq!(server.anonymous().form("/v1/login", "username=nul&password=password%00x").await.status, 200);
}

#[tokio::test]
async fn a59_a_long_password_or_name_costs_nothing() {
    let server = TestServer::with_ada().await;
    let login = |username: String, password: String| {
        let somebody = server.anonymous();
        async move { somebody.json(Method::POST, "/v1/login", &json!({"username": username, "password": password})).await }
    };
    login("ada".to_owned(), "x".repeat(1024 * 1024)).await.is_problem(413, "body-too-large", "");
    login("\u{fdfa}".repeat(1_000_000), PASSWORD.to_owned()).await.is_problem(413, "body-too-large", "");
    let before = server.store.calls();
    login("ada".to_owned(), "x".repeat(4097)).await.is_about(400, "invalid-value", "password");
    assert_eq!(server.store.calls(), before, "refused before anything is asked");
    login("ada".to_owned(), "x".repeat(4096)).await.is_problem(401, "invalid-credentials", BARE);
    login("\u{fdfa}".repeat(20_000), PASSWORD.to_owned()).await.is_problem(401, "invalid-credentials", BARE);
}

#[tokio::test]
async fn a79_hostile_names_and_agents_come_back_as_text() {
    let server = TestServer::with_ada().await;
    let crabs = "🦀".repeat(10_000);
    let cut = "🦀".repeat(100);
    for (name, kept) in [
        ("<svg onload=x>", json!("<svg onload=x>")),
        ("javascript:alert(1)", json!("javascript:alert(1)")),
        ("\u{202e}evil", json!("\u{202e}evil")),
        ("a\r\nSet-Cookie: x=1", json!("a\r\nSet-Cookie: x=1")),
        ("nul\0", json!("nul\0")),
        ("   ", json!(null)),
        (&crabs, json!(cut)),
    ] {
        let agent = axum::http::header::USER_AGENT;
        let somebody = server.anonymous().with(agent, "<script>\u{202e}".as_bytes());
        let body = json!({"username": "ada", "password": PASSWORD, "name": name});
        let answer = somebody.json(Method::POST, "/v1/login", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["name"], kept);
        assert_eq!(answer.header("set-cookie"), "");
        let me = server.token(answer.json()["token"].as_str().unwrap()).get("/v1/me").await.json();
        assert_eq!(me["token"]["first_seen"]["user_agent"], "<script>\u{202e}");
    }
    for username in ["<svg onload=x>", "عائشة", "O'Hara", "100%"] {
        let new = NewAccount::named(username.parse().unwrap());
        let password = Password::new(PASSWORD).unwrap();
        let now = counterfoil_core::Clock::now(&*server.clock);
        server.authority.create_user(new, Some(password), &By::operator(), now).await.unwrap();
        let me = server.logged_in(username, "default", "x").await.get("/v1/me").await;
        assert_eq!(me.json()["user"]["username"], username);
    }
}

#[tokio::test]
async fn a_stale_token_does_not_stop_a_login() {
    let server = TestServer::with_ada().await;
    let body = json!({"username": "ada", "password": PASSWORD});
    let answer = server.token("cf_stale").json(Method::POST, "/v1/login", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}
