//! One's own signed-in devices.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, header};
use counterfoil_core::lease::LEASE_MILLIS;
use counterfoil_core::{By, Clock, Kind, Lifetime, Policy, Renewal, Timestamp};
use counterfoil_http::{Access, Group, ROUTES};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::world::{START, TestServer, concrete};

#[tokio::test]
async fn the_list_shows_each_device_and_flags_this_one() {
    let server = TestServer::with_ada().await;
    let laptop = server.ada().await;
    server.wait(1_000);
    let phone = server.logged_in("ada", "default", "phone").await.at("2001:db8::1").with(header::USER_AGENT, "App/2");
    server.wait(1_000);
    phone.get("/v1/me").await;
    server.authority.flush(server.clock.now()).await.unwrap();

    let answer = phone.get("/v1/tokens").await;
    assert_eq!(answer.status, 200);
    let here = |at: &str| json!({"at": at, "ip": "192.0.2.7", "user_agent": null});
    assert_eq!(
        answer.json(),
        json!({
            "items": [
                {
                    "id": laptop.id, "kind": "login", "client": "default", "name": "laptop", "abilities": ["*"],
                    "issued_at": "2026-11-20T11:00:00.000Z", "expires_at": "2026-12-20T11:00:00.000Z",
                    "current": false, "first_seen": here("2026-11-20T11:00:00.000Z"), "last_seen": null,
                },
                {
                    "id": phone.id, "kind": "login", "client": "default", "name": "phone", "abilities": ["*"],
                    "issued_at": "2026-11-20T11:00:01.000Z", "expires_at": "2026-12-20T11:00:01.000Z",
                    "current": true, "first_seen": here("2026-11-20T11:00:01.000Z"),
                    "last_seen": {"at": "2026-11-20T11:00:02.000Z", "ip": "2001:db8::1", "user_agent": "App/2"},
                },
            ],
            "next": null,
        })
    );
}

