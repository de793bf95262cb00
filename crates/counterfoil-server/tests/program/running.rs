//! The binary under test: commands that run and end, and a server that runs until it is told to stop.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::exchange::PATIENCE;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_counterfoil");

/// The password of everyone that a test makes.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// A directory of its own to start the program in, with `password.txt` and `data` in it.
pub(crate) struct Site {
    directory: TempDir,
}

impl Site {
    pub(crate) fn new() -> Site {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("password.txt"), format!("{PASSWORD}\n")).expect("a file");
        Site { directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> String {
        fs::write(self.path(name), content).expect("a file");
        self.path(name).to_str().expect("UTF-8").to_owned()
    }

    /// The program with these words, in this directory and without settings of the machine the test runs on.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(line.split_whitespace()).current_dir(self.directory.path());
        command.env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, line: &str) -> Ran {
        Ran::of(self.command(line).output().expect("the program runs"), line)
    }

    /// With something on stdin.
    pub(crate) fn run_with(&self, line: &str, stdin: impl AsRef<[u8]>) -> Ran {
        let mut child = self
            .command(line)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        child.stdin.take().expect("stdin").write_all(stdin.as_ref()).expect("written");
        Ran::of(child.wait_with_output().expect("the program ends"), line)
    }

    /// On `data`, successfully.
    pub(crate) fn operate(&self, line: &str) -> Ran {
        let ran = self.run(&format!("{line} --data-dir data"));
        assert_eq!(ran.code, Some(0), "{line}: {}", ran.stderr);
        ran
    }

    pub(crate) fn user(&self, name: &str) {
        self.operate(&format!("user create {name} --password-file password.txt"));
    }

    /// Starts a server on `data`, on any free port, and waits until it says where.
    pub(crate) fn serve(&self, more: &str) -> Server {
        Server::start(self.command(&format!("serve --listen 127.0.0.1:0 --data-dir data {more}")), self.path("stderr"))
    }
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn of(output: Output, line: &str) -> Ran {
        let text = |bytes| String::from_utf8(bytes).unwrap_or_else(|error| panic!("{line}: {error}"));
        Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

/// A server under test that listens on an address.
pub(crate) struct Server {
    process: Process,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn start(command: Command, stderr: PathBuf) -> Server {
        let process = Process::start(command, stderr);
        let address = process.place.strip_prefix("http://").and_then(|address| address.parse().ok());
        let Some(address) = address else { panic!("{:?}; stderr: {}", process.place, process.log()) };
        Server { process, address }
    }

    /// Tells it to stop; returns what it had written to stdout after the first line.
    pub(crate) fn stop(self) -> String {
        self.process.stop()
    }
}

impl Deref for Server {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Server {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// A server under test, wherever it listens. Killed when dropped, so that a failed test leaves nothing running.
pub(crate) struct Process {
    child: Child,
    /// What follows "listening on" in its first line.
    pub(crate) place: String,
    rest_of_stdout: Receiver<String>,
    stderr: PathBuf,
}

impl Process {
    pub(crate) fn start(mut command: Command, stderr: PathBuf) -> Process {
        // Appended to, because a test may start a second one.
        let log = File::options().create(true).append(true).open(&stderr).expect("a file for stderr");
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().expect("the server starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout"));
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            stdout.read_line(&mut line).ok();
            send.send(line).ok();
            for line in stdout.lines().map_while(Result::ok) {
                send.send(line + "\n").ok();
            }
        });
        let line = lines.recv_timeout(PATIENCE).expect("a line on stdout");
        let place = line.strip_prefix("listening on ").and_then(|rest| rest.strip_suffix('\n')).map(str::to_owned);
        let process = Process { child, place: place.unwrap_or_default(), rest_of_stdout: lines, stderr };
        assert!(!process.place.is_empty(), "{line:?}; stderr: {}", process.log());
        process
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// A line of `/proc/PID/status`, in KiB: `VmRSS` is the memory in use, `VmHWM` the most there was.
    pub(crate) fn memory(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect("a line");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Everything logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.stderr).expect("stderr")
    }

    /// Waits until the log has `what` in it.
    pub(crate) fn log_with(&self, what: &str) -> String {
        within(PATIENCE, || Some(self.log()).filter(|log| log.contains(what)))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(id, signal).expect("the server runs");
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        within(PATIENCE, || self.child.try_wait().expect("a status"))
    }

    /// Tells it to stop; returns what it had written to stdout after the first line.
    pub(crate) fn stop(mut self) -> String {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert!(status.success(), "{status}: {}", self.log());
        self.rest_of_stdout.iter().collect()
    }

    /// The lines on stdout after the first one, up to the one that ends with `last`.
    pub(crate) fn lines_until(&self, last: &str) -> String {
        let mut lines = String::new();
        while !lines.ends_with(last) {
            lines.push_str(&self.rest_of_stdout.recv_timeout(PATIENCE).expect("another line"));
        }
        lines
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is what is wanted.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Asks until there is an answer, and fails when the time is up.
pub(crate) fn within<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = clock();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(clock() - begun < limit, "nothing within {limit:?}");
        pause();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long another process takes cannot be told by a clock that stands still"
)]
pub(crate) fn clock() -> Instant {
    Instant::now()
}

/// A few milliseconds, for another process to get on.
fn pause() {
    let (_kept, never) = mpsc::channel::<()>();
    never.recv_timeout(Duration::from_millis(5)).ok();
}

/// Whether any file below `directory` has `text` in it.
pub(crate) fn any_file_has(directory: &Path, text: &str) -> bool {
    fs::read_dir(directory).expect("a directory").any(|entry| {
        let path = entry.expect("an entry").path();
        let mut bytes = Vec::new();
        File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)).expect("a file");
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}
