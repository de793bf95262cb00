//! What it costs that all nodes count together: `cargo run --release -p counterfoil --features redis --example limits_figures -- URL`
//! asks for a token that is known already, of a client without a throttle, with one that this node counts, and with one that Redis
//! counts: one after the other, and from 32 at once.

#![expect(clippy::print_stdout, reason = "figures are what it is for")]

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use counterfoil::{
    Abilities, By, ClientOrder, Counterfoil, Expiry, Issued, Kind, Metadata, Policy, Source, TokenOrder,
};

const ALONE: u32 = 20_000;
const CALLERS: u32 = 32;
const EACH: u32 = 2_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("the URL of a Redis")?;
    let (here, together) = (Counterfoil::builder().memory(), Counterfoil::builder().memory());
    let (here, together) = (here.start().await?, together.limits_in_redis(url.parse()?).start().await?);
    figures("no throttle, limits in Redis", &together, None).await?;
    for throttle in ["1000/d", "1000000/s"] {
        figures(&format!("{throttle}, counted here"), &here, Some(throttle)).await?;
        figures(&format!("{throttle}, counted in Redis"), &together, Some(throttle)).await?;
    }
    Ok(())
}

async fn figures(what: &str, node: &Counterfoil, throttle: Option<&str>) -> Result<(), Box<dyn Error>> {
    // A thousand a day are used up at once: as many tokens as it takes, each of which is asked for once to be known.
    let per_token = if throttle == Some("1000/d") { 999 } else { u32::MAX };
    let mut times = Vec::new();
    let mut issued = token(node, throttle).await?;
    for asked in 0..ALONE {
        if asked % per_token == per_token - 1 {
            issued = token(node, throttle).await?;
        }
        times.push(timed(node, &issued).await?);
    }
    times.sort();
    let at = |share: u32| times[(times.len() - 1) * share as usize / 100];
    let callers = (0..CALLERS).map(|_| async {
        let node = node.clone();
        let mut issued = token(&node, throttle).await?;
        let throttle = throttle.map(str::to_owned);
        Ok::<_, Box<dyn Error>>(async move {
            for asked in 0..EACH {
                if asked % per_token == per_token - 1 {
                    issued = token(&node, throttle.as_deref()).await.ok()?;
                }
                timed(&node, &issued).await.ok()?;
            }
            Some(())
        })
    });
    let mut ready = Vec::new();
    for caller in callers {
        ready.push(caller.await?);
    }
    let begun = now();
    let running: Vec<_> = ready.into_iter().map(tokio::spawn).collect();
    for caller in running {
        caller.await?.ok_or("a request was refused")?;
    }
    let rate = f64::from(CALLERS * EACH) / since(begun).as_secs_f64();
    println!("{what:32} p50 {:>10?}  p99 {:>10?}   {CALLERS} at once: {rate:>9.0}/s", at(50), at(99));
    Ok(())
}

async fn timed(node: &Counterfoil, issued: &Issued) -> Result<Duration, counterfoil::Error> {
    let begun = now();
    node.identify(issued.secret.expose(), &Source::default()).await?;
    Ok(since(begun))
}

async fn token(node: &Counterfoil, throttle: Option<&str>) -> Result<Issued, Box<dyn Error>> {
    let (authority, at, by) = (node.authority(), node.clock().now(), By::operator());
    let name: counterfoil::ClientName = format!("c{}", throttle.unwrap_or("none").replace('/', "-")).parse()?;
    if authority.client(&name).await.is_err() {
        let throttle = throttle.map(str::parse).transpose()?;
        let order =
            ClientOrder { policy: Policy { throttle, ..Policy::default() }, ..ClientOrder::named(name.clone()) };
        authority.create_client(order, &by, at).await?;
    }
    let subject = format!("s{}", another()).parse()?;
    let order = TokenOrder {
        kind: Kind::Login,
        subject,
        client: Some(name),
        name: None,
        abilities: Abilities::everything(),
        metadata: Metadata::default(),
        expiry: Expiry::ByPolicy,
    };
    let issued = authority.issue(order, &by, at).await?;
    node.identify(issued.secret.expose(), &Source::default()).await?; // known from now on
    Ok(issued)
}

/// Another subject each time.
fn another() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[expect(clippy::disallowed_methods, reason = "this is a stopwatch")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "this is a stopwatch")]
fn since(begun: Instant) -> Duration {
    begun.elapsed()
}
