//! A page in a browser, whose token is in a cookie that no script reads and no other site can use.
#![expect(clippy::print_stdout, reason = "an example speaks on the terminal")]

use std::net::SocketAddr;

use axum::response::Html;
use axum::{Router, routing::get};
use counterfoil::{Authenticated, Cookies, Counterfoil, HttpSettings, Selection};

const PAGE: &str = include_str!("notes.html");

async fn notes(who: Option<Authenticated>) -> String {
    who.map_or("nobody is logged in\n".to_owned(), |who| format!("the notes of {}\n", who.subject))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let counterfoil = Counterfoil::builder().memory().start().await?;
    counterfoil.create_user("ada", "correct horse battery staple").await?;

    let http = counterfoil.http(HttpSettings { cookies: Some(Cookies::default()), ..HttpSettings::default() });
    let app = Router::new()
        .route("/notes", get(notes).post(async |_: Authenticated| "noted\n"))
        .layer(http.layer())
        .route("/", get(async || Html(PAGE)))
        .merge(http.routes(&Selection::all()));

    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}
