//! Planted bugs: what a test switches on to show that the simulation would catch it.
//!
//! A checker that has never caught anything proves nothing. So the classic ways in which exactly-once is lost
//! stand in the engine, each at the one place where somebody could write it by mistake, and are switched on for
//! one thread: a simulated job runs on one. Without debug assertions [`is_planted`] is `false`, a constant, and
//! what hangs on it is not compiled.

use std::cell::Cell;
use std::marker::PhantomData;

/// A way to lose exactly-once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Channels do not wait for each other at a barrier.
    SkipAlignment,
    /// A task's part in a checkpoint is acknowledged although it could not be stored.
    AckBeforeDurable,
    /// Sinks are told of a checkpoint before its manifest is stored.
    NotifyBeforeStored,
    /// A commit that comes again writes again.
    CommitTwice,
    /// What was staged and does not belong to the restored checkpoint is not discarded.
    KeepStale,
    /// Restored keys are dealt out by the parallelism of those who wrote them.
    WrongKeyGroups,
    /// Timers are not restored.
    ForgetTimers,
    /// A source saves the position behind records that come after the barrier.
    PositionAfterBarrier,
    /// Damaged files are read as if they were whole.
    IgnoreChecksums,
    /// Watermarks begin anew after a restore.
    ForgetWatermark,
    /// A table that a newer checkpoint has in common with an older one is deleted with the older one.
    DeleteShared,
    /// Tasks go on although others of their attempt have not restored their state.
    GoBeforeRestored,
    /// What became dirty after a barrier is written to the tree before its files are cut.
    WriteAfterBarrier,
    /// A commit that fails does not fail its task.
    ExcuseCommit,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 14] = [
        Bug::SkipAlignment,
        Bug::AckBeforeDurable,
        Bug::NotifyBeforeStored,
        Bug::CommitTwice,
        Bug::KeepStale,
        Bug::WrongKeyGroups,
        Bug::ForgetTimers,
        Bug::PositionAfterBarrier,
        Bug::IgnoreChecksums,
        Bug::ForgetWatermark,
        Bug::DeleteShared,
        Bug::GoBeforeRestored,
        Bug::WriteAfterBarrier,
        Bug::ExcuseCommit,
    ];
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Whether this bug is to be made on this thread.
#[inline]
pub fn is_planted(bug: Bug) -> bool {
    cfg!(debug_assertions) && PLANTED.get() == Some(bug)
}

/// Plants a bug on this thread until the result is dropped.
#[must_use]
pub fn plant(bug: Bug) -> Planted {
    PLANTED.set(Some(bug));
    Planted(PhantomData)
}

/// See [`plant`]. Stays on its thread.
pub struct Planted(PhantomData<*const ()>);

impl Drop for Planted {
    fn drop(&mut self) {
        PLANTED.set(None);
    }
}
