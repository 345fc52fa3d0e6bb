//! Random histories of a coordinator with its tasks and its storage, and what must hold in all of them.
//!
//! Tasks upload and acknowledge in any order; acknowledgements are late, lost or come twice, also over
//! restarts, of all tasks and of some; the storage fails with and without having stored. The shell carries out effects in their order
//! and restarts the job only when no manifest is being stored; a hasty one does not even wait for that.

use super::*;
use millstream_model::Barrier;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

type Checkpoint = CheckpointId;

#[derive(Clone, Copy, Debug)]
enum Action {
    /// Time passes; if a wake-up was asked for in it, it comes.
    Pass(u64),
    /// A task takes the oldest barrier it has not, uploads, and sends its answer.
    Take(usize),
    /// A task takes it, but fails to.
    Refuse(usize),
    /// A message arrives; perhaps it will arrive again.
    Deliver {
        nth: usize,
        stays: bool,
    },
    /// A message is lost.
    Lose(usize),
    /// The storage answers.
    Settle(Settlement),
    EndTask(usize),
    Request(SnapshotKind),
    /// These tasks fail: one for each bit.
    Stop(usize),
    /// Whoever is down comes back.
    Start,
}

#[derive(Clone, Copy, Debug)]
enum Settlement {
    Stored,
    /// It says so, at least.
    Failed {
        is_there: bool,
    },
}

#[derive(Clone, Debug)]
struct Message {
    task: usize,
    checkpoint: Checkpoint,
    attempt: u32,
    /// Whether the task had ended; `None` if it declines.
    ended: Option<bool>,
}

struct World {
    coordinator: Coordinator<(usize, Checkpoint, u32)>,
    config: CheckpointConfig,
    n_tasks: usize,
    now_ms: u64,
    wake_at_ms: Option<u64>,
    attempt: u32,
    /// The attempt that each task runs in, if it runs.
    attempts: Vec<Option<u32>>,
    /// Whether the tasks were told to end.
    is_over: bool,
    /// Barriers each task has still to take.
    barriers: Vec<VecDeque<Barrier>>,
    has_ended: Vec<bool>,
    network: Vec<Message>,
    lost: BTreeSet<Checkpoint>,
    storing: Option<(Checkpoint, SnapshotKind)>,
    /// Whether the job is restarted without waiting for the storage.
    is_hasty: bool,
    /// Those without which it went on.
    disowned: BTreeSet<Checkpoint>,
    /// Files of the tasks, by checkpoint.
    files: BTreeMap<Checkpoint, BTreeSet<usize>>,
    /// Manifests of checkpoints; savepoints have theirs elsewhere.
    manifests: BTreeSet<Checkpoint>,
    /// Checkpoints that were begun, with kind and the attempt of each task.
    begun: BTreeMap<Checkpoint, (SnapshotKind, Vec<Option<u32>>)>,
    /// Those whose end the coordinator was told, or decided.
    complete: BTreeSet<Checkpoint>,
    aborted: BTreeSet<Checkpoint>,
    notified: Option<Checkpoint>,
    requests: u64,
    answered: BTreeSet<u64>,
    n_released: usize,
    /// Whether all tasks had ended when they took it.
    ends: BTreeMap<Checkpoint, usize>,
}

impl World {
    fn new(n_tasks: usize, config: CheckpointConfig, is_hasty: bool) -> Self {
        World {
            coordinator: Coordinator::new(config.clone(), n_tasks),
            config,
            n_tasks,
            now_ms: 0,
            wake_at_ms: None,
            attempt: 0,
            attempts: vec![None; n_tasks],
            is_over: false,
            barriers: vec![VecDeque::new(); n_tasks],
            has_ended: vec![false; n_tasks],
            network: Vec::new(),
            lost: BTreeSet::new(),
            storing: None,
            is_hasty,
            disowned: BTreeSet::new(),
            files: BTreeMap::new(),
            manifests: BTreeSet::new(),
            begun: BTreeMap::new(),
            complete: BTreeSet::new(),
            aborted: BTreeSet::new(),
            notified: None,
            requests: 0,
            answered: BTreeSet::new(),
            n_released: 0,
            ends: BTreeMap::new(),
        }
    }

    fn step(&mut self, input: Input<(usize, Checkpoint, u32)>) {
        let mut effects = Vec::new();
        self.coordinator.step(self.now_ms, input, &mut effects);
        for effect in effects {
            self.carry_out(effect);
        }
        self.check();
    }

