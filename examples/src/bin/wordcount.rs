//! Word count: how often each word occurs in a text, most frequent first.
//!
//! What it shows: the smallest job with state, and a variant for skewed keys. With `--two-phase` every subtask
//! counts by itself first and passes on sums, so the one subtask that owns "the" gets a few records instead
//! of every tenth word.
//!
//! ```sh
//! cargo run --release -p millstream-examples --bin wordcount
//! cargo run --release -p millstream-examples --bin wordcount -- --two-phase --parallelism 4 README.md
//! cargo run --release -p millstream-examples --bin wordcount -- --explain
//! ```

use clap::Parser;
use millstream::prelude::*;
use millstream_examples::program::{arguments, finish, sample_dir};
use millstream_examples::records::words;
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Words a subtask counts by itself before it passes the sums on.
const MAX_WORDS: usize = 10_000;

/// Counts words of a subtask. The counts are in no state, so they are passed on before a snapshot of the job
/// is taken: none is lost or counted twice if the job fails.
#[derive(Clone, Default)]
struct CountLocally {
    counts: HashMap<Text, u64>,
}

impl ProcessFunction<Text> for CountLocally {
    type Out = (Text, u64);

    fn process(
        &mut self,
        word: Text,
        ctx: &mut ProcessContext<'_>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        *self.counts.entry(word).or_default() += 1;
        if self.counts.len() >= MAX_WORDS { self.end(ctx, out) } else { Ok(()) }
    }

    fn before_snapshot(
        &mut self,
        ctx: &mut ProcessContext<'_>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        self.end(ctx, out)
    }

    fn end(
        &mut self,
        _: &mut ProcessContext<'_>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        self.counts.drain().for_each(|count| out.emit(count));
        Ok(())
    }
}

/// Counts the words of a text
#[derive(Parser)]
struct Arguments {
    /// A file, a folder or a pattern, compressed or not; without it Genesis
    text: Option<PathBuf>,
    /// Counts in every subtask before the words are spread by key
    #[arg(long)]
    two_phase: bool,
}

fn main() -> ExitCode {
    finish(run())
}

fn run() -> Result<()> {
    let env = Environment::from_args()?;
    let Arguments { text, two_phase } = arguments(&env);
    let text = text.unwrap_or_else(|| sample_dir().join("kjv/kjv.txt.gz"));
    let words = env
        .read_lines(text)
        .rebalance()
        .flat_map_into(|line: &Text, out| {
            // What holds digits is no word but a number, or the reference of a verse.
            let tokens =
                line.split_whitespace().filter(|t| !t.contains(|c: char| c.is_ascii_digit()));
            tokens.flat_map(words).for_each(|word| out.emit(word));
        })
        .name("words");
    let counts = if two_phase {
        words.process(CountLocally::default()).name("count locally")
    } else {
        words.map(|word| (word, 1)).name("one each")
    };
    let counts = counts
        .key_by_ref(|(word, _)| word)
        .window(Global)
        .trigger(EventTimeTrigger)
        .reduce(|(word, a), (_, b)| (word, a + b))
        .name("counts")
        .uid("counts")
        .collect();

    let result = env.execute("word count")?;
    let mut counts = counts.take();
    counts.sort_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
    for (word, n) in counts.iter().take(20) {
        println!("{n:>8}  {word}");
    }
    let n_words: u64 = counts.iter().map(|(_, n)| n).sum();
    println!("{n_words} words, {} different, in {:.1?}", counts.len(), result.elapsed());
    Ok(())
}
