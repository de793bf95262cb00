//! What is seen of tokens on its way to the store: [`Marks`].
//!
//! A request only notes that a token was used. Whoever owns the authority drains the notes every second and writes them
//! in one transaction, so that no request waits for a disk because someone wants to know when a token was last used.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::clock::Timestamp;
use crate::store::Touch;
use crate::token::TokenId;

/// How many tokens may have unwritten marks; what is seen beyond is counted and forgotten.
const MOST: usize = 100_000;

/// The newest sighting of each token since the last drain.
#[derive(Debug, Default)]
pub struct Marks {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    touches: HashMap<TokenId, Touch>,
    lost: u64,
}

impl Marks {
    /// Notes `touch`; the later sighting and the later renewal of a token win.
    pub fn note(&self, touch: Touch) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = waiting.touches.get_mut(&touch.id) {
            let renew_until: Option<Timestamp> = known.renew_until.max(touch.renew_until);
            if touch.seen.at >= known.seen.at {
                known.seen = touch.seen;
            }
            known.renew_until = renew_until;
        } else if waiting.touches.len() < MOST {
            waiting.touches.insert(touch.id, touch);
        } else {
            waiting.lost += 1;
        }
    }

    /// Takes everything noted so far, and how many sightings found no room.
    pub fn drain(&self) -> (Vec<Touch>, u64) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = std::mem::take(&mut waiting.lost);
        let mut touches: Vec<Touch> = waiting.touches.drain().map(|(_, touch)| touch).collect();
        drop(waiting);
        touches.sort_unstable_by_key(|touch| touch.id); // stores lock tokens by id
        (touches, lost)
    }

    /// Puts back what could not be written, unless something newer is there by now.
    pub fn put_back(&self, touches: impl IntoIterator<Item = Touch>) {
        touches.into_iter().for_each(|touch| self.note(touch));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{Sighting, Source};

    fn touch(id: u8, at: i64, renew: Option<i64>) -> Touch {
        Touch {
            id: TokenId::from_bytes([id; 16]),
            seen: Sighting { at: Timestamp::from_millis(at), source: Source::default() },
            renew_until: renew.map(Timestamp::from_millis),
        }
    }

    #[test]
    fn the_latest_sighting_and_the_furthest_renewal_of_a_token_win() {
        let marks = Marks::default();
        for (at, renew) in [(5, Some(50)), (9, None), (7, Some(40))] {
            marks.note(touch(1, at, renew));
        }
        marks.note(touch(0, 1, None));
        assert_eq!(marks.drain(), (vec![touch(0, 1, None), touch(1, 9, Some(50))], 0));
        assert_eq!(marks.drain(), (vec![], 0));
    }

    #[test]
    fn marks_put_back_do_not_hide_newer_ones() {
        let marks = Marks::default();
        marks.note(touch(1, 5, None));
        let (taken, _) = marks.drain();
        marks.note(touch(1, 6, None));
        marks.put_back(taken);
        assert_eq!(marks.drain().0, vec![touch(1, 6, None)]);
    }
}
