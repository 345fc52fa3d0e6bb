//! Which operators are fused into one task, and why the others are not.

use super::Resolved;
use crate::config::Config;
use crate::graph::{Chaining, Graph};
use millstream_model::job_graph::Ship;

/// For each node `None` if it is fused with its producer, else the reason why not.
pub(super) fn decide(
    program: &Graph,
    resolved: &[Resolved],
    config: &Config,
) -> Vec<Option<String>> {
    (0..program.nodes.len()).map(|id| unfused_because(program, resolved, config, id)).collect()
}

fn unfused_because(
    program: &Graph,
    resolved: &[Resolved],
    config: &Config,
    id: usize,
) -> Option<String> {
    let node = &program.nodes[id];
    if node.is_source() {
        return Some("it is a source".into());
    }
    let [input] = &node.inputs[..] else {
        return Some("it has two inputs".into());
    };
    let [edge] = &input.edges[..] else {
        return Some(format!("it unites {} streams", input.edges.len()));
    };
    let (from, this, before) = (&program.nodes[edge.from], &resolved[id], &resolved[edge.from]);
    if !config.chaining {
        return Some("chaining is off".into());
    }
    if this.ships[0][0] != Ship::Forward {
        return Some(match edge.ship {
            Some(ship) => format!("its input is partitioned by {ship}"),
            None => {
                format!("parallelism changes from {} to {}", before.parallelism, this.parallelism)
            }
        });
    }
    if node.chaining == Chaining::Never || from.chaining == Chaining::Never {
        let which = if node.chaining == Chaining::Never { &node.name } else { &from.name };
        return Some(format!("`{which}` disables chaining"));
    }
    if node.chaining == Chaining::StartNew {
        return Some("it starts a new chain".into());
    }
    if this.slot_sharing_group != before.slot_sharing_group {
        return Some(format!("it is in slot-sharing group `{}`", this.slot_sharing_group));
    }
    None
}
