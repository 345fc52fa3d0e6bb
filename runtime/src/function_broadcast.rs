//! The broadcast state pattern: a stream of records meets a stream of rules.
//!
//! The rules go to every subtask, and each keeps them in *broadcast states*: maps that do not belong to a
//! key. Only the broadcast side may change them, because only it sees the same records everywhere; the
//! other side is given views. What the broadcast side does must depend on nothing but its records (not on
//! the subtask, the clock or keyed state), so that all copies stay the same.

use crate::context::OperatorContext;
use crate::function::{Collector, KeyedContext, ProcessContext, Timer, Timers};
use millstream_model::{Data, Key, Result, hash_key};
use millstream_state::described::AnyTable;
use millstream_state::handle::Descriptor;
use millstream_state::map::MapHandle;
use millstream_state::schema::Schema;
use millstream_state::ttl::Clock;
use millstream_state::{Declared, KeyedStates, MapState, StateKind, StateSet};
use std::cell::RefCell;
use std::convert::identity;
use std::ops::Deref;

/// A map that every subtask has a copy of. Declared as a constant:
///
/// ```
/// use millstream_runtime::function_broadcast::{BroadcastSet, BroadcastState};
/// use millstream_state::states;
///
/// const LIMITS: BroadcastState<String, u64> = BroadcastState::new("limits");
/// const BROADCAST: BroadcastSet = states![LIMITS];
/// ```
pub struct BroadcastState<K, V>(MapState<K, V>);

impl<K: Key, V: Data> BroadcastState<K, V> {
    /// Describes the state called `name`: unique among the operator's broadcast states, stable across
    /// releases of the program.
    pub const fn new(name: &'static str) -> Self {
        BroadcastState(MapState::new(name))
    }

    /// Says how its values are described, and how those of earlier versions are read.
    #[must_use]
    pub const fn schema(self, schema: Schema<V>) -> Self {
        BroadcastState(self.0.schema(schema))
    }
}

impl<K: Key, V: Data> Declared<()> for BroadcastState<K, V> {
    fn name(&self) -> &'static str {
        Declared::<()>::name(&self.0)
    }

    fn kind(&self) -> StateKind {
        Declared::<()>::kind(&self.0)
    }

    fn table(&self, clock: Clock) -> Box<dyn AnyTable> {
        Declared::<()>::table(&self.0, clock)
    }
}

/// The broadcast states of one function: `const BROADCAST: BroadcastSet = states![LIMITS];`
pub type BroadcastSet = StateSet<()>;

/// A broadcast state to be changed.
pub type BroadcastMap<'a, K, V> = MapHandle<'a, (), K, V>;

/// A broadcast state to be read.
pub struct BroadcastView<'a, K: Key, V: Data>(BroadcastMap<'a, K, V>);

impl<K: Key, V: Data> BroadcastView<'_, K, V> {
    /// The value at `at`.
    pub fn get(&self, at: &K) -> Option<&V> {
        self.0.get(at)
    }
    /// Whether there is a value at `at`.
    pub fn contains(&self, at: &K) -> bool {
        self.0.contains(at)
    }
    /// All entries, in no particular but a repeatable order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter()
    }
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A broadcast state in the tables of its operator: one entry, because it belongs to no key.
fn map<'a, K: Key, V: Data>(
    states: &'a KeyedStates,
    state: &'a BroadcastState<K, V>,
) -> BroadcastMap<'a, K, V> {
    // Nothing is a key like any other.
    states.of(&state.0, &(), hash_key(&()).unwrap_or_default())
}

/// What the record side of a [`BroadcastProcessFunction`] may ask: everything a
/// [`ProcessContext`] offers, and the broadcast states to read.
pub struct BroadcastContext<'a> {
    pub(crate) process: ProcessContext<'a>,
    pub(crate) broadcast: &'a KeyedStates,
}

/// What the broadcast side of a [`BroadcastProcessFunction`] may ask: everything a
/// [`ProcessContext`] offers, and the broadcast states to change.
pub struct BroadcastUpdateContext<'a> {
    pub(crate) process: ProcessContext<'a>,
    pub(crate) broadcast: &'a KeyedStates,
}

/// What the record side of a [`KeyedBroadcastProcessFunction`] may ask: everything a
/// [`KeyedContext`] offers (states and timers of the key), and the broadcast states to read.
pub struct KeyedBroadcastContext<'a, K> {
    pub(crate) keyed: KeyedContext<'a, K>,
    pub(crate) broadcast: &'a KeyedStates,
}

/// What the broadcast side of a [`KeyedBroadcastProcessFunction`] may ask: everything a
/// [`ProcessContext`] offers, the broadcast states to change, and the states of every key.
pub struct KeyedBroadcastUpdateContext<'a, K> {
    pub(crate) process: ProcessContext<'a>,
    pub(crate) broadcast: &'a KeyedStates,
    pub(crate) states: &'a KeyedStates,
    pub(crate) timers: &'a RefCell<Timers<K>>,
}

