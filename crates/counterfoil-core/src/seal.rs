//! Sealed secrets: the one case in which a token's text can be had again.
//!
//! A client with `reissue = same` hands out the same secret at every login, as DRF's authtoken and durin do. Its rows
//! keep the secret encrypted with XChaCha20-Poly1305 under a ring of keys that is **not** in the database, so that a
//! stolen database still yields no usable token.

use std::fmt;
use std::str::FromStr;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use zeroize::{Zeroize, Zeroizing};

use crate::client::ClientId;
use crate::entropy::{Entropy, EntropyError};
use crate::secret::{SecretToken, TokenDigest};
use crate::subject::SubjectId;
use crate::token::TokenId;

const NONCE: usize = 24;

/// A sealed secret as a store keeps it: opaque but for the number of its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Which key of the ring opens it.
    pub key_id: u32,
    /// 24 bytes of nonce, then the ciphertext with its tag.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed {{ key_id: {} }}", self.key_id)
    }
}

/// What a sealed secret is bound to: moved to another row, it does not open.
#[derive(Debug, Clone, Copy)]
pub struct SealedFor<'a> {
    /// The token whose secret it is.
    pub token: TokenId,
    /// Whom that token stands for.
    pub subject: &'a SubjectId,
    /// The client it was issued on.
    pub client: ClientId,
}

impl SealedFor<'_> {
    /// Two ids of fixed length around the one that varies, so that no two bindings are the same bytes.
    fn associated_data(self) -> Vec<u8> {
        [self.token.as_bytes().as_slice(), self.subject.as_str().as_bytes(), self.client.as_bytes()].concat()
    }
}

/// The keys that seal and open, newest first. Kept in a file of mode 0600 outside the database.
pub struct KeyRing {
    keys: Vec<(u32, Zeroizing<[u8; 32]>)>,
}

/// The secret did not open: its key is not on the ring, or the row was tampered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnsealError {
    /// The ring has no key of this number.
    KeyMissing(u32),
    /// The ciphertext, its binding or the digest of what came out does not fit.
    Tampered,
}

impl fmt::Display for UnsealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UnsealError::KeyMissing(id) => write!(f, "the key ring has no key {id}; every node needs the same ring"),
            UnsealError::Tampered => f.write_str(
                "a sealed secret does not open: the key ring has another key of its number, or its row was changed",
            ),
        }
    }
}

impl std::error::Error for UnsealError {}

impl KeyRing {
    /// A ring with one new key, number 1.
    ///
    /// # Errors
    /// When the source of randomness fails.
    pub fn generate(entropy: &dyn Entropy) -> Result<KeyRing, EntropyError> {
        let mut key = Zeroizing::new([0; 32]);
        entropy.fill(&mut key[..])?;
        Ok(KeyRing { keys: vec![(1, key)] })
    }

    /// The same ring with a new key in front, which seals from then on.
    ///
    /// # Errors
    /// When the source of randomness fails.
    pub fn with_new_key(&self, entropy: &dyn Entropy) -> Result<KeyRing, EntropyError> {
        let mut key = Zeroizing::new([0; 32]);
        entropy.fill(&mut key[..])?;
        let id = self.ids().max().unwrap_or(0).saturating_add(1);
        let keys = std::iter::once((id, key)).chain(self.keys.iter().cloned()).collect();
        Ok(KeyRing { keys })
    }

    /// The same ring with its newest key alone: for when nothing is sealed with the others any more.
    #[must_use]
    pub fn newest_only(&self) -> KeyRing {
        KeyRing { keys: self.keys[..1].to_vec() }
    }

    /// The number of the key that seals.
    pub fn newest_id(&self) -> u32 {
        self.keys[0].0
    }

