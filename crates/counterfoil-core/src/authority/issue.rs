//! Making tokens: for a login, for the operator, as an API key.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::Authority;
use crate::ability::{Abilities, Ability};
use crate::account::Account;
use crate::actor::{Actor, By};
use crate::client::{AtCap, Cap, Client, ClientName, Reissue};
use crate::clock::{Now, Timestamp};
use crate::entropy::EntropyError;
use crate::event::{Event, RevokedBy, TokenRef};
use crate::hook::{HookFailed, Intent, Occasion, Ruling};
use crate::refusal::{Error, Refusal};
use crate::seal::{Sealed, SealedFor};
use crate::secret::SecretToken;
use crate::shape::TokenShape;
use crate::store::{Issue, IssueOutcome, StoreError, Warrant};
use crate::subject::SubjectId;
use crate::token::{Identity, Issued, Kind, Metadata, Source, TokenId, TokenName};

/// How often an issue is judged anew when the client changed, or the secret was taken, in between.
const ATTEMPTS: u32 = 8;

/// When a token to be made dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// As its client's policy says.
    ByPolicy,
    /// At this instant.
    At(Timestamp),
    /// Never by time.
    Never,
}

/// A token that the operator or the host orders, without a password.
#[derive(Debug, Clone)]
pub struct TokenOrder {
    /// Login token or API key.
    pub kind: Kind,
    /// Whom it shall stand for.
    pub subject: SubjectId,
    /// The client; `None`: the one named `default`.
    pub client: Option<ClientName>,
    /// What it shall be called.
    pub name: Option<TokenName>,
    /// What it may do. The operator may grant what is reserved.
    pub abilities: Abilities,
    /// The host's own facts.
    pub metadata: Metadata,
    /// When it dies.
    pub expiry: Expiry,
}

impl TokenOrder {
    /// A login token as a login on the default client would give.
    pub fn login(subject: SubjectId) -> TokenOrder {
        TokenOrder {
            kind: Kind::Login,
            subject,
            client: None,
            name: None,
            abilities: Abilities::everything(),
            metadata: Metadata::default(),
            expiry: Expiry::ByPolicy,
        }
    }

    /// An API key that may do this, and lives until it is revoked.
    pub fn key(subject: SubjectId, abilities: Abilities) -> TokenOrder {
        TokenOrder { kind: Kind::Key, abilities, expiry: Expiry::Never, ..TokenOrder::login(subject) }
    }
}

impl From<SubjectId> for TokenOrder {
    fn from(subject: SubjectId) -> TokenOrder {
        TokenOrder::login(subject)
    }
}

/// An API key that a token's holder orders.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// What it shall be called.
    pub name: Option<TokenName>,
    /// What it may do; `None`: what its maker may.
    pub abilities: Option<Abilities>,
    /// When it dies; `None`: never by time, or with the key that makes it.
    pub expires_at: Option<Timestamp>,
}

/// A login token that a token's holder gets in addition to it, or in its place.
#[derive(Debug, Clone)]
pub struct FurtherLogin {
    /// The client.
    pub client: ClientName,
    /// What it shall be called.
    pub name: Option<TokenName>,
    /// What its text shall look like.
    pub shape: TokenShape,
    /// What becomes of the login tokens that the subject has on that client.
    pub others: Others,
}

/// What becomes of the live login tokens that a subject has on a client when it gets another one there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// What the client's policy says of a login.
    AsPolicySays,
    /// They end with it, at once and without a grace.
    End,
    /// There must be none.
    None,
}

/// Everything judged about a token that is to be made.
#[derive(Debug)]
pub(super) struct Order {
    /// Who makes it; `None`: whoever gets it.
    pub(super) actor: Option<Actor>,
    pub(super) kind: Kind,
    pub(super) subject: SubjectId,
    pub(super) client: Arc<Client>,
    pub(super) warrant: Warrant,
    pub(super) name: Option<TokenName>,
    pub(super) abilities: Abilities,
    pub(super) metadata: Metadata,
    pub(super) expiry: Expiry,
    pub(super) shape: TokenShape,
    pub(super) others: Others,
}

impl Order {
    /// What becomes of tokens that are there already. The same one again is only for the ordinary: one ordered with other
    /// abilities, or another end, is another token. And nobody on the staff is handed somebody's own secret.
    fn reissue(&self) -> Reissue {
        match (self.others, self.client.policy.reissue) {
            (Others::End, _) => Reissue::Replace,
            (Others::None, _) => Reissue::New,
            (Others::AsPolicySays, Reissue::Same) if !self.may_be_repeated() => Reissue::New,
            (Others::AsPolicySays, reissue @ (Reissue::New | Reissue::Replace | Reissue::Same)) => reissue,
        }
    }

