//! Faults one by one, each at its worst moment; and that each is seen where the step that meets it is left out.

use std::sync::Arc;

use counterfoil_core::lease::Doubt;
use counterfoil_core::mutant::Mutant;
use counterfoil_core::token::Kind;
use counterfoil_core::{Authority, Clock, TokenStore};

use crate::checker::{ClientOf, Verdict};
use crate::database::{Serving, at_once};
use crate::kernel::{MILLIS, Micros, SECONDS, Slot, lock};
use crate::run::{Setting, run};
use crate::wire::tell;
use crate::workload::{self, Revoking};
use crate::world::{World, subject};

const NO: Verdict = Verdict::No { expired: false };

/// Three nodes, all of which follow the store, and nobody who breaks anything but the story.
struct Stage(Arc<World>);

impl Drop for Stage {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Stage {
    fn with(seed: u64, mutant: Option<Mutant>) -> Stage {
        let stage = Stage(World::new(seed, 3, mutant, 0));
        stage.pass(SECONDS);
        assert_eq!(stage.recalling(), [true; 3]);
        stage
    }

    fn pass(&self, micros: Micros) {
        self.0.kernel.run_until(self.0.kernel.now() + micros);
    }

    /// What something on a node comes to.
    fn at<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        node: usize,
        work: impl FnOnce(Arc<World>, Arc<Authority>) -> F,
    ) -> T {
        let slot = Slot::new();
        let answer = Arc::clone(&slot);
        self.0.at(node, |world, authority| {
            let work = work(world, authority);
            async move { answer.put(work.await) }
        });
        for _ in 0..300_000 {
            self.pass(100);
            if let Some(answer) = slot.try_take() {
                return answer;
            }
        }
        panic!("no answer in half a minute");
    }

    fn issue(&self, node: usize, client: ClientOf) -> usize {
        let issued = self.at(node, move |world, authority| async move {
            workload::issue(&world, &authority, node, subject(0), client, Kind::Login).await
        });
        issued.expect("a token")
    }

    fn ask(&self, node: usize, secret: usize) -> Verdict {
        let begun = self.0.kernel.moment();
        self.at(node, move |world, authority| async move {
            workload::verdict(&world, &authority, node, secret, begun).await
        })
    }

    fn ask_all(&self, secret: usize) -> [Verdict; 3] {
        [0, 1, 2].map(|node| self.ask(node, secret))
    }

    /// A token that every node knows.
    fn known(&self) -> usize {
        let secret = self.issue(0, ClientOf::Default);
        assert_eq!(self.ask_all(secret), [Verdict::Yes; 3]);
        secret
    }

    fn revoke(&self, node: usize, secret: usize) -> bool {
        self.at(node, move |world, authority| async move {
            workload::revoke(&world, &authority, node, Revoking::Token(secret)).await
        })
    }

    /// Which nodes answer from memory.
    fn recalling(&self) -> [bool; 3] {
        [0, 1, 2].map(|node| {
            let now = self.0.clock(node).now();
            self.0.authority(node).is_some_and(|authority| authority.recalling(now).is_some())
        })
    }

    fn misses(&self) -> [u64; 3] {
        [0, 1, 2].map(|node| {
            let authority = self.0.authority(node).expect("a node");
            authority.cache().expect("a cache").misses()
        })
    }

    /// Why the nodes forgot what they knew.
    fn doubts(&self) -> [Vec<Doubt>; 3] {
        [0, 1, 2].map(|node| lock(&self.0.nodes[node].life).doubts.clone())
    }

    fn violations(&self) -> Vec<String> {
        lock(&self.0.checker).violations.iter().map(ToString::to_string).collect()
    }
}

/// A node is stopped `offset` after a token was seen there, which is then revoked elsewhere. What it says of it when it goes on.
fn stopped_and_asked(offset: Micros, suspend: bool, mutant: Option<Mutant>) -> Vec<String> {
    let stage = Stage::with(27, mutant);
    // Answers are long on their way, so that one waits when the node goes on.
    lock(&stage.0.links)[1].slow = 60 * MILLIS;
    let secret = stage.known();
    stage.pass(offset);
    stage.0.kernel.stop(1);
    stage.pass(SECONDS);
    assert!(stage.revoke(0, secret));
    stage.0.check(1, secret); // while it is stopped
    stage.pass(9 * SECONDS);
    if suspend {
        stage.0.nodes[1].machine.suspended(10 * SECONDS);
    }
    for _ in 0..3 {
        stage.0.check(1, secret);
    }
    stage.0.kernel.go_on(1);
    for _ in 0..20 {
        stage.pass(20 * MILLIS);
        stage.0.check(1, secret);
    }
    stage.pass(3 * SECONDS);
    assert_eq!(stage.ask(1, secret), NO, "it works again");
    stage.violations()
}

