//! Is this text a live token, and whose?

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Authority;
use crate::ability::Ability;
use crate::actor::Actor;
use crate::cache::Hit;
use crate::client::{ClientId, RENEW_AT_ONCE_MILLIS};
use crate::clock::Now;
use crate::event::{Event, RevokedBy, TokenRef};
use crate::hashing::{CheckTask, Overloaded};
use crate::password::{EncodedPassword, Password, Verdict};
use crate::refusal::{Error, Refusal};
use crate::secret::{Candidates, DigestScheme, TokenDigest, djforge_halves};
use crate::store::{Found, Presented, Touch};
use crate::subject::{SubjectId, SubjectState};
use crate::throttle::{Rate, TooMany};
use crate::token::{Identity, Kind, Sighting, Source, Standing, TokenId};

/// A text that was presented.
#[derive(Debug)]
pub(super) struct Presentation {
    pub(super) candidates: Candidates,
    /// What else it takes where it was not issued here.
    elsewhere: Option<Elsewhere>,
}

#[derive(Debug)]
struct Elsewhere {
    /// The digest that shall be kept of it.
    plain: TokenDigest,
    /// The secret and the hash of it, in one of djforge's.
    djforge: Option<(Password, EncodedPassword)>,
}

impl Elsewhere {
    fn of(text: &str) -> Elsewhere {
        let halves = djforge_halves(text);
        let djforge =
            halves.and_then(|(secret, hash)| Some((Password::new(secret).ok()?, EncodedPassword::from_store(hash))));
        Elsewhere { plain: TokenDigest::of_text(text), djforge }
    }
}

/// Whether the use of a token counts against the throttle of its client.
#[derive(Debug, Clone, Copy)]
pub(super) enum Counting {
    Always,
    /// But for this token: the request has counted already.
    But(TokenId),
    Never,
}

impl Counting {
    pub(super) fn but(counted: Option<TokenId>) -> Counting {
        counted.map_or(Counting::Always, Counting::But)
    }

    fn includes(self, token: TokenId) -> bool {
        match self {
            Counting::Always => true,
            Counting::But(counted) => counted != token,
            Counting::Never => false,
        }
    }
}

impl Authority {
    /// Who presents `text`, if it is a live token at `now`.
    ///
    /// A text that was never issued is refused by its check, without asking the store. The first use after a rotation ends
    /// the grace of the secret before it; a secret given up for good ends its login token, because someone kept a copy.
    ///
    /// # Errors
    /// [`Refusal::TokenUnknown`], [`Refusal::TokenExpired`], [`Refusal::TokenRevoked`] or [`Refusal::SubjectInactive`];
    /// [`Refusal::Throttled`] for a live token whose subject has been here too often, counted in this process or by all nodes
    /// together, see [`Authority::with_shared_limits`];
    /// [`Refusal::LimitHit`] for an address whose texts were no tokens too often;
    /// [`Error::Store`] when the store cannot say, which is never a yes.
    pub fn authenticate<'a>(&'a self, text: &str, source: &'a Source, now: Now) -> Authenticating<'a> {
        self.authenticate_counted(text, source, now, None)
    }

