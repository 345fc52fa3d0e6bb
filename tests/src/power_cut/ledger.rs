//! Power cuts of a job manager: whether the next one knows what clients of this one were told.
//!
//! The program `ledger` is a job manager and clients of it in one process, and writes down what the clients are told, one after the
//! other ([`Told`]). The disk of any moment of its run, after a power cut, must hold all that was told by then: a leader that opens
//! it finds it, and has an epoch that nobody had before.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::never;
use millstream_ha::{Election, Standalone};
use millstream_jobmanager::programs::{Limits, ProgramStore};
use millstream_jobmanager::store::{FileStore, JobRecord, JobRecords};
use millstream_model::{Error, Result};
use millstream_proto::message::{JobPhase, ProgramId};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::disk::{self, Disk, Mercy, Tree};
use super::{Forgotten, IsForgotten, NOTHING, draw_cut, recorded};
use crate::crash::{DEADLINE, Outcome};
use crate::program::{Running, example, start};
use crate::random::Random;

/// Leaders after each other in a run.
const N_TERMS: u64 = 3;
/// Moments of a term that are looked at, besides its end; the next one begins at the last of them.
const N_LOOKS: u64 = 20;
/// What may be slow to be synced; see the syncs of queries.
const SLOW: [&str; 4] = ["leader", "metadata", "records", "programs"];

/// The folder of the job manager, and below it those of its election, its metadata and its programs.
pub const JOB_MANAGER: &str = "jobmanager";
/// Of its election.
pub const LEADER: &str = "leader";
/// What is told is written here, and never synced: it is what somebody else knows.
const TOLD: &str = "told";

/// Something that somebody else relies on from now on. Jobs are called by numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// Somebody leads with this epoch.
    Leads(u64),
    /// A job of this program was taken: the number that tells its content, and its id.
    Submitted {
        /// The job.
        job: u64,
        /// What tells its content.
        program: u64,
        /// Its id.
        id: [u8; 32],
    },
    /// An attempt of a job may be deployed.
    Attempted(u64, u32),
    /// A job will end.
    Cancelled(u64),
    /// A job has ended like this.
    Ended(u64, JobPhase),
}

/// Writes down what is told.
#[derive(Clone)]
pub struct Ledger(Arc<Mutex<File>>);

impl Ledger {
    /// In this folder.
    ///
    /// # Errors
    /// If there can be no file.
    pub fn open(root: &Path) -> Result<Ledger> {
        let file = File::options().create(true).append(true).open(root.join(TOLD))?;
        Ok(Ledger(Arc::new(Mutex::new(file))))
    }

    /// Somebody was told this.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn tell(&self, told: Told) -> Result<()> {
        let entry = serde_json::to_string(&told).map_err(|e| Error::internal(e.to_string()))?;
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(file.write_all(format!("{entry}\n").as_bytes())?)
    }
}

/// The content of a program.
pub fn program(number: u64) -> Vec<u8> {
    format!("program {number}\n").repeat(150).into_bytes()
}

/// Each kind of sync that a job manager counts on.
pub const BY_JOB_MANAGERS: [Forgotten; 8] = [
    Forgotten {
        name: "the folders that those of a job manager lie in",
        slow: None,
        mercy: Mercy::None,
        which: |path, is_folder| {
            is_folder && ["", "jobmanager", "jobmanager/metadata"].iter().any(|one| path == *one)
        },
    },
    Forgotten {
        name: "the content of records",
        slow: None,
        mercy: Mercy::Names,
        which: |path, is_folder| !is_folder && path.starts_with("jobmanager/metadata/records"),
    },
    Forgotten {
        name: "the folder of records",
        slow: None,
        mercy: Mercy::None,
        which: |path, is_folder| is_folder && path.ends_with("metadata/records"),
    },
    Forgotten {
        name: "the content of the fence",
        slow: None,
        mercy: Mercy::Names,
        which: |path, is_folder| !is_folder && path.ends_with("metadata/fence.new"),
    },
    Forgotten {
        name: "the content of the epoch",
        slow: None,
        mercy: Mercy::Names,
        which: |path, is_folder| !is_folder && path.ends_with("leader/epoch.new"),
    },
    Forgotten {
        name: "the folder of the epoch",
        slow: None,
        mercy: Mercy::None,
        which: |path, is_folder| is_folder && path.ends_with("jobmanager/leader"),
    },
    Forgotten {
        name: "the content of programs",
        slow: None,
        mercy: Mercy::Names,
        which: |path, is_folder| !is_folder && path.starts_with("jobmanager/programs"),
    },
    Forgotten {
        name: "the folder of programs",
        slow: None,
        mercy: Mercy::None,
        which: |path, is_folder| is_folder && path.ends_with("jobmanager/programs"),
    },
];

