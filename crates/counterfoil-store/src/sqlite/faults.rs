//! What no caller can bring about from outside: jobs that panic, fail alone, spoil their connection or are forgotten.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use counterfoil_core::account::Role;
use counterfoil_core::conformance::wait;
use counterfoil_core::store::{AccountQuery, AuditQuery, TokenFilter, TokenQuery};
use counterfoil_core::token::{Kind, TokenId};
use counterfoil_core::{AccountStore, Answer, AuditStore, ClientName, StoreError, SubjectId, Timestamp, TokenStore};
use rusqlite::{Connection, ErrorCode, ffi};

use super::fault::Fault;
use super::writer::Purpose;
use super::{OpenOptions, SqliteStore};

fn store() -> (tempfile::TempDir, SqliteStore) {
    let directory = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::open(directory.path(), &OpenOptions::serve()).expect("a store");
    (directory, store)
}

fn add(connection: &Connection, name: &str) -> Result<(), Fault> {
    connection.execute("INSERT INTO subjects (name) VALUES (?1)", [name])?;
    Ok(())
}

fn adding<'a>(store: &'a SqliteStore, name: &'static str) -> Answer<'a, ()> {
    store.write("adding", Purpose::Ordinary, move |connection| add(connection, name))
}

fn names(store: &SqliteStore) -> Vec<String> {
    wait(store.read("reading", |reader| {
        let mut statement = reader.connection.prepare("SELECT name FROM subjects ORDER BY key")?;
        Ok(statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }))
}

fn commits(store: &SqliteStore) -> i64 {
    wait(store.read("reading", |reader| {
        Ok(reader.connection.query_row("SELECT commits FROM deployment", [], |row| row.get(0))?)
    }))
}

/// What `wait` of the suite would panic at.
fn failure<T: std::fmt::Debug + Send + 'static>(answer: Answer<'_, T>) -> String {
    let error: StoreError = wait(Box::pin(async { Ok(answer.await.expect_err("refused")) }));
    let cause = std::error::Error::source(&error).expect("the cause is kept").to_string();
    format!("{error}: {cause}")
}

/// Keeps the writing thread busy until told, so that what is asked for meanwhile shares a transaction.
struct Held {
    release: Sender<()>,
}

fn hold<'a>(store: &'a SqliteStore) -> (Held, Answer<'a, ()>) {
    let (release, released) = channel::<()>();
    let (started, running) = channel::<()>();
    let released: Mutex<Receiver<()>> = Mutex::new(released);
    let mut answer = store.write("holding", Purpose::Ordinary, move |_| {
        started.send(()).ok();
        released.lock().unwrap_or_else(PoisonError::into_inner).recv().ok();
        Ok(())
    });
    ask(&mut answer);
    running.recv().expect("running");
    (Held { release }, answer)
}

/// Polls once: the job is in the queue then.
fn ask<T>(answer: &mut Answer<'_, T>) {
    assert!(matches!(answer.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
}

#[test]
fn what_waits_together_is_committed_together_and_one_failing_job_fails_alone() {
    let (_directory, store) = store();
    let before = commits(&store);
    let (held, holding) = hold(&store);
    let mut good = [adding(&store, "ada"), adding(&store, "bob")];
    let mut bad = store.write("adding", Purpose::Ordinary, |connection| {
        add(connection, "half")?;
        add(connection, "ada")
    });
    let mut last = adding(&store, "carl");
    good.iter_mut().for_each(ask);
    ask(&mut bad);
    ask(&mut last);
    held.release.send(()).expect("waiting");
    wait(holding);
    good.into_iter().for_each(wait);
    assert_eq!(failure(bad), "the store failed while adding: UNIQUE constraint failed: subjects.name");
    wait(last);
    assert_eq!(names(&store), ["ada", "bob", "carl"], "nothing of the one that failed");
    assert_eq!(commits(&store), before + 1, "one transaction for all of them");
}

#[test]
fn f36_a_panic_in_a_job_is_an_error_of_that_job_and_of_no_other() {
    let (_directory, store) = store();
    let (held, holding) = hold(&store);
    let mut panicking: Answer<'_, ()> = store.write("panicking", Purpose::Ordinary, |connection| {
        add(connection, "half")?;
        panic!("as planned");
    });
    let mut beside = adding(&store, "ada");
    ask(&mut panicking);
    ask(&mut beside);
    held.release.send(()).expect("waiting");
    wait(holding);
    assert_eq!(failure(panicking), "the store failed while panicking: the work panicked; nothing of it stands");
    wait(beside);
    assert_eq!(names(&store), ["ada"]);

    let reading: Answer<'_, ()> = store.read("panicking", |_| panic!("as planned"));
    assert!(failure(reading).contains("panicked"));
    assert_eq!(names(&store), ["ada"]);
}

