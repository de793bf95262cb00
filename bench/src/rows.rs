//! P10: a whole `authenticate` on SQLite against the bare look-up of the same digest, at 1M and 10M rows.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use counterfoil::OsEntropy;
use counterfoil_core::{CheckKey, Prefix, Source, TokenDigest, TokenFormat};
use counterfoil_store::{OpenOptions, SqliteStore};
use rusqlite::{Connection, OpenFlags, params};

use crate::machine::{at_once, authority, now};
use crate::report::{Goal, Row, percentile};

/// How many of the rows have a text that is known here; the look-ups draw from these.
const KNOWN: usize = 200_000;
const LOOK_UPS: usize = 100_000;

pub(crate) fn run() -> Vec<Row> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut rows = Vec::new();
    let mut medians = Vec::new();
    let mut filled = 0;
    let mut known = Vec::new();
    for (count, what) in [
        (1_000_000, "authenticate / bare rusqlite look-up, p50, 1M rows"),
        (10_000_000, "authenticate / bare rusqlite look-up, p50, 10M rows"),
    ] {
        if filled == 0 {
            runtime.block_on(make(directory.path()));
        }
        let begun = Instant::now();
        known.extend(fill(directory.path(), filled, count, KNOWN - known.len()));
        filled = count;
        println!("  {count} rows after {:.0} s", begun.elapsed().as_secs_f64());
        let (ours, bare) = runtime.block_on(measure(directory.path(), &known));
        rows.push(Row {
            id: "P10",
            what,
            figure: ours / bare,
            goal: Goal::AtMost(2.0),
            detail: format!("{:.2} µs / {:.2} µs", ours / 1e3, bare / 1e3),
        });
        medians.push(ours);
    }
    rows.push(Row {
        id: "P10",
        what: "authenticate at 10M rows / at 1M rows, p50",
        figure: medians[1] / medians[0],
        goal: Goal::AtMost(1.3),
        detail: format!("{:.2} µs / {:.2} µs", medians[1] / 1e3, medians[0] / 1e3),
    });
    rows
}

pub(crate) fn database(directory: &Path) -> std::path::PathBuf {
    directory.join("counterfoil.db")
}

/// An empty deployment with its schema, check key and default client.
pub(crate) async fn make(directory: &Path) {
    let store = Arc::new(SqliteStore::open(directory, &OpenOptions::serve()).unwrap());
    drop(authority(store.clone(), store.clone()).await);
    store.close();
}

/// Brings the table to `upto` rows by plain SQL, indexes last, and returns the texts of `known` of them.
pub(crate) fn fill(directory: &Path, from: usize, upto: usize, known: usize) -> Vec<String> {
    let connection = Connection::open(database(directory)).unwrap();
    connection
        .execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -2000000;")
        .unwrap();
    let key: [u8; 16] =
        connection.query_row("SELECT key FROM check_keys ORDER BY number DESC", [], |row| row.get(0)).unwrap();
    let format = TokenFormat::new(CheckKey::from_bytes(key), Vec::new(), Vec::new());
    let indexes: Vec<(String, String)> = connection
        .prepare("SELECT name, sql FROM sqlite_master WHERE tbl_name = 'tokens' AND type = 'index' AND sql IS NOT NULL")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    for (name, _) in &indexes {
        connection.execute_batch(&format!("DROP INDEX {name}")).unwrap();
    }
    let client: i64 = connection.query_row("SELECT key FROM clients", [], |row| row.get(0)).unwrap();
    let subjects = (from / 10, upto / 10);
    let mut texts = Vec::with_capacity(known);
    connection.execute_batch("BEGIN").unwrap();
    {
        let mut subject = connection.prepare("INSERT INTO subjects (key, name) VALUES (?1, ?2)").unwrap();
        for number in subjects.0..subjects.1 {
            subject.execute(params![number as i64 + 1, format!("subject-{number:010}")]).unwrap();
        }
        let mut token = connection
            .prepare(
                "INSERT INTO tokens (id, kind, subject, client, digest, scheme, abilities, issued_at, expires_at,
                     subject_epoch, client_epoch, deployment_epoch, metadata)
                 VALUES (?1, 'login', ?2, ?3, ?4, 'native', '*', ?5, ?6, 0, 0, 0, '{}')",
            )
            .unwrap();
        let issued_at = now().wall.millis();
        let every = (upto - from) / known.max(1);
        for number in from..upto {
            let digest = if known > 0 && number % every == 0 && texts.len() < known {
                let secret = format.mint(&Prefix::default(), &OsEntropy).unwrap();
                texts.push(secret.expose().to_owned());
                *secret.digest().as_bytes()
            } else {
                let mut random = [0; 32];
                getrandom::fill(&mut random).unwrap();
                random
            };
            let mut id = [0; 16];
            id[..8].copy_from_slice(&(number as u64).to_be_bytes());
            let subject = (number as i64).wrapping_mul(7_919).rem_euclid(subjects.1 as i64) + 1;
            let expires_at = issued_at + 86_400_000;
            token.execute(params![id, subject, client, digest, issued_at, expires_at]).unwrap();
        }
    }
    connection.execute_batch("COMMIT").unwrap();
    for (_, sql) in &indexes {
        connection.execute_batch(sql).unwrap();
    }
    connection.execute_batch("PRAGMA journal_mode = WAL").unwrap();
    texts
}

/// Medians of `authenticate` and of the bare look-up, in turn, each with a token of its own.
async fn measure(directory: &Path, texts: &[String]) -> (f64, f64) {
    let store = Arc::new(SqliteStore::open(directory, &OpenOptions::serve()).unwrap());
    let authority = authority(store.clone(), store.clone()).await;
    let bare = Connection::open_with_flags(database(directory), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut look_up = bare.prepare("SELECT id, subject, expires_at, revoked_at FROM tokens WHERE digest = ?1").unwrap();
    let mut look_up = |text: &str| -> i64 {
        let digest = TokenDigest::of_text(text);
        look_up
            .query_row([digest.as_bytes()], |row| {
                let _id: [u8; 16] = row.get(0)?;
                let _expires: Option<i64> = row.get(2)?;
                let _revoked: Option<i64> = row.get(3)?;
                row.get(1)
            })
            .unwrap()
    };
    let source = Source::default();
    let (mut ours, mut theirs) = (Vec::with_capacity(LOOK_UPS), Vec::with_capacity(LOOK_UPS));
    // Strides that visit the known texts in an order that is neither's cache's friend.
    for step in 0..LOOK_UPS {
        let ours_text = &texts[step * 7_919 % texts.len()];
        let begun = Instant::now();
        at_once(authority.authenticate(ours_text, &source, now())).unwrap();
        ours.push(begun.elapsed().as_nanos() as u64);
        let their_text = &texts[(step * 7_919 + texts.len() / 2) % texts.len()];
        let begun = Instant::now();
        look_up(their_text);
        theirs.push(begun.elapsed().as_nanos() as u64);
    }
    store.close();
    (percentile(&mut ours, 0.5), percentile(&mut theirs, 0.5))
}
