//! The faults of docs/security-cases.md that need several processes, each as a schedule of its own.

mod tokens_in_redis;

use std::cell::Cell;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use super::conductor::Run;
use super::http::Link;
use super::judge::{TAIL_BEGINS, TAIL_ENDS};
use super::site::{DATABASE, Holding, Redis, Shape, Standby, USERNAME};
use super::{Failure, millis, now};
use crate::network::Lost;
use crate::postgres::Stop;
use crate::proxy::{Faults, Flow, Proxy};
use crate::redis;
use crate::waiting::pause;

/// What goes wrong, and how.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) shape: Shape,
    /// What a node is set to besides.
    pub(crate) environment: fn(usize) -> Vec<(String, String)>,
    /// The words before a node's program.
    pub(crate) before: fn(usize) -> Vec<String>,
    pub(crate) run: fn(&mut Run<'_>) -> Result<(), Failure>,
}

const PLAIN: Shape =
    Shape { standby: Standby::Synchronous, pooler: false, namespaces: false, redis: Redis::None, sqlite: false };

const fn fault(name: &'static str, about: &'static str, run: fn(&mut Run<'_>) -> Result<(), Failure>) -> Fault {
    Fault { name, about, shape: PLAIN, environment: |_| Vec::new(), before: |_| Vec::new(), run }
}

/// In the order in which they are run.
pub(crate) const FAULTS: &[Fault] = &[
    fault("calm", "nothing is wrong", calm),
    fault("F12", "PostgreSQL crashes and restarts", crashes),
    fault("F13", "the link is cut after COMMIT, before the reply", replies_lost),
    fault("F14", "the connection that listens is dead and nobody is told", listeners_forgotten),
    fault("F15", "notifications by the million, and none at all", flood),
    fault("F16", "PostgreSQL out of reach of all nodes", unreachable),
    fault("F17", "PostgreSQL slow for one node, then held up for all", slow),
    Fault {
        shape: Shape { namespaces: true, ..PLAIN },
        ..fault("F18", "packets lost one way, between one node and PostgreSQL", one_way)
    },
    Fault {
        shape: Shape { standby: Standby::Asynchronous, ..PLAIN },
        ..fault("F19", "failover to a standby that has not everything", tail_lost)
    },
    fault("F20", "failover to the synchronous standby, and a node led to one that only reads", failover),
    fault("F21", "serialization failures and deadlocks, forced", conflicts),
    Fault { shape: Shape { pooler: true, ..PLAIN }, ..fault("F22", "PgBouncer in transaction mode", calm) },
    fault("F23", "a long transaction of somebody else", foreign_transaction),
    Fault {
        shape: Shape { redis: Redis::One(Holding::Counts), ..PLAIN },
        ..fault(
            "F24",
            "the Redis in which nodes count together is flushed, full, evicts, dies, hangs, is cut off",
            counts_lost,
        )
    },
    Fault {
        shape: Shape { redis: Redis::Sentinels(Holding::Counts), ..PLAIN },
        ..fault("F25", "failover of that Redis by Sentinels, with what was counted last lost", counts_failed_over)
    },
    Fault {
        shape: Shape { redis: Redis::One(Holding::Counts), ..PLAIN },
        ..fault("F26", "that Redis is a replica, and then still loading", counts_unwritable)
    },
    Fault {
        shape: Shape { redis: Redis::One(Holding::Tokens), ..PLAIN },
        ..fault(
            "F24-tokens",
            "the Redis that keeps the tokens is full, dies, hangs, is cut off, evicts, is flushed",
            tokens_in_redis::lost,
        )
    },
    Fault {
        shape: Shape { redis: Redis::Sentinels(Holding::Tokens), ..PLAIN },
        ..fault(
            "F25-tokens",
            "failover of that Redis by Sentinels to a replica that has not everything",
            tokens_in_redis::failed_over,
        )
    },
    Fault {
        shape: Shape { redis: Redis::One(Holding::Tokens), ..PLAIN },
        ..fault(
            "F26-tokens",
            "that Redis becomes a replica, one node is led to a replica, it is still loading",
            tokens_in_redis::unwritable,
        )
    },
    fault("F27", "a node stands still and goes on", frozen),
    Fault {
        before: |node| match node {
            1 => ["unshare", "-T", "--boottime", "1000000", "--monotonic", "3000", "--"].map(str::to_owned).to_vec(),
            _ => Vec::new(),
        },
        ..fault("F28", "a node whose machine has run for other days than the others'", calm)
    },
    Fault {
        environment: |node| {
            let zone = ["Asia/Kathmandu", "America/St_Johns", "Pacific/Kiritimati"][node % 3];
            vec![("TZ".into(), zone.into())]
        },
        ..fault("F31", "nodes in other time zones", calm)
    },
    Fault {
        before: |node| match node {
            0 => ["prlimit", "--as=1500000000", "--"].map(str::to_owned).to_vec(),
            _ => Vec::new(),
        },
        ..fault("F32", "nodes with little memory, killed for it", killed)
    },
    fault("F33", "nodes restarted one after the other", rolling),
    fault("F34", "a storm of logins on one node", storm),
];

/// What cannot be done to processes, and where it is shown instead.
pub(crate) const ELSEWHERE: &[(&str, &str)] = &[
    (
        "F28",
        "a boot clock that jumps while a node runs: no namespace can do that to a running process; cargo xtask simulate",
    ),
    (
        "F29",
        "the wall clock of one process cannot be shifted without changing the program; tests with a clock of their own",
    ),
    ("F30", "the same; tests of the facade with nodes whose clocks differ"),
];

fn calm(run: &mut Run<'_>) -> Result<(), Failure> {
    run.rest();
    Ok(())
}

fn crashes(run: &mut Run<'_>) -> Result<(), Failure> {
    let mut crashes = 0;
    while !run.is_over() {
        let how = if crashes % 2 == 0 { Stop::Immediate } else { Stop::Kill };
        run.primary()?.restart(how);
        crashes += 1;
        run.healed("restart", 2_000);
        run.until_ready();
        // In the middle of work, and each time elsewhere in it.
        pause(Duration::from_millis(400 + crashes * 37 % 700));
    }
    run.note(format!("{crashes} crashes"));
    Ok(())
}

fn replies_lost(run: &mut Run<'_>) -> Result<(), Failure> {
    let lost = Faults { cut_at: Some(b"COMMIT\0".to_vec()), ..Faults::default() };
    while !run.is_over() {
        for proxy in &run.site.proxies {
            proxy.set(lost.clone());
            pause(Duration::from_millis(150));
            proxy.heal();
            pause(Duration::from_millis(250));
        }
    }
    let cut: u64 = run.site.proxies.iter().map(|proxy| proxy.replies_cut()).sum();
    run.note(format!("{cut} replies to COMMIT lost"));
    run.expect(cut > 0, "no reply to a COMMIT was lost: nothing was tried");
    Ok(())
}

fn listeners_forgotten(run: &mut Run<'_>) -> Result<(), Failure> {
    let mut forgotten = 0;
    while !run.is_over() {
        for proxy in &run.site.proxies {
            forgotten += proxy.forget_listeners();
        }
        pause(Duration::from_millis(3_000));
    }
    run.note(format!("{forgotten} listening connections went dead"));
    run.expect(forgotten > 0, "no node listens: nothing was tried");
    Ok(())
}

fn flood(run: &mut Run<'_>) -> Result<(), Failure> {
    let before: f64 = run.site.nodes.iter().map(|node| node.processor_time()).sum();
    let begun = now();
    let mut sent = 0_u64;
    while !run.is_over() {
        // Equal ones of a transaction are sent once, so these differ.
        let flood = "SELECT count(pg_notify('counterfoil_log', n::text)) FROM generate_series(1, 20000) n";
        run.primary()?.try_sql(DATABASE, flood).ok();
        sent += 20_000;
        // Sessions that listen end, and what is said before they are back is heard by nobody.
        if sent.is_multiple_of(200_000) {
            let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                       WHERE query ILIKE 'listen%' AND pid <> pg_backend_pid()";
            run.primary()?.try_sql(DATABASE, end).ok();
        }
    }
    let time = (now() - begun) as f64 / 1e9;
    let used = run.site.nodes.iter().map(|node| node.processor_time()).sum::<f64>() - before;
    run.note(format!("{sent} foreign notifications in {time:.0} s, nodes used {:.2} processors", used / time));
    Ok(())
}

/// Behind these nothing is reached any more, each in a way of its own.
fn cut_off(proxies: &[Proxy]) {
    for (number, proxy) in proxies.iter().enumerate() {
        match number {
            0 => proxy.set(Faults::both(Flow::Swallow)),
            1 => proxy.set(Faults::both(Flow::Hold)),
            _ => {
                proxy.set(Faults { refuse: true, ..Faults::default() });
                proxy.cut();
            }
        }
    }
}

fn unreachable(run: &mut Run<'_>) -> Result<(), Failure> {
    let away = run.share(0.6).min(Duration::from_secs(60));
    cut_off(&run.site.proxies);
    let from = run.mark("PostgreSQL is out of reach");
    pause(away);
    // A lease is over by then, and nothing is answered from memory.
    run.silent_between(from + millis(1_100), now());
    run.site.proxies.iter().for_each(|proxy| proxy.heal());
    run.healed("heal", 1_000);
    run.note(format!("away for {:.0} s", away.as_secs_f64()));
    run.rest();
    Ok(())
}

fn slow(run: &mut Run<'_>) -> Result<(), Failure> {
    let from = run.mark("slow for node 0");
    run.site.proxies[0].set(Faults { to_client: Flow::Delay(Duration::from_secs(10)), ..Faults::default() });
    pause(run.share(0.4));
    run.unaffected(from, now(), 1);
    run.unaffected(from, now(), 2);
    run.site.proxies[0].heal();
    run.healed("heal", 12_000);
    pause(run.share(0.1));
    run.mark("a table is locked by somebody else");
    let hold = run.share(0.2).as_secs_f64();
    let lock = format!("BEGIN; LOCK TABLE tokens IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep({hold}); COMMIT");
    run.primary()?.try_sql(DATABASE, &lock)?;
    run.healed("unlock", 2_000);
    run.rest();
    Ok(())
}

fn one_way(run: &mut Run<'_>) -> Result<(), Failure> {
    for lost in [Lost::ToServers, Lost::ToNode, Lost::BothWays] {
        let from = run.mark(&format!("{lost:?} of node 0"));
        run.network()?.lose(0, lost)?;
        pause(run.share(0.2));
        run.unaffected(from, now(), 1);
        run.unaffected(from, now(), 2);
        run.silent_on(0, from + millis(1_100), now());
        run.network()?.heal(0);
        run.healed("heal", 10_000);
        pause(run.share(0.1));
    }
    run.rest();
    Ok(())
}

fn tail_lost(run: &mut Run<'_>) -> Result<(), Failure> {
    pause(run.share(0.3));
    let standby = run.site.standby.take().ok_or("no standby")?;
    // It has all that was acknowledged until now, and from now on nothing more.
    let caught_up = run.primary()?.sql("postgres", "SELECT pg_current_wal_lsn()");
    crate::within("the standby has caught up", || {
        let there = format!("SELECT pg_last_wal_receive_lsn() >= '{caught_up}'::pg_lsn");
        (standby.sql("postgres", &there) == "t").then_some(())
    });
    run.mark(TAIL_BEGINS);
    standby.set("primary_conninfo", "");
    pause(Duration::from_millis(1_500));
    run.primary()?.stop(Stop::Kill);
    // What was acknowledged until here, and by nodes that hear of the end a little later.
    standby.promote();
    run.site.lead_all_to(standby.port());
    run.mark(TAIL_ENDS);
    run.site.primary = Some(standby);
    run.healed("failover", 5_000);
    run.rest();
    run.tells_of_a_rewind();
    Ok(())
}

fn failover(run: &mut Run<'_>) -> Result<(), Failure> {
    pause(run.share(0.2));
    let standby = run.site.standby.take().ok_or("no standby")?;
    run.primary()?.stop(Stop::Kill);
    standby.promote();
    run.site.lead_all_to(standby.port());
    run.site.primary = Some(standby);
    run.healed("failover", 5_000);
    pause(run.share(0.2));
    // The primary of one node is none any more, as after somebody else's failover.
    let reads = run.primary()?.standby();
    let from = run.mark("node 0 is led to a standby");
    run.site.proxies[0].lead_to(([127, 0, 0, 1], reads.port()).into());
    run.site.proxies[0].cut();
    pause(run.share(0.3));
    run.silent_on(0, from + millis(1_100), now());
    run.unaffected(from, now(), 1);
    let primary = run.primary()?.port();
    run.site.proxies[0].lead_to(([127, 0, 0, 1], primary).into());
    run.site.proxies[0].cut();
    run.healed("back", 3_000);
    run.rest();
    Ok(())
}

fn conflicts(run: &mut Run<'_>) -> Result<(), Failure> {
    // One in eight changes of a token fails as if another had come first, one in eight as if two had waited for each other.
    let trigger = "CREATE SEQUENCE lab_conflicts; \
        CREATE FUNCTION lab_conflict() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        IF random() < 0.125 THEN PERFORM nextval('lab_conflicts'); RAISE EXCEPTION 'forced' USING ERRCODE = '40001'; END IF; \
        IF random() < 0.125 THEN PERFORM nextval('lab_conflicts'); RAISE EXCEPTION 'forced' USING ERRCODE = '40P01'; END IF; \
        RETURN NULL; END $$; \
        CREATE TRIGGER lab_conflict AFTER INSERT OR UPDATE ON tokens FOR EACH STATEMENT EXECUTE FUNCTION lab_conflict()";
    run.primary()?.sql(DATABASE, trigger);
    pause(run.share(0.8));
    let forced = run.primary()?.sql(DATABASE, "SELECT last_value FROM lab_conflicts");
    run.primary()?.sql(DATABASE, "DROP TRIGGER lab_conflict ON tokens");
    run.note(format!("{forced} conflicts forced"));
    run.rest();
    Ok(())
}

fn foreign_transaction(run: &mut Run<'_>) -> Result<(), Failure> {
    let hold = run.share(0.8).as_secs_f64();
    let from = run.mark("somebody else's transaction begins");
    run.primary()?.sql(
        DATABASE,
        &format!(
            "CREATE TABLE foreign_rows (n bigint); BEGIN; INSERT INTO foreign_rows SELECT generate_series(1, 1000); \
             SELECT pg_sleep({hold}); COMMIT"
        ),
    );
    (0..run.site.nodes.len()).for_each(|node| run.unaffected(from, now(), node));
    run.rest();
    Ok(())
}

/// Guesses at a password on these nodes in turn, by a name that nobody has, until one is refused unread; how many were read.
/// Five are free; then the guesser waits for a second, and longer each time.
fn guesses(run: &Run<'_>, name: &str, nodes: &[usize]) -> Option<usize> {
    let mut links: Vec<Link> = nodes.iter().map(|node| Link::to(run.site.nodes[*node].address)).collect();
    let mut read = 0;
    for number in 0..40 {
        match guess(&mut links[number % nodes.len()], name) {
            Some(429) => return Some(read),
            Some(401) => read += 1,
            // The node is busy with other passwords, and has not looked at this one.
            Some(_) | None => {}
        }
    }
    None
}

fn guess(link: &mut Link, name: &str) -> Option<u16> {
    let body = json!({ "username": name, "password": "guessed, and guessed wrong" });
    link.ask("POST", "/v1/login", "", Some(&body)).ok().map(|answer| answer.status)
}

/// A limit is on where a guesser gets about as many guesses as are free.
const ABOUT_FIVE: usize = 9;

/// Whoever goes round gets no more guesses than whoever stays: three nodes that each count for themselves let fifteen through.
fn count_together(run: &Run<'_>, name: &str) -> bool {
    let all: Vec<usize> = (0..run.site.nodes.len()).collect();
    guesses(run, name, &all).is_some_and(|read| read <= ABOUT_FIVE)
}

/// Breaks the Redis in which the nodes count, sees that each of them holds to the limits meanwhile, by what it has counted before
/// too, and that they count together again when it is mended.
fn counts_lost_by(
    run: &mut Run<'_>,
    what: &str,
    lose: impl FnOnce(&Run<'_>) -> Result<(), Failure>,
    mend: impl FnOnce(&mut Run<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let name = |which: &str| format!("nobody{which}{}", now());
    run.expect_eventually(&format!("before it is {what} nodes count together"), |run| count_together(run, &name("a")));
    // Six guesses have been read, so the next one is not for two seconds.
    let known = name("b");
    let mut link = Link::to(run.site.nodes[0].address);
    let mut read = 0;
    for _ in 0..400 {
        match guess(&mut link, &known) {
            Some(401) if read == 5 => break,
            Some(401) => read += 1,
            Some(_) | None => pause(Duration::from_millis(50)),
        }
    }
    run.mark(&format!("the Redis of the limits is {what}"));
    lose(run)?;
    run.expect(guess(&mut link, &known) == Some(429), &format!("{what}: whoever was throttled no longer is"));
    for node in 0..run.site.nodes.len() {
        let read = guesses(run, &name("c"), &[node]);
        let held = read.is_some_and(|read| read <= ABOUT_FIVE);
        run.expect(held, &format!("{what}: node {node} read {read:?} guesses of one guesser"));
    }
    mend(run)?;
    run.mark("it is well again");
    let begun = now();
    run.expect_eventually(&format!("after it was {what} nodes count together"), |run| count_together(run, &name("d")));
    run.longest(&format!("{what}: nodes count together again after at most "), now() - begun);
    Ok(())
}

fn redis_of<'r>(run: &'r Run<'_>) -> Result<&'r redis::Server, Failure> {
    Ok(run.site.redis.as_ref().ok_or("this fault needs Redis")?)
}

fn settings(run: &Run<'_>, settings: &[(&str, &str)]) -> Result<(), Failure> {
    for (name, value) in settings {
        redis_of(run)?.command(&["CONFIG", "SET", name, value]);
    }
    Ok(())
}

/// There is little more room than for what is there: what comes in throws something out, whatever it is; and this many KiB come in.
fn evict(run: &Run<'_>, spare_bytes: u64, coming: u32) -> Result<(), Failure> {
    let info = redis_of(run)?.command(&["INFO", "memory"]).text();
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).ok_or("no used_memory")?;
    let room = used.trim().parse::<u64>()? + spare_bytes;
    settings(run, &[("maxmemory-policy", "allkeys-random"), ("maxmemory", &room.to_string())])?;
    let junk = format!("for n = 1, {coming} do redis.call('SET', 'junk' .. n, string.rep('x', 1000)) end");
    redis_of(run)?.command(&["EVAL", &junk, "0"]);
    Ok(())
}

fn evicted_enough(run: &mut Run<'_>) -> Result<(), Failure> {
    let redis = redis_of(run)?;
    let (about, left) = (redis.command(&["INFO", "stats"]).text(), redis.command(&["DBSIZE"]));
    let evicted = about.lines().find_map(|line| line.strip_prefix("evicted_keys:")).ok_or("no evicted_keys")?;
    let evicted = evicted.trim().parse::<u64>()?;
    if let redis::Reply::Number(left) = left {
        run.note(format!("{evicted} things evicted, {left} left"));
    }
    run.expect(evicted > 0, "nothing was evicted: nothing was tried");
    settings(run, &[("maxmemory", "0"), ("maxmemory-policy", "noeviction")])
}

fn counts_lost(run: &mut Run<'_>) -> Result<(), Failure> {
    let mut rounds = 0;
    while rounds == 0 || !run.is_over() {
        let flush = |run: &Run<'_>| {
            redis_of(run)?.command(&["FLUSHALL"]);
            Ok(())
        };
        counts_lost_by(run, "flushed", flush, |_| Ok(()))?;

        let full = |run: &Run<'_>| settings(run, &[("maxmemory-policy", "noeviction"), ("maxmemory", "1")]);
        counts_lost_by(run, "full", full, |run| settings(run, &[("maxmemory", "0")]))?;

        counts_lost_by(run, "evicting", |run| evict(run, 500_000, 4_000), evicted_enough)?;

        let kill = |run: &Run<'_>| {
            redis_of(run)?.stop(redis::Stop::Kill);
            Ok(())
        };
        let begin = |run: &mut Run<'_>| {
            redis_of(run)?.begin();
            Ok(())
        };
        counts_lost_by(run, "killed", kill, begin)?;

        let freeze = |run: &Run<'_>| {
            redis_of(run)?.freeze();
            Ok(())
        };
        let thaw = |run: &mut Run<'_>| {
            redis_of(run)?.thaw();
            Ok(())
        };
        counts_lost_by(run, "hanging", freeze, thaw)?;

        let cut = |run: &Run<'_>| {
            cut_off(&run.site.redis_proxies);
            Ok(())
        };
        let heal = |run: &mut Run<'_>| {
            run.site.redis_proxies.iter().for_each(|proxy| proxy.heal());
            Ok(())
        };
        counts_lost_by(run, "cut off", cut, heal)?;
        rounds += 1;
    }
    run.note(format!("{rounds} rounds"));
    run.nothing_unanswered();
    Ok(())
}

