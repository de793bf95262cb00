//! What staff may do at all, and what they do with tokens that are not their own.

use super::Authority;
use super::clients::WhichClient;
use crate::ability::{Abilities, Ability};
use crate::account::Role;
use crate::actor::{Actor, By, Rank};
use crate::clock::Now;
use crate::event::{Event, RevokedBy, Scope, TokenRef};
use crate::refusal::{Error, Refusal};
use crate::store::{Bump, RevokeOutcome, TokenFilter};
use crate::subject::SubjectId;
use crate::token::{Identity, Kind, Source, Token, TokenId, TokenName};

/// Tokens revoked in one transaction: few enough that whoever waits behind them hardly notices.
const REVOKED_AT_ONCE: u32 = 500;

/// Which tokens an operator ends at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending<'a> {
    /// One subject's login tokens; its API keys only where they are included.
    Subject {
        /// Whose.
        subject: SubjectId,
        /// Whether API keys die too.
        keys_too: bool,
    },
    /// All tokens of a client.
    Client(WhichClient<'a>),
    /// All tokens.
    Everybody,
}

/// The dates of two nodes on one store differ by less than this: each goes by the store's, and is wrong by no more than an
/// answer of it was on its way.
const NODES_APART_MILLIS: u64 = 60_000;

impl By {
    /// # Errors
    /// [`Refusal::AdminNeeded`].
    pub(super) fn must_be_admin(&self) -> Result<(), Refusal> {
        if self.rank >= Rank::Admin { Ok(()) } else { Err(Refusal::AdminNeeded) }
    }
}

impl Authority {
    /// The right of `who` to give orders about others, as it is now: their account must be staff's or an administrator's. A
    /// login token needs no more; an API key needs `wanted`, which only an administrator grants.
    ///
    /// # Errors
    /// [`Refusal::StaffNeeded`], [`Refusal::AbilityMissing`].
    pub async fn staff(&self, who: &Identity, wanted: &Ability, source: &Source, now: Now) -> Result<By, Error> {
        let account = self.accounts.account(&who.subject).await?.map(|credentials| credentials.account);
        let active = account.filter(|account| account.active);
        let Some(by) = active.and_then(|account| By::holder(who, account.role, source)) else {
            let refused = Event::Refused(TokenRef::from(who), Refusal::StaffNeeded);
            self.publish(refused, Actor::from(who), source, now.wall);
            return Err(Refusal::StaffNeeded.into());
        };
        match who.kind {
            Kind::Login if who.abilities.cover(&Ability::everything()) => {}
            Kind::Login | Kind::Key => self.require(who, wanted, source, now)?,
        }
        Ok(by)
    }

    /// Whether `by` may do something with this account or its tokens: those of staff and administrators are for
    /// administrators alone. Judged when an order begins: one that is under way when rights are given or taken is carried
    /// out, and what it issued before a promotion ends with that, see [`Authority::set_role`].
    pub(super) async fn may_touch(&self, subject: &SubjectId, by: &By) -> Result<(), Error> {
        if by.rank >= Rank::Admin {
            return Ok(());
        }
        match self.accounts.account(subject).await? {
            Some(credentials) if credentials.account.role > Role::User => Err(Refusal::AdminNeeded.into()),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether `by` may hand out these abilities.
    pub(super) fn may_grant(abilities: &Abilities, by: &By) -> Result<(), Refusal> {
        match abilities.iter().find(|ability| ability.is_reserved()) {
            Some(_) => by.must_be_admin(),
            None => Ok(()),
        }
    }

    /// One record, whosever it is.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub async fn token(&self, id: TokenId) -> Result<Token, Error> {
        Ok(self.tokens.token(id, None).await?.ok_or(Refusal::NotFound)?)
    }

    /// Gives one live token another name, or none, whosever it is.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] where there is no live one.
    pub async fn rename_any(&self, id: TokenId, name: Option<TokenName>, by: &By, now: Now) -> Result<Token, Error> {
        let token = self.token(id).await?;
        self.may_touch(&token.subject, by).await?;
        let renamed = self.tokens.rename(id, &token.subject, token.kind, name, now.wall).await?;
        let renamed = renamed.ok_or(Refusal::NotFound)?;
        self.record(Event::TokenRenamed(TokenRef::from(&renamed)), by, now).await?;
        Ok(renamed)
    }

    /// Ends one token, whosever it is. Ending a dead one again is fine.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub async fn revoke_any(&self, id: TokenId, by: &By, now: Now) -> Result<(), Error> {
        if by.rank < Rank::Admin {
            let token = self.token(id).await?;
            self.may_touch(&token.subject, by).await?;
        }
        match self.tokens.revoke(id, None, None, now.wall).await? {
            RevokeOutcome::Revoked(token) => {
                let event = Event::TokenRevoked(TokenRef::from(&*token), RevokedBy::Operator);
                self.record_ending(event, by, now).await;
                Ok(())
            }
            RevokeOutcome::AlreadyRevoked => Ok(()),
            RevokeOutcome::Unknown => Err(Refusal::NotFound.into()),
        }
    }

