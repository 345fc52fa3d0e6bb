//! One task's place in a host: the task, who may step it, and who is to be told when it can go on.

use millstream_model::MAX_TIME;
use millstream_runtime::task::{Task, Wake};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::Thread;

/// Nothing to do until woken.
const IDLE: u8 = 0;
/// To be stepped.
const READY: u8 = 1;
/// Being stepped.
const RUNNING: u8 = 2;
/// Being stepped, and woken meanwhile.
const RUNNING_WOKEN: u8 = 3;
/// Will not be stepped again.
const DONE: u8 = 4;
/// Will not be stepped until it is admitted, whoever wakes it.
const HELD: u8 = 5;

pub(super) struct Cell {
    state: AtomicU8,
    task: Mutex<Option<Task>>,
    /// When to step it although nobody woke it (µs).
    deadline_us: AtomicI64,
    /// It is to end at its next step.
    pub(super) is_cancelled: AtomicBool,
    /// It is not held any more.
    is_admitted: AtomicBool,
    /// It has a thread of its own; the workers leave it alone.
    pub(super) is_evicted: AtomicBool,
    /// Threads that may be parked while this task is ready, its own worker first.
    parked: Mutex<Vec<(Thread, std::sync::Arc<AtomicBool>)>>,
}

impl Default for Cell {
    fn default() -> Self {
        Cell {
            state: AtomicU8::new(READY),
            task: Mutex::new(None),
            deadline_us: AtomicI64::new(MAX_TIME),
            is_cancelled: AtomicBool::new(false),
            is_admitted: AtomicBool::new(false),
            is_evicted: AtomicBool::new(false),
            parked: Mutex::default(),
        }
    }
}

impl Cell {
    pub(super) fn install(&self, task: Task) {
        *self.task() = Some(task);
    }

    /// Nobody will ever step a task that is not here.
    pub(super) fn close_if_empty(&self) {
        if self.task().is_none() {
            self.state.store(DONE, Ordering::SeqCst);
        }
    }

    pub(super) fn task(&self) -> MutexGuard<'_, Option<Task>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a thread that may step this task, with the flag that it sets before it parks.
    pub(super) fn serve(&self, thread: Thread, is_parked: std::sync::Arc<AtomicBool>) {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner).push((thread, is_parked));
    }

    /// Registers the one thread that steps this task from now on: waking any other would be in vain.
    pub(super) fn serve_alone(&self, thread: Thread, is_parked: std::sync::Arc<AtomicBool>) {
        *self.parked.lock().unwrap_or_else(PoisonError::into_inner) = vec![(thread, is_parked)];
    }

    /// Claims the task if it is to be stepped.
    pub(super) fn claim(&self) -> bool {
        self.state.compare_exchange(READY, RUNNING, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Makes the task ready if its deadline has passed.
    pub(super) fn ring(&self, now_us: i64) {
        if self.deadline_us.load(Ordering::Relaxed) <= now_us {
            let _ = self.state.compare_exchange(IDLE, READY, Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    pub(super) fn deadline_us(&self) -> i64 {
        if self.state.load(Ordering::SeqCst) == IDLE {
            self.deadline_us.load(Ordering::Relaxed)
        } else {
            MAX_TIME
        }
    }

    pub(super) fn has_deadline(&self) -> bool {
        self.deadline_us.load(Ordering::Relaxed) != MAX_TIME
    }

    pub(super) fn is_done(&self) -> bool {
        self.state.load(Ordering::SeqCst) == DONE
    }

    /// Lets every thread that serves this task look whether there is anything left to do.
    pub(super) fn unpark_all(&self) {
        for (thread, _) in &*self.parked.lock().unwrap_or_else(PoisonError::into_inner) {
            thread.unpark();
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.state.load(Ordering::SeqCst) == READY
    }

    /// Gives the claim back: to be stepped again at once.
    pub(super) fn release_ready(&self) {
        self.state.store(READY, Ordering::SeqCst);
    }

    /// Gives the claim back: nothing to do until woken or until the deadline.
    pub(super) fn release_idle(&self, deadline_us: i64) {
        self.deadline_us.store(deadline_us, Ordering::Relaxed);
        if self.state.compare_exchange(RUNNING, IDLE, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            // Woken while it ran: what woke it may have come too late for that step.
            self.release_ready();
        }
    }

    /// Gives the claim back: not to be stepped until it is admitted.
    pub(super) fn release_held(&self) {
        self.state.store(HELD, Ordering::SeqCst);
        // It may have been admitted before it was held.
        if self.is_admitted.load(Ordering::SeqCst) {
            self.open();
        }
    }

    /// Lets it be stepped if it is held, and does not let it be held any more.
    pub(super) fn admit(&self) {
        self.is_admitted.store(true, Ordering::SeqCst);
        self.open();
    }

    fn open(&self) {
        if self.state.compare_exchange(HELD, READY, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.unpark_first();
        }
    }

    /// Unparks the first parked thread that serves this task; the order prefers its home worker.
    fn unpark_first(&self) {
        for (thread, is_parked) in &*self.parked.lock().unwrap_or_else(PoisonError::into_inner) {
            if is_parked.swap(false, Ordering::SeqCst) {
                thread.unpark();
                return;
            }
        }
    }

    /// Gives the claim back for good.
    pub(super) fn release_done(&self) {
        self.state.store(DONE, Ordering::SeqCst);
    }
}

impl Wake for Cell {
    fn wake(&self) {
        loop {
            match self.state.load(Ordering::SeqCst) {
                IDLE => {
                    if self
                        .state
                        .compare_exchange(IDLE, READY, Ordering::SeqCst, Ordering::SeqCst)
                        .is_ok()
                    {
                        break;
                    }
                }
                RUNNING => {
                    let woken = self.state.compare_exchange(
                        RUNNING,
                        RUNNING_WOKEN,
                        Ordering::SeqCst,
                        Ordering::SeqCst,
                    );
                    if woken.is_ok() {
                        return;
                    }
                }
                _ => return,
            }
        }
        self.unpark_first();
    }
}
