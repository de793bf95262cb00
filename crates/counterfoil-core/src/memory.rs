//! The reference store: [`MemoryStore`], everything in one process and gone with it.
//!
//! It is what the contract means, written as plainly as possible: one lock, whole scans, no index. Tests run on it, a
//! host's tests too; nobody should keep real tokens in it.

mod import;
mod mail;

use std::collections::{BTreeMap, HashMap};
use std::future::ready;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::account::{Account, AccountChange, Credentials, LoginName, Role};
use crate::actor::Actor;
use crate::attempts::{Tries, TryLater};
use crate::audit::Entry;
use crate::client::{AtCap, Client, ClientId, ClientName, Reissue};
use crate::clock::Timestamp;
use crate::password::{Cost, EncodedPassword};
use crate::seal::Sealed;
use crate::secret::{Candidates, CheckKey, DigestScheme, TokenDigest};
use crate::store::{
    AccountQuery, AccountStore, Answer, AuditQuery, AuditStore, Bump, CHANGES_KEPT, Change, Changed, Changes,
    ClientOutcome, ClientUpdate, ExpiringQuery, Formats, Found, Issue, IssueOutcome, NewClient, News, NumberedEntry,
    Presented, RenewOutcome, RevokeOutcome, RotateOutcome, Rotation, SealedSecret, TokenFilter, TokenQuery, TokenStore,
    Touch, Warrant,
};
use crate::subject::{Epoch, Epochs, Subject, SubjectId, SubjectState};
use crate::token::{Kind, Sighting, Source, Standing, Token, TokenId, TokenName, standing};
use crate::username::{Distinct, Username, fold};

/// Keeps tokens and accounts in memory. See the module's own words.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default, Clone)]
struct State {
    check_keys: Vec<CheckKey>,
    deployment: Bumped,
    subjects: HashMap<SubjectId, SubjectRow>,
    clients: Vec<ClientRow>,
    tokens: Vec<TokenRow>,
    last_number: u64,
    log: Vec<Change>,
    log_head: u64,
    accounts: Vec<Credentials>,
    tries: HashMap<SubjectId, Tries>,
    audit: Vec<NumberedEntry>,
    audit_head: u64,
    mail: mail::Mail,
    ledger: import::Ledger,
}

/// An epoch and when it was last bumped.
#[derive(Debug, Default, Clone, Copy)]
struct Bumped {
    epoch: Epoch,
    at: Timestamp,
}

impl Bumped {
    fn bump(&mut self, now: Timestamp) {
        self.epoch.0 += 1;
        self.at = now;
    }
}

#[derive(Debug, Clone)]
struct SubjectRow {
    state: SubjectState,
    state_since: Timestamp,
    login: Bumped,
    key: Bumped,
    ever_issued: bool,
}

#[derive(Debug, Clone)]
struct ClientRow {
    client: Arc<Client>,
    bumped_at: Timestamp,
}

#[derive(Debug, Clone)]
struct TokenRow {
    /// `current` and `subject_state` in here are stale; [`State::record`] fills them in.
    token: Token,
    client: ClientId,
    digest: TokenDigest,
    scheme: DigestScheme,
    sealed: Option<Sealed>,
    /// A rotation's grace is open and the successor has not been used.
    unsettled: bool,
    retired: Vec<Retired>,
}

impl TokenRow {
    fn sealed_secret(&self) -> Option<SealedSecret> {
        let sealed = self.sealed.clone()?;
        let TokenRow { token, client, digest, .. } = self;
        let (number, token, subject) = (token.number, token.id, token.subject.clone());
        Some(SealedSecret { number, token, subject, client: *client, digest: *digest, sealed })
    }
}

#[derive(Debug, Clone)]
struct Retired {
    digest: TokenDigest,
    scheme: DigestScheme,
    at: Timestamp,
    grace_until: Timestamp,
    taken_back: bool,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All that it keeps once more, as a backup is.
impl Clone for MemoryStore {
    fn clone(&self) -> MemoryStore {
        MemoryStore { state: Mutex::new(self.lock().clone()) }
    }
}

/// What is done at once, as the future that the trait asks for.
fn done<'a, T: Send + 'a>(value: T) -> Answer<'a, T> {
    Box::pin(ready(Ok(value)))
}

impl State {
    fn client_row(&self, id: ClientId) -> Option<&ClientRow> {
        self.clients.iter().find(|row| row.client.id == id)
    }

    fn current(&self, subject: &SubjectId, client: ClientId, kind: Kind) -> Epochs {
        let of_subject = self.subjects.get(subject).map_or(Epoch(0), |row| match kind {
            Kind::Login => row.login.epoch,
            Kind::Key => row.key.epoch,
        });
        let of_client = self.client_row(client).map_or(Epoch(u64::MAX), |row| row.client.epoch);
        Epochs { subject: of_subject, client: of_client, deployment: self.deployment.epoch }
    }

    fn subject_state(&self, subject: &SubjectId) -> SubjectState {
        self.subjects.get(subject).map_or(SubjectState::Buried, |row| row.state)
    }

