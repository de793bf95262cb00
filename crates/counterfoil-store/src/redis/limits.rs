//! Limits that all nodes share, counted in Redis or Valkey: [`RedisLimits`].
//!
//! What is counted here may be lost at any time, and then counts begin anew: see [`counterfoil_core::shared_limits`] for what that
//! means. One question is one script on one key, so that a Cluster serves as well as one server.
//!
//! | key | kind | what it is |
//! |---|---|---|
//! | prefix`:l:`tag | list | a sliding log: when each was let through, at most 1,000 |
//! | prefix`:g:`tag | string | a schedule: when the next one is due |
//! | prefix`:t:`tag | string | tries at a name that nobody has |
//!
//! A tag is 16 bytes under a key of the deployment: nobody reads in them whom they stand for, and two deployments on one server count
//! apart. Every key goes by itself, a minute after it has ceased to matter; tries after a day, or thirty where there were many.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use counterfoil_core::SharedLimits;
use counterfoil_core::attempts::Tries;
use counterfoil_core::shared_limits::{
    CLOCKS_APART_MILLIS, Question, SharedAnswer, SharedCount, SharedLimitsError, Step, Verdict,
};
use counterfoil_core::throttle::Rate;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, Cmd, Value};
use tokio::runtime::Handle;

use super::address::{Address, NotAnAddress};
use super::examination::{Finding, examine_limits};
use super::fault::{Fault, Remedy};
use super::link::{connected, life_of_primary, primary};

/// A request waits for the answer; what is slower than this is as good as away.
const PATIENCE: Duration = Duration::from_millis(75);
/// Nobody waits for this: requests go by their own node meanwhile.
const CONNECTING: Duration = Duration::from_secs(3);
const DAY_MILLIS: u64 = 24 * 60 * 60 * 1_000;

/// Where limits are counted: a URL as [`Address`] has it, or `redis+cluster://[user:password@]host[:port],host[:port]…` (`rediss+cluster`
/// with TLS) with some of the nodes of a Cluster. `timeout_ms` is 75 unless said, and 100 at most; what is said there of tokens and of
/// replicas has no meaning here.
#[derive(Clone)]
pub struct LimitsAddress {
    /// One, or some of a Cluster's.
    addresses: Vec<Address>,
    cluster: bool,
    prefix: String,
    patience: Duration,
}

/// No password is in it.
impl fmt::Debug for LimitsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitsAddress").field("addresses", &self.addresses).field("cluster", &self.cluster).finish()
    }
}

impl FromStr for LimitsAddress {
    type Err = NotAnAddress;

    fn from_str(url: &str) -> Result<LimitsAddress, NotAnAddress> {
        let cluster = ["redis", "rediss", "valkey", "valkeys"].into_iter().find_map(|scheme| {
            let rest = url.strip_prefix(scheme)?.strip_prefix("+cluster://")?;
            Some((scheme, rest))
        });
        let urls = match cluster {
            None => vec![url.to_owned()],
            Some((scheme, rest)) => {
                let end = rest.find(['/', '?']).unwrap_or(rest.len());
                // A password may hold a slash only if it is encoded.
                let (authority, behind) = rest.split_at(end);
                let (credentials, hosts) = match authority.rsplit_once('@') {
                    Some((credentials, hosts)) => (format!("{credentials}@"), hosts),
                    None => (String::new(), authority),
                };
                hosts.split(',').map(|host| format!("{scheme}://{credentials}{host}{behind}")).collect()
            }
        };
        let mut addresses = urls.iter().map(|url| url.parse()).collect::<Result<Vec<Address>, _>>()?;
        let Some(first) = addresses.first() else { return Err(NotAnAddress("no host is named")) };
        let said = url.split_once('?').is_some_and(|(_, query)| query.contains("timeout_ms="));
        let patience = if said { first.timeout } else { PATIENCE };
        if patience > Duration::from_millis(100) {
            return Err(NotAnAddress("a request waits for the limits: timeout_ms is 1 to 100"));
        }
        if first.wait_replicas > 0 {
            return Err(NotAnAddress("limits wait for no replicas"));
        }
        let prefix = first.root.replace(['{', '}'], "");
        addresses.iter_mut().for_each(|address| address.timeout = CONNECTING);
        Ok(LimitsAddress { addresses, cluster: cluster.is_some(), prefix, patience })
    }
}

/// Limits in Redis or Valkey: one server, what Sentinels name, or a Cluster.
#[derive(Debug, Clone)]
pub struct RedisLimits {
    counts: Arc<Counts>,
}

