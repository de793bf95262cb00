//! Where everything is kept: [`StorePlace`].

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use counterfoil::Builder;
use counterfoil::postgres::{ConnectOptions, Migrations};
use counterfoil::redis::{Address, LimitsAddress, NotAnAddress};
use zeroize::Zeroizing;

use crate::config::private;
use crate::failure::Failure;
use crate::setting::Chosen;

/// Where everything is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorePlace {
    /// In the embedded store, in the data directory.
    DataDir,
    /// In PostgreSQL, which other nodes share.
    Postgres(PostgresPlace),
}

/// Which database, and who makes its tables.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresPlace {
    url: Zeroizing<String>,
    migrate: Migrate,
}

/// Who makes the tables that a version needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Migrate {
    /// The server, when it is started.
    AtStart,
    /// `counterfoil migrate`, as another role.
    ByCommand,
}

/// Shows no password.
impl fmt::Debug for PostgresPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresPlace").field(&self.shown()).finish()
    }
}

impl PostgresPlace {
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The URL without what may be secret in it: the password, and parameters.
    pub(crate) fn shown(&self) -> String {
        let (url, query) = self.url.split_once('?').unwrap_or((self.url.as_str(), ""));
        if query.contains('@') {
            return "postgres://…".to_owned();
        }
        match password_of(url) {
            Some(password) => url.replacen(&format!(":{password}@"), "@", 1),
            None => url.to_owned(),
        }
    }

    /// How a command connects that must not make tables by the way.
    pub(crate) fn options(&self) -> ConnectOptions {
        ConnectOptions { migrations: Migrations::Require, ..ConnectOptions::default() }
    }

    fn options_to_begin(&self) -> ConnectOptions {
        let migrations = match self.migrate {
            Migrate::AtStart => Migrations::Apply,
            Migrate::ByCommand => Migrations::Require,
        };
        ConnectOptions { migrations, ..ConnectOptions::default() }
    }
}

impl StorePlace {
    /// What the settings say, and the data directory, which they may say in its place.
    ///
    /// # Errors
    /// Where they say two places, or one that there is no store for.
    pub(crate) fn judge(chosen: &Chosen, data_dir: PathBuf) -> Result<(StorePlace, PathBuf), Failure> {
        let migrate = chosen.required("store.migrate", |text| match text {
            "at-start" => Ok(Migrate::AtStart),
            "by-command" => Ok(Migrate::ByCommand),
            _ => Err("expected at-start or by-command".to_owned()),
        })?;
        let Some(url) = url(chosen, "store.url", "store.url_file", "the store")? else {
            return Ok((StorePlace::DataDir, data_dir));
        };
        let place = StorePlace::named(&url, migrate)?;
        match place {
            Named::Directory(path) => Ok((StorePlace::DataDir, path)),
            Named::Store(place) => Ok((place, data_dir)),
        }
    }

    fn named(url: &str, migrate: Migrate) -> Result<Named, Failure> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if !path.is_empty() {
                return Ok(Named::Directory(PathBuf::from(path)));
            }
        }
        if ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            let url = Zeroizing::new(url.to_owned());
            return Ok(Named::Store(StorePlace::Postgres(PostgresPlace { url, migrate })));
        }
        if ["redis", "valkey"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(Failure::usage("the store's URL is of a Redis, which keeps tokens alone").hint(
                "name it with store.tokens_url, and where the rest is kept with store.url or data_dir: docs/redis.md",
            ));
        }
        // What it is instead may be a password in the wrong place.
        Err(Failure::usage("the store's URL is of no store that this version can open")
            .hint("expected sqlite:DIR, or postgres://USER@HOST/DATABASE"))
    }

    /// The same for a server, or a command that may be the first one ever.
    pub(crate) fn begun_by(&self, builder: Builder, data_dir: &Path) -> Builder {
        match self {
            StorePlace::DataDir => builder.sqlite(data_dir),
            StorePlace::Postgres(place) => builder.postgres_with(place.url(), place.options_to_begin()),
        }
    }

    /// The same for a command that needs something to be there.
    pub(crate) fn found_by(&self, builder: Builder, data_dir: &Path) -> Builder {
        match self {
            StorePlace::DataDir => builder.existing_sqlite(data_dir),
            StorePlace::Postgres(place) => builder.postgres_with(place.url(), place.options()),
        }
    }

    /// For the log, and for people.
    pub(crate) fn shown(&self, data_dir: &Path) -> String {
        match self {
            StorePlace::DataDir => data_dir.display().to_string(),
            StorePlace::Postgres(place) => place.shown(),
        }
    }

    /// # Errors
    /// Where `what` is done with the files of the embedded store, and there are none.
    pub(crate) fn needs_files(&self, what: &str) -> Result<(), Failure> {
        match self {
            StorePlace::DataDir => Ok(()),
            StorePlace::Postgres(place) => Err(Failure::refused(format!(
                "everything is kept in {}, and {what} is for the embedded store",
                place.shown()
            ))
            .hint("use PostgreSQL's own ways to back up and restore: see docs/postgres.md")),
        }
    }
}

