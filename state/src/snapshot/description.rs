//! What a checkpoint says of itself: the manifest, and what every task contributes to it.
//!
//! Plain data. Everything is found by names that survive an edit of the program (operator id, name of the
//! state), never by positions in a graph.

use crate::schema::Shape;
use millstream_model::checkpoint::{CheckpointId, SnapshotKind};
use millstream_model::job_graph::OperatorId;
use millstream_model::key_group::{key_group, range_of, subtask_of};
use millstream_model::sabotage::{Bug, is_planted};
use serde::{Deserialize, Serialize};

/// A file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileRef {
    /// Where it lies, relative to the folder of all the job's checkpoints, with `/` between folders.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// XXH3-128 over its content, as 32 hexadecimal digits.
    pub digest: String,
}

/// How the entries of a part find their subtask when the parallelism changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PartKind {
    /// By the hash of their key.
    Keyed,
    /// A list, dealt out to all subtasks.
    Split,
    /// A list, all of which every subtask gets.
    Union,
    /// The same in all subtasks: every subtask gets that of one.
    Broadcast,
}

/// One named piece of an operator's state, as one subtask wrote it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartSnapshot {
    /// The name of the state, unique within the operator.
    pub name: String,
    /// How its entries are dealt out.
    pub kind: PartKind,
    /// What the program called this version of its type.
    pub version: u32,
    /// The shape of an entry: of `(key, value)` if it is keyed.
    pub shape: Shape,
    /// Number of entries.
    pub n_entries: u64,
    /// Their bytes.
    pub n_bytes: u64,
}

/// The state of one operator in one subtask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperatorSnapshot {
    /// The operator.
    pub id: OperatorId,
    /// Its parts. Blocks of the task's file are numbered by these, over all operators in order.
    pub parts: Vec<PartSnapshot>,
}

/// What one task contributes to a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskSnapshot {
    /// Index of the vertex.
    pub vertex: usize,
    /// Index of the subtask.
    pub subtask: usize,
    /// Whether it had come to the end of its input.
    pub ended: bool,
    /// The operators that hold state, in order of the chain.
    pub operators: Vec<OperatorSnapshot>,
    /// The file of blocks; `None` if there is not one entry.
    pub file: Option<FileRef>,
    /// Files that other checkpoints may name too: tables of an LSM tree.
    pub shared: Vec<FileRef>,
}

/// A vertex of the job when the checkpoint was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VertexSnapshot {
    /// Its operators: id, name, uid.
    pub operators: Vec<(OperatorId, String, Option<String>)>,
    /// Number of subtasks.
    pub parallelism: usize,
    /// Number of key groups.
    pub max_parallelism: u32,
}

/// A whole checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Its number.
    pub id: CheckpointId,
    /// Which leader completed it.
    pub epoch: u64,
    /// What it was taken for.
    pub kind: SnapshotKind,
    /// When it was completed, in milliseconds since 1970.
    pub completed_at_ms: i64,
    /// The job's name.
    pub job: String,
    /// The vertices.
    pub vertices: Vec<VertexSnapshot>,
    /// What every task contributed.
    pub tasks: Vec<TaskSnapshot>,
}

impl Manifest {
    /// All files it names.
    pub fn files(&self) -> impl Iterator<Item = &FileRef> {
        self.tasks.iter().flat_map(|task| task.file.iter().chain(&task.shared))
    }

    /// Whether every task had come to the end of its input: there is nothing left to do.
    pub fn is_finished(&self) -> bool {
        !self.tasks.is_empty() && self.tasks.iter().all(|task| task.ended)
    }
}

/// Which entries of a snapshot belong to a subtask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Index of the subtask that restores.
    pub subtask: usize,
    /// Number of subtasks now.
    pub parallelism: usize,
    /// Number of key groups.
    pub max_parallelism: u32,
    /// The subtask that wrote what is being read.
    pub writer: usize,
    /// Number of subtasks then.
    pub n_writers: usize,
}

impl Assignment {
    /// Whether an entry of a keyed part belongs here.
    #[inline]
    pub fn owns(&self, hash: u64) -> bool {
        let group = key_group(hash, self.max_parallelism);
        if is_planted(Bug::WrongKeyGroups) {
            return subtask_of(group, self.n_writers as u32, self.max_parallelism) as usize
                == self.subtask;
        }
        subtask_of(group, self.parallelism as u32, self.max_parallelism) as usize == self.subtask
    }

    /// Whether the `index`-th entry of the writer's list belongs here.
    pub fn is_dealt(&self, index: usize) -> bool {
        if self.parallelism == self.n_writers {
            self.writer == self.subtask
        } else {
            (self.writer + index) % self.parallelism == self.subtask
        }
    }

    /// Whether keyed entries of the writer may belong here: whether the ranges of their key groups meet.
    pub fn overlaps(&self) -> bool {
        let of =
            |subtask: usize, n: usize| range_of(subtask as u32, n as u32, self.max_parallelism);
        let (own, written) = (of(self.subtask, self.parallelism), of(self.writer, self.n_writers));
        own.start < written.end && written.start < own.end
    }
}