    /// The numbers of the keys, newest first.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        self.keys.iter().map(|(id, _)| *id)
    }

    /// A number that none of its keys has.
    pub(crate) fn unused_id(&self) -> u32 {
        (0..=u32::MAX).find(|id| self.ids().all(|known| known != *id)).unwrap_or_default()
    }

    /// Seals `secret` with the newest key.
    ///
    /// # Errors
    /// When the source of randomness fails: a repeated nonce would give the secrets away.
    pub fn seal(
        &self,
        secret: &SecretToken,
        bound_to: SealedFor<'_>,
        entropy: &dyn Entropy,
    ) -> Result<Sealed, EntropyError> {
        let (key_id, key) = &self.keys[0];
        let mut nonce = [0; NONCE];
        entropy.fill(&mut nonce)?;
        let aad = bound_to.associated_data();
        let cipher = XChaCha20Poly1305::new(&Key::from(**key));
        let payload = Payload { msg: secret.expose().as_bytes(), aad: &aad };
        let sealed = cipher
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| EntropyError::new("sealing failed: the text is longer than the cipher takes"))?;
        Ok(Sealed { key_id: *key_id, bytes: [nonce.as_slice(), &sealed].concat() })
    }

    /// Opens what [`KeyRing::seal`] made and checks it against the `digest` of the row it came from.
    ///
    /// # Errors
    /// [`UnsealError`]; never a text that is not the row's own secret.
    pub fn open(
        &self,
        sealed: &Sealed,
        bound_to: SealedFor<'_>,
        digest: &TokenDigest,
    ) -> Result<SecretToken, UnsealError> {
        let (_, key) =
            self.keys.iter().find(|(id, _)| *id == sealed.key_id).ok_or(UnsealError::KeyMissing(sealed.key_id))?;
        let (nonce, ciphertext) = sealed.bytes.split_first_chunk::<NONCE>().ok_or(UnsealError::Tampered)?;
        let aad = bound_to.associated_data();
        let cipher = XChaCha20Poly1305::new(&Key::from(**key));
        let plain = cipher
            .decrypt(&XNonce::from(*nonce), Payload { msg: ciphertext, aad: &aad })
            .map_err(|_| UnsealError::Tampered)?;
        let text = String::from_utf8(plain).map_err(|error| {
            error.into_bytes().zeroize();
            UnsealError::Tampered
        })?;
        let secret = SecretToken::from_text(text);
        if secret.digest() == *digest { Ok(secret) } else { Err(UnsealError::Tampered) }
    }

    /// The ring as its file holds it: a line `number hex` per key, newest first.
    pub fn to_file_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::new());
        for (id, key) in &self.keys {
            text.push_str(&id.to_string());
            text.push(' ');
            for byte in key.iter() {
                for digit in [byte >> 4, byte & 15] {
                    text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
                }
            }
            text.push('\n');
        }
        text
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(id, _)| id)).finish()
    }
}

/// The text is not a key ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAKeyRing;

impl fmt::Display for NotAKeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key ring has one line for each key, newest first: a number, a space and 64 hex digits")
    }
}

impl std::error::Error for NotAKeyRing {}

impl FromStr for KeyRing {
    type Err = NotAKeyRing;

