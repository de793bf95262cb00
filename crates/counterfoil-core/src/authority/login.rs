//! A password for a token.

use std::sync::Arc;

use async_lock::MutexGuard;

use super::Authority;
use super::issue::{Expiry, Order, Others};
use crate::ability::Abilities;
use crate::account::{Account, AccountChange, Credentials, LoginName};
use crate::account_rules::Unconfirmed;
use crate::actor::Actor;
use crate::client::{Client, ClientName};
use crate::clock::Now;
use crate::event::{Event, LoginFailure, TokenRef};
use crate::hashing::{CheckTask, Overloaded};
use crate::hook::Occasion;
use crate::password::{Password, Verdict};
use crate::refusal::{Error, Refusal};
use crate::shape::TokenShape;
use crate::store::Warrant;
use crate::subject::{Epoch, Subject, SubjectId, SubjectState};
use crate::throttle::RouteClass;
use crate::token::{Issued, Kind, Metadata, Source, TokenName};
use crate::username::Username;

/// What someone types to log in.
#[derive(Debug)]
pub struct Login {
    /// A user name or a confirmed e-mail address.
    pub username: String,
    /// The password, byte for byte.
    pub password: Password,
    /// The client; `None`: the one named `default`.
    pub client: Option<ClientName>,
    /// What the new token shall be called.
    pub name: Option<TokenName>,
}

/// Whose a password is said to be, before it is known what shall come of it.
#[derive(Debug)]
pub struct Claim {
    /// What was typed as a name.
    pub username: String,
    /// How it is read.
    pub spelled: Spelling,
    /// The password, byte for byte.
    pub password: Password,
    /// The client that was named, for whoever follows the events; it is judged by [`Authority::log_in`].
    pub client: ClientName,
}

/// How a name that was typed is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// A user name, in any spelling and case if that is one account's alone, or a confirmed e-mail address.
    Loose,
    /// A user name character by character, as Django reads it.
    Exact,
}

/// The token that a right password shall give.
#[derive(Debug)]
pub struct LoginTerms {
    /// The client.
    pub client: ClientName,
    /// What the token shall be called.
    pub name: Option<TokenName>,
    /// What its text shall look like.
    pub shape: TokenShape,
}

/// A login that went well.
#[derive(Debug)]
pub struct LoggedIn {
    /// The token and its secret.
    pub issued: Issued,
    /// Who logged in.
    pub account: Account,
}

/// A password that proved right, see [`Authority::prove`]. Nobody else gets at the same name until it is dropped, so that issuing
/// forgets what was counted for a right password.
#[derive(Debug)]
pub struct Proven<'a> {
    account: Account,
    /// Where the subject stood before the password was read; `None`: no token ever stood for it.
    epoch: Option<Epoch>,
    attempt: Attempt<'a>,
    _turn: MutexGuard<'a, ()>,
}

impl Proven<'_> {
    /// Whose the password is.
    pub fn account(&self) -> &Account {
        &self.account
    }
}

/// What is known of a name before its password is looked at.
enum Candidate {
    /// It may log in, if the password fits.
    May {
        credentials: Box<Credentials>,
        /// The subject as it stood before the password was read; `None` for a host's own account that no token ever stood
        /// for. It is made when the password has proved right: a stranger's guess writes nothing.
        subject: Option<Subject>,
    },
    /// It may not, whatever the password.
    MayNot { credentials: Option<Box<Credentials>>, why: LoginFailure },
}

impl Candidate {
    /// Whom that account is of.
    fn subject(&self) -> Option<SubjectId> {
        self.credentials().map(|credentials| credentials.account.subject.clone())
    }

    /// The account of that name, if there is one, whether it may log in or not.
    fn credentials(&self) -> Option<&Credentials> {
        match self {
            Candidate::May { credentials, .. } => Some(credentials),
            Candidate::MayNot { credentials, .. } => credentials.as_deref(),
        }
    }
}

/// A login under way, for telling what becomes of it.
#[derive(Debug)]
struct Attempt<'a> {
    authority: &'a Authority,
    shown: String,
    source: Source,
    now: Now,
}

