//! Checkpoints and savepoints at rest.

use super::{Decoder, cluster, nothing_to_mend};
use millstream_jobmanager::job::{Checkpoints, NowUs, OpenStorage};
use millstream_model::{CheckpointId, LeaderEpoch, SnapshotKind, hash_key};
use millstream_proto::message::Submission;
use millstream_state::part::Written;
use millstream_state::schema::Shape;
use millstream_state::snapshot::memory::MemoryStorage;
use millstream_state::snapshot::{
    CheckpointStorage, FileRef, Manifest, OperatorSnapshot, PartKind, PartSnapshot,
    StateFileReader, StateFileWriter, TaskSnapshot, VertexSnapshot, read_manifest, write_manifest,
};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128;

/// The manifest of a checkpoint.
pub(super) const MANIFEST: Decoder = Decoder {
    name: "manifest",
    samples: manifests,
    takes: |bytes| {
        let storage = holding("chk-1-0/manifest", bytes);
        read_manifest(&storage, "chk-1-0").is_ok()
    },
    mend: mend_manifest,
};

/// The file of a task's state.
pub(super) const STATE_FILE: Decoder = Decoder {
    name: "state-file",
    samples: state_files,
    takes: |bytes| {
        let storage = holding("task.state", bytes);
        // The digest of the whole is that of what is there: what the file itself says must be checked all the same.
        let digest = format!("{:032x}", xxh3_128(bytes));
        let file = FileRef { path: "task.state".into(), bytes: bytes.len() as u64, digest };
        StateFileReader::open(&storage, &file).is_ok_and(|mut blocks| blocks.all(|b| b.is_ok()))
    },
    mend: mend_state_file,
};

/// What a stop with a savepoint leaves among a job's checkpoints.
pub(super) const STOP_MARK: Decoder = Decoder {
    name: "stop-mark",
    // The path, and a hash over it and the number of the checkpoint.
    samples: || vec![stop_mark(&format!("x {SAVEPOINT}")).expect("there is a blank")],
    takes: |bytes| {
        // Any text is a path: with a hash that is right there is nothing to be refused.
        std::str::from_utf8(bytes).ok().and_then(stop_mark).into_iter().for_each(|mended| {
            assert!(is_stop_mark(&mended));
        });
        is_stop_mark(bytes)
    },
    mend: nothing_to_mend,
};

/// Whether a job that begins anew is told that there is one.
fn is_stop_mark(bytes: &[u8]) -> bool {
    let storage: Arc<dyn CheckpointStorage> = Arc::new(holding("stopped-3", bytes));
    let open: OpenStorage = Arc::new(move |_| Ok(storage.clone()));
    let Submission { settings, start, .. } = cluster::submission();
    let now_us: NowUs = Arc::new(|| 0);
    let opened = Checkpoints::open(&settings, &start.graph, LeaderEpoch(1), &open, &now_us);
    let told = opened.err().map(|error| error.to_string());
    told.is_some_and(|told| told.starts_with("an earlier run was stopped with the savepoint"))
}

const SAVEPOINT: &str = "/savepoints/savepoint-3";

fn stop_mark(text: &str) -> Option<Vec<u8>> {
    let (_, path) = text.split_once(' ')?;
    let hash = hash_key(&(3u64, path)).ok()?;
    Some(format!("{hash:016x} {path}").into_bytes())
}

/// Before a manifest's payload: magic, version, length.
const MANIFEST_HEADER: usize = 18;
/// Before the blocks of a state file, and before the payload of each.
const STATE_HEADER: usize = 16;
const BLOCK_HEAD: usize = 24;

fn holding(path: &str, bytes: &[u8]) -> MemoryStorage {
    let storage = MemoryStorage::new();
    storage.publish(path, bytes).expect("nothing is in the way");
    storage
}

fn mend_manifest(bytes: &[u8]) -> Option<Vec<u8>> {
    let n_payload = bytes.len().checked_sub(MANIFEST_HEADER + 16)?;
    let mut mended = bytes.to_vec();
    mended[10..18].copy_from_slice(&(n_payload as u64).to_le_bytes());
    let digest = xxh3_128(&mended[..MANIFEST_HEADER + n_payload]).to_le_bytes();
    mended[MANIFEST_HEADER + n_payload..].copy_from_slice(&digest);
    Some(mended)
}

/// Makes the checksums of blocks right for as long as their lengths lead to another one.
fn mend_state_file(bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut mended, mut at) = (bytes.to_vec(), STATE_HEADER);
    while let Some(head) = mended.get(at..at + BLOCK_HEAD) {
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) & !(1 << 31);
        let end = at + BLOCK_HEAD + length as usize;
        let Some(payload) = mended.get(at + BLOCK_HEAD..end) else { break };
        let mut crc = crc32fast::Hasher::new();
        crc.update(&head[..20]);
        crc.update(payload);
        let crc = crc.finalize().to_le_bytes();
        mended[at + 20..at + BLOCK_HEAD].copy_from_slice(&crc);
        at = end;
    }
    (at > STATE_HEADER).then_some(mended)
}

fn state_files() -> Vec<Vec<u8>> {
    let storage = MemoryStorage::new();
    let mut file = StateFileWriter::create(&storage, "task.state").expect("it is the first");
    for (part, n_entries) in [(0, 3), (1, 1), (0, 2)] {
        let bytes = (0..10 * n_entries as u8).collect();
        file.block(part, &Written { bytes, n_entries }).expect("memory takes it");
    }
    file.finish().expect("memory takes it");
    let empty = StateFileWriter::create(&storage, "empty.state").expect("it is the first");
    empty.finish().expect("memory takes it");
    ["task.state", "empty.state"].map(|path| storage.bytes(path).expect("it was written")).into()
}

fn manifests() -> Vec<Vec<u8>> {
    let file = |path: &str| FileRef { path: path.into(), bytes: 99, digest: "0".repeat(32) };
    let part = PartSnapshot {
        name: "counts".into(),
        kind: PartKind::Keyed,
        version: 1,
        shape: Shape::Unit,
        n_entries: 3,
        n_bytes: 30,
    };
    let id = millstream_model::job_graph::OperatorId(0xfeed);
    let task = TaskSnapshot {
        vertex: 0,
        subtask: 0,
        ended: false,
        operators: vec![OperatorSnapshot { id, parts: vec![part] }],
        file: Some(file("chk-1-0/0-0.state")),
        shared: vec![file("shared/1.sst")],
    };
    let vertex = VertexSnapshot {
        operators: vec![(id, "count".into(), Some("count".into()))],
        parallelism: 1,
        max_parallelism: 128,
    };
    let manifest = Manifest {
        id: CheckpointId(1),
        epoch: 0,
        kind: SnapshotKind::Checkpoint,
        completed_at_ms: 1_600_000_000_000,
        job: "sample".into(),
        vertices: vec![vertex],
        tasks: vec![task],
    };
    let storage = MemoryStorage::new();
    write_manifest(&storage, "chk-1-0", &manifest).expect("memory takes it");
    vec![storage.bytes("chk-1-0/manifest").expect("it was written")]
}
