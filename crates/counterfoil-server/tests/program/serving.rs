//! The server: how it starts, what it bears, how it stops.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use rustix::process::Signal;

use crate::exchange::{Answer, PATIENCE, connect, head, login, me, send, token};
use crate::running::{PASSWORD, Site, within};

#[test]
fn serve_writes_one_line_to_stdout_and_ends_with_status_0() {
    let site = Site::new();
    fs::create_dir(site.path("data")).expect("a directory");
    site.write("data/notes.txt", "a foreign file");
    let server = site.serve("");
    assert_eq!(send(server.address, "GET", "/healthz", &[], "").status, 200);
    assert_eq!(send(server.address, "GET", "/readyz", &[], "").status, 200);
    assert_eq!(server.stop(), "");
    assert_eq!(fs::read_to_string(site.path("data/notes.txt")).expect("still there"), "a foreign file");
}

#[test]
fn what_is_kept_is_kept_for_its_owner_alone() {
    let site = Site::new();
    site.user("ada");
    let server = site.serve("");
    token(server.address, "ada", PASSWORD);
    let mode = |path: &std::path::Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    assert_eq!(mode(&site.path("data")), 0o700);
    for entry in fs::read_dir(site.path("data")).expect("a directory") {
        let path = entry.expect("an entry").path();
        assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
    }
    server.stop();
}

#[test]
fn a_login_under_way_is_answered_before_the_server_stops() {
    let site = Site::new();
    site.user("ada");
    let mut server = site.serve("");
    let idle = connect(server.address);
    let body = format!("{{\"username\": \"ada\", \"password\": \"{PASSWORD}\"}}");
    let mut stream = connect(server.address);
    let head =
        head("POST", "/v1/login", &[("Content-Type", "application/json"), ("Expect", "100-continue")], body.len());
    stream.write_all(head.as_bytes()).expect("written");
    // The server asks for the body: by now the request is under way.
    let mut interim = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    stream.read_exact(&mut interim).expect("an interim answer");
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");

    server.signal(Signal::TERM);
    within(PATIENCE, || TcpStream::connect(server.address).err());
    stream.write_all(body.as_bytes()).expect("written");
    let answer = Answer::read(stream);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let text = answer.json()["token"].as_str().expect("a token").to_owned();
    assert!(server.wait().success());
    drop(idle);

    let again = site.serve("");
    assert_eq!(me(again.address, &text), 200, "what was acknowledged is kept");
    assert!(!again.log().contains("cut off"), "{}", again.log());
    again.stop();
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    let site = Site::new();
    let config = site.write("counterfoil.toml", "shutdown_grace = \"10m\"\n");
    let mut server = site.serve(&format!("--config {config}"));
    let mut stream = connect(server.address);
    let head = head("POST", "/v1/login", &[("Content-Type", "application/json"), ("Expect", "100-continue")], 100);
    stream.write_all(head.as_bytes()).expect("written");
    stream.read_exact(&mut [0; 4]).expect("an interim answer");
    server.signal(Signal::INT);
    within(PATIENCE, || TcpStream::connect(server.address).err());
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(130));
}

#[test]
fn requests_beyond_the_grace_are_cut_off() {
    let site = Site::new();
    let config = site.write("counterfoil.toml", "shutdown_grace = \"1s\"\n");
    let server = site.serve(&format!("--config {config}"));
    let mut stream = connect(server.address);
    let head = head("POST", "/v1/login", &[("Content-Type", "application/json"), ("Expect", "100-continue")], 100);
    stream.write_all(head.as_bytes()).expect("written");
    stream.read_exact(&mut [0; 4]).expect("an interim answer");
    server.stop();
    assert!(fs::read_to_string(site.path("stderr")).expect("stderr").contains("cut off"));
}

/// A client that asks for more than the kernel holds for it and reads nothing, until nothing more is taken from it.
fn glutton(address: SocketAddr) -> TcpStream {
    let mut stream = connect(address);
    stream.set_write_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    let requests = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    while stream.write_all(requests.as_bytes()).is_ok() {}
    stream
}

#[test]
fn a_client_that_does_not_read_is_hung_up_on() {
    let site = Site::new();
    site.user("ada");
    let config = site.write("counterfoil.toml", "[http]\nwrite_timeout = \"1s\"\nmax_connections = 3\n");
    let server = site.serve(&format!("--config {config}"));
    let gluttons: Vec<TcpStream> = (0..3).map(|_| glutton(server.address)).collect();
    // They held every connection there is, so an answer says that they no longer do.
    assert_eq!(login(server.address, "ada", PASSWORD).status, 200);
    for mut stream in gluttons {
        let gone = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
        within(PATIENCE, || stream.write_all(b"x").err().filter(|error| gone.contains(&error.kind())));
    }
    server.stop();
}