fn counts_failed_over(run: &mut Run<'_>) -> Result<(), Failure> {
    let sentinels = run.site.sentinels.clone().ok_or("this fault needs Sentinels")?;
    let lose = |_: &Run<'_>| {
        // What is counted from here on is on the primary alone.
        sentinels.primary.command(&["CLIENT", "KILL", "TYPE", "REPLICA"]);
        sentinels.primary.stop(redis::Stop::Kill);
        Ok(())
    };
    let failed_over = |_: &mut Run<'_>| {
        crate::within("the Sentinels name the replica", || {
            (sentinels.primary_port() == sentinels.replica.port()).then_some(())
        });
        Ok(())
    };
    counts_lost_by(run, "failed over", lose, failed_over)?;
    run.rest();
    run.nothing_unanswered();
    Ok(())
}

/// Gives the Redis this many things to load besides its own, each of which takes its time.
fn fill(run: &Run<'_>, things: u32) -> Result<(), Failure> {
    let fill = format!("for n = 1, {things} do redis.call('SET', 'filler' .. n, n) end");
    redis_of(run)?.command(&["EVAL", &fill, "0"]);
    Ok(())
}

/// A Redis that was killed and starts. Its start is over when it has loaded; meanwhile it says LOADING to whoever asks.
struct Loading(thread::JoinHandle<()>);

