//! What becomes of tokens when Redis forgets, fails, is replaced or is cut off. The rule of them all: what is gone is refused, what
//! cannot be known is an error, and what had ended does not come back where a node knows of it.
#![cfg(feature = "redis")]

mod cellar;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;

use cellar::{Cellar, NOW, RUNTIME, connect, later, said, try_connect};
use counterfoil_core::conformance::wait;
use counterfoil_core::secret::TokenDigest;
use counterfoil_core::store::{
    Answer, Bump, Changed, Issue, IssueOutcome, RevokeOutcome, Rotation, TokenFilter, TokenQuery,
};
use counterfoil_core::token::Standing;
use counterfoil_core::{CheckKey, SubjectId, SubjectState, Timestamp, TokenStore};
use counterfoil_lab::redis::{Cluster, Options, Reply, Sentinels, Server, Stop};
use counterfoil_lab::within;
use counterfoil_store::redis::Severity;

fn error<T: std::fmt::Debug>(answer: Answer<'_, T>) -> String {
    said(&pollster::block_on(answer).expect_err("an answer that nobody has"))
}

/// Waits until the store answers again, and whether it lets in.
fn healed(cellar: &Cellar, digest: TokenDigest) -> bool {
    within("the store answers again", || cellar.lets_in(digest).ok())
}

fn incarnation(cellar: &Cellar) -> [u8; 16] {
    wait(cellar.store.changes(0, 0)).incarnation
}

/// As a node does four times a second.
fn follow(cellar: &Cellar) {
    wait(cellar.store.changes(0, u32::MAX));
}

// ── F24: what is lost is refused ────────────────────────────────────────────────────────────────────────────────────

#[test]
fn f24_what_a_flush_took_is_refused_and_the_store_goes_on_as_another() {
    let server = Server::start();
    let cellar = Cellar::at(&server.url());
    let (_, digest) = cellar.issued();
    let key = wait(cellar.store.open(&key(&cellar), &cellar::default_client(&cellar.entropy))).check_keys;
    let before = incarnation(&cellar);
    let gone: SubjectId = "gone".parse().expect("a subject");
    wait(cellar.store.open_subject(&gone, NOW));
    wait(cellar.store.set_subject_state(&gone, SubjectState::Buried, NOW));
    assert_eq!(cellar.lets_in(digest), Ok(true));
    server.command(&["FLUSHALL"]);
    assert_eq!(cellar.lets_in(digest), Ok(false), "absent is refused");
    assert_ne!(incarnation(&cellar), before, "caches are emptied");
    assert_eq!(wait(cellar.store.open_subject(&gone, NOW)).state, SubjectState::Buried, "nobody inherits");
    // People can log in again, and texts minted meanwhile keep the check that this node gives them.
    wait(cellar.store.open_subject(&cellar.ada, NOW));
    let (_, fresh) = cellar.issued();
    assert_eq!(cellar.lets_in(fresh), Ok(true));
    let again =
        wait(connect(&server.url()).open(&CheckKey::from_bytes([9; 16]), &cellar::default_client(&cellar.entropy)));
    assert_eq!(again.check_keys, key);
}

#[test]
fn f24_a_flush_enables_nobody_and_ends_nothing_that_is_made_after_it() {
    let server = Options::new().set("appendonly", "yes").set("appendfsync", "always").start();
    let cellar = Cellar::at(&server.url());
    let other = Cellar::of(connect(&server.url()), 2);
    cellar.issued();
    for _ in 0..3 {
        assert!(wait(
            cellar.store.bump_epoch(&Bump::Subject { id: cellar.ada.clone(), keys_too: true, keep: None }, NOW)
        ));
    }
    let off: SubjectId = "off".parse().expect("a subject");
    wait(cellar.store.open_subject(&off, NOW));
    wait(cellar.store.set_subject_state(&off, SubjectState::Disabled, NOW)).expect("there");
    follow(&other);
    server.command(&["FLUSHALL"]);
    follow(&cellar);
    assert_eq!(
        wait(cellar.store.open_subject(&off, NOW)).state,
        SubjectState::Disabled,
        "an account that was disabled"
    );
    wait(cellar.store.open_subject(&cellar.ada, NOW));
    let (_, fresh) = cellar.issued();
    follow(&other);
    assert_eq!((cellar.lets_in(fresh), other.lets_in(fresh)), (Ok(true), Ok(true)));
    // The next life of the server: what is known to have ended is ended again, and that is from before the flush.
    server.stop(Stop::Kill);
    server.begin();
    assert!(healed(&cellar, fresh), "it had not ended");
    assert!(healed(&other, fresh), "nor for a node that did not see the flush itself");
}

