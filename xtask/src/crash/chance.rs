//! Chance that can be repeated: [`Chance`].

/// A generator (SplitMix64) whose whole state is one number. Not for secrets.
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn from_seed(seed: u64) -> Chance {
        Chance(seed)
    }

    /// One of its own for `purpose`, which does not depend on how often this one has been asked.
    pub(crate) fn fork(&self, purpose: u64) -> Chance {
        let mut fork = Chance(self.0 ^ purpose.wrapping_mul(0xd6e8_feb8_6659_fd93));
        Chance(fork.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which must not be 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True once in `times` on average.
    pub(crate) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// From 1 to `most`, small ones as likely as great ones: the logarithm is even.
    pub(crate) fn magnitude(&mut self, most: usize) -> usize {
        let exponent = (self.below(1_000_000) as f64 / 1e6) * ((most + 1) as f64).ln();
        (exponent.exp() as usize).clamp(1, most)
    }

    /// One of `choices`, which must not be empty.
    pub(crate) fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_again_and_a_fork_depends_on_the_seed_alone() {
        let (mut one, mut other) = (Chance::from_seed(7), Chance::from_seed(7));
        let forked = one.fork(3).next();
        assert_eq!(one.next(), other.next());
        assert_eq!(Chance::from_seed(7).fork(3).next(), forked);
        assert_ne!(Chance::from_seed(7).fork(4).next(), forked);
    }

    #[test]
    fn magnitudes_stay_in_range_and_reach_both_ends() {
        let mut chance = Chance::from_seed(1);
        let drawn: Vec<usize> = (0..2_000).map(|_| chance.magnitude(50)).collect();
        assert_eq!(drawn.iter().min(), Some(&1));
        assert_eq!(drawn.iter().max(), Some(&50));
    }
}