#[test]
fn f03_after_an_i_o_error_nothing_is_acknowledged_and_another_connection_is_opened() {
    let (_directory, store) = store();
    wait(adding(&store, "ada"));
    let (held, holding) = hold(&store);
    let mut before = adding(&store, "bob");
    let mut failing: Answer<'_, ()> = store.write("writing", Purpose::Ordinary, |_| {
        Err(Fault::Sqlite(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_IOERR_FSYNC), None)))
    });
    let mut after = adding(&store, "carl");
    ask(&mut before);
    ask(&mut failing);
    ask(&mut after);
    held.release.send(()).expect("waiting");
    wait(holding);
    for answer in [before, failing, after] {
        let failure = failure(answer);
        assert!(failure.contains("disk I/O error") || failure.contains("Error code"), "{failure}");
    }
    assert_eq!(names(&store), ["ada"], "none of the group stands");
    wait(adding(&store, "dora"));
    assert_eq!(names(&store), ["ada", "dora"], "healed");
}

#[test]
fn f03_a_file_that_holds_less_than_was_acknowledged_is_not_written_to() {
    let (_directory, store) = store();
    wait(adding(&store, "ada"));
    // As if the log had been lost under the running server.
    let failing: Answer<'_, ()> = store.write("writing", Purpose::Ordinary, |connection| {
        connection.execute_batch("UPDATE deployment SET commits = 0; COMMIT")?;
        Err(Fault::Sqlite(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_IOERR_READ), None)))
    });
    failure(failing);
    assert!(failure(adding(&store, "bob")).contains("older than what was acknowledged"));
    assert_eq!(names(&store), ["ada"]);
}

#[test]
fn a_job_runs_to_its_end_though_nobody_waits_for_it() {
    let (_directory, store) = store();
    let (held, holding) = hold(&store);
    let mut forgotten = adding(&store, "ada");
    ask(&mut forgotten);
    drop(forgotten);
    drop(adding(&store, "never asked"));
    held.release.send(()).expect("waiting");
    wait(holding);
    wait(store.ready());
    assert_eq!(names(&store), ["ada"]);
}

#[test]
fn work_is_bounded_and_closing_finishes_what_was_taken_on() {
    let (_directory, store) = store();
    let (held, holding) = hold(&store);
    let mut taken = Vec::new();
    let refused = loop {
        let mut answer = store.write("counting", Purpose::Ordinary, |connection| {
            Ok(connection.execute("UPDATE deployment SET epoch = epoch + 1", [])?)
        });
        match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => taken.push(answer),
            Poll::Ready(answer) => break answer,
        }
    };
    assert!(refused.is_err_and(|error| error.to_string() == "the store failed while counting"));
    assert!((1_000..10_000).contains(&taken.len()), "{}", taken.len());
    let taken_on = taken.len();
    std::thread::scope(|scope| {
        scope.spawn(|| store.close());
        held.release.send(()).expect("waiting");
    });
    wait(holding);
    assert_eq!(taken.into_iter().map(wait).sum::<usize>(), taken_on);
    assert!(failure(adding(&store, "late")).contains("has been closed"));
    assert!(failure(TokenStore::clients(&store)).contains("has been closed"));
}

