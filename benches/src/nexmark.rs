//! Nexmark's auction site: 1 person, 3 auctions and 46 bids in every 50 events.
//!
//! The same events as the Flink harness's generator (`flink/src/peer/Nexmark.java`), bit for bit.
//! The generator is part of every figure, so it avoids what is slow and not asked for: divisions
//! are by constants, the choice between a hot and a cold key is computed both ways instead of
//! branched on (half the branches would be mispredicted), and strings are handles (see
//! [`tables`]). All calls inline, so a job that drops a field does not pay for it.

pub mod tables;

use serde::{Deserialize, Serialize};

use crate::prng::rnd;
use tables::{Channel, City, Extra, Name, PRICES, State, Url};

const SEED: u64 = 42;
/// The first person id and the first auction id.
const FIRST_ID: u64 = 1000;
/// Cold bids go to one of so many last auctions.
const IN_FLIGHT: u64 = 100;
/// Cold sellers and bidders are among so many last persons.
const ACTIVE_PEOPLE: u64 = 1000;
/// Ids may run ahead of the persons and auctions that exist by so many.
const LEAD: u64 = 10;
/// One id in so many is hot.
const HOT: u64 = 100;
/// Events in a round of 1 person, 3 auctions and 46 bids.
const ROUND: u64 = 50;

/// Events per second of event time.
pub const EVENTS_PER_SECOND: u64 = 100_000;
/// The timestamp of event 0, milliseconds since the epoch.
pub const BASE_MS: i64 = 1_600_000_000_000;

/// Someone who registered.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Person {
    /// Unique among persons.
    pub id: u64,
    /// Event time, milliseconds since the epoch.
    pub ts: i64,
    /// Full name.
    pub name: Name,
    /// City.
    pub city: City,
    /// State of the United States.
    pub state: State,
    /// E-mail address.
    pub email: Url,
    /// Credit card.
    pub card: Extra,
    /// Filler.
    pub extra: Extra,
}

/// An auction that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Auction {
    /// Unique among auctions.
    pub id: u64,
    /// The person who sells.
    pub seller: u64,
    /// First bid, in cents.
    pub initial_bid: u64,
    /// Smallest price at which the item is sold, in cents.
    pub reserve: u64,
    /// Event time, milliseconds since the epoch.
    pub ts: i64,
    /// When the auction closes, milliseconds since the epoch.
    pub expires: i64,
    /// 10 to 14.
    pub category: u32,
    /// What is sold.
    pub item: Name,
    /// Description.
    pub description: Extra,
    /// Filler.
    pub extra: Extra,
}

/// A bid on an auction.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bid {
    /// The auction.
    pub auction: u64,
    /// The person who bids.
    pub bidder: u64,
    /// In cents.
    pub price: u64,
    /// Event time, milliseconds since the epoch.
    pub ts: i64,
    /// Where the bidder came from.
    pub channel: Channel,
    /// The page that was bid on.
    pub url: Url,
    /// Filler.
    pub extra: Extra,
}

/// What happens on the auction site.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// Someone registered.
    Person(Person),
    /// An auction was opened.
    Auction(Auction),
    /// A bid was made.
    Bid(Bid),
}

impl Event {
    /// Event time, milliseconds since the epoch.
    #[inline(always)]
    pub fn ts(&self) -> i64 {
        match self {
            Event::Person(person) => person.ts,
            Event::Auction(auction) => auction.ts,
            Event::Bid(bid) => bid.ts,
        }
    }
}

/// Event time of event `n`, milliseconds since the epoch; never falls as `n` grows.
#[inline(always)]
pub fn timestamp_ms(n: u64) -> i64 {
    const EVENTS_PER_MS: u64 = EVENTS_PER_SECOND / 1000;
    BASE_MS + (n / EVENTS_PER_MS) as i64
}

/// Makes events; a copy is free, so give each source subtask its own.
#[derive(Clone, Copy, Debug)]
pub struct Generator {
    prices: &'static [u32; 4096],
}

impl Default for Generator {
    fn default() -> Self {
        Self::new()
    }
}

impl Generator {
    /// A generator of the one stream of events that there is.
    pub fn new() -> Self {
        Self { prices: &PRICES }
    }

    /// Event `n`.
    #[inline(always)]
    pub fn event(&self, n: u64) -> Event {
        let (round, place) = (n / ROUND, n % ROUND);
        let ts = timestamp_ms(n);
        let (r0, r1) = (rnd(SEED, 4 * n), rnd(SEED, 4 * n + 1));
        if place > 3 {
            Event::Bid(self.bid(round, ts, r0, r1))
        } else if place > 0 {
            Event::Auction(self.auction(round, place, ts, r0, r1))
        } else {
            Event::Person(person(round, ts, r0, r1))
        }
    }

