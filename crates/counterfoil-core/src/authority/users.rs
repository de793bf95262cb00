//! What the operator does with accounts and with tokens that are not their own.

use super::Authority;
use crate::account::{Account, AccountChange, LoginName, NewAccount, Role};
use crate::client::ClientName;
use crate::clock::Now;
use crate::event::{Event, RevokedBy, Scope, TokenRef};
use crate::hashing::{HashTask, Overloaded};
use crate::password::{EncodedPassword, Password};
use crate::refusal::{Error, Refusal};
use crate::store::{Bump, RevokeOutcome};
use crate::subject::{SubjectId, SubjectState};
use crate::token::{Metadata, Source, Token, TokenId, TokenName, uuid_v7};

/// Which tokens an operator ends at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// One subject's login tokens; its API keys only where they are included.
    Subject {
        /// Whose.
        subject: SubjectId,
        /// Whether API keys die too.
        keys_too: bool,
    },
    /// All tokens of a client.
    Client(ClientName),
    /// All tokens.
    Everybody,
}

impl Authority {
    /// Makes an account that logs in with `password`.
    ///
    /// # Errors
    /// [`Refusal::UsernameTaken`]; [`Error::Overloaded`]. An empty password is [`Refusal::Invalid`].
    pub async fn create_user(
        &self,
        new: NewAccount,
        password: Password,
        source: &Source,
        now: Now,
    ) -> Result<Account, Error> {
        let password = self.hash(password).await?;
        let id = uuid_v7(now.wall, self.entropy.as_ref())?;
        let subject: SubjectId = id.to_string().parse().map_err(|error| Refusal::invalid("id", error))?;
        let account = Account {
            subject: subject.clone(),
            username: new.username,
            email_confirmed_at: new.email.as_ref().filter(|_| new.email_confirmed).map(|_| now.wall),
            email: new.email,
            first_name: new.first_name,
            last_name: new.last_name,
            attributes: Metadata::default(),
            locale: None,
            active: true,
            role: new.role,
            created_at: now.wall,
            last_login_at: None,
            rotation_locked: false,
        };
        // Only to leave no subject behind that nobody is; the store restates it.
        if let Some(name) = LoginName::new(account.username.as_str()) {
            let folded = account.username.folded();
            let named = self.accounts.named(&name).await?;
            if named.iter().any(|taken| taken.account.username.folded() == folded) {
                return Err(Refusal::UsernameTaken.into());
            }
        }
        self.tokens.open_subject(&subject, now.wall).await?;
        if !self.accounts.create(&account, &password).await? {
            return Err(Refusal::UsernameTaken.into());
        }
        self.publish(Event::AccountCreated(subject), source, now.wall);
        Ok(account)
    }