impl Attempt<'_> {
    fn began(&self, client: ClientName) {
        self.publish(Event::LoginStarted { username: self.shown.clone(), client });
    }

    /// What was typed is told only where there is such an account: else it may be a secret in the wrong field.
    fn failed(&self, subject: Option<SubjectId>, why: LoginFailure) {
        let username = subject.is_some().then(|| self.shown.clone());
        self.publish(Event::LoginFailed { username, subject, why });
    }

    fn unanswered(&self, error: Error) -> Error {
        self.failed(None, LoginFailure::Unanswered);
        error
    }

    fn publish(&self, event: Event) {
        self.authority.publish(event, Actor::Stranger, &self.source, self.now.wall);
    }
}

impl Authority {
    /// Checks a password and issues a login token.
    ///
    /// An unknown user, a wrong password and an account that may not log in are one refusal, after the same work. The token
    /// is issued only if the subject still stands where it stood before the password was read, so that a changed password, a
    /// logout everywhere or a deletion during the check wins.
    ///
    /// # Errors
    /// [`Refusal::ClientUnknown`], [`Refusal::LoginNotAllowed`], [`Refusal::CredentialsRejected`], [`Refusal::CapReached`];
    /// [`Refusal::TooManyAttempts`] and [`Refusal::LimitHit`], for unknown names as for known ones, without a look at the
    /// password; [`Refusal::RefusedByHost`], when the password was right;
    /// [`Error::Overloaded`] when too many passwords are waiting; [`Error::Hook`] where the host's hook gives no ruling.
    pub async fn login(&self, login: Login, source: &Source, now: Now) -> Result<LoggedIn, Error> {
        let Login { username, password, client, name } = login;
        let client_name = client.unwrap_or_else(ClientName::default_client);
        let attempt = Attempt { authority: self, shown: shown(&username), source: source.clone(), now };
        attempt.began(client_name.clone());
        self.count_request(RouteClass::Login, None, source, now).await?;
        let client = self.client_for(&client_name, None, &attempt).await?;
        let proven = self.prove_name(username, Spelling::Loose, password, attempt).await?;
        self.log_in_on(proven, client, name, TokenShape::Native).await
    }

