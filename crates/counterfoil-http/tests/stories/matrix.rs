//! Who may do what with whose: every route of the description, every kind of caller, every owner.
//!
//! The routes come from the OpenAPI document and the table behind it, what is expected from what each route declares. Only
//! how to ask rightly is written down here, in rows of each route; a route without one fails.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::Method;
use counterfoil_core::account::{Account, NewAccount, Role};
use counterfoil_core::authority::ClientOrder;
use counterfoil_core::link::Purpose;
use counterfoil_core::{Ability, AccountStore, By, Clock, Kind, TokenDigest};
use counterfoil_http::{Access, ROUTES, Route, openapi};
use serde_json::{Value, json};

use crate::post::NEW_PASSWORD;
use crate::world::{Actor, Answer, BARE, PASSWORD, TestServer, concrete};

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
    /// With an API key that speaks for a service.
    Service,
    /// With a login token of somebody on the staff.
    Staff,
    /// With an API key of somebody on the staff that may what the route asks for, and nothing else.
    StaffKey,
    /// With an API key of somebody on the staff that may everything but that.
    StaffOtherKey,
    /// With a login token of an administrator.
    Admin,
    /// With an API key of an administrator that may what the route asks for, and nothing else.
    AdminKey,
    /// With an API key of an administrator that may everything but that.
    AdminOtherKey,
}

impl Who {
    const ALL: [Who; 15] = [
        Who::Nobody,
        Who::Inventor,
        Who::Latecomer,
        Who::Banned,
        Who::User,
        Who::BareKey,
        Who::FittingKey,
        Who::OtherKey,
        Who::Service,
        Who::Staff,
        Who::StaffKey,
        Who::StaffOtherKey,
        Who::Admin,
        Who::AdminKey,
        Who::AdminOtherKey,
    ];

    fn kind(self) -> Kind {
        match self {
            Who::BareKey
            | Who::FittingKey
            | Who::OtherKey
            | Who::Service
            | Who::StaffKey
            | Who::StaffOtherKey
            | Who::AdminKey
            | Who::AdminOtherKey => Kind::Key,
            Who::Nobody | Who::Inventor | Who::Latecomer | Who::Banned | Who::User | Who::Staff | Who::Admin => {
                Kind::Login
            }
        }
    }

