//! Accounts in the hands of their owners, over HTTP.

use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::{HeaderName, Method, header};
use counterfoil_core::account::Role;
use counterfoil_core::account_rules::{EmailRule, Registering, Unconfirmed};
use counterfoil_core::link::Purpose;
use counterfoil_core::{AccountStore, By, Clock, Kind};
use counterfoil_http::{Access, Cookies, Group, HttpSettings, ROUTES};
use serde_json::{Value, json};

use crate::post::{BASE, NEW_PASSWORD};
use crate::world::{Actor, Answer, BARE, PASSWORD, TestServer, concrete};

const ADDRESS: &str = "ada@example.org";

/// A deployment where nobody has an account before their address is proved.
async fn strict() -> TestServer {
    let server = TestServer::with(HttpSettings::default(), axum::Router::new()).await;
    server
        .rule(|rules| {
            rules.email = EmailRule::Required;
            rules.unconfirmed = Unconfirmed::Waits;
        })
        .await;
    server
}

fn ada() -> Value {
    json!({"username": "ada", "password": NEW_PASSWORD, "email": ADDRESS})
}

/// The same with another value for a field, or with a field more.
fn with(mut body: Value, field: &str, value: impl Into<Value>) -> Value {
    body[field] = value.into();
    body
}

/// What the routes of [`Group::Accounts`] take.
pub(crate) fn right_body(path: &str) -> Value {
    match path {
        "/v1/register" => json!({"username": "bob", "password": NEW_PASSWORD}),
        "/v1/email/confirm" => json!({"token": LINK, "password": PASSWORD}),
        "/v1/email/undo" => json!({"token": LINK}),
        "/v1/email/resend" | "/v1/password/forgot" => json!({"email": ADDRESS}),
        "/v1/email/change" => json!({"email": "x@example.org", "password": PASSWORD}),
        "/v1/password/change" => json!({"current_password": PASSWORD, "new_password": NEW_PASSWORD}),
        "/v1/password/reset" => json!({"token": LINK, "new_password": NEW_PASSWORD}),
        "/v1/me/export" | "/v1/me/delete" => json!({"password": PASSWORD}),
        path => panic!("{path}"),
    }
}

/// All of an answer but the name of the request.
fn whole(answer: &Answer) -> (u16, String, Vec<(String, String)>) {
    let headers = answer.headers.iter().filter(|(name, _)| *name != "x-request-id");
    let headers = headers.map(|(name, value)| (name.to_string(), format!("{value:?}"))).collect();
    (answer.status, answer.text().to_owned(), headers)
}

async fn login(server: &TestServer, username: &str, password: &str) -> u16 {
    let body = json!({"username": username, "password": password});
    server.anonymous().tell("/v1/login", body).await.status
}

async fn is_alive(actor: &Actor) -> bool {
    match actor.get("/v1/me").await.status {
        200 => true,
        401 => false,
        status => panic!("{status}"),
    }
}

#[tokio::test]
async fn whoever_gives_a_name_and_a_password_has_an_account_at_once() {
    let server = TestServer::with(HttpSettings::default(), axum::Router::new()).await;
    let body = json!({"username": "ada", "password": NEW_PASSWORD, "first_name": "Ada", "locale": "de"});
    let answer = server.anonymous().tell("/v1/register", body).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(answer.header("cache-control"), "no-store");
    let account = server.authority.user("ada").await.unwrap();
    let user = &answer.json()["user"];
    assert_eq!((&user["id"], &user["username"]), (&json!(account.subject), &json!("ada")));
    assert_eq!((account.first_name.as_str(), account.locale.as_deref()), ("Ada", Some("de")));
    assert_eq!((account.role, account.email_confirmed_at), (Role::User, None));
    assert_eq!(login(&server, "ada", NEW_PASSWORD).await, 200);
    assert!(server.post().await.is_empty());
    server.anonymous().tell("/v1/register", with(ada(), "username", "ADA")).await.is_about(
        409,
        "name-taken",
        "username",
    );
}

#[tokio::test]
async fn where_an_address_has_to_be_proved_the_account_comes_with_the_proof() {
    let server = strict().await;
    let stranger = server.anonymous().with(header::ACCEPT_LANGUAGE, "de-CH, en;q=0.5");
    let answer = stranger.tell("/v1/register", ada()).await;
    assert_eq!((answer.status, answer.json()), (202, json!({"status": "proof-asked"})));
    assert_eq!(login(&server, "ada", NEW_PASSWORD).await, 401);
    let mail = server.mail("confirm_registration").await;
    assert_eq!((mail.to.as_str(), mail.languages.as_str()), (ADDRESS, "de-ch, en"));
    let body = json!({"token": mail.secret(), "password": NEW_PASSWORD});
    let answer = server.anonymous().tell("/v1/email/confirm", body).await;
    let told = answer.json();
    assert_eq!((answer.status, &told["user"]["username"], &told["next"]), (200, &json!("ada"), &Value::Null));
    assert_eq!(login(&server, ADDRESS, NEW_PASSWORD).await, 200);
}

