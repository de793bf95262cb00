//! What the nodes share: [`Database`], and the servers that have it, [`Cluster`].

use std::collections::VecDeque;
use std::fmt;
use std::task::{Context, Poll, Waker};

use counterfoil_core::mutant::Mutant;
use counterfoil_core::secret::Candidates;
use counterfoil_core::store::{Change, Changes};
use counterfoil_core::{Answer, MemoryStore, Standing, StoreError, SubjectState, Timestamp, TokenDigest, TokenStore};

use crate::kernel::Micros;

/// The date when a run begins.
pub(crate) const BEGIN: Timestamp = Timestamp::from_millis(1_795_172_400_000);

/// The date by the store's clock.
pub(crate) const fn date(now: Micros) -> Timestamp {
    BEGIN.plus_millis(now / 1_000)
}

/// How far apart a transaction takes its numbers where numbers are given before the commit: there are never more changes in one.
const NUMBERS_APART: u64 = 64;

/// What a primary holds. A copy is what a replica has whose link was cut then, or a backup.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    kept: MemoryStore,
    /// How much of the log of `kept` has been taken over.
    mirrored: u64,
    log: VecDeque<Change>,
    head: u64,
    numbers_given: u64,
    pub(crate) incarnation: [u8; 16],
}

/// What an answer that is there at once says.
pub(crate) fn at_once<T>(mut answer: Answer<'_, T>) -> Result<T, StoreError> {
    match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => Err(away("a store in memory that waits")),
    }
}

pub(crate) fn away(what: &'static str) -> StoreError {
    StoreError::new("asking the store", what)
}

impl Database {
    pub(crate) fn new() -> Database {
        let kept = MemoryStore::new();
        Database { kept, mirrored: 0, log: VecDeque::new(), head: 0, numbers_given: 0, incarnation: [1; 16] }
    }

    pub(crate) fn kept(&self) -> &MemoryStore {
        &self.kept
    }

    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// Numbers for the changes of a transaction that begins.
    pub(crate) fn reserve(&mut self) -> u64 {
        self.numbers_given += NUMBERS_APART;
        self.numbers_given - NUMBERS_APART + 1
    }

    /// Takes over what has been committed since; whether that is anything. The numbers are given now, without gaps, unless
    /// they were given before.
    pub(crate) fn commit(&mut self, reserved: Option<u64>, mut tag: impl FnMut() -> u64) -> bool {
        let Ok(new) = at_once(self.kept.changes(self.mirrored, u32::MAX)) else { return false };
        self.mirrored = new.head;
        for (number, row) in (reserved.unwrap_or(self.head + 1)..).zip(&new.rows) {
            let change = Change { number, tag: tag(), ..row.clone() };
            let at = self.log.partition_point(|other| other.number < number);
            self.log.insert(at, change);
            self.head = self.head.max(number);
        }
        !new.rows.is_empty()
    }

    pub(crate) fn changes(&self, after: u64, limit: u32, clock: Timestamp) -> Changes {
        let first = self.log.partition_point(|change| change.number <= after);
        let rows = self.log.iter().skip(first).take(limit as usize).cloned().collect();
        Changes { incarnation: self.incarnation, head: self.head, rows, clock: Some(clock) }
    }

    /// Removes all of the log but the newest changes.
    pub(crate) fn trim(&mut self, kept: usize) {
        let beyond = self.log.len().saturating_sub(kept);
        self.log.drain(..beyond);
    }

    /// Whether there is a token with this digest; if so, whether it would be accepted.
    pub(crate) fn truth(&self, digest: &TokenDigest, now: Timestamp) -> Option<bool> {
        let found = at_once(self.kept.find(&Candidates::Native(*digest))).ok().flatten()?;
        Some(found.standing(now) == Standing::Live && found.subject_state == SubjectState::Active)
    }
}

/// What the primary does at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Serving {
    Everything,
    Nothing,
    /// It has become a replica: in recovery.
    Recovering,
}

/// The servers.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) primary: Database,
    pub(crate) serving: Serving,
    /// Connections of an earlier one are gone, and what was begun over them and not committed.
    pub(crate) generation: u64,
    /// One that a node may have been led to.
    pub(crate) replica: Option<Database>,
    /// Transactions stay open for up to this long before they commit.
    pub(crate) late: Option<Micros>,
}

impl Cluster {
    pub(crate) fn new(primary: Database) -> Cluster {
        Cluster { primary, serving: Serving::Everything, generation: 0, replica: None, late: None }
    }

    /// Whom a node asks that was, or was not, led to a replica.
    pub(crate) fn asked(
        &mut self,
        of_replica: bool,
        kind: Kind,
        mutant: Option<Mutant>,
    ) -> Result<&mut Database, StoreError> {
        let by_mistake = mutant == Some(Mutant::PollOnReplica) && kind != Kind::Write;
        if of_replica {
            return match &mut self.replica {
                Some(replica) if by_mistake => Ok(replica),
                Some(_) | None => Err(away("the server is in recovery")),
            };
        }
        match self.serving {
            Serving::Everything => Ok(&mut self.primary),
            Serving::Nothing => Err(away("the server is shutting down")),
            Serving::Recovering if by_mistake => Ok(&mut self.primary),
            Serving::Recovering => Err(away("the server is in recovery")),
        }
    }
}

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    /// Asks for changes.
    Poll,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Read => "read",
            Kind::Write => "write",
            Kind::Poll => "poll",
        })
    }
}
