//! Accounts.

use counterfoil_core::SubjectId;
use counterfoil_core::account::{Account, AccountChange, Credentials, Email, LoginName, Role, Username};
use counterfoil_core::password::{Cost, EncodedPassword};
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

// The index on the folded name is not unique, because an import keeps what it finds; here a second one is refused.
const ADD: &str = "
    INSERT INTO accounts (
        subject, username, username_fold, email, email_fold, email_confirmed_at, password, password_cost,
        first_name, last_name, attributes, locale, active, role, created_at, last_login_at, rotation_locked
    )
    SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17
    WHERE NOT EXISTS (SELECT 1 FROM accounts WHERE subject = ?1)
      AND NOT EXISTS (SELECT 1 FROM accounts WHERE username_fold = ?3)";

/// See [`counterfoil_core::AccountStore::create`].
pub(super) fn create(connection: &Connection, account: &Account, password: &EncodedPassword) -> Result<bool, Fault> {
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
    ])?;
    Ok(added == 1)
}

// Each part comes from its own index; the exact one first, so that the limit never cuts it off.
const NAMED: &str = "
    WITH meant (key, rank) AS (
        SELECT key, 1 FROM accounts WHERE username = ?1
        UNION ALL SELECT key, 2 FROM (SELECT key FROM accounts WHERE username_fold = ?2 LIMIT 8)
        UNION ALL SELECT key, 3 FROM (
            SELECT key FROM accounts WHERE email_fold = ?2 AND email_confirmed_at IS NOT NULL LIMIT 8
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
pub(super) fn accounts(reader: &Reader, after: Option<&Username>, limit: u32) -> Result<Vec<Account>, Fault> {
    let mut statement = reader.connection.prepare_cached(&format!(
        "{SELECT} WHERE (username_fold, username) > (?1, ?2) ORDER BY username_fold, username LIMIT ?3"
    ))?;
    // Every name is greater than the empty one.
    let (folded, exact) = after.map_or((String::new(), ""), |after| (after.folded(), after.as_str()));
    Ok(statement.query_map(params![folded, exact, limit], parse)?.collect::<Result<_, _>>()?)
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
const SET_NAMES: &str = "UPDATE accounts SET first_name = ?2, last_name = ?3 WHERE subject = ?1";
const SET_LAST_LOGIN: &str = "UPDATE accounts SET last_login_at = ?2 WHERE subject = ?1";

/// See [`counterfoil_core::AccountStore::change`].
pub(super) fn change(
    connection: &Connection,
    subject: &SubjectId,
    change: &AccountChange,
) -> Result<Option<Account>, Fault> {
    let apply = |sql: &'static str, values: &[&dyn ToSql]| -> Result<usize, Fault> {
        Ok(connection.prepare_cached(sql)?.execute(values)?)
    };
    let id = Column(subject);
    match change {
        AccountChange::Active(active) => apply(SET_ACTIVE, params![id, active])?,
        AccountChange::Role(role) => apply(SET_ROLE, params![id, Column(*role)])?,
        AccountChange::Email(email, confirmed_at) => {
            let confirmed_at = email.as_ref().and(*confirmed_at);
            let folded = email.as_ref().map(Email::folded);
            apply(SET_EMAIL, params![id, if_any(email.as_ref()), folded, if_any(confirmed_at)])?
        }
        AccountChange::Names(first, last) => apply(SET_NAMES, params![id, first, last])?,
        AccountChange::LoggedIn(at) => apply(SET_LAST_LOGIN, params![id, Column(*at)])?,
    };
    let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE subject = ?1"))?;
    Ok(statement.query_row([id], parse).optional()?)
}

const DELETE: &str = "DELETE FROM accounts WHERE subject = ?1";

/// See [`counterfoil_core::AccountStore::delete`].
pub(super) fn delete(connection: &Connection, subject: &SubjectId) -> Result<bool, Fault> {
    Ok(connection.prepare_cached(DELETE)?.execute([Column(subject)])? == 1)
}
