//! The marks among a job's checkpoints, as long as it runs: which stay, and what of other leaders is left alone.

use super::Restored;
use millstream_model::{CheckpointId, LeaderEpoch, Result};
use millstream_state::snapshot::manifest::parse_checkpoint_folder;
use millstream_state::snapshot::{CheckpointStorage, Manifest, mark, sweep};
use std::path::Path;
use std::sync::Arc;

/// See the module's text.
pub(super) struct Marks {
    storage: Arc<dyn CheckpointStorage>,
    epoch: u64,
    /// Those of what the job began at, and of what was passed over for that: they stay until there is a newer checkpoint.
    kept: Vec<CheckpointId>,
    /// The largest epoch there was when it began. What is of a larger one is of a leader after this.
    newest_epoch: u64,
}

impl Marks {
    /// Those of a job that begins at `own`, if that is its own. That has one from now on, also if whoever completed it did not
    /// come so far: what is in it is committed.
    pub(super) fn found(
        storage: &Arc<dyn CheckpointStorage>,
        epoch: LeaderEpoch,
        own: Option<&Restored>,
    ) -> Result<Self> {
        if let Some(own) = own {
            let Manifest { id, epoch, .. } = *own.restore.manifest;
            if !mark::numbers(&**storage)?.contains(&(id, epoch)) {
                mark::completed(&**storage, id, epoch)?;
            }
            mark::retain(&**storage, |marked, _| marked >= id)?;
        }
        let kept = mark::numbers(&**storage)?;
        let begun = storage.list("chk-")?.into_iter();
        let begun =
            begun.filter_map(|path| Some(parse_checkpoint_folder(path.split('/').next()?)?.1));
        let epochs = kept.iter().map(|(_, epoch)| *epoch).chain(begun);
        Ok(Marks {
            storage: Arc::clone(storage),
            epoch: epoch.0,
            newest_epoch: epochs.max().unwrap_or(0).max(epoch.0),
            kept: kept.into_iter().map(|(id, _)| id).collect(),
        })
    }

    /// Marks a checkpoint of the job's, whose manifest is durable.
    pub(super) fn completed(&mut self, checkpoint: CheckpointId) -> Result<()> {
        mark::completed(&*self.storage, checkpoint, self.epoch)?;
        self.kept.clear();
        if let Err(error) = self.retain(|marked| marked >= checkpoint) {
            tracing::warn!(%error, "the marks of earlier checkpoints could not be deleted");
        }
        Ok(())
    }

    /// Marks a stop with a savepoint, whose manifest is durable.
    pub(super) fn stopped(&self, checkpoint: CheckpointId, savepoint: &Path) -> Result<()> {
        mark::stopped(&*self.storage, checkpoint, savepoint)
    }

    /// Deletes those of what was given up: before its files, because a mark without them is a loss.
    pub(super) fn forget_all_but(&self, latest: Option<CheckpointId>) -> Result<()> {
        self.retain(|id| Some(id) == latest || self.kept.contains(&id))
    }

    fn retain(&self, is_kept: impl Fn(CheckpointId) -> bool) -> Result<()> {
        mark::retain(&*self.storage, |id, epoch| is_kept(id) || epoch > self.newest_epoch)
    }

    /// Deletes files that no checkpoint needs.
    pub(super) fn sweep(&self, keep: &[&Manifest], spared: &[&str]) -> Result<()> {
        sweep(&*self.storage, keep, spared, self.newest_epoch).map(drop)
    }
}
