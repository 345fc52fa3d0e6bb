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

impl Ship {
    /// Whether a producing subtask (its number, and how many there are) sends to a receiving one at all.
    pub fn connects(self, (up, n_up): (usize, usize), (down, n_down): (usize, usize)) -> bool {
        match self {
            Ship::Forward => up == down,
            Ship::Rescale if n_down >= n_up => down * n_up / n_down == up,
            Ship::Rescale => up * n_down / n_up == down,
            _ => true,
        }
    }
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
    /// Whether one of its subtasks can begin again while others go on. Not if it has a sink that can only be recovered
    /// as a whole.
    pub recovers_apart: bool,
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

    /// The vertex and subtask of every task, by the task's number.
    pub fn tasks(&self) -> impl Iterator<Item = (usize, usize)> {
        let vertices = self.vertices.iter().enumerate();
        vertices.flat_map(|(v, vertex)| (0..vertex.parallelism).map(move |subtask| (v, subtask)))
    }

    /// The *pipelined region* of every task, by the task's number: tasks that exchange records are in one, and fail and
    /// begin again together; no record ever goes from one to another. Regions are numbered as they are met.
    pub fn regions(&self) -> Vec<usize> {
        let mut first_task = vec![0];
        for vertex in &self.vertices {
            first_task.push(first_task.last().unwrap_or(&0) + vertex.parallelism);
        }
        // The smallest task that each is known to be with.
        let mut with: Vec<usize> = (0..self.n_tasks()).collect();
        fn root(with: &mut [usize], mut task: usize) -> usize {
            while with[task] != task {
                with[task] = with[with[task]];
                task = with[task];
            }
            task
        }
        let mut join = |a: usize, b: usize| {
            let (a, b) = (root(&mut with, a), root(&mut with, b));
            with[a.max(b)] = a.min(b);
        };
        for edge in &self.edges {
            let n_up = self.vertices[edge.from].parallelism;
            let n_down = self.vertices[edge.to].parallelism;
            for up in 0..n_up {
                for down in (0..n_down).filter(|d| edge.ship.connects((up, n_up), (*d, n_down))) {
                    join(first_task[edge.from] + up, first_task[edge.to] + down);
                }
            }
        }
        for (v, vertex) in self.vertices.iter().enumerate().filter(|(_, v)| !v.recovers_apart) {
            (1..vertex.parallelism)
                .for_each(|subtask| join(first_task[v], first_task[v] + subtask));
        }
        let mut numbers = vec![None; with.len()];
        let mut n_regions = 0;
        (0..with.len())
            .map(|task| {
                let root = root(&mut with, task);
                *numbers[root].get_or_insert_with(|| {
                    n_regions += 1;
                    n_regions - 1
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(vertices: &[(usize, bool)], edges: &[(usize, usize, Ship)]) -> JobGraph {
        let vertex = |(parallelism, recovers_apart): &(usize, bool)| JobVertex {
            operators: Vec::new(),
            parallelism: *parallelism,
            max_parallelism: 128,
            slot_sharing_group: "default".into(),
            recovers_apart: *recovers_apart,
        };
        let edge = |(from, to, ship): &(usize, usize, Ship)| JobEdge {
            from: *from,
            from_node: 0,
            tag: None,
            to: *to,
            input: 0,
            ship: *ship,
        };
        JobGraph {
            name: "test".into(),
            vertices: vertices.iter().map(vertex).collect(),
            edges: edges.iter().map(edge).collect(),
            bounded: true,
            guarantee: Guarantee::OncePerRun,
        }
    }

    #[test]
    fn tasks_that_exchange_records_are_in_one_region() {
        let apart = |n| (n, true);
        assert_eq!(graph(&[apart(3)], &[]).regions(), [0, 1, 2]);
        let forward = graph(&[apart(2), apart(2)], &[(0, 1, Ship::Forward)]);
        assert_eq!(forward.regions(), [0, 1, 0, 1]);
        let hash = graph(&[apart(2), apart(3)], &[(0, 1, Ship::Hash)]);
        assert_eq!(hash.regions(), [0; 5]);
        let rescale = graph(&[apart(2), apart(4)], &[(0, 1, Ship::Rescale)]);
        assert_eq!(rescale.regions(), [0, 1, 0, 0, 1, 1]);
        let two = graph(
            &[apart(2), apart(1), apart(2), apart(1)],
            &[(0, 1, Ship::Global), (2, 3, Ship::Rebalance)],
        );
        assert_eq!(two.regions(), [0, 0, 0, 1, 1, 1]);
        assert_eq!(two.tasks().nth(3), Some((2, 0)));
    }

    #[test]
    fn a_sink_that_is_recovered_as_a_whole_joins_its_subtasks() {
        let edges = [(0, 1, Ship::Forward)];
        assert_eq!(graph(&[(2, true), (2, false)], &edges).regions(), [0; 4]);
        assert_eq!(graph(&[(2, false), (2, true)], &edges).regions(), [0; 4]);
    }
}