#[tokio::test]
async fn a51_an_address_that_has_an_account_is_answered_like_one_that_has_none() {
    let server = strict().await;
    let other = server.user("lovelace", PASSWORD).await;
    server.addressed(&other, ADDRESS, true).await;
    let stranger = server.anonymous();
    let known = stranger.tell("/v1/register", ada()).await;
    let unknown = stranger.tell("/v1/register", with(ada(), "email", "bob@example.org")).await;
    assert_eq!(whole(&known), whole(&unknown));
    let kinds: Vec<_> = server.post().await.into_iter().map(|mail| (mail.kind, mail.to)).collect();
    let expected = [("already_registered", ADDRESS), ("confirm_registration", "bob@example.org")];
    assert_eq!(kinds, expected.map(|(kind, to)| (kind, to.to_owned())));
    // Where the account is there at once, the answer does not tell either.
    server.rule(|rules| rules.unconfirmed = Unconfirmed::LogsIn).await;
    let shape = async |name: &str, email: &str| {
        let body = json!({"username": name, "password": NEW_PASSWORD, "email": email});
        let mut answer = server.anonymous().at("192.0.2.8").tell("/v1/register", body).await;
        let mut told = answer.json();
        told["user"]["id"] = Value::Null;
        answer.body = told.to_string().replace(email, "-").replace(name, "-").into_bytes();
        answer.headers.remove("content-length");
        whole(&answer)
    };
    assert_eq!(shape("grace", ADDRESS).await, shape("edith", "edith@example.org").await);
}

#[tokio::test]
async fn a73_where_registration_is_closed_it_is_closed_whichever_way_one_asks() {
    let server = TestServer::with_ada().await;
    server.rule(|rules| rules.registration = Registering::Nobody).await;
    let bob = json!({"username": "bob", "password": NEW_PASSWORD});
    for actor in [server.anonymous(), server.ada().await, server.of_role("root", Role::Admin).await.0] {
        actor.tell("/v1/register", bob.clone()).await.is_problem(403, "registration-closed", "");
        for path in ["/v1/Register", "/V1/register", "/v1/register/", "//v1/register", "/v1/%72egister/", "/v1/users"] {
            actor.tell(path, bob.clone()).await.is_problem(404, "not-found", "");
        }
        for method in [Method::PUT, Method::PATCH, Method::GET] {
            actor.json(method, "/v1/register", &bob).await.is_problem(405, "method-not-allowed", "");
        }
        let form = format!("username=bob&password={}", NEW_PASSWORD.replace(' ', "+"));
        actor.form("/v1/register", &form).await.is_problem(415, "unsupported-media-type", "");
    }
    server.ada().await.tell("/v1/admin/users", bob).await.is_problem(403, "staff-needed", "");
    assert!(server.authority.user("bob").await.is_err());
    assert_eq!(login(&server, "bob", NEW_PASSWORD).await, 401);
}

#[tokio::test]
async fn a15_nobody_registers_as_more_than_they_are_or_names_another_account() {
    let (server, account) = TestServer::with_addressed_ada().await;
    let ada = server.ada().await;
    let more =
        ["is_staff", "staff", "role", "email_verified", "email_confirmed", "email_confirmed_at", "id", "subject"];
    let more = [&more[..], &["created", "created_at", "active", "attributes", "user", "user_id", "abilities"]].concat();
    for field in more {
        let of_account = ROUTES.iter().filter(|route| route.group() == Group::Accounts);
        for route in of_account {
            let body = right_body(route.path);
            for value in [json!(true), json!("root"), Value::Null] {
                let answer = ada.tell(route.path, with(body.clone(), field, value)).await;
                answer.is_about(400, "invalid-request", field);
            }
        }
    }
    assert!(server.authority.user("bob").await.is_err());
    let is_as_before = server.authority.account(&account.subject).await.unwrap();
    assert_eq!((is_as_before.role, is_as_before.email.unwrap().as_str()), (Role::User, ADDRESS));
    assert!(server.post().await.is_empty());
}

