//! A record made of another must not borrow from it.

use millstream::prelude::*;

fn main() {
    let env = Environment::local();
    let lines = env.from_collection(vec!["to be".to_string()]);
    lines.flat_map(|line: String| line.split(' ')).discard();
}
