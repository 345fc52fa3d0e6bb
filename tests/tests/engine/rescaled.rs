//! Timers, windows, joins and lists of a job that goes on with another number of subtasks, from 1 to 4 to 3: from savepoints and
//! from checkpoints of each mode, on both backends.
//!
//! Results that were not committed come again, and then they must be the same ones: so all that were ever emitted, each taken
//! once, are those of an undisturbed run.

use super::recovery::{UNHURRIED, environment};
use super::restores::way;
use super::until;
use millstream::prelude::*;
use millstream_tests::crash::BACKENDS;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const N: u64 = 16_000;
/// The most subtasks there are.
const MOST: u64 = 4;
const N_KEYS: u64 = 97;
const SECOND: EventTime = 1000;

/// How many records of each second there were.
const SECONDS: MapState<EventTime, u64> = MapState::new("seconds");

/// Tells how many records of its key each second had, when that is over.
#[derive(Clone)]
struct Tells;

impl KeyedProcessFunction<u64, u64> for Tells {
    type Out = String;
    const STATES: StateSet<u64> = states![SECONDS];

    fn process(
        &mut self,
        _: u64,
        ctx: &mut KeyedContext<'_, u64>,
        _: &mut Collector<'_, String>,
    ) -> Result<()> {
        let end = (ctx.timestamp() / SECOND + 1) * SECOND;
        *ctx.state(&SECONDS).or_insert_with(end, || 0) += 1;
        ctx.timers().at(end);
        Ok(())
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        let n = ctx.state(&SECONDS).remove(&timer.time).unwrap_or(0);
        out.emit(format!("second of {} until {}: {n}", ctx.key(), timer.time));
        Ok(())
    }
}

const HELD: OperatorListState<u64> = OperatorListState::split("held");

/// Holds numbers back, in no key's name, until there are some.
#[derive(Clone, Default)]
struct HoldsBack;

impl ProcessFunction<u64> for HoldsBack {
    type Out = String;
    const STATES: OperatorStateSet = operator_states![HELD];

    fn process(
        &mut self,
        i: u64,
        ctx: &mut ProcessContext<'_>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        let mut held = ctx.operator_state(&HELD);
        held.push(i);
        // Of the last numbers each subtask has some: then none stays behind.
        if held.len() > 20 || i + 2 * MOST > N {
            held.drain(..).for_each(|i| out.emit(format!("held {i}")));
        }
        Ok(())
    }
}

/// All that the job tells.
fn build(env: &Environment, rate: u64) -> DataStream<String> {
    let times = Watermarks::bounded(millis(5)).on(|i: &u64| *i as EventTime);
    let numbers = env.source(Generator::new(N, |i| i).rate(rate), times).parallelism(1);
    let numbers = numbers.uid("numbers");
    // In order, so that nothing comes after the last numbers.
    let held = numbers.clone().rebalance().process(HoldsBack).uid("held");
    let numbers = numbers.rebalance().map(|i| i).uid("read");
    let keyed = || numbers.clone().key_by(|i| i % N_KEYS);
    let tumbling =
        keyed().window(Tumbling::of(millis(700))).aggregate_with(Count, |key, n, ctx, out| {
            out.emit(format!("tumbling of {key} from {}: {n}", ctx.window().start));
            Ok(())
        });
    let sliding = keyed().window(Sliding::of(millis(900), millis(300))).aggregate_with(
        Count,
        |key, n, ctx, out| {
            out.emit(format!("sliding of {key} from {}: {n}", ctx.window().start));
            Ok(())
        },
    );
    let with_gaps = numbers.clone().filter(|i| !is_gap(*i)).key_by(|i| i % N_KEYS);
    let sessions = with_gaps.window(Session::gap(millis(N_KEYS + 20))).aggregate_with(
        Count,
        |key, n, ctx, out| {
            out.emit(format!("session of {key} from {}: {n}", ctx.window().start));
            Ok(())
        },
    );
    let joined = keyed().interval_join(keyed(), 1, N_KEYS as EventTime);
    let joined = joined.apply(|l, r| format!("{l} and {r}"));
    let told = keyed().process(Tells).uid("told");
    told.union([
        held,
        tumbling.uid("tumbling"),
        sliding.uid("sliding"),
        sessions.uid("sessions"),
        joined.uid("joined"),
    ])
}