    fn record(&self, row: &TokenRow) -> Token {
        Token {
            current: self.current(&row.token.subject, row.client, row.token.kind),
            subject_state: self.subject_state(&row.token.subject),
            client: self.client_row(row.client).map_or_else(|| row.token.client.clone(), |row| row.client.name.clone()),
            ..row.token.clone()
        }
    }

    fn standing(&self, row: &TokenRow, now: Timestamp) -> Standing {
        let current = self.current(&row.token.subject, row.client, row.token.kind);
        standing(row.token.revoked_at, row.token.expires_at, &row.token.stamped, &current, now)
    }

    fn live(&self, row: &TokenRow, now: Timestamp) -> bool {
        self.standing(row, now) == Standing::Live
    }

    /// Live, and its subject's tokens are accepted.
    fn accepted(&self, row: &TokenRow, now: Timestamp) -> bool {
        self.live(row, now) && self.subject_state(&row.token.subject) == SubjectState::Active
    }

    fn position(&self, id: TokenId) -> Option<usize> {
        self.tokens.iter().position(|row| row.token.id == id)
    }

    fn digest_known(&self, digest: &TokenDigest) -> bool {
        self.tokens.iter().any(|row| row.digest == *digest || row.retired.iter().any(|old| old.digest == *digest))
    }

    fn imported(&self) -> Vec<DigestScheme> {
        let schemes = self.tokens.iter().flat_map(|row| {
            let retired = row.retired.iter().map(|old| old.scheme);
            retired.chain([row.scheme])
        });
        let mut imported: Vec<DigestScheme> = schemes.filter(|scheme| *scheme != DigestScheme::Native).collect();
        imported.sort_unstable();
        imported.dedup();
        imported
    }

    fn log(&mut self, what: Changed, at: Timestamp) {
        self.log_head += 1;
        let number = self.log_head;
        // A counter serves where nobody restores an older state; a store that can be restored draws it at random.
        self.log.push(Change { number, tag: number, at, what });
    }

    fn revoke_at(&mut self, position: usize, now: Timestamp) {
        let row = &mut self.tokens[position];
        row.token.revoked_at = Some(now);
        row.sealed = None;
        let digests = std::iter::once(row.digest).chain(row.retired.iter().map(|old| old.digest)).collect();
        self.log(Changed::Tokens(digests), now);
    }

    /// Whether `filter` means this token.
    fn is_meant(&self, row: &TokenRow, filter: &TokenFilter) -> bool {
        let token = self.record(row);
        let used_at = token.last_seen.as_ref().map_or(token.issued_at, |seen| seen.at);
        let seen_at = |ip: IpAddr| {
            token.first_seen.source.ip == Some(ip)
                || token.last_seen.as_ref().is_some_and(|seen| seen.source.ip == Some(ip))
        };
        filter.subject.as_ref().is_none_or(|subject| token.subject == *subject)
            && filter.client.as_ref().is_none_or(|client| token.client == *client)
            && filter.kind.is_none_or(|kind| token.kind == kind)
            && filter.issued_before.is_none_or(|before| token.issued_at < before)
            && filter.used_before.is_none_or(|before| used_at < before)
            && filter.ip.is_none_or(seen_at)
    }

    fn renew(&mut self, id: TokenId, until: Option<Timestamp>, now: Timestamp) -> RenewOutcome {
        let Some(position) = self.position(id).filter(|&position| self.accepted(&self.tokens[position], now)) else {
            return RenewOutcome::Dead;
        };
        let token = &mut self.tokens[position].token;
        token.expires_at = token.expires_at.and_then(|end| until.map(|until| until.max(end)));
        RenewOutcome::Renewed(token.expires_at)
    }

