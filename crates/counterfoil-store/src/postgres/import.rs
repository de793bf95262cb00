//! What is brought over from other systems, and the ledger of it.
//!
//! A batch is judged as a whole: what there is of its rows is read, and locked, in one flight, every row is judged by that and by
//! the rows before it, and what is to be added goes in by COPY. Whatever was made meanwhile under the same name breaks a constraint,
//! and the batch is judged again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use counterfoil_core::import::{
    AccountOutcome, Brought, ImportStore, ImportedAccount, LedgerRow, SourceKey, TokenOutcome, TokenRow, mark_of,
};
use counterfoil_core::link::Link;
use counterfoil_core::password::EncodedPassword;
use counterfoil_core::store::{Answer, Changed};
use counterfoil_core::token::{Kind, Standing, TokenId, standing};
use counterfoil_core::{Epoch, Epochs, SubjectId, SubjectState, Timestamp};
use tokio_postgres::Row;

use super::PostgresStore;
use super::column::{Read, Value, get, get_if_any, if_any, signed, value};
use super::fault::Fault;
use super::session::{Session, Step};
use super::transaction::Transaction;
use super::{accounts, mail};

// One batch at a time, whoever brings it: importers never wait for each other in a circle, and the numbers of tokens are moved on
// by one of them. The number is ours alone: the first eight bytes of a digest of "counterfoil imports".
const LOCK: &str = "SELECT pg_advisory_xact_lock(-5545589799000376061)";

impl Read for SourceKey {
    type Raw<'r> = &'r [u8];
    const UNREADABLE: &'static str = "not the key of a source";

    fn read(raw: &[u8]) -> Option<SourceKey> {
        raw.try_into().ok().map(SourceKey::from_bytes)
    }
}

fn keys<'a>(of: impl Iterator<Item = &'a SourceKey>) -> Value<'a> {
    Value::ByteStrings(of.map(|key| Some(key.as_bytes().as_slice().into())).collect())
}

/// What is read of `rows` by what it is found under.
fn by_key<K, V>(rows: &[Row], read: impl Fn(&Row) -> Result<(K, V), Fault>) -> Result<HashMap<K, V>, Fault>
where
    K: Eq + std::hash::Hash,
{
    rows.iter().map(read).collect()
}

// ── Accounts ────────────────────────────────────────────────────────────────────────────────────────────────────────

const MARKS: &str = "SELECT source, mark FROM imported WHERE source = ANY($1) AND subject IS NOT NULL FOR UPDATE";

const SUBJECTS_THERE: &str = "SELECT name FROM subjects WHERE name = ANY($1)";

const ACCOUNTS_THERE: &str = "
    SELECT subject, username, created_at, password FROM accounts WHERE subject = ANY($1) OR username = ANY($2)
    ORDER BY key FOR NO KEY UPDATE";

const SET_MARK: &str = "UPDATE imported SET mark = $2 WHERE source = $1";

const SET_PASSWORD: &str = "UPDATE accounts SET password = $2, password_cost = $3 WHERE subject = $1";

/// What tells whether an account is still the one that was imported.
struct Here {
    username: String,
    created_at: Timestamp,
    password: EncodedPassword,
}

/// What there is of the accounts of a batch, and what becomes of it.
struct AccountBatch<'a> {
    marks: HashMap<SourceKey, [u8; 32]>,
    subjects: HashSet<SubjectId>,
    accounts: HashMap<SubjectId, Here>,
    usernames: HashSet<String>,
    added: Vec<&'a ImportedAccount>,
    /// Those whose ledger holds another mark now.
    marked: Vec<&'a ImportedAccount>,
    /// Those whose password is another one now.
    passwords: Vec<&'a ImportedAccount>,
}

async fn import_accounts(
    transaction: Transaction,
    wanted: Arc<(Vec<ImportedAccount>, Timestamp)>,
) -> Result<Vec<AccountOutcome>, Fault> {
    let (accounts, now) = &*wanted;
    let mut batch = AccountBatch::read(&transaction, accounts).await?;
    let outcomes = accounts.iter().map(|new| batch.judge(new)).collect();
    batch.write(&transaction, *now).await?;
    Ok(outcomes)
}

