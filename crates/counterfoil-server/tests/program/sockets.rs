//! Listening elsewhere than on an address: a Unix socket, and what systemd hands over and is told.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::exchange::{Answer, PATIENCE, head, login};
use crate::running::{PASSWORD, PROGRAM, Process, Server, Site};

fn over(path: &Path, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut stream = UnixStream::connect(path).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(head(method, target, headers, body.len()).as_bytes()).expect("written");
    stream.write_all(body.as_bytes()).ok();
    Answer::read(stream)
}

fn at_socket(site: &Site, more: &str) -> Process {
    Process::start(site.command(&format!("serve --listen unix:cf.sock --data-dir data {more}")), site.path("stderr"))
}

#[test]
fn a_unix_socket_is_for_owner_and_group_and_gone_when_the_server_is() {
    let site = Site::new();
    site.user("ada");
    let server = at_socket(&site, "");
    assert_eq!(server.place, "unix:cf.sock");
    let path = site.path("cf.sock");
    assert_eq!(fs::metadata(&path).expect("the socket").permissions().mode() & 0o7777, 0o660);
    let body = format!("{{\"username\": \"ada\", \"password\": \"{PASSWORD}\"}}");
    let answer = over(&path, "POST", "/v1/login", &[("Content-Type", "application/json")], &body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    // The rules of HTTP are the same here: RFC 9112 §3.2 asks for a Host.
    let mut stream = UnixStream::connect(&path).expect("a connection");
    stream.write_all(b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n").expect("written");
    assert_eq!(Answer::read(stream).status, 400);
    server.stop();
    assert!(!path.exists(), "the socket stays behind");
}

#[test]
fn a_socket_left_behind_gives_way_and_one_in_use_or_another_file_does_not() {
    let site = Site::new();
    let path = site.path("cf.sock");
    // Left behind by a server that was killed.
    let killed = at_socket(&site, "");
    killed.signal(Signal::KILL);
    drop(killed);
    assert!(path.exists());
    let server = at_socket(&site, "");
    assert_eq!(over(&path, "GET", "/healthz", &[], "").status, 200);

    let refused = site.run("serve --listen unix:cf.sock --data-dir other");
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{refused:?}");
    assert!(refused.stderr.contains("something listens there already"), "{refused:?}");
    assert_eq!(over(&path, "GET", "/healthz", &[], "").status, 200, "the one in use was taken away");
    server.stop();

    fs::write(&path, "not a socket").expect("a file");
    let refused = site.run("serve --listen unix:cf.sock --data-dir other");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert_eq!(fs::read_to_string(&path).expect("still there"), "not a socket");
    assert!(!site.path("other").exists());
}

#[test]
fn a_socket_that_another_server_made_in_its_place_is_not_removed() {
    let site = Site::new();
    let path = site.path("cf.sock");
    let server = at_socket(&site, "");
    fs::remove_file(&path).expect("removed");
    let other = UnixListener::bind(&path).expect("another one's socket");
    server.stop();
    assert!(path.exists(), "another one's socket was removed");
    drop(other);
}

#[test]
fn a30_over_a_unix_socket_forwarded_addresses_are_believed_only_where_the_operator_says_so() {
    let site = Site::new();
    site.user("ada");
    let path = site.path("cf.sock");
    let body = format!("{{\"username\": \"ada\", \"password\": \"{PASSWORD}\"}}");
    let forwarded =
        [("Content-Type", "application/json"), ("X-Forwarded-For", "203.0.113.7"), ("X-Request-Id", "from-the-proxy")];
    for (setting, ip, id) in [
        ("[]", serde_json::Value::Null, false),
        ("[\"10.0.0.0/8\"]", serde_json::Value::Null, false),
        ("[\"unix\"]", "203.0.113.7".into(), true),
    ] {
        let config = site.write("counterfoil.toml", &format!("trusted_proxies = {setting}\n"));
        let server = at_socket(&site, &format!("--config {config}"));
        let answer = over(&path, "POST", "/v1/login", &forwarded, &body).json();
        let bearer = format!("Bearer {}", answer["token"].as_str().expect("a token"));
        let me = over(&path, "GET", "/v1/me", &[("Authorization", &bearer)], "").json();
        assert_eq!(me["token"]["first_seen"]["ip"], ip, "{setting}: {me}");
        assert_eq!(server.log().contains("from-the-proxy"), id, "{setting}");
        server.stop();
        fs::remove_file(site.path("stderr")).expect("removed");
    }
}

/// The program with a socket handed over as systemd does: as descriptor 3, and the process named in the environment.
fn activated(site: &Site, socket: OwnedFd) -> Command {
    let mut command = Command::new("/bin/sh");
    let line = "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" serve --listen systemd --data-dir data 3<&0 </dev/null";
    command.args(["-c", line, PROGRAM]).current_dir(site.path("")).env_clear().stdin(Stdio::from(socket));
    command
}

#[test]
fn systemd_hands_over_an_address_or_a_path_and_keeps_it() {
    let site = Site::new();
    site.user("ada");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    for _restart in 0..2 {
        let handed = listener.try_clone().expect("a descriptor");
        let server = Server::start(activated(&site, handed.into()), site.path("stderr"));
        assert_eq!(server.address, address);
        assert_eq!(login(address, "ada", PASSWORD).status, 200);
        server.stop();
    }

    let path = site.path("handed.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let server = Process::start(activated(&site, listener.into()), site.path("stderr"));
    assert_eq!(server.place, format!("unix:{}", path.display()));
    assert_eq!(over(&path, "GET", "/readyz", &[], "").status, 200);
    server.stop();
    assert!(path.exists(), "it is systemd's");
}

#[test]
fn without_a_socket_from_systemd_there_is_no_start() {
    let site = Site::new();
    let ran = site.run("serve --listen systemd --data-dir data");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.stderr.contains("0 sockets were handed over") && ran.stderr.contains("ListenStream="), "{ran:?}");
    assert!(!site.path("data").exists());
    let ran = site.run("serve --demo --listen unix:cf.sock");
    assert_eq!(ran.code, Some(2), "{ran:?}");
}

#[test]
fn the_service_manager_is_told_when_the_server_is_ready_and_when_it_stops() {
    let site = Site::new();
    let path = site.path("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let heard = || {
        let mut bytes = [0; 4096];
        let length = manager.recv(&mut bytes).expect("a message");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    let mut command = site.command("serve --listen 127.0.0.1:0 --data-dir data");
    command.env("NOTIFY_SOCKET", &path);
    let server = Server::start(command, site.path("stderr"));
    assert_eq!(heard(), "READY=1\n");
    server.stop();
    assert_eq!(heard(), "STOPPING=1\n");
    let mut nothing = [0];
    manager.set_nonblocking(true).expect("set");
    assert!(manager.recv(&mut nothing).is_err(), "told once");
}
