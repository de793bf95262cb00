//! What is on record: pages of the audit log, and all that is kept about one account.

use super::Authority;
use crate::account::Account;
use crate::actor::By;
use crate::attempts::Tries;
use crate::clock::Now;
use crate::event::Event;
use crate::refusal::Error;
use crate::store::{AuditQuery, NumberedEntry, TokenFilter, TokenQuery};
use crate::subject::SubjectId;
use crate::token::Token;

/// Most entries on a page.
const MOST_PER_PAGE: u32 = 1_000;
/// Records read at once for an export.
const READ_AT_ONCE: u32 = 500;
/// Tokens, and audit entries, that an export carries; the others are read page by page.
const EXPORTED: u32 = 10_000;

/// Some entries of the audit log, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditPage {
    /// The entries.
    pub entries: Vec<NumberedEntry>,
    /// What to ask for next, as [`AuditQuery::before`]; `None` at the end.
    pub next: Option<u64>,
}

/// What is kept about one account, but for what its password hashes to and what it did to others.
#[derive(Debug, Clone, PartialEq)]
pub struct UserExport {
    /// The account.
    pub account: Account,
    /// Its failed logins since one went well.
    pub tries: Tries,
    /// Its tokens and API keys, dead ones that have not been purged included; at most 10,000, the oldest.
    pub tokens: Vec<Token>,
    /// Whether there are more of them.
    pub more_tokens: bool,
    /// What the audit log says of it, newest first; at most 10,000 entries.
    pub entries: Vec<NumberedEntry>,
    /// Where the audit log goes on, if it does.
    pub more_entries: Option<u64>,
}

impl Authority {
    /// A page of the audit log, of which at most 1,000 entries are read at once. Empty where no log is kept. What was done a
    /// moment ago is on it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn audit(&self, query: &AuditQuery, now: Now) -> Result<AuditPage, Error> {
        let Some(audit) = &self.audit else { return Ok(AuditPage { entries: Vec::new(), next: None }) };
        // Where it cannot be written just now, it can still be read.
        audit.write(now.wall).await.ok();
        let limit = query.limit.clamp(1, MOST_PER_PAGE);
        // One more than asked for tells whether there is a next page.
        let mut entries = audit.store().entries(&AuditQuery { limit: limit + 1, ..query.clone() }).await?;
        let more = entries.len() > limit as usize;
        entries.truncate(limit as usize);
        let next = if more { entries.last().map(|last| last.number) } else { None };
        Ok(AuditPage { entries, next })
    }

    /// All that is kept about an account, for its owner.
    ///
    /// # Errors
    /// [`crate::Refusal::NotFound`], [`crate::Refusal::AdminNeeded`].
    pub async fn export_user(&self, subject: &SubjectId, by: &By, now: Now) -> Result<UserExport, Error> {
        self.may_touch(subject, by).await?;
        let account = self.account(subject).await?;
        let tries = self.tokens.tries(subject).await?;
        let mut tokens: Vec<Token> = Vec::new();
        let more_tokens = loop {
            let filter = TokenFilter { subject: Some(subject.clone()), ..TokenFilter::default() };
            let after = tokens.last().map_or(0, |last| last.number);
            let page = self.tokens.list(&TokenQuery { filter, live_at: None, after, limit: READ_AT_ONCE }).await?;
            let more = page.len() == READ_AT_ONCE as usize;
            tokens.extend(page);
            if !more || tokens.len() >= EXPORTED as usize {
                break more;
            }
        };
        let (mut entries, mut more_entries) = (Vec::new(), None);
        loop {
            let query = AuditQuery {
                subject: Some(subject.clone()),
                before: more_entries,
                limit: MOST_PER_PAGE,
                ..AuditQuery::default()
            };
            let page = self.audit(&query, now).await?;
            entries.extend(page.entries);
            more_entries = page.next;
            if more_entries.is_none() || entries.len() >= EXPORTED as usize {
                break;
            }
        }
        self.record(Event::AccountExported(subject.clone()), by, now).await?;
        Ok(UserExport { account, tries, tokens, more_tokens, entries, more_entries })
    }
}
