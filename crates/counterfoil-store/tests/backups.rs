//! Copies of a deployment: how one is made, how it is put in place, and what serves from it.
#![cfg(all(feature = "sqlite", unix))]

mod office;

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use counterfoil_core::conformance::wait;
use counterfoil_core::language::Languages;
use counterfoil_core::link::{Link, Purpose};
use counterfoil_core::mail::{MailId, MailKind, MailOrder, Registration};
use counterfoil_core::password::EncodedPassword;
use counterfoil_core::secret::TokenDigest;
use counterfoil_core::store::Changed;
use counterfoil_core::token::{Standing, Token};
use counterfoil_core::{Email, MailStore, SecretToken, SubjectId, TokenStore};
use counterfoil_store::sqlite::{Contents, Issued, Present, Progress, Restore, Restored, Rewound};
use counterfoil_store::{BackupError, OpenError, OpenOptions, RestoreError, SqliteStore, restore};
use office::{NOW, Office, SmallDisk, child, copy_of, find, in_turn, revoke, standing};
use rusqlite::Connection;

const ACCEPT: Rewound = Rewound::Accept { at: NOW };
const END_TOKENS: Rewound = Rewound::EndTokens { at: NOW };
const PLAINLY: Restore = Restore { present: Present::Refuse, issued: Issued::Undecided };
const ENDING: Restore = Restore { present: Present::Refuse, issued: Issued::Ended { at: NOW } };

fn serving(rewound: Rewound) -> OpenOptions {
    OpenOptions { rewound, ..OpenOptions::serve() }
}

fn back_up(store: &SqliteStore, file: &Path) -> Contents {
    store.backup(file, |_| ()).expect("a backup")
}

fn put_back(file: &Path, office: &Office, options: &Restore) -> Restored {
    restore(file, office.path(), options, |_| ()).expect("restored")
}

