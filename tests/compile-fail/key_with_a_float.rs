//! A float is no key: it is not equal to itself when it is not a number.

use millstream::prelude::*;

fn main() {
    let env = Environment::local();
    let readings = env.from_collection(vec![(20.5, 1), (21.0, 2)]);
    readings.key_by(|reading: &(f64, u32)| reading.0).count().print();
}
