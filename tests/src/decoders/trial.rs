//! Random changes of bytes that are right.
//!
//! What a fuzzer does with instruments is done here without, for a bounded time and from a seed: bits are flipped, pieces
//! cut out, doubled and put elsewhere, numbers made large. It finds what is easy to find in every run of the tests.

/// A generator of random numbers: splitmix64.
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 if there is none.
    pub fn below(&mut self, n: usize) -> usize {
        (self.draw() % n.max(1) as u64) as usize
    }
}

/// Numbers that lengths and counts go wrong at.
const EDGES: [u64; 8] =
    [0, 1, 0x7f, 0xff, u16::MAX as u64, i32::MAX as u64, u32::MAX as u64, u64::MAX];

/// The bytes with one to four changes; `others` are what pieces are taken from.
pub fn changed(bytes: &[u8], others: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        let end = at + random.below(bytes.len().saturating_sub(at) + 1);
        match random.below(7) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 if !bytes.is_empty() => bytes[at] = random.draw() as u8,
            2 => {
                let edge = EDGES[random.below(EDGES.len())].to_le_bytes();
                let width = [1, 2, 4, 8][random.below(4)];
                for (to, from) in bytes.iter_mut().skip(at).zip(&edge[..width]) {
                    *to = *from;
                }
            }
            3 => drop(bytes.drain(at..end)),
            4 => {
                let piece = bytes[at..end.min(at + 64)].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            5 => bytes.truncate(at),
            _ => {
                if let Some(other) = others.get(random.below(others.len())) {
                    let from = random.below(other.len());
                    let n = random.below(64).min(other.len() - from);
                    bytes.splice(at..at, other[from..from + n].iter().copied());
                }
            }
        }
    }
    bytes
}