    fn may_be_repeated(&self) -> bool {
        let ordinary = self.abilities == Abilities::everything() && self.expiry == Expiry::ByPolicy;
        let by_staff = matches!(self.warrant, Warrant::Operator) && matches!(self.actor, Some(Actor::Holder { .. }));
        ordinary && !by_staff
    }

    fn cap(&self) -> Option<Cap> {
        match self.others {
            Others::AsPolicySays | Others::End => self.client.policy.cap,
            Others::None => Some(Cap { limit: NonZeroU32::MIN, at_cap: AtCap::Refuse }),
        }
    }

    /// Whether it can be carried out on this client: a password is for clients that people log in on.
    fn may_be_on(&self, client: &Client) -> Result<(), Refusal> {
        match self.warrant {
            Warrant::Password(_) if !client.allow_login => Err(Refusal::LoginNotAllowed),
            Warrant::Password(_) | Warrant::Token(_) | Warrant::Operator => Ok(()),
        }
    }
}

impl Authority {
    /// Issues a token on the word of the operator or the host, as `createToken(user)` does in other libraries. A subject
    /// that no token ever stood for is made; caps and reissue rules hold for login tokens as they do at a login.
    ///
    /// # Errors
    /// [`Refusal::ClientUnknown`], [`Refusal::SubjectInactive`], [`Refusal::CapReached`]; [`Refusal::AdminNeeded`] for staff
    /// who order one for staff or an administrator, or one with a reserved ability; an expiry that is not in the future is
    /// [`Refusal::Invalid`]; [`Refusal::RefusedByHost`], and [`Error::Hook`] where the host's hook gives no ruling.
    pub async fn issue(&self, order: TokenOrder, by: &By, now: Now) -> Result<Issued, Error> {
        self.issue_as(order, TokenShape::Native, Others::AsPolicySays, by, now).await
    }

    /// The same, of another shape, and with another word on the tokens that there are.
    ///
    /// # Errors
    /// As there.
    pub async fn issue_as(
        &self,
        order: TokenOrder,
        shape: TokenShape,
        others: Others,
        by: &By,
        now: Now,
    ) -> Result<Issued, Error> {
        let TokenOrder { kind, subject, client, name, abilities, metadata, expiry } = order;
        self.may_touch(&subject, by).await?;
        Authority::may_grant(&abilities, by)?;
        if kind == Kind::Login && abilities.iter().any(Ability::is_reserved) {
            return Err(Refusal::invalid("abilities", "a reserved ability is for API keys").into());
        }
        let client_name = client.unwrap_or_else(ClientName::default_client);
        let client = self.tokens.client(&client_name).await?.ok_or(Refusal::ClientUnknown)?;
        if let Expiry::At(end) = expiry {
            in_the_future(end, now)?;
        }
        self.tokens.open_subject(&subject, now.wall).await?;
        let (actor, warrant) = (Some(by.actor.clone()), Warrant::Operator);
        let mut order =
            Order { actor, kind, subject, client, warrant, name, abilities, metadata, expiry, shape, others };
        self.hear_the_host(&mut order, None, Occasion::Order(by.clone()), &by.source, now).await?;
        let issued = self.fulfil(order, &by.source, now).await?;
        self.write_audit(now).await?;
        Ok(issued)
    }

    /// Makes an API key for `maker`'s subject, with no more than `maker` may do. A key made by a key does not outlive it.
    ///
    /// # Errors
    /// [`Refusal::AbilityBeyondMaker`], [`Refusal::ExpiryBeyondMaker`], [`Refusal::TokenRevoked`] when the maker died in
    /// between; an expiry that is not in the future is [`Refusal::Invalid`]; [`Refusal::RefusedByHost`], [`Error::Hook`].
    pub async fn create_key(&self, maker: &Identity, key: NewKey, source: &Source, now: Now) -> Result<Issued, Error> {
        let NewKey { name, abilities, expires_at } = key;
        let abilities = abilities.unwrap_or_else(|| maker.abilities.clone());
        if let Some(beyond) = maker.abilities.first_beyond(&abilities) {
            return Err(Refusal::AbilityBeyondMaker(beyond.clone()).into());
        }
        if let Some(end) = expires_at {
            in_the_future(end, now)?;
        }
        let expiry = match (maker.kind, maker.expires_at, expires_at) {
            (Kind::Key, Some(last), Some(end)) if end > last => return Err(Refusal::ExpiryBeyondMaker.into()),
            (Kind::Key, Some(last), None) => Expiry::At(last),
            (Kind::Login | Kind::Key, _, Some(end)) => Expiry::At(end),
            (Kind::Login | Kind::Key, _, None) => Expiry::Never,
        };
        // The maker's client may have been deleted this instant; the maker is dead then.
        let client = self.tokens.client(&maker.client).await?.ok_or(Refusal::TokenRevoked)?;
        let mut order = Order {
            actor: Some(Actor::from(maker)),
            kind: Kind::Key,
            subject: maker.subject.clone(),
            client,
            warrant: Warrant::Token(maker.id),
            name,
            abilities,
            metadata: Metadata::default(),
            expiry,
            shape: TokenShape::Native,
            others: Others::AsPolicySays,
        };
        let occasion = Occasion::Key { maker: maker.clone() };
        let heard = self.hear_the_host(&mut order, None, occasion, source, now).await;
        if let Err(Error::Refused(refusal)) = &heard {
            let refused = Event::Refused(TokenRef::from(maker), refusal.clone());
            self.publish(refused, Actor::from(maker), source, now.wall);
        }
        heard?;
        self.fulfil(order, source, now).await
    }

