//! Several nodes on one PostgreSQL, and what happens to the one when something happens between them. The same under load, with a
//! checker outside: `cargo xtask nodes`.

use std::net::SocketAddr;
use std::time::Duration;

use counterfoil_lab::pgbouncer::Pooler;
use counterfoil_lab::postgres::{self, Stop};
use counterfoil_lab::proxy::{Faults, Flow, Proxy};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::exchange::{Answer, PATIENCE, login, me, send, token};
use crate::running::{PASSWORD, Server, Site, clock, within};

/// Within which a revocation holds on every node, and a little for the test to look.
const BOUND: Duration = Duration::from_millis(1_000);

/// Two nodes, each with its own way to the database.
struct Nodes {
    nodes: Vec<Server>,
    ways: Vec<Proxy>,
    site: Site,
}

impl Nodes {
    /// On a database at this port of 127.0.0.1.
    fn on(port: u16, database: &str, more: &str) -> Nodes {
        Nodes::set_otherwise(port, database, more, &[])
    }

    /// Each node with variables of its own.
    fn set_otherwise(port: u16, database: &str, more: &str, variables: &[(&str, &str)]) -> Nodes {
        let site = Site::new();
        let url = |port: u16| format!("postgres://lab@127.0.0.1:{port}/{database}{more}");
        for line in ["migrate", "user create ada --password-file password.txt"] {
            let ran = site.run(&format!("{line} --store {}", url(port)));
            assert_eq!(ran.code, Some(0), "{line}: {}", ran.stderr);
        }
        let ways: Vec<Proxy> = (0..2).map(|_| Proxy::start(at(port))).collect();
        let start = |(number, way): (usize, &Proxy)| {
            let mut command = site.command(&format!("serve --listen 127.0.0.1:0 --store {}", url(way.port())));
            command.envs(variables.get(number).copied());
            Server::start(command, site.path(&format!("stderr{number}")))
        };
        let nodes = ways.iter().enumerate().map(start).collect();
        Nodes { nodes, ways, site }
    }

    fn fresh() -> (Nodes, postgres::Database) {
        let database = postgres::database();
        (Nodes::on(port_of(database.url()), database.name(), ""), database)
    }

    fn address(&self, node: usize) -> SocketAddr {
        self.nodes[node].address
    }

    /// A token that both nodes answer from memory.
    fn known_token(&self) -> String {
        let (text, _) = token(self.address(0), "ada", PASSWORD);
        for node in [0, 1, 0, 1] {
            assert_eq!(self.ask(node, &text), 200);
        }
        text
    }

    /// What a node says from memory, if it can: the limit is none, and is looked at after the token.
    fn remembered(&self, node: usize, text: &str) -> u16 {
        let authorization = format!("Bearer {text}");
        send(self.address(node), "GET", "/v1/keys?limit=0", &[("Authorization", &authorization)], "").status
    }

    fn ask(&self, node: usize, text: &str) -> u16 {
        me(self.address(node), text)
    }

    fn log_out(&self, node: usize, text: &str) -> Answer {
        let authorization = format!("Bearer {text}");
        send(self.address(node), "POST", "/v1/logout", &[("Authorization", &authorization)], "")
    }

    /// Ends a token on one node, and sees that the other one refuses it at the bound.
    fn ended_in_time(&self, text: &str) {
        assert_eq!(self.log_out(0, text).status, 204);
        assert_eq!(self.remembered(0, text), 401, "the node that acknowledged");
        let acknowledged = clock();
        within(PATIENCE, || (clock() - acknowledged >= BOUND).then_some(()));
        assert_eq!(self.remembered(1, text), 401, "the other one, at the bound");
    }

    fn answer_again(&self, text: &str) {
        for node in 0..self.nodes.len() {
            within(PATIENCE, || (self.ask(node, text) == 200).then_some(()));
        }
    }
}

