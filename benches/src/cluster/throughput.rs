//! Rows over two task managers, beside the same rows in one process.

use super::Cluster;
use super::processes::Watch;
use crate::engine::Engine;
use crate::harness::{Contestant, run_child};
use crate::rows::Row;

/// The rows, and the least share of the embedded figure that is aimed at.
const ROWS: [(&str, Option<f64>); 6] = [
    ("w2-100k", None),
    ("w3-string", Some(0.5)),
    ("w3-text", Some(0.5)),
    ("q3", Some(0.5)),
    ("q5", Some(0.5)),
    ("q8", Some(0.5)),
];

/// The name in reports.
pub const NAME: &str = "cluster";

/// Whether a row is run on the cluster when none is asked for.
pub fn is_usual(row: &Row) -> bool {
    ROWS.iter().any(|(id, _)| *id == row.id)
}

/// The least share of the embedded figure that is aimed at.
pub fn target(row: &Row) -> Option<f64> {
    ROWS.iter().find(|(id, _)| *id == row.id)?.1
}

/// Runs rows on a cluster, half of the subtasks on each task manager.
pub fn contestant(cluster: &Cluster, quick: bool, parallelism: usize) -> Contestant<'_> {
    let run = move |row: &Row| {
        let watch = Watch::start(cluster.task_managers());
        let n = row.events(quick);
        let mut figure =
            run_child(row, Engine::Millstream, n, parallelism, Some(cluster.address()))?;
        figure.engine = NAME.into();
        watch.stop(&mut figure);
        Ok(figure)
    };
    Contestant { name: NAME, can_run: Box::new(|_| true), run: Box::new(run) }
}
