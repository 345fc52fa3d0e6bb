//! The socket sink: each subtask writes lines to a connection of its own.
//!
//! A receiver that does not read holds the job back, as it should, but not for ever: after
//! [`WRITE_TIMEOUT`] the job fails.

use super::connect;
use crate::encode::{ByDisplay, Encode, ToJson, ToLines};
use millstream_model::{Batch, Error, Result};
use millstream_runtime::context::OperatorContext;
use millstream_runtime::operator::{Sink, SinkWriter};
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes that are worth sending before the job has nothing else to do.
const BLOCK: usize = 64 * 1024;

/// Writes lines to a TCP server.
///
/// ```
/// # use millstream_connectors::SocketSink;
/// let lines = SocketSink::lines("localhost:9998");
/// ```
#[derive(Clone, Debug)]
pub struct SocketSink<E> {
    address: String,
    encode: E,
}

impl SocketSink<ToLines<ByDisplay>> {
    /// A line a record to `address` (`host:port`), by its `Display`.
    pub fn lines(address: impl Into<String>) -> Self {
        SocketSink { address: address.into(), encode: ToLines::new(ByDisplay) }
    }

    /// A line a record, by `show`, which appends a record to the text it is given.
    pub fn formatted<T, F>(address: impl Into<String>, show: F) -> SocketSink<ToLines<F>>
    where
        F: Fn(&T, &mut String) -> std::fmt::Result + Clone + Send + Sync + 'static,
    {
        SocketSink { address: address.into(), encode: ToLines::new(show) }
    }

    /// A JSON value a line.
    pub fn json(address: impl Into<String>) -> SocketSink<ToJson> {
        SocketSink { address: address.into(), encode: ToJson }
    }
}

impl<T, E: Encode<T>> Sink<T> for SocketSink<E> {
    /// There is nothing to be prepared.
    fn recovers_apart(&self) -> bool {
        true
    }
    fn writer(&self, _: &OperatorContext) -> Result<Box<dyn SinkWriter<T>>> {
        let (address, encode) = (self.address.clone(), self.encode.clone());
        Ok(Box::new(SocketWriter { address, encode, buffer: Vec::new(), stream: None }))
    }
    fn name(&self) -> String {
        format!("socket {}", self.address)
    }
}

struct SocketWriter<E> {
    address: String,
    encode: E,
    buffer: Vec<u8>,
    /// Connected when opened.
    stream: Option<TcpStream>,
}

impl<E> SocketWriter<E> {
    fn failure(&self, what: &str, cause: io::Error) -> Error {
        Error::external(format!("{what} `{}`", self.address)).caused_by(cause)
    }

    fn send(&mut self) -> Result<()> {
        let Some(stream) = &mut self.stream else {
            return Err(Error::internal("a socket sink writes before it was opened"));
        };
        let sent = stream.write_all(&self.buffer);
        self.buffer.clear();
        sent.map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::external(format!(
                "`{}` has taken nothing for {} seconds",
                self.address,
                WRITE_TIMEOUT.as_secs()
            )),
            _ => self.failure("the connection was lost to", e),
        })
    }
}

impl<T, E: Encode<T>> SinkWriter<T> for SocketWriter<E> {
    fn open(&mut self, _: &OperatorContext) -> Result<()> {
        let connected = connect(&self.address).and_then(|stream| {
            stream.set_nodelay(true)?;
            stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
            Ok(stream)
        });
        self.stream = Some(connected.map_err(|e| self.failure("no connection to", e))?);
        Ok(())
    }

    fn write(&mut self, batch: &mut Batch<T>) -> Result<()> {
        self.encode.encode(&batch.values, &mut self.buffer)?;
        batch.clear();
        if self.buffer.len() >= BLOCK { self.send() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.send()
    }

    fn finish(&mut self) -> Result<()> {
        self.send()?;
        match &self.stream {
            Some(stream) => stream
                .shutdown(Shutdown::Write)
                .map_err(|e| self.failure("the connection was lost to", e)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Surroundings;
    use std::io::Read;
    use std::net::TcpListener;
    use std::thread;

    #[test]
    fn the_server_gets_every_line() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let received = thread::spawn(move || {
            let mut text = String::new();
            listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
            text
        });
        let sink = SocketSink::json(address);
        Surroundings::new(0, 1).write_all(&sink, &[&[(1, "a")], &[(2, "b"), (3, "c")]]).unwrap();
        assert_eq!(received.join().unwrap(), "[1,\"a\"]\n[2,\"b\"]\n[3,\"c\"]\n");
    }

    #[test]
    fn nobody_there_is_an_error_with_the_address() {
        let address = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().to_string()
        };
        let sink = SocketSink::lines(&address);
        let error = Surroundings::new(0, 1).write_all(&sink, &[&[1]]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("no connection to `{address}`: ")), "{error}");
    }
}
