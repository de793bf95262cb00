//! What the operator may choose: [`Config`].
//!
//! A setting comes from its default, the file, the environment or a flag, the later outranking the earlier. All are read
//! once, by name, and judged once, here; what would open a hole is refused before anything starts.

use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use counterfoil::redis::{Address, LimitsAddress};
use counterfoil::{
    AccountField, Builder, Counterfoil, FailedLogins, HashingCapacity, HashingParams, HttpSettings, KeyRing, Lifetime,
    Links, NotAKeyRing, NotARate, Origin, Rate, RouteRates, Settings, TrustedProxy,
};
use ipnet::IpNet;
use tracing::Level;
use zeroize::Zeroizing;

use crate::account_settings;
use crate::failure::{Failure, causes};
use crate::listen::Place;
use crate::mail_settings::{MailSettings, MailTransport};
use crate::mounts::Mounts;
use crate::setting::Chosen;
use crate::store_place::{self, StorePlace};

/// Every choice, judged. [`Config::default`] is what `counterfoil serve` runs with when nothing is said.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: Place,
    /// Where everything is kept, but for the tokens where those are in Redis.
    pub store: StorePlace,
    /// The Redis that tokens are kept in; `None`: they are where everything is.
    pub tokens: Option<Address>,
    /// Where all nodes count together; `None`: each counts for itself.
    pub limits: Option<LimitsAddress>,
    /// Where the embedded store keeps it, and mails that are written to files.
    pub data_dir: PathBuf,
    /// What links in mails and pages begin with.
    pub base_url: Option<String>,
    /// The file with the keys that seal secrets.
    pub key_ring_file: Option<PathBuf>,
    /// How long requests under way may take to finish when the server is told to stop.
    pub shutdown_grace: Duration,
    /// What the log says and how.
    pub log: Log,
    /// Where what is measured is shown; nothing is measured without it.
    pub metrics_listen: Option<Place>,
    /// How much hashing may go on at once.
    pub capacity: HashingCapacity,
    /// How many tokens are answered from memory; `None`: none.
    pub cached_tokens: Option<NonZeroUsize>,
    /// What the authority goes by.
    pub authority: Settings,
    /// How mails are written and sent.
    pub mail: MailSettings,
    /// How many connections may be open at once; more wait until one ends.
    pub max_connections: NonZeroUsize,
    /// How long answers may wait for a client that makes no room for them.
    pub write_timeout: Duration,
    /// How long a client may take to send the head of a request, and a connection may be idle between two.
    pub head_timeout: Duration,
    /// What the head of a request may take.
    pub head_bytes: usize,
    /// What the routes go by.
    pub http: HttpSettings,
    /// Where dialects are spoken.
    pub mounts: Mounts,
}

/// What the log says and how. It goes to stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// For whom.
    pub format: LogFormat,
    /// The least important entries written.
    pub level: Level,
}

/// For whom the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// A line of text for people.
    Human,
    /// A line of JSON for programs.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        let chosen = Chosen::defaults();
        // A test reads every default.
        Config::judge(&chosen).unwrap_or_else(|failure| panic!("a default is refused: {failure}"))
    }
}

impl Config {
    /// What a file of this name with this text says, over the defaults, without the environment.
    ///
    /// # Errors
    /// As the program refuses it, with status 2.
    pub fn of_file(name: &str, text: &str) -> Result<Config, Failure> {
        let mut chosen = Chosen::defaults();
        chosen.read_file(Path::new(name), text)?;
        Config::judge(&chosen)
    }

