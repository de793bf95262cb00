//! The nodes and what they stand on.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;

use rustix::process::Signal;
use serde_json::Value;

use super::Failure;
use crate::child;
use crate::directory::Directory;
use crate::network::Network;
use crate::pgbouncer::Pooler;
use crate::port::Port;
use crate::postgres::{self, Options};
use crate::proxy::Proxy;
use crate::redis;
use crate::waiting::PATIENCE;

/// Whom people log in as.
pub(crate) const USERNAME: &str = "ada";
pub(crate) const PASSWORD: &str = "a counterfoil is kept by the issuer";

/// What the nodes stand on, and where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) standby: Standby,
    /// Through PgBouncer in transaction mode.
    pub(crate) pooler: bool,
    /// Each node in a network namespace of its own, without proxies.
    pub(crate) namespaces: bool,
    pub(crate) redis: Redis,
    /// One node alone, on SQLite.
    pub(crate) sqlite: bool,
}

/// Whether the nodes share a Redis, and what for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Redis {
    #[default]
    None,
    /// One server, with a proxy between each node and it.
    One(Holding),
    /// Whichever one the Sentinels name, without proxies: what they name is where it is.
    Sentinels(Holding),
}

/// What is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holding {
    /// How often something is done: the nodes count together.
    Counts,
    /// The tokens; the accounts stay in PostgreSQL.
    Tokens,
}

impl Holding {
    fn options(self) -> redis::Options {
        // Slow to load what it has on disk, if it has anything there.
        let slow = redis::Options::new().set("loading-process-events-interval-bytes", "1024");
        match self {
            Holding::Counts => slow.set("key-load-delay", "1000"),
            // What was acknowledged is there again after a crash; each of its commands is loaded by itself.
            Holding::Tokens => slow.set("key-load-delay", "100").set("appendonly", "yes").set("appendfsync", "always"),
        }
    }

