//! P14: started, answered, small.

use std::process::{Command, ExitCode};
use std::time::Instant;

use crate::report::{Goal, Row, percentile};
use crate::server::{Server, binary, first_answer};

const STARTS: usize = 15;

pub(crate) fn run() -> Vec<Row> {
    let directory = tempfile::tempdir().unwrap();
    Server::serve(directory.path()).stop(); // makes the data directory and stops cleanly
    let health = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    let mut resident = (f64::INFINITY, f64::INFINITY);
    for _ in 0..STARTS {
        let begun = Instant::now();
        let server = Server::serve(directory.path());
        ours.push(first_answer(server.address, health, begun).as_nanos() as u64);
        resident.0 = resident.0.min(server.resident());
        server.stop();
        let begun = Instant::now();
        let server = Server::start(Command::new(std::env::current_exe().unwrap()).arg("bare-server"));
        bare.push(first_answer(server.address, health, begun).as_nanos() as u64);
        resident.1 = resident.1.min(server.resident());
    }
    let (ours, bare) = (percentile(&mut ours, 0.5) / 1e6, percentile(&mut bare, 0.5) / 1e6);
    let size = std::fs::metadata(binary()).unwrap().len() as f64 / (1024.0 * 1024.0);
    vec![
        Row {
            id: "P14",
            what: "ms from start to the first answer, after a clean stop",
            figure: ours,
            goal: Goal::AtMost(15.0),
            detail: format!("bare axum on SQLite: {bare:.1} ms; medians of {STARTS}"),
        },
        Row {
            id: "P14",
            what: "MiB resident before the first login",
            figure: resident.0,
            goal: Goal::AtMost(15.0),
            detail: format!("bare axum on SQLite: {:.1} MiB", resident.1),
        },
        Row {
            id: "P14",
            what: "MiB of binary",
            figure: size,
            goal: Goal::AtMost(15.0),
            detail: "with SQLite and everything in".to_owned(),
        },
    ]
}

/// The smallest thing that could be compared: an axum route and an open SQLite database.
pub(crate) fn serve_bare() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let database = rusqlite::Connection::open(directory.path().join("bare.db")).unwrap();
        database.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE tokens (digest BLOB PRIMARY KEY)").unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("listening on http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new().route("/healthz", axum::routing::get(|| async { "ok" }));
        axum::serve(listener, router).await.unwrap();
    });
    ExitCode::SUCCESS
}
