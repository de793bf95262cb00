//! Accounts.

use std::sync::Arc;

use counterfoil_core::account::{Account, AccountChange, Credentials, Email, LoginName, Role};
use counterfoil_core::password::{Cost, EncodedPassword};
use counterfoil_core::store::{AccountQuery, Answer};
use counterfoil_core::username::{Distinct, Username};
use counterfoil_core::{AccountStore, SubjectId};
use sha2::{Digest, Sha256};
use tokio_postgres::Row;

use super::PostgresStore;
use super::column::{Value, get, get_if_any, if_any, value};
use super::fault::Fault;
use super::session::{Session, Step};
use super::transaction::Transaction;

/// Read by [`parse`] and [`credentials`].
const SELECT: &str = "
    SELECT subject, username, email, email_confirmed_at, first_name, last_name, attributes, locale, active, role,
           created_at, last_login_at, rotation_locked, password
    FROM accounts";

fn parse(row: &Row) -> Result<Account, Fault> {
    Ok(Account {
        subject: get(row, 0)?,
        username: get(row, 1)?,
        email: get_if_any(row, 2)?,
        email_confirmed_at: get_if_any(row, 3)?,
        first_name: get(row, 4)?,
        last_name: get(row, 5)?,
        attributes: get(row, 6)?,
        locale: get_if_any(row, 7)?,
        active: get(row, 8)?,
        role: get(row, 9)?,
        created_at: get(row, 10)?,
        last_login_at: get_if_any(row, 11)?,
        rotation_locked: get(row, 12)?,
    })
}

fn credentials(row: &Row) -> Result<Credentials, Fault> {
    Ok(Credentials { account: parse(row)?, password: get(row, 13)? })
}

/// A row that no attempt will ever compute.
const MALFORMED: &str = "malformed";

/// The column beside a password.
pub(super) fn cost_column(password: &EncodedPassword) -> Value<'static> {
    password.cost().map_or_else(|_| value(MALFORMED), |cost| value(cost.to_string()))
}

// ── Making ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/// What a row is made of, in this order: see [`columns`].
pub(super) const COLUMNS: &str = "
    subject, username, username_fold, email, email_fold, email_confirmed_at, password, password_cost, first_name, last_name,
    attributes, locale, active, role, created_at, last_login_at, rotation_locked, username_skeleton, username_skeleton_shown";

/// The row of an account. What must not be changed and cannot be kept (U+0000) is an error when it is sent.
pub(super) fn columns<'a>(account: &'a Account, password: &'a EncodedPassword) -> Vec<Value<'a>> {
    let [skeleton, skeleton_shown] = account.username.skeletons();
    vec![
        value(&account.subject),
        value(&account.username),
        value(account.username.folded()),
        if_any(account.email.as_ref()),
        if_any(account.email.as_ref().map(Email::folded)),
        if_any(account.email.as_ref().and(account.email_confirmed_at)),
        value(password),
        cost_column(password),
        value(account.first_name.as_str()),
        value(account.last_name.as_str()),
        value(&account.attributes),
        if_any(account.locale.as_deref()),
        value(account.active),
        value(account.role),
        value(account.created_at),
        if_any(account.last_login_at),
        value(account.rotation_locked),
        value(skeleton),
        value(skeleton_shown),
    ]
}

// That two names differ in more than some character is in no index, because an import keeps what it finds. So whoever makes one
// under that condition first locks what the other one would have to share with it: until the commit, and in the next statement
// what was committed meanwhile is seen. Each in the order of its number, so that nobody waits for one who waits for them.
const LOCK_NAMES: &str = "SELECT pg_advisory_xact_lock(lock) FROM unnest($1) AS lock";

const ADD: &str = "
    INSERT INTO accounts (
        subject, username, username_fold, email, email_fold, email_confirmed_at, password, password_cost, first_name, last_name,
        attributes, locale, active, role, created_at, last_login_at, rotation_locked, username_skeleton, username_skeleton_shown
    )
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19
    WHERE NOT EXISTS (SELECT 1 FROM accounts WHERE $21 AND username_fold = $3)
      AND NOT EXISTS (SELECT 1 FROM accounts WHERE $20 AND username_skeleton IN ($18, $19))
      AND NOT EXISTS (SELECT 1 FROM accounts WHERE $20 AND username_skeleton_shown IN ($18, $19))
    ON CONFLICT DO NOTHING
    RETURNING 1";

struct New {
    account: Account,
    password: EncodedPassword,
    distinct: Distinct,
}

async fn create(transaction: Transaction, new: Arc<New>) -> Result<bool, Fault> {
    let New { account, password, distinct } = &*new;
    let locks = [Value::Integers(locks(&account.username, *distinct))];
    let mut values = columns(account, password);
    values.extend([value(*distinct == Distinct::ByLook), value(*distinct != Distinct::ByText)]);
    let [_, added] = transaction.flight([(LOCK_NAMES, &locks), (ADD, &values)]).await?;
    Ok(added.len() == 1)
}

