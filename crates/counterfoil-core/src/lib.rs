//! What a token is and what may happen to it: the rules of counterfoil, without I/O.
//!
//! Nothing here opens a socket, a file or a clock. Time comes in as [`Now`], chance as [`Entropy`], and what is kept lies
//! behind two traits, [`TokenStore`] and [`AccountStore`]. The one front door is [`Authority`]: routes, command line and
//! imports call it, it judges, and a store makes one atomic transition.
//!
//! Services depend on the crate `counterfoil`, which re-exports what is needed from here; this crate is for those who
//! write a store or another way in.

pub mod ability;
pub mod account;
pub mod account_rules;
pub mod actor;
pub mod attempts;
pub mod audit;
pub mod authority;
pub mod cache;
pub mod client;
pub mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod entropy;
pub mod event;
pub mod hashing;
pub mod hook;
pub mod import;
mod joint_work;
pub mod language;
pub mod lease;
pub mod link;
pub mod mail;
pub mod marks;
pub mod memory;
#[cfg(feature = "mutants")]
pub mod mutant;
#[cfg(not(feature = "mutants"))]
mod mutant;
pub mod password;
pub mod password_policy;
pub mod redirect;
pub mod refusal;
pub mod seal;
pub mod secret;
pub mod shape;
pub mod shared_limits;
pub mod store;
pub mod store_clock;
pub mod subject;
pub mod throttle;
pub mod token;
pub mod username;

pub use ability::{Abilities, Ability};
pub use account::{Account, AccountChange, AccountField, Email, NewAccount};
pub use account_rules::AccountRules;
pub use actor::{Actor, By, Rank};
pub use authority::{Authority, Login, Parts, Settings};
pub use client::{AtCap, Cap, Client, ClientId, ClientName, Lifetime, Policy, Reissue, Renewal};
pub use clock::{BootTime, Clock, ManualClock, Now, Timestamp};
pub use entropy::{Entropy, EntropyError};
pub use event::{Event, EventSink};
pub use hook::BeforeIssuing;
pub use mail::Mailer;
pub use memory::MemoryStore;
pub use refusal::{Error, Invalid, Refusal};
pub use secret::{CheckKey, Prefix, SecretToken, TokenDigest, TokenFormat};
pub use shared_limits::SharedLimits;
pub use store::{AccountStore, Answer, AuditStore, MailStore, StoreError, TokenStore};
pub use store_clock::StoreClock;
pub use subject::{Epoch, Epochs, Subject, SubjectId, SubjectState};
pub use token::{Identity, Issued, Kind, Sighting, Source, Standing, Token, TokenId, TokenName, UserAgent};
pub use username::{Distinct, Username};
