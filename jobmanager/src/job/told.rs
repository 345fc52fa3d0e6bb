//! What tasks were told last: who may have missed it, because nobody could reach them, is told again.

use millstream_model::{CheckpointId, Command, Notice};

/// See the module's text; the tasks of one attempt. Barriers are not repeated: a checkpoint whose barrier is lost is given up
/// after its timeout.
#[derive(Default)]
pub(super) struct Told {
    completed: Option<CheckpointId>,
    given_up: Option<CheckpointId>,
    released: Option<CheckpointId>,
}

impl Told {
    pub(super) fn note(&mut self, command: Command) {
        match command {
            Command::Barrier(_) => {}
            Command::Notice(Notice::Complete(checkpoint)) => self.completed = Some(checkpoint),
            Command::Notice(Notice::Aborted(checkpoint)) => self.given_up = Some(checkpoint),
            Command::Release(checkpoint) => self.released = Some(checkpoint),
        }
    }

    /// All of it, in an order in which it may be told.
    pub(super) fn again(&self) -> impl Iterator<Item = Command> + use<> {
        let completed = self.completed.map(|c| Command::Notice(Notice::Complete(c)));
        let given_up = self.given_up.map(|c| Command::Notice(Notice::Aborted(c)));
        completed.into_iter().chain(given_up).chain(self.released.map(Command::Release))
    }
}
