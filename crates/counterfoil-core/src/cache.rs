//! The authentication cache: [`Cache`], from which most requests are answered.
//!
//! It holds positive answers only, and each for as long as three things say so: the lease (see [`crate::lease`]), the clock
//! (expiry is judged on every hit), and that nothing has ended the token meanwhile. A hit takes no lock that a writer
//! holds, allocates nothing and asks nobody.
//!
//! - A token has one line of 64 bytes (`cache/lines.rs`); the subject and what it shares with others are held once.
//! - What ends one token clears its line. What ends all tokens of a subject, of a client or of everybody is one store to
//!   the shared record that their lines name; the lines are cleared when somebody comes by.
//! - A fill begins before the store is asked, and is put in only if no change that was applied since names the token: else
//!   a look-up from before a revocation would bring the token back after it. The store must answer such a look-up by at
//!   least what its change log said before, which its contract has it do.
//! - It does not grow. Where all places that a token may take are taken, it takes that of the one that was not seen for
//!   longest; no subject holds more than [`LINES_PER_SUBJECT`], so that nobody's many keys push everybody else out.

mod cohorts;
mod lines;
#[cfg(all(test, counterfoil_model))]
mod model;
mod subjects;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroUsize;

use self::cohorts::{Cohorts, Roll};
use self::lines::{Entry, FOR_EVER, Lines, SEEN};
use self::subjects::{Register, Subjects};
use self::sync::{AtomicU64, Mutex, Ordering};
use crate::client::{Client, ClientId};
use crate::clock::{BootTime, Now, Timestamp};
use crate::entropy::{Entropy, EntropyError};
use crate::lease::{Doubt, Follower, LEASE_MILLIS, Poll, Step, lease_from};
use crate::mutant::{Mutant, Planted};
use crate::secret::{Candidates, CheckKey, DigestScheme, TokenDigest};
use crate::store::{Change, Changed, Changes, Found, Presented};
use crate::throttle::Rate;
use crate::token::{Identity, TokenId};

/// How many tokens of one subject are cached at most. Whoever has more than this in use at a time is answered by the store.
pub const LINES_PER_SUBJECT: u32 = 256;

/// Changes that were applied and are remembered for the fills that were under way.
const REMEMBERED: usize = 1_024;

/// Lines that each fill looks at while tokens are being moved: all are done long before there are too many again.
const SETTLED_AT_ONCE: usize = 16;

/// A token's use is noted when it was not noted for about this long, or comes from another address.
pub const SEEN_EVERY_SECONDS: u64 = 64;
/// Bits of a note for the address it came from.
const ADDRESS_BITS: u32 = 10;

/// What is known of live tokens in this process.
pub struct Cache {
    lines: Lines,
    subjects: Subjects,
    cohorts: Cohorts,
    /// Nanoseconds of the boot clock; what is known may be answered before this instant.
    lease_until: AtomicU64,
    /// How many look-ups went to the store.
    misses: AtomicU64,
    ledger: Mutex<Ledger>,
    planted: Planted,
}

/// What the one who writes needs.
struct Ledger {
    follower: Follower,
    register: Register,
    roll: Roll,
    /// The changes applied last, in order.
    recent: VecDeque<Change>,
    used: usize,
    /// Where the next tidying begins.
    swept: usize,
    /// Which lines are still to be looked at for tokens that lie elsewhere from now on.
    unsettled: std::ops::Range<usize>,
    /// Why everything was forgotten last, until somebody is told.
    doubt: Option<Doubt>,
}

/// A token that is known to be live.
#[derive(Debug)]
pub(crate) struct Hit {
    pub(crate) identity: Identity,
    /// Of the client, for counting against its throttle.
    pub(crate) client: ClientId,
    pub(crate) throttle: Option<Rate>,
    /// Whether this use is to be noted.
    pub(crate) worth_noting: bool,
}

/// A look-up that may be put in when it is answered. Made before the store is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fill {
    era: u64,
    applied: u64,
}

/// What following the change log came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Followed {
    /// All that the store had is applied.
    UpToDate,
    /// There is more: to be asked again at once.
    More,
    /// What was known was forgotten; the next answer begins anew.
    Forgotten(Doubt),
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cache({:?})", self.lines)
    }
}