#[test]
fn look_ups_beside_a_panicked_one_go_on() {
    let (_directory, store) = store();
    let store = Arc::new(store);
    let panicking = Arc::clone(&store);
    let panicked = std::thread::spawn(move || {
        wait(panicking.look_up("panicking", &(), |_, ()| -> Result<(), Fault> { panic!("as planned") }));
    });
    assert!(panicked.join().is_err());
    assert_eq!(store.readers.poisoned_seats(), 1);
    // Each from a thread of its own, so that every seat is somebody's in the end; other tests take turns, too.
    for asked in 0..1_000 {
        if asked >= 20 && store.readers.poisoned_seats() == 0 {
            break;
        }
        std::thread::scope(|scope| {
            scope.spawn(|| {
                wait(store.look_up("reading", &(), |reader, ()| {
                    Ok(reader.connection.query_row("SELECT 1", [], |row| row.get::<_, i64>(0))?)
                }));
            });
        });
    }
    assert_eq!(store.readers.poisoned_seats(), 0, "whoever sits down there again opens another connection, once");
}

#[test]
fn a_look_up_reads_one_leaf_of_one_index_and_is_planned_once() {
    let (directory, store) = store();
    let plan: Vec<String> = wait(store.read("explaining", |reader| {
        let mut statement = reader.connection.prepare(&format!("EXPLAIN QUERY PLAN {}", super::tokens::FIND))?;
        Ok(statement.query_map(["", ""], |row| row.get(3))?.collect::<Result<_, _>>()?)
    }));
    assert_eq!(
        plan,
        [
            "SEARCH t USING COVERING INDEX tokens_by_digest (digest=? AND scheme=?)",
            "SEARCH s USING INTEGER PRIMARY KEY (rowid=?)",
            "SEARCH c USING INTEGER PRIMARY KEY (rowid=?)",
            "SEARCH d USING INTEGER PRIMARY KEY (rowid=?)",
        ]
    );
    let reprepared = wait(store.read("reading", |reader| {
        let mut statement = reader.connection.prepare(super::tokens::FIND)?;
        for tag in 0..5_u8 {
            assert!(!statement.exists(rusqlite::params![[tag; 32].as_slice(), "native"])?);
        }
        Ok(statement.get_status(rusqlite::StatementStatus::RePrepare))
    }));
    assert_eq!(reprepared, 0);
    drop(directory);
}

fn plan(store: &SqliteStore, sql: &str) -> Vec<String> {
    let sql = format!("EXPLAIN QUERY PLAN {sql}");
    wait(store.read("explaining", move |reader| {
        let mut statement = reader.connection.prepare(&sql)?;
        Ok(statement.raw_query().mapped(|row| row.get(3)).collect::<Result<_, _>>()?)
    }))
}

#[test]
fn a_page_is_read_in_order_and_no_further_than_its_end() {
    let (_directory, store) = store();
    let ada: SubjectId = "ada".parse().expect("a subject");
    let all = TokenFilter::default();
    let theirs = TokenFilter::of(ada);
    let there = TokenFilter { client: Some(ClientName::default_client()), ..all.clone() };
    let theirs_there = TokenFilter { client: there.client.clone(), ..theirs.clone() };
    for whose in [all, theirs, there, theirs_there] {
        for kind in [None, Some(Kind::Login), Some(Kind::Key)] {
            for live_at in [None, Some(Timestamp::MIN)] {
                let filter = TokenFilter { kind, ..whose.clone() };
                let plan = plan(&store, &super::tokens::listing(&filter, live_at));
                assert!(plan.iter().all(|step| !step.contains("TEMP B-TREE")), "{filter:?}: {plan:#?}");
                let expected = match (&filter.subject, &filter.client, kind, live_at) {
                    (Some(_), _, Some(_), Some(_)) => {
                        "SEARCH t USING INDEX tokens_unrevoked (subject=? AND kind=? AND subject_epoch=? AND rowid>?)"
                    }
                    (Some(_), ..) => "SEARCH t USING INDEX tokens_by_subject (subject=? AND rowid>?)",
                    (None, Some(_), ..) => "SEARCH t USING INDEX tokens_by_client (client=? AND rowid>?)",
                    (None, None, ..) => "SEARCH t USING INTEGER PRIMARY KEY (rowid>?)",
                };
                assert_eq!(plan[0], expected, "{filter:?}");
            }
        }
    }
    let plan = plan(&store, &super::tokens::living());
    assert_eq!(plan[0], "SEARCH t USING INDEX tokens_unrevoked (subject=? AND kind=? AND subject_epoch=?)");
    assert!(plan.iter().all(|step| !step.contains("TEMP B-TREE")), "{plan:#?}");
}