fn names(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn refusals(office: &Office) -> [OpenError; 2] {
    [OpenOptions::serve(), OpenOptions::beside()]
        .map(|options| SqliteStore::open(office.path(), &options).expect_err("refused"))
}

/// A deployment with a backup of it, and a token that was revoked after that was made.
struct Story {
    office: Office,
    elsewhere: tempfile::TempDir,
    backup: PathBuf,
    live: SecretToken,
    revoked_since: SecretToken,
    issued_since: SecretToken,
    incarnation: [u8; 16],
}

impl Story {
    fn new() -> Story {
        let office = Office::new();
        let elsewhere = tempfile::tempdir().expect("a directory");
        let backup = elsewhere.path().join("counterfoil.backup");
        let store = office.serve();
        let (_, live) = office.issue(&store, "ada");
        let (token, revoked_since) = office.issue(&store, "ada");
        back_up(&store, &backup);
        revoke(&store, token.id);
        let (_, issued_since) = office.issue(&store, "ada");
        let incarnation = wait(store.changes(0, 0)).incarnation;
        store.close();
        Story { office, elsewhere, backup, live, revoked_since, issued_since, incarnation }
    }

    /// All of it is as it was when the backup was made, and every cache is told.
    fn assert_back_then(&self, store: &SqliteStore) {
        assert_eq!(standing(store, &self.live), Some(Standing::Live));
        assert_eq!(standing(store, &self.revoked_since), Some(Standing::Live), "that is what accepting means");
        self.assert_caches_are_told(store);
    }

    /// What was issued before is dead, and what is issued now lives.
    fn assert_ended(&self, store: &SqliteStore) {
        assert_eq!(standing(store, &self.live), Some(Standing::Revoked));
        assert_eq!(standing(store, &self.revoked_since), Some(Standing::Revoked), "revoked stays revoked");
        let (_, fresh) = self.office.issue(store, "ada");
        assert_eq!(standing(store, &fresh), Some(Standing::Live));
        self.assert_caches_are_told(store);
    }

    fn assert_caches_are_told(&self, store: &SqliteStore) {
        assert!(find(store, &self.issued_since).is_none(), "what was issued since is not in it");
        let changes = wait(store.changes(0, 100));
        assert_ne!(changes.incarnation, self.incarnation);
        assert!(matches!(changes.rows.last().expect("a row").what, Changed::Everything), "{changes:?}");
    }
}

#[test]
fn a_backup_is_one_whole_file_for_its_owner_alone_and_the_server_goes_on() {
    let _turn = in_turn();
    let office = Office::new();
    let store = office.serve();
    let issued: Vec<(Token, SecretToken)> = (0..30).map(|_| office.issue(&store, "ada")).collect();
    revoke(&store, issued[0].0.id);
    let elsewhere = tempfile::tempdir().expect("a directory");
    let file = elsewhere.path().join("counterfoil.backup");
    let mut heard = Vec::new();
    let contents = store.backup(&file, |progress| heard.push(progress)).expect("a backup");
    assert_eq!((contents.tokens, contents.accounts), (30, 0));
    let metadata = fs::metadata(&file).expect("there");
    assert_eq!((metadata.permissions().mode() & 0o777, metadata.len()), (0o600, contents.bytes));
    assert_eq!(names(elsewhere.path()), ["counterfoil.backup"], "no log, no journal, no draft");
    assert_eq!(heard.last(), Some(&Progress { done: contents.bytes, of: contents.bytes }));

    let mode: String = Connection::open(&file)
        .and_then(|copy| copy.pragma_query_value(None, "journal_mode", |row| row.get(0)))
        .expect("a mode");
    assert_eq!(mode, "delete", "it needs no second file");
    let (_, later) = office.issue(&store, "ada");
    assert_eq!(standing(&store, &later), Some(Standing::Live), "the server goes on");

    // A command backs up beside the server as well.
    let beside = office.open(&OpenOptions::beside());
    assert_eq!(back_up(&beside, &elsewhere.path().join("second")).tokens, 31);
}

#[test]
fn a_backup_overwrites_nothing() {
    let _turn = in_turn();
    let office = Office::new();
    let store = office.serve();
    let elsewhere = tempfile::tempdir().expect("a directory");
    let file = elsewhere.path().join("holiday.jpg");
    fs::write(&file, "the sea").expect("written");
    let refused = store.backup(&file, |_| ()).expect_err("refused");
    assert!(matches!(refused, BackupError::Exists(_)), "{refused:?}");
    assert!(refused.to_string().contains("not overwritten"), "{refused}");
    // Nor what appears while it is being made.
    let late = elsewhere.path().join("late");
    let refused = store.backup(&late, |_| fs::write(&late, "the hills").expect("written")).expect_err("refused");
    assert!(matches!(refused, BackupError::Exists(_)), "{refused:?}");
    assert_eq!(fs::read_to_string(&file).expect("there"), "the sea");
    assert_eq!(fs::read_to_string(&late).expect("there"), "the hills");
    assert_eq!(names(elsewhere.path()), ["holiday.jpg", "late"]);

    let nowhere = elsewhere.path().join("no/such/directory/file");
    let refused = store.backup(&nowhere, |_| ()).expect_err("refused");
    assert!(matches!(refused, BackupError::Unusable(..)), "{refused:?}");
}

#[test]
fn a_backup_beside_writers_holds_what_was_acknowledged_before_it_and_nothing_in_part() {
    let _turn = in_turn();
    let office = Office::new();
    let store = office.serve();
    let elsewhere = tempfile::tempdir().expect("a directory");
    let (token, revoked) = office.issue(&store, "ada");
    revoke(&store, token.id);
    let before: Vec<SecretToken> = (0..50).map(|_| office.issue(&store, "ada").1).collect();
    let stop = AtomicBool::new(false);
    let first = elsewhere.path().join("0");
    let during = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut issued = 0;
            while !stop.load(Ordering::Relaxed) {
                office.issue(&store, "bob");
                issued += 1;
            }
            issued
        });
        for number in 0..5 {
            let contents = back_up(&store, &elsewhere.path().join(number.to_string()));
            assert!(contents.tokens >= 51);
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().expect("a writer")
    });
    assert!(during > 0, "somebody wrote meanwhile");
    let fresh = Office::new();
    put_back(&first, &fresh, &PLAINLY);
    let back = fresh.open(&serving(ACCEPT));
    assert!(before.iter().all(|secret| standing(&back, secret) == Some(Standing::Live)));
    assert_eq!(standing(&back, &revoked), Some(Standing::Revoked));
}

