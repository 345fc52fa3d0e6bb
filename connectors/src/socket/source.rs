//! The socket source: a thread that reads, a bounded queue, and a reader that takes from it.
//!
//! Reading a socket waits, and a reader must not; so the waiting is the thread's. When the queue is full the
//! thread stops reading and TCP slows the sender down.

use super::connect;
use crate::lines::{AsJson, AsString, AsText, LineBuffer, LineFormat, LineParser};
use crate::malformed::{OnError, Plain, Policy};
use millstream_model::{Batch, Data, Error, MAX_TIME, Result};
use millstream_runtime::source::{ReadStatus, Source, SplitContext, SplitReader};
use millstream_runtime::task::Waker;
use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Chunks of lines (some KiB each) between the thread and the reader.
const QUEUE_CHUNKS: usize = 64;

/// Reads lines from a TCP server, until it closes the connection or, with
/// [`reconnect`](SocketSource::reconnect), for ever. A line has at most 64 MiB; a longer one fails the job.
///
/// ```
/// # use millstream_connectors::SocketSource;
/// use std::time::Duration;
///
/// let lines = SocketSource::lines("localhost:9999").reconnect(Duration::from_secs(1));
/// ```
#[derive(Clone, Debug)]
pub struct SocketSource<F = AsText> {
    address: String,
    format: F,
    on_error: OnError,
    reconnect: Option<Duration>,
}

impl SocketSource {
    /// Each line from `address` (`host:port`) as a [`Text`](millstream_model::Text), without its end.
    pub fn lines(address: impl Into<String>) -> Self {
        SocketSource::new(address, AsText)
    }

    /// Each line as a `String`.
    pub fn strings(address: impl Into<String>) -> SocketSource<AsString> {
        SocketSource::new(address, AsString)
    }

    /// Each line as a `T` in JSON. Lines that are blank hold no record.
    pub fn json_lines<T: Data>(address: impl Into<String>) -> SocketSource<AsJson<T>> {
        SocketSource::new(address, AsJson::default())
    }
}

impl<F> SocketSource<F> {
    fn new(address: impl Into<String>, format: F) -> Self {
        SocketSource { address: address.into(), format, on_error: OnError::Fail, reconnect: None }
    }

    /// What to do with lines that cannot be read; the default is to fail.
    #[must_use]
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.on_error = on_error;
        self
    }

    /// Connects again, `delay` after a connection could not be made or was closed. A line that had begun
    /// when the connection ended counts as complete.
    #[must_use]
    pub fn reconnect(mut self, delay: Duration) -> Self {
        self.reconnect = Some(delay);
        self
    }
}

impl<F: LineFormat> Source for SocketSource<F> {
    type Out = F::Record;
    type Split = String;

    fn is_bounded(&self) -> bool {
        false
    }

    fn can_go_back(&self) -> bool {
        false
    }

    fn discover(&self, _: usize) -> Result<Vec<String>> {
        Ok(vec![self.address.clone()])
    }

    fn open(
        &self,
        address: String,
        context: &SplitContext,
    ) -> Result<Box<dyn SplitReader<F::Record, String>>> {
        let (sender, receiver) = sync_channel(QUEUE_CHUNKS);
        let line = Arc::new(Line::default());
        let thread = ReadThread {
            address: address.clone(),
            reconnect: self.reconnect,
            line: Arc::clone(&line),
            waker: Arc::clone(&context.waker),
        };
        std::thread::Builder::new()
            .name(format!("millstream-socket-{address}"))
            .spawn(move || thread.run(sender))?;
        Ok(Box::new(SocketReader {
            parser: LineParser::new(self.format.clone(), 0),
            policy: Plain::new(self.on_error, &context.operator),
            address,
            receiver,
            line,
            batch_size: context.batch_size,
        }))
    }

    fn max_parallelism(&self) -> Option<usize> {
        Some(1)
    }
}

enum Message {
    /// Complete lines.
    Chunk(Vec<u8>),
    Failed(io::Error),
}

/// The connection as both sides see it: the reader hangs up by it when it is dropped.
#[derive(Default)]
struct Line {
    state: Mutex<LineState>,
    hung_up: Condvar,
}

