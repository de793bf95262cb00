//! The queue of mails, the links and the registrations.

use super::{MemoryStore, done};
use crate::account::Email;
use crate::clock::Timestamp;
use crate::link::{Link, Purpose};
use crate::mail::{MailId, MailOrder, Registration, Waiting};
use crate::secret::TokenDigest;
use crate::store::{Answer, Claimed, MailStore};
use crate::subject::SubjectId;

#[derive(Debug, Default, Clone)]
pub(super) struct Mail {
    queue: Vec<Waiting>,
    links: Vec<Link>,
    registrations: Vec<Registration>,
    reminded_until: Option<Timestamp>,
}

impl Mail {
    fn claim(&mut self, now: Timestamp, until: Timestamp, limit: usize) -> Claimed {
        let (expired, left) = std::mem::take(&mut self.queue).into_iter().partition(|one| one.order.expires_at <= now);
        self.queue = left;
        self.queue.sort_by_key(|one| (one.next_try_at, one.order.id));
        let mut due = Vec::new();
        for one in self.queue.iter_mut().filter(|one| one.next_try_at <= now).take(limit) {
            one.next_try_at = until;
            one.tries += 1;
            due.push(one.clone());
        }
        Claimed { due, expired }
    }

    fn use_link(&mut self, digest: &TokenDigest, purpose: Purpose, now: Timestamp) -> Option<Link> {
        let fits = |link: &&Link| link.digest == *digest && link.purpose == purpose && now < link.expires_at;
        let used = self.links.iter().find(fits)?.clone();
        self.links.retain(|link| link.subject != used.subject || link.purpose != purpose);
        Some(used)
    }
}

impl MailStore for MemoryStore {
    fn post<'a>(
        &'a self,
        orders: &'a [MailOrder],
        registration: Option<&'a Registration>,
        most: u64,
    ) -> Answer<'a, bool> {
        let mail = &mut self.lock().mail;
        if (mail.queue.len() + orders.len()) as u64 > most {
            return done(false);
        }
        mail.queue.extend(orders.iter().map(|order| Waiting {
            order: order.clone(),
            tries: 0,
            next_try_at: order.asked_at,
            last_error: None,
        }));
        mail.registrations.extend(registration.cloned());
        done(true)
    }

    fn claim(&self, now: Timestamp, until: Timestamp, limit: u32) -> Answer<'_, Claimed> {
        done(self.lock().mail.claim(now, until, limit as usize))
    }

    fn done(&self, id: MailId) -> Answer<'_, ()> {
        self.lock().mail.queue.retain(|one| one.order.id != id);
        done(())
    }

    fn postpone<'a>(&'a self, id: MailId, next_try_at: Timestamp, error: &'a str) -> Answer<'a, ()> {
        for one in self.lock().mail.queue.iter_mut().filter(|one| one.order.id == id) {
            one.next_try_at = next_try_at;
            one.last_error = Some(error.to_owned());
        }
        done(())
    }

    fn waiting_count(&self) -> Answer<'_, u64> {
        done(self.lock().mail.queue.len() as u64)
    }

    fn waiting(&self, limit: u32) -> Answer<'_, Vec<Waiting>> {
        let mut queue = self.lock().mail.queue.clone();
        queue.sort_by_key(|one| (one.next_try_at, one.order.id));
        queue.truncate(limit as usize);
        done(queue)
    }

    fn keep_link<'a>(&'a self, link: &'a Link) -> Answer<'a, bool> {
        let links = &mut self.lock().mail.links;
        if links.iter().any(|kept| kept.digest == link.digest) {
            return done(false);
        }
        links.push(link.clone());
        done(true)
    }

    fn link<'a>(&'a self, digest: &'a TokenDigest) -> Answer<'a, Option<Link>> {
        done(self.lock().mail.links.iter().find(|link| link.digest == *digest).cloned())
    }

    fn has_link<'a>(&'a self, subject: &'a SubjectId, purpose: Purpose, now: Timestamp) -> Answer<'a, bool> {
        let mail = &self.lock().mail;
        let of_it = |link: &Link| link.subject == *subject && link.purpose == purpose && now < link.expires_at;
        let brings_it = |one: &Waiting| one.order.subject == *subject && one.order.kind.ends_with() == Some(purpose);
        done(mail.links.iter().any(of_it) || mail.queue.iter().any(brings_it))
    }

    fn use_link<'a>(&'a self, digest: &'a TokenDigest, purpose: Purpose, now: Timestamp) -> Answer<'a, Option<Link>> {
        done(self.lock().mail.use_link(digest, purpose, now))
    }

    fn drop_links<'a>(&'a self, subject: &'a SubjectId, purposes: &'a [Purpose]) -> Answer<'a, ()> {
        let mail = &mut self.lock().mail;
        mail.links.retain(|link| link.subject != *subject || !purposes.contains(&link.purpose));
        mail.queue.retain(|one| {
            let ends_with = one.order.kind.ends_with();
            one.order.subject != *subject || !ends_with.is_some_and(|purpose| purposes.contains(&purpose))
        });
        done(())
    }

    fn registration<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, Option<Registration>> {
        done(self.lock().mail.registrations.iter().find(|one| one.subject == *subject).cloned())
    }

    fn registrations_of<'a>(&'a self, email: &'a Email, limit: u32) -> Answer<'a, Vec<Registration>> {
        let state = self.lock();
        let of_it = |one: &&Registration| one.email.as_str().eq_ignore_ascii_case(email.as_str());
        let mut found: Vec<Registration> = state.mail.registrations.iter().filter(of_it).cloned().collect();
        found.sort_by(|a, b| b.expires_at.cmp(&a.expires_at).then_with(|| a.subject.cmp(&b.subject)));
        found.truncate(limit as usize);
        done(found)
    }

    fn forget_registration<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, ()> {
        self.lock().mail.registrations.retain(|one| one.subject != *subject);
        done(())
    }

    fn forget_expired(&self, now: Timestamp, batch: u32) -> Answer<'_, u64> {
        let mail = &mut self.lock().mail;
        let kept = mail.links.len() + mail.registrations.len();
        forget(&mut mail.links, batch, |link| link.expires_at <= now);
        forget(&mut mail.registrations, batch, |one| one.expires_at <= now);
        done((kept - mail.links.len() - mail.registrations.len()) as u64)
    }

    fn advance_reminders(&self, from: Option<Timestamp>, until: Timestamp) -> Answer<'_, bool> {
        let kept = &mut self.lock().mail.reminded_until;
        let advances = *kept == from;
        if advances {
            *kept = Some(until);
        }
        done(advances)
    }

    fn reminded_until(&self) -> Answer<'_, Option<Timestamp>> {
        done(self.lock().mail.reminded_until)
    }
}

/// Removes the first `batch` of those that are `expired`.
fn forget<T>(rows: &mut Vec<T>, batch: u32, expired: impl Fn(&T) -> bool) {
    let mut left = batch;
    rows.retain(|row| {
        let goes = left > 0 && expired(row);
        left -= u32::from(goes);
        !goes
    });
}