    /// Makes of raw settings what they mean.
    ///
    /// # Errors
    /// With the first setting that makes no sense or would open a hole, and why.
    pub(crate) fn judge(chosen: &Chosen) -> Result<Config, Failure> {
        let ttl = |key| chosen.required(key, |text| text.parse::<Lifetime>().map_err(|error| error.to_string()));
        let seconds = |key| ttl(key).map(|lifetime| Duration::from_secs(lifetime.seconds()));
        let request_timeout = seconds("http.request_timeout")?;
        let http = HttpSettings {
            trusted_proxies: chosen.list("trusted_proxies", trusted_proxy)?,
            user_fields: chosen.list("http.user_fields", account_field)?,
            cors_origins: chosen
                .list("http.cors_origins", |text| text.parse::<Origin>().map_err(|error| error.to_string()))?,
            realm: chosen.required("http.realm", realm)?,
            request_timeout,
            body_timeout: body_timeout(seconds("http.body_timeout")?, request_timeout)?,
            ..HttpSettings::default()
        };
        let listen = chosen.required("listen", Place::parse)?;
        let (store, data_dir) = StorePlace::judge(chosen, chosen.required("data_dir", path)?)?;
        let base_url = chosen.optional("base_url", base_url)?;
        let host = base_url.as_deref().and_then(host_of);
        let site = chosen.optional("site", site)?;
        let site = site.or_else(|| host.clone()).unwrap_or_else(|| "counterfoil".to_owned());
        let mail = MailSettings::judge(chosen, &data_dir, host.as_deref(), &site)?;
        if base_url.is_none() && matches!(mail.transport, MailTransport::Smtp(_)) {
            return Err(Failure::usage("base_url is not set, and mail.transport = \"smtp\"")
                .hint("say what links in mails begin with: base_url = \"https://auth.example.org\""));
        }
        let links = base_url.clone().or_else(|| local_base(&listen, &mail));
        // On a free port it is known only when that is listened on.
        let pages = links.is_some() || stays_here(&listen, &mail);
        let mounts = Mounts::judge(chosen)?;
        let mut authority = Settings {
            rotation_grace: ttl("tokens.rotation_grace")?,
            retention: ttl("tokens.retention")?,
            hashing: hashing(chosen)?,
            failed_logins: FailedLogins::per_source(chosen.required("logins.failed_per_source", rate)?),
            misses: chosen.required("throttle.misses", rate)?,
            requests: RouteRates {
                login: chosen.optional("throttle.login", rate)?,
                api: chosen.optional("throttle.api", rate)?,
                introspection: chosen.optional("throttle.introspection", rate)?,
            },
            accounts: account_settings::judge(chosen, links, pages, host.as_deref(), site, &mail.transport)?,
            audit_retention: ttl("audit.retention")?,
            audit_anonymous_after: ttl("audit.anonymous_after")?,
        };
        mounts.rule(&mut authority.accounts);
        let tokens = store_place::tokens(chosen)?;
        if let Some(tokens) = tokens.as_ref().filter(|tokens| tokens.keeps_dead() < retention(&authority)) {
            let days = |time: Duration| time.as_secs().div_ceil(24 * 60 * 60);
            return Err(Failure::usage(format!(
                "tokens.retention is {} days, and the Redis of store.tokens_url removes dead tokens after {}",
                days(retention(&authority)),
                days(tokens.keeps_dead()),
            ))
            .hint(format!("put ?keep_dead_days={} behind the URL", days(retention(&authority)) + 1)));
        }
        let default = HashingCapacity::default();
        let capacity = HashingCapacity {
            threads: chosen.number("hashing.threads", 1..=256)?.map_or(default.threads, at_least_one),
            queue: chosen.number("hashing.queue", 1..=100_000)?.map_or(default.queue, at_least_one),
        };
        Ok(Config {
            listen,
            store,
            tokens,
            limits: store_place::limits(chosen)?,
            data_dir,
            base_url,
            key_ring_file: chosen.optional("key_ring_file", path)?,
            shutdown_grace: seconds("shutdown_grace")?,
            log: Log {
                format: chosen.required("log.format", log_format)?,
                level: chosen.required("log.level", log_level)?,
            },
            metrics_listen: chosen.optional("metrics.listen", metrics_place)?,
            capacity,
            cached_tokens: chosen
                .number("tokens.cached", 0..=100_000_000)?
                .and_then(|tokens| NonZeroUsize::new(usize::try_from(tokens).ok()?)),
            authority,
            mail,
            max_connections: chosen
                .number("http.max_connections", 1..=1_000_000)?
                .map_or(NonZeroUsize::MIN, at_least_one),
            write_timeout: seconds("http.write_timeout")?,
            head_timeout: seconds("http.head_timeout")?,
            head_bytes: chosen
                .number("http.head_bytes", 8192..=1_048_576)?
                .and_then(|bytes| usize::try_from(bytes).ok())
                .unwrap_or(65_536),
            http,
            mounts,
        })
    }

    /// What keeps everything, for a server, or a command that may be the first one ever.
    pub(crate) fn begun(&self) -> Builder {
        self.with_tokens(self.store.begun_by(Counterfoil::builder(), &self.data_dir))
    }

    /// The same for a command that needs something to be there.
    pub(crate) fn found(&self) -> Builder {
        self.with_tokens(self.store.found_by(Counterfoil::builder(), &self.data_dir))
    }

    fn with_tokens(&self, builder: Builder) -> Builder {
        match &self.tokens {
            Some(address) => builder.tokens_in_redis(address.clone()),
            None => builder,
        }
    }