impl Cache {
    /// Room for `capacity` tokens. The memory is taken as it is used: at most [`Cache::bytes`] then says.
    ///
    /// # Errors
    /// When the source of randomness fails.
    pub fn new(capacity: NonZeroUsize, entropy: &dyn Entropy) -> Result<Cache, EntropyError> {
        let mut place = [0; 8];
        entropy.fill(&mut place)?;
        let key = CheckKey::generate(entropy)?;
        // Three quarters full when it is full.
        let count = capacity.get().saturating_add(capacity.get() / 3).clamp(lines::WINDOW, lines::SUBJECTS - 1);
        Ok(Cache::of(count, u64::from_le_bytes(place), key))
    }

    fn of(lines: usize, place: u64, key: CheckKey) -> Cache {
        Cache {
            lines: Lines::new(lines, place),
            subjects: Subjects::new(lines),
            cohorts: Cohorts::new(),
            lease_until: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            ledger: Mutex::new(Ledger {
                follower: Follower::default(),
                register: Register::new(key),
                roll: Roll::new(),
                recent: VecDeque::new(),
                used: 0,
                swept: 0,
                unsettled: 0..0,
                doubt: None,
            }),
            planted: Planted::default(),
        }
    }

    /// The same with a fault in it, to see it found. Where that tells the time, it does by `clock`.
    #[cfg(feature = "mutants")]
    #[must_use]
    pub fn with_mutant(mut self, mutant: Mutant, clock: std::sync::Arc<dyn crate::clock::Clock>) -> Cache {
        self.planted = Planted::of(mutant, clock);
        self.ledger().follower.plant(self.planted.clone());
        self
    }

    /// How many lines are taken, by tokens that are live and by some that no longer are.
    pub fn len(&self) -> usize {
        self.ledger().used
    }

    /// Whether no line is taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many look-ups went to the store.
    pub fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    /// What it may take of memory with as many subjects as there are now.
    pub fn bytes(&self) -> usize {
        self.lines.bytes() + self.ledger().register.bytes(&self.subjects)
    }

    #[cfg(not(counterfoil_model))]
    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    #[cfg(counterfoil_model)]
    fn ledger(&self) -> loom::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    // ── Reading ─────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Until when what is known may be answered.
    pub fn lease_until(&self) -> BootTime {
        BootTime(self.lease_until.load(Ordering::Acquire))
    }

    /// Up to which change what is known was brought, and how many milliseconds ago the store was asked last that has answered;
    /// `None` while nothing may be answered.
    pub(crate) fn reached(&self, now: Now) -> Option<(u64, u64)> {
        let (BootTime(boot), BootTime(until)) = (now.boot?, self.lease_until());
        let (_, applied) = self.ledger().follower.reached()?;
        let left = until.checked_sub(boot).filter(|left| *left > 0)? / 1_000_000;
        Some((applied, LEASE_MILLIS.saturating_sub(left)))
    }

    /// The live token with this digest, if that is known and may be said at `now`.
    // Always inlined into its one caller: the answer is written where it is wanted, not moved there three times.
    #[inline(always)]
    pub(crate) fn get(
        &self,
        scheme: DigestScheme,
        digest: &TokenDigest,
        address: Option<IpAddr>,
        now: Now,
    ) -> Option<Hit> {
        let boot = now.boot?;
        if boot >= self.lease_until() {
            return None;
        }
        let reading = self.lines.find(&lines::key_of(digest))?;
        let subject = self.subjects.read(reading.subject())?;
        let place = self.cohorts.place(reading.cohort())?.load();
        let cohort = place.as_ref()?;
        // Last: from here on what was read of the three belongs together.
        if cohort.is_dead() || cohort.scheme != scheme || !self.lines.still(&reading) {
            return None;
        }
        let id = id_of(reading.id);
        let issued_at = id.issued_at();
        let expires_at = (reading.lifetime() != FOR_EVER).then(|| issued_at.plus_millis(reading.lifetime()));
        if expires_at.is_some_and(|end| now.wall >= end) {
            return None; // it may have been renewed since: the store says
        }
        let client: &Client = &cohort.client;
        if client.policy.slides_to(cohort.kind, issued_at, expires_at, now.wall).is_some() {
            return None; // to be renewed by this use, which is the store's
        }
        let seen = seen(reading.id, address, boot);
        let worth_noting = seen != reading.seen() && self.lines.mark_seen(&reading, seen);
        let identity = Identity {
            id,
            kind: cohort.kind,
            subject,
            client: client.name.clone(),
            abilities: cohort.abilities.clone(),
            issued_at,
            expires_at,
        };
        Some(Hit { identity, client: client.id, throttle: client.policy.throttle, worth_noting })
    }

