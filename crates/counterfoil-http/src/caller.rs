//! Who is asking: the extractors [`Presented`] and [`Caller`].

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use counterfoil_core::{Ability, Authenticated, Authority, SecretToken};

use crate::arrival::Arrival;
use crate::credentials;
use crate::http::Http;
use crate::meter;
use crate::problem::Problem;

/// A token is presented; nothing is said yet about whether it is live. For what hands the text itself to the authority.
#[derive(Debug)]
pub struct Presented(pub SecretToken);

impl FromRequestParts<Http> for Presented {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Http) -> Result<Self, Problem> {
        Ok(Presented(credentials::presented(&parts.headers)?))
    }
}

/// The live token that a request carries, and how to go on with it.
///
/// It is judged when it is extracted. On the native routes the body is there by then; a host's handler that reads a body
/// after it acts for a token that may have died while the body was sent.
#[derive(Debug)]
pub struct Caller {
    /// The token.
    pub who: Authenticated,
    /// When and from where it is used.
    pub arrival: Arrival,
    http: Http,
}

impl Caller {
    /// The one who judges.
    pub fn authority(&self) -> &Authority {
        self.http.authority()
    }

    /// Goes on if the token may do `wanted`.
    ///
    /// # Errors
    /// 403 `insufficient-ability`.
    pub fn may(&self, wanted: &Ability) -> Result<(), Problem> {
        let Arrival { source, now, .. } = &self.arrival;
        Ok(self.authority().require(&self.who, wanted, source, *now)?)
    }
}

impl FromRequestParts<Http> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, http: &Http) -> Result<Self, Problem> {
        let Presented(secret) = Presented::from_request_parts(parts, http).await?;
        let Ok(arrival) = Arrival::from_request_parts(parts, http).await;
        let judgement = http.authority().authenticate(secret.expose(), &arrival.source, arrival.now).await;
        meter::judged(&judgement);
        Ok(Caller { who: judgement?, arrival, http: http.clone() })
    }
}
