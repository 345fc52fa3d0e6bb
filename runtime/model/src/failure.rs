//! Errors as values: whose they are, where they happened, what to do.
//!
//! One type serves the whole engine, because what decides its treatment is not the function that failed
//! but its *domain*: a user's error is shown and not retried, an external one may be retried, an internal
//! one is a bug of ours. The *place* is filled in by the first link that knows it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// A result whose error is Millstream's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whose error it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Domain {
    /// The program, its configuration or its data: retrying gives the same error.
    User,
    /// Something outside the process: a file, a socket, a disk. Retrying may help.
    External,
    /// A bug in Millstream.
    Internal,
}

/// Where in a job an error happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Name of the operator.
    pub operator: String,
    /// Index of the parallel instance, from 0.
    pub subtask: usize,
    /// Number of instances.
    pub parallelism: usize,
    /// How often this subtask was started before.
    pub attempt: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "operator `{}`, subtask {}/{}",
            self.operator,
            self.subtask + 1,
            self.parallelism
        )?;
        if self.attempt > 0 {
            write!(f, ", attempt {}", self.attempt + 1)?;
        }
        Ok(())
    }
}

/// What went wrong, in a sentence a user can act on.
#[derive(Debug)]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    domain: Domain,
    message: String,
    place: Option<Place>,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
    is_final: bool,
    is_consequence: bool,
}

impl Error {
    /// An error of the program, its configuration or its data.
    pub fn user(message: impl Into<String>) -> Self {
        Error::new(Domain::User, message.into())
    }

    /// An error of something outside the process.
    pub fn external(message: impl Into<String>) -> Self {
        Error::new(Domain::External, message.into())
    }

    /// The same, as one that no further attempt would heal: a checkpoint that is damaged or does not fit.
    #[must_use]
    pub fn finally(mut self) -> Self {
        self.inner.is_final = true;
        self
    }

    /// Whether no further attempt would heal it.
    pub fn is_final(&self) -> bool {
        self.inner.is_final
    }

    /// The same, as one that only shows that something failed elsewhere: what that was tells more.
    #[must_use]
    pub fn as_consequence(mut self) -> Self {
        self.inner.is_consequence = true;
        self
    }

    /// Whether it only shows that something failed elsewhere.
    pub fn is_consequence(&self) -> bool {
        self.inner.is_consequence
    }

    /// A bug in Millstream.
    pub fn internal(message: impl Into<String>) -> Self {
        Error::new(Domain::Internal, message.into())
    }

    fn new(domain: Domain, message: String) -> Self {
        Error {
            inner: Box::new(Inner {
                domain,
                message,
                place: None,
                cause: None,
                is_final: false,
                is_consequence: false,
            }),
        }
    }

    /// Adds the error that led to this one.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.inner.cause = Some(cause.into());
        self
    }

    /// Adds the place, unless a link closer to the failure already did.
    #[must_use]
    pub fn at(mut self, place: &Place) -> Self {
        self.inner.place.get_or_insert_with(|| place.clone());
        self
    }

    /// Whose error it is.
    pub fn domain(&self) -> Domain {
        self.inner.domain
    }

    /// Where it happened, if it happened in a task.
    pub fn place(&self) -> Option<&Place> {
        self.inner.place.as_ref()
    }

    /// What went wrong, without place and cause.
    pub fn message(&self) -> &str {
        &self.inner.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.inner.place {
            write!(f, "{place}: ")?;
        }
        if self.inner.domain == Domain::Internal {
            write!(f, "internal error (please report it): ")?;
        }
        write!(f, "{}", self.inner.message)?;
        if let Some(cause) = &self.inner.cause {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.inner.cause.as_ref().map(|c| &**c as &(dyn std::error::Error + 'static))
    }
}

/// An error as it travels between processes: of its causes only the words.
#[derive(Serialize, Deserialize)]
struct Told {
    domain: Domain,
    message: String,
    place: Option<Place>,
    cause: Option<String>,
    is_final: bool,
    is_consequence: bool,
}

impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Inner { domain, message, place, cause, is_final, is_consequence } = &*self.inner;
        let told = Told {
            domain: *domain,
            message: message.clone(),
            place: place.clone(),
            cause: cause.as_ref().map(ToString::to_string),
            is_final: *is_final,
            is_consequence: *is_consequence,
        };
        told.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Error {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Told { domain, message, place, cause, is_final, is_consequence } =
            Told::deserialize(deserializer)?;
        let cause = cause.map(Into::into);
        let inner = Inner { domain, message, place, cause, is_final, is_consequence };
        Ok(Error { inner: Box::new(inner) })
    }
}

/// A copy that says the same: of its causes only the words.
impl Clone for Error {
    fn clone(&self) -> Self {
        let Inner { domain, message, place, cause, is_final, is_consequence } = &*self.inner;
        Error {
            inner: Box::new(Inner {
                domain: *domain,
                message: message.clone(),
                place: place.clone(),
                cause: cause.as_ref().map(|cause| cause.to_string().into()),
                is_final: *is_final,
                is_consequence: *is_consequence,
            }),
        }
    }
}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        Error::external("input/output failed").caused_by(e)
    }
}

impl From<String> for Error {
    fn from(message: String) -> Self {
        Error::user(message)
    }
}

impl From<&str> for Error {
    fn from(message: &str) -> Self {
        Error::user(message)
    }
}
