//! Random histories told to an [`Authority`] and to the [`Model`]: after every step, every secret that was ever handed out
//! gives the answer that the model gives.

use std::fmt::{Debug, Write};
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use counterfoil_core::account::NewAccount;
use counterfoil_core::authority::{ClientOrder, Ending, Expiry, FailedLogins, NewKey, TokenOrder, WhichClient};
use counterfoil_core::cache::Cache;
use counterfoil_core::entropy::PredictableEntropy;
use counterfoil_core::event::Silent;
use counterfoil_core::hashing::OnThisThread;
use counterfoil_core::password::{HashingParams, Password};
use counterfoil_core::seal::KeyRing;
use counterfoil_core::store::TokenFilter;
use counterfoil_core::token::Metadata;
use counterfoil_core::{
    Abilities, AccountStore, AtCap, Authority, By, Cap, ClientName, Clock, Error, Identity, Issued, Kind, Login,
    ManualClock, Now, Parts, Policy, Refusal, Reissue, Renewal, Settings, Source, SubjectId, Timestamp, TokenId,
    TokenStore,
};
use pollster::block_on;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestError, TestRunner};

use super::model::{Given, Life, Model, Rules, Secret, State, User, end_by};

const START: i64 = 1_795_172_400_000;
const USERS: usize = 2;
const CLIENTS: usize = 3;

/// What may happen. Small numbers pick among what there is then.
#[derive(Debug, Clone)]
enum Step {
    LogIn {
        user: usize,
        client: usize,
        right: bool,
    },
    Issue {
        user: usize,
        client: usize,
        kind: Kind,
        seconds: Option<u64>,
    },
    MakeKey {
        with: u8,
        seconds: Option<u64>,
    },
    Present {
        secret: u8,
    },
    Renew {
        with: u8,
    },
    Rotate {
        with: u8,
    },
    LogOut {
        with: u8,
    },
    LogOutAll {
        with: u8,
    },
    LogOutOthers {
        with: u8,
    },
    Revoke {
        with: u8,
        token: u8,
    },
    RevokeAny {
        token: u8,
    },
    RevokeMatching {
        user: usize,
        client: Option<usize>,
    },
    EndUser {
        user: usize,
        keys_too: bool,
    },
    EndClient {
        client: usize,
    },
    EndEverybody,
    Disable {
        user: usize,
    },
    Enable {
        user: usize,
    },
    Delete {
        user: usize,
    },
    SetPassword {
        user: usize,
    },
    ChangeClient {
        client: usize,
        policy: Box<Policy>,
        allow_login: bool,
    },
    Flush,
    /// The cache learns what has changed, and may answer for a while.
    Follow,
    Restart {
        cleanly: bool,
    },
    Wait {
        millis: i64,
        follow: bool,
    },
    /// To the instant at which a token or a grace ends, or a millisecond before or after.
    GoToAnEnd {
        which: u8,
        off: i64,
    },
    SetBack {
        millis: i64,
    },
}