    /// Links begin with `url`, where it was listened on any free port and nothing else is said.
    pub(crate) fn listening_on(&mut self, url: &str) {
        let on_any_port = matches!(self.listen, Place::Address(address) if address.port() == 0);
        if let (None, true, Ok(listen)) = (&self.base_url, on_any_port, Place::parse(url.trim_start_matches("http://")))
        {
            let links = &mut self.authority.accounts.links;
            links.base = links.base.take().or_else(|| local_base(&listen, &self.mail));
        }
    }

    /// Reads the key ring, if one is named.
    ///
    /// # Errors
    /// When the file cannot be read, others than its owner may read it, or it is no key ring.
    pub(crate) fn key_ring(&self) -> Result<Option<KeyRing>, Failure> {
        self.key_ring_file.as_deref().map(read_key_ring).transpose()
    }
}

/// How long dead tokens are kept.
fn retention(settings: &Settings) -> Duration {
    Duration::from_millis(settings.retention.millis())
}

/// Reads a key ring.
///
/// # Errors
/// As [`Config::key_ring`].
pub(crate) fn read_key_ring(path: &Path) -> Result<KeyRing, Failure> {
    let failed = |error: &dyn std::error::Error| {
        Failure::usage(format!("the key ring {}: {}", path.display(), causes(error))).hint(
            "`counterfoil keyring init --file FILE` makes a ring for key_ring_file; every node needs the same one",
        )
    };
    private(path).map_err(|error| failed(&error))?;
    let text = Zeroizing::new(fs::read_to_string(path).map_err(|error| failed(&error))?);
    text.parse().map_err(|error: NotAKeyRing| failed(&error))
}

/// Whether its owner alone may read it.
#[cfg(unix)]
pub(crate) fn private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;

    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        Ok(())
    } else {
        Err(io::Error::other(format!("its mode is {mode:04o}, so others can read it; chmod 0600 it")))
    }
}

#[cfg(not(unix))]
pub(crate) fn private(_: &Path) -> io::Result<()> {
    Ok(())
}

fn hashing(chosen: &Chosen) -> Result<HashingParams, Failure> {
    let part = |key| Ok::<_, Failure>(chosen.number(key, 1..=u32::MAX)?.unwrap_or(1));
    let (memory, iterations, parallelism) =
        (part("hashing.memory")?, part("hashing.iterations")?, part("hashing.parallelism")?);
    HashingParams::new(memory, iterations, parallelism).map_err(|error| {
        Failure::usage(format!(
            "hashing.memory = {memory}, hashing.iterations = {iterations}, hashing.parallelism = {parallelism}: {error}"
        ))
        .hint("leave all three out for the defaults; a weaker hash gives a stolen database's passwords away")
    })
}

fn body_timeout(body: Duration, request: Duration) -> Result<Duration, Failure> {
    if body < request {
        return Ok(body);
    }
    let (body, request) = (body.as_secs(), request.as_secs());
    let why = format!("http.body_timeout = {body}s is not less than http.request_timeout = {request}s");
    Err(Failure::usage(why).hint("the time for a body is part of the time for its request; choose both"))
}

fn rate(text: &str) -> Result<Rate, String> {
    text.parse().map_err(|error: NotARate| error.to_string())
}

fn at_least_one(number: u32) -> NonZeroUsize {
    usize::try_from(number).ok().and_then(NonZeroUsize::new).unwrap_or(NonZeroUsize::MIN)
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("expected a path".to_owned()) } else { Ok(text.into()) }
}

/// A network whose word about the client's address is believed. Wider than the widest private ones (10.0.0.0/8, fc00::/7)
/// is never a proxy of yours: it is a way to say "everybody".
///
/// `unix` stands for whoever speaks over the Unix socket, whose mode is what keeps strangers out.
fn trusted_proxy(text: &str) -> Result<TrustedProxy, String> {
    if text == "unix" {
        return Ok(TrustedProxy::UnixSocket);
    }
    let net = match (text.parse::<IpNet>(), text.parse::<IpAddr>()) {
        (Ok(net), _) => net.trunc(),
        (_, Ok(address)) => address.into(),
        _ => {
            return Err(
                "expected an address, a network or unix: \"10.0.0.5\", \"10.0.0.0/24\", \"fd00::/8\"".to_owned()
            );
        }
    };
    let widest = match net {
        IpNet::V4(_) => 8,
        IpNet::V6(_) => 7,
    };
    if net.prefix_len() < widest {
        return Err(
            "trusting every proxy lets any client choose the address it seems to come from; name the addresses of \
                    your own proxies"
                .to_owned(),
        );
    }
    Ok(net.into())
}

