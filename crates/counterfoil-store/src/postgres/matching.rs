//! Tokens by what they have in common: counting and revoking those of a [`TokenFilter`].
//!
//! Looking for them may mean reading every token there is (no index holds when and where they were used), so it is done in
//! stretches, each a statement of its own; the transition is handed the numbers of one batch and judges those again. A
//! filter that names a subject or a client reads theirs alone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use counterfoil_core::store::{Changed, TokenFilter};
use counterfoil_core::token::{Kind, Standing, standing};
use counterfoil_core::{Epochs, Timestamp};
use tokio_postgres::Row;

use super::column::{Value, get, get_if_any, if_any, signed, value};
use super::fault::Fault;
use super::session::Session;
use super::tokens::end;
use super::transaction::Transaction;

/// Rows that are looked at by one statement: well under what it may take.
const STRETCH: u64 = 20_000;

/// Rows of one stretch that are meant.
pub(super) struct Stretch {
    /// The columns begin behind [`AHEAD`].
    pub(super) rows: Vec<Row>,
    /// How far it came, if there may be more behind.
    pub(super) reached: Option<u64>,
}

/// Columns ahead of those that a listing was asked for: how far the stretch goes and how many rows it has.
pub(super) const AHEAD: usize = 2;

/// What it takes to judge a token.
const STANDING: &str = "
    SELECT t.number, t.kind, t.expires_at, t.revoked_at, t.subject_epoch, t.client_epoch, t.deployment_epoch,
           s.epoch, s.key_epoch, c.epoch, d.epoch
    FROM tokens AS t CROSS JOIN subjects AS s CROSS JOIN clients AS c CROSS JOIN deployment AS d
    LEFT JOIN last_seen AS l ON l.token = t.number
    WHERE s.key = t.subject AND c.key = t.client AND NOT c.deleted AND d.one";

/// What the filter means beyond the index that its rows are found in.
const MEANT: &str = "($2 IS NULL OR s.name = $2) AND ($3 IS NULL OR c.name = $3) AND ($4 IS NULL OR t.kind = $4)
    AND ($5 IS NULL OR t.issued_at < $5) AND ($6 IS NULL OR coalesce(l.at, t.issued_at) < $6)
    AND ($7 IS NULL OR t.first_ip = $7 OR l.ip = $7)";

/// The statement for a stretch of what `columns` says. Each index that may serve it holds the rows in the order of their
/// numbers, so that it reads no further than its end.
pub(super) fn listing(filter: &TokenFilter, live_at: Option<Timestamp>, columns: &str) -> String {
    // The narrowest index that the question allows; what is left is judged row by row, by the one rule there is. What its
    // subject's epoch has outlived is passed over in the index.
    let among = match (&filter.subject, &filter.client) {
        (Some(_), _) => match (filter.kind, live_at) {
            (Some(Kind::Login), Some(_)) => {
                "AND t.subject = (SELECT key FROM subjects WHERE name = $2) AND t.kind = 'login'
                 AND t.subject_epoch = (SELECT epoch FROM subjects WHERE name = $2)"
            }
            (Some(Kind::Key), Some(_)) => {
                "AND t.subject = (SELECT key FROM subjects WHERE name = $2) AND t.kind = 'key'
                 AND t.subject_epoch = (SELECT key_epoch FROM subjects WHERE name = $2)"
            }
            (None, _) | (_, None) => "AND t.subject = (SELECT key FROM subjects WHERE name = $2)",
        },
        (None, Some(_)) => "AND t.client = (SELECT key FROM clients WHERE name = $3 AND NOT deleted)",
        (None, None) => "",
    };
    let unrevoked = if live_at.is_some() { "AND t.revoked_at IS NULL" } else { "" };
    format!(
        "WITH stretch AS MATERIALIZED (
            SELECT t.number FROM tokens AS t WHERE t.number > $1 {among} {unrevoked} ORDER BY t.number LIMIT $8
        )
        SELECT span.reached, span.looked_at, meant.*
        FROM (SELECT max(number) AS reached, count(*) AS looked_at FROM stretch) AS span
        LEFT JOIN ({columns} AND t.number IN (SELECT number FROM stretch) AND {MEANT} ORDER BY t.number LIMIT $9) AS meant
            ON true
        ORDER BY meant.number"
    )
}

/// One stretch of rows with numbers behind `after`, of which at most `wanted` are meant.
pub(super) async fn stretch(
    session: &Session,
    sql: &str,
    filter: &TokenFilter,
    after: u64,
    wanted: usize,
) -> Result<Stretch, Fault> {
    let rare = filter.issued_before.is_some() || filter.used_before.is_some() || filter.ip.is_some();
    // Whatever is in the index is meant, but for the dead.
    let size = if rare { STRETCH } else { (wanted as u64).saturating_mul(2).clamp(50, STRETCH) };
    let limit = (wanted as u64).min(size);
    let values = [
        value(after),
        if_any(filter.subject.as_ref()),
        if_any(filter.client.as_ref()),
        if_any(filter.kind),
        if_any(filter.issued_before),
        if_any(filter.used_before),
        if_any(filter.ip),
        value(size),
        value(limit),
    ];
    let mut rows = session.query(sql, &values).await?;
    let span = rows.first().ok_or(Fault::Miscounted)?;
    let (reached, looked_at): (Option<u64>, u64) = (get_if_any(span, 0)?, get(span, 1)?);
    rows.retain(|row| !matches!(number_of(row), Ok(None)));
    let is_cut = rows.len() as u64 == limit;
    let reached = match rows.last() {
        Some(last) if is_cut => number_of(last)?,
        Some(_) | None => reached.filter(|_| looked_at == size),
    };
    Ok(Stretch { rows, reached })
}

