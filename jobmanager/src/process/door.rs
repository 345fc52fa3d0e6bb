//! Who is let in.
//!
//! A connection counts against a limit for as long as it lives, and has to begin as one of ours does within a few
//! seconds: with HTTP/2's preface, or a TLS handshake. So garbage, port scanners, browsers and connections that
//! say nothing are turned away before any of the machinery behind sees them, and the log says so.

use super::metrics::Metrics;
use millstream_proto::security::accept;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

/// What every HTTP/2 connection begins with.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a TLS handshake begins with: a record of that type, of any version from SSL 3 on.
const HANDSHAKE: &[u8; 2] = &[22, 3];

/// How long the first bytes may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection that was let in. What was read of it to see what it is comes first.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    begin: Vec<u8>,
    n_taken: usize,
    _permit: OwnedSemaphorePermit,
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(super) SocketAddr);

/// Lets connections in. Ends when the result is dropped.
pub(super) fn open(
    listener: TcpListener,
    max_connections: usize,
    is_tls: bool,
    metrics: Arc<Metrics>,
) -> ReceiverStream<io::Result<Connection>> {
    let (sender, receiver) = mpsc::channel(16);
    let permits = Arc::new(Semaphore::new(max_connections));
    tokio::spawn(async move {
        loop {
            let (stream, peer) = tokio::select! {
                accepted = accept(&listener) => accepted,
                () = sender.closed() => return,
            };
            let Ok(permit) = permits.clone().try_acquire_owned() else {
                metrics.connections_refused.add(1);
                tracing::warn!(%peer, max_connections, "a connection was refused: there are as many as there may be");
                continue;
            };
            let (sender, metrics) = (sender.clone(), metrics.clone());
            tokio::spawn(async move {
                let mut stream = stream;
                match examine(&mut stream, is_tls).await {
                    Ok(begin) => {
                        let connection = Connection::new(stream, peer, begin, permit);
                        // Where nobody takes it the process is ending.
                        let _ = sender.send(Ok(connection)).await;
                    }
                    Err(why) => {
                        metrics.connections_refused.add(1);
                        tracing::warn!(%peer, why, "a connection was refused");
                    }
                }
            });
        }
    });
    ReceiverStream::new(receiver)
}

/// Reads how a connection begins, if that is how ours do.
async fn examine(stream: &mut TcpStream, is_tls: bool) -> Result<Vec<u8>, String> {
    let expected: &[u8] = if is_tls { HANDSHAKE } else { PREFACE };
    let mut begin = Vec::with_capacity(expected.len());
    let reading = async {
        while begin.len() < expected.len() {
            let mut bytes = [0; PREFACE.len()];
            let n_wanted = expected.len() - begin.len();
            let n_read = match stream.read(&mut bytes[..n_wanted]).await {
                Ok(0) => return Err(format!("it ended after {} bytes", begin.len())),
                Ok(n_read) => n_read,
                Err(e) => return Err(format!("it broke after {} bytes: {e}", begin.len())),
            };
            begin.extend_from_slice(&bytes[..n_read]);
            if !expected.starts_with(&begin) {
                return Err(stranger(&begin, is_tls).to_owned());
            }
        }
        Ok(())
    };
    match tokio::time::timeout(PATIENCE, reading).await {
        Ok(read) => read?,
        Err(_) => return Err(format!("it said nothing for {} s", PATIENCE.as_secs())),
    }
    // Small messages go out at once; without it they would only be slower.
    let _ = stream.set_nodelay(true);
    Ok(begin)
}

/// What the other side seems to be.
fn stranger(begin: &[u8], is_tls: bool) -> &'static str {
    const METHODS: [&[u8]; 5] = [b"GET", b"POS", b"PUT", b"HEA", b"PAT"];
    let is = |what: &[u8]| begin.starts_with(&what[..what.len().min(begin.len())]);
    if is_tls && is(PREFACE) {
        "it came without TLS, which this job manager requires"
    } else if !is_tls && is(HANDSHAKE) {
        "it wants TLS, for which this job manager has no certificate"
    } else if METHODS.iter().any(|method| is(method)) {
        "it speaks HTTP/1: the REST interface has an address of its own"
    } else {
        "it does not speak our protocol"
    }
}

impl Connection {
    fn new(
        stream: TcpStream,
        peer: SocketAddr,
        begin: Vec<u8>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Connection { stream, peer, begin, n_taken: 0, _permit: permit }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer(self.peer)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.n_taken < self.begin.len() {
            let n = buf.remaining().min(self.begin.len() - self.n_taken);
            buf.put_slice(&self.begin[self.n_taken..self.n_taken + n]);
            self.n_taken += n;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_told_apart() {
        for (begin, is_tls, expected) in [
            (&b"GET / HTTP/1.1"[..], false, "HTTP/1"),
            (b"\x16\x03\x01", false, "wants TLS"),
            (b"PRI * HTTP/2.0", true, "without TLS"),
            (b"\x00\xff", false, "our protocol"),
        ] {
            assert!(stranger(begin, is_tls).contains(expected), "{begin:?}");
        }
    }
}
