//! IMPORT: how long a million tokens take to come over from a Django project in SQLite, and how much memory.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use sha2::{Digest, Sha256};

use crate::report::{Goal, Row};
use crate::server::binary;

/// Of the first and of the second run, whose memory should be the same.
const TOKENS: [i64; 2] = [100_000, 1_000_000];
const TOKENS_PER_USER: i64 = 10;

pub(crate) fn run() -> Vec<Row> {
    let [few, many] = TOKENS.map(|tokens| {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("project.sqlite3");
        make(&source, tokens);
        let first = import(directory.path(), &source);
        let again = import(directory.path(), &source);
        (first, again)
    });
    let (tokens, users) = (TOKENS[1], TOKENS[1] / TOKENS_PER_USER);
    vec![
        Row {
            id: "IMPORT",
            what: "seconds for a million tokens",
            figure: many.0.took.as_secs_f64(),
            goal: Goal::AtMost(300.0),
            detail: format!(
                "{tokens} of durin's and {users} users from SQLite, {:.0} tokens/s; again, with nothing new: {:.0} s",
                tokens as f64 / many.0.took.as_secs_f64(),
                many.1.took.as_secs_f64()
            ),
        },
        Row {
            id: "IMPORT",
            what: "memory of that, over that of a tenth of it",
            figure: many.0.most / few.0.most,
            goal: Goal::AtMost(1.25),
            detail: format!(
                "at most {:.0} MiB resident, {:.0} MiB for {} tokens; again: {:.0} MiB, {:.0} MiB",
                many.0.most, few.0.most, TOKENS[0], many.1.most, few.1.most
            ),
        },
    ]
}

struct Measured {
    took: Duration,
    /// The most memory that was resident, in MiB.
    most: f64,
}

fn import(directory: &Path, source: &Path) -> Measured {
    let begun = Instant::now();
    let mut child = Command::new(binary())
        .args(["import", "django", "--json", "--data-dir"])
        .arg(directory.join("data"))
        .arg("--from")
        .arg(format!("sqlite:{}", source.display()))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut most: f64 = 0.0;
    let status = loop {
        most = most.max(resident(&child));
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    assert!(status.success(), "{status}");
    Measured { took: begun.elapsed(), most }
}

/// The most memory that the process has had resident so far, in MiB; nothing once it has ended.
fn resident(child: &Child) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// A project with durin's tables.
fn make(path: &Path, tokens: i64) {
    let mut database = Connection::open(path).unwrap();
    database
        .execute_batch(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
             CREATE TABLE auth_user (id integer PRIMARY KEY AUTOINCREMENT, password varchar(128) NOT NULL, last_login datetime,
               is_superuser bool NOT NULL, username varchar(150) NOT NULL UNIQUE, last_name varchar(150) NOT NULL,
               email varchar(254) NOT NULL, is_staff bool NOT NULL, is_active bool NOT NULL, date_joined datetime NOT NULL,
               first_name varchar(150) NOT NULL);
             CREATE TABLE durin_client (id integer PRIMARY KEY AUTOINCREMENT, name varchar(64) NOT NULL UNIQUE,
               token_ttl bigint NOT NULL, throttle_rate varchar(64) NOT NULL);
             CREATE TABLE durin_authtoken (id integer PRIMARY KEY AUTOINCREMENT, token varchar(64) NOT NULL UNIQUE,
               created datetime NOT NULL, expiry datetime NOT NULL, client_id integer NOT NULL, user_id integer NOT NULL);",
        )
        .unwrap();
    let transaction = database.transaction().unwrap();
    for client in 1..=TOKENS_PER_USER {
        let values = (client, format!("client{client}"));
        transaction.execute("INSERT INTO durin_client VALUES (?1, ?2, 315360000000000, '')", values).unwrap();
    }
    let hash = "pbkdf2_sha256$1000000$XW9Go2DA83K6KvwKv8wIfP$iTFIjnu6BetWp0iUYUZzcjfIQr6GbeFNDrx+rZRPgFw=";
    for user in 1..=tokens / TOKENS_PER_USER {
        let mut insert = transaction
            .prepare_cached(
                "INSERT INTO auth_user VALUES (?1, ?2, NULL, 0, ?3, 'Last', ?4, 0, 1, '2026-01-01 00:00:00.123456', 'First')",
            )
            .unwrap();
        insert.execute((user, hash, format!("user{user}"), format!("user{user}@example.org"))).unwrap();
    }
    for token in 1..=tokens {
        let mut insert = transaction
            .prepare_cached(
                "INSERT INTO durin_authtoken VALUES (?1, ?2, '2026-01-01 00:00:00.123456', '2036-01-01 00:00:00.123456', ?3, ?4)",
            )
            .unwrap();
        let text: String = Sha256::digest(token.to_be_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        let (client, user) = (token % TOKENS_PER_USER + 1, (token - 1) / TOKENS_PER_USER + 1);
        insert.execute((token, text, client, user)).unwrap();
    }
    transaction.commit().unwrap();
}
