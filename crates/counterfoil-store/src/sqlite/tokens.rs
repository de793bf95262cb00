//! Tokens: looking them up, and every transition of theirs.

use counterfoil_core::client::{AtCap, Reissue};
use counterfoil_core::import::TokenRow;
use counterfoil_core::seal::Sealed;
use counterfoil_core::secret::{Candidates, DigestScheme, TokenDigest};
use counterfoil_core::store::{
    Changed, ExpiringQuery, Found, Issue, IssueOutcome, Presented, RenewOutcome, RevokeOutcome, RotateOutcome,
    Rotation, TokenFilter, TokenQuery, Touch, Warrant,
};
use counterfoil_core::token::{Kind, Sighting, Source, Standing, Token, TokenId, TokenName};
use counterfoil_core::{Epoch, Epochs, SubjectId, SubjectState, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::changes::log;
use super::column::{Column, get, get_if_any, if_any, signed};
use super::fault::Fault;
use super::readers::Reader;
use super::{attempts, clients, matching, subjects};

// ── Look-ups ────────────────────────────────────────────────────────────────────────────────────────────────────────

// Every column of `tokens` is in `tokens_by_digest`; a test holds the plan to that. The joins go one way only, from the
// token to what it names.
pub(super) const FIND: &str = "
    SELECT t.id, t.kind, t.client, t.abilities, t.issued_at, t.expires_at, t.revoked_at,
           t.subject_epoch, t.client_epoch, t.deployment_epoch, t.unsettled,
           s.name, s.state, s.epoch, s.key_epoch, c.version, c.epoch, d.epoch
    FROM tokens AS t CROSS JOIN subjects AS s CROSS JOIN clients AS c CROSS JOIN deployment AS d
    WHERE t.digest = ?1 AND t.scheme = ?2 AND s.key = t.subject AND c.key = t.client AND c.deleted = 0 AND d.one = 1";

const FIND_BY_NUMBER: &str = "
    SELECT t.id, t.kind, t.client, t.abilities, t.issued_at, t.expires_at, t.revoked_at,
           t.subject_epoch, t.client_epoch, t.deployment_epoch, t.unsettled,
           s.name, s.state, s.epoch, s.key_epoch, c.version, c.epoch, d.epoch
    FROM tokens AS t CROSS JOIN subjects AS s CROSS JOIN clients AS c CROSS JOIN deployment AS d
    WHERE t.number = ?1 AND s.key = t.subject AND c.key = t.client AND c.deleted = 0 AND d.one = 1";

const FIND_RETIRED: &str = "SELECT token, grace_until, taken_back FROM retired WHERE digest = ?1 AND scheme = ?2";

/// See [`counterfoil_core::TokenStore::find`].
pub(super) fn find(reader: &Reader, candidates: &Candidates) -> Result<Option<Found>, Fault> {
    if let Candidates::Native(digest) = candidates
        && let Some(found) = find_current(reader, DigestScheme::Native, digest)?
    {
        return Ok(Some(found));
    }
    // More than one statement from here on, which must agree: a rotation in between would hide a live secret.
    let snapshot = reader.connection.unchecked_transaction()?;
    let found = match candidates {
        Candidates::Native(digest) => find_any(reader, &[(DigestScheme::Native, *digest)])?,
        Candidates::Imported(digests) => find_any(reader, digests)?,
    };
    snapshot.commit()?;
    Ok(found)
}

fn find_any(reader: &Reader, digests: &[(DigestScheme, TokenDigest)]) -> Result<Option<Found>, Fault> {
    for (scheme, digest) in digests {
        if let Some(found) = find_current(reader, *scheme, digest)? {
            return Ok(Some(found));
        }
    }
    for (scheme, digest) in digests {
        if let Some(found) = find_retired(reader, *scheme, digest)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn find_current(reader: &Reader, scheme: DigestScheme, digest: &TokenDigest) -> Result<Option<Found>, Fault> {
    let mut statement = reader.connection.prepare_cached(FIND)?;
    let found = statement.query_row(params![Column(digest), Column(scheme)], |row| {
        let presented = if row.get(10)? { Presented::Successor } else { Presented::Current };
        found(row, reader, *digest, presented)
    });
    Ok(found.optional()?)
}

fn find_retired(reader: &Reader, scheme: DigestScheme, digest: &TokenDigest) -> Result<Option<Found>, Fault> {
    let retired = reader
        .connection
        .prepare_cached(FIND_RETIRED)?
        .query_row(params![Column(digest), Column(scheme)], |row| {
            let presented =
                if row.get(2)? { Presented::TakenBack } else { Presented::Retired { grace_until: get(row, 1)? } };
            Ok((row.get::<_, i64>(0)?, presented))
        })
        .optional()?;
    let Some((number, presented)) = retired else { return Ok(None) };
    let mut statement = reader.connection.prepare_cached(FIND_BY_NUMBER)?;
    // None where its client is deleted.
    Ok(statement.query_row([number], |row| found(row, reader, *digest, presented)).optional()?)
}

fn found(row: &Row<'_>, reader: &Reader, digest: TokenDigest, presented: Presented) -> rusqlite::Result<Found> {
    let (client_key, client_epoch) = (row.get(2)?, get(row, 16)?);
    let client = match reader.shared.client(client_key, get(row, 15)?, client_epoch) {
        Some(client) => client,
        // The statement that gave this row is not done, so this one reads in its snapshot.
        None => clients::by_key(reader, client_key)?,
    };
    let kind = get(row, 1)?;
    let abilities = if row.get_ref(3)?.as_bytes().is_ok_and(|text| text == b"*") {
        reader.shared.everything()
    } else {
        get(row, 3)?
    };
    Ok(Found {
        id: get(row, 0)?,
        kind,
        subject: get(row, 11)?,
        subject_state: get(row, 12)?,
        client,
        abilities,
        issued_at: get(row, 4)?,
        expires_at: get_if_any(row, 5)?,
        revoked_at: get_if_any(row, 6)?,
        stamped: Epochs { subject: get(row, 7)?, client: get(row, 8)?, deployment: get(row, 9)? },
        current: Epochs {
            subject: match kind {
                Kind::Login => get(row, 13)?,
                Kind::Key => get(row, 14)?,
            },
            client: client_epoch,
            deployment: get(row, 17)?,
        },
        digest,
        presented,
    })
}

/// Read by [`record`], [`holding`] and, of what it takes to judge a row, by [`matching`]; the conditions follow.
pub(super) const RECORD: &str = "
    SELECT t.id, t.number, t.kind, s.name, c.name, t.name, t.abilities, t.metadata,
           t.issued_at, t.expires_at, t.revoked_at, t.subject_epoch, t.client_epoch, t.deployment_epoch,
           s.epoch, s.key_epoch, c.epoch, d.epoch, s.state, t.first_ip, t.first_agent, l.at, l.ip, l.agent,
           t.digest, t.scheme, t.unsettled
    FROM tokens AS t CROSS JOIN subjects AS s CROSS JOIN clients AS c CROSS JOIN deployment AS d
    LEFT JOIN last_seen AS l ON l.token = t.number
    WHERE s.key = t.subject AND c.key = t.client AND c.deleted = 0 AND d.one = 1";

fn record(row: &Row<'_>) -> rusqlite::Result<Token> {
    let kind = get(row, 2)?;
    let issued_at = get(row, 8)?;
    let last_seen_at: Option<Timestamp> = get_if_any(row, 21)?;
    let last_source = Source { ip: get_if_any(row, 22)?, user_agent: get_if_any(row, 23)? };
    Ok(Token {
        id: get(row, 0)?,
        number: get(row, 1)?,
        kind,
        subject: get(row, 3)?,
        client: get(row, 4)?,
        name: get_if_any(row, 5)?,
        abilities: get(row, 6)?,
        metadata: get(row, 7)?,
        issued_at,
        expires_at: get_if_any(row, 9)?,
        revoked_at: get_if_any(row, 10)?,
        stamped: Epochs { subject: get(row, 11)?, client: get(row, 12)?, deployment: get(row, 13)? },
        current: Epochs {
            subject: match kind {
                Kind::Login => get(row, 14)?,
                Kind::Key => get(row, 15)?,
            },
            client: get(row, 16)?,
            deployment: get(row, 17)?,
        },
        subject_state: get(row, 18)?,
        first_seen: Sighting {
            at: issued_at,
            source: Source { ip: get_if_any(row, 19)?, user_agent: get_if_any(row, 20)? },
        },
        last_seen: last_seen_at.map(|at| Sighting { at, source: last_source }),
    })
}

/// See [`counterfoil_core::TokenStore::token`].
pub(super) fn token(reader: &Reader, wanted: &(TokenId, Option<SubjectId>)) -> Result<Option<Token>, Fault> {
    let (id, owner) = wanted;
    let token = held(&reader.connection, *id)?.map(|held| held.token);
    Ok(token.filter(|token| owner.as_ref().is_none_or(|owner| token.subject == *owner)))
}

/// See [`counterfoil_core::TokenStore::list`].
pub(super) fn list(reader: &Reader, query: &TokenQuery) -> Result<Vec<Token>, Fault> {
    let filter = &query.filter;
    let mut statement = reader.connection.prepare_cached(&listing(filter, query.live_at))?;
    let mut rows = statement.query(params![
        signed(query.after),
        if_any(filter.subject.as_ref()),
        if_any(filter.client.as_ref()),
        if_any(filter.kind),
    ])?;
    let mut page = Vec::new();
    while page.len() < query.limit as usize
        && let Some(row) = rows.next()?
    {
        if !matching::is_meant(row, filter)? {
            continue;
        }
        let token = record(row)?;
        if query.live_at.is_none_or(|now| is_accepted(&token, now)) {
            page.push(token);
        }
    }
    Ok(page)
}

/// The page is read from the index by expiry, whose entries of one instant are in the order of their numbers.
const EXPIRING: &str = "AND t.expires_at >= ?1 AND t.expires_at < ?2 AND t.revoked_at IS NULL
    AND (t.expires_at, t.number) > (?3, ?4) ORDER BY t.expires_at, t.number LIMIT ?5";

/// See [`counterfoil_core::TokenStore::expiring`].
pub(super) fn expiring(reader: &Reader, query: &ExpiringQuery) -> Result<Vec<Token>, Fault> {
    let (at, number) = query.after.unwrap_or((Timestamp::MIN, 0));
    let mut statement = reader.connection.prepare_cached(&format!("{RECORD} {EXPIRING}"))?;
    let rows = statement
        .query_map(params![Column(query.from), Column(query.until), Column(at), signed(number), query.limit], record)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The statement for a page. Each index that may serve it holds the rows in the order of their numbers, so that a page
/// reads no further than its end. When and where tokens were used is in no index: the operator asks for it now and then,
/// every login would pay for it.
pub(super) fn listing(filter: &TokenFilter, live_at: Option<Timestamp>) -> String {
    // The narrowest index that the question allows; what is left is judged row by row, by the one rule there is. What its
    // subject's epoch has outlived is passed over in the index.
    let among = match (&filter.subject, &filter.client) {
        (Some(_), _) => match (filter.kind, live_at) {
            (Some(Kind::Login), Some(_)) => {
                "AND t.subject = (SELECT key FROM subjects WHERE name = ?2) AND t.kind = 'login'
                 AND t.subject_epoch = (SELECT epoch FROM subjects WHERE name = ?2)"
            }
            (Some(Kind::Key), Some(_)) => {
                "AND t.subject = (SELECT key FROM subjects WHERE name = ?2) AND t.kind = 'key'
                 AND t.subject_epoch = (SELECT key_epoch FROM subjects WHERE name = ?2)"
            }
            (None, _) | (_, None) => "AND t.subject = (SELECT key FROM subjects WHERE name = ?2)",
        },
        (None, Some(_)) => "AND t.client = (SELECT key FROM clients WHERE name = ?3 AND deleted = 0)",
        (None, None) => "",
    };
    let unrevoked = if live_at.is_some() { "AND t.revoked_at IS NULL" } else { "" };
    format!(
        "{RECORD} AND t.number > ?1 {among} {unrevoked}
         AND (?2 IS NULL OR s.name = ?2) AND (?3 IS NULL OR c.name = ?3) AND (?4 IS NULL OR t.kind = ?4)
         ORDER BY t.number"
    )
}

/// Live, and its subject's tokens are accepted.
fn is_accepted(token: &Token, now: Timestamp) -> bool {
    token.standing(now) == Standing::Live && token.subject_state == SubjectState::Active
}

/// A token as it is in this transaction, with what its record does not show.
pub(super) struct Held {
    pub(super) token: Token,
    digest: TokenDigest,
    scheme: DigestScheme,
    unsettled: bool,
}

pub(super) fn holding(row: &Row<'_>) -> rusqlite::Result<Held> {
    Ok(Held { token: record(row)?, digest: get(row, 24)?, scheme: get(row, 25)?, unsettled: row.get(26)? })
}

/// The token of that id.
pub(super) fn held(connection: &Connection, id: TokenId) -> Result<Option<Held>, Fault> {
    let mut statement = connection.prepare_cached(&format!("{RECORD} AND t.id = ?1"))?;
    Ok(statement.query_row([Column(id)], holding).optional()?)
}

// ── Issuing ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/// See [`counterfoil_core::TokenStore::issue`]. Writes nothing before all is judged.
pub(super) fn issue(connection: &Connection, issue: &Issue, now: Timestamp) -> Result<IssueOutcome, Fault> {
    let subject = match subjects::now(connection, &issue.subject)? {
        Some(subject) if subject.state == SubjectState::Active => subject,
        Some(_) | None => return Ok(IssueOutcome::SubjectInactive),
    };
    let warranted = match issue.warrant {
        Warrant::Password(epoch) => subject.epoch == epoch,
        Warrant::Token(id) => held(connection, id)?
            .is_some_and(|maker| maker.token.subject == issue.subject && maker.token.standing(now) == Standing::Live),
        Warrant::Operator => true,
    };
    if !warranted {
        return Ok(IssueOutcome::WarrantVoid);
    }
    let client = match clients::now(connection, issue.client)? {
        Some(client) if client.version == issue.client_version => client,
        Some(_) | None => return Ok(IssueOutcome::ClientChanged),
    };

    let mut ending: Vec<Held> = Vec::new();
    if issue.kind == Kind::Login && (issue.cap.is_some() || issue.reissue != Reissue::New) {
        let mut living = living_logins(connection, subject.key, client.key, now)?;
        match issue.reissue {
            Reissue::New => {}
            Reissue::Replace => ending = std::mem::take(&mut living),
            Reissue::Same => {
                for same in &living {
                    if let Some(sealed) = sealed(connection, same.token.number)? {
                        let token = Box::new(same.token.clone());
                        password_was_right(connection, issue)?;
                        return Ok(IssueOutcome::Same { token, sealed, digest: same.digest });
                    }
                }
            }
        }
        if let Some(cap) = issue.cap {
            let beyond = (living.len() + 1).saturating_sub(cap.limit.get() as usize);
            match cap.at_cap {
                AtCap::Refuse if beyond > 0 => return Ok(IssueOutcome::CapReached),
                AtCap::Refuse => {}
                AtCap::EvictOldest => {
                    let kept = living.split_off(beyond.min(living.len()));
                    ending.extend(std::mem::replace(&mut living, kept));
                }
            }
        }
    }
    if is_taken(connection, issue.id, &issue.digest)? {
        return Ok(IssueOutcome::Taken);
    }

    let mut ended_digests = Vec::new();
    for held in &ending {
        end(connection, held, now, &mut ended_digests)?;
    }
    let subject_epoch = match issue.kind {
        Kind::Login => subject.epoch,
        Kind::Key => subject.key_epoch,
    };
    let deployment = deployment_epoch(connection)?;
    let stamped = Epochs { subject: subject_epoch, client: client.epoch, deployment };
    let number = insert(connection, issue, subject.key, client.key, &stamped, now)?;
    if !subject.ever_issued {
        note_first_issue(connection, subject.key)?;
    }
    password_was_right(connection, issue)?;
    if !ended_digests.is_empty() {
        log(connection, &Changed::Tokens(ended_digests), now)?;
    }
    let token = Token {
        id: issue.id,
        number,
        kind: issue.kind,
        subject: issue.subject.clone(),
        client: client.name,
        name: issue.name.clone(),
        abilities: issue.abilities.clone(),
        metadata: issue.metadata.clone(),
        issued_at: now,
        expires_at: issue.expires_at,
        revoked_at: None,
        stamped,
        current: stamped,
        subject_state: SubjectState::Active,
        first_seen: Sighting { at: now, source: issue.source.clone() },
        last_seen: None,
    };
    let ended = ending.iter().map(|held| held.token.id).collect();
    Ok(IssueOutcome::Issued { token: Box::new(token), first_of_subject: !subject.ever_issued, ended })
}

/// Failed tries are forgotten where the password that proved right has led to a token, and nowhere before.
fn password_was_right(connection: &Connection, issue: &Issue) -> Result<(), Fault> {
    match issue.warrant {
        Warrant::Password(_) => attempts::forget(connection, &issue.subject),
        Warrant::Token(_) | Warrant::Operator => Ok(()),
    }
}

/// The statement for [`living_logins`]: neither keys nor what was outlived are read on the way.
pub(super) fn living() -> String {
    format!(
        "{RECORD} AND t.subject = ?1 AND t.client = ?2 AND t.revoked_at IS NULL AND t.kind = 'login'
         AND t.subject_epoch = (SELECT epoch FROM subjects WHERE key = ?1)
         AND (t.expires_at IS NULL OR t.expires_at > ?3) ORDER BY t.number"
    )
}

/// The subject's live login tokens on the client, oldest first.
fn living_logins(connection: &Connection, subject: i64, client: i64, now: Timestamp) -> Result<Vec<Held>, Fault> {
    let mut statement = connection.prepare_cached(&living())?;
    let mut rows = statement.query(params![subject, client, Column(now)])?;
    let mut living = Vec::new();
    while let Some(row) = rows.next()? {
        let held = holding(row)?;
        if held.token.standing(now) == Standing::Live {
            living.push(held);
        }
    }
    Ok(living)
}

const SEALED: &str = "SELECT sealed_key, sealed FROM tokens WHERE number = ?1 AND sealed IS NOT NULL";

fn sealed(connection: &Connection, number: u64) -> Result<Option<Sealed>, Fault> {
    let sealed = connection
        .prepare_cached(SEALED)?
        .query_row([signed(number)], |row| Ok(Sealed { key_id: row.get(0)?, bytes: row.get(1)? }));
    Ok(sealed.optional()?)
}

const ID_KNOWN: &str = "SELECT EXISTS (SELECT 1 FROM tokens WHERE id = ?1)";

fn id_is_known(connection: &Connection, id: TokenId) -> Result<bool, Fault> {
    Ok(connection.prepare_cached(ID_KNOWN)?.query_row([Column(id)], |row| row.get(0))?)
}

const DIGEST_KNOWN: &str = "
    SELECT EXISTS (SELECT 1 FROM tokens WHERE digest = ?1) OR EXISTS (SELECT 1 FROM retired WHERE digest = ?1)";

/// What no UNIQUE can say of two tables; writers come one after the other, so it holds until the commit.
fn digest_is_known(connection: &Connection, digest: &TokenDigest) -> Result<bool, Fault> {
    Ok(connection.prepare_cached(DIGEST_KNOWN)?.query_row([Column(digest)], |row| row.get(0))?)
}

const DEPLOYMENT_EPOCH: &str = "SELECT epoch FROM deployment";

const FIRST_ISSUED: &str = "UPDATE subjects SET ever_issued = 1 WHERE key = ?1";

const INSERT: &str = "
    INSERT INTO tokens (
        id, kind, subject, client, digest, scheme, abilities, issued_at, expires_at,
        subject_epoch, client_epoch, deployment_epoch, sealed, sealed_key, name, metadata, first_ip, first_agent
    ) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)";

fn insert(
    connection: &Connection,
    issue: &Issue,
    subject: i64,
    client: i64,
    stamped: &Epochs,
    now: Timestamp,
) -> Result<u64, Fault> {
    let number = connection.prepare_cached(INSERT)?.insert(params![
        Column(issue.id),
        Column(issue.kind),
        subject,
        client,
        Column(&issue.digest),
        Column(issue.scheme),
        Column(&issue.abilities),
        Column(now),
        if_any(issue.expires_at),
        Column(stamped.subject),
        Column(stamped.client),
        Column(stamped.deployment),
        issue.sealed.as_ref().map(|sealed| sealed.bytes.as_slice()),
        issue.sealed.as_ref().map(|sealed| sealed.key_id),
        if_any(issue.name.as_ref()),
        Column(&issue.metadata),
        if_any(issue.source.ip),
        if_any(issue.source.user_agent.as_ref()),
    ])?;
    Ok(number.cast_unsigned())
}

/// Whether a token has, or had, this id or this digest.
pub(super) fn is_taken(connection: &Connection, id: TokenId, digest: &TokenDigest) -> Result<bool, Fault> {
    Ok(id_is_known(connection, id)? || digest_is_known(connection, digest)?)
}

/// The epoch that every token is stamped with.
pub(super) fn deployment_epoch(connection: &Connection) -> Result<Epoch, Fault> {
    Ok(connection.prepare_cached(DEPLOYMENT_EPOCH)?.query_row([], |row| get(row, 0))?)
}

/// Notes that a token was issued to the subject, if it is the first.
pub(super) fn note_first_issue(connection: &Connection, subject: i64) -> Result<(), Fault> {
    connection.prepare_cached(FIRST_ISSUED)?.execute([subject])?;
    Ok(())
}

// With the number that it had elsewhere, where that is free; else with the next one.
const INSERT_IMPORTED: &str = "
    INSERT INTO tokens (
        number, id, kind, subject, client, digest, scheme, abilities, issued_at, expires_at,
        subject_epoch, client_epoch, deployment_epoch, sealed, sealed_key, name, metadata, first_ip, first_agent
    ) VALUES (
        (SELECT ?19 WHERE NOT EXISTS (SELECT 1 FROM tokens WHERE number = ?19)),
        ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18
    )";

/// Adds a token that was issued elsewhere, and tells its number.
pub(super) fn insert_imported(
    connection: &Connection,
    new: &TokenRow,
    subject: i64,
    client: i64,
    stamped: &Epochs,
) -> Result<u64, Fault> {
    // SQLite's numbers end here.
    let number = new.number.filter(|number| (1..=i64::MAX.cast_unsigned() / 2).contains(number));
    let number = connection.prepare_cached(INSERT_IMPORTED)?.insert(params![
        Column(new.id),
        Column(new.kind),
        subject,
        client,
        Column(&new.digest),
        Column(new.scheme),
        Column(&new.abilities),
        Column(new.issued_at),
        if_any(new.expires_at),
        Column(stamped.subject),
        Column(stamped.client),
        Column(stamped.deployment),
        new.sealed.as_ref().map(|sealed| sealed.bytes.as_slice()),
        new.sealed.as_ref().map(|sealed| sealed.key_id),
        if_any(new.name.as_ref()),
        Column(&new.metadata),
        if_any(new.source.ip),
        if_any(new.source.user_agent.as_ref()),
        number.map(signed),
    ])?;
    Ok(number.cast_unsigned())
}

// ── Ending ──────────────────────────────────────────────────────────────────────────────────────────────────────────

// The sealed secret goes at once: nobody will be handed it again.
const END: &str = "UPDATE tokens SET revoked_at = ?2, sealed = NULL, sealed_key = NULL WHERE number = ?1";

const RETIRED_OF: &str = "SELECT digest FROM retired WHERE token = ?1";

/// Revokes the token and adds every digest it answers to, for the change log.
pub(super) fn end(
    connection: &Connection,
    held: &Held,
    now: Timestamp,
    digests: &mut Vec<TokenDigest>,
) -> Result<(), Fault> {
    let number = signed(held.token.number);
    connection.prepare_cached(END)?.execute(params![number, Column(now)])?;
    digests.push(held.digest);
    let mut statement = connection.prepare_cached(RETIRED_OF)?;
    for digest in statement.query_map([number], |row| get(row, 0))? {
        digests.push(digest?);
    }
    Ok(())
}

/// Which token to revoke, of this owner and kind where they are named.
pub(super) struct Revocation {
    pub(super) id: TokenId,
    pub(super) owner: Option<SubjectId>,
    pub(super) kind: Option<Kind>,
}

/// See [`counterfoil_core::TokenStore::revoke`].
pub(super) fn revoke(connection: &Connection, wanted: &Revocation, now: Timestamp) -> Result<RevokeOutcome, Fault> {
    let mut held = match held(connection, wanted.id)? {
        Some(held)
            if wanted.owner.as_ref().is_none_or(|owner| held.token.subject == *owner)
                && wanted.kind.is_none_or(|kind| held.token.kind == kind) =>
        {
            held
        }
        Some(_) | None => return Ok(RevokeOutcome::Unknown),
    };
    match held.token.standing(now) {
        Standing::Revoked => return Ok(RevokeOutcome::AlreadyRevoked),
        Standing::Live | Standing::Expired => {}
    }
    let mut digests = Vec::new();
    end(connection, &held, now, &mut digests)?;
    log(connection, &Changed::Tokens(digests), now)?;
    held.token.revoked_at = Some(now);
    Ok(RevokeOutcome::Revoked(Box::new(held.token)))
}

// ── Changing ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Another name for a token of this owner and kind.
pub(super) struct Renaming {
    pub(super) id: TokenId,
    pub(super) owner: SubjectId,
    pub(super) kind: Kind,
    pub(super) name: Option<TokenName>,
}

const RENAME: &str = "UPDATE tokens SET name = ?2 WHERE number = ?1";

/// See [`counterfoil_core::TokenStore::rename`].
pub(super) fn rename(connection: &Connection, wanted: &Renaming, now: Timestamp) -> Result<Option<Token>, Fault> {
    let held = held(connection, wanted.id)?.filter(|held| {
        let token = &held.token;
        token.subject == wanted.owner && token.kind == wanted.kind && token.standing(now) == Standing::Live
    });
    let Some(held) = held else { return Ok(None) };
    let name = if_any(wanted.name.as_ref());
    connection.prepare_cached(RENAME)?.execute(params![signed(held.token.number), name])?;
    Ok(Some(Token { name: wanted.name.clone(), ..held.token }))
}

const SET_EXPIRY: &str = "UPDATE tokens SET expires_at = ?2 WHERE number = ?1";

/// See [`counterfoil_core::TokenStore::renew`].
pub(super) fn renew(
    connection: &Connection,
    id: TokenId,
    until: Option<Timestamp>,
    now: Timestamp,
) -> Result<RenewOutcome, Fault> {
    let Some(held) = held(connection, id)?.filter(|held| is_accepted(&held.token, now)) else {
        return Ok(RenewOutcome::Dead);
    };
    Ok(RenewOutcome::Renewed(move_expiry_on(connection, &held.token, until)?))
}

/// Moves the expiry of a token on to `until`, and never back.
pub(super) fn move_expiry_on(
    connection: &Connection,
    token: &Token,
    until: Option<Timestamp>,
) -> Result<Option<Timestamp>, Fault> {
    let expires_at = token.expires_at.and_then(|end| until.map(|until| until.max(end)));
    if expires_at != token.expires_at {
        connection.prepare_cached(SET_EXPIRY)?.execute(params![signed(token.number), if_any(expires_at)])?;
    }
    Ok(expires_at)
}

const SEE: &str = "
    INSERT INTO last_seen (token, at, ip, agent) SELECT number, ?2, ?3, ?4 FROM tokens WHERE id = ?1
    ON CONFLICT (token) DO UPDATE SET at = excluded.at, ip = excluded.ip, agent = excluded.agent
    WHERE excluded.at >= last_seen.at";

/// See [`counterfoil_core::TokenStore::touch`].
pub(super) fn touch(connection: &Connection, touches: &[Touch], now: Timestamp) -> Result<(), Fault> {
    for touch in touches {
        see(connection, touch.id, touch.seen.at, &touch.seen.source)?;
        if touch.renew_until.is_some() {
            renew(connection, touch.id, touch.renew_until, now)?;
        }
    }
    Ok(())
}

/// Notes where a token was seen last.
pub(super) fn see(connection: &Connection, id: TokenId, at: Timestamp, source: &Source) -> Result<(), Fault> {
    let mut statement = connection.prepare_cached(SEE)?;
    statement.execute(params![Column(id), Column(at), if_any(source.ip), if_any(source.user_agent.as_ref())])?;
    Ok(())
}

// ── Rotating ────────────────────────────────────────────────────────────────────────────────────────────────────────

const IN_GRACE: &str = "
    SELECT EXISTS (
        SELECT 1 FROM retired WHERE digest = ?1 AND token = ?2 AND taken_back = 0 AND grace_until > ?3
    )";

const SUCCEED: &str = "
    UPDATE tokens SET digest = ?2, scheme = 'native', sealed = ?3, sealed_key = ?4, unsettled = 1 WHERE number = ?1";

const RETIRE: &str = "
    INSERT INTO retired (digest, scheme, token, grace_until, taken_back, retired_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

/// See [`counterfoil_core::TokenStore::rotate`].
pub(super) fn rotate(connection: &Connection, rotation: &Rotation, now: Timestamp) -> Result<RotateOutcome, Fault> {
    let Some(held) = held(connection, rotation.id)?.filter(|held| is_accepted(&held.token, now)) else {
        return Ok(RotateOutcome::Dead);
    };
    let number = signed(held.token.number);
    let presents_current = held.digest == rotation.presented;
    let may_be_exchanged = presents_current
        || held.unsettled
            && connection
                .prepare_cached(IN_GRACE)?
                .query_row(params![Column(&rotation.presented), number, Column(now)], |row| row.get(0))?;
    if !may_be_exchanged {
        return Ok(RotateOutcome::Dead);
    }
    if digest_is_known(connection, &rotation.successor)? {
        return Ok(RotateOutcome::Taken);
    }
    let mut digests = vec![held.digest];
    let grace_until = if presents_current {
        // One way back, not a chain of them: presenting a successor is using it.
        end_graces(connection, number, &mut digests)?;
        rotation.grace_until
    } else {
        digests.push(rotation.presented);
        Timestamp::MIN
    };
    connection.prepare_cached(RETIRE)?.execute(params![
        Column(&held.digest),
        Column(held.scheme),
        number,
        Column(grace_until),
        !presents_current,
        Column(now),
    ])?;
    connection.prepare_cached(SUCCEED)?.execute(params![
        number,
        Column(&rotation.successor),
        rotation.sealed.as_ref().map(|sealed| sealed.bytes.as_slice()),
        rotation.sealed.as_ref().map(|sealed| sealed.key_id),
    ])?;
    log(connection, &Changed::Tokens(digests), now)?;
    Ok(RotateOutcome::Rotated(Box::new(held.token)))
}

// To the beginning of time and not to now, and those that have run out too: a clock that is set back must not open it
// again.
const END_GRACES: &str = "UPDATE retired SET grace_until = 0 WHERE token = ?1 AND grace_until > 0 RETURNING digest";

/// Ends the grace of every secret of the token from before, and adds their digests.
fn end_graces(connection: &Connection, number: i64, digests: &mut Vec<TokenDigest>) -> Result<(), Fault> {
    let mut statement = connection.prepare_cached(END_GRACES)?;
    for digest in statement.query_map([number], |row| get(row, 0))? {
        digests.push(digest?);
    }
    Ok(())
}

const SETTLE: &str = "
    UPDATE tokens SET unsettled = 0 WHERE id = ?1 AND digest = ?2 AND unsettled = 1
        AND (SELECT deleted FROM clients WHERE key = tokens.client) = 0
    RETURNING number";

/// See [`counterfoil_core::TokenStore::settle_rotation`].
pub(super) fn settle_rotation(
    connection: &Connection,
    id: TokenId,
    successor: &TokenDigest,
    now: Timestamp,
) -> Result<(), Fault> {
    let settled: Option<i64> = connection
        .prepare_cached(SETTLE)?
        .query_row(params![Column(id), Column(successor)], |row| row.get(0))
        .optional()?;
    let Some(number) = settled else { return Ok(()) };
    let mut digests = Vec::new();
    end_graces(connection, number, &mut digests)?;
    log(connection, &Changed::Tokens(digests), now)
}

const ADOPT: &str = "
    UPDATE tokens SET digest = ?4, scheme = 'plaintext' WHERE id = ?1 AND scheme = ?2 AND digest = ?3 AND revoked_at IS NULL";

/// See [`counterfoil_core::TokenStore::adopt`].
pub(super) fn adopt(
    connection: &Connection,
    id: TokenId,
    (scheme, was): (DigestScheme, &TokenDigest),
    digest: &TokenDigest,
    now: Timestamp,
) -> Result<bool, Fault> {
    if digest_is_known(connection, digest)? {
        return Ok(false);
    }
    let adopted =
        connection.prepare_cached(ADOPT)?.execute(params![Column(id), Column(scheme), Column(was), Column(digest)])?;
    if adopted == 1 {
        log(connection, &Changed::Tokens(vec![*was]), now)?;
    }
    Ok(adopted == 1)
}
