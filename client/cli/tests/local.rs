//! A cluster of real processes on this machine, from its start to its end.

use crate::world::{Ran, millstream};
use millstream::cluster::message::Cluster;
use std::net::TcpListener;
use std::path::Path;

/// Ends what a test that failed has left behind.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn cluster(&self, line: &str) -> Ran {
        Ran::of(&mut millstream(&format!("cluster {line} --dir {}", self.path().display())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.cluster("stop"));
    }
}

const START: &str = "start -n 2 --slots 3 --listen 127.0.0.1:0 --rest-listen 127.0.0.1:0 --json";

#[test]
fn a_cluster_is_started_shown_and_ended() {
    let folder = Folder::new();
    let started: serde_json::Value =
        serde_json::from_str(&folder.cluster(START).expect(0).out).unwrap();
    let address = started["address"].as_str().unwrap();
    let seen = folder.cluster("status --json").expect(0).out;
    let cluster: Cluster = serde_json::from_str(&seen).unwrap();
    let slots: Vec<_> = cluster.task_managers.iter().map(|tm| (tm.n_slots, tm.n_free)).collect();
    assert_eq!(slots, [(3, 3), (3, 3)]);
    let listed = Ran::of(&mut millstream(&format!("list --cluster {address}"))).expect(0).out;
    assert_eq!(listed, "no jobs\n");
    let again = folder.cluster(START).expect(5).err;
    assert!(again.contains("millstream cluster stop"), "{again}");

    assert_eq!(folder.cluster("stop").expect(0).out, "3 processes have ended\n");
    Ran::of(&mut millstream(&format!("list --cluster {address}"))).expect(3);
    folder.cluster("status").expect(4);
    folder.cluster("stop").expect(4);
}

#[test]
fn a_cluster_that_cannot_start_leaves_nothing_behind() {
    let folder = Folder::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let line = format!("start --listen {}", taken.local_addr().unwrap());
    let error = folder.cluster(&line).expect(5).err;
    assert!(error.contains("does another cluster run there?"), "{error}");
    // A job manager that ends at once is not waited for: its folder is a file.
    std::fs::write(folder.path().join("jobmanager"), "").unwrap();
    let error = folder.cluster(START).expect(5).err;
    assert!(error.contains("jobmanager ended") && error.contains("jobmanager.log"), "{error}");
    folder.cluster("status").expect(4);
}

#[test]
fn a_process_says_at_once_what_it_cannot_be_told() {
    let dir = tempfile::tempdir().unwrap();
    let run = |line: &str| {
        Ran::of(&mut millstream(&format!("{line} --dir {}", dir.path().join("own").display())))
    };
    let open = run("jobmanager --listen 0.0.0.0:0").expect(2).err;
    assert!(open.contains("--insecure"), "{open}");
    run("jobmanager --rest-listen nowhere").expect(2);
    run("jobmanager --placement somewhere").expect(2);
    run("jobmanager --heartbeat 0").expect(2);
    run("taskmanager --slots 0").expect(2);
}
