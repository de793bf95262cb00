//! The contract of the stores, held over Redis with accounts, mails, imports and the audit log beside it.
#![cfg(feature = "redis")]

mod cellar;

use std::cell::RefCell;
use std::sync::Arc;

use counterfoil_core::MemoryStore;
use counterfoil_core::conformance::{self, Stores, Waived};

/// An import brings an account and its tokens in one transition, and here they lie in two stores.
const TWO_STORES: &str = "an import puts tokens where its accounts are, and that is another store";

const fn waived(case: &'static str) -> Waived {
    Waived { case, why: TWO_STORES }
}

const WAIVED: [Waived; 8] = [
    waived("an_imported_token_is_found_with_all_its_facts"),
    waived("numbers_are_kept_where_they_are_free_and_none_is_given_twice"),
    waived("what_was_brought_is_not_brought_again_and_what_was_ended_stays_so"),
    waived("an_imported_token_needs_its_subject_its_client_and_a_text_of_its_own"),
    waived("a_token_is_stamped_with_the_epochs_as_they_stand"),
    waived("an_adopted_secret_is_found_by_its_text_alone_and_its_change_is_logged"),
    waived("accounts_are_brought_as_they_are_and_nobody_is_merged"),
    waived("the_ledger_is_read_in_pages_and_forgotten_in_batches"),
];

#[test]
fn redis_keeps_the_contract_but_for_what_is_waived() {
    let databases = RefCell::new(Vec::new());
    conformance::run_all_but(&WAIVED, |_case| {
        let database = counterfoil_lab::redis::database();
        let tokens = Arc::new(cellar::connect(database.url()));
        databases.borrow_mut().push(database);
        let beside = Arc::new(MemoryStore::new());
        Stores { tokens, accounts: beside.clone(), mail: beside.clone(), imports: beside.clone(), audit: beside }
    });
}
