//! The task host: the threads that step a job's tasks.
//!
//! Tasks never block, so who steps them is a matter of scheduling only. Both drivers are one loop over the
//! same cells: *cooperative* has a worker per core, each preferring the tasks it is home to and helping
//! out with others when those have nothing to do; *thread per subtask* has a worker per task that serves
//! no other. A task is claimed by an atomic, so it is never stepped by two.

mod cell;
mod worker;

use cell::Cell;
pub use worker::SLOW_STEP;

use crossbeam_channel::Sender;
use millstream_model::Error;
use millstream_runtime::context::Clock;
use millstream_runtime::task::{Task, Waker};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};
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

/// What becomes of a task.
#[derive(Debug)]
pub enum TaskEvent {
    /// It took all its input and sent all its output.
    Finished {
        /// Number of the task in the host.
        task: usize,
    },
    /// An operator failed or panicked. It will not be stepped again.
    Failed {
        /// Number of the task in the host.
        task: usize,
        /// Why, and where.
        error: Error,
    },
    /// It was cancelled.
    Cancelled {
        /// Number of the task in the host.
        task: usize,
    },
}

/// What the threads of a host share.
pub(crate) struct Shared {
    cells: Vec<Arc<Cell>>,
    clock: Arc<dyn Clock>,
    events: Sender<TaskEvent>,
    cancelled: AtomicBool,
    n_running: AtomicUsize,
    /// Every thread at work. Through the cells they are not all reached: a task that has a thread of its own knows
    /// only that one.
    threads: Mutex<Vec<Thread>>,
}

impl Shared {
    /// Notes that the current thread is at work: before it looks whether there is anything left to do.
    fn enlist(&self) {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread::current());
    }

    /// Lets every thread look whether there is anything left to do.
    fn unpark_all(&self) {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.iter().for_each(Thread::unpark);
    }
}

/// Places for the tasks of a job: wakers exist before the tasks that are connected through them.
pub struct TaskHost {
    cells: Vec<Arc<Cell>>,
    driver: Driver,
}

impl TaskHost {
    /// A host with room for `n_tasks`.
    pub fn new(driver: Driver, n_tasks: usize) -> Self {
        TaskHost { cells: (0..n_tasks).map(|_| Arc::default()).collect(), driver }
    }

    /// The waker of a task to be.
    pub fn waker(&self, task: usize) -> Waker {
        Arc::clone(&self.cells[task]) as Waker
    }

    /// Starts the threads. Each task answers with one event.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn start(
        self,
        tasks: Vec<Task>,
        clock: Arc<dyn Clock>,
        events: Sender<TaskEvent>,
    ) -> std::io::Result<Running> {
        let n = tasks.len();
        for (cell, task) in self.cells.iter().zip(tasks) {
            cell.install(task);
        }
        let shared = Arc::new(Shared {
            cells: self.cells,
            clock,
            events,
            cancelled: AtomicBool::new(false),
            n_running: AtomicUsize::new(n),
            threads: Mutex::default(),
        });
        let n_workers = match self.driver {
            Driver::Cooperative { workers } => workers.clamp(1, n.max(1)),
            Driver::ThreadPerSubtask => n,
        };
        let mut threads = Vec::new();
        for index in 0..n_workers {
            let tasks = match self.driver {
                Driver::ThreadPerSubtask => vec![index],
                // Its own first, then everybody else's.
                Driver::Cooperative { .. } => {
                    let home = (0..n).filter(|t| t % n_workers == index);
                    let others = (1..n_workers).flat_map(|d| {
                        (0..n).filter(move |t| t % n_workers == (index + d) % n_workers)
                    });
                    home.chain(others).collect()
                }
            };
            let may_evict = matches!(self.driver, Driver::Cooperative { .. });
            let worker = Worker::new(Arc::clone(&shared), tasks, may_evict);
            threads.push(worker.spawn(&format!("millstream-{index}"))?);
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
    /// Ends all tasks at their next step. Each still answers with one event.
    pub fn cancel(&self) {
        self.shared.cancelled.store(true, Ordering::SeqCst);
        self.shared.unpark_all();
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
