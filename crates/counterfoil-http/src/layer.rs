//! The tower layer that finds out who asks: [`AuthLayer`].

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::BoxError;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Request, Response, header};
use axum::response::IntoResponse;
use counterfoil_core::authority::Authenticating;
use counterfoil_core::{Now, Source};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::arrival::Arrival;
use crate::authenticated::{Verdict, Who};
use crate::credentials::{Credential, Place};
use crate::device::{self, Peer};
use crate::exchange::chain;
use crate::http::Http;
use crate::meter;
use crate::problem::Problem;

/// Authenticates each request of any service that takes [`axum::http::Request`]s, and leaves the answer with it for
/// [`Authenticated`](crate::Authenticated) and [`Guard`](crate::Guard). Made by [`Http::layer`].
///
/// Exactly one token counts: in `Authorization`, and, where [`HttpSettings`](crate::HttpSettings) say so, in `X-Api-Key` or
/// the cookie. A request without one goes through, and whoever needs one refuses; so does a request whose token is not
/// valid, and for that even `Option<Authenticated>` refuses. [`AuthLayer::required`] refuses both at once. Where the store
/// cannot say whether a token is live, the answer is 503 at once and the service is not asked.
///
/// Whatever [`Problem`] the service answers with gets the realm and the scheme of the settings on its way out, or what
/// [`AuthLayer::refusals`] makes of it.
///
/// A plain tower service, which sees nobody without a token:
///
/// ```
/// # use std::sync::Arc;
/// use axum::body::Body;
/// use axum::http::{Request, Response, StatusCode};
/// # use counterfoil_core::authority::{Expiry, TokenOrder};
/// # use counterfoil_core::{Abilities, Authority, By, Clock, Kind, ManualClock, MemoryStore, Parts, Settings, Timestamp};
/// # use counterfoil_core::{entropy::PredictableEntropy, event::Silent, hashing::OnThisThread, token::Metadata};
/// use counterfoil_http::{Authenticated, Http, HttpSettings};
/// use tower::{ServiceBuilder, ServiceExt};
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
/// #     kind: Kind::Login,
/// #     subject: "user-42".parse()?,
/// #     client: None,
/// #     name: None,
/// #     abilities: Abilities::everything(),
/// #     metadata: Metadata::default(),
/// #     expiry: Expiry::ByPolicy,
/// # };
/// # let issued = authority.issue(order, &By::operator(), clock.now()).await?;
/// let service = ServiceBuilder::new().layer(http.layer().required()).service_fn(async |request: Request<Body>| {
///     let who = Authenticated::of(request.extensions()).expect("refused before").expect("required");
///     Ok::<_, std::convert::Infallible>(Response::new(Body::from(who.subject.to_string())))
/// });
///
/// let bearer = format!("Bearer {}", issued.secret.expose());
/// let request = Request::get("/").header("Authorization", bearer).body(Body::empty())?;
/// assert_eq!(service.clone().oneshot(request).await?.status(), StatusCode::OK);
///
/// let refused = service.oneshot(Request::get("/").body(Body::empty())?).await?;
/// assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
/// assert_eq!(refused.headers()["Content-Type"], "application/problem+json");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct AuthLayer(Arc<Rules>);

/// What the services of one layer go by.
#[derive(Debug, Clone)]
struct Rules {
    http: Http,
    needed: bool,
    refusals: Option<Refusals>,
}

#[derive(Clone)]
struct Refusals(Arc<Refuse>);

type Refuse = dyn Fn(&Problem, &Parts) -> Option<Response<Body>> + Send + Sync;

impl fmt::Debug for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refusals")
    }
}

impl Http {
    /// The layer that authenticates each request of a service, axum's or not.
    pub fn layer(&self) -> AuthLayer {
        AuthLayer(Arc::new(Rules { http: self.clone(), needed: false, refusals: None }))
    }
}

impl AuthLayer {
    /// Refuses by itself whoever presents no live token, so that the service sees nobody else.
    #[must_use]
    pub fn required(self) -> AuthLayer {
        AuthLayer(Arc::new(Rules { needed: true, ..Arc::unwrap_or_clone(self.0) }))
    }

