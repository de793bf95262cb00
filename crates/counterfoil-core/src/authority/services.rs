//! What services ask: is this text a live token (RFC 7662), and end it (RFC 7009).
//!
//! A service is an API key with the ability for it, which only an administrator grants.

use std::sync::LazyLock;

use super::Authority;
use super::authenticate::Counting;
use crate::ability::{Abilities, Ability};
use crate::actor::Actor;
use crate::client::ClientName;
use crate::clock::{Now, Timestamp};
use crate::event::{Event, RevokedBy, TokenRef};
use crate::refusal::{Error, Refusal};
use crate::store::RevokeOutcome;
use crate::subject::SubjectId;
use crate::throttle::RouteClass;
use crate::token::{Identity, Kind, Source, TokenId};
use crate::username::Username;

static INTROSPECT: LazyLock<Ability> = LazyLock::new(|| reserved("tokens:introspect"));
static REVOKE: LazyLock<Ability> = LazyLock::new(|| reserved("tokens:revoke"));

fn reserved(text: &str) -> Ability {
    text.parse().expect("both are resource:action")
}

/// A live token, as a service is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introspected {
    /// Its public name.
    pub id: TokenId,
    /// Login token or API key.
    pub kind: Kind,
    /// Whom it stands for.
    pub subject: SubjectId,
    /// What that user is called, where we keep the account.
    pub username: Option<Username>,
    /// The client it was issued on.
    pub client: ClientName,
    /// What it may do.
    pub abilities: Abilities,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// The first instant at which it is dead.
    pub expires_at: Option<Timestamp>,
}

impl Authority {
    /// What `service` is told of the token behind `text`; `None`, and nothing else, where it is not live. Counts in the
    /// client's throttle and as a use of the token, from an address that nobody knows: the device is not the one who asks.
    ///
    /// # Errors
    /// [`Refusal::AbilityMissing`], [`Refusal::LimitHit`] for the service; [`Refusal::Throttled`] for a live token whose
    /// subject has been here too often.
    pub async fn introspect(
        &self,
        service: &Identity,
        text: &str,
        source: &Source,
        now: Now,
    ) -> Result<Option<Introspected>, Error> {
        self.count_request(RouteClass::Introspection, Some(service), source, now).await?;
        self.require(service, &INTROSPECT, source, now)?;
        let Ok(presentation) = self.candidates(text) else { return Ok(None) };
        let Some(found) = self.find_presented(presentation, now).await? else { return Ok(None) };
        match self.judge(&found, source, now, Counting::Always).await {
            Ok(()) => {}
            Err(Error::Refused(Refusal::TokenExpired | Refusal::TokenRevoked | Refusal::SubjectInactive)) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
        let account = self.accounts.account(&found.subject).await?;
        self.note(&found, &Source::default(), now).await?;
        Ok(Some(Introspected {
            id: found.id,
            kind: found.kind,
            username: account.map(|credentials| credentials.account.username),
            subject: found.subject,
            client: found.client.name.clone(),
            abilities: found.abilities,
            issued_at: found.issued_at,
            expires_at: found.expires_at,
        }))
    }

    /// Ends the token behind `text`, whosever it is. A text that is no token, or no longer, is fine (RFC 7009 §2.2): what
    /// was asked for is the case.
    ///
    /// # Errors
    /// [`Refusal::AbilityMissing`], [`Refusal::LimitHit`] for the service; when the store fails, which is never a yes.
    pub async fn revoke_text(&self, service: &Identity, text: &str, source: &Source, now: Now) -> Result<(), Error> {
        self.count_request(RouteClass::Introspection, Some(service), source, now).await?;
        self.require(service, &REVOKE, source, now)?;
        let Ok(presentation) = self.candidates(text) else { return Ok(()) };
        let Some(found) = self.find_presented(presentation, now).await? else { return Ok(()) };
        match self.tokens.revoke(found.id, None, None, now.wall).await? {
            RevokeOutcome::Revoked(token) => {
                let event = Event::TokenRevoked(TokenRef::from(&*token), RevokedBy::Service);
                self.publish(event, Actor::from(service), source, now.wall);
            }
            RevokeOutcome::AlreadyRevoked | RevokeOutcome::Unknown => {}
        }
        Ok(())
    }
}
