//! Who may do what with whose: every route of the description, every kind of caller, every owner.
//!
//! The routes come from the OpenAPI document and the table behind it, what is expected from what each route declares. Only
//! how to ask rightly is written down here, a row for each route; a route without a row fails.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::Method;
use counterfoil_core::account::{Account, Role};
use counterfoil_core::{Ability, AccountStore, By, Clock, Kind, Policy, TokenDigest};
use counterfoil_http::{Access, ROUTES, Route, openapi};
use serde_json::{Value, json};

use crate::world::{Actor, Answer, BARE, PASSWORD, TestServer};

/// Everybody who might ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Without a token.
    Nobody,
    /// With a text that was never issued.
    Inventor,
    /// With a login token that died of age.
    Latecomer,
    /// With a login token of an account that has been disabled.
    Banned,
    /// With a login token.
    User,
    /// With an API key that may nothing.
    BareKey,
    /// With an API key that may what the route asks for, and nothing else.
    FittingKey,
    /// With an API key that may everything but that.
    OtherKey,
    /// With a login token of somebody on the staff.
    Staff,
    /// With a login token of an administrator.
    Admin,
    /// With an API key that speaks for a service.
    Service,
}

impl Who {
    const ALL: [Who; 11] = [
        Who::Nobody,
        Who::Inventor,
        Who::Latecomer,
        Who::Banned,
        Who::User,
        Who::BareKey,
        Who::FittingKey,
        Who::OtherKey,
        Who::Staff,
        Who::Admin,
        Who::Service,
    ];

    fn kind(self) -> Kind {
        match self {
            Who::BareKey | Who::FittingKey | Who::OtherKey | Who::Service => Kind::Key,
            Who::Nobody | Who::Inventor | Who::Latecomer | Who::Banned | Who::User | Who::Staff | Who::Admin => {
                Kind::Login
            }
        }
    }

    fn role(self) -> Role {
        match self {
            Who::Staff => Role::Staff,
            Who::Admin => Role::Admin,
            Who::Nobody
            | Who::Inventor
            | Who::Latecomer
            | Who::Banned
            | Who::User
            | Who::BareKey
            | Who::FittingKey
            | Who::OtherKey
            | Who::Service => Role::User,
        }
    }

    /// What the caller's token may, as the operator would write it.
    fn abilities(self, route: &Route) -> String {
        match (self, wanted(route)) {
            (Who::BareKey, _) => String::new(),
            (Who::FittingKey, Some(wanted)) => wanted.as_str().to_owned(),
            (Who::FittingKey, None) => String::new(),
            (Who::OtherKey, wanted) => {
                let all = ["tokens:read", "tokens:write", "keys:read", "keys:write", "tokens:introspect", "files:read"];
                all.into_iter()
                    .filter(|other| wanted.is_none_or(|wanted| wanted.as_str() != *other))
                    .collect::<Vec<_>>()
                    .join(" ")
            }
            (Who::Service, _) => "tokens:introspect tokens:revoke".to_owned(),
            (Who::Nobody | Who::Inventor | Who::Latecomer | Who::Banned | Who::User | Who::Staff | Who::Admin, _) => {
                "*".to_owned()
            }
        }
    }

    /// What becomes of this caller at the door of this route.
    fn verdict(self, route: &Route, row: &Row) -> Verdict {
        match (route.access, self) {
            (Access::Open, _) => Verdict::In,
            (_, Who::Nobody) => Verdict::NoToken,
            (_, Who::Inventor | Who::Latecomer | Who::Banned) => Verdict::InvalidToken,
            (Access::Token, _) => Verdict::In,
            (Access::Ability(_) | Access::Service(_), Who::FittingKey) => Verdict::In,
            (Access::Ability(_) | Access::Service(_), Who::BareKey | Who::OtherKey) => Verdict::NotAllowed,
            (Access::Service(_), Who::Service) => Verdict::In,
            (Access::Service(_), Who::User | Who::Staff | Who::Admin) => Verdict::NotAllowed,
            (Access::Staff(_), Who::Admin) => Verdict::In,
            (Access::Staff(_), Who::Staff) if row.admin_only => Verdict::AdminNeeded,
            (Access::Staff(_), Who::Staff) => Verdict::In,
            // No ability makes staff of anybody.
            (Access::Staff(_), Who::User | Who::BareKey | Who::FittingKey | Who::OtherKey | Who::Service) => {
                Verdict::StaffNeeded
            }
            // A role is no ability, and no role widens what one may do with one's own tokens.
            (Access::Ability(wanted), Who::User | Who::Staff | Who::Admin) => Verdict::allowed(!wanted.is_reserved()),
            (Access::Ability(wanted), Who::Service) => {
                Verdict::allowed(["tokens:introspect", "tokens:revoke"].contains(&wanted.as_str()))
            }
        }
    }
}

