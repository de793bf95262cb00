//! Nodes that count together in Redis, and go on alone without it.
#![cfg(feature = "redis")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use counterfoil::{
    Abilities, By, ClientOrder, Counterfoil, Error, Expiry, Issued, Kind, MemoryStore, Metadata, Policy, Refusal,
    Source, TokenOrder,
};
use counterfoil_lab::redis::{Server, Stop};
use counterfoil_lab::within;

struct Nodes {
    nodes: Vec<Counterfoil>,
    made: AtomicU32,
}

impl Nodes {
    async fn start(url: &str) -> Nodes {
        let store = Arc::new(MemoryStore::new());
        let mut nodes = Vec::new();
        for _ in 0..2 {
            let builder = Counterfoil::builder().stores(store.clone(), store.clone());
            let address = url.parse().expect("an address");
            nodes.push(builder.limits_in_redis(address).start().await.expect("started"));
        }
        Nodes { nodes, made: AtomicU32::new(0) }
    }

    /// A token on a client of its own.
    async fn token(&self, throttle: &str) -> Issued {
        let node = &self.nodes[0];
        let name = format!("c{}", self.made.fetch_add(1, Ordering::Relaxed)).parse().expect("a name");
        let policy = Policy { throttle: Some(throttle.parse().expect("a rate")), ..Policy::default() };
        let order = ClientOrder { policy, ..ClientOrder::named(name) };
        let client = node.authority().create_client(order, &By::operator(), node.clock().now()).await.expect("made");
        let order = TokenOrder {
            kind: Kind::Login,
            subject: "ada".parse().expect("subject"),
            client: Some(client.name.clone()),
            name: None,
            abilities: Abilities::everything(),
            metadata: Metadata::default(),
            expiry: Expiry::ByPolicy,
        };
        node.authority().issue(order, &By::operator(), node.clock().now()).await.expect("issued")
    }

    /// Whether it is let in; a request that failed for another reason than its rate stops the test.
    async fn ask(&self, node: usize, issued: &Issued) -> bool {
        let node = &self.nodes[node];
        match node.identify(issued.secret.expose(), &Source::default()).await {
            Ok(_) => true,
            Err(Error::Refused(Refusal::Throttled(_))) => false,
            Err(error) => panic!("a limit has failed a request: {error}"),
        }
    }

    async fn passed(&self, issued: &Issued, requests: usize) -> usize {
        let mut passed = 0;
        for number in 0..requests {
            passed += usize::from(self.ask(number % 2, issued).await);
        }
        passed
    }

    /// Two of four requests to two nodes are let through at two a day; on a busy machine an answer may come too late, and then each
    /// node goes by its own count.
    async fn count_together(&self) -> bool {
        let issued = self.token("2/d").await;
        self.passed(&issued, 4).await == 2
    }
}

#[test]
fn f24_while_redis_is_away_nodes_hold_to_the_limit_by_themselves() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = Server::start();
    let nodes = runtime.block_on(Nodes::start(&server.url()));
    within("they count together", || runtime.block_on(nodes.count_together()).then_some(()));
    for fault in 0..4 {
        match fault {
            0 => server.stop(Stop::Kill),
            1 => server.freeze(),
            2 => _ = server.command(&["CONFIG", "SET", "maxmemory", "1"]),
            _ => _ = server.command(&["REPLICAOF", "127.0.0.1", "1"]),
        }
        let issued = runtime.block_on(nodes.token("20/d"));
        let passed = runtime.block_on(nodes.passed(&issued, 200));
        assert_eq!(passed, 40, "each node lets twenty through, and no more");
        match fault {
            0 => server.begin(),
            1 => server.thaw(),
            2 => _ = server.command(&["CONFIG", "SET", "maxmemory", "0"]),
            _ => server.promote(),
        }
        within("they count together again", || runtime.block_on(nodes.count_together()).then_some(()));
    }
    let issued = runtime.block_on(nodes.token("5/d"));
    runtime.block_on(nodes.passed(&issued, 20));
    server.command(&["FLUSHALL"]);
    assert!(runtime.block_on(nodes.passed(&issued, 20)) <= 5, "each node stands by what it has counted");
}

#[test]
fn nodes_start_without_their_redis_and_count_together_once_it_is_there() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = Server::start();
    server.stop(Stop::Kill);
    let nodes = runtime.block_on(Nodes::start(&server.url()));
    let issued = runtime.block_on(nodes.token("3/d"));
    assert_eq!(runtime.block_on(nodes.passed(&issued, 20)), 6);
    server.begin();
    within("they count together", || runtime.block_on(nodes.count_together()).then_some(()));
}
