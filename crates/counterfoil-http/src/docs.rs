//! The routes as a page for people, made from their table and their description: [`page`].
//!
//! One document without a script, and with nothing to fetch: it works where the server does.

use std::fmt::Write as _;
use std::sync::{LazyLock, OnceLock};

use axum::extract::State;
use axum::http::{HeaderName, Method, header};
use axum::response::Html;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::http::Http;
use crate::openapi;
use crate::problem::ProblemKind;
use crate::router::{Access, Gives, Route, Takes};
use crate::selection::{Group, Selection};

const STYLE: &str = include_str!("docs.css");

/// The page, and a policy that lets a browser apply this one style and do nothing else.
pub(crate) async fn page(State(http): State<Http>) -> ([(HeaderName, &'static str); 1], Html<String>) {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        let hash = STANDARD.encode(Sha256::digest(STYLE));
        format!(
            "default-src 'none'; style-src 'sha256-{hash}'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
        )
    });
    ([(header::CONTENT_SECURITY_POLICY, &POLICY)], Html(http.description().page().to_owned()))
}

/// What there is to say of the routes that are there, written when somebody first asks.
#[derive(Debug)]
pub(crate) struct Description {
    selection: Selection,
    openapi: OnceLock<String>,
    page: OnceLock<String>,
}

impl Description {
    pub(crate) const fn of(selection: Selection) -> Description {
        Description { selection, openapi: OnceLock::new(), page: OnceLock::new() }
    }

    pub(crate) fn selection(&self) -> &Selection {
        &self.selection
    }

    pub(crate) fn openapi(&self) -> &str {
        self.openapi.get_or_init(|| openapi::of(&self.selection).to_string())
    }

    fn page(&self) -> &str {
        self.page.get_or_init(|| written(&self.selection))
    }
}

fn written(selection: &Selection) -> String {
    let document = openapi::of(selection);
    let mut page = String::with_capacity(128 * 1024);
    let version = env!("CARGO_PKG_VERSION");
    push(&mut page, format_args!("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"));
    push(&mut page, format_args!("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"));
    push(&mut page, format_args!("<title>counterfoil {version}: routes</title><style>{STYLE}</style></head>\n<body>"));
    push(&mut page, format_args!("<header><h1>counterfoil <small>{version}</small></h1>{INTRODUCTION}"));
    if selection.has(&Method::GET, "/openapi.json") {
        // Relative, so that it holds under whatever path the page is.
        push(&mut page, format_args!("<p>For programs: <a href=\"openapi.json\">openapi.json</a>.</p>"));
    }
    push(&mut page, format_args!("</header>\n"));
    contents(&mut page, selection);
    push(&mut page, format_args!("<main>\n"));
    for chapter in Chapter::in_use(selection) {
        push(&mut page, format_args!("<section><h2 id=\"{}\">{}</h2>\n", chapter.anchor(), chapter.title()));
        for route in chapter.routes(selection) {
            write_route(&mut page, route, &document);
        }
        push(&mut page, format_args!("</section>\n"));
    }
    write_shapes(&mut page, &document["components"]["schemas"]);
    write_problems(&mut page);
    push(&mut page, format_args!("</main></body></html>\n"));
    page
}

const INTRODUCTION: &str = "<p>Every route that this server has for programs. A token goes into the header \
     <code>Authorization: Bearer …</code>, never into the address. Bodies are JSON unless it says otherwise, times are \
     RFC 3339 in UTC, and what is refused is told as a <a href=\"#problems\">problem</a>.</p>";

/// What belongs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chapter {
    Own,
    Account,
    Services,
    Users,
    Clients,
    Tokens,
    Audit,
    Operations,
}

impl Chapter {
    const ALL: [Chapter; 8] = [
        Chapter::Own,
        Chapter::Account,
        Chapter::Services,
        Chapter::Users,
        Chapter::Clients,
        Chapter::Tokens,
        Chapter::Audit,
        Chapter::Operations,
    ];

    fn of(route: &Route) -> Chapter {
        let path = route.path;
        match route.access {
            Access::Service(_) => Chapter::Services,
            Access::Staff(_) if path.starts_with("/v1/admin/users") => Chapter::Users,
            Access::Staff(_) if path.starts_with("/v1/admin/clients") => Chapter::Clients,
            Access::Staff(_) if path.starts_with("/v1/admin/tokens") => Chapter::Tokens,
            Access::Staff(_) => Chapter::Audit,
            _ if route.group() == Group::Accounts => Chapter::Account,
            Access::Open if !path.starts_with("/v1/") => Chapter::Operations,
            Access::Open | Access::OpenOr(_) | Access::Token | Access::Ability(_) => Chapter::Own,
        }
    }

