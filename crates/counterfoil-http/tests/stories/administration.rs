//! What staff do over HTTP, and what they may not.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::{Method, header};
use counterfoil_core::account::Role;
use counterfoil_core::{Account, Kind};
use counterfoil_http::{Access, ROUTES};
use serde_json::{Value, json};

use crate::world::{Actor, BARE, PASSWORD, TestServer};

/// A deployment with ada, a user; sam, who is staff; and root, an administrator.
struct Office {
    server: TestServer,
    ada: Actor,
    sam: Actor,
    root: Actor,
    accounts: [Account; 3],
}

impl Office {
    async fn open() -> Office {
        let server = TestServer::with_ada().await;
        let ada = server.ada().await;
        let (sam, staff) = server.of_role("sam", Role::Staff).await;
        let (root, admin) = server.of_role("root", Role::Admin).await;
        let user = server.authority.user("ada").await.unwrap();
        Office { server, ada, sam, root, accounts: [user, staff, admin] }
    }

    fn path(&self, who: usize) -> String {
        format!("/v1/admin/users/{}", self.accounts[who].subject)
    }

    async fn default_client(&self) -> String {
        let clients = self.sam.get("/v1/admin/clients").await.json();
        format!("/v1/admin/clients/{}", clients["items"][0]["id"].as_str().unwrap())
    }

    /// The path of a route of staff, pointed at ada, her token or the default client.
    async fn concrete(&self, path: &str) -> String {
        let id = match path.split('/').nth(3) {
            Some("users") => self.accounts[0].subject.to_string(),
            Some("tokens") => self.ada.id.clone(),
            _ => self.default_client().await.rsplit('/').next().unwrap().to_owned(),
        };
        path.replace("{id}", &id)
    }
}

const USER: usize = 0;
const STAFF: usize = 1;
const ADMIN: usize = 2;

