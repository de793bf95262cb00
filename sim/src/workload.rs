//! Whoever uses the nodes: asks, issues, rotates, revokes in every way there is, and hands what comes of it to the checker.

use std::sync::Arc;

use counterfoil_core::authority::{Ending, TokenOrder, WhichClient};
use counterfoil_core::store::TokenFilter;
use counterfoil_core::token::Kind;
use counterfoil_core::{
    Abilities, Authority, By, Clock, Error, Identity, Issued, Refusal, Source, SubjectId, SubjectState,
};

use crate::checker::{BOUND, ClientOf, NewSecret, OrderId, Scope, Verdict};
use crate::kernel::{MILLIS, Micros, Moment, Owner, SECONDS, Slot, lock};
use crate::node::GRACE_SECONDS;
use crate::world::{SUBJECTS, World, subject};

/// Whatever was sent has arrived, or never will.
const UNDER_WAY: Micros = 30 * SECONDS;

/// A way to end tokens.
#[derive(Debug, Clone)]
pub(crate) enum Revoking {
    /// One token, by an operator.
    Token(usize),
    /// Whatever token has this text, by a service.
    Presented(usize),
    /// By whoever holds it.
    Logout(usize),
    LogoutAll(usize),
    LogoutOthers(usize),
    Subject(SubjectId, bool),
    Disable(SubjectId),
    Client(ClientOf),
    /// Every live token of a subject, one by one.
    Matching(SubjectId),
    Everybody,
}

impl World {
    /// The authority of a node, if its process is ready.
    pub(crate) fn authority(&self, node: usize) -> Option<Arc<Authority>> {
        lock(&self.nodes[node].life).authority.clone()
    }

