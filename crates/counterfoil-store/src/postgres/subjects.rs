//! Subjects, and the epochs that end many tokens at once.

use std::sync::Arc;

use counterfoil_core::store::{Bump, Changed};
use counterfoil_core::token::{Kind, Standing, TokenId};
use counterfoil_core::{Epoch, Subject, SubjectId, SubjectState, Timestamp};
use tokio_postgres::Row;

use super::column::{get, value};
use super::fault::Fault;
use super::session::Session;
use super::transaction::Transaction;
use super::{attempts, tokens};

const BY_NAME: &str = "SELECT name, state, epoch, key_epoch FROM subjects WHERE name = $1";

fn parse(row: &Row) -> Result<Subject, Fault> {
    Ok(Subject { id: get(row, 0)?, state: get(row, 1)?, epoch: get(row, 2)?, key_epoch: get(row, 3)? })
}

/// See [`counterfoil_core::TokenStore::subject`].
pub(super) async fn subject(session: &Session, id: &SubjectId) -> Result<Option<Subject>, Fault> {
    session.query_opt(BY_NAME, &[value(id)]).await?.map(|row| parse(&row)).transpose()
}

const ADD: &str = "INSERT INTO subjects (name) VALUES ($1) ON CONFLICT (name) DO NOTHING";

/// See [`counterfoil_core::TokenStore::open_subject`].
pub(super) async fn open(transaction: Transaction, id: Arc<SubjectId>) -> Result<Subject, Fault> {
    // Whoever makes it at the same moment is waited for; the second statement sees theirs.
    let [_, subject] = transaction.flight([(ADD, &[value(&*id)]), (BY_NAME, &[value(&*id)])]).await?;
    parse(subject.first().ok_or(Fault::Miscounted)?)
}

const SET_STATE: &str = "
    UPDATE subjects SET state = $2 WHERE name = $1 AND state <> 'buried' RETURNING name, state, epoch, key_epoch, key";

/// See [`counterfoil_core::TokenStore::set_subject_state`].
pub(super) async fn set_state(
    transaction: Transaction,
    wanted: Arc<(SubjectId, SubjectState, Timestamp)>,
) -> Result<Option<Subject>, Fault> {
    let (id, state, now) = &*wanted;
    let Some(set) = transaction.query_opt(SET_STATE, &[value(id), value(*state)]).await? else { return Ok(None) };
    match state {
        SubjectState::Buried => {
            remember(&transaction, Ended::OfBuried(get(&set, 4)?), Epoch(0), *now).await?;
            attempts::forgotten(&transaction, id).await?;
        }
        SubjectState::Active | SubjectState::Disabled => {}
    }
    transaction.log(Changed::Subject(id.clone()), *now);
    Ok(Some(parse(&set)?))
}

/// See [`counterfoil_core::TokenStore::subject_changed`].
pub(super) async fn changed(transaction: Transaction, wanted: Arc<(SubjectId, Timestamp)>) -> Result<(), Fault> {
    transaction.log(Changed::Subject(wanted.0.clone()), wanted.1);
    Ok(())
}

// Another version too, so that what was judged before the bump is judged anew.
const BUMP_CLIENT: &str = "
    UPDATE clients SET epoch = epoch + 1, version = version + 1 WHERE id = $1 AND NOT deleted RETURNING key, epoch";

const BUMP_DEPLOYMENT: &str = "UPDATE deployment SET epoch = epoch + 1 WHERE one RETURNING epoch";

/// See [`counterfoil_core::TokenStore::bump_epoch`].
pub(super) async fn bump(transaction: Transaction, wanted: Arc<(Bump, Timestamp)>) -> Result<bool, Fault> {
    let (bump, now) = &*wanted;
    match bump {
        Bump::Subject { id, keys_too, keep } => bump_subject(&transaction, id, *keys_too, *keep, *now).await,
        Bump::Client(id) => {
            let Some(bumped) = transaction.query_opt(BUMP_CLIENT, &[value(*id)]).await? else { return Ok(false) };
            remember(&transaction, Ended::OfClient(get(&bumped, 0)?), get(&bumped, 1)?, *now).await?;
            transaction.log(Changed::Client(*id), *now);
            Ok(true)
        }
        Bump::Deployment => {
            let bumped = transaction.query_one(BUMP_DEPLOYMENT, &[]).await?;
            remember(&transaction, Ended::Everybodys, get(&bumped, 0)?, *now).await?;
            transaction.log(Changed::Everything, *now);
            Ok(true)
        }
    }
}

// Of those whose tokens it is: what the bump ends and what it keeps are judged by the epochs before it.
const LOCK: &str = "SELECT key FROM subjects WHERE name = $1 FOR NO KEY UPDATE";

const BUMP_SUBJECT: &str = "
    UPDATE subjects SET epoch = epoch + 1, key_epoch = key_epoch + CASE WHEN $2 THEN 1 ELSE 0 END WHERE name = $1
    RETURNING epoch, key_epoch, key";

const RESTAMP: &str = "UPDATE tokens SET subject_epoch = $2 WHERE number = $1";