    // ── Filling ─────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Begins a look-up; `None` where nothing may be put in.
    pub(crate) fn begin_fill(&self) -> Option<Fill> {
        self.misses.fetch_add(1, Ordering::Relaxed);
        let (era, applied) = self.ledger().follower.reached()?;
        Some(Fill { era, applied })
    }

    /// Puts in what the look-up found and was judged to be live, if that still holds for all that is known here.
    pub(crate) fn fill(
        &self,
        fill: Fill,
        scheme: DigestScheme,
        found: &Found,
        address: Option<IpAddr>,
        boot: Option<BootTime>,
    ) {
        let (Presented::Current, Some(boot)) = (found.presented, boot) else { return };
        if found.issued_at != found.id.issued_at() {
            return; // a line has no room for an instant of its own
        }
        let lifetime = match found.expires_at {
            None => FOR_EVER,
            Some(end) => end.millis_since(found.issued_at),
        };
        if found.expires_at.is_some() && lifetime >= FOR_EVER {
            return; // beyond 34 years
        }
        let ledger = &mut *self.ledger();
        let ended = ledger.ended_since(fill.applied, found) && !self.planted.is(Mutant::FillWithoutAsOf);
        if ledger.follower.reached().is_none_or(|(era, _)| era != fill.era) || ended {
            return;
        }
        let id = words_of(found.id);
        let key = lines::key_of(&found.digest);
        let (cohorts, subjects) = (&self.cohorts, &self.subjects);
        let Some(cohort) = ledger.roll.number_or_new(cohorts, &found.client, found.kind, &found.abilities, scheme)
        else {
            return;
        };
        let place = ledger.place(self, &key, &found.subject, boot);
        let Some((at, subject)) = place else {
            ledger.roll.release_if_unnamed(cohorts, cohort);
            return;
        };
        let before = self.lines.entry(at);
        // Named before the old one is let go, so that a number that both name is not given away in between.
        ledger.register.named(subject);
        ledger.roll.named(cohort);
        self.lines.clear(at);
        if let Some(before) = before {
            ledger.forget(cohorts, subjects, &before);
        }
        self.lines.put(at, &Entry { key, id, lifetime, seen: seen(id, address, boot), subject, cohort });
        ledger.used += 1;
        if let Some(lines) = self.lines.spread_out(ledger.used) {
            ledger.unsettled = 0..lines;
        }
        self.settle(ledger, SETTLED_AT_ONCE);
    }

    /// Moves what lies in the next of those lines whose tokens lie elsewhere from now on.
    fn settle(&self, ledger: &mut Ledger, lines: usize) {
        if ledger.unsettled.is_empty() {
            return;
        }
        for _ in 0..lines {
            // From the far end, so that what moves further on finds that its place has been left.
            let Some(at) = ledger.unsettled.next_back() else { break };
            if let Some(entry) = self.lines.settle(at) {
                ledger.forget(&self.cohorts, &self.subjects, &entry);
            }
        }
        if ledger.unsettled.is_empty() {
            self.lines.settled();
        }
    }

    // ── Following the change log ────────────────────────────────────────────────────────────────────────────────────

    /// What to ask the store now. Read the boot clock before it is sent.
    pub(crate) fn ask(&self) -> Poll {
        self.ledger().follower.ask()
    }