    fn routes(self, selection: &Selection) -> impl Iterator<Item = &'static Route> {
        selection.routes().filter(move |route| !route.is_page() && Chapter::of(route) == self)
    }

    /// Those with something in them.
    fn in_use(selection: &Selection) -> impl Iterator<Item = Chapter> {
        Chapter::ALL.into_iter().filter(|chapter| chapter.routes(selection).next().is_some())
    }

    const fn title(self) -> &'static str {
        match self {
            Chapter::Own => "One’s own tokens",
            Chapter::Account => "One’s own account",
            Chapter::Services => "For services",
            Chapter::Users => "Administration: users",
            Chapter::Clients => "Administration: clients",
            Chapter::Tokens => "Administration: tokens",
            Chapter::Audit => "Administration: audit log",
            Chapter::Operations => "Operations",
        }
    }

    const fn anchor(self) -> &'static str {
        match self {
            Chapter::Own => "own",
            Chapter::Account => "account",
            Chapter::Services => "services",
            Chapter::Users => "users",
            Chapter::Clients => "clients",
            Chapter::Tokens => "tokens",
            Chapter::Audit => "audit",
            Chapter::Operations => "operations",
        }
    }
}

fn contents(page: &mut String, selection: &Selection) {
    push(page, format_args!("<nav>"));
    for chapter in Chapter::in_use(selection) {
        push(page, format_args!("<h2><a href=\"#{}\">{}</a></h2><ul>", chapter.anchor(), chapter.title()));
        for route in chapter.routes(selection) {
            let (id, method, path) = (openapi::operation_id(route), &route.method, route.path);
            push(page, format_args!("<li><a href=\"#{id}\"><b class=\"{method}\">{method}</b> {path}</a></li>"));
        }
        push(page, format_args!("</ul>"));
    }
    push(
        page,
        format_args!("<h2><a href=\"#shapes\">Shapes</a></h2><h2><a href=\"#problems\">Problems</a></h2></nav>\n"),
    );
}

fn write_route(page: &mut String, route: &Route, document: &Value) {
    let operation = &document["paths"][route.path][route.method.as_str().to_ascii_lowercase()];
    let (id, method, path) = (openapi::operation_id(route), &route.method, route.path);
    push(page, format_args!("<article id=\"{id}\"><h3><b class=\"{method}\">{method}</b> <code>{path}</code></h3>\n"));
    push(page, format_args!("<p>{}.</p><dl>", prose(route.what)));
    push(page, format_args!("<dt>Who</dt><dd>{}</dd>", who(route.access)));
    if let Some(parameters) = operation["parameters"].as_array().filter(|parameters| !parameters.is_empty()) {
        push(page, format_args!("<dt>Reads</dt><dd><table>"));
        for parameter in parameters {
            let name = text(&parameter["name"]);
            let place = match (text(&parameter["in"]), parameter["required"] == true) {
                ("path", _) => " <i>In the path.</i>",
                (_, true) => " <i>Has to be there.</i>",
                (_, false) => "",
            };
            let (schema, what) = (shape(&parameter["schema"]), prose(text(&parameter["description"])));
            push(page, format_args!("<tr><td><code>{name}</code></td><td>{schema}</td>"));
            push(page, format_args!("<td>{what}{place}</td></tr>"));
        }
        push(page, format_args!("</table></dd>"));
    }
    let body = |what: &str| format!("{what}, {}", shape(media(&operation["requestBody"]["content"])));
    match route.takes {
        Takes::Nothing | Takes::Form => {}
        Takes::Json(_) => push(page, format_args!("<dt>Body</dt><dd>{}</dd>", body("JSON"))),
        Takes::JsonOrForm(_) => push(page, format_args!("<dt>Body</dt><dd>{}</dd>", body("JSON or a form"))),
        Takes::TokenForm => push(page, format_args!("<dt>Body</dt><dd>{}</dd>", body("a form"))),
    }
    let given = |status: &str| shape(media(&operation["responses"][status]["content"]));
    let gives = match route.gives {
        Gives::Ok(_) => format!("200, {}", given("200")),
        Gives::OkOrTable(_) => format!("200, {}; or <code>text/csv</code>", given("200")),
        Gives::Created(_) => format!("201 with a <code>Location</code>, {}", given("201")),
        Gives::CreatedOrAccepted(..) => format!("201, {}; or 202, {}", given("201"), given("202")),
        Gives::Accepted => "202 without a body".to_owned(),
        Gives::Nothing => "204".to_owned(),
        Gives::Empty => "200 without a body".to_owned(),
        Gives::Html | Gives::Page => "200, a page".to_owned(),
        Gives::AnyJson => "200, JSON".to_owned(),
    };
    push(page, format_args!("<dt>Gives</dt><dd>{gives}</dd><dt>Problems</dt><dd>"));
    for (position, (status, kinds)) in openapi::problems(route).into_iter().enumerate() {
        let between = if position == 0 { "" } else { " · " };
        push(page, format_args!("{between}{status}"));
        for (position, kind) in kinds.into_iter().enumerate() {
            let between = if position == 0 { "&nbsp;" } else { " " };
            push(page, format_args!("{between}<a href=\"#{0}\">{0}</a>", kind.slug()));
        }
    }
    push(page, format_args!("</dd></dl></article>\n"));
}