impl<'a> AccountBatch<'a> {
    async fn read(transaction: &Session, accounts: &'a [ImportedAccount]) -> Result<AccountBatch<'a>, Fault> {
        let names = || Value::Texts(accounts.iter().map(|new| Some(new.account.subject.as_str().into())).collect());
        let usernames = Value::Texts(accounts.iter().map(|new| Some(new.account.username.as_str().into())).collect());
        let keys = [keys(accounts.iter().map(|new| &new.key))];
        let (subjects, both) = ([names()], [names(), usernames]);
        let [_, marks, subjects, there] = transaction
            .flight([(LOCK, &[]), (MARKS, &keys), (SUBJECTS_THERE, &subjects), (ACCOUNTS_THERE, &both)])
            .await?;
        let accounts = by_key(&there, |row| {
            Ok((get(row, 0)?, Here { username: get(row, 1)?, created_at: get(row, 2)?, password: get(row, 3)? }))
        })?;
        Ok(AccountBatch {
            marks: by_key(&marks, |row| Ok((get(row, 0)?, get(row, 1)?)))?,
            subjects: subjects.iter().map(|row| get(row, 0)).collect::<Result<_, _>>()?,
            usernames: accounts.values().map(|here| here.username.clone()).collect(),
            accounts,
            added: Vec::new(),
            marked: Vec::new(),
            passwords: Vec::new(),
        })
    }

    fn judge(&mut self, new: &'a ImportedAccount) -> AccountOutcome {
        let ImportedAccount { key, account, password } = new;
        if let Some(mark) = self.marks.get(key).copied() {
            return self.carry_password_over(new, mark);
        }
        if self.subjects.contains(&account.subject) || self.accounts.contains_key(&account.subject) {
            return AccountOutcome::SubjectTaken;
        }
        if !self.usernames.insert(account.username.to_string()) {
            return AccountOutcome::NameTaken;
        }
        self.marks.insert(*key, mark_of(password));
        self.subjects.insert(account.subject.clone());
        let username = account.username.to_string();
        let here = Here { username, created_at: account.created_at, password: password.clone() };
        self.accounts.insert(account.subject.clone(), here);
        self.added.push(new);
        AccountOutcome::Imported
    }

    fn carry_password_over(&mut self, new: &'a ImportedAccount, mark: [u8; 32]) -> AccountOutcome {
        let ImportedAccount { key, account, password } = new;
        let Some(here) = self.accounts.get_mut(&account.subject) else { return AccountOutcome::Deleted };
        if here.username != account.username.as_str() && here.created_at != account.created_at {
            return AccountOutcome::SubjectTaken;
        }
        let newest = mark_of(password);
        if mark == newest {
            return AccountOutcome::Known;
        }
        self.marks.insert(*key, newest);
        self.marked.push(new);
        if mark_of(&here.password) != mark {
            return AccountOutcome::PasswordKept;
        }
        here.password = password.clone();
        self.passwords.push(new);
        AccountOutcome::PasswordReplaced
    }

    async fn write(&self, transaction: &Transaction, now: Timestamp) -> Result<(), Fault> {
        let (mut subjects, mut accounts, mut ledger) = (Vec::new(), Vec::new(), Vec::new());
        for ImportedAccount { key, account, password } in &self.added {
            let state = if account.active { SubjectState::Active } else { SubjectState::Disabled };
            subjects.push(vec![value(&account.subject), value(state)]);
            accounts.push(accounts::columns(account, password));
            ledger.push(vec![
                value(key.as_bytes().as_slice()),
                value(&account.subject),
                value(mark_of(password).to_vec()),
            ]);
            if !account.active {
                transaction.log(Changed::Subject(account.subject.clone()), now);
            }
        }
        transaction.load("subjects", "name, state", &subjects).await?;
        transaction.load("accounts", accounts::COLUMNS, &accounts).await?;
        transaction.load("imported", "source, subject, mark", &ledger).await?;
        // After what was added: a row may be brought twice in one batch.
        let marked: Vec<_> = self
            .marked
            .iter()
            .map(|new| [value(new.key.as_bytes().as_slice()), value(mark_of(&new.password).to_vec())])
            .collect();
        let passwords: Vec<_> = self
            .passwords
            .iter()
            .map(|new| [value(&new.account.subject), value(&new.password), accounts::cost_column(&new.password)])
            .collect();
        let mut steps: Vec<Step<'_>> = marked.iter().map(|values| (SET_MARK, values.as_slice())).collect();
        steps.extend(passwords.iter().map(|values| (SET_PASSWORD, values.as_slice())));
        transaction.fly(&steps).await.map(drop).map_err(|(_, fault)| fault)
    }
}

// ── Tokens ──────────────────────────────────────────────────────────────────────────────────────────────────────────

const BROUGHT: &str =
    "SELECT source, token, expires_at FROM imported WHERE source = ANY($1) AND token IS NOT NULL FOR UPDATE";

// Locked in the order that everybody keeps, so that no epoch moves between the stamp and the commit.
const SUBJECTS: &str = "
    SELECT name, key, state, epoch, key_epoch, ever_issued FROM subjects WHERE name = ANY($1)
    ORDER BY key FOR NO KEY UPDATE";

const CLIENTS: &str = "SELECT id, key, epoch FROM clients WHERE id = ANY($1) AND NOT deleted ORDER BY key FOR SHARE";

const DEPLOYMENT: &str = "SELECT epoch FROM deployment FOR SHARE";

const DIGESTS_TAKEN: &str = "
    SELECT digest FROM tokens WHERE digest = ANY($1) UNION ALL SELECT digest FROM retired WHERE digest = ANY($1)";

const IDS_TAKEN: &str = "SELECT id FROM tokens WHERE id = ANY($1)";

const NUMBERS_TAKEN: &str = "SELECT number FROM tokens WHERE number = ANY($1)";

// Those that were brought before.
const HELD: &str = "
    SELECT t.id, t.number, t.kind, t.expires_at, t.revoked_at, t.subject_epoch, t.client_epoch, t.deployment_epoch,
           s.epoch, s.key_epoch, c.epoch
    FROM tokens AS t JOIN subjects AS s ON s.key = t.subject JOIN clients AS c ON c.key = t.client
    WHERE t.id = ANY($1) AND NOT c.deleted
    ORDER BY t.number FOR NO KEY UPDATE OF t";

const SET_EXPIRY: &str = "UPDATE tokens SET expires_at = $2 WHERE number = $1";

const SET_LEDGER_EXPIRY: &str = "UPDATE imported SET expires_at = $2 WHERE source = $1";

const NOTE_FIRST_ISSUE: &str = "UPDATE subjects SET ever_issued = true WHERE key = ANY($1)";

const COLUMNS: &str = "
    number, id, kind, subject, client, digest, scheme, abilities, issued_at, expires_at, subject_epoch, client_epoch,
    deployment_epoch, sealed, sealed_key, name, metadata, first_ip, first_agent";

struct SubjectHere {
    key: i64,
    epoch: Epoch,
    key_epoch: Epoch,
    ever_issued: bool,
}

struct ClientHere {
    key: i64,
    epoch: Epoch,
}

/// A token that is here already.
struct Held {
    number: i64,
    expires_at: Option<Timestamp>,
    is_live: bool,
}

/// A token to be added.
struct New<'a> {
    row: &'a TokenRow,
    subject: i64,
    client: i64,
    stamped: Epochs,
    expires_at: Option<Timestamp>,
    number: i64,
}

