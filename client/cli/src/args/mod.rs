//! The command line, as clap knows it: one place for what there is, what it is called and what is said about it.
//!
//! `docs/cli.md` and the shell completions are made from it. Nothing is read from the environment here, because help
//! must not show what is set there; see `settings`.

mod processes;

pub(crate) use processes::{JobManager, Local, LocalFolder, LocalStart, TaskManager};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::path::{Path, PathBuf};

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    the job failed, or was cancelled while it was waited for
  2    the command line or the configuration is wrong
  3    the cluster cannot be reached
  4    there is no such job, program or snapshot
  5    the cluster refused, or could not do it
  6    a snapshot is damaged
  130  interrupted
`run` and `explain` end with the exit code of the program.";

/// Runs and watches streaming jobs on a cluster.
///
/// The cluster is named by `--cluster`, by the variable MILLSTREAM_CLUSTER, or by `cluster = "HOST:PORT"` in
/// `millstream.toml`; without any it is the one on this machine, at 127.0.0.1:7455.
#[derive(Debug, Parser)]
#[command(name = "millstream", version, after_long_help = EXIT_CODES, max_term_width = 100)]
#[command(propagate_version = false, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command that speaks with a cluster takes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "The cluster")]
pub(crate) struct Common {
    /// Address of the job manager; several with commas between
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub(crate) cluster: Option<String>,
    /// Certificate of the cluster's authority, in PEM [MILLSTREAM_TLS_CA, tls-ca]
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Certificate of this process [MILLSTREAM_TLS_CERT, tls-cert]
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Private key of this process [MILLSTREAM_TLS_KEY, tls-key]
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub(crate) tls_key: Option<PathBuf>,
    /// File with the cluster's token [MILLSTREAM_TOKEN, token: the token itself]
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub(crate) token_file: Option<PathBuf>,
    /// The network is trusted: connections to other machines need no TLS [MILLSTREAM_INSECURE, insecure]
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) insecure: bool,
    /// Configuration file instead of `millstream.toml` in the working directory [MILLSTREAM_CONFIG]
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub(crate) config: Option<PathBuf>,
    /// Prints JSON instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs a program on the cluster
    ///
    /// The program is started on this machine, where it builds its job and submits itself; what it prints appears
    /// here. Its `main` then runs again in every task host.
    Run(Run),
    /// Shows the plan of a program's job without running it
    Explain(Explain),
    /// Lists the jobs of the cluster
    List,
    /// Shows a job: its tasks, checkpoints and failures; without one, the cluster and its task managers
    Status(Status),
    /// Ends a job; its output so far is kept
    Cancel(Cancel),
    /// Ends a job with a savepoint, from which it can go on
    Stop(Stop),
    /// Takes a savepoint of a job that runs on
    Savepoint(Savepoint),
    /// Runs a job with another parallelism: stops it with a savepoint and starts it again from there
    Rescale(Rescale),
    /// Lists the checkpoints of a job
    Checkpoints(Job),
    /// Shows what a job's program has printed in its task hosts
    Logs(Logs),
    /// Checks a checkpoint or savepoint, or all in a folder: reads every byte
    Verify(Snapshot),
    /// Shows what is in a checkpoint or savepoint
    ///
    /// Entries that a checkpoint has in trees (`state-backend=rocksdb`) are counted by a command that was built with the feature
    /// `rocksdb`; for that it copies the trees of a task at a time to the folder for temporary files (`TMPDIR`).
    Inspect(Snapshot),
    /// Starts, stops and shows a cluster of processes on this machine
    #[command(subcommand)]
    Cluster(Local),
    /// Runs a job manager, until it is told to end by SIGTERM or SIGINT
    ///
    /// Jobs run on without it, and it takes them over when it is started again. MILLSTREAM_LOG says how much it logs
    /// (`info`, `debug`, `millstream_jobmanager=debug`).
    #[command(name = "jobmanager")]
    JobManager(JobManager),
    /// Runs a task manager, until it is told to end by SIGTERM or SIGINT
    ///
    /// The job manager is named as for clients, by `--cluster`.
    #[command(name = "taskmanager")]
    TaskManager(TaskManager),
    /// Makes the certificates of a cluster: an authority, and one each for job manager, task managers and clients
    Certs(Certs),
    /// Prints completions for a shell
    Completions {
        /// Which
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Returns when the job is submitted, instead of when it has ended
    #[arg(short, long)]
    pub(crate) detached: bool,
    /// Subtasks of each operator
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) parallelism: Option<u32>,
    /// A variable of the environment that task hosts see too: NAME, or NAME=VALUE
    #[arg(long, value_name = "NAME")]
    pub(crate) env: Vec<String>,
    /// What the job goes on from: `latest`, or the folder of a checkpoint or savepoint
    #[arg(long, value_name = "PATH")]
    pub(crate) restore: Option<String>,
    #[command(flatten)]
    pub(crate) program: Program,
}

#[derive(Debug, Args)]
pub(crate) struct Program {
    /// The program's executable, and its arguments: what comes behind it is not ours
    #[arg(required = true, trailing_var_arg = true, value_names = ["PROGRAM", "ARGS"])]
    words: Vec<String>,
}

impl Program {
    pub(crate) fn path(&self) -> &Path {
        Path::new(self.words.first().map_or("", String::as_str))
    }

    pub(crate) fn arguments(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Format {
    Text,
    Dot,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// How the plan is written
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
    #[command(flatten)]
    pub(crate) program: Program,
}

#[derive(Debug, Args)]
pub(crate) struct Job {
    /// The job's id, or as much of its beginning as no other job has
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// The job's id, or as much of its beginning as no other job has
    #[arg(value_name = "JOB")]
    pub(crate) job: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Cancel {
    #[command(flatten)]
    pub(crate) job: Job,
    /// Does not wait until the job has ended
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Stop {
    #[command(flatten)]
    pub(crate) job: Job,
    /// Folder that the savepoint is put into
    #[arg(long, value_name = "DIR")]
    pub(crate) savepoint: PathBuf,
    /// Lets event time end with the job: windows that are open fire, and what is restored from there reads nothing more
    #[arg(long)]
    pub(crate) drain: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Savepoint {
    #[command(flatten)]
    pub(crate) job: Job,
    /// Folder that it is put into
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Rescale {
    #[command(flatten)]
    pub(crate) job: Job,
    /// Subtasks of each operator
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) parallelism: u32,
    /// Folder that the savepoint is put into; if not given, beside the job's checkpoint folder
    #[arg(long, value_name = "DIR")]
    pub(crate) savepoint: Option<PathBuf>,
    /// The program's executable, if another than the cluster has
    #[arg(long, value_name = "FILE")]
    pub(crate) program: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    #[command(flatten)]
    pub(crate) job: Job,
    /// Goes on until the job has ended
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Standard error, where also the engine's log is, instead of standard output
    #[arg(long)]
    pub(crate) err: bool,
    /// Begins so many bytes before the end; 0 is the whole
    #[arg(long, value_name = "BYTES", default_value_t = 64 * 1024)]
    pub(crate) tail: u64,
    /// Of one task manager only, by its id or the beginning of it
    #[arg(long, value_name = "ID")]
    pub(crate) task_manager: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Snapshot {
    /// The folder of a checkpoint or savepoint, or the one that a job's checkpoints are in
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Certs {
    /// Folder for them; made if it is not there
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Days until they expire
    #[arg(long, value_name = "N", default_value_t = 825, value_parser = clap::value_parser!(u32).range(1..=36500))]
    pub(crate) days: u32,
}
