//! Who is asking, for any service behind the layer: [`Authenticated`].

use std::ops::Deref;
use std::sync::Arc;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::Extensions;
use axum::http::request::Parts;
use counterfoil_core::throttle::Rate;
use counterfoil_core::{
    Ability, Authority, By, ClientName, Identity, Kind, Lifetime, Now, Rank, Refusal, Source, TokenId,
};

use crate::credentials::Place;
use crate::http::Http;
use crate::problem::{Problem, ProblemKind};

/// What the layer leaves with a request: one thing, so that a request pays for one.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub(crate) who: Who,
    pub(crate) now: Now,
    pub(crate) source: Source,
    pub(crate) http: Http,
}

/// Who asks, as far as it is known.
#[derive(Debug, Clone)]
pub(crate) enum Who {
    /// Nobody who presents anything.
    Nobody,
    /// The holder of a live token.
    Known(Identity, Place),
    /// Somebody whose token is not to be had; why.
    Refused(Box<Problem>),
}

impl Who {
    pub(crate) fn judged(judgement: Result<Identity, Problem>, place: Place) -> Who {
        match judgement {
            Ok(who) => Who::Known(who, place),
            Err(problem) => Who::Refused(Box::new(problem)),
        }
    }
}

impl Verdict {
    /// What a layer of the same authority has found that looks where `http` would. Another one's says nothing here.
    pub(crate) fn of<'a>(extensions: &'a Extensions, http: &Http) -> Option<&'a Verdict> {
        extensions.get().filter(|verdict: &&Verdict| verdict.http.finds_the_same_as(http))
    }
}

/// Left with a request in the place of a [`Verdict`] that is to be given again: what has been counted of it is not counted
/// twice.
#[derive(Debug, Clone)]
struct Counted {
    token: TokenId,
    by: Http,
}

impl Counted {
    /// The token that was found in a request, and counted, by somebody who asks the same authority as `http`.
    fn within(extensions: &Extensions, http: &Http) -> Option<Counted> {
        let counted = match extensions.get() {
            Some(Verdict { who: Who::Known(who, _), http: by, .. }) => Some(Counted { token: who.id, by: by.clone() }),
            Some(Verdict { who: Who::Nobody | Who::Refused(_), .. }) | None => extensions.get().cloned(),
        };
        counted.filter(|Counted { by, .. }| std::ptr::eq(by.authority(), http.authority()))
    }
}

/// The token whose throttle, and the count of token checks, a request has been held against already.
pub(crate) fn counted(extensions: &Extensions, http: &Http) -> Option<TokenId> {
    Counted::within(extensions, http).map(|Counted { token, .. }| token)
}

/// Has whoever was let in at the head judged again. Who was refused there stays refused.
pub(crate) fn judge_again(extensions: &mut Extensions, http: &Http) {
    let counted = Counted::within(extensions, http);
    if !matches!(Verdict::of(extensions, http), Some(Verdict { who: Who::Refused(_), .. })) {
        extensions.remove::<Verdict>();
    }
    if let Some(counted) = counted {
        extensions.insert(counted);
    }
}

/// The live token that a request carries, as the [layer](crate::AuthLayer) around the service has judged it, with when and
/// from where the request came. Derefs to [`Identity`].
///
/// An extractor for any axum router, whatever its state. `Option<Authenticated>` is `None` only where nothing was presented:
/// a token that is not valid is refused by both, so that nobody believes to be logged in who is not. Services that are not
/// axum's read it with [`Authenticated::of`].
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
/// use counterfoil_http::{Authenticated, Http, HttpSettings};
/// use tower::ServiceExt;
///
/// async fn greet(who: Option<Authenticated>) -> String {
///     who.map_or("Hello, stranger".to_owned(), |who| format!("Hello, {}", who.subject))
/// }
///
/// async fn door(_: Authenticated) -> &'static str {
///     "open"
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
/// let app = Router::new().route("/", get(greet)).route("/door", get(door)).layer(http.layer());
///
/// let with = |path: &str, token: &str| {
///     Request::get(path).header("Authorization", format!("Bearer {token}")).body(Body::empty())
/// };
/// let answer = app.clone().oneshot(with("/door", issued.secret.expose())?).await?;
/// assert_eq!(answer.status(), StatusCode::OK);
///
/// let answer = app.clone().oneshot(Request::get("/").body(Body::empty())?).await?;
/// assert_eq!(answer.status(), StatusCode::OK, "strangers are greeted");
///
/// let refused = app.clone().oneshot(Request::get("/door").body(Body::empty())?).await?;
/// assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
/// assert_eq!(refused.headers()["WWW-Authenticate"], "Bearer realm=\"counterfoil\"");
///
/// let refused = app.oneshot(with("/", "not-a-token")?).await?;
/// assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "but nobody with a token that is none");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Authenticated {
    who: Identity,
    place: Place,
    now: Now,
    source: Source,
    http: Http,
}

impl Deref for Authenticated {
    type Target = Identity;

    fn deref(&self) -> &Identity {
        &self.who
    }
}

impl Authenticated {
    /// Who a request is from, by the extensions that the layer left it with; `None` where it presents no token.
    ///
    /// # Errors
    /// What the token is refused with; 500 `internal` where no layer has seen the request, which the log explains.
    pub fn of(extensions: &Extensions) -> Result<Option<Authenticated>, Problem> {
        let Some(verdict) = extensions.get::<Verdict>() else {
            tracing::error!(
                "a route asks who is there, and nothing around it knows: put the layer around it, as in \
                 `router.layer(counterfoil.layer())`, and guards within that"
            );
            let detail = "The operator finds the cause in the log.";
            return Err(Problem::new(ProblemKind::Internal, detail));
        };
        match &verdict.who {
            Who::Nobody => Ok(None),
            Who::Refused(problem) => Err(problem.as_ref().clone()),
            Who::Known(who, place) => Ok(Some(Authenticated {
                who: who.clone(),
                place: *place,
                now: verdict.now,
                source: verdict.source.clone(),
                http: verdict.http.clone(),
            })),
        }
    }

