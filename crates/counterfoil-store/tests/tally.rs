//! Accounts in one store, tokens in a Redis: only the two halves of one deployment go together, at the start and while nodes run.
#![cfg(all(feature = "postgres", feature = "redis", feature = "sqlite"))]

mod cellar;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cellar::{Cellar, NOW, RUNTIME, later, said, try_connect};
use counterfoil_core::conformance::wait;
use counterfoil_core::entropy::PredictableEntropy;
use counterfoil_core::password::EncodedPassword;
use counterfoil_core::store::Answer;
use counterfoil_core::username::Distinct;
use counterfoil_core::{Account, TokenStore};
use counterfoil_lab::redis::{Reply, Server, Stop};
use counterfoil_lab::{postgres, redis};
use counterfoil_store::copy::{Place, copy};
use counterfoil_store::redis::RedisStore;
use counterfoil_store::sqlite::{Issued, Present, Restore};
use counterfoil_store::tally::{Disagreement, Remembered, Tally, TallyStore, agree};
use counterfoil_store::{ConnectOptions, OpenOptions, PostgresStore, SqliteStore, restore};

/// No two processes draw the same.
fn seed() -> u64 {
    static DRAWN: AtomicU64 = AtomicU64::new(1_000);
    DRAWN.fetch_add(1, Ordering::Relaxed)
}

fn sqlite(directory: &Path) -> SqliteStore {
    SqliteStore::open(directory, &OpenOptions::serve()).expect("a store")
}

fn postgres(database: &postgres::Database) -> PostgresStore {
    RUNTIME.block_on(PostgresStore::connect(database.url(), &ConnectOptions::default())).expect("a store")
}

fn with_user(accounts: &dyn TallyStore, name: &str) {
    let account = Account::named(name.parse().expect("a subject"), name.parse().expect("a name"), NOW);
    assert!(wait(accounts.create(&account, &EncodedPassword::unusable(), Distinct::ByLook)));
}

fn redis_at(url: &str) -> RedisStore {
    try_connect(url, seed()).expect("a Redis")
}

async fn agreed(accounts: &dyn TallyStore, tokens: &RedisStore, anew: bool) -> Result<Tally, Disagreement> {
    agree(accounts, tokens, anew, &PredictableEntropy::from_seed(seed())).await
}

/// What a node does that is started.
fn start(accounts: &dyn TallyStore, url: &str) -> Result<(Cellar, Tally), Disagreement> {
    start_with(accounts, url, false)
}

/// As one that is told to begin tokens anew.
fn start_anew(accounts: &dyn TallyStore, url: &str) -> Result<(Cellar, Tally), Disagreement> {
    start_with(accounts, url, true)
}

fn start_with(accounts: &dyn TallyStore, url: &str, anew: bool) -> Result<(Cellar, Tally), Disagreement> {
    let tokens = redis_at(url);
    let tally = RUNTIME.block_on(agreed(accounts, &tokens, anew))?;
    Ok((Cellar::of(tokens, seed()), tally))
}

/// Refused as another deployment's, and nothing changed in either store.
#[track_caller]
fn refused(accounts: &dyn TallyStore, url: &str, ours: Option<Tally>, theirs: Tally) {
    let (before, kept) = (wait(accounts.tally()), everything(url));
    for anew in [false, true] {
        let refused = start_with(accounts, url, anew).map(|(_, tally)| tally).expect_err("another deployment's");
        let Disagreement::Others { ours: said_ours, theirs: said_theirs } = refused else { panic!("{refused:?}") };
        assert_eq!((said_ours, said_theirs), (ours, theirs));
        let text = refused.to_string();
        assert!(text.contains(&theirs.to_string()), "{text}");
        assert!(ours.is_none_or(|ours| text.contains(&ours.to_string())), "{text}");
    }
    assert_eq!((wait(accounts.tally()), everything(url)), (before, kept));
}

/// A digest of every key and value.
fn everything(url: &str) -> String {
    const DIGEST: &str = "local keys, all = redis.call('KEYS', '*'), {} table.sort(keys)
        for at, key in ipairs(keys) do all[at] = redis.sha1hex(key .. redis.call('DUMP', key)) end
        return redis.sha1hex(table.concat(all))";
    let mut connection = ::redis::Client::open(url).and_then(|client| client.get_connection()).expect("a connection");
    ::redis::cmd("EVAL").arg(DIGEST).arg(0).query(&mut connection).expect("a digest")
}

