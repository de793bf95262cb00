//! The faults of a Redis in which the tokens are, with the accounts in PostgreSQL: docs/redis.md says what is promised of it.

use std::time::Duration;

use super::{cut_off, evict, evicted_enough, fill, load_slowly, redis_of, settings};
use crate::nodes::conductor::Run;
use crate::nodes::judge::{
    EVICTION_BEGINS, EVICTION_ENDS, FLUSH_BEGINS, FLUSH_ENDS, TAIL_BEGINS, TAIL_ENDS, TAIL_KNOWN,
};
use crate::nodes::{Failure, millis, now};
use crate::redis::{Reply, Server, Stop};
use crate::waiting::pause;

/// Takes the Redis away from all nodes for a part of the time. After the lease they say neither yes nor no, and then they answer again.
fn away(
    run: &mut Run<'_>,
    what: &'static str,
    lose: impl FnOnce(&Run<'_>) -> Result<(), Failure>,
    mend: impl FnOnce(&Run<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    run.mark(&format!("the Redis of the tokens: {what}"));
    lose(run)?;
    let from = now();
    pause(run.share(0.08).max(Duration::from_millis(2_500)));
    run.silent_between(from + millis(1_100), now());
    mend(run)?;
    run.healed(what, 3_000);
    run.until_ready();
    pause(run.share(0.04));
    Ok(())
}

/// Killed, and there again with all that it has acknowledged.
fn restarted(run: &mut Run<'_>, what: &'static str) -> Result<(), Failure> {
    let kill = |run: &Run<'_>| {
        redis_of(run)?.stop(Stop::Kill);
        Ok(())
    };
    let begin = |run: &Run<'_>| {
        redis_of(run)?.begin();
        Ok(())
    };
    away(run, what, kill, begin)
}

pub(super) fn lost(run: &mut Run<'_>) -> Result<(), Failure> {
    settings(run, &[("maxmemory-policy", "noeviction"), ("maxmemory", "1")])?;
    let from = run.mark("the Redis of the tokens is full");
    pause(run.share(0.1));
    let to = now();
    settings(run, &[("maxmemory", "0")])?;
    run.ends_only(from, to);
    run.healed("room", 1_000);
    pause(run.share(0.1));

    restarted(run, "restart")?;

    let freeze = |run: &Run<'_>| {
        redis_of(run)?.freeze();
        Ok(())
    };
    let thaw = |run: &Run<'_>| {
        redis_of(run)?.thaw();
        Ok(())
    };
    away(run, "thaw", freeze, thaw)?;

    let cut = |run: &Run<'_>| {
        cut_off(&run.site.redis_proxies);
        Ok(())
    };
    let heal = |run: &Run<'_>| {
        run.site.redis_proxies.iter().for_each(|proxy| proxy.heal());
        Ok(())
    };
    away(run, "heal", cut, heal)?;

    // An operator has set the wrong policy: anything may be gone, and what would have to be whole is an error until it is flushed.
    run.mark(EVICTION_BEGINS);
    evict(run, 0, 100)?;
    pause(run.share(0.1));
    evicted_enough(run)?;
    run.mark(EVICTION_ENDS);

    run.mark(FLUSH_BEGINS);
    redis_of(run)?.command(&["FLUSHALL"]);
    run.mark(FLUSH_ENDS);
    // The nodes go on as a new deployment, which nobody has begun by hand; whoever lost a token gets another one.
    run.healed("flush", 1_000);
    run.admin_anew()?;
    pause(run.share(0.1));
    // What was made since is as well kept as what was there before.
    restarted(run, "restart after the flush")?;
    run.rest();
    run.tells_of_a_rewind();
    Ok(())
}

/// How far a server has written, or read from its primary.
fn offset(server: &Server, field: &str) -> Option<u64> {
    let about = server.command(&["INFO", "replication"]).text();
    about.lines().find_map(|line| line.strip_prefix(field)?.trim().parse().ok())
}

pub(super) fn failed_over(run: &mut Run<'_>) -> Result<(), Failure> {
    pause(run.share(0.2));
    let sentinels = run.site.sentinels.clone().ok_or("this fault needs Sentinels")?;
    // The replica has all that was acknowledged until now, and from now on nothing more.
    run.mark(TAIL_BEGINS);
    let written = offset(&sentinels.primary, "master_repl_offset:").ok_or("a primary that counts nothing")?;
    crate::within("the replica has caught up", || {
        (offset(&sentinels.replica, "slave_repl_offset:")? >= written).then_some(())
    });
    assert_eq!(sentinels.replica.command(&["REPLICAOF", "127.0.0.1", "1"]), Reply::Text("OK".into()));
    pause(Duration::from_millis(1_500));
    sentinels.primary.stop(Stop::Kill);
    // What was acknowledged until here, and was heard of a little later; the Sentinels have noticed nothing yet.
    pause(Duration::from_millis(200));
    run.mark(TAIL_ENDS);
    crate::within("the Sentinels name the replica", || {
        (sentinels.primary_port() == sentinels.replica.port()).then_some(())
    });
    run.healed("failover", 3_000);
    // None is ready before it has ended again what it knows of.
    run.until_ready();
    run.mark(TAIL_KNOWN);
    run.rest();
    run.tells_of_a_rewind();
    run.tells_of_endings_given_again();
    Ok(())
}

pub(super) fn unwritable(run: &mut Run<'_>) -> Result<(), Failure> {
    // Of nobody who would send it something else instead.
    let follow = |run: &Run<'_>| {
        assert_eq!(redis_of(run)?.command(&["REPLICAOF", "127.0.0.1", "1"]), Reply::Text("OK".into()));
        Ok(())
    };
    let lead = |run: &Run<'_>| {
        redis_of(run)?.promote();
        Ok(())
    };
    away(run, "promotion", follow, lead)?;

    let replica = redis_of(run)?.replica();
    let from = run.mark("node 0 is led to a replica");
    lead_node_0_to(run, &replica);
    pause(run.share(0.2));
    run.silent_on(0, from + millis(1_100), now());
    (1..run.site.nodes.len()).for_each(|node| run.unaffected(from, now(), node));
    let primary = run.site.redis.clone().ok_or("this fault needs Redis")?;
    lead_node_0_to(run, &primary);
    run.healed("back", 3_000);
    pause(run.share(0.1));
    drop(replica);

    fill(run, 20_000)?;
    run.mark("the Redis of the tokens loads");
    let from = now();
    let loading = load_slowly(run)?;
    pause(Duration::from_millis(2_500));
    run.silent_between(from + millis(1_100), now());
    loading.ends(run)?;
    run.healed("load", 3_000);
    run.rest();
    Ok(())
}

fn lead_node_0_to(run: &Run<'_>, server: &Server) {
    run.site.redis_proxies[0].lead_to(([127, 0, 0, 1], server.port()).into());
    run.site.redis_proxies[0].cut();
}
