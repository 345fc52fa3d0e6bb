//! How a command ends that does not do what it was asked: one line for people, a number for scripts.
//!
//! The engine's errors say whose they are, but not which exit code they are worth: that depends on what was being done.
//! So it is decided where an error leaves the connection.

use millstream::cluster::Connection;
use millstream::cluster::message::{ClientReply, ClientRequest};
use millstream::model::{Domain, Error};
use std::process::ExitCode;

/// What the exit code says; `main`'s help lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    JobFailed = 1,
    Usage = 2,
    Unreachable = 3,
    NotFound = 4,
    Refused = 5,
    Damaged = 6,
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// With a reason that is still to be shown.
    Error(Kind, Error),
    /// A program that was started has said why.
    Program(u8),
}

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub(crate) fn usage(error: impl Into<Error>) -> Self {
        Failure::Error(Kind::Usage, error.into())
    }

    pub(crate) fn not_found(error: impl Into<Error>) -> Self {
        Failure::Error(Kind::NotFound, error.into())
    }

    pub(crate) fn refused(error: impl Into<Error>) -> Self {
        Failure::Error(Kind::Refused, error.into())
    }

    /// Of an error that no answer came for.
    pub(crate) fn of_connection(error: Error) -> Self {
        let kind = match error.domain() {
            Domain::External => Kind::Unreachable,
            Domain::User | Domain::Internal => Kind::Refused,
        };
        Failure::Error(kind, error)
    }

    /// Shows it, and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Failure::Error(kind, error) => {
                eprintln!("error: {error}");
                ExitCode::from(kind as u8)
            }
            Failure::Program(code) => ExitCode::from(code),
        }
    }
}

/// Asks the cluster; what it refuses is a failure.
pub(crate) fn ask(connection: &Connection, request: ClientRequest) -> Outcome<ClientReply> {
    match connection.ask(request).map_err(Failure::of_connection)? {
        ClientReply::Refused(error) => Err(Failure::refused(error)),
        reply => Ok(reply),
    }
}

/// An answer that does not belong to the request.
pub(crate) fn unexpected(reply: &ClientReply) -> Failure {
    let text = format!("{reply:?}");
    let kind = text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    Failure::refused(Error::internal(format!(
        "the job manager answered `{kind}` to another question"
    )))
}
