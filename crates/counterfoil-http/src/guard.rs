//! Who may pass: [`Guard`], around the routes that it is for.

use std::sync::Arc;
use std::task::{Context, Poll};

use axum::BoxError;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Method, Request, Response};
use axum::response::IntoResponse;
use counterfoil_core::throttle::Rate;
use counterfoil_core::{Ability, ClientName, Lifetime};
use tower::{Layer, Service};

use crate::authenticated::Authenticated;
use crate::layer::Answering;
use crate::problem::Problem;
use crate::rights::{ADMIN_READ, ADMIN_WRITE};

/// A tower layer that lets through only the requests that its rule allows. It belongs within an
/// [`AuthLayer`](crate::AuthLayer); several around each other must all agree. Who presents no token is refused with 401 by
/// every one of them, and who presents one that is not valid as well.
///
/// Each is also a method of [`Authenticated`], for a handler that decides by more than the route.
///
/// ```
/// # use std::sync::Arc;
/// use axum::Router;
/// use axum::body::Body;
/// use axum::http::{Request, StatusCode};
/// use axum::routing::get;
/// # use counterfoil_core::authority::{Expiry, TokenOrder};
/// # use counterfoil_core::{Abilities, Authority, By, Clock, Kind, ManualClock, MemoryStore, Parts, Settings, Timestamp};
/// # use counterfoil_core::{entropy::PredictableEntropy, event::Silent, hashing::OnThisThread, token::Metadata};
/// use counterfoil_http::{Guard, Http, HttpSettings};
/// use tower::ServiceExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_795_172_400_000)));
/// # let store = Arc::new(MemoryStore::new());
/// # let parts = Parts {
/// #     tokens: store.clone(),
/// #     accounts: store.clone(),
/// #     audit: None,
/// #     mail: None,
/// #     hashing: Arc::new(OnThisThread),
/// #     entropy: Arc::new(PredictableEntropy::from_seed(1)),
/// #     events: Arc::new(Silent),
/// #     hook: None,
/// #     ring: None,
/// #     settings: Settings::default(),
/// # };
/// # let authority = Arc::new(Authority::open(parts, clock.now()).await?);
/// # let http = Http::new(authority.clone(), clock.clone(), HttpSettings::default());
/// # let order = TokenOrder {
/// #     kind: Kind::Key,
/// #     subject: "user-42".parse()?,
/// #     client: None,
/// #     name: None,
/// #     abilities: "files:read".parse()?,
/// #     metadata: Metadata::default(),
/// #     expiry: Expiry::Never,
/// # };
/// # let issued = authority.issue(order, &By::operator(), clock.now()).await?;
/// let read = Router::new().route("/file", get(async || "read")).route_layer(Guard::ability("files:read".parse()?));
/// let write = Router::new()
///     .route("/write", get(async || "written"))
///     .route_layer(Guard::ability("files:write".parse()?))
///     .route_layer(Guard::throttle("write", "10/m".parse()?));
/// let app = read.merge(write).layer(http.layer());
///
/// let with_key = |path: &str| {
///     Request::get(path).header("Authorization", format!("Token {}", issued.secret.expose())).body(Body::empty())
/// };
/// let answer = app.clone().oneshot(with_key("/file")?).await?;
/// assert_eq!(answer.status(), StatusCode::OK);
///
/// let refused = app.clone().oneshot(with_key("/write")?).await?;
/// assert_eq!(refused.status(), StatusCode::FORBIDDEN);
/// let refused = app.oneshot(Request::get("/file").body(Body::empty())?).await?;
/// assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Guard(Arc<Rule>);

#[derive(Debug)]
enum Rule {
    SignedIn,
    Clients(Vec<ClientName>),
    NotClients(Vec<ClientName>),
    All(Vec<Ability>),
    Any(Vec<Ability>),
    Staff,
    Admin,
    LoggedInWithin(Lifetime),
    Throttle { name: Arc<str>, rate: Rate },
}

impl Guard {
    /// Whoever has a live token.
    pub fn signed_in() -> Guard {
        Guard::with(Rule::SignedIn)
    }

    /// Tokens of these clients alone. See [`Authenticated::of_client`].
    pub fn clients(allowed: impl IntoIterator<Item = ClientName>) -> Guard {
        Guard::with(Rule::Clients(allowed.into_iter().collect()))
    }