#[tokio::test]
async fn a64_what_a_request_says_of_hosts_is_in_no_link() {
    let (server, _) = TestServer::with_addressed_ada().await;
    let name = |name: &'static str| HeaderName::from_static(name);
    let liar = server
        .anonymous()
        .with(name("x-forwarded-host"), "evil.example")
        .with(name("x-forwarded-proto"), "http")
        .with(name("x-forwarded-port"), "81")
        .with(name("x-forwarded-prefix"), "/evil")
        .with(name("x-original-url"), "https://evil.example/evil")
        .with(name("x-host"), "evil.example")
        .with(name("forwarded"), "host=evil.example;proto=http")
        .with(header::ORIGIN, "https://evil.example")
        .with(header::REFERER, "https://evil.example/evil");
    // The host of the connection is another than that of the links, too; and the target names a third.
    let asked = [
        ("/v1/password/forgot", json!({"email": ADDRESS})),
        ("https://evil.example/v1/password/forgot", json!({"email": ADDRESS})),
        ("/v1/register", json!({"username": "bob", "password": NEW_PASSWORD, "email": "bob@example.org"})),
        ("/v1/register", json!({"username": "eve", "password": NEW_PASSWORD, "email": ADDRESS})),
        ("/v1/email/resend", json!({"email": "bob@example.org"})),
    ];
    for (path, body) in asked {
        let answer = liar.tell(path, body).await;
        assert!(matches!(answer.status, 201 | 202), "{}", answer.text());
    }
    let ada = server.ada().await.with(name("x-forwarded-host"), "evil.example");
    let change = json!({"email": "new@example.org", "password": PASSWORD});
    assert_eq!(ada.tell("/v1/email/change", change).await.status, 202);
    let mails = server.post().await;
    let kinds: Vec<&str> = mails.iter().map(|mail| mail.kind).collect();
    let expected = [
        "address_change_asked",
        "already_registered",
        "confirm_address",
        "confirm_address",
        "confirm_new_address",
        "reset_password",
        "reset_password",
    ];
    assert_eq!(kinds, expected);
    for mail in mails {
        assert!(mail.url.starts_with(&format!("{BASE}/")) && !mail.url.contains("evil"), "{}", mail.url);
    }
}

#[tokio::test]
async fn a65_where_a_link_goes_on_to_is_not_for_anybody_to_say() {
    let (server, _) = TestServer::with_addressed_ada().await;
    let ada = server.ada().await;
    for next in ["https://evil.example/", "//evil.example", "javascript:alert(1)", "\\\\evil.example", "/%0d%0aX: y"] {
        let asked = [
            ("/v1/register", json!({"username": "bob", "password": NEW_PASSWORD, "email": "bob@example.org"})),
            ("/v1/password/forgot", json!({"email": ADDRESS})),
            ("/v1/email/resend", json!({"email": ADDRESS})),
            ("/v1/email/change", json!({"email": "x@example.org", "password": PASSWORD})),
        ];
        for (path, body) in asked {
            ada.tell(path, with(body, "next", next)).await.is_about(400, "invalid-value", "next");
        }
    }
    assert!(server.post().await.is_empty() && server.authority.user("bob").await.is_err());
}

#[tokio::test]
async fn a66_a_link_is_used_once_however_many_try_at_once() {
    let (server, account) = TestServer::with_addressed_ada().await;
    let link = server.mailed_link(&account, Purpose::Reset).await;
    let stranger = server.anonymous();
    let tries = (0..8).map(|n| {
        let body = json!({"token": link, "new_password": format!("{NEW_PASSWORD} {n}")});
        let stranger = stranger.clone();
        tokio::spawn(async move { stranger.tell("/v1/password/reset", body).await })
    });
    let mut statuses = Vec::new();
    for one in tries.collect::<Vec<_>>() {
        statuses.push(one.await.unwrap().status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400, 400, 400, 400, 400, 400, 400]);
    let again = json!({"token": link, "new_password": NEW_PASSWORD});
    stranger.tell("/v1/password/reset", again).await.is_about(400, "link-dead", "token");
}

#[tokio::test]
async fn a67_a_link_is_good_for_its_own_account_alone() {
    let (server, ada) = TestServer::with_addressed_ada().await;
    let eve = server.user("eve", PASSWORD).await;
    let hers = server.logged_in("eve", "default", "x").await;
    let link = server.mailed_link(&eve, Purpose::Reset).await;
    for field in ["id", "user", "user_id", "uid", "username", "subject"] {
        let body = json!({"token": link, "new_password": NEW_PASSWORD, field: ada.subject});
        server.anonymous().tell("/v1/password/reset", body).await.is_about(400, "invalid-request", field);
    }
    // Nor does it matter with whose token it is sent.
    let body = json!({"token": link, "new_password": NEW_PASSWORD});
    assert_eq!(server.ada().await.tell("/v1/password/reset", body).await.status, 200);
    assert_eq!((login(&server, "ada", PASSWORD).await, login(&server, "eve", NEW_PASSWORD).await), (200, 200));
    assert!(!is_alive(&hers).await);
    // A link that eve got confirms nothing for ada, who is logged in, and nothing with ada's password.
    let link = server.mailed_link(&eve, Purpose::Confirm).await;
    let as_ada = server.ada().await.tell("/v1/email/confirm", json!({"token": link})).await;
    as_ada.is_problem(403, "wrong-password", "");
    let body = json!({"token": link, "password": PASSWORD});
    server.ada().await.tell("/v1/email/confirm", body).await.is_problem(403, "wrong-password", "");
}

