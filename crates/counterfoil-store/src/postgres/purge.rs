//! Removing what has been dead for long.

use std::sync::Arc;

use counterfoil_core::store::CHANGES_KEPT;
use counterfoil_core::{Epoch, Timestamp};

use super::clients;
use super::column::{get, value};
use super::fault::Fault;
use super::transaction::Transaction;

// What another node is removing at this moment is passed over.
const REVOKED: &str = "
    DELETE FROM tokens WHERE number IN (
        SELECT number FROM tokens WHERE revoked_at <= $1 ORDER BY revoked_at LIMIT $2 FOR UPDATE SKIP LOCKED
    )";

const EXPIRED: &str = "
    DELETE FROM tokens WHERE number IN (
        SELECT number FROM tokens WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED
    )";

const RETIRED: &str = "
    DELETE FROM retired WHERE digest IN (
        SELECT digest FROM retired WHERE retired_at <= $1 ORDER BY retired_at LIMIT $2 FOR UPDATE SKIP LOCKED
    )";

const TRIM: &str = "
    DELETE FROM log WHERE n IN (
        SELECT n FROM log WHERE n <= (SELECT max(n) FROM log) - $1 ORDER BY n LIMIT $2 FOR UPDATE SKIP LOCKED
    )";

/// Bumps that one purge looks at. Those whose tokens went by another way remove no row, so the batch does not bound them.
const BUMPS: usize = 500;

/// See [`counterfoil_core::TokenStore::purge`]. Each part finds what goes in an index and reads no token that stays.
pub(super) async fn purge(transaction: Transaction, wanted: Arc<(Timestamp, u32)>) -> Result<u64, Fault> {
    let (dead_since, batch) = (wanted.0, u64::from(wanted.1));
    let mut removed = 0;
    for sql in [REVOKED, EXPIRED] {
        removed += transaction.execute(sql, &[value(dead_since), value(batch - removed)]).await?;
    }
    removed += outlived(&transaction, dead_since, batch - removed).await?;
    // Dead by name and not by time: there is no going back that they would have to be kept for.
    removed += clients::sweep(&transaction, batch - removed).await?;
    removed += transaction.execute(RETIRED, &[value(dead_since), value(batch - removed)]).await?;
    removed += transaction.execute(TRIM, &[value(CHANGES_KEPT), value(batch - removed)]).await?;
    Ok(removed)
}

const OLDEST_BUMP: &str = "
    SELECT number, what, target, epoch, up_to FROM bumps WHERE at <= $1 ORDER BY at LIMIT 1 FOR UPDATE SKIP LOCKED";

const DONE: &str = "DELETE FROM bumps WHERE number = $1";

/// Tokens that a bumped epoch or a burial ended. An epoch of a subject is in the index, because keys and a kept token
/// outlive it; one of a client or of everybody, and a burial, spare no token up to the greatest number of their time.
async fn outlived(transaction: &Transaction, dead_since: Timestamp, room: u64) -> Result<u64, Fault> {
    let mut removed = 0;
    for _ in 0..BUMPS {
        if removed == room {
            break;
        }
        let Some(oldest) = transaction.query_opt(OLDEST_BUMP, &[value(dead_since)]).await? else { break };
        let number: i64 = get(&oldest, 0)?;
        let (target, epoch, up_to): (i64, Epoch, i64) = (get(&oldest, 2)?, get(&oldest, 3)?, get(&oldest, 4)?);
        let left = room - removed;
        let sql = ended_by(oldest.try_get(1)?)?;
        let gone = transaction.execute(sql, &[value(target), value(epoch), value(up_to), value(left)]).await?;
        removed += gone;
        if gone < left {
            transaction.execute(DONE, &[value(number)]).await?;
        }
    }
    Ok(removed)
}

const BY_LOGIN_EPOCH: &str = "
    DELETE FROM tokens WHERE number IN (
        SELECT number FROM tokens
        WHERE subject = $1 AND kind = 'login' AND subject_epoch < $2 AND revoked_at IS NULL AND number <= $3 LIMIT $4
    )";

const BY_KEY_EPOCH: &str = "
    DELETE FROM tokens WHERE number IN (
        SELECT number FROM tokens
        WHERE subject = $1 AND kind = 'key' AND subject_epoch < $2 AND revoked_at IS NULL AND number <= $3 LIMIT $4
    )";

const BY_CLIENT_EPOCH: &str = "
    DELETE FROM tokens WHERE number IN (
        SELECT number FROM tokens WHERE client = $1 AND client_epoch < $2 AND number <= $3 ORDER BY number LIMIT $4
    )";

const BY_DEPLOYMENT_EPOCH: &str = "
    DELETE FROM tokens WHERE number IN (
        SELECT number FROM tokens WHERE $1 = 0 AND deployment_epoch < $2 AND number <= $3 ORDER BY number LIMIT $4
    )";

const BY_BURIAL: &str = "
    DELETE FROM tokens WHERE number IN (
        SELECT number FROM tokens WHERE subject = $1 AND $2 = 0 AND number <= $3 ORDER BY number LIMIT $4
    )";

fn ended_by(what: &str) -> Result<&'static str, Fault> {
    match what {
        "login" => Ok(BY_LOGIN_EPOCH),
        "key" => Ok(BY_KEY_EPOCH),
        "client" => Ok(BY_CLIENT_EPOCH),
        "deployment" => Ok(BY_DEPLOYMENT_EPOCH),
        "buried" => Ok(BY_BURIAL),
        _ => Err(Fault::Unreadable("not a kind of bump")),
    }
}
