#![cfg_attr(all(feature = "axum", feature = "sqlite"), doc = include_str!("front_page.md"))]
#![cfg_attr(
    not(all(feature = "axum", feature = "sqlite")),
    doc = "Many tokens per user, each revocable alone, none of them stored. The front page is that of the default features."
)]

mod background;
mod counterfoil;
mod event_sinks;
mod guarded_limits;
mod hashing_threads;
mod hook_threads;
#[cfg(feature = "mail")]
pub mod mail;
mod metric_events;
mod os_entropy;
mod own_users;
mod store_url;
mod subscribers;
mod system_clock;
mod testing;
mod tracing_events;
mod watched_mailer;

#[cfg(feature = "sqlite")]
pub use crate::counterfoil::NotBackedUp;
pub use crate::counterfoil::{Builder, Counterfoil, StartError};
pub use event_sinks::EventSinks;
pub use hashing_threads::{HashingCapacity, HashingThreads};
pub use metric_events::MetricEvents;
pub use os_entropy::OsEntropy;
pub use store_url::NotAStoreUrl;
pub use system_clock::SystemClock;
pub use testing::TestCounterfoil;
pub use tracing_events::TracingEvents;

pub use counterfoil_core::ability::{Abilities, Ability, NotAnAbility, TooManyAbilities};
pub use counterfoil_core::account::{
    Account, AccountChange, AccountField, Credentials, Email, LoginName, NewAccount, NotAnEmail, Role,
};
pub use counterfoil_core::account_rules::{
    AccountRules, EmailRule, LinkPattern, Links, NotALinkPattern, Notices, Registering, Unconfirmed,
};
pub use counterfoil_core::actor::{Actor, By, Rank};
pub use counterfoil_core::attempts::{Tries, TryLater};
pub use counterfoil_core::audit::{Entry, table as audit_table};
pub use counterfoil_core::authority::{
    AuditPage, Authority, ChangeOfAddress, ChangeOfPassword, ClientOrder, Confirmed, Cursor, Delivery, Ending, Expiry,
    FailedLogins, Introspected, Linked, List, LoggedIn, Login, MailParts, NewKey, NewRegistration, Others, Page,
    PageRequest, Parts, Place, Proof, Registered, Settings, TokenOrder, UserExport, WhichClient,
};
pub use counterfoil_core::client::{
    AtCap, Cap, Client, ClientId, ClientName, Lifetime, NotAClientName, NotALifetime, Policy, PolicyConflict, Reissue,
    Renewal,
};
pub use counterfoil_core::clock::{BootTime, Clock, ManualClock, NotATimestamp, Now, Timestamp};
pub use counterfoil_core::entropy::{Entropy, EntropyError, PredictableEntropy};
pub use counterfoil_core::event::{
    Event, EventSink, Limit, LoginFailure, MailLoss, Occurrence, RevokedBy, Scope, Silent, TokenRef,
};
pub use counterfoil_core::hashing::{Hashing, OnThisThread, Overloaded};
pub use counterfoil_core::hook::{BeforeIssuing, HookFailed, Intent, Occasion, Ruled, Ruling};
pub use counterfoil_core::import;
pub use counterfoil_core::language::Languages;
pub use counterfoil_core::lease::EVERYWHERE_AFTER_MILLIS;
pub use counterfoil_core::link::{Link, Purpose};
pub use counterfoil_core::mail::{
    Letter, LetterUrl, MailId, MailKind, MailOrder, Mailer, NotSent, Registration, Sending, Waiting,
};
pub use counterfoil_core::memory::MemoryStore;
pub use counterfoil_core::password::{
    Cost, EncodedPassword, HashingParams, HashingParamsError, MAX_PASSWORD_BYTES, Password, PasswordTooLong,
};
pub use counterfoil_core::password_policy::{Blocklist, PasswordPolicy, TooWeak};
pub use counterfoil_core::redirect::{NotARedirect, NotAllowed, RedirectTo, Redirects};
pub use counterfoil_core::refusal::{Error, Invalid, Refusal};
pub use counterfoil_core::seal::{KeyRing, NotAKeyRing};
pub use counterfoil_core::secret::{NotAPrefix, Prefix, SCANNER_REGEX, SecretToken, TokenDigest};
pub use counterfoil_core::shape::{HexShape, NotAShape, TokenShape};
pub use counterfoil_core::shared_limits::{self, SharedLimits};
pub use counterfoil_core::store::{
    AccountQuery, AccountStore, Answer, AuditQuery, AuditStore, Claimed, MailStore, NumberedEntry, StoreError,
    TokenFilter, TokenQuery, TokenStore,
};
pub use counterfoil_core::subject::{Epoch, Epochs, NotASubject, Subject, SubjectId, SubjectState};
pub use counterfoil_core::throttle::{NotARate, Period, Rate, RouteClass, RouteRates};
pub use counterfoil_core::token::{
    Identity, Issued, Kind, Metadata, MetadataTooLong, Sighting, Source, Standing, Token, TokenId, TokenName, UserAgent,
};
pub use counterfoil_core::username::{Distinct, NotAUsername, NotRegistrable, Username};
#[cfg(feature = "axum")]
pub use counterfoil_http::{
    Answering, Arrival, Auth, AuthLayer, Authenticated, BehindMiddleware, Caller, Cookies, Dialect, DialectName, Group,
    Guard, Guarded, HostView, Http, HttpSettings, Middleware, Mounted, NoSuchDialect, NoSuchRoute, NotACookieName,
    NotAScheme, NotASetting, NotAnOrigin, Origin, Place as CredentialPlace, Presented, Problem, ProblemKind, ROUTES,
    RequestId, Scheme, Selection, TrustedProxy, UnixPeer, UserToShow, openapi,
};
#[cfg(all(feature = "sqlite", feature = "postgres"))]
pub use counterfoil_store::copy;
#[cfg(feature = "postgres")]
pub use counterfoil_store::postgres;
#[cfg(feature = "redis")]
pub use counterfoil_store::redis;
#[cfg(feature = "sqlite")]
pub use counterfoil_store::sqlite;
#[cfg(feature = "redis")]
pub use counterfoil_store::tally;
#[cfg(feature = "sqlite")]
pub use counterfoil_store::{BackupError, OpenError, RestoreError, SqliteStore, restore};
#[cfg(feature = "postgres")]
pub use counterfoil_store::{ConnectError, ConnectOptions, PostgresStore};

/// The programs in the page on accounts, which compile.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../../../docs/accounts.md")]
struct AccountsPage;
