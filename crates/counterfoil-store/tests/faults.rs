//! What goes on and what is refused when the disk, another process or a row is not as it should be.
#![cfg(feature = "sqlite")]

mod office;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use counterfoil_core::account::{Account, AccountChange, Role};
use counterfoil_core::conformance::wait;
use counterfoil_core::password::EncodedPassword;
use counterfoil_core::secret::Candidates;
use counterfoil_core::store::{IssueOutcome, TokenFilter};
use counterfoil_core::token::{Metadata, Standing};
use counterfoil_core::{AccountStore, Distinct, SubjectId, TokenStore};
use counterfoil_store::{OpenOptions, SqliteStore};
use office::{NOW, Office, SmallDisk, default_client, revoke, standing};
use rusqlite::Connection;

fn executor<T>(future: impl Future<Output = T>) -> T {
    // `wait` of the suite panics at an error, which is what is looked for here.
    let mut future = std::pin::pin!(future);
    let waker = std::task::Waker::from(std::sync::Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => thread::park(),
        }
    }
}

struct Unpark(thread::Thread);

impl std::task::Wake for Unpark {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.unpark();
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "measures how long a caller is kept waiting")]
fn f06_a_database_held_by_another_process_is_a_bounded_wait_and_checks_go_on() {
    let office = Office::new();
    let store = office.open(&OpenOptions { busy_timeout: Duration::from_millis(200), ..OpenOptions::serve() });
    let (token, secret) = office.issue(&store, "ada");
    let holder = Connection::open(office.file("counterfoil.db")).expect("a connection");
    holder.execute_batch("BEGIN EXCLUSIVE").expect("held");

    let asked = Instant::now();
    let refused = executor(store.revoke(token.id, None, None, NOW)).expect_err("not acknowledged");
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    assert_eq!(refused.to_string(), "the store failed while revoking a token");
    assert_eq!(standing(&store, &secret), Some(Standing::Live), "checks go on, and nothing is half done");
    assert!(executor(store.ready()).is_err());

    holder.execute_batch("ROLLBACK").expect("let go");
    wait(store.ready());
    revoke(&store, token.id);
    assert_eq!(standing(&store, &secret), Some(Standing::Revoked));
}

#[test]
fn a_damaged_row_is_an_error_and_not_a_token() {
    let office = Office::new();
    let store = office.serve();
    let (_, secret) = office.issue(&store, "ada");
    let (_, sound) = office.issue(&store, "bob");
    let other = Connection::open(office.file("counterfoil.db")).expect("a connection");
    for damage in [
        "UPDATE tokens SET abilities = 'everything, please' WHERE number = 1",
        "UPDATE tokens SET abilities = '*', issued_at = -5 WHERE number = 1",
        "UPDATE tokens SET issued_at = 5, subject_epoch = -1 WHERE number = 1",
        "UPDATE tokens SET subject_epoch = 0, client_epoch = 9223372036854775807 WHERE number = 1;
         UPDATE subjects SET name = char(7) WHERE name = 'ada'",
    ] {
        other.execute_batch(damage).expect("damaged");
        let candidates = Candidates::Native(secret.digest());
        assert!(executor(store.find(&candidates)).is_err(), "{damage}");
        assert_eq!(standing(&store, &sound), Some(Standing::Live));
    }
}

#[test]
fn r02_no_file_holds_a_token_or_fifteen_characters_of_one() {
    let office = Office::new();
    let store = office.serve();
    let ring = counterfoil_core::seal::KeyRing::generate(&office.entropy).expect("entropy");
    let client = default_client(&store);
    let ada: SubjectId = "ada".parse().expect("a subject");
    wait(store.open_subject(&ada, NOW));
    let mut secrets = Vec::new();
    for number in 0..40 {
        let secret = office.mint();
        let mut order = office.order(&client, &ada, &secret);
        if number % 2 == 0 {
            let bound = counterfoil_core::seal::SealedFor { token: order.id, subject: &ada, client: client.id };
            order.sealed = Some(ring.seal(&secret, bound, &office.entropy).expect("entropy"));
        }
        assert!(matches!(wait(store.issue(&order, NOW)), IssueOutcome::Issued { .. }));
        let successor = office.mint();
        let rotation = counterfoil_core::store::Rotation {
            id: order.id,
            presented: secret.digest(),
            successor: successor.digest(),
            sealed: None,
            grace_until: NOW.plus_millis(30_000),
        };
        wait(store.rotate(&rotation, NOW));
        secrets.extend([secret, successor]);
    }
    let mut windows = std::collections::HashSet::new();
    for secret in &secrets {
        windows.extend(secret.expose().as_bytes().windows(15));
    }
    assert!(windows.len() > 80 * 30);
    let search = |path: &Path| {
        let content = fs::read(path).expect("readable");
        let hits = content.windows(15).filter(|window| windows.contains(window)).count();
        assert_eq!(hits, 0, "{}", path.display());
        content.len()
    };
    let log = search(&office.file("counterfoil.db-wal"));
    assert!(log > 40 * 4_096, "the log holds what was written: {log}");
    drop(store);
    let mut searched = 0;
    for entry in fs::read_dir(office.path()).expect("a directory") {
        searched += search(&entry.expect("an entry").path());
    }
    assert!(searched > 100_000, "{searched}");
}

