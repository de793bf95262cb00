//! Whoever breaks things: [`Nemesis`], and what it knows to break, [`Fault`].

use std::sync::Arc;

use counterfoil_core::{SubjectId, TokenStore};

use crate::database::{Database, Serving, at_once};
use crate::kernel::{MILLIS, Micros, Moment, Owner, SECONDS, lock};
use crate::wire::{Link, tell};
use crate::world::World;

/// A way to break things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    CutBothWays,
    CutTowardsStore,
    CutTowardsNode,
    SlowLink,
    NodeStopped,
    NodeSuspended,
    NodeDies,
    DateSet,
    NewsLost,
    NewsRepeated,
    /// More changes than are read at a time.
    LogFlooded,
    /// While a node is cut off.
    LogTrimmed,
    CommitsLate,
    StoreRestarts,
    StoreRecovering,
    LedToReplica,
    /// The standby takes over, and does not have the end of the log.
    FailoverLosesTail,
    /// An older image of the primary's disk is put back.
    OlderImage,
    /// A backup is restored as another database.
    BackupRestored,
}

impl Fault {
    const ALL: [Fault; 19] = [
        Fault::CutBothWays,
        Fault::CutTowardsStore,
        Fault::CutTowardsNode,
        Fault::SlowLink,
        Fault::NodeStopped,
        Fault::NodeSuspended,
        Fault::NodeDies,
        Fault::DateSet,
        Fault::NewsLost,
        Fault::NewsRepeated,
        Fault::LogFlooded,
        Fault::LogTrimmed,
        Fault::CommitsLate,
        Fault::StoreRestarts,
        Fault::StoreRecovering,
        Fault::LedToReplica,
        Fault::FailoverLosesTail,
        Fault::OlderImage,
        Fault::BackupRestored,
    ];
}

/// Breaks what it was given to break, one thing after the other and some at once.
#[derive(Debug)]
pub(crate) struct Nemesis {
    faults: Vec<Fault>,
    /// How long there is peace at most.
    peace: Micros,
}

impl Nemesis {
    /// Some faults and not others, another choice for each seed: what never happens beside something else is seen as well.
    pub(crate) fn drawn(world: &World) -> Nemesis {
        let faults = Fault::ALL.into_iter().filter(|_| world.chance.permille(400)).collect();
        Nemesis { faults, peace: world.chance.between(SECONDS, 6 * SECONDS) }
    }

    pub(crate) async fn rage(self, world: Arc<World>, until: Micros) {
        world.trace(|| format!("to be broken: {:?}", self.faults));
        while world.kernel.now() < until && !self.faults.is_empty() {
            world.kernel.sleep(world.chance.between(10 * MILLIS, self.peace)).await;
            let fault = *world.chance.pick(&self.faults);
            let node = world.chance.below(world.nodes.len());
            let lasts = world.chance.magnitude(50 * MILLIS, 8 * SECONDS);
            let injected = world.inject(fault, node, lasts);
            if world.chance.permille(500) {
                injected.await;
            } else {
                world.kernel.spawn(Owner::Nemesis, injected);
            }
        }
    }
}

