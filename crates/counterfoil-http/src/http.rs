//! What every handler shares: [`Http`].

use std::sync::Arc;

use axum::BoxError;
use axum::http::{HeaderMap, Method, Uri};
use counterfoil_core::{Account, Authority, Clock, Error, Identity, SubjectId};
use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use crate::cookie::Cookies;
use crate::credentials::{self, Credential, Place, Scheme};
use crate::device::TrustedProxy;
use crate::docs::Description;
use crate::meter::Checks;
use crate::payload::{Payload, UserToShow};
use crate::problem::Problem;
use crate::readiness::Readiness;
use crate::request_id::{RequestId, RequestIds};
use crate::selection::Selection;
use crate::settings::HttpSettings;

/// The authority with what it takes to speak HTTP for it. The state of the router; cheap to clone.
#[derive(Debug, Clone)]
pub struct Http(Arc<Shared>);

#[derive(Debug, Clone)]
struct Shared {
    authority: Arc<Authority>,
    clock: Arc<dyn Clock>,
    settings: HttpSettings,
    request_ids: Arc<RequestIds>,
    readiness: Arc<Readiness>,
    places: Arc<Semaphore>,
    checks: Arc<Checks>,
    payload: Option<Payload>,
    description: Arc<Description>,
}

/// Requests with a body that may be under way at once, those whose client has hung up included. More than there are
/// connections by default.
const MOST_UNDER_WAY: usize = 1_024;

impl Http {
    /// Speaks for `authority`, reading the time from `clock` when a request begins and when its body is there.
    pub fn new(authority: Arc<Authority>, clock: Arc<dyn Clock>, settings: HttpSettings) -> Http {
        let request_ids = Arc::new(RequestIds::new(settings.request_id_prefix.as_deref(), clock.now().wall));
        let places = Arc::new(Semaphore::new(MOST_UNDER_WAY));
        let (readiness, checks) = (Arc::default(), Arc::default());
        let description = Arc::new(Description::of(Selection::all()));
        Http(Arc::new(Shared {
            authority,
            clock,
            settings,
            request_ids,
            readiness,
            places,
            checks,
            payload: None,
            description,
        }))
    }

    /// The same by other settings, for a server that is told anew what to go by: make its router, and let it take the
    /// requests from now on, while those under way finish with the old one. The ids of requests are counted on, and their
    /// prefix stays.
    #[must_use]
    pub fn with_settings(&self, settings: HttpSettings) -> Http {
        Http(Arc::new(Shared { settings, ..self.0.as_ref().clone() }))
    }

    /// The same with what `make` returns as `user` in the answers to a login, `me`, and wherever else a token is shown to
    /// its user, in the place of the fields of [`HttpSettings::user_fields`]. It may wait, for a table of the host's own.
    ///
    /// An error is answered with 503, a panic with 500, and never is half an answer given. A login whose `user` could not
    /// be made has failed: its new token is ended again, so that nobody owns a token that nobody holds. (Where the client
    /// hands out the same secret again it stays, because others hold it.)
    ///
    /// ```
    /// # use counterfoil_http::Http;
    /// use serde_json::{Map, json};
    ///
    /// # fn example(http: Http) -> Http {
    /// http.with_user_payload(async |user| {
    ///     let name = user.account.map(|account| account.username.to_string());
    ///     Ok(Map::from_iter([("id".to_owned(), json!(user.subject)), ("name".to_owned(), json!(name))]))
    /// })
    /// # }
    /// ```
    #[must_use]
    pub fn with_user_payload<F, Made>(&self, make: F) -> Http
    where
        F: Fn(UserToShow) -> Made + Send + Sync + 'static,
        Made: Future<Output = Result<Map<String, Value>, BoxError>> + Send + 'static,
    {
        Http(Arc::new(Shared { payload: Some(Payload::new(make)), ..self.0.as_ref().clone() }))
    }

    /// The one who judges.
    pub fn authority(&self) -> &Authority {
        &self.0.authority
    }