    fn carry_out(&mut self, effect: Effect<(usize, Checkpoint, u32)>) {
        match effect {
            Effect::Trigger { barrier } => {
                let id = barrier.checkpoint;
                assert!(self.is_whole() && !self.is_over);
                assert!(self.begun.keys().all(|old| *old < id), "numbers grow");
                let over = |old| self.complete.contains(old) || self.aborted.contains(old);
                assert!(self.begun.keys().all(over), "one at a time");
                self.begun.insert(id, (barrier.kind, self.attempts.clone()));
                for barriers in &mut self.barriers {
                    barriers.push_back(barrier);
                }
            }
            Effect::Store { checkpoint, kind, snapshots, .. } => {
                let attempts = self.begun[&checkpoint].1.iter().enumerate();
                let expected: Vec<_> =
                    attempts.map(|(task, attempt)| (task, checkpoint, attempt.unwrap())).collect();
                assert_eq!(snapshots, expected, "all tasks, in order, as they were");
                assert_eq!(self.files[&checkpoint].len(), self.n_tasks, "all of it is there");
                assert!(self.storing.replace((checkpoint, kind)).is_none());
            }
            Effect::NotifyComplete(id) => {
                assert!(self.complete.contains(&id), "told before it was stored");
                assert!(self.begun[&id].0 != SnapshotKind::Savepoint, "commits nothing");
                assert!(self.notified < Some(id));
                assert!(self.is_up() && self.goes_on_from(id));
                self.notified = Some(id);
            }
            Effect::NotifyAborted(id) => assert!(!self.complete.contains(&id)),
            Effect::Discard { checkpoint } => {
                assert!(!self.complete.contains(&checkpoint), "{checkpoint} is complete");
                assert!(self.storing.is_none_or(|(id, _)| id != checkpoint), "may yet be complete");
                self.aborted.insert(checkpoint);
                self.manifests.remove(&checkpoint);
                self.files.remove(&checkpoint);
            }
            Effect::Subsume { checkpoint } => {
                assert_eq!(self.begun[&checkpoint].0, SnapshotKind::Checkpoint);
                assert!(self.complete.contains(&checkpoint));
                assert!(self.coordinator.latest() > Some(checkpoint));
                self.manifests.remove(&checkpoint);
                self.files.remove(&checkpoint);
            }
            Effect::SavepointDone { request, checkpoint } => {
                assert!(self.complete.contains(&checkpoint));
                assert!(self.answered.insert(request), "answered twice");
            }
            Effect::SavepointFailed { request, .. } => {
                assert!(self.answered.insert(request), "answered twice");
            }
            Effect::Release(last) => {
                assert_eq!(self.notified, Some(last), "the last checkpoint is told");
                assert_eq!(self.begun[&last].0, SnapshotKind::Checkpoint);
                assert!(self.goes_on_from(last));
                assert_eq!(self.ends[&last], self.n_tasks, "covers all ends");
                self.n_released += 1;
                self.is_over = true;
            }
            Effect::StopJob(last) => {
                assert_eq!(self.notified, Some(last), "the savepoint is told");
                assert!(matches!(self.begun[&last].0, SnapshotKind::Stop { .. }));
                self.is_over = true;
            }
            Effect::WakeAt(at_ms) => self.wake_at_ms = Some(at_ms),
            Effect::FailJob { .. } => self.is_over = true,
            Effect::Failed { .. } => {}
        }
    }

    fn is_up(&self) -> bool {
        self.attempts.iter().any(Option::is_some)
    }

    fn is_whole(&self) -> bool {
        self.attempts.iter().all(Option::is_some)
    }

    /// Whether no task that runs has gone back to before it.
    fn goes_on_from(&self, checkpoint: Checkpoint) -> bool {
        let were = &self.begun[&checkpoint].1;
        self.attempts.iter().zip(were).all(|(is, was)| is.is_none() || is == was)
    }

