//! Being told to stop, and running short of memory, while many ask.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;

use crate::exchange::{Answer, PATIENCE, connect, head, login, me, token};
use crate::running::{PASSWORD, PROGRAM, Server, Site, within};

/// What came of one request.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// The whole answer.
    Answered(u16),
    /// Nothing at all: the server was not there, or had taken no notice.
    Nothing,
    /// The beginning of an answer.
    Cut(String),
}

fn ask(address: SocketAddr, token: &str) -> Outcome {
    let Ok(mut stream) = TcpStream::connect(address) else { return Outcome::Nothing };
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let authorization = format!("Bearer {token}");
    let request = head("GET", "/v1/me", &[("Authorization", &authorization)], 0);
    if stream.write_all(request.as_bytes()).is_err() {
        return Outcome::Nothing;
    }
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return if text.is_empty() { Outcome::Nothing } else { Outcome::Cut(text) };
    };
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).and_then(|text| text.parse().ok());
    match head.split(' ').nth(1).and_then(|status| status.parse().ok()) {
        Some(status) if length == Some(body.len()) => Outcome::Answered(status),
        _ => Outcome::Cut(text),
    }
}

#[test]
fn f33_told_to_stop_under_load_the_server_answers_every_request_that_it_took() {
    let site = Site::new();
    site.user("ada");
    // However long a busy machine takes.
    let patient = "shutdown_grace = \"10m\"\n[http]\nbody_timeout = \"5m\"\nrequest_timeout = \"10m\"\n";
    let config = site.write("counterfoil.toml", patient);
    let mut server = site.serve(&format!("--config {config}"));
    let address = server.address;
    let (text, _) = token(address, "ada", PASSWORD);
    let logged = |server: &Server| server.log().matches("answered").count();
    let (before, told) = (logged(&server), AtomicBool::new(false));
    let (answered, silent) = (AtomicUsize::new(0), AtomicUsize::new(0));

    // Logins of which the server has the head and is told to stop before it has the body.
    let body = format!("{{\"username\": \"ada\", \"password\": \"{PASSWORD}\"}}");
    let headers = [("Content-Type", "application/json"), ("Expect", "100-continue")];
    let mut logins: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut stream = connect(address);
            stream.write_all(head("POST", "/v1/login", &headers, body.len()).as_bytes()).expect("written");
            stream.read_exact(&mut [0; "HTTP/1.1 100 Continue\r\n\r\n".len()]).expect("an interim answer");
            stream
        })
        .collect();
    let issued: Vec<String> = thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    match ask(address, &text) {
                        Outcome::Answered(200) => answered.fetch_add(1, Ordering::SeqCst),
                        Outcome::Nothing => {
                            assert!(told.load(Ordering::SeqCst), "nothing, and nobody had told it to stop");
                            // It had come to the door when it was closed, or it found it closed.
                            return silent.fetch_add(1, Ordering::SeqCst);
                        }
                        other @ (Outcome::Answered(_) | Outcome::Cut(_)) => panic!("{other:?}"),
                    };
                }
            });
        }
        within(PATIENCE, || (answered.load(Ordering::SeqCst) > 200).then_some(()));
        told.store(true, Ordering::SeqCst);
        server.signal(Signal::TERM);
        within(PATIENCE, || TcpStream::connect(address).err());
        for stream in &mut logins {
            stream.write_all(body.as_bytes()).expect("written");
        }
        let finished = logins.drain(..).map(|stream| {
            let answer = Answer::read(stream);
            assert_eq!(answer.status, 200, "{}", answer.body);
            answer.json()["token"].as_str().expect("a token").to_owned()
        });
        finished.collect()
    });
    assert!(server.wait().success());
    assert_eq!(silent.load(Ordering::SeqCst), 8);
    let taken = logged(&server) - before;
    assert_eq!(taken, answered.load(Ordering::SeqCst) + issued.len(), "an answer was given that nobody received");
    assert!(!server.log().contains("cut off"), "{}", server.log());

    let again = site.serve("");
    for token in issued.iter().chain([&text]) {
        assert_eq!(me(again.address, token), 200, "the next one serves on with the same tokens");
    }
    again.stop();
}

/// The server with no more address space than this many KiB.
fn confined(site: &Site, kibibytes: u32, more: &str) -> Server {
    let mut command = Command::new("/bin/sh");
    let line = format!("ulimit -v {kibibytes} && exec \"$0\" serve --listen 127.0.0.1:0 --data-dir data {more}");
    command.args(["-c", &line, PROGRAM]).current_dir(site.path("")).env_clear().stdin(Stdio::null());
    Server::start(command, site.path("stderr"))
}

#[test]
fn f32_short_of_memory_a_storm_of_logins_is_shed_and_loses_nothing() {
    let site = Site::new();
    // More names than the queue takes: logins by one name take turns before they get to it.
    let names: Vec<String> = (0..8).map(|number| format!("ada-{number}")).collect();
    names.iter().for_each(|name| site.user(name));
    let config = site.write("counterfoil.toml", "[hashing]\nthreads = 2\nqueue = 2\n");
    let server = confined(&site, 700_000, &format!("--config {config}"));
    let address = server.address;
    let (text, _) = token(address, &names[0], PASSWORD);
    let (shed, checked) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let over = AtomicBool::new(false);
    let issued: BTreeSet<String> = thread::scope(|scope| {
        let storm: Vec<_> = (0..40)
            .map(|client| {
                let (name, shed) = (&names[client % names.len()], &shed);
                scope.spawn(move || {
                    let mut issued = Vec::new();
                    for _ in 0..6 {
                        let answer = login(address, name, PASSWORD);
                        match answer.status {
                            200 => issued.push(answer.json()["token"].as_str().expect("a token").to_owned()),
                            503 => {
                                assert!(answer.body.contains("urn:counterfoil:problem:overloaded"), "{}", answer.body);
                                shed.fetch_add(1, Ordering::SeqCst);
                            }
                            status => panic!("{status}: {}", answer.body),
                        }
                    }
                    issued
                })
            })
            .collect();
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                assert_eq!(me(address, &text), 200, "a token check");
                checked.fetch_add(1, Ordering::SeqCst);
            }
        });
        let issued = storm.into_iter().flat_map(|one| one.join().expect("no surprise")).collect();
        over.store(true, Ordering::SeqCst);
        issued
    });
    assert!(shed.load(Ordering::SeqCst) > 0 && checked.load(Ordering::SeqCst) > 0 && issued.len() >= 10);
    let most = server.memory("VmHWM");
    assert!(most < 160 * 1024, "{most} KiB");
    assert!(!server.log().contains("panicked"), "{}", server.log());

    // What the kernel does to whoever it takes the memory from.
    server.signal(Signal::KILL);
    drop(server);
    let again = confined(&site, 700_000, &format!("--config {config}"));
    for token in issued.iter().chain([&text]) {
        assert_eq!(me(again.address, token), 200, "what was acknowledged is kept");
    }
    again.stop();
}
