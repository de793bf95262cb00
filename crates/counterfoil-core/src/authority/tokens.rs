//! What a token's holder does with it, and with the other tokens of the same subject.

use super::authenticate::Counting;
use super::{Authority, Cursor, Page, PageRequest};
use crate::ability::Abilities;
use crate::account::Account;
use crate::actor::Actor;
use crate::client::Renewal;
use crate::clock::{Now, Timestamp};
use crate::entropy::EntropyError;
use crate::event::{Event, RevokedBy, Scope, TokenRef};
use crate::refusal::{Error, Refusal};
use crate::seal::SealedFor;
use crate::secret::SecretToken;
use crate::store::{Bump, Presented, RenewOutcome, RevokeOutcome, RotateOutcome, Rotation, TokenFilter, TokenQuery};
use crate::throttle::RouteClass;
use crate::token::{Identity, Issued, Kind, Source, Standing, Token, TokenId, TokenName};

/// What [`Authority::renew`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewed {
    /// The first instant at which the token is dead; `None`: never by time.
    pub expires_at: Option<Timestamp>,
    /// Whether the text is one that the token gave up in a rotation, still in its grace. Nobody should go on to keep it: it
    /// counts as stolen soon.
    pub given_up: bool,
}

impl Authority {
    /// The live tokens of `who`'s subject, oldest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn tokens_of(
        &self,
        who: &Identity,
        kind: Kind,
        page: PageRequest,
        now: Now,
    ) -> Result<Page<Token>, Error> {
        let filter = TokenFilter { kind: Some(kind), ..TokenFilter::of(who.subject.clone()) };
        let query = TokenQuery { filter, live_at: Some(now.wall), ..TokenQuery::default() };
        self.list(query, page).await
    }

    /// A page of records; `query` says which, `page` where to start and how many.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, query: TokenQuery, page: PageRequest) -> Result<Page<Token>, Error> {
        let limit = page.limit.clamp(1, PageRequest::MOST);
        let after = page.after.map_or(0, Cursor::number);
        // One more than asked for tells whether there is a next page.
        let query = TokenQuery { after, limit: limit + 1, ..query };
        let mut items = self.tokens.list(&query).await?;
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        let next = if more { items.last().map(|token| Cursor::after(token.number)) } else { None };
        Ok(Page { items, next })
    }

    /// The whole record behind `who`, and the account it stands for where we keep one.
    ///
    /// # Errors
    /// [`Refusal::TokenRevoked`] when the token was purged in between.
    pub async fn me(&self, who: &Identity) -> Result<(Token, Option<Account>), Error> {
        let token = self.tokens.token(who.id, Some(&who.subject)).await?.ok_or(Refusal::TokenRevoked)?;
        let account = self.accounts.account(&who.subject).await?;
        Ok((token, account.map(|credentials| credentials.account)))
    }

    /// Gives one of `who`'s live tokens another name, or none.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] where there is no live one of this kind, or it is somebody else's.
    pub async fn rename(
        &self,
        who: &Identity,
        id: TokenId,
        kind: Kind,
        name: Option<TokenName>,
        now: Now,
    ) -> Result<Token, Error> {
        let renamed = self.tokens.rename(id, &who.subject, kind, name, now.wall).await?;
        Ok(renamed.ok_or(Refusal::NotFound)?)
    }

    /// Moves the expiry of the token behind `text` on, as its client's policy says, and never back.
    ///
    /// # Errors
    /// As [`Authority::authenticate`]; [`Refusal::RenewalNotAllowed`] for API keys and where the policy never renews;
    /// [`Refusal::LimitHit`], because it counts as a request to [`RouteClass::Api`].
    pub async fn renew(&self, text: &str, source: &Source, now: Now) -> Result<Renewed, Error> {
        self.renew_counted(text, source, now, None).await
    }

    /// As [`Authority::renew`], for a request that was judged before: see [`Authority::authenticate_counted`].
    ///
    /// # Errors
    /// As there.
    pub async fn renew_counted(
        &self,
        text: &str,
        source: &Source,
        now: Now,
        counted: Option<TokenId>,
    ) -> Result<Renewed, Error> {
        let found = self.admit(self.candidates(text)?, source, now, Counting::but(counted)).await?;
        self.count_request(RouteClass::Api, Some(&Identity::from(&found)), source, now).await?;
        let policy = &found.client.policy;
        match (found.kind, policy.renewal) {
            (Kind::Key, _) | (Kind::Login, Renewal::Never) => return Err(Refusal::RenewalNotAllowed.into()),
            (Kind::Login, Renewal::OnRequest | Renewal::OnUse { .. }) => {}
        }
        match self.tokens.renew(found.id, policy.expiry(found.issued_at, now.wall), now.wall).await? {
            RenewOutcome::Renewed(expires_at) => {
                self.publish(Event::TokenRenewed(TokenRef::from(&found)), found.holder(), source, now.wall);
                let given_up = match found.presented {
                    Presented::Current | Presented::Successor => false,
                    Presented::Retired { .. } | Presented::TakenBack => true,
                };
                Ok(Renewed { expires_at, given_up })
            }
            RenewOutcome::Dead => Err(Refusal::TokenRevoked.into()),
        }
    }

    /// As [`Authority::renew`], for a token that has been authenticated, or issued, already: for dialects, whose logins may renew.
    ///
    /// # Errors
    /// [`Refusal::RenewalNotAllowed`]; [`Refusal::TokenRevoked`] when it died in between.
    pub async fn renew_held(&self, who: &Identity, source: &Source, now: Now) -> Result<Option<Timestamp>, Error> {
        // Deleted this instant, and the token with it.
        let client = self.tokens.client(&who.client).await?.ok_or(Refusal::TokenRevoked)?;
        match (who.kind, client.policy.renewal) {
            (Kind::Key, _) | (Kind::Login, Renewal::Never) => return Err(Refusal::RenewalNotAllowed.into()),
            (Kind::Login, Renewal::OnRequest | Renewal::OnUse { .. }) => {}
        }
        match self.tokens.renew(who.id, client.policy.expiry(who.issued_at, now.wall), now.wall).await? {
            RenewOutcome::Renewed(expires_at) => {
                self.publish(Event::TokenRenewed(TokenRef::from(who)), Actor::from(who), source, now.wall);
                Ok(expires_at)
            }
            RenewOutcome::Dead => Err(Refusal::TokenRevoked.into()),
        }
    }

    /// Moves the expiry of the token behind `text`, which `who` has just been authenticated with, on to what its client's policy says,
    /// if that is more than `gain_millis` later than it is: for dialects whose packages renew by use at intervals of their own. Nobody is
    /// told of it, as of any renewal by use.
    ///
    /// # Errors
    /// [`Refusal::TokenRevoked`] when it died in between.
    pub async fn renew_in_use(&self, text: &str, who: &Identity, gain_millis: u64, now: Now) -> Result<(), Error> {
        let Some(client) = self.tokens.client(&who.client).await? else { return Err(Refusal::TokenRevoked.into()) };
        let Some(until) = client.policy.expiry(who.issued_at, now.wall) else { return Ok(()) };
        let gains = |end: Option<Timestamp>| end.is_some_and(|end| until.millis_since(end) > gain_millis);
        if who.kind == Kind::Key || !gains(who.expires_at) {
            return Ok(());
        }
        // What the cache said may be from before the last renewal.
        let token = self.tokens.token(who.id, Some(&who.subject)).await?.ok_or(Refusal::TokenRevoked)?;
        if gains(token.expires_at) && self.tokens.renew(who.id, Some(until), now.wall).await? == RenewOutcome::Dead {
            return Err(Refusal::TokenRevoked.into());
        }
        if let (Some(cache), Some(candidates)) = (self.cache.as_deref(), self.format.read(text)) {
            cache.forget(&candidates);
        }
        Ok(())
    }

    /// The secret of a login token of `who`'s subject once more, where it was kept sealed: for dialects whose package shows it again.
    /// `None` where it was not, and for a dead one.
    ///
    /// # Errors
    /// [`Refusal::KeyRingMissing`]; [`Error::Unseal`].
    pub async fn reveal(
        &self,
        who: &Identity,
        token: &Token,
        source: &Source,
        now: Now,
    ) -> Result<Option<SecretToken>, Error> {
        if token.subject != who.subject || token.kind != Kind::Login || token.standing(now.wall) != Standing::Live {
            return Ok(None);
        }
        let chosen = self.chosen();
        let ring = chosen.ring.as_ref().ok_or(Refusal::KeyRingMissing)?;
        let page = self.tokens.sealed_otherwise(ring.unused_id(), token.number.saturating_sub(1), 1).await?;
        let Some(kept) = page.into_iter().find(|kept| kept.token == token.id) else { return Ok(None) };
        let bound_to = SealedFor { token: kept.token, subject: &kept.subject, client: kept.client };
        let secret = ring.open(&kept.sealed, bound_to, &kept.digest)?;
        self.publish(Event::SecretRepeated(TokenRef::from(token)), Actor::from(who), source, now.wall);
        Ok(Some(secret))
    }

    /// Gives the token behind `text` a new secret. The old one is accepted for the grace, until the new one is first used;
    /// rotating again with the old one takes back a new one that never was.
    ///
    /// # Errors
    /// As [`Authority::renew`], but that API keys may too; [`Refusal::RotationLocked`] where its owner has locked their
    /// tokens.
    pub async fn rotate(&self, text: &str, source: &Source, now: Now) -> Result<(Issued, Option<Account>), Error> {
        self.rotate_counted(text, source, now, None).await
    }

    /// As [`Authority::rotate`], for a request that was judged before: see [`Authority::authenticate_counted`].
    ///
    /// # Errors
    /// As there.
    pub async fn rotate_counted(
        &self,
        text: &str,
        source: &Source,
        now: Now,
        counted: Option<TokenId>,
    ) -> Result<(Issued, Option<Account>), Error> {
        let found = self.admit(self.candidates(text)?, source, now, Counting::but(counted)).await?;
        self.count_request(RouteClass::Api, Some(&Identity::from(&found)), source, now).await?;
        let account = self.accounts.account(&found.subject).await?.map(|credentials| credentials.account);
        if account.as_ref().is_some_and(|account| account.rotation_locked) {
            return Err(Refusal::RotationLocked.into());
        }
        // Twice: the first collision may be anybody's bad luck, the second is a generator that repeats itself.
        for _ in 0..2 {
            let secret = self.format.mint(&found.client.policy.prefix, self.entropy.as_ref())?;
            let bound_to = SealedFor { token: found.id, subject: &found.subject, client: found.client.id };
            let ordinary = found.abilities == Abilities::everything();
            let sealed = if ordinary { self.seal_if_same(found.kind, &found.client, &secret, bound_to)? } else { None };
            let rotation = Rotation {
                id: found.id,
                presented: found.digest,
                successor: secret.digest(),
                sealed,
                grace_until: now.wall.plus_millis(self.settings().rotation_grace.millis()),
            };
            match self.tokens.rotate(&rotation, now.wall).await? {
                RotateOutcome::Rotated(token) => {
                    let token = *token;
                    self.publish(Event::TokenRotated(TokenRef::from(&token)), found.holder(), source, now.wall);
                    return Ok((Issued { token, secret, first_of_subject: false, repeated: false }, account));
                }
                RotateOutcome::Dead => return Err(Refusal::TokenRevoked.into()),
                RotateOutcome::Taken => {}
            }
        }
        Err(EntropyError::new("the source of randomness repeats itself").into())
    }

    /// Ends `who` itself.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn logout(&self, who: &Identity, source: &Source, now: Now) -> Result<(), Error> {
        self.tokens.revoke(who.id, Some(&who.subject), None, now.wall).await?;
        self.publish(Event::LoggedOut(TokenRef::from(who)), Actor::from(who), source, now.wall);
        Ok(())
    }

    /// Ends every login token of `who`'s subject, `who` included if it is one. API keys stay.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn logout_all(&self, who: &Identity, source: &Source, now: Now) -> Result<(), Error> {
        self.end_subject(who, None, source, now).await
    }

    /// Ends every login token of `who`'s subject but `who`. API keys stay.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn logout_others(&self, who: &Identity, source: &Source, now: Now) -> Result<(), Error> {
        self.end_subject(who, Some(who.id), source, now).await
    }

    async fn end_subject(&self, who: &Identity, keep: Option<TokenId>, source: &Source, now: Now) -> Result<(), Error> {
        let bump = Bump::Subject { id: who.subject.clone(), keys_too: false, keep };
        self.tokens.bump_epoch(&bump, now.wall).await?;
        let ended = Event::Ended { scope: Scope::Subject(who.subject.clone()), keys_too: false };
        self.publish(ended, Actor::from(who), source, now.wall);
        Ok(())
    }

    /// Ends one of the tokens of `who`'s subject. Ending a dead one again is fine.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] where there is none of this kind, or it is somebody else's.
    pub async fn revoke(
        &self,
        who: &Identity,
        id: TokenId,
        kind: Kind,
        source: &Source,
        now: Now,
    ) -> Result<(), Error> {
        match self.tokens.revoke(id, Some(&who.subject), Some(kind), now.wall).await? {
            RevokeOutcome::Revoked(token) => {
                let event = Event::TokenRevoked(TokenRef::from(&*token), RevokedBy::Owner);
                self.publish(event, Actor::from(who), source, now.wall);
                Ok(())
            }
            RevokeOutcome::AlreadyRevoked => Ok(()),
            RevokeOutcome::Unknown => Err(Refusal::NotFound.into()),
        }
    }
}