/// What two names have in common of which only one may be made. A name that an import brings is held to nothing and locks nothing:
/// one that is made beside it was there before, as far as anybody can tell.
fn locks(name: &Username, distinct: Distinct) -> Vec<i64> {
    let [skeleton, skeleton_shown] = name.skeletons();
    // Skeletons belong to a version of Unicode, so that a node of another version may share the folded name alone.
    let shared = match distinct {
        Distinct::ByText => Vec::new(),
        Distinct::ByCase => vec![name.folded()],
        Distinct::ByLook => vec![name.folded(), skeleton, skeleton_shown],
    };
    let mut locks: Vec<i64> = shared.iter().map(|text| lock_of(text)).collect();
    locks.sort_unstable();
    locks.dedup();
    locks
}

/// Two texts with one lock wait for each other without need, and nothing else.
fn lock_of(text: &str) -> i64 {
    let digest = Sha256::new().chain_update("counterfoil user name:").chain_update(text).finalize();
    digest.iter().take(8).fold(0, |number, byte| number << 8 | i64::from(*byte))
}

// ── Reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────

const HAS_LOOKALIKE: &str = "
    SELECT EXISTS (SELECT 1 FROM accounts WHERE username_skeleton IN ($1, $2))
        OR EXISTS (SELECT 1 FROM accounts WHERE username_skeleton_shown IN ($1, $2))";

// Each part comes from its own index; the exact one first, so that the limit never cuts it off.
const NAMED: &str = "
    WITH meant (key, rank) AS (
        SELECT key, 1 FROM accounts WHERE username = $1
        UNION ALL (SELECT key, 2 FROM accounts WHERE username_fold = $2 LIMIT 8)
        UNION ALL (SELECT key, 3 FROM accounts WHERE email_fold = $2 AND email_confirmed_at IS NOT NULL LIMIT 8)
    )
    SELECT a.subject, a.username, a.email, a.email_confirmed_at, a.first_name, a.last_name, a.attributes, a.locale,
           a.active, a.role, a.created_at, a.last_login_at, a.rotation_locked, a.password
    FROM (SELECT key, min(rank) AS rank FROM meant GROUP BY key) AS m JOIN accounts AS a ON a.key = m.key
    ORDER BY m.rank, a.key LIMIT 8";

const BY_SUBJECT: &str = "
    SELECT subject, username, email, email_confirmed_at, first_name, last_name, attributes, locale, active, role,
           created_at, last_login_at, rotation_locked, password
    FROM accounts WHERE subject = $1";

async fn accounts(session: Arc<Session>, query: Arc<AccountQuery>) -> Result<Vec<Account>, Fault> {
    let beginning = match query.name.as_deref() {
        None | Some("") => String::new(),
        Some(name) => match LoginName::new(name) {
            Some(name) => name.folded,
            // Longer than any name.
            None => return Ok(Vec::new()),
        },
    };
    let (sql, values) = listing(&query, &beginning);
    let page: Vec<Account> = session.query(&sql, &values).await?.iter().map(parse).collect::<Result<_, _>>()?;
    // They are in order: from the first on that begins otherwise, no other one begins so.
    Ok(page.into_iter().take_while(|account| account.username.folded().starts_with(&beginning)).collect())
}

/// The statement for a page. It says only what is asked for, in the words of the indexes, each of which holds the accounts in the
/// order of their names.
fn listing<'a>(query: &'a AccountQuery, beginning: &'a str) -> (String, Vec<Value<'a>>) {
    // Every name is greater than the empty one, and than where the names begin that begin alike.
    let after = query.after.as_ref().map_or((String::new(), ""), |after| (after.folded(), after.as_str()));
    let (folded, exact) = if after.0.as_str() < beginning { (beginning.to_owned(), "") } else { after };
    let mut sql = format!("{SELECT} WHERE (username_fold, username) > ($1, $2)");
    let mut values = vec![value(folded), value(exact)];
    let mut only = |column: &str, wanted: Value<'a>| {
        values.push(wanted);
        sql.push_str(&format!(" AND {column} = ${}", values.len()));
    };
    if let Some(email) = &query.email {
        only("email_fold", value(email.folded()));
    }
    if let Some(role) = query.role {
        only("role", value(role));
    }
    if query.role.is_some_and(|role| role != Role::User) {
        sql.push_str(" AND role <> 'user'");
    }
    match query.active {
        Some(true) => sql.push_str(" AND active"),
        Some(false) => sql.push_str(" AND NOT active"),
        None => {}
    }
    values.push(value(query.limit));
    sql.push_str(&format!(" ORDER BY username_fold, username LIMIT ${}", values.len()));
    (sql, values)
}

