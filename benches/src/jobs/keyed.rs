//! Jobs with state per key: W2 and q3.

use super::environment;
use super::sink::checksum;
use super::stateless::events;
use crate::nexmark::Event;
use crate::nexmark::tables::{City, Name, State};
use crate::prng::{mix64, uniform_key};
use crate::workload::{BenchError, Outcome, Setup};
use millstream::connectors::Generator;
use millstream::prelude::*;

pub(super) fn w2<const KEYS: u64>(setup: &Setup) -> Result<Outcome, BenchError> {
    let env = environment(setup)?;
    env.source(Generator::new(setup.n, uniform_key::<KEYS>), Watermarks::none())
        .key_by(|key| *key)
        .map_with_state(|count: &mut u64, key| {
            *count += 1;
            (key, *count)
        })
        .uid("count")
        .sink(checksum(|(key, count): &(u64, u64)| mix64(key ^ (count << 32))));
    super::run(setup, &env, "w2")
}

type Seller = (u64, Name, City, State);
type Row = (Name, City, State, u64);

const PERSON: ValueState<Seller> = ValueState::new("person");
const WAITING: ListState<u64> = ListState::new("waiting auctions");

#[derive(Clone)]
struct Join;

impl KeyedCoProcessFunction<u64, (u64, u64), Seller> for Join {
    type Out = Row;
    const STATES: StateSet<u64> = states![PERSON, WAITING];

    fn left(
        &mut self,
        (_, id): (u64, u64),
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, Row>,
    ) -> Result<()> {
        match ctx.state(&PERSON).get() {
            Some((_, name, city, state)) => out.emit((*name, *city, *state, id)),
            None => ctx.state(&WAITING).push(id),
        }
        Ok(())
    }

    fn right(
        &mut self,
        person: Seller,
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, Row>,
    ) -> Result<()> {
        let (_, name, city, state) = person;
        ctx.state(&PERSON).set(person);
        for id in ctx.state(&WAITING).take() {
            out.emit((name, city, state, id));
        }
        Ok(())
    }
}

pub(super) fn q3(setup: &Setup) -> Result<Outcome, BenchError> {
    let env = environment(setup)?;
    let events = events(&env, setup.n);
    let auctions = events.clone().filter_map(|e| match e {
        Event::Auction(a) if a.category == 10 => Some((a.seller, a.id)),
        _ => None,
    });
    let persons = events.filter_map(|e| match e {
        Event::Person(p) if matches!(p.state.as_str(), "OR" | "ID" | "CA") => {
            Some((p.id, p.name, p.city, p.state))
        }
        _ => None,
    });
    auctions.key_by(|a| a.0).connect(persons.key_by(|p| p.0)).process(Join).uid("join").sink(
        checksum(|(name, city, _, id): &Row| {
            let lengths = name.as_str().len() + city.as_str().len();
            mix64(*id).wrapping_add(lengths as u64)
        }),
    );
    super::run(setup, &env, "q3")
}
