//! Pages in a browser that keep their token where no script reads it.

use axum::Router;
use axum::http::{HeaderName, Method, header};
use axum::routing::any;
use counterfoil_core::client::Renewal;
use counterfoil_core::store::TokenQuery;
use counterfoil_core::{Kind, Policy, TokenStore};
use counterfoil_http::{Access, Authenticated, Cookies, HttpSettings, Origin, ROUTES, Route};
use serde_json::{Value, json};

use crate::world::{Actor, Answer, BARE, INVALID_REQUEST, INVALID_TOKEN, PASSWORD, TestServer, concrete};

const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const CSRF: HeaderName = HeaderName::from_static("x-csrf-token");

async fn server(cookies: Cookies) -> TestServer {
    let server =
        TestServer::with(HttpSettings { cookies: Some(cookies), ..HttpSettings::default() }, Router::new()).await;
    server.user("ada", PASSWORD).await;
    server
}

/// A browser that shows our own page.
fn browser(server: &TestServer) -> Actor {
    server.anonymous().with(SITE, "same-origin").with(header::ORIGIN, "https://counterfoil.test")
}

async fn log_in(browser: &Actor) -> Answer {
    let body = json!({"username": "ada", "password": PASSWORD, "cookie": true});
    browser.json(Method::POST, "/v1/login", &body).await
}

/// The text in the cookie that an answer sets.
fn text_in(answer: &Answer) -> String {
    let line = answer.header("set-cookie");
    line.strip_prefix("__Host-counterfoil=").unwrap().split(';').next().unwrap().to_owned()
}

fn with_cookie(actor: &Actor, text: &str) -> Actor {
    actor.clone().with(header::COOKIE, format!("theme=dark; __Host-counterfoil={text}"))
}

/// A browser with ada's session, what its cookie holds, and the answer to the login.
async fn session(server: &TestServer) -> (Actor, String, Value) {
    let answer = log_in(&browser(server)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text = text_in(&answer);
    (with_cookie(&browser(server), &text), text, answer.json())
}

async fn live_tokens(server: &TestServer) -> usize {
    let query = TokenQuery {
        limit: 100,
        live_at: Some(counterfoil_core::Clock::now(&*server.clock).wall),
        ..TokenQuery::default()
    };
    TokenStore::list(&*server.store, &query).await.unwrap().len()
}

#[tokio::test]
async fn r25_a_login_for_a_page_puts_the_token_into_a_cookie_and_nowhere_else() {
    let server = server(Cookies::default()).await;
    let answer = log_in(&browser(&server)).await;
    let text = text_in(&answer);
    let line = format!("__Host-counterfoil={text}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=2592000");
    assert_eq!(answer.header("set-cookie"), line);
    assert!(text.starts_with("cf_"));
    let body = answer.json();
    assert!(!answer.text().contains(&text) && body.get("token").is_none(), "{body}");
    assert_eq!(body["user"]["username"], "ada");
    let ada = with_cookie(&browser(&server), &text);
    let me = ada.get("/v1/me").await;
    assert_eq!((me.status, &me.json()["token"]["id"]), (200, &body["id"]));
    assert_eq!(me.json()["csrf_token"], body["csrf_token"]);
    assert_eq!(me.header("set-cookie"), "");

    // A form as a page without scripts sends it.
    let form = browser(&server)
        .form("/v1/login", &format!("username=ada&password={}&cookie=true", "correct+horse+battery+staple"))
        .await;
    assert_eq!(form.status, 200, "{}", form.text());
    assert!(!text_in(&form).is_empty());
    // Who does not ask for a cookie gets none.
    let plain =
        browser(&server).json(Method::POST, "/v1/login", &json!({"username": "ada", "password": PASSWORD})).await;
    assert_eq!((plain.header("set-cookie"), plain.json().get("csrf_token")), ("", None));
    assert!(plain.json()["token"].is_string());
}

#[tokio::test]
async fn r25_without_cookies_in_the_settings_none_is_set_and_none_is_read() {
    let server = TestServer::with_ada().await;
    log_in(&browser(&server)).await.is_about(400, "invalid-value", "cookie");
    let ada = server.ada().await;
    let carried = with_cookie(&browser(&server), &ada.secret);
    carried.get("/v1/me").await.is_problem(401, "token-missing", BARE);
}

#[tokio::test]
async fn r25_services_behind_the_layer_are_held_to_the_same_rules() {
    async fn act(who: Authenticated) -> String {
        format!("{} {:?}", who.csrf_token(), who.place())
    }
    async fn perhaps(who: Option<Authenticated>) -> &'static str {
        if who.is_some() { "somebody" } else { "nobody" }
    }
    let server = server(Cookies::default()).await;
    let app = Router::new().route("/act", any(act)).route("/perhaps", any(perhaps)).layer(server.http.layer());
    let (_, text, login) = session(&server).await;
    let ours = with_cookie(&browser(&server), &text).facing(&app);
    let told = ours.post("/act").await;
    assert_eq!(told.text(), format!("{} Cookie", login["csrf_token"].as_str().unwrap()));
    let theirs = with_cookie(&server.anonymous().with(SITE, "cross-site"), &text).facing(&app);
    theirs.post("/act").await.is_refused(403, "cross-site", "");
    theirs.post("/perhaps").await.is_refused(403, "cross-site", "");
    assert_eq!(theirs.get("/act").await.status, 200, "a link from elsewhere");
}

