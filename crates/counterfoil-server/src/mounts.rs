//! Where the server speaks a package's wire format: [`Mounts`].

use std::collections::BTreeSet;

use axum::Router;
use counterfoil::{Dialect, DialectName, Http, ROUTES};
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
                return Err(chosen.refused("mount", &format!("two dialects are at {}", mount.path)));
            }
            mounts.push(mount);
        }
        Ok(Mounts(mounts))
    }

    /// `native` and the routes of each dialect, behind the package's middleware where it has one: here it sees what is below the
    /// mount, and not what other dialects and the native routes have their own manners for.
    pub(crate) fn beside(&self, native: Router, http: &Http) -> Router {
        self.0.iter().fold(native, |router, Mount { path, dialect }| {
            let mounted = http.dialect(dialect.clone());
            router.merge(mounted.routes_at(path).layer(mounted.middleware()))
        })
    }

    /// What is weaker than it need be, because the package has it so.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = String> {
        let at = |path: &str| if path.is_empty() { "/".to_owned() } else { path.to_owned() };
        self.0.iter().flat_map(move |Mount { path, dialect }| {
            dialect.warnings().iter().map(move |warning| format!("mount {}: {warning}", at(path)))
        })
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
