//! What goes wrong between a node and its PostgreSQL, and what the store makes of it.
#![cfg(feature = "postgres")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use counterfoil_core::client::{AtCap, Cap, Reissue};
use counterfoil_core::entropy::{Entropy, PredictableEntropy};
use counterfoil_core::secret::{Candidates, DigestScheme, TokenDigest};
use counterfoil_core::store::{
    Bump, Changed, Found, Issue, IssueOutcome, NewClient, RevokeOutcome, TokenFilter, TokenQuery, Warrant,
};
use counterfoil_core::token::{Kind, Metadata, Source, Standing, Token, TokenId};
use counterfoil_core::{
    Abilities, CheckKey, Client, ClientId, ClientName, Policy, StoreError, SubjectId, Timestamp, TokenStore,
};
use counterfoil_lab::pgbouncer::Pooler;
use counterfoil_lab::postgres::{self, Database, Server, Stop};
use counterfoil_lab::proxy::{Faults, Flow, Proxy};
use counterfoil_lab::within;
use counterfoil_store::{ConnectOptions, PostgresStore};
use tokio::runtime::Runtime;

const NOW: Timestamp = Timestamp::from_millis(1_795_172_400_000);

/// Patience that a test has: what is given up is given up soon.
fn hasty() -> ConnectOptions {
    ConnectOptions {
        look_up_deadline: Duration::from_millis(500),
        statement_timeout: Duration::from_secs(1),
        transition_deadline: Duration::from_secs(4),
        ..ConnectOptions::default()
    }
}

/// A node over a database, with a client and a subject called `ada`.
struct Node {
    runtime: Runtime,
    store: PostgresStore,
    client: Arc<Client>,
    ada: SubjectId,
    entropy: PredictableEntropy,
}

impl Node {
    fn over(url: &str) -> Node {
        Node::with(url, &ConnectOptions::default(), 1)
    }

    /// Nodes of different seeds never make the same token.
    fn with(url: &str, options: &ConnectOptions, seed: u64) -> Node {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let store = runtime.block_on(PostgresStore::connect(url, options)).expect("a store");
        let entropy = PredictableEntropy::from_seed(seed);
        let default = NewClient {
            id: ClientId::generate(NOW, &entropy).expect("entropy"),
            name: ClientName::default_client(),
            policy: Policy::default(),
            allow_login: true,
            metadata: Metadata::default(),
            created_at: NOW,
        };
        let key = CheckKey::generate(&entropy).expect("entropy");
        let ada: SubjectId = "ada".parse().expect("a subject");
        let client = runtime.block_on(async {
            store.open(&key, &default).await.expect("opened");
            store.open_subject(&ada, NOW).await.expect("a subject");
            store.client(&default.name).await.expect("asked").expect("the default client")
        });
        Node { runtime, store, client, ada, entropy }
    }

    fn wait<T>(&self, answer: impl Future<Output = Result<T, StoreError>>) -> T {
        self.runtime.block_on(answer).unwrap_or_else(|error| panic!("{}", told(&error)))
    }

    /// What is said where it fails.
    fn refused<T: std::fmt::Debug>(&self, answer: impl Future<Output = Result<T, StoreError>>) -> String {
        told(&self.runtime.block_on(answer).expect_err("it failed"))
    }

    fn order(&self) -> Issue {
        let mut random = [0; 32];
        self.entropy.fill(&mut random).expect("entropy");
        Issue {
            id: TokenId::generate(NOW, &self.entropy).expect("entropy"),
            kind: Kind::Login,
            subject: self.ada.clone(),
            client: self.client.id,
            client_version: self.client.version,
            warrant: Warrant::Operator,
            name: None,
            abilities: Abilities::everything(),
            metadata: Metadata::default(),
            expires_at: Some(NOW.plus_millis(3_600_000)),
            digest: TokenDigest::from_bytes(random),
            scheme: DigestScheme::Native,
            sealed: None,
            source: Source::default(),
            cap: None,
            reissue: Reissue::New,
        }
    }

    fn issue(&self) -> (Token, TokenDigest) {
        let order = self.order();
        match self.wait(self.store.issue(&order, NOW)) {
            IssueOutcome::Issued { token, .. } => (*token, order.digest),
            other @ (IssueOutcome::Same { .. }
            | IssueOutcome::CapReached
            | IssueOutcome::WarrantVoid
            | IssueOutcome::SubjectInactive
            | IssueOutcome::ClientChanged
            | IssueOutcome::Taken) => panic!("{other:?}"),
        }
    }

