//! What a task is told from outside of its stream: commands of whoever runs the checkpoints.
//!
//! A mailbox, because the sender must never wait for a task. The task looks into it at every step, so a
//! command gets through while the task is blocked or idle.

use super::Waker;
use millstream_model::Command;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The mailbox of one task.
pub struct Control {
    /// `None` when the task is over.
    commands: Mutex<Option<VecDeque<Command>>>,
    has_commands: AtomicBool,
    waker: Waker,
}

impl Control {
    /// An empty mailbox whose task is woken by `waker`.
    pub fn new(waker: Waker) -> Self {
        let commands = Mutex::new(Some(VecDeque::new()));
        Control { commands, has_commands: AtomicBool::new(false), waker }
    }

    fn commands(&self) -> MutexGuard<'_, Option<VecDeque<Command>>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a command.
    pub fn send(&self, command: Command) {
        let Some(commands) = &mut *self.commands() else { return };
        commands.push_back(command);
        self.has_commands.store(true, Ordering::SeqCst);
        self.waker.wake();
    }

    /// The task is over: what it is told goes nowhere.
    pub fn close(&self) {
        *self.commands() = None;
    }

    /// Takes the oldest command.
    pub(super) fn take(&self) -> Option<Command> {
        if !self.has_commands.load(Ordering::SeqCst) {
            return None;
        }
        let mut commands = self.commands();
        let commands = commands.as_mut()?;
        let command = commands.pop_front();
        self.has_commands.store(!commands.is_empty(), Ordering::SeqCst);
        command
    }
}
