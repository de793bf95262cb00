//! The audit log.

use std::borrow::Cow;

use counterfoil_core::audit::Entry;
use counterfoil_core::store::{AuditQuery, NumberedEntry};
use counterfoil_core::token::Source;
use counterfoil_core::{Actor, Timestamp};
use rusqlite::{Connection, Row, params};

use super::column::{Column, get, get_if_any, if_any, signed};
use super::fault::Fault;
use super::readers::Reader;

const ADD: &str = "
    INSERT INTO audit (
        at, event, actor, actor_subject, actor_token, subject, client, token, kind, username, detail, ip, agent, times
    ) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";

/// See [`counterfoil_core::AuditStore::append`].
pub(super) fn append(connection: &Connection, entries: &[Entry]) -> Result<(), Fault> {
    let mut add = connection.prepare_cached(ADD)?;
    for entry in entries {
        let (actor_subject, actor_token) = match &entry.actor {
            Actor::Holder { subject, token } => (Some(subject), Some(*token)),
            Actor::Stranger | Actor::Operator | Actor::Deployment => (None, None),
        };
        add.execute(params![
            Column(entry.at),
            entry.event,
            entry.actor.as_str(),
            if_any(actor_subject),
            if_any(actor_token),
            if_any(entry.subject.as_ref()),
            if_any(entry.client.as_ref()),
            if_any(entry.token),
            if_any(entry.kind),
            entry.username,
            entry.detail,
            if_any(entry.source.ip),
            if_any(entry.source.user_agent.as_ref()),
            entry.times,
        ])?;
    }
    Ok(())
}

/// Read by [`numbered`]; the conditions follow.
const SELECT: &str = "
    SELECT number, at, event, actor, actor_subject, actor_token, subject, client, token, kind, username, detail,
           ip, agent, times
    FROM audit";

fn numbered(row: &Row<'_>) -> rusqlite::Result<NumberedEntry> {
    let entry = Entry {
        at: get(row, 1)?,
        event: Cow::Owned(row.get(2)?),
        actor: actor(row)?,
        subject: get_if_any(row, 6)?,
        client: get_if_any(row, 7)?,
        token: get_if_any(row, 8)?,
        kind: get_if_any(row, 9)?,
        username: row.get(10)?,
        detail: row.get(11)?,
        source: Source { ip: get_if_any(row, 12)?, user_agent: get_if_any(row, 13)? },
        times: row.get(14)?,
    };
    Ok(NumberedEntry { number: get(row, 0)?, entry })
}

fn actor(row: &Row<'_>) -> rusqlite::Result<Actor> {
    let word = row.get_ref(3)?;
    match word.as_bytes() {
        Ok(b"stranger") => Ok(Actor::Stranger),
        Ok(b"holder") => Ok(Actor::Holder { subject: get(row, 4)?, token: get(row, 5)? }),
        Ok(b"operator") => Ok(Actor::Operator),
        Ok(b"deployment") => Ok(Actor::Deployment),
        Ok(_) | Err(_) => {
            Err(rusqlite::Error::FromSqlConversionFailure(3, word.data_type(), "not a kind of actor".into()))
        }
    }
}

/// See [`counterfoil_core::AuditStore::entries`].
pub(super) fn entries(reader: &Reader, query: &AuditQuery) -> Result<Vec<NumberedEntry>, Fault> {
    let mut statement = reader.connection.prepare_cached(&listing(query))?;
    let page = statement.query_map(
        params![
            query.before.map_or(i64::MAX, signed),
            query.event,
            if_any(query.subject.as_ref()),
            if_any(query.by.as_ref()),
            if_any(query.client.as_ref()),
            if_any(query.token),
            if_any(query.ip),
            if_any(query.since),
            if_any(query.until),
            query.limit,
        ],
        numbered,
    )?;
    Ok(page.collect::<Result<_, _>>()?)
}

/// The statement for a page. Each index that may serve it holds the entries in the order of their numbers, so that a page
/// reads no further than its end, and of what is not asked for by a token, a subject or an event no more than lies in
/// between: a page of a client, an address or a time that is rare or long ago may read the whole log, once.
pub(super) fn listing(query: &AuditQuery) -> String {
    let rest = "number < ?1 AND (?2 IS NULL OR event = ?2) AND (?3 IS NULL OR subject = ?3)
         AND (?4 IS NULL OR actor_subject = ?4) AND (?5 IS NULL OR client = ?5)
         AND (?7 IS NULL OR ip = ?7) AND (?8 IS NULL OR at >= ?8) AND (?9 IS NULL OR at < ?9)";
    let among = if query.token.is_some() {
        // What concerns it, and what else was done with it: two indexes, read side by side.
        return format!(
            "{SELECT} INDEXED BY audit_by_token WHERE token = ?6 AND {rest}
             UNION ALL
             {SELECT} INDEXED BY audit_by_actor_token
             WHERE actor_token = ?6 AND actor_token IS NOT NULL AND token IS NOT actor_token AND {rest}
             ORDER BY number DESC LIMIT ?10"
        );
    } else if query.subject.is_some() {
        "INDEXED BY audit_by_subject WHERE subject = ?3"
    } else if query.by.is_some() {
        "INDEXED BY audit_by_actor WHERE actor_subject = ?4"
    } else if query.event.is_some() {
        "INDEXED BY audit_by_event WHERE event = ?2"
    } else {
        "WHERE 1"
    };
    format!("{SELECT} {among} AND ?6 IS NULL AND {rest} ORDER BY number DESC LIMIT ?10")
}

pub(super) const REMOVE: &str = "
    DELETE FROM audit WHERE number IN (
        SELECT number FROM audit INDEXED BY audit_by_time WHERE at < ?1 ORDER BY at LIMIT ?2
    )";

// An index that holds only what is still to be forgotten: what was, is not read again.
pub(super) const FORGET_WHERE_FROM: &str = "
    UPDATE audit SET ip = NULL, agent = NULL WHERE number IN (
        SELECT number FROM audit INDEXED BY audit_telling_where_from
        WHERE at < ?1 AND (ip IS NOT NULL OR agent IS NOT NULL) ORDER BY at LIMIT ?2
    )";

/// See [`counterfoil_core::AuditStore::forget`]. The oldest first.
pub(super) fn forget(
    connection: &Connection,
    removed_before: Timestamp,
    anonymous_before: Timestamp,
    batch: u32,
) -> Result<u64, Fault> {
    let removed = connection.prepare_cached(REMOVE)?.execute(params![Column(removed_before), batch])?;
    let forgotten = connection.prepare_cached(FORGET_WHERE_FROM)?.execute(params![Column(anonymous_before), batch])?;
    Ok((removed + forgotten) as u64)
}
