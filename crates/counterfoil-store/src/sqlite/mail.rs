//! The queue of mails, the links and the registrations.

use counterfoil_core::link::{Link, Purpose};
use counterfoil_core::mail::{MailId, MailOrder, Registration, Waiting};
use counterfoil_core::secret::TokenDigest;
use counterfoil_core::store::Claimed;
use counterfoil_core::{Email, SubjectId, Timestamp};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, Rows, params};

use super::column::{Column, get, if_any};
use super::fault::Fault;
use super::readers::Reader;

const ADD: &str = "
    INSERT INTO mails (id, kind, purpose, subject, recipient, languages, next, asked_at, expires_at, next_try_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?8)";

const REGISTER: &str = "
    INSERT INTO registrations (subject, username, email, password, first_name, last_name, locale, expires_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

/// See [`counterfoil_core::MailStore::post`].
pub(super) fn post(
    connection: &Connection,
    orders: &[MailOrder],
    registration: Option<&Registration>,
    most: u64,
) -> Result<bool, Fault> {
    if count(connection)? + orders.len() as u64 > most {
        return Ok(false);
    }
    let mut add = connection.prepare_cached(ADD)?;
    for order in orders {
        add.execute(params![
            Column(order.id),
            Column(&order.kind),
            if_any(order.kind.ends_with()),
            Column(&order.subject),
            Column(&order.to),
            Column(&order.languages),
            order.next,
            Column(order.asked_at),
            Column(order.expires_at),
        ])?;
    }
    if let Some(registration) = registration {
        connection.prepare_cached(REGISTER)?.execute(params![
            Column(&registration.subject),
            Column(&registration.username),
            Column(&registration.email),
            Column(&registration.password),
            registration.first_name,
            registration.last_name,
            registration.locale,
            Column(registration.expires_at),
        ])?;
    }
    Ok(true)
}

/// The index by expiry is the narrowest one.
fn count(connection: &Connection) -> Result<u64, Fault> {
    const COUNT: &str = "SELECT count(*) FROM mails INDEXED BY mails_by_expiry";
    Ok(connection.prepare_cached(COUNT)?.query_row([], |row| get(row, 0))?)
}

/// Read by [`parse`].
const SELECT: &str = "
    SELECT id, kind, subject, recipient, languages, next, asked_at, expires_at, tries, next_try_at, last_error FROM mails";

fn parse(row: &Row<'_>) -> rusqlite::Result<Waiting> {
    Ok(Waiting {
        order: MailOrder {
            id: get(row, 0)?,
            kind: get(row, 1)?,
            subject: get(row, 2)?,
            to: get(row, 3)?,
            languages: get(row, 4)?,
            next: row.get(5)?,
            asked_at: get(row, 6)?,
            expires_at: get(row, 7)?,
        },
        tries: row.get(8)?,
        next_try_at: get(row, 9)?,
        last_error: row.get(10)?,
    })
}

/// Whether there is anything to claim: asked twice a second, and mostly there is not.
pub(super) fn is_any_due(reader: &Reader, now: &Timestamp) -> Result<bool, Fault> {
    const ANY: &str = "
        SELECT EXISTS (SELECT 1 FROM mails WHERE next_try_at <= ?1) OR EXISTS (SELECT 1 FROM mails WHERE expires_at <= ?1)";
    Ok(reader.connection.prepare_cached(ANY)?.query_row([Column(*now)], |row| row.get(0))?)
}

/// See [`counterfoil_core::MailStore::claim`].
pub(super) fn claim(connection: &Connection, now: Timestamp, until: Timestamp, limit: u32) -> Result<Claimed, Fault> {
    const CLAIM: &str = "UPDATE mails SET next_try_at = ?2, tries = tries + 1 WHERE id = ?1";
    const PUT_OFF: &str = "UPDATE mails SET next_try_at = ?2, last_error = ?3 WHERE id = ?1";
    let mut select = connection.prepare_cached(&format!("{SELECT} WHERE expires_at <= ?1 LIMIT 1000"))?;
    let (expired, useless) = read_each(&mut select.query([Column(now)])?)?;
    for one in &expired {
        done(connection, one.order.id)?;
    }
    for id in &useless {
        connection.prepare_cached(DELETE)?.execute([id])?;
    }
    let due = format!("{SELECT} WHERE next_try_at <= ?1 ORDER BY next_try_at, id LIMIT ?2");
    let mut select = connection.prepare_cached(&due)?;
    let (mut due, unread) = read_each(&mut select.query(params![Column(now), limit])?)?;
    for one in &mut due {
        connection.prepare_cached(CLAIM)?.execute(params![Column(one.order.id), Column(until)])?;
        one.tries += 1;
        one.next_try_at = until;
    }
    let later = now.plus_millis(UNREADABLE_FOR);
    for id in &unread {
        connection.prepare_cached(PUT_OFF)?.execute(params![id, Column(later), UNREADABLE])?;
    }
    if !unread.is_empty() || !useless.is_empty() {
        tracing::warn!(
            put_off = unread.len(),
            removed = useless.len(),
            "mails in the queue cannot be read by this version: they are tried again in an hour, and removed when they have expired"
        );
    }
    Ok(Claimed { due, expired })
}

/// What is noted with a mail of a later version, or a damaged one.
const UNREADABLE: &str = "cannot be read by this version";
/// How long such a mail is left alone, in milliseconds: a later version may come back.
const UNREADABLE_FOR: u64 = 60 * 60 * 1_000;

/// Those that can be read, and the ids of the others: one that a later version has queued must not stop all that come after it.
fn read_each(rows: &mut Rows<'_>) -> Result<(Vec<Waiting>, Vec<Value>), Fault> {
    let (mut read, mut unread) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        match parse(row) {
            Ok(one) => read.push(one),
            Err(_) => unread.push(row.get(0)?),
        }
    }
    Ok((read, unread))
}

