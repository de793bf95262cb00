//! PostgreSQL: servers, streaming standbys, and databases that are dropped with their handle.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::Signal;

use crate::child;
use crate::directory::Directory;
use crate::port::Port;
use crate::waiting::within;

/// Who owns everything on these servers.
const SUPERUSER: &str = "lab";

/// How a server is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Its connections are cut and everything is written down.
    Fast,
    /// As if it had crashed: the next start recovers.
    Immediate,
    /// SIGKILL of it and of every process of it, in the middle of whatever they do.
    Kill,
}

/// What a server is started with.
#[derive(Debug, Clone, Default)]
pub struct Options {
    settings: BTreeMap<String, String>,
    addresses: Vec<String>,
    /// Its certificate and the key of it.
    tls: Option<[String; 2]>,
}

impl Options {
    /// Without fsync, listening on 127.0.0.1 alone.
    pub fn new() -> Options {
        Options::default()
            .set("fsync", "off")
            .set("full_page_writes", "off")
            .set("max_connections", "300")
            .set("wal_retrieve_retry_interval", "100ms")
    }

    /// A line of postgresql.conf.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Options {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }

    /// With fsync, as a server is that keeps what it acknowledged when the power goes.
    #[must_use]
    pub fn durable(self) -> Options {
        self.set("fsync", "on").set("full_page_writes", "on")
    }

    /// Listens on another address of this machine as well, for clients in another network namespace.
    #[must_use]
    pub fn listen(mut self, address: &str) -> Options {
        self.addresses.push(address.to_owned());
        self
    }

    /// Speaks TLS to whoever asks for it, with this certificate and its key, both as PEM.
    #[must_use]
    pub fn tls(mut self, certificate: &str, key: &str) -> Options {
        self.tls = Some([certificate.to_owned(), key.to_owned()]);
        self.set("ssl", "on")
    }

    /// Makes a cluster and starts it.
    pub fn start(self) -> Server {
        let directory = Directory::new();
        let mut initdb = child::unprivileged(program("initdb"));
        initdb.args(["-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--no-sync", "--no-instructions", "-D"]);
        initdb.arg(directory.path().join("data"));
        child::run(initdb);
        fs::write(
            directory.path().join("data/pg_hba.conf"),
            "local all all trust\nhost all all all trust\nlocal replication all trust\nhost replication all all trust\n",
        )
        .expect("a file");
        for (text, name) in self.tls.iter().flatten().zip(["server.crt", "server.key"]) {
            let file = directory.path().join("data").join(name);
            fs::write(&file, text).expect("a file");
            // Or the server does not use it.
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("its owner's alone");
            if child::is_root() {
                chown(&file, Some(child::NOBODY), Some(child::NOBODY)).expect("given away");
            }
        }
        Server::on(directory, self)
    }
}

/// A server of one's own, gone when dropped.
#[derive(Debug)]
pub struct Server {
    directory: Directory,
    port: Port,
    options: Options,
    running: Mutex<Option<Child>>,
}

impl Server {
    /// One with the defaults of [`Options::new`].
    pub fn start() -> Server {
        Options::new().start()
    }

