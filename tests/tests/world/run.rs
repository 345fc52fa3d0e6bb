//! One seed, one history: draws a job, its surroundings and what goes wrong, and goes through it action by action.
//!
//! Here sits whoever runs the job: starts the process, again when it died or gave up, from its newest checkpoint, as the
//! documentation says it is to be done. What is wrong is said by the checks; the one thing judged here is that nothing fails
//! without a reason that was given to it.

mod begin;

use super::check;
use super::disk::Disk;
use super::fail::{Fuse, PLANNED};
use super::faults::Fault;
use super::job::Job;
use super::prng::Prng;
use super::storage::{Storages, mark_of, newest_manifest, newest_stop};
use super::weather::SIMULATED;
use millstream::model::SnapshotKind;
use millstream::prelude::*;
use millstream::state::snapshot::{CheckpointStorage, mark};
use millstream::testing::world::{Action, Process, Savepoint, World};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// After this many actions nothing goes wrong any more.
const N_FAULTY: u64 = 2500;
/// Within so many more the job must have ended.
const N_MOST: u64 = 60_000;

/// What a history is drawn from.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) seed: u64,
    /// Faults that do not happen although they were drawn.
    pub(super) without: BTreeSet<Fault>,
    /// The most records a split has.
    pub(super) n_records: usize,
    /// Whether to write the history down.
    pub(super) is_told: bool,
}

impl Setting {
    pub(super) fn new(seed: u64) -> Self {
        Setting { seed, without: BTreeSet::new(), n_records: 60, is_told: false }
    }
}

/// What came of it.
pub(super) struct Outcome {
    pub(super) job: Job,
    pub(super) faults: BTreeSet<Fault>,
    pub(super) mode: &'static str,
    pub(super) history: Vec<String>,
    pub(super) n_actions: u64,
    pub(super) n_processes: u64,
    /// How often a part of the job came back alone.
    pub(super) n_parts: u64,
    pub(super) n_checkpoints: u64,
    pub(super) violations: Vec<String>,
}

/// Where the next process begins.
enum From {
    Beginning,
    Latest,
    Savepoint(PathBuf),
}

struct Run {
    setting: Setting,
    job: Job,
    /// The same, or what is left of it for whoever stopped it for good.
    expected: Job,
    faults: BTreeSet<Fault>,
    mode: &'static str,
    storages: Storages,
    disk: Disk,
    world: World,
    fuse: Fuse,
    schedule: Prng,
    chance: Prng,
    /// Of 1000 actions, how many something happens at.
    rate: usize,
    history: Vec<String>,
    n_actions: u64,
    n_processes: u64,
    violations: Vec<String>,
    n_dirs: usize,
    /// Where checkpoints go.
    dir: PathBuf,
    from: From,
    /// The newest savepoint that stopped the job, by its number; and where checkpoints went then.
    savepoint: Option<(u64, PathBuf, PathBuf)>,
    /// Whether it was stopped for good: its sources give nothing more.
    is_drained: bool,
    /// Whether keyed state lies in trees.
    has_trees: bool,
    n_savepoints: usize,
    flipped: Option<Flipped>,
    slow: BTreeSet<usize>,
    /// Whether nothing is to go wrong any more.
    is_calm: bool,
}

/// A damaged file.
struct Flipped {
    dir: PathBuf,
    path: String,
    /// What it was.
    whole: Vec<u8>,
    /// Whether the newest checkpoint needs it.
    is_needed: bool,
}

/// Why a process is gone.
enum End {
    /// It died or gave up.
    Gone,
    /// The job was stopped with a savepoint.
    Stopped,
    Finished,
    /// The history is over: something is wrong.
    Violated,
}

