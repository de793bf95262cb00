//! What a client is told of the host's hook before issuing.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use counterfoil::{
    AuditQuery, BeforeIssuing, By, ClientOrder, Counterfoil, Intent, Occasion, Ruled, Ruling, TestCounterfoil,
};
use serde_json::{Value, json};
use tower::ServiceExt;

/// Decides by the name of the device, so that a test says what it wants with the request.
#[derive(Debug)]
struct Host;

impl BeforeIssuing for Host {
    fn rule(&self, intent: Intent) -> Ruled<'_> {
        Box::pin(async move {
            match (intent.name.as_ref().map_or("", |name| name.as_str()), intent.occasion) {
                ("kiosk", _) => Ok(Ruling::Refuse { reason: "no kiosks".to_owned() }),
                ("tablet", Occasion::Login) => Ok(Ruling::OnClient("mobile".parse()?)),
                ("broken", _) => Err("the directory of people is away".into()),
                ("bug", _) => panic!("planted"),
                ("slow", _) => Ok(std::future::pending().await),
                _ => Ok(Ruling::Allow),
            }
        })
    }
}

async fn post(app: &Router, path: &str, token: Option<&str>, body: &Value) -> (u16, Value) {
    let request = Request::post(path).header("Host", "localhost").header(header::CONTENT_TYPE, "application/json");
    let bearer = token.map(|token| format!("Bearer {token}"));
    let request = bearer.into_iter().fold(request, |request, bearer| request.header(header::AUTHORIZATION, bearer));
    let answer =
        app.clone().oneshot(request.body(Body::from(body.to_string())).expect("request")).await.expect("answer");
    let status = answer.status().as_u16();
    let body = to_bytes(answer.into_body(), 1 << 20).await.expect("body");
    (status, serde_json::from_slice(&body).expect("JSON"))
}

/// More than anything takes here but what never ends.
const LONG: Duration = Duration::from_secs(60);

async fn world(patience: Duration) -> (TestCounterfoil, Router) {
    let counterfoil = Counterfoil::builder().before_issuing(Host, patience).for_tests().await;
    counterfoil.create_user("ada", "correct horse battery staple").await.expect("created");
    let order = ClientOrder::named("mobile".parse().expect("name"));
    counterfoil.authority().create_client(order, &By::operator(), counterfoil.now()).await.expect("created");
    let app = counterfoil.routes();
    (counterfoil, app)
}

fn login(name: &str) -> Value {
    json!({"username": "ada", "password": "correct horse battery staple", "name": name})
}

#[tokio::test]
async fn what_the_host_refuses_is_a_403_in_its_words_and_in_the_audit_log() {
    let (counterfoil, app) = world(LONG).await;
    let (status, first) = post(&app, "/v1/login", None, &login("laptop")).await;
    assert_eq!((status, &first["client"]), (200, &json!("default")));
    let token = first["token"].as_str().expect("a token");
    for (path, token, body) in
        [("/v1/login", None, login("kiosk")), ("/v1/keys", Some(token), json!({"name": "kiosk"}))]
    {
        let (status, problem) = post(&app, path, token, &body).await;
        assert_eq!((status, &problem["type"]), (403, &json!("urn:counterfoil:problem:issue-refused")), "{path}");
        assert_eq!(problem["detail"], "no kiosks", "{path}");
    }
    // A wrong password is told nothing of it.
    let wrong = json!({"username": "ada", "password": "12345678", "name": "kiosk"});
    let (status, problem) = post(&app, "/v1/login", None, &wrong).await;
    assert_eq!((status, &problem["type"]), (401, &json!("urn:counterfoil:problem:invalid-credentials")));

    let query = AuditQuery { limit: 100, ..AuditQuery::default() };
    let page = counterfoil.authority().audit(&query, counterfoil.now()).await.expect("the log");
    let told: Vec<_> = page.entries.iter().filter_map(|numbered| numbered.entry.detail.as_deref()).collect();
    assert_eq!(told.iter().filter(|detail| **detail == "refused by the host: no kiosks").count(), 2, "{told:?}");
}

#[tokio::test]
async fn a_client_that_the_host_chooses_is_the_one_of_the_token() {
    let (_counterfoil, app) = world(LONG).await;
    let (status, answer) = post(&app, "/v1/login", None, &login("tablet")).await;
    assert_eq!((status, &answer["client"]), (200, &json!("mobile")));
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_a_503_and_tokens_that_exist_are_accepted_on() {
    let (counterfoil, app) = world(LONG).await;
    let (_, first) = post(&app, "/v1/login", None, &login("laptop")).await;
    let token = first["token"].as_str().expect("a token");
    // Its own, so that a busy machine is not taken for a slow host.
    let (_hasty, of_hasty) = world(Duration::from_millis(20)).await;
    for (app, name) in [(&app, "broken"), (&app, "bug"), (&of_hasty, "slow")] {
        let (status, problem) = post(app, "/v1/login", None, &login(name)).await;
        assert_eq!((status, &problem["type"]), (503, &json!("urn:counterfoil:problem:unavailable")), "{name}");
        assert!(!problem.to_string().contains("directory"), "what went wrong is for the log");
        counterfoil.identify(token, &counterfoil::Source::default()).await.expect("live");
    }
    let (status, _) = post(&app, "/v1/login", None, &login("laptop")).await;
    assert_eq!(status, 200);
}
