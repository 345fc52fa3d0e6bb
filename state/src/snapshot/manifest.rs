//! The manifest at rest: the last thing a checkpoint writes and the first that is read of it.
//!
//! ```text
//! "MSMANIF\0"  u16 version  u64 length  payload  16 bytes XXH3-128 of all before
//! ```
//!
//! The payload is JSON, because it is small and because one wants to look at it when something is wrong. It
//! names the folder it was written for, so that a manifest in a stranger's folder is known for one. The
//! checkpoint exists from the moment its manifest does; hence it is read back before it is published: what
//! could not be read again must fail the checkpoint, not the restore.

use super::Manifest;
use super::storage::{CheckpointStorage, damaged, read_error};
use crate::failpoint;
use millstream_model::checkpoint::CheckpointId;
use millstream_model::sabotage::{Bug, is_planted};
use millstream_model::{Error, Result};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::io::Read;
use xxhash_rust::xxh3::xxh3_128;

/// The version of the format that is written, and the only one that is read.
pub const VERSION: u16 = 1;

const MAGIC: [u8; 8] = *b"MSMANIF\0";
const HEADER: usize = 18;
const DIGEST: usize = 16;
/// Hundreds of thousands of tasks; what is longer is not a manifest.
const MAX_BYTES: u64 = 1 << 30;

#[derive(Serialize, Deserialize)]
struct Payload<'a> {
    folder: Cow<'a, str>,
    manifest: Cow<'a, Manifest>,
}

/// The folder of a checkpoint.
pub fn checkpoint_folder(id: CheckpointId, epoch: u64) -> String {
    format!("chk-{id}-{epoch}")
}

/// The id and epoch of a checkpoint's folder; `None` for any other folder.
pub fn parse_checkpoint_folder(folder: &str) -> Option<(CheckpointId, u64)> {
    let (id, epoch) = folder.strip_prefix("chk-")?.split_once('-')?;
    let (id, epoch) = (CheckpointId(id.parse().ok()?), epoch.parse().ok()?);
    // Numbers can be written in many ways (`007`, `+7`), folders in one.
    (checkpoint_folder(id, epoch) == folder).then_some((id, epoch))
}

/// Where the manifest of a folder lies; the folder `""` is the storage itself.
pub fn manifest_path(folder: &str) -> String {
    if folder.is_empty() { "manifest".to_owned() } else { format!("{folder}/manifest") }
}

/// Stores the manifest of a folder; when it returns, the checkpoint is complete. All files it names must
/// be durable before.
///
/// # Errors
/// If there is one already, if it could not be read again, or if the storage fails: then the checkpoint may
/// be complete or not.
pub fn write_manifest(
    storage: &dyn CheckpointStorage,
    folder: &str,
    manifest: &Manifest,
) -> Result<()> {
    let path = manifest_path(folder);
    let bytes = encode(folder, manifest)?;
    let back = decode(&storage.locate(&path), folder, &bytes)?;
    if back != *manifest {
        return Err(Error::internal(format!("the manifest of `{folder}` is not what was written")));
    }
    failpoint::hit("manifest.before-publish");
    storage.publish(&path, &bytes)?;
    failpoint::hit("manifest.after-publish");
    Ok(())
}

/// Reads the manifest of a folder.
///
/// # Errors
/// If it is not there, if it is damaged, or if it is of another version.
pub fn read_manifest(storage: &dyn CheckpointStorage, folder: &str) -> Result<Manifest> {
    let path = manifest_path(folder);
    let name = storage.locate(&path);
    let mut bytes = Vec::new();
    let file = storage.open(&path)?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| read_error(&name, e))?;
    decode(&name, folder, &bytes)
}

fn encode(folder: &str, manifest: &Manifest) -> Result<Vec<u8>> {
    let payload = Payload { folder: Cow::Borrowed(folder), manifest: Cow::Borrowed(manifest) };
    let json = serde_json::to_vec(&payload).map_err(|e| {
        Error::internal(format!("the manifest of `{folder}` cannot be written")).caused_by(e)
    })?;
    let mut bytes = Vec::with_capacity(HEADER + json.len() + DIGEST);
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((json.len() as u64).to_le_bytes());
    bytes.extend(json);
    bytes.extend(xxh3_128(&bytes).to_le_bytes());
    Ok(bytes)
}

fn decode(name: &str, folder: &str, bytes: &[u8]) -> Result<Manifest> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(damaged(
            name,
            format_args!("is longer than a manifest can be ({MAX_BYTES} bytes)"),
        ));
    }
    let Some((header, rest)) = bytes.split_at_checked(HEADER) else {
        return Err(damaged(name, format_args!("is cut off after {} bytes", bytes.len())));
    };
    let (magic, numbers) = header.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(damaged(name, "is no manifest: it does not begin as one"));
    }
    // The version comes before everything that another version could have changed.
    let version = u16::from_le_bytes([numbers[0], numbers[1]]);
    if version != VERSION {
        return Err(Error::external(format!(
            "`{name}` is a manifest of version {version}, and this program reads version {VERSION}; \
             restore it with the release that wrote it"
        )));
    }
    let len = numbers[2..].iter().rev().fold(0, |len, byte| len << 8 | u64::from(*byte));
    let is = rest.len() as u64;
    if is != len.saturating_add(DIGEST as u64) {
        return Err(damaged(
            name,
            format_args!("has {is} bytes where {len} and {DIGEST} of digest should be"),
        ));
    }
    let (content, digest) = bytes.split_at(bytes.len() - DIGEST);
    if xxh3_128(content).to_le_bytes() != digest && !is_planted(Bug::IgnoreChecksums) {
        return Err(damaged(name, "does not hold what was written: its digest is wrong"));
    }
    let payload: Payload<'_> = serde_json::from_slice(&content[HEADER..]).map_err(|e| {
        Error::external(format!(
            "`{name}` cannot be read, although it is as it was written; if it is new, nest the types of \
             the state less deeply"
        ))
        .caused_by(e)
    })?;
    let manifest = payload.manifest.into_owned();
    let of = parse_checkpoint_folder(folder);
    if payload.folder != folder || of.is_some_and(|of| of != (manifest.id, manifest.epoch)) {
        return Err(damaged(
            name,
            format_args!(
                "is the manifest of another folder, `{}` with checkpoint {} of epoch {}",
                payload.folder, manifest.id, manifest.epoch
            ),
        ));
    }
    Ok(manifest)
}