fn offsets() -> impl Iterator<Item = Micros> {
    (0..60).map(|step| step * 7 * MILLIS)
}

#[test]
fn f27_a_node_that_was_stopped_says_no_yes_from_before() {
    for offset in offsets() {
        assert_eq!(stopped_and_asked(offset, false, None), [""; 0], "stopped after {offset} µs");
    }
    let seen = offsets().any(|offset| !stopped_and_asked(offset, false, Some(Mutant::LeaseFromReceipt)).is_empty());
    assert!(seen, "with a lease from the receipt of an answer it would");
}

#[test]
fn f28_a_node_that_was_suspended_says_no_yes_from_before() {
    for offset in offsets() {
        assert_eq!(stopped_and_asked(offset, true, None), [""; 0], "suspended after {offset} µs");
    }
    let seen = offsets().any(|offset| !stopped_and_asked(offset, true, Some(Mutant::MonotonicClock)).is_empty());
    assert!(seen, "by a clock that stands still in suspend it would");
}

#[test]
fn f29_dates_that_jump_move_neither_lease_nor_expiry() {
    let stage = Stage::with(29, None);
    let lasting = stage.known();
    let short = stage.issue(0, ClientOf::Short);
    let known = stage.misses();
    // An hour on and back, ten seconds back, 1970, 2038, and a leap second that is told twice.
    for ahead in [3_600_000, -3_600_000, -10_000, -1_795_172_400_000, 352_000_000_000, -1_000, 0] {
        (0..3).for_each(|node| stage.0.nodes[node].machine.set_ahead(ahead));
        stage.pass(500 * MILLIS);
        assert_eq!(stage.recalling(), [true; 3], "set by {ahead} ms");
        assert_eq!(stage.ask_all(lasting), [Verdict::Yes; 3], "set by {ahead} ms");
        assert_eq!(stage.ask_all(short), [Verdict::Yes; 3], "set by {ahead} ms");
    }
    assert_eq!(stage.misses(), known.map(|misses| misses + 1), "all was answered from memory, but the short one once");
    stage.pass(SECONDS);
    assert_eq!(stage.ask_all(short), [Verdict::No { expired: true }; 3], "four seconds by the store's clock");
    assert_eq!(stage.ask_all(lasting), [Verdict::Yes; 3]);
}

#[test]
fn f30_nodes_whose_dates_differ_judge_an_expiry_alike() {
    let stage = Stage::with(30, None);
    for (node, ahead) in [300_000, 0, -300_000].into_iter().enumerate() {
        stage.0.nodes[node].machine.set_ahead(ahead);
        stage.0.crash(node);
        stage.0.start(node);
    }
    stage.pass(SECONDS);
    for issuer in 0..3 {
        let begun = stage.0.kernel.now();
        let secret = stage.issue(issuer, ClientOf::Short);
        stage.0.kernel.run_until(begun + 3_980 * MILLIS);
        assert_eq!(stage.ask_all(secret), [Verdict::Yes; 3], "issued by {issuer}");
        stage.0.kernel.run_until(begun + 4_020 * MILLIS);
        assert_eq!(stage.ask_all(secret), [Verdict::No { expired: true }; 3], "issued by {issuer}");
    }
}

/// The standby takes over without the last revocations. With `refilled`, as many others are made before any node asks.
///
/// The stage, what was revoked before the standby fell behind, after that, and in its place; and the misses until then.
fn failed_over(refilled: bool, mutant: Option<Mutant>) -> (Stage, [usize; 3], [u64; 3]) {
    let stage = Stage::with(19, mutant);
    let (before, tail, later) = (stage.known(), stage.known(), stage.known());
    assert!(stage.revoke(0, before));
    stage.pass(300 * MILLIS);
    let (since, standby) = stage.0.copy();
    assert!(stage.revoke(0, tail));
    stage.pass(300 * MILLIS);
    assert_eq!(stage.ask_all(tail), [NO; 3]);
    let misses = stage.misses();
    // The standby is promoted, and only node 0 is there to ask it; the others come a little later.
    (1..3).for_each(|node| lock(&stage.0.links)[node].to_lost = true);
    stage.0.rewind(since, standby);
    if refilled {
        assert!(stage.revoke(0, later));
    }
    (1..3).for_each(|node| lock(&stage.0.links)[node].to_lost = false);
    stage.pass(3 * SECONDS);
    (stage, [before, tail, later], misses)
}

