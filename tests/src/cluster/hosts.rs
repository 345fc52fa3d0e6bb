//! The processes of jobs, as the system sees them.
//!
//! The cluster tells no process ids of hosts, and should not: so they are looked for among the children of the task
//! managers. What they were started with tells one job's from another's.

use std::fs;

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
