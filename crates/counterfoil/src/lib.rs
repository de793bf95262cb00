//! Many tokens per user, one for each device, browser, app or API key; each revocable alone; none of them stored.
//!
//! A client keeps the token; the server keeps only its counterfoil, a digest. This crate puts that into a Rust service:
//! it starts the stores, the threads that hash passwords and the work in the background, and hands out the one front door,
//! [`Authority`]. The program `counterfoil serve` is made of nothing else.
//!
//! # A token's life
//!
//! ```
//! use counterfoil::{By, Counterfoil, Error, Login, NewAccount, Password, Refusal, Source, TokenName};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let counterfoil = Counterfoil::builder().memory().start().await?;
//! let authority = counterfoil.authority();
//! let (here, now) = (Source::default(), counterfoil.clock().now());
//!
//! let ada = NewAccount::named("ada".parse()?);
//! authority.create_user(ada, Some(Password::new("correct horse battery staple")?), &By::operator(), now).await?;
//!
//! let login = |password: &str, device| Login {
//!     username: "ada".to_owned(),
//!     password: Password::new(password).expect("shorter than 4096 bytes"),
//!     client: None,
//!     name: TokenName::cut(device),
//! };
//! let laptop = authority.login(login("correct horse battery staple", "laptop"), &here, now).await?.issued;
//! let phone = authority.login(login("correct horse battery staple", "phone"), &here, now).await?.issued;
//!
//! // A wrong password is refused, and says no more than that.
//! let refused = authority.login(login("12345", "burglar"), &here, now).await;
//! assert!(matches!(refused, Err(Error::Refused(Refusal::CredentialsRejected))));
//!
//! // The secret is shown once; from then on a request that carries it is known by it.
//! let who = authority.authenticate(laptop.secret.expose(), &here, now).await?;
//! assert_eq!(who.id, laptop.token.id);
//!
//! // The laptop ends the phone, and only the phone.
//! authority.revoke(&who, phone.token.id, phone.token.kind, &here, now).await?;
//! let refused = authority.authenticate(phone.secret.expose(), &here, now).await;
//! assert!(matches!(refused, Err(Error::Refused(Refusal::TokenRevoked))));
//! assert!(authority.authenticate(laptop.secret.expose(), &here, now).await.is_ok());
//!
//! counterfoil.shutdown().await;
//! # Ok(())
//! # }
//! ```
#![cfg_attr(
    all(feature = "axum", feature = "sqlite"),
    doc = r#"
# The routes in a service of yours

```
use axum::body::Body;
use axum::http::{Request, StatusCode};
use counterfoil::{Counterfoil, HttpSettings};
use tower::ServiceExt;

# #[tokio::main(flavor = "current_thread")]
# async fn main() -> Result<(), Box<dyn std::error::Error>> {
# let directory = tempfile::tempdir()?;
# let data = directory.path().join("data");
let counterfoil = Counterfoil::builder().sqlite(&data).start().await?;
let app = axum::Router::new()
    .route("/", axum::routing::get(|| async { "yours" }))
    .merge(counterfoil.router(HttpSettings::default()));

// Serve `app` with connect info, so that devices are listed with their addresses:
// axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>())

let answer = app.clone().oneshot(Request::get("/").body(Body::empty())?).await?;
assert_eq!(answer.status(), StatusCode::OK);
let answer = app.oneshot(Request::get("/v1/me").body(Body::empty())?).await?;
assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);

counterfoil.shutdown().await;
# Ok(())
# }
```
"#
)]
//!
//! # Features
//!
//! `sqlite` (default): the embedded store. `axum` (default): the routes.

mod background;
mod counterfoil;
mod event_sinks;
mod hashing_threads;
mod hook_threads;
mod metric_events;
mod os_entropy;
mod own_users;
mod store_url;
mod subscribers;
mod system_clock;
mod testing;
mod tracing_events;

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
    Account, AccountChange, AccountField, Credentials, Email, LoginName, NewAccount, NotAUsername, NotAnEmail, Role,
    Username,
};
pub use counterfoil_core::actor::{Actor, By, Rank};
pub use counterfoil_core::attempts::{Tries, TryLater};
pub use counterfoil_core::audit::{Entry, table as audit_table};
pub use counterfoil_core::authority::{
    AuditPage, Authority, ClientOrder, Cursor, Ending, Expiry, FailedLogins, Introspected, List, LoggedIn, Login,
    NewKey, Page, PageRequest, Parts, Place, Settings, TokenOrder, UserExport, WhichClient,
};
pub use counterfoil_core::client::{
    AtCap, Cap, Client, ClientId, ClientName, Lifetime, NotAClientName, NotALifetime, Policy, PolicyConflict, Reissue,
    Renewal,
};
pub use counterfoil_core::clock::{BootTime, Clock, ManualClock, NotATimestamp, Now, Timestamp};
pub use counterfoil_core::entropy::{Entropy, EntropyError, PredictableEntropy};
pub use counterfoil_core::event::{
    Event, EventSink, Limit, LoginFailure, Occurrence, RevokedBy, Scope, Silent, TokenRef,
};
pub use counterfoil_core::hashing::{Hashing, OnThisThread, Overloaded};
pub use counterfoil_core::hook::{BeforeIssuing, HookFailed, Intent, Occasion, Ruled, Ruling};
pub use counterfoil_core::memory::MemoryStore;
pub use counterfoil_core::password::{
    Cost, EncodedPassword, HashingParams, HashingParamsError, MAX_PASSWORD_BYTES, Password, PasswordTooLong,
};
pub use counterfoil_core::refusal::{Error, Invalid, Refusal};
pub use counterfoil_core::seal::{KeyRing, NotAKeyRing};
pub use counterfoil_core::secret::{NotAPrefix, Prefix, SCANNER_REGEX, SecretToken, TokenDigest};
pub use counterfoil_core::store::{
    AccountQuery, AccountStore, Answer, AuditQuery, AuditStore, NumberedEntry, StoreError, TokenFilter, TokenQuery,
    TokenStore,
};
pub use counterfoil_core::subject::{Epoch, Epochs, NotASubject, Subject, SubjectId, SubjectState};
pub use counterfoil_core::throttle::{NotARate, Period, Rate, RouteClass, RouteRates};
pub use counterfoil_core::token::{
    Identity, Issued, Kind, Metadata, MetadataTooLong, Sighting, Source, Standing, Token, TokenId, TokenName, UserAgent,
};
#[cfg(feature = "axum")]
pub use counterfoil_http::{
    Answering, Arrival, Auth, AuthLayer, Authenticated, Caller, Cookies, Group, Guard, Guarded, Http, HttpSettings,
    NoSuchRoute, NotACookieName, NotAScheme, NotAnOrigin, Origin, Place as CredentialPlace, Presented, Problem,
    ProblemKind, RequestId, Scheme, TrustedProxy, UnixPeer, openapi,
};
#[cfg(feature = "sqlite")]
pub use counterfoil_store::sqlite;
#[cfg(feature = "sqlite")]
pub use counterfoil_store::{BackupError, OpenError, RestoreError, SqliteStore, restore};
