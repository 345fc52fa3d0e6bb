//! The StreamGraph: what the API builds.
//!
//! A node is an operator with everything that knows its types: how to make its link, its head, its
//! outputs. Types are erased here once, when a node is added, and checked here once, when a chain is
//! assembled; everything else (compilation, scheduling, plans) works on numbers and names.

mod erased;

pub(crate) use erased::{
    AnyGate, AnyPush, AnySender, InputOf, InputPort, OpContext, OutputPort, Outs, PortOf, RawOuts,
    erase_push, typed,
};

use millstream_model::job_graph::Ship;
use millstream_model::{CheckpointMode, Result};
use millstream_runtime::chain::Site;
use millstream_runtime::exchange::Limits;
use millstream_runtime::operator::SinkStart;
use millstream_runtime::task::Head;
use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::Arc;

pub(crate) type NodeId = usize;
/// An output of a node: its main one, or a side output by its tag.
pub(crate) type Tag = Option<&'static str>;

/// Whether an operator may be fused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Chaining {
    /// With both neighbours.
    #[default]
    Auto,
    /// Only with those that follow.
    StartNew,
    /// With none.
    Never,
}

/// What a writer's partitioner may know.
pub(crate) struct WriterContext {
    pub(crate) ship: Ship,
    pub(crate) subtask: usize,
    pub(crate) down_parallelism: usize,
    pub(crate) max_parallelism: u32,
    pub(crate) limits: Limits,
    /// Where the operator is whose output it is, and what this one of its outputs is called.
    pub(crate) site: Site,
    pub(crate) output: String,
    /// How barriers travel through the edge.
    pub(crate) mode: CheckpointMode,
}

type MakeWriter = Arc<dyn Fn(Vec<AnySender>, &WriterContext) -> Result<AnyPush> + Send + Sync>;

/// A connection from an output to an input.
#[derive(Clone)]
pub(crate) struct Edge {
    pub(crate) from: NodeId,
    pub(crate) tag: Tag,
    /// What the program asked for; `None`: forward if the parallelisms agree, else rebalance.
    pub(crate) ship: Option<Ship>,
    pub(crate) writer: MakeWriter,
}

/// One input of a node; several edges are a union.
pub(crate) struct Input {
    pub(crate) edges: Vec<Edge>,
    pub(crate) port: Box<dyn InputPort>,
}

/// Builds the head of each subtask.
pub(crate) type BuildSource = Box<dyn Fn(&OpContext, RawOuts) -> Result<Box<dyn Head>> + Send>;
/// Finds the splits for a parallelism, as bytes.
type Discover = Box<dyn Fn(usize) -> Result<Vec<u8>> + Send + Sync>;
/// Deals the splits out to so many subtasks.
type DealSplits = Box<dyn Fn(&[u8], usize) -> Result<BuildSource> + Send + Sync>;
type MakeLink = Box<dyn Fn(&OpContext, RawOuts) -> Result<AnyPush> + Send + Sync>;
/// The head of an enumerator, for so many readers.
type MakeEnumerator =
    Box<dyn Fn(&OpContext, RawOuts, usize) -> Result<Box<dyn Head>> + Send + Sync>;
type MakeReader = Box<dyn Fn(&OpContext, RawOuts, AnyGate) -> Result<Box<dyn Head>> + Send + Sync>;
type MakeTwoHead =
    Box<dyn Fn(&OpContext, RawOuts, AnyGate, AnyGate) -> Result<Box<dyn Head>> + Send + Sync>;

/// How a node becomes part of a task.
pub(crate) enum Make {
    /// Finds the splits, once for the whole job, then builds the heads wherever subtasks are.
    Source { discover: Discover, build: DealSplits },
    /// Finds the splits of another node while the job runs.
    Enumerator(MakeEnumerator),
    /// Reads what an enumerator assigns to it: always the first of its chain.
    Reader(MakeReader),
    /// A link, and the head for when the node is the first of its chain.
    One { link: MakeLink, head: fn(AnyGate, AnyPush, &OpContext) -> Result<Box<dyn Head>> },
    /// Always the first of its chain.
    Two(MakeTwoHead),
}

/// What a source says of itself.
pub(crate) struct SourceTraits {
    pub(crate) bounded: bool,
    pub(crate) size_hint: Option<u64>,
    /// Whether it can go back to where a checkpoint says.
    pub(crate) can_go_back: bool,
}

