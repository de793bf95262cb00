//! The layer around services that are not ours, and what their handlers see.

use std::sync::atomic::Ordering;

use axum::Router;
use axum::http::{HeaderName, Method, Request, Response, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use counterfoil_core::{Kind, Timestamp};
use counterfoil_http::{Authenticated, Caller, HttpSettings, Problem, ProblemKind, Scheme};
use http_body_util::{BodyExt, Full};
use serde_json::json;
use tower::{ServiceBuilder, ServiceExt};

use crate::world::{Actor, BARE, INVALID_REQUEST, INVALID_TOKEN, PASSWORD, START, TestServer};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

async fn who(who: Authenticated) -> String {
    format!("{} {:?}", who.subject, who.place())
}

async fn perhaps(who: Option<Authenticated>) -> String {
    who.map_or("nobody".to_owned(), |who| who.subject.to_string())
}

async fn open() -> &'static str {
    "open"
}

fn routes() -> Router {
    Router::new().route("/who", get(who).post(who)).route("/perhaps", get(perhaps)).route("/open", get(open))
}

/// A host's service with the layer, and ada at its door.
async fn guarded(settings: HttpSettings) -> (TestServer, Router, Actor) {
    let server = TestServer::with(settings, Router::new()).await;
    server.user("ada", PASSWORD).await;
    let app = routes().layer(server.http.layer());
    let ada = server.ada().await.facing(&app);
    (server, app, ada)
}

fn with_api_keys() -> HttpSettings {
    HttpSettings { api_key_header: true, ..HttpSettings::default() }
}

#[tokio::test]
async fn a_handler_behind_the_layer_sees_who_asks() {
    let (server, app, ada) = guarded(HttpSettings::default()).await;
    let answer = ada.get("/who").await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().ends_with(" Authorization"), "{}", answer.text());
    assert_eq!(format!("{} Authorization", ada.get("/perhaps").await.text()), answer.text());
    let stranger = server.anonymous().facing(&app);
    assert_eq!(stranger.get("/open").await.text(), "open");
    assert_eq!(stranger.get("/perhaps").await.text(), "nobody");
    stranger.get("/who").await.is_refused(401, "token-missing", BARE);
}

#[tokio::test]
async fn r19_a_bad_token_is_refused_wherever_somebody_asks_even_whether_there_is_one() {
    let (server, app, ada) = guarded(HttpSettings::default()).await;
    let invented = server.token("cf_garbage").facing(&app);
    let logged_out = ada.clone();
    server.token(&ada.secret).post("/v1/logout").await.is_done();
    for bad in [invented, logged_out] {
        bad.get("/who").await.is_refused(401, "invalid-token", INVALID_TOKEN);
        bad.get("/perhaps").await.is_refused(401, "invalid-token", INVALID_TOKEN);
        assert_eq!(bad.get("/open").await.text(), "open", "where nobody asks, nobody is told");
    }
}

#[tokio::test]
async fn r19_the_layer_itself_refuses_where_a_token_is_required() {
    let server = TestServer::with_ada().await;
    let app = routes().layer(server.http.layer().required());
    let ada = server.ada().await.facing(&app);
    assert_eq!(ada.get("/open").await.text(), "open");
    server.anonymous().facing(&app).get("/open").await.is_refused(401, "token-missing", BARE);
    server.token("cf_garbage").facing(&app).get("/open").await.is_refused(401, "invalid-token", INVALID_TOKEN);
    let twice = ada.with(header::AUTHORIZATION, "Bearer x");
    twice.get("/open").await.is_refused(400, "invalid-request", INVALID_REQUEST);
}

#[tokio::test]
async fn r20_the_schemes_are_those_of_the_settings_and_the_challenge_names_the_first() {
    let schemes = vec![Scheme::TOKEN, "Counterfoil".parse().unwrap()];
    let (server, app, ada) = guarded(HttpSettings { schemes, ..HttpSettings::default() }).await;
    for line in [format!("Token {}", ada.secret), format!("cOUNTERFOIL {}", ada.secret)] {
        let actor = server.anonymous().facing(&app).with(header::AUTHORIZATION, line);
        assert_eq!(actor.get("/who").await.status, 200);
    }
    let challenge = r#"Token realm="counterfoil""#;
    ada.get("/who").await.is_refused(401, "token-missing", challenge);
    server.token(&ada.secret).get("/v1/me").await.is_problem(401, "token-missing", challenge);
    for text in ["", "two words", "a,b", "\u{e4}"] {
        assert!(text.parse::<Scheme>().is_err(), "{text:?}");
    }
}