#[test]
fn f04_a_disk_that_fills_leaves_no_half_backup_and_no_half_restore() {
    let _turn = in_turn();
    let small = tempfile::tempdir().expect("a directory");
    let Some(_disk) = SmallDisk::mount(small.path(), "128k") else {
        eprintln!("skipped: needs the right to mount a tmpfs");
        return;
    };
    let story = Story::new();
    let store = story.office.serve();
    let refused = store.backup(&small.path().join("backup"), |_| ()).expect_err("refused");
    assert!(matches!(refused, BackupError::Full(_)), "{refused:?}");
    assert_eq!(names(small.path()), [""; 0], "nothing of it was kept");

    let refused = restore(&story.backup, &small.path().join("data"), &PLAINLY, |_| ()).expect_err("refused");
    assert!(matches!(refused, RestoreError::Full(_)), "{refused:?}");
    let left = names(&small.path().join("data"));
    assert_eq!(left, ["counterfoil.in-use", "counterfoil.lock"], "nothing of it was kept");
}

#[test]
fn f10_a_restored_backup_serves_nobody_until_the_operator_accepts_the_rewind() {
    let _turn = in_turn();
    let story = Story::new();
    // On the machine it was made on, and on one that has never seen it.
    let replacing = Restore { present: Present::SetAside, ..PLAINLY };
    let fresh = Office::new();
    for (office, options) in [(&story.office, replacing), (&fresh, PLAINLY)] {
        let restored = put_back(&story.backup, office, &options);
        assert_eq!(restored.contents.tokens, 2);
        for _ in 0..2 {
            for refused in refusals(office) {
                assert!(matches!(refused, OpenError::Copied(_)), "{refused:?}");
                assert!(refused.to_string().contains("end every token that was issued before"), "{refused}");
            }
        }
        let refused = SqliteStore::open(office.path(), &OpenOptions { rewound: ACCEPT, ..OpenOptions::beside() });
        assert!(matches!(refused, Err(OpenError::Copied(_))), "only the server accepts");

        let store = office.open(&serving(ACCEPT));
        story.assert_back_then(&store);
        store.close();
        let plainly = office.serve();
        assert_eq!(standing(&plainly, &story.live), Some(Standing::Live), "once is enough");
    }
}

#[test]
fn f10_a_restore_that_ends_tokens_serves_at_once_and_revoked_tokens_stay_dead() {
    let _turn = in_turn();
    let story = Story::new();
    let replacing = Restore { present: Present::SetAside, ..ENDING };
    put_back(&story.backup, &story.office, &replacing);
    story.assert_ended(&story.office.serve());

    let fresh = Office::new();
    put_back(&story.backup, &fresh, &ENDING);
    story.assert_ended(&fresh.serve());
    // What was ended is purged like anything else.
    let store = fresh.serve();
    assert_eq!(wait(store.purge(NOW.plus_millis(1), 100)), 2);
}

#[test]
fn f10_where_tokens_end_no_link_works_that_was_used_since_the_backup() {
    let _turn = in_turn();
    let office = Office::new();
    let backup = office.file("counterfoil.backup");
    let ada = "ada".parse::<SubjectId>().expect("a subject");
    let email: Email = "ada@example.org".parse().expect("an address");
    let order = |kind: MailKind| MailOrder {
        id: MailId::generate(NOW, &office.entropy).expect("entropy"),
        kind,
        subject: ada.clone(),
        to: email.clone(),
        languages: Languages::of(None, None),
        next: None,
        asked_at: NOW,
        expires_at: NOW.plus_millis(10_000),
    };
    let wish = Registration {
        subject: "wish".parse().expect("a subject"),
        username: "bob".parse().expect("a name"),
        email: email.clone(),
        password: EncodedPassword::unusable(),
        first_name: String::new(),
        last_name: String::new(),
        locale: None,
        expires_at: NOW.plus_millis(10_000),
    };
    let link = Link {
        digest: TokenDigest::from_bytes([7; 32]),
        purpose: Purpose::Reset,
        subject: ada.clone(),
        email: email.clone(),
        next: None,
        expires_at: NOW.plus_millis(10_000),
    };
    let store = office.serve();
    assert!(wait(store.post(&[order(MailKind::ResetPassword), order(MailKind::AddressTaken)], Some(&wish), 9)));
    assert!(wait(store.keep_link(&link)));
    back_up(&store, &backup);
    assert!(wait(store.use_link(&link.digest, Purpose::Reset, NOW)).is_some());
    wait(store.forget_registration(&wish.subject));
    store.close();

    for (issued, rewound, comes_back) in [
        (Issued::Undecided, ACCEPT, true),
        (Issued::Undecided, END_TOKENS, false),
        (Issued::Ended { at: NOW }, Rewound::Refuse, false),
    ] {
        let restored = Office::new();
        put_back(&backup, &restored, &Restore { present: Present::Refuse, issued });
        let store = restored.open(&serving(rewound));
        assert_eq!(wait(store.link(&link.digest)).is_some(), comes_back, "{issued:?} {rewound:?}");
        assert_eq!(wait(store.registration(&wish.subject)).is_some(), comes_back);
        let waiting = wait(store.waiting(9));
        let resets = waiting.iter().filter(|one| one.order.kind == MailKind::ResetPassword).count();
        assert_eq!((resets, waiting.len()), if comes_back { (1, 2) } else { (0, 1) }, "a notice opens nothing");
    }
}

