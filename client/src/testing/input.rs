//! The source of a harness: what the test pushes is what the task reads.

use crate::environment::Environment;
use crate::graph::{Make, Node, OpContext, PortOf, RawOuts, SourceTraits};
use crate::stream::DataStream;
use millstream_model::{Batch, EventTime, Result, Signal};
use millstream_runtime::chain::{ChainVisitor, Flow, Push};
use millstream_runtime::task::{Head, Polled};
use std::collections::VecDeque;
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

enum Item<T> {
    Batch(Batch<T>),
    Signal(Signal),
    End,
}

/// Where a test puts records into a pipeline.
pub struct InputHandle<T> {
    queue: Arc<Mutex<VecDeque<Item<T>>>>,
}

impl<T> Clone for InputHandle<T> {
    fn clone(&self) -> Self {
        InputHandle { queue: Arc::clone(&self.queue) }
    }
}

impl<T> InputHandle<T> {
    fn queue(&self) -> MutexGuard<'_, VecDeque<Item<T>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a batch: records with times, and marks.
    pub fn batch(&self, batch: Batch<T>) {
        self.queue().push_back(Item::Batch(batch));
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
        self.queue().push_back(Item::Signal(Signal::Idle));
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
        self.queue().push_back(Item::Signal(Signal::Active));
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
        self.queue().push_back(Item::End);
    }
}

struct ScriptHead<T> {
    input: InputHandle<T>,
    link: Box<dyn Push<T>>,
}

impl<T: Send> Head for ScriptHead<T> {
    fn open(&mut self) -> Result<()> {
        self.link.open()
    }
    fn poll(&mut self) -> Result<Polled> {
        let item = self.input.queue().pop_front();
        Ok(match item {
            Some(Item::Batch(mut batch)) => Polled::Took(self.link.push(&mut batch)?),
            Some(Item::Signal(signal)) => Polled::Took(self.link.signal(signal)?),
            Some(Item::End) => Polled::End,
            None => Polled::Nothing { until_us: EventTime::MAX },
        })
    }
    fn signal(&mut self, signal: Signal) -> Result<Flow> {
        self.link.signal(signal)
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
        self.link.visit(visitor)
    }
    fn is_source(&self) -> bool {
        true
    }
}

/// A stream that reads what the handle is given.
#[track_caller]
pub(super) fn scripted<T: millstream_model::Data>(
    env: &Environment,
) -> (InputHandle<T>, DataStream<T>) {
    let input = InputHandle { queue: Arc::default() };
    let for_head = input.clone();
    let prepare = move |_: usize| {
        let input = for_head.clone();
        let build = move |c: &OpContext, outs: RawOuts| {
            let link = outs.typed::<T>(&c.site)?.next;
            Ok(Box::new(ScriptHead { input: input.clone(), link }) as Box<dyn Head>)
        };
        Ok(Box::new(build) as Box<dyn Fn(&OpContext, RawOuts) -> Result<Box<dyn Head>> + Send>)
    };
    let mut node =
        Node::new("script", "source", Make::Source(Box::new(prepare)), Location::caller());
    node.outputs.insert(None, Box::new(PortOf::<T>::single()));
    node.source = Some(SourceTraits { bounded: true, size_hint: None });
    node.parallelism_limit = Some(1);
    node.watermarks = Some("script".into());
    let id = env.graph_mut().add(node);
    (input, DataStream::at(env, id, None))
}