fn load_slowly(run: &Run<'_>) -> Result<Loading, Failure> {
    let redis = run.site.redis.clone().ok_or("this fault needs Redis")?;
    redis.stop(redis::Stop::Kill);
    Ok(Loading(thread::spawn(move || redis.begin())))
}

impl Loading {
    fn ends(self, run: &mut Run<'_>) -> Result<(), Failure> {
        run.expect(!self.0.is_finished(), "it had loaded before everything was tried");
        Ok(self.0.join().map_err(|_| "Redis did not start")?)
    }
}

fn counts_unwritable(run: &mut Run<'_>) -> Result<(), Failure> {
    let other = redis::Server::start();
    let follow = |run: &Run<'_>| {
        redis_of(run)?.command(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]);
        Ok(())
    };
    let lead = |run: &mut Run<'_>| {
        redis_of(run)?.promote();
        Ok(())
    };
    counts_lost_by(run, "a replica", follow, lead)?;

    fill(run, 12_000)?;
    redis_of(run)?.command(&["SAVE"]);
    let loading = Cell::new(None);
    let begin = |run: &Run<'_>| {
        loading.set(Some(load_slowly(run)?));
        Ok(())
    };
    let loaded = |run: &mut Run<'_>| loading.take().ok_or("nothing loads")?.ends(run);
    counts_lost_by(run, "loading", begin, loaded)?;
    run.rest();
    run.nothing_unanswered();
    Ok(())
}