#[tokio::test]
async fn a_list_comes_in_pages_that_lose_and_repeat_nothing() {
    let server = TestServer::with_ada().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(server.ada().await.id);
    }
    let ada = server.ada().await;
    ids.push(ada.id.clone());

    let (mut seen, mut path) = (Vec::new(), "/v1/tokens?limit=2".to_owned());
    loop {
        let page = ada.get(&path).await.json();
        let items = page["items"].as_array().unwrap();
        assert_eq!(items.len(), 2);
        seen.extend(items.iter().map(|token| token["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/tokens?limit=2&cursor={next}");
    }
    assert_eq!(seen, ids);
}

#[tokio::test]
async fn a47_a_forged_or_borrowed_cursor_is_refused() {
    let server = TestServer::with_ada().await;
    server.user("bob", crate::world::PASSWORD).await;
    let (ada, _, bob) = (server.ada().await, server.ada().await, server.logged_in("bob", "default", "x").await);
    let cursor = ada.get("/v1/tokens?limit=1").await.json()["next"].as_str().unwrap().to_owned();
    assert_eq!(ada.get(&format!("/v1/tokens?cursor={cursor}")).await.status, 200);

    let (number, tag) = cursor.split_once('.').unwrap();
    let upper = format!("{number}.{}", tag.to_uppercase());
    let (later, padded) = (format!("{:016x}.{tag}", 2), format!("00{cursor}"));
    for forged in [
        "",
        "1",
        "%25",
        "_",
        "'",
        "1;DROP%20TABLE",
        "1.0",
        "..",
        "%00",
        "-1.1",
        &upper,
        &later,
        &padded,
        &tag.repeat(99),
    ] {
        let answer = ada.get(&format!("/v1/tokens?cursor={forged}")).await;
        answer.is_about(400, "invalid-value", "cursor");
    }
    let elsewhere = ada.get(&format!("/v1/keys?cursor={cursor}")).await;
    elsewhere.is_about(400, "invalid-value", "cursor");
    bob.get(&format!("/v1/tokens?cursor={cursor}")).await.is_about(400, "invalid-value", "cursor");
}

#[tokio::test]
async fn a_query_that_is_not_understood_is_refused_by_name() {
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    for limit in ["0", "201", "-1", "x", "", "99999999999999999999", "1.5"] {
        let answer = ada.get(&format!("/v1/tokens?limit={limit}")).await;
        answer.is_about(400, "invalid-value", "limit");
    }
    assert_eq!(ada.get("/v1/tokens?limit=200").await.status, 200);
    ada.get("/v1/tokens?sort=name").await.is_about(400, "invalid-request", "sort");
    ada.get("/v1/tokens?limit=1&limit=2").await.is_about(400, "invalid-request", "limit");
}

#[tokio::test]
async fn a_device_is_renamed_and_its_name_taken_away() {
    let server = TestServer::with_ada().await;
    let (ada, phone) = (server.ada().await, server.ada().await);
    let path = format!("/v1/tokens/{}", phone.id);
    for (name, kept) in [
        (json!(" My phone "), json!("My phone")),
        (json!("x".repeat(10_000)), json!("x".repeat(100))),
        (json!("  "), json!(null)),
        (json!(null), json!(null)),
    ] {
        let answer = ada.json(Method::PATCH, &path, &json!({"name": name})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let record = answer.json();
        assert_eq!((&record["name"], &record["id"], &record["current"]), (&kept, &json!(phone.id), &json!(false)));
    }
    ada.json(Method::PATCH, &path, &json!({})).await.is_about(400, "invalid-request", "name");
    ada.json(Method::PATCH, &path, &json!({"name": 5})).await.is_about(400, "invalid-value", "name");
    let more = json!({"name": "x", "user_id": "bob"});
    ada.json(Method::PATCH, &path, &more).await.is_about(400, "invalid-request", "user_id");
}

#[tokio::test]
async fn one_device_is_logged_out_and_the_others_stay() {
    let server = TestServer::with_ada().await;
    let (laptop, phone, tablet) = (server.ada().await, server.ada().await, server.ada().await);
    for spelling in [phone.id.to_uppercase(), phone.id.replace('-', ""), format!("{{{}}}", phone.id)] {
        let path = format!("/v1/tokens/{}", spelling.replace('{', "%7B").replace('}', "%7D"));
        laptop.delete(&path).await.is_problem(404, "not-found", "");
    }
    laptop.delete(&format!("/v1/tokens/{}", phone.id)).await.is_done();
    phone.get("/v1/me").await.is_invalid_token();
    assert_eq!(tablet.get("/v1/me").await.status, 200);
    laptop.delete(&format!("/v1/tokens/{}", phone.id)).await.is_done();

    let forgotten = laptop.delete("/v1/tokens").await;
    forgotten.is_about(400, "invalid-request", "keep");
    assert!(forgotten.json()["detail"].as_str().unwrap().contains("?keep=current"));
    laptop.delete("/v1/tokens?keep=all").await.is_about(400, "invalid-value", "keep");
    assert_eq!(tablet.get("/v1/me").await.status, 200);
    laptop.delete("/v1/tokens?keep=current").await.is_done();
    tablet.get("/v1/me").await.is_invalid_token();
    assert_eq!(laptop.get("/v1/me").await.status, 200);
}

#[tokio::test]
async fn a13_another_users_token_is_as_unknown_as_one_that_never_was() {
    let server = TestServer::with_ada().await;
    let bob = server.user("bob", crate::world::PASSWORD).await;
    let ada = server.ada().await;
    let device = server.logged_in("bob", "default", "x").await;
    let key = server.issued(&bob, Kind::Key, "*").await;
    let upper = device.id.to_uppercase();
    let simple = device.id.replace('-', "");
    let never = "019a9f3c-0000-7000-8000-000000000000";
    let no_ids = ["x", "..", "%00", "%ff", "%2e%2e", "'", "1"];
    for id in [&device.id, &key.id, &upper, &simple, never].into_iter().chain(no_ids) {
        for (method, path) in [
            (Method::DELETE, format!("/v1/tokens/{id}")),
            (Method::DELETE, format!("/v1/keys/{id}")),
            (Method::PATCH, format!("/v1/tokens/{id}")),
        ] {
            let answer = ada.json(method, &path, &json!({"name": "mine"})).await;
            answer.is_problem(404, "not-found", "");
        }
    }
    let me = device.get("/v1/me").await.json();
    assert_eq!(me["token"]["name"], "x");
    let across = device.delete(&format!("/v1/tokens/{}", key.id)).await;
    across.is_problem(404, "not-found", "");
    assert_eq!(key.get("/v1/me").await.status, 200, "a key does not end as a device");
}

#[tokio::test]
async fn renewing_moves_the_expiry_on_and_says_so() {
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    server.wait(86_400_000);
    let answer = ada.post("/v1/renew").await;
    assert_eq!((answer.status, answer.json()), (200, json!({"expires_at": "2026-12-21T11:00:00.000Z"})));

    server.client("strict", Policy { renewal: Renewal::Never, ..Policy::default() }).await;
    let strict = server.logged_in("ada", "strict", "x").await;
    strict.post("/v1/renew").await.is_problem(403, "renewal-not-allowed", "");
    server.client("immortal", Policy { ttl: None, ..Policy::default() }).await;
    let immortal = server.logged_in("ada", "immortal", "x").await;
    assert_eq!(immortal.post("/v1/renew").await.json(), json!({"expires_at": null}));
}

#[tokio::test]
async fn rotating_gives_a_fresh_secret_for_the_same_record() {
    let server = TestServer::with_ada().await;
    let old = server.ada().await;
    let before = old.get("/v1/me").await.json();
    let answer = old.post("/v1/rotate").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let rotated = answer.json();
    assert_eq!(rotated["id"], old.id);
    assert_eq!(rotated["user"], before["user"]);
    assert_ne!(rotated["token"], old.secret.as_str());
    let new = server.token(rotated["token"].as_str().unwrap());
    assert_eq!(old.get("/v1/me").await.status, 200, "the grace");
    assert_eq!(new.get("/v1/me").await.json()["token"]["id"], old.id);
    old.get("/v1/me").await.is_invalid_token();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a12_racing_rotations_and_renewals_leave_one_live_successor() {
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    server.wait(1_000);
    let mut renewing = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let ada = ada.clone();
        renewing.spawn(async move { ada.post("/v1/renew").await });
    }
    for answer in renewing.join_all().await {
        assert_eq!((answer.status, answer.json()), (200, json!({"expires_at": "2026-12-20T11:00:01.000Z"})));
    }

    let mut rotating = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let ada = ada.clone();
        rotating.spawn(async move { ada.post("/v1/rotate").await });
    }
    let mut secrets = Vec::new();
    for answer in rotating.join_all().await {
        if answer.status == 200 {
            secrets.push(answer.json()["token"].as_str().unwrap().to_owned());
        } else {
            answer.is_invalid_token();
        }
    }
    let mut live = 0;
    for secret in &secrets {
        live += usize::from(server.token(secret).get("/v1/me").await.status == 200);
    }
    assert_eq!(live, 1, "of {} that were handed out", secrets.len());

    let doomed = server.ada().await;
    let (_, revoked, _) = tokio::join!(doomed.post("/v1/renew"), doomed.post("/v1/logout"), doomed.post("/v1/renew"));
    revoked.is_done();
    doomed.get("/v1/me").await.is_invalid_token();
}

#[tokio::test]
async fn a05_a_disabled_or_deleted_user_is_refused_on_every_route() {
    let server = TestServer::with_ada().await;
    let bob = server.user("bob", crate::world::PASSWORD).await;
    let device = server.logged_in("bob", "default", "x").await;
    let key = server.issued(&bob, Kind::Key, "*").await;
    let by = By::operator();
    server.authority.disable_user(&bob.subject, &by, server.clock.now()).await.unwrap();
    is_refused_everywhere(&device).await;
    is_refused_everywhere(&key).await;
    server.authority.enable_user(&bob.subject, &by, server.clock.now()).await.unwrap();
    assert_eq!(device.get("/v1/me").await.status, 200);
    assert_eq!(key.get("/v1/me").await.status, 200);
    server.authority.delete_user(&bob.subject, &by, server.clock.now()).await.unwrap();
    is_refused_everywhere(&device).await;
    is_refused_everywhere(&key).await;
}

#[tokio::test]
async fn a18_a_token_is_dead_at_its_expiry_on_every_route() {
    let server = TestServer::with_ada().await;
    let ttl = Some(Lifetime::from_seconds(60).unwrap());
    server.client("minute", Policy { ttl, ..Policy::default() }).await;
    let ada = server.logged_in("ada", "minute", "x").await;
    server.wait(59_999);
    assert_eq!(ada.get("/v1/me").await.status, 200);
    server.wait(1);
    is_refused_everywhere(&ada).await;
    // A token "from the future" is not dead: clocks are set back.
    let later = server.ada().await;
    server.clock.set_wall(START);
    assert_eq!(later.get("/v1/me").await.status, 200);
}

#[tokio::test]
async fn a20_an_expired_token_is_refused_however_often_it_was_accepted() {
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    for _ in 0..3 {
        assert_eq!(ada.get("/v1/me").await.status, 200);
    }
    server.wait(30 * 86_400_000);
    ada.get("/v1/me").await.is_invalid_token();
    assert_eq!(server.clock.now().wall, Timestamp::from_millis(START.millis() + 30 * 86_400_000));
}

#[tokio::test]
async fn a07_a_revoked_token_stays_revoked_after_a_restart() {
    let server = TestServer::with_ada().await;
    let (gone, stays) = (server.ada().await, server.ada().await);
    gone.post("/v1/logout").await.is_done();
    let server = server.restarted().await;
    server.token(&gone.secret).get("/v1/me").await.is_invalid_token();
    assert_eq!(server.token(&stays.secret).get("/v1/me").await.status, 200);
}

#[tokio::test]
async fn a16_ids_have_no_neighbours() {
    let server = TestServer::with_ada().await;
    let (one, two) = (server.ada().await, server.ada().await);
    let differing = one.id.chars().zip(two.id.chars()).filter(|(a, b)| a != b).count();
    assert!(differing >= 10, "{} {}", one.id, two.id);
    assert!(!one.get("/v1/tokens").await.text().contains("number"));
}

/// Each route that wants a token, with this one: the same answer everywhere.
async fn is_refused_everywhere(actor: &crate::world::Actor) {
    for route in ROUTES.iter().filter(|route| !matches!(route.access, Access::Open | Access::OpenOr(_))) {
        let path = concrete(route.path, &actor.id);
        let answer = actor.send(route.method.clone(), &path, Body::empty()).await;
        answer.is_invalid_token();
    }
}

#[tokio::test]
async fn each_ability_opens_its_routes_and_no_other() {
    let server = TestServer::with_ada().await;
    let all = ["tokens:read", "tokens:write", "keys:read", "keys:write", "account:write"];
    for (n, route) in ROUTES.iter().enumerate() {
        let Access::Ability(needed) = route.access else { continue };
        let path = concrete(route.path, "019a9f3c-0000-7000-8000-000000000000");
        let eve = server.user(&format!("eve{n}"), crate::world::PASSWORD).await;
        for held in all {
            let holder = server.issued(&eve, Kind::Key, held).await;
            let body = match route.group() {
                Group::Accounts => crate::accounts::right_body(&path),
                Group::Me => json!({"rotation_locked": false}),
                Group::Login | Group::Tokens | Group::Keys | Group::Services | Group::Admin => json!({"name": "x"}),
                Group::Pages | Group::Health | Group::Description => continue,
            };
            let answer = holder.json(route.method.clone(), &path, &body).await;
            if held == needed.as_str() {
                assert_ne!(answer.status, 403, "{} {path} with {held}: {}", route.method, answer.text());
            } else {
                let scope = needed.as_str();
                let challenge = format!(r#"Bearer realm="counterfoil", error="insufficient_scope", scope="{scope}""#);
                answer.is_problem(403, "insufficient-ability", &challenge);
            }
        }
    }
    let eve = server.user("eve", crate::world::PASSWORD).await;
    let nothing = server.issued(&eve, Kind::Login, "").await;
    assert_eq!(nothing.get("/v1/me").await.json()["token"]["abilities"], Value::Array(vec![]));
    assert_eq!(nothing.post("/v1/renew").await.status, 200);
    assert_eq!(nothing.post("/v1/rotate").await.status, 200);
    nothing.post("/v1/logout").await.is_done();
}

#[tokio::test]
async fn r23_beyond_a_clients_throttle_a_token_waits_and_is_told_how_long() {
    let server = TestServer::with_ada().await;
    server.client("slow", Policy { throttle: "2/m".parse().ok(), ..Policy::default() }).await;
    let ada = server.logged_in("ada", "slow", "x").await;
    for _ in 0..2 {
        assert_eq!(ada.get("/v1/me").await.status, 200);
    }
    server.wait(20_000);
    let answer = ada.get("/v1/me").await;
    answer.is_problem(429, "quota-exceeded", "");
    assert_eq!(answer.header("retry-after"), "40");
    assert_eq!(answer.header("ratelimit-policy"), "\"client\";q=2;w=60");
    assert_eq!(answer.header("ratelimit"), "\"client\";r=0;t=40");
    assert_eq!(answer.header("cache-control"), "no-store", "a 429 is not stored (RFC 6585 §4)");
    server.wait(40_000);
    assert_eq!(ada.get("/v1/me").await.status, 200);
}

#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "how long was waited, by a clock that stands still")]
async fn a09_whoever_waits_for_everywhere_is_answered_when_no_node_can_say_yes_any_more() {
    let server = TestServer::with_ada().await;
    let (this, phone) = (server.ada().await, server.logged_in("ada", "default", "phone").await);
    // By tokio's clock, which stands still but for who waits for it.
    let asked = async |path: String| {
        let begun = Instant::now();
        let answer = this.delete(&path).await;
        (answer.status, begun.elapsed())
    };
    assert_eq!(
        asked(format!("/v1/tokens/{}?wait=everywhere", phone.id)).await,
        (204, Duration::ZERO),
        "no other node answers from memory"
    );
    server.outages.shared.store(true, Ordering::SeqCst);
    let (status, waited) = asked("/v1/tokens?keep=current&wait=everywhere".to_owned()).await;
    assert!(status == 204 && waited > Duration::from_millis(LEASE_MILLIS), "{status}, {waited:?}");
    assert_eq!(asked("/v1/tokens?keep=current".to_owned()).await, (204, Duration::ZERO), "nobody asked to wait");
    let nobodys = "/v1/tokens/01890000-0000-7000-8000-000000000000?wait=everywhere".to_owned();
    assert_eq!(asked(nobodys).await, (404, Duration::ZERO), "what was not done is not waited for");
    let misspelt = this.post("/v1/logout?wait=all").await;
    misspelt.is_about(400, "invalid-value", "wait");
    assert_eq!(this.get("/v1/me").await.status, 200, "and nothing was done");
}
