//! Descriptors: the names and types of an operator's states, as constants.
//!
//! A function declares its states in one place (`const STATES: StateSet<K> = states![LAST, WAITING];`), so
//! the engine knows them all before the first record: a plan can show them, tables exist when the chain
//! is assembled, and asking for a state is an index, not a registration.

use crate::aggregate::Aggregate;
use crate::states::StateTable;
use crate::table::KeyedTable;
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

/// One value per key.
pub struct ValueState<V> {
    pub(crate) name: &'static str,
    value: PhantomData<fn() -> V>,
}

/// A list per key, in order of insertion.
pub struct ListState<V> {
    pub(crate) name: &'static str,
    value: PhantomData<fn() -> V>,
}

/// A map per key.
pub struct MapState<MK, MV> {
    pub(crate) name: &'static str,
    value: PhantomData<fn() -> (MK, MV)>,
}

/// One value per key; adding a value folds it in.
pub struct ReducingState<V> {
    pub(crate) name: &'static str,
    pub(crate) reduce: fn(&mut V, V),
}

/// One accumulator per key; adding a record folds it in.
pub struct AggregatingState<T, A: Aggregate<T>> {
    pub(crate) name: &'static str,
    pub(crate) aggregate: A,
    value: PhantomData<fn() -> T>,
}

macro_rules! const_new {
    ($state:ident<$($p:ident),+>) => {
        impl<$($p),+> $state<$($p),+> {
            /// Describes the state called `name`: unique within its operator, stable across releases of
            /// the program.
            pub const fn new(name: &'static str) -> Self {
                $state { name, value: PhantomData }
            }
        }
    };
}

const_new!(ValueState<V>);
const_new!(ListState<V>);
const_new!(MapState<MK, MV>);

impl<V> ReducingState<V> {
    /// Describes the state called `name`, folded with `reduce`.
    pub const fn new(name: &'static str, reduce: fn(&mut V, V)) -> Self {
        ReducingState { name, reduce }
    }
}

impl<T, A: Aggregate<T>> AggregatingState<T, A> {
    /// Describes the state called `name`, folded with `aggregate`.
    pub const fn new(name: &'static str, aggregate: A) -> Self {
        AggregatingState { name, aggregate, value: PhantomData }
    }
}

/// A descriptor as the engine sees it: name, kind, and how to make its table for keys of type `K`.
pub struct StateDeclaration<K> {
    pub(crate) name: &'static str,
    pub(crate) kind: StateKind,
    pub(crate) make: fn() -> Box<dyn StateTable>,
    key: PhantomData<fn(K)>,
}

impl<K> StateDeclaration<K> {
    /// The state's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The state's kind.
    pub fn kind(&self) -> StateKind {
        self.kind
    }
}

fn make_table<K: Key, V: Data>() -> Box<dyn StateTable> {
    Box::new(KeyedTable::<K, V>::default())
}

macro_rules! declare {
    ($state:ident<$($p:ident : $bound:path),+>, $kind:ident, $value:ty) => {
        impl<$($p: $bound),+> $state<$($p),+> {
            /// The declaration for keys of type `K`; `states!` calls this.
            pub const fn declare<K: Key>(&self) -> StateDeclaration<K> {
                StateDeclaration {
                    name: self.name,
                    kind: StateKind::$kind,
                    make: make_table::<K, $value>,
                    key: PhantomData,
                }
            }
        }
    };
}

declare!(ValueState<V: Data>, Value, V);
declare!(ListState<V: Data>, List, Vec<V>);
declare!(MapState<MK: Key, MV: Data>, Map, KeyedTable<MK, MV>);
declare!(ReducingState<V: Data>, Reducing, V);

impl<T: 'static, A: Aggregate<T>> AggregatingState<T, A> {
    /// The declaration for keys of type `K`; `states!` calls this.
    pub const fn declare<K: Key>(&self) -> StateDeclaration<K> {
        StateDeclaration {
            name: self.name,
            kind: StateKind::Aggregating,
            make: make_table::<K, A::Acc>,
            key: PhantomData,
        }
    }
}

/// The states of one function. Made by `states!`.
pub struct StateSet<K: 'static>(&'static [StateDeclaration<K>]);

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
    pub const fn new(declarations: &'static [StateDeclaration<K>]) -> Self {
        StateSet(declarations)
    }

    /// The declarations, in the order in which they were written.
    pub fn declarations(&self) -> &'static [StateDeclaration<K>] {
        self.0
    }
}

/// Lists the states a function uses: `const STATES: StateSet<UserId> = states![LAST, WAITING];`
#[macro_export]
macro_rules! states {
    ($($state:expr),* $(,)?) => {
        $crate::StateSet::new(&[$($state.declare()),*])
    };
}
