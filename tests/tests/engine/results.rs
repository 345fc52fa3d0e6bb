//! Jobs that come to their end, and what they give.

use super::{Way, gives};
use millstream::prelude::*;
use std::collections::BTreeMap;

const N: u64 = 3_000;

fn numbers(env: &Environment) -> DataStream<u64> {
    env.generate(N, |i| i)
}

/// The running counts per key of records with these keys: the same in any order.
fn running_counts<K: Ord + Copy>(keys: impl IntoIterator<Item = K>) -> Vec<(K, u64)> {
    let mut counts = BTreeMap::new();
    let count = |key| {
        let n = counts.entry(key).or_insert(0);
        *n += 1;
        (key, *n)
    };
    keys.into_iter().map(count).collect()
}

#[test]
fn a_stream_may_part_and_meet_again() {
    let expected = (0..N).map(|i| 3 * i).chain((0..N).filter(|i| i % 2 == 1));
    gives(expected, |env| {
        let numbers = numbers(env);
        let tripled = numbers.clone().map(|i| 3 * i);
        tripled.union([numbers.filter(|i| i % 2 == 1)])
    });
}

#[test]
fn diamonds_nest() {
    let once = || (0..N).map(|i| i + 1).chain((0..N).map(|i| i + 2));
    let expected = once().map(|i| 2 * i).chain(once().filter(|i| i % 3 == 0)).chain(once());
    gives(expected, |env| {
        let numbers = numbers(env);
        let both = numbers.clone().map(|i| i + 1).union([numbers.rebalance().map(|i| i + 2)]);
        let (doubled, thirds) = (both.clone().map(|i| 2 * i), both.clone().filter(|i| i % 3 == 0));
        doubled.union([thirds, both.shuffle()])
    });
}

/// Both inputs of an operator fed by one source: with bounded queues the classic way to deadlock.
#[test]
fn a_stream_may_meet_itself_by_key() {
    const FIRST: ValueState<u64> = ValueState::new("first");

    /// Pairs each record with its twin, whichever comes first.
    #[derive(Clone)]
    struct Pairs;

    impl KeyedCoProcessFunction<u64, u64, u64> for Pairs {
        type Out = (u64, u64);
        const STATES: StateSet<u64> = states![FIRST];
        fn left(
            &mut self,
            value: u64,
            ctx: &mut KeyedContext<'_, u64>,
            out: &mut Collector<'_, Self::Out>,
        ) -> Result<()> {
            let mut first = ctx.state(&FIRST);
            match first.take() {
                Some(twin) => out.emit((value, twin)),
                None => first.set(value),
            }
            Ok(())
        }
        fn right(
            &mut self,
            value: u64,
            ctx: &mut KeyedContext<'_, u64>,
            out: &mut Collector<'_, Self::Out>,
        ) -> Result<()> {
            self.left(value, ctx, out)
        }
    }

    gives((0..N).map(|i| (i, i)), |env| {
        let numbers = numbers(env);
        numbers.clone().key_by(|i| *i).connect(numbers.key_by(|i| *i)).process(Pairs)
    });
}

#[test]
fn records_pass_many_exchanges() {
    let counts = running_counts((0..N).map(|i| i % 7));
    let expected: Vec<_> = running_counts(counts.into_iter().map(|(_, n)| n % 5));
    gives(expected.into_iter().filter(|(_, n)| n % 2 == 0), |env| {
        numbers(env)
            .rebalance()
            .map(|i| i % 7)
            .key_by(|k| *k)
            .count()
            .shuffle()
            .map(|(_, n)| n % 5)
            .rescale()
            .map(|r| r)
            .parallelism(3)
            .key_by(|r| *r)
            .count()
            .partition_custom(|(key, _), subtasks| *key as usize % subtasks)
            .filter(|(_, n)| n % 2 == 0)
            .global()
            .map(|pair| pair)
    });
}

#[test]
fn a_broadcast_reaches_every_subtask_once() {
    gives((0..N).flat_map(|i| [i; 3]), |env| numbers(env).broadcast().map(|i| i).parallelism(3));
}

#[test]
fn one_record_may_become_many() {
    gives((0..50u64).flat_map(|i| 0..i * i), |env| {
        env.generate(50, |i| i).flat_map(|i| 0..i * i).rebalance().map(|i| i)
    });
}

#[test]
fn side_outputs_lose_nothing() {
    const THREES: OutputTag<String> = OutputTag::new("threes");
    const FIVES: OutputTag<u64> = OutputTag::new("fives");
    let other = |i: u64| (!i.is_multiple_of(3) && !i.is_multiple_of(5)).then_some(i);
    let expected = (0..N).filter_map(other).chain((0..N).filter(|i| i % 3 == 0 || i % 5 == 0));
    gives(expected, |env| {
        let others = numbers(env).rebalance().flat_map_into(|i, out| match (i % 3, i % 5) {
            (0, _) => out.side(&THREES, i.to_string()),
            (_, 0) => out.side(&FIVES, *i),
            _ => out.emit(*i),
        });
        let parse = |text: String| text.parse().map_err(|e| format!("{text}: {e}"));
        let (threes, failures) = others.side_output(&THREES).rebalance().map(parse).split_errors();
        let failures = failures.map(|_| u64::MAX);
        let fives = others.side_output(&FIVES);
        others.union([threes, fives, failures])
    });
}

#[test]
fn a_partition_keeps_every_record() {
    gives((0..N).map(|i| (i % 2 == 0, i)), |env| {
        let (even, odd) = numbers(env).partition(|i| i % 2 == 0);
        even.map(|i| (true, i)).union([odd.rebalance().map(|i| (false, i))])
    });
}

