//! The audit log.

use std::borrow::Cow;
use std::sync::Arc;

use counterfoil_core::audit::Entry;
use counterfoil_core::store::{Answer, AuditQuery, NumberedEntry};
use counterfoil_core::token::Source;
use counterfoil_core::{Actor, AuditStore, Timestamp};
use tokio_postgres::Row;

use super::PostgresStore;
use super::column::{Value, get, get_if_any, if_any, printable, value};
use super::fault::Fault;
use super::session::{Session, Step};
use super::transaction::Transaction;

// Held until the commit, so that numbers have the order of commits: a sequence alone would let an entry appear behind one that has
// been read. Nodes write what they have gathered every half second, so few wait here. The number is ours alone: the first eight
// bytes of a digest of "counterfoil audit".
const LOCK: &str = "SELECT pg_advisory_xact_lock(-7715165373561158156)";

const ADD: &str = "
    INSERT INTO audit (
        at, event, actor, actor_subject, actor_token, subject, client, token, kind, username, detail, ip, agent, times
    ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";

async fn append(transaction: Transaction, entries: Arc<Vec<Entry>>) -> Result<(), Fault> {
    let rows: Vec<_> = entries.iter().map(columns).collect();
    let mut steps: Vec<Step<'_>> = vec![(LOCK, &[])];
    steps.extend(rows.iter().map(|values| (ADD, values.as_slice())));
    transaction.fly(&steps).await.map(drop).map_err(|(_, fault)| fault)
}

fn columns(entry: &Entry) -> [Value<'_>; 14] {
    let (actor_subject, actor_token) = match &entry.actor {
        Actor::Holder { subject, token } => (Some(subject), Some(*token)),
        Actor::Stranger | Actor::Operator | Actor::Deployment => (None, None),
    };
    [
        value(entry.at),
        value(&*entry.event),
        value(entry.actor.as_str()),
        if_any(actor_subject),
        if_any(actor_token),
        if_any(entry.subject.as_ref()),
        if_any(entry.client.as_ref()),
        if_any(entry.token),
        if_any(entry.kind),
        // A stranger's words.
        if_any(entry.username.as_deref().map(printable)),
        if_any(entry.detail.as_deref().map(printable)),
        if_any(entry.source.ip),
        if_any(entry.source.user_agent.as_ref()),
        value(entry.times),
    ]
}

/// Read by [`numbered`]; the conditions follow.
const SELECT: &str = "
    SELECT number, at, event, actor, actor_subject, actor_token, subject, client, token, kind, username, detail,
           ip, agent, times
    FROM audit";

fn numbered(row: &Row) -> Result<NumberedEntry, Fault> {
    let entry = Entry {
        at: get(row, 1)?,
        event: Cow::Owned(get(row, 2)?),
        actor: actor(row)?,
        subject: get_if_any(row, 6)?,
        client: get_if_any(row, 7)?,
        token: get_if_any(row, 8)?,
        kind: get_if_any(row, 9)?,
        username: get_if_any(row, 10)?,
        detail: get_if_any(row, 11)?,
        source: Source { ip: get_if_any(row, 12)?, user_agent: get_if_any(row, 13)? },
        times: get(row, 14)?,
    };
    Ok(NumberedEntry { number: get(row, 0)?, entry })
}

fn actor(row: &Row) -> Result<Actor, Fault> {
    match row.try_get(3)? {
        "stranger" => Ok(Actor::Stranger),
        "holder" => Ok(Actor::Holder { subject: get(row, 4)?, token: get(row, 5)? }),
        "operator" => Ok(Actor::Operator),
        "deployment" => Ok(Actor::Deployment),
        _ => Err(Fault::Unreadable("not a kind of actor")),
    }
}

async fn entries(session: Arc<Session>, query: Arc<AuditQuery>) -> Result<Vec<NumberedEntry>, Fault> {
    let (sql, values) = listing(&query);
    session.query(&sql, &values).await?.iter().map(numbered).collect()
}

/// The statement for a page. It says only what is asked for: each index that may serve it holds the entries in the order of their
/// numbers, so that a page reads no further than its end, and of what is not asked for by a token, a subject or an event no more
/// than lies in between.
fn listing(query: &AuditQuery) -> (String, Vec<Value<'_>>) {
    let mut values = Vec::new();
    let mut rest = String::new();
    let wanted = [
        ("number <", query.before.map(value)),
        ("event =", query.event.as_deref().map(printable).map(value)),
        ("subject =", query.subject.as_ref().map(value)),
        ("actor_subject =", query.by.as_ref().map(value)),
        ("client =", query.client.as_ref().map(value)),
        ("ip =", query.ip.map(value)),
        ("at >=", query.since.map(value)),
        ("at <", query.until.map(value)),
    ];
    for (condition, wanted) in wanted {
        if let Some(wanted) = wanted {
            values.push(wanted);
            rest.push_str(&format!(" AND {condition} ${}", values.len()));
        }
    }
    values.push(value(query.limit));
    let limit = values.len();
    let Some(token) = query.token else {
        return (format!("{SELECT} WHERE true{rest} ORDER BY number DESC LIMIT ${limit}"), values);
    };
    values.push(value(token));
    let token = values.len();
    // What concerns it, and what else was done with it: two indexes, read side by side.
    let sql = format!(
        "({SELECT} WHERE token = ${token}{rest} ORDER BY number DESC LIMIT ${limit})
         UNION ALL
         ({SELECT} WHERE actor_token = ${token} AND token IS DISTINCT FROM actor_token{rest} ORDER BY number DESC LIMIT ${limit})
         ORDER BY number DESC LIMIT ${limit}"
    );
    (sql, values)
}

// The oldest first. What another node is at is passed over.
const REMOVE: &str = "
    DELETE FROM audit WHERE number IN (
        SELECT number FROM audit WHERE at < $1 ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED
    ) RETURNING 1";

// From an index that holds only what is still to be forgotten: what was, is not read again.
const FORGET_WHERE_FROM: &str = "
    UPDATE audit SET ip = NULL, agent = NULL WHERE number IN (
        SELECT number FROM audit WHERE at < $1 AND (ip IS NOT NULL OR agent IS NOT NULL)
        ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED
    ) RETURNING 1";

async fn forget(transaction: Transaction, wanted: Arc<(Timestamp, Timestamp, u32)>) -> Result<u64, Fault> {
    let (removed_before, anonymous_before, batch) = *wanted;
    let (remove, forget) = ([value(removed_before), value(batch)], [value(anonymous_before), value(batch)]);
    let [removed, forgotten] = transaction.flight([(REMOVE, &remove), (FORGET_WHERE_FROM, &forget)]).await?;
    Ok((removed.len() + forgotten.len()) as u64)
}

impl AuditStore for PostgresStore {
    fn append<'a>(&'a self, entries: &'a [Entry]) -> Answer<'a, ()> {
        self.transact("writing into the audit log", entries.to_vec(), append)
    }

    fn entries<'a>(&'a self, query: &'a AuditQuery) -> Answer<'a, Vec<NumberedEntry>> {
        self.read("reading the audit log", query.clone(), entries)
    }

    fn forget(&self, removed_before: Timestamp, anonymous_before: Timestamp, batch: u32) -> Answer<'_, u64> {
        let wanted = (removed_before, anonymous_before, batch);
        self.transact("forgetting old entries of the audit log", wanted, forget)
    }
}