/// The rules that the clients start with; steps change them.
fn first_policies() -> [Policy; CLIENTS] {
    let life = |text: &str| text.parse().unwrap();
    let sliding = Renewal::OnUse { at_most_every: life("10s") };
    let two = Cap { limit: NonZeroU32::new(2).unwrap(), at_cap: AtCap::EvictOldest };
    [
        Policy::default(),
        Policy { ttl: Some(life("60s")), renewal: sliding, ..Policy::default() },
        Policy { ttl: Some(life("1h")), cap: Some(two), ..Policy::default() },
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    let life = |text: &str| Some(text.parse().unwrap());
    let limits = (
        select(vec![None, life("20s"), life("60s"), life("1h")]),
        select(vec![None, None, life("60s"), life("90s"), life("2h")]),
        select(vec![
            Renewal::Never,
            Renewal::OnRequest,
            Renewal::OnRequest,
            Renewal::OnUse { at_most_every: life("10s").unwrap() },
        ]),
    );
    let again = (
        prop::option::weighted(0.4, (1_u32..=3, select(vec![AtCap::Refuse, AtCap::EvictOldest]))),
        select(vec![Reissue::New, Reissue::New, Reissue::Replace, Reissue::Same]),
    );
    (limits, again).prop_filter_map("parts that go together", |((ttl, max_lifetime, renewal), (cap, reissue))| {
        let cap = cap.map(|(limit, at_cap)| Cap { limit: NonZeroU32::new(limit).unwrap(), at_cap });
        let policy = Policy { ttl, max_lifetime, renewal, cap, reissue, ..Policy::default() };
        policy.check().is_ok().then_some(policy)
    })
}

/// A step, and whether every secret is presented after it or only those whose use changes nothing.
fn steps(most: usize) -> impl Strategy<Value = Vec<(Step, bool)>> {
    let user = || 0..USERS;
    let client = || 0..CLIENTS;
    let any_of = any::<u8>;
    let seconds = || prop::option::of(select(vec![10_u64, 45, 3_600]));
    let step = prop_oneof![
        12 => (user(), client(), prop::bool::weighted(0.9))
            .prop_map(|(user, client, right)| Step::LogIn { user, client, right }),
        4 => (user(), client(), select(vec![Kind::Login, Kind::Key]), seconds())
            .prop_map(|(user, client, kind, seconds)| Step::Issue { user, client, kind, seconds }),
        4 => (any_of(), seconds()).prop_map(|(with, seconds)| Step::MakeKey { with, seconds }),
        6 => any_of().prop_map(|secret| Step::Present { secret }),
        5 => any_of().prop_map(|with| Step::Renew { with }),
        9 => any_of().prop_map(|with| Step::Rotate { with }),
        3 => any_of().prop_map(|with| Step::LogOut { with }),
        1 => any_of().prop_map(|with| Step::LogOutAll { with }),
        1 => any_of().prop_map(|with| Step::LogOutOthers { with }),
        2 => (any_of(), any_of()).prop_map(|(with, token)| Step::Revoke { with, token }),
        1 => any_of().prop_map(|token| Step::RevokeAny { token }),
        1 => (user(), prop::option::of(client())).prop_map(|(user, client)| Step::RevokeMatching { user, client }),
        1 => (user(), any::<bool>()).prop_map(|(user, keys_too)| Step::EndUser { user, keys_too }),
        1 => client().prop_map(|client| Step::EndClient { client }),
        1 => Just(Step::EndEverybody),
        2 => user().prop_map(|user| Step::Disable { user }),
        3 => user().prop_map(|user| Step::Enable { user }),
        1 => user().prop_map(|user| Step::Delete { user }),
        1 => user().prop_map(|user| Step::SetPassword { user }),
        4 => (client(), policy().prop_map(Box::new), prop::bool::weighted(0.9))
            .prop_map(|(client, policy, allow_login)| Step::ChangeClient { client, policy, allow_login }),
        4 => Just(Step::Flush),
        4 => Just(Step::Follow),
        2 => any::<bool>().prop_map(|cleanly| Step::Restart { cleanly }),
        8 => (select(vec![1, 999, 4_999, 10_000, 20_000, 29_999, 30_000, 3_600_000]), any::<bool>())
            .prop_map(|(millis, follow)| Step::Wait { millis, follow }),
        6 => (any_of(), -1..=1_i64).prop_map(|(which, off)| Step::GoToAnEnd { which, off }),
        1 => select(vec![1, 10_000, 40_000, 4_000_000]).prop_map(|millis| Step::SetBack { millis }),
    ];
    prop::collection::vec((step, prop::bool::weighted(0.2)), 1..=most)
}

/// Where a history is kept.
#[derive(Debug, Clone)]
pub(crate) struct Stores {
    pub(crate) tokens: Arc<dyn TokenStore>,
    pub(crate) accounts: Arc<dyn AccountStore>,
    /// How many tokens are answered from memory, if any.
    pub(crate) cached: Option<NonZeroUsize>,
}

/// How many answers came from a cache, over all histories.
pub(crate) static HITS: AtomicU64 = AtomicU64::new(0);

/// Tells so many random histories, each on what `stores` makes.
///
/// # Panics
/// With the shortest history found whose answer is not the model's, line by line.
pub(crate) fn tell_many(histories: u32, stores: impl Fn() -> Stores) {
    // No seeds are kept in files: the history that is printed is short enough to become a story of its own.
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(histories) });
    match runner.run(&steps(30), |steps| tell(&stores(), &steps).map_err(TestCaseError::fail)) {
        Ok(()) => {}
        Err(TestError::Fail(history, _)) => panic!("{history}"),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

fn tell(stores: &Stores, steps: &[(Step, bool)]) -> Result<(), String> {
    let mut machine = Machine::new(stores);
    for (step, all) in steps {
        let told = machine.take(step).and_then(|()| machine.look(*all));
        if let Err(wrong) = told {
            writeln!(machine.history, "  ^ {wrong}").unwrap();
            return Err(machine.history);
        }
    }
    Ok(())
}

struct Machine<'a> {
    stores: &'a Stores,
    entropy: Arc<PredictableEntropy>,
    authority: Authority,
    clock: ManualClock,
    source: Source,
    model: Model,
    subjects: Vec<SubjectId>,
    usernames: Vec<String>,
    clients: Vec<ClientName>,
    /// Of every life of the model: its id and the texts of its secrets.
    tokens: Vec<(TokenId, Vec<String>)>,
    history: String,
}

