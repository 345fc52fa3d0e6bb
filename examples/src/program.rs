//! How an example begins and ends: its own arguments by clap, an error as one line.

use clap::Parser;
use millstream::prelude::*;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The program's own arguments: what the engine left of the command line. A mistake or `--help` ends the
/// process with clap's message.
pub fn arguments<A: Parser>(env: &Environment) -> A {
    const ENGINE: &str = "\
Options of the engine:
  -p, --parallelism <N>         Subtasks of each operator
  -D <KEY=VALUE>                Sets an option of the engine (docs/configuration.md)
      --backend <NAME>          Where state lies: memory, or rocksdb if built with that feature
      --checkpoint-dir <DIR>    Takes checkpoints into this folder
      --checkpoint-interval <T> Time between two of them: 200ms, 10s
      --restore latest|<PATH>   Goes on from a checkpoint or savepoint
      --explain[=text|dot|json] Prints the plan of the job instead of running it";
    let command = A::command().after_help(ENGINE);
    let matches = command.get_matches_from(std::env::args().take(1).chain(env.args().to_vec()));
    A::from_arg_matches(&matches).unwrap_or_else(|mistake| mistake.exit())
}

/// The folder of the data, for programs with no other argument: `--data DIR`, or the sample that comes with
/// the repository.
pub fn data_dir(env: &Environment) -> PathBuf {
    #[derive(Parser)]
    struct Arguments {
        /// The folder of the data; without it the sample of the repository
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    }
    arguments::<Arguments>(env).data.unwrap_or_else(sample_dir)
}

/// Whether the plan is asked for instead of a run: then nothing outside may be touched.
pub fn is_explaining() -> bool {
    std::env::args().any(|argument| argument == "--explain" || argument.starts_with("--explain="))
}

/// Ends a program: an error is shown as one line on standard error, and the exit code is 1.
pub fn finish(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The data that come with the repository: where the programs were built, or in the working directory.
pub fn sample_dir() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    if built.is_dir() { built } else { PathBuf::from("examples/data") }
}
