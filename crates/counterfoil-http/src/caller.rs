//! Who is asking: the extractors [`Presented`] and [`Caller`].

use axum::extract::FromRequestParts;
use axum::http::Method;
use axum::http::request::Parts;
use counterfoil_core::throttle::RouteClass;
use counterfoil_core::{Ability, Authority, By, Identity, Now, SecretToken, TokenId};

use crate::arrival::Arrival;
use crate::authenticated::{self, Verdict, Who};
use crate::credentials::{Credential, Place};
use crate::http::Http;
use crate::problem::Problem;
use crate::rights::{ADMIN_READ, ADMIN_WRITE};

/// A token is presented; nothing is said yet about whether it is live. For what hands the text itself to the authority.
#[derive(Debug)]
pub struct Presented(pub SecretToken);

impl FromRequestParts<Http> for Presented {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, http: &Http) -> Result<Self, Problem> {
        Ok(Presented(SecretToken::from_text(carried(parts, http)?.text)))
    }
}

/// The same for a native route, with where it was.
pub(crate) struct Carried {
    pub(crate) secret: SecretToken,
    pub(crate) place: Place,
    /// The token that the request has been counted against already.
    pub(crate) counted: Option<TokenId>,
}

impl FromRequestParts<Http> for Carried {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, http: &Http) -> Result<Self, Problem> {
        let Credential { text, place } = carried(parts, http)?;
        let secret = SecretToken::from_text(text);
        let wants_more = http.settings().cookies.as_ref().is_some_and(|cookies| cookies.asks_more_of(&parts.headers));
        if place == Place::Cookie && wants_more && !matches!(parts.method, Method::GET | Method::HEAD) {
            // Whose session it is has to be known first.
            let Ok(arrival) = Arrival::from_request_parts(parts, http).await;
            let (who, place) = judge(parts, &arrival, http).await?;
            return Ok(Carried { secret, place, counted: Some(who.id) });
        }
        if let Some(Verdict { who: Who::Refused(problem), .. }) = Verdict::of(&parts.extensions, http) {
            return Err(problem.as_ref().clone());
        }
        Ok(Carried { secret, place, counted: authenticated::counted(&parts.extensions, http) })
    }
}

/// The one token that a request has to carry.
fn carried<'p>(parts: &'p Parts, http: &Http) -> Result<Credential<'p>, Problem> {
    http.credential(&parts.method, &parts.uri, &parts.headers)?.ok_or_else(Problem::token_missing)
}

/// Who presents the token that a request has to carry.
async fn judge(parts: &Parts, arrival: &Arrival, http: &Http) -> Result<(Identity, Place), Problem> {
    match Verdict::of(&parts.extensions, http) {
        // A layer around these routes has judged it, and no body was waited for since.
        Some(verdict) => match &verdict.who {
            Who::Nobody => Err(Problem::token_missing()),
            Who::Refused(problem) => Err(problem.as_ref().clone()),
            Who::Known(who, place) => Ok((who.clone(), *place)),
        },
        None => {
            let Credential { text, place } = carried(parts, http)?;
            let counted = authenticated::counted(&parts.extensions, http);
            let Arrival { source, now, .. } = arrival;
            let judgement = http.authority().authenticate_counted(text, source, *now, counted).await;
            let who = match counted {
                Some(_) => http.judged_again(judgement, place, &parts.method, &parts.headers)?,
                None => http.judged(judgement, place, &parts.method, &parts.headers)?,
            };
            Ok((who, place))
        }
    }
}

/// The live token that a request carries, and how to go on with it.
///
/// It is judged when it is extracted. On the native routes the body is there by then; a host's handler that reads a body
/// after it acts for a token that may have died while the body was sent.
#[derive(Debug)]
pub struct Caller {
    /// The token.
    pub who: Identity,
    /// When and from where it is used.
    pub arrival: Arrival,
    place: Place,
    http: Http,
}

impl Caller {
    /// The one who judges.
    pub fn authority(&self) -> &Authority {
        self.http.authority()
    }

    /// Where in the request it was.
    pub fn place(&self) -> Place {
        self.place
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
        let Ok(arrival) = Arrival::from_request_parts(parts, http).await;
        let (who, place) = judge(parts, &arrival, http).await?;
        if parts.extensions.get::<Counted>().is_some() {
            http.authority().count_request(RouteClass::Api, Some(&who), &arrival.source, arrival.now).await?;
        }
        Ok(Caller { who, arrival, place, http: http.clone() })
    }
}

/// Left with a request to a native route that counts as one of [`RouteClass::Api`]. A host's own routes have no such limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted;

/// Staff or an administrator, who may do what the route does: read with GET, change with anything else.
#[derive(Debug)]
pub(crate) struct Staff {
    /// Who asks.
    pub(crate) caller: Caller,
    /// By whose order.
    pub(crate) by: By,
}

impl Staff {
    pub(crate) fn authority(&self) -> &Authority {
        self.caller.authority()
    }

    pub(crate) fn now(&self) -> Now {
        self.caller.arrival.now
    }
}

impl FromRequestParts<Http> for Staff {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, http: &Http) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, http).await?;
        let reads = parts.method == Method::GET || parts.method == Method::HEAD;
        let wanted: &Ability = if reads { &ADMIN_READ } else { &ADMIN_WRITE };
        let Arrival { source, now, .. } = &caller.arrival;
        let by = caller.authority().staff(&caller.who, wanted, source, *now).await?;
        Ok(Staff { caller, by })
    }
}