    fn issue(&mut self, issue: &Issue, now: Timestamp) -> IssueOutcome {
        let Some(subject) = self.subjects.get(&issue.subject) else { return IssueOutcome::SubjectInactive };
        if subject.state != SubjectState::Active {
            return IssueOutcome::SubjectInactive;
        }
        let warranted = match issue.warrant {
            Warrant::Password(epoch) => subject.login.epoch == epoch,
            Warrant::Token(id) => self.position(id).is_some_and(|position| {
                let maker = &self.tokens[position];
                maker.token.subject == issue.subject && self.live(maker, now)
            }),
            Warrant::Operator => true,
        };
        let first_of_subject = !subject.ever_issued;
        if !warranted {
            return IssueOutcome::WarrantVoid;
        }
        let Some(client) = self.client_row(issue.client).map(|row| Arc::clone(&row.client)) else {
            return IssueOutcome::ClientChanged;
        };
        if client.version != issue.client_version {
            return IssueOutcome::ClientChanged;
        }

        let mut ended = Vec::new();
        if issue.kind == Kind::Login {
            let living: Vec<usize> = (0..self.tokens.len())
                .filter(|&position| {
                    let row = &self.tokens[position];
                    row.token.kind == Kind::Login
                        && row.token.subject == issue.subject
                        && row.client == issue.client
                        && self.live(row, now)
                })
                .collect();
            match issue.reissue {
                Reissue::New => {}
                Reissue::Replace => ended = living.clone(),
                Reissue::Same => {
                    for row in living.iter().map(|&position| &self.tokens[position]) {
                        if let Some(sealed) = row.sealed.clone() {
                            let (token, digest) = (Box::new(self.record(row)), row.digest);
                            self.password_was_right(issue);
                            return IssueOutcome::Same { token, sealed, digest };
                        }
                    }
                }
            }
            if let Some(cap) = issue.cap {
                let staying = living.len() - ended.len();
                let beyond = (staying + 1).saturating_sub(cap.limit.get() as usize);
                match cap.at_cap {
                    AtCap::Refuse if beyond > 0 => return IssueOutcome::CapReached,
                    AtCap::Refuse => {}
                    AtCap::EvictOldest => {
                        let oldest = living.into_iter().filter(|position| !ended.contains(position)).take(beyond);
                        ended.extend(oldest.collect::<Vec<_>>());
                    }
                }
            }
        }
        if self.position(issue.id).is_some() || self.digest_known(&issue.digest) {
            return IssueOutcome::Taken;
        }

        let ended_ids = ended.iter().map(|&position| self.tokens[position].token.id).collect();
        for position in ended {
            self.revoke_at(position, now);
        }
        self.last_number += 1;
        let current = self.current(&issue.subject, issue.client, issue.kind);
        let token = Token {
            id: issue.id,
            number: self.last_number,
            kind: issue.kind,
            subject: issue.subject.clone(),
            client: client.name.clone(),
            name: issue.name.clone(),
            abilities: issue.abilities.clone(),
            metadata: issue.metadata.clone(),
            issued_at: now,
            expires_at: issue.expires_at,
            revoked_at: None,
            stamped: current,
            current,
            subject_state: SubjectState::Active,
            first_seen: Sighting { at: now, source: issue.source.clone() },
            last_seen: None,
        };
        self.tokens.push(TokenRow {
            token: token.clone(),
            client: issue.client,
            digest: issue.digest,
            scheme: issue.scheme,
            sealed: issue.sealed.clone(),
            unsettled: false,
            retired: Vec::new(),
        });
        if let Some(subject) = self.subjects.get_mut(&issue.subject) {
            subject.ever_issued = true;
        }
        self.password_was_right(issue);
        IssueOutcome::Issued { token: Box::new(token), first_of_subject, ended: ended_ids }
    }

    fn password_was_right(&mut self, issue: &Issue) {
        match issue.warrant {
            Warrant::Password(_) => drop(self.tries.remove(&issue.subject)),
            Warrant::Token(_) | Warrant::Operator => {}
        }
    }

    fn rotate(&mut self, rotation: &Rotation, now: Timestamp) -> RotateOutcome {
        let Some(position) = self.position(rotation.id).filter(|&position| self.accepted(&self.tokens[position], now))
        else {
            return RotateOutcome::Dead;
        };
        let row = &self.tokens[position];
        let presents_current = row.digest == rotation.presented;
        let presents_retired = row.unsettled
            && row
                .retired
                .iter()
                .any(|old| old.digest == rotation.presented && !old.taken_back && now < old.grace_until);
        if !presents_current && !presents_retired {
            return RotateOutcome::Dead;
        }
        if self.digest_known(&rotation.successor) {
            return RotateOutcome::Taken;
        }
        let row = &mut self.tokens[position];
        let given_up = row.digest;
        let mut ended = vec![given_up];
        // A secret rotated away ends every grace before its own: there is one way back, not a chain of them.
        if presents_current {
            for old in row.retired.iter_mut().filter(|old| old.grace_until > Timestamp::MIN) {
                old.grace_until = Timestamp::MIN;
                ended.push(old.digest);
            }
        }
        let grace_until = if presents_current { rotation.grace_until } else { Timestamp::MIN };
        let (at, taken_back) = (now, !presents_current);
        row.retired.push(Retired { digest: given_up, scheme: row.scheme, at, grace_until, taken_back });
        row.digest = rotation.successor;
        row.scheme = DigestScheme::Native;
        row.sealed = rotation.sealed.clone();
        row.unsettled = true;
        let token = Box::new(self.record(&self.tokens[position]));
        self.log(Changed::Tokens(ended), now);
        RotateOutcome::Rotated(token)
    }

