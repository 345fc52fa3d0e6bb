//! Whether a sink is exactly-once: any sink can be run through this, those of a program too.
//!
//! A sink sees a job as a history of calls (written, staged, committed, prepared again after a crash), and the
//! contract (see [`millstream_runtime::operator::Sink`]) says for every history what must be visible. Here is a
//! model of the job: it knows the position of the source in every snapshot, so it knows what must be visible
//! after each call. Histories are gone through in full up to some length, then at random; a crash comes between
//! any two calls, also when a barrier or a commit has reached one subtask and not the others, and the next
//! attempt may have another parallelism, be in another process, and come to a checkpoint number again that was
//! never completed.

use millstream_model::{Batch, CheckpointId, CheckpointMode, Error, Result};
use millstream_runtime::context::{JobContext, OperatorContext};
use millstream_runtime::operator::{Committer, Sink, SinkStart, SinkWriter, Staged};
use millstream_runtime::task::NoWake;
use millstream_runtime::{SystemClock, TaskContext};
use std::fmt;
use std::sync::Arc;

/// Somewhere to write to: new and empty for each history.
pub trait Place {
    /// The sink under test. Its records are numbers, each written once in a run without failures.
    type Sink: Sink<u64>;
    /// A sink into this place: every process that runs the job has one of its own.
    fn sink(&self) -> Self::Sink;
    /// What a reader finds, in any order.
    ///
    /// # Errors
    /// If the place cannot be read.
    fn visible(&self) -> Result<Vec<u64>>;
}

/// Something that happens to a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A batch comes to one subtask.
    Write,
    /// A barrier comes to every subtask.
    Stage,
    /// The checkpoint under way is complete: it is the one to be restored from now on.
    Complete,
    /// Every subtask is told of the completed checkpoint: for the first time, or again.
    Commit,
    /// Only one subtask is told before it all ends.
    CommitAndCrash,
    /// Only one subtask sees the barrier before it all ends.
    StageAndCrash,
    /// Everything in memory is gone; the job begins again at the completed checkpoint.
    Crash,
}

const EVENTS: [Event; 7] = [
    Event::Write,
    Event::Stage,
    Event::Complete,
    Event::Commit,
    Event::CommitAndCrash,
    Event::StageAndCrash,
    Event::Crash,
];

/// Histories in which a checkpoint is given up, and what was staged for it is committed with the next: they are longer than
/// those that can all be gone through.
const CARRIED_OVER: [&[Event]; 4] = {
    use Event::{Commit, CommitAndCrash, Complete, Crash, Stage, Write};
    [
        &[Write, Write, Stage, Write, Write, Stage, Complete, Commit, Crash],
        &[Write, Write, Stage, Write, Write, Stage, Complete, CommitAndCrash, Crash],
        // Of the last checkpoint only one subtask has something.
        &[Write, Write, Stage, Write, Stage, Complete, Commit, Write, Stage, Crash],
        &[Write, Stage, Write, Stage, Stage, Complete, Commit, Commit, Crash],
    ]
};

/// What a sink did wrong.
#[derive(Debug)]
pub struct Violation {
    /// The history that led to it.
    pub history: Vec<Event>,
    /// What is visible and should not be, or the other way round, or the error of a call.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {:?}: {}", self.history, self.what)
    }
}

impl std::error::Error for Violation {}

