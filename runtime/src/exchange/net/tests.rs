//! Two hosts in one process, over the loopback: what crosses is what would have been there without a network.

use super::*;
use crate::chain::{Flow, Push, Site};
use crate::exchange::{Arrival, Gate, Limits, MemoryPool, Sender, Single, Writer, connect};
use crate::task::{NoWake, Wake, Waker};
use millstream_model::{
    Barrier, Batch, CheckpointId, CheckpointMode, Data, Signal, SnapshotKind, hash_key,
};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Wakes this thread.
struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(&self) {
        self.0.unpark();
    }
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
        let nobody: Vec<Waker> = wakers.iter().map(|_| Arc::new(NoWake) as Waker).collect();
        let (ends, gate) = connect(&self.memories[1], &nobody, receiver, mode);
        let channels = (0..).zip(ends).zip(wakers).map(|((from, end), waker)| {
            self.attempts[1].inlet(0, id(from, 0), end).unwrap();
            self.attempts[0].sender(1, id(from, 0), Arc::clone(waker)).unwrap()
        });
        (channels.collect(), gate)
    }

    fn start(&self) {
        self.attempts.iter().for_each(|attempt| attempt.start().unwrap());
    }

    fn losses(&self, host: usize) -> Vec<(u32, String)> {
        self.losses[host].lock().unwrap().clone()
    }
}

fn writer<T: Data>(sender: Sender<T>, mode: CheckpointMode) -> Writer<T> {
    let site = (Site::detached("test"), 0);
    Writer::new(Box::new(Single(0)), vec![sender], Limits::default(), site, mode)
}

fn barrier(checkpoint: u64) -> Barrier {
    Barrier { checkpoint: CheckpointId(checkpoint), kind: SnapshotKind::Checkpoint }
}

/// What a gate handed out.
#[derive(Debug, Default, PartialEq)]
struct Seen<T> {
    values: Vec<T>,
    times: Vec<i64>,
    hashes: Vec<u64>,
    /// After how many values each came.
    marks: Vec<(usize, i64)>,
    signals: Vec<(usize, Signal)>,
}

impl<T: Data> Seen<T> {
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
        let mut seen =
            Seen { values: vec![], times: vec![], hashes: vec![], marks: vec![], signals: vec![] };
        until("the channel ends", || {
            while seen.take(gate) {}
            seen.has_ended()
        });
        seen
    }
}

/// Pushes what a script says, and waits whenever that is asked for.
fn push_all(writer: &mut Writer<(u64, String)>, n: u64) {
    let settle = |writer: &mut Writer<_>, mut flow: Flow| {
        while flow == Flow::Blocked {
            std::thread::park_timeout(Duration::from_secs(1));
            flow = writer.resume().unwrap();
        }
    };
    for i in 0..n {
        let mut batch = Batch::default();
        for j in 0..300 {
            let value = i * 300 + j;
            batch.push((value, "x".repeat((value % 17) as usize)), value as i64);
            batch.hashes.push(hash_key(&value).unwrap());
        }
        batch.mark(i as i64 * 300);
        let flow = writer.push(&mut batch).unwrap();
        settle(writer, flow);
        let signal = match i % 50 {
            10 => Signal::Idle,
            11 => Signal::Active,
            20 => Signal::Barrier(barrier(i)),
            _ => Signal::Flush,
        };
        let flow = writer.signal(signal).unwrap();
        settle(writer, flow);
    }
    let flow = writer.signal(Signal::End).unwrap();
    settle(writer, flow);
}

/// What arrives, through a network or not.
fn carried(hosts: Option<&Hosts>) -> Seen<(u64, String)> {
    let receiver = this_thread();
    let (give, take) = std::sync::mpsc::channel::<Sender<_>>();
    let sending = std::thread::spawn(move || {
        let mut writer = writer(take.recv().unwrap(), CheckpointMode::ExactlyOnce);
        push_all(&mut writer, 120);
        writer
    });
    let waker: Waker = Arc::new(Unpark(sending.thread().clone()));
    let mode = CheckpointMode::ExactlyOnce;
    let (mut senders, mut gate) = match hosts {
        Some(hosts) => hosts.connect(&[waker], receiver, mode),
        None => connect(&Arc::new(MemoryPool::new(1 << 20)), &[waker], receiver, mode),
    };
    if let Some(hosts) = hosts {
        hosts.start();
    }
    give.send(senders.remove(0)).unwrap();
    let seen = Seen::take_all(&mut gate);
    sending.join().unwrap();
    seen
}

/// Whether both say the same at the same places; where batches end is not part of it.
fn assert_same(a: &Seen<(u64, String)>, b: &Seen<(u64, String)>) {
    assert_eq!((&a.values, &a.times, &a.hashes), (&b.values, &b.times, &b.hashes));
    assert_eq!(a.signals, b.signals);
    assert_eq!(a.marks.last(), b.marks.last());
}

#[test]
fn what_crosses_is_what_would_have_been_there_without_a_network() {
    let local = carried(None);
    assert_eq!(local.values.len(), 36_000);
    for compress in [false, true] {
        let hosts = hosts_of(vec![NetConfig { compress, ..config() }; 2], 1 << 20);
        let remote = carried(Some(&hosts));
        assert_same(&local, &remote);
        until("what was sent is counted", || {
            let (out, arrived) = (hosts.attempts[0].traffic(), hosts.attempts[1].traffic());
            let has_crossed =
                out.frames_out > 36 && out.bytes_out > if compress { 0 } else { 36_000 * 24 };
            has_crossed && (out.frames_out, out.bytes_out) == (arrived.frames_in, arrived.bytes_in)
        });
        until("all memory is given back", || hosts.memories.iter().all(|m| m.used() == 0));
        drop(hosts);
    }
}
