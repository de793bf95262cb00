//! What goes out by mail: asked for here, sent in the background.

use std::sync::{Arc, Mutex, PoisonError};

use super::Authority;
use crate::account::{Account, Email, LoginName};
use crate::account_rules::{AccountRules, Links};
use crate::actor::Actor;
use crate::client::Lifetime;
use crate::clock::{Now, Timestamp};
use crate::event::{Event, Limit, MailLoss};
use crate::language::Languages;
use crate::link::{Link, Purpose};
use crate::mail::{Letter, MailId, MailKind, MailOrder, Mailer, NotSent, Registration, Waiting};
use crate::refusal::{Error, Refusal};
use crate::secret::{Candidates, DigestScheme, Prefix, SecretToken, TokenDigest};
use crate::shape::TokenShape;
use crate::store::{AccountQuery, ExpiringQuery, MailStore, StoreError, TokenFilter, TokenQuery};
use crate::subject::{SubjectId, SubjectState};
use crate::token::{Kind, Source, Standing, Token, UserAgent};
use crate::username::Username;

/// What it takes to send mail.
#[derive(Debug, Clone)]
pub struct MailParts {
    /// Where mails wait and links are kept.
    pub store: Arc<dyn MailStore>,
    /// What writes and sends them.
    pub mailer: Arc<dyn Mailer>,
}

/// How many mails may wait. Beyond it whoever asks for one is told to come back later.
const MOST_WAITING: u64 = 10_000;
/// So many more are taken of what owners are told unasked: nobody who asks for mails can keep that from them.
const KEPT_FOR_NOTICES: u64 = 10_000;
/// How long a mail belongs to the one who took it to send it. More than a [`Mailer`] may take.
const CLAIMED_MILLIS: u64 = 120_000;
/// How long a notice is worth sending. A link in it works for no longer than one that was asked for.
const NOTICE_HOURS: u64 = 24;
/// How many accounts of one address are mailed when somebody asks for a new password: an import may have brought several.
const MOST_OF_AN_ADDRESS: usize = 5;
/// So many of them the oldest ones.
const OLDEST_OF_AN_ADDRESS: usize = 3;
/// Among how many that say they have it.
const LOOKED_THROUGH: u32 = 200;
/// How many logins may wait to be looked at for a new device. What comes beyond is not told of.
const MOST_LOGINS_NOTED: usize = 1_000;
/// How many of a subject's tokens are looked through for a device.
const DEVICES_LOOKED_THROUGH: u32 = 500;
/// Tokens that are read at once when owners are told of those that expire.
const REMINDED_AT_ONCE: u32 = 500;

/// A link, and what a page has to know to say what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linked {
    /// The link.
    pub link: Link,
    /// The name of its account, or of its registration.
    pub username: Username,
    /// Where its page goes on to, if that is still allowed.
    pub next: Option<String>,
}

/// What became of a mail that was taken to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// It was sent.
    Sent,
    /// It was not, and will be tried again.
    Postponed,
    /// It was not, and never will be.
    GivenUp,
    /// There was nothing to send any more: its account is gone, has another address, or has confirmed it.
    Pointless,
}

/// Logins that are to be looked at for a new device.
#[derive(Debug, Default)]
pub(super) struct LoginsNoted(Mutex<Vec<Token>>);

impl Authority {
    /// Whether there is anything to send mails by, be it known or not where their links lead.
    pub fn has_mailer(&self) -> bool {
        self.mail.is_some()
    }

    /// Whether links can be mailed.
    pub fn sends_mail(&self) -> bool {
        self.mail.is_some() && self.chosen().settings.accounts.links != Links::default()
    }

    /// # Errors
    /// [`Refusal::NoMail`].
    pub(super) fn mail(&self) -> Result<&MailParts, Refusal> {
        self.mail.as_ref().filter(|_| self.sends_mail()).ok_or(Refusal::NoMail)
    }

    /// Whether links for `purpose` can be mailed: said to whoever asks, before anything is looked up, rather than let them wait
    /// for a mail that never comes.
    ///
    /// # Errors
    /// [`Refusal::NoMail`].
    pub(super) fn mails_links(&self, purpose: Purpose) -> Result<(), Refusal> {
        let leads = self.chosen().settings.accounts.links.lead(purpose);
        if self.mail.is_some() && leads { Ok(()) } else { Err(Refusal::NoMail) }
    }

