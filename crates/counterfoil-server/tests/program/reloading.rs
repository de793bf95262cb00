//! Settings that change while the server runs.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixDatagram;

use rustix::process::Signal;

use crate::exchange::{Answer, PATIENCE, connect, head, login, me, send, token};
use crate::running::{PASSWORD, Server, Site, within};

const CONFIRMED: &str = "the settings were read again and are in force";
const REFUSED: &str = "the settings were read again and refused";

/// Sends the signal and waits until the log has `said` that it was heard, once more than before.
fn hang_up(server: &Server, said: &str) -> String {
    let times = server.log().matches(said).count();
    server.signal(Signal::HUP);
    within(PATIENCE, || Some(server.log()).filter(|log| log.matches(said).count() > times))
}

fn challenge(server: &Server) -> String {
    let mut stream = connect(server.address);
    stream.write_all(head("GET", "/v1/me", &[], 0).as_bytes()).expect("written");
    whole(stream)
}

/// Head and body of an answer.
fn whole(mut stream: impl Read) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

#[test]
fn a_hangup_puts_changed_settings_in_force_and_ends_nothing() {
    let site = Site::new();
    site.user("ada");
    let file = "[http]\nrealm = \"before\"\n";
    let config = site.write("counterfoil.toml", file);
    let server = site.serve(&format!("--config {config}"));
    let (text, _) = token(server.address, "ada", PASSWORD);
    assert!(challenge(&server).contains("realm=\"before\""));

    // A login that has begun: the head is read, the body is asked for.
    let wrong = "{\"username\": \"ada\", \"password\": \"wrong password\"}";
    let mut under_way = connect(server.address);
    let headers = [("Content-Type", "application/json"), ("Expect", "100-continue")];
    under_way.write_all(head("POST", "/v1/login", &headers, wrong.len()).as_bytes()).expect("written");
    under_way.read_exact(&mut [0; "HTTP/1.1 100 Continue\r\n\r\n".len()]).expect("an interim answer");
    // A connection from before, which is used again.
    let mut kept = connect(server.address);
    kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").expect("written");
    kept.read_exact(&mut [0; 15]).expect("an answer");

    site.write(
        "counterfoil.toml",
        "trusted_proxies = [\"127.0.0.1\"]\n[http]\nrealm = \"after\"\nuser_fields = [\"id\"]\n",
    );
    let log = hang_up(&server, CONFIRMED);
    assert!(log.contains("changed=\"trusted_proxies, http.user_fields, http.realm\""), "{log}");

    under_way.write_all(wrong.as_bytes()).expect("written");
    let answer = whole(under_way);
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("realm=\"before\""), "{answer}");
    assert!(challenge(&server).contains("realm=\"after\""));
    kept.write_all(b"GET /v1/me HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("written");
    assert!(whole(kept).contains("realm=\"after\""), "an old connection is no old request");
    assert_eq!(me(server.address, &text), 200, "a token from before");
    let bearer = format!("Bearer {text}");
    let shown = send(server.address, "GET", "/v1/me", &[("Authorization", &bearer)], "").json();
    assert_eq!(shown["user"].as_object().expect("a user").keys().collect::<Vec<_>>(), ["id"]);
    let named = send(server.address, "GET", "/v1/me", &[("X-Request-Id", "by-the-proxy")], "").json();
    assert_eq!(named["instance"], "by-the-proxy", "the proxy is believed from now on");
    server.stop();
}

