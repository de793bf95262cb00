//! Links that staff have mailed, to one user or to many.

use std::collections::BTreeSet;

use axum::Json;
use counterfoil_core::{Authority, By, Error, Now, Refusal, SubjectId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::body;
use crate::caller::Staff;
use crate::exchange;
use crate::problem::Problem;

/// Whom to mail.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UsersBody {
    /// The ids of 1 to 100 users, each once.
    #[schema(min_items = 1, max_items = 100)]
    ids: Vec<String>,
}

/// What became of each, in the order in which they were named.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Mailed {
    /// One for each id.
    items: Vec<MailedUser>,
}

/// What became of one.
#[derive(Debug, Serialize, ToSchema)]
struct MailedUser {
    /// As it was sent.
    id: String,
    /// Whether a mail is on its way.
    sent: bool,
    /// Why none is.
    #[schema(required)]
    problem: Option<WhyNot>,
}

/// A problem as docs/problems.md has it, in short.
#[derive(Debug, Serialize, ToSchema)]
struct WhyNot {
    /// Which kind of problem.
    #[serde(rename = "type")]
    kind: String,
    /// The kind in a few words.
    title: &'static str,
    /// What to do about it, for people.
    detail: String,
}

pub(crate) async fn reset(staff: Staff, body::Json(body): body::Json<UsersBody>) -> Result<Json<Mailed>, Problem> {
    each(staff, body, async |authority, id, by, now| authority.start_reset(id, by, now).await).await
}

pub(crate) async fn confirm(staff: Staff, body::Json(body): body::Json<UsersBody>) -> Result<Json<Mailed>, Problem> {
    each(staff, body, async |authority, id, by, now| authority.send_confirmation(id, by, now).await).await
}

/// Does it for one after the other, and goes on past those with whom it fails.
async fn each(
    staff: Staff,
    UsersBody { ids }: UsersBody,
    mail: impl AsyncFn(&Authority, &SubjectId, &By, Now) -> Result<(), Error>,
) -> Result<Json<Mailed>, Problem> {
    const MOST: usize = 100;
    let different: BTreeSet<&String> = ids.iter().collect();
    if !(1..=MOST).contains(&ids.len()) || different.len() < ids.len() {
        return Err(Refusal::invalid("ids", format!("are 1 to {MOST}, each once")).into());
    }
    let mut items = Vec::with_capacity(ids.len());
    for id in ids {
        let mailed = match id.parse() {
            Ok(subject) => mail(staff.authority(), &subject, &staff.by, staff.now()).await.map_err(Problem::from),
            Err(_) => Err(Problem::not_found()),
        };
        let problem = mailed.err();
        if let Some(cause) = problem.as_ref().and_then(Problem::cause) {
            tracing::error!(error = exchange::chain(cause), "no mail could be asked for");
        }
        items.push(MailedUser { id, sent: problem.is_none(), problem: problem.map(WhyNot::from) });
    }
    Ok(Json(Mailed { items }))
}

impl From<Problem> for WhyNot {
    fn from(problem: Problem) -> WhyNot {
        let kind = problem.kind();
        WhyNot { kind: kind.type_uri(), title: kind.title(), detail: problem.into_detail() }
    }
}