const DELETE: &str = "DELETE FROM mails WHERE id = ?1";

/// See [`counterfoil_core::MailStore::done`].
pub(super) fn done(connection: &Connection, id: MailId) -> Result<(), Fault> {
    connection.prepare_cached(DELETE)?.execute([Column(id)])?;
    Ok(())
}

/// See [`counterfoil_core::MailStore::postpone`].
pub(super) fn postpone(connection: &Connection, id: MailId, next_try_at: Timestamp, error: &str) -> Result<(), Fault> {
    const POSTPONE: &str = "UPDATE mails SET next_try_at = ?2, last_error = ?3 WHERE id = ?1";
    connection.prepare_cached(POSTPONE)?.execute(params![Column(id), Column(next_try_at), error])?;
    Ok(())
}

/// See [`counterfoil_core::MailStore::waiting_count`].
pub(super) fn waiting_count(reader: &Reader) -> Result<u64, Fault> {
    count(&reader.connection)
}

/// See [`counterfoil_core::MailStore::waiting`].
pub(super) fn waiting(reader: &Reader, limit: u32) -> Result<Vec<Waiting>, Fault> {
    let mut select = reader.connection.prepare_cached(&format!("{SELECT} ORDER BY next_try_at, id LIMIT ?1"))?;
    Ok(read_each(&mut select.query([limit])?)?.0)
}

/// See [`counterfoil_core::MailStore::keep_link`].
pub(super) fn keep_link(connection: &Connection, link: &Link) -> Result<bool, Fault> {
    const KEEP: &str = "
        INSERT INTO links (digest, purpose, subject, email, next, expires_at)
        SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE NOT EXISTS (SELECT 1 FROM links WHERE digest = ?1)";
    let kept = connection.prepare_cached(KEEP)?.execute(params![
        Column(&link.digest),
        Column(link.purpose),
        Column(&link.subject),
        Column(&link.email),
        link.next,
        Column(link.expires_at),
    ])?;
    Ok(kept == 1)
}

fn find(connection: &Connection, digest: &TokenDigest) -> Result<Option<Link>, Fault> {
    const FIND: &str = "SELECT digest, purpose, subject, email, next, expires_at FROM links WHERE digest = ?1";
    let parse = |row: &Row<'_>| {
        Ok(Link {
            digest: get(row, 0)?,
            purpose: get(row, 1)?,
            subject: get(row, 2)?,
            email: get(row, 3)?,
            next: row.get(4)?,
            expires_at: get(row, 5)?,
        })
    };
    Ok(connection.prepare_cached(FIND)?.query_row([Column(digest)], parse).optional()?)
}

/// See [`counterfoil_core::MailStore::link`].
pub(super) fn link(reader: &Reader, digest: &TokenDigest) -> Result<Option<Link>, Fault> {
    find(&reader.connection, digest)
}

