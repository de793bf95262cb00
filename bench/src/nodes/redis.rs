//! What a look-up costs where the tokens are in Redis, beside a bare GET of the same driver, and how many bytes a token takes there.

use std::sync::Arc;

use counterfoil::OsEntropy;
use counterfoil_core::TokenDigest;
use counterfoil_core::memory::MemoryStore;
use counterfoil_lab::redis::Server;
use counterfoil_store::RedisStore;
use redis::aio::MultiplexedConnection;

use super::{AT_ONCE, STORED, authenticated_per_second, in_turn, issue, per_second};
use crate::machine::authority;
use crate::report::{Goal, Row};

/// Tokens of one subject.
const EACH: usize = 10;

/// As a program would that keeps the least: one key for each token, by digest.
async fn look_up(connection: &MultiplexedConnection, text: &str) {
    let key = [b"{cf}:d:".as_slice(), TokenDigest::of_text(text).as_bytes()].concat();
    let id: Option<Vec<u8>> = redis::cmd("GET").arg(key).query_async(&mut connection.clone()).await.unwrap();
    id.unwrap();
}

/// What the server's data takes, without what the server takes by itself.
async fn bytes(connection: &MultiplexedConnection) -> u64 {
    let about: String = redis::cmd("INFO").arg("memory").query_async(&mut connection.clone()).await.unwrap();
    about.lines().find_map(|line| line.strip_prefix("used_memory_dataset:")?.parse().ok()).unwrap()
}

pub(super) async fn misses() -> Vec<Row> {
    let server = Server::start();
    let store = RedisStore::connect(server.url().parse().unwrap(), Arc::new(OsEntropy)).await.unwrap();
    let authority = Arc::new(authority(Arc::new(store), Arc::new(MemoryStore::new())).await);
    let client = redis::Client::open(server.url()).unwrap();
    let driver = client.get_multiplexed_async_connection().await.unwrap();
    let before = bytes(&driver).await;
    let texts: Vec<String> = issue(&authority, STORED, EACH).await.into_iter().map(|(text, _)| text).collect();
    let each = (bytes(&driver).await - before) as f64 / texts.len() as f64;
    let in_turn = in_turn(&authority, &texts, async |text| look_up(&driver, text).await).await;
    let ask = |driver, text: String| async move { look_up(&driver, &text).await };
    let theirs = per_second(&texts, |_| driver.clone(), ask).await;
    let ours = authenticated_per_second(&authority, &texts).await;
    vec![
        in_turn.beside("a miss on Redis / a GET of the bare driver, p50"),
        Row {
            id: "P16",
            what: "misses per second on Redis / a GET of the bare driver",
            figure: ours / theirs,
            goal: Goal::Told,
            detail: format!("{ours:.0}/s / {theirs:.0}/s, {AT_ONCE} callers, one pipelined connection each"),
        },
        Row {
            id: "P16",
            what: "bytes that a token takes in Redis",
            figure: each,
            goal: Goal::Told,
            detail: format!("{STORED} tokens, {EACH} to a subject, the subject included"),
        },
    ]
}
