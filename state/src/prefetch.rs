//! The cache lines of a hash table that a batch is about to touch.
//!
//! A batch's keys are known before any of them is worked on, and they are independent. So their cache misses can overlap:
//! first the lines of the tags that a probe begins at are asked for, for many keys; then, when they have come, the
//! entries. Neither waits for an answer, and a probe that guessed wrong costs no more than its own instructions. Without
//! this every key pays two misses one after the other (Chen et al., "Improving hash join performance through
//! prefetching", ICDE 2004, section 4: group prefetching).

use allocator_api2::alloc::Allocator;
use hashbrown::HashTable;

/// Keys whose lines are asked for together: more than a core can have under way, few enough to stay in its first cache.
pub(crate) const GROUP: usize = 64;

/// Asks for the cache line that lies there. Any address will do: one that is nobody's is ignored.
#[inline(always)]
#[allow(unsafe_code)]
pub(crate) fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the instruction reads nothing that the program can see, and does not fault whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    // Elsewhere stable Rust has no such instruction, and what is asked for comes when it is used.
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Where the tags of a table are: a byte for every bucket, behind the buckets, which lie in reverse order.
///
/// This is how hashbrown has it, and it may change: then the wrong lines are asked for, which costs time and nothing else.
pub(crate) struct Tags {
    first: *const u8,
    mask: usize,
}

impl Tags {
    /// Of a table; `None` if it is empty.
    #[inline]
    pub(crate) fn of<T>(table: &HashTable<T, impl Allocator>) -> Option<Self> {
        let n_buckets = table.num_buckets();
        let (bucket, entry) =
            (0..n_buckets).find_map(|bucket| Some((bucket, table.get_bucket(bucket)?)))?;
        let first = std::ptr::from_ref(entry).wrapping_add(bucket + 1).cast();
        Some(Tags { first, mask: n_buckets.wrapping_sub(1) })
    }

    /// Asks for the tags at which the probe for a hash begins.
    #[inline(always)]
    pub(crate) fn prefetch(&self, hash: u64) {
        prefetch(self.first.wrapping_add(hash as usize & self.mask));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_lie_behind_the_buckets() {
        let mut table: HashTable<(u64, u32)> = HashTable::new();
        assert!(Tags::of(&table).is_none());
        for i in 0..1000u64 {
            table.insert_unique(i.wrapping_mul(0x9E37_79B9_7F4A_7C15), (i, 0), |e| {
                e.0.wrapping_mul(0x9E37_79B9_7F4A_7C15)
            });
        }
        let tags = Tags::of(&table).unwrap();
        for bucket in 0..table.num_buckets() {
            let Some(entry) = table.get_bucket(bucket) else { continue };
            assert_eq!(std::ptr::from_ref(entry).wrapping_add(bucket + 1).cast(), tags.first);
        }
        assert_eq!(tags.mask + 1, table.num_buckets());
    }
}