#[test]
fn f24_a_redis_where_nobody_has_opened_a_store_tells_the_date_and_nothing_else() {
    let server = Server::start();
    let unopened = connect(&server.url());
    let changes = wait(unopened.changes(0, u32::MAX));
    assert_eq!((changes.head, changes.rows.len(), changes.incarnation), (0, 0, [0; 16]));
    assert!(changes.clock.is_some_and(|clock| clock > Timestamp::from_millis(1_790_000_000_000)), "{changes:?}");
    assert!(error(unopened.subject(&"ada".parse().expect("a subject"))).contains("nothing is kept here"));
    let cellar = Cellar::of(unopened, 1);
    assert_ne!(incarnation(&cellar), [0; 16]);
    // A replica tells nothing.
    let replica = server.replica();
    assert!(try_connect(&replica.url(), 7).is_err() || !error(connect(&replica.url()).changes(0, 1)).is_empty());
}

fn key(cellar: &Cellar) -> CheckKey {
    CheckKey::generate(&cellar.entropy).expect("entropy")
}

#[test]
fn f24_whatever_is_evicted_nothing_that_had_ended_comes_back() {
    let server = Options::new().set("maxmemory-policy", "allkeys-random").set("maxmemory-samples", "10").start();
    let cellar = Cellar::at(&server.url());
    let people: Vec<SubjectId> = (0..20).map(|number| format!("person-{number}").parse().expect("a subject")).collect();
    let (mut ended, mut living) = (Vec::new(), Vec::new());
    for round in 0..30 {
        for (number, who) in people.iter().enumerate() {
            wait(cellar.store.open_subject(who, NOW));
            let order = Issue { subject: who.clone(), expires_at: None, ..cellar.order() };
            let token = cellar.issue(&order);
            if (number + round) % 3 == 0 {
                wait(cellar.store.revoke(token.id, None, None, NOW));
                ended.push(order.digest);
            } else {
                living.push((number, order.digest));
            }
        }
    }
    for (number, who) in people.iter().enumerate().filter(|(number, _)| number % 2 == 0) {
        assert!(wait(cellar.store.bump_epoch(&Bump::Subject { id: who.clone(), keys_too: true, keep: None }, NOW)));
        let (gone, stay) = living.into_iter().partition(|(whose, _)| *whose == number);
        living = stay;
        let gone: Vec<(usize, TokenDigest)> = gone;
        ended.extend(gone.into_iter().map(|(_, digest)| digest));
    }
    let used = server.command(&["INFO", "memory"]).text();
    let used: u64 = used.lines().find_map(|line| line.strip_prefix("used_memory:")?.parse().ok()).expect("a figure");
    let mut evicting = used;
    while living.iter().filter(|(_, digest)| cellar.lets_in(*digest) == Ok(true)).count() * 2 > living.len() {
        evicting -= 20_000;
        server.command(&["CONFIG", "SET", "maxmemory", &evicting.to_string()]);
        within("it evicts", || {
            let now = server.command(&["INFO", "memory"]).text();
            let now: u64 =
                now.lines().find_map(|line| line.strip_prefix("used_memory:")?.parse().ok()).expect("a figure");
            server.command(&["SET", "filler", "x"]);
            (now <= evicting + 10_000).then_some(())
        });
    }
    let no_longer = |cellar: &Cellar| {
        let back = ended.iter().filter(|digest| cellar.lets_in(**digest) == Ok(true)).count();
        assert_eq!(back, 0, "of {}", ended.len());
    };
    no_longer(&cellar);
    // Whoever logs in again gets a row anew, at epoch 0; what had ended by the epochs of the old one stays ended.
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    for who in &people {
        within("the subject is there", || pollster::block_on(cellar.store.open_subject(who, NOW)).ok());
    }
    no_longer(&cellar);
}

#[test]
fn f24_what_would_have_to_be_complete_is_an_error_where_an_index_was_evicted() {
    let database = counterfoil_lab::redis::database();
    let cellar = Cellar::at(database.url());
    let (_, digest) = cellar.issued();
    assert_eq!(database.command(&["DEL", "{cf}:n", "{cf}:i:ada"]), Reply::Number(2));
    let replacing = Issue { reissue: counterfoil_core::client::Reissue::Replace, ..cellar.order() };
    let refused = [
        error(cellar.store.list(&TokenQuery { limit: 10, ..TokenQuery::default() })),
        error(cellar.store.count_matching(&TokenFilter::default(), NOW)),
        error(cellar.store.revoke_matching(&TokenFilter::of(cellar.ada.clone()), 10, NOW)),
        error(cellar.store.issue(&replacing, NOW)),
    ];
    assert!(refused.iter().all(|why| why.contains("noeviction")), "{refused:?}");
    assert_eq!(cellar.lets_in(digest), Ok(true), "what needs no index goes on");
}

