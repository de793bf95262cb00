//! Tokens in Redis or Valkey: [`RedisStore`], for those who want what a Redis of theirs gives already.
//!
//! Tokens, subjects, clients, epochs, check keys, failed tries and the change log are kept here; accounts, mails, the audit log and
//! imports live in another store. Its promise is that of [`counterfoil_core::store`] **until a failover**: Redis copies what was
//! acknowledged to its replicas afterwards, so a promoted replica may not know of the newest writes. What of that is mended and what is
//! not: `docs/redis.md`.
//!
//! Every method is one script, which the server runs with nothing beside it. A list or a revocation by a filter that looks at more than
//! [`LOOKS`] tokens is several, each of them atomic. Every script begins by seeing that the server is a primary (see
//! `scripts/base.lua`); no answer is taken from a replica.
//!
//! # What is kept where
//!
//! Every key begins with the prefix in braces (`{cf}:`), so that all of them are in one slot. Whole numbers are written in decimal, times
//! as milliseconds since 1970 in UTC, records in MessagePack. Nothing of it is the text of a secret, and no key outlives what it protects
//! for long: the server's own expiry lies [`Address`]' `keep_dead_days` behind the stored one, which alone decides.
//!
//! | key | kind | what it is |
//! |---|---|---|
//! | `m` | hash | `id` and `tag`: which life of the store this is, random; `of`: the [tally](crate::tally) of its tokens; `ep`, `at`: everybody's epoch and when it was bumped; `head`: number of the newest change; `num`: newest number of a token; `cnt`: tokens in `n` |
//! | `k` | list | the keys of the check, newest first |
//! | `t:`id | string | a token: `n`umber, `k`ind, `s`ubject, `c`lient, na`m`e, `a`bilities, `j`son metadata, `i`ssued, `e`xpires, `r`evoked, `es` `ec` `ed` the epochs stamped, `d`igest, sc`h`eme (absent: ours), `u`nsettled rotation, `x` sealed secret with its key, `f` `w` address and agent first seen, `l` `y` `z` when, address and agent last seen, `q` digests given up with scheme, when, end of grace, taken back; `g`: tags of the subject's row and of the store that it was issued under |
//! | `d:`digest | string | the id of the token that has it, or had it |
//! | `s:`subject | hash | `st`ate (a, d, b) and since when (`at`); `le` `la` its epoch and when it was bumped, `ke` `ka` that of its keys; `ev` if it ever had a token; `g` random tag of this row; `cnt` tokens in `i:` |
//! | `i:`subject | sorted set | its tokens by number |
//! | `n` | sorted set | all tokens by number |
//! | `e` | sorted set | tokens that expire, by expiry and number |
//! | `r` | sorted set | revoked tokens by when |
//! | `q` | sorted set | digest and id of secrets given up, by when |
//! | `x` | sorted set | tokens with a sealed secret, by number |
//! | `b` | sorted set | what the purge has to look through, by when: `l`, `k`, `x` and a subject, `c`, `g` and a client, `d` for everybody |
//! | `f` | hash | how many secrets, current or given up, are of each imported scheme |
//! | `c:`id | hash | a client: `ver`sion, `ep`och, `at`, `name`, `pol`icy, `may` log in, `md` metadata, `ca` when it was made |
//! | `cn` | hash | clients' ids by name |
//! | `l` | list | the change log: tag, when, kind, and what a node needs to end it again after a failover |
//! | `a:`subject | hash | failed tries; that of nobody (`a:`) is read and written for names that nobody has |
//! | `news` | channel | says that there is a new change |
//!
//! # What is absent is refused
//!
//! A token is found through its digest, its record, its subject, its client and `m`; whichever is lost (`FLUSHALL`, eviction), the token is
//! as if it had never been. A row that is made anew after a loss gets another tag, so that what its epochs had ended stays ended. An index
//! that has lost entries is an error for whatever would have to be complete: a cap, a list, a revocation by a filter.

mod address;
mod examination;
mod fault;
mod limits;
mod link;
mod remembered;
mod script;
mod values;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use counterfoil_core::Timestamp;
use counterfoil_core::attempts::{Tries, TryLater};
use counterfoil_core::client::{AtCap, Client, ClientId, ClientName, Reissue};
use counterfoil_core::entropy::Entropy;
use counterfoil_core::seal::Sealed;
use counterfoil_core::secret::{Candidates, CheckKey, DigestScheme, TokenDigest};
use counterfoil_core::store::{
    Answer, Bump, CHANGES_KEPT, Changes, ClientOutcome, ClientUpdate, ExpiringQuery, Formats, Found, Issue,
    IssueOutcome, NewClient, News, RenewOutcome, RevokeOutcome, RotateOutcome, Rotation, SealedSecret, StoreError,
    TokenFilter, TokenQuery, TokenStore, Touch, Warrant,
};
use counterfoil_core::subject::{Subject, SubjectId, SubjectState};
use counterfoil_core::token::{Kind, Token, TokenId, TokenName};
use tokio::runtime::Handle;