fn kept(accounts: &dyn TallyStore) -> (Option<Tally>, Option<Tally>) {
    let Remembered { tally, next } = wait(accounts.tally());
    (tally, next)
}

#[test]
fn a85_the_redis_of_another_deployment_is_refused_whatever_is_asked_and_left_as_it_is() {
    let (directory, database) = (tempfile::tempdir().expect("a directory"), postgres::database());
    let (here, there) = (redis::database(), redis::database());
    let ours = sqlite(&directory.path().join("ours"));
    let theirs = postgres(&database);
    let (node, of_ours) = start(&ours, here.url()).expect("both are new");
    let (_, of_theirs) = start(&theirs, there.url()).expect("both are new");
    assert_ne!(of_ours, of_theirs);
    assert_eq!((kept(&ours), kept(&theirs)), ((Some(of_ours), None), (Some(of_theirs), None)));
    with_user(&ours, "ada");
    with_user(&theirs, "ada");
    let (_, digest) = node.issued();

    refused(&ours, there.url(), Some(of_ours), of_theirs);
    refused(&theirs, here.url(), Some(of_theirs), of_ours);
    // One that has had no tokens yet, with users and without, belongs to none that others have begun.
    let third = sqlite(&directory.path().join("third"));
    refused(&third, here.url(), None, of_ours);
    with_user(&third, "bob");
    refused(&third, here.url(), None, of_ours);

    let (again, tally) = start(&ours, here.url()).expect("the right one");
    assert_eq!((again.lets_in(digest), tally), (Ok(true), of_ours));
    let (_, tally) = start_anew(&ours, here.url()).expect("nothing is lost there that would begin anew");
    assert_eq!((again.lets_in(digest), tally), (Ok(true), of_ours));
}

#[test]
fn f24_an_emptied_redis_is_begun_only_when_told_and_by_another_tally() {
    let (directory, database) = (tempfile::tempdir().expect("a directory"), redis::database());
    let accounts = sqlite(directory.path());
    let (_, first) = start(&accounts, database.url()).expect("both are new");
    database.command(&["FLUSHDB"]);
    let is_refused = |accounts: &dyn TallyStore| {
        let before = wait(accounts.tally());
        let refused = start(accounts, database.url()).map(|(_, tally)| tally).expect_err("emptied");
        assert!(matches!(refused, Disagreement::Empty), "{refused:?}");
        assert_eq!(wait(accounts.tally()), before);
        assert_eq!(database.command(&["DBSIZE"]), Reply::Number(0), "nothing was begun");
    };
    // Whether the accounts are here or a host's own; and where they are, also those from before there were tallies.
    is_refused(&accounts);
    let older = sqlite(&directory.path().join("older"));
    with_user(&older, "ada");
    is_refused(&older);
    assert_eq!(kept(&accounts), (Some(first), None));
    let (_, second) = start_anew(&accounts, database.url()).expect("told to");
    assert_ne!(first, second);
    assert_eq!(start(&accounts, database.url()).map(|(_, tally)| tally).expect("as ever"), second);
}

#[test]
fn a85_a_copy_of_production_that_began_tokens_of_its_own_is_not_taken_for_production() {
    let (directory, database) = (tempfile::tempdir().expect("a directory"), postgres::database());
    let [production, staging] = [redis::database(), redis::database()];
    let at = |name: &str| directory.path().join(name);
    let accounts = sqlite(&at("production"));
    let (node, tally) = start(&accounts, production.url()).expect("both are new");
    with_user(&accounts, "ada");
    let (_, digest) = node.issued();
    accounts.backup(&at("backup"), |_| ()).expect("a backup");

    // Put back, or moved to PostgreSQL and from there to SQLite again, the accounts go on with their tokens.
    let options = Restore { present: Present::Refuse, issued: Issued::Ended { at: NOW } };
    restore(&at("backup"), &at("restored"), &options, |_| ()).expect("restored");
    let restored = sqlite(&at("restored"));
    accounts.close();
    let shared = Place::Postgres(database.url().to_owned());
    RUNTIME.block_on(copy(&Place::Sqlite(at("production")), &shared, |_| ())).expect("copied");
    RUNTIME.block_on(copy(&shared, &Place::Sqlite(at("returned")), |_| ())).expect("copied back");
    let (moved, returned) = (postgres(&database), sqlite(&at("returned")));
    for accounts in [&restored as &dyn TallyStore, &moved, &returned] {
        assert_eq!(kept(accounts), (Some(tally), None));
        let (node, same) = start(accounts, production.url()).expect("the same deployment");
        assert_eq!((node.lets_in(digest), same), (Ok(true), tally));
    }

    // Staging is such a copy, with the same subjects, and begins tokens in a Redis of its own.
    let (_, of_staging) = start_anew(&restored, staging.url()).expect("an empty one");
    refused(&moved, staging.url(), Some(tally), of_staging);
    refused(&restored, production.url(), Some(of_staging), tally);
}

