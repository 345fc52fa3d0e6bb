//! Metrics for those who watch a job, accumulators for those who wait for it.
//!
//! Both are cells that a function obtains once (in `open`) and then changes without a look-up or a lock
//! that anybody else holds for long.

mod times;

pub use times::{Spent, Times};

use hdrhistogram::Histogram;
use millstream_model::Result;
use millstream_state::codec;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use times::{SPENT, Sheets};

/// A number that only grows.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }
    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// Sets the value.
    #[inline]
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }
    /// The value last set.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A distribution of values from 1 to 2^60, to three significant digits.
#[derive(Clone)]
pub struct HistogramHandle(Arc<Mutex<Histogram<u64>>>);

impl HistogramHandle {
    /// Records a value.
    pub fn record(&self, value: u64) {
        locked(&self.0).saturating_record(value);
    }
    /// The value below which a share of `q` (0 to 1) of all values lies.
    pub fn quantile(&self, q: f64) -> u64 {
        locked(&self.0).value_at_quantile(q)
    }
    /// Number of values.
    pub fn len(&self) -> u64 {
        locked(&self.0).len()
    }
    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for HistogramHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Histogram(n={}, p50={}, p99={})",
            self.len(),
            self.quantile(0.5),
            self.quantile(0.99)
        )
    }
}

/// A value each subtask keeps for itself and the job's result merges, wherever the subtasks ran.
///
/// It is what the last attempt accumulated. An attempt that begins at a checkpoint or savepoint accumulates from there on; what
/// must count every record once belongs into state.
pub trait Accumulator: Default + Serialize + DeserializeOwned + Send + 'static {
    /// Adds what another subtask accumulated.
    fn merge(&mut self, other: Self);
}

impl Accumulator for u64 {
    fn merge(&mut self, other: u64) {
        *self += other;
    }
}

impl Accumulator for i64 {
    fn merge(&mut self, other: i64) {
        *self += other;
    }
}

impl<T: Serialize + DeserializeOwned + Send + 'static> Accumulator for Vec<T> {
    fn merge(&mut self, mut other: Vec<T>) {
        self.append(&mut other);
    }
}

impl<K, A: Accumulator> Accumulator for BTreeMap<K, A>
where
    K: Ord + Serialize + DeserializeOwned + Send + 'static,
{
    fn merge(&mut self, other: Self) {
        for (k, v) in other {
            self.entry(k).or_default().merge(v);
        }
    }
}

/// One subtask's cell of an accumulator.
#[derive(Debug)]
pub struct AccumulatorHandle<A>(Arc<Mutex<A>>);

impl<A> Clone for AccumulatorHandle<A> {
    fn clone(&self) -> Self {
        AccumulatorHandle(Arc::clone(&self.0))
    }
}

impl<A> AccumulatorHandle<A> {
    /// The value, to be changed.
    pub fn get(&self) -> MutexGuard<'_, A> {
        locked(&self.0)
    }
}

/// A panic while a cell was locked leaves a number behind, not a broken invariant.
fn locked<T>(cell: &Mutex<T>) -> MutexGuard<'_, T> {
    cell.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone, Debug)]
enum Metric {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(HistogramHandle),
    Time(Sheets, Spent),
}

/// A metric's value at a moment.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricValue {
    /// Of a counter.
    Count(u64),
    /// Of a gauge.
    Level(i64),
    /// Of a histogram: number of values, median, 99th percentile, maximum.
    Distribution {
        /// Number of values.
        n: u64,
        /// Median.
        p50: u64,
        /// 99th percentile.
        p99: u64,
        /// Maximum.
        max: u64,
    },
}

type MetricKey = (String, String, usize);
/// With the number of the task that each is of.
type Cells = Vec<(usize, Box<dyn Cell>)>;

/// One subtask's cell of an accumulator, whatever its type.
trait Cell: Send {
    fn as_any(&self) -> &dyn Any;
    fn encode(&self) -> Result<Vec<u8>>;
}

impl<A: Accumulator> Cell for Arc<Mutex<A>> {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn encode(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        codec::encode(&*locked(self), &mut bytes)?;
        Ok(bytes)
    }
}

/// All metrics and accumulators of a job in this process.
#[derive(Default)]
pub struct Registry {
    metrics: Mutex<BTreeMap<MetricKey, Metric>>,
    accumulators: Mutex<BTreeMap<String, Cells>>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("metrics", &self.snapshot()).finish_non_exhaustive()
    }
}

impl Registry {
    fn metric(
        &self,
        operator: &str,
        name: &str,
        subtask: usize,
        make: impl FnOnce() -> Metric,
    ) -> Metric {
        let key = (operator.to_string(), name.to_string(), subtask);
        locked(&self.metrics).entry(key).or_insert_with(make).clone()
    }

    /// The counter of one subtask.
    pub fn counter(&self, operator: &str, name: &str, subtask: usize) -> Counter {
        match self.metric(operator, name, subtask, || Metric::Counter(Counter::default())) {
            Metric::Counter(c) => c,
            // The name is taken by another kind: this one counts for its owner only.
            _ => Counter::default(),
        }
    }

    /// The gauge of one subtask.
    pub fn gauge(&self, operator: &str, name: &str, subtask: usize) -> Gauge {
        match self.metric(operator, name, subtask, || Metric::Gauge(Gauge::default())) {
            Metric::Gauge(g) => g,
            _ => Gauge::default(),
        }
    }

    /// The histogram of one subtask.
    pub fn histogram(&self, operator: &str, name: &str, subtask: usize) -> HistogramHandle {
        match self.metric(operator, name, subtask, || Metric::Histogram(new_histogram())) {
            Metric::Histogram(h) => h,
            _ => new_histogram(),
        }
    }