    fn on(directory: Directory, options: Options) -> Server {
        let addresses: Vec<&str> =
            ["127.0.0.1"].into_iter().chain(options.addresses.iter().map(String::as_str)).collect();
        let mut lines = format!(
            "listen_addresses = '{}'\nunix_socket_directories = '{}'\n",
            addresses.join(","),
            directory.path().display()
        );
        for (name, value) in &options.settings {
            lines.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
        }
        append(&directory.path().join("data/postgresql.conf"), &lines);
        let server = Server { directory, port: Port::free(), options, running: Mutex::new(None) };
        server.begin();
        server
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// Where its socket is.
    pub fn socket_directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where a client finds a database of it. The user may do everything.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}@127.0.0.1:{}/{database}", self.port.number)
    }

    /// The same by its socket.
    pub fn socket_url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}@/{database}?host={}&port={}", self.directory.path().display(), self.port.number)
    }

    /// A fresh database, dropped with the handle.
    pub fn database(&self) -> Database {
        Database::create(self.url("postgres"), None)
    }

    /// Runs statements as `psql` would and returns the rows, columns between `|`.
    ///
    /// # Panics
    /// When one fails, with its message.
    #[track_caller]
    pub fn sql(&self, database: &str, statements: &str) -> String {
        sql(&self.url(database), statements).unwrap_or_else(|message| panic!("{statements}: {message}"))
    }

    /// The same, where failing is an answer.
    ///
    /// # Errors
    /// What `psql` said.
    pub fn try_sql(&self, database: &str, statements: &str) -> Result<String, String> {
        sql(&self.url(database), statements)
    }

    /// Starts it again after [`Server::stop`], on the same port.
    pub fn begin(&self) {
        let mut running = lock(&self.running);
        assert!(running.is_none(), "it runs already");
        let data = self.directory.path().join("data");
        let log = File::options().create(true).append(true).open(self.log_file()).expect("a log");
        let mut command = child::server(program("postgres"), "QUIT");
        command.arg("-D").arg(&data).args(["-p", &self.port.number.to_string()]);
        command.stdout(Stdio::null()).stderr(log);
        let mut started = child::start(command).expect("postgres");
        let id = started.id().to_string();
        within("PostgreSQL is ready", || {
            let ended = started.try_wait().expect("a status");
            assert!(ended.is_none(), "PostgreSQL did not start: {}", self.log());
            // What pg_ctl waits for: the process id first, the state in the eighth line.
            let state = fs::read_to_string(data.join("postmaster.pid")).ok()?;
            let lines: Vec<&str> = state.lines().map(str::trim).collect();
            (lines.first() == Some(&id.as_str()) && matches!(lines.get(7), Some(&("ready" | "standby")))).then_some(())
        });
        *running = Some(started);
    }

    /// Ends it; it is gone when this returns.
    pub fn stop(&self, how: Stop) {
        let Some(mut child) = lock(&self.running).take() else { return };
        let signal = match how {
            Stop::Fast => Signal::INT,
            Stop::Immediate => Signal::QUIT,
            Stop::Kill => Signal::KILL,
        };
        let children = child::children(child.id());
        child::signal(child.id(), signal);
        if how == Stop::Kill {
            children.iter().for_each(|id| child::signal(*id, Signal::KILL));
        }
        // One that is stopped by SIGSTOP ends only when it goes on.
        child::signal(child.id(), Signal::CONT);
        child.wait().ok();
        // A new server refuses to start while an old process still holds the shared memory.
        within("the processes of PostgreSQL end", || {
            children.iter().all(|id| !fs::exists(format!("/proc/{id}")).unwrap_or(false)).then_some(())
        });
    }

    /// Stops it and starts it again.
    pub fn restart(&self, how: Stop) {
        self.stop(how);
        self.begin();
    }

    /// SIGSTOP to every process of it: connections stay open and nothing is answered.
    pub fn freeze(&self) {
        self.to_all(Signal::STOP);
    }

    /// SIGCONT after [`Server::freeze`].
    pub fn thaw(&self) {
        self.to_all(Signal::CONT);
    }

    fn to_all(&self, signal: Signal) {
        if let Some(child) = lock(&self.running).as_ref() {
            child::signal(child.id(), signal);
            child::children(child.id()).into_iter().for_each(|id| child::signal(id, signal));
        }
    }

    /// Changes a setting, now and for later starts. What only a restart can change needs one.
    pub fn set(&self, name: &str, value: &str) {
        let loaded = || self.sql("postgres", "SELECT pg_conf_load_time()");
        let before = loaded();
        self.sql("postgres", &format!("ALTER SYSTEM SET {name} = '{}'", value.replace('\'', "''")));
        self.sql("postgres", "SELECT pg_reload_conf()");
        within("the setting is in force", || (loaded() != before).then_some(()));
    }

    /// Lets every commit wait for a standby that nobody has, until `synchronous_standby_names` is set again.
    pub fn hold_commits(&self) {
        self.set("synchronous_standby_names", "nobody");
        // The process that looks after it reads the setting a moment after all others have.
        let waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' LIMIT 1";
        let is_held = || {
            std::thread::scope(|scope| {
                let commit =
                    scope.spawn(|| self.sql("postgres", "BEGIN; CREATE TABLE held (); DROP TABLE held; COMMIT"));
                loop {
                    let held = self.sql("postgres", waiting);
                    if !held.is_empty() {
                        self.sql("postgres", &format!("SELECT pg_cancel_backend({held})"));
                        return Some(());
                    }
                    if commit.is_finished() {
                        return None;
                    }
                }
            })
        };
        within("commits are held", is_held);
    }

    /// A streaming standby of it, which answers questions and takes no writes.
    pub fn standby(&self) -> Server {
        let directory = Directory::new();
        let name = format!("lab_{}", directory.path().display().to_string().rsplit('-').next().unwrap_or("standby"));
        let mut copy = child::unprivileged(program("pg_basebackup"));
        copy.args(["--no-sync", "--checkpoint=fast", "-X", "stream", "-R", "-D"]).arg(directory.path().join("data"));
        copy.args(["-d", &format!("{}?application_name={name}", self.url("postgres"))]);
        child::run(copy);
        // What a standby waits for once it is a primary is not what this one waits for.
        append(&directory.path().join("data/postgresql.auto.conf"), "synchronous_standby_names = ''\n");
        Server::on(directory, self.options.clone())
    }

    /// Acknowledges a commit only when a standby has written it down too; `None`: no longer waits for any.
    pub fn wait_for_standbys(&self, how_many: Option<u32>) {
        let names = how_many.map(|number| format!("ANY {number} (*)")).unwrap_or_default();
        self.set("synchronous_standby_names", &names);
        if how_many.is_some() {
            within("a standby is synchronous", || {
                let state =
                    self.sql("postgres", "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'");
                (state != "0").then_some(())
            });
        }
    }

    /// Makes a standby a primary.
    pub fn promote(&self) {
        self.sql("postgres", "SELECT pg_promote(true, 60)");
        within("the standby is a primary", || (!self.is_in_recovery()).then_some(()));
    }

    /// Whether it is a standby.
    pub fn is_in_recovery(&self) -> bool {
        self.sql("postgres", "SELECT pg_is_in_recovery()") == "t"
    }

    /// What it wrote about itself.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join("log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop(Stop::Immediate);
    }
}