/// Goes through a history.
pub(super) fn run(setting: &Setting) -> Outcome {
    let seed = setting.seed;
    let mut job = Job::draw(&mut Prng::new(seed, "job"), setting.n_records);
    if Prng::new(seed, "apart").below(10) == 0 {
        job.part();
    } else if Prng::new(seed, "pinned").below(4) == 0 {
        job.pin(&mut Prng::new(seed, "pins"));
    }
    if Prng::new(seed, "idle").below(8) == 0 {
        job.rest();
    }
    let job = if seed.is_multiple_of(3) { job.enumerated() } else { job };
    let drawn = Fault::draw(&mut Prng::new(seed, "faults"));
    let faults: BTreeSet<Fault> = drawn.difference(&setting.without).copied().collect();
    let storages = Storages::new(Prng::new(seed, "storage"));
    let disk = {
        let storages = storages.clone();
        Disk::new(Prng::new(seed, "target"), Arc::new(move || storages.newest()))
    };
    let world = {
        let storages = storages.clone();
        World::new(move |dir| Ok(storages.open(dir)))
    };
    let mut chance = Prng::new(seed, "chance");
    let mut run = Run {
        setting: setting.clone(),
        expected: job.clone(),
        job,
        faults,
        mode: Prng::new(seed, "mode").pick(&[
            "exactly-once",
            "exactly-once",
            "unaligned",
            "unaligned",
            "timed",
            "at-least-once",
        ]),
        storages,
        disk,
        world,
        fuse: Fuse::new(Prng::new(seed, "code")),
        schedule: Prng::new(seed, "schedule"),
        rate: chance.pick(&[2, 5, 10, 20]),
        chance,
        history: Vec::new(),
        n_actions: 0,
        n_processes: 0,
        violations: Vec::new(),
        n_dirs: 0,
        dir: "checkpoints-0".into(),
        from: From::Beginning,
        savepoint: None,
        is_drained: false,
        has_trees: Prng::new(seed, "trees").below(2) == 0,
        n_savepoints: 0,
        flipped: None,
        slow: BTreeSet::new(),
        is_calm: false,
    };
    run.go();
    let (n_checkpoints, n_parts) = (run.storages.newest(), run.world.n_parts());
    let Run { job, faults, mode, history, n_actions, n_processes, violations, .. } = run;
    Outcome {
        job,
        faults,
        mode,
        history,
        n_actions,
        n_processes,
        n_parts,
        n_checkpoints,
        violations,
    }
}

impl Run {
    fn has(&self, fault: Fault) -> bool {
        !self.is_calm && self.n_actions < N_FAULTY && self.faults.contains(&fault)
    }

    /// Whether a fault happens now.
    fn strikes(&mut self, fault: Fault, permille: usize) -> bool {
        self.has(fault) && self.chance.permille(permille)
    }

    fn tell(&mut self, what: impl FnOnce(&Self) -> String) {
        if self.setting.is_told {
            let line =
                format!("{:6} {:>9} µs  {}", self.n_actions, self.world.now_us(), what(self));
            self.history.push(line);
        }
    }

    fn violate(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.tell(|_| format!("VIOLATION: {what}"));
        self.violations.push(what);
    }

    fn go(&mut self) {
        while self.violations.is_empty() {
            self.n_processes += 1;
            // Each does something, or fails to, and after so much of that nothing goes wrong any more.
            if self.n_processes > N_FAULTY + 100 {
                return self.violate("the processes do not end");
            }
            self.make_weather();
            let end = self.live();
            self.storages.crash();
            self.violations.extend(self.disk.violations());
            if !self.is_drained
                && let Err(error) = self.look_for_drain()
            {
                return self.violate(format!("the drained savepoint cannot be read: {error}"));
            }
            match end {
                End::Finished => break,
                End::Violated => return,
                End::Stopped => self.choose_start(),
                End::Gone => {
                    self.choose_start();
                    if self.flipped.is_none() && self.strikes(Fault::BitFlip, 300) {
                        self.flip();
                    }
                }
            }
        }
        if self.violations.is_empty() {
            self.judge();
        }
    }