#[test]
fn a_page_of_accounts_is_read_in_order_and_no_further_than_its_end() {
    let (_directory, store) = store();
    let email = Some("ada@example.org".parse().expect("an address"));
    for name in [None, Some("ad".to_owned())] {
        let any =
            AccountQuery { name, after: Some("adam".parse().expect("a name")), limit: 1, ..AccountQuery::default() };
        let in_order = "(username_fold,username)>(?,?)";
        for (query, expected) in [
            (any.clone(), format!("accounts_by_username_fold ({in_order})")),
            (AccountQuery { role: Some(Role::User), ..any.clone() }, format!("accounts_by_username_fold ({in_order})")),
            (
                AccountQuery { role: Some(Role::Staff), ..any.clone() },
                format!("accounts_by_role (role=? AND {in_order})"),
            ),
            (AccountQuery { active: Some(false), ..any.clone() }, format!("accounts_disabled ({in_order})")),
            (
                AccountQuery { email: email.clone(), ..any },
                format!("accounts_by_any_email (email_fold=? AND {in_order})"),
            ),
        ] {
            let plan = plan(&store, &super::accounts::listing(&query));
            assert_eq!(plan, [format!("SEARCH accounts USING INDEX {expected}")], "{query:?}");
        }
    }
}

#[test]
fn a_page_of_the_audit_log_is_read_in_order_and_no_further_than_its_end() {
    let (_directory, store) = store();
    let ada: SubjectId = "ada".parse().expect("a subject");
    let (any, token) = (AuditQuery::default, TokenId::from_bytes([7; 16]));
    for (query, expected) in [
        (any(), vec!["INTEGER PRIMARY KEY (rowid<?)"]),
        (AuditQuery { event: Some("ended".to_owned()), ..any() }, vec!["INDEX audit_by_event (event=? AND rowid<?)"]),
        (AuditQuery { by: Some(ada.clone()), ..any() }, vec!["INDEX audit_by_actor (actor_subject=? AND rowid<?)"]),
        (
            AuditQuery { subject: Some(ada), event: Some("ended".to_owned()), ..any() },
            vec!["INDEX audit_by_subject (subject=? AND rowid<?)"],
        ),
        (
            AuditQuery { token: Some(token), ..any() },
            vec![
                "INDEX audit_by_token (token=? AND rowid<?)",
                "INDEX audit_by_actor_token (actor_token=? AND rowid<?)",
            ],
        ),
    ] {
        let plan = plan(&store, &super::audit::listing(&query));
        assert!(plan.iter().all(|step| !step.contains("TEMP B-TREE")), "{query:?}: {plan:#?}");
        let reads: Vec<&str> = plan.iter().filter_map(|step| step.strip_prefix("SEARCH audit USING ")).collect();
        assert_eq!(reads, expected, "{plan:#?}");
        assert!(plan.iter().all(|step| !step.starts_with("SCAN")), "{plan:#?}");
    }
    for (forgetting, index) in [
        (super::audit::REMOVE, "COVERING INDEX audit_by_time"),
        (super::audit::FORGET_WHERE_FROM, "INDEX audit_telling_where_from"),
    ] {
        let plan = plan(&store, forgetting);
        assert!(plan.contains(&format!("SEARCH audit USING {index} (at<?)")), "{plan:#?}");
        assert!(plan.iter().all(|step| !step.contains("TEMP B-TREE") && !step.starts_with("SCAN audit")), "{plan:#?}");
    }
}