    fn role(self) -> Role {
        match self {
            Who::Staff | Who::StaffKey | Who::StaffOtherKey => Role::Staff,
            Who::Admin | Who::AdminKey | Who::AdminOtherKey => Role::Admin,
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
        match self {
            Who::BareKey => String::new(),
            Who::FittingKey | Who::StaffKey | Who::AdminKey => {
                wanted(route).map(|wanted| wanted.as_str().to_owned()).unwrap_or_default()
            }
            Who::OtherKey | Who::StaffOtherKey | Who::AdminOtherKey => {
                let others = abilities().into_iter().filter(|other| wanted(route) != Some(other));
                others.map(|other| other.as_str().to_owned()).collect::<Vec<_>>().join(" ")
            }
            Who::Service => SERVICE.join(" "),
            Who::Nobody | Who::Inventor | Who::Latecomer | Who::Banned | Who::User | Who::Staff | Who::Admin => {
                "*".to_owned()
            }
        }
    }

    /// What becomes of this caller at the door of this route.
    fn at_the_door(self, route: &Route) -> Result<(), Refused> {
        match (route.access, self) {
            (Access::Open | Access::OpenOr(_), _) => Ok(()),
            (_, Who::Nobody) => Err(Refused::NoToken),
            (_, Who::Inventor | Who::Latecomer | Who::Banned) => Err(Refused::InvalidToken),
            (Access::Token, _) => Ok(()),
            (Access::Staff(_), _) if self.role() == Role::User => Err(Refused::NoStaff),
            (Access::Staff(_), Who::Staff | Who::Admin) => Ok(()),
            (
                Access::Ability(_) | Access::Service(_) | Access::Staff(_),
                Who::FittingKey | Who::StaffKey | Who::AdminKey,
            ) => Ok(()),
            (
                Access::Ability(_) | Access::Service(_) | Access::Staff(_),
                Who::BareKey | Who::OtherKey | Who::StaffOtherKey | Who::AdminOtherKey,
            ) => Err(Refused::NotAble),
            // A role is no ability, and no role widens what one may do with one's own tokens.
            (Access::Ability(wanted) | Access::Service(wanted) | Access::Staff(wanted), Who::User)
            | (Access::Ability(wanted) | Access::Service(wanted), Who::Staff | Who::Admin) => {
                if wanted.is_reserved() {
                    Err(Refused::NotAble)
                } else {
                    Ok(())
                }
            }
            (Access::Ability(wanted) | Access::Service(wanted) | Access::Staff(wanted), Who::Service) => {
                if SERVICE.contains(&wanted.as_str()) { Ok(()) } else { Err(Refused::NotAble) }
            }
        }
    }

    /// What becomes of this caller who asks so about such a thing.
    fn outcome(self, route: &Route, row: &Row, whose: Whose) -> Result<(), Refused> {
        self.at_the_door(route)?;
        let exists = row.names.is_none() || row.may_be_nobodys || whose != Whose::Nobodys;
        match route.access {
            Access::Open | Access::OpenOr(_) if !exists => Err(Refused::DeadLink),
            Access::Open | Access::OpenOr(_) | Access::Token => Ok(()),
            Access::Ability(_) if row.names.is_none() || whose == Whose::Own => Ok(()),
            Access::Ability(_) => Err(Refused::Unknown),
            Access::Service(_) => Ok(()),
            Access::Staff(_) => {
                let is_above = whose.owner_of(self.role()).is_some_and(|owner| owner > Role::User);
                let needs_admin = match row.staff {
                    Staff::Anyones => false,
                    Staff::AUsers => is_above,
                    Staff::Nothing => true,
                };
                match (needs_admin && self.role() < Role::Admin, exists) {
                    (true, true) => Err(Refused::NoAdmin),
                    (true, false) => Err(Refused::NoAdminOrUnknown),
                    (false, true) => Ok(()),
                    (false, false) => Err(Refused::Unknown),
                }
            }
        }
    }
}

/// What the key of a service may.
const SERVICE: [&str; 2] = ["tokens:introspect", "tokens:revoke"];

/// Why a caller does not get what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    NoToken,
    InvalidToken,
    NotAble,
    NoStaff,
    NoAdmin,
    Unknown,
    /// Staff may know what there is: which of both they are told first does not matter.
    NoAdminOrUnknown,
    DeadLink,
}

/// Whose thing a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Own,
    AUsers,
    Staffs,
    AnAdmins,
    Nobodys,
}

impl Whose {
    const ALL: [Whose; 5] = [Whose::Own, Whose::AUsers, Whose::Staffs, Whose::AnAdmins, Whose::Nobodys];

    /// What its owner is, where `asker` is the role of the one who asks.
    fn owner_of(self, asker: Role) -> Option<Role> {
        match self {
            Whose::Own => Some(asker),
            Whose::AUsers => Some(Role::User),
            Whose::Staffs => Some(Role::Staff),
            Whose::AnAdmins => Some(Role::Admin),
            Whose::Nobodys => None,
        }
    }
}

/// What `{id}` stands for in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    /// The id of a token of this kind.
    Token(Kind),
    /// The text of one.
    Text,
    /// The id of a user.
    User,
    /// The id of a client, which is nobody's own.
    Client,
    /// The secret of a link that was mailed to somebody.
    Link(Purpose),
}

impl Names {
    fn owners(self) -> &'static [Whose] {
        match self {
            Names::Token(_) | Names::Text | Names::User => &Whose::ALL,
            Names::Client | Names::Link(_) => &[Whose::AUsers, Whose::Nobodys],
        }
    }
}

/// Whose things a route of staff is for, where they are no administrators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Staff {
    Anyones,
    /// Where the thing is a user's; those of staff and administrators, their own among them, are for administrators.
    AUsers,
    Nothing,
}

/// What is sent.
enum Sends {
    Bare,
    Json(Value),
    Form(&'static str),
}

/// How to ask a route rightly. In path, query and body `{id}` stands for the thing that `names` says.
struct Row {
    route: &'static str,
    query: &'static str,
    sends: Sends,
    /// What the answer is then.
    gives: u16,
    names: Option<Names>,
    /// Whether naming what there is not is as good.
    may_be_nobodys: bool,
    staff: Staff,
    /// The refusal that API keys meet behind the door, because the route is for logins.
    keys_meet: Option<(u16, &'static str)>,
}

impl Row {
    fn query(self, query: &'static str) -> Row {
        Row { query, ..self }
    }

