//! The audit log: what happened as an [`Entry`], and [`AuditLog`], which sees that it is written down.
//!
//! An entry says who did what, when and from where (OWASP ASVS 5.0 16.2.1, 16.3). Requests do not wait for it: entries are
//! gathered and written every half second. Orders of the operator and of staff do wait, so that nothing they changed is
//! acknowledged without its entry; but ending tokens does not fail because the log cannot be written.

mod table;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use table::table;

use crate::actor::Actor;
use crate::client::ClientName;
use crate::clock::Timestamp;
use crate::event::{Event, Occurrence, Scope, TokenRef};
use crate::joint_work::JointWork;
use crate::store::{AuditStore, StoreError, TokenFilter};
use crate::subject::SubjectId;
use crate::token::{Kind, Source, TokenId};

/// One thing that happened, flat, as the log and every export have it. Never holds a password, a secret or a digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    /// When; of several that are one entry, the first.
    pub at: Timestamp,
    /// What: see [`Event::name`].
    pub event: Cow<'static, str>,
    /// Who did it.
    pub actor: Actor,
    /// Whom it concerns.
    pub subject: Option<SubjectId>,
    /// The client it concerns.
    pub client: Option<ClientName>,
    /// The token it concerns.
    pub token: Option<TokenId>,
    /// The kind of that token.
    pub kind: Option<Kind>,
    /// What somebody typed as the name of an account that there is. Text of a stranger: encode it wherever it is shown.
    pub username: Option<String>,
    /// Why, or how much, in a few words.
    pub detail: Option<String>,
    /// Where from.
    pub source: Source,
    /// How often the very same happened: what strangers can repeat without end is counted rather than written anew.
    pub times: u32,
}

impl Entry {
    /// The entry of an occurrence.
    pub fn of(occurrence: &Occurrence) -> Entry {
        let Occurrence { at, actor, source, event } = occurrence;
        let entry = Entry {
            at: *at,
            event: Cow::Borrowed(event.name()),
            actor: actor.clone(),
            subject: None,
            client: None,
            token: None,
            kind: None,
            username: None,
            detail: None,
            source: source.clone(),
            times: 1,
        };
        match event {
            // Not by what name: it may be a secret in the wrong field.
            Event::LoginStarted { client, .. } => Entry { client: Some(client.clone()), ..entry },
            Event::LoginFailed { username, subject, why } => {
                Entry { username: username.clone(), subject: subject.clone(), detail: Some(why.to_string()), ..entry }
            }
            Event::LoggedIn(token)
            | Event::LoggedOut(token)
            | Event::TokenIssued(token)
            | Event::SecretRepeated(token)
            | Event::TokenExpired(token)
            | Event::TokenRenewed(token)
            | Event::TokenRenamed(token)
            | Event::TokenRotated(token)
            | Event::ReuseDetected(token) => entry.about(token),
            Event::TokenRevoked(token, by) => Entry { detail: Some(by.as_str().to_owned()), ..entry.about(token) },
            Event::Refused(token, refusal) => Entry { detail: Some(refusal.to_string()), ..entry.about(token) },
            Event::LimitHit(limit) => Entry { detail: Some(limit.as_str().to_owned()), ..entry },
            Event::Ended { scope, keys_too } => {
                let keys = if *keys_too { "login tokens and API keys" } else { "login tokens" };
                let entry = Entry { detail: Some(keys.to_owned()), ..entry };
                match scope {
                    Scope::Subject(subject) => Entry { subject: Some(subject.clone()), ..entry },
                    Scope::Client(client) => Entry { client: Some(client.clone()), ..entry },
                    Scope::Everybody => Entry { detail: Some(format!("{keys} of everybody")), ..entry },
                }
            }
            Event::RevokedMatching { filter, count } => Entry {
                subject: filter.subject.clone(),
                client: filter.client.clone(),
                kind: filter.kind,
                detail: Some(described(filter, *count)),
                ..entry
            },
            Event::AccountCreated(subject)
            | Event::AccountChanged(subject)
            | Event::AccountDisabled(subject)
            | Event::AccountEnabled(subject)
            | Event::AccountUnlocked(subject)
            | Event::AccountExported(subject)
            | Event::AccountDeleted(subject)
            | Event::PasswordChanged(subject)
            | Event::Registered(subject)
            | Event::ConfirmationAsked(subject)
            | Event::EmailConfirmed(subject)
            | Event::EmailChangeAsked(subject)
            | Event::EmailChanged(subject)
            | Event::EmailChangeUndone(subject)
            | Event::ResetAsked(subject)
            | Event::PasswordReset(subject)
            | Event::PasswordRefused(subject)
            | Event::RotationLocked(subject)
            | Event::RotationUnlocked(subject) => Entry { subject: Some(subject.clone()), ..entry },
            Event::RoleChanged(subject, role) => {
                Entry { subject: Some(subject.clone()), detail: Some(role.as_str().to_owned()), ..entry }
            }
            Event::ClientCreated(client) | Event::ClientChanged(client) | Event::ClientDeleted(client) => {
                Entry { client: Some(client.clone()), ..entry }
            }
            Event::Imported { accounts, tokens } => {
                Entry { detail: Some(format!("{accounts} accounts, {tokens} tokens")), ..entry }
            }
            Event::RegistrationAsked => entry,
            Event::MailLost { subject, kind, why } => {
                Entry { subject: Some(subject.clone()), detail: Some(format!("{kind}: {}", why.as_str())), ..entry }
            }
            Event::SecretsResealed(count) => Entry { detail: Some(format!("{count} secrets")), ..entry },
            Event::MarksLost(count) => Entry { detail: Some(format!("{count} sightings")), ..entry },
            Event::AuditLost(count) => Entry { detail: Some(format!("{count} entries")), ..entry },
        }
    }

