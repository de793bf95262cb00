//! What a start trusts, and what it refuses with a clear word.
#![cfg(all(feature = "sqlite", unix))]

mod office;

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::thread;

use counterfoil_core::conformance::wait;
use counterfoil_core::store::Bump;
use counterfoil_core::token::Standing;
use counterfoil_core::{SubjectId, TokenStore};
use counterfoil_store::sqlite::{Absent, Rewound};
use counterfoil_store::{OpenError, OpenOptions, SqliteStore};
use office::{NOW, Office, find, revoke, standing};
use rusqlite::Connection;

const ACCEPT: Rewound = Rewound::Accept { at: NOW };

fn refusal(directory: &Path) -> OpenError {
    SqliteStore::open(directory, &OpenOptions::serve()).expect_err("refused")
}

fn witness(office: &Office) -> String {
    fs::read_to_string(office.file("counterfoil.witness")).expect("a witness")
}

#[test]
fn a07_a_revoked_token_is_refused_after_a_restart_and_a_live_one_is_not() {
    let office = Office::new();
    let store = office.serve();
    let (revoked, revoked_secret) = office.issue(&store, "ada");
    let (_, live_secret) = office.issue(&store, "ada");
    revoke(&store, revoked.id);
    let before = wait(store.changes(0, 10));
    drop(store);

    let store = office.serve();
    assert_eq!(standing(&store, &revoked_secret), Some(Standing::Revoked));
    assert_eq!(standing(&store, &live_secret), Some(Standing::Live));
    assert_eq!(wait(store.changes(0, 10)), before, "the same incarnation, the same log");
    let (next, _) = office.issue(&store, "ada");
    assert_eq!(next.number, 3, "numbers go on");
}

#[test]
fn f01_a_killed_server_loses_nothing_that_it_acknowledged() {
    let office = Office::new();
    let store = office.serve();
    let (revoked, revoked_secret) = office.issue(&store, "ada");
    revoke(&store, revoked.id);
    let (_, live_secret) = office.issue(&store, "ada");
    let left = office.as_after_a_kill(store);
    assert!(witness(&left).contains(" open "));

    let store = left.serve();
    assert_eq!(standing(&store, &revoked_secret), Some(Standing::Revoked));
    assert_eq!(standing(&store, &live_secret), Some(Standing::Live));
}

#[test]
fn an_orderly_stop_leaves_one_whole_file_and_says_so() {
    let office = Office::new();
    let store = office.serve();
    office.issue(&store, "ada");
    store.close();
    store.close();
    assert!(!office.file("counterfoil.db-wal").exists(), "written back");
    assert!(witness(&office).contains(" shut "));
    assert!(TokenStore::ready(&store).as_mut().poll_now().is_err(), "closed is closed");

    // A command line that comes and goes in order leaves it in order.
    let beside = office.open(&OpenOptions::beside());
    office.issue(&beside, "ada");
    drop(beside);
    let shut = witness(&office);
    let looks = fs::metadata(office.file("counterfoil.db")).expect("there").len();
    assert!(shut.contains(" shut ") && shut.contains(&format!("{looks:020}")), "{shut}");
}

/// Polls once, for what is decided at once.
trait PollNow<T> {
    fn poll_now(self) -> T;
}

impl<T, F: Future<Output = T> + ?Sized> PollNow<T> for std::pin::Pin<&mut F> {
    fn poll_now(self) -> T {
        match self.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            std::task::Poll::Ready(value) => value,
            std::task::Poll::Pending => panic!("not decided yet"),
        }
    }
}

