//! Where a dialect meets the [`Authority`](counterfoil_core::Authority): [`Mounted`].

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{FromRequestParts, OriginalUri, RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::{MethodRouter, any};
use counterfoil_core::authority::{Claim, ClientOrder, LoggedIn, Page, PageRequest, Spelling};
use counterfoil_core::event::Limit;
use counterfoil_core::password::Password;
use counterfoil_core::store::{TokenFilter, TokenQuery};
use counterfoil_core::throttle::TooMany;
use counterfoil_core::token::Standing;
use counterfoil_core::{By, Client, ClientName, Error, Identity, Kind, Now, Policy, Refusal, Reissue, Source, Token};
use zeroize::Zeroizing;

use super::drf::answer::Answer;
use super::drf::authorization::{Authentication, Presented, Renewing};
use super::drf::negotiation::{Form, negotiate};
use super::drf::view::{Permission, View};
use super::drf::{django, metadata};
use super::host_view::HostView;
use super::middleware::{self, Passed};
use super::{Ask, Asked, Basic, Dialect, DialectRoute, Login, Path};
use crate::arrival::Arrival;
use crate::body;
use crate::exchange;
use crate::http::Http;
use crate::problem::{Problem, ProblemKind};

/// What Basic authentication says of a name and a password that are not an account's.
pub(super) const WRONG_PASSWORD: &str = "Invalid username/password.";

/// A dialect on a deployment: the package's routes, and its manners for a host's own. Made by [`Http::dialect`]; cheap to
/// clone.
#[derive(Clone)]
pub struct Mounted(Arc<Mount>);

pub(super) struct Mount {
    pub(super) http: Http,
    pub(super) dialect: Dialect,
}

impl fmt::Debug for Mounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Mounted").field(&self.0.dialect.name).finish()
    }
}

impl Http {
    /// This deployment in a package's wire format.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// use axum::body::Body;
    /// use axum::http::{Method, Request, StatusCode};
    /// use axum::routing::get;
    /// use axum::{Json, Router};
    /// # use counterfoil_core::account::{NewAccount, Role};
    /// # use counterfoil_core::{Authority, By, Clock, ManualClock, MemoryStore, Parts, Settings, Timestamp};
    /// # use counterfoil_core::{entropy::PredictableEntropy, event::Silent, hashing::OnThisThread};
    /// # use counterfoil_core::password::{HashingParams, Password};
    /// use counterfoil_http::{Authenticated, Dialect, DialectName, Http, HttpSettings};
    /// use serde_json::{Map, Value, json};
    /// # use http_body_util::BodyExt;
    /// use tower::ServiceExt;
    ///
    /// async fn me(who: Authenticated) -> Json<Value> {
    ///     Json(json!({"subject": who.subject}))
    /// }
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
    /// #     settings: Settings { hashing: HashingParams::insecure_for_tests(), ..Settings::default() },
    /// # };
    /// # let authority = Arc::new(Authority::open(parts, clock.now()).await?);
    /// # let http = Http::new(authority.clone(), clock.clone(), HttpSettings::default());
    /// # let (john, password) = (NewAccount::named("john".parse()?), Password::new("foobar123")?);
    /// # authority.create_user(john, Some(password), &By::operator(), clock.now()).await?;
    /// let settings = Map::from_iter([("reissue".to_owned(), json!("new"))]);
    /// let authtoken = http.dialect(Dialect::from_settings(DialectName::Authtoken, &settings)?);
    /// authtoken.prepare().await?;
    /// let app = Router::new()
    ///     .merge(authtoken.routes_at("/api-token-auth/"))
    ///     .route("/me/", authtoken.view("Me", &[Method::GET]).around(get(me)))
    ///     .fallback(authtoken.fallback());
    ///
    /// let login = Request::post("/api-token-auth/").header("Content-Type", "application/x-www-form-urlencoded");
    /// let answer = app.clone().oneshot(login.body(Body::from("username=john&password=foobar123"))?).await?;
    /// assert_eq!(answer.status(), StatusCode::OK);
    /// let answer: Value = serde_json::from_slice(&answer.into_body().collect().await?.to_bytes())?;
    /// let token = answer["token"].as_str().expect("a token");
    ///
    /// let me = Request::get("/me/").header("Authorization", format!("Token {token}"));
    /// assert_eq!(app.clone().oneshot(me.body(Body::empty())?).await?.status(), StatusCode::OK);
    ///
    /// let refused = app.oneshot(Request::get("/me/").body(Body::empty())?).await?;
    /// assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    /// assert_eq!(refused.headers()["WWW-Authenticate"], "Token");
    /// let words = refused.into_body().collect().await?.to_bytes();
    /// assert_eq!(&words[..], br#"{"detail":"Authentication credentials were not provided."}"#);
    /// # Ok(())
    /// # }
    /// ```
    pub fn dialect(&self, dialect: Dialect) -> Mounted {
        Mounted(Arc::new(Mount { http: self.clone(), dialect }))
    }
}