    /// Counts a mail, or a registration, that somebody asks for, by where they are.
    pub(super) async fn count_asking(&self, source: &Source, now: Now) -> Result<(), Error> {
        let rate = self.chosen().settings.accounts.mails_per_source;
        self.count_letter(Limit::Mails, source.ip.map(|_| self.address_tag(source)), rate, source, now).await
    }

    /// The same of a mail to an address that they may have made up. Counted for each purpose by itself: whoever has asked for
    /// one thing in somebody's name, which may not even have brought a mail, keeps them from no other.
    pub(super) async fn count_mail(
        &self,
        purpose: Purpose,
        to: &Email,
        source: &Source,
        now: Now,
    ) -> Result<(), Error> {
        self.count_asking(source, now).await?;
        self.count_to_mailbox(purpose, to, source, now).await
    }

    async fn count_to_mailbox(&self, purpose: Purpose, to: &Email, source: &Source, now: Now) -> Result<(), Error> {
        let mails_per_address = self.chosen().settings.accounts.mails_per_address;
        let mailbox = self.tag(purpose.as_str(), to.folded().as_bytes());
        self.count_letter(Limit::MailsToAddress, Some(mailbox), mails_per_address, source, now).await
    }

    /// Leaves of several mails to one address those that it may still be sent; the first one has been counted.
    pub(super) async fn limited(
        &self,
        mut orders: Vec<MailOrder>,
        purpose: Purpose,
        to: &Email,
        source: &Source,
        now: Now,
    ) -> Vec<MailOrder> {
        let mut most = 1;
        while most < orders.len() && self.count_to_mailbox(purpose, to, source, now).await.is_ok() {
            most += 1;
        }
        orders.truncate(most);
        orders
    }

    /// An order for one mail.
    pub(super) fn order(
        &self,
        kind: MailKind,
        subject: &SubjectId,
        to: &Email,
        languages: Languages,
        next: Option<String>,
        now: Now,
    ) -> Result<MailOrder, Error> {
        let AccountRules { confirm_within, reset_within, undo_within, .. } = &self.chosen().settings.accounts;
        let millis = match kind {
            MailKind::ConfirmRegistration | MailKind::ConfirmAddress | MailKind::ConfirmNewAddress => {
                confirm_within.millis()
            }
            MailKind::ResetPassword => reset_within.millis(),
            MailKind::AddressChanged { .. } => undo_within.millis(),
            MailKind::AlreadyRegistered
            | MailKind::AddressChangeAsked { .. }
            | MailKind::AddressTaken
            | MailKind::PasswordChanged
            | MailKind::NewDevice { .. }
            | MailKind::TokenExpiring { .. }
            | MailKind::Test => NOTICE_HOURS * 3_600_000,
        };
        Ok(MailOrder {
            id: MailId::generate(now.wall, self.entropy.as_ref())?,
            kind,
            subject: subject.clone(),
            to: to.clone(),
            languages,
            next,
            asked_at: now.wall,
            expires_at: now.wall.plus_millis(millis),
        })
    }

    /// An order that no mail will come of, for whoever must not see that there is nobody to write to.
    pub(super) fn order_for_nobody(&self, languages: Languages, now: Now) -> Result<MailOrder, Error> {
        let nowhere = "nobody@invalid".parse().map_err(|error| StoreError::new("queueing a mail", error))?;
        self.order(MailKind::ResetPassword, &self.nobody, &nowhere, languages, None, now)
    }

    /// Puts mails that somebody waits for into the queue.
    ///
    /// # Errors
    /// [`Refusal::NoMail`]; [`Error::Overloaded`] where too many are waiting.
    pub(super) async fn post(&self, orders: &[MailOrder], registration: Option<&Registration>) -> Result<(), Error> {
        let mail = self.mail()?;
        if mail.store.post(orders, registration, MOST_WAITING).await? { Ok(()) } else { Err(Error::Overloaded) }
    }

    /// Puts a notice into the queue, where mail is sent at all. What it tells has been done: that it cannot be told undoes
    /// nothing.
    pub(super) async fn post_notice(&self, order: Result<MailOrder, Error>, source: &Source, now: Now) {
        let (Ok(mail), Ok(order)) = (self.mail(), order) else { return };
        let posted = mail.store.post(std::slice::from_ref(&order), None, MOST_WAITING + KEPT_FOR_NOTICES).await;
        if !matches!(posted, Ok(true)) {
            let lost = Event::MailLost { subject: order.subject, kind: order.kind.name(), why: MailLoss::QueueFull };
            self.publish(lost, Actor::Deployment, source, now.wall);
        }
    }