#[test]
fn a58_a_try_is_one_commit_whether_it_is_counted_refused_or_at_nobodys_password() {
    let (_directory, store) = store();
    let ada: SubjectId = "ada".parse().expect("a subject");
    let rows = || -> i64 {
        wait(store.read("counting", |reader| {
            Ok(reader.connection.query_row("SELECT count(*) FROM tries", [], |row| row.get(0))?)
        }))
    };
    let mut judged = Vec::new();
    for subject in [None, Some(&ada), Some(&ada), Some(&ada), Some(&ada), Some(&ada), Some(&ada), None] {
        let before = commits(&store);
        judged.push(wait(store.count_try(subject, Timestamp::MIN)).is_ok());
        assert_eq!(commits(&store), before + 1);
    }
    assert_eq!(judged, [true, true, true, true, true, true, false, true], "five are free");
    assert_eq!(rows(), 1);
}

/// So many keys of ada's on one client, half of them from another address.
fn keys(store: &SqliteStore, count: u32) {
    wait(store.write("adding", Purpose::Ordinary, move |connection| {
        add(connection, "ada")?;
        connection.execute(
            "INSERT INTO clients (id, name, policy, allow_login, metadata, created_at)
             VALUES (randomblob(16), 'default', '{}', 1, '{}', 0)",
            [],
        )?;
        connection.execute(
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?1)
             INSERT INTO tokens (id, kind, subject, client, digest, scheme, abilities, issued_at, subject_epoch,
                                 client_epoch, deployment_epoch, metadata, first_ip)
             SELECT randomblob(16), 'key', 1, 1, randomblob(32), 'native', '*', 0, 0, 0, 0, '{}',
                    CASE n % 2 WHEN 0 THEN '192.0.2.1' ELSE '192.0.2.2' END
             FROM numbers",
            [count],
        )?;
        Ok(())
    }));
}

fn seen_there() -> TokenFilter {
    TokenFilter { ip: Some([192, 0, 2, 1].into()), ..TokenFilter::default() }
}

#[test]
fn matching_tokens_are_looked_for_in_stretches_and_none_is_passed_over() {
    let (_directory, store) = store();
    keys(&store, 50_000);
    let now = Timestamp::MIN;
    assert_eq!(wait(store.count_matching(&TokenFilter::default(), now)), 50_000);
    assert_eq!(wait(store.count_matching(&seen_there(), now)), 25_000);
    for expected in [12_000, 12_000, 1_000, 0] {
        assert_eq!(wait(store.revoke_matching(&seen_there(), 12_000, now)), expected);
    }
    assert_eq!(wait(store.count_matching(&seen_there(), now)), 0);
    assert_eq!(wait(store.count_matching(&TokenFilter::default(), now)), 25_000, "the others");
}

#[test]
fn revoking_batch_after_batch_goes_on_where_the_last_one_ended() {
    let (_directory, store) = store();
    keys(&store, 10);
    let (now, filter) = (Timestamp::MIN, seen_there());
    assert_eq!(store.revoked_up_to.of(&filter, now), 0);
    assert_eq!(wait(store.revoke_matching(&filter, 2, now)), 2);
    assert_eq!(store.revoked_up_to.of(&filter, now), 4, "the second of every other one");
    assert_eq!(store.revoked_up_to.of(&TokenFilter::default(), now), 0, "of this filter alone");
    assert_eq!(store.revoked_up_to.of(&filter, Timestamp::MAX), 0, "and as of this instant");
    assert_eq!(wait(store.revoke_matching(&filter, 2, now)), 2);
    assert_eq!(wait(store.revoke_matching(&filter, 2, now)), 1);
    assert_eq!(store.revoked_up_to.of(&filter, now), 0, "whoever asks again begins anew");
}