    /// Applies the answer to a question that was sent at `sent` or later, and where all of it is applied extends the lease
    /// by it. With no `sent`, the lease stays as it is.
    pub(crate) fn answered(&self, poll: &Poll, answer: &Changes, sent: Option<BootTime>) -> Followed {
        let ledger = &mut *self.ledger();
        let all = match ledger.follower.judge(poll, answer) {
            Step::Outdated => return Followed::More,
            Step::Forget(doubt) => {
                self.forget_everything(ledger);
                ledger.doubt = Some(doubt);
                return Followed::Forgotten(doubt);
            }
            Step::Begin => {
                ledger.follower.begin(answer);
                ledger.follower.reached().is_some() // else the tag is to be asked for
            }
            Step::Apply { changes, all } => {
                for change in changes {
                    self.apply(ledger, change);
                }
                ledger.follower.applied(answer);
                all
            }
        };
        if !all {
            return Followed::More;
        }
        if let Some(sent) = self.planted.sent(sent)
            && ledger.follower.believes(poll)
        {
            // Only ever moved on: an answer that was overtaken does not shorten what the newer one gave.
            let BootTime(until) = lease_from(sent).max(self.lease_until());
            self.lease_until.store(until, Ordering::Release);
        }
        Followed::UpToDate
    }

    /// Why everything was forgotten since this was called last, whoever asked the store.
    pub(crate) fn take_doubt(&self) -> Option<Doubt> {
        self.ledger().doubt.take()
    }

    /// Answers nothing until a question that is sent after this was answered.
    pub(crate) fn suspend(&self) {
        let ledger = &mut *self.ledger();
        ledger.follower.doubt();
        self.lease_until.store(0, Ordering::Release);
    }

    fn forget_everything(&self, ledger: &mut Ledger) {
        self.lease_until.store(0, Ordering::Release);
        ledger.follower.forget();
        ledger.recent.clear();
        ledger.roll.refuse(&self.cohorts, |_| true);
    }

    fn apply(&self, ledger: &mut Ledger, change: &Change) {
        match &change.what {
            Changed::Tokens(digests) => {
                for digest in digests {
                    self.end(ledger, digest);
                }
            }
            Changed::Subject(subject) => ledger.register.refuse(&self.subjects, subject),
            Changed::Client(client) => ledger.roll.refuse(&self.cohorts, |id| id == *client),
            Changed::Everything => ledger.roll.refuse(&self.cohorts, |_| true),
        }
        if ledger.recent.len() == REMEMBERED {
            ledger.recent.pop_front();
        }
        let what = match &change.what {
            // Remembered as any token: a fill that is under way just then is dropped, and no list of thousands is kept.
            Changed::Tokens(digests) if digests.len() > REMEMBERED => Changed::Everything,
            what @ (Changed::Tokens(_) | Changed::Subject(_) | Changed::Client(_) | Changed::Everything) => {
                what.clone()
            }
        };
        ledger.recent.push_back(Change { what, ..*change });
    }

    /// Forgets what is known of these, so that the next one who asks is told by the store: an answer has become outdated, but not wrong.
    pub(crate) fn forget(&self, candidates: &Candidates) {
        let mut ledger = self.ledger();
        match candidates {
            Candidates::Native(digest) => self.end(&mut ledger, digest),
            Candidates::Imported(digests) => digests.iter().for_each(|(_, digest)| self.end(&mut ledger, digest)),
        }
    }

    fn end(&self, ledger: &mut Ledger, digest: &TokenDigest) {
        let key = lines::key_of(digest);
        for (at, entry) in self.lines.holding(&key) {
            self.lines.clear(at);
            ledger.forget(&self.cohorts, &self.subjects, &entry);
        }
    }

    /// Frees the lines of what is dead, among the next `lines`; to be called now and then.
    pub(crate) fn tidy(&self, lines: usize, now: Timestamp) {
        let ledger = &mut *self.ledger();
        self.settle(ledger, lines);
        for _ in 0..lines.min(self.lines.count()) {
            let at = ledger.swept;
            ledger.swept = (at + 1) % self.lines.count();
            if let Some(entry) = self.lines.entry(at)
                && (self.is_dead(&entry) || has_expired(&entry, now))
            {
                self.lines.clear(at);
                ledger.forget(&self.cohorts, &self.subjects, &entry);
            }
        }
    }

    fn is_dead(&self, entry: &Entry) -> bool {
        !self.subjects.is_alive(entry.subject) || !self.cohorts.is_alive(entry.cohort)
    }
}

