//! A web page and a terminal program are two clients with rules of their own, and routes say whom they are for.
#![expect(clippy::print_stdout, reason = "an example speaks on the terminal")]

use std::net::SocketAddr;

use axum::{Router, routing::get};
use counterfoil::{
    AccountChange, Authenticated, By, ClientName, ClientOrder, Counterfoil, Guard, Policy, Problem, Role,
};

/// A guard as a function, for a handler that decides by more than its route.
async fn report(who: Authenticated) -> Result<String, Problem> {
    who.not_of_client(&["kiosk".parse().expect("a name")])?;
    Ok(format!("the report of {}\n", who.subject))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let counterfoil = Counterfoil::builder().memory().start().await?;
    let (web, terminal): (ClientName, ClientName) = ("web".parse()?, "terminal".parse()?);

    // Whoever uses the terminal gets tokens of an hour, and five requests in a minute.
    let strict = Policy { ttl: Some("1h".parse()?), throttle: Some("5/m".parse()?), ..Policy::default() };
    for order in [
        ClientOrder::named(web.clone()),
        ClientOrder { policy: strict, ..ClientOrder::named(terminal.clone()) },
        ClientOrder::named("kiosk".parse()?),
    ] {
        counterfoil.authority().create_client(order, &By::operator(), counterfoil.now()).await?;
    }
    counterfoil.create_user("ada", "correct horse battery staple").await?;
    let grace = counterfoil.create_user("grace", "correct horse battery staple").await?;
    let staff = vec![AccountChange::Role(Role::Staff)];
    counterfoil.authority().change_user(&grace.subject, staff, &By::operator(), counterfoil.now()).await?;

    let app = Router::new()
        .route("/page", get(async || "for the page\n").route_layer(Guard::clients([web])))
        .route("/script", get(async || "not for the page\n").route_layer(Guard::clients([terminal])))
        .route("/export", get(async || "three a minute\n").route_layer(Guard::throttle("export", "3/m".parse()?)))
        .route("/close", get(async || "asked for a minute ago\n").route_layer(Guard::logged_in_within("1m".parse()?)))
        .route("/office", get(async || "for staff\n").route_layer(Guard::staff()))
        .route("/report", get(report))
        .layer(counterfoil.layer())
        .merge(counterfoil.routes());

    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}
