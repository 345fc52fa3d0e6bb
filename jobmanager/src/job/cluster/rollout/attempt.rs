//! An attempt on its way: where it stands, which tasks have answered, and what is known of why it fails.

use super::words::{CAUSE_MS, Effect};
use millstream_model::Error;
use millstream_proto::message::{Begin, TaskEvent, TaskManagerId, ToHost};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) number: u32,
    pub(super) stage: Stage,
    pub(super) begin: Begin,
    pub(super) token: [u8; 16],
    /// Its tasks that are not closed.
    pub(super) tasks: BTreeSet<usize>,
    /// By the host's number.
    pub(super) hosts: Vec<TaskManagerId>,
    /// By the task's number, of all tasks of the job.
    pub(super) placement: Vec<u32>,
    /// Hosts that were told to run their tasks, and have not said that they cannot.
    pub(super) told: BTreeSet<u32>,
    /// All of its tasks have restored their state, or had none to restore.
    pub(super) goes_on: bool,
    /// Tasks that have answered.
    answered: BTreeSet<usize>,
    /// A host has lost another, or a task its neighbour.
    lost: Option<Lost>,
    /// Answers of tasks that failed because of that; they are passed on when the reason is known, or nobody knows better.
    pub(super) held_back: Vec<TaskEvent>,
    /// Tasks that are to end, and when hosts that have not ended them are ended.
    pub(super) cancelled: BTreeMap<usize, u64>,
}

/// Something was noticed to have failed, and a better reason is waited for.
#[derive(Debug)]
struct Lost {
    until_ms: u64,
    /// What was said.
    error: Error,
    /// The tasks that it matters to.
    tasks: BTreeSet<usize>,
}

#[derive(Debug)]
pub(super) enum Stage {
    Slots,
    Hosts,
    Record,
    Prepare,
    /// The hosts that have not answered.
    Deploy(BTreeSet<u32>),
    Running,
    /// It has failed before its tasks ran.
    Broken,
}

impl Attempt {
    pub(super) fn new(
        number: u32,
        tasks: Vec<usize>,
        begin: Begin,
        token: [u8; 16],
        placement: Vec<u32>,
    ) -> Self {
        Attempt {
            number,
            stage: Stage::Slots,
            begin,
            token,
            tasks: tasks.into_iter().collect(),
            hosts: Vec::new(),
            placement,
            told: BTreeSet::new(),
            goes_on: false,
            answered: BTreeSet::new(),
            lost: None,
            held_back: Vec::new(),
            cancelled: BTreeMap::new(),
        }
    }

    pub(super) fn wake_at_ms(&self) -> Option<u64> {
        let waiting = self.cancelled.iter().filter(|(task, _)| !self.answered.contains(task));
        let cancelled = waiting.map(|(_, until_ms)| *until_ms).min();
        [cancelled, self.lost.as_ref().map(|lost| lost.until_ms)].into_iter().flatten().min()
    }

    pub(super) fn number_of(&self, id: TaskManagerId) -> Option<u32> {
        self.hosts.iter().position(|host| *host == id).map(|n| n as u32)
    }

    /// The hosts that have tasks which are not closed.
    pub(super) fn hosts_in_use(&self) -> impl Iterator<Item = TaskManagerId> {
        let numbers = self.tasks.iter().filter_map(|task| self.placement.get(*task));
        numbers.filter_map(|number| self.hosts.get(*number as usize).copied())
    }

    /// The tasks of a host that are not closed.
    pub(super) fn tasks_on(&self, host: u32) -> Vec<usize> {
        self.tasks.iter().copied().filter(|task| self.placement[*task] == host).collect()
    }

    /// Those of them that have not answered.
    pub(super) fn unanswered(&self, host: u32) -> Vec<usize> {
        let mut tasks = self.tasks_on(host);
        tasks.retain(|task| !self.answered.contains(task));
        tasks
    }

    /// Whether one of its tasks is to run.
    pub(super) fn is_wanted(&self) -> bool {
        self.tasks.iter().any(|task| !self.cancelled.contains_key(task))
    }

    /// Whether a host has yet to do something before its tasks run.
    pub(super) fn waits_for(&self, id: TaskManagerId) -> bool {
        match &self.stage {
            Stage::Prepare => self.hosts.first() == Some(&id),
            Stage::Deploy(waiting) => self.number_of(id).is_some_and(|n| waiting.contains(&n)),
            _ => false,
        }
    }

    /// Whether a task is one of these, and not closed.
    pub(super) fn is_of(&self, task: usize) -> bool {
        self.tasks.contains(&task)
    }

    /// Notes that a task has answered; false if it had, or is not one of these.
    pub(super) fn answer(&mut self, task: usize) -> bool {
        self.is_of(task) && self.answered.insert(task)
    }