/// An operator of the program.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) uid: Option<String>,
    pub(crate) parallelism: Option<usize>,
    pub(crate) max_parallelism: Option<u32>,
    /// The most subtasks the operator can use by its nature.
    pub(crate) parallelism_limit: Option<usize>,
    /// Whether some of its subtasks can begin again while others go on.
    pub(crate) recovers_apart: bool,
    /// Whether it has as many subtasks as what feeds it, unless it is told otherwise: spreading would change
    /// the order of records that it works on.
    pub(crate) follows_input: bool,
    pub(crate) slot_sharing_group: Option<String>,
    pub(crate) chaining: Chaining,
    pub(crate) inputs: Vec<Input>,
    pub(crate) outputs: BTreeMap<Tag, Box<dyn OutputPort>>,
    pub(crate) states: Vec<String>,
    pub(crate) is_stateful: bool,
    pub(crate) needs_time: bool,
    /// In words, how the node assigns event times, if it does.
    pub(crate) watermarks: Option<String>,
    pub(crate) source: Option<SourceTraits>,
    /// Of a source whose splits are not all known at the start: what finds them.
    pub(crate) enumerator: Option<NodeId>,
    /// Of a sink: whether what it writes is seen only when it is committed.
    pub(crate) commits: Option<bool>,
    /// Runs once before the job starts.
    pub(crate) prepare: Option<Box<dyn Fn(&SinkStart) -> Result<()> + Send + Sync>>,
    pub(crate) make: Make,
    /// Where the program created it.
    pub(crate) location: &'static Location<'static>,
}

impl Node {
    pub(crate) fn new(
        name: impl Into<String>,
        kind: &'static str,
        make: Make,
        location: &'static Location<'static>,
    ) -> Self {
        Node {
            name: name.into(),
            kind,
            uid: None,
            parallelism: None,
            max_parallelism: None,
            parallelism_limit: None,
            recovers_apart: true,
            follows_input: false,
            slot_sharing_group: None,
            chaining: Chaining::default(),
            inputs: Vec::new(),
            outputs: BTreeMap::new(),
            states: Vec::new(),
            is_stateful: false,
            needs_time: false,
            watermarks: None,
            source: None,
            enumerator: None,
            commits: None,
            prepare: None,
            make,
            location,
        }
    }

    /// Whether records enter the job here.
    pub(crate) fn is_source(&self) -> bool {
        self.inputs.is_empty() || self.enumerator.is_some()
    }

    /// For messages: the operator's name and where it was written.
    pub(crate) fn describe(&self) -> String {
        format!("operator `{}` ({}:{})", self.name, self.location.file(), self.location.line())
    }
}

/// The program: nodes in order of creation, so producers come before consumers.
#[derive(Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    /// What the program did wrong while building, reported by `execute`.
    pub(crate) mistakes: Vec<String>,
    /// Records that the program keeps for itself.
    #[cfg(feature = "cluster")]
    pub(crate) collected: Vec<Collection>,
}

/// Records that are kept where they end and belong to the program, which may be elsewhere.
#[cfg(feature = "cluster")]
pub(crate) struct Collection {
    /// Unique in the job.
    pub(crate) name: String,
    pub(crate) gather: Box<dyn Fn() -> Result<Vec<u8>> + Send + Sync>,
    pub(crate) scatter: Box<dyn Fn(&[u8]) -> Result<()> + Send + Sync>,
}

impl Graph {
    pub(crate) fn add(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Makes the enumerator of a source, if it has one, follow what was set for the source: its name, its uid, where
    /// it runs. The program knows one operator, so it speaks of one.
    pub(crate) fn settle_enumerator(&mut self, source: NodeId) {
        let Some(enumerator) = self.nodes[source].enumerator else { return };
        let Node { name, uid, slot_sharing_group, .. } = &self.nodes[source];
        let of_splits = |name: &String| format!("{name}: splits");
        let (name, uid) = (of_splits(name), uid.as_ref().map(of_splits));
        let slot_sharing_group = slot_sharing_group.clone();
        let node = &mut self.nodes[enumerator];
        (node.name, node.uid, node.slot_sharing_group) = (name, uid, slot_sharing_group);
    }
}
