//! The wire: what is generated from `proto/millstream.proto`, and the step from there to messages.
//!
//! Nothing outside of this package knows prost. A message is sealed into an [`Envelope`] and opened out of one;
//! limits are those of the [`envelope`].

use crate::envelope;
use crate::message::{LeaderEpoch, ProgramId};
use millstream_model::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

#[allow(missing_docs, unreachable_pub, clippy::all)]
mod generated {
    tonic::include_proto!("millstream.v1");
}

pub use generated::jobs_client::JobsClient;
pub use generated::jobs_server::{Jobs, JobsServer};
pub use generated::task_managers_client::TaskManagersClient;
pub use generated::task_managers_server::{TaskManagers, TaskManagersServer};
pub use generated::{Envelope, ProgramChunk, ProgramRef};

/// The longest message on the wire, in bytes: an envelope and what stands around it.
pub const MAX_MESSAGE_BYTES: usize = envelope::MAX_BYTES + 1024;

/// Bytes of a program in one piece.
pub const CHUNK_BYTES: usize = 1 << 20;

/// The name of the metadata entry in which a client shows its token, as `Bearer TOKEN`.
pub const TOKEN_HEADER: &str = "authorization";

impl Envelope {
    /// Seals a message.
    ///
    /// # Errors
    /// If it is too long.
    pub fn seal<M: Serialize>(epoch: LeaderEpoch, message: &M) -> Result<Self> {
        Ok(Envelope { sealed: envelope::seal(epoch, message)? })
    }

    /// The message, and the epoch it was sent in.
    ///
    /// # Errors
    /// If it is not a message of this kind and version.
    pub fn open<M: DeserializeOwned>(&self) -> Result<(LeaderEpoch, M)> {
        envelope::open(&self.sealed)
    }
}

/// A program's id from the bytes on the wire.
///
/// # Errors
/// If it has not 32 bytes.
pub fn program_id(bytes: &[u8]) -> Result<ProgramId> {
    <[u8; 32]>::try_from(bytes)
        .map(ProgramId)
        .map_err(|_| Error::external(format!("a program's id has 32 bytes, not {}", bytes.len())))
}

/// An error with all that led to it: what a transport's own text leaves out.
pub fn reasons(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