    /// It fails before its tasks run.
    pub(super) fn break_off(&mut self, error: Error) -> Effect {
        self.stage = Stage::Broken;
        Effect::Failed(self.number, self.tasks.iter().copied().collect(), error)
    }

    /// A host runs its tasks.
    pub(super) fn deployed(&mut self, id: TaskManagerId, effects: &mut Vec<Effect>) {
        if let Some(number) = self.number_of(id) {
            self.need_not_wait_for(number, effects);
        }
    }

    /// A host runs its tasks, or is gone and never will.
    pub(super) fn need_not_wait_for(&mut self, number: u32, effects: &mut Vec<Effect>) {
        if let Stage::Deploy(waiting) = &mut self.stage {
            waiting.remove(&number);
            if waiting.is_empty() {
                self.stage = Stage::Running;
                if self.is_wanted() {
                    effects.push(Effect::Deployed(self.number, self.hosts.clone()));
                }
            }
        }
    }

    /// A host cannot run its tasks, or not do what must happen before.
    pub(super) fn deploy_failed(
        &mut self,
        id: TaskManagerId,
        error: Error,
        effects: &mut Vec<Effect>,
    ) {
        let Some(number) = self.number_of(id) else { return };
        self.told.remove(&number);
        let is_wanted = self.is_wanted();
        if is_wanted {
            effects.push(self.break_off(error.clone()));
        }
        self.stage = Stage::Broken;
        // Those that are to end already are not asked again.
        let mut tasks = self.unanswered(number);
        tasks.retain(|task| self.cancelled.contains_key(task));
        self.answer_for(tasks, &error, effects);
    }

    /// Something was only noticed to have failed: waits a moment for word of what it was, if somebody asks.
    pub(super) fn wait_for_cause(&mut self, now_ms: u64, tasks: BTreeSet<usize>, noticed: Error) {
        let is_asked =
            |task: &usize| self.tasks.contains(task) && !self.cancelled.contains_key(task);
        let tasks: BTreeSet<usize> = tasks.into_iter().filter(is_asked).collect();
        if tasks.is_empty() {
            return;
        }
        match &mut self.lost {
            Some(lost) => lost.tasks.extend(tasks),
            None => {
                let until_ms = now_ms.saturating_add(CAUSE_MS);
                self.lost = Some(Lost { until_ms, error: noticed, tasks });
            }
        }
    }

    /// The reason is known for these tasks, or not asked for any more: passes on what they have said.
    pub(super) fn know_cause(&mut self, tasks: &BTreeSet<usize>, effects: &mut Vec<Effect>) {
        if let Some(lost) = &mut self.lost {
            lost.tasks.retain(|task| !tasks.contains(task));
        }
        self.lost.take_if(|lost| lost.tasks.is_empty());
        let said = self.held_back.extract_if(.., |event| match event {
            TaskEvent::Failed { task, .. } => tasks.contains(task),
            _ => true,
        });
        effects.extend(said.map(|event| Effect::Task(self.number, event)));
    }

    /// If nobody has said better by now, it is what was noticed: the regions of which no task has said so itself fail for it.
    pub(super) fn give_up_cause(
        &mut self,
        now_ms: u64,
        region_of_task: &[usize],
        effects: &mut Vec<Effect>,
    ) {
        let Some(lost) = self.lost.take_if(|lost| lost.until_ms <= now_ms) else { return };
        let has_said = self.held_back.iter().filter_map(|event| match event {
            TaskEvent::Failed { task, .. } => Some(region_of_task[*task]),
            _ => None,
        });
        let have_said: BTreeSet<usize> = has_said.collect();
        let is_silent = |task: &&usize| !have_said.contains(&region_of_task[**task]);
        let silent: Vec<usize> = lost.tasks.iter().filter(is_silent).copied().collect();
        if !silent.is_empty() {
            effects.push(Effect::Failed(self.number, silent, lost.error));
        }
        self.know_cause(&lost.tasks, effects);
    }

    pub(super) fn tell_cancel(&self, tasks: &[usize], effects: &mut Vec<Effect>) {
        self.tell(&ToHost::Cancel { attempt: self.number, tasks: tasks.to_vec() }, effects);
    }

    /// Tells every host that runs tasks of it.
    pub(super) fn tell(&self, message: &ToHost, effects: &mut Vec<Effect>) {
        let hosts = self.told.iter().map(|number| self.hosts[*number as usize]);
        effects.extend(hosts.map(|id| Effect::Tell(id, message.clone())));
    }

    /// Answers for tasks that cannot.
    pub(super) fn answer_for(
        &mut self,
        tasks: Vec<usize>,
        error: &Error,
        effects: &mut Vec<Effect>,
    ) {
        for task in tasks {
            self.answered.insert(task);
            let event = match self.cancelled.contains_key(&task) {
                true => TaskEvent::Cancelled { task },
                false => TaskEvent::Failed { task, error: error.clone() },
            };
            effects.push(Effect::Task(self.number, event));
        }
    }
}
