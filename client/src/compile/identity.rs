//! Operator ids: stable names for state.
//!
//! From the uid where there is one. Otherwise from the operator's kind, the ids of what feeds it, and its
//! rank among equals: adding a sink elsewhere changes nothing, renaming changes nothing, but inserting an
//! operator upstream does. That is why stateful operators should have uids.

use crate::graph::Graph;
use millstream_model::hash_key;
use millstream_model::job_graph::OperatorId;
use std::collections::HashSet;

pub(super) fn operator_ids(program: &Graph) -> Vec<OperatorId> {
    let mut ids: Vec<OperatorId> = Vec::new();
    let mut taken = HashSet::new();
    for node in &program.nodes {
        let inputs: Vec<(u64, Option<&str>)> =
            node.inputs.iter().flat_map(|i| &i.edges).map(|e| (ids[e.from].0, e.tag)).collect();
        let mut rank = 0u32;
        let id = loop {
            // Texts, integers and sequences always hash.
            let hash = match &node.uid {
                Some(uid) => hash_key(&("uid", uid)),
                None => hash_key(&(node.kind, &inputs, rank)),
            }
            .unwrap_or_default();
            if taken.insert(hash) || node.uid.is_some() {
                break OperatorId(hash);
            }
            rank += 1;
        };
        ids.push(id);
    }
    ids
}
