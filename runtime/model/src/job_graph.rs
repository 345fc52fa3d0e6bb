//! What a job looks like after compilation: data, no code, no addresses.
//!
//! A [`JobGraph`] is what travels (to a scheduler, into a log, onto a screen): vertices are chains of
//! fused operators that run as one task per subtask, edges are exchanges between them. Code stays in the
//! program; it is found again by operator number.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Stable identity of an operator across restarts and edits of the program: from its uid if it has one,
/// else from its place in the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OperatorId(pub u64);

impl fmt::Display for OperatorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// How records of an edge find their receiving subtask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ship {
    /// To the subtask of the same number.
    Forward,
    /// By key group of the record's key.
    Hash,
    /// Round-robin over all subtasks, batch by batch.
    Rebalance,
    /// Round-robin over a fixed share of the subtasks.
    Rescale,
    /// To a random subtask, batch by batch.
    Shuffle,
    /// To every subtask.
    Broadcast,
    /// To the first subtask.
    Global,
    /// Where the user's function says.
    Custom,
}

impl fmt::Display for Ship {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ship::Forward => "forward",
            Ship::Hash => "hash",
            Ship::Rebalance => "rebalance",
            Ship::Rescale => "rescale",
            Ship::Shuffle => "shuffle",
            Ship::Broadcast => "broadcast",
            Ship::Global => "global",
            Ship::Custom => "custom",
        })
    }
}

/// One operator inside a vertex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainedOperator {
    /// Number of the operator in the program's graph, in order of creation.
    pub node: usize,
    /// Stable identity.
    pub id: OperatorId,
    /// Display name.
    pub name: String,
    /// What the user called it for state, if anything.
    pub uid: Option<String>,
    /// What it does: `map`, `window`, `source` …
    pub kind: String,
    /// Names of the keyed states it declares.
    pub states: Vec<String>,
    /// Why it was not fused with the operator before it; `None` for a fused one and for sources.
    pub unfused_because: Option<String>,
}

/// A chain of fused operators: one task per subtask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobVertex {
    /// The operators, the head first, every other after the one that feeds it.
    pub operators: Vec<ChainedOperator>,
    /// Number of subtasks.
    pub parallelism: usize,
    /// Number of key groups: the most subtasks it can ever have.
    pub max_parallelism: u32,
    /// Vertices of one group may share a slot.
    pub slot_sharing_group: String,
}

impl JobVertex {
    /// The operators' names, joined as in a plan.
    pub fn name(&self) -> String {
        let names: Vec<_> = self.operators.iter().map(|o| o.name.as_str()).collect();
        names.join(" → ")
    }
}

/// An exchange between two vertices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEdge {
    /// Index of the producing vertex.
    pub from: usize,
    /// Operator (number in the program's graph) that produces.
    pub from_node: usize,
    /// Side output it comes from, or `None` for the main output.
    pub tag: Option<String>,
    /// Index of the consuming vertex.
    pub to: usize,
    /// Which input of the consuming head: 0, or 1 for the second of two.
    pub input: usize,
    /// How records find their subtask.
    pub ship: Ship,
}

/// What the whole job promises about its output, as its sources, sinks and checkpoints have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Guarantee {
    /// Without checkpoints: a failure ends the job; a run that finishes has seen every record once.
    OncePerRun,
    /// With checkpoints, whatever fails: what is committed is as if nothing had happened.
    ExactlyOnce,
    /// With checkpoints, state counts every record once, but for these reasons the output may not.
    ExactlyOnceInside(Vec<String>),
    /// With checkpoints whose barriers wait for nobody: no record is lost, some may count twice.
    AtLeastOnce,
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Guarantee::OncePerRun => {
                f.write_str("every record once in a run that finishes (no checkpoints)")
            }
            Guarantee::ExactlyOnce => f.write_str("exactly once, whatever fails"),
            Guarantee::ExactlyOnceInside(reasons) => {
                write!(f, "state counts every record once, but {}", reasons.join("; "))
            }
            Guarantee::AtLeastOnce => f.write_str("at least once, whatever fails"),
        }
    }
}

/// A compiled job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobGraph {
    /// The name given to `execute`.
    pub name: String,
    /// Producers before consumers.
    pub vertices: Vec<JobVertex>,
    /// The exchanges.
    pub edges: Vec<JobEdge>,
    /// Whether every source ends by itself.
    pub bounded: bool,
    /// What the job promises.
    pub guarantee: Guarantee,
}

impl JobGraph {
    /// The exchanges into a vertex.
    pub fn inputs_of(&self, vertex: usize) -> impl Iterator<Item = (usize, &JobEdge)> {
        self.edges.iter().enumerate().filter(move |(_, e)| e.to == vertex)
    }

    /// The exchanges out of a vertex.
    pub fn outputs_of(&self, vertex: usize) -> impl Iterator<Item = (usize, &JobEdge)> {
        self.edges.iter().enumerate().filter(move |(_, e)| e.from == vertex)
    }

    /// Number of tasks: subtasks of all vertices.
    pub fn n_tasks(&self) -> usize {
        self.vertices.iter().map(|v| v.parallelism).sum()
    }
}