/// A context that offers what another one does, and broadcast states.
macro_rules! context {
    (
        $context:ident<$($p:tt),+> as $field:ident: $inner:ty,
        $what:literal,
        $handle:ident,
        $make:expr
    ) => {
        impl<$($p),+> Deref for $context<$($p),+> {
            type Target = $inner;
            fn deref(&self) -> &$inner {
                &self.$field
            }
        }

        impl<$($p),+> $context<$($p),+> {
            #[doc = $what]
            ///
            /// # Panics
            /// If the state is not in `BROADCAST` or is held already; the job ends with that message.
            pub fn broadcast<'s, MK: Key, MV: Data>(
                &'s self,
                state: &'s BroadcastState<MK, MV>,
            ) -> $handle<'s, MK, MV> {
                $make(map(self.broadcast, state))
            }
        }
    };
}

context!(
    BroadcastContext<'a> as process: ProcessContext<'a>,
    "A declared broadcast state, to be read.",
    BroadcastView,
    BroadcastView
);
context!(
    BroadcastUpdateContext<'a> as process: ProcessContext<'a>,
    "A declared broadcast state, to be changed.",
    BroadcastMap,
    identity
);
context!(
    KeyedBroadcastContext<'a, K> as keyed: KeyedContext<'a, K>,
    "A declared broadcast state, to be read.",
    BroadcastView,
    BroadcastView
);
context!(
    KeyedBroadcastUpdateContext<'a, K> as process: ProcessContext<'a>,
    "A declared broadcast state, to be changed.",
    BroadcastMap,
    identity
);

impl<K: Key> KeyedBroadcastUpdateContext<'_, K> {
    /// Calls `visit` for every key of this subtask that has a value in the given keyed state; its context
    /// gives the key, all its states and its timers. The keys are copied first, so all may be changed.
    ///
    /// # Errors
    /// The first error of `visit`.
    ///
    /// # Panics
    /// If the state is not in `STATES` or is held; the job ends with that message.
    pub fn for_each_key<D: Descriptor>(
        &self,
        descriptor: &D,
        mut visit: impl FnMut(&mut KeyedContext<'_, K>) -> Result<()>,
    ) -> Result<()> {
        for key in self.states.keys::<K, D>(descriptor) {
            let hash = hash_key(&key)?;
            visit(&mut KeyedContext {
                key: &key,
                hash,
                time: self.process.time,
                watermark: self.process.watermark,
                states: self.states,
                timers: self.timers,
                operator: self.process.operator,
            })?;
        }
        Ok(())
    }
}

/// Records of type `I` without keys, and broadcast records of type `B` (Flink's
/// `BroadcastProcessFunction`).
pub trait BroadcastProcessFunction<I, B>: Clone + Send + 'static {
    /// What it emits.
    type Out;
    /// The broadcast states it uses.
    const BROADCAST: BroadcastSet;
    /// Called once per subtask before the first record.
    ///
    /// # Errors
    /// Whatever prevents the job from starting.
    fn open(&mut self, context: &OperatorContext) -> Result<()> {
        let _ = context;
        Ok(())
    }
    /// Processes one record.
    ///
    /// # Errors
    /// Whatever must end the job.
    fn process(
        &mut self,
        value: I,
        ctx: &mut BroadcastContext<'_>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()>;
    /// Processes one broadcast record; called with the same ones in every subtask.
    ///
    /// # Errors
    /// Whatever must end the job.
    fn process_broadcast(
        &mut self,
        value: B,
        ctx: &mut BroadcastUpdateContext<'_>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()>;
    /// Called once after the last record, of the input or before a savepoint that ends event time; may still emit.
    ///
    /// # Errors
    /// Whatever prevents a clean end.
    fn end(&mut self, out: &mut Collector<'_, Self::Out>) -> Result<()> {
        let _ = out;
        Ok(())
    }
    /// Called once after the end.
    ///
    /// # Errors
    /// Whatever prevents a clean end.
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Keyed records of type `I` with state and timers, and broadcast records of type `B` (Flink's
/// `KeyedBroadcastProcessFunction`).
pub trait KeyedBroadcastProcessFunction<K: Key, I, B>: Clone + Send + 'static {
    /// What it emits.
    type Out;
    /// The states it keeps per key.
    const STATES: StateSet<K> = StateSet::NONE;
    /// The broadcast states it uses.
    const BROADCAST: BroadcastSet;
    /// Called once per subtask before the first record.
    ///
    /// # Errors
    /// Whatever prevents the job from starting.
    fn open(&mut self, context: &OperatorContext) -> Result<()> {
        let _ = context;
        Ok(())
    }
    /// Processes one record.
    ///
    /// # Errors
    /// Whatever must end the job.
    fn process(
        &mut self,
        value: I,
        ctx: &mut KeyedBroadcastContext<'_, K>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()>;
    /// Processes one broadcast record; called with the same ones in every subtask.
    ///
    /// # Errors
    /// Whatever must end the job.
    fn process_broadcast(
        &mut self,
        value: B,
        ctx: &mut KeyedBroadcastUpdateContext<'_, K>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()>;
    /// A timer of a key fired.
    ///
    /// # Errors
    /// Whatever must end the job.
    fn on_timer(
        &mut self,
        timer: Timer,
        ctx: &mut KeyedBroadcastContext<'_, K>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        let _ = (timer, ctx, out);
        Ok(())
    }
    /// Called once after the last record.
    ///
    /// # Errors
    /// Whatever prevents a clean end.
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}
