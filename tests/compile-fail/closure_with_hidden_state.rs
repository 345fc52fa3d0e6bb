//! State in a closure would be lost at recovery: it belongs in a declared state.

use millstream::prelude::*;

fn main() {
    let env = Environment::local();
    let mut seen = 0;
    let numbered = env.generate(9, |i| i).map(move |i| {
        seen += 1;
        (seen, i)
    });
    numbered.discard();
}
