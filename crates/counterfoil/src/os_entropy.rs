//! The one place that asks the operating system for chance: [`OsEntropy`].

use counterfoil_core::{Entropy, EntropyError};

/// The operating system's generator. It fails rather than give bytes that somebody could guess.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    #[expect(clippy::disallowed_methods, reason = "this is the place that asks the operating system for chance")]
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        getrandom::fill(buffer).map_err(EntropyError::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        let (mut first, mut second) = ([0; 32], [0; 32]);
        OsEntropy.fill(&mut first).expect("entropy");
        OsEntropy.fill(&mut second).expect("entropy");
        assert_ne!(first, second);
    }
}
