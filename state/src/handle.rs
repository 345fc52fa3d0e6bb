//! Handles: one key's part of a state, borrowed while a function works on it.

use crate::aggregate::Aggregate;
use crate::described::{DescribedTable, StateTable};
use crate::descriptor::{AggregatingState, ListState, ReducingState, ValueState};
use crate::layout::{Listed, Single};
use crate::table::KeyedTable;
use millstream_model::{Data, Key};
use std::cell::RefMut;

/// A descriptor of keyed state: knows the table it lives in and the handle it is used by.
pub trait Descriptor {
    /// Its table, for keys of a type.
    type Table<K: Key>: StateTable<K>;
    /// What a function gets for one key.
    type Handle<'a, K: Key>
    where
        Self: 'a;

    /// The state's name.
    fn name(&self) -> &'static str;
    /// The handle of one key.
    fn handle<'a, K: Key>(
        &'a self,
        table: RefMut<'a, Self::Table<K>>,
        key: &'a K,
        hash: u64,
    ) -> Self::Handle<'a, K>;
}

/// One key's place in a table.
struct Cell<'a, K, V> {
    table: RefMut<'a, KeyedTable<K, V>>,
    key: &'a K,
    hash: u64,
}

impl<K: Key, V> Cell<'_, K, V> {
    #[inline]
    fn get(&self) -> Option<&V> {
        self.table.get(self.hash, |k| k == self.key)
    }
    #[inline]
    fn get_mut(&mut self) -> Option<&mut V> {
        let key = self.key;
        self.table.get_mut(self.hash, |k| k == key)
    }
    #[inline]
    fn or_insert_with(&mut self, make: impl FnOnce() -> V) -> &mut V {
        let key = self.key;
        &mut self.table.entry(self.hash, |k| k == key, || (key.clone(), make())).1
    }
    fn take(&mut self) -> Option<V> {
        let key = self.key;
        self.table.remove(self.hash, |k| k == key).map(|e| e.1)
    }
}

macro_rules! descriptor {
    ([$($p:tt)*] $state:ty, $layout:ty, $handle:ident<$($h:ident),+>) => {
        impl<$($p)*> Descriptor for $state {
            type Table<K: Key> = DescribedTable<K, $layout>;
            type Handle<'a, K: Key> = $handle<'a, K, $($h),+> where Self: 'a;
            #[inline]
            fn name(&self) -> &'static str {
                self.name
            }
            #[inline]
            fn handle<'a, K: Key>(
                &'a self,
                table: RefMut<'a, DescribedTable<K, $layout>>,
                key: &'a K,
                hash: u64,
            ) -> $handle<'a, K, $($h),+> {
                let table = RefMut::map(table, |described| &mut described.table);
                $handle::make(self, Cell { table, key, hash })
            }
        }
    };
}

/// One key's value.
pub struct ValueHandle<'a, K, V> {
    cell: Cell<'a, K, V>,
}

descriptor!([V: Data] ValueState<V>, Single<V>, ValueHandle<V>);

impl<'a, K: Key, V: Data> ValueHandle<'a, K, V> {
    #[inline]
    fn make(_: &'a ValueState<V>, cell: Cell<'a, K, V>) -> Self {
        ValueHandle { cell }
    }
    /// The value, if one is set.
    #[inline]
    pub fn get(&self) -> Option<&V> {
        self.cell.get()
    }
    /// The value, to be changed in place, if one is set.
    #[inline]
    pub fn get_mut(&mut self) -> Option<&mut V> {
        self.cell.get_mut()
    }
    /// Sets the value.
    #[inline]
    pub fn set(&mut self, value: V) {
        let (hash, key) = (self.cell.hash, self.cell.key);
        match self.cell.table.get_mut(hash, |k| k == key) {
            Some(v) => *v = value,
            None => {
                self.cell.table.insert(hash, key.clone(), value);
            }
        }
    }
    /// The value, to be changed in place; set to `make()` first if there is none. One probe.
    #[inline]
    pub fn or_insert_with(&mut self, make: impl FnOnce() -> V) -> &mut V {
        self.cell.or_insert_with(make)
    }
    /// The value, to be changed in place; set to its default first if there is none. One probe.
    #[inline]
    pub fn or_default(&mut self) -> &mut V
    where
        V: Default,
    {
        self.cell.or_insert_with(V::default)
    }
    /// Removes the value and gives it back.
    pub fn take(&mut self) -> Option<V> {
        self.cell.take()
    }
    /// Removes the value.
    pub fn clear(&mut self) {
        self.cell.take();
    }
}

/// One key's list.
pub struct ListHandle<'a, K, V> {
    cell: Cell<'a, K, Vec<V>>,
}

descriptor!([V: Data] ListState<V>, Listed<V>, ListHandle<V>);

