//! Clients.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use counterfoil_core::client::{Client, ClientId, ClientName};
use counterfoil_core::store::{Changed, ClientOutcome, ClientUpdate, NewClient};
use counterfoil_core::{Abilities, Epoch, Timestamp};
use tokio_postgres::Row;

use super::column::{get, value};
use super::fault::Fault;
use super::session::Session;
use super::transaction::Transaction;

/// What need not be parsed anew for every row.
#[derive(Debug)]
pub(super) struct Shared {
    clients: RwLock<BTreeMap<i64, Arc<Client>>>,
    /// The store that they are of.
    incarnation: Mutex<Option<[u8; 16]>>,
    everything: Abilities,
}

impl Shared {
    pub(super) fn new() -> Shared {
        Shared { clients: RwLock::default(), incarnation: Mutex::default(), everything: Abilities::everything() }
    }

    /// Forgets all that is known of another store: one that was put back may give a key out again.
    pub(super) fn belong_to(&self, incarnation: [u8; 16]) {
        let mut known = self.incarnation.lock().unwrap_or_else(PoisonError::into_inner);
        if known.replace(incarnation) != Some(incarnation) {
            self.clients.write().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// The client of this key, if it was kept as of this version and epoch.
    pub(super) fn client(&self, key: i64, version: u64, epoch: Epoch) -> Option<Arc<Client>> {
        let clients = self.clients.read().unwrap_or_else(PoisonError::into_inner);
        clients.get(&key).filter(|client| client.version == version && client.epoch == epoch).map(Arc::clone)
    }

    /// The client of a row, parsed only if it has changed since the last time.
    fn of(&self, row: &Row) -> Result<Arc<Client>, Fault> {
        let key = get(row, 0)?;
        if let Some(known) = self.client(key, get(row, 7)?, get(row, 6)?) {
            return Ok(known);
        }
        let client = Arc::new(parse(row)?);
        self.clients.write().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&client));
        Ok(client)
    }

    /// The set that almost every token carries, without parsing or allocating it.
    pub(super) fn everything(&self) -> Abilities {
        self.everything.clone()
    }
}

const BY_NAME: &str = "
    SELECT key, id, name, policy, allow_login, metadata, epoch, version, created_at FROM clients
    WHERE name = $1 AND NOT deleted";

const BY_KEY: &str = "
    SELECT key, id, name, policy, allow_login, metadata, epoch, version, created_at FROM clients WHERE key = $1";

const ALL: &str = "
    SELECT key, id, name, policy, allow_login, metadata, epoch, version, created_at FROM clients
    WHERE NOT deleted ORDER BY name";

fn parse(row: &Row) -> Result<Client, Fault> {
    Ok(Client {
        id: get(row, 1)?,
        name: get(row, 2)?,
        policy: get(row, 3)?,
        allow_login: get(row, 4)?,
        metadata: get(row, 5)?,
        epoch: get(row, 6)?,
        version: get(row, 7)?,
        created_at: get(row, 8)?,
    })
}

/// See [`counterfoil_core::TokenStore::client`].
pub(super) async fn client(
    session: &Session,
    shared: &Shared,
    name: &ClientName,
) -> Result<Option<Arc<Client>>, Fault> {
    session.query_opt(BY_NAME, &[value(name)]).await?.map(|row| shared.of(&row)).transpose()
}

/// The client of that key, of whatever version it is by now; `None` where it has been swept away.
pub(super) async fn by_key(session: &Session, shared: &Shared, key: i64) -> Result<Option<Arc<Client>>, Fault> {
    session.query_opt(BY_KEY, &[value(key)]).await?.map(|row| shared.of(&row)).transpose()
}

/// See [`counterfoil_core::TokenStore::clients`].
pub(super) async fn clients(session: &Session, shared: &Shared) -> Result<Vec<Arc<Client>>, Fault> {
    session.query(ALL, &[]).await?.iter().map(|row| shared.of(row)).collect()
}

// Whoever takes the name or the id at the same moment breaks a constraint, and the next attempt finds it taken.
const ADD: &str = "
    INSERT INTO clients (id, name, policy, allow_login, metadata, created_at)
    SELECT $1, $2, $3, $4, $5, $6
    WHERE NOT EXISTS (SELECT 1 FROM clients WHERE name = $2 AND NOT deleted)
        AND NOT EXISTS (SELECT 1 FROM clients WHERE id = $1)
    RETURNING key, id, name, policy, allow_login, metadata, epoch, version, created_at";

