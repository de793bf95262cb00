//! Who may pass the guards.

use std::sync::Arc;

use axum::Router;
use axum::http::Method;
use axum::routing::{any, get};
use counterfoil_core::account::Role;
use counterfoil_core::{By, Clock, Kind, Policy};
use counterfoil_http::{Authenticated, Guard, Problem};

use crate::world::{Actor, BARE, INVALID_TOKEN, PASSWORD, TestServer};

/// A service with one route behind `guard`.
fn behind(server: &TestServer, guard: Guard) -> Router {
    Router::new().route("/", any(async || "in")).route_layer(guard).layer(server.http.layer())
}

async fn server() -> TestServer {
    let server = TestServer::with_ada().await;
    for client in ["web", "phone"] {
        server.client(client, Policy::default()).await;
    }
    server
}

async fn enters(actor: &Actor, door: &Router) -> u16 {
    actor.clone().facing(door).get("/").await.status
}

const LACKS: &str = r#"Bearer realm="counterfoil", error="insufficient_scope", scope="files:read""#;

#[tokio::test]
async fn r28_every_guard_refuses_whoever_presents_no_token_or_a_bad_one() {
    let server = server().await;
    for guard in [
        Guard::signed_in(),
        Guard::clients(["web".parse().unwrap()]),
        Guard::not_clients(["web".parse().unwrap()]),
        Guard::ability("files:read".parse().unwrap()),
        Guard::all_abilities([]),
        Guard::any_ability(["files:read".parse().unwrap()]),
        Guard::staff(),
        Guard::admin(),
        Guard::logged_in_within("5m".parse().unwrap()),
        Guard::throttle("x", "1/m".parse().unwrap()),
    ] {
        let door = behind(&server, guard.clone());
        server.anonymous().facing(&door).get("/").await.is_refused(401, "token-missing", BARE);
        server.token("cf_x").facing(&door).get("/").await.is_refused(401, "invalid-token", INVALID_TOKEN);
        // Around the layer instead of within it, nobody knows who asks.
        let inside_out = Router::new().route("/", get(async || "in")).layer(server.http.layer()).layer(guard);
        assert_eq!(enters(&server.ada().await, &inside_out).await, 500);
    }
}

#[tokio::test]
async fn only_these_clients_or_all_but_these() {
    let server = server().await;
    let (web, phone) = (server.logged_in("ada", "web", "x").await, server.logged_in("ada", "phone", "x").await);
    let default = server.ada().await;
    let names = || ["web".parse().unwrap(), "default".parse().unwrap()];
    let only = behind(&server, Guard::clients(names()));
    let not = behind(&server, Guard::not_clients(names()));
    for (actor, of_them) in [(web, true), (phone, false), (default, true)] {
        let told = actor.clone().facing(&only).get("/").await;
        if of_them {
            assert_eq!(told.text(), "in");
        } else {
            told.is_refused(403, "client-not-allowed", "");
        }
        let told = actor.facing(&not).get("/").await;
        if of_them { told.is_refused(403, "client-not-allowed", "") } else { assert_eq!(told.text(), "in") }
    }
    assert_eq!(enters(&server.ada().await, &behind(&server, Guard::clients([]))).await, 403);
    assert_eq!(enters(&server.ada().await, &behind(&server, Guard::not_clients([]))).await, 200);
}

