//! P1, P2, P3 and P5: what a token costs that is known, and what it takes to know it.

use std::cell::Cell;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use counterfoil::{OsEntropy, SystemClock};
use counterfoil_core::cache::Cache;
use counterfoil_core::{Authority, Clock, Source, TokenDigest};
use counterfoil_store::{OpenOptions, SqliteStore};

use crate::deployment::Deployment;
use crate::machine::{at_once, authority, now, race_after};
use crate::report::{Goal, Row};
use crate::server;

/// Calls in a round: under a millisecond, so that most rounds are over before something disturbs them.
const ROUND: u32 = 2_000;

/// An authority on `deployment` that knows `capacity` tokens, and `in_use` of them already.
pub(crate) struct Known<'a> {
    texts: Vec<&'a str>,
    store: Arc<SqliteStore>,
    pub(crate) authority: Authority,
    /// Keeps what the store waits on.
    runtime: tokio::runtime::Runtime,
}

/// What a hit costs in nanoseconds beside the SHA-256 of its text, in turns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hits {
    pub(crate) hit: f64,
    pub(crate) sha256: f64,
    /// The same as a future that is polled once.
    pub(crate) awaited: f64,
}

impl<'a> Known<'a> {
    pub(crate) fn new(deployment: &'a Deployment, in_use: usize, capacity: usize) -> Known<'a> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let store = Arc::new(SqliteStore::open(deployment.directory(), &OpenOptions::serve()).unwrap());
        let authority = runtime.block_on(authority(store.clone(), store.clone()));
        let cache = Cache::new(NonZeroUsize::new(capacity).unwrap(), &OsEntropy).unwrap();
        let known = Known { texts: deployment.sample(in_use), store, authority: authority.with_cache(cache), runtime };
        known.follow();
        std::thread::scope(|scope| {
            for half in known.texts.chunks(in_use.div_ceil(2)) {
                let authority = &known.authority;
                scope.spawn(move || {
                    for text in half {
                        at_once(authority.authenticate(text, &Source::default(), now())).unwrap();
                    }
                });
            }
        });
        known
    }

    fn follow(&self) {
        self.runtime.block_on(self.authority.follow(now())).unwrap();
    }

    fn cache(&self) -> &Cache {
        self.authority.cache().unwrap()
    }

    /// Whether that one is answered from memory.
    fn is_known(&self, text: &str) -> bool {
        matches!(self.authority.try_cached(text, &Source::default(), now()), Some(Ok(_)))
    }

    /// Times all of `texts` that are known, the clock and the check included. Texts lie in a row, so that the memory of
    /// what presents them costs little; their lines lie anywhere.
    pub(crate) fn hits(&self) -> Hits {
        self.follow();
        let mut texts = String::new();
        let mut skipped = 0;
        for text in &self.texts {
            if self.is_known(text) {
                texts.push_str(text);
            } else {
                skipped += 1;
                if skipped % 10_000 == 0 {
                    self.follow();
                }
            }
        }
        let length = self.texts[0].len();
        let count = texts.len() / length;
        println!("  {count} of {} are known", self.texts.len());
        let source = Source::default();
        let turn = Cell::new(0);
        let next = || {
            let at = turn.get();
            turn.set(if at + length == texts.len() { 0 } else { at + length });
            &texts[at..at + length]
        };
        let [hit, sha256, awaited] = race_after(
            ROUND,
            || self.follow(),
            [
                &mut |calls| {
                    for _ in 0..calls {
                        let known = self.authority.try_cached(black_box(next()), &source, SystemClock.now());
                        assert!(matches!(black_box(known), Some(Ok(_))));
                    }
                },
                &mut |calls| {
                    for _ in 0..calls {
                        black_box(TokenDigest::of_text(black_box(next())));
                    }
                },
                &mut |calls| {
                    for _ in 0..calls {
                        let future = self.authority.authenticate(black_box(next()), &source, SystemClock.now());
                        assert!(black_box(at_once(future)).is_ok());
                    }
                },
            ],
        );
        Hits { hit, sha256, awaited }
    }

