//! What the URL of a PostgreSQL store says: [`Settings`].

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::ConnectError;

/// Connections for transactions, unless the URL says `pool_size`.
const POOL_SIZE: usize = 8;

/// How one address of one host may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long sent bytes may stay unacknowledged before the connection counts as dead.
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// What lies between two processes forgets a silent connection without a word: asked after as much silence, it is found dead.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Where the database is and how to get there. Its `Debug` shows no password.
#[derive(Clone)]
pub(super) struct Settings {
    /// One for each host, in the order in which they are tried, beginning with `last`.
    pub(super) hosts: Vec<Config>,
    /// The place of the one that let us in last: it is tried first, or each new connection would wait for one that is gone.
    pub(super) last: Arc<AtomicUsize>,
    pub(super) tls: MakeRustlsConnect,
    pub(super) pool_size: usize,
    pub(super) pooler: Pooler,
    /// How long the server works on one statement.
    pub(super) statement_timeout: Duration,
}

/// What stands between us and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pooler {
    /// Nothing, or what gives each of our connections one of its own for as long as it lasts.
    None,
    /// What gives each transaction another connection: nothing can be prepared on it, and nobody can listen.
    Transaction,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("hosts", &self.hosts.iter().map(host_of).collect::<Vec<_>>())
            .field("pool_size", &self.pool_size)
            .field("pooler", &self.pooler)
            .finish_non_exhaustive()
    }
}

/// A host with its port, as people write it.
pub(super) fn host_of(config: &Config) -> String {
    let port = config.get_ports().first().copied().unwrap_or(5432);
    match config.get_hosts().first() {
        Some(Host::Tcp(name)) => format!("{name}:{port}"),
        #[cfg(unix)]
        Some(Host::Unix(path)) => format!("{}:{port}", path.display()),
        None => config.get_hostaddrs().first().map_or_else(String::new, |address| format!("{address}:{port}")),
    }
}

/// What we ask of the URL beyond what the driver knows.
#[derive(Default)]
struct Ours<'a> {
    ssl_mode: Option<&'a str>,
    ssl_roots: Option<PathBuf>,
    pooler: Option<&'a str>,
    pool_size: Option<&'a str>,
}

/// Parameters that are the driver's to read.
const DRIVERS: [&str; 17] = [
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "options",
    "password",
    "port",
    "sslnegotiation",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

impl Settings {
    /// How many connections a node opens at most: the pool, one for look-ups, and one that listens.
    pub(super) fn connections(&self) -> i64 {
        i64::try_from(self.pool_size).unwrap_or(i64::MAX).saturating_add(2)
    }

    /// Reads `postgres://USER:PASSWORD@HOST[,HOST…]/DATABASE[?…]`.
    pub(super) fn parse(url: &str, application: &str, statement_timeout: Duration) -> Result<Settings, ConnectError> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        if !["postgres://", "postgresql://"].iter().any(|scheme| base.starts_with(scheme)) {
            return Err(ConnectError::Url("it begins with postgres://".to_owned()));
        }
        if query.contains('@') {
            // The end of a password, which is not to be shown with the names of parameters.
            return Err(ConnectError::Url(
                "a `?` in a password is written %3F, and an `@` anywhere but before the host %40".to_owned(),
            ));
        }
        let mut ours = Ours::default();
        let mut drivers = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "sslmode" => ours.ssl_mode = Some(value),
                "sslrootcert" => ours.ssl_roots = Some(PathBuf::from(decoded(value)?)),
                "pooler" => ours.pooler = Some(value),
                "pool_size" => ours.pool_size = Some(value),
                known if DRIVERS.contains(&known) => drivers.push(pair),
                // The name alone: what stands behind a misspelt `password` is one.
                unknown => return Err(ConnectError::Url(format!("it has no parameter {unknown:?}"))),
            }
        }
        // What the driver says of a bad URL may quote it, and there may be a password in it.
        let whole: Config = format!("{base}?{}", drivers.join("&"))
            .parse()
            .map_err(|_| ConnectError::Url("it is postgres://USER:PASSWORD@HOST/DATABASE".to_owned()))?;
        if whole.get_hosts().is_empty() && whole.get_hostaddrs().is_empty() {
            return Err(ConnectError::Url("it names no host".to_owned()));
        }
        if !matches!(whole.get_target_session_attrs(), TargetSessionAttrs::Any | TargetSessionAttrs::ReadWrite) {
            return Err(ConnectError::Url("target_session_attrs is read-write".to_owned()));
        }
        let ssl_mode = ssl_mode(ours.ssl_mode, &whole)?;
        let pooler = match ours.pooler {
            None | Some("none" | "session") => Pooler::None,
            Some("transaction") => Pooler::Transaction,
            Some(_) => return Err(ConnectError::Url("pooler is none, session or transaction".to_owned())),
        };
        let pool_size = match ours.pool_size.map(str::parse) {
            None => POOL_SIZE,
            Some(Ok(size @ 1..=1_000)) => size,
            Some(_) => return Err(ConnectError::Url("pool_size is a number from 1 to 1000".to_owned())),
        };
        let roots = if ssl_mode == SslMode::Disable { Roots::None } else { Roots::of(ours.ssl_roots) };
        Ok(Settings {
            hosts: one_by_one(&whole, ssl_mode, application)?,
            last: Arc::default(),
            tls: MakeRustlsConnect::new(trusting(&roots)?),
            pool_size,
            pooler,
            statement_timeout,
        })
    }
}

