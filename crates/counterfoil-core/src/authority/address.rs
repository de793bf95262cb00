//! The address of an account: proving it, changing it, taking that back.

use super::Authority;
use super::Linked;
use super::post::languages_of;
use crate::account::{Account, AccountChange, Email};
use crate::actor::{Actor, By};
use crate::clock::Now;
use crate::event::Event;
use crate::language::Languages;
use crate::link::{Link, Purpose};
use crate::mail::{MailKind, MailOrder};
use crate::password::{EncodedPassword, Password};
use crate::refusal::{Error, Refusal};
use crate::store::{Bump, StoreError};
use crate::subject::SubjectId;
use crate::token::{Identity, Kind, Source};

/// What whoever uses a link shows besides reading the mail: that they are the one who registered, or who asked for the change.
/// Else somebody who registers in another's name would only have to wait until that one clicks.
#[derive(Debug)]
pub enum Proof<'a> {
    /// The account's password, or that of the registration.
    Password(Password),
    /// A live login token of the account.
    Holder(&'a Identity),
}

/// What a link has done.
#[derive(Debug)]
pub struct Confirmed {
    /// The account as it is now.
    pub account: Account,
    /// Where its page goes on to.
    pub next: Option<String>,
}

/// How many who registered with one address are mailed when somebody asks for their link again.
const MOST_WISHES: u32 = 3;

/// The links that end when an account gets another address; that by which the old one takes it back stays.
const ENDED_BY_ANOTHER_ADDRESS: [Purpose; 3] = [Purpose::Confirm, Purpose::ChangeAddress, Purpose::Reset];

impl Authority {
    /// Uses a link to prove an address: of a registration, whose account is made; of an account; or of an account that is to
    /// have it instead of another.
    ///
    /// # Errors
    /// [`Refusal::LinkDead`], [`Refusal::PasswordWrong`] (the link stays), [`Refusal::TooManyAttempts`],
    /// [`Refusal::EmailTaken`], [`Refusal::UsernameTaken`] where somebody has taken the name since.
    pub async fn confirm_email(
        &self,
        text: &str,
        proof: Proof<'_>,
        source: &Source,
        now: Now,
    ) -> Result<Confirmed, Error> {
        let link = self.link(text, &[Purpose::Register, Purpose::Confirm, Purpose::ChangeAddress], now).await?;
        let account = match (link.purpose, proof) {
            (Purpose::Register, Proof::Password(password)) => {
                self.complete_registration(&link, password, source, now).await?
            }
            // Nobody has a token of an account that there is not.
            (Purpose::Register, Proof::Holder(_)) => return Err(Refusal::PasswordWrong.into()),
            (Purpose::ChangeAddress, proof) => {
                let actor = self.shown_by(&link, proof, source, now).await?;
                self.take_address(&link, actor, source, now).await?
            }
            (Purpose::Confirm | Purpose::UndoChange | Purpose::Reset, proof) => {
                let actor = self.shown_by(&link, proof, source, now).await?;
                self.prove_address(&link, actor, source, now).await?
            }
        };
        Ok(Confirmed { account, next: self.next_of(&link) })
    }

    /// Whose address a link confirms, for a page that asks before [`Authority::confirm_by_mail_alone`]. Nothing is used up.
    ///
    /// # Errors
    /// [`Refusal::LinkDead`]; [`Refusal::LimitHit`] for an address that has tried too many; [`Refusal::NoMail`].
    pub async fn linked_to_confirm(&self, text: &str, source: &Source, now: Now) -> Result<Linked, Error> {
        let link = self.link_to_confirm(text, source, now).await?;
        let account = self.account_of(&link.subject).await?.ok_or(Refusal::LinkDead)?;
        if account.email.as_ref() != Some(&link.email) {
            return Err(Refusal::LinkDead.into());
        }
        Ok(Linked { next: self.next_of(&link), link, username: account.username })
    }

    /// Uses a link to confirm the address that an account has, for whoever reads the mail and shows nothing else: for dialects of
    /// packages that have it so. Somebody who makes an account with the address of another one has to wait until that one confirms
    /// it; [`Authority::confirm_email`] asks for more.
    ///
    /// # Errors
    /// As [`Authority::linked_to_confirm`]; [`Refusal::EmailTaken`].
    pub async fn confirm_by_mail_alone(&self, text: &str, source: &Source, now: Now) -> Result<Account, Error> {
        let link = self.link_to_confirm(text, source, now).await?;
        self.prove_address(&link, Actor::Stranger, source, now).await
    }