    fn bytes_each(&self) -> f64 {
        self.cache().bytes() as f64 / self.cache().len() as f64
    }
}

impl Drop for Known<'_> {
    fn drop(&mut self) {
        self.store.close();
    }
}

/// Nanoseconds of one load that depends on the one before, over so many bytes.
pub(crate) fn dependent_load(bytes: usize) -> f64 {
    const WORDS_PER_LINE: usize = 16;
    let lines = bytes / 64;
    let mut order: Vec<u32> = (0..lines as u32).collect();
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut below = |most: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((u128::from(seed) * most as u128) >> 64) as usize
    };
    // Sattolo's shuffle: one cycle through all of them.
    for last in (1..lines).rev() {
        order.swap(last, below(last));
    }
    let mut memory = vec![0_u32; lines * WORDS_PER_LINE];
    for (at, next) in order.iter().enumerate() {
        memory[at * WORDS_PER_LINE] = *next;
    }
    drop(order);
    let mut at = 0;
    let mut best = f64::INFINITY;
    for _ in 0..100 {
        let begun = Instant::now();
        for _ in 0..20_000 {
            at = memory[at as usize * WORDS_PER_LINE];
        }
        best = best.min(begun.elapsed().as_nanos() as f64 / 20_000.0);
    }
    black_box(at);
    best
}

/// Nanoseconds of verifying one JWT.
fn jwt(algorithm: &str) -> f64 {
    let output = Command::new(server::peers()).args(["verify", algorithm, "2"]).output().unwrap();
    assert!(output.status.success(), "{algorithm}");
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// The default of the server.
const CAPACITY: usize = 200_000;

fn a_thousand_of_a_million() -> Hits {
    Known::new(&Deployment::of(1_000_000), 1_000, CAPACITY).hits()
}

pub(crate) fn hot() -> Vec<Row> {
    let Hits { hit, sha256, awaited } = a_thousand_of_a_million();
    vec![Row {
        id: "P1",
        what: "authenticate, hit, 1,000 live of 1M / SHA-256 of the text",
        figure: hit / sha256,
        goal: Goal::AtMost(2.2),
        detail: format!("{hit:.0} ns / {sha256:.0} ns, clock and check included; awaited {awaited:.0} ns"),
    }]
}

pub(crate) fn beside_jwt() -> Vec<Row> {
    let Hits { hit, .. } = a_thousand_of_a_million();
    let row = |algorithm, what, goal: Option<f64>| {
        let theirs = jwt(algorithm);
        Row {
            id: "P2",
            what,
            figure: theirs / hit,
            // No goal but to be faster.
            goal: Goal::AtLeast(goal.unwrap_or(1.0)),
            detail: format!("{theirs:.0} ns / {hit:.0} ns; jsonwebtoken with aws-lc, as it verifies"),
        }
    };
    vec![
        row("HS256", "verifying a JWT, HS256 / authenticate, hit", Some(25.0)),
        row("RS256", "verifying a JWT, RS256 / authenticate, hit", Some(150.0)),
        row("EdDSA", "verifying a JWT, EdDSA / authenticate, hit", Some(350.0)),
        row("ES256", "verifying a JWT, ES256 / authenticate, hit", None),
    ]
}

/// What is measured of one size with all its tokens in the cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Full {
    pub(crate) hits: Hits,
    pub(crate) bytes: usize,
    pub(crate) bytes_each: f64,
    pub(crate) known: usize,
}

pub(crate) fn full(count: usize) -> Full {
    use std::collections::BTreeMap;
    use std::sync::Mutex;
    static MEASURED: Mutex<BTreeMap<usize, Full>> = Mutex::new(BTreeMap::new());
    *MEASURED.lock().unwrap().entry(count).or_insert_with(|| {
        let deployment = Deployment::of(count);
        let begun = Instant::now();
        let known = Known::new(&deployment, count, count);
        println!("  {count} tokens looked up in {:.0} s", begun.elapsed().as_secs_f64());
        let hits = known.hits();
        let cache = known.cache();
        Full { hits, bytes: cache.bytes(), bytes_each: known.bytes_each(), known: cache.len() }
    })
}

