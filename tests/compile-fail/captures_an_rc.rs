//! Subtasks run on threads of their own, so what a closure captures must be able to go there.

use millstream::prelude::*;
use std::rc::Rc;

fn main() {
    let env = Environment::local();
    let factor = Rc::new(3);
    env.generate(9, |i| i).map(move |i| i * *factor).print();
}