// Written out where a partial index must be recognised, and bound where it is compared.
const HAS_ROLE: &str = "SELECT EXISTS (SELECT 1 FROM accounts WHERE role <> 'user' AND role = $1)";
const HAS_USER: &str = "SELECT EXISTS (SELECT 1 FROM accounts WHERE role = $1)";

// The end of an index: word by word what `accounts_by_number` has, or it is not recognised.
const GREATEST_NUMBER: &str = "
    SELECT CASE WHEN subject ~ '^[0-9]{1,15}$' THEN CAST(subject AS bigint) END FROM accounts
    WHERE subject ~ '^[0-9]{1,15}$'
    ORDER BY (CASE WHEN subject ~ '^[0-9]{1,15}$' THEN CAST(subject AS bigint) END) DESC LIMIT 1";

// Steps from one cost to the next in the index instead of reading an entry for each account.
const COSTS: &str = "
    WITH RECURSIVE costs (cost) AS (
        SELECT min(password_cost) FROM accounts
        UNION ALL
        SELECT (SELECT min(password_cost) FROM accounts WHERE password_cost > costs.cost)
        FROM costs WHERE costs.cost IS NOT NULL
    )
    SELECT cost FROM costs WHERE cost IS NOT NULL AND cost <> $1";

async fn password_costs(session: Arc<Session>) -> Result<Vec<Cost>, Fault> {
    let rows = session.query(COSTS, &[value(MALFORMED)]).await?;
    let texts = rows.iter().map(|row| get(row, 0)).collect::<Result<Vec<String>, _>>()?;
    // What an older program wrote and this one finds too dear is not computed either.
    let mut costs: Vec<Cost> = texts.iter().filter_map(|text| text.parse().ok()).collect();
    costs.sort_unstable();
    Ok(costs)
}

// ── Changing ────────────────────────────────────────────────────────────────────────────────────────────────────────

const SET_PASSWORD: &str = "
    UPDATE accounts SET password = $2, password_cost = $3 WHERE subject = $1 AND ($4 IS NULL OR password = $4)";

/// See [`counterfoil_core::AccountStore::set_password`].
pub(super) async fn set_password(
    transaction: &Session,
    subject: &SubjectId,
    expected: Option<&EncodedPassword>,
    password: &EncodedPassword,
) -> Result<bool, Fault> {
    let values = [value(subject), value(password), cost_column(password), if_any(expected)];
    Ok(transaction.execute(SET_PASSWORD, &values).await? == 1)
}

// Of those that change the same account at once, one makes all of its changes before another one makes any.
const LOCK: &str = "SELECT 1 FROM accounts WHERE subject = $1 FOR NO KEY UPDATE";

const SET_ACTIVE: &str = "UPDATE accounts SET active = $2 WHERE subject = $1";
const SET_ROLE: &str = "UPDATE accounts SET role = $2 WHERE subject = $1";
const SET_EMAIL: &str = "UPDATE accounts SET email = $2, email_fold = $3, email_confirmed_at = $4 WHERE subject = $1";
const REPLACE_EMAIL: &str = "
    UPDATE accounts SET email = $3, email_fold = $4, email_confirmed_at = $5
    WHERE subject = $1 AND email IS NOT DISTINCT FROM $2";
const CONFIRM_EMAIL: &str = "UPDATE accounts SET email_confirmed_at = $3 WHERE subject = $1 AND email = $2";
const SET_FIRST_NAME: &str = "UPDATE accounts SET first_name = $2 WHERE subject = $1";
const SET_LAST_NAME: &str = "UPDATE accounts SET last_name = $2 WHERE subject = $1";
const SET_ATTRIBUTES: &str = "UPDATE accounts SET attributes = $2 WHERE subject = $1";
const SET_LOCALE: &str = "UPDATE accounts SET locale = $2 WHERE subject = $1";
const SET_ROTATION_LOCKED: &str = "UPDATE accounts SET rotation_locked = $2 WHERE subject = $1";
const SET_LAST_LOGIN: &str = "UPDATE accounts SET last_login_at = $2 WHERE subject = $1";

