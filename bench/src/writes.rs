//! P11: marks are written in batches and tokens in groups, because a commit costs what a disk costs.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use counterfoil_core::authority::{Expiry, TokenOrder};
use counterfoil_core::store::Touch;
use counterfoil_core::token::Metadata;
use counterfoil_core::{Abilities, Authority, By, Kind, Sighting, Source, TokenId, TokenStore};
use counterfoil_store::{OpenOptions, SqliteStore};
use rusqlite::Connection;

use crate::deployment::{Deployment, database};
use crate::machine::{at_once, authority, now};
use crate::report::{Goal, Row};

const MARKS: usize = 10_000;
const SINGLY: usize = 200;
const GROUPED: usize = 20_000;
const CALLERS: usize = 128;

pub(crate) fn run() -> Vec<Row> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let deployment = Deployment::of(1_000_000);
    runtime.block_on(measure(deployment.directory(), &deployment.sample(1_000)))
}

async fn measure(directory: &Path, known: &[&str]) -> Vec<Row> {
    let ids: Vec<TokenId> = Connection::open(database(directory))
        .unwrap()
        .prepare("SELECT id FROM tokens WHERE number % 100 = 0")
        .unwrap()
        .query_map([], |row| row.get::<_, [u8; 16]>(0))
        .unwrap()
        .map(|id| TokenId::from_bytes(id.unwrap()))
        .take(MARKS)
        .collect();
    let store = Arc::new(SqliteStore::open(directory, &OpenOptions::serve()).unwrap());
    let authority = Arc::new(authority(store.clone(), store.clone()).await);

    // The request path: nothing is committed while tokens are authenticated.
    let commits = || -> i64 {
        let connection = Connection::open(database(directory)).unwrap();
        connection.query_row("SELECT commits FROM deployment", [], |row| row.get(0)).unwrap()
    };
    let before = commits();
    for text in known {
        at_once(authority.authenticate(text, &Source::default(), now())).unwrap();
    }
    let written = commits() - before;

    let touches: Vec<Touch> = ids
        .iter()
        .map(|&id| Touch { id, seen: Sighting { at: now().wall, source: Source::default() }, renew_until: None })
        .collect();
    let begun = Instant::now();
    store.touch(&touches, now().wall).await.unwrap();
    let each = begun.elapsed().as_secs_f64() * 1e6 / touches.len() as f64;

    let begun = Instant::now();
    for _ in 0..SINGLY {
        issue(&authority).await;
    }
    let singly = SINGLY as f64 / begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let authority = Arc::clone(&authority);
            tokio::spawn(async move {
                for _ in 0..GROUPED / CALLERS {
                    issue(&authority).await;
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let grouped = (GROUPED / CALLERS * CALLERS) as f64 / begun.elapsed().as_secs_f64();
    store.close();
    vec![
        Row {
            id: "P11",
            what: "commits while 1,000 tokens were authenticated",
            figure: written as f64,
            goal: Goal::AtMost(0.0),
            detail: format!(
                "their marks wait in memory; {MARKS} written in one transaction: {each:.1} µs each at 1M rows"
            ),
        },
        Row {
            id: "P11",
            what: "tokens issued per second by 128 callers / by one",
            figure: grouped / singly,
            goal: Goal::AtLeast(5.0),
            detail: format!("{grouped:.0}/s / {singly:.0}/s, synchronous = FULL, 1M rows"),
        },
    ]
}

async fn issue(authority: &Authority) {
    let order = TokenOrder {
        kind: Kind::Login,
        subject: "subject-0000000001".parse().unwrap(),
        client: None,
        name: None,
        abilities: Abilities::everything(),
        metadata: Metadata::default(),
        expiry: Expiry::ByPolicy,
    };
    authority.issue(order, &By::operator(), now()).await.unwrap();
}