fn account(subject: &SubjectId) -> Account {
    Account {
        subject: subject.clone(),
        username: "ada".parse().expect("a user name"),
        email: None,
        email_confirmed_at: None,
        first_name: String::new(),
        last_name: String::new(),
        attributes: Metadata::default(),
        locale: None,
        active: true,
        role: Role::User,
        created_at: NOW,
        last_login_at: None,
        rotation_locked: false,
    }
}

#[test]
fn f04_on_a_full_disk_tokens_are_refused_checks_and_revocations_go_on_and_room_heals_it() {
    let mut office = Office::new();
    let directory = tempfile::tempdir().expect("a directory");
    let Some(disk) = SmallDisk::mount(directory.path(), "1m") else {
        eprintln!("skipped: needs the right to mount a tmpfs");
        return;
    };
    let entropy = std::mem::replace(&mut office, Office::in_directory(directory));
    drop(entropy);
    let store = SqliteStore::open(office.path(), &OpenOptions::serve()).expect("a store");
    office.begin(&store);
    let client = default_client(&store);
    let ada: SubjectId = "ada".parse().expect("a subject");
    wait(store.open_subject(&ada, NOW));
    // The first answer from the writer comes after the reserve was made.
    let reserve = office.file("counterfoil.reserve");
    assert_eq!(fs::metadata(&reserve).expect("held").len(), 256 * 1024);

    // A stranger's file takes what room there is but a little.
    let filler = office.file("filler");
    let mut issued = Vec::new();
    for _ in 0..40 {
        issued.push(office.issue(&store, "ada"));
    }
    let mut size = 0;
    while fs::write(&filler, vec![1; size + 8 * 1024]).is_ok() {
        size += 8 * 1024;
    }
    let mut refused = 0;
    for _ in 0..2_000 {
        let secret = office.mint();
        match executor(store.issue(&office.order(&client, &ada, &secret), NOW)) {
            Ok(IssueOutcome::Issued { token, .. }) => issued.push((*token, secret)),
            Ok(other) => panic!("{other:?}"),
            Err(_) => refused += 1,
        }
        if refused > 20 {
            break;
        }
    }
    assert!(refused > 20, "the disk is full after {} tokens", issued.len());
    for (_, secret) in &issued {
        assert_eq!(standing(&store, secret), Some(Standing::Live), "checks go on");
    }

    for (token, secret) in issued.iter().take(40) {
        revoke(&store, token.id);
        assert_eq!(standing(&store, secret), Some(Standing::Revoked), "revocations go on");
        let secret = office.mint();
        let order = office.order(&client, &ada, &secret);
        let tokens_are_refused = executor(store.issue(&order, NOW)).is_err();
        assert!(tokens_are_refused || reserve.exists(), "what is left is for revocations");
        let tries_are_refused = executor(store.count_try(Some(&ada), NOW)).is_err();
        assert!(tries_are_refused || reserve.exists(), "nobody guesses uncounted, and guessing spends no reserve");
    }
    assert!(issued.len() > 40);
    let batches_go_on = wait(store.revoke_matching(&TokenFilter::of(ada), 1, NOW));
    assert_eq!(batches_go_on, 1);

    fs::remove_file(&filler).expect("removed");
    let (_, healed) = office.issue(&store, "ada");
    assert_eq!(standing(&store, &healed), Some(Standing::Live), "unaided");
    assert_eq!(fs::metadata(&reserve).expect("held again").len(), 256 * 1024);
    store.close();
    let store = SqliteStore::open(office.path(), &OpenOptions::serve()).expect("sound");
    for (number, (_, secret)) in issued.iter().enumerate() {
        let expected = if number <= 40 { Standing::Revoked } else { Standing::Live };
        assert_eq!(standing(&store, secret), Some(expected), "{number}");
    }
    drop(store);
    drop(disk);
}

#[test]
fn f04_on_a_full_disk_a_user_is_disabled_in_their_account_as_well() {
    let directory = tempfile::tempdir().expect("a directory");
    let Some(disk) = SmallDisk::mount(directory.path(), "1m") else {
        eprintln!("skipped: needs the right to mount a tmpfs");
        return;
    };
    let office = Office::in_directory(directory);
    let store = SqliteStore::open(office.path(), &OpenOptions::serve()).expect("a store");
    let ada: SubjectId = "ada".parse().expect("a subject");
    assert!(wait(store.create(&account(&ada), &EncodedPassword::from_store("!"), Distinct::ByCase)));
    let mut size = 0;
    while fs::write(office.file("filler"), vec![1; size + 8 * 1024]).is_ok() {
        size += 8 * 1024;
    }
    // Longer each time, so that it fits in no room that is left.
    let renaming = |length: usize| AccountChange::FirstName("Augusta ".repeat(length * 1024));
    let too_long = (1..=32).find(|length| executor(store.change(&ada, &[renaming(*length)])).is_err());
    let too_long = renaming(too_long.expect("the disk is full"));
    let disabled = wait(store.change(&ada, &[too_long.clone(), AccountChange::Active(false)]));
    assert!(disabled.is_some_and(|account| !account.active));
    let enabled = executor(store.change(&ada, &[too_long, AccountChange::Active(true)]));
    assert!(enabled.is_err() || office.file("counterfoil.reserve").exists(), "what is left is for revocations");
    drop(store);
    drop(disk);
}
