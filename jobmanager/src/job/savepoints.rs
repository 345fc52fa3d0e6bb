//! Savepoints that are wanted: by whom, where they go, and what becomes of those that fail.
//!
//! A savepoint is the user's from the moment at which it is complete. Until then its files are ours: a folder is reserved
//! that holds nothing, and of one that fails nothing stays. Whoever stops a job with one hears of it when the job has ended:
//! until then it may fail, and run again, and two jobs that go on from one savepoint would both write what comes after it.

use super::OpenStorage;
use super::checkpoints::Target;
use super::link::Reply;
use crate::scheduler::JobState;
use millstream_model::{CheckpointId, Error, Result, SnapshotKind};
use millstream_proto::message::TargetFolder;
use millstream_state::snapshot::manifest::manifest_path;
use millstream_state::snapshot::{CheckpointStorage, read_error};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Read;
use std::path::{Path, PathBuf};

/// What somebody wants of a job's checkpoints.
#[derive(Debug)]
pub struct Request {
    /// What for.
    pub kind: SnapshotKind,
    /// The folder to put a savepoint into.
    pub dir: PathBuf,
    /// Where the answer goes: its folder, when it is complete and, if it stops the job, the job has ended: see [`stopped`].
    pub reply: Reply<Result<PathBuf>>,
}

/// Failed ones that are remembered: a task may still write for one that was given up.
const MAX_FAILED: usize = 16;

/// See the module's text.
pub(super) struct Savepoints {
    /// What reservations of ours hold.
    token: String,
    /// By number, which is their order.
    requests: BTreeMap<u64, Requested>,
    next_request: u64,
    failed: BTreeMap<CheckpointId, Target>,
    stopping: Option<Stopping>,
}

/// What a job is stopped with, and who waits for its end.
struct Stopping {
    savepoint: PathBuf,
    /// Whether the job ends with it also if it fails before.
    is_final: bool,
    reply: Reply<Result<PathBuf>>,
}

struct Requested {
    request: Request,
    /// Once it was begun.
    target: Option<(CheckpointId, Target)>,
}

impl Default for Savepoints {
    fn default() -> Self {
        // Other keys for every call, and in every process.
        let token = RandomState::new().build_hasher().finish();
        Savepoints {
            token: format!("{token:016x}"),
            requests: BTreeMap::new(),
            next_request: 0,
            failed: BTreeMap::new(),
            stopping: None,
        }
    }
}

impl Savepoints {
    /// Takes a request; its number, unless it comes too late.
    pub(super) fn request(&mut self, request: Request) -> Option<u64> {
        if let (SnapshotKind::Stop { .. }, Some(stopping)) = (request.kind, &self.stopping) {
            let error = format!(
                "the job is being stopped with the savepoint `{}`, which is complete: wait for its end",
                stopping.savepoint.display()
            );
            request.reply.answer(Err(Error::user(error)));
            return None;
        }
        let number = self.next_request;
        self.next_request += 1;
        self.requests.insert(number, Requested { request, target: None });
        Some(number)
    }

    /// Where a checkpoint goes that is now begun, if it is a savepoint that somebody wants.
    ///
    /// # Errors
    /// If its storage cannot be opened or read.
    pub(super) fn aim(
        &mut self,
        checkpoint: CheckpointId,
        kind: SnapshotKind,
        open_storage: &OpenStorage,
    ) -> Result<Option<Target>> {
        // Requests are taken in order.
        let requested = self.requests.values_mut().find(|requested| requested.target.is_none());
        let Some(requested) = requested.filter(|r| r.request.kind == kind && kind.is_savepoint())
        else {
            return Ok(None);
        };
        let dir = requested.request.dir.clone();
        let storage = open_storage(&dir)?;
        let folder = reserved(&*storage, &format!("savepoint-{checkpoint}"), &self.token)?;
        let target = Target { storage, folder: TargetFolder { dir, folder } };
        requested.target = Some((checkpoint, target.clone()));
        Ok(Some(target))
    }

    /// Where the savepoint of a request goes.
    pub(super) fn target(&self, number: u64) -> Option<&Target> {
        self.requests.get(&number)?.target.as_ref().map(|(_, target)| target)
    }

    /// A savepoint is complete.
    pub(super) fn done(&mut self, number: u64) {
        if let Some(Requested { request, target: Some((_, target)) }) =
            self.requests.remove(&number)
        {
            let Target { storage, folder } = target;
            // It is complete with that, too.
            let _ = storage.delete(&format!("{}/{RESERVED}", folder.folder));
            let path = folder.dir.join(folder.folder);
            match request.kind {
                SnapshotKind::Stop { drain } => {
                    self.stopping =
                        Some(Stopping { savepoint: path, is_final: drain, reply: request.reply });
                }
                SnapshotKind::Savepoint | SnapshotKind::Checkpoint => {
                    request.reply.answer(Ok(path));
                }
            }
        }
    }

