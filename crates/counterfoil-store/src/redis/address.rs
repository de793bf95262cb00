//! Where the server is and how it is spoken to: [`Address`], read from a URL.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo, RedisError};

/// Where a Redis or Valkey server is, and how it is spoken to. Read from a URL:
///
/// - `redis://[user:password@]host[:port][/db]`, `rediss://…` with TLS, `redis+unix:///path/to/socket[?db=…]`;
/// - `redis+sentinel://[user:password@]host[:port],host[:port]…/NAME[/db]`, `rediss+sentinel://…`: the primary that the
///   Sentinels name; user and password are the server's. Sentinels with a password of their own: `?sentinel_password=…`.
///
/// And, as `?key=value&…`:
///
/// | key | unit | default | what it is |
/// |---|---|---|---|
/// | `prefix` | text | `cf` | what every key begins with, in braces: `{cf}:`. Two deployments on one server need two |
/// | `timeout_ms` | ms | 2000 | after so long an answer that has not come is an error |
/// | `wait_replicas` | count | 0 | a write is acknowledged when so many replicas have it, and is an error if they have not in time |
/// | `wait_timeout_ms` | ms | 1000 | in what time |
/// | `keep_dead_days` | days | 90 | how long after its expiry the server itself removes a record that no purge has removed; must be longer than the retention |
#[derive(Clone)]
pub struct Address {
    pub(super) place: Place,
    username: Option<String>,
    password: Option<String>,
    sentinel_password: Option<String>,
    db: i64,
    tls: bool,
    /// What every key begins with.
    pub(super) root: String,
    pub(super) timeout: Duration,
    pub(super) wait_replicas: u32,
    pub(super) wait_timeout: Duration,
    pub(super) keep_dead: Duration,
}

#[derive(Debug, Clone)]
pub(super) enum Place {
    Server(Seat),
    Sentinels { seats: Vec<Seat>, name: String },
}

/// Where one server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seat {
    Host(String, u16),
    Socket(PathBuf),
}

/// Neither password is in it.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").field("place", &self.place).field("db", &self.db).field("root", &self.root).finish()
    }
}

/// Where it is, for the log and for people: without user, password and what stands behind the `?`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = if self.tls { "s" } else { "" };
        match &self.place {
            Place::Server(Seat::Socket(path)) => write!(f, "redis+unix://{}", path.display())?,
            Place::Server(seat) => write!(f, "redis{tls}://{seat}")?,
            Place::Sentinels { seats, name } => {
                let seats: Vec<_> = seats.iter().map(Seat::to_string).collect();
                write!(f, "redis{tls}+sentinel://{}/{name}", seats.join(","))?;
            }
        }
        if self.db == 0 { Ok(()) } else { write!(f, ", database {}", self.db) }
    }
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Seat::Host(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Seat::Host(host, port) => write!(f, "{host}:{port}"),
            Seat::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The text is not the address of a Redis server. Says what is wrong with it and repeats nothing of it, because a password is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnAddress(pub(super) &'static str);

impl fmt::Display for NotAnAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not the URL of a Redis server: {}", self.0)
    }
}

impl std::error::Error for NotAnAddress {}