#[test]
fn f24_a_full_server_issues_nothing_and_still_ends_tokens() {
    let server = Server::start();
    let cellar = Cellar::at(&server.url());
    let (token, digest) = cellar.issued();
    let (_, by_epoch) = cellar.issued();
    let order = cellar.order();
    server.command(&["CONFIG", "SET", "maxmemory", "1000000"]);
    assert!(error(cellar.store.issue(&order, NOW)).contains("OOM"));
    assert!(error(cellar.store.ready()).contains("OOM"));
    assert_eq!(cellar.lets_in(digest), Ok(true), "look-ups go on");
    assert!(matches!(wait(cellar.store.revoke(token.id, None, None, NOW)), RevokeOutcome::Revoked(_)));
    assert_eq!((cellar.lets_in(digest), cellar.lets_in(by_epoch)), (Ok(false), Ok(true)));
    assert!(wait(cellar.store.bump_epoch(&Bump::Deployment, NOW)));
    assert_eq!(cellar.lets_in(by_epoch), Ok(false));
    assert_eq!(wait(cellar.store.purge(NOW, 10)), 2, "and what is dead makes room");
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    assert!(matches!(wait(cellar.store.issue(&order, NOW)), IssueOutcome::Issued { .. }));
}

#[test]
fn f24_a_restart_keeps_what_was_written_down_and_refuses_what_was_not() {
    for (appendonly, kept) in [("yes", true), ("no", false)] {
        let server = Options::new().set("appendonly", appendonly).set("appendfsync", "always").start();
        let cellar = Cellar::at(&server.url());
        let ((_, live), (token, revoked)) = (cellar.issued(), cellar.issued());
        wait(cellar.store.revoke(token.id, None, None, NOW));
        let before = incarnation(&cellar);
        server.stop(Stop::Kill);
        error(cellar.store.ready());
        cellar.lets_in(live).expect_err("away is no answer");
        server.begin();
        assert_eq!(healed(&cellar, live), kept);
        assert_eq!(cellar.lets_in(revoked), Ok(false));
        assert_ne!(incarnation(&cellar), before);
    }
}

// ── F25: what a failover takes back ─────────────────────────────────────────────────────────────────────────────────

/// Tokens that were ended in every way there is, by one node, and were all live when the snapshot was taken.
fn end_in_every_way(cellar: &Cellar) -> Vec<(&'static str, TokenDigest)> {
    let store = &cellar.store;
    let person = |name: &str| -> (SubjectId, TokenDigest) {
        let id: SubjectId = name.parse().expect("a subject");
        wait(store.open_subject(&id, NOW));
        let order = Issue { subject: id.clone(), ..cellar.order() };
        cellar.issue(&order);
        (id, order.digest)
    };
    let (revoked, by_revocation) = cellar.issued();
    let (matched, by_filter) = person("matched");
    let (out, by_epoch) = person("logged-out");
    let (off, by_disabling) = person("disabled");
    let (gone, by_burying) = person("buried");
    let (rotated, given_up) = cellar.issued();
    let (settled, closed) = cellar.issued();
    let settling = cellar.order().digest;
    let rotation =
        Rotation { id: settled.id, presented: closed, successor: settling, sealed: None, grace_until: later(60_000) };
    wait(store.rotate(&rotation, NOW));
    let capped = Issue { subject: "capped".parse().expect("a subject"), ..cellar.order() };
    wait(store.open_subject(&capped.subject, NOW));
    cellar.issue(&capped);

    let ended = vec![
        ("revoked", by_revocation),
        ("revoked by a filter", by_filter),
        ("logged out everywhere", by_epoch),
        ("disabled", by_disabling),
        ("buried", by_burying),
        ("given up", given_up),
        ("beyond a cap", capped.digest),
    ];
    for (how, digest) in ended.iter().chain([&("in its grace", settling)]) {
        assert_eq!(cellar.lets_in(*digest), Ok(true), "{how}");
    }
    SNAPSHOT.with(|snapshot| snapshot.borrow_mut().take().expect("set")());

    wait(store.revoke(revoked.id, None, None, NOW));
    assert_eq!(wait(store.revoke_matching(&TokenFilter::of(matched), 10, NOW)), 1);
    assert!(wait(store.bump_epoch(&Bump::Subject { id: out, keys_too: true, keep: None }, NOW)));
    wait(store.set_subject_state(&off, SubjectState::Disabled, NOW)).expect("there");
    wait(store.set_subject_state(&gone, SubjectState::Buried, NOW)).expect("there");
    let rotation = Rotation {
        id: rotated.id,
        presented: given_up,
        successor: cellar.order().digest,
        sealed: None,
        grace_until: NOW,
    };
    wait(store.rotate(&rotation, NOW));
    wait(store.settle_rotation(settled.id, &settling, NOW));
    let next = Issue {
        subject: capped.subject.clone(),
        reissue: counterfoil_core::client::Reissue::Replace,
        ..cellar.order()
    };
    cellar.issue(&next);
    for (how, digest) in &ended[..5] {
        assert_eq!(cellar.lets_in(*digest), Ok(false), "{how}");
    }
    ended
}