    /// What a process is set to that finds it at this URL.
    fn settings(self, url: String) -> Vec<(String, String)> {
        match self {
            Holding::Counts => vec![
                ("COUNTERFOIL_LIMITS_REDIS_URL".into(), url),
                // Every check is counted, and none is refused for it.
                ("COUNTERFOIL_THROTTLE_API".into(), "1000000/s".into()),
            ],
            Holding::Tokens => vec![("COUNTERFOIL_STORE_TOKENS_URL".into(), url)],
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Standby {
    None,
    /// A commit is acknowledged when it has it too.
    #[default]
    Synchronous,
    Asynchronous,
}

/// Everything that runs.
pub(crate) struct Site {
    shape: Shape,
    pub(crate) nodes: Vec<Node>,
    /// Between each node and the store; none in namespaces and on SQLite.
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) network: Option<Network>,
    pub(crate) redis: Option<Arc<redis::Server>>,
    pub(crate) redis_proxies: Vec<Proxy>,
    pub(crate) sentinels: Option<Arc<redis::Sentinels>>,
    pooler: Option<Pooler>,
    pub(crate) primary: Option<postgres::Server>,
    pub(crate) standby: Option<postgres::Server>,
    program: PathBuf,
    directory: Directory,
}

/// The database of the nodes.
pub(crate) const DATABASE: &str = "counterfoil";

impl Site {
    /// Starts servers and nodes. `environment` says what is set for a node besides.
    pub(crate) fn start(
        program: &Path,
        shape: Shape,
        nodes: usize,
        environment: &dyn Fn(usize) -> Vec<(String, String)>,
        before: &dyn Fn(usize) -> Vec<String>,
    ) -> Result<Site, Failure> {
        let directory = Directory::new();
        let network = if shape.namespaces { Some(Network::new(u8::try_from(nodes)?)?) } else { None };
        let mut site = Site {
            shape,
            nodes: Vec::new(),
            proxies: Vec::new(),
            network,
            redis: None,
            redis_proxies: Vec::new(),
            sentinels: None,
            pooler: None,
            primary: None,
            standby: None,
            program: program.to_owned(),
            directory,
        };
        if !shape.sqlite {
            let mut options = Options::new();
            if let Some(network) = &site.network {
                options = options.listen(&network.servers());
            }
            let primary = options.start();
            primary.sql("postgres", &format!("CREATE DATABASE {DATABASE} TEMPLATE template0"));
            if shape.standby != Standby::None {
                site.standby = Some(primary.standby());
            }
            if shape.standby == Standby::Synchronous {
                primary.wait_for_standbys(Some(1));
            }
            if shape.pooler {
                site.pooler = Some(Pooler::start(&primary, 20));
            }
            site.primary = Some(primary);
        }
        match shape.redis {
            Redis::None => {}
            Redis::One(holding) => site.redis = Some(Arc::new(holding.options().start())),
            Redis::Sentinels(_) => site.sentinels = Some(Arc::new(redis::Sentinels::start())),
        }
        site.prepare()?;
        for number in 0..nodes {
            let node = site.node(number, environment(number), before(number))?;
            site.nodes.push(node);
        }
        for node in &mut site.nodes {
            node.begin()?;
        }
        Ok(site)
    }

    /// What the command line works on, whatever happens between the nodes and the store.
    pub(crate) fn store_words(&self) -> Vec<String> {
        match &self.primary {
            Some(primary) => vec!["--store".into(), primary.url(DATABASE)],
            None => vec!["--data-dir".into(), self.data().display().to_string()],
        }
    }

    /// What the command line is set to besides, where the tokens are kept apart.
    pub(crate) fn tokens_setting(&self) -> Vec<(String, String)> {
        match (self.shape.redis, &self.redis, &self.sentinels) {
            (Redis::One(Holding::Tokens), Some(redis), _) => Holding::Tokens.settings(redis.url()),
            (Redis::Sentinels(Holding::Tokens), _, Some(sentinels)) => Holding::Tokens.settings(sentinels.url()),
            (Redis::None | Redis::One(_) | Redis::Sentinels(_), _, _) => Vec::new(),
        }
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// The words by which it was called, and the answer.
    pub(crate) fn operate(&self, words: &[&str], stdin: &str) -> Result<String, Failure> {
        let mut command = Command::new(&self.program);
        command.args(self.store_words()).args(words).envs(settings()).envs(self.tokens_setting());
        command.env("PATH", "/usr/bin:/bin");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        if let Some(mut pipe) = child.stdin.take() {
            pipe.write_all(stdin.as_bytes()).ok();
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            return Err(format!("counterfoil {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    fn prepare(&self) -> Result<(), Failure> {
        if self.primary.is_some() {
            self.operate(&["migrate"], "")?;
        }
        self.operate(&["user", "create", "root", "--admin", "--password-stdin"], PASSWORD)?;
        self.operate(&["user", "create", USERNAME, "--password-stdin"], PASSWORD)?;
        Ok(())
    }

    /// The secret of a token of the administrator.
    pub(crate) fn admin(&self) -> Result<String, Failure> {
        let issued: Value = serde_json::from_str(&self.operate(&["token", "issue", "--user", "root", "--json"], "")?)?;
        Ok(issued["token"].as_str().ok_or("no token in the answer")?.to_owned())
    }

    fn node(
        &mut self,
        number: usize,
        environment: Vec<(String, String)>,
        before: Vec<String>,
    ) -> Result<Node, Failure> {
        let port = Port::free();
        let mut words: Vec<String> = Vec::new();
        let mut host = "127.0.0.1".to_owned();
        if let Some(network) = &self.network {
            let node = u8::try_from(number)?;
            words.extend(network.words_of(node));
            host = network.node(node);
        }
        words.extend(before);
        words.extend(["setpriv", "--pdeathsig", "KILL", "--"].map(str::to_owned));
        words.push(self.program.display().to_string());
        let address: SocketAddr = format!("{host}:{}", port.number).parse()?;
        words.extend(["serve".into(), "--listen".into(), address.to_string()]);
        let mut environment: Vec<(String, String)> =
            settings().map(|(key, value)| (key.to_owned(), value.to_owned())).chain(environment).collect();
        match (&self.primary, &self.network) {
            (None, _) => words.extend(["--data-dir".into(), self.data().display().to_string()]),
            (Some(primary), Some(network)) => {
                let url = format!("postgres://lab@{}:{}/{DATABASE}?sslmode=disable", network.servers(), primary.port());
                words.extend(["--store".into(), url]);
            }
            (Some(primary), None) => {
                let (port, more) = match &self.pooler {
                    Some(pooler) => (pooler.port(), "?pooler=transaction"),
                    None => (primary.port(), ""),
                };
                let proxy = Proxy::start(([127, 0, 0, 1], port).into());
                words.extend(["--store".into(), format!("postgres://lab@127.0.0.1:{}/{DATABASE}{more}", proxy.port())]);
                self.proxies.push(proxy);
            }
        }
        match self.shape.redis {
            Redis::None => {}
            Redis::One(holding) => {
                let redis = self.redis.as_ref().ok_or("no Redis")?;
                let proxy = Proxy::start(([127, 0, 0, 1], redis.port()).into());
                environment.extend(holding.settings(format!("redis://127.0.0.1:{}/0", proxy.port())));
                self.redis_proxies.push(proxy);
            }
            Redis::Sentinels(holding) => {
                let sentinels = self.sentinels.as_ref().ok_or("no Sentinels")?;
                environment.extend(holding.settings(sentinels.url()));
            }
        }
        let log = self.directory.path().join(format!("node{number}.log"));
        Ok(Node { address, words, environment, log, running: None, _port: port })
    }

    /// Leads every node to another server.
    pub(crate) fn lead_all_to(&self, port: u16) {
        for proxy in &self.proxies {
            proxy.lead_to(([127, 0, 0, 1], port).into());
            proxy.cut();
        }
    }

    /// The last lines of each node's log, for a report.
    pub(crate) fn logs(&self) -> String {
        let mut text = String::new();
        for (number, node) in self.nodes.iter().enumerate() {
            let log = node.log();
            let lines: Vec<&str> = log.lines().collect();
            for line in &lines[lines.len().saturating_sub(4)..] {
                let start: String = line.chars().take(240).collect();
                text.push_str(&format!("  node {number}: {start}\n"));
            }
        }
        text
    }
}

/// What every process is set to: the cheapest hashing that the server lets through, because what is looked for here is elsewhere;
/// and one machine plays everybody.
fn settings() -> impl Iterator<Item = (&'static str, &'static str)> {
    [
        ("COUNTERFOIL_LOG_LEVEL", "warn"),
        ("COUNTERFOIL_HASHING_MEMORY", "12288"),
        ("COUNTERFOIL_HASHING_ITERATIONS", "3"),
        ("COUNTERFOIL_LOGINS_FAILED_PER_SOURCE", "1000000/h"),
    ]
    .into_iter()
}

/// A `counterfoil serve`, always at the same address.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    words: Vec<String>,
    environment: Vec<(String, String)>,
    log: PathBuf,
    running: Option<Child>,
    _port: Port,
}

impl Node {
    /// Starts it and waits until it says that it listens.
    pub(crate) fn begin(&mut self) -> Result<(), Failure> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).current_dir("/tmp");
        let mut child = child::start(command)?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        self.running = Some(child);
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            let mut line = String::new();
            stdout.read_line(&mut line).ok();
            send.send(line).ok();
            std::io::copy(&mut stdout, &mut std::io::sink()).ok();
        });
        let line = lines.recv_timeout(PATIENCE).map_err(|_| "the node said nothing")?;
        if line.starts_with("listening on") {
            Ok(())
        } else {
            Err(format!("the node did not start: {line:?}; {}", self.log()).into())
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(child) = &self.running {
            child::signal(child.id(), signal);
        }
    }

    /// SIGKILL, as by whoever frees memory.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    /// SIGTERM, and waits until it has gone; whether it went in order.
    pub(crate) fn stop(&mut self) -> bool {
        self.signal(Signal::TERM);
        self.wait()
    }

    fn wait(&mut self) -> bool {
        self.running.take().is_some_and(|mut child| child.wait().is_ok_and(|status| status.success()))
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A line of `/proc/PID/status`, in KiB.
    pub(crate) fn memory(&self, name: &str) -> u64 {
        let Some(child) = &self.running else { return 0 };
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
    }

    /// Seconds of processor time that it has used.
    pub(crate) fn processor_time(&self) -> f64 {
        let Some(child) = &self.running else { return 0.0 };
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
        let words: Vec<&str> =
            stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
        let ticks = |at: usize| words.get(at).and_then(|word| word.parse::<f64>().ok()).unwrap_or(0.0);
        // utime and stime, in hundredths of a second on Linux.
        (ticks(11) + ticks(12)) / 100.0
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.signal(Signal::CONT);
        self.kill();
    }
}
