//! The short smoke: the server as a user starts it, asked once and stopped.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::{Failure, process};

/// Generous: a debug build on a busy machine with two cores.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn run() -> Result<(), Failure> {
    // By itself, as people build it: what it needs of a dependency must not come by what another package needs.
    process::run(&mut process::cargo(&["check"]))?;
    let program = process::server()?;
    let scratch = process::target_directory()?.join(format!("smoke-{}", std::process::id()));
    fs::create_dir_all(&scratch)?;
    let answered = serve_answers(&program, &scratch);
    if answered.is_err() {
        println!("{}", fs::read_to_string(scratch.join("stderr")).unwrap_or_default());
    }
    fs::remove_dir_all(&scratch)?;
    answered
}

/// `serve` says where it listens, is healthy there, and ends with status 0 when asked to.
fn serve_answers(program: &Path, scratch: &Path) -> Result<(), Failure> {
    let child = process::program(program)
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(scratch.join("data"))
        .stdout(Stdio::piped())
        .stderr(File::create(scratch.join("stderr"))?)
        .spawn()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let mut server = Server(child);
    let stdout = server.0.stdout.take().ok_or("the server has no stdout")?;
    let line = first_line(stdout)?;
    let address = address(&line).ok_or_else(|| format!("expected \"listening on http://…\", got {line:?}"))?;
    let status = get(address, "/healthz")?;
    if status != "HTTP/1.1 200 OK" {
        return Err(format!("GET /healthz answered {status:?}").into());
    }
    println!("serve: listening on {address}, healthy");
    server.stop()
}

/// Waits on another thread, because a pipe cannot be read with a timeout.
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

fn address(line: &str) -> Option<&str> {
    line.trim_end().strip_prefix("listening on http://")
}

/// The status line of a GET.
fn get(address: &str, path: &str) -> Result<String, Failure> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned())
}

/// Killed when dropped, so that a failed smoke leaves nothing running.
struct Server(Child);

impl Server {
    /// Asks it to end, as a service manager does, and waits.
    fn stop(mut self) -> Result<(), Failure> {
        if !cfg!(unix) {
            return Ok(());
        }
        process::run(process::program("sh").args(["-c", &format!("kill -TERM {}", self.0.id())]))?;
        let asked = Instant::now();
        while asked.elapsed() < PATIENCE {
            match self.0.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("serve ended with {status} on SIGTERM").into()),
                None => thread::sleep(Duration::from_millis(10)),
            }
        }
        Err(format!("serve did not end within {PATIENCE:?} of SIGTERM").into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is what is wanted.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_what_follows_listening_on() {
        assert_eq!(address("listening on http://127.0.0.1:41234\n"), Some("127.0.0.1:41234"));
        assert_eq!(address("starting\n"), None);
    }
}
