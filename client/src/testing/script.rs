//! A case, run in every mode.

use super::harness::Harness;
use crate::environment::Environment;
use crate::stream::DataStream;
use millstream_model::{Batch, Data, Error, EventTime, Result};
use std::fmt::Debug;

/// How a pipeline is run. Results must be the same in all modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As a program would run it, each script line by itself.
    Plain,
    /// Batches of one record everywhere.
    BatchSizeOne,
    /// All lines between two expectations in one batch, watermarks as marks inside.
    Coalesced,
    /// Nothing fused: every operator behind an exchange.
    Unchained,
    /// Two subtasks per operator.
    ParallelTwo,
    /// From a snapshot that was taken before the step, at every step: what the step leads to while the snapshot is
    /// being written is taken back, and must come again.
    Restored,
    /// As `Restored`, with 1, 3, 2, 1, 3, … subtasks per operator.
    Rescaled,
    /// As both in turn, and keyed state lies in log-structured trees beneath caches that hold next to nothing, as it does
    /// with a backend whose state is larger than memory; the trees are modelled in memory.
    Stored,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Mode; 8] = [
        Mode::Plain,
        Mode::BatchSizeOne,
        Mode::Coalesced,
        Mode::Unchained,
        Mode::ParallelTwo,
        Mode::Restored,
        Mode::Rescaled,
        Mode::Stored,
    ];

    /// Whether every step begins from a snapshot.
    pub fn restores(self) -> bool {
        matches!(self, Mode::Restored | Mode::Rescaled | Mode::Stored)
    }

    /// The mode, with one more option of the configuration.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Harness;
    /// # fn main() -> Result<()> {
    /// use millstream::testing::Mode;
    /// let setup = Mode::Restored.set("max-parallelism", "7");
    /// let mut harness = Harness::in_mode(setup, |input: DataStream<char>| input.key_by(|c| *c).count())?;
    /// harness.element('a', 0)?;
    /// harness.element('a', 0)?;
    /// assert_eq!(harness.take(), [('a', 1), ('a', 2)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set(self, key: impl Into<String>, value: impl Into<String>) -> Setup {
        Setup::from(self).set(key, value)
    }
}

/// How a harness is made: a [`Mode`], and what else is not as usual.
#[derive(Clone, Debug)]
pub struct Setup {
    mode: Mode,
    options: Vec<(String, String)>,
    only_step: Option<usize>,
    is_in_trees: bool,
}

impl From<Mode> for Setup {
    fn from(mode: Mode) -> Self {
        Setup { mode, options: Vec::new(), only_step: None, is_in_trees: mode == Mode::Stored }
    }
}

impl Setup {
    /// One more option of the configuration: `state-backend`, say.
    ///
    /// ```
    /// # use millstream::testing::Mode;
    /// let setup = Mode::Plain.set("batch-size", "3").set("chaining", "false");
    /// ```
    #[must_use]
    pub fn set(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.push((key.into(), value.into()));
        self
    }

