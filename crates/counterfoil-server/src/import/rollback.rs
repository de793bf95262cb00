//! What a return to Django would lose: [`write()`].
//!
//! Django's database is only read, so a return is to let it serve again. What has happened here since is not in it.

use std::collections::HashSet;
use std::io::{BufWriter, Write};
use std::path::Path;

use counterfoil::import::{Brought, Importer, SourceKey};
use counterfoil::{AccountQuery, AuditQuery, PageRequest, Standing, SubjectId, TokenFilter, TokenId, TokenQuery};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::office::Office;
use crate::private_file;

/// Writes one line of JSON for each thing that a return would lose, and returns how many there are.
pub(super) async fn write(office: &Office, path: &Path) -> Result<u64, Failure> {
    let failed = |error| Failure::caused_by(format!("cannot write {}", path.display()), &error);
    let mut file = BufWriter::new(private_file::create(path).map_err(failed)?);
    let mut lines = 0;
    let mut line = |value: Value| {
        lines += 1;
        writeln!(file, "{value}").map_err(failed)
    };
    let (brought_users, brought_tokens) = ended_here(office, office.importer()?, &mut line).await?;
    users_made_here(office, &brought_users, &mut line).await?;
    tokens_issued_here(office, &brought_tokens, &mut line).await?;
    passwords_set_here(office, &mut line).await?;
    file.flush().map_err(failed)?;
    Ok(lines)
}

type Line<'a> = &'a mut dyn FnMut(Value) -> Result<(), Failure>;

/// Tokens that came and were ended here live again there. Returns what came.
async fn ended_here(
    office: &Office,
    importer: &Importer,
    line: Line<'_>,
) -> Result<(HashSet<SubjectId>, HashSet<TokenId>), Failure> {
    let (mut users, mut tokens) = (HashSet::new(), HashSet::new());
    let mut after: Option<SourceKey> = None;
    loop {
        let page = importer.ledger(after, 1_000).await?;
        let Some(last) = page.last() else { return Ok((users, tokens)) };
        after = Some(last.key);
        for row in page {
            match row.brought {
                Brought::Account(subject) => {
                    if office.account(&subject).await?.is_none() {
                        line(json!({ "lost": "a user was deleted here and is there again", "user": subject }))?;
                    }
                    users.insert(subject);
                }
                Brought::Token(id) => {
                    match office.authority().token(id).await {
                        Ok(token) if token.standing(office.now().wall) == Standing::Revoked => line(json!({
                            "lost": "a token was ended here and is good again there, unless it was ended there as well",
                            "token": id, "number": token.number, "user": token.subject, "client": token.client.as_str(),
                        }))?,
                        Ok(_) | Err(_) => {}
                    }
                    tokens.insert(id);
                }
            }
        }
    }
}

async fn users_made_here(office: &Office, brought: &HashSet<SubjectId>, line: Line<'_>) -> Result<(), Failure> {
    let mut query = AccountQuery { limit: 500, ..AccountQuery::default() };
    loop {
        let page = office.authority().users(&query).await?;
        let Some(last) = page.last() else { return Ok(()) };
        query.after = Some(last.username.clone());
        for account in page.iter().filter(|account| !brought.contains(&account.subject)) {
            line(json!({ "lost": "a user was made here", "user": account.subject, "username": account.username }))?;
        }
    }
}

async fn tokens_issued_here(office: &Office, brought: &HashSet<TokenId>, line: Line<'_>) -> Result<(), Failure> {
    let mut page = PageRequest { after: None, limit: PageRequest::MOST };
    loop {
        let query =
            TokenQuery { filter: TokenFilter::default(), live_at: Some(office.now().wall), ..TokenQuery::default() };
        let answer = office.authority().list(query, page).await?;
        for token in answer.items.iter().filter(|token| !brought.contains(&token.id)) {
            line(json!({
                "lost": "a token was issued here", "token": token.id, "number": token.number, "kind": token.kind.as_str(),
                "user": token.subject, "client": token.client.as_str(),
                "issued_at": token.issued_at.to_string(),
            }))?;
        }
        match answer.next {
            Some(next) => page.after = Some(next),
            None => return Ok(()),
        }
    }
}

async fn passwords_set_here(office: &Office, line: Line<'_>) -> Result<(), Failure> {
    let lost = "a password was set here; there the one before is good";
    for event in ["password_changed", "password_reset"] {
        let mut query = AuditQuery { event: Some(event.to_owned()), limit: 500, ..AuditQuery::default() };
        loop {
            let page = office.authority().audit(&query, office.now()).await?;
            for entry in page.entries.iter().map(|numbered| &numbered.entry) {
                line(json!({ "lost": lost, "at": entry.at.to_string(), "user": entry.subject }))?;
            }
            query.before = page.next;
            if query.before.is_none() {
                break;
            }
        }
    }
    Ok(())
}
