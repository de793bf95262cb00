//! No router at all: the layer around a plain tower service.
#![expect(clippy::print_stdout, reason = "an example speaks on the terminal")]

use std::convert::Infallible;

use axum::body::Body;
use axum::http::{Request, Response};
use counterfoil::{Authenticated, Counterfoil};
use tower::ServiceBuilder;
use tower::make::Shared;

async fn answer(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    // `required` has refused everybody else.
    let who = Authenticated::of(request.extensions()).ok().flatten();
    let name = who.map_or_else(String::new, |who| who.subject.to_string());
    Ok(Response::new(Body::from(format!("{} for {name}\n", request.uri().path()))))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let counterfoil = Counterfoil::builder().memory().start().await?;
    // Some other part of the service knows who it is, and hands out the token.
    let token = counterfoil.create_token("user:42".parse::<counterfoil::SubjectId>()?, &Default::default()).await?;
    println!("token {}", token.secret.expose());

    let service = ServiceBuilder::new().layer(counterfoil.layer().required()).service_fn(answer);

    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, Shared::new(service)).await?;
    Ok(())
}
