//! The embedded store: [`SqliteStore`], one SQLite database in a data directory.
//!
//! One server and any number of command lines use it at the same time, from different processes. What one of them has
//! committed the others see at once; nothing of what decides an answer is kept in memory here but the parsed records of
//! clients, and those only as of the version that the same look-up reads.
//!
//! Look-ups run on the thread that polls their future, for a few microseconds and without waiting. Everything else runs
//! on threads of the store's own; no runtime is needed, any executor will do.

mod accounts;
mod attempts;
mod audit;
mod backup;
mod changes;
mod checkpoint;
mod clients;
mod column;
#[cfg(feature = "postgres")]
pub(crate) mod copying;
mod fault;
#[cfg(test)]
mod faults;
mod import;
mod inspection;
mod mail;
mod matching;
mod opening;
mod place;
mod purge;
mod readers;
mod reserve;
mod restore;
mod schema;
mod sealing;
mod subjects;
mod tally;
mod tokens;
#[cfg(all(test, unix))]
mod upgrades;
mod witness;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use counterfoil_core::account::{Account, AccountChange, Credentials, LoginName, Role as AccountRole};
use counterfoil_core::attempts::{Tries, TryLater};
use counterfoil_core::audit::Entry;
use counterfoil_core::client::{Client, ClientId, ClientName};
use counterfoil_core::import::{
    AccountOutcome, ImportStore, ImportedAccount, LedgerRow, SourceKey, TokenOutcome, TokenRow,
};
use counterfoil_core::link::{Link, Purpose as LinkPurpose};
use counterfoil_core::mail::{MailId, MailOrder, Registration, Waiting};
use counterfoil_core::password::{Cost, EncodedPassword};
use counterfoil_core::seal::Sealed;
use counterfoil_core::secret::{Candidates, CheckKey, DigestScheme, TokenDigest};
use counterfoil_core::store::{
    AccountQuery, AuditQuery, Bump, Changed, Changes, Claimed, ClientOutcome, ClientUpdate, ExpiringQuery, Formats,
    Found, Issue, IssueOutcome, NewClient, News, NumberedEntry, RenewOutcome, RevokeOutcome, RotateOutcome, Rotation,
    SealedSecret, TokenFilter, TokenQuery, Touch,
};
use counterfoil_core::token::{Kind, Token, TokenId, TokenName};
use counterfoil_core::username::{Distinct, Username};
use counterfoil_core::{
    AccountStore, Answer, AuditStore, Email, MailStore, Subject, SubjectId, SubjectState, Timestamp, TokenStore,
};
use rusqlite::Connection;

pub use self::backup::{BackupError, Contents, Progress};
use self::column::{Column, get};
use self::fault::Fault;
pub use self::inspection::{Inspection, LeftBehind, Pages, inspect};
use self::matching::Stretch;
use self::opening::Opened;
pub use self::opening::{Absent, OpenError, OpenOptions, Rewound, Role};
use self::place::Place;
use self::readers::{Lane, Reader, Readers};
pub use self::restore::{Issued, Present, Restore, RestoreError, Restored, restore};
use self::schema::Schema;
use self::tokens::{Renaming, Revocation};
use self::writer::{Purpose, Writer};

/// Tokens, accounts and the audit log in one SQLite database.
///
/// Dropping it closes it as [`SqliteStore::close`] does.
///
/// ```
/// use counterfoil_store::{OpenError, OpenOptions, SqliteStore};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let data = directory.path().join("data");
/// let store = SqliteStore::open(&data, &OpenOptions::serve())?;
///
/// // One server to a data directory; command lines come and go beside it.
/// assert!(matches!(SqliteStore::open(&data, &OpenOptions::serve()), Err(OpenError::Served(_))));
/// SqliteStore::open(&data, &OpenOptions::beside())?.close();
/// store.close();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SqliteStore {
    place: Arc<Place>,
    busy_timeout: Duration,
    readers: Arc<Readers>,
    writer: Writer,
    /// How far a revocation in batches has come.
    revoked_up_to: matching::Progress,
}