    /// A notice to the confirmed address of an account, if it has one.
    pub(super) async fn tell_owner(&self, account: &Account, kind: MailKind, source: &Source, now: Now) {
        let Some(email) = account.email.as_ref().filter(|_| account.email_confirmed_at.is_some()) else { return };
        let order = self.order(kind, &account.subject, email, languages_of(account), None, now);
        self.post_notice(order, source, now).await;
    }

    /// Accounts of this address: those that log in by it; where there is none, some that merely say so, the oldest and the
    /// newest: whoever makes many with somebody's address pushes neither one that was there before nor one that comes after out.
    ///
    /// Letters beyond ASCII are not folded: what looks like another address, or is one in another case, is not this one, and
    /// what is mailed goes to the address that is stored (CVE-2019-19844).
    pub(super) async fn accounts_of(&self, email: &Email) -> Result<Vec<Account>, Error> {
        let has_it = |account: &Account| {
            account.email.as_ref().is_some_and(|stored| stored.as_str().eq_ignore_ascii_case(email.as_str()))
        };
        let named = match LoginName::new(email.as_str()) {
            Some(name) => self.accounts.named(&name).await?,
            None => Vec::new(),
        };
        let query = AccountQuery { email: Some(email.clone()), limit: LOOKED_THROUGH, ..AccountQuery::default() };
        // Both are asked in any case: how long it takes must not tell whether somebody logs in by it.
        let mut unproved = self.accounts.accounts(&query).await?;
        let proved: Vec<Account> = named
            .into_iter()
            .map(|credentials| credentials.account)
            .filter(|account| has_it(account) && account.email_confirmed_at.is_some())
            .collect();
        if !proved.is_empty() {
            return Ok(proved);
        }
        unproved.retain(|account| has_it(account) && account.email_confirmed_at.is_none());
        unproved.sort_by_key(|account| account.created_at);
        if let Some(surplus) = unproved.len().checked_sub(MOST_OF_AN_ADDRESS) {
            unproved.drain(OLDEST_OF_AN_ADDRESS..OLDEST_OF_AN_ADDRESS + surplus);
        }
        Ok(unproved)
    }

    /// The secret of a link, and what is kept of it.
    fn mint_link(&self, purpose: Purpose) -> Result<(SecretToken, TokenDigest), Error> {
        let chosen = self.chosen();
        let shape = match purpose {
            Purpose::Register | Purpose::Confirm | Purpose::ChangeAddress => &chosen.settings.accounts.links.shape,
            Purpose::UndoChange | Purpose::Reset => &TokenShape::Native,
        };
        // Without a check in it nobody would look it up.
        let shape = if shape.scheme() == DigestScheme::Native { shape } else { &TokenShape::Native };
        let (secret, _) = self.format.mint_as(shape, &Prefix::link(), self.entropy.as_ref())?;
        let digest = TokenDigest::of_link(secret.expose());
        Ok((secret, digest))
    }

    /// The link of this text, where it is good for one of `purposes`. It is not used up by that.
    ///
    /// # Errors
    /// [`Refusal::NoMail`], [`Refusal::LinkDead`].
    pub async fn link(&self, text: &str, purposes: &[Purpose], now: Now) -> Result<Link, Error> {
        // What was made up costs no query.
        let Some(Candidates::Native(_)) = self.format.read(text) else { return Err(Refusal::LinkDead.into()) };
        let found = self.mail()?.store.link(&TokenDigest::of_link(text)).await?;
        let alive = |link: &Link| purposes.contains(&link.purpose) && now.wall < link.expires_at;
        Ok(found.filter(alive).ok_or(Refusal::LinkDead)?)
    }

    /// As [`Authority::link`], for one that confirms the address of an account, and may have been mailed by django-rest-authtoken:
    /// such a text has no check, so that whoever misses often has to wait.
    pub(super) async fn link_to_confirm(&self, text: &str, source: &Source, now: Now) -> Result<Link, Error> {
        match self.format.read_with(text, &[DigestScheme::RestAuthtokenSha512]) {
            None => Err(Refusal::LinkDead.into()),
            Some(Candidates::Native(_)) => self.link(text, &[Purpose::Confirm], now).await,
            Some(Candidates::Imported(digests)) => {
                self.judge_misses(source, now).await?;
                for (_, digest) in digests {
                    let found = self.mail()?.store.link(&digest).await?;
                    if let Some(link) =
                        found.filter(|link| link.purpose == Purpose::Confirm && now.wall < link.expires_at)
                    {
                        return Ok(link);
                    }
                }
                self.count_miss(source, now).await;
                Err(Refusal::LinkDead.into())
            }
        }
    }

