//! Every decoder of bytes that come from a network or a file, in one form.
//!
//! The fuzz targets (`fuzz/`) and the test that runs their corpus call these. What is given is tried as it is, and once more
//! with its lengths and checksums made right: else hardly anything would get past them. Decoders must refuse or take what they
//! are given; they must not panic, hang, or take memory for what is only claimed.

mod cluster;
mod connectors;
mod network;
mod snapshots;
mod store;
pub mod trial;
mod values;

pub use cluster::{detail, outcome, submission};

use std::path::Path;
use tempfile::TempDir;

/// A decoder.
#[derive(Clone, Copy)]
pub struct Decoder {
    /// The name of its fuzz target and of the folder of its corpus.
    pub name: &'static str,
    /// Bytes that it takes, of every kind there is.
    pub samples: fn() -> Vec<Vec<u8>>,
    /// Whether it takes these.
    pub takes: fn(&[u8]) -> bool,
    /// The same bytes with lengths and checksums that are right, if they are long enough to have any.
    pub mend: fn(&[u8]) -> Option<Vec<u8>>,
}

/// All of them.
pub const DECODERS: [Decoder; 29] = [
    cluster::TO_TASK_MANAGER,
    cluster::FROM_TASK_MANAGER,
    cluster::CLIENT,
    cluster::CLIENT_REPLY,
    cluster::HOST_START,
    cluster::TO_HOST,
    cluster::FROM_HOST,
    network::FRAMES,
    network::HELLO,
    network::ANSWER,
    snapshots::MANIFEST,
    snapshots::STATE_FILE,
    snapshots::STOP_MARK,
    values::STORED_VALUE,
    values::ENTRIES,
    values::CHANNEL_STATE,
    store::RECORD,
    store::ATTEMPT,
    store::OUTCOME,
    store::FENCE,
    store::EPOCH_FILE,
    connectors::LINES,
    connectors::JSON_LINES,
    connectors::CSV,
    connectors::LOG_META,
    connectors::LOG_COMMIT,
    connectors::LOG_SEGMENT,
    connectors::STAGED_FILES,
    connectors::STAGED_LOG,
];

impl Decoder {
    /// Tries bytes as they are, and mended.
    pub fn attempt(&self, bytes: &[u8]) {
        (self.takes)(bytes);
        if let Some(mended) = (self.mend)(bytes) {
            (self.takes)(&mended);
        }
    }
}

/// The decoder with this name.
///
/// # Panics
/// If there is none.
pub fn find(name: &str) -> Decoder {
    let found = DECODERS.into_iter().find(|decoder| decoder.name == name);
    found.unwrap_or_else(|| panic!("there is no decoder `{name}`"))
}

/// A folder for what has to lie in one: in memory, if there is such a place, because much of it is synced.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    made.expect("there is room for a folder")
}

/// For what has neither lengths nor checksums.
fn nothing_to_mend(_: &[u8]) -> Option<Vec<u8>> {
    None
}
