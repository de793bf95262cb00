//! Tokens: looking them up, and every transition of theirs but the end of single ones, which is in `revoking`.

use std::collections::BTreeMap;
use std::sync::Arc;

use counterfoil_core::client::{AtCap, Reissue};
use counterfoil_core::seal::Sealed;
use counterfoil_core::secret::{Candidates, DigestScheme, TokenDigest};
use counterfoil_core::store::{
    Changed, ExpiringQuery, Found, Issue, IssueOutcome, Presented, RenewOutcome, RotateOutcome, Rotation, TokenQuery,
    Touch, Warrant,
};
use counterfoil_core::token::{Kind, Sighting, Source, Standing, Token, TokenId, TokenName};
use counterfoil_core::{Epoch, Epochs, SubjectId, SubjectState, Timestamp};
use tokio_postgres::Row;

use super::changes::READ_ONLY;
use super::clients::Shared;
use super::column::{Value, get, get_if_any, if_any, printable, signed, value};
use super::fault::Fault;
use super::session::{Session, Step};
use super::transaction::Transaction;
use super::{attempts, clients, matching, subjects};

// ── Look-ups ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// What [`found`] reads, behind whether the server lets nobody write.
const FOUND: &str = "
    t.id, t.kind, t.client, t.abilities, t.issued_at, t.expires_at, t.revoked_at,
    t.subject_epoch, t.client_epoch, t.deployment_epoch, t.unsettled,
    s.name AS subject_name, s.state, s.epoch AS s_epoch, s.key_epoch, c.version, c.epoch AS c_epoch, d.epoch AS d_epoch";

const JOINED: &str = "
    JOIN subjects AS s ON s.key = t.subject
    JOIN clients AS c ON c.key = t.client AND NOT c.deleted
    JOIN deployment AS d ON d.one";

/// What is asked for nearly every time: a secret that a token has.
pub(super) fn finding() -> String {
    format!(
        "SELECT {READ_ONLY}, {FOUND}, t.digest, CAST(NULL AS bigint) AS grace_until, CAST(NULL AS boolean) AS taken_back
         FROM tokens AS t {JOINED} WHERE t.digest = $1 AND t.scheme = $2"
    )
}

/// What is asked next where no token has it. A digest goes from the one table to the other and never back, so in this order
/// no rotation in between hides a secret. A row at least, so that what nobody knows is told from what a standby does not know yet.
pub(super) fn finding_retired() -> String {
    format!(
        "SELECT {READ_ONLY}, f.* FROM (VALUES (1)) AS always (one) LEFT JOIN (
            SELECT {FOUND}, r.digest, r.grace_until, r.taken_back
            FROM retired AS r JOIN tokens AS t ON t.number = r.token {JOINED} WHERE r.digest = $1 AND r.scheme = $2
        ) AS f ON true"
    )
}

/// For a text that may be one of several imported ones: a current secret before a retired one, in their order. One statement, hence
/// one snapshot: adopting makes one of them another.
pub(super) fn finding_imported() -> String {
    format!(
        "SELECT {READ_ONLY}, f.* FROM (VALUES (1)) AS always (one) LEFT JOIN LATERAL (
            SELECT {FOUND}, w.digest, CAST(NULL AS bigint) AS grace_until, CAST(NULL AS boolean) AS taken_back, w.place
            FROM unnest($1, $2) WITH ORDINALITY AS w (digest, scheme, place)
            JOIN tokens AS t ON t.digest = w.digest AND t.scheme = w.scheme {JOINED}
            UNION ALL
            SELECT {FOUND}, w.digest, r.grace_until, r.taken_back, w.place + 1000
            FROM unnest($1, $2) WITH ORDINALITY AS w (digest, scheme, place)
            JOIN retired AS r ON r.digest = w.digest AND r.scheme = w.scheme
            JOIN tokens AS t ON t.number = r.token {JOINED}
            ORDER BY place LIMIT 1
        ) AS f ON true"
    )
}

/// How often a client that changes all the time is asked for.
const CLIENT_LOOKS: usize = 4;

