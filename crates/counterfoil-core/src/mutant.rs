//! Faults that are planted on purpose, so that what looks for faults can be seen to find them: [`Mutant`].
//!
//! Each is a step left out that the bound on revocations rests on. Nothing is planted but with the cargo feature `mutants`,
//! which no crate that is shipped may switch on; without it, asking is a constant and costs nothing.

#[cfg(feature = "mutants")]
use std::{fmt, str::FromStr, sync::Arc};

use crate::clock::BootTime;
#[cfg(feature = "mutants")]
use crate::clock::Clock;

/// A step that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "mutants"),
    expect(dead_code, unreachable_pub, reason = "asked for here, and made by nobody without the feature")
)]
pub enum Mutant {
    /// The lease is counted from when an answer was received, not from when the question was sent.
    LeaseFromReceipt,
    /// The lease is extended though changes are missing from the log.
    LeaseWithoutContiguity,
    /// A fill is put in whatever was applied since it began.
    FillWithoutAsOf,
    /// The lease goes by a clock that stands still in suspend. Planted in whoever reads the clock.
    MonotonicClock,
    /// Changes are numbered before they are committed, and gaps are taken for numbers that were never used. The first half
    /// is planted in a store.
    NumberedBeforeCommit,
    /// A replica answers questions as if it were the primary. Planted in a store.
    PollOnReplica,
    /// Nobody asks what has changed unless told to, and silence extends the lease. Planted in a store, which answers unasked.
    NotifyOnly,
    /// A look-up joins another's that is under way, however old it is. Planted in a store.
    JoinWithoutAgeLimit,
    /// A change that is another one than it was is taken for the same.
    NoTag,
}

#[cfg(feature = "mutants")]
impl Mutant {
    /// Every one.
    pub const ALL: [Mutant; 9] = [
        Mutant::LeaseFromReceipt,
        Mutant::LeaseWithoutContiguity,
        Mutant::FillWithoutAsOf,
        Mutant::MonotonicClock,
        Mutant::NumberedBeforeCommit,
        Mutant::PollOnReplica,
        Mutant::NotifyOnly,
        Mutant::JoinWithoutAgeLimit,
        Mutant::NoTag,
    ];

    /// Its name on command lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Mutant::LeaseFromReceipt => "lease-from-receipt",
            Mutant::LeaseWithoutContiguity => "lease-without-contiguity",
            Mutant::FillWithoutAsOf => "fill-without-as-of",
            Mutant::MonotonicClock => "monotonic-clock",
            Mutant::NumberedBeforeCommit => "numbered-before-commit",
            Mutant::PollOnReplica => "poll-on-replica",
            Mutant::NotifyOnly => "notify-only",
            Mutant::JoinWithoutAgeLimit => "join-without-age-limit",
            Mutant::NoTag => "no-tag",
        }
    }
}

#[cfg(feature = "mutants")]
impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// There is no mutant of that name.
#[cfg(feature = "mutants")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoSuchMutant;

#[cfg(feature = "mutants")]
impl fmt::Display for NoSuchMutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is no mutant of that name; there are")?;
        Mutant::ALL.iter().try_for_each(|mutant| write!(f, " {mutant}"))
    }
}

#[cfg(feature = "mutants")]
impl std::error::Error for NoSuchMutant {}

#[cfg(feature = "mutants")]
impl FromStr for Mutant {
    type Err = NoSuchMutant;

    fn from_str(text: &str) -> Result<Mutant, NoSuchMutant> {
        Mutant::ALL.into_iter().find(|mutant| mutant.as_str() == text).ok_or(NoSuchMutant)
    }
}

/// What is planted in one cache: nothing, but where somebody asked for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Planted {
    #[cfg(feature = "mutants")]
    mutant: Option<(Mutant, Arc<dyn Clock>)>,
}

#[cfg(feature = "mutants")]
impl Planted {
    /// `mutant`; where it tells the time, by `clock`.
    pub(crate) fn of(mutant: Mutant, clock: Arc<dyn Clock>) -> Planted {
        Planted { mutant: Some((mutant, clock)) }
    }

    pub(crate) fn is(&self, wanted: Mutant) -> bool {
        self.mutant.as_ref().is_some_and(|(planted, _)| *planted == wanted)
    }

    /// When a question was sent whose answer is here.
    pub(crate) fn sent(&self, sent: Option<BootTime>) -> Option<BootTime> {
        match &self.mutant {
            Some((Mutant::LeaseFromReceipt, clock)) => sent.and(clock.now().boot),
            Some(_) | None => sent,
        }
    }
}

#[cfg(not(feature = "mutants"))]
impl Planted {
    #[inline(always)]
    pub(crate) const fn is(&self, _: Mutant) -> bool {
        false
    }

    #[inline(always)]
    pub(crate) const fn sent(&self, sent: Option<BootTime>) -> Option<BootTime> {
        sent
    }
}