/// What the ledger has of a row.
enum Entered {
    /// It was brought before.
    Before(TokenId, Expiry),
    /// It comes in this very batch, at this place among those that are added.
    Now(usize, Expiry),
}

/// The expiry that a token has in its source.
#[derive(Clone, Copy)]
struct Expiry {
    /// As the ledger has it.
    noted: Option<Timestamp>,
    /// As it was read last.
    read: Option<Timestamp>,
}

/// What there is of the tokens of a batch, and what becomes of it.
struct TokenBatch<'a> {
    entered: HashMap<SourceKey, Entered>,
    subjects: HashMap<SubjectId, SubjectHere>,
    clients: HashMap<[u8; 16], ClientHere>,
    deployment: Epoch,
    digests: HashSet<[u8; 32]>,
    ids: HashSet<TokenId>,
    numbers: HashSet<i64>,
    held: HashMap<TokenId, Held>,
    added: Vec<New<'a>>,
    /// Numbers whose expiry moves on.
    moved: HashMap<i64, Option<Timestamp>>,
}

async fn import_tokens(
    transaction: Transaction,
    wanted: Arc<(Vec<TokenRow>, Timestamp)>,
) -> Result<Vec<TokenOutcome>, Fault> {
    let (rows, now) = &*wanted;
    let mut batch = TokenBatch::read(&transaction, rows, *now).await?;
    let judged: Vec<Judged> = rows.iter().map(|row| batch.judge(row)).collect();
    batch.number(&transaction).await?;
    batch.write(&transaction).await?;
    Ok(judged.into_iter().map(|judged| batch.outcome(judged)).collect())
}

