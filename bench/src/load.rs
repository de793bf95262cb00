//! Requests as fast as one core can send them over kept connections, and what they cost the server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::report::percentile;
use crate::server::Server;

/// The server has the first core, who asks the second.
const SERVER_CORE: &str = "0";
const CLIENT_CORE: &str = "1";
const CONNECTIONS: usize = 16;
/// Of one turn, after as much of a warm-up the first time.
const TURN: Duration = Duration::from_millis(1_500);
const TURNS: usize = 7;

/// A server and what is asked of it, one request after the other.
pub(crate) struct Contender {
    server: Server,
    connections: Vec<TcpStream>,
    requests: Vec<Vec<u8>>,
    at: usize,
}

/// Medians over the turns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// CPU of the server's process and its children, in microseconds per request.
    pub(crate) cpu: f64,
    pub(crate) per_second: f64,
}

/// A program that runs on the core of servers.
pub(crate) fn pinned(command: &Command) -> Command {
    let mut pinned = Command::new("taskset");
    pinned.args(["-c", SERVER_CORE]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            pinned.env(name, value);
        }
    }
    if let Some(directory) = command.get_current_dir() {
        pinned.current_dir(directory);
    }
    pinned
}

/// `GET path` with this header line.
pub(crate) fn get(path: &str, header: &str) -> Vec<u8> {
    let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{header}\r\n").into_bytes()
}

impl Contender {
    pub(crate) fn new(server: Server, requests: Vec<Vec<u8>>) -> Contender {
        let connections = (0..CONNECTIONS).map(|_| connect(server.address)).collect();
        Contender { server, connections, requests, at: 0 }
    }

    /// Asks for so long; how many were answered.
    fn ask(&mut self, duration: Duration) -> u64 {
        let mut buffer = vec![0; 16 * 1024];
        let mut answered = 0;
        let requests = &self.requests;
        let mut next = || {
            self.at = (self.at + 1) % requests.len();
            requests[self.at].as_slice()
        };
        for connection in &mut self.connections {
            connection.write_all(next()).unwrap();
        }
        let end = Instant::now() + duration;
        loop {
            let goes_on = Instant::now() < end;
            for connection in &mut self.connections {
                read_answer(connection, &mut buffer);
                answered += 1;
                if goes_on {
                    connection.write_all(next()).unwrap();
                }
            }
            if !goes_on {
                return answered;
            }
        }
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Reads one answer with a length, which must be a 200.
fn read_answer(connection: &mut TcpStream, buffer: &mut [u8]) {
    let mut filled = 0;
    loop {
        let read = connection.read(&mut buffer[filled..]).unwrap();
        assert!(read > 0, "the server closed the connection: {}", String::from_utf8_lossy(&buffer[..filled]));
        filled += read;
        let Some(head) = buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        assert!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..filled]));
        let length = content_length(&buffer[..head]).expect("a length");
        if filled >= head + 4 + length {
            assert_eq!(filled, head + 4 + length, "one answer to one request");
            return;
        }
    }
}

fn content_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let line =
        head.split(|byte| *byte == b'\n').find(|line| line[..line.len().min(NAME.len())].eq_ignore_ascii_case(NAME))?;
    std::str::from_utf8(&line[NAME.len()..]).ok()?.trim().parse().ok()
}

/// All of them in turn, again and again, so that a machine that slows down slows all.
pub(crate) fn compare<const N: usize>(mut contenders: [Contender; N]) -> [Cost; N] {
    pin_client();
    for contender in &mut contenders {
        contender.ask(TURN);
    }
    let mut taken: Vec<(Vec<u64>, Vec<u64>)> = vec![Default::default(); N];
    for _ in 0..TURNS {
        for (contender, (cpu, rate)) in contenders.iter_mut().zip(&mut taken) {
            let (before, begun) = (contender.server.cpu_nanoseconds(), Instant::now());
            let answered = contender.ask(TURN);
            let elapsed = begun.elapsed().as_secs_f64();
            let used = contender.server.cpu_nanoseconds() - before;
            cpu.push(used / answered);
            rate.push((answered as f64 / elapsed) as u64);
        }
    }
    unpin_client();
    let mut costs = taken.into_iter().map(|(mut cpu, mut rate)| Cost {
        cpu: percentile(&mut cpu, 0.5) / 1e3,
        per_second: percentile(&mut rate, 0.5),
    });
    std::array::from_fn(|_| costs.next().unwrap())
}

fn pin_client() {
    taskset(CLIENT_CORE);
}

fn unpin_client() {
    taskset("0-1023");
}

/// The thread that asks, which is this process's first.
fn taskset(cores: &str) {
    let set = Command::new("taskset").args(["-cp", cores, &std::process::id().to_string()]).output().unwrap();
    assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
}
