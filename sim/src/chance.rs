//! Chance that can be repeated: [`Chance`].

use std::sync::{Mutex, PoisonError};

use counterfoil_core::{Entropy, EntropyError};

/// A generator (SplitMix64) whose whole state is one number. Not for secrets.
#[derive(Debug)]
pub(crate) struct Chance(Mutex<u64>);

impl Chance {
    pub(crate) fn from_seed(seed: u64) -> Chance {
        Chance(Mutex::new(seed))
    }

    /// One of its own for `purpose`.
    pub(crate) fn fork(&self, purpose: u64) -> Chance {
        Chance::from_seed(self.next() ^ purpose.wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    pub(crate) fn next(&self) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which must not be 0.
    pub(crate) fn below(&self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True in so many of a thousand.
    pub(crate) fn permille(&self, many: usize) -> bool {
        self.below(1_000) < many
    }

    /// From `least` to `most`, both included.
    pub(crate) fn between(&self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }

    /// From `least`, which must not be 0, to about `most`, each doubling as likely as the next: most often short, now and then long.
    pub(crate) fn magnitude(&self, least: u64, most: u64) -> u64 {
        let doublings = (most / least).max(1).ilog2();
        let low = least << self.between(0, u64::from(doublings));
        self.between(low, (low * 2).min(most.max(low)))
    }

    /// One of `choices`, which must not be empty.
    pub(crate) fn pick<'a, T>(&self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

/// What the nodes draw secrets from.
impl Entropy for Chance {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        for block in buffer.chunks_mut(8) {
            let drawn = self.next().to_le_bytes();
            block.copy_from_slice(&drawn[..block.len()]);
        }
        Ok(())
    }
}