    fn from_str(text: &str) -> Result<Self, NotAKeyRing> {
        let mut keys: Vec<(u32, Zeroizing<[u8; 32]>)> = Vec::new();
        for line in text.lines() {
            let (id, hex) = line.split_once(' ').ok_or(NotAKeyRing)?;
            let id: u32 = id.parse().map_err(|_| NotAKeyRing)?;
            if hex.len() != 64 || !hex.is_ascii() || keys.iter().any(|(known, _)| *known == id) {
                return Err(NotAKeyRing);
            }
            let mut key = Zeroizing::new([0; 32]);
            for (position, byte) in key.iter_mut().enumerate() {
                *byte = u8::from_str_radix(&hex[2 * position..2 * position + 2], 16).map_err(|_| NotAKeyRing)?;
            }
            keys.push((id, key));
        }
        if keys.is_empty() { Err(NotAKeyRing) } else { Ok(KeyRing { keys }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::PredictableEntropy;

    fn ids(seed: u8) -> (TokenId, SubjectId, ClientId) {
        (
            TokenId::from_bytes([seed; 16]),
            format!("subject-{seed}").parse().expect("subject"),
            ClientId::from_bytes([seed; 16]),
        )
    }

    #[test]
    fn a_sealed_secret_opens_only_in_its_own_row() {
        let entropy = PredictableEntropy::from_seed(1);
        let ring = KeyRing::generate(&entropy).expect("entropy");
        let secret = SecretToken::from_text("cf_secret");
        let (token, subject, client) = ids(1);
        let home = SealedFor { token, subject: &subject, client };
        let sealed = ring.seal(&secret, home, &entropy).expect("entropy");
        assert_eq!(ring.open(&sealed, home, &secret.digest()).expect("opens").expose(), "cf_secret");

        let (other_token, other_subject, other_client) = ids(2);
        for elsewhere in [
            SealedFor { token: other_token, ..home },
            SealedFor { subject: &other_subject, ..home },
            SealedFor { client: other_client, ..home },
        ] {
            assert_eq!(ring.open(&sealed, elsewhere, &secret.digest()).err(), Some(UnsealError::Tampered));
        }
        let other_digest = TokenDigest::of_text("another");
        assert_eq!(ring.open(&sealed, home, &other_digest).err(), Some(UnsealError::Tampered));
        let mut bent = sealed.clone();
        bent.bytes[30] ^= 1;
        assert_eq!(ring.open(&bent, home, &secret.digest()).err(), Some(UnsealError::Tampered));
        bent.bytes.truncate(3);
        assert_eq!(ring.open(&bent, home, &secret.digest()).err(), Some(UnsealError::Tampered));
        let lost = Sealed { key_id: 7, ..sealed };
        assert_eq!(ring.open(&lost, home, &secret.digest()).err(), Some(UnsealError::KeyMissing(7)));
    }

    #[test]
    fn a_new_key_seals_and_the_old_ones_still_open() {
        let entropy = PredictableEntropy::from_seed(1);
        let ring = KeyRing::generate(&entropy).expect("entropy");
        let secret = SecretToken::from_text("cf_secret");
        let (token, subject, client) = ids(1);
        let home = SealedFor { token, subject: &subject, client };
        let old = ring.seal(&secret, home, &entropy).expect("entropy");
        let rotated = ring.with_new_key(&entropy).expect("entropy");
        assert_eq!((rotated.newest_id(), rotated.ids().collect::<Vec<_>>()), (2, vec![2, 1]));
        assert_eq!(rotated.open(&old, home, &secret.digest()).expect("opens").expose(), "cf_secret");
        let new = rotated.seal(&secret, home, &entropy).expect("entropy");
        assert_eq!(new.key_id, 2);
        assert_eq!(ring.open(&new, home, &secret.digest()).err(), Some(UnsealError::KeyMissing(2)));
        let alone = rotated.newest_only();
        assert_eq!(alone.open(&new, home, &secret.digest()).expect("opens").expose(), "cf_secret");
        assert_eq!(alone.open(&old, home, &secret.digest()).err(), Some(UnsealError::KeyMissing(1)));
    }

    #[test]
    fn a_ring_reads_back_and_prints_no_key() {
        let ring = KeyRing::generate(&PredictableEntropy::from_seed(5)).expect("entropy");
        let text = ring.to_file_text();
        let read: KeyRing = text.parse().expect("ring");
        assert_eq!(*read.to_file_text(), *text);
        assert_eq!(format!("{ring:?}"), "[1]");
        for bad in ["", "1", "1 00", "x 00", &format!("{}{}", &*text, &*text), "1 zz"] {
            assert!(bad.parse::<KeyRing>().is_err(), "{bad:?}");
        }
    }
}
