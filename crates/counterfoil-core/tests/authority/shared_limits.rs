//! What several nodes count together, and what each decides by itself where nobody answers.

use std::future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use counterfoil_core::authority::FailedLogins;
use counterfoil_core::cache::Cache;
use counterfoil_core::entropy::PredictableEntropy;
use counterfoil_core::shared_limits::{MemoryLimits, Question, SharedAnswer, SharedLimitsError, Verdict};
use counterfoil_core::throttle::{RouteClass, TooMany};
use counterfoil_core::{Authority, Error, Identity, Login, Policy, Refusal, SharedLimits, Source};

use crate::world::{PASSWORD, World, answer, parts, password, refused, text};

/// Counts that can be made to fail in every way.
#[derive(Debug, Default)]
struct Counts {
    counts: MemoryLimits,
    mood: Mutex<Mood>,
    asked: AtomicU64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Mood {
    #[default]
    Well,
    Away,
    /// Answers what no count can say.
    Mad,
    /// Says yes to everything, as one does that has been emptied.
    Forgetful,
}

impl Counts {
    fn be(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn asked(&self) -> u64 {
        self.asked.swap(0, Ordering::Relaxed)
    }
}

impl SharedLimits for Counts {
    fn ask(&self, question: Question) -> SharedAnswer<'_> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Well => self.counts.ask(question),
            Mood::Away => Box::pin(future::ready(Err(SharedLimitsError::new("away")))),
            Mood::Mad => Box::pin(future::ready(Ok(Verdict::Wait(u64::MAX)))),
            Mood::Forgetful => Box::pin(future::ready(Ok(Verdict::Pass))),
        }
    }
}

struct Nodes {
    world: World,
    nodes: Vec<Authority>,
    counts: Arc<Counts>,
}

impl Nodes {
    fn new(number: u64) -> Nodes {
        Nodes::limited("1000000/s", number)
    }

    /// The world's own authority is none of them: it counts nothing that they share.
    fn limited(failed_logins: &str, number: u64) -> Nodes {
        let world = World::with_ada();
        let counts = Arc::new(Counts::default());
        let nodes = (0..number).map(|seed| {
            let mut parts = parts(&world.store, &world.events);
            parts.settings.failed_logins = FailedLogins::per_source(failed_logins.parse().unwrap());
            parts.settings.requests.api = Some("4/h".parse().unwrap());
            let node = answer(Authority::open(parts, world.now())).unwrap();
            let cache = Cache::new(100.try_into().unwrap(), &PredictableEntropy::from_seed(seed)).unwrap();
            let node = node.with_cache(cache).with_shared_limits(counts.clone());
            answer(node.follow(world.now())).unwrap();
            node
        });
        let nodes = nodes.collect();
        Nodes { world, nodes, counts }
    }

    fn token(&self, throttle: Option<&str>) -> String {
        let policy = Policy { throttle: throttle.map(|rate| rate.parse().unwrap()), ..Policy::default() };
        let client = self.world.client("web", policy);
        text(&self.world.login_on(&client).unwrap())
    }

    fn follow(&self) {
        self.nodes.iter().for_each(|node| _ = answer(node.follow(self.world.now())).unwrap());
    }

    fn ask(&self, node: usize, token: &str) -> Result<Identity, Error> {
        answer(self.nodes[node].authenticate(token, &self.world.source, self.world.now()))
    }

    fn guess(&self, node: usize, name: &str) -> Refusal {
        let login = Login { username: name.into(), password: password("wrong"), client: None, name: None };
        refused(answer(self.nodes[node].login(login, &self.world.source, self.world.now())))
    }
}

fn wait_of(refusal: &Refusal) -> u64 {
    let Refusal::Throttled(TooMany { retry_after_seconds, .. }) = refusal else { panic!("{refusal:?}") };
    *retry_after_seconds
}

#[test]
fn three_nodes_let_no_more_through_than_one() {
    for (rate, number) in [("6/m", 6), ("1500/m", 1_500)] {
        let nodes = Nodes::new(3);
        let token = nodes.token(Some(rate));
        nodes.follow();
        let passed = (0..number + 100).filter(|asked| nodes.ask(asked % 3, &token).is_ok()).count();
        assert_eq!(passed, number, "{rate}");
        let wait = wait_of(&refused(nodes.ask(1, &token)));
        nodes.world.wait(wait * 1_000 - 1);
        if number == 6 {
            nodes.follow();
            assert_eq!(wait_of(&refused(nodes.ask(2, &token))), 1, "a millisecond early");
            nodes.world.wait(1);
        } else {
            nodes.world.wait(1);
        }
        nodes.follow();
        assert!(nodes.ask(2, &token).is_ok(), "at the very instant");
    }
}