impl SqliteStore {
    /// Opens the data directory, making it and the database in it where `options` say so.
    ///
    /// Takes a few milliseconds after an orderly stop. After any other, a server reads the whole file once to look for
    /// damage.
    ///
    /// # Errors
    /// [`OpenError`], whose text says what to do. A file that cannot be trusted is never replaced by an empty one.
    pub fn open(data_directory: &Path, options: &OpenOptions) -> Result<SqliteStore, OpenError> {
        SqliteStore::open_with(data_directory, options, schema::OURS)
    }

    /// As the program does that knows `schema`.
    fn open_with(data_directory: &Path, options: &OpenOptions, schema: Schema) -> Result<SqliteStore, OpenError> {
        let opened: Opened = opening::open(data_directory, options, schema)?;
        let place = Arc::clone(&opened.place);
        let threads = |error| OpenError::Unusable(data_directory.to_owned(), error);
        let readers = Readers::start(Arc::clone(&opened.place), options.busy_timeout).map_err(threads)?;
        let writer =
            Writer::start(opened, Arc::clone(&readers), options.role, options.busy_timeout).map_err(threads)?;
        let (busy_timeout, revoked_up_to) = (options.busy_timeout, matching::Progress::default());
        Ok(SqliteStore { place, busy_timeout, readers, writer, revoked_up_to })
    }

    /// Finishes what has been asked for, writes everything back into the database file and lets the data directory go.
    /// Blocks until that is done. What is asked for afterwards fails; closing again does nothing.
    pub fn close(&self) {
        self.readers.close();
        self.writer.close();
    }

    /// Copies everything to `file`, which must not be there, while others read and write: one file, for its owner alone,
    /// holding what was committed when it began. It is made under the name of a draft, `FILE.draft-…`, read through, and
    /// on disk when this returns. Blocks, for as long as the disk takes; `progress` hears of it every few megabytes.
    ///
    /// The key ring is not in it, because it is not in the database. Nothing serves from a copy before an operator has
    /// said how: see [`restore`].
    ///
    /// # Errors
    /// [`BackupError`]; then there is nothing at `file`, unless there was before.
    pub fn backup(&self, file: &Path, mut progress: impl FnMut(Progress)) -> Result<Contents, BackupError> {
        let source = self.place.reading(self.busy_timeout);
        let source = source.map_err(|error| BackupError::Sqlite(file.to_owned(), error))?;
        backup::write(&source, file, &backup::draft_of(file), self.busy_timeout, &mut progress)
    }

    /// How large the write-ahead log is. It is written back and begun anew all the time, unless somebody reads in it
    /// without end; the log of the process tells of that from 128 MiB on.
    pub fn write_ahead_bytes(&self) -> u64 {
        self.place.write_ahead_bytes()
    }

    /// One transition, on the writing thread.
    fn write<'a, T: Send + 'static>(
        &'a self,
        doing: &'static str,
        purpose: Purpose,
        work: impl Fn(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Answer<'a, T> {
        Box::pin(self.writer.submit(doing, purpose, work))
    }

    /// A look-up, on this thread if that needs no waiting.
    fn look_up<'a, A, T>(
        &'a self,
        doing: &'static str,
        wanted: &'a A,
        read: fn(&Reader, &A) -> Result<T, Fault>,
    ) -> Answer<'a, T>
    where
        A: Clone + Send + Sync + 'static,
        T: Send + 'static,
    {
        Box::pin(self.readers.look_up(doing, wanted, read))
    }

    /// Anything longer, on a reading thread.
    fn read<'a, T: Send + 'static>(
        &'a self,
        doing: &'static str,
        read: impl Fn(&Reader) -> Result<T, Fault> + Send + 'static,
    ) -> Answer<'a, T> {
        Box::pin(self.readers.elsewhere(doing, Lane::Pages, read))
    }

    /// What may read a table to its end, where no user's request waits behind it.
    fn search<'a, T: Send + 'static>(
        &'a self,
        doing: &'static str,
        read: impl Fn(&Reader) -> Result<T, Fault> + Send + 'static,
    ) -> Answer<'a, T> {
        Box::pin(self.readers.elsewhere(doing, Lane::Searches, read))
    }

    /// One stretch of a search for live tokens, on a reading thread.
    fn look_for<'a>(
        &'a self,
        doing: &'static str,
        filter: &TokenFilter,
        now: Timestamp,
        after: u64,
        wanted: usize,
    ) -> Answer<'a, Stretch> {
        let filter = filter.clone();
        self.search(doing, move |reader| matching::look_for(reader, &filter, now, after, wanted))
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.close();
    }
}

