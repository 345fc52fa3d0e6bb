//! Random jobs, from a small grammar: sources, a few steps without state, one or two operators with state, sinks.
//!
//! What a job gives must not depend on the order in which its tasks run, or no model outside of the engine could tell it.
//! So joins and sums commute, running counts are compared as sets, and records that may be late come from one split and go
//! straight to the operator that judges them.

use super::disk::{Disk, Row, Transactional};
use super::fail::{Frail, Fuse};
use super::operators::{Bills, Buckets, LATE};
use super::prng::Prng;
use super::source::{BOUND_MS, Event, Events};
use millstream::prelude::*;
use millstream::runtime::task::Restore;
use std::sync::Arc;

/// What a job does with its records in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    /// Nothing.
    Pass,
    /// How many a key has had, with each record.
    Count,
    /// Sums per key and window; what is late goes to a side output.
    Tumbling { size: EventTime },
    /// The same, in windows that overlap.
    Sliding { size: EventTime, slide: EventTime },
    /// Sums per key and session.
    Session { gap: EventTime },
    /// Sums per key and bucket, by state and timers; what is late is told apart.
    Buckets { size: EventTime },
    /// Sums per key and window, and of these per larger window.
    Nested { size: EventTime },
    /// Pairs of two streams in a window.
    Join { size: EventTime },
    /// Pairs of two streams that are close.
    Interval { reach: EventTime },
    /// A timer per record tells what was broadcast before it.
    Broadcast,
}

/// See the module's text.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) sources: Vec<Events>,
    pub(super) has_late: bool,
    pub(super) steps: Vec<StepKind>,
    pub(super) operator: Operator,
    pub(super) max_parallelism: u32,
}

/// A step without state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StepKind {
    Map,
    Filter,
    Twice,
    Rebalance,
    Shuffle,
    Cut,
    /// By so many subtasks, whatever the others have.
    Pinned(usize),
}

impl Job {
    /// Draws a job whose sources have at most so many records a split.
    pub(super) fn draw(prng: &mut Prng, n_most: usize) -> Self {
        let size = 10 * (1 + prng.below(8) as EventTime);
        let operator = match prng.below(15) {
            0 => Operator::Pass,
            1 | 13 => Operator::Count,
            2 | 3 => Operator::Tumbling { size },
            4 => Operator::Sliding { size: size * 2, slide: size },
            5 => Operator::Session { gap: size - 1 },
            6 | 7 | 14 => Operator::Buckets { size },
            8 => Operator::Nested { size },
            9 | 10 => Operator::Join { size },
            11 => Operator::Interval { reach: size / 2 },
            _ => Operator::Broadcast,
        };
        let judges = matches!(
            operator,
            Operator::Tumbling { .. } | Operator::Sliding { .. } | Operator::Buckets { .. }
        );
        let has_late = judges && prng.below(2) == 0;
        let n_sources = match operator {
            Operator::Join { .. } | Operator::Interval { .. } | Operator::Broadcast => 2,
            _ if has_late => 1,
            // United.
            _ => 1 + prng.below(2),
        };
        let sources = (0..n_sources).map(|_| {
            let n_splits = if has_late { 1 } else { 1 + prng.below(3) };
            Events::draw(prng, n_splits, n_most, has_late)
        });
        let sources = sources.collect();
        let (plain, moving) = (
            [StepKind::Map, StepKind::Filter, StepKind::Twice],
            [StepKind::Rebalance, StepKind::Shuffle, StepKind::Cut],
        );
        let n_steps = prng.below(3);
        let step =
            |_| if has_late || prng.below(3) > 0 { prng.pick(&plain) } else { prng.pick(&moving) };
        let steps = (0..n_steps).map(step).collect();
        Job { sources, has_late, steps, operator, max_parallelism: prng.pick(&[4, 7, 128]) }
    }

    /// Leaves out whatever sends from one subtask to another.
    pub(super) fn part(&mut self) {
        (self.has_late, self.operator) = (false, Operator::Pass);
        self.steps.retain(|step| !matches!(step, StepKind::Rebalance | StepKind::Shuffle));
    }

    /// Puts a step between others that keeps its parallelism when they change theirs.
    pub(super) fn pin(&mut self, prng: &mut Prng) {
        if !self.has_late {
            let at = prng.below(self.steps.len() + 1);
            self.steps.insert(at, StepKind::Pinned(1 + prng.below(3)));
        }
    }

    /// Gives it a source without end that is idle now and then, if that is to change no result: there is one split.
    pub(super) fn rest(&mut self) {
        if let [events] = &mut *self.sources {
            events.splits = Arc::new(events.splits.iter().take(1).cloned().collect());
            events.is_idle = true;
        }
    }

    /// The same job, with sources that find their splits while it runs, where that may change no result: of a split that
    /// comes when event time has moved records may be late.
    pub(super) fn enumerated(mut self) -> Self {
        let is_timeless = matches!(self.operator, Operator::Pass | Operator::Count);
        for events in &mut self.sources {
            events.is_enumerated = is_timeless || events.splits.len() == 1;
        }
        self
    }

    /// The same job, with records that come before a savepoint only.
    pub(super) fn before(&self, savepoint: &Restore) -> Result<Self> {
        let sources = self.sources.iter().enumerate();
        let sources = sources.map(|(n, events)| events.before(savepoint, &name_of(n)));
        Ok(Job { sources: sources.collect::<Result<_>>()?, ..self.clone() })
    }

