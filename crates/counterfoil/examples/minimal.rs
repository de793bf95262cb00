//! One protected route, and the routes that log in, list devices, log out and make API keys.
//!
//! ```sh
//! cargo run --example minimal
//! curl http://127.0.0.1:3000/hello      # 401, and what to do about it
//! curl http://127.0.0.1:3000/v1/login --json '{"username": "ada", "password": "correct horse battery staple"}'
//! curl http://127.0.0.1:3000/hello -H "Authorization: Bearer $TOKEN"
//! ```
#![expect(clippy::print_stdout, reason = "an example speaks on the terminal")]

use std::net::SocketAddr;

use axum::{Router, routing::get};
use counterfoil::{Authenticated, Counterfoil};

async fn hello(who: Authenticated) -> String {
    format!("Hello, {}, on {}.\n", who.subject, who.client)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let counterfoil = Counterfoil::builder().sqlite("./data").start().await?;
    let app = Router::new().route("/hello", get(hello)).layer(counterfoil.layer()).merge(counterfoil.routes());

    // Somebody to log in; at the second start she is there already.
    counterfoil.create_user("ada", "correct horse battery staple").await.ok();

    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let stopped = async { tokio::signal::ctrl_c().await.unwrap_or(()) };
    axum::serve(listener, app).with_graceful_shutdown(stopped).await?;
    counterfoil.shutdown().await;
    Ok(())
}
