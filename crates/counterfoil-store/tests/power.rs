//! The power that goes at the worst moment after a process was killed.
#![cfg(all(feature = "sqlite", target_os = "linux"))]

mod office;

use std::fs;
use std::io::{BufRead, BufReader, Read};

use counterfoil_core::token::Standing;
use counterfoil_store::{OpenOptions, SqliteStore};
use office::{Office, child, copy_of, revoke, standing};

#[test]
#[ignore = "run by another, in a process of its own"]
fn child_that_serves_until_its_stdin_ends() {
    let here = std::env::current_dir().expect("a directory");
    let _store = SqliteStore::open(&here, &OpenOptions::serve()).expect("a store");
    println!("\nserving");
    std::io::stdin().read_to_end(&mut Vec::new()).expect("an end");
}

/// Whether this line of strace is a call of one of `names` on the file `file`, and has succeeded.
fn is(line: &str, names: &[&str], file: &str) -> bool {
    names.iter().any(|name| line.contains(&format!("{name}(")))
        && line.contains(&format!("/{file}>"))
        && !line.contains("= -1")
}

#[test]
fn f02_a_power_cut_after_a_kill_takes_no_commit_that_the_next_server_has_noted() {
    let office = Office::new();
    let store = office.serve();
    let (_, kept) = office.issue(&store, "ada");
    let (token, revoked) = office.issue(&store, "ada");
    // All of the log up to here was synced. What follows had been written when the process was killed, and not synced.
    let synced = fs::metadata(office.file("counterfoil.db-wal")).expect("a log").len();
    revoke(&store, token.id);
    let killed = office.as_after_a_kill(store);
    let written = fs::metadata(killed.file("counterfoil.db-wal")).expect("a log").len();
    assert!(written > synced, "{written} {synced}");

    // The next server takes in what was written, by SQLite's recovery, and notes it.
    let log = tempfile::NamedTempFile::new().expect("a file");
    let path = log.path().to_str().expect("UTF-8");
    let watch = ["-y", "-o", path, "-e", "trace=fsync,fdatasync,write,pwrite64,ftruncate"];
    let mut server = child("child_that_serves_until_its_stdin_ends", killed.path(), &watch).spawn().expect("a server");
    let mut lines = BufReader::new(server.stdout.take().expect("stdout")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "serving"));

    // The power goes here. Of the log what no call has synced is gone; the note of it happened to reach the disk.
    let cut = copy_of(killed.path());
    drop(server.stdin.take());
    assert!(server.wait().expect("it ends").success());
    let calls = fs::read_to_string(log.path()).expect("a log of calls");
    let noted = calls.lines().position(|line| is(line, &["write", "pwrite64"], "counterfoil.witness"));
    let noted = noted.expect("the server notes how far the database has come");
    let is_synced = calls.lines().take(noted).any(|line| is(line, &["fsync", "fdatasync"], "counterfoil.db-wal"));
    if !is_synced {
        let log = fs::OpenOptions::new().write(true).open(cut.path().join("counterfoil.db-wal")).expect("a log");
        log.set_len(synced).expect("cut");
    }
    fs::remove_file(cut.path().join("counterfoil.db-shm")).ok();

    let store = SqliteStore::open(cut.path(), &OpenOptions::serve()).expect("the next one starts");
    assert_eq!(standing(&store, &kept), Some(Standing::Live));
    assert_eq!(standing(&store, &revoked), Some(Standing::Revoked), "a server has answered by it");
}
