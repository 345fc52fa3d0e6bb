//! What processes use, as the system tells it to anybody.

use crate::measure::Figure;
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use std::collections::BTreeMap;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Ticks of processor time in a second, as `/proc` counts them: the same on every architecture that Linux runs on.
const TICKS_PER_S: f64 = 100.0;
/// How often memory is looked at. What is read is the most there ever was, so only the last moments can be missed.
const PAUSE: Duration = Duration::from_millis(20);
/// How long task managers may take to end the processes of a job.
const ENDED: Duration = Duration::from_secs(10);

/// Adds up what the child processes of some processes use until it is stopped.
pub struct Watch {
    parents: Vec<u32>,
    cpu_s: f64,
    stop: Sender<()>,
    thread: JoinHandle<BTreeMap<u32, u64>>,
}

impl Watch {
    /// Begins.
    pub fn start(parents: Vec<u32>) -> Self {
        let (stop, stopped) = bounded::<()>(0);
        let watched = parents.clone();
        let thread = std::thread::spawn(move || {
            let mut peaks_kib = BTreeMap::new();
            while stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                for child in watched.iter().flat_map(|parent| children(*parent)) {
                    if let Some(kib) = kib_of(child, "status", "VmHWM:") {
                        peaks_kib.insert(child, kib);
                    }
                }
            }
            peaks_kib
        });
        Watch { cpu_s: reaped_cpu_s(&parents), parents, stop, thread }
    }

    /// Waits until the children have ended, and writes down what they used.
    pub fn stop(self, figure: &mut Figure) {
        let began = Instant::now();
        while self.parents.iter().any(|parent| !children(*parent).is_empty())
            && began.elapsed() < ENDED
        {
            std::thread::sleep(PAUSE);
        }
        drop(self.stop);
        let peaks_kib = self.thread.join().expect("the watching thread does not panic");
        figure.peak_mib = peaks_kib.values().sum::<u64>() as f64 / 1024.0;
        figure.cpu_s = reaped_cpu_s(&self.parents) - self.cpu_s;
        figure.records_per_cpu_s = figure.records as f64 / figure.cpu_s;
    }
}

/// The children of a process, whichever of its threads has started them.
pub fn children(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|t| std::fs::read_to_string(t.path().join("children")).ok());
    let numbers = |list: String| -> Vec<u32> {
        list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    };
    lists.flat_map(numbers).collect()
}

/// Processor time of the children that have ended, in seconds.
fn reaped_cpu_s(pids: &[u32]) -> f64 {
    let ticks = |pid: &u32| -> Option<f64> {
        let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in brackets may hold anything; the fields behind it are counted from the third.
        let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
        Some(fields.get(13)?.parse::<f64>().ok()? + fields.get(14)?.parse::<f64>().ok()?)
    };
    pids.iter().filter_map(ticks).sum::<f64>() / TICKS_PER_S
}

/// An entry of a file in a process's folder, in KiB.
pub fn kib_of(pid: u32, file: &str, entry: &str) -> Option<u64> {
    let text = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join(file)).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(entry))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn children_are_found_and_their_time_is_counted() {
        let me = std::process::id();
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        assert!(children(me).contains(&child.id()));
        assert!(kib_of(child.id(), "status", "VmHWM:").unwrap() > 0);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!children(me).contains(&child.id()));
        let before_s = reaped_cpu_s(&[me]);
        let count = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        Command::new("sh").args(["-c", count]).status().unwrap();
        assert!(reaped_cpu_s(&[me]) > before_s);
    }
}