const CHECK_KEYS: &str = "SELECT key FROM check_keys ORDER BY number DESC";

const HAS_DEFAULT_CLIENT: &str = "SELECT EXISTS (SELECT 1 FROM clients WHERE name = ?1 AND deleted = 0)";

// A seek each in indexes that are empty where nothing was imported. A secret in its grace is looked up, too.
const HAS_SCHEME: &str = "
    SELECT EXISTS (SELECT 1 FROM tokens WHERE scheme = ?1 AND scheme <> 'native')
        OR EXISTS (SELECT 1 FROM retired WHERE scheme = ?1 AND scheme <> 'native')";

fn formats(connection: &Connection) -> Result<Formats, Fault> {
    let mut statement = connection.prepare_cached(CHECK_KEYS)?;
    let check_keys = statement.query_map([], |row| get(row, 0))?.collect::<Result<_, _>>()?;
    Ok(Formats { check_keys, imported: imported(connection)? })
}

fn imported(connection: &Connection) -> Result<Vec<DigestScheme>, Fault> {
    let mut imported = Vec::new();
    for scheme in DigestScheme::IMPORTED {
        if connection.prepare_cached(HAS_SCHEME)?.query_row([Column(scheme)], |row| row.get(0))? {
            imported.push(scheme);
        }
    }
    Ok(imported)
}

fn has_default_client(connection: &Connection, name: &ClientName) -> Result<bool, Fault> {
    Ok(connection.prepare_cached(HAS_DEFAULT_CLIENT)?.query_row([Column(name)], |row| row.get(0))?)
}

const KEEP_CHECK_KEY: &str = "INSERT INTO check_keys (key) SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM check_keys)";

/// A commit that changes nothing but is one: it needs the lock, room in the log and a disk that syncs.
const PROVE: &str = "UPDATE deployment SET commits = commits";

