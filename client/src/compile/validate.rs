//! What cannot run is refused here, with the operator, its line in the program, and the remedy.

use super::Resolved;
use crate::config::Config;
use crate::graph::{Graph, NodeId, Tag};
use millstream_model::job_graph::Ship;
use millstream_model::key_group::MAX_PARALLELISM_LIMIT;
use millstream_model::{Error, Result};
use std::collections::HashMap;

/// The warnings, if nothing is wrong.
pub(super) fn check(
    program: &Graph,
    resolved: &[Resolved],
    config: &Config,
) -> Result<Vec<String>> {
    if program.nodes.is_empty() {
        return Err(Error::user(
            "the job has no operators: add a source (`env.source(…)`) before `execute`",
        ));
    }
    check_parallelism(program, resolved)?;
    check_uids(program)?;
    check_connections(program, resolved)?;
    check_times(program)?;
    check_ends(program, config)?;
    let mut warnings = Vec::new();
    for node in program.nodes.iter().filter(|n| n.is_stateful && n.uid.is_none()) {
        let message = format!(
            "{} keeps state but has no uid: after an edit of the program its state may not be found again; add `.uid(\"…\")`",
            node.describe()
        );
        if config.strict_uids {
            return Err(Error::user(message));
        }
        warnings.push(message);
    }
    Ok(warnings)
}

/// A stream without end into a sink that shows nothing before it is committed needs checkpoints.
fn check_ends(program: &Graph, config: &Config) -> Result<()> {
    let sources = || program.nodes.iter().filter_map(|node| node.source.as_ref());
    if config.checkpoint_dir.is_some() || sources().all(|source| source.bounded) {
        return Ok(());
    }
    match program.nodes.iter().find(|node| node.commits == Some(true)) {
        None => Ok(()),
        Some(node) => Err(Error::user(format!(
            "{} shows what it writes when a checkpoint is complete, but the job has no end and takes none: set \
             `checkpoint-dir` and `checkpoint-interval`",
            node.describe()
        ))),
    }
}

fn check_parallelism(program: &Graph, resolved: &[Resolved]) -> Result<()> {
    for (node, r) in program.nodes.iter().zip(resolved) {
        let fail = |what: String| Err(Error::user(format!("{} {what}", node.describe())));
        if r.parallelism == 0 {
            return fail("has parallelism 0: it needs at least one subtask".into());
        }
        if r.max_parallelism == 0 || r.max_parallelism > MAX_PARALLELISM_LIMIT {
            return fail(format!(
                "has max parallelism {}: it must be between 1 and {MAX_PARALLELISM_LIMIT}",
                r.max_parallelism
            ));
        }
        if r.parallelism > r.max_parallelism as usize {
            return fail(format!(
                "has parallelism {} above its max parallelism {}: lower the one or raise the other",
                r.parallelism, r.max_parallelism
            ));
        }
        if let Some(limit) = node.parallelism_limit
            && r.parallelism > limit
        {
            return fail(format!(
                "has parallelism {}, but a {} can use at most {limit}: remove `.parallelism(…)`",
                r.parallelism, node.kind
            ));
        }
    }
    Ok(())
}

fn check_uids(program: &Graph) -> Result<()> {
    let mut seen: HashMap<&str, NodeId> = HashMap::new();
    for (id, node) in program.nodes.iter().enumerate() {
        let Some(uid) = &node.uid else { continue };
        if uid.is_empty() {
            return Err(Error::user(format!(
                "{} has an empty uid: give it a name of its own",
                node.describe()
            )));
        }
        if let Some(first) = seen.insert(uid, id) {
            return Err(Error::user(format!(
                "the uid `{uid}` is used twice, by {} and {}: every uid must be unique in a job",
                program.nodes[first].describe(),
                node.describe()
            )));
        }
    }
    Ok(())
}

fn check_connections(program: &Graph, resolved: &[Resolved]) -> Result<()> {
    let mut consumers: HashMap<(NodeId, Tag), usize> = HashMap::new();
    for (id, node) in program.nodes.iter().enumerate() {
        for (i, input) in node.inputs.iter().enumerate() {
            if input.edges.is_empty() {
                return Err(Error::user(format!(
                    "input {} of {} is not connected: unite at least one stream into it",
                    i + 1,
                    node.describe()
                )));
            }
            for (k, edge) in input.edges.iter().enumerate() {
                *consumers.entry((edge.from, edge.tag)).or_default() += 1;
                let (up, down) = (resolved[edge.from].parallelism, resolved[id].parallelism);
                if resolved[id].ships[i][k] == Ship::Forward && up != down {
                    return Err(Error::user(format!(
                        "{} is fed by `forward()` from {} subtasks but has {down}: forward needs equal parallelism; use `rebalance()`",
                        node.describe(),
                        up
                    )));
                }
            }
        }
    }
    for ((from, tag), n) in consumers {
        let node = &program.nodes[from];
        if n > 1 && !node.outputs.get(&tag).is_some_and(|port| port.can_fan_out()) {
            let which = tag.map_or("the output".to_string(), |t| format!("the side output `{t}`"));
            return Err(Error::user(format!(
                "{which} of {} is read {n} times: read it once and `.clone()` the stream",
                node.describe()
            )));
        }
    }
    Ok(())
}

/// Event time has to come from somewhere.
fn check_times(program: &Graph) -> Result<()> {
    // For each node the first source upstream that gives no times, if any.
    let mut timeless: Vec<Option<NodeId>> = Vec::new();
    for (id, node) in program.nodes.iter().enumerate() {
        let upstream = node.inputs.iter().flat_map(|i| &i.edges).find_map(|e| timeless[e.from]);
        if let Some(source) = upstream.filter(|_| node.needs_time) {
            return Err(Error::user(format!(
                "{} works on event time, but {} assigns no timestamps: give the source a watermark strategy (`Watermarks::bounded(secs(5)).on(|r| r.time)`) or call `.watermarks(…)` before it",
                node.describe(),
                program.nodes[source].describe()
            )));
        }
        timeless.push(match &node.watermarks {
            Some(_) => None,
            None if node.source.is_some() => Some(id),
            None => upstream,
        });
    }
    Ok(())
}