#[test]
fn a_stop_does_not_wait_out_its_grace_for_clients_that_do_not_read() {
    let site = Site::new();
    let config = site.write("counterfoil.toml", "shutdown_grace = \"10m\"\n[http]\nwrite_timeout = \"1s\"\n");
    let server = site.serve(&format!("--config {config}"));
    let gluttons: Vec<TcpStream> = (0..3).map(|_| glutton(server.address)).collect();
    // Fails when it takes longer than the patience of these tests.
    server.stop();
    drop(gluttons);
}

#[test]
fn connections_beyond_the_ceiling_wait_until_one_ends() {
    let site = Site::new();
    let config = site.write("counterfoil.toml", "[http]\nmax_connections = 2\n");
    let server = site.serve(&format!("--config {config}"));
    let (first, second) = (connect(server.address), connect(server.address));
    let mut third = connect(server.address);
    third.write_all(head("GET", "/healthz", &[], 0).as_bytes()).expect("written");
    server.log_with("every connection is taken");
    third.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    let early = third.read(&mut [0]).expect_err("no answer yet");
    assert!(matches!(early.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{early}");
    drop(first);
    third.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    assert_eq!(Answer::read(third).status, 200);
    // Full again, and one that waits: it can be told to stop all the same.
    let more = [connect(server.address), connect(server.address)];
    server.stop();
    drop((second, more));
}

#[test]
fn a07_a_revoked_token_stays_refused_after_a_restart() {
    let site = Site::new();
    site.user("ada");
    let server = site.serve("");
    let (lost, id) = token(server.address, "ada", PASSWORD);
    let (kept, _) = token(server.address, "ada", PASSWORD);
    let bearer = format!("Bearer {kept}");
    let path = format!("/v1/tokens/{id}");
    assert_eq!(send(server.address, "DELETE", &path, &[("Authorization", &bearer)], "").status, 204);
    assert_eq!((me(server.address, &lost), me(server.address, &kept)), (401, 200));
    server.stop();
    let again = site.serve("");
    assert_eq!((me(again.address, &lost), me(again.address, &kept)), (401, 200));

    // And after one that nobody asked for.
    let bearer = format!("Bearer {kept}");
    assert_eq!(send(again.address, "POST", "/v1/logout", &[("Authorization", &bearer)], "").status, 204);
    again.signal(Signal::KILL);
    drop(again);
    let third = site.serve("");
    assert_eq!((me(third.address, &lost), me(third.address, &kept)), (401, 401));
    third.stop();
}

#[test]
fn what_was_seen_of_a_token_last_is_written_before_the_server_ends() {
    let site = Site::new();
    site.user("ada");
    let server = site.serve("");
    let (text, id) = token(server.address, "ada", PASSWORD);
    assert_eq!(me(server.address, &text), 200);
    server.stop();
    let seen = site.operate(&format!("token show {id} --json")).json();
    assert_eq!(seen["last_seen"]["ip"], "127.0.0.1", "{seen}");
}

#[test]
fn one_server_to_a_data_directory_and_one_to_a_port() {
    let site = Site::new();
    let server = site.serve("");
    let ran = site.run("serve --listen 127.0.0.1:0 --data-dir data");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.stderr.contains("another server is running"), "{ran:?}");
    let ran = site.run(&format!("serve --listen {} --data-dir other", server.address));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.stderr.contains("something listens there already"), "{ran:?}");
    assert!(!site.path("other").exists());
    server.stop();
}

#[test]
fn a_head_that_is_none_or_too_large_is_refused_and_harms_nobody() {
    let site = Site::new();
    site.user("ada");
    let server = site.serve("");
    let large = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Large: {}\r\n\r\n", "x".repeat(80 * 1024));
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(101));
    for (bytes, status) in [
        (large.as_bytes(), "431"),
        (many.as_bytes(), "431"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".as_slice(), "400"),
        (b"GET / HTTP/9.9\r\n\r\n", "400"),
        (b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""),
        (b"POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", "400"),
        (b"POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\nx", "400"),
    ] {
        let mut stream = connect(server.address);
        // The server may answer and hang up before it has read everything.
        stream.write_all(bytes).ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
        let answer = String::from_utf8_lossy(&answer);
        // Of a head that it has not read to its end, the hanging up may overtake the answer.
        // HTTP/2 is answered with nothing.
        let silence = answer.is_empty() && (bytes.len() > 64 * 1024 || status.is_empty());
        assert!(silence || answer.starts_with(&format!("HTTP/1.1 {status} ")), "{:?}: {answer}", &bytes[..16]);
        assert_eq!(login(server.address, "ada", PASSWORD).status, 200);
    }
    assert!(!server.log().contains("panicked"), "{}", server.log());
    server.stop();
}
