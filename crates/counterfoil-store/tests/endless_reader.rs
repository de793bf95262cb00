//! What becomes of the write-ahead log when another process reads without end.
#![cfg(all(feature = "sqlite", unix))]

mod office;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use counterfoil_core::TokenStore;
use counterfoil_core::conformance::wait;
use counterfoil_store::SqliteStore;
use office::{Office, child};
use rusqlite::Connection;

const MIB: u64 = 1024 * 1024;

/// What was logged, for the test to read.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn times(&self, what: &str) -> usize {
        let log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&log).matches(what).count()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
#[ignore = "run by another, in a process of its own"]
fn child_that_reads_until_its_stdin_ends() {
    let here = std::env::current_dir().expect("a directory");
    let reader = Connection::open(here.join("counterfoil.db")).expect("a connection");
    let reading = reader.unchecked_transaction().expect("a transaction");
    let tokens: i64 = reading.query_row("SELECT count(*) FROM tokens", [], |row| row.get(0)).expect("a count");
    println!("\nreading {tokens}");
    io::stdin().read_to_end(&mut Vec::new()).expect("an end");
}

/// Writes so much in one transaction. The store's own writes would take minutes to.
fn write_a_lot(office: &Office, bytes: u64) {
    let writer = Connection::open(office.file("counterfoil.db")).expect("a connection");
    writer.execute_batch("PRAGMA wal_autocheckpoint = 0; PRAGMA synchronous = OFF").expect("set");
    writer
        .execute_batch(&format!(
            "CREATE TABLE ballast (bytes BLOB); INSERT INTO ballast VALUES (zeroblob({bytes})); DROP TABLE ballast"
        ))
        .expect("written");
}

/// Commits until `done`. Each tends the log; a checkpoint of the other thread may be in the way of one.
fn commit_until(store: &SqliteStore, done: impl Fn() -> bool) -> bool {
    (0..200).any(|_| {
        wait(store.ready());
        done()
    })
}

#[test]
fn f07_an_endless_reader_in_another_process_is_told_of_once_with_the_size_and_the_log_recovers_after_it() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).init();
    let office = Office::new();
    let store = office.serve();
    office.issue(&store, "ada");

    // Without such a reader the log is begun anew however much is written.
    for _ in 0..3 {
        write_a_lot(&office, 70 * MIB);
        assert!(commit_until(&store, || store.write_ahead_bytes() <= 80 * MIB), "{}", store.write_ahead_bytes());
    }
    assert_eq!(log.times("cannot be begun anew"), 0);

    for _ in 0..2 {
        let told = log.times("cannot be begun anew");
        let mut reader = child("child_that_reads_until_its_stdin_ends", office.path(), &[]).spawn().expect("a reader");
        let mut lines = BufReader::new(reader.stdout.take().expect("stdout")).lines().map_while(Result::ok);
        let reading = lines.find(|line| line.starts_with("reading "));
        assert_eq!(reading.as_deref(), Some("reading 1"));
        for _ in 0..3 {
            write_a_lot(&office, 50 * MIB);
            wait(store.ready());
        }
        assert!(commit_until(&store, || log.times("cannot be begun anew") > told), "told");
        assert!(store.write_ahead_bytes() > 128 * MIB, "{}", store.write_ahead_bytes());
        write_a_lot(&office, MIB);
        commit_until(&store, || false);
        assert_eq!(log.times("cannot be begun anew"), told + 1, "once");
        office.issue(&store, "ada");

        let recovered = log.times("was begun anew");
        drop(reader.stdin.take());
        assert!(reader.wait().expect("it ends").success());
        // The log begins anew, and its file is cut to what it may keep.
        assert!(commit_until(&store, || store.write_ahead_bytes() <= 64 * MIB), "{}", store.write_ahead_bytes());
        assert!(commit_until(&store, || log.times("was begun anew") > recovered), "told");
        // For the next turn the reader is to find one token again.
        Connection::open(office.file("counterfoil.db"))
            .and_then(|writer| writer.execute("DELETE FROM tokens WHERE number > 1", []))
            .expect("deleted");
    }
}
