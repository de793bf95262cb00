//! Secrets stay where they belong.

use std::cell::RefCell;
use std::io::Write;
use std::sync::Once;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, header};
use axum::routing::get;
use counterfoil_core::account::Role;
use counterfoil_core::link::Purpose;
use counterfoil_core::store::TokenQuery;
use counterfoil_core::{AccountStore, By, Clock, Kind, TokenDigest, TokenStore};
use counterfoil_http::{Access, HttpSettings, Presented, ROUTES};
use serde_json::{Value, json};

use crate::world::{Actor, Answer, PASSWORD, TestServer, concrete};

thread_local! {
    /// What was logged on this thread since somebody began to listen.
    static HEARD: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// What this thread logs, at the loudest level. A test runs on one thread of its own.
struct Log;

impl Log {
    /// Begins to listen. The subscriber is one for the whole program: one for each thread would race over what `tracing`
    /// remembers about which of its call sites anybody listens to.
    fn listen() -> Log {
        static SUBSCRIBED: Once = Once::new();
        SUBSCRIBED.call_once(|| {
            tracing_subscriber::fmt()
                .with_max_level(tracing::Level::TRACE)
                .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
                .with_ansi(false)
                .with_writer(|| ToThisThread)
                .init();
        });
        HEARD.set(Some(Vec::new()));
        Log
    }

    /// Ends listening and tells what was heard.
    fn text(self) -> String {
        String::from_utf8(HEARD.take().unwrap()).unwrap()
    }
}

struct ToThisThread;

impl Write for ToThisThread {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        HEARD.with_borrow_mut(|heard| heard.as_mut().map(|heard| heard.extend_from_slice(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Sends to every route the bodies that it may take, with secrets in every place where a client could put one.
async fn through_every_route(actor: &Actor, password: &str) -> Vec<Answer> {
    let mut answers = Vec::new();
    for route in ROUTES {
        let path = concrete(route.path, &actor.id);
        let query = format!("{path}?access_token={}&password={password}", actor.secret);
        for path in [path.clone(), query, format!("{path}/{}", actor.secret)] {
            for body in [
                json!({"username": "ada", "password": password}),
                json!({"username": password, "password": password, "client": password, "name": "x"}),
                json!({"username": "ada", "password": [password]}),
                json!({password: actor.secret, actor.secret.as_str(): password}),
                json!({"expires_at": password, "abilities": [actor.secret]}),
                json!({"name": {"password": password}}),
                json!({"email": password, "password": password}),
                json!({"token": actor.secret, "password": password}),
                json!({"token": password, "new_password": password}),
                json!({"current_password": actor.secret, "new_password": password}),
                json!({"username": "ada", "password": password, "email": actor.secret, "next": password}),
                json!({"ids": [password, actor.secret]}),
            ] {
                answers.push(actor.json(route.method.clone(), &path, &body).await);
            }
            let form = format!("username=ada&password={password}&access_token={}", actor.secret);
            let media = "application/x-www-form-urlencoded";
            answers.push(actor.typed(route.method.clone(), &path, media, form).await);
        }
        let method = Method::from_bytes(actor.secret.as_bytes()).unwrap();
        answers.push(actor.send(method, &path, Body::empty()).await);
    }
    answers
}

/// Nothing that a person typed and no text of a token is found in a log, a problem or a `Debug`, at the loudest level.
#[tokio::test]
async fn a82_no_password_and_no_token_reaches_a_log_or_a_problem() {
    let log = Log::listen();
    let canary = "Canary-Pass-77-lang";
    let panics = get(async |Presented(secret): Presented| -> () { panic!("{}", secret.expose()) });
    let shows = get(async |presented: Presented| format!("{presented:?}"));
    let more = Router::new().route("/panic", panics).route("/debug", shows);
    let server = TestServer::with(HttpSettings::default(), more).await;
    server.user("ada", canary).await;

    let login = json!({"username": "ada", "password": canary});
    let first = server.anonymous().json(Method::POST, "/v1/login", &login).await.json();
    let secret = first["token"].as_str().unwrap().to_owned();
    let actor = server.token(&secret).known_as(first["id"].as_str().unwrap());
    let actor = actor.with(header::REFERER, format!("https://example.org/?token={secret}"));

    let mut answers = Vec::new();
    for broken in [false, true] {
        server.outages.store.store(broken, std::sync::atomic::Ordering::SeqCst);
        answers.extend(through_every_route(&actor, canary).await);
    }
    server.outages.store.store(false, std::sync::atomic::Ordering::SeqCst);
    let panicked = actor.get("/panic").await;
    panicked.is_problem(500, "internal", "");
    answers.push(panicked);
    let shown = actor.get("/debug").await;
    assert_eq!(shown.text(), "Presented(SecretToken)");
    answers.push(shown);

    let issued = |answer: &Answer| answer.status < 300 && answer.text().contains("\"token\":\"cf_");
    assert!(answers.iter().any(issued), "the canary did sing: some of these are logins");
    for answer in answers.iter().filter(|answer| !issued(answer)) {
        let text = format!("{:?} {}", answer.headers, answer.text());
        assert!(!text.contains(canary) && !text.contains(&secret), "{text}");
    }
    let log = log.text();
    assert!(log.contains("\"/v1/login\"") && log.contains("panicked") && log.contains("on fire"), "it was listening");
    let minted: Vec<String> = answers
        .iter()
        .filter(|answer| issued(answer))
        .map(|answer| answer.json()["token"].as_str().unwrap().to_owned())
        .collect();
    for secret in minted.iter().chain([&secret, &canary.to_owned()]) {
        let bare = secret.trim_start_matches("cf_");
        let line = log.lines().find(|line| line.contains(bare));
        assert_eq!(line, None);
    }
    let debug = format!("{:?} {:?}", server.authority, actor.secret.len());
    assert!(!debug.contains(canary) && !debug.contains(&secret));
}

/// The pages of links have a secret in their path, where servers like to log it.
#[tokio::test]
async fn a82_the_secret_of_a_link_in_a_path_reaches_no_log_and_no_page() {
    let log = Log::listen();
    let server = TestServer::with_ada().await;
    let account = server.authority.user("ada").await.unwrap();
    let mut secrets = Vec::new();
    for purpose in [Purpose::Confirm, Purpose::Reset, Purpose::UndoChange] {
        let secret = server.mailed_link(&account, purpose).await;
        for route in ROUTES.iter().filter(|route| route.path.contains("{link}")) {
            for broken in [true, false] {
                server.outages.store.store(broken, std::sync::atomic::Ordering::SeqCst);
                for path in [concrete(route.path, &secret), format!("{}/", concrete(route.path, &secret))] {
                    for body in ["password=wrong", "new_password=short", "{"] {
                        let media = "application/x-www-form-urlencoded";
                        let answer = server.anonymous().typed(route.method.clone(), &path, media, body).await;
                        assert!(!format!("{:?} {}", answer.headers, answer.text()).contains(&secret));
                    }
                }
            }
        }
        secrets.push(secret);
    }
    let log = log.text();
    assert!(log.contains("\"/password/reset/{link}\"") && log.contains("on fire"), "it was listening");
    for secret in secrets {
        let bare = secret.trim_start_matches("cfl_");
        assert_eq!(log.lines().find(|line| line.contains(bare)), None);
    }
}

#[tokio::test]
async fn a83_nothing_that_a_client_sends_makes_a_log_line_of_its_own() {
    let log = Log::listen();
    let server = TestServer::with_ada().await;
    let forged = "ada\n2026-11-20T11:00:00Z ERROR forged {\"level\":\"error\"}\u{1b}[31m";
    let body = json!({"username": forged, "password": forged, "client": forged, "name": forged});
    server.anonymous().json(Method::POST, "/v1/login", &body).await;
    let body = json!({"username": forged, "password": forged});
    let agent = server.anonymous().with(header::USER_AGENT, "forged\tagent");
    agent.json(Method::POST, "/v1/login", &body).await;
    agent.get("/forged?forged=%0aforged").await;
    let named = agent.with(axum::http::HeaderName::from_static("x-request-id"), "forged id");
    named.get("/v1/me").await;
    let log = log.text();
    assert!(log.contains("answered"));
    assert!(!log.contains("forged") && !log.contains('\u{1b}'), "{log}");
    assert!(log.lines().all(|line| line.contains("request{")), "{log}");
}

#[tokio::test]
async fn a_request_is_logged_by_method_route_id_and_status_alone() {
    let log = Log::listen();
    let server = TestServer::with_ada().await;
    let answer = server.ada().await.get("/v1/tokens?limit=7").await;
    let id = answer.header("x-request-id");
    let text = log.text();
    let line = text.lines().find(|line| line.contains(id) && line.contains("answered")).unwrap();
    let (_, span) = line.split_once("request{").unwrap();
    let (span, _) = span.split_once('}').unwrap();
    assert_eq!(span, format!("method=\"GET\" route=\"/v1/tokens\" id=\"{id}\" status=200 duration_ms=0"));
}

/// Reads every route as everybody and finds no digest, hash, serial or epoch.
#[tokio::test]
async fn a17_no_route_shows_a_digest_or_a_hash_to_anyone() {
    let server = TestServer::with_ada().await;
    let root = server.user("root", PASSWORD).await;
    server.authority.set_role(&root.subject, Role::Admin, &By::operator(), server.clock.now()).await.unwrap();
    let key = server.issued(&root, Kind::Key, "* tokens:introspect admin:users").await;

    let query = TokenQuery { limit: 100, ..TokenQuery::default() };
    assert!(!TokenStore::list(&*server.store, &query).await.unwrap().is_empty());
    let hash = AccountStore::account(&*server.store, &root.subject).await.unwrap().unwrap().password;
    let roles = [server.anonymous(), server.ada().await, server.logged_in("root", "default", "x").await, key];
    let mut digests = Vec::new();
    for role in &roles {
        let digest = TokenDigest::of_text(&role.secret);
        digests.push(digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    }
    for role in &roles {
        for route in ROUTES.iter().filter(|route| route.method == Method::GET) {
            let answer = role.get(&concrete(route.path, &role.id)).await;
            let text = answer.text().to_lowercase();
            for digest in &digests {
                assert!(!text.contains(digest));
            }
            assert!(!text.contains(&hash.expose().to_lowercase()) && !text.contains("$argon2"));
            if matches!(route.path, "/openapi.json" | "/docs") {
                continue;
            }
            for word in ["digest", "hash", "secret", "sealed", "epoch", "number", "stamped"] {
                assert!(!text.contains(word), "{word} in {text}");
            }
            assert!(matches!(route.access, Access::Staff(_)) || !text.contains("metadata"), "{text}");
            for actor in roles.iter().filter(|actor| !actor.secret.is_empty()) {
                assert!(!answer.text().contains(&actor.secret));
            }
        }
        let document = counterfoil_http::openapi();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for schema in schemas.values() {
            // A word such as a token's kind has none.
            for field in schema["properties"].as_object().into_iter().flat_map(serde_json::Map::keys) {
                assert!(!["digest", "hash", "number", "epoch"].contains(&field.as_str()), "{field}");
            }
        }
    }
}

/// The text of a token is written to the answer that shows it and handed to the authority; nothing else looks at it.
#[test]
fn r33_no_secret_is_compared_here() {
    let mut open = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    let mut uses = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        let code = source.split("#[cfg(test)]").next().unwrap();
        let code = code.lines().map(str::trim).filter(|line| !line.starts_with("//"));
        uses.extend(code.filter(|line| line.contains(".expose()")).map(str::to_owned));
    }
    assert_eq!(uses.len(), 8, "{uses:#?}");
    let harmless = |line: &String| {
        line.contains("authority().")
            || line.contains("serializer.serialize_str(")
            || line.as_str() == "self.written(secret.expose(), seconds)"
            || line.as_str() == "json::Value::text(secret.expose())"
    };
    assert!(uses.iter().all(harmless), "{uses:#?}");
}

#[tokio::test]
async fn a_document_of_a_problem_has_no_more_fields_than_it_should() {
    let server = TestServer::with_ada().await;
    let known = ["type", "title", "status", "detail", "instance", "field", "limit", "error", "error_description"];
    for answer in through_every_route(&server.token("cf_x"), "hunter2").await {
        if answer.header("content-type") != "application/problem+json" {
            continue;
        }
        let Value::Object(document) = answer.json() else { panic!("no object") };
        assert!(document.keys().all(|field| known.contains(&field.as_str())), "{document:?}");
    }
}