async fn bump_subject(
    transaction: &Transaction,
    id: &SubjectId,
    keys_too: bool,
    keep: Option<TokenId>,
    now: Timestamp,
) -> Result<bool, Fault> {
    // Judged before the bump: what it would end may be kept, what was dead stays dead.
    let kept = match keep {
        Some(keep) => {
            transaction.query(LOCK, &[value(id)]).await?;
            tokens::locked(transaction, keep)
                .await?
                .filter(|held| held.token.subject == *id && held.token.standing(now) == Standing::Live)
        }
        None => None,
    };
    let Some(bumped) = transaction.query_opt(BUMP_SUBJECT, &[value(id), value(keys_too)]).await? else {
        return Ok(false);
    };
    let (epoch, key_epoch, key): (Epoch, Epoch, i64) = (get(&bumped, 0)?, get(&bumped, 1)?, get(&bumped, 2)?);
    if let Some(kept) = kept {
        let epoch = match kept.token.kind {
            Kind::Login => epoch,
            Kind::Key => key_epoch,
        };
        transaction.execute(RESTAMP, &[value(kept.token.number), value(epoch)]).await?;
    }
    remember(transaction, Ended::OfSubject(key, Kind::Login), epoch, now).await?;
    if keys_too {
        remember(transaction, Ended::OfSubject(key, Kind::Key), key_epoch, now).await?;
    }
    transaction.log(Changed::Subject(id.clone()), now);
    Ok(true)
}

/// Which tokens have ended.
#[derive(Clone, Copy)]
enum Ended {
    /// Those of one kind of the subject of this key.
    OfSubject(i64, Kind),
    /// All of the subject of this key.
    OfBuried(i64),
    /// Those of the client of this key.
    OfClient(i64),
    /// All.
    Everybodys,
}

// What earlier bumps ended is theirs, so each looks for tokens of the very epoch that it ended. Those that were revoked
// before are the purge's by themselves. `up_to` leaves room for numbers that were drawn by transactions which have yet to
// commit; it bounds what the purge reads, and decides of no token. What is being issued at this very moment and is the only token of its
// epoch may be missed: it is as dead as the others, and its row stays until it expires.
const REMEMBER_OF_SUBJECT: &str = "
    INSERT INTO bumps (what, target, epoch, up_to, at)
    SELECT $1, $2, $3, (SELECT coalesce(max(number), 0) + 1000 FROM tokens), $4
    WHERE EXISTS (
        SELECT 1 FROM tokens WHERE subject = $2 AND kind = $1 AND subject_epoch = $3 - 1 AND revoked_at IS NULL
    )";

const REMEMBER_OF_BURIED: &str = "
    INSERT INTO bumps (what, target, epoch, up_to, at)
    SELECT $1, $2, $3, (SELECT coalesce(max(number), 0) + 1000 FROM tokens), $4
    WHERE EXISTS (SELECT 1 FROM tokens WHERE subject = $2)";

// Epochs grow with the numbers but for transactions that overlap, so the newest tokens tell whether there is one of the epoch
// that ended.
const REMEMBER_OF_CLIENT: &str = "
    INSERT INTO bumps (what, target, epoch, up_to, at)
    SELECT $1, $2, $3, (SELECT coalesce(max(number), 0) + 1000 FROM tokens), $4
    WHERE $3 - 1 IN (
        SELECT client_epoch FROM (
            SELECT client_epoch FROM tokens WHERE client = $2 ORDER BY number DESC LIMIT 1000
        ) AS newest
    )";

const REMEMBER_EVERYBODYS: &str = "
    INSERT INTO bumps (what, target, epoch, up_to, at)
    SELECT $1, $2, $3, (SELECT coalesce(max(number), 0) + 1000 FROM tokens), $4
    WHERE $3 - 1 IN (
        SELECT deployment_epoch FROM (
            SELECT deployment_epoch FROM tokens ORDER BY number DESC LIMIT 1000
        ) AS newest
    )";

/// Leaves word for the purge, where there is something for it to do. `epoch` is the one that has begun.
async fn remember(transaction: &Transaction, ended: Ended, epoch: Epoch, now: Timestamp) -> Result<(), Fault> {
    let (sql, what, target) = match ended {
        Ended::OfSubject(key, kind) => (REMEMBER_OF_SUBJECT, kind.as_str(), key),
        Ended::OfBuried(key) => (REMEMBER_OF_BURIED, "buried", key),
        Ended::OfClient(key) => (REMEMBER_OF_CLIENT, "client", key),
        Ended::Everybodys => (REMEMBER_EVERYBODYS, "deployment", 0),
    };
    transaction.execute(sql, &[value(what), value(target), value(epoch), value(now)]).await?;
    Ok(())
}

/// What an issue restates of its subject.
pub(super) struct SubjectNow {
    pub(super) key: i64,
    pub(super) state: SubjectState,
    pub(super) epoch: Epoch,
    pub(super) key_epoch: Epoch,
    pub(super) ever_issued: bool,
}

pub(super) const NOW: &str = "SELECT key, state, epoch, key_epoch, ever_issued FROM subjects WHERE name = $1";

/// As [`NOW`], and nobody else who counts the subject's tokens gets past before the commit.
pub(super) const NOW_ALONE: &str = "
    SELECT key, state, epoch, key_epoch, ever_issued FROM subjects WHERE name = $1 FOR NO KEY UPDATE";

/// The subject of a row of [`NOW`].
pub(super) fn now(row: &Row) -> Result<SubjectNow, Fault> {
    Ok(SubjectNow {
        key: get(row, 0)?,
        state: get(row, 1)?,
        epoch: get(row, 2)?,
        key_epoch: get(row, 3)?,
        ever_issued: get(row, 4)?,
    })
}