    /// Answers in the host's own way whatever is refused here, by an extractor, by a guard or by a handler that returns a
    /// [`Problem`]; `None`: with the problem document. `make` also gets the head of the request, without its extensions.
    ///
    /// ```
    /// # use counterfoil_http::{AuthLayer, ProblemKind};
    /// use axum::http::{StatusCode, header};
    /// use axum::response::{IntoResponse, Redirect};
    ///
    /// # fn example(layer: AuthLayer) -> AuthLayer {
    /// layer.refusals(|problem, head| {
    ///     let reads_html = head.headers.get(header::ACCEPT).is_some_and(|accept| {
    ///         accept.to_str().is_ok_and(|accept| accept.contains("text/html"))
    ///     });
    ///     let to_login = reads_html && problem.kind().status() == StatusCode::UNAUTHORIZED;
    ///     to_login.then(|| Redirect::to("/login").into_response())
    /// })
    /// # }
    /// ```
    #[must_use]
    pub fn refusals(
        self,
        make: impl Fn(&Problem, &Parts) -> Option<axum::response::Response> + Send + Sync + 'static,
    ) -> AuthLayer {
        let refusals = Some(Refusals(Arc::new(make)));
        AuthLayer(Arc::new(Rules { refusals, ..Arc::unwrap_or_clone(self.0) }))
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = Auth<S>;

    fn layer(&self, inner: S) -> Auth<S> {
        Auth { inner, rules: Arc::clone(&self.0) }
    }
}

/// A service with an [`AuthLayer`] around it.
#[derive(Debug, Clone)]
pub struct Auth<S> {
    inner: S,
    rules: Arc<Rules>,
}

impl<S, B, R> Service<Request<B>> for Auth<S>
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

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let finish = self.rules.finish(&request);
        let verdict = match self.rules.judge_at_once(&request) {
            AtOnce::Judged(verdict) => verdict,
            AtOnce::Ask(source, now) => {
                // The one that is ready is called, and a copy of it stays here.
                let copy = self.inner.clone();
                let mut inner = std::mem::replace(&mut self.inner, copy);
                let rules = Arc::clone(&self.rules);
                let asking = async move {
                    let http = &rules.http;
                    let who = match rules.look_up(&request, &source, now) {
                        Ok(Some((looking_up, place))) => {
                            let judgement = looking_up.await;
                            Who::judged(http.judged(judgement, place, request.method(), request.headers()), place)
                        }
                        Ok(None) => Who::Nobody,
                        Err(problem) => Who::Refused(Box::new(problem)),
                    };
                    match rules.admit(Verdict { who, now, source, http: http.clone() }) {
                        Ok(verdict) => {
                            request.extensions_mut().insert(verdict);
                            Ok(inner.call(request).await?.map(Body::new))
                        }
                        Err(problem) => Ok(problem.into_response()),
                    }
                };
                return Answering::asking(asking).then(finish);
            }
        };
        match self.rules.admit(verdict) {
            Ok(verdict) => {
                request.extensions_mut().insert(verdict);
                Answering::inner(self.inner.call(request)).then(finish)
            }
            Err(problem) => Answering::refused(problem).then(finish),
        }
    }
}

/// What can be said without waiting.
enum AtOnce {
    Judged(Verdict),
    /// The store has to be asked.
    Ask(Source, Now),
}

impl Rules {
    /// Who sends `request`, as far as it can be said at once.
    fn judge_at_once<B>(&self, request: &Request<B>) -> AtOnce {
        let http = &self.http;
        if let Some(verdict) = Verdict::of(request.extensions(), http) {
            return AtOnce::Judged(verdict.clone()); // by the same layer, further out
        }
        let (now, source) = self.arrived(request);
        let who = match http.credential(request.method(), request.uri(), request.headers()) {
            Ok(None) => Who::Nobody,
            Err(problem) => Who::Refused(Box::new(problem)),
            Ok(Some(Credential { text, place })) => match http.authority().try_cached(text, &source, now) {
                Some(judgement) => {
                    Who::judged(http.judged(judgement, place, request.method(), request.headers()), place)
                }
                None => return AtOnce::Ask(source, now),
            },
        };
        AtOnce::Judged(Verdict { who, now, source, http: http.clone() })
    }