    fn json(self, body: Value) -> Row {
        Row { sends: Sends::Json(body), ..self }
    }

    fn names(self, names: Names) -> Row {
        Row { names: Some(names), ..self }
    }

    fn may_be_nobodys(self) -> Row {
        Row { may_be_nobodys: true, ..self }
    }

    fn about_text(self) -> Row {
        Row { sends: Sends::Form("token={id}"), ..self }.names(Names::Text).may_be_nobodys()
    }

    fn staff(self, staff: Staff) -> Row {
        Row { staff, ..self }
    }

    fn owners(&self) -> &'static [Whose] {
        self.names.map_or(&[Whose::AUsers], Names::owners)
    }
}

fn row(route: &'static str, gives: u16) -> Row {
    Row {
        route,
        query: "",
        sends: Sends::Bare,
        gives,
        names: None,
        may_be_nobodys: false,
        staff: Staff::Anyones,
        keys_meet: None,
    }
}

fn rows() -> Vec<Row> {
    use Names::{Client, Link, Token, User};
    use Staff::{AUsers, Nothing};
    let (login, key) = (Token(Kind::Login), Token(Kind::Key));
    vec![
        // As somebody who can, whoever asks: the door of this route is open.
        row("POST /v1/login", 200).json(json!({"username": "ada", "password": PASSWORD})),
        row("POST /v1/logout", 204),
        row("POST /v1/logout-all", 204),
        row("GET /v1/tokens", 200),
        row("DELETE /v1/tokens", 204).query("?keep=current"),
        row("PATCH /v1/tokens/{id}", 200).json(json!({"name": "mine"})).names(login),
        row("DELETE /v1/tokens/{id}", 204).names(login),
        Row { keys_meet: Some((403, "renewal-not-allowed")), ..row("POST /v1/renew", 200) },
        row("POST /v1/rotate", 200),
        row("GET /v1/keys", 200),
        row("POST /v1/keys", 201).json(json!({"name": "ci"})),
        row("DELETE /v1/keys/{id}", 204).names(key),
        row("GET /v1/me", 200),
        row("PATCH /v1/me", 200).json(json!({"rotation_locked": true})),
        row("POST /v1/me/export", 200).json(json!({"password": PASSWORD})),
        row("POST /v1/me/delete", 204).json(json!({"password": PASSWORD})),
        row("POST /v1/register", 201).json(json!({"username": "new", "password": NEW_PASSWORD})),
        row("POST /v1/email/confirm", 200)
            .json(json!({"token": "{id}", "password": PASSWORD}))
            .names(Link(Purpose::Confirm)),
        row("POST /v1/email/resend", 202).json(json!({"email": "anybody@example.org"})),
        row("POST /v1/email/change", 202).json(json!({"email": "new@example.org", "password": PASSWORD})),
        row("POST /v1/email/undo", 204).json(json!({"token": "{id}"})).names(Link(Purpose::UndoChange)),
        row("POST /v1/password/change", 204)
            .json(json!({"current_password": PASSWORD, "new_password": NEW_PASSWORD, "keys": true})),
        row("POST /v1/password/forgot", 202).json(json!({"email": "anybody@example.org"})),
        row("POST /v1/password/reset", 200)
            .json(json!({"token": "{id}", "new_password": NEW_PASSWORD}))
            .names(Link(Purpose::Reset)),
        row("POST /v1/introspect", 200).about_text(),
        row("POST /v1/revoke", 200).about_text(),
        row("GET /v1/admin/users", 200),
        row("POST /v1/admin/users", 201).json(json!({"username": "new", "password": PASSWORD})),
        row("POST /v1/admin/users", 201).json(json!({"username": "new", "role": "staff"})).staff(Nothing),
        row("POST /v1/admin/users/reset", 200).json(json!({"ids": ["{id}"]})).names(User).may_be_nobodys(),
        row("POST /v1/admin/users/confirm", 200).json(json!({"ids": ["{id}"]})).names(User).may_be_nobodys(),
        row("GET /v1/admin/users/{id}", 200).names(User),
        row("PATCH /v1/admin/users/{id}", 200).json(json!({"first_name": "Zoë"})).names(User).staff(AUsers),
        row("PATCH /v1/admin/users/{id}", 200).json(json!({"role": "user"})).names(User).staff(Nothing),
        row("DELETE /v1/admin/users/{id}", 204).names(User).staff(AUsers),
        row("POST /v1/admin/users/{id}/unlock", 204).names(User).staff(AUsers),
        row("DELETE /v1/admin/users/{id}/tokens", 204).query("?keys=true").names(User).staff(AUsers),
        row("GET /v1/admin/users/{id}/export", 200).names(User).staff(AUsers),
        row("GET /v1/admin/clients", 200),
        row("POST /v1/admin/clients", 201).json(json!({"name": "another"})).staff(Nothing),
        row("GET /v1/admin/clients/{id}", 200).names(Client),
        row("PATCH /v1/admin/clients/{id}", 200).json(json!({"allow_login": false})).names(Client).staff(Nothing),
        row("DELETE /v1/admin/clients/{id}", 204).names(Client).staff(Nothing),
        row("DELETE /v1/admin/clients/{id}/tokens", 204).names(Client).staff(Nothing),
        row("GET /v1/admin/tokens", 200),
        row("POST /v1/admin/tokens", 201).json(json!({"user": "{id}", "name": "new"})).names(User).staff(AUsers),
        row("POST /v1/admin/tokens", 201)
            .json(json!({"user": "{id}", "kind": "key", "abilities": ["admin:read"]}))
            .names(User)
            .staff(Nothing),
        row("DELETE /v1/admin/tokens", 204).query("?all=true").staff(Nothing),
        row("POST /v1/admin/tokens/revoke", 200)
            .json(json!({"user": "{id}", "dry_run": false}))
            .names(User)
            .may_be_nobodys()
            .staff(AUsers),
        row("POST /v1/admin/tokens/revoke", 200).json(json!({"client": "app", "dry_run": true})).staff(Nothing),
        row("GET /v1/admin/tokens/{id}", 200).names(login),
        row("PATCH /v1/admin/tokens/{id}", 200).json(json!({"name": "mine"})).names(key).staff(AUsers),
        row("DELETE /v1/admin/tokens/{id}", 204).names(key).staff(AUsers),
        row("GET /v1/admin/audit", 200),
        row("GET /register", 200),
        Row {
            sends: Sends::Form("username=new&email=&password=thirty-one+lighthouses+at+dusk"),
            ..row("POST /register", 200)
        },
        row("GET /email/confirm/{link}", 200).names(Link(Purpose::Confirm)),
        Row {
            sends: Sends::Form("password=correct+horse+battery+staple"),
            ..row("POST /email/confirm/{link}", 200).names(Link(Purpose::Confirm))
        },
        row("GET /email/undo/{link}", 200).names(Link(Purpose::UndoChange)),
        Row { sends: Sends::Form(""), ..row("POST /email/undo/{link}", 200).names(Link(Purpose::UndoChange)) },
        row("GET /email/resend", 200),
        Row { sends: Sends::Form("email=anybody%40example.org"), ..row("POST /email/resend", 200) },
        row("GET /password/forgot", 200),
        Row { sends: Sends::Form("email=anybody%40example.org"), ..row("POST /password/forgot", 200) },
        row("GET /password/reset/{link}", 200).names(Link(Purpose::Reset)),
        Row {
            sends: Sends::Form("new_password=thirty-one+lighthouses+at+dusk"),
            ..row("POST /password/reset/{link}", 200).names(Link(Purpose::Reset))
        },
        row("GET /healthz", 200),
        row("GET /readyz", 200),
        row("GET /openapi.json", 200),
        row("GET /docs", 200),
    ]
}

fn name(route: &Route) -> String {
    format!("{} {}", route.method, route.path)
}

fn wanted(route: &Route) -> Option<&'static Ability> {
    match route.access {
        Access::Open | Access::OpenOr(_) | Access::Token => None,
        Access::Ability(wanted) | Access::Service(wanted) | Access::Staff(wanted) => Some(wanted),
    }
}