/// What becomes of a row, before the numbers are known.
#[derive(Clone, Copy)]
enum Judged {
    Added(usize),
    Otherwise(TokenOutcome),
}

/// The number that a row shall have, if it is one: above half of them they are ours to draw.
fn wanted_number(row: &TokenRow) -> Option<i64> {
    row.number.filter(|number| (1..=i64::MAX.cast_unsigned() / 2).contains(number)).map(signed)
}

impl<'a> TokenBatch<'a> {
    async fn read(transaction: &Session, rows: &'a [TokenRow], now: Timestamp) -> Result<TokenBatch<'a>, Fault> {
        let sources = [keys(rows.iter().map(|row| &row.key))];
        let names: HashSet<&str> = rows.iter().map(|row| row.subject.as_str()).collect();
        let names = [Value::Texts(names.into_iter().map(|name| Some(name.into())).collect())];
        let clients: HashSet<[u8; 16]> = rows.iter().map(|row| *row.client.as_bytes()).collect();
        let clients = [Value::Ids(clients.into_iter().map(Some).collect())];
        let digests =
            [Value::ByteStrings(rows.iter().map(|row| Some(row.digest.as_bytes().as_slice().into())).collect())];
        let ids = [Value::Ids(rows.iter().map(|row| Some(*row.id.as_bytes())).collect())];
        let numbers = [Value::Integers(rows.iter().filter_map(wanted_number).collect())];
        let [_, brought, subjects, clients, deployment, digests, ids, numbers] = transaction
            .flight([
                (LOCK, &[]),
                (BROUGHT, &sources),
                (SUBJECTS, &names),
                (CLIENTS, &clients),
                (DEPLOYMENT, &[]),
                (DIGESTS_TAKEN, &digests),
                (IDS_TAKEN, &ids),
                (NUMBERS_TAKEN, &numbers),
            ])
            .await?;
        let deployment = get(deployment.first().ok_or(Fault::Miscounted)?, 0)?;
        let brought: HashMap<SourceKey, (TokenId, Option<Timestamp>)> =
            by_key(&brought, |row| Ok((get(row, 0)?, (get(row, 1)?, get_if_any(row, 2)?))))?;
        let ids_brought = Value::Ids(brought.values().map(|(id, _)| Some(*id.as_bytes())).collect());
        let held = if brought.is_empty() { Vec::new() } else { transaction.query(HELD, &[ids_brought]).await? };
        let subjects: HashMap<SubjectId, (SubjectState, SubjectHere)> = by_key(&subjects, |row| {
            let here = SubjectHere {
                key: get(row, 1)?,
                epoch: get(row, 3)?,
                key_epoch: get(row, 4)?,
                ever_issued: get(row, 5)?,
            };
            Ok((get(row, 0)?, (get(row, 2)?, here)))
        })?;
        Ok(TokenBatch {
            entered: brought
                .into_iter()
                .map(|(key, (id, noted))| (key, Entered::Before(id, Expiry { noted, read: noted })))
                .collect(),
            subjects: subjects
                .into_iter()
                .filter(|(_, (state, _))| *state != SubjectState::Buried)
                .map(|(name, (_, here))| (name, here))
                .collect(),
            clients: by_key(&clients, |row| {
                let id: counterfoil_core::client::ClientId = get(row, 0)?;
                Ok((*id.as_bytes(), ClientHere { key: get(row, 1)?, epoch: get(row, 2)? }))
            })?,
            deployment,
            digests: digests.iter().map(|row| get(row, 0)).collect::<Result<_, _>>()?,
            ids: ids.iter().map(|row| get(row, 0)).collect::<Result<_, _>>()?,
            numbers: numbers.iter().map(|row| get(row, 0)).collect::<Result<_, _>>()?,
            held: by_key(&held, |row| Ok((get(row, 0)?, Held::parse(row, deployment, now)?)))?,
            added: Vec::new(),
            moved: HashMap::new(),
        })
    }

    fn judge(&mut self, row: &'a TokenRow) -> Judged {
        match self.entered.get_mut(&row.key) {
            Some(Entered::Before(id, expiry)) => {
                expiry.read = row.expires_at;
                let id = *id;
                return Judged::Otherwise(self.known(id, row.expires_at));
            }
            Some(Entered::Now(place, expiry)) => {
                expiry.read = row.expires_at;
                let place = *place;
                return Judged::Otherwise(self.added.get_mut(place).map_or(TokenOutcome::Gone, |new| {
                    new.expires_at = moved_on(new.expires_at, row.expires_at);
                    TokenOutcome::Known(new.row.id)
                }));
            }
            None => {}
        }
        let Some(subject) = self.subjects.get(&row.subject) else {
            return Judged::Otherwise(TokenOutcome::SubjectMissing);
        };
        let Some(client) = self.clients.get(row.client.as_bytes()) else {
            return Judged::Otherwise(TokenOutcome::ClientMissing);
        };
        if self.ids.contains(&row.id) || self.digests.contains(row.digest.as_bytes()) {
            return Judged::Otherwise(TokenOutcome::Taken);
        }
        self.ids.insert(row.id);
        self.digests.insert(*row.digest.as_bytes());
        let of_subject = match row.kind {
            Kind::Login => subject.epoch,
            Kind::Key => subject.key_epoch,
        };
        let stamped = Epochs { subject: of_subject, client: client.epoch, deployment: self.deployment };
        let expiry = Expiry { noted: None, read: row.expires_at };
        self.entered.insert(row.key, Entered::Now(self.added.len(), expiry));
        let (subject, client) = (subject.key, client.key);
        self.added.push(New { row, subject, client, stamped, expires_at: row.expires_at, number: 0 });
        Judged::Added(self.added.len() - 1)
    }

    fn known(&mut self, id: TokenId, expires_at: Option<Timestamp>) -> TokenOutcome {
        let Some(held) = self.held.get_mut(&id) else { return TokenOutcome::Gone };
        let moved = moved_on(held.expires_at, expires_at);
        if held.is_live && moved != held.expires_at {
            held.expires_at = moved;
            self.moved.insert(held.number, moved);
        }
        TokenOutcome::Known(id)
    }

    /// Gives everything that is added its number: the one it had, where that is free, else the next.
    async fn number(&mut self, transaction: &Session) -> Result<(), Fault> {
        for new in &mut self.added {
            if let Some(wanted) = wanted_number(new.row)
                && self.numbers.insert(wanted)
            {
                new.number = wanted;
            }
        }
        let greatest = self.added.iter().map(|new| new.number).max().unwrap_or(0);
        move_numbers_on(transaction, greatest).await?;
        let without: Vec<&mut New<'_>> = self.added.iter_mut().filter(|new| new.number == 0).collect();
        if without.is_empty() {
            return Ok(());
        }
        let drawn = transaction.query(DRAW, &[value(without.len() as u64)]).await?;
        if drawn.len() != without.len() {
            return Err(Fault::Miscounted);
        }
        for (new, row) in without.into_iter().zip(drawn) {
            new.number = get(&row, 0)?;
        }
        Ok(())
    }

    async fn write(&self, transaction: &Session) -> Result<(), Fault> {
        let tokens: Vec<_> = self.added.iter().map(New::columns).collect();
        transaction.load("tokens", COLUMNS, &tokens).await?;
        let seen: Vec<_> = self.added.iter().filter_map(New::last_seen).collect();
        transaction.load("last_seen", "token, at, ip, agent", &seen).await?;
        let (mut ledger, mut steps) = (Vec::new(), Vec::new());
        for (key, entered) in &self.entered {
            let key = value(key.as_bytes().as_slice());
            match entered {
                // Mostly it is what it was, and then nothing is written.
                Entered::Before(_, Expiry { noted, read }) if noted == read => {}
                Entered::Before(_, Expiry { read, .. }) => {
                    steps.push((SET_LEDGER_EXPIRY, vec![key, if_any(*read)]));
                }
                Entered::Now(place, expiry) => {
                    let id = self.added.get(*place).ok_or(Fault::Miscounted)?.row.id;
                    ledger.push(vec![key, value(id), if_any(expiry.read)]);
                }
            }
        }
        transaction.load("imported", "source, token, expires_at", &ledger).await?;
        steps.extend(self.moved.iter().map(|(number, expiry)| (SET_EXPIRY, vec![value(*number), if_any(*expiry)])));
        let first: HashSet<i64> = self
            .added
            .iter()
            .filter(|new| self.subjects.get(&new.row.subject).is_some_and(|subject| !subject.ever_issued))
            .map(|new| new.subject)
            .collect();
        if !first.is_empty() {
            steps.push((NOTE_FIRST_ISSUE, vec![Value::Integers(first.into_iter().collect())]));
        }
        let steps: Vec<Step<'_>> = steps.iter().map(|(sql, values)| (*sql, values.as_slice())).collect();
        transaction.fly(&steps).await.map(drop).map_err(|(_, fault)| fault)
    }

    fn outcome(&self, judged: Judged) -> TokenOutcome {
        match judged {
            Judged::Added(place) => {
                let number = self.added.get(place).map_or(0, |new| new.number).cast_unsigned();
                TokenOutcome::Imported { number }
            }
            Judged::Otherwise(outcome) => outcome,
        }
    }
}

/// An expiry moves on, and never back.
fn moved_on(from: Option<Timestamp>, to: Option<Timestamp>) -> Option<Timestamp> {
    from.and_then(|end| to.map(|to| to.max(end)))
}

impl Held {
    fn parse(row: &Row, deployment: Epoch, now: Timestamp) -> Result<Held, Fault> {
        let expires_at = get_if_any(row, 3)?;
        let stamped = Epochs { subject: get(row, 5)?, client: get(row, 6)?, deployment: get(row, 7)? };
        let of_subject = match get(row, 2)? {
            Kind::Login => get(row, 8)?,
            Kind::Key => get(row, 9)?,
        };
        let current = Epochs { subject: of_subject, client: get(row, 10)?, deployment };
        let is_live = standing(get_if_any(row, 4)?, expires_at, &stamped, &current, now) == Standing::Live;
        Ok(Held { number: get(row, 1)?, expires_at, is_live })
    }
}

impl New<'_> {
    fn columns(&self) -> Vec<Value<'_>> {
        let New { row, stamped, .. } = self;
        vec![
            value(self.number),
            value(row.id),
            value(row.kind),
            value(self.subject),
            value(self.client),
            value(&row.digest),
            value(row.scheme),
            value(&row.abilities),
            value(row.issued_at),
            if_any(self.expires_at),
            value(stamped.subject),
            value(stamped.client),
            value(stamped.deployment),
            if_any(row.sealed.as_ref().map(|sealed| sealed.bytes.as_slice())),
            if_any(row.sealed.as_ref().map(|sealed| sealed.key_id)),
            if_any(row.name.as_ref()),
            value(&row.metadata),
            if_any(row.source.ip),
            if_any(row.source.user_agent.as_ref()),
        ]
    }

    fn last_seen(&self) -> Option<Vec<Value<'_>>> {
        let seen = self.row.last_seen.as_ref()?;
        let source = &seen.source;
        Some(vec![value(self.number), value(seen.at), if_any(source.ip), if_any(source.user_agent.as_ref())])
    }
}

