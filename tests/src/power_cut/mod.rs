//! Power cuts: whether what a job counts on after a crash was ever on the disk.
//!
//! A process that is killed loses nothing that it gave to the system, synced or not; so killing one shows nothing about a
//! sync that is missing. Here everything that a query does to its files is written down (`recorder.rs`, a library that is
//! loaded into the unchanged program), and a disk is made of it on which only what was synced is sure to be there (`disk`): of a
//! moment between any two steps, and with as much of the rest as luck leaves. The query goes on from that disk, again and again.
//! In the end its results must be the expected ones, and hold everything that a reader could have read before a cut.
//!
//! What a job manager keeps, and what its clients were told before, is held against such disks in [`ledger`].
//!
//! That a sync is needed is shown by forgetting it: see [`Forgotten`].

pub mod disk;
pub mod journal;
pub mod ledger;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use disk::{Disk, Mercy};
use journal::Op;
use tempfile::NamedTempFile;

use crate::crash::{Case, DEADLINE, Job, Outcome, succeeded};
use crate::program::{Finished, library};
use crate::random::Random;

/// The least of power cuts in a run, besides the one at its end.
const N_CUTS: u64 = 2;

/// Folders that may be slow to be synced, one of them at a time: then much else happens before it is done.
const SLOW: [&str; 7] = ["checkpoints", "state", "out", "staged", "segments", "commits", "numbers"];

/// Syncs that are taken for not having been there: of these files, or of these folders.
#[derive(Clone, Copy, Debug)]
pub struct Forgotten {
    /// What they are, for people.
    pub name: &'static str,
    /// The folder that is slow to be synced meanwhile, so that more is left open.
    slow: Option<&'static str>,
    /// What survives of all that is not synced, so that it is missed; luck is drawn anew for each cut.
    mercy: Mercy,
    /// Whether a sync of a path (below the job's folder), which is a folder or not, is one of them.
    which: IsForgotten,
}

/// Each kind of sync that a query counts on.
pub const BY_QUERIES: [Forgotten; 6] = [
    Forgotten {
        name: "the content of state files",
        slow: None,
        mercy: Mercy::Names,
        which: |path, is_folder| {
            !is_folder && path.starts_with("checkpoints/") && !is_called(path, "manifest")
        },
    },
    Forgotten {
        name: "the content of manifests",
        slow: None,
        mercy: Mercy::Names,
        which: |path, is_folder| !is_folder && is_called(path, "manifest"),
    },
    Forgotten {
        name: "the folders of checkpoints",
        slow: None,
        // Without any at all the job begins anew, over its old output, and misses nothing.
        mercy: Mercy::Luck(0),
        which: |path, is_folder| is_folder && path.starts_with("checkpoints"),
    },
    Forgotten {
        name: "the folder that holds that of checkpoints and that of output",
        slow: None,
        mercy: Mercy::Luck(0),
        which: |path, is_folder| is_folder && path.as_os_str().is_empty(),
    },
    Forgotten {
        name: "the content of output",
        slow: None,
        mercy: Mercy::Names,
        which: |path, is_folder| !is_folder && path.starts_with("out"),
    },
    Forgotten {
        name: "the folders of output",
        slow: None,
        mercy: Mercy::None,
        which: |path, is_folder| is_folder && path.starts_with("out"),
    },
];

/// Each kind of sync that a log counts on, or who reads it.
pub const BY_LOGS: [Forgotten; 4] = [
    Forgotten {
        name: "the content of segments",
        slow: Some("reader"),
        mercy: Mercy::Names,
        which: |path, is_folder| !is_folder && is_of_log(path) && is_called(path, SEGMENTS),
    },
    Forgotten {
        name: "what transactions and the log itself are",
        slow: Some("reader"),
        mercy: Mercy::Names,
        which: |path, is_folder| !is_folder && is_of_log(path) && !is_called(path, SEGMENTS),
    },
    Forgotten {
        name: "the folder of what is staged",
        slow: Some("segments"),
        mercy: Mercy::None,
        which: |path, is_folder| is_folder && path.ends_with("log/staged"),
    },
    Forgotten {
        name: "the folder of segments",
        slow: Some("reader"),
        mercy: Mercy::None,
        which: |path, is_folder| is_folder && path.ends_with("log/segments"),
    },
];