#[test]
fn windows_count_every_record_once() {
    let expected = running_counts((0..N).map(|i| (i % 3, i / 100)));
    let totals = expected.into_iter().collect::<BTreeMap<_, _>>();
    gives(totals.into_iter().map(|((key, hundred), n)| (key, 100 * hundred as i64, n)), |env| {
        let times = Watermarks::monotonous().on(|i: &u64| *i as EventTime);
        env.source(Generator::new(N, |i| i), times)
            .rebalance()
            .map(|i| i)
            .key_by(|i| i % 3)
            .window(Tumbling::of(millis(100)))
            .count()
            .map(|(key, window, n)| (key, window.start, n))
    });
}

#[test]
fn rules_reach_every_subtask_and_records_one() {
    const RULES: BroadcastState<u64, ()> = BroadcastState::new("rules");

    #[derive(Clone)]
    struct Tell;

    impl BroadcastProcessFunction<u64, u64> for Tell {
        type Out = (char, u64);
        const BROADCAST: BroadcastSet = states![RULES];
        fn process(
            &mut self,
            value: u64,
            _: &mut BroadcastContext<'_>,
            out: &mut Collector<'_, Self::Out>,
        ) -> Result<()> {
            out.emit(('v', value));
            Ok(())
        }
        fn process_broadcast(
            &mut self,
            rule: u64,
            ctx: &mut BroadcastUpdateContext<'_>,
            out: &mut Collector<'_, Self::Out>,
        ) -> Result<()> {
            let mut rules = ctx.broadcast(&RULES);
            rules.insert(rule, ());
            out.emit(('r', rules.len() as u64));
            Ok(())
        }
    }

    // Every one of three subtasks counts up to ten rules.
    let expected = (0..N).map(|i| ('v', i)).chain((1..=10).flat_map(|n| [('r', n); 3]));
    gives(expected, |env| {
        let rules = env.from_iter(|| 0..10u64);
        numbers(env).connect_broadcast(rules).process(Tell).parallelism(3)
    });
}

#[test]
fn asynchronous_calls_lose_nothing() {
    async fn double(i: u64) -> Result<u64> {
        for _ in 0..i % 3 {
            tokio_free_yield().await;
        }
        Ok(2 * i)
    }
    /// Lets others go first, once.
    async fn tokio_free_yield() {
        let mut yielded = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut yielded, true) {
                return std::task::Poll::Ready(());
            }
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await;
    }
    let call = AsyncCall::new(double).capacity(8);
    let expected = || (0..N).map(|i| 2 * i);
    gives(expected(), |env| numbers(env).async_map(call.clone()).map(|i| i));
    gives(expected(), |env| numbers(env).rebalance().async_map(call.clone().unordered()));
    // In order means in order.
    for way in Way::all() {
        let ordered = way.environment().from_iter(|| 0..N).async_map(call.clone()).parallelism(1);
        let results = ordered.execute_and_collect("in order").unwrap();
        assert!(results.into_iter().eq(expected()), "{way:?}");
    }
}

#[test]
fn nothing_comes_of_nothing() {
    gives([], |env| {
        let times = Watermarks::monotonous().on(|i: &u64| *i as EventTime);
        let nothing = env.generate(0, |i| i).union([env.from_collection(Vec::new())]);
        let nothing = nothing.watermarks(times);
        let windows = nothing.clone().key_by(|i| *i).window(Tumbling::of(secs(1))).count();
        let sums = nothing.clone().rebalance().key_by(|i| i % 2).sum(|i| *i).map(|(_, sum)| sum);
        let calls = nothing.clone().async_map(AsyncCall::new(|i| async move { Ok(i) }));
        let (errors, _) = nothing.map(Ok::<u64, String>).split_errors();
        windows.map(|(_, _, n)| n).union([sums, calls, errors])
    });
}

#[test]
fn a_job_of_fifty_operators() {
    gives((0..500u64).map(|i| i + 50), |env| {
        let mut stream = env.generate(500, |i| i);
        for i in 0..50 {
            stream = stream.map(|i| i + 1);
            if i % 10 == 9 {
                stream = stream.rebalance();
            }
        }
        stream
    });
}

#[test]
fn counters_and_accumulators_cover_all_subtasks() {
    /// Passes on, and keeps how often each last digit was seen.
    #[derive(Clone, Default)]
    struct Digits {
        seen: Option<(Counter, AccumulatorHandle<BTreeMap<u64, u64>>)>,
    }

    impl MapFunction<u64> for Digits {
        type Out = u64;
        fn open(&mut self, context: &OperatorContext) -> Result<()> {
            self.seen = Some((context.counter("seen"), context.accumulator("digits")));
            Ok(())
        }
        fn map(&mut self, i: u64) -> Result<u64> {
            let (counter, digits) = self.seen.as_ref().ok_or("it was not opened")?;
            counter.inc();
            *digits.get().entry(i % 10).or_default() += 1;
            Ok(i)
        }
    }

    for way in Way::all() {
        let env = way.environment();
        numbers(&env).rebalance().map_with(Digits::default()).discard();
        let result = env.execute("digits").unwrap();
        assert_eq!((result.records(), result.counter("seen")), (N, N), "{way:?}");
        let digits = result.accumulator::<BTreeMap<u64, u64>>("digits");
        assert_eq!(digits, Some((0..10).map(|digit| (digit, N / 10)).collect()), "{way:?}");
        assert_eq!(result.accumulator::<BTreeMap<u64, u64>>("digits"), None);
    }
}

/// An environment runs what was built in it; afterwards it is empty and can be built in again.
#[test]
fn an_environment_can_be_used_again() {
    for way in Way::few() {
        let env = way.environment();
        for n in [3, 5] {
            assert_eq!(
                env.generate(n, |i| i).execute_and_collect("again").unwrap().len(),
                n as usize
            );
        }
    }
}
