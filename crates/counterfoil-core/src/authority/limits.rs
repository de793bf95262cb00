//! How often something may be tried: logins by account and by address, texts that are no tokens, requests to a class of
//! routes. What is counted here in memory is counted by all nodes together where they share their limits.

use std::sync::Arc;

use async_lock::{Mutex, MutexGuard};

use super::Authority;
use crate::account::Credentials;
use crate::actor::Actor;
use crate::attempts::{Limiter, Strangers, TryLater, counted_as};
use crate::client::{ClientId, ClientName};
use crate::clock::Now;
use crate::event::{Event, Limit};
use crate::refusal::{Error, Refusal};
use crate::shared_limits::{CountKey, Question, SharedCount, SharedLimits, Step, Verdict};
use crate::subject::SubjectId;
use crate::throttle::{Period, Rate, RouteClass, Throttles, TooMany};
use crate::token::{Identity, Source};

/// How many logins may fail. For an account the numbers are fixed: see [`crate::attempts::Tries`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedLogins {
    /// How many from one address, whatever the name. 100/h, as a schedule: a hundred at once and then one every 36 s. Offices
    /// share an address, and a guesser with one has more than a year to go for a million guesses. Where no address is known
    /// there is no such limit, or one guesser would shut out everybody; that of each account holds.
    pub per_source: Rate,
    limited: bool,
}

impl Default for FailedLogins {
    fn default() -> Self {
        FailedLogins::per_source(Rate::per(100, Period::Hour))
    }
}

impl FailedLogins {
    /// So many from one address.
    pub const fn per_source(rate: Rate) -> FailedLogins {
        FailedLogins { per_source: rate, limited: true }
    }

    /// Any number, by account and by address. For measuring what a login costs; never for serving.
    pub const fn insecure_unlimited_for_tests() -> FailedLogins {
        FailedLogins { per_source: Rate::per(1, Period::Second), limited: false }
    }
}

/// Logins by one name take turns, so that several at once that are all going to be right are not counted as so many
/// failures. So many names have turns of their own; two that meet only wait for each other.
const TURNS: usize = 256;

/// What is counted in this process, and where all nodes count together.
#[derive(Debug)]
pub(super) struct Limits {
    shared: Option<Arc<dyn SharedLimits>>,
    strangers: Strangers,
    failed_logins: Limiter,
    misses: Limiter,
    requests: Limiter,
    mails: Limiter,
    /// By the name of the route and the client.
    at_routes: Throttles<(Arc<str>, ClientName)>,
    turns: [Mutex<()>; TURNS],
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            shared: None,
            strangers: Strangers::default(),
            failed_logins: Limiter::default(),
            misses: Limiter::default(),
            requests: Limiter::default(),
            mails: Limiter::default(),
            at_routes: Throttles::default(),
            turns: std::array::from_fn(|_| Mutex::new(())),
        }
    }
}

impl Limits {
    pub(super) fn forget_idle(&self, now: Now) {
        for limiter in [&self.failed_logins, &self.misses, &self.requests, &self.mails] {
            limiter.forget_idle(now);
        }
        self.at_routes.forget_idle(now);
    }

    pub(super) async fn turn(&self, name: u64) -> MutexGuard<'_, ()> {
        self.turns[(name % TURNS as u64) as usize].lock().await
    }

    pub(super) fn share(&mut self, shared: Arc<dyn SharedLimits>) {
        self.shared = Some(shared);
    }

    /// Whether counts are shared, so that a request has to wait for them.
    pub(super) fn are_shared(&self) -> bool {
        self.shared.is_some()
    }

    fn of(&self, counted: Counted) -> &Limiter {
        match counted {
            Counted::FailedLogins => &self.failed_logins,
            Counted::Misses => &self.misses,
            Counted::Requests => &self.requests,
            Counted::Mails => &self.mails,
        }
    }
}

/// What a [`Limiter`] is for.
#[derive(Debug, Clone, Copy)]
enum Counted {
    FailedLogins,
    Misses,
    Requests,
    Mails,
}

impl Counted {
    /// Keeps shared counts of the same address apart.
    const fn as_str(self) -> &'static str {
        match self {
            Counted::FailedLogins => "failed logins",
            Counted::Misses => "misses",
            Counted::Requests => "requests",
            Counted::Mails => "mails",
        }
    }
}

/// What the shared counts say.
#[derive(Debug, Clone, Copy)]
enum Together {
    /// Nobody knows: what this node has counted decides.
    Unknown,
    Pass,
    /// For so many nanoseconds.
    Wait(u64),
}

/// Where something was counted that may be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CountedAt {
    ThisNode,
    EveryNode,
}

