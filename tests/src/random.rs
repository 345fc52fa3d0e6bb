//! Chance that can be repeated: a number tells all that is drawn.

/// Draws numbers from a seed: SplitMix64 (Steele et al. 2014).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// A number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 if there is none.
    pub fn below(&mut self, n: u64) -> u64 {
        self.number() % n.max(1)
    }

    /// A number from `from` on and below `to`; `from` if there is none.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from))
    }

    /// One of those; `None` if there is none.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> Option<T> {
        choices.get(self.below(choices.len() as u64) as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_tells_a_run() {
        let draw = |seed| {
            let mut random = Random(seed);
            [random.below(1000), random.between(20, 900), random.between(5, 5)]
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7)[..2], draw(8)[..2]);
        assert_eq!(draw(7)[2], 5);
    }

    #[test]
    fn all_are_picked_and_none_of_none() {
        let mut random = Random(1);
        let picked: std::collections::BTreeSet<_> =
            (0..100).filter_map(|_| random.pick(&[1, 2, 3])).collect();
        assert_eq!(picked.len(), 3);
        assert_eq!(random.pick::<u8>(&[]), None);
    }
}
