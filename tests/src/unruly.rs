//! What the program `unruly` does when it is told to, and what must be in its output whatever it did.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use millstream::cluster::message::{JobId, JobPhase, Outcome};
use millstream::model::Error;

use crate::cluster::Cluster;

use crate::compare::{compare_lines, lines, part_files, read};
use crate::program::example;

/// Records are counted by so many keys.
pub const N_KEYS: u64 = 16;
/// The program's memory grows by so much at a time.
const HOG_BYTES: usize = 16 << 20;

/// Something unruly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A panic.
    Panic,
    /// The end of the process by SIGABRT.
    Abort,
    /// The end of the process with an exit code, from the middle of a task.
    Quit,
    /// A step that never ends.
    Loop,
    /// Memory, until the system gives no more.
    Hog,
    /// Where it is a host, the program ends before `execute`.
    Exit,
    /// Where it is a host, the program builds another job.
    Drift,
}

const WORDS: [(&str, What); 7] = [
    ("panic", What::Panic),
    ("abort", What::Abort),
    ("quit", What::Quit),
    ("loop", What::Loop),
    ("hog", What::Hog),
    ("exit", What::Exit),
    ("drift", What::Drift),
];

impl FromStr for What {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let known = WORDS.iter().find(|(word, _)| *word == text).map(|(_, what)| *what);
        known.ok_or_else(|| Error::user(format!("`--do {text}`: use one of {WORDS:?}")))
    }
}

impl What {
    /// The word for it on the command line.
    pub fn word(self) -> &'static str {
        WORDS.iter().find(|(_, what)| *what == self).map_or("", |(word, _)| word)
    }

    /// Does it; what concerns `main` is nothing here.
    pub fn happens(self) {
        match self {
            What::Panic => panic!("told to"),
            What::Abort => std::process::abort(),
            What::Quit => std::process::exit(3),
            What::Loop => loop {
                std::thread::park();
            },
            What::Hog => {
                let mut hoard = Vec::new();
                loop {
                    hoard.push(vec![1_u8; HOG_BYTES]);
                    std::hint::black_box(&hoard);
                }
            }
            What::Exit | What::Drift => {}
        }
    }
}

/// Records of a job that is hurt in its middle, and how many come in a second.
pub const N: u64 = 12_000;
const RATE: u64 = 3_000;

/// The program, and where it writes.
#[derive(Debug)]
pub struct Unruly {
    /// The folder of its output.
    pub out: PathBuf,
    /// How many records it reads.
    pub n: u64,
    command: Command,
}

impl Unruly {
    /// With its files in a folder, checkpoints five times a second, and a parallelism of 2.
    pub fn new(dir: &Path, n: u64) -> Unruly {
        Unruly::paced(dir, n, RATE)
    }

    /// As [`new`](Self::new), at so many records a second.
    pub fn paced(dir: &Path, n: u64, rate: u64) -> Unruly {
        std::fs::create_dir_all(dir).expect("a folder for a job");
        let out = dir.join("out");
        let mut command = example("unruly");
        command.arg("--out").arg(&out).args(["--n", &n.to_string(), "--rate", &rate.to_string()]);
        command.arg("--checkpoint-dir").arg(dir.join("checkpoints"));
        command.args(["--checkpoint-interval", "200ms", "-p", "2"]);
        Unruly { out, n, command }
    }

    /// With further arguments.
    #[must_use]
    pub fn args(mut self, arguments: &[&str]) -> Unruly {
        self.command.args(arguments);
        self
    }

    /// With a setting, as a variable.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Unruly {
        self.command.env(name, value);
        self
    }

    /// No subtask sends to another, so that each fails alone.
    #[must_use]
    pub fn apart(self) -> Unruly {
        let opened = opened(&self.out).display().to_string();
        self.args(&["--apart", "--opened", &opened])
    }

    /// What it counts it counts once more, beside that and without a part in anything unruly.
    #[must_use]
    pub fn doubled(self) -> Unruly {
        let opened = opened(&self.out).display().to_string();
        let beside = beside(&self.out).display().to_string();
        self.args(&["--beside", &beside, "--opened", &opened])
    }

    /// It does this at a record in its middle, once.
    #[must_use]
    pub fn does(self, what: What) -> Unruly {
        let (at, flag) = ((self.n / 2).to_string(), self.flag().display().to_string());
        self.args(&["--do", what.word(), "--at", &at, "--once", &flag])
    }

    /// The file that is there when it has begun to do what it is told to.
    pub fn flag(&self) -> PathBuf {
        self.out.with_file_name("done")
    }

    /// Submits it.
    ///
    /// # Panics
    /// When it is not taken.
    #[track_caller]
    pub fn submit(self, cluster: &Cluster) -> UnrulyJob {
        UnrulyJob { id: cluster.submit(self.command), out: self.out, n: self.n }
    }
}