    fn about(self, token: &TokenRef) -> Entry {
        Entry {
            subject: Some(token.subject.clone()),
            client: Some(token.client.clone()),
            token: Some(token.id),
            kind: Some(token.kind),
            ..self
        }
    }

    /// What two entries have in common that are one: everything but when and how often.
    fn sameness(&self) -> Entry {
        Entry { at: Timestamp::MIN, times: 0, ..self.clone() }
    }
}

fn described(filter: &TokenFilter, count: u64) -> String {
    let mut text = format!("{count} tokens");
    if let Some(before) = filter.issued_before {
        text.push_str(&format!(", issued before {before}"));
    }
    if let Some(before) = filter.used_before {
        text.push_str(&format!(", last used before {before}"));
    }
    if let Some(ip) = filter.ip {
        text.push_str(&format!(", seen at {ip}"));
    }
    text
}

/// How many entries may wait to be written; what comes beyond is counted and lost.
const MOST_WAITING: usize = 20_000;
/// Entries written in one transaction.
const WRITTEN_AT_ONCE: usize = 1_000;
/// What a client repeats again and again is written at once and then once a minute, with how often.
const HELD_MILLIS: u64 = 60_000;
/// How many different ones are held. When half of them are taken, addresses are no longer told apart; when all are, what
/// comes is counted as lost.
const MOST_HELD: usize = 10_000;

/// Gathers entries and writes them down.
#[derive(Debug)]
pub struct AuditLog {
    store: Arc<dyn AuditStore>,
    waiting: Mutex<Waiting>,
    /// Whoever comes while something is being written finds it written afterwards, or put back for them to write.
    writing: JointWork,
}

#[derive(Debug, Default)]
struct Waiting {
    entries: Vec<Entry>,
    lost: u64,
    held: HashMap<Entry, Held>,
}

/// Something that is being repeated.
#[derive(Debug)]
struct Held {
    since: Timestamp,
    /// How often it has been since then.
    more: u32,
}

impl AuditLog {
    /// Writes into `store`.
    pub fn new(store: Arc<dyn AuditStore>) -> AuditLog {
        AuditLog { store, waiting: Mutex::default(), writing: JointWork::default() }
    }

    /// Where it is written.
    pub fn store(&self) -> &dyn AuditStore {
        self.store.as_ref()
    }

    /// Takes note of an occurrence, to be written by the next [`AuditLog::write`]. That somebody begins to log in is left
    /// out: how it ends comes right after it.
    pub fn note(&self, occurrence: &Occurrence) {
        if matches!(occurrence.event, Event::LoginStarted { .. }) {
            return;
        }
        let entry = Entry::of(occurrence);
        let mut waiting = self.lock();
        if occurrence.event.is_repeatable() {
            waiting.repeat(entry);
        } else {
            waiting.add(entry, MOST_WAITING);
        }
    }

