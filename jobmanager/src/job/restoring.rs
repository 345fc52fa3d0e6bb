//! Where a job begins: what `restore` asks for, and whether it fits the program.
//!
//! Nothing here chooses for the user. A checkpoint that is damaged, of another job's shape, or in the way is an
//! error that says what to do; only explicit options pass it over.

use super::{Begin, OpenStorage, Restored, locate};
use millstream_model::job_graph::{JobGraph, OperatorId};
use millstream_model::settings::{JobSettings, RestoreFrom};
use millstream_model::{CheckpointId, Error, Result};
use millstream_proto::message::TargetFolder;
use millstream_state::snapshot::manifest::{manifest_path, parse_checkpoint_folder};
use millstream_state::snapshot::mark::{self, Mark};
use millstream_state::snapshot::{
    CheckpointStorage, PartKind, Restore, completed, latest, read_manifest, tools,
};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Where a job without checkpoints of its own begins.
pub(super) fn begin_without_checkpoints(
    settings: &JobSettings,
    graph: &JobGraph,
    open_storage: &OpenStorage,
) -> Result<Begin> {
    match &settings.restore {
        None => Ok(Begin::Fresh),
        Some(RestoreFrom::Latest) => Err(Error::user(
            "`restore latest` needs to know where checkpoints are: set `checkpoint-dir`",
        )),
        Some(RestoreFrom::Path(path)) => {
            let (storage, target) = locate(path, open_storage)?;
            Ok(Begin::At(fitting(settings, graph, storage, target)?))
        }
    }
}

/// A job's own checkpoints, as they are found when it begins.
#[derive(Default)]
pub(super) struct Own {
    /// Those that it retains, oldest first; the last is what the job begins at, if it begins at one of them.
    pub(super) retained: Vec<Restored>,
    /// If some that it would retain cannot be read now: the folders in which what they are made of may lie.
    pub(super) unread: Vec<String>,
}

/// The newest checkpoints of a job that begins there, as many as it retains. They stay until there are newer ones: until all tasks
/// have read what the job begins at, nobody knows that it can be read.
pub(super) fn retained(
    settings: &JobSettings,
    storage: &Arc<dyn CheckpointStorage>,
    begin: &Begin,
) -> Result<Own> {
    let mut own = Own::default();
    // What was passed over, because it is damaged or its manifest is gone. As long as there is nothing newer, it may be mended.
    let mut passed_over = match newer_mark(&**storage)? {
        Some(Mark::Completed(lost, _)) => Some(lost),
        _ => None,
    };
    let Begin::At(newest) = begin else {
        own.unread = folders_up_to(&**storage, passed_over)?;
        return Ok(own);
    };
    let id = newest.restore.manifest.id;
    let mut unread = Vec::new();
    if Arc::ptr_eq(&newest.restore.storage, storage) {
        own.retained.push(newest.clone());
    }
    for folder in completed(&**storage)?.into_iter().rev() {
        let Some((older, _)) = parse_checkpoint_folder(&folder).filter(|(older, _)| *older != id)
        else {
            continue;
        };
        if older > id {
            passed_over = passed_over.max(Some(older));
            continue;
        }
        if own.retained.len() + unread.len() >= settings.checkpoints.retained.max(1) {
            break;
        }
        match read_manifest(&**storage, &folder) {
            Ok(manifest) => own.retained.push(Restored {
                restore: Restore {
                    storage: Arc::clone(storage),
                    manifest: Arc::new(manifest),
                    allow_non_restored: settings.allow_non_restored,
                },
                target: TargetFolder { dir: own_dir(settings), folder },
            }),
            Err(error) => {
                tracing::warn!(%folder, %error, "an older checkpoint cannot be read");
                unread.push(older);
            }
        }
    }
    own.unread = folders_up_to(&**storage, unread.into_iter().chain(passed_over).max())?;
    own.retained.reverse();
    Ok(own)
}

/// The folders of this checkpoint and of all before it.
fn folders_up_to(
    storage: &dyn CheckpointStorage,
    newest: Option<CheckpointId>,
) -> Result<Vec<String>> {
    let Some(newest) = newest else { return Ok(Vec::new()) };
    let paths = storage.list("chk-")?;
    let folders = paths.iter().filter_map(|path| path.split('/').next());
    let is_older = |folder: &&str| parse_checkpoint_folder(folder).is_some_and(|f| f.0 <= newest);
    let mut folders: Vec<String> = folders.filter(is_older).map(str::to_owned).collect();
    folders.dedup();
    Ok(folders)
}