const LAST_NUMBER: &str =
    "SELECT coalesce(pg_sequence_last_value(CAST(pg_get_serial_sequence('tokens', 'number') AS regclass)), 0)";

const DRAW: &str = "SELECT nextval(pg_get_serial_sequence('tokens', 'number')) FROM generate_series(1, $1)";

const SET_NUMBER: &str = "SELECT setval(pg_get_serial_sequence('tokens', 'number'), $1)";

/// So many numbers are drawn one by one; a way that is longer is jumped.
const DRAWN_ONE_BY_ONE: i64 = 10_000;

/// Moves the numbers on, so that none up to `greatest` is drawn any more. Others draw meanwhile, and a sequence that is set does not
/// look where it stands: so it is set only where nobody can have drawn that many since it was looked at, and drawn from otherwise.
async fn move_numbers_on(transaction: &Session, greatest: i64) -> Result<(), Fault> {
    if greatest == 0 {
        return Ok(());
    }
    let last: i64 = get(&transaction.query_one(LAST_NUMBER, &[]).await?, 0)?;
    let way = greatest - last;
    if way > DRAWN_ONE_BY_ONE {
        transaction.query_one(SET_NUMBER, &[value(greatest)]).await?;
    } else if way > 0 {
        transaction.query(DRAW, &[value(way)]).await?;
    }
    Ok(())
}

