//! Who is let into an interface that people, scripts and monitoring read.
//!
//! It has no sessions, so anybody is let in, but only so many at a time; at an address that other machines reach, anybody who
//! shows a certificate of the cluster, if there are any. A connection has to say something within a few seconds, and to
//! end its handshake within a few more. That is waited for aside: one that is slow, or is none of ours, holds up nobody,
//! and the log says why it was closed. Who speaks the wrong one of HTTP and HTTPS is told so where that is possible.

use axum::serve::Listener;
use rustls::ServerConfig;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long the first byte may take, and then a handshake.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long nobody is let in after the system has refused to, for want of file descriptors for example.
const PAUSE: Duration = Duration::from_millis(100);

/// How long who was refused may take to read why.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a TLS handshake begins with.
const HANDSHAKE: u8 = 22;

/// What is answered to who comes without TLS.
const PLAIN: &str = "this address wants HTTPS and a certificate of the cluster: use https:// and name the certificate\n";

/// The next connection. Goes on trying when the system refuses one.
pub async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Connections that were let in, to be served.
pub struct Hall {
    visitors: mpsc::Receiver<(Visitor, SocketAddr)>,
    address: SocketAddr,
}

/// What a hall is told to count.
pub type Refused = Arc<dyn Fn() + Send + Sync>;

impl Hall {
    /// Lets connections in, at most so many at a time; with TLS, if that is given. `refused` is called for each that was closed.
    /// Ends when the result is dropped. To be called inside of a runtime.
    ///
    /// # Errors
    /// If the socket is gone.
    pub fn open(
        listener: TcpListener,
        max_connections: usize,
        tls: Option<Arc<ServerConfig>>,
        refused: Refused,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (sender, visitors) = mpsc::channel(16);
        let permits = Arc::new(Semaphore::new(max_connections));
        let acceptor = tls.map(TlsAcceptor::from);
        tokio::spawn(async move {
            loop {
                // Nobody closes it.
                let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
                let (stream, peer) = tokio::select! {
                    accepted = accept(&listener) => accepted,
                    () = sender.closed() => return,
                };
                let (sender, acceptor, refused) =
                    (sender.clone(), acceptor.clone(), Arc::clone(&refused));
                tokio::spawn(async move {
                    match admit(stream, acceptor).await {
                        Ok(Some(stream)) => {
                            // Where nobody takes it the process is ending.
                            let _ = sender.send((Visitor { stream, _permit: permit }, peer)).await;
                        }
                        Ok(None) => {}
                        Err(why) => {
                            refused();
                            tracing::warn!(%peer, %address, why, "a connection was refused");
                        }
                    }
                });
            }
        });
        Ok(Hall { visitors, address })
    }
}

impl Listener for Hall {
    type Io = Visitor;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visitor, SocketAddr) {
        match self.visitors.recv().await {
            Some(visitor) => visitor,
            // Its runtime is ending.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// Sees to it that a connection is one of those that are served; `None`: it was closed before it said anything, as by
/// somebody who looks whether the port is open.
async fn admit(
    mut stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
) -> Result<Option<Stream>, String> {
    let mut first = [0; 1];
    match timeout(PATIENCE, stream.peek(&mut first)).await {
        Ok(Ok(0)) => return Ok(None),
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(format!("it broke before it said anything: {error}")),
        Err(_) => return Err(format!("it said nothing for {} s", PATIENCE.as_secs())),
    }
    // Small answers go out at once; without it they would only be slower.
    let _ = stream.set_nodelay(true);
    match acceptor {
        None if first[0] == HANDSHAKE => {
            Err("it wants TLS, which this address does without: use http://".to_owned())
        }
        None => Ok(Some(Stream::Plain(stream))),
        Some(_) if first[0] != HANDSHAKE => {
            // It may not read it, or be gone.
            let _ = timeout(FAREWELL, send_away(&mut stream)).await;
            Err("it came without TLS, which this address requires: use https://".to_owned())
        }
        Some(acceptor) => match timeout(PATIENCE, acceptor.accept(stream).into_fallible()).await {
            Ok(Ok(stream)) => Ok(Some(Stream::Tls(Box::new(stream)))),
            Ok(Err((error, mut stream))) => {
                // It has been told, in an alert.
                let _ = timeout(FAREWELL, take_leave(&mut stream)).await;
                Err(format!("no secure connection was made: {error}"))
            }
            Err(_) => Err(format!("its handshake was not done after {} s", PATIENCE.as_secs())),
        },
    }
}

/// Says in HTTP that TLS is wanted.
async fn send_away(stream: &mut TcpStream) -> io::Result<()> {
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\
         Content-Length: {}\r\n\r\n{PLAIN}",
        PLAIN.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    take_leave(stream).await
}

/// Waits until the other side is done: what is closed with something unread is reset, and then the answer is not read either.
async fn take_leave(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// A connection that is served. It counts for as long as it lives.
pub struct Visitor {
    stream: Stream,
    _permit: OwnedSemaphorePermit,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Does the same with either.
macro_rules! either {
    ($visitor:ident, $stream:ident => $act:expr) => {
        match &mut $visitor.get_mut().stream {
            Stream::Plain($stream) => {
                let $stream = Pin::new($stream);
                $act
            }
            Stream::Tls($stream) => {
                let $stream = Pin::new(&mut **$stream);
                $act
            }
        }
    };
}

impl AsyncRead for Visitor {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Visitor {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(cx))
    }
}
