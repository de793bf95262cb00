//! P13 and P16: several nodes on one PostgreSQL. What a look-up costs against the bare driver, how many revocations a second one node
//! makes, how soon the others know, and what a check costs where most are answered from memory. And what a look-up costs where the
//! tokens are in Redis.

mod redis;

use std::num::NonZeroUsize;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use counterfoil::OsEntropy;
use counterfoil::postgres::{ConnectOptions, PostgresStore};
use counterfoil_core::authority::{Expiry, TokenOrder};
use counterfoil_core::cache::Cache;
use counterfoil_core::token::Metadata;
use counterfoil_core::{Abilities, Authority, By, Kind, Source, TokenDigest, TokenId};
use counterfoil_lab::postgres::{Options, Server as Postgres};
use tokio::runtime::Runtime;
use tokio_postgres::types::Type;
use tokio_postgres::{NoTls, Statement};

use crate::load;
use crate::machine::{authority, now};
use crate::report::{Goal, Row, percentile};
use crate::server::{Connection, Server};

/// Tokens that are looked up.
const STORED: usize = 20_000;
const LOOK_UPS: usize = 20_000;
/// Callers of the throughput of look-ups.
const AT_ONCE: usize = 64;
const NODES: usize = 3;
/// Of each node.
const CLIENTS: usize = 4;
/// Tokens that are used most of the time, so that they are answered from memory.
const HOT: usize = 1_000;
const TURN: Duration = Duration::from_secs(10);

pub(crate) fn run() -> Vec<Row> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    // As an operator has it: each commit is on disk before it is acknowledged.
    let server = Options::new().durable().set("max_connections", "200").start();
    let database = server.database();
    let stored = runtime.block_on(Stored::fill(&server, database.url()));
    let mut rows = runtime.block_on(misses(database.url(), &stored));
    rows.extend(runtime.block_on(revocations(&server, database.url())));
    rows.extend(visibility(&runtime, database.url()));
    rows.extend(checks(&runtime, database.url(), &stored));
    runtime.block_on(stored.store.close());
    drop(server);
    rows.extend(runtime.block_on(redis::misses()));
    rows
}

/// A store with tokens in it.
struct Stored {
    store: Arc<PostgresStore>,
    authority: Arc<Authority>,
    texts: Vec<String>,
}

impl Stored {
    async fn fill(server: &Postgres, url: &str) -> Stored {
        let store = Arc::new(PostgresStore::connect(url, &ConnectOptions::default()).await.unwrap());
        let authority = Arc::new(authority(store.clone(), store.clone()).await);
        let texts = issue_to_postgres(server, &authority, STORED).await.into_iter().map(|(text, _)| text).collect();
        Stored { store, authority, texts }
    }
}

/// Issues tokens without waiting for the disk: that is not what is measured.
async fn issue_to_postgres(server: &Postgres, authority: &Arc<Authority>, count: usize) -> Vec<(String, TokenId)> {
    server.set("synchronous_commit", "off");
    let issued = issue(authority, count, 1).await;
    server.set("synchronous_commit", "on");
    issued
}

/// Issues tokens, so many to each subject.
async fn issue(authority: &Arc<Authority>, count: usize, each: usize) -> Vec<(String, TokenId)> {
    let callers = (0..8).map(|caller| {
        let authority = Arc::clone(authority);
        tokio::spawn(async move {
            let mut issued = Vec::new();
            for number in 0..count / 8 {
                let order = TokenOrder {
                    kind: Kind::Login,
                    subject: format!("subject-{}", (caller * count / 8 + number) / each).parse().unwrap(),
                    client: None,
                    name: None,
                    abilities: Abilities::everything(),
                    metadata: Metadata::default(),
                    expiry: Expiry::ByPolicy,
                };
                let one = authority.issue(order, &By::operator(), now()).await.unwrap();
                issued.push((one.secret.expose().to_owned(), one.token.id));
            }
            issued
        })
    });
    let callers: Vec<_> = callers.collect();
    let mut issued = Vec::new();
    for caller in callers {
        issued.extend(caller.await.unwrap());
    }
    issued
}

/// The driver as a program would use it: one statement that is prepared, by digest, with the row that is needed.
const BARE: &str = "SELECT id, subject, expires_at, revoked_at FROM tokens WHERE digest = $1";