fn at(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn port_of(url: &str) -> u16 {
    let authority = url.split('@').nth(1).and_then(|rest| rest.split('/').next());
    authority.and_then(|place| place.split(':').nth(1)?.parse().ok()).expect("a port in the URL of the lab")
}

fn own_server() -> postgres::Server {
    let server = postgres::Server::start();
    server.sql("postgres", "CREATE DATABASE nodes TEMPLATE template0");
    server
}

#[test]
fn a09_what_one_node_ended_is_refused_by_the_other_within_the_bound() {
    let (nodes, _database) = Nodes::fresh();
    nodes.ended_in_time(&nodes.known_token());
}

#[test]
fn f12_after_a_crash_of_postgresql_both_nodes_answer_again_and_what_was_acknowledged_holds() {
    let server = own_server();
    let nodes = Nodes::on(server.port(), "nodes", "");
    let (kept, ended) = (nodes.known_token(), nodes.known_token());
    for how in [Stop::Immediate, Stop::Kill] {
        server.restart(how);
        nodes.answer_again(&kept);
    }
    nodes.ended_in_time(&ended);
    server.stop(Stop::Kill);
    let said = |node: usize, text: &str| within(PATIENCE, || Some(nodes.ask(node, text)).filter(|said| *said == 503));
    assert_eq!((said(0, &kept), said(1, &ended)), (503, 503));
    server.begin();
    nodes.answer_again(&kept);
    assert_eq!((nodes.ask(0, &ended), nodes.ask(1, &ended)), (401, 401));
}

#[test]
fn f13_a_reply_that_is_lost_after_the_commit_is_no_acknowledgement_and_the_order_may_be_given_again() {
    let (nodes, _database) = Nodes::fresh();
    let text = nodes.known_token();
    nodes.ways[0].set(Faults { cut_at: Some(b"COMMIT\0".to_vec()), ..Faults::default() });
    // Done or not, and not acknowledged; or done by another attempt, whose reply came.
    let answer = nodes.log_out(0, &text);
    assert!(matches!(answer.status, 204 | 401 | 503), "{answer:?}");
    nodes.ways[0].heal();
    let again = within(PATIENCE, || Some(nodes.log_out(0, &text).status).filter(|status| *status != 503));
    assert!(matches!(again, 204 | 401), "{again}");
    within(PATIENCE, || (nodes.ask(1, &text) == 401).then_some(()));
    assert_eq!(nodes.ask(0, &text), 401);
}

#[test]
fn f14_a_listening_connection_that_died_unnoticed_delays_no_revocation_beyond_the_bound() {
    let (nodes, _database) = Nodes::fresh();
    let text = nodes.known_token();
    assert!(nodes.ways.iter().map(Proxy::forget_listeners).sum::<usize>() > 0, "the nodes listen");
    nodes.ended_in_time(&text);
}

#[test]
fn f15_a_flood_of_foreign_notifications_delays_no_revocation_beyond_the_bound() {
    let (nodes, database) = Nodes::fresh();
    let text = nodes.known_token();
    database.sql("SELECT count(pg_notify('counterfoil_log', n::text)) FROM generate_series(1, 50000) n");
    nodes.ended_in_time(&text);
}

#[test]
fn f16_without_its_database_a_node_is_in_doubt_after_the_lease_and_then_answers_again() {
    let (nodes, _database) = Nodes::fresh();
    let text = nodes.known_token();
    for (way, flow) in nodes.ways.iter().zip([Flow::Hold, Flow::Swallow]) {
        way.set(Faults::both(flow));
    }
    for node in [0, 1] {
        within(PATIENCE, || (nodes.remembered(node, &text) == 503).then_some(()));
    }
    nodes.ways.iter().for_each(Proxy::heal);
    nodes.answer_again(&text);
}

#[test]
fn f17_a_database_that_is_slow_for_one_node_is_a_503_there_and_nothing_elsewhere() {
    let (nodes, _database) = Nodes::fresh();
    let text = nodes.known_token();
    nodes.ways[0].set(Faults { to_client: Flow::Delay(Duration::from_secs(20)), ..Faults::default() });
    within(PATIENCE, || (nodes.remembered(0, &text) == 503).then_some(()));
    assert_eq!((nodes.remembered(1, &text), nodes.ask(1, &text)), (400, 200));
}

#[test]
fn f18_a_node_that_asks_and_hears_nothing_fails_closed_and_the_other_goes_on() {
    let (nodes, _database) = Nodes::fresh();
    let (text, ended) = (nodes.known_token(), nodes.known_token());
    nodes.ways[1].set(Faults { to_client: Flow::Swallow, ..Faults::default() });
    assert_eq!(nodes.log_out(0, &ended).status, 204);
    within(PATIENCE, || (nodes.remembered(1, &ended) == 503).then_some(()));
    assert_eq!((nodes.remembered(1, &text), nodes.remembered(0, &text)), (503, 400));
    nodes.ways[1].heal();
    nodes.answer_again(&text);
    assert_eq!(nodes.ask(1, &ended), 401);
}

#[test]
fn f19_a_failover_that_loses_acknowledged_revocations_is_told_by_every_node() {
    let server = own_server();
    let standby = server.standby();
    let nodes = Nodes::on(server.port(), "nodes", "");
    let (kept, lost) = (nodes.known_token(), nodes.known_token());
    let there = format!("SELECT pg_last_wal_receive_lsn() >= '{}'", server.sql("nodes", "SELECT pg_current_wal_lsn()"));
    within(PATIENCE, || (standby.sql("postgres", &there) == "t").then_some(()));
    standby.set("primary_conninfo", "");
    let connected = "SELECT count(*) FROM pg_stat_replication";
    within(PATIENCE, || (server.sql("postgres", connected) == "0").then_some(()));
    nodes.ended_in_time(&lost);
    server.stop(Stop::Kill);
    standby.promote();
    nodes.ways.iter().for_each(|way| {
        way.lead_to(at(standby.port()));
        way.cut();
    });
    nodes.answer_again(&kept);
    // It lives again: that is what such a failover does, and nobody is left to find it out by themselves.
    within(PATIENCE, || (nodes.ask(1, &lost) == 200).then_some(()));
    for node in &nodes.nodes {
        node.log_with("every token is looked up anew");
    }
}

#[test]
fn f20_a_node_that_is_led_to_a_standby_is_in_doubt_and_follows_it_once_it_is_the_primary() {
    let server = own_server();
    let nodes = Nodes::on(server.port(), "nodes", "");
    let text = nodes.known_token();
    let standby = server.standby();
    server.wait_for_standbys(Some(1));
    nodes.ways[1].lead_to(at(standby.port()));
    nodes.ways[1].cut();
    within(PATIENCE, || (nodes.remembered(1, &text) == 503).then_some(()));
    assert_eq!(nodes.remembered(0, &text), 400);
    let ended = token(nodes.address(0), "ada", PASSWORD).0;
    assert_eq!(nodes.log_out(0, &ended).status, 204);
    server.stop(Stop::Kill);
    standby.promote();
    nodes.ways[0].lead_to(at(standby.port()));
    nodes.ways[0].cut();
    nodes.answer_again(&text);
    assert_eq!((nodes.ask(0, &ended), nodes.ask(1, &ended)), (401, 401), "it was acknowledged");
    nodes.ended_in_time(&text);
}

#[test]
fn f21_transactions_that_must_be_repeated_are_and_end_whole() {
    let (nodes, database) = Nodes::fresh();
    database.sql(
        "CREATE SEQUENCE forced; CREATE FUNCTION force() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF nextval('forced') % 2 = 1 THEN RAISE EXCEPTION 'forced' USING ERRCODE = '40001'; END IF; \
         IF nextval('forced') % 4 = 0 THEN RAISE EXCEPTION 'forced' USING ERRCODE = '40P01'; END IF; RETURN NULL; END $$; \
         CREATE TRIGGER force AFTER INSERT OR UPDATE ON tokens FOR EACH STATEMENT EXECUTE FUNCTION force()",
    );
    for _ in 0..5 {
        nodes.ended_in_time(&nodes.known_token());
    }
    let forced: u32 = database.sql("SELECT last_value FROM forced").parse().expect("a number");
    assert!(forced > 10, "{forced}");
}

#[test]
fn f22_through_a_pooler_in_transaction_mode_a_revocation_holds_within_the_bound() {
    let server = own_server();
    let pooler = Pooler::start(&server, 10);
    let nodes = Nodes::on(pooler.port(), "nodes", "?pooler=transaction");
    for _ in 0..3 {
        nodes.ended_in_time(&nodes.known_token());
    }
}

#[test]
fn f23_a_long_transaction_of_somebody_else_keeps_nobody_from_answering_from_memory() {
    let (nodes, database) = Nodes::fresh();
    database.sql("CREATE TABLE foreign_rows (n bigint)");
    let url = database.url().to_owned();
    let foreign = std::thread::spawn(move || {
        let script = "BEGIN; INSERT INTO foreign_rows VALUES (1); SELECT pg_sleep(4); COMMIT";
        std::process::Command::new("psql").args(["-XAtqc", script, &url]).status().expect("psql runs")
    });
    let begun = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'BEGIN; INSERT INTO foreign_rows%'";
    within(PATIENCE, || (database.sql(begun) != "0").then_some(()));
    for _ in 0..2 {
        nodes.ended_in_time(&nodes.known_token());
    }
    for node in &nodes.nodes {
        let ready = send(node.address, "GET", "/readyz", &[], "").json();
        assert!(ready["behind_ms"].is_number(), "{ready}");
    }
    assert!(!foreign.is_finished(), "it was open all the time");
    assert!(foreign.join().expect("joined").success());
}

#[test]
fn f27_a_node_that_stood_still_accepts_nothing_that_ended_meanwhile() {
    let (nodes, _database) = Nodes::fresh();
    let text = nodes.known_token();
    nodes.nodes[1].signal(Signal::STOP);
    assert_eq!(nodes.log_out(0, &text).status, 204);
    let acknowledged = clock();
    within(PATIENCE, || (clock() - acknowledged >= BOUND).then_some(()));
    nodes.nodes[1].signal(Signal::CONT);
    // Its first word after it goes on, whatever that is.
    let said = nodes.remembered(1, &text);
    assert!(matches!(said, 401 | 503), "{said}");
    within(PATIENCE, || (nodes.remembered(1, &text) == 401).then_some(()));
}

#[test]
fn f31_nodes_in_other_time_zones_say_the_same_of_the_same_token() {
    let database = postgres::database();
    let zones = [("TZ", "Asia/Kathmandu"), ("TZ", "America/St_Johns")];
    let nodes = Nodes::set_otherwise(port_of(database.url()), database.name(), "", &zones);
    let text = nodes.known_token();
    let record = |node: usize| -> Value {
        let authorization = format!("Bearer {text}");
        let answer = send(nodes.address(node), "GET", "/v1/me", &[("Authorization", &authorization)], "").json();
        json!([answer["token"]["issued_at"], answer["token"]["expires_at"]])
    };
    assert_eq!(record(0), record(1));
    nodes.ended_in_time(&text);
}

#[test]
fn f34_in_a_storm_of_logins_a_node_goes_on_following_the_others() {
    let (nodes, _database) = Nodes::fresh();
    let text = nodes.known_token();
    let address = nodes.address(1);
    let storm: Vec<_> = (0..24)
        .map(|number| {
            std::thread::spawn(move || {
                for round in 0..4 {
                    login(address, &format!("nobody{number}x{round}"), "guessed, and guessed wrong");
                }
            })
        })
        .collect();
    nodes.ended_in_time(&text);
    assert!(storm.iter().any(|stormer| !stormer.is_finished()), "it was over before");
    for stormer in storm {
        stormer.join().expect("joined");
    }
    assert!(nodes.site.path("stderr1").exists());
}