impl TokenStore for SqliteStore {
    fn open<'a>(&'a self, key: &'a CheckKey, default_client: &'a NewClient) -> Answer<'a, Formats> {
        Box::pin(async move {
            const DOING: &str = "opening it";
            let name = default_client.name.clone();
            let ready = self
                .look_up(DOING, &name, |reader, name| {
                    let formats = formats(&reader.connection)?;
                    let complete = !formats.check_keys.is_empty() && has_default_client(&reader.connection, name)?;
                    Ok(complete.then_some(formats))
                })
                .await?;
            if let Some(formats) = ready {
                // Every start but the first ends here, without a write.
                return Ok(formats);
            }
            let (key, default_client) = (key.clone(), default_client.clone());
            self.write(DOING, Purpose::Ordinary, move |connection| {
                connection.prepare_cached(KEEP_CHECK_KEY)?.execute([Column(&key)])?;
                if !has_default_client(connection, &default_client.name)? {
                    clients::create(connection, &default_client)?;
                }
                formats(connection)
            })
            .await
        })
    }

    fn ready(&self) -> Answer<'_, ()> {
        self.write("seeing whether it can commit", Purpose::Ordinary, |connection| {
            connection.prepare_cached(PROVE)?.execute([])?;
            Ok(())
        })
    }

    fn imported(&self) -> Answer<'_, Vec<DigestScheme>> {
        self.read("looking for imported tokens", |reader| imported(&reader.connection))
    }

    fn find<'a>(&'a self, candidates: &'a Candidates) -> Answer<'a, Option<Found>> {
        self.look_up("looking a token up by its digest", candidates, tokens::find)
    }

    fn token<'a>(&'a self, id: TokenId, owner: Option<&'a SubjectId>) -> Answer<'a, Option<Token>> {
        Box::pin(async move {
            let wanted = (id, owner.cloned());
            self.look_up("looking a token up by its id", &wanted, tokens::token).await
        })
    }

    fn list<'a>(&'a self, query: &'a TokenQuery) -> Answer<'a, Vec<Token>> {
        let query = query.clone();
        let TokenFilter { subject, issued_before, used_before, ip, .. } = &query.filter;
        // A subject's are found in an index and judged one by one; everybody's may be many before one is meant.
        let is_rare = subject.is_none() && (issued_before.is_some() || used_before.is_some() || ip.is_some());
        let read = move |reader: &Reader| tokens::list(reader, &query);
        if is_rare { self.search("looking for tokens", read) } else { self.read("listing tokens", read) }
    }

    fn expiring<'a>(&'a self, query: &'a ExpiringQuery) -> Answer<'a, Vec<Token>> {
        let query = *query;
        self.search("looking for tokens that expire", move |reader| tokens::expiring(reader, &query))
    }

    fn count_matching<'a>(&'a self, filter: &'a TokenFilter, now: Timestamp) -> Answer<'a, u64> {
        Box::pin(async move {
            // Each stretch in a snapshot of its own: numbers never change, so no token is counted twice.
            let (mut count, mut after) = (0, Some(0));
            while let Some(from) = after {
                let stretch = self.look_for("counting tokens", filter, now, from, usize::MAX).await?;
                count += stretch.numbers.len() as u64;
                after = stretch.reached;
            }
            Ok(count)
        })
    }

    fn subject<'a>(&'a self, id: &'a SubjectId) -> Answer<'a, Option<Subject>> {
        self.look_up("looking a subject up", id, subjects::subject)
    }

    fn open_subject<'a>(&'a self, id: &'a SubjectId, _now: Timestamp) -> Answer<'a, Subject> {
        Box::pin(async move {
            const DOING: &str = "making a subject";
            // Rows of subjects never go, so one that is there need not be made.
            if let Some(subject) = self.look_up(DOING, id, subjects::subject).await? {
                return Ok(subject);
            }
            let id = id.clone();
            self.write(DOING, Purpose::Ordinary, move |connection| subjects::open(connection, &id)).await
        })
    }

    fn set_subject_state<'a>(
        &'a self,
        id: &'a SubjectId,
        state: SubjectState,
        now: Timestamp,
    ) -> Answer<'a, Option<Subject>> {
        let id = id.clone();
        let purpose = match state {
            SubjectState::Active => Purpose::Ordinary,
            SubjectState::Disabled | SubjectState::Buried => Purpose::Revoking,
        };
        self.write("setting the state of a subject", purpose, move |connection| {
            subjects::set_state(connection, &id, state, now)
        })
    }

    fn subject_changed<'a>(&'a self, id: &'a SubjectId, now: Timestamp) -> Answer<'a, ()> {
        let changed = Changed::Subject(id.clone());
        self.write("noting a change of an account", Purpose::Revoking, move |connection| {
            changes::log(connection, &changed, now)
        })
    }

    fn bump_epoch<'a>(&'a self, bump: &'a Bump, now: Timestamp) -> Answer<'a, bool> {
        let bump = bump.clone();
        self.write("bumping an epoch", Purpose::Revoking, move |connection| subjects::bump(connection, &bump, now))
    }

    fn issue<'a>(&'a self, issue: &'a Issue, now: Timestamp) -> Answer<'a, IssueOutcome> {
        let issue = issue.clone();
        self.write("issuing a token", Purpose::Ordinary, move |connection| tokens::issue(connection, &issue, now))
    }

    fn rename<'a>(
        &'a self,
        id: TokenId,
        owner: &'a SubjectId,
        kind: Kind,
        name: Option<TokenName>,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        let renaming = Renaming { id, owner: owner.clone(), kind, name };
        self.write("renaming a token", Purpose::Ordinary, move |connection| tokens::rename(connection, &renaming, now))
    }

    fn renew(&self, id: TokenId, until: Option<Timestamp>, now: Timestamp) -> Answer<'_, RenewOutcome> {
        self.write("renewing a token", Purpose::Ordinary, move |connection| tokens::renew(connection, id, until, now))
    }

    fn rotate<'a>(&'a self, rotation: &'a Rotation, now: Timestamp) -> Answer<'a, RotateOutcome> {
        let rotation = rotation.clone();
        self.write("rotating a token", Purpose::Ordinary, move |connection| tokens::rotate(connection, &rotation, now))
    }

    fn settle_rotation<'a>(&'a self, id: TokenId, successor: &'a TokenDigest, now: Timestamp) -> Answer<'a, ()> {
        let successor = *successor;
        self.write("ending the grace of a rotated secret", Purpose::Revoking, move |connection| {
            tokens::settle_rotation(connection, id, &successor, now)
        })
    }

    fn adopt<'a>(
        &'a self,
        id: TokenId,
        was: (DigestScheme, TokenDigest),
        digest: &'a TokenDigest,
        now: Timestamp,
    ) -> Answer<'a, bool> {
        let digest = *digest;
        self.write("adopting an imported secret", Purpose::Ordinary, move |connection| {
            tokens::adopt(connection, id, (was.0, &was.1), &digest, now)
        })
    }

    fn revoke<'a>(
        &'a self,
        id: TokenId,
        owner: Option<&'a SubjectId>,
        kind: Option<Kind>,
        now: Timestamp,
    ) -> Answer<'a, RevokeOutcome> {
        let revocation = Revocation { id, owner: owner.cloned(), kind };
        self.write("revoking a token", Purpose::Revoking, move |connection| {
            tokens::revoke(connection, &revocation, now)
        })
    }

    fn revoke_matching<'a>(&'a self, filter: &'a TokenFilter, batch: u32, now: Timestamp) -> Answer<'a, u64> {
        const DOING: &str = "revoking tokens by what they have in common";
        Box::pin(async move {
            let from = self.revoked_up_to.of(filter, now);
            loop {
                let (mut numbers, mut after) = (Vec::new(), Some(from));
                while let Some(reached) = after
                    && numbers.len() < batch as usize
                {
                    let wanted = batch as usize - numbers.len();
                    let mut stretch = self.look_for(DOING, filter, now, reached, wanted).await?;
                    numbers.append(&mut stretch.numbers);
                    after = stretch.reached;
                }
                let count = numbers.len() as u64;
                let meant = filter.clone();
                let revoked = count == 0
                    || self
                        .write(DOING, Purpose::Revoking, move |connection| {
                            matching::revoke(connection, &numbers, &meant, now)
                        })
                        .await?;
                if revoked {
                    self.revoked_up_to.note(filter, now, after);
                    return Ok(count);
                }
            }
        })
    }

    fn touch<'a>(&'a self, touches: &'a [Touch], now: Timestamp) -> Answer<'a, ()> {
        let touches = touches.to_vec();
        self.write("noting where tokens were seen", Purpose::Ordinary, move |connection| {
            tokens::touch(connection, &touches, now)
        })
    }

    fn purge(&self, dead_since: Timestamp, batch: u32) -> Answer<'_, u64> {
        self.write("purging what is dead", Purpose::Ordinary, move |connection| {
            purge::purge(connection, dead_since, batch)
        })
    }

    // Ordinary: on a full disk a login is refused before its password is looked at, since its token could not be issued
    // either, and whoever guesses cannot use up what is held in reserve for revocations.
    fn count_try<'a>(&'a self, subject: Option<&'a SubjectId>, now: Timestamp) -> Answer<'a, Result<(), TryLater>> {
        let subject = subject.cloned();
        self.write("counting a try at a password", Purpose::Ordinary, move |connection| {
            attempts::count_try(connection, subject.as_ref(), now)
        })
    }

    fn give_back_try<'a>(&'a self, subject: Option<&'a SubjectId>) -> Answer<'a, ()> {
        let subject = subject.cloned();
        self.write("giving a try at a password back", Purpose::Ordinary, move |connection| {
            attempts::give_back_try(connection, subject.as_ref())
        })
    }

    fn forget_tries<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, ()> {
        let subject = subject.clone();
        self.write("forgetting failed logins", Purpose::Ordinary, move |connection| {
            attempts::forget(connection, &subject)
        })
    }

    fn tries<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, Tries> {
        self.look_up("looking failed logins up", subject, attempts::tries)
    }

    fn sealed_otherwise<'a>(&'a self, key_id: u32, after: u64, limit: u32) -> Answer<'a, Vec<SealedSecret>> {
        self.search("listing sealed secrets", move |reader| sealing::sealed_otherwise(reader, key_id, after, limit))
    }

    fn sealed_samples(&self, now: Timestamp) -> Answer<'_, Vec<SealedSecret>> {
        self.read("looking for sealed secrets", move |reader| sealing::sealed_samples(reader, now))
    }

    fn reseal<'a>(&'a self, was: &'a SealedSecret, sealed: &'a Sealed) -> Answer<'a, bool> {
        let (was, sealed) = (was.clone(), sealed.clone());
        self.write("sealing a secret anew", Purpose::Ordinary, move |connection| {
            sealing::reseal(connection, &was, &sealed)
        })
    }

    fn client<'a>(&'a self, name: &'a ClientName) -> Answer<'a, Option<Arc<Client>>> {
        self.look_up("looking a client up", name, clients::client)
    }

    fn clients(&self) -> Answer<'_, Vec<Arc<Client>>> {
        self.read("listing clients", clients::clients)
    }

    fn create_client<'a>(&'a self, client: &'a NewClient) -> Answer<'a, Option<Arc<Client>>> {
        let client = client.clone();
        self.write("making a client", Purpose::Ordinary, move |connection| clients::create(connection, &client))
    }

    fn update_client<'a>(&'a self, update: &'a ClientUpdate, now: Timestamp) -> Answer<'a, ClientOutcome> {
        let update = update.clone();
        self.write("changing a client", Purpose::Ordinary, move |connection| clients::update(connection, &update, now))
    }

    fn delete_client<'a>(&'a self, id: ClientId, now: Timestamp) -> Answer<'a, bool> {
        self.write("deleting a client", Purpose::Revoking, move |connection| clients::delete(connection, id, now))
    }

    fn changes(&self, after: u64, limit: u32) -> Answer<'_, Changes> {
        Box::pin(async move {
            // A few rows at most, mostly none, and somebody waits for it.
            self.look_up("reading the change log", &(after, limit), changes::changes).await
        })
    }

    fn news(&self) -> News<'_> {
        Box::pin(std::future::pending())
    }

    fn is_shared(&self) -> bool {
        false // one process serves from a directory; the command lines beside it answer for no token
    }
}