/// Goes through all histories of `len` events, some longer ones in which checkpoints are given up, and `n_random` drawn from
/// `seed`; each ends with a checkpoint that takes everything. Gives the number of histories.
///
/// # Errors
/// The first history in which something else was visible than should have been, or in which a call failed.
pub fn check<P: Place>(
    make: impl Fn() -> P,
    len: u32,
    n_random: u64,
    seed: u64,
) -> Result<u64, Violation> {
    let n_kinds = EVENTS.len() as u64;
    let mut n_histories = 0;
    for number in 0..n_kinds.pow(len) {
        let event = |at| EVENTS[(number / n_kinds.pow(at) % n_kinds) as usize];
        let history: Vec<Event> = (0..len).map(event).collect();
        if is_possible(&history) {
            follow(&make(), &history)?;
            n_histories += 1;
        }
    }
    for history in CARRIED_OVER {
        follow(&make(), history)?;
        n_histories += 1;
    }
    let mut random = seed;
    for _ in 0..n_random {
        let mut event = || {
            // The generator of Numerical Recipes: histories have to differ, no more.
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            EVENTS[((random >> 33) % n_kinds) as usize]
        };
        let history: Vec<Event> = (0..4 * len).map(|_| event()).collect();
        follow(&make(), &history)?;
        n_histories += 1;
    }
    Ok(n_histories)
}

/// Whether each event has what it needs: the others are no different from shorter histories.
fn is_possible(history: &[Event]) -> bool {
    let (mut is_pending, mut is_complete) = (false, false);
    history.iter().all(|event| match event {
        Event::Write => true,
        Event::Stage => {
            is_pending = true;
            true
        }
        Event::Complete => {
            is_complete |= is_pending;
            std::mem::take(&mut is_pending)
        }
        Event::Commit => is_complete,
        Event::CommitAndCrash => {
            is_pending = false;
            is_complete
        }
        Event::StageAndCrash | Event::Crash => {
            is_pending = false;
            true
        }
    })
}

fn follow<P: Place>(place: &P, history: &[Event]) -> Result<(), Violation> {
    let ending = [Event::Write, Event::Write, Event::Stage, Event::Complete, Event::Commit];
    let whole: Vec<Event> = history.iter().chain(&ending).copied().collect();
    let violation =
        |n: usize, e: Error| Violation { history: whole[..n].to_vec(), what: e.to_string() };
    let mut job = Job::start(place).map_err(|e| violation(0, e))?;
    for (at, event) in whole.iter().enumerate() {
        job.apply(*event).and_then(|()| job.check()).map_err(|e| violation(at + 1, e))?;
    }
    Ok(())
}

/// A checkpoint: where the source was, and what was staged and not committed.
#[derive(Clone, Default)]
struct Snapshot {
    id: u64,
    position: u64,
    staged: Vec<Staged>,
}

struct Subtask {
    writer: Box<dyn SinkWriter<u64>>,
    committer: Box<dyn Committer>,
    staged: Vec<(u64, Staged)>,
    /// What it was last told to commit.
    committed: Vec<Staged>,
}

/// A model of a job that ends in the sink.
struct Job<'p, P: Place> {
    place: &'p P,
    sink: P::Sink,
    attempt: u32,
    subtasks: Vec<Subtask>,
    next_subtask: usize,
    /// The next record.
    position: u64,
    next_id: u64,
    pending: Option<Snapshot>,
    complete: Option<Snapshot>,
    /// Records before this one must be visible.
    due: u64,
}

/// The number of subtasks of an attempt.
fn parallelism(attempt: u32) -> usize {
    [2, 1, 3][attempt as usize % 3]
}

fn context(subtask: usize, attempt: u32) -> OperatorContext {
    let job = JobContext {
        name: "conformance".into(),
        parameters: Default::default(),
        clock: Arc::new(SystemClock::default()),
        registry: Default::default(),
        alignment: Default::default(),
        batch_size: 1024,
        checkpoints: Some(CheckpointMode::ExactlyOnce),
    };
    let (parallelism, waker) = (parallelism(attempt), Arc::new(NoWake));
    TaskContext::new(Arc::new(job), subtask, parallelism, 128, attempt, waker).operator("sink")
}

impl<'p, P: Place> Job<'p, P> {
    fn start(place: &'p P) -> Result<Self> {
        let sink = place.sink();
        sink.prepare(&SinkStart::Fresh)?;
        let mut job = Job {
            place,
            sink,
            attempt: 0,
            subtasks: Vec::new(),
            next_subtask: 0,
            position: 0,
            next_id: 1,
            pending: None,
            complete: None,
            due: 0,
        };
        job.deploy()?;
        Ok(job)
    }

