//! Subjects, and the epochs that end many tokens at once.

use counterfoil_core::store::{Bump, Changed};
use counterfoil_core::token::{Kind, Standing, TokenId};
use counterfoil_core::{Epoch, Subject, SubjectId, SubjectState, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::changes::log;
use super::column::{Column, get, signed};
use super::fault::Fault;
use super::readers::Reader;
use super::{attempts, tokens};

const BY_NAME: &str = "SELECT name, state, epoch, key_epoch FROM subjects WHERE name = ?1";

fn parse(row: &Row<'_>) -> rusqlite::Result<Subject> {
    Ok(Subject { id: get(row, 0)?, state: get(row, 1)?, epoch: get(row, 2)?, key_epoch: get(row, 3)? })
}

fn by_name(connection: &Connection, id: &SubjectId) -> Result<Option<Subject>, Fault> {
    Ok(connection.prepare_cached(BY_NAME)?.query_row([Column(id)], parse).optional()?)
}

/// See [`counterfoil_core::TokenStore::subject`].
pub(super) fn subject(reader: &Reader, id: &SubjectId) -> Result<Option<Subject>, Fault> {
    by_name(&reader.connection, id)
}

const ADD: &str = "INSERT INTO subjects (name) VALUES (?1) ON CONFLICT (name) DO NOTHING";

/// See [`counterfoil_core::TokenStore::open_subject`].
pub(super) fn open(connection: &Connection, id: &SubjectId) -> Result<Subject, Fault> {
    connection.prepare_cached(ADD)?.execute([Column(id)])?;
    Ok(connection.prepare_cached(BY_NAME)?.query_row([Column(id)], parse)?)
}

const SET_STATE: &str = "
    UPDATE subjects SET state = ?2 WHERE name = ?1 AND state <> 'buried' RETURNING name, state, epoch, key_epoch, key";

/// See [`counterfoil_core::TokenStore::set_subject_state`].
pub(super) fn set_state(
    connection: &Connection,
    id: &SubjectId,
    state: SubjectState,
    now: Timestamp,
) -> Result<Option<Subject>, Fault> {
    let set = connection
        .prepare_cached(SET_STATE)?
        .query_row(params![Column(id), Column(state)], |row| Ok((parse(row)?, row.get(4)?)))
        .optional()?;
    let Some((subject, key)) = set else { return Ok(None) };
    match state {
        SubjectState::Buried => {
            remember(connection, Ended::OfBuried(key), Epoch(0), now)?;
            attempts::forget(connection, id)?;
        }
        SubjectState::Active | SubjectState::Disabled => {}
    }
    log(connection, &Changed::Subject(id.clone()), now)?;
    Ok(Some(subject))
}

/// See [`counterfoil_core::TokenStore::bump_epoch`].
pub(super) fn bump(connection: &Connection, bump: &Bump, now: Timestamp) -> Result<bool, Fault> {
    match bump {
        Bump::Subject { id, keys_too, keep } => bump_subject(connection, id, *keys_too, *keep, now),
        Bump::Client(id) => {
            let bumped = connection
                .prepare_cached(BUMP_CLIENT)?
                .query_row([Column(*id)], |row| Ok((row.get(0)?, get(row, 1)?)))
                .optional()?;
            let Some((key, epoch)) = bumped else { return Ok(false) };
            remember(connection, Ended::OfClient(key), epoch, now)?;
            log(connection, &Changed::Client(*id), now)?;
            Ok(true)
        }
        Bump::Deployment => {
            let epoch = connection.prepare_cached(BUMP_DEPLOYMENT)?.query_row([], |row| get(row, 0))?;
            remember(connection, Ended::Everybodys, epoch, now)?;
            log(connection, &Changed::Everything, now)?;
            Ok(true)
        }
    }
}

const BUMP_SUBJECT: &str = "
    UPDATE subjects SET epoch = epoch + 1, key_epoch = key_epoch + ?2 WHERE name = ?1
    RETURNING name, state, epoch, key_epoch, key";

// Another version too, so that what was judged before the bump is judged anew.
const BUMP_CLIENT: &str = "
    UPDATE clients SET epoch = epoch + 1, version = version + 1 WHERE id = ?1 AND deleted = 0 RETURNING key, epoch";

const BUMP_DEPLOYMENT: &str = "UPDATE deployment SET epoch = epoch + 1 RETURNING epoch";

const RESTAMP: &str = "UPDATE tokens SET subject_epoch = ?2 WHERE number = ?1";

fn bump_subject(
    connection: &Connection,
    id: &SubjectId,
    keys_too: bool,
    keep: Option<TokenId>,
    now: Timestamp,
) -> Result<bool, Fault> {
    // Judged before the bump: what it would end may be kept, what was dead stays dead.
    let kept = match keep {
        Some(keep) => tokens::held(connection, keep)?
            .filter(|held| held.token.subject == *id && held.token.standing(now) == Standing::Live),
        None => None,
    };
    let bumped = connection
        .prepare_cached(BUMP_SUBJECT)?
        .query_row(params![Column(id), keys_too], |row| Ok((parse(row)?, row.get(4)?)))
        .optional()?;
    let Some((subject, key)) = bumped else { return Ok(false) };
    if let Some(kept) = kept {
        let epoch = match kept.token.kind {
            Kind::Login => subject.epoch,
            Kind::Key => subject.key_epoch,
        };
        connection.prepare_cached(RESTAMP)?.execute(params![signed(kept.token.number), Column(epoch)])?;
    }
    remember(connection, Ended::OfSubject(key, Kind::Login), subject.epoch, now)?;
    if keys_too {
        remember(connection, Ended::OfSubject(key, Kind::Key), subject.key_epoch, now)?;
    }
    log(connection, &Changed::Subject(id.clone()), now)?;
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
// before are the purge's by themselves.
const REMEMBER_OF_SUBJECT: &str = "
    INSERT INTO bumps (what, target, epoch, up_to, at)
    SELECT ?1, ?2, ?3, (SELECT coalesce(max(number), 0) FROM tokens), ?4
    WHERE EXISTS (
        SELECT 1 FROM tokens WHERE subject = ?2 AND kind = ?1 AND subject_epoch = ?3 - 1 AND revoked_at IS NULL
    )";

const REMEMBER_OF_BURIED: &str = "
    INSERT INTO bumps (what, target, epoch, up_to, at)
    SELECT ?1, ?2, ?3, (SELECT coalesce(max(number), 0) FROM tokens), ?4
    WHERE EXISTS (SELECT 1 FROM tokens WHERE subject = ?2)";

// Epochs grow with the numbers, so the newest token tells whether there is one of the epoch that ended.
const REMEMBER_OF_CLIENT: &str = "
    INSERT INTO bumps (what, target, epoch, up_to, at)
    SELECT ?1, ?2, ?3, (SELECT coalesce(max(number), 0) FROM tokens), ?4
    WHERE (SELECT client_epoch FROM tokens WHERE client = ?2 ORDER BY number DESC LIMIT 1) = ?3 - 1";

const REMEMBER_EVERYBODYS: &str = "
    INSERT INTO bumps (what, target, epoch, up_to, at)
    SELECT ?1, ?2, ?3, (SELECT coalesce(max(number), 0) FROM tokens), ?4
    WHERE (SELECT deployment_epoch FROM tokens ORDER BY number DESC LIMIT 1) = ?3 - 1";

/// Leaves word for the purge, where there is something for it to do. `epoch` is the one that has begun.
fn remember(connection: &Connection, ended: Ended, epoch: Epoch, now: Timestamp) -> Result<(), Fault> {
    let (sql, what, target) = match ended {
        Ended::OfSubject(key, kind) => (REMEMBER_OF_SUBJECT, kind.as_str(), key),
        Ended::OfBuried(key) => (REMEMBER_OF_BURIED, "buried", key),
        Ended::OfClient(key) => (REMEMBER_OF_CLIENT, "client", key),
        Ended::Everybodys => (REMEMBER_EVERYBODYS, "deployment", 0),
    };
    connection.prepare_cached(sql)?.execute(params![what, target, Column(epoch), Column(now)])?;
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

const NOW: &str = "SELECT key, state, epoch, key_epoch, ever_issued FROM subjects WHERE name = ?1";

/// The subject as it is in this transaction.
pub(super) fn now(connection: &Connection, id: &SubjectId) -> Result<Option<SubjectNow>, Fault> {
    let subject = connection.prepare_cached(NOW)?.query_row([Column(id)], |row| {
        Ok(SubjectNow {
            key: row.get(0)?,
            state: get(row, 1)?,
            epoch: get(row, 2)?,
            key_epoch: get(row, 3)?,
            ever_issued: row.get(4)?,
        })
    });
    Ok(subject.optional()?)
}