    /// As [`Authority::authenticate`], for a request that was judged before and is judged again, such as when its body is
    /// there: it does not count against the throttle of the token `counted`, because it has already.
    ///
    /// # Errors
    /// As there.
    pub fn authenticate_counted<'a>(
        &'a self,
        text: &str,
        source: &'a Source,
        now: Now,
        counted: Option<TokenId>,
    ) -> Authenticating<'a> {
        self.authenticating(text, source, now, Counting::but(counted))
    }

    /// As [`Authority::authenticate`], without the throttle of the token's client: for dialects, which ask for it at those views that
    /// have one, with [`Authority::count_at_throttle`].
    ///
    /// # Errors
    /// As there, but never [`Refusal::Throttled`].
    pub fn authenticate_unthrottled<'a>(&'a self, text: &str, source: &'a Source, now: Now) -> Authenticating<'a> {
        self.authenticating(text, source, now, Counting::Never)
    }

    fn authenticating<'a>(
        &'a self,
        text: &str,
        source: &'a Source,
        now: Now,
        counting: Counting,
    ) -> Authenticating<'a> {
        let state = match self.candidates(text) {
            Err(_) => State::Unknown,
            Ok(presentation) => match self.recall_any(&presentation.candidates, source, now, counting) {
                Recalled::Known(known) => State::Known(Some(known)),
                Recalled::Throttled(hit, rate) => State::LookUp(Box::pin(self.count_hit(hit, rate, source, now))),
                Recalled::Unknown => State::LookUp(Box::pin(self.look_up(presentation, source, now, counting))),
            },
        };
        Authenticating { state }
    }

    /// As [`Authority::authenticate`], as far as it can be said at once: without waiting, without a store, without an
    /// allocation. `None`: [`Authority::authenticate`] has to be asked, because the store is to say, or the counts that all nodes
    /// share.
    ///
    /// # Errors
    /// As [`Authority::authenticate`], never [`Error::Store`].
    pub fn try_cached(&self, text: &str, source: &Source, now: Now) -> Option<Result<Identity, Error>> {
        let recalled = match self.format.read(text) {
            None => return Some(Err(Refusal::TokenUnknown.into())),
            Some(Candidates::Native(digest)) => {
                self.recall(DigestScheme::Native, &digest, source, now, Counting::Always)
            }
            Some(candidates) => self.recall_any(&candidates, source, now, Counting::Always),
        };
        match recalled {
            Recalled::Known(known) => Some(known),
            Recalled::Throttled(..) | Recalled::Unknown => None,
        }
    }

    /// What the cache says of any of them.
    fn recall_any(&self, candidates: &Candidates, source: &Source, now: Now, counting: Counting) -> Recalled {
        match candidates {
            Candidates::Native(digest) => self.recall(DigestScheme::Native, digest, source, now, counting),
            Candidates::Imported(digests) => {
                // The digest of a djforge token says nothing of its secret: nothing is known under it.
                for (scheme, digest) in digests.iter().filter(|(scheme, _)| *scheme != DigestScheme::Djforge) {
                    match self.recall(*scheme, digest, source, now, counting) {
                        Recalled::Unknown => {}
                        known @ (Recalled::Known(_) | Recalled::Throttled(..)) => return known,
                    }
                }
                Recalled::Unknown
            }
        }
    }

    /// What the cache says.
    fn recall(
        &self,
        scheme: DigestScheme,
        digest: &TokenDigest,
        source: &Source,
        now: Now,
        counting: Counting,
    ) -> Recalled {
        let hit = self.cache.as_deref().and_then(|cache| cache.get(scheme, digest, source.ip, now));
        let Some(hit) = hit else { return Recalled::Unknown };
        if let Some(rate) = hit.throttle
            && counting.includes(hit.identity.id)
        {
            if self.limits.are_shared() {
                // Now, because the cache says of the first look alone that it is worth noting.
                self.note_hit(&hit, source, now);
                return Recalled::Throttled(hit, rate);
            }
            if let Err(too_many) = self.throttles.count(&hit.identity.subject, hit.client, rate, now) {
                return Recalled::Known(Err(self.throttled(too_many, (&hit.identity).into(), source, now).into()));
            }
        }
        self.note_hit(&hit, source, now);
        Recalled::Known(Ok(hit.identity))
    }

    fn note_hit(&self, hit: &Hit, source: &Source, now: Now) {
        if hit.worth_noting {
            let seen = Sighting { at: now.wall, source: source.clone() };
            self.marks.note(Touch { id: hit.identity.id, seen, renew_until: None });
        }
    }

    async fn count_hit(&self, hit: Hit, rate: Rate, source: &Source, now: Now) -> Result<Identity, Error> {
        let Hit { identity, client, .. } = hit;
        self.count_use(&identity.subject, client, rate, || (&identity).into(), source, now).await?;
        Ok(identity)
    }

    async fn look_up(
        &self,
        presentation: Presentation,
        source: &Source,
        now: Now,
        counting: Counting,
    ) -> Result<Identity, Error> {
        let found = self.admit(presentation, source, now, counting).await?;
        Ok(Identity::from(&found))
    }

    /// What `text` may be looked up as; refused here, without a query, if it was never issued.
    pub(super) fn candidates(&self, text: &str) -> Result<Presentation, Refusal> {
        let candidates = self.format.read(text).ok_or(Refusal::TokenUnknown)?;
        let elsewhere = match &candidates {
            Candidates::Native(_) => None,
            Candidates::Imported(_) => Some(Elsewhere::of(text)),
        };
        Ok(Presentation { candidates, elsewhere })
    }

    /// The live token behind what was presented, noted as seen and known from now on.
    pub(super) async fn admit(
        &self,
        presentation: Presentation,
        source: &Source,
        now: Now,
        counting: Counting,
    ) -> Result<Found, Error> {
        // Before the store is asked: what is applied after this and names the token bars it.
        let fill = self.cache.as_deref().and_then(|cache| Some((cache, cache.begin_fill()?)));
        let candidates = presentation.candidates.clone();
        let found = match &candidates {
            Candidates::Native(_) => self.tokens.find(&candidates).await?.ok_or(Refusal::TokenUnknown)?,
            Candidates::Imported(_) => self.find_imported(presentation, source, now).await?,
        };
        self.judge(&found, source, now, counting).await?;
        self.note(&found, source, now).await?;
        if let (Some((cache, fill)), Some(scheme)) = (fill, candidates.scheme_of(&found.digest)) {
            cache.fill(fill, scheme, &found, source.ip, now.boot);
        }
        Ok(found)
    }

    /// Without a check anything could be a token, and each costs a query: who misses often has to wait.
    async fn find_imported(&self, presentation: Presentation, source: &Source, now: Now) -> Result<Found, Error> {
        self.judge_misses(source, now).await?;
        let found = self.find_presented(presentation, now).await?;
        if found.is_none() {
            self.count_miss(source, now).await;
        }
        Ok(found.ok_or(Refusal::TokenUnknown)?)
    }

    /// The token behind what was presented, whatever its standing. Where a package kept something else than the digest of the text,
    /// that digest takes its place the first time that the token is used.
    pub(super) async fn find_presented(&self, presentation: Presentation, now: Now) -> Result<Option<Found>, Error> {
        let Presentation { candidates, elsewhere } = presentation;
        let Some(found) = self.tokens.find(&candidates).await? else { return Ok(None) };
        let (Some(scheme), Some(elsewhere)) = (candidates.scheme_of(&found.digest), elsewhere) else {
            return Ok(Some(found));
        };
        match scheme {
            DigestScheme::Native | DigestScheme::PlainText => return Ok(Some(found)),
            DigestScheme::KnoxSha512 | DigestScheme::RestAuthtokenSha512 => {}
            DigestScheme::Djforge => {
                if !self.fits(elsewhere.djforge).await? {
                    return Ok(None);
                }
            }
        }
        if found.standing(now.wall) != Standing::Live || found.presented != Presented::Current {
            return Ok(Some(found));
        }
        let plain = elsewhere.plain;
        if self.tokens.adopt(found.id, (scheme, found.digest), &plain, now.wall).await? {
            return Ok(Some(Found { digest: plain, ..found }));
        }
        // Somebody was faster, with this text or with an end to the token.
        let plain = Candidates::Imported(vec![(DigestScheme::PlainText, plain)]);
        Ok(self.tokens.find(&plain).await?)
    }

    /// Whether the first half of a djforge token is the one that its second half was made of. That half was found in the store, so the
    /// work is what was imported, not what a stranger asks for.
    async fn fits(&self, halves: Option<(Password, EncodedPassword)>) -> Result<bool, Error> {
        let Some((password, hash)) = halves else { return Ok(false) };
        let params = self.settings().hashing;
        let task = CheckTask { password, against: Some(hash), present: Vec::new(), params, salt: [0; 16] };
        let checked = self.hashing.check(task).await.map_err(|Overloaded| Error::Overloaded)?;
        Ok(matches!(checked.verdict, Ok(Verdict::Match { .. })))
    }

    /// Whether the token is live, its subject active, the secret the right one, and the subject not too often here.
    pub(super) async fn judge(
        &self,
        found: &Found,
        source: &Source,
        now: Now,
        counting: Counting,
    ) -> Result<(), Error> {
        let refused = |refusal: Refusal| {
            self.publish(Event::Refused(TokenRef::from(found), refusal.clone()), Actor::Stranger, source, now.wall);
            Err(refusal.into())
        };
        match found.standing(now.wall) {
            Standing::Live => {}
            Standing::Expired => {
                self.publish(Event::TokenExpired(TokenRef::from(found)), Actor::Stranger, source, now.wall);
                return Err(Refusal::TokenExpired.into());
            }
            Standing::Revoked => return refused(Refusal::TokenRevoked),
        }
        match found.subject_state {
            SubjectState::Active => {}
            SubjectState::Disabled | SubjectState::Buried => return refused(Refusal::SubjectInactive),
        }
        match found.presented {
            Presented::Current => {}
            Presented::Successor => self.tokens.settle_rotation(found.id, &found.digest, now.wall).await?,
            Presented::Retired { grace_until } if now.wall < grace_until => {}
            Presented::Retired { .. } => {
                self.answer_reuse(found, source, now).await?;
                return Err(Refusal::TokenRevoked.into());
            }
            Presented::TakenBack => {
                // Two tabs that rotate at once look like this; worth telling, not worth logging the owner out.
                self.publish(Event::ReuseDetected(TokenRef::from(found)), Actor::Stranger, source, now.wall);
                return Err(Refusal::TokenRevoked.into());
            }
        }
        if let Some(rate) = found.client.policy.throttle
            && counting.includes(found.id)
        {
            self.count_use(&found.subject, found.client.id, rate, || found.into(), source, now).await?;
        }
        Ok(())
    }

    /// Counts a use of a live token against the throttle of its client, or against `fallback` where that has none.
    ///
    /// # Errors
    /// [`Refusal::Throttled`]; when the store fails.
    pub async fn count_at_throttle(
        &self,
        who: &Identity,
        fallback: Option<Rate>,
        source: &Source,
        now: Now,
    ) -> Result<(), Error> {
        // Deleted this instant, and the token with it.
        let client = self.tokens.client(&who.client).await?.ok_or(Refusal::TokenRevoked)?;
        match client.policy.throttle.or(fallback) {
            Some(rate) => Ok(self.count_use(&who.subject, client.id, rate, || who.into(), source, now).await?),
            None => Ok(()),
        }
    }

    /// Ends the token behind `text` if it has expired, so that it is unknown from now on, and tells whether it did: for dialects that
    /// say so the first time alone.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn end_if_expired(&self, text: &str, now: Now) -> Result<bool, Error> {
        let Ok(presentation) = self.candidates(text) else { return Ok(false) };
        match self.find_presented(presentation, now).await? {
            Some(found) if found.standing(now.wall) == Standing::Expired => {
                self.tokens.revoke(found.id, None, None, now.wall).await?;
                Ok(true)
            }
            Some(_) | None => Ok(false),
        }
    }

    /// Counts a use of a live token against the throttle of its client.
    async fn count_use(
        &self,
        subject: &SubjectId,
        client: ClientId,
        rate: Rate,
        token: impl FnOnce() -> TokenRef,
        source: &Source,
        now: Now,
    ) -> Result<(), Refusal> {
        let counted = self.count_at_client(subject, client, rate, now).await;
        counted.map_err(|too_many| self.throttled(too_many, token(), source, now))
    }

    fn throttled(&self, too_many: TooMany, token: TokenRef, source: &Source, now: Now) -> Refusal {
        let refusal = Refusal::Throttled(too_many);
        let holder = Actor::Holder { subject: token.subject.clone(), token: token.id };
        self.publish(Event::Refused(token, refusal.clone()), holder, source, now.wall);
        refusal
    }

    /// A secret came back that its token gave up. A login token dies, successor and all; an API key is somebody's running
    /// program, so its owner is only told.
    async fn answer_reuse(&self, found: &Found, source: &Source, now: Now) -> Result<(), Error> {
        let token = TokenRef::from(found);
        self.publish(Event::ReuseDetected(token.clone()), Actor::Stranger, source, now.wall);
        match found.kind {
            Kind::Login => {
                self.tokens.revoke(found.id, None, None, now.wall).await?;
                self.publish(Event::TokenRevoked(token, RevokedBy::Reuse), Actor::Deployment, source, now.wall);
            }
            Kind::Key => {}
        }
        Ok(())
    }

    pub(super) async fn note(&self, found: &Found, source: &Source, now: Now) -> Result<(), Error> {
        let policy = &found.client.policy;
        let renew_until = policy.slides_to(found.kind, found.issued_at, found.expires_at, now.wall);
        if let (Some(until), Some(end)) = (renew_until, found.expires_at)
            && end.millis_since(now.wall) < RENEW_AT_ONCE_MILLIS
        {
            self.tokens.renew(found.id, Some(until), now.wall).await?;
        }
        let seen = Sighting { at: now.wall, source: source.clone() };
        self.marks.note(Touch { id: found.id, seen, renew_until });
        Ok(())
    }

    /// Whether `who` may do `wanted`.
    ///
    /// # Errors
    /// [`Refusal::AbilityMissing`].
    pub fn require(&self, who: &Identity, wanted: &Ability, source: &Source, now: Now) -> Result<(), Refusal> {
        if who.abilities.cover(wanted) {
            return Ok(());
        }
        let refusal = Refusal::AbilityMissing(wanted.clone());
        self.publish(Event::Refused(TokenRef::from(who), refusal.clone()), Actor::from(who), source, now.wall);
        Err(refusal)
    }
}

