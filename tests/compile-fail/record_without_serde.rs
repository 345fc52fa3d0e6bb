//! A record must be serialisable.

use millstream::prelude::*;

struct Order {
    cents: u64,
}

fn main() {
    let env = Environment::local();
    env.generate(3, |cents| Order { cents }).map(|order| order.cents).discard();
}