/// What becomes of a caller at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    NoToken,
    InvalidToken,
    NotAllowed,
    StaffNeeded,
    AdminNeeded,
    In,
}

impl Verdict {
    fn allowed(yes: bool) -> Verdict {
        if yes { Verdict::In } else { Verdict::NotAllowed }
    }
}

/// Whose thing a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Own,
    Another,
    Nobodys,
}

/// What an id may be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thing {
    Token(Kind),
    User,
    Client,
}

/// How to ask a route rightly.
struct Row {
    route: &'static str,
    query: &'static str,
    body: Option<Value>,
    /// What the answer is then.
    gives: u16,
    /// The form that is sent in place of a body.
    form: Option<&'static str>,
    /// What kind of thing `{id}` is, where path or body have one.
    names: Option<Thing>,
    /// Whether staff are not enough.
    admin_only: bool,
    /// The refusal that API keys meet behind the door, because the route is for logins.
    keys_meet: Option<(u16, &'static str)>,
}

fn row(route: &'static str, gives: u16) -> Row {
    Row { route, query: "", body: None, gives, form: None, names: None, admin_only: false, keys_meet: None }
}

fn rows() -> Vec<Row> {
    // As somebody who can, whoever asks: the door of this route is open.
    let login = json!({"username": "ada", "password": PASSWORD});
    vec![
        Row { body: Some(login), ..row("POST /v1/login", 200) },
        row("POST /v1/logout", 204),
        row("POST /v1/logout-all", 204),
        row("GET /v1/tokens", 200),
        Row { query: "?keep=current", ..row("DELETE /v1/tokens", 204) },
        Row {
            body: Some(json!({"name": "mine"})),
            names: Some(Thing::Token(Kind::Login)),
            ..row("PATCH /v1/tokens/{id}", 200)
        },
        Row { names: Some(Thing::Token(Kind::Login)), ..row("DELETE /v1/tokens/{id}", 204) },
        Row { keys_meet: Some((403, "renewal-not-allowed")), ..row("POST /v1/renew", 200) },
        row("POST /v1/rotate", 200),
        row("GET /v1/keys", 200),
        Row { body: Some(json!({"name": "ci"})), ..row("POST /v1/keys", 201) },
        Row { names: Some(Thing::Token(Kind::Key)), ..row("DELETE /v1/keys/{id}", 204) },
        row("GET /v1/me", 200),
        Row { body: Some(json!({"rotation_locked": false})), ..row("PATCH /v1/me", 200) },
        Row { form: Some("token=x"), ..row("POST /v1/introspect", 200) },
        Row { form: Some("token=x"), ..row("POST /v1/revoke", 200) },
        row("GET /v1/admin/users", 200),
        Row { body: Some(json!({"username": "new"})), ..row("POST /v1/admin/users", 201) },
        Row { names: Some(Thing::User), ..row("GET /v1/admin/users/{id}", 200) },
        Row {
            body: Some(json!({"first_name": "x"})),
            names: Some(Thing::User),
            ..row("PATCH /v1/admin/users/{id}", 200)
        },
        Row { names: Some(Thing::User), ..row("DELETE /v1/admin/users/{id}", 204) },
        Row { names: Some(Thing::User), ..row("POST /v1/admin/users/{id}/unlock", 204) },
        Row { names: Some(Thing::User), ..row("DELETE /v1/admin/users/{id}/tokens", 204) },
        Row { names: Some(Thing::User), ..row("GET /v1/admin/users/{id}/export", 200) },
        row("GET /v1/admin/clients", 200),
        Row { body: Some(json!({"name": "new"})), admin_only: true, ..row("POST /v1/admin/clients", 201) },
        Row { names: Some(Thing::Client), ..row("GET /v1/admin/clients/{id}", 200) },
        Row {
            body: Some(json!({"allow_login": true})),
            names: Some(Thing::Client),
            admin_only: true,
            ..row("PATCH /v1/admin/clients/{id}", 200)
        },
        Row { names: Some(Thing::Client), admin_only: true, ..row("DELETE /v1/admin/clients/{id}", 204) },
        Row { names: Some(Thing::Client), admin_only: true, ..row("DELETE /v1/admin/clients/{id}/tokens", 204) },
        row("GET /v1/admin/tokens", 200),
        Row { body: Some(json!({"user": "{id}"})), names: Some(Thing::User), ..row("POST /v1/admin/tokens", 201) },
        Row { query: "?all=true", admin_only: true, ..row("DELETE /v1/admin/tokens", 204) },
        Row {
            body: Some(json!({"user": "{id}", "dry_run": false})),
            names: Some(Thing::User),
            ..row("POST /v1/admin/tokens/revoke", 200)
        },
        Row { names: Some(Thing::Token(Kind::Key)), ..row("GET /v1/admin/tokens/{id}", 200) },
        Row {
            body: Some(json!({"name": "x"})),
            names: Some(Thing::Token(Kind::Key)),
            ..row("PATCH /v1/admin/tokens/{id}", 200)
        },
        Row { names: Some(Thing::Token(Kind::Key)), ..row("DELETE /v1/admin/tokens/{id}", 204) },
        row("GET /v1/admin/audit", 200),
        row("GET /docs", 200),
        row("GET /healthz", 200),
        row("GET /readyz", 200),
        row("GET /openapi.json", 200),
    ]
}

fn name(route: &Route) -> String {
    format!("{} {}", route.method, route.path)
}

fn wanted(route: &Route) -> Option<&'static Ability> {
    match route.access {
        Access::Open | Access::Token => None,
        Access::Ability(wanted) | Access::Service(wanted) | Access::Staff(wanted) => Some(wanted),
    }
}

