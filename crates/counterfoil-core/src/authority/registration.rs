//! Making an account for oneself.

use super::Authority;
use crate::account::{Account, AccountChange, Credentials, Email, LoginName};
use crate::account_rules::{AccountRules, EmailRule, Registering, Unconfirmed};
use crate::actor::Actor;
use crate::client::Lifetime;
use crate::clock::{Now, Timestamp};
use crate::event::Event;
use crate::language::{Languages, is_tag};
use crate::link::{Link, Purpose};
use crate::mail::{MailKind, MailOrder, Registration};
use crate::password::{EncodedPassword, Password};
use crate::refusal::{Error, Refusal};
use crate::subject::SubjectId;
use crate::throttle::RouteClass;
use crate::token::{Source, uuid_v7};
use crate::username::{Distinct, Username};

/// What somebody gives who wants an account.
#[derive(Debug)]
pub struct NewRegistration {
    /// What they want to type.
    pub username: Username,
    /// What they want to prove it with.
    pub password: Password,
    /// Where mail reaches them.
    pub email: Option<Email>,
    /// Given name.
    pub first_name: String,
    /// Family name.
    pub last_name: String,
    /// The language they read, if they say so.
    pub locale: Option<String>,
    /// The languages they read, as far as is known.
    pub languages: Languages,
    /// Where the page behind the mailed link shall go on to.
    pub next: Option<String>,
}

/// What became of a registration.
#[derive(Debug)]
pub enum Registered {
    /// The account is there; a link to confirm its address was mailed, if it has one.
    Account(Box<Account>),
    /// A mail is on its way: what it says depends on whether the address has an account already, and nobody but its reader
    /// learns of that.
    ProofAsked,
}

/// How often a number is chosen anew that somebody else took this instant.
const NUMBERS_TRIED: u32 = 16;

/// How a dialect's settings have accounts made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegistrationTerms {
    /// Whether the password is held to the deployment's policy. Else whoever calls has judged it by the package's rule.
    pub judges_password: bool,
    /// Whether a link to confirm the address is mailed, and for how long it works.
    pub confirm_within: Option<Lifetime>,
}

impl Authority {
    /// Makes an account for whoever asks, where anybody may.
    ///
    /// Where only a confirmed address logs in there is no account before the address is proved: what was given is kept until
    /// its link is used or has expired, and keeps nobody from the name or the address. An address that has an account gets the
    /// same answer after the same work, and its owner a mail. Otherwise the account is there at once, and opens by its name.
    ///
    /// # Errors
    /// [`Refusal::RegistrationClosed`], [`Refusal::UsernameTaken`], [`Refusal::Invalid`] with the field,
    /// [`Refusal::PasswordWeak`], [`Refusal::NoMail`], [`Refusal::LimitHit`]; [`Error::Overloaded`].
    pub async fn register(&self, new: NewRegistration, source: &Source, now: Now) -> Result<Registered, Error> {
        let rules = self.chosen().settings.accounts.clone();
        if rules.registration == Registering::Nobody {
            return Err(Refusal::RegistrationClosed.into());
        }
        self.count_request(RouteClass::Login, None, source, now).await?;
        self.judge_registration(&new, &rules)?;
        let next = self.judge_next(new.next.as_deref())?;
        match &new.email {
            Some(email) => {
                self.mails_links(Purpose::Register)?;
                self.count_mail(Purpose::Register, email, source, now).await?;
            }
            None => self.count_asking(source, now).await?,
        }
        // Where a name is the address that is being proved, that it is taken would tell of the address.
        let is_address = new.email.as_ref().is_some_and(|email| email.folded() == new.username.folded());
        match self.is_free(&new.username).await {
            Err(Error::Refused(Refusal::UsernameTaken)) if is_address && rules.unconfirmed == Unconfirmed::Waits => {}
            free => free?,
        }
        let password = self.hash(new.password).await?;
        let subject = self.new_subject(now)?;
        match new.email {
            Some(email) if rules.unconfirmed == Unconfirmed::Waits => {
                let registration = Registration {
                    subject,
                    username: new.username,
                    email,
                    password,
                    first_name: new.first_name,
                    last_name: new.last_name,
                    locale: new.locale,
                    expires_at: super::post::in_time(rules.confirm_within, now),
                };
                self.ask_for_proof(registration, new.languages, next, source, now).await?;
                Ok(Registered::ProofAsked)
            }
            email => {
                let account = Account {
                    email,
                    first_name: new.first_name,
                    last_name: new.last_name,
                    locale: new.locale,
                    ..Account::named(subject, new.username, now.wall)
                };
                self.make_registered(&account, &password, source, now).await?;
                self.ask_to_confirm(&account, new.languages, next, None, source, now).await;
                Ok(Registered::Account(Box::new(account)))
            }
        }
    }

