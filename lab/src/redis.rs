//! Redis: servers, replicas, Sentinels and a Cluster of three, and databases that are emptied with their handle.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rustix::process::Signal;

use crate::child;
use crate::directory::Directory;
use crate::port::Port;
use crate::waiting::{PATIENCE, within};

/// How many databases a server has, so that tests which share one need not share a database.
const DATABASES: u32 = 4_096;

/// In the directory of a server.
const SOCKET: &str = "socket";

/// What a server is started with.
#[derive(Debug, Clone, Default)]
pub struct Options {
    settings: Vec<(String, String)>,
}

impl Options {
    /// In memory alone.
    pub fn new() -> Options {
        Options::default().set("save", "").set("appendonly", "no")
    }

    /// A line of redis.conf; a later one wins.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Options {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts one.
    pub fn start(self) -> Server {
        Server::with(self.settings, |_| {})
    }

    /// Starts one on a file that a `BGSAVE` once wrote.
    pub fn start_on(self, dump: &Path) -> Server {
        Server::with(self.settings, |directory| {
            fs::copy(dump, directory.path().join("dump.rdb")).expect("a copy");
        })
    }
}

/// What a command was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A status or a text.
    Text(String),
    /// A number.
    Number(i64),
    /// Nothing is there.
    Nothing,
    /// Several.
    List(Vec<Reply>),
    /// It was refused.
    Error(String),
}

impl Reply {
    /// The text.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    pub fn text(self) -> String {
        match self {
            Reply::Text(text) => text,
            other @ (Reply::Number(_) | Reply::Nothing | Reply::List(_) | Reply::Error(_)) => {
                panic!("no text: {other:?}")
            }
        }
    }
}

/// A server of one's own, gone when dropped.
#[derive(Debug)]
pub struct Server {
    process: Process,
}

/// A Redis process, whatever it does.
#[derive(Debug)]
struct Process {
    directory: Directory,
    port: Port,
    words: Vec<String>,
    running: Mutex<Option<Child>>,
}

impl Server {
    /// One in memory alone.
    pub fn start() -> Server {
        Options::new().start()
    }

    fn with(settings: Vec<(String, String)>, prepare: impl FnOnce(&Directory)) -> Server {
        let directory = Directory::new();
        prepare(&directory);
        let mut words = vec!["--databases".to_owned(), DATABASES.to_string(), "--unixsocket".to_owned()];
        words.push(directory.path().join(SOCKET).display().to_string());
        for (name, value) in settings {
            words.extend([format!("--{name}"), value]);
        }
        let server = Server { process: Process::start(directory, words) };
        server.wait_until_it_answers();
        server
    }

    fn wait_until_it_answers(&self) {
        within("Redis answers", || {
            self.process.must_run();
            matches!(self.try_command(&["PING"]), Ok(Reply::Text(pong)) if pong == "PONG").then_some(())
        });
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.process.port.number
    }

    /// Where a client finds its first database.
    pub fn url(&self) -> String {
        self.url_of(0)
    }

    /// Where a client finds another one.
    pub fn url_of(&self, database: u32) -> String {
        format!("redis://127.0.0.1:{}/{database}", self.port())
    }

    /// The same by its socket.
    pub fn socket_url(&self, database: u32) -> String {
        format!("unix://{}?db={database}", self.process.directory.path().join(SOCKET).display())
    }

    /// A database number of its own, emptied with the handle.
    pub fn database(&self) -> Database {
        Database::of(&self.url(), None)
    }