/// A deployment with eve, who asks, mallory, whose things are another's, and something of each.
struct Stage {
    server: TestServer,
    eve: Account,
    mallory: Account,
}

impl Stage {
    async fn set(who: Who) -> Stage {
        let server = TestServer::with_ada().await;
        let eve = server.user("eve", PASSWORD).await;
        let mallory = server.user("mallory", PASSWORD).await;
        if who.role() != Role::User {
            server.authority.set_role(&eve.subject, who.role(), &By::operator(), server.clock.now()).await.unwrap();
        }
        Stage { server, eve, mallory }
    }

    /// The caller, who is eve wherever it is anybody.
    async fn caller(&self, who: Who, route: &Route) -> Actor {
        let server = &self.server;
        match who {
            Who::Nobody => server.anonymous(),
            Who::Inventor => server.token("cf_0000000000000000000000000000000000000000000D1xGFI"),
            Who::Latecomer => {
                let late = server.logged_in("eve", "default", "old").await;
                server.wait(366 * 86_400_000);
                late
            }
            Who::Banned => {
                let banned = server.logged_in("eve", "default", "x").await;
                let now = server.clock.now();
                server.authority.disable_user(&self.eve.subject, &By::operator(), now).await.unwrap();
                banned
            }
            Who::User | Who::BareKey | Who::FittingKey | Who::OtherKey | Who::Staff | Who::Admin | Who::Service => {
                server.issued(&self.eve, who.kind(), &who.abilities(route)).await
            }
        }
    }

    /// What `row` is asked about: one's own, or for staff what is an ordinary user's.
    async fn subject_matter(&self, route: &Route, row: &Row) -> String {
        let whose = if matches!(route.access, Access::Staff(_)) { Whose::Another } else { Whose::Own };
        match row.names {
            None => String::new(),
            Some(Thing::Token(kind)) => self.thing(kind, whose).await.0,
            Some(Thing::User) => self.mallory.subject.to_string(),
            Some(Thing::Client) => {
                self.server.client("app", Policy::default()).await;
                self.server.authority.client(&"app".parse().unwrap()).await.unwrap().id.to_string()
            }
        }
    }

    /// Something that a path can name.
    async fn thing(&self, kind: Kind, whose: Whose) -> (String, Option<Actor>) {
        let owner = match whose {
            Whose::Own => &self.eve,
            Whose::Another => &self.mallory,
            Whose::Nobodys => return ("019a9f3c-0000-7000-8000-000000000000".to_owned(), None),
        };
        let thing = self.server.issued(owner, kind, "*").await;
        (thing.id.clone(), Some(thing))
    }
}

