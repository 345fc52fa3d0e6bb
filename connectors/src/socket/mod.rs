//! Lines over TCP: for trying things out, and for programs that have nothing better to speak.
//!
//! A socket remembers nothing, so what is lost with a connection is lost: the guarantee is at most once.

mod sink;
mod source;

pub use sink::SocketSink;
pub use source::SocketSource;

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to the first of the address's hosts that answers.
fn connect(address: &str) -> io::Result<TcpStream> {
    let mut refused = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for host in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&host, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(e) => refused = e,
        }
    }
    Err(refused)
}
