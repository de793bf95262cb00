//! Everybody's tokens, as staff see and end them.

use std::net::IpAddr;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use counterfoil_core::authority::{Ending, Expiry, List, PageRequest, TokenOrder};
use counterfoil_core::store::{TokenFilter, TokenQuery};
use counterfoil_core::token::Metadata;
use counterfoil_core::{
    Abilities, ClientName, Error, Kind, Now, Refusal, Standing, SubjectId, SubjectState, Timestamp, Token, TokenId,
    TokenName, Username,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Made, made};
use crate::body::{self, NoBody, Query, parsed, said};
use crate::caller::Staff;
use crate::http::Http;
use crate::nested::NestedUnder;
use crate::problem::{Problem, ProblemKind};
use crate::record::{KindWord, NewToken, Seen};
use crate::routes::tokens::{Id, RenameBody, limited};

/// One token, as staff see it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StaffRecord {
    /// Its public name.
    #[schema(value_type = String, format = "uuid")]
    id: TokenId,
    /// A signed-in device or an API key.
    kind: KindWord,
    /// Whom it stands for.
    #[schema(value_type = String)]
    subject: SubjectId,
    /// What that user is called; null where the account is gone or the host's own.
    #[schema(value_type = Option<String>, required)]
    username: Option<Username>,
    /// The client it was issued on.
    #[schema(value_type = String)]
    client: ClientName,
    /// What its owner calls it.
    #[schema(value_type = Option<String>, required)]
    name: Option<TokenName>,
    /// What it may do.
    #[schema(value_type = Vec<String>)]
    abilities: Abilities,
    /// The host's own facts about it.
    #[schema(value_type = Object)]
    metadata: Metadata,
    /// What becomes of it when it is presented.
    state: StateWord,
    /// When it was issued.
    #[schema(value_type = String, format = DateTime)]
    issued_at: Timestamp,
    /// The first instant at which it is dead; null: never by time.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    expires_at: Option<Timestamp>,
    /// When it was revoked by itself.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    revoked_at: Option<Timestamp>,
    /// Where it was issued.
    first_seen: Seen,
    /// Where it was last used, up to a minute ago.
    #[schema(required)]
    last_seen: Option<Seen>,
}

/// Whether it is accepted, and why not.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum StateWord {
    Live,
    /// Its user is disabled.
    Suspended,
    Expired,
    Revoked,
}

impl StaffRecord {
    pub(super) fn of(token: Token, username: Option<Username>, now: Now) -> StaffRecord {
        let state = match (token.standing(now.wall), token.subject_state) {
            (Standing::Revoked, _) | (_, SubjectState::Buried) => StateWord::Revoked,
            (Standing::Expired, _) => StateWord::Expired,
            (Standing::Live, SubjectState::Disabled) => StateWord::Suspended,
            (Standing::Live, SubjectState::Active) => StateWord::Live,
        };
        StaffRecord {
            id: token.id,
            kind: token.kind.into(),
            subject: token.subject,
            username,
            client: token.client,
            name: token.name,
            abilities: token.abilities,
            metadata: token.metadata,
            state,
            issued_at: token.issued_at,
            expires_at: token.expires_at,
            revoked_at: token.revoked_at,
            first_seen: token.first_seen.into(),
            last_seen: token.last_seen.map(Seen::from),
        }
    }
}

/// Some tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StaffPage {
    /// The tokens, oldest first.
    items: Vec<StaffRecord>,
    /// What to send as `cursor` for the next page; null at the end.
    #[schema(required)]
    next: Option<String>,
}

/// Which tokens.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokensQuery {
    user: Option<SubjectId>,
    client: Option<String>,
    kind: Option<Kind>,
    #[serde(default)]
    live: bool,
    issued_before: Option<Timestamp>,
    used_before: Option<Timestamp>,
    ip: Option<IpAddr>,
    limit: Option<u32>,
    cursor: Option<String>,
}

pub(crate) async fn list(staff: Staff, Query(query): Query<TokensQuery>) -> Result<Json<StaffPage>, Problem> {
    let limit = limited(query.limit, PageRequest::MOST)?;
    let after = staff.place(query.cursor.as_ref(), List::Tokens)?;
    let TokensQuery { user, client, kind, live, issued_before, used_before, ip, .. } = query;
    let client = client.as_deref().map(|text| parsed("client", text)).transpose()?;
    let filter = TokenFilter { subject: user, client, kind, issued_before, used_before, ip };
    let now = staff.now();
    let query = TokenQuery { filter, live_at: live.then_some(now.wall), ..TokenQuery::default() };
    let page = staff.authority().list(query, PageRequest { after, limit }).await?;
    let names = staff.names_of(page.items.iter().map(|token| &token.subject)).await?;
    let record = |token: Token| {
        let name = names.get(&token.subject).cloned().flatten();
        StaffRecord::of(token, name, now)
    };
    Ok(Json(StaffPage {
        next: staff.next(page.next, List::Tokens),
        items: page.items.into_iter().map(record).collect(),
    }))
}

/// A token to be issued for a user, without their password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IssueBody {
    /// The id of the user that it shall stand for.
    #[schema(value_type = String)]
    user: SubjectId,
    /// The name of the client; `default` if it is left out.
    client: Option<String>,
    /// `login` if it is left out, or `key`.
    #[schema(value_type = Option<KindWord>)]
    kind: Option<Kind>,
    /// What it shall be called; cut after 100 characters.
    name: Option<String>,
    /// What it may do; `["*"]` if it is left out. What is reserved is an administrator's to give.
    #[schema(value_type = Option<Vec<String>>, example = json!(["files:read"]))]
    abilities: Option<Abilities>,
    /// The first instant at which it is dead, in RFC 3339; null: never by time. If it is left out, a login token lives as
    /// its client's policy says, and an API key until it is revoked.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Option<Timestamp>>,
}