async fn ask(actor: &Actor, route: &Route, row: &Row, id: &str) -> Answer {
    let path = format!("{}{}", route.path.replace("{id}", id), row.query);
    match (&row.body, row.form) {
        (None, None) => actor.send(route.method.clone(), &path, Body::empty()).await,
        (None, Some(form)) => actor.form(&path, form).await,
        (Some(body), _) => {
            let body = body.to_string().replace("{id}", id);
            actor.typed(route.method.clone(), &path, "application/json", body).await
        }
    }
}

/// An answer without what differs from one request to the next.
fn comparable(answer: &Answer) -> (u16, Value, Vec<(String, String)>) {
    let mut document = answer.json();
    document["instance"] = Value::Null;
    let headers = answer.headers.iter().filter(|(name, _)| *name != "x-request-id");
    let headers = headers.map(|(name, value)| (name.to_string(), format!("{value:?}"))).collect();
    (answer.status, document, headers)
}

fn row_of<'a>(rows: &'a [Row], route: &Route) -> &'a Row {
    let found = rows.iter().find(|row| row.route == name(route));
    found.unwrap_or_else(|| panic!("{} has no row in the matrix", name(route)))
}

#[test]
fn r28_the_description_declares_who_may_for_every_route_of_the_matrix() {
    let document = openapi();
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let name = format!("{} {path}", method.to_uppercase());
            let route = ROUTES.iter().find(|route| self::name(route) == name).unwrap();
            let answers = |status: &str| operation["responses"].get(status).is_some();
            match route.access {
                Access::Open => {
                    assert_eq!(operation["security"], json!([{}]), "{name}");
                    assert!(!answers("401") || path == "/v1/login", "{name}");
                }
                Access::Token => {
                    assert_eq!(operation["security"], json!([{"bearer": []}]), "{name}");
                    assert!(answers("401"), "{name}");
                }
                Access::Ability(ability) | Access::Service(ability) | Access::Staff(ability) => {
                    assert_eq!(operation["security"], json!([{"bearer": [ability.as_str()]}]), "{name}");
                    assert!(operation["description"].as_str().unwrap().contains(ability.as_str()), "{name}");
                    assert!(answers("401") && answers("403"), "{name}");
                }
            }
            assert!(!path.contains("{id}") || answers("404"), "{name}: an id may be unknown");
            described.insert(name);
        }
    }
    let rows = rows();
    let known: BTreeSet<String> = rows.iter().map(|row| row.route.to_owned()).collect();
    assert_eq!(known.len(), rows.len(), "two rows for one route");
    assert_eq!(described, known, "described, and in the matrix");
    assert_eq!(described, ROUTES.iter().map(name).collect(), "described, and served");
    for route in ROUTES {
        let row = row_of(&rows, route);
        let within = row.body.as_ref().is_some_and(|body| body.to_string().contains("{id}"));
        assert_eq!(row.names.is_some(), within || route.path.contains('{'), "{}", name(route));
    }
}

#[tokio::test]
async fn r28_every_route_admits_those_it_declares_and_nobody_else() {
    let rows = rows();
    for route in ROUTES {
        let row = row_of(&rows, route);
        for who in Who::ALL {
            let stage = Stage::set(who).await;
            let id = stage.subject_matter(route, row).await;
            let caller = stage.caller(who, route).await;
            let answer = ask(&caller, route, row, &id).await;
            let asked = format!("{} by {who:?}: {}", name(route), answer.text());
            match who.verdict(route, row) {
                Verdict::NoToken => answer.is_problem(401, "token-missing", BARE),
                Verdict::InvalidToken => answer.is_invalid_token(),
                Verdict::NotAllowed => {
                    assert_eq!(answer.status, 403, "{asked}");
                    assert_eq!(answer.json()["type"], "urn:counterfoil:problem:insufficient-ability", "{asked}");
                    let scope = format!("scope=\"{}\"", wanted(route).unwrap().as_str());
                    assert!(answer.header("www-authenticate").contains(&scope), "{asked}");
                }
                Verdict::StaffNeeded => answer.is_problem(403, "staff-needed", ""),
                Verdict::AdminNeeded => answer.is_problem(403, "admin-needed", ""),
                Verdict::In => match row.keys_meet {
                    Some((status, slug)) if who.kind() == Kind::Key => answer.is_problem(status, slug, ""),
                    Some(_) | None => assert_eq!(answer.status, row.gives, "{asked}"),
                },
            }
        }
    }
}

