//! What every answer has in common.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderName, Method, header};
use axum::routing::get;
use counterfoil_core::Kind;
use counterfoil_core::account::Role;
use counterfoil_http::{Access, HttpSettings, ProblemKind, ROUTES, TrustedProxy};
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::world::{Answer, PASSWORD, TestServer, concrete};

#[track_caller]
fn is_protected(answer: &Answer) {
    let policy = answer.header("content-security-policy");
    let everything = "default-src 'none'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'";
    if answer.header("content-type").starts_with("text/html") {
        // Its own style, by its hash, and nothing else.
        let rest = policy.strip_prefix("default-src 'none'; style-src 'sha256-").unwrap();
        let rest = rest.split_once("'; ").unwrap().1;
        // Pages with a form send it to nobody else.
        let rest = rest.strip_prefix("form-action 'self'; ").unwrap_or(rest);
        assert_eq!(rest, "object-src 'none'; base-uri 'none'; frame-ancestors 'none'");
    } else {
        assert_eq!(policy, everything);
    }
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("strict-transport-security", "max-age=31536000; includeSubDomains"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("referrer-policy", "no-referrer"),
    ] {
        assert_eq!(answer.header(name), value, "{name} of {answer:?}");
    }
    assert!(!answer.header("x-request-id").is_empty());
    for name in ["server", "x-powered-by", "access-control-allow-origin", "set-cookie"] {
        assert_eq!(answer.header(name), "");
    }
}

#[tokio::test]
async fn r24_every_answer_of_every_route_carries_the_security_headers() {
    let more = Router::new().route("/panic", get(async || -> () { panic!("as planned") }));
    let server = TestServer::with(HttpSettings::default(), more).await;
    server.user("ada", PASSWORD).await;
    let anonymous = server.anonymous();
    for route in ROUTES {
        // A token of its own for each, because some routes end it.
        for actor in [server.anonymous(), server.token("cf_x"), server.ada().await] {
            let path = concrete(route.path, &actor.id);
            for body in ["", "{}", "{\"name\": null}"] {
                let answer = actor.typed(route.method.clone(), &path, "application/json", body).await;
                is_protected(&answer);
            }
        }
        is_protected(&anonymous.send(Method::TRACE, route.path, Body::empty()).await);
        is_protected(&anonymous.send(Method::OPTIONS, route.path, Body::empty()).await);
    }
    for (answer, status) in [
        (anonymous.get("/nowhere").await, 404),
        (anonymous.get("/v1/login").await, 405),
        (anonymous.typed(Method::POST, "/v1/login", "text/plain", "x").await, 415),
        (anonymous.typed(Method::POST, "/v1/login", "application/json", "x".repeat(70_000)).await, 413),
        (anonymous.get("/panic").await, 500),
    ] {
        assert_eq!(answer.status, status);
        is_protected(&answer);
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
}

#[tokio::test]
async fn r27_a_method_that_a_route_does_not_have_is_refused_with_those_it_has() {
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    let paths: BTreeSet<&str> = ROUTES.iter().map(|route| route.path).collect();
    for path in paths {
        let mut allowed: BTreeSet<&str> =
            ROUTES.iter().filter(|route| route.path == path).map(|route| route.method.as_str()).collect();
        if allowed.contains("GET") {
            allowed.insert("HEAD");
        }
        let path = concrete(path, &ada.id);
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get"] {
            if allowed.contains(method) {
                continue;
            }
            let answer = ada.send(Method::from_bytes(method.as_bytes()).unwrap(), &path, Body::empty()).await;
            answer.is_problem(405, "method-not-allowed", "");
            let told: BTreeSet<&str> = answer.header("allow").split(',').map(str::trim).collect();
            assert_eq!(told, allowed, "{method} {path}");
        }
    }
    for path in ["/", "/v1", "/v1/login/", "/V1/me", "//v1/me", "/v1/tokens/", "/v1/tokens/a/b", "/v1/../v1/me"] {
        ada.get(path).await.is_problem(404, "not-found", "");
    }
}

#[tokio::test]
async fn head_answers_as_get_does_without_a_body() {
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    for path in ["/v1/me", "/v1/tokens", "/v1/keys", "/healthz", "/readyz", "/openapi.json", "/docs"] {
        let (got, head) = (ada.get(path).await, ada.send(Method::HEAD, path, Body::empty()).await);
        assert_eq!((got.status, head.status, head.text()), (200, 200, ""), "{path}");
        assert_eq!(head.header("content-type"), got.header("content-type"));
        is_protected(&head);
    }
    let refused = server.anonymous().send(Method::HEAD, "/v1/me", Body::empty()).await;
    assert_eq!((refused.status, refused.text()), (401, ""));
}