    /// The job has ended like this, or has failed and will run again: after a stop that is final only to commit what belongs
    /// before it. Of an end the asker hears [`stopped`], when whoever else must know of it does.
    pub(super) fn settle(&mut self, state: JobState) {
        let has_ended = state.is_terminal();
        let stopping = self.stopping.take_if(|stopping| has_ended || !stopping.is_final);
        let Some(Stopping { savepoint, reply, .. }) = stopping else { return };
        reply.answer(if has_ended {
            Ok(savepoint)
        } else {
            let then = "The job runs again from there: stop it again";
            Err(Error::external(format!("the job failed {}. {then}", while_stopping(&savepoint))))
        });
    }

    /// There will be none.
    pub(super) fn failed(&mut self, number: u64, error: Error) {
        let Some(Requested { request, target }) = self.requests.remove(&number) else { return };
        self.failed.extend(target);
        while self.failed.len() > MAX_FAILED {
            self.failed.pop_first();
        }
        request.reply.answer(Err(error));
    }

    /// Deletes what there is of a savepoint that was given up; nothing, if it is none. It may be called again when more has
    /// come.
    ///
    /// # Errors
    /// If the storage fails; what is left harms nobody.
    pub(super) fn discard(&self, checkpoint: CheckpointId) -> Result<()> {
        let under_way = self.requests.values().filter_map(|requested| requested.target.as_ref());
        let under_way = under_way.map(|(of, target)| (of, target));
        let mut known = under_way.chain(&self.failed);
        let Some((_, Target { storage, folder })) = known.find(|(of, _)| **of == checkpoint) else {
            return Ok(());
        };
        let left = storage.list(&format!("{}/", folder.folder))?;
        let manifest = manifest_path(&folder.folder);
        let reservation = format!("{}/{RESERVED}", folder.folder);
        // It may have been emptied before, and somebody else may have taken the name since.
        let is_ours = if left.contains(&reservation) {
            let mut token = String::new();
            let read = storage.open(&reservation)?.read_to_string(&mut token);
            read.map_err(|e| read_error(&storage.locate(&reservation), e))?;
            token == self.token
        } else {
            !left.contains(&manifest)
        };
        if !is_ours {
            return Ok(());
        }
        storage.delete(&manifest)?;
        storage.delete_all(&left)
    }
}

fn while_stopping(savepoint: &Path) -> String {
    let savepoint = savepoint.display();
    format!(
        "while it was stopping. The savepoint `{savepoint}` is complete, but not all that belongs before it may be committed"
    )
}

/// What whoever stops a job with a savepoint is told when the job has ended like this.
///
/// # Errors
/// If it has not finished.
pub fn stopped(savepoint: PathBuf, end: JobState) -> Result<PathBuf> {
    let what = match end {
        JobState::Finished => return Ok(savepoint),
        JobState::Cancelled => "was cancelled",
        _ => "failed",
    };
    let then = "A job that is restored from it commits the rest";
    Err(Error::external(format!("the job {what} {}. {then}", while_stopping(&savepoint))))
}

/// What holds a folder for a savepoint that is not complete.
const RESERVED: &str = "under-way";

