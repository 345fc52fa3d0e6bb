//! The source of a harness: what the test pushes is what the task reads.
//!
//! It takes part in snapshots as a source of a real job does: what is saved is how far it has read, and after a
//! restore it reads on from there. For that what was read is kept, as bytes, since records need not be `Clone`.
//! A source of a job also says again how far time was; here it does so as late as it may, behind the first
//! thing it reads, so that operators that have forgotten what is late are found out.

use crate::environment::Environment;
use crate::graph::{BuildSource, Make, Node, OpContext, PortOf, RawOuts, SourceTraits};
use crate::stream::DataStream;
use millstream_model::{Barrier, Batch, Data, Error, EventTime, MIN_TIME, Result, Signal};
use millstream_runtime::chain::{ChainVisitor, Flow, Push, Site, Stateful};
use millstream_runtime::task::{Head, Polled};
use millstream_state::{Items, Part, Visitor, codec};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

enum Item<T> {
    Batch(Batch<T>),
    Signal(Signal),
    End,
}

impl<T> Item<T> {
    /// The same with other records.
    fn with<U>(&self, records: impl FnOnce(&[T]) -> Result<Vec<U>>) -> Result<Item<U>> {
        Ok(match self {
            Item::Batch(batch) => Item::Batch(Batch {
                values: records(&batch.values)?,
                times: batch.times.clone(),
                hashes: batch.hashes.clone(),
                marks: batch.marks.clone(),
            }),
            Item::Signal(signal) => Item::Signal(*signal),
            Item::End => Item::End,
        })
    }
}

impl<T: Data> Item<T> {
    fn encode(&self) -> Result<Item<Vec<u8>>> {
        let encode = |record: &T| {
            let mut bytes = Vec::new();
            codec::encode(record, &mut bytes).map(|()| bytes)
        };
        self.with(|records| records.iter().map(encode).collect())
    }

    fn decode(item: &Item<Vec<u8>>) -> Result<Self> {
        item.with(|records| records.iter().map(|bytes| codec::decode_all(bytes)).collect())
    }
}

/// What a test gave.
struct Given<T> {
    /// What is still to be read.
    ahead: VecDeque<Item<T>>,
    /// What was read, oldest first; `None` for what cannot be encoded.
    behind: Vec<Option<Item<Vec<u8>>>>,
    /// The number of the oldest.
    first: u64,
}

impl<T> Default for Given<T> {
    fn default() -> Self {
        Given { ahead: VecDeque::new(), behind: Vec::new(), first: 0 }
    }
}

impl<T: Data> Given<T> {
    fn next(&mut self) -> Option<Item<T>> {
        let item = self.ahead.pop_front()?;
        self.behind.push(item.encode().ok());
        Some(item)
    }

    /// Goes back to the item with this number. What another harness was given is not known here: then
    /// everything given here comes after it.
    fn go_back(&mut self, number: u64) -> Result<()> {
        let is_known = number.checked_sub(self.first).filter(|n| *n <= self.behind.len() as u64);
        let Some(n_kept) = is_known else {
            self.behind.clear();
            self.first = number;
            return Ok(());
        };
        for item in self.behind.drain(n_kept as usize..).rev() {
            let Some(item) = item else {
                return Err(Error::user(
                    "a record that was given after the snapshot cannot be encoded, so it cannot be given \
                     again: derive its `Serialize` and `Deserialize`",
                ));
            };
            self.ahead.push_front(Item::decode(&item)?);
        }
        Ok(())
    }
}

/// Where a test puts records into a pipeline.
pub struct InputHandle<T> {
    given: Arc<Mutex<Given<T>>>,
}

impl<T> Clone for InputHandle<T> {
    fn clone(&self) -> Self {
        InputHandle { given: Arc::clone(&self.given) }
    }
}