/// Every ability that some route asks for.
fn abilities() -> Vec<Ability> {
    let mut abilities: Vec<Ability> = ROUTES.iter().filter_map(wanted).cloned().collect();
    abilities.sort_unstable();
    abilities.dedup();
    abilities
}

/// Something that a request can name, and a token that tells whether something became of it.
struct Thing {
    id: String,
    token: Actor,
}

/// A deployment with eve, who asks, mallory, sam and root, whose things are a user's, staff's and an administrator's, and
/// the client `app`, on which there are tokens.
struct Stage {
    server: TestServer,
    eve: Account,
    mallory: Account,
    sam: Account,
    root: Account,
}

impl Stage {
    async fn set(who: Who) -> Stage {
        let server = TestServer::with_ada().await;
        let eve = server.user("eve", PASSWORD).await;
        let mallory = server.user("mallory", PASSWORD).await;
        let above = async |name: &str, role| {
            let new = NewAccount { role, ..NewAccount::named(name.parse().unwrap()) };
            server.authority.create_user(new, None, &By::operator(), server.clock.now()).await.unwrap()
        };
        let (sam, root) = (above("sam", Role::Staff).await, above("root", Role::Admin).await);
        if who.role() != Role::User {
            server.authority.set_role(&eve.subject, who.role(), &By::operator(), server.clock.now()).await.unwrap();
        }
        server.registered(ClientOrder::named("app".parse().unwrap())).await;
        Stage { server, eve, mallory, sam, root }
    }

