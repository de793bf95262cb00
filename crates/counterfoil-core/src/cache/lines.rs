//! One cache line for each token: [`Lines`].
//!
//! A line is eight words that readers read without a lock, and one of which, the mark, says whether the other seven belong
//! together (a sequence lock, after Boehm, "Can Seqlocks Get Along with Programming Language Memory Models?", MSPC 2012):
//!
//! ```text
//! 0 … 3   the digest, whole: nothing less is ever a key
//! 4, 5    the token's id; its first 48 bits are the millisecond of issue
//! 6       lifetime in milliseconds (40 bits; all ones: for ever) · when and from where it was last noted as seen (24)
//! 7       the mark: how often the line was written (24) · cohort (12) · subject (28; 0: the line is free)
//! ```
//!
//! A token lies in the first line that was free when it came, of [`WINDOW`] from its home on. Where the home is depends on
//! a key that nobody outside knows, so that nobody can have tokens issued that crowd one place.
//!
//! Homes lie close together while there are few tokens, because each page of memory that a look-up touches costs as much as
//! a hash: the lines in use are twice as many whenever three quarters of them are taken. Then every token is moved to its new
//! place, some at a time, and is looked for in both until all are.

use std::array;
use std::fmt;

use super::sync::{AtomicU64, Ordering, fence, zeroed_words};
use crate::secret::TokenDigest;

/// How many lines homes are spread over at first: 32 pages. Tests have few, so that what fills in them spreads out.
const FIRST: usize = if cfg!(test) { 64 } else { 2_048 };

/// How many lines from its home on a token may lie. At three quarters full, fewer than one in a hundred
/// finds no room: docs/performance.md.
pub(super) const WINDOW: usize = 32;

/// Words of a line: 64 bytes, what processors move at a time.
const WORDS: usize = 8;
const MARK: usize = 7;

const LIFETIME_BITS: u32 = 40;
const SEEN_BITS: u32 = 24;
const SUBJECT_BITS: u32 = 28;
const COHORT_BITS: u32 = 12;
const CONTENT: u64 = (1 << (SUBJECT_BITS + COHORT_BITS)) - 1;

/// How many subjects a line can tell apart.
pub(super) const SUBJECTS: usize = 1 << SUBJECT_BITS;
/// How many cohorts a line can tell apart.
pub(super) const COHORTS: usize = 1 << COHORT_BITS;
/// The lifetime of a token that does not end by time.
pub(super) const FOR_EVER: u64 = (1 << LIFETIME_BITS) - 1;
/// What a note of having seen a token may hold.
pub(super) const SEEN: u32 = (1 << SEEN_BITS) - 1;

/// A digest as a line holds it.
pub(super) type Key = [u64; 4];

pub(super) fn key_of(digest: &TokenDigest) -> Key {
    let (words, _) = digest.as_bytes().as_chunks::<8>();
    array::from_fn(|word| u64::from_le_bytes(words[word]))
}

/// What a line says of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) id: [u64; 2],
    /// Milliseconds from issue to expiry, or [`FOR_EVER`].
    pub(super) lifetime: u64,
    pub(super) seen: u32,
    /// Never 0.
    pub(super) subject: u32,
    pub(super) cohort: u16,
}

/// A line as it was read; what it names is to be used only if [`Lines::still`] says so afterwards.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    at: usize,
    mark: u64,
    pub(super) id: [u64; 2],
    sixth: u64,
}

impl Reading {
    pub(super) fn subject(&self) -> u32 {
        subject_in(self.mark)
    }

    pub(super) fn cohort(&self) -> u16 {
        cohort_in(self.mark)
    }

    pub(super) fn lifetime(&self) -> u64 {
        self.sixth >> SEEN_BITS
    }

    pub(super) fn seen(&self) -> u32 {
        self.sixth as u32 & SEEN
    }
}

fn subject_in(mark: u64) -> u32 {
    (mark & (SUBJECTS as u64 - 1)) as u32
}

fn cohort_in(mark: u64) -> u16 {
    ((mark >> SUBJECT_BITS) & (COHORTS as u64 - 1)) as u16
}

/// The same line, written once more.
fn next(mark: u64, content: u64) -> u64 {
    ((mark & !CONTENT).wrapping_add(CONTENT + 1)) | content
}

