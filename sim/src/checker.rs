//! Whoever stands outside, with the one true clock, and writes down what was acknowledged and what was answered: [`Checker`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use counterfoil_core::token::Kind;
use counterfoil_core::{SubjectId, Timestamp, TokenDigest, TokenId};

use crate::database::date;
use crate::kernel::{Micros, Moment, SECONDS};
use crate::workload::Revoking;

/// After a revocation was acknowledged by one node, another may say yes to what begins earlier than this after it.
pub(crate) const BOUND: Micros = SECONDS;

/// An expiry is judged by the date that a store answered with, which is as old as the answer was under way, and goes on by a
/// clock that drifts.
const EXPIRY_WITHIN_MILLIS: u64 = 2_000;

/// What nobody has acknowledged may still be carried out for so long.
const CARRIED_OUT_WITHIN: Micros = 30 * SECONDS;

/// The clients of a run; what each does is in [`crate::world`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientOf {
    Default,
    Capped,
    Replacing,
    Short,
}

/// A text that was handed out.
#[derive(Debug, Clone)]
pub(crate) struct Secret {
    pub(crate) text: Arc<str>,
    pub(crate) digest: TokenDigest,
    pub(crate) token: TokenId,
    pub(crate) subject: SubjectId,
    pub(crate) client: ClientOf,
    pub(crate) kind: Kind,
    /// When it was acknowledged.
    issued: Moment,
    expires_at: Option<Timestamp>,
    /// So many have presented it and were not answered, some of whom have gone.
    asked: u32,
    /// So many have ever presented it.
    presented: u32,
    /// An order was given to exchange it.
    pub(crate) given_up: bool,
    /// The secret before it, where nobody has seen this one used yet.
    successor_of: Option<usize>,
    /// Of a secret that was rotated away: when that was, and until when it is accepted.
    grace: Option<(Moment, Timestamp)>,
    /// Something may have ended it, or may yet: a no is right as well.
    in_doubt: bool,
    /// The store has lost it: nothing is promised of it.
    pub(crate) lost: bool,
    ends: Vec<End>,
}

impl Secret {
    /// The secret before it, where nobody has seen this one used yet.
    pub(crate) fn predecessor(&self) -> Option<usize> {
        self.successor_of
    }
}

/// An acknowledged end of a secret.
#[derive(Debug, Clone)]
struct End {
    acked: Moment,
    node: usize,
    everywhere: bool,
    by_disabling: bool,
}

/// What an order ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// One secret alone: the one before, when its successor is used.
    Secret(usize),
    Token(TokenId),
    /// Login tokens, and keys where that is said; but not this one.
    Subject {
        subject: SubjectId,
        keys_too: bool,
        keep: Option<TokenId>,
    },
    /// Whatever the subject has that is live by the date of the node that was asked.
    Live(SubjectId),
    /// Whatever the subject has, for as long as it is disabled.
    Disabled(SubjectId),
    Client(ClientOf),
    /// Login tokens of one subject on one client, some of them.
    Crowd(SubjectId, ClientOf),
    Everybody,
}

impl Scope {
    fn means(&self, at: usize, secret: &Secret) -> bool {
        match self {
            Scope::Secret(meant) => *meant == at,
            Scope::Token(token) => secret.token == *token,
            Scope::Subject { subject, keys_too, keep } => {
                secret.subject == *subject && (*keys_too || secret.kind == Kind::Login) && *keep != Some(secret.token)
            }
            Scope::Disabled(subject) | Scope::Live(subject) => secret.subject == *subject,
            Scope::Client(client) => secret.client == *client,
            Scope::Crowd(subject, client) => {
                secret.subject == *subject && secret.client == *client && secret.kind == Kind::Login
            }
            Scope::Everybody => true,
        }
    }
}

/// An order that was given.
#[derive(Debug)]
struct Order {
    scope: Scope,
    begun: Moment,
    /// When it was certainly carried out, or certainly not.
    over: Option<Moment>,
}

