//! Removing what has been dead for long.

use counterfoil_core::{Epoch, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use super::column::{Column, get, signed};
use super::fault::Fault;
use super::{changes, clients};

const REVOKED: &str = "
    DELETE FROM tokens WHERE number IN (SELECT number FROM tokens WHERE revoked_at <= ?1 ORDER BY revoked_at LIMIT ?2)";

const EXPIRED: &str = "
    DELETE FROM tokens WHERE number IN (SELECT number FROM tokens WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)";

const RETIRED: &str = "
    DELETE FROM retired WHERE digest IN (SELECT digest FROM retired WHERE retired_at <= ?1 ORDER BY retired_at LIMIT ?2)";

/// Bumps that one purge looks at. Those whose tokens went by another way remove no row, so the batch does not bound them.
const BUMPS: usize = 500;

/// See [`counterfoil_core::TokenStore::purge`]. Each part finds what goes in an index and reads no token that stays, so
/// that the writer is held for a batch of rows and [`BUMPS`] and no longer; a test counts SQLite's steps.
pub(super) fn purge(connection: &Connection, dead_since: Timestamp, batch: u32) -> Result<u64, Fault> {
    let batch = u64::from(batch);
    let mut removed = 0;
    for sql in [REVOKED, EXPIRED] {
        let room = signed(batch - removed);
        removed += connection.prepare_cached(sql)?.execute(params![Column(dead_since), room])? as u64;
    }
    removed += outlived(connection, dead_since, batch - removed)?;
    // Dead by name and not by time: there is no going back that they would have to be kept for.
    removed += clients::sweep(connection, batch - removed)?;
    let room = signed(batch - removed);
    removed += connection.prepare_cached(RETIRED)?.execute(params![Column(dead_since), room])? as u64;
    removed += changes::trim(connection, batch - removed)?;
    Ok(removed)
}

const OLDEST_BUMP: &str = "SELECT number, what, target, epoch, up_to FROM bumps WHERE at <= ?1 ORDER BY at LIMIT 1";

const DONE: &str = "DELETE FROM bumps WHERE number = ?1";

/// Tokens that a bumped epoch or a burial ended. An epoch of a subject is in the index, because keys and a kept token
/// outlive it; one of a client or of everybody, and a burial, spare no token up to the greatest number of their time.
fn outlived(connection: &Connection, dead_since: Timestamp, room: u64) -> Result<u64, Fault> {
    let mut removed = 0;
    for _ in 0..BUMPS {
        if removed == room {
            break;
        }
        let oldest = connection
            .prepare_cached(OLDEST_BUMP)?
            .query_row([Column(dead_since)], |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    ended_by(row.get_ref(1)?.as_bytes()?)?,
                    row.get::<_, i64>(2)?,
                    get::<Epoch>(row, 3)?,
                    row.get::<_, i64>(4)?,
                ))
            })
            .optional()?;
        let Some((number, sql, target, epoch, up_to)) = oldest else { break };
        let left = room - removed;
        let gone = connection.prepare_cached(sql)?.execute(params![target, Column(epoch), up_to, signed(left)])? as u64;
        removed += gone;
        if gone < left {
            connection.prepare_cached(DONE)?.execute([number])?;
        }
    }
    Ok(removed)
}

const BY_LOGIN_EPOCH: &str = "
    DELETE FROM tokens WHERE number IN (
        SELECT number FROM tokens INDEXED BY tokens_unrevoked
        WHERE subject = ?1 AND kind = 'login' AND subject_epoch < ?2 AND revoked_at IS NULL AND number <= ?3 LIMIT ?4
    )";

const BY_KEY_EPOCH: &str = "
    DELETE FROM tokens WHERE number IN (
        SELECT number FROM tokens INDEXED BY tokens_unrevoked
        WHERE subject = ?1 AND kind = 'key' AND subject_epoch < ?2 AND revoked_at IS NULL AND number <= ?3 LIMIT ?4
    )";