    /// Who shows that the account of a link is theirs.
    async fn shown_by(&self, link: &Link, proof: Proof<'_>, source: &Source, now: Now) -> Result<Actor, Error> {
        match proof {
            Proof::Password(password) => {
                self.check_own(&link.subject, password, source, now).await?;
                Ok(Actor::Stranger)
            }
            // A key is handed to programs: none of them decides where its owner's mail goes.
            Proof::Holder(who) if who.subject == link.subject && who.kind == Kind::Login => Ok(Actor::from(who)),
            Proof::Holder(_) => Err(Refusal::PasswordWrong.into()),
        }
    }

    async fn prove_address(&self, link: &Link, actor: Actor, source: &Source, now: Now) -> Result<Account, Error> {
        let account = self.account_of(&link.subject).await?.ok_or(Refusal::LinkDead)?;
        if account.email.as_ref() != Some(&link.email) || !account.active {
            return Err(Refusal::LinkDead.into());
        }
        self.may_have(&link.email, &link.subject).await?;
        self.use_link(link, now).await?;
        // Restates the address, which may have been changed meanwhile.
        let change = AccountChange::EmailConfirmed(link.email.clone(), now.wall);
        let account = self.change_own(&link.subject, change, now).await?;
        if account.email.as_ref() != Some(&link.email) {
            return Err(Refusal::LinkDead.into());
        }
        self.publish(Event::EmailConfirmed(account.subject.clone()), actor, source, now.wall);
        Ok(account)
    }

    async fn take_address(&self, link: &Link, actor: Actor, source: &Source, now: Now) -> Result<Account, Error> {
        let before = self.account_of(&link.subject).await?.filter(|account| account.active).ok_or(Refusal::LinkDead)?;
        self.may_have(&link.email, &link.subject).await?;
        // The first of several old addresses alone can take them all back: whoever makes two changes owns the second one.
        let can_undo = self.mails_links(Purpose::UndoChange).is_ok()
            && !self.mail()?.store.has_link(&link.subject, Purpose::UndoChange, now.wall).await?;
        self.use_link(link, now).await?;
        // Restates the address that it replaces: one that the old one has taken back meanwhile stays.
        let change =
            AccountChange::EmailReplaced { from: before.email.clone(), email: link.email.clone(), at: now.wall };
        let account = self.change_own(&link.subject, change, now).await?;
        if account.email.as_ref() != Some(&link.email) {
            return Err(Refusal::LinkDead.into());
        }
        // Told before anything else can fail: the address has been changed.
        self.publish(Event::EmailChanged(account.subject.clone()), actor, source, now.wall);
        self.tell_old_address(&before, &account, can_undo, source, now).await;
        self.tell_owner(&account, MailKind::AddressTaken, source, now).await;
        self.drop_links(&link.subject, &ENDED_BY_ANOTHER_ADDRESS).await?;
        Ok(account)
    }

    /// Mails another link to confirm the address that somebody's account has.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] where no account is kept; [`Refusal::Invalid`] where it has no address, or a confirmed one;
    /// [`Refusal::NoMail`], [`Refusal::LimitHit`], [`Error::Overloaded`].
    pub async fn ask_confirmation(
        &self,
        who: &Identity,
        languages: Languages,
        next: Option<&str>,
        source: &Source,
        now: Now,
    ) -> Result<(), Error> {
        let next = self.judge_next(next)?;
        let account = self.account(&who.subject).await?;
        let email = to_be_confirmed(&account)?;
        self.mails_links(Purpose::Confirm)?;
        self.count_mail(Purpose::Confirm, email, source, now).await?;
        let languages = preferring(&account, &languages);
        let order = self.order(MailKind::ConfirmAddress, &account.subject, email, languages, next, now)?;
        self.post(&[order], None).await?;
        self.publish(Event::ConfirmationAsked(account.subject), Actor::from(who), source, now.wall);
        Ok(())
    }

