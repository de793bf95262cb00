//! Bringing accounts and tokens over from a system that is to be left: [`Importer`].
//!
//! What was brought is noted in a ledger, under a key that names the row of the source. So an import can be run again, or go on where
//! it was killed, and what has been ended or changed here since is never undone: a key in the ledger is not brought a second time, be
//! its token still there or not. [`Importer::finish`] forgets the ledger, when nothing will be brought any more.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::ability::Abilities;
use crate::account::Account;
use crate::actor::By;
use crate::authority::Authority;
use crate::client::{Client, ClientId, ClientName};
use crate::clock::{Now, Timestamp};
use crate::event::Event;
use crate::link::{Link, Purpose};
use crate::password::EncodedPassword;
use crate::refusal::{Error, Refusal};
use crate::seal::Sealed;
use crate::secret::{DigestScheme, SecretToken, TokenDigest};
use crate::store::Answer;
use crate::subject::SubjectId;
use crate::token::{Kind, Metadata, Sighting, Source, TokenId, TokenName};

/// Names a row of a source: the same row has the same key whenever it is read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceKey([u8; 32]);

impl SourceKey {
    /// The key of a `row` in a `table` of a `source`. A digest, because the row may be named by a secret.
    pub fn of(source: &str, table: &str, row: &[u8]) -> SourceKey {
        let mut digest = Sha256::new().chain_update("counterfoil import:");
        for part in [source.as_bytes(), table.as_bytes(), row] {
            digest = digest.chain_update((part.len() as u64).to_be_bytes()).chain_update(part);
        }
        SourceKey(digest.finalize().into())
    }

    /// Takes in what a store kept.
    pub const fn from_bytes(bytes: [u8; 32]) -> SourceKey {
        SourceKey(bytes)
    }

    /// The bytes a store keeps.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SourceKey")
    }
}

/// An account as a source has it.
#[derive(Debug, Clone)]
pub struct ImportedAccount {
    /// Names its row.
    pub key: SourceKey,
    /// The account. Its user name may differ from others' by case alone.
    pub account: Account,
    /// Its password, hashed as the source has it; see [`crate::password`] for what verifies.
    pub password: EncodedPassword,
}

/// What became of an [`ImportedAccount`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountOutcome {
    /// It is here now.
    Imported,
    /// It was brought before, and nothing has changed that would be carried over.
    Known,
    /// It was brought before; its password was changed in the source since, and is that one now.
    PasswordReplaced,
    /// It was brought before; its password was changed in the source and here, and stays as it is here.
    PasswordKept,
    /// It was brought before and has been deleted here, or its subject was: it stays so.
    Deleted,
    /// Another account has its subject: it would be taken for somebody else. Also one that was brought before, where neither its user
    /// name nor the day it was made is what it was: that is another project's user, and not this one changed.
    SubjectTaken,
    /// Another account has its user name, character by character.
    NameTaken,
}

/// A token as a source has it.
#[derive(Debug)]
pub struct ImportedToken {
    /// Names its row.
    pub key: SourceKey,
    /// The number that the package shows of it; kept where no other token has it.
    pub number: Option<u64>,
    /// Login token or API key.
    pub kind: Kind,
    /// Whom it stands for; must be there.
    pub subject: SubjectId,
    /// Its client; must be there.
    pub client: ClientName,
    /// What it is called.
    pub name: Option<TokenName>,
    /// The host's own facts.
    pub metadata: Metadata,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// The first instant at which it is dead.
    pub expires_at: Option<Timestamp>,
    /// What the source keeps of its text.
    pub secret: ImportedSecret,
    /// Where it was issued.
    pub source: Source,
    /// When it was last used, and where.
    pub last_seen: Option<Sighting>,
}

/// What a source keeps of the text of a token.
pub enum ImportedSecret {
    /// The text itself.
    Text(SecretToken),
    /// The SHA-512 of the text, as django-rest-knox has it.
    Knox([u8; 64]),
    /// The SHA-512 of the bytes that the text writes in base64url, as django-rest-authtoken has it.
    RestAuthtoken([u8; 64]),
    /// The PBKDF2 hash that is the second half of the text, as djforge-redis-multitokens has it.
    Djforge(String),
}