/// The name of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OrderId(usize);

/// What a node answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Yes,
    /// A refusal, and whether it is one for being too late.
    No {
        expired: bool,
    },
    /// A fault: neither yes nor no.
    Fault,
}

/// What must not be.
#[derive(Debug, Clone)]
pub struct Violation(String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a run came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Revocations that were acknowledged.
    pub revocations: u64,
    /// Requests that were judged.
    pub checks: u64,
    /// Of those, answered with a yes.
    pub yes: u64,
    /// Of those, answered with a fault.
    pub faults: u64,
    /// Times that a node forgot what it knew, because the store told another history.
    pub doubts: u64,
    /// Times that the store lost changes that were acknowledged, or might have been.
    pub rewinds: u64,
}

/// See the module's own words.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    secrets: Vec<Secret>,
    orders: Vec<Order>,
    evicted: BTreeMap<[u8; 16], Vec<TokenId>>,
    rewound: Option<Moment>,
    pub(crate) violations: Vec<Violation>,
    pub(crate) counts: Counts,
}

impl Checker {
    pub(crate) fn secret(&self, at: usize) -> &Secret {
        &self.secrets[at]
    }

    pub(crate) fn secrets(&self) -> impl DoubleEndedIterator<Item = (usize, &Secret)> {
        self.secrets.iter().enumerate().filter(|(_, secret)| !secret.lost)
    }

    /// Somebody is about to order the end of something.
    pub(crate) fn begins(&mut self, scope: Scope, begun: Moment) -> OrderId {
        for (at, secret) in self.secrets.iter_mut().enumerate() {
            if scope.means(at, secret) {
                secret.in_doubt = true;
            }
        }
        self.orders.push(Order { scope, begun, over: None });
        OrderId(self.orders.len() - 1)
    }

    /// The order was refused: nothing came of it and nothing will.
    pub(crate) fn refused(&mut self, order: OrderId, over: Moment) {
        self.orders[order.0].over = Some(over);
    }

    /// The order was acknowledged by `node`.
    /// Returns which secrets that ended.
    pub(crate) fn acknowledged(&mut self, order: OrderId, acked: Moment, node: usize) -> Vec<usize> {
        self.orders[order.0].over = Some(acked);
        self.counts.revocations += 1;
        self.ends(order, acked, node, false)
    }

    /// The order was acknowledged by `node` once more, for all of them.
    pub(crate) fn acknowledged_everywhere(&mut self, order: OrderId, acked: Moment, node: usize) {
        self.ends(order, acked, node, true);
    }

    fn ends(&mut self, order: OrderId, acked: Moment, node: usize, everywhere: bool) -> Vec<usize> {
        let Order { scope, begun, .. } = &self.orders[order.0];
        if self.rewound.is_some_and(|rewound| *begun < rewound) {
            return Vec::new(); // it may be among what was lost
        }
        let by_disabling = matches!(scope, Scope::Disabled(_));
        let live = matches!(scope, Scope::Live(_));
        let late = date(acked.at).plus_millis(EXPIRY_WITHIN_MILLIS);
        let mut ended = Vec::new();
        for (at, secret) in self.secrets.iter_mut().enumerate() {
            // What is about to expire may have done so already by the date of that node.
            let passed_over = live && secret.expires_at.is_some_and(|end| end <= late);
            if scope.means(at, secret) && secret.issued < *begun && !passed_over {
                secret.ends.push(End { acked, node, everywhere, by_disabling });
                ended.push(at);
            }
        }
        ended
    }

    /// The subject is about to be enabled again.
    pub(crate) fn enables(&mut self, subject: &SubjectId) {
        for secret in self.secrets.iter_mut().filter(|secret| secret.subject == *subject) {
            secret.ends.retain(|end| !end.by_disabling);
        }
    }

