//! The processes of jobs, as the system sees them.
//!
//! The cluster tells no process ids of hosts, and should not: so they are looked for among the children of the task
//! managers. What they were started with tells one job's from another's.

use std::fs;
use std::process::{Command, Stdio};

use super::Cluster;

/// A process that runs tasks of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostProcess {
    /// Its id.
    pub pid: u32,
    /// The number of its task manager.
    pub task_manager: usize,
    /// The arguments of the program, with its name.
    pub arguments: Vec<String>,
}

impl Cluster {
    /// The hosts of all jobs on task managers that run.
    pub fn hosts(&self) -> Vec<HostProcess> {
        let parents: Vec<(u32, usize)> =
            self.task_managers().into_iter().map(|n| (self.task_manager(n), n)).collect();
        let processes = fs::read_dir("/proc").expect("Linux tells its processes");
        let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let mut hosts: Vec<HostProcess> = pids
            .filter_map(|pid: u32| {
                let parent = parent_of(pid)?;
                let (_, task_manager) = *parents.iter().find(|(id, _)| *id == parent)?;
                Some(HostProcess { pid, task_manager, arguments: arguments_of(pid) })
            })
            .collect();
        hosts.sort_by_key(|host| host.pid);
        hosts
    }

    /// Those whose arguments contain this word: the folder of a job's output, say.
    pub fn hosts_with(&self, word: &str) -> Vec<HostProcess> {
        let mut hosts = self.hosts();
        hosts.retain(|host| host.arguments.iter().any(|argument| argument.contains(word)));
        hosts
    }
}

/// Cuts every connection to a port that a process listens on, as a broken network would; whether there was any. `None`
/// where the system does not let this process do so.
pub fn cut_connections_to(pid: u32) -> Option<bool> {
    let mut was_cut = false;
    for port in ports_of(pid) {
        let mut cut = Command::new("ss");
        cut.args([
            "--no-header",
            "--kill",
            "state",
            "established",
            "dport",
            "=",
            &format!(":{port}"),
        ]);
        let said = cut.stderr(Stdio::null()).output().ok().filter(|said| said.status.success())?;
        was_cut |= !said.stdout.is_empty();
    }
    Some(was_cut)
}

/// The ports that a process listens on.
fn ports_of(pid: u32) -> Vec<u16> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let sockets: Vec<String> = files
        .filter_map(|file| fs::read_link(file.path()).ok())
        .filter_map(|link| {
            Some(link.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').into())
        })
        .collect();
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    // Number, address, peer, state (0A: it listens), and six columns later the socket.
    let listening = rows.filter(|row| {
        row.get(3) == Some(&"0A") && row.get(9).is_some_and(|s| sockets.iter().any(|own| own == s))
    });
    let port = |row: Vec<&str>| u16::from_str_radix(row.get(1)?.rsplit(':').next()?, 16).ok();
    listening.filter_map(port).collect()
}

/// The parent of a process that is not a zombie.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    let state = fields.next()?;
    fields.next()?.parse().ok().filter(|_| state != "Z")
}

fn arguments_of(pid: u32) -> Vec<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words =
        line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    words.collect()
}
