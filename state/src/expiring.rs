//! Handles of states that expire: as the others, but reading may renew a value, so it needs a handle that may
//! change. What has expired is not there, whether or not it has been removed yet.

use crate::aggregate::Aggregate;
use crate::described::DescribedTable;
use crate::descriptor::{AggregatingState, Expiring, ListState, ReducingState, ValueState};
use crate::handle::Descriptor;
use crate::layout::{Layout, Listed, Single};
use crate::table::KeyedTable;
use crate::ttl::{Timed, Ttl};
use millstream_model::{Data, EventTime, Key};
use std::cell::RefMut;

/// One key's place in a table, now.
struct Cell<'a, K, C> {
    table: RefMut<'a, KeyedTable<K, C>>,
    key: &'a K,
    hash: u64,
    now: EventTime,
    ttl: Ttl,
}

impl<'a, K: Key, C: Data> Cell<'a, K, C> {
    fn new<L: Layout<Content = C, Lifetime = Ttl>>(
        mut table: RefMut<'a, DescribedTable<K, L>>,
        key: &'a K,
        hash: u64,
    ) -> Self {
        let (now, ttl) = (table.now(), table.lifetime());
        table.search_expired(now, |_, _| ());
        Cell { table: RefMut::map(table, |described| &mut described.table), key, hash, now, ttl }
    }

    fn get(&self) -> Option<&C> {
        self.table.get(self.hash, |k| k == self.key)
    }

    fn get_mut(&mut self) -> Option<&mut C> {
        let key = self.key;
        self.table.get_mut(self.hash, |k| k == key)
    }

    fn or_insert_with(&mut self, make: impl FnOnce() -> C) -> &mut C {
        let key = self.key;
        &mut self.table.entry(self.hash, |k| k == key, || (key.clone(), make())).1
    }

    fn take(&mut self) -> Option<C> {
        let key = self.key;
        self.table.remove(self.hash, |k| k == key).map(|e| e.1)
    }

    /// When a value expires that is written now.
    fn at(&self) -> EventTime {
        self.ttl.from(self.now)
    }
}

impl<K: Key, V: Data> Cell<'_, K, Timed<V>> {
    fn read(&mut self) -> Option<&V> {
        if self.ttl.is_renewed_by_reading() {
            return self.write().map(|value| &*value);
        }
        let now = self.now;
        self.get().filter(|held| !held.is_over(now)).map(|held| &held.value)
    }

    fn write(&mut self) -> Option<&mut V> {
        let (now, at) = (self.now, self.at());
        let held = self.get_mut().filter(|held| !held.is_over(now))?;
        held.at = at;
        Some(&mut held.value)
    }

    fn write_or(&mut self, make: impl FnOnce() -> V) -> &mut V {
        let (now, at) = (self.now, self.at());
        if self.get().is_none_or(|held| held.is_over(now)) {
            let (hash, key) = (self.hash, self.key.clone());
            self.table.insert(hash, key, Timed { at, value: make() });
        }
        let held = self.get_mut().expect("it was there or was inserted just now");
        held.at = at;
        &mut held.value
    }

    fn take_value(&mut self) -> Option<V> {
        let now = self.now;
        self.take().filter(|held| !held.is_over(now)).map(|held| held.value)
    }
}

macro_rules! descriptor {
    ([$($p:tt)*] $state:ty, $layout:ty, $handle:ident<$($h:ident),+> $(, |$s:ident| $($field:ident: $value:expr),+)?) => {
        impl<$($p)*> Descriptor for Expiring<$state> {
            type Table<K: Key> = DescribedTable<K, $layout>;
            type Handle<'a, K: Key> = $handle<'a, K, $($h),+> where Self: 'a;
            #[inline]
            fn name(&self) -> &'static str {
                self.state.name
            }
            #[inline]
            fn handle<'a, K: Key>(
                &'a self,
                table: RefMut<'a, DescribedTable<K, $layout>>,
                key: &'a K,
                hash: u64,
            ) -> $handle<'a, K, $($h),+> {
                $(let $s = &self.state;)?
                $handle { cell: Cell::new(table, key, hash) $($(, $field: $value)+)? }
            }
        }
    };
}

/// One key's value.
pub struct ExpiringValue<'a, K, V> {
    cell: Cell<'a, K, Timed<V>>,
}

descriptor!([V: Data] ValueState<V>, Single<V, Ttl>, ExpiringValue<V>);