    /// Asks the first database.
    ///
    /// # Panics
    /// When nothing is answered.
    #[track_caller]
    pub fn command(&self, words: &[&str]) -> Reply {
        self.try_command(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Asks another database.
    ///
    /// # Panics
    /// When nothing is answered.
    #[track_caller]
    pub fn command_of(&self, database: u32, words: &[&str]) -> Reply {
        ask(self.port(), database, words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// The same as [`Server::command`], where silence is an answer.
    ///
    /// # Errors
    /// Of the connection.
    pub fn try_command(&self, words: &[&str]) -> io::Result<Reply> {
        ask(self.port(), 0, words)
    }

    /// Ends it as a crash does, or with what it keeps written down.
    pub fn stop(&self, how: Stop) {
        self.process.stop(how);
    }

    /// Starts it again after [`Server::stop`], on the same port.
    pub fn begin(&self) {
        self.process.begin();
        self.wait_until_it_answers();
    }

    /// SIGSTOP: connections stay open and nothing is answered.
    pub fn freeze(&self) {
        self.process.signal(Signal::STOP);
    }

    /// SIGCONT after [`Server::freeze`].
    pub fn thaw(&self) {
        self.process.signal(Signal::CONT);
    }

    /// A replica of it, in step when this returns.
    pub fn replica(&self) -> Server {
        let replica = Options::new().set("replicaof", &format!("127.0.0.1 {}", self.port())).start();
        within("the replica is in step", || {
            replica.command(&["INFO", "replication"]).text().contains("master_link_status:up").then_some(())
        });
        replica
    }

    /// Makes a replica a primary of its own.
    pub fn promote(&self) {
        assert_eq!(self.command(&["REPLICAOF", "NO", "ONE"]), Reply::Text("OK".into()));
    }

    /// What it wrote about itself.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// How a Redis is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// SIGTERM: what its persistence promises is on disk.
    Orderly,
    /// SIGKILL.
    Kill,
}

impl Process {
    fn start(directory: Directory, mut words: Vec<String>) -> Process {
        let port = Port::free();
        let path = directory.path().display().to_string();
        let of_port = ["--port".into(), port.number.to_string(), "--bind".into(), "127.0.0.1".into()];
        words.extend(of_port);
        words.extend(["--dir".into(), path, "--protected-mode".into(), "no".into()]);
        let process = Process { directory, port, words, running: Mutex::new(None) };
        process.begin();
        process
    }

    fn begin(&self) {
        let mut running = lock(&self.running);
        assert!(running.is_none(), "it runs already");
        let log = File::options().create(true).append(true).open(self.directory.path().join("log")).expect("a log");
        let mut command = child::server(program(), "KILL");
        command.args(&self.words).stdout(log.try_clone().expect("a log")).stderr(log);
        *running = Some(child::start(command).expect("redis-server, which `cargo xtask test` installs"));
    }

    fn must_run(&self) {
        let ended = lock(&self.running).as_mut().and_then(|child| child.try_wait().expect("a status"));
        assert!(ended.is_none(), "Redis did not start: {}", self.log());
    }

    fn signal(&self, signal: Signal) {
        lock(&self.running).iter().for_each(|child| child::signal(child.id(), signal));
    }

    fn stop(&self, how: Stop) {
        let Some(mut child) = lock(&self.running).take() else { return };
        let signal = match how {
            Stop::Orderly => Signal::TERM,
            Stop::Kill => Signal::KILL,
        };
        child::signal(child.id(), signal);
        // One that is stopped by SIGSTOP ends only when it goes on.
        child::signal(child.id(), Signal::CONT);
        child.wait().ok();
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop(Stop::Kill);
    }
}

/// A primary, its replica, and Sentinels that make the replica the primary when the primary is gone.
#[derive(Debug)]
pub struct Sentinels {
    /// The primary at the start.
    pub primary: Server,
    /// Its replica at the start.
    pub replica: Server,
    sentinels: Vec<Process>,
}

impl Sentinels {
    /// What the primary is called.
    pub const NAME: &str = "lab";

    /// Three Sentinels, two of which must agree. A primary is taken for gone when it has been silent for half a second.
    pub fn start() -> Sentinels {
        let primary = Server::start();
        let replica = primary.replica();
        let sentinels: Vec<Process> = (0..3)
            .map(|_| {
                let directory = Directory::new();
                let file = directory.path().join("sentinel.conf");
                let name = Sentinels::NAME;
                let configuration = format!(
                    "sentinel monitor {name} 127.0.0.1 {} 2\nsentinel down-after-milliseconds {name} 500\n\
                     sentinel failover-timeout {name} 2000\n",
                    primary.port()
                );
                fs::write(&file, configuration).expect("a file");
                if child::is_root() {
                    // It rewrites what it was started with.
                    std::os::unix::fs::chown(&file, Some(child::NOBODY), Some(child::NOBODY)).expect("given away");
                }
                Process::start(directory, vec![file.display().to_string(), "--sentinel".into()])
            })
            .collect();
        let all = Sentinels { primary, replica, sentinels };
        within("the Sentinels know each other and the replica", || {
            let know = |process: &Process| {
                process.must_run();
                let Ok(Reply::List(facts)) = ask(process.port.number, 0, &["SENTINEL", "MASTER", Sentinels::NAME])
                else {
                    return false;
                };
                let fact = |name: &str| {
                    let at = facts.iter().position(|fact| *fact == Reply::Text(name.into()))?;
                    facts.get(at + 1).cloned()
                };
                fact("num-other-sentinels") == Some(Reply::Text("2".into()))
                    && fact("num-slaves") == Some(Reply::Text("1".into()))
            };
            all.sentinels.iter().all(know).then_some(())
        });
        all
    }

    /// Where the Sentinels are, as `127.0.0.1:port`.
    pub fn addresses(&self) -> Vec<String> {
        self.sentinels.iter().map(|process| format!("127.0.0.1:{}", process.port.number)).collect()
    }

    /// Where a client that asks them finds the primary.
    pub fn url(&self) -> String {
        format!("redis+sentinel://{}/{}", self.addresses().join(","), Sentinels::NAME)
    }

    /// The port of whom a majority of them holds for the primary.
    pub fn primary_port(&self) -> u16 {
        let said: Vec<u16> = self.sentinels.iter().filter_map(|process| said_primary(process.port.number)).collect();
        let most = said.iter().max_by_key(|port| said.iter().filter(|other| other == port).count());
        *most.expect("a Sentinel that knows the primary")
    }
}

fn said_primary(sentinel: u16) -> Option<u16> {
    match ask(sentinel, 0, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Sentinels::NAME]).ok()? {
        Reply::List(address) => match address.get(1)? {
            Reply::Text(port) => port.parse().ok(),
            Reply::Number(_) | Reply::Nothing | Reply::List(_) | Reply::Error(_) => None,
        },
        Reply::Text(_) | Reply::Number(_) | Reply::Nothing | Reply::Error(_) => None,
    }
}

/// A Cluster of three primaries without replicas.
#[derive(Debug)]
pub struct Cluster {
    /// Each has a third of the slots.
    pub primaries: Vec<Server>,
}

impl Cluster {
    /// Starts them and shares the slots out.
    pub fn start() -> Cluster {
        let primaries: Vec<Server> = (0..3)
            .map(|_| {
                // The bus has a port of its own, which by default lies 10,000 higher and may be taken.
                let bus = Port::free();
                let options = Options::new().set("cluster-enabled", "yes").set("cluster-port", &bus.number.to_string());
                drop(bus);
                let options = options.set("cluster-node-timeout", "2000");
                // A cluster has one database, and refuses to start with more.
                options.set("databases", "1").start()
            })
            .collect();
        for (number, server) in primaries.iter().enumerate() {
            let (first, last) = (number * 16_384 / 3, (number + 1) * 16_384 / 3 - 1);
            let given = server.command(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
            assert_eq!(given, Reply::Text("OK".into()));
            for other in &primaries[..number] {
                let bus = other.command(&["CONFIG", "GET", "cluster-port"]);
                let Reply::List(setting) = bus else { panic!("no setting: {bus:?}") };
                let bus = setting[1].clone().text();
                server.command(&["CLUSTER", "MEET", "127.0.0.1", &other.port().to_string(), &bus]);
            }
        }
        within("the cluster is whole", || {
            let whole = |server: &Server| {
                let state = server.command(&["CLUSTER", "INFO"]).text();
                state.contains("cluster_state:ok") && state.contains("cluster_known_nodes:3")
            };
            primaries.iter().all(whole).then_some(())
        });
        Cluster { primaries }
    }

    /// Where a client finds each of them.
    pub fn urls(&self) -> Vec<String> {
        self.primaries.iter().map(|server| format!("redis://127.0.0.1:{}", server.port())).collect()
    }
}

/// A database of a server that others may use too, emptied with this. What is of the whole server is everybody's: settings,
/// scripts, channels, `FLUSHALL`. A test that touches these starts its own [`Server`].
#[derive(Debug)]
pub struct Database {
    port: u16,
    number: u32,
    url: String,
    /// Kept while one of its databases is.
    _server: Option<Arc<Server>>,
}

/// An empty database of the server named by `LAB_REDIS_URL`, or of one of this process.
pub fn database() -> Database {
    if let Ok(url) = std::env::var("LAB_REDIS_URL") {
        return Database::of(&url, None);
    }
    static OWN: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let server = {
        let mut own = lock(&OWN);
        own.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Server::start());
            *own = Arc::downgrade(&server);
            server
        })
    };
    Database::of(&server.url(), Some(server))
}

impl Database {
    fn of(url: &str, server: Option<Arc<Server>>) -> Database {
        let address = url.strip_prefix("redis://127.0.0.1:").and_then(|rest| rest.split('/').next());
        let port = address.and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("{url} is not redis://127.0.0.1:PORT"));
        let counted = ask(port, 0, &["INCR", "lab:databases"]).unwrap_or_else(|error| panic!("{url}: {error}"));
        let Reply::Number(counted) = counted else { panic!("{url}: {counted:?}") };
        // The first one counts the others. Those of long ago are used again.
        let number = u32::try_from(counted.rem_euclid(i64::from(DATABASES) - 1)).unwrap_or(0) + 1;
        let emptied = ask(port, number, &["FLUSHDB"]);
        assert!(matches!(emptied, Ok(Reply::Text(_))), "{url}: {emptied:?}");
        Database { port, number, url: format!("redis://127.0.0.1:{port}/{number}"), _server: server }
    }