fn frozen(run: &mut Run<'_>) -> Result<(), Failure> {
    let mut times = 0;
    while times == 0 || !run.is_over() {
        let node = times % run.site.nodes.len();
        let from = run.mark(&format!("node {node} stands still"));
        run.site.nodes[node].signal(Signal::STOP);
        pause(run.share(0.4).min(Duration::from_secs(10)));
        let to = now();
        run.site.nodes[node].signal(Signal::CONT);
        run.healed("it goes on", 2_000);
        (0..run.site.nodes.len()).filter(|other| *other != node).for_each(|other| run.unaffected(from, to, other));
        pause(Duration::from_secs(1));
        times += 1;
    }
    run.note(format!("stood still {times} times"));
    Ok(())
}

fn killed(run: &mut Run<'_>) -> Result<(), Failure> {
    let mut kills = 0;
    while !run.is_over() {
        let node = kills % run.site.nodes.len();
        let from = run.mark(&format!("node {node} is killed"));
        run.site.nodes[node].kill();
        run.site.nodes[node].begin()?;
        (0..run.site.nodes.len()).filter(|other| *other != node).for_each(|other| run.unaffected(from, now(), other));
        run.healed("start", 2_000);
        pause(Duration::from_millis(700));
        kills += 1;
    }
    let memory: Vec<String> =
        run.site.nodes.iter().map(|node| format!("{} MiB", node.memory("VmHWM") / 1024)).collect();
    run.note(format!("{kills} kills; most memory {}", memory.join(", ")));
    Ok(())
}

