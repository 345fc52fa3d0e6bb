//! A job, from its submission to its end: what carries out what its machines decide.
//!
//! The [`Master`] steps them: the scheduler (which attempt runs, how the job ends) and, if the job takes
//! checkpoints, their coordinator. Where tasks run is behind [`Tasks`]: in this process, in a simulated one, or in
//! the hosts of task managers. So a job in one process and a job in a cluster are the same job, and what holds of
//! one holds of the other.

mod checkpoints;
mod claimed;
pub mod cluster;
pub mod link;
mod marks;
mod master;
mod restoring;
mod savepoints;
mod tasks;
mod told;

pub use checkpoints::{Adopted, Checkpoints, NowUs, Participants, Target, vertices};
pub use master::Master;
pub use restoring::check_fit;
pub use savepoints::{Request, stopped};
pub use tasks::{Attempt, Event, Events, Tasks};

use millstream_model::settings::{JobSettings, RestoreFrom};
use millstream_model::{Error, Result, SnapshotKind};
use millstream_proto::message::TargetFolder;
use millstream_state::snapshot::{CheckpointStorage, LocalStorage, Restore};
use std::path::Path;
use std::sync::Arc;

/// Gives the storage that a folder stands for.
pub type OpenStorage = Arc<dyn Fn(&Path) -> Result<Arc<dyn CheckpointStorage>> + Send + Sync>;

/// Folders are folders.
pub fn local_storage() -> OpenStorage {
    Arc::new(|dir| Ok(Arc::new(LocalStorage::new(dir)?)))
}

/// A checkpoint that a job goes on from, and where it lies.
#[derive(Clone)]
pub struct Restored {
    /// The checkpoint.
    pub restore: Restore,
    /// Where it lies.
    pub target: TargetFolder,
}

/// Where an attempt begins.
#[derive(Clone)]
pub enum Begin {
    /// At the beginning, for the first time.
    Fresh,
    /// At the beginning, although the job ran before: no checkpoint was completed.
    Anew,
    /// At a checkpoint.
    At(Restored),
}

impl Begin {
    /// Where the next attempt begins if no checkpoint was completed in this one.
    fn again(&self) -> Begin {
        match self {
            Begin::Fresh | Begin::Anew => Begin::Anew,
            Begin::At(restored) => Begin::At(restored.clone()),
        }
    }
}

impl Restored {
    /// Whether a path names it.
    fn is_at(&self, path: &Path) -> bool {
        target(path).is_some_and(|target| target == self.target)
    }

    /// Whether the job was stopped with it: it is what its settings would have it restore from otherwise.
    fn is_stop_of(&self, settings: &JobSettings) -> bool {
        let is_stop = matches!(self.restore.manifest.kind, SnapshotKind::Stop { .. });
        is_stop && !matches!(&settings.restore, Some(RestoreFrom::Path(path)) if self.is_at(path))
    }
}

/// The storage and folder that a path to a checkpoint or savepoint names.
fn locate(
    path: &Path,
    open_storage: &OpenStorage,
) -> Result<(Arc<dyn CheckpointStorage>, TargetFolder)> {
    let target = target(path).ok_or_else(|| {
        Error::user(format!("`{}` is not the folder of a checkpoint or savepoint", path.display()))
    })?;
    Ok((open_storage(&target.dir)?, target))
}

fn target(path: &Path) -> Option<TargetFolder> {
    let (root, folder) = (path.parent()?, path.file_name()?.to_str()?);
    let root = if root.as_os_str().is_empty() { Path::new(".") } else { root };
    Some(TargetFolder { dir: root.to_owned(), folder: folder.to_owned() })
}

#[cfg(test)]
mod tests;
