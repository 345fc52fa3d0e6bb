//! A TCP proxy between task managers and the job manager, which can be told to be a bad network.
//!
//! Each connection has two threads that copy. They look at the mode before every piece, so a change takes effect at
//! once, and a cut ends all connections and refuses new ones until it is taken back.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// What a piece of a slow connection waits for, and how long such a piece is.
const SLOW: Duration = Duration::from_millis(15);
const SLOW_BYTES: usize = 2048;
const FAST_BYTES: usize = 64 << 10;

/// How the network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Good.
    Fast,
    /// A little at a time.
    Slow,
    /// Connections break, and new ones break at once.
    Cut,
}

struct Shared {
    mode: AtomicU8,
    is_over: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

impl Shared {
    fn network(&self) -> Network {
        match self.mode.load(Ordering::SeqCst) {
            0 => Network::Fast,
            1 => Network::Slow,
            _ => Network::Cut,
        }
    }

    fn break_all(&self) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in streams.drain(..) {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// See the module's text.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// In front of `target`, on a port of its own.
    pub fn start(target: String) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (mode, is_over, streams) = Default::default();
        let shared = Arc::new(Shared { mode, is_over, streams });
        let of_listener = Arc::clone(&shared);
        thread::spawn(move || {
            for near in listener.incoming() {
                if of_listener.is_over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(near) = near else { continue };
                if of_listener.network() == Network::Cut {
                    continue;
                }
                // A connection that cannot be passed on is one that breaks.
                let _ = TcpStream::connect(&target).and_then(|far| join(near, far, &of_listener));
            }
        });
        Proxy { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Makes the network so.
    pub fn set(&self, network: Network) {
        self.shared.mode.store(network as u8, Ordering::SeqCst);
        if network == Network::Cut {
            self.shared.break_all();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        self.shared.break_all();
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
    }
}

fn join(near: TcpStream, far: TcpStream, shared: &Arc<Shared>) -> std::io::Result<()> {
    let mut streams = shared.streams.lock().unwrap_or_else(PoisonError::into_inner);
    streams.extend([near.try_clone()?, far.try_clone()?]);
    for (from, to) in [(near.try_clone()?, far.try_clone()?), (far, near)] {
        let shared = Arc::clone(shared);
        thread::spawn(move || copy(from, to, &shared));
    }
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    let mut bytes = vec![0; FAST_BYTES];
    loop {
        let n_most = match shared.network() {
            Network::Fast => FAST_BYTES,
            Network::Slow | Network::Cut => SLOW_BYTES,
        };
        match from.read(&mut bytes[..n_most]) {
            Ok(n) if n > 0 && to.write_all(&bytes[..n]).is_ok() => {}
            _ => break,
        }
        if shared.network() == Network::Slow {
            thread::park_timeout(SLOW);
        }
    }
    // Either may be closed already.
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_ends_connections_and_refuses_new_ones_until_it_is_taken_back() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::start(server.local_addr().unwrap().to_string());
        let connect = || TcpStream::connect(proxy.address).unwrap();
        let passes = |mut near: TcpStream| {
            let (mut far, _) = server.accept().unwrap();
            near.write_all(b"word").unwrap();
            let mut word = [0; 4];
            far.read_exact(&mut word).unwrap();
            assert_eq!(&word, b"word");
            near
        };
        let mut open = passes(connect());
        proxy.set(Network::Cut);
        assert!(matches!(open.read(&mut [0]), Ok(0) | Err(_)));
        assert!(matches!(connect().read(&mut [0]), Ok(0) | Err(_)));
        proxy.set(Network::Slow);
        passes(connect());
    }
}
