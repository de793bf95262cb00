//! One node: the clocks of its machine, [`Machine`], and what runs in it.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use counterfoil_core::authority::{Parts, Settings};
use counterfoil_core::cache::Cache;
use counterfoil_core::client::Lifetime;
use counterfoil_core::event::Silent;
use counterfoil_core::hashing::OnThisThread;
use counterfoil_core::mutant::Mutant;
use counterfoil_core::store::Changes;
use counterfoil_core::{Authority, BootTime, Clock, MemoryStore, Now, StoreClock, Timestamp, TokenStore};

use crate::chance::Chance;
use crate::database::BEGIN;
use crate::kernel::{Kernel, MILLIS, Micros, Owner, lock};
use crate::wire::Wire;
use crate::world::World;

/// As `counterfoil` does it.
const FOLLOW_EVERY: Micros = 250 * MILLIS;
const FOLLOW_AT_MOST_EVERY: Micros = 10 * MILLIS;
const FLUSH_EVERY: Micros = 500 * MILLIS;

/// How long a rotated secret is accepted.
pub(crate) const GRACE_SECONDS: u64 = 3;

/// How many tokens a node keeps in mind: fewer than there are.
const CACHED: usize = 96;

/// The clocks of a machine.
#[derive(Debug)]
pub(crate) struct Machine {
    kernel: Arc<Kernel>,
    /// Parts of a million that its second is shorter or longer.
    rate: i64,
    /// The boot clock when the run begins.
    boot: u64,
    /// The boot clock stands still in suspend.
    monotonic: bool,
    state: Mutex<Reading>,
}

#[derive(Debug, Default)]
struct Reading {
    /// Milliseconds that the date is ahead.
    ahead: i64,
    suspended: Micros,
}

impl Machine {
    pub(crate) fn new(kernel: &Arc<Kernel>, chance: &Chance, drift: i64, mutant: Option<Mutant>) -> Machine {
        let around = |most: i64| chance.between(0, 2 * most.unsigned_abs()).cast_signed() - most;
        Machine {
            kernel: Arc::clone(kernel),
            rate: around(drift),
            boot: chance.between(1, 1 << 40),
            monotonic: mutant == Some(Mutant::MonotonicClock),
            state: Mutex::new(Reading { ahead: around(300_000), suspended: 0 }),
        }
    }

    /// How long it takes until this clock has moved on so far.
    pub(crate) fn true_micros(&self, micros: Micros) -> Micros {
        micros * 1_000_000 / 1_000_000u64.saturating_add_signed(self.rate)
    }

    /// The date is set.
    pub(crate) fn set_ahead(&self, millis: i64) {
        lock(&self.state).ahead = millis;
    }

    /// It was suspended for so long.
    pub(crate) fn suspended(&self, micros: Micros) {
        lock(&self.state).suspended += micros;
    }
}

impl Clock for Machine {
    fn now(&self) -> Now {
        let state = lock(&self.state);
        let now = self.kernel.now();
        let awake = if self.monotonic { now - state.suspended } else { now };
        let drifted = awake.cast_signed() * self.rate / 1_000; // micros × 10⁻⁶, in nanos
        let boot = self.boot + (awake * 1_000).wrapping_add_signed(drifted);
        let date = BEGIN.millis() + (now / 1_000).cast_signed();
        Now { wall: Timestamp::from_millis(date.saturating_add(state.ahead)), boot: Some(BootTime(boot)) }
    }
}

/// A node, whichever of its lives.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) machine: Arc<Machine>,
    /// What its process goes by.
    pub(crate) clock: Mutex<Arc<StoreClock>>,
    pub(crate) life: Mutex<Life>,
}

/// One process of it.
#[derive(Debug, Default)]
pub(crate) struct Life {
    /// `None` until it is ready, and while there is none.
    pub(crate) authority: Option<Arc<Authority>>,
    pub(crate) wire: Option<Arc<Wire>>,
    pub(crate) runs: bool,
    /// Why it forgot what it knew, and when it began to.
    pub(crate) doubts: Vec<counterfoil_core::lease::Doubt>,
}

