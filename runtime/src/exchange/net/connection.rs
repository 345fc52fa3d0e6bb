//! A connection at work: one task that reads, one that writes.
//!
//! The reader never waits for a receiving task and the writer never for a sending one, so neither can be held
//! up by anything but the network. Who closes sends what is left, says so and then reads until the other side
//! has closed too: a socket that is closed with something unread in it takes back what was written last.

use super::compress;
use super::frame::Arriving;
use super::link::{Link, Phase, Writing};
use millstream_model::{Error, Result};
use std::future::poll_fn;
use std::io::IoSlice;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinError;

/// How long the other side may take to close after this one has.
pub(super) const LINGER: Duration = Duration::from_secs(5);

/// Carries what goes through a link until one of both sides ends it.
pub(super) async fn run<R, W>(link: Arc<Link>, from: R, to: W)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let mut writer = tokio::spawn(write(Arc::clone(&link), to));
    let mut reader = pin!(read(&link, from));
    let first = poll_fn(|cx| {
        if let Poll::Ready(read) = reader.as_mut().poll(cx) {
            return Poll::Ready(First::Read(read));
        }
        Pin::new(&mut writer).poll(cx).map(First::Written)
    });
    let outcome = match first.await {
        First::Read(read) => Some(read),
        First::Written(Ok(Ok(Phase::Closing))) => {
            // What it says now is of no account.
            let _ = tokio::time::timeout(LINGER, &mut reader).await;
            None
        }
        First::Written(Ok(Ok(_))) => None,
        First::Written(Ok(Err(e))) => {
            Some(Err(Error::external("nothing can be sent").caused_by(e)))
        }
        First::Written(Err(e)) => Some(Err(Error::internal("a writer ended").caused_by(e))),
    };
    writer.abort();
    match outcome {
        Some(Ok(how)) => link.end(how),
        Some(Err(e)) => link.lose(&e),
        None => link.lose(&"the attempt was closed"),
    }
}

/// What comes to its end first.
enum First {
    Read(Result<&'static str>),
    Written(std::result::Result<std::io::Result<Phase>, JoinError>),
}

/// Until the other side ends; how it did.
async fn read(link: &Link, mut from: impl AsyncRead + Unpin) -> Result<&'static str> {
    let mut arriving = Arriving::new();
    let mut expanded = Vec::new();
    loop {
        let n = from.read(arriving.room()).await;
        let n = n.map_err(|e| Error::external("the connection broke").caused_by(e))?;
        if n == 0 && arriving.is_whole() {
            return Ok("it closed the connection");
        }
        if n == 0 {
            return Err(Error::external("the connection was closed in the middle of a frame"));
        }
        arriving.arrived(n);
        link.traffic.received_bytes(n);
        while let Some(frame) = arriving.next()? {
            link.traffic.received_frame();
            let payload = if frame.is_compressed {
                compress::expand(frame.payload, &mut expanded)?
            } else {
                frame.payload
            };
            if !link.receive(&frame, payload)? {
                return Ok("it has given up the attempt");
            }
        }
    }
}

/// Until the link is closed; the phase it was in when there was nothing more to write.
async fn write(link: Arc<Link>, mut to: impl AsyncWrite + Unpin) -> std::io::Result<Phase> {
    let mut writing = Writing::default();
    loop {
        let phase = link.take_outgoing(&mut writing);
        if phase == Phase::Closed {
            link.give_back(&mut writing);
            return Ok(phase);
        }
        if !writing.frames.is_empty() {
            let written = write_frames(&writing.frames, &mut to).await;
            let bytes = writing.frames.iter().map(Vec::len).sum();
            link.traffic.sent(writing.frames.len(), bytes);
            link.give_back(&mut writing);
            written?;
        } else if phase == Phase::Closing {
            to.shutdown().await?;
            return Ok(phase);
        } else {
            link.to_write.notified().await;
        }
    }
}

async fn write_frames(
    frames: &[Vec<u8>],
    to: &mut (impl AsyncWrite + Unpin),
) -> std::io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = frames.iter().map(|frame| IoSlice::new(frame)).collect();
    let mut rest = &mut slices[..];
    while !rest.is_empty() {
        let n = to.write_vectored(rest).await?;
        if n == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut rest, n);
    }
    to.flush().await
}