impl fmt::Debug for ImportedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ImportedSecret::Text(_) => "Text",
            ImportedSecret::Knox(_) => "Knox",
            ImportedSecret::RestAuthtoken(_) => "RestAuthtoken",
            ImportedSecret::Djforge(_) => "Djforge",
        })
    }
}

/// What became of an [`ImportedToken`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenOutcome {
    /// It is here now, under this number.
    Imported {
        /// See [`crate::Token::number`].
        number: u64,
    },
    /// It was brought before: this one. Where the source has moved its expiry on since, it has moved on here too.
    Known(TokenId),
    /// It was brought before and has been removed here: it stays so.
    Gone,
    /// Another token has this text.
    Taken,
    /// Its subject is not here, or was deleted.
    SubjectMissing,
    /// Its client is not here.
    ClientMissing,
    /// It has expired.
    Expired,
    /// What the source keeps of its text is of no use: see [`DigestScheme::of_djforge`].
    Unreadable,
}

/// A token ready to be added.
#[derive(Debug, Clone)]
pub struct TokenRow {
    /// Names its row in the source.
    pub key: SourceKey,
    /// Its public name.
    pub id: TokenId,
    /// The number that it shall have, if it is free.
    pub number: Option<u64>,
    /// Login token or API key.
    pub kind: Kind,
    /// Whom it stands for.
    pub subject: SubjectId,
    /// Its client.
    pub client: ClientId,
    /// What it is called.
    pub name: Option<TokenName>,
    /// What it may do.
    pub abilities: Abilities,
    /// The host's own facts.
    pub metadata: Metadata,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// The first instant at which it is dead.
    pub expires_at: Option<Timestamp>,
    /// What is kept of its secret.
    pub digest: TokenDigest,
    /// How the digest was made.
    pub scheme: DigestScheme,
    /// The secret sealed, for a client with `reissue = same`.
    pub sealed: Option<Sealed>,
    /// Where it was issued.
    pub source: Source,
    /// When it was last used, and where.
    pub last_seen: Option<Sighting>,
}

/// One row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRow {
    /// Names the row of the source.
    pub key: SourceKey,
    /// What was made of it.
    pub brought: Brought,
    /// Of a token, the expiry that it had in the source when it was read last.
    pub expires_at: Option<Timestamp>,
}

/// What was made of a row of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Brought {
    /// An account.
    Account(SubjectId),
    /// A token.
    Token(TokenId),
}

/// Where what is brought goes, and the ledger. Each method is one transition, as [`crate::store`] has it.
pub trait ImportStore: Send + Sync + fmt::Debug {
    /// Adds accounts and their subjects, which are active or not as the accounts are; an outcome for each, in order. The ledger keeps a
    /// digest of each password, by which one that was changed here is told from one that was not.
    fn import_accounts<'a>(
        &'a self,
        accounts: &'a [ImportedAccount],
        now: Timestamp,
    ) -> Answer<'a, Vec<AccountOutcome>>;

    /// Adds tokens, stamped with the epochs as they stand; an outcome for each, in order, of which
    /// [`TokenOutcome::ClientMissing`] is for a client that was deleted.
    fn import_tokens<'a>(&'a self, tokens: &'a [TokenRow], now: Timestamp) -> Answer<'a, Vec<TokenOutcome>>;

    /// Keeps a link, if links are kept here; whether it was. `false` where one has this digest already.
    fn import_link<'a>(&'a self, link: &'a Link) -> Answer<'a, bool>;

    /// A page of the ledger in the order of its keys, from behind `after` on.
    fn ledger(&self, after: Option<SourceKey>, limit: u32) -> Answer<'_, Vec<LedgerRow>>;

    /// Forgets up to `batch` rows of the ledger, and returns how many.
    fn forget_ledger(&self, batch: u32) -> Answer<'_, u64>;
}

/// What is kept of a password in the ledger, to be compared with.
pub fn mark_of(password: &EncodedPassword) -> [u8; 32] {
    Sha256::new().chain_update("counterfoil import:").chain_update(password.expose()).finalize().into()
}

/// Brings accounts and tokens into a deployment. It judges as little as an import can: what the source took for a live token is one.
#[derive(Debug, Clone)]
pub struct Importer {
    authority: Arc<Authority>,
    store: Arc<dyn ImportStore>,
}

