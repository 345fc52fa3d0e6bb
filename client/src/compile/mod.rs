//! From StreamGraph to JobGraph: checks, parallelism, ship strategies, fusion.
//!
//! Pure: reads the program's graph and the configuration, gives a [`Compiled`] plan or an error that names
//! the operator, the line that made it, and the remedy.

mod chaining;
pub(crate) mod explain;
mod identity;
mod validate;

use crate::config::Config;
use crate::graph::{Graph, NodeId};
use millstream_model::CheckpointMode;
use millstream_model::Result;
use millstream_model::job_graph::{ChainedOperator, Guarantee, JobEdge, JobGraph, JobVertex, Ship};
use millstream_model::key_group::DEFAULT_MAX_PARALLELISM;

/// A job graph, and where its parts come from in the program.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) graph: JobGraph,
    /// For each job edge: consuming node, its input, the edge of that input.
    pub(crate) edge_origins: Vec<(NodeId, usize, usize)>,
    /// What is allowed but should be known.
    pub(crate) warnings: Vec<String>,
}

/// What was decided for a node.
pub(crate) struct Resolved {
    pub(crate) parallelism: usize,
    pub(crate) max_parallelism: u32,
    pub(crate) slot_sharing_group: String,
    /// For each input, for each of its edges.
    pub(crate) ships: Vec<Vec<Ship>>,
}

pub(crate) fn compile(program: &Graph, config: &Config, name: &str) -> Result<Compiled> {
    let resolved = resolve(program, config);
    let warnings = validate::check(program, &resolved, config)?;
    let ids = identity::operator_ids(program);
    let unfused = chaining::decide(program, &resolved, config);

    let mut vertices: Vec<JobVertex> = Vec::new();
    let mut vertex_of = Vec::new();
    for (id, node) in program.nodes.iter().enumerate() {
        let vertex = match &unfused[id] {
            None => vertex_of[node.inputs[0].edges[0].from],
            Some(_) => {
                // Only the first operator of a vertex can be keyed, because its input is partitioned: the key
                // groups are its own, whatever is fused behind it.
                vertices.push(JobVertex {
                    operators: Vec::new(),
                    parallelism: resolved[id].parallelism,
                    max_parallelism: resolved[id].max_parallelism,
                    slot_sharing_group: resolved[id].slot_sharing_group.clone(),
                    recovers_apart: true,
                });
                vertices.len() - 1
            }
        };
        vertex_of.push(vertex);
        vertices[vertex].recovers_apart &= node.recovers_apart;
        vertices[vertex].operators.push(ChainedOperator {
            node: id,
            id: ids[id],
            name: node.name.clone(),
            uid: node.uid.clone(),
            kind: node.kind.to_string(),
            states: node.states.clone(),
            unfused_because: unfused[id].clone().filter(|_| !node.is_source()),
        });
    }

    let mut edges = Vec::new();
    let mut edge_origins = Vec::new();
    for (id, node) in program.nodes.iter().enumerate().filter(|(id, _)| unfused[*id].is_some()) {
        for (input, i) in node.inputs.iter().enumerate() {
            for (k, edge) in i.edges.iter().enumerate() {
                edges.push(JobEdge {
                    from: vertex_of[edge.from],
                    from_node: edge.from,
                    tag: edge.tag.map(str::to_string),
                    to: vertex_of[id],
                    input,
                    ship: resolved[id].ships[input][k],
                });
                edge_origins.push((id, input, k));
            }
        }
    }
    let bounded = program.nodes.iter().filter_map(|n| n.source.as_ref()).all(|s| s.bounded);
    let graph = JobGraph {
        name: name.to_string(),
        vertices,
        edges,
        bounded,
        guarantee: guarantee(program, config),
    };
    Ok(Compiled { graph, edge_origins, warnings })
}

/// What the job promises, and for which of its ends it does not promise more.
fn guarantee(program: &Graph, config: &Config) -> Guarantee {
    if config.checkpoint_dir.is_none() {
        return Guarantee::OncePerRun;
    }
    if config.checkpoint_mode == CheckpointMode::AtLeastOnce {
        return Guarantee::AtLeastOnce;
    }
    let mut reasons = Vec::new();
    for node in &program.nodes {
        if node.source.as_ref().is_some_and(|source| !source.can_go_back) {
            reasons.push(format!("`{}` cannot read again what it has read", node.name));
        }
        if node.commits == Some(false) {
            reasons.push(format!("`{}` shows what it writes at once", node.name));
        }
    }
    if reasons.is_empty() { Guarantee::ExactlyOnce } else { Guarantee::ExactlyOnceInside(reasons) }
}

fn resolve(program: &Graph, config: &Config) -> Vec<Resolved> {
    let mut resolved: Vec<Resolved> = Vec::new();
    for node in &program.nodes {
        let fed_by = node.inputs.first().and_then(|i| i.edges.first()).map(|e| &resolved[e.from]);
        let by_default = match fed_by {
            Some(input) if node.follows_input => input.parallelism,
            _ => node.parallelism_limit.map_or(config.parallelism, |l| config.parallelism.min(l)),
        };
        let parallelism = node.parallelism.unwrap_or(by_default);
        let max_parallelism =
            node.max_parallelism.or(config.max_parallelism).unwrap_or_else(|| {
                DEFAULT_MAX_PARALLELISM.max((parallelism as u32).next_power_of_two())
            });
        let ship = |e: &crate::graph::Edge| {
            e.ship.unwrap_or(if resolved[e.from].parallelism == parallelism {
                Ship::Forward
            } else {
                Ship::Rebalance
            })
        };
        let ships = node.inputs.iter().map(|i| i.edges.iter().map(ship).collect()).collect();
        let inherited = fed_by.map(|input| &input.slot_sharing_group);
        let slot_sharing_group = node
            .slot_sharing_group
            .clone()
            .or_else(|| inherited.cloned())
            .unwrap_or_else(|| "default".to_string());
        resolved.push(Resolved { parallelism, max_parallelism, slot_sharing_group, ships });
    }
    resolved
}