/// A try at a password that has been counted as failed, until it is known that it was not.
#[derive(Debug, Clone, Copy)]
pub(super) struct CountedTry {
    /// The tag of the name that was typed.
    name: u64,
    address: u64,
    /// What holds for the address, if it is known, and where it was counted.
    per_source: Option<(Rate, CountedAt)>,
    /// Where the try at the name was counted.
    stranger: CountedAt,
    /// Whether anything was counted.
    limited: bool,
}

impl Authority {
    /// The tag of a name or an address: it goes into tables of a fixed size, so nobody may be able to choose where.
    pub(super) fn tag(&self, purpose: &str, text: &[u8]) -> u64 {
        self.format.newest_key().tag(purpose, text)
    }

    pub(super) fn address_tag(&self, source: &Source) -> u64 {
        self.tag("address", &counted_as(source.ip))
    }

    /// Counts a try at the password behind a name, before it is looked at. The account has one count, whatever it is called
    /// by and whichever door is tried; a name that nobody has is refused like one, from memory.
    pub(super) async fn count_try(
        &self,
        name: u64,
        candidate: Option<&Credentials>,
        source: &Source,
        now: Now,
    ) -> Result<CountedTry, Error> {
        let FailedLogins { per_source, limited } = self.chosen().settings.failed_logins;
        let address = self.address_tag(source);
        if !limited {
            return Ok(CountedTry { name, address, per_source: None, stranger: CountedAt::ThisNode, limited });
        }
        let per_source = match source.ip {
            None => None,
            Some(_) => match self.count(Counted::FailedLogins, address, per_source, now).await {
                Ok(counted_at) => Some((per_source, counted_at)),
                Err(too_many) => {
                    let refusal = Refusal::LimitHit(Limit::FailedLogins, too_many);
                    return Err(self.limit_hit(Limit::FailedLogins, refusal, None, source, now));
                }
            },
        };
        let mut counted = CountedTry { name, address, per_source, stranger: CountedAt::ThisNode, limited };
        let subject = candidate.map(|credentials| &credentials.account.subject);
        // Also where there is no account: it has to take as long.
        let judged = match self.tokens.count_try(subject, now.wall).await {
            Ok(judged) => judged,
            Err(error) => {
                self.give_back_to_address(counted, now).await;
                return Err(error.into());
            }
        };
        let here = match subject {
            Some(_) => judged,
            None => self.limits.strangers.count_try(name, now.wall),
        };
        // Also where there is an account, whose count is in the store and is the one that holds: it has to take as long.
        let together = self.try_together(name, if here.is_ok() { Step::Take } else { Step::Judge }, now).await;
        let judged = match (subject, together) {
            (None, Together::Wait(nanos)) if here.is_ok() => {
                self.limits.strangers.give_back_try(name);
                Err(TryLater { seconds: nanos.div_ceil(1_000_000_000).max(1) })
            }
            (_, Together::Pass) => {
                counted.stranger = CountedAt::EveryNode;
                here
            }
            (_, Together::Unknown | Together::Wait(_)) => here,
        };
        match judged {
            Ok(()) => Ok(counted),
            Err(later) => {
                // No password was looked at: whoever keeps asking does not use up what others at this address have.
                self.give_back_to_address(counted, now).await;
                Err(Refusal::TooManyAttempts(later).into())
            }
        }
    }

    async fn try_together(&self, name: u64, step: Step, now: Now) -> Together {
        self.together("strangers", name, SharedCount::Tries(step), now).await
    }