#[test]
fn one_server_to_a_directory_and_command_lines_beside_it() {
    let office = Office::new();
    let server = office.serve();
    let refused = refusal(office.path());
    assert!(matches!(refused, OpenError::Served(_)), "{refused:?}");
    assert!(refused.to_string().contains("another server is running"), "{refused}");

    let beside = office.open(&OpenOptions::beside());
    let (token, secret) = office.issue(&server, "ada");
    assert_eq!(standing(&beside, &secret), Some(Standing::Live));
    revoke(&beside, token.id);
    assert_eq!(standing(&server, &secret), Some(Standing::Revoked), "F11: dead in the server at once");
    let ada: SubjectId = "ada".parse().expect("a subject");
    let (_, other) = office.issue(&beside, "ada");
    wait(server.bump_epoch(&Bump::Subject { id: ada, keys_too: false, keep: None }, NOW));
    assert_eq!(standing(&beside, &other), Some(Standing::Revoked));
    assert_eq!(wait(beside.changes(0, 10)), wait(server.changes(0, 10)));

    drop(server);
    office.serve();
}

#[test]
fn processes_that_start_at_once_agree_on_one_database() {
    let office = Office::new();
    let stores: Vec<SqliteStore> = thread::scope(|scope| {
        let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| office.open(&OpenOptions::beside()))).collect();
        starts.into_iter().map(|start| start.join().expect("opened")).collect()
    });
    let (_, secret) = office.issue(&stores[0], "ada");
    assert!(stores.iter().all(|store| find(store, &secret).is_some()));
    let left = fs::read_dir(office.path()).expect("a directory");
    let drafts = left.filter(|entry| {
        entry.as_ref().expect("an entry").file_name().to_string_lossy().starts_with("counterfoil.db.new")
    });
    assert_eq!(drafts.count(), 0);
}

#[test]
fn only_the_owner_reads_what_is_in_the_directory() {
    let office = Office::new();
    let data = office.path().join("deep/data");
    let store = SqliteStore::open(&data, &OpenOptions::serve()).expect("a store");
    office.begin(&store);
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    let mut names = Vec::new();
    for entry in fs::read_dir(&data).expect("a directory") {
        let path = entry.expect("an entry").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        names.push(path.file_name().expect("a name").to_string_lossy().into_owned());
    }
    names.sort();
    let expected =
        ["db", "db-shm", "db-wal", "in-use", "lock", "reserve", "witness"].map(|end| format!("counterfoil.{end}"));
    assert_eq!(names, expected);
}

#[test]
fn foreign_files_in_the_directory_are_fine() {
    let office = Office::new();
    fs::write(office.file("notes.txt"), "mine").expect("written");
    fs::create_dir(office.file("backups")).expect("made");
    office.serve();
    assert_eq!(fs::read_to_string(office.file("notes.txt")).expect("there"), "mine");
}

#[test]
fn nothing_is_made_where_nothing_was_to_be_made() {
    let office = Office::new();
    let data = office.path().join("typo");
    let options = OpenOptions { absent: Absent::Refuse, ..OpenOptions::beside() };
    let refused = SqliteStore::open(&data, &options).expect_err("refused");
    assert!(matches!(refused, OpenError::Absent(_)), "{refused:?}");
    assert!(!data.exists());
}

#[test]
fn f08_a_database_that_has_vanished_is_not_replaced_by_an_empty_one() {
    let office = Office::new();
    let store = office.serve();
    office.issue(&store, "ada");
    let left = office.as_after_a_kill(store);
    let database = left.file("counterfoil.db");
    let content = fs::read(&database).expect("there");

    fs::remove_file(&database).expect("removed");
    let refused = refusal(left.path());
    assert!(matches!(refused, OpenError::Vanished(_)), "{refused:?}");
    assert!(refused.to_string().contains("restore a backup"), "{refused}");
    assert!(!database.exists());
    fs::remove_file(left.file("counterfoil.db-wal")).expect("removed");
    assert!(matches!(refusal(left.path()), OpenError::Vanished(_)), "the witness remembers");

    fs::write(&database, b"").expect("written");
    let refused = refusal(left.path());
    assert!(matches!(refused, OpenError::Empty(_)), "{refused:?}");
    assert_eq!(fs::metadata(&database).expect("there").len(), 0, "left as it was");

    for half in [1, 50, 1_000, content.len() / 2, content.len() - 4_096] {
        fs::write(&database, &content[..half]).expect("written");
        let refused = refusal(left.path());
        assert!(matches!(refused, OpenError::Damaged(..) | OpenError::Foreign(_)), "{half}: {refused:?}");
        assert_eq!(fs::read(&database).expect("there"), &content[..half], "left as it was");
    }
    fs::write(&database, vec![0; content.len()]).expect("written");
    let refused = refusal(left.path());
    assert!(matches!(refused, OpenError::Foreign(_)), "{refused:?}");
}

