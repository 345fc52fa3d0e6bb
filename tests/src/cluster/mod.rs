//! A cluster of real processes on ports of its own, for tests: a job manager, task managers, and the hosts of jobs.
//!
//! What tests want is to hurt it: kill, stop and start again, one process at a time, and see what comes of jobs. So
//! every process is held here, its log is kept in the cluster's folder, and whatever is waited for is a
//! condition with a deadline. When a test fails the ends of the logs are printed; when it ends in any way,
//! nothing is left running.

mod hosts;
mod jobs;
mod proxy;

pub use hosts::{HostProcess, cut_connections_to};
pub use proxy::{Network, Proxy};

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use millstream::cluster::message::{self, ClientReply, ClientRequest, TaskManagerRow};
use millstream::cluster::{Connection, Security};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::program::example;

/// Several times what anything takes in a debug build on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Time between two looks at a condition.
const LOOK: Duration = Duration::from_millis(20);
/// How much of a log is shown.
const N_SHOWN: usize = 6000;

/// Waits until `look` finds something.
///
/// # Panics
/// After [`PATIENCE`], in the words of `what`.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "it did not happen within {PATIENCE:?}: {what}");
        thread::park_timeout(LOOK);
    }
}

/// Sends a signal to a process; one that is gone does not mind.
pub fn signal(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
}

/// How a cluster is made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Task managers at the beginning.
    pub n_task_managers: usize,
    /// Slots of each.
    pub n_slots: usize,
    /// Further arguments of the job manager.
    pub job_manager: Vec<String>,
    /// Further arguments of each task manager.
    pub task_manager: Vec<String>,
    /// Whether task managers reach the job manager through a proxy.
    pub is_proxied: bool,
    /// Whether what task managers were started from is gone once they run: somebody has installed another release.
    pub is_upgraded: bool,
}

impl Plan {
    /// So many task managers with so many slots.
    pub fn new(n_task_managers: usize, n_slots: usize) -> Plan {
        Plan {
            n_task_managers,
            n_slots,
            job_manager: Vec::new(),
            task_manager: Vec::new(),
            is_proxied: false,
            is_upgraded: false,
        }
    }
}

/// See the module's text. Task managers are numbered from 0 in the order in which they were started, also those that
/// are gone.
pub struct Cluster {
    plan: Plan,
    dir: TempDir,
    address: String,
    rest_address: String,
    job_manager: Option<Child>,
    task_managers: Vec<Option<Child>>,
    connection: Connection,
    proxy: Option<Proxy>,
}

impl Cluster {
    /// Starts one and waits until its task managers are registered.
    pub fn start(n_task_managers: usize, n_slots: usize) -> Cluster {
        Cluster::with(Plan::new(n_task_managers, n_slots))
    }

    /// As planned.
    pub fn with(plan: Plan) -> Cluster {
        let dir = tempfile::Builder::new().prefix("millstream-cluster-").tempdir();
        let dir = dir.expect("a folder for a cluster");
        let [address, rest_address] = free_addresses();
        let job_manager = start_job_manager(&plan, dir.path(), &address, &rest_address);
        let job_manager = Some(job_manager);
        let connection = until("the job manager answers", || open(&address));
        let task_managers = Vec::new();
        let n_task_managers = plan.n_task_managers;
        let proxy = plan.is_proxied.then(|| Proxy::start(address.clone()));
        let mut cluster = Cluster {
            plan,
            dir,
            address,
            rest_address,
            job_manager,
            task_managers,
            connection,
            proxy,
        };
        for _ in 0..n_task_managers {
            cluster.add_task_manager();
        }
        cluster.wait_for_task_managers(n_task_managers);
        if cluster.plan.is_upgraded {
            for number in cluster.task_managers() {
                let copy = cluster.dir().join(format!("millstream-{number}"));
                std::fs::remove_file(copy).expect("a copy can be removed");
            }
        }
        cluster
    }

    /// The folder of everything.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where the job manager listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where its REST interface listens.
    pub fn rest_address(&self) -> &str {
        &self.rest_address
    }

    /// Makes the network between task managers and job manager so, if there is a proxy.
    pub fn set_network(&self, network: Network) {
        self.proxy.iter().for_each(|proxy| proxy.set(network));
    }

    /// A connection to it.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The command `millstream`, told of this cluster and of nothing else.
    pub fn millstream(&self, arguments: &[&str]) -> Command {
        let mut command = clean(example("millstream"));
        command.env("MILLSTREAM_CLUSTER", &self.address).args(arguments);
        command
    }

