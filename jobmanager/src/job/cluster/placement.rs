//! Which task runs in which slot.
//!
//! A slot holds one subtask of every vertex of a slot-sharing group, so a group needs as many slots as its widest
//! vertex has subtasks, and a chain of vertices of one parallelism stays together: what is forwarded does not leave
//! the process.

use millstream_model::job_graph::JobGraph;
use millstream_proto::message::{NOWHERE, TaskManagerId};
use std::collections::BTreeSet;

/// The slots that a job needs, and the slot of each task, by the task's number.
pub(super) fn slots_of(graph: &JobGraph) -> (usize, Vec<usize>) {
    let mut groups: Vec<(&str, usize)> = Vec::new();
    for vertex in &graph.vertices {
        let name = vertex.slot_sharing_group.as_str();
        match groups.iter_mut().find(|(group, _)| *group == name) {
            Some((_, width)) => *width = (*width).max(vertex.parallelism),
            None => groups.push((name, vertex.parallelism)),
        }
    }
    let first_of = |name: &str| {
        let before = groups.iter().take_while(|(group, _)| *group != name);
        before.map(|(_, width)| width).sum::<usize>()
    };
    let slots = graph.vertices.iter().flat_map(|vertex| {
        let first = first_of(&vertex.slot_sharing_group);
        (0..vertex.parallelism).map(move |subtask| first + subtask)
    });
    (groups.iter().map(|(_, width)| width).sum(), slots.collect())
}

/// The task manager of each slot, out of those that were granted: a slot that is in use stays where it is, others do if they
/// can.
pub(super) fn settle(
    mut granted: Vec<TaskManagerId>,
    before: &[TaskManagerId],
    in_use: &BTreeSet<usize>,
) -> Vec<TaskManagerId> {
    let mut slots: Vec<Option<TaskManagerId>> = vec![None; granted.len()];
    let others = (0..before.len()).filter(|slot| !in_use.contains(slot));
    for slot in in_use.iter().copied().chain(others) {
        let (Some(id), Some(place)) = (before.get(slot), slots.get_mut(slot)) else { continue };
        if let Some(index) = granted.iter().position(|granted| granted == id) {
            *place = Some(granted.remove(index));
        } else if in_use.contains(&slot) {
            // It is lost, which its tasks will tell: what was granted instead is for when they come back.
            *place = Some(*id);
        }
    }
    let mut rest = granted.into_iter();
    slots.into_iter().filter_map(|slot| slot.or_else(|| rest.next())).collect()
}

/// The task managers of the slots of tasks, each once, and for each task the index of its own; [`NOWHERE`] for one that
/// has no slot.
pub(super) fn place(
    slots: &[TaskManagerId],
    slot_of_task: impl IntoIterator<Item = Option<usize>>,
) -> Option<(Vec<TaskManagerId>, Vec<u32>)> {
    let mut hosts: Vec<TaskManagerId> = Vec::new();
    let mut placement = Vec::new();
    for slot in slot_of_task {
        let Some(slot) = slot else {
            placement.push(NOWHERE);
            continue;
        };
        let id = *slots.get(slot)?;
        let host = hosts.iter().position(|host| *host == id).unwrap_or_else(|| {
            hosts.push(id);
            hosts.len() - 1
        });
        placement.push(host as u32);
    }
    Some((hosts, placement))
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_model::job_graph::{Guarantee, JobVertex};

    fn graph(vertices: &[(&str, usize)]) -> JobGraph {
        let vertex = |(group, parallelism): &(&str, usize)| JobVertex {
            operators: Vec::new(),
            parallelism: *parallelism,
            max_parallelism: 128,
            slot_sharing_group: (*group).to_owned(),
            recovers_apart: true,
        };
        JobGraph {
            name: "test".into(),
            vertices: vertices.iter().map(vertex).collect(),
            edges: Vec::new(),
            bounded: true,
            guarantee: Guarantee::OncePerRun,
        }
    }

    #[test]
    fn a_group_needs_as_many_slots_as_its_widest_vertex() {
        let (n_slots, slots) = slots_of(&graph(&[("a", 1), ("a", 3), ("b", 2), ("a", 2)]));
        assert_eq!((n_slots, slots), (5, vec![0, 0, 1, 2, 3, 4, 0, 1]));
    }

    #[test]
    fn hosts_are_numbered_as_they_are_met() {
        let (a, b) = (TaskManagerId(1), TaskManagerId(2));
        let placed = place(&[b, a, b], [0, 0, 1, 2].map(Some)).unwrap();
        assert_eq!(placed, (vec![b, a], vec![0, 0, 1, 0]));
        assert_eq!(place(&[a], [Some(0), Some(1)]), None);
        let placed = place(&[b, a], [None, Some(1), None]).unwrap();
        assert_eq!(placed, (vec![a], vec![NOWHERE, 0, NOWHERE]));
    }

    #[test]
    fn a_slot_in_use_stays_where_it_is_and_others_do_if_they_can() {
        let [a, b, c] = [1, 2, 3].map(TaskManagerId);
        let used = |slots: &[usize]| slots.iter().copied().collect();
        assert_eq!(settle(vec![a, b], &[], &used(&[])), [a, b]);
        assert_eq!(settle(vec![a, b, c], &[b, c, c], &used(&[0])), [b, c, a]);
        assert_eq!(settle(vec![a, a, b], &[b, c, a], &used(&[2])), [b, a, a]);
        // Two of one that is granted once: the one in use has it.
        assert_eq!(settle(vec![b, a], &[a, a], &used(&[1])), [b, a]);
        // What is in use is lost.
        assert_eq!(settle(vec![b, b], &[a, b], &used(&[0])), [a, b]);
    }
}