#[test]
fn f08_a_database_of_somebody_else_is_refused_and_left_alone() {
    let office = Office::new();
    let database = office.file("counterfoil.db");
    let connection = Connection::open(&database).expect("a database");
    connection.execute_batch("CREATE TABLE django_session (session_key TEXT)").expect("made");
    drop(connection);
    let before = fs::read(&database).expect("there");
    let refused = refusal(office.path());
    assert!(matches!(refused, OpenError::Foreign(_)), "{refused:?}");
    assert!(refused.to_string().contains("not a database of counterfoil"), "{refused}");
    assert_eq!(fs::read(&database).expect("there"), before);

    fs::write(&database, "tokens: none\n".repeat(1_000)).expect("written");
    assert!(matches!(refusal(office.path()), OpenError::Foreign(_)));
}

#[test]
fn f09_a_database_of_a_newer_version_is_refused_and_left_alone() {
    let office = Office::new();
    drop(office.serve());
    let connection = Connection::open(office.file("counterfoil.db")).expect("a database");
    connection.pragma_update(None, "user_version", 99).expect("set");
    drop(connection);
    let refused = refusal(office.path());
    assert!(matches!(refused, OpenError::Newer { found: 99, .. }), "{refused:?}");
    assert!(refused.to_string().contains("run the newer version"), "{refused}");
    let version: i64 = Connection::open(office.file("counterfoil.db"))
        .and_then(|connection| connection.pragma_query_value(None, "user_version", |row| row.get(0)))
        .expect("a version");
    assert_eq!(version, 99);
}

#[test]
fn f08_flipped_pages_are_found_after_an_unclean_stop_and_after_a_visit_from_outside() {
    let office = Office::new();
    let store = office.serve();
    for _ in 0..50 {
        office.issue(&store, "ada");
    }
    drop(store);
    let sound = fs::read(office.file("counterfoil.db")).expect("there");
    let pages = sound.len() / 4_096;
    let mut refused = 0;
    for page in 0..pages {
        let visited = Office::new();
        fs::copy(office.file("counterfoil.witness"), visited.file("counterfoil.witness")).expect("a copy");
        fs::write(visited.file("counterfoil.db"), &sound).expect("written");
        let file = fs::OpenOptions::new().write(true).open(visited.file("counterfoil.db")).expect("there");
        // The head of the page's b-tree: its type and how many cells it has.
        let head = if page == 0 { 100 } else { page * 4_096 };
        file.write_all_at(&[0xff; 8], head as u64).expect("flipped");
        drop(file);
        let outcome = SqliteStore::open(visited.path(), &OpenOptions::serve());
        let error = outcome.expect_err("no page is spare");
        assert!(matches!(error, OpenError::Damaged(..)), "page {page}: {error:?}");
        assert!(error.to_string().contains("is damaged"), "{error}");
        refused += 1;
    }
    assert_eq!(refused, pages);
}

#[test]
fn f08_a_missing_write_ahead_log_is_refused_until_the_operator_accepts_it() {
    let office = Office::new();
    let store = office.serve();
    let (token, secret) = office.issue(&store, "ada");
    store.close();
    let store = office.serve();
    let incarnation = wait(store.changes(0, 0)).incarnation;
    revoke(&store, token.id);
    let left = office.as_after_a_kill(store);
    fs::remove_file(left.file("counterfoil.db-wal")).expect("removed");

    let refused = refusal(left.path());
    assert!(matches!(refused, OpenError::Rewound { .. }), "{refused:?}");
    assert!(refused.to_string().contains("counterfoil.db-wal was lost"), "{refused}");
    assert!(matches!(refusal(left.path()), OpenError::Rewound { .. }), "asking twice changes nothing");

    let accepting = OpenOptions { rewound: ACCEPT, ..OpenOptions::serve() };
    let store = left.open(&accepting);
    assert_eq!(standing(&store, &secret), Some(Standing::Live), "that is what accepting means");
    assert_ne!(wait(store.changes(0, 0)).incarnation, incarnation, "and every cache is told");
    drop(store);
    left.serve();
}

