//! One run: [`run`].

use std::sync::Arc;
use std::sync::atomic::Ordering;

use counterfoil_core::mutant::Mutant;

use crate::checker::{Counts, Violation};
use crate::kernel::{Micros, Owner, SECONDS, lock};
use crate::nemesis::Nemesis;
use crate::workload;
use crate::world::World;

/// How long things are broken.
const RAGE: Micros = 56 * SECONDS;
/// Until when every node answers again after that: what is under way has been given up, and whatever broke is over.
const MENDED: Micros = 4 * SECONDS;
/// For the last answers.
const LAST: Micros = SECONDS;

/// What is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Decides everything.
    pub seed: u64,
    /// How many nodes.
    pub nodes: usize,
    /// What is wrong with them.
    pub mutant: Option<Mutant>,
    /// How many of the last events to tell.
    pub told: usize,
}

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// How much of what there was.
    pub counts: Counts,
    /// What must not be.
    pub violations: Vec<Violation>,
    /// The last events before the first of these, or before the end, if that was asked for.
    pub told: Vec<String>,
    /// A number that depends on every event, if that was asked for.
    pub digest: u64,
}

/// Runs a minute of virtual time.
pub fn run(setting: Setting) -> Outcome {
    let Setting { seed, nodes, mutant, told } = setting;
    let world = World::new(seed, nodes, mutant, told);
    world.strays.store(*world.chance.pick(&[0, 5, 30]), Ordering::Relaxed);
    let begin = SECONDS;
    world.kernel.run_until(begin);
    let rage = Nemesis::drawn(&world).rage(Arc::clone(&world), RAGE);
    world.kernel.spawn(Owner::Nemesis, rage);
    world.kernel.spawn(Owner::World, workload::ask(Arc::clone(&world), RAGE + MENDED));
    world.kernel.spawn(Owner::World, workload::issue_all_the_time(Arc::clone(&world), RAGE + MENDED));
    world.kernel.spawn(Owner::World, workload::revoke_all_the_time(Arc::clone(&world), RAGE));
    world.kernel.spawn(Owner::World, workload::disable_all_the_time(Arc::clone(&world), RAGE));
    let mut end = begin;
    while end < RAGE && lock(&world.checker).violations.is_empty() {
        end += SECONDS / 4;
        world.kernel.run_until(end);
    }
    if lock(&world.checker).violations.is_empty() {
        world.kernel.run_until(RAGE);
        world.heal();
        world.kernel.run_until(RAGE + MENDED);
        let faults = lock(&world.checker).counts.faults;
        ask_everybody(&world);
        world.kernel.run_until(RAGE + MENDED + LAST);
        let stuck = lock(&world.checker).counts.faults - faults;
        if stuck > 0 {
            lock(&world.checker).complain(format!("{stuck} faults though everything was mended"));
        }
    }
    let (told, digest) = world.told();
    let outcome = {
        let checker = &mut *lock(&world.checker);
        Outcome { counts: checker.counts, violations: std::mem::take(&mut checker.violations), told, digest }
    };
    world.end();
    outcome
}

/// Asks every node for what was handed out last.
fn ask_everybody(world: &Arc<World>) {
    let secrets: Vec<usize> = lock(&world.checker).secrets().rev().take(30).map(|(at, _)| at).collect();
    for node in 0..world.nodes.len() {
        if world.authority(node).is_none() {
            lock(&world.checker).complain(format!("node {node} is not there though everything was mended"));
        }
        secrets.iter().for_each(|secret| world.check(node, *secret));
    }
}
