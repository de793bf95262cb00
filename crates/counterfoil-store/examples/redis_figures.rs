//! What a look-up in Redis costs beside a bare GET of the same driver, and how many bytes a token takes there.
//!
//! `cargo run --release -p counterfoil-store --features redis --example redis_figures [redis://…]`; without a URL on a server of its
//! own, in memory alone.
#![expect(clippy::disallowed_methods, reason = "it measures time")]
#![expect(clippy::print_stdout, reason = "for whoever runs it")]

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use counterfoil_core::client::Reissue;
use counterfoil_core::entropy::{Entropy, PredictableEntropy};
use counterfoil_core::secret::{Candidates, DigestScheme, TokenDigest};
use counterfoil_core::store::{Issue, NewClient, Warrant};
use counterfoil_core::token::{Kind, Metadata, Source, TokenId, UserAgent};
use counterfoil_core::{Abilities, CheckKey, ClientId, ClientName, Policy, SubjectId, Timestamp, TokenStore};
use counterfoil_store::RedisStore;

const NOW: Timestamp = Timestamp::from_millis(1_795_172_400_000);
const TOKENS: usize = 50_000;
const SUBJECTS: usize = 10_000;
const AGENT: &[u8] = b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

type Failed = Box<dyn Error + Send + Sync>;

fn digest(entropy: &PredictableEntropy) -> Result<TokenDigest, Failed> {
    let mut bytes = [0; 32];
    entropy.fill(&mut bytes).map_err(|_| "entropy")?;
    Ok(TokenDigest::from_bytes(bytes))
}

async fn used(connection: &mut redis::aio::MultiplexedConnection) -> Result<u64, Failed> {
    let about: String = redis::cmd("INFO").arg("memory").query_async(connection).await?;
    let figure = about.lines().find_map(|line| line.strip_prefix("used_memory_dataset:")?.parse().ok());
    figure.ok_or_else(|| "no figure".into())
}

/// So many tasks ask for five seconds, each one thing after the other.
async fn rate<F>(
    what: &str,
    tasks: usize,
    ask: impl Fn(usize) -> F + Clone + Send + Sync + 'static,
) -> Result<(), Failed>
where
    F: Future<Output = Result<(), Failed>> + Send,
{
    let begun = Instant::now();
    let running: Vec<_> = (0..tasks)
        .map(|task| {
            let ask = ask.clone();
            tokio::spawn(async move {
                let mut times = Vec::new();
                let mut turn = task;
                while begun.elapsed() < Duration::from_secs(5) {
                    let asked = Instant::now();
                    ask(turn).await?;
                    times.push(asked.elapsed());
                    turn += tasks;
                }
                Ok::<_, Failed>(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for one in running {
        times.append(&mut one.await??);
    }
    times.sort_unstable();
    let (half, most) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("{what:<40} {tasks:>3} at once  {:>7.0}/s  p50 {half:>9.1?}  p99 {most:>9.1?}", times.len() as f64 / 5.0);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let given = std::env::args().nth(1);
    let own = if given.is_none() { Some(counterfoil_lab::redis::Server::start()) } else { None };
    let url = given.or_else(|| own.as_ref().map(|server| server.url())).ok_or("a URL")?;
    let entropy = PredictableEntropy::from_seed(1);
    let store = Arc::new(RedisStore::connect(url.parse()?, Arc::new(PredictableEntropy::from_seed(2))).await?);
    let mut bare = redis::Client::open(url.as_str())?.get_multiplexed_async_connection().await?;
    let key = CheckKey::generate(&entropy).map_err(|_| "entropy")?;
    let client = NewClient {
        id: ClientId::generate(NOW, &entropy).map_err(|_| "entropy")?,
        name: ClientName::default_client(),
        policy: Policy::default(),
        allow_login: true,
        metadata: Metadata::default(),
        created_at: NOW,
    };
    store.open(&key, &client).await?;
    let client = store.client(&ClientName::default_client()).await?.ok_or("a client")?;
    let subjects: Vec<SubjectId> = (0..SUBJECTS)
        .map(|number| format!("01890a5d-ac96-774b-bcce-{number:012x}").parse())
        .collect::<Result<_, _>>()?;
    for subject in &subjects {
        store.open_subject(subject, NOW).await?;
    }
    let before = used(&mut bare).await?;
    let (mut digests, begun) = (Vec::new(), Instant::now());
    for number in 0..TOKENS {
        let digest = digest(&entropy)?;
        let issue = Issue {
            id: TokenId::generate(NOW, &entropy).map_err(|_| "entropy")?,
            kind: Kind::Login,
            subject: subjects[number % SUBJECTS].clone(),
            client: client.id,
            client_version: client.version,
            warrant: Warrant::Operator,
            name: None,
            abilities: Abilities::everything(),
            metadata: Metadata::default(),
            expires_at: Some(NOW.plus_millis(2_592_000_000)),
            digest,
            scheme: DigestScheme::Native,
            sealed: None,
            source: Source { ip: "203.0.113.9".parse().ok(), user_agent: UserAgent::cut(AGENT) },
            cap: None,
            reissue: Reissue::New,
        };
        store.issue(&issue, NOW).await?;
        digests.push(digest);
    }
    println!("issued one after the other: {:.0}/s", TOKENS as f64 / begun.elapsed().as_secs_f64());
    println!("bytes per token: {}", (used(&mut bare).await? - before) / TOKENS as u64);

    let digests = Arc::new(digests);
    for tasks in [1, 16, 64] {
        let connection = bare.clone();
        let known = Arc::clone(&digests);
        rate("GET of the same driver", tasks, move |turn| {
            let mut connection = connection.clone();
            let key = [b"{cf}:d:".as_slice(), known[turn % known.len()].as_bytes()].concat();
            async move {
                let id: Option<Vec<u8>> = redis::cmd("GET").arg(key).query_async(&mut connection).await?;
                id.map(drop).ok_or_else(|| "nothing".into())
            }
        })
        .await?;
        let (store, known) = (Arc::clone(&store), Arc::clone(&digests));
        rate("find", tasks, move |turn| {
            let (store, digest) = (Arc::clone(&store), known[turn % known.len()]);
            async move {
                let found = store.find(&Candidates::Native(digest)).await?;
                found.map(drop).ok_or_else(|| "nothing".into())
            }
        })
        .await?;
    }
    Ok(())
}
