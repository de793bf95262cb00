//! Accounts.

use counterfoil_core::account::{Account, AccountChange, Credentials, Email, LoginName, Role};
use counterfoil_core::password::{Cost, EncodedPassword};
use counterfoil_core::store::AccountQuery;
use counterfoil_core::username::{Distinct, Username, skeletons};
use counterfoil_core::{SubjectId, Timestamp};
use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use super::column::{Column, get, get_if_any, if_any};
use super::fault::Fault;
use super::readers::Reader;

/// Read by [`parse`] and [`credentials`].
const SELECT: &str = "
    SELECT subject, username, email, email_confirmed_at, first_name, last_name, attributes, locale, active, role,
           created_at, last_login_at, rotation_locked, password
    FROM accounts";

fn parse(row: &Row<'_>) -> rusqlite::Result<Account> {
    Ok(Account {
        subject: get(row, 0)?,
        username: get(row, 1)?,
        email: get_if_any(row, 2)?,
        email_confirmed_at: get_if_any(row, 3)?,
        first_name: row.get(4)?,
        last_name: row.get(5)?,
        attributes: get(row, 6)?,
        locale: row.get(7)?,
        active: row.get(8)?,
        role: get(row, 9)?,
        created_at: get(row, 10)?,
        last_login_at: get_if_any(row, 11)?,
        rotation_locked: row.get(12)?,
    })
}

fn credentials(row: &Row<'_>) -> rusqlite::Result<Credentials> {
    Ok(Credentials { account: parse(row)?, password: get(row, 13)? })
}

/// The column beside a password.
fn cost_column(password: &EncodedPassword) -> String {
    password.cost().map_or_else(|_| MALFORMED.to_owned(), |cost| cost.to_string())
}

/// A row that no attempt will ever compute.
const MALFORMED: &str = "malformed";

/// Adds the functions that make skeletons of user names to what `connection` knows.
pub(super) fn teach_skeletons(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_DIRECTONLY;
    for (which, name) in ["username_skeleton_of", "username_skeleton_shown_of"].into_iter().enumerate() {
        connection.create_scalar_function(name, 1, flags, move |arguments| {
            let [folded, shown] = skeletons(arguments.get_raw(0).as_str()?);
            Ok(if which == 0 { folded } else { shown })
        })?;
    }
    Ok(())
}

// What a program of the version before has left empty.
pub(super) const FILL: &str = "
    UPDATE accounts
    SET username_skeleton = username_skeleton_of(username), username_skeleton_shown = username_skeleton_shown_of(username)
    WHERE username_skeleton IS NULL";

// The index on the folded name is not unique, because an import keeps what it finds; here a second one is refused.
const ADD: &str = "
    INSERT INTO accounts (
        subject, username, username_fold, email, email_fold, email_confirmed_at, password, password_cost,
        first_name, last_name, attributes, locale, active, role, created_at, last_login_at, rotation_locked,
        username_skeleton, username_skeleton_shown
    )
    SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19
    WHERE NOT EXISTS (SELECT 1 FROM accounts WHERE subject = ?1)
      AND NOT EXISTS (SELECT 1 FROM accounts WHERE username = ?2)
      AND NOT EXISTS (SELECT 1 FROM accounts WHERE ?21 AND username_fold = ?3)
      AND NOT EXISTS (SELECT 1 FROM accounts WHERE ?20 AND username_skeleton IN (?18, ?19))
      AND NOT EXISTS (SELECT 1 FROM accounts WHERE ?20 AND username_skeleton_shown IN (?18, ?19))";

/// See [`counterfoil_core::AccountStore::create`].
pub(super) fn create(
    connection: &Connection,
    account: &Account,
    password: &EncodedPassword,
    distinct: Distinct,
) -> Result<bool, Fault> {
    if distinct == Distinct::ByLook {
        connection.prepare_cached(FILL)?.execute([])?;
    }
    let [skeleton, skeleton_shown] = account.username.skeletons();
    let added = connection.prepare_cached(ADD)?.execute(params![
        Column(&account.subject),
        Column(&account.username),
        account.username.folded(),
        if_any(account.email.as_ref()),
        account.email.as_ref().map(Email::folded),
        if_any(account.email.as_ref().and(account.email_confirmed_at)),
        Column(password),
        cost_column(password),
        account.first_name,
        account.last_name,
        Column(&account.attributes),
        account.locale,
        account.active,
        Column(account.role),
        Column(account.created_at),
        if_any(account.last_login_at),
        account.rotation_locked,
        skeleton,
        skeleton_shown,
        distinct == Distinct::ByLook,
        distinct != Distinct::ByText,
    ])?;
    Ok(added == 1)
}