    #[inline(always)]
    fn bid(&self, round: u64, ts: i64, r0: u64, r1: u64) -> Bid {
        let last_auction = round * 3 + 2;
        let oldest = last_auction.saturating_sub(IN_FLIGHT);
        let cold = oldest + below(r0 >> 32, last_auction - oldest + 1 + LEAD);
        let auction = select(r0 & 1 > 0, last_auction / HOT * HOT, cold);
        let bidder = select(r0 & 6 > 0, round / HOT * HOT + 1, cold_person(round, r1 >> 32));
        Bid {
            auction: auction + FIRST_ID,
            bidder: bidder + FIRST_ID,
            price: self.price(r1),
            ts,
            channel: Channel::at(r1 >> 12 & 3),
            url: Url::at(r1 >> 14 & 1023),
            extra: Extra::at(r1 >> 24 & 255),
        }
    }

    #[inline(always)]
    fn auction(&self, round: u64, place: u64, ts: i64, r0: u64, r1: u64) -> Auction {
        const OPEN_MS: u64 = 2 * (IN_FLIGHT * ROUND / 3 * 1000 / EVENTS_PER_SECOND);
        let seller = select(r0 & 3 > 0, round / HOT * HOT, cold_person(round, r0 >> 32));
        let initial_bid = self.price(r1 >> 32);
        Auction {
            id: round * 3 + place - 1 + FIRST_ID,
            seller: seller + FIRST_ID,
            initial_bid,
            reserve: initial_bid + self.price(r1 >> 44),
            ts,
            expires: ts + 1 + below(r0 >> 2, OPEN_MS) as i64,
            category: 10 + below(r1, 5) as u32,
            item: Name::at(below(r0, Name::COUNT as u64)),
            description: Extra::at(r0 & 255),
            extra: Extra::at(r1 & 255),
        }
    }

    /// The price that the low 12 bits of `bits` choose.
    #[inline(always)]
    fn price(&self, bits: u64) -> u64 {
        u64::from(self.prices[(bits & 4095) as usize])
    }
}

#[inline(always)]
fn person(round: u64, ts: i64, r0: u64, r1: u64) -> Person {
    Person {
        id: round + FIRST_ID,
        ts,
        name: Name::at(below(r0, Name::COUNT as u64)),
        city: City::at(below(r0 >> 32, City::COUNT as u64)),
        state: State::at(below(r1, State::COUNT as u64)),
        email: Url::at(below(r1 >> 32, Url::COUNT as u64)),
        card: Extra::at(r0 & 255),
        extra: Extra::at(r1 & 255),
    }
}

/// One of the persons who are active in `round`, or of those who come next.
#[inline(always)]
fn cold_person(round: u64, bits: u64) -> u64 {
    let persons = round + 1;
    let active = persons.min(ACTIVE_PEOPLE);
    persons - active + below(bits, active + LEAD)
}

/// A number below `bound` (at most 2^32) from the low 32 bits of `bits`.
#[inline(always)]
fn below(bits: u64, bound: u64) -> u64 {
    ((bits & 0xFFFF_FFFF) * bound) >> 32
}

/// `yes` or `no` without a branch.
#[inline(always)]
fn select(condition: bool, yes: u64, no: u64) -> u64 {
    std::hint::select_unpredictable(condition, yes, no)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prng::mix64;

    /// A digest of every field, folded as the Flink harness's events were folded.
    #[derive(Default)]
    struct Digest(u64);

    impl Digest {
        fn numbers<const N: usize>(&mut self, values: [u64; N]) {
            for value in values {
                self.0 = mix64(self.0 ^ value);
            }
        }

        fn texts(&mut self, texts: [&str; 3]) {
            for text in texts {
                self.numbers([text.len() as u64]);
                text.bytes().for_each(|byte| self.numbers([byte.into()]));
            }
        }

        fn event(&mut self, event: Event) {
            match event {
                Event::Person(p) => {
                    self.numbers([0, p.id, p.ts as u64]);
                    self.texts([p.name.as_str(), p.email.as_str(), p.card.as_str()]);
                    self.texts([p.city.as_str(), p.state.as_str(), p.extra.as_str()]);
                }
                Event::Auction(a) => {
                    self.numbers([1, a.id, a.seller, a.initial_bid, a.reserve]);
                    self.numbers([a.ts as u64, a.expires as u64, a.category.into()]);
                    self.texts([a.item.as_str(), a.description.as_str(), a.extra.as_str()]);
                }
                Event::Bid(b) => {
                    self.numbers([2, b.auction, b.bidder, b.price, b.ts as u64]);
                    self.texts([b.channel.as_str(), b.url.as_str(), b.extra.as_str()]);
                }
            }
        }
    }

    fn digest(events: std::ops::Range<u64>) -> String {
        let generator = Generator::new();
        let mut digest = Digest::default();
        events.for_each(|n| digest.event(generator.event(n)));
        format!("{:016x}", digest.0)
    }

    #[test]
    fn events_are_those_of_the_flink_harness() {
        assert_eq!(digest(0..100_000), "588c1dfbd08e7c33");
        assert_eq!(digest(999_950_000..1_000_000_000), "59f7f6295a202a7f");
    }

    #[test]
    fn events_are_small_and_survive_serialisation() {
        assert!(size_of::<Event>() <= 64, "{}", size_of::<Event>());
        let generator = Generator::new();
        for event in (0..100).map(|n| generator.event(n)) {
            let text = serde_json::to_string(&event).unwrap();
            assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
        }
    }
}