#[tokio::test]
async fn r28_one_ability_all_of_them_or_any() {
    let server = server().await;
    let bob = server.user("bob", PASSWORD).await;
    let reads = server.issued(&bob, Kind::Key, "files:read").await;
    let writes = server.issued(&bob, Kind::Key, "files:write").await;
    let both = server.issued(&bob, Kind::Key, "files:read files:write").await;
    let all = server.ada().await;
    let (read, write) = (|| "files:read".parse().unwrap(), || "files:write".parse().unwrap());
    let one_door = behind(&server, Guard::ability(read()));
    let all_door = behind(&server, Guard::all_abilities([write(), read()]));
    let any_door = behind(&server, Guard::any_ability([read(), write()]));
    for (actor, may) in
        [(&reads, [200, 403, 200]), (&writes, [403, 403, 200]), (&both, [200, 200, 200]), (&all, [200, 200, 200])]
    {
        let entered = [enters(actor, &one_door).await, enters(actor, &all_door).await, enters(actor, &any_door).await];
        assert_eq!(entered, may);
    }
    writes.facing(&one_door).get("/").await.is_refused(403, "insufficient-ability", LACKS);
    let other = server.issued(&bob, Kind::Key, "mail:read").await;
    other.facing(&any_door).get("/").await.is_refused(403, "insufficient-ability", LACKS);
    assert_eq!(enters(&all, &behind(&server, Guard::any_ability([]))).await, 403, "one of none is none");
    // What only an administrator grants is in no `*`.
    let reserved = behind(&server, Guard::ability("admin:read".parse().unwrap()));
    assert_eq!(enters(&all, &reserved).await, 403);
}

#[tokio::test]
async fn r28_staff_and_administrators_by_their_account_as_it_is_now() {
    let server = server().await;
    let (staff, account) = server.of_role("sue", Role::Staff).await;
    let (admin, _) = server.of_role("root", Role::Admin).await;
    let (staff_door, admin_door) = (behind(&server, Guard::staff()), behind(&server, Guard::admin()));
    let user = server.ada().await;
    user.clone().facing(&staff_door).get("/").await.is_refused(403, "staff-needed", "");
    user.facing(&admin_door).get("/").await.is_refused(403, "staff-needed", "");
    assert_eq!((enters(&staff, &staff_door).await, enters(&admin, &staff_door).await), (200, 200));
    staff.clone().facing(&admin_door).get("/").await.is_refused(403, "admin-needed", "");
    assert_eq!(enters(&admin, &admin_door).await, 200);

    let reads = server.issued(&account, Kind::Key, "admin:read").await.facing(&staff_door);
    assert_eq!(reads.get("/").await.status, 200);
    assert_eq!(reads.send(Method::POST, "/", axum::body::Body::empty()).await.status, 403);
    let plain = server.issued(&account, Kind::Key, "files:read").await;
    assert_eq!(enters(&plain, &staff_door).await, 403);

    let now = server.clock.now();
    server.authority.set_role(&account.subject, Role::User, &By::operator(), now).await.unwrap();
    assert_ne!(enters(&staff, &staff_door).await, 200, "at once");
    server.outages.store.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(enters(&admin, &admin_door).await, 503);
}

#[tokio::test]
async fn a_login_is_recent_until_the_very_instant_and_neither_renewing_nor_rotating_makes_it_so() {
    let server = server().await;
    let door = behind(&server, Guard::logged_in_within("5m".parse().unwrap()));
    let ada = server.ada().await;
    let challenge = r#"Bearer realm="counterfoil", error="insufficient_user_authentication", max_age="300""#;
    assert_eq!(enters(&ada, &door).await, 200);
    server.wait(5 * 60 * 1_000 - 1);
    assert_eq!(enters(&ada, &door).await, 200);
    server.wait(1);
    ada.clone().facing(&door).get("/").await.is_refused(401, "login-too-old", challenge);
    assert_eq!(ada.post("/v1/renew").await.status, 200);
    ada.clone().facing(&door).get("/").await.is_refused(401, "login-too-old", challenge);
    let rotated = ada.post("/v1/rotate").await.json();
    let rotated = server.token(rotated["token"].as_str().unwrap());
    rotated.facing(&door).get("/").await.is_refused(401, "login-too-old", challenge);
    assert_eq!(enters(&server.ada().await, &door).await, 200, "a login does");

    let bob = server.user("bob", PASSWORD).await;
    let key = server.issued(&bob, Kind::Key, "*").await;
    key.facing(&door).get("/").await.is_refused(401, "login-too-old", challenge);
}