/// See [`counterfoil_core::TokenStore::find`].
pub(super) async fn find(session: &Session, shared: &Shared, candidates: &Candidates) -> Result<Option<Found>, Fault> {
    for _ in 0..CLIENT_LOOKS {
        let row = match candidates {
            Candidates::Native(digest) => {
                let values = [value(digest), value(DigestScheme::Native)];
                match session.query_opt(&statements().find, &values).await? {
                    Some(row) => row,
                    None => session.query_one(&statements().find_retired, &values).await?,
                }
            }
            Candidates::Imported(digests) => {
                let bytes = digests.iter().map(|(_, digest)| Some(digest.as_bytes().as_slice().into())).collect();
                let schemes = digests.iter().map(|(scheme, _)| Some(scheme.as_str().into())).collect();
                let values = [Value::ByteStrings(bytes), Value::Texts(schemes)];
                session.query_one(&statements().find_imported, &values).await?
            }
        };
        if get(&row, 0)? {
            return Err(Fault::ReadOnly);
        }
        if get_if_any::<TokenId>(&row, 1)?.is_none() {
            return Ok(None);
        }
        let (key, version, epoch) = (get(&row, 3)?, get(&row, 16)?, get(&row, 17)?);
        let client = match shared.client(key, version, epoch) {
            Some(client) => client,
            // A client is the same at one version, whenever it is read.
            None => match clients::by_key(session, shared, key).await? {
                Some(client) if client.version == version && client.epoch == epoch => client,
                Some(_) | None => continue,
            },
        };
        return found(&row, client, shared).map(Some);
    }
    Err(Fault::Crowded)
}

