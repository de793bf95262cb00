//! The audit log, page by page.

use std::net::IpAddr;

use axum::Json;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use counterfoil_core::audit::table;
use counterfoil_core::authority::{Cursor, List};
use counterfoil_core::store::{AuditQuery, NumberedEntry};
use counterfoil_core::{Actor, ClientName, SubjectId, Timestamp, TokenId, UserAgent};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::body::{Query, parsed};
use crate::caller::Staff;
use crate::parameter::MOST_ENTRIES;
use crate::problem::Problem;
use crate::record::KindWord;
use crate::routes::tokens::limited;

/// One thing that happened. What strangers wrote is in `username` and `user_agent`: encode it wherever it is shown.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditEntry {
    /// Its place in the log: grows, and is never given out twice.
    id: u64,
    /// When; of several that are one entry, the first.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// What happened, in one word.
    event: String,
    /// Who did it: `stranger`, `holder` of a token, `operator` or `deployment`, which is the server itself.
    actor: &'static str,
    /// The user whose token did it.
    #[schema(value_type = Option<String>, required)]
    by: Option<SubjectId>,
    /// The token that did it.
    #[schema(value_type = Option<String>, format = "uuid", required)]
    by_token: Option<TokenId>,
    /// The user that it concerns.
    #[schema(value_type = Option<String>, required)]
    subject: Option<SubjectId>,
    /// The client that it concerns.
    #[schema(value_type = Option<String>, required)]
    client: Option<ClientName>,
    /// The token that it concerns.
    #[schema(value_type = Option<String>, format = "uuid", required)]
    token: Option<TokenId>,
    /// The kind of that token.
    #[schema(required)]
    kind: Option<KindWord>,
    /// What somebody typed as a name.
    #[schema(required)]
    username: Option<String>,
    /// Why, or how much, in a few words.
    #[schema(required)]
    detail: Option<String>,
    /// From which address; forgotten after a while.
    #[schema(value_type = Option<String>, required)]
    ip: Option<IpAddr>,
    /// What the client program called itself; forgotten after a while.
    #[schema(value_type = Option<String>, required)]
    user_agent: Option<UserAgent>,
    /// How often the very same happened.
    times: u32,
}

impl From<NumberedEntry> for AuditEntry {
    fn from(NumberedEntry { number, entry }: NumberedEntry) -> AuditEntry {
        let actor = entry.actor.as_str();
        let (by, by_token) = match entry.actor {
            Actor::Holder { subject, token } => (Some(subject), Some(token)),
            Actor::Stranger | Actor::Operator | Actor::Deployment => (None, None),
        };
        AuditEntry {
            id: number,
            at: entry.at,
            event: entry.event.into_owned(),
            actor,
            by,
            by_token,
            subject: entry.subject,
            client: entry.client,
            token: entry.token,
            kind: entry.kind.map(KindWord::from),
            username: entry.username,
            detail: entry.detail,
            ip: entry.source.ip,
            user_agent: entry.source.user_agent,
            times: entry.times,
        }
    }
}

/// Some entries.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditEntries {
    /// The entries, newest first.
    items: Vec<AuditEntry>,
    /// What to send as `cursor` for the next page; null at the end.
    #[schema(required)]
    next: Option<String>,
}

/// Which entries, and how.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditParameters {
    event: Option<String>,
    subject: Option<SubjectId>,
    by: Option<SubjectId>,
    client: Option<String>,
    token: Option<TokenId>,
    ip: Option<IpAddr>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    limit: Option<u32>,
    cursor: Option<String>,
    #[serde(default)]
    format: Format,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Json,
    Csv,
}

/// Where a table goes on: a spreadsheet has no place for it.
const X_NEXT_CURSOR: HeaderName = HeaderName::from_static("x-next-cursor");

pub(crate) async fn list(staff: Staff, Query(asked): Query<AuditParameters>) -> Result<Response, Problem> {
    let limit = limited(asked.limit, MOST_ENTRIES)?;
    let before: Option<Cursor> = staff.place(asked.cursor.as_ref(), List::Audit)?;
    let query = AuditQuery {
        event: asked.event,
        subject: asked.subject,
        by: asked.by,
        client: asked.client.as_deref().map(|text| parsed("client", text)).transpose()?,
        token: asked.token,
        ip: asked.ip,
        since: asked.since,
        until: asked.until,
        before: before.map(Cursor::number),
        limit,
    };
    let page = staff.authority().audit(&query, staff.now()).await?;
    let next = staff.next(page.next.map(Cursor::after), List::Audit);
    Ok(match asked.format {
        Format::Json => {
            Json(AuditEntries { items: page.entries.into_iter().map(AuditEntry::from).collect(), next }).into_response()
        }
        Format::Csv => csv(&page.entries, next),
    })
}

fn csv(entries: &[NumberedEntry], next: Option<String>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8; header=present"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"audit.csv\""),
    ];
    let mut response = (headers, table(entries)).into_response();
    if let Some(next) = next.and_then(|text| HeaderValue::try_from(text).ok()) {
        response.headers_mut().insert(X_NEXT_CURSOR, next);
    }
    response
}
