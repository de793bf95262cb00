//! The change log.

use counterfoil_core::Timestamp;
use counterfoil_core::secret::TokenDigest;
use counterfoil_core::store::{CHANGES_KEPT, Change, Changed, Changes};
use rusqlite::types::{Type, ValueRef};
use rusqlite::{Connection, Row, params};

use super::column::{Column, get, signed};
use super::fault::Fault;
use super::readers::Reader;

// One more than the greatest in the same transaction: writers come one after the other, so commits have the order of
// their numbers and no number is left out. SQLite's own generator draws the tag, which must differ and guards nothing.
const APPEND: &str = "
    INSERT INTO log (n, tag, at, kind, digests, subject, client)
    SELECT coalesce(max(n), 0) + 1, random(), ?1, ?2, ?3, ?4, ?5 FROM log";

/// Notes a change; the last thing that a transition does.
pub(super) fn log(connection: &Connection, what: &Changed, now: Timestamp) -> Result<(), Fault> {
    let (kind, digests, subject, client) = match what {
        Changed::Tokens(digests) => {
            ("tokens", Some(digests.iter().flat_map(TokenDigest::as_bytes).copied().collect::<Vec<u8>>()), None, None)
        }
        Changed::Subject(subject) => ("subject", None, Some(Column(subject)), None),
        Changed::Client(client) => ("client", None, None, Some(Column(*client))),
        Changed::Everything => ("everything", None, None, None),
    };
    connection.prepare_cached(APPEND)?.execute(params![Column(now), kind, digests, subject, client])?;
    Ok(())
}

const HEAD: &str = "SELECT d.incarnation, (SELECT coalesce(max(n), 0) FROM log) FROM deployment AS d";

const AFTER: &str = "
    SELECT n, tag, at, kind, digests, subject, client FROM log WHERE n > ?1 ORDER BY n LIMIT ?2";

/// See [`counterfoil_core::TokenStore::changes`].
pub(super) fn changes(reader: &Reader, &(after, limit): &(u64, u32)) -> Result<Changes, Fault> {
    let snapshot = reader.connection.unchecked_transaction()?;
    let (incarnation, head) = snapshot.prepare_cached(HEAD)?.query_row([], |row| Ok((get(row, 0)?, get(row, 1)?)))?;
    let rows = snapshot
        .prepare_cached(AFTER)?
        .query_map(params![signed(after), limit], change)?
        .collect::<rusqlite::Result<Vec<Change>>>()?;
    Ok(Changes { incarnation, head, rows, clock: None })
}

fn change(row: &Row<'_>) -> rusqlite::Result<Change> {
    let kind = row.get_ref(3)?;
    let what = match kind.as_bytes() {
        Ok(b"tokens") => Changed::Tokens(digests(row.get_ref(4)?)?),
        Ok(b"subject") => Changed::Subject(get(row, 5)?),
        Ok(b"client") => Changed::Client(get(row, 6)?),
        Ok(b"everything") => Changed::Everything,
        Ok(_) | Err(_) => {
            return Err(rusqlite::Error::FromSqlConversionFailure(3, kind.data_type(), "not a kind of change".into()));
        }
    };
    let tag: i64 = row.get(1)?;
    Ok(Change { number: get(row, 0)?, tag: tag.cast_unsigned(), at: get(row, 2)?, what })
}

fn digests(value: ValueRef<'_>) -> rusqlite::Result<Vec<TokenDigest>> {
    let unreadable = || rusqlite::Error::FromSqlConversionFailure(4, Type::Blob, "not a list of digests".into());
    let (whole, rest) = value.as_blob().map_err(|_| unreadable())?.as_chunks::<32>();
    if rest.is_empty() { Ok(whole.iter().copied().map(TokenDigest::from_bytes).collect()) } else { Err(unreadable()) }
}

const TRIM: &str = "
    DELETE FROM log WHERE n IN (
        SELECT n FROM log WHERE n <= (SELECT max(n) FROM log) - ?1 ORDER BY n LIMIT ?2
    )";

/// Removes at most `room` of the changes that are older than the newest that must stay.
pub(super) fn trim(connection: &Connection, room: u64) -> Result<u64, Fault> {
    let removed = connection.prepare_cached(TRIM)?.execute(params![signed(CHANGES_KEPT), signed(room)])?;
    Ok(removed as u64)
}
