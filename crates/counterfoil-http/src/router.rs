//! The routes: [`ROUTES`], one table from which the router, its description and its tests are made.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::http::Method;
use axum::middleware;
use axum::routing::{MethodRouter, delete, get, patch, post};
use counterfoil_core::{Ability, Authority, Clock};
use tower_http::catch_panic::CatchPanicLayer;

use crate::body;
use crate::cors::{self, Sharing};
use crate::exchange;
use crate::http::Http;
use crate::openapi::{Parameter, Shape};
use crate::problem::ProblemKind::{
    self, BeyondMaker, CapReached, InvalidCredentials, InvalidRequest, InvalidValue, LoginNotAllowed, NotFound,
    RenewalNotAllowed, RotationLocked, UnknownClient,
};
use crate::record::{NewToken, Page, Record};
use crate::rights::{KEYS_READ, KEYS_WRITE, TOKENS_READ, TOKENS_WRITE};
use crate::routes::{keys, login, me, operations, tokens};
use crate::settings::HttpSettings;

/// One route.
#[derive(Debug)]
pub struct Route {
    /// Its method. Where it is GET, HEAD works too.
    pub method: Method,
    /// Its path, with `{id}` where a segment varies.
    pub path: &'static str,
    /// What it does, in one line.
    pub what: &'static str,
    /// Who may.
    pub access: Access,
    pub(crate) takes: Takes,
    pub(crate) parameters: &'static [Parameter],
    pub(crate) gives: Gives,
    /// Problems of its own, besides those that come with `access` and `takes`.
    pub(crate) problems: &'static [ProblemKind],
    handler: fn() -> MethodRouter<Http>,
}

impl Route {
    /// Whether it waits for a body, if only to see that there is no second credential in it.
    pub(crate) fn reads_body(&self) -> bool {
        match self.takes {
            Takes::Nothing => self.method != Method::GET,
            Takes::Json(_) | Takes::JsonOrForm(_) => true,
        }
    }
}

/// Who may use a route.
#[derive(Debug, Clone, Copy)]
pub enum Access {
    /// Anyone.
    Open,
    /// Whoever has a live token.
    Token,
    /// Whoever has a live token with this ability.
    Ability(&'static LazyLock<Ability>),
}

/// What a route reads as a body.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Takes {
    Nothing,
    Json(Shape),
    JsonOrForm(Shape),
}

/// What a route answers when all is well.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Gives {
    /// 200 with a body.
    Ok(Shape),
    /// 201 with a body and a `Location`.
    Created(Shape),
    /// 204.
    Nothing,
    /// 200 with any JSON.
    AnyJson,
}