    /// The account that logs in by `name`.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub async fn user(&self, name: &str) -> Result<Account, Error> {
        let name = LoginName::new(name).ok_or(Refusal::NotFound)?;
        let chosen = name.choose(self.accounts.named(&name).await?);
        Ok(chosen.map(|credentials| credentials.account).ok_or(Refusal::NotFound)?)
    }

    /// The account of this subject.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], also where the subject is a host's own.
    pub async fn account(&self, subject: &SubjectId) -> Result<Account, Error> {
        let credentials = self.accounts.account(subject).await?;
        Ok(credentials.map(|credentials| credentials.account).ok_or(Refusal::NotFound)?)
    }

    /// A page of accounts by user name, after the one named `after`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn users(&self, after: Option<&Account>, limit: u32) -> Result<Vec<Account>, Error> {
        Ok(self.accounts.accounts(after.map(|account| &account.username), limit).await?)
    }

    /// Sets a password and ends the account's login tokens. API keys stay.
    ///
    /// # Errors
    /// [`Refusal::NotFound`]; [`Error::Overloaded`]. An empty password is [`Refusal::Invalid`].
    pub async fn set_password(
        &self,
        subject: &SubjectId,
        password: Password,
        source: &Source,
        now: Now,
    ) -> Result<(), Error> {
        let password = self.hash(password).await?;
        self.account(subject).await?;
        self.tokens.open_subject(subject, now.wall).await?;
        let bump = Bump::Subject { id: subject.clone(), keys_too: false, keep: None };
        // Before: should this stop half-way, nobody is left signed in under a password that was to go.
        self.tokens.bump_epoch(&bump, now.wall).await?;
        if !self.accounts.set_password(subject, None, &password).await? {
            return Err(Refusal::NotFound.into());
        }
        // And after: a login that read the old password restates the epoch from before this bump and fails.
        self.tokens.bump_epoch(&bump, now.wall).await?;
        self.publish(Event::PasswordChanged(subject.clone()), source, now.wall);
        Ok(())
    }

    /// Refuses every token and login of an account until it is enabled again.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub async fn disable_user(&self, subject: &SubjectId, source: &Source, now: Now) -> Result<(), Error> {
        // The tokens first: should this stop half-way, the account is shut rather than half open.
        self.tokens.open_subject(subject, now.wall).await?;
        self.tokens.set_subject_state(subject, SubjectState::Disabled, now.wall).await?;
        let changed = self.accounts.change(subject, &AccountChange::Active(false)).await?;
        changed.ok_or(Refusal::NotFound)?;
        self.shut_if_inactive(subject, now).await?;
        self.publish(Event::AccountDisabled(subject.clone()), source, now.wall);
        Ok(())
    }

    /// Accepts the tokens and logins of an account again.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub async fn enable_user(&self, subject: &SubjectId, source: &Source, now: Now) -> Result<(), Error> {
        let changed = self.accounts.change(subject, &AccountChange::Active(true)).await?;
        changed.ok_or(Refusal::NotFound)?;
        self.tokens.open_subject(subject, now.wall).await?;
        self.tokens.set_subject_state(subject, SubjectState::Active, now.wall).await?.ok_or(Refusal::NotFound)?;
        self.shut_if_inactive(subject, now).await?;
        self.publish(Event::AccountEnabled(subject.clone()), source, now.wall);
        Ok(())
    }

    /// The account and its subject are two records, perhaps in two stores, and someone may be disabling while someone else
    /// enables. Whoever comes last looks at the account: where it is not active, no token is accepted. What a race leaves
    /// behind is at worst an account whose tokens stay shut until it is enabled again.
    async fn shut_if_inactive(&self, subject: &SubjectId, now: Now) -> Result<(), Error> {
        if !self.account(subject).await?.active {
            self.tokens.set_subject_state(subject, SubjectState::Disabled, now.wall).await?;
        }
        Ok(())
    }

    /// Ends every token of an account for good and removes it. Its subject is never used again, so that whoever gets the
    /// name next inherits nothing.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub async fn delete_user(&self, subject: &SubjectId, source: &Source, now: Now) -> Result<(), Error> {
        if self.accounts.account(subject).await?.is_none() {
            return Err(Refusal::NotFound.into());
        }
        self.tokens.open_subject(subject, now.wall).await?;
        self.tokens.set_subject_state(subject, SubjectState::Buried, now.wall).await?;
        self.accounts.delete(subject).await?;
        self.publish(Event::AccountDeleted(subject.clone()), source, now.wall);
        Ok(())
    }

    /// Sets what an account may do beyond its own affairs.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub async fn set_role(&self, subject: &SubjectId, role: Role, source: &Source, now: Now) -> Result<Account, Error> {
        let changed = self.accounts.change(subject, &AccountChange::Role(role)).await?.ok_or(Refusal::NotFound)?;
        self.tokens.subject_changed(subject, now.wall).await?;
        self.publish(Event::RoleChanged(subject.clone()), source, now.wall);
        Ok(changed)
    }

    /// Whether any account is an administrator's.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn has_administrator(&self) -> Result<bool, Error> {
        Ok(self.accounts.has_role(Role::Admin).await?)
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
    pub async fn rename_any(&self, id: TokenId, name: Option<TokenName>, now: Now) -> Result<Token, Error> {
        let token = self.token(id).await?;
        let renamed = self.tokens.rename(id, &token.subject, token.kind, name, now.wall).await?;
        Ok(renamed.ok_or(Refusal::NotFound)?)
    }

    /// Ends one token, whosever it is. Ending a dead one again is fine.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub async fn revoke_any(&self, id: TokenId, source: &Source, now: Now) -> Result<(), Error> {
        match self.tokens.revoke(id, None, None, now.wall).await? {
            RevokeOutcome::Revoked(token) => {
                let event = Event::TokenRevoked(TokenRef::from(&*token), RevokedBy::Operator);
                self.publish(event, source, now.wall);
                Ok(())
            }
            RevokeOutcome::AlreadyRevoked => Ok(()),
            RevokeOutcome::Unknown => Err(Refusal::NotFound.into()),
        }
    }

    /// Ends many tokens by one changed row.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] where there is no such subject or client.
    pub async fn end(&self, ending: Ending, source: &Source, now: Now) -> Result<(), Error> {
        let (bump, scope, keys_too) = match ending {
            Ending::Subject { subject, keys_too } => {
                (Bump::Subject { id: subject.clone(), keys_too, keep: None }, Scope::Subject(subject), keys_too)
            }
            Ending::Client(name) => {
                let client = self.tokens.client(&name).await?.ok_or(Refusal::NotFound)?;
                (Bump::Client(client.id), Scope::Client(name), true)
            }
            Ending::Everybody => (Bump::Deployment, Scope::Everybody, true),
        };
        if !self.tokens.bump_epoch(&bump, now.wall).await? {
            return Err(Refusal::NotFound.into());
        }
        self.publish(Event::Ended { scope, keys_too }, source, now.wall);
        Ok(())
    }

    async fn hash(&self, password: Password) -> Result<EncodedPassword, Error> {
        if password.expose().is_empty() {
            return Err(Refusal::invalid("password", "must not be empty").into());
        }
        let mut salt = [0; 16];
        self.entropy.fill(&mut salt)?;
        let task = HashTask { password, params: self.settings.hashing, salt };
        self.hashing.hash(task).await.map_err(|Overloaded| Error::Overloaded)
    }
}
