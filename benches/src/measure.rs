//! What a run cost: wall time, CPU time and peak memory of this process.
//!
//! Peak memory is a property of a process, not of a run, so the harness gives each run a process
//! of its own and passes a [`Figure`] back as JSON.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::checkpoints::Checkpoints;

/// Everything measured in one run of one row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    /// The row.
    pub row: String,
    /// Who ran it: `loop`, `millstream`, `cluster` or `flink`.
    pub engine: String,
    /// Source events; lines for W3.
    pub n: u64,
    /// Subtasks of every operator.
    pub parallelism: usize,
    /// Records that the rates count: source events; words for W3.
    pub records: u64,
    /// Records that the sink took.
    pub sink_records: u64,
    /// The sink's checksum in hexadecimal.
    pub checksum: String,
    /// Whether the right result for this event count is known, and this is it.
    pub checked: bool,
    /// Records per second.
    pub records_per_s: f64,
    /// Records per second of CPU time, over all threads.
    pub records_per_cpu_s: f64,
    /// Seconds from start to end.
    pub wall_s: f64,
    /// Seconds of CPU time over all threads, user and system.
    pub cpu_s: f64,
    /// The most memory that the process ever held, in MiB.
    pub peak_mib: f64,
    /// Latencies, in the rows that measure them.
    pub latency: Option<Latency>,
    /// How late a thread that only sleeps woke up meanwhile, beside every latency.
    pub sleep_control: Option<Latency>,
    /// What checkpoints took, where there were any.
    pub checkpoints: Option<Checkpoints>,
}

/// The usual quantiles of a latency, in microseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Latency {
    /// Half of the events were faster.
    pub p50_us: f64,
    /// 99 of 100.
    pub p99_us: f64,
    /// 999 of 1000.
    pub p999_us: f64,
    /// The slowest.
    pub max_us: f64,
}

impl From<&Histogram<u64>> for Latency {
    /// From a histogram of nanoseconds.
    fn from(ns: &Histogram<u64>) -> Self {
        let at = |quantile| ns.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: ns.max() as f64 / 1e3,
        }
    }
}

/// Runs from [`Clock::start`] on.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall: Instant,
    cpu_s: f64,
}

impl Clock {
    /// Starts measuring this process.
    pub fn start() -> Self {
        Self { wall: Instant::now(), cpu_s: cpu_s() }
    }

    /// Wall and CPU seconds since the start.
    pub fn stop(self) -> (f64, f64) {
        (self.wall.elapsed().as_secs_f64(), cpu_s() - self.cpu_s)
    }
}

/// Microseconds since the epoch: the one clock that several processes have in common.
pub fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros() as u64)
}

/// CPU seconds that this process has used, all threads, user and system.
pub fn cpu_s() -> f64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `getrusage` writes a whole `rusage` to the pointer it is given, and `rusage` is
    // integers only, so the zeroes are valid in any case. The standard library has no such call.
    #[allow(unsafe_code)]
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    [usage.ru_utime, usage.ru_stime]
        .map(|time| time.tv_sec as f64 + time.tv_usec as f64 / 1e6)
        .into_iter()
        .sum()
}

/// The most memory that this process ever held, in MiB; 0 where `/proc` does not say.
pub fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status.lines().find_map(|line| {
        line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()
    });
    kib.unwrap_or(0.0) / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_time_and_memory() {
        let clock = Clock::start();
        let mut x = 0u64;
        while clock.stop().1 < 0.02 {
            x = (0..100_000).fold(x, |x, i| crate::prng::mix64(x ^ i));
        }
        std::hint::black_box(x);
        let (wall_s, cpu_s) = clock.stop();
        assert!(wall_s > 0.0 && cpu_s >= 0.02, "{wall_s} {cpu_s}");
        assert!(peak_mib() > 0.0);
    }

    #[test]
    fn quantiles_are_microseconds() {
        let mut ns = Histogram::new(3).unwrap();
        (1..=1000).for_each(|i| ns.record(i * 1000).unwrap());
        let latency = Latency::from(&ns);
        assert!((latency.p50_us - 500.0).abs() < 2.0, "{latency:?}");
        assert!((latency.max_us - 1000.0).abs() < 2.0, "{latency:?}");
    }
}