    /// The link of this text, whose it is, and where its page goes on to: for a page that says what it is about to do. Nothing is
    /// used up or changed.
    ///
    /// # Errors
    /// [`Refusal::NoMail`], [`Refusal::LinkDead`].
    pub async fn linked(&self, text: &str, purposes: &[Purpose], now: Now) -> Result<Linked, Error> {
        let link = self.link(text, purposes, now).await?;
        let username = match link.purpose {
            Purpose::Register => {
                self.mail()?.store.registration(&link.subject).await?.map(|registration| registration.username)
            }
            Purpose::Confirm | Purpose::ChangeAddress | Purpose::UndoChange | Purpose::Reset => {
                self.account_of(&link.subject).await?.map(|account| account.username)
            }
        };
        let username = username.ok_or(Refusal::LinkDead)?;
        Ok(Linked { next: self.next_of(&link), link, username })
    }

    /// Uses a link up. Of several at once one succeeds.
    pub(super) async fn use_link(&self, link: &Link, now: Now) -> Result<(), Error> {
        let used = self.mail()?.store.use_link(&link.digest, link.purpose, now.wall).await?;
        used.map(drop).ok_or(Refusal::LinkDead.into())
    }

    /// Ends the links that a subject has for these purposes, if links are mailed at all.
    pub(super) async fn drop_links(&self, subject: &SubjectId, purposes: &[Purpose]) -> Result<(), Error> {
        match &self.mail {
            Some(mail) => Ok(mail.store.drop_links(subject, purposes).await?),
            None => Ok(()),
        }
    }

    /// Where somebody wants a page to go on to, if that is allowed.
    pub(super) fn judge_next(&self, next: Option<&str>) -> Result<Option<String>, Refusal> {
        let chosen = self.chosen();
        let allowed = next.map(|next| chosen.settings.accounts.redirects.allowed(next)).transpose();
        let allowed = allowed.map_err(|why| Refusal::invalid("next", why))?;
        Ok(allowed.map(|to| to.as_str().to_owned()))
    }

    /// Where the page behind a link goes on to, if that is still allowed.
    pub(super) fn next_of(&self, link: &Link) -> Option<String> {
        link.next.as_deref().and_then(|next| self.judge_next(Some(next)).ok().flatten())
    }

    // ── In the background ───────────────────────────────────────────────────────────────────────────────────────────

