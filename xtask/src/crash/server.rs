//! The server as a process: started plainly or under strace, and ended in every way there is.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::{Failure, process};

/// Generous: a debug build under strace on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the user that all clients log in as is called, and the password.
pub(crate) const USER: &str = "ada";
pub(crate) const PASSWORD: &str = "a counterfoil is kept by the issuer";

/// The program under test.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    path: PathBuf,
    /// Where its stderr goes, one file after the other.
    log: PathBuf,
}

/// What watches over a process.
#[derive(Debug, Clone)]
pub(crate) enum Watch {
    Nobody,
    /// strace sends SIGKILL when one thread enters `syscall` for the `count`th time.
    KillAt {
        syscall: &'static str,
        count: usize,
    },
    /// strace writes down every system call that changes a file, or tells where in one the next change goes.
    Record {
        log: PathBuf,
    },
}

/// What changes files and directories, and what moves a file position. Whatever a program might use for that is here, so that
/// a call nobody models is noticed rather than missed.
const CHANGING: &str = "trace=open,openat,openat2,creat,mkdir,mkdirat,rmdir,write,writev,pwrite64,pwritev,pwritev2,read,\
                        readv,lseek,ftruncate,truncate,fallocate,fsync,fdatasync,sync_file_range,sync,syncfs,unlink,\
                        unlinkat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,mmap,copy_file_range,sendfile,\
                        splice,io_uring_setup";

impl Watch {
    fn around(&self, program: &Path) -> Command {
        let strace = || {
            let mut strace = process::program("strace");
            strace.args(["-f", "-qq"]);
            strace
        };
        match self {
            Watch::Nobody => process::program(program),
            Watch::KillAt { syscall, count } => {
                let mut strace = strace();
                strace.args(["-o", "/dev/null", "-e"]).arg(format!("trace={syscall}"));
                strace.arg("-e").arg(format!("inject={syscall}:signal=KILL:when={count}")).arg(program);
                strace
            }
            Watch::Record { log } => {
                let mut strace = strace();
                strace.args(["--seccomp-bpf", "-y", "-xx", "-s", "1000000", "--syscall-times=ns"]);
                strace.args(["--absolute-timestamps=format:unix,precision:ns", "-e", CHANGING, "-o"]);
                strace.arg(log).arg(program);
                strace
            }
        }
    }
}

/// How a start came out.
#[derive(Debug)]
pub(crate) enum Start {
    Listening(Server),
    /// It ended before it listened; killed, if somebody watched.
    Ended(ExitStatus),
}

impl Program {
    /// Builds it.
    pub(crate) fn build(scratch: &Path) -> Result<Program, Failure> {
        Program::copied(&process::server()?, scratch)
    }

    /// Takes a copy of `file`, so that a build meanwhile changes nothing.
    pub(crate) fn copied(file: &Path, scratch: &Path) -> Result<Program, Failure> {
        let path = scratch.join("counterfoil");
        fs::copy(file, &path).map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(Program { path, log: scratch.join("stderr") })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn command(&self, watch: &Watch) -> Result<Command, Failure> {
        let mut command = watch.around(&self.path);
        // The cheapest hashing that the server lets through, because what is looked for here happens on the disk; and a
        // grace that no round outlasts.
        command
            .env("COUNTERFOIL_LOG_LEVEL", "warn")
            .env("COUNTERFOIL_HASHING_MEMORY", "12288")
            .env("COUNTERFOIL_HASHING_ITERATIONS", "3")
            .env("COUNTERFOIL_TOKENS_ROTATION_GRACE", "1d")
            // One machine plays everybody, and guesses on purpose.
            .env("COUNTERFOIL_LOGINS_FAILED_PER_SOURCE", "1000000/h")
            // So that whoever asks can see whether they still are what they were.
            .env("COUNTERFOIL_HTTP_USER_FIELDS", "id,username,staff,admin")
            .stderr(File::create(&self.log)?);
        Ok(command)
    }

    /// `counterfoil serve`, up to the line that says where.
    pub(crate) fn serve(&self, data: &Path, watch: &Watch) -> Result<Start, Failure> {
        let mut command = self.command(watch)?;
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data).stdout(Stdio::piped());
        let child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        let mut server = Server { child, watch: watch.clone(), address: String::new() };
        let stdout = server.child.stdout.take().ok_or("the server has no stdout")?;
        let line = first_line(stdout)?;
        match line.trim_end().strip_prefix("listening on http://") {
            Some(address) => {
                address.clone_into(&mut server.address);
                Ok(Start::Listening(server))
            }
            None if line.is_empty() => Ok(Start::Ended(server.wait()?)),
            None => Err(format!("expected \"listening on http://…\", got {line:?}").into()),
        }
    }