thread_local! {
    /// What is done between the making of the tokens and their end.
    static SNAPSHOT: std::cell::RefCell<Option<Box<dyn FnOnce()>>> = const { std::cell::RefCell::new(None) };
}

fn then(act: impl FnOnce() + 'static) {
    SNAPSHOT.with(|snapshot| *snapshot.borrow_mut() = Some(Box::new(act)));
}

#[test]
fn f25_what_ended_before_a_server_lost_its_last_writes_ends_again() {
    let server = Arc::new(Server::start());
    let cellar = Cellar::at(&server.url());
    let mut other = Cellar::of(connect(&server.url()), 2);
    let saving = Arc::clone(&server);
    then(move || assert_eq!(saving.command(&["SAVE"]), Reply::Text("OK".into())));
    let ended = end_in_every_way(&cellar);
    follow(&other);
    server.stop(Stop::Kill);
    server.begin();

    // A node that knows of nothing is the measure: they have all come back.
    let stranger = connect(&server.url());
    for (how, digest) in &ended {
        let candidates = counterfoil_core::secret::Candidates::Native(*digest);
        let found = wait(stranger.find(&candidates)).unwrap_or_else(|| panic!("{how} is there"));
        assert_eq!(found.standing(NOW), Standing::Live, "{how}: the test is to show something");
    }
    // One that read of them in the log ends them all again before it answers anything.
    for (how, digest) in &ended {
        assert!(!healed(&other, *digest), "{how} came back");
    }
    // And so for everybody.
    for (how, digest) in &ended {
        assert_eq!(cellar.lets_in(*digest), Ok(false), "{how} came back");
    }
    assert_eq!(
        wait(cellar.store.subject(&"buried".parse().expect("a subject"))).expect("there").state,
        SubjectState::Buried
    );
    // What was asserted is in the log of the new life, for the caches of those who had not heard.
    let logged = wait(stranger.changes(0, 1_000)).rows.len();
    assert!(logged >= ended.len(), "{logged}");
    // Enough is enough: nothing is ended twice.
    let head = wait(stranger.changes(0, 0)).head;
    other.store = connect(&server.url());
    follow(&cellar);
    assert_eq!(wait(stranger.changes(0, 0)).head, head);
}

#[test]
fn f25_a_failover_that_lost_a_revocation_is_mended_by_the_nodes_that_know_it() {
    let all = Sentinels::start();
    let url = format!("redis+sentinel://{}/{}", all.addresses().join(","), Sentinels::NAME);
    let cellar = Cellar::at(&url);
    let (token, digest) = cellar.issued();
    let (_, other) = cellar.issued();
    let life = incarnation(&cellar);
    all.primary.command(&["WAIT", "1", "5000"]);
    within("the replica has them", || {
        let offset = |server: &Server, field: &str| {
            let about = server.command(&["INFO", "replication"]).text();
            about.lines().find_map(|line| line.strip_prefix(field)?.parse::<u64>().ok())
        };
        (offset(&all.primary, "master_repl_offset:") <= offset(&all.replica, "slave_repl_offset:")).then_some(())
    });
    // The link is cut, the revocation acknowledged, the primary lost.
    all.replica.command(&["REPLICAOF", "127.0.0.1", "1"]);
    assert!(matches!(wait(cellar.store.revoke(token.id, None, None, NOW)), RevokeOutcome::Revoked(_)));
    all.primary.stop(Stop::Kill);
    within("the replica takes over", || {
        let never = cellar.lets_in(digest);
        assert_ne!(never, Ok(true), "it came back");
        (never == Ok(false)).then_some(())
    });
    assert_eq!(cellar.lets_in(other), Ok(true), "what had not ended lives on");
    assert_ne!(incarnation(&cellar), life, "caches are emptied");
    within("the Sentinels agree", || (all.primary_port() == all.replica.port()).then_some(()));
    assert_eq!(Cellar::of(connect(&url), 3).lets_in(digest), Ok(false), "for everybody");
}

