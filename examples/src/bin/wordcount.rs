//! Word count: how often each word is used in a text, counted straight or in two phases.
//!
//! What it shows: words cut from shared lines without an allocation each (`Text`, `flat_map_into`), a key borrowed
//! from the record, the result at the end of a bounded stream, and (with `--two-phase`) the combiner of MapReduce:
//! a process function that adds up what it can before the exchange, so that a frequent word crosses it once in a
//! while instead of every time.
//!
//! ```sh
//! cargo run --release -p millstream-examples --bin wordcount
//! cargo run --release -p millstream-examples --bin wordcount -- --two-phase
//! cargo run --release -p millstream-examples --bin wordcount -- --two-phase --explain
//! ```

use clap::Parser;
use millstream::prelude::*;
use millstream_examples::input::read;
use millstream_examples::program::{arguments, finish, sample_dir};
use millstream_examples::records::Verse;
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Arguments {
    /// The folder of the data; without it the sample of the repository
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Add up words before they are sent to the subtask that counts them
    #[arg(long)]
    two_phase: bool,
    /// How many words to show
    #[arg(long, default_value_t = 10)]
    top: usize,
}

/// A word and how often it was seen.
type Counted = (Text, u64);

/// Adds up words locally. Its table is bounded: when it is full, and at the end, it is sent on.
#[derive(Clone, Default)]
struct Combine {
    counts: HashMap<Text, u64>,
}

const TABLE_SIZE: usize = 4096;

impl ProcessFunction<Counted> for Combine {
    type Out = Counted;

    fn process(
        &mut self,
        (word, n): Counted,
        _: &mut ProcessContext<'_>,
        out: &mut Collector<'_, Counted>,
    ) -> Result<()> {
        *self.counts.entry(word).or_default() += n;
        if self.counts.len() >= TABLE_SIZE {
            self.end(out)?;
        }
        Ok(())
    }

    fn end(&mut self, out: &mut Collector<'_, Counted>) -> Result<()> {
        self.counts.drain().for_each(|counted| out.emit(counted));
        Ok(())
    }
}

fn run() -> Result<()> {
    let env = Environment::from_args()?;
    let arguments: Arguments = arguments(&env);
    let data = arguments.data.unwrap_or_else(sample_dir);
    let words = read::<Verse>(&env, &data, None, Watermarks::none())
        .flat_map_into(|verse, out| verse.words().for_each(|word| out.emit((word, 1))))
        .name("words")
        .parallelism(1);
    let words = if arguments.two_phase {
        words.process(Combine::default()).name("combine").parallelism(1)
    } else {
        words
    };
    let counts = words
        .key_by_ref(|counted: &Counted| &counted.0)
        .map_with_state(|total: &mut u64, (word, n)| {
            *total += n;
            (word, *total)
        })
        .name("count")
        .uid("count")
        .collect();
    let job = env.execute("word count")?;

    // Counts run: the last of a word is its total.
    let mut totals: HashMap<Text, u64> = HashMap::new();
    let running = counts.take();
    let n_exchanged = running.len();
    for (word, n) in running {
        let total = totals.entry(word).or_default();
        *total = n.max(*total);
    }
    let n_words: u64 = totals.values().sum();
    let mut most: Vec<_> = totals.iter().collect();
    most.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    for (word, n) in most.iter().take(arguments.top) {
        println!("{n:>8}  {word}");
    }
    println!(
        "\n{n_words} words, {} different, in {:.2} s; {n_exchanged} records crossed the exchange.",
        most.len(),
        job.elapsed().as_secs_f64()
    );
    Ok(())
}

fn main() -> ExitCode {
    finish(run())
}
