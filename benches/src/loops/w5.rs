//! W5: W2 from a source that is paced, for its latency.
//!
//! Two threads as in [`super::exchange`], but a thread that has nothing due hands on what it has
//! and sleeps until its next event is due or the peer has sent something. Flushing when idle adds
//! no latency and still makes batches under load.

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::exchange::{spread, thread_of};
use super::table::CountTable;
use crate::pace::{Latencies, Schedule};
use crate::prng::uniform_key;
use crate::workload::{BenchError, Outcome, Setup, Sink};

const KEYS: u64 = 100_000;
/// Batches in flight in each direction: a thread that the machine holds up for a second must not
/// hold up the other.
const IN_FLIGHT: usize = 1024;

struct Record {
    key: u64,
    due_ns: u64,
}

struct Worker {
    me: usize,
    schedule: Schedule,
    to_peer: Sender<Vec<Record>>,
    from_peer: Receiver<Vec<Record>>,
    peer_ended: bool,
    spare: Vec<Vec<Record>>,
    counts: CountTable,
    latencies: Latencies,
    sink: Sink,
}

impl Worker {
    fn new(
        me: usize,
        schedule: Schedule,
        ends: (Sender<Vec<Record>>, Receiver<Vec<Record>>),
    ) -> Self {
        Self {
            me,
            schedule,
            to_peer: ends.0,
            from_peer: ends.1,
            peer_ended: false,
            spare: Vec::new(),
            counts: CountTable::default(),
            latencies: Latencies::new(schedule),
            sink: Sink::default(),
        }
    }

    fn run(mut self, n: u64) -> (Sink, Latencies) {
        let mut buffers = [Vec::new(), Vec::new()];
        let mut i = self.me as u64;
        while i < n {
            let now_ns = self.schedule.now_ns();
            while i < n && self.schedule.due_ns(i) <= now_ns {
                let key = uniform_key::<KEYS>(i);
                let record = Record { key, due_ns: self.schedule.due_ns(i) };
                buffers[thread_of(spread(key))].push(record);
                i += 2;
            }
            if !buffers[1 - self.me].is_empty() {
                let empty = self.spare.pop().unwrap_or_default();
                self.send(std::mem::replace(&mut buffers[1 - self.me], empty));
            }
            self.process(&mut buffers[self.me]);
            if let Ok(batch) = self.from_peer.recv_deadline(self.schedule.due(i)) {
                self.take(batch);
            }
        }
        // An empty batch says that no more will come.
        self.send(Vec::new());
        while !self.peer_ended {
            // The peer cannot be gone without having said so, unless it panicked.
            let Ok(batch) = self.from_peer.recv() else { break };
            self.take(batch);
        }
        (self.sink, self.latencies)
    }

    fn send(&mut self, mut batch: Vec<Record>) {
        while let Err(TrySendError::Full(refused)) = self.to_peer.try_send(batch) {
            batch = refused;
            match self.from_peer.try_recv() {
                Ok(received) => self.take(received),
                Err(_) => std::thread::yield_now(),
            }
        }
    }

    fn take(&mut self, mut batch: Vec<Record>) {
        self.peer_ended |= batch.is_empty();
        self.process(&mut batch);
        self.spare.push(batch);
    }

    fn process(&mut self, batch: &mut Vec<Record>) {
        for record in batch.drain(..) {
            let count = self.counts.add(record.key, 1);
            self.sink.add_count(record.key, count);
            self.latencies.arrived(record.due_ns);
        }
    }
}

pub(super) fn run<const RATE: u64>(setup: &Setup) -> Result<Outcome, BenchError> {
    let (to_second, from_first) = bounded(IN_FLIGHT);
    let (to_first, from_second) = bounded(IN_FLIGHT);
    let schedule = Schedule::new(setup.n, RATE);
    let halves = std::thread::scope(|scope| {
        let second = scope.spawn(|| Worker::new(1, schedule, (to_first, from_first)).run(setup.n));
        let first = Worker::new(0, schedule, (to_second, from_second)).run(setup.n);
        [first, second.join().expect("a benchmark loop panicked")]
    });
    let sink = halves.iter().map(|half| half.0).sum();
    let latencies = Latencies::merge(halves.map(|half| half.1));
    Ok(Outcome { sink, latency_ns: Some(latencies), holds: None, span_s: None })
}