    /// Where a client finds it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Asks it.
    ///
    /// # Panics
    /// When nothing is answered.
    #[track_caller]
    pub fn command(&self, words: &[&str]) -> Reply {
        ask(self.port, self.number, words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Fails where the server has gone before, and the database with it.
        ask(self.port, self.number, &["FLUSHDB"]).ok();
    }
}

/// One command over a connection of its own.
fn ask(port: u16, database: u32, words: &[&str]) -> io::Result<Reply> {
    let mut stream = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_secs(2))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let spelled = |words: &[&str]| {
        let words: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
        words
    };
    let mut orders = String::new();
    if database != 0 {
        orders.push_str(&format!("*2\r\n{}", spelled(&["SELECT", &database.to_string()])));
    }
    orders.push_str(&format!("*{}\r\n{}", words.len(), spelled(words)));
    stream.write_all(orders.as_bytes())?;
    let mut answers = BufReader::new(stream);
    if database != 0 {
        let selected = read_reply(&mut answers)?;
        if let Reply::Error(_) = selected {
            return Ok(selected);
        }
    }
    read_reply(&mut answers)
}

/// RESP2: <https://redis.io/docs/latest/develop/reference/protocol-spec/>
fn read_reply(from: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let line = line.trim_end();
    let unreadable = || io::Error::new(io::ErrorKind::InvalidData, format!("{line:?} is no reply"));
    let (kind, rest) = line.split_at_checked(1).ok_or_else(unreadable)?;
    let number = || rest.parse::<i64>().map_err(|_| unreadable());
    match kind {
        "+" => Ok(Reply::Text(rest.to_owned())),
        "-" => Ok(Reply::Error(rest.to_owned())),
        ":" => Ok(Reply::Number(number()?)),
        "$" => {
            let Ok(length) = usize::try_from(number()?) else { return Ok(Reply::Nothing) };
            let mut bytes = vec![0; length + 2];
            from.read_exact(&mut bytes)?;
            bytes.truncate(length);
            Ok(Reply::Text(String::from_utf8_lossy(&bytes).into_owned()))
        }
        "*" => {
            let Ok(length) = usize::try_from(number()?) else { return Ok(Reply::Nothing) };
            (0..length).map(|_| read_reply(from)).collect::<io::Result<Vec<_>>>().map(Reply::List)
        }
        _ => Err(unreadable()),
    }
}

