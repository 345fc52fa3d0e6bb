//! What goes wrong, by name. A seed draws which faults its history has; what is left out of a history that shows a
//! violation, and the violation stays, had no part in it.

use super::prng::Prng;
use std::collections::BTreeSet;

/// Something that goes wrong, or is done to the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// The process dies.
    Crash,
    /// User code fails.
    TaskError,
    /// User code panics.
    TaskPanic,
    /// An acknowledgement is lost.
    AckLost,
    /// An acknowledgement comes twice.
    AckTwice,
    /// Answers of tasks come late and in another order.
    AcksLate,
    /// Snapshots take long to be stored.
    UploadsSlow,
    /// Some tasks get few turns.
    TasksSlow,
    /// An operation of the storage fails.
    StorageRefuses,
    /// An operation of the storage is done, but says that it failed.
    StorageAnswerLost,
    /// The storage fails several times in a row.
    StorageOutages,
    /// A bit of a stored file is inverted while no process runs.
    BitFlip,
    /// The job goes on with another parallelism, batch size and fusion.
    Rescale,
    /// A savepoint is taken.
    Savepoint,
    /// The job is stopped with a savepoint and goes on from it, in another folder or by the mark that it left.
    Stop,
    /// The job is stopped with a savepoint after event time was brought to its end: it does not go on.
    Drain,
    /// What output is for does not take it, staged or committed.
    OutputRefused,
    /// Output is staged or committed, but whoever does that hears that it was not.
    OutputAnswerLost,
    /// User code fails where it processes no record.
    CodeFails,
}

impl Fault {
    const ALL: [Fault; 19] = [
        Fault::Crash,
        Fault::TaskError,
        Fault::TaskPanic,
        Fault::AckLost,
        Fault::AckTwice,
        Fault::AcksLate,
        Fault::UploadsSlow,
        Fault::TasksSlow,
        Fault::StorageRefuses,
        Fault::StorageAnswerLost,
        Fault::StorageOutages,
        Fault::BitFlip,
        Fault::Rescale,
        Fault::Savepoint,
        Fault::Stop,
        Fault::Drain,
        Fault::OutputRefused,
        Fault::OutputAnswerLost,
        Fault::CodeFails,
    ];

    /// Draws some of them: in most histories a few, because each hides what others would show.
    pub(super) fn draw(prng: &mut Prng) -> BTreeSet<Fault> {
        let n_permille = prng.pick(&[0, 200, 350, 350, 500]);
        Fault::ALL.into_iter().filter(|_| prng.permille(n_permille)).collect()
    }
}