async fn bare(url: &str) -> (tokio_postgres::Client, Statement) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let statement = client.prepare_typed(BARE, &[Type::BYTEA]).await.unwrap();
    (client, statement)
}

async fn look_up(client: &tokio_postgres::Client, statement: &Statement, text: &str) {
    let digest = TokenDigest::of_text(text);
    let row = client.query_one(statement, &[&digest.as_bytes().as_slice()]).await.unwrap();
    let _expires: Option<i64> = row.get(2);
}

async fn misses(url: &str, stored: &Stored) -> Vec<Row> {
    let (client, statement) = bare(url).await;
    let in_turn =
        in_turn(&stored.authority, &stored.texts, async |text| look_up(&client, &statement, text).await).await;
    let pipelined = {
        let driver = Arc::new((client, statement));
        per_second(
            &stored.texts,
            |_| Arc::clone(&driver),
            |driver, text| async move {
                look_up(&driver.0, &driver.1, &text).await;
            },
        )
        .await
    };
    let mut pool = Vec::new();
    for _ in 0..32 {
        pool.push(Arc::new(bare(url).await));
    }
    let pooled = per_second(
        &stored.texts,
        |caller| Arc::clone(&pool[caller % pool.len()]),
        |driver, text| async move {
            look_up(&driver.0, &driver.1, &text).await;
        },
    )
    .await;
    let whole = authenticated_per_second(&stored.authority, &stored.texts).await;
    vec![
        in_turn.beside("a miss on PostgreSQL / the bare driver, p50"),
        Row {
            id: "P16",
            what: "misses per second / the bare driver, one pipelined connection",
            figure: whole / pipelined,
            goal: Goal::Told,
            detail: format!("{whole:.0}/s / {pipelined:.0}/s, {AT_ONCE} callers; a pool of 32: {pooled:.0}/s"),
        },
    ]
}

/// What one question took, ours and the driver's, in nanoseconds (p50).
struct InTurn {
    ours: f64,
    theirs: f64,
}

impl InTurn {
    fn beside(&self, what: &'static str) -> Row {
        let detail = format!("{:.0} µs / {:.0} µs, one after the other", self.ours / 1e3, self.theirs / 1e3);
        Row { id: "P16", what, figure: self.ours / self.theirs, goal: Goal::AtMost(1.5), detail }
    }
}

/// Asks about a token of ours and about another one by the driver, in turn.
async fn in_turn(authority: &Authority, texts: &[String], driver: impl AsyncFn(&str)) -> InTurn {
    let source = Source::default();
    let (mut ours, mut theirs) = (Vec::with_capacity(LOOK_UPS), Vec::with_capacity(LOOK_UPS));
    for step in 0..LOOK_UPS {
        let text = &texts[step * 7_919 % texts.len()];
        let begun = Instant::now();
        authority.authenticate(text, &source, now()).await.unwrap();
        ours.push(begun.elapsed().as_nanos() as u64);
        let text = &texts[(step * 7_919 + texts.len() / 2) % texts.len()];
        let begun = Instant::now();
        driver(text).await;
        theirs.push(begun.elapsed().as_nanos() as u64);
    }
    InTurn { ours: percentile(&mut ours, 0.5), theirs: percentile(&mut theirs, 0.5) }
}

async fn authenticated_per_second(authority: &Arc<Authority>, texts: &[String]) -> f64 {
    per_second(
        texts,
        |_| Arc::clone(authority),
        |authority, text| async move {
            authority.authenticate(&text, &Source::default(), now()).await.unwrap();
        },
    )
    .await
}