/// Redis, or Valkey where that is what is installed.
fn program() -> &'static str {
    let there = |name: &str| Command::new(name).arg("--version").stdout(Stdio::null()).status().is_ok();
    if there("redis-server") || !there("valkey-server") { "redis-server" } else { "valkey-server" }
}

/// A panic elsewhere must not keep a server from being stopped.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_do_not_see_each_other_and_are_empty_again_afterwards() {
        let (first, second) = (database(), database());
        first.command(&["SET", "a", "1"]);
        assert_eq!(second.command(&["GET", "a"]), Reply::Nothing);
        assert_eq!(first.command(&["GET", "a"]), Reply::Text("1".into()));
        let (port, number) = (first.port, first.number);
        drop(first);
        assert_eq!(ask(port, number, &["DBSIZE"]).expect("an answer"), Reply::Number(0));
    }

    #[test]
    fn the_sentinels_make_the_replica_the_primary() {
        let all = Sentinels::start();
        assert_eq!(all.primary_port(), all.primary.port());
        all.primary.command(&["SET", "a", "1"]);
        all.primary.command(&["WAIT", "1", "1000"]);
        all.primary.stop(Stop::Kill);
        within("the replica takes over", || {
            // Whoever is connected is put out when it does.
            let role = all.replica.try_command(&["INFO", "replication"]).ok()?.text();
            role.contains("role:master").then_some(())
        });
        within("the Sentinels say so", || (all.primary_port() == all.replica.port()).then_some(()));
        assert_eq!(all.replica.command(&["GET", "a"]), Reply::Text("1".into()));
        assert_eq!(all.addresses().len(), 3);
    }

    #[test]
    fn a_cluster_answers_for_its_slots_and_names_who_has_the_others() {
        let cluster = Cluster::start();
        let answers: Vec<Reply> = cluster.primaries.iter().map(|server| server.command(&["SET", "a", "1"])).collect();
        assert_eq!(answers.iter().filter(|answer| **answer == Reply::Text("OK".into())).count(), 1, "{answers:?}");
        let moved = |answer: &&Reply| matches!(answer, Reply::Error(error) if error.starts_with("MOVED "));
        assert_eq!(answers.iter().filter(moved).count(), 2, "{answers:?}");
        assert_eq!(cluster.urls().len(), 3);
    }

    #[test]
    fn a_server_that_is_killed_comes_back_without_what_it_only_had_in_memory() {
        let server = Server::start();
        server.command(&["SET", "a", "1"]);
        server.stop(Stop::Kill);
        server.try_command(&["PING"]).expect_err("nobody is there");
        server.begin();
        assert_eq!(server.command(&["GET", "a"]), Reply::Nothing);
        let durable = Options::new().set("appendonly", "yes").set("appendfsync", "always").start();
        durable.command(&["SET", "a", "1"]);
        durable.stop(Stop::Kill);
        durable.begin();
        assert_eq!(durable.command(&["GET", "a"]), Reply::Text("1".into()));
    }
}
