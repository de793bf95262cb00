//! `counterfoil store copy`: everything from one store to another.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use counterfoil::copy::{Place, Progress, copy};
use serde_json::{Map, json};
use zeroize::Zeroizing;

use crate::failure::{Failure, causes};
use crate::output::Output;

/// What is done with whole stores.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Copy everything between SQLite and PostgreSQL, while nothing serves it, and read it through again
    Copy(StoreCopy),
}

impl StoreCommand {
    pub(crate) async fn run(self, output: Output, environment: &[(OsString, OsString)]) -> Result<(), Failure> {
        match self {
            StoreCommand::Copy(command) => command.run(output, environment).await,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct StoreCopy {
    /// The store that is left: sqlite:DIR, or postgres://USER@HOST/DATABASE without a password
    #[arg(long, value_name = "URL")]
    from: String,
    /// The store that takes its place; it must be empty, or not be there yet
    #[arg(long, value_name = "URL")]
    to: String,
    /// Do it
    #[arg(long)]
    yes: bool,
}

impl StoreCopy {
    async fn run(self, output: Output, environment: &[(OsString, OsString)]) -> Result<(), Failure> {
        let (from, to) = (place(&self.from, environment)?, place(&self.to, environment)?);
        if !self.yes {
            return Err(Failure::unconfirmed(format!("copies everything in {from} to {to}")));
        }
        let mut told = Told { output, table: "", tenth: 0 };
        let copied = copy(&from, &to, |progress| told.come(&progress)).await;
        let copied = copied.map_err(|error| Failure::refused(causes(&error)))?;
        let rows = |table| copied.rows_of(table).to_string();
        let tables: Map<_, _> = copied.tables.iter().map(|(table, rows)| ((*table).to_owned(), json!(rows))).collect();
        output.record(
            &[
                ("from", from.to_string()),
                ("to", to.to_string()),
                ("tokens", rows("tokens")),
                ("accounts", rows("accounts")),
                ("audit entries", rows("audit")),
                ("verified", "every row was read again, and is what was written".to_owned()),
                (
                    "not copied",
                    "the key ring (setting key_ring_file), which every node needs, and the settings".to_owned(),
                ),
                ("next", format!("serve from {to}, and never from both: {from} stays as it is")),
            ],
            &json!({
                "from": from.to_string(),
                "to": to.to_string(),
                "rows": tables,
                "verified": true,
                "key_ring_copied": false,
            }),
        )
    }
}

/// What people are told on the way: each table that is done, and of a large one each tenth.
struct Told {
    output: Output,
    table: &'static str,
    tenth: u64,
}

impl Told {
    fn come(&mut self, progress: &Progress) {
        let Progress { table, verifying, done, total } = *progress;
        let tenth = done.saturating_mul(10).checked_div(total).unwrap_or(10) + if verifying { 11 } else { 0 };
        if self.output == Output::Json || total == 0 || (self.table, self.tenth) == (table, tenth) {
            return;
        }
        let is_small = total < 100_000;
        (self.table, self.tenth) = (table, tenth);
        if is_small && !(verifying && done == total) {
            return;
        }
        let what = if verifying { "read again" } else { "copied" };
        // Where stderr is closed, nobody wants to know.
        writeln!(io::stderr().lock(), "{table}: {what} {done} of {total}").ok();
    }
}

/// A store by its URL, with the password that is kept for it.
fn place(url: &str, environment: &[(OsString, OsString)]) -> Result<Place, Failure> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if !path.is_empty() {
            return Ok(Place::Sqlite(PathBuf::from(path)));
        }
    }
    if ["redis", "valkey"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(Failure::usage("tokens that are kept in a Redis are not copied")
            .hint("what is kept beside them is, from SQLite and PostgreSQL; go on with the same store.tokens_url, or let everybody log in again"));
    }
    let Some(rest) = ["postgres://", "postgresql://"].iter().find_map(|scheme| url.strip_prefix(scheme)) else {
        // What it is instead may be a password in the wrong place.
        return Err(Failure::usage("the URL is of no store that this version can copy")
            .hint("expected sqlite:DIR, or postgres://USER@HOST/DATABASE"));
    };
    let address = Address::of(rest);
    if address.has_password {
        return Err(Failure::usage("a password in an argument is seen by everybody on this machine; nothing was done")
            .hint("put it into PGPASSWORD, or into ~/.pgpass (mode 0600) as HOST:PORT:DATABASE:USER:PASSWORD"));
    }
    let Some(password) = kept_password(&address, environment) else { return Ok(Place::Postgres(url.to_owned())) };
    let encoded: String = password.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let and = if rest.contains('?') { '&' } else { '?' };
    Ok(Place::Postgres(format!("{url}{and}password={encoded}")))
}

/// What a password is kept for.
struct Address<'a> {
    user: &'a str,
    host: &'a str,
    port: &'a str,
    database: &'a str,
    has_password: bool,
}

