//! Limits that all nodes share, in a real Redis: as exact as those of one process, and an error wherever nobody knows, so that each
//! node goes by its own.
#![cfg(feature = "redis")]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use counterfoil_core::entropy::PredictableEntropy;
use counterfoil_core::event::{Limit, Silent};
use counterfoil_core::hashing::OnThisThread;
use counterfoil_core::password::{HashingParams, Password};
use counterfoil_core::shared_limits::{
    CLOCKS_APART_MILLIS, CountKey, MemoryLimits, Question, SharedAnswer, SharedCount, SharedLimitsError, Step, Verdict,
};
use counterfoil_core::throttle::Rate;
use counterfoil_core::{
    Authority, BootTime, Error, Login, MemoryStore, Now, Parts, Refusal, Settings, SharedLimits, Source, Timestamp,
};
use counterfoil_lab::redis::{Cluster, Options, Reply, Sentinels, Server, Stop, database};
use counterfoil_lab::within;
use counterfoil_store::redis::{LimitsAddress, RedisLimits};
use proptest::prelude::*;
use tokio::runtime::Runtime;

/// As a service has it: requests come and go, connections live on.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));

const NOW: Timestamp = Timestamp::from_millis(1_795_172_400_000);

/// A node, in which nothing is too slow for a machine that is busy with other tests unless the test is of that.
fn node(url: &str) -> RedisLimits {
    let limit = if url.contains('?') { "&timeout_ms=100" } else { "?timeout_ms=100" };
    impatient(&format!("{url}{limit}"))
}

fn impatient(url: &str) -> RedisLimits {
    RUNTIME.block_on(RedisLimits::connect(url.parse().expect("an address")))
}

fn try_ask(limits: &dyn SharedLimits, question: Question) -> Result<Verdict, SharedLimitsError> {
    RUNTIME.block_on(limits.ask(question))
}

/// The answer, once there is one: a machine under load may have none in time.
fn ask(limits: &dyn SharedLimits, question: Question) -> Verdict {
    within("an answer", || try_ask(limits, question).ok())
}

fn why(error: &SharedLimitsError) -> String {
    std::error::Error::source(error).map_or_else(String::new, ToString::to_string)
}

fn rate(text: &str) -> Rate {
    text.parse().expect(text)
}

fn key(number: u8) -> CountKey {
    CountKey::from_bytes([number; 16])
}

fn log(number: u8, text: &str, millis: u64) -> Question {
    Question { key: key(number), count: SharedCount::Log(rate(text)), at: NOW.plus_millis(millis) }
}

fn schedule(number: u8, text: &str, step: Step, millis: u64) -> Question {
    Question { key: key(number), count: SharedCount::Schedule(rate(text), step), at: NOW.plus_millis(millis) }
}

fn tries(number: u8, step: Step, millis: u64) -> Question {
    Question { key: key(number), count: SharedCount::Tries(step), at: NOW.plus_millis(millis) }
}

// ── The same verdicts as in one process ─────────────────────────────────────────────────────────────────────────────

fn counts() -> impl Strategy<Value = SharedCount> {
    let step = prop_oneof![4 => Just(Step::Take), 1 => Just(Step::Judge), 1 => Just(Step::GiveBack)];
    let logs = prop::sample::select(vec!["1/s", "3/s", "7/m", "5/h"]);
    let schedules = prop::sample::select(vec!["1/s", "3/s", "7/m", "1000000/s", "999983/d", "5/h"]);
    prop_oneof![
        logs.prop_map(|text| SharedCount::Log(rate(text))),
        (schedules, step.clone()).prop_map(|(text, step)| SharedCount::Schedule(rate(text), step)),
        step.prop_map(SharedCount::Tries),
    ]
}

/// Often the very edge of a period, or a millisecond beside it.
fn gaps() -> impl Strategy<Value = u64> {
    let edges = vec![0, 0, 0, 1, 333, 334, 999, 1_000, 1_001, 8_571, 8_572, 59_999, 60_000, 60_001, 720_000, 3_600_000];
    prop_oneof![6 => prop::sample::select(edges), 1 => 0_u64..100_000]
}

