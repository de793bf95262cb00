//! Which tally the tokens of these accounts have, where they are kept in another store.

use counterfoil_core::store::Answer;
use rusqlite::OptionalExtension;

use super::SqliteStore;
use super::column::{Column, get, get_if_any, if_any};
use super::writer::Purpose;
use crate::tally::{Remembered, Tally, TallyStore};

const REMEMBERED: &str = "SELECT tally, next_tally FROM deployment";

const PREPARE: &str =
    "UPDATE deployment SET next_tally = coalesce(next_tally, ?2) WHERE tally IS ?1 RETURNING next_tally";

const SETTLE: &str = "UPDATE deployment SET tally = ?2, next_tally = NULL WHERE tally IS ?1";

impl TallyStore for SqliteStore {
    fn tally(&self) -> Answer<'_, Remembered> {
        self.read("reading the tally of the tokens", |reader| {
            let mut statement = reader.connection.prepare_cached(REMEMBERED)?;
            Ok(statement
                .query_row([], |row| Ok(Remembered { tally: get_if_any(row, 0)?, next: get_if_any(row, 1)? }))?)
        })
    }

    fn prepare_tally(&self, known: Option<Tally>, drawn: Tally) -> Answer<'_, Option<Tally>> {
        self.write("keeping a tally for tokens to begin by", Purpose::Ordinary, move |connection| {
            let mut statement = connection.prepare_cached(PREPARE)?;
            Ok(statement.query_row((if_any(known), Column(drawn)), |row| get(row, 0)).optional()?)
        })
    }

    fn settle_tally(&self, known: Option<Tally>, tally: Tally) -> Answer<'_, ()> {
        self.write("keeping the tally of the tokens", Purpose::Ordinary, move |connection| {
            connection.prepare_cached(SETTLE)?.execute((if_any(known), Column(tally)))?;
            Ok(())
        })
    }
}
