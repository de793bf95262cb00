//! What becomes of a database when the next version comes: two synthetic migrations stand for it.

#[path = "../../tests/office/mod.rs"]
mod office;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use counterfoil_core::conformance::wait;
use counterfoil_core::password::EncodedPassword;
use counterfoil_core::token::Standing;
use counterfoil_core::{Account, AccountStore, Distinct, SecretToken};
use rusqlite::Connection;

use self::office::{NOW, Office, child, copy_of, find, in_turn, revoke, standing};
use super::schema::{OURS, Schema};
use super::{BackupError, OpenError, OpenOptions, Rewound, SqliteStore};

/// Both only add, as every migration does, and the second needs the first.
const NEXT: [&str; 2] = [
    "ALTER TABLE tokens ADD COLUMN colour TEXT; CREATE TABLE colours (name TEXT PRIMARY KEY) STRICT;
     UPDATE tokens SET colour = 'red';",
    "INSERT INTO colours (name) SELECT DISTINCT colour FROM tokens; CREATE INDEX tokens_by_colour ON tokens (colour);",
];

/// What the next version knows.
fn next() -> Schema {
    Schema { migrations: Box::leak([OURS.migrations, &NEXT].concat().into_boxed_slice()) }
}

fn next_opens(directory: &Path, options: &OpenOptions) -> Result<SqliteStore, OpenError> {
    SqliteStore::open_with(directory, options, next())
}

fn version(database: &Path) -> i64 {
    Connection::open(database)
        .and_then(|connection| connection.pragma_query_value(None, "user_version", |row| row.get(0)))
        .expect("a version")
}

/// Names in the directory that have to do with copies, in order.
fn copies(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.retain(|name| name.contains(".schema-"));
    names.sort();
    names
}

fn first_copy() -> String {
    format!("counterfoil.db.schema-{}", OURS.newest())
}

/// A deployment that this version has served, with a live token and a revoked one.
struct Before {
    office: Office,
    live: SecretToken,
    revoked: SecretToken,
}

impl Before {
    fn new() -> Before {
        let office = Office::new();
        let store = office.serve();
        let (_, live) = office.issue(&store, "ada");
        let (token, revoked) = office.issue(&store, "ada");
        revoke(&store, token.id);
        store.close();
        Before { office, live, revoked }
    }

    fn assert_as_before(&self, store: &SqliteStore) {
        assert_eq!(standing(store, &self.live), Some(Standing::Live));
        assert_eq!(standing(store, &self.revoked), Some(Standing::Revoked));
    }

    fn database(&self) -> PathBuf {
        self.office.file("counterfoil.db")
    }
}

#[test]
fn f09_before_an_upgrade_a_whole_copy_is_kept_and_tokens_live_through_it() {
    let _turn = in_turn();
    let before = Before::new();
    let store = next_opens(before.office.path(), &OpenOptions::serve()).expect("upgraded");
    before.assert_as_before(&store);
    let (_, issued) = before.office.issue(&store, "bob");
    store.close();
    assert_eq!(version(&before.database()), next().newest());
    assert_eq!(copies(before.office.path()), [first_copy()], "one file and no draft");

    let copy = before.office.file(&first_copy());
    assert_eq!(fs::metadata(&copy).expect("there").permissions().mode() & 0o777, 0o600);
    assert_eq!(version(&copy), OURS.newest());

    // A second start has nothing to do.
    drop(next_opens(before.office.path(), &OpenOptions::serve()).expect("opened"));
    assert_eq!(copies(before.office.path()), [first_copy()]);

    // The way back: this version goes on from the copy, once it is told how.
    let back = Office::new();
    fs::copy(&copy, back.file("counterfoil.db")).expect("a copy");
    let refused = SqliteStore::open(back.path(), &OpenOptions::serve()).expect_err("refused");
    assert!(matches!(refused, OpenError::Copied(_)), "{refused:?}");
    let store = back.open(&OpenOptions { rewound: Rewound::Accept { at: NOW }, ..OpenOptions::serve() });
    before.assert_as_before(&store);
    assert!(find(&store, &issued).is_none(), "what was issued after the upgrade is not in it");
}