    /// Makes an account for whoever asks, because a dialect's settings say so and whatever the deployment's own do. Its subject is
    /// the next whole number, as the package's were: clients keep it in a column for one. The account opens by its name at once.
    ///
    /// # Errors
    /// As [`Authority::register`], but never [`Refusal::RegistrationClosed`].
    pub async fn register_by(
        &self,
        new: NewRegistration,
        terms: RegistrationTerms,
        source: &Source,
        now: Now,
    ) -> Result<Account, Error> {
        self.count_request(RouteClass::Login, None, source, now).await?;
        new.username.judge_registered(None).map_err(|why| Refusal::invalid("username", why))?;
        if terms.judges_password {
            self.judge_password("password", &new.password, &[new.username.as_str()])?;
        }
        let mailed = terms.confirm_within.and_then(|within| Some((new.email.as_ref()?, within)));
        match mailed {
            Some((email, _)) => {
                self.mails_links(Purpose::Confirm)?;
                self.count_mail(Purpose::Confirm, email, source, now).await?;
            }
            None => self.count_asking(source, now).await?,
        }
        self.is_free(&new.username).await?;
        let mail_expires_at = mailed.map(|(_, within)| super::post::in_time(within, now));
        let password = match terms.judges_password {
            true => self.hash(new.password).await?,
            false => self.hash_of_any_length(new.password).await?,
        };
        let mut number = self.accounts.greatest_number().await?.saturating_add(1);
        let mut tries = 0;
        let account = loop {
            let subject = number.to_string().parse().map_err(|error| Refusal::invalid("id", error))?;
            number = number.saturating_add(1);
            // One that was deleted is not somebody else's number now.
            if self.tokens.subject(&subject).await?.is_some() {
                continue;
            }
            let account = Account {
                email: new.email.clone(),
                first_name: new.first_name.clone(),
                last_name: new.last_name.clone(),
                locale: new.locale.clone(),
                ..Account::named(subject, new.username.clone(), now.wall)
            };
            match self.make_registered(&account, &password, source, now).await {
                // The name, or the number this instant.
                Err(Error::Refused(Refusal::UsernameTaken)) if tries < NUMBERS_TRIED => {
                    self.is_free(&new.username).await?;
                    tries += 1;
                }
                made => break made.map(|()| account)?,
            }
        };
        if let Some(end) = mail_expires_at {
            self.ask_to_confirm(&account, new.languages, new.next, Some(end), source, now).await;
        }
        Ok(account)
    }

