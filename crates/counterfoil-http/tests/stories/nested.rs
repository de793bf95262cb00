//! The native routes in a host's own house: under its paths, beside its routes, and without those that it does not want.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{Method, StatusCode};
use axum::routing::get;
use counterfoil_core::Policy;
use counterfoil_core::account::Role;
use counterfoil_http::{Group, HttpSettings, ROUTES, Selection};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use serde_json::{Value, json};

use crate::world::{BARE, PASSWORD, TestServer, concrete};

/// What a host says where it has nothing.
async fn nothing() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "nothing of the host's")
}

fn under_auth(server: &TestServer, selection: &Selection) -> Router {
    Router::new().route("/", get(async || "the host's")).nest("/auth", server.http.routes(selection)).fallback(nothing)
}

#[tokio::test]
async fn nested_routes_work_and_name_themselves_as_the_host_has_them() {
    let server = TestServer::with_ada().await;
    let (root, _) = server.of_role("root", Role::Admin).await;
    let app = under_auth(&server, &Selection::all());
    let login = json!({"username": "ada", "password": PASSWORD});
    let token = server.anonymous().facing(&app).json(Method::POST, "/auth/v1/login", &login).await.json();
    let ada = server.token(token["token"].as_str().unwrap()).facing(&app);
    assert_eq!(ada.get("/auth/v1/me").await.json()["token"]["id"], token["id"]);
    server.anonymous().facing(&app).get("/auth/v1/me").await.is_problem(401, "token-missing", BARE);

    let root = root.facing(&app);
    let user = json!({"username": "new"});
    let client = json!({"name": "web"});
    let ordered = json!({"user": server.authority.user("ada").await.unwrap().subject});
    for (actor, path, body) in [
        (&ada, "/auth/v1/keys", json!({"name": "x"})),
        (&root, "/auth/v1/admin/users", user),
        (&root, "/auth/v1/admin/clients", client),
        (&root, "/auth/v1/admin/tokens", ordered),
    ] {
        let made = actor.json(Method::POST, path, &body).await;
        assert_eq!(made.status, 201, "{path}: {}", made.text());
        let location = made.header("location").to_owned();
        assert!(location.starts_with(&format!("{path}/")), "{location}");
        let there = if path.ends_with("keys") { actor.delete(&location).await } else { actor.get(&location).await };
        assert!(there.status < 300, "{location}: {}", there.text());
    }
    assert_eq!(root.get("/").await.text(), "the host's");
}

#[tokio::test]
async fn the_description_of_nested_routes_leads_to_them() {
    let server = TestServer::with_ada().await;
    let app = Router::new().nest("/a", Router::new().nest("/b", server.http.routes(&Selection::all())));
    let anyone = server.anonymous().facing(&app);
    let document = anyone.get("/a/b/openapi.json").await.json();
    assert_eq!(document["servers"], json!([{"url": "/a/b"}]));
    let mut at_the_root = document.clone();
    at_the_root.as_object_mut().unwrap().remove("servers");
    assert_eq!(at_the_root, counterfoil_http::openapi());
    assert_eq!(server.anonymous().get("/openapi.json").await.json().get("servers"), None);
    let page = anyone.get("/a/b/docs").await;
    assert!(page.text().contains("href=\"openapi.json\"") && !page.text().contains("href=\"/"));
    // A path that a client may choose does not break out of the document.
    let tenants = Router::new().nest("/{tenant}", server.http.routes(&Selection::all()));
    let odd = server.anonymous().facing(&tenants).get("/x\",\"y/openapi.json").await;
    assert_eq!(odd.json()["servers"], json!([{"url": "/x\",\"y"}]));
}

#[tokio::test]
async fn a_hosts_own_fallback_stays_its_own() {
    let server = TestServer::with_ada().await;
    for app in [
        under_auth(&server, &Selection::all()),
        Router::new().merge(server.http.routes(&Selection::all())).fallback(nothing),
    ] {
        let anyone = server.anonymous().facing(&app);
        for path in ["/none", "/auth/none", "/auth/v1/", "/auth/v1/none", "/v1/none"] {
            let answer = anyone.get(path).await;
            assert_eq!((answer.status, answer.text()), (404, "nothing of the host's"), "{path}");
            assert_eq!(answer.header("x-request-id"), "", "{path}");
        }
    }
    let app = under_auth(&server, &Selection::all());
    let told = server.anonymous().facing(&app).delete("/auth/v1/login").await;
    assert_eq!((told.status, told.header("allow")), (405, "POST"));
}

