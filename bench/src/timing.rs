//! S6: whether the time of an answer tells what nobody is to learn (A49, A50): `cargo xtask timing [--pairs N] [--smoke]`.
//!
//! After dudect (Reparaz, Balasch, Verbauwhede, 2017): two classes of calls take turns in pairs, in an order that does not go
//! with the class; the slowest of both together, which the machine and not the class has slowed, are cut off; then Welch's t
//! says whether the means differ by more than chance, and the medians by how much. In one process, on SQLite on disk and the
//! hashing threads of the library, with failure counters off: they would refuse without a look at the password.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use counterfoil::{
    AccountRules, Authority, By, EncodedPassword, FailedLogins, HashingCapacity, HashingThreads, Languages, Links,
    Login, MailParts, Mailer, NewAccount, NotSent, Now, OsEntropy, Parts, Password, Period, Rate, Refusal, Sending,
    Settings, Source, SqliteStore, Unconfirmed,
};
use counterfoil_core::event::Silent;
use counterfoil_core::mail::Letter;
use counterfoil_core::{AccountStore, Email};
use counterfoil_store::OpenOptions;
use tokio::runtime::Runtime;

use crate::machine::now;

/// In all, over every class: S6.
const PAIRS: usize = 50_000;

/// So few that they take half a minute on a machine with nothing else to do.
const SMOKE_PAIRS: usize = 180;

/// Welch's t from which on a difference is taken for real (dudect's, for one in a hundred thousand by chance).
const MOST_T: f64 = 4.5;

/// The most that the medians may differ by, of the one that all are held against.
const MOST_GAP: f64 = 0.01;

/// Few pairs on a busy machine show nothing smaller.
const MOST_GAP_OF_SMOKE: f64 = 0.25;

/// What is cut off above, of both classes together.
const CROPPED: f64 = 0.05;

/// How many pairs before any that counts.
const WARM_UP: usize = 5;

/// Mails are sent from the queue after so many pairs: beyond 10,000 nobody may ask for more.
const PAIRS_TO_EMPTY_THE_QUEUE: usize = 500;

const RIGHT: &str = "seven copper kettles whistle";
const WRONG: &str = "seven copper kettles whisper";

/// A mailer that does, or does not.
#[derive(Debug, Default)]
struct Postman {
    fails: AtomicBool,
}

impl Mailer for Postman {
    fn send(&self, _letter: Letter) -> Sending<'_> {
        let fails = self.fails.load(Ordering::Relaxed);
        Box::pin(async move { if fails { Err(NotSent::Later("the server is away".into())) } else { Ok(()) } })
    }
}

/// A deployment with an account of each kind.
struct Rig {
    runtime: Runtime,
    authority: Authority,
    postman: Arc<Postman>,
    _directory: tempfile::TempDir,
}

