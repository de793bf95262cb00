//! The schema and its migrations, in order, all that are missing in one transaction: [`Schema`]. A crash leaves the old
//! schema or the new one.
//!
//! A released migration is never edited. A new one only adds (the program of the version before still runs beside it);
//! what it makes superfluous goes in a later one.

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::accounts;

/// SQLite's `application_id`, "cofl", by which `file` and we know a database of ours.
pub(super) const APPLICATION_ID: i64 = 0x636f_666c;

/// The migrations that a program knows. Which those are is an argument, so that a test can stand for the next version.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schema {
    /// Migration `n` is at `n - 1`.
    pub(super) migrations: &'static [&'static str],
}

/// Those of this program.
pub(super) const OURS: Schema = Schema {
    migrations: &[
        include_str!("../../migrations/0001_initial.sql"),
        include_str!("../../migrations/0002_mail.sql"),
        include_str!("../../migrations/0003_usernames.sql"),
        include_str!("../../migrations/0004_import.sql"),
        include_str!("../../migrations/0005_tally.sql"),
    ],
};

/// Whose file it is and how far its schema has come.
pub(super) fn identity(connection: &Connection) -> rusqlite::Result<(i64, i64)> {
    connection.query_row(
        "SELECT a.application_id, v.user_version FROM pragma_application_id AS a, pragma_user_version AS v",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
}

impl Schema {
    /// The number of the last migration, and SQLite's `user_version` once it has been applied.
    pub(super) const fn newest(self) -> i64 {
        self.migrations.len() as i64
    }

    /// Applies what is missing. Processes that start at once agree, because each looks again once it holds the lock.
    pub(super) fn migrate(self, connection: &mut Connection) -> rusqlite::Result<()> {
        let whole = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        self.apply(&whole)?;
        whole.commit()
    }

    /// As [`Schema::migrate`], in a transaction that is open and holds the lock.
    pub(super) fn apply(self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let (_, version) = identity(transaction)?;
        accounts::teach_skeletons(transaction)?;
        let missing = usize::try_from(version).ok().and_then(|version| self.migrations.get(version..));
        for (migration, number) in missing.unwrap_or_default().iter().zip(version + 1..) {
            transaction.execute_batch(migration)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", number)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_apply_once_and_a_second_run_finds_nothing_to_do() {
        let mut connection = Connection::open_in_memory().expect("memory");
        OURS.migrate(&mut connection).expect("migrate");
        assert_eq!(identity(&connection).expect("identity"), (APPLICATION_ID, OURS.newest()));
        OURS.migrate(&mut connection).expect("again");
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
        OURS.migrate(&mut connection).expect("migrate");
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