    /// Of a mode that restores before every step: only before this one. The first has number 1.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Harness;
    /// # fn main() -> Result<()> {
    /// use millstream::testing::{Mode, Setup};
    /// let setup = Setup::from(Mode::Rescaled).only_before(2);
    /// let mut harness = Harness::in_mode(setup, |input: DataStream<char>| input.key_by(|c| *c).count())?;
    /// "aaa".chars().try_for_each(|c| harness.element(c, 0))?;
    /// assert_eq!(harness.take(), [('a', 1), ('a', 2), ('a', 3)]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn only_before(mut self, step: usize) -> Self {
        self.only_step = Some(step);
        self
    }

    /// Keyed state lies in trees, as in the mode `Stored`.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Harness;
    /// # fn main() -> Result<()> {
    /// use millstream::testing::{Mode, Setup};
    /// let setup = Setup::from(Mode::Plain).in_trees();
    /// let mut harness = Harness::in_mode(setup, |input: DataStream<u32>| input.key_by(|n| *n).count())?;
    /// (0..2000).for_each(|n| harness.input().element(n % 1000, 0));
    /// harness.settle()?;
    /// assert!(harness.take()[1000..].iter().all(|(_, count)| *count == 2));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn in_trees(mut self) -> Self {
        self.is_in_trees = true;
        self
    }

    /// Whether keyed state lies in trees that are modelled.
    pub(super) fn is_in_trees(&self) -> bool {
        self.is_in_trees
    }

    /// Whether this step begins from a snapshot.
    pub(super) fn restores_before(&self, step: usize) -> bool {
        self.mode.restores() && self.only_step.is_none_or(|only| only == step)
    }

    /// The parallelism of a step that begins from a snapshot, if it is not the one before.
    pub(super) fn parallelism_at(&self, step: usize) -> Option<usize> {
        let other = |n: usize| if self.only_step.is_some() { n.max(2) } else { n };
        match self.mode {
            Mode::Rescaled => Some(other([1, 3, 2][step % 3])),
            Mode::Stored => Some(other([1, 1, 3, 3, 2, 2][step % 6])),
            _ => None,
        }
    }

    pub(super) fn environment(&self) -> Result<Environment> {
        let parallelism = if self.mode == Mode::ParallelTwo { 2 } else { 1 };
        let mut builder = Environment::builder().parallelism(parallelism);
        builder = match self.mode {
            Mode::BatchSizeOne => builder.batch_size(1),
            Mode::Unchained => builder.set("chaining", "false"),
            _ => builder,
        };
        for (key, value) in &self.options {
            builder = builder.set(key, value);
        }
        builder.build()
    }
}

#[derive(Clone, Debug)]
enum Line<I, O> {
    Element(I, EventTime),
    Watermark(EventTime),
    Expect(Vec<O>),
}

/// Elements, watermarks and what they must lead to. Expectations are compared as multisets: parallel
/// subtasks promise no order between them.
#[derive(Clone, Debug)]
pub struct Script<I, O> {
    lines: Vec<Line<I, O>>,
    at_end: Option<Vec<O>>,
}

impl<I, O> Default for Script<I, O> {
    fn default() -> Self {
        Script { lines: Vec::new(), at_end: None }
    }
}