fn names(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|item| item["username"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn r28_every_route_of_staff_asks_who_it_is_before_anything_else() {
    let office = Office::open().await;
    let eve = office.server.user("eve", PASSWORD).await;
    let everything = "* admin:read admin:write";
    let boastful = office.server.issued(&eve, Kind::Key, everything).await;
    let reader = office.server.issued(&office.accounts[STAFF], Kind::Key, "* admin:read").await;
    let writer = office.server.issued(&office.accounts[STAFF], Kind::Key, "* admin:write").await;
    for route in ROUTES {
        let Access::Staff(ability) = route.access else {
            assert!(!route.path.starts_with("/v1/admin"), "{} is for staff", route.path);
            continue;
        };
        let ability = ability.as_str();
        let reads = route.method == Method::GET;
        assert_eq!(ability, if reads { "admin:read" } else { "admin:write" }, "{}", route.path);
        for path in [office.concrete(route.path).await, route.path.replace("{id}", "nobody")] {
            for body in ["", "{", "{\"name\": null}"] {
                let send = |actor: &Actor| {
                    let actor = actor.clone();
                    let (method, path) = (route.method.clone(), path.clone());
                    async move { actor.typed(method, &path, "application/json", Body::from(body)).await }
                };
                send(&office.server.anonymous()).await.is_problem(401, "token-missing", BARE);
                send(&office.ada).await.is_problem(403, "staff-needed", "");
                send(&boastful).await.is_problem(403, "staff-needed", "");
                let challenge = format!(r#"Bearer realm="counterfoil", error="insufficient_scope", scope="{ability}""#);
                let without = if reads { &writer } else { &reader };
                send(without).await.is_problem(403, "insufficient-ability", &challenge);
            }
        }
    }
    assert_eq!(reader.get("/v1/admin/users").await.status, 200);
    assert_eq!(writer.delete(&format!("{}/tokens", office.path(USER))).await.status, 204);
}

#[tokio::test]
async fn r28_what_is_for_administrators_alone_is_refused_to_staff() {
    let office = Office::open().await;
    let sam = &office.sam;
    let client = office.default_client().await;
    let root_token = format!("/v1/admin/tokens/{}", office.root.id);
    for who in [STAFF, ADMIN] {
        let (path, id) = (office.path(who), office.accounts[who].subject.to_string());
        for (method, path, body) in [
            (Method::PATCH, path.clone(), json!({"first_name": "x"})),
            (Method::PATCH, path.clone(), json!({"active": false})),
            (Method::DELETE, path.clone(), json!({})),
            (Method::POST, format!("{path}/unlock"), json!({})),
            (Method::DELETE, format!("{path}/tokens"), json!({})),
            (Method::GET, format!("{path}/export"), json!({})),
            (Method::POST, "/v1/admin/tokens".to_owned(), json!({"user": id})),
            (Method::POST, "/v1/admin/tokens/revoke".to_owned(), json!({"user": id, "dry_run": true})),
            (Method::POST, "/v1/admin/tokens/revoke".to_owned(), json!({"user": id, "dry_run": false})),
        ] {
            sam.json(method, &path, &body).await.is_problem(403, "admin-needed", "");
        }
    }
    let ada = office.accounts[USER].subject.to_string();
    for (method, path, body) in [
        (Method::PATCH, office.path(USER), json!({"role": "staff"})),
        (Method::POST, "/v1/admin/users".to_owned(), json!({"username": "x", "role": "admin"})),
        (Method::POST, "/v1/admin/tokens".to_owned(), json!({"user": ada, "abilities": ["tokens:revoke"]})),
        (Method::POST, "/v1/admin/tokens/revoke".to_owned(), json!({"kind": "login", "dry_run": true})),
        (Method::DELETE, "/v1/admin/tokens?all=true".to_owned(), json!({})),
        (Method::PATCH, root_token.clone(), json!({"name": "x"})),
        (Method::DELETE, root_token, json!({})),
        (Method::POST, "/v1/admin/clients".to_owned(), json!({"name": "x"})),
        (Method::PATCH, client.clone(), json!({"allow_login": false})),
        (Method::DELETE, client.clone(), json!({})),
        (Method::DELETE, format!("{client}/tokens"), json!({})),
    ] {
        sam.json(method.clone(), &path, &body).await.is_problem(403, "admin-needed", "");
    }
    assert_eq!(office.root.get("/v1/me").await.status, 200, "nothing was done");
    assert_eq!(office.ada.get("/v1/me").await.status, 200);
}

#[tokio::test]
async fn a_user_is_made_shown_changed_and_deleted() {
    let office = Office::open().await;
    let body = json!({
        "username": "Zoë", "password": PASSWORD, "email": "zoe@example.org", "email_confirmed": true,
        "first_name": "Zoë", "last_name": "Ray",
    });
    let made = office.sam.json(Method::POST, "/v1/admin/users", &body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/admin/users/{id}");
    assert_eq!(made.header("location"), path);
    let mut expected = json!({
        "id": id, "username": "Zoë", "email": "zoe@example.org", "email_confirmed": true, "first_name": "Zoë",
        "last_name": "Ray", "attributes": {}, "locale": null, "active": true, "role": "user",
        "created_at": "2026-11-20T11:00:00.000Z", "last_login_at": null, "rotation_locked": false,
    });
    assert_eq!(made.json(), expected);
    let zoe = office.server.logged_in("zoe@example.org", "default", "phone").await;

    let change = json!({
        "email": "z@example.org", "last_name": "", "attributes": {"plan": 7}, "locale": "pt-BR", "active": false,
    });
    let changed = office.sam.json(Method::PATCH, &path, &change).await;
    for (field, value) in [
        ("email", json!("z@example.org")),
        ("email_confirmed", json!(false)),
        ("last_name", json!("")),
        ("attributes", json!({"plan": 7})),
        ("locale", json!("pt-BR")),
        ("active", json!(false)),
        ("last_login_at", json!("2026-11-20T11:00:00.000Z")),
    ] {
        expected[field] = value;
    }
    assert_eq!((changed.status, changed.json()), (200, expected.clone()));
    zoe.get("/v1/me").await.is_invalid_token();
    let again = json!({"active": true, "email": null, "locale": null});
    office.sam.json(Method::PATCH, &path, &again).await;
    for (field, value) in [("active", json!(true)), ("email", json!(null)), ("locale", json!(null))] {
        expected[field] = value;
    }
    expected["failed_logins"] = json!({"failed": 0, "last": null});
    assert_eq!(office.sam.get(&path).await.json(), expected);
    assert_eq!(zoe.get("/v1/me").await.status, 200);

    office.root.json(Method::PATCH, &path, &json!({"role": "staff"})).await;
    zoe.get("/v1/me").await.is_invalid_token();
    let zoe = office.server.logged_in("Zoë", "default", "phone").await;
    assert_eq!(zoe.get("/v1/admin/users").await.status, 200);
    office.root.delete(&path).await.is_done();
    zoe.get("/v1/me").await.is_invalid_token();
    office.sam.get(&path).await.is_problem(404, "not-found", "");
    office.root.delete(&path).await.is_problem(404, "not-found", "");
}

#[tokio::test]
async fn a15_what_staff_may_not_set_is_refused_and_nothing_is_written() {
    let office = Office::open().await;
    let before = office.root.get(&office.path(USER)).await.json();
    for field in [
        "id",
        "username",
        "password",
        "is_staff",
        "staff",
        "admin",
        "created_at",
        "last_login_at",
        "rotation_locked",
        "email_verified",
        "failed_logins",
    ] {
        let body = json!({"first_name": "written", "active": false, field: true});
        let answer = office.root.json(Method::PATCH, &office.path(USER), &body).await;
        answer.is_about(400, "invalid-request", field);
        let body = json!({"username": "new", "first_name": "written", field: true});
        if !matches!(field, "username" | "password") {
            let answer = office.root.json(Method::POST, "/v1/admin/users", &body).await;
            answer.is_about(400, "invalid-request", field);
        }
    }
    for (field, value) in [
        ("email", json!("no address")),
        ("email_confirmed", json!(true)),
        ("first_name", json!("x".repeat(151))),
        ("last_name", json!("a\nb")),
        ("attributes", json!({"x": "y".repeat(4_096)})),
        ("attributes", json!([])),
        ("locale", json!("not a tag")),
        ("active", json!("no")),
        ("role", json!("king")),
    ] {
        let mut body = json!({"first_name": "written"});
        body[field] = value;
        let answer = office.root.json(Method::PATCH, &office.path(USER), &body).await;
        answer.is_about(400, "invalid-value", field);
    }
    // The whole of it is judged before any of it is written.
    let body = json!({"first_name": "written", "active": false, "role": "admin"});
    office.sam.json(Method::PATCH, &office.path(USER), &body).await.is_problem(403, "admin-needed", "");
    assert_eq!(office.root.get(&office.path(USER)).await.json(), before);
    office.ada.json(Method::PATCH, "/v1/me", &json!({"role": "admin"})).await.is_about(400, "invalid-request", "role");
    assert_eq!(names(&office.root.get("/v1/admin/users").await.json()), ["ada", "root", "sam"]);
}

#[tokio::test]
async fn r18_nobody_chooses_the_password_of_an_account_that_is_there() {
    let chosen = "chosen by somebody else";
    for route in ROUTES.iter().filter(|route| matches!(route.access, Access::Staff(_)) && route.path.contains("{id}")) {
        let office = Office::open().await;
        let path = office.concrete(route.path).await;
        let answer = office.root.json(route.method.clone(), &path, &json!({"password": chosen})).await;
        if matches!(route.method, Method::PATCH) {
            answer.is_about(400, "invalid-request", "password");
        }
        let login = json!({"username": "ada", "password": chosen});
        let refused = office.server.anonymous().json(Method::POST, "/v1/login", &login).await;
        refused.is_problem(401, "invalid-credentials", BARE);
    }
    let office = Office::open().await;
    let short = json!({"username": "new", "password": "1234567"});
    office.sam.json(Method::POST, "/v1/admin/users", &short).await.is_about(400, "invalid-value", "password");
    let without = office.sam.json(Method::POST, "/v1/admin/users", &json!({"username": "new"})).await;
    assert_eq!(without.status, 201);
    for password in ["", "!", "null"] {
        let login = json!({"username": "new", "password": password});
        assert_ne!(office.server.anonymous().json(Method::POST, "/v1/login", &login).await.status, 200);
    }
}

#[tokio::test]
async fn users_are_found_by_what_is_known_of_them() {
    let office = Office::open().await;
    for name in ["a%", "a_", "a'", "Adam", "bob"] {
        office.server.user(name, PASSWORD).await;
    }
    let found = async |query: &str| {
        let page = office.sam.get(&format!("/v1/admin/users?{query}")).await;
        assert_eq!(page.status, 200, "{query}: {}", page.text());
        let page = page.json();
        names(&page).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(found("name=AD").await, ["ada", "Adam"]);
    assert_eq!(found("name=a%25").await, ["a%"], "a47: text is text");
    assert_eq!(found("name=a_").await, ["a_"]);
    assert_eq!(found("name=a%27").await, ["a'"]);
    assert_eq!(found("role=staff").await, ["sam"]);
    assert_eq!(found("role=admin&active=false").await, [""; 0]);
    office.sam.json(Method::PATCH, &office.path(USER), &json!({"email": "Ada@example.org", "active": false})).await;
    assert_eq!(found("email=ada%40EXAMPLE.org").await, ["ada"]);
    assert_eq!(found("active=false").await, ["ada"]);

    let mut seen = Vec::new();
    let mut path = "/v1/admin/users?limit=3".to_owned();
    loop {
        let page = office.sam.get(&path).await.json();
        seen.extend(names(&page).into_iter().map(str::to_owned));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/admin/users?limit=3&cursor={next}");
    }
    assert_eq!(seen, ["a%", "a'", "a_", "ada", "Adam", "bob", "root", "sam"]);
    for (query, kind, field) in [
        ("limit=0", "invalid-value", "limit"),
        ("limit=201", "invalid-value", "limit"),
        ("role=king", "invalid-value", "role"),
        ("email=x", "invalid-value", "email"),
        ("sort=name", "invalid-request", "sort"),
        ("active=yes", "invalid-value", "active"),
    ] {
        office.sam.get(&format!("/v1/admin/users?{query}")).await.is_about(400, kind, field);
    }
}

#[tokio::test]
async fn a47_a_cursor_leads_on_in_its_own_list_and_for_its_own_reader_alone() {
    let office = Office::open().await;
    let lists = ["/v1/admin/users", "/v1/admin/tokens", "/v1/admin/audit"];
    for list in lists {
        let next = office.sam.get(&format!("{list}?limit=1")).await.json()["next"].as_str().unwrap().to_owned();
        assert_eq!(office.sam.get(&format!("{list}?cursor={next}")).await.status, 200);
        office.root.get(&format!("{list}?cursor={next}")).await.is_about(400, "invalid-value", "cursor");
        for other in lists.into_iter().filter(|other| *other != list).chain(["/v1/tokens"]) {
            office.sam.get(&format!("{other}?cursor={next}")).await.is_about(400, "invalid-value", "cursor");
        }
        let (place, tag) = next.split_once('.').unwrap();
        for forged in [format!("{place}00.{tag}"), format!("{}.{tag}", "ff".repeat(8)), format!("{place}.{tag}0")] {
            office.sam.get(&format!("{list}?cursor={forged}")).await.is_about(400, "invalid-value", "cursor");
        }
    }
}

#[tokio::test]
async fn a13_staff_see_everybodys_tokens_and_users_still_see_their_own_alone() {
    let office = Office::open().await;
    let key = office.ada.json(Method::POST, "/v1/keys", &json!({"name": "robot"})).await.json();
    let path = format!("/v1/admin/tokens/{}", key["id"].as_str().unwrap());
    let record = office.sam.get(&path).await;
    assert_eq!(
        record.json(),
        json!({
            "id": key["id"], "kind": "key", "subject": office.accounts[USER].subject, "username": "ada",
            "client": "default", "name": "robot", "abilities": ["*"], "metadata": {}, "state": "live",
            "issued_at": "2026-11-20T11:00:00.000Z", "expires_at": null, "revoked_at": null,
            "first_seen": {"at": "2026-11-20T11:00:00.000Z", "ip": "192.0.2.7", "user_agent": null},
            "last_seen": null,
        })
    );
    office.ada.get(&path).await.is_problem(403, "staff-needed", "");
    for id in [&office.sam.id, &office.root.id] {
        office.ada.delete(&format!("/v1/tokens/{id}")).await.is_problem(404, "not-found", "");
        office.sam.delete(&format!("/v1/keys/{id}")).await.is_problem(404, "not-found", "");
    }
    let renamed = office.sam.json(Method::PATCH, &path, &json!({"name": "ci"})).await;
    assert_eq!((renamed.status, &renamed.json()["name"]), (200, &json!("ci")));
    office.sam.delete(&path).await.is_done();
    office.sam.delete(&path).await.is_done();
    assert_eq!(office.sam.get(&path).await.json()["state"], "revoked");
    office.server.token(key["token"].as_str().unwrap()).get("/v1/me").await.is_invalid_token();
    for unknown in ["x", "019a9f3c-0000-7000-8000-000000000000"] {
        let path = format!("/v1/admin/tokens/{unknown}");
        office.root.get(&path).await.is_problem(404, "not-found", "");
        office.root.delete(&path).await.is_problem(404, "not-found", "");
        office.root.json(Method::PATCH, &path, &json!({"name": "x"})).await.is_problem(404, "not-found", "");
    }
}

#[tokio::test]
async fn tokens_are_found_and_ended_by_what_they_have_in_common() {
    let office = Office::open().await;
    let ada = office.accounts[USER].subject.to_string();
    office.server.wait(60_000);
    let elsewhere = office.server.anonymous().at("203.0.113.9");
    let login = json!({"username": "ada", "password": PASSWORD});
    let late = elsewhere.json(Method::POST, "/v1/login", &login).await.json();
    let key = office.ada.json(Method::POST, "/v1/keys", &json!({})).await.json();
    let ids = async |query: &str| {
        let page = office.root.get(&format!("/v1/admin/tokens?{query}")).await.json();
        page["items"].as_array().unwrap().iter().map(|item| item["id"].to_string()).collect::<BTreeSet<_>>()
    };
    let set = |ids: &[&Value]| ids.iter().map(|id| id.to_string()).collect::<BTreeSet<_>>();
    let first = json!(office.ada.id);
    let of_ada = format!("user={ada}");
    assert_eq!(ids(&of_ada).await, set(&[&first, &late["id"], &key["id"]]));
    assert_eq!(ids(&format!("{of_ada}&kind=key")).await, set(&[&key["id"]]));
    assert_eq!(ids("ip=203.0.113.9").await, set(&[&late["id"]]));
    assert_eq!(ids(&format!("{of_ada}&issued_before=2026-11-20T11:01:00Z")).await, set(&[&first]));
    assert_eq!(ids("client=nobody").await, set(&[]));
    office.root.get("/v1/admin/tokens?ip=x").await.is_about(400, "invalid-value", "ip");
    office.root.get("/v1/admin/tokens?issued_before=x").await.is_about(400, "invalid-value", "issued_before");

    let revoke = async |body: Value| office.sam.json(Method::POST, "/v1/admin/tokens/revoke", &body).await;
    let filter = json!({"user": ada, "kind": "login", "dry_run": true});
    assert_eq!(revoke(filter).await.json(), json!({"matched": 2}));
    assert_eq!(office.ada.get("/v1/me").await.status, 200, "a preview ends nothing");
    let unsaid = revoke(json!({"user": ada})).await;
    unsaid.is_about(400, "invalid-request", "dry_run");
    let nothing = office.root.json(Method::POST, "/v1/admin/tokens/revoke", &json!({"dry_run": false})).await;
    nothing.is_problem(400, "invalid-request", "");
    assert!(nothing.text().contains("DELETE /v1/admin/tokens?all=true"), "{}", nothing.text());
    let done = revoke(json!({"user": ada, "issued_before": "2026-11-20T11:01:00Z", "dry_run": false})).await;
    assert_eq!((done.status, done.json()), (200, json!({"revoked": 1})));
    office.ada.get("/v1/me").await.is_invalid_token();
    assert_eq!(ids(&format!("{of_ada}&live=true")).await, set(&[&late["id"], &key["id"]]));
}

#[tokio::test]
async fn a_user_a_client_and_everybody_are_signed_out_by_one_order() {
    let office = Office::open().await;
    let key = office.ada.json(Method::POST, "/v1/keys", &json!({})).await.json();
    let key = office.server.token(key["token"].as_str().unwrap());
    office.sam.delete(&format!("{}/tokens?keys=perhaps", office.path(USER))).await.is_about(
        400,
        "invalid-value",
        "keys",
    );
    office.sam.delete(&format!("{}/tokens", office.path(USER))).await.is_done();
    office.ada.get("/v1/me").await.is_invalid_token();
    assert_eq!(key.get("/v1/me").await.status, 200);
    office.sam.delete(&format!("{}/tokens?keys=true", office.path(USER))).await.is_done();
    key.get("/v1/me").await.is_invalid_token();

    let made = office.root.json(Method::POST, "/v1/admin/clients", &json!({"name": "app"})).await;
    let (ada, app) = (office.server.ada().await, office.server.logged_in("ada", "app", "x").await);
    office.root.delete(&format!("{}/tokens", made.header("location"))).await.is_done();
    app.get("/v1/me").await.is_invalid_token();
    assert_eq!(ada.get("/v1/me").await.status, 200);

    for path in ["/v1/admin/tokens", "/v1/admin/tokens?all=false"] {
        office.root.delete(path).await.is_about(400, "invalid-request", "all");
    }
    office.root.delete("/v1/admin/tokens?all=true").await.is_done();
    for actor in [&ada, &office.sam, &office.root] {
        actor.get("/v1/me").await.is_invalid_token();
    }
    for path in ["/v1/admin/users/nobody/tokens", "/v1/admin/clients/nobody/tokens"] {
        let (root, _) = office.server.of_role(&format!("root of {}", path.len()), Role::Admin).await;
        root.delete(path).await.is_problem(404, "not-found", "");
    }
}

#[tokio::test]
async fn a_token_is_issued_for_a_user_and_its_secret_shown_once() {
    let office = Office::open().await;
    let ada = office.accounts[USER].subject.to_string();
    let issue = async |body: Value| office.root.json(Method::POST, "/v1/admin/tokens", &body).await;
    let made = issue(json!({"user": ada, "kind": "key", "name": "svc", "abilities": ["tokens:introspect"]})).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let token = made.json();
    assert_eq!(made.header("location"), format!("/v1/admin/tokens/{}", token["id"].as_str().unwrap()));
    assert_eq!((&token["kind"], &token["expires_at"], &token["name"]), (&json!("key"), &json!(null), &json!("svc")));
    let shown = office.root.get(made.header("location")).await;
    assert!(!shown.text().contains(token["token"].as_str().unwrap()));
    let service = office.server.token(token["token"].as_str().unwrap());
    assert_eq!(service.form("/v1/introspect", "token=x").await.status, 200);

    let login = issue(json!({"user": ada})).await.json();
    assert_eq!((&login["kind"], &login["expires_at"]), (&json!("login"), &json!("2026-12-20T11:00:00.000Z")));
    assert_eq!(issue(json!({"user": ada, "expires_at": null})).await.json()["expires_at"], json!(null));
    issue(json!({"user": "nobody"})).await.is_problem(404, "not-found", "");
    issue(json!({"user": ada, "client": "nobody"})).await.is_about(400, "unknown-client", "client");
    issue(json!({"user": ada, "expires_at": "2026-11-20T11:00:00Z"})).await.is_about(
        400,
        "invalid-value",
        "expires_at",
    );
    office.sam.json(Method::PATCH, &office.path(USER), &json!({"active": false})).await;
    issue(json!({"user": ada})).await.is_about(409, "conflict", "user");
}

#[tokio::test]
async fn a_client_is_registered_changed_in_part_and_deleted() {
    let office = Office::open().await;
    let policy = json!({"ttl": "12h", "cap": {"limit": 3, "at_cap": "evict_oldest"}, "throttle": "100/h"});
    let body = json!({"name": "app", "policy": policy});
    let made = office.root.json(Method::POST, "/v1/admin/clients", &body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let path = made.header("location").to_owned();
    let mut client = made.json();
    assert_eq!(path, format!("/v1/admin/clients/{}", client["id"].as_str().unwrap()));
    assert_eq!(
        client["policy"],
        json!({
            "ttl": "12h", "max_lifetime": null, "renewal": "on_request",
            "cap": {"limit": 3, "at_cap": "evict_oldest"}, "reissue": "new", "throttle": "100/h", "prefix": "cf_",
        })
    );
    assert_eq!((&client["allow_login"], &client["metadata"]), (&json!(true), &json!({})));

    let change = json!({"name": "App 2", "policy": {"ttl": null, "throttle": null, "reissue": "replace"}});
    let changed = office.root.json(Method::PATCH, &path, &change).await;
    client["name"] = json!("App 2");
    for (rule, value) in [("ttl", json!(null)), ("throttle", json!(null)), ("reissue", json!("replace"))] {
        client["policy"][rule] = value;
    }
    assert_eq!((changed.status, changed.json()), (200, client.clone()));
    assert_eq!(office.sam.get(&path).await.json(), client);
    let all = office.sam.get("/v1/admin/clients").await.json();
    assert_eq!(all["items"].as_array().unwrap().len(), 2);

    let patch = async |body: Value| office.root.json(Method::PATCH, &path, &body).await;
    patch(json!({"name": "default"})).await.is_about(409, "name-taken", "name");
    patch(json!({"name": ""})).await.is_about(400, "invalid-value", "name");
    patch(json!({"policy": {"ttl": "0s"}})).await.is_about(400, "invalid-value", "policy");
    patch(json!({"policy": {"tll": "1s"}})).await.is_about(400, "invalid-request", "tll");
    patch(json!({"policy": {"ttl": "1h", "max_lifetime": "1m"}})).await.is_about(400, "invalid-value", "policy");
    patch(json!({"policy": {"reissue": "same", "cap": null}})).await.is_problem(409, "conflict", "");
    patch(json!({"epoch": 0})).await.is_about(400, "invalid-request", "epoch");
    assert_eq!(office.sam.get(&path).await.json(), client);

    let app = office.server.logged_in("ada", "App 2", "x").await;
    office.root.delete(&path).await.is_done();
    app.get("/v1/me").await.is_invalid_token();
    office.root.delete(&path).await.is_problem(404, "not-found", "");
    office.root.json(Method::PATCH, &path, &json!({})).await.is_problem(404, "not-found", "");
    office.root.delete(&office.default_client().await).await.is_problem(409, "conflict", "");
}

#[tokio::test]
async fn failed_logins_are_shown_and_forgotten() {
    let office = Office::open().await;
    let (ada, wrong) = (office.path(USER), json!({"username": "ada", "password": "wrong"}));
    for _ in 0..6 {
        office.server.anonymous().json(Method::POST, "/v1/login", &wrong).await;
    }
    let right = json!({"username": "ada", "password": PASSWORD});
    office.server.anonymous().json(Method::POST, "/v1/login", &right).await.is_problem(429, "too-many-attempts", "");
    let shown = office.sam.get(&ada).await.json();
    assert_eq!(shown["failed_logins"]["failed"], 5);
    assert_eq!(shown["failed_logins"]["last"], "2026-11-20T11:00:00.000Z");
    office.sam.post(&format!("{ada}/unlock")).await.is_done();
    assert_eq!(office.server.anonymous().json(Method::POST, "/v1/login", &right).await.status, 200);
    office.sam.post("/v1/admin/users/nobody/unlock").await.is_problem(404, "not-found", "");
}

#[tokio::test]
async fn what_was_done_is_in_the_audit_log_and_found_there() {
    let office = Office::open().await;
    let ada = office.accounts[USER].subject.to_string();
    let sam = office.accounts[STAFF].subject.to_string();
    office.server.wait(1_000);
    let agent = office.sam.clone().with(header::USER_AGENT, "Desk/1");
    agent.json(Method::PATCH, &office.path(USER), &json!({"first_name": "Ada"})).await;
    let entries = async |query: &str| {
        let page = office.sam.get(&format!("/v1/admin/audit?{query}")).await;
        assert_eq!(page.status, 200, "{}", page.text());
        page.json()["items"].as_array().unwrap().clone()
    };
    let mut newest = entries("limit=1").await.remove(0);
    assert!(newest["id"].take().as_u64().is_some());
    assert_eq!(
        newest,
        json!({
            "id": null, "at": "2026-11-20T11:00:01.000Z", "event": "account_changed", "actor": "holder", "by": sam,
            "by_token": office.sam.id, "subject": ada, "client": null, "token": null, "kind": null, "username": null,
            "detail": null, "ip": "192.0.2.7", "user_agent": "Desk/1", "times": 1,
        })
    );
    let count = async |query: &str| entries(query).await.len();
    assert_eq!(count(&format!("by={sam}&event=account_changed")).await, 1);
    assert_eq!(count(&format!("subject={ada}&event=logged_in")).await, 1);
    assert_eq!(count(&format!("token={}&event=logged_in", office.ada.id)).await, 1);
    assert_eq!(count("since=2026-11-20T11:00:01Z").await, 1);
    assert_eq!(count("until=2026-11-20T11:00:01Z&event=account_changed").await, 0);
    assert_eq!(count("event=account_changed&ip=192.0.2.8").await, 0);
    assert_eq!(count("event=%27%20or%201").await, 0, "a47: text is text");
    assert!(count("client=default").await >= 3);
    office.sam.get("/v1/admin/audit?limit=1001").await.is_about(400, "invalid-value", "limit");
    office.sam.get("/v1/admin/audit?format=xml").await.is_about(400, "invalid-value", "format");
    office.server.outages.store.store(true, Ordering::SeqCst);
    office.sam.get("/v1/admin/audit").await.is_problem(503, "unavailable", "");
}

#[tokio::test]
async fn a80_the_audit_log_is_a_file_for_spreadsheets_without_a_formula_of_a_strangers() {
    let office = Office::open().await;
    let formula = "=HYPERLINK(\"https://evil.example\";\"x\")";
    office.sam.json(Method::POST, "/v1/admin/users", &json!({"username": formula})).await;
    let body = json!({"username": formula, "password": "x"});
    let agent = office.server.anonymous().with(header::USER_AGENT, "@SUM(1+1)*cmd|' /C calc'!A0");
    agent.json(Method::POST, "/v1/login", &body).await;
    let file = office.sam.get("/v1/admin/audit?format=csv&limit=1").await;
    assert_eq!(file.status, 200);
    assert_eq!(file.header("content-type"), "text/csv; charset=utf-8; header=present");
    assert_eq!(file.header("content-disposition"), "attachment; filename=\"audit.csv\"");
    let (names, rows) = file.text().split_once("\r\n").unwrap();
    let columns = "id at event actor by by_token subject client token kind username detail ip user_agent times";
    assert_eq!(names.replace('"', "").split(',').collect::<Vec<_>>().join(" "), columns);
    assert_eq!(rows.matches("\r\n").count(), 1);
    assert!(rows.contains(r#","'=HYPERLINK(""https://evil.example"";""x"")","#), "{rows}");
    assert!(rows.contains(r#","'@SUM(1+1)*cmd|' /C calc'!A0","#), "{rows}");
    let next = format!("/v1/admin/audit?format=csv&limit=1&cursor={}", file.header("x-next-cursor"));
    let second = office.sam.get(&next).await;
    assert!(second.status == 200 && second.text() != file.text());
    let last = office.sam.get("/v1/admin/audit?format=csv&limit=1000").await;
    assert_eq!(last.header("x-next-cursor"), "");
}

#[tokio::test]
async fn all_that_is_kept_about_a_user_is_handed_out() {
    let office = Office::open().await;
    let dead = office.server.ada().await;
    dead.post("/v1/logout").await.is_done();
    let export = office.sam.get(&format!("{}/export", office.path(USER))).await;
    assert_eq!(export.status, 200, "{}", export.text());
    let export = export.json();
    assert_eq!(export["user"], office.sam.get(&office.path(USER)).await.json());
    let states: Vec<&Value> = export["tokens"].as_array().unwrap().iter().map(|token| &token["state"]).collect();
    assert_eq!(states, ["live", "revoked"]);
    let events = export["audit"].as_array().unwrap().iter().map(|entry| entry["event"].as_str().unwrap());
    assert!(events.collect::<BTreeSet<_>>().is_superset(&BTreeSet::from(["logged_in", "logged_out"])));
    assert_eq!(export["audit_next"], json!(null));
    let newest = office.sam.get("/v1/admin/audit?limit=1").await.json();
    assert_eq!(newest["items"][0]["event"], "account_exported", "and that it was is on record");
}

#[tokio::test]
async fn a17_no_route_of_staff_shows_a_digest_a_hash_or_a_secret() {
    let office = Office::open().await;
    let issued = office.root.json(Method::POST, "/v1/keys", &json!({"name": "k"})).await.json();
    for route in ROUTES.iter().filter(|route| matches!(route.access, Access::Staff(_)) && route.method == Method::GET) {
        let path = office.concrete(route.path).await;
        let answer = office.root.get(&path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let text = answer.text();
        for secret in [&office.ada.secret, &office.sam.secret, &office.root.secret, issued["token"].as_str().unwrap()] {
            assert!(!text.contains(secret));
        }
        for word in ["digest", "hash", "argon2", "secret", "sealed", "epoch", "stamped", "\"number\"", "password\""] {
            assert!(!text.to_lowercase().contains(word), "{word} in {path}: {text}");
        }
    }
}

#[tokio::test]
async fn an_owner_locks_the_secrets_of_their_tokens_and_nobody_else_does() {
    let office = Office::open().await;
    let (ada, locked) = (&office.ada, json!({"rotation_locked": true}));
    let answer = ada.json(Method::PATCH, "/v1/me", &locked).await;
    assert_eq!((answer.status, &answer.json()["rotation_locked"]), (200, &json!(true)));
    assert_eq!(ada.get("/v1/me").await.json()["rotation_locked"], true);
    ada.post("/v1/rotate").await.is_problem(403, "rotation-locked", "");
    let unlock = json!({"rotation_locked": false});
    let staff = office.root.json(Method::PATCH, &office.path(USER), &unlock).await;
    staff.is_about(400, "invalid-request", "rotation_locked");
    ada.json(Method::PATCH, "/v1/me", &json!({})).await.is_about(400, "invalid-request", "rotation_locked");
    assert_eq!(ada.json(Method::PATCH, "/v1/me", &unlock).await.status, 200);
    assert_eq!(ada.post("/v1/rotate").await.status, 200);
}