pub use self::address::{Address, NotAnAddress};
pub use self::examination::{Finding, Severity};
use self::fault::Fault;
pub use self::limits::{LimitsAddress, RedisLimits};
use self::link::{Args, Link};
use self::script::Script;
use self::values::{Arg, Reply};
use crate::tally::Tally;

/// So many tokens are looked at by one script, so that none keeps the server from everybody else for long.
pub const LOOKS: u32 = 500;

/// So many calls of [`TokenStore::changes`] apart, the Sentinels are asked whether the primary is still the one that is spoken to.
const CALLS_PER_CHECK: u32 = 4;

/// Keeps tokens in Redis or Valkey. See the module's own words.
pub struct RedisStore {
    inner: Arc<Inner>,
    runtime: Handle,
}

#[derive(Debug)]
struct Inner {
    link: Arc<Link>,
    /// Clients as they were read last: parsed again only where their rows have changed.
    clients: Mutex<HashMap<ClientId, (redis::Value, Arc<Client>)>>,
    polls: AtomicU32,
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisStore").field(&self.inner.link.address).finish()
    }
}

type Found_ = Result<Option<Found>, Fault>;

impl RedisStore {
    /// Connects to the primary at `address`. Everything that is asked runs on the tokio runtime that this is called on.
    ///
    /// # Errors
    /// When no primary answers in time.
    pub async fn connect(address: Address, entropy: Arc<dyn Entropy>) -> Result<RedisStore, StoreError> {
        let store = RedisStore::at(address, entropy);
        store.examine().await?;
        Ok(store)
    }

    /// What of the settings of the server at `address` endangers tokens, as [`RedisStore::examine`] has it; of one that could not be used,
    /// too: a replica is a finding.
    ///
    /// # Errors
    /// When none answers in time.
    pub async fn examine_at(address: Address, entropy: Arc<dyn Entropy>) -> Result<Vec<Finding>, StoreError> {
        RedisStore::at(address, entropy).examine().await
    }

    fn at(address: Address, entropy: Arc<dyn Entropy>) -> RedisStore {
        let link = Arc::new(Link::new(address, entropy));
        let inner = Inner { link, clients: Mutex::default(), polls: AtomicU32::default() };
        RedisStore { inner: Arc::new(inner), runtime: Handle::current() }
    }

    /// The tally of the tokens that are kept here, for who does not know yet whether they are theirs; `None` where nothing was ever kept.
    pub(crate) fn half(&self) -> Answer<'_, Option<Half>> {
        self.ask(&script::HALF, ANY, Args::new(), |_, reply| {
            let Some(half) = reply.if_any() else { return Ok(None) };
            let mut half = half.list()?;
            Ok(Some(Half { tally: half.next()?.tally()?, is_cut: half.next()?.int()? == 1 }))
        })
    }

    /// Begins a store by that tally where there is none; does nothing where there is one.
    pub(crate) fn begin(&self, tally: Tally) -> Answer<'_, ()> {
        self.ask(&script::BEGIN, ANY, Args::new().arg(tally.as_bytes()), |_, _| Ok(()))
    }

    /// Answers of the tokens of this tally alone, for good: where others are found, by whatever exchange, every answer is an error.
    /// Where the server was emptied, what is opened there again has this tally.
    pub(crate) fn answer_of(&self, tally: Tally) {
        self.inner.link.ask_about(tally);
    }

    /// What of the server's settings endangers tokens: see `docs/redis.md`. Empty where nothing does.
    pub fn examine(&self) -> Answer<'_, Vec<Finding>> {
        self.answer("examining the server", |inner| async move {
            let mut connection = inner.link.aside().await?;
            let asked = examination::examine(&mut connection, inner.link.address.wait_replicas);
            tokio::time::timeout(inner.link.address.timeout, asked).await.map_err(|_| Fault::Late)?
        })
    }

    /// Carries out `work` on the store's runtime, from the first poll on and whether or not anybody still waits.
    fn answer<T, F>(&self, doing: &'static str, work: impl FnOnce(Arc<Inner>) -> F + Send + 'static) -> Answer<'_, T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        Box::pin(async move {
            let inner = Arc::clone(&self.inner);
            let done = self.runtime.spawn(async move { work(inner).await }).await;
            done.unwrap_or(Err(Fault::Stopped)).map_err(|fault| StoreError::new(doing, fault))
        })
    }

    /// The answer of one script, as `read` reads it.
    fn ask<T: Send + 'static>(
        &self,
        script: &'static LazyLock<Script>,
        now: Timestamp,
        args: Args,
        read: impl FnOnce(&Inner, Reply) -> Result<T, Fault> + Send + 'static,
    ) -> Answer<'_, T> {
        self.answer(script.doing, move |inner| async move {
            let reply = inner.link.run(script, now, &args).await?;
            read(&inner, reply)
        })
    }
}