    fn purge(&mut self, dead_since: Timestamp, batch: usize) -> u64 {
        let dead: Vec<TokenId> = self
            .tokens
            .iter()
            .filter(|row| {
                let token = &row.token;
                let subject = self.subjects.get(&token.subject);
                let login_or_key = |row: &SubjectRow| match token.kind {
                    Kind::Login => row.login,
                    Kind::Key => row.key,
                };
                token.revoked_at.is_some_and(|at| at <= dead_since)
                    || token.expires_at.is_some_and(|at| at <= dead_since)
                    || subject.is_some_and(|row| {
                        let bumped = login_or_key(row);
                        token.stamped.subject < bumped.epoch && bumped.at <= dead_since
                            || row.state == SubjectState::Buried && row.state_since <= dead_since
                    })
                    || self.client_row(row.client).is_some_and(|client| {
                        token.stamped.client < client.client.epoch && client.bumped_at <= dead_since
                    })
                    || token.stamped.deployment < self.deployment.epoch && self.deployment.at <= dead_since
            })
            .map(|row| row.token.id)
            .take(batch)
            .collect();
        self.tokens.retain(|row| !dead.contains(&row.token.id));
        let mut room = batch - dead.len();
        let mut removed = dead.len();
        for row in &mut self.tokens {
            row.retired.retain(|old| {
                let goes = old.at <= dead_since && room > 0;
                room -= usize::from(goes);
                removed += usize::from(goes);
                !goes
            });
        }
        let keep_from = self.log_head.saturating_sub(CHANGES_KEPT);
        self.log.retain(|change| {
            let goes = change.number <= keep_from && room > 0;
            room -= usize::from(goes);
            removed += usize::from(goes);
            !goes
        });
        removed as u64
    }
}

