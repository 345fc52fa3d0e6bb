//! The command line of the processes of a cluster, and of a cluster on this machine.

use clap::{Args, Subcommand};
use millstream_jobmanager::resource::Placement;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct JobManager {
    /// Folder for what must outlive the process; of no other one
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Where clients and task managers connect to; port 0 is a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7455")]
    pub(crate) listen: SocketAddr,
    /// Where the REST interface listens, with TLS beyond this machine; or `none`
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7456", value_parser = address_or_none)]
    pub(crate) rest_listen: AddressOrNone,
    /// REST wants TLS, and a certificate of the cluster, on this machine, too
    #[arg(long)]
    pub(crate) rest_tls: bool,
    /// How often job manager and task managers say something, in ms
    #[arg(long, value_name = "MS")]
    pub(crate) heartbeat: Option<u64>,
    /// Who has said nothing for so long, in ms, is taken for gone
    #[arg(long, value_name = "MS")]
    pub(crate) heartbeat_timeout: Option<u64>,
    /// How long after its connection broke a task manager may come back, in ms
    #[arg(long, value_name = "MS")]
    pub(crate) reconnect_grace: Option<u64>,
    /// How long task hosts run on without a job manager, in ms
    #[arg(long, value_name = "MS")]
    pub(crate) orphan_timeout: Option<u64>,
    /// How long task managers may take to find a job manager that was started again, in ms
    #[arg(long, value_name = "MS")]
    pub(crate) reattach_timeout: Option<u64>,
    /// Which of the free slots a job is given: `spread` over task managers, or `packed`
    #[arg(long, value_name = "HOW")]
    pub(crate) placement: Option<Placement>,
    /// The most jobs that run or wait at a time
    #[arg(long, value_name = "N")]
    pub(crate) max_jobs: Option<usize>,
    /// How many jobs are remembered after they have ended
    #[arg(long, value_name = "N")]
    pub(crate) history: Option<usize>,
    /// The longest program, in bytes
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_program_bytes: Option<u64>,
    /// All programs together, in bytes
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_programs_bytes: Option<u64>,
    /// The most connections at a time
    #[arg(long, value_name = "N")]
    pub(crate) max_connections: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct TaskManager {
    /// Folder for programs, output and working folders of task hosts; of no other process
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Slots it offers [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) slots: Option<u16>,
    /// The address of this machine at which task hosts listen for records
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1")]
    pub(crate) data_listen: IpAddr,
    /// Where metrics can be read, with TLS beyond this machine; or `none`
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0", value_parser = address_or_none)]
    pub(crate) metrics_listen: AddressOrNone,
    /// Metrics want TLS, and a certificate of the cluster, on this machine, too
    #[arg(long)]
    pub(crate) metrics_tls: bool,
    /// Memory that a task host may allocate, in bytes [default: as much as there is]
    #[arg(long, value_name = "BYTES")]
    pub(crate) host_memory: Option<u64>,
    /// Files that a task host may have open [default: as many as the task manager]
    #[arg(long, value_name = "N")]
    pub(crate) host_files: Option<u64>,
    /// How much of each of a job's output streams is kept, in bytes
    #[arg(long, value_name = "BYTES")]
    pub(crate) log_bytes: Option<u64>,
    /// How much of programs is kept, in bytes
    #[arg(long, value_name = "BYTES")]
    pub(crate) program_bytes: Option<u64>,
}

/// Where something listens, if it does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AddressOrNone(pub(crate) Option<SocketAddr>);

fn address_or_none(text: &str) -> Result<AddressOrNone, String> {
    match text {
        "none" => Ok(AddressOrNone(None)),
        _ => match text.parse() {
            Ok(address) => Ok(AddressOrNone(Some(address))),
            Err(_) => Err("use ADDR:PORT, such as 127.0.0.1:7456, or `none`".to_string()),
        },
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Local {
    /// Starts a job manager and task managers in the background; returns when jobs can be run
    Start(LocalStart),
    /// Ends them
    Stop(LocalFolder),
    /// Shows them
    Status(LocalFolder),
}

#[derive(Debug, Args)]
pub(crate) struct LocalFolder {
    /// Folder of the cluster: what it keeps, its logs, its process ids [default: the user's state folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct LocalStart {
    #[command(flatten)]
    pub(crate) folder: LocalFolder,
    /// Task managers
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) task_managers: u16,
    /// Slots of each [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) slots: Option<u16>,
    /// Where the job manager listens; port 0 is a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7455")]
    pub(crate) listen: SocketAddr,
    /// Where its REST interface listens; port 0 is a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7456")]
    pub(crate) rest_listen: SocketAddr,
    /// Seconds to wait for all of it to be there
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) timeout: u64,
}
