//! Removing what has been dead for long.

use counterfoil_core::{Epoch, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use super::changes;
use super::column::{Column, get, signed};
use super::fault::Fault;

const REVOKED: &str = "
    DELETE FROM tokens WHERE number IN (SELECT number FROM tokens WHERE revoked_at <= ?1 ORDER BY revoked_at LIMIT ?2)";

const EXPIRED: &str = "
    DELETE FROM tokens WHERE number IN (SELECT number FROM tokens WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)";

const RETIRED: &str = "
    DELETE FROM retired WHERE digest IN (SELECT digest FROM retired WHERE retired_at <= ?1 ORDER BY retired_at LIMIT ?2)";

/// See [`counterfoil_core::TokenStore::purge`]. Each part reads an index up to the limit and no row that stays.
pub(super) fn purge(connection: &Connection, dead_since: Timestamp, batch: u32) -> Result<u64, Fault> {
    let batch = u64::from(batch);
    let mut removed = 0;
    for sql in [REVOKED, EXPIRED] {
        let room = signed(batch - removed);
        removed += connection.prepare_cached(sql)?.execute(params![Column(dead_since), room])? as u64;
    }
    removed += outlived(connection, dead_since, batch - removed)?;
    let room = signed(batch - removed);
    removed += connection.prepare_cached(RETIRED)?.execute(params![Column(dead_since), room])? as u64;
    removed += changes::trim(connection, batch - removed)?;
    Ok(removed)
}

const OLDEST_BUMP: &str = "SELECT number, what, target, epoch, up_to FROM bumps WHERE at <= ?1 ORDER BY at LIMIT 1";

const DONE: &str = "DELETE FROM bumps WHERE number = ?1";

/// Tokens that a bumped epoch or a burial ended. Practically every token that a bump looks at is one that it ended,
/// because later ones have greater numbers.
fn outlived(connection: &Connection, dead_since: Timestamp, room: u64) -> Result<u64, Fault> {
    let mut removed = 0;
    while removed < room {
        let oldest = connection
            .prepare_cached(OLDEST_BUMP)?
            .query_row([Column(dead_since)], |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    ended_by(row.get_ref(1)?.as_bytes()?)?,
                    row.get::<_, i64>(2)?,
                    get::<Epoch>(row, 3)?,
                    row.get::<_, i64>(4)?,
                ))
            })
            .optional()?;
        let Some((number, sql, target, epoch, up_to)) = oldest else { break };
        let left = room - removed;
        let gone = connection.prepare_cached(sql)?.execute(params![target, Column(epoch), up_to, signed(left)])? as u64;
        removed += gone;
        if gone < left {
            connection.prepare_cached(DONE)?.execute([number])?;
        }
    }
    Ok(removed)
}

const BY_SUBJECT_EPOCH: &str = "
    DELETE FROM tokens WHERE number IN (
        SELECT number FROM tokens
        WHERE subject = ?1 AND kind = 'login' AND subject_epoch < ?2 AND number <= ?3 LIMIT ?4
    )";

const BY_KEY_EPOCH: &str = "
    DELETE FROM tokens WHERE number IN (
        SELECT number FROM tokens
        WHERE subject = ?1 AND kind = 'key' AND subject_epoch < ?2 AND number <= ?3 LIMIT ?4
    )";

const BY_CLIENT_EPOCH: &str = "
    DELETE FROM tokens WHERE number IN (
        SELECT number FROM tokens INDEXED BY tokens_by_client
        WHERE client = ?1 AND client_epoch < ?2 AND number <= ?3 ORDER BY number LIMIT ?4
    )";

const BY_DEPLOYMENT_EPOCH: &str = "
    DELETE FROM tokens WHERE number IN (
        SELECT number FROM tokens WHERE ?1 = 0 AND deployment_epoch < ?2 AND number <= ?3 ORDER BY number LIMIT ?4
    )";

const BY_BURIAL: &str = "
    DELETE FROM tokens WHERE number IN (
        SELECT number FROM tokens WHERE subject = ?1 AND ?2 = 0 AND number <= ?3 LIMIT ?4
    )";

fn ended_by(what: &[u8]) -> rusqlite::Result<&'static str> {
    match what {
        b"login" => Ok(BY_SUBJECT_EPOCH),
        b"key" => Ok(BY_KEY_EPOCH),
        b"client" => Ok(BY_CLIENT_EPOCH),
        b"deployment" => Ok(BY_DEPLOYMENT_EPOCH),
        b"buried" => Ok(BY_BURIAL),
        _ => {
            Err(rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, "not a kind of bump".into()))
        }
    }
}
