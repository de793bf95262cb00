//! Chance as an argument: the generator that secrets, salts and ids are drawn from.

use std::error::Error;
use std::fmt;
use std::sync::Mutex;

use sha2::{Digest, Sha256};

/// A source of bytes that nobody can guess. The program hands in the operating system's.
pub trait Entropy: Send + Sync + fmt::Debug {
    /// Fills the whole buffer.
    ///
    /// # Errors
    /// When the source fails. The caller then issues nothing: a guessable token is worse than none.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError>;
}

/// The source of randomness failed.
#[derive(Debug)]
pub struct EntropyError(Box<dyn Error + Send + Sync>);

impl EntropyError {
    /// Keeps `source` for the operator.
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        EntropyError(source.into())
    }
}

impl fmt::Display for EntropyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the source of randomness failed")
    }
}

impl Error for EntropyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.0.as_ref())
    }
}

/// Bytes that anyone who knows the seed can foretell: for tests, never for a token that guards something.
#[derive(Debug)]
pub struct PredictableEntropy {
    seed: u64,
    drawn: Mutex<u64>,
}

impl PredictableEntropy {
    /// The same seed gives the same bytes in the same order.
    pub fn from_seed(seed: u64) -> Self {
        PredictableEntropy { seed, drawn: Mutex::new(0) }
    }
}

impl Entropy for PredictableEntropy {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        let mut drawn = self.drawn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for block in buffer.chunks_mut(32) {
            *drawn += 1;
            let digest =
                Sha256::new().chain_update(self.seed.to_be_bytes()).chain_update(drawn.to_be_bytes()).finalize();
            block.copy_from_slice(&digest[..block.len()]);
        }
        Ok(())
    }
}