/// Lets the power go while a job manager leads, and while the next ones do.
///
/// # Panics
/// When a process cannot be started, a folder cannot be made, or a journal does not tell everything.
pub fn cut_off(seed: u64) -> Outcome {
    let mut run = Run::new(seed);
    let mut outcome = Outcome::new(String::new());
    outcome.violation = run.be_cut_off(&mut outcome.n_kills).err();
    outcome.what = format!("a job manager, {}", run.cuts.join("; "));
    if let Some(violation) = &mut outcome.violation {
        let [before, found] = [run.root, run.copy].map(TempDir::keep);
        let (before, found) = (before.display(), found.display());
        *violation =
            format!("{violation}; what it had left is kept in {before}, what was found in {found}");
    }
    outcome
}

/// Lets one run of a job manager lose its power at so many moments, each time anew, with these syncs forgotten; what was not as it
/// must be, if that shows.
///
/// # Panics
/// As [`cut_off`].
pub fn misses(forgotten: &Forgotten, seed: u64, n_cuts: usize) -> Option<String> {
    let mut run = Run::new(seed);
    let disk = run.record(forgotten.slow, forgotten.which).expect("one that is left alone");
    (0..n_cuts).find_map(|_| {
        let n = run.random.below(disk.n_steps() as u64 + 1) as usize;
        let problem = run.look(&disk, n, forgotten.mercy).err()?;
        Some(format!("after {n} of {} steps: {problem}", disk.n_steps()))
    })
}

struct Run {
    root: TempDir,
    /// Where disks are looked at.
    copy: TempDir,
    random: Random,
    /// What was told before the leader of now.
    told: Vec<Told>,
    cuts: Vec<String>,
}

impl Run {
    fn new(seed: u64) -> Run {
        let parent = std::env::temp_dir().canonicalize().expect("a folder for temporary files");
        let folder = || {
            let prefix = "millstream-ledger-";
            tempfile::Builder::new().prefix(prefix).tempdir_in(&parent).expect("a folder")
        };
        let (told, cuts) = (Vec::new(), Vec::new());
        Run { root: folder(), copy: folder(), random: Random(seed), told, cuts }
    }

    fn be_cut_off(&mut self, n_cuts: &mut u64) -> std::result::Result<(), String> {
        for _ in 0..N_TERMS {
            let slow = self.random.below(2 * SLOW.len() as u64) as usize;
            let slow = SLOW.get(slow).copied();
            let disk = self.record(slow, NOTHING)?;
            let mut cuts = vec![(disk.n_steps(), Mercy::None)];
            cuts.extend((0..N_LOOKS).map(|_| draw_cut(&mut self.random, &disk, 0)));
            let last = cuts.len() - 1;
            for (nth, (n, mercy)) in cuts.into_iter().enumerate() {
                *n_cuts += 1;
                let looked = self.look(&disk, n, mercy);
                if nth == last || looked.is_err() {
                    let slow = slow.map(|slow| format!(", {slow} slow")).unwrap_or_default();
                    self.cuts.push(format!("{n} of {} with {mercy:?}{slow}", disk.n_steps()));
                    looked?;
                    self.told.extend(told(&disk, n));
                    disk::write(&kept(&disk, n, mercy), self.root.path()).expect("there is room");
                }
            }
        }
        Ok(())
    }

