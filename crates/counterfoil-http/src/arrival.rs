//! What is known of a request when it arrives, established once and handed down: [`Arrival`].

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::Extensions;
use axum::http::request::Parts;
use counterfoil_core::{Now, Source};

use crate::device::{self, Peer};
use crate::http::Http;
use crate::request_id::RequestId;

/// When a request came, from where, and what it is called.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The time by which everything about this request is judged. On a native route that takes a body it is read when the
    /// body is there: a head is sent long before it, and a token may die in between.
    pub now: Now,
    /// The device, as far as it can be believed.
    pub source: Source,
    /// Its name in answer and log.
    pub request_id: RequestId,
    /// Who established it: another deployment may believe other proxies.
    http: Http,
}

impl Arrival {
    pub(crate) fn of(parts: &Parts, http: &Http) -> Arrival {
        let trusted = &http.settings().trusted_proxies;
        let peer = Peer::of(&parts.extensions);
        let given = peer.filter(|peer| peer.is_trusted(trusted)).and_then(|_| RequestId::given(&parts.headers));
        Arrival {
            now: http.clock().now(),
            source: device::source(peer, &parts.headers, trusted),
            request_id: given.unwrap_or_else(|| http.new_request_id()),
            http: http.clone(),
        }
    }
}

impl Arrival {
    /// What is known of a request to somebody who goes by the same rules as `http`.
    pub(crate) fn known<'a>(extensions: &'a Extensions, http: &Http) -> Option<&'a Arrival> {
        extensions.get().filter(|arrival: &&Arrival| arrival.http.finds_the_same_as(http))
    }

    /// Forgets what time it was at the head; whoever is judged from here on is judged by the clock as it stands.
    pub(crate) fn is_complete(extensions: &mut Extensions, http: &Http) {
        if let Some(arrival) = extensions.get_mut::<Arrival>() {
            arrival.now = http.clock().now();
        }
    }
}

impl FromRequestParts<Http> for Arrival {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, http: &Http) -> Result<Self, Infallible> {
        // Without the layers around the routes, as a host may use an extractor, it is established here.
        let known = Arrival::known(&parts.extensions, http).cloned();
        Ok(known.unwrap_or_else(|| {
            let arrival = Arrival::of(parts, http);
            parts.extensions.insert(arrival.clone());
            arrival
        }))
    }
}
