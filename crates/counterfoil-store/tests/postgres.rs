//! PostgreSQL as a store finds it: connecting, and the tables that are made.
#![cfg(feature = "postgres")]

use counterfoil_lab::postgres;
use counterfoil_store::postgres::{Migrations, inspect, migrate, pending_migrations};
use counterfoil_store::tally::{Remembered, TallyStore};
use counterfoil_store::{ConnectError, ConnectOptions, PostgresStore};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

async fn connect(url: &str) -> Result<PostgresStore, ConnectError> {
    PostgresStore::connect(url, &ConnectOptions::default()).await
}

#[test]
fn an_empty_database_is_migrated_once_however_many_nodes_start_at_once() {
    let database = postgres::database();
    runtime().block_on(async {
        let url = database.url().to_owned();
        let required = ConnectOptions { migrations: Migrations::Require, ..ConnectOptions::default() };
        let refused = PostgresStore::connect(&url, &required).await.expect_err("no tables");
        assert!(matches!(refused, ConnectError::Pending(_)), "{refused:?}");
        assert!(refused.to_string().contains("counterfoil migrate"), "{refused}");
        let missing = pending_migrations(&url, &required).await.expect("a list");
        assert_eq!(missing.first().map(|first| (first.number, first.name)), Some((1, "initial")));
        assert!(missing[0].sql.contains("CREATE TABLE tokens"), "{}", missing[0].sql);

        let starting: Vec<_> = (0..6)
            .map(|_| {
                let url = url.clone();
                tokio::spawn(async move { connect(&url).await })
            })
            .collect();
        for store in starting {
            store.await.expect("no panic").expect("a store").close().await;
        }
        assert!(pending_migrations(&url, &required).await.expect("a list").is_empty());
        assert!(migrate(&url, &required).await.expect("nothing to do").is_empty());
        PostgresStore::connect(&url, &required).await.expect("now it has them").close().await;
    });
}

#[test]
fn a_database_of_the_version_before_is_given_what_it_lacks_and_keeps_what_it_has() {
    let database = postgres::database();
    runtime().block_on(async {
        connect(database.url()).await.expect("a store").close().await;
        database.sql("INSERT INTO subjects (name) VALUES ('ada')");
        database.sql("ALTER TABLE deployment DROP COLUMN tally, DROP COLUMN next_tally");
        database.sql("DELETE FROM migrations WHERE number > 1");
        let required = ConnectOptions { migrations: Migrations::Require, ..ConnectOptions::default() };
        let refused = PostgresStore::connect(database.url(), &required).await.expect_err("a column is missing");
        assert!(matches!(refused, ConnectError::Pending(1)), "{refused:?}");
        let missing = pending_migrations(database.url(), &required).await.expect("a list");
        assert_eq!(missing.iter().map(|one| (one.number, one.name)).collect::<Vec<_>>(), [(2, "tally")]);
        let store = connect(database.url()).await.expect("it has it now");
        assert_eq!(store.tally().await.expect("no tokens elsewhere"), Remembered::default());
        store.close().await;
    });
    assert_eq!(database.sql("SELECT name FROM subjects"), "ada");
}

#[test]
fn f33_a_database_of_a_newer_version_or_of_another_program_is_refused_and_left_as_it_is() {
    let database = postgres::database();
    runtime().block_on(async {
        connect(database.url()).await.expect("a store").close().await;
        database.sql("INSERT INTO migrations (number, name, checksum) VALUES (1000, 'later', sha256('x'))");
        let refused = connect(database.url()).await.expect_err("newer");
        assert!(matches!(refused, ConnectError::Newer { found: 1000, .. }), "{refused:?}");
        database.sql("DELETE FROM migrations WHERE number = 1000");
        database.sql("UPDATE migrations SET checksum = sha256('x') WHERE number = 1");
        let refused = connect(database.url()).await.expect_err("changed");
        assert!(matches!(refused, ConnectError::Altered(1)), "{refused:?}");
    });

    // Somebody else's table of that name: nothing of ours comes to stand beside it.
    let foreign = postgres::database();
    foreign.sql("CREATE TABLE tokens (x int)");
    runtime().block_on(async {
        let refused = connect(foreign.url()).await.expect_err("not ours");
        assert!(matches!(refused, ConnectError::Migration(1, _)), "{refused:?}");
    });
    assert_eq!(foreign.sql("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"), "1");
}

#[test]
fn f12_nobody_there_is_said_with_the_hosts_and_without_the_password() {
    runtime().block_on(async {
        let refused = connect("postgres://app:hunter2@127.0.0.1:9,127.0.0.1:19/tokens").await.expect_err("nobody");
        let text = format!("{refused} {refused:?}");
        assert!(text.contains("127.0.0.1:9:") && text.contains("127.0.0.1:19:"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    });
}

#[test]
fn an_inspection_tells_an_operator_what_the_server_promises_and_changes_nothing() {
    let server = postgres::Options::new().set("synchronous_commit", "off").start();
    let database = server.database();
    let standby = server.standby();
    server.wait_for_standbys(None);
    runtime().block_on(async {
        let options = ConnectOptions::default();
        let never = || std::time::Duration::ZERO;
        let empty = inspect(database.url(), &options, never).await.expect("a look");
        assert!(!empty.missing.is_empty() && empty.log.is_none(), "{empty:?}");
        connect(database.url()).await.expect("a store").close().await;
        let found = inspect(database.url(), &options, never).await.expect("a look");
        assert!(found.missing.is_empty() && !found.encrypted, "{found:?}");
        assert_eq!((found.log, found.synchronous_commit.as_str(), found.fsync), (Some((0, 0)), "off", false));
        assert_eq!(
            found.standbys.iter().map(|standby| standby.sync_state.as_deref()).collect::<Vec<_>>(),
            [Some("async")]
        );
        assert!(found.role.superuser && found.role.owner, "that of the lab");
        assert!(found.clock > "2026-01-01T00:00:00Z".parse().expect("a date"));
        let refused = inspect(&standby.url(database.name()), &options, never).await.expect_err("takes no writes");
        assert!(matches!(refused, ConnectError::Unreachable(_)), "{refused:?}");
    });
}