fn password(number: u32) -> Password {
    Password::new(format!("password {number}")).unwrap()
}

/// The refusal, or what was given; a fault of ours fails the history.
fn judged<T>(result: Result<T, Error>) -> Result<Result<T, Refusal>, String> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Error::Refused(refusal)) => Ok(Err(refusal)),
        Err(error) => Err(format!("failed: {error:?}")),
    }
}

fn same<T: Debug + PartialEq>(what: &str, is: &T, should: &T) -> Result<(), String> {
    if is == should { Ok(()) } else { Err(format!("{what}: {is:?}, but the model says {should:?}")) }
}

fn open(stores: &Stores, entropy: &Arc<PredictableEntropy>, now: Now) -> Authority {
    let ring = KeyRing::generate(&PredictableEntropy::from_seed(u64::MAX)).unwrap();
    let parts = Parts {
        tokens: Arc::clone(&stores.tokens),
        accounts: Arc::clone(&stores.accounts),
        audit: None,
        mail: None,
        hashing: Arc::new(OnThisThread),
        entropy: Arc::clone(entropy) as _,
        events: Arc::new(Silent),
        hook: None,
        ring: Some(ring),
        settings: Settings {
            hashing: HashingParams::insecure_for_tests(),
            failed_logins: FailedLogins::insecure_unlimited_for_tests(),
            ..Settings::default()
        },
    };
    let authority = block_on(Authority::open(parts, now)).unwrap();
    let Some(tokens) = stores.cached else { return authority };
    let authority = authority.with_cache(Cache::new(tokens, entropy.as_ref()).unwrap());
    block_on(authority.follow(now)).unwrap();
    authority
}

