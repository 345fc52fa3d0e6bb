//! What tasks hand over before it is known where a checkpoint goes.

use super::*;
use crossbeam_channel::Receiver;
use millstream_model::SnapshotKind;
use millstream_runtime::task::NoWake;
use millstream_state::snapshot::MemoryStorage;

fn barrier(checkpoint: u64) -> Barrier {
    Barrier { checkpoint: CheckpointId(checkpoint), kind: SnapshotKind::Checkpoint }
}

fn snapshot() -> TaskSnapshot {
    let (operators, shared) = (Vec::new(), Vec::new());
    TaskSnapshot { vertex: 0, subtask: 0, ended: false, operators, file: None, shared }
}

fn entry() -> Written {
    Written { n_entries: 1, bytes: vec![7; 8] }
}

struct Fixture {
    uploads: Uploads,
    writers: Vec<Writer>,
    events: Receiver<(u32, SnapshotEvent)>,
    storage: MemoryStorage,
}

impl Fixture {
    fn new() -> Self {
        let (sender, events) = unbounded();
        let wakers = vec![Arc::new(NoWake) as Waker];
        let (uploads, writers) = Uploads::by_hand(wakers, 1, 3, None, None, sender);
        Fixture { uploads, writers, events, storage: MemoryStorage::new() }
    }

    fn hand_over(&self, checkpoint: u64) {
        let mut stream = self.uploads.begin(0, barrier(checkpoint));
        stream.block(0, entry());
        stream.finish(snapshot(), None);
    }

    fn aim(&self, checkpoint: u64) {
        let target = Target {
            storage: Arc::new(self.storage.clone()),
            folder: format!("chk-{checkpoint}-0"),
        };
        self.uploads.aim(CheckpointId(checkpoint), target);
    }

    /// What comes of everything that was said: checkpoints that were taken, and the files of which they are made.
    fn taken(&mut self) -> Vec<(u64, Option<String>)> {
        // One may make work for another.
        while let Some(writer) = self.writers.iter_mut().find(|writer| writer.has_work()) {
            writer.step();
        }
        let taken = self.events.try_iter().map(|(attempt, event)| match event {
            SnapshotEvent::Taken { checkpoint, snapshot, .. } => {
                assert_eq!(attempt, 3);
                (checkpoint.0, snapshot.file.map(|file| file.path))
            }
            other => panic!("{other:?}"),
        });
        taken.collect()
    }
}

#[test]
fn a_barrier_that_is_faster_than_whoever_says_where_it_goes_loses_nothing() {
    let mut fixture = Fixture::new();
    fixture.hand_over(5);
    assert_eq!(fixture.taken(), []);
    fixture.aim(5);
    assert_eq!(fixture.taken(), [(5, Some("chk-5-0/task-0-3".into()))]);
    fixture.aim(6);
    fixture.hand_over(6);
    assert_eq!(fixture.taken(), [(6, Some("chk-6-0/task-0-3".into()))]);
}

#[test]
fn what_is_given_up_meanwhile_is_not_written() {
    let mut fixture = Fixture::new();
    drop(fixture.uploads.begin(0, barrier(5)));
    fixture.hand_over(6);
    fixture.aim(5);
    assert_eq!(fixture.taken(), []);
    fixture.aim(6);
    assert_eq!(fixture.taken(), [(6, Some("chk-6-0/task-0-3".into()))]);
    assert!(fixture.writers.iter().all(|writer| writer.held.is_empty()));
}

#[test]
fn a_tree_takes_changes_again_although_nobody_says_where_its_checkpoint_goes() {
    use millstream_state::lsm::{Expiry, MemoryBudget, model::ModelEngine};
    let mut fixture = Fixture::new();
    let engine = Arc::new(ModelEngine::new(1024));
    let backend = Backend::new(engine, MemoryBudget::new(1024), "trees".into(), "run".into());
    let store = backend.open(0, 3, &[], Expiry::never()).unwrap();
    for checkpoint in [5, 6] {
        let stream = fixture.uploads.begin(0, barrier(checkpoint));
        stream.finish(snapshot(), Some(store.cut().unwrap()));
        assert!(store.is_cutting());
        assert_eq!(fixture.taken(), []);
        assert!(!store.is_cutting());
    }
    let n_held = |fixture: &Fixture| fixture.writers.iter().map(|w| w.held.len()).sum::<usize>();
    assert_eq!(n_held(&fixture), 1, "of the newest");
    fixture.uploads.aborted(CheckpointId(6));
    assert_eq!(fixture.taken(), []);
    assert_eq!(n_held(&fixture), 0);
}

#[test]
fn what_waits_to_be_written_for_a_checkpoint_that_is_given_up_is_not() {
    let mut fixture = Fixture::new();
    for checkpoint in [5, 6] {
        fixture.aim(checkpoint);
        fixture.hand_over(checkpoint);
    }
    fixture.uploads.aborted(CheckpointId(5));
    assert_eq!(fixture.taken(), [(6, Some("chk-6-0/task-0-3".into()))]);
}
