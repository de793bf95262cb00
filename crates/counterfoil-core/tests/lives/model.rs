//! What the documentation says becomes of tokens, as plainly as it can be said: no digests, no epochs, no store.

use counterfoil_core::{AtCap, Kind, Policy, Refusal, Reissue, Renewal};

/// A token less than this from its end is renewed by the use itself instead of by the next flush.
const LAST_MOMENTS: i64 = 5_000;
/// How long a rotated secret is still accepted while its successor is unused.
const GRACE: i64 = 30_000;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Model {
    pub(crate) now: i64,
    pub(crate) users: Vec<User>,
    pub(crate) clients: Vec<Rules>,
    pub(crate) lives: Vec<Life>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct User {
    pub(crate) password: u32,
    pub(crate) state: State,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum State {
    Active,
    Disabled,
    Deleted,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rules {
    pub(crate) policy: Policy,
    pub(crate) allow_login: bool,
}

/// One token from issue to whatever ends it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Life {
    pub(crate) kind: Kind,
    pub(crate) user: usize,
    pub(crate) client: usize,
    pub(crate) issued: i64,
    pub(crate) end: Option<i64>,
    pub(crate) revoked: bool,
    /// Its secret can be given out again.
    pub(crate) sealed: bool,
    /// Where its use has slid the end to, if that has not been written yet.
    pub(crate) slides_to: Option<i64>,
    /// Every secret it ever had.
    pub(crate) secrets: Vec<Secret>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Secret {
    Current,
    Retired { until: i64 },
    TakenBack,
}

/// What an order for a token gives.
#[derive(Debug, PartialEq)]
pub(crate) enum Given {
    New,
    Again(usize),
}

/// When a token of this policy ends that was issued then and is renewed now.
pub(crate) fn end_by(policy: &Policy, issued: i64, now: i64) -> Option<i64> {
    let millis = |life: counterfoil_core::Lifetime| i64::try_from(life.seconds()).unwrap() * 1_000;
    let (ttl, most) = (policy.ttl.map(millis), policy.max_lifetime.map(millis));
    [ttl.map(|ttl| now + ttl), most.map(|most| issued + most)].into_iter().flatten().min()
}

impl Life {
    pub(crate) fn live(&self, now: i64) -> bool {
        !self.revoked && self.end.is_none_or(|end| now < end)
    }

    /// The end moves on and never back.
    pub(crate) fn lengthen(&mut self, until: Option<i64>) {
        self.end = self.end.and_then(|end| until.map(|until| until.max(end)));
    }

    /// Someone presents that secret.
    pub(crate) fn present(&mut self, secret: usize, policy: &Policy, state: State, now: i64) -> Result<(), Refusal> {
        match (self.revoked, self.live(now), state) {
            (true, ..) => return Err(Refusal::TokenRevoked),
            (false, false, _) => return Err(Refusal::TokenExpired),
            (false, true, State::Disabled | State::Deleted) => return Err(Refusal::SubjectInactive),
            (false, true, State::Active) => {}
        }
        match self.secrets[secret] {
            Secret::Current => self.end_every_grace(),
            Secret::Retired { until } if now < until => {}
            Secret::Retired { .. } => {
                self.revoked = self.kind == Kind::Login;
                return Err(Refusal::TokenRevoked);
            }
            Secret::TakenBack => return Err(Refusal::TokenRevoked),
        }
        if let (Renewal::OnUse { at_most_every }, Kind::Login, Some(end)) = (policy.renewal, self.kind, self.end)
            && let Some(until) = end_by(policy, self.issued, now)
        {
            let last_moments = end - now < LAST_MOMENTS;
            let often_enough = until - end >= i64::try_from(at_most_every.millis()).unwrap();
            if often_enough || (until > end && last_moments) {
                self.slides_to = self.slides_to.max(Some(until));
                if last_moments {
                    self.lengthen(Some(until));
                }
            }
        }
        Ok(())
    }

    fn end_every_grace(&mut self) {
        for secret in &mut self.secrets {
            if let Secret::Retired { until } = secret {
                *until = i64::MIN;
            }
        }
    }

    /// The secret that was presented just now, with success, is exchanged for another.
    pub(crate) fn rotate(&mut self, presented: usize, sealed: bool, now: i64) {
        let current = self.secrets.iter().position(|secret| *secret == Secret::Current).unwrap();
        self.secrets[current] =
            if presented == current { Secret::Retired { until: now + GRACE } } else { Secret::TakenBack };
        self.secrets.push(Secret::Current);
        self.sealed = sealed;
    }
}

impl Model {
    pub(crate) fn present(&mut self, life: usize, secret: usize) -> Result<(), Refusal> {
        let life = &mut self.lives[life];
        life.present(secret, &self.clients[life.client].policy, self.users[life.user].state, self.now)
    }

    /// Whether presenting it would leave everything as it is.
    pub(crate) fn is_quiet(&self, life: usize, secret: usize) -> bool {
        let life = &self.lives[life];
        let mut after = life.clone();
        after.present(secret, &self.clients[life.client].policy, self.users[life.user].state, self.now).ok();
        after == *life
    }

    /// A token is ordered for `user`; `end` as asked for, or as the policy says.
    pub(crate) fn issue(
        &mut self,
        kind: Kind,
        user: usize,
        client: usize,
        end: Option<Option<i64>>,
    ) -> Result<Given, Refusal> {
        let (now, policy) = (self.now, self.clients[client].policy.clone());
        if self.users[user].state != State::Active {
            return Err(Refusal::SubjectInactive);
        }
        let is_rival =
            |life: &Life| life.kind == Kind::Login && life.user == user && life.client == client && life.live(now);
        let mut ending: Vec<usize> = Vec::new();
        if kind == Kind::Login {
            let rivals: Vec<usize> = (0..self.lives.len()).filter(|&life| is_rival(&self.lives[life])).collect();
            match policy.reissue {
                Reissue::New => {}
                Reissue::Replace => ending.clone_from(&rivals),
                Reissue::Same => {
                    if let Some(&same) = rivals.iter().find(|&&life| self.lives[life].sealed) {
                        return Ok(Given::Again(same));
                    }
                }
            }
            if let Some(cap) = policy.cap {
                let beyond = (rivals.len() + 1 - ending.len()).saturating_sub(cap.limit.get() as usize);
                match cap.at_cap {
                    AtCap::Refuse if beyond > 0 => return Err(Refusal::CapReached { limit: cap.limit.get() }),
                    AtCap::Refuse => {}
                    AtCap::EvictOldest => ending.extend(rivals.into_iter().take(beyond)),
                }
            }
        }
        self.revoke(|number, _| ending.contains(&number));
        self.lives.push(Life {
            kind,
            user,
            client,
            issued: now,
            end: end.unwrap_or(end_by(&policy, now, now)),
            revoked: false,
            sealed: kind == Kind::Login && policy.reissue == Reissue::Same,
            slides_to: None,
            secrets: vec![Secret::Current],
        });
        Ok(Given::New)
    }

    /// Ends every token that is meant, dead ones too: revoked outranks expired.
    pub(crate) fn revoke(&mut self, is_meant: impl Fn(usize, &Life) -> bool) {
        for (number, life) in self.lives.iter_mut().enumerate() {
            life.revoked |= is_meant(number, life);
        }
    }

    /// What uses slid on is written down, where the token still lives.
    pub(crate) fn flush(&mut self) {
        for life in &mut self.lives {
            let until = life.slides_to.take();
            if until.is_some() && life.live(self.now) && self.users[life.user].state == State::Active {
                life.lengthen(until);
            }
        }
    }
}
