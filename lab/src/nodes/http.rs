//! As much of HTTP/1.1 as the checker needs: a connection that is kept.

use std::io::{self, Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longer than a node takes for anything: a look-up, a password that waits for its turn, a transition, and another look-up have
/// 2, 5, 8 and 2 seconds at most. Then it has not answered, and that is a complaint.
pub(crate) const PATIENCE: Duration = Duration::from_secs(18);

/// A client's connection to a node, made when it is needed.
#[derive(Debug)]
pub(crate) struct Link {
    address: SocketAddr,
    stream: Option<TcpStream>,
    /// What has been read and not been used.
    buffer: Vec<u8>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }
}

impl Link {
    pub(crate) fn to(address: SocketAddr) -> Link {
        Link { address, stream: None, buffer: Vec::new() }
    }

    /// Sends a request and waits for the answer. An error says nothing about whether the node has done it.
    pub(crate) fn ask(&mut self, method: &str, path: &str, bearer: &str, body: Option<&Value>) -> io::Result<Answer> {
        let answer = self.try_ask(method, path, bearer, body);
        if answer.is_err() {
            self.stream = None;
        }
        answer
    }

    fn try_ask(&mut self, method: &str, path: &str, bearer: &str, body: Option<&Value>) -> io::Result<Answer> {
        // What the node has closed meanwhile, as it may when it restarts, is no connection any more.
        self.stream = self.stream.take().filter(|stream| !is_closed(stream));
        if self.stream.is_none() {
            let stream = TcpStream::connect_timeout(&self.address, PATIENCE)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            self.buffer.clear();
            self.stream = Some(stream);
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: node\r\n");
        if !bearer.is_empty() {
            request.push_str(&format!("Authorization: Bearer {bearer}\r\n"));
        }
        if !body.is_empty() {
            request.push_str("Content-Type: application/json\r\n");
        }
        if method != "GET" {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        request.push_str(&body);
        self.stream()?.write_all(request.as_bytes())?;
        let answer = self.read_answer()?;
        Ok(answer)
    }

    fn stream(&mut self) -> io::Result<&mut TcpStream> {
        self.stream.as_mut().ok_or_else(|| ErrorKind::NotConnected.into())
    }

    fn read_answer(&mut self) -> io::Result<Answer> {
        let head = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break self.buffer.drain(..end + 4).collect::<Vec<u8>>();
            }
            self.read_more()?;
        };
        let head = String::from_utf8(head).map_err(|_| broken("a head that is not UTF-8"))?;
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or_else(|| broken(&format!("no status in {head:?}")))?;
        let header = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
        };
        let length = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        while self.buffer.len() < length {
            self.read_more()?;
        }
        let body: Vec<u8> = self.buffer.drain(..length).collect();
        if header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            self.stream = None;
        }
        Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut piece = [0; 4096];
        let length = self.stream()?.read(&mut piece)?;
        if length == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.buffer.extend_from_slice(&piece[..length]);
        Ok(())
    }
}

/// Whether the other side has said that it is over, as far as is known here.
fn is_closed(stream: &TcpStream) -> bool {
    let known = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
    let closed = known.is_ok_and(|length| length == 0);
    closed || stream.set_nonblocking(false).is_err()
}

fn broken(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}