fn decoded(value: &str) -> Result<String, ConnectError> {
    let text = percent_decode_str(value).decode_utf8();
    text.map(String::from).map_err(|_| ConnectError::Url("a parameter is not UTF-8".to_owned()))
}

/// A certificate is always looked at, so the stricter words say nothing more.
fn ssl_mode(word: Option<&str>, config: &Config) -> Result<SslMode, ConnectError> {
    // An address goes before the name of its host.
    let is_here = config.get_hostaddrs().iter().all(IpAddr::is_loopback)
        && config.get_hosts().iter().all(|host| match host {
            Host::Tcp(name) => ["localhost", "127.0.0.1", "::1"].contains(&name.as_str()),
            #[cfg(unix)]
            Host::Unix(_) => true,
        });
    match word {
        Some("disable") => Ok(SslMode::Disable),
        Some("prefer") => Ok(SslMode::Prefer),
        Some("require" | "verify-ca" | "verify-full") => Ok(SslMode::Require),
        None if is_here => Ok(SslMode::Disable),
        None => Ok(SslMode::Require),
        Some(_) => Err(ConnectError::Url("sslmode is disable, prefer, require, verify-ca or verify-full".to_owned())),
    }
}

/// Each host by itself: one that takes connections and then says nothing would otherwise keep us from the next.
fn one_by_one(whole: &Config, ssl_mode: SslMode, application: &str) -> Result<Vec<Config>, ConnectError> {
    let (hosts, addresses, ports) = (whole.get_hosts(), whole.get_hostaddrs(), whole.get_ports());
    let count = hosts.len().max(addresses.len());
    if (!hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len())
        || (ports.len() > 1 && ports.len() != count)
    {
        return Err(ConnectError::Url("it has as many ports, and host addresses, as hosts".to_owned()));
    }
    let alone = |number: usize| {
        let mut config = Config::new();
        match hosts.get(number) {
            Some(Host::Tcp(name)) => {
                config.host(name);
            }
            #[cfg(unix)]
            Some(Host::Unix(path)) => {
                config.host_path(path);
            }
            None => {}
        }
        if let Some(address) = addresses.get(number) {
            config.hostaddr(*address);
        }
        config.port(ports.get(number).or(ports.first()).copied().unwrap_or(5432));
        if let Some(user) = whole.get_user() {
            config.user(user);
        }
        if let Some(password) = whole.get_password() {
            config.password(password);
        }
        if let Some(database) = whole.get_dbname() {
            config.dbname(database);
        }
        if let Some(options) = whole.get_options() {
            config.options(options);
        }
        config
            .application_name(whole.get_application_name().unwrap_or(application))
            .ssl_mode(ssl_mode)
            .ssl_negotiation(whole.get_ssl_negotiation())
            .channel_binding(whole.get_channel_binding())
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .connect_timeout(whole.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT))
            .tcp_user_timeout(whole.get_tcp_user_timeout().copied().unwrap_or(UNACKNOWLEDGED))
            .keepalives(whole.get_keepalives())
            .keepalives_idle(whole.get_keepalives_idle().min(KEEPALIVE))
            .keepalives_interval(whole.get_keepalives_interval().unwrap_or(KEEPALIVE / 2))
            .keepalives_retries(whole.get_keepalives_retries().unwrap_or(3));
        config
    };
    Ok((0..count).map(alone).collect())
}

