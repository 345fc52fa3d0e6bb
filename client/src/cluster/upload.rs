//! A program on its way to the cluster.
//!
//! It is known by the digest of its bytes, so it is read once to know it and once more if the cluster does not have it.
//! Both times from the same open file: a compiler that puts another in its place does not matter. The pieces are
//! made as the network takes them; a network that takes none is given up.

use super::message::{ClientReply, ProgramId};
use super::route::{Failure, Route};
use crossbeam_channel::Sender;
use millstream_model::{Error, Result};
use millstream_proto::wire::{CHUNK_BYTES, ProgramChunk};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

/// Time for one piece to be taken, or for the answer to the last.
const PIECE_TIMEOUT: Duration = Duration::from_secs(60);

/// A program's file, as it was read.
#[derive(Debug)]
pub(super) struct Executable {
    path: PathBuf,
    file: File,
    pub(super) id: ProgramId,
    pub(super) total_bytes: u64,
}

impl Executable {
    /// Reads it through; tells after each piece how many bytes are done, of how many.
    pub(super) fn read(path: &Path, mut on_progress: impl FnMut(u64, u64)) -> Result<Self> {
        let failed = |error| {
            Error::user(format!("the program {} cannot be read", path.display())).caused_by(error)
        };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() || metadata.len() == 0 {
            return Err(Error::user(format!("{} is not a program", path.display())));
        }
        let mut executable = Executable {
            path: path.to_path_buf(),
            file,
            id: ProgramId([0; 32]),
            total_bytes: metadata.len(),
        };
        let mut digest = Sha256::new();
        let mut done = 0;
        while done < executable.total_bytes {
            let piece = executable.piece(done)?;
            digest.update(&piece);
            done += piece.len() as u64;
            on_progress(done, executable.total_bytes);
        }
        executable.id = ProgramId(digest.finalize().into());
        Ok(executable)
    }

    /// The piece that begins at a byte before its end.
    fn piece(&self, from: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; (self.total_bytes - from).min(CHUNK_BYTES as u64) as usize];
        match self.file.read_exact_at(&mut bytes, from) {
            Ok(()) => Ok(bytes),
            Err(error) => {
                let path = self.path.display();
                let text = format!("the program {path} cannot be read: was it changed meanwhile?");
                Err(Error::user(text).caused_by(error))
            }
        }
    }
}

/// Sends it; tells after each piece how many bytes were taken.
pub(super) async fn send(
    route: Arc<Route>,
    file: Arc<Executable>,
    patience: Duration,
    progress: Sender<u64>,
) -> Result<ClientReply> {
    let mut rounds = route.rounds(patience, true);
    loop {
        match send_once(&route, &file, &progress).await {
            Ok(reply) => return Ok(reply),
            Err(failure) => rounds.after(failure).await?,
        }
    }
}

async fn send_once(
    route: &Route,
    file: &Arc<Executable>,
    progress: &Sender<u64>,
) -> Result<ClientReply, Failure> {
    let (place, mut client) = route.client(false).await?;
    let (sender, receiver) = mpsc::channel(1);
    let feeding = feed(file, sender, progress);
    let mut answer = std::pin::pin!(client.upload_program(ReceiverStream::new(receiver)));
    let answer = tokio::select! {
        // Before the end: it is refused, or the connection broke.
        answer = &mut answer => answer,
        fed = feeding => {
            fed?;
            timeout(PIECE_TIMEOUT, answer).await.map_err(|_| stalled())?
        }
    };
    route.opened(place, answer.map(tonic::Response::into_inner))
}

async fn feed(
    file: &Arc<Executable>,
    sender: mpsc::Sender<ProgramChunk>,
    progress: &Sender<u64>,
) -> Result<(), Failure> {
    let mut done = 0;
    while done < file.total_bytes {
        let reader = file.clone();
        let data = tokio::task::spawn_blocking(move || reader.piece(done))
            .await
            .map_err(|_| Failure::Final(Error::internal("reading a program panicked")))?
            .map_err(Failure::Final)?;
        let is_first = done == 0;
        done += data.len() as u64;
        let chunk = ProgramChunk {
            id: if is_first { file.id.0.to_vec() } else { Vec::new() },
            total_bytes: if is_first { file.total_bytes } else { 0 },
            data,
        };
        match timeout(PIECE_TIMEOUT, sender.send(chunk)).await {
            // Who shows it may be slower than the network.
            Ok(Ok(())) => drop(progress.try_send(done)),
            // The call is over; its answer says why.
            Ok(Err(_)) => return Ok(()),
            Err(_) => return Err(stalled()),
        }
    }
    Ok(())
}

fn stalled() -> Failure {
    let seconds = PIECE_TIMEOUT.as_secs();
    Failure::Lost(Error::external(format!(
        "the cluster took nothing of the program for {seconds} s"
    )))
}