#[test]
fn f10_an_older_copy_put_back_is_refused() {
    let office = Office::new();
    let store = office.serve();
    let (token, _) = office.issue(&store, "ada");
    store.close();
    let older = fs::read(office.file("counterfoil.db")).expect("there");
    let store = office.serve();
    revoke(&store, token.id);
    store.close();
    fs::write(office.file("counterfoil.db"), older).expect("written");
    assert!(matches!(refusal(office.path()), OpenError::Rewound { .. }));
    assert!(matches!(refusal(office.path()), OpenError::Rewound { .. }), "asking twice changes nothing");
}

#[test]
fn f10_command_lines_do_not_launder_an_older_copy() {
    let office = Office::new();
    let store = office.serve();
    let (token, secret) = office.issue(&store, "ada");
    store.close();
    let older = fs::read(office.file("counterfoil.db")).expect("there");
    let store = office.serve();
    revoke(&store, token.id);
    store.close();
    fs::write(office.file("counterfoil.db"), older).expect("written");

    // What they write would raise the count until the server could not tell any more.
    for options in [OpenOptions::beside(), OpenOptions { rewound: ACCEPT, ..OpenOptions::beside() }] {
        let refused = SqliteStore::open(office.path(), &options).expect_err("refused");
        assert!(matches!(refused, OpenError::Rewound { .. }), "{refused:?}");
        assert!(refused.to_string().contains("accept the rewind"), "{refused}");
    }
    assert!(matches!(refusal(office.path()), OpenError::Rewound { .. }));

    // The server accepts it for them.
    let store = office.open(&OpenOptions { rewound: ACCEPT, ..OpenOptions::serve() });
    let beside = office.open(&OpenOptions::beside());
    assert_eq!(standing(&beside, &secret), Some(Standing::Live), "that is what accepting means");
    drop((beside, store));
    office.open(&OpenOptions::beside());
    office.serve();
}

#[test]
fn f10_an_older_copy_that_was_written_to_elsewhere_is_refused_though_its_count_is_right() {
    let office = Office::new();
    let store = office.serve();
    let (token, _) = office.issue(&store, "ada");
    store.close();
    let elsewhere = Office::new();
    fs::copy(office.file("counterfoil.db"), elsewhere.file("counterfoil.db")).expect("a copy");
    let store = office.serve();
    revoke(&store, token.id);
    store.close();
    // One commit in the other history, too.
    let store = elsewhere.serve();
    wait(store.ready());
    store.close();
    fs::copy(elsewhere.file("counterfoil.db"), office.file("counterfoil.db")).expect("a copy");

    for options in [OpenOptions::serve(), OpenOptions::beside()] {
        let refused = SqliteStore::open(office.path(), &options).expect_err("refused");
        let OpenError::Rewound { found, acknowledged, .. } = &refused else { panic!("{refused:?}") };
        assert_eq!(found, acknowledged);
        assert!(refused.to_string().contains("has been written to since"), "{refused}");
    }
}

#[test]
fn f01_a_server_killed_before_it_came_to_the_witness_is_no_rewind() {
    let office = Office::new();
    let store = office.serve();
    let before = fs::read(office.file("counterfoil.witness")).expect("there");
    let (token, secret) = office.issue(&store, "ada");
    revoke(&store, token.id);
    let left = office.as_after_a_kill(store);
    fs::write(left.file("counterfoil.witness"), before).expect("written");

    let beside = left.open(&OpenOptions::beside());
    assert_eq!(standing(&beside, &secret), Some(Standing::Revoked));
    drop(beside);
    assert_eq!(standing(&left.serve(), &secret), Some(Standing::Revoked));
}
