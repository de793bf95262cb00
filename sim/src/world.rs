//! Everything of one run: [`World`].

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use counterfoil_core::client::{AtCap, Cap, Client, ClientId, ClientName, Lifetime, Policy, Reissue};
use counterfoil_core::mutant::Mutant;
use counterfoil_core::store::NewClient;
use counterfoil_core::token::Metadata;
use counterfoil_core::{StoreClock, SubjectId, Timestamp, TokenStore};

use crate::chance::Chance;
use crate::checker::{Checker, ClientOf};
use crate::database::{BEGIN, Cluster, Database, at_once, date};
use crate::kernel::{Kernel, MILLIS, Micros, SECONDS, lock};
use crate::node::{Life, Machine, Node};
use crate::wire::Link;

/// How far a node's second may be from the true one, in parts of a million: a hundred times what a usual quartz is off. What waits for
/// every node reckons with two clocks that differ by twice as much.
const DRIFT: i64 = 4_500;

/// Subjects whose tokens come and go.
pub(crate) const SUBJECTS: usize = 6;

/// See the module's own words.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) kernel: Arc<Kernel>,
    pub(crate) chance: Chance,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) cluster: Mutex<Cluster>,
    pub(crate) links: Mutex<Vec<Link>>,
    pub(crate) checker: Mutex<Checker>,
    pub(crate) nodes: Vec<Node>,
    /// How long a node waits for the store.
    pub(crate) deadline: Micros,
    /// Of a thousand messages, how many go astray for a while.
    pub(crate) strays: AtomicUsize,
    told: Option<Mutex<Told>>,
}

/// What happened.
#[derive(Debug, Default)]
struct Told {
    most: usize,
    last: VecDeque<String>,
    digest: u64,
}

impl World {
    /// `nodes` nodes, all running, and nothing else going on.
    pub(crate) fn new(seed: u64, nodes: usize, mutant: Option<Mutant>, told: usize) -> Arc<World> {
        let kernel = Arc::new(Kernel::default());
        let chance = Chance::from_seed(seed);
        let mut primary = Database::new();
        make_clients(&primary, &chance);
        primary.commit(None, || 0);
        let node = |_| {
            let machine = Arc::new(Machine::new(&kernel, &chance, DRIFT, mutant));
            let clock = Mutex::new(Arc::new(StoreClock::new(machine.clone())));
            Node { machine, clock, life: Mutex::new(Life::default()) }
        };
        let nodes: Vec<Node> = (0..nodes).map(node).collect();
        let deadline = *chance.pick(&[500 * MILLIS, SECONDS, 2 * SECONDS]);
        let world = Arc::new(World {
            links: Mutex::new(vec![Link::default(); nodes.len()]),
            kernel,
            chance,
            mutant,
            cluster: Mutex::new(Cluster::new(primary)),
            checker: Mutex::default(),
            nodes,
            deadline,
            strays: AtomicUsize::new(0),
            told: (told > 0).then(|| Mutex::new(Told { most: told, ..Told::default() })),
        });
        (0..world.nodes.len()).for_each(|node| world.start(node));
        world
    }

    /// The date by the store's clock.
    pub(crate) fn store_time(&self) -> Timestamp {
        date(self.kernel.now())
    }

    pub(crate) fn calm(&self) {
        self.strays.store(0, Ordering::Relaxed);
    }

    /// Writes down what happened, if anybody wants to know.
    pub(crate) fn trace(&self, what: impl FnOnce() -> String) {
        let Some(told) = &self.told else { return };
        let line = format!("{:>12.3} ms  {}", self.kernel.now() as f64 / 1_000.0, what());
        let told = &mut *lock(told);
        for byte in line.bytes() {
            told.digest = (told.digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3); // FNV-1a
        }
        if told.last.len() == told.most {
            told.last.pop_front();
        }
        told.last.push_back(line);
    }

    /// The last events, and a number that all of them have gone into.
    pub(crate) fn told(&self) -> (Vec<String>, u64) {
        self.told.as_ref().map_or_else(Default::default, |told| {
            let told = lock(told);
            (told.last.iter().cloned().collect(), told.digest)
        })
    }

    /// Ends everything; what goes on names the world, which would otherwise never go.
    pub(crate) fn end(&self) {
        for node in &self.nodes {
            *lock(&node.life) = Life::default();
        }
        self.kernel.clear();
    }
}

pub(crate) fn subject(number: usize) -> SubjectId {
    let name = format!("s{number}");
    name.parse().unwrap_or_else(|_| unreachable!("a short name is a subject"))
}

impl ClientOf {
    pub(crate) const ALL: [ClientOf; 4] = [ClientOf::Default, ClientOf::Capped, ClientOf::Replacing, ClientOf::Short];

    pub(crate) fn name(self) -> ClientName {
        let name = match self {
            ClientOf::Default => return ClientName::default_client(),
            ClientOf::Capped => "capped",
            ClientOf::Replacing => "replacing",
            ClientOf::Short => "short",
        };
        name.parse().unwrap_or_else(|_| unreachable!("a short name is a client's"))
    }

    fn policy(self) -> Policy {
        let plain = Policy::default();
        match self {
            ClientOf::Default => plain,
            ClientOf::Capped => {
                let cap = Cap { limit: std::num::NonZeroU32::MIN.saturating_add(1), at_cap: AtCap::EvictOldest };
                Policy { cap: Some(cap), ..plain }
            }
            ClientOf::Replacing => Policy { reissue: Reissue::Replace, ..plain },
            ClientOf::Short => Policy { ttl: Lifetime::from_seconds(4).ok(), ..plain },
        }
    }

    /// Whether a token issued on it may end others.
    pub(crate) fn evicts(self) -> bool {
        matches!(self, ClientOf::Capped | ClientOf::Replacing)
    }
}

fn make_clients(primary: &Database, chance: &Chance) {
    for client in ClientOf::ALL {
        let Ok(id) = ClientId::generate(BEGIN, chance) else { continue };
        let new = NewClient {
            id,
            name: client.name(),
            policy: client.policy(),
            allow_login: true,
            metadata: Metadata::default(),
            created_at: BEGIN,
        };
        let made: Option<Arc<Client>> = at_once(primary.kept().create_client(&new)).ok().flatten();
        debug_assert!(made.is_some());
    }
}
