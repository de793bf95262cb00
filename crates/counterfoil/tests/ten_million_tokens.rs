//! The operating system's generator, as tokens are minted from it.

use std::thread;

use counterfoil::OsEntropy;
use counterfoil_core::{CheckKey, Prefix, TokenFormat};

/// Compares the first 16 characters of each body, 95 random bits of the 256: a repeat of a token would be one of these, and
/// a healthy generator shows none among ten million with a probability of one in 10¹⁴.
#[test]
fn r01_ten_million_tokens_hold_no_repeat() {
    let format = TokenFormat::new(CheckKey::generate(&OsEntropy).expect("entropy"), Vec::new(), &[]);
    let prefix = Prefix::default();
    let half = || {
        let mut heads: Vec<u128> = (0..5_000_000)
            .map(|_| {
                let secret = format.mint(&prefix, &OsEntropy).expect("entropy");
                let head: [u8; 16] = secret.expose().as_bytes()[3..19].try_into().expect("sixteen bytes");
                u128::from_be_bytes(head)
            })
            .collect();
        heads.sort_unstable();
        heads
    };
    let mut heads = thread::scope(|scope| {
        let beside = scope.spawn(half);
        let mut heads = half();
        heads.extend(beside.join().expect("no panic"));
        heads
    });
    // Two runs, which are merged.
    heads.sort();
    let repeats = heads.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert_eq!(repeats, 0);
}
