//! What costs something is bounded: heads, bodies, time, connections.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::exchange::{Answer, connect, head, me, send, token};
use crate::running::{PASSWORD, Server, Site};

/// How much more memory a server may have needed at once, in KiB, however much was sent to it.
const FLAT: u64 = 24 * 1024;

fn short_of_time(site: &Site, more: &str) -> Server {
    let limits = format!("[http]\nhead_timeout = \"1s\"\nbody_timeout = \"1s\"\n{more}");
    let config = site.write("counterfoil.toml", &limits);
    site.serve(&format!("--config {config}"))
}

/// Sends as much of it as the server takes, and reads what it says.
fn pour(mut stream: TcpStream, bytes: &[u8], times: usize) -> (usize, String) {
    let mut sent = 0;
    for _ in 0..times {
        if stream.write_all(bytes).is_err() {
            break;
        }
        sent += bytes.len();
    }
    let mut answer = Vec::new();
    // The hanging up may overtake the answer when there is much that was not read.
    stream.read_to_end(&mut answer).ok();
    (sent, String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn a38_large_heads_are_refused_and_take_no_memory() {
    let site = Site::new();
    site.user("ada");
    let server = short_of_time(&site, "");
    let (text, _) = token(server.address, "ada", PASSWORD);
    let before = server.memory("VmHWM");
    let one = format!("GET /v1/me HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(1024 * 1024));
    let many = format!("GET /v1/me HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(10_000));
    // Just beyond the bounds, so that all of it is read and the answer is not overtaken.
    let field_too_many = format!("GET /v1/me HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(100));
    let (_, answer) = pour(connect(server.address), field_too_many.as_bytes(), 1);
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let streams: Vec<TcpStream> = (0..100).map(|_| connect(server.address)).collect();
    for (number, stream) in streams.into_iter().enumerate() {
        let bytes = if number % 2 == 0 { &one } else { &many };
        let (_, answer) = pour(stream, bytes.as_bytes(), 1);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    assert_eq!(me(server.address, &text), 200);
    let grown = server.memory("VmHWM") - before;
    assert!(grown < FLAT, "{grown} KiB more");
    server.stop();
}

#[test]
fn a38_a_body_of_a_gibibyte_is_refused_early_and_takes_no_memory() {
    let site = Site::new();
    site.user("ada");
    let server = short_of_time(&site, "");
    let (text, _) = token(server.address, "ada", PASSWORD);
    let before = server.memory("VmHWM");
    let mebibyte = vec![b' '; 1024 * 1024];
    let with_length = "POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                       Content-Length: 1073741824\r\n\r\n";
    let in_chunks = "POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                     Transfer-Encoding: chunked\r\n\r\n";
    let chunk = [b"100000\r\n", mebibyte.as_slice(), b"\r\n"].concat();
    for (head, part) in [(with_length, &mebibyte), (in_chunks, &chunk)] {
        let mut stream = connect(server.address);
        stream.write_all(head.as_bytes()).expect("written");
        let (sent, answer) = pour(stream, part, 1024);
        assert!(sent < 64 * 1024 * 1024, "{sent} bytes were taken");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413 "), "{answer}");
        // Whoever looks before sending on reads why.
        let mut stream = connect(server.address);
        stream.write_all(head.as_bytes()).expect("written");
        stream.write_all(&part[..80_000]).expect("written");
        let mut status = [0; 12];
        stream.read_exact(&mut status).expect("an answer");
        assert_eq!(&status, b"HTTP/1.1 413");
    }
    assert_eq!(me(server.address, &text), 200);
    let grown = server.memory("VmHWM") - before;
    assert!(grown < FLAT, "{grown} KiB more");
    server.stop();
}

/// Sends a byte whenever the server has been silent for a while, until it answers or hangs up. Returns what it said.
fn drip(mut stream: TcpStream, byte: u8) -> String {
    stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    // At 50 ms each more than the patience of these tests.
    for _ in 0..600 {
        match stream.read(&mut buffer) {
            Ok(0) => return String::from_utf8_lossy(&said).into_owned(),
            Ok(length) => said.extend_from_slice(&buffer[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                stream.write_all(&[byte]).ok();
            }
            Err(_) => return String::from_utf8_lossy(&said).into_owned(),
        }
    }
    panic!("the server waits for ever");
}

#[test]
fn a38_who_sends_slowly_is_given_up_however_steadily_they_send() {
    let site = Site::new();
    let server = short_of_time(&site, "");
    let mut slow_head = connect(server.address);
    slow_head.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX: ").expect("written");
    assert_eq!(drip(slow_head, b'x'), "", "no answer to a head that is none");
    let mut slow_body = connect(server.address);
    let request = head("POST", "/v1/login", &[("Content-Type", "application/json")], 60_000);
    slow_body.write_all(request.as_bytes()).expect("written");
    let answer = drip(slow_body, b' ');
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("body-timeout"), "{answer}");
    server.stop();
}

#[test]
fn a39_http_2_is_not_spoken_and_its_frames_are_hung_up_on() {
    let site = Site::new();
    let server = short_of_time(&site, "");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    // Empty CONTINUATION and DATA frames and resets of stream 1.
    let flood: Vec<u8> =
        [[0, 0, 0, 9, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 0, 1], [0, 0, 4, 3, 0, 0, 0, 0, 1]].concat().repeat(10_000);
    let before = server.memory("VmHWM");
    for bytes in
        [preface.to_vec(), [preface.as_slice(), &settings].concat(), [preface.as_slice(), &settings, &flood].concat()]
    {
        let (_, answer) = pour(connect(server.address), &bytes, 1);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer:?}");
    }
    // Asked to change over, it answers in HTTP/1.1.
    let upgrade = [("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA")];
    let answer = send(server.address, "GET", "/healthz", &upgrade, "");
    assert_eq!(answer.status, 200);
    let grown = server.memory("VmHWM") - before;
    assert!(grown < FLAT, "{grown} KiB more");
    server.stop();
}

#[test]
fn a40_idle_connections_are_capped_and_timed_out() {
    let site = Site::new();
    site.user("ada");
    let server = short_of_time(&site, "max_connections = 100\n");
    let (text, _) = token(server.address, "ada", PASSWORD);
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", server.id())).expect("the server runs").count();
    // Besides connections the store opens a few files when it first needs them.
    let (before, memory) = (descriptors() + 10, server.memory("VmHWM"));
    // Within the common limit of 1024 descriptors, for this process and the server's queue.
    let idle: Vec<TcpStream> = (0..800).map(|_| connect(server.address)).collect();
    server.log_with("every connection is taken");
    assert!(descriptors() <= before + 100, "{} descriptors", descriptors());
    // Who comes last waits for all of them, and is answered.
    assert_eq!(me(server.address, &text), 200);
    assert!(descriptors() <= before + 101, "{} descriptors", descriptors());
    for mut stream in idle {
        assert_eq!(stream.read(&mut [0]).expect("hung up on"), 0);
    }
    let grown = server.memory("VmHWM") - memory;
    assert!(grown < FLAT, "{grown} KiB more");
    server.stop();
}

#[test]
fn r29_what_a_request_may_cost_is_bounded_by_settings() {
    let site = Site::new();
    let server = short_of_time(&site, "head_bytes = 8192\n");
    let padded = |length: usize| {
        let start = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: ";
        format!("{start}{}\r\n\r\n", "x".repeat(length - start.len() - 4))
    };
    for (length, status) in [(8_000, 200), (8_300, 431)] {
        let mut stream = connect(server.address);
        stream.write_all(padded(length).as_bytes()).expect("written");
        assert_eq!(Answer::read(stream).status, status, "{length} bytes");
    }
    server.stop();
}
