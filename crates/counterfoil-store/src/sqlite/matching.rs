//! Tokens by what they have in common: counting and revoking those of a [`TokenFilter`].
//!
//! Looking for them may mean reading every token there is (no index holds when and where they were used), so it is done
//! on a reading thread and in stretches; the writer is handed the numbers of one batch and judges those again. A filter
//! that names a subject or a client reads theirs alone.

use std::sync::{Mutex, MutexGuard, PoisonError};

use counterfoil_core::store::{Changed, TokenFilter};
use counterfoil_core::token::{Kind, Standing, standing};
use counterfoil_core::{Epochs, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::changes::log;
use super::column::{get, get_if_any, if_any, signed};
use super::fault::Fault;
use super::readers::Reader;
use super::tokens::{RECORD, end, holding, listing};

/// Rows that are looked at in one snapshot, a few µs each: then others have a turn on the thread, and the log may be cut
/// back behind them.
const STRETCH: usize = 20_000;

/// What one stretch had.
pub(super) struct Stretch {
    /// The numbers of live tokens that are meant, in ascending order.
    pub(super) numbers: Vec<u64>,
    /// How far it came, if there is more behind.
    pub(super) reached: Option<u64>,
}

/// Looks for live tokens of `filter` with numbers behind `after`, until `wanted` are found or [`STRETCH`] rows were
/// looked at.
pub(super) fn look_for(
    reader: &Reader,
    filter: &TokenFilter,
    now: Timestamp,
    after: u64,
    wanted: usize,
) -> Result<Stretch, Fault> {
    let mut statement = reader.connection.prepare_cached(&listing(filter, Some(now)))?;
    let mut rows = statement.query(params![
        signed(after),
        if_any(filter.subject.as_ref()),
        if_any(filter.client.as_ref()),
        if_any(filter.kind),
    ])?;
    let (mut numbers, mut reached) = (Vec::new(), after);
    for _ in 0..STRETCH {
        if numbers.len() == wanted {
            break;
        }
        let Some(row) = rows.next()? else { return Ok(Stretch { numbers, reached: None }) };
        reached = get(row, 1)?;
        if is_meant(row, filter)? && is_live(row, now)? {
            numbers.push(reached);
        }
    }
    Ok(Stretch { numbers, reached: Some(reached) })
}

/// Whether a row of [`RECORD`] is what the filter means beyond whose, where and which kind, which its statement says.
pub(super) fn is_meant(row: &Row<'_>, filter: &TokenFilter) -> rusqlite::Result<bool> {
    let TokenFilter { subject: _, client: _, kind: _, issued_before, used_before, ip } = filter;
    if let Some(before) = issued_before
        && get::<Timestamp>(row, 8)? >= *before
    {
        return Ok(false);
    }
    if let Some(before) = used_before
        && get_if_any::<Timestamp>(row, 21)?.map_or_else(|| get(row, 8), Ok)? >= *before
    {
        return Ok(false);
    }
    Ok(ip.is_none() || get_if_any(row, 19)? == *ip || get_if_any(row, 22)? == *ip)
}

/// Whether the token of a row of [`RECORD`] is live, without reading the rest of it.
fn is_live(row: &Row<'_>, now: Timestamp) -> rusqlite::Result<bool> {
    let of_subject = match get(row, 2)? {
        Kind::Login => get(row, 14)?,
        Kind::Key => get(row, 15)?,
    };
    let stamped = Epochs { subject: get(row, 11)?, client: get(row, 12)?, deployment: get(row, 13)? };
    let current = Epochs { subject: of_subject, client: get(row, 16)?, deployment: get(row, 17)? };
    Ok(standing(get_if_any(row, 10)?, get_if_any(row, 9)?, &stamped, &current, now) == Standing::Live)
}

fn by_number() -> String {
    format!(
        "{RECORD} AND t.number = ?1
         AND (?2 IS NULL OR s.name = ?2) AND (?3 IS NULL OR c.name = ?3) AND (?4 IS NULL OR t.kind = ?4)"
    )
}

/// Revokes the tokens of these numbers, each of which must still be live and meant; does nothing and returns false where
/// one is not, because somebody else was quicker. Then there may be others to make up the batch. It takes the writer as
/// long as so many single revocations, but for their commits.
pub(super) fn revoke(
    connection: &Connection,
    numbers: &[u64],
    filter: &TokenFilter,
    now: Timestamp,
) -> Result<bool, Fault> {
    let mut statement = connection.prepare_cached(&by_number())?;
    let mut ending = Vec::new();
    for number in numbers {
        let (subject, client) = (if_any(filter.subject.as_ref()), if_any(filter.client.as_ref()));
        let held = statement
            .query_row(params![signed(*number), subject, client, if_any(filter.kind)], |row| {
                Ok(if is_meant(row, filter)? && is_live(row, now)? { Some(holding(row)?) } else { None })
            })
            .optional()?;
        let Some(held) = held.flatten() else { return Ok(false) };
        ending.push(held);
    }
    let mut digests = Vec::new();
    for held in &ending {
        end(connection, held, now, &mut digests)?;
    }
    log(connection, &Changed::Tokens(digests), now)?;
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