impl ImportStore for SqliteStore {
    fn import_accounts<'a>(
        &'a self,
        accounts: &'a [ImportedAccount],
        now: Timestamp,
    ) -> Answer<'a, Vec<AccountOutcome>> {
        let accounts = accounts.to_vec();
        self.write("importing accounts", Purpose::Ordinary, move |connection| {
            import::accounts(connection, &accounts, now)
        })
    }

    fn import_tokens<'a>(&'a self, tokens: &'a [TokenRow], now: Timestamp) -> Answer<'a, Vec<TokenOutcome>> {
        let tokens = tokens.to_vec();
        self.write("importing tokens", Purpose::Ordinary, move |connection| import::tokens(connection, &tokens, now))
    }

    fn import_link<'a>(&'a self, link: &'a Link) -> Answer<'a, bool> {
        self.keep_link(link)
    }

    fn ledger(&self, after: Option<SourceKey>, limit: u32) -> Answer<'_, Vec<LedgerRow>> {
        self.search("reading what was imported", move |reader| import::ledger(reader, after, limit))
    }

    fn forget_ledger(&self, batch: u32) -> Answer<'_, u64> {
        self.write("finishing an import", Purpose::Ordinary, move |connection| import::forget(connection, batch))
    }
}

impl AccountStore for SqliteStore {
    fn create<'a>(
        &'a self,
        account: &'a Account,
        password: &'a EncodedPassword,
        distinct: Distinct,
    ) -> Answer<'a, bool> {
        let (account, password) = (account.clone(), password.clone());
        self.write("making an account", Purpose::Ordinary, move |connection| {
            accounts::create(connection, &account, &password, distinct)
        })
    }

    fn has_lookalike<'a>(&'a self, name: &'a Username) -> Answer<'a, bool> {
        self.look_up("looking for a name that looks alike", name, accounts::has_lookalike)
    }

    fn named<'a>(&'a self, name: &'a LoginName) -> Answer<'a, Vec<Credentials>> {
        self.look_up("looking an account up by name", name, accounts::named)
    }

    fn account<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, Option<Credentials>> {
        self.look_up("looking an account up", subject, accounts::account)
    }

    fn accounts<'a>(&'a self, query: &'a AccountQuery) -> Answer<'a, Vec<Account>> {
        let query = query.clone();
        self.search("listing accounts", move |reader| accounts::accounts(reader, &query))
    }

    fn has_role(&self, role: AccountRole) -> Answer<'_, bool> {
        self.read("looking for a role", move |reader| accounts::has_role(reader, role))
    }

    fn greatest_number(&self) -> Answer<'_, u64> {
        self.read("looking for the last number", accounts::greatest_number)
    }

    fn password_costs(&self) -> Answer<'_, Vec<Cost>> {
        // Every login asks: a few seeks, which must not wait behind long lists.
        self.look_up("collecting the costs of passwords", &(), |reader, ()| accounts::password_costs(reader))
    }

    fn set_password<'a>(
        &'a self,
        subject: &'a SubjectId,
        expected: Option<&'a EncodedPassword>,
        password: &'a EncodedPassword,
    ) -> Answer<'a, bool> {
        let (subject, expected, password) = (subject.clone(), expected.cloned(), password.clone());
        self.write("setting a password", Purpose::Ordinary, move |connection| {
            accounts::set_password(connection, &subject, expected.as_ref(), &password)
        })
    }

    fn change<'a>(&'a self, subject: &'a SubjectId, changes: &'a [AccountChange]) -> Answer<'a, Option<Account>> {
        let (subject, changes) = (subject.clone(), changes.to_vec());
        // Disabling ends tokens in the subject's row and is written here, too: refused on a full disk, it would be
        // answered as a failure after it had been done.
        let disables = changes.iter().any(|change| matches!(change, AccountChange::Active(false)));
        let purpose = if disables { Purpose::Revoking } else { Purpose::Ordinary };
        self.write("changing an account", purpose, move |connection| accounts::change(connection, &subject, &changes))
    }

    fn delete<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, bool> {
        let subject = subject.clone();
        self.write("deleting an account", Purpose::Revoking, move |connection| accounts::delete(connection, &subject))
    }
}