impl Mounted {
    /// Which dialect it is.
    pub fn dialect(&self) -> &Dialect {
        &self.0.dialect
    }

    pub(super) fn mount(&self) -> &Arc<Mount> {
        &self.0
    }

    /// Makes the client that the tokens of this mount are of, or brings it to what the settings say; to be called once before
    /// requests are taken. What the settings say nothing of, a throttle and whether anybody may log in, stays as it is. Where the package gives the same token at each login and there is no key ring to seal it with, each
    /// login gives another one, and the log says so.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn prepare(&self) -> Result<(), Error> {
        for shape in self.0.dialect.package.routes.iter().filter_map(|route| route.act.mints()) {
            self.0.http.authority().expect_shape(shape);
        }
        let Some(order) = self.0.dialect.client() else { return Ok(()) };
        match self.bring_to(order).await {
            Err(Error::Refused(Refusal::KeyRingMissing)) if order.policy.reissue == Reissue::Same => {
                tracing::warn!(
                    client = order.name.as_str(),
                    "without a key ring no token can be given out again: each login gives another one"
                );
                let mut order = order.clone();
                order.policy.reissue = Reissue::New;
                self.bring_to(&order).await
            }
            done => done,
        }
    }

    async fn bring_to(&self, order: &ClientOrder) -> Result<(), Error> {
        let (authority, by, now) = (self.0.http.authority(), By::operator(), self.0.http.clock().now());
        // Of what no package speaks, the operator does.
        let meant = |client: &Client| ClientOrder {
            policy: Policy {
                throttle: order.policy.throttle.or(client.policy.throttle),
                prefix: client.policy.prefix.clone(),
                ..order.policy.clone()
            },
            allow_login: client.allow_login,
            name: client.name.clone(),
        };
        match authority.client(&order.name).await {
            Ok(client) if meant(&client).policy == client.policy => Ok(()),
            Ok(_) => authority.update_client(&order.name, |client| Ok(meant(client)), &by, now).await.map(drop),
            Err(Error::Refused(Refusal::ClientUnknown)) => {
                match authority.create_client(order.clone(), &by, now).await {
                    // By another node, this instant.
                    Err(Error::Refused(Refusal::ClientNameTaken)) => Ok(()),
                    made => made.map(drop),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// The package's routes below `path`, and Django's page of 404 for what else is asked for there; to be merged with others.
    /// They have all the layers that ours have: deadline, request id, log. Whatever is below `path` and not the package's is
    /// 404, but for routes of the host's own that are named in full; a host's `{*rest}` there would be the same route twice.
    pub fn routes_at(&self, path: &str) -> Router {
        let base = path.trim_end_matches('/');
        let mut router: Router<Http> = Router::new();
        let mut is_open_ended = false;
        for (at, route) in self.0.dialect.package.routes.iter().enumerate() {
            match route.path.exact() {
                Some(path) => {
                    router = router.route(&format!("{base}{path}"), self.served(at));
                    if let Some(without) =
                        path.strip_suffix('/').filter(|without| !(base.is_empty() && without.is_empty()))
                    {
                        router = router.route(&format!("{base}{without}"), self.missing_slash());
                    }
                }
                None => is_open_ended = true,
            }
        }
        if is_open_ended || !base.is_empty() {
            let (mounted, base) = (self.clone(), base.to_owned());
            let anything = move |request: Request| async move { mounted.serve_whatever(&base, request).await };
            router = router.route(&format!("{}/{{*rest}}", path.trim_end_matches('/')), any(anything));
        }
        let router = match self.0.dialect.middleware_scheme() {
            Some(_) => router.layer(self.middleware()),
            None => router,
        };
        self.0.http.with_layers_of(self, router)
    }

    /// A view of the host's own in the manner of the package: `name` and the methods that it has are what OPTIONS, `Allow` and
    /// 405 tell. HEAD is there where GET is.
    pub fn view(&self, name: impl Into<String>, methods: &[Method]) -> HostView {
        HostView::new(self, name.into(), methods)
    }

    /// Django's page for an address that there is not, for [`Router::fallback`].
    pub fn fallback<S: Clone + Send + Sync + 'static>(&self) -> MethodRouter<S> {
        any(|| async { plain(django::not_found()) })
    }

    /// 301 to the path with a slash at its end, for the path without one; whatever the method.
    pub fn missing_slash<S: Clone + Send + Sync + 'static>(&self) -> MethodRouter<S> {
        any(|uri: OriginalUri| async move { plain(django::to_the_slash(uri.path(), uri.query())) })
    }

    fn served(&self, route: usize) -> MethodRouter<Http> {
        let mounted = self.clone();
        any(move |parameters: Result<RawPathParams, RawPathParamsRejection>, request: Request| async move {
            // What is no text is no address of Django's either.
            let Ok(parameters) = parameters else { return plain(django::not_found()) };
            let parameters: Vec<_> =
                parameters.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            let takes = mounted.0.dialect.package.routes[route].path.takes(&parameters);
            if takes { mounted.serve(route, parameters, request).await } else { plain(django::not_found()) }
        })
    }

    /// What is below the mount and has no route of its own.
    async fn serve_whatever(&self, base: &str, request: Request) -> Response {
        let below = request.uri().path().strip_prefix(base).unwrap_or_default();
        let route = self.0.dialect.package.routes.iter().position(|route| match &route.path {
            Path::Prefix(prefix) => below.starts_with(prefix),
            Path::Exact(_) | Path::Chosen(_) | Path::Routed(_) => false,
        });
        match route {
            Some(route) => self.serve(route, Vec::new(), request).await,
            None => plain(django::not_found()),
        }
    }

    async fn serve(&self, route: usize, parameters: Vec<(String, String)>, request: Request) -> Response {
        let DialectRoute { view, .. } = &self.0.dialect.package.routes[route];
        let (mut parts, body) = request.into_parts();
        let asked = line(&parts.method, &parts.uri);
        if !view.is_of_framework {
            let answer = self.act(route, parameters, parts, body, (None, None)).await;
            return answer.render(view, Form::Json { indent: None }, &asked);
        }
        let (form, answer) = match self.admit(view, &mut parts).await {
            Ok(Admitted { form, who, basic }) => (form, self.act(route, parameters, parts, body, (who, basic)).await),
            Err(Turned { form, answer }) => (form, answer),
        };
        answer.render(view, form, &asked)
    }

    /// Whether a request gets to the view, by the head alone.
    pub(super) async fn admit(&self, view: &View, parts: &mut Parts) -> Result<Admitted, Turned> {
        let form = negotiate(&view.renderers, &parts.headers, parts.uri.query().unwrap_or_default());
        // What cannot be told as it is wanted is told in JSON.
        let form = form.map_err(|answer| Turned { form: Form::Json { indent: None }, answer })?;
        let turned = |answer| Turned { form, answer };
        let arrival = self.arrival(parts).await;
        let who = self.who(&view.authentication, parts, &arrival, Judged::First).await.map_err(turned)?;
        let basic = basic(&view.authentication, parts).map_err(turned)?;
        if let Some(basic) = &basic
            && !view.methods.contains(&parts.method)
        {
            self.prove_alone(view, basic.clone(), &arrival).await.map_err(turned)?;
        }
        self.may(view, who.as_ref(), basic.is_some()).map_err(turned)?;
        self.count(view, who.as_ref(), &arrival).await.map_err(turned)?;
        if !view.has(&parts.method) {
            let words = format!("Method \"{}\" not allowed.", parts.method);
            return Err(turned(Answer::detail(StatusCode::METHOD_NOT_ALLOWED, &words)));
        }
        if parts.method == Method::OPTIONS {
            return Err(turned(metadata::describe(view)));
        }
        Ok(Admitted { form, who, basic })
    }

    async fn arrival(&self, parts: &mut Parts) -> Arrival {
        let Ok::<_, Infallible>(arrival) = Arrival::from_request_parts(parts, &self.0.http).await;
        arrival
    }

    /// Who presents what the view looks at.
    async fn who(
        &self,
        authentication: &Authentication,
        parts: &Parts,
        arrival: &Arrival,
        judged: Judged,
    ) -> Result<Option<Identity>, Answer> {
        if let Authentication::Session = authentication {
            let who = Passed::of(parts, self).and_then(|passed| passed.who.clone());
            return match middleware::forged(&parts.method).filter(|_| who.is_some()) {
                Some(forged) => Err(forged),
                None => Ok(who),
            };
        }
        let Authentication::Token(scheme) = authentication else { return Ok(None) };
        let Presented::Token(text) = authentication.presented(&parts.headers)? else { return Ok(None) };
        let http = &self.0.http;
        let judgement = http.authority().authenticate_unthrottled(&text, &arrival.source, arrival.now).await;
        match judged {
            Judged::First => http.count_check(&judgement),
            Judged::Again => {}
        }
        let refusal = match judgement {
            Ok(who) => match scheme.renewal.filter(|renewal| renewal.may_be_due(&who, arrival.now)) {
                None => return Ok(Some(who)),
                Some(Renewing { gain_millis, .. }) => {
                    match http.authority().renew_in_use(&text, &who, gain_millis, arrival.now).await {
                        Ok(()) => return Ok(Some(who)),
                        Err(Error::Refused(refusal)) => refusal,
                        Err(error) => return Err(no_answer(&error.into())),
                    }
                }
            },
            Err(Error::Refused(refusal)) => refusal,
            Err(error) => return Err(no_answer(&error.into())),
        };
        let Some(words) = scheme.words.of(&refusal) else { return Err(self.told(&refusal)) };
        if refusal == Refusal::TokenExpired && scheme.words.expired != scheme.words.unknown {
            // Such a package deletes the token as it says so.
            let ended = http.authority().end_if_expired(&text, arrival.now).await;
            ended.map_err(|error| no_answer(&error.into()))?;
        }
        Err(authentication.failed(words))
    }

    /// Whether somebody may, who has this token or else has shown a password.
    fn may(&self, view: &View, who: Option<&Identity>, by_password: bool) -> Result<(), Answer> {
        let allowed = match (&view.permission, who) {
            (Permission::Anyone, _) | (Permission::Authenticated, Some(_)) => true,
            (Permission::Authenticated, None) if by_password => true,
            (Permission::Authenticated | Permission::Clients(_) | Permission::OtherClients(_), None) => {
                return Err(view.authentication.missing());
            }
            (Permission::Clients(clients), Some(who)) => clients.contains(&who.client),
            (Permission::OtherClients(clients), Some(who)) => !clients.contains(&who.client),
        };
        let words = "You do not have permission to perform this action.";
        if allowed { Ok(()) } else { Err(Answer::detail(StatusCode::FORBIDDEN, words)) }
    }

    async fn count(&self, view: &View, who: Option<&Identity>, arrival: &Arrival) -> Result<(), Answer> {
        let Some(throttle) = view.throttle else { return Ok(()) };
        let (authority, Arrival { source, now, .. }) = (self.0.http.authority(), arrival);
        let counted = match (who, throttle.fallback) {
            (Some(who), fallback) => authority.count_at_throttle(who, fallback, source, *now).await,
            (None, Some(rate)) => authority.count_stranger_at_route(&Arc::from("dialect"), rate, source, *now).await,
            (None, None) => Ok(()),
        };
        counted.map_err(|error| self.failed(error))
    }

    /// What the view does.
    async fn act(
        &self,
        route: usize,
        parameters: Vec<(String, String)>,
        mut parts: Parts,
        body: Body,
        (who, basic): (Option<Identity>, Option<Basic>),
    ) -> Answer {
        let DialectRoute { view, act, .. } = &self.0.dialect.package.routes[route];
        let http = &self.0.http;
        let (mut body_bytes, mut who) = (Zeroizing::default(), who);
        if act.reads_body(&parts.method) {
            body_bytes = match body::read(body, http).await {
                Ok(bytes) => bytes,
                Err(problem) => return no_answer(&problem),
            };
            // A body may take long: whoever sent it is judged by the clock as it stands now.
            Arrival::is_complete(&mut parts.extensions, http);
            let arrival = self.arrival(&mut parts).await;
            who = match self.who(&view.authentication, &parts, &arrival, Judged::Again).await {
                Ok(who) => who,
                Err(answer) => return answer,
            };
            if let Err(answer) = self.may(view, who.as_ref(), basic.is_some()) {
                return answer;
            }
        }
        let arrival = self.arrival(&mut parts).await;
        let path = parts.extensions.get::<OriginalUri>().map_or_else(|| parts.uri.path(), |uri| uri.path()).to_owned();
        let asked = Asked {
            method: parts.method,
            path,
            parameters,
            query: parts.uri.query().unwrap_or_default().to_owned(),
            headers: parts.headers,
            body: body_bytes,
            parsers: view.parsers.clone(),
            who,
            basic,
        };
        let (mounted, act) = (self.clone(), Arc::clone(act));
        let begun = async move {
            let ask = match act.ask(&asked) {
                Ok(ask) => ask,
                Err(answer) => return answer,
            };
            match mounted.carry_out(ask, &arrival.source, arrival.now).await {
                Ok(answer) | Err(Stopped::Answered(answer)) => answer,
                Err(Stopped::Failed(Error::Refused(refusal))) => {
                    act.refused(&asked, &refusal).unwrap_or_else(|| mounted.told(&refusal))
                }
                Err(Stopped::Failed(error)) => no_answer(&error.into()),
            }
        };
        exchange::whole(http, begun).await.unwrap_or_else(|problem| no_answer(&problem))
    }

    /// Whether the password is right, and nothing else: a view that takes no such request asks all the same who sends it.
    async fn prove_alone(&self, view: &View, (username, password): Basic, arrival: &Arrival) -> Result<(), Answer> {
        let authority = self.0.http.authority();
        let client = self.0.dialect.client().map_or_else(ClientName::default_client, |order| order.name.clone());
        let proven = match claim(username, &password, client) {
            Ok(claim) => authority.prove(claim, &arrival.source, arrival.now).await,
            Err(refusal) => Err(refusal.into()),
        };
        let declined = match proven {
            Ok(proven) => authority.decline(proven, Refusal::RefusedByHost("no token was asked for".to_owned())).await,
            Err(error) => Err(error),
        };
        declined.map_err(|error| {
            let is_wrong = matches!(error, Error::Refused(Refusal::CredentialsRejected));
            if is_wrong { view.authentication.failed(WRONG_PASSWORD) } else { self.failed(error) }
        })
    }

    /// Does what a dialect asks for.
    async fn carry_out(&self, ask: Ask, source: &Source, now: Now) -> Result<Answer, Stopped> {
        let authority = self.0.http.authority();
        let mut ask = ask;
        loop {
            let answer = match ask {
                Ask::Tokens { who, then } => match then(self.tokens(&who, now).await?, now.wall) {
                    Ok(next) => {
                        ask = next;
                        continue;
                    }
                    Err(answer) => answer,
                },
                Ask::LogIn { username, password, client, terms, answer } => {
                    let login = Login { username, password, client, terms };
                    answer(&self.log_in(login, source, now).await?)
                }
                Ask::LogInAlone { login, answer } => {
                    let client = login.client.clone();
                    let logged_in = self.log_in(login, source, now).await?;
                    let token = &logged_in.issued.token;
                    let filter = TokenFilter {
                        client: Some(client),
                        kind: Some(Kind::Login),
                        ..TokenFilter::of(token.subject.clone())
                    };
                    let query = TokenQuery { filter, live_at: Some(now.wall), ..TokenQuery::default() };
                    let live = authority.list(query, PageRequest { after: None, limit: 2 }).await?;
                    let is_alone = live.items.iter().all(|other| other.id == token.id);
                    answer(&logged_in, is_alone)
                }
                Ask::Further { who, further, answer } => {
                    answer(&authority.log_in_further(&who, further, source, now).await?)
                }
                Ask::LogInAnew { login, answer } => {
                    let mut logged_in = self.log_in(login, source, now).await?;
                    if logged_in.issued.repeated {
                        let who = Identity::from(&logged_in.issued.token);
                        logged_in.issued.token.expires_at = authority.renew_held(&who, source, now).await?;
                    }
                    answer(&logged_in)
                }
                Ask::LogInFurther { who, further, answer } => {
                    let issued = authority.log_in_further(&who, further, source, now).await?;
                    answer(&(issued, authority.account_of(&who.subject).await?))
                }
                Ask::Renew { who, answer } => answer(&authority.renew_held(&who, source, now).await?),
                Ask::LogOut { who, answer } => {
                    authority.logout(&who, source, now).await?;
                    answer(&())
                }
                Ask::Register { new, terms, answer } => answer(&authority.register_by(*new, terms, source, now).await?),
                Ask::IsFree { username, answer } => answer(&authority.is_free_name(&username, source, now).await?),
                Ask::LookAtLink { text, answer } => answer(&authority.linked_to_confirm(&text, source, now).await?),
                Ask::Confirm { text, answer } => answer(&authority.confirm_by_mail_alone(&text, source, now).await?),
                Ask::EndAll { who, answer } => {
                    authority.logout_all(&who, source, now).await?;
                    answer(&())
                }
                Ask::Revoke { who, tokens, answer } => {
                    for token in tokens {
                        authority.revoke(&who, token, Kind::Login, source, now).await?;
                    }
                    answer(&())
                }
                Ask::Reveal { who, token, answer } => match authority.reveal(&who, &token, source, now).await {
                    // Without its ring nothing is sealed, and nothing shown.
                    Err(Error::Refused(Refusal::KeyRingMissing)) => answer(&None),
                    revealed => answer(&revealed?),
                },
            };
            return Ok(answer);
        }
    }

    /// The login tokens of `who`'s subject that nobody has ended.
    async fn tokens(&self, who: &Identity, now: Now) -> Result<Vec<Token>, Error> {
        let (mut tokens, mut after) = (Vec::new(), None);
        loop {
            let filter = TokenFilter { kind: Some(Kind::Login), ..TokenFilter::of(who.subject.clone()) };
            let query = TokenQuery { filter, ..TokenQuery::default() };
            let page = PageRequest { after, limit: PageRequest::MOST };
            let Page { items, next } = self.0.http.authority().list(query, page).await?;
            tokens.extend(items.into_iter().filter(|token| token.standing(now.wall) != Standing::Revoked));
            after = next;
            if after.is_none() {
                return Ok(tokens);
            }
        }
    }

    async fn log_in(&self, login: Login, source: &Source, now: Now) -> Result<LoggedIn, Stopped> {
        let authority = self.0.http.authority();
        let Login { username, password, client, terms } = login;
        let proven = authority.prove(claim(username, &password, client)?, source, now).await?;
        match terms(proven.account()) {
            Ok(terms) => Ok(authority.log_in(proven, terms).await?),
            Err(answer) => {
                let why = Refusal::RefusedByHost("by the settings of the dialect".to_owned());
                authority.decline(proven, why).await?;
                Err(Stopped::Answered(answer))
            }
        }
    }

    /// The answer where nothing came of it, and the dialect has no words of its own.
    pub(super) fn failed(&self, error: Error) -> Answer {
        match error {
            Error::Refused(refusal) => self.told(&refusal),
            Error::Store(_) | Error::Entropy(_) | Error::Overloaded | Error::Unseal(_) | Error::Hook(_) => {
                no_answer(&error.into())
            }
        }
    }

    /// What is said of a refusal that no package has, or that all have alike.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the rest is said as on native routes, where each has its words"
    )]
    fn told(&self, refusal: &Refusal) -> Answer {
        match refusal {
            Refusal::Throttled(too_many) | Refusal::LimitHit(Limit::Route, too_many) => throttled(*too_many),
            Refusal::ClientUnknown if self.0.dialect.client().is_some() => {
                tracing::error!("the client of this mount is not there: call Mounted::prepare before serving");
                no_answer(&Problem::new(ProblemKind::Internal, "The operator finds the cause in the log."))
            }
            other => no_answer(&other.clone().into()),
        }
    }

    /// The layer around the routes that tells what went wrong around them.
    pub(crate) async fn answered(State(mounted): State<Mounted>, request: Request, next: Next) -> Response {
        let asked = line(request.method(), request.uri());
        let mut response = exchange::in_time(&mounted.0.http, request, next).await;
        match exchange::problem_of(&mut response) {
            Some(problem) => {
                // Not known of which view.
                let view = View { renderers: [].as_slice().into(), ..View::named("", &[]) };
                let mut response = in_words(&problem).render(&view, Form::Json { indent: None }, &asked);
                response.headers_mut().remove(header::ALLOW);
                response
            }
            None => response,
        }
    }
}