#[test]
fn f09_old_and_new_programs_on_old_and_new_schemas() {
    let _turn = in_turn();
    // The old program on the new schema.
    let before = Before::new();
    let path = before.office.path();
    drop(next_opens(path, &OpenOptions::serve()).expect("upgraded"));
    for options in [OpenOptions::serve(), OpenOptions::beside()] {
        let refused = SqliteStore::open(path, &options).expect_err("refused");
        assert!(matches!(refused, OpenError::Newer { .. }), "{refused:?}");
        assert!(refused.to_string().contains("run the newer version, or restore the backup"), "{refused}");
    }
    assert_eq!(version(&before.database()), next().newest(), "left as it was");

    // A new command on the old schema, with nobody else there, upgrades as a server does.
    let before = Before::new();
    let store = next_opens(before.office.path(), &OpenOptions::beside()).expect("upgraded");
    before.assert_as_before(&store);
    assert_eq!(copies(before.office.path()), [first_copy()]);

    // A new command beside an old server: that could not start again afterwards.
    let before = Before::new();
    let path = before.office.path();
    let old = before.office.serve();
    let refused = next_opens(path, &OpenOptions::beside()).expect_err("refused");
    assert!(matches!(refused, OpenError::Older { .. }), "{refused:?}");
    assert!(refused.to_string().contains("stop them first"), "{refused}");
    assert!(matches!(next_opens(path, &OpenOptions::serve()), Err(OpenError::Served(_))));
    assert_eq!((version(&before.database()), copies(path).len()), (OURS.newest(), 0), "nothing was changed");
    drop(old);

    // Both at once: an old command that was there first works on beside the new server.
    let old = before.office.open(&OpenOptions::beside());
    let new = next_opens(path, &OpenOptions::serve()).expect("upgraded");
    before.assert_as_before(&old);
    before.assert_as_before(&new);
    let (token, secret) = before.office.issue(&old, "bob");
    assert_eq!(standing(&new, &secret), Some(Standing::Live));
    revoke(&new, token.id);
    assert_eq!(standing(&old, &secret), Some(Standing::Revoked));
    let (token, secret) = before.office.issue(&new, "bob");
    revoke(&old, token.id);
    assert_eq!(standing(&new, &secret), Some(Standing::Revoked));
}

#[test]
fn f09_without_a_copy_nothing_is_upgraded() {
    let _turn = in_turn();
    let before = Before::new();
    let path = before.office.path();
    // What cannot be removed is in the way of the draft.
    let in_the_way = before.office.file(&format!("{}.draft", first_copy()));
    fs::create_dir_all(in_the_way.join("full")).expect("made");
    let refused = next_opens(path, &OpenOptions::serve()).expect_err("refused");
    assert!(matches!(refused, OpenError::NotCopied(BackupError::Unusable(..))), "{refused:?}");
    assert_eq!(version(&before.database()), OURS.newest());
    before.assert_as_before(&before.office.serve());
    fs::remove_dir_all(in_the_way).expect("removed");
    before.assert_as_before(&next_opens(path, &OpenOptions::serve()).expect("upgraded"));
}

#[test]
fn f09_half_a_copy_is_made_again_and_a_whole_one_of_another_state_stays() {
    let _turn = in_turn();
    let before = Before::new();
    let path = before.office.path();
    fs::write(before.office.file(&format!("{}.draft", first_copy())), "half").expect("written");
    fs::write(before.office.file(&first_copy()), "of an upgrade that somebody went back on").expect("written");
    before.assert_as_before(&next_opens(path, &OpenOptions::serve()).expect("upgraded"));
    let second = format!("{}.2", first_copy());
    assert_eq!(copies(path), [first_copy(), second.clone()]);
    assert_eq!(version(&before.office.file(&second)), OURS.newest());
    let first = fs::read_to_string(before.office.file(&first_copy())).expect("there");
    assert_eq!(first, "of an upgrade that somebody went back on");
}

