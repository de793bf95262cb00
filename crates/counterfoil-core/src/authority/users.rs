//! What the operator and staff do with accounts.

use super::Authority;
use crate::account::{Account, AccountChange, Credentials, Email, LoginName, NewAccount, Role};
use crate::actor::{Actor, By, Rank};
use crate::attempts::Tries;
use crate::clock::Now;
use crate::event::Event;
use crate::hashing::{HashTask, Overloaded};
use crate::link::Purpose;
use crate::password::{EncodedPassword, Password};
use crate::refusal::{Error, Refusal};
use crate::store::{AccountQuery, Bump, StoreError};
use crate::subject::{SubjectId, SubjectState};
use crate::token::{Identity, Source};
use crate::username::Distinct;

impl Authority {
    /// Makes an account that logs in with `password`; with none, nobody logs in on it until one is set.
    ///
    /// # Errors
    /// [`Refusal::UsernameTaken`]; [`Refusal::AdminNeeded`] for staff and administrators; [`Error::Overloaded`]. A password
    /// of fewer than [`Password::LEAST_CHARS`] is [`Refusal::Invalid`].
    pub async fn create_user(
        &self,
        new: NewAccount,
        password: Option<Password>,
        by: &By,
        now: Now,
    ) -> Result<Account, Error> {
        if new.role > Role::User {
            by.must_be_admin()?;
        }
        let password = match password {
            Some(password) => self.hash(password).await?,
            None => EncodedPassword::unusable(),
        };
        let subject = self.new_subject(now)?;
        let account = Account {
            email_confirmed_at: new.email.as_ref().filter(|_| new.email_confirmed).map(|_| now.wall),
            email: new.email,
            first_name: new.first_name,
            last_name: new.last_name,
            role: new.role,
            ..Account::named(subject.clone(), new.username, now.wall)
        };
        // Only to leave no subject behind that nobody is; the store restates it. And nobody but the operator names an account
        // as somebody else's address, which would no longer let them in.
        if let Some(name) = LoginName::new(account.username.as_str()) {
            let folded = account.username.folded();
            let named = self.accounts.named(&name).await?;
            let is_taken =
                |taken: &Credentials| by.rank() < Rank::Operator || taken.account.username.folded() == folded;
            if named.iter().any(is_taken) {
                return Err(Refusal::UsernameTaken.into());
            }
        }
        if let (Some(email), Some(_)) = (&account.email, account.email_confirmed_at) {
            self.may_log_in_by(email, &subject, by).await?;
        }
        self.tokens.open_subject(&subject, now.wall).await?;
        // The operator may do as an import does.
        let distinct = if by.rank() < Rank::Operator { Distinct::ByLook } else { Distinct::ByCase };
        if !self.accounts.create(&account, &password, distinct).await? {
            return Err(Refusal::UsernameTaken.into());
        }
        self.record(Event::AccountCreated(subject), by, now).await?;
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
        Ok(self.account_of(subject).await?.ok_or(Refusal::NotFound)?)
    }