    fn find(&self, digest: TokenDigest) -> impl Future<Output = Result<Option<Found>, StoreError>> {
        let store = self.store.clone();
        async move { store.find(&Candidates::Native(digest)).await }
    }

    fn standing(&self, digest: TokenDigest) -> Standing {
        self.wait(self.find(digest)).expect("a row").standing(NOW)
    }

    /// What its caches know the store by.
    fn life(&self) -> [u8; 16] {
        self.wait(self.store.changes(0, 1)).incarnation
    }

    fn head(&self) -> u64 {
        self.wait(self.store.changes(0, 0)).head
    }

    fn live(&self) -> Vec<Token> {
        let filter = TokenFilter::of(self.ada.clone());
        self.wait(self.store.list(&TokenQuery { filter, live_at: Some(NOW), after: 0, limit: 1_000 }))
    }
}

fn told(error: &StoreError) -> String {
    format!("{error}: {}", std::error::Error::source(error).map(ToString::to_string).unwrap_or_default())
}

#[test]
fn f12_a_crash_of_the_server_is_an_error_and_the_store_heals_by_itself() {
    let server = Server::start();
    let database = server.database();
    let node = Node::with(database.url(), &hasty(), 1);
    let (token, digest) = node.issue();
    for how in [Stop::Immediate, Stop::Kill, Stop::Fast] {
        server.stop(how);
        node.refused(node.find(digest));
        node.refused(node.store.changes(0, 10));
        node.refused(node.store.renew(token.id, None, NOW));
        server.begin();
        // The first that is asked makes its own way back.
        assert_eq!(node.standing(digest), Standing::Live, "{how:?}");
        node.issue();
    }
    node.wait(node.store.revoke(token.id, None, None, NOW));
    assert_eq!(node.standing(digest), Standing::Revoked);
}

#[test]
fn f13_a_commit_without_an_answer_is_told_as_unknown_and_asking_again_is_safe() {
    let server = Server::start();
    let database = server.database();
    let node = Node::with(database.url(), &hasty(), 1);
    let (token, digest) = node.issue();
    // It waits for a standby that nobody has.
    server.hold_commits();
    let said = node.refused(node.store.revoke(token.id, None, None, NOW));
    assert!(said.contains("unknown"), "{said}");
    server.set("synchronous_standby_names", "");
    let again = node.wait(node.store.revoke(token.id, None, None, NOW));
    assert!(matches!(again, RevokeOutcome::AlreadyRevoked), "it had been carried out: {again:?}");
    assert_eq!(node.standing(digest), Standing::Revoked);
}

#[test]
fn f12_commits_that_wait_for_an_absent_standby_do_not_use_up_the_connections_of_the_server() {
    let server = Server::start();
    // Not in a database of its own, whose end would wait for the standby too.
    let node = Node::with(&server.url("postgres"), &hasty(), 1);
    server.hold_commits();
    // Of different subjects, so that none stands in another's way.
    for number in 0..4 {
        let subject: SubjectId = format!("s{number}").parse().expect("a subject");
        node.refused(node.store.open_subject(&subject, NOW));
    }
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    within("nobody waits for a standby any more", || (server.sql("postgres", waiting) == "0").then_some(()));
    server.set("synchronous_standby_names", "");
    node.wait(node.store.ready());
}

#[test]
fn f14_f15_news_come_from_other_nodes_and_again_after_the_listener_was_cut_off() {
    let database = postgres::database();
    let (one, other) = (Node::over(database.url()), Node::with(database.url(), &ConnectOptions::default(), 2));
    let news = |node: &Node| {
        let store = node.store.clone();
        node.runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), store.news()).await })
    };
    let forget = |node: &Node| {
        let store = node.store.clone();
        // What waits already is of before.
        node.runtime.block_on(async { tokio::time::timeout(Duration::from_millis(50), store.news()).await.ok() });
    };
    news(&one).expect("the beginning is news");
    for _ in 0..3 {
        forget(&one);
        other.wait(other.store.subject_changed(&other.ada, NOW));
        news(&one).expect("heard");
        let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                   WHERE datname = current_database() AND query IN ('LISTEN counterfoil_log', '')";
        database.sql(cut);
        // Being cut off is told as news, and so is listening again.
        news(&one).expect("told");
        news(&one).expect("told again");
    }
}