    /// Mails another link to whoever registered or has an account with this address that is not confirmed. Whether there is
    /// one is not told.
    ///
    /// # Errors
    /// [`Refusal::NoMail`], [`Refusal::LimitHit`], [`Error::Overloaded`].
    pub async fn ask_confirmation_by_address(
        &self,
        email: &Email,
        languages: Languages,
        next: Option<&str>,
        source: &Source,
        now: Now,
    ) -> Result<(), Error> {
        let next = self.judge_next(next)?;
        self.mails_links(Purpose::Confirm)?;
        self.count_mail(Purpose::Confirm, email, source, now).await?;
        let mut orders = Vec::new();
        let accounts = self.accounts_of(email).await?;
        let wishes = self.mail()?.store.registrations_of(email, MOST_WISHES).await?;
        if accounts.iter().all(|account| account.email_confirmed_at.is_none()) {
            for wish in wishes.into_iter().filter(|wish| now.wall < wish.expires_at) {
                let (kind, next) = (MailKind::ConfirmRegistration, next.clone());
                let order = self.order(kind, &wish.subject, &wish.email, languages.clone(), next, now)?;
                orders.push(MailOrder { expires_at: order.expires_at.min(wish.expires_at), ..order });
            }
        }
        for account in accounts {
            if let Ok(stored) = to_be_confirmed(&account) {
                let languages = preferring(&account, &languages);
                let next = next.clone();
                orders.push(self.order(MailKind::ConfirmAddress, &account.subject, stored, languages, next, now)?);
            }
        }
        if orders.is_empty() {
            orders.push(self.order_for_nobody(languages, now)?);
        }
        let orders = self.limited(orders, Purpose::Confirm, email, source, now).await;
        self.post(&orders, None).await?;
        for order in orders.into_iter().filter(|order| order.kind == MailKind::ConfirmAddress) {
            self.publish(Event::ConfirmationAsked(order.subject), Actor::Stranger, source, now.wall);
        }
        Ok(())
    }

    /// Mails a link to confirm the address of an account, on the order of the operator, of staff or of the host.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::AdminNeeded`]; [`Refusal::Invalid`] where the account has no address, or a confirmed
    /// one; [`Refusal::NoMail`], [`Error::Overloaded`].
    pub async fn send_confirmation(&self, subject: &SubjectId, by: &By, now: Now) -> Result<(), Error> {
        self.may_touch(subject, by).await?;
        self.mails_links(Purpose::Confirm)?;
        let account = self.account(subject).await?;
        let email = to_be_confirmed(&account)?;
        let order = self.order(MailKind::ConfirmAddress, subject, email, languages_of(&account), None, now)?;
        self.post(&[order], None).await?;
        self.record(Event::ConfirmationAsked(subject.clone()), by, now).await
    }

    /// Asks for another address: a link goes there, and the old one is told. Nothing is changed before the link is used. Where
    /// somebody else logs in by that address, they are told instead, and the answer is the same.
    ///
    /// # Errors
    /// [`Refusal::PasswordWrong`], [`Refusal::TooManyAttempts`]; [`Refusal::Invalid`] where it is the account's address
    /// already; [`Refusal::NoMail`], [`Refusal::LimitHit`], [`Error::Overloaded`].
    pub async fn ask_email_change(
        &self,
        who: &Identity,
        wanted: ChangeOfAddress,
        source: &Source,
        now: Now,
    ) -> Result<(), Error> {
        let ChangeOfAddress { email, password, languages, next } = wanted;
        let next = self.judge_next(next.as_deref())?;
        self.mails_links(Purpose::ChangeAddress)?;
        self.count_mail(Purpose::ChangeAddress, &email, source, now).await?;
        let account = self.check_own(&who.subject, password, source, now).await?;
        if account.email.as_ref() == Some(&email) && account.email_confirmed_at.is_some() {
            return Err(Refusal::invalid("email", "is the address already").into());
        }
        let languages = preferring(&account, &languages);
        let mut orders = vec![match self.owner_of(&email, &account.subject).await? {
            Some(owner) => {
                let to = owner.email.as_ref().unwrap_or(&email);
                self.order(MailKind::AlreadyRegistered, &owner.subject, to, languages.clone(), None, now)?
            }
            None => self.order(MailKind::ConfirmNewAddress, &account.subject, &email, languages.clone(), next, now)?,
        }];
        if let Some(old) = account.email.as_ref().filter(|_| account.email_confirmed_at.is_some()) {
            let kind = MailKind::AddressChangeAsked { new: email };
            orders.push(self.order(kind, &account.subject, old, languages, None, now)?);
        }
        // One request at a time: what was asked for before is not to come true after this.
        self.drop_links(&account.subject, &[Purpose::ChangeAddress]).await?;
        self.post(&orders, None).await?;
        self.publish(Event::EmailChangeAsked(account.subject), Actor::from(who), source, now.wall);
        Ok(())
    }