    /// The account of this subject, if we keep one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn account_of(&self, subject: &SubjectId) -> Result<Option<Account>, Error> {
        Ok(self.accounts.account(subject).await?.map(|credentials| credentials.account))
    }

    /// A page of accounts by user name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn users(&self, query: &AccountQuery) -> Result<Vec<Account>, Error> {
        Ok(self.accounts.accounts(query).await?)
    }

    /// Changes what is known of an account. Whether it is active and what it may do are changed after the rest.
    ///
    /// # Errors
    /// [`Refusal::NotFound`]; [`Refusal::AdminNeeded`] for staff who change a role, or the account of staff or of an
    /// administrator. What only the owner or a login changes is [`Refusal::Invalid`], unless the operator does it.
    pub async fn change_user(
        &self,
        subject: &SubjectId,
        changes: Vec<AccountChange>,
        by: &By,
        now: Now,
    ) -> Result<Account, Error> {
        self.may_touch(subject, by).await?;
        let before = self.account(subject).await?;
        let (mut facts, mut role, mut active) = (Vec::new(), None, None);
        for change in changes {
            match change {
                AccountChange::Role(wanted) => {
                    by.must_be_admin()?;
                    role = Some(wanted);
                }
                AccountChange::Active(wanted) => active = Some(wanted),
                AccountChange::RotationLocked(_) | AccountChange::LoggedIn(_) if by.rank() < Rank::Operator => {
                    return Err(Refusal::invalid("rotation_locked", "is its owner's to change").into());
                }
                AccountChange::RotationLocked(_)
                | AccountChange::LoggedIn(_)
                | AccountChange::Email(..)
                | AccountChange::EmailReplaced { .. }
                | AccountChange::EmailConfirmed(..)
                | AccountChange::FirstName(_)
                | AccountChange::LastName(_)
                | AccountChange::Attributes(_)
                | AccountChange::Locale(_) => facts.push(change),
            }
        }
        for change in &facts {
            if let AccountChange::Email(Some(email), Some(_))
            | AccountChange::EmailReplaced { email, .. }
            | AccountChange::EmailConfirmed(email, _) = change
            {
                self.may_log_in_by(email, subject, by).await?;
            }
        }
        if !facts.is_empty() {
            self.accounts.change(subject, &facts).await?.ok_or(Refusal::NotFound)?;
            let changed = self.account(subject).await?;
            if changed.email != before.email {
                self.address_was_changed(&before, &changed, by, now).await?;
            }
            self.tokens.subject_changed(subject, now.wall).await?;
            self.record(Event::AccountChanged(subject.clone()), by, now).await?;
        }
        if let Some(role) = role {
            self.set_role(subject, role, by, now).await?;
        }
        match active {
            Some(true) => self.enable_user(subject, by, now).await?,
            Some(false) => self.disable_user(subject, by, now).await?,
            None => {}
        }
        self.account(subject).await
    }

    /// Whether an address may be confirmed without its owner's proof: one that is somebody else's, or their name, would no
    /// longer let them in. The operator may do as an import does.
    async fn may_log_in_by(&self, email: &Email, subject: &SubjectId, by: &By) -> Result<(), Error> {
        let Some(name) = LoginName::new(email.as_str()).filter(|_| by.rank() < Rank::Operator) else { return Ok(()) };
        let named = self.accounts.named(&name).await?;
        match named.iter().find(|taken| taken.account.subject != *subject) {
            Some(_) => Err(Refusal::invalid("email", "somebody else logs in by this address").into()),
            None => Ok(()),
        }
    }

    /// Forgets the failed logins of an account, so that its password opens it again.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::AdminNeeded`].
    pub async fn unlock_user(&self, subject: &SubjectId, by: &By, now: Now) -> Result<(), Error> {
        self.may_touch(subject, by).await?;
        self.account(subject).await?;
        self.tokens.forget_tries(subject).await?;
        self.record(Event::AccountUnlocked(subject.clone()), by, now).await
    }

    /// The failed logins of an account since one went well.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn tries(&self, subject: &SubjectId) -> Result<Tries, Error> {
        Ok(self.tokens.tries(subject).await?)
    }

    /// Bars the tokens of `who`'s subject from changing their secret, or allows it again.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] where the account is a host's own.
    pub async fn lock_rotation(
        &self,
        who: &Identity,
        locked: bool,
        source: &Source,
        now: Now,
    ) -> Result<Account, Error> {
        let changed = self.accounts.change(&who.subject, &[AccountChange::RotationLocked(locked)]).await?;
        let changed = changed.ok_or(Refusal::NotFound)?;
        let subject = who.subject.clone();
        let event = if locked { Event::RotationLocked(subject) } else { Event::RotationUnlocked(subject) };
        self.publish(event, Actor::from(who), source, now.wall);
        Ok(changed)
    }

    /// Sets a password, forgets failed logins and ends the account's login tokens. API keys stay. For the operator and for
    /// an owner who has shown who they are: no route lets staff choose a password (OWASP ASVS 5.0 6.4.6).
    ///
    /// # Errors
    /// [`Refusal::NotFound`]; [`Error::Overloaded`]. A password of fewer than
    /// [`Password::LEAST_CHARS`] is [`Refusal::Invalid`].
    pub async fn set_password(&self, subject: &SubjectId, password: Password, by: &By, now: Now) -> Result<(), Error> {
        let password = self.hash(password).await?;
        self.account(subject).await?;
        self.tokens.open_subject(subject, now.wall).await?;
        let bump = Bump::Subject { id: subject.clone(), keys_too: false, keep: None };
        // Before: should this stop half-way, nobody is left signed in under a password that was to go.
        self.tokens.bump_epoch(&bump, now.wall).await?;
        if !self.accounts.set_password(subject, None, &password).await? {
            return Err(Refusal::NotFound.into());
        }
        self.drop_links(subject, &[Purpose::Reset, Purpose::ChangeAddress]).await?;
        self.tokens.forget_tries(subject).await?;
        // And after: a login that read the old password restates the epoch from before this bump and fails.
        self.tokens.bump_epoch(&bump, now.wall).await?;
        self.record(Event::PasswordChanged(subject.clone()), by, now).await
    }

    /// Refuses every token and login of an account until it is enabled again.
    ///
    /// # Errors
    /// [`Refusal::NotFound`]. When a host's own table leaves the account active: its tokens are refused then, until the host
    /// says that it has changed.
    pub async fn disable_user(&self, subject: &SubjectId, by: &By, now: Now) -> Result<(), Error> {
        self.may_touch(subject, by).await?;
        self.account(subject).await?;
        // The tokens first: should this stop half-way, the account is shut rather than half open.
        self.tokens.open_subject(subject, now.wall).await?;
        self.tokens.set_subject_state(subject, SubjectState::Disabled, now.wall).await?;
        let changed = self.accounts.change(subject, &[AccountChange::Active(false)]).await?;
        let account = changed.ok_or(Refusal::NotFound)?;
        self.shut_if_inactive(subject, now).await?;
        self.record(Event::AccountDisabled(subject.clone()), by, now).await?;
        if account.active {
            return Err(StoreError::new("disabling an account", "its store has left it active").into());
        }
        Ok(())
    }

    /// Accepts the tokens and logins of an account again.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub async fn enable_user(&self, subject: &SubjectId, by: &By, now: Now) -> Result<(), Error> {
        self.may_touch(subject, by).await?;
        let changed = self.accounts.change(subject, &[AccountChange::Active(true)]).await?;
        changed.ok_or(Refusal::NotFound)?;
        self.tokens.open_subject(subject, now.wall).await?;
        self.tokens.set_subject_state(subject, SubjectState::Active, now.wall).await?.ok_or(Refusal::NotFound)?;
        self.shut_if_inactive(subject, now).await?;
        self.record(Event::AccountEnabled(subject.clone()), by, now).await
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
    pub async fn delete_user(&self, subject: &SubjectId, by: &By, now: Now) -> Result<(), Error> {
        self.may_touch(subject, by).await?;
        if self.accounts.account(subject).await?.is_none() {
            return Err(Refusal::NotFound.into());
        }
        self.tokens.open_subject(subject, now.wall).await?;
        self.tokens.set_subject_state(subject, SubjectState::Buried, now.wall).await?;
        self.drop_links(subject, &Purpose::ALL).await?;
        self.accounts.delete(subject).await?;
        self.record_ending(Event::AccountDeleted(subject.clone()), by, now).await;
        Ok(())
    }

    /// Sets what an account may do beyond its own affairs. Whoever is given more logs in anew, and makes new keys: what was
    /// issued before, perhaps to somebody else, does not grow with them.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::AdminNeeded`].
    pub async fn set_role(&self, subject: &SubjectId, role: Role, by: &By, now: Now) -> Result<Account, Error> {
        by.must_be_admin()?;
        let raised = role > self.account(subject).await?.role;
        let bump = Bump::Subject { id: subject.clone(), keys_too: true, keep: None };
        if raised {
            self.tokens.open_subject(subject, now.wall).await?;
            self.tokens.bump_epoch(&bump, now.wall).await?;
        }
        let changed = self.accounts.change(subject, &[AccountChange::Role(role)]).await?.ok_or(Refusal::NotFound)?;
        if raised {
            // Again, for what was issued between: whoever issued it was told that this is a lesser account.
            self.tokens.bump_epoch(&bump, now.wall).await?;
            // And what was mailed to the lesser account opens nothing of the greater one.
            self.drop_links(subject, &Purpose::ALL).await?;
        }
        self.tokens.subject_changed(subject, now.wall).await?;
        self.record(Event::RoleChanged(subject.clone(), role), by, now).await?;
        Ok(changed)
    }

    /// Whether any account is an administrator's.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn has_administrator(&self) -> Result<bool, Error> {
        Ok(self.accounts.has_role(Role::Admin).await?)
    }

    /// Whether people may choose this password, whose account has `context` about it.
    pub(super) fn judge_password(
        &self,
        field: &'static str,
        password: &Password,
        context: &[&str],
    ) -> Result<(), Refusal> {
        let policy = &self.chosen().settings.accounts.passwords;
        policy.judge(password, context).map_err(|why| Refusal::PasswordWeak { field, why })
    }

    pub(super) async fn hash(&self, password: Password) -> Result<EncodedPassword, Error> {
        if password.chars() < Password::LEAST_CHARS {
            return Err(
                Refusal::invalid("password", format!("has at least {} characters", Password::LEAST_CHARS)).into()
            );
        }
        self.hash_of_any_length(password).await
    }

    /// The same where whoever calls has judged the length.
    pub(super) async fn hash_of_any_length(&self, password: Password) -> Result<EncodedPassword, Error> {
        let mut salt = [0; 16];
        self.entropy.fill(&mut salt)?;
        let task = HashTask { password, params: self.settings().hashing, salt };
        self.hashing.hash(task).await.map_err(|Overloaded| Error::Overloaded)
    }
}
