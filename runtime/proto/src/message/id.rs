//! Names of things in a cluster. Opaque: none is ever a path, a host name or an address.

pub use millstream_model::LeaderEpoch;
use millstream_model::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

macro_rules! id_of_128_bits {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u128);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                match u128::from_str_radix(text, 16) {
                    Ok(number) if text.len() == 32 && !text.starts_with('+') => Ok($name(number)),
                    _ => Err(Error::user(format!(
                        concat!("`{}` is not the id of a ", $what, ": that has 32 hexadecimal digits"),
                        text
                    ))),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.to_le_bytes().serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = String::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    Ok($name(u128::from_le_bytes(<[u8; 16]>::deserialize(deserializer)?)))
                }
            }
        }
    };
}

id_of_128_bits!(
    /// A job, over all its attempts and leaders.
    JobId,
    "job"
);
id_of_128_bits!(
    /// A life of a task manager's process.
    TaskManagerId,
    "task manager"
);
id_of_128_bits!(
    /// A client's request: the same when it is sent again because the answer did not come.
    RequestId,
    "request"
);

/// A program: the SHA-256 of its executable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProgramId(pub [u8; 32]);

impl fmt::Display for ProgramId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ProgramId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written_and_nothing_else_is() {
        let id = JobId(0xabc);
        assert_eq!(id.to_string(), "00000000000000000000000000000abc");
        assert_eq!(id.to_string().parse::<JobId>().unwrap(), id);
        for wrong in
            ["", "abc", "../../../../../../../../etc/passw", "+0000000000000000000000000000abc"]
        {
            let error = wrong.parse::<JobId>().unwrap_err().to_string();
            assert!(error.contains("32 hexadecimal digits"), "{error}");
        }
    }
}
