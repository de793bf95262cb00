//! P6, P7 and P8: a protected GET through the layer, beside the bare route and beside what one would use instead.

use std::process::{Command, ExitCode};

use axum::routing::get;
use axum::{Json, Router};
use counterfoil::Counterfoil;
use serde_json::json;

use crate::deployment::Deployment;
use crate::load::{self, Contender, Cost, compare, pinned};
use crate::report::{Goal, Row};
use crate::server::{self, Connection, Server};

const TOKENS: usize = 1_000;
const IN_ROTATION: usize = 20_000;

async fn protected() -> Json<serde_json::Value> {
    Json(json!({ "message": "what only members read", "items": [1, 2, 3] }))
}

/// The route alone, or behind the layer on that directory or at that URL: what the processes under test run.
pub(crate) fn serve(place: Option<&str>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let router = Router::new().route("/protected", get(protected));
        let (router, _counterfoil) = match place {
            Some(place) => {
                let builder = Counterfoil::builder();
                let builder =
                    if place.contains("://") { builder.store_url(place).unwrap() } else { builder.sqlite(place) };
                let counterfoil = builder.start().await.unwrap();
                (router.layer(counterfoil.layer().required()), Some(counterfoil))
            }
            None => (router, None),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("listening on http://{}", listener.local_addr().unwrap());
        axum::serve(listener, router.into_make_service_with_connect_info::<std::net::SocketAddr>()).await.unwrap();
    });
    ExitCode::SUCCESS
}

/// The route alone. It is sent the tokens of `deployment` too, so that both are asked the same.
fn bare(deployment: &Deployment) -> Contender {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let server = Server::start(&mut pinned(command.arg("bare-protected")));
    Contender::new(server, requests(deployment, TOKENS))
}

/// Behind the layer, with so many of the tokens of `deployment` in rotation.
pub(crate) fn layered(deployment: &Deployment, in_rotation: usize) -> Contender {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let server = Server::start(&mut pinned(command.arg("protected").arg(deployment.directory())));
    Contender::new(server, requests(deployment, in_rotation))
}

fn requests(deployment: &Deployment, in_rotation: usize) -> Vec<Vec<u8>> {
    let bearer = |text: &str| load::get("/protected", &format!("authorization: Bearer {text}"));
    deployment.sample(in_rotation).into_iter().map(bearer).collect()
}

/// One of the peers, with as many credentials as it was asked for.
fn peer(kind: &str) -> Contender {
    let server = Server::start(&mut pinned(Command::new(server::peers()).args(["serve", kind])));
    let mut connection = Connection::open(server.address).unwrap();
    let requests = (0..TOKENS).map(|number| {
        let request = String::from_utf8(load::get(&format!("/credential/{number}"), "")).unwrap();
        let (head, body) = connection.ask_whole(&request).unwrap();
        let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: "));
        let header = match cookie {
            Some(cookie) => format!("cookie: {}", cookie.split(';').next().unwrap()),
            None => body,
        };
        load::get("/protected", &header)
    });
    let requests = requests.collect();
    Contender::new(server, requests)
}

fn told(ours: Cost, theirs: Cost) -> String {
    format!("{:.2} µs / {:.2} µs CPU, {:.0} / {:.0} req/s", ours.cpu, theirs.cpu, ours.per_second, theirs.per_second)
}

pub(crate) fn beside_bare() -> Vec<Row> {
    let deployment = Deployment::of(1_000);
    let [ours, theirs] = compare([layered(&deployment, TOKENS), bare(&deployment)]);
    vec![
        Row {
            id: "P6",
            what: "protected GET, CPU per request / bare axum JSON",
            figure: ours.cpu / theirs.cpu,
            goal: Goal::AtMost(1.05),
            detail: told(ours, theirs),
        },
        Row {
            id: "P6",
            what: "protected GET, requests per second / bare axum JSON",
            figure: ours.per_second / theirs.per_second,
            goal: Goal::AtLeast(0.95),
            detail: "16 connections, one core each".to_owned(),
        },
    ]
}

pub(crate) fn many_in_rotation() -> Vec<Row> {
    let [many, few] =
        compare([layered(&Deployment::of(10_000_000), IN_ROTATION), layered(&Deployment::of(1_000), TOKENS)]);
    vec![Row {
        id: "P7",
        what: "protected GET, CPU: 20,000 of 10M tokens / 1,000 stored",
        figure: many.cpu / few.cpu,
        goal: Goal::AtMost(1.15),
        detail: told(many, few),
    }]
}

pub(crate) fn beside_peers() -> Vec<Row> {
    let [ours, hs256, eddsa, memory, sqlite] = compare([
        layered(&Deployment::of(1_000), TOKENS),
        peer("HS256"),
        peer("EdDSA"),
        peer("sessions-memory"),
        peer("sessions-sqlite"),
    ]);
    let row = |what, theirs: Cost, most| Row {
        id: "P8",
        what,
        figure: ours.cpu / theirs.cpu,
        goal: Goal::AtMost(most),
        detail: told(ours, theirs),
    };
    vec![
        row("protected GET, CPU / axum + JWT HS256", hs256, 0.66),
        row("protected GET, CPU / axum + JWT EdDSA", eddsa, 0.15),
        row("protected GET, CPU / axum-login in memory", memory, 0.73),
        row("protected GET, CPU / axum-login on SQLite", sqlite, 0.12),
    ]
}