#[tokio::test]
async fn a77_a_page_of_another_site_changes_nothing_with_the_cookie_of_this_one() {
    let trusted: Origin = "https://login.example.org".parse().unwrap();
    let server = server(Cookies::default().trusting(trusted)).await;
    let (_, text, _) = session(&server).await;
    let before = live_tokens(&server).await;
    let of = |headers: &[(HeaderName, &str)]| {
        let actor = headers.iter().fold(server.anonymous(), |actor, (name, value)| actor.with(name.clone(), value));
        with_cookie(&actor, &text)
    };
    let strangers = [
        of(&[(SITE, "cross-site"), (header::ORIGIN, "https://evil.example")]),
        of(&[(SITE, "same-site"), (header::ORIGIN, "https://shop.counterfoil.test")]),
        of(&[(SITE, "cross-site"), (header::ORIGIN, "null")]),
        of(&[(header::ORIGIN, "https://evil.example")]),
        of(&[(header::ORIGIN, "http://counterfoil.test")]),
        of(&[(header::ORIGIN, "null")]),
        of(&[]),
    ];
    for stranger in &strangers {
        let is_open = |route: &Route| matches!(route.access, Access::Open | Access::OpenOr(_));
        for route in ROUTES.iter().filter(|route| route.method != Method::GET && !is_open(route)) {
            let path = concrete(route.path, "019a9f3c-0000-7000-8000-000000000000");
            for media in ["text/plain", "application/json", "application/x-www-form-urlencoded"] {
                let answer = stranger.typed(route.method.clone(), &path, media, r#"{"name":"x"}"#).await;
                answer.is_problem(403, "cross-site", "");
            }
        }
        let login = json!({"username": "ada", "password": PASSWORD, "cookie": true});
        stranger.json(Method::POST, "/v1/login", &login).await.is_problem(403, "cross-site", "");
        let as_text = stranger.typed(Method::POST, "/v1/login", "text/plain", login.to_string()).await;
        as_text.is_problem(415, "unsupported-media-type", "");
        assert_eq!(as_text.header("set-cookie"), "");
    }
    assert_eq!(live_tokens(&server).await, before);
    let friend = of(&[(SITE, "cross-site"), (header::ORIGIN, "https://login.example.org")]);
    friend.post("/v1/logout").await.is_done();
}

#[tokio::test]
async fn a77_a_page_of_another_site_opens_no_web_socket_with_the_cookie_of_this_one() {
    for cookies in [Cookies::default(), Cookies::default().needing_csrf_token()] {
        let server = server(cookies).await;
        let (_, text, _) = session(&server).await;
        let app = Router::new().route("/socket", any(async |_: Authenticated| "open")).layer(server.http.layer());
        let opening = |headers: &[(HeaderName, &str)]| {
            let page = server.anonymous().with(header::CONNECTION, "Upgrade").with(header::UPGRADE, "websocket");
            let page = headers.iter().fold(page, |page, (name, value)| page.with(name.clone(), value));
            with_cookie(&page, &text).facing(&app)
        };
        for stranger in [
            opening(&[(SITE, "cross-site"), (header::ORIGIN, "https://evil.example")]),
            opening(&[(SITE, "same-site"), (header::ORIGIN, "https://shop.counterfoil.test")]),
            opening(&[(header::ORIGIN, "https://evil.example")]),
            opening(&[]),
        ] {
            stranger.get("/socket").await.is_refused(403, "cross-site", "");
        }
        // A page cannot give a handshake a header, so that no token of the session is wanted with it.
        for ours in [
            opening(&[(SITE, "same-origin"), (header::ORIGIN, "https://counterfoil.test")]),
            opening(&[(header::ORIGIN, "https://counterfoil.test")]),
        ] {
            assert_eq!(ours.get("/socket").await.text(), "open");
        }
    }
}

#[tokio::test]
async fn a77_a_token_in_a_header_needs_no_page_of_ours() {
    let server = server(Cookies::default()).await;
    let ada = server.ada().await.with(SITE, "cross-site").with(header::ORIGIN, "https://evil.example");
    assert_eq!(ada.post("/v1/renew").await.status, 200, "no page has it unless it was given");
}

#[tokio::test]
async fn a78_no_get_and_no_head_logs_anybody_out() {
    let server = server(Cookies::default()).await;
    let (ada, text, _) = session(&server).await;
    let image = with_cookie(&server.anonymous().with(SITE, "cross-site"), &text);
    for path in ["/v1/logout", "/v1/logout-all", "/v1/tokens?keep=current", "/v1/rotate", "/v1/renew"] {
        for actor in [&ada, &image] {
            for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
                let answer = actor.send(method, path, axum::body::Body::empty()).await;
                assert_eq!(answer.header("set-cookie"), "");
            }
        }
    }
    assert_eq!(ada.get("/v1/me").await.status, 200);
}

