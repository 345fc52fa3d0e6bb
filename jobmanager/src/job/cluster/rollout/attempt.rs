//! An attempt on its way: where it stands, which tasks have answered, and what is known of why it fails.

use super::words::{CAUSE_MS, Effect};
use millstream_model::{CheckpointId, Error};
use millstream_proto::message::{Begin, TaskEvent, TaskManagerId, TaskState, ToHost};
use std::collections::BTreeSet;

#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) number: u32,
    pub(super) stage: Stage,
    pub(super) begin: Begin,
    pub(super) token: [u8; 16],
    pub(super) slots: Vec<TaskManagerId>,
    /// By the host's number.
    pub(super) hosts: Vec<TaskManagerId>,
    /// By the task's number.
    pub(super) placement: Vec<u32>,
    /// Hosts that were told to run their tasks, and have not said that they cannot.
    pub(super) told: BTreeSet<u32>,
    pub(super) answered: Vec<bool>,
    /// A host has lost another: until when a better reason is waited for, and what it said.
    pub(super) lost_peer: Option<(u64, Error)>,
    /// Answers of tasks that failed because of that; they are passed on when the reason is known, or nobody knows better.
    pub(super) held_back: Vec<TaskEvent>,
    /// When hosts that have not ended their tasks are ended, once these are to end.
    pub(super) cancelled_until_ms: Option<u64>,
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
    /// Found, and not yet told to anybody.
    Adopt {
        waiting: BTreeSet<TaskManagerId>,
        until_ms: u64,
        found: Found,
    },
    /// It has failed before its tasks ran.
    Broken,
}

#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) tasks: Vec<(usize, TaskState)>,
    pub(super) newest_checkpoint: Option<CheckpointId>,
}

impl Attempt {
    pub(super) fn number_of(&self, id: TaskManagerId) -> Option<u32> {
        self.hosts.iter().position(|host| *host == id).map(|n| n as u32)
    }

    /// The tasks of a host that have not answered.
    pub(super) fn unanswered(&self, host: u32) -> Vec<usize> {
        let tasks = self.placement.iter().enumerate();
        tasks.filter(|(task, h)| **h == host && !self.answered[*task]).map(|(t, _)| t).collect()
    }

    /// Notes that a task has answered; false if it had.
    pub(super) fn answer(&mut self, task: usize) -> bool {
        self.answered.get_mut(task).is_some_and(|answered| !std::mem::replace(answered, true))
    }

    /// Something was only noticed to have failed: waits a moment for word of what it was. False if nobody asks any more.
    pub(super) fn wait_for_cause(&mut self, now_ms: u64, noticed: Error) -> bool {
        let is_asked = self.cancelled_until_ms.is_none();
        if is_asked {
            let until_ms = now_ms.saturating_add(CAUSE_MS);
            self.lost_peer.get_or_insert((until_ms, noticed));
        }
        is_asked
    }

    pub(super) fn tell_cancel(&self, effects: &mut Vec<Effect>) {
        for number in &self.told {
            let id = self.hosts[*number as usize];
            effects.push(Effect::Tell(id, ToHost::Cancel { attempt: self.number }));
        }
    }

    /// Answers for tasks that cannot.
    pub(super) fn answer_for(
        &mut self,
        tasks: Vec<usize>,
        error: &Error,
        effects: &mut Vec<Effect>,
    ) {
        for task in tasks {
            self.answered[task] = true;
            effects.push(Effect::Task(match self.cancelled_until_ms {
                Some(_) => TaskEvent::Cancelled { task },
                None => TaskEvent::Failed { task, error: error.clone() },
            }));
        }
    }
}
