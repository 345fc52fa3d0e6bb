//! Programs from the job manager.
//!
//! A fetch may fall into the time between two sessions, as anything else here; it waits for the next one, for as long
//! as the job may wait. What the job manager does not have, it will not have later either.

use super::Client;
use crate::hosts::Source;
use millstream_model::{Error, Result};
use millstream_proto::message::ProgramId;
use millstream_proto::wire::{ProgramChunk, ProgramRef, program_id};
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Streaming};

/// How long a connection to fetch from is waited for, and then for a piece.
const PATIENCE: Duration = Duration::from_secs(30);

/// See the module's text.
pub struct JobManagerPrograms {
    clients: watch::Receiver<Option<Client>>,
}

impl JobManagerPrograms {
    /// From whatever connection there is.
    pub fn new(clients: watch::Receiver<Option<Client>>) -> Self {
        JobManagerPrograms { clients }
    }
}

impl Source for JobManagerPrograms {
    type Pieces = Pin<Box<dyn Stream<Item = Result<Vec<u8>>> + Send>>;

    async fn open(&self, id: ProgramId, n_bytes: u64) -> Result<Self::Pieces> {
        let mut clients = self.clients.clone();
        let fetched = tokio::time::timeout(PATIENCE, async {
            loop {
                let connected = clients.wait_for(Option::is_some).await;
                let client = connected.map(|client| client.clone());
                let Some(mut client) = client.map_err(|_| lost(id))? else { continue };
                let answer = client.fetch_program(ProgramRef { id: id.0.to_vec() }).await;
                match answer {
                    Ok(pieces) => return Ok(pieces.into_inner()),
                    // The session is about to notice it too, and to find the next.
                    Err(status) if is_broken(status.code()) => {
                        let changed = clients.changed().await;
                        changed.map_err(|_| lost(id).caused_by(status))?;
                    }
                    Err(status) => return Err(lost(id).caused_by(status)),
                }
            }
        });
        let mut pieces: Streaming<ProgramChunk> = fetched.await.map_err(|_| lost(id))??;
        let first = next(&mut pieces, id).await?;
        if let Some(first) = &first {
            let sent = program_id(&first.id)?;
            if sent != id || first.total_bytes != n_bytes {
                return Err(Error::external(format!(
                    "the job manager sends program {sent} of {} bytes where {id} of {n_bytes} bytes is wanted",
                    first.total_bytes
                )));
            }
        }
        let first = tokio_stream::iter(first.map(|chunk| Ok(chunk.data)));
        let rest = pieces.timeout(PATIENCE).map(move |piece| match piece {
            Ok(Ok(chunk)) => Ok(chunk.data),
            Ok(Err(status)) => Err(lost(id).caused_by(status)),
            Err(elapsed) => Err(lost(id).caused_by(elapsed)),
        });
        Ok(Box::pin(first.chain(rest)))
    }
}

async fn next(pieces: &mut Streaming<ProgramChunk>, id: ProgramId) -> Result<Option<ProgramChunk>> {
    match tokio::time::timeout(PATIENCE, pieces.message()).await {
        Ok(piece) => piece.map_err(|status| lost(id).caused_by(status)),
        Err(elapsed) => Err(lost(id).caused_by(elapsed)),
    }
}

fn is_broken(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::Unknown | Code::Cancelled)
}

fn lost(id: ProgramId) -> Error {
    Error::external(format!("program {id} could not be fetched from the job manager"))
}