    /// Asks the job manager.
    ///
    /// # Panics
    /// When it refuses, or does not answer within a minute.
    #[track_caller]
    pub fn ask(&self, request: ClientRequest) -> ClientReply {
        self.connection.call(request).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The cluster as the job manager sees it.
    pub fn view(&self) -> message::Cluster {
        match self.ask(ClientRequest::Cluster) {
            ClientReply::Cluster(cluster) => *cluster,
            other => panic!("{other:?}"),
        }
    }

    /// Starts one more task manager; which number it has. It is not waited for.
    pub fn add_task_manager(&mut self) -> usize {
        let number = self.task_managers.len();
        let name = format!("taskmanager-{number}");
        let mut command = example("millstream");
        if self.plan.is_upgraded {
            let copy = self.dir().join(format!("millstream-{number}"));
            std::fs::copy(command.get_program(), &copy).expect("a program can be copied");
            command = Command::new(copy);
        }
        let mut command = clean(command);
        let through = self.proxy.as_ref().map_or(self.address.clone(), Proxy::address);
        command.args(["--cluster", &through, "taskmanager", "--dir"]);
        command.arg(self.dir().join(&name)).args(["--slots", &self.plan.n_slots.to_string()]);
        command.args(&self.plan.task_manager);
        self.task_managers.push(Some(spawn(command, &self.log(&name))));
        number
    }

    /// Waits until so many are registered.
    #[track_caller]
    pub fn wait_for_task_managers(&self, n: usize) -> Vec<TaskManagerRow> {
        until(&format!("{n} task managers are registered"), || {
            Some(self.view().task_managers).filter(|rows| rows.len() == n)
        })
    }

    /// The process of a task manager that runs.
    pub fn task_manager(&self, number: usize) -> u32 {
        self.task_managers[number].as_ref().expect("it runs").id()
    }

    /// The numbers of the task managers that run.
    pub fn task_managers(&self) -> Vec<usize> {
        (0..self.task_managers.len()).filter(|n| self.task_managers[*n].is_some()).collect()
    }

    /// Kills a task manager: it notices nothing.
    pub fn kill_task_manager(&mut self, number: usize) {
        end(&mut self.task_managers[number]);
    }

    /// Kills the job manager.
    pub fn kill_job_manager(&mut self) {
        end(&mut self.job_manager);
    }

    /// The process of the job manager.
    pub fn job_manager(&self) -> u32 {
        self.job_manager.as_ref().expect("it runs").id()
    }

    /// Starts it again, in the same folder, at the same addresses, and waits until it answers.
    pub fn restart_job_manager(&mut self) {
        self.kill_job_manager();
        let dir = self.dir().to_owned();
        let child = start_job_manager(&self.plan, &dir, &self.address, &self.rest_address);
        self.job_manager = Some(child);
        // A fresh connection: only a job manager that is there answers it.
        until("the job manager answers again", || open(&self.address));
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir().join(format!("{name}.log"))
    }

    /// What the job manager has logged so far.
    pub fn job_manager_log(&self) -> String {
        read(&self.log("jobmanager"))
    }

    /// The ends of all logs.
    pub fn logs(&self) -> String {
        let names = (0..self.task_managers.len()).map(|number| format!("taskmanager-{number}"));
        let names = std::iter::once("jobmanager".to_owned()).chain(names);
        names
            .map(|name| {
                let text = read(&self.log(&name));
                let from = text.len().saturating_sub(N_SHOWN);
                let from = (from..=text.len()).find(|at| text.is_char_boundary(*at));
                format!("== {name}\n{}\n", &text[from.unwrap_or(text.len())..])
            })
            .collect()
    }

    /// Leaves the folder when the cluster goes; where it is.
    pub fn keep(&mut self) -> PathBuf {
        self.dir.disable_cleanup(true);
        self.dir().to_owned()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let hosts = self.hosts();
        end(&mut self.job_manager);
        self.task_managers.iter_mut().for_each(end);
        // A host that is stopped does not see that its task manager is gone.
        hosts.iter().for_each(|host| signal(host.pid, Signal::SIGKILL));
        if thread::panicking() {
            eprintln!("{}", self.logs());
            eprintln!("all of it is in {}", self.keep().display());
        }
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// A command without settings of ours.
pub(crate) fn clean(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MILLSTREAM_") {
            command.env_remove(name);
        }
    }
    command
}

fn open(address: &str) -> Option<Connection> {
    Connection::open(&[address.to_owned()], &Security::default()).ok()
}

/// Addresses at which nobody listens; held together, so that no two are the same.
fn free_addresses() -> [String; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("it is bound").to_string())
}

fn start_job_manager(plan: &Plan, dir: &Path, address: &str, rest_address: &str) -> Child {
    let mut command = clean(example("millstream"));
    command.args(["jobmanager", "--listen", address, "--rest-listen", rest_address, "--dir"]);
    command.arg(dir.join("jobmanager")).args(&plan.job_manager);
    spawn(command, &dir.join("jobmanager.log"))
}

fn spawn(mut command: Command, log: &Path) -> Child {
    let file: File =
        OpenOptions::new().create(true).append(true).open(log).expect("a log can be opened");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
    command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Kills and reaps a process.
fn end(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        child.kill().expect("a child can be killed");
        child.wait().expect("a child can be waited for");
    }
}
