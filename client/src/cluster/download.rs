//! A program on its way back from the cluster, to be run again where its file no longer is.
//!
//! It is checked against its digest before it has a name: nobody can start half of one.

use super::message::ProgramId;
use super::route::{Failure, Route};
use millstream_model::{Error, Result};
use millstream_proto::wire::ProgramRef;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tonic::Status;

/// Time for one piece to come.
const PIECE_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) async fn fetch(
    route: Arc<Route>,
    id: ProgramId,
    to: PathBuf,
    patience: Duration,
) -> Result<()> {
    let mut rounds = route.rounds(patience, true);
    loop {
        match fetch_once(&route, id, &to).await {
            Ok(()) => return Ok(()),
            Err(failure) => rounds.after(failure).await?,
        }
    }
}

async fn fetch_once(route: &Route, id: ProgramId, to: &Path) -> Result<(), Failure> {
    let mut client = route.programs().await?;
    let request = ProgramRef { id: id.0.to_vec() };
    let chunks = timed(client.fetch_program(request)).await?;
    let mut chunks = chunks.into_inner();
    let part = to.with_extension("part");
    let failed = |error| {
        let text = format!("the program cannot be written to {}", part.display());
        Failure::Final(Error::external(text).caused_by(error))
    };
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)
        .map_err(failed)?;
    let mut digest = Sha256::new();
    while let Some(chunk) = timed(chunks.message()).await? {
        digest.update(&chunk.data);
        file.write_all(&chunk.data).map_err(failed)?;
    }
    if ProgramId(digest.finalize().into()) != id {
        let text =
            "the program that was sent is not the one asked for: is the cluster's copy damaged?";
        return Err(Failure::Final(Error::external(text)));
    }
    file.set_permissions(PermissionsExt::from_mode(0o700)).map_err(failed)?;
    drop(file);
    std::fs::rename(&part, to).map_err(failed)
}

async fn timed<T>(answer: impl Future<Output = Result<T, Status>>) -> Result<T, Failure> {
    match timeout(PIECE_TIMEOUT, answer).await {
        Ok(answer) => answer.map_err(|status| match status.code() {
            tonic::Code::NotFound => Failure::Final(Error::user(format!(
                "the cluster does not have the program any more: {}",
                status.message()
            ))),
            _ => super::route::failure(status),
        }),
        Err(_) => Err(Failure::Lost(Error::external("nothing of the program came"))),
    }
}