/// See [`counterfoil_core::TokenStore::create_client`].
pub(super) async fn create(transaction: Transaction, new: Arc<NewClient>) -> Result<Option<Arc<Client>>, Fault> {
    let values = [
        value(new.id),
        value(&new.name),
        value(&new.policy),
        value(new.allow_login),
        value(&new.metadata),
        value(new.created_at),
    ];
    let added = transaction.query_opt(ADD, &values).await?;
    added.map(|row| parse(&row).map(Arc::new)).transpose()
}

const NAME_TAKEN: &str = "SELECT EXISTS (SELECT 1 FROM clients WHERE name = $1 AND id <> $2 AND NOT deleted)";

const CHANGE: &str = "
    UPDATE clients SET name = $3, policy = $4, allow_login = $5, version = version + 1
    WHERE id = $1 AND version = $2 AND NOT deleted
    RETURNING key, id, name, policy, allow_login, metadata, epoch, version, created_at";

/// See [`counterfoil_core::TokenStore::update_client`].
pub(super) async fn update(
    transaction: Transaction,
    wanted: Arc<(ClientUpdate, Timestamp)>,
) -> Result<ClientOutcome, Fault> {
    let (update, now) = &*wanted;
    let taken = transaction.query_one(NAME_TAKEN, &[value(&update.name), value(update.id)]).await?;
    if get(&taken, 0)? {
        return Ok(ClientOutcome::NameTaken);
    }
    let values = [
        value(update.id),
        value(update.version),
        value(&update.name),
        value(&update.policy),
        value(update.allow_login),
    ];
    let Some(changed) = transaction.query_opt(CHANGE, &values).await? else { return Ok(ClientOutcome::Changed) };
    transaction.log(Changed::Client(update.id), *now);
    Ok(ClientOutcome::Updated(Arc::new(parse(&changed)?)))
}

const DELETE: &str = "UPDATE clients SET deleted = true WHERE id = $1 AND NOT deleted";

/// See [`counterfoil_core::TokenStore::delete_client`]. One row, however many tokens there are: nothing finds them any
/// more, and [`sweep`] removes them.
pub(super) async fn delete(transaction: Transaction, wanted: Arc<(ClientId, Timestamp)>) -> Result<bool, Fault> {
    let (id, now) = *wanted;
    if transaction.execute(DELETE, &[value(id)]).await? == 0 {
        return Ok(false);
    }
    transaction.log(Changed::Client(id), now);
    Ok(true)
}

// Two nodes that purge at once do not wait for each other.
const DELETED: &str = "SELECT key FROM clients WHERE deleted ORDER BY key LIMIT 1 FOR UPDATE SKIP LOCKED";
// What was retired and seen of them goes with them.
const SWEEP_TOKENS: &str = "
    DELETE FROM tokens WHERE number IN (SELECT number FROM tokens WHERE client = $1 ORDER BY number LIMIT $2)";
const SWEEP_BUMPS: &str = "DELETE FROM bumps WHERE what = 'client' AND target = $1";
const SWEEP: &str = "DELETE FROM clients WHERE key = $1";

/// Removes at most `room` tokens of deleted clients, and the clients that have none left; returns how many tokens.
pub(super) async fn sweep(transaction: &Transaction, room: u64) -> Result<u64, Fault> {
    let mut removed = 0;
    while removed < room {
        let Some(deleted) = transaction.query_opt(DELETED, &[]).await? else { break };
        let (key, left): (i64, u64) = (get(&deleted, 0)?, room - removed);
        let gone = transaction.execute(SWEEP_TOKENS, &[value(key), value(left)]).await?;
        removed += gone;
        if gone < left {
            transaction.execute(SWEEP_BUMPS, &[value(key)]).await?;
            transaction.execute(SWEEP, &[value(key)]).await?;
        }
    }
    Ok(removed)
}

/// What an issue restates of its client.
pub(super) struct ClientNow {
    pub(super) key: i64,
    pub(super) name: ClientName,
    pub(super) version: u64,
    pub(super) epoch: Epoch,
}

pub(super) const NOW: &str = "SELECT key, name, version, epoch FROM clients WHERE id = $1 AND NOT deleted";

/// The client of a row of [`NOW`].
pub(super) fn now(row: &Row) -> Result<ClientNow, Fault> {
    Ok(ClientNow { key: get(row, 0)?, name: get(row, 1)?, version: get(row, 2)?, epoch: get(row, 3)? })
}
