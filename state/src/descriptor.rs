//! Descriptors: the names and types of an operator's states, as constants.
//!
//! A function declares its states in one place (`const STATES: StateSet<K> = states![LAST, WAITING];`), so
//! the engine knows them all before the first record: a plan can show them, tables exist when the chain
//! is assembled, and asking for a state is an index, not a registration.

use crate::aggregate::Aggregate;
use crate::described::AnyTable;
use crate::handle::Descriptor;
use crate::layout::{Listed, Mapped, Single};
use crate::schema::Schema;
use crate::ttl::{Clock, Ttl};
use millstream_model::{Data, Key};
use std::marker::PhantomData;

/// What kind of state it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateKind {
    /// One value per key.
    Value,
    /// A list per key.
    List,
    /// A map per key.
    Map,
    /// One value per key, folded with a function of the same type.
    Reducing,
    /// One accumulator per key.
    Aggregating,
}

macro_rules! states_of {
    ($($(#[$doc:meta])+ $state:ident<$($p:ident : $bound:path),+> of $element:ident, $kind:ident, $layout:ty;)*) => {$(
        $(#[$doc])+
        pub struct $state<$($p),+> {
            pub(crate) name: &'static str,
            schema: Schema<$element>,
            content: PhantomData<fn() -> ($($p,)+)>,
        }

        impl<$($p: $bound),+> $state<$($p),+> {
            /// Describes the state called `name`: unique within its operator, stable across releases of
            /// the program.
            pub const fn new(name: &'static str) -> Self {
                $state { name, schema: Schema::recorded(), content: PhantomData }
            }
        }

        described!([$($p: $bound),+] $state<$($p),+>, $element, $kind, $layout);
    )*};
}

/// What all descriptors have, whatever else they hold.
macro_rules! described {
    ([$($p:tt)+] $state:ty, $element:ty, $kind:ident, $layout:ty) => {
        impl<$($p)+> $state {
            /// Says how its values (of a list: the elements; of a map: the values) are described, and how those
            /// of earlier versions are read.
            #[must_use]
            pub const fn schema(mut self, schema: Schema<$element>) -> Self {
                self.schema = schema;
                self
            }

            /// The same state, but its values (of a list: each element; of a map: the value of each key) go by
            /// themselves after a time. See [`Ttl`].
            #[must_use]
            pub const fn ttl(self, ttl: Ttl) -> Expiring<Self> {
                Expiring { state: self, ttl }
            }

            pub(crate) fn layout(&self) -> $layout {
                <$layout>::new(self.schema)
            }
        }

        impl<K: Key, $($p)+> Declared<K> for $state {
            fn name(&self) -> &'static str {
                self.name
            }

            fn kind(&self) -> StateKind {
                StateKind::$kind
            }

            fn table(&self, clock: Clock) -> Box<dyn AnyTable> {
                Box::new(<Self as Descriptor>::Table::<K>::new(self.layout(), clock))
            }
        }

        impl<K: Key, $($p)+> Declared<K> for Expiring<$state> {
            fn name(&self) -> &'static str {
                self.state.name
            }

            fn kind(&self) -> StateKind {
                StateKind::$kind
            }

            fn table(&self, clock: Clock) -> Box<dyn AnyTable> {
                let layout = self.state.layout().expiring(self.ttl);
                Box::new(<Self as Descriptor>::Table::<K>::new(layout, clock))
            }
        }
    };
}

states_of! {
    /// One value per key.
    ValueState<V: Data> of V, Value, Single<V>;
    /// A list per key, in order of insertion.
    ///
    /// A list is lent as one slice, so it is kept as one: a change of it during a snapshot writes it down as a whole, a store
    /// has it as one value, and it must fit into memory. What grows without end belongs into a [`MapState`], by number or time.
    ListState<V: Data> of V, List, Listed<V>;
    /// A map per key.
    ///
    /// A large map is kept in chunks of about a hundred entries or some kilobytes. So a change costs as much as a chunk, whether a
    /// snapshot is being written or the map lies in a store, and the map of one key may be larger than memory: see
    /// [`for_each`](crate::map::MapHandle::for_each) for how to go through it then.
    MapState<MK: Key, MV: Data> of MV, Map, Mapped<MK, MV>;
}

/// One value per key; adding a value folds it in.
pub struct ReducingState<V> {
    pub(crate) name: &'static str,
    schema: Schema<V>,
    pub(crate) reduce: fn(&mut V, V),
}

/// One accumulator per key; adding a record folds it in.
pub struct AggregatingState<T, A: Aggregate<T>> {
    pub(crate) name: &'static str,
    schema: Schema<A::Acc>,
    pub(crate) aggregate: A,
}

impl<V: Data> ReducingState<V> {
    /// Describes the state called `name`, folded with `reduce`.
    pub const fn new(name: &'static str, reduce: fn(&mut V, V)) -> Self {
        ReducingState { name, schema: Schema::recorded(), reduce }
    }
}

impl<T, A: Aggregate<T>> AggregatingState<T, A> {
    /// Describes the state called `name`, folded with `aggregate`.
    pub const fn new(name: &'static str, aggregate: A) -> Self {
        AggregatingState { name, schema: Schema::recorded(), aggregate }
    }
}

described!([V: Data] ReducingState<V>, V, Reducing, Single<V>);
described!([T: 'static, A: Aggregate<T>] AggregatingState<T, A>, A::Acc, Aggregating, Single<A::Acc>);

/// A state whose values go by themselves.
///
/// ```
/// use millstream_model::time::hours;
/// use millstream_state::{Expiring, StateSet, Ttl, ValueState, states};
///
/// const LAST: Expiring<ValueState<u64>> = ValueState::new("last").ttl(Ttl::after(hours(24)));
/// const STATES: StateSet<String> = states![LAST];
/// ```
pub struct Expiring<D> {
    pub(crate) state: D,
    ttl: Ttl,
}

/// A descriptor as the engine sees it, whatever its type, for keys of type `K`.
pub trait Declared<K> {
    /// The state's name.
    fn name(&self) -> &'static str;

    /// The state's kind.
    fn kind(&self) -> StateKind;

    /// An empty table for it, with the clock by which values expire.
    fn table(&self, clock: Clock) -> Box<dyn AnyTable>;
}

/// The states of one function. Made by `states!`.
pub struct StateSet<K: 'static>(&'static [&'static dyn Declared<K>]);

impl<K: 'static> Clone for StateSet<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K: 'static> Copy for StateSet<K> {}

impl<K: 'static> StateSet<K> {
    /// No state.
    pub const NONE: StateSet<K> = StateSet(&[]);

    /// The set of these declarations.
    pub const fn new(declarations: &'static [&'static dyn Declared<K>]) -> Self {
        StateSet(declarations)
    }

    /// The declarations, in the order in which they were written.
    pub fn declarations(&self) -> &'static [&'static dyn Declared<K>] {
        self.0
    }
}

/// Lists the states a function uses: `const STATES: StateSet<UserId> = states![LAST, WAITING];`
#[macro_export]
macro_rules! states {
    ($($state:expr),* $(,)?) => {
        $crate::StateSet::new(&[$(&$state),*])
    };
}