#[test]
fn f10_an_older_file_put_in_by_hand_is_refused_until_the_operator_says_how_to_go_on() {
    let _turn = in_turn();
    for rewound in [ACCEPT, END_TOKENS] {
        // The file of a server that had stopped, as cp makes it.
        let office = Office::new();
        let store = office.serve();
        let (token, revoked_since) = office.issue(&store, "ada");
        let (_, live) = office.issue(&store, "ada");
        store.close();
        let older = fs::read(office.file("counterfoil.db")).expect("there");
        let store = office.serve();
        revoke(&store, token.id);
        let incarnation = wait(store.changes(0, 0)).incarnation;
        store.close();
        fs::write(office.file("counterfoil.db"), older).expect("written");
        for refused in refusals(&office) {
            assert!(matches!(refused, OpenError::Rewound { .. }), "{refused:?}");
        }
        let store = office.open(&serving(rewound));
        let expected = if rewound == ACCEPT { Standing::Live } else { Standing::Revoked };
        assert_eq!(standing(&store, &revoked_since), Some(expected));
        assert_eq!(standing(&store, &live), Some(expected));
        assert_ne!(wait(store.changes(0, 0)).incarnation, incarnation);
        store.close();
        office.serve();

        // A backup of ours, where nothing remembers what was there.
        let story = Story::new();
        let fresh = Office::new();
        fs::copy(&story.backup, fresh.file("counterfoil.db")).expect("a copy");
        assert!(refusals(&fresh).iter().all(|refused| matches!(refused, OpenError::Copied(_))));
        let store = fresh.open(&serving(rewound));
        if rewound == ACCEPT {
            story.assert_back_then(&store);
        } else {
            story.assert_ended(&store);
        }
        store.close();
        fresh.serve();
    }
}

#[test]
fn f10_a_backup_put_over_a_database_whose_log_is_still_there_is_not_mixed_with_it() {
    let _turn = in_turn();
    let story = Story::new();
    let store = story.office.serve();
    for _ in 0..20 {
        story.office.issue(&store, "ada");
    }
    let killed = story.office.as_after_a_kill(store);
    fs::copy(&story.backup, killed.file("counterfoil.db")).expect("a copy");
    let content = fs::read(killed.file("counterfoil.db")).expect("there");
    for rewound in [Rewound::Refuse, ACCEPT, END_TOKENS] {
        let refused = SqliteStore::open(killed.path(), &serving(rewound)).expect_err("refused");
        assert!(matches!(refused, OpenError::OtherLog(_)), "{refused:?}");
        assert!(refused.to_string().contains("counterfoil restore"), "{refused}");
    }
    assert!(fs::read(killed.file("counterfoil.db")).expect("there") == content, "left as it was");
    let replacing = Restore { present: Present::SetAside, ..PLAINLY };
    put_back(&story.backup, &killed, &replacing);
    story.assert_back_then(&killed.open(&serving(ACCEPT)));
}