#[test]
fn f16_whoever_stands_in_a_line_is_told_in_time_and_not_only_those_at_its_head() {
    let server = Server::start();
    let patience = Duration::from_secs(6);
    let options = ConnectOptions {
        statement_timeout: Duration::from_secs(60),
        transition_deadline: patience,
        ..ConnectOptions::default()
    };
    let node = Node::with(&server.url("postgres"), &options, 1);
    let tokens: Vec<Token> = (0..6).map(|_| node.issue().0).collect();
    // Commits wait for a standby that nobody has: one of them holds the log, and the next ones wait for that.
    server.hold_commits();
    let revoking = |token: &Token| {
        let (store, id) = (node.store.clone(), token.id);
        node.runtime
            .spawn(async move { tokio::time::timeout(patience * 3 / 2, store.revoke(id, None, None, NOW)).await })
    };
    let mut under_way = Vec::new();
    for (number, token) in tokens.iter().enumerate() {
        under_way.push(revoking(token));
        // Those after the first four get into nobody's transaction before these have come to their ends.
        let held_up = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' OR wait_event_type = 'Lock'";
        let wanted = (number + 1).min(4).to_string();
        within("it is under way", || (server.sql("postgres", held_up) == wanted).then_some(()));
    }
    for revoking in under_way {
        let answer = node.runtime.block_on(revoking).expect("no panic").expect("in time, with others before it or not");
        let said = told(&answer.expect_err("nobody knows"));
        assert!(said.contains("unknown") || said.contains("in time"), "{said}");
    }
    server.set("synchronous_standby_names", "");
    // What was under way may be done or not; asked again, it is.
    for token in &tokens {
        node.wait(node.store.revoke(token.id, None, None, NOW));
    }
    assert!(node.live().is_empty());
}

#[test]
fn f16_a_host_that_takes_connections_and_says_nothing_keeps_nobody_from_the_next_one() {
    let server = Server::start();
    let database = server.database();
    let first = Proxy::start(([127, 0, 0, 1], server.port()).into());
    let url = format!("postgres://lab@127.0.0.1:{},127.0.0.1:{}/{}", first.port(), server.port(), database.name());
    // A look-up has less time than a host has to let anybody in.
    let node = Node::with(&url, &hasty(), 1);
    let (token, digest) = node.issue();
    first.set(Faults::both(Flow::Swallow));
    first.cut();
    within("the other host is found", || node.runtime.block_on(node.find(digest)).is_ok().then_some(()));
    within("it takes writes, too", || {
        node.runtime.block_on(node.store.revoke(token.id, None, None, NOW)).is_ok().then_some(())
    });
    assert_eq!(node.standing(digest), Standing::Revoked);
}

#[test]
fn f17_what_hangs_is_given_up_and_whatever_comes_after_it_is_not_held_up() {
    let database = postgres::database();
    let node = Node::with(&format!("{}?pool_size=1", database.url()), &hasty(), 1);
    let (token, digest) = node.issue();
    let url = database.url().to_owned();
    let (locked, unlock) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let holder = node.runtime.spawn({
        let (locked, unlock) = (Arc::clone(&locked), Arc::clone(&unlock));
        async move {
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("connected");
            let driver = tokio::spawn(connection);
            client.batch_execute("BEGIN; LOCK TABLE tokens IN ACCESS EXCLUSIVE MODE").await.expect("locked");
            locked.store(true, Ordering::Release);
            while !unlock.load(Ordering::Acquire) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            drop(client);
            driver.await.ok();
        }
    });
    within("the table is locked", || locked.load(Ordering::Acquire).then_some(()));
    let said = node.refused(node.find(digest));
    assert!(said.contains("in time"), "{said}");
    // Not over the same connection: it would stand in line behind the one that hangs.
    assert_eq!(node.wait(node.store.changes(0, 0)).head, 0);
    // The server gives the statement up by itself; those who wait for the one connection are told, too.
    let both = async { tokio::join!(node.store.renew(token.id, None, NOW), node.store.renew(token.id, None, NOW)) };
    let (one, other) = node.runtime.block_on(both);
    assert!(one.is_err() && other.is_err());
    unlock.store(true, Ordering::Release);
    node.runtime.block_on(holder).expect("no panic");
    assert_eq!(node.standing(digest), Standing::Live);
    node.wait(node.store.renew(token.id, None, NOW));
}

