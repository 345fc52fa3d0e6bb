//! A window that is summed up when it fires, because not all of it fits into memory: a key group at a time.
//!
//! Entries in the store lie by key groups; those in memory are put in that order once. So what is held at a time is the
//! sums of one key group, whatever the window holds (Graefe, "Query evaluation techniques for large databases", ACM
//! Computing Surveys 1993, section 4.4: hash aggregation with overflow partitions; here they are there already).

use super::super::slots::{Reader, Slots};
use super::Merge;
use millstream_model::{EventTime, Key};
use millstream_state::DenseTable;
use std::collections::BTreeSet;
use std::ops::Bound;

/// See the module's text.
pub(super) struct Anew<K, Acc, P> {
    slices: Vec<Slice<K, P>>,
    /// Groups that are not summed up yet, the last one first.
    groups: Vec<u16>,
    /// The sums of a group, and how many of them have been passed.
    sums: DenseTable<K, Acc>,
    n_passed: usize,
}

/// A slice of the window.
struct Slice<K, P> {
    start: EventTime,
    slot: usize,
    /// Key group and position of the entries in memory that have not been taken.
    in_memory: Vec<(u16, u32)>,
    /// Of what type the entries in the store are.
    stored: std::marker::PhantomData<fn() -> (K, P)>,
}

impl<K: Key, Acc: Clone, P> Anew<K, Acc, P> {
    /// Of the slices that begin within the window.
    pub(super) fn new(slices: &Slots<K, P>, window: std::ops::Range<Bound<EventTime>>) -> Self {
        let mut groups = BTreeSet::new();
        let of_window = slices.range(window.start, window.end).map(|(start, slot)| {
            let entries = slices[slot].iter().enumerate();
            let mut in_memory: Vec<_> =
                entries.map(|(at, entry)| (slices.group(entry.hash), at as u32)).collect();
            in_memory.sort_unstable_by(|a, b| b.cmp(a));
            groups.extend(in_memory.iter().map(|(group, _)| *group));
            groups.extend(slices.spilled_groups(start));
            Slice { start, slot, in_memory, stored: std::marker::PhantomData }
        });
        let slices = of_window.collect();
        let groups = groups.into_iter().rev().collect();
        Anew { slices, groups, sums: DenseTable::default(), n_passed: 0 }
    }

    /// The next total, until it is [passed](Self::pass), with the hash of its key.
    pub(super) fn total(
        &mut self,
        slices: &Slots<K, P>,
        merge: &impl Merge<Acc>,
        acc: fn(&P) -> &Acc,
    ) -> Option<(u64, &K, &Acc)> {
        while self.n_passed >= self.sums.len() {
            let group = self.groups.pop()?;
            self.sum_up(group, slices, merge, acc);
        }
        self.sums.at(self.n_passed).map(|entry| (entry.hash, &entry.key, &entry.value))
    }

    /// Passes a total.
    pub(super) fn pass(&mut self) {
        self.n_passed += 1;
    }

    fn sum_up(
        &mut self,
        group: u16,
        slices: &Slots<K, P>,
        merge: &impl Merge<Acc>,
        acc: fn(&P) -> &Acc,
    ) {
        let sums = &mut self.sums;
        sums.clear();
        self.n_passed = 0;
        let mut add = |hash: u64, key: &K, part: &P| {
            sums.upsert(
                hash,
                |k| k == key,
                || (key.clone(), acc(part).clone()),
                |sum| merge.merge(sum, acc(part)),
            );
        };
        for slice in &mut self.slices {
            while let Some((_, at)) = slice.in_memory.pop_if(|(of, _)| *of == group) {
                if let Some(entry) = slices[slice.slot].at(at as usize) {
                    add(entry.hash, &entry.key, &entry.value);
                }
            }
            let mut stored = Reader::new(slice.start, vec![group]);
            while let Some(entry) = stored.entry(slices) {
                add(entry.hash, &entry.key, &entry.value);
                stored.pass();
            }
        }
    }
}