#[test]
fn f10_a_file_from_before_an_accepted_rewind_is_refused() {
    let _turn = in_turn();
    let story = Story::new();
    let before = fs::read(story.office.file("counterfoil.db")).expect("there");
    put_back(&story.backup, &story.office, &Restore { present: Present::SetAside, ..ENDING });
    let store = story.office.serve();
    let (token, secret) = story.office.issue(&store, "ada");
    revoke(&store, token.id);
    store.close();
    fs::write(story.office.file("counterfoil.db"), before).expect("written");
    for refused in refusals(&story.office) {
        assert!(matches!(refused, OpenError::OtherLife(_)), "{refused:?}");
        assert!(refused.to_string().contains("from before a rewind that was accepted"), "{refused}");
    }
    let store = story.office.open(&serving(ACCEPT));
    assert!(find(&store, &secret).is_none());
    store.close();
    story.office.serve();
}

#[test]
fn f10_a_server_killed_between_accepting_a_rewind_and_noting_it_needs_no_second_word() {
    let _turn = in_turn();
    let story = Story::new();
    let witness = fs::read(story.office.file("counterfoil.witness")).expect("there");
    fs::copy(&story.backup, story.office.file("counterfoil.db")).expect("a copy");
    story.office.open(&serving(ACCEPT)).close();
    fs::write(story.office.file("counterfoil.witness"), witness).expect("written");
    story.assert_back_then(&story.office.serve());
}

#[test]
fn a_restore_replaces_nothing_unless_told_and_keeps_what_was_there_whole() {
    let _turn = in_turn();
    let story = Story::new();
    let store = story.office.serve();
    let (_, newest) = story.office.issue(&store, "ada");
    let left = story.office.as_after_a_kill(store);
    let refused = restore(&story.backup, left.path(), &PLAINLY, |_| ()).expect_err("refused");
    assert!(matches!(refused, RestoreError::Present(_)), "{refused:?}");
    story.office.serve();

    let replacing = Restore { present: Present::SetAside, ..ENDING };
    for number in 1..=2 {
        let restored = put_back(&story.backup, &left, &replacing);
        assert_eq!(restored.set_aside, Some(left.file(&format!("replaced-{number}"))));
    }
    story.assert_ended(&left.serve());
    assert_eq!(
        names(left.path()).iter().filter(|name| !name.starts_with("replaced-")).count(),
        5,
        "database, lock, in-use, reserve, witness: {:?}",
        names(left.path())
    );

    // What was there is a data directory of its own, with the log and all that was acknowledged.
    let aside = left.file("replaced-1");
    assert_eq!(fs::metadata(&aside).expect("there").permissions().mode() & 0o777, 0o700);
    assert_eq!(names(&aside), ["counterfoil.db", "counterfoil.db-wal", "counterfoil.witness"]);
    let store = SqliteStore::open(&aside, &OpenOptions::serve()).expect("served");
    assert_eq!(standing(&store, &newest), Some(Standing::Live));
    assert_eq!(standing(&store, &story.revoked_since), Some(Standing::Revoked));
}

#[test]
fn a_restore_waits_for_nobody_it_refuses_while_a_server_or_a_command_is_there() {
    let _turn = in_turn();
    let story = Story::new();
    let replacing = Restore { present: Present::SetAside, ..ENDING };
    let refused = || restore(&story.backup, story.office.path(), &replacing, |_| ()).expect_err("refused");
    let server = story.office.serve();
    assert!(matches!(refused(), RestoreError::Served(_)), "{:?}", refused());
    drop(server);
    let command = story.office.open(&OpenOptions::beside());
    assert!(matches!(refused(), RestoreError::InUse(_)), "{:?}", refused());
    drop(command);
    // And nobody comes in meanwhile.
    let mut tried = 0;
    let during = |_| {
        tried += 1;
        let [server, command] = refusals(&story.office);
        assert!(matches!(server, OpenError::Served(_)), "{server:?}");
        assert!(matches!(command, OpenError::Restoring(_)), "{command:?}");
    };
    restore(&story.backup, story.office.path(), &replacing, during).expect("restored");
    assert!(tried > 0);
    story.assert_ended(&story.office.serve());
}