#[derive(Default)]
struct LineState {
    is_closed: bool,
    stream: Option<TcpStream>,
}

impl Line {
    fn state(&self) -> MutexGuard<'_, LineState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a new connection where the reader can end it; false if it has hung up already.
    fn hold(&self, stream: &TcpStream) -> io::Result<bool> {
        let mut state = self.state();
        state.stream = Some(stream.try_clone()?);
        Ok(!state.is_closed)
    }

    /// Waits; false if the reader has hung up.
    fn pause(&self, delay: Duration) -> bool {
        let waited = self.hung_up.wait_timeout_while(self.state(), delay, |s| !s.is_closed);
        !waited.unwrap_or_else(PoisonError::into_inner).0.is_closed
    }

    fn hang_up(&self) {
        let mut state = self.state();
        state.is_closed = true;
        if let Some(stream) = state.stream.take() {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.hung_up.notify_all();
    }
}

struct ReadThread {
    address: String,
    reconnect: Option<Duration>,
    line: Arc<Line>,
    waker: Waker,
}

impl ReadThread {
    fn run(self, queue: SyncSender<Message>) {
        while let Some(ended) = self.converse(&queue).transpose() {
            match ended {
                // Who does not speak in lines does not do so the next time either.
                Err(error) if self.reconnect.is_none() || is_endless(&error) => {
                    // The reader may be gone, and then nobody needs to know.
                    let _ = queue.send(Message::Failed(error));
                    break;
                }
                Err(error) => {
                    tracing::warn!(address = %self.address, %error, "the connection failed");
                }
                Ok(()) => tracing::info!(address = %self.address, "the connection was closed"),
            }
            if !self.reconnect.is_some_and(|delay| self.line.pause(delay)) {
                break;
            }
        }
        // First the end, then the wake-up that makes it seen.
        drop(queue);
        self.waker.wake();
    }

    /// One connection from its beginning to its end; `None` if the reader has hung up.
    fn converse(&self, queue: &SyncSender<Message>) -> io::Result<Option<()>> {
        let mut stream = connect(&self.address)?;
        if !self.line.hold(&stream)? {
            return Ok(None);
        }
        let mut lines = LineBuffer::default();
        while !lines.is_ended() {
            let read = match stream.read(lines.space()?) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                // What has arrived before is not lost with the connection.
                Err(e) => Err(e),
                Ok(n) => Ok(n),
            };
            lines.filled(*read.as_ref().unwrap_or(&0));
            while let Some(chunk) = lines.chunk() {
                if queue.send(Message::Chunk(chunk.to_vec())).is_err() {
                    return Ok(None);
                }
                self.waker.wake();
            }
            read?;
        }
        Ok(Some(()))
    }
}

/// Whether what failed was a line that did not end.
fn is_endless(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::FileTooLarge
}

struct SocketReader<F> {
    parser: LineParser<F>,
    policy: Plain,
    address: String,
    receiver: Receiver<Message>,
    line: Arc<Line>,
    batch_size: usize,
}

impl<F: LineFormat> SplitReader<F::Record, String> for SocketReader<F> {
    fn read(&mut self, out: &mut Batch<F::Record>) -> Result<ReadStatus> {
        let full = out.len() + self.batch_size;
        while out.len() < full {
            if let Some(record) = self.parser.record(&self.address) {
                Policy::take(&mut self.policy, record, &mut out.values)?;
                continue;
            }
            match self.receiver.try_recv() {
                Ok(Message::Chunk(lines)) => self.parser.feed(&lines),
                Ok(Message::Failed(cause)) if is_endless(&cause) => {
                    return Err(Error::user(format!(
                        "`{}` sent {cause}: does what serves there end its lines?",
                        self.address
                    )));
                }
                Ok(Message::Failed(cause)) => {
                    return Err(Error::external(format!(
                        "no lines from `{}`: check that something serves there, or let the source `reconnect`",
                        self.address
                    ))
                    .caused_by(cause));
                }
                Err(TryRecvError::Empty) => return Ok(ReadStatus::CaughtUp { until_us: MAX_TIME }),
                Err(TryRecvError::Disconnected) => return Ok(ReadStatus::End),
            }
        }
        Ok(ReadStatus::More)
    }