#[tokio::test]
async fn r20_x_api_key_is_read_where_it_is_switched_on_and_nowhere_else() {
    let (server, app, ada) = guarded(with_api_keys()).await;
    let account = server.user("bob", PASSWORD).await;
    let key = server.issued(&account, Kind::Key, "files:read").await.secret;
    let with_key = server.anonymous().with(X_API_KEY, &key);
    let answer = with_key.clone().facing(&app).get("/who").await;
    assert_eq!(answer.text(), format!("{} ApiKeyHeader", account.subject));
    assert_eq!(with_key.get("/v1/me").await.status, 200, "the native routes go by the same settings");

    let (other, closed, _) = guarded(HttpSettings::default()).await;
    let with_key = other.anonymous().with(X_API_KEY, &ada.secret);
    with_key.clone().facing(&closed).get("/who").await.is_refused(401, "token-missing", BARE);
    assert_eq!(with_key.facing(&closed).get("/perhaps").await.text(), "nobody");
}

#[tokio::test]
async fn a33_one_token_for_each_request_wherever_it_is() {
    let (server, app, ada) = guarded(with_api_keys()).await;
    let key = server.anonymous().with(X_API_KEY, &ada.secret);
    let both = ada.clone().with(X_API_KEY, &ada.secret);
    let twice = key.clone().with(X_API_KEY, &ada.secret);
    for actor in [both, twice] {
        for path in ["/who", "/perhaps"] {
            actor.clone().facing(&app).get(path).await.is_refused(400, "invalid-request", INVALID_REQUEST);
        }
        let native = actor.facing(&server.router).get("/v1/me").await;
        native.is_problem(400, "invalid-request", INVALID_REQUEST);
    }
    let basic_and_key = key.with(header::AUTHORIZATION, "Basic YWRhOng=");
    assert_eq!(basic_and_key.facing(&app).get("/who").await.status, 200, "that one is somebody else's");
}

#[tokio::test]
async fn a35_x_api_key_holds_a_token_and_nothing_else() {
    let (server, app, ada) = guarded(with_api_keys()).await;
    for line in [
        format!("Bearer {}", ada.secret).into_bytes(),
        format!("{} ", ada.secret).into_bytes(),
        format!("{},{}", ada.secret, ada.secret).into_bytes(),
        b"".to_vec(),
        b"\xc3\xa4".to_vec(),
    ] {
        let actor = server.anonymous().facing(&app).with(X_API_KEY, &line);
        actor.get("/who").await.is_refused(400, "invalid-request", INVALID_REQUEST);
    }
}

#[tokio::test]
async fn a34_no_token_is_read_from_the_query_or_the_body() {
    let (server, app, ada) = guarded(with_api_keys()).await;
    let stranger = server.anonymous().facing(&app);
    let text = &ada.secret;
    for field in ["access_token", "token", "api_key", "x-api-key"] {
        stranger.get(&format!("/who?{field}={text}")).await.is_refused(401, "token-missing", BARE);
        let form = stranger.form("/who", &format!("{field}={text}")).await;
        form.is_refused(401, "token-missing", BARE);
    }
}

#[tokio::test]
async fn a20_a_token_is_refused_from_the_instant_of_its_expiry_on() {
    let (server, _, ada) = guarded(HttpSettings::default()).await;
    let issued = ada.clone().facing(&server.router).get("/v1/me").await.json();
    let end: Timestamp = issued["token"]["expires_at"].as_str().unwrap().parse().unwrap();
    for _ in 0..3 {
        assert_eq!(ada.get("/who").await.status, 200);
    }
    server.clock.set_wall(Timestamp::from_millis(end.millis() - 1));
    assert_eq!(ada.get("/who").await.status, 200);
    server.clock.set_wall(end);
    ada.get("/who").await.is_refused(401, "invalid-token", INVALID_TOKEN);
    ada.get("/perhaps").await.is_refused(401, "invalid-token", INVALID_TOKEN);
}

