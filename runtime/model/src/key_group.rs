//! Key groups: the unit in which keyed state is placed, moved and restored.
//!
//! A key belongs to one group for ever; a subtask owns a contiguous range of groups. Changing the
//! parallelism moves ranges and never looks at a key again. Nothing outside this module knows how a hash
//! becomes a group.

use std::ops::Range;

/// The default number of key groups: the most subtasks a keyed operator can be spread over.
pub const DEFAULT_MAX_PARALLELISM: u32 = 128;
/// The largest permitted number of key groups.
pub const MAX_PARALLELISM_LIMIT: u32 = 1 << 15;

/// The group of a key's hash, from its high bits.
#[inline]
pub fn key_group(hash: u64, max_parallelism: u32) -> u32 {
    (((hash >> 32) * u64::from(max_parallelism)) >> 32) as u32
}

/// The subtask that owns a key group.
#[inline]
pub fn subtask_of(group: u32, parallelism: u32, max_parallelism: u32) -> u32 {
    (u64::from(group) * u64::from(parallelism) / u64::from(max_parallelism)) as u32
}

/// The groups owned by a subtask: every group is in exactly one range.
pub fn range_of(subtask: u32, parallelism: u32, max_parallelism: u32) -> Range<u32> {
    let at = |s: u32| {
        (u64::from(s) * u64::from(max_parallelism)).div_ceil(u64::from(parallelism)) as u32
    };
    at(subtask)..at(subtask + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_partition_the_groups_and_agree_with_subtask_of() {
        for max in [1, 7, 128, 4096] {
            for p in 1..=max.min(40) {
                let mut next = 0;
                for s in 0..p {
                    let r = range_of(s, p, max);
                    assert_eq!(r.start, next, "max {max} p {p} s {s}");
                    assert!(r.clone().all(|g| subtask_of(g, p, max) == s));
                    next = r.end;
                }
                assert_eq!(next, max);
            }
        }
    }

    #[test]
    fn groups_are_below_the_maximum() {
        assert_eq!(key_group(u64::MAX, 128), 127);
        assert_eq!(key_group(0, 128), 0);
    }
}
