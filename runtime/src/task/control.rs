//! What a task is told from outside of its stream: commands of whoever runs the checkpoints.
//!
//! A mailbox, because the sender must never wait for a task. The task looks into it at every step, so a
//! command gets through while the task is blocked or idle.

use super::Waker;
use millstream_model::Command;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The mailbox of one task.
pub struct Control {
    commands: Mutex<VecDeque<Command>>,
    has_commands: AtomicBool,
    waker: Waker,
}

impl Control {
    /// An empty mailbox whose task is woken by `waker`.
    pub fn new(waker: Waker) -> Self {
        Control { commands: Mutex::default(), has_commands: AtomicBool::new(false), waker }
    }

    /// Leaves a command.
    pub fn send(&self, command: Command) {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).push_back(command);
        self.has_commands.store(true, Ordering::SeqCst);
        self.waker.wake();
    }

    /// Takes the oldest command.
    pub(super) fn take(&self) -> Option<Command> {
        if !self.has_commands.load(Ordering::SeqCst) {
            return None;
        }
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        let command = commands.pop_front();
        self.has_commands.store(!commands.is_empty(), Ordering::SeqCst);
        command
    }
}
