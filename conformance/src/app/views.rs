//! Where a package is mounted and which views its site has of its own: [`routes`].

use std::sync::Arc;

use axum::extract::State;
use axum::http::{Method, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use counterfoil::{Authenticated, Counterfoil, MemoryStore};
use counterfoil_http::{DialectName, Mounted};
use serde_json::json;

use super::{Unable, Wanted, djforge, told};

/// What the dialect is called that stands in for a package, by the name of its file of scenarios.
pub(crate) fn dialect_name(package: &str) -> &str {
    match package {
        "drfauthtoken" => "authtoken",
        "restauthtoken" => "rest_authtoken",
        other => other,
    }
}

pub(super) fn dialect_of(package: &str) -> Result<DialectName, Unable> {
    let name = dialect_name(package);
    name.parse().map_err(|_| format!("there is no dialect {name:?}"))
}

/// Where the README of a package mounts its routes.
pub(super) fn base_of(package: &str) -> &'static str {
    match package {
        "multitoken" | "durin" | "knox" => "/api/auth/",
        "advanced" | "restauthtoken" => "/auth/",
        "drfauthtoken" => "/api-token-auth/",
        _ => "/",
    }
}

/// The package's routes and the views that the setup names.
pub(super) fn routes(
    wanted: Wanted<'_>,
    counterfoil: &Counterfoil,
    store: Arc<MemoryStore>,
    mounted: &Mounted,
) -> Result<Router, Unable> {
    let base = base_of(wanted.package);
    let mut views: Router<Counterfoil> = Router::new();
    for path in &wanted.setup.views {
        if base != "/" && path.starts_with(base) {
            continue; // the package's own
        }
        let view = match path.as_str() {
            "/me/" => mounted.view("Me", &[Method::GET, Method::POST]).around(get(me).post(me)),
            "/only-web/" => only_web(mounted, "Only Web")?,
            "/only-web-bare/" => only_web(mounted, "Only Web Bare")?,
            "/not-cli/" => not_cli(mounted, "Not Cli")?,
            "/not-cli-bare/" => not_cli(mounted, "Not Cli Bare")?,
            "/throttled/" => {
                mounted.view("Throttled", &[Method::GET, Method::POST]).throttled().around(get(me).post(me))
            }
            "/throttled-open/" => {
                let view = mounted.view("Throttled Open", &[Method::GET, Method::POST]).open().throttled();
                view.around(get(ok).post(ok))
            }
            "/plain/" => any(plain),
            // Those of djforge's demo are made together.
            "/" | "/login/" | "/logout/" | "/logoutall/" | "/token/" | "/users/" | "/_lab/ttl/"
                if wanted.package == "djforge" =>
            {
                continue;
            }
            other => return Err(format!("there is no view {other:?}")),
        };
        views = views.route(path, view);
        if let Some(without_slash) = path.strip_suffix('/').filter(|path| !path.is_empty()) {
            views = views.route(without_slash, mounted.missing_slash());
        }
    }
    let mut views = views.with_state(counterfoil.clone());
    if wanted.package == "djforge" {
        views = views.merge(djforge::views(counterfoil, store, mounted));
    }
    let site = views.merge(mounted.routes_at(base)).fallback_service(mounted.fallback::<()>());
    Ok(site.layer(mounted.middleware()))
}

type View = axum::routing::MethodRouter<Counterfoil>;

fn only_web(mounted: &Mounted, name: &str) -> Result<View, Unable> {
    let web = "web".parse().map_err(told)?;
    Ok(mounted.view(name, &[Method::GET, Method::POST]).only_clients([web]).around(get(me).post(me)))
}

fn not_cli(mounted: &Mounted, name: &str) -> Result<View, Unable> {
    let cli = "cli".parse().map_err(told)?;
    Ok(mounted.view(name, &[Method::GET, Method::POST]).except_clients([cli]).around(get(me).post(me)))
}

/// Who is asking.
async fn me(State(counterfoil): State<Counterfoil>, who: Authenticated) -> Response {
    match counterfoil.authority().account(&who.subject).await {
        Ok(account) => Json(json!({"username": account.username.as_str()})).into_response(),
        Err(error) => failed(&error),
    }
}

/// A view without the framework, which tells whom the package's middleware has found. Django wants a page's token of what could be
/// forged before it asks the view.
async fn plain(State(counterfoil): State<Counterfoil>, method: Method, who: Option<Authenticated>) -> Response {
    if !method.is_safe() {
        return (StatusCode::FORBIDDEN, Html("<h1>Forbidden</h1>")).into_response();
    }
    let username = match who {
        Some(who) => match counterfoil.authority().account(&who.subject).await {
            Ok(account) => Some(account.username),
            Err(error) => return failed(&error),
        },
        None => None,
    };
    let is_known = username.is_some();
    let username = json!(username.as_ref().map_or("", |username| username.as_str()));
    let body = format!(r#"{{"username": {username}, "authenticated": {is_known}, "active": {is_known}}}"#);
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn ok() -> Json<serde_json::Value> {
    Json(json!({"ok": true}))
}

/// A fault of ours, which no recording has.
pub(super) fn failed(error: &counterfoil::Error) -> Response {
    eprintln!("a view failed: {error}");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}