impl World {
    /// The clock that the process of a node goes by.
    pub(crate) fn clock(&self, node: usize) -> Arc<StoreClock> {
        Arc::clone(&lock(&self.nodes[node].clock))
    }

    /// Starts the process of a node.
    pub(crate) fn start(self: &Arc<World>, node: usize) {
        let wire = Arc::new(Wire::new(self, node));
        {
            let mut life = lock(&self.nodes[node].life);
            if life.runs {
                return;
            }
            *life = Life { authority: None, wire: Some(Arc::clone(&wire)), runs: true, doubts: Vec::new() };
        }
        let machine = Arc::clone(&self.nodes[node].machine);
        *lock(&self.nodes[node].clock) = Arc::new(StoreClock::new(machine));
        self.trace(|| format!("node {node} starts"));
        self.kernel.spawn(Owner::Node(node), live(Arc::clone(self), node, wire));
    }

    /// The process of a node dies.
    pub(crate) fn crash(&self, node: usize) {
        self.trace(|| format!("node {node} dies"));
        *lock(&self.nodes[node].life) = Life::default();
        self.kernel.kill(Owner::Node(node));
    }
}

async fn live(world: Arc<World>, node: usize, wire: Arc<Wire>) {
    let clock = world.clock(node);
    // As it is done where a deployment is opened, before anything is judged.
    loop {
        let asked = clock.now().boot;
        match wire.changes(i64::MAX.unsigned_abs(), 0).await {
            Ok(Changes { clock: Some(date), .. }) => {
                clock.heard(date, asked, clock.now().boot);
                break;
            }
            Ok(_) | Err(_) => world.kernel.sleep(200 * MILLIS).await,
        }
    }
    let entropy = Arc::new(world.chance.fork(node as u64));
    let authority = loop {
        let Ok(grace) = Lifetime::from_seconds(GRACE_SECONDS) else { return };
        let settings = Settings { rotation_grace: grace, ..Settings::default() };
        let parts = Parts {
            tokens: wire.clone(),
            accounts: Arc::new(MemoryStore::new()),
            audit: None,
            mail: None,
            hashing: Arc::new(OnThisThread),
            entropy: entropy.clone(),
            events: Arc::new(Silent),
            hook: None,
            ring: None,
            settings,
        };
        match Authority::open(parts, clock.now()).await {
            Ok(authority) => break authority,
            Err(_) => world.kernel.sleep(200 * MILLIS).await,
        }
    };
    let Some(capacity) = NonZeroUsize::new(CACHED) else { return };
    let Ok(cache) = Cache::new(capacity, entropy.as_ref()) else { return };
    let cache = match world.mutant {
        Some(mutant) => cache.with_mutant(mutant, clock.clone()),
        None => cache,
    };
    let authority = Arc::new(authority.with_cache(cache));
    lock(&world.nodes[node].life).authority = Some(Arc::clone(&authority));
    world.trace(|| format!("node {node} is ready"));
    world.kernel.spawn(Owner::Node(node), flush(Arc::clone(&world), node, Arc::clone(&authority)));
    loop {
        let asked = clock.now();
        match authority.follow(asked).await {
            Ok(caught_up) => {
                if let Some(date) = caught_up.clock {
                    clock.heard(date, asked.boot, clock.now().boot);
                }
                if let Some(doubt) = caught_up.doubt {
                    world.trace(|| format!("node {node} forgets what it knew: {doubt}"));
                    lock(&world.checker).counts.doubts += 1;
                    lock(&world.nodes[node].life).doubts.push(doubt);
                }
            }
            Err(_) => world.trace(|| format!("node {node} does not hear what has changed")),
        }
        let words = async {
            world.kernel.sleep(FOLLOW_AT_MOST_EVERY).await;
            authority.news().await;
        };
        world.kernel.within(FOLLOW_EVERY, words).await;
    }
}

async fn flush(world: Arc<World>, node: usize, authority: Arc<Authority>) {
    loop {
        world.kernel.sleep(FLUSH_EVERY).await;
        let now = world.clock(node).now();
        if authority.flush(now).await.is_err() {
            world.trace(|| format!("node {node} does not write down what was seen"));
        }
    }
}
