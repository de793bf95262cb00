//! What is brought over from other systems, and the ledger of it.

use counterfoil_core::import::{
    AccountOutcome, Brought, ImportedAccount, LedgerRow, SourceKey, TokenOutcome, TokenRow, mark_of,
};
use counterfoil_core::token::{Kind, Sighting, Standing, TokenId};
use counterfoil_core::username::Distinct;
use counterfoil_core::{Epochs, SubjectId, SubjectState, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use super::accounts::Imported;
use super::column::{Column, get, get_if_any, if_any};
use super::fault::Fault;
use super::readers::Reader;
use super::{accounts, clients, subjects, tokens};

const ENTER: &str = "INSERT INTO imported (source, token, subject, mark, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)";

const MARK: &str = "SELECT mark FROM imported WHERE source = ?1 AND subject IS NOT NULL";

const SET_MARK: &str = "UPDATE imported SET mark = ?2 WHERE source = ?1";

/// See [`counterfoil_core::import::ImportStore::import_accounts`].
pub(super) fn accounts(
    connection: &Connection,
    accounts: &[ImportedAccount],
    now: Timestamp,
) -> Result<Vec<AccountOutcome>, Fault> {
    accounts.iter().map(|new| account(connection, new, now)).collect()
}

fn account(connection: &Connection, new: &ImportedAccount, now: Timestamp) -> Result<AccountOutcome, Fault> {
    let ImportedAccount { key, account, password } = new;
    let known: Option<[u8; 32]> =
        connection.prepare_cached(MARK)?.query_row([key.as_bytes()], |row| row.get(0)).optional()?;
    if let Some(mark) = known {
        return carry_password_over(connection, new, mark);
    }
    if subjects::now(connection, &account.subject)?.is_some() || accounts::has_subject(connection, &account.subject)? {
        return Ok(AccountOutcome::SubjectTaken);
    }
    if !accounts::create(connection, account, password, Distinct::ByText)? {
        return Ok(AccountOutcome::NameTaken);
    }
    subjects::open(connection, &account.subject)?;
    if !account.active {
        subjects::set_state(connection, &account.subject, SubjectState::Disabled, now)?;
    }
    let mark = mark_of(password);
    connection.prepare_cached(ENTER)?.execute(params![
        key.as_bytes(),
        None::<&[u8]>,
        Column(&account.subject),
        mark,
        None::<i64>
    ])?;
    Ok(AccountOutcome::Imported)
}

fn carry_password_over(
    connection: &Connection,
    ImportedAccount { key, account, password }: &ImportedAccount,
    mark: [u8; 32],
) -> Result<AccountOutcome, Fault> {
    let Some(Imported { username, created_at, password: here }) = accounts::imported(connection, &account.subject)?
    else {
        return Ok(AccountOutcome::Deleted);
    };
    if username != account.username && created_at != account.created_at {
        return Ok(AccountOutcome::SubjectTaken);
    }
    let newest = mark_of(password);
    if mark == newest {
        return Ok(AccountOutcome::Known);
    }
    connection.prepare_cached(SET_MARK)?.execute(params![key.as_bytes(), newest])?;
    if mark_of(&here) != mark {
        return Ok(AccountOutcome::PasswordKept);
    }
    accounts::set_password(connection, &account.subject, Some(&here), password)?;
    Ok(AccountOutcome::PasswordReplaced)
}

const BROUGHT: &str = "SELECT token FROM imported WHERE source = ?1 AND token IS NOT NULL";

/// See [`counterfoil_core::import::ImportStore::import_tokens`].
pub(super) fn tokens(connection: &Connection, rows: &[TokenRow], now: Timestamp) -> Result<Vec<TokenOutcome>, Fault> {
    rows.iter().map(|row| token(connection, row, now)).collect()
}

fn token(connection: &Connection, new: &TokenRow, now: Timestamp) -> Result<TokenOutcome, Fault> {
    let brought: Option<TokenId> =
        connection.prepare_cached(BROUGHT)?.query_row([new.key.as_bytes()], |row| get(row, 0)).optional()?;
    if let Some(id) = brought {
        return known(connection, id, new, now);
    }
    let subject = match subjects::now(connection, &new.subject)? {
        Some(subject) if subject.state != SubjectState::Buried => subject,
        Some(_) | None => return Ok(TokenOutcome::SubjectMissing),
    };
    let Some(client) = clients::now(connection, new.client)? else { return Ok(TokenOutcome::ClientMissing) };
    if tokens::is_taken(connection, new.id, &new.digest)? {
        return Ok(TokenOutcome::Taken);
    }
    let stamped = Epochs {
        subject: match new.kind {
            Kind::Login => subject.epoch,
            Kind::Key => subject.key_epoch,
        },
        client: client.epoch,
        deployment: tokens::deployment_epoch(connection)?,
    };
    let number = tokens::insert_imported(connection, new, subject.key, client.key, &stamped)?;
    if !subject.ever_issued {
        tokens::note_first_issue(connection, subject.key)?;
    }
    if let Some(Sighting { at, source }) = &new.last_seen {
        tokens::see(connection, new.id, *at, source)?;
    }
    connection.prepare_cached(ENTER)?.execute(params![
        new.key.as_bytes(),
        Column(new.id),
        None::<&str>,
        None::<&[u8]>,
        if_any(new.expires_at)
    ])?;
    Ok(TokenOutcome::Imported { number })
}

// Mostly it is what it was, and then nothing is written.
const SET_EXPIRY: &str = "UPDATE imported SET expires_at = ?2 WHERE source = ?1 AND expires_at IS NOT ?2";

fn known(connection: &Connection, id: TokenId, new: &TokenRow, now: Timestamp) -> Result<TokenOutcome, Fault> {
    connection.prepare_cached(SET_EXPIRY)?.execute(params![new.key.as_bytes(), if_any(new.expires_at)])?;
    let Some(held) = tokens::held(connection, id)? else { return Ok(TokenOutcome::Gone) };
    if held.token.standing(now) == Standing::Live {
        tokens::move_expiry_on(connection, &held.token, new.expires_at)?;
    }
    Ok(TokenOutcome::Known(id))
}

const PAGE: &str = "
    SELECT source, token, subject, expires_at FROM imported WHERE source > ?1 ORDER BY source LIMIT ?2";

/// See [`counterfoil_core::import::ImportStore::ledger`].
pub(super) fn ledger(reader: &Reader, after: Option<SourceKey>, limit: u32) -> Result<Vec<LedgerRow>, Fault> {
    let mut statement = reader.connection.prepare_cached(PAGE)?;
    let after: &[u8] = after.as_ref().map_or(&[], |key| key.as_bytes());
    let rows = statement.query_map(params![after, limit], |row| {
        let token: Option<TokenId> = get_if_any(row, 1)?;
        let brought = match token {
            Some(token) => Brought::Token(token),
            None => Brought::Account(get::<SubjectId>(row, 2)?),
        };
        Ok(LedgerRow { key: SourceKey::from_bytes(row.get(0)?), brought, expires_at: get_if_any(row, 3)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

const FORGET: &str = "DELETE FROM imported WHERE source IN (SELECT source FROM imported ORDER BY source LIMIT ?1)";

/// See [`counterfoil_core::import::ImportStore::forget_ledger`].
pub(super) fn forget(connection: &Connection, batch: u32) -> Result<u64, Fault> {
    Ok(connection.prepare_cached(FORGET)?.execute([batch])? as u64)
}
