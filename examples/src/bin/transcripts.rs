//! Runs operator cases through the test harness.
//!
//! A case is a small story (elements, watermarks, and what each step must lead to) for a window, a count window
//! or an interval join; `tests/oracle/README.md` has the format. Every case is run in every mode of the harness
//! that does not fail: fused and not, with batches of one record, with everything in one batch, with two
//! subtasks. With `--snapshot-every-step` it is run once, and every step begins from a snapshot of the one before;
//! with `--rescale` so, too, and with 1, 3 and 2 subtasks in turn. With `--one-step SEED` only one step of a case does,
//! a random one, in one of the modes that were asked for.
//!
//! In front of the operator stands a fold that counts each key's elements and fails if it loses count. With
//! `--backend rocksdb` (feature `rocksdb`) that state lies in RocksDB, as all keyed state of functions does, in a folder
//! below `--state-dir`: trees are opened thousands of times, so a folder in memory is ten times as fast as a disk.
//!
//! ```text
//! cargo run --release -p millstream-examples --bin transcripts -- examples/data/expected/transcripts.jsonl.gz
//! cargo run --release -p millstream-examples --bin transcripts -- FILE --snapshot-every-step --rescale
//! cargo run --release -p millstream-examples --features rocksdb --bin transcripts -- FILE --rescale --backend rocksdb
//! ```

use flate2::read::MultiGzDecoder;
use millstream::model::Batch;
use millstream::prelude::*;
use millstream::testing::{Harness, InputHandle, Mode, Setup, Side};
use serde::Deserialize;
use std::collections::HashMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, Read};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LATE: OutputTag<Element> = OutputTag::new("late");

/// Key and value, and which of the key's elements on its input it is, from 1.
type Element = (String, i64, u32);

#[derive(Deserialize)]
struct Case {
    name: String,
    kind: Kind,
    window: Option<WindowDefinition>,
    #[serde(default)]
    allowed_lateness: u64,
    #[serde(default)]
    lower: i64,
    #[serde(default)]
    upper: i64,
    #[serde(default)]
    count: u64,
    steps: Vec<Step>,
    expect_at_end: Option<Vec<Expected>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Window,
    CountWindow,
    IntervalJoin,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WindowDefinition {
    Tumbling {
        size: u64,
        #[serde(default)]
        offset: i64,
    },
    Sliding {
        size: u64,
        slide: u64,
        #[serde(default)]
        offset: i64,
    },
    Session {
        gap: u64,
    },
}

#[derive(Deserialize)]
struct Step {
    element: Option<TimedElement>,
    left: Option<TimedElement>,
    right: Option<TimedElement>,
    watermark: Option<i64>,
    expect: Vec<Expected>,
    #[serde(default)]
    late: bool,
}

#[derive(Deserialize)]
struct TimedElement {
    key: String,
    ts: Option<i64>,
    value: i64,
}

impl TimedElement {
    fn put(&self, input: &mut Input) {
        let number = input.n_given.entry(self.key.clone()).or_default();
        *number += 1;
        input.batch.push((self.key.clone(), self.value, *number), self.ts.unwrap_or(NO_TIME));
    }
}

/// What an input is given next, and how many elements of each key it was given so far.
#[derive(Default)]
struct Input {
    batch: Batch<Element>,
    n_given: HashMap<String, u32>,
}

/// Counts the elements of each key, in keyed state, and fails when the count is not theirs.
fn counted(input: DataStream<Element>) -> DataStream<Element> {
    let counted = input.key_by(|e| e.0.clone()).map_with_state(|count: &mut u32, element| {
        *count += 1;
        match *count == element.2 {
            true => Ok(element),
            false => Err(format!("{element:?} was counted as number {count}")),
        }
    });
    counted.try_map(|counted| counted.map_err(Error::user))
}

/// A window that fired, a count window that fired, or a pair.
#[derive(Deserialize)]
#[serde(untagged)]
enum Expected {
    Window { key: String, start: i64, end: i64, values: Vec<i64> },
    Count { key: String, values: Vec<i64> },
    Pair(i64, i64),
}

/// A result in comparable form: key, window, sorted values.
type Fired = (String, i64, i64, Vec<i64>);

impl Expected {
    fn fired(&self) -> Fired {
        match self {
            Expected::Window { key, start, end, values } => {
                sorted(key.clone(), *start, *end, values.clone())
            }
            Expected::Count { key, values } => sorted(key.clone(), 0, 0, values.clone()),
            // A pair is not a set: left and right stay where they are.
            Expected::Pair(left, right) => (String::new(), 0, 0, vec![*left, *right]),
        }
    }
}

fn sorted(key: String, start: i64, end: i64, mut values: Vec<i64>) -> Fired {
    values.sort_unstable();
    (key, start, end, values)
}

/// The operator of a case, with its inputs and outputs.
struct Subject {
    harness: Harness<Element, Fired>,
    second: Option<InputHandle<Element>>,
    late: Option<Side<Element>>,
}

impl Case {
    fn subject(&self, mode: Setup) -> Result<Subject> {
        match self.kind {
            Kind::Window => self.window(mode),
            Kind::CountWindow => {
                let harness = Harness::in_mode(mode, |input: DataStream<Element>| {
                    counted(input).key_by(|e| e.0.clone()).count_window(self.count).process(
                        |key, elements, _, out| {
                            out.emit(sorted(
                                key.clone(),
                                0,
                                0,
                                elements.iter().map(|e| e.1).collect(),
                            ));
                            Ok(())
                        },
                    )
                })?;
                Ok(Subject { harness, second: None, late: None })
            }
            Kind::IntervalJoin => {
                let join = |left: DataStream<Element>, right: DataStream<Element>| {
                    counted(left)
                        .key_by(|e| e.0.clone())
                        .interval_join(
                            counted(right).key_by(|e| e.0.clone()),
                            self.lower,
                            self.upper,
                        )
                        .apply(|l, r| (String::new(), 0, 0, vec![l.1, r.1]))
                };
                let (harness, second) = Harness::with_second_input_in_mode(mode, join)?;
                Ok(Subject { harness, second: Some(second), late: None })
            }
        }
    }