#[tokio::test]
async fn a21_a_login_ends_the_session_that_the_browser_had_and_takes_nothing_of_it() {
    let server = server(Cookies::default()).await;
    let (mallory, planted, first) = session(&server).await;
    let victim = with_cookie(&browser(&server), &planted);
    let answer = log_in(&victim).await;
    let text = text_in(&answer);
    assert_ne!(text, planted);
    assert_ne!(answer.json()["id"], first["id"]);
    assert_ne!(answer.json()["csrf_token"], first["csrf_token"]);
    mallory.get("/v1/me").await.is_invalid_token();
    assert_eq!(with_cookie(&browser(&server), &text).get("/v1/me").await.status, 200);

    // A refused login ends nothing, and a text that is none of ours stands in nobody's way.
    let again = with_cookie(&browser(&server), &text);
    let wrong = json!({"username": "ada", "password": "wrong horse", "cookie": true});
    assert_eq!(again.json(Method::POST, "/v1/login", &wrong).await.status, 401);
    assert_eq!(again.get("/v1/me").await.status, 200);
    for odd in ["cf_chosen", "\"quoted\"", "", "a b"] {
        let odd = with_cookie(&browser(&server), odd);
        assert_eq!(log_in(&odd).await.status, 200);
    }
    // An API key that somebody put there is no session.
    let bob = server.user("bob", PASSWORD).await;
    let key = server.issued(&bob, Kind::Key, "files:read").await;
    assert_eq!(log_in(&with_cookie(&browser(&server), &key.secret)).await.status, 200);
    assert_eq!(key.get("/v1/me").await.status, 200);
}

#[tokio::test]
async fn a21_a_login_that_cannot_end_the_old_session_has_failed_and_leaves_no_token_behind() {
    let server = server(Cookies::default()).await;
    let (ada, planted, _) = session(&server).await;
    let before = live_tokens(&server).await;
    server.outages.find.store(true, std::sync::atomic::Ordering::SeqCst);
    let answer = log_in(&with_cookie(&browser(&server), &planted)).await;
    answer.is_problem(503, "unavailable", "");
    assert_eq!(answer.header("set-cookie"), "");
    server.outages.find.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(live_tokens(&server).await, before);
    assert_eq!(ada.get("/v1/me").await.status, 200);
}

