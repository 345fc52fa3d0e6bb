//! A worker: the loop that steps tasks.
//!
//! It steps the first of its tasks that is ready, consumers before producers, and parks when none is. A task
//! that could go on for ever has its turn and then waits until the others had theirs. The
//! order of flag, look and park closes the gap in which a wake-up could be lost: whoever makes a task ready
//! after the look sees the flag.
//!
//! The clock is read twice a turn: at its begin, when what the task waited for is over, and at its end. That serves
//! both the look for tasks that block and the account of a task's time. How a turn ended tells what the time up to the
//! next one is: idle, backpressured, or, for a task that could have gone on and waits for its worker, neither; so that
//! what a task's three times lack is the time in which it could have run and was not stepped. A task that is woken
//! counts as idle or backpressured until it is stepped: when that became possible would cost a look at the clock in
//! whoever woke it.

use super::cell::Cell;
use super::{HostEvent, Shared, TaskEvent};
use millstream_model::{Error, MAX_TIME};
use millstream_runtime::metrics::Spent;
use millstream_runtime::task::{Progress, Task};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A turn, of four steps at most, that takes longer than this has blocked, or as good as that for those who wait for
/// their turns: its task gets a thread of its own.
pub const SLOW_STEP: Duration = Duration::from_millis(100);
/// Steps before another task gets its turn.
const STEPS_PER_TURN: usize = 4;

pub(super) struct Worker {
    shared: Arc<Shared>,
    tasks: Vec<usize>,
    /// For each task whether it used up its turn in this round.
    had_turn: Vec<bool>,
    /// Whether slow tasks are moved to threads of their own.
    may_evict: bool,
    is_parked: Arc<AtomicBool>,
}

/// How a turn ended.
enum Turn {
    Ready,
    Idle(i64),
    Blocked(i64),
    Restored,
    Over(TaskEvent),
}