#[tokio::test]
async fn a68_an_address_in_the_body_of_a_reset_is_refused_and_no_mail_goes_there() {
    let (server, account) = TestServer::with_addressed_ada().await;
    let link = server.mailed_link(&account, Purpose::Reset).await;
    for field in ["email", "to", "recipient", "address"] {
        let body = json!({"token": link, "new_password": NEW_PASSWORD, field: "evil@example.org"});
        server.anonymous().tell("/v1/password/reset", body).await.is_about(400, "invalid-request", field);
        let body = json!({"token": link, "password": PASSWORD, field: "evil@example.org"});
        server.anonymous().tell("/v1/email/confirm", body).await.is_about(400, "invalid-request", field);
    }
    // What is asked for in another case goes to the address that is stored.
    server.anonymous().tell("/v1/password/forgot", json!({"email": "ADA@Example.org"})).await;
    assert_eq!(server.mail("reset_password").await.to, ADDRESS);
    let two = json!({"email": [ADDRESS, "evil@example.org"]});
    server.anonymous().tell("/v1/password/forgot", two).await.is_about(400, "invalid-value", "email");
    let two = json!({"email": format!("{ADDRESS},evil@example.org")});
    server.anonymous().tell("/v1/password/forgot", two).await.is_about(400, "invalid-value", "email");
    assert!(server.post().await.is_empty());
}

#[tokio::test]
async fn a69_links_to_an_address_die_when_it_changes_and_the_new_one_needs_its_own() {
    let (server, account) = TestServer::with_addressed_ada().await;
    let ada = server.ada().await;
    let reset = server.mailed_link(&account, Purpose::Reset).await;
    let change = json!({"email": "new@example.org", "password": PASSWORD});
    assert_eq!(ada.tell("/v1/email/change", change).await.status, 202);
    // Asked for and not proved: nothing has changed.
    let mails = server.post().await;
    let told: Vec<_> = mails.iter().map(|mail| (mail.kind, mail.to.as_str())).collect();
    assert_eq!(told, [("address_change_asked", ADDRESS), ("confirm_new_address", "new@example.org")]);
    assert_eq!(login(&server, ADDRESS, PASSWORD).await, 200);
    assert_eq!(login(&server, "new@example.org", PASSWORD).await, 401);
    let body = json!({"token": mails[1].secret(), "password": PASSWORD});
    assert_eq!(server.anonymous().tell("/v1/email/confirm", body).await.status, 200);
    assert_eq!(login(&server, "new@example.org", PASSWORD).await, 200);
    assert_eq!(login(&server, ADDRESS, PASSWORD).await, 401);
    let body = json!({"token": reset, "new_password": NEW_PASSWORD});
    server.anonymous().tell("/v1/password/reset", body).await.is_about(400, "link-dead", "token");

    // And the old address can take that back.
    let undo = server.mail("address_changed").await;
    assert_eq!(undo.to, ADDRESS);
    assert!(undo.url.starts_with(&format!("{BASE}/email/undo/")));
    server.anonymous().tell("/v1/email/undo", json!({"token": undo.secret()})).await.is_done();
    assert!(!is_alive(&ada).await);
    assert_eq!(login(&server, ADDRESS, PASSWORD).await, 401);
    let reset = server.mail("reset_password").await;
    assert_eq!(reset.to, ADDRESS);
    let body = json!({"token": reset.secret(), "new_password": NEW_PASSWORD});
    assert_eq!(server.anonymous().tell("/v1/password/reset", body).await.status, 200);
    assert_eq!(login(&server, ADDRESS, NEW_PASSWORD).await, 200);
}