fn found(row: &Row, client: Arc<counterfoil_core::Client>, shared: &Shared) -> Result<Found, Fault> {
    let kind = get(row, 2)?;
    let abilities: &str = row.try_get(4)?;
    let grace_until: Option<Timestamp> = get_if_any(row, 20)?;
    let presented = match (grace_until, get_if_any(row, 21)?) {
        (Some(_), Some(true)) => Presented::TakenBack,
        (Some(grace_until), _) => Presented::Retired { grace_until },
        (None, _) if get(row, 11)? => Presented::Successor,
        (None, _) => Presented::Current,
    };
    Ok(Found {
        id: get(row, 1)?,
        kind,
        subject: get(row, 12)?,
        subject_state: get(row, 13)?,
        abilities: if abilities == "*" { shared.everything() } else { get(row, 4)? },
        issued_at: get(row, 5)?,
        expires_at: get_if_any(row, 6)?,
        revoked_at: get_if_any(row, 7)?,
        stamped: Epochs { subject: get(row, 8)?, client: get(row, 9)?, deployment: get(row, 10)? },
        current: Epochs {
            subject: match kind {
                Kind::Login => get(row, 14)?,
                Kind::Key => get(row, 15)?,
            },
            client: client.epoch,
            deployment: get(row, 18)?,
        },
        client,
        digest: get(row, 19)?,
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
    WHERE s.key = t.subject AND c.key = t.client AND NOT c.deleted AND d.one";

/// The token of a row whose columns of [`RECORD`] begin at `from`.
fn record(row: &Row, from: usize) -> Result<Token, Fault> {
    let kind = get(row, from + 2)?;
    let issued_at = get(row, from + 8)?;
    let last_seen_at: Option<Timestamp> = get_if_any(row, from + 21)?;
    let last_source = Source { ip: get_if_any(row, from + 22)?, user_agent: get_if_any(row, from + 23)? };
    Ok(Token {
        id: get(row, from)?,
        number: get(row, from + 1)?,
        kind,
        subject: get(row, from + 3)?,
        client: get(row, from + 4)?,
        name: get_if_any(row, from + 5)?,
        abilities: get(row, from + 6)?,
        metadata: get(row, from + 7)?,
        issued_at,
        expires_at: get_if_any(row, from + 9)?,
        revoked_at: get_if_any(row, from + 10)?,
        stamped: Epochs {
            subject: get(row, from + 11)?,
            client: get(row, from + 12)?,
            deployment: get(row, from + 13)?,
        },
        current: Epochs {
            subject: match kind {
                Kind::Login => get(row, from + 14)?,
                Kind::Key => get(row, from + 15)?,
            },
            client: get(row, from + 16)?,
            deployment: get(row, from + 17)?,
        },
        subject_state: get(row, from + 18)?,
        first_seen: Sighting {
            at: issued_at,
            source: Source { ip: get_if_any(row, from + 19)?, user_agent: get_if_any(row, from + 20)? },
        },
        last_seen: last_seen_at.map(|at| Sighting { at, source: last_source }),
    })
}

/// The statements that are put together of parts, put together once.
#[derive(Debug)]
pub(super) struct Statements {
    find: String,
    find_retired: String,
    find_imported: String,
    by_id: String,
    by_ids: String,
    /// In order of their numbers, as everybody locks tokens (and `+ 0`, or a plan from when there were few would read all tokens in that
    /// order). What it waited for may have moved epochs that are read as they were
    /// before: for what hangs on the token alone.
    pub(super) holding_ids: String,
    living: String,
    expiring: String,
}

impl Statements {
    pub(super) fn new() -> Statements {
        Statements {
            find: finding(),
            find_retired: finding_retired(),
            find_imported: finding_imported(),
            by_id: format!("{RECORD} AND t.id = $1"),
            by_ids: format!("{RECORD} AND t.id = ANY($1)"),
            holding_ids: format!("{RECORD} AND t.id = ANY($1) ORDER BY t.number + 0 FOR NO KEY UPDATE OF t"),
            living: format!("{RECORD} {LIVING}"),
            expiring: format!("{RECORD} {EXPIRING}"),
        }
    }
}

/// Of a program, since they never change.
pub(super) fn statements() -> &'static Statements {
    static STATEMENTS: std::sync::OnceLock<Statements> = std::sync::OnceLock::new();
    STATEMENTS.get_or_init(Statements::new)
}

/// See [`counterfoil_core::TokenStore::token`].
pub(super) async fn token(session: &Session, id: TokenId, owner: Option<&SubjectId>) -> Result<Option<Token>, Fault> {
    let row = session.query_opt(&statements().by_id, &[value(id)]).await?;
    let token = row.map(|row| record(&row, 0)).transpose()?;
    Ok(token.filter(|token| owner.is_none_or(|owner| token.subject == *owner)))
}

/// See [`counterfoil_core::TokenStore::list`].
pub(super) async fn list(session: Arc<Session>, query: Arc<TokenQuery>) -> Result<Vec<Token>, Fault> {
    let (filter, wanted) = (&query.filter, query.limit as usize);
    let sql = matching::listing(filter, query.live_at, RECORD);
    let (mut page, mut after) = (Vec::new(), Some(query.after));
    while let Some(from) = after
        && page.len() < wanted
    {
        let stretch = matching::stretch(&session, &sql, filter, from, wanted - page.len()).await?;
        for row in &stretch.rows {
            let token = record(row, matching::AHEAD)?;
            if query.live_at.is_none_or(|now| is_accepted(&token, now)) {
                page.push(token);
            }
        }
        after = stretch.reached;
    }
    Ok(page)
}

/// The page is read from the index by expiry, whose entries of one instant are in the order of their numbers.
const EXPIRING: &str = "AND t.expires_at >= $1 AND t.expires_at < $2 AND t.revoked_at IS NULL
    AND (t.expires_at, t.number) > ($3, $4) ORDER BY t.expires_at, t.number LIMIT $5";

/// See [`counterfoil_core::TokenStore::expiring`].
pub(super) async fn expiring(session: Arc<Session>, query: Arc<ExpiringQuery>) -> Result<Vec<Token>, Fault> {
    let (at, number) = query.after.unwrap_or((Timestamp::MIN, 0));
    let values = [value(query.from), value(query.until), value(at), value(number), value(query.limit)];
    let rows = session.query(&statements().expiring, &values).await?;
    rows.iter().map(|row| record(row, 0)).collect()
}

/// Live, and its subject's tokens are accepted.
fn is_accepted(token: &Token, now: Timestamp) -> bool {
    token.standing(now) == Standing::Live && token.subject_state == SubjectState::Active
}

/// A token as it is in this transaction, with what its record does not show.
pub(super) struct Held {
    pub(super) token: Token,
    pub(super) digest: TokenDigest,
    scheme: DigestScheme,
    unsettled: bool,
}

pub(super) fn holding(row: &Row) -> Result<Held, Fault> {
    Ok(Held { token: record(row, 0)?, digest: get(row, 24)?, scheme: get(row, 25)?, unsettled: get(row, 26)? })
}

// A statement of its own: what it waited for has committed, and the next one sees all of it.
const LOCK: &str = "SELECT number FROM tokens WHERE id = $1 FOR NO KEY UPDATE";

/// The token of that id, which stays as it is until this transaction ends.
pub(super) async fn locked(transaction: &Transaction, id: TokenId) -> Result<Option<Held>, Fault> {
    let [_, rows] = transaction.flight([(LOCK, &[value(id)]), (&statements().by_id, &[value(id)])]).await?;
    rows.first().map(holding).transpose()
}

// ── Issuing ─────────────────────────────────────────────────────────────────────────────────────────────────────────

// Whoever ends the maker waits until what it made is there.
const LOCK_MAKER: &str = "SELECT number FROM tokens WHERE id = $1 FOR SHARE";

const DEPLOYMENT_EPOCH: &str = "SELECT epoch FROM deployment WHERE one";

const TAKEN: &str = "
    SELECT EXISTS (SELECT 1 FROM tokens WHERE id = $1) OR EXISTS (SELECT 1 FROM tokens WHERE digest = $2)
        OR EXISTS (SELECT 1 FROM retired WHERE digest = $2)";

/// The subject's live login tokens on the client, oldest first: neither keys nor what was outlived are read on the way.
const LIVING: &str = "AND t.subject = (SELECT key FROM subjects WHERE name = $1)
    AND t.client = (SELECT key FROM clients WHERE id = $2) AND t.revoked_at IS NULL AND t.kind = 'login'
    AND t.subject_epoch = (SELECT epoch FROM subjects WHERE name = $1)
    AND (t.expires_at IS NULL OR t.expires_at > $3) ORDER BY t.number";

const SEALED: &str = "SELECT sealed_key, sealed FROM tokens WHERE number = $1 AND sealed IS NOT NULL";

// The version once more: what was judged holds when it is written.
const INSERT: &str = "
    INSERT INTO tokens (
        id, kind, subject, client, digest, scheme, abilities, issued_at, expires_at,
        subject_epoch, client_epoch, deployment_epoch, sealed, sealed_key, name, metadata, first_ip, first_agent
    )
    SELECT $1, $2, $3, c.key, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18
    FROM clients AS c WHERE c.key = $4 AND c.version = $19 AND NOT c.deleted
    RETURNING number";

// Of two that issue the first token at once, the second waits here and finds that it was not the first.
const FIRST_ISSUED: &str = "UPDATE subjects SET ever_issued = true WHERE key = $1 AND NOT ever_issued RETURNING key";

/// See [`counterfoil_core::TokenStore::issue`]. Writes nothing before all is judged.
pub(super) async fn issue(transaction: Transaction, wanted: Arc<(Issue, Timestamp)>) -> Result<IssueOutcome, Fault> {
    let (issue, now) = &*wanted;
    let now = *now;
    let read = Restated::read(&transaction, issue, now).await?;
    let subject = match read.subject {
        Some(subject) if subject.state == SubjectState::Active => subject,
        Some(_) | None => return Ok(IssueOutcome::SubjectInactive),
    };
    let warranted = match issue.warrant {
        Warrant::Password(epoch) => subject.epoch == epoch,
        Warrant::Token(_) => {
            read.maker.is_some_and(|maker| maker.subject == issue.subject && maker.standing(now) == Standing::Live)
        }
        Warrant::Operator => true,
    };
    if !warranted {
        return Ok(IssueOutcome::WarrantVoid);
    }
    let client = match read.client {
        Some(client) if client.version == issue.client_version => client,
        Some(_) | None => return Ok(IssueOutcome::ClientChanged),
    };

    let mut ending: Vec<Held> = Vec::new();
    let mut living = read.living;
    match issue.reissue {
        Reissue::New => {}
        Reissue::Replace => ending = std::mem::take(&mut living),
        Reissue::Same => {
            for same in &living {
                if let Some(sealed) = sealed(&transaction, same.token.number).await? {
                    let token = Box::new(same.token.clone());
                    if let Warrant::Password(_) = issue.warrant {
                        attempts::forgotten(&transaction, &issue.subject).await?;
                    }
                    return Ok(IssueOutcome::Same { token, sealed, digest: same.digest });
                }
            }
        }
    }
    if let Some(cap) = issue.cap
        && issue.kind == Kind::Login
    {
        let beyond = (living.len() + 1).saturating_sub(cap.limit.get() as usize);
        match cap.at_cap {
            AtCap::Refuse if beyond > 0 => return Ok(IssueOutcome::CapReached),
            AtCap::Refuse => {}
            AtCap::EvictOldest => ending.extend(living.drain(..beyond.min(living.len()))),
        }
    }
    if read.taken {
        return Ok(IssueOutcome::Taken);
    }

    let ended = if ending.is_empty() {
        Vec::new()
    } else {
        let numbers: Vec<i64> = ending.iter().map(|held| signed(held.token.number)).collect();
        let (ended, digests) = end(&transaction, numbers, now).await?;
        transaction.log(Changed::Tokens(digests), now);
        ended
    };
    let stamped = Epochs {
        subject: match issue.kind {
            Kind::Login => subject.epoch,
            Kind::Key => subject.key_epoch,
        },
        client: client.epoch,
        deployment: read.deployment,
    };
    let Some((number, first_of_subject)) = insert(&transaction, issue, &subject, &client, &stamped, now).await? else {
        return Err(Fault::Outrun);
    };
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
    Ok(IssueOutcome::Issued { token: Box::new(token), first_of_subject, ended })
}

/// Everything that an issue restates, read in one flight.
struct Restated {
    subject: Option<subjects::SubjectNow>,
    client: Option<clients::ClientNow>,
    deployment: Epoch,
    taken: bool,
    maker: Option<Token>,
    /// Empty where nobody asks.
    living: Vec<Held>,
}

impl Restated {
    async fn read(transaction: &Transaction, issue: &Issue, now: Timestamp) -> Result<Restated, Fault> {
        let counts = issue.may_end_tokens();
        let subject = [value(&issue.subject)];
        let client = [value(issue.client)];
        let taken = [value(issue.id), value(&issue.digest)];
        let maker = match issue.warrant {
            Warrant::Token(id) => Some([value(id)]),
            Warrant::Password(_) | Warrant::Operator => None,
        };
        let living = [value(&issue.subject), value(issue.client), value(now)];
        let mut steps: Vec<Step<'_>> = vec![
            // Without a cap nobody's tokens are counted, and nobody waits: see the migration on `subject_epoch`.
            (if counts { subjects::NOW_ALONE } else { subjects::NOW }, &subject),
            (clients::NOW, &client),
            (DEPLOYMENT_EPOCH, &[]),
            (TAKEN, &taken),
        ];
        if let Some(maker) = &maker {
            steps.extend([(LOCK_MAKER, maker.as_slice()), (statements().by_id.as_str(), maker.as_slice())]);
        }
        if counts {
            steps.push((&statements().living, &living));
        }
        let answers = transaction.fly(&steps).await.map_err(|(_, fault)| fault)?;
        let first = |place: usize| answers.get(place).and_then(|rows| rows.first());
        let mut living = Vec::new();
        if counts {
            for row in answers.last().into_iter().flatten() {
                let held = holding(row)?;
                if held.token.standing(now) == Standing::Live {
                    living.push(held);
                }
            }
        }
        Ok(Restated {
            subject: first(0).map(subjects::now).transpose()?,
            client: first(1).map(clients::now).transpose()?,
            deployment: get(first(2).ok_or(Fault::Miscounted)?, 0)?,
            taken: get(first(3).ok_or(Fault::Miscounted)?, 0)?,
            maker: if maker.is_some() { first(5).map(|row| record(row, 0)).transpose()? } else { None },
            living,
        })
    }
}

/// Adds the row; its number and whether it is the first of its subject, or `None` where the client has changed since it was read.
async fn insert(
    transaction: &Transaction,
    issue: &Issue,
    subject: &subjects::SubjectNow,
    client: &clients::ClientNow,
    stamped: &Epochs,
    now: Timestamp,
) -> Result<Option<(u64, bool)>, Fault> {
    let row = [
        value(issue.id),
        value(issue.kind),
        value(subject.key),
        value(client.key),
        value(&issue.digest),
        value(issue.scheme),
        value(&issue.abilities),
        value(now),
        if_any(issue.expires_at),
        value(stamped.subject),
        value(stamped.client),
        value(stamped.deployment),
        if_any(issue.sealed.as_ref().map(|sealed| sealed.bytes.as_slice())),
        if_any(issue.sealed.as_ref().map(|sealed| sealed.key_id)),
        if_any(issue.name.as_ref()),
        value(&issue.metadata),
        if_any(issue.source.ip),
        if_any(issue.source.user_agent.as_ref()),
        value(client.version),
    ];
    let (key, name) = ([value(subject.key)], [value(&issue.subject)]);
    let mut steps: Vec<Step<'_>> = vec![(INSERT, &row)];
    if !subject.ever_issued {
        steps.push((FIRST_ISSUED, &key));
    }
    // Failed tries are forgotten where the password that proved right has led to a token, and nowhere before.
    if let Warrant::Password(_) = issue.warrant {
        steps.push((attempts::FORGET, &name));
    }
    let answers = transaction.fly(&steps).await.map_err(|(_, fault)| fault)?;
    let Some(added) = answers.first().and_then(|rows| rows.first()) else { return Ok(None) };
    let is_first = !subject.ever_issued && answers.get(1).is_some_and(|rows| !rows.is_empty());
    Ok(Some((get(added, 0)?, is_first)))
}

async fn sealed(transaction: &Transaction, number: u64) -> Result<Option<Sealed>, Fault> {
    let row = transaction.query_opt(SEALED, &[value(number)]).await?;
    row.map(|row| Ok(Sealed { key_id: get(&row, 0)?, bytes: get(&row, 1)? })).transpose()
}

// ── Ending ──────────────────────────────────────────────────────────────────────────────────────────────────────────

// The sealed secret goes at once: nobody will be handed it again. The digest is told as it is now: a rotation may have been waited
// for. Whom somebody else has ended meanwhile is passed over.
const END: &str = "
    UPDATE tokens SET revoked_at = $2, sealed = NULL, sealed_key = NULL
    WHERE number = ANY($1) AND revoked_at IS NULL RETURNING id, digest";

const RETIRED_OF: &str = "SELECT digest FROM retired WHERE token = ANY($1)";

/// Revokes tokens; tells which they were, and every digest that they answer to, for the change log.
pub(super) async fn end(
    transaction: &Transaction,
    numbers: Vec<i64>,
    now: Timestamp,
) -> Result<(Vec<TokenId>, Vec<TokenDigest>), Fault> {
    let (ending, retired) = ([Value::Integers(numbers.clone()), value(now)], [Value::Integers(numbers)]);
    let [ended, retired] = transaction.flight([(END, &ending), (RETIRED_OF, &retired)]).await?;
    let ids = ended.iter().map(|row| get(row, 0)).collect::<Result<_, _>>()?;
    let current = ended.iter().map(|row| get(row, 1));
    let digests = current.chain(retired.iter().map(|row| get(row, 0))).collect::<Result<_, _>>()?;
    Ok((ids, digests))
}

// ── Changing ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Another name for a token of this owner and kind.
pub(super) struct Renaming {
    pub(super) id: TokenId,
    pub(super) owner: SubjectId,
    pub(super) kind: Kind,
    pub(super) name: Option<TokenName>,
    pub(super) now: Timestamp,
}

const RENAME: &str = "UPDATE tokens SET name = $2 WHERE number = $1";

/// See [`counterfoil_core::TokenStore::rename`].
pub(super) async fn rename(transaction: Transaction, wanted: Arc<Renaming>) -> Result<Option<Token>, Fault> {
    let held = locked(&transaction, wanted.id).await?.filter(|held| {
        let token = &held.token;
        token.subject == wanted.owner && token.kind == wanted.kind && token.standing(wanted.now) == Standing::Live
    });
    let Some(held) = held else { return Ok(None) };
    // As it will be read back.
    let name = wanted.name.as_ref().and_then(|name| TokenName::cut(&printable(name.as_str())));
    transaction.execute(RENAME, &[value(held.token.number), if_any(name.as_ref())]).await?;
    Ok(Some(Token { name, ..held.token }))
}

const SET_EXPIRY: &str = "UPDATE tokens SET expires_at = $2 WHERE number = $1";

/// See [`counterfoil_core::TokenStore::renew`].
pub(super) async fn renew(
    transaction: Transaction,
    wanted: Arc<(TokenId, Option<Timestamp>, Timestamp)>,
) -> Result<RenewOutcome, Fault> {
    let (id, until, now) = *wanted;
    let Some(held) = locked(&transaction, id).await?.filter(|held| is_accepted(&held.token, now)) else {
        return Ok(RenewOutcome::Dead);
    };
    let expires_at = moved_on(held.token.expires_at, until);
    if expires_at != held.token.expires_at {
        transaction.execute(SET_EXPIRY, &[value(held.token.number), if_any(expires_at)]).await?;
    }
    Ok(RenewOutcome::Renewed(expires_at))
}

/// An expiry moved on to `until`, and never back.
fn moved_on(expires_at: Option<Timestamp>, until: Option<Timestamp>) -> Option<Timestamp> {
    expires_at.and_then(|end| until.map(|until| until.max(end)))
}

// In order of their numbers, as everybody locks tokens.
const LOCK_ALL: &str = "
    SELECT number FROM tokens WHERE id = ANY($1) ORDER BY number + 0 FOR NO KEY UPDATE";

const SET_EXPIRIES: &str = "
    UPDATE tokens SET expires_at = moved.expires_at FROM unnest($1, $2) AS moved (number, expires_at)
    WHERE tokens.number = moved.number";

const SEE: &str = "
    INSERT INTO last_seen (token, at, ip, agent)
    SELECT t.number, seen.at, seen.ip, seen.agent
    FROM unnest($1, $2, $3, $4) AS seen (id, at, ip, agent) JOIN tokens AS t ON t.id = seen.id
    ORDER BY t.number
    ON CONFLICT (token) DO UPDATE SET at = excluded.at, ip = excluded.ip, agent = excluded.agent
    WHERE excluded.at >= last_seen.at";

/// See [`counterfoil_core::TokenStore::touch`]. Set by set, however many there are.
pub(super) async fn touch(transaction: Transaction, wanted: Arc<(Vec<Touch>, Timestamp)>) -> Result<(), Fault> {
    let (touches, now) = &*wanted;
    slide(&transaction, touches, *now).await?;
    // Of several sightings of one token the latest stays, as it would one by one.
    let mut latest: BTreeMap<[u8; 16], &Sighting> = BTreeMap::new();
    for touch in touches {
        let known = latest.entry(*touch.id.as_bytes()).or_insert(&touch.seen);
        if touch.seen.at >= known.at {
            *known = &touch.seen;
        }
    }
    if latest.is_empty() {
        return Ok(());
    }
    let sources = || latest.values().map(|seen| &seen.source);
    let values = [
        Value::Ids(latest.keys().copied().map(Some).collect()),
        Value::Integers(latest.values().map(|seen| seen.at.millis()).collect()),
        Value::Texts(sources().map(|source| source.ip.map(|ip| ip.to_string().into())).collect()),
        Value::Texts(
            sources().map(|source| source.user_agent.as_ref().map(|agent| printable(agent.as_str()))).collect(),
        ),
    ];
    transaction.execute(SEE, &values).await?;
    Ok(())
}

/// Moves the expiries on that slide, each as [`renew`] does.
async fn slide(transaction: &Transaction, touches: &[Touch], now: Timestamp) -> Result<(), Fault> {
    let ids: Vec<Option<[u8; 16]>> =
        touches.iter().filter(|touch| touch.renew_until.is_some()).map(|touch| Some(*touch.id.as_bytes())).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let ids = [Value::Ids(ids)];
    let [_, rows] = transaction.flight([(LOCK_ALL, &ids), (&statements().by_ids, &ids)]).await?;
    let (mut numbers, mut expiries) = (Vec::new(), Vec::new());
    for row in &rows {
        let token = record(row, 0)?;
        if !is_accepted(&token, now) {
            continue;
        }
        let wanted = touches.iter().filter(|touch| touch.id == token.id && touch.renew_until.is_some());
        let end = wanted.fold(token.expires_at, |end, touch| moved_on(end, touch.renew_until));
        if let Some(end) = end
            && Some(end) != token.expires_at
        {
            numbers.push(signed(token.number));
            expiries.push(end.millis());
        }
    }
    if !numbers.is_empty() {
        transaction.execute(SET_EXPIRIES, &[Value::Integers(numbers), Value::Integers(expiries)]).await?;
    }
    Ok(())
}

// ── Rotating ────────────────────────────────────────────────────────────────────────────────────────────────────────

const IN_GRACE: &str = "
    SELECT EXISTS (
        SELECT 1 FROM retired WHERE digest = $1 AND token = (SELECT number FROM tokens WHERE id = $2)
            AND NOT taken_back AND grace_until > $3
    )";

const DIGEST_KNOWN: &str = "
    SELECT EXISTS (SELECT 1 FROM tokens WHERE digest = $1) OR EXISTS (SELECT 1 FROM retired WHERE digest = $1)";

const SUCCEED: &str = "
    UPDATE tokens SET digest = $2, scheme = 'native', sealed = $3, sealed_key = $4, unsettled = true WHERE number = $1";

const RETIRE: &str = "
    INSERT INTO retired (digest, scheme, token, grace_until, taken_back, retired_at) VALUES ($1, $2, $3, $4, $5, $6)";

// To the beginning of time and not to now, and those that have run out too: a clock that is set back must not open it
// again.
const END_GRACES: &str = "UPDATE retired SET grace_until = 0 WHERE token = $1 AND grace_until > 0 RETURNING digest";

/// See [`counterfoil_core::TokenStore::rotate`].
pub(super) async fn rotate(
    transaction: Transaction,
    wanted: Arc<(Rotation, Timestamp)>,
) -> Result<RotateOutcome, Fault> {
    let (rotation, now) = &*wanted;
    let now = *now;
    let id = [value(rotation.id)];
    let grace = [value(&rotation.presented), value(rotation.id), value(now)];
    let successor = [value(&rotation.successor)];
    let steps = [(LOCK, id.as_slice()), (&statements().by_id, &id), (IN_GRACE, &grace), (DIGEST_KNOWN, &successor)];
    let [_, held, in_grace, known] = transaction.flight(steps).await?;
    let held = held.first().map(holding).transpose()?;
    let Some(held) = held.filter(|held| is_accepted(&held.token, now)) else { return Ok(RotateOutcome::Dead) };
    let presents_current = held.digest == rotation.presented;
    let is_in_grace: bool = get(in_grace.first().ok_or(Fault::Miscounted)?, 0)?;
    if !(presents_current || held.unsettled && is_in_grace) {
        return Ok(RotateOutcome::Dead);
    }
    if get(known.first().ok_or(Fault::Miscounted)?, 0)? {
        return Ok(RotateOutcome::Taken);
    }
    let mut digests = vec![held.digest];
    let number = [value(held.token.number)];
    let retire = [
        value(&held.digest),
        value(held.scheme),
        value(held.token.number),
        value(if presents_current { rotation.grace_until } else { Timestamp::MIN }),
        value(!presents_current),
        value(now),
    ];
    let succeed = [
        value(held.token.number),
        value(&rotation.successor),
        if_any(rotation.sealed.as_ref().map(|sealed| sealed.bytes.as_slice())),
        if_any(rotation.sealed.as_ref().map(|sealed| sealed.key_id)),
    ];
    if presents_current {
        // One way back, not a chain of them: presenting a successor is using it.
        let [ended, _, _] = transaction.flight([(END_GRACES, &number), (RETIRE, &retire), (SUCCEED, &succeed)]).await?;
        for row in &ended {
            digests.push(get(row, 0)?);
        }
    } else {
        digests.push(rotation.presented);
        transaction.flight([(RETIRE, retire.as_slice()), (SUCCEED, &succeed)]).await?;
    }
    transaction.log(Changed::Tokens(digests), now);
    Ok(RotateOutcome::Rotated(Box::new(held.token)))
}

const SETTLE: &str = "
    UPDATE tokens SET unsettled = false WHERE id = $1 AND digest = $2 AND unsettled
        AND NOT (SELECT deleted FROM clients WHERE key = tokens.client)
    RETURNING number";

/// See [`counterfoil_core::TokenStore::settle_rotation`].
pub(super) async fn settle_rotation(
    transaction: Transaction,
    wanted: Arc<(TokenId, TokenDigest, Timestamp)>,
) -> Result<(), Fault> {
    let (id, successor, now) = &*wanted;
    let Some(settled) = transaction.query_opt(SETTLE, &[value(*id), value(successor)]).await? else { return Ok(()) };
    let number: i64 = get(&settled, 0)?;
    let ended = transaction.query(END_GRACES, &[value(number)]).await?;
    let digests = ended.iter().map(|row| get(row, 0)).collect::<Result<_, _>>()?;
    transaction.log(Changed::Tokens(digests), *now);
    Ok(())
}

const ADOPT: &str = "
    UPDATE tokens SET digest = $4, scheme = 'plaintext'
    WHERE id = $1 AND scheme = $2 AND digest = $3 AND revoked_at IS NULL";

/// A secret whose digest is to be another.
pub(super) struct Adoption {
    pub(super) id: TokenId,
    pub(super) scheme: DigestScheme,
    pub(super) was: TokenDigest,
    pub(super) digest: TokenDigest,
    pub(super) now: Timestamp,
}

/// See [`counterfoil_core::TokenStore::adopt`].
pub(super) async fn adopt(transaction: Transaction, wanted: Arc<Adoption>) -> Result<bool, Fault> {
    let known = transaction.query_one(DIGEST_KNOWN, &[value(&wanted.digest)]).await?;
    if get(&known, 0)? {
        return Ok(false);
    }
    let values = [value(wanted.id), value(wanted.scheme), value(&wanted.was), value(&wanted.digest)];
    let adopted = transaction.execute(ADOPT, &values).await? == 1;
    if adopted {
        transaction.log(Changed::Tokens(vec![wanted.was]), wanted.now);
    }
    Ok(adopted)
}