impl Turn {
    /// What the time until the next turn goes into.
    fn spends(&self) -> Option<Spent> {
        match self {
            Turn::Idle(_) | Turn::Restored => Some(Spent::Idle),
            Turn::Blocked(_) => Some(Spent::Backpressured),
            Turn::Ready | Turn::Over(_) => None,
        }
    }
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, tasks: Vec<usize>, may_evict: bool) -> Self {
        let had_turn = vec![false; tasks.len()];
        Worker { shared, tasks, had_turn, may_evict, is_parked: Arc::default() }
    }

    pub(super) fn spawn(self, name: &str) -> std::io::Result<JoinHandle<()>> {
        thread::Builder::new().name(name.to_string()).spawn(move || self.run())
    }

    fn cell(&self, task: usize) -> &Cell {
        &self.shared.cells[task]
    }

    fn run(mut self) {
        let workers = self.shared.workers.lock();
        workers.unwrap_or_else(PoisonError::into_inner).push(thread::current());
        for &task in &self.tasks {
            let (cell, is_parked) = (self.cell(task), Arc::clone(&self.is_parked));
            if self.tasks.len() == 1 {
                cell.serve_alone(thread::current(), is_parked);
            } else {
                cell.serve(thread::current(), is_parked);
            }
        }
        while self.shared.n_running.load(Ordering::SeqCst) > 0 && !self.is_out_of_work() {
            if !self.round() {
                self.park();
            }
        }
    }

    /// A worker of one evicted or own task ends with it.
    fn is_out_of_work(&self) -> bool {
        self.tasks.len() == 1 && self.cell(self.tasks[0]).is_done()
    }

    fn may_step(&self, cell: &Cell) -> bool {
        self.tasks.len() == 1 || !cell.is_evicted.load(Ordering::Relaxed)
    }

    /// Steps the first ready task that has not used up its turn, else starts a new round of turns; false if
    /// nothing is ready.
    fn round(&mut self) -> bool {
        let mut now_us = None;
        for i in 0..self.tasks.len() {
            let task = self.tasks[i];
            let cell = self.cell(task);
            if self.had_turn[i] || !self.may_step(cell) {
                continue;
            }
            if cell.has_deadline() {
                cell.ring(*now_us.get_or_insert_with(|| self.shared.clock.now_us()));
            }
            if cell.claim() {
                self.had_turn[i] = self.turn(task);
                return true;
            }
        }
        let any_had_turn = self.had_turn.contains(&true);
        self.had_turn.fill(false);
        any_had_turn
    }

    fn park(&self) {
        self.is_parked.store(true, Ordering::SeqCst);
        let served = || self.tasks.iter().map(|&t| self.cell(t)).filter(|c| self.may_step(c));
        let stop = self.shared.n_running.load(Ordering::SeqCst) == 0;
        if !stop && !served().any(Cell::is_ready) {
            match served().map(Cell::deadline_us).min().unwrap_or(MAX_TIME) {
                MAX_TIME => thread::park(),
                at => {
                    let wait = at.saturating_sub(self.shared.clock.now_us());
                    if wait > 0 {
                        thread::park_timeout(Duration::from_micros(wait as u64));
                    }
                }
            }
        }
        self.is_parked.store(false, Ordering::SeqCst);
    }

    /// Steps a claimed task and gives the claim back; true if it could go on but its turn is over.
    fn turn(&self, index: usize) -> bool {
        let cell = self.cell(index);
        let mut place = cell.task();
        let Some(task) = place.as_mut() else {
            cell.release_done();
            return false;
        };
        let start = Instant::now();
        task.times().spend(Some(Spent::Busy), start);
        let turn = if cell.is_cancelled.load(Ordering::SeqCst) {
            Turn::Over(TaskEvent::Cancelled { task: index })
        } else {
            steps(index, task)
        };
        let end = Instant::now();
        task.times().spend(turn.spends(), end);
        let took = end.duration_since(start);
        if let Turn::Over(event) = turn {
            // A task that has not finished stays whole until all of its region have ended: if its channels closed now, a
            // neighbour that runs would fail for it, and that might be told as the cause.
            let finished = place.take_if(|_| matches!(event, TaskEvent::Finished { .. }));
            drop(place);
            drop_task(finished);
            cell.release_done();
            // The receiver may have lost interest; then nobody needs to know.
            let _ = self.shared.events.send((self.shared.attempt, HostEvent::Over(event)));
            if self.shared.n_running.fetch_sub(1, Ordering::SeqCst) == 1 {
                self.shared.unpark_all();
            }
            return false;
        }
        drop(place);
        // Nobody is kept waiting by a task that reads its state: the others do the same, and come to no more before it has.
        let is_slow = took > SLOW_STEP && !matches!(turn, Turn::Restored);
        if is_slow && self.may_evict && !cell.is_evicted.load(Ordering::Relaxed) {
            self.evict(index, took);
        }
        let goes_on = match turn {
            Turn::Idle(deadline_us) | Turn::Blocked(deadline_us) => {
                cell.release_idle(deadline_us);
                false
            }
            Turn::Restored => {
                // Before somebody else may step it, and tell what came of that.
                let restored = HostEvent::Restored { task: index };
                let _ = self.shared.events.send((self.shared.attempt, restored));
                cell.release_held();
                false
            }
            Turn::Ready | Turn::Over(_) => {
                cell.release_ready();
                true
            }
        };
        // The task's own thread may have parked while the task was claimed here: it knows neither the deadline
        // nor that the task was woken meanwhile.
        if cell.is_evicted.load(Ordering::SeqCst) && self.may_evict {
            cell.unpark_all();
        }
        goes_on
    }

    /// Gives a task that blocks its worker a thread of its own.
    fn evict(&self, task: usize, took: Duration) {
        self.cell(task).is_evicted.store(true, Ordering::SeqCst);
        let worker = Worker::new(Arc::clone(&self.shared), vec![task], false);
        match worker.spawn(&format!("millstream-task-{task}")) {
            Ok(_) => tracing::warn!(
                task,
                took_ms = took.as_millis() as u64,
                "a turn took long: its task now has a thread of its own; use `async_map` for calls that wait"
            ),
            Err(error) => {
                self.cell(task).is_evicted.store(false, Ordering::SeqCst);
                tracing::warn!(task, %error, "a slow task could not be given a thread of its own");
            }
        }
    }
}

/// Steps a task until its turn is over.
fn steps(index: usize, task: &mut Task) -> Turn {
    for _ in 0..STEPS_PER_TURN {
        let error = match catch_unwind(AssertUnwindSafe(|| task.step())) {
            Ok(Ok(Progress::Busy)) => continue,
            Ok(Ok(Progress::Idle(until_us))) => return Turn::Idle(until_us),
            Ok(Ok(Progress::Blocked(until_us))) => return Turn::Blocked(until_us),
            Ok(Ok(Progress::Restored)) => return Turn::Restored,
            Ok(Ok(Progress::Done)) => return Turn::Over(TaskEvent::Finished { task: index }),
            Ok(Err(error)) => error.at(&task.current_place()),
            // An error that had no other way out.
            Err(payload) => match payload.downcast::<Error>() {
                Ok(error) => error.at(&task.current_place()),
                Err(payload) => panic_error(&*payload).at(&task.current_place()),
            },
        };
        return Turn::Over(TaskEvent::Failed { task: index, error });
    }
    Turn::Ready
}

/// Drops a task. That runs user code (destructors), so it may panic too.
pub(super) fn drop_task(task: Option<Task>) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(task)));
}

/// What a panic said.
fn panic_error(payload: &(dyn Any + Send)) -> Error {
    let message = payload
        .downcast_ref::<&str>()
        .map(|s| (*s).to_string())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is no text".into());
    Error::user(format!("panicked: {message}"))
}