    /// Lets a job manager lead, from its start to its end; what it did to its disk.
    fn record(
        &mut self,
        slow: Option<&str>,
        is_forgotten: IsForgotten,
    ) -> std::result::Result<Disk, String> {
        let root = self.root.path();
        let mut disk = Disk::read(root).expect("a folder can be read");
        let mut command = example("ledger");
        command.arg(root).arg(self.random.number().to_string());
        let (journal, ended) = recorded(root, slow, |variables| {
            let running = start(command.envs(variables.iter().copied()));
            running.wait(DEADLINE).map_err(Running::kill).ok()
        })?;
        if ended.is_none() {
            return Err(format!("was still running after {DEADLINE:?}"));
        }
        let told = disk.go_on(journal, is_forgotten).and_then(|()| disk.is_as(root));
        told.unwrap_or_else(|problem| panic!("{problem}"));
        Ok(disk)
    }

    /// Whether what is on a disk after a power cut is all that was told before.
    fn look(&self, disk: &Disk, n: usize, mercy: Mercy) -> std::result::Result<(), String> {
        disk::write(&kept(disk, n, mercy), self.copy.path()).expect("there is room");
        let told: Vec<Told> = self.told.iter().copied().chain(told(disk, n)).collect();
        let unknown = unknown(&self.copy.path().join(JOB_MANAGER), &told);
        match unknown.map_err(|error| format!("the next leader could not go on: {error}"))? {
            Some(told) => Err(format!("{told:?} was told, and the next leader does not know")),
            None => Ok(()),
        }
    }
}

/// What is left after a power cut, but for what is no job manager's.
fn kept(disk: &Disk, n: usize, mercy: Mercy) -> Tree {
    let mut tree = disk.after(n, mercy);
    tree.remove(Path::new(TOLD));
    tree
}

/// What was told in the first `n` steps.
fn told(disk: &Disk, n: usize) -> Vec<Told> {
    let mut tree = disk.after(n, Mercy::All);
    let told = tree.remove(Path::new(TOLD)).flatten().unwrap_or_default();
    let told = told.split(|byte| *byte == b'\n').filter(|entry| !entry.is_empty());
    told.map(|entry| serde_json::from_slice(entry).expect("an entry is one write")).collect()
}

/// Leads; the first of what was told that it does not know.
fn unknown(folder: &Path, told: &[Told]) -> Result<Option<Told>> {
    let leadership = Standalone::new(folder.join(LEADER)).campaign(&never())?;
    let epoch = leadership.expect("nobody stops it").epoch();
    let store = Arc::new(FileStore::open(&folder.join("metadata"))?);
    let (_, records) = JobRecords::open(store, epoch)?;
    let limits = Limits { max_program_bytes: 1 << 20, max_total_bytes: 1 << 30 };
    let programs = ProgramStore::open(&folder.join("programs"), limits)?;
    let jobs: BTreeMap<u128, JobRecord> =
        records.into_iter().map(|record| (record.job.id.0, record)).collect();
    let job = |job: u64| jobs.get(&u128::from(job));
    for told in told {
        let is_known = match *told {
            Told::Leads(other) => epoch.0 > other,
            Told::Submitted { job: id, program: number, id: program_id } => {
                let mut content = Vec::new();
                programs.read(ProgramId(program_id))?.0.read_to_end(&mut content)?;
                let of = job(id).map(|record| record.job.submission.program);
                of == Some(ProgramId(program_id)) && content == program(number)
            }
            Told::Attempted(id, number) => {
                let attempt = job(id).and_then(|record| record.attempt.as_ref());
                attempt.is_some_and(|attempt| attempt.attempt >= number)
            }
            Told::Cancelled(id) => {
                job(id).is_some_and(|record| record.is_cancelled || record.outcome.is_some())
            }
            Told::Ended(id, state) => {
                let outcome = job(id).and_then(|record| record.outcome.as_ref());
                outcome.is_some_and(|outcome| outcome.overview.state == state)
            }
        };
        if !is_known {
            return Ok(Some(*told));
        }
    }
    Ok(None)
}
