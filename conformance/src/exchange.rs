//! One request and its answer, over a connection of its own.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case; lines of one name are one line.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Sends a request and reads the answer to it. `method` is that of the request: an answer to HEAD has no body.
pub(crate) async fn exchange(host: &str, method: &str, request: &[u8]) -> Result<Answer, String> {
    let exchanged = tokio::time::timeout(PATIENCE, async {
        let mut stream = TcpStream::connect(host).await?;
        // A server may answer and close before it has read everything, e.g. headers that are too long.
        let sent = stream.write_all(request).await;
        let answer = read(&mut stream, method).await;
        if answer.is_err() { sent.and(answer) } else { answer }
    });
    match exchanged.await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof && error.get_ref().is_none() => {
            Err("RemoteDisconnected: Remote end closed connection without response".to_owned())
        }
        Ok(Err(error)) => Err(format!("the connection broke: {error}")),
        Err(_) => Err("TimeoutError: timed out".to_owned()),
    }
}

async fn read(stream: &mut TcpStream, method: &str) -> io::Result<Answer> {
    let mut received = Vec::new();
    loop {
        let length = head_length(stream, &mut received).await?;
        let rest = received.split_off(length);
        let (status, headers) = head(&received)?;
        received = rest;
        // Those that only say that the answer is on its way.
        if status < 200 {
            continue;
        }
        let answer = Answer { status, headers, body: Vec::new() };
        let bodiless = method == "HEAD" || status == 204 || status == 304;
        let body = if bodiless { Vec::new() } else { body(stream, received, &answer).await? };
        return Ok(Answer { body, ..answer });
    }
}

/// Reads until the blank line behind the headers is there.
async fn head_length(stream: &mut TcpStream, received: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        if let Some(at) = received.windows(4).position(|four| four == b"\r\n\r\n") {
            return Ok(at + 4);
        }
        if stream.read_buf(received).await? == 0 {
            return Err(if received.is_empty() { io::ErrorKind::UnexpectedEof.into() } else { cut_off() });
        }
    }
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the answer ends in the middle")
}

/// Status and headers. Bytes of headers are read as Latin-1, as Python reads them.
fn head(bytes: &[u8]) -> io::Result<(u16, Vec<(String, String)>)> {
    let text: String = bytes.iter().copied().map(char::from).collect();
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("no status line"))?;
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let (name, value) = (name.to_ascii_lowercase(), value.trim());
        match headers.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = format!("{known}, {value}"),
            None => headers.push((name, value.to_owned())),
        }
    }
    Ok((status, headers))
}

async fn body(stream: &mut TcpStream, mut received: Vec<u8>, answer: &Answer) -> io::Result<Vec<u8>> {
    if answer.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return chunked(stream, received).await;
    }
    let length = answer.header("content-length").and_then(|length| length.parse::<usize>().ok());
    while length.is_none_or(|length| received.len() < length) {
        if stream.read_buf(&mut received).await? == 0 {
            return if length.is_none() { Ok(received) } else { Err(cut_off()) };
        }
    }
    received.truncate(length.unwrap_or(received.len()));
    Ok(received)
}

async fn chunked(stream: &mut TcpStream, mut received: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = loop {
            if let Some(at) = received.windows(2).position(|two| two == b"\r\n") {
                break received.drain(..at + 2).collect::<Vec<u8>>();
            }
            if stream.read_buf(&mut received).await? == 0 {
                return Err(cut_off());
            }
        };
        let line = String::from_utf8_lossy(&line);
        let size = line.split([';', '\r']).next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| io::Error::other("a chunk without its size"))?;
        while received.len() < size + 2 {
            if stream.read_buf(&mut received).await? == 0 {
                return Err(cut_off());
            }
        }
        body.extend(received.drain(..size));
        received.drain(..2);
        if size == 0 {
            return Ok(body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// What is made of an answer that a server sends in these pieces.
    async fn answered(method: &str, pieces: &'static [&'static str]) -> Result<Answer, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 100];
            let _read = stream.read(&mut request).await.unwrap();
            for piece in pieces {
                stream.write_all(piece.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let answer = exchange(&host, method, b"GET / HTTP/1.1\r\n\r\n").await;
        server.await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_body_ends_where_it_says_or_with_the_connection() {
        let said = answered("GET", &["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabcd"]).await.unwrap();
        assert_eq!((said.status, said.body.as_slice()), (200, &b"ab"[..]));
        assert_eq!(answered("GET", &["HTTP/1.1 200 OK\r\n\r\nab", "cd"]).await.unwrap().body, b"abcd");
        let chunked =
            &["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nab", "c\r\n", "1;x=y\r\nd\r\n0\r\n\r\n"];
        assert_eq!(answered("GET", chunked).await.unwrap().body, b"abcd");
    }

    #[tokio::test]
    async fn an_answer_to_head_has_no_body_whatever_it_says() {
        let head = answered("HEAD", &["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"]).await.unwrap();
        assert_eq!((head.header("content-length"), head.body.len()), (Some("5"), 0));
    }

    #[tokio::test]
    async fn lines_of_one_name_are_one_line_and_a_word_beforehand_is_passed_over() {
        let pieces = &["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 204 No Content\r\nVary: a\r\nvary:  b \r\n\r\n"];
        assert_eq!(answered("GET", pieces).await.unwrap().header("vary"), Some("a, b"));
    }

    #[tokio::test]
    async fn an_answer_that_does_not_come_or_is_cut_off_is_no_answer() {
        let nothing = answered("GET", &[]).await.unwrap_err();
        assert_eq!(nothing, "RemoteDisconnected: Remote end closed connection without response");
        let cut = answered("GET", &["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"]).await.unwrap_err();
        assert_eq!(cut, "the connection broke: the answer ends in the middle");
    }
}