impl<I: Data + Clone, O: Data + Debug + PartialEq + Clone> Script<I, O> {
    /// An empty script.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Script;
    /// # fn main() -> Result<()> {
    /// Script::new().element(1, 0).expect([2]).run(|input| input.map(|n| n + 1))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn new() -> Self {
        Script::default()
    }

    /// A record with its event time.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Script;
    /// # fn main() -> Result<()> {
    /// let script = Script::new().element(1, 0).element(2, 0).expect([2, 3]);
    /// script.run(|input| input.map(|n| n + 1))?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn element(mut self, value: I, time: EventTime) -> Self {
        self.lines.push(Line::Element(value, time));
        self
    }

    /// A watermark.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Script;
    /// # fn main() -> Result<()> {
    /// Script::new()
    ///     .element(7, 100)
    ///     .element(9, 105)
    ///     .watermark(108)
    ///     .expect([])
    ///     .watermark(109)
    ///     .expect([16])
    ///     .run(|input| {
    ///         input.key_by(|n| n % 2).window(Tumbling::of(millis(10))).reduce(|a, b| a + b)
    ///     })?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn watermark(mut self, watermark: EventTime) -> Self {
        self.lines.push(Line::Watermark(watermark));
        self
    }

    /// What the lines since the last expectation have led to, in any order.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Script;
    /// # fn main() -> Result<()> {
    /// let script = Script::new().element(1, 0).element(2, 0).expect([1, 3]);
    /// let error = script.run(|input| input.map(|n| n)).unwrap_err().to_string();
    /// assert_eq!(error, "in mode Plain, at line 3: missing [3], not expected [2]");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn expect(mut self, results: impl IntoIterator<Item = O>) -> Self {
        self.lines.push(Line::Expect(results.into_iter().collect()));
        self
    }

    /// What the end of the input leads to, in any order.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Script;
    /// # fn main() -> Result<()> {
    /// // At its end, event time goes to its end.
    /// let script = Script::new().element(7, 100).expect([]).expect_at_end([7]);
    /// script.run(|input| input.key_by(|n| *n).window(Tumbling::of(millis(10))).reduce(|a, b| a + b))?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn expect_at_end(mut self, results: impl IntoIterator<Item = O>) -> Self {
        self.at_end = Some(results.into_iter().collect());
        self
    }

    /// Runs the script in every mode.
    ///
    /// # Errors
    /// The first expectation that is not met, with mode and line; or the failure of an operator.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Script;
    /// # fn main() -> Result<()> {
    /// let script = Script::new().element('a', 0).element('b', 0).element('a', 0);
    /// script.expect([('a', 1), ('b', 1), ('a', 2)]).run(|input| input.key_by(|c| *c).count())?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn run(self, build: impl Fn(DataStream<I>) -> DataStream<O>) -> Result<()> {
        Mode::ALL.into_iter().try_for_each(|mode| self.run_in(mode, &build))
    }

    /// Runs the script in one mode.
    ///
    /// # Errors
    /// As for `run`.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # use millstream::testing::Script;
    /// # fn main() -> Result<()> {
    /// use millstream::testing::Mode;
    /// let script = Script::new().element(1, 0).expect([2]);
    /// script.run_in(Mode::BatchSizeOne, |input| input.map(|n| n + 1))?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn run_in(&self, mode: Mode, build: impl Fn(DataStream<I>) -> DataStream<O>) -> Result<()> {
        let mut harness = Harness::in_mode(mode, build)?;
        let mut batch = Batch::default();
        for (number, line) in self.lines.iter().enumerate() {
            match line {
                Line::Element(value, time) => batch.push(value.clone(), *time),
                Line::Watermark(watermark) => batch.mark(*watermark),
                Line::Expect(_) => {}
            }
            if mode != Mode::Coalesced || matches!(line, Line::Expect(_)) {
                harness.input().batch(std::mem::take(&mut batch));
                harness.settle()?;
            }
            if let Line::Expect(expected) = line {
                check(expected, harness.take(), mode, &format!("line {}", number + 1))?;
            }
        }
        harness.input().batch(batch);
        harness.finish()?;
        match &self.at_end {
            Some(expected) => check(expected, harness.take(), mode, "the end of the input"),
            None => Ok(()),
        }
    }
}

fn check<O: Debug + PartialEq + Clone>(
    expected: &[O],
    actual: Vec<O>,
    mode: Mode,
    place: &str,
) -> Result<()> {
    let mut missing = expected.to_vec();
    let mut surplus = Vec::new();
    for result in actual {
        match missing.iter().position(|m| *m == result) {
            Some(i) => {
                missing.swap_remove(i);
            }
            None => surplus.push(result),
        }
    }
    if missing.is_empty() && surplus.is_empty() {
        return Ok(());
    }
    Err(Error::user(format!(
        "in mode {mode:?}, at {place}: missing {missing:?}, not expected {surplus:?}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_met_is_told_with_mode_and_line() {
        let script = Script::new().element(1, 0).element(2, 0).expect([1, 3]);
        let error = script.run(|input| input.map(|n| n)).unwrap_err();
        assert_eq!(error.to_string(), "in mode Plain, at line 3: missing [3], not expected [2]");
    }

    #[test]
    fn every_mode_runs_and_ends() {
        let script =
            Script::new().element(1, 5).watermark(5).element(2, 7).expect([2, 3]).expect_at_end([]);
        script.run(|input| input.map(|n| n + 1)).unwrap();
    }
}
