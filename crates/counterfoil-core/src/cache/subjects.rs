//! Whom tokens stand for, held once however many tokens: [`Subjects`].

use std::fmt;

use hashbrown::HashTable;

use super::sync::{AtomicU64, OnceLock, Ordering, zeroed_words};
use crate::secret::CheckKey;
use crate::subject::SubjectId;

/// Words of a place: the state, and a name of 64 bytes.
const WORDS: usize = 1 + SubjectId::MAX_BYTES / 8;
/// Places that are made at a time. A model has few, because it tries every order.
const CHUNK: usize = if cfg!(counterfoil_model) { 2 } else { 1 << 10 };
/// In the state: whether the tokens of the subject are accepted. Below it lies the length of the name.
const ALIVE: u64 = 1 << 8;

/// Names and states, by number. Number 0 is nobody's.
///
/// Read by anybody at any time. A place is given to another subject only when no line names it any more, and lines tell
/// their readers, see [`super::lines::Lines::still`].
pub(super) struct Subjects {
    chunks: Box<[OnceLock<Box<[AtomicU64]>>]>,
}

impl fmt::Debug for Subjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subjects")
    }
}

impl Subjects {
    /// Room for `most`, of which nothing is used yet.
    pub(super) fn new(most: usize) -> Subjects {
        Subjects { chunks: (0..most / CHUNK + 1).map(|_| OnceLock::new()).collect() }
    }

    fn place(&self, number: u32) -> Option<&[AtomicU64; WORDS]> {
        let number = number as usize;
        self.chunks.get(number / CHUNK)?.get()?.get(number % CHUNK * WORDS..)?.first_chunk()
    }

    /// The subject of that number, if its tokens are accepted. What is read is a name only if the line that gave the number
    /// has not been written meanwhile.
    #[inline]
    pub(super) fn read(&self, number: u32) -> Option<SubjectId> {
        let place = self.place(number)?;
        let state = place[0].load(Ordering::Acquire);
        if state & ALIVE == 0 {
            return None;
        }
        let mut words = [0; WORDS - 1];
        let length = (state & (ALIVE - 1)) as usize;
        for (word, from) in words.iter_mut().zip(&place[1..]).take(length.div_ceil(8)) {
            *word = from.load(Ordering::Relaxed);
        }
        Some(SubjectId::from_words(words, length))
    }

    /// Whether the tokens of that number are accepted.
    pub(super) fn is_alive(&self, number: u32) -> bool {
        self.place(number).is_some_and(|place| place[0].load(Ordering::Relaxed) & ALIVE != 0)
    }

    /// Gives the place to `subject`. No line names it.
    fn put(&self, number: u32, subject: &SubjectId) {
        if let Some(chunk) = self.chunks.get(number as usize / CHUNK) {
            chunk.get_or_init(|| zeroed_words(CHUNK * WORDS));
        }
        let Some(place) = self.place(number) else { return };
        let (words, length) = subject.to_words();
        for (place, word) in place[1..].iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
        place[0].store(ALIVE | length as u64, Ordering::Release);
    }

    /// Refuses every token that names it from now on.
    fn kill(&self, number: u32) {
        if let Some(place) = self.place(number) {
            let state = place[0].load(Ordering::Relaxed);
            place[0].store(state & !ALIVE, Ordering::Release);
        }
    }

    fn bytes(&self) -> usize {
        let made = self.chunks.iter().filter(|chunk| chunk.get().is_some()).count();
        made * CHUNK * WORDS * size_of::<u64>() + size_of_val(&*self.chunks)
    }
}

/// Which number a subject has, and how many lines name it. For the one who writes.
pub(super) struct Register {
    numbers: HashTable<u32>,
    /// By number.
    lines: Vec<u32>,
    free: Vec<u32>,
    key: CheckKey,
}

impl Register {
    pub(super) fn new(key: CheckKey) -> Register {
        Register { numbers: HashTable::new(), lines: vec![0], free: Vec::new(), key }
    }

    fn hash(key: &CheckKey, name: &str) -> u64 {
        key.tag("subject", name.as_bytes())
    }

    /// The number of a subject whose tokens are accepted.
    pub(super) fn number(&self, subjects: &Subjects, subject: &SubjectId) -> Option<u32> {
        let hash = Self::hash(&self.key, subject.as_str());
        self.numbers.find(hash, |&number| subjects.read(number).as_ref() == Some(subject)).copied()
    }

    /// As [`Register::number`], or a new one; `None` where there is no room.
    pub(super) fn number_or_new(&mut self, subjects: &Subjects, subject: &SubjectId) -> Option<u32> {
        if let Some(number) = self.number(subjects, subject) {
            return Some(number);
        }
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                let number = u32::try_from(self.lines.len()).ok()?;
                if number as usize >= super::lines::SUBJECTS.min(subjects.chunks.len() * CHUNK) {
                    return None;
                }
                self.lines.push(0);
                number
            }
        };
        subjects.put(number, subject);
        let Register { numbers, key, .. } = self;
        let hash = Self::hash(key, subject.as_str());
        numbers.insert_unique(hash, number, |&number| Self::hash_of(key, subjects, number));
        Some(number)
    }

    fn hash_of(key: &CheckKey, subjects: &Subjects, number: u32) -> u64 {
        subjects.read(number).map_or(0, |subject| Self::hash(key, subject.as_str()))
    }

    /// How many lines name it.
    pub(super) fn lines(&self, number: u32) -> u32 {
        self.lines.get(number as usize).copied().unwrap_or(0)
    }

    pub(super) fn named(&mut self, number: u32) {
        if let Some(lines) = self.lines.get_mut(number as usize) {
            *lines += 1;
        }
    }

    /// A line names it no more; where none does, the number is free for another.
    pub(super) fn no_longer_named(&mut self, subjects: &Subjects, number: u32) {
        let Some(lines) = self.lines.get_mut(number as usize) else { return };
        *lines = lines.saturating_sub(1);
        if *lines == 0 {
            self.end(subjects, number);
            self.free.push(number);
        }
    }

    /// Refuses every token of this subject from now on. Those that come later get another number.
    pub(super) fn refuse(&mut self, subjects: &Subjects, subject: &SubjectId) {
        if let Some(number) = self.number(subjects, subject) {
            self.end(subjects, number);
        }
    }

    fn end(&mut self, subjects: &Subjects, number: u32) {
        let hash = Self::hash_of(&self.key, subjects, number);
        if let Ok(known) = self.numbers.find_entry(hash, |&known| known == number) {
            known.remove();
        }
        subjects.kill(number);
    }

    #[cfg(test)]
    pub(super) fn numbers_given(&self) -> usize {
        self.lines.len()
    }

    pub(super) fn bytes(&self, subjects: &Subjects) -> usize {
        subjects.bytes()
            + self.numbers.allocation_size()
            + (self.lines.capacity() + self.free.capacity()) * size_of::<u32>()
    }
}
