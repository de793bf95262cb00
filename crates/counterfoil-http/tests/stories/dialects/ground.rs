//! What all dialects have in common, as a client sees it.

use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::{Method, StatusCode, header};
use axum::routing::get;
use counterfoil_core::authority::ClientOrder;
use counterfoil_core::{By, Client, ClientName, Clock, Policy};
use counterfoil_http::DialectName;
use serde_json::json;

use super::site::Site;
use crate::late::late;
use crate::world::Answer;

async fn authtoken() -> Site {
    Site::of_john(DialectName::Authtoken, json!({})).await
}

const LOGIN: &str = "/api-token-auth/";

#[track_caller]
fn says(answer: &Answer, status: u16, words: &str) {
    assert_eq!((answer.status, answer.text()), (status, words));
}

/// Each asked of Django REST framework 3.18.3.
#[tokio::test]
async fn a_hosts_view_answers_in_the_form_that_is_wanted() {
    let site = authtoken().await;
    let john = site.john(LOGIN).await;
    let allow = "GET, POST, HEAD, OPTIONS";
    let plain = john.get("/me/").await;
    says(&plain, 200, r#"{"username":"john"}"#);
    assert_eq!((plain.header("allow"), plain.header("vary")), (allow, "Accept"));
    let indented = john.clone().with(header::ACCEPT, "application/json; indent=4").get("/me/").await;
    says(&indented, 200, "{\n    \"username\": \"john\"\n}");
    for page in [john.clone().with(header::ACCEPT, "text/html").get("/me/").await, john.get("/me/?format=api").await] {
        assert_eq!(page.status, 200);
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        assert_eq!((page.header("allow"), page.header("vary")), (allow, "Accept, Cookie"));
        assert!(page.text().contains("&quot;username&quot;: &quot;john&quot;"), "{}", page.text());
    }
    let page = site.stranger().with(header::ACCEPT, "text/html").get("/me/").await;
    assert_eq!((page.status, page.header("www-authenticate")), (401, "Token"));
    let head = john.send(Method::HEAD, "/me/", Body::empty()).await;
    assert_eq!((head.status, head.header("allow"), head.text()), (200, allow, ""));
    says(&john.get("/me/?format=xml").await, 404, r#"{"detail":"Not found."}"#);
    let unmet = site.stranger().with(header::ACCEPT, "image/png").get("/me/").await;
    says(&unmet, 406, r#"{"detail":"Could not satisfy the request Accept header."}"#);
    for method in ["DELETE", "TRACE", "FOO"] {
        let answer = john.send(method.parse().unwrap(), "/me/", Body::empty()).await;
        says(&answer, 405, &format!("{{\"detail\":\"Method \\\"{method}\\\" not allowed.\"}}"));
        assert_eq!(site.stranger().send(method.parse().unwrap(), "/me/", Body::empty()).await.status, 401);
    }
    let options = john.send(Method::OPTIONS, "/me/", Body::empty()).await;
    assert_eq!(options.json()["name"], "Me");
    let nothing = john.delete("/gone/").await;
    assert_eq!((nothing.status, nothing.header("content-type")), (204, ""));
    let shown = john.with(header::ACCEPT, "text/html").delete("/gone/").await;
    assert_eq!((shown.status, shown.header("content-type")), (200, "text/html; charset=utf-8"));
}

#[tokio::test]
async fn an_open_view_refuses_a_bad_token_all_the_same() {
    let site = authtoken().await;
    says(&site.stranger().get("/open/").await, 200, r#"{"somebody":false}"#);
    says(&site.john(LOGIN).await.get("/open/").await, 200, r#"{"somebody":true}"#);
    let bad = site.stranger().with(header::AUTHORIZATION, "Token nonsense").get("/open/").await;
    says(&bad, 401, r#"{"detail":"Invalid token."}"#);
}

#[tokio::test]
async fn addresses_that_there_are_not_are_djangos() {
    let site = authtoken().await;
    let answer = site.stranger().send(Method::POST, "/api-token-auth?a=b", Body::from("x")).await;
    says(&answer, 301, "");
    assert_eq!(answer.header("location"), "/api-token-auth/?a=b");
    assert_eq!((answer.header("allow"), answer.header("x-frame-options")), ("", ""));
    assert_eq!(site.stranger().get("/me").await.header("location"), "/me/");
    for path in ["/nowhere", "/api-token-auth/x"] {
        let answer = site.stranger().get(path).await;
        assert_eq!((answer.status, answer.header("content-type")), (404, "text/html; charset=utf-8"));
        assert_eq!((answer.body.len(), answer.header("allow"), answer.header("vary")), (179, "", ""), "{path}");
    }
}

/// Nobody with a proxy, a scanner or a second parser gets in by it.
#[tokio::test]
async fn a02_a_token_of_a_dialect_has_one_spelling() {
    let site = authtoken().await;
    let answer = site.stranger().form(LOGIN, "username=john&password=foobar123").await;
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    let me = async |text: String| {
        site.stranger().with(header::AUTHORIZATION, format!("Token {text}")).get("/me/").await.status
    };
    assert_eq!(me(token.clone()).await, 200);
    let last = token.len() - 1;
    for other in [
        token.to_uppercase(),
        format!("{token}="),
        format!("{token}!"),
        format!("0x{token}"),
        format!("%{:02x}{}", token.as_bytes()[0], &token[1..]),
        format!("\"{token}\""),
        token[..last].to_owned(),
        format!("{token}\u{200b}"),
    ] {
        assert_eq!(me(other.clone()).await, 401, "{other}");
    }
    assert_eq!(site.stranger().get(&format!("/me/?token={token}")).await.status, 401);
    assert_eq!(site.stranger().form("/me/", &format!("token={token}")).await.status, 401);
}

#[tokio::test]
async fn a60_no_password_is_cut_or_normalised_at_a_dialect() {
    let long = "p".repeat(72);
    let setup = json!({"users": [
        {"username": "john", "password": format!("{long}x")},
        {"username": "zero", "password": "a\u{0}b-c-d-e"},
        {"username": "Ünïcode", "password": "pässwörd ☃"},
    ]});
    let site = Site::with(DialectName::Authtoken, LOGIN, &json!({}), &setup).await;
    let login = async |username: &str, password: &str| {
        site.stranger().tell(LOGIN, json!({"username": username, "password": password})).await
    };
    assert_eq!(login("john", &format!("{long}x")).await.status, 200);
    for wrong in [&long, &format!("{long}y"), &format!("{long}x ")] {
        says(&login("john", wrong).await, 400, REJECTED);
    }
    says(&login("zero", "a\u{0}b-c-d-e").await, 400, r#"{"password":["Null characters are not allowed."]}"#);
    assert_eq!(login("Ünïcode", "pässwörd ☃").await.status, 200);
    says(&login("Ünïcode", "pa\u{308}sswo\u{308}rd ☃").await, 400, REJECTED);
    says(&login("john", &"p".repeat(5_000)).await, 400, REJECTED);
}

const REJECTED: &str = r#"{"non_field_errors":["Unable to log in with provided credentials."]}"#;

#[tokio::test]
async fn a62_a_name_is_compared_character_by_character_at_a_dialect() {
    let setup = json!({"users": [{"username": "john", "password": "foobar123"}, {"username": "Ünïcode", "password": "foobar123"}]});
    let site = Site::with(DialectName::Authtoken, LOGIN, &json!({}), &setup).await;
    let login = async |username: &str| {
        site.stranger().tell(LOGIN, json!({"username": username, "password": "foobar123"})).await
    };
    for right in ["john", " john ", "Ünïcode"] {
        assert_eq!(login(right).await.status, 200, "{right}");
    }
    for wrong in ["John", "JOHN", "jоhn", "john\u{200b}", "U\u{308}ni\u{308}code", "ｊｏｈｎ", "john@example.com"]
    {
        says(&login(wrong).await, 400, REJECTED);
    }
    says(&login("john\u{0}").await, 400, r#"{"username":["Null characters are not allowed."]}"#);
}

#[tokio::test]
async fn a_token_that_dies_while_its_body_is_sent_logs_nobody_in() {
    let site = authtoken().await;
    let john = site.john(LOGIN).await;
    let (authority, clock) = (site.server.authority.clone(), site.server.clock.clone());
    let body = late(async move {
        let subject = authority.user("john").await.unwrap().subject;
        authority.disable_user(&subject, &By::operator(), clock.now()).await.unwrap();
    });
    let answer = john.typed(Method::POST, LOGIN, "application/json", body).await;
    says(&answer, 401, r#"{"detail":"User inactive or deleted."}"#);
}

#[tokio::test]
async fn what_the_packages_do_not_know_is_told_in_their_form() {
    let site = authtoken().await;
    let john = site.john(LOGIN).await;
    let large = site.stranger().typed(Method::POST, LOGIN, "application/json", "x".repeat(70_000)).await;
    says(&large, 413, r#"{"detail":"A body has at most 65536 bytes."}"#);
    for _ in 0..5 {
        assert_eq!(site.stranger().form(LOGIN, "username=john&password=wrong").await.status, 400);
    }
    let waiting = site.stranger().form(LOGIN, "username=john&password=foobar123").await;
    assert_eq!(waiting.status, 429, "{}", waiting.text());
    assert!(waiting.text().starts_with("{\"detail\":\""), "{}", waiting.text());
    assert_ne!(waiting.header("retry-after"), "");
    says(&john.post("/broken/").await, 409, r#"{"detail":"Not now."}"#);
    site.server.outages.store.store(true, Ordering::SeqCst);
    let away = john.get("/me/").await;
    assert_eq!((away.status, away.header("content-type")), (503, "application/json"), "{}", away.text());
    assert_eq!(away.header("allow"), "GET, POST, HEAD, OPTIONS");
}

#[tokio::test]
async fn no_answer_of_a_dialect_may_be_kept_and_none_names_a_secret() {
    let site = authtoken().await;
    let john = site.john(LOGIN).await;
    for answer in [
        john.get("/me/").await,
        site.stranger().get("/me/").await,
        site.stranger().form(LOGIN, "username=john&password=hunter2-hunter2").await,
        site.stranger().form(LOGIN, "username=&password=hunter2-hunter2").await,
        site.stranger().typed(Method::POST, LOGIN, "application/json", "{\"password\":\"hunter2-hunter2").await,
        site.stranger().get("/nowhere").await,
    ] {
        assert_eq!(answer.header("cache-control"), "no-store", "{}", answer.text());
        assert!(!answer.text().contains("hunter2"), "{}", answer.text());
        assert_ne!(answer.status, StatusCode::INTERNAL_SERVER_ERROR.as_u16());
    }
}

#[tokio::test]
async fn a_hosts_view_asks_for_clients_and_counts_as_the_framework_does() {
    let site = authtoken().await;
    let client = site.mounted.dialect().client().unwrap().name.clone();
    let another: ClientName = "another".parse().unwrap();
    let get = || get(async || "seen");
    let view = |name: &str| site.mounted.view(name, &[Method::GET]);
    let app = site
        .app
        .clone()
        .route("/only/", view("Only").only_clients([client.clone()]).around(get()))
        .route("/only-another/", view("Only").only_clients([another.clone()]).around(get()))
        .route("/not/", view("Not").except_clients([client.clone()]).around(get()))
        .route("/not-another/", view("Not").except_clients([another]).around(get()))
        .route("/throttled/", view("Throttled").throttled().description("Slowly.").around(get()))
        .route("/also-throttled/", view("Throttled").throttled().open().around(get()));
    let (john, stranger) = (site.john(LOGIN).await.facing(&app), site.stranger().facing(&app));
    let forbidden = r#"{"detail":"You do not have permission to perform this action."}"#;
    for path in ["/only/", "/only-another/", "/not/", "/not-another/"] {
        let answer = stranger.get(path).await;
        says(&answer, 401, r#"{"detail":"Authentication credentials were not provided."}"#);
        assert_eq!(answer.header("www-authenticate"), "Token");
    }
    says(&john.get("/only/").await, 200, "seen");
    says(&john.get("/not-another/").await, 200, "seen");
    for path in ["/only-another/", "/not/"] {
        let answer = john.get(path).await;
        says(&answer, 403, forbidden);
        assert_eq!((answer.header("www-authenticate"), answer.header("vary")), ("", "Accept"));
        assert_eq!(john.post(path).await.status, 403, "who may is asked before with which method");
    }
    says(&john.get("/throttled/").await, 200, "seen");
    let throttle = Some("3/m".parse().unwrap());
    let change = |client: &Client| {
        let policy = Policy { throttle, ..client.policy.clone() };
        Ok(ClientOrder { policy, ..ClientOrder::named(client.name.clone()) })
    };
    let now = site.server.clock.now();
    site.server.authority.update_client(&client, change, &By::operator(), now).await.unwrap();
    site.mounted.prepare().await.unwrap();
    for path in ["/throttled/", "/also-throttled/", "/throttled/"] {
        says(&john.get(path).await, 200, "seen");
        says(&john.get("/me/").await, 200, r#"{"username":"john"}"#);
    }
    let too_many = john.get("/also-throttled/").await;
    says(&too_many, 429, r#"{"detail":"Request was throttled. Expected available in 60 seconds."}"#);
    assert_eq!(too_many.header("retry-after"), "60");
    assert_eq!(john.post("/throttled/").await.status, 429, "it is counted before the method is looked at");
    site.server.wait(59_000);
    let too_many = john.get("/throttled/").await;
    says(&too_many, 429, r#"{"detail":"Request was throttled. Expected available in 1 second."}"#);
    site.server.wait(1_000);
    says(&john.get("/throttled/").await, 200, "seen");
    says(&stranger.get("/also-throttled/").await, 200, "seen");
    let options = john.send(Method::OPTIONS, "/throttled/", Body::empty()).await;
    assert_eq!(options.json()["description"], "Slowly.");
}

#[tokio::test]
async fn lifetimes_and_caps_are_what_the_settings_say() {
    let settings = json!({"reissue": "new", "ttl": "1h", "cap": 2, "at_cap": "evict_oldest"});
    let site = Site::of_john(DialectName::Authtoken, settings).await;
    let (first, second, third) = (site.john(LOGIN).await, site.john(LOGIN).await, site.john(LOGIN).await);
    says(&first.get("/me/").await, 401, r#"{"detail":"Invalid token."}"#);
    assert_eq!((second.get("/me/").await.status, third.get("/me/").await.status), (200, 200));
    site.server.wait(3_599_999);
    assert_eq!(third.get("/me/").await.status, 200);
    site.server.wait(1);
    says(&third.get("/me/").await, 401, r#"{"detail":"Invalid token."}"#);
    let site = Site::of_john(DialectName::Authtoken, json!({"reissue": "new", "cap": 1})).await;
    let john = site.john(LOGIN).await;
    let beyond = site.stranger().form(LOGIN, "username=john&password=foobar123").await;
    assert_eq!((beyond.status, john.get("/me/").await.status), (403, 200), "{}", beyond.text());
}

#[tokio::test]
async fn a_dialect_is_prepared_as_often_as_one_likes_and_does_without_a_ring() {
    let site = authtoken().await;
    site.mounted.prepare().await.unwrap();
    let name = &site.mounted.dialect().client().unwrap().name;
    let client = site.server.authority.client(name).await.unwrap();
    assert_eq!(client.policy, site.mounted.dialect().client().unwrap().policy);
    let (settings, now) = (site.server.authority.settings(), site.server.clock.now());
    site.server.authority.delete_client(name, &By::operator(), now).await.unwrap();
    site.server.authority.adopt(settings, None, now).await.unwrap();
    let nobody = site.stranger().form(LOGIN, "username=john&password=foobar123").await;
    assert_eq!(nobody.status, 500, "the operator has not prepared it");
    site.mounted.prepare().await.unwrap();
    let (one, other) = (site.john(LOGIN).await, site.john(LOGIN).await);
    assert_eq!((one.get("/me/").await.status, other.get("/me/").await.status), (200, 200));
}
