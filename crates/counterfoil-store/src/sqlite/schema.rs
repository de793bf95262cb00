//! The schema and its migrations, in order, each in one transaction.
//!
//! A released migration is never edited. A new one only adds (the program of the version before still runs beside it);
//! what it makes superfluous goes in a later one.

use rusqlite::{Connection, TransactionBehavior};

/// The schema this program knows: the number of the last migration, and SQLite's `user_version`.
pub(super) const NEWEST: i64 = MIGRATIONS.len() as i64;

/// SQLite's `application_id`, "cofl", by which `file` and we know a database of ours.
pub(super) const APPLICATION_ID: i64 = 0x636f_666c;

/// Migration `n` is at `n - 1`.
const MIGRATIONS: &[&str] = &[include_str!("../../migrations/0001_initial.sql")];

/// Whose file it is and how far its schema has come.
pub(super) fn identity(connection: &Connection) -> rusqlite::Result<(i64, i64)> {
    connection.query_row(
        "SELECT a.application_id, v.user_version FROM pragma_application_id AS a, pragma_user_version AS v",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
}

/// Applies what is missing. Processes that start at once agree, because each step looks again once it holds the lock.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    loop {
        let step = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (_, version) = identity(&step)?;
        let Some(migration) = usize::try_from(version).ok().and_then(|version| MIGRATIONS.get(version)) else {
            return Ok(());
        };
        step.execute_batch(migration)?;
        step.pragma_update(None, "application_id", APPLICATION_ID)?;
        step.pragma_update(None, "user_version", version + 1)?;
        step.commit()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_apply_once_and_a_second_run_finds_nothing_to_do() {
        let mut connection = Connection::open_in_memory().expect("memory");
        migrate(&mut connection).expect("migrate");
        assert_eq!(identity(&connection).expect("identity"), (APPLICATION_ID, NEWEST));
        migrate(&mut connection).expect("again");
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'tokens'", [], |row| {
                row.get(0)
            })
            .expect("count");
        assert_eq!(tables, 1);
    }

    #[test]
    fn every_column_of_every_table_is_strictly_typed() {
        let mut connection = Connection::open_in_memory().expect("memory");
        migrate(&mut connection).expect("migrate");
        let lax: i64 = connection
            .query_row(
                "SELECT count(*) FROM pragma_table_list
                 WHERE schema = 'main' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND strict = 0",
                [],
                |row| row.get(0),
            )
            .expect("count");
        assert_eq!(lax, 0);
    }
}