/// A fresh database, dropped with this.
#[derive(Debug)]
pub struct Database {
    url: String,
    name: String,
    /// Where it can be dropped.
    beside: String,
    /// Kept while one of its databases is.
    _server: Option<Arc<Server>>,
}

/// A fresh database on the server named by `LAB_POSTGRES_URL`, or on one of this process.
pub fn database() -> Database {
    if let Ok(url) = std::env::var("LAB_POSTGRES_URL") {
        return Database::create(url, None);
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
    Database::create(server.url("postgres"), Some(server))
}

impl Database {
    fn create(beside: String, server: Option<Arc<Server>>) -> Database {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Of this process and no other that uses the same server, wherever that runs.
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros());
        let name = format!("lab_{}_{time}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let made = sql(&beside, &format!("CREATE DATABASE {name} TEMPLATE template0"));
        made.unwrap_or_else(|message| panic!("a database beside {beside}: {message}"));
        Database { url: renamed(&beside, &name), name, beside, _server: server }
    }

    /// Where a client finds it. The user may do everything.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs statements as `psql` would and returns the rows, columns between `|`.
    ///
    /// # Panics
    /// When one fails, with its message.
    #[track_caller]
    pub fn sql(&self, statements: &str) -> String {
        sql(&self.url, statements).unwrap_or_else(|message| panic!("{statements}: {message}"))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Fails where the server has gone before, and the database with it.
        sql(&self.beside, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)).ok();
    }
}

/// The same URL for another database.
fn renamed(url: &str, database: &str) -> String {
    let (head, query) = url.split_once('?').map_or((url, String::new()), |(head, query)| (head, format!("?{query}")));
    let authority = head.find("://").map_or(0, |at| at + 3);
    let end = head[authority..].find('/').map_or(head.len(), |at| authority + at);
    format!("{}/{database}{query}", &head[..end])
}