enum Named {
    Directory(PathBuf),
    Store(StorePlace),
}

/// Refuses a URL with a password among the arguments of a program, which every user of the machine reads.
///
/// # Errors
/// What to do instead.
pub(crate) fn may_be_an_argument(url: &str) -> Result<(), Failure> {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    // Behind an `@` in the query there is the end of a password with a `?` in it.
    if password_of(base).is_none() && !query.contains('@') && !url.contains("password=") {
        return Ok(());
    }
    Err(Failure::usage(
        "--store has a password in it, and every user of this machine can read the arguments of a program",
    )
    .hint("put the URL into a file of mode 0600 and name it with store.url_file, or into COUNTERFOIL_STORE_URL"))
}

/// What stands between the user's name and the host.
fn password_of(base: &str) -> Option<&str> {
    let (_, authority) = base.split_once("://")?;
    let (user, _) = authority.rsplit_once('@')?;
    user.split_once(':').map(|(_, password)| password)
}

/// The Redis that tokens are kept in, if the settings say so.
///
/// # Errors
/// Where they say two places, or none that can be one.
pub(crate) fn tokens(chosen: &Chosen) -> Result<Option<Address>, Failure> {
    redis(chosen, "store.tokens_url", "store.tokens_url_file", "where tokens are kept")
}

/// Where all nodes count together, if the settings say so.
///
/// # Errors
/// Where they say two places, or none that can be one.
pub(crate) fn limits(chosen: &Chosen) -> Result<Option<LimitsAddress>, Failure> {
    redis(chosen, "limits.redis_url", "limits.redis_url_file", "where to count")
}

fn redis<A>(chosen: &Chosen, key: &'static str, file_key: &'static str, what: &str) -> Result<Option<A>, Failure>
where
    A: FromStr<Err = NotAnAddress>,
{
    let url = url(chosen, key, file_key, what)?;
    // The error repeats nothing of it.
    url.map(|url| url.parse().map_err(|error| Failure::usage(format!("{key}: {error}")))).transpose()
}

/// A URL that may have a password in it, as one of two settings says it.
fn url(
    chosen: &Chosen,
    key: &'static str,
    file_key: &'static str,
    what: &str,
) -> Result<Option<Zeroizing<String>>, Failure> {
    let spelled = chosen.optional(key, |url| Ok(Zeroizing::new(url.to_owned())))?;
    let file = chosen.optional(file_key, |path| Ok(PathBuf::from(path)))?;
    match (spelled, file) {
        (Some(_), Some(_)) => Err(Failure::usage(format!("{key} and {file_key} both say {what}; set one of them"))),
        (None, Some(file)) => read(file_key, &file).map(Some),
        (url, None) => Ok(url),
    }
}