/// systemd hands over one socket, and that is not for this.
fn metrics_place(text: &str) -> Result<Place, String> {
    match Place::parse(text)? {
        Place::Systemd => Err("expected an address and a port: \"127.0.0.1:9464\"; or \"unix:PATH\"".to_owned()),
        place @ (Place::Address(_) | Place::UnixSocket(_)) => Ok(place),
    }
}

/// The names of [`AccountField`], as answers carry them.
const ACCOUNT_FIELDS: [(&str, AccountField); 12] = [
    ("id", AccountField::Id),
    ("username", AccountField::Username),
    ("email", AccountField::Email),
    ("email_confirmed", AccountField::EmailConfirmed),
    ("first_name", AccountField::FirstName),
    ("last_name", AccountField::LastName),
    ("attributes", AccountField::Attributes),
    ("locale", AccountField::Locale),
    ("staff", AccountField::Staff),
    ("admin", AccountField::Admin),
    ("created_at", AccountField::CreatedAt),
    ("last_login_at", AccountField::LastLoginAt),
];

fn account_field(text: &str) -> Result<AccountField, String> {
    let known = ACCOUNT_FIELDS.iter().find(|(name, _)| *name == text);
    known.map(|(_, field)| *field).ok_or_else(|| {
        let names: Vec<&str> = ACCOUNT_FIELDS.iter().map(|(name, _)| *name).collect();
        format!("expected one of {}", names.join(", "))
    })
}

fn realm(text: &str) -> Result<String, String> {
    let fits = (1..=64).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if fits && !text.contains(['"', '\\']) {
        Ok(text.to_owned())
    } else {
        Err("expected 1 to 64 printable ASCII characters without quotes and backslashes".to_owned())
    }
}

/// Links that are mailed carry a single-use secret, so they must not cross a network in the clear.
fn base_url(text: &str) -> Result<String, String> {
    let wrong = || "expected https:// and a host, with or without a path: \"https://auth.example.org\"".to_owned();
    let uri: http::Uri = text.parse().map_err(|_| wrong())?;
    let (Some(scheme), Some(authority), Some(host)) = (uri.scheme_str(), uri.authority(), uri.host()) else {
        return Err(wrong());
    };
    if uri.query().is_some() || text.contains(['#', '*', '?']) || authority.as_str().contains('@') {
        return Err(wrong());
    }
    // Put together anew, because a scheme may be written in any case (RFC 3986 §3.1) and links are to look alike.
    let url = format!("{scheme}://{authority}{}", uri.path().trim_end_matches('/'));
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let loopback = host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match scheme {
        "http" if !loopback => {
            Err("over plain http anyone on the way can read the links mailed to users; use https".to_owned())
        }
        "https" | "http" if Links::is_page(&url) => Ok(url),
        _ => Err(wrong()),
    }
}

/// The host that a base URL names, without a port.
fn host_of(url: &str) -> Option<String> {
    url.parse::<http::Uri>().ok()?.host().map(str::to_owned)
}

/// What links begin with where nothing is said, and everything stays on this machine: where it is listened.
fn local_base(listen: &Place, mail: &MailSettings) -> Option<String> {
    let Place::Address(address) = listen else { return None };
    (stays_here(listen, mail) && address.port() != 0).then(|| format!("http://{address}"))
}

/// Whether neither mails nor requests leave this machine.
fn stays_here(listen: &Place, mail: &MailSettings) -> bool {
    let mails_stay = match mail.transport {
        MailTransport::File { .. } | MailTransport::Console => true,
        MailTransport::None | MailTransport::Smtp(_) => false,
    };
    mails_stay && matches!(listen, Place::Address(address) if address.ip().is_loopback())
}

fn site(text: &str) -> Result<String, String> {
    // Line ends and what turns the direction of reading (Unicode TR9) would say something else in a subject than here.
    let misleads = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let fits = (1..=64).contains(&text.chars().count()) && text.trim() == text && !text.chars().any(misleads);
    if fits {
        Ok(text.to_owned())
    } else {
        Err("expected a name of 1 to 64 characters, none of which ends a line or turns the direction of reading"
            .to_owned())
    }
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "human" => Ok(LogFormat::Human),
        "json" => Ok(LogFormat::Json),
        _ => Err("expected human or json".to_owned()),
    }
}

