//! A key struct must be comparable; one that holds a float cannot be.

use millstream::prelude::*;

#[derive(Clone, PartialEq)]
struct Place {
    latitude: f64,
    longitude: f64,
}

fn main() {
    let env = Environment::local();
    let readings = env.from_collection(vec![(51.5, 0.1, 20)]);
    let place = |r: &(f64, f64, i32)| Place { latitude: r.0, longitude: r.1 };
    let _ = readings.key_by(place);
}
