//! A package's manners for a host's own views: [`HostView`].

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::MethodRouter;
use counterfoil_core::ClientName;

use super::drf::answer::{self, Answer};
use super::drf::django;
use super::drf::json::{self, Value};
use super::drf::negotiation::Form;
use super::drf::view::{Permission, Throttle, View};
use super::serving::{Admitted, Mounted, Turned, in_words, line, no_answer};
use crate::arrival::Arrival;
use crate::authenticated::{Verdict, Who};
use crate::credentials::Place;
use crate::drain::Drained;
use crate::exchange;
use crate::problem::{Problem, ProblemKind};

/// A view of a host's own that answers 401, 403, 405, 406, 429, OPTIONS and HEAD as the package does, and says `Allow` and
/// `Vary`. Made by [`Mounted::view`].
///
/// What is asked for is judged before the handler is called; it takes [`Authenticated`](crate::Authenticated). Whoever has no
/// live token is refused, unless the view is [open](HostView::open). JSON that the handler answers with is indented, or shown on
/// a page, where the request wants that.
#[derive(Debug, Clone)]
pub struct HostView {
    mounted: Mounted,
    view: View,
}

/// Largest answer of a host that is put into another form, in bytes. A larger one is given as it is.
const MOST_REFORMED: u64 = 1024 * 1024;

impl HostView {
    pub(super) fn new(mounted: &Mounted, name: String, methods: &[Method]) -> HostView {
        let view = mounted.mount().dialect.package.host_view.clone();
        let view = View { name: name.into(), methods: methods.to_vec(), ..view };
        HostView { mounted: mounted.clone(), view }
    }

    /// Lets in whoever presents nothing. A token that is not valid is refused all the same.
    #[must_use]
    pub fn open(mut self) -> HostView {
        self.view.permission = Permission::Anyone;
        self
    }

    /// Lets in tokens of these clients alone; others get 403.
    #[must_use]
    pub fn only_clients(mut self, clients: impl IntoIterator<Item = ClientName>) -> HostView {
        self.view.permission = Permission::Clients(clients.into_iter().collect());
        self
    }

    /// Lets in tokens of other clients than these, which get 403.
    #[must_use]
    pub fn except_clients(mut self, clients: impl IntoIterator<Item = ClientName>) -> HostView {
        self.view.permission = Permission::OtherClients(clients.into_iter().collect());
        self
    }

    /// Counts each request against the rate of the token's client, together with all other views that do.
    #[must_use]
    pub fn throttled(mut self) -> HostView {
        self.view.throttle = Some(Throttle { fallback: self.view.default_rate });
        self
    }

    /// What OPTIONS and the page tell about the view.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> HostView {
        self.view.description = description.into().into();
        self
    }

    /// These handlers, within the package's manners.
    pub fn around<S: Clone + Send + Sync + 'static>(
        self,
        handlers: MethodRouter<S, Infallible>,
    ) -> MethodRouter<S, Infallible> {
        handlers.layer(middleware::from_fn_with_state(Arc::new(self), HostView::serve))
    }

    async fn serve(State(host): State<Arc<HostView>>, request: Request, next: Next) -> Response {
        let HostView { mounted, view } = host.as_ref();
        let http = &mounted.mount().http;
        let (mut parts, body) = request.into_parts();
        let asked = line(&parts.method, &parts.uri);
        let body = match Arrival::known(&parts.extensions, http) {
            Some(_) => body,
            // Nobody around us drains what is refused unread.
            None => Body::new(Drained::new(body, exchange::waits_for_continue(&parts.headers))),
        };
        let Admitted { form, who, .. } = match mounted.admit(view, &mut parts).await {
            Ok(admitted) => admitted,
            Err(Turned { form, answer }) => return answer.render(view, form, &asked),
        };
        if let Some(Arrival { now, source, .. }) = Arrival::known(&parts.extensions, http).cloned() {
            let who = who.map_or(Who::Nobody, |who| Who::Known(who, Place::Authorization));
            parts.extensions.insert(Verdict { who, now, source, http: http.clone() });
        }
        let mut response = next.run(Request::from_parts(parts, body)).await;
        if let Some(problem) = exchange::problem_of(&mut response) {
            return in_words(&problem).render(view, form, &asked);
        }
        // What is not the framework's to render has no page of it.
        let form = if is_rendered(&response) { form } else { Form::Json { indent: None } };
        let mut response = host.reformed(response, form, &asked).await;
        answer::describe(response.headers_mut(), view, form);
        django::finish(response, Vec::new())
    }

    /// JSON in the form that is wanted.
    async fn reformed(&self, response: Response, form: Form, asked: &str) -> Response {
        let is_empty = response.body().is_end_stream();
        let bounded = response.body().size_hint().upper().is_some_and(|most| most <= MOST_REFORMED);
        let as_it_is = match form {
            Form::Json { indent: None } => true,
            Form::Json { indent: Some(_) } => is_empty,
            Form::Page => false,
        };
        if as_it_is || !bounded {
            return response;
        }
        let (mut parts, body) = response.into_parts();
        let Ok(bytes) = axum::body::to_bytes(body, usize::MAX).await else {
            let problem = Problem::new(ProblemKind::Internal, "The answer broke off before its end.");
            return no_answer(&problem).render(&self.view, form, asked);
        };
        let read: Option<Value> = std::str::from_utf8(&bytes).ok().and_then(|text| json::read(text).ok());
        let answer = match read {
            Some(value) => Answer::data(parts.status, value),
            None if is_empty => Answer::nothing(parts.status),
            None => return Response::from_parts(parts, Body::from(bytes)),
        };
        let rendered = answer.render(&self.view, form, asked);
        let (rendered_parts, body) = rendered.into_parts();
        parts.status = rendered_parts.status;
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.extend(rendered_parts.headers);
        Response::from_parts(parts, body)
    }
}

/// Whether an answer of a host's is data, or none, which the framework renders; else it is the host's own page or file.
fn is_rendered(response: &Response) -> bool {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    response.headers().get(header::CONTENT_TYPE) == Some(&JSON) || response.body().is_end_stream()
}