async fn per_second<D, F>(
    texts: &[String],
    driver_of: impl Fn(usize) -> D,
    ask: impl Fn(D, String) -> F + Copy + Send + 'static,
) -> f64
where
    D: Clone + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let texts = Arc::new(texts.to_vec());
    let begun = Instant::now();
    let callers: Vec<_> = (0..AT_ONCE)
        .map(|caller| {
            let (driver, texts) = (driver_of(caller), Arc::clone(&texts));
            tokio::spawn(async move {
                for step in 0..LOOK_UPS / AT_ONCE {
                    ask(driver.clone(), texts[(caller * 31 + step * 7_919) % texts.len()].clone()).await;
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    (LOOK_UPS / AT_ONCE * AT_ONCE) as f64 / begun.elapsed().as_secs_f64()
}

/// Revocations by a node that answers from memory: each is applied here before it is acknowledged.
async fn revocations(server: &Postgres, url: &str) -> Vec<Row> {
    let store = Arc::new(PostgresStore::connect(url, &ConnectOptions::default()).await.unwrap());
    let cache = Cache::new(NonZeroUsize::new(200_000).unwrap(), &OsEntropy).unwrap();
    let node = Arc::new(authority(store.clone(), store.clone()).await.with_cache(cache));
    node.follow(now()).await.unwrap();
    let mut rows = Vec::new();
    for (callers, each, what, goal) in [
        (1, 1_000, "revocations per second, 1 caller", Goal::Told),
        (8, 1_000, "revocations per second, 8 callers", Goal::Told),
        (32, 1_000, "revocations per second, 32 callers", Goal::AtLeast(10_000.0)),
    ] {
        let mut ids: Vec<TokenId> =
            issue_to_postgres(server, &node, callers * each).await.into_iter().map(|(_, id)| id).collect();
        let begun = Instant::now();
        let revoking: Vec<_> = (0..callers)
            .map(|_| {
                let (node, ids) = (Arc::clone(&node), ids.split_off(ids.len() - each));
                tokio::spawn(async move {
                    for id in ids {
                        node.revoke_any(id, &By::operator(), now()).await.unwrap();
                    }
                })
            })
            .collect();
        for caller in revoking {
            caller.await.unwrap();
        }
        let rate = (callers * each) as f64 / begun.elapsed().as_secs_f64();
        let detail = "acknowledged: on disk, and refused here".to_owned();
        rows.push(Row { id: "P16", what, figure: rate, goal, detail });
    }
    store.close().await;
    rows
}

/// A node: a service of one route behind the layer.
fn node(url: &str) -> Server {
    Server::start(Command::new(std::env::current_exe().unwrap()).arg("protected").arg(url))
}

fn ask(connection: &mut Connection, text: &str) -> u16 {
    let request = String::from_utf8(load::get("/protected", &format!("authorization: Bearer {text}"))).unwrap();
    connection.ask(&request).unwrap().0
}

/// How long after a revocation was acknowledged another node still says yes.
fn visibility(runtime: &Runtime, url: &str) -> Vec<Row> {
    const TIMES: usize = 300;
    let other = node(url);
    let mut connection = Connection::open(other.address).unwrap();
    let store = runtime.block_on(PostgresStore::connect(url, &ConnectOptions::default())).unwrap();
    let store = Arc::new(store);
    let here = Arc::new(runtime.block_on(authority(store.clone(), store.clone())));
    let order = || TokenOrder::login("visible".parse().unwrap());
    let mut seen = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let issued = runtime.block_on(here.issue(order(), &By::operator(), now())).unwrap();
        let text = issued.secret.expose();
        // The second time from memory.
        assert_eq!((ask(&mut connection, text), ask(&mut connection, text)), (200, 200));
        runtime.block_on(here.revoke_any(issued.token.id, &By::operator(), now())).unwrap();
        let acknowledged = Instant::now();
        let last = loop {
            let begun = acknowledged.elapsed();
            if ask(&mut connection, text) == 401 {
                break begun;
            }
        };
        seen.push(last.as_nanos() as u64);
        thread::sleep(Duration::from_millis(20));
    }
    other.stop();
    let (half, most) = (percentile(&mut seen, 0.5) / 1e6, percentile(&mut seen, 0.99) / 1e6);
    vec![Row {
        id: "P13",
        what: "ms until another node refuses what was revoked, p99",
        figure: most,
        goal: Goal::AtMost(5.0),
        detail: format!("p50 {half:.2} ms, longest {:.2} ms of {TIMES}", percentile(&mut seen, 1.0) / 1e6),
    }]
}

/// Three nodes, and clients that ask them as fast as they are answered: of a hundred requests 95 with a token that is known there and 4
/// with one that it has not been asked about; one is a write, a token issued or revoked in turn, for which the client waits as for the others.
fn checks(runtime: &Runtime, url: &str, stored: &Stored) -> Vec<Row> {
    let nodes: Vec<Server> = (0..NODES).map(|_| node(url)).collect();
    let clients = NODES * CLIENTS;
    let (ready, over) = (Barrier::new(clients + 1), AtomicBool::new(false));
    let unknown: Vec<AtomicUsize> = nodes.iter().map(|_| AtomicUsize::new(HOT)).collect();
    let cpu = || nodes.iter().map(Server::cpu_nanoseconds).sum::<u64>();
    let (mut checks, mut writes, mut elapsed, mut used) = (Vec::new(), Vec::new(), 0.0, 0.0);
    thread::scope(|scope| {
        let running: Vec<_> = (0..clients)
            .map(|number| {
                let (address, unknown) = (nodes[number % NODES].address, &unknown[number % NODES]);
                let client = Client { number, runtime, stored, unknown, ready: &ready, over: &over };
                scope.spawn(move || client.asks(Connection::open(address).unwrap()))
            })
            .collect();
        ready.wait();
        let (begun, before) = (Instant::now(), cpu());
        thread::sleep(TURN);
        (elapsed, used) = (begun.elapsed().as_secs_f64(), (cpu() - before) as f64 / 1e9);
        over.store(true, Ordering::Relaxed);
        for one in running {
            let asked = one.join().unwrap();
            checks.extend(asked.checks);
            writes.extend(asked.writes);
        }
    });
    nodes.into_iter().for_each(Server::stop);
    let (answered, written) = (checks.len(), writes.len());
    let millis = |taken: &mut Vec<u64>, share| percentile(taken, share) / 1e6;
    vec![
        Row {
            id: "P16",
            what: "checks per second for each core that the nodes used",
            figure: answered as f64 / used,
            goal: Goal::AtLeast(20_000.0),
            detail: format!(
                "{:.0}/s in all by {NODES} nodes that used {:.2} cores; database and clients are on the same machine",
                answered as f64 / elapsed,
                used / elapsed
            ),
        },
        Row {
            id: "P16",
            what: "ms of a check, p99",
            figure: millis(&mut checks, 0.99),
            goal: Goal::AtMost(5.0),
            detail: format!(
                "p50 {:.3} ms; {written} writes beside {answered} checks, p50 {:.1} ms",
                millis(&mut checks, 0.5),
                millis(&mut writes, 0.5)
            ),
        },
    ]
}

/// What a client's requests took, in nanoseconds.
#[derive(Default)]
struct Asked {
    checks: Vec<u64>,
    writes: Vec<u64>,
}

/// Who asks one node.
struct Client<'a> {
    number: usize,
    runtime: &'a Runtime,
    stored: &'a Stored,
    /// The first token that the node has not been asked about.
    unknown: &'a AtomicUsize,
    ready: &'a Barrier,
    over: &'a AtomicBool,
}

impl Client<'_> {
    fn asks(&self, mut connection: Connection) -> Asked {
        let texts = &self.stored.texts;
        for text in &texts[..HOT] {
            ask(&mut connection, text);
        }
        self.ready.wait();
        let (mut asked, mut to_revoke) = (Asked::default(), None);
        for step in self.number * 100 / (NODES * CLIENTS).. {
            if self.over.load(Ordering::Relaxed) {
                break;
            }
            let begun = Instant::now();
            if step % 100 == 99 {
                to_revoke = self.write(to_revoke);
                asked.writes.push(begun.elapsed().as_nanos() as u64);
                continue;
            }
            let place = if step % 100 < 95 { step * 7_919 % HOT } else { self.unknown.fetch_add(1, Ordering::Relaxed) };
            assert_eq!(ask(&mut connection, &texts[place % texts.len()]), 200);
            asked.checks.push(begun.elapsed().as_nanos() as u64);
        }
        asked
    }

    /// Issues a token, or revokes the one that was issued last.
    fn write(&self, to_revoke: Option<TokenId>) -> Option<TokenId> {
        let Stored { authority, .. } = self.stored;
        match to_revoke {
            None => {
                let order = TokenOrder::login("written".parse().unwrap());
                let issued = self.runtime.block_on(authority.issue(order, &By::operator(), now())).unwrap();
                Some(issued.token.id)
            }
            Some(id) => {
                self.runtime.block_on(authority.revoke_any(id, &By::operator(), now())).unwrap();
                None
            }
        }
    }
}
