//! The weather of a world: operations that do nothing and say so, or do their work and the answer is lost.
//!
//! Failures come alone or as outages of a few operations. Storages have one, and what takes the output has another.

use super::prng::Prng;
use millstream::prelude::*;
use std::sync::{Arc, Mutex, PoisonError};

/// Every error that the weather makes says this.
pub(super) const SIMULATED: &str = "a simulated failure";

/// How often operations fail.
pub(super) struct Weather {
    prng: Prng,
    /// Of 1000 operations.
    pub(super) n_refused: usize,
    pub(super) n_answers_lost: usize,
    /// Whether failures come in rows.
    pub(super) has_outages: bool,
    n_more: usize,
}

enum Strike {
    Refused,
    AnswerLost,
}

impl Weather {
    /// Nothing fails yet.
    pub(super) fn calm(prng: Prng) -> Arc<Mutex<Self>> {
        let weather =
            Weather { prng, n_refused: 0, n_answers_lost: 0, has_outages: false, n_more: 0 };
        Arc::new(Mutex::new(weather))
    }

    fn strike(&mut self) -> Option<Strike> {
        let strike = if self.n_more > 0 {
            self.n_more -= 1;
            self.prng.pick(&[true, true, false])
        } else if self.prng.permille(self.n_refused) {
            true
        } else if self.prng.permille(self.n_answers_lost) {
            false
        } else {
            return None;
        };
        if self.has_outages && self.n_more == 0 && self.prng.permille(300) {
            self.n_more = 1 + self.prng.below(12);
        }
        Some(if strike { Strike::Refused } else { Strike::AnswerLost })
    }

    /// Nothing fails from now on.
    pub(super) fn clear(&mut self) {
        (self.n_refused, self.n_answers_lost, self.n_more) = (0, 0, 0);
    }
}

/// Does something, unless it fails: what it does may be done all the same.
pub(super) fn struck<T>(
    weather: &Mutex<Weather>,
    what: &str,
    action: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let strike = weather.lock().unwrap_or_else(PoisonError::into_inner).strike();
    let lost = match strike {
        None => return action(),
        Some(Strike::Refused) => "before it did anything",
        Some(Strike::AnswerLost) => {
            action()?;
            "after it was done"
        }
    };
    Err(Error::external(format!("{SIMULATED} at `{what}`, {lost}")))
}