fn who(access: Access) -> String {
    match access {
        Access::Open => "anyone".to_owned(),
        Access::OpenOr(ability) => format!(
            "anyone; a token with the ability <code>{}</code> can take the place of something in the body",
            escaped(ability.as_str())
        ),
        Access::Token => "whoever has a token".to_owned(),
        Access::Ability(ability) => format!("a token with the ability <code>{}</code>", escaped(ability.as_str())),
        Access::Service(ability) => format!(
            "a service: an API key with the ability <code>{}</code>, which only an administrator grants",
            escaped(ability.as_str())
        ),
        Access::Staff(ability) => format!(
            "staff and administrators; an API key of theirs needs the ability <code>{}</code>",
            escaped(ability.as_str())
        ),
    }
}

fn write_shapes(page: &mut String, schemas: &Value) {
    push(page, format_args!("<section><h2 id=\"shapes\">Shapes</h2>\n"));
    for (name, schema) in schemas.as_object().into_iter().flatten() {
        let name = escaped(name);
        push(page, format_args!("<article id=\"shape-{name}\"><h3>{name}</h3>"));
        push(page, format_args!("<p>{}</p><table>", prose(text(&schema["description"]))));
        let needed = |field: &str| schema["required"].as_array().is_some_and(|names| names.iter().any(|n| n == field));
        for (field, inner) in schema["properties"].as_object().into_iter().flatten() {
            let may_lack = if needed(field) { "" } else { " <i>May be left out.</i>" };
            let (field, what) = (escaped(field), prose(text(&inner["description"])));
            push(page, format_args!("<tr><td><code>{field}</code></td><td>{}</td>", shape(inner)));
            push(page, format_args!("<td>{what}{may_lack}</td></tr>"));
        }
        push(page, format_args!("</table></article>\n"));
    }
    push(page, format_args!("</section>\n"));
}

fn write_problems(page: &mut String) {
    push(page, format_args!("<section><h2 id=\"problems\">Problems</h2><p>"));
    push(
        page,
        format_args!("What is not answered as asked is answered with an <code>application/problem+json</code> "),
    );
    push(
        page,
        format_args!("document (RFC 9457), <a href=\"#shape-Problem\">Problem</a>. Decide by <code>type</code>, "),
    );
    push(page, format_args!("which is <code>urn:counterfoil:problem:</code> and the name.</p><table>"));
    for kind in ProblemKind::ALL {
        let (slug, status) = (kind.slug(), kind.status().as_u16());
        push(page, format_args!("<tr id=\"{slug}\"><td><code>{slug}</code></td><td>{status}</td>"));
        push(page, format_args!("<td>{}</td></tr>", escaped(kind.title())));
    }
    push(page, format_args!("</table></section>\n"));
}

/// The schema of the first media type.
fn media(content: &Value) -> &Value {
    content.as_object().and_then(|content| content.values().next()).map_or(&Value::Null, |first| &first["schema"])
}

/// A schema in a few words, with a link where it has a name.
fn shape(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        let name = escaped(name);
        return format!("<a href=\"#shape-{name}\">{name}</a>");
    }
    if let Some(words) = schema["enum"].as_array() {
        let quoted: Vec<String> = words.iter().map(|word| format!("<code>{}</code>", escaped(text(word)))).collect();
        return quoted.join(" or ");
    }
    for many in ["oneOf", "allOf"] {
        if let Some(parts) = schema[many].as_array() {
            return parts.iter().map(shape).collect::<Vec<_>>().join(" or ");
        }
    }
    let kinds: Vec<&str> = match schema["type"].as_array() {
        Some(kinds) => kinds.iter().map(text).collect(),
        None => vec![text(&schema["type"])],
    };
    let one = |kind: &str| match kind {
        "array" => format!("list of {}", shape(&schema["items"])),
        "string" => escaped(schema["format"].as_str().unwrap_or("text")),
        "integer" => "whole number".to_owned(),
        "boolean" => "true or false".to_owned(),
        "" => "any JSON".to_owned(),
        kind => escaped(kind),
    };
    kinds.into_iter().map(one).collect::<Vec<_>>().join(" or ")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Escaped, with what stands between backticks as code.
fn prose(text: &str) -> String {
    let mut prose = String::new();
    for (position, part) in text.split('`').enumerate() {
        let part = escaped(part);
        prose.push_str(&if position % 2 == 1 { format!("<code>{part}</code>") } else { part });
    }
    prose
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Writing into a text does not fail.
fn push(page: &mut String, words: std::fmt::Arguments<'_>) {
    page.write_fmt(words).ok();
}