/// What is kept here of a tally.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Half {
    pub(crate) tally: Tally,
    /// Whether accounts somewhere have it, too. If not, nobody has asked yet: the store is older than tallies, or goes with accounts of a
    /// host's own.
    pub(crate) is_cut: bool,
}

/// What a script answers that says where to go on from, whether that is the end, and what it found.
struct Page<T> {
    last: Vec<u8>,
    done: bool,
    found: T,
}

impl Inner {
    async fn page<T>(
        &self,
        script: &'static Script,
        now: Timestamp,
        args: &Args,
        read: impl FnOnce(Reply) -> Result<T, Fault>,
    ) -> Result<Page<T>, Fault> {
        let mut page = self.link.run(script, now, args).await?.list()?;
        Ok(Page { last: page.next()?.bytes()?, done: page.next()?.int()? == 1, found: read(page.next()?)? })
    }

    fn client(&self, reply: Reply) -> Result<Arc<Client>, Fault> {
        let row = reply.into_value();
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = values::first_client_id(&row)
            && let Some((known, client)) = clients.get(&id)
            && *known == row
        {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(Reply::from(row.clone()).client()?);
        clients.insert(client.id, (row, Arc::clone(&client)));
        Ok(client)
    }

    fn found(&self, reply: Reply) -> Found_ {
        let Some(row) = reply.if_any() else { return Ok(None) };
        let mut row = row.list()?;
        Ok(Some(Found {
            id: row.next()?.token_id()?,
            kind: row.next()?.kind()?,
            subject: row.next()?.subject_id()?,
            subject_state: row.next()?.state()?,
            client: self.client(row.next()?)?,
            abilities: row.next()?.abilities()?,
            issued_at: row.next()?.time()?,
            expires_at: row.next()?.time_if_any()?,
            revoked_at: row.next()?.time_if_any()?,
            stamped: values::epochs(&mut row)?,
            current: values::epochs(&mut row)?,
            digest: row.next()?.digest()?,
            presented: values::presented(&mut row)?,
        }))
    }

    async fn purge(&self, dead_since: Timestamp, batch: u64, changes_kept: u64) -> Result<u64, Fault> {
        let (mut removed, mut behind, mut outlived) = (0, b"0".to_vec(), Vec::new());
        loop {
            let args = Args::new().number(dead_since.millis()).number(batch - removed).number(LOOKS);
            let args = args.number(changes_kept).arg(&behind).arg(&outlived);
            let mut answer = self.link.run(&script::PURGE, dead_since, &args).await?.list()?;
            removed = (removed + answer.next()?.count()?).min(batch);
            match answer.next()?.if_any() {
                Some(last) if removed < batch => (behind, outlived) = (last.bytes()?, answer.next()?.bytes()?),
                Some(_) | None => return Ok(removed),
            }
        }
    }
}

fn issue_args(issue: &Issue) -> Args {
    let (warrant, named) = match issue.warrant {
        Warrant::Password(epoch) => ("p", epoch.0.to_string().into_bytes()),
        Warrant::Token(id) => ("t", id.as_bytes().to_vec()),
        Warrant::Operator => ("o", Vec::new()),
    };
    let at_cap = issue.cap.map(|cap| match cap.at_cap {
        AtCap::Refuse => "r",
        AtCap::EvictOldest => "e",
    });
    let reissue = match issue.reissue {
        Reissue::New => "n",
        Reissue::Replace => "r",
        Reissue::Same => "s",
    };
    Args::new()
        .arg(issue.id.as_bytes())
        .arg(values::kind_word(issue.kind))
        .arg(issue.subject.as_str())
        .arg(issue.client.as_bytes())
        .number(issue.client_version)
        .arg(warrant)
        .arg(named)
        .if_any(issue.name.as_ref().map(TokenName::as_str))
        .arg(issue.abilities.to_string())
        .arg(values::metadata_word(&issue.metadata))
        .time_if_any(issue.expires_at)
        .arg(issue.digest.as_bytes())
        .arg(values::scheme_word(issue.scheme))
        .if_any(issue.sealed.as_ref().map(|sealed| sealed.key_id.to_string()))
        .if_any(issue.sealed.as_ref().map(|sealed| &sealed.bytes))
        .if_any(issue.source.ip.map(|ip| ip.to_string()))
        .if_any(issue.source.user_agent.as_ref().map(|agent| agent.as_str()))
        .if_any(issue.cap.map(|cap| cap.limit.to_string()))
        .if_any(at_cap)
        .arg(reissue)
}

fn policy_json(policy: &counterfoil_core::Policy, doing: &'static str) -> Result<String, StoreError> {
    serde_json::to_string(policy).map_err(|error| StoreError::new(doing, error))
}

/// Id, name, policy, whether anyone may log in, metadata, when it was made.
fn client_args(client: &NewClient, doing: &'static str) -> Result<Args, StoreError> {
    Ok(Args::new()
        .arg(client.id.as_bytes())
        .arg(client.name.as_str())
        .arg(policy_json(&client.policy, doing)?)
        .number(u8::from(client.allow_login))
        .arg(values::metadata_word(&client.metadata))
        .number(client.created_at.millis()))
}

/// What cannot even be asked.
fn failed<'a, T: Send + 'a>(error: StoreError) -> Answer<'a, T> {
    Box::pin(std::future::ready(Err(error)))
}