/// A schedule under another rate is another one. A log is the same under any.
fn key_of(number: u8, count: SharedCount) -> CountKey {
    let mut bytes = [number; 16];
    if let SharedCount::Schedule(rate, _) = count {
        bytes[..4].copy_from_slice(&rate.number.get().to_be_bytes());
        bytes[4..12].copy_from_slice(&rate.period.millis().to_be_bytes());
    }
    CountKey::from_bytes(bytes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_same_history_gets_the_same_verdicts_as_in_one_process(
        history in prop::collection::vec((counts(), gaps(), 0_u8..3), 1..60),
    ) {
        static DATABASE: LazyLock<(counterfoil_lab::redis::Database, RedisLimits)> = LazyLock::new(|| {
            let database = database();
            let node = node(database.url());
            (database, node)
        });
        let (database, redis) = &*DATABASE;
        database.command(&["FLUSHDB"]);
        let memory = MemoryLimits::default();
        let mut millis = 0;
        for (count, gap, number) in history {
            millis += gap;
            let question = Question { key: key_of(number, count), count, at: NOW.plus_millis(millis) };
            let expected = try_ask(&memory, question).expect("an answer");
            // Once: an answer that came too late has been counted.
            let told = try_ask(redis, question);
            prop_assume!(told.is_ok());
            let told = told.expect("an answer");
            prop_assert!(question.fits(told), "{question:?}: {told:?}");
            let rounded = |verdict| match (count, verdict) {
                // A process knows whole seconds of those.
                (SharedCount::Tries(_), Verdict::Wait(nanos)) => Verdict::Wait(nanos.div_ceil(1_000_000_000)),
                (SharedCount::Log(_) | SharedCount::Schedule(..), Verdict::Wait(_)) | (_, Verdict::Pass) => verdict,
            };
            match count {
                SharedCount::Schedule(_, Step::GiveBack) | SharedCount::Tries(Step::GiveBack) => {}
                SharedCount::Log(_) | SharedCount::Schedule(..) | SharedCount::Tries(_) => {
                    prop_assert_eq!(rounded(told), rounded(expected), "{:?}", question);
                }
            }
        }
    }
}

#[test]
fn the_very_instant_counts_as_it_does_in_one_process() {
    let database = database();
    let node = node(database.url());
    assert_eq!(ask(&node, log(1, "2/m", 0)), Verdict::Pass);
    assert_eq!(ask(&node, log(1, "2/m", 30_000)), Verdict::Pass);
    assert_eq!(ask(&node, log(1, "2/m", 59_999)), Verdict::Wait(1_000_000));
    assert_eq!(ask(&node, log(1, "2/m", 60_000)), Verdict::Pass);
    assert_eq!(ask(&node, log(1, "2/m", 60_000)), Verdict::Wait(30_000_000_000), "a refused request did not count");
    assert_eq!(ask(&node, log(1, "1/m", 60_000)), Verdict::Wait(60_000_000_000), "under a lower number");
}

#[test]
fn racers_on_three_nodes_never_go_beyond_the_rate() {
    let database = database();
    for (question, number) in [(log(1, "200/h", 0), 200), (schedule(2, "1500/d", Step::Take, 0), 1_500)] {
        let nodes: Vec<RedisLimits> = (0..3).map(|_| node(database.url())).collect();
        let racers: Vec<_> = (0..12)
            .map(|racer| {
                let node = nodes[racer % 3].clone();
                RUNTIME.spawn(async move {
                    let mut passed = 0;
                    for _ in 0..number / 4 {
                        passed += u32::from(matches!(node.ask(question).await, Ok(Verdict::Pass)));
                    }
                    passed
                })
            })
            .collect();
        let passed: u32 = racers.into_iter().map(|racer| RUNTIME.block_on(racer).expect("no panic")).sum();
        assert!(passed <= number, "{passed} of {number}");
        // What came too late was counted and not let through; an unhurried machine lets through all.
        assert!(passed > number / 2, "{passed} of {number}");
        assert!(matches!(ask(&nodes[0], question), Verdict::Wait(_)));
    }
}

#[test]
fn f29_a_node_whose_clock_is_behind_goes_by_the_later_instant_and_one_that_was_set_back_is_not_shut_out() {
    let database = database();
    let node = node(database.url());
    assert_eq!(ask(&node, log(1, "1/m", 30_000)), Verdict::Pass);
    assert_eq!(ask(&node, log(1, "1/m", 0)), Verdict::Wait(60_000_000_000), "30 s behind: as at that instant");
    let hour = 3_600_000;
    for number in 2..4 {
        let asked = |millis| match number {
            2 => log(2, "2/m", millis),
            _ => schedule(3, "2/m", Step::Take, millis),
        };
        assert_eq!(ask(&node, asked(hour)), Verdict::Pass);
        assert_eq!(ask(&node, asked(hour)), Verdict::Pass);
        let Verdict::Wait(nanos) = ask(&node, asked(0)) else { panic!("what was counted is forgotten") };
        assert!(nanos <= 60_000_000_000, "an hour back, and shut out for {nanos} ns");
        assert_eq!(ask(&node, asked(60_000 + CLOCKS_APART_MILLIS)), Verdict::Pass);
    }
}

// ── What is kept ────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a58_what_is_kept_of_each_is_bounded_and_goes_by_itself() {
    let database = database();
    let node = node(database.url());
    for millis in 0..1_300 {
        ask(&node, log(1, "1000/d", millis));
    }
    ask(&node, schedule(2, "1000000/s", Step::Take, 0));
    ask(&node, tries(3, Step::Take, 0));
    let Reply::List(keys) = database.command(&["KEYS", "*"]) else { panic!("no keys") };
    assert_eq!(keys.len(), 3, "{keys:?}");
    let mut longest = 0;
    for kept in keys {
        let kept = kept.text();
        let Reply::Number(ttl) = database.command(&["PTTL", &kept]) else { panic!("no time to live") };
        assert!(ttl > 0, "{kept} stays for ever");
        longest = longest.max(ttl);
        let Reply::Number(bytes) = database.command(&["MEMORY", "USAGE", &kept, "SAMPLES", "0"]) else {
            panic!("no size")
        };
        assert!(bytes < 20_000, "{kept}: {bytes} bytes");
        let tag = kept.rsplit(':').next().expect("a tag");
        assert!(tag.len() == 32 && kept.starts_with("cf:"), "{kept}");
    }
    assert!(longest <= 86_400_000 + 60_000);
    let of_log = format!("cf:l:{}", "01".repeat(16));
    assert_eq!(database.command(&["LLEN", &of_log]), Reply::Number(1_000));
}