impl World {
    /// Breaks something, and mends it after `lasts`.
    pub(crate) fn inject(
        self: &Arc<World>,
        fault: Fault,
        node: usize,
        lasts: Micros,
    ) -> impl Future<Output = ()> + Send + use<> {
        let world = Arc::clone(self);
        async move {
            world.trace(|| format!("FAULT {fault:?} (node {node}, {} ms)", lasts / MILLIS));
            match fault {
                Fault::CutBothWays => {
                    let cut = |on| move |link: &mut Link| (link.to_lost, link.from_lost) = (on, on);
                    world.link_while(node, lasts, cut(true), cut(false)).await;
                }
                Fault::CutTowardsStore => {
                    world.link_while(node, lasts, |link| link.to_lost = true, |link| link.to_lost = false).await;
                }
                Fault::CutTowardsNode => {
                    world.link_while(node, lasts, |link| link.from_lost = true, |link| link.from_lost = false).await;
                }
                Fault::SlowLink => {
                    let slow = world.chance.magnitude(10 * MILLIS, 2 * SECONDS);
                    world.link_while(node, lasts, move |link| link.slow = slow, |link| link.slow = 0).await;
                }
                Fault::NewsLost => {
                    world.link_while(node, lasts, |link| link.news_lost = true, |link| link.news_lost = false).await;
                }
                Fault::NewsRepeated => {
                    let many = world.chance.magnitude(1, 60);
                    let repeat = move |link: &mut Link| link.news_repeated = many;
                    world.link_while(node, lasts, repeat, |link| link.news_repeated = 0).await;
                }
                // Once is enough: a second stop would end with the first.
                Fault::NodeStopped | Fault::NodeSuspended if world.kernel.is_stopped(node) => {}
                Fault::NodeStopped => {
                    world.kernel.stop(node);
                    world.kernel.sleep(lasts).await;
                    world.trace(|| format!("node {node} goes on"));
                    world.kernel.go_on(node);
                }
                Fault::NodeSuspended => {
                    world.kernel.stop(node);
                    world.kernel.sleep(lasts).await;
                    world.nodes[node].machine.suspended(lasts);
                    world.trace(|| format!("node {node} wakes up"));
                    world.kernel.go_on(node);
                }
                Fault::NodeDies => {
                    world.crash(node);
                    world.kernel.sleep(lasts / 4).await;
                    world.start(node);
                }
                Fault::DateSet => {
                    const HOUR: i64 = 3_600_000;
                    const LONG_AGO: i64 = -1_795_172_400_000; // 1970
                    const LATER: i64 = 352_000_000_000; // 2038
                    let ahead = *world.chance.pick(&[HOUR, -HOUR, -10_000, 300_000, LONG_AGO, LATER, 1_000]);
                    world.nodes[node].machine.set_ahead(ahead);
                }
                Fault::LogFlooded => world.flood(world.chance.between(300, 2_600)),
                Fault::LogTrimmed => {
                    let cut = |link: &mut Link| link.to_lost = true;
                    let trim = |link: &mut Link| {
                        lock(&world.cluster).primary.trim(world.chance.magnitude(1, 8) as usize);
                        link.to_lost = false;
                    };
                    world.link_while(node, lasts, cut, trim).await;
                }
                Fault::CommitsLate => {
                    lock(&world.cluster).late = Some(world.chance.magnitude(10 * MILLIS, 3 * SECONDS));
                    world.kernel.sleep(lasts).await;
                    lock(&world.cluster).late = None;
                }
                Fault::StoreRestarts => world.serve_while(Serving::Nothing, lasts / 4).await,
                Fault::StoreRecovering => world.serve_while(Serving::Recovering, lasts / 2).await,
                Fault::LedToReplica => {
                    {
                        let mut cluster = lock(&world.cluster);
                        cluster.replica = Some(cluster.primary.clone());
                    }
                    world.link_while(node, lasts, |link| link.to_replica = true, |link| link.to_replica = false).await;
                }
                Fault::FailoverLosesTail => {
                    let (since, copy) = world.copy();
                    world.kernel.sleep(world.chance.magnitude(10 * MILLIS, 3 * SECONDS)).await;
                    world.serve_while(Serving::Nothing, lasts / 8).await;
                    world.rewind(since, copy);
                }
                Fault::OlderImage => {
                    let (since, copy) = world.copy();
                    world.kernel.sleep(world.chance.magnitude(100 * MILLIS, 10 * SECONDS)).await;
                    world.serve_while(Serving::Nothing, lasts / 8).await;
                    world.rewind(since, copy);
                }
                Fault::BackupRestored => {
                    let (since, mut copy) = world.copy();
                    world.kernel.sleep(world.chance.magnitude(100 * MILLIS, 10 * SECONDS)).await;
                    world.serve_while(Serving::Nothing, lasts / 8).await;
                    copy.incarnation = (u128::from(world.chance.next()) << 64 | 1).to_be_bytes();
                    world.rewind(since, copy);
                }
            }
        }
    }

    async fn link_while(
        self: &Arc<World>,
        node: usize,
        lasts: Micros,
        begin: impl FnOnce(&mut Link),
        end: impl FnOnce(&mut Link),
    ) {
        begin(&mut lock(&self.links)[node]);
        self.kernel.sleep(lasts).await;
        end(&mut lock(&self.links)[node]);
    }

    /// The primary serves less for a while; whatever was under way is lost with the connections.
    async fn serve_while(self: &Arc<World>, serving: Serving, lasts: Micros) {
        {
            let mut cluster = lock(&self.cluster);
            cluster.serving = serving;
            cluster.generation += 1;
        }
        self.kernel.sleep(lasts).await;
        lock(&self.cluster).serving = Serving::Everything;
    }

    /// What the primary holds now.
    pub(crate) fn copy(&self) -> (Moment, Database) {
        (self.kernel.moment(), lock(&self.cluster).primary.clone())
    }

    /// What was copied at `since` takes the primary's place. A copy from before another one took it is not put back: a server
    /// that comes again after a successor has served is to be fenced off, and nobody else can tell.
    pub(crate) fn rewind(self: &Arc<World>, since: Moment, copy: Database) {
        let now = self.kernel.moment();
        if lock(&self.checker).has_rewound_since(since) {
            return;
        }
        let date = self.store_time();
        let mut cluster = lock(&self.cluster);
        let before = cluster.primary.head();
        cluster.primary = copy;
        cluster.generation += 1;
        let cluster = &*cluster;
        self.trace(|| format!("store: the log ended at {before} and ends at {} now", cluster.primary.head()));
        lock(&self.checker).rewound(since, now, |digest| cluster.primary.truth(digest, date));
    }

    /// Changes that concern nobody.
    pub(crate) fn flood(self: &Arc<World>, many: u64) {
        let nobody: Result<SubjectId, _> = "nobody".parse();
        let Ok(nobody) = nobody else { return };
        let now = self.store_time();
        {
            let mut cluster = lock(&self.cluster);
            for _ in 0..many {
                let noted = at_once(cluster.primary.kept().subject_changed(&nobody, now));
                debug_assert!(noted.is_ok());
            }
            cluster.primary.commit(None, || self.chance.next());
        }
        tell(self);
    }

    /// Mends all that is broken.
    pub(crate) fn heal(self: &Arc<World>) {
        self.trace(|| "everything is mended".to_owned());
        self.kernel.kill(Owner::Nemesis);
        lock(&self.links).iter_mut().for_each(|link| *link = Link::default());
        {
            let mut cluster = lock(&self.cluster);
            cluster.serving = Serving::Everything;
            cluster.late = None;
        }
        self.calm();
        for node in 0..self.nodes.len() {
            self.kernel.go_on(node);
            self.start(node);
        }
    }
}
