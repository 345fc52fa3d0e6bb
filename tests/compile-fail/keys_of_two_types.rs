//! Two keyed streams meet by keys of one type.

use millstream::prelude::*;

fn main() {
    let env = Environment::local();
    let (orders, payments) = (env.generate(9, |i| i), env.generate(9, |i| i));
    let by_text = payments.key_by(|payment| payment.to_string());
    let _ = orders.key_by(|order| *order).connect(by_text);
}