/// The number in a row of a listing; `None` in the one that says that nothing is meant.
fn number_of(row: &Row) -> Result<Option<u64>, Fault> {
    let column = row.columns().iter().position(|column| column.name() == "number").ok_or(Fault::Miscounted)?;
    get_if_any(row, column)
}

/// Numbers of live tokens that are meant.
pub(super) struct Live {
    /// In ascending order.
    pub(super) numbers: Vec<u64>,
    /// How far it came, if there may be more behind.
    pub(super) reached: Option<u64>,
}

/// What to look for.
pub(super) struct Search {
    pub(super) filter: TokenFilter,
    pub(super) now: Timestamp,
    pub(super) after: u64,
    pub(super) wanted: usize,
}

/// Looks for live tokens in one stretch.
pub(super) async fn look_for(session: Arc<Session>, search: Arc<Search>) -> Result<Live, Fault> {
    let sql = listing(&search.filter, Some(search.now), STANDING);
    let stretch = stretch(&session, &sql, &search.filter, search.after, search.wanted).await?;
    let mut numbers = Vec::new();
    for row in &stretch.rows {
        if is_live(row, AHEAD, search.now)? {
            numbers.push(get(row, AHEAD)?);
        }
    }
    Ok(Live { numbers, reached: stretch.reached })
}

/// Whether the token of a row is live whose columns of [`STANDING`] begin at `from`.
fn is_live(row: &Row, from: usize, now: Timestamp) -> Result<bool, Fault> {
    let of_subject = match get(row, from + 1)? {
        Kind::Login => get(row, from + 7)?,
        Kind::Key => get(row, from + 8)?,
    };
    let stamped = Epochs { subject: get(row, from + 4)?, client: get(row, from + 5)?, deployment: get(row, from + 6)? };
    let current = Epochs { subject: of_subject, client: get(row, from + 9)?, deployment: get(row, from + 10)? };
    let (expires_at, revoked_at) = (get_if_any(row, from + 2)?, get_if_any(row, from + 3)?);
    Ok(standing(revoked_at, expires_at, &stamped, &current, now) == Standing::Live)
}

const LOCK: &str = "SELECT number FROM tokens WHERE number = ANY($1) ORDER BY number FOR NO KEY UPDATE";

fn still_meant() -> String {
    // $8 and $9 are the listing's.
    format!("{STANDING} AND t.number = ANY($1) AND {MEANT}")
}

/// A batch to be revoked.
pub(super) struct Batch {
    pub(super) numbers: Vec<u64>,
    pub(super) filter: TokenFilter,
    pub(super) now: Timestamp,
}

/// Revokes the tokens of these numbers, each of which must still be live and meant; does nothing and returns false where
/// one is not, because somebody else was quicker. Then there may be others to make up the batch.
pub(super) async fn revoke(transaction: Transaction, batch: Arc<Batch>) -> Result<bool, Fault> {
    let filter = &batch.filter;
    let numbers: Vec<i64> = batch.numbers.iter().copied().map(signed).collect();
    let lock = [Value::Integers(numbers.clone())];
    let meant = [
        Value::Integers(numbers.clone()),
        if_any(filter.subject.as_ref()),
        if_any(filter.client.as_ref()),
        if_any(filter.kind),
        if_any(filter.issued_before),
        if_any(filter.used_before),
        if_any(filter.ip),
    ];
    let [_, rows] = transaction.flight([(LOCK, &lock), (&still_meant(), &meant)]).await?;
    let mut live = 0;
    for row in &rows {
        live += usize::from(is_live(row, 0, batch.now)?);
    }
    if live != numbers.len() {
        return Ok(false);
    }
    let (_, digests) = end(&transaction, numbers, batch.now).await?;
    transaction.log(Changed::Tokens(digests), batch.now);
    Ok(true)
}

/// How far the revoking of one filter as of one instant has come: whoever revokes batch after batch would otherwise look
/// at everything before the batch again each time. One at a time is remembered; another one that runs beside it begins
/// from the start, which costs time and nothing else.
#[derive(Debug, Default)]
pub(super) struct Progress(Mutex<Option<(TokenFilter, Timestamp, u64)>>);

impl Progress {
    /// The number behind which there may be more; 0 where nothing is known.
    pub(super) fn of(&self, filter: &TokenFilter, now: Timestamp) -> u64 {
        match &*self.lock() {
            Some((known, as_of, reached)) if known == filter && *as_of == now => *reached,
            Some(_) | None => 0,
        }
    }

    /// Up to there all are revoked; `None`: to the end, and whoever asks again begins anew.
    pub(super) fn note(&self, filter: &TokenFilter, now: Timestamp, reached: Option<u64>) {
        *self.lock() = reached.map(|reached| (filter.clone(), now, reached));
    }

    fn lock(&self) -> MutexGuard<'_, Option<(TokenFilter, Timestamp, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
