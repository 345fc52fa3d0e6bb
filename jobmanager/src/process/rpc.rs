//! The two services on the wire. They open envelopes, check epochs, and hand on.

use super::desk::{Desk, blocking};
use super::door::Peer;
use super::outbox::{Outgoing, outbox};
use super::session::attend;
use super::shared::Shared;
use crate::programs::Upload;
use millstream_model::{Error, Result as MillstreamResult};
use millstream_proto::message::{ClientReply, ClientRequest};
use millstream_proto::wire::{
    CHUNK_BYTES, Envelope, Jobs, ProgramChunk, ProgramRef, TaskManagers, program_id,
};
use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TlsConnectInfo;
use tonic::{Extensions, Request, Response, Status, Streaming};

/// How long the next piece of a program may take.
const PIECE_PATIENCE: Duration = Duration::from_secs(30);

/// How many programs come in at a time; others wait.
const MAX_UPLOADS: usize = 4;

/// What stands behind both services.
#[derive(Clone)]
pub(super) struct Services {
    shared: Arc<Shared>,
    desk: Desk,
    uploads: Arc<Semaphore>,
    n_sessions: Arc<AtomicU64>,
}

impl Services {
    pub(super) fn new(shared: Arc<Shared>, desk: Desk) -> Self {
        let uploads = Arc::new(Semaphore::new(MAX_UPLOADS));
        Services { shared, desk, uploads, n_sessions: Arc::default() }
    }

    fn reply(&self, reply: &ClientReply) -> Result<Response<Envelope>, Status> {
        let epoch = self.shared.epoch;
        // One that is too long to be sent is refused; what says so is not.
        let sealed = Envelope::seal(epoch, reply)
            .or_else(|error| Envelope::seal(epoch, &ClientReply::Refused(error)));
        sealed.map(Response::new).map_err(|error| Status::internal(error.to_string()))
    }

    async fn take_program(&self, pieces: &mut Streaming<ProgramChunk>) -> MillstreamResult<()> {
        let _permit = self.uploads.acquire().await;
        let first = next_piece(pieces).await?.ok_or_else(|| Error::user("there is no program"))?;
        let id = program_id(&first.id)?;
        let in_use = self.desk.programs_in_use().await?;
        let programs = self.shared.programs.clone();
        let total_bytes = first.total_bytes;
        let mut upload: Upload = blocking(move || programs.begin(id, total_bytes, &in_use)).await?;
        let mut piece = Some(first);
        while let Some(ProgramChunk { data, .. }) = piece {
            upload = blocking(move || upload.write(&data).map(|()| upload)).await?;
            piece = next_piece(pieces).await?;
        }
        blocking(move || upload.finish()).await?;
        tracing::info!(program = %id, n_bytes = total_bytes, "a program was stored");
        self.shared.metrics.programs_uploaded.add(1);
        Ok(())
    }
}

async fn next_piece(
    pieces: &mut Streaming<ProgramChunk>,
) -> MillstreamResult<Option<ProgramChunk>> {
    match tokio::time::timeout(PIECE_PATIENCE, pieces.message()).await {
        Ok(Ok(piece)) => Ok(piece),
        Ok(Err(status)) => {
            let message = format!("the program's transfer broke: {}", status.message());
            Err(Error::external(message))
        }
        Err(_) => Err(Error::external(format!(
            "nothing more of the program came for {} s",
            PIECE_PATIENCE.as_secs()
        ))),
    }
}

#[tonic::async_trait]
impl Jobs for Services {
    async fn call(&self, request: Request<Envelope>) -> Result<Response<Envelope>, Status> {
        let opened = request.into_inner().open::<ClientRequest>();
        let (epoch, request) = opened.map_err(|e| Status::invalid_argument(e.to_string()))?;
        if epoch > self.shared.epoch {
            let error = format!(
                "the client has heard a leader of epoch {epoch}, newer than this one, {}",
                self.shared.epoch
            );
            return Err(Status::failed_precondition(error));
        }
        self.reply(&self.desk.serve(request).await)
    }

    async fn upload_program(
        &self,
        request: Request<Streaming<ProgramChunk>>,
    ) -> Result<Response<Envelope>, Status> {
        let mut pieces = request.into_inner();
        match self.take_program(&mut pieces).await {
            Ok(()) => self.reply(&ClientReply::Yes),
            Err(error) => {
                tracing::warn!(%error, "a program was not stored");
                self.shared.metrics.requests_refused.add(1);
                self.reply(&ClientReply::Refused(error))
            }
        }
    }
}

#[tonic::async_trait]
impl TaskManagers for Services {
    type AttachStream = Outgoing;
    type FetchProgramStream = ReceiverStream<Result<ProgramChunk, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Outgoing>, Status> {
        let peer = peer(request.extensions());
        let number = self.n_sessions.fetch_add(1, Ordering::Relaxed) + 1;
        let limit = self.shared.config.max_outbox_bytes;
        let (outbox, outgoing) = outbox(self.shared.epoch, limit, &self.shared.metrics);
        tokio::spawn(attend(self.shared.clone(), number, request.into_inner(), outbox, peer));
        Ok(Response::new(outgoing))
    }

    async fn fetch_program(
        &self,
        request: Request<ProgramRef>,
    ) -> Result<Response<Self::FetchProgramStream>, Status> {
        let id = program_id(&request.into_inner().id)
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        let programs = self.shared.programs.clone();
        let (file, total_bytes) = blocking(move || programs.read(id))
            .await
            .map_err(|e| Status::not_found(e.to_string()))?;
        self.shared.metrics.programs_fetched.add(1);
        let (sender, receiver) = mpsc::channel(2);
        tokio::task::spawn_blocking(move || send_file(file, id.0.to_vec(), total_bytes, &sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Sends a file piece by piece, until it ends or nobody listens.
fn send_file(
    mut file: File,
    id: Vec<u8>,
    total_bytes: u64,
    sender: &mpsc::Sender<Result<ProgramChunk, Status>>,
) {
    loop {
        let mut data = Vec::new();
        let piece = match (&mut file).take(CHUNK_BYTES as u64).read_to_end(&mut data) {
            Ok(0) => return,
            Ok(_) => Ok(ProgramChunk { id: id.clone(), total_bytes, data }),
            Err(e) => Err(Status::internal(format!("the program cannot be read: {e}"))),
        };
        let is_over = piece.is_err();
        if sender.blocking_send(piece).is_err() || is_over {
            return;
        }
    }
}

/// Where a request comes from.
pub(super) fn peer(extensions: &Extensions) -> SocketAddr {
    let plain = extensions.get::<Peer>().copied();
    let tls = || extensions.get::<TlsConnectInfo<Peer>>().map(|info| *info.get_ref());
    let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    plain.or_else(tls).map_or(unknown, |Peer(address)| address)
}
