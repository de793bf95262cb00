//! Secrets that are kept sealed, for sealing them anew.

use counterfoil_core::seal::Sealed;
use counterfoil_core::store::SealedSecret;
use rusqlite::{Connection, Row, params};

use super::column::{Column, get, signed};
use super::fault::Fault;
use super::readers::Reader;

// No index: after a new key was put on the ring, this reads every token once, on a reading thread.
const SEALED_OTHERWISE: &str = "
    SELECT t.number, t.id, s.name, c.id, t.digest, t.sealed_key, t.sealed
    FROM tokens AS t CROSS JOIN subjects AS s CROSS JOIN clients AS c
    WHERE t.number > ?2 AND t.sealed_key <> ?1 AND s.key = t.subject AND c.key = t.client AND c.deleted = 0
    ORDER BY t.number LIMIT ?3";

/// See [`counterfoil_core::TokenStore::sealed_otherwise`].
pub(super) fn sealed_otherwise(
    reader: &Reader,
    key_id: u32,
    after: u64,
    limit: u32,
) -> Result<Vec<SealedSecret>, Fault> {
    let mut statement = reader.connection.prepare_cached(SEALED_OTHERWISE)?;
    let page = statement.query_map(params![key_id, signed(after), limit], secret)?;
    Ok(page.collect::<Result<_, _>>()?)
}

fn secret(row: &Row<'_>) -> rusqlite::Result<SealedSecret> {
    Ok(SealedSecret {
        number: get(row, 0)?,
        token: get(row, 1)?,
        subject: get(row, 2)?,
        client: get(row, 3)?,
        digest: get(row, 4)?,
        sealed: Sealed { key_id: row.get(5)?, bytes: row.get(6)? },
    })
}

// The digest too: a rotation in between left another secret, which the new seal does not hold.
const RESEAL: &str = "
    UPDATE tokens SET sealed = ?5, sealed_key = ?6
    WHERE id = ?1 AND digest = ?2 AND sealed = ?3 AND sealed_key = ?4
        AND (SELECT deleted FROM clients WHERE key = tokens.client) = 0";

/// See [`counterfoil_core::TokenStore::reseal`].
pub(super) fn reseal(connection: &Connection, was: &SealedSecret, sealed: &Sealed) -> Result<bool, Fault> {
    let resealed = connection.prepare_cached(RESEAL)?.execute(params![
        Column(was.token),
        Column(&was.digest),
        was.sealed.bytes,
        was.sealed.key_id,
        sealed.bytes,
        sealed.key_id,
    ])?;
    Ok(resealed == 1)
}
