//! How long what a node knows may be relied on, the lease, and how it follows the change log: [`Follower`].
//!
//! A node asks the store every quarter of a second what has changed. What it has cached may be answered until
//! [`LEASE_MILLIS`] after the last question *was sent* whose answer it has applied: a change that was committed before
//! that is known, whatever happened since. No message need arrive, and no two clocks need agree but in their rate. The clock
//! is the one that runs on while the machine is suspended. It does not while a virtual machine is paused from outside: where the
//! store is another machine's, what a paused one knew is good for the rest of its lease once it goes on.

use std::fmt;

use crate::clock::BootTime;
use crate::mutant::{Mutant, Planted};
use crate::store::{Change, Changes};

/// How long a node may rely on what it knew when it asked. With what it takes to ask and to answer, a revocation holds
/// everywhere after 1,000 ms.
pub const LEASE_MILLIS: u64 = 900;

/// How long after a change was committed no process can still answer from what it knew before: the lease, and a hundredth for clocks
/// that run faster here than there.
pub const EVERYWHERE_AFTER_MILLIS: u64 = LEASE_MILLIS + LEASE_MILLIS / 100;

/// How many changes are read at a time.
pub const CHANGES_AT_ONCE: u32 = 1_000;

/// Where in the change log a node stands.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Position {
    incarnation: [u8; 16],
    /// The last change that was applied.
    number: u64,
    /// Its tag, once known.
    tag: Option<u64>,
}

/// Follows the change log: what may be applied, and what must not be believed.
#[derive(Debug, Default)]
pub struct Follower {
    position: Option<Position>,
    /// Grows whenever nothing that was known before may be relied on.
    era: u64,
    /// Grows whenever questions that were sent before may not extend the lease.
    doubts: u64,
    planted: Planted,
}

/// A question to the change log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Poll {
    /// Changes after this number are wanted: the last applied one too, so that its tag can be compared.
    pub after: u64,
    /// At most so many.
    pub limit: u32,
    known: u64,
    era: u64,
    doubts: u64,
}

/// What is to be done with an answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Nothing was known: begin here, with an empty cache.
    Begin,
    /// Apply these, in order. There may be none.
    Apply {
        /// The changes.
        changes: &'a [Change],
        /// Whether these are all that the store had when it was asked; else it is to be asked again.
        all: bool,
    },
    /// The answer is to a question from before everything was forgotten: ignore it.
    Outdated,
    /// What is known may be wrong: empty the cache, and begin anew.
    Forget(Doubt),
}

/// Why what was known may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// The store is another one, or was restored.
    OtherStore,
    /// Changes that were there are gone.
    Rewound,
    /// A change is another one than it was.
    Rewritten,
    /// Changes are missing: the log was trimmed beyond where this node stands.
    Gap,
}

impl Doubt {
    /// The word for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Doubt::OtherStore => "other-store",
            Doubt::Rewound => "rewound",
            Doubt::Rewritten => "rewritten",
            Doubt::Gap => "gap",
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Doubt::OtherStore => "the store is another one than before, or an older copy of it was put back",
            Doubt::Rewound => "the store has lost changes that it had",
            Doubt::Rewritten => "the store tells another history than before",
            Doubt::Gap => "the store no longer has the changes that this node has not seen",
        })
    }
}

impl Follower {
    #[cfg(feature = "mutants")]
    pub(crate) fn plant(&mut self, planted: Planted) {
        self.planted = planted;
    }

    /// What to ask the store.
    pub fn ask(&self) -> Poll {
        let known = self.position.as_ref().map_or(0, |position| position.number);
        let after = match self.position {
            Some(_) => known.saturating_sub(1),
            None => i64::MAX.unsigned_abs(), // only the head is wanted; beyond it there is nothing
        };
        Poll { after, limit: CHANGES_AT_ONCE, known, era: self.era, doubts: self.doubts }
    }

    /// What the answer to `poll` means.
    pub fn judge<'a>(&self, poll: &Poll, answer: &'a Changes) -> Step<'a> {
        if poll.era != self.era {
            return Step::Outdated;
        }
        let Some(position) = &self.position else { return Step::Begin };
        if answer.incarnation != position.incarnation {
            return Step::Forget(Doubt::OtherStore);
        }
        // Another answer may have been applied while this one was on its way; what it had when asked it must still have.
        if answer.head < poll.known {
            return Step::Forget(Doubt::Rewound);
        }
        let numbers = poll.after + 1..;
        let gaps_pass =
            self.planted.is(Mutant::LeaseWithoutContiguity) || self.planted.is(Mutant::NumberedBeforeCommit);
        if !gaps_pass && answer.rows.iter().zip(numbers).any(|(change, number)| change.number != number) {
            return Step::Forget(Doubt::Gap);
        }
        let last = answer.rows.last().map_or(poll.after, |change| change.number);
        if !gaps_pass && last < answer.head && answer.rows.len() < poll.limit as usize {
            return Step::Forget(Doubt::Gap);
        }
        let same = |change: &&Change| change.number == position.number;
        if !self.planted.is(Mutant::NoTag)
            && let (Some(tag), Some(change)) = (position.tag, answer.rows.iter().find(same))
            && change.tag != tag
        {
            return Step::Forget(Doubt::Rewritten);
        }
        let new = answer.rows.iter().position(|change| change.number > position.number).unwrap_or(answer.rows.len());
        Step::Apply { changes: &answer.rows[new..], all: last >= answer.head }
    }

    /// Begins at the head of `answer`.
    pub fn begin(&mut self, answer: &Changes) {
        let tag = answer.rows.last().filter(|change| change.number == answer.head).map(|change| change.tag);
        self.position = Some(Position { incarnation: answer.incarnation, number: answer.head, tag });
    }

    /// `answer` was applied.
    pub fn applied(&mut self, answer: &Changes) {
        let Some(position) = &mut self.position else { return };
        if let Some(last) = answer.rows.last()
            && last.number >= position.number
        {
            position.number = last.number;
            position.tag = Some(last.tag);
        }
    }

    /// Forgets where it stood.
    pub fn forget(&mut self) {
        self.position = None;
        self.era += 1;
    }

    /// Something may have been committed that no question sent so far tells of: none of them extends the lease.
    pub fn doubt(&mut self) {
        self.doubts += 1;
    }

    /// Whether the answer to `poll` may extend the lease.
    pub fn believes(&self, poll: &Poll) -> bool {
        poll.doubts == self.doubts && poll.era == self.era
    }

    /// Up to where the log is applied, and in which era; `None`: it is not followed, or the tag of the last change is not known
    /// yet. Without that, a change that took its place would be taken for it, and whatever that one ends would live on.
    pub fn reached(&self) -> Option<(u64, u64)> {
        let position = self.position.as_ref().filter(|position| position.tag.is_some() || position.number == 0)?;
        Some((self.era, position.number))
    }
}

/// The end of the lease that a question sent at `sent` gives.
pub const fn lease_from(BootTime(sent): BootTime) -> BootTime {
    BootTime(sent + LEASE_MILLIS * 1_000_000)
}
