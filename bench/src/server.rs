//! The program under test as a process of its own, and the plain HTTP that it is asked in.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running server. Killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

/// The release binary beside this program.
pub(crate) fn binary() -> PathBuf {
    let path = std::env::current_exe().unwrap().with_file_name("counterfoil");
    assert!(path.exists(), "{} is missing: build it with `cargo build --release`", path.display());
    path
}

/// The program of the peers, which `cargo xtask bench` builds.
pub(crate) fn peers() -> PathBuf {
    let path = std::env::var_os("BENCH_PEERS").map(PathBuf::from).expect("run it by `cargo xtask bench`");
    assert!(path.exists(), "{} is missing", path.display());
    path
}

impl Server {
    /// Starts `command` and waits for the line in which it says where it listens.
    pub(crate) fn start(command: &mut Command) -> Server {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next().expect("the server said nothing").unwrap();
        let address = line.rsplit('/').next().unwrap().parse().unwrap();
        Server { child, address }
    }

    /// Starts `command`, which will listen on `address`.
    pub(crate) fn start_at(command: &mut Command, address: SocketAddr) -> Server {
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        Server { child, address }
    }

    pub(crate) fn serve(directory: &Path) -> Server {
        let mut command = Command::new(binary());
        Server::start(command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(directory))
    }

    /// Resident memory in MiB, from /proc.
    pub(crate) fn resident(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    /// CPU that it and its children have used since they started, in nanoseconds: all their threads'.
    pub(crate) fn cpu_nanoseconds(&self) -> u64 {
        processes(self.child.id()).into_iter().map(cpu_nanoseconds).sum()
    }

    /// Asks it to stop and waits until it has.
    pub(crate) fn stop(mut self) {
        let stopped = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status().unwrap();
        assert!(stopped.success());
        self.child.wait().unwrap();
    }
}

/// That process and its children, and theirs.
fn processes(id: u32) -> Vec<u32> {
    let mut all = vec![id];
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    for child in children.split_whitespace() {
        all.extend(processes(child.parse().unwrap()));
    }
    all
}

/// Of the threads that it has. The scheduler counts in nanoseconds, `/proc/PID/stat` in hundredths of a second.
fn cpu_nanoseconds(id: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{id}/task")).unwrap();
    let of = |path: PathBuf| -> Option<u64> {
        std::fs::read_to_string(path.join("schedstat")).ok()?.split_whitespace().next()?.parse().ok()
    };
    tasks.filter_map(|task| of(task.unwrap().path())).sum()
}

impl Drop for Server {
    fn drop(&mut self) {
        // What it has started ends with it.
        for child in processes(self.child.id()).into_iter().skip(1) {
            Command::new("kill").arg(child.to_string()).status().unwrap();
        }
        let _already_gone = self.child.kill();
        let _already_waited = self.child.wait();
    }
}

/// The command line beside a data directory.
pub(crate) fn command(directory: &Path, arguments: &[&str], stdin: &str) -> String {
    let mut child = Command::new(binary())
        .arg("--data-dir")
        .arg(directory)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?} failed");
    String::from_utf8(output.stdout).unwrap()
}

/// A connection that is kept open between requests.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Connection { stream: BufReader::new(stream) })
    }

    /// Sends one request and reads its whole answer; the status and the body.
    pub(crate) fn ask(&mut self, request: &str) -> std::io::Result<(u16, String)> {
        let (head, body) = self.ask_whole(request)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok((status.ok_or_else(|| std::io::Error::other("no status line"))?, body))
    }

    /// The same; its head and its body.
    pub(crate) fn ask_whole(&mut self, request: &str) -> std::io::Result<(String, String)> {
        self.stream.get_mut().write_all(request.as_bytes())?;
        let (mut head, mut line) = (String::new(), String::new());
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            head.push_str(&line);
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if line == "\r\n" || line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok((head, String::from_utf8_lossy(&body).into_owned()))
    }
}

/// How long until `address` answers `request` with 200, counted from `begun`.
pub(crate) fn first_answer(address: SocketAddr, request: &str, begun: Instant) -> Duration {
    loop {
        if let Ok(mut connection) = Connection::open(address)
            && let Ok((200, _)) = connection.ask(request)
        {
            return begun.elapsed();
        }
    }
}