#[test]
fn f17_look_ups_that_were_given_up_leave_no_connections_to_a_server_that_hangs() {
    let database = postgres::database();
    let node = Node::with(database.url(), &hasty(), 1);
    let (_, digest) = node.issue();
    let url = database.url().to_owned();
    let connections =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    node.runtime.block_on(async {
        let (holder, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("connected");
        tokio::spawn(connection);
        holder.batch_execute("BEGIN; LOCK TABLE tokens IN ACCESS EXCLUSIVE MODE").await.expect("locked");
        // The server would take a second over each of a hundred look-ups on one connection, and a new one comes every half second.
        for _ in 0..8 {
            let look_up = || {
                let store = node.store.clone();
                async move { store.find(&Candidates::Native(digest)).await }
            };
            let asked: Vec<_> = (0..100).map(|_| tokio::spawn(look_up())).collect();
            for one in asked {
                assert!(one.await.expect("no panic").is_err());
            }
        }
        let hanging = async || -> i64 { holder.query_one(connections, &[]).await.expect("asked").get(0) };
        let given_up = async {
            while hanging().await > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), given_up).await.expect("none hangs on");
        holder.batch_execute("COMMIT").await.expect("let go");
    });
    assert_eq!(node.standing(digest), Standing::Live);
}

#[test]
fn f20_a_server_that_takes_no_writes_gives_no_answer_that_could_be_a_yes() {
    let primary = Server::start();
    let database = primary.database();
    let node = Node::with(database.url(), &hasty(), 1);
    let (token, digest) = node.issue();
    let standby = primary.standby();
    within("the standby has it", || {
        standby.try_sql(database.name(), "SELECT 1 FROM tokens").is_ok_and(|rows| rows == "1").then_some(())
    });

    // Nobody connects to it, and with both hosts in the URL the primary is found.
    let refused = node.runtime.block_on(PostgresStore::connect(&standby.url(database.name()), &hasty()));
    refused.expect_err("a standby");
    let both = format!("postgres://lab@127.0.0.1:{},127.0.0.1:{}/{}", standby.port(), primary.port(), database.name());
    let apart = Node::with(&both, &hasty(), 2);
    assert_eq!(apart.standing(digest), Standing::Live);
    let before = apart.life();
    assert_eq!(before, node.life());

    // It lets nobody write from now on, while connections are open.
    primary.set("default_transaction_read_only", "on");
    within("what is asked is refused", || node.runtime.block_on(node.find(digest)).is_err().then_some(()));
    for _ in 0..3 {
        node.refused(node.find(digest));
        node.refused(node.store.changes(0, 10));
        node.refused(node.store.ready());
        node.refused(node.store.revoke(token.id, None, None, NOW));
    }
    // A failover: whoever knows both hosts goes on.
    standby.promote();
    within("the other host is found", || apart.runtime.block_on(apart.find(digest)).is_ok().then_some(()));
    assert_eq!(apart.standing(digest), Standing::Live);
    // What it may have lost need not be in the log, so it is another store to a cache, though it has lost nothing.
    assert_ne!(apart.life(), before);
    apart.wait(apart.store.revoke(token.id, None, None, NOW));
    assert_eq!(apart.standing(digest), Standing::Revoked);
    assert_eq!(apart.head(), 1);
}

/// A trigger that fails the first `times` updates of tokens with `code`; sequences keep their numbers when all else is rolled back.
fn failing(database: &Database, code: &str, times: u32) {
    database.sql(&format!(
        "DROP SEQUENCE IF EXISTS tries_of_test CASCADE; CREATE SEQUENCE tries_of_test;
         CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF nextval('tries_of_test') <= {times} THEN RAISE EXCEPTION 'as asked' USING ERRCODE = '{code}'; END IF;
             RETURN NEW;
         END $$;
         CREATE OR REPLACE TRIGGER fails BEFORE UPDATE ON tokens FOR EACH ROW EXECUTE FUNCTION fail();"
    ));
}

#[test]
fn f21_a_lost_race_is_run_again_within_bounds_and_leaves_nothing_half_done() {
    let database = postgres::database();
    let node = Node::over(database.url());
    for code in ["40001", "40P01", "23505"] {
        let (token, digest) = node.issue();
        let head = node.head();
        failing(&database, code, 3);
        let revoked = node.wait(node.store.revoke(token.id, None, None, NOW));
        assert!(matches!(revoked, RevokeOutcome::Revoked(_)), "{code}: {revoked:?}");
        assert_eq!((node.standing(digest), node.head()), (Standing::Revoked, head + 1), "{code}: once");

        // And what never ends is an error, not a loop.
        let (token, digest) = node.issue();
        failing(&database, code, 1_000_000);
        let said = node.refused(node.store.revoke(token.id, None, None, NOW));
        assert!(said.contains(code), "{said}");
        assert!(database.sql("SELECT last_value FROM tries_of_test").parse::<u32>().expect("a number") <= 10);
        assert_eq!((node.standing(digest), node.head()), (Standing::Live, head + 1), "{code}: nothing stands");
    }
    // What is no race is not run again.
    let (token, _) = node.issue();
    failing(&database, "22012", 1_000_000);
    node.refused(node.store.revoke(token.id, None, None, NOW));
    assert_eq!(database.sql("SELECT last_value FROM tries_of_test"), "1");
}