/// By `psql`, which can be called from anywhere: a blocking client would not run inside an async test.
fn sql(url: &str, statements: &str) -> Result<String, String> {
    let mut psql = Command::new(program("psql"))
        .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-"])
        .arg(url)
        .env("PGCONNECT_TIMEOUT", "10")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("psql: {error}"))?;
    // It may have given up before it has read everything.
    psql.stdin.take().expect("stdin").write_all(statements.as_bytes()).ok();
    let output = psql.wait_with_output().map_err(|error| format!("psql: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// To a file that belongs to the servers' user and stays theirs.
fn append(file: &Path, lines: &str) {
    let mut file = File::options().append(true).open(file).expect("a file of the cluster");
    file.write_all(lines.as_bytes()).expect("written");
}

/// Debian keeps the programs of every version beside each other and only some on the PATH.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let newest = versions.map(|entry| entry.path()).max_by_key(version);
    newest.expect("PostgreSQL, which `cargo xtask test` installs").join("bin").join(name)
}

/// A panic elsewhere must not keep a server from being stopped.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_of_a_url_is_another_with_everything_else_the_same() {
        for (url, other) in [
            ("postgres://lab@127.0.0.1:1/postgres", "postgres://lab@127.0.0.1:1/x"),
            ("postgres://lab@127.0.0.1:1", "postgres://lab@127.0.0.1:1/x"),
            ("postgres://lab@/postgres?host=/tmp/a", "postgres://lab@/x?host=/tmp/a"),
        ] {
            assert_eq!(renamed(url, "x"), other);
        }
    }

    #[test]
    fn a_database_is_there_and_goes_with_its_handle() {
        let first = database();
        let second = database();
        assert_ne!(first.url(), second.url());
        first.sql("CREATE TABLE kept (n bigint); INSERT INTO kept VALUES (1)");
        assert_eq!(first.sql("SELECT n, n FROM kept"), "1|1");
        let name = first.name().to_owned();
        drop(first);
        assert_eq!(second.sql(&format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'")), "0");
    }

    #[test]
    fn a_standby_follows_waits_and_takes_over() {
        let primary = Server::start();
        let standby = primary.standby();
        primary.wait_for_standbys(Some(1));
        primary.sql("postgres", "CREATE TABLE kept AS SELECT 7 AS n");
        assert!(standby.is_in_recovery() && !primary.is_in_recovery());
        standby.try_sql("postgres", "CREATE TABLE lost ()").expect_err("it only reads");
        primary.stop(Stop::Kill);
        standby.promote();
        assert_eq!(standby.sql("postgres", "SELECT n FROM kept"), "7");
    }

    /// What a promoted standby has is what it had been sent: the tail of the rest is lost.
    #[test]
    fn an_asynchronous_standby_loses_what_it_was_not_sent() {
        let primary = Server::start();
        let standby = primary.standby();
        primary.sql("postgres", "CREATE TABLE kept AS SELECT 1 AS n");
        within("the row is there", || standby.try_sql("postgres", "SELECT n FROM kept").is_ok().then_some(()));
        standby.set("primary_conninfo", "");
        within("it listens no more", || {
            (primary.sql("postgres", "SELECT count(*) FROM pg_stat_replication") == "0").then_some(())
        });
        primary.sql("postgres", "INSERT INTO kept VALUES (2)");
        primary.stop(Stop::Kill);
        standby.promote();
        assert_eq!(standby.sql("postgres", "SELECT n FROM kept"), "1");
        let next = standby.standby();
        within("a standby of the new primary", || next.try_sql("postgres", "SELECT n FROM kept").is_ok().then_some(()));
    }

    /// Otherwise nothing could be committed for seconds after each crash, and that would be the lab's doing.
    #[test]
    fn after_a_crash_commits_are_waited_for_no_longer_than_a_second() {
        let primary = Server::start();
        let _standby = primary.standby();
        primary.wait_for_standbys(Some(1));
        primary.sql("postgres", "CREATE TABLE kept (n bigint)");
        for how in [Stop::Immediate, Stop::Kill] {
            primary.restart(how);
            let begun = std::time::Instant::now();
            primary.sql("postgres", "INSERT INTO kept VALUES (1)");
            assert!(begun.elapsed() < std::time::Duration::from_secs(3), "{how:?}: {:?}", begun.elapsed());
        }
    }

    #[test]
    fn a_server_that_crashed_has_what_it_acknowledged_and_nothing_is_left_of_one_that_was_dropped() {
        let server = Server::start();
        server.sql("postgres", "CREATE TABLE kept (n bigint)");
        for (n, how) in [Stop::Immediate, Stop::Kill, Stop::Fast].into_iter().enumerate() {
            server.sql("postgres", &format!("INSERT INTO kept VALUES ({n})"));
            server.restart(how);
            assert_eq!(server.sql("postgres", "SELECT count(*) FROM kept"), (n + 1).to_string(), "{how:?}");
        }
        server.freeze();
        let frozen = lock(&server.running).as_ref().map(Child::id).expect("it runs");
        let stat = fs::read_to_string(format!("/proc/{frozen}/stat")).expect("a process");
        assert!(stat.contains(") T "), "{stat}");
        server.thaw();
        server.sql("postgres", "SELECT 1");
        let directory = server.socket_directory().to_owned();
        drop(server);
        assert!(!directory.exists());
        assert!(!fs::exists(format!("/proc/{frozen}")).expect("/proc"));
    }
}
