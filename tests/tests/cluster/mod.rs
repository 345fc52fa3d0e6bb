//! Jobs on a cluster of real processes, which are killed, stopped and cut off from each other.
//!
//! What a job gives must be what it gives without a cluster and without failures; and each failure must have exactly the
//! consequences it has to have: one restart and not two, no restart where the tasks could run on, nothing at all for
//! the job beside it. Every cluster is on ports of its own. `make soak` does the same at random and for longer.

mod failures;
mod operations;
mod queries;
mod strangers;
mod user_code;

use std::path::Path;
use std::process::Command;

use millstream_tests::program::example;

/// A query of the program `queries`, with its output in `out`.
fn query(id: &str, data: &Path, out: &Path, parallelism: usize) -> Command {
    let mut command = example("queries");
    command.arg(id).arg("--data").arg(data).arg("--out").arg(out);
    command.args(["--parallelism", &parallelism.to_string()]);
    command
}
