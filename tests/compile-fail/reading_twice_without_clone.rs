//! A stream is read once, unless it is cloned.

use millstream::prelude::*;

fn main() {
    let env = Environment::local();
    let numbers = env.generate(9, |i| i);
    numbers.filter(|i| i % 2 == 0).discard();
    numbers.filter(|i| i % 2 == 1).discard();
}
