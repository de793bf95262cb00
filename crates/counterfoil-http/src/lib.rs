//! counterfoil over HTTP: the native routes of an [`Authority`](counterfoil_core::Authority), for axum.
//!
//! [`Http::layer`] finds out who sends each request of any tower service: its handlers take [`Authenticated`], its routes a
//! [`Guard`]. [`router()`] is all the native routes, [`Http::routes`] those that a host wants to nest within its own;
//! [`Http::router_with`] puts a host's routes within the layers of ours, where [`Caller`], [`Presented`] and [`Arrival`] tell
//! who is asking. What goes wrong is told as a [`Problem`] (`docs/problems.md`). Routes translate; the authority decides.
//!
//! Services depend on the crate `counterfoil`, which re-exports what is needed from here.

mod arrival;
mod authenticated;
mod body;
mod browser;
mod caller;
mod cookie;
mod cors;
pub mod credentials;
pub mod device;
mod dialect;
mod docs;
mod drain;
mod exchange;
mod guard;
mod headers;
mod http;
mod layer;
mod meter;
mod nested;
mod openapi;
mod origin;
mod pages;
mod parameter;
mod payload;
mod problem;
mod reader;
mod readiness;
mod record;
mod request_id;
pub mod rights;
mod router;
mod routes;
mod selection;
mod settings;
mod wait;

pub use arrival::Arrival;
pub use authenticated::Authenticated;
pub use body::MAX_BODY_BYTES;
pub use caller::{Caller, Presented};
pub use cookie::{Cookies, NotACookieName};
pub use credentials::{NotAScheme, Place, Scheme};
pub use device::{TrustedProxy, UnixPeer};
pub use dialect::{BehindMiddleware, Dialect, DialectName, HostView, Middleware, Mounted, NoSuchDialect, NotASetting};
pub use guard::{Guard, Guarded};
pub use http::Http;
pub use layer::{Answering, Auth, AuthLayer};
pub use openapi::openapi;
pub use origin::{NotAnOrigin, Origin};
pub use payload::UserToShow;
pub use problem::{Problem, ProblemKind};
pub use request_id::RequestId;
pub use router::{Access, ROUTES, Route, router};
pub use selection::{Group, NoSuchRoute, Selection};
pub use settings::HttpSettings;
