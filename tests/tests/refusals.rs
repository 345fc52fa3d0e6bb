//! Graphs that cannot run, and settings that make no sense: refused before anything runs, with the operator, its line in
//! the program, and the remedy. Whole messages are compared, because a user reads whole messages.

use millstream::prelude::*;
use millstream::testing::Harness;

fn environment() -> Environment {
    Environment::builder().parallelism(2).build().unwrap()
}

/// What `execute` and `explain` say against what `build` makes, with `(here)` for a line of this file.
#[track_caller]
fn refusal(build: impl FnOnce(&Environment)) -> String {
    refusal_in(environment(), build)
}

#[track_caller]
fn refusal_in(env: Environment, build: impl FnOnce(&Environment)) -> String {
    build(&env);
    let explained = env.explain("job", ExplainFormat::Text).unwrap_err();
    let refused = env.execute("job").unwrap_err();
    assert_eq!(explained.to_string(), refused.to_string());
    assert!(refused.place().is_none(), "it was refused only when it ran: {refused}");
    without_lines(&refused.to_string())
}

fn without_lines(message: &str) -> String {
    let marker = format!("({}:", file!());
    let mut pieces = message.split(&marker);
    let mut text = pieces.next().unwrap_or_default().to_string();
    for piece in pieces {
        let (line, rest) = piece.split_once(')').expect("a place ends with a parenthesis");
        assert!(line.parse::<u32>().is_ok(), "{message}");
        text.push_str("(here)");
        text.push_str(rest);
    }
    text
}

fn numbers(env: &Environment) -> DataStream<u64> {
    env.generate(10, |i| i)
}

#[test]
fn a_job_without_operators() {
    assert_eq!(
        refusal(|_| {}),
        "the job has no operators: add a source (`env.source(…)`) before `execute`"
    );
}

#[test]
fn no_subtasks() {
    assert_eq!(
        refusal(|env| {
            numbers(env).map(|i| i).name("halve").parallelism(0).discard();
        }),
        "operator `halve` (here) has parallelism 0: it needs at least one subtask"
    );
}

#[test]
fn more_subtasks_than_key_groups() {
    assert_eq!(
        refusal(|env| {
            numbers(env).key_by(|i| *i).count().parallelism(9).max_parallelism(8).discard();
        }),
        "operator `count` (here) has parallelism 9 above its max parallelism 8: lower the one or raise the other"
    );
    let few = Environment::builder().set("max-parallelism", "1").parallelism(2).build().unwrap();
    assert_eq!(
        refusal_in(few, |env| {
            numbers(env).discard();
        }),
        "operator `generator` (here) has parallelism 2 above its max parallelism 1: lower the one or raise the other"
    );
}

#[test]
fn more_key_groups_than_there_can_be() {
    for max in [0, 32_769] {
        assert_eq!(
            refusal(|env| {
                numbers(env).discard().max_parallelism(max);
            }),
            format!(
                "operator `discard` (here) has max parallelism {max}: it must be between 1 and 32768"
            )
        );
    }
}

#[test]
fn more_subtasks_than_a_source_has_use_for() {
    assert_eq!(
        refusal(|env| {
            env.from_collection(vec![1, 2]).parallelism(2).discard();
        }),
        "operator `collection` (here) has parallelism 2, but a source can use at most 1: remove `.parallelism(…)`"
    );
}

#[test]
fn a_uid_that_is_used_twice_or_empty() {
    assert_eq!(
        refusal(|env| {
            numbers(env).uid("a").map(|i| i).uid("a").discard();
        }),
        "the uid `a` is used twice, by operator `generator` (here) and operator `map` (here): every uid must be unique in a job"
    );
    assert_eq!(
        refusal(|env| {
            numbers(env).uid("").discard();
        }),
        "operator `generator` (here) has an empty uid: give it a name of its own"
    );
}

#[test]
fn state_without_a_uid_if_uids_are_strict() {
    let strict = || Environment::builder().set("strict-uids", "true").build().unwrap();
    assert_eq!(
        refusal_in(strict(), |env| {
            numbers(env).key_by(|i| *i).count().name("per number").discard();
        }),
        "operator `per number` (here) keeps state but has no uid: after an edit of the program its state may not be found again; add `.uid(\"…\")`"
    );
    let env = strict();
    numbers(&env).key_by(|i| *i).count().uid("counts").discard();
    env.execute("job").unwrap();
}

#[test]
fn forward_between_different_parallelisms() {
    assert_eq!(
        refusal(|env| {
            numbers(env).forward().map(|i| i).parallelism(3).discard();
        }),
        "operator `map` (here) is fed by `forward()` from 2 subtasks but has 3: forward needs equal parallelism; use `rebalance()`"
    );
}

