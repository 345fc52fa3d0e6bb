//! The schedule of W5, and latencies against it.
//!
//! Latency is counted from the moment an event was due, not from when it was sent: a source that
//! is held up is charged for it, so stalls cannot hide (no coordinated omission).

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

const TICK_NS: u64 = 1_000_000;

/// When the events of a paced source are due: `rate` a second in ticks of one millisecond.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    origin: Instant,
    events_per_tick: u64,
    /// Latencies of events due before this are warm-up.
    warm_ns: u64,
}

impl Schedule {
    /// `n` events at `rate` a second (at least 1000) from now on; the first quarter is warm-up.
    pub fn new(n: u64, rate: u64) -> Self {
        let events_per_tick = rate / 1000;
        let warm_ns = n / 4 / events_per_tick * TICK_NS;
        Self { origin: Instant::now(), events_per_tick, warm_ns }
    }

    /// When event `i` is due, in nanoseconds since the start: at the end of its tick.
    #[inline(always)]
    pub fn due_ns(&self, i: u64) -> u64 {
        (i / self.events_per_tick + 1) * TICK_NS
    }

    /// The same moment on the clock.
    #[inline]
    pub fn due(&self, i: u64) -> Instant {
        self.origin + Duration::from_nanos(self.due_ns(i))
    }

    /// Nanoseconds since the start.
    #[inline(always)]
    pub fn now_ns(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }
}

/// Latencies that a sink subtask saw, in nanoseconds, to three digits.
#[derive(Clone, Debug)]
pub struct Latencies {
    schedule: Schedule,
    histogram: Histogram<u64>,
}

impl Latencies {
    /// No latencies yet.
    pub fn new(schedule: Schedule) -> Self {
        Self { schedule, histogram: histogram() }
    }

    /// An event that was due at `due_ns` has arrived.
    #[inline]
    pub fn arrived(&mut self, due_ns: u64) {
        if due_ns > self.schedule.warm_ns {
            self.histogram.saturating_record(self.schedule.now_ns().saturating_sub(due_ns));
        }
    }

    /// The latencies of all subtasks together.
    pub fn merge(parts: impl IntoIterator<Item = Self>) -> Histogram<u64> {
        parts.into_iter().fold(histogram(), |mut all, part| {
            all += part.histogram;
            all
        })
    }
}

/// A histogram of nanoseconds up to a minute.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(60_000_000_000, 3).expect("the bounds are valid")
}

/// A thread that does nothing but sleep from tick to tick: how late it wakes is what the machine
/// does to every latency, whoever is measured.
#[derive(Debug)]
pub struct SleepControl {
    stop: crossbeam_channel::Sender<()>,
    thread: std::thread::JoinHandle<Histogram<u64>>,
}

impl SleepControl {
    /// Starts sleeping.
    pub fn start() -> Self {
        let (stop, stopped) = crossbeam_channel::bounded(0);
        let thread = std::thread::spawn(move || {
            let mut late = histogram();
            let mut due = Instant::now();
            loop {
                due += Duration::from_nanos(TICK_NS);
                match stopped.recv_deadline(due) {
                    Err(crossbeam_channel::RecvTimeoutError::Timeout) => {
                        late.saturating_record(due.elapsed().as_nanos() as u64);
                    }
                    _ => break late,
                }
            }
        });
        Self { stop, thread }
    }

    /// Stops; how late each wake-up was, in nanoseconds.
    pub fn stop(self) -> Histogram<u64> {
        drop(self.stop);
        self.thread.join().expect("the sleeping thread panicked")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_due_in_ticks() {
        let schedule = Schedule::new(80_000, 10_000);
        let due: Vec<u64> = [0, 9, 10, 79_999].map(|i| schedule.due_ns(i)).into();
        assert_eq!(due, [TICK_NS, TICK_NS, 2 * TICK_NS, 8_000 * TICK_NS]);
    }

    #[test]
    fn warm_up_is_left_out() {
        let schedule = Schedule::new(40_000, 10_000);
        let mut latencies = Latencies::new(schedule);
        latencies.arrived(schedule.due_ns(9_999));
        latencies.arrived(schedule.due_ns(10_000));
        assert_eq!(Latencies::merge([latencies.clone(), latencies]).len(), 2);
    }
}