#[tokio::test]
async fn f16_a_store_in_doubt_is_503_at_once_and_never_a_stranger() {
    let (server, app, ada) = guarded(HttpSettings::default()).await;
    server.outages.store.store(true, Ordering::SeqCst);
    for path in ["/who", "/perhaps", "/open"] {
        ada.get(path).await.is_refused(503, "unavailable", "");
        let unknown = server.token("cf_garbage").facing(&app).get(path).await;
        assert_ne!(unknown.status, 503, "that needs no store");
    }
    assert_eq!(server.anonymous().facing(&app).get("/perhaps").await.text(), "nobody");
}

#[tokio::test]
async fn a10_a_token_of_one_deployment_is_nobodys_in_another_even_within_its_layer() {
    let (_, _, ada) = guarded(HttpSettings::default()).await;
    let other =
        TestServer::with(HttpSettings { realm: "other".to_owned(), ..HttpSettings::default() }, Router::new()).await;
    let alone = routes().layer(other.http.layer());
    let (mine, _, _) = guarded(HttpSettings::default()).await;
    let eve = mine.ada().await;
    let within = routes().layer(other.http.layer()).layer(mine.http.layer());
    for actor in [ada.facing(&alone), eve.clone().facing(&alone), eve.facing(&within)] {
        let answer = actor.get("/who").await;
        let challenge = INVALID_TOKEN.replace("counterfoil", "other");
        answer.is_refused(401, "invalid-token", &challenge);
    }
}

#[tokio::test]
async fn a10_a_token_answers_with_its_own_client_and_subject_however_often_others_were_asked() {
    let (server, app, ada) = guarded(HttpSettings::default()).await;
    server.client("web", counterfoil_core::Policy::default()).await;
    let bob = server.user("bob", PASSWORD).await;
    let on_web = server.issued_on("web", &bob, Kind::Login, "*").await.facing(&app);
    let adas = ada.get("/who").await.text().to_owned();
    for _ in 0..3 {
        assert_eq!(on_web.get("/who").await.text(), format!("{} Authorization", bob.subject));
        assert_eq!(ada.get("/who").await.text(), adas);
    }
}

#[tokio::test]
async fn without_the_layer_nobody_passes_and_the_developer_is_told() {
    let app = routes();
    let server = TestServer::with_ada().await;
    for path in ["/who", "/perhaps"] {
        let answer = server.ada().await.facing(&app).get(path).await;
        assert_eq!((answer.status, answer.json()["type"].as_str()), (500, Some("urn:counterfoil:problem:internal")));
    }
}

#[tokio::test]
async fn a_request_is_judged_once_however_many_layers_and_extractors_ask() {
    async fn both(first: Authenticated, caller: Caller, again: Option<Authenticated>) -> String {
        assert_eq!(first.id, caller.who.id);
        assert_eq!(first.id, again.unwrap().id);
        assert_eq!(first.now(), caller.arrival.now);
        caller.who.subject.to_string()
    }
    let server = TestServer::with_ada().await;
    let more =
        Router::new().route("/both", get(both)).route_layer(server.http.layer()).route_layer(server.http.layer());
    let app = server.http.router_with(more);
    let ada = server.ada().await.facing(&app);
    let before = server.store.calls();
    assert_eq!(ada.get("/both").await.status, 200);
    assert_eq!(server.store.calls(), before + 1);
    // Within our own layers a refusal has the name of its request.
    server.anonymous().facing(&app).get("/both").await.is_problem(401, "token-missing", BARE);
}

#[tokio::test]
async fn our_own_routes_take_the_word_of_a_layer_around_them_unless_a_body_was_waited_for() {
    let server = TestServer::with_ada().await;
    let app = server.http.router().layer(server.http.layer());
    let ada = server.ada().await.facing(&app);
    assert_eq!(ada.get("/v1/me").await.status, 200);
    let (name, path) = (json!({"name": "desk"}), format!("/v1/tokens/{}", ada.id));
    assert_eq!(ada.json(Method::PATCH, &path, &name).await.status, 200);
    ada.post("/v1/logout").await.is_done();
    ada.get("/v1/me").await.is_refused(401, "invalid-token", INVALID_TOKEN);
    let login = json!({"username": "ada", "password": PASSWORD});
    assert_eq!(
        ada.json(Method::POST, "/v1/login", &login).await.status,
        200,
        "a dead token keeps nobody from a new one"
    );
}

