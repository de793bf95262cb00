//! Which rows of a source are which: the keys of the ledger, and what of it a source has no longer.
//!
//! A key begins with a tag of the source's name and of what the row is, so that one project's tokens of one package are a stretch of
//! the ledger, and what is missing of them is found without looking at anything else.

use std::collections::BTreeMap;

use counterfoil::import::{Brought, ImportedSecret, Importer, LedgerRow, SourceKey};
use counterfoil::{SubjectId, Timestamp};

use crate::failure::Failure;
use crate::import::packages::TokenRow;
use crate::import::project::Package;

/// What a stretch of the ledger holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stretch {
    Users,
    Tokens(Package),
}

impl Stretch {
    const fn as_str(self) -> &'static str {
        match self {
            Stretch::Users => "users",
            Stretch::Tokens(package) => package.as_str(),
        }
    }
}

type Tag = [u8; 8];

/// The keys of one source.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    source: String,
}

impl Keys {
    pub(crate) fn of(source: &str) -> Keys {
        Keys { source: source.to_owned() }
    }

    fn tag(&self, stretch: Stretch) -> Tag {
        let digest = *SourceKey::of(&self.source, stretch.as_str(), b"").as_bytes();
        let mut tag = [0; 8];
        tag.copy_from_slice(&digest[..8]);
        tag
    }

    fn key(&self, stretch: Stretch, row: &[u8]) -> SourceKey {
        let mut bytes = *SourceKey::of(&self.source, stretch.as_str(), row).as_bytes();
        bytes[..8].copy_from_slice(&self.tag(stretch));
        SourceKey::from_bytes(bytes)
    }

    /// A user goes by the key that the source has for them; whether it is still the same person is for the store to say.
    pub(crate) fn user(&self, subject: &SubjectId) -> SourceKey {
        self.key(Stretch::Users, subject.as_str().as_bytes())
    }

    /// A token is the same one while what is kept of its text is.
    pub(crate) fn token(&self, token: &TokenRow) -> SourceKey {
        let kept = match &token.kept {
            ImportedSecret::Text(secret) => secret.expose().as_bytes(),
            ImportedSecret::Knox(sha512) | ImportedSecret::RestAuthtoken(sha512) => sha512,
            ImportedSecret::Djforge(hash) => hash.as_bytes(),
        };
        self.key(Stretch::Tokens(token.package), kept)
    }
}

/// What was met in one look, to be held against what was brought before: 16 bytes a row.
#[derive(Debug, Default)]
pub(crate) struct Seen(BTreeMap<Stretch, Vec<u128>>);

impl Seen {
    pub(crate) fn note(&mut self, stretch: Stretch, key: &SourceKey) {
        self.0.entry(stretch).or_default().push(number(key));
    }

    fn settle(&mut self) {
        for keys in self.0.values_mut() {
            keys.sort_unstable();
        }
    }

    fn has(&self, stretch: Stretch, key: &SourceKey) -> bool {
        self.0.get(&stretch).is_some_and(|keys| keys.binary_search(&number(key)).is_ok())
    }
}

/// What tells keys of one stretch apart.
pub(crate) fn number(key: &SourceKey) -> u128 {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&key.as_bytes()[8..24]);
    u128::from_be_bytes(bytes)
}

/// What a source has no longer of what it brought.
#[derive(Debug, Default)]
pub(crate) struct Missing {
    /// Each with the expiry that it had there last.
    pub(crate) rows: Vec<(Brought, Option<Timestamp>)>,
    /// Of so many that were brought.
    pub(crate) of: u64,
}

impl Missing {
    /// Compares the ledger with what was met.
    pub(crate) async fn find(
        importer: &Importer,
        keys: &Keys,
        stretches: &[Stretch],
        mut seen: Seen,
    ) -> Result<Missing, Failure> {
        seen.settle();
        let mut missing = Missing::default();
        for &stretch in stretches {
            let mut pages = Pages::of(keys.tag(stretch));
            while let Some(page) = pages.next(importer).await? {
                for row in page {
                    missing.of += 1;
                    if !seen.has(stretch, &row.key) {
                        missing.rows.push((row.brought, row.expires_at));
                    }
                }
            }
        }
        Ok(missing)
    }
}

/// Whether anything of these was brought before.
pub(crate) async fn has_any(importer: &Importer, keys: &Keys, stretch: Stretch) -> Result<bool, Failure> {
    let page = Pages::of(keys.tag(stretch)).next(importer).await?;
    Ok(page.is_some_and(|page| !page.is_empty()))
}

/// The rows of one tag, page by page.
struct Pages {
    tag: Tag,
    after: Option<SourceKey>,
}

impl Pages {
    fn of(tag: Tag) -> Pages {
        let mut first = [0; 32];
        first[..8].copy_from_slice(&tag);
        Pages { tag, after: Some(SourceKey::from_bytes(first)) }
    }

    async fn next(&mut self, importer: &Importer) -> Result<Option<Vec<LedgerRow>>, Failure> {
        const PAGE: u32 = 2_000;
        let Some(after) = self.after else { return Ok(None) };
        let page = importer.ledger(Some(after), PAGE).await?;
        let is_full = page.len() as u32 == PAGE;
        let rows: Vec<LedgerRow> =
            page.into_iter().take_while(|row| row.key.as_bytes().starts_with(&self.tag)).collect();
        self.after = rows.last().map(|row| row.key).filter(|_| is_full && rows.len() as u32 == PAGE);
        Ok(Some(rows))
    }
}