    /// Writes what was noted so far. When it returns, everything noted before it was called is in the store.
    ///
    /// # Errors
    /// When the store fails; what it did not take is kept for the next time, also where the caller did not wait for the end.
    /// What was being written just then may be written twice.
    pub async fn write(&self, now: Timestamp) -> Result<(), StoreError> {
        let mut fault = None;
        let once = async { self.write_once(now).await.map_err(|error| fault = Some(error)).is_ok() };
        if self.writing.one_begun_from_now_on(once).await {
            return Ok(());
        }
        const DOING: &str = "writing into the audit log";
        Err(fault.unwrap_or_else(|| StoreError::new(DOING, "what was written just before failed")))
    }

    async fn write_once(&self, now: Timestamp) -> Result<(), StoreError> {
        let mut hand = Hand { log: self, unwritten: self.lock().take(now) };
        while !hand.unwritten.is_empty() {
            let chunk = &hand.unwritten[..hand.unwritten.len().min(WRITTEN_AT_ONCE)];
            self.store.append(chunk).await?;
            let written = chunk.len();
            hand.unwritten.drain(..written);
        }
        drop(hand);
        self.write_lost(now).await
    }

    /// Says how many entries there was no room for. After the others, because only then is there room again.
    async fn write_lost(&self, now: Timestamp) -> Result<(), StoreError> {
        let lost = self.lock().lost;
        if lost == 0 {
            return Ok(());
        }
        let (actor, source) = (Actor::Deployment, Source::default());
        let entry = Entry::of(&Occurrence { at: now, actor, source, event: Event::AuditLost(lost) });
        self.store.append(&[entry]).await?;
        self.lock().lost -= lost;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Entries on their way to the store. What has not arrived when this is dropped goes back to those that wait.
struct Hand<'a> {
    log: &'a AuditLog,
    unwritten: Vec<Entry>,
}

impl Drop for Hand<'_> {
    fn drop(&mut self) {
        if !self.unwritten.is_empty() {
            self.log.lock().put_back(std::mem::take(&mut self.unwritten));
        }
    }
}

impl Waiting {
    fn add(&mut self, entry: Entry, most: usize) {
        if let Some(last) = self.entries.last_mut()
            && last.sameness() == entry.sameness()
        {
            last.times = last.times.saturating_add(entry.times);
        } else if self.entries.len() < most {
            self.entries.push(entry);
        } else {
            self.lost += 1;
        }
    }

    /// Adds what can be repeated without end, or only counts it, because the same has been written within the last minute.
    fn repeat(&mut self, entry: Entry) {
        // Whoever repeats it may call itself something else each time.
        let entry = Entry { source: Source { user_agent: None, ..entry.source }, ..entry };
        let mut same = entry.sameness();
        if !self.held.contains_key(&same) && self.held.len() >= MOST_HELD / 2 {
            // So many are at it that it no longer matters from where.
            same.source = Source::default();
        }
        if let Some(held) = self.held.get_mut(&same) {
            held.more = held.more.saturating_add(1);
        } else if self.held.len() < MOST_HELD {
            let entry = Entry { source: same.source.clone(), ..entry };
            self.held.insert(same, Held { since: entry.at, more: 0 });
            // Half of the room is for what cannot be repeated.
            self.add(entry, MOST_WAITING / 2);
        } else {
            self.lost += 1;
        }
    }

    fn take(&mut self, now: Timestamp) -> Vec<Entry> {
        let mut due = Vec::new();
        // A clock that was set back ends the minute as well.
        let is_over = |since: Timestamp| now < since || now.millis_since(since) >= HELD_MILLIS;
        self.held.retain(|same, held| {
            if is_over(held.since) && held.more > 0 {
                due.push(Entry { at: held.since, times: held.more, ..same.clone() });
            }
            !is_over(held.since)
        });
        due.into_iter().for_each(|entry| self.add(entry, MOST_WAITING));
        std::mem::take(&mut self.entries)
    }

    /// Before what has been noted since, so that the order stays.
    fn put_back(&mut self, mut unwritten: Vec<Entry>) {
        unwritten.append(&mut self.entries);
        if unwritten.len() > MOST_WAITING {
            self.lost += (unwritten.len() - MOST_WAITING) as u64;
            unwritten.truncate(MOST_WAITING);
        }
        self.entries = unwritten;
    }
}
