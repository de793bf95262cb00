//! How often something may be tried: logins by account and by address, texts that are no tokens, requests to a class of
//! routes.

use std::sync::Arc;

use async_lock::{Mutex, MutexGuard};

use super::Authority;
use crate::account::Credentials;
use crate::actor::Actor;
use crate::attempts::{Limiter, Strangers, counted_as};
use crate::client::ClientName;
use crate::clock::Now;
use crate::event::{Event, Limit};
use crate::refusal::{Error, Refusal};
use crate::subject::SubjectId;
use crate::throttle::{Period, Rate, RouteClass, Throttles};
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

/// What is counted in this process.
#[derive(Debug)]
pub(super) struct Limits {
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
}

/// A try at a password that has been counted as failed, until it is known that it was not.
#[derive(Debug, Clone, Copy)]
pub(super) struct CountedTry {
    /// The tag of the name that was typed.
    name: u64,
    address: u64,
    /// What holds for the address, if it is known.
    per_source: Option<Rate>,
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
            return Ok(CountedTry { name, address, per_source: None, limited });
        }
        let per_source = source.ip.map(|_| per_source);
        if let Some(rate) = per_source
            && let Err(too_many) = self.limits.failed_logins.count(address, rate, now)
        {
            return Err(self.limit_hit(
                Limit::FailedLogins,
                Refusal::LimitHit(Limit::FailedLogins, too_many),
                None,
                source,
                now,
            ));
        }
        let counted = CountedTry { name, address, per_source, limited };
        let subject = candidate.map(|credentials| &credentials.account.subject);
        // Also where there is no account: it has to take as long.
        let judged = self.tokens.count_try(subject, now.wall).await;
        let judged = match (judged, subject) {
            (Ok(_), None) => self.limits.strangers.count_try(name, now.wall),
            (Ok(judged), Some(_)) => judged,
            (Err(error), _) => {
                self.give_back_to_address(counted);
                return Err(error.into());
            }
        };
        match judged {
            Ok(()) => Ok(counted),
            Err(later) => {
                // No password was looked at: whoever keeps asking does not use up what others at this address have.
                self.give_back_to_address(counted);
                Err(Refusal::TooManyAttempts(later).into())
            }
        }
    }

    /// The password was not looked at after all.
    pub(super) async fn give_back(&self, counted: CountedTry, candidate: Option<&Credentials>) -> Result<(), Error> {
        if !counted.limited {
            return Ok(());
        }
        self.give_back_to_address(counted);
        if candidate.is_none() {
            self.limits.strangers.give_back_try(counted.name);
        }
        // Also where there is no account: it has to take as long.
        Ok(self.tokens.give_back_try(candidate.map(|credentials| &credentials.account.subject)).await?)
    }

    /// The password was right. The store forgets the tries of the account as it issues the token.
    pub(super) fn was_right(&self, counted: CountedTry) {
        self.give_back_to_address(counted);
    }

    fn give_back_to_address(&self, CountedTry { address, per_source, .. }: CountedTry) {
        if let Some(rate) = per_source {
            self.limits.failed_logins.give_back(address, rate);
        }
    }

    /// Counts a request to a class of routes: for logins by the address, else by whoever asks.
    ///
    /// # Errors
    /// [`Refusal::LimitHit`].
    pub fn count_request(
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
        self.limits.requests.count(tag, rate, now).map_err(|too_many| {
            let limit = Limit::Requests(class);
            self.limit_hit(limit, Refusal::LimitHit(limit, too_many), who, source, now)
        })
    }

    /// Counts a request to a host's route that has a rate of its own, by subject and client. What is counted under one name
    /// is counted together; what the client's policy allows is counted apart from it.
    ///
    /// # Errors
    /// [`Refusal::LimitHit`], and nothing is counted.
    pub fn count_at_route(
        &self,
        route: &Arc<str>,
        rate: Rate,
        who: &Identity,
        source: &Source,
        now: Now,
    ) -> Result<(), Error> {
        let key = (Arc::clone(route), who.client.clone());
        self.limits.at_routes.count(&who.subject, key, rate, now).map_err(|too_many| {
            self.limit_hit(Limit::Route, Refusal::LimitHit(Limit::Route, too_many), Some(who), source, now)
        })
    }

    /// The same of a request without a token, by the address it came from.
    ///
    /// # Errors
    /// As there.
    pub fn count_stranger_at_route(
        &self,
        route: &Arc<str>,
        rate: Rate,
        source: &Source,
        now: Now,
    ) -> Result<(), Error> {
        let tag = self.tag("route", &[route.as_bytes(), b"\0", &counted_as(source.ip)].concat());
        self.limits.requests.count(tag, rate, now).map_err(|too_many| {
            self.limit_hit(Limit::Route, Refusal::LimitHit(Limit::Route, too_many), None, source, now)
        })
    }

    /// Counts a mail that somebody asks for, under `tag`; `None`: nobody knows under which.
    pub(super) fn count_letter(
        &self,
        limit: Limit,
        tag: Option<u64>,
        rate: Rate,
        source: &Source,
        now: Now,
    ) -> Result<(), Error> {
        let Some(tag) = tag else { return Ok(()) };
        let counted = self.limits.mails.count(tag, rate, now);
        counted.map_err(|too_many| self.limit_hit(limit, Refusal::LimitHit(limit, too_many), None, source, now))
    }

    /// Counts a try at the password of a registration, which has no row to be counted in.
    pub(super) fn count_try_at_registration(&self, subject: &SubjectId, now: Now) -> Result<(), Error> {
        let tag = self.tag("registration", subject.as_str().as_bytes());
        Ok(self.limits.strangers.count_try(tag, now.wall).map_err(Refusal::TooManyAttempts)?)
    }

    /// Whether an address may present another text without a check: each costs a query.
    pub(super) fn judge_misses(&self, source: &Source, now: Now) -> Result<(), Error> {
        let rate = self.chosen().settings.misses;
        self.limits.misses.judge(self.address_tag(source), rate, now).map_err(|too_many| {
            self.limit_hit(Limit::Misses, Refusal::LimitHit(Limit::Misses, too_many), None, source, now)
        })
    }

    /// A text without a check was no token.
    pub(super) fn count_miss(&self, source: &Source, now: Now) {
        let rate = self.chosen().settings.misses;
        // One too many is refused before the next query.
        self.limits.misses.count(self.address_tag(source), rate, now).ok();
    }

    fn limit_hit(&self, limit: Limit, refusal: Refusal, who: Option<&Identity>, source: &Source, now: Now) -> Error {
        self.publish(Event::LimitHit(limit), who.map_or(Actor::Stranger, Actor::from), source, now.wall);
        refusal.into()
    }
}
