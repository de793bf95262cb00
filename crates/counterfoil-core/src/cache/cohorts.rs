//! What many tokens have in common, held once: [`Cohorts`].

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::lines::COHORTS;
use super::sync::{AtomicBool, Ordering, Place};
use crate::ability::Abilities;
use crate::client::{Client, ClientId};
use crate::secret::DigestScheme;
use crate::subject::Epoch;
use crate::token::Kind;

/// How many there may be. Tests that try every order make many caches, and have few.
pub(super) const PLACES: usize = if cfg!(counterfoil_model) {
    4
} else if cfg!(test) {
    64
} else {
    COHORTS
};
/// Places kept for tokens that may do everything, so that those of one owner with many sets of abilities leave room.
const KEPT_FOR_EVERYTHING: usize = PLACES / 4;

/// Never changed once it is made, but that it dies.
#[derive(Debug)]
pub(super) struct Cohort {
    pub(super) client: Arc<Client>,
    pub(super) kind: Kind,
    pub(super) abilities: Abilities,
    pub(super) scheme: DigestScheme,
    dead: AtomicBool,
}

impl Cohort {
    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    fn name(&self) -> Name {
        let Client { id, version, epoch, .. } = *self.client;
        Name { client: id, version, epoch, kind: self.kind, abilities: self.abilities.clone(), scheme: self.scheme }
    }
}

/// What makes two tokens of one cohort.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Name {
    client: ClientId,
    version: u64,
    epoch: Epoch,
    kind: Kind,
    abilities: Abilities,
    scheme: DigestScheme,
}

/// Cohorts by number, read by anybody at any time. As with subjects, a number is given to another cohort only when no line
/// names it any more.
pub(super) struct Cohorts {
    places: Box<[Place<Cohort>]>,
}

impl fmt::Debug for Cohorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cohorts")
    }
}

impl Cohorts {
    pub(super) fn new() -> Cohorts {
        Cohorts { places: (0..PLACES).map(|_| Place::default()).collect() }
    }

    /// The place of that number.
    #[inline]
    pub(super) fn place(&self, number: u16) -> Option<&Place<Cohort>> {
        self.places.get(usize::from(number))
    }

    pub(super) fn is_alive(&self, number: u16) -> bool {
        self.place(number).and_then(Place::load_full).is_some_and(|cohort| !cohort.is_dead())
    }
}

/// Which number a cohort has, and how many lines name it. For the one who writes.
pub(super) struct Roll {
    numbers: HashMap<Name, u16>,
    /// By number.
    lines: Vec<u32>,
    free: Vec<u16>,
}

impl Roll {
    pub(super) fn new() -> Roll {
        // The lowest numbers come first.
        Roll { numbers: HashMap::new(), lines: vec![0; PLACES], free: (0..PLACES as u16).rev().collect() }
    }

    /// The number of the cohort of these; `None` where there is no room.
    pub(super) fn number_or_new(
        &mut self,
        cohorts: &Cohorts,
        client: &Arc<Client>,
        kind: Kind,
        abilities: &Abilities,
        scheme: DigestScheme,
    ) -> Option<u16> {
        let cohort = Cohort {
            client: Arc::clone(client),
            kind,
            abilities: abilities.clone(),
            scheme,
            dead: AtomicBool::new(false),
        };
        let name = cohort.name();
        if let Some(number) = self.numbers.get(&name) {
            return Some(*number);
        }
        if self.free.len() <= KEPT_FOR_EVERYTHING && !abilities.are_everything() {
            return None;
        }
        let number = self.free.pop()?;
        cohorts.place(number)?.store(Some(Arc::new(cohort)));
        self.numbers.insert(name, number);
        Some(number)
    }

    pub(super) fn named(&mut self, number: u16) {
        self.lines[usize::from(number)] += 1;
    }

    /// A line names it no more; where none does, the number is free for another.
    pub(super) fn no_longer_named(&mut self, cohorts: &Cohorts, number: u16) {
        let lines = &mut self.lines[usize::from(number)];
        *lines = lines.saturating_sub(1);
        if *lines == 0 {
            self.release(cohorts, number);
        }
    }

    /// A number that was given out and that no line has come to name.
    pub(super) fn release_if_unnamed(&mut self, cohorts: &Cohorts, number: u16) {
        if self.lines[usize::from(number)] == 0 {
            self.release(cohorts, number);
        }
    }

    fn release(&mut self, cohorts: &Cohorts, number: u16) {
        let Some(place) = cohorts.place(number) else { return };
        if let Some(cohort) = place.load_full() {
            cohort.dead.store(true, Ordering::Release);
            if self.numbers.get(&cohort.name()) == Some(&number) {
                self.numbers.remove(&cohort.name());
            }
            place.store(None);
            self.free.push(number);
        }
    }

    /// Refuses every token of these cohorts from now on. Those that come later get another number.
    pub(super) fn refuse(&mut self, cohorts: &Cohorts, which: impl Fn(ClientId) -> bool) {
        let ended: Vec<u16> =
            self.numbers.iter().filter(|(name, _)| which(name.client)).map(|(_, number)| *number).collect();
        for number in ended {
            if let Some(cohort) = cohorts.place(number).and_then(Place::load_full) {
                cohort.dead.store(true, Ordering::Release);
            }
            if self.lines[usize::from(number)] == 0 {
                self.release(cohorts, number);
            }
        }
        self.numbers.retain(|name, _| !which(name.client));
    }
}