/// The statement for one change, which does nothing where there is no such account.
fn making<'a>(subject: &'a SubjectId, change: &'a AccountChange) -> (&'static str, Vec<Value<'a>>) {
    let of = value(subject);
    match change {
        AccountChange::Active(active) => (SET_ACTIVE, vec![of, value(*active)]),
        AccountChange::Role(role) => (SET_ROLE, vec![of, value(*role)]),
        AccountChange::Email(email, confirmed_at) => {
            let folded = email.as_ref().map(Email::folded);
            let confirmed_at = email.as_ref().and(*confirmed_at);
            (SET_EMAIL, vec![of, if_any(email.as_ref()), if_any(folded), if_any(confirmed_at)])
        }
        AccountChange::EmailReplaced { from, email, at } => {
            (REPLACE_EMAIL, vec![of, if_any(from.as_ref()), value(email), value(email.folded()), value(*at)])
        }
        AccountChange::EmailConfirmed(email, at) => (CONFIRM_EMAIL, vec![of, value(email), value(*at)]),
        AccountChange::FirstName(name) => (SET_FIRST_NAME, vec![of, value(name.as_str())]),
        AccountChange::LastName(name) => (SET_LAST_NAME, vec![of, value(name.as_str())]),
        AccountChange::Attributes(attributes) => (SET_ATTRIBUTES, vec![of, value(attributes)]),
        AccountChange::Locale(locale) => (SET_LOCALE, vec![of, if_any(locale.as_deref())]),
        AccountChange::RotationLocked(locked) => (SET_ROTATION_LOCKED, vec![of, value(*locked)]),
        AccountChange::LoggedIn(at) => (SET_LAST_LOGIN, vec![of, value(*at)]),
    }
}

async fn change(
    transaction: Transaction,
    wanted: Arc<(SubjectId, Vec<AccountChange>)>,
) -> Result<Option<Account>, Fault> {
    let (subject, changes) = &*wanted;
    let of = [value(subject)];
    let making: Vec<_> = changes.iter().map(|change| making(subject, change)).collect();
    let mut steps: Vec<Step<'_>> = vec![(LOCK, &of)];
    steps.extend(making.iter().map(|(sql, values)| (*sql, values.as_slice())));
    steps.push((BY_SUBJECT, &of));
    let mut answers = transaction.fly(&steps).await.map_err(|(_, fault)| fault)?;
    answers.pop().unwrap_or_default().first().map(parse).transpose()
}

const DELETE: &str = "DELETE FROM accounts WHERE subject = $1";

impl AccountStore for PostgresStore {
    fn create<'a>(
        &'a self,
        account: &'a Account,
        password: &'a EncodedPassword,
        distinct: Distinct,
    ) -> Answer<'a, bool> {
        let new = New { account: account.clone(), password: password.clone(), distinct };
        self.transact("making an account", new, create)
    }

    fn has_lookalike<'a>(&'a self, name: &'a Username) -> Answer<'a, bool> {
        self.look_up("looking for a name that looks alike", async move |session| {
            get(&session.query_one(HAS_LOOKALIKE, &name.skeletons().map(value)).await?, 0)
        })
    }

    fn named<'a>(&'a self, name: &'a LoginName) -> Answer<'a, Vec<Credentials>> {
        self.look_up("looking an account up by name", async move |session| {
            let rows = session.query(NAMED, &[value(name.exact.as_str()), value(name.folded.as_str())]).await?;
            rows.iter().map(credentials).collect()
        })
    }

    fn account<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, Option<Credentials>> {
        self.look_up("looking an account up", async move |session| {
            session.query_opt(BY_SUBJECT, &[value(subject)]).await?.as_ref().map(credentials).transpose()
        })
    }

    fn accounts<'a>(&'a self, query: &'a AccountQuery) -> Answer<'a, Vec<Account>> {
        self.read("listing accounts", query.clone(), accounts)
    }

    fn has_role(&self, role: Role) -> Answer<'_, bool> {
        let sql = match role {
            Role::User => HAS_USER,
            Role::Staff | Role::Admin => HAS_ROLE,
        };
        self.look_up("looking for a role", async move |session| get(&session.query_one(sql, &[value(role)]).await?, 0))
    }

    fn greatest_number(&self) -> Answer<'_, u64> {
        self.look_up("looking for the last number", async move |session| {
            let greatest = session.query_opt(GREATEST_NUMBER, &[]).await?;
            greatest.map_or(Ok(0), |row| get(&row, 0))
        })
    }

    fn password_costs(&self) -> Answer<'_, Vec<Cost>> {
        self.look_up("collecting the costs of passwords", password_costs)
    }

    fn set_password<'a>(
        &'a self,
        subject: &'a SubjectId,
        expected: Option<&'a EncodedPassword>,
        password: &'a EncodedPassword,
    ) -> Answer<'a, bool> {
        let wanted = (subject.clone(), expected.cloned(), password.clone());
        self.transact("setting a password", wanted, async move |transaction, wanted| {
            let (subject, expected, password) = &*wanted;
            set_password(&transaction, subject, expected.as_ref(), password).await
        })
    }

    fn change<'a>(&'a self, subject: &'a SubjectId, changes: &'a [AccountChange]) -> Answer<'a, Option<Account>> {
        self.transact("changing an account", (subject.clone(), changes.to_vec()), change)
    }

    fn delete<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, bool> {
        self.transact("deleting an account", subject.clone(), async move |transaction, subject| {
            Ok(transaction.execute(DELETE, &[value(&*subject)]).await? == 1)
        })
    }
}