impl TokenStore for MemoryStore {
    fn open<'a>(&'a self, key: &'a CheckKey, default_client: &'a NewClient) -> Answer<'a, Formats> {
        let mut state = self.lock();
        if state.check_keys.is_empty() {
            state.check_keys.push(key.clone());
        }
        if !state.clients.iter().any(|row| row.client.name == ClientName::default_client()) {
            state.clients.push(client_row(default_client));
        }
        done(Formats { check_keys: state.check_keys.clone(), imported: state.imported() })
    }

    fn ready(&self) -> Answer<'_, ()> {
        done(())
    }

    fn imported(&self) -> Answer<'_, Vec<DigestScheme>> {
        done(self.lock().imported())
    }

    fn find<'a>(&'a self, candidates: &'a Candidates) -> Answer<'a, Option<Found>> {
        let state = self.lock();
        let matches = |digest: &TokenDigest, scheme: DigestScheme| match candidates {
            Candidates::Native(wanted) => scheme == DigestScheme::Native && digest == wanted,
            Candidates::Imported(list) => list.contains(&(scheme, *digest)),
        };
        let found = state.tokens.iter().find_map(|row| {
            let (digest, presented) = if matches(&row.digest, row.scheme) {
                let presented = if row.unsettled { Presented::Successor } else { Presented::Current };
                (row.digest, presented)
            } else {
                let old = row.retired.iter().find(|old| matches(&old.digest, old.scheme))?;
                let presented = if old.taken_back {
                    Presented::TakenBack
                } else {
                    Presented::Retired { grace_until: old.grace_until }
                };
                (old.digest, presented)
            };
            let token = state.record(row);
            let client = Arc::clone(&state.client_row(row.client)?.client);
            Some(Found {
                id: token.id,
                kind: token.kind,
                subject: token.subject,
                subject_state: token.subject_state,
                client,
                abilities: token.abilities,
                issued_at: token.issued_at,
                expires_at: token.expires_at,
                revoked_at: token.revoked_at,
                stamped: token.stamped,
                current: token.current,
                digest,
                presented,
            })
        });
        done(found)
    }

    fn token<'a>(&'a self, id: TokenId, owner: Option<&'a SubjectId>) -> Answer<'a, Option<Token>> {
        let state = self.lock();
        let row = state.position(id).map(|position| &state.tokens[position]);
        done(row.filter(|row| owner.is_none_or(|owner| row.token.subject == *owner)).map(|row| state.record(row)))
    }

    fn list<'a>(&'a self, query: &'a TokenQuery) -> Answer<'a, Vec<Token>> {
        let state = self.lock();
        let page = state
            .tokens
            .iter()
            .filter(|row| row.token.number > query.after)
            .filter(|row| query.live_at.is_none_or(|now| state.accepted(row, now)))
            .filter(|row| state.is_meant(row, &query.filter))
            .map(|row| state.record(row))
            .take(query.limit as usize)
            .collect();
        done(page)
    }

    fn expiring<'a>(&'a self, query: &'a ExpiringQuery) -> Answer<'a, Vec<Token>> {
        let state = self.lock();
        let place = |row: &TokenRow| row.token.expires_at.map(|at| (at, row.token.number));
        let is_meant = |row: &&TokenRow| {
            row.token.revoked_at.is_none()
                && place(row).is_some_and(|(at, number)| {
                    (query.from..query.until).contains(&at) && query.after.is_none_or(|after| (at, number) > after)
                })
        };
        let mut page: Vec<&TokenRow> = state.tokens.iter().filter(is_meant).collect();
        page.sort_by_key(|row| place(row));
        done(page.into_iter().take(query.limit as usize).map(|row| state.record(row)).collect())
    }

    fn count_matching<'a>(&'a self, filter: &'a TokenFilter, now: Timestamp) -> Answer<'a, u64> {
        let state = self.lock();
        let meant = state.tokens.iter().filter(|row| state.live(row, now) && state.is_meant(row, filter));
        done(meant.count() as u64)
    }

    fn subject<'a>(&'a self, id: &'a SubjectId) -> Answer<'a, Option<Subject>> {
        let state = self.lock();
        done(state.subjects.get(id).map(|row| subject_of(id, row)))
    }

    fn open_subject<'a>(&'a self, id: &'a SubjectId, now: Timestamp) -> Answer<'a, Subject> {
        let mut state = self.lock();
        let row = state.subjects.entry(id.clone()).or_insert(SubjectRow {
            state: SubjectState::Active,
            state_since: now,
            login: Bumped::default(),
            key: Bumped::default(),
            ever_issued: false,
        });
        done(subject_of(id, row))
    }

    fn set_subject_state<'a>(
        &'a self,
        id: &'a SubjectId,
        to: SubjectState,
        now: Timestamp,
    ) -> Answer<'a, Option<Subject>> {
        let mut state = self.lock();
        let Some(row) = state.subjects.get_mut(id).filter(|row| row.state != SubjectState::Buried) else {
            return done(None);
        };
        row.state = to;
        row.state_since = now;
        let subject = subject_of(id, row);
        if to == SubjectState::Buried {
            state.tries.remove(id);
        }
        state.log(Changed::Subject(id.clone()), now);
        done(Some(subject))
    }

    fn subject_changed<'a>(&'a self, id: &'a SubjectId, now: Timestamp) -> Answer<'a, ()> {
        self.lock().log(Changed::Subject(id.clone()), now);
        done(())
    }

    fn bump_epoch<'a>(&'a self, bump: &'a Bump, now: Timestamp) -> Answer<'a, bool> {
        let mut state = self.lock();
        let changed = match bump {
            Bump::Subject { id, keys_too, keep } => {
                let kept = keep.and_then(|keep| state.position(keep)).filter(|&position| {
                    let row = &state.tokens[position];
                    row.token.subject == *id && state.live(row, now)
                });
                let Some(row) = state.subjects.get_mut(id) else { return done(false) };
                row.login.bump(now);
                if *keys_too {
                    row.key.bump(now);
                }
                let (login, key) = (row.login.epoch, row.key.epoch);
                if let Some(position) = kept {
                    let token = &mut state.tokens[position].token;
                    token.stamped.subject = match token.kind {
                        Kind::Login => login,
                        Kind::Key => key,
                    };
                }
                Changed::Subject(id.clone())
            }
            Bump::Client(id) => {
                let Some(row) = state.clients.iter_mut().find(|row| row.client.id == *id) else { return done(false) };
                let mut client = Client::clone(&row.client);
                client.epoch.0 += 1;
                client.version += 1;
                *row = ClientRow { client: Arc::new(client), bumped_at: now };
                Changed::Client(*id)
            }
            Bump::Deployment => {
                state.deployment.bump(now);
                Changed::Everything
            }
        };
        state.log(changed, now);
        done(true)
    }

    fn issue<'a>(&'a self, issue: &'a Issue, now: Timestamp) -> Answer<'a, IssueOutcome> {
        done(self.lock().issue(issue, now))
    }

    fn rename<'a>(
        &'a self,
        id: TokenId,
        owner: &'a SubjectId,
        kind: Kind,
        name: Option<TokenName>,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        let mut state = self.lock();
        let position = state.position(id).filter(|&position| {
            let row = &state.tokens[position];
            row.token.subject == *owner && row.token.kind == kind && state.live(row, now)
        });
        let Some(position) = position else { return done(None) };
        state.tokens[position].token.name = name;
        done(Some(state.record(&state.tokens[position])))
    }

    fn renew(&self, id: TokenId, until: Option<Timestamp>, now: Timestamp) -> Answer<'_, RenewOutcome> {
        done(self.lock().renew(id, until, now))
    }

    fn rotate<'a>(&'a self, rotation: &'a Rotation, now: Timestamp) -> Answer<'a, RotateOutcome> {
        done(self.lock().rotate(rotation, now))
    }

    fn settle_rotation<'a>(&'a self, id: TokenId, successor: &'a TokenDigest, now: Timestamp) -> Answer<'a, ()> {
        let mut state = self.lock();
        if let Some(position) = state.position(id) {
            let row = &mut state.tokens[position];
            if row.unsettled && row.digest == *successor {
                row.unsettled = false;
                let closing = row.retired.iter_mut().filter(|old| old.grace_until > Timestamp::MIN);
                let closed: Vec<TokenDigest> = closing
                    .map(|old| {
                        // Not `now`, and those that have run out too: a clock that is set back must not open it again.
                        old.grace_until = Timestamp::MIN;
                        old.digest
                    })
                    .collect();
                state.log(Changed::Tokens(closed), now);
            }
        }
        done(())
    }

    fn adopt<'a>(
        &'a self,
        id: TokenId,
        (scheme, was): (DigestScheme, TokenDigest),
        digest: &'a TokenDigest,
        now: Timestamp,
    ) -> Answer<'a, bool> {
        let mut state = self.lock();
        let fits = |row: &TokenRow| row.scheme == scheme && row.digest == was && row.token.revoked_at.is_none();
        let Some(position) = state.position(id).filter(|&position| fits(&state.tokens[position])) else {
            return done(false);
        };
        if state.digest_known(digest) {
            return done(false);
        }
        state.tokens[position].digest = *digest;
        state.tokens[position].scheme = DigestScheme::PlainText;
        state.log(Changed::Tokens(vec![was]), now);
        done(true)
    }

    fn revoke<'a>(
        &'a self,
        id: TokenId,
        owner: Option<&'a SubjectId>,
        kind: Option<Kind>,
        now: Timestamp,
    ) -> Answer<'a, RevokeOutcome> {
        let mut state = self.lock();
        let position = state.position(id).filter(|&position| {
            let token = &state.tokens[position].token;
            owner.is_none_or(|owner| token.subject == *owner) && kind.is_none_or(|kind| token.kind == kind)
        });
        let Some(position) = position else { return done(RevokeOutcome::Unknown) };
        if state.standing(&state.tokens[position], now) == Standing::Revoked {
            return done(RevokeOutcome::AlreadyRevoked);
        }
        state.revoke_at(position, now);
        done(RevokeOutcome::Revoked(Box::new(state.record(&state.tokens[position]))))
    }

    fn revoke_matching<'a>(&'a self, filter: &'a TokenFilter, batch: u32, now: Timestamp) -> Answer<'a, u64> {
        let mut state = self.lock();
        let meant: Vec<usize> = (0..state.tokens.len())
            .filter(|&position| {
                let row = &state.tokens[position];
                state.live(row, now) && state.is_meant(row, filter)
            })
            .take(batch as usize)
            .collect();
        meant.iter().for_each(|&position| state.revoke_at(position, now));
        done(meant.len() as u64)
    }

    fn touch<'a>(&'a self, touches: &'a [Touch], now: Timestamp) -> Answer<'a, ()> {
        let mut state = self.lock();
        for touch in touches {
            let Some(position) = state.position(touch.id) else { continue };
            let last_seen = &mut state.tokens[position].token.last_seen;
            if last_seen.as_ref().is_none_or(|last| last.at <= touch.seen.at) {
                *last_seen = Some(touch.seen.clone());
            }
            if touch.renew_until.is_some() {
                state.renew(touch.id, touch.renew_until, now);
            }
        }
        done(())
    }

    fn purge(&self, dead_since: Timestamp, batch: u32) -> Answer<'_, u64> {
        done(self.lock().purge(dead_since, batch as usize))
    }

    fn count_try<'a>(&'a self, subject: Option<&'a SubjectId>, now: Timestamp) -> Answer<'a, Result<(), TryLater>> {
        let Some(subject) = subject else { return done(Ok(())) };
        let mut state = self.lock();
        let tries = state.tries.entry(subject.clone()).or_default();
        *tries = tries.seen_at(now);
        let judged = tries.judge(now);
        if judged.is_ok() {
            *tries = tries.and_one(now);
        }
        done(judged)
    }

    fn give_back_try<'a>(&'a self, subject: Option<&'a SubjectId>) -> Answer<'a, ()> {
        let mut state = self.lock();
        if let Some(tries) = subject.and_then(|subject| state.tries.get_mut(subject)) {
            *tries = tries.but_one();
        }
        done(())
    }

    fn forget_tries<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, ()> {
        self.lock().tries.remove(subject);
        done(())
    }

    fn tries<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, Tries> {
        done(self.lock().tries.get(subject).copied().unwrap_or_default())
    }

    fn sealed_otherwise<'a>(&'a self, key_id: u32, after: u64, limit: u32) -> Answer<'a, Vec<SealedSecret>> {
        let state = self.lock();
        let page = state.tokens.iter().filter(|row| row.token.number > after).filter_map(TokenRow::sealed_secret);
        done(page.filter(|secret| secret.sealed.key_id != key_id).take(limit as usize).collect())
    }

    fn sealed_samples(&self, now: Timestamp) -> Answer<'_, Vec<SealedSecret>> {
        let state = self.lock();
        let live = state.tokens.iter().filter(|row| state.live(row, now)).filter_map(TokenRow::sealed_secret);
        // The last one of each key stays.
        let samples: BTreeMap<u32, SealedSecret> = live.map(|secret| (secret.sealed.key_id, secret)).collect();
        done(samples.into_values().collect())
    }

    fn reseal<'a>(&'a self, was: &'a SealedSecret, sealed: &'a Sealed) -> Answer<'a, bool> {
        let mut state = self.lock();
        let row = state.tokens.iter_mut().find(|row| {
            row.token.id == was.token && row.digest == was.digest && row.sealed.as_ref() == Some(&was.sealed)
        });
        let Some(row) = row else { return done(false) };
        row.sealed = Some(sealed.clone());
        done(true)
    }

    fn client<'a>(&'a self, name: &'a ClientName) -> Answer<'a, Option<Arc<Client>>> {
        let state = self.lock();
        done(state.clients.iter().find(|row| row.client.name == *name).map(|row| Arc::clone(&row.client)))
    }

    fn clients(&self) -> Answer<'_, Vec<Arc<Client>>> {
        let mut clients: Vec<_> = self.lock().clients.iter().map(|row| Arc::clone(&row.client)).collect();
        clients.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        done(clients)
    }

    fn create_client<'a>(&'a self, client: &'a NewClient) -> Answer<'a, Option<Arc<Client>>> {
        let mut state = self.lock();
        if state.clients.iter().any(|row| row.client.name == client.name || row.client.id == client.id) {
            return done(None);
        }
        let row = client_row(client);
        let made = Arc::clone(&row.client);
        state.clients.push(row);
        done(Some(made))
    }

    fn update_client<'a>(&'a self, update: &'a ClientUpdate, now: Timestamp) -> Answer<'a, ClientOutcome> {
        let mut state = self.lock();
        if state.clients.iter().any(|row| row.client.name == update.name && row.client.id != update.id) {
            return done(ClientOutcome::NameTaken);
        }
        let row =
            state.clients.iter_mut().find(|row| row.client.id == update.id && row.client.version == update.version);
        let Some(row) = row else { return done(ClientOutcome::Changed) };
        row.client = Arc::new(Client {
            name: update.name.clone(),
            policy: update.policy.clone(),
            allow_login: update.allow_login,
            version: update.version + 1,
            ..Client::clone(&row.client)
        });
        let updated = Arc::clone(&row.client);
        state.log(Changed::Client(update.id), now);
        done(ClientOutcome::Updated(updated))
    }

    fn delete_client<'a>(&'a self, id: ClientId, now: Timestamp) -> Answer<'a, bool> {
        let mut state = self.lock();
        let before = state.clients.len();
        state.clients.retain(|row| row.client.id != id);
        if state.clients.len() == before {
            return done(false);
        }
        state.tokens.retain(|row| row.client != id);
        state.log(Changed::Client(id), now);
        done(true)
    }

    fn changes(&self, after: u64, limit: u32) -> Answer<'_, Changes> {
        let state = self.lock();
        let first = state.log.partition_point(|change| change.number <= after);
        let rows = state.log[first..].iter().take(limit as usize).cloned().collect();
        done(Changes { incarnation: [0; 16], head: state.log_head, rows, clock: None })
    }

    fn news(&self) -> News<'_> {
        Box::pin(std::future::pending())
    }

    fn is_shared(&self) -> bool {
        false
    }
}