impl<T> InputHandle<T> {
    fn given(&self) -> MutexGuard<'_, Given<T>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give(&self, item: Item<T>) {
        self.given().ahead.push_back(item);
    }

    /// Adds a batch: records with times, and marks.
    pub fn batch(&self, batch: Batch<T>) {
        self.give(Item::Batch(batch));
    }

    /// Adds one record with its event time.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Harness;
    /// # fn main() -> Result<()> {
    /// let (mut harness, words) = Harness::with_second_input(|numbers: DataStream<u32>, words| {
    ///     numbers.connect(words).co_map(|n| n.to_string(), |word: String| word)
    /// })?;
    /// words.element("two".to_string(), 5);
    /// harness.settle()?;
    /// assert_eq!(harness.take_timed(), [("two".to_string(), 5)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn element(&self, value: T, time: EventTime) {
        let mut batch = Batch::default();
        batch.push(value, time);
        self.batch(batch);
    }

    /// Adds a watermark.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Harness;
    /// # fn main() -> Result<()> {
    /// let (mut harness, other) = Harness::with_second_input(|a: DataStream<u32>, b| {
    ///     a.union([b]).key_by(|n| *n).window(Tumbling::of(millis(10))).reduce(|a, b| a + b)
    /// })?;
    /// harness.element(7, 100)?;
    /// harness.watermark(109)?;
    /// assert!(harness.take().is_empty()); // the other input may still be behind
    /// other.watermark(200);
    /// harness.settle()?;
    /// assert_eq!(harness.take(), [7]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn watermark(&self, watermark: EventTime) {
        let mut batch = Batch::default();
        batch.mark(watermark);
        self.batch(batch);
    }

    /// Says nothing about time until `active`.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Harness;
    /// # fn main() -> Result<()> {
    /// let (mut harness, other) = Harness::with_second_input(|a: DataStream<u32>, b| {
    ///     a.union([b]).key_by(|n| *n).window(Tumbling::of(millis(10))).reduce(|a, b| a + b)
    /// })?;
    /// harness.element(7, 100)?;
    /// harness.watermark(109)?;
    /// assert!(harness.take().is_empty()); // the other input may still be behind
    /// other.idle();
    /// harness.settle()?;
    /// assert_eq!(harness.take(), [7]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn idle(&self) {
        self.give(Item::Signal(Signal::Idle));
    }

    /// Takes part in time again.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Harness;
    /// # fn main() -> Result<()> {
    /// let (mut harness, other) = Harness::with_second_input(|a: DataStream<u32>, b| {
    ///     a.union([b]).key_by(|n| *n).window(Tumbling::of(millis(10))).reduce(|a, b| a + b)
    /// })?;
    /// other.idle();
    /// other.active();
    /// harness.element(7, 100)?;
    /// harness.watermark(109)?;
    /// assert!(harness.take().is_empty()); // the other input may still be behind
    /// # Ok(())
    /// # }
    /// ```
    pub fn active(&self) {
        self.give(Item::Signal(Signal::Active));
    }

    /// Ends the input: event time goes to its end first.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Harness;
    /// # fn main() -> Result<()> {
    /// let (mut harness, other) = Harness::with_second_input(|a: DataStream<u32>, b| {
    ///     a.union([b]).key_by(|n| *n).window(Tumbling::of(millis(10))).reduce(|a, b| a + b)
    /// })?;
    /// harness.element(7, 100)?;
    /// harness.watermark(109)?;
    /// assert!(harness.take().is_empty()); // the other input may still be behind
    /// other.end();
    /// harness.settle()?;
    /// assert_eq!(harness.take(), [7]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn end(&self) {
        self.watermark(millstream_model::MAX_TIME);
        self.give(Item::End);
    }
}

/// How far a source has come.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Position {
    /// Items it has read.
    n_read: u64,
    /// The last watermark among them.
    watermark: EventTime,
    is_idle: bool,
    has_ended: bool,
}

/// What has to be said again after a restore.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owed {
    Nothing,
    /// How far time is, behind the next item.
    Time,
    /// That the input is idle.
    Idleness,
}

struct ScriptHead<T> {
    input: InputHandle<T>,
    position: Position,
    owed: Owed,
    /// Whether an item was read since the restore.
    has_read: bool,
    saved: Items<Position>,
    link: Box<dyn Push<T>>,
    site: Site,
}

impl<T: Data> ScriptHead<T> {
    fn new(input: InputHandle<T>, link: Box<dyn Push<T>>, site: Site) -> Self {
        let position =
            Position { n_read: 0, watermark: MIN_TIME, is_idle: false, has_ended: false };
        let (owed, saved) = (Owed::Nothing, Items::split());
        ScriptHead { input, position, owed, has_read: false, saved, link, site }
    }