impl Rig {
    fn new() -> Result<Rig, Box<dyn Error>> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let directory = tempfile::tempdir()?;
        let store = Arc::new(SqliteStore::open(directory.path(), &OpenOptions::serve())?);
        let postman = Arc::new(Postman::default());
        let any = Rate::per(1_000_000, Period::Second);
        let accounts = AccountRules {
            unconfirmed: Unconfirmed::Waits,
            links: Links { base: Some("https://auth.example.org".to_owned()), ..Links::default() },
            mails_per_address: any,
            mails_per_source: any,
            ..AccountRules::default()
        };
        let failed_logins = FailedLogins::insecure_unlimited_for_tests();
        let parts = Parts {
            tokens: store.clone(),
            accounts: store.clone(),
            audit: Some(store.clone()),
            mail: Some(MailParts { store: store.clone(), mailer: postman.clone() }),
            hashing: Arc::new(HashingThreads::start(HashingCapacity::default())?),
            entropy: Arc::new(OsEntropy),
            events: Arc::new(Silent),
            hook: None,
            ring: None,
            settings: Settings { failed_logins, accounts, ..Settings::default() },
        };
        let authority = runtime.block_on(Authority::open(parts, now()))?;
        let rig = Rig { runtime, authority, postman, _directory: directory };
        rig.people(&store)?;
        Ok(rig)
    }

    fn people(&self, store: &SqliteStore) -> Result<(), Box<dyn Error>> {
        let by = By::operator();
        let make = |name: &str, email: Option<(&str, bool)>, password: Option<&str>| -> Result<_, Box<dyn Error>> {
            let new = NewAccount {
                email: email.map(|(address, _)| address.parse()).transpose()?,
                email_confirmed: email.is_some_and(|(_, confirmed)| confirmed),
                ..NewAccount::named(name.parse()?)
            };
            let password = password.map(Password::new).transpose()?;
            Ok(self.runtime.block_on(self.authority.create_user(new, password, &by, now()))?)
        };
        make("ordinary", Some(("ordinary@example.org", true)), Some(RIGHT))?;
        make("likewise", Some(("likewise@example.org", true)), Some(RIGHT))?;
        make("unusable", Some(("unusable@example.org", true)), None)?;
        make("unproved", Some(("unproved@example.org", false)), Some(RIGHT))?;
        let disabled = make("disabled", Some(("disabled@example.org", true)), Some(RIGHT))?;
        self.runtime.block_on(self.authority.disable_user(&disabled.subject, &by, now()))?;
        // As Django wrote it, with fewer rounds, so that all that a refusal computes stays near what one hash costs.
        let imported = make("imported", Some(("imported@example.org", true)), None)?;
        let row = "pbkdf2_sha256$20000$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let row = EncodedPassword::from_store(row);
        self.runtime.block_on(store.set_password(&imported.subject, None, &row))?;
        Ok(())
    }

    /// Nanoseconds of a login that is refused.
    fn login(&self, name: &str, password: &str) -> f64 {
        let password = Password::new(password).expect("a short one");
        let login = Login { username: name.to_owned(), password, client: None, name: None };
        let begun = Instant::now();
        let answer = self.runtime.block_on(self.authority.login(login, &Source::default(), now()));
        let took = begun.elapsed();
        assert!(matches!(answer, Err(counterfoil::Error::Refused(Refusal::CredentialsRejected))), "{name}: {answer:?}");
        took.as_nanos() as f64
    }

    /// Nanoseconds until it is said that a mail will come, if there is such an account.
    fn forgot(&self, email: &Email) -> f64 {
        let source = Source::default();
        let begun = Instant::now();
        let asked = self.authority.ask_reset(email, Languages::default(), None, &source, now());
        let answer = self.runtime.block_on(asked);
        let took = begun.elapsed();
        answer.expect("queued");
        took.as_nanos() as f64
    }

    /// Hands what is due at `at` to the mailer.
    fn send(&self, at: Now) -> usize {
        let due = self.runtime.block_on(self.authority.claim_mails(100, at)).expect("claimed");
        let sent = due.len();
        for waiting in due {
            self.runtime.block_on(self.authority.deliver(waiting, at)).expect("delivered or not");
        }
        sent
    }

    fn empty_the_queue(&self) {
        let failed = self.postman.fails.swap(false, Ordering::Relaxed);
        // What was postponed is due by then, and nothing has expired.
        let later = Now { wall: now().wall.plus_millis(30 * 60 * 1_000), ..now() };
        while self.send(later) > 0 {}
        self.postman.fails.store(failed, Ordering::Relaxed);
    }
}

/// What is held against what is ordinary.
struct Class {
    name: &'static str,
    this: Box<dyn Fn(&Rig) -> f64>,
    ordinary: Box<dyn Fn(&Rig) -> f64>,
    /// What is done before each pair and not timed.
    before: fn(&Rig),
}

fn classes() -> Vec<Class> {
    let login = |name: &'static str, who: &'static str, password: &'static str| Class {
        name,
        this: Box::new(move |rig| rig.login(who, password)),
        ordinary: Box::new(|rig| rig.login("ordinary", WRONG)),
        before: |_| (),
    };
    let forgot = |name: &'static str, address: &str, before| {
        let (this, ordinary): (Email, Email) =
            (address.parse().expect("an address"), "ordinary@example.org".parse().expect("an address"));
        Class {
            name,
            this: Box::new(move |rig| rig.forgot(&this)),
            ordinary: Box::new(move |rig| rig.forgot(&ordinary)),
            before,
        }
    };
    vec![
        login("login: wrong password of another", "likewise", WRONG),
        login("login: unknown", "unheard!", WRONG),
        login("login: no usable password", "unusable", WRONG),
        login("login: disabled, right password", "disabled", RIGHT),
        login("login: unconfirmed, right password", "unproved", RIGHT),
        login("login: old imported hash", "imported", WRONG),
        forgot("forgot: another known address", "likewise@example.org", |_| ()),
        forgot("forgot: unknown address", "unheard1@example.org", |_| ()),
        forgot("forgot: unknown, mailer failing", "unheard2@example.org", |rig| {
            rig.postman.fails.store(true, Ordering::Relaxed);
            rig.send(now());
        }),
    ]
}

/// What was found of a class.
struct Found {
    name: &'static str,
    pairs: usize,
    t: f64,
    /// How much longer the median of the class is, of the ordinary one.
    gap: f64,
    ordinary_ms: f64,
}