#[tokio::test]
async fn a10_a_layer_that_looks_in_more_places_opens_none_of_those_within_it() {
    let server = TestServer::with_ada().await;
    let wide = server.http.with_settings(with_api_keys());
    let app = server.http.router().merge(routes().layer(server.http.layer())).layer(wide.layer());
    let ada = server.ada().await;
    let with_key = server.anonymous().with(X_API_KEY, &ada.secret).facing(&app);
    for path in ["/v1/me", "/who"] {
        with_key.get(path).await.is_refused(401, "token-missing", BARE);
        assert_eq!(ada.clone().facing(&app).get(path).await.status, 200);
    }
}

#[tokio::test]
async fn any_tower_service_is_guarded_whatever_its_body_and_whatever_its_error() {
    #[derive(Debug, PartialEq)]
    struct Broken;
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    let service = ServiceBuilder::new().layer(server.http.layer().required()).service_fn(
        async |request: Request<Vec<u8>>| -> Result<Response<Full<axum::body::Bytes>>, Broken> {
            let who = Authenticated::of(request.extensions()).unwrap().unwrap();
            if request.body().is_empty() {
                return Err(Broken);
            }
            Ok(Response::new(Full::from(format!("{} {}", who.client, request.body().len()))))
        },
    );
    let ask = async |token: Option<&str>, body: Vec<u8>| {
        let mut request = Request::new(body);
        if let Some(token) = token {
            request.headers_mut().insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        }
        service.clone().oneshot(request).await
    };
    let answer = ask(Some(&ada.secret), vec![1, 2, 3]).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "default 3");
    assert_eq!(ask(Some(&ada.secret), vec![]).await.unwrap_err(), Broken);
    assert_eq!(ask(None, vec![1]).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(ask(Some("cf_garbage"), vec![1]).await.unwrap().status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_host_may_refuse_in_its_own_words_wherever_the_refusal_comes_from() {
    async fn handler(who: Authenticated) -> Result<String, Problem> {
        who.may(&"files:read".parse().unwrap())?;
        Err(Problem::new(ProblemKind::Conflict, "Not now."))
    }
    let server = TestServer::with_ada().await;
    let layer = server.http.layer().refusals(|problem, head| {
        let machine = head.headers.get(header::ACCEPT).is_some_and(|accept| accept == "application/json");
        let text = format!("{} {} {}", head.method, head.uri.path(), problem.kind().slug());
        (!machine).then(|| (problem.kind().status(), [("x-own", "yes")], text).into_response())
    });
    let app = routes().route("/own", post(handler)).route_layer(counterfoil_http::Guard::signed_in());
    let app = Router::new().merge(app).route("/fine", get(open)).layer(layer.clone());
    let stranger = server.anonymous().facing(&app);
    let told = stranger.get("/who").await;
    assert_eq!((told.status, told.text(), told.header("x-own")), (401, "GET /who token-missing", "yes"));
    let told = server.token("cf_x").facing(&app).get("/perhaps").await;
    assert_eq!((told.status, told.text()), (401, "GET /perhaps invalid-token"));
    let told = server.ada().await.facing(&app).post("/own").await;
    assert_eq!((told.status, told.text()), (409, "POST /own conflict"));
    assert_eq!(stranger.get("/fine").await.text(), "open");
    let machine = stranger.with(header::ACCEPT, "application/json");
    machine.get("/who").await.is_refused(401, "token-missing", BARE);

    // By the layer itself, too, and within our own routes.
    let app = routes().layer(layer.required());
    assert_eq!(server.anonymous().facing(&app).get("/open").await.text(), "GET /open token-missing");
}

#[tokio::test]
async fn a_request_carries_the_time_and_the_place_it_came_from() {
    async fn when(who: Authenticated) -> String {
        format!("{} {:?}", who.now().wall, who.source().ip)
    }
    let server = TestServer::with_ada().await;
    let app = Router::new().route("/when", get(when)).layer(server.http.layer());
    let answer = server.ada().await.facing(&app).at("198.51.100.9").get("/when").await;
    assert_eq!(answer.text(), format!("{START} Some(198.51.100.9)"));
}