    /// Tokens of all clients but these. See [`Authenticated::not_of_client`].
    pub fn not_clients(barred: impl IntoIterator<Item = ClientName>) -> Guard {
        Guard::with(Rule::NotClients(barred.into_iter().collect()))
    }

    /// Tokens with this ability. See [`Authenticated::may`].
    pub fn ability(wanted: Ability) -> Guard {
        Guard::all_abilities([wanted])
    }

    /// Tokens with all of these abilities. See [`Authenticated::may_all`].
    pub fn all_abilities(wanted: impl IntoIterator<Item = Ability>) -> Guard {
        Guard::with(Rule::All(wanted.into_iter().collect()))
    }

    /// Tokens with any of these abilities. See [`Authenticated::may_any`].
    pub fn any_ability(wanted: impl IntoIterator<Item = Ability>) -> Guard {
        Guard::with(Rule::Any(wanted.into_iter().collect()))
    }

    /// Staff and administrators, by their account as it is now; with an API key, if it has `admin:read`, or `admin:write`
    /// where the method is neither GET nor HEAD. See [`Authenticated::staff`].
    pub fn staff() -> Guard {
        Guard::with(Rule::Staff)
    }

    /// Administrators alone, otherwise as [`Guard::staff`]. See [`Authenticated::admin`].
    pub fn admin() -> Guard {
        Guard::with(Rule::Admin)
    }

    /// Who logged in less than `within` ago. See [`Authenticated::logged_in_within`], and there what it does not go with.
    pub fn logged_in_within(within: Lifetime) -> Guard {
        Guard::with(Rule::LoggedInWithin(within))
    }

    /// So many requests of each subject on each client, counted under `name`. See [`Authenticated::throttle`]. The rate that a
    /// client has of its own needs no guard.
    pub fn throttle(name: &str, rate: Rate) -> Guard {
        Guard::with(Rule::Throttle { name: name.into(), rate })
    }

    fn with(rule: Rule) -> Guard {
        Guard(Arc::new(rule))
    }
}

impl Rule {
    /// What can be said without asking anybody; `None`: the store is to say, or the counts that all nodes share.
    fn judge_at_once(&self, who: &Authenticated) -> Option<Result<(), Problem>> {
        match self {
            Rule::SignedIn => Some(Ok(())),
            Rule::Clients(allowed) => Some(who.of_client(allowed)),
            Rule::NotClients(barred) => Some(who.not_of_client(barred)),
            Rule::All(wanted) => Some(who.may_all(wanted)),
            Rule::Any(wanted) => Some(who.may_any(wanted)),
            Rule::LoggedInWithin(within) => Some(who.logged_in_within(*within)),
            Rule::Throttle { name, rate } => who.try_throttle(name, *rate),
            Rule::Staff | Rule::Admin => None,
        }
    }

    async fn judge(&self, who: &Authenticated, method: &Method) -> Result<(), Problem> {
        let wanted: &Ability = if matches!(*method, Method::GET | Method::HEAD) { &ADMIN_READ } else { &ADMIN_WRITE };
        match (self.judge_at_once(who), self) {
            (Some(judged), _) => judged,
            (None, Rule::Throttle { name, rate }) => who.throttle(name, *rate).await,
            (None, Rule::Admin) => who.admin(wanted).await.map(drop),
            (None, _) => who.staff(wanted).await.map(drop),
        }
    }
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, rule: Arc::clone(&self.0) }
    }
}

/// A service with a [`Guard`] around it.
#[derive(Debug, Clone)]
pub struct Guarded<S> {
    inner: S,
    rule: Arc<Rule>,
}

impl<S, B, R> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: HttpBody<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Answering<S::Future, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let who = match Authenticated::needed(request.extensions()) {
            Ok(who) => who,
            Err(problem) => return Answering::refused(problem),
        };
        match self.rule.judge_at_once(&who) {
            Some(Ok(())) => Answering::inner(self.inner.call(request)),
            Some(Err(problem)) => Answering::refused(problem),
            None => {
                // The one that is ready is called, and a copy of it stays here.
                let copy = self.inner.clone();
                let mut inner = std::mem::replace(&mut self.inner, copy);
                let rule = Arc::clone(&self.rule);
                let method = request.method().clone();
                Answering::asking(async move {
                    match rule.judge(&who, &method).await {
                        Ok(()) => Ok(inner.call(request).await?.map(Body::new)),
                        Err(problem) => Ok(problem.into_response()),
                    }
                })
            }
        }
    }
}
