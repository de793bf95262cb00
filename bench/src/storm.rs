//! P12: fifty clients log in without pause, and token checks hardly notice.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::report::{Goal, Row, percentile};
use crate::server::{Connection, Server, command};

const CLIENTS: usize = 50;
const CHECKS_PER_SECOND: u64 = 1_000;
const CHECKERS: u64 = 4;
const SECONDS: u64 = 10;
const PASSWORD: &str = "correct horse battery staple";

pub(crate) fn run() -> Vec<Row> {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::serve(directory.path());
    command(directory.path(), &["user", "create", "ada", "--password-stdin"], PASSWORD);
    let issued = command(directory.path(), &["token", "issue", "--user", "ada", "--json"], "");
    let issued: serde_json::Value = serde_json::from_str(&issued).unwrap();
    let token = issued["token"].as_str().unwrap();
    let address = server.address;

    checks(address, token, Duration::from_secs(2)); // warm
    let before = server.resident();
    // Idle, storm, idle: what the machine does meanwhile falls on both.
    let mut idle = checks(address, token, Duration::from_secs(SECONDS / 2));
    let storming = AtomicBool::new(true);
    let (logins, turned_away) = (AtomicU64::new(0), AtomicU64::new(0));
    let (mut storm, resident) = thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| log_in(address, &storming, &logins, &turned_away));
        }
        thread::sleep(Duration::from_secs(1));
        let storm = checks(address, token, Duration::from_secs(SECONDS));
        let resident = server.resident();
        storming.store(false, Ordering::SeqCst);
        (storm, resident)
    });
    idle.extend(checks(address, token, Duration::from_secs(SECONDS / 2)));
    let (p99_idle, p99_storm) = (percentile(&mut idle, 0.99), percentile(&mut storm, 0.99));
    let p50 = (percentile(&mut idle, 0.5), percentile(&mut storm, 0.5));
    let done = logins.load(Ordering::SeqCst);
    server.stop();
    vec![
        Row {
            id: "P12",
            what: "token check p99 during a login storm / idle",
            figure: p99_storm / p99_idle,
            goal: Goal::AtMost(1.2),
            detail: format!(
                "{:.0} µs / {:.0} µs (p50 {:.0} / {:.0}); {done} logins and {} times 503 in {SECONDS} s",
                p99_storm / 1e3,
                p99_idle / 1e3,
                p50.1 / 1e3,
                p50.0 / 1e3,
                turned_away.load(Ordering::SeqCst),
            ),
        },
        Row {
            id: "P12",
            what: "MiB that the storm adds to the resident memory",
            figure: resident - before,
            goal: Goal::AtMost(25.0),
            detail: format!("{before:.1} MiB before, {resident:.1} MiB during; one hashing thread for two cores"),
        },
    ]
}

fn log_in(address: SocketAddr, storming: &AtomicBool, logins: &AtomicU64, turned_away: &AtomicU64) {
    let body = format!(r#"{{"username":"ada","password":"{PASSWORD}"}}"#);
    let request = format!(
        "POST /v1/login HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut connection = Connection::open(address).unwrap();
    while storming.load(Ordering::SeqCst) {
        match connection.ask(&request) {
            Ok((200, _)) => logins.fetch_add(1, Ordering::SeqCst),
            Ok((503, _)) => turned_away.fetch_add(1, Ordering::SeqCst),
            other => panic!("a login was answered {other:?}"),
        };
    }
}

/// Asks for `me` at a steady rate and returns how long each answer took, in nanoseconds, counted from when it was due: a
/// server that stalls does not get away with being asked less.
fn checks(address: SocketAddr, token: &str, duration: Duration) -> Vec<u64> {
    let request = format!("GET /v1/me HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n");
    let interval = Duration::from_nanos(1_000_000_000 * CHECKERS / CHECKS_PER_SECOND);
    thread::scope(|scope| {
        let checkers: Vec<_> = (0..CHECKERS)
            .map(|_| {
                let request = &request;
                scope.spawn(move || {
                    let mut connection = Connection::open(address).unwrap();
                    let begun = Instant::now();
                    let mut due = begun;
                    let mut took = Vec::new();
                    while due < begun + duration {
                        if let Some(early) = due.checked_duration_since(Instant::now()) {
                            thread::sleep(early);
                        }
                        // Sleeping wakes late by tens of microseconds; that is the checker's, not the server's.
                        let asked = Instant::now();
                        let late = asked.duration_since(due).min(interval);
                        let (status, body) = connection.ask(request).unwrap();
                        assert_eq!(status, 200, "{body}");
                        let waited = if late == interval { due.elapsed() } else { asked.elapsed() };
                        took.push(waited.as_nanos() as u64);
                        due += interval;
                    }
                    took
                })
            })
            .collect();
        checkers.into_iter().flat_map(|checker| checker.join().unwrap()).collect()
    })
}
