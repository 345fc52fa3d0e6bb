//! q3: auctions of category 10 join the persons of OR, ID and CA who sell them, for ever.

use hashbrown::HashMap;

use super::exchange::{self, Operator, Output, spread};
use crate::nexmark::tables::{City, Name};
use crate::nexmark::{Event, Generator};
use crate::prng::mix64;
use crate::workload::{BenchError, Outcome, Setup, Sink};

enum Side {
    Person { id: u64, name: Name, city: City },
    Auction { seller: u64, id: u64 },
}

#[derive(Default)]
struct Join {
    persons: HashMap<u64, (Name, City)>,
    /// Auctions whose seller has not come yet.
    waiting: HashMap<u64, Vec<u64>>,
    sink: Sink,
}

impl Join {
    fn row(&mut self, auction: u64, name: Name, city: City) {
        let lengths = name.as_str().len() + city.as_str().len();
        self.sink.add(mix64(auction).wrapping_add(lengths as u64));
    }
}

impl Operator<Vec<Side>> for Join {
    fn process(&mut self, batch: &mut Vec<Side>) {
        for record in batch.drain(..) {
            match record {
                Side::Person { id, name, city } => {
                    self.persons.insert(id, (name, city));
                    for auction in self.waiting.remove(&id).into_iter().flatten() {
                        self.row(auction, name, city);
                    }
                }
                Side::Auction { seller, id } => match self.persons.get(&seller) {
                    Some(&(name, city)) => self.row(id, name, city),
                    None => self.waiting.entry(seller).or_default().push(id),
                },
            }
        }
    }
}

pub(super) fn run(setup: &Setup) -> Result<Outcome, BenchError> {
    let generator = Generator::new();
    let source = |i: u64, output: &mut Output<Vec<Side>>| match super::emitted(&generator, i) {
        Event::Person(p) if matches!(p.state.as_str(), "OR" | "ID" | "CA") => {
            let person = Side::Person { id: p.id, name: p.name, city: p.city };
            output.to(spread(p.id)).push(person);
        }
        Event::Auction(a) if a.category == 10 => {
            output.to(spread(a.seller)).push(Side::Auction { seller: a.seller, id: a.id });
        }
        _ => {}
    };
    let halves = exchange::run(setup.n, source, |_| i64::MIN, Join::default);
    Ok(halves.into_iter().map(|half| half.sink).sum::<Sink>().into())
}