fn subject_of(id: &SubjectId, row: &SubjectRow) -> Subject {
    Subject { id: id.clone(), state: row.state, epoch: row.login.epoch, key_epoch: row.key.epoch }
}

fn client_row(new: &NewClient) -> ClientRow {
    let client = Client {
        id: new.id,
        name: new.name.clone(),
        policy: new.policy.clone(),
        allow_login: new.allow_login,
        metadata: new.metadata.clone(),
        epoch: Epoch(0),
        version: 1,
        created_at: new.created_at,
    };
    ClientRow { client: Arc::new(client), bumped_at: new.created_at }
}

impl AccountStore for MemoryStore {
    fn create<'a>(
        &'a self,
        account: &'a Account,
        password: &'a EncodedPassword,
        distinct: Distinct,
    ) -> Answer<'a, bool> {
        let name = &account.username;
        let is_taken = |taken: &Username| match distinct {
            Distinct::ByText => taken == name,
            Distinct::ByCase => taken.folded() == name.folded(),
            Distinct::ByLook => taken.looks_like(name),
        };
        let mut state = self.lock();
        let taken =
            state.accounts.iter().any(|row| row.account.subject == account.subject || is_taken(&row.account.username));
        if !taken {
            state.accounts.push(Credentials { account: account.clone(), password: password.clone() });
        }
        done(!taken)
    }

    fn has_lookalike<'a>(&'a self, name: &'a Username) -> Answer<'a, bool> {
        done(self.lock().accounts.iter().any(|row| row.account.username.looks_like(name)))
    }

    fn named<'a>(&'a self, name: &'a LoginName) -> Answer<'a, Vec<Credentials>> {
        let state = self.lock();
        let meant = |account: &Account| {
            account.username.as_str() == name.exact
                || account.username.folded() == name.folded
                || account.email_confirmed_at.is_some()
                    && account.email.as_ref().is_some_and(|email| email.folded() == name.folded)
        };
        let mut found: Vec<_> = state.accounts.iter().filter(|row| meant(&row.account)).cloned().collect();
        // An exact match must not fall victim to the limit.
        found.sort_by_key(|row| row.account.username.as_str() != name.exact);
        found.truncate(8);
        done(found)
    }

    fn account<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, Option<Credentials>> {
        done(self.lock().accounts.iter().find(|row| row.account.subject == *subject).cloned())
    }

    fn accounts<'a>(&'a self, query: &'a AccountQuery) -> Answer<'a, Vec<Account>> {
        let state = self.lock();
        let place = |name: &Username| (name.folded(), name.clone());
        let after = query.after.as_ref().map(place);
        let begins = query.name.as_deref().map(fold);
        let meant = |account: &Account| {
            begins.as_ref().is_none_or(|begins| account.username.folded().starts_with(begins))
                && query
                    .email
                    .as_ref()
                    .is_none_or(|wanted| account.email.as_ref().is_some_and(|email| email.folded() == wanted.folded()))
                && query.role.is_none_or(|role| account.role == role)
                && query.active.is_none_or(|active| account.active == active)
        };
        let mut accounts: Vec<_> = state
            .accounts
            .iter()
            .filter(|row| after.as_ref().is_none_or(|after| place(&row.account.username) > *after))
            .filter(|row| meant(&row.account))
            .map(|row| row.account.clone())
            .collect();
        accounts.sort_by_key(|account| place(&account.username));
        accounts.truncate(query.limit as usize);
        done(accounts)
    }

    fn has_role(&self, role: Role) -> Answer<'_, bool> {
        done(self.lock().accounts.iter().any(|row| row.account.role == role))
    }

    fn greatest_number(&self) -> Answer<'_, u64> {
        let state = self.lock();
        let number = |row: &Credentials| {
            let text = row.account.subject.as_str();
            let is_plain = text.len() <= 15 && text.bytes().all(|byte| byte.is_ascii_digit());
            is_plain.then(|| text.parse().ok()).flatten()
        };
        done(state.accounts.iter().filter_map(number).max().unwrap_or(0))
    }

    fn password_costs(&self) -> Answer<'_, Vec<Cost>> {
        let mut costs: Vec<Cost> = self.lock().accounts.iter().filter_map(|row| row.password.cost().ok()).collect();
        costs.sort_unstable();
        costs.dedup();
        done(costs)
    }

    fn set_password<'a>(
        &'a self,
        subject: &'a SubjectId,
        expected: Option<&'a EncodedPassword>,
        password: &'a EncodedPassword,
    ) -> Answer<'a, bool> {
        let mut state = self.lock();
        let row = state.accounts.iter_mut().find(|row| {
            row.account.subject == *subject
                && expected.is_none_or(|expected| row.password.expose() == expected.expose())
        });
        let Some(row) = row else { return done(false) };
        row.password = password.clone();
        done(true)
    }

    fn change<'a>(&'a self, subject: &'a SubjectId, changes: &'a [AccountChange]) -> Answer<'a, Option<Account>> {
        let mut state = self.lock();
        let Some(row) = state.accounts.iter_mut().find(|row| row.account.subject == *subject) else {
            return done(None);
        };
        changes.iter().for_each(|change| row.account.apply(change));
        done(Some(row.account.clone()))
    }

    fn delete<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, bool> {
        let mut state = self.lock();
        let before = state.accounts.len();
        state.accounts.retain(|row| row.account.subject != *subject);
        done(state.accounts.len() < before)
    }
}