fn log_level(text: &str) -> Result<Level, String> {
    match text {
        "error" => Ok(Level::ERROR),
        "warn" => Ok(Level::WARN),
        "info" => Ok(Level::INFO),
        "debug" => Ok(Level::DEBUG),
        "trace" => Ok(Level::TRACE),
        _ => Err("expected error, warn, info, debug or trace".to_owned()),
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogFormat::Human => "human",
            LogFormat::Json => "json",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(file: &str) -> Result<Config, String> {
        let mut chosen = Chosen::defaults();
        chosen.read_file(Path::new("counterfoil.toml"), file).map_err(|failure| failure.to_string())?;
        Config::judge(&chosen).map_err(|failure| failure.to_string())
    }

    #[test]
    fn the_defaults_are_accepted_and_are_those_of_the_library() {
        let config = Config::default();
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.data_dir, Path::new("counterfoil-data"));
        assert_eq!(config.shutdown_grace, Duration::from_secs(10));
        assert_eq!(config.authority.hashing, HashingParams::default());
        assert_eq!(config.authority.rotation_grace, Settings::default().rotation_grace);
        assert_eq!(config.authority.retention, Settings::default().retention);
        assert_eq!(config.authority.failed_logins, Settings::default().failed_logins);
        assert_eq!(config.authority.misses, Settings::default().misses);
        assert_eq!(config.authority.requests, Settings::default().requests);
        assert_eq!(config.authority.audit_retention, Settings::default().audit_retention);
        assert_eq!(config.authority.audit_anonymous_after, Settings::default().audit_anonymous_after);
        assert_eq!(config.capacity, HashingCapacity::default());
        assert_eq!(config.cached_tokens, NonZeroUsize::new(200_000));
        assert_eq!(config.max_connections.get(), 900);
        assert_eq!(config.write_timeout, Duration::from_secs(30));
        assert_eq!((config.head_timeout, config.head_bytes), (Duration::from_secs(10), 65_536));
        let http = HttpSettings::default();
        assert_eq!(config.http.user_fields, http.user_fields);
        assert_eq!(config.http.realm, http.realm);
        assert_eq!(config.http.request_timeout, http.request_timeout);
        assert_eq!(config.http.body_timeout, http.body_timeout);
        assert!(config.http.trusted_proxies.is_empty());
    }

    #[test]
    fn a85_what_would_open_a_hole_is_refused_with_the_reason() {
        for (file, reason) in [
            ("trusted_proxies = [\"0.0.0.0/0\"]", "trusting every proxy"),
            ("trusted_proxies = [\"::/0\"]", "trusting every proxy"),
            ("trusted_proxies = [\"10.0.0.1\", \"128.0.0.0/1\"]", "trusting every proxy"),
            ("trusted_proxies = [\"proxy\"]", "expected an address, a network or unix"),
            ("trusted_proxies = [\"unix:\"]", "expected an address, a network or unix"),
            ("listen = \"unix:\"", "expected a path after unix:"),
            ("base_url = \"http://auth.example.org\"", "plain http"),
            ("base_url = \"https://*.example.org\"", "expected https:// and a host"),
            ("base_url = \"auth.example.org\"", "expected https:// and a host"),
            ("base_url = \"https://auth.example.org/?next=\"", "expected https:// and a host"),
            ("base_url = \"https://auth@example.org\"", "expected https:// and a host"),
            ("base_url = \"ftp://example.org\"", "expected https:// and a host"),
            ("[tokens]\nrotation_grace = \"0s\"", "expected a time from 1s"),
            ("[tokens]\nretention = \"0d\"", "expected a time from 1s"),
            ("[tokens]\nretention = \"-1d\"", "expected a time from 1s"),
            ("[tokens]\nretention = \"9223372036854775807s\"", "expected a time from 1s"),
            ("[tokens]\nretention = 30", "expected a text"),
            ("shutdown_grace = \"0s\"", "expected a time from 1s"),
            ("[logins]\nfailed_per_source = \"0/h\"", "a rate is a number from 1"),
            ("[throttle]\nmisses = \"many\"", "a rate is a number from 1"),
            ("[audit]\nretention = \"0d\"", "expected a time from 1s"),
            ("[hashing]\nmemory = 19455", "Argon2id needs at least"),
            ("[hashing]\niterations = 1", "Argon2id needs at least"),
            ("[hashing]\nmemory = 99999999", "hashing.memory"),
            ("[tokens]\ncached = -1", "expected a whole number from 0 to 100000000"),
            ("[hashing]\nthreads = 0", "expected a whole number from 1 to 256"),
            ("[hashing]\nqueue = -1", "expected a whole number from 1 to 100000"),
            ("[hashing]\nqueue = \"many\"", "expected a whole number"),
            ("[http]\nuser_fields = [\"password\"]", "expected one of id, username"),
            ("[http]\nuser_fields = \"id\"", "expected a list of texts"),
            ("[http]\ncors_origins = [\"*\"]", "wildcard"),
            ("[http]\ncors_origins = [\"https://app.example.org\", \"null\"]", "sandboxed"),
            ("[http]\ncors_origins = [\"https://app.example.org/\"]", "no path"),
            ("[http]\ncors_origins = [\"http://app.example.org\"]", "plain http"),
            ("[http]\nrealm = \"a\\\"b\"", "without quotes"),
            ("[http]\nrequest_timeout = \"0s\"", "expected a time from 1s"),
            ("[http]\nmax_connections = 0", "expected a whole number from 1 to 1000000"),
            ("[http]\nwrite_timeout = \"0s\"", "expected a time from 1s"),
            ("[http]\nhead_timeout = \"0s\"", "expected a time from 1s"),
            ("[http]\nhead_bytes = 8191", "expected a whole number from 8192"),
            ("[http]\nbody_timeout = \"30s\"", "http.body_timeout = 30s is not less than http.request_timeout"),
            ("[http]\nrequest_timeout = \"10s\"", "http.body_timeout = 10s is not less than http.request_timeout"),
            ("listen = \"8080\"", "expected an address and a port"),
            ("[metrics]\nlisten = \"9464\"", "expected an address and a port"),
            ("[metrics]\nlisten = \"systemd\"", "expected an address and a port"),
            ("[log]\nlevel = \"loud\"", "expected error, warn, info, debug or trace"),
            ("[log]\nformat = \"xml\"", "expected human or json"),
            ("data_dir = \"\"", "expected a path"),
            ("mount = \"durin\"", "expected tables, each under [[mount]]"),
            ("[[mount]]\ndialect = \"authtoken\"", "a mount needs its path"),
            ("[[mount]]\npath = \"/auth\"", "a mount needs its dialect"),
            ("[[mount]]\npath = \"/auth\"\ndialect = \"django\"", "the dialects are"),
            ("[[mount]]\npath = \"auth\"\ndialect = \"authtoken\"", "expected a path of plain segments"),
            ("[[mount]]\npath = \"/a/{b}\"\ndialect = \"authtoken\"", "expected a path of plain segments"),
            ("[[mount]]\npath = \"/a//b\"\ndialect = \"authtoken\"", "expected a path of plain segments"),
            ("[[mount]]\npath = \"/..\"\ndialect = \"authtoken\"", "expected a path of plain segments"),
            ("[[mount]]\npath = \"/v1/auth\"\ndialect = \"authtoken\"", "the native routes are there"),
            (
                "[[mount]]\npath = \"/a\"\ndialect = \"authtoken\"\n[[mount]]\npath = \"/a/\"\ndialect = \"authtoken\"",
                "two dialects are at /a",
            ),
            (
                "[[mount]]\npath = \"/a\"\ndialect = \"authtoken\"\nclinet = \"x\"",
                "/a: clinet: there is no such setting",
            ),
            ("site = \"\"", "expected a name"),
            ("[accounts]\nregistration = \"all\"", "expected nobody or anybody"),
            ("[accounts]\nemail = \"maybe\"", "expected required, optional or refused"),
            ("[accounts]\nunconfirmed = \"no\"", "expected log-in or wait"),
            (
                "[accounts]\nregistration = \"anybody\"\nunconfirmed = \"wait\"\n[mail]\ntransport = \"none\"",
                "nobody could confirm",
            ),
            (
                "[accounts]\nregistration = \"anybody\"\n[mail]\ntransport = \"none\"",
                "nobody could confirm an address, because mail.transport is \"none\"",
            ),
            (
                "listen = \"0.0.0.0:8080\"\n[accounts]\nregistration = \"anybody\"",
                "nobody could confirm an address, because nothing says what links begin with",
            ),
            (
                "listen = \"unix:socket\"\n[accounts]\nregistration = \"anybody\"\nemail = \"optional\"\nunconfirmed = \"wait\"",
                "nothing says what links begin with",
            ),
            ("[accounts]\nemail = \"refused\"\nunconfirmed = \"wait\"", "no account has an address"),
            ("[accounts]\ntell_expiring_logins = true", "accounts.tell_expiring is not set"),
            ("[accounts]\nreset_within = \"25h\"", "expected a time from 1s to 1d"),
            ("[accounts]\nconfirm_within = \"31d\"", "expected a time from 1s to 30d"),
            ("[accounts]\nundo_within = \"59m\"", "expected a time from 1h to 90d"),
            ("[accounts]\nundo_within = \"91d\"", "expected a time from 1h to 90d"),
            ("site = \"Exa\\u202Emple\"", "turns the direction of reading"),
            ("site = \"Exa\\nmple\"", "ends a line"),
            ("base_url = \"https://auth.example.org:65536\"", "expected https:// and a host"),
            ("[links]\nconfirm = \"https:///confirm/{token}\"", "with {token} once"),
            ("[links]\nconfirm = \"https://?/{token}\"", "with {token} once"),
            ("[links]\nreset = \"https://app.example.org:65536/{token}\"", "with {token} once"),
            ("[links]\nreset = \"https://app.example.org:x@evil.example/{token}\"", "with {token} once"),
            ("[links]\naccount = \"https:///account\"", "expected https:// and a page"),
            ("[links]\naccount = \"https://?/account\"", "expected https:// and a page"),
            ("[links]\naccount = \"https://app.example.org:65536/\"", "expected https:// and a page"),
            ("[links]\naccount = \"https://app.example.org@evil.example/\"", "expected https:// and a page"),
            ("[accounts]\npassword_length = 7", "expected a whole number from 8 to 64"),
            ("[accounts]\nblocklist_file = \"no/such/file\"", "accounts.blocklist_file = \"no/such/file\""),
            ("[accounts]\nreset_within = \"0s\"", "expected a time from 1s"),
            ("[accounts]\nmails_per_address = \"0/h\"", "a rate is a number from 1"),
            ("[accounts]\ntell_new_device = \"yes\"", "expected true or false"),
            ("[links]\nconfirm = \"https://app.example.org/\"", "with {token} once"),
            ("[links]\nreset = \"http://app.example.org/{token}\"", "with {token} once"),
            ("[links]\naccount = \"javascript:alert(1)\"", "expected https:// and a page"),
            ("[links]\nnext = [\"http://app.example.org/done\"]", "links.next = "),
            ("[links]\nnext = [\"https://*.example.org/\"]", "links.next = "),
            ("[mail]\ntransport = \"pigeon\"", "expected file, smtp, console or none"),
            ("[mail]\nfrom = \"Example\"", "expected an address, with or without a name"),
            ("[mail]\nlanguage = \"e\"", "expected a language"),
            ("[mail]\ntransport = \"smtp\"", "smtp.host is not set, and mail.transport = \"smtp\""),
            (
                "[mail]\ntransport = \"smtp\"\n[smtp]\nhost = \"smtp.example.org\"",
                "mail.from is not set, and mail.transport = \"smtp\"",
            ),
            (
                "[mail]\ntransport = \"smtp\"\nfrom = \"a@example.org\"\n[smtp]\nhost = \"smtp.example.org\"",
                "base_url is not set, and mail.transport = \"smtp\"",
            ),
            (
                "[mail]\ntransport = \"smtp\"\n[smtp]\nhost = \"smtp.example.org\"\nsecurity = \"none\"",
                "without TLS anyone on the way to the mail server can use the links",
            ),
            ("[mail]\ntransport = \"smtp\"\n[smtp]\nhost = \"a b\"", "expected the name of a mail server"),
            (
                "[mail]\ntransport = \"smtp\"\n[smtp]\nhost = \"localhost\"\nsecurity = \"ssl\"",
                "expected starttls, tls or none",
            ),
            ("[mail]\ntransport = \"smtp\"\n[smtp]\nhost = \"localhost\"\ntimeout = \"61s\"", "a minute at most"),
            ("[mail]\ntransport = \"smtp\"\n[smtp]\nhost = \"localhost\"\nusername = \"a\"", "smtp.username = \"a\""),
            ("[mail]\ntransport = \"smtp\"\n[smtp]\nhost = \"localhost\"\npassword = \"s3cr3t\"", "smtp.password = …"),
        ] {
            let refused = judged(file).expect_err(file);
            assert!(refused.contains(reason), "{file}: {refused}");
            assert!(refused.contains("counterfoil.toml") || refused.contains(" = "), "{file}: {refused}");
            assert!(!refused.contains("s3cr3t"), "{refused}");
        }
    }

    #[test]
    fn registering_is_fine_wherever_a_link_can_be_made_or_none_is_needed() {
        for (before, after) in [
            ("", ""),
            ("listen = \"127.0.0.1:0\"", ""),
            ("listen = \"0.0.0.0:8080\"\nbase_url = \"https://auth.example.org\"", ""),
            ("listen = \"unix:socket\"", "[links]\nconfirm = \"https://app.example.org/#/confirm/{token}\""),
            ("", "email = \"optional\"\n[mail]\ntransport = \"none\""),
            ("", "email = \"refused\"\n[mail]\ntransport = \"none\""),
            ("", "tell_expiring = \"7d\"\ntell_expiring_logins = true\nreset_within = \"1d\"\nundo_within = \"90d\""),
        ] {
            let file = format!("{before}\n[accounts]\nregistration = \"anybody\"\n{after}");
            judged(&file).expect(&file);
        }
    }

    #[test]
    fn links_begin_with_what_is_set_or_stay_on_this_machine() {
        let base = |file: &str| judged(file).expect(file).authority.accounts.links.base;
        assert_eq!(base("").as_deref(), Some("http://127.0.0.1:8080"));
        assert_eq!(base("base_url = \"https://auth.example.org/\"").as_deref(), Some("https://auth.example.org"));
        for elsewhere in ["listen = \"192.0.2.1:8080\"", "listen = \"unix:socket\"", "[mail]\ntransport = \"none\""] {
            assert_eq!(base(elsewhere), None, "{elsewhere}");
        }
        let mut any_port = judged("listen = \"127.0.0.1:0\"").expect("fine");
        assert_eq!(any_port.authority.accounts.links.base, None);
        any_port.listening_on("http://127.0.0.1:4321");
        assert_eq!(any_port.authority.accounts.links.base.as_deref(), Some("http://127.0.0.1:4321"));
    }

    #[test]
    fn a_site_and_a_sender_are_made_of_what_is_known() {
        let of = |file: &str| {
            let config = judged(file).expect(file);
            (config.authority.accounts.site, config.mail.from.to_string())
        };
        let said = |site: &str, from: &str| (site.to_owned(), from.to_owned());
        assert_eq!(of(""), said("counterfoil", "counterfoil <no-reply@localhost>"));
        let example = "base_url = \"https://auth.example.org:444\"";
        assert_eq!(of(example), said("auth.example.org", "auth.example.org <no-reply@auth.example.org>"));
        assert_eq!(of("base_url = \"http://[::1]:8080\"\nsite = \"Ex\""), said("Ex", "Ex <no-reply@localhost>"));
        let named = format!("{example}\nsite = \"Example\"\n[mail]\nfrom = \"x@example.org\"");
        assert_eq!(of(&named), said("Example", "x@example.org"));
    }

    #[test]
    #[cfg(unix)]
    fn a85_a_mail_server_is_read_with_the_password_from_a_file_that_others_cannot_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("password");
        fs::write(&file, "s3cr3t \r\n").expect("written");
        permit(&file, 0o600);
        let text = format!(
            "base_url = \"https://auth.example.org\"\n[mail]\ntransport = \"smtp\"\nfrom = \"x@example.org\"\n[smtp]\nhost = \
             \"smtp.example.org\"\nusername = \"x\"\npassword_file = {:?}",
            file.to_str().expect("UTF-8")
        );
        let config = judged(&text).expect("fine");
        let MailTransport::Smtp(smtp) = &config.mail.transport else { panic!("{:?}", config.mail) };
        assert_eq!(smtp.login.as_ref().expect("a login").password.as_str(), "s3cr3t ");
        assert!(!format!("{config:?}").contains("s3cr3t"));
        let both = judged(&format!("{text}\npassword = \"x\"")).expect_err("two passwords");
        assert!(both.contains("both say the password"), "{both}");
        permit(&file, 0o640);
        let shared = judged(&text).expect_err("others can read it");
        assert!(shared.contains("smtp.password_file") && shared.contains("its mode is 0640"), "{shared}");
    }

    #[cfg(unix)]
    fn permit(file: &Path, mode: u32) {
        use std::os::unix::fs::PermissionsExt;

        fs::set_permissions(file, fs::Permissions::from_mode(mode)).expect("its mode");
    }

    #[test]
    fn proxies_of_ones_own_and_links_that_stay_at_home_are_fine() {
        let config = judged(
            "trusted_proxies = [\"10.0.0.0/8\", \"192.0.2.1\", \"fd00::/8\", \"::1\", \"unix\"]\nbase_url = \"http://[::1]:8080/\"",
        )
        .expect("fine");
        assert_eq!(config.http.trusted_proxies.len(), 5);
        assert_eq!(config.base_url.as_deref(), Some("http://[::1]:8080"));
        for url in ["http://localhost:3000", "http://127.0.0.1", "https://auth.example.org/sso"] {
            assert_eq!(judged(&format!("base_url = {url:?}")).expect(url).base_url.as_deref(), Some(url));
        }
        let shouted = judged("base_url = \"hTTps://auth.example.org/\"").expect("a scheme in any case");
        assert_eq!(shouted.base_url.as_deref(), Some("https://auth.example.org"));
    }
}
