//! What is brought over from other systems, and the ledger of it.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::{Bumped, MemoryStore, State, SubjectRow, TokenRow, done};
use crate::account::Credentials;
use crate::clock::Timestamp;
use crate::import::{
    AccountOutcome, Brought, ImportStore, ImportedAccount, LedgerRow, SourceKey, TokenOutcome, TokenRow as NewToken,
    mark_of,
};
use crate::link::Link;
use crate::password::EncodedPassword;
use crate::store::{Answer, MailStore};
use crate::subject::SubjectState;
use crate::token::{Sighting, Token};

/// What was brought under each key.
pub(super) type Ledger = BTreeMap<SourceKey, Entry>;

#[derive(Debug, Clone)]
pub(super) struct Entry {
    brought: Brought,
    /// Of the password as it was brought last; nothing for a token.
    mark: [u8; 32],
    /// Of a token, as it was in the source last.
    expires_at: Option<Timestamp>,
}

impl State {
    fn import_account(&mut self, new: &ImportedAccount, now: Timestamp) -> AccountOutcome {
        let ImportedAccount { key, account, password } = new;
        if self.ledger.contains_key(key) {
            return self.carry_password_over(key, password, account);
        }
        let has_subject = |row: &Credentials| row.account.subject == account.subject;
        if self.subjects.contains_key(&account.subject) || self.accounts.iter().any(has_subject) {
            return AccountOutcome::SubjectTaken;
        }
        if self.accounts.iter().any(|row| row.account.username == account.username) {
            return AccountOutcome::NameTaken;
        }
        let state = if account.active { SubjectState::Active } else { SubjectState::Disabled };
        let (login, key_epoch) = (Bumped::default(), Bumped::default());
        let row = SubjectRow { state, state_since: now, login, key: key_epoch, ever_issued: false };
        self.subjects.insert(account.subject.clone(), row);
        self.accounts.push(Credentials { account: account.clone(), password: password.clone() });
        let brought = Brought::Account(account.subject.clone());
        let entry = Entry { brought, mark: mark_of(password), expires_at: None };
        self.ledger.insert(*key, entry);
        AccountOutcome::Imported
    }

    fn carry_password_over(
        &mut self,
        key: &SourceKey,
        password: &EncodedPassword,
        account: &crate::account::Account,
    ) -> AccountOutcome {
        let Some(row) = self.accounts.iter_mut().find(|row| row.account.subject == account.subject) else {
            return AccountOutcome::Deleted;
        };
        if row.account.username != account.username && row.account.created_at != account.created_at {
            return AccountOutcome::SubjectTaken;
        }
        let Some(entry) = self.ledger.get_mut(key) else { return AccountOutcome::Deleted };
        let mark = mark_of(password);
        if entry.mark == mark {
            return AccountOutcome::Known;
        }
        let untouched = mark_of(&row.password) == entry.mark;
        entry.mark = mark;
        if !untouched {
            return AccountOutcome::PasswordKept;
        }
        row.password = password.clone();
        AccountOutcome::PasswordReplaced
    }

    fn import_token(&mut self, new: &NewToken, now: Timestamp) -> TokenOutcome {
        if let Some(Entry { brought: Brought::Token(id), expires_at, .. }) = self.ledger.get_mut(&new.key) {
            let id = *id;
            *expires_at = new.expires_at;
            let Some(position) = self.position(id) else { return TokenOutcome::Gone };
            if self.live(&self.tokens[position], now) {
                let token = &mut self.tokens[position].token;
                token.expires_at = token.expires_at.and_then(|end| new.expires_at.map(|until| until.max(end)));
            }
            return TokenOutcome::Known(id);
        }
        match self.subjects.get(&new.subject) {
            Some(subject) if subject.state != SubjectState::Buried => {}
            Some(_) | None => return TokenOutcome::SubjectMissing,
        }
        let Some(client) = self.client_row(new.client).map(|row| row.client.name.clone()) else {
            return TokenOutcome::ClientMissing;
        };
        if self.position(new.id).is_some() || self.digest_known(&new.digest) {
            return TokenOutcome::Taken;
        }
        let free = new.number.filter(|wanted| self.tokens.iter().all(|row| row.token.number != *wanted));
        let number = free.unwrap_or(self.last_number + 1);
        self.last_number = self.last_number.max(number);
        let current = self.current(&new.subject, new.client, new.kind);
        let token = Token {
            id: new.id,
            number,
            kind: new.kind,
            subject: new.subject.clone(),
            client,
            name: new.name.clone(),
            abilities: new.abilities.clone(),
            metadata: new.metadata.clone(),
            issued_at: new.issued_at,
            expires_at: new.expires_at,
            revoked_at: None,
            stamped: current,
            current,
            subject_state: SubjectState::Active,
            first_seen: Sighting { at: new.issued_at, source: new.source.clone() },
            last_seen: new.last_seen.clone(),
        };
        // In the order of their numbers, as lists have them.
        let place = self.tokens.partition_point(|row| row.token.number < number);
        let row = TokenRow {
            token,
            client: new.client,
            digest: new.digest,
            scheme: new.scheme,
            sealed: new.sealed.clone(),
            unsettled: false,
            retired: Vec::new(),
        };
        self.tokens.insert(place, row);
        if let Some(subject) = self.subjects.get_mut(&new.subject) {
            subject.ever_issued = true;
        }
        let brought = Brought::Token(new.id);
        self.ledger.insert(new.key, Entry { brought, mark: [0; 32], expires_at: new.expires_at });
        TokenOutcome::Imported { number }
    }
}

impl ImportStore for MemoryStore {
    fn import_accounts<'a>(
        &'a self,
        accounts: &'a [ImportedAccount],
        now: Timestamp,
    ) -> Answer<'a, Vec<AccountOutcome>> {
        let mut state = self.lock();
        done(accounts.iter().map(|account| state.import_account(account, now)).collect())
    }

    fn import_tokens<'a>(&'a self, tokens: &'a [NewToken], now: Timestamp) -> Answer<'a, Vec<TokenOutcome>> {
        let mut state = self.lock();
        done(tokens.iter().map(|token| state.import_token(token, now)).collect())
    }

    fn import_link<'a>(&'a self, link: &'a Link) -> Answer<'a, bool> {
        self.keep_link(link)
    }

    fn ledger(&self, after: Option<SourceKey>, limit: u32) -> Answer<'_, Vec<LedgerRow>> {
        let state = self.lock();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = state.ledger.range((from, Bound::Unbounded)).take(limit as usize);
        done(
            rows.map(|(key, entry)| LedgerRow {
                key: *key,
                brought: entry.brought.clone(),
                expires_at: entry.expires_at,
            })
            .collect(),
        )
    }

    fn forget_ledger(&self, batch: u32) -> Answer<'_, u64> {
        let mut state = self.lock();
        let first: Vec<SourceKey> = state.ledger.keys().take(batch as usize).copied().collect();
        for key in &first {
            state.ledger.remove(key);
        }
        done(first.len() as u64)
    }
}
