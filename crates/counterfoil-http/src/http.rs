//! What every handler shares: [`Http`].

use std::sync::Arc;

use counterfoil_core::{Authority, Clock};
use tokio::sync::Semaphore;

use crate::problem::Problem;
use crate::readiness::Readiness;
use crate::request_id::{RequestId, RequestIds};
use crate::settings::HttpSettings;

/// The authority with what it takes to speak HTTP for it. The state of the router; cheap to clone.
#[derive(Debug, Clone)]
pub struct Http(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    authority: Arc<Authority>,
    clock: Arc<dyn Clock>,
    settings: HttpSettings,
    request_ids: Arc<RequestIds>,
    readiness: Arc<Readiness>,
    places: Arc<Semaphore>,
}

/// Requests with a body that may be under way at once, those whose client has hung up included. More than there are
/// connections by default.
const MOST_UNDER_WAY: usize = 1_024;

impl Http {
    /// Speaks for `authority`, reading the time from `clock` when a request begins and when its body is there.
    pub fn new(authority: Arc<Authority>, clock: Arc<dyn Clock>, settings: HttpSettings) -> Http {
        let request_ids = Arc::new(RequestIds::new(settings.request_id_prefix.as_deref(), clock.now().wall));
        let places = Arc::new(Semaphore::new(MOST_UNDER_WAY));
        Http(Arc::new(Shared { authority, clock, settings, request_ids, readiness: Arc::default(), places }))
    }

    /// The same by other settings, for a server that is told anew what to go by: make its router, and let it take the
    /// requests from now on, while those under way finish with the old one. The ids of requests are counted on, and their
    /// prefix stays.
    #[must_use]
    pub fn with_settings(&self, settings: HttpSettings) -> Http {
        let Shared { authority, clock, request_ids, readiness, places, .. } = self.0.as_ref();
        let (authority, clock) = (Arc::clone(authority), Arc::clone(clock));
        let (request_ids, readiness) = (Arc::clone(request_ids), Arc::clone(readiness));
        let places = Arc::clone(places);
        Http(Arc::new(Shared { authority, clock, settings, request_ids, readiness, places }))
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

    /// Whether the store can answer and commit.
    pub(crate) async fn ready(&self) -> Result<(), Problem> {
        self.0.readiness.ask(self.authority(), self.clock()).await
    }

    /// Where a request with a body takes its place.
    pub(crate) fn places(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0.places)
    }

    pub(crate) fn new_request_id(&self) -> RequestId {
        self.0.request_ids.next()
    }
}
