//! The database, and what is in it.

use counterfoil::sqlite::{Inspection, LeftBehind, Pages, inspect};
use counterfoil::{AuditQuery, Clock, Now, SystemClock, Timestamp};

use super::Report;
use crate::config::Config;
use crate::failure::Failure;
use crate::office::Office;
use crate::output::{Output, size};

/// A database of this size is read through beside a server as well: it takes a second or so.
const READ_BESIDE: u64 = 512 * 1024 * 1024;
/// From here on a write-ahead log is one that something keeps from being begun anew.
const LARGE_LOG: u64 = 128 * 1024 * 1024;
/// The program did not exist before; a clock that says so is wrong. Moved on with each release.
const WRITTEN: &str = "2026-11-01T00:00:00Z";

/// Looks at the database, and at what is kept if `tokens` are reached; returns whether a server runs on it, where that could be told.
pub(super) async fn look(config: &Config, tokens: bool, report: &mut Report) -> Option<bool> {
    let now = SystemClock.now();
    clocks(now, report);
    let inspection = match inspect(&config.data_dir, READ_BESIDE) {
        Ok(inspection) => inspection,
        Err(error) => {
            report.failed("database", &Failure::from(error));
            return None;
        }
    };
    database(&inspection, report);
    let sound = !matches!(inspection.pages, Pages::Damaged(_));
    // Opening it would bring an older schema to the newest.
    if tokens && sound && inspection.schema == inspection.known_schema {
        look_inside(config, report).await;
    }
    Some(inspection.served)
}

/// Looks at what is kept, by whatever store.
pub(super) async fn look_inside(config: &Config, report: &mut Report) {
    match Office::open(config, false, Output::Human).await {
        Ok(office) => {
            if let Some(tally) = office.tally() {
                report.ok("tally", format!("the tokens in Redis are those of these accounts: both have {tally}"));
            }
            records(&office, office.now(), report).await;
            office.close().await;
        }
        Err(failure) => report.failed("database", &failure),
    }
}

fn clocks(now: Now, report: &mut Report) {
    if now.boot.is_none() {
        report.warning(
            "clock",
            "this system has no clock that runs on through a suspend",
            "limits and delays may be too short after one; Linux has such a clock",
        );
    }
    if WRITTEN.parse::<Timestamp>().is_ok_and(|written| now.wall < written) {
        report.fault(
            "clock",
            format!("it is {} by the clock of this machine, which is before this program was written", now.wall),
            "set the clock; tokens expire by it",
        );
    } else {
        report.ok("clock", format!("it is {}", now.wall));
    }
}

fn database(inspection: &Inspection, report: &mut Report) {
    let bytes = size(inspection.database_bytes);
    match &inspection.pages {
        Pages::Sound => report.ok("database", format!("{bytes}, every page of them was read")),
        Pages::Unread => report.ok("database", format!("{bytes}, not read through while a server runs")),
        Pages::Damaged(what) => {
            report.fault("database", format!("it is damaged: {what}"), "restore a backup, and look at the disk");
        }
    }
    let Inspection { schema, known_schema, .. } = inspection;
    if schema < known_schema {
        report.warning(
            "schema",
            format!("it has schema {schema} and this program {known_schema}"),
            "the next start brings it up and keeps a copy as it was; nothing inside it was looked at",
        );
    }
    match inspection.left {
        LeftBehind::Nothing | LeftBehind::Shut | LeftBehind::Disturbed => {}
        LeftBehind::Open => report.warning(
            "last stop",
            "the last server did not stop in order: it was killed, or the power went",
            "nothing acknowledged is lost; the next start reads the file through first",
        ),
    }
    if inspection.write_ahead_bytes >= LARGE_LOG {
        report.warning(
            "log file",
            format!("counterfoil.db-wal has {}", size(inspection.write_ahead_bytes)),
            "some process reads without end; see docs/backup.md",
        );
    }
    if inspection.served && !inspection.reserve_held {
        report.warning(
            "reserve",
            "counterfoil.reserve, the room for revocations on a full disk, is gone",
            "make room on the disk; the server makes it anew",
        );
    }
    report.locked_out(inspection.locked_out);
}

async fn records(office: &Office, now: Now, report: &mut Report) {
    match office.authority().has_administrator().await {
        Ok(true) => report.ok("administrator", "there is one"),
        Ok(false) => report.warning(
            "administrator",
            "there is none",
            "counterfoil user create root --admin --password-stdin < FILE",
        ),
        Err(error) => report.failed("administrator", &error.into()),
    }
    match office.authority().audit(&AuditQuery { limit: 1, ..AuditQuery::default() }, now).await {
        Ok(page) => match page.entries.first() {
            Some(newest) if newest.entry.at > now.wall => report.fault(
                "clock",
                format!("the newest audit entry is of {}, which is later than it is", newest.entry.at),
                "set the clock: it was right then or is now",
            ),
            Some(newest) => report.ok("audit log", format!("the newest entry is of {}", newest.entry.at)),
            None => report.ok("audit log", "empty"),
        },
        Err(error) => report.failed("audit log", &error.into()),
    }
    mails(office, report).await;
    sealed(office, report).await;
}

/// Whether mails wait because none are sent.
async fn mails(office: &Office, report: &mut Report) {
    match office.authority().mails_waiting(1).await {
        Ok((_, 0)) => report.ok("mails", "none wait"),
        Ok((waiting, count)) => match waiting.into_iter().find_map(|mail| mail.last_error) {
            Some(error) => report.warning(
                "mails",
                format!("{count} wait; what went wrong last with the next of them: {error}"),
                "`counterfoil mail queue` lists them, `counterfoil mail test ADDRESS` sends one now",
            ),
            None => report.ok("mails", format!("{count} wait to be sent")),
        },
        Err(error) => report.failed("mails", &error.into()),
    }
}

/// Whether the ring opens every secret that is sealed.
async fn sealed(office: &Office, report: &mut Report) {
    let ids = office.key_ring_ids();
    // No key has the number 0 that we have made: without a ring all secrets are sealed with another one.
    let newest = ids.first().copied().unwrap_or(0);
    let others = match office.authority().sealed_otherwise(newest).await {
        Ok(others) => others,
        Err(error) => return report.failed("key ring", &error.into()),
    };
    let mut stale = 0;
    for (id, count) in others {
        if ids.contains(&id) {
            stale += count;
        } else {
            report.fault(
                "key ring",
                format!("{count} secrets are sealed with key {id}, which the ring does not have"),
                "put the ring back that has it; without it those users must log in anew",
            );
        }
    }
    if stale > 0 {
        report.warning(
            "key ring",
            format!("{stale} secrets are sealed with an older key"),
            "counterfoil keyring reseal",
        );
    }
}