/// Where a job begins, and what it passes over, as allowed, to begin there.
pub(super) fn begin(
    settings: &JobSettings,
    graph: &JobGraph,
    storage: &Arc<dyn CheckpointStorage>,
    open_storage: &OpenStorage,
) -> Result<(Begin, Vec<String>)> {
    match &settings.restore {
        None => match earlier_run(&**storage)? {
            None => Ok((Begin::Fresh, Vec::new())),
            Some((what, go_on)) => Err(Error::user(format!(
                "{what}: {go_on}choose another `checkpoint-dir`, or delete what is there"
            ))),
        },
        Some(RestoreFrom::Latest) => go_on(settings, graph, storage, open_storage),
        Some(RestoreFrom::Path(path)) => {
            let whole = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            // What the run before was stopped with is where `latest` goes on from, too.
            let goes_on = match newer_mark(&**storage)? {
                Some(Mark::Stopped(_, savepoint)) => savepoint == *path || savepoint == whole,
                _ => false,
            };
            if !goes_on && let Some((what, _)) = earlier_run(&**storage)? {
                return Err(Error::user(format!(
                    "{what}: choose another `checkpoint-dir`, or delete what is there"
                )));
            }
            let (storage, target) = locate(path, open_storage)?;
            Ok((Begin::At(fitting(settings, graph, storage, target)?), Vec::new()))
        }
    }
}

/// The newest mark, if it is of something newer than all checkpoints: of a stop, or of a checkpoint that is lost.
fn newer_mark(storage: &dyn CheckpointStorage) -> Result<Option<Mark>> {
    // Before the manifests: another leader may still complete one meanwhile, and mark it then.
    let mark = mark::newest(storage)?;
    let folders = completed(storage)?;
    let newest = folders.last().and_then(|folder| parse_checkpoint_folder(folder));
    Ok(mark.filter(|mark| Some(mark.number()) > newest))
}

/// What an earlier run has left, and how one goes on from it.
fn earlier_run(storage: &dyn CheckpointStorage) -> Result<Option<(String, &'static str)>> {
    const GO_ON: &str = "go on from it with `restore latest`, ";
    if let Some(folder) = completed(storage)?.last() {
        let newest = storage.locate(folder);
        let what = format!("there are checkpoints of an earlier run, the newest is `{newest}`");
        return Ok(Some((what, GO_ON)));
    }
    Ok(mark::newest(storage)?.map(|mark| match mark {
        Mark::Stopped(_, savepoint) => {
            let savepoint = savepoint.display();
            (format!("an earlier run was stopped with the savepoint `{savepoint}`"), GO_ON)
        }
        Mark::Completed(_, folder) => {
            let mark = storage.locate(&mark::name_of(&folder));
            (format!("the checkpoints of an earlier run are gone, but for `{mark}`"), "")
        }
    }))
}

/// From the newest checkpoint, or from the savepoint that the job was stopped with after it.
fn go_on(
    settings: &JobSettings,
    graph: &JobGraph,
    storage: &Arc<dyn CheckpointStorage>,
    open_storage: &OpenStorage,
) -> Result<(Begin, Vec<String>)> {
    let mut passed_over = Vec::new();
    match newer_mark(&**storage)? {
        Some(Mark::Stopped(_, savepoint)) => {
            let place = savepoint.display();
            let found = locate(&savepoint, open_storage).and_then(|(storage, target)| {
                read_manifest(&*storage, &target.folder)?;
                // All of it is looked at if something else may be taken.
                let problems = match settings.allow_older {
                    true => tools::verify(&*storage, &target.folder),
                    false => Vec::new(),
                };
                problems.into_iter().next().map_or(Ok((storage, target)), |p| Err(p.error))
            });
            match found {
                Ok((storage, target)) => {
                    let restored = fitting(settings, graph, storage, target)?;
                    return Ok((Begin::At(restored), passed_over));
                }
                Err(error) if settings.allow_older => {
                    tracing::warn!(%place, %error, "the savepoint is passed over, as allowed");
                    passed_over.push(place.to_string());
                }
                Err(error) => {
                    return Err(Error::user(format!(
                        "the job was stopped with the savepoint `{place}`, and what came before it would be \
                         committed again from an older checkpoint: put it back, or restore it from where it is"
                    ))
                    .caused_by(error));
                }
            }
        }
        Some(Mark::Completed(_, folder)) => {
            let place = storage.locate(&folder);
            if !settings.allow_older {
                return Err(Error::external(format!(
                    "the checkpoint `{place}` was completed, and its manifest is gone (`{}`): put it back; an older one \
                     would commit again what was committed since, unless `allow-older` says that it may",
                    storage.locate(&manifest_path(&folder))
                )));
            }
            tracing::warn!(%place, "a checkpoint that is gone is passed over, as allowed");
            passed_over.push(place);
        }
        None => {}
    }
    let Some(found) = latest(&**storage, settings.allow_older)? else {
        return Ok((Begin::Anew, passed_over));
    };
    for (folder, error) in &found.skipped {
        tracing::warn!(%folder, %error, "a damaged checkpoint is passed over, as allowed");
        passed_over.push(storage.locate(folder));
    }
    let target = TargetFolder { dir: own_dir(settings), folder: found.folder };
    Ok((Begin::At(fitting(settings, graph, Arc::clone(storage), target)?), passed_over))
}

