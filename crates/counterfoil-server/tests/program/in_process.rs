//! The server in the process of the test, with a clock that jumps when nothing else happens.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use counterfoil_server::{Config, app};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tower::ServiceExt;

fn config(directory: &tempfile::TempDir) -> Config {
    Config { data_dir: directory.path().join("data"), ..Config::default() }
}

#[tokio::test]
async fn the_routes_answer_without_a_socket() {
    let directory = tempfile::tempdir().expect("a directory");
    let app = app(&config(&directory)).await.expect("opened");
    let request = Request::get("/v1/me").body(Body::empty()).expect("a request");
    let answer = app.router().oneshot(request).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert!(!app.counterfoil().authority().has_administrator().await.expect("an answer"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_send_a_whole_head_in_time_is_hung_up_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let app = app(&config(&directory)).await.expect("opened");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(app.serve(listener, async { drop(stopped.await) }));
    for head in
        ["", "G", "PRI * HT", "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"]
    {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(head.as_bytes()).await.expect("written");
        let mut answer = Vec::new();
        let early = tokio::time::timeout(Duration::from_secs(9), stream.read_to_end(&mut answer)).await;
        assert!(early.is_err(), "{head:?}: hung up on at once");
        let ended = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "{head:?}: still open after a minute");
        assert_eq!(answer.is_empty(), !head.ends_with("\r\n\r\n"), "{head:?}");
    }
    drop(stop);
    server.await.expect("the server ends");
}