    /// Issues a login token to the holder of one, as some packages do: in addition to it, or in the place of all that its subject has
    /// on the client, which end in the same transition.
    ///
    /// Whoever has a token so gets others that outlive it. No native route does this.
    ///
    /// # Errors
    /// [`Refusal::LoginNotAllowed`] for an API key; [`Refusal::ClientUnknown`], [`Refusal::CapReached`]; [`Refusal::RotationLocked`] where tokens are to end and their owner has
    /// locked them; [`Refusal::TokenRevoked`] when `who` died in between; [`Refusal::RefusedByHost`], [`Error::Hook`].
    pub async fn log_in_further(
        &self,
        who: &Identity,
        further: FurtherLogin,
        source: &Source,
        now: Now,
    ) -> Result<Issued, Error> {
        let FurtherLogin { client, name, shape, others } = further;
        if who.kind == Kind::Key {
            return Err(Refusal::LoginNotAllowed.into());
        }
        let client = self.tokens.client(&client).await?.ok_or(Refusal::ClientUnknown)?;
        let account = self.account_of(&who.subject).await?;
        let locked = account.as_ref().is_some_and(|account| account.rotation_locked);
        match others {
            Others::End if locked => return Err(Refusal::RotationLocked.into()),
            Others::End | Others::None | Others::AsPolicySays => {}
        }
        let mut order = Order {
            actor: Some(Actor::from(who)),
            kind: Kind::Login,
            subject: who.subject.clone(),
            client,
            warrant: Warrant::Token(who.id),
            name,
            // What a token was not given, no other made with it has.
            abilities: who.abilities.clone(),
            metadata: Metadata::default(),
            expiry: Expiry::ByPolicy,
            shape,
            others,
        };
        let occasion = Occasion::Further { holder: who.clone() };
        self.hear_the_host(&mut order, account.as_ref(), occasion, source, now).await?;
        self.fulfil(order, source, now).await
    }

    /// Asks the hook, if there is one, and puts the order on the client it chooses. Its choice is judged here, as if that
    /// client had been named; all else is restated by the store.
    pub(super) async fn hear_the_host(
        &self,
        order: &mut Order,
        account: Option<&Account>,
        occasion: Occasion,
        source: &Source,
        now: Now,
    ) -> Result<(), Error> {
        let Some(hook) = &self.hook else { return Ok(()) };
        let account = match account {
            Some(account) => Some(account.clone()),
            None => self.account_of(&order.subject).await?,
        };
        let intent = Intent {
            kind: order.kind,
            subject: order.subject.clone(),
            account,
            client: order.client.name.clone(),
            name: order.name.clone(),
            abilities: order.abilities.clone(),
            occasion,
            source: source.clone(),
            at: now.wall,
        };
        match hook.rule(intent).await.map_err(HookFailed::new)? {
            Ruling::Allow => Ok(()),
            Ruling::OnClient(name) => {
                let client = self.tokens.client(&name).await?.ok_or(Refusal::ClientUnknown)?;
                order.may_be_on(&client)?;
                order.client = client;
                Ok(())
            }
            Ruling::Refuse { reason } => Err(Refusal::by_host(&reason).into()),
        }
    }

