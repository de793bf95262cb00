//! Clients.

use std::sync::Arc;

use counterfoil_core::client::{Client, ClientId, ClientName};
use counterfoil_core::store::{Changed, ClientOutcome, ClientUpdate, NewClient};
use counterfoil_core::{Epoch, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::changes::log;
use super::column::{Column, get, signed};
use super::fault::Fault;
use super::readers::{Reader, Shared};

const BY_NAME: &str = "
    SELECT key, id, name, policy, allow_login, metadata, epoch, version, created_at FROM clients
    WHERE name = ?1 AND deleted = 0";

const BY_ID: &str = "
    SELECT key, id, name, policy, allow_login, metadata, epoch, version, created_at FROM clients
    WHERE id = ?1 AND deleted = 0";

const BY_KEY: &str = "
    SELECT key, id, name, policy, allow_login, metadata, epoch, version, created_at FROM clients WHERE key = ?1";

const ALL: &str = "
    SELECT key, id, name, policy, allow_login, metadata, epoch, version, created_at FROM clients
    WHERE deleted = 0 ORDER BY name";

fn parse(row: &Row<'_>) -> rusqlite::Result<Client> {
    Ok(Client {
        id: get(row, 1)?,
        name: get(row, 2)?,
        policy: get(row, 3)?,
        allow_login: row.get(4)?,
        metadata: get(row, 5)?,
        epoch: get(row, 6)?,
        version: get(row, 7)?,
        created_at: get(row, 8)?,
    })
}

/// The client of a row, parsed only if it has changed since the last time.
fn shared(row: &Row<'_>, shared: &Shared) -> rusqlite::Result<Arc<Client>> {
    let key = row.get(0)?;
    if let Some(known) = shared.client(key, get(row, 7)?, get(row, 6)?) {
        return Ok(known);
    }
    let client = Arc::new(parse(row)?);
    shared.keep(key, &client);
    Ok(client)
}

/// See [`counterfoil_core::TokenStore::client`].
pub(super) fn client(reader: &Reader, name: &ClientName) -> Result<Option<Arc<Client>>, Fault> {
    let mut statement = reader.connection.prepare_cached(BY_NAME)?;
    Ok(statement.query_row([Column(name)], |row| shared(row, &reader.shared)).optional()?)
}

/// The client of that key, which a token in the same snapshot names.
pub(super) fn by_key(reader: &Reader, key: i64) -> rusqlite::Result<Arc<Client>> {
    reader.connection.prepare_cached(BY_KEY)?.query_row([key], |row| shared(row, &reader.shared))
}

/// See [`counterfoil_core::TokenStore::clients`].
pub(super) fn clients(reader: &Reader) -> Result<Vec<Arc<Client>>, Fault> {
    let mut statement = reader.connection.prepare_cached(ALL)?;
    Ok(statement.query_map([], |row| shared(row, &reader.shared))?.collect::<Result<_, _>>()?)
}

const ADD: &str = "
    INSERT INTO clients (id, name, policy, allow_login, metadata, created_at)
    SELECT ?1, ?2, ?3, ?4, ?5, ?6
    WHERE NOT EXISTS (SELECT 1 FROM clients WHERE name = ?2 AND deleted = 0)
        AND NOT EXISTS (SELECT 1 FROM clients WHERE id = ?1)";

/// See [`counterfoil_core::TokenStore::create_client`].
pub(super) fn create(connection: &Connection, new: &NewClient) -> Result<Option<Arc<Client>>, Fault> {
    let added = connection.prepare_cached(ADD)?.execute(params![
        Column(new.id),
        Column(&new.name),
        Column(&new.policy),
        new.allow_login,
        Column(&new.metadata),
        Column(new.created_at),
    ])?;
    if added == 0 {
        return Ok(None);
    }
    Ok(Some(Arc::new(connection.prepare_cached(BY_ID)?.query_row([Column(new.id)], parse)?)))
}

const CHANGE: &str = "
    UPDATE clients SET name = ?3, policy = ?4, allow_login = ?5, version = version + 1
    WHERE id = ?1 AND version = ?2 AND deleted = 0";

const NAME_TAKEN: &str = "SELECT EXISTS (SELECT 1 FROM clients WHERE name = ?1 AND id <> ?2 AND deleted = 0)";

/// See [`counterfoil_core::TokenStore::update_client`].
pub(super) fn update(connection: &Connection, update: &ClientUpdate, now: Timestamp) -> Result<ClientOutcome, Fault> {
    let name_taken: bool = connection
        .prepare_cached(NAME_TAKEN)?
        .query_row(params![Column(&update.name), Column(update.id)], |row| row.get(0))?;
    if name_taken {
        return Ok(ClientOutcome::NameTaken);
    }
    let changed = connection.prepare_cached(CHANGE)?.execute(params![
        Column(update.id),
        signed(update.version),
        Column(&update.name),
        Column(&update.policy),
        update.allow_login,
    ])?;
    if changed == 0 {
        return Ok(ClientOutcome::Changed);
    }
    let client = connection.prepare_cached(BY_ID)?.query_row([Column(update.id)], parse)?;
    log(connection, &Changed::Client(update.id), now)?;
    Ok(ClientOutcome::Updated(Arc::new(client)))
}

const DELETE: &str = "UPDATE clients SET deleted = 1 WHERE id = ?1 AND deleted = 0";

/// See [`counterfoil_core::TokenStore::delete_client`]. One row, however many tokens there are: nothing finds them any
/// more, and [`sweep`] removes them.
pub(super) fn delete(connection: &Connection, id: ClientId, now: Timestamp) -> Result<bool, Fault> {
    if connection.prepare_cached(DELETE)?.execute([Column(id)])? == 0 {
        return Ok(false);
    }
    log(connection, &Changed::Client(id), now)?;
    Ok(true)
}

const DELETED: &str = "SELECT key FROM clients WHERE deleted = 1 ORDER BY key LIMIT 1";
// What was retired and seen of them goes with them.
const SWEEP_TOKENS: &str = "
    DELETE FROM tokens WHERE number IN (
        SELECT number FROM tokens INDEXED BY tokens_by_client WHERE client = ?1 ORDER BY number LIMIT ?2
    )";
const SWEEP_BUMPS: &str = "DELETE FROM bumps WHERE what = 'client' AND target = ?1";
const SWEEP: &str = "DELETE FROM clients WHERE key = ?1";

/// Removes at most `room` tokens of deleted clients, and the clients that have none left; returns how many tokens.
pub(super) fn sweep(connection: &Connection, room: u64) -> Result<u64, Fault> {
    let mut removed = 0;
    while removed < room {
        let deleted: Option<i64> = connection.prepare_cached(DELETED)?.query_row([], |row| row.get(0)).optional()?;
        let Some(key) = deleted else { break };
        let left = room - removed;
        let gone = connection.prepare_cached(SWEEP_TOKENS)?.execute(params![key, signed(left)])? as u64;
        removed += gone;
        if gone < left {
            connection.prepare_cached(SWEEP_BUMPS)?.execute([key])?;
            connection.prepare_cached(SWEEP)?.execute([key])?;
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

const NOW: &str = "SELECT key, name, version, epoch FROM clients WHERE id = ?1 AND deleted = 0";

/// The client as it is in this transaction.
pub(super) fn now(connection: &Connection, id: ClientId) -> Result<Option<ClientNow>, Fault> {
    let client = connection.prepare_cached(NOW)?.query_row([Column(id)], |row| {
        Ok(ClientNow { key: row.get(0)?, name: get(row, 1)?, version: get(row, 2)?, epoch: get(row, 3)? })
    });
    Ok(client.optional()?)
}
