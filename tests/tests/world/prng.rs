//! Chance that can be repeated (SplitMix64, Steele et al. 2014). Every concern draws from a stream of its own, so that
//! leaving out a fault does not change the job it is left out of.

/// A stream of numbers.
#[derive(Clone)]
pub(super) struct Prng(u64);

impl Prng {
    /// The stream of a seed for a concern.
    pub(super) fn new(seed: u64, concern: &str) -> Self {
        let mut prng = Prng(seed);
        for byte in concern.bytes() {
            prng.0 = prng.next() ^ u64::from(byte);
        }
        prng
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub(super) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// Whether something happens that happens `n` times in 1000.
    pub(super) fn permille(&mut self, n: usize) -> bool {
        self.below(1000) < n
    }

    pub(super) fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }
}