#[test]
fn a_batch_that_somebody_else_was_quicker_with_is_made_up_of_others() {
    let (_directory, store) = store();
    keys(&store, 8);
    let (now, filter) = (Timestamp::MIN, seen_there());
    // While the writer is busy, both look, find the same, and the second finds it gone when its turn comes.
    let (held, holding) = hold(&store);
    let racers = std::thread::scope(|scope| {
        let racers = [(); 2].map(|()| scope.spawn(|| wait(store.revoke_matching(&filter, 2, now))));
        held.release.send(()).expect("waiting");
        racers.map(|racer| racer.join().expect("revoked"))
    });
    wait(holding);
    assert_eq!(racers, [2, 2]);
    assert_eq!(wait(store.count_matching(&filter, now)), 0);

    // Told what was found before, the writer does nothing by halves.
    let left = TokenFilter::default();
    let stretch = wait(store.look_for("looking", &left, now, 0, 3));
    assert_eq!((stretch.numbers.as_slice(), stretch.reached), ([1, 3, 5].as_slice(), Some(5)));
    let revoke = |numbers: &[u64]| {
        let (numbers, left) = (numbers.to_vec(), left.clone());
        wait(store.write("revoking", Purpose::Revoking, move |connection| {
            super::matching::revoke(connection, &numbers, &left, now)
        }))
    };
    assert!(revoke(&[3]));
    assert!(!revoke(&stretch.numbers));
    assert_eq!(wait(store.count_matching(&left, now)), 3);
}

#[test]
fn the_costs_of_passwords_are_told_while_long_lists_are_read() {
    let (_directory, store) = store();
    let lists = [(); 2].map(|()| {
        let (release, released) = channel::<()>();
        let (started, running) = channel::<()>();
        let released: Mutex<Receiver<()>> = Mutex::new(released);
        let mut list = store.read("listing", move |_| {
            started.send(()).ok();
            released.lock().unwrap_or_else(PoisonError::into_inner).recv().ok();
            Ok(())
        });
        ask(&mut list);
        running.recv().expect("running");
        (release, list)
    });
    let costs = store.password_costs().as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(costs, Poll::Ready(Ok(costs)) if costs.is_empty()), "at once, and not behind them");
    for (release, list) in lists {
        release.send(()).expect("waiting");
        wait(list);
    }
}

#[test]
fn r29_a_search_through_everything_holds_up_nobodys_own_list() {
    let (_directory, store) = store();
    let (release, released) = channel::<()>();
    let (started, running) = channel::<()>();
    let released: Mutex<Receiver<()>> = Mutex::new(released);
    let mut search = store.search("searching", move |_| {
        started.send(()).ok();
        released.lock().unwrap_or_else(PoisonError::into_inner).recv().ok();
        Ok(())
    });
    ask(&mut search);
    running.recv().expect("running");
    // What staff look for waits behind it, however many they are; those who have gone by then are passed over.
    let rare = TokenQuery {
        filter: TokenFilter { ip: Some([192, 0, 2, 1].into()), ..TokenFilter::default() },
        limit: 1,
        ..TokenQuery::default()
    };
    let (audit, accounts) = (AuditQuery::default(), AccountQuery::default());
    let mut behind = store.list(&rare);
    ask(&mut behind);
    ask(&mut store.entries(&audit));
    ask(&mut store.accounts(&accounts));
    let own = TokenQuery { filter: TokenFilter::of("ada".parse().expect("a subject")), ..rare.clone() };
    assert_eq!(wait(store.list(&own)), []);
    let own_by_address = TokenQuery { filter: TokenFilter { ip: rare.filter.ip, ..own.filter.clone() }, ..own };
    assert_eq!(wait(store.list(&own_by_address)), []);
    release.send(()).expect("waiting");
    wait(search);
    assert_eq!(wait(behind), []);
}

#[test]
fn only_a_connection_that_may_lie_is_given_up() {
    let fault = |code| Fault::Sqlite(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
    for code in [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB, ffi::SQLITE_CANTOPEN] {
        assert!(fault(code).spoils_the_connection(), "{code}");
    }
    for code in [ffi::SQLITE_BUSY, ffi::SQLITE_FULL, ffi::SQLITE_CONSTRAINT_UNIQUE] {
        assert!(!fault(code).spoils_the_connection(), "{code}");
    }
    assert_eq!(ffi::Error::new(ffi::SQLITE_BUSY_SNAPSHOT).code, ErrorCode::DatabaseBusy);
    assert!(fault(ffi::SQLITE_BUSY_SNAPSHOT).is_busy() && fault(ffi::SQLITE_FULL).is_full());
}