pub(crate) async fn issue(
    State(http): State<Http>,
    staff: Staff,
    prefix: NestedUnder,
    body::Json(body): body::Json<IssueBody>,
) -> Result<Made<NewToken>, Problem> {
    let kind = body.kind.unwrap_or(Kind::Login);
    let expiry = match (body.expires_at, kind) {
        (Some(Some(end)), _) => Expiry::At(end),
        (None, Kind::Login) => Expiry::ByPolicy,
        (Some(None), _) | (None, Kind::Key) => Expiry::Never,
    };
    // Nobody's token is made by a slip of the pen: it would be somebody's who may come one day.
    let account = staff.authority().account(&body.user).await?;
    let user = http.user(&account.subject, Some(&account)).await?;
    let order = TokenOrder {
        kind,
        subject: body.user,
        client: body.client.as_deref().map(|text| parsed("client", text)).transpose()?,
        name: body.name.as_deref().and_then(TokenName::cut),
        abilities: body.abilities.unwrap_or_else(Abilities::everything),
        metadata: Metadata::default(),
        expiry,
    };
    match staff.authority().issue(order, &staff.by, staff.now()).await {
        Ok(issued) => {
            let token = NewToken::of(issued, user);
            Ok(made(&prefix, "/v1/admin/tokens", token.id(), token))
        }
        // Not the refusal of the token that asks, which a client would throw away then.
        Err(Error::Refused(Refusal::SubjectInactive)) => {
            Err(Problem::new(ProblemKind::Conflict, "The user is disabled or deleted.").about("user"))
        }
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn show(staff: Staff, Id(id): Id) -> Result<Json<StaffRecord>, Problem> {
    let token = staff.authority().token(id).await?;
    let name = staff.name_of(&token.subject).await?;
    Ok(Json(StaffRecord::of(token, name, staff.now())))
}

pub(crate) async fn rename(
    staff: Staff,
    Id(id): Id,
    body::Json(body): body::Json<RenameBody>,
) -> Result<Json<StaffRecord>, Problem> {
    let token = staff.authority().rename_any(id, body.name(), &staff.by, staff.now()).await?;
    let name = staff.name_of(&token.subject).await?;
    Ok(Json(StaffRecord::of(token, name, staff.now())))
}

pub(crate) async fn revoke(staff: Staff, Id(id): Id, _: NoBody) -> Result<StatusCode, Problem> {
    staff.authority().revoke_any(id, &staff.by, staff.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Which tokens to end: those that fit all of it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RevokeBody {
    /// The id of the user; without one an administrator has to ask.
    #[schema(value_type = Option<String>)]
    user: Option<SubjectId>,
    /// The name of the client.
    client: Option<String>,
    /// Signed-in devices or API keys alone.
    #[schema(value_type = Option<KindWord>)]
    kind: Option<Kind>,
    /// Issued before this instant.
    #[schema(value_type = Option<String>, format = DateTime)]
    issued_before: Option<Timestamp>,
    /// Last used before this instant, or issued before it and never used.
    #[schema(value_type = Option<String>, format = DateTime)]
    used_before: Option<Timestamp>,
    /// First or last seen at this address.
    #[schema(value_type = Option<String>)]
    ip: Option<IpAddr>,
    /// Whether to count them only. Has to be said: look first.
    dry_run: bool,
}

/// How many tokens fit a filter.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Revoked {
    /// How many live ones would end, for `dry_run`.
    #[serde(skip_serializing_if = "Option::is_none")]
    matched: Option<u64>,
    /// How many have ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<u64>,
}

pub(crate) async fn revoke_matching(
    staff: Staff,
    body::Json(body): body::Json<RevokeBody>,
) -> Result<Json<Revoked>, Problem> {
    let RevokeBody { user, client, kind, issued_before, used_before, ip, dry_run } = body;
    let client = client.as_deref().map(|text| parsed("client", text)).transpose()?;
    let filter = TokenFilter { subject: user, client, kind, issued_before, used_before, ip };
    if filter == TokenFilter::default() {
        let hint = "Name at least one property. DELETE /v1/admin/tokens?all=true ends the tokens of everybody.";
        return Err(Problem::new(ProblemKind::InvalidRequest, hint));
    }
    let (authority, now) = (staff.authority(), staff.now());
    let (matched, revoked) = if dry_run {
        (Some(authority.count_matching(&filter, &staff.by, now).await?), None)
    } else {
        (None, Some(authority.revoke_matching(&filter, &staff.by, now).await?))
    };
    Ok(Json(Revoked { matched, revoked }))
}

/// That all are meant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AllQuery {
    #[serde(default)]
    all: bool,
}

pub(crate) async fn revoke_all(staff: Staff, Query(query): Query<AllQuery>, _: NoBody) -> Result<StatusCode, Problem> {
    if !query.all {
        let hint = "Say ?all=true to end the tokens of everybody; POST /v1/admin/tokens/revoke ends those of a filter.";
        return Err(Problem::new(ProblemKind::InvalidRequest, hint).about("all"));
    }
    staff.authority().end(Ending::Everybody, &staff.by, staff.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}