    /// What must hold at every moment.
    fn check(&self) {
        // Whatever is to happen by itself, a wake-up was asked for in time.
        let pending = self.coordinator.pending();
        let collects = pending.is_some() && !self.coordinator.is_storing();
        let waits = pending.is_none() && self.config.interval_ms.is_some();
        if self.is_whole() && !self.is_over && (collects || waits) {
            let longest_ms = if collects {
                self.config.timeout_ms
            } else {
                self.config.interval_ms.unwrap().max(self.config.min_pause_ms)
            };
            assert!(self.wake_at_ms.is_some_and(|at_ms| at_ms <= self.now_ms + longest_ms));
        }
        // What is found after a crash is whole, and nothing committed is taken back by it.
        if let Some(newest) = self.manifests.last() {
            assert_eq!(self.files[newest].len(), self.n_tasks, "{newest} lacks files");
        }
        if let Some(notified) = self.notified {
            let found = self.manifests.last().copied();
            let stopped = self
                .complete
                .iter()
                .rfind(|id| matches!(self.begun[*id].0, SnapshotKind::Stop { .. }));
            assert!(found.max(stopped.copied()) >= Some(notified), "{notified} was committed");
            assert!(self.coordinator.latest() >= Some(notified));
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Pass(ms) => {
                self.now_ms += ms;
                if self.wake_at_ms.is_some_and(|at_ms| at_ms <= self.now_ms) {
                    self.wake_at_ms = None;
                    self.step(Input::Tick);
                }
            }
            Action::Take(task) => {
                let task = task % self.n_tasks;
                let Some(attempt) = self.attempts[task] else { return };
                if let Some(barrier) = self.barriers[task].pop_front() {
                    let checkpoint = barrier.checkpoint;
                    let ended = self.has_ended[task];
                    *self.ends.entry(checkpoint).or_default() += usize::from(ended);
                    self.files.entry(checkpoint).or_default().insert(task);
                    self.network.push(Message { task, checkpoint, attempt, ended: Some(ended) });
                }
            }
            Action::Refuse(task) => {
                let task = task % self.n_tasks;
                let Some(attempt) = self.attempts[task] else { return };
                if let Some(barrier) = self.barriers[task].pop_front() {
                    let checkpoint = barrier.checkpoint;
                    self.network.push(Message { task, checkpoint, attempt, ended: None });
                }
            }
            Action::Deliver { nth, stays } => {
                if !self.network.is_empty() {
                    let nth = nth % self.network.len();
                    let message = self.network[nth].clone();
                    if !stays {
                        self.network.remove(nth);
                    }
                    self.deliver(message);
                }
            }
            Action::Lose(nth) => {
                if !self.network.is_empty() {
                    let message = self.network.remove(nth % self.network.len());
                    self.lost.insert(message.checkpoint);
                }
            }
            Action::Settle(settlement) => self.settle(settlement),
            Action::EndTask(task) => {
                let task = task % self.n_tasks;
                if let Some(attempt) = self.attempts[task]
                    && !std::mem::replace(&mut self.has_ended[task], true)
                {
                    self.step(Input::TaskEnded { task, attempt });
                }
            }
            Action::Request(kind) => {
                self.requests += 1;
                self.step(Input::TriggerSavepoint { request: self.requests, kind });
            }
            Action::Stop(bits) => {
                // Once they were told to end they fail together.
                let fails = |task: &usize| self.is_over || bits >> task & 1 == 1;
                let tasks: Vec<usize> = (0..self.n_tasks).filter(fails).collect();
                for task in &tasks {
                    self.attempts[*task] = None;
                    self.barriers[*task].clear();
                }
                self.step(Input::Stopped { tasks });
            }
            Action::Start => {
                if self.is_over {
                    self.act(Action::Stop(usize::MAX));
                }
                if !self.is_whole() && (self.is_hasty || !self.coordinator.is_storing()) {
                    self.disowned.extend(self.storing.map(|(id, _)| id));
                    self.is_over = false;
                    self.attempt += 1;
                    let is_down = |task: &usize| self.attempts[*task].is_none();
                    let tasks: Vec<usize> = (0..self.n_tasks).filter(is_down).collect();
                    for task in &tasks {
                        self.attempts[*task] = Some(self.attempt);
                        self.has_ended[*task] = false;
                    }
                    let first_id = self.begun.keys().last().map_or(1, |id| id.0 + 1);
                    self.step(Input::Started { first_id, attempt: self.attempt, tasks });
                }
            }
        }
    }

    fn deliver(&mut self, message: Message) {
        let Message { task, checkpoint, attempt, ended } = message;
        self.step(match ended {
            Some(ended) => {
                let snapshot = (task, checkpoint, attempt);
                Input::Acked { task, checkpoint, attempt, snapshot, ended }
            }
            None => {
                let error = Error::external("no space left");
                Input::Declined { task, checkpoint, attempt, error }
            }
        });
    }