/// Whether this number of its key lets a session end.
fn is_gap(i: u64) -> bool {
    i / N_KEYS % 4 == 3
}

/// The same, without the engine.
fn expected() -> BTreeSet<String> {
    let mut windows: BTreeMap<(&str, u64, EventTime), u64> = BTreeMap::new();
    let mut all = BTreeSet::new();
    for i in 0..N {
        let (key, time) = (i % N_KEYS, i as EventTime);
        *windows.entry(("second", key, (time / SECOND + 1) * SECOND)).or_default() += 1;
        *windows.entry(("tumbling", key, time / 700 * 700)).or_default() += 1;
        for start in (0..3).map(|back| (time / 300 - back) * 300) {
            *windows.entry(("sliding", key, start)).or_default() += 1;
        }
        if !is_gap(i) {
            let first = i / N_KEYS / 4 * 4 * N_KEYS + key;
            *windows.entry(("session", key, first as EventTime)).or_default() += 1;
        }
        if i + N_KEYS < N {
            all.insert(format!("{i} and {}", i + N_KEYS));
        }
        all.insert(format!("held {i}"));
    }
    all.extend(windows.into_iter().map(|((what, key, at), n)| {
        let preposition = if what == "second" { "until" } else { "from" };
        format!("{what} of {key} {preposition} {at}: {n}")
    }));
    all
}

fn environment_of(parallelism: usize, dir: &Path, settings: &[(&str, &str)]) -> Environment {
    let fixed = [("max-parallelism", "32"), ("restart-strategy", "none")];
    environment(way(parallelism), dir, &[&fixed[..], settings].concat())
}

#[test]
fn what_is_kept_is_dealt_out_anew() {
    let expected = expected();
    let ways = [
        ("checkpoint", ("checkpoint-mode", "exactly-once")),
        ("checkpoint", ("checkpoint-mode", "unaligned")),
        ("checkpoint", ("checkpoint-aligned-timeout", "1ms")),
        ("savepoint", ("checkpoint-mode", "exactly-once")),
    ];
    for (backend, (from, mode)) in BACKENDS.iter().flat_map(|b| ways.map(|way| (b, way))) {
        let what = format!("{backend}, {mode:?}, {from}");
        let dir = tempfile::tempdir().unwrap();
        let settings = [("state-backend", *backend), ("state-memory", "16 KiB"), mode];
        let mut restore = None;
        let mut told = BTreeSet::new();
        for (turn, parallelism) in [1, MOST as usize, 3].into_iter().enumerate() {
            let mut settings = settings.to_vec();
            settings.extend(restore.as_deref().map(|from| ("restore", from)));
            let folder = if from == "savepoint" { format!("{turn}") } else { "own".into() };
            let env = environment_of(parallelism, &dir.path().join(folder), &settings);
            let is_last = turn == 2;
            let results = build(&env, if is_last { 1_000_000 } else { UNHURRIED }).collect();
            let job = env.execute_async("rescaled").unwrap();
            let first = job.status().last_checkpoint;
            if !is_last {
                until("there is something to be kept", || job.status().records > 150);
                let before = job.status().last_checkpoint.max(first);
                until("a checkpoint has it", || job.status().last_checkpoint > before);
            }
            if from == "savepoint" && !is_last {
                let savepoint = job.stop_with_savepoint(dir.path().join("saved"), false).unwrap();
                restore = Some(savepoint.display().to_string());
            } else if !is_last {
                job.cancel();
                restore = Some("latest".into());
            }
            job.wait().unwrap_or_else(|e| panic!("{what}, {parallelism}: {e}"));
            told.extend(results.take());
        }
        let missing: Vec<_> = expected.difference(&told).take(5).collect();
        let wrong: Vec<_> = told.difference(&expected).take(5).collect();
        assert!(missing.is_empty() && wrong.is_empty(), "{what}: {missing:?} {wrong:?}");
    }
}
