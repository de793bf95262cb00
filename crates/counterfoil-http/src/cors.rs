//! Letting pages of other origins call the routes from a browser: [`share`].

use std::collections::BTreeSet;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use tower::{Layer, ServiceExt};
use tower_http::cors::CorsLayer;

use crate::credentials::X_API_KEY;
use crate::origin::Origin;
use crate::request_id::X_REQUEST_ID;
use crate::router::ROUTES;
use crate::settings::HttpSettings;

/// How long a browser may go by what it was told: soon enough that an origin taken off the list is off.
const MAX_AGE: Duration = Duration::from_secs(600);

/// What a page may read of an answer besides its body.
const READABLE: [HeaderName; 7] = [
    header::LOCATION,
    header::RETRY_AFTER,
    header::WWW_AUTHENTICATE,
    HeaderName::from_static("ratelimit"),
    HeaderName::from_static("ratelimit-policy"),
    X_REQUEST_ID,
    HeaderName::from_static("x-next-cursor"),
];

/// The origins that may, and what they are told.
#[derive(Debug, Clone)]
pub(crate) struct Sharing {
    origins: Vec<HeaderValue>,
    layer: CorsLayer,
}

impl Sharing {
    /// `None` where nobody may.
    pub(crate) fn with(settings: &HttpSettings) -> Option<Sharing> {
        let HttpSettings { cors_origins: origins, api_key_header, .. } = settings;
        if origins.is_empty() {
            return None;
        }
        let origins: Vec<HeaderValue> = origins.iter().filter_map(Origin::header_value).collect();
        let methods: BTreeSet<&str> = ROUTES.iter().map(|route| route.method.as_str()).collect();
        let methods: Vec<Method> = methods.into_iter().filter_map(|method| method.parse().ok()).collect();
        let sendable = [header::AUTHORIZATION, header::CONTENT_TYPE].into_iter();
        let sendable: Vec<HeaderName> = sendable.chain(api_key_header.then_some(X_API_KEY)).collect();
        // Without credentials: no cookie goes along, whatever the settings say of cookies. A token is a header that the page itself sets, and the browser adds nothing of its own.
        let layer = CorsLayer::new()
            .allow_origin(origins.clone())
            .allow_methods(methods)
            .allow_headers(sendable)
            .expose_headers(READABLE)
            .max_age(MAX_AGE);
        Some(Sharing { origins, layer })
    }

    fn allows(&self, request: &Request) -> bool {
        let mut named = request.headers().get_all(header::ORIGIN).iter();
        let (Some(origin), None) = (named.next(), named.next()) else { return false };
        self.origins.contains(origin)
    }
}

/// The layer that answers preflights of the origins on the list and lets their pages read answers. Everybody else is
/// answered as if there were none, but that the answer says what it would depend on.
pub(crate) async fn share(State(sharing): State<Sharing>, request: Request, next: Next) -> Response {
    if !sharing.allows(&request) {
        let mut response = next.run(request).await;
        response.headers_mut().append(header::VARY, HeaderValue::from_static("origin"));
        return response;
    }
    let Ok(response) = sharing.layer.layer(next).oneshot(request).await;
    response
}