const HAS_SUBJECT: &str = "SELECT EXISTS (SELECT 1 FROM accounts WHERE subject = ?1)";

/// Whether there is an account of this subject.
pub(super) fn has_subject(connection: &Connection, subject: &SubjectId) -> Result<bool, Fault> {
    Ok(connection.prepare_cached(HAS_SUBJECT)?.query_row([Column(subject)], |row| row.get(0))?)
}

const IMPORTED: &str = "SELECT username, created_at, password FROM accounts WHERE subject = ?1";

/// What tells whether an account is still the one that was imported.
pub(super) struct Imported {
    pub(super) username: Username,
    pub(super) created_at: Timestamp,
    pub(super) password: EncodedPassword,
}

/// That of the account of this subject, if there is one.
pub(super) fn imported(connection: &Connection, subject: &SubjectId) -> Result<Option<Imported>, Fault> {
    let imported = connection.prepare_cached(IMPORTED)?.query_row([Column(subject)], |row| {
        Ok(Imported { username: get(row, 0)?, created_at: get(row, 1)?, password: get(row, 2)? })
    });
    Ok(imported.optional()?)
}

// Without those whose columns a program of the version before has left empty: they are found when the account is made.
const HAS_LOOKALIKE: &str = "
    SELECT EXISTS (SELECT 1 FROM accounts WHERE username_skeleton IN (?1, ?2))
        OR EXISTS (SELECT 1 FROM accounts WHERE username_skeleton_shown IN (?1, ?2))";

/// See [`counterfoil_core::AccountStore::has_lookalike`].
pub(super) fn has_lookalike(reader: &Reader, name: &Username) -> Result<bool, Fault> {
    let mut statement = reader.connection.prepare_cached(HAS_LOOKALIKE)?;
    Ok(statement.query_row(name.skeletons(), |row| row.get(0))?)
}

// Each part comes from its own index; the exact one first, so that the limit never cuts it off.
const NAMED: &str = "
    WITH meant (key, rank) AS (
        SELECT key, 1 FROM accounts WHERE username = ?1
        UNION ALL SELECT key, 2 FROM (SELECT key FROM accounts WHERE username_fold = ?2 LIMIT 8)
        UNION ALL SELECT key, 3 FROM (
            SELECT key FROM accounts INDEXED BY accounts_by_email
            WHERE email_fold = ?2 AND email_confirmed_at IS NOT NULL LIMIT 8
        )
    )
    SELECT a.subject, a.username, a.email, a.email_confirmed_at, a.first_name, a.last_name, a.attributes, a.locale,
           a.active, a.role, a.created_at, a.last_login_at, a.rotation_locked, a.password
    FROM (SELECT key, min(rank) AS rank FROM meant GROUP BY key) AS m JOIN accounts AS a ON a.key = m.key
    ORDER BY m.rank, a.key LIMIT 8";

/// See [`counterfoil_core::AccountStore::named`].
pub(super) fn named(reader: &Reader, name: &LoginName) -> Result<Vec<Credentials>, Fault> {
    let mut statement = reader.connection.prepare_cached(NAMED)?;
    Ok(statement.query_map([&name.exact, &name.folded], credentials)?.collect::<Result<_, _>>()?)
}

/// See [`counterfoil_core::AccountStore::account`].
pub(super) fn account(reader: &Reader, subject: &SubjectId) -> Result<Option<Credentials>, Fault> {
    let mut statement = reader.connection.prepare_cached(&format!("{SELECT} WHERE subject = ?1"))?;
    Ok(statement.query_row([Column(subject)], credentials).optional()?)
}