#[test]
fn f19_after_a_failover_that_lost_the_tail_nodes_forget_and_go_by_the_primary() {
    for (refilled, doubt) in [(false, Doubt::Rewound), (true, Doubt::Rewritten)] {
        let (stage, [before, tail, later], misses) = failed_over(refilled, None);
        let doubts = stage.doubts();
        assert_eq!(doubts[1..], [[doubt], [doubt]], "refilled: {refilled}");
        assert_eq!(stage.ask_all(before), [NO; 3], "what the standby had holds");
        assert_eq!(stage.ask_all(tail), [Verdict::Yes; 3], "the documented limit: the primary knows of no end");
        let asked = stage.misses().iter().zip(misses).all(|(now, before)| *now > before);
        assert!(asked, "nothing is answered from what was known before");
        assert_eq!(stage.ask_all(later), if refilled { [NO; 3] } else { [Verdict::Yes; 3] });
        assert!(stage.revoke(1, tail));
        assert_eq!(stage.ask(1, tail), NO);
        stage.pass(SECONDS);
        assert_eq!(stage.ask_all(tail), [NO; 3]);
        assert_eq!(stage.violations(), [""; 0]);
    }
    let (stage, [_, _, later], _) = failed_over(true, Some(Mutant::NoTag));
    assert_eq!(stage.ask_all(later), [Verdict::Yes; 3], "without tags nobody would notice");
}

#[test]
fn f10_a_backup_that_was_restored_is_another_store_or_a_rewound_one() {
    for other in [true, false] {
        let stage = Stage::with(10, None);
        let (before, since_then) = (stage.known(), stage.known());
        assert!(stage.revoke(1, before));
        stage.pass(SECONDS);
        let (since, mut backup) = stage.0.copy();
        assert!(stage.revoke(2, since_then));
        stage.pass(SECONDS);
        assert_eq!(stage.ask_all(since_then), [NO; 3]);
        if other {
            backup.incarnation = [7; 16];
        }
        stage.0.rewind(since, backup);
        stage.pass(SECONDS);
        let doubt = if other { Doubt::OtherStore } else { Doubt::Rewound };
        assert_eq!(stage.doubts(), [[doubt], [doubt], [doubt]]);
        assert_eq!(stage.ask_all(before), [NO; 3]);
        assert_eq!(stage.ask_all(since_then), [Verdict::Yes; 3], "the documented limit: the backup knows of no end");
        assert!(stage.revoke(2, since_then));
        stage.pass(SECONDS);
        assert_eq!(stage.ask_all(since_then), [NO; 3]);
        assert_eq!(stage.violations(), [""; 0]);
    }
}

#[test]
fn f20_a_primary_that_became_a_replica_gives_no_lease_and_takes_no_revocation() {
    let stage = Stage::with(20, None);
    let secret = stage.known();
    lock(&stage.0.cluster).serving = Serving::Recovering;
    assert!(!stage.revoke(0, secret), "it is read-only");
    stage.pass(SECONDS);
    assert_eq!(stage.recalling(), [false; 3]);
    assert_eq!(stage.ask_all(secret), [Verdict::Fault; 3], "in doubt, neither yes nor no");
    lock(&stage.0.cluster).serving = Serving::Everything;
    stage.pass(SECONDS);
    assert_eq!(stage.recalling(), [true; 3]);
    assert_eq!(stage.ask_all(secret), [Verdict::Yes; 3]);
    assert_eq!(stage.violations(), [""; 0]);
}

/// One node is led to a replica that is cut off from its primary, where a token is revoked.
fn led_to_a_replica(mutant: Option<Mutant>) -> Verdict {
    let stage = Stage::with(21, mutant);
    let secret = stage.known();
    {
        let mut cluster = lock(&stage.0.cluster);
        cluster.replica = Some(cluster.primary.clone());
    }
    lock(&stage.0.links)[1].to_replica = true;
    assert!(stage.revoke(0, secret));
    stage.pass(SECONDS);
    stage.ask(1, secret)
}

