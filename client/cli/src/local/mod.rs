//! A cluster on this machine: real processes in the background, and a folder that remembers them.
//!
//! Everything is in the folder: what each process keeps, what it logs, and `cluster.json`, which says which processes
//! there are. That file is written before anything is waited for, so a start that fails or is interrupted leaves
//! nothing that `stop` does not find.

mod process;

use crate::args::{Common, LocalFolder, LocalStart};
use crate::commands::{connect, now_ms, print};
use crate::failure::{Failure, Outcome};
use crate::settings::{DEFAULT_ADDRESS, Settings, absolute};
use crate::{show, target};
use millstream::cluster::Connection;
use millstream::cluster::message::{ClientReply, ClientRequest};
use millstream::model::{Error, Result};
use process::{Started, spawn};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

/// Time between two looks at whether something has happened.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Time that processes have to end when they are told to.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// What `cluster.json` says.
#[derive(Debug, Serialize, Deserialize)]
struct LocalCluster {
    /// Where its job manager listens.
    address: String,
    /// Its processes, in the order in which they were started.
    processes: Vec<Started>,
}

fn folder(named: &LocalFolder) -> Outcome<PathBuf> {
    let named = named.dir.clone().or_else(|| {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let state = variable("XDG_STATE_HOME").map(PathBuf::from);
        let home = || variable("HOME").map(|home| Path::new(&home).join(".local").join("state"));
        state.or_else(home).map(|state| state.join("millstream"))
    });
    let text = "there is no home folder to put a cluster in: name one with `--dir`";
    absolute(named.ok_or_else(|| Failure::usage(text))?).map_err(Failure::usage)
}

fn file(dir: &Path) -> PathBuf {
    dir.join("cluster.json")
}

impl LocalCluster {
    /// The one in a folder, if there is one.
    fn read(dir: &Path) -> Result<Option<Self>> {
        let path = file(dir);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let text = format!("{} cannot be read", path.display());
                return Err(Error::external(text).caused_by(error));
            }
        };
        serde_json::from_str(&text).map(Some).map_err(|error| {
            let text = format!("{} does not describe a cluster: delete it", path.display());
            Error::external(text).caused_by(error)
        })
    }

    fn write(&self, dir: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::internal("a cluster cannot be described").caused_by(error))?;
        let (part, path) = (dir.join("cluster.json.part"), file(dir));
        // A file that is empty after a power cut would be in the way of every later cluster.
        let written = std::fs::File::create(&part).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written.and_then(|()| std::fs::rename(&part, &path)).map_err(|error| {
            Error::external(format!("{} cannot be written", path.display())).caused_by(error)
        })
    }

    fn is_alive(&self) -> bool {
        self.processes.iter().any(Started::is_alive)
    }

    fn settings(&self, common: &Common) -> Outcome<Settings> {
        let common = Common { cluster: Some(self.address.clone()), ..common.clone() };
        Settings::read(&common).map_err(Failure::usage)
    }
}

pub(crate) fn start(common: &Common, json: bool, start: &LocalStart) -> Outcome {
    let dir = folder(&start.folder)?;
    if let Some(cluster) = LocalCluster::read(&dir).map_err(Failure::refused)?
        && cluster.is_alive()
    {
        return Err(Failure::refused(Error::user(format!(
            "a cluster runs in {} at {}: `millstream cluster stop` ends it, `--dir` names another folder",
            dir.display(),
            cluster.address
        ))));
    }
    std::fs::create_dir_all(&dir).map_err(|error| {
        let text = format!("the folder {} cannot be made", dir.display());
        Failure::usage(Error::user(text).caused_by(error))
    })?;
    let listen = free(start.listen)?;
    let rest = free(start.rest_listen)?;
    let address = match listen.ip().is_unspecified() {
        true => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), listen.port()),
        false => listen,
    };
    let mut cluster = LocalCluster { address: address.to_string(), processes: Vec::new() };
    let settings = cluster.settings(common)?;
    if settings.security.tls().map_err(Failure::usage)?.is_some() {
        return Err(Failure::usage(
            "a cluster of processes on one machine does without TLS, but certificates are configured, and each \
             process needs its own: start `millstream jobmanager` and `millstream taskmanager` with theirs",
        ));
    }
    settings.security.check_listen("the job manager", listen).map_err(Failure::usage)?;
    let mut children = Vec::new();
    let started = launch(&dir, &settings, start, (listen, rest), &mut cluster, &mut children)
        .and_then(|()| wait_for(&settings, start, &dir, &mut children));
    if let Err(failure) = started {
        end(&cluster.processes);
        drop(std::fs::remove_file(file(&dir)));
        return Err(failure);
    }
    let (n, address) = (start.task_managers, &cluster.address);
    let value = json!({ "address": address, "rest": rest.to_string(), "dir": dir });
    print(json, &value, || {
        let hint = match *address == DEFAULT_ADDRESS {
            true => String::new(),
            false => format!("export MILLSTREAM_CLUSTER={address}\n"),
        };
        let dir = dir.display();
        format!(
            "a cluster with {n} task managers runs at {address}, REST at {rest}; its logs are in {dir}\n{hint}"
        )
    })
}