    fn window(&self, mode: Setup) -> Result<Subject> {
        let Some(definition) = self.window else {
            return Err(Error::user("a case of kind `window` has no `window`"));
        };
        let build = |input: DataStream<Element>| {
            let keyed = counted(input).key_by(|e| e.0.clone());
            let windowed = match definition {
                WindowDefinition::Tumbling { size, offset } => {
                    keyed.window(Tumbling::of(millis(size)).offset(offset))
                }
                WindowDefinition::Sliding { size, slide, offset } => {
                    keyed.window(Sliding::of(millis(size), millis(slide)).offset(offset))
                }
                WindowDefinition::Session { gap } => keyed.window(Session::gap(millis(gap))),
            };
            windowed.allowed_lateness(millis(self.allowed_lateness)).late_to(&LATE).process(
                |key, elements, ctx, out| {
                    let (window, values) = (ctx.window(), elements.iter().map(|e| e.1).collect());
                    out.emit(sorted(key.clone(), window.start, window.end, values));
                    Ok(())
                },
            )
        };
        let (harness, late) = Harness::with_side_in_mode(mode, &LATE, build)?;
        Ok(Subject { harness, second: None, late: Some(late) })
    }

    /// Whether the case says what must happen in this mode. With everything in one batch the inputs of a
    /// join race, and of two sessions that merely touch it is open whether the first has fired before the
    /// second begins: a watermark may be delayed past a record that it has not overtaken.
    fn applies(&self, mode: Mode) -> bool {
        let is_session = matches!(self.window, Some(WindowDefinition::Session { .. }));
        mode != Mode::Coalesced || !(is_session || matches!(self.kind, Kind::IntervalJoin))
    }

    /// Runs the case in one mode.
    fn run(&self, mode: Mode, how: &How) -> Result<()> {
        let mut subject = self.subject(how.setup(mode, self))?;
        // In one batch, what matters is all that came out; else what each step led to.
        let stepwise = mode != Mode::Coalesced;
        let (mut first, mut second) = (Input::default(), Input::default());
        let (mut expected, mut expected_late) = (Vec::new(), Vec::new());
        for (i, step) in self.steps.iter().enumerate() {
            if let Some(element) = step.element.as_ref().or(step.left.as_ref()) {
                element.put(&mut first);
                if step.late {
                    expected_late.push((element.key.clone(), element.value));
                }
            }
            if let Some(element) = &step.right {
                element.put(&mut second);
            }
            if let Some(watermark) = step.watermark {
                first.batch.mark(watermark);
                second.batch.mark(watermark);
            }
            expected.extend(step.expect.iter().map(Expected::fired));
            if stepwise {
                subject.give(&mut first, &mut second)?;
                subject.check(&mut expected, &mut expected_late, &format!("step {}", i + 1))?;
            }
        }
        if !stepwise && subject.second.is_none() {
            subject.give(&mut first, &mut second)?;
            subject.check(&mut expected, &mut expected_late, "the last step")?;
        }
        if let Some(second) = &subject.second {
            second.end();
        }
        subject.harness.finish()?;
        if let Some(at_end) = &self.expect_at_end {
            expected = at_end.iter().map(Expected::fired).collect();
            subject.check(&mut expected, &mut expected_late, "the end of the input")?;
        }
        Ok(())
    }
}

impl Subject {
    fn give(&mut self, first: &mut Input, second: &mut Input) -> Result<()> {
        self.harness.input().batch(std::mem::take(&mut first.batch));
        if let Some(input) = &self.second {
            input.batch(std::mem::take(&mut second.batch));
        }
        self.harness.settle()
    }

