//! The `millstream` command.
//!
//! It holds no state and decides nothing about jobs: every command is a few requests to the job manager, a program that is
//! started, or a look at files. What it adds is how that is said: text for people, JSON and exit codes for scripts.

mod args;
mod commands;
mod failure;
mod local;
mod processes;
#[cfg(test)]
mod reference;
mod settings;
mod show;
mod table;
mod target;

use args::{Command, CommandLine};
use clap::{CommandFactory, Parser};
use failure::{Failure, Outcome};
use settings::Settings;
use std::process::ExitCode;

fn main() -> ExitCode {
    let line = CommandLine::parse();
    match run(&line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(line: &CommandLine) -> Outcome {
    let json = line.common.json;
    let settings = || Settings::read(&line.common).map_err(Failure::usage);
    match &line.command {
        Command::Run(run) => commands::run::run(&settings()?, run),
        Command::Explain(explain) => commands::run::explain(explain),
        Command::List => commands::jobs::list(&settings()?, json),
        Command::Status(status) => commands::jobs::status(&settings()?, json, status),
        Command::Cancel(cancel) => commands::jobs::cancel(&settings()?, json, cancel),
        Command::Stop(stop) => commands::jobs::stop(&settings()?, json, stop),
        Command::Savepoint(savepoint) => commands::jobs::savepoint(&settings()?, json, savepoint),
        Command::Rescale(rescale) => commands::rescale::rescale(&settings()?, rescale),
        Command::Checkpoints(job) => commands::jobs::checkpoints(&settings()?, json, job),
        Command::Logs(logs) => commands::logs::logs(&settings()?, logs),
        Command::Verify(snapshot) => commands::snapshots::verify(json, snapshot),
        Command::Inspect(snapshot) => commands::snapshots::inspect(json, snapshot),
        Command::Cluster(args::Local::Start(start)) => local::start(&line.common, json, start),
        Command::Cluster(args::Local::Stop(folder)) => local::stop(json, folder),
        Command::Cluster(args::Local::Status(folder)) => local::status(&line.common, json, folder),
        Command::JobManager(config) => processes::job_manager(&settings()?, config),
        Command::TaskManager(config) => processes::task_manager(&settings()?, config),
        Command::Certs(certs) => commands::certs::certs(json, certs),
        Command::Completions { shell } => {
            clap_complete::generate(
                *shell,
                &mut CommandLine::command(),
                "millstream",
                &mut std::io::stdout(),
            );
            Ok(())
        }
    }
}
