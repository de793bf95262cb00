//! P9: a protected GET beside the Python packages whose place this takes, behind gunicorn with two workers.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::deployment::Deployment;
use crate::load::{self, Contender, compare, pinned};
use crate::protected::layered;
use crate::report::{Goal, Row};
use crate::server::{Connection, Server};

const TOKENS: usize = 1_000;

/// A Redis server that keeps nothing. Killed when dropped.
struct Redis {
    child: Child,
    url: String,
}

impl Redis {
    fn start(directory: &Path) -> Redis {
        let address = free_address();
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"])
            .arg(address.port().to_string())
            .arg("--dir")
            .arg(directory)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server");
        wait_for(address);
        Redis { child, url: format!("redis://{address}/0") }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _already_waited = self.child.wait();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

fn wait_for(address: SocketAddr) {
    let end = Instant::now() + Duration::from_secs(30);
    while Connection::open(address).is_err() {
        assert!(Instant::now() < end, "nothing listens on {address}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The environment that `cargo xtask bench django` has made.
fn environment() -> PathBuf {
    std::env::var_os("BENCH_DJANGO").map(PathBuf::from).expect("run it by `cargo xtask bench django`")
}

fn peer(kind: &str, directory: &Path, redis: &str) -> Contender {
    let site = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("django");
    let directory = directory.join(kind);
    std::fs::create_dir(&directory).unwrap();
    let variables: [(&str, OsString); 4] = [
        ("PEER", kind.into()),
        ("DIRECTORY", directory.clone().into()),
        ("REDIS", redis.into()),
        ("PYTHONDONTWRITEBYTECODE", "1".into()),
    ];
    let bin = environment().join("bin");
    let made = Command::new(bin.join("python"))
        .arg(site.join("protected_site.py"))
        .arg(TOKENS.to_string())
        .envs(variables.clone())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let headers = String::from_utf8(made.stdout).unwrap();
    let address = free_address();
    let mut command = Command::new(bin.join("gunicorn"));
    // Kept connections need its threaded workers; the default ones close each.
    command.args(["--workers", "2", "--threads", "8", "--keep-alive", "75", "--log-level", "warning", "--bind"]);
    command.arg(address.to_string()).arg("protected_site:application").current_dir(site).envs(variables);
    let server = Server::start_at(&mut pinned(&command), address);
    wait_for(address);
    Contender::new(server, headers.lines().map(|header| load::get("/protected", header)).collect())
}

pub(crate) fn run() -> Vec<Row> {
    let directory = tempfile::tempdir().unwrap();
    let redis = Redis::start(directory.path());
    let mut rows = Vec::new();
    for (kind, what, goal) in [
        ("durin", "protected GET, CPU of django-rest-durin / ours", 72.0),
        ("durin-cached", "protected GET, CPU of django-rest-durin, cached / ours", 40.0),
        ("knox", "protected GET, CPU of django-rest-knox / ours", 135.0),
        ("djforge", "protected GET, CPU of djforge-redis-multitokens / ours", 700.0),
    ] {
        let ours = layered(&Deployment::of(1_000), TOKENS);
        let [ours, theirs] = compare([ours, peer(kind, directory.path(), &redis.url)]);
        rows.push(Row {
            id: "P9",
            what,
            figure: theirs.cpu / ours.cpu,
            goal: Goal::AtLeast(goal),
            detail: format!(
                "{:.0} µs / {:.2} µs CPU, {:.0} / {:.0} req/s; gunicorn, 2 workers, one core",
                theirs.cpu, ours.cpu, theirs.per_second, ours.per_second
            ),
        });
    }
    rows
}
