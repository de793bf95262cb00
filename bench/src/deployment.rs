//! Deployments of one thousand to ten million tokens on SQLite whose secrets are all known. Each is made once per run.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use counterfoil::OsEntropy;
use counterfoil_core::{CheckKey, Prefix, TokenFormat, TokenId};
use counterfoil_store::{OpenOptions, SqliteStore};
use rusqlite::{Connection, params};
use tempfile::TempDir;

use crate::machine::{authority, now};

/// Every subject has so many.
const TOKENS_PER_SUBJECT: usize = 10;
/// The text of a token with the prefix `cf_`.
const TEXT_BYTES: usize = 52;

pub(crate) struct Deployment {
    directory: TempDir,
    texts: Vec<u8>,
}

static MADE: Mutex<BTreeMap<usize, Arc<Deployment>>> = Mutex::new(BTreeMap::new());

/// Removes what was made: nothing that is static is dropped.
pub(crate) fn forget_all() {
    MADE.lock().unwrap().clear();
}

impl Deployment {
    /// The one with `count` tokens.
    pub(crate) fn of(count: usize) -> Arc<Deployment> {
        Arc::clone(MADE.lock().unwrap().entry(count).or_insert_with(|| {
            let begun = Instant::now();
            let deployment = Deployment::make(count);
            println!("  {count} tokens made in {:.0} s", begun.elapsed().as_secs_f64());
            Arc::new(deployment)
        }))
    }

    fn make(count: usize) -> Deployment {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Arc::new(SqliteStore::open(directory.path(), &OpenOptions::serve()).unwrap());
            drop(authority(store.clone(), store.clone()).await);
            store.close();
        });
        let texts = fill(directory.path(), count);
        Deployment { directory, texts }
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn count(&self) -> usize {
        self.texts.len() / TEXT_BYTES
    }

    pub(crate) fn text(&self, number: usize) -> &str {
        std::str::from_utf8(&self.texts[number * TEXT_BYTES..][..TEXT_BYTES]).unwrap()
    }

    /// `count` of them, evenly spread over the table.
    pub(crate) fn sample(&self, count: usize) -> Vec<&str> {
        (0..count).map(|number| self.text(number * (self.count() / count))).collect()
    }

    pub(crate) fn megabytes(&self) -> f64 {
        std::fs::metadata(database(self.directory())).unwrap().len() as f64 / 1e6
    }
}

pub(crate) fn database(directory: &Path) -> std::path::PathBuf {
    directory.join("counterfoil.db")
}

/// Brings the empty table to `count` rows by plain SQL, indexes last, and returns their texts, one behind the other.
fn fill(directory: &Path, count: usize) -> Vec<u8> {
    let connection = Connection::open(database(directory)).unwrap();
    connection
        .execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -2000000;")
        .unwrap();
    let key: [u8; 16] =
        connection.query_row("SELECT key FROM check_keys ORDER BY number DESC", [], |row| row.get(0)).unwrap();
    let format = TokenFormat::new(CheckKey::from_bytes(key), Vec::new(), &[]);
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
    let subjects = count.div_ceil(TOKENS_PER_SUBJECT);
    let mut texts = Vec::with_capacity(count * TEXT_BYTES);
    connection.execute_batch("BEGIN").unwrap();
    {
        let mut subject = connection.prepare("INSERT INTO subjects (key, name) VALUES (?1, ?2)").unwrap();
        for number in 0..subjects {
            subject.execute(params![number as i64 + 1, format!("subject-{number:010}")]).unwrap();
        }
        let mut token = connection
            .prepare(
                "INSERT INTO tokens (id, kind, subject, client, digest, scheme, abilities, issued_at, expires_at,
                     subject_epoch, client_epoch, deployment_epoch, metadata)
                 VALUES (?1, 'login', ?2, ?3, ?4, 'native', '*', ?5, ?6, 0, 0, 0, '{}')",
            )
            .unwrap();
        // Issued one after the other over the last hour.
        let begin = now().wall.minus_millis(3_600_000);
        for number in 0..count {
            let issued_at = begin.plus_millis((number as u64) * 3_600_000 / (count as u64));
            let secret = format.mint(&Prefix::default(), &OsEntropy).unwrap();
            assert_eq!(secret.expose().len(), TEXT_BYTES);
            texts.extend_from_slice(secret.expose().as_bytes());
            let id = TokenId::generate(issued_at, &OsEntropy).unwrap();
            let subject = (number as i64).wrapping_mul(7_919).rem_euclid(subjects as i64) + 1;
            let (issued_at, expires_at) = (issued_at.millis(), issued_at.millis() + 86_400_000);
            let digest = secret.digest();
            token.execute(params![id.as_bytes(), subject, client, digest.as_bytes(), issued_at, expires_at]).unwrap();
        }
    }
    connection.execute_batch("COMMIT").unwrap();
    for (_, sql) in &indexes {
        connection.execute_batch(sql).unwrap();
    }
    connection.execute_batch("PRAGMA journal_mode = WAL").unwrap();
    texts
}
