//! An aggregate must be one of the stream's records.

use millstream::prelude::*;

#[derive(Clone)]
struct Longest;

impl Aggregate<String> for Longest {
    type Acc = usize;
    type Out = usize;
    fn create(&self) -> usize {
        0
    }
    fn add(&self, acc: &mut usize, word: String) {
        *acc = word.len().max(*acc);
    }
    fn merge(&self, acc: &mut usize, other: &usize) {
        *acc = *other.max(acc);
    }
    fn result(&self, acc: &usize) -> usize {
        *acc
    }
}

fn main() {
    let env = Environment::local();
    env.generate(9, |i| i).key_by(|i| i % 2).aggregate(Longest).discard();
}