    /// The secret sealed, if it is a login token's on a client that gives the same one again; any other secret is never
    /// kept, ring or no ring.
    pub(super) fn seal_if_same(
        &self,
        kind: Kind,
        client: &Client,
        secret: &SecretToken,
        bound_to: SealedFor<'_>,
    ) -> Result<Option<Sealed>, Error> {
        match (kind, client.policy.reissue) {
            (Kind::Login, Reissue::Same) => {
                let chosen = self.chosen();
                let ring = chosen.ring.as_ref().ok_or(Refusal::KeyRingMissing)?;
                Ok(Some(ring.seal(secret, bound_to, self.entropy.as_ref())?))
            }
            (Kind::Login, Reissue::New | Reissue::Replace) | (Kind::Key, _) => Ok(None),
        }
    }

    /// Mints a secret and adds the token, judging anew as long as something moved in between.
    pub(super) async fn fulfil(&self, mut order: Order, source: &Source, now: Now) -> Result<Issued, Error> {
        for _ in 0..ATTEMPTS {
            let policy = &order.client.policy;
            let id = TokenId::generate(now.wall, self.entropy.as_ref())?;
            let (secret, scheme) = self.format.mint_as(&order.shape, &policy.prefix, self.entropy.as_ref())?;
            let bound_to = SealedFor { token: id, subject: &order.subject, client: order.client.id };
            let sealed = if order.may_be_repeated() {
                self.seal_if_same(order.kind, &order.client, &secret, bound_to)?
            } else {
                None
            };
            let issue = Issue {
                id,
                kind: order.kind,
                subject: order.subject.clone(),
                client: order.client.id,
                client_version: order.client.version,
                warrant: order.warrant,
                name: order.name.clone(),
                abilities: order.abilities.clone(),
                metadata: order.metadata.clone(),
                expires_at: match order.expiry {
                    Expiry::ByPolicy => policy.expiry(now.wall, now.wall),
                    Expiry::At(end) => Some(end),
                    Expiry::Never => None,
                },
                digest: secret.digest(),
                scheme,
                sealed,
                source: source.clone(),
                cap: order.cap(),
                reissue: order.reissue(),
            };
            match self.tokens.issue(&issue, now.wall).await? {
                IssueOutcome::Issued { token, first_of_subject, ended } => {
                    let token = *token;
                    let itself = || Actor::Holder { subject: token.subject.clone(), token: token.id };
                    let actor = order.actor.unwrap_or_else(itself);
                    for id in ended {
                        let ended = TokenRef { id, kind: Kind::Login, ..TokenRef::from(&token) };
                        self.publish(
                            Event::TokenRevoked(ended, RevokedBy::LaterLogin),
                            actor.clone(),
                            source,
                            now.wall,
                        );
                    }
                    self.publish(Event::TokenIssued(TokenRef::from(&token)), actor, source, now.wall);
                    return Ok(Issued { token, secret, first_of_subject, repeated: false });
                }
                IssueOutcome::Same { token, sealed, digest } => {
                    let token = *token;
                    let bound_to = SealedFor { token: token.id, subject: &token.subject, client: order.client.id };
                    let chosen = self.chosen();
                    let ring = chosen.ring.as_ref().ok_or(Refusal::KeyRingMissing)?;
                    let secret = ring.open(&sealed, bound_to, &digest)?;
                    let itself = || Actor::Holder { subject: token.subject.clone(), token: token.id };
                    let actor = order.actor.unwrap_or_else(itself);
                    self.publish(Event::SecretRepeated(TokenRef::from(&token)), actor, source, now.wall);
                    return Ok(Issued { token, secret, first_of_subject: false, repeated: true });
                }
                IssueOutcome::CapReached => {
                    let limit = order.cap().map_or(0, |cap| cap.limit.get());
                    return Err(Refusal::CapReached { limit }.into());
                }
                IssueOutcome::WarrantVoid => return Err(Refusal::TokenRevoked.into()),
                IssueOutcome::SubjectInactive => return Err(Refusal::SubjectInactive.into()),
                IssueOutcome::ClientChanged => {
                    let client = self.tokens.client(&order.client.name).await?.ok_or(Refusal::ClientUnknown)?;
                    order.may_be_on(&client)?;
                    order.client = client;
                }
                IssueOutcome::Taken => {}
            }
        }
        if self.tokens.client(&order.client.name).await?.is_some_and(|client| client.version == order.client.version) {
            // 256 random bits do not meet again by chance.
            return Err(EntropyError::new("the source of randomness repeats itself").into());
        }
        Err(StoreError::new("issuing a token", "its client kept changing").into())
    }
}

fn in_the_future(end: Timestamp, now: Now) -> Result<(), Refusal> {
    if end > now.wall { Ok(()) } else { Err(Refusal::invalid("expires_at", "must lie in the future")) }
}