/// The number of the next checkpoint: no other in the storage was ever begun with it or a higher one.
pub(super) fn next_id(storage: &dyn CheckpointStorage, begin: &Begin) -> Result<u64> {
    let restored = match begin {
        Begin::At(restored) => restored.restore.manifest.id.0 + 1,
        Begin::Fresh | Begin::Anew => 1,
    };
    let begun = storage.list("chk-")?.into_iter().filter_map(|path| {
        let (id, _) = parse_checkpoint_folder(path.split('/').next()?)?;
        Some(id.0 + 1)
    });
    let marked = mark::numbers(storage)?.into_iter().map(|(id, _)| id.0 + 1);
    Ok(begun.chain(marked).max().unwrap_or(0).max(restored))
}

/// Reads a checkpoint and makes sure that the job can go on from it.
fn fitting(
    settings: &JobSettings,
    graph: &JobGraph,
    storage: Arc<dyn CheckpointStorage>,
    target: TargetFolder,
) -> Result<Restored> {
    let manifest = Arc::new(read_manifest(&*storage, &target.folder)?);
    // From here on the job counts on it, and commits what is in it.
    storage.settle(&manifest_path(&target.folder))?;
    let allow_non_restored = settings.allow_non_restored;
    let restore = Restore { storage, manifest, allow_non_restored };
    let place = restore.storage.locate(&target.folder);
    check_fit(graph, &restore, &place)?;
    if restore.manifest.kind.drains() {
        tracing::warn!(
            savepoint = %place,
            "event time was brought to its end for this savepoint: the job ends when it has committed what belongs before it"
        );
    }
    Ok(Restored { restore, target })
}

/// The folder of the job's own checkpoints.
pub(super) fn own_dir(settings: &JobSettings) -> PathBuf {
    settings.checkpoint_dir.clone().unwrap_or_default()
}

/// Where a job goes back to that is taken over from another leader: its newest checkpoint, or the savepoint of a stop that
/// came after it, or, if there is none yet, what the job was started with; and what is passed over for that.
pub(super) fn taken_over(
    settings: &JobSettings,
    graph: &JobGraph,
    storage: &Arc<dyn CheckpointStorage>,
    open_storage: &OpenStorage,
) -> Result<(Begin, Vec<String>)> {
    let (begin, passed_over) = go_on(settings, graph, storage, open_storage)?;
    let begin = match (begin, &settings.restore) {
        (Begin::Anew, Some(RestoreFrom::Path(path))) => {
            let (storage, target) = locate(path, open_storage)?;
            Begin::At(fitting(settings, graph, storage, target)?)
        }
        (begin, _) => begin,
    };
    Ok((begin, passed_over))
}

/// Makes sure that a job can go on from a checkpoint, which lies at `place`.
///
/// # Errors
/// If it cannot: the message says why, and what to do.
pub fn check_fit(graph: &JobGraph, restore: &Restore, place: &str) -> Result<()> {
    let manifest = &restore.manifest;
    let operators: HashMap<OperatorId, (&str, u32)> = graph
        .vertices
        .iter()
        .flat_map(|v| v.operators.iter().map(|o| (o.id, (o.name.as_str(), v.max_parallelism))))
        .collect();
    for vertex in &manifest.vertices {
        for (id, name, uid) in &vertex.operators {
            let of_all = manifest.tasks.iter().flat_map(|task| &task.operators);
            let parts = || of_all.clone().filter(|o| o.id == *id).flat_map(|o| &o.parts);
            let has_state = parts().any(|part| part.n_entries > 0);
            // Only keyed state is dealt out by key groups; of another operator they are those of whom it was fused with.
            let is_keyed = parts().any(|part| part.kind == PartKind::Keyed);
            match operators.get(id) {
                Some((_, max)) if *max != vertex.max_parallelism && is_keyed && has_state => {
                    return Err(Error::user(format!(
                        "operator `{name}` had a max parallelism of {} in `{place}` and has {max} now: keyed \
                         state cannot be dealt out anew, set it back",
                        vertex.max_parallelism
                    )));
                }
                None if has_state && !restore.allow_non_restored => {
                    let uid = uid.as_ref().map_or("no uid".into(), |uid| format!("uid `{uid}`"));
                    return Err(Error::user(format!(
                        "`{place}` holds state of an operator `{name}` ({uid}) that the program does not have: \
                         give the operator that goes on with it the same uid, or leave the state behind with \
                         `allow-non-restored`"
                    )));
                }
                _ => {}
            }
        }
    }
    Ok(())
}