#[test]
fn f08_a_file_that_is_no_sound_backup_of_ours_is_not_put_in_place() {
    let _turn = in_turn();
    let story = Story::new();
    let sound = fs::read(&story.backup).expect("there");
    let bad = story.elsewhere.path().join("bad");
    let fresh = Office::new();
    let refused = || {
        let refused = restore(&bad, fresh.path(), &ENDING, |_| ()).expect_err("refused");
        let left = names(fresh.path());
        assert!(
            left.iter().all(|name| ["counterfoil.in-use", "counterfoil.lock"].contains(&name.as_str())),
            "{left:?}"
        );
        refused
    };
    assert!(matches!(refused(), RestoreError::Unreadable(..)), "it is not there");
    for foreign in [Vec::new(), b"tokens: none\n".repeat(1_000), vec![0; sound.len()]] {
        fs::write(&bad, foreign).expect("written");
        assert!(matches!(refused(), RestoreError::Foreign(_)), "{:?}", refused());
    }
    for half in [1_000, sound.len() / 2, sound.len() - 4_096] {
        fs::write(&bad, &sound[..half]).expect("written");
        assert!(matches!(refused(), RestoreError::Damaged(..) | RestoreError::Foreign(_)), "{half}: {:?}", refused());
    }
    for page in 1..sound.len() / 4_096 {
        fs::write(&bad, &sound).expect("written");
        let file = fs::OpenOptions::new().write(true).open(&bad).expect("there");
        file.write_all_at(&[0xff; 8], page as u64 * 4_096).expect("flipped");
        assert!(matches!(refused(), RestoreError::Damaged(..)), "{page}: {:?}", refused());
    }
    fs::write(&bad, &sound).expect("written");
    Connection::open(&bad).expect("a database").pragma_update(None, "user_version", 99).expect("set");
    assert!(matches!(refused(), RestoreError::Newer { found: 99, .. }), "{:?}", refused());
    fs::write(&bad, &sound).expect("written");
    fs::write(story.elsewhere.path().join("bad-wal"), "").expect("written");
    assert!(matches!(refused(), RestoreError::HasLog(_)), "{:?}", refused());
}

#[test]
#[ignore = "run by others, in a process of its own"]
fn child_that_restores() {
    let here = std::env::current_dir().expect("a directory");
    let replacing = Restore { present: Present::SetAside, ..ENDING };
    restore(&here.join("backup"), &here, &replacing, |_| ()).expect("restored");
}

#[test]
fn f10_a_restore_killed_at_any_step_leaves_the_old_database_or_the_new_one_or_a_refusal() {
    let _turn = in_turn();
    let story = Story::new();
    let store = story.office.serve();
    let (_, newest) = story.office.issue(&store, "ada");
    let killed = story.office.as_after_a_kill(store);
    fs::copy(&story.backup, killed.file("backup")).expect("a copy");
    let (mut old, mut new, mut neither) = (0, 0, 0);
    for call in ["pwrite64", "write", "fsync", "fdatasync", "ftruncate", "mkdir", "link", "linkat", "unlink", "rename"]
    {
        for at in 1.. {
            let left = copy_of(killed.path());
            let inject = format!("inject={call}:signal=KILL:when={at}");
            let strace = ["-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject];
            let output = child("child_that_restores", left.path(), &strace).output().expect("a child");
            match SqliteStore::open(left.path(), &OpenOptions::serve()) {
                Ok(store) if find(&store, &newest).is_some() => {
                    old += 1;
                    assert_eq!(standing(&store, &newest), Some(Standing::Live), "{call} {at}");
                    assert_eq!(standing(&store, &story.revoked_since), Some(Standing::Revoked), "{call} {at}");
                }
                Ok(store) => {
                    new += 1;
                    assert_eq!(standing(&store, &story.live), Some(Standing::Revoked), "{call} {at}");
                    assert_eq!(standing(&store, &story.revoked_since), Some(Standing::Revoked), "{call} {at}");
                }
                Err(OpenError::Rewound { .. }) => neither += 1,
                Err(other) => panic!("{call} {at}: {other}"),
            }
            // Once more, and it is done.
            restore(&story.backup, left.path(), &Restore { present: Present::SetAside, ..ENDING }, |_| ())
                .unwrap_or_else(|error| panic!("{call} {at}: {error}"));
            let office = Office::in_directory(left);
            story.assert_ended(&office.serve());
            assert!(!names(office.path()).iter().any(|name| name.contains("restoring")), "{call} {at}");
            if output.status.success() {
                break;
            }
            assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"), "{call} {at}: {output:?}");
        }
    }
    assert!(old > 20 && new > 0 && neither > 0, "{old} {new} {neither}");
}