#[tokio::test]
async fn a70_a_link_asks_for_the_password_or_for_a_token_of_the_account() {
    let server = strict().await;
    server.anonymous().tell("/v1/register", ada()).await;
    let link = server.mail("confirm_registration").await.secret();
    let confirm = async |actor: &Actor, body: Value| actor.tell("/v1/email/confirm", body).await;
    let stranger = server.anonymous();
    let bare = confirm(&stranger, json!({"token": link})).await;
    bare.is_problem(403, "wrong-password", "");
    assert!(bare.text().contains("password") && bare.text().contains("token"), "says what to send");
    let wrong = confirm(&stranger, json!({"token": link, "password": PASSWORD})).await;
    wrong.is_problem(403, "wrong-password", "");
    assert_eq!(confirm(&stranger, json!({"token": link, "password": NEW_PASSWORD})).await.status, 200);

    // One's own token does as well; not one of somebody else's, nor a dead one, nor a key that may not.
    let account = server.authority.user("ada").await.unwrap();
    let link = server.mailed_link(&account, Purpose::Confirm).await;
    let eve = server.user("eve", PASSWORD).await;
    let body = json!({"token": link});
    let hers = server.issued(&eve, Kind::Login, "*").await;
    confirm(&hers, body.clone()).await.is_problem(403, "wrong-password", "");
    confirm(&server.token("cf_x"), body.clone()).await.is_invalid_token();
    let key = server.issued(&account, Kind::Key, "tokens:read").await;
    let challenge = format!(r#"{BARE}, error="insufficient_scope", scope="account:write""#);
    confirm(&key, body.clone()).await.is_problem(403, "insufficient-ability", &challenge);
    let own = server.issued(&account, Kind::Login, "*").await;
    assert_eq!(confirm(&own, body).await.status, 200);
    assert!(server.authority.account(&account.subject).await.unwrap().email_confirmed_at.is_some());
}

#[tokio::test]
async fn another_link_is_mailed_to_whoever_asks_for_their_own_address_or_by_it() {
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    let account = server.authority.user("ada").await.unwrap();
    server.addressed(&account, ADDRESS, false).await;
    let resend = async |actor: &Actor, body: Value| actor.tell("/v1/email/resend", body).await;
    assert_eq!(whole(&resend(&ada, json!({})).await).0, 202);
    assert_eq!(server.mail("confirm_address").await.to, ADDRESS);
    let known = resend(&server.anonymous(), json!({"email": ADDRESS})).await;
    let unknown = resend(&server.anonymous(), json!({"email": "nobody@example.org"})).await;
    assert_eq!(whole(&known), whole(&unknown));
    assert_eq!((known.status, known.text()), (202, ""));
    let mail = server.mail("confirm_address").await;
    let body = json!({"token": mail.secret(), "password": PASSWORD});
    assert_eq!(server.anonymous().tell("/v1/email/confirm", body).await.status, 200);

    resend(&server.anonymous(), json!({})).await.is_about(400, "invalid-value", "email");
    resend(&server.token("cf_x"), json!({})).await.is_invalid_token();
    resend(&ada, json!({})).await.is_about(400, "invalid-value", "email");
    // By the address it is not told that there is nothing to confirm.
    assert_eq!(whole(&resend(&ada, json!({"email": ADDRESS})).await), whole(&known));
    assert!(server.post().await.is_empty());
}

#[tokio::test]
async fn a72_a_password_is_changed_by_whoever_knows_it_and_other_tokens_end() {
    let server = TestServer::with_ada().await;
    let (phone, laptop) = (server.ada().await, server.ada().await);
    let account = server.authority.user("ada").await.unwrap();
    let key = server.issued(&account, Kind::Key, "*").await;
    let change = async |actor: &Actor, current: &str, new: &str| {
        actor.tell("/v1/password/change", json!({"current_password": current, "new_password": new})).await
    };
    change(&laptop, "not the password of ada", NEW_PASSWORD).await.is_problem(403, "wrong-password", "");
    change(&laptop, "", NEW_PASSWORD).await.is_problem(403, "wrong-password", "");
    let without = laptop.tell("/v1/password/change", json!({"new_password": NEW_PASSWORD})).await;
    without.is_about(400, "invalid-request", "current_password");
    change(&laptop, PASSWORD, "short").await.is_about(400, "invalid-value", "new_password");
    assert!(is_alive(&phone).await);
    change(&laptop, PASSWORD, NEW_PASSWORD).await.is_done();
    assert_eq!((is_alive(&laptop).await, is_alive(&phone).await, is_alive(&key).await), (true, false, true));
    assert_eq!((login(&server, "ada", PASSWORD).await, login(&server, "ada", NEW_PASSWORD).await), (401, 200));
    let body = json!({"current_password": NEW_PASSWORD, "new_password": PASSWORD, "keys": true});
    laptop.tell("/v1/password/change", body).await.is_done();
    assert_eq!((is_alive(&laptop).await, is_alive(&key).await), (true, false));
}

#[tokio::test]
async fn r10_a_found_token_alone_changes_no_address_and_no_password_and_takes_nothing_along() {
    let (server, account) = TestServer::with_addressed_ada().await;
    let found = server.ada().await;
    let guess = "what a thief would guess";
    for (path, body) in [
        ("/v1/email/change", json!({"email": "thief@example.org", "password": guess})),
        ("/v1/password/change", json!({"current_password": guess, "new_password": NEW_PASSWORD})),
        ("/v1/me/export", json!({"password": guess})),
        ("/v1/me/delete", json!({"password": guess})),
    ] {
        found.tell(path, body).await.is_problem(403, "wrong-password", "");
        for field in ["password", "current_password"] {
            let without = json!({"email": "thief@example.org", "new_password": NEW_PASSWORD, field: null});
            assert_eq!(found.tell(path, without).await.status, 400, "{path}");
        }
    }
    // Guessing is counted as it is at the login.
    let mut last = 0;
    for _ in 0..4 {
        last = found.tell("/v1/me/delete", json!({"password": guess})).await.status;
    }
    assert_eq!(last, 429);
    let account = server.authority.account(&account.subject).await.unwrap();
    assert_eq!(account.email.unwrap().as_str(), ADDRESS);
    assert!(server.post().await.is_empty());
}

#[tokio::test]
async fn r09_a_reset_ends_every_login_token_and_logs_nobody_in() {
    let (server, account) = TestServer::with_addressed_ada().await;
    let (phone, laptop) = (server.ada().await, server.ada().await);
    let key = server.issued(&account, Kind::Key, "*").await;
    let answer = server.anonymous().tell("/v1/password/forgot", json!({"email": ADDRESS})).await;
    assert_eq!((answer.status, answer.text()), (202, ""));
    let mail = server.mail("reset_password").await;
    assert!(is_alive(&phone).await, "asking does nothing");
    let weak = json!({"token": mail.secret(), "new_password": "password12345678"});
    server.anonymous().tell("/v1/password/reset", weak).await.is_about(400, "invalid-value", "new_password");
    let body = json!({"token": mail.secret(), "new_password": NEW_PASSWORD});
    let answer = server.anonymous().tell("/v1/password/reset", body).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"next": null})), "no token in it");
    assert_eq!(answer.header("set-cookie"), "");
    assert_eq!((is_alive(&phone).await, is_alive(&laptop).await, is_alive(&key).await), (false, false, true));
    assert_eq!((login(&server, "ada", PASSWORD).await, login(&server, "ada", NEW_PASSWORD).await), (401, 200));
    assert_eq!(server.mail("password_changed").await.to, ADDRESS);
}