#[test]
fn f25_a_write_that_no_replica_has_is_not_acknowledged_where_that_was_asked_for() {
    let server = Server::start();
    let cellar = Cellar::at(&server.url());
    let (token, digest) = cellar.issued();
    let careful = connect(&format!("{}?wait_replicas=1&wait_timeout_ms=200", server.url()));
    assert!(error(careful.revoke(token.id, None, None, NOW)).contains("0 of 1 replicas"));
    assert_eq!(cellar.lets_in(digest), Ok(false), "it is not said, and done all the same");
    let _replica = server.replica();
    within("the replica acknowledges", || pollster::block_on(careful.ready()).ok());
    let (token, _) = cellar.issued();
    assert!(matches!(wait(careful.revoke(token.id, None, None, NOW)), RevokeOutcome::Revoked(_)));
}

// ── F26: not a primary ──────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn f26_a_primary_that_became_a_replica_is_an_error_and_never_a_no() {
    let (server, other) = (Server::start(), Server::start());
    let cellar = Cellar::at(&server.url());
    let (token, digest) = cellar.issued();
    server.command(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]);
    let refused = cellar.lets_in(digest).expect_err("no answer of a replica counts");
    assert!(refused.contains("replica"), "{refused}");
    error(cellar.store.changes(0, 0));
    error(cellar.store.revoke(token.id, None, None, NOW));
    within("it has copied the other", || {
        server.command(&["INFO", "replication"]).text().contains("master_link_status:up").then_some(())
    });
    server.promote();
    // Its data are the other's by now, which has none.
    assert!(!healed(&cellar, digest));
}

/// A server that takes a second to load a few hundred keys, and answers meanwhile.
fn slow_to_load() -> Options {
    Options::new().set("key-load-delay", "2000").set("loading-process-events-interval-bytes", "1024")
}

#[test]
fn f26_a_server_that_is_still_loading_is_an_error_until_it_has_loaded() {
    let server = Arc::new(slow_to_load().start());
    let cellar = Cellar::at(&server.url());
    let (_, digest) = cellar.issued();
    for _ in 0..200 {
        cellar.issued();
    }
    server.command(&["SAVE"]);
    server.stop(Stop::Kill);
    let loaded = Arc::new(AtomicBool::new(false));
    let beginning = thread::spawn({
        let (server, loaded) = (Arc::clone(&server), Arc::clone(&loaded));
        move || {
            server.begin();
            loaded.store(true, Ordering::Release);
        }
    });
    let mut said_loading = 0;
    while !loaded.load(Ordering::Acquire) {
        match cellar.lets_in(digest) {
            Ok(true) => break,
            Ok(false) => panic!("a no while it loads"),
            Err(why) => said_loading += usize::from(why.to_lowercase().contains("loading")),
        }
    }
    beginning.join().expect("it began");
    assert!(said_loading > 0, "it was asked while it loaded");
    assert!(healed(&cellar, digest));
}

#[test]
fn f26_a_node_of_a_cluster_that_has_other_slots_is_an_error() {
    let cluster = Cluster::start();
    let answers: Vec<Result<(), String>> = cluster
        .urls()
        .iter()
        .map(|url| {
            let store = try_connect(url, 9).map_err(|error| said(&error))?;
            pollster::block_on(store.subject(&"ada".parse().expect("a subject"))).map_err(|error| said(&error))?;
            Ok(())
        })
        .collect();
    assert!(answers.iter().all(Result::is_err), "{answers:?}");
    assert!(answers.iter().flat_map(|answer| answer.as_ref().err()).any(|why| why.contains("Moved")), "{answers:?}");
}

#[test]
fn f18_a_primary_that_its_replicas_have_left_answers_nothing_where_it_needs_one() {
    let server = Options::new().set("min-replicas-to-write", "1").set("min-replicas-max-lag", "1").start();
    let replica = server.replica();
    let cellar = within("the replica counts", || {
        let store = try_connect(&server.url(), 10).ok()?;
        pollster::block_on(store.ready()).err().is_none_or(|error| said(&error).contains("CFEMPTY")).then_some(store)
    });
    let cellar = Cellar::of(cellar, 1);
    let (_, digest) = cellar.issued();
    replica.stop(Stop::Kill);
    let refused = within("it notices", || cellar.lets_in(digest).err());
    assert!(refused.contains("NOREPLICAS"), "{refused}");
    error(cellar.store.changes(0, 0));
    replica.begin();
    assert!(healed(&cellar, digest));
}