/// What the cache says.
enum Recalled {
    /// All that there is to say.
    Known(Result<Identity, Error>),
    /// A live token, whose use is still to be counted by all nodes together.
    Throttled(Hit, Rate),
    /// Nothing.
    Unknown,
}

/// What [`Authority::authenticate`] returns. The check of the text has been made when it exists, and the cache was asked;
/// what remains, and is boxed because most requests need none of it, is the look-up.
#[must_use = "nothing is looked up until it is awaited"]
pub struct Authenticating<'a> {
    state: State<'a>,
}

enum State<'a> {
    /// The text was never issued. Said without room for an identity being filled, because strangers send these for nothing.
    Unknown,
    /// Said already; `None` once it has been handed out.
    Known(Option<Result<Identity, Error>>),
    LookUp(LookUp<'a>),
}

type LookUp<'a> = Pin<Box<dyn Future<Output = Result<Identity, Error>> + Send + 'a>>;

impl fmt::Debug for Authenticating<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authenticating")
    }
}

impl Future for Authenticating<'_> {
    type Output = Result<Identity, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.get_mut().state {
            State::Unknown => Poll::Ready(Err(Refusal::TokenUnknown.into())),
            State::Known(known) => Poll::Ready(known.take().expect("a future is not polled after it was ready")),
            State::LookUp(look_up) => look_up.as_mut().poll(context),
        }
    }
}