impl Found {
    fn of(name: &'static str, this: &[f64], ordinary: &[f64]) -> Found {
        let mut both = [this, ordinary].concat();
        both.sort_by(f64::total_cmp);
        let most = both[((both.len() - 1) as f64 * (1.0 - CROPPED)) as usize];
        let cropped = |times: &[f64]| times.iter().copied().filter(|time| *time <= most).collect::<Vec<_>>();
        let median_of_ordinary = median(ordinary);
        Found {
            name,
            pairs: this.len(),
            t: welch(&cropped(this), &cropped(ordinary)),
            gap: (median(this) - median_of_ordinary) / median_of_ordinary,
            ordinary_ms: median_of_ordinary / 1e6,
        }
    }

    /// Whether the class can be told apart: S6, or for a smoke what is both gross and more than chance.
    fn is_off(&self, smoke: bool) -> bool {
        let (for_sure, gap) = (self.t.abs() >= MOST_T, self.gap.abs());
        if smoke { for_sure && gap >= MOST_GAP_OF_SMOKE } else { for_sure || gap >= MOST_GAP }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { name, pairs, t, gap, ordinary_ms } = self;
        write!(f, "{name:<36} {pairs:>6} pairs  t {t:>7.2}  median {ordinary_ms:>7.3} ms  gap {:>+7.3} %", gap * 100.0)
    }
}

fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Welch's t of two samples.
fn welch(one: &[f64], other: &[f64]) -> f64 {
    let mean = |times: &[f64]| times.iter().sum::<f64>() / times.len() as f64;
    let spread = |times: &[f64]| {
        let mean = mean(times);
        let squares = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>();
        squares / (times.len() as f64 - 1.0).max(1.0) / times.len() as f64
    };
    (mean(one) - mean(other)) / (spread(one) + spread(other)).sqrt()
}

fn measure(rig: &Rig, class: &Class, pairs: usize) -> Found {
    let (mut this, mut ordinary) = (Vec::with_capacity(pairs), Vec::with_capacity(pairs));
    rig.postman.fails.store(false, Ordering::Relaxed);
    rig.empty_the_queue();
    for pair in 0..WARM_UP + pairs {
        (class.before)(rig);
        // Which of them is first goes with nothing: a multiplicative hash of the number.
        let this_first = (pair as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63 == 0;
        let (one, other) = if this_first {
            let one = (class.this)(rig);
            (one, (class.ordinary)(rig))
        } else {
            let other = (class.ordinary)(rig);
            ((class.this)(rig), other)
        };
        if pair >= WARM_UP {
            this.push(one);
            ordinary.push(other);
        }
        if pair % PAIRS_TO_EMPTY_THE_QUEUE == PAIRS_TO_EMPTY_THE_QUEUE - 1 {
            rig.empty_the_queue();
        }
    }
    Found::of(class.name, &this, &ordinary)
}

/// Measures, prints, and fails where S6 is not met; as a smoke, where a class is off by more than chance could make it, twice.
pub(crate) fn run(arguments: impl Iterator<Item = String>) -> ExitCode {
    let (mut pairs, mut smoke) = (None, false);
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--smoke" => smoke = true,
            "--pairs" => pairs = arguments.next().and_then(|number| number.parse().ok()).filter(|number| *number > 0),
            other => {
                eprintln!("{other}: expected --pairs N or --smoke");
                return ExitCode::from(2);
            }
        }
    }
    let classes = classes();
    let pairs = pairs.unwrap_or(if smoke { SMOKE_PAIRS } else { PAIRS }).div_ceil(classes.len()).max(2);
    let rig = Rig::new().expect("a deployment");
    let mut failed = 0;
    for class in &classes {
        let mut found = measure(&rig, class, pairs);
        if smoke && found.is_off(smoke) {
            println!("{found}  again");
            found = measure(&rig, class, 4 * pairs);
        }
        println!("{found}{}", if found.is_off(smoke) { "  TOLD APART" } else { "" });
        failed += usize::from(found.is_off(smoke));
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times that spread by two parts in a hundred about `centre`, and a few that were disturbed.
    fn times(centre: f64, shift: usize) -> Vec<f64> {
        let jitter = |at: usize| ((at + shift).wrapping_mul(2_654_435_761) % 1_000) as f64 / 1_000.0 - 0.5;
        (0..5_000).map(|at| centre * (1.0 + 0.04 * jitter(at)) * if at % 97 == 0 { 30.0 } else { 1.0 }).collect()
    }

    #[test]
    fn a49_a_difference_of_one_part_in_two_hundred_is_seen_and_none_is_not() {
        let ordinary = times(20e6, 0);
        let same = Found::of("same", &times(20e6, 331), &ordinary);
        assert!(!same.is_off(false) && !same.is_off(true), "{same}");
        let longer = Found::of("longer", &times(20.1e6, 331), &ordinary);
        assert!(longer.is_off(false) && !longer.is_off(true), "{longer}");
        let much = Found::of("much longer", &times(26e6, 331), &ordinary);
        assert!(much.is_off(true), "{much}");
    }
}
