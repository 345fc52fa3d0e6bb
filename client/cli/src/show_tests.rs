//! Sample values and the text they become.

use super::*;
use millstream::cluster::message::{ExceptionRow, JobId, TaskManagerId, TaskManagerRow};
use millstream::model::job_graph::{Guarantee, JobGraph};

const NOW_MS: i64 = 1_750_000_090_500;

fn overview() -> JobOverview {
    JobOverview {
        id: JobId(0xab << 120),
        name: "flights".into(),
        state: JobPhase::Running,
        start_time_ms: NOW_MS - 90_500,
        end_time_ms: None,
        n_tasks: 4,
        n_running: 4,
        n_slots: 2,
        n_missing_slots: 0,
        n_restarts: 1,
        last_checkpoint: Some(7),
        passed_over: Vec::new(),
        records: 120_000,
        error: None,
    }
}

fn waiting() -> JobOverview {
    JobOverview {
        id: JobId(5),
        name: "words".into(),
        state: JobPhase::Created,
        n_running: 0,
        n_missing_slots: 2,
        n_restarts: 0,
        last_checkpoint: None,
        ..overview()
    }
}

#[test]
fn jobs_are_a_table() {
    let expected = "\
JOB                               NAME     STATE                      STARTED (UTC)        DURATION      TASKS  RESTARTS  CHECKPOINT
ab000000000000000000000000000000  flights  RUNNING                    2025-06-15 15:06:40  1 min 30 s    4/4    1         7
00000000000000000000000000000005  words    CREATED (2 slots missing)  2025-06-15 15:06:40  1 min 30 s    0/4    0         -
";
    let shown = jobs(&[overview(), waiting()], NOW_MS);
    assert_eq!(squeezed(&shown), squeezed(expected), "{shown}");
    assert_eq!(jobs(&[], NOW_MS), "no jobs\n");
}

/// Columns are tested by `table`; here it is about what is in them.
fn squeezed(text: &str) -> String {
    let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_job_is_a_page() {
    let detail = JobDetail {
        overview: JobOverview { error: Some("the disk is full".into()), ..overview() },
        graph: JobGraph {
            name: "flights".into(),
            vertices: Vec::new(),
            edges: Vec::new(),
            bounded: true,
            guarantee: Guarantee::AtLeastOnce,
        },
        vertices: vec![VertexRow {
            index: 0,
            name: "file source -> count".into(),
            parallelism: 3,
            subtasks: vec![
                (JobPhase::Running, Some(TaskManagerId(1))),
                (JobPhase::Running, Some(TaskManagerId(2))),
                (JobPhase::Created, None),
            ],
        }],
        checkpoints: vec![CheckpointRow {
            id: 7,
            is_savepoint: false,
            state: CheckpointState::Completed,
            trigger_time_ms: NOW_MS - 1000,
            duration_ms: Some(350),
            size_bytes: Some(20 << 20),
            acknowledged: (4, 4),
            path: Some("state/chk-7".into()),
            error: None,
        }],
        exceptions: vec![ExceptionRow {
            time_ms: NOW_MS - 2000,
            message: "the disk is full\nreally".into(),
            domain: "external".into(),
            operator: Some("count".into()),
            subtask: Some(2),
            attempt: 0,
            task_manager: Some(TaskManagerId(2)),
        }],
        metrics: Vec::new(),
    };
    let expected = "\
job         ab000000000000000000000000000000
name        flights
state       RUNNING
started     2025-06-15 15:06:40 UTC, 1 min 30 s ago
tasks       4 of 4 run
slots       2
restarts    1
records     120000
checkpoint  7
error       the disk is full

VERTEX  NAME                  PARALLELISM  SUBTASKS
0       file source -> count  3            1 CREATED, 2 RUNNING

ID  KIND        STATE      BEGUN (UTC)          DURATION  SIZE      TASKS  WHERE
7   checkpoint  completed  2025-06-15 15:08:09  350 ms    20.0 MiB  4/4    state/chk-7

2025-06-15 15:08:08 UTC, attempt 1, operator `count`, subtask 2
    the disk is full
    really
";
    assert_eq!(job(&detail, NOW_MS), expected);
}

#[test]
fn a_cluster_shows_who_is_there() {
    let shown = cluster(
        &Cluster {
            version: "0.1.0".into(),
            epoch: 3,
            rest_address: Some("127.0.0.1:7456".into()),
            task_managers: vec![TaskManagerRow {
                id: TaskManagerId(9),
                hostname: "mill".into(),
                pid: 77,
                version: "0.1.0".into(),
                n_slots: 4,
                n_free: 1,
                jobs: vec![JobId(5)],
                last_heartbeat_ms: NOW_MS - 400,
                metrics_address: None,
            }],
            jobs: vec![overview()],
        },
        NOW_MS,
    );
    let expected = "\
job manager 0.1.0, epoch 3, REST at 127.0.0.1:7456
1 task managers, 1 of 4 slots free, 1 jobs

TASK MANAGER                      HOST  PID  FREE  JOBS  LAST HEARD
00000000000000000000000000000009  mill  77   1/4   1     400 ms
";
    assert_eq!(shown, expected);
}
