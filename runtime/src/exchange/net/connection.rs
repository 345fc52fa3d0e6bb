//! A connection at work: one task that reads, and one that writes what nobody else does.
//!
//! The reader never waits for a receiving task and the writer never for a sending one, so neither can be held
//! up by anything but the network. Who closes sends what is left, says so and then reads until the other side
//! has closed too: a socket that is closed with something unread in it takes back what was written last.

use super::compress;
use super::frame::Arriving;
use super::link::Link;
use super::outgoing::{Next, Writing};
use millstream_model::{Error, Result};
use std::future::poll_fn;
use std::io::IoSlice;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::task::JoinError;

/// How long the other side may take to close after this one has.
pub(super) const LINGER: Duration = Duration::from_secs(5);

/// Carries what goes through a link until one of both sides ends it.
pub(super) async fn run(link: Arc<Link>, from: impl AsyncRead + Unpin, to: WriteHalf) {
    if let WriteHalf::Socket(socket) = &to {
        link.write_directly(socket);
    }
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
        First::Written(Ok(Ok(true))) => {
            // What it says now is of no account.
            let _ = tokio::time::timeout(LINGER, &mut reader).await;
            None
        }
        First::Written(Ok(Ok(false))) => None,
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
    Written(std::result::Result<std::io::Result<bool>, JoinError>),
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

/// Until the link is closed; whether everything was written first.
async fn write(link: Arc<Link>, mut to: WriteHalf) -> std::io::Result<bool> {
    let mut writing = Writing::default();
    loop {
        match link.take_outgoing(&mut writing) {
            Next::Stop => return Ok(false),
            Next::Finish => {
                to.finish().await?;
                return Ok(true);
            }
            Next::Wait => link.to_write.notified().await,
            Next::Write => {
                let written = to.write(&writing.slices()).await;
                link.written(&mut writing, *written.as_ref().unwrap_or(&0));
                if written? == 0 {
                    return Err(std::io::ErrorKind::WriteZero.into());
                }
            }
        }
    }
}

/// Where frames are written to.
pub(super) enum WriteHalf {
    /// A socket, which whoever sends may also write to.
    Socket(Arc<OwnedWriteHalf>),
    /// What makes something else of the bytes.
    Wrapped(Box<dyn AsyncWrite + Send + Unpin>),
}

impl WriteHalf {
    async fn write(&mut self, slices: &[IoSlice<'_>]) -> std::io::Result<usize> {
        match self {
            WriteHalf::Socket(socket) => loop {
                socket.writable().await?;
                match socket.try_write_vectored(slices) {
                    Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                    written => return written,
                }
            },
            WriteHalf::Wrapped(to) => {
                let n = to.write_vectored(slices).await?;
                to.flush().await?;
                Ok(n)
            }
        }
    }

    /// The last frame said that it is the last.
    async fn finish(&mut self) -> std::io::Result<()> {
        match self {
            WriteHalf::Socket(_) => Ok(()),
            WriteHalf::Wrapped(to) => to.shutdown().await,
        }
    }
}