impl AuditStore for MemoryStore {
    fn append<'a>(&'a self, entries: &'a [Entry]) -> Answer<'a, ()> {
        let mut state = self.lock();
        for entry in entries {
            state.audit_head += 1;
            let number = state.audit_head;
            state.audit.push(NumberedEntry { number, entry: entry.clone() });
        }
        done(())
    }

    fn entries<'a>(&'a self, query: &'a AuditQuery) -> Answer<'a, Vec<NumberedEntry>> {
        let state = self.lock();
        let meant = |numbered: &&NumberedEntry| {
            let NumberedEntry { number, entry } = numbered;
            let (by_subject, by_token) = match &entry.actor {
                Actor::Holder { subject, token } => (Some(subject), Some(*token)),
                Actor::Stranger | Actor::Operator | Actor::Deployment => (None, None),
            };
            query.event.as_ref().is_none_or(|event| entry.event == *event)
                && query.subject.as_ref().is_none_or(|subject| entry.subject.as_ref() == Some(subject))
                && query.by.as_ref().is_none_or(|subject| by_subject == Some(subject))
                && query.client.as_ref().is_none_or(|client| entry.client.as_ref() == Some(client))
                && query.token.is_none_or(|token| entry.token == Some(token) || by_token == Some(token))
                && query.ip.is_none_or(|ip| entry.source.ip == Some(ip))
                && query.since.is_none_or(|since| entry.at >= since)
                && query.until.is_none_or(|until| entry.at < until)
                && query.before.is_none_or(|before| *number < before)
        };
        done(state.audit.iter().rev().filter(meant).take(query.limit as usize).cloned().collect())
    }

    fn forget(&self, removed_before: Timestamp, anonymous_before: Timestamp, batch: u32) -> Answer<'_, u64> {
        let mut state = self.lock();
        let (mut room, mut forgotten) = (batch, 0);
        state.audit.retain(|kept| {
            let goes = kept.entry.at < removed_before && room > 0;
            room -= u32::from(goes);
            forgotten += u64::from(goes);
            !goes
        });
        let known =
            |entry: &&mut NumberedEntry| entry.entry.at < anonymous_before && entry.entry.source != Source::default();
        for kept in state.audit.iter_mut().filter(known).take(batch as usize) {
            kept.entry.source = Source::default();
            forgotten += 1;
        }
        done(forgotten)
    }
}