#[tokio::test]
async fn r15_forgot_is_one_answer_for_every_address_and_however_the_mail_server_is() {
    let (server, _) = TestServer::with_addressed_ada().await;
    let banned = server.user("banned", PASSWORD).await;
    server.addressed(&banned, "banned@example.org", true).await;
    server.authority.disable_user(&banned.subject, &By::operator(), server.clock.now()).await.unwrap();
    let unconfirmed = server.user("bob", PASSWORD).await;
    server.addressed(&unconfirmed, "bob@example.org", false).await;
    let mut answers = Vec::new();
    for fails in [false, true] {
        *server.postbox.fails.lock().unwrap() = fails;
        for email in [ADDRESS, "banned@example.org", "bob@example.org", "nobody@example.org"] {
            answers.push(server.anonymous().tell("/v1/password/forgot", json!({"email": email})).await);
            // A mail is sent in the background; here, after each.
            server.post().await;
        }
    }
    assert_eq!((answers[0].status, answers[0].text()), (202, ""));
    assert!(answers.iter().all(|answer| whole(answer) == whole(&answers[0])));
}

#[tokio::test]
async fn a50_a_mail_server_that_is_away_holds_no_answer_up() {
    let (server, _) = TestServer::with_addressed_ada().await;
    *server.postbox.fails.lock().unwrap() = true;
    assert_eq!(server.anonymous().tell("/v1/password/forgot", json!({"email": ADDRESS})).await.status, 202);
    assert!(server.post().await.is_empty());
    // It is not lost: it goes out when the server is back.
    *server.postbox.fails.lock().unwrap() = false;
    server.wait(60_000);
    let link = server.mail("reset_password").await.secret();
    let body = json!({"token": link, "new_password": NEW_PASSWORD});
    assert_eq!(server.anonymous().tell("/v1/password/reset", body).await.status, 200);
}

#[tokio::test]
async fn r16_a_link_is_short_lived_and_good_for_one_thing() {
    let (server, account) = TestServer::with_addressed_ada().await;
    let link = server.mailed_link(&account, Purpose::Reset).await;
    let dead = async |path: &str, body: Value| {
        server.anonymous().tell(path, body).await.is_about(400, "link-dead", "token");
    };
    dead("/v1/email/confirm", json!({"token": link, "password": PASSWORD})).await;
    dead("/v1/email/undo", json!({"token": link})).await;
    server.token(&link).get("/v1/me").await.is_invalid_token();
    let token = server.ada().await.secret;
    dead("/v1/password/reset", json!({"token": token, "new_password": NEW_PASSWORD})).await;
    server.wait(3_600_000 - 1);
    let weak = json!({"token": link, "new_password": "short"});
    server.anonymous().tell("/v1/password/reset", weak).await.is_about(400, "invalid-value", "new_password");
    server.wait(1);
    dead("/v1/password/reset", json!({"token": link, "new_password": NEW_PASSWORD})).await;
}