    /// Has somebody do something on a node. A node that is stopped does it later, one that is not there never.
    pub(crate) fn at<F>(self: &Arc<World>, node: usize, work: impl FnOnce(Arc<World>, Arc<Authority>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if let Some(authority) = self.authority(node) {
            self.kernel.spawn(Owner::Node(node), work(Arc::clone(self), authority));
        }
    }

    /// Has a secret checked by a node.
    pub(crate) fn check(self: &Arc<World>, node: usize, secret: usize) {
        let begun = self.kernel.moment();
        self.at(node, |world, authority| async move {
            // Some give up before they are answered.
            let patience =
                if world.chance.permille(30) { world.chance.magnitude(100, 100 * MILLIS) } else { 60 * SECONDS };
            let kernel = Arc::clone(&world.kernel);
            kernel.within(patience, verdict(&world, &authority, node, secret, begun)).await;
        });
    }

    /// Has somebody get a token.
    pub(crate) fn issue(self: &Arc<World>, node: usize, subject: SubjectId, client: ClientOf, kind: Kind) {
        self.at(node, |world, authority| async move {
            issue(&world, &authority, node, subject, client, kind).await;
        });
    }

    pub(crate) fn rotate(self: &Arc<World>, node: usize, secret: usize) {
        self.at(node, |world, authority| async move {
            rotate(&world, &authority, node, secret).await;
        });
    }

    pub(crate) fn revoke(self: &Arc<World>, node: usize, revoking: Revoking) {
        self.at(node, |world, authority| async move {
            let patience =
                if world.chance.permille(30) { world.chance.magnitude(100, 100 * MILLIS) } else { 60 * SECONDS };
            let kernel = Arc::clone(&world.kernel);
            kernel.within(patience, revoke(&world, &authority, node, revoking)).await;
        });
    }
}

/// Asks a node once.
pub(crate) async fn verdict(
    world: &Arc<World>,
    authority: &Authority,
    node: usize,
    at: usize,
    begun: Moment,
) -> Verdict {
    let (text, token, given_up) = {
        let checker = lock(&world.checker);
        let secret = checker.secret(at);
        (Arc::clone(&secret.text), secret.token, secret.given_up)
    };
    // Used too late, it ends its token; used for the first time, a successor ends the one before it.
    let reuse = given_up.then(|| lock(&world.checker).begins(Scope::Token(token), begun));
    let before = lock(&world.checker).secret(at).predecessor();
    let settling = before.map(|before| lock(&world.checker).begins(Scope::Secret(before), begun));
    lock(&world.checker).asks(at);
    let answer = authority.authenticate(&text, &Source::default(), world.clock(node).now()).await;
    lock(&world.checker).answered(at);
    let ended = world.kernel.moment();
    let verdict = verdict_of(&answer);
    world.trace(|| format!("node {node}: secret {at}? {verdict:?}"));
    let mut checker = lock(&world.checker);
    if let Some(reuse) = reuse
        && verdict == Verdict::Yes
    {
        checker.refused(reuse, ended);
    }
    if let Some(order) = settling
        && verdict == Verdict::Yes
    {
        let by = checker.settled(at, node);
        checker.acknowledged(order, ended, by);
    }
    checker.judge(at, node, begun, ended, verdict);
    verdict
}

fn verdict_of(answer: &Result<Identity, Error>) -> Verdict {
    match answer {
        Ok(_) => Verdict::Yes,
        Err(Error::Refused(refusal)) => Verdict::No { expired: *refusal == Refusal::TokenExpired },
        Err(Error::Store(_) | Error::Entropy(_) | Error::Overloaded | Error::Unseal(_) | Error::Hook(_)) => {
            Verdict::Fault
        }
    }
}

/// Has a token issued; where in the list its secret is.
pub(crate) async fn issue(
    world: &Arc<World>,
    authority: &Authority,
    node: usize,
    subject: SubjectId,
    client: ClientOf,
    kind: Kind,
) -> Option<usize> {
    let begun = world.kernel.moment();
    let evicts = client.evicts() && kind == Kind::Login;
    let own = evicts.then(|| lock(&world.checker).begins(Scope::Crowd(subject.clone(), client), begun));
    let order = match kind {
        Kind::Login => TokenOrder::login(subject.clone()),
        Kind::Key => TokenOrder::key(subject.clone(), Abilities::everything()),
    };
    let order = TokenOrder { client: Some(client.name()), ..order };
    let answer = authority.issue(order, &By::operator(), world.clock(node).now()).await;
    let issued = world.kernel.moment();
    if let (Some(own), Ok(_) | Err(Error::Refused(_))) = (own, &answer) {
        lock(&world.checker).refused(own, issued);
    }
    let answer = answer.ok()?;
    let at = hand_out(world, &answer, client, begun, issued, node, own);
    world.trace(|| format!("node {node}: secret {at} is issued to {subject} on {client:?}"));
    Some(at)
}

fn hand_out(
    world: &Arc<World>,
    answer: &Issued,
    client: ClientOf,
    begun: Moment,
    issued: Moment,
    node: usize,
    own: Option<OrderId>,
) -> usize {
    let Issued { token, secret, .. } = answer;
    let known = lock(&world.cluster).primary.truth(&secret.digest(), world.store_time());
    let new = NewSecret {
        text: secret.expose().into(),
        digest: secret.digest(),
        token: token.id,
        subject: token.subject.clone(),
        client,
        kind: token.kind,
        expires_at: token.expires_at,
    };
    lock(&world.checker).issued(new, begun, issued, node, own, known)
}

/// Exchanges a secret; where in the list its successor is.
pub(crate) async fn rotate(world: &Arc<World>, authority: &Authority, node: usize, at: usize) -> Option<usize> {
    let begun = world.kernel.moment();
    let (text, client) = {
        let mut checker = lock(&world.checker);
        let secret = checker.secret(at);
        if secret.given_up || secret.predecessor().is_some() {
            return None; // one way back is enough, and only whoever has used a secret exchanges it
        }
        let kept = (Arc::clone(&secret.text), secret.client);
        checker.gives_up(at, begun);
        kept
    };
    let answer = authority.rotate(&text, &Source::default(), world.clock(node).now()).await;
    let issued = world.kernel.moment();
    let (answer, _) = answer.ok()?;
    let new = hand_out(world, &answer, client, begun, issued, node, None);
    // The grace began by the node's word, at some instant since.
    let until = world.store_time().plus_millis(GRACE_SECONDS * 1_000);
    lock(&world.checker).rotated(at, new, begun, issued, until);
    world.trace(|| format!("node {node}: secret {at} is exchanged for {new}"));
    Some(new)
}

/// Ends something, and has the secrets that it ended asked for from then on. Whether it was acknowledged.
pub(crate) async fn revoke(world: &Arc<World>, authority: &Authority, node: usize, revoking: Revoking) -> bool {
    let source = Source::default();
    let by = By::operator();
    // Who logs out shows the token first.
    let who = match &revoking {
        Revoking::Logout(at) | Revoking::LogoutAll(at) | Revoking::LogoutOthers(at) => {
            let (text, odd) = {
                let checker = lock(&world.checker);
                let secret = checker.secret(*at);
                (Arc::clone(&secret.text), secret.given_up || secret.predecessor().is_some())
            };
            if odd {
                return false; // shown for the first time, or the last: see `verdict`
            }
            lock(&world.checker).asks(*at);
            let who = authority.authenticate(&text, &source, world.clock(node).now()).await;
            lock(&world.checker).answered(*at);
            match who {
                Ok(who) => Some(who),
                Err(_) => return false,
            }
        }
        Revoking::Token(_)
        | Revoking::Presented(_)
        | Revoking::Subject(..)
        | Revoking::Disable(_)
        | Revoking::Client(_)
        | Revoking::Matching(_)
        | Revoking::Everybody => None,
    };
    let begun = world.kernel.moment();
    let scope = lock(&world.checker).scope_of(&revoking);
    let order = lock(&world.checker).begins(scope.clone(), begun);
    let now = world.clock(node).now();
    let answer = match (&revoking, &who) {
        (Revoking::Token(at), _) => {
            let token = lock(&world.checker).secret(*at).token;
            authority.revoke_any(token, &by, now).await
        }
        (Revoking::Presented(at), _) => {
            let text = Arc::clone(&lock(&world.checker).secret(*at).text);
            authority.revoke_presented(&text, &by, now).await
        }
        (Revoking::Logout(_), Some(who)) => authority.logout(who, &source, now).await,
        (Revoking::LogoutAll(_), Some(who)) => authority.logout_all(who, &source, now).await,
        (Revoking::LogoutOthers(_), Some(who)) => authority.logout_others(who, &source, now).await,
        (Revoking::Logout(_) | Revoking::LogoutAll(_) | Revoking::LogoutOthers(_), None) => return false,
        (Revoking::Subject(subject, keys_too), _) => {
            let ending = Ending::Subject { subject: subject.clone(), keys_too: *keys_too };
            authority.end(ending, &by, now).await
        }
        (Revoking::Disable(subject), _) => authority.set_subject_state(subject, SubjectState::Disabled, &by, now).await,
        (Revoking::Client(client), _) => {
            authority.end(Ending::Client(WhichClient::Named(&client.name())), &by, now).await
        }
        (Revoking::Matching(subject), _) => {
            authority.revoke_matching(&TokenFilter::of(subject.clone()), &by, now).await.map(drop)
        }
        (Revoking::Everybody, _) => authority.end(Ending::Everybody, &by, now).await,
    };
    let acked = world.kernel.moment();
    // Of a text that the store has lost, it knows no token to end.
    let unknown = matches!(&revoking, Revoking::Presented(at) if lock(&world.checker).secret(*at).lost);
    match answer {
        Ok(()) if unknown => {
            lock(&world.checker).refused(order, acked);
            return false;
        }
        Ok(()) => {}
        Err(Error::Refused(_)) => {
            lock(&world.checker).refused(order, acked);
            return false;
        }
        Err(_) => {
            world.trace(|| format!("node {node}: {scope:?} is not acknowledged"));
            return false;
        }
    }
    world.trace(|| format!("node {node} acknowledges {scope:?}"));
    let ended = lock(&world.checker).acknowledged(order, acked, node);
    ask_about(world, node, &ended);
    if world.chance.permille(100) {
        let everywhere = authority.everywhere_after_millis() * MILLIS;
        world.kernel.sleep(world.nodes[node].machine.true_micros(everywhere)).await;
        let acked = world.kernel.moment();
        world.trace(|| format!("node {node} acknowledges it for all"));
        lock(&world.checker).acknowledged_everywhere(order, acked, node);
    }
    true
}

/// Has what was ended asked for: here at once, elsewhere as soon as nobody may say yes any more.
fn ask_about(world: &Arc<World>, node: usize, ended: &[usize]) {
    for secret in ended.iter().rev().take(3).copied() {
        world.check(node, secret);
        for other in (0..world.nodes.len()).filter(|other| *other != node) {
            let asking = Arc::clone(world);
            let after = BOUND + world.chance.magnitude(10, 300 * MILLIS);
            world.kernel.after(after, move || asking.check(other, secret));
        }
    }
}

/// Asks all the time, mostly for what is in use.
pub(crate) async fn ask(world: Arc<World>, until: Micros) {
    while world.kernel.now() < until {
        world.kernel.sleep(world.chance.between(0, 24 * MILLIS)).await;
        let node = world.chance.below(world.nodes.len());
        if let Some(secret) = some_secret(&world) {
            world.check(node, secret);
        }
    }
}

/// One of the newest, mostly; of those that were exchanged, few.
fn some_secret(world: &World) -> Option<usize> {
    let range = if world.chance.permille(900) { 16 } else { 120 };
    let checker = lock(&world.checker);
    let least = world.chance.below(range);
    let (at, secret) = checker.secrets().rev().nth(least)?;
    if secret.given_up && world.chance.permille(800) {
        return None;
    }
    Some(at)
}

/// Has tokens made.
pub(crate) async fn issue_all_the_time(world: Arc<World>, until: Micros) {
    while world.kernel.now() < until {
        world.kernel.sleep(world.chance.between(0, 500 * MILLIS)).await;
        let node = world.chance.below(world.nodes.len());
        let client = *world.chance.pick(&ClientOf::ALL);
        let kind = if world.chance.permille(150) { Kind::Key } else { Kind::Login };
        world.issue(node, subject(world.chance.below(SUBJECTS)), client, kind);
    }
}

/// Ends things, and has disabled subjects enabled again.
pub(crate) async fn revoke_all_the_time(world: Arc<World>, until: Micros) {
    while world.kernel.now() < until {
        world.kernel.sleep(world.chance.between(0, 700 * MILLIS)).await;
        let node = world.chance.below(world.nodes.len());
        let Some(secret) = some_secret(&world) else { continue };
        let whose = subject(world.chance.below(SUBJECTS));
        let revoking = match world.chance.below(100) {
            0..25 => Revoking::Token(secret),
            25..35 => Revoking::Presented(secret),
            35..50 => Revoking::Logout(secret),
            50..55 => Revoking::LogoutAll(secret),
            55..60 => Revoking::LogoutOthers(secret),
            60..72 => Revoking::Subject(whose, world.chance.permille(500)),
            72..75 => Revoking::Client(*world.chance.pick(&ClientOf::ALL)),
            75..80 => Revoking::Matching(whose),
            80..82 => Revoking::Everybody,
            _ => {
                world.rotate(node, secret);
                continue;
            }
        };
        world.revoke(node, revoking);
    }
}

/// Disables one subject and enables it again, one order after the other.
pub(crate) async fn disable_all_the_time(world: Arc<World>, until: Micros) {
    while world.kernel.now() < until {
        world.kernel.sleep(world.chance.between(SECONDS, 10 * SECONDS)).await;
        // Nobody else gives orders about this one, so that it is certain which of two was carried out last.
        let whose = subject(SUBJECTS - 1);
        let disabling = whose.clone();
        let disabled = ordered(&world, move |world, authority, node| async move {
            revoke(&world, &authority, node, Revoking::Disable(disabling)).await
        });
        match disabled.await {
            Some(true) => world.kernel.sleep(world.chance.between(0, 3 * SECONDS)).await,
            Some(false) => world.kernel.sleep(UNDER_WAY).await,
            None => return,
        }
        lock(&world.checker).enables(&whose);
        let enabling = whose.clone();
        let enabled = ordered(&world, move |world, authority, node| async move {
            let now = world.clock(node).now();
            authority.set_subject_state(&enabling, SubjectState::Active, &By::operator(), now).await.is_ok()
        });
        match enabled.await {
            Some(true) => {}
            Some(false) => world.kernel.sleep(UNDER_WAY).await,
            None => return,
        }
    }
}

/// What an order to some node came to; `None`: nobody will ever know.
async fn ordered<F>(
    world: &Arc<World>,
    order: impl FnOnce(Arc<World>, Arc<Authority>, usize) -> F + Send,
) -> Option<bool>
where
    F: Future<Output = bool> + Send + 'static,
{
    let node = world.chance.below(world.nodes.len());
    let slot = Slot::new();
    let answer = Arc::clone(&slot);
    world.at(node, |world, authority| {
        let work = order(world, authority, node);
        async move { answer.put(work.await) }
    });
    world.kernel.within(UNDER_WAY, slot.take()).await
}