impl<K: Key, V: Data> ExpiringValue<'_, K, V> {
    /// The value, if one is set and has not expired.
    pub fn get(&mut self) -> Option<&V> {
        self.cell.read()
    }
    /// The value, to be changed in place: its time begins anew.
    pub fn get_mut(&mut self) -> Option<&mut V> {
        self.cell.write()
    }
    /// Sets the value.
    pub fn set(&mut self, value: V) {
        let at = self.cell.at();
        let (hash, key) = (self.cell.hash, self.cell.key.clone());
        self.cell.table.insert(hash, key, Timed { at, value });
    }
    /// The value, to be changed in place; set to `make()` first if there is none. Its time begins anew.
    pub fn or_insert_with(&mut self, make: impl FnOnce() -> V) -> &mut V {
        self.cell.write_or(make)
    }
    /// The value, to be changed in place; set to its default first if there is none. Its time begins anew.
    pub fn or_default(&mut self) -> &mut V
    where
        V: Default,
    {
        self.cell.write_or(V::default)
    }
    /// Removes the value and gives it back.
    pub fn take(&mut self) -> Option<V> {
        self.cell.take_value()
    }
    /// Removes the value.
    pub fn clear(&mut self) {
        self.cell.take();
    }
}

/// One key's list, whose elements expire one by one.
pub struct ExpiringList<'a, K, V> {
    cell: Cell<'a, K, Vec<Timed<V>>>,
}

descriptor!([V: Data] ListState<V>, Listed<V, Ttl>, ExpiringList<V>);

impl<K: Key, V: Data> ExpiringList<'_, K, V> {
    /// Appends an element.
    pub fn push(&mut self, value: V) {
        let at = self.cell.at();
        self.cell.or_insert_with(Vec::new).push(Timed { at, value });
    }
    /// The elements that have not expired, in order of insertion.
    pub fn iter(&mut self) -> impl Iterator<Item = &V> {
        let (now, at) = (self.cell.now, self.cell.at());
        if self.cell.ttl.is_renewed_by_reading()
            && let Some(list) = self.cell.get_mut()
        {
            list.retain(|held| !held.is_over(now));
            list.iter_mut().for_each(|held| held.at = at);
        }
        let list = self.cell.get().map_or(&[][..], Vec::as_slice);
        list.iter().filter(move |held| !held.is_over(now)).map(|held| &held.value)
    }
    /// Replaces the elements.
    pub fn set(&mut self, values: Vec<V>) {
        let at = self.cell.at();
        if values.is_empty() {
            self.clear();
        } else {
            let held = values.into_iter().map(|value| Timed { at, value }).collect();
            *self.cell.or_insert_with(Vec::new) = held;
        }
    }
    /// Removes the elements and gives them back.
    pub fn take(&mut self) -> Vec<V> {
        let now = self.cell.now;
        let list = self.cell.take().unwrap_or_default();
        list.into_iter().filter(|held| !held.is_over(now)).map(|held| held.value).collect()
    }
    /// Removes the elements.
    pub fn clear(&mut self) {
        self.cell.take();
    }
}

/// One key's folded value.
pub struct ExpiringReducing<'a, K, V> {
    cell: Cell<'a, K, Timed<V>>,
    reduce: fn(&mut V, V),
}

descriptor!([V: Data] ReducingState<V>, Single<V, Ttl>, ExpiringReducing<V>, |state| reduce: state.reduce);

impl<K: Key, V: Data> ExpiringReducing<'_, K, V> {
    /// Folds a value in: the time of the folded value begins anew.
    pub fn add(&mut self, value: V) {
        match self.cell.write() {
            Some(folded) => (self.reduce)(folded, value),
            None => {
                self.cell.write_or(|| value);
            }
        }
    }
    /// The folded value, if anything was added and it has not expired.
    pub fn get(&mut self) -> Option<&V> {
        self.cell.read()
    }
    /// Forgets the value.
    pub fn clear(&mut self) {
        self.cell.take();
    }
}

/// One key's accumulator.
pub struct ExpiringAggregating<'a, K, T, A: Aggregate<T>> {
    cell: Cell<'a, K, Timed<A::Acc>>,
    state: &'a AggregatingState<T, A>,
}

descriptor!(
    [T: 'static, A: Aggregate<T>] AggregatingState<T, A>, Single<A::Acc, Ttl>, ExpiringAggregating<T, A>,
    |state| state: state
);

impl<K: Key, T: 'static, A: Aggregate<T>> ExpiringAggregating<'_, K, T, A> {
    /// Folds a record in: the time of the accumulator begins anew.
    pub fn add(&mut self, value: T) {
        let aggregate = &self.state.aggregate;
        aggregate.add(self.cell.write_or(|| aggregate.create()), value);
    }
    /// What the accumulator amounts to, if anything was added and it has not expired.
    pub fn get(&mut self) -> Option<A::Out> {
        let aggregate = &self.state.aggregate;
        self.cell.read().map(|acc| aggregate.result(acc))
    }
    /// Forgets the accumulator.
    pub fn clear(&mut self) {
        self.cell.take();
    }
}

#[cfg(test)]
mod tests;
