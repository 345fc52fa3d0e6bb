//! Two hosts in one process, over the loopback: what crosses is what would have been there without a network.

mod barriers;
mod carried;
mod encrypted;
mod losses;
mod pressure;
mod strangers;

use super::*;
use crate::chain::{Flow, Push, Site};
use crate::exchange::{Arrival, Gate, Limits, MemoryPool, Sender, Single, Writer, connect};
use crate::task::{NoWake, Wake, Waker};
use millstream_model::{
    Barrier, Batch, CheckpointId, CheckpointMode, Data, Signal, SnapshotKind, hash_key,
};
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

/// Wakes this thread.
struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(&self) {
        self.0.unpark();
    }
}

/// Counts how often it is woken.
#[derive(Default)]
struct Bell(AtomicU32);

impl Wake for Bell {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Bell {
    fn count(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

fn bell() -> (Arc<Bell>, Waker) {
    let bell: Arc<Bell> = Arc::default();
    (Arc::clone(&bell), bell)
}

fn this_thread() -> Waker {
    Arc::new(Unpark(std::thread::current()))
}

/// Waits until something has come about.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(30), "waited in vain until {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

type Losses = Arc<Mutex<Vec<(u32, String)>>>;

fn config() -> NetConfig {
    NetConfig::new((Ipv4Addr::LOCALHOST, 0).into())
}

/// Hosts and an attempt of a job that they all take part in.
struct Hosts {
    exchanges: Vec<Exchange>,
    memories: Vec<Arc<MemoryPool>>,
    attempts: Vec<Arc<NetAttempt>>,
    losses: Vec<Losses>,
}

fn spec(
    number: u32,
    me: u32,
    peers: &[SocketAddr],
    memory: &Arc<MemoryPool>,
) -> (AttemptSpec, Losses) {
    let losses = Losses::default();
    let told = Arc::clone(&losses);
    let spec = AttemptSpec {
        job: 77,
        attempt: number,
        token: b"secret".to_vec(),
        me,
        peers: peers.to_vec(),
        memory: Arc::clone(memory),
        on_lost: Arc::new(move |host, e| told.lock().unwrap().push((host, e.to_string()))),
    };
    (spec, losses)
}

fn hosts_of(configs: Vec<NetConfig>, memory: usize) -> Hosts {
    let exchanges: Vec<_> = configs.into_iter().map(|c| Exchange::listen(c).unwrap()).collect();
    let peers: Vec<_> = exchanges.iter().map(Exchange::address).collect();
    let memories: Vec<_> = peers.iter().map(|_| Arc::new(MemoryPool::new(memory))).collect();
    let parts = exchanges.iter().zip(&memories).zip(0..);
    let (attempts, losses) = parts
        .map(|((exchange, memory), me)| {
            let (spec, losses) = spec(0, me, &peers, memory);
            (exchange.attempt(spec).unwrap(), losses)
        })
        .unzip();
    Hosts { exchanges, memories, attempts, losses }
}

fn hosts(n: usize) -> Hosts {
    hosts_of(vec![config(); n], 1 << 20)
}

fn id(from: u32, to: u32) -> ChannelId {
    ChannelId { edge: 3, from, to }
}

impl Hosts {
    /// Channels from host 0 into one gate of host 1, one per waker.
    fn connect<T: Data>(
        &self,
        wakers: &[Waker],
        receiver: Waker,
        mode: CheckpointMode,
    ) -> (Vec<Sender<T>>, Gate<T>) {
        self.connect_to(0, wakers, receiver, mode)
    }

    /// The same for a receiving subtask of this number.
    fn connect_to<T: Data>(
        &self,
        subtask: u32,
        wakers: &[Waker],
        receiver: Waker,
        mode: CheckpointMode,
    ) -> (Vec<Sender<T>>, Gate<T>) {
        let nobody: Vec<Waker> = wakers.iter().map(|_| Arc::new(NoWake) as Waker).collect();
        let (ends, gate) = connect(&self.memories[1], &nobody, receiver, mode);
        let channels = (0..).zip(ends).zip(wakers).map(|((from, end), waker)| {
            self.attempts[1].inlet(0, id(from, subtask), end).unwrap();
            self.attempts[0].sender(1, id(from, subtask), Arc::clone(waker)).unwrap()
        });
        (channels.collect(), gate)
    }

    /// One channel from host 0 to host 1, whose ends are stepped by hand.
    fn channel(&self, mode: CheckpointMode) -> (Sender<u64>, Gate<u64>) {
        let (mut senders, gate) = self.connect(&[Arc::new(NoWake)], Arc::new(NoWake), mode);
        (senders.remove(0), gate)
    }

    fn start(&self) {
        self.attempts.iter().for_each(|attempt| attempt.start().unwrap());
    }

    fn losses(&self, host: usize) -> Vec<(u32, String)> {
        self.losses[host].lock().unwrap().clone()
    }
}

fn writer<T: Data>(sender: Sender<T>, mode: CheckpointMode) -> Writer<T> {
    let site = (Site::detached("test"), "0".into());
    Writer::new(Box::new(Single(0)), vec![sender], Limits::default(), site, mode)
}

fn barrier(checkpoint: u64) -> Barrier {
    Barrier { checkpoint: CheckpointId(checkpoint), kind: SnapshotKind::Checkpoint }
}

/// Sends one record, as soon as there is credit.
fn send(sender: &Sender<u64>, value: u64) {
    let mut batch = Batch::of(vec![value]);
    batch.times.push(value as i64);
    batch.hashes.push(hash_key(&value).unwrap());
    batch.mark(value as i64);
    until("there is credit", || sender.try_send(&mut batch, 24).unwrap());
}

fn signal(sender: &Sender<u64>, signal: Signal) {
    until("there is credit", || sender.try_signal(signal).unwrap());
}

/// What a gate handed out.
#[derive(Debug, PartialEq)]
struct Seen<T> {
    values: Vec<T>,
    times: Vec<i64>,
    hashes: Vec<u64>,
    /// After how many values each came.
    marks: Vec<(usize, i64)>,
    signals: Vec<(usize, Signal)>,
}

impl<T: Data> Seen<T> {
    fn nothing() -> Self {
        let (values, times, hashes) = (Vec::new(), Vec::new(), Vec::new());
        Seen { values, times, hashes, marks: Vec::new(), signals: Vec::new() }
    }

    /// Takes what is there; whether there was anything.
    fn take(&mut self, gate: &mut Gate<T>) -> bool {
        let n = self.values.len();
        match gate.poll().unwrap() {
            Arrival::Batch(mut batch) => {
                self.marks.extend(batch.marks.iter().map(|m| (n + m.at as usize, m.watermark)));
                self.values.append(&mut batch.values);
                self.times.append(&mut batch.times);
                self.hashes.append(&mut batch.hashes);
                gate.recycle(batch);
            }
            Arrival::Signal(signal) => self.signals.push((n, signal)),
            Arrival::Barrier(barrier) => self.signals.push((n, Signal::Barrier(barrier))),
            Arrival::Taken => {}
            Arrival::Nothing => return false,
        }
        true
    }

    fn has_ended(&self) -> bool {
        matches!(self.signals.last(), Some((_, Signal::End)))
    }

    /// Takes until the end.
    fn take_all(gate: &mut Gate<T>) -> Self {
        let mut seen = Seen::nothing();
        until("the channel ends", || {
            while seen.take(gate) {}
            seen.has_ended()
        });
        seen
    }
}
