//! The counter-based random numbers that every workload is made of.
//!
//! Random access, not a sequence: event `i` is a function of `i` alone, so a source subtask that
//! emits every P-th event needs no skipping, and a job computes the same events at every
//! parallelism. The numbers are splitmix64's, bit for bit the same as in the Flink harness.

const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// The finaliser of splitmix64: a bijection of 64-bit words that spreads every input bit.
#[inline(always)]
pub const fn mix64(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Output `i` of splitmix64 with seed `seed`.
#[inline(always)]
pub const fn rnd(seed: u64, i: u64) -> u64 {
    mix64(seed.wrapping_add(i.wrapping_add(1).wrapping_mul(GAMMA)))
}

/// The key of event `i` in the counting workloads (W2, W5): uniform over `0..KEYS`.
///
/// The number of keys is a constant so that the remainder is a multiplication; a division would be
/// a third of the whole figure.
#[inline(always)]
pub const fn uniform_key<const KEYS: u64>(i: u64) -> u64 {
    rnd(1, i) % KEYS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_those_of_splitmix64() {
        // Reference sequence of splitmix64 with seed 1234567.
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        for (i, value) in expected.into_iter().enumerate() {
            assert_eq!(rnd(1_234_567, i as u64), value);
        }
    }

    #[test]
    fn keys_stay_below_their_number() {
        assert!((0..1000).all(|i| uniform_key::<7>(i) < 7));
    }
}
