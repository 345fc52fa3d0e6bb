//! Real crashes: a process that writes into a sink dies at every failpoint, every time it passes it, and what it
//! leaves behind is recovered and looked at.

use super::Surroundings;
use crate::conformance::Place;
use millstream_model::{Batch, CheckpointId, Result};
use millstream_runtime::failpoint;
use millstream_runtime::operator::{Sink, SinkStart, SinkWriter, Staged};
use std::fs;
use std::path::Path;
use std::process::Command;

const FOLDER: &str = "MILLSTREAM_TEST_FOLDER";
/// Records that each checkpoint brings.
const N: u64 = 6;

/// Runs `this_test`, which does nothing but call this, in processes that die at the failpoints of a prefix. The
/// process without one must come to its end. `more` is what the story passes beside its checkpoints.
pub(crate) fn crash_everywhere<P: Place>(
    this_test: &str,
    prefix: &str,
    make: impl Fn(&Path) -> P,
    more: impl Fn(&Path),
) {
    if let Some(dir) = std::env::var_os(FOLDER) {
        let dir = Path::new(&dir);
        story(&make(&dir.join("out")), dir).unwrap();
        more(&dir.join("more"));
        return;
    }
    let names: Vec<_> = failpoint::NAMES.iter().filter(|name| name.starts_with(prefix)).collect();
    assert!(!names.is_empty(), "no failpoint begins with {prefix}");
    for name in names {
        let n_passed = (1..).find(|n| !crashes(this_test, name, *n, &make)).unwrap() - 1;
        assert!(n_passed > 0, "the story does not pass {name}");
    }
}

/// What is known of the job when a process dies: the completed checkpoint.
#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Complete {
    id: u64,
    position: u64,
    staged: Vec<Staged>,
}

impl Complete {
    fn store(&self, dir: &Path) {
        fs::write(dir.join("next"), serde_json::to_vec(self).unwrap()).unwrap();
        fs::rename(dir.join("next"), dir.join("complete")).unwrap();
    }

    fn load(dir: &Path) -> Complete {
        match fs::read(dir.join("complete")) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap(),
            Err(_) => Complete::default(),
        }
    }
}

/// Two subtasks that write from a checkpoint on.
struct Attempt<'s, S> {
    sink: &'s S,
    writers: Vec<Box<dyn SinkWriter<u64>>>,
    at: Complete,
}

impl<'s, S: Sink<u64>> Attempt<'s, S> {
    fn start(sink: &'s S, at: Complete) -> Result<Self> {
        let mut writers = Vec::new();
        for subtask in 0..2 {
            let surroundings = Surroundings::new(subtask, 2);
            let mut writer = sink.writer(&surroundings.operator)?;
            writer.open(&surroundings.operator)?;
            writers.push(writer);
        }
        Ok(Attempt { sink, writers, at })
    }

    /// Writes and stages; commits, if `dir` is given to note the checkpoint in.
    fn checkpoint(&mut self, dir: Option<&Path>) -> Result<()> {
        let (id, mut position) = (self.at.id + 1, self.at.position);
        let mut staged = Vec::new();
        for writer in &mut self.writers {
            for _ in 0..N / 2 {
                writer.write(&mut Batch::of(vec![position]))?;
                position += 1;
            }
            staged.extend(writer.stage(CheckpointId(id))?);
        }
        if let Some(dir) = dir {
            self.at = Complete { id, position, staged };
            self.at.store(dir);
            self.sink.committer().unwrap().commit(&self.at.staged)?;
        }
        Ok(())
    }
}

/// Checkpoints, one of them never completed, and a recovery.
fn story<P: Place>(place: &P, dir: &Path) -> Result<()> {
    let sink = place.sink();
    sink.prepare(&SinkStart::Fresh)?;
    let mut attempt = Attempt::start(&sink, Complete::default())?;
    attempt.checkpoint(Some(dir))?;
    attempt.checkpoint(Some(dir))?;
    attempt.checkpoint(None)?;
    let at = attempt.at;
    sink.prepare(&SinkStart::Recovering(at.staged.clone()))?;
    Attempt::start(&sink, at)?.checkpoint(Some(dir))
}

/// Whether the story dies at the `n`-th time it passes a failpoint. What it left is recovered.
fn crashes<P: Place>(this_test: &str, name: &str, n: usize, make: impl Fn(&Path) -> P) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", this_test, "--nocapture"]).env(FOLDER, dir.path());
    let output = child.env(failpoint::VARIABLE, format!("{name}:{n}")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let died = said.contains(&format!("failpoint {name} reached"));
    assert_eq!(output.status.success(), !died, "{name}:{n}: {said}");
    if !died {
        assert_eq!(Complete::load(dir.path()).position, 3 * N);
    }

    let place = make(&dir.path().join("out"));
    let sink = place.sink();
    let complete = Complete::load(dir.path());
    sink.prepare(&SinkStart::Recovering(complete.staged.clone())).unwrap();
    let look = |complete: &Complete| {
        let mut visible = place.visible().unwrap();
        visible.sort_unstable();
        assert_eq!(visible, (0..complete.position).collect::<Vec<_>>(), "{name}:{n}");
    };
    look(&complete);
    let mut attempt = Attempt::start(&sink, complete).unwrap();
    attempt.checkpoint(Some(dir.path())).unwrap();
    look(&attempt.at);
    died
}
