//! Secrets that are kept sealed, for sealing them anew.

use counterfoil_core::Timestamp;
use counterfoil_core::seal::Sealed;
use counterfoil_core::store::SealedSecret;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::column::{Column, get, signed};
use super::fault::Fault;
use super::readers::Reader;

// In order of numbers, hence by no index: after a new key was put on the ring, this reads every token once, on a reading thread.
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

const NEXT_KEY: &str = "SELECT min(sealed_key) FROM tokens WHERE sealed IS NOT NULL AND sealed_key > ?1";

// The newest first: it is the likeliest to be live.
const SAMPLE: &str = "
    SELECT t.number, t.id, s.name, c.id, t.digest, t.sealed_key, t.sealed
    FROM tokens AS t CROSS JOIN subjects AS s CROSS JOIN clients AS c CROSS JOIN deployment AS d
    WHERE t.sealed IS NOT NULL AND t.sealed_key = ?1
        AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > ?2)
        AND s.key = t.subject AND t.subject_epoch >= CASE t.kind WHEN 'login' THEN s.epoch ELSE s.key_epoch END
        AND c.key = t.client AND c.deleted = 0 AND t.client_epoch >= c.epoch
        AND d.one = 1 AND t.deployment_epoch >= d.epoch
    ORDER BY t.number DESC LIMIT 1";

/// See [`counterfoil_core::TokenStore::sealed_samples`]. A few seeks for each key, and a row for each token that died last
/// and is not purged.
pub(super) fn sealed_samples(reader: &Reader, now: Timestamp) -> Result<Vec<SealedSecret>, Fault> {
    let mut next_key = reader.connection.prepare_cached(NEXT_KEY)?;
    let mut sample = reader.connection.prepare_cached(SAMPLE)?;
    let (mut samples, mut after) = (Vec::new(), -1_i64);
    while let Some(key_id) = next_key.query_row([after], |row| row.get::<_, Option<i64>>(0))? {
        samples.extend(sample.query_row(params![key_id, Column(now)], secret).optional()?);
        after = key_id;
    }
    Ok(samples)
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
