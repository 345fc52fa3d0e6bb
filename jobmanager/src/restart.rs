//! Whether a job that failed is run again, and after how long.
//!
//! Every failure is treated alike, whoever's it is: what looks like an error of the program's may come from
//! data that is gone at the next attempt, and only the strategy knows when to give up. What no attempt can
//! heal, such as a damaged checkpoint, does not come here: see [`Input::Fail`](crate::scheduler::Input).

pub use millstream_model::settings::RestartStrategy;
use std::collections::VecDeque;

/// The failures of one job, as far as its strategy cares. A pure machine.
#[derive(Clone, Debug, Default)]
pub struct Restarts {
    strategy: RestartStrategy,
    /// Restarts so far; with the exponential strategy, those in a row.
    n_restarts: u32,
    /// When the last of them was due.
    up_since_ms: u64,
    /// The failures within the interval of the failure rate.
    failed_at_ms: VecDeque<u64>,
}

impl Restarts {
    /// Nothing has failed yet.
    pub fn new(strategy: RestartStrategy) -> Self {
        Restarts { strategy, ..Restarts::default() }
    }

    /// The job failed: after how many ms it runs again; `None` if it does not.
    pub fn failed(&mut self, now_ms: u64) -> Option<u64> {
        let delay_ms = match self.strategy {
            RestartStrategy::None => return None,
            RestartStrategy::FixedDelay { attempts, delay_ms } => {
                (self.n_restarts < attempts).then_some(delay_ms)?
            }
            RestartStrategy::ExponentialDelay {
                initial_ms,
                max_ms,
                multiplier,
                reset_after_ms,
                jitter_percent,
            } => {
                if now_ms.saturating_sub(self.up_since_ms) >= reset_after_ms {
                    self.n_restarts = 0;
                }
                let n_longer = self.n_restarts.min(1000).checked_sub(1);
                let plain_ms = n_longer.map_or(0.0, |n| {
                    let longer_ms = initial_ms as f64 * multiplier.max(1.0).powi(n as i32);
                    longer_ms.min(max_ms as f64)
                });
                (plain_ms * (1.0 + f64::from(jitter_percent) / 100.0)) as u64
            }
            RestartStrategy::FailureRate { max_failures, interval_ms, delay_ms } => {
                let failed_at_ms = &mut self.failed_at_ms;
                while failed_at_ms.front().is_some_and(|t| t.saturating_add(interval_ms) <= now_ms)
                {
                    failed_at_ms.pop_front();
                }
                failed_at_ms.push_back(now_ms);
                (failed_at_ms.len() <= max_failures as usize).then_some(delay_ms)?
            }
        };
        self.n_restarts = self.n_restarts.saturating_add(1);
        self.up_since_ms = now_ms.saturating_add(delay_ms);
        Some(delay_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of failures at these times.
    fn delays<const N: usize>(strategy: RestartStrategy, times_ms: [u64; N]) -> [Option<u64>; N] {
        let mut restarts = Restarts::new(strategy);
        times_ms.map(|now_ms| restarts.failed(now_ms))
    }

    #[test]
    fn without_a_strategy_the_first_failure_is_the_last() {
        assert_eq!(delays(RestartStrategy::None, [5]), [None]);
    }

    #[test]
    fn a_fixed_number_is_a_number_in_all() {
        let twice = RestartStrategy::FixedDelay { attempts: 2, delay_ms: 50 };
        assert_eq!(delays(twice, [0, 10, 1_000_000]), [Some(50), Some(50), None]);
        let never = RestartStrategy::FixedDelay { attempts: 0, delay_ms: 50 };
        assert_eq!(delays(never, [0]), [None]);
    }

    #[test]
    fn failures_in_a_row_are_retried_at_once_and_then_later_and_later() {
        let mut restarts = Restarts::new(RestartStrategy::exponential());
        let mut now_ms = 5000;
        let mut delays_ms = Vec::new();
        for _ in 0..13 {
            let delay_ms = restarts.failed(now_ms).unwrap();
            // Fails a moment before it would count as having run.
            now_ms += delay_ms + 59_999;
            delays_ms.push(delay_ms);
        }
        let doubling = [0, 100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200];
        assert_eq!(delays_ms[..11], doubling);
        assert_eq!(delays_ms[11..], [60_000, 60_000]);
        // It ran for long enough, counted from when it was up again.
        assert_eq!(restarts.failed(now_ms + 1), Some(0));
        assert_eq!(restarts.failed(now_ms + 2), Some(100));
    }

    #[test]
    fn jitter_lengthens_what_there_is_and_no_number_of_failures_overflows() {
        let strategy = RestartStrategy::ExponentialDelay {
            initial_ms: 100,
            max_ms: 1000,
            multiplier: 10.0,
            reset_after_ms: u64::MAX,
            jitter_percent: 20,
        };
        let expected = [Some(0), Some(120), Some(1200), Some(1200)];
        assert_eq!(delays(strategy.clone(), [0, 1, 2, 3]), expected);
        let mut restarts = Restarts::new(strategy);
        assert_eq!(restarts.failed(1), Some(0));
        restarts.n_restarts = u32::MAX;
        assert_eq!(restarts.failed(u64::MAX), Some(1200));
        assert_eq!(restarts.failed(u64::MAX), Some(1200));
    }

    #[test]
    fn a_multiplier_that_makes_no_sense_keeps_the_delay() {
        for multiplier in [0.5, -3.0, f64::NAN] {
            let strategy = RestartStrategy::ExponentialDelay {
                initial_ms: 100,
                max_ms: 1000,
                multiplier,
                reset_after_ms: 60_000,
                jitter_percent: 0,
            };
            assert_eq!(delays(strategy, [0, 1, 2]), [Some(0), Some(100), Some(100)]);
        }
    }

    #[test]
    fn a_failure_rate_looks_back_over_its_interval_only() {
        let strategy =
            RestartStrategy::FailureRate { max_failures: 2, interval_ms: 1000, delay_ms: 7 };
        let times_ms = [0, 999, 1000, 1998, 1999];
        assert_eq!(delays(strategy, times_ms), [Some(7), Some(7), Some(7), None, None]);
    }
}