    fn take(&mut self, item: Item<T>) -> Result<Polled> {
        self.position.n_read += 1;
        self.has_read = true;
        Ok(match item {
            Item::Batch(mut batch) => {
                let last = batch.marks.last().map_or(MIN_TIME, |mark| mark.watermark);
                self.position.watermark = self.position.watermark.max(last);
                Polled::Took(self.link.push(&mut batch)?)
            }
            Item::Signal(signal) => {
                self.position.is_idle = signal == Signal::Idle;
                Polled::Took(self.link.signal(signal)?)
            }
            Item::End => {
                self.position.has_ended = true;
                Polled::End
            }
        })
    }

    /// Says again what it had said of time.
    fn repeat(&mut self) -> Result<Flow> {
        if self.owed == Owed::Idleness {
            self.owed = Owed::Nothing;
            return self.link.signal(Signal::Idle);
        }
        self.owed = if self.position.is_idle { Owed::Idleness } else { Owed::Nothing };
        if self.position.watermark == MIN_TIME {
            return Ok(Flow::Ready);
        }
        let mut batch = Batch::default();
        batch.mark(self.position.watermark);
        self.link.push(&mut batch)
    }
}

impl<T: Data> Stateful for ScriptHead<T> {
    fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.part("position", &mut self.saved)
    }

    fn restored(&mut self) -> Result<()> {
        if let Some(position) = self.saved.values.pop() {
            self.position = position;
            self.owed = Owed::Time;
            self.input.given().go_back(position.n_read)?;
        }
        Ok(())
    }
}

impl<T: Data> Head for ScriptHead<T> {
    fn open(&mut self) -> Result<()> {
        self.link.open()
    }
    fn poll(&mut self) -> Result<Polled> {
        if self.position.has_ended {
            return Ok(Polled::End);
        }
        if self.owed != Owed::Nothing && self.has_read {
            return Ok(Polled::Took(self.repeat()?));
        }
        let item = self.input.given().next();
        match item {
            Some(item) => self.take(item),
            None if self.owed != Owed::Nothing => Ok(Polled::Took(self.repeat()?)),
            None => Ok(Polled::Nothing { until_us: EventTime::MAX }),
        }
    }
    fn signal(&mut self, signal: Signal) -> Result<Flow> {
        self.link.signal(signal)
    }
    fn barrier(&mut self, barrier: Barrier) -> Result<Flow> {
        self.saved.values = vec![self.position];
        self.saved.freeze(barrier.kind);
        self.link.signal(Signal::Barrier(barrier))
    }
    fn resume(&mut self) -> Result<Flow> {
        self.link.resume()
    }
    fn end(&mut self) -> Result<Flow> {
        self.link.signal(Signal::End)
    }
    fn close(&mut self) -> Result<()> {
        self.link.close()
    }
    fn visit(&mut self, visitor: &mut dyn ChainVisitor) -> Result<()> {
        let site = self.site.clone();
        visitor.operator(&site, self)?;
        self.link.visit(visitor)
    }
    fn is_source(&self) -> bool {
        true
    }
}

/// A stream that reads what the handle is given.
#[track_caller]
pub(super) fn scripted<T: Data>(env: &Environment) -> (InputHandle<T>, DataStream<T>) {
    let input = InputHandle { given: Arc::default() };
    let for_head = input.clone();
    let deal = move |_: &[u8], _: usize| {
        let input = for_head.clone();
        let build = move |c: &OpContext, outs: RawOuts| {
            let link = outs.typed::<T>(&c.site)?.next;
            Ok(Box::new(ScriptHead::new(input.clone(), link, c.site.clone())) as Box<dyn Head>)
        };
        Ok(Box::new(build) as BuildSource)
    };
    let make = Make::Source { discover: Box::new(|_| Ok(Vec::new())), build: Box::new(deal) };
    let mut node = Node::new("script", "source", make, Location::caller());
    node.outputs.insert(None, Box::new(PortOf::<T>::single()));
    node.source = Some(SourceTraits { bounded: true, size_hint: None, can_go_back: true });
    node.parallelism_limit = Some(1);
    node.watermarks = Some("script".into());
    let id = env.graph_mut().add(node);
    (input, DataStream::at(env, id, None))
}
