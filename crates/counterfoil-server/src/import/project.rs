//! What there is in a source: [`Project`], found by the names of its tables, by what refers to what, and by the settings.

use std::fmt;
use std::str::FromStr;

use crate::failure::Failure;
use crate::import::cell::Cell;
use crate::import::settings::Settings;
use crate::import::source::{Source, Table};

/// The packages whose tokens can come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Package {
    Multitoken,
    Durin,
    Advanced,
    Djforge,
    RestAuthtoken,
    Knox,
    Authtoken,
}

impl Package {
    pub(crate) const ALL: [Package; 7] = [
        Package::Multitoken,
        Package::Durin,
        Package::Advanced,
        Package::Djforge,
        Package::RestAuthtoken,
        Package::Knox,
        Package::Authtoken,
    ];

    /// The name of its dialect, and of the client that its tokens are on where the package knows none.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Package::Multitoken => "multitoken",
            Package::Durin => "durin",
            Package::Advanced => "advanced",
            Package::Djforge => "djforge",
            Package::RestAuthtoken => "rest_authtoken",
            Package::Knox => "knox",
            Package::Authtoken => "authtoken",
        }
    }
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What `--package` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Whatever is found.
    Auto,
    /// This one alone.
    Only(Package),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Choice, String> {
        if text == "auto" {
            return Ok(Choice::Auto);
        }
        let found = Package::ALL.into_iter().find(|package| package.as_str() == text);
        found.map(Choice::Only).ok_or_else(|| {
            let names = Package::ALL.map(Package::as_str).join(", ");
            format!("expected auto, {names}")
        })
    }
}

/// Where the users are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Users {
    pub(crate) table: Table,
    pub(crate) key: String,
    /// Whether its keys are UUIDs, which SQLite and MySQL keep without their dashes.
    pub(crate) key_is_uuid: bool,
    pub(crate) username: String,
    pub(crate) confirmed: Option<String>,
}

/// Tables of one package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(crate) package: Package,
    pub(crate) table: Table,
}

/// What there is in a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Project {
    pub(crate) users: Users,
    pub(crate) clients: Option<Table>,
    pub(crate) tokens: Vec<Tokens>,
    pub(crate) locks: Option<Table>,
    pub(crate) links: Option<Table>,
}

/// Tables of tokens and whose they are, by every name they were released under.
const TABLES: &[(&str, Package)] = &[
    ("drf_multitokenauth_multitoken", Package::Multitoken),
    ("django_rest_multitokenauth_multitoken", Package::Multitoken),
    ("durin_authtoken", Package::Durin),
    ("rest_authtoken_authtoken", Package::RestAuthtoken),
];
const CLIENTS: &str = "durin_client";
const LOCKS: &str = "drf_advanced_token_userapikeylock";
const LINKS: &str = "rest_authtoken_emailconfirmationtoken";
/// Of two packages: see [`shared_table`].
const SHARED: &str = "authtoken_token";

impl Project {
    pub(crate) fn find(source: &mut dyn Source, settings: &Settings, choice: Choice) -> Result<Project, Failure> {
        let tables = source.tables()?;
        let named = |name: &str| tables.iter().find(|table| table.name == name);
        let is_wanted = |package: Package| match choice {
            Choice::Auto => true,
            Choice::Only(only) => only == package,
        };
        let mut tokens: Vec<Tokens> = Vec::new();
        for (name, package) in TABLES.iter().copied().chain([(settings.knox.table.as_str(), Package::Knox)]) {
            if let Some(table) = named(name).filter(|_| is_wanted(package)) {
                tokens.push(Tokens { package, table: table.clone() });
            }
        }
        if let Some(table) = named(SHARED) {
            let package = match choice {
                Choice::Only(only) => only,
                Choice::Auto => shared_table(source, &tables, settings)?,
            };
            if matches!(package, Package::Advanced | Package::Authtoken) {
                tokens.push(Tokens { package, table: table.clone() });
            }
        }
        if let Choice::Only(only) = choice
            && only != Package::Djforge
            && tokens.is_empty()
        {
            return Err(Failure::refused(format!("the source has no table of {only}")));
        }
        let has = |package: Package| tokens.iter().any(|tokens| tokens.package == package);
        Ok(Project {
            users: Users::find(&tables, &tokens, settings)?,
            clients: named(CLIENTS).filter(|_| has(Package::Durin)).cloned(),
            locks: named(LOCKS).filter(|_| has(Package::Advanced)).cloned(),
            links: named(LINKS).filter(|_| has(Package::RestAuthtoken)).cloned(),
            tokens,
        })
    }
}

