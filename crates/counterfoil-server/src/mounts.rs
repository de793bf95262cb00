//! Where the server speaks a package's wire format: [`Mounts`].

use std::collections::BTreeSet;

use axum::Router;
use counterfoil::{AccountRules, ClientName, Dialect, DialectName, Http, ROUTES};
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::setting::Chosen;

/// The dialects of one server, each at its path.
#[derive(Debug, Clone, Default)]
pub struct Mounts(Vec<Mount>);

#[derive(Debug, Clone)]
struct Mount {
    path: String,
    dialect: Dialect,
}

impl Mounts {
    /// What `[[mount]]` says.
    pub(crate) fn judge(chosen: &Chosen) -> Result<Mounts, Failure> {
        let mut mounts: Vec<Mount> = Vec::new();
        for settings in chosen.tables("mount")? {
            let mount = Mount::read(settings).map_err(|why| chosen.refused("mount", &why))?;
            if mounts.iter().any(|other| other.path == mount.path) {
                return Err(chosen.refused("mount", &format!("two dialects are at {}", mount.at())));
            }
            if let Some(client) = mount.dialect.client() {
                let clashes = |other: &Mount| {
                    other.dialect.client().is_some_and(|one| one.name == client.name && one.policy != client.policy)
                };
                if mounts.iter().any(clashes) {
                    let name = &client.name;
                    let why =
                        format!("two mounts have client {name} with different rules: name another one with client");
                    return Err(chosen.refused("mount", &why));
                }
                if client.name == ClientName::default_client() {
                    let why = "the client named default is for the native routes: name another one with client";
                    return Err(chosen.refused("mount", &format!("{}: {why}", mount.at())));
                }
            }
            mounts.push(mount);
        }
        Ok(Mounts(mounts))
    }

    /// `native` and the routes of each dialect. A package's middleware stands before what is below its mount alone: other dialects and
    /// the native routes have manners of their own.
    pub(crate) fn beside(&self, native: Router, http: &Http) -> Router {
        self.0
            .iter()
            .fold(native, |router, Mount { path, dialect }| router.merge(http.dialect(dialect.clone()).routes_at(path)))
    }

    /// Puts what they say of accounts into the rules of the deployment: where the links in mails lead.
    pub(crate) fn rule(&self, accounts: &mut AccountRules) {
        self.0.iter().for_each(|Mount { path, dialect }| dialect.rule(path, accounts));
    }

    /// What is weaker than it need be, because the package has it so.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = String> {
        self.0
            .iter()
            .flat_map(|mount| mount.dialect.warnings().iter().map(|warning| format!("mount {}: {warning}", mount.at())))
    }

    /// Makes the clients that their tokens are of, or brings them to what the settings say.
    pub(crate) async fn prepare(&self, http: &Http) -> Result<(), Failure> {
        for warning in self.warnings() {
            tracing::warn!("{warning}");
        }
        for Mount { dialect, .. } in &self.0 {
            http.dialect(dialect.clone()).prepare().await?;
        }
        Ok(())
    }
}

impl Mount {
    /// Its path, for people.
    fn at(&self) -> &str {
        if self.path.is_empty() { "/" } else { &self.path }
    }

    fn read(mut settings: Map<String, Value>) -> Result<Mount, String> {
        let mut text = |key: &str| match settings.remove(key) {
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(format!("{key}: expected a text in quotes")),
            None => Err(format!("a mount needs its {key}")),
        };
        let path = path(&text("path")?)?;
        let name: DialectName =
            text("dialect")?.parse().map_err(|error: counterfoil::NoSuchDialect| format!("dialect: {error}"))?;
        let dialect = Dialect::from_settings(name, &settings).map_err(|error| format!("{path}: {error}"))?;
        Ok(Mount { path, dialect })
    }
}

/// A path without a slash at its end; nothing for the root.
fn path(text: &str) -> Result<String, String> {
    let wrong = || format!("path = {text:?}: expected a path of plain segments: \"/api/auth\"");
    let path = text.strip_suffix('/').unwrap_or(text);
    let is_plain = |segment: &str| {
        !segment.is_empty()
            && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
            && segment.bytes().any(|byte| byte != b'.')
    };
    if path.is_empty() && text == "/" {
        return Ok(String::new());
    }
    let segments = path.strip_prefix('/').ok_or_else(wrong)?;
    if !segments.split('/').all(is_plain) {
        return Err(wrong());
    }
    let first = |path: &'static str| path.split('/').nth(1).unwrap_or_default();
    let ours: BTreeSet<&str> = ROUTES.iter().map(|route| first(route.path)).collect();
    match segments.split('/').next() {
        Some(segment) if ours.contains(segment) => Err(format!("path = {text:?}: the native routes are there")),
        Some(_) | None => Ok(path.to_owned()),
    }
}
