//! P10: a whole `authenticate` on SQLite that no cache answers, against the bare look-up of the same digest.

use std::sync::Arc;
use std::time::Instant;

use counterfoil_core::{Source, TokenDigest};
use counterfoil_store::{OpenOptions, SqliteStore};
use rusqlite::{Connection, OpenFlags};

use crate::deployment::{Deployment, database};
use crate::machine::{at_once, authority, now};
use crate::report::{Goal, Row, percentile};

/// How many of the tokens are looked up; all that there are, if there are fewer.
const KNOWN: usize = 200_000;
const LOOK_UPS: usize = 100_000;

pub(crate) fn run() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut medians = Vec::new();
    for (count, what) in [
        (1_000_000, "authenticate / bare rusqlite look-up, p50, 1M rows"),
        (10_000_000, "authenticate / bare rusqlite look-up, p50, 10M rows"),
    ] {
        let (ours, bare) = measure(&Deployment::of(count));
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

/// Medians of `authenticate` and of the bare look-up, in turn, each with a token of its own.
pub(crate) fn measure(deployment: &Deployment) -> (f64, f64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let directory = deployment.directory();
    let texts = deployment.sample(KNOWN.min(deployment.count()));
    let store = Arc::new(SqliteStore::open(directory, &OpenOptions::serve()).unwrap());
    let authority = runtime.block_on(authority(store.clone(), store.clone()));
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