impl Address<'_> {
    fn of(rest: &str) -> Address<'_> {
        let (base, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = base.split_once('/').unwrap_or((base, ""));
        let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let in_parameters =
            |name: &str| parameters.split('&').filter_map(|one| one.split_once('=')).find(|(known, _)| *known == name);
        let (named_user, has_password) = match user.split_once(':') {
            Some((user, _)) => (user, true),
            None => (user, in_parameters("password").is_some()),
        };
        // Of several hosts the first: they are nodes of one database, with the same roles.
        let first = hosts.split(',').next().unwrap_or_default();
        let (host, port) = match first.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port),
            Some(_) | None => (first, "5432"),
        };
        let host = in_parameters("host").map_or(host, |(_, host)| host);
        let port = in_parameters("port").map_or(port, |(_, port)| port);
        Address { user: named_user, host, port, database, has_password }
    }
}

/// Where libpq looks for a password: `PGPASSWORD`, then the file that `PGPASSFILE` names, or `~/.pgpass`.
fn kept_password(address: &Address<'_>, environment: &[(OsString, OsString)]) -> Option<Zeroizing<String>> {
    let variable = |name: &str| environment.iter().find(|(known, _)| known == name).map(|(_, value)| value);
    if let Some(password) = variable("PGPASSWORD").and_then(|value| value.to_str()) {
        return Some(Zeroizing::new(password.to_owned()));
    }
    let file = match variable("PGPASSFILE") {
        Some(file) => PathBuf::from(file),
        None => Path::new(variable("HOME")?).join(".pgpass"),
    };
    if !is_private(&file) {
        return None;
    }
    let lines = Zeroizing::new(fs::read_to_string(file).ok()?);
    lines.lines().filter(|line| !line.starts_with('#')).find_map(|line| password_in(line, address))
}

/// The password of a line `HOST:PORT:DATABASE:USER:PASSWORD`, if it is for that address: `*` is any, and a backslash takes a colon or
/// a backslash for itself.
fn password_in(line: &str, address: &Address<'_>) -> Option<Zeroizing<String>> {
    let mut fields = vec![Zeroizing::new(String::new())];
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match c {
            ':' if fields.len() < 5 => fields.push(Zeroizing::default()),
            '\\' => fields.last_mut()?.extend(characters.next()),
            c => fields.last_mut()?.push(c),
        }
    }
    let [host, port, database, user, password] = <[Zeroizing<String>; 5]>::try_from(fields).ok()?;
    let asked = [(host, address.host), (port, address.port), (database, address.database), (user, address.user)];
    asked.iter().all(|(field, is)| field.as_str() == "*" || field.as_str() == *is).then_some(password)
}

/// libpq uses no file that others can read.
fn is_private(file: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 == 0)
    }
    #[cfg(not(unix))]
    {
        file.exists()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_found_where_libpq_looks_and_never_taken_from_an_argument() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("pgpass");
        fs::write(&file, "# mine\nother:*:*:*:wrong\ndb:5432:tokens:app:a\\:b\\\\c:d\n*:*:*:*:any\n").expect("a file");
        let environment = |variables: &[(&str, &str)]| -> Vec<(OsString, OsString)> {
            variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
        };
        let named = environment(&[("PGPASSFILE", file.to_str().expect("UTF-8"))]);
        let found = |url: &str, environment: &[(OsString, OsString)]| {
            kept_password(&Address::of(url), environment).map(|password| password.to_string())
        };
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("a mode");
            assert_eq!(found("app@db/tokens", &named), None, "others can read it");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("a mode");
        }
        assert_eq!(found("app@db/tokens", &named).as_deref(), Some("a:b\\c:d"));
        assert_eq!(found("app@db:5433,db/tokens", &named).as_deref(), Some("any"));
        assert_eq!(found("app@db/tokens", &environment(&[("PGPASSWORD", "first")])).as_deref(), Some("first"));
        assert_eq!(found("app@db/tokens", &environment(&[])), None);

        for url in
            ["postgres://app:hunter2@db/tokens", "postgres://app@db/tokens?password=hunter2", "mysql://x:hunter2@y"]
        {
            let failure = place(url, &[]).expect_err("refused");
            let (why, hint) = failure.parts();
            assert!(!format!("{why} {hint:?}").contains("hunter2"), "{why}");
        }
        let with = place("postgres://app@db/tokens", &environment(&[("PGPASSWORD", "p@&%")])).expect("a place");
        assert_eq!(with, Place::Postgres("postgres://app@db/tokens?password=%70%40%26%25".into()));
        assert_eq!(with.to_string(), "postgres://db/tokens");
    }
}