    /// Whether nobody has this name, or one that people could take for it: what [`Authority::register`] would say of it.
    ///
    /// # Errors
    /// [`Refusal::LimitHit`]; when the store fails.
    pub async fn is_free_name(&self, username: &Username, source: &Source, now: Now) -> Result<bool, Error> {
        self.count_request(RouteClass::Login, None, source, now).await?;
        self.count_asking(source, now).await?;
        match self.is_free(username).await {
            Ok(()) => Ok(true),
            Err(Error::Refused(Refusal::UsernameTaken)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What can be said of a registration without looking anything up.
    fn judge_registration(&self, new: &NewRegistration, rules: &AccountRules) -> Result<(), Refusal> {
        match (rules.email, &new.email) {
            (EmailRule::NotAsked, Some(_)) => return Err(Refusal::invalid("email", "is not asked for here")),
            (EmailRule::Required, None) => return Err(Refusal::invalid("email", "is needed")),
            (EmailRule::NotAsked | EmailRule::Optional, None)
            | (EmailRule::Optional | EmailRule::Required, Some(_)) => {}
        }
        if new.locale.as_deref().is_some_and(|locale| !is_tag(locale)) {
            return Err(Refusal::invalid("locale", "expected a language tag such as de or pt-BR"));
        }
        let email = new.email.as_ref();
        // An address that nobody proves first may be somebody else's, and its account would answer in the place of theirs.
        let own_email = email.filter(|_| rules.unconfirmed == Unconfirmed::Waits);
        let name = new.username.judge_registered(own_email);
        name.map_err(|why| Refusal::invalid("username", why))?;
        let context = [new.username.as_str(), email.map_or("", Email::as_str), &new.first_name, &new.last_name];
        self.judge_password("password", &new.password, &context)
    }

    /// Whether nobody has this name, or one that people could take for it; said early, and restated when the account is made.
    async fn is_free(&self, username: &Username) -> Result<(), Error> {
        let Some(name) = LoginName::new(username.as_str()) else { return Err(Refusal::UsernameTaken.into()) };
        let folded = username.folded();
        let named = self.accounts.named(&name).await?;
        let is_it = |credentials: &Credentials| credentials.account.username.folded() == folded;
        let taken = self.accounts.has_lookalike(username).await? || named.iter().any(is_it);
        if taken { Err(Refusal::UsernameTaken.into()) } else { Ok(()) }
    }

    /// A subject that nobody has been.
    pub(super) fn new_subject(&self, now: Now) -> Result<SubjectId, Error> {
        let id = uuid_v7(now.wall, self.entropy.as_ref())?;
        Ok(id.to_string().parse().map_err(|error| Refusal::invalid("id", error))?)
    }

    async fn ask_for_proof(
        &self,
        registration: Registration,
        languages: Languages,
        next: Option<String>,
        source: &Source,
        now: Now,
    ) -> Result<(), Error> {
        let owner = self.owner_of(&registration.email, &registration.subject).await?;
        let order = match &owner {
            Some(owner) => {
                let Account { subject, email, .. } = owner;
                let email = email.as_ref().unwrap_or(&registration.email);
                self.order(MailKind::AlreadyRegistered, subject, email, languages, None, now)?
            }
            None => {
                let Registration { subject, email, .. } = &registration;
                self.order(MailKind::ConfirmRegistration, subject, email, languages, next, now)?
            }
        };
        // Kept also where no link will ever be made for it: it has to take as long.
        self.post(&[order], Some(&registration)).await?;
        self.publish(Event::RegistrationAsked, Actor::Stranger, source, now.wall);
        Ok(())
    }

    /// Who logs in by this address, other than `subject`.
    pub(super) async fn owner_of(&self, email: &Email, subject: &SubjectId) -> Result<Option<Account>, Error> {
        let mut found = self.accounts_of(email).await?;
        found.retain(|account| account.email_confirmed_at.is_some() && account.subject != *subject);
        Ok(found.into_iter().next())
    }

    async fn make_registered(
        &self,
        account: &Account,
        password: &EncodedPassword,
        source: &Source,
        now: Now,
    ) -> Result<(), Error> {
        self.tokens.open_subject(&account.subject, now.wall).await?;
        if !self.accounts.create(account, password, Distinct::ByLook).await? {
            return Err(Refusal::UsernameTaken.into());
        }
        self.publish(Event::Registered(account.subject.clone()), Actor::Stranger, source, now.wall);
        Ok(())
    }

    /// Mails a link to an account that was just made; or, where somebody else logs in by that address, a word to them. The
    /// account is there, so that no mail could be queued does not undo it: its owner asks for another.
    async fn ask_to_confirm(
        &self,
        account: &Account,
        languages: Languages,
        next: Option<String>,
        expires_at: Option<Timestamp>,
        source: &Source,
        now: Now,
    ) {
        let Some(email) = &account.email else { return };
        let order = match self.owner_of(email, &account.subject).await {
            Ok(Some(owner)) => self.order(
                MailKind::AlreadyRegistered,
                &owner.subject,
                owner.email.as_ref().unwrap_or(email),
                languages,
                None,
                now,
            ),
            Ok(None) => self.order(MailKind::ConfirmAddress, &account.subject, email, languages, next, now),
            Err(error) => Err(error),
        };
        let until = |order: MailOrder| MailOrder { expires_at: expires_at.unwrap_or(order.expires_at), ..order };
        self.post_notice(order.map(until), source, now).await;
    }

    /// Makes the account of a registration whose address was proved by `link`.
    pub(super) async fn complete_registration(
        &self,
        link: &Link,
        password: Password,
        source: &Source,
        now: Now,
    ) -> Result<Account, Error> {
        let store = &self.mail()?.store;
        let registration = store.registration(&link.subject).await?.filter(|one| now.wall < one.expires_at);
        let registration = registration.ok_or(Refusal::LinkDead)?;
        if self.account_of(&link.subject).await?.is_some() {
            // Somebody was faster with the same link.
            return Err(Refusal::LinkDead.into());
        }
        self.count_try_at_registration(&link.subject, now).await?;
        if !self.is_password(password, &registration.password).await? {
            return Err(Refusal::PasswordWrong.into());
        }
        self.is_free(&registration.username).await?;
        self.may_have(&registration.email, &registration.subject).await?;
        self.use_link(link, now).await?;
        let account = Account {
            email: Some(registration.email),
            email_confirmed_at: Some(now.wall),
            first_name: registration.first_name,
            last_name: registration.last_name,
            locale: registration.locale,
            ..Account::named(registration.subject, registration.username, now.wall)
        };
        self.make_registered(&account, &registration.password, source, now).await?;
        store.forget_registration(&account.subject).await?;
        self.publish(Event::EmailConfirmed(account.subject.clone()), Actor::Stranger, source, now.wall);
        Ok(account)
    }

    /// Whether an address may be confirmed for `subject`: not one that somebody else logs in by, or has for a name.
    pub(super) async fn may_have(&self, email: &Email, subject: &SubjectId) -> Result<(), Error> {
        let Some(name) = LoginName::new(email.as_str()) else { return Ok(()) };
        let named = self.accounts.named(&name).await?;
        match named.iter().find(|taken| taken.account.subject != *subject) {
            Some(_) => Err(Refusal::EmailTaken.into()),
            None => Ok(()),
        }
    }

    /// What an owner changes about themselves at once.
    pub(super) async fn change_own(
        &self,
        subject: &SubjectId,
        change: AccountChange,
        now: Now,
    ) -> Result<Account, Error> {
        let changed = self.accounts.change(subject, &[change]).await?.ok_or(Refusal::NotFound)?;
        self.tokens.subject_changed(subject, now.wall).await?;
        Ok(changed)
    }
}
