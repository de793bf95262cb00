//! Raw bytes on a real connection.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

use crate::world::TestServer;

/// The deployment on a port of its own.
async fn listen(server: &TestServer) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = server.router.clone().into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
    address
}

/// Sends these bytes, closes nothing, and reads what comes back until the server closes or is silent.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    read(&mut stream).await
}

/// The first bytes may take as long as a busy machine needs; after them, a second of silence is the end.
async fn read(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    let mut patience = Duration::from_secs(60);
    while let Ok(Ok(length @ 1..)) = tokio::time::timeout(patience, stream.read(&mut buffer)).await {
        answer.extend_from_slice(&buffer[..length]);
        patience = Duration::from_secs(1);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn statuses(answer: &str) -> Vec<u16> {
    answer.split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.get(..3)?.parse().ok()).collect()
}

#[tokio::test]
async fn the_peer_of_a_connection_is_where_a_device_is_seen() {
    let server = TestServer::with_ada().await;
    let address = listen(&server).await;
    let body = r#"{"username":"ada","password":"correct horse battery staple"}"#;
    let request = format!(
        "POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         X-Forwarded-For: 203.0.113.9\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(address, request.as_bytes()).await;
    assert_eq!(statuses(&answer), [200]);
    let ada = server.ada().await;
    let list = ada.get("/v1/tokens").await.json();
    assert_eq!(list["items"][0]["first_seen"]["ip"], "127.0.0.1");
}

#[tokio::test]
async fn r27_what_two_parsers_could_read_differently_is_refused() {
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    let address = listen(&server).await;
    let smuggled = format!("GET /v1/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", ada.secret);
    // RFC 9112 §6.1: Transfer-Encoding outranks Content-Length, "regardless, the server MUST close the connection", so
    // that whatever a proxy took for the next request is not one.
    for head in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    ] {
        let request = format!("POST /v1/logout HTTP/1.1\r\nHost: x\r\n{head}{smuggled}");
        let answer = exchange(address, request.as_bytes()).await;
        assert_eq!(statuses(&answer), [401], "{head:?}: {answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    }
    for head in [
        "Content-Length: 0\r\nContent-Length: 4\r\n\r\n",
        "Content-Length: 0, 4\r\n\r\n",
        "Content-Length: +0\r\n\r\n",
        "Content-Length: -1\r\n\r\n",
        "Content-Length: 0x0\r\n\r\n",
        "Content-Length: 99999999999999999999999\r\n\r\n",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "X: a\r\n b\r\n\r\n",
        "X: a\rY: b\r\n\r\n",
        "X: a\0b\r\n\r\n",
        "X y: a\r\n\r\n",
        ": a\r\n\r\n",
    ] {
        let request = format!("POST /v1/logout HTTP/1.1\r\nHost: x\r\n{head}{smuggled}");
        let answer = exchange(address, request.as_bytes()).await;
        assert_eq!(statuses(&answer), [400], "{head:?}: {answer}");
        assert!(!answer.contains("\"user\""), "the smuggled request was answered: {answer}");
    }
    for line in [
        "GET  /v1/me HTTP/1.1",
        "GET /v1/me HTTP/9.9",
        "GET /v1/me",
        "GET /v1/\u{1}me HTTP/1.1",
        "G\0T /v1/me HTTP/1.1",
        "GET /v1/me HTTP/1.1\rX: y",
    ] {
        let answer = exchange(address, format!("{line}\r\nHost: x\r\n\r\n").as_bytes()).await;
        assert!(!answer.contains(" 200 ") && !answer.contains("\"user\""), "{line:?}: {answer}");
    }
}

#[tokio::test]
async fn r27_a_request_names_its_host_exactly_once() {
    let server = TestServer::with_ada().await;
    let address = listen(&server).await;
    for (head, status) in [
        ("GET /healthz HTTP/1.1\r\n", 400),
        ("GET http://x/healthz HTTP/1.1\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nHost: x\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nhost: y\r\n", 400),
        ("GET /healthz HTTP/1.0\r\nHost: x\r\nHost: y\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost:\r\n", 200),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\n", 200),
        ("GET /healthz HTTP/1.0\r\n", 200),
    ] {
        let answer = exchange(address, format!("{head}Connection: close\r\n\r\n").as_bytes()).await;
        let expected = format!(" {status} ");
        assert!(answer.get(8..).is_some_and(|rest| rest.starts_with(&expected)), "{head:?}: {answer}");
        assert_eq!(answer.contains("urn:counterfoil:problem:invalid-request"), status == 400, "{head:?}: {answer}");
    }
}

#[tokio::test]
async fn a_request_that_came_over_no_connection_needs_no_host() {
    let server = TestServer::with_ada().await;
    let request = Request::get("/healthz").body(Body::empty()).unwrap();
    assert_eq!(server.router.clone().oneshot(request).await.unwrap().status(), 200);
}

#[tokio::test]
async fn r27_trace_and_connect_are_refused_and_echo_nothing() {
    let server = TestServer::with_ada().await;
    let address = listen(&server).await;
    for (line, status) in [
        ("TRACE /v1/me HTTP/1.1", 405),
        ("TRACE /nowhere HTTP/1.1", 404),
        ("TRACE http://x/v1/me HTTP/1.1", 405),
        ("CONNECT x:443 HTTP/1.1", 404),
        ("OPTIONS * HTTP/1.1", 404),
        ("GET * HTTP/1.1", 404),
    ] {
        let request = format!("{line}\r\nHost: x\r\nX-Echo: canary\r\nConnection: close\r\n\r\n");
        let answer = exchange(address, request.as_bytes()).await;
        assert_eq!(statuses(&answer), [status], "{line}: {answer}");
        assert!(!answer.contains("canary"));
        assert!(answer.contains("\r\nx-content-type-options: nosniff\r\n"));
    }
}

#[tokio::test]
async fn a35_bytes_that_no_header_may_hold_are_refused() {
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    let address = listen(&server).await;
    for value in [
        format!("Bearer {}\0", ada.secret),
        format!("Bearer \0{}", ada.secret),
        format!("Bearer\0{}", ada.secret),
        format!("Bearer {}\u{7f}", ada.secret),
    ] {
        let request = format!("GET /v1/me HTTP/1.1\r\nHost: x\r\nAuthorization: {value}\r\n\r\n");
        assert_eq!(statuses(&exchange(address, request.as_bytes()).await), [400], "{value:?}");
    }
}

#[tokio::test]
async fn a36_no_line_break_gets_into_an_answer() {
    let server = TestServer::with_ada().await;
    let ada = server.ada().await;
    let address = listen(&server).await;
    let body = r#"{"name":"x\r\nX-Evil: 1\r\n\r\n<html>ä"}"#;
    let request = format!(
        "POST /v1/keys HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nX-Request-Id: x%0d%0aX-Evil: 1\r\nConnection: close\r\n\r\n{body}",
        ada.secret,
        body.len()
    );
    let answer = exchange(address, request.as_bytes()).await;
    assert_eq!(statuses(&answer), [201]);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(!head.contains("Evil") && head.is_ascii(), "{head}");
    assert!(body.contains(r"x\r\nX-Evil: 1\r\n\r\n<html>"), "{body}");
}

#[tokio::test]
async fn a48_four_gibibytes_are_refused_by_their_length_alone() {
    let server = TestServer::with_ada().await;
    let address = listen(&server).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head =
        "POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 4294967297\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read(&mut stream).await;
    assert_eq!(statuses(&answer), [413], "before a byte of the body was sent: {answer}");

    // What is sent all the same is drained up to 8 MiB, and then the connection is closed.
    let chunk = vec![b' '; 64 * 1024];
    let mut sent = 0;
    while sent < 512 * 1024 * 1024 && stream.write_all(&chunk).await.is_ok() {
        sent += chunk.len();
    }
    assert!((8 * 1024 * 1024..64 * 1024 * 1024).contains(&sent), "closed after {sent} bytes");
}

#[tokio::test]
async fn a48_a_client_that_sends_first_and_reads_later_still_gets_its_answer() {
    let server = TestServer::with_ada().await;
    let address = listen(&server).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let body = vec![b' '; 4 * 1024 * 1024];
    let head = format!(
        "POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    // The whole body was taken, so the connection is still good for the next request.
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let answer = read(&mut stream).await;
    assert_eq!(statuses(&answer), [413, 200], "{answer}");
}

#[tokio::test]
async fn a_client_that_waits_for_100_is_not_asked_for_a_body_that_is_refused() {
    let server = TestServer::with_ada().await;
    let address = listen(&server).await;
    for (length, media, expected) in [
        (70_000, "application/json", vec![413]),
        (10, "text/plain", vec![415]),
        (2, "application/json", vec![100, 400]),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: {media}\r\nContent-Length: {length}\r\n\
             Expect: 100-continue\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = read(&mut stream).await;
        if answer.starts_with("HTTP/1.1 100") {
            stream.write_all(b"{}").await.unwrap();
            answer.push_str(&read(&mut stream).await);
        }
        assert_eq!(statuses(&answer), expected, "{answer}");
    }
}

#[tokio::test]
async fn r27_a_head_that_is_too_large_is_refused() {
    let server = TestServer::with_ada().await;
    let address = listen(&server).await;
    let many = "X: y\r\n".repeat(200);
    let long = format!("X: {}\r\n", "y".repeat(1024 * 1024));
    for headers in [many, long] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        // The server may close before all of it is sent.
        let sent = stream.write_all(request.as_bytes()).await;
        let answer = read(&mut stream).await;
        assert!(statuses(&answer) == [431] || sent.is_err(), "{answer}");
    }
}
