//! The queue of mails, the links and the registrations.

use std::sync::Arc;

use counterfoil_core::link::{Link, Purpose};
use counterfoil_core::mail::{MailId, MailOrder, Registration, Waiting};
use counterfoil_core::secret::TokenDigest;
use counterfoil_core::store::{Answer, Claimed};
use counterfoil_core::{Email, MailStore, SubjectId, Timestamp};
use tokio_postgres::Row;

use super::PostgresStore;
use super::column::{Value, get, get_if_any, if_any, printable, value};
use super::fault::Fault;
use super::session::{Session, Step};
use super::transaction::Transaction;

// ── The queue ───────────────────────────────────────────────────────────────────────────────────────────────────────

// How many are waiting no constraint can say, so those who add some come one after the other. The number is ours alone: the first
// eight bytes of a digest of "counterfoil mails".
const LOCK_QUEUE: &str = "SELECT pg_advisory_xact_lock(-4564982445536091814)";

const COUNT: &str = "SELECT count(*) FROM mails";

const ADD: &str = "
    INSERT INTO mails (id, kind, purpose, subject, recipient, languages, next, asked_at, expires_at, next_try_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $8)";

const REGISTER: &str = "
    INSERT INTO registrations (subject, username, email, password, first_name, last_name, locale, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

struct Posting {
    orders: Vec<MailOrder>,
    registration: Option<Registration>,
    most: u64,
}

async fn post(transaction: Transaction, posting: Arc<Posting>) -> Result<bool, Fault> {
    let Posting { orders, registration, most } = &*posting;
    let [_, counted] = transaction.flight([(LOCK_QUEUE, &[]), (COUNT, &[])]).await?;
    let waiting: u64 = get(counted.first().ok_or(Fault::Miscounted)?, 0)?;
    if waiting + orders.len() as u64 > *most {
        return Ok(false);
    }
    let mails: Vec<_> = orders.iter().map(columns).collect();
    let registered = registration.as_ref().map(registration_columns);
    let mut steps: Vec<Step<'_>> = mails.iter().map(|values| (ADD, values.as_slice())).collect();
    steps.extend(registered.iter().map(|values| (REGISTER, values.as_slice())));
    transaction.fly(&steps).await.map_err(|(_, fault)| fault)?;
    Ok(true)
}

fn columns(order: &MailOrder) -> [Value<'_>; 9] {
    [
        value(order.id),
        value(&order.kind),
        if_any(order.kind.ends_with()),
        value(&order.subject),
        value(&order.to),
        value(&order.languages),
        if_any(order.next.as_deref()),
        value(order.asked_at),
        value(order.expires_at),
    ]
}

fn registration_columns(registration: &Registration) -> [Value<'_>; 8] {
    [
        value(&registration.subject),
        value(&registration.username),
        value(&registration.email),
        value(&registration.password),
        value(registration.first_name.as_str()),
        value(registration.last_name.as_str()),
        if_any(registration.locale.as_deref()),
        value(registration.expires_at),
    ]
}

/// The columns of a mail; read by [`parse`].
macro_rules! mail {
    () => {
        "mails.id, kind, subject, recipient, languages, next, asked_at, expires_at, tries, mails.next_try_at, last_error"
    };
}

fn parse(row: &Row) -> Result<Waiting, Fault> {
    Ok(Waiting {
        order: MailOrder {
            id: get(row, 0)?,
            kind: get(row, 1)?,
            subject: get(row, 2)?,
            to: get(row, 3)?,
            languages: get(row, 4)?,
            next: get_if_any(row, 5)?,
            asked_at: get(row, 6)?,
            expires_at: get(row, 7)?,
        },
        tries: get(row, 8)?,
        next_try_at: get(row, 9)?,
        last_error: get_if_any(row, 10)?,
    })
}

/// Those that can be read, and the ids of the others: one that a later version has queued must not stop all that come after it.
fn read_each(rows: &[Row]) -> Result<(Vec<Waiting>, Vec<MailId>), Fault> {
    let (mut read, mut unread) = (Vec::new(), Vec::new());
    for row in rows {
        match parse(row) {
            Ok(one) => read.push(one),
            Err(_) => unread.push(get(row, 0)?),
        }
    }
    Ok((read, unread))
}

/// Whether there is anything to claim: asked twice a second by every node, and mostly there is not.
const IS_ANY_DUE: &str = "
    SELECT EXISTS (SELECT 1 FROM mails WHERE next_try_at <= $1) OR EXISTS (SELECT 1 FROM mails WHERE expires_at <= $1)";

// What another node is taking is passed over, not waited for.
const EXPIRE: &str = concat!(
    "DELETE FROM mails WHERE id IN (SELECT id FROM mails WHERE expires_at <= $1 LIMIT 1000 FOR UPDATE SKIP LOCKED) RETURNING ",
    mail!()
);

const CLAIM: &str = concat!(
    "WITH due AS (
        SELECT id, next_try_at FROM mails WHERE next_try_at <= $1 AND expires_at > $1
        ORDER BY next_try_at, id LIMIT $2 FOR UPDATE SKIP LOCKED
    )
    UPDATE mails SET next_try_at = $3, tries = tries + 1 FROM due WHERE mails.id = due.id RETURNING ",
    mail!(),
    ", due.next_try_at"
);