#[tokio::test]
async fn a13_whoever_asks_another_users_thing_is_answered_as_one_that_never_was() {
    let rows = rows();
    let mut pairs = 0;
    for route in ROUTES {
        let row = row_of(&rows, route);
        // Staff look after what is others'; see administration.rs.
        let (Some(Thing::Token(kind)), false) = (row.names, matches!(route.access, Access::Staff(_))) else { continue };
        for who in Who::ALL {
            let stage = Stage::set(who).await;
            let caller = stage.caller(who, route).await;
            let (others, other) = stage.thing(kind, Whose::Another).await;
            let (nobodys, _) = stage.thing(kind, Whose::Nobodys).await;
            let (of_another, of_nobody) =
                (ask(&caller, route, row, &others).await, ask(&caller, route, row, &nobodys).await);
            assert_eq!(comparable(&of_another), comparable(&of_nobody), "{} by {who:?}", name(route));
            match who.verdict(route, row) {
                Verdict::In => of_another.is_problem(404, "not-found", ""),
                Verdict::NoToken
                | Verdict::InvalidToken
                | Verdict::NotAllowed
                | Verdict::StaffNeeded
                | Verdict::AdminNeeded => {
                    assert!([401, 403].contains(&of_another.status), "{} by {who:?}", name(route));
                }
            }
            // And it is as it was.
            let me = other.unwrap().get("/v1/me").await;
            assert_eq!((me.status, &me.json()["token"]["name"]), (200, &json!("issued")), "{} by {who:?}", name(route));
            pairs += 1;
        }
    }
    assert_eq!(pairs, 3 * Who::ALL.len(), "routes with an id");
}

#[tokio::test]
async fn a17_no_role_is_shown_a_digest_a_hash_or_the_secret_of_another_by_any_route() {
    let rows = rows();
    for route in ROUTES {
        let row = row_of(&rows, route);
        for who in Who::ALL {
            let stage = Stage::set(who).await;
            let id = stage.subject_matter(route, row).await;
            let (_, thing) = stage.thing(Kind::Login, Whose::Own).await;
            let (_, other) = stage.thing(Kind::Key, Whose::Another).await;
            let caller = stage.caller(who, route).await;
            let mut kept = vec!["$argon2".to_owned()];
            for account in [&stage.eve, &stage.mallory] {
                let account = AccountStore::account(&*stage.server.store, &account.subject).await.unwrap().unwrap();
                kept.push(account.password.expose().to_owned());
            }
            let answer = ask(&caller, route, row, &id).await;
            let told = format!("{:?} {}", answer.headers, answer.text());
            for secret in [&caller.secret, &thing.unwrap().secret, &other.unwrap().secret] {
                let digest = TokenDigest::of_text(secret);
                kept.push(digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect());
                if !secret.is_empty() {
                    kept.push(secret.clone());
                }
            }
            let shown = kept.iter().find(|kept| told.contains(kept.as_str()));
            assert_eq!(shown, None, "{} by {who:?}: {told}", name(route));
        }
    }
}

#[tokio::test]
async fn a13_what_is_listed_is_ones_own_whatever_ones_role() {
    for who in [Who::User, Who::Staff, Who::Admin] {
        let stage = Stage::set(who).await;
        let things = async |whose| {
            let (login, _) = stage.thing(Kind::Login, whose).await;
            let (key, _) = stage.thing(Kind::Key, whose).await;
            [login, key]
        };
        let (own, others) = (things(Whose::Own).await, things(Whose::Another).await);
        let mut listed = String::new();
        for path in ["/v1/tokens", "/v1/keys", "/v1/me"] {
            let route = ROUTES.iter().find(|route| route.path == path && route.method == Method::GET).unwrap();
            listed.push_str(stage.caller(who, route).await.get(path).await.text());
        }
        assert!(own.iter().all(|id| listed.contains(id)), "{who:?}: {listed}");
        assert!(!others.iter().any(|id| listed.contains(id)), "{who:?}: {listed}");
    }
}
