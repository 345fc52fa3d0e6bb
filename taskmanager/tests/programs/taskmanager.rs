//! A task manager as small as can be, for tests that kill it: `JOB_MANAGER DIR [MEMORY_BYTES]`.

use millstream_taskmanager::process::{TaskManagerConfig, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let job_manager = arguments.next().expect("the address of a job manager");
    let mut config = TaskManagerConfig::new(arguments.next().expect("a folder").into());
    config.job_managers = vec![job_manager];
    config.n_slots = 3;
    config.host_limits.memory_bytes = arguments.next().map(|bytes| bytes.parse().expect("bytes"));
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