#[test]
fn a85_what_is_older_than_tallies_is_taken_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let [old, other] = [redis::database(), redis::database()];
    let at = |name: &str| sqlite(&directory.path().join(name));
    // A store that was opened without one.
    let before = Cellar::of(redis_at(old.url()), seed());
    let (_, digest) = before.issued();
    Cellar::of(redis_at(other.url()), seed());
    assert_eq!(old.command(&["HEXISTS", "{cf}:m", "of"]), Reply::Number(0));

    let accounts = at("ours");
    with_user(&accounts, "ada");
    let (node, tally) = start(&accounts, old.url()).expect("taken");
    assert_eq!((node.lets_in(digest), kept(&accounts)), (Ok(true), (Some(tally), None)));
    let refused_now = start_anew(&accounts, other.url()).map(|(_, tally)| tally).expect_err("once");
    assert!(matches!(refused_now, Disagreement::Others { ours: Some(ours), .. } if ours == tally), "{refused_now:?}");
    // A node that was started before has found its own.
    assert_eq!(before.lets_in(digest), Ok(true));

    // It belongs to these accounts now; to others without a tally only where it knows one of them.
    let (fresh, strangers, back) = (at("fresh"), at("strangers"), at("back"));
    refused(&fresh, old.url(), None, tally);
    with_user(&strangers, "bob");
    refused(&strangers, old.url(), None, tally);
    with_user(&back, "ada");
    let (node, same) = start(&back, old.url()).expect("put back to before there were tallies");
    assert_eq!((node.lets_in(digest), same), (Ok(true), tally));

    // A failover that lost the note of it lost nothing else.
    old.command(&["HDEL", "{cf}:m", "of"]);
    assert_eq!(node.lets_in(digest), Ok(true));
    assert_eq!(start(&accounts, old.url()).map(|(_, tally)| tally).expect("as ever"), tally);
}

/// Six nodes at the same instant; the one tally that all of them have agreed on.
fn race<S: TallyStore + 'static>(stores: &[Arc<S>], url: &str, anew: bool) -> Tally {
    let nodes: Vec<_> = stores.iter().map(|store| (Arc::clone(store), redis_at(url))).collect();
    let tallies: Vec<Tally> = RUNTIME.block_on(async {
        let racing: Vec<_> = nodes
            .into_iter()
            .map(|(accounts, tokens)| tokio::spawn(async move { agreed(accounts.as_ref(), &tokens, anew).await }))
            .collect();
        let mut tallies = Vec::new();
        for node in racing {
            tallies.push(node.await.expect("no panic").expect("agreed"));
        }
        tallies
    });
    let first = *tallies.first().expect("a node");
    assert!(tallies.iter().all(|tally| *tally == first), "{tallies:?}");
    assert!(stores.iter().all(|store| wait(store.tally()).tally == Some(first)));
    first
}

#[test]
fn f24_nodes_that_start_at_once_on_empty_stores_are_one_deployment() {
    const NODES: usize = 6;
    let tokens = redis::database();
    let database = postgres::database();
    let shared: Vec<_> = (0..NODES).map(|_| Arc::new(postgres(&database))).collect();
    let directory = tempfile::tempdir().expect("a directory");
    let mut embedded = vec![Arc::new(sqlite(directory.path()))];
    embedded.extend((1..NODES).map(|_| {
        Arc::new(SqliteStore::open(directory.path(), &OpenOptions::beside()).expect("a command beside the server"))
    }));
    let beside = rusqlite::Connection::open(directory.path().join("counterfoil.db")).expect("a database");
    let mut seen = Vec::new();
    for round in 0..12 {
        // At first as if they were new; then told to begin tokens anew.
        let anew = round >= 6;
        if !anew {
            const FORGET: &str = "UPDATE deployment SET tally = NULL, next_tally = NULL";
            database.sql(FORGET);
            beside.execute(FORGET, []).expect("forgotten");
        }
        for accounts_are_shared in [true, false] {
            tokens.command(&["FLUSHDB"]);
            let tally = if accounts_are_shared {
                race(&shared, tokens.url(), anew)
            } else {
                race(&embedded, tokens.url(), anew)
            };
            assert!(!seen.contains(&tally), "each begin has a tally of its own");
            seen.push(tally);
            assert_eq!(tokens.command(&["HLEN", "{cf}:m"]), Reply::Number(8), "begun, and not opened yet");
        }
    }
}