#[test]
fn f19_through_sentinels_the_new_primary_is_found() {
    let all = Sentinels::start();
    let url = format!("redis+sentinel://127.0.0.1:1,{}/{}/0", all.addresses().join(","), Sentinels::NAME);
    let cellar = Cellar::at(&url);
    let (token, digest) = cellar.issued();
    assert_eq!(all.primary.command(&["WAIT", "1", "5000"]), Reply::Number(1));
    within("the replica has it", || {
        let about = all.replica.command(&["DBSIZE"]);
        (about == all.primary.command(&["DBSIZE"])).then_some(())
    });
    all.primary.stop(Stop::Kill);
    cellar.lets_in(digest).expect_err("nobody is there");
    assert!(healed(&cellar, digest));
    within("it writes", || pollster::block_on(cellar.store.revoke(token.id, None, None, NOW)).ok());
    assert_eq!(cellar.lets_in(digest), Ok(false));
}

// ── Time, deadlines, dropped requests ───────────────────────────────────────────────────────────────────────────────

#[test]
fn f29_the_expiry_of_the_server_is_garbage_collection_and_never_the_judge() {
    let database = counterfoil_lab::redis::database();
    let cellar = Cellar::at(database.url());
    const DAY: i64 = 86_400_000;
    let ttl = |digest: TokenDigest| -> i64 {
        let mut connection =
            redis::Client::open(database.url()).and_then(|client| client.get_connection()).expect("there");
        let key = [b"{cf}:d:".as_slice(), digest.as_bytes()].concat();
        redis::cmd("PTTL").arg(key).query(&mut connection).expect("an answer")
    };
    let issue = |expires_at| {
        let order = Issue { expires_at, ..cellar.order() };
        (cellar.issue(&order).id, order.digest)
    };
    let (id, digest) = issue(Some(later(1)));
    assert!((89 * DAY..=90 * DAY + 1).contains(&ttl(digest)), "{}", ttl(digest));
    let found = cellar.find(digest).expect("an expired one is there");
    assert_eq!((found.standing(NOW), found.standing(later(1))), (Standing::Live, Standing::Expired));
    assert_eq!(ttl(issue(None).1), -1, "what never expires is kept");
    // Nodes whose clocks are decades behind or ahead of the server's.
    for now in [Timestamp::from_millis(1_000), Timestamp::from_millis(4_000_000_000_000)] {
        let order = Issue { expires_at: Some(now.plus_millis(10)), ..cellar.order() };
        assert!(matches!(wait(cellar.store.issue(&order, now)), IssueOutcome::Issued { .. }));
        assert_eq!(cellar.find(order.digest).expect("there").standing(now), Standing::Live);
        assert!(ttl(order.digest) > 89 * DAY);
    }
    // A renewal moves it along, and one without an end takes it away.
    wait(cellar.store.renew(id, Some(later(DAY.unsigned_abs())), NOW));
    assert!(ttl(digest) > 90 * DAY, "{}", ttl(digest));
    wait(cellar.store.renew(id, None, NOW));
    assert_eq!(ttl(digest), -1);
}

#[test]
fn f17_a_server_that_does_not_answer_is_an_error_in_time_and_found_again() {
    let server = Server::start();
    let cellar = Cellar::of(connect(&format!("{}?timeout_ms=200", server.url())), 1);
    let (_, digest) = cellar.issued();
    server.freeze();
    let refused: Vec<String> = thread::scope(|scope| {
        let asking: Vec<_> =
            (0..8).map(|_| scope.spawn(|| cellar.lets_in(digest).expect_err("nobody answers"))).collect();
        asking.into_iter().map(|one| one.join().expect("an answer")).collect()
    });
    assert!(refused.iter().all(|why| why.contains("in time") || why.contains("reached")), "{refused:?}");
    server.thaw();
    assert!(healed(&cellar, digest));
}

#[test]
fn a_request_that_is_dropped_half_way_is_carried_out_all_the_same() {
    let database = counterfoil_lab::redis::database();
    let cellar = Cellar::at(database.url());
    let (token, digest) = cellar.issued();
    {
        let mut revoking = pin!(cellar.store.revoke(token.id, None, None, NOW));
        let mut context = Context::from_waker(Waker::noop());
        // Done already, where this thread stood still meanwhile.
        let polled = revoking.as_mut().poll(&mut context);
        assert!(!matches!(polled, Poll::Ready(Err(_))), "{polled:?}");
    }
    within("it is carried out", || (cellar.lets_in(digest) == Ok(false)).then_some(()));
    // One that was never begun is not.
    let (token, digest) = cellar.issued();
    drop(cellar.store.revoke(token.id, None, None, NOW));
    assert_eq!(cellar.lets_in(digest), Ok(true));
}

