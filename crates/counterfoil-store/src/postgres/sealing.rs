//! Secrets that are kept sealed, for sealing them anew.

use std::sync::Arc;

use counterfoil_core::Timestamp;
use counterfoil_core::seal::Sealed;
use counterfoil_core::store::SealedSecret;
use tokio_postgres::Row;

use super::column::{get, value};
use super::fault::Fault;
use super::session::Session;
use super::transaction::Transaction;

// In order of numbers: after a new key was put on the ring, this reads every token once, a page at a time.
const SEALED_OTHERWISE: &str = "
    SELECT t.number, t.id, s.name, c.id, t.digest, t.sealed_key, t.sealed
    FROM tokens AS t CROSS JOIN subjects AS s CROSS JOIN clients AS c
    WHERE t.number > $2 AND t.sealed_key <> $1 AND t.sealed IS NOT NULL
        AND s.key = t.subject AND c.key = t.client AND NOT c.deleted
    ORDER BY t.number LIMIT $3";

/// See [`counterfoil_core::TokenStore::sealed_otherwise`].
pub(super) async fn sealed_otherwise(
    session: Arc<Session>,
    wanted: Arc<(u32, u64, u32)>,
) -> Result<Vec<SealedSecret>, Fault> {
    let (key_id, after, limit) = *wanted;
    let page = session.query(SEALED_OTHERWISE, &[value(key_id), value(after), value(limit)]).await?;
    page.iter().map(secret).collect()
}

const NEXT_KEY: &str = "SELECT min(sealed_key) FROM tokens WHERE sealed IS NOT NULL AND sealed_key > $1";

// The newest first: it is the likeliest to be live.
const SAMPLE: &str = "
    SELECT t.number, t.id, s.name, c.id, t.digest, t.sealed_key, t.sealed
    FROM tokens AS t CROSS JOIN subjects AS s CROSS JOIN clients AS c CROSS JOIN deployment AS d
    WHERE t.sealed IS NOT NULL AND t.sealed_key = $1
        AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > $2)
        AND s.key = t.subject AND t.subject_epoch >= CASE t.kind WHEN 'login' THEN s.epoch ELSE s.key_epoch END
        AND c.key = t.client AND NOT c.deleted AND t.client_epoch >= c.epoch
        AND d.one AND t.deployment_epoch >= d.epoch
    ORDER BY t.number DESC LIMIT 1";

/// See [`counterfoil_core::TokenStore::sealed_samples`].
pub(super) async fn sealed_samples(session: Arc<Session>, now: Arc<Timestamp>) -> Result<Vec<SealedSecret>, Fault> {
    let (mut samples, mut after) = (Vec::new(), -1_i64);
    loop {
        let next = session.query_one(NEXT_KEY, &[value(after)]).await?;
        let Some(key_id) = next.try_get::<_, Option<i64>>(0)? else { return Ok(samples) };
        let sample = session.query_opt(SAMPLE, &[value(key_id), value(*now)]).await?;
        samples.extend(sample.map(|row| secret(&row)).transpose()?);
        after = key_id;
    }
}

fn secret(row: &Row) -> Result<SealedSecret, Fault> {
    Ok(SealedSecret {
        number: get(row, 0)?,
        token: get(row, 1)?,
        subject: get(row, 2)?,
        client: get(row, 3)?,
        digest: get(row, 4)?,
        sealed: Sealed { key_id: get(row, 5)?, bytes: get(row, 6)? },
    })
}

// The digest too: a rotation in between left another secret, which the new seal does not hold.
const RESEAL: &str = "
    UPDATE tokens SET sealed = $5, sealed_key = $6
    WHERE id = $1 AND digest = $2 AND sealed = $3 AND sealed_key = $4
        AND NOT (SELECT deleted FROM clients WHERE key = tokens.client)";

/// See [`counterfoil_core::TokenStore::reseal`].
pub(super) async fn reseal(transaction: Transaction, wanted: Arc<(SealedSecret, Sealed)>) -> Result<bool, Fault> {
    let (was, sealed) = &*wanted;
    let values = [
        value(was.token),
        value(&was.digest),
        value(was.sealed.bytes.as_slice()),
        value(was.sealed.key_id),
        value(sealed.bytes.as_slice()),
        value(sealed.key_id),
    ];
    Ok(transaction.execute(RESEAL, &values).await? == 1)
}