#[tokio::test]
async fn a_route_that_is_left_out_is_as_if_it_had_never_been() {
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    for group in Group::ALL {
        let app = under_auth(&server, &Selection::all().without(group));
        let alone = under_auth(&server, &Selection::none().with(group));
        let of_it = |path| ROUTES.iter().filter(move |route| route.path == path).any(|route| route.group() == group);
        for route in ROUTES {
            let path = format!("/auth{}", concrete(route.path, &ada.id));
            let ask = async |app: &Router| {
                let anyone = server.anonymous().facing(app);
                let answer = anyone.send(route.method.clone(), &path, axum::body::Body::empty()).await;
                (answer.status, answer.text() == "nothing of the host's")
            };
            let (out, only) = (ask(&app).await, ask(&alone).await);
            if of_it(route.path) {
                assert_eq!(out, (404, true), "{} {path}", route.method);
                assert!(!only.1, "{} {path}", route.method);
            } else {
                assert!(!out.1, "{} {path}", route.method);
                assert_eq!(only, (404, true), "{} {path}", route.method);
            }
        }
    }
    assert!(Group::ALL.into_iter().all(|group| ROUTES.iter().any(|route| route.group() == group)));
}

#[tokio::test]
async fn a_route_that_is_left_out_alone_is_405_beside_others_and_nobody_tells_of_it() {
    let server = TestServer::with_ada().await;
    let selection = Selection::all().without_route(Method::PATCH, "/v1/me").unwrap();
    let selection = selection.without_route(Method::POST, "/v1/rotate").unwrap();
    let app = under_auth(&server, &selection);
    let ada = server.ada().await.facing(&app);
    let told = ada.json(Method::PATCH, "/auth/v1/me", &json!({"rotation_locked": true})).await;
    assert_eq!((told.status, told.header("allow")), (405, "GET,HEAD"));
    assert_eq!(ada.post("/auth/v1/rotate").await.status, 404);
    assert_eq!(ada.get("/auth/v1/me").await.status, 200);

    let document = ada.get("/auth/openapi.json").await.json();
    let paths = document["paths"].as_object().unwrap();
    let described = |method: &str, path: &str| paths.get(path).is_some_and(|path| path.get(method).is_some());
    let page = ada.get("/auth/docs").await.text().to_owned();
    for route in ROUTES {
        let there = selection.has(&route.method, route.path) && !route.is_page();
        assert_eq!(described(&route.method.as_str().to_lowercase(), route.path), there, "{}", route.path);
        let heading = format!("<b class=\"{0}\">{0}</b> <code>{1}</code></h3>", route.method, route.path);
        assert_eq!(page.contains(&heading), there, "{}", route.path);
    }
    assert!(document["components"]["schemas"].get("MeBody").is_none(), "nor of what it takes");

    let bare = under_auth(&server, &Selection::all().without_route(Method::GET, "/openapi.json").unwrap());
    let page = server.anonymous().facing(&bare).get("/auth/docs").await;
    assert!(page.status == 200 && !page.text().contains("openapi.json"));
    let little = under_auth(&server, &Selection::none().with(Group::Description).with(Group::Me));
    let page = server.anonymous().facing(&little).get("/auth/docs").await;
    assert!(!page.text().contains("Administration"), "no chapter without a route");
    for (method, path) in [(Method::GET, "/v1/rotate"), (Method::POST, "/v1/rotat"), (Method::POST, "v1/rotate")] {
        let error = Selection::none().with_route(method.clone(), path).unwrap_err();
        assert!(error.to_string().contains(path), "{error}");
    }
}