    /// Where the time is read.
    pub fn clock(&self) -> &dyn Clock {
        self.0.clock.as_ref()
    }

    /// What the operator chose.
    pub fn settings(&self) -> &HttpSettings {
        &self.0.settings
    }

    /// What an answer says of a user; `None` where nothing is known of them.
    ///
    /// # Errors
    /// 503 or 500, where the host's own function fails.
    pub(crate) async fn user(
        &self,
        subject: &SubjectId,
        account: Option<&Account>,
    ) -> Result<Option<Map<String, Value>>, Problem> {
        match &self.0.payload {
            None => Ok(account.map(|account| account.view(&self.settings().user_fields))),
            Some(payload) => {
                let user = UserToShow { subject: subject.clone(), account: account.cloned() };
                payload.of(user).await.map(Some)
            }
        }
    }

    /// Whether the store can answer and commit.
    pub(crate) async fn ready(&self) -> Result<(), Problem> {
        self.0.readiness.ask(self.authority(), self.clock()).await
    }

    /// Where a request with a body takes its place.
    pub(crate) fn places(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0.places)
    }

    /// The same, knowing that only these routes are there.
    pub(crate) fn with_selection(&self, selection: Selection) -> Http {
        let description = Arc::new(Description::of(selection));
        Http(Arc::new(Shared { description, ..self.0.as_ref().clone() }))
    }

    /// The routes that are there, and what is said of them.
    pub(crate) fn description(&self) -> &Description {
        &self.0.description
    }

    /// The one token that a request carries, if any. One in a cookie only where the request may come from our own page.
    ///
    /// # Errors
    /// 400 where there is more than one or it cannot be read; 403 `cross-site`.
    pub(crate) fn credential<'h>(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &'h HeaderMap,
    ) -> Result<Option<Credential<'h>>, Problem> {
        let HttpSettings { schemes, api_key_header, cookies, .. } = self.settings();
        let name = cookies.as_ref().map(Cookies::name);
        let found = credentials::find(headers, schemes, *api_key_header, name)?;
        if let (Some(Credential { place: Place::Cookie, .. }), Some(cookies)) = (found, cookies) {
            cookies.judge(method, uri, headers)?;
        }
        Ok(found)
    }

    /// Whether both ask the same authority about tokens in the same places, by the same rules.
    pub(crate) fn finds_the_same_as(&self, other: &Http) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (Arc::ptr_eq(&self.0.authority, &other.0.authority)
                && self.credential_places() == other.credential_places())
    }

    /// Where tokens are looked for, and whose word is taken for where a request comes from.
    fn credential_places(&self) -> (&[Scheme], bool, Option<&Cookies>, &[TrustedProxy]) {
        let HttpSettings { schemes, api_key_header, cookies, trusted_proxies, .. } = self.settings();
        (schemes, *api_key_header, cookies.as_ref(), trusted_proxies)
    }

    /// Counts what was found out about the token of a request, and holds one in a cookie to what its page has to show.
    ///
    /// # Errors
    /// Why the token is refused, or why nothing is known about it.
    pub(crate) fn judged(
        &self,
        judgement: Result<Identity, Error>,
        place: Place,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Identity, Problem> {
        self.0.checks.judged(&judgement);
        self.judged_again(judgement, place, method, headers)
    }

    /// The same of a request that has been counted.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn judged_again(
        &self,
        judgement: Result<Identity, Error>,
        place: Place,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Identity, Problem> {
        let who = judgement?;
        if let (Place::Cookie, Some(cookies)) = (place, &self.settings().cookies) {
            cookies.judge_csrf_token(method, headers, &who, self)?;
        }
        Ok(who)
    }

    /// Counts what was found out about a token, for whoever judges one in a way of their own.
    pub(crate) fn count_check(&self, judgement: &Result<Identity, Error>) {
        self.0.checks.judged(judgement);
    }

    pub(crate) fn new_request_id(&self) -> RequestId {
        self.0.request_ids.next()
    }
}