    /// Checks a password, and leaves what comes of it for [`Authority::log_in`] or [`Authority::decline`]: for dialects, which
    /// judge the rest of a login afterwards.
    ///
    /// # Errors
    /// [`Refusal::CredentialsRejected`], [`Refusal::TooManyAttempts`], [`Refusal::LimitHit`] and [`Error::Overloaded`], as
    /// [`Authority::login`] has them.
    pub async fn prove(&self, claim: Claim, source: &Source, now: Now) -> Result<Proven<'_>, Error> {
        let Claim { username, spelled, password, client } = claim;
        let attempt = Attempt { authority: self, shown: shown(&username), source: source.clone(), now };
        attempt.began(client);
        self.count_request(RouteClass::Login, None, source, now).await?;
        self.prove_name(username, spelled, password, attempt).await
    }

    /// Issues a login token to whom the password was proved.
    ///
    /// # Errors
    /// As [`Authority::login`], but for what [`Authority::prove`] refuses.
    pub async fn log_in(&self, proven: Proven<'_>, terms: LoginTerms) -> Result<LoggedIn, Error> {
        let LoginTerms { client, name, shape } = terms;
        let subject = proven.account.subject.clone();
        match self.client_for(&client, Some(&subject), &proven.attempt).await {
            Ok(client) => self.log_in_on(proven, client, name, shape).await,
            Err(error) => {
                if let Error::Refused(_) = error {
                    self.tokens.forget_tries(&subject).await?;
                }
                Err(error)
            }
        }
    }

    /// Gives no token although the password was right, for the reason `why`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn decline(&self, proven: Proven<'_>, why: Refusal) -> Result<(), Error> {
        let Proven { account, attempt, .. } = proven;
        self.tokens.forget_tries(&account.subject).await?;
        attempt.failed(Some(account.subject), LoginFailure::Refused(why));
        Ok(())
    }

    /// The client to log in on, if it is there and one may.
    async fn client_for(
        &self,
        name: &ClientName,
        subject: Option<&SubjectId>,
        attempt: &Attempt<'_>,
    ) -> Result<Arc<Client>, Error> {
        match self.tokens.client(name).await.map_err(|error| attempt.unanswered(error.into()))? {
            Some(client) if client.allow_login => Ok(client),
            other => {
                let refusal = if other.is_some() { Refusal::LoginNotAllowed } else { Refusal::ClientUnknown };
                attempt.failed(subject.cloned(), LoginFailure::Refused(refusal.clone()));
                Err(refusal.into())
            }
        }
    }

    async fn prove_name<'a>(
        &'a self,
        username: String,
        spelled: Spelling,
        password: Password,
        attempt: Attempt<'a>,
    ) -> Result<Proven<'a>, Error> {
        let tag = self.tag("name", folded(&username).as_bytes());
        let turn = self.limits.turn(tag).await;
        let (credentials, subject) = self.prove_password(&username, spelled, tag, password, &attempt).await?;
        let epoch = subject.map(|subject| subject.epoch);
        Ok(Proven { account: credentials.account, epoch, attempt, _turn: turn })
    }

    async fn log_in_on(
        &self,
        proven: Proven<'_>,
        client: Arc<Client>,
        name: Option<TokenName>,
        shape: TokenShape,
    ) -> Result<LoggedIn, Error> {
        let Proven { account, epoch, attempt, _turn } = proven;
        let Attempt { source, now, .. } = &attempt;
        let epoch = match epoch {
            Some(epoch) => epoch,
            None => {
                self.tokens.open_subject(&account.subject, now.wall).await?;
                Epoch(0) // whatever has happened since then came with a greater one
            }
        };
        let mut order = Order {
            actor: None,
            kind: Kind::Login,
            subject: account.subject.clone(),
            client,
            warrant: Warrant::Password(epoch),
            name,
            abilities: Abilities::everything(),
            metadata: Metadata::default(),
            expiry: Expiry::ByPolicy,
            shape,
            others: Others::AsPolicySays,
        };
        let issued = match self.hear_the_host(&mut order, Some(&account), Occasion::Login, source, *now).await {
            Ok(()) => {
                // Before the token, so that a failing store leaves no token behind that nobody holds.
                self.accounts.change(&account.subject, &[AccountChange::LoggedIn(now.wall)]).await?;
                self.fulfil(order, source, *now).await
            }
            Err(error) => Err(error),
        };
        match issued {
            Ok(issued) => {
                let token = TokenRef::from(&issued.token);
                let actor = Actor::Holder { subject: token.subject.clone(), token: token.id };
                self.publish(Event::LoggedIn(token), actor, source, now.wall);
                if !issued.repeated {
                    self.note_login(&issued.token, &account);
                }
                Ok(LoggedIn { issued, account })
            }
            // Deleted, disabled, logged out everywhere or given another password while this one was being checked.
            Err(Error::Refused(Refusal::SubjectInactive | Refusal::TokenRevoked)) => {
                attempt.failed(Some(account.subject), LoginFailure::Overtaken);
                Err(Refusal::CredentialsRejected.into())
            }
            Err(Error::Refused(refusal)) => {
                // Issuing forgets them where it comes to that.
                self.tokens.forget_tries(&account.subject).await?;
                attempt.failed(Some(account.subject), LoginFailure::Refused(refusal.clone()));
                Err(refusal.into())
            }
            // The password was right; that its host could not say is not to be counted against it.
            Err(error @ Error::Hook(_)) => {
                self.tokens.forget_tries(&account.subject).await?;
                Err(attempt.unanswered(error))
            }
            Err(error) => Err(attempt.unanswered(error)),
        }
    }

    /// The account of that name, if the password is its own: counted before it is looked at, and what stands in the way is
    /// told.
    async fn prove_password(
        &self,
        username: &str,
        spelled: Spelling,
        tag: u64,
        password: Password,
        attempt: &Attempt<'_>,
    ) -> Result<(Box<Credentials>, Option<Subject>), Error> {
        let candidate = self.candidate(username, spelled).await.map_err(|error| attempt.unanswered(error))?;
        let counted = match self.count_try(tag, candidate.credentials(), &attempt.source, attempt.now).await {
            Ok(counted) => counted,
            Err(Error::Refused(refusal @ Refusal::TooManyAttempts(_))) => {
                attempt.failed(candidate.subject(), LoginFailure::TooManyAttempts);
                return Err(refusal.into());
            }
            // That address has had an entry of its own.
            Err(error @ Error::Refused(_)) => return Err(error),
            Err(error) => return Err(attempt.unanswered(error)),
        };
        let fits = match self.password_fits(password, &candidate).await {
            Ok(fits) => fits,
            Err(error) => {
                let given_back = self.give_back(counted, candidate.credentials(), attempt.now).await;
                return Err(attempt.unanswered(given_back.err().unwrap_or(error)));
            }
        };
        let id = candidate.subject();
        match candidate {
            Candidate::May { credentials, subject } if fits => {
                self.was_right(counted, attempt.now).await;
                return Ok((credentials, subject));
            }
            Candidate::May { .. } => attempt.failed(id, LoginFailure::WrongPassword),
            Candidate::MayNot { why, .. } => attempt.failed(id, why),
        }
        Err(Refusal::CredentialsRejected.into())
    }

    /// Looks the name up, with as many look-ups for a name that nobody has as for one that somebody has.
    async fn candidate(&self, username: &str, spelled: Spelling) -> Result<Candidate, Error> {
        let named = match LoginName::new(username) {
            Some(name) => {
                let found = self.accounts.named(&name).await?;
                match spelled {
                    Spelling::Loose => name.choose(found),
                    Spelling::Exact => found.into_iter().find(|one| one.account.username.as_str() == username),
                }
            }
            None => None,
        };
        let id = named.as_ref().map_or(&self.nobody, |credentials| &credentials.account.subject);
        let subject = self.tokens.subject(id).await?;
        // Once more, now that the epoch is known: a password set in between comes with a newer epoch, and issuing restates
        // the one read above.
        let credentials = self.accounts.account(id).await?;
        let (Some(_), Some(credentials)) = (named, credentials) else {
            return Ok(Candidate::MayNot { credentials: None, why: LoginFailure::UnknownUser });
        };
        let open = subject.as_ref().is_none_or(|subject| subject.state == SubjectState::Active);
        if !credentials.account.active || !open {
            let credentials = Some(Box::new(credentials));
            return Ok(Candidate::MayNot { credentials, why: LoginFailure::Inactive });
        }
        let Account { email, email_confirmed_at, .. } = &credentials.account;
        let waits = self.chosen().settings.accounts.unconfirmed == Unconfirmed::Waits;
        if waits && email.is_some() && email_confirmed_at.is_none() {
            let credentials = Some(Box::new(credentials));
            return Ok(Candidate::MayNot { credentials, why: LoginFailure::Unconfirmed });
        }
        Ok(Candidate::May { credentials: Box::new(credentials), subject })
    }

    /// Whether the password is the candidate's, after the same work for every answer but yes. An outdated row is replaced
    /// while the password is at hand.
    async fn password_fits(&self, password: Password, candidate: &Candidate) -> Result<bool, Error> {
        let credentials = match candidate {
            Candidate::May { credentials, .. } => Some(credentials),
            Candidate::MayNot { .. } => None,
        };
        let mut salt = [0; 16];
        self.entropy.fill(&mut salt)?;
        let task = CheckTask {
            password,
            against: credentials.map(|credentials| credentials.password.clone()),
            present: self.accounts.password_costs().await?,
            params: self.settings().hashing,
            salt,
        };
        let checked = self.hashing.check(task).await.map_err(|Overloaded| Error::Overloaded)?;
        if let (Some(credentials), Some(rehashed)) = (credentials, checked.rehashed) {
            let subject = &credentials.account.subject;
            // Restates the row it replaces: a password set meanwhile stays.
            self.accounts.set_password(subject, Some(&credentials.password), &rehashed).await?;
        }
        match checked.verdict {
            Ok(Verdict::Match { .. }) => Ok(true),
            Ok(Verdict::NoMatch) | Err(_) => Ok(false),
        }
    }
}

/// One text for every spelling of a name, as far as that can be told without looking.
fn folded(username: &str) -> String {
    LoginName::new(username).map_or_else(String::new, |name| name.folded)
}

/// What was typed as a name, short enough for an event.
fn shown(username: &str) -> String {
    username.chars().take(Username::MAX_CHARS).collect()
}
