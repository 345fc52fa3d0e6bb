//! Chance that can be repeated. Every concern draws from a stream of its own, so that leaving out a fault does not change the
//! job it is left out of.

use millstream_tests::random::Random;

/// A stream of numbers.
#[derive(Clone)]
pub(super) struct Prng(Random);

impl Prng {
    /// The stream of a seed for a concern.
    pub(super) fn new(seed: u64, concern: &str) -> Self {
        let mut prng = Prng(Random(seed));
        for byte in concern.bytes() {
            prng.0 = Random(prng.next() ^ u64::from(byte));
        }
        prng
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0.number()
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