#[test]
fn tries_at_nobodys_password_are_judged_as_those_at_somebodys() {
    let database = database();
    let (node, memory) = (node(database.url()), MemoryLimits::default());
    let mut millis = 0;
    for _ in 0..110 {
        let told = ask(&node, tries(1, Step::Take, millis));
        assert_eq!(told, try_ask(&memory, tries(1, Step::Take, millis)).expect("an answer"));
        if let Verdict::Wait(nanos) = told {
            millis += nanos / 1_000_000;
            ask(&node, tries(1, Step::Take, millis));
            try_ask(&memory, tries(1, Step::Take, millis)).expect("an answer");
        }
    }
    assert_eq!(ask(&node, tries(1, Step::Judge, millis + 10_000_000)), Verdict::Wait(900_000_000_000), "a hundred");
}

// ── Faults: an error at once, and never a wrong no ──────────────────────────────────────────────────────────────────

#[test]
fn f24_what_a_flush_took_begins_anew() {
    let server = Server::start();
    let node = node(&server.url());
    assert_eq!(ask(&node, log(1, "1/d", 0)), Verdict::Pass);
    assert!(matches!(ask(&node, log(1, "1/d", 0)), Verdict::Wait(_)));
    server.command(&["FLUSHALL"]);
    server.command(&["SCRIPT", "FLUSH"]);
    assert_eq!(ask(&node, log(1, "1/d", 0)), Verdict::Pass, "the node counts too, and stands by its own no");
    assert!(matches!(ask(&node, log(1, "1/d", 0)), Verdict::Wait(_)), "and counts again");
}

#[test]
fn f24_what_is_thrown_away_where_memory_is_short_begins_anew_and_nothing_else() {
    let server = Options::new().set("maxmemory-policy", "volatile-ttl").start();
    let node = node(&server.url());
    for number in 0..20 {
        ask(&node, log(number, "1/d", 0));
    }
    let Reply::List(keys) = server.command(&["KEYS", "cf:l:*"]) else { panic!("no keys") };
    server.command(&["DEL", &keys[0].clone().text()]);
    let anew = (0..20).filter(|number| ask(&node, log(*number, "1/d", 0)) == Verdict::Pass).count();
    assert_eq!(anew, 1);
}