#[test]
fn f24_the_end_of_what_was_evicted_is_not_acknowledged_where_a_node_may_know_it() {
    // The record, its subject, its client.
    for lost in ["t:", "s:", "c:"] {
        let database = counterfoil_lab::redis::database();
        let cellar = Cellar::at(database.url());
        let (token, digest) = cellar.issued();
        let replacing = Issue { reissue: counterfoil_core::client::Reissue::Replace, ..cellar.order() };
        assert_eq!(cellar.lets_in(digest), Ok(true));
        // There, because the name of the record is no text.
        let evict = format!("return redis.call('DEL', unpack(redis.call('KEYS', '{{cf}}:{lost}*')))");
        assert_eq!(database.command(&["EVAL", &evict, "0"]), Reply::Number(1), "{lost}");
        assert_eq!(cellar.lets_in(digest), Ok(false), "{lost}");
        error(cellar.store.revoke(token.id, None, None, NOW));
        let everything = TokenFilter::default();
        error(cellar.store.revoke_matching(&everything, 10, NOW));
        // A login that would end those before it.
        let login = pollster::block_on(cellar.store.issue(&replacing, NOW));
        assert!(!matches!(login, Ok(IssueOutcome::Issued { .. })), "{lost}: {login:?}");
    }
}

/// What nodes are told of from that change on.
fn told(cellar: &Cellar, after: u64) -> Vec<Changed> {
    wait(cellar.store.changes(after, 100)).rows.into_iter().map(|row| row.what).collect()
}

fn head(cellar: &Cellar) -> u64 {
    wait(cellar.store.changes(0, 0)).head
}

#[test]
fn f24_nodes_are_told_of_what_an_order_had_ended_before_it_came_to_what_was_evicted() {
    let database = counterfoil_lab::redis::database();
    let cellar = Cellar::at(database.url());
    let (_, first) = cellar.issued();
    let (evicted, _) = cellar.issued();
    let (_, last) = cellar.issued();
    let evict = format!(
        "return redis.call('DEL', '{{cf}}:t:' .. (string.gsub('{}', '%x%x', function(hex) \
         return string.char(tonumber(hex, 16)) end)))",
        evicted.id.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    );
    assert_eq!(database.command(&["EVAL", &evict, "0"]), Reply::Number(1));
    let before = head(&cellar);
    let everything = TokenFilter::default();
    error(cellar.store.revoke_matching(&everything, 10, NOW));
    assert_eq!((cellar.lets_in(first), cellar.lets_in(last)), (Ok(false), Ok(true)));
    assert_eq!(told(&cellar, before), [Changed::Tokens(vec![first])]);
}

#[test]
fn f24_nodes_are_told_of_a_subject_that_was_evicted_whoever_finds_it_gone() {
    let evict = "return redis.call('DEL', unpack(redis.call('KEYS', '{cf}:s:*')))";
    let ended = |find: &dyn Fn(&Cellar)| {
        let database = counterfoil_lab::redis::database();
        let cellar = Cellar::at(database.url());
        let (_, digest) = cellar.issued();
        assert_eq!(database.command(&["EVAL", evict, "0"]), Reply::Number(1));
        let before = head(&cellar);
        find(&cellar);
        assert_eq!(cellar.lets_in(digest), Ok(false));
        told(&cellar, before).contains(&Changed::Subject(cellar.ada.clone()))
    };
    assert!(ended(&|cellar| {
        let bump = Bump::Subject { id: cellar.ada.clone(), keys_too: true, keep: None };
        assert!(!wait(cellar.store.bump_epoch(&bump, NOW)));
    }));
    assert!(ended(&|cellar| {
        assert!(wait(cellar.store.set_subject_state(&cellar.ada, SubjectState::Disabled, NOW)).is_none());
    }));
    assert!(ended(&|cellar| {
        wait(cellar.store.open_subject(&cellar.ada, NOW));
    }));
    assert!(!ended(&|_| {}), "nobody has found it");
}

#[test]
fn a_server_that_forgot_the_scripts_is_told_them_again() {
    let server = Server::start();
    let cellar = Cellar::at(&server.url());
    let (_, digest) = cellar.issued();
    server.command(&["SCRIPT", "FLUSH"]);
    assert_eq!(cellar.lets_in(digest), Ok(true));
    server.command(&["SCRIPT", "FLUSH"]);
    cellar.issued();
}