const DAY: u64 = 24 * 60 * 60;

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(url: &str) -> Result<Address, NotAnAddress> {
        let (scheme, rest) = url.split_once("://").ok_or(NotAnAddress("there is no ://"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (tls, kind) = match scheme {
            "redis" | "valkey" => (false, Kind::Server),
            "rediss" | "valkeys" => (true, Kind::Server),
            "redis+sentinel" | "valkey+sentinel" => (false, Kind::Sentinel),
            "rediss+sentinel" | "valkeys+sentinel" => (true, Kind::Sentinel),
            "redis+unix" | "unix" => (false, Kind::Socket),
            _ => {
                return Err(NotAnAddress("the scheme is redis, rediss, redis+sentinel, rediss+sentinel or redis+unix"));
            }
        };
        let (credentials, rest) = match kind {
            Kind::Socket => (None, rest),
            Kind::Server | Kind::Sentinel => match rest.rsplit_once('@') {
                Some((credentials, rest)) => (Some(credentials), rest),
                None => (None, rest),
            },
        };
        let (username, password) = match credentials {
            Some(both) => {
                let (user, password) =
                    both.split_once(':').ok_or(NotAnAddress("what stands before @ is user:password"))?;
                (Some(decoded(user)?).filter(|user| !user.is_empty()), Some(decoded(password)?))
            }
            None => (None, None),
        };
        let (hosts, path) = match kind {
            Kind::Socket => ("", ""),
            Kind::Server | Kind::Sentinel => rest.split_once('/').unwrap_or((rest, "")),
        };
        let (place, db) = match kind {
            Kind::Socket => (Place::Server(Seat::Socket(decoded(rest)?.into())), ""),
            Kind::Server => (Place::Server(seat(hosts, 6379)?), path),
            Kind::Sentinel => {
                let seats = hosts.split(',').map(|host| seat(host, 26379)).collect::<Result<_, _>>()?;
                let (name, db) = path.split_once('/').unwrap_or((path, ""));
                if name.is_empty() {
                    return Err(NotAnAddress("behind the Sentinels stands /NAME, what they call the primary"));
                }
                (Place::Sentinels { seats, name: decoded(name)? }, db)
            }
        };
        let mut address = Address {
            place,
            username,
            password,
            sentinel_password: None,
            db: number(if db.is_empty() { "0" } else { db })?,
            tls,
            root: "{cf}:".to_owned(),
            timeout: Duration::from_secs(2),
            wait_replicas: 0,
            wait_timeout: Duration::from_secs(1),
            keep_dead: Duration::from_secs(90 * DAY),
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or(NotAnAddress("behind ? stand key=value"))?;
            address.set(key, &decoded(value)?)?;
        }
        Ok(address)
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Server,
    Sentinel,
    Socket,
}

impl Address {
    /// How long after its expiry the server itself removes a record.
    pub fn keeps_dead(&self) -> Duration {
        self.keep_dead
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), NotAnAddress> {
        match key {
            "prefix" => {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
                if value.is_empty() || value.len() > 32 || !value.bytes().all(plain) {
                    return Err(NotAnAddress("prefix is 1 to 32 letters, digits, - _ or ."));
                }
                self.root = format!("{{{value}}}:");
            }
            "timeout_ms" => self.timeout = positive(value)?,
            "wait_replicas" => self.wait_replicas = number(value)?,
            "wait_timeout_ms" => self.wait_timeout = positive(value)?,
            "keep_dead_days" => {
                let days: u32 = number(value)?;
                if days == 0 {
                    return Err(NotAnAddress("keep_dead_days is 1 or more"));
                }
                self.keep_dead = Duration::from_secs(u64::from(days) * DAY);
            }
            "sentinel_password" => self.sentinel_password = Some(value.to_owned()),
            "db" => self.db = number(value)?,
            _ => return Err(NotAnAddress("no such key behind the ?")),
        }
        Ok(())
    }

    /// How to reach the server at `seat`.
    pub(super) fn server(&self, seat: &Seat) -> Result<ConnectionInfo, RedisError> {
        let mut settings = RedisConnectionInfo::default().set_db(self.db).set_protocol(ProtocolVersion::RESP3);
        if let Some(username) = &self.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password);
        }
        Ok(self.reach(seat).into_connection_info()?.set_redis_settings(settings))
    }

    /// How to reach the Sentinel at `seat`.
    pub(super) fn sentinel(&self, seat: &Seat) -> Result<ConnectionInfo, RedisError> {
        let mut settings = RedisConnectionInfo::default();
        if let Some(password) = &self.sentinel_password {
            settings = settings.set_password(password);
        }
        Ok(self.reach(seat).into_connection_info()?.set_redis_settings(settings))
    }

    fn reach(&self, seat: &Seat) -> ConnectionAddr {
        match seat {
            Seat::Socket(path) => ConnectionAddr::Unix(path.clone()),
            Seat::Host(host, port) if self.tls => {
                // Where the program has chosen a provider already, that one stays.
                rustls::crypto::ring::default_provider().install_default().ok();
                ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None }
            }
            Seat::Host(host, port) => ConnectionAddr::Tcp(host.clone(), *port),
        }
    }
}