/// All lines. Read by anybody at any time; written by one at a time, which whoever owns them sees to.
pub(super) struct Lines {
    words: Box<[AtomicU64]>,
    /// Words before the first line, so that no line lies across two of the processor's.
    skip: usize,
    count: usize,
    /// Over how many of the first lines homes are spread; in the upper half, over how many they were before, while tokens
    /// are being moved, or 0.
    spread: AtomicU64,
    key: u64,
}

/// Over how many lines homes are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Spread {
    now: usize,
    /// While tokens are being moved.
    before: Option<usize>,
}

impl Spread {
    fn from_word(word: u64) -> Spread {
        let before = (word >> 32) as usize;
        Spread { now: (word & u64::from(u32::MAX)) as usize, before: (before != 0).then_some(before) }
    }

    fn to_word(self) -> u64 {
        (self.before.unwrap_or(0) as u64) << 32 | self.now as u64
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lines({})", self.count)
    }
}

impl Lines {
    /// `count` free lines, placed by `key`.
    pub(super) fn new(count: usize, key: u64) -> Lines {
        let count = count.max(1);
        let words = zeroed_words((count + 1) * WORDS);
        let beyond = (words.as_ptr() as usize / size_of::<u64>()) % WORDS;
        let spread = Spread { now: count.min(FIRST), before: None };
        Lines { words, skip: (WORDS - beyond) % WORDS, count, spread: AtomicU64::new(spread.to_word()), key }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn bytes(&self) -> usize {
        self.words.len() * size_of::<u64>()
    }

    fn line(&self, at: usize) -> &[AtomicU64; WORDS] {
        let words = &self.words[self.skip + at * WORDS..];
        words.first_chunk().expect("there is a whole line at every place below the count")
    }

    fn spread(&self) -> Spread {
        Spread::from_word(self.spread.load(Ordering::Relaxed))
    }

    /// Where a token with this key may lie if homes are spread over `spread` lines, nearest first.
    fn window(&self, key: &Key, spread: usize) -> impl Iterator<Item = usize> + use<> {
        let mixed = (key[0] ^ self.key).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let home = ((u128::from(mixed) * spread as u128) >> 64) as usize;
        (home..home + WINDOW.min(spread)).map(move |at| if at < spread { at } else { at - spread })
    }

    // ── For readers ─────────────────────────────────────────────────────────────────────────────────────────────────

    /// The line of this key, if there is one.
    #[inline]
    pub(super) fn find(&self, key: &Key) -> Option<Reading> {
        let spread = self.spread();
        let found = self.find_in(key, spread.now);
        match spread.before {
            None => found,
            // A token that is moved between the two looks is found in neither, and asked for at the store.
            Some(before) => found.or_else(|| self.find_in(key, before)),
        }
    }

    #[inline]
    fn find_in(&self, key: &Key, spread: usize) -> Option<Reading> {
        for at in self.window(key, spread) {
            let line = self.line(at);
            // Acquire: what the mark names was made before the mark was written.
            let mark = line[MARK].load(Ordering::Acquire);
            if mark == 0 {
                return None; // never written: nothing was ever put further on because this was taken
            }
            if line[0].load(Ordering::Relaxed) == key[0]
                && subject_in(mark) != 0
                && (1..4).all(|word| line[word].load(Ordering::Relaxed) == key[word])
            {
                let word = |word: usize| line[word].load(Ordering::Relaxed);
                return Some(Reading { at, mark, id: [word(4), word(5)], sixth: word(6) });
            }
        }
        None
    }

    /// Whether the line has not been written since it was read: then everything in it belongs together, and what its mark
    /// names has not been given to anything else meanwhile.
    #[inline]
    pub(super) fn still(&self, reading: &Reading) -> bool {
        // Whoever has read a word of a later writing sees the mark of it, because that was written before, behind a fence.
        fence(Ordering::Acquire);
        self.line(reading.at)[MARK].load(Ordering::Relaxed) == reading.mark
    }

    /// Writes down that the token was seen, unless somebody else has just done so; whether it did.
    pub(super) fn mark_seen(&self, reading: &Reading, seen: u32) -> bool {
        let noted = (reading.sixth & !u64::from(SEEN)) | u64::from(seen & SEEN);
        // If the line is another token's by now and has the same word by chance, that one is noted a minute later.
        let word = &self.line(reading.at)[6];
        word.compare_exchange(reading.sixth, noted, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    // ── For the one who writes ──────────────────────────────────────────────────────────────────────────────────────

    /// What lies where, of the places that a token with this key may be put in.
    pub(super) fn around(&self, key: &Key) -> impl Iterator<Item = (usize, Option<Entry>)> {
        self.window(key, self.spread().now).map(|at| (at, self.entry(at)))
    }

    /// Where there is something of this key, wherever it was put.
    pub(super) fn holding(&self, key: &Key) -> Vec<(usize, Entry)> {
        let Spread { now, before } = self.spread();
        let mut held = Vec::new();
        for at in self.window(key, now).chain(before.into_iter().flat_map(|before| self.window(key, before))) {
            if let Some(entry) = self.entry(at)
                && entry.key == *key
                && held.iter().all(|(known, _)| *known != at)
            {
                held.push((at, entry));
            }
        }
        held
    }

    /// Spreads homes over twice as many lines, if there are more and `used` are three quarters of them. Whether tokens are to
    /// be moved: all lines from 0 up to the number that is returned.
    pub(super) fn spread_out(&self, used: usize) -> Option<usize> {
        let Spread { now, before } = self.spread();
        if before.is_some() || now == self.count || used < now / 4 * 3 {
            return None;
        }
        let spread = Spread { now: self.count.min(now * 2), before: Some(now) };
        self.spread.store(spread.to_word(), Ordering::Relaxed);
        Some(now)
    }

    /// Moves what lies there to where it is looked for from now on; hands it back where there is no room.
    pub(super) fn settle(&self, at: usize) -> Option<Entry> {
        let entry = self.entry(at)?;
        for (place, taken) in self.around(&entry.key) {
            if place == at {
                return None; // nearer to its home than any free line
            }
            if taken.is_none() {
                self.put(place, &entry);
                self.clear(at);
                return None;
            }
        }
        self.clear(at);
        Some(entry)
    }

    /// All is moved.
    pub(super) fn settled(&self) {
        let spread = Spread { before: None, ..self.spread() };
        self.spread.store(spread.to_word(), Ordering::Relaxed);
    }

    /// What lies there.
    pub(super) fn entry(&self, at: usize) -> Option<Entry> {
        let line = self.line(at);
        let word = |word: usize| line[word].load(Ordering::Relaxed);
        let mark = word(MARK);
        (subject_in(mark) != 0).then(|| Entry {
            key: array::from_fn(word),
            id: [word(4), word(5)],
            lifetime: word(6) >> SEEN_BITS,
            seen: word(6) as u32 & SEEN,
            subject: subject_in(mark),
            cohort: cohort_in(mark),
        })
    }

    /// Puts `entry` there, in the place of whatever there was.
    pub(super) fn put(&self, at: usize, entry: &Entry) {
        let line = self.line(at);
        let mark = self.clear(at);
        fence(Ordering::Release);
        for (word, value) in entry.key.iter().chain(&entry.id).enumerate() {
            line[word].store(*value, Ordering::Relaxed);
        }
        line[6].store((entry.lifetime << SEEN_BITS) | u64::from(entry.seen & SEEN), Ordering::Relaxed);
        let content = (u64::from(entry.cohort) << SUBJECT_BITS) | u64::from(entry.subject);
        line[MARK].store((mark & !CONTENT) | content, Ordering::Release);
    }

    /// Frees the line; its mark from now on.
    pub(super) fn clear(&self, at: usize) -> u64 {
        let mark = &self.line(at)[MARK];
        let freed = match next(mark.load(Ordering::Relaxed), 0) {
            0 => CONTENT + 1, // after 2²⁴ writings; 0 is for what never was written
            freed => freed,
        };
        // Release: whoever reads that it is free does so after everything that led to it.
        mark.store(freed, Ordering::Release);
        // What the line named may be given to something else from here on, and no reader that sees that may still see the
        // mark from before.
        fence(Ordering::Release);
        freed
    }
}
