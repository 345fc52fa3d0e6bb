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
}

impl Mode {
    /// Every mode.
    pub const ALL: [Mode; 7] = [
        Mode::Plain,
        Mode::BatchSizeOne,
        Mode::Coalesced,
        Mode::Unchained,
        Mode::ParallelTwo,
        Mode::Restored,
        Mode::Rescaled,
    ];

    /// Whether every step begins from a snapshot.
    pub(super) fn restores(self) -> bool {
        matches!(self, Mode::Restored | Mode::Rescaled)
    }

    /// The parallelism of a step, if it is not the one before. The first has number 1.
    pub(super) fn parallelism_at(self, step: usize) -> Option<usize> {
        (self == Mode::Rescaled).then(|| [1, 3, 2][step % 3])
    }

    pub(super) fn environment(self) -> Result<Environment> {
        let builder =
            Environment::builder().parallelism(if self == Mode::ParallelTwo { 2 } else { 1 });
        match self {
            Mode::BatchSizeOne => builder.batch_size(1),
            Mode::Unchained => builder.set("chaining", "false"),
            _ => builder,
        }
        .build()
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
