//! W6: large state that is rewritten all the time, for what its checkpoints take.
//!
//! The keys come in order first, which fills the state, and then at random. Each record rewrites the whole value of its
//! key in place, so a checkpoint that is being written meets as many changed entries as there can be.

use super::environment;
use super::sink::checksum;
use crate::prng::{mix64, rnd, uniform_key};
use crate::workload::{BenchError, Outcome, Setup};
use millstream::connectors::Generator;
use millstream::prelude::*;

/// Bytes of state per key.
const SIZE: usize = 512;

pub(super) fn run<const KEYS: u64, const RATE: u64>(setup: &Setup) -> Result<Outcome, BenchError> {
    let env = environment(setup)?;
    rewritten::<KEYS>(&env, Some(setup.n), RATE).sink(checksum(|key: &u64| *key));
    super::run(setup, &env, "w6")
}

/// The keys, each when its value has been rewritten; without end if there is no `n`.
pub(crate) fn rewritten<const KEYS: u64>(
    env: &Environment,
    n: Option<u64>,
    rate: u64,
) -> DataStream<u64> {
    let key = |i| if i < KEYS { i } else { uniform_key::<KEYS>(i) };
    let keys = match n {
        Some(n) => Generator::new(n, key),
        None => Generator::unbounded(key),
    };
    env.source(keys.rate(rate), Watermarks::none())
        .key_by(|key| *key)
        .map_with_state(|blob: &mut Vec<u8>, key| {
            rewrite(blob, key);
            key
        })
        .uid("blobs")
}

/// A value of its own for each key, and another one after each change.
fn rewrite(blob: &mut Vec<u8>, key: u64) {
    if blob.is_empty() {
        blob.extend((0..SIZE as u64 / 8).flat_map(|i| rnd(3, 8 * i).to_le_bytes()));
    }
    let noise = mix64(key);
    for (word, i) in blob.chunks_exact_mut(8).zip(0..) {
        word[0] ^= noise.wrapping_add(8 * i) as u8;
        word[7] = word[7].wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_one() {
        let (mut blob, mut other) = (Vec::new(), Vec::new());
        rewrite(&mut blob, 1);
        rewrite(&mut other, 2);
        assert!(blob.len() == SIZE && blob != other);
        let before = blob.clone();
        rewrite(&mut blob, 1);
        rewrite(&mut blob, 1);
        assert_ne!(blob, before);
    }
}