    /// Takes up to `limit` mails that are due, to hand each to [`Authority::deliver`]; several at once is fine, and so are
    /// several nodes. Whoever has not handed over one within two minutes has lost it to the next who asks, so take no more than
    /// can be sent at once. To be called about twice a second.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn claim_mails(&self, limit: u32, now: Now) -> Result<Vec<Waiting>, Error> {
        let Some(mail) = &self.mail else { return Ok(Vec::new()) };
        let claimed = mail.store.claim(now.wall, now.wall.plus_millis(CLAIMED_MILLIS), limit).await?;
        for Waiting { order, .. } in claimed.expired {
            if order.subject != self.nobody {
                self.mail_lost(&order, MailLoss::Expired, now);
            }
        }
        Ok(claimed.due)
    }

    /// Writes and sends a mail that was claimed, with a link made for it.
    ///
    /// # Errors
    /// When a store or the source of randomness fails; then it is tried again when its claim has run out.
    pub async fn deliver(&self, waiting: Waiting, now: Now) -> Result<Delivery, Error> {
        let Some(mail) = &self.mail else { return Ok(Delivery::Postponed) };
        let Waiting { order, tries, .. } = waiting;
        let Some(letter) = self.letter(mail, &order, now).await? else {
            mail.store.done(order.id).await?;
            return Ok(Delivery::Pointless);
        };
        let outcome = match letter {
            Ok(letter) => mail.mailer.send(letter).await,
            Err(no_url) => Err(no_url),
        };
        match outcome {
            Ok(()) => {
                mail.store.done(order.id).await?;
                Ok(Delivery::Sent)
            }
            Err(NotSent::Later(error)) => {
                let next = now.wall.plus_millis(Waiting::delay_millis(tries));
                mail.store.postpone(order.id, next, &in_one_line(error.as_ref())).await?;
                Ok(Delivery::Postponed)
            }
            Err(NotSent::Never(_)) => {
                mail.store.done(order.id).await?;
                self.mail_lost(&order, MailLoss::Refused, now);
                Ok(Delivery::GivenUp)
            }
        }
    }

    /// The letter of an order; `None` where there is nothing to tell any more.
    async fn letter(
        &self,
        mail: &MailParts,
        order: &MailOrder,
        now: Now,
    ) -> Result<Option<Result<Letter, NotSent>>, Error> {
        let rules = self.chosen().settings.accounts.clone();
        // A notice is worth telling for longer than a link in it may lie about.
        let expires_at = match order.kind.purpose() {
            Some(Purpose::Reset) => order.expires_at.min(in_time(rules.reset_within, now)),
            Some(Purpose::Register | Purpose::Confirm | Purpose::ChangeAddress | Purpose::UndoChange) | None => {
                order.expires_at
            }
        };
        let username = if order.kind == MailKind::Test {
            None
        } else if order.kind == MailKind::ConfirmRegistration {
            mail.store.registration(&order.subject).await?.map(|registration| registration.username)
        } else {
            let account = self.account_of(&order.subject).await?;
            account
                .filter(|account| is_still_to_be_told(&order.kind, account, &order.to))
                .map(|account| account.username)
        };
        if username.is_none() && order.kind != MailKind::Test {
            return Ok(None);
        }
        let url = match order.kind.purpose() {
            Some(purpose) => {
                let (secret, digest) = self.mint_link(purpose)?;
                let url = rules.links.of(purpose, &secret);
                if url.is_some() {
                    mail.store
                        .keep_link(&Link {
                            digest,
                            purpose,
                            subject: order.subject.clone(),
                            email: order.to.clone(),
                            next: order.next.clone(),
                            expires_at,
                        })
                        .await?;
                }
                url
            }
            None if matches!(order.kind, MailKind::AddressChanged { .. }) => None,
            None if order.kind == MailKind::AlreadyRegistered => rules.links.forgot(),
            None => rules.links.account(),
        };
        if url.is_none() && order.kind.purpose().is_some() {
            return Ok(Some(Err(NotSent::Later("nothing is known of where the pages of links are".into()))));
        }
        Ok(Some(Ok(Letter {
            id: order.id,
            kind: order.kind.clone(),
            to: order.to.clone(),
            username,
            languages: order.languages.clone(),
            url,
            site: rules.site,
            at: order.asked_at,
            expires_at,
        })))
    }

    fn mail_lost(&self, order: &MailOrder, why: MailLoss, now: Now) {
        let lost = Event::MailLost { subject: order.subject.clone(), kind: order.kind.name(), why };
        self.publish(lost, Actor::Deployment, &Source::default(), now.wall);
    }

    /// Mails that are waiting, and how many there are in all.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn mails_waiting(&self, limit: u32) -> Result<(Vec<Waiting>, u64), Error> {
        let Some(mail) = &self.mail else { return Ok((Vec::new(), 0)) };
        Ok((mail.store.waiting(limit).await?, mail.store.waiting_count().await?))
    }

    /// Notes a login, to be looked at by [`Authority::notice_devices`].
    pub(super) fn note_login(&self, token: &Token, account: &Account) {
        let told = self.sends_mail()
            && account.email_confirmed_at.is_some()
            && self.chosen().settings.accounts.notices.new_device;
        if told {
            let mut noted = self.logins_noted.0.lock().unwrap_or_else(PoisonError::into_inner);
            if noted.len() < MOST_LOGINS_NOTED {
                noted.push(token.clone());
            }
        }
    }

    /// Tells owners of logins from a device that had not been seen, since the last call: one whose program calls itself
    /// otherwise, versions aside. The address is not looked at, because it changes all the time. Whoever had no token before
    /// is not told of their first. To be called about every second.
    ///
    /// # Errors
    /// When the store fails; what was not told then is not told.
    pub async fn notice_devices(&self, now: Now) -> Result<(), Error> {
        let noted = std::mem::take(&mut *self.logins_noted.0.lock().unwrap_or_else(PoisonError::into_inner));
        for login in noted {
            let filter = TokenFilter { kind: Some(Kind::Login), ..TokenFilter::of(login.subject.clone()) };
            let query = TokenQuery { filter, live_at: None, after: 0, limit: DEVICES_LOOKED_THROUGH };
            let before: Vec<Token> =
                self.tokens.list(&query).await?.into_iter().filter(|token| token.number < login.number).collect();
            let device = device_of(&login.first_seen.source);
            let is_known = before.iter().any(|token| {
                let seen = token.last_seen.as_ref().unwrap_or(&token.first_seen);
                device_of(&token.first_seen.source) == device || device_of(&seen.source) == device
            });
            if before.is_empty() || is_known {
                continue;
            }
            let Some(account) = self.account_of(&login.subject).await? else { continue };
            let Source { ip, user_agent } = login.first_seen.source;
            let user_agent = user_agent.map(|agent| agent.as_str().to_owned());
            let kind = MailKind::NewDevice { client: login.client, user_agent, ip };
            self.tell_owner(&account, kind, &Source::default(), now).await;
        }
        Ok(())
    }

    /// Tells owners of tokens that will expire, where that was chosen; each of them once, and of several nodes one does it. To be
    /// called every few minutes.
    ///
    /// # Errors
    /// When the store fails; what was not told then is not told.
    pub async fn remind(&self, now: Now) -> Result<(), Error> {
        let notices = self.chosen().settings.accounts.notices;
        let (Ok(mail), Some(before)) = (self.mail(), notices.expiring) else { return Ok(()) };
        let until = now.wall.plus_millis(before.millis());
        let Some(known) = mail.store.reminded_until().await? else {
            // Whoever begins with it does not write to everybody at once.
            mail.store.advance_reminders(None, until).await?;
            return Ok(());
        };
        if known >= until || !mail.store.advance_reminders(Some(known), until).await? {
            return Ok(());
        }
        // What has ended meanwhile is not told of.
        let from = known.max(now.wall);
        let mut after = None;
        loop {
            let query = ExpiringQuery { from, until, after, limit: REMINDED_AT_ONCE };
            let page = self.tokens.expiring(&query).await?;
            for token in &page {
                if token.kind == Kind::Key || notices.expiring_logins {
                    self.remind_of(token, now).await?;
                }
            }
            let Some(last) = page.last() else { break };
            after = last.expires_at.map(|at| (at, last.number));
        }
        Ok(())
    }

    async fn remind_of(&self, token: &Token, now: Now) -> Result<(), Error> {
        let Some(expires_at) = token.expires_at else { return Ok(()) };
        if token.standing(now.wall) != Standing::Live || token.subject_state != SubjectState::Active {
            return Ok(());
        }
        if let Some(account) = self.account_of(&token.subject).await? {
            let kind = MailKind::TokenExpiring {
                token_kind: token.kind,
                name: token.name.as_ref().map(|name| name.as_str().to_owned()),
                client: token.client.clone(),
                expires_at,
            };
            self.tell_owner(&account, kind, &Source::default(), now).await;
        }
        Ok(())
    }
}

