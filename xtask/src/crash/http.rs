//! As much of HTTP/1.1 as a client of the server needs: [`Link`].

use std::io::{self, Error, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// Longer than anything the server allows a request to take.
const PATIENCE: Duration = Duration::from_secs(40);

/// A connection that is kept alive from one request to the next.
#[derive(Debug)]
pub(crate) struct Link {
    stream: TcpStream,
    host: String,
    /// What has been read and not been used.
    buffer: Vec<u8>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Null where there was no body.
    pub(crate) body: Value,
}

impl Answer {
    /// A text in the body.
    pub(crate) fn text(&self, key: &str) -> io::Result<String> {
        let text = self.body[key].as_str().ok_or_else(|| broken(&format!("no {key:?} in {self:?}")))?;
        Ok(text.to_owned())
    }
}

impl Link {
    pub(crate) fn to(address: &str) -> io::Result<Link> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Link { stream, host: address.to_owned(), buffer: Vec::new() })
    }

    /// Sends a request and waits for the answer. An error says nothing about whether the server has done it.
    pub(crate) fn ask(
        &mut self,
        method: &str,
        path: &str,
        bearer: Option<&str>,
        body: Option<&Value>,
    ) -> io::Result<Answer> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.host);
        if let Some(secret) = bearer {
            request.push_str(&format!("Authorization: Bearer {secret}\r\n"));
        }
        match body.map(Value::to_string) {
            Some(body) => request
                .push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())),
            None => request.push_str("\r\n"),
        }
        self.stream.write_all(request.as_bytes())?;
        self.read_answer()
    }

    fn read_answer(&mut self) -> io::Result<Answer> {
        let head = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break self.buffer.drain(..end + 4).collect::<Vec<u8>>();
            }
            self.read_more()?;
        };
        let head = String::from_utf8(head).map_err(|_| broken("a head that is not UTF-8"))?;
        let status = head
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3))
            .and_then(|status| status.parse().ok())
            .ok_or_else(|| broken(&format!("no status in {head:?}")))?;
        let length = header(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        while self.buffer.len() < length {
            self.read_more()?;
        }
        let body: Vec<u8> = self.buffer.drain(..length).collect();
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? };
        Ok(Answer { status, body })
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut piece = [0; 4096];
        match self.stream.read(&mut piece)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            length => {
                self.buffer.extend_from_slice(&piece[..length]);
                Ok(())
            }
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

fn broken(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn two_answers_on_one_connection_are_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address").to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).expect("read");
            let answers = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"a\":\"b\"}HTTP/1.1 204 No Content\r\n\r\n";
            stream.write_all(answers.as_bytes()).expect("write");
        });
        let mut link = Link::to(&address).expect("connect");
        let first = link.ask("GET", "/", Some("secret"), None).expect("answer");
        assert_eq!((first.status, first.text("a").expect("text").as_str()), (200, "b"));
        server.join().expect("server");
        assert_eq!(link.read_answer().expect("answer").status, 204);
    }
}