/// For what depends on no instant.
const ANY: Timestamp = Timestamp::MIN;

impl TokenStore for RedisStore {
    fn open<'a>(&'a self, key: &'a CheckKey, default_client: &'a NewClient) -> Answer<'a, Formats> {
        let client = match client_args(default_client, script::OPEN.doing) {
            Ok(client) => client,
            Err(error) => return failed(error),
        };
        let args = |keys: &[CheckKey]| -> Args {
            let keys_args = keys.iter().fold(Args::new().number(keys.len()), |args, key| args.arg(key.as_bytes()));
            [keys_args, client.clone()].concat()
        };
        let first = args(std::slice::from_ref(key));
        let own = client.clone();
        self.answer(script::OPEN.doing, move |inner| async move {
            let mut answer = inner.link.run(&script::OPEN, ANY, &first).await?.list()?;
            let check_keys: Vec<CheckKey> = answer.next()?.list()?.map(Reply::check_key).collect::<Result<_, _>>()?;
            let imported = schemes(answer.next()?)?;
            // Where the server is emptied while this runs, tokens of these keys have been handed out.
            let count = Args::new().number(check_keys.len());
            let again = check_keys.iter().fold(count, |args, key| args.arg(key.as_bytes()));
            inner.link.opened_with([again, own].concat());
            Ok(Formats { check_keys, imported })
        })
    }

    fn ready(&self) -> Answer<'_, ()> {
        self.ask(&script::READY, ANY, Args::new(), |_, _| Ok(()))
    }

    fn imported(&self) -> Answer<'_, Vec<DigestScheme>> {
        self.ask(&script::IMPORTED, ANY, Args::new(), |_, reply| schemes(reply))
    }

    fn find<'a>(&'a self, candidates: &'a Candidates) -> Answer<'a, Option<Found>> {
        let pair =
            |args: Args, digest: &TokenDigest, scheme| args.arg(digest.as_bytes()).arg(values::scheme_word(scheme));
        let args = match candidates {
            Candidates::Native(digest) => pair(Args::new(), digest, DigestScheme::Native),
            Candidates::Imported(digests) => {
                digests.iter().fold(Args::new(), |args, (scheme, digest)| pair(args, digest, *scheme))
            }
        };
        self.ask(&script::FIND, ANY, args, Inner::found)
    }

    fn token<'a>(&'a self, id: TokenId, owner: Option<&'a SubjectId>) -> Answer<'a, Option<Token>> {
        let args = Args::new().arg(id.as_bytes()).if_any(owner.map(SubjectId::as_str));
        self.ask(&script::TOKEN, ANY, args, |_, reply| reply.if_any().map(Reply::token).transpose())
    }

    fn list<'a>(&'a self, query: &'a TokenQuery) -> Answer<'a, Vec<Token>> {
        let query = query.clone();
        self.answer(script::LIST.doing, move |inner| async move {
            let (mut tokens, mut behind) = (Vec::new(), query.after.to_string().into_bytes());
            let limit = query.limit as usize;
            loop {
                let args = Args::new().arg(&behind).number(limit - tokens.len()).number(LOOKS);
                let args = args.time_if_any(query.live_at).filter(&query.filter);
                let now = query.live_at.unwrap_or(ANY);
                let mut page = inner.page(&script::LIST, now, &args, Reply::tokens).await?;
                tokens.append(&mut page.found);
                behind = page.last;
                if page.done || tokens.len() >= limit {
                    return Ok(tokens);
                }
            }
        })
    }

    fn expiring<'a>(&'a self, query: &'a ExpiringQuery) -> Answer<'a, Vec<Token>> {
        let query = *query;
        self.answer(script::EXPIRING.doing, move |inner| async move {
            // Those of the expiry that the page before ended at are passed over by their numbers.
            let (from, behind) = match query.after {
                Some((at, number)) if at >= query.from => (at, Some(number.to_string())),
                Some(_) | None => (query.from, None),
            };
            let (mut tokens, mut passed) = (Vec::new(), 0_u64);
            let limit = query.limit as usize;
            loop {
                let args = Args::new().number(from.millis()).number(query.until.millis()).number(passed).number(LOOKS);
                let args = args.if_any(behind.as_ref());
                let mut page = inner.link.run(&script::EXPIRING, ANY, &args).await?.list()?;
                let done = page.next()?.int()? == 1;
                tokens.append(&mut page.next()?.tokens()?);
                passed += u64::from(LOOKS);
                if done || tokens.len() >= limit {
                    tokens.truncate(limit);
                    return Ok(tokens);
                }
            }
        })
    }

    fn count_matching<'a>(&'a self, filter: &'a TokenFilter, now: Timestamp) -> Answer<'a, u64> {
        let filter = filter.clone();
        self.answer(script::COUNT.doing, move |inner| async move {
            let (mut count, mut behind) = (0, b"0".to_vec());
            loop {
                let args = Args::new().arg(&behind).number(LOOKS).filter(&filter);
                let page = inner.page(&script::COUNT, now, &args, Reply::count).await?;
                count += page.found;
                behind = page.last;
                if page.done {
                    return Ok(count);
                }
            }
        })
    }

    fn subject<'a>(&'a self, id: &'a SubjectId) -> Answer<'a, Option<Subject>> {
        let subject = id.clone();
        self.ask(&script::SUBJECT, ANY, Args::new().arg(id.as_str()), move |_, reply| {
            reply.if_any().map(|row| row.subject(&subject)).transpose()
        })
    }

    fn open_subject<'a>(&'a self, id: &'a SubjectId, now: Timestamp) -> Answer<'a, Subject> {
        let subject = id.clone();
        self.ask(&script::OPEN_SUBJECT, now, Args::new().arg(id.as_str()), move |_, reply| reply.subject(&subject))
    }

    fn set_subject_state<'a>(
        &'a self,
        id: &'a SubjectId,
        state: SubjectState,
        now: Timestamp,
    ) -> Answer<'a, Option<Subject>> {
        let subject = id.clone();
        let args = Args::new().arg(id.as_str()).arg(values::state_word(state));
        self.ask(&script::SET_SUBJECT_STATE, now, args, move |_, reply| {
            reply.if_any().map(|row| row.subject(&subject)).transpose()
        })
    }

    fn subject_changed<'a>(&'a self, id: &'a SubjectId, now: Timestamp) -> Answer<'a, ()> {
        self.ask(&script::SUBJECT_CHANGED, now, Args::new().arg(id.as_str()), |_, _| Ok(()))
    }

    fn bump_epoch<'a>(&'a self, bump: &'a Bump, now: Timestamp) -> Answer<'a, bool> {
        let (script, args) = match bump {
            Bump::Subject { id, keys_too, keep } => {
                let args = Args::new().arg(id.as_str()).number(u8::from(*keys_too));
                (&script::BUMP_SUBJECT, args.if_any(keep.as_ref().map(TokenId::as_bytes)))
            }
            Bump::Client(id) => (&script::BUMP_CLIENT, Args::new().arg(id.as_bytes())),
            Bump::Deployment => (&script::BUMP_DEPLOYMENT, Args::new()),
        };
        self.ask(script, now, args, |_, reply| Ok(reply.int()? == 1))
    }

    fn issue<'a>(&'a self, issue: &'a Issue, now: Timestamp) -> Answer<'a, IssueOutcome> {
        self.ask(&script::ISSUE, now, issue_args(issue), |_, reply| {
            let mut answer = reply.list()?;
            Ok(match answer.next()?.bytes()?.as_slice() {
                b"issued" => IssueOutcome::Issued {
                    token: Box::new(answer.next()?.token()?),
                    first_of_subject: answer.next()?.int()? == 1,
                    ended: answer.next()?.list()?.map(Reply::token_id).collect::<Result<_, _>>()?,
                },
                b"same" => IssueOutcome::Same {
                    token: Box::new(answer.next()?.token()?),
                    sealed: values::sealed(&mut answer)?,
                    digest: answer.next()?.digest()?,
                },
                b"cap" => IssueOutcome::CapReached,
                b"void" => IssueOutcome::WarrantVoid,
                b"inactive" => IssueOutcome::SubjectInactive,
                b"client" => IssueOutcome::ClientChanged,
                b"taken" => IssueOutcome::Taken,
                _ => return Err(Fault::Unreadable("what became of an order")),
            })
        })
    }

    fn rename<'a>(
        &'a self,
        id: TokenId,
        owner: &'a SubjectId,
        kind: Kind,
        name: Option<TokenName>,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        let args = Args::new().arg(id.as_bytes()).arg(owner.as_str()).arg(values::kind_word(kind));
        let args = args.if_any(name.as_ref().map(TokenName::as_str));
        self.ask(&script::RENAME, now, args, |_, reply| reply.if_any().map(Reply::token).transpose())
    }

    fn renew(&self, id: TokenId, until: Option<Timestamp>, now: Timestamp) -> Answer<'_, RenewOutcome> {
        let args = Args::new().arg(id.as_bytes()).time_if_any(until);
        self.ask(&script::RENEW, now, args, |_, reply| {
            let Some(renewed) = reply.if_any() else { return Ok(RenewOutcome::Dead) };
            Ok(RenewOutcome::Renewed(renewed.list()?.next()?.time_if_any()?))
        })
    }

    fn rotate<'a>(&'a self, rotation: &'a Rotation, now: Timestamp) -> Answer<'a, RotateOutcome> {
        let args = Args::new()
            .arg(rotation.id.as_bytes())
            .arg(rotation.presented.as_bytes())
            .arg(rotation.successor.as_bytes())
            .if_any(rotation.sealed.as_ref().map(|sealed| sealed.key_id.to_string()))
            .if_any(rotation.sealed.as_ref().map(|sealed| &sealed.bytes))
            .number(rotation.grace_until.millis());
        self.ask(&script::ROTATE, now, args, |_, reply| {
            let mut answer = reply.list()?;
            Ok(match answer.next()?.bytes()?.as_slice() {
                b"rotated" => RotateOutcome::Rotated(Box::new(answer.next()?.token()?)),
                b"dead" => RotateOutcome::Dead,
                b"taken" => RotateOutcome::Taken,
                _ => return Err(Fault::Unreadable("what became of a rotation")),
            })
        })
    }

    fn settle_rotation<'a>(&'a self, id: TokenId, successor: &'a TokenDigest, now: Timestamp) -> Answer<'a, ()> {
        let args = Args::new().arg(id.as_bytes()).arg(successor.as_bytes());
        self.ask(&script::SETTLE, now, args, |_, _| Ok(()))
    }

    fn adopt<'a>(
        &'a self,
        id: TokenId,
        (scheme, was): (DigestScheme, TokenDigest),
        digest: &'a TokenDigest,
        now: Timestamp,
    ) -> Answer<'a, bool> {
        let args = Args::new().arg(id.as_bytes()).arg(values::scheme_word(scheme)).arg(was.as_bytes());
        let args = args.arg(digest.as_bytes()).arg(values::scheme_word(DigestScheme::PlainText));
        self.ask(&script::ADOPT, now, args, |_, reply| Ok(reply.int()? == 1))
    }

    fn revoke<'a>(
        &'a self,
        id: TokenId,
        owner: Option<&'a SubjectId>,
        kind: Option<Kind>,
        now: Timestamp,
    ) -> Answer<'a, RevokeOutcome> {
        let args = Args::new().arg(id.as_bytes()).if_any(owner.map(SubjectId::as_str));
        self.ask(&script::REVOKE, now, args.if_any(kind.map(values::kind_word)), |_, reply| {
            let mut answer = reply.list()?;
            Ok(match answer.next()?.bytes()?.as_slice() {
                b"revoked" => RevokeOutcome::Revoked(Box::new(answer.next()?.token()?)),
                b"already" => RevokeOutcome::AlreadyRevoked,
                b"unknown" => RevokeOutcome::Unknown,
                _ => return Err(Fault::Unreadable("what became of a revocation")),
            })
        })
    }

    fn revoke_matching<'a>(&'a self, filter: &'a TokenFilter, batch: u32, now: Timestamp) -> Answer<'a, u64> {
        let (filter, batch) = (filter.clone(), u64::from(batch));
        self.answer(script::REVOKE_MATCHING.doing, move |inner| async move {
            let (mut revoked, mut behind) = (0, b"0".to_vec());
            loop {
                let args = Args::new().arg(&behind).number(batch - revoked).number(LOOKS).filter(&filter);
                let page = inner.page(&script::REVOKE_MATCHING, now, &args, Reply::count).await?;
                revoked = (revoked + page.found).min(batch);
                behind = page.last;
                if page.done || revoked == batch {
                    return Ok(revoked);
                }
            }
        })
    }

    fn touch<'a>(&'a self, touches: &'a [Touch], now: Timestamp) -> Answer<'a, ()> {
        if touches.is_empty() {
            return Box::pin(std::future::ready(Ok(())));
        }
        let args = touches.iter().fold(Args::new(), |args, touch| {
            args.arg(touch.id.as_bytes())
                .number(touch.seen.at.millis())
                .if_any(touch.seen.source.ip.map(|ip| ip.to_string()))
                .if_any(touch.seen.source.user_agent.as_ref().map(|agent| agent.as_str()))
                .time_if_any(touch.renew_until)
        });
        self.ask(&script::TOUCH, now, args, |_, _| Ok(()))
    }

    fn purge(&self, dead_since: Timestamp, batch: u32) -> Answer<'_, u64> {
        self.answer(script::PURGE.doing, move |inner| async move {
            inner.purge(dead_since, batch.into(), CHANGES_KEPT).await
        })
    }

    fn count_try<'a>(&'a self, subject: Option<&'a SubjectId>, now: Timestamp) -> Answer<'a, Result<(), TryLater>> {
        let args = Args::new().if_any(subject.map(SubjectId::as_str));
        let args = args.number(Tries::FREE).number(Tries::MOST).number(Tries::LONGEST_DELAY_SECONDS);
        self.ask(&script::COUNT_TRY, now, args, |_, reply| {
            Ok(match reply.count()? {
                0 => Ok(()),
                seconds => Err(TryLater { seconds }),
            })
        })
    }

    fn give_back_try<'a>(&'a self, subject: Option<&'a SubjectId>) -> Answer<'a, ()> {
        let args = Args::new().if_any(subject.map(SubjectId::as_str));
        self.ask(&script::GIVE_BACK_TRY, ANY, args, |_, _| Ok(()))
    }

    fn forget_tries<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, ()> {
        self.ask(&script::FORGET_TRIES, ANY, Args::new().arg(subject.as_str()), |_, _| Ok(()))
    }

    fn tries<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, Tries> {
        self.ask(&script::TRIES, ANY, Args::new().arg(subject.as_str()), |_, reply| {
            let mut row = reply.list()?;
            let (Some(failed), Some(last)) = (row.next()?.if_any(), row.next()?.if_any()) else {
                return Ok(Tries::default());
            };
            let failed = u32::try_from(failed.count()?).unwrap_or(u32::MAX);
            Ok(Tries { failed, last: last.time()? })
        })
    }

    fn sealed_otherwise<'a>(&'a self, key_id: u32, after: u64, limit: u32) -> Answer<'a, Vec<SealedSecret>> {
        self.answer(script::SEALED_OTHERWISE.doing, move |inner| async move {
            let (mut secrets, mut behind) = (Vec::new(), after.to_string().into_bytes());
            let limit = limit as usize;
            loop {
                let args = Args::new().arg(&behind).number(limit - secrets.len()).number(LOOKS).number(key_id);
                let mut page = inner.page(&script::SEALED_OTHERWISE, ANY, &args, sealed_secrets).await?;
                secrets.append(&mut page.found);
                behind = page.last;
                if page.done || secrets.len() >= limit {
                    return Ok(secrets);
                }
            }
        })
    }

    fn sealed_samples(&self, now: Timestamp) -> Answer<'_, Vec<SealedSecret>> {
        self.answer(script::SEALED_SAMPLES.doing, move |inner| async move {
            let (mut samples, mut behind) = (std::collections::BTreeMap::new(), b"0".to_vec());
            loop {
                let args = Args::new().arg(&behind).number(LOOKS);
                let page = inner.page(&script::SEALED_SAMPLES, now, &args, sealed_secrets).await?;
                samples.extend(page.found.into_iter().map(|secret| (secret.sealed.key_id, secret)));
                behind = page.last;
                if page.done {
                    return Ok(samples.into_values().collect());
                }
            }
        })
    }

    fn reseal<'a>(&'a self, was: &'a SealedSecret, sealed: &'a Sealed) -> Answer<'a, bool> {
        let args = Args::new()
            .arg(was.token.as_bytes())
            .arg(was.digest.as_bytes())
            .number(was.sealed.key_id)
            .arg(&was.sealed.bytes)
            .number(sealed.key_id)
            .arg(&sealed.bytes);
        self.ask(&script::RESEAL, ANY, args, |_, reply| Ok(reply.int()? == 1))
    }

    fn client<'a>(&'a self, name: &'a ClientName) -> Answer<'a, Option<Arc<Client>>> {
        self.ask(&script::CLIENT, ANY, Args::new().arg(name.as_str()), |inner, reply| {
            reply.if_any().map(|row| inner.client(row)).transpose()
        })
    }

    fn clients(&self) -> Answer<'_, Vec<Arc<Client>>> {
        self.ask(&script::CLIENTS, ANY, Args::new(), |inner, reply| {
            let mut clients: Vec<_> = reply.list()?.map(|row| inner.client(row)).collect::<Result<_, _>>()?;
            clients.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            Ok(clients)
        })
    }

    fn create_client<'a>(&'a self, client: &'a NewClient) -> Answer<'a, Option<Arc<Client>>> {
        match client_args(client, script::CREATE_CLIENT.doing) {
            Ok(args) => self.ask(&script::CREATE_CLIENT, ANY, args, |inner, reply| {
                reply.if_any().map(|row| inner.client(row)).transpose()
            }),
            Err(error) => failed(error),
        }
    }

    fn update_client<'a>(&'a self, update: &'a ClientUpdate, now: Timestamp) -> Answer<'a, ClientOutcome> {
        let policy = match policy_json(&update.policy, script::UPDATE_CLIENT.doing) {
            Ok(policy) => policy,
            Err(error) => return failed(error),
        };
        let args = Args::new().arg(update.id.as_bytes()).number(update.version).arg(update.name.as_str());
        let args = args.arg(policy).number(u8::from(update.allow_login));
        self.ask(&script::UPDATE_CLIENT, now, args, |inner, reply| {
            let mut answer = reply.list()?;
            Ok(match answer.next()?.bytes()?.as_slice() {
                b"updated" => ClientOutcome::Updated(inner.client(answer.next()?)?),
                b"changed" => ClientOutcome::Changed,
                b"taken" => ClientOutcome::NameTaken,
                _ => return Err(Fault::Unreadable("what became of a client")),
            })
        })
    }

    fn delete_client<'a>(&'a self, id: ClientId, now: Timestamp) -> Answer<'a, bool> {
        let args = Args::new().arg(id.as_bytes());
        self.answer(script::DELETE_CLIENT.doing, move |inner| async move {
            let was_there = inner.link.run(&script::DELETE_CLIENT, now, &args).await?.int()? == 1;
            if was_there {
                // Its tokens are as gone as it is. What is left of their rows a later purge finds too, if this is cut short.
                inner.purge(Timestamp::MIN, u64::from(u32::MAX), u64::from(u32::MAX)).await?;
            }
            Ok(was_there)
        })
    }

    fn changes(&self, after: u64, limit: u32) -> Answer<'_, Changes> {
        let args = Args::new().number(after).number(limit);
        self.answer(script::CHANGES.doing, move |inner| async move {
            if inner.polls.fetch_add(1, Ordering::Relaxed) % CALLS_PER_CHECK == CALLS_PER_CHECK - 1 {
                let inner = Arc::clone(&inner);
                drop(tokio::spawn(async move { inner.link.check_primary().await }));
            }
            let mut answer = match inner.link.run(&script::CHANGES, ANY, &args).await {
                // Nobody has opened a store here yet: nothing has changed, and it is so late.
                Err(fault) if fault.is_of_emptiness() && !inner.link.was_opened() => {
                    let clock = Some(inner.link.date().await?);
                    return Ok(Changes { incarnation: [0; 16], head: 0, rows: Vec::new(), clock });
                }
                answer => answer?.list()?,
            };
            let incarnation = values::incarnation(&answer.next()?.text()?)?;
            let (head, first, clock) = (answer.next()?.count()?, answer.next()?.count()?, answer.next()?.time()?);
            let mut rows = Vec::new();
            for (row, number) in answer.next()?.list()?.zip(first..) {
                let (change, endings) = row.change(number)?;
                inner.link.remember(endings);
                rows.push(change);
            }
            Ok(Changes { incarnation, head, rows, clock: Some(clock) })
        })
    }

    fn news(&self) -> News<'_> {
        Box::pin(self.inner.link.news())
    }

    fn is_shared(&self) -> bool {
        true
    }
}

fn schemes(reply: Reply) -> Result<Vec<DigestScheme>, Fault> {
    let mut schemes: Vec<DigestScheme> = reply.list()?.map(Reply::scheme).collect::<Result<_, _>>()?;
    schemes.sort_unstable();
    Ok(schemes)
}

fn sealed_secrets(reply: Reply) -> Result<Vec<SealedSecret>, Fault> {
    reply.list()?.map(Reply::sealed_secret).collect()
}