#[tokio::test]
async fn r23_a_request_to_routes_within_a_hosts_own_layer_is_counted_once() {
    let server = TestServer::with_ada().await;
    server.client("slow", Policy { throttle: "4/m".parse().ok(), ..Policy::default() }).await;
    let app = server.http.routes(&Selection::all()).layer(server.http.layer());
    let ada = server.logged_in("ada", "slow", "laptop").await.facing(&app);
    let key = ada.json(Method::POST, "/v1/keys", &json!({"name": "x"})).await;
    assert_eq!(key.status, 201, "{}", key.text());
    assert_eq!(ada.get("/v1/me").await.status, 200);
    let renewed = ada.post("/v1/renew").await;
    assert_eq!(renewed.status, 200, "{}", renewed.text());
    let rotated = ada.post("/v1/rotate").await;
    assert_eq!(rotated.status, 200, "{}", rotated.text());
    let ada = server.token(rotated.json()["token"].as_str().unwrap()).facing(&app);
    for path in ["/v1/renew", "/v1/rotate", "/v1/logout"] {
        assert_eq!(ada.post(path).await.status, 429, "{path}");
    }
}

/// What was counted among the token checks, by their outcome.
#[derive(Default)]
struct Checks(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Checks {
    /// The counts since the last time this was asked.
    fn taken(&self) -> Vec<(String, u64)> {
        let checks = self.0.lock().unwrap();
        let taken = checks.iter().map(|(outcome, count)| (outcome.clone(), count.swap(0, Ordering::SeqCst)));
        taken.filter(|(_, count)| *count > 0).collect()
    }
}

impl Recorder for Checks {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        if key.name() != "counterfoil_token_checks_total" {
            return Counter::noop();
        }
        let outcome = key.labels().map(|label| label.value().to_owned()).collect();
        Counter::from_arc(Arc::clone(self.0.lock().unwrap().entry(outcome).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test]
async fn a_request_to_routes_within_a_hosts_own_layer_is_one_token_check() {
    let checks = Checks::default();
    let _for_this_thread = metrics::set_default_local_recorder(&checks);
    let server = TestServer::with_ada().await;
    let app = server.http.routes(&Selection::all()).layer(server.http.layer());
    let ada = server.ada().await.facing(&app);
    let invented = server.token("cf_invented").facing(&app);
    assert_eq!(checks.taken(), []);
    let one = |outcome: &str| vec![(outcome.to_owned(), 1)];
    assert_eq!(ada.get("/v1/me").await.status, 200);
    assert_eq!(checks.taken(), one("accepted"));
    for path in ["/v1/keys", "/v1/renew", "/v1/logout"] {
        let done = ada.json(Method::POST, path, &json!({})).await;
        assert!(done.status < 300, "{path}: {}", done.text());
        assert_eq!(checks.taken(), one("accepted"), "{path}");
        invented.json(Method::POST, path, &json!({})).await.is_invalid_token();
        assert_eq!(checks.taken(), one("unknown"), "{path}");
    }
    for path in ["/v1/keys", "/v1/rotate"] {
        ada.json(Method::POST, path, &json!({})).await.is_invalid_token();
        assert_eq!(checks.taken(), one("revoked"), "{path}");
    }
}

#[tokio::test]
async fn r25_a_cookie_is_good_under_any_path() {
    let settings = HttpSettings { cookies: Some(counterfoil_http::Cookies::default()), ..HttpSettings::default() };
    let server = TestServer::with(settings, Router::new()).await;
    server.user("ada", PASSWORD).await;
    let app = under_auth(&server, &Selection::all());
    let page =
        server.anonymous().with(axum::http::HeaderName::from_static("sec-fetch-site"), "same-origin").facing(&app);
    let login: Value = json!({"username": "ada", "password": PASSWORD, "cookie": true});
    let answer = page.json(Method::POST, "/auth/v1/login", &login).await;
    let cookie = answer.header("set-cookie");
    assert!(cookie.contains("; Path=/; "), "{cookie}");
    let ada = page.with(axum::http::header::COOKIE, cookie.split(';').next().unwrap());
    assert_eq!(ada.get("/auth/v1/me").await.status, 200);
    ada.post("/auth/v1/logout").await.is_done();
}
