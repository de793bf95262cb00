//! The password of an account, in the hands of its owner.

use super::Authority;
use super::address::preferring;
use super::post::languages_of;
use crate::account::{Account, AccountChange, Credentials, Email, LoginName};
use crate::actor::{Actor, By};
use crate::clock::Now;
use crate::event::Event;
use crate::hashing::{CheckTask, Overloaded};
use crate::language::Languages;
use crate::link::Purpose;
use crate::mail::{MailKind, MailOrder};
use crate::password::{EncodedPassword, Password, Verdict};
use crate::refusal::{Error, Refusal};
use crate::store::Bump;
use crate::subject::SubjectId;
use crate::token::{Identity, Source};

/// A new password for an old one.
#[derive(Debug)]
pub struct ChangeOfPassword {
    /// The one that opens the account now.
    pub current: Password,
    /// The one that shall.
    pub new: Password,
    /// Whether API keys end as well.
    pub keys_too: bool,
}

impl Authority {
    /// Exchanges the password of an account. Every other login token of it is ended, the one of this request stays; API keys
    /// end where that is asked for. Its owner is told.
    ///
    /// # Errors
    /// [`Refusal::PasswordWrong`], [`Refusal::TooManyAttempts`]; [`Refusal::PasswordWeak`];
    /// [`Refusal::NotFound`] where no account is kept; [`Error::Overloaded`].
    pub async fn change_own_password(
        &self,
        who: &Identity,
        change: ChangeOfPassword,
        source: &Source,
        now: Now,
    ) -> Result<(), Error> {
        let ChangeOfPassword { current, new, keys_too } = change;
        let (account, was) = self.check_credentials(&who.subject, current, source, now).await?;
        self.judge_new_password(&new, &account)?;
        let password = self.hash(new).await?;
        let bump = Bump::Subject { id: who.subject.clone(), keys_too, keep: Some(who.id) };
        // Before and after, as in `set_password`.
        self.tokens.bump_epoch(&bump, now.wall).await?;
        // Restates the one that was shown: of two changes at once one is made.
        if !self.accounts.set_password(&who.subject, Some(&was), &password).await? {
            return Err(Refusal::PasswordWrong.into());
        }
        self.drop_links(&who.subject, &[Purpose::Reset, Purpose::ChangeAddress]).await?;
        self.tokens.bump_epoch(&bump, now.wall).await?;
        self.publish(Event::PasswordChanged(who.subject.clone()), Actor::from(who), source, now.wall);
        self.tell_owner(&account, MailKind::PasswordChanged, source, now).await;
        Ok(())
    }

    /// Mails a link to choose a new password to every account of this address, and to nobody where there is none: which of it is
    /// not told, and takes as long. It goes to the address that is stored.
    ///
    /// # Errors
    /// [`Refusal::NoMail`], [`Refusal::LimitHit`]; [`Refusal::Invalid`] for `next`; [`Error::Overloaded`].
    pub async fn ask_reset(
        &self,
        email: &Email,
        languages: Languages,
        next: Option<&str>,
        source: &Source,
        now: Now,
    ) -> Result<(), Error> {
        let next = self.judge_next(next)?;
        self.mails_links(Purpose::Reset)?;
        self.count_mail(Purpose::Reset, email, source, now).await?;
        let mut orders = Vec::new();
        for account in self.accounts_of(email).await?.into_iter().filter(|account| account.active) {
            let languages = preferring(&account, &languages);
            orders.push(self.order_reset(&account, email, languages, next.clone(), now)?);
        }
        if orders.is_empty() {
            orders.push(self.order_for_nobody(languages, now)?);
        }
        let orders = self.limited(orders, Purpose::Reset, email, source, now).await;
        self.post(&orders, None).await?;
        for order in orders.into_iter().filter(|order| order.subject != self.nobody) {
            self.publish(Event::ResetAsked(order.subject), Actor::Stranger, source, now.wall);
        }
        Ok(())
    }

    fn order_reset(
        &self,
        account: &Account,
        asked: &Email,
        languages: Languages,
        next: Option<String>,
        now: Now,
    ) -> Result<MailOrder, Error> {
        let stored = account.email.as_ref().unwrap_or(asked);
        self.order(MailKind::ResetPassword, &account.subject, stored, languages, next, now)
    }

