//! A checkpoint or savepoint that a job was given to keep: when the job has one of its own, it is deleted.
//!
//! Nothing refers to it then, because a job's first checkpoint after a restore from elsewhere is whole in itself.

use super::Restored;
use millstream_model::Result;
use millstream_model::settings::{JobSettings, RestoreFrom};
use millstream_state::snapshot::manifest::{manifest_path, parse_checkpoint_folder};
use millstream_state::snapshot::{
    CheckpointStorage, Manifest, completed, mark, read_manifest, sweep,
};
use std::sync::Arc;

/// See the module's text.
pub(super) struct Claimed {
    storage: Arc<dyn CheckpointStorage>,
    folder: String,
}

impl Claimed {
    /// What the configuration says is the job's to keep, if that is what it begins at: another leader may have stopped it with a
    /// savepoint since.
    pub(super) fn of(settings: &JobSettings, origin: &Restored) -> Option<Self> {
        match &settings.restore {
            Some(RestoreFrom::Path(path)) if settings.claims && origin.is_at(path) => {
                let storage = Arc::clone(&origin.restore.storage);
                Some(Claimed { storage, folder: origin.target.folder.clone() })
            }
            _ => None,
        }
    }

    /// Deletes it, the manifest first; before that its mark, if nothing is left that could be gone on from instead. Of a
    /// checkpoint of another job, files that its other checkpoints name stay.
    ///
    /// # Errors
    /// If the storage fails; what is left harms nobody.
    pub(super) fn delete(self) -> Result<()> {
        let Claimed { storage, folder } = self;
        // If there are older ones its mark stays: whoever went on from them would commit again what this one's job has.
        if completed(&*storage)?.iter().all(|other| *other == folder) {
            mark::forget(&*storage, &folder)?;
        }
        storage.delete(&manifest_path(&folder))?;
        if parse_checkpoint_folder(&folder).is_some() {
            let others: Vec<Manifest> = completed(&*storage)?
                .iter()
                .map(|other| read_manifest(&*storage, other))
                .collect::<Result<_>>()?;
            sweep(&*storage, &others.iter().collect::<Vec<_>>(), &[], u64::MAX)?;
            return Ok(());
        }
        storage.delete_all(&storage.list(&format!("{folder}/"))?)
    }
}