    /// What the storage and the target of the output are like in the next process.
    fn make_weather(&mut self) {
        let rate = |run: &mut Self, fault, rates: &[usize]| {
            if run.has(fault) { run.chance.pick(rates) } else { 0 }
        };
        let storage = [Fault::StorageRefuses, Fault::StorageAnswerLost];
        let [n_refused, n_answers_lost] = storage.map(|fault| rate(self, fault, &[3, 10, 40]));
        // There is little of that.
        let output = [Fault::OutputRefused, Fault::OutputAnswerLost];
        let output = output.map(|fault| rate(self, fault, &[20, 100, 300]));
        let n_failing = rate(self, Fault::CodeFails, &[3, 10, 40]);
        let mut weather = self.storages.weather();
        (weather.n_refused, weather.n_answers_lost) = (n_refused, n_answers_lost);
        weather.has_outages = self.faults.contains(&Fault::StorageOutages);
        let mut weather = self.disk.weather();
        [weather.n_refused, weather.n_answers_lost] = output;
        self.fuse.weather().n_refused = n_failing;
    }

    fn clear_weather(&self) {
        self.storages.weather().clear();
        self.disk.weather().clear();
        self.fuse.weather().clear();
    }

    /// Inverts a bit, most often one that the next restore must read, or loses a file that it must.
    fn flip(&mut self) {
        let truth = self.storages.truth(&self.dir);
        let Some((folder, manifest)) = newest_manifest(&truth) else { return };
        let mut needed: Vec<String> = manifest.files().map(|file| file.path.clone()).collect();
        needed.push(format!("{folder}/manifest"));
        if let Some((number, _)) = newest_stop(&truth) {
            if number > manifest.id.0 {
                needed.clear();
            }
            needed.push(mark_of(number));
        }
        let all = truth.list("").unwrap_or_default();
        let path = if self.chance.below(5) > 0 {
            self.chance.pick(&needed)
        } else {
            self.chance.pick(&all)
        };
        let n_bits = truth.bytes(&path).map_or(0, |bytes| bytes.len() * 8);
        if n_bits == 0 {
            return;
        }
        let Some(whole) = truth.bytes(&path) else { return };
        let mut is_needed = needed.contains(&path);
        // Without its mark, a stop never was.
        if is_needed && path.contains('/') && self.chance.below(3) == 0 {
            truth.delete(&path).expect("it tells the truth");
            // Whoever stored the manifest gave the checkpoint up if it could not be marked: nothing was committed for it.
            let is_marked = all.contains(&mark::name_of(&folder));
            is_needed = is_marked || !path.ends_with("/manifest");
            self.tell(|_| format!("{path} is lost"));
        } else {
            let bit = self.chance.below(n_bits);
            truth.flip_bit(&path, bit);
            self.tell(|_| format!("bit {bit} of {path} is inverted (needed: {is_needed})"));
        }
        self.flipped = Some(Flipped { dir: self.dir.clone(), path, whole, is_needed });
    }

    fn unflip(&mut self) {
        if let Some(Flipped { dir, path, whole, is_needed }) = self.flipped.take() {
            self.tell(|_| format!("{path} is mended"));
            let truth = self.storages.truth(&dir);
            // What nobody needs may have been deleted.
            if !truth.damage(&path, |bytes| bytes.clone_from(&whole)) && is_needed {
                truth.publish(&path, &whole).expect("it is lost");
            }
        }
    }

    /// Whether somebody made this failure happen.
    fn is_excused(&self, error: &str) -> bool {
        error.contains(PLANNED)
            || error.contains(SIMULATED)
            || error.contains("checkpoints failed in a row")
            || self.faults.contains(&Fault::Drain)
                && error.contains("event time was brought to its end")
            || self.flipped.as_ref().is_some_and(|f| f.is_needed && error.contains(&f.path))
    }