#[test]
fn f24_a_start_that_died_between_the_two_stores_is_taken_up_again() {
    let (directory, database) = (tempfile::tempdir().expect("a directory"), redis::database());
    let accounts = sqlite(directory.path());
    let drawn = Tally::from_bytes([7; 16]);
    // Before the tokens were begun.
    assert_eq!(wait(accounts.prepare_tally(None, drawn)), Some(drawn));
    assert_eq!(wait(accounts.prepare_tally(None, Tally::from_bytes([8; 16]))), Some(drawn), "the first one");
    assert_eq!(wait(accounts.prepare_tally(Some(drawn), Tally::from_bytes([8; 16]))), None, "not known any more");
    assert_eq!(start(&accounts, database.url()).map(|(_, tally)| tally).expect("begun"), drawn);
    assert_eq!(kept(&accounts), (Some(drawn), None));

    // After it, with a tally from before.
    with_user(&accounts, "ada");
    database.command(&["FLUSHDB"]);
    let (_, next) = start_anew(&accounts, database.url()).expect("told to");
    assert_eq!(wait(accounts.prepare_tally(Some(next), drawn)), Some(drawn));
    wait(accounts.settle_tally(Some(drawn), drawn));
    assert_eq!(kept(&accounts), (Some(next), Some(drawn)), "no longer known, so nothing was changed");
    let left = sqlite_kept(directory.path(), &accounts, drawn, next);
    assert_eq!(start(&left, database.url()).map(|(_, tally)| tally).expect("taken up"), next);
    assert_eq!(kept(&left), (Some(next), None));
}

/// As a crash leaves it after tokens were begun by `next`, and before that was settled.
fn sqlite_kept(directory: &Path, accounts: &SqliteStore, tally: Tally, next: Tally) -> SqliteStore {
    accounts.close();
    let connection = rusqlite::Connection::open(directory.join("counterfoil.db")).expect("a database");
    connection
        .execute("UPDATE deployment SET tally = ?1, next_tally = ?2", (tally.as_bytes(), next.as_bytes()))
        .expect("written");
    drop(connection);
    sqlite(directory)
}

fn fails<T: std::fmt::Debug>(answer: Answer<'_, T>) {
    let told = said(&pollster::block_on(answer).expect_err("an answer of another deployment's"));
    assert!(told.contains("CFOTHER"), "{told}");
}

/// Nothing is answered from what others keep, and nothing written to it.
fn answers_nothing(node: &Cellar, token: counterfoil_core::TokenId) {
    fails(node.store.changes(0, 10));
    fails(node.store.ready());
    fails(node.store.revoke(token, None, None, NOW));
    fails(node.store.open_subject(&"eve".parse().expect("a subject"), NOW));
    fails(node.store.subject(&node.ada));
    fails(node.store.clients());
}