// ── The ledger ──────────────────────────────────────────────────────────────────────────────────────────────────────

const PAGE: &str = "SELECT source, token, subject, expires_at FROM imported WHERE source > $1 ORDER BY source LIMIT $2";

async fn ledger(session: Arc<Session>, wanted: Arc<(Option<SourceKey>, u32)>) -> Result<Vec<LedgerRow>, Fault> {
    let (after, limit) = &*wanted;
    let after: &[u8] = after.as_ref().map_or(&[], |key| key.as_bytes());
    let rows = session.query(PAGE, &[value(after), value(*limit)]).await?;
    let row = |row: &Row| {
        let brought = match get_if_any(row, 1)? {
            Some(token) => Brought::Token(token),
            None => Brought::Account(get(row, 2)?),
        };
        Ok(LedgerRow { key: get(row, 0)?, brought, expires_at: get_if_any(row, 3)? })
    };
    rows.iter().map(row).collect()
}

const FORGET: &str = "DELETE FROM imported WHERE source IN (SELECT source FROM imported ORDER BY source LIMIT $1)";

async fn forget(transaction: Transaction, batch: Arc<u32>) -> Result<u64, Fault> {
    transaction.query(LOCK, &[]).await?;
    transaction.execute(FORGET, &[value(*batch)]).await
}

impl ImportStore for PostgresStore {
    fn import_accounts<'a>(
        &'a self,
        accounts: &'a [ImportedAccount],
        now: Timestamp,
    ) -> Answer<'a, Vec<AccountOutcome>> {
        self.transact("bringing accounts over", (accounts.to_vec(), now), import_accounts)
    }

    fn import_tokens<'a>(&'a self, tokens: &'a [TokenRow], now: Timestamp) -> Answer<'a, Vec<TokenOutcome>> {
        self.transact("bringing tokens over", (tokens.to_vec(), now), import_tokens)
    }

    fn import_link<'a>(&'a self, link: &'a Link) -> Answer<'a, bool> {
        self.transact("bringing a link over", link.clone(), mail::keep_link)
    }

    fn ledger(&self, after: Option<SourceKey>, limit: u32) -> Answer<'_, Vec<LedgerRow>> {
        self.read("reading the ledger of imports", (after, limit), ledger)
    }

    fn forget_ledger(&self, batch: u32) -> Answer<'_, u64> {
        self.transact("forgetting the ledger of imports", batch, forget)
    }
}
