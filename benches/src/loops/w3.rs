//! W3: a running count per word.
//!
//! Twice: with one `String` a word, as a stream of strings has it, and with the words of a batch
//! packed into one buffer of bytes, which is what a string type made for streams can reach. A
//! word is hashed once, where it is split off; the hash travels with it.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::exchange::{self, Buffer, Operator, Output};
use crate::text::words;
use crate::workload::{BenchError, Outcome, Setup, Sink};

#[derive(Default)]
struct Counts {
    counts: HashTable<Entry>,
    sink: Sink,
}

struct Entry {
    hash: u64,
    word: Box<str>,
    count: u64,
}

impl Counts {
    /// Counts `word`; `own` makes the key of a word not seen before.
    #[inline(always)]
    fn add<W: AsRef<str> + Into<Box<str>>>(&mut self, hash: u64, word: W) {
        let count = match self.counts.find_mut(hash, |entry| *entry.word == *word.as_ref()) {
            Some(entry) => {
                entry.count += 1;
                entry.count
            }
            None => {
                let entry = Entry { hash, word: word.into(), count: 1 };
                self.counts.insert_unique(hash, entry, |entry| entry.hash);
                1
            }
        };
        self.sink.add(count);
    }
}

impl Operator<Vec<(u64, String)>> for Counts {
    fn process(&mut self, batch: &mut Vec<(u64, String)>) {
        for (hash, word) in batch.drain(..) {
            self.add(hash, word);
        }
    }
}

/// One owned `String` for every word.
pub(super) fn string(setup: &Setup) -> Result<Outcome, BenchError> {
    let text = setup.text()?;
    let hasher = DefaultHashBuilder::default();
    let source = |i: u64, output: &mut Output<Vec<(u64, String)>>| {
        for word in words(text.line(i)) {
            let word = word.to_ascii_lowercase();
            let hash = hasher.hash_one(&word);
            output.to(hash).push((hash, word));
        }
    };
    let halves = exchange::run(setup.n, source, |_| i64::MIN, Counts::default);
    Ok(halves.into_iter().map(|half| half.sink).sum::<Sink>().into())
}

/// The words of a batch behind each other.
#[derive(Default)]
struct Packed {
    text: String,
    /// The hash of each word, and where it ends in `text`.
    words: Vec<(u64, u32)>,
}

impl Buffer for Packed {
    fn len(&self) -> usize {
        self.words.len()
    }
}

impl Operator<Packed> for Counts {
    fn process(&mut self, batch: &mut Packed) {
        let mut start = 0;
        for &(hash, end) in &batch.words {
            self.add(hash, &batch.text[start..end as usize]);
            start = end as usize;
        }
        batch.text.clear();
        batch.words.clear();
    }
}

/// Words packed into one buffer a batch.
pub(super) fn packed(setup: &Setup) -> Result<Outcome, BenchError> {
    let text = setup.text()?;
    let hasher = DefaultHashBuilder::default();
    let source = |i: u64, output: &mut Output<Packed>| {
        // Lower-casing a whole line at once is vectorised.
        let line = text.line(i).to_ascii_lowercase();
        for word in words(&line) {
            let hash = hasher.hash_one(word);
            let packed = output.to(hash);
            packed.text.push_str(word);
            packed.words.push((hash, packed.text.len() as u32));
        }
    };
    let halves = exchange::run(setup.n, source, |_| i64::MIN, Counts::default);
    Ok(halves.into_iter().map(|half| half.sink).sum::<Sink>().into())
}
