//! What a node knows to have ended, so that it can end it again when a failover brings it back: [`Remembered`].

use std::collections::{HashMap, VecDeque};

/// So many endings are remembered, the newest; in at most 4 MiB. A failover loses what the replica had not yet received, which is
/// far less.
pub(super) const MOST: usize = 16_384;

/// One ending in the words of the script that asserts it again: kind and whose, and up to three values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) kind: u8,
    pub(super) whose: Vec<u8>,
    pub(super) values: [Vec<u8>; 3],
}

/// Kind and whose.
type Thing = (u8, Vec<u8>);

/// The newest endings, one for each thing that ended: what came last of a thing is what holds.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// By what ended: its place in the order, and the values.
    kept: HashMap<Thing, (u64, [Vec<u8>; 3])>,
    order: VecDeque<(u64, Thing)>,
    next: u64,
}

impl Remembered {
    pub(super) fn add(&mut self, ending: Ending) {
        let key = (ending.kind, ending.whose);
        if self.kept.get(&key).is_some_and(|(_, values)| *values == ending.values) {
            return; // by this node's own word first, and then by the log
        }
        self.next += 1;
        self.kept.insert(key.clone(), (self.next, ending.values));
        self.order.push_back((self.next, key));
        while self.order.len() > MOST {
            let Some((place, key)) = self.order.pop_front() else { break };
            // Only where nothing newer is known of the same thing.
            if self.kept.get(&key).is_some_and(|(known, _)| *known == place) {
                self.kept.remove(&key);
            }
        }
    }

    /// All of them, in the order in which they were learnt.
    pub(super) fn all(&self) -> Vec<Ending> {
        let known = self.order.iter().filter_map(|(place, key)| {
            let (newest, values) = self.kept.get(key)?;
            (newest == place).then(|| Ending { kind: key.0, whose: key.1.clone(), values: values.clone() })
        });
        known.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(whose: usize, value: u8) -> Ending {
        Ending { kind: b'S', whose: whose.to_be_bytes().to_vec(), values: [vec![value], vec![], vec![]] }
    }

    #[test]
    fn f25_what_came_last_of_a_thing_is_remembered_and_no_more_than_the_newest() {
        let mut remembered = Remembered::default();
        remembered.add(ending(1, 1));
        remembered.add(ending(2, 1));
        remembered.add(ending(1, 2));
        remembered.add(ending(1, 2));
        assert_eq!(remembered.all(), [ending(2, 1), ending(1, 2)]);
        for whose in 0..2 * MOST {
            remembered.add(ending(whose, 3));
        }
        let all = remembered.all();
        assert_eq!((all.len(), all.first()), (MOST, Some(&ending(MOST, 3))));
        assert_eq!((remembered.kept.len(), remembered.order.len()), (MOST, MOST));
    }
}