pub(crate) fn random() -> Vec<Row> {
    let million = full(1_000_000);
    let hs256 = jwt("HS256");
    let many = full(10_000_000);
    let load = dependent_load(many.bytes);
    let yardstick = many.hits.sha256 + load;
    vec![
        Row {
            id: "P3",
            what: "verifying a JWT, HS256 / authenticate, hit, random over 1M",
            figure: hs256 / million.hits.hit,
            goal: Goal::AtLeast(9.0),
            detail: format!("{hs256:.0} ns / {:.0} ns", million.hits.hit),
        },
        Row {
            id: "P3",
            what: "authenticate, hit, random over 10M / (SHA-256 + one DRAM load)",
            figure: many.hits.hit / yardstick,
            goal: Goal::AtMost(1.6),
            detail: format!(
                "{:.0} ns / ({:.0} + {load:.0}) ns, the load over {} MiB",
                many.hits.hit,
                many.hits.sha256,
                many.bytes >> 20
            ),
        },
    ]
}

pub(crate) fn memory() -> Vec<Row> {
    let row = |count: usize, what| {
        let Full { bytes, bytes_each, known, .. } = full(count);
        Row {
            id: "P5",
            what,
            figure: bytes_each,
            goal: Goal::AtMost(95.0),
            detail: format!(
                "{} MiB for {known} tokens, load {:.2}, subjects and all that is shared included",
                bytes >> 20,
                // As many lines as a third more than the capacity.
                known as f64 / (count as f64 * 4.0 / 3.0)
            ),
        }
    };
    vec![
        row(1_000_000, "bytes per cached token, 1M, a subject to ten"),
        row(10_000_000, "bytes per cached token, 10M, a subject to ten"),
    ]
}

/// Not a goal: what the steps of a hit cost, each alone.
pub(crate) fn steps() -> Vec<Row> {
    let deployment = Deployment::of(1_000_000);
    let known = Known::new(&deployment, 1_000, CAPACITY);
    let source = Source::default();
    let texts: Vec<&str> = known.texts.clone();
    let invented: Vec<String> = texts.iter().map(|text| format!("{}{}", &text[..46], "000000")).collect();
    let identity = at_once(known.authority.authenticate(texts[0], &source, now())).unwrap();
    let turn = Cell::new(0);
    let next = || {
        let at = turn.get();
        turn.set(if at + 1 == texts.len() { 0 } else { at + 1 });
        at
    };
    let standing = now();
    let [check, sha256, clock, copy, whole] = race_after(
        ROUND,
        || known.follow(),
        [
            &mut |calls| {
                for _ in 0..calls {
                    let text = black_box(invented[next()].as_str());
                    assert!(matches!(known.authority.try_cached(text, &source, standing), Some(Err(_))));
                }
            },
            &mut |calls| {
                for _ in 0..calls {
                    black_box(TokenDigest::of_text(black_box(texts[next()])));
                }
            },
            &mut |calls| {
                for _ in 0..calls {
                    black_box(SystemClock.now());
                }
            },
            &mut |calls| {
                for _ in 0..calls {
                    black_box(black_box(&identity).clone());
                }
            },
            &mut |calls| {
                for _ in 0..calls {
                    let text = black_box(texts[next()]);
                    assert!(matches!(known.authority.try_cached(text, &source, SystemClock.now()), Some(Ok(_))));
                }
            },
        ],
    );
    let rest = whole - check - sha256 - clock - copy;
    let row =
        |what, figure, detail: &str| Row { id: "STEPS", what, figure, goal: Goal::Told, detail: detail.to_owned() };
    vec![
        row("ns: a whole hit", whole, "1,000 live of 1M"),
        row("ns: reading the text and its keyed check", check, "a text whose check is wrong, refused"),
        row("ns: SHA-256", sha256, "of the text alone"),
        row("ns: both clocks", clock, "wall and boot, by vDSO"),
        row("ns: copying out the answer", copy, "a clone of the identity"),
        row("ns: line, subject, cohort, judging", rest, "the whole less what is above"),
    ]
}