#[test]
fn f24_a_node_whose_redis_is_exchanged_for_another_deployments_says_neither_yes_nor_no() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start();
    let (ours, theirs) = (sqlite(&directory.path().join("ours")), sqlite(&directory.path().join("theirs")));
    let (node, _) = start(&ours, &server.url_of(0)).expect("both are new");
    let (other, _) = start(&theirs, &server.url_of(1)).expect("both are new");
    let ((token, live), (ended, dead), (_, foreign)) = (node.issued(), node.issued(), other.issued());
    wait(node.store.revoke(ended.id, None, None, NOW));
    assert_eq!([live, dead, foreign].map(|digest| node.lets_in(digest)), [Ok(true), Ok(false), Ok(false)]);

    // In the same life of the server, over the same connection.
    server.command(&["SWAPDB", "0", "1"]);
    let before = everything(&server.url_of(0));
    for digest in [live, dead, foreign] {
        assert!(node.lets_in(digest).is_err_and(|why| why.contains("CFOTHER")), "{:?}", node.lets_in(digest));
    }
    answers_nothing(&node, token.id);
    assert_eq!(everything(&server.url_of(0)), before, "nothing was written there");
    server.command(&["SWAPDB", "0", "1"]);
    assert_eq!([live, dead, foreign].map(|digest| node.lets_in(digest)), [Ok(true), Ok(false), Ok(false)]);

    // And in another one: what this node knows to have ended is not ended there.
    let elsewhere = Server::start();
    let abroad = sqlite(&directory.path().join("abroad"));
    let (_, foreign) = start(&abroad, &elsewhere.url_of(0)).expect("both are new").0.issued();
    server.command(&["REPLICAOF", "127.0.0.1", &elsewhere.port().to_string()]);
    counterfoil_lab::within("in step", || {
        server.command(&["INFO", "replication"]).text().contains("master_link_status:up").then_some(())
    });
    server.promote();
    let before = everything(&server.url_of(0));
    for digest in [live, dead, foreign] {
        assert!(node.lets_in(digest).is_err_and(|why| why.contains("CFOTHER")), "{:?}", node.lets_in(digest));
    }
    answers_nothing(&node, token.id);
    assert_eq!(everything(&server.url_of(0)), before, "nothing was written there");
    let refused = start(&ours, &server.url_of(0)).map(|(_, tally)| tally).expect_err("another deployment's");
    assert!(matches!(refused, Disagreement::Others { .. }), "{refused:?}");
    elsewhere.stop(Stop::Kill);
}

#[test]
fn f25_a_redis_that_falls_back_to_tokens_from_before_they_were_begun_anew_lets_nobody_in() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start();
    let accounts = sqlite(directory.path());
    let (before, _) = start(&accounts, &server.url_of(0)).expect("both are new");
    with_user(&accounts, "ada");
    let (_, stale) = before.issued();
    // Lost, and begun anew; the old state is at hand.
    server.command(&["SWAPDB", "0", "1"]);
    let (node, tally) = start_anew(&accounts, &server.url_of(0)).expect("told to");
    let (_, live) = node.issued();
    assert_eq!([stale, live].map(|digest| node.lets_in(digest)), [Ok(false), Ok(true)]);
    server.command(&["SWAPDB", "0", "1"]);
    assert!(node.lets_in(stale).is_err() && node.lets_in(live).is_err());
    let refused = start_anew(&accounts, &server.url_of(0)).map(|(_, tally)| tally).expect_err("not those");
    assert!(matches!(refused, Disagreement::Others { ours: Some(ours), .. } if ours == tally), "{refused:?}");
    // What a node opens again that was emptied has the tally that it had.
    server.command(&["FLUSHDB"]);
    assert_eq!([stale, live].map(|digest| node.lets_in(digest)), [Ok(false), Ok(false)]);
    assert_eq!(start(&accounts, &server.url_of(0)).map(|(_, tally)| tally).expect("begun by that node"), tally);
    wait(node.store.open_subject(&node.ada, later(1)));
    let (_, fresh) = node.issued();
    assert_eq!(node.lets_in(fresh), Ok(true));
}

#[test]
fn a85_a_begin_that_came_to_nothing_leaves_nothing_that_agrees_with_another_redis() {
    let (directory, database) = (tempfile::tempdir().expect("a directory"), postgres::database());
    let stores: [Box<dyn TallyStore>; 2] = [Box::new(sqlite(directory.path())), Box::new(postgres(&database))];
    for accounts in stores {
        let redis = redis::database();
        let (_, tally) = start(accounts.as_ref(), redis.url()).expect("both are new");
        // Somebody found it empty and was about to begin anew; then those that were there before came back.
        let drawn = Tally::from_bytes([7; 16]);
        assert_eq!(wait(accounts.prepare_tally(Some(tally), drawn)), Some(drawn));
        assert_eq!(kept(accounts.as_ref()), (Some(tally), Some(drawn)));
        assert_eq!(start(accounts.as_ref(), redis.url()).expect("ours").1, tally);
        assert_eq!(kept(accounts.as_ref()), (Some(tally), None));
    }
}