/// See [`counterfoil_core::AccountStore::accounts`].
pub(super) fn accounts(reader: &Reader, query: &AccountQuery) -> Result<Vec<Account>, Fault> {
    let beginning = match query.name.as_deref() {
        None | Some("") => String::new(),
        Some(name) => match LoginName::new(name) {
            Some(name) => name.folded,
            // Longer than any name.
            None => return Ok(Vec::new()),
        },
    };
    // Every name is greater than the empty one, and than where the names begin that begin alike.
    let after = query.after.as_ref().map_or((String::new(), ""), |after| (after.folded(), after.as_str()));
    let (folded, exact) = if after.0 < beginning { (beginning.clone(), "") } else { after };
    let mut statement = reader.connection.prepare_cached(&listing(query))?;
    let mut rows = statement.query(params![
        folded,
        exact,
        query.email.as_ref().map(Email::folded),
        if_any(query.role),
        query.active,
        query.limit,
    ])?;
    let mut page = Vec::new();
    while let Some(row) = rows.next()? {
        let account = parse(row)?;
        if !account.username.folded().starts_with(&beginning) {
            // They are in order: no other one does from here on.
            break;
        }
        page.push(account);
    }
    Ok(page)
}

/// The statement for a page. Each index that may serve it holds the accounts in the order of their names, so that a page
/// reads no further than its end; those who may log in and are ordinary are so many that a page of them needs no index.
pub(super) fn listing(query: &AccountQuery) -> String {
    // What the partial indexes must recognise is written out.
    let among = if query.email.is_some() {
        "INDEXED BY accounts_by_any_email WHERE email_fold = ?3"
    } else if query.role.is_some_and(|role| role != Role::User) {
        "INDEXED BY accounts_by_role WHERE role <> 'user' AND role = ?4"
    } else if query.active == Some(false) {
        "INDEXED BY accounts_disabled WHERE active = 0"
    } else {
        "INDEXED BY accounts_by_username_fold WHERE 1"
    };
    format!(
        "{SELECT} {among} AND (username_fold, username) > (?1, ?2)
         AND (?3 IS NULL OR email_fold = ?3) AND (?4 IS NULL OR role = ?4) AND (?5 IS NULL OR active = ?5)
         ORDER BY username_fold, username LIMIT ?6"
    )
}

/// See [`counterfoil_core::AccountStore::has_role`].
pub(super) fn has_role(reader: &Reader, role: Role) -> Result<bool, Fault> {
    // The role is written out where the partial index must be recognised, and bound where it is compared.
    const ABOVE_USERS: &str = "SELECT EXISTS (SELECT 1 FROM accounts WHERE role <> 'user' AND role = ?1)";
    const ANY: &str = "SELECT EXISTS (SELECT 1 FROM accounts WHERE role = ?1)";
    let statement = match role {
        Role::User => ANY,
        Role::Staff | Role::Admin => ABOVE_USERS,
    };
    Ok(reader.connection.prepare_cached(statement)?.query_row([role.as_str()], |row| row.get(0))?)
}

// Steps from one cost to the next in the index instead of reading an entry for each account.
const COSTS: &str = "
    WITH RECURSIVE costs (cost) AS (
        SELECT min(password_cost) FROM accounts
        UNION ALL
        SELECT (SELECT min(password_cost) FROM accounts WHERE password_cost > costs.cost)
        FROM costs WHERE costs.cost IS NOT NULL
    )
    SELECT cost FROM costs WHERE cost IS NOT NULL AND cost <> ?1";

// Every subject is looked at, in its index; whoever registers pays more for the password.
const GREATEST_NUMBER: &str = "
    SELECT coalesce(max(CAST(subject AS INTEGER)), 0) FROM accounts
    WHERE length(subject) BETWEEN 1 AND 15 AND subject NOT GLOB '*[^0-9]*'";

/// See [`counterfoil_core::AccountStore::greatest_number`].
pub(super) fn greatest_number(reader: &Reader) -> Result<u64, Fault> {
    let number: i64 = reader.connection.prepare_cached(GREATEST_NUMBER)?.query_row([], |row| row.get(0))?;
    Ok(number.unsigned_abs())
}