#[test]
fn f09_a_rewound_database_is_refused_before_it_is_upgraded() {
    let _turn = in_turn();
    let before = Before::new();
    let path = before.office.path();
    let older = fs::read(before.database()).expect("there");
    let store = before.office.serve();
    before.office.issue(&store, "ada");
    store.close();
    fs::write(before.database(), older).expect("written");
    let refused = next_opens(path, &OpenOptions::serve()).expect_err("refused");
    assert!(matches!(refused, OpenError::Rewound { .. }), "{refused:?}");
    assert_eq!((version(&before.database()), copies(path).len()), (OURS.newest(), 0));
    let accepting = OpenOptions { rewound: Rewound::EndTokens { at: NOW }, ..OpenOptions::serve() };
    let store = next_opens(path, &accepting).expect("accepted and upgraded");
    assert_eq!(standing(&store, &before.live), Some(Standing::Revoked));
}

/// Those whose name could be taken for the one wanted, looked for as a registration does.
fn is_registered(store: &SqliteStore, name: &str) -> bool {
    let subject = format!("user:{name}").parse().expect("a subject");
    let account = Account::named(subject, name.parse().expect("a name"), NOW);
    wait(store.create(&account, &EncodedPassword::unusable(), Distinct::ByLook))
}

#[test]
fn a62_names_from_before_an_upgrade_and_from_an_older_command_beside_it_have_looks_as_well() {
    let _turn = in_turn();
    let office = Office::new();
    let older = Schema { migrations: &OURS.migrations[..2] };
    drop(SqliteStore::open_with(office.path(), &OpenOptions::serve(), older).expect("made"));
    let add = |name: &str| {
        let connection = Connection::open(office.file("counterfoil.db")).expect("opened");
        let added =
            "INSERT INTO accounts (subject, username, username_fold, password, password_cost, first_name, last_name,
                                           attributes, active, role, created_at)
                     VALUES ('old:' || ?1, ?1, lower(?1), '!', 'malformed', '', '', '{}', 1, 'user', 0)";
        connection.execute(added, [name]).expect("added");
    };
    // An import kept both.
    add("Bill");
    add("biIl");
    let store = SqliteStore::open(office.path(), &OpenOptions::serve()).expect("upgraded");
    for alike in ["bil1", "Вill", "BiLl"] {
        assert!(!is_registered(&store, alike), "{alike}");
    }
    add("coco");
    assert!(!is_registered(&store, "сосо"), "its look was left empty");
    assert!(is_registered(&store, "polly"));
}

#[test]
#[ignore = "run by others, in a process of its own"]
fn child_that_upgrades() {
    let here = std::env::current_dir().expect("a directory");
    drop(next_opens(&here, &OpenOptions::serve()).expect("upgraded"));
}

#[test]
fn f09_an_upgrade_killed_at_any_step_is_taken_up_again_and_nothing_is_lost() {
    let _turn = in_turn();
    let before = Before::new();
    let mut killed = 0;
    let mut found = Vec::new();
    for call in ["pwrite64", "fsync", "fdatasync", "ftruncate", "link", "linkat", "unlink", "rename"] {
        // Each time one call later, until there is no such call any more.
        for at in 1.. {
            let left = copy_of(before.office.path());
            let inject = format!("inject={call}:signal=KILL:when={at}");
            let strace = ["-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject];
            let output =
                child("sqlite::upgrades::child_that_upgrades", left.path(), &strace).output().expect("a child");
            let database = left.path().join("counterfoil.db");
            found.push(version(&copy_of(left.path()).path().join("counterfoil.db")));
            let is_whole = |name: &String| name.contains(".draft") || version(&left.path().join(name)) == OURS.newest();
            assert!(copies(left.path()).iter().all(is_whole), "{call} {at}");

            let store =
                next_opens(left.path(), &OpenOptions::serve()).unwrap_or_else(|error| panic!("{call} {at}: {error}"));
            before.assert_as_before(&store);
            drop(store);
            assert_eq!(version(&database), next().newest(), "{call} {at}");
            assert_eq!(copies(left.path()), [first_copy()], "{call} {at}: one copy, and no draft");
            let colours: i64 = Connection::open(&database)
                .and_then(|connection| connection.query_row("SELECT count(*) FROM colours", [], |row| row.get(0)))
                .expect("a count");
            assert_eq!(colours, 1, "{call} {at}: each step once");
            if output.status.success() {
                break;
            }
            assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"), "{call} {at}: {output:?}");
            killed += 1;
        }
    }
    assert!(killed > 100, "{killed}");
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, [OURS.newest(), next().newest()], "killed before and after, and never seen in between");
}
