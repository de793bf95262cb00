//! All that is kept about one user.

use axum::Json;
use counterfoil_core::authority::{Cursor, List, UserExport};
use serde::Serialize;
use utoipa::ToSchema;

use super::UserId;
use super::audit::AuditEntry;
use super::tokens::StaffRecord;
use super::users::User;
use crate::caller::{Caller, Staff};
use crate::problem::Problem;

/// What is kept about one user, but for what their password hashes to and what they did to others.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Export {
    /// The account.
    user: User,
    /// Its tokens and API keys, dead ones that have not been purged included; oldest first, at most 10,000.
    tokens: Vec<StaffRecord>,
    /// What to send as `cursor` with `user` and `live=false` to `GET /v1/admin/tokens` for the rest; null where this is all.
    #[schema(required)]
    tokens_next: Option<String>,
    /// What the audit log says of it, newest first; at most 10,000 entries.
    audit: Vec<AuditEntry>,
    /// What to send as `cursor` with `subject` to `GET /v1/admin/audit` for the rest; null where this is all.
    #[schema(required)]
    audit_next: Option<String>,
}

impl Export {
    /// What `caller` gets to read.
    pub(crate) fn of(export: UserExport, caller: &Caller) -> Export {
        let UserExport { account, tries, tokens, more_tokens, entries, more_entries } = export;
        let record = |token| StaffRecord::of(token, Some(account.username.clone()), caller.arrival.now);
        let text = |place: Cursor, list| caller.authority().cursor_text(&place, list, &caller.who);
        let last = tokens.last().filter(|_| more_tokens);
        Export {
            tokens_next: last.map(|last| text(Cursor::after(last.number), List::Tokens)),
            tokens: tokens.into_iter().map(record).collect(),
            audit: entries.into_iter().map(AuditEntry::from).collect(),
            audit_next: more_entries.map(|number| text(Cursor::after(number), List::Audit)),
            user: User::with_tries(account, tries),
        }
    }
}

pub(crate) async fn show(staff: Staff, UserId(id): UserId) -> Result<Json<Export>, Problem> {
    let export = staff.authority().export_user(&id, &staff.by, staff.now()).await?;
    Ok(Json(Export::of(export, &staff.caller)))
}
