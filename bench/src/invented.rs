//! P4: an invented token costs a hash of 46 bytes and no query.

use std::hint::black_box;
use std::sync::Arc;

use counterfoil_core::{Error, MemoryStore, Refusal, Source, TokenDigest};

use crate::machine::{at_once, authority, now, race};
use crate::report::{Goal, Row};

/// Well formed, and minted by nobody.
const INVENTED: &str = "cf_InventedInventedInventedInventedInventedInv123456";

pub(crate) fn run() -> Vec<Row> {
    assert_eq!(INVENTED.len(), 52, "of exactly our shape");
    let store = Arc::new(MemoryStore::new());
    let authority = at_once(authority(store.clone(), store));
    let source = Source::default();
    let now = now();
    let authenticate = |text| at_once(authority.authenticate(text, &source, now));
    assert!(matches!(authenticate(INVENTED), Err(Error::Refused(Refusal::TokenUnknown))));
    let [invented, sha256] = race(
        2_000,
        [
            &mut |calls| {
                for _ in 0..calls {
                    assert!(authenticate(black_box(INVENTED)).is_err());
                }
            },
            &mut |calls| {
                for _ in 0..calls {
                    black_box(TokenDigest::of_text(black_box(INVENTED)));
                }
            },
        ],
    );
    vec![Row {
        id: "P4",
        what: "whole authenticate of an invented token / SHA-256 of it",
        figure: invented / sha256,
        goal: Goal::AtMost(0.5),
        detail: format!("{invented:.0} ns / {sha256:.0} ns; polled once, so no store was waited for"),
    }]
}