#[test]
fn f22_everything_works_where_pgbouncer_deals_out_transactions() {
    let server = Server::start();
    let database = server.database();
    let pooler = Pooler::start(&server, 3);
    let url = format!("{}?pooler=transaction&pool_size=8", pooler.url(database.name()));
    let node = Node::with(&url, &ConnectOptions::default(), 1);
    let issued: Vec<_> = (0..24).map(|_| node.issue()).collect();
    // More callers than the pooler has connections, each with another statement on its mind.
    node.runtime.block_on(async {
        let racers: Vec<_> = issued
            .iter()
            .map(|(token, digest)| {
                let (store, id, digest) = (node.store.clone(), token.id, *digest);
                tokio::spawn(async move {
                    store.find(&Candidates::Native(digest)).await.expect("asked").expect("found");
                    store.renew(id, None, NOW).await.expect("renewed");
                    store.changes(0, 100).await.expect("asked");
                    store.revoke(id, None, None, NOW).await.expect("revoked");
                    let found = store.find(&Candidates::Native(digest)).await.expect("asked").expect("found");
                    assert_eq!(found.standing(NOW), Standing::Revoked);
                })
            })
            .collect();
        for racer in racers {
            racer.await.expect("no panic");
        }
    });
    assert_eq!(node.head(), 24);
    let (_, digest) = node.issue();
    let bump = Bump::Subject { id: node.ada.clone(), keys_too: false, keep: None };
    assert!(node.wait(node.store.bump_epoch(&bump, NOW)));
    assert_eq!(node.standing(digest), Standing::Revoked);
    // Nobody listens there: news never come, and nobody waits for them for good.
    let store = node.store.clone();
    let news = node.runtime.block_on(async { tokio::time::timeout(Duration::from_millis(300), store.news()).await });
    news.expect_err("no news");
    assert_eq!(server.sql(database.name(), "SELECT count(*) FROM pg_prepared_statements"), "0");
}

#[test]
fn f23_the_log_has_no_gap_and_the_order_of_commits_while_a_foreign_transaction_is_open() {
    let database = postgres::database();
    let nodes = [Node::over(database.url()), Node::with(database.url(), &ConnectOptions::default(), 2)];
    let url = database.url().to_owned();
    let foreign = nodes[0].runtime.block_on(async move {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("connected");
        tokio::spawn(connection);
        // One that has written, so that it holds back whatever goes by the oldest transaction.
        client
            .batch_execute("CREATE TABLE foreigners (x int); BEGIN; INSERT INTO foreigners VALUES (1)")
            .await
            .expect("open");
        client
    });
    let orders: Vec<Vec<(Token, TokenDigest)>> =
        nodes.iter().map(|node| (0..40).map(|_| node.issue()).collect()).collect();
    let head = nodes[0].head();
    std::thread::scope(|scope| {
        for (node, orders) in nodes.iter().zip(&orders) {
            for racer in 0..4 {
                scope.spawn(move || {
                    for (token, digest) in orders.iter().skip(racer).step_by(4) {
                        let before = node.head();
                        node.wait(node.store.revoke(token.id, None, None, NOW));
                        // Acknowledged, so whoever asks from now on is told, and behind all that was there before.
                        let told = node.wait(node.store.changes(before, 1_000));
                        let numbers: Vec<u64> = told.rows.iter().map(|change| change.number).collect();
                        assert_eq!(numbers, (before + 1..=told.head).collect::<Vec<_>>(), "no gap");
                        let named =
                            |change: &Changed| matches!(change, Changed::Tokens(digests) if digests.contains(digest));
                        assert!(told.rows.iter().any(|change| named(&change.what)), "it is in the log");
                    }
                });
            }
        }
    });
    assert_eq!(nodes[0].head(), head + 80);
    let tags = nodes[0].wait(nodes[0].store.changes(0, 1_000)).rows.into_iter().map(|change| change.tag);
    assert_eq!(tags.collect::<std::collections::BTreeSet<_>>().len(), 80, "each with a tag of its own");
    drop(foreign);
}

