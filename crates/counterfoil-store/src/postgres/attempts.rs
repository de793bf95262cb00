//! Failed logins. How often a password may be tried is [`Tries::judge`]'s to say, here as in every store.

use std::sync::Arc;

use counterfoil_core::attempts::{Tries, TryLater};
use counterfoil_core::{SubjectId, Timestamp};
use tokio_postgres::Row;

use super::column::{get, value};
use super::fault::Fault;
use super::session::Session;
use super::transaction::Transaction;

const FAILED: &str = "SELECT failed, last FROM tries WHERE subject = $1";

fn parse(row: &Row) -> Result<Tries, Fault> {
    Ok(Tries { failed: get(row, 0)?, last: get(row, 1)? })
}

/// See [`counterfoil_core::TokenStore::tries`].
pub(super) async fn tries(session: &Session, subject: &SubjectId) -> Result<Tries, Fault> {
    let row = session.query_opt(FAILED, &[value(subject)]).await?;
    row.map_or_else(|| Ok(Tries::default()), |row| parse(&row))
}

// There must be a row to lock: of two that made the first try at once, both would else be the first.
const BEGIN: &str = "INSERT INTO tries (subject, failed, last) VALUES ($1, 0, 0) ON CONFLICT (subject) DO NOTHING";

const FAILED_ALONE: &str = "SELECT failed, last FROM tries WHERE subject = $1 FOR NO KEY UPDATE";

// Another one each time: those who try nobody's name must wait for each other no more than those who try somebody's. What no
// subject is called: names of subjects have no control characters.
const BEGIN_NOBODY: &str = "
    INSERT INTO tries (subject, failed, last) VALUES (chr(1) || gen_random_uuid(), 0, 0) RETURNING subject";

const SET: &str = "UPDATE tries SET failed = $2, last = $3 WHERE subject = $1";

pub(super) const FORGET: &str = "DELETE FROM tries WHERE subject = $1";

/// See [`counterfoil_core::TokenStore::count_try`]. Each way through is as many statements, as many changed rows and one commit,
/// also where nothing is counted: nobody's name, and an account's that is refused for now, would otherwise answer sooner
/// than an account's that is tried, by as long as the disk takes.
pub(super) async fn count_try(
    transaction: Transaction,
    wanted: Arc<(Option<SubjectId>, Timestamp)>,
) -> Result<Result<(), TryLater>, Fault> {
    let (subject, now) = &*wanted;
    let Some(subject) = subject else {
        as_long(&transaction).await?;
        return Ok(Tries::default().seen_at(*now).judge(*now));
    };
    let [_, kept] = transaction.flight([(BEGIN, &[value(subject)]), (FAILED_ALONE, &[value(subject)])]).await?;
    let tries = parse(kept.first().ok_or(Fault::Miscounted)?)?.seen_at(*now);
    let judged = tries.judge(*now);
    let counted = if judged.is_ok() { tries.and_one(*now) } else { tries };
    set(&transaction, subject, counted).await?;
    Ok(judged)
}

/// What somebody's try takes, with nothing left of it.
async fn as_long(transaction: &Transaction) -> Result<(), Fault> {
    let begun = transaction.query_one(BEGIN_NOBODY, &[]).await?;
    let nobody: String = get(&begun, 0)?;
    transaction.execute(FORGET, &[value(nobody)]).await?;
    Ok(())
}

async fn set(transaction: &Transaction, subject: &SubjectId, tries: Tries) -> Result<(), Fault> {
    transaction.execute(SET, &[value(subject), value(tries.failed), value(tries.last)]).await?;
    Ok(())
}

/// See [`counterfoil_core::TokenStore::give_back_try`].
pub(super) async fn give_back_try(transaction: Transaction, subject: Arc<Option<SubjectId>>) -> Result<(), Fault> {
    let Some(subject) = &*subject else { return as_long(&transaction).await };
    if let Some(row) = transaction.query_opt(FAILED_ALONE, &[value(subject)]).await? {
        set(&transaction, subject, parse(&row)?.but_one()).await?;
    }
    Ok(())
}

/// See [`counterfoil_core::TokenStore::forget_tries`].
pub(super) async fn forget(transaction: Transaction, subject: Arc<SubjectId>) -> Result<(), Fault> {
    forgotten(&transaction, &subject).await
}

/// Forgets them in this transition.
pub(super) async fn forgotten(transaction: &Transaction, subject: &SubjectId) -> Result<(), Fault> {
    transaction.execute(FORGET, &[value(subject)]).await?;
    Ok(())
}