#[test]
fn f24_a_full_server_is_an_error_until_there_is_room() {
    let server = Server::start();
    let node = node(&server.url());
    ask(&node, log(1, "1/d", 0));
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let refused = within("the server is full", || try_ask(&node, log(2, "1/d", 0)).err());
    assert!(why(&refused).contains("OOM") || why(&refused).contains("maxmemory"), "{}", why(&refused));
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    assert!(matches!(ask(&node, log(1, "1/d", 0)), Verdict::Wait(_)), "nothing is lost");
}

#[test]
fn f24_a_server_that_is_killed_is_an_error_until_it_is_back() {
    let server = Server::start();
    let node = node(&server.url());
    ask(&node, log(1, "5/d", 0));
    server.stop(Stop::Kill);
    for _ in 0..20 {
        try_ask(&node, log(1, "5/d", 0)).expect_err("nobody is there");
    }
    server.begin();
    assert_eq!(ask(&node, log(1, "5/d", 0)), Verdict::Pass);
}

#[test]
fn a_node_that_starts_before_its_server_counts_there_once_it_is_there() {
    let server = Server::start();
    server.stop(Stop::Kill);
    let node = node(&server.url());
    try_ask(&node, log(1, "5/d", 0)).expect_err("nobody is there");
    server.begin();
    assert_eq!(ask(&node, log(1, "5/d", 0)), Verdict::Pass);
}

#[test]
fn f17_a_server_that_does_not_answer_is_an_error_within_the_deadline() {
    let server = Server::start();
    let node = impatient(&format!("{}?timeout_ms=40", server.url()));
    ask(&node, log(1, "5/d", 0));
    server.freeze();
    // On the clock of the runtime: however busy the machine is, this timer was set later and is longer.
    let both = RUNTIME.block_on(async {
        let late = tokio::time::sleep(Duration::from_secs(30));
        tokio::select! {
            biased;
            answer = node.ask(log(1, "5/d", 0)) => Some(answer),
            () = late => None,
        }
    });
    both.expect("an answer in time").expect_err("no answer");
    server.thaw();
    ask(&node, log(1, "5/d", 0));
}

#[test]
fn f26_a_primary_that_became_a_replica_is_an_error_until_it_is_one_again() {
    let (server, other) = (Server::start(), Server::start());
    let node = node(&server.url());
    assert_eq!(ask(&node, log(1, "1/d", 0)), Verdict::Pass);
    server.command(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]);
    for question in [log(1, "1/d", 0), schedule(2, "1/d", Step::Judge, 0), tries(3, Step::Judge, 0)] {
        try_ask(&node, question).expect_err("a replica knows what it was told");
    }
    server.promote();
    ask(&node, log(2, "1/d", 0));
}

#[test]
fn f26_a_server_that_is_still_loading_is_an_error_until_it_has_loaded() {
    // It takes a second to load a few hundred keys, and answers meanwhile.
    let slow = Options::new().set("key-load-delay", "2000").set("loading-process-events-interval-bytes", "1024");
    let server = slow.start();
    let node = node(&server.url());
    ask(&node, log(1, "1/d", 0));
    server.command(&["EVAL", "for i = 1, 300 do redis.call('SET', 'x' .. i, string.rep('x', 100)) end", "0"]);
    server.command(&["SAVE"]);
    server.stop(Stop::Kill);
    std::thread::scope(|scope| {
        let begun = scope.spawn(|| server.begin());
        // Until it answers there is an error each time, and never a yes that forgets what is still on disk.
        assert!(matches!(ask(&node, log(1, "1/d", 0)), Verdict::Wait(_)));
        begun.join().expect("begun");
    });
}

#[test]
fn f26_a_node_of_a_cluster_that_is_asked_as_if_it_were_alone_is_an_error() {
    let cluster = Cluster::start();
    let alone = node(&cluster.urls()[0]);
    let answers: Vec<_> = (0..30).map(|number| try_ask(&alone, log(number, "1/d", 0))).collect();
    assert!(answers.iter().flat_map(Result::as_ref).all(|verdict| *verdict == Verdict::Pass));
    let moved = answers.iter().filter_map(|answer| answer.as_ref().err()).map(why);
    assert!(moved.into_iter().any(|why| why.contains("MOVED") || why.contains("Moved")), "{answers:?}");
    let address: LimitsAddress = cluster.urls()[0].parse().expect("an address");
    let found = RUNTIME.block_on(RedisLimits::examine(&address)).expect("reached");
    assert!(found.iter().any(|finding| finding.what.contains("Cluster")), "{found:?}");
}