    /// The caller, who is eve wherever it is anybody.
    async fn caller(&self, who: Who, route: &Route) -> Actor {
        let server = &self.server;
        match who {
            Who::Nobody => server.anonymous(),
            Who::Inventor => server.token(NEVER_ISSUED),
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
            Who::User
            | Who::BareKey
            | Who::FittingKey
            | Who::OtherKey
            | Who::Service
            | Who::Staff
            | Who::StaffKey
            | Who::StaffOtherKey
            | Who::Admin
            | Who::AdminKey
            | Who::AdminOtherKey => server.issued(&self.eve, who.kind(), &who.abilities(route)).await,
        }
    }

    /// Something that a request can name; a token where it names nothing.
    async fn thing(&self, names: Option<Names>, whose: Whose) -> Thing {
        let owner = match whose {
            Whose::Own => &self.eve,
            Whose::AUsers | Whose::Nobodys => &self.mallory,
            Whose::Staffs => &self.sam,
            Whose::AnAdmins => &self.root,
        };
        let names = names.unwrap_or(Names::Token(Kind::Key));
        let kind = match names {
            Names::Token(kind) => kind,
            Names::Text | Names::User | Names::Client | Names::Link(_) => Kind::Key,
        };
        let token = self.server.issued_on("app", owner, kind, "*").await;
        let id = match (names, whose) {
            (Names::Text | Names::Link(_), Whose::Nobodys) => NEVER_ISSUED.to_owned(),
            (Names::Token(_) | Names::User | Names::Client, Whose::Nobodys) => {
                "019a9f3c-0000-7000-8000-000000000000".to_owned()
            }
            (Names::Token(_), _) => token.id.clone(),
            (Names::Text, _) => token.secret.clone(),
            (Names::User, _) => owner.subject.to_string(),
            (Names::Link(purpose), _) => self.server.mailed_link(owner, purpose).await,
            (Names::Client, _) => {
                let app = "app".parse().unwrap();
                self.server.authority.client(&app).await.unwrap().id.to_string()
            }
        };
        Thing { id, token }
    }
}

/// Well formed, and of no token.
const NEVER_ISSUED: &str = "cf_0000000000000000000000000000000000000000000D1xGFI";