#[derive(Debug)]
struct Counts {
    address: LimitsAddress,
    /// The one that connections live on.
    runtime: Handle,
    way: Mutex<Option<Arc<Way>>>,
    reaching: AtomicBool,
    last_fault: Mutex<Option<Fault>>,
}

/// A way to the counts.
enum Way {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Way::Server(_) => "Server",
            Way::Cluster(_) => "Cluster",
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RedisLimits {
    /// Reaches the server, in the tokio runtime of the caller. That it is away is no error: it is tried again with the questions that
    /// come, and each of them fails until it is there.
    pub async fn connect(address: LimitsAddress) -> RedisLimits {
        let limits = RedisLimits {
            counts: Arc::new(Counts {
                address,
                runtime: Handle::current(),
                way: Mutex::default(),
                reaching: AtomicBool::new(true),
                last_fault: Mutex::default(),
            }),
        };
        Box::pin(limits.counts.reach()).await;
        limits
    }

    /// What an operator should know of the server: whether it is reached, is a primary and keeps what is counted.
    ///
    /// # Errors
    /// When it is not reached.
    pub async fn examine(address: &LimitsAddress) -> Result<Vec<Finding>, SharedLimitsError> {
        let mut findings = Vec::new();
        if address.cluster {
            let way = tokio::time::timeout(CONNECTING, address.reach()).await.map_err(|_| Fault::Late);
            way.and_then(|reached| reached).map_err(SharedLimitsError::new)?;
        }
        for one in &address.addresses {
            let asked = async {
                let seat = primary(one).await?;
                let mut connection = connected(one.server(&seat)?, &config()).await?;
                examine_limits(&mut connection, !address.cluster).await
            };
            let found = tokio::time::timeout(CONNECTING, asked).await.unwrap_or(Err(Fault::Late));
            for finding in found.map_err(SharedLimitsError::new)? {
                if !findings.contains(&finding) {
                    findings.push(finding);
                }
            }
        }
        Ok(findings)
    }
}

impl SharedLimits for RedisLimits {
    fn ask(&self, question: Question) -> SharedAnswer<'_> {
        Box::pin(async move { self.counts.ask(question).await.map_err(SharedLimitsError::new) })
    }
}

impl Counts {
    async fn ask(self: &Arc<Self>, question: Question) -> Result<Verdict, Fault> {
        let Some(way) = lock(&self.way).clone() else {
            let before = lock(&self.last_fault).as_ref().map_or_else(String::new, ToString::to_string);
            self.begin_to_reach();
            return Err(Fault::Away(before));
        };
        let asked = tokio::time::timeout(self.address.patience, way.ask(&self.address.prefix, question));
        let answer = asked.await.unwrap_or(Err(Fault::Late));
        if let Err(fault) = &answer {
            match fault.remedy() {
                // The server has said no, to this.
                Remedy::None => {}
                Remedy::Elsewhere | Remedy::ElsewhereAgain => {
                    self.leave(&way);
                    self.begin_to_reach();
                }
            }
        }
        answer
    }

    fn leave(&self, left: &Arc<Way>) {
        let mut way = lock(&self.way);
        if way.as_ref().is_some_and(|way| Arc::ptr_eq(way, left)) {
            way.take();
        }
    }

    /// In the background, so that nobody waits for it and nobody who goes away stops it.
    fn begin_to_reach(self: &Arc<Self>) {
        if !self.reaching.swap(true, Ordering::AcqRel) {
            let counts = Arc::clone(self);
            self.runtime.spawn(async move { counts.reach().await });
        }
    }

    async fn reach(&self) {
        match tokio::time::timeout(CONNECTING, self.address.reach()).await.unwrap_or(Err(Fault::Late)) {
            Ok(way) => {
                *lock(&self.way) = Some(Arc::new(way));
                lock(&self.last_fault).take();
            }
            Err(fault) => *lock(&self.last_fault) = Some(fault),
        }
        self.reaching.store(false, Ordering::Release);
    }
}

fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECTING)).set_response_timeout(Some(CONNECTING))
}

impl LimitsAddress {
    async fn reach(&self) -> Result<Way, Fault> {
        if self.cluster {
            let mut nodes = Vec::new();
            for address in &self.addresses {
                nodes.push(address.server(&primary(address).await?)?);
            }
            let client = ClusterClient::builder(nodes)
                .connection_timeout(CONNECTING)
                .response_timeout(self.patience)
                .retries(2)
                .min_retry_wait(1)
                .max_retry_wait(10)
                .build()?;
            return Ok(Way::Cluster(client.get_async_connection().await?));
        }
        let Some(address) = self.addresses.first() else { return Err(Fault::NoPrimary("no host is named")) };
        let seat = primary(address).await?;
        let mut connection = connected(address.server(&seat)?, &config()).await?;
        life_of_primary(&mut connection).await?;
        Ok(Way::Server(connection))
    }
}