/// Whose `authtoken_token` is: django-drf-advanced-token's where its table of locks, its entry in INSTALLED_APPS or its content
/// type is there. It ships no migration, so that a project may have the package and not the table.
fn shared_table(source: &mut dyn Source, tables: &[Table], settings: &Settings) -> Result<Package, Failure> {
    const APP: &str = "drf_advanced_token";
    let is_app = |app: &String| app == APP || app.strip_prefix(APP).is_some_and(|rest| rest.starts_with('.'));
    if tables.iter().any(|table| table.name == LOCKS) || settings.installed_apps.iter().any(is_app) {
        return Ok(Package::Advanced);
    }
    let mut package = Package::Authtoken;
    let types = tables.iter().find(|table| table.name == "django_content_type");
    if let Some(types) = types.filter(|types| types.column("app_label").is_some()) {
        source.rows(types, &["app_label"], &mut |row| {
            if row.first().map(Cell::text) == Some(Ok(Some(APP))) {
                package = Package::Advanced;
            }
            Ok(())
        })?;
    }
    Ok(package)
}

impl Users {
    fn find(tables: &[Table], tokens: &[Tokens], settings: &Settings) -> Result<Users, Failure> {
        let named = |name: &str| tables.iter().find(|table| table.name == name);
        let hint = "name it with USER_TABLE or AUTH_USER_MODEL in the file of --settings";
        let table = match &settings.user_table {
            Some(name) => {
                named(name).ok_or_else(|| Failure::refused(format!("the source has no table {name}")).hint(hint))?
            }
            None => {
                // What the tokens' users refer to cannot be wrong; what the admin's log refers to hardly.
                let admin = named("django_admin_log");
                let referred = tokens
                    .iter()
                    .map(|tokens| &tokens.table)
                    .chain(admin)
                    .filter_map(|table| table.column("user_id")?.refers_to.as_deref())
                    .find_map(named);
                let mut shaped = tables.iter().filter(|table| looks_like_users(table));
                let only = shaped.next().filter(|_| shaped.next().is_none());
                referred.or_else(|| named("auth_user")).or(only).ok_or_else(|| {
                    Failure::refused("the source has no table of users that can be told for one").hint(hint)
                })?
            }
        };
        let lacks = |what: &str| Failure::refused(format!("the table {} has no column {what}", table.name)).hint(hint);
        let key = table.primary().map_or("id", |column| column.name.as_str());
        let key = table.column(key).ok_or_else(|| lacks(key))?;
        table.column("password").ok_or_else(|| lacks("password"))?;
        let username = match &settings.username_field {
            Some(name) => table.column(name).ok_or_else(|| lacks(name))?,
            None => ["username", "email"]
                .into_iter()
                .find_map(|name| table.column(name))
                .ok_or_else(|| lacks("username; USERNAME_FIELD in --settings names another"))?,
        };
        let confirmed = match &settings.confirmed_field {
            Some(name) => Some(table.column(name).ok_or_else(|| lacks(name))?),
            // It says what it is.
            None => table.column("email_confirmed"),
        };
        Ok(Users {
            key: key.name.clone(),
            key_is_uuid: key.kind == "uuid" || key.kind == "char(32)",
            username: username.name.clone(),
            confirmed: confirmed.map(|column| column.name.clone()),
            table: table.clone(),
        })
    }
}

fn looks_like_users(table: &Table) -> bool {
    let has = |name: &str| table.column(name).is_some();
    has("password") && has("last_login") && (has("username") || has("email"))
}