// It has not been tried.
const PUT_OFF: &str = "UPDATE mails SET next_try_at = $2, last_error = $3, tries = tries - 1 WHERE id = ANY($1)";

/// What is noted with a mail of a later version, or a damaged one.
const UNREADABLE: &str = "cannot be read by this version";
/// How long such a mail is left alone, in milliseconds: a later version may come back.
const UNREADABLE_FOR: u64 = 60 * 60 * 1_000;

struct Claiming {
    now: Timestamp,
    until: Timestamp,
    limit: u32,
}

async fn claim(transaction: Transaction, claiming: Arc<Claiming>) -> Result<Claimed, Fault> {
    let Claiming { now, until, limit } = *claiming;
    let (as_of, due) = ([value(now)], [value(now), value(limit), value(until)]);
    let [expired, mut due] = transaction.flight([(EXPIRE, &as_of), (CLAIM, &due)]).await?;
    let (expired, useless) = read_each(&expired)?;
    // An UPDATE gives its rows in no order.
    let was_due = |row: &Row| Ok::<_, Fault>((get::<i64>(row, 11)?, get::<MailId>(row, 0)?));
    for row in &due {
        was_due(row)?;
    }
    due.sort_by_key(|row| was_due(row).ok());
    let (due, unread) = read_each(&due)?;
    if !unread.is_empty() {
        let later = now.plus_millis(UNREADABLE_FOR);
        let ids = Value::Ids(unread.iter().map(|id| Some(*id.as_bytes())).collect());
        transaction.execute(PUT_OFF, &[ids, value(later), value(UNREADABLE)]).await?;
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

const DONE: &str = "DELETE FROM mails WHERE id = $1";

const POSTPONE: &str = "UPDATE mails SET next_try_at = $2, last_error = $3 WHERE id = $1";

async fn count(session: Arc<Session>, _: Arc<()>) -> Result<u64, Fault> {
    get(&session.query_one(COUNT, &[]).await?, 0)
}

const WAITING: &str = concat!("SELECT ", mail!(), " FROM mails ORDER BY next_try_at, id LIMIT $1");

async fn waiting(session: Arc<Session>, limit: Arc<u32>) -> Result<Vec<Waiting>, Fault> {
    Ok(read_each(&session.query(WAITING, &[value(*limit)]).await?)?.0)
}

// ── Links ───────────────────────────────────────────────────────────────────────────────────────────────────────────

const KEEP: &str = "
    INSERT INTO links (digest, purpose, subject, email, next, expires_at) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (digest) DO NOTHING";

/// See [`counterfoil_core::MailStore::keep_link`].
pub(super) async fn keep_link(transaction: Transaction, link: Arc<Link>) -> Result<bool, Fault> {
    let values = [
        value(&link.digest),
        value(link.purpose),
        value(&link.subject),
        value(&link.email),
        if_any(link.next.as_deref()),
        value(link.expires_at),
    ];
    Ok(transaction.execute(KEEP, &values).await? == 1)
}

const FIND: &str = "SELECT digest, purpose, subject, email, next, expires_at FROM links WHERE digest = $1";

fn parse_link(row: &Row) -> Result<Link, Fault> {
    Ok(Link {
        digest: get(row, 0)?,
        purpose: get(row, 1)?,
        subject: get(row, 2)?,
        email: get(row, 3)?,
        next: get_if_any(row, 4)?,
        expires_at: get(row, 5)?,
    })
}

const HAS: &str = "
    SELECT EXISTS (SELECT 1 FROM links WHERE subject = $1 AND purpose = $2 AND expires_at > $3)
        OR EXISTS (SELECT 1 FROM mails WHERE subject = $1 AND purpose = $2)";

// All that go together, in one order: of two that use two of them at once, the second finds none.
const LOCK_LINKS: &str = "
    SELECT digest, purpose, subject, email, next, expires_at FROM links
    WHERE subject = (SELECT subject FROM links WHERE digest = $1) AND purpose = $2
    ORDER BY digest FOR UPDATE";

const USE_UP: &str = "DELETE FROM links WHERE subject = $1 AND purpose = $2";

async fn use_link(
    transaction: Transaction,
    wanted: Arc<(TokenDigest, Purpose, Timestamp)>,
) -> Result<Option<Link>, Fault> {
    let (digest, purpose, now) = &*wanted;
    let rows = transaction.query(LOCK_LINKS, &[value(digest), value(*purpose)]).await?;
    let links = rows.iter().map(parse_link).collect::<Result<Vec<_>, _>>()?;
    let found = links.into_iter().find(|link| link.digest == *digest && *now < link.expires_at);
    if let Some(link) = &found {
        transaction.execute(USE_UP, &[value(&link.subject), value(*purpose)]).await?;
    }
    Ok(found)
}

const DROP_LINKS: &str = "
    DELETE FROM links WHERE digest IN (
        SELECT digest FROM links WHERE subject = $1 AND purpose = ANY($2) ORDER BY digest FOR UPDATE
    )";
const DROP_MAILS: &str = "
    DELETE FROM mails WHERE id IN (
        SELECT id FROM mails WHERE subject = $1 AND purpose = ANY($2) ORDER BY id FOR UPDATE
    )";

async fn drop_links(transaction: Transaction, wanted: Arc<(SubjectId, Vec<Purpose>)>) -> Result<(), Fault> {
    let (subject, purposes) = &*wanted;
    let purposes = || Value::Texts(purposes.iter().map(|purpose| Some(purpose.as_str().into())).collect());
    let values = [value(subject), purposes()];
    transaction.flight([(DROP_LINKS, &values), (DROP_MAILS, &values)]).await?;
    Ok(())
}

// ── Registrations ───────────────────────────────────────────────────────────────────────────────────────────────────

const REGISTRATION: &str = "
    SELECT subject, username, email, password, first_name, last_name, locale, expires_at FROM registrations
    WHERE subject = $1";

// The expression of the index: in the C collation it knows the case of ASCII alone, as the contract has it.
const REGISTRATIONS_OF: &str = "
    SELECT subject, username, email, password, first_name, last_name, locale, expires_at FROM registrations
    WHERE lower(email COLLATE \"C\") = lower($1 COLLATE \"C\") ORDER BY expires_at DESC, subject LIMIT $2";

fn parse_registration(row: &Row) -> Result<Registration, Fault> {
    Ok(Registration {
        subject: get(row, 0)?,
        username: get(row, 1)?,
        email: get(row, 2)?,
        password: get(row, 3)?,
        first_name: get(row, 4)?,
        last_name: get(row, 5)?,
        locale: get_if_any(row, 6)?,
        expires_at: get(row, 7)?,
    })
}

async fn registrations_of(session: Arc<Session>, wanted: Arc<(Email, u32)>) -> Result<Vec<Registration>, Fault> {
    let (email, limit) = &*wanted;
    let rows = session.query(REGISTRATIONS_OF, &[value(email), value(*limit)]).await?;
    rows.iter().map(parse_registration).collect()
}

const FORGET_REGISTRATION: &str = "DELETE FROM registrations WHERE subject = $1";

const FORGET_LINKS: &str = "
    DELETE FROM links WHERE digest IN (
        SELECT digest FROM links WHERE expires_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED
    ) RETURNING 1";
const FORGET_REGISTRATIONS: &str = "
    DELETE FROM registrations WHERE subject IN (
        SELECT subject FROM registrations WHERE expires_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED
    ) RETURNING 1";

async fn forget_expired(transaction: Transaction, wanted: Arc<(Timestamp, u32)>) -> Result<u64, Fault> {
    let (now, batch) = *wanted;
    let values = [value(now), value(batch)];
    let [links, registrations] = transaction.flight([(FORGET_LINKS, &values), (FORGET_REGISTRATIONS, &values)]).await?;
    Ok((links.len() + registrations.len()) as u64)
}

// ── Reminders ───────────────────────────────────────────────────────────────────────────────────────────────────────

const BEGIN_REMINDERS: &str = "INSERT INTO reminders (one, until) VALUES (true, $1) ON CONFLICT (one) DO NOTHING";
const ADVANCE_REMINDERS: &str = "UPDATE reminders SET until = $1 WHERE until = $2";
const REMINDED_UNTIL: &str = "SELECT until FROM reminders";

async fn advance_reminders(
    transaction: Transaction,
    wanted: Arc<(Option<Timestamp>, Timestamp)>,
) -> Result<bool, Fault> {
    let (from, until) = *wanted;
    let advanced = match from {
        None => transaction.execute(BEGIN_REMINDERS, &[value(until)]).await?,
        Some(from) => transaction.execute(ADVANCE_REMINDERS, &[value(until), value(from)]).await?,
    };
    Ok(advanced == 1)
}

impl MailStore for PostgresStore {
    fn post<'a>(
        &'a self,
        orders: &'a [MailOrder],
        registration: Option<&'a Registration>,
        most: u64,
    ) -> Answer<'a, bool> {
        let posting = Posting { orders: orders.to_vec(), registration: registration.cloned(), most };
        self.transact("queueing a mail", posting, post)
    }

    fn claim(&self, now: Timestamp, until: Timestamp, limit: u32) -> Answer<'_, Claimed> {
        let is_any_due = self.look_up("looking for mails that are due", async move |session| {
            get::<bool>(&session.query_one(IS_ANY_DUE, &[value(now)]).await?, 0)
        });
        Box::pin(async move {
            if !is_any_due.await? {
                return Ok(Claimed::default());
            }
            self.transact("taking mails to send", Claiming { now, until, limit }, claim).await
        })
    }

    fn done(&self, id: MailId) -> Answer<'_, ()> {
        self.transact("removing a mail from the queue", id, async move |transaction, id| {
            transaction.execute(DONE, &[value(*id)]).await.map(drop)
        })
    }

    fn postpone<'a>(&'a self, id: MailId, next_try_at: Timestamp, error: &'a str) -> Answer<'a, ()> {
        let wanted = (id, next_try_at, error.to_owned());
        self.transact("postponing a mail", wanted, async move |transaction, wanted| {
            let (id, next_try_at, error) = &*wanted;
            // Another server's words.
            let values = [value(*id), value(*next_try_at), value(printable(error))];
            transaction.execute(POSTPONE, &values).await.map(drop)
        })
    }

    fn waiting_count(&self) -> Answer<'_, u64> {
        self.read("counting mails", (), count)
    }

    fn waiting(&self, limit: u32) -> Answer<'_, Vec<Waiting>> {
        self.read("listing mails", limit, waiting)
    }

    fn keep_link<'a>(&'a self, link: &'a Link) -> Answer<'a, bool> {
        self.transact("keeping a link", link.clone(), keep_link)
    }

    fn link<'a>(&'a self, digest: &'a TokenDigest) -> Answer<'a, Option<Link>> {
        self.look_up("looking a link up", async move |session| {
            session.query_opt(FIND, &[value(digest)]).await?.as_ref().map(parse_link).transpose()
        })
    }

    fn has_link<'a>(&'a self, subject: &'a SubjectId, purpose: Purpose, now: Timestamp) -> Answer<'a, bool> {
        self.look_up("looking for a link", async move |session| {
            get(&session.query_one(HAS, &[value(subject), value(purpose), value(now)]).await?, 0)
        })
    }

    fn use_link<'a>(&'a self, digest: &'a TokenDigest, purpose: Purpose, now: Timestamp) -> Answer<'a, Option<Link>> {
        self.transact("using a link", (*digest, purpose, now), use_link)
    }

    fn drop_links<'a>(&'a self, subject: &'a SubjectId, purposes: &'a [Purpose]) -> Answer<'a, ()> {
        self.transact("removing links", (subject.clone(), purposes.to_vec()), drop_links)
    }

    fn registration<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, Option<Registration>> {
        self.look_up("looking a registration up", async move |session| {
            session.query_opt(REGISTRATION, &[value(subject)]).await?.as_ref().map(parse_registration).transpose()
        })
    }

    fn registrations_of<'a>(&'a self, email: &'a Email, limit: u32) -> Answer<'a, Vec<Registration>> {
        self.read("looking for registrations", (email.clone(), limit), registrations_of)
    }

    fn forget_registration<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, ()> {
        self.transact("forgetting a registration", subject.clone(), async move |transaction, subject| {
            transaction.execute(FORGET_REGISTRATION, &[value(&*subject)]).await.map(drop)
        })
    }

    fn forget_expired(&self, now: Timestamp, batch: u32) -> Answer<'_, u64> {
        self.transact("forgetting links that have expired", (now, batch), forget_expired)
    }

    fn advance_reminders(&self, from: Option<Timestamp>, until: Timestamp) -> Answer<'_, bool> {
        self.transact("noting who has been reminded", (from, until), advance_reminders)
    }

    fn reminded_until(&self) -> Answer<'_, Option<Timestamp>> {
        self.look_up("looking up who has been reminded", async move |session| {
            session.query_opt(REMINDED_UNTIL, &[]).await?.map(|row| get(&row, 0)).transpose()
        })
    }
}
