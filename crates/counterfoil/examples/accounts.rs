//! A service whose users register, prove their addresses and replace their passwords by themselves, on ready-made pages. Its
//! mails go to the terminal here; yours go wherever you send mails from.
#![expect(clippy::print_stdout, reason = "an example speaks on the terminal")]

use std::net::SocketAddr;
use std::sync::Arc;

use axum::{Router, routing::get};
use counterfoil::{
    AccountRules, Authenticated, Cookies, Counterfoil, EmailRule, Group, HttpSettings, Letter, Links, Mailer,
    Registering, Selection, Sending, Settings,
};

/// Sends a letter in words of its own.
#[derive(Debug)]
struct Terminal;

impl Mailer for Terminal {
    fn send(&self, letter: Letter) -> Sending<'_> {
        let url = letter.url.as_ref().map_or("", |url| url.expose());
        println!("mail to {}: {} {url}", letter.to, letter.kind.name());
        Box::pin(async { Ok(()) })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    let here = format!("http://{}", listener.local_addr()?);

    let accounts = AccountRules {
        registration: Registering::Anybody,
        email: EmailRule::Required,
        // Where the routes below are, as the readers of mails reach them.
        links: Links { base: Some(format!("{here}/auth")), ..Links::default() },
        site: "Example".to_owned(),
        ..AccountRules::default()
    };
    let settings = Settings { accounts, ..Settings::default() };
    let counterfoil = Counterfoil::builder().memory().settings(settings).mail(Arc::new(Terminal)).start().await?;

    let http = counterfoil.http(HttpSettings { cookies: Some(Cookies::default()), ..HttpSettings::default() });
    let app = Router::new()
        .route("/", get(async |who: Authenticated| format!("hello {}\n", who.subject)))
        .layer(http.layer())
        // Routes and pages under one path; no administration here.
        .nest("/auth", http.routes(&Selection::all().without(Group::Admin)));

    println!("listening on {here}");
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}