#[tokio::test]
async fn a22_what_a_policy_refuses_no_place_of_a_token_and_no_way_of_logging_in_lets_through() {
    let settings = HttpSettings { cookies: Some(Cookies::default()), api_key_header: true, ..HttpSettings::default() };
    let server = TestServer::with(settings, Router::new()).await;
    let ada = server.user("ada", PASSWORD).await;
    let app = Router::new().route("/in", any(async |_: Authenticated| "in")).layer(server.http.layer());
    let order = counterfoil_core::authority::ClientOrder {
        allow_login: false,
        ..counterfoil_core::authority::ClientOrder::named("closed".parse().unwrap())
    };
    server.registered(order).await;
    for cookie in [true, false] {
        let body = json!({"username": "ada", "password": PASSWORD, "client": "closed", "cookie": cookie});
        let answer = browser(&server).json(Method::POST, "/v1/login", &body).await;
        answer.is_problem(403, "login-not-allowed", "");
        assert_eq!(answer.header("set-cookie"), "");
    }
    let (_, text, _) = session(&server).await;
    let by_operator = counterfoil_core::By::operator();
    let now = counterfoil_core::Clock::now(&*server.clock);
    server.authority.disable_user(&ada.subject, &by_operator, now).await.unwrap();
    let places = [
        server.token(&text),
        server.anonymous().with(header::AUTHORIZATION, format!("Token {text}")),
        server.anonymous().with(HeaderName::from_static("x-api-key"), &text),
        with_cookie(&browser(&server), &text),
    ];
    for actor in places {
        actor.get("/v1/me").await.is_invalid_token();
        actor.facing(&app).get("/in").await.is_refused(401, "invalid-token", INVALID_TOKEN);
    }
    for cookie in [true, false] {
        let body = json!({"username": "ada", "password": PASSWORD, "cookie": cookie});
        let answer = browser(&server).json(Method::POST, "/v1/login", &body).await;
        answer.is_problem(401, "invalid-credentials", BARE);
    }
}

#[tokio::test]
async fn a33_a_cookie_and_a_header_or_two_cookies_are_one_token_too_many() {
    let settings = HttpSettings { cookies: Some(Cookies::default()), api_key_header: true, ..HttpSettings::default() };
    let server = TestServer::with(settings, Router::new()).await;
    server.user("ada", PASSWORD).await;
    let (ada, text, _) = session(&server).await;
    let bearer = ada.clone().with(header::AUTHORIZATION, format!("Bearer {text}"));
    let key = ada.clone().with(HeaderName::from_static("x-api-key"), &text);
    let all = bearer.clone().with(HeaderName::from_static("x-api-key"), &text);
    let twice = with_cookie(&ada, &text);
    let in_one = browser(&server).with(header::COOKIE, format!("__Host-counterfoil={text}; __Host-counterfoil={text}"));
    for actor in [bearer, key, all, twice, in_one] {
        actor.get("/v1/me").await.is_problem(400, "invalid-request", INVALID_REQUEST);
    }
    // Other cookies are nobody's business, however they look.
    let others = format!(
        "a=1; =; ;;x; counterfoil=cf_x; __host-counterfoil=cf_x; __Host-counterfoil2=cf_x; __Host-counterfoil={text}"
    );
    let odd = browser(&server).with(header::COOKIE, others).with(header::COOKIE, b"bytes=\xff\xfe");
    assert_eq!(odd.get("/v1/me").await.status, 200);
    let none = browser(&server).with(header::COOKIE, "counterfoil=cf_x; theme=dark");
    none.get("/v1/me").await.is_problem(401, "token-missing", BARE);
}