impl Importer {
    /// Brings them into the stores of `authority`, of which `store` must be one.
    pub fn new(authority: Arc<Authority>, store: Arc<dyn ImportStore>) -> Importer {
        Importer { authority, store }
    }

    /// Brings a batch of accounts, in one transition; an outcome for each, in order.
    ///
    /// # Errors
    /// When the store fails; then none was brought.
    pub async fn accounts(&self, accounts: &[ImportedAccount], now: Now) -> Result<Vec<AccountOutcome>, Error> {
        Ok(self.store.import_accounts(accounts, now.wall).await?)
    }

    /// Brings a batch of tokens, in one transition; an outcome for each, in order.
    ///
    /// A text that a client hands out again (`reissue = same`) is sealed; any other is kept as a digest alone.
    ///
    /// # Errors
    /// [`Refusal::KeyRingMissing`] for such a client without a ring; when the store fails. Then none was brought.
    pub async fn tokens(&self, tokens: Vec<ImportedToken>, now: Now) -> Result<Vec<TokenOutcome>, Error> {
        let mut clients: HashMap<ClientName, Option<Arc<Client>>> = HashMap::new();
        let mut outcomes = Vec::with_capacity(tokens.len());
        let mut rows = Vec::with_capacity(tokens.len());
        for token in tokens {
            if !clients.contains_key(&token.client) {
                let client = match self.authority.client(&token.client).await {
                    Ok(client) => Some(client),
                    Err(Error::Refused(Refusal::ClientUnknown)) => None,
                    Err(error) => return Err(error),
                };
                clients.insert(token.client.clone(), client);
            }
            let client = clients.get(&token.client).and_then(Option::as_deref);
            outcomes.push(match (client, token.expires_at) {
                (_, Some(end)) if now.wall >= end => Some(TokenOutcome::Expired),
                (None, _) => Some(TokenOutcome::ClientMissing),
                (Some(client), _) => match self.authority.token_row(token, client)? {
                    Some(row) => {
                        rows.push(row);
                        None
                    }
                    None => Some(TokenOutcome::Unreadable),
                },
            });
        }
        let mut stored = self.store.import_tokens(&rows, now.wall).await?.into_iter();
        self.authority.accept_imported().await?;
        Ok(outcomes.into_iter().filter_map(|outcome| outcome.or_else(|| stored.next())).collect())
    }

    /// Keeps a link that a source has mailed and that was not used yet, of which it keeps the SHA-512 of the bytes that its text writes
    /// in base64url. `false` where it has expired or is there already.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn confirmation_link(&self, sha512: &[u8; 64], link: ImportedLink, now: Now) -> Result<bool, Error> {
        let ImportedLink { subject, email, expires_at } = link;
        if expires_at <= now.wall {
            return Ok(false);
        }
        let digest = DigestScheme::RestAuthtokenSha512.from_package_digest(sha512);
        let link = Link { digest, purpose: Purpose::Confirm, subject, email, next: None, expires_at };
        Ok(self.store.import_link(&link).await?)
    }

    /// A page of the ledger, from behind `after` on.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn ledger(&self, after: Option<SourceKey>, limit: u32) -> Result<Vec<LedgerRow>, Error> {
        Ok(self.store.ledger(after, limit).await?)
    }

    /// Tells that an import has ended for now, and what it brought.
    ///
    /// # Errors
    /// When the audit log cannot be written.
    pub async fn tell(&self, accounts: u64, tokens: u64, by: &By, now: Now) -> Result<(), Error> {
        self.authority.tell(Event::Imported { accounts, tokens }, by, now).await
    }

    /// Forgets up to `batch` rows of the ledger, and returns how many: what is brought from then on is brought anew.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn finish(&self, batch: u32) -> Result<u64, Error> {
        Ok(self.store.forget_ledger(batch).await?)
    }
}

/// A link that confirms an address.
#[derive(Debug, Clone)]
pub struct ImportedLink {
    /// Whose account.
    pub subject: SubjectId,
    /// The address that it was mailed to; of use only while it is still the account's.
    pub email: crate::account::Email,
    /// The first instant at which it is dead.
    pub expires_at: Timestamp,
}
