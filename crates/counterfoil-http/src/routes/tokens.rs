//! One's own signed-in devices.

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use counterfoil_core::authority::{self, List, PageRequest};
use counterfoil_core::{Identity, Kind, Timestamp, TokenId, TokenName};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::arrival::Arrival;
use crate::body::{self, NoBody, Query, present};
use crate::browser::kept;
use crate::caller::{Caller, Carried};
use crate::credentials::Place;
use crate::http::Http;
use crate::problem::{Problem, ProblemKind};
use crate::record::{NewToken, Page, Record, Shown};
use crate::rights::{TOKENS_READ, TOKENS_WRITE};

/// Which page of a list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageQuery {
    limit: Option<u32>,
    cursor: Option<String>,
}

/// How many a page shall have, of at most `most`.
pub(crate) fn limited(limit: Option<u32>, most: u32) -> Result<u32, Problem> {
    let limit = limit.unwrap_or(PageRequest::default().limit);
    if (1..=most).contains(&limit) {
        return Ok(limit);
    }
    let detail = format!("limit: a page has 1 to {most} records.");
    Err(Problem::new(ProblemKind::InvalidValue, detail).about("limit"))
}

/// One page of the caller's tokens of `kind`.
pub(crate) async fn page(caller: &Caller, kind: Kind, query: PageQuery) -> Result<Page, Problem> {
    let limit = limited(query.limit, PageRequest::MOST)?;
    let read = |text: &String| caller.authority().cursor(text, List::Own(kind), &caller.who);
    let after = query.cursor.as_ref().map(read).transpose()?;
    let page = PageRequest { after, limit };
    let found = caller.authority().tokens_of(&caller.who, kind, page, caller.arrival.now).await?;
    Ok(Page::of(found, kind, caller))
}

pub(crate) async fn list(caller: Caller, Query(query): Query<PageQuery>) -> Result<Json<Page>, Problem> {
    caller.may(&TOKENS_READ)?;
    Ok(Json(page(&caller, Kind::Login, query).await?))
}

/// A new name.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RenameBody {
    /// What the token shall be called, cut after 100 characters; null for no name.
    #[serde(deserialize_with = "present")]
    #[schema(required)]
    name: Option<String>,
}

impl RenameBody {
    pub(crate) fn name(&self) -> Option<TokenName> {
        self.name.as_deref().and_then(TokenName::cut)
    }
}

pub(crate) async fn rename(
    caller: Caller,
    Id(id): Id,
    body::Json(body): body::Json<RenameBody>,
) -> Result<Json<Record>, Problem> {
    caller.may(&TOKENS_WRITE)?;
    let now = caller.arrival.now;
    let token = caller.authority().rename(&caller.who, id, Kind::Login, body.name(), now).await?;
    Ok(Json(Record::of(token, &caller)))
}

pub(crate) async fn revoke(caller: Caller, Id(id): Id, _: NoBody) -> Result<StatusCode, Problem> {
    caller.may(&TOKENS_WRITE)?;
    let Arrival { source, now, .. } = &caller.arrival;
    caller.authority().revoke(&caller.who, id, Kind::Login, source, *now).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Which tokens a bulk deletion leaves.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeepQuery {
    keep: Option<Keep>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Keep {
    Current,
}

pub(crate) async fn revoke_others(
    caller: Caller,
    Query(query): Query<KeepQuery>,
    _: NoBody,
) -> Result<StatusCode, Problem> {
    caller.may(&TOKENS_WRITE)?;
    let Some(Keep::Current) = query.keep else {
        // Deleting the whole collection by a forgotten parameter is not something to guess.
        let hint = "Say ?keep=current to end all others, or POST /v1/logout-all to end this one too.";
        return Err(Problem::new(ProblemKind::InvalidRequest, hint).about("keep"));
    };
    caller.authority().logout_others(&caller.who, &caller.arrival.source, caller.arrival.now).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How long a token lives now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Renewed {
    /// The first instant at which it is dead; null: never by time.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    expires_at: Option<Timestamp>,
}

pub(crate) async fn renew(
    State(http): State<Http>,
    Carried { secret, place, counted }: Carried,
    arrival: Arrival,
    _: NoBody,
) -> Result<Shown<Renewed>, Problem> {
    let Arrival { source, now, .. } = &arrival;
    let renewed = http.authority().renew_counted(secret.expose(), source, *now, counted).await?;
    let authority::Renewed { expires_at, given_up } = renewed;
    // Another page of this browser rotated in the meantime: the new secret is in the cookie, and stays there.
    let cookie = if given_up { None } else { kept(&secret, place, expires_at, *now, &http) };
    Ok(Shown { cookie, body: Json(Renewed { expires_at }) })
}

/// Where the answer is not made after all, the secret from before is still good for the grace, and the client tries again.
pub(crate) async fn rotate(
    State(http): State<Http>,
    Carried { secret, place, counted }: Carried,
    arrival: Arrival,
    _: NoBody,
) -> Result<Shown, Problem> {
    let Arrival { source, now, .. } = &arrival;
    let (issued, account) = http.authority().rotate_counted(secret.expose(), source, *now, counted).await?;
    let who = Identity::from(&issued.token);
    let token = NewToken::of(issued, http.user(&who.subject, account.as_ref()).await?);
    Ok(match (place, &http.settings().cookies) {
        (Place::Cookie, Some(cookies)) => token.into_cookie(cookies, http.authority().csrf_token(&who), now.wall),
        (Place::Cookie | Place::Authorization | Place::ApiKeyHeader, _) => token.into(),
    })
}

/// The token that a path names.
pub(crate) struct Id(pub(crate) TokenId);

impl FromRequestParts<Http> for Id {
    type Rejection = Problem;

    /// A text that no token can have as its id, and every spelling of an id but the one we write, is a token that there is
    /// not.
    async fn from_request_parts(parts: &mut Parts, http: &Http) -> Result<Self, Problem> {
        let Path(text): Path<String> = Path::from_request_parts(parts, http).await.map_err(|_| Problem::not_found())?;
        let id: TokenId = text.parse().map_err(|_| Problem::not_found())?;
        if id.to_string() == text { Ok(Id(id)) } else { Err(Problem::not_found()) }
    }
}
