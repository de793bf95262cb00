//! Accounts in one store and their tokens in another: whether the two belong together.
//!
//! Tokens name their subjects, and nothing in them tells of whose deployment. Where they lie in another store than the accounts, an
//! address with a mistake in it (that of staging) would let somebody else's tokens in as those of one's own users. So both stores keep a
//! [`Tally`], drawn when the tokens were begun, and go together only where it is the same.
//!
//! It is drawn anew with every begin of tokens, and not once for the accounts: staging is often a copy of production, with the same
//! subjects, and what it begins in a Redis of its own must not be taken for production's.

use std::fmt;

use counterfoil_core::AccountStore;
use counterfoil_core::store::Answer;

#[cfg(feature = "redis")]
pub use self::agreement::{Disagreement, agree};

/// Random, and no secret: what two stores have in common that are one deployment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tally([u8; 16]);

impl Tally {
    /// The one that was kept as these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Tally {
        Tally(bytes)
    }

    /// As it is kept.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// In hexadecimal digits, for people to compare.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tally({self})")
    }
}

/// What a store of accounts knows of tokens that are kept elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Remembered {
    /// That of its tokens. `None`: there have been none elsewhere.
    pub tally: Option<Tally>,
    /// The one by which they are about to be begun.
    pub next: Option<Tally>,
}

/// A store of accounts that can keep the tally of tokens elsewhere. Every copy of the store carries it: a copy goes on with the tokens
/// that there are.
pub trait TallyStore: AccountStore {
    /// What is kept.
    fn tally(&self) -> Answer<'_, Remembered>;

    /// The tally by which tokens are to be begun: the one that is kept for that, or `drawn`, which is kept from now on. `None`, and
    /// nothing is kept, where the tokens' tally is not `known` any more: somebody else has begun them.
    fn prepare_tally(&self, known: Option<Tally>, drawn: Tally) -> Answer<'_, Option<Tally>>;

    /// The tokens' tally is `tally` from now on, if it is still `known`; else nothing is changed.
    fn settle_tally(&self, known: Option<Tally>, tally: Tally) -> Answer<'_, ()>;
}

#[cfg(feature = "redis")]
mod agreement {
    use std::error::Error;
    use std::fmt;

    use counterfoil_core::TokenStore;
    use counterfoil_core::entropy::Entropy;
    use counterfoil_core::store::{AccountQuery, StoreError};

    use super::{Tally, TallyStore};
    use crate::redis::{Half, RedisStore};

    /// Each time round something was settled, by this node or by another one; that many are settled by nobody.
    const ROUNDS: u32 = 16;

    /// Why accounts and a Redis are no deployment.
    #[derive(Debug)]
    pub enum Disagreement {
        /// Nothing was ever kept there, and the accounts have had tokens somewhere.
        Empty,
        /// What is kept there are tokens of others.
        Others {
            /// The tally of these accounts' tokens; `None`: they have had none elsewhere.
            ours: Option<Tally>,
            /// That of the tokens that are there.
            theirs: Tally,
        },
        /// One of the stores failed, or the source of randomness.
        Failed(StoreError),
    }

    impl fmt::Display for Disagreement {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Disagreement::Empty => f.write_str(
                    "the accounts in this store have had their tokens elsewhere: nothing was ever kept in the Redis that was named, and \
                     what is ended there would not end",
                ),
                Disagreement::Others { ours: Some(ours), theirs } => write!(
                    f,
                    "the tokens in the Redis that was named are another deployment's: their tally is {theirs}, and that of the accounts \
                     in this store is {ours}"
                ),
                Disagreement::Others { ours: None, theirs } => write!(
                    f,
                    "the tokens in the Redis that was named are another deployment's: their tally is {theirs}, and the accounts in this \
                     store have had no tokens elsewhere yet"
                ),
                Disagreement::Failed(error) => fmt::Display::fmt(error, f),
            }
        }
    }

    impl Error for Disagreement {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            match self {
                Disagreement::Empty | Disagreement::Others { .. } => None,
                Disagreement::Failed(error) => error.source(),
            }
        }
    }

    impl From<StoreError> for Disagreement {
        fn from(error: StoreError) -> Disagreement {
            Disagreement::Failed(error)
        }
    }

    /// Sees that the tokens of `accounts` are those in `tokens`, before it is opened; from then on it answers of no others, whatever
    /// server comes to stand at its address. Where both are new it begins them. Nodes that start at once agree.
    ///
    /// A Redis that is empty is refused where there are accounts, or have been tokens, unless `anew`. One that is older than tallies
    /// belongs to the first accounts without one that come; one that has a tally, to accounts without one only if it knows the first
    /// of them.
    ///
    /// # Errors
    /// [`Disagreement`]; then no token has been begun, ended or let in.
    pub async fn agree(
        accounts: &dyn TallyStore,
        tokens: &RedisStore,
        anew: bool,
        entropy: &dyn Entropy,
    ) -> Result<Tally, Disagreement> {
        for _ in 0..ROUNDS {
            // In this order, and again before anybody is refused: a tally of ours is kept beside the accounts before it is in Redis.
            let known = accounts.tally().await?;
            let Some(half) = tokens.half().await? else {
                if !anew && (known.tally.is_some() || any_account(accounts).await?.is_some()) {
                    return Err(Disagreement::Empty);
                }
                if let Some(next) = accounts.prepare_tally(known.tally, drawn(entropy)?).await? {
                    tokens.begin(next).await?;
                }
                continue;
            };
            if known.tally == Some(half.tally) {
                if known.next.is_some() {
                    // Somebody was about to begin anew, and these were there again before. What is left of that must not agree with
                    // another Redis one day, nor with one that a copy of these accounts begins.
                    accounts.settle_tally(known.tally, half.tally).await?;
                }
                tokens.answer_of(half.tally);
                return Ok(half.tally);
            }
            if known.next == Some(half.tally) || (known.tally.is_none() && belongs(accounts, tokens, half).await?) {
                accounts.settle_tally(known.tally, half.tally).await?;
            } else if accounts.tally().await? == known {
                return Err(Disagreement::Others { ours: known.tally, theirs: half.tally });
            }
        }
        Err(Disagreement::Failed(StoreError::new(
            "agreeing on the tally of the tokens",
            "others change it all the time",
        )))
    }

    /// Whether tokens may be those of accounts that have no tally: both may be from before there were any, or the accounts were put back
    /// to a state from before.
    async fn belongs(accounts: &dyn TallyStore, tokens: &RedisStore, half: Half) -> Result<bool, StoreError> {
        if !half.is_cut {
            return Ok(true);
        }
        let Some(account) = any_account(accounts).await? else { return Ok(false) };
        Ok(tokens.subject(&account.subject).await?.is_some())
    }

    async fn any_account(accounts: &dyn TallyStore) -> Result<Option<counterfoil_core::Account>, StoreError> {
        let any = AccountQuery { limit: 1, ..AccountQuery::default() };
        Ok(accounts.accounts(&any).await?.into_iter().next())
    }

    fn drawn(entropy: &dyn Entropy) -> Result<Tally, StoreError> {
        let mut bytes = [0; 16];
        entropy.fill(&mut bytes).map_err(|error| StoreError::new("drawing a tally", error))?;
        Ok(Tally(bytes))
    }
}