    /// What all nodes have counted together. Nonsense is no answer.
    async fn together(&self, of: &str, tag: u64, count: SharedCount, now: Now) -> Together {
        let Some(shared) = &self.limits.shared else { return Together::Unknown };
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.tag(of, &[&tag.to_be_bytes()[..], b"0"].concat()).to_be_bytes());
        key[8..].copy_from_slice(&self.tag(of, &[&tag.to_be_bytes()[..], b"1"].concat()).to_be_bytes());
        let question = Question { key: CountKey::from_bytes(key), count, at: now.wall };
        match shared.ask(question).await {
            Ok(Verdict::Pass) => Together::Pass,
            Ok(verdict @ Verdict::Wait(nanos)) if question.fits(verdict) => Together::Wait(nanos),
            Ok(Verdict::Wait(_)) | Err(_) => Together::Unknown,
        }
    }

    /// Counts one of `tag`, if all nodes together let it through, and this one by itself.
    async fn count(&self, counted: Counted, tag: u64, rate: Rate, now: Now) -> Result<CountedAt, TooMany> {
        self.limits.of(counted).count(tag, rate, now)?;
        match self.together(counted.as_str(), tag, SharedCount::Schedule(rate, Step::Take), now).await {
            Together::Unknown => Ok(CountedAt::ThisNode),
            Together::Pass => Ok(CountedAt::EveryNode),
            Together::Wait(nanos) => {
                self.limits.of(counted).give_back(tag, rate);
                Err(TooMany::after(rate, nanos))
            }
        }
    }

    /// Whether one more request of whoever is named is let through by all nodes together; this one has counted it.
    async fn log_together(&self, of: &str, named: &[&[u8]], rate: Rate, now: Now) -> Result<(), TooMany> {
        let (count, rate_too) = match rate.counts_one_by_one() {
            true => (SharedCount::Log(rate), String::new()),
            // As here: a schedule under another rate begins anew.
            false => (SharedCount::Schedule(rate, Step::Take), rate.to_string()),
        };
        let tag = self.tag(of, &[&named.concat()[..], b"\0", rate_too.as_bytes()].concat());
        match self.together(of, tag, count, now).await {
            Together::Unknown | Together::Pass => Ok(()),
            Together::Wait(nanos) => Err(TooMany::after(rate, nanos)),
        }
    }

    /// Counts a request against the throttle of a client.
    pub(super) async fn count_at_client(
        &self,
        subject: &SubjectId,
        client: ClientId,
        rate: Rate,
        now: Now,
    ) -> Result<(), TooMany> {
        self.throttles.count(subject, client, rate, now)?;
        if !self.limits.are_shared() {
            return Ok(());
        }
        let named: [&[u8]; 2] = [client.as_bytes(), subject.as_str().as_bytes()];
        let together = self.log_together("throttle", &named, rate, now).await;
        if together.is_err() {
            self.throttles.give_back(subject, client, rate, now);
        }
        together
    }

    /// The password was not looked at after all.
    pub(super) async fn give_back(
        &self,
        counted: CountedTry,
        candidate: Option<&Credentials>,
        now: Now,
    ) -> Result<(), Error> {
        if !counted.limited {
            return Ok(());
        }
        self.give_back_to_address(counted, now).await;
        if candidate.is_none() {
            self.limits.strangers.give_back_try(counted.name);
        }
        match counted.stranger {
            CountedAt::EveryNode => _ = self.try_together(counted.name, Step::GiveBack, now).await,
            CountedAt::ThisNode => {}
        }
        // Also where there is no account: it has to take as long.
        Ok(self.tokens.give_back_try(candidate.map(|credentials| &credentials.account.subject)).await?)
    }

    /// The password was right. The store forgets the tries of the account as it issues the token.
    pub(super) async fn was_right(&self, counted: CountedTry, now: Now) {
        self.give_back_to_address(counted, now).await;
    }

    async fn give_back_to_address(&self, CountedTry { address, per_source, .. }: CountedTry, now: Now) {
        let Some((rate, counted_at)) = per_source else { return };
        self.limits.failed_logins.give_back(address, rate);
        match counted_at {
            CountedAt::EveryNode => {
                let count = SharedCount::Schedule(rate, Step::GiveBack);
                self.together(Counted::FailedLogins.as_str(), address, count, now).await;
            }
            CountedAt::ThisNode => {}
        }
    }

    /// Counts a request to a class of routes: for logins by the address, else by whoever asks.
    ///
    /// # Errors
    /// [`Refusal::LimitHit`].
    pub async fn count_request(
        &self,
        class: RouteClass,
        who: Option<&Identity>,
        source: &Source,
        now: Now,
    ) -> Result<(), Error> {
        let Some(rate) = self.chosen().settings.requests.of(class) else { return Ok(()) };
        let tag = match (class, who) {
            (RouteClass::Login, _) | (_, None) => self.address_tag(source),
            (RouteClass::Api, Some(who)) => {
                self.tag("api", &[who.client.as_str().as_bytes(), b"\0", who.subject.as_str().as_bytes()].concat())
            }
            (RouteClass::Introspection, Some(who)) => self.tag("service", who.id.as_bytes()),
        };
        match self.count(Counted::Requests, tag, rate, now).await {
            Ok(_) => Ok(()),
            Err(too_many) => {
                let limit = Limit::Requests(class);
                Err(self.limit_hit(limit, Refusal::LimitHit(limit, too_many), who, source, now))
            }
        }
    }

    /// Counts a request to a host's route that has a rate of its own, by subject and client. What is counted under one name
    /// is counted together; what the client's policy allows is counted apart from it.
    ///
    /// # Errors
    /// [`Refusal::LimitHit`], and nothing is counted.
    pub async fn count_at_route(
        &self,
        route: &Arc<str>,
        rate: Rate,
        who: &Identity,
        source: &Source,
        now: Now,
    ) -> Result<(), Error> {
        let key = || (Arc::clone(route), who.client.clone());
        let mut counted = self.limits.at_routes.count(&who.subject, key(), rate, now);
        if counted.is_ok() && self.limits.are_shared() {
            let named =
                [route.as_bytes(), b"\0", who.client.as_str().as_bytes(), b"\0", who.subject.as_str().as_bytes()];
            counted = self.log_together("at a route", &named, rate, now).await;
            if counted.is_err() {
                self.limits.at_routes.give_back(&who.subject, key(), rate, now);
            }
        }
        counted.map_err(|too_many| {
            self.limit_hit(Limit::Route, Refusal::LimitHit(Limit::Route, too_many), Some(who), source, now)
        })
    }

    /// As [`Authority::count_at_route`], as far as it can be said at once. `None`: all nodes count together, and nothing has been
    /// counted.
    ///
    /// # Errors
    /// As there.
    pub fn try_count_at_route(
        &self,
        route: &Arc<str>,
        rate: Rate,
        who: &Identity,
        source: &Source,
        now: Now,
    ) -> Option<Result<(), Error>> {
        if self.limits.are_shared() {
            return None;
        }
        let counted = self.limits.at_routes.count(&who.subject, (Arc::clone(route), who.client.clone()), rate, now);
        Some(counted.map_err(|too_many| {
            self.limit_hit(Limit::Route, Refusal::LimitHit(Limit::Route, too_many), Some(who), source, now)
        }))
    }

    /// As [`Authority::count_at_route`], of a request without a token, by the address it came from.
    ///
    /// # Errors
    /// As there.
    pub async fn count_stranger_at_route(
        &self,
        route: &Arc<str>,
        rate: Rate,
        source: &Source,
        now: Now,
    ) -> Result<(), Error> {
        let tag = self.tag("route", &[route.as_bytes(), b"\0", &counted_as(source.ip)].concat());
        match self.count(Counted::Requests, tag, rate, now).await {
            Ok(_) => Ok(()),
            Err(too_many) => {
                let refusal = Refusal::LimitHit(Limit::Route, too_many);
                Err(self.limit_hit(Limit::Route, refusal, None, source, now))
            }
        }
    }

    /// Counts a mail that somebody asks for, under `tag`; `None`: nobody knows under which.
    pub(super) async fn count_letter(
        &self,
        limit: Limit,
        tag: Option<u64>,
        rate: Rate,
        source: &Source,
        now: Now,
    ) -> Result<(), Error> {
        let Some(tag) = tag else { return Ok(()) };
        match self.count(Counted::Mails, tag, rate, now).await {
            Ok(_) => Ok(()),
            Err(too_many) => Err(self.limit_hit(limit, Refusal::LimitHit(limit, too_many), None, source, now)),
        }
    }

    /// Counts a try at the password of a registration, which has no row to be counted in.
    pub(super) async fn count_try_at_registration(&self, subject: &SubjectId, now: Now) -> Result<(), Error> {
        let tag = self.tag("registration", subject.as_str().as_bytes());
        self.limits.strangers.count_try(tag, now.wall).map_err(Refusal::TooManyAttempts)?;
        match self.try_together(tag, Step::Take, now).await {
            Together::Unknown | Together::Pass => Ok(()),
            Together::Wait(nanos) => {
                self.limits.strangers.give_back_try(tag);
                let later = TryLater { seconds: nanos.div_ceil(1_000_000_000).max(1) };
                Err(Refusal::TooManyAttempts(later).into())
            }
        }
    }

    /// Whether an address may present another text without a check: each costs a query.
    pub(super) async fn judge_misses(&self, source: &Source, now: Now) -> Result<(), Error> {
        let (rate, tag) = (self.chosen().settings.misses, self.address_tag(source));
        let judged = match self.limits.misses.judge(tag, rate, now) {
            Ok(()) => {
                let count = SharedCount::Schedule(rate, Step::Judge);
                match self.together(Counted::Misses.as_str(), tag, count, now).await {
                    Together::Unknown | Together::Pass => Ok(()),
                    Together::Wait(nanos) => Err(TooMany::after(rate, nanos)),
                }
            }
            Err(too_many) => Err(too_many),
        };
        judged.map_err(|too_many| {
            self.limit_hit(Limit::Misses, Refusal::LimitHit(Limit::Misses, too_many), None, source, now)
        })
    }

    /// A text without a check was no token.
    pub(super) async fn count_miss(&self, source: &Source, now: Now) {
        let rate = self.chosen().settings.misses;
        // One too many is refused before the next query.
        self.count(Counted::Misses, self.address_tag(source), rate, now).await.ok();
    }

    fn limit_hit(&self, limit: Limit, refusal: Refusal, who: Option<&Identity>, source: &Source, now: Now) -> Error {
        self.publish(Event::LimitHit(limit), who.map_or(Actor::Stranger, Actor::from), source, now.wall);
        refusal.into()
    }
}