impl Way {
    async fn ask(&self, prefix: &str, question: Question) -> Result<Verdict, Fault> {
        let Question { key, count, at } = question;
        let (script, letter) = match count {
            SharedCount::Log(_) => (&*LOG, 'l'),
            SharedCount::Schedule(..) => (&*SCHEDULE, 'g'),
            SharedCount::Tries(_) => (&*TRIES, 't'),
        };
        let key = format!("{prefix}{letter}:{:032x}", u128::from_be_bytes(*key.as_bytes()));
        let command = |verb: &str, script: &str| {
            let mut command = redis::cmd(verb);
            command.arg(script).arg(1).arg(&key).arg(at.millis());
            match count {
                SharedCount::Log(rate) => {
                    command.arg(rate.period.millis()).arg(CLOCKS_APART_MILLIS).arg(rate.number.get())
                }
                SharedCount::Schedule(rate, step) => schedule_args(&mut command, rate).arg(word(step)),
                SharedCount::Tries(step) => command
                    .arg(Tries::FREE)
                    .arg(Tries::MOST)
                    .arg(Tries::LONGEST_DELAY_SECONDS * 1_000)
                    .arg(DAY_MILLIS)
                    .arg(30 * DAY_MILLIS)
                    .arg(word(step)),
            };
            command
        };
        let told = match self.send(&command("EVALSHA", &script.hash)).await {
            Err(Fault::Server(error)) if error.code() == Some("NOSCRIPT") => {
                self.send(&command("EVAL", script.text)).await?
            }
            other => other?,
        };
        let Value::Int(nanos) = told else { return Err(Fault::Unreadable("a count")) };
        match u64::try_from(nanos) {
            Ok(0) => Ok(Verdict::Pass),
            Ok(nanos) => Ok(Verdict::Wait(nanos)),
            Err(_) => Err(Fault::Unreadable("a wait of less than nothing")),
        }
    }

    async fn send(&self, command: &Cmd) -> Result<Value, Fault> {
        let value = match self {
            Way::Server(connection) => connection.clone().req_packed_command(command).await?,
            Way::Cluster(connection) => connection.clone().req_packed_command(command).await?,
        };
        if let Value::ServerError(error) = value { Err(Fault::Server(error.into())) } else { Ok(value) }
    }
}

fn schedule_args(command: &mut Cmd, rate: Rate) -> &mut Cmd {
    command.arg(CLOCKS_APART_MILLIS).arg(rate.period.millis() * 1_000_000).arg(rate.spacing())
}

const fn word(step: Step) -> &'static str {
    match step {
        Step::Take => "take",
        Step::Judge => "judge",
        Step::GiveBack => "give back",
    }
}

struct Script {
    text: &'static str,
    hash: String,
}

impl Script {
    fn new(text: &'static str) -> Script {
        Script { text, hash: redis::Script::new(text).get_hash().to_owned() }
    }
}

static LOG: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("limits/log.lua")));
static SCHEDULE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("limits/schedule.lua")));
static TRIES: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("limits/tries.lua")));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_on_a_server_behind_sentinels_or_in_a_cluster() {
        let read = |url: &str| url.parse::<LimitsAddress>().expect(url);
        let one = read("redis://:p@a/3?prefix=blue");
        assert_eq!((one.addresses.len(), one.cluster, one.prefix.as_str()), (1, false, "blue:"));
        assert_eq!(one.patience, PATIENCE);
        assert_eq!(read("rediss+sentinel://a,b/main?timeout_ms=40").patience, Duration::from_millis(40));
        let many = read("rediss+cluster://app:hunter2@a:1,b,[::1]:3?prefix=x");
        assert_eq!((many.addresses.len(), many.cluster, many.prefix.as_str()), (3, true, "x:"));
        assert!(!format!("{many:?}").contains("hunter"), "{many:?}");
        for wrong in [
            "http://a",
            "redis+cluster://app:hunter2@a:port,b",
            "redis://:hunter2@a?timeout_ms=101",
            "redis://:hunter2@a?wait_replicas=1",
        ] {
            let said = wrong.parse::<LimitsAddress>().expect_err(wrong).to_string();
            assert!(!said.contains("hunter"), "{said}");
        }
    }
}