#[test]
fn f23_a_token_that_somebody_else_holds_locked_keeps_no_other_from_being_revoked() {
    let database = postgres::database();
    let node = Node::over(database.url());
    let [held, free] = [node.issue().0, node.issue().0];
    let url = database.url().to_owned();
    let lock = format!(
        "BEGIN; SELECT 1 FROM tokens WHERE id = '{:032x}' FOR UPDATE",
        u128::from_be_bytes(*held.id.as_bytes())
    );
    node.runtime.block_on(async {
        let (foreign, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("connected");
        tokio::spawn(connection);
        foreign.batch_execute(&lock).await.expect("locked");
        let mut stuck = std::pin::pin!(node.store.revoke(held.id, None, None, NOW));
        let others = async {
            // So that they do not go together.
            let waits =
                "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
            while foreign.query(waits, &[]).await.expect("asked").is_empty() {}
            for _ in 0..8 {
                let outcome = node.store.revoke(free.id, None, None, NOW).await.expect("revoked");
                assert!(!matches!(outcome, RevokeOutcome::Unknown));
            }
        };
        tokio::select! {
            biased;
            outcome = &mut stuck => panic!("somebody else holds it: {outcome:?}"),
            () = others => {}
        }
        foreign.batch_execute("COMMIT").await.expect("let go");
        assert!(matches!(stuck.await, Ok(RevokeOutcome::Revoked(_))));
    });
}

#[test]
fn a06_whoever_stops_waiting_stops_nothing() {
    let database = postgres::database();
    let node = Node::over(database.url());
    for _ in 0..20 {
        let (token, digest) = node.issue();
        let order = node.order();
        node.runtime.block_on(async {
            let mut revoking = node.store.revoke(token.id, None, None, NOW);
            let mut issuing = node.store.issue(&order, NOW);
            // Asked, and gone before the answer, but where this thread stood still meanwhile.
            std::future::poll_fn(|context| {
                let revoked = revoking.as_mut().poll(context).map(|outcome| outcome.map(drop));
                let issued = issuing.as_mut().poll(context).map(|outcome| outcome.map(drop));
                assert!(matches!(revoked, Poll::Pending | Poll::Ready(Ok(()))), "{revoked:?}");
                assert!(matches!(issued, Poll::Pending | Poll::Ready(Ok(()))), "{issued:?}");
                Poll::Ready(())
            })
            .await;
        });
        within("it is revoked", || (node.standing(digest) == Standing::Revoked).then_some(()));
        within("it is issued", || node.wait(node.find(order.digest)).map(drop));
    }
}

#[test]
fn a75_racers_on_several_nodes_never_exceed_a_cap() {
    let database = postgres::database();
    let nodes: Vec<Node> = (1..=3).map(|seed| Node::with(database.url(), &ConnectOptions::default(), seed)).collect();
    for (at_cap, most) in [(AtCap::Refuse, 5), (AtCap::EvictOldest, 3)] {
        std::thread::scope(|scope| {
            for node in nodes.iter().flat_map(|node| [node, node]) {
                scope.spawn(move || {
                    for _ in 0..8 {
                        let cap = Some(Cap { limit: most.try_into().expect("not none"), at_cap });
                        let order = Issue { cap, client: node.client.id, ..node.order() };
                        node.wait(node.store.issue(&order, NOW));
                    }
                });
            }
        });
        assert_eq!(nodes[0].live().len(), most as usize, "{at_cap:?}");
    }
}

#[test]
fn a_backend_that_is_cut_off_in_the_middle_of_a_transition_leaves_nothing() {
    let database = postgres::database();
    let node = Node::with(database.url(), &hasty(), 1);
    let (token, digest) = node.issue();
    database.sql(
        "CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW;
         END $$;
         CREATE TRIGGER cuts AFTER INSERT ON log FOR EACH ROW EXECUTE FUNCTION cut();",
    );
    let head = node.head();
    node.refused(node.store.revoke(token.id, None, None, NOW));
    assert_eq!((node.standing(digest), node.head()), (Standing::Live, head));
    database.sql("DROP TRIGGER cuts ON log");
    node.wait(node.store.revoke(token.id, None, None, NOW));
    assert_eq!((node.standing(digest), node.head()), (Standing::Revoked, head + 1));
}