fn seat(text: &str, default_port: u16) -> Result<Seat, NotAnAddress> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = port.map_or(Ok(default_port), number)?;
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    Ok(Seat::Host(host.to_owned(), port))
}

fn number<T: FromStr>(text: &str) -> Result<T, NotAnAddress> {
    text.parse().map_err(|_| NotAnAddress("port, database and counts are whole numbers"))
}

fn positive(text: &str) -> Result<Duration, NotAnAddress> {
    let millis: u32 = number(text)?;
    if millis == 0 { Err(NotAnAddress("a deadline is 1 ms or more")) } else { Ok(Duration::from_millis(millis.into())) }
}

/// RFC 3986 §2.1.
fn decoded(text: &str) -> Result<String, NotAnAddress> {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    Ok(decoded.map_err(|_| NotAnAddress("it is not UTF-8"))?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Address {
        url.parse().expect("an address")
    }

    #[test]
    fn one_server_many_sentinels_or_a_socket() {
        let plain = read("redis://127.0.0.1");
        assert!(matches!(&plain.place, Place::Server(Seat::Host(host, 6379)) if host == "127.0.0.1"));
        assert_eq!((plain.root.as_str(), plain.db, plain.tls), ("{cf}:", 0, false));
        let full = read("rediss://app:p%40ss%3A@[::1]:7000/3?prefix=blue&timeout_ms=250&wait_replicas=1");
        assert!(matches!(&full.place, Place::Server(Seat::Host(host, 7000)) if host == "::1"));
        assert_eq!((full.username.as_deref(), full.password.as_deref()), (Some("app"), Some("p@ss:")));
        assert_eq!((full.root.as_str(), full.db, full.tls, full.wait_replicas), ("{blue}:", 3, true, 1));
        assert_eq!(full.timeout, Duration::from_millis(250));
        let many = read("redis+sentinel://:pw@a:1,b,[::1]:3/mymaster/2");
        let Place::Sentinels { seats, name } = &many.place else { panic!("{many:?}") };
        let expected = [("a", 1), ("b", 26379), ("::1", 3)].map(|(host, port)| Seat::Host(host.to_owned(), port));
        assert_eq!((seats.as_slice(), name.as_str(), many.db), (expected.as_slice(), "mymaster", 2));
        let socket = read("redis+unix:///run/redis.sock?db=4");
        assert!(
            matches!(&socket.place, Place::Server(Seat::Socket(path)) if path == &PathBuf::from("/run/redis.sock"))
        );
        assert_eq!(socket.db, 4);
    }

    #[test]
    fn a_wrong_address_says_why_and_repeats_no_password() {
        for url in [
            "redis",
            "http://a",
            "redis://hunter2@a",
            "redis://:hunter2@a:port",
            "redis://:hunter2@a?color=red",
            "redis://:hunter2@a?timeout_ms=0",
            "redis://:hunter2@a?prefix={x}",
            "redis+sentinel://:hunter2@a",
            "redis://:hunter%ff@a",
        ] {
            let refused = url.parse::<Address>().expect_err(url).to_string();
            assert!(!refused.contains("hunter"), "{refused}");
        }
        assert!(!format!("{:?}", read("redis://:hunter2@a?sentinel_password=hunter3")).contains("hunter"));
    }

    #[test]
    fn an_address_is_shown_without_what_opens_it() {
        for (url, shown) in [
            ("redis://app:hunter2@127.0.0.1?wait_replicas=1", "redis://127.0.0.1:6379"),
            ("rediss://app:hunter2@[::1]:7000/3", "rediss://[::1]:7000, database 3"),
            ("redis+sentinel://:hunter2@a:1,b/main?sentinel_password=hunter3", "redis+sentinel://a:1,b:26379/main"),
            ("redis+unix:///run/redis.sock?db=4", "redis+unix:///run/redis.sock, database 4"),
        ] {
            assert_eq!(read(url).to_string(), shown);
        }
    }
}