    fn settle(&mut self, settlement: Settlement) {
        let Some((checkpoint, kind)) = self.storing.take() else { return };
        let is_there = !matches!(settlement, Settlement::Failed { is_there: false });
        if is_there && kind == SnapshotKind::Checkpoint {
            self.manifests.insert(checkpoint);
        }
        match settlement {
            Settlement::Stored => {
                if !self.disowned.contains(&checkpoint) {
                    self.complete.insert(checkpoint);
                }
                self.step(Input::Stored { checkpoint });
            }
            Settlement::Failed { .. } => {
                let error = Error::external("the disk is gone");
                self.step(Input::StoreFailed { checkpoint, error });
            }
        }
    }

    /// From any state, with nothing going wrong any more, a job comes to its end.
    fn finish(&mut self) {
        while !self.network.is_empty() {
            self.act(Action::Deliver { nth: 0, stays: false });
        }
        self.act(Action::Settle(Settlement::Stored));
        self.act(Action::Stop(usize::MAX));
        self.act(Action::Start);
        if self.config.interval_ms.is_some() {
            let at_ms = self.wake_at_ms.expect("asked for, as was checked");
            self.act(Action::Pass(at_ms - self.now_ms));
            let next = self.coordinator.pending().expect("it is due");
            self.answer();
            assert_eq!(self.notified, Some(next));
        }
        for task in 0..self.n_tasks {
            self.act(Action::EndTask(task));
        }
        let released = self.n_released;
        self.answer();
        assert_eq!(self.n_released, released + 1, "the last checkpoint lets the tasks go");
        self.act(Action::Stop(usize::MAX));
    }

    /// Every task takes what there is, and all of it arrives and is stored.
    fn answer(&mut self) {
        for task in 0..self.n_tasks {
            self.act(Action::Take(task));
        }
        while !self.network.is_empty() {
            self.act(Action::Deliver { nth: 0, stays: false });
        }
        self.act(Action::Settle(Settlement::Stored));
    }

    /// At the end nothing is left but what is kept.
    fn check_leftovers(&self) {
        let kept: BTreeSet<_> = self.coordinator.retained().collect();
        assert_eq!(self.manifests, kept);
        let savepoint =
            |id: &Checkpoint| self.complete.contains(id) && self.begun[id].0.is_savepoint();
        for id in self.files.keys() {
            let excused = kept.contains(id) || savepoint(id) || self.lost.contains(id);
            assert!(excused, "the files of {id} are left");
        }
        assert_eq!(self.answered.len() as u64, self.requests, "every request is answered");
    }
}

fn any_action() -> impl Strategy<Value = Action> {
    let settlement = prop_oneof![
        6 => Just(Settlement::Stored),
        1 => any::<bool>().prop_map(|is_there| Settlement::Failed { is_there }),
    ];
    let kind = prop_oneof![
        Just(SnapshotKind::Savepoint),
        Just(SnapshotKind::Checkpoint),
        any::<bool>().prop_map(|drain| SnapshotKind::Stop { drain }),
    ];
    let message = (any::<usize>(), prop::bool::weighted(0.2));
    prop_oneof![
        6 => (1..400u64).prop_map(Action::Pass),
        12 => any::<usize>().prop_map(Action::Take),
        1 => any::<usize>().prop_map(Action::Refuse),
        12 => message.prop_map(|(nth, stays)| Action::Deliver { nth, stays }),
        1 => any::<usize>().prop_map(Action::Lose),
        6 => settlement.prop_map(Action::Settle),
        1 => any::<usize>().prop_map(Action::EndTask),
        1 => kind.prop_map(Action::Request),
        1 => prop_oneof![Just(usize::MAX), 0..8usize].prop_map(Action::Stop),
        4 => Just(Action::Start),
    ]
}

fn any_config() -> impl Strategy<Value = CheckpointConfig> {
    let interval_ms = prop::option::weighted(0.8, 50..1000u64);
    let tolerable_failures = prop::option::weighted(0.3, 0..3u32);
    (interval_ms, 0..300u64, 100..2000u64, tolerable_failures, 0..4usize).prop_map(
        |(interval_ms, min_pause_ms, timeout_ms, tolerable_failures, retained)| CheckpointConfig {
            interval_ms,
            min_pause_ms,
            timeout_ms,
            tolerable_failures,
            retained,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn whatever_happens_nothing_committed_is_taken_back_and_nothing_is_left(
        n_tasks in 1..4usize,
        config in any_config(),
        is_hasty in prop::bool::weighted(0.2),
        actions in prop::collection::vec(any_action(), 0..200),
    ) {
        let mut world = World::new(n_tasks, config, is_hasty);
        world.act(Action::Start);
        for action in actions {
            world.act(action);
        }
        world.finish();
        world.check_leftovers();
    }
}