/// Every native route.
pub static ROUTES: &[Route] = &[
    Route {
        method: Method::POST,
        path: "/v1/login",
        what: "Log in: a password for a token",
        access: Access::Open,
        takes: Takes::JsonOrForm(Shape::of::<login::LoginBody>()),
        parameters: &[],
        gives: Gives::Ok(Shape::of::<NewToken>()),
        problems: &[UnknownClient, InvalidCredentials, LoginNotAllowed, CapReached, ProblemKind::Overloaded],
        handler: || post(login::login),
    },
    Route {
        method: Method::POST,
        path: "/v1/logout",
        what: "Log out: end the token of this request",
        access: Access::Token,
        takes: Takes::Nothing,
        parameters: &[],
        gives: Gives::Nothing,
        problems: &[],
        handler: || post(login::logout),
    },
    Route {
        method: Method::POST,
        path: "/v1/logout-all",
        what: "Log out everywhere: end all login tokens of this user",
        access: Access::Ability(&TOKENS_WRITE),
        takes: Takes::Nothing,
        parameters: &[],
        gives: Gives::Nothing,
        problems: &[],
        handler: || post(login::logout_all),
    },
    Route {
        method: Method::GET,
        path: "/v1/tokens",
        what: "List the signed-in devices of this user",
        access: Access::Ability(&TOKENS_READ),
        takes: Takes::Nothing,
        parameters: &[Parameter::Limit, Parameter::Cursor],
        gives: Gives::Ok(Shape::of::<Page>()),
        problems: &[InvalidRequest, InvalidValue],
        handler: || get(tokens::list),
    },
    Route {
        method: Method::DELETE,
        path: "/v1/tokens",
        what: "Log out all other devices: end all login tokens of this user but the one of this request",
        access: Access::Ability(&TOKENS_WRITE),
        takes: Takes::Nothing,
        parameters: &[Parameter::Keep],
        gives: Gives::Nothing,
        problems: &[InvalidRequest, InvalidValue],
        handler: || delete(tokens::revoke_others),
    },
    Route {
        method: Method::PATCH,
        path: "/v1/tokens/{id}",
        what: "Rename a signed-in device",
        access: Access::Ability(&TOKENS_WRITE),
        takes: Takes::Json(Shape::of::<tokens::RenameBody>()),
        parameters: &[Parameter::Id],
        gives: Gives::Ok(Shape::of::<Record>()),
        problems: &[NotFound],
        handler: || patch(tokens::rename),
    },
    Route {
        method: Method::DELETE,
        path: "/v1/tokens/{id}",
        what: "Log out one device",
        access: Access::Ability(&TOKENS_WRITE),
        takes: Takes::Nothing,
        parameters: &[Parameter::Id],
        gives: Gives::Nothing,
        problems: &[NotFound],
        handler: || delete(tokens::revoke),
    },
    Route {
        method: Method::POST,
        path: "/v1/renew",
        what: "Move the expiry of the token of this request on, as its client's policy allows",
        access: Access::Token,
        takes: Takes::Nothing,
        parameters: &[],
        gives: Gives::Ok(Shape::of::<tokens::Renewed>()),
        problems: &[RenewalNotAllowed],
        handler: || post(tokens::renew),
    },
    Route {
        method: Method::POST,
        path: "/v1/rotate",
        what: "Exchange the secret of the token of this request for a fresh one",
        access: Access::Token,
        takes: Takes::Nothing,
        parameters: &[],
        gives: Gives::Ok(Shape::of::<NewToken>()),
        problems: &[RotationLocked],
        handler: || post(tokens::rotate),
    },
    Route {
        method: Method::GET,
        path: "/v1/keys",
        what: "List the API keys of this user",
        access: Access::Ability(&KEYS_READ),
        takes: Takes::Nothing,
        parameters: &[Parameter::Limit, Parameter::Cursor],
        gives: Gives::Ok(Shape::of::<Page>()),
        problems: &[InvalidRequest, InvalidValue],
        handler: || get(keys::list),
    },
    Route {
        method: Method::POST,
        path: "/v1/keys",
        what: "Make an API key with no more abilities than the token of this request",
        access: Access::Ability(&KEYS_WRITE),
        takes: Takes::Json(Shape::of::<keys::KeyBody>()),
        parameters: &[],
        gives: Gives::Created(Shape::of::<NewToken>()),
        problems: &[BeyondMaker],
        handler: || post(keys::create),
    },
    Route {
        method: Method::DELETE,
        path: "/v1/keys/{id}",
        what: "End an API key",
        access: Access::Ability(&KEYS_WRITE),
        takes: Takes::Nothing,
        parameters: &[Parameter::Id],
        gives: Gives::Nothing,
        problems: &[NotFound],
        handler: || delete(keys::revoke),
    },
    Route {
        method: Method::GET,
        path: "/v1/me",
        what: "Tell who is asking, and with which token",
        access: Access::Token,
        takes: Takes::Nothing,
        parameters: &[],
        gives: Gives::Ok(Shape::of::<me::Me>()),
        problems: &[],
        handler: || get(me::show),
    },
    Route {
        method: Method::GET,
        path: "/healthz",
        what: "Tell that the process is up",
        access: Access::Open,
        takes: Takes::Nothing,
        parameters: &[],
        gives: Gives::Ok(Shape::of::<operations::Health>()),
        problems: &[],
        handler: || get(operations::healthz),
    },
    Route {
        method: Method::GET,
        path: "/readyz",
        what: "Tell whether the store can answer and commit",
        access: Access::Open,
        takes: Takes::Nothing,
        parameters: &[],
        gives: Gives::Ok(Shape::of::<operations::Health>()),
        problems: &[],
        handler: || get(operations::readyz),
    },
    Route {
        method: Method::GET,
        path: "/openapi.json",
        what: "Describe these routes in OpenAPI 3.1",
        access: Access::Open,
        takes: Takes::Nothing,
        parameters: &[],
        gives: Gives::AnyJson,
        problems: &[],
        handler: || get(operations::describe),
    },
];