    /// What was sent and not read is lost with the connection: a socket cannot go back.
    fn split(&self) -> String {
        self.address.clone()
    }
}

impl<F> Drop for SocketReader<F> {
    fn drop(&mut self) {
        self.line.hang_up();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::{BLOCK, MAX_RECORD};
    use crate::testing::Surroundings;
    use millstream_model::Text;
    use std::io::Write;
    use std::net::TcpListener;
    use std::thread;

    /// A server that says one text per connection, and its address.
    fn server(texts: Vec<Vec<u8>>) -> (String, thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serve = move || {
            for text in texts {
                let (mut stream, _) = listener.accept().unwrap();
                // A reader that hangs up in the middle is one of the cases.
                let _ = stream.write_all(&text);
            }
        };
        (address, thread::spawn(serve))
    }

    #[test]
    fn lines_arrive_until_the_server_closes() {
        let text: String = (0..20_000).map(|i| format!("line number {i} of many\r\n")).collect();
        let (address, served) = server(vec![[text.as_bytes(), b"last"].concat()]);
        let lines = Surroundings::new(0, 1).read_all(&SocketSource::lines(address)).unwrap();
        served.join().unwrap();
        assert_eq!(
            (lines.len(), &*lines[19_999], &*lines[20_000]),
            (20_001, "line number 19999 of many", "last")
        );
    }

    #[test]
    fn a_source_may_connect_again() {
        let (address, served) = server(vec![b"1\n2".to_vec(), b"3\n".to_vec()]);
        let source = SocketSource::json_lines::<u32>(address).reconnect(Duration::from_millis(1));
        let at = Surroundings::new(0, 1);
        let mut reader = at.open(&source).unwrap().remove(0);
        let mut batch = Batch::default();
        while batch.len() < 3 {
            at.bell.wait();
            assert_eq!(
                reader.read(&mut batch).unwrap(),
                ReadStatus::CaughtUp { until_us: MAX_TIME }
            );
        }
        assert_eq!(batch.values, [1, 2, 3]);
        served.join().unwrap();
    }

    #[test]
    fn a_line_that_does_not_end_is_no_reason_to_connect_again() {
        let endless = [b"1\n".to_vec(), vec![b'2'; MAX_RECORD + BLOCK]].concat();
        let (address, served) = server(vec![endless]);
        let source = SocketSource::lines(&address).reconnect(Duration::from_millis(1));
        let error = Surroundings::new(0, 1).read_all(&source).unwrap_err();
        served.join().unwrap();
        let expected = "sent a line of more than 64 MiB: does what serves there end its lines?";
        assert_eq!(error.to_string(), format!("`{address}` {expected}"));
    }

    #[test]
    fn a_dropped_reader_hangs_up() {
        let endless = b"and so on\n".repeat(2_000_000);
        let (address, served) = server(vec![endless]);
        let at = Surroundings::new(0, 1);
        let mut reader = at.open(&SocketSource::lines(address)).unwrap().remove(0);
        at.bell.wait();
        let mut batch = Batch::<Text>::default();
        reader.read(&mut batch).unwrap();
        assert_eq!(&*batch.values[0], "and so on");
        drop(reader);
        served.join().unwrap();
    }

    #[test]
    fn nobody_there_is_an_error_with_the_address() {
        let address = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().to_string()
        };
        let error = Surroundings::new(0, 1).read_all(&SocketSource::lines(&address)).unwrap_err();
        let expected = format!(
            "no lines from `{address}`: check that something serves there, or let the source `reconnect`: "
        );
        assert!(error.to_string().starts_with(&expected), "{error}");
    }

    #[test]
    fn bad_lines_are_refused_or_counted() {
        let (address, served) = server(vec![b"1\nx\n3\n".to_vec(); 2]);
        let source = SocketSource::json_lines::<u32>(&address);
        let at = Surroundings::new(0, 1);
        let error = at.read_all(&source).unwrap_err().to_string();
        let expected = format!("`{address}`, line 2: expected value (column 1): `x`; ");
        assert!(error.starts_with(&expected), "{error}");
        assert_eq!(at.read_all(&source.on_error(OnError::Skip)).unwrap(), [1, 3]);
        assert_eq!(at.count("malformed_lines"), 1);
        served.join().unwrap();
    }
}