impl Ledger {
    /// Whether a change after `applied` names what was found, or might.
    fn ended_since(&self, applied: u64, found: &Found) -> bool {
        let Some((_, reached)) = self.follower.reached() else { return true };
        let oldest = self.recent.front().map_or(reached + 1, |change| change.number);
        if applied + 1 < oldest {
            return applied < reached; // it does not reach back that far
        }
        self.recent.iter().rev().take_while(|change| change.number > applied).any(|change| match &change.what {
            Changed::Tokens(digests) => digests.contains(&found.digest),
            Changed::Subject(subject) => *subject == found.subject,
            Changed::Client(client) => *client == found.client.id,
            Changed::Everything => true,
        })
    }

    /// Where a token of `subject` goes, and the number of its subject.
    fn place(
        &mut self,
        cache: &Cache,
        key: &lines::Key,
        subject: &crate::subject::SubjectId,
        boot: BootTime,
    ) -> Option<(usize, u32)> {
        let known = self.register.number(&cache.subjects, subject);
        let full = known.is_some_and(|number| self.register.lines(number) >= LINES_PER_SUBJECT);
        let mut free = None;
        let mut oldest: Option<(usize, u32)> = None;
        for (at, entry) in cache.lines.around(key) {
            match entry {
                Some(entry) if entry.key == *key => {
                    free = Some(at); // its own line, written anew
                    break;
                }
                Some(entry) if !cache.is_dead(&entry) => {
                    let age = age(entry.seen, entry.id, boot);
                    if oldest.is_none_or(|(_, most)| age > most) {
                        oldest = Some((at, age));
                    }
                }
                Some(_) | None => free = free.or(Some(at)),
            }
        }
        let at = free.or(oldest.map(|(at, _)| at))?;
        if full && cache.lines.entry(at).is_none_or(|entry| Some(entry.subject) != known) {
            return None;
        }
        let number = self.register.number_or_new(&cache.subjects, subject)?;
        Some((at, number))
    }

    /// A line is no longer `entry`'s.
    fn forget(&mut self, cohorts: &Cohorts, subjects: &Subjects, entry: &Entry) {
        self.register.no_longer_named(subjects, entry.subject);
        self.roll.no_longer_named(cohorts, entry.cohort);
        self.used -= 1;
    }
}

fn words_of(id: TokenId) -> [u64; 2] {
    let (words, _) = id.as_bytes().as_chunks::<8>();
    std::array::from_fn(|word| u64::from_be_bytes(words[word]))
}

fn id_of(words: [u64; 2]) -> TokenId {
    TokenId::from_bytes((u128::from(words[0]) << 64 | u128::from(words[1])).to_be_bytes())
}

fn has_expired(entry: &Entry, now: Timestamp) -> bool {
    entry.lifetime != FOR_EVER && now >= id_of(entry.id).issued_at().plus_millis(entry.lifetime)
}

/// The minute of a note, which begins at another second for each token, so that not all are due at once.
fn minute(id: [u64; 2], BootTime(boot): BootTime) -> u32 {
    let shift = id[1] % SEEN_EVERY_SECONDS;
    ((boot / 1_000_000_000 + shift) / SEEN_EVERY_SECONDS) as u32 & (SEEN >> ADDRESS_BITS)
}

/// A note of when and from where a token was seen.
fn seen(id: [u64; 2], address: Option<IpAddr>, boot: BootTime) -> u32 {
    let address = match address {
        None => 0,
        Some(IpAddr::V4(address)) => u64::from(address.to_bits()),
        Some(IpAddr::V6(address)) => {
            let bits = address.to_bits();
            (bits >> 64) as u64 ^ (bits as u64).rotate_left(32)
        }
    };
    // Two addresses are told apart 1,023 times out of 1,024.
    let folded = (address.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - ADDRESS_BITS)) as u32;
    (minute(id, boot) << ADDRESS_BITS) | folded
}

/// How many minutes ago, within a fortnight.
fn age(seen: u32, id: [u64; 2], boot: BootTime) -> u32 {
    minute(id, boot).wrapping_sub(seen >> ADDRESS_BITS) & (SEEN >> ADDRESS_BITS)
}