    /// What the store ended when it issued `token`.
    pub(crate) fn evicts(&mut self, token: TokenId, ended: Vec<TokenId>) {
        if !ended.is_empty() {
            self.evicted.insert(*token.as_bytes(), ended);
        }
    }

    /// A secret was handed out, which may have ended others.
    pub(crate) fn issued(
        &mut self,
        secret: NewSecret,
        begun: Moment,
        issued: Moment,
        node: usize,
        own: Option<OrderId>,
        known: Option<bool>,
    ) -> usize {
        let NewSecret { text, digest, token, subject, client, kind, expires_at } = secret;
        let mut secret = Secret {
            text,
            digest,
            token,
            subject,
            client,
            kind,
            issued,
            expires_at,
            asked: 0,
            presented: 0,
            given_up: false,
            successor_of: None,
            grace: None,
            in_doubt: false,
            lost: false,
            ends: Vec::new(),
        };
        let at = self.secrets.len();
        let lasts = |order: &Order| match order.over {
            Some(over) => over > begun,
            None => order.begun.at + CARRIED_OUT_WITHIN > begun.at,
        };
        let rewound = self.rewound.is_some_and(|rewound| begun < rewound);
        // Orders are given in order: one from long ago is over.
        let recent = self.orders.iter().enumerate().rev();
        let mut recent = recent.take_while(|(_, order)| order.begun.at + 2 * CARRIED_OUT_WITHIN > begun.at);
        secret.in_doubt = rewound
            || recent.any(|(id, order)| Some(OrderId(id)) != own && lasts(order) && order.scope.means(at, &secret));
        secret.lost = rewound && known.is_none();
        self.secrets.push(secret);
        let ended = self.evicted.remove(token.as_bytes()).unwrap_or_default();
        if !rewound && !ended.is_empty() {
            self.counts.revocations += 1;
            for other in self.secrets.iter_mut().filter(|other| ended.contains(&other.token)) {
                other.in_doubt = true;
                other.ends.push(End { acked: issued, node, everywhere: false, by_disabling: false });
            }
        }
        at
    }

    /// A secret is about to be exchanged.
    pub(crate) fn gives_up(&mut self, at: usize, begun: Moment) {
        self.secrets[at].given_up = true;
        self.secrets[at].in_doubt = true;
        if self.secrets[at].asked > 0 {
            // Who asked before may be heard after its grace, which ends the token.
            self.begins(Scope::Token(self.secrets[at].token), begun);
        }
    }

    /// Somebody presents a secret.
    pub(crate) fn asks(&mut self, at: usize) {
        self.secrets[at].asked += 1;
        self.secrets[at].presented += 1;
    }

    /// Who presented it was answered.
    pub(crate) fn answered(&mut self, at: usize) {
        self.secrets[at].asked -= 1;
    }

    /// A secret was exchanged for another one.
    pub(crate) fn rotated(&mut self, old: usize, new: usize, begun: Moment, at: Moment, grace_until: Timestamp) {
        if self.rewound.is_some_and(|rewound| begun < rewound) {
            return; // it may be among what was lost
        }
        self.secrets[old].grace = Some((at, grace_until));
        self.secrets[new].successor_of = Some(old);
    }

    /// Somebody has seen a successor used on `node`. Who that acknowledges the end of the secret before it: that node, where nobody
    /// else has presented it, or else one of those who have, whoever was first.
    pub(crate) fn settled(&mut self, at: usize, node: usize) -> usize {
        self.secrets[at].successor_of = None;
        if self.secrets[at].presented == 1 { node } else { usize::MAX }
    }