/// The address, with a port that is free if any will do.
fn free(address: SocketAddr) -> Outcome<SocketAddr> {
    let bound = TcpListener::bind(address).and_then(|listener| listener.local_addr());
    bound.map_err(|error| {
        let text = format!("nothing can listen at {address}: does another cluster run there?");
        Failure::refused(Error::external(text).caused_by(error))
    })
}

fn launch(
    dir: &Path,
    settings: &Settings,
    start: &LocalStart,
    (listen, rest): (SocketAddr, SocketAddr),
    cluster: &mut LocalCluster,
    children: &mut Vec<(String, Child)>,
) -> Outcome {
    let mut add = |name: String, arguments: &[String]| {
        let (started, child) = spawn(dir, &name, settings, arguments)?;
        cluster.processes.push(started);
        children.push((name, child));
        cluster.write(dir)
    };
    let listening = ["jobmanager".into(), "--listen".into(), listen.to_string()];
    let rest = ["--rest-listen".into(), rest.to_string()];
    add("jobmanager".into(), &[&listening[..], &rest].concat()).map_err(Failure::refused)?;
    for number in 1..=start.task_managers {
        let mut arguments = vec!["taskmanager".to_string()];
        if let Some(slots) = start.slots {
            arguments.extend(["--slots".into(), slots.to_string()]);
        }
        add(format!("taskmanager-{number}"), &arguments).map_err(Failure::refused)?;
    }
    Ok(())
}

/// Waits until all task managers are registered.
fn wait_for(
    settings: &Settings,
    start: &LocalStart,
    dir: &Path,
    children: &mut [(String, Child)],
) -> Outcome {
    let deadline = Instant::now() + Duration::from_secs(start.timeout);
    let mut connection: Option<Connection> = None;
    loop {
        let mut last = match &connection {
            Some(_) => None,
            None => match settings.connect() {
                Ok(opened) => {
                    connection = Some(opened.with_patience(Duration::ZERO));
                    None
                }
                Err(error) => Some(error.to_string()),
            },
        };
        match connection.as_ref().map(|connection| connection.ask(ClientRequest::Cluster)) {
            Some(Ok(ClientReply::Cluster(cluster))) => {
                let n = cluster.task_managers.len();
                if n >= usize::from(start.task_managers) {
                    return Ok(());
                }
                last = Some(format!("{n} of {} task managers are registered", start.task_managers));
            }
            Some(Ok(ClientReply::Refused(error)) | Err(error)) => last = Some(error.to_string()),
            Some(Ok(_)) | None => {}
        }
        for (name, child) in children.iter_mut() {
            if let Ok(Some(status)) = child.try_wait() {
                let log = process::log(dir, name);
                return Err(Failure::refused(Error::external(format!(
                    "{name} ended ({status}); the end of {}:\n{}",
                    log.display(),
                    process::end_of(&log)
                ))));
            }
        }
        if Instant::now() >= deadline {
            let (seconds, last) = (start.timeout, last.unwrap_or_default());
            return Err(Failure::refused(Error::external(format!(
                "the cluster is not there after {seconds} s ({last}): see its logs in {}",
                dir.display()
            ))));
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

pub(crate) fn stop(json: bool, named: &LocalFolder) -> Outcome {
    let dir = folder(named)?;
    let Some(cluster) = LocalCluster::read(&dir).map_err(Failure::refused)? else {
        return Err(Failure::not_found(format!("there is no cluster in {}", dir.display())));
    };
    let n = end(&cluster.processes);
    std::fs::remove_file(file(&dir)).map_err(|error| Failure::refused(Error::from(error)))?;
    print(json, &json!({ "ended": n }), || format!("{n} processes have ended\n"))
}

/// Ends processes: task managers first, so that they can say farewell. Gives how many there were.
fn end(processes: &[Started]) -> usize {
    let alive: Vec<_> = processes.iter().filter(|process| process.is_alive()).collect();
    let (job_managers, task_managers): (Vec<&Started>, Vec<_>) =
        alive.iter().partition(|process| process.name == "jobmanager");
    let groups: [Vec<&Started>; 2] = [task_managers, job_managers];
    for group in groups {
        group.iter().for_each(|process| process.signal(nix::sys::signal::SIGTERM));
        let deadline = Instant::now() + STOP_TIMEOUT;
        while group.iter().any(|process| process.is_alive()) {
            if Instant::now() >= deadline {
                group.iter().for_each(|process| process.signal(nix::sys::signal::SIGKILL));
                break;
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
    alive.len()
}

pub(crate) fn status(common: &Common, json: bool, named: &LocalFolder) -> Outcome {
    let dir = folder(named)?;
    let Some(local) = LocalCluster::read(&dir).map_err(Failure::refused)? else {
        return Err(Failure::not_found(format!("there is no cluster in {}", dir.display())));
    };
    for process in local.processes.iter().filter(|process| !process.is_alive()) {
        eprintln!("{} ({}) has ended; see its log in {}", process.name, process.pid, dir.display());
    }
    let cluster = target::cluster(&connect(&local.settings(common)?)?)?;
    print(json, &cluster, || format!("at {}\n{}", local.address, show::cluster(&cluster, now_ms())))
}
