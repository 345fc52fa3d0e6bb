//! The host under both drivers: waking, slow steps, panics, cancelling.

use super::{Driver, HostEvent, SLOW_STEP, TaskEvent, TaskHost};
use crossbeam_channel::{Receiver, Sender, TryRecvError, unbounded};
use millstream_model::{CheckpointId, Error, MAX_TIME, Result, Signal};
use millstream_runtime::chain::Flow;
use millstream_runtime::context::{JobContext, SystemClock, TaskContext};
use millstream_runtime::task::{Head, Polled, Restore, Task, Waker};
use millstream_state::snapshot::MemoryStorage;
use std::sync::Arc;
use std::time::{Duration, Instant};

const DRIVERS: [Driver; 3] = [
    Driver::Cooperative { workers: 2 },
    Driver::Cooperative { workers: 1 },
    Driver::ThreadPerSubtask,
];

/// What a test tells its task to do.
enum Order {
    /// Answer.
    Ping,
    /// Block the thread for longer than a step may take.
    Dawdle,
    Panic,
    Fail,
    End,
}

struct Obedient {
    orders: Receiver<Order>,
    answers: Sender<()>,
}

impl Head for Obedient {
    fn open(&mut self) -> Result<()> {
        Ok(())
    }
    fn poll(&mut self) -> Result<Polled> {
        match self.orders.try_recv() {
            Ok(Order::Ping) => self.answers.send(()).unwrap(),
            Ok(Order::Dawdle) => {
                let start = Instant::now();
                while start.elapsed() <= SLOW_STEP {
                    std::hint::spin_loop();
                }
                self.answers.send(()).unwrap();
            }
            Ok(Order::Panic) => panic!("as ordered"),
            Ok(Order::Fail) => return Err(Error::user("failed as ordered")),
            Ok(Order::End) => return Ok(Polled::End),
            Err(_) => return Ok(Polled::Nothing { until_us: MAX_TIME }),
        }
        Ok(Polled::Took(Flow::Ready))
    }
    fn signal(&mut self, _: Signal) -> Result<Flow> {
        Ok(Flow::Ready)
    }
    fn visit(&mut self, _: &mut dyn millstream_runtime::chain::ChainVisitor) -> Result<()> {
        Ok(())
    }
    fn resume(&mut self) -> Result<Flow> {
        Ok(Flow::Ready)
    }
    fn end(&mut self) -> Result<Flow> {
        Ok(Flow::Ready)
    }
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A host at work and the strings its tasks hang on.
struct Fixture {
    running: super::Running,
    events: Receiver<(u32, HostEvent)>,
    tasks: Vec<(Sender<Order>, Receiver<()>, Waker)>,
}

/// The attempt that tasks are of.
const ATTEMPT: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(60);

impl Fixture {
    fn start(driver: Driver, n_tasks: usize) -> Self {
        Fixture::begin(driver, n_tasks, None)
    }

    fn begin(driver: Driver, n_tasks: usize, restore: Option<Restore>) -> Self {
        let host = TaskHost::new(driver, n_tasks, &(0..n_tasks).collect());
        let job = Arc::new(JobContext {
            name: "test".into(),
            parameters: Default::default(),
            clock: Arc::new(SystemClock::default()),
            registry: Default::default(),
            alignment: Default::default(),
            batch_size: 1,
            checkpoints: None,
        });
        let (mut tasks, mut strings) = (Vec::new(), Vec::new());
        for i in 0..n_tasks {
            let ((orders, inbox), (answers, outbox)) = (unbounded(), unbounded());
            let waker = host.waker(i);
            let context = TaskContext::new(Arc::clone(&job), i, n_tasks, 128, 0, waker.clone());
            let places = vec![context.place("obedient")];
            let head = Box::new(Obedient { orders: inbox, answers });
            let mut task = Task::new(head, context, places, Vec::new());
            if let Some(restore) = &restore {
                task = task.restored_from(restore.clone());
            }
            tasks.push((i, task));
            strings.push((orders, outbox, waker));
        }
        let (sender, events) = unbounded();
        let running = host.start(tasks, Arc::clone(&job.clock), ATTEMPT, sender).unwrap();
        Fixture { running, events, tasks: strings }
    }

    fn order(&self, task: usize, order: Order) {
        let (orders, _, waker) = &self.tasks[task];
        // A task that has ended listens to nobody.
        let _ = orders.send(order);
        waker.wake();
    }

    fn answer(&self, task: usize) {
        self.tasks[task].1.recv_timeout(PATIENCE).expect("a woken task is stepped");
    }

    fn told(&self) -> HostEvent {
        let (attempt, event) = self.events.recv_timeout(PATIENCE).expect("every task answers");
        assert_eq!(attempt, ATTEMPT);
        event
    }

    fn event(&self) -> TaskEvent {
        match self.told() {
            HostEvent::Over(event) => event,
            restored => panic!("{restored:?}"),
        }
    }

