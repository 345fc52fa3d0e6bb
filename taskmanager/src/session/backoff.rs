//! How long to wait before the next try.
//!
//! Almost not at all at first, for most interruptions are short, and never long, since a try is cheap and hosts wait. Not
//! the same for all: task managers that lost one job manager should not all come back in the same millisecond.

use millstream_proto::message::TaskManagerId;
use std::time::Duration;

const FIRST_MS: u64 = 10;
const LAST_MS: u64 = 320;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Backoff {
    seed: u64,
    n_failures: u32,
}

impl Backoff {
    /// Spread by the name of the process.
    pub(super) fn new(id: TaskManagerId) -> Self {
        Backoff { seed: id.0 as u64 ^ (id.0 >> 64) as u64, n_failures: 0 }
    }

    /// Whether nothing has failed since the beginning or the last session.
    pub(super) fn is_new(&self) -> bool {
        self.n_failures == 0
    }

    /// A session has begun.
    pub(super) fn reset(&mut self) {
        self.n_failures = 0;
    }

    /// The time until the next try: between half and all of a time that doubles up to a limit.
    pub(super) fn next(&mut self) -> Duration {
        let full = (FIRST_MS << self.n_failures.min(16)).min(LAST_MS);
        self.n_failures = self.n_failures.saturating_add(1);
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        Duration::from_millis(full / 2 + (self.seed >> 33) % (full / 2 + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_tries_are_fast_and_the_last_not_rare() {
        for id in 0..50 {
            let mut backoff = Backoff::new(TaskManagerId(id));
            let mut total = Duration::ZERO;
            for (n, most) in [10, 20, 40, 80, 160, 320, 320, 320].into_iter().enumerate() {
                let wait = backoff.next();
                assert!(
                    wait <= Duration::from_millis(most) && wait * 2 >= Duration::from_millis(most),
                    "{n}: {wait:?}"
                );
                total += wait;
            }
            assert!(total < Duration::from_secs(2) && !backoff.is_new());
            backoff.reset();
            assert!(backoff.next() <= Duration::from_millis(FIRST_MS));
        }
    }

    #[test]
    fn task_managers_do_not_come_back_at_the_same_moment() {
        let waits = |id| {
            let mut backoff = Backoff::new(TaskManagerId(id));
            (0..8).map(|_| backoff.next()).collect::<Vec<_>>()
        };
        assert_ne!(waits(1), waits(2));
        assert_eq!(waits(1), waits(1));
    }
}
