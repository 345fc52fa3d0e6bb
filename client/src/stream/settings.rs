//! Settings of the last operator of a stream.

use crate::environment::Environment;
use crate::graph::{Chaining, Node, NodeId};

/// The operator that is being set.
#[doc(hidden)]
pub struct Operator<'a>(pub(crate) &'a mut Node);

/// `.uid/.name/.parallelism/…`: each speaks of the operator that made the stream, and gives the stream back.
pub trait OperatorSettings: Sized {
    #[doc(hidden)]
    fn configure(self, setting: &'static str, set: impl Fn(Operator<'_>)) -> Self;

    /// The operator's display name, in plans, metrics and errors.
    fn name(self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.configure("name", |n| n.0.name.clone_from(&name))
    }

    /// The operator's stable identity: its state is found by it after the program was edited.
    fn uid(self, uid: impl Into<String>) -> Self {
        let uid = uid.into();
        self.configure("uid", |n| n.0.uid = Some(uid.clone()))
    }

    /// Number of subtasks of this operator.
    fn parallelism(self, parallelism: usize) -> Self {
        self.configure("parallelism", |n| n.0.parallelism = Some(parallelism))
    }

    /// Number of key groups of this operator: the most subtasks it can ever have.
    fn max_parallelism(self, max_parallelism: u32) -> Self {
        self.configure("max_parallelism", |n| n.0.max_parallelism = Some(max_parallelism))
    }

    /// Does not fuse this operator with the one before it.
    fn start_new_chain(self) -> Self {
        self.configure("start_new_chain", |n| n.0.chaining = Chaining::StartNew)
    }

    /// Does not fuse this operator with any other.
    fn disable_chaining(self) -> Self {
        self.configure("disable_chaining", |n| n.0.chaining = Chaining::Never)
    }

    /// Operators of different groups do not share a slot, and are not fused.
    fn slot_sharing_group(self, group: impl Into<String>) -> Self {
        let group = group.into();
        self.configure("slot_sharing_group", |n| n.0.slot_sharing_group = Some(group.clone()))
    }
}

/// Changes the one operator that `origins` names; a union has none of its own.
pub(crate) fn configure(
    env: &Environment,
    origins: impl Iterator<Item = NodeId>,
    setting: &str,
    set: impl Fn(Operator<'_>),
) {
    let origins: Vec<_> = origins.collect();
    let mut graph = env.graph_mut();
    match origins[..] {
        [node] => set(Operator(&mut graph.nodes[node])),
        _ => graph.mistakes.push(format!(
            "`.{setting}(…)` was called on a union, which is no operator: call it on the streams before, or after the next operator"
        )),
    }
}
