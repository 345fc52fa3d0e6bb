//! Two threads, each running half of the source and half of the keyed operator in one loop.
//!
//! This is the topology that measured fastest on two cores: a record that stays on its thread
//! never sees a channel, the others travel in batches of 1024 through a bounded one. A buffer that
//! was received is used for the next batch sent, while it is in the cache; what is left over, when
//! one thread is ahead of the other, goes back to where it came from. A watermark travels with each
//! batch instead of cutting batches short.

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

/// Records in a full batch.
const BATCH: usize = 1024;
/// Events that a source half generates between two looks at its buffers.
const STRIDE: u64 = 256;
/// Batches in flight in each direction.
const IN_FLIGHT: usize = 16;
/// Empty buffers that a thread keeps.
const SPARE: usize = 8;

/// A batch of records in whatever layout suits the workload.
pub(super) trait Buffer: Default + Send {
    /// Records in it.
    fn len(&self) -> usize;
}

impl<T: Send> Buffer for Vec<T> {
    fn len(&self) -> usize {
        Vec::len(self)
    }
}

/// What a workload does with the records of its half of the keys.
pub(super) trait Operator<B> {
    /// Takes all records out of `batch`.
    fn process(&mut self, batch: &mut B);

    /// No record with a timestamp at or below `watermark_ms` will come any more.
    fn advance(&mut self, _watermark_ms: i64) {}
}

/// The output of a source half: one buffer for each thread.
pub(super) struct Output<B> {
    buffers: [B; 2],
}

impl<B> Output<B> {
    /// The buffer of the thread that owns the keys of this hash.
    #[inline(always)]
    pub(super) fn to(&mut self, hash: u64) -> &mut B {
        &mut self.buffers[thread_of(hash)]
    }
}

/// The thread (0 or 1) that owns the keys of this hash.
#[inline(always)]
pub(super) fn thread_of(hash: u64) -> usize {
    (hash >> 16 & 1) as usize
}

/// A hash of a numeric key that only the choice of a thread uses: were it the one of the tables
/// behind, each table would fill half its slots.
#[inline(always)]
pub(super) fn spread(key: u64) -> u64 {
    let product = key.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    product ^ product >> 32
}

/// Runs events `0..n` through the source, the exchange and one operator per thread; hands back the
/// operators.
///
/// `source(i, output)` sends the records of event `i`; `watermark(i)` is what holds once all
/// events up to `i` of a source half are through.
pub(super) fn run<B, O>(
    n: u64,
    source: impl Fn(u64, &mut Output<B>) + Sync,
    watermark: impl Fn(u64) -> i64 + Sync,
    operator: impl Fn() -> O + Sync,
) -> [O; 2]
where
    B: Buffer,
    O: Operator<B> + Send,
{
    let (first, second) = Link::pair();
    let worker = |me, link| Worker {
        me,
        operator: operator(),
        output: Output { buffers: Default::default() },
        link,
        spare: Vec::new(),
        watermarks_ms: [i64::MIN; 2],
        peer_ended: false,
    };
    std::thread::scope(|scope| {
        let second = scope.spawn(|| worker(1, second).run(n, &source, &watermark));
        let first = worker(0, first).run(n, &source, &watermark);
        [first, second.join().expect("a benchmark loop panicked")]
    })
}

struct Batch<B> {
    records: B,
    watermark_ms: i64,
    last: bool,
}

/// One thread's end of the channels between the two.
struct Link<B> {
    to_peer: Sender<Batch<B>>,
    from_peer: Receiver<Batch<B>>,
    empties_to_peer: Sender<B>,
    empties_from_peer: Receiver<B>,
}

impl<B> Link<B> {
    fn pair() -> (Self, Self) {
        let (to_second, from_first) = bounded(IN_FLIGHT);
        let (to_first, from_second) = bounded(IN_FLIGHT);
        let (empties_to_second, empties_from_first) = bounded(2 * IN_FLIGHT);
        let (empties_to_first, empties_from_second) = bounded(2 * IN_FLIGHT);
        let first = Self {
            to_peer: to_second,
            from_peer: from_second,
            empties_to_peer: empties_to_second,
            empties_from_peer: empties_from_second,
        };
        let second = Self {
            to_peer: to_first,
            from_peer: from_first,
            empties_to_peer: empties_to_first,
            empties_from_peer: empties_from_first,
        };
        (first, second)
    }
}

struct Worker<B, O> {
    me: usize,
    operator: O,
    output: Output<B>,
    link: Link<B>,
    /// Emptied buffers, the last one still warm.
    spare: Vec<B>,
    /// What each thread's source half has passed, indexed by thread.
    watermarks_ms: [i64; 2],
    peer_ended: bool,
}

impl<B: Buffer, O: Operator<B>> Worker<B, O> {
    #[inline(always)]
    fn run(
        mut self,
        n: u64,
        source: &impl Fn(u64, &mut Output<B>),
        watermark: &impl Fn(u64) -> i64,
    ) -> O {
        let mut i = self.me as u64;
        while i < n {
            let end = n.min(i + 2 * STRIDE);
            while i < end {
                source(i, &mut self.output);
                i += 2;
            }
            if self.output.buffers[self.me].len() >= BATCH {
                self.pass_local(watermark(i - 2));
            }
            if self.output.buffers[1 - self.me].len() >= BATCH {
                self.pass_remote(watermark(i - 2), false);
                while self.receive() {}
            }
        }
        self.pass_local(i64::MAX);
        self.pass_remote(i64::MAX, true);
        while !self.peer_ended {
            // The peer cannot be gone without having sent its last batch, unless it panicked.
            let Ok(batch) = self.link.from_peer.recv() else { break };
            self.take(batch);
        }
        self.operator
    }

    fn pass_local(&mut self, watermark_ms: i64) {
        self.operator.process(&mut self.output.buffers[self.me]);
        self.pass_watermark(self.me, watermark_ms);
    }

    fn pass_remote(&mut self, watermark_ms: i64, last: bool) {
        let empty = self.spare.pop().or_else(|| self.link.empties_from_peer.try_recv().ok());
        let empty = empty.unwrap_or_default();
        let records = std::mem::replace(&mut self.output.buffers[1 - self.me], empty);
        let mut batch = Batch { records, watermark_ms, last };
        // A full channel means that the peer has work; taking ours meanwhile rules out a deadlock.
        while let Err(TrySendError::Full(refused)) = self.link.to_peer.try_send(batch) {
            batch = refused;
            if !self.receive() {
                std::thread::yield_now();
            }
        }
    }

    /// Takes one batch of the peer if there is one.
    fn receive(&mut self) -> bool {
        match self.link.from_peer.try_recv() {
            Ok(batch) => {
                self.take(batch);
                true
            }
            Err(_) => false,
        }
    }

    fn take(&mut self, mut batch: Batch<B>) {
        self.operator.process(&mut batch.records);
        if self.spare.len() < SPARE {
            self.spare.push(batch.records);
        } else {
            // Where there is no room there are enough.
            let _ = self.link.empties_to_peer.try_send(batch.records);
        }
        self.peer_ended |= batch.last;
        self.pass_watermark(1 - self.me, batch.watermark_ms);
    }

    fn pass_watermark(&mut self, from: usize, watermark_ms: i64) {
        self.watermarks_ms[from] = watermark_ms;
        let [first, second] = self.watermarks_ms;
        if first.min(second) > i64::MIN {
            self.operator.advance(first.min(second));
        }
    }
}