#[test]
fn f20_a_node_that_was_led_to_a_replica_answers_nothing() {
    assert_eq!(led_to_a_replica(None), Verdict::Fault);
    assert_eq!(led_to_a_replica(Some(Mutant::PollOnReplica)), Verdict::Yes, "where the replica is believed");
}

/// A transaction that revokes one token is begun, and committed five minutes later. What the nodes say of both tokens
/// half-way, and in the end.
fn held_open(mutant: Option<Mutant>) -> [[Verdict; 3]; 3] {
    let stage = Stage::with(23, mutant);
    let (held, other) = (stage.known(), stage.known());
    let reserved = lock(&stage.0.cluster).primary.reserve();
    let reserved = (mutant == Some(Mutant::NumberedBeforeCommit)).then_some(reserved);
    for _ in 0..150 {
        stage.pass(SECONDS);
        assert_eq!(stage.recalling(), [true; 3], "all go on answering from memory");
    }
    assert!(stage.revoke(1, other));
    stage.pass(SECONDS);
    let misses = stage.misses();
    let meanwhile = stage.ask_all(held);
    assert_eq!(stage.misses(), misses);
    let revoked = stage.ask_all(other);
    stage.pass(148 * SECONDS);
    {
        let token = lock(&stage.0.checker).secret(held).token;
        let now = stage.0.store_time();
        let mut cluster = lock(&stage.0.cluster);
        at_once(cluster.primary.kept().revoke(token, None, None, now)).expect("revoked");
        assert!(cluster.primary.commit(reserved, || 5));
    }
    tell(&stage.0);
    stage.pass(SECONDS);
    [meanwhile, revoked, stage.ask_all(held)]
}

#[test]
fn f23_a_transaction_that_is_open_for_minutes_holds_nobody_up_and_is_not_overlooked() {
    assert_eq!(held_open(None), [[Verdict::Yes; 3], [NO; 3], [NO; 3]]);
    let numbered_first = held_open(Some(Mutant::NumberedBeforeCommit));
    assert_eq!(numbered_first[2], [Verdict::Yes; 3], "a change that is numbered before it is committed would be");
}

#[test]
fn waiting_for_all_is_waiting_for_the_slowest_clock() {
    // One node cannot hear anything; another revokes and waits.
    let stage = Stage::with(40, None);
    let secret = stage.known();
    lock(&stage.0.links)[2].from_lost = true;
    assert!(stage.revoke(0, secret));
    assert_eq!(stage.ask(0, secret), NO, "here at once");
    stage.pass(SECONDS);
    assert_eq!(stage.recalling(), [true, true, false]);
    assert_eq!([stage.ask(1, secret), stage.ask(2, secret)], [NO, Verdict::Fault]);
    assert_eq!(stage.violations(), [""; 0]);
}

#[test]
fn the_same_seed_is_the_same_run_event_by_event() {
    let of = |seed, mutant| {
        let outcome = run(Setting { seed, nodes: 3, mutant, told: 50 });
        (outcome.told, outcome.digest, outcome.counts)
    };
    assert_eq!(of(11, None), of(11, None));
    assert_eq!(of(11, Some(Mutant::NoTag)), of(11, Some(Mutant::NoTag)));
    assert_ne!(of(11, None).1, of(12, None).1);
}

/// How many seeds a mutant may survive.
const SEEDS: u64 = 60;

fn violated(seed: u64, mutant: Option<Mutant>) -> bool {
    !run(Setting { seed, nodes: 3, mutant, told: 0 }).violations.is_empty()
}

#[test]
fn each_mutant_is_caught_within_sixty_seeds() {
    for mutant in Mutant::ALL {
        let caught = (0..SEEDS).find(|seed| violated(*seed, Some(mutant)));
        assert!(caught.is_some(), "{mutant} survives {SEEDS} seeds");
    }
}

#[test]
fn without_a_mutant_the_same_seeds_show_nothing() {
    let seeds: Vec<u64> = (0..SEEDS).filter(|seed| violated(*seed, None)).collect();
    assert_eq!(seeds, [0; 0]);
}