/// Whose word is taken on who a server is.
enum Roots {
    /// Nobody asks.
    None,
    /// Those that the system trusts.
    Native,
    /// Those in a file.
    File(PathBuf),
}

impl Roots {
    fn of(file: Option<PathBuf>) -> Roots {
        file.map_or(Roots::Native, Roots::File)
    }
}

fn trusting(roots: &Roots) -> Result<ClientConfig, ConnectError> {
    let mut trusted = RootCertStore::empty();
    match roots {
        Roots::None => {}
        Roots::Native => {
            // Those that this machine cannot read are not trusted; without any, no server is.
            trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Roots::File(path) => {
            for certificate in certificates(path)? {
                trusted.add(certificate).map_err(|error| ConnectError::Roots(path.clone(), error.to_string()))?;
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConnectError::Roots(PathBuf::new(), error.to_string()))?;
    Ok(config.with_root_certificates(trusted).with_no_client_auth())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let failed = |error: String| ConnectError::Roots(path.to_owned(), error);
    let text = fs::read(path).map_err(|error| failed(error.to_string()))?;
    let certificates = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| failed(error.to_string()))?;
    if certificates.is_empty() { Err(failed("there is no certificate in it".to_owned())) } else { Ok(certificates) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Settings, ConnectError> {
        Settings::parse(url, "counterfoil", Duration::from_secs(5))
    }

    #[test]
    fn each_host_is_tried_by_itself_with_its_own_port_and_must_take_writes() {
        let settings = parse("postgres://app:pw@db1,db2:5433/tokens?pool_size=3&pooler=transaction").expect("a URL");
        assert_eq!(settings.hosts.iter().map(host_of).collect::<Vec<_>>(), ["db1:5432", "db2:5433"]);
        for host in &settings.hosts {
            assert_eq!(host.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
            assert_eq!((host.get_user(), host.get_dbname()), (Some("app"), Some("tokens")));
            assert_eq!(host.get_password(), Some(b"pw".as_slice()));
        }
        assert_eq!((settings.pool_size, settings.pooler), (3, Pooler::Transaction));
    }

    #[test]
    fn servers_elsewhere_are_asked_for_their_certificate() {
        let mode = |url: &str| parse(url).expect(url).hosts[0].get_ssl_mode();
        assert_eq!(mode("postgres://app@localhost/tokens"), SslMode::Disable);
        assert_eq!(mode("postgres://app@/tokens?host=/run/postgresql"), SslMode::Disable);
        assert_eq!(mode("postgres://app@localhost/tokens?hostaddr=127.0.0.1"), SslMode::Disable);
        assert_eq!(mode("postgres://app@localhost/tokens?hostaddr=10.0.0.5"), SslMode::Require);
        assert_eq!(mode("postgres://app@/tokens?hostaddr=10.0.0.5"), SslMode::Require);
        assert_eq!(mode("postgres://app@db.example.org/tokens"), SslMode::Require);
        assert_eq!(mode("postgres://app@localhost,db.example.org/tokens"), SslMode::Require);
        assert_eq!(mode("postgres://app@db.example.org/tokens?sslmode=verify-full"), SslMode::Require);
        assert_eq!(mode("postgres://app@db.example.org/tokens?sslmode=disable"), SslMode::Disable);
        let refused = parse("postgres://app@db.example.org/tokens?sslrootcert=/no/such%20file").expect_err("no file");
        assert!(refused.to_string().contains("/no/such file"), "{refused}");
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_its_password() {
        for wrong in [
            "postgres://app:hunter2@db:x/tokens",
            "postgres://app:hunter2@/tokens",
            "postgres://app:hunter2@db/tokens?sslmode=allow",
            "postgres://app:hunter2@db/tokens?pool_size=0",
            "postgres://app:hunter2@db/tokens?pooler=statement",
            "postgres://app:hunter2@db/tokens?target_session_attrs=read-only",
            "postgres://app@db/tokens?pasword=hunter2",
            "postgres://app:?hunter2@db/tokens",
            "postgres://app@db,db2/tokens?port=1,2,3&password=hunter2",
            "mysql://app:hunter2@db/tokens",
        ] {
            let refused = parse(wrong).expect_err(wrong);
            assert!(!format!("{refused} {refused:?}").contains("hunter2"), "{refused:?}");
        }
        let settings = parse("postgres://app:hunter2@localhost/tokens").expect("a URL");
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