#[tokio::test]
async fn r18_staff_have_links_mailed_and_choose_no_password() {
    let (server, ada) = TestServer::with_addressed_ada().await;
    let bob = server.user("bob", PASSWORD).await;
    server.addressed(&bob, "bob@example.org", false).await;
    let bare = server.user("bare", PASSWORD).await;
    let (staff, sam) = server.of_role("sam", Role::Staff).await;
    let (_, root) = server.of_role("root", Role::Admin).await;
    server.addressed(&root, "root@example.org", true).await;
    let ids = json!([ada.subject, "no one", bare.subject, root.subject, sam.subject, bob.subject, "ghost"]);
    let answer = staff.tell("/v1/admin/users/reset", json!({"ids": ids})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let items = answer.json()["items"].as_array().unwrap().clone();
    let told: Vec<_> = items.iter().map(|item| (item["id"].clone(), item["sent"].clone())).collect();
    let expected = [true, false, false, false, false, true, false].map(Value::from);
    assert_eq!(told, ids.as_array().unwrap().iter().cloned().zip(expected).collect::<Vec<_>>());
    let kinds: Vec<_> = items.iter().map(|item| item["problem"]["type"].as_str().unwrap_or("-")).collect();
    let urn = |slug: &str| format!("urn:counterfoil:problem:{slug}");
    let (unknown, invalid, above) = (urn("not-found"), urn("invalid-value"), urn("admin-needed"));
    assert_eq!(kinds, ["-", &unknown, &invalid, &above, &above, "-", &unknown]);
    assert!(
        items.iter().all(|item| item["problem"].is_null() || !item["problem"]["detail"].as_str().unwrap().is_empty())
    );
    let mut to: Vec<_> = server.post().await.into_iter().map(|mail| (mail.kind, mail.to)).collect();
    to.sort();
    let expected = [("reset_password", ADDRESS), ("reset_password", "bob@example.org")];
    assert_eq!(to, expected.map(|(kind, to)| (kind, to.to_owned())));
    assert_eq!(login(&server, "ada", PASSWORD).await, 200, "nothing changes before the link is used");

    let answer = staff.tell("/v1/admin/users/confirm", json!({"ids": [ada.subject, bob.subject]})).await;
    let sent: Vec<_> = answer.json()["items"].as_array().unwrap().iter().map(|item| item["sent"].clone()).collect();
    assert_eq!(sent, [false, true], "one is confirmed already");
    assert_eq!(server.mail("confirm_address").await.to, "bob@example.org");

    for path in ["/v1/admin/users/reset", "/v1/admin/users/confirm"] {
        let many: Vec<String> = (0..101).map(|n| format!("user-{n}")).collect();
        for ids in [json!([]), json!(many), json!(["a", "b", "a"]), json!("a"), json!([1]), Value::Null] {
            staff.tell(path, json!({"ids": ids})).await.is_about(400, "invalid-value", "ids");
        }
        for field in ["password", "new_password", "email"] {
            let body = json!({"ids": [ada.subject], field: NEW_PASSWORD});
            staff.tell(path, body).await.is_about(400, "invalid-request", field);
        }
    }
}

#[tokio::test]
async fn r32_where_the_store_is_away_nothing_of_an_account_is_answered_and_no_link_used_up() {
    let (server, account) = TestServer::with_addressed_ada().await;
    let reset = server.mailed_link(&account, Purpose::Reset).await;
    let undo = server.mailed_link(&account, Purpose::UndoChange).await;
    let ada = server.ada().await;
    server.outages.store.store(true, Ordering::SeqCst);
    let asked = [
        ("/v1/register", json!({"username": "bob", "password": NEW_PASSWORD, "email": "bob@example.org"})),
        ("/v1/email/confirm", json!({"token": undo, "password": PASSWORD})),
        ("/v1/email/resend", json!({"email": ADDRESS})),
        ("/v1/email/undo", json!({"token": undo})),
        ("/v1/email/change", json!({"email": "x@example.org", "password": PASSWORD})),
        ("/v1/password/change", json!({"current_password": PASSWORD, "new_password": NEW_PASSWORD})),
        ("/v1/password/forgot", json!({"email": ADDRESS})),
        ("/v1/password/reset", json!({"token": reset, "new_password": NEW_PASSWORD})),
        ("/v1/me/export", json!({"password": PASSWORD})),
        ("/v1/me/delete", json!({"password": PASSWORD})),
    ];
    assert_eq!(asked.len(), ROUTES.iter().filter(|route| route.group() == Group::Accounts).count());
    for (path, body) in asked {
        let answer = ada.tell(path, body).await;
        answer.is_problem(503, "unavailable", "");
        assert_eq!(answer.header("retry-after"), "5");
    }
    server.outages.store.store(false, Ordering::SeqCst);
    assert!(is_alive(&ada).await && server.authority.user("bob").await.is_err());
    assert!(server.post().await.is_empty());
    server.anonymous().tell("/v1/email/undo", json!({"token": undo})).await.is_done();
}

#[tokio::test]
async fn without_mail_what_needs_it_is_not_offered_and_the_rest_is() {
    let server = TestServer::with_ada().await;
    server.rule(|rules| rules.links = Default::default()).await;
    let ada = server.ada().await;
    for (path, body) in [
        ("/v1/register", json!({"username": "bob", "password": NEW_PASSWORD, "email": "bob@example.org"})),
        ("/v1/email/confirm", json!({"token": LINK, "password": PASSWORD})),
        ("/v1/email/resend", json!({"email": ADDRESS})),
        ("/v1/email/undo", json!({"token": LINK})),
        ("/v1/email/change", json!({"email": ADDRESS, "password": PASSWORD})),
        ("/v1/password/forgot", json!({"email": ADDRESS})),
    ] {
        let answer = ada.tell(path, body).await;
        assert!(matches!(answer.status, 403 | 400), "{path}: {}", answer.text());
        let kind = answer.json()["type"].as_str().unwrap().to_owned();
        assert!(kind.ends_with(":no-mail") || kind.ends_with(":link-dead"), "{path}: {kind}");
    }
    let bob = json!({"username": "bob", "password": NEW_PASSWORD});
    assert_eq!(server.anonymous().tell("/v1/register", bob).await.status, 201);
    let body = json!({"current_password": PASSWORD, "new_password": NEW_PASSWORD});
    ada.tell("/v1/password/change", body).await.is_done();
    let items = server.of_role("root", Role::Admin).await.0.tell("/v1/admin/users/reset", json!({"ids": ["x"]})).await;
    assert_eq!(items.json()["items"][0]["sent"], false);
}

/// Well formed, and never mailed.
const LINK: &str = "cfl_0000000000000000000000000000000000000000000D1xGFI";

#[tokio::test]
async fn owners_take_along_what_is_kept_about_them_and_leave() {
    let (server, account) = TestServer::with_addressed_ada().await;
    let (ada, key) = (server.ada().await, server.issued(&account, Kind::Key, "*").await);
    let (admin, _) = server.of_role("root", Role::Admin).await;
    let export = ada.tell("/v1/me/export", json!({"password": PASSWORD})).await;
    assert_eq!(export.status, 200, "{}", export.text());
    let by_staff = admin.get(&format!("/v1/admin/users/{}/export", account.subject)).await;
    let (own, theirs) = (export.json(), by_staff.json());
    assert_eq!((&own["user"], own["tokens"].as_array().unwrap().len()), (&theirs["user"], 2));
    assert_eq!(own["audit_next"], Value::Null);
    let link = server.mailed_link(&account, Purpose::Reset).await;
    ada.tell("/v1/me/delete", json!({"password": PASSWORD})).await.is_done();
    assert!(!is_alive(&ada).await && !is_alive(&key).await);
    assert!(AccountStore::account(&*server.store, &account.subject).await.unwrap().is_none());
    let body = json!({"token": link, "new_password": NEW_PASSWORD});
    server.anonymous().tell("/v1/password/reset", body).await.is_about(400, "link-dead", "token");
    // The name is free again, and its next owner inherits nothing.
    let again = server.anonymous().tell("/v1/register", json!({"username": "ada", "password": NEW_PASSWORD})).await;
    assert_ne!(again.json()["user"]["id"], json!(account.subject));
    assert!(!is_alive(&key).await);
}

#[tokio::test]
async fn r25_a_browser_forgets_the_cookie_of_an_account_that_is_deleted() {
    let settings = HttpSettings { cookies: Some(Cookies::default()), ..HttpSettings::default() };
    let server = TestServer::with(settings, axum::Router::new()).await;
    server.user("ada", PASSWORD).await;
    let page = server.anonymous().with(HeaderName::from_static("sec-fetch-site"), "same-origin");
    let body = json!({"username": "ada", "password": PASSWORD, "cookie": true});
    let kept = page.tell("/v1/login", body).await.header("set-cookie").split(';').next().unwrap().to_owned();
    let elsewhere = server.anonymous().with(HeaderName::from_static("sec-fetch-site"), "cross-site");
    let body = json!({"password": PASSWORD});
    let forged = elsewhere.clone().with(header::COOKIE, &kept).tell("/v1/me/delete", body.clone()).await;
    forged.is_problem(403, "cross-site", "");
    let resend = elsewhere.clone().with(header::COOKIE, &kept).tell("/v1/email/resend", json!({})).await;
    resend.is_problem(403, "cross-site", "");
    let gone = page.with(header::COOKIE, &kept).tell("/v1/me/delete", body).await;
    gone.is_done();
    assert!(gone.header("set-cookie").starts_with("__Host-counterfoil=;"));
}

#[tokio::test]
async fn mails_and_registrations_are_limited_by_address_and_by_who_asks() {
    let (server, _) = TestServer::with_addressed_ada().await;
    let ask = async |from: &str, email: &str| {
        server.anonymous().at(from).tell("/v1/password/forgot", json!({"email": email})).await
    };
    for n in 0..5 {
        assert_eq!(ask(&format!("192.0.2.{n}"), ADDRESS).await.status, 202);
    }
    let answer = ask("192.0.2.9", ADDRESS).await;
    answer.is_problem(429, "quota-exceeded", "");
    assert!(answer.header("ratelimit-policy").starts_with("\"mailbox\";q=5"));
    assert_eq!(server.post().await.len(), 5);
    // An address that nobody has is limited alike.
    for n in 0..5 {
        assert_eq!(ask(&format!("198.51.100.{n}"), "nobody@example.org").await.status, 202);
    }
    assert_eq!(ask("198.51.100.9", "nobody@example.org").await.status, 429);
    let mut last = 0;
    for n in 0..21 {
        last = ask("203.0.113.1", &format!("somebody-{n}@example.org")).await.status;
    }
    assert_eq!(last, 429);
}

#[tokio::test]
async fn every_route_of_ones_own_account_wants_json_and_says_so() {
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    for route in ROUTES.iter().filter(|route| route.group() == Group::Accounts) {
        let path = concrete(route.path, &ada.id);
        ada.form(&path, "email=a%40example.org").await.is_problem(415, "unsupported-media-type", "");
        for body in ["", "[]", "null", "{", "{}x"] {
            let answer = ada.typed(route.method.clone(), &path, "application/json", body).await;
            answer.is_problem(400, "invalid-request", "");
        }
        if !matches!(route.access, Access::Open | Access::OpenOr(_)) {
            let answer = server.anonymous().send(Method::POST, &path, Body::empty()).await;
            answer.is_problem(401, "token-missing", BARE);
        }
    }
}