fn of_cluster(cluster: &Cluster) -> RedisLimits {
    let hosts: Vec<String> = cluster.primaries.iter().map(|server| format!("127.0.0.1:{}", server.port())).collect();
    node(&format!("redis+cluster://{}", hosts.join(",")))
}

#[test]
fn in_a_cluster_counts_are_spread_over_its_nodes_and_shared() {
    let cluster = Cluster::start();
    let nodes = [of_cluster(&cluster), of_cluster(&cluster)];
    for number in 0..30 {
        assert_eq!(ask(&nodes[0], log(number, "1/d", 0)), Verdict::Pass);
        assert!(matches!(ask(&nodes[1], log(number, "1/d", 0)), Verdict::Wait(_)));
    }
    let sizes: Vec<Reply> = cluster.primaries.iter().map(|server| server.command(&["DBSIZE"])).collect();
    assert!(sizes.iter().all(|size| matches!(size, Reply::Number(1..=29))), "{sizes:?}");
}

#[test]
fn f26_while_a_slot_moves_and_after_it_has_moved_the_count_goes_on() {
    let cluster = Cluster::start();
    let node = of_cluster(&cluster);
    let name = format!("cf:l:{}", "07".repeat(16));
    assert_eq!(ask(&node, log(7, "3/d", 0)), Verdict::Pass);
    let Reply::Number(slot) = cluster.primaries[0].command(&["CLUSTER", "KEYSLOT", &name]) else { panic!("no slot") };
    let slot = slot.to_string();
    let owner = cluster.primaries.iter().position(|server| server.command(&["EXISTS", &name]) == Reply::Number(1));
    let owner = owner.expect("somebody has it");
    let (from, to) = (&cluster.primaries[owner], &cluster.primaries[(owner + 1) % 3]);
    let id = |server: &Server| server.command(&["CLUSTER", "MYID"]).text();
    let ok = Reply::Text("OK".into());
    assert_eq!(to.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(from)]), ok);
    assert_eq!(from.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to)]), ok);
    assert_eq!(ask(&node, log(7, "3/d", 1)), Verdict::Pass, "it is still there");
    assert_eq!(from.command(&["MIGRATE", "127.0.0.1", &to.port().to_string(), &name, "0", "5000"]), ok);
    assert_eq!(ask(&node, log(7, "3/d", 2)), Verdict::Pass, "one is sent on (ASK)");
    for server in [to, from] {
        assert_eq!(server.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &id(to)]), ok);
    }
    assert!(matches!(ask(&node, log(7, "3/d", 3)), Verdict::Wait(_)), "one is told where it is now (MOVED)");
    assert_eq!(to.command(&["LLEN", &name]), Reply::Number(3));
}

#[test]
fn f19_after_a_failover_the_new_primary_counts() {
    let all = Sentinels::start();
    let url = format!("redis+sentinel://{}/{}", all.addresses().join(","), Sentinels::NAME);
    let nodes = [node(&url), node(&url)];
    assert_eq!(ask(&nodes[0], log(1, "1/d", 0)), Verdict::Pass);
    assert!(matches!(ask(&nodes[1], log(1, "1/d", 0)), Verdict::Wait(_)));
    all.primary.stop(Stop::Kill);
    try_ask(&nodes[0], log(1, "1/d", 0)).expect_err("nobody is there");
    assert_eq!(ask(&nodes[0], log(2, "1/d", 0)), Verdict::Pass, "once there is another");
    assert!(matches!(ask(&nodes[1], log(2, "1/d", 0)), Verdict::Wait(_)));
    assert_eq!(all.replica.command(&["EXISTS", &format!("cf:l:{}", "02".repeat(16))]), Reply::Number(1));
}