/// The name, or the first like it that nobody has: numbers of savepoints come again when a job is restored from before them, and
/// several jobs may use one folder, at the same time. An object that is written once makes it ours.
fn reserved(storage: &dyn CheckpointStorage, name: &str, token: &str) -> Result<String> {
    let mut folder = name.to_owned();
    for number in 2u32.. {
        if storage.list(&format!("{folder}/"))?.is_empty() {
            let reservation = format!("{folder}/{RESERVED}");
            match storage.publish(&reservation, token.as_bytes()) {
                Ok(()) => return Ok(folder),
                // Somebody else was faster.
                Err(_) if storage.list(&reservation)?.contains(&reservation) => {}
                Err(error) => return Err(error),
            }
        }
        folder = format!("{name}-{number}");
    }
    Err(Error::external(format!("no name like `{name}` is free for a savepoint")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_state::snapshot::MemoryStorage;
    use std::sync::{Arc, Mutex};

    fn put(storage: &dyn CheckpointStorage, path: &str) {
        storage.create(path).unwrap().finish().unwrap();
    }

    #[test]
    fn a_savepoint_takes_no_name_that_is_taken_and_leaves_nothing_when_it_fails() {
        let storage = MemoryStorage::default();
        put(&storage, "savepoint-6/manifest");
        put(&storage, "savepoint-6-2/task-0-0");
        let shared: Arc<dyn CheckpointStorage> = Arc::new(storage.clone());
        let open: OpenStorage = Arc::new(move |_| Ok(Arc::clone(&shared)));
        let mut savepoints = Savepoints::default();
        let answered = Arc::new(Mutex::new(Vec::new()));
        let ask = |savepoints: &mut Savepoints| {
            let answered = Arc::clone(&answered);
            let reply =
                Reply::new(move |answer: Result<PathBuf>| answered.lock().unwrap().push(answer));
            let kind = SnapshotKind::Savepoint;
            savepoints.request(Request { kind, dir: "dir".into(), reply }).unwrap()
        };
        let first = ask(&mut savepoints);
        let none = savepoints.aim(CheckpointId(5), SnapshotKind::Checkpoint, &open).unwrap();
        assert!(none.is_none());
        let target = savepoints.aim(CheckpointId(6), SnapshotKind::Savepoint, &open).unwrap();
        assert_eq!(target.unwrap().folder.folder, "savepoint-6-3");
        // Another job with the same number, before anything is written.
        let mut others = Savepoints::default();
        let other = ask(&mut others);
        let target = others.aim(CheckpointId(6), SnapshotKind::Savepoint, &open).unwrap();
        assert_eq!(target.unwrap().folder.folder, "savepoint-6-4");
        put(&storage, "savepoint-6-4/manifest");
        others.done(other);
        put(&storage, "savepoint-6-3/task-0-0");
        put(&storage, "savepoint-6-3/manifest");
        savepoints.discard(CheckpointId(6)).unwrap();
        savepoints.failed(first, Error::external("no"));
        // A task that was late.
        put(&storage, "savepoint-6-3/task-1-0");
        savepoints.discard(CheckpointId(6)).unwrap();
        savepoints.discard(CheckpointId(7)).unwrap();
        // Nothing of ours is there any more, and another job takes the name.
        let other = ask(&mut others);
        storage.delete("savepoint-6/manifest").unwrap();
        let target = others.aim(CheckpointId(6), SnapshotKind::Savepoint, &open).unwrap();
        assert_eq!(target.unwrap().folder.folder, "savepoint-6");
        put(&storage, "savepoint-6/manifest");
        let target = Target {
            storage: Arc::new(storage.clone()),
            folder: TargetFolder { dir: "dir".into(), folder: "savepoint-6".into() },
        };
        savepoints.failed.insert(CheckpointId(6), target);
        savepoints.discard(CheckpointId(6)).unwrap();
        others.done(other);
        savepoints.discard(CheckpointId(6)).unwrap();
        let left = storage.list("").unwrap();
        assert_eq!(
            left,
            ["savepoint-6-2/task-0-0", "savepoint-6-4/manifest", "savepoint-6/manifest"]
        );

        let second = ask(&mut savepoints);
        savepoints.aim(CheckpointId(8), SnapshotKind::Savepoint, &open).unwrap();
        savepoints.done(second);
        let answered = answered.lock().unwrap();
        assert!(answered[0].is_ok() && answered[1].is_err() && answered[2].is_ok());
        assert_eq!(*answered[3].as_ref().unwrap(), PathBuf::from("dir/savepoint-8"));
    }

    #[test]
    fn who_stops_a_job_is_answered_when_it_has_ended() {
        let settled = |drain: bool, states: &[JobState]| {
            let shared: Arc<dyn CheckpointStorage> = Arc::new(MemoryStorage::default());
            let open: OpenStorage = Arc::new(move |_| Ok(Arc::clone(&shared)));
            let mut savepoints = Savepoints::default();
            let (reply, answer) = std::sync::mpsc::channel();
            let reply = Reply::new(move |path| reply.send(path).unwrap());
            let kind = SnapshotKind::Stop { drain };
            let number = savepoints.request(Request { kind, dir: "dir".into(), reply }).unwrap();
            savepoints.aim(CheckpointId(3), kind, &open).unwrap();
            savepoints.done(number);
            assert!(answer.try_recv().is_err(), "it has not ended yet");
            // One is enough.
            let (reply, second) = std::sync::mpsc::channel();
            let reply = Reply::new(move |path: Result<PathBuf>| reply.send(path).unwrap());
            assert_eq!(savepoints.request(Request { kind, dir: "dir".into(), reply }), None);
            let told = second.try_recv().unwrap().unwrap_err().to_string();
            assert!(told.contains("with the savepoint `dir/savepoint-3`"), "{told}");
            states.iter().for_each(|state| savepoints.settle(*state));
            answer.try_recv().ok().map(|told| told.map_err(|error| error.to_string()))
        };
        for end in [JobState::Finished, JobState::Cancelled, JobState::Failed] {
            assert_eq!(settled(false, &[end, end]), Some(Ok("dir/savepoint-3".into())));
        }
        let again = settled(false, &[JobState::Restarting, JobState::Finished]);
        let again = again.unwrap().unwrap_err();
        assert!(again.contains("`dir/savepoint-3`") && again.contains("stop it again"), "{again}");
        // One that drains is the end of the job.
        assert_eq!(settled(true, &[JobState::Restarting]), None);
        let ended = settled(true, &[JobState::Restarting, JobState::Finished]);
        assert_eq!(ended, Some(Ok("dir/savepoint-3".into())));

        let told = |end| stopped("dir/savepoint-3".into(), end).map_err(|error| error.to_string());
        assert_eq!(told(JobState::Finished), Ok("dir/savepoint-3".into()));
        let cancelled = told(JobState::Cancelled).unwrap_err();
        assert!(cancelled.contains("cancelled while it was stopping"), "{cancelled}");
        assert!(told(JobState::Failed).unwrap_err().contains("restored from it commits the rest"));
    }
}
