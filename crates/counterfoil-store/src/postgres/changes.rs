//! The change log.

use std::borrow::Cow;

use counterfoil_core::Timestamp;
use counterfoil_core::secret::TokenDigest;
use counterfoil_core::store::{Change, Changed, Changes};
use tokio_postgres::Row;

use super::column::{Value, get, get_if_any, value};
use super::fault::Fault;
use super::session::Session;

/// The channel on which nodes are told that there is something new.
pub(super) const CHANNEL: &str = "counterfoil_log";

// The number is ours alone: the first eight bytes of a digest of "counterfoil log". It is held until the commit, so that
// commits have the order of their numbers. The word goes out with the commit.
pub(super) const LOCK: &str = "SELECT pg_advisory_xact_lock(7572257267272029987), pg_notify('counterfoil_log', '')";

// One more than the greatest, as it is once the lock is held: in READ COMMITTED each statement sees what was committed before it.
// A random uuid has 60 random bits in its first 16 digits.
pub(super) const APPEND: &str = "
    INSERT INTO log (n, tag, at, kind, digests, subject, client)
    SELECT newest.n + new.place,
           CAST(CAST('x' || left(replace(CAST(gen_random_uuid() AS text), '-', ''), 16) AS bit(64)) AS bigint),
           new.at, new.kind, new.digests, new.subject, new.client
    FROM (SELECT coalesce(max(n), 0) AS n FROM log) AS newest
    CROSS JOIN unnest($1, $2, $3, $4, $5) WITH ORDINALITY AS new (at, kind, digests, subject, client, place)";

/// What [`APPEND`] takes for these changes, in their order.
pub(super) fn entries(changes: &[(Changed, Timestamp)]) -> [Value<'_>; 5] {
    let of = |pick: fn(&Changed) -> &'static str| changes.iter().map(|(what, _)| Some(pick(what).into())).collect();
    [
        Value::Integers(changes.iter().map(|(_, at)| at.millis()).collect()),
        Value::Texts(of(kind)),
        Value::ByteStrings(changes.iter().map(|(what, _)| joined(what)).collect()),
        Value::Texts(changes.iter().map(|(what, _)| subject(what)).collect()),
        Value::Ids(changes.iter().map(|(what, _)| client(what)).collect()),
    ]
}

fn kind(what: &Changed) -> &'static str {
    match what {
        Changed::Tokens(_) => "tokens",
        Changed::Subject(_) => "subject",
        Changed::Client(_) => "client",
        Changed::Everything => "everything",
    }
}

fn joined(what: &Changed) -> Option<Cow<'_, [u8]>> {
    match what {
        Changed::Tokens(digests) => {
            Some(Cow::Owned(digests.iter().flat_map(TokenDigest::as_bytes).copied().collect::<Vec<u8>>()))
        }
        Changed::Subject(_) | Changed::Client(_) | Changed::Everything => None,
    }
}

fn subject(what: &Changed) -> Option<Cow<'_, str>> {
    match what {
        Changed::Subject(subject) => Some(subject.as_str().into()),
        Changed::Tokens(_) | Changed::Client(_) | Changed::Everything => None,
    }
}

fn client(what: &Changed) -> Option<[u8; 16]> {
    match what {
        Changed::Client(client) => Some(*client.as_bytes()),
        Changed::Tokens(_) | Changed::Subject(_) | Changed::Everything => None,
    }
}

/// Whether the server may not know what was committed, or lets nobody commit: a standby, a primary that was made one, one that was
/// fenced off. Nothing it says may make a yes.
pub(super) const READ_ONLY: &str = "(pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on')";

// Each promotion begins another. What a failover lost need not be in the log: a token that was issued and is gone is asked for
// again only because the store is another one from then on.
const TIMELINE: &str =
    "decode(CASE WHEN pg_is_in_recovery() THEN '' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END, 'hex')";

/// One statement, hence one snapshot. A row at least, for what stands ahead of the log.
pub(super) fn reading() -> String {
    format!(
        "SELECT {READ_ONLY},
                substring(sha256(
                    uuid_send(d.incarnation) || int8send(c.system_identifier) || {TIMELINE}
                ) FROM 1 FOR 16),
                CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint),
                (SELECT coalesce(max(n), 0) FROM log),
                l.n, l.tag, l.at, l.kind, l.digests, l.subject, l.client
         FROM deployment AS d CROSS JOIN pg_control_system() AS c
         LEFT JOIN (
            SELECT n, tag, at, kind, digests, subject, client FROM log WHERE n > $1 ORDER BY n LIMIT $2
         ) AS l ON true
         WHERE d.one
         ORDER BY l.n"
    )
}

/// See [`counterfoil_core::TokenStore::changes`].
pub(super) async fn changes(session: &Session, after: u64, limit: u32) -> Result<Changes, Fault> {
    static READING: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let rows = session.query(READING.get_or_init(reading), &[value(after), value(limit)]).await?;
    let first = rows.first().ok_or(Fault::Miscounted)?;
    if get(first, 0)? {
        return Err(Fault::ReadOnly);
    }
    let mut changes = Changes {
        incarnation: get(first, 1)?,
        clock: Some(get(first, 2)?),
        head: get(first, 3)?,
        rows: Vec::with_capacity(rows.len()),
    };
    for row in &rows {
        if let Some(number) = get_if_any(row, 4)? {
            changes.rows.push(change(row, number)?);
        }
    }
    Ok(changes)
}

fn change(row: &Row, number: u64) -> Result<Change, Fault> {
    let what = match row.try_get(7)? {
        "tokens" => Changed::Tokens(digests(row.try_get(8)?)?),
        "subject" => Changed::Subject(get(row, 9)?),
        "client" => Changed::Client(get(row, 10)?),
        "everything" => Changed::Everything,
        _ => return Err(Fault::Unreadable("not a kind of change")),
    };
    let tag: i64 = get(row, 5)?;
    Ok(Change { number, tag: tag.cast_unsigned(), at: get(row, 6)?, what })
}

fn digests(bytes: &[u8]) -> Result<Vec<TokenDigest>, Fault> {
    let (whole, rest) = bytes.as_chunks::<32>();
    if !rest.is_empty() {
        return Err(Fault::Unreadable("not a list of digests"));
    }
    Ok(whole.iter().copied().map(TokenDigest::from_bytes).collect())
}
