//! What a task's time goes into, told by whoever steps it.
//!
//! A task reads no clock for this; its driver says when what it does changes, twice a turn. What a task has been
//! doing since is counted when somebody looks, so that one which is stuck shows it at once and not when it is over.
//! Tasks of one name share a sheet, which therefore counts how many of them do what.

use super::locked;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// What the time of a task goes into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// It is being stepped.
    Busy,
    /// It has nothing to do.
    Idle,
    /// It waits for room downstream.
    Backpressured,
}

/// All of them, with the names of their metrics.
pub(super) const SPENT: [(Spent, &str); 3] = [
    (Spent::Busy, crate::task::BUSY),
    (Spent::Idle, crate::task::IDLE),
    (Spent::Backpressured, crate::task::BACKPRESSURED),
];

#[derive(Clone, Copy, Debug, Default)]
struct Account {
    total_ns: u64,
    /// Tasks whose time goes here now.
    n_tasks: u64,
}

#[derive(Debug, Default)]
struct Sheet {
    accounts: [Account; SPENT.len()],
    /// Up to when everything is counted.
    counted: Option<Instant>,
}

impl Sheet {
    fn count(&mut self, now: Instant) {
        // Of two threads, the one that read the clock first may come second.
        let counted = self.counted.map_or(now, |counted| counted.max(now));
        let passed = counted.duration_since(self.counted.unwrap_or(now)).as_nanos() as u64;
        for account in &mut self.accounts {
            account.total_ns += account.n_tasks * passed;
        }
        self.counted = Some(counted);
    }
}

/// The times of the tasks of one name.
#[derive(Clone, Debug, Default)]
pub(super) struct Sheets(Arc<Mutex<Sheet>>);

impl Sheets {
    /// How much has gone into this so far, in µs.
    pub(super) fn get_us(&self, spent: Spent) -> u64 {
        let mut sheet = locked(&self.0);
        sheet.count(Instant::now());
        sheet.accounts[spent as usize].total_ns / 1000
    }
}

/// The times of one task. Dropped, nothing is counted for it any more.
#[derive(Debug, Default)]
pub struct Times {
    sheets: Sheets,
    spent: Option<Spent>,
}

impl Times {
    pub(super) fn of(sheets: Sheets) -> Self {
        Times { sheets, spent: None }
    }

    /// From `now` on the task's time goes into this; with `None`, into nothing that is counted.
    pub fn spend(&mut self, spent: Option<Spent>, now: Instant) {
        let mut sheet = locked(&self.sheets.0);
        sheet.count(now);
        if let Some(before) = self.spent {
            sheet.accounts[before as usize].n_tasks -= 1;
        }
        if let Some(spent) = spent {
            sheet.accounts[spent as usize].n_tasks += 1;
        }
        self.spent = spent;
    }
}

impl Drop for Times {
    fn drop(&mut self) {
        if self.spent.is_some() {
            self.spend(None, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn times(sheets: &Sheets) -> [u64; 3] {
        let sheet = locked(&sheets.0);
        sheet.accounts.map(|account| account.total_ns / 1000)
    }

    #[test]
    fn time_goes_where_the_task_is() {
        let sheets = Sheets::default();
        let mut task = Times::of(sheets.clone());
        let start = Instant::now();
        let at = |us| start + Duration::from_micros(us);
        for (spent, us) in [
            (Some(Spent::Busy), 0),
            (Some(Spent::Backpressured), 10),
            (Some(Spent::Busy), 40),
            (None, 45),
            (Some(Spent::Idle), 100),
            // The clock of another thread.
            (Some(Spent::Busy), 90),
            (Some(Spent::Idle), 101),
        ] {
            task.spend(spent, at(us));
        }
        assert_eq!(times(&sheets), [16, 0, 30]);
        drop(task);
        assert!(times(&sheets)[1] < 60_000_000);
        assert!(locked(&sheets.0).accounts.iter().all(|account| account.n_tasks == 0));
    }

    #[test]
    fn tasks_of_one_name_add_up_and_what_lasts_is_counted() {
        let sheets = Sheets::default();
        let (mut one, mut two) = (Times::of(sheets.clone()), Times::of(sheets.clone()));
        let start = Instant::now();
        let at = |us| start + Duration::from_micros(us);
        one.spend(Some(Spent::Busy), at(0));
        two.spend(Some(Spent::Busy), at(10));
        one.spend(Some(Spent::Idle), at(30));
        two.spend(None, at(40));
        assert_eq!(times(&sheets), [60, 10, 0]);
        let counted = |sheets: &Sheets| sheets.get_us(Spent::Idle);
        while counted(&sheets) < 1000 {
            std::thread::yield_now();
        }
        assert_eq!(sheets.get_us(Spent::Busy), 60);
    }
}