    /// `counterfoil serve` where nothing is in its way.
    ///
    /// # Errors
    /// With what it said when it did not start.
    pub(crate) fn serve_plainly(&self, data: &Path) -> Result<Server, Failure> {
        match self.serve(data, &Watch::Nobody)? {
            Start::Listening(server) => Ok(server),
            Start::Ended(status) => Err(format!("it ended with {status}: {}", self.said()).into()),
        }
    }

    /// `counterfoil user create`; whether it said that all is well.
    pub(crate) fn create_user(&self, data: &Path, watch: &Watch) -> Result<bool, Failure> {
        let mut command = self.command(watch)?;
        command.arg("--data-dir").arg(data).args(["user", "create", USER, "--password-stdin"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // It may have been killed before it reads.
            stdin.write_all(PASSWORD.as_bytes()).ok();
        }
        Ok(child.wait()?.success())
    }

    /// What the last process wrote to its stderr.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default().trim().replace('\n', "; ")
    }
}

/// A server that listens. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    watch: Watch,
    pub(crate) address: String,
}

impl Server {
    /// Its own id, which is not that of the strace around it.
    fn id(&self) -> Option<u32> {
        let id = self.child.id();
        match self.watch {
            Watch::Nobody => Some(id),
            Watch::KillAt { .. } | Watch::Record { .. } => {
                let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
                children.split_whitespace().next()?.parse().ok()
            }
        }
    }

    fn signal(&self, signal: &str) {
        if let Some(id) = self.id() {
            // Fails when it has ended already, which is what is wanted.
            process::output(process::program("kill").args(["-s", signal, &id.to_string()])).ok();
        }
    }

    /// Waits until it has ended by itself, at most this long.
    pub(crate) fn ends_within(&mut self, patience: Duration) -> Result<bool, Failure> {
        let begun = Instant::now();
        loop {
            if self.child.try_wait()?.is_some() {
                return Ok(true);
            }
            if begun.elapsed() >= patience {
                return Ok(false);
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) -> Result<(), Failure> {
        self.signal("KILL");
        self.wait().map(drop)
    }

    /// SIGTERM, as a service manager does.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        self.signal("TERM");
        let status = self.wait()?;
        if status.success() { Ok(()) } else { Err(format!("serve ended with {status} on SIGTERM").into()) }
    }

    fn wait(&mut self) -> Result<ExitStatus, Failure> {
        if self.ends_within(PATIENCE)? {
            Ok(self.child.wait()?)
        } else {
            Err(format!("serve did not end within {PATIENCE:?}").into())
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.signal("KILL");
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

/// Waits on another thread, because a pipe cannot be read with a timeout. Empty when it was closed before a line came.
fn first_line(stdout: ChildStdout) -> Result<String, Failure> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let mut lines = BufReader::new(stdout);
        let mut line = String::new();
        let read = lines.read_line(&mut line).map(|_| line);
        // Nobody receives any more when the time is up.
        send.send(read).ok();
        // Read on, so that the server never blocks on a full pipe.
        std::io::copy(&mut lines, &mut std::io::sink()).ok();
    });
    match receive.recv_timeout(PATIENCE) {
        Ok(read) => Ok(read?),
        Err(_) => Err(format!("serve printed no line within {PATIENCE:?}").into()),
    }
}