    /// Begins to ask the store. What is borrowed of the request is only read before the first wait, so that its body need not
    /// be shared between threads.
    fn look_up<'a, B>(
        &'a self,
        request: &Request<B>,
        source: &'a Source,
        now: Now,
    ) -> Result<Option<(Authenticating<'a>, Place)>, Problem> {
        let credential = self.http.credential(request.method(), request.uri(), request.headers())?;
        let authority = self.http.authority();
        Ok(credential.map(|Credential { text, place }| (authority.authenticate(text, source, now), place)))
    }

    /// When and from where `request` came: as is known already, or as we see it.
    fn arrived<B>(&self, request: &Request<B>) -> (Now, Source) {
        match Arrival::known(request.extensions(), &self.http) {
            Some(arrival) => (arrival.now, arrival.source.clone()),
            None => {
                let trusted = &self.http.settings().trusted_proxies;
                let source = device::source(Peer::of(request.extensions()), request.headers(), trusted);
                (self.http.clock().now(), source)
            }
        }
    }

    /// Whether a request goes on to the service.
    ///
    /// # Errors
    /// What it is answered with instead.
    fn admit(&self, verdict: Verdict) -> Result<Verdict, Problem> {
        match verdict.who {
            Who::Refused(problem) if self.needed || problem.kind().status().is_server_error() => Err(*problem),
            Who::Nobody if self.needed => Err(Problem::token_missing()),
            Who::Nobody | Who::Known(..) | Who::Refused(_) => Ok(verdict),
        }
    }

    fn finish<B>(self: &Arc<Self>, request: &Request<B>) -> Finish {
        let head = self.refusals.as_ref().map(|_| {
            let mut head = Request::new(());
            *head.method_mut() = request.method().clone();
            *head.uri_mut() = request.uri().clone();
            *head.version_mut() = request.version();
            *head.headers_mut() = request.headers().clone();
            Box::new(head.into_parts().0)
        });
        Finish { rules: Arc::clone(self), head, within_ours: request.extensions().get::<Arrival>().is_some() }
    }
}

/// What becomes of a problem on its way out.
#[derive(Debug)]
struct Finish {
    rules: Arc<Rules>,
    /// The head of the request, where somebody wants to see it.
    head: Option<Box<Parts>>,
    /// Whether it goes on to the layers of our own routes, which count, log and name it.
    within_ours: bool,
}

impl Finish {
    fn finish(&self, mut response: Response<Body>) -> Response<Body> {
        if response.extensions().get::<Problem>().is_none() || (self.within_ours && self.rules.refusals.is_none()) {
            return response;
        }
        let Some(problem) = response.extensions_mut().remove::<Problem>() else { return response };
        meter::refused(&problem);
        if let Some(cause) = problem.cause() {
            tracing::error!(error = chain(cause), "no answer could be given");
        }
        let own = match (&self.rules.refusals, &self.head) {
            (Some(Refusals(make)), Some(head)) => make(&problem, head),
            (_, _) => None,
        };
        own.unwrap_or_else(|| {
            let mut response = problem.render(self.rules.http.settings(), None);
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        })
    }
}

pin_project! {
    /// What a service with an [`AuthLayer`] or a [`Guard`](crate::Guard) around it will answer.
    pub struct Answering<F, E> {
        finish: Option<Finish>,
        #[pin]
        state: State<F, E>,
    }
}

pin_project! {
    /// Only what has to wait for the store is boxed.
    #[project = Doing]
    enum State<F, E> {
        Inner { #[pin] inner: F },
        Asking { asking: Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>> },
        Refused { response: Option<Response<Body>> },
    }
}

impl<F, E> Answering<F, E> {
    pub(crate) fn inner(inner: F) -> Answering<F, E> {
        Answering { finish: None, state: State::Inner { inner } }
    }

    pub(crate) fn asking(asking: impl Future<Output = Result<Response<Body>, E>> + Send + 'static) -> Answering<F, E> {
        Answering { finish: None, state: State::Asking { asking: Box::pin(asking) } }
    }

    pub(crate) fn refused(problem: Problem) -> Answering<F, E> {
        Answering { finish: None, state: State::Refused { response: Some(problem.into_response()) } }
    }

    fn then(self, finish: Finish) -> Answering<F, E> {
        Answering { finish: Some(finish), ..self }
    }
}

impl<F, E> fmt::Debug for Answering<F, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answering")
    }
}

impl<F, E, R> Future for Answering<F, E>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: HttpBody<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Output = Result<Response<Body>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = match this.state.project() {
            Doing::Inner { inner } => ready!(inner.poll(context))?.map(Body::new),
            Doing::Asking { asking } => ready!(asking.as_mut().poll(context))?,
            Doing::Refused { response } => match response.take() {
                Some(response) => response,
                None => return Poll::Pending, // polled after it was done, which nobody may
            },
        };
        Poll::Ready(Ok(match this.finish {
            Some(finish) => finish.finish(answer),
            None => answer,
        }))
    }
}