#[tokio::test]
async fn a35_a_cookie_holds_a_token_and_nothing_else() {
    let server = server(Cookies::default()).await;
    let (_, text, _) = session(&server).await;
    for value in [format!("\"{text}\""), format!("{text} x"), String::new(), format!("{text},x"), "%63f".to_owned()] {
        let actor = with_cookie(&browser(&server), &value);
        actor.get("/v1/me").await.is_problem(400, "invalid-request", INVALID_REQUEST);
    }
    let bare = browser(&server).with(header::COOKIE, "__Host-counterfoil");
    bare.get("/v1/me").await.is_problem(400, "invalid-request", INVALID_REQUEST);
    with_cookie(&browser(&server), "cf_x").get("/v1/me").await.is_invalid_token();
}

#[tokio::test]
async fn r25_logging_out_has_the_browser_forget_the_token_even_a_dead_one() {
    let gone = "__Host-counterfoil=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0";
    let server = server(Cookies::default()).await;
    let (ada, text, _) = session(&server).await;
    let out = ada.post("/v1/logout").await;
    out.is_done();
    assert_eq!(out.header("set-cookie"), gone);
    ada.get("/v1/me").await.is_invalid_token();
    let again = ada.post("/v1/logout").await;
    again.is_done();
    assert_eq!(again.header("set-cookie"), gone);
    let stranger = with_cookie(&server.anonymous().with(SITE, "cross-site"), &text);
    assert_eq!(stranger.post("/v1/logout").await.header("set-cookie"), "");
    server.token(&text).post("/v1/logout").await.is_invalid_token();

    let (ada, _, _) = session(&server).await;
    let out = ada.post("/v1/logout-all").await;
    assert_eq!((out.status, out.header("set-cookie")), (204, gone));
    // Who has a header has no cookie to lose.
    assert_eq!(server.ada().await.post("/v1/logout").await.header("set-cookie"), "");

    let (ada, _, _) = session(&server).await;
    server.outages.store.store(true, std::sync::atomic::Ordering::SeqCst);
    let doubtful = ada.post("/v1/logout").await;
    doubtful.is_problem(503, "unavailable", "");
    assert_eq!(doubtful.header("set-cookie"), "", "it may still live");
}

#[tokio::test]
async fn r25_renewing_and_rotating_keep_the_cookie_up_to_date() {
    let server = server(Cookies::default()).await;
    server.client("web", Policy { renewal: Renewal::OnRequest, ..Policy::default() }).await;
    let (ada, text, _) = session(&server).await;
    server.wait(60_000);
    let renewed = ada.post("/v1/renew").await;
    assert_eq!((renewed.status, text_in(&renewed)), (200, text.clone()));
    assert!(renewed.header("set-cookie").ends_with("Max-Age=2592000"), "{}", renewed.header("set-cookie"));
    let rotated = ada.post("/v1/rotate").await;
    let fresh = text_in(&rotated);
    assert_ne!(fresh, text);
    assert!(rotated.json().get("token").is_none() && !rotated.text().contains(&fresh));
    assert_eq!(with_cookie(&browser(&server), &fresh).get("/v1/me").await.status, 200);
    ada.get("/v1/me").await.is_invalid_token();
}

#[tokio::test]
async fn r25_renewing_with_a_secret_that_was_given_up_leaves_the_new_one_in_the_cookie() {
    let server = server(Cookies::default()).await;
    let (ada, old, _) = session(&server).await;
    let new = text_in(&ada.post("/v1/rotate").await);
    assert_ne!(new, old);
    server.wait(10_000);
    // From another page of the same browser, sent before the rotation was answered.
    let late = ada.post("/v1/renew").await;
    assert_eq!((late.status, late.header("set-cookie")), (200, ""), "{}", late.text());
    assert_eq!(late.json()["expires_at"], "2026-12-20T11:00:10.000Z");
    server.wait(30_000);
    let ada = with_cookie(&browser(&server), &new);
    for _ in ["for the first time", "and from then on"] {
        let renewed = ada.post("/v1/renew").await;
        assert_eq!((renewed.status, text_in(&renewed)), (200, new.clone()));
    }
}