#[test]
fn a85_settings_that_are_wrong_when_read_again_are_refused_whole_and_the_old_ones_stay() {
    let site = Site::new();
    let config = site.write("counterfoil.toml", "[http]\nrealm = \"before\"\n");
    let server = site.serve(&format!("--config {config}"));
    let keyed = site.write("ring", "no ring");
    for (content, reason) in [
        ("trusted_proxies = [\"0.0.0.0/0\"]\n[http]\nrealm = \"after\"\n".to_owned(), "trusting every proxy"),
        ("[http]\nrealm = \"after\"\nbody_timeout = \"1m\"\n".to_owned(), "http.body_timeout = 60s"),
        ("[http]\nrealm = \"after\"\nrealms = 1\n".to_owned(), "there is no setting http.realms"),
        ("[log]\nlevel = \"error\"\n[http]\nrealm = \"after\"\n[hashing]\nmemory = 1\n".to_owned(), "Argon2id needs"),
        // Also what takes effect at the next start: a file that is accepted is one to start with.
        ("shutdown_grace = \"0s\"\n[http]\nrealm = \"after\"\n".to_owned(), "expected a time from 1s"),
        (format!("key_ring_file = {keyed:?}\n[http]\nrealm = \"after\"\n"), "key_ring_file"),
        ("[http]\nrealm = \"after\n".to_owned(), "line 2"),
    ] {
        site.write("counterfoil.toml", &content);
        let log = hang_up(&server, REFUSED);
        let line = log.lines().rfind(|line| line.contains(REFUSED)).expect("a line");
        assert!(line.contains(reason), "{content}: {line}");
        assert!(challenge(&server).contains("realm=\"before\""), "{content}");
        assert!(!log.contains(CONFIRMED), "{content}");
    }
    fs::remove_file(&config).expect("removed");
    assert!(hang_up(&server, REFUSED).contains("cannot read"));
    assert!(challenge(&server).contains("realm=\"before\""));
    site.write("counterfoil.toml", "[http]\nrealm = \"after\"\n");
    hang_up(&server, CONFIRMED);
    assert!(challenge(&server).contains("realm=\"after\""));
    server.stop();
}

#[test]
fn what_needs_a_restart_is_told_and_what_flags_say_stays() {
    let site = Site::new();
    let config = site.write("counterfoil.toml", "");
    let server = site.serve(&format!("--config {config} --log-format json"));
    // The flag outranks the file, as at the start.
    site.write(
        "counterfoil.toml",
        "listen = \"127.0.0.1:1\"\nshutdown_grace = \"3s\"\n[http]\nmax_connections = 7\n[log]\nformat = \"human\"\n",
    );
    let log = hang_up(&server, CONFIRMED);
    let told: Vec<String> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .filter_map(|line: serde_json::Value| Some(line["setting"].as_str()?.to_owned()))
        .collect();
    assert_eq!(told, ["shutdown_grace", "http.max_connections"]);
    assert_eq!(login(server.address, "ada", PASSWORD).status, 401, "it serves on where it was");
    server.stop();
}

#[test]
fn the_level_of_the_log_is_turned_while_the_server_runs() {
    let site = Site::new();
    let config = site.write("counterfoil.toml", "[log]\nlevel = \"info\"\n");
    let server = site.serve(&format!("--config {config}"));
    let login_started = || {
        let failed = |log: &str| log.matches("login_failed").count();
        let before = failed(&server.log());
        login(server.address, "ada", PASSWORD);
        let log = within(PATIENCE, || Some(server.log()).filter(|log| failed(log) > before));
        log.matches("login_started").count()
    };
    assert_eq!(login_started(), 0);
    site.write("counterfoil.toml", "[log]\nlevel = \"debug\"\n");
    hang_up(&server, CONFIRMED);
    assert_eq!(login_started(), 1);
    site.write("counterfoil.toml", "[log]\nlevel = \"info\"\n");
    hang_up(&server, CONFIRMED);
    assert_eq!(login_started(), 1, "none was added");
    server.stop();
}

#[test]
fn the_service_manager_is_told_of_a_reload_and_of_its_end() {
    let site = Site::new();
    let path = site.path("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let heard = || {
        let mut bytes = [0; 4096];
        let length = manager.recv(&mut bytes).expect("a message");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    let config = site.write("counterfoil.toml", "");
    let mut command = site.command(&format!("serve --listen 127.0.0.1:0 --data-dir data --config {config}"));
    command.env("NOTIFY_SOCKET", &path);
    let server = Server::start(command, site.path("stderr"));
    assert_eq!(heard(), "READY=1\n");
    for content in ["", "nonsense"] {
        site.write("counterfoil.toml", content);
        server.signal(Signal::HUP);
        let reloading = heard();
        assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
        assert_eq!(heard(), "READY=1\n", "also when it was refused: the old settings are in force");
    }
    server.stop();
}

#[test]
fn new_limits_count_for_new_connections() {
    let site = Site::new();
    let config = site.write("counterfoil.toml", "");
    let server = site.serve(&format!("--config {config}"));
    let large = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let status = || {
        let mut stream = connect(server.address);
        stream.write_all(large.as_bytes()).expect("written");
        Answer::read(stream).status
    };
    assert_eq!(status(), 200);
    site.write("counterfoil.toml", "[http]\nhead_bytes = 8192\n");
    hang_up(&server, CONFIRMED);
    assert_eq!(status(), 431);
    server.stop();
}