fn read(key: &str, file: &Path) -> Result<Zeroizing<String>, Failure> {
    let read = private(file).and_then(|()| fs::read_to_string(file)).map(Zeroizing::new);
    let url = read.map_err(|error| Failure::usage(format!("{key}: cannot use {}: {error}", file.display())))?;
    Ok(Zeroizing::new(url.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(file: &str) -> Result<(StorePlace, PathBuf), Failure> {
        let mut chosen = Chosen::defaults();
        chosen.read_file(Path::new("x.toml"), file)?;
        StorePlace::judge(&chosen, PathBuf::from("d"))
    }

    #[test]
    fn a_store_is_named_by_its_url_and_its_password_is_shown_nowhere() {
        assert_eq!(judged("").expect("no store"), (StorePlace::DataDir, PathBuf::from("d")));
        let (place, directory) = judged("[store]\nurl = \"sqlite:/var/lib/x\"").expect("a directory");
        assert_eq!((place, directory), (StorePlace::DataDir, PathBuf::from("/var/lib/x")));
        let (place, _) =
            judged("[store]\nurl = \"postgres://app:hunter2@a,b/tokens?sslmode=disable\"").expect("a store");
        assert_eq!(place.shown(Path::new("d")), "postgres://app@a,b/tokens");
        assert!(!format!("{place:?}").contains("hunter2"), "{place:?}");
        let (place, _) =
            judged("[store]\nurl = \"postgres://app:hunter2?x@a/tokens\"").expect("looked at when it is opened");
        assert!(!format!("{place:?} {}", place.shown(Path::new("d"))).contains("hunter2"), "{place:?}");
        for (file, why) in [
            ("[store]\nurl = \"mysql://app:hunter2@h/d\"", "no store that this version can open"),
            ("[store]\nurl = \"sqlite:\"", "no store that this version can open"),
            ("[store]\nurl = \"rediss://app:hunter2@h\"", "keeps tokens alone"),
            ("[store]\nurl = \"postgres://h/d\"\nurl_file = \"f\"", "set one of them"),
            ("[store]\nurl_file = \"no-such-file\"", "store.url_file"),
            ("[store]\nmigrate = \"never\"", "by-command"),
        ] {
            let refused = judged(file).expect_err(file).to_string();
            assert!(refused.contains(why) && !refused.contains("hunter2"), "{refused}");
        }
    }

    #[test]
    fn tokens_are_kept_where_the_settings_say_and_no_password_is_shown() {
        let judged = |file: &str| {
            let mut chosen = Chosen::defaults();
            chosen.read_file(Path::new("x.toml"), file)?;
            tokens(&chosen)
        };
        assert!(judged("").expect("with the rest").is_none());
        let address = judged("[store]\ntokens_url = \"redis+sentinel://app:hunter2@a,b/main\"").expect("somewhere");
        let address = address.expect("an address");
        assert_eq!(address.to_string(), "redis+sentinel://a:26379,b:26379/main");
        assert!(!format!("{address:?}").contains("hunter2"));
        for (file, why) in [
            ("[store]\ntokens_url = \"postgres://app:hunter2@h/d\"", "the scheme is redis"),
            ("[store]\ntokens_url = \"redis+cluster://app:hunter2@h\"", "the scheme is redis"),
            ("[store]\ntokens_url = \"redis://h\"\ntokens_url_file = \"f\"", "set one of them"),
            ("[store]\ntokens_url_file = \"no-such-file\"", "store.tokens_url_file"),
        ] {
            let refused = judged(file).expect_err(file).to_string();
            assert!(refused.contains(why) && !refused.contains("hunter2"), "{refused}");
        }
    }

    #[test]
    fn limits_are_counted_where_the_settings_say_and_no_password_is_shown() {
        let judged = |file: &str| {
            let mut chosen = Chosen::defaults();
            chosen.read_file(Path::new("x.toml"), file)?;
            limits(&chosen)
        };
        assert!(judged("").expect("nowhere").is_none());
        let address = judged("[limits]\nredis_url = \"rediss+cluster://app:hunter2@a,b\"").expect("somewhere");
        assert!(!format!("{:?}", address.expect("an address")).contains("hunter2"));
        for (file, why) in [
            ("[limits]\nredis_url = \"postgres://app:hunter2@h/d\"", "the scheme is redis"),
            ("[limits]\nredis_url = \"redis://h\"\nredis_url_file = \"f\"", "set one of them"),
            ("[limits]\nredis_url_file = \"no-such-file\"", "limits.redis_url_file"),
        ] {
            let refused = judged(file).expect_err(file).to_string();
            assert!(refused.contains(why) && !refused.contains("hunter2"), "{refused}");
        }
    }

    #[test]
    fn r34_a_password_is_no_argument() {
        for fine in ["sqlite:d", "postgres://app@h/d", "postgres://h/d?sslmode=require"] {
            may_be_an_argument(fine).expect(fine);
        }
        for secret in
            ["postgres://app:hunter2@h/d", "postgres://app@h/d?password=hunter2", "postgres://app:hunter2?x@h/d"]
        {
            let refused = may_be_an_argument(secret).expect_err(secret).to_string();
            assert!(!refused.contains("hunter2"), "{refused}");
        }
    }
}