#[tokio::test]
async fn r23_a_route_has_counts_of_its_own_for_each_subject_and_client() {
    let server = server().await;
    server.user("bob", PASSWORD).await;
    let once_more = |name| behind(&server, Guard::throttle(name, "2/m".parse().unwrap()));
    let (door, same, other) = (once_more("export"), once_more("export"), once_more("import"));
    let (ada, bob) = (server.ada().await, server.logged_in("bob", "default", "x").await);
    let adas_phone = server.logged_in("ada", "phone", "x").await;
    let adas_other = server.ada().await;
    assert_eq!(enters(&ada, &door).await, 200);
    assert_eq!(enters(&adas_other, &door).await, 200, "one subject has one count");
    let told = ada.clone().facing(&same).get("/").await;
    told.is_refused(429, "quota-exceeded", "");
    assert_eq!(told.header("retry-after"), "60");
    assert_eq!(told.header("ratelimit-policy"), "\"route\";q=2;w=60");
    assert_eq!(told.header("ratelimit"), "\"route\";r=0;t=60");
    for (actor, door) in [(&bob, &door), (&adas_phone, &door), (&ada, &other)] {
        assert_eq!(enters(actor, door).await, 200);
    }
    server.wait(59_999);
    assert_eq!(enters(&ada, &door).await, 429);
    server.wait(1);
    assert_eq!(enters(&ada, &door).await, 200, "what was refused did not count");
}

#[tokio::test]
async fn r23_a_clients_own_rate_is_held_by_the_layer_and_not_used_up_by_a_guard() {
    let server = server().await;
    server.client("slow", Policy { throttle: Some("2/m".parse().unwrap()), ..Policy::default() }).await;
    let door = behind(&server, Guard::throttle("x", "100/m".parse().unwrap()));
    let slow = server.logged_in("ada", "slow", "x").await;
    assert_eq!((enters(&slow, &door).await, enters(&slow, &door).await), (200, 200));
    let told = slow.facing(&door).get("/").await;
    told.is_refused(429, "quota-exceeded", "");
    assert_eq!(told.header("ratelimit-policy"), "\"client\";q=2;w=60");
}

#[tokio::test]
async fn r28_guards_around_each_other_must_all_agree() {
    let server = server().await;
    let app = Router::new()
        .route("/", get(async || "in"))
        .route_layer(Guard::ability("files:read".parse().unwrap()))
        .route_layer(Guard::clients(["web".parse().unwrap()]))
        .layer(server.http.layer());
    let bob = server.user("bob", PASSWORD).await;
    for (client, abilities, status) in
        [("web", "files:read", 200), ("web", "mail:read", 403), ("phone", "files:read", 403)]
    {
        let key = server.issued_on(client, &bob, Kind::Key, abilities).await;
        assert_eq!(enters(&key, &app).await, status, "{client} {abilities}");
    }
}

#[tokio::test]
async fn r28_a_handler_decides_by_the_same_rules_as_a_guard() {
    async fn handler(who: Authenticated) -> Result<String, Problem> {
        who.of_client(&["web".parse().unwrap()])?;
        who.not_of_client(&["phone".parse().unwrap()])?;
        who.may_any(&["files:read".parse().unwrap()])?;
        who.may_all(&["files:read".parse().unwrap()])?;
        who.logged_in_within("5m".parse().unwrap())?;
        who.throttle(&Arc::from("handler"), "1/m".parse().unwrap()).await?;
        who.staff(&"admin:read".parse().unwrap()).await?;
        let by = who.admin(&"admin:read".parse().unwrap()).await?;
        Ok(format!("{:?}", by.rank()))
    }
    let server = server().await;
    server.of_role("root", Role::Admin).await;
    let app = Router::new().route("/", get(handler)).layer(server.http.layer());
    let root = server.logged_in("root", "web", "x").await.facing(&app);
    assert_eq!(root.get("/").await.text(), "Admin");
    root.get("/").await.is_refused(429, "quota-exceeded", "");
    server.wait(60_000);
    server.wait(240_000);
    assert_eq!(root.get("/").await.status, 401, "too long ago");
    server.ada().await.facing(&app).get("/").await.is_refused(403, "client-not-allowed", "");
    let ada = server.logged_in("ada", "web", "x").await.facing(&app);
    ada.get("/").await.is_refused(403, "staff-needed", "");
}