    fn end(self) {
        (0..self.tasks.len()).for_each(|t| self.order(t, Order::End));
        for _ in 0..self.tasks.len() {
            assert!(matches!(self.event(), TaskEvent::Finished { .. }));
        }
        self.running.join();
    }
}

#[test]
fn an_idle_task_is_woken_from_outside() {
    for driver in DRIVERS {
        let fixture = Fixture::start(driver, 3);
        for i in 0..3000 {
            fixture.order(i % 3, Order::Ping);
            fixture.answer(i % 3);
        }
        fixture.end();
    }
}

#[test]
fn a_task_that_blocks_its_worker_is_woken_on_the_thread_it_is_given() {
    for driver in DRIVERS {
        let fixture = Fixture::start(driver, 3);
        fixture.order(1, Order::Dawdle);
        fixture.answer(1);
        for i in 0..3000 {
            fixture.order(i % 3, Order::Ping);
            fixture.answer(i % 3);
        }
        fixture.end();
    }
}

/// Its threads were woken through the tasks they serve, and served none any more: so they slept on when all was over.
#[test]
fn the_workers_end_although_every_task_has_a_thread_of_its_own() {
    for is_cancelled in [false, true] {
        for driver in DRIVERS {
            let fixture = Fixture::start(driver, 2);
            for task in 0..2 {
                fixture.order(task, Order::Dawdle);
                fixture.answer(task);
            }
            // Stepped again, each has been given its thread.
            for task in [0, 1, 0, 1] {
                fixture.order(task, Order::Ping);
                fixture.answer(task);
            }
            let (joined, is_joined) = unbounded();
            std::thread::spawn(move || {
                if is_cancelled {
                    fixture.running.cancel(0..2);
                    (0..2).for_each(|_| drop(fixture.event()));
                    fixture.running.join();
                } else {
                    fixture.end();
                }
                joined.send(()).unwrap();
            });
            is_joined.recv_timeout(PATIENCE).expect("the threads end");
        }
    }
}

#[test]
fn failures_and_panics_name_the_operator_and_leave_the_others_alone() {
    for driver in DRIVERS {
        let fixture = Fixture::start(driver, 3);
        for (task, order, says) in
            [(0, Order::Fail, "failed as ordered"), (2, Order::Panic, "panicked: as ordered")]
        {
            fixture.order(task, order);
            let TaskEvent::Failed { task: failed, error } = fixture.event() else {
                panic!("it fails")
            };
            assert_eq!(failed, task);
            let expected = format!("operator `obedient`, subtask {}/3: {says}", task + 1);
            assert_eq!(error.to_string(), expected);
        }
        fixture.order(1, Order::Ping);
        fixture.answer(1);
        fixture.order(1, Order::End);
        assert!(matches!(fixture.event(), TaskEvent::Finished { task: 1 }));
        fixture.running.join();
    }
}

#[test]
fn cancelling_ends_idle_busy_and_evicted_tasks() {
    for driver in DRIVERS {
        let fixture = Fixture::start(driver, 4);
        fixture.order(3, Order::Dawdle);
        fixture.answer(3);
        (0..100).for_each(|_| fixture.order(2, Order::Ping));
        fixture.running.cancel(0..4);
        for _ in 0..4 {
            assert!(matches!(fixture.event(), TaskEvent::Cancelled { .. }));
        }
        fixture.running.join();
    }
}

/// What a task drops with it, seen from outside: its end of the answers.
#[test]
fn some_tasks_end_and_are_dropped_while_others_go_on() {
    for driver in DRIVERS {
        let fixture = Fixture::start(driver, 3);
        fixture.running.cancel([0, 2]);
        for _ in 0..2 {
            let TaskEvent::Cancelled { task } = fixture.event() else { panic!("it was cancelled") };
            assert!([0, 2].contains(&task));
        }
        fixture.order(1, Order::Ping);
        fixture.answer(1);
        let is_dropped = |task: usize| {
            matches!(fixture.tasks[task].1.try_recv(), Err(TryRecvError::Disconnected))
        };
        assert!(![0, 1, 2].map(is_dropped).contains(&true));
        // The one that runs was not asked to end: it stays whole.
        fixture.running.drop_tasks(0..3);
        assert_eq!([0, 1, 2].map(is_dropped), [true, false, true]);
        fixture.order(1, Order::End);
        assert!(matches!(fixture.event(), TaskEvent::Finished { task: 1 }));
        fixture.running.join();
    }
}

#[test]
fn tasks_that_have_restored_their_state_are_held_until_they_are_admitted() {
    for driver in DRIVERS {
        let fixture =
            Fixture::begin(driver, 3, Some(MemoryStorage::empty_checkpoint(CheckpointId(1))));
        let restored = |_| match fixture.told() {
            HostEvent::Restored { task } => task,
            over => panic!("{over:?}"),
        };
        let mut tasks: Vec<usize> = (0..3).map(restored).collect();
        tasks.sort_unstable();
        assert_eq!(tasks, [0, 1, 2]);
        // Whoever wakes them.
        (0..3).for_each(|task| fixture.order(task, Order::Ping));
        fixture.running.admit([1]);
        fixture.answer(1);
        fixture.order(1, Order::Ping);
        fixture.answer(1);
        let is_silent = |task: usize| fixture.tasks[task].1.try_recv().is_err();
        assert!(is_silent(0) && is_silent(2));
        fixture.running.cancel([2]);
        assert!(matches!(fixture.event(), TaskEvent::Cancelled { task: 2 }));
        assert!(is_silent(0) && is_silent(2));
        fixture.running.admit([0]);
        fixture.answer(0);
        (0..2).for_each(|task| fixture.order(task, Order::End));
        (0..2).for_each(|_| assert!(matches!(fixture.event(), TaskEvent::Finished { .. })));
        fixture.running.join();
    }
}