    /// What an order ends.
    pub(crate) fn scope_of(&self, revoking: &Revoking) -> Scope {
        let of = |at: &usize| &self.secrets[*at];
        let subject = |at: &usize, keep: Option<TokenId>| Scope::Subject {
            subject: of(at).subject.clone(),
            keys_too: false,
            keep,
        };
        match revoking {
            Revoking::Token(at) | Revoking::Presented(at) | Revoking::Logout(at) => Scope::Token(of(at).token),
            Revoking::LogoutAll(at) => subject(at, None),
            Revoking::LogoutOthers(at) => subject(at, Some(of(at).token)),
            Revoking::Subject(subject, keys_too) => {
                Scope::Subject { subject: subject.clone(), keys_too: *keys_too, keep: None }
            }
            Revoking::Matching(subject) => Scope::Live(subject.clone()),
            Revoking::Disable(subject) => Scope::Disabled(subject.clone()),
            Revoking::Client(client) => Scope::Client(*client),
            Revoking::Everybody => Scope::Everybody,
        }
    }

    /// The store holds what it held at `since`, and nothing of what came after; `truth` says what it knows.
    pub(crate) fn rewound(&mut self, since: Moment, now: Moment, truth: impl Fn(&TokenDigest) -> Option<bool>) {
        self.rewound = Some(now);
        self.counts.rewinds += 1;
        for secret in &mut self.secrets {
            secret.in_doubt = true;
            secret.ends.retain(|end| end.acked < since);
            secret.grace = secret.grace.filter(|(at, _)| *at < since);
            secret.lost |= truth(&secret.digest).is_none();
        }
    }

    pub(crate) fn has_rewound_since(&self, since: Moment) -> bool {
        self.rewound.is_some_and(|rewound| rewound > since)
    }

    /// Judges an answer.
    pub(crate) fn judge(&mut self, at: usize, node: usize, begun: Moment, ended: Moment, verdict: Verdict) {
        self.counts.checks += 1;
        let secret = &self.secrets[at];
        if secret.lost {
            return;
        }
        match verdict {
            Verdict::Yes => {
                self.counts.yes += 1;
                let late = |end: &&End| match end.node == node || end.everywhere {
                    true => begun > end.acked,
                    false => begun.at >= end.acked.at + BOUND,
                };
                if let Some(end) = secret.ends.iter().find(late) {
                    let after = begun.at - end.acked.at;
                    let (elsewhere, everywhere) =
                        (end.node, if end.everywhere { ", which waited for all" } else { "" });
                    self.violations.push(Violation(format!(
                        "node {node} said yes to secret {at} in a request that began {}.{:03} ms after its end was \
                         acknowledged by node {elsewhere}{everywhere}",
                        after / 1_000,
                        after % 1_000
                    )));
                }
                let until = [secret.expires_at, secret.grace.map(|(_, until)| until)].into_iter().flatten().min();
                if let Some(until) = until
                    && date(begun.at) >= until.plus_millis(EXPIRY_WITHIN_MILLIS)
                {
                    let late = date(begun.at).millis_since(until);
                    let text = format!("node {node} said yes to secret {at} {late} ms after it had expired");
                    self.violations.push(Violation(text));
                }
            }
            Verdict::No { expired } => {
                let until = [secret.expires_at, secret.grace.map(|(_, until)| until)].into_iter().flatten().min();
                let dead = until.is_some_and(|until| date(ended.at).plus_millis(EXPIRY_WITHIN_MILLIS) >= until);
                if !dead && (expired || !secret.in_doubt) {
                    let why = if expired { "for being too late" } else { "for good" };
                    let text =
                        format!("node {node} refused secret {at} {why}, which is live ({} to {})", begun.at, ended.at);
                    self.violations.push(Violation(text));
                }
            }
            Verdict::Fault => self.counts.faults += 1,
        }
    }

    pub(crate) fn complain(&mut self, text: String) {
        self.violations.push(Violation(text));
    }
}

/// What is known of a secret when it is handed out.
#[derive(Debug)]
pub(crate) struct NewSecret {
    pub(crate) text: Arc<str>,
    pub(crate) digest: TokenDigest,
    pub(crate) token: TokenId,
    pub(crate) subject: SubjectId,
    pub(crate) client: ClientOf,
    pub(crate) kind: Kind,
    pub(crate) expires_at: Option<Timestamp>,
}
