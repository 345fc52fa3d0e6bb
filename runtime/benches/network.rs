//! What it costs a record to cross to another process: a sender's thread, a receiver's, and a connection over
//! the loopback between two exchanges. Records are those of the keyed count (workload W2): a `u64` with its time
//! and the hash of its key, 1024 to a batch. Beside it the same inside of a process, where a batch only changes hands.
//!
//! Prints what one record takes: wall time, and processor time of the whole process (both hosts are in it).

use millstream_model::{Batch, CheckpointMode, Result, Signal, hash_key};
use millstream_runtime::exchange::net::{AttemptSpec, ChannelId, Exchange, NetAttempt, NetConfig};
use millstream_runtime::exchange::{Arrival, Gate, MemoryPool, Sender, connect};
use millstream_runtime::task::{NoWake, Wake, Waker};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

const BATCH: u64 = 1024;
const CHANNEL: ChannelId = ChannelId { edge: 0, from: 0, to: 0 };

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(&self) {
        self.0.unpark();
    }
}

/// Processor time of this process so far: its own, and the system's for it.
fn processor_time() -> [Duration; 2] {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let mut times = after_name.split_whitespace().skip(11).filter_map(|t| t.parse().ok());
    [(); 2].map(|()| Duration::from_millis(10 * times.next().unwrap_or(0)))
}

fn send_all(sender: &Sender<u64>, n_batches: u64) -> Result<()> {
    let hashes: Vec<u64> = (0..BATCH).map(|key| hash_key(&(key * 7919)).unwrap_or(key)).collect();
    let mut batch = Batch::default();
    for i in 0..n_batches {
        batch.values.extend((0..BATCH).map(|j| j * 7919));
        batch.times.extend((0..BATCH).map(|j| ((i * BATCH + j) / 10) as i64));
        batch.hashes.extend_from_slice(&hashes);
        batch.mark((i * BATCH / 10) as i64);
        while !sender.try_send(&mut batch, 24 * BATCH as usize)? {
            std::thread::park();
        }
    }
    while !sender.try_signal(Signal::End)? {
        std::thread::park();
    }
    Ok(())
}

fn take_all(gate: &mut Gate<u64>) -> Result<u64> {
    let mut n = 0;
    loop {
        match gate.poll()? {
            Arrival::Batch(batch) => {
                n += batch.len() as u64;
                gate.recycle(batch);
            }
            Arrival::Signal(Signal::End) => return Ok(n),
            Arrival::Nothing => std::thread::park(),
            _ => {}
        }
    }
}

fn measure(name: &str, n_batches: u64, run: impl FnOnce() -> Result<u64>) -> Result<()> {
    let (begin, processor) = (Instant::now(), processor_time());
    let n = run()?;
    assert_eq!(n, n_batches * BATCH);
    let (wall, [user, system]) = (begin.elapsed(), processor_time());
    let per = |time: Duration| time.as_secs_f64() * 1e9 / n as f64;
    println!(
        "{name:<24} {:6.1} M records/s  {:5.1} ns wall  {:5.1} ns user  {:5.1} ns system",
        n as f64 / wall.as_secs_f64() / 1e6,
        per(wall),
        per(user - processor[0]),
        per(system - processor[1])
    );
    Ok(())
}

fn attempt(exchange: &Exchange, me: u32, peers: &[SocketAddr]) -> Result<Arc<NetAttempt>> {
    exchange.attempt(AttemptSpec {
        job: 1,
        attempt: 0,
        token: b"bench".to_vec(),
        me,
        peers: peers.to_vec(),
        memory: Arc::new(MemoryPool::new(128 << 20)),
        on_lost: Arc::new(|host, e| eprintln!("host {host}: {e}")),
    })
}

/// Both ends of a channel, given to the threads that use them.
fn run(n_batches: u64, hosts: Option<(&Arc<NetAttempt>, &Arc<NetAttempt>)>) -> Result<u64> {
    let (give, take) = std::sync::mpsc::channel::<Sender<u64>>();
    let sending = std::thread::spawn(move || match take.recv() {
        Ok(sender) => send_all(&sender, n_batches),
        Err(_) => Ok(()),
    });
    let waker: Waker = Arc::new(Unpark(sending.thread().clone()));
    let receiver: Waker = Arc::new(Unpark(std::thread::current()));
    let memory = Arc::new(MemoryPool::new(128 << 20));
    let mode = CheckpointMode::ExactlyOnce;
    let mut gate = match hosts {
        None => {
            let (mut senders, gate) = connect(&memory, &[waker], receiver, mode);
            let _ = give.send(senders.remove(0));
            gate
        }
        Some((from, to)) => {
            let (mut ends, gate) = connect(&memory, &[Arc::new(NoWake)], receiver, mode);
            to.inlet(0, CHANNEL, ends.remove(0))?;
            let sender = from.sender(1, CHANNEL, waker)?;
            from.start()?;
            to.start()?;
            let _ = give.send(sender);
            gate
        }
    };
    let n = take_all(&mut gate)?;
    match sending.join() {
        Ok(sent) => sent.map(|()| n),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn main() -> Result<()> {
    let n_batches = std::env::var("BATCHES").ok().and_then(|n| n.parse().ok()).unwrap_or(40_000);
    measure("inside of a process", n_batches, || run(n_batches, None))?;
    for compress in [false, true] {
        let config = NetConfig { compress, ..NetConfig::new((Ipv4Addr::LOCALHOST, 0).into()) };
        let exchanges = [Exchange::listen(config.clone())?, Exchange::listen(config)?];
        let peers = exchanges.each_ref().map(Exchange::address);
        let (from, to) = (attempt(&exchanges[0], 0, &peers)?, attempt(&exchanges[1], 1, &peers)?);
        let name = if compress { "over the loopback, lz4" } else { "over the loopback" };
        measure(name, n_batches, || run(n_batches, Some((&from, &to))))?;
        println!("{:24} {:?}", "", from.traffic());
    }
    Ok(())
}