/// The native routes for `authority`, ready to be served.
///
/// Serve them with `into_make_service_with_connect_info::<SocketAddr>()`, over a Unix socket with
/// [`UnixPeer`](crate::UnixPeer) in its place; without either no address is known and none is made up. Needs a tokio runtime with time. Limits on connections, heads and header bytes are the
/// server's.
pub fn router(authority: Arc<Authority>, clock: Arc<dyn Clock>, settings: HttpSettings) -> Router {
    Http::new(authority, clock, settings).router()
}

impl Http {
    /// The native routes, ready to be served.
    pub fn router(&self) -> Router {
        self.router_with(Router::new())
    }

    /// The native routes and `more` of the host's own, all within the same layers: deadline, security headers, request id,
    /// problem documents for what panics or is not there.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use axum::body::Body;
    /// use axum::http::{Request, StatusCode};
    /// use axum::routing::get;
    /// use axum::Router;
    /// use counterfoil_core::authority::{Expiry, TokenOrder};
    /// use counterfoil_core::{Abilities, Authority, By, Clock, Kind, ManualClock, MemoryStore, Parts, Settings, Timestamp};
    /// use counterfoil_core::{entropy::PredictableEntropy, event::Silent, hashing::OnThisThread, token::Metadata};
    /// use counterfoil_http::{Caller, Http, HttpSettings, Problem};
    /// use tower::ServiceExt;
    ///
    /// async fn file(caller: Caller) -> Result<String, Problem> {
    ///     caller.may(&"files:read".parse().expect("an ability"))?;
    ///     Ok(format!("the file of {}", caller.who.subject))
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_795_172_400_000)));
    /// let store = Arc::new(MemoryStore::new());
    /// let parts = Parts {
    ///     tokens: store.clone(),
    ///     accounts: store.clone(),
    ///     audit: Some(store),
    ///     hashing: Arc::new(OnThisThread),
    ///     entropy: Arc::new(PredictableEntropy::from_seed(1)), // a service takes the operating system's
    ///     events: Arc::new(Silent),
    ///     ring: None,
    ///     settings: Settings::default(),
    /// };
    /// let authority = Arc::new(Authority::open(parts, clock.now()).await?);
    /// let http = Http::new(authority.clone(), clock.clone(), HttpSettings::default());
    /// let app = http.router_with(Router::new().route("/file", get(file)));
    ///
    /// let order = TokenOrder {
    ///     kind: Kind::Login,
    ///     subject: "user-42".parse()?,
    ///     client: None,
    ///     name: None,
    ///     abilities: Abilities::everything(),
    ///     metadata: Metadata::default(),
    ///     expiry: Expiry::ByPolicy,
    /// };
    /// let issued = authority.issue(order, &By::operator(), clock.now()).await?;
    /// let bearer = format!("Bearer {}", issued.secret.expose());
    /// let request = Request::get("/file").header("Authorization", bearer).body(Body::empty())?;
    /// assert_eq!(app.clone().oneshot(request).await?.status(), StatusCode::OK);
    ///
    /// // Without a token the handler is not called.
    /// let refused = app.oneshot(Request::get("/file").body(Body::empty())?).await?;
    /// assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    /// assert_eq!(refused.headers()["WWW-Authenticate"], "Bearer realm=\"counterfoil\"");
    /// # Ok(())
    /// # }
    /// ```
    pub fn router_with(&self, more: Router<Http>) -> Router {
        let answering = ROUTES
            .iter()
            .fold(more, |router, route| router.route(route.path, self.handler(route)))
            .fallback(exchange::not_found)
            .method_not_allowed_fallback(exchange::method_not_allowed)
            .layer(CatchPanicLayer::custom(exchange::panicked))
            .layer(middleware::from_fn_with_state(self.clone(), exchange::answered));
        // Outside of what makes problem documents, so that pages of other origins may read those, too.
        let sharing = match Sharing::with(&self.settings().cors_origins) {
            Some(sharing) => answering.layer(middleware::from_fn_with_state(sharing, cors::share)),
            None => answering,
        };
        sharing.layer(middleware::from_fn_with_state(self.clone(), exchange::around)).with_state(self.clone())
    }

    /// The handler of `route`, which is not called before the body is there.
    fn handler(&self, route: &'static Route) -> MethodRouter<Http> {
        let handler = (route.handler)();
        if !route.reads_body() {
            return handler;
        }
        let state = (self.clone(), route);
        // Around the handler alone, so that 405 still tells the methods without a body being read.
        handler.route_layer(middleware::from_fn_with_state(state, body::arrive))
    }
}
