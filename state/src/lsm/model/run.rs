//! The files of the model: sorted runs and the list of them.
//!
//! They are bytes, with a magic, a version and a checksum, because the simulation stores, loses and damages
//! bytes. A run keeps its entries decoded beside them: it is read far more often than it is stored.

use crate::codec;
use millstream_model::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::Arc;

const RUN: &[u8; 8] = b"MSRUN\0\0\x01";
const MANIFEST: &[u8; 8] = b"MSRUNS\0\x01";

type Entries = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A sorted run. `None` is a deletion.
pub(super) struct Run {
    pub(super) name: String,
    pub(super) bytes: Arc<[u8]>,
    entries: Entries,
}

impl Run {
    pub(super) fn new(name: String, entries: Entries) -> Result<Self> {
        Ok(Run { name, bytes: seal(RUN, &entries)?.into(), entries })
    }

    pub(super) fn decode(name: String, bytes: Arc<[u8]>) -> Result<Self> {
        let entries = unseal(&name, RUN, &bytes)?;
        Ok(Run { name, bytes, entries })
    }

    /// `Some(None)` if it is deleted here.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        self.entries.get(key).map(Option::as_deref)
    }

    /// `to` is not before `from`.
    pub(super) fn range(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let entries =
            self.entries.range::<[u8], _>((Included(from), to.map_or(Unbounded, Excluded)));
        entries.map(|(key, value)| (key.as_slice(), value.as_deref()))
    }
}

/// How many runs a tree has made, and what it calls those it has, newest first.
pub(super) fn encode_manifest(n_made: u64, runs: &[Arc<Run>]) -> Result<Vec<u8>> {
    let local = |run: &Arc<Run>| run.name.rsplit('/').next().map(str::to_owned);
    seal(MANIFEST, &(n_made, runs.iter().filter_map(local).collect::<Vec<_>>()))
}

/// The reverse.
pub(super) fn decode_manifest(name: &str, bytes: &[u8]) -> Result<(u64, Vec<String>)> {
    unseal(name, MANIFEST, bytes)
}

fn seal<T: Serialize>(magic: &[u8; 8], value: &T) -> Result<Vec<u8>> {
    let mut bytes = magic.to_vec();
    codec::encode(value, &mut bytes)?;
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    Ok(bytes)
}

fn unseal<T: DeserializeOwned>(name: &str, magic: &[u8; 8], bytes: &[u8]) -> Result<T> {
    let (content, checksum) = bytes.split_last_chunk().ok_or_else(|| damaged(name))?;
    if crc32fast::hash(content) != u32::from_le_bytes(*checksum) {
        return Err(damaged(name));
    }
    codec::decode_all(content.strip_prefix(magic).ok_or_else(|| damaged(name))?)
}

/// What reading a damaged file gives.
pub(super) fn damaged(name: &str) -> Error {
    Error::external(format!("the state file {name} is damaged"))
}
