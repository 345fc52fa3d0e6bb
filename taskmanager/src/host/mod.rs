//! The task host: the threads that step a job's tasks.
//!
//! Tasks never block, so who steps them is a matter of scheduling only. Both drivers are one loop over the
//! same cells: *cooperative* has a worker per core, each preferring the tasks it is home to and helping
//! out with others when those have nothing to do; *thread per subtask* has a worker per task that serves
//! no other. A task is claimed by an atomic, so it is never stepped by two.
//!
//! A host is of one attempt. Its tasks are ended and dropped one by one, because those of another pipelined region may go on.

mod cell;
mod worker;

use cell::Cell;
pub use worker::SLOW_STEP;

use crossbeam_channel::Sender;
pub use millstream_proto::message::{HostEvent, TaskEvent};
use millstream_runtime::context::Clock;
use millstream_runtime::task::{Task, Wake, Waker};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};
use worker::Worker;

/// Who steps the tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// So many workers share all tasks.
    Cooperative {
        /// Number of worker threads.
        workers: usize,
    },
    /// Every subtask has a thread of its own.
    ThreadPerSubtask,
}

/// What the threads of a host share.
pub(crate) struct Shared {
    cells: Vec<Arc<Cell>>,
    clock: Arc<dyn Clock>,
    attempt: u32,
    events: Sender<(u32, HostEvent)>,
    n_running: AtomicUsize,
    /// Every thread that steps tasks: what a cell knows of them is forgotten when its task gets its own.
    workers: Mutex<Vec<Thread>>,
}

impl Shared {
    /// Lets every thread look around.
    fn unpark_all(&self) {
        for worker in &*self.workers.lock().unwrap_or_else(PoisonError::into_inner) {
            worker.unpark();
        }
    }
}

/// Places for the tasks of a job: wakers exist before the tasks that are connected through them. Places that stay
/// empty are those of tasks that run elsewhere.
pub struct TaskHost {
    cells: Vec<Arc<Cell>>,
    driver: Driver,
}

impl TaskHost {
    /// A host for these tasks of a job with `n_tasks`.
    pub fn new(driver: Driver, n_tasks: usize, here: &BTreeSet<usize>) -> Self {
        // All others share one place.
        let elsewhere: Arc<Cell> = Arc::default();
        let cell = |task| match here.contains(&task) {
            true => Arc::default(),
            false => Arc::clone(&elsewhere),
        };
        TaskHost { cells: (0..n_tasks).map(cell).collect(), driver }
    }

    /// The waker of a task to be.
    pub fn waker(&self, task: usize) -> Waker {
        Arc::clone(&self.cells[task]) as Waker
    }

    /// Starts the threads, for tasks that have places, with their numbers. Each is told to be over exactly once, and before
    /// that to have restored its state, if it has; then it is held until it is [admitted](Running::admit). With
    /// every word goes the attempt.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn start(
        self,
        tasks: Vec<(usize, Task)>,
        clock: Arc<dyn Clock>,
        attempt: u32,
        events: Sender<(u32, HostEvent)>,
    ) -> std::io::Result<Running> {
        let n = tasks.len();
        // The task of the i-th turn.
        let numbers: Vec<usize> = tasks.iter().map(|(number, _)| *number).collect();
        for (number, task) in tasks {
            self.cells[number].install(task);
        }
        for cell in &self.cells {
            cell.close_if_empty();
        }
        let shared = Arc::new(Shared {
            cells: self.cells,
            clock,
            attempt,
            events,
            n_running: AtomicUsize::new(n),
            workers: Mutex::default(),
        });
        let n_workers = match self.driver {
            Driver::Cooperative { workers } => workers.clamp(1, n.max(1)),
            Driver::ThreadPerSubtask => n,
        };
        let mut threads = Vec::new();
        for index in 0..n_workers {
            let tasks = match self.driver {
                Driver::ThreadPerSubtask => vec![numbers[index]],
                // Its own first, then everybody else's.
                Driver::Cooperative { .. } => {
                    let home = (0..n).filter(|t| t % n_workers == index);
                    let others = (1..n_workers).flat_map(|d| {
                        (0..n).filter(move |t| t % n_workers == (index + d) % n_workers)
                    });
                    home.chain(others).map(|i| numbers[i]).collect()
                }
            };
            let may_evict = matches!(self.driver, Driver::Cooperative { .. });
            let worker = Worker::new(Arc::clone(&shared), tasks, may_evict);
            match worker.spawn(&format!("millstream-{index}")) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    // Nobody else could end those that run already.
                    let running = Running { shared, threads };
                    running.cancel(numbers);
                    running.join();
                    return Err(error);
                }
            }
        }
        Ok(Running { shared, threads })
    }
}

/// A host at work.
pub struct Running {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    /// Ends tasks at their next step. Each still answers with one event.
    pub fn cancel(&self, tasks: impl IntoIterator<Item = usize>) {
        for cell in tasks.into_iter().filter_map(|task| self.shared.cells.get(task)) {
            cell.is_cancelled.store(true, Ordering::SeqCst);
            // As if its input had come: whoever steps it next sees the flag.
            cell.admit();
            cell.wake();
        }
    }

    /// Lets tasks go on that are held because others had not restored their state.
    pub fn admit(&self, tasks: impl IntoIterator<Item = usize>) {
        tasks.into_iter().filter_map(|task| self.shared.cells.get(task)).for_each(|c| c.admit());
    }

    /// Drops what is left of tasks that have answered.
    pub fn drop_tasks(&self, tasks: impl IntoIterator<Item = usize>) {
        let cells = tasks.into_iter().filter_map(|task| self.shared.cells.get(task));
        for cell in cells.filter(|cell| cell.is_done()) {
            worker::drop_task(cell.task().take());
        }
    }

    /// Waits for the threads and drops what is left of the tasks: call it when every task has answered.
    pub fn join(self) {
        for thread in self.threads {
            // A worker catches what its tasks throw; a panic of its own has been printed by the hook.
            let _ = thread.join();
        }
        for cell in &self.shared.cells {
            worker::drop_task(cell.task().take());
        }
    }
}

#[cfg(test)]
mod tests;