/// Whether a mail still makes sense, and goes to the account's own address where that is what it must be.
fn is_still_to_be_told(kind: &MailKind, account: &Account, to: &Email) -> bool {
    let is_its_address = account.email.as_ref() == Some(to);
    match kind {
        MailKind::ConfirmAddress => is_its_address && account.email_confirmed_at.is_none(),
        MailKind::AlreadyRegistered
        | MailKind::AddressChangeAsked { .. }
        | MailKind::AddressTaken
        | MailKind::ResetPassword
        | MailKind::PasswordChanged
        | MailKind::NewDevice { .. }
        | MailKind::TokenExpiring { .. } => is_its_address,
        // To an address that is not the account's yet, or is not any more; and to none.
        MailKind::ConfirmNewAddress | MailKind::AddressChanged { .. } => !is_its_address,
        MailKind::ConfirmRegistration | MailKind::Test => true,
    }
}

/// What the owner of an account reads, as far as the account says.
pub(super) fn languages_of(account: &Account) -> Languages {
    Languages::of(account.locale.as_deref(), None)
}

/// What a device is known by: what its program calls itself, without the numbers, which change with every version.
fn device_of(source: &Source) -> Option<String> {
    let name = source.user_agent.as_ref().map(UserAgent::as_str)?;
    Some(name.chars().filter(|character| !character.is_ascii_digit() && *character != '.').collect())
}

/// An error and its causes, short enough for a column.
fn in_one_line(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).take(300).collect()
}

/// How long something is from now.
pub(super) fn in_time(lifetime: Lifetime, now: Now) -> Timestamp {
    now.wall.plus_millis(lifetime.millis())
}
