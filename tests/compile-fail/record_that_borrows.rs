//! A record must own what it holds.

use millstream::prelude::*;

fn main() {
    let env = Environment::local();
    env.from_collection(vec!["to be", "or not"]).print();
}
