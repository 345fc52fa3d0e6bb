//! The fixed strings of the Nexmark events, and handles that stand for them.
//!
//! An event holds a handle, a byte or two, instead of a string: events are `Copy` and cost no
//! allocation, as in the Flink harness, where they hold references into the same tables. A handle
//! is checked when it is deserialised, so [`as_str`](Name::as_str) cannot fail.

use std::fmt;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::prng::rnd;

/// A string handle whose table has `$len` entries and is reached through `$table`.
macro_rules! handle {
    ($(#[$doc:meta])* $name:ident($repr:ty), $len:expr, $table:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "u16", into = "u16")]
        pub struct $name($repr);

        impl $name {
            /// How many different strings there are.
            pub const COUNT: usize = $len;

            /// The handle at `index`; the generator's indices are below [`Self::COUNT`].
            #[inline(always)]
            pub(super) fn at(index: u64) -> Self {
                debug_assert!((index as usize) < Self::COUNT);
                Self(index as $repr)
            }

            /// The string that this handle stands for.
            #[inline]
            pub fn as_str(self) -> &'static str {
                &$table[self.0 as usize]
            }
        }

        impl TryFrom<u16> for $name {
            type Error = String;

            fn try_from(index: u16) -> Result<Self, String> {
                if (index as usize) < Self::COUNT {
                    Ok(Self(index as $repr))
                } else {
                    let count = Self::COUNT;
                    Err(format!("{} {index} does not exist, there are {count}", stringify!($name)))
                }
            }
        }

        impl From<$name> for u16 {
            fn from(handle: $name) -> u16 {
                handle.0.into()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }
    };
}

handle! {
    /// The channel that a bid came through.
    Channel(u8), CHANNELS.len(), CHANNELS
}
handle! {
    /// A state of the United States, by its two letters.
    State(u8), STATES.len(), STATES
}
handle! {
    /// The city where a person lives.
    City(u8), CITIES.len(), CITIES
}
handle! {
    /// A person's full name; also used as the name of an auctioned item.
    Name(u8), FIRST_NAMES.len() * LAST_NAMES.len(), NAMES
}
handle! {
    /// A web address; also used as an e-mail address.
    Url(u16), 1024, URLS
}
handle! {
    /// Filler: 64 hexadecimal digits.
    Extra(u8), 256, EXTRAS
}

const CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];
const CITIES: [&str; 10] = [
    "Phoenix",
    "Los Angeles",
    "San Francisco",
    "Boise",
    "Portland",
    "Bend",
    "Redmond",
    "Seattle",
    "Kent",
    "Cheyenne",
];
const FIRST_NAMES: [&str; 11] = [
    "Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter",
];
const LAST_NAMES: [&str; 9] =
    ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];

static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
    LAST_NAMES
        .iter()
        .flat_map(|last| FIRST_NAMES.iter().map(move |first| format!("{first} {last}")))
        .collect()
});

static URLS: LazyLock<Vec<String>> = LazyLock::new(|| {
    (0..Url::COUNT as u64)
        .map(|i| format!("https://www.nexmark.com/{}/item.htm?query=1", base_36(rnd(7, i) >> 1)))
        .collect()
});

static EXTRAS: LazyLock<Vec<String>> = LazyLock::new(|| {
    (0..Extra::COUNT as u64)
        .map(|i| (0..4).map(|j| format!("{:x}", rnd(9, i * 4 + j) | 1 << 60)).collect())
        .collect()
});

/// Bid and auction prices, spread evenly over six decades from 100 on.
pub(super) static PRICES: LazyLock<[u32; 4096]> = LazyLock::new(|| {
    std::array::from_fn(|i| (10f64.powf(6.0 * i as f64 / 4096.0) * 100.0).round() as u32)
});

fn base_36(mut value: u64) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit((value % 36) as u32, 36).unwrap_or('0'));
        value /= 36;
        if value == 0 {
            break;
        }
    }
    digits.into_iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prng::mix64;

    /// Folds as the Flink harness's tables were folded to get the constant below.
    #[test]
    fn tables_are_those_of_the_flink_harness() {
        let mut digest = 0;
        for &price in PRICES.iter() {
            digest = mix64(digest ^ u64::from(price));
        }
        for text in NAMES.iter().chain(URLS.iter()).chain(EXTRAS.iter()) {
            digest = mix64(digest ^ text.len() as u64);
            for byte in text.bytes() {
                digest = mix64(digest ^ u64::from(byte));
            }
        }
        assert_eq!(format!("{digest:016x}"), "b070680e75b22478");
    }

    #[test]
    fn handles_survive_serialisation_and_unknown_ones_are_refused() {
        let name = Name::at(98);
        let text = serde_json::to_string(&name).unwrap();
        assert_eq!(serde_json::from_str::<Name>(&text).unwrap(), name);
        let error = serde_json::from_str::<Name>("99").unwrap_err();
        assert!(error.to_string().contains("Name 99 does not exist, there are 99"), "{error}");
    }
}