/// See [`counterfoil_core::AccountStore::password_costs`].
pub(super) fn password_costs(reader: &Reader) -> Result<Vec<Cost>, Fault> {
    let mut statement = reader.connection.prepare_cached(COSTS)?;
    let texts = statement.query_map([MALFORMED], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    // What an older program wrote and this one finds too dear is not computed either.
    let mut costs: Vec<Cost> = texts.iter().filter_map(|text| text.parse().ok()).collect();
    costs.sort_unstable();
    Ok(costs)
}

const SET_PASSWORD: &str = "
    UPDATE accounts SET password = ?2, password_cost = ?3 WHERE subject = ?1 AND (?4 IS NULL OR password = ?4)";

/// See [`counterfoil_core::AccountStore::set_password`].
pub(super) fn set_password(
    connection: &Connection,
    subject: &SubjectId,
    expected: Option<&EncodedPassword>,
    password: &EncodedPassword,
) -> Result<bool, Fault> {
    let set = connection.prepare_cached(SET_PASSWORD)?.execute(params![
        Column(subject),
        Column(password),
        cost_column(password),
        if_any(expected),
    ])?;
    Ok(set == 1)
}

const SET_ACTIVE: &str = "UPDATE accounts SET active = ?2 WHERE subject = ?1";
const SET_ROLE: &str = "UPDATE accounts SET role = ?2 WHERE subject = ?1";
const SET_EMAIL: &str = "UPDATE accounts SET email = ?2, email_fold = ?3, email_confirmed_at = ?4 WHERE subject = ?1";
const REPLACE_EMAIL: &str = "
    UPDATE accounts SET email = ?3, email_fold = ?4, email_confirmed_at = ?5 WHERE subject = ?1 AND email IS ?2";
const CONFIRM_EMAIL: &str = "UPDATE accounts SET email_confirmed_at = ?3 WHERE subject = ?1 AND email = ?2";
const SET_FIRST_NAME: &str = "UPDATE accounts SET first_name = ?2 WHERE subject = ?1";
const SET_LAST_NAME: &str = "UPDATE accounts SET last_name = ?2 WHERE subject = ?1";
const SET_ATTRIBUTES: &str = "UPDATE accounts SET attributes = ?2 WHERE subject = ?1";
const SET_LOCALE: &str = "UPDATE accounts SET locale = ?2 WHERE subject = ?1";
const SET_ROTATION_LOCKED: &str = "UPDATE accounts SET rotation_locked = ?2 WHERE subject = ?1";
const SET_LAST_LOGIN: &str = "UPDATE accounts SET last_login_at = ?2 WHERE subject = ?1";

/// See [`counterfoil_core::AccountStore::change`].
pub(super) fn change(
    connection: &Connection,
    subject: &SubjectId,
    changes: &[AccountChange],
) -> Result<Option<Account>, Fault> {
    for change in changes {
        make(connection, subject, change)?;
    }
    let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE subject = ?1"))?;
    Ok(statement.query_row([Column(subject)], parse).optional()?)
}

/// Does nothing where there is no such account.
fn make(connection: &Connection, subject: &SubjectId, change: &AccountChange) -> Result<(), Fault> {
    let apply = |sql: &'static str, values: &[&dyn ToSql]| -> Result<(), Fault> {
        connection.prepare_cached(sql)?.execute(values)?;
        Ok(())
    };
    let id = Column(subject);
    match change {
        AccountChange::Active(active) => apply(SET_ACTIVE, params![id, active]),
        AccountChange::Role(role) => apply(SET_ROLE, params![id, Column(*role)]),
        AccountChange::Email(email, confirmed_at) => {
            let confirmed_at = email.as_ref().and(*confirmed_at);
            let folded = email.as_ref().map(Email::folded);
            apply(SET_EMAIL, params![id, if_any(email.as_ref()), folded, if_any(confirmed_at)])
        }
        AccountChange::EmailReplaced { from, email, at } => {
            let values = params![id, if_any(from.as_ref()), Column(email), email.folded(), Column(*at)];
            apply(REPLACE_EMAIL, values)
        }
        AccountChange::EmailConfirmed(email, at) => apply(CONFIRM_EMAIL, params![id, Column(email), Column(*at)]),
        AccountChange::FirstName(name) => apply(SET_FIRST_NAME, params![id, name]),
        AccountChange::LastName(name) => apply(SET_LAST_NAME, params![id, name]),
        AccountChange::Attributes(attributes) => apply(SET_ATTRIBUTES, params![id, Column(attributes)]),
        AccountChange::Locale(locale) => apply(SET_LOCALE, params![id, locale]),
        AccountChange::RotationLocked(locked) => apply(SET_ROTATION_LOCKED, params![id, locked]),
        AccountChange::LoggedIn(at) => apply(SET_LAST_LOGIN, params![id, Column(*at)]),
    }
}

const DELETE: &str = "DELETE FROM accounts WHERE subject = ?1";

/// See [`counterfoil_core::AccountStore::delete`].
pub(super) fn delete(connection: &Connection, subject: &SubjectId) -> Result<bool, Fault> {
    Ok(connection.prepare_cached(DELETE)?.execute([Column(subject)])? == 1)
}