impl MailStore for SqliteStore {
    fn post<'a>(
        &'a self,
        orders: &'a [MailOrder],
        registration: Option<&'a Registration>,
        most: u64,
    ) -> Answer<'a, bool> {
        let (orders, registration) = (orders.to_vec(), registration.cloned());
        self.write("queueing a mail", Purpose::Ordinary, move |connection| {
            mail::post(connection, &orders, registration.as_ref(), most)
        })
    }

    fn claim(&self, now: Timestamp, until: Timestamp, limit: u32) -> Answer<'_, Claimed> {
        Box::pin(async move {
            // Not a commit twice a second for nothing.
            if !self.look_up("looking for mails that are due", &now, mail::is_any_due).await? {
                return Ok(Claimed::default());
            }
            let claim = move |connection: &Connection| mail::claim(connection, now, until, limit);
            self.write("taking mails to send", Purpose::Ordinary, claim).await
        })
    }

    fn done(&self, id: MailId) -> Answer<'_, ()> {
        self.write("removing a mail from the queue", Purpose::Ordinary, move |connection| mail::done(connection, id))
    }

    fn postpone<'a>(&'a self, id: MailId, next_try_at: Timestamp, error: &'a str) -> Answer<'a, ()> {
        let error = error.to_owned();
        self.write("postponing a mail", Purpose::Ordinary, move |connection| {
            mail::postpone(connection, id, next_try_at, &error)
        })
    }

    fn waiting_count(&self) -> Answer<'_, u64> {
        self.read("counting mails", mail::waiting_count)
    }

    fn waiting(&self, limit: u32) -> Answer<'_, Vec<Waiting>> {
        self.read("listing mails", move |reader| mail::waiting(reader, limit))
    }

    fn keep_link<'a>(&'a self, link: &'a Link) -> Answer<'a, bool> {
        let link = link.clone();
        self.write("keeping a link", Purpose::Ordinary, move |connection| mail::keep_link(connection, &link))
    }

    fn link<'a>(&'a self, digest: &'a TokenDigest) -> Answer<'a, Option<Link>> {
        self.look_up("looking a link up", digest, mail::link)
    }

    fn has_link<'a>(&'a self, subject: &'a SubjectId, purpose: LinkPurpose, now: Timestamp) -> Answer<'a, bool> {
        let wanted = (subject.clone(), purpose, now);
        self.read("looking for a link", move |reader| mail::has_link(reader, &wanted))
    }

    fn use_link<'a>(
        &'a self,
        digest: &'a TokenDigest,
        purpose: LinkPurpose,
        now: Timestamp,
    ) -> Answer<'a, Option<Link>> {
        let digest = *digest;
        self.write("using a link", Purpose::Ordinary, move |connection| {
            mail::use_link(connection, &digest, purpose, now)
        })
    }

    // With room in the reserve, as what it goes with ends tokens.
    fn drop_links<'a>(&'a self, subject: &'a SubjectId, purposes: &'a [LinkPurpose]) -> Answer<'a, ()> {
        let (subject, purposes) = (subject.clone(), purposes.to_vec());
        self.write("removing links", Purpose::Revoking, move |connection| {
            mail::drop_links(connection, &subject, &purposes)
        })
    }

    fn registration<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, Option<Registration>> {
        self.look_up("looking a registration up", subject, mail::registration)
    }

    fn registrations_of<'a>(&'a self, email: &'a Email, limit: u32) -> Answer<'a, Vec<Registration>> {
        let email = email.clone();
        self.read("looking for registrations", move |reader| mail::registrations_of(reader, &email, limit))
    }

    fn forget_registration<'a>(&'a self, subject: &'a SubjectId) -> Answer<'a, ()> {
        let subject = subject.clone();
        self.write("forgetting a registration", Purpose::Ordinary, move |connection| {
            mail::forget_registration(connection, &subject)
        })
    }

    fn forget_expired(&self, now: Timestamp, batch: u32) -> Answer<'_, u64> {
        self.write("forgetting links that have expired", Purpose::Ordinary, move |connection| {
            mail::forget_expired(connection, now, batch)
        })
    }

    fn advance_reminders(&self, from: Option<Timestamp>, until: Timestamp) -> Answer<'_, bool> {
        self.write("noting who has been reminded", Purpose::Ordinary, move |connection| {
            mail::advance_reminders(connection, from, until)
        })
    }

    fn reminded_until(&self) -> Answer<'_, Option<Timestamp>> {
        self.look_up("looking up who has been reminded", &(), |reader, ()| mail::reminded_until(reader))
    }
}

impl AuditStore for SqliteStore {
    // Ordinary: what is written here grows with what strangers do, and the reserve is for revocations.
    fn append<'a>(&'a self, entries: &'a [Entry]) -> Answer<'a, ()> {
        let entries = entries.to_vec();
        self.write("writing into the audit log", Purpose::Ordinary, move |connection| {
            audit::append(connection, &entries)
        })
    }

    fn entries<'a>(&'a self, query: &'a AuditQuery) -> Answer<'a, Vec<NumberedEntry>> {
        let query = query.clone();
        self.search("reading the audit log", move |reader| audit::entries(reader, &query))
    }

    fn forget(&self, removed_before: Timestamp, anonymous_before: Timestamp, batch: u32) -> Answer<'_, u64> {
        self.write("forgetting old entries of the audit log", Purpose::Ordinary, move |connection| {
            audit::forget(connection, removed_before, anonymous_before, batch)
        })
    }
}