fn is_called(path: &Path, name: &str) -> bool {
    path.file_name().and_then(OsStr::to_str).is_some_and(|found| found.contains(name))
}

fn is_of_log(path: &Path) -> bool {
    path.starts_with("out/log")
}

/// What no name of another file of a log has: `-p` and the number of the partition.
const SEGMENTS: &str = "-p";

impl Case {
    /// Lets the power go while the job runs, at least twice, and when it has ended.
    ///
    /// # Panics
    /// When a process cannot be started, a folder cannot be made, or a journal does not tell everything.
    pub fn cut_off(&self, seed: u64) -> Outcome {
        let mut job = Job::new(self, seed, 1);
        let mut outcome = Outcome::new(String::new());
        outcome.violation = job.be_cut_off(&mut outcome).err();
        outcome.what = job.what();
        job.keep_if(outcome.violation.as_mut());
        outcome
    }

    /// Lets one run lose its power at so many moments, each time anew, with these syncs forgotten; what was not as it must be,
    /// if that shows. The run is the longer, the larger the seed is.
    ///
    /// # Panics
    /// As [`cut_off`](Self::cut_off).
    pub fn misses(&self, forgotten: &Forgotten, seed: u64, n_cuts: usize) -> Option<String> {
        let mut job = Job::new(self, seed, seed + 1);
        let mut disk = job.disk();
        let patience = Duration::from_millis(self.millis * (seed + 1));
        let recorded = job.record(&mut disk, patience, forgotten.slow, forgotten.which);
        recorded.expect("a job that is left alone");
        job.rate = u64::from(u32::MAX);
        let syncs = disk.syncs_of_folders();
        (0..n_cuts).find_map(|_| {
            let n = job.random.pick(&syncs)?;
            let mercy = match forgotten.mercy {
                Mercy::Luck(_) => Mercy::Luck(job.random.number()),
                mercy => mercy,
            };
            job.write(&disk, n, mercy);
            job.goes_on().err().map(|problem| format!("{}, after {n} steps: {problem}", job.what()))
        })
    }

    /// When the job first syncs a folder that it finds when it goes on from what `before` has left at its end, and when it first writes
    /// something: the numbers of the entries of its journal.
    ///
    /// # Panics
    /// As [`cut_off`](Self::cut_off).
    pub fn syncs_what_it_finds(
        &self,
        before: &Case,
        folder: impl Fn(&Path) -> PathBuf,
    ) -> (Option<usize>, Option<usize>) {
        let mut job = Job::new(before, 0, 1);
        job.go_on_to_the_end().expect("a job that is left alone");
        let inode = fs::metadata(folder(job.root())).expect("it is there").ino();
        job.case = self;
        let (journal, ended) = job.journal(DEADLINE, None).expect("a job that is left alone");
        assert!(ended.is_some(), "still running after {DEADLINE:?}");
        let when = |is_one: &dyn Fn(&Op) -> bool| journal.iter().position(is_one);
        let synced = when(&|op| matches!(op, Op::Sync { what, .. } if *what == inode));
        (synced, when(&|op| matches!(op, Op::Write { .. })))
    }
}

/// Lets something `run` with these variables in its environment; what it did in the folder `root`, and how it ended if it did so by
/// itself.
fn recorded(
    root: &Path,
    slow: Option<&str>,
    run: impl FnOnce(&[(&str, &OsStr)]) -> Option<Finished>,
) -> Result<(Vec<Op>, Option<Finished>), String> {
    let journal = NamedTempFile::new().expect("a file for a journal");
    let mut variables = vec![
        ("LD_PRELOAD", library("recorder").as_os_str()),
        (journal::ROOT, root.as_os_str()),
        (journal::JOURNAL, journal.path().as_os_str()),
    ];
    variables.extend(slow.map(|slow| (journal::SLOW, OsStr::new(slow))));
    let ended = run(&variables);
    if let Some(ended) = &ended {
        assert!(!ended.stderr.contains(journal::GAVE_UP), "{}", ended.stderr);
        succeeded(ended)?;
    }
    let journal = fs::read(journal.path()).expect("a journal can be read");
    Ok((journal::decode(&journal).expect("a journal is one"), ended))
}