    /// The times of one subtask of the task whose first operator this is.
    pub(crate) fn times(&self, operator: &str, subtask: usize) -> Times {
        let mut sheets = Sheets::default();
        for (spent, name) in SPENT {
            let make = || Metric::Time(sheets.clone(), spent);
            if let Metric::Time(shared, _) = self.metric(operator, name, subtask, make) {
                sheets = shared;
            }
        }
        Times::of(sheets)
    }

    /// A new cell of the accumulator called `name`, for a task.
    pub fn accumulator<A: Accumulator>(&self, name: &str, task: usize) -> AccumulatorHandle<A> {
        let cell = Arc::new(Mutex::new(A::default()));
        locked(&self.accumulators)
            .entry(name.to_string())
            .or_default()
            .push((task, Box::new(Arc::clone(&cell))));
        AccumulatorHandle(cell)
    }

    /// Forgets what these tasks have accumulated: another attempt does over what they were told.
    pub fn forget_accumulators(&self, tasks: &[usize]) {
        for cells in locked(&self.accumulators).values_mut() {
            cells.retain(|(task, _)| !tasks.contains(task));
        }
    }

    /// All cells of an accumulator merged; `None` if no function used it with this type. Takes the values.
    pub fn take_accumulator<A: Accumulator>(&self, name: &str) -> Option<A> {
        let mut accumulators = locked(&self.accumulators);
        let cells = accumulators.get(name)?;
        let mut merged: Option<A> = None;
        for (_, cell) in cells {
            let value =
                std::mem::take(&mut *locked(cell.as_any().downcast_ref::<Arc<Mutex<A>>>()?));
            match &mut merged {
                Some(m) => m.merge(value),
                None => merged = Some(value),
            }
        }
        accumulators.remove(name);
        merged
    }

    /// The cells of all accumulators as bytes, by name: what [`merge_encoded`] makes a value of elsewhere.
    ///
    /// # Errors
    /// If a value cannot be written.
    pub fn encode_accumulators(&self) -> Result<Vec<(String, Vec<Vec<u8>>)>> {
        let encode = |(name, cells): (&String, &Cells)| {
            let cells: Result<_> = cells.iter().map(|(_, cell)| cell.encode()).collect();
            Ok((name.clone(), cells?))
        };
        locked(&self.accumulators).iter().map(encode).collect()
    }

    /// All metrics by (operator, name, subtask).
    pub fn snapshot(&self) -> BTreeMap<MetricKey, MetricValue> {
        let value = |m: &Metric| match m {
            Metric::Counter(c) => MetricValue::Count(c.get()),
            Metric::Gauge(g) => MetricValue::Level(g.get()),
            Metric::Time(sheets, spent) => MetricValue::Count(sheets.get_us(*spent)),
            Metric::Histogram(h) => MetricValue::Distribution {
                n: h.len(),
                p50: h.quantile(0.5),
                p99: h.quantile(0.99),
                max: h.quantile(1.0),
            },
        };
        locked(&self.metrics).iter().map(|(k, m)| (k.clone(), value(m))).collect()
    }

    /// A counter's sum over all operators and subtasks that used this name.
    pub fn count(&self, name: &str) -> u64 {
        let of = |((_, n, _), m): (&MetricKey, &Metric)| match m {
            Metric::Counter(c) if n == name => c.get(),
            Metric::Time(sheets, spent) if n == name => sheets.get_us(*spent),
            _ => 0,
        };
        locked(&self.metrics).iter().map(of).sum()
    }
}

/// An accumulator merged from the cells of other processes; `None` if there are none, or they are of another type.
pub fn merge_encoded<A: Accumulator>(cells: &[Vec<u8>]) -> Option<A> {
    let mut merged: Option<A> = None;
    for cell in cells {
        let value: A = codec::decode_all(cell).ok()?;
        match &mut merged {
            Some(m) => m.merge(value),
            None => merged = Some(value),
        }
    }
    merged
}

fn new_histogram() -> HistogramHandle {
    // Three digits are within the crate's limits, so this cannot fail.
    let histogram = Histogram::new(3)
        .unwrap_or_else(|e| unreachable!("three significant digits are allowed: {e}"));
    HistogramHandle(Arc::new(Mutex::new(histogram)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accumulators_merge_over_cells() {
        let r = Registry::default();
        let (a, b) = (r.accumulator::<u64>("n", 0), r.accumulator::<u64>("n", 1));
        *a.get() += 2;
        *b.get() += 3;
        assert_eq!(r.take_accumulator::<i64>("n"), None);
        let encoded = r.encode_accumulators().unwrap();
        assert_eq!(merge_encoded::<u64>(&encoded[0].1), Some(5));
        assert_eq!(merge_encoded::<Vec<u64>>(&encoded[0].1), None);
        assert_eq!(r.take_accumulator::<u64>("n"), Some(5));
        assert_eq!(r.take_accumulator::<u64>("n"), None);
        for (task, n) in [(0, 1), (1, 10), (0, 100)] {
            *r.accumulator::<u64>("n", task).get() += n;
        }
        r.forget_accumulators(&[0, 7]);
        assert_eq!(r.take_accumulator::<u64>("n"), Some(10));
    }

    #[test]
    fn counters_are_shared_by_name_and_summed() {
        let r = Registry::default();
        r.counter("map", "bad", 0).add(2);
        r.counter("map", "bad", 0).inc();
        r.counter("map", "bad", 1).inc();
        assert_eq!(r.count("bad"), 4);
        assert_eq!(r.snapshot()[&("map".into(), "bad".into(), 0)], MetricValue::Count(3));
    }
}