/// See [`counterfoil_core::MailStore::has_link`].
pub(super) fn has_link(
    reader: &Reader,
    (subject, purpose, now): &(SubjectId, Purpose, Timestamp),
) -> Result<bool, Fault> {
    const HAS: &str = "
        SELECT EXISTS (SELECT 1 FROM links WHERE subject = ?1 AND purpose = ?2 AND expires_at > ?3)
            OR EXISTS (SELECT 1 FROM mails WHERE subject = ?1 AND purpose = ?2)";
    let mut statement = reader.connection.prepare_cached(HAS)?;
    Ok(statement.query_row(params![Column(subject), Column(*purpose), Column(*now)], |row| row.get(0))?)
}

/// See [`counterfoil_core::MailStore::use_link`].
pub(super) fn use_link(
    connection: &Connection,
    digest: &TokenDigest,
    purpose: Purpose,
    now: Timestamp,
) -> Result<Option<Link>, Fault> {
    const END: &str = "DELETE FROM links WHERE subject = ?1 AND purpose = ?2";
    let found = find(connection, digest)?.filter(|link| link.purpose == purpose && now < link.expires_at);
    if let Some(link) = &found {
        connection.prepare_cached(END)?.execute(params![Column(&link.subject), Column(purpose)])?;
    }
    Ok(found)
}

/// See [`counterfoil_core::MailStore::drop_links`].
pub(super) fn drop_links(connection: &Connection, subject: &SubjectId, purposes: &[Purpose]) -> Result<(), Fault> {
    for sql in [
        "DELETE FROM links WHERE subject = ?1 AND purpose = ?2",
        "DELETE FROM mails WHERE subject = ?1 AND purpose = ?2",
    ] {
        for purpose in purposes {
            connection.prepare_cached(sql)?.execute(params![Column(subject), Column(*purpose)])?;
        }
    }
    Ok(())
}

/// Forgets every link and registration, and the mails that would bring more of them: of a database that was rewound nobody
/// knows which were used.
pub(super) fn forget_links(connection: &Connection) -> Result<(), Fault> {
    for sql in ["DELETE FROM links", "DELETE FROM registrations", "DELETE FROM mails WHERE purpose IS NOT NULL"] {
        connection.execute(sql, [])?;
    }
    Ok(())
}

/// Read by [`parse_registration`].
const REGISTRATION: &str = "
    SELECT subject, username, email, password, first_name, last_name, locale, expires_at FROM registrations";

fn parse_registration(row: &Row<'_>) -> rusqlite::Result<Registration> {
    Ok(Registration {
        subject: get(row, 0)?,
        username: get(row, 1)?,
        email: get(row, 2)?,
        password: get(row, 3)?,
        first_name: row.get(4)?,
        last_name: row.get(5)?,
        locale: row.get(6)?,
        expires_at: get(row, 7)?,
    })
}

/// See [`counterfoil_core::MailStore::registration`].
pub(super) fn registration(reader: &Reader, subject: &SubjectId) -> Result<Option<Registration>, Fault> {
    let mut statement = reader.connection.prepare_cached(&format!("{REGISTRATION} WHERE subject = ?1"))?;
    Ok(statement.query_row([Column(subject)], parse_registration).optional()?)
}

/// See [`counterfoil_core::MailStore::registrations_of`].
pub(super) fn registrations_of(reader: &Reader, email: &Email, limit: u32) -> Result<Vec<Registration>, Fault> {
    let of_email = format!("{REGISTRATION} WHERE email = ?1 COLLATE NOCASE ORDER BY expires_at DESC, subject LIMIT ?2");
    let mut statement = reader.connection.prepare_cached(&of_email)?;
    Ok(statement.query_map(params![Column(email), limit], parse_registration)?.collect::<Result<_, _>>()?)
}

/// See [`counterfoil_core::MailStore::forget_registration`].
pub(super) fn forget_registration(connection: &Connection, subject: &SubjectId) -> Result<(), Fault> {
    connection.prepare_cached("DELETE FROM registrations WHERE subject = ?1")?.execute([Column(subject)])?;
    Ok(())
}

/// See [`counterfoil_core::MailStore::forget_expired`].
pub(super) fn forget_expired(connection: &Connection, now: Timestamp, batch: u32) -> Result<u64, Fault> {
    const LINKS: &str = "DELETE FROM links WHERE digest IN (SELECT digest FROM links WHERE expires_at <= ?1 LIMIT ?2)";
    const REGISTRATIONS: &str = "
        DELETE FROM registrations WHERE subject IN (SELECT subject FROM registrations WHERE expires_at <= ?1 LIMIT ?2)";
    let links = connection.prepare_cached(LINKS)?.execute(params![Column(now), batch])?;
    let registrations = connection.prepare_cached(REGISTRATIONS)?.execute(params![Column(now), batch])?;
    Ok((links + registrations) as u64)
}