    /// The stream of a source behind the steps.
    fn stream(&self, env: &Environment, source: usize, fuse: &Fuse) -> DataStream<Event> {
        let events = Frail { inner: self.sources[source].clone(), fuse: fuse.clone() };
        let idle_after = millis(if self.sources[source].is_idle { 1 } else { 60_000 });
        let watermarks = Watermarks::bounded(millis(BOUND_MS as u64));
        let watermarks = watermarks.idle_after(idle_after).on(|e: &Event| e.time);
        let name = name_of(source);
        let mut stream = env.source(events, watermarks).uid(name.clone()).name(name);
        // Subtasks that have no split would hold the watermark back for a while.
        let fixed = |s: DataStream<Event>| if self.has_late { s.parallelism(1) } else { s };
        stream = fixed(stream);
        stream = fixed(stream.map_with(fuse.clone()));
        for step in &self.steps {
            stream = fixed(step.append(stream));
        }
        stream
    }

    /// Builds the job. Sinks are called `main` and, if something may be late, `late`.
    pub(super) fn build(&self, env: &Environment, disk: &Disk, fuse: &Fuse) {
        let first = self.stream(env, 0, fuse);
        let mut others: Vec<_> =
            (1..self.sources.len()).map(|source| self.stream(env, source, fuse)).collect();
        let mut late = None;
        let rows = match self.operator {
            Operator::Pass => union(first, others).map(|e| (e.key, e.time, e.value)),
            Operator::Count => union(first, others)
                .key_by(|e| e.key)
                .count()
                .uid("operator")
                .map(|(key, n)| (key, 0, n)),
            Operator::Tumbling { size } => {
                let windows = Tumbling::of(millis(size as u64));
                let keyed = union(first, others).key_by(|e| e.key).window(windows);
                let sums = keyed.late_to(&LATE).sum(|e| e.value);
                let sums = sums.uid("operator");
                late = Some(sums.side_output(&LATE));
                sums.map(|(key, window, sum)| (key, window.end, sum))
            }
            Operator::Sliding { size, slide } => {
                let windows = Sliding::of(millis(size as u64), millis(slide as u64));
                let keyed = union(first, others).key_by(|e| e.key).window(windows);
                let sums = keyed.late_to(&LATE).sum(|e| e.value);
                let sums = sums.uid("operator");
                late = Some(sums.side_output(&LATE));
                sums.map(|(key, window, sum)| (key, window.end, sum))
            }
            Operator::Session { gap } => {
                let windows = Session::gap(millis(gap as u64));
                let sums = union(first, others).key_by(|e| e.key).window(windows).sum(|e| e.value);
                let sums = sums.uid("operator");
                sums.map(|(key, window, sum)| (key, window.end, sum))
            }
            Operator::Buckets { size } => {
                union(first, others).key_by(|e| e.key).process(Buckets { size }).uid("operator")
            }
            Operator::Nested { size } => {
                let small = Tumbling::of(millis(size as u64));
                let large = Tumbling::of(millis(size as u64 * 3));
                let sums = union(first, others).key_by(|e| e.key).window(small).sum(|e| e.value);
                let sums = sums.uid("operator");
                let sums = sums.key_by(|(key, ..)| key % 2).window(large).sum(|(.., sum)| *sum);
                let sums = sums.uid("second");
                sums.map(|(key, window, sum)| (key, window.end, sum))
            }
            Operator::Join { size } => {
                let right = others.remove(0).key_by(|e| e.key);
                let pairs = first.key_by(|e| e.key).join(right);
                let pairs = pairs.window(Tumbling::of(millis(size as u64)));
                pairs.apply(pair).uid("operator")
            }
            Operator::Interval { reach } => {
                let right = others.remove(0).key_by(|e| e.key);
                let pairs = first.key_by(|e| e.key).interval_join(right, -reach, reach);
                pairs.apply(pair).uid("operator")
            }
            Operator::Broadcast => {
                let bills = first.key_by(|e| e.key).connect_broadcast(others.remove(0));
                bills.process(Bills).uid("operator")
            }
        };
        let sink = |name| Transactional { name, disk: disk.clone() };
        rows.sink(sink("main")).uid("main");
        if let Some(late) = late {
            let rows = late.map(|e| (e.key, e.time, e.value));
            rows.sink(sink("late")).uid("late");
        }
    }
}

fn name_of(source: usize) -> String {
    format!("source-{source}")
}

/// What a join makes of two records.
pub(super) fn pair(l: &Event, r: &Event) -> Row {
    (l.key, l.time * 1_000_000 + r.time, l.value * 1000 + r.value)
}

fn union(first: DataStream<Event>, others: Vec<DataStream<Event>>) -> DataStream<Event> {
    if others.is_empty() { first } else { first.union(others) }
}

impl StepKind {
    fn append(self, stream: DataStream<Event>) -> DataStream<Event> {
        match self {
            StepKind::Map => stream.map(|e| StepKind::Map.of(&e).remove(0)),
            StepKind::Filter => stream.filter(|e| !StepKind::Filter.of(e).is_empty()),
            StepKind::Twice => stream.flat_map(|e| StepKind::Twice.of(&e)),
            StepKind::Rebalance => stream.rebalance().map(|e| e),
            StepKind::Shuffle => stream.shuffle().map(|e| e),
            StepKind::Cut => stream.map(|e| e).disable_chaining(),
            StepKind::Pinned(n) => {
                // Edges on either side, whatever is fused.
                let pinned = stream.rebalance().map(|e| e).parallelism(n);
                pinned.disable_chaining().rebalance()
            }
        }
    }

    /// What becomes of a record.
    pub(super) fn of(self, event: &Event) -> Vec<Event> {
        let event = event.clone();
        match self {
            StepKind::Map => vec![Event { value: event.value * 3 % 1000, ..event }],
            StepKind::Filter if event.value.is_multiple_of(5) => Vec::new(),
            StepKind::Twice => vec![event.clone(), Event { key: (event.key + 1) % 9, ..event }],
            _ => vec![event],
        }
    }
}
