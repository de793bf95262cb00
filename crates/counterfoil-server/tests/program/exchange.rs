//! HTTP by hand, so that nothing between the test and the server is helpful.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("a JSON body")
    }

    /// Takes an answer apart that ends with its connection.
    pub(crate) fn read(mut stream: impl Read) -> Answer {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("an answer");
        let text = String::from_utf8(bytes).expect("UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Answer { status, body: body.to_owned() }
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// The head of a request whose connection ends with its answer.
pub(crate) fn head(method: &str, path: &str, headers: &[(&str, &str)], length: usize) -> String {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n")
}

pub(crate) fn send(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut stream = connect(address);
    stream.write_all(head(method, path, headers, body.len()).as_bytes()).expect("written");
    // A server that refuses by the head may have hung up already.
    stream.write_all(body.as_bytes()).ok();
    Answer::read(stream)
}

pub(crate) fn login(address: SocketAddr, username: &str, password: &str) -> Answer {
    let body = serde_json::json!({ "username": username, "password": password }).to_string();
    send(address, "POST", "/v1/login", &[("Content-Type", "application/json")], &body)
}

/// Logs in and returns the new token's text and id.
pub(crate) fn token(address: SocketAddr, username: &str, password: &str) -> (String, String) {
    let answer = login(address, username, password);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = answer.json();
    let text = |key: &str| answer[key].as_str().expect("a text").to_owned();
    (text("token"), text("id"))
}

/// The status of `GET /v1/me` with this token.
pub(crate) fn me(address: SocketAddr, token: &str) -> u16 {
    send(address, "GET", "/v1/me", &[("Authorization", &format!("Bearer {token}"))], "").status
}
