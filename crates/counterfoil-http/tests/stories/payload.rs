//! What answers say of a user, where the host says it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use axum::Router;
use axum::http::Method;
use counterfoil_core::client::Reissue;
use counterfoil_core::store::TokenQuery;
use counterfoil_core::{Kind, Policy, TokenStore};
use counterfoil_http::{HttpSettings, UserToShow};
use serde_json::{Map, Value, json};

use crate::world::{Answer, PASSWORD, TestServer};

/// What the host's table does.
const ANSWERS: u8 = 0;
const FAILS: u8 = 1;
const PANICS: u8 = 2;

/// A server whose host has a table of its own, and what that does.
async fn server() -> (TestServer, Router, Arc<AtomicU8>) {
    let server = TestServer::with(HttpSettings::default(), Router::new()).await;
    server.user("ada", PASSWORD).await;
    let table = Arc::new(AtomicU8::new(ANSWERS));
    let asked = Arc::clone(&table);
    let http = server.http.with_user_payload(move |user: UserToShow| {
        let does = asked.load(Ordering::SeqCst);
        async move {
            tokio::task::yield_now().await;
            match does {
                FAILS => Err("the table of the host is gone".into()),
                PANICS => panic!("the table of the host is nonsense"),
                _ => {
                    let name = user.account.map(|account| account.username.to_string());
                    Ok(Map::from_iter([("id".to_owned(), json!(user.subject)), ("called".to_owned(), json!(name))]))
                }
            }
        }
    });
    let router = http.router();
    (server, router, table)
}

async fn log_in(server: &TestServer, router: &Router, client: &str) -> Answer {
    let body = json!({"username": "ada", "password": PASSWORD, "client": client});
    server.anonymous().facing(router).json(Method::POST, "/v1/login", &body).await
}

async fn live(server: &TestServer) -> usize {
    let now = counterfoil_core::Clock::now(&*server.clock).wall;
    let query = TokenQuery { limit: 100, live_at: Some(now), ..TokenQuery::default() };
    TokenStore::list(&*server.store, &query).await.unwrap().len()
}

#[tokio::test]
async fn the_host_says_what_a_login_and_me_tell_of_a_user() {
    let (server, router, _) = server().await;
    let login = log_in(&server, &router, "default").await.json();
    let subject = server.authority.user("ada").await.unwrap().subject;
    let user = json!({"id": subject, "called": "ada"});
    assert_eq!(login["user"], user);
    let ada = server.token(login["token"].as_str().unwrap()).facing(&router);
    assert_eq!(ada.get("/v1/me").await.json()["user"], user);
    assert_eq!(ada.post("/v1/rotate").await.json()["user"], user);

    // Also of somebody whose account is the host's.
    let bob = server.user("bob", PASSWORD).await;
    let key = server.issued(&bob, Kind::Key, "*").await.facing(&router);
    let now = counterfoil_core::Clock::now(&*server.clock);
    let guest = counterfoil_core::authority::TokenOrder {
        kind: Kind::Login,
        subject: "guest-7".parse().unwrap(),
        client: None,
        name: None,
        abilities: counterfoil_core::Abilities::everything(),
        metadata: counterfoil_core::token::Metadata::default(),
        expiry: counterfoil_core::authority::Expiry::ByPolicy,
    };
    let issued = server.authority.issue(guest, &counterfoil_core::By::operator(), now).await.unwrap();
    let guest = server.token(issued.secret.expose()).facing(&router);
    assert_eq!(guest.get("/v1/me").await.json()["user"], json!({"id": "guest-7", "called": Value::Null}));
    assert_eq!(key.get("/v1/me").await.json()["user"]["called"], "bob");
}

#[tokio::test]
async fn an_answer_that_cannot_be_made_whole_is_not_given_and_a_failed_login_leaves_no_token_behind() {
    let (server, router, table) = server().await;
    let login = log_in(&server, &router, "default").await.json();
    let ada = server.token(login["token"].as_str().unwrap()).facing(&router);
    let before = live(&server).await;
    for (does, status, slug) in [(FAILS, 503, "unavailable"), (PANICS, 500, "internal")] {
        table.store(does, Ordering::SeqCst);
        log_in(&server, &router, "default").await.is_problem(status, slug, "");
        ada.get("/v1/me").await.is_problem(status, slug, "");
        let key = json!({"name": "x"});
        ada.json(Method::POST, "/v1/keys", &key).await.is_problem(status, slug, "");
        assert_eq!(live(&server).await, before);
        assert!(!ada.get("/v1/me").await.text().contains("table"), "the cause is the operator's");
    }
    // A rotation whose answer is lost is tried again.
    ada.post("/v1/rotate").await.is_problem(500, "internal", "");
    table.store(ANSWERS, Ordering::SeqCst);
    let rotated = ada.post("/v1/rotate").await;
    assert_eq!(rotated.status, 200, "{}", rotated.text());
    assert_eq!(log_in(&server, &router, "default").await.status, 200);
}

#[tokio::test]
async fn a_failed_login_takes_no_secret_from_the_others_who_hold_it() {
    for millis_between in [0, 1_000] {
        let entropy = counterfoil_core::entropy::PredictableEntropy::from_seed(7);
        let ring = counterfoil_core::seal::KeyRing::generate(&entropy);
        let (server, router, table) = server().await;
        let now = counterfoil_core::Clock::now(&*server.clock);
        server.authority.adopt(server.authority.settings(), Some(ring.unwrap()), now).await.unwrap();
        server.client("shared", Policy { reissue: Reissue::Same, ..Policy::default() }).await;
        let first = log_in(&server, &router, "shared").await.json();
        server.wait(millis_between);
        table.store(FAILS, Ordering::SeqCst);
        log_in(&server, &router, "shared").await.is_problem(503, "unavailable", "");
        table.store(ANSWERS, Ordering::SeqCst);
        let holder = server.token(first["token"].as_str().unwrap()).facing(&router);
        assert_eq!(holder.get("/v1/me").await.status, 200, "{millis_between} ms later");
    }
}