    fn check(
        &mut self,
        expected: &mut Vec<Fired>,
        late: &mut Vec<(String, i64)>,
        place: &str,
    ) -> Result<()> {
        let mut actual = self.harness.take();
        actual.sort();
        expected.sort();
        if actual != *expected {
            return Err(Error::user(format!("{place}: fired {actual:?}, expected {expected:?}")));
        }
        expected.clear();
        if let Some(side) = &self.late {
            let expected = std::mem::take(late);
            let mut actual: Vec<_> = side.take().into_iter().map(|(k, v, _)| (k, v)).collect();
            actual.sort();
            let mut expected = expected;
            expected.sort();
            if actual != expected {
                return Err(Error::user(format!(
                    "{place}: late {actual:?}, expected {expected:?}"
                )));
            }
        }
        Ok(())
    }
}

/// Opens a file that may be gzipped.
fn open(path: &str) -> std::io::Result<Box<dyn BufRead>> {
    let mut file = BufReader::new(File::open(path)?);
    let is_gzip = file.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    let reader: Box<dyn Read> =
        if is_gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    Ok(Box::new(BufReader::new(reader)))
}

fn run_file(path: &str, how: &How) -> Result<(usize, usize)> {
    let unreadable =
        |e: std::io::Error| Error::external(format!("{path} cannot be read")).caused_by(e);
    let (mut n_passed, mut n_failed) = (0, 0);
    for (number, line) in open(path).map_err(unreadable)?.lines().enumerate() {
        let line = line.map_err(unreadable)?;
        if line.trim().is_empty() {
            continue;
        }
        let case: Case = serde_json::from_str(&line).map_err(|e| {
            Error::user(format!("{path}, line {}: no valid case", number + 1)).caused_by(e)
        })?;
        let failures: Vec<_> = how
            .modes(&case)
            .into_iter()
            .filter(|mode| case.applies(*mode))
            .filter_map(|mode| case.run(mode, how).err().map(|e| format!("{mode:?}: {e}")))
            .collect();
        if failures.is_empty() {
            n_passed += 1;
        } else {
            n_failed += 1;
            println!("{} failed\n  {}", case.name, failures.join("\n  "));
        }
    }
    Ok((n_passed, n_failed))
}

/// How cases are run.
#[derive(Default)]
struct How {
    modes: Vec<Mode>,
    backend: Option<String>,
    state_dir: Option<String>,
    /// Says which step of a case begins from a snapshot, if that is one only.
    seed: Option<u64>,
}

impl How {
    /// A random number for a case, if there is a seed.
    fn drawn(&self, case: &Case) -> Option<u64> {
        let mut hash = DefaultHasher::new();
        (self.seed?, &case.name).hash(&mut hash);
        Some(hash.finish() >> 8)
    }

    /// The modes a case is run in.
    fn modes(&self, case: &Case) -> Vec<Mode> {
        match self.drawn(case) {
            Some(number) => vec![self.modes[(number >> 32) as usize % self.modes.len()]],
            None => self.modes.clone(),
        }
    }

    fn setup(&self, mode: Mode, case: &Case) -> Setup {
        let mut setup = Setup::from(mode);
        if let Some(backend) = &self.backend {
            // So little memory that hardly anything stays in it.
            setup = setup.set("state-backend", backend).set("state-memory", "64 KiB");
        }
        if let Some(dir) = &self.state_dir {
            setup = setup.set("state-dir", dir);
        }
        if let Some(number) = self.drawn(case) {
            // The end of the input is a step, too.
            setup = setup.only_before((number % (case.steps.len() as u64 + 1)) as usize + 1);
        }
        setup
    }
}

/// The file that the command line names, and how its cases are to be run.
fn arguments() -> Option<(String, How)> {
    let (mut path, mut how) = (None, How::default());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--snapshot-every-step" => how.modes.push(Mode::Restored),
            "--rescale" => how.modes.push(Mode::Rescaled),
            "--backend" => how.backend = Some(arguments.next()?),
            "--state-dir" => how.state_dir = Some(arguments.next()?),
            "--one-step" => how.seed = Some(arguments.next()?.parse().ok()?),
            flag if flag.starts_with('-') => return None,
            _ if path.is_some() => return None,
            _ => path = Some(argument),
        }
    }
    if how.modes.is_empty() {
        how.modes = Mode::ALL.into_iter().filter(|mode| !mode.restores()).collect();
    }
    Some((path?, how))
}

fn main() -> ExitCode {
    let Some((path, how)) = arguments() else {
        eprintln!(
            "usage: transcripts FILE.jsonl[.gz] [--snapshot-every-step] [--rescale] [--one-step SEED] \
             [--backend memory|rocksdb] [--state-dir DIR]"
        );
        return ExitCode::from(2);
    };
    match run_file(&path, &how) {
        Ok((n_passed, n_failed)) => {
            println!("{n_passed} passed, {n_failed} failed");
            ExitCode::from(u8::from(n_failed > 0))
        }
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