#[test]
fn the_examination_tells_whether_limits_are_safe_there() {
    let server = Server::start();
    let examined = |url: &str| RUNTIME.block_on(RedisLimits::examine(&url.parse().expect("an address")));
    assert_eq!(examined(&server.url()).expect("reached"), []);
    server.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    assert!(examined(&server.url()).expect("reached")[0].what.contains("allkeys-lru"));
    let replica = server.replica();
    let said = examined(&replica.url()).expect("reached");
    assert!(said.iter().any(|finding| finding.what.contains("replica")), "{said:?}");
    server.stop(Stop::Kill);
    examined(&server.url()).expect_err("nobody is there");
}

#[test]
fn requests_that_are_dropped_half_way_harm_no_other() {
    let database = database();
    let node = Arc::new(node(database.url()));
    let passed: usize = RUNTIME.block_on(async {
        let mut passed = 0;
        for _ in 0..200 {
            {
                let dropped = node.ask(log(1, "1000/d", 0));
                tokio::select! { biased; () = tokio::task::yield_now() => {}, _ = dropped => {} }
            }
            passed += usize::from(matches!(node.ask(log(2, "100/d", 0)).await, Ok(Verdict::Pass)));
        }
        passed
    });
    assert!(passed <= 100, "{passed}");
}

// ── Whole nodes ─────────────────────────────────────────────────────────────────────────────────────────────────────

/// Asks until there is an answer, however busy the machine is. What came too late has been counted, so that this can only be stricter.
#[derive(Debug)]
struct Patient(RedisLimits);

impl SharedLimits for Patient {
    fn ask(&self, question: Question) -> SharedAnswer<'_> {
        Box::pin(async move {
            loop {
                if let Ok(verdict) = self.0.ask(question).await {
                    return Ok(verdict);
                }
                tokio::task::yield_now().await;
            }
        })
    }
}

/// Three nodes on one store, which share their limits.
fn nodes(url: &str) -> Vec<Arc<Authority>> {
    let store = Arc::new(MemoryStore::new());
    let now = Now { wall: NOW, boot: Some(BootTime(0)) };
    let node = |_| {
        let parts = Parts {
            tokens: store.clone(),
            accounts: store.clone(),
            audit: None,
            mail: None,
            hashing: Arc::new(OnThisThread),
            entropy: Arc::new(PredictableEntropy::from_seed(1)),
            events: Arc::new(Silent),
            hook: None,
            ring: None,
            settings: Settings { hashing: HashingParams::insecure_for_tests(), ..Settings::default() },
        };
        let authority = RUNTIME.block_on(Authority::open(parts, now)).expect("opened");
        Arc::new(authority.with_shared_limits(Arc::new(Patient(node(url)))))
    };
    (0..3).map(node).collect()
}

#[test]
fn a54_two_hundred_guesses_over_three_nodes_get_no_more_than_the_limit() {
    let database = database();
    let nodes = nodes(database.url());
    let guesses: Vec<_> = (0..200)
        .map(|guess| {
            let node = Arc::clone(&nodes[guess % 3]);
            RUNTIME.spawn(async move {
                let password = Password::new("wrong").expect("a password");
                let login = Login { username: format!("nobody-{guess}"), password, client: None, name: None };
                let source = Source { ip: Some([192, 0, 2, 7].into()), user_agent: None };
                let now = Now { wall: NOW, boot: Some(BootTime(0)) };
                match node.login(login, &source, now).await {
                    Err(Error::Refused(Refusal::CredentialsRejected)) => 1,
                    Err(Error::Refused(Refusal::LimitHit(Limit::FailedLogins, _))) => 0,
                    other => panic!("{other:?}"),
                }
            })
        })
        .collect();
    let looked_at: u32 = guesses.into_iter().map(|guess| RUNTIME.block_on(guess).expect("no panic")).sum();
    assert!(looked_at <= 100, "{looked_at} passwords were looked at, and 100 an hour may be");
    // How many fewer hangs on how often a busy machine had to ask again.
    assert!(looked_at > 0, "nobody was let in at all");
    let Reply::List(keys) = database.command(&["KEYS", "*"]) else { panic!("no keys") };
    let told = format!("{keys:?}");
    // The whole address, also in hexadecimal: a digest may well hold three of its digits.
    let of_whom = ["nobody", "192.0.2.7", "c0000207"];
    assert!(!of_whom.iter().any(|who| told.contains(who)), "whoever reads Redis learns nobody's name");
}