const ODD: OutputTag<u64> = OutputTag::new("odd");

#[test]
fn a_side_output_that_is_read_twice() {
    assert_eq!(
        refusal(|env| {
            let even = numbers(env).flat_map_into(|i, out| out.emit(*i)).name("even");
            even.side_output(&ODD).discard();
            even.side_output(&ODD).discard();
            even.discard();
        }),
        "the side output `odd` of operator `even` (here) is read 2 times: read it once and `.clone()` the stream"
    );
}

#[test]
fn a_side_output_that_is_read_as_records_of_two_types() {
    const TEXTS: OutputTag<String> = OutputTag::new("odd");
    let message = refusal(|env| {
        let even = numbers(env).flat_map_into(|i, out| out.emit(*i)).name("even");
        even.side_output(&ODD).discard();
        even.side_output(&TEXTS).discard();
        even.discard();
    });
    assert_eq!(
        message,
        "the side output `odd` of operator `even` (here) is read as records of two types, the second time at (here): use one `OutputTag` constant"
    );
}

#[test]
fn a_setting_of_what_is_no_operator() {
    assert_eq!(
        refusal(|env| {
            numbers(env).union([numbers(env)]).name("both").discard();
        }),
        "`.name(…)` (here) was called on a union, which is no operator: call it on the streams before, or after the next operator"
    );
    assert_eq!(
        refusal(|env| {
            let (even, odd) = numbers(env).partition(|i| i % 2 == 0);
            even.discard();
            odd.uid("odd").discard();
        }),
        "`.uid(…)` (here) was called on the side output `others`, which shares operator `partition` (here) with the main stream: call it there"
    );
}

#[test]
fn streams_of_two_environments() {
    assert_eq!(
        refusal(|env| {
            numbers(env).union([numbers(&environment())]).discard();
        }),
        "`union` (here) joins streams of two environments: build both from one"
    );
    assert_eq!(
        refusal(|env| {
            numbers(env).connect(numbers(&environment())).co_map(|a| a, |b| b).discard();
        }),
        "`co_map` (here) joins streams of two environments: build both from one"
    );
}

#[test]
fn an_option_that_does_not_exist_or_cannot_have_its_value() {
    let mistake = |args: &[&str]| {
        let built = Environment::builder().args(args.iter().copied()).build();
        built.map(|_| ()).unwrap_err().to_string()
    };
    for (args, expected) in [
        (
            &["-D", "paralelism=2"][..],
            "unknown option `paralelism` (command line): did you mean `parallelism`?",
        ),
        (
            &["-D", "batchsize=2"],
            "unknown option `batchsize` (command line): did you mean `batch-size`?",
        ),
        (
            &["-p", "many"],
            "option `parallelism` (command line) cannot be `many`: use a whole number of at least 1",
        ),
        (
            &["-D", "network-memory=5 MB"],
            "option `network-memory` (command line) cannot be `5 MB`: use a number of bytes, or one with KiB, MiB or GiB",
        ),
        (&["-D", "chaining"], "`-D chaining` is not of the form key=value"),
        (&["--explain=png"], "`--explain=png`: use text, dot or json"),
        (&["--config"], "`--config` needs a file"),
    ] {
        assert_eq!(mistake(args), expected);
    }
}

#[test]
fn a_harness_refuses_what_a_job_would() {
    let refused = Harness::new(|input: DataStream<u64>| input.map(|i| i).parallelism(0));
    let message = refused.map(|_| ()).unwrap_err().to_string();
    let expected = "operator `map` (here) has parallelism 0: it needs at least one subtask";
    assert_eq!(without_lines(&message), expected);
}

/// Refused when the job starts, because only then files are looked at; still before any record is read.
#[test]
fn files_that_are_missing_or_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let env = environment();
    env.read_lines(dir.path().join("absent.txt")).name("input").discard();
    let error = env.execute("job").unwrap_err();
    assert_eq!(error.place().map(|place| place.operator.as_str()), Some("input"));
    assert!(error.message().contains("absent.txt"), "{error}");

    std::fs::write(dir.path().join("part-0"), "precious").unwrap();
    let env = environment();
    numbers(&env).write_lines(dir.path()).name("output");
    let error = env.execute("job").unwrap_err();
    assert_eq!(error.place().map(|place| place.operator.as_str()), Some("output"));
    assert!(error.message().contains("is not empty (it holds `part-0`)"), "{error}");
    assert_eq!(std::fs::read_to_string(dir.path().join("part-0")).unwrap(), "precious");
}
