//! The error that serde's traits want: it stays inside of this folder and is told as an `Error` at its edge.

use std::fmt;

/// Why a deserialiser or serialiser of this folder stopped.
#[derive(Debug)]
pub(super) enum Fault {
    /// The field is missing, and nothing stands in for it.
    Missing(&'static str),
    /// Anything else.
    Other(String),
}

impl Fault {
    pub(super) fn new(message: impl fmt::Display) -> Self {
        Fault::Other(message.to_string())
    }
}

impl From<millstream_model::Error> for Fault {
    fn from(e: millstream_model::Error) -> Self {
        Fault::new(e)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Missing(field) => write!(
                f,
                "field `{field}` is new, and nothing stands in for it; give it `#[serde(default)]`, make it \
                 an `Option`, or give the state a migration function"
            ),
            Fault::Other(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Fault::new(message)
    }

    fn missing_field(field: &'static str) -> Self {
        Fault::Missing(field)
    }
}

impl serde::ser::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Fault::new(message)
    }
}