#[test]
fn f11_what_one_node_does_another_hears_of() {
    let database = counterfoil_lab::redis::database();
    let (one, other) = (Cellar::at(database.url()), Cellar::of(connect(database.url()), 2));
    let (token, digest) = one.issued();
    assert_eq!(incarnation(&one), incarnation(&other));
    assert!(other.store.is_shared());
    // What is left of the time before is heard first.
    pollster::block_on(other.store.news());
    let heard = RUNTIME.block_on(async {
        let revoked = one.store.revoke(token.id, None, None, NOW).await;
        assert!(matches!(revoked, Ok(RevokeOutcome::Revoked(_))));
        tokio::time::timeout(counterfoil_lab::PATIENCE, other.store.news()).await
    });
    heard.expect("in time");
    assert_eq!(other.lets_in(digest), Ok(false));
    let clock = wait(other.store.changes(0, 0)).clock.expect("the server's own");
    assert!(clock > NOW.minus_millis(365 * 86_400_000), "{clock:?}");
}

#[test]
fn two_deployments_share_a_server_by_their_prefixes() {
    let database = counterfoil_lab::redis::database();
    let (one, other) = (
        Cellar::at(&format!("{}?prefix=one", database.url())),
        // By dice of its own, as in life.
        Cellar::of(try_connect(&format!("{}?prefix=other", database.url()), 8).expect("a store"), 2),
    );
    let (_, digest) = one.issued();
    assert!(other.find(digest).is_none());
    assert_ne!(incarnation(&one), incarnation(&other));
    let Reply::List(keys) = database.command(&["KEYS", "*"]) else { panic!("keys") };
    assert!(
        keys.iter()
            .all(|key| matches!(key, Reply::Text(key) if key.starts_with("{one}:") || key.starts_with("{other}:")))
    );
}

#[test]
fn a_user_who_may_do_what_the_manual_says_is_enough() {
    let server = Server::start();
    let rights =
        "on >secret +@read +@write +@scripting +@pubsub +@connection -@dangerous +info +time +wait ~{cf}:* &{cf}:*";
    let words: Vec<&str> = ["ACL", "SETUSER", "app"].into_iter().chain(rights.split(' ')).collect();
    assert_eq!(server.command(&words), Reply::Text("OK".into()));
    let cellar = Cellar::at(&format!("redis://app:secret@127.0.0.1:{}/0?wait_timeout_ms=100", server.port()));
    let (token, digest) = cellar.issued();
    assert_eq!(cellar.lets_in(digest), Ok(true));
    follow(&cellar);
    wait(cellar.store.revoke(token.id, None, None, NOW));
    wait(cellar.store.purge(later(1), 10));
    assert!(cellar.find(digest).is_none());
    assert!(wait(cellar.store.examine()).iter().any(|finding| finding.what.contains("CONFIG GET")));
    let refused =
        try_connect(&format!("redis://app:wrong@127.0.0.1:{}", server.port()), 3).expect_err("another password");
    assert!(!said(&refused).contains("wrong"), "{}", said(&refused));
}

#[test]
fn the_examination_tells_of_a_server_that_is_not_set_up_for_tokens() {
    let server = Options::new().set("maxmemory-policy", "allkeys-lru").start();
    let store = connect(&server.url());
    let findings = wait(store.examine());
    let grave: Vec<String> =
        findings.iter().filter(|finding| finding.severity == Severity::Grave).map(ToString::to_string).collect();
    assert_eq!(grave.len(), 2, "{findings:?}");
    assert!(grave[0].contains("allkeys-lru") && grave[1].contains("nothing is written to disk"), "{grave:?}");
    for words in [["maxmemory-policy", "noeviction"], ["appendonly", "yes"], ["appendfsync", "always"]] {
        assert_eq!(server.command(&["CONFIG", "SET", words[0], words[1]]), Reply::Text("OK".into()));
    }
    assert_eq!(wait(store.examine()), []);
    let replica = server.replica();
    assert_eq!(wait(store.examine()).len(), 2, "acknowledged before the replica has it, and nobody needed");
    let of_replica = wait(connect(&replica.url()).examine());
    assert!(of_replica.iter().any(|finding| finding.what.contains("a replica")), "{of_replica:?}");
}

#[test]
fn nothing_of_a_secret_and_no_name_of_ours_is_in_a_key_beyond_what_is_said() {
    let database = counterfoil_lab::redis::database();
    let cellar = Cellar::at(database.url());
    cellar.issue(&Issue { cap: None, ..cellar.order() });
    wait(cellar.store.count_try(Some(&cellar.ada), NOW)).expect("free");
    wait(cellar.store.count_try(None, NOW)).expect("free");
    let Reply::List(keys) = database.command(&["KEYS", "*"]) else { panic!("keys") };
    let mut kinds: Vec<String> = keys
        .into_iter()
        .map(|key| {
            key.text().strip_prefix("{cf}:").expect("the prefix").chars().take_while(|one| *one != ':').collect()
        })
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, ["a", "c", "cn", "d", "e", "i", "k", "m", "n", "s", "t"]);
}