#[tokio::test]
async fn r23_a_problem_says_what_it_is_and_nothing_of_what_was_sent() {
    let server = TestServer::with_ada().await;
    let answer = server.anonymous().json(Method::POST, "/v1/login", &json!({"username": "ada", "password": 5})).await;
    answer.is_about(400, "invalid-value", "password");
    assert_eq!(
        answer.json(),
        json!({
            "type": "urn:counterfoil:problem:invalid-value",
            "title": "A value cannot be taken",
            "status": 400,
            "detail": "The value is not of the form that the field takes.",
            "instance": answer.header("x-request-id"),
            "field": "password",
        })
    );
    let slugs: BTreeSet<&str> = ProblemKind::ALL.iter().map(|kind| kind.slug()).collect();
    assert_eq!(slugs.len(), ProblemKind::ALL.len());
}

fn ours() -> TrustedProxy {
    "10.0.0.0/8".parse::<IpNet>().expect("a network").into()
}

#[tokio::test]
async fn a_request_has_an_id_that_only_a_trusted_proxy_chooses() {
    let settings = HttpSettings {
        trusted_proxies: vec![ours()],
        request_id_prefix: Some("n1".to_owned()),
        ..HttpSettings::default()
    };
    let server = TestServer::with(settings, Router::new()).await;
    let name = HeaderName::from_static("x-request-id");
    let by = |address: &str, id: &str| server.anonymous().at(address).with(name.clone(), id);
    assert_eq!(by("10.1.2.3", "4f2a-17").get("/healthz").await.header("x-request-id"), "4f2a-17");
    assert_eq!(by("::ffff:10.1.2.3", "4f2a").get("/v1/me").await.json()["instance"], "4f2a");
    assert_eq!(by("192.0.2.7", "4f2a").get("/healthz").await.header("x-request-id"), "n1-0");
    for odd in ["", "a b", "a\"b", "../x", &"x".repeat(65)] {
        assert!(by("10.1.2.3", odd).get("/healthz").await.header("x-request-id").starts_with("n1-"), "{odd}");
    }
    let twice = by("10.1.2.3", "one").with(name.clone(), "two");
    assert!(twice.get("/healthz").await.header("x-request-id").starts_with("n1-"));
}

#[tokio::test]
async fn behind_a_trusted_proxy_a_device_is_seen_where_it_is() {
    let settings = HttpSettings { trusted_proxies: vec![ours()], ..HttpSettings::default() };
    let server = TestServer::with(settings, Router::new()).await;
    server.user("ada", PASSWORD).await;
    let forwarded = HeaderName::from_static("x-forwarded-for");
    for (peer, line, seen) in [
        ("10.0.0.1", "198.51.100.1, 203.0.113.7", "203.0.113.7"),
        ("192.0.2.7", "203.0.113.7", "192.0.2.7"),
        ("10.0.0.1", "junk", "10.0.0.1"),
    ] {
        let somebody = server.anonymous().at(peer).with(forwarded.clone(), line);
        let body = json!({"username": "ada", "password": PASSWORD});
        let token = somebody.json(Method::POST, "/v1/login", &body).await.json();
        let me = server.token(token["token"].as_str().unwrap()).get("/v1/me").await.json();
        assert_eq!(me["token"]["first_seen"]["ip"], seen);
    }
}

#[tokio::test]
async fn operations_tell_that_it_is_up_and_can_answer() {
    let server = TestServer::with_ada().await;
    let before = server.store.calls();
    let up = server.anonymous().get("/healthz").await;
    assert_eq!((up.status, up.json()), (200, json!({"status": "ok"})));
    assert_eq!(server.store.calls(), before, "touches nothing");
    let ready = server.anonymous().get("/readyz").await;
    assert_eq!((ready.status, ready.json()), (200, json!({"status": "ready", "behind_ms": null})));
}

#[tokio::test]
async fn anyone_may_ask_whether_it_is_ready_and_one_probe_a_second_is_made() {
    let server = TestServer::with_ada().await;
    let before = server.store.calls();
    let probes = || server.store.calls() - before;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let anyone = server.anonymous();
        asking.spawn(async move { anyone.get("/readyz").await.status });
    }
    assert_eq!(asking.join_all().await, [200; 100]);
    assert_eq!(probes(), 1);
    server.outages.store.store(true, Ordering::SeqCst);
    server.wait(999);
    assert_eq!((server.anonymous().get("/readyz").await.status, probes()), (200, 1));
    server.wait(1);
    for _ in 0..3 {
        server.anonymous().get("/readyz").await.is_problem(503, "unavailable", "");
    }
    assert_eq!(probes(), 2, "a bad answer is shared too");
    server.outages.store.store(false, Ordering::SeqCst);
    server.wait(1_000);
    assert_eq!((server.anonymous().get("/readyz").await.status, probes()), (200, 3));
}

