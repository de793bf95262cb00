//! What an [`Importer`](crate::import::Importer) asks for.

use super::Authority;
use crate::ability::Abilities;
use crate::actor::By;
use crate::client::{Client, Reissue};
use crate::clock::Now;
use crate::event::Event;
use crate::import::{ImportedSecret, ImportedToken, TokenRow};
use crate::refusal::{Error, Refusal};
use crate::seal::SealedFor;
use crate::secret::{Candidates, DigestScheme, SecretToken};
use crate::shape::TokenShape;
use crate::token::{Kind, TokenId};

impl Authority {
    /// A token as it goes into the store; `None` where nothing can be made of what the source keeps.
    pub(crate) fn token_row(&self, token: ImportedToken, client: &Client) -> Result<Option<TokenRow>, Error> {
        let ImportedToken { key, number, kind, subject, name, metadata, issued_at, expires_at, source, .. } = token;
        let id = TokenId::generate(issued_at, self.entropy.as_ref())?;
        let mut sealed = None;
        let (digest, scheme) = match token.secret {
            ImportedSecret::Text(secret) => {
                if kind == Kind::Login && client.policy.reissue == Reissue::Same {
                    let chosen = self.chosen();
                    let ring = chosen.ring.as_ref().ok_or(Refusal::KeyRingMissing)?;
                    let bound_to = SealedFor { token: id, subject: &subject, client: client.id };
                    sealed = Some(ring.seal(&secret, bound_to, self.entropy.as_ref())?);
                }
                let Some(scheme) = self.scheme_of_text(&secret) else { return Ok(None) };
                (secret.digest(), scheme)
            }
            ImportedSecret::Knox(sha512) => {
                let scheme = DigestScheme::KnoxSha512;
                (scheme.from_package_digest(&sha512), scheme)
            }
            ImportedSecret::RestAuthtoken(sha512) => {
                let scheme = DigestScheme::RestAuthtokenSha512;
                (scheme.from_package_digest(&sha512), scheme)
            }
            ImportedSecret::Djforge(hash) => {
                let Some(digest) = DigestScheme::of_djforge(&hash) else { return Ok(None) };
                (digest, DigestScheme::Djforge)
            }
        };
        Ok(Some(TokenRow {
            key,
            id,
            number,
            kind,
            subject,
            client: client.id,
            name,
            abilities: Abilities::everything(),
            metadata,
            issued_at,
            expires_at,
            digest,
            scheme,
            sealed,
            source,
            last_seen: token.last_seen,
        }))
    }

    /// How a text that was issued elsewhere will be looked up when it is presented here; `None` where it never is.
    ///
    /// One in 10¹² has our check by chance, and is looked up as one of ours from then on; so it has to be kept as one.
    fn scheme_of_text(&self, secret: &SecretToken) -> Option<DigestScheme> {
        match self.format.read_with(secret.expose(), &[DigestScheme::PlainText])? {
            Candidates::Native(_) => Some(DigestScheme::Native),
            Candidates::Imported(_) => Some(DigestScheme::PlainText),
        }
    }

    /// Looks texts up from now on under the schemes that the store has tokens of; said again every second, because another process may
    /// bring some.
    pub(crate) async fn accept_imported(&self) -> Result<(), Error> {
        self.format.accept_imported(&self.tokens.imported().await?);
        Ok(())
    }

    /// Looks texts of this shape up from the start, where it is one without our check: for a dialect that mints it, so that no node
    /// has to hear of the first one.
    pub fn expect_shape(&self, shape: &TokenShape) {
        if shape.scheme() == DigestScheme::PlainText {
            self.format.always_accept(DigestScheme::PlainText);
        }
    }

    pub(crate) async fn tell(&self, event: Event, by: &By, now: Now) -> Result<(), Error> {
        self.record(event, by, now).await
    }
}