/// See [`counterfoil_core::MailStore::advance_reminders`].
pub(super) fn advance_reminders(
    connection: &Connection,
    from: Option<Timestamp>,
    until: Timestamp,
) -> Result<bool, Fault> {
    const BEGIN: &str = "INSERT INTO reminders (one, until) SELECT 1, ?1 WHERE NOT EXISTS (SELECT 1 FROM reminders)";
    const ADVANCE: &str = "UPDATE reminders SET until = ?1 WHERE until = ?2";
    let advanced = match from {
        None => connection.prepare_cached(BEGIN)?.execute([Column(until)])?,
        Some(from) => connection.prepare_cached(ADVANCE)?.execute([Column(until), Column(from)])?,
    };
    Ok(advanced == 1)
}

/// See [`counterfoil_core::MailStore::reminded_until`].
pub(super) fn reminded_until(reader: &Reader) -> Result<Option<Timestamp>, Fault> {
    let mut statement = reader.connection.prepare_cached("SELECT until FROM reminders")?;
    Ok(statement.query_row([], |row| get(row, 0)).optional()?)
}

#[cfg(test)]
mod tests {
    use counterfoil_core::MailStore;
    use counterfoil_core::conformance::wait;
    use counterfoil_core::entropy::PredictableEntropy;
    use counterfoil_core::language::Languages;
    use counterfoil_core::mail::MailKind;

    use super::super::writer::Purpose as Writing;
    use super::super::{OpenOptions, SqliteStore};
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_172_400_000);
    const HOUR: u64 = 60 * 60 * 1_000;

    #[test]
    fn f35_a_mail_that_this_version_cannot_read_holds_no_other_up() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = SqliteStore::open(directory.path(), &OpenOptions::serve()).expect("a store");
        let entropy = PredictableEntropy::from_seed(7);
        let orders: Vec<MailOrder> = (0..3)
            .map(|after| MailOrder {
                id: MailId::generate(NOW, &entropy).expect("entropy"),
                kind: MailKind::ResetPassword,
                subject: "ada".parse().expect("a subject"),
                to: "ada@example.org".parse().expect("an address"),
                languages: Languages::of(None, None),
                next: None,
                asked_at: NOW.plus_millis(after),
                expires_at: NOW.plus_millis(2 * HOUR),
            })
            .collect();
        assert!(wait(store.post(&orders, None, 9)));
        let first = orders[0].id;
        let change = |sql: &'static str| {
            wait(store.write("changing", Writing::Ordinary, move |connection| {
                connection.execute(sql, [Column(first)])?;
                Ok(())
            }));
        };
        change("UPDATE mails SET kind = '{\"kind\":\"of_a_later_version\"}' WHERE id = ?1");

        let ids = |waiting: &[Waiting]| waiting.iter().map(|one| one.order.id).collect::<Vec<_>>();
        let others = [orders[1].id, orders[2].id];
        assert_eq!(ids(&wait(store.waiting(9))), others);
        let (now, until) = (NOW.plus_millis(5), NOW.plus_millis(2 * HOUR - 1));
        assert!(wait(store.claim(now, until, 1)).due.is_empty());
        assert_eq!(ids(&wait(store.claim(now, until, 9)).due), others, "it is not in the way any more");
        assert_eq!(wait(store.waiting_count()), 3, "and it is not lost");

        change("UPDATE mails SET kind = '{\"kind\":\"reset_password\"}' WHERE id = ?1");
        let noted = wait(store.waiting(1)).remove(0);
        assert_eq!((noted.order.id, noted.next_try_at), (first, now.plus_millis(HOUR)));
        assert_eq!(noted.last_error.as_deref(), Some("cannot be read by this version"));

        // Of no use any more, it would be due for ever.
        change("UPDATE mails SET kind = 'x' WHERE id = ?1");
        let claimed = wait(store.claim(NOW.plus_millis(2 * HOUR), NOW.plus_millis(3 * HOUR), 9));
        assert_eq!((claimed.due.len(), claimed.expired.len()), (0, 2));
        assert_eq!(wait(store.waiting_count()), 0);
    }
}