/// Where a job leaves a file for each time a subtask is opened.
fn opened(out: &Path) -> PathBuf {
    out.with_file_name("opened")
}

/// Where a job that is doubled writes what it counts beside.
fn beside(out: &Path) -> PathBuf {
    out.with_file_name("beside")
}

/// The program's job on a cluster.
#[derive(Debug)]
pub struct UnrulyJob {
    /// Its id.
    pub id: JobId,
    /// The folder of its output.
    pub out: PathBuf,
    /// How many records it reads.
    pub n: u64,
}

impl UnrulyJob {
    /// Waits for its end, which is a good one with the right output.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn succeeds(&self, cluster: &Cluster) -> Outcome {
        let outcome = cluster.ended(self.id);
        let exceptions = cluster.detail(self.id).exceptions;
        assert_eq!(outcome.overview.state, JobPhase::Finished, "{exceptions:#?}");
        check(&self.out, self.n).unwrap_or_else(|problem| {
            panic!("the output is not right: {problem}\n{exceptions:#?}")
        });
        outcome
    }

    /// As [`succeeds`](Self::succeeds), after exactly so many restarts.
    ///
    /// # Panics
    /// When it is not so.
    #[track_caller]
    pub fn finishes(&self, cluster: &Cluster, n_restarts: u32) {
        let overview = self.succeeds(cluster).overview;
        let exceptions = cluster.detail(self.id).exceptions;
        assert_eq!(overview.n_restarts, n_restarts, "{exceptions:#?}");
    }

    /// The attempts in which a subtask of a job that is [apart](Unruly::apart) or [doubled](Unruly::doubled) was opened.
    pub fn attempts_of(&self, subtask: usize) -> Vec<u32> {
        attempts_in(&opened(&self.out), subtask)
    }

    /// The same for what is counted beside, whose output is right.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn attempts_beside(&self, subtask: usize) -> Vec<u32> {
        let beside = beside(&self.out);
        check(&beside, self.n).unwrap_or_else(|problem| panic!("beside it: {problem}"));
        attempts_in(&beside.with_extension("opened"), subtask)
    }

    /// The processes that run it.
    pub fn hosts(&self, cluster: &Cluster) -> Vec<u32> {
        let hosts = cluster.hosts_with(&self.out.display().to_string());
        hosts.into_iter().map(|host| host.pid).collect()
    }
}

/// The attempts of a subtask, by the files that it has left.
fn attempts_in(dir: &Path, subtask: usize) -> Vec<u32> {
    let names = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let prefix = format!("{subtask}-");
    let attempts = names.filter_map(|name| name.strip_prefix(&prefix)?.parse().ok());
    let mut attempts: Vec<u32> = attempts.collect();
    attempts.sort_unstable();
    attempts
}

/// Compares the output in `dir` with what `n` records give.
///
/// # Errors
/// How it differs.
pub fn check(dir: &Path, n: u64) -> Result<(), String> {
    let mut expected = String::from("key,count\n");
    for i in 0..n {
        expected += &format!("{},{}\n", i % N_KEYS, i / N_KEYS + 1);
    }
    let parts = part_files(dir).map_err(|e| e.to_string())?;
    let parts = parts.iter().map(|part| read(part)).collect::<Result<Vec<_>, _>>();
    let parts = parts.map_err(|e| e.to_string())?;
    let actual = parts.iter().flat_map(|part| lines(part)).collect();
    compare_lines(expected.as_bytes(), actual).map(drop).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_with_a_count_too_few_or_too_many_is_not_right() {
        let dir = tempfile::tempdir().unwrap();
        let write = |text: &str| std::fs::write(dir.path().join("part-0"), text).unwrap();
        write("0,1\n1,1\n2,1\n");
        assert_eq!(check(dir.path(), 3), Ok(()));
        assert!(check(dir.path(), 4).unwrap_err().contains("1 missing"));
        write("0,1\n1,1\n1,2\n2,1\n");
        assert!(check(dir.path(), 3).unwrap_err().contains("1 unexpected"));
    }

    #[test]
    fn everything_has_a_word() {
        for (word, what) in WORDS {
            assert_eq!((word.parse::<What>().unwrap(), what.word()), (what, word));
        }
    }
}
