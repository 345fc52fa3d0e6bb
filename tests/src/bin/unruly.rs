//! A job that counts, and does one unruly thing when it is told to: for tests of what that does to others.
//!
//! It numbers records, counts them by key and writes every count, so any record that is lost or counted twice shows in
//! its output. `--do WHAT --at I` says what happens at record I, where it is read or, with `--where behind`, where it is counted; with `--once FILE` it happens once in the life of
//! the job, however often it is restarted: who gets there first makes the file. `--apart` numbers what would be counted, so that
//! no subtask sends to another; the output is the same. `--opened DIR` leaves a file there for each time a subtask is opened.
//! `--beside DIR` counts the same once more, beside it and well-behaved, into another folder.
//! With `--watch DIR` the numbers are not made but read, from the lines of the files in that folder and of those that come later.

use std::fmt::Write;
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::ExitCode;

use millstream::prelude::*;
use millstream::runtime::context::OperatorContext;
use millstream_tests::program::exit_code;
use millstream_tests::unruly::{N_KEYS, What};

fn main() -> ExitCode {
    exit_code(run())
}

fn number(env: &Environment, name: &str, default: u64) -> Result<u64> {
    match env.arg_opt(name) {
        None => Ok(default),
        Some(text) => {
            text.parse().map_err(|_| Error::user(format!("`--{name} {text}` is no number")))
        }
    }
}

/// Leaves a file in a folder for each time a subtask is opened: its number and the attempt.
#[derive(Clone)]
struct Opened(Option<PathBuf>);

impl MapFunction<u64> for Opened {
    type Out = u64;

    fn open(&mut self, context: &OperatorContext) -> Result<()> {
        if let Some(dir) = &self.0 {
            let name = format!("{}-{}", context.subtask(), context.attempt());
            std::fs::create_dir_all(dir)?;
            OpenOptions::new().write(true).create(true).truncate(true).open(dir.join(name))?;
        }
        Ok(())
    }

    fn map(&mut self, i: u64) -> Result<u64> {
        Ok(i)
    }
}

fn run() -> Result<()> {
    let env = Environment::from_args()?;
    let (n, rate) = (number(&env, "n", 10_000)?, number(&env, "rate", 10_000)?);
    let (at, out) = (number(&env, "at", 0)?, PathBuf::from(env.arg("out")?));
    let what = env.arg_opt("do").map(|word| word.parse::<What>()).transpose()?;
    let once = env.arg_opt("once").map(PathBuf::from);
    let is_host = std::env::var_os("MILLSTREAM_HOST_CHANNEL").is_some();
    if what == Some(What::Exit) && is_host {
        eprintln!("there is nothing to be done here");
        return Ok(());
    }
    let name = if what == Some(What::Drift) && is_host { "others" } else { "numbers" };
    let numbers = match env.arg_opt("watch") {
        None => env.source(Generator::new(n, |i| i).rate(rate), Watermarks::none()),
        Some(dir) => {
            let files = FileSource::json_lines(dir).monitor_continuously(millis(20));
            env.source(Paced::new(files, rate), Watermarks::none())
        }
    };
    let is_behind = env.arg_opt("where").is_some_and(|place| place == "behind");
    let passes = move |i: u64| {
        if let Some(what) = what.filter(|_| i == at)
            && once.as_ref().is_none_or(|flag| {
                OpenOptions::new().write(true).create_new(true).open(flag).is_ok()
            })
        {
            what.happens();
        }
    };
    let passes_behind = passes.clone();
    let opened = Opened(env.arg_opt("opened").map(PathBuf::from));
    let numbers = numbers.uid("numbers").name(name).map_with(opened).map(move |i| {
        if !is_behind {
            passes(i);
        }
        i
    });
    let show = |(key, n): &(u64, u64), line: &mut String| write!(line, "{key},{n}");
    let sink = FileSink::formatted(out, show).overwrite();
    if let Some(beside) = env.arg_opt("beside").map(PathBuf::from) {
        let opened = Opened(Some(beside.with_extension("opened")));
        let numbers = env.source(Generator::new(n, |i| i).rate(rate), Watermarks::none());
        let numbers = numbers.uid("numbers beside").map_with(opened);
        let counts = numbers.key_by(|i| *i % N_KEYS).count().uid("counts beside");
        counts.sink(FileSink::formatted(beside, show).overwrite()).uid("out beside");
    }
    if env.args().iter().any(|arg| arg == "--apart") {
        numbers.map(|i| (i % N_KEYS, i / N_KEYS + 1)).sink(sink).name("out").uid("out");
        env.execute("unruly")?;
        return Ok(());
    }
    let counts = numbers.key_by(|i| *i % N_KEYS).count().uid("counts").map(move |(key, n)| {
        if is_behind {
            passes_behind((n - 1) * N_KEYS + key);
        }
        (key, n)
    });
    counts.sink(sink).name("out").uid("out");
    env.execute("unruly")?;
    Ok(())
}