    fn deploy(&mut self) -> Result<()> {
        for subtask in 0..parallelism(self.attempt) {
            let context = context(subtask, self.attempt);
            let mut writer = self.sink.writer(&context)?;
            writer.open(&context)?;
            let committer = self.sink.committer();
            let committer = committer.ok_or_else(|| Error::user("the sink has no committer"))?;
            self.subtasks.push(Subtask { writer, committer, staged: vec![], committed: vec![] });
        }
        Ok(())
    }

    /// Lets something happen; nothing, if it cannot happen now.
    fn apply(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Write => {
                let mut batch = Batch::of(vec![self.position, self.position + 1]);
                self.position += 2;
                self.next_subtask = (self.next_subtask + 1) % self.subtasks.len();
                let writer = &mut self.subtasks[self.next_subtask].writer;
                writer.write(&mut batch)?;
                if !batch.is_blank() {
                    return Err(Error::user("a writer must leave its batch empty"));
                }
                writer.flush()?;
            }
            Event::Stage => {
                for subtask in 0..self.subtasks.len() {
                    self.stage(subtask)?;
                }
                let staged = self.subtasks.iter().flat_map(|s| &s.staged);
                let staged = staged.map(|(_, staged)| staged.clone()).collect();
                self.pending = Some(Snapshot { id: self.next_id, position: self.position, staged });
                self.next_id += 1;
            }
            Event::StageAndCrash => {
                self.stage(0)?;
                self.next_id += 1;
                self.crash()?;
            }
            Event::Complete => {
                if let Some(pending) = self.pending.take() {
                    self.complete = Some(pending);
                }
            }
            Event::Commit | Event::CommitAndCrash => {
                let Some(complete) = self.complete.clone() else { return Ok(()) };
                let is_partial = event == Event::CommitAndCrash;
                let n = if is_partial { 1 } else { self.subtasks.len() };
                for subtask in &mut self.subtasks[..n] {
                    subtask.commit(complete.id)?;
                }
                if is_partial {
                    self.crash()?;
                } else {
                    self.due = self.due.max(complete.position);
                }
            }
            Event::Crash => self.crash()?,
        }
        Ok(())
    }

    fn stage(&mut self, subtask: usize) -> Result<()> {
        let id = self.next_id;
        let subtask = &mut self.subtasks[subtask];
        let staged = subtask.writer.stage(CheckpointId(id))?;
        subtask.staged.extend(staged.into_iter().map(|staged| (id, staged)));
        Ok(())
    }

    fn crash(&mut self) -> Result<()> {
        self.subtasks.clear();
        self.pending = None;
        self.attempt += 1;
        let snapshot = self.complete.clone().unwrap_or_default();
        // A process that goes on knows all numbers it gave; another one only those of complete checkpoints.
        if self.attempt.is_multiple_of(2) {
            self.sink = self.place.sink();
            self.next_id = snapshot.id + 1;
        }
        self.sink.prepare(&SinkStart::Recovering(snapshot.staged))?;
        self.position = snapshot.position;
        self.due = snapshot.position;
        self.next_subtask = 0;
        self.deploy()
    }

    fn check(&self) -> Result<()> {
        let mut visible = self.place.visible()?;
        visible.sort_unstable();
        let is_due = (0..self.due).eq(visible.iter().copied());
        if is_due {
            return Ok(());
        }
        let due = self.due;
        Err(Error::user(format!("the first {due} records must be visible, and it is {visible:?}")))
    }
}

impl Subtask {
    /// Commits what is due, or what was last committed once more.
    fn commit(&mut self, id: u64) -> Result<()> {
        let due: Vec<Staged> =
            self.staged.extract_if(.., |(of, _)| *of <= id).map(|(_, staged)| staged).collect();
        if !due.is_empty() {
            self.committed = due;
        }
        if self.committed.is_empty() { Ok(()) } else { self.committer.commit(&self.committed) }
    }
}

#[cfg(test)]
mod tests;
