//! Failed logins. How often a password may be tried is [`Tries::judge`]'s to say, here as in every store.

use counterfoil_core::attempts::{Tries, TryLater};
use counterfoil_core::{SubjectId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::column::{Column, get};
use super::fault::Fault;
use super::readers::Reader;

const FAILED: &str = "SELECT failed, last FROM tries WHERE subject = ?1";

fn parse(row: &Row<'_>) -> rusqlite::Result<Tries> {
    Ok(Tries { failed: row.get(0)?, last: get(row, 1)? })
}

/// Those of the subject of that name; none where it has no row.
fn of(connection: &Connection, subject: &str) -> Result<Tries, Fault> {
    Ok(connection.prepare_cached(FAILED)?.query_row([subject], parse).optional()?.unwrap_or_default())
}

/// See [`counterfoil_core::TokenStore::tries`].
pub(super) fn tries(reader: &Reader, subject: &SubjectId) -> Result<Tries, Fault> {
    of(&reader.connection, subject.as_str())
}

/// What no subject is called: names of subjects have no control characters.
const NOBODY: &str = "\u{1}";

const COUNT: &str = "
    INSERT INTO tries (subject, failed, last) VALUES (?1, ?2, ?3)
    ON CONFLICT (subject) DO UPDATE SET failed = excluded.failed, last = excluded.last";

/// See [`counterfoil_core::TokenStore::count_try`]. Each way through is one look-up, one changed page of the table and one
/// commit, also where nothing is counted: nobody's name, and an account's that is refused for now, would otherwise answer
/// sooner than an account's that is tried, by as long as the disk takes.
pub(super) fn count_try(
    connection: &Connection,
    subject: Option<&SubjectId>,
    now: Timestamp,
) -> Result<Result<(), TryLater>, Fault> {
    let kept = of(connection, subject.map_or(NOBODY, SubjectId::as_str))?;
    let tries = kept.seen_at(now);
    let judged = tries.judge(now);
    match subject {
        Some(subject) if judged.is_ok() => count(connection, subject.as_str(), tries.and_one(now))?,
        Some(subject) if tries != kept => count(connection, subject.as_str(), tries)?,
        Some(_) | None => {
            // Gone again before anybody can see it.
            count(connection, NOBODY, Tries::default())?;
            connection.prepare_cached(FORGET)?.execute([NOBODY])?;
        }
    }
    Ok(judged)
}

fn count(connection: &Connection, subject: &str, tries: Tries) -> Result<(), Fault> {
    connection.prepare_cached(COUNT)?.execute(params![subject, tries.failed, Column(tries.last)])?;
    Ok(())
}

const SET_FAILED: &str = "UPDATE tries SET failed = ?2, last = ?3 WHERE subject = ?1";

/// See [`counterfoil_core::TokenStore::give_back_try`].
pub(super) fn give_back_try(connection: &Connection, subject: Option<&SubjectId>) -> Result<(), Fault> {
    let Some(subject) = subject else {
        count(connection, NOBODY, Tries::default())?;
        connection.prepare_cached(FORGET)?.execute([NOBODY])?;
        return Ok(());
    };
    let Tries { failed, last } = of(connection, subject.as_str())?.but_one();
    connection.prepare_cached(SET_FAILED)?.execute(params![Column(subject), failed, Column(last)])?;
    Ok(())
}

const FORGET: &str = "DELETE FROM tries WHERE subject = ?1";

/// See [`counterfoil_core::TokenStore::forget_tries`].
pub(super) fn forget(connection: &Connection, subject: &SubjectId) -> Result<(), Fault> {
    connection.prepare_cached(FORGET)?.execute([Column(subject)])?;
    Ok(())
}