#[tokio::test]
async fn r23_a_page_that_shows_the_token_of_its_session_is_counted_once() {
    let server = server(Cookies::default().needing_csrf_token()).await;
    server.client("slow", Policy { throttle: "2/m".parse().ok(), ..Policy::default() }).await;
    let body = json!({"username": "ada", "password": PASSWORD, "client": "slow", "cookie": true});
    let login = browser(&server).json(Method::POST, "/v1/login", &body).await;
    let csrf = login.json()["csrf_token"].as_str().unwrap().to_owned();
    let page = |answer: &Answer| with_cookie(&browser(&server), &text_in(answer)).with(CSRF, &csrf);
    let renewed = page(&login).post("/v1/renew").await;
    assert_eq!(renewed.status, 200, "{}", renewed.text());
    let rotated = page(&renewed).post("/v1/rotate").await;
    assert_eq!(rotated.status, 200, "{}", rotated.text());
    assert_eq!(page(&rotated).get("/v1/me").await.status, 429);
}

#[tokio::test]
async fn r25_the_token_of_a_session_is_wanted_where_that_is_said_and_right_wherever_it_is_sent() {
    let strict = server(Cookies::default().needing_csrf_token()).await;
    let app = Router::new().route("/act", any(async |_: Authenticated| "done")).layer(strict.http.layer());
    let (ada, _, login) = session(&strict).await;
    let (_, _, other) = session(&strict).await;
    let csrf = login["csrf_token"].as_str().unwrap();
    let others = other["csrf_token"].as_str().unwrap();
    assert_ne!(csrf, others);
    for wrong in [None, Some(others), Some(""), Some("0000000000000000"), Some(&csrf[..15])] {
        let ada = wrong.map_or(ada.clone(), |wrong| ada.clone().with(CSRF, wrong));
        for path in ["/v1/logout-all", "/v1/renew", "/v1/rotate"] {
            ada.post(path).await.is_problem(403, "cross-site", "");
        }
        ada.clone().facing(&app).post("/act").await.is_refused(403, "cross-site", "");
        assert_eq!(ada.clone().facing(&app).get("/act").await.text(), "done");
    }
    let twice = ada.clone().with(CSRF, csrf).with(CSRF, csrf);
    twice.post("/v1/renew").await.is_problem(403, "cross-site", "");
    let right = ada.clone().with(CSRF, csrf);
    assert_eq!(right.clone().facing(&app).post("/act").await.text(), "done");
    assert_eq!(right.post("/v1/renew").await.status, 200);
    assert_eq!(strict.ada().await.facing(&app).post("/act").await.text(), "done", "a header needs none");
    right.post("/v1/logout").await.is_done();

    let server = server(Cookies::default()).await;
    let (ada, _, login) = session(&server).await;
    ada.clone().with(CSRF, "wrong").post("/v1/renew").await.is_problem(403, "cross-site", "");
    let right = ada.clone().with(CSRF, login["csrf_token"].as_str().unwrap());
    assert_eq!(right.post("/v1/renew").await.status, 200);
    ada.post("/v1/logout").await.is_done();
}

#[tokio::test]
async fn a43_no_cookie_goes_along_to_other_origins_whatever_is_allowed() {
    let origin = "https://app.example.org";
    let settings = HttpSettings {
        cookies: Some(Cookies::default().trusting(origin.parse().unwrap())),
        cors_origins: vec![origin.parse().unwrap()],
        ..HttpSettings::default()
    };
    let server = TestServer::with(settings, Router::new()).await;
    server.user("ada", PASSWORD).await;
    let (_, text, _) = session(&server).await;
    let page = with_cookie(&server.anonymous().with(SITE, "cross-site").with(header::ORIGIN, origin), &text);
    let preflight = page
        .clone()
        .with(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
        .send(Method::OPTIONS, "/v1/logout", axum::body::Body::empty())
        .await;
    for answer in [preflight, page.get("/v1/me").await, page.post("/v1/renew").await] {
        assert_eq!(answer.header("access-control-allow-origin"), origin);
        assert_eq!(answer.header("access-control-allow-credentials"), "");
    }
    for origin in ["null", "https://evil.example"] {
        let page = with_cookie(&server.anonymous().with(header::ORIGIN, origin), &text);
        page.post("/v1/logout").await.is_problem(403, "cross-site", "");
        assert_eq!(page.get("/v1/me").await.header("access-control-allow-origin"), "");
    }
}
