//! What one would use instead of counterfoil, each as its own documentation shows it.
//!
//! `verify ALGORITHM SECONDS` prints nanoseconds per verified JWT; `serve KIND` serves a protected route, prints where it
//! listens, and gives out a credential at `/credential/{number}`.

mod jwt;
mod sessions;

use axum::Json;
use axum::Router;
use axum::routing::get;
use serde::Serialize;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["verify", algorithm, seconds] => {
            println!("{}", jwt::nanoseconds(algorithm.parse().unwrap(), seconds.parse().unwrap()));
        }
        ["serve", kind] => {
            // One worker, as the server that is measured beside it.
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            runtime.block_on(async {
                let router = match kind {
                    "bare" => Router::new().route("/protected", get(protected)),
                    "sessions-memory" => sessions::in_memory(),
                    "sessions-sqlite" => sessions::on_sqlite().await,
                    algorithm => jwt::router(algorithm.parse().unwrap()),
                };
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                println!("listening on http://{}", listener.local_addr().unwrap());
                axum::serve(listener, router).await.unwrap();
            });
        }
        _ => {
            eprintln!("usage: verify ALGORITHM SECONDS | serve bare|HS256|EdDSA|sessions-memory|sessions-sqlite");
            std::process::exit(2);
        }
    }
}

/// What every protected route here answers.
#[derive(Serialize)]
struct Answer {
    message: &'static str,
    items: [u32; 3],
}

async fn protected() -> Json<impl Serialize> {
    Json(Answer { message: "what only members read", items: [1, 2, 3] })
}
