//! What is remembered of a job's checkpoints, for those who watch it.

use millstream_model::{CheckpointId, Error, EventTime, SnapshotKind};
use millstream_proto::message::{CheckpointRow, CheckpointState, TargetFolder};
use millstream_state::snapshot::Manifest;
use std::collections::VecDeque;

/// How many are remembered.
const MAX_ROWS: usize = 100;

/// The newest checkpoints, newest first.
#[derive(Default)]
pub(super) struct History(VecDeque<CheckpointRow>);

impl History {
    pub(super) fn rows(&self) -> Vec<CheckpointRow> {
        self.0.iter().cloned().collect()
    }

    fn add(&mut self, row: CheckpointRow) {
        self.0.push_front(row);
        self.0.truncate(MAX_ROWS);
    }

    fn row(&mut self, checkpoint: CheckpointId) -> Option<&mut CheckpointRow> {
        self.0.iter_mut().find(|row| row.id == checkpoint.0)
    }

    /// One was there when the job began.
    pub(super) fn found(&mut self, manifest: &Manifest, target: &TargetFolder) {
        self.add(CheckpointRow {
            id: manifest.id.0,
            is_savepoint: manifest.kind.is_savepoint(),
            state: CheckpointState::Completed,
            trigger_time_ms: manifest.completed_at_ms,
            duration_ms: None,
            size_bytes: Some(size_of(manifest)),
            acknowledged: (manifest.tasks.len(), manifest.tasks.len()),
            path: Some(path_of(target)),
            error: None,
        });
    }

    pub(super) fn begun(
        &mut self,
        checkpoint: CheckpointId,
        kind: SnapshotKind,
        now_ms: EventTime,
        n_tasks: usize,
    ) {
        self.add(CheckpointRow {
            id: checkpoint.0,
            is_savepoint: kind.is_savepoint(),
            state: CheckpointState::InProgress,
            trigger_time_ms: now_ms,
            duration_ms: None,
            size_bytes: None,
            acknowledged: (0, n_tasks),
            path: None,
            error: None,
        });
    }

    /// A task has acknowledged one.
    pub(super) fn acknowledged(&mut self, checkpoint: CheckpointId) {
        if let Some(row) = self.row(checkpoint) {
            row.acknowledged.0 = (row.acknowledged.0 + 1).min(row.acknowledged.1);
        }
    }

    pub(super) fn completed(
        &mut self,
        manifest: &Manifest,
        target: &TargetFolder,
        now_ms: EventTime,
    ) {
        if let Some(row) = self.row(manifest.id) {
            row.state = CheckpointState::Completed;
            row.duration_ms = Some((now_ms - row.trigger_time_ms).max(0) as u64);
            row.size_bytes = Some(size_of(manifest));
            row.path = Some(path_of(target));
        }
    }

    /// One was given up.
    pub(super) fn failed(
        &mut self,
        checkpoint: CheckpointId,
        now_ms: EventTime,
        error: Option<&Error>,
    ) {
        if let Some(row) = self.row(checkpoint) {
            if row.state == CheckpointState::InProgress {
                row.state = CheckpointState::Failed;
                row.duration_ms = Some((now_ms - row.trigger_time_ms).max(0) as u64);
            }
            if let Some(error) = error {
                row.error = Some(error.to_string());
            }
        }
    }
}

fn size_of(manifest: &Manifest) -> u64 {
    manifest.files().map(|file| file.bytes).sum()
}

fn path_of(target: &TargetFolder) -> String {
    target.dir.join(&target.folder).display().to_string()
}
