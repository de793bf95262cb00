//! Which tally the tokens of these accounts have, where they are kept in another store.

use std::sync::Arc;

use counterfoil_core::store::Answer;

use super::PostgresStore;
use super::column::{get, get_if_any, if_any, value};
use super::fault::Fault;
use super::transaction::Transaction;
use crate::tally::{Remembered, Tally, TallyStore};

const REMEMBERED: &str = "SELECT tally, next_tally FROM deployment WHERE one";

const PREPARE: &str = "
    UPDATE deployment SET next_tally = coalesce(next_tally, $2) WHERE one AND tally IS NOT DISTINCT FROM $1
    RETURNING next_tally";

const SETTLE: &str = "UPDATE deployment SET tally = $2, next_tally = NULL WHERE one AND tally IS NOT DISTINCT FROM $1";

async fn prepare(transaction: Transaction, wanted: Arc<(Option<Tally>, Tally)>) -> Result<Option<Tally>, Fault> {
    let row = transaction.query_opt(PREPARE, &[if_any(wanted.0), value(wanted.1)]).await?;
    row.map(|row| get(&row, 0)).transpose()
}

async fn settle(transaction: Transaction, wanted: Arc<(Option<Tally>, Tally)>) -> Result<(), Fault> {
    transaction.execute(SETTLE, &[if_any(wanted.0), value(wanted.1)]).await?;
    Ok(())
}

impl TallyStore for PostgresStore {
    fn tally(&self) -> Answer<'_, Remembered> {
        self.look_up("reading the tally of the tokens", async move |session| {
            let row = session.query_one(REMEMBERED, &[]).await?;
            Ok(Remembered { tally: get_if_any(&row, 0)?, next: get_if_any(&row, 1)? })
        })
    }

    fn prepare_tally(&self, known: Option<Tally>, drawn: Tally) -> Answer<'_, Option<Tally>> {
        self.transact("keeping a tally for tokens to begin by", (known, drawn), prepare)
    }

    fn settle_tally(&self, known: Option<Tally>, tally: Tally) -> Answer<'_, ()> {
        self.transact("keeping the tally of the tokens", (known, tally), settle)
    }
}