impl<'a, K: Key, V: Data> ListHandle<'a, K, V> {
    #[inline]
    fn make(_: &'a ListState<V>, cell: Cell<'a, K, Vec<V>>) -> Self {
        ListHandle { cell }
    }
    /// Appends an element.
    pub fn push(&mut self, value: V) {
        self.cell.or_insert_with(Vec::new).push(value);
    }
    /// The elements, in order of insertion; empty if there is none.
    pub fn get(&self) -> &[V] {
        self.cell.get().map_or(&[], Vec::as_slice)
    }
    /// The elements, to be changed in place.
    pub fn get_mut(&mut self) -> &mut Vec<V> {
        self.cell.or_insert_with(Vec::new)
    }
    /// Replaces the elements.
    pub fn set(&mut self, values: Vec<V>) {
        if values.is_empty() {
            self.clear();
        } else {
            *self.cell.or_insert_with(Vec::new) = values;
        }
    }
    /// Removes the elements and gives them back.
    pub fn take(&mut self) -> Vec<V> {
        self.cell.take().unwrap_or_default()
    }
    /// Removes the elements.
    pub fn clear(&mut self) {
        self.cell.take();
    }
}

/// One key's folded value.
pub struct ReducingHandle<'a, K, V> {
    cell: Cell<'a, K, V>,
    reduce: fn(&mut V, V),
}

descriptor!([V: Data] ReducingState<V>, Single<V>, ReducingHandle<V>);

impl<'a, K: Key, V: Data> ReducingHandle<'a, K, V> {
    #[inline]
    fn make(state: &'a ReducingState<V>, cell: Cell<'a, K, V>) -> Self {
        ReducingHandle { cell, reduce: state.reduce }
    }
    /// Folds a value in.
    pub fn add(&mut self, value: V) {
        let reduce = self.reduce;
        match self.cell.get_mut() {
            Some(v) => reduce(v, value),
            None => {
                self.cell.or_insert_with(|| value);
            }
        }
    }
    /// The folded value, if anything was added.
    pub fn get(&self) -> Option<&V> {
        self.cell.get()
    }
    /// Forgets the value.
    pub fn clear(&mut self) {
        self.cell.take();
    }
}

/// One key's accumulator.
pub struct AggregatingHandle<'a, K, T, A: Aggregate<T>> {
    cell: Cell<'a, K, A::Acc>,
    state: &'a AggregatingState<T, A>,
}

descriptor!([T: 'static, A: Aggregate<T>] AggregatingState<T, A>, Single<A::Acc>, AggregatingHandle<T, A>);

impl<'a, K: Key, T: 'static, A: Aggregate<T>> AggregatingHandle<'a, K, T, A> {
    #[inline]
    fn make(state: &'a AggregatingState<T, A>, cell: Cell<'a, K, A::Acc>) -> Self {
        AggregatingHandle { cell, state }
    }
    /// Folds a record in.
    pub fn add(&mut self, value: T) {
        let aggregate = &self.state.aggregate;
        aggregate.add(self.cell.or_insert_with(|| aggregate.create()), value);
    }
    /// What the accumulator amounts to, if anything was added.
    pub fn get(&self) -> Option<A::Out> {
        self.cell.get().map(|acc| self.state.aggregate.result(acc))
    }
    /// Forgets the accumulator.
    pub fn clear(&mut self) {
        self.cell.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ttl::Clock;
    use crate::{KeyedStates, MapState, StateSet, states};
    use millstream_model::hash_key;
    use std::sync::Arc;

    const COUNT: ValueState<u64> = ValueState::new("count");
    const SEEN: ListState<String> = ListState::new("seen");
    const PER_DAY: MapState<u32, i64> = MapState::new("per-day");
    const MOST: ReducingState<i64> = ReducingState::new("most", |a, b| *a = (*a).max(b));
    const STATES: StateSet<String> = states![COUNT, SEEN, PER_DAY, MOST];

    #[test]
    fn several_states_of_a_key_are_held_at_once() {
        let states = KeyedStates::new(STATES, &(Arc::new(|| 0i64) as Clock)).unwrap();
        for (key, n) in [("a", 3), ("b", 1), ("a", 2)] {
            let key = key.to_string();
            let hash = hash_key(&key).unwrap();
            let mut count = states.of(&COUNT, &key, hash);
            let mut seen = states.of(&SEEN, &key, hash);
            let mut per_day = states.of(&PER_DAY, &key, hash);
            let mut most = states.of(&MOST, &key, hash);
            *count.or_default() += n;
            seen.push(format!("{key}{n}"));
            *per_day.or_insert_with(7, || 0) += 1;
            most.add(n as i64);
        }
        let key = "a".to_string();
        let hash = hash_key(&key).unwrap();
        assert_eq!(states.of(&COUNT, &key, hash).get(), Some(&5));
        assert_eq!(states.of(&SEEN, &key, hash).get(), ["a3", "a2"]);
        assert_eq!(states.of(&PER_DAY, &key, hash).remove(&7), Some(2));
        assert_eq!(states.of(&MOST, &key, hash).get(), Some(&3));
    }

    #[test]
    #[should_panic(expected = "state `other` is not declared")]
    fn an_undeclared_state_is_named() {
        let states = KeyedStates::new(STATES, &(Arc::new(|| 0i64) as Clock)).unwrap();
        const OTHER: ValueState<u8> = ValueState::new("other");
        states.of(&OTHER, &String::new(), 0);
    }

    #[test]
    #[should_panic(expected = "state `count` is already held")]
    fn a_state_held_twice_is_named() {
        let states = KeyedStates::new(STATES, &(Arc::new(|| 0i64) as Clock)).unwrap();
        let key = String::new();
        let _first = states.of(&COUNT, &key, 0);
        states.of(&COUNT, &key, 0);
    }
}