const BY_CLIENT_EPOCH: &str = "
    DELETE FROM tokens WHERE number IN (
        SELECT number FROM tokens INDEXED BY tokens_by_client
        WHERE client = ?1 AND client_epoch < ?2 AND number <= ?3 ORDER BY number LIMIT ?4
    )";

const BY_DEPLOYMENT_EPOCH: &str = "
    DELETE FROM tokens WHERE number IN (
        SELECT number FROM tokens WHERE ?1 = 0 AND deployment_epoch < ?2 AND number <= ?3 ORDER BY number LIMIT ?4
    )";

const BY_BURIAL: &str = "
    DELETE FROM tokens WHERE number IN (
        SELECT number FROM tokens INDEXED BY tokens_by_subject
        WHERE subject = ?1 AND ?2 = 0 AND number <= ?3 LIMIT ?4
    )";

fn ended_by(what: &[u8]) -> rusqlite::Result<&'static str> {
    match what {
        b"login" => Ok(BY_LOGIN_EPOCH),
        b"key" => Ok(BY_KEY_EPOCH),
        b"client" => Ok(BY_CLIENT_EPOCH),
        b"deployment" => Ok(BY_DEPLOYMENT_EPOCH),
        b"buried" => Ok(BY_BURIAL),
        _ => {
            Err(rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, "not a kind of bump".into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use counterfoil_core::SubjectId;
    use counterfoil_core::store::Bump;

    use super::*;
    use crate::sqlite::{schema, subjects};

    const DEAD_SINCE: Timestamp = Timestamp::MAX;

    /// One subject with so many keys, and a login token of each epoch that a bump ended.
    fn with(keys: u32, bumps: u32) -> Connection {
        let mut connection = Connection::open_in_memory().expect("memory");
        schema::OURS.migrate(&mut connection).expect("migrated");
        let ada: SubjectId = "ada".parse().expect("a subject");
        subjects::open(&connection, &ada).expect("made");
        connection
            .execute(
                "INSERT INTO clients (id, name, policy, allow_login, metadata, created_at)
                 VALUES (randomblob(16), 'default', '{}', 1, '{}', 0)",
                [],
            )
            .expect("made");
        let add = |kind: &str| {
            connection
                .prepare_cached(
                    "INSERT INTO tokens (id, kind, subject, client, digest, scheme, abilities, issued_at, subject_epoch,
                                         client_epoch, deployment_epoch, metadata)
                     SELECT randomblob(16), ?1, key, 1, randomblob(32), 'native', '*', 0,
                            CASE ?1 WHEN 'login' THEN epoch ELSE key_epoch END, 0, 0, '{}' FROM subjects",
                )
                .expect("prepared")
                .execute([kind])
                .expect("added");
        };
        for _ in 0..keys {
            add("key");
        }
        for _ in 0..bumps {
            add("login");
            let bump = Bump::Subject { id: ada.clone(), keys_too: false, keep: None };
            assert!(subjects::bump(&connection, &bump, Timestamp::MIN).expect("bumped"));
        }
        connection
    }

    fn count(connection: &Connection, table: &str) -> u64 {
        connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| get(row, 0)).expect("counted")
    }

    /// What one purge removes, and the steps of SQLite's machine that it takes.
    fn measured(connection: &mut Connection, batch: u32) -> (u64, u64) {
        counting(connection, |connection| purge(connection, DEAD_SINCE, batch).expect("purged"))
    }

    fn counting<T>(connection: &mut Connection, work: impl Fn(&Connection) -> T) -> (T, u64) {
        let steps = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&steps);
        let count = move || {
            counter.fetch_add(10, Ordering::Relaxed);
            false
        };
        connection.progress_handler(10, Some(count)).expect("counting");
        let done = work(connection);
        connection.progress_handler(0, None::<fn() -> bool>).expect("done");
        (done, steps.load(Ordering::Relaxed))
    }

    #[test]
    fn a_purge_is_as_much_work_beside_many_kept_keys_as_beside_few() {
        let [few, many] = [10, 20_000].map(|keys| {
            let mut connection = with(keys, 200);
            let mut calls = Vec::new();
            loop {
                let (removed, steps) = measured(&mut connection, 50);
                assert!(steps < 40_000, "{steps} steps for {removed} tokens beside {keys} keys");
                calls.push((removed, steps));
                if removed == 0 {
                    break;
                }
            }
            assert_eq!(count(&connection, "tokens"), u64::from(keys), "the keys stay");
            assert_eq!(count(&connection, "bumps"), 0);
            calls
        });
        assert_eq!(few.iter().map(|(removed, _)| removed).collect::<Vec<_>>(), [&50, &50, &50, &50, &0]);
        let steps = |calls: &[(u64, u64)]| calls.iter().map(|(_, steps)| steps).sum::<u64>();
        assert!(steps(&many) < steps(&few) * 3 / 2, "{many:?} {few:?}");
    }

    #[test]
    fn a_purge_looks_at_so_many_bumps_and_leaves_the_rest_to_the_next() {
        let mut connection = with(5_000, 1_200);
        // Their tokens went by another way.
        connection.execute("DELETE FROM tokens WHERE kind = 'login'", []).expect("deleted");
        for left in [700, 200, 0] {
            let (removed, steps) = measured(&mut connection, 50);
            assert_eq!((removed, count(&connection, "bumps")), (0, left));
            assert!(steps < 100_000, "{steps}");
        }
        assert_eq!(count(&connection, "tokens"), 5_000);
    }

    #[test]
    fn a_client_is_deleted_in_one_row_and_its_tokens_bit_by_bit() {
        let mut connection = with(5_000, 0);
        let id = connection.query_row("SELECT id FROM clients", [], |row| get(row, 0)).expect("there");
        let (deleted, steps) =
            counting(&mut connection, |connection| clients::delete(connection, id, Timestamp::MAX).expect("deleted"));
        assert!(deleted && steps < 200, "{steps}");
        assert!(!clients::delete(&connection, id, Timestamp::MAX).expect("asked"), "gone");
        assert!(clients::now(&connection, id).expect("asked").is_none());
        connection
            .execute(
                "INSERT INTO clients (id, name, policy, allow_login, metadata, created_at)
                 VALUES (randomblob(16), 'default', '{}', 1, '{}', 0)",
                [],
            )
            .expect("its name is free at once");

        for left in [3_000, 1_000, 0] {
            // However short a time they have been dead.
            let (removed, steps) =
                counting(&mut connection, |connection| purge(connection, Timestamp::MIN, 2_000).expect("purged"));
            assert_eq!(count(&connection, "tokens"), left);
            assert!(removed <= 2_000 && steps < 700_000, "{removed} {steps}");
        }
        assert_eq!(count(&connection, "clients"), 1, "and the client itself");
        assert_eq!(measured(&mut connection, 2_000).0, 0);
    }

    #[test]
    fn a_bump_that_ends_nothing_is_not_written_down() {
        let mut connection = with(100, 1);
        let ada: SubjectId = "ada".parse().expect("a subject");
        for keys_too in [false, true, true, true] {
            let bump = Bump::Subject { id: ada.clone(), keys_too, keep: None };
            subjects::bump(&connection, &bump, Timestamp::MIN).expect("bumped");
        }
        assert_eq!(count(&connection, "bumps"), 2, "one for the login token, one for the keys");
        for _ in 0..5 {
            subjects::bump(&connection, &Bump::Deployment, Timestamp::MIN).expect("bumped");
        }
        assert_eq!(count(&connection, "bumps"), 3);
        assert_eq!(measured(&mut connection, 1_000).0, 101);
        assert_eq!(count(&connection, "tokens"), 0);
    }
}