    /// As [`Authenticated::of`], where there has to be somebody.
    ///
    /// # Errors
    /// As there, and 401 `token-missing`.
    pub(crate) fn needed(extensions: &Extensions) -> Result<Authenticated, Problem> {
        Authenticated::of(extensions)?.ok_or_else(Problem::token_missing)
    }

    /// The token itself.
    pub fn identity(&self) -> &Identity {
        &self.who
    }

    /// The time by which the request is judged, read once when it came.
    pub fn now(&self) -> Now {
        self.now
    }

    /// The device it came from, as far as it can be believed.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Where in the request the token was.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The one who judges, and who does what is to be done with the token.
    pub fn authority(&self) -> &Authority {
        self.http.authority()
    }

    /// What a page sends as `X-CSRF-Token` to show that it belongs to this session.
    pub fn csrf_token(&self) -> String {
        self.authority().csrf_token(&self.who)
    }

    /// Goes on if the token is of one of these clients.
    ///
    /// # Errors
    /// 403 `client-not-allowed`.
    pub fn of_client(&self, allowed: &[ClientName]) -> Result<(), Problem> {
        if allowed.contains(&self.who.client) { Ok(()) } else { Err(client_not_allowed()) }
    }

    /// Goes on if the token is of none of these clients.
    ///
    /// # Errors
    /// 403 `client-not-allowed`.
    pub fn not_of_client(&self, barred: &[ClientName]) -> Result<(), Problem> {
        if barred.contains(&self.who.client) { Err(client_not_allowed()) } else { Ok(()) }
    }

    /// Goes on if the token may do `wanted`.
    ///
    /// # Errors
    /// 403 `insufficient-ability`.
    pub fn may(&self, wanted: &Ability) -> Result<(), Problem> {
        Ok(self.authority().require(&self.who, wanted, &self.source, self.now)?)
    }

    /// Goes on if the token may do all of these.
    ///
    /// # Errors
    /// 403 `insufficient-ability`, naming the first that it lacks.
    pub fn may_all(&self, wanted: &[Ability]) -> Result<(), Problem> {
        wanted.iter().try_for_each(|wanted| self.may(wanted))
    }

    /// Goes on if the token may do any of these; nobody may do one of none.
    ///
    /// # Errors
    /// 403 `insufficient-ability`, naming the first.
    pub fn may_any(&self, wanted: &[Ability]) -> Result<(), Problem> {
        if wanted.iter().any(|wanted| self.who.abilities.cover(wanted)) {
            return Ok(());
        }
        match wanted.first() {
            Some(first) => self.may(first),
            None => Err(Problem::new(ProblemKind::InsufficientAbility, "No ability is enough for this.")),
        }
    }

    /// Goes on if the account is staff's or an administrator's as it is now, which asks the store. A login token needs no
    /// more; an API key needs `wanted` as well.
    ///
    /// # Errors
    /// 403 `staff-needed`, `insufficient-ability`; 503 where the store cannot say.
    pub async fn staff(&self, wanted: &Ability) -> Result<By, Problem> {
        Ok(self.authority().staff(&self.who, wanted, &self.source, self.now).await?)
    }

    /// As [`Authenticated::staff`], for administrators alone.
    ///
    /// # Errors
    /// As there, and 403 `admin-needed`.
    pub async fn admin(&self, wanted: &Ability) -> Result<By, Problem> {
        let by = self.staff(wanted).await?;
        if by.rank() >= Rank::Admin { Ok(by) } else { Err(Refusal::AdminNeeded.into()) }
    }

    /// Goes on if somebody logged in for this token less than `within` ago: at the very end it is too late. Renewing and
    /// rotating is no login, and an API key never is one.
    ///
    /// On a client with [`Reissue::Same`](counterfoil_core::client::Reissue::Same) logging in again does not help: the token
    /// that is handed out again is as old as it was, and nobody passes until it has been logged out or has expired.
    ///
    /// # Errors
    /// 401 `login-too-old`.
    pub fn logged_in_within(&self, within: Lifetime) -> Result<(), Problem> {
        let fresh = match self.who.kind {
            Kind::Login => self.now.wall.millis_since(self.who.issued_at) < within.millis(),
            Kind::Key => false,
        };
        if fresh { Ok(()) } else { Err(Problem::login_too_old(within.seconds())) }
    }

    /// Counts this request against a rate of its own, by subject and client. What is counted under one name is counted
    /// together, and apart from the client's own rate, which the layer has held the request against already.
    ///
    /// # Errors
    /// 429 `quota-exceeded`, and nothing is counted.
    pub async fn throttle(&self, name: &Arc<str>, rate: Rate) -> Result<(), Problem> {
        Ok(self.authority().count_at_route(name, rate, &self.who, &self.source, self.now).await?)
    }

    /// The same, where nobody else is to be asked.
    pub(crate) fn try_throttle(&self, name: &Arc<str>, rate: Rate) -> Option<Result<(), Problem>> {
        let counted = self.authority().try_count_at_route(name, rate, &self.who, &self.source, self.now)?;
        Some(counted.map_err(Problem::from))
    }
}

fn client_not_allowed() -> Problem {
    Problem::new(ProblemKind::ClientNotAllowed, "Tokens of this client may not do this.")
}

impl<S: Send + Sync> FromRequestParts<S> for Authenticated {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Authenticated::needed(&parts.extensions)
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for Authenticated {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Problem> {
        Authenticated::of(&parts.extensions)
    }
}