async fn ask(actor: &Actor, route: &Route, row: &Row, id: &str) -> Answer {
    let method = route.method.clone();
    let path = format!("{}{}", concrete(route.path, id), row.query).replace("{id}", id);
    match &row.sends {
        Sends::Bare => actor.send(method, &path, Body::empty()).await,
        Sends::Json(body) => actor.typed(method, &path, "application/json", body.to_string().replace("{id}", id)).await,
        Sends::Form(form) => {
            actor.typed(method, &path, "application/x-www-form-urlencoded", form.replace("{id}", id)).await
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

/// Every way to ask every route.
fn asked(rows: &[Row]) -> Vec<(&'static Route, &Row)> {
    let mut asked = Vec::new();
    for route in ROUTES {
        let of_route = rows.iter().filter(|row| row.route == name(route));
        let before = asked.len();
        asked.extend(of_route.map(|row| (route, row)));
        assert!(asked.len() > before, "{} has no row in the matrix", name(route));
    }
    assert_eq!(asked.len(), rows.len(), "a row of no route");
    asked
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
                Access::OpenOr(ability) => {
                    assert_eq!(operation["security"], json!([{}, {"bearer": [ability.as_str()]}]), "{name}");
                    assert!(answers("401") && answers("403"), "{name}");
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
    // Pages are for people; what is described is for programs.
    let (pages, routes): (Vec<_>, Vec<_>) = ROUTES.iter().partition(|route| route.is_page());
    let served: BTreeSet<String> = routes.into_iter().map(name).collect();
    assert_eq!(described, served, "described, and served");
    let of_pages = pages.into_iter().map(name);
    let in_matrix: BTreeSet<String> = rows.iter().map(|row| row.route.to_owned()).collect();
    assert_eq!(in_matrix, served.into_iter().chain(of_pages).collect(), "in the matrix");
    for (route, row) in asked(&rows) {
        assert!(row.names.is_some() || !route.path.contains('{'), "{}", name(route));
    }
    for route in ROUTES {
        let refused = &document["paths"][route.path][route.method.as_str().to_lowercase()]["responses"]["403"];
        let declares = |problem: &str| refused["description"].as_str().is_some_and(|text| text.contains(problem));
        assert_eq!(declares("staff-needed"), matches!(route.access, Access::Staff(_)), "{}", name(route));
        let mut ways = rows.iter().filter(|row| row.route == name(route));
        let is_refused_to_staff = ways.any(|row| row.staff != Staff::Anyones);
        assert_eq!(declares("admin-needed"), is_refused_to_staff, "{}", name(route));
    }
}

#[tokio::test]
async fn r28_every_route_admits_those_it_declares_and_nobody_else() {
    let rows = rows();
    for (route, row) in asked(&rows) {
        for (who, whose) in Who::ALL.into_iter().flat_map(|who| row.owners().iter().map(move |whose| (who, *whose))) {
            let stage = Stage::set(who).await;
            let (thing, caller) = match row.names {
                // Links die while a latecomer's token does.
                Some(Names::Link(_)) => {
                    let caller = stage.caller(who, route).await;
                    (stage.thing(row.names, whose).await, caller)
                }
                Some(_) | None => {
                    let thing = stage.thing(row.names, whose).await;
                    (thing, stage.caller(who, route).await)
                }
            };
            let answer = ask(&caller, route, row, &thing.id).await;
            let asked = format!("{} by {who:?} for {whose:?}: {}", name(route), answer.text());
            let outcome = who.outcome(route, row, whose);

            let problem = |status: u16, slug: &str, challenge: &str| {
                assert_eq!(answer.status, status, "{asked}");
                assert_eq!(answer.json()["type"], format!("urn:counterfoil:problem:{slug}"), "{asked}");
                answer.is_problem(status, slug, challenge);
            };
            match outcome {
                Err(Refused::NoToken) => problem(401, "token-missing", BARE),
                Err(Refused::InvalidToken) => answer.is_invalid_token(),
                Err(Refused::NotAble) => {
                    let scope = wanted(route).unwrap().as_str();
                    let challenge = format!(r#"{BARE}, error="insufficient_scope", scope="{scope}""#);
                    problem(403, "insufficient-ability", &challenge);
                }
                Err(Refused::NoStaff) => problem(403, "staff-needed", ""),
                Err(Refused::NoAdmin) => problem(403, "admin-needed", ""),
                Err(Refused::Unknown) => problem(404, "not-found", ""),
                Err(Refused::DeadLink) if route.is_page() => assert_eq!(answer.status, 400, "{asked}"),
                Err(Refused::DeadLink) => problem(400, "link-dead", ""),
                Err(Refused::NoAdminOrUnknown) if answer.status == 404 => problem(404, "not-found", ""),
                Err(Refused::NoAdminOrUnknown) => problem(403, "admin-needed", ""),
                Ok(()) => match row.keys_meet {
                    Some((status, slug)) if who.kind() == Kind::Key => problem(status, slug, ""),
                    Some(_) | None => assert_eq!(answer.status, row.gives, "{asked}"),
                },
            }
            // What was refused was not done either.
            if outcome.is_err() && !(whose == Whose::Own && who == Who::Banned) {
                let me = thing.token.get("/v1/me").await;
                assert_eq!((me.status, &me.json()["token"]["name"]), (200, &json!("issued")), "{asked}");
            }
        }
    }
}

#[tokio::test]
async fn a13_whoever_asks_another_users_thing_is_answered_as_one_that_never_was() {
    let rows = rows();
    let mut pairs = 0;
    for (route, row) in asked(&rows) {
        for who in Who::ALL.into_iter().filter(|_| row.names.is_some()) {
            // Staff and services learn what there is: that is what their routes are for.
            if !matches!(route.access, Access::Ability(_)) && who.at_the_door(route).is_ok() {
                continue;
            }
            let stage = Stage::set(who).await;
            let mut things = Vec::new();
            for whose in row.owners().iter().filter(|whose| **whose != Whose::Own) {
                things.push((whose, stage.thing(row.names, *whose).await.id));
            }
            let caller = stage.caller(who, route).await;
            let nobodys = stage.thing(row.names, Whose::Nobodys).await.id;
            let of_nobody = comparable(&ask(&caller, route, row, &nobodys).await);
            for (whose, id) in things {
                let of_another = comparable(&ask(&caller, route, row, &id).await);
                assert_eq!(of_another, of_nobody, "{} by {who:?} for {whose:?}", name(route));
                pairs += 1;
            }
        }
    }
    assert!(pairs > 3 * 4 * Who::ALL.len(), "{pairs}: routes with an id");
}

#[tokio::test]
async fn a17_no_role_is_shown_a_digest_a_hash_or_the_secret_of_another_by_any_route() {
    let rows = rows();
    for (route, row) in asked(&rows) {
        for who in Who::ALL {
            let stage = Stage::set(who).await;
            let (own, other) = (stage.thing(row.names, Whose::Own).await, stage.thing(row.names, Whose::AUsers).await);
            let caller = stage.caller(who, route).await;
            let mut kept = vec!["$argon2".to_owned()];
            for secret in [&caller.secret, &own.token.secret, &other.token.secret] {
                let digest = TokenDigest::of_text(secret);
                kept.push(digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect());
                if !secret.is_empty() {
                    kept.push(secret.clone());
                }
            }
            for account in [&stage.eve, &stage.mallory] {
                let account = AccountStore::account(&*stage.server.store, &account.subject).await.unwrap().unwrap();
                kept.push(account.password.expose().to_owned());
            }
            for id in [&own.id, &other.id] {
                let answer = ask(&caller, route, row, id).await;
                let told = format!("{:?} {}", answer.headers, answer.text());
                let shown = kept.iter().find(|kept| told.contains(kept.as_str()));
                assert_eq!(shown, None, "{} by {who:?}: {told}", name(route));
            }
        }
    }
}

#[tokio::test]
async fn a13_what_is_listed_is_ones_own_whatever_ones_role() {
    for who in [Who::User, Who::Staff, Who::Admin] {
        let stage = Stage::set(who).await;
        let things = async |whose| {
            let login = stage.thing(Some(Names::Token(Kind::Login)), whose).await;
            let key = stage.thing(Some(Names::Token(Kind::Key)), whose).await;
            [login.id, key.id]
        };
        let (own, others) = (things(Whose::Own).await, things(Whose::AUsers).await);
        let mut listed = String::new();
        for path in ["/v1/tokens", "/v1/keys", "/v1/me"] {
            let route = ROUTES.iter().find(|route| route.path == path && route.method == Method::GET).unwrap();
            listed.push_str(stage.caller(who, route).await.get(path).await.text());
        }
        assert!(own.iter().all(|id| listed.contains(id)), "{who:?}: {listed}");
        assert!(!others.iter().any(|id| listed.contains(id)), "{who:?}: {listed}");
    }
}