impl Machine<'_> {
    /// Histories on one store do not meet: each has users and clients of its own.
    fn new(stores: &Stores) -> Machine<'_> {
        static TOLD: AtomicU64 = AtomicU64::new(0);
        let number = TOLD.fetch_add(1, Ordering::Relaxed);
        let entropy = Arc::new(PredictableEntropy::from_seed(number));
        let clock = ManualClock::at(Timestamp::from_millis(START));
        let authority = open(stores, &entropy, clock.now());
        let usernames: Vec<String> = ["ada", "bob"].iter().map(|name| format!("{name}-{number}")).collect();
        let clients: Vec<ClientName> =
            ["web", "app", "job"].iter().map(|name| format!("{name}-{number}").parse().unwrap()).collect();
        let rules: Vec<Rules> =
            first_policies().into_iter().map(|policy| Rules { policy, allow_login: true }).collect();
        for (name, Rules { policy, .. }) in clients.iter().zip(&rules) {
            let order = ClientOrder { policy: policy.clone(), ..ClientOrder::named(name.clone()) };
            block_on(authority.create_client(order, &By::operator(), clock.now())).unwrap();
        }
        let user = |name: &String| {
            let new = NewAccount::named(name.parse().unwrap());
            let by = By::operator();
            block_on(authority.create_user(new, Some(password(0)), &by, clock.now())).unwrap().subject
        };
        let subjects = usernames.iter().map(user).collect();
        let model = Model {
            now: START,
            users: vec![User { password: 0, state: State::Active }; USERS],
            clients: rules,
            lives: Vec::new(),
        };
        let (source, history) = (Source::default(), String::from("\n"));
        Machine {
            stores,
            entropy,
            authority,
            clock,
            source,
            model,
            subjects,
            usernames,
            clients,
            tokens: Vec::new(),
            history,
        }
    }

    fn now(&self) -> Now {
        self.clock.now()
    }

    /// One of the secrets that were handed out.
    fn pick(&self, number: u8) -> Option<(usize, usize)> {
        let all =
            || self.tokens.iter().enumerate().flat_map(|(life, (_, texts))| (0..texts.len()).map(move |s| (life, s)));
        all().nth(usize::from(number).checked_rem(all().count())?)
    }

    fn pick_token(&self, number: u8) -> Option<usize> {
        usize::from(number).checked_rem(self.tokens.len())
    }

    /// The answer, and whether it came from the cache.
    fn authenticate(&self, (life, secret): (usize, usize)) -> Result<(Result<Identity, Refusal>, bool), String> {
        let text = &self.tokens[life].1[secret];
        let known = self.authority.try_cached(text, &self.source, self.now()).map(judged).transpose()?;
        let is = judged(block_on(self.authority.authenticate(text, &self.source, self.now())))?;
        if let Some(known) = &known {
            HITS.fetch_add(1, Ordering::Relaxed);
            same("known and asked for", known, &is)?;
        }
        Ok((is, known.is_some()))
    }

    /// Presents a secret to both, and returns who that is where both say yes.
    fn present(&mut self, (life, secret): (usize, usize)) -> Result<Option<Identity>, String> {
        let before = self.model.lives[life].clone();
        let should = self.model.present(life, secret);
        let (is, known) = self.authenticate((life, secret))?;
        let what = format!("token {life} by secret {secret}");
        same(&what, &is.as_ref().map(drop).map_err(Clone::clone), &should)?;
        let Ok(who) = is else { return Ok(None) };
        same("id", &who.id, &self.tokens[life].0)?;
        same("kind", &who.kind, &before.kind)?;
        same("subject", &who.subject, &self.subjects[before.user])?;
        same("client", &who.client, &self.clients[before.client])?;
        same("issued", &who.issued_at.millis(), &before.issued)?;
        let end = who.expires_at.map(Timestamp::millis);
        // What was renewed since may be told with the end it had before: never a later one than it has.
        if !known || before.end.is_some_and(|until| end.is_none_or(|end| end > until)) {
            same(&format!("the end of token {life}"), &end, &before.end)?;
        }
        Ok(Some(who))
    }

    /// Who comes with that secret, and by which token, if both say yes.
    fn who(&mut self, with: u8) -> Result<Option<(Identity, usize)>, String> {
        let Some(secret) = self.pick(with) else { return Ok(None) };
        Ok(self.present(secret)?.map(|who| (who, secret.0)))
    }

    /// Presents secrets: all, or all whose use changes nothing.
    fn look(&mut self, all: bool) -> Result<(), String> {
        for life in 0..self.tokens.len() {
            for secret in 0..self.tokens[life].1.len() {
                if all || self.model.is_quiet(life, secret) {
                    self.present((life, secret))?;
                }
            }
        }
        Ok(())
    }

    /// What came of an order for a token, compared with what should have.
    fn given(&mut self, is: Result<Issued, Refusal>, should: Result<Given, Refusal>) -> Result<(), String> {
        let issued = match (is, should) {
            (Err(is), Err(should)) => return same("refused", &is, &should),
            (Ok(issued), Ok(Given::New)) => {
                let life = self.model.lives.last().unwrap();
                same("end", &issued.token.expires_at.map(Timestamp::millis), &life.end)?;
                self.tokens.push((issued.token.id, Vec::new()));
                issued
            }
            (Ok(issued), Ok(Given::Again(life))) => {
                let life = &self.tokens[life];
                same("the token again", &issued.token.id, &life.0)?;
                return same("its secret", &issued.secret.expose(), &life.1.last().unwrap().as_str());
            }
            (is, should) => return Err(format!("{is:?}, but the model says {should:?}")),
        };
        writeln!(self.history, "     token {}", self.tokens.len() - 1).unwrap();
        self.tokens.last_mut().unwrap().1.push(issued.secret.expose().to_owned());
        Ok(())
    }

    fn take(&mut self, step: &Step) -> Result<(), String> {
        writeln!(self.history, "  {:>+9} ms  {step:?}", self.model.now - START).unwrap();
        match *step {
            Step::LogIn { user, client, right } => self.log_in(user, client, right),
            Step::Issue { user, client, kind, seconds } => self.issue(user, client, kind, seconds),
            Step::MakeKey { with, seconds } => self.make_key(with, seconds),
            Step::Renew { with } => self.renew(with),
            Step::Rotate { with } => self.rotate(with),
            Step::Present { secret } => match self.pick(secret) {
                Some(secret) => self.present(secret).map(drop),
                None => Ok(()),
            },
            Step::LogOut { with } => {
                let Some((who, me)) = self.who(with)? else { return Ok(()) };
                self.model.revoke(|number, _| number == me);
                self.must(block_on(self.authority.logout(&who, &self.source, self.now())))
            }
            Step::LogOutAll { with } => {
                let Some((who, me)) = self.who(with)? else { return Ok(()) };
                let user = self.model.lives[me].user;
                self.model.revoke(|_, life| life.kind == Kind::Login && life.user == user);
                self.must(block_on(self.authority.logout_all(&who, &self.source, self.now())))
            }
            Step::LogOutOthers { with } => {
                let Some((who, me)) = self.who(with)? else { return Ok(()) };
                let user = self.model.lives[me].user;
                self.model.revoke(|number, life| life.kind == Kind::Login && life.user == user && number != me);
                self.must(block_on(self.authority.logout_others(&who, &self.source, self.now())))
            }
            Step::Revoke { with, token } => self.revoke(with, token),
            Step::RevokeAny { token } => {
                let Some(life) = self.pick_token(token) else { return Ok(()) };
                self.model.revoke(|number, _| number == life);
                self.must(block_on(self.authority.revoke_any(self.tokens[life].0, &By::operator(), self.now())))
            }
            Step::RevokeMatching { user, client } => self.revoke_matching(user, client),
            Step::EndUser { user, keys_too } => {
                self.model.revoke(|_, life| life.user == user && (keys_too || life.kind == Kind::Login));
                self.end(Ending::Subject { subject: self.subjects[user].clone(), keys_too })
            }
            Step::EndClient { client } => {
                self.model.revoke(|_, life| life.client == client);
                self.end(Ending::Client(WhichClient::Named(&self.clients[client])))
            }
            Step::EndEverybody => {
                self.model.revoke(|_, _| true);
                self.end(Ending::Everybody)
            }
            Step::Disable { user } => self.set_state(user, State::Disabled),
            Step::Enable { user } => self.set_state(user, State::Active),
            Step::Delete { user } => self.set_state(user, State::Deleted),
            Step::SetPassword { user } => self.set_password(user),
            Step::ChangeClient { client, ref policy, allow_login } => {
                let order = ClientOrder { name: self.clients[client].clone(), policy: (**policy).clone(), allow_login };
                let which = WhichClient::Named(&self.clients[client]);
                let change = |_: &counterfoil_core::Client| Ok(order.clone());
                self.must(block_on(self.authority.update_client(which, change, &By::operator(), self.now())))?;
                self.model.clients[client] = Rules { policy: (**policy).clone(), allow_login };
                Ok(())
            }
            Step::Flush => {
                self.model.flush();
                self.must(block_on(self.authority.flush(self.now())))
            }
            Step::Follow => self.must(block_on(self.authority.follow(self.now()))),
            Step::Restart { cleanly } => {
                if cleanly {
                    self.model.flush();
                    self.must(block_on(self.authority.flush(self.now())))?;
                }
                self.model.lives.iter_mut().for_each(|life| life.slides_to = None);
                self.authority = open(self.stores, &self.entropy, self.now());
                Ok(())
            }
            Step::Wait { millis, follow } => {
                self.go_to(self.model.now + millis);
                if follow { self.must(block_on(self.authority.follow(self.now()))) } else { Ok(()) }
            }
            Step::GoToAnEnd { which, off } => {
                self.go_to(self.an_end(which).map_or(self.model.now, |end| end + off));
                Ok(())
            }
            Step::SetBack { millis } => {
                self.go_to(self.model.now - millis);
                Ok(())
            }
        }
    }

    fn must<T: Debug>(&self, result: Result<T, Error>) -> Result<(), String> {
        result.map(drop).map_err(|error| format!("failed: {error:?}"))
    }

    fn log_in(&mut self, user: usize, client: usize, right: bool) -> Result<(), String> {
        let User { password: number, state } = self.model.users[user];
        let login = Login {
            username: self.usernames[user].clone(),
            password: password(if right { number } else { number + 1 }),
            client: Some(self.clients[client].clone()),
            name: None,
        };
        let is = judged(block_on(self.authority.login(login, &self.source, self.now())))?;
        let should = if !self.model.clients[client].allow_login {
            Err(Refusal::LoginNotAllowed)
        } else if !right || state != State::Active {
            Err(Refusal::CredentialsRejected)
        } else {
            self.model.issue(Kind::Login, user, client, None)
        };
        self.given(is.map(|logged_in| logged_in.issued), should)
    }

    fn issue(&mut self, user: usize, client: usize, kind: Kind, seconds: Option<u64>) -> Result<(), String> {
        let end = seconds.map(|seconds| self.now().wall.plus_millis(seconds * 1_000));
        // A login token with an end of its own is not what a login gives, see `Reissue::Same`.
        let (expiry, asked) = match (kind, end) {
            (Kind::Login, _) => (Expiry::ByPolicy, None),
            (Kind::Key, Some(end)) => (Expiry::At(end), Some(Some(end.millis()))),
            (Kind::Key, None) => (Expiry::Never, Some(None)),
        };
        let order = TokenOrder {
            kind,
            subject: self.subjects[user].clone(),
            client: Some(self.clients[client].clone()),
            name: None,
            abilities: Abilities::everything(),
            metadata: Metadata::default(),
            expiry,
        };
        let is = judged(block_on(self.authority.issue(order, &By::operator(), self.now())))?;
        let should = self.model.issue(kind, user, client, asked);
        self.given(is, should)
    }

    fn make_key(&mut self, with: u8, seconds: Option<u64>) -> Result<(), String> {
        let Some((who, me)) = self.who(with)? else { return Ok(()) };
        let maker = self.model.lives[me].clone();
        let asked = seconds.map(|seconds| self.now().wall.plus_millis(seconds * 1_000));
        let key = NewKey { name: None, abilities: None, expires_at: asked };
        let is = judged(block_on(self.authority.create_key(&who, key, &self.source, self.now())))?;
        let should = match (maker.kind, maker.end, asked.map(Timestamp::millis)) {
            (Kind::Key, Some(last), Some(end)) if end > last => Err(Refusal::ExpiryBeyondMaker),
            (Kind::Key, Some(last), None) => self.model.issue(Kind::Key, maker.user, maker.client, Some(Some(last))),
            (Kind::Login | Kind::Key, _, end) => self.model.issue(Kind::Key, maker.user, maker.client, Some(end)),
        };
        self.given(is, should)
    }

    fn renew(&mut self, with: u8) -> Result<(), String> {
        let Some((life, secret)) = self.pick(with) else { return Ok(()) };
        let text = self.tokens[life].1[secret].clone();
        let is =
            judged(block_on(self.authority.renew(&text, &self.source, self.now())))?.map(|renewed| renewed.expires_at);
        let should = self.model.present(life, secret).and_then(|()| {
            let life = &mut self.model.lives[life];
            let policy = &self.model.clients[life.client].policy;
            if life.kind == Kind::Key || policy.renewal == Renewal::Never {
                return Err(Refusal::RenewalNotAllowed);
            }
            life.lengthen(end_by(policy, life.issued, self.model.now));
            Ok(life.end)
        });
        same(&format!("renewing token {life}"), &is.map(|end| end.map(Timestamp::millis)), &should)
    }

    fn rotate(&mut self, with: u8) -> Result<(), String> {
        let Some((life, secret)) = self.pick(with) else { return Ok(()) };
        let text = self.tokens[life].1[secret].clone();
        let is = judged(block_on(self.authority.rotate(&text, &self.source, self.now())))?;
        let should = self.model.present(life, secret).map(|()| {
            let now = self.model.now;
            let life = &mut self.model.lives[life];
            let sealed = life.kind == Kind::Login && self.model.clients[life.client].policy.reissue == Reissue::Same;
            life.rotate(secret, sealed, now);
        });
        same(&format!("rotating token {life}"), &is.as_ref().map(drop).map_err(Clone::clone), &should)?;
        if let Ok((issued, _)) = is {
            same("id", &issued.token.id, &self.tokens[life].0)?;
            self.tokens[life].1.push(issued.secret.expose().to_owned());
            writeln!(self.history, "     token {life}, secret {}", self.tokens[life].1.len() - 1).unwrap();
        }
        Ok(())
    }

    fn revoke(&mut self, with: u8, token: u8) -> Result<(), String> {
        let (Some((who, me)), Some(life)) = (self.who(with)?, self.pick_token(token)) else { return Ok(()) };
        let (id, kind) = (self.tokens[life].0, self.model.lives[life].kind);
        let is = judged(block_on(self.authority.revoke(&who, id, kind, &self.source, self.now())))?;
        let own = self.model.lives[life].user == self.model.lives[me].user;
        self.model.revoke(|number, _| own && number == life);
        same("revoked", &is, &if own { Ok(()) } else { Err(Refusal::NotFound) })
    }

    fn revoke_matching(&mut self, user: usize, client: Option<usize>) -> Result<(), String> {
        let filter = TokenFilter {
            client: client.map(|client| self.clients[client].clone()),
            ..TokenFilter::of(self.subjects[user].clone())
        };
        let now = self.model.now;
        let is_meant = |life: &Life| {
            let of_client = client.is_none_or(|client| life.client == client);
            // Another node's date may be ahead by less than a minute.
            life.user == user && of_client && life.live(now) && life.issued < now + 60_000
        };
        let should = self.model.lives.iter().filter(|life| is_meant(life)).count() as u64;
        self.model.revoke(|_, life| is_meant(life));
        let is = judged(block_on(self.authority.revoke_matching(&filter, &By::operator(), self.now())))?;
        same("revoked", &is, &Ok(should))
    }

    fn end(&self, ending: Ending<'_>) -> Result<(), String> {
        self.must(block_on(self.authority.end(ending, &By::operator(), self.now())))
    }

    fn set_state(&mut self, user: usize, state: State) -> Result<(), String> {
        let (subject, by, now) = (&self.subjects[user], By::operator(), self.now());
        let is = judged(match state {
            State::Active => block_on(self.authority.enable_user(subject, &by, now)),
            State::Disabled => block_on(self.authority.disable_user(subject, &by, now)),
            State::Deleted => block_on(self.authority.delete_user(subject, &by, now)),
        })?;
        let deleted = self.model.users[user].state == State::Deleted;
        if !deleted {
            self.model.users[user].state = state;
        }
        same("state", &is, &if deleted { Err(Refusal::NotFound) } else { Ok(()) })
    }

    fn set_password(&mut self, user: usize) -> Result<(), String> {
        let next = self.model.users[user].password + 1;
        let by = By::operator();
        let is = judged(block_on(self.authority.set_password(&self.subjects[user], password(next), &by, self.now())))?;
        if self.model.users[user].state == State::Deleted {
            return same("password", &is, &Err(Refusal::NotFound));
        }
        self.model.users[user].password = next;
        self.model.revoke(|_, life| life.user == user && life.kind == Kind::Login);
        same("password", &is, &Ok(()))
    }

    /// The instant at which one of the tokens, or of the graces that are open, ends.
    fn an_end(&self, which: u8) -> Option<i64> {
        let grace = |secret: &Secret| match *secret {
            Secret::Retired { until } => Some(until).filter(|until| *until > self.model.now),
            Secret::Current | Secret::TakenBack => None,
        };
        let ends_of =
            |life: &Life| life.end.into_iter().chain(life.secrets.iter().filter_map(grace)).collect::<Vec<_>>();
        let ends: Vec<i64> = self.model.lives.iter().flat_map(ends_of).collect();
        ends.get(usize::from(which).checked_rem(ends.len())?).copied()
    }

    fn go_to(&mut self, to: i64) {
        match u64::try_from(to - self.model.now) {
            Ok(on) => self.clock.advance(Duration::from_millis(on)),
            Err(_) => self.clock.set_wall(Timestamp::from_millis(to)),
        }
        self.model.now = to;
    }
}