fn rolling(run: &mut Run<'_>) -> Result<(), Failure> {
    let mut restarts = 0;
    while !run.is_over() {
        for node in 0..run.site.nodes.len() {
            run.tell(&format!("avoid {node}"))?;
            // Who has chosen it by now sends what they have, also on a busy machine; what comes later goes elsewhere.
            pause(Duration::from_millis(200));
            let in_order = run.site.nodes[node].stop();
            run.expect(in_order, "a node did not end in order");
            run.site.nodes[node].begin()?;
            run.tell(&format!("use {node}"))?;
            pause(Duration::from_millis(500));
            restarts += 1;
        }
    }
    run.note(format!("{restarts} restarts"));
    run.nothing_unanswered();
    Ok(())
}

fn storm(run: &mut Run<'_>) -> Result<(), Failure> {
    let from = now();
    pause(run.share(0.3));
    let to = now();
    run.latency("idle", 0, from, to);
    let from = run.mark("a storm of logins");
    let over = Arc::new(AtomicBool::new(false));
    let tried = Arc::new(AtomicUsize::new(0));
    let address = run.site.nodes[0].address;
    let stormers: Vec<_> = (0..50)
        .map(|number| {
            let (over, tried) = (Arc::clone(&over), Arc::clone(&tried));
            thread::spawn(move || {
                let mut link = Link::to(address);
                let mut name = String::new();
                while !over.load(Ordering::Acquire) {
                    name.clear();
                    write!(name, "{USERNAME}{number}x{}", tried.fetch_add(1, Ordering::AcqRel)).ok();
                    let body = json!({ "username": name, "password": "guessed, and guessed wrong" });
                    link.ask("POST", "/v1/login", "", Some(&body)).ok();
                }
            })
        })
        .collect();
    pause(run.share(0.5));
    run.latency("in the storm", 0, from, now());
    over.store(true, Ordering::Release);
    for stormer in stormers {
        stormer.join().map_err(|_| "a stormer panicked")?;
    }
    run.note(format!("{} logins tried", tried.load(Ordering::Acquire)));
    (0..run.site.nodes.len()).for_each(|node| run.unaffected(from, now(), node));
    run.rest();
    Ok(())
}
