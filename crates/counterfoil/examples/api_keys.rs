//! Keys for programs: each may do what its owner gave it, lives until it is revoked, and is no login.
#![expect(clippy::print_stdout, reason = "an example speaks on the terminal")]

use std::net::SocketAddr;

use axum::{Router, routing::get};
use counterfoil::{Authenticated, Counterfoil, Guard, HttpSettings, Selection};

async fn read(who: Authenticated) -> String {
    format!("the files of {}, read with a {}\n", who.subject, who.kind.as_str())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let counterfoil = Counterfoil::builder().memory().start().await?;
    counterfoil.create_user("ada", "correct horse battery staple").await?;

    // A login may do everything; a key of `{"abilities": ["files:read"]}`, made at POST /v1/keys, may read.
    let reading = get(read).route_layer(Guard::ability("files:read".parse()?));
    let writing = axum::routing::put(async || "written\n").route_layer(Guard::ability("files:write".parse()?));
    // Programs also send `X-Api-Key`.
    let settings = HttpSettings { api_key_header: true, ..HttpSettings::default() };
    let http = counterfoil.http(settings);
    let app =
        Router::new().route("/files", reading.merge(writing)).layer(http.layer()).merge(http.routes(&Selection::all()));

    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}