/// Whether a request has been judged, and counted, before.
#[derive(Debug, Clone, Copy)]
enum Judged {
    First,
    /// Its body has come since.
    Again,
}

/// A request that gets to the view.
pub(super) struct Admitted {
    pub(super) form: Form,
    pub(super) who: Option<Identity>,
    /// Not looked at yet.
    basic: Option<Basic>,
}

/// A request that does not, and what it is answered with.
pub(super) struct Turned {
    pub(super) form: Form,
    pub(super) answer: Answer,
}

/// A user name and a password in `Authorization`, at a view that takes them.
fn basic(authentication: &Authentication, parts: &Parts) -> Result<Option<Basic>, Answer> {
    match authentication {
        Authentication::Nobody | Authentication::Token(_) | Authentication::Session => Ok(None),
        Authentication::Basic => match authentication.presented(&parts.headers)? {
            Presented::Basic { username, password } => Ok(Some((username, password))),
            Presented::Nothing | Presented::Token(_) => Ok(None),
        },
    }
}

fn claim(username: String, password: &str, client: ClientName) -> Result<Claim, Refusal> {
    // No account has one that is longer.
    let password = Password::new(password.as_bytes()).map_err(|_| Refusal::CredentialsRejected)?;
    Ok(Claim { username, spelled: Spelling::Exact, password, client })
}