    /// Mails a link to choose a new password on the order of the operator or of staff, who never choose it themselves (OWASP
    /// ASVS 5.0 6.4.6).
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::AdminNeeded`]; [`Refusal::Invalid`] where the account has no address;
    /// [`Refusal::NoMail`], [`Error::Overloaded`].
    pub async fn start_reset(&self, subject: &SubjectId, by: &By, now: Now) -> Result<(), Error> {
        self.may_touch(subject, by).await?;
        self.mails_links(Purpose::Reset)?;
        let account = self.account(subject).await?;
        if !account.active {
            return Err(Refusal::invalid("active", "the account is disabled").into());
        }
        let Some(email) = &account.email else {
            return Err(Refusal::invalid("email", "the account has no address").into());
        };
        let order = self.order_reset(&account, email, languages_of(&account), None, now)?;
        self.post(&[order], None).await?;
        self.record(Event::ResetAsked(subject.clone()), by, now).await
    }

    /// Uses a link to choose a new password. Every login token of the account is ended, and where this is the first proof of
    /// its address every API key as well: whoever made the account with somebody else's address is out. Failed logins are
    /// forgotten, and nobody is logged in by it. Returns where the page goes on to.
    ///
    /// # Errors
    /// [`Refusal::LinkDead`]; [`Refusal::PasswordWeak`], and then the link stays;
    /// [`Error::Overloaded`].
    pub async fn reset_password(
        &self,
        text: &str,
        new: Password,
        source: &Source,
        now: Now,
    ) -> Result<Option<String>, Error> {
        let link = self.link(text, &[Purpose::Reset], now).await?;
        let subject = &link.subject;
        let account = self.account_of(subject).await?.ok_or(Refusal::LinkDead)?;
        if account.email.as_ref() != Some(&link.email) || !account.active {
            return Err(Refusal::LinkDead.into());
        }
        self.judge_new_password(&new, &account)?;
        let password = self.hash(new).await?;
        self.use_link(&link, now).await?;
        let is_first_proof = account.email_confirmed_at.is_none();
        let bump = Bump::Subject { id: subject.clone(), keys_too: is_first_proof, keep: None };
        self.tokens.open_subject(subject, now.wall).await?;
        // Before and after, as in `set_password`.
        self.tokens.bump_epoch(&bump, now.wall).await?;
        if !self.accounts.set_password(subject, None, &password).await? {
            return Err(Refusal::LinkDead.into());
        }
        if is_first_proof && self.may_have(&link.email, subject).await.is_ok() {
            let change = AccountChange::EmailConfirmed(link.email.clone(), now.wall);
            self.change_own(subject, change, now).await?;
        }
        self.drop_links(subject, &[Purpose::Reset, Purpose::ChangeAddress, Purpose::Confirm]).await?;
        self.tokens.forget_tries(subject).await?;
        self.tokens.bump_epoch(&bump, now.wall).await?;
        self.publish(Event::PasswordReset(subject.clone()), Actor::Stranger, source, now.wall);
        let account = self.account_of(subject).await?.unwrap_or(account);
        self.tell_owner(&account, MailKind::PasswordChanged, source, now).await;
        Ok(self.next_of(&link))
    }

    /// The account of somebody who shows its password again, counted as a login is.
    ///
    /// # Errors
    /// [`Refusal::PasswordWrong`], [`Refusal::TooManyAttempts`], [`Refusal::NotFound`]; [`Error::Overloaded`].
    pub(super) async fn check_own(
        &self,
        subject: &SubjectId,
        password: Password,
        source: &Source,
        now: Now,
    ) -> Result<Account, Error> {
        Ok(self.check_credentials(subject, password, source, now).await?.0)
    }

    async fn check_credentials(
        &self,
        subject: &SubjectId,
        password: Password,
        source: &Source,
        now: Now,
    ) -> Result<(Account, EncodedPassword), Error> {
        let credentials = self.accounts.account(subject).await?.ok_or(Refusal::NotFound)?;
        let name = LoginName::new(credentials.account.username.as_str()).map_or_else(String::new, |name| name.folded);
        let tag = self.tag("name", name.as_bytes());
        let _turn = self.limits.turn(tag).await;
        let counted = self.count_try(tag, Some(&credentials), source, now).await?;
        let fits = match self.is_password(password, &credentials.password).await {
            Ok(fits) => fits,
            Err(error) => {
                self.give_back(counted, Some(&credentials), now).await?;
                return Err(error);
            }
        };
        if !fits {
            self.publish(Event::PasswordRefused(subject.clone()), Actor::Stranger, source, now.wall);
            return Err(Refusal::PasswordWrong.into());
        }
        self.was_right(counted, now).await;
        self.tokens.forget_tries(subject).await?;
        let Credentials { account, password } = credentials;
        Ok((account, password))
    }

    /// Whether that is the password behind a row.
    pub(super) async fn is_password(&self, password: Password, row: &EncodedPassword) -> Result<bool, Error> {
        let mut salt = [0; 16];
        self.entropy.fill(&mut salt)?;
        let task = CheckTask {
            password,
            against: Some(row.clone()),
            present: Vec::new(),
            params: self.settings().hashing,
            salt,
        };
        let checked = self.hashing.check(task).await.map_err(|Overloaded| Error::Overloaded)?;
        Ok(matches!(checked.verdict, Ok(Verdict::Match { .. })))
    }

    fn judge_new_password(&self, new: &Password, account: &Account) -> Result<(), Refusal> {
        let email = account.email.as_ref().map_or("", Email::as_str);
        let context = [account.username.as_str(), email, &account.first_name, &account.last_name];
        self.judge_password("new_password", new, &context)
    }
}