    /// Uses the link that the old address got: the account has it again, every token of it is ended, its password opens nothing
    /// any more, and a link to choose a new one is mailed there. Whoever changed the address knew the password.
    ///
    /// # Errors
    /// [`Refusal::LinkDead`], [`Refusal::EmailTaken`].
    pub async fn undo_email_change(&self, text: &str, source: &Source, now: Now) -> Result<(), Error> {
        let link = self.link(text, &[Purpose::UndoChange], now).await?;
        let subject = &link.subject;
        self.account_of(subject).await?.ok_or(Refusal::LinkDead)?;
        self.may_have(&link.email, subject).await?;
        let bump = Bump::Subject { id: subject.clone(), keys_too: true, keep: None };
        self.tokens.open_subject(subject, now.wall).await?;
        self.tokens.bump_epoch(&bump, now.wall).await?;
        if !self.accounts.set_password(subject, None, &EncodedPassword::unusable()).await? {
            return Err(StoreError::new(UNDOING, "its store has kept the password").into());
        }
        let change = AccountChange::Email(Some(link.email.clone()), Some(now.wall));
        let account = self.change_own(subject, change, now).await?;
        if account.email.as_ref() != Some(&link.email) {
            return Err(StoreError::new(UNDOING, "its store has kept the other address").into());
        }
        // And after: a login that read the old password restates the epoch from before this bump and fails.
        self.tokens.bump_epoch(&bump, now.wall).await?;
        // Last, because all of the above may be done again: what stops half-way must not have cost the owner their link. With
        // it goes whatever else was mailed, to whichever address.
        self.drop_links(subject, &Purpose::ALL).await?;
        self.publish(Event::EmailChangeUndone(subject.clone()), Actor::Stranger, source, now.wall);
        self.tell_owner(&account, MailKind::ResetPassword, source, now).await;
        Ok(())
    }

    /// Ends every link of an account that the operator or staff gave another address, and tells the old one.
    pub(super) async fn address_was_changed(
        &self,
        before: &Account,
        account: &Account,
        by: &By,
        now: Now,
    ) -> Result<(), Error> {
        self.tell_old_address(before, account, false, by.source(), now).await;
        self.drop_links(&account.subject, &Purpose::ALL).await
    }

    async fn tell_old_address(&self, before: &Account, account: &Account, can_undo: bool, source: &Source, now: Now) {
        let old = before.email.as_ref().filter(|_| before.email_confirmed_at.is_some());
        let (Some(old), Some(new)) = (old, &account.email) else { return };
        let kind = MailKind::AddressChanged { new: new.clone(), can_undo };
        let order = self.order(kind, &account.subject, old, languages_of(account), None, now);
        self.post_notice(order, source, now).await;
    }
}

/// While what happened.
const UNDOING: &str = "taking back a change of address";

/// Another address for an account.
#[derive(Debug)]
pub struct ChangeOfAddress {
    /// Which.
    pub email: Email,
    /// The account's password, asked again.
    pub password: Password,
    /// The languages its owner reads, as far as is known.
    pub languages: Languages,
    /// Where the page behind the mailed link shall go on to.
    pub next: Option<String>,
}

fn to_be_confirmed(account: &Account) -> Result<&Email, Refusal> {
    match &account.email {
        None => Err(Refusal::invalid("email", "the account has no address")),
        Some(_) if account.email_confirmed_at.is_some() => {
            Err(Refusal::invalid("email", "the address is confirmed already"))
        }
        Some(email) => Ok(email),
    }
}

/// What the account says comes before what the request says.
pub(super) fn preferring(account: &Account, languages: &Languages) -> Languages {
    account.locale.as_deref().into_iter().chain(languages.tags()).collect()
}