impl Path {
    /// What the router is told; `None` for a pattern without an end.
    pub(super) fn exact(&self) -> Option<&str> {
        match self {
            Path::Exact(path) | Path::Routed(path) => Some(path),
            Path::Chosen(path) => Some(path),
            Path::Prefix(_) => None,
        }
    }

    /// Whether Django's pattern takes these as well.
    fn takes(&self, parameters: &[(String, String)]) -> bool {
        match self {
            Path::Exact(_) | Path::Chosen(_) | Path::Prefix(_) => true,
            Path::Routed(_) => parameters.iter().all(|(_, value)| !value.contains(['.', '/'])),
        }
    }
}

/// Why an ask came to nothing.
enum Stopped {
    /// The dialect had its answer before the end.
    Answered(Answer),
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Stopped {
    fn from(error: E) -> Stopped {
        Stopped::Failed(error.into())
    }
}

/// An answer that is of no view.
pub(super) fn plain(answer: Answer) -> Response {
    answer.render(&View::named("", &[]), Form::Json { indent: None }, "")
}

/// What a page tells was asked.
pub(super) fn line(method: &Method, uri: &Uri) -> String {
    format!("{method} {}", uri.path())
}

/// 429, with the seconds rounded up.
fn throttled(TooMany { retry_after_seconds, .. }: TooMany) -> Answer {
    let unit = if retry_after_seconds == 1 { "second" } else { "seconds" };
    let words = format!("Request was throttled. Expected available in {retry_after_seconds} {unit}.");
    Answer::detail(StatusCode::TOO_MANY_REQUESTS, &words)
        .with(header::RETRY_AFTER, HeaderValue::from(retry_after_seconds))
}

/// What the packages do not know, in their form; noted as on native routes.
pub(super) fn no_answer(problem: &Problem) -> Answer {
    exchange::note(problem);
    in_words(problem)
}

pub(super) fn in_words(problem: &Problem) -> Answer {
    let answer = Answer::detail(problem.kind().status(), problem.detail());
    match problem.retry_after_seconds() {
        Some(seconds) => answer.with(header::RETRY_AFTER, HeaderValue::from(seconds)),
        None => answer,
    }
}