#[tokio::test]
async fn the_description_has_every_route_and_no_dangling_reference() {
    let server = TestServer::with_ada().await;
    let answer = server.anonymous().get("/openapi.json").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    let document = answer.json();
    assert_eq!(document, counterfoil_http::openapi());
    assert_eq!(document["openapi"], "3.1.0");

    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            assert!(operation["responses"]["500"].is_object(), "{path}");
            described.insert((path.clone(), method.to_uppercase()));
        }
    }
    let table =
        ROUTES.iter().filter(|route| !route.is_page()).map(|route| (route.path.to_owned(), route.method.to_string()));
    assert_eq!(described, table.collect());

    let mut ids = BTreeSet::new();
    for route in ROUTES.iter().filter(|route| !route.is_page()) {
        let operation = &document["paths"][route.path][route.method.as_str().to_lowercase()];
        assert_eq!(operation["summary"], route.what);
        assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{operation}");
        let security = match route.access {
            Access::Open => json!([{}]),
            Access::OpenOr(ability) => json!([{}, {"bearer": [ability.as_str()]}]),
            Access::Token => json!([{"bearer": []}]),
            Access::Ability(ability) | Access::Service(ability) | Access::Staff(ability) => {
                json!([{"bearer": [ability.as_str()]}])
            }
        };
        assert_eq!(operation["security"], security, "{}", route.path);
    }
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    for reference in references {
        let name = reference.strip_prefix("#/components/schemas/").unwrap();
        assert!(schemas.contains_key(name), "{name} is not among {:?}", schemas.keys());
    }
}

/// What the description says of an answer's fields, the answer keeps.
#[tokio::test]
async fn answers_have_the_fields_that_the_description_promises() {
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    let document = counterfoil_http::openapi();
    let (root, account) = server.of_role("root", Role::Admin).await;
    let service = server.issued(&account, Kind::Key, "tokens:introspect").await;
    let client = root.get("/v1/admin/clients").await.json()["items"][0]["id"].as_str().unwrap().to_owned();
    let user = |more: &str| format!("/v1/admin/users/{}{more}", account.subject);
    let filter = json!({"kind": "key", "dry_run": true});
    let issue = json!({"user": account.subject});
    let login = json!({"username": "ada", "password": PASSWORD});
    let register = json!({"username": "bob", "password": crate::post::NEW_PASSWORD});
    for (schema, answer) in [
        ("NewToken", server.anonymous().json(Method::POST, "/v1/login", &login).await),
        ("NewToken", ada.json(Method::POST, "/v1/keys", &json!({})).await),
        ("Me", ada.get("/v1/me").await),
        ("Page", ada.get("/v1/tokens").await),
        ("Record", ada.json(Method::PATCH, &format!("/v1/tokens/{}", ada.id), &json!({"name": null})).await),
        ("Renewed", ada.post("/v1/renew").await),
        ("Health", ada.get("/healthz").await),
        ("Introspection", service.form("/v1/introspect", "token=x").await),
        ("Introspection", service.form("/v1/introspect", &format!("token={}", ada.secret)).await),
        ("Problem", service.form("/v1/introspect", "").await),
        ("UserPage", root.get("/v1/admin/users").await),
        ("User", root.get(&user("")).await),
        ("Export", root.get(&user("/export")).await),
        ("Clients", root.get("/v1/admin/clients").await),
        ("Client", root.get(&format!("/v1/admin/clients/{client}")).await),
        ("StaffPage", root.get("/v1/admin/tokens").await),
        ("StaffRecord", root.get(&format!("/v1/admin/tokens/{}", ada.id)).await),
        ("NewToken", root.json(Method::POST, "/v1/admin/tokens", &issue).await),
        ("Revoked", root.json(Method::POST, "/v1/admin/tokens/revoke", &filter).await),
        ("OwnUser", server.anonymous().tell("/v1/register", register).await),
        ("Mailed", root.tell("/v1/admin/users/reset", json!({"ids": ["nobody"]})).await),
        ("Export", root.tell("/v1/me/export", json!({"password": PASSWORD})).await),
        ("AuditEntries", root.get("/v1/admin/audit").await),
        ("Problem", ada.get("/nowhere").await),
        ("Problem", ada.get("/v1/tokens?limit=0").await),
    ] {
        let schema = &document["components"]["schemas"][schema];
        let answer = answer.json();
        let known = schema["properties"].as_object().unwrap();
        for field in answer.as_object().unwrap().keys() {
            assert!(known.contains_key(field), "{field} is not in {schema}");
        }
        for field in schema["required"].as_array().into_iter().flatten() {
            assert!(answer.get(field.as_str().unwrap()).is_some(), "{field} is not in {answer}");
        }
    }
}

fn collect_references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(object) => {
            found.extend(object.get("$ref").and_then(Value::as_str));
            object.values().for_each(|value| collect_references(value, found));
        }
        Value::Array(array) => array.iter().for_each(|value| collect_references(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test]
async fn a_body_that_is_not_compressed_may_say_so() {
    let server = TestServer::with_ada().await;
    let body = json!({"username": "ada", "password": PASSWORD});
    let plain = server.anonymous().with(header::CONTENT_ENCODING, "identity");
    assert_eq!(plain.json(Method::POST, "/v1/login", &body).await.status, 200);
    let gzip = server.anonymous().with(header::CONTENT_ENCODING, "gzip");
    gzip.json(Method::POST, "/v1/login", &body).await.is_problem(415, "unsupported-media-type", "");
}