    /// Ends many tokens by one changed row.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] or [`Refusal::ClientUnknown`] where there is no such subject or client; [`Refusal::AdminNeeded`].
    pub async fn end(&self, ending: Ending<'_>, by: &By, now: Now) -> Result<(), Error> {
        match &ending {
            Ending::Subject { subject, .. } => self.may_touch(subject, by).await?,
            Ending::Client(_) | Ending::Everybody => by.must_be_admin()?,
        }
        let (bump, scope, keys_too) = match ending {
            Ending::Subject { subject, keys_too } => {
                (Bump::Subject { id: subject.clone(), keys_too, keep: None }, Scope::Subject(subject), keys_too)
            }
            Ending::Client(which) => {
                let client = self.client(which).await?;
                (Bump::Client(client.id), Scope::Client(client.name.clone()), true)
            }
            Ending::Everybody => (Bump::Deployment, Scope::Everybody, true),
        };
        if !self.tokens.bump_epoch(&bump, now.wall).await? {
            return Err(Refusal::NotFound.into());
        }
        self.record_ending(Event::Ended { scope, keys_too }, by, now).await;
        Ok(())
    }

    /// How many live tokens [`Authority::revoke_matching`] would end now.
    ///
    /// # Errors
    /// As there.
    pub async fn count_matching(&self, filter: &TokenFilter, by: &By, now: Now) -> Result<u64, Error> {
        self.may_revoke_matching(filter, by).await?;
        Ok(self.tokens.count_matching(filter, now.wall).await?)
    }

    /// Revokes every live token of `filter`, be its user active or not, and returns how many they were. Done in parts: one
    /// that fails on the way has ended those before it, and may be repeated.
    ///
    /// # Errors
    /// [`Refusal::AdminNeeded`] for staff who name no user, or one who is staff or an administrator.
    pub async fn revoke_matching(&self, filter: &TokenFilter, by: &By, now: Now) -> Result<u64, Error> {
        self.may_revoke_matching(filter, by).await?;
        // What is issued while this goes on is not what was asked for. But another node's date may be ahead of this one's, and
        // what it has issued already is.
        let issued_before = Some(filter.issued_before.unwrap_or(now.wall.plus_millis(NODES_APART_MILLIS)));
        let filter = TokenFilter { issued_before, ..filter.clone() };
        let mut count = 0;
        let ended = loop {
            match self.tokens.revoke_matching(&filter, REVOKED_AT_ONCE, now.wall).await {
                Ok(revoked) => {
                    count += revoked;
                    if revoked < u64::from(REVOKED_AT_ONCE) {
                        break Ok(count);
                    }
                }
                Err(error) => break Err(error),
            }
        };
        self.record_ending(Event::RevokedMatching { filter: Box::new(filter), count }, by, now).await;
        Ok(ended?)
    }

    async fn may_revoke_matching(&self, filter: &TokenFilter, by: &By) -> Result<(), Error> {
        match &filter.subject {
            Some(subject) => self.may_touch(subject, by).await,
            None => Ok(by.must_be_admin()?),
        }
    }
}