#[test]
fn racers_on_three_nodes_never_go_beyond_the_rate() {
    let nodes = Arc::new(Nodes::new(3));
    let token = nodes.token(Some("50/h"));
    nodes.follow();
    let passed: usize = thread::scope(|scope| {
        let racers: Vec<_> = (0..6)
            .map(|racer| {
                let (nodes, token) = (&nodes, &token);
                scope.spawn(move || (0..40).filter(|_| nodes.ask(racer % 3, token).is_ok()).count())
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).sum()
    });
    assert_eq!(passed, 50);
}

#[test]
fn what_has_no_throttle_is_answered_at_once_and_asks_nobody() {
    let nodes = Nodes::new(1);
    let (free, node, world) = (nodes.token(None), &nodes.nodes[0], &nodes.world);
    nodes.follow();
    nodes.ask(0, &free).unwrap();
    assert!(node.try_cached(&free, &world.source, world.now()).expect("known").is_ok());
    assert_eq!(nodes.counts.asked(), 0);
}

#[test]
fn what_is_throttled_is_counted_elsewhere_without_asking_the_store_again() {
    let nodes = Nodes::new(1);
    let token = nodes.token(Some("3/h"));
    let (node, world) = (&nodes.nodes[0], &nodes.world);
    nodes.follow();
    nodes.ask(0, &token).unwrap();
    let misses = node.cache().unwrap().misses();
    assert!(node.try_cached(&token, &world.source, world.now()).is_none(), "somebody else has to be asked");
    nodes.ask(0, &token).unwrap();
    nodes.ask(0, &token).unwrap();
    assert_eq!((nodes.counts.asked(), node.cache().unwrap().misses()), (3, misses));
    assert_eq!(wait_of(&refused(nodes.ask(0, &token))), 3_600);
    assert_eq!(nodes.counts.asked(), 0, "what goes beyond the rate here is refused without asking");
}

#[test]
fn f24_where_nobody_answers_each_node_counts_by_itself_and_goes_on_from_what_it_has_counted() {
    for mood in [Mood::Away, Mood::Mad, Mood::Forgetful] {
        let nodes = Nodes::new(2);
        let token = nodes.token(Some("6/h"));
        nodes.follow();
        for asked in 0..4 {
            nodes.ask(asked % 2, &token).unwrap();
        }
        nodes.counts.be(mood);
        let passed = (0..20).filter(|asked| nodes.ask(asked % 2, &token).is_ok()).count();
        assert_eq!(passed, 2 * 6 - 4, "{mood:?}: six on each node, and what was counted before counts");
        nodes.counts.be(Mood::Well);
        assert!(nodes.ask(0, &token).is_err(), "{mood:?}: what was counted here counts still");
    }
}

#[test]
fn what_all_nodes_refuse_does_not_count_here() {
    let nodes = Nodes::new(2);
    let token = nodes.token(Some("2/m"));
    nodes.follow();
    nodes.ask(0, &token).unwrap();
    nodes.world.wait(30_000);
    nodes.follow();
    nodes.ask(0, &token).unwrap();
    for _ in 0..5 {
        nodes.ask(1, &token).unwrap_err();
    }
    nodes.world.wait(30_000);
    nodes.follow();
    nodes.ask(1, &token).unwrap();
    nodes.ask(1, &token).unwrap_err();
}

#[test]
fn a54_wrong_guesses_from_one_address_are_counted_over_three_nodes() {
    let nodes = Nodes::limited("10/h", 3);
    // A name for each, so that no account's own count stands in the way.
    let guesses = (0..200).map(|guess| nodes.guess(guess % 3, &format!("nobody-{guess}")));
    let looked_at = guesses.filter(|refusal| *refusal == Refusal::CredentialsRejected).count();
    assert_eq!(looked_at, 10);
    let login = || Login { username: "ada".into(), password: password(PASSWORD), client: None, name: None };
    let from = |ip: [u8; 4]| Source { ip: Some(ip.into()), user_agent: None };
    let log_in = |node: usize, source: Source| answer(nodes.nodes[node].login(login(), &source, nodes.world.now()));
    assert!(matches!(refused(log_in(2, nodes.world.source.clone())), Refusal::LimitHit(..)));
    for node in 0..30 {
        log_in(node % 3, from([192, 0, 2, 8])).expect("a right password counts against no address, on no node");
    }
}

#[test]
fn a54_a_name_that_nobody_has_is_refused_over_three_nodes_as_one_that_somebody_has() {
    let refusals = |name: &str| {
        let nodes = Nodes::new(3);
        let mut said = Vec::new();
        for guess in 0..40_u64 {
            said.push(nodes.guess((guess % 3) as usize, name));
            nodes.world.wait(guess * 100);
            nodes.follow();
        }
        said
    };
    let (ada, nobody) = (refusals("ada"), refusals("nobody"));
    assert!(ada.iter().any(|refusal| matches!(refusal, Refusal::TooManyAttempts(_))));
    assert_eq!(ada, nobody);
}

#[test]
fn requests_to_the_routes_are_counted_together_too() {
    let nodes = Nodes::new(2);
    let token = nodes.token(None);
    nodes.follow();
    let who = nodes.ask(0, &token).unwrap();
    let source = &nodes.world.source;
    let request = |node: usize| {
        answer(nodes.nodes[node].count_request(RouteClass::Api, Some(&who), source, nodes.world.now())).is_ok()
    };
    assert_eq!((0..20).filter(|asked| request(asked % 2)).count(), 4);
    let (name, rate) = ("exports".into(), "3/d".parse().unwrap());
    let at_route = |node: usize| {
        let node = &nodes.nodes[node];
        assert!(node.try_count_at_route(&name, rate, &who, source, nodes.world.now()).is_none());
        answer(node.count_at_route(&name, rate, &who, source, nodes.world.now())).is_ok()
    };
    assert_eq!((0..20).filter(|asked| at_route(asked % 2)).count(), 3);
    let strangers =
        |node: usize| answer(nodes.nodes[node].count_stranger_at_route(&name, rate, source, nodes.world.now())).is_ok();
    assert_eq!((0..20).filter(|asked| strangers(asked % 2)).count(), 3);
}
