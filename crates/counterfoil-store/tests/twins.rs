//! One random history told to two stores: SQLite and the reference in memory give the same answers.
#![cfg(feature = "sqlite")]

mod history;
mod office;

use counterfoil_core::CheckKey;
use counterfoil_core::conformance::wait;
use office::Office;

#[test]
fn s7_sqlite_answers_as_the_reference_does_whatever_happened_before() {
    for seed in 0..12 {
        let office = Office::new();
        let sqlite = office.serve();
        let key = CheckKey::generate(&office.entropy).expect("entropy");
        let default = history::default_client(office::default_client(&sqlite).id);
        history::tell(seed, 150, &sqlite, Some(&sqlite), |memory| drop(wait(memory.open(&key, &default))));
    }
}