    /// From the start of a process to its end.
    fn live(&mut self) -> End {
        let started = self.start();
        let mut process = match started {
            Ok(process) => process,
            Err(error) => {
                let error = error.to_string();
                self.tell(|_| format!("the process does not start: {error}"));
                self.n_actions += 1;
                if !self.is_excused(&error) {
                    self.violate(format!("the process does not start: {error}"));
                    return End::Violated;
                }
                self.unflip();
                return End::Gone;
            }
        };
        self.tell(|_| "the process starts".into());
        let mut n_failures = 0;
        let mut actions = Vec::new();
        let mut stops: Vec<Savepoint> = Vec::new();
        let patience = if self.flipped.is_some() { self.n_actions + 1500 } else { u64::MAX };
        let n_tasks = 24;
        self.slow = (0..n_tasks).filter(|_| self.schedule.below(4) == 0).collect();
        let mut is_stopped = false;
        let n_records = self.fuse.n_records();
        loop {
            for failure in process.failures().iter().skip(n_failures) {
                self.tell(|_| format!("the job failed: {failure}"));
                if !self.is_excused(failure) {
                    self.violate(format!("the job failed for no reason: {failure}"));
                    return End::Violated;
                }
            }
            n_failures = process.failures().len();
            if !self.is_drained
                && let Some((dir, restore)) = process.began_at()
                && let Err(error) = self.note_drain(dir, &restore.manifest)
            {
                self.violate(format!("the drained savepoint cannot be read: {error}"));
                return End::Violated;
            }
            let mut outcomes = Vec::new();
            stops.retain(|stop| stop.outcome().map(|outcome| outcomes.push(outcome)).is_none());
            for outcome in outcomes {
                self.tell(|_| format!("stopping with a savepoint gave {outcome:?}"));
                let is_complete = |error: &Error| error.to_string().contains("is complete");
                let has_run_on = outcome.as_ref().is_err_and(is_complete);
                if let Ok(path) = outcome {
                    if process.ended().is_none() {
                        self.violate("who stops the job heard of it before the job had ended");
                    }
                    is_stopped = true;
                    self.savepoint = Some((number_of(&path), path, self.dir.clone()));
                } else if has_run_on
                    && let Some((number, path)) = newest_stop(&self.storages.truth(&self.dir))
                    && self.savepoint.as_ref().is_none_or(|(known, ..)| *known < number)
                {
                    // The job failed before it had ended.
                    self.savepoint = Some((number, path, self.dir.clone()));
                }
            }
            if let Some((state, _)) = process.ended() {
                self.tell(|_| format!("the job has ended: {state:?}"));
                if !stops.is_empty() {
                    self.violate("who stops the job was not told what came of it");
                    return End::Violated;
                }
                return self.conclude(state, is_stopped, n_failures);
            }
            if self.n_actions >= N_FAULTY + N_MOST {
                self.violate("the job does not end");
                return End::Violated;
            }
            if self.n_actions >= patience {
                if n_failures == 0 && self.flipped.as_ref().is_some_and(|f| f.is_needed) {
                    self.violate("the job goes on from a damaged checkpoint");
                    return End::Violated;
                }
                self.unflip();
                return End::Gone;
            }
            if self.n_actions >= N_FAULTY {
                self.clear_weather();
            }
            let is_damaged = self.flipped.as_ref().is_some_and(|f| f.is_needed);
            if is_damaged && self.fuse.n_records() > n_records {
                self.violate("a record was emitted although the checkpoint is damaged");
                return End::Violated;
            }
            if self.strikes(Fault::Crash, self.rate) {
                self.tell(|_| "CRASH".into());
                self.unflip();
                return End::Gone;
            }
            self.meddle(&mut process, &mut stops);
            self.act(&mut process, &mut actions);
            if !self.violations.is_empty() {
                return End::Violated;
            }
        }
    }

    /// What the end of a job means for whoever runs it.
    fn conclude(&mut self, state: JobState, is_stopped: bool, n_failures: usize) -> End {
        let is_damaged = self.flipped.as_ref().is_some_and(|f| f.is_needed);
        self.unflip();
        match state {
            JobState::Failed => End::Gone,
            JobState::Finished if is_damaged && n_failures == 0 => {
                self.violate("the job finished from a damaged checkpoint");
                End::Violated
            }
            JobState::Finished if is_stopped => End::Stopped,
            JobState::Finished => End::Finished,
            state => {
                self.violate(format!("the job ended as {state:?}"));
                End::Violated
            }
        }
    }

