//! Every decoder of bytes that come from a network or a file, in one form.
//!
//! The fuzz targets (`fuzz/`) and the test that runs their corpus call these. What is given is tried as it is, and once more
//! with its lengths and checksums made right: else hardly anything would get past them. Decoders must refuse or take what they
//! are given; they must not panic, hang, or take memory for what is only claimed.

mod cluster;
mod network;
mod store;
pub mod trial;

mod snapshots;

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
pub const DECODERS: [Decoder; 9] = [
    cluster::TO_TASK_MANAGER,
    cluster::FROM_TASK_MANAGER,
    cluster::CLIENT,
    network::FRAMES,
    network::HELLO,
    network::ANSWER,
    snapshots::MANIFEST,
    snapshots::STATE_FILE,
    store::RECORD,
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

/// For what has neither lengths nor checksums.
fn nothing_to_mend(_: &[u8]) -> Option<Vec<u8>> {
    None
}