/// After how many steps, and not before `from`, the power goes, and what survives.
fn draw_cut(random: &mut Random, disk: &Disk, from: usize) -> (usize, Mercy) {
    let changes = disk.changes_of_names().into_iter().filter(|n| *n >= from);
    let change = random.pick(&changes.collect::<Vec<_>>());
    let any = random.between(from as u64, disk.n_steps() as u64 + 1) as usize;
    let n = change.filter(|_| random.below(2) == 0).unwrap_or(any);
    let mercy = match random.below(5) {
        0 => Mercy::None,
        1 => Mercy::Names,
        2 => Mercy::Content,
        _ => Mercy::Luck(random.number()),
    };
    (n, mercy)
}

type IsForgotten = fn(&Path, bool) -> bool;

const NOTHING: IsForgotten = |_, _| false;

impl Job<'_> {
    fn be_cut_off(&mut self, outcome: &mut Outcome) -> Result<(), String> {
        for _ in 0..N_CUTS + self.random.below(3) {
            let patience = self.random.between(self.case.millis / 8, self.case.millis);
            let patience = Duration::from_millis(patience);
            // Half of the time nothing in particular is slow.
            let slow = self.random.below(2 * SLOW.len() as u64) as usize;
            let slow = SLOW.get(slow).copied();
            let mut disk = self.disk();
            let ended = self.record(&mut disk, patience, slow, NOTHING)?;
            // Now and then it is killed first, and goes on from what that has left, durable or not.
            let mut from = 0;
            if ended.is_none() && self.random.below(3) == 0 && disk.is_as(self.root()).is_ok() {
                self.glance()?;
                from = disk.n_steps();
                self.record(&mut disk, patience, slow, NOTHING)?;
                self.cuts.push("a kill".into());
            }
            let (n, mercy) = draw_cut(&mut self.random, &disk, from);
            let slow = slow.map(|slow| format!(", {slow} slow")).unwrap_or_default();
            self.cuts.push(format!("{n} of {} with {mercy:?}{slow}", disk.n_steps()));
            self.lose_power(&disk, n, mercy)?;
            outcome.n_kills += 1;
        }
        let mut disk = self.disk();
        let Some(ended) = self.record(&mut disk, DEADLINE, None, NOTHING)? else {
            return Err(format!("was still running after {DEADLINE:?}"));
        };
        // What a job that has ended has written is there, whatever comes.
        self.cuts.push("its end".into());
        self.lose_power(&disk, disk.n_steps(), Mercy::None)?;
        outcome.n_kills += 1;
        self.end(ended)
    }

    /// Runs the job for so long; what it did, and how it ended if it did so by itself.
    fn journal(
        &mut self,
        patience: Duration,
        slow: Option<&str>,
    ) -> Result<(Vec<Op>, Option<Finished>), String> {
        let root = self.root().to_owned();
        recorded(&root, slow, |variables| self.run_for(patience, variables))
    }

    /// The same, done to a disk that is as the job's folder.
    fn record(
        &mut self,
        disk: &mut Disk,
        patience: Duration,
        slow: Option<&str>,
        is_forgotten: IsForgotten,
    ) -> Result<Option<Finished>, String> {
        let (journal, ended) = self.journal(patience, slow)?;
        let mut told = disk.go_on(journal, is_forgotten);
        // One that was killed may have done one thing more than it could write down.
        if ended.is_some() {
            told = told.and_then(|()| disk.is_as(self.root()));
        }
        // A journal that cannot be is no fault of the job.
        told.unwrap_or_else(|problem| panic!("{}: {problem}", self.what()));
        Ok(ended)
    }

    /// The disk of the job as it is, all of it durable.
    fn disk(&self) -> Disk {
        Disk::read(self.root()).expect("the folder of a job can be read")
    }

    /// The power goes after `n` steps: readers have seen what was there then, and the job finds what survived.
    fn lose_power(&mut self, disk: &Disk, n: usize, mercy: Mercy) -> Result<(), String> {
        self.write(disk, n, Mercy::All);
        self.glance()?;
        self.write(disk, n, mercy);
        Ok(())
    }

    fn write(&self, disk: &Disk, n: usize, mercy: Mercy) {
        disk::write(&disk.after(n, mercy), self.root()).expect("a folder can be filled");
    }

    fn root(&self) -> &Path {
        self.dir.path()
    }
}
