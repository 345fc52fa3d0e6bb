//! A table of counts per numeric key that hides its cache misses.
//!
//! A batch of keys is counted back to back while the slots of the keys ahead are being fetched.
//! With 10 million keys this is about twice as fast as a general hash map, which is why the loops
//! have it: a limit must not be beaten by the engine it limits.

/// Slots fetched ahead of the one being updated.
const AHEAD: usize = 16;
/// Marks a slot without a key, so this one key cannot be counted.
const EMPTY: u64 = u64::MAX;

#[derive(Clone, Copy)]
struct Slot {
    key: u64,
    count: u64,
}

/// Counts per key; open addressing with linear probing, at most 60 % full.
pub(super) struct CountTable {
    slots: Vec<Slot>,
    len: usize,
    /// 64 less the binary logarithm of the number of slots: the top bits of a hash find the slot.
    shift: u32,
}

impl Default for CountTable {
    fn default() -> Self {
        Self::with_slots_log2(10)
    }
}

impl CountTable {
    fn with_slots_log2(log2: u32) -> Self {
        let slots = vec![Slot { key: EMPTY, count: 0 }; 1 << log2];
        Self { slots, len: 0, shift: 64 - log2 }
    }

    /// Counts every key of `keys`; `each(key, count)` sees the running counts.
    #[inline(always)]
    pub(super) fn count_all(&mut self, keys: &[u64], mut each: impl FnMut(u64, u64)) {
        for (i, &key) in keys.iter().enumerate() {
            if let Some(&ahead) = keys.get(i + AHEAD) {
                self.prefetch(ahead);
            }
            each(key, self.add(key, 1));
        }
    }

    /// Adds `more` to the count of `key` and returns the sum.
    #[inline(always)]
    pub(super) fn add(&mut self, key: u64, more: u64) -> u64 {
        let mask = self.slots.len() - 1;
        let mut at = self.slot_of(key);
        loop {
            let slot = &mut self.slots[at & mask];
            if slot.key == key {
                slot.count += more;
                return slot.count;
            }
            if slot.key == EMPTY {
                *slot = Slot { key, count: more };
                self.len += 1;
                if self.len * 10 > self.slots.len() * 6 {
                    self.grow();
                }
                return more;
            }
            at += 1;
        }
    }

    /// All keys with their counts.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.slots.iter().filter(|slot| slot.key != EMPTY).map(|slot| (slot.key, slot.count))
    }

    /// Forgets all keys, but keeps the room they took.
    pub(super) fn clear(&mut self) {
        self.slots.fill(Slot { key: EMPTY, count: 0 });
        self.len = 0;
    }

    #[inline(always)]
    fn slot_of(&self, key: u64) -> usize {
        (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift) as usize
    }

    #[inline(always)]
    fn prefetch(&self, key: u64) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let slot: *const Slot = self.slots.as_ptr().wrapping_add(self.slot_of(key));
            // SAFETY: a prefetch reads nothing and cannot fault, whatever the address; the call is
            // unsafe only because it takes a raw pointer. Without it w2-10m is half as fast.
            #[allow(unsafe_code)]
            unsafe {
                _mm_prefetch(slot.cast(), _MM_HINT_T0);
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = key;
    }

    #[cold]
    fn grow(&mut self) {
        let larger = Self::with_slots_log2(64 - self.shift + 1);
        let old = std::mem::replace(self, larger);
        for (key, count) in old.iter() {
            self.add(key, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_exact_while_the_table_grows() {
        let keys: Vec<u64> = (0..30_000).map(|i| i * i % 10_007).collect();
        let mut expected = std::collections::HashMap::new();
        let mut table = CountTable::default();
        let mut seen = 0;
        table.count_all(&keys, |key, count| {
            let reference = expected.entry(key).or_insert(0);
            *reference += 1;
            assert_eq!(count, *reference);
            seen += 1;
        });
        assert_eq!(seen, keys.len());
        assert_eq!(table.iter().collect::<std::collections::HashMap<_, _>>(), expected);
        table.clear();
        assert_eq!(table.iter().count(), 0);
        assert_eq!(table.add(5, 3), 3);
    }
}
