//! Sealing secrets anew, after a key was added to the ring.

use std::collections::BTreeMap;

use super::Authority;
use crate::actor::By;
use crate::clock::Now;
use crate::event::Event;
use crate::refusal::{Error, Refusal};
use crate::seal::SealedFor;
use crate::store::SealedSecret;

/// Secrets read at once.
const READ_AT_ONCE: u32 = 500;

impl Authority {
    /// Seals every secret that another key than the newest seals with the newest, and returns how many; after that no row
    /// needs the others. `progress` is told how many are done. One that changes or dies meanwhile needs nothing.
    ///
    /// # Errors
    /// [`Refusal::KeyRingMissing`]; [`Error::Unseal`] where a key is missing or a row was tampered with, which leaves those
    /// before it done.
    pub async fn reseal(&self, by: &By, now: Now, mut progress: impl FnMut(u64)) -> Result<u64, Error> {
        by.must_be_admin()?;
        let chosen = self.chosen();
        let ring = chosen.ring.as_ref().ok_or(Refusal::KeyRingMissing)?;
        let (mut after, mut count) = (0, 0);
        loop {
            let page = self.tokens.sealed_otherwise(ring.newest_id(), after, READ_AT_ONCE).await?;
            let Some(last) = page.last() else { break };
            after = last.number;
            for secret in &page {
                let SealedSecret { token, subject, client, digest, sealed, .. } = secret;
                let bound_to = SealedFor { token: *token, subject, client: *client };
                let text = ring.open(sealed, bound_to, digest)?;
                let resealed = ring.seal(&text, bound_to, self.entropy.as_ref())?;
                count += u64::from(self.tokens.reseal(secret, &resealed).await?);
            }
            progress(count);
        }
        self.record(Event::SecretsResealed(count), by, now).await?;
        Ok(count)
    }

    /// How many secrets are sealed with each key but `key_id`, by the numbers of the keys: those that
    /// [`Authority::reseal`] would seal anew, and that are lost once the ring has that key alone. Reads all of them.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sealed_otherwise(&self, key_id: u32) -> Result<BTreeMap<u32, u64>, Error> {
        let (mut after, mut counts) = (0, BTreeMap::new());
        loop {
            let page = self.tokens.sealed_otherwise(key_id, after, READ_AT_ONCE).await?;
            let Some(last) = page.last() else { return Ok(counts) };
            after = last.number;
            for secret in &page {
                *counts.entry(secret.sealed.key_id).or_default() += 1;
            }
        }
    }
}