    /// Lets something go wrong, perhaps.
    fn meddle(&mut self, process: &mut Process, asked: &mut Vec<Savepoint>) {
        for (fault, panics) in [(Fault::TaskError, false), (Fault::TaskPanic, true)] {
            if self.strikes(fault, self.rate) {
                self.tell(|_| format!("the next record fails its task (panics: {panics})"));
                self.fuse.blow(panics);
            }
        }
        if self.strikes(Fault::AckLost, 2 * self.rate) && process.lose_answer(0) {
            self.tell(|_| "an acknowledgement is lost".into());
        }
        if self.strikes(Fault::AckTwice, 10 * self.rate) && process.repeat_answer(0) {
            self.tell(|_| "an acknowledgement will come twice".into());
        }
        for (fault, kind) in [
            (Fault::Savepoint, SnapshotKind::Savepoint),
            (Fault::Stop, SnapshotKind::Stop { drain: false }),
            (Fault::Drain, SnapshotKind::Stop { drain: true }),
        ] {
            let stops = fault != Fault::Savepoint;
            // Who has not been answered may ask again.
            let is_past = stops && asked.len() > 1 || fault == Fault::Drain && self.is_drained;
            // At least once, state may hold records that the sources have yet to read (again). If they never do, nobody can
            // tell what it should be.
            let is_unclear = fault == Fault::Drain && self.mode == "at-least-once";
            if self.strikes(fault, self.rate) && !is_past && !is_unclear {
                self.tell(|_| format!("somebody wants a {kind:?}"));
                self.n_savepoints += 1;
                let wanted = process.savepoint(format!("savepoints-{}", self.n_savepoints), kind);
                if stops {
                    asked.push(wanted);
                }
            }
        }
    }

    /// Whether an action can wait, because what does it is slow.
    fn is_slow(&self, action: Action) -> bool {
        match action {
            Action::Step(task) => self.has(Fault::TasksSlow) && self.slow.contains(&task),
            Action::Write(_) => self.has(Fault::UploadsSlow),
            Action::Answer(_) => self.has(Fault::AcksLate),
            Action::Hear | Action::Tick => false,
        }
    }

    /// Lets one thing happen, or time pass.
    fn act(&mut self, process: &mut Process, actions: &mut Vec<Action>) {
        self.n_actions += 1;
        process.actions(actions);
        if !self.has(Fault::AcksLate) {
            // Answers come in their order.
            actions.retain(|action| !matches!(action, Action::Answer(1..)));
        }
        if actions.is_empty() {
            match process.next_due_us() {
                Some(due_us) => self.world.advance_to(due_us),
                None => self.violate("nothing can happen any more, and the job has not ended"),
            }
            return;
        }
        self.world.advance_to(self.world.now_us() + self.schedule.below(25) as EventTime);
        let action = self.schedule.pick(actions);
        if self.is_slow(action) && self.schedule.below(12) > 0 {
            return;
        }
        self.tell(|_| match action {
            Action::Step(task) => format!("step {}", process.name_of(task)),
            other => format!("{other:?}"),
        });
        process.perform(action);
    }

    /// What must be true in the end.
    fn judge(&mut self) {
        self.is_calm = true;
        self.clear_weather();
        let exactly_once = self.mode != "at-least-once";
        let before = check::output(&self.expected, &self.disk, exactly_once);
        self.violations.extend(before);
        // What has finished stays finished, and whoever starts next clears up.
        let then = (self.disk.visible("main"), self.disk.visible("late"));
        self.from = From::Latest;
        self.n_processes += 1;
        let end = self.live();
        if !matches!(end, End::Finished) {
            self.violate("a finished job that was restored did not finish at once");
        }
        if (self.disk.visible("main"), self.disk.visible("late")) != then {
            self.violate("a finished job that was restored wrote something");
        }
        let storage = self.storages.truth(&self.dir);
        let n_retained = retained(self.setting.seed);
        self.violations.extend(check::leaks(&storage, &self.disk, n_retained));
    }
}

/// The number that stands in the name of a savepoint's folder.
fn number_of(path: &Path) -> u64 {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// How many checkpoints are kept.
fn retained(seed: u64) -> usize {
    1 + Prng::new(seed, "retained").below(3)
}
