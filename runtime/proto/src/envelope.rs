//! The one form in which messages cross process boundaries.
//!
//! ```text
//! u32 length of the rest   u16 version   u64 leader's epoch   u32 CRC-32 of the body   body
//! ```
//!
//! All numbers are little-endian; the body is the message in the codec of state. The version comes before
//! everything that another version could have changed. On a stream of bytes (a host's control channel) envelopes
//! follow each other; where the transport has frames of its own, one frame is one envelope. Nothing is allocated
//! before the length is known to be within the limit.

use crate::message::LeaderEpoch;
use millstream_model::{Error, Result};
use millstream_state::codec;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{Read, Write};

/// The version of the messages. Grows whenever one changes.
pub const VERSION: u16 = 5;

/// The longest envelope, in bytes. Graphs and manifests of thousands of tasks are far below it.
pub const MAX_BYTES: usize = 64 << 20;

const LENGTH: usize = 4;
const HEADER: usize = 2 + 8 + 4;

/// A message's envelope.
///
/// # Errors
/// If it is too long.
pub fn seal<M: Serialize>(epoch: LeaderEpoch, message: &M) -> Result<Vec<u8>> {
    let mut bytes = vec![0; LENGTH + HEADER];
    codec::encode(message, &mut bytes)?;
    let length = bytes.len() - LENGTH;
    if length > MAX_BYTES {
        return Err(Error::user(format!(
            "a message of {length} bytes is too long for the cluster, which takes {MAX_BYTES}: is the job's \
             graph, or a value computed once on the client, that large?"
        )));
    }
    let checksum = crc32fast::hash(&bytes[LENGTH + HEADER..]);
    bytes[..4].copy_from_slice(&(length as u32).to_le_bytes());
    bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
    bytes[6..14].copy_from_slice(&epoch.0.to_le_bytes());
    bytes[14..18].copy_from_slice(&checksum.to_le_bytes());
    Ok(bytes)
}

/// The message in a whole envelope, and the epoch it was sent in.
///
/// # Errors
/// If the bytes are no envelope of this version, are damaged, or hold another kind of message.
pub fn open<M: DeserializeOwned>(bytes: &[u8]) -> Result<(LeaderEpoch, M)> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH>() else {
        return Err(broken("it has no length"));
    };
    let length = u32::from_le_bytes(*length) as usize;
    if length != rest.len() {
        return Err(broken(format_args!("{} bytes where {length} should be", rest.len())));
    }
    open_rest(rest)
}

fn open_rest<M: DeserializeOwned>(rest: &[u8]) -> Result<(LeaderEpoch, M)> {
    let Some((header, body)) = rest.split_first_chunk::<HEADER>() else {
        return Err(broken(format_args!("it is cut off after {} bytes", rest.len())));
    };
    let version = u16::from_le_bytes([header[0], header[1]]);
    if version != VERSION {
        return Err(Error::user(format!(
            "the other side speaks version {version} of the cluster's messages, this program version {VERSION}: \
             use the same release of Millstream on both sides"
        )));
    }
    let mut epoch = [0; 8];
    epoch.copy_from_slice(&header[2..10]);
    let mut checksum = [0; 4];
    checksum.copy_from_slice(&header[10..14]);
    if crc32fast::hash(body) != u32::from_le_bytes(checksum) {
        return Err(broken("its checksum is wrong"));
    }
    let message =
        codec::decode_all_within::<M, MAX_BYTES>(body).map_err(|e| broken(e.message()))?;
    Ok((LeaderEpoch(u64::from_le_bytes(epoch)), message))
}

fn broken(how: impl std::fmt::Display) -> Error {
    Error::external(format!("what was received is not a message of the cluster: {how}"))
}

/// Writes a message to a stream of bytes.
///
/// # Errors
/// If the stream cannot be written, or the message is too long.
pub fn write<M: Serialize>(stream: &mut impl Write, epoch: LeaderEpoch, message: &M) -> Result<()> {
    stream
        .write_all(&seal(epoch, message)?)
        .and_then(|()| stream.flush())
        .map_err(|e| Error::external("a message could not be written").caused_by(e))
}

/// Reads the next message from a stream of bytes; `None` if the stream ends before it.
///
/// # Errors
/// If the stream cannot be read, ends within a message, or brings something else.
pub fn read<M: DeserializeOwned>(stream: &mut impl Read) -> Result<Option<(LeaderEpoch, M)>> {
    let failed = |e| Error::external("a message could not be read").caused_by(e);
    let mut length = [0; LENGTH];
    let mut n = 0;
    while n < LENGTH {
        match stream.read(&mut length[n..]) {
            Ok(0) if n == 0 => return Ok(None),
            Ok(0) => return Err(broken("it is cut off within its length")),
            Ok(read) => n += read,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(failed(e)),
        }
    }
    let length = u32::from_le_bytes(length) as usize;
    if !(HEADER..=MAX_BYTES).contains(&length) {
        return Err(broken(format_args!("it claims to have {length} bytes")));
    }
    // Grows with what comes, not with what is claimed.
    let mut rest = Vec::new();
    let read = stream.take(length as u64).read_to_end(&mut rest).map_err(failed)?;
    if read < length {
        return Err(broken(format_args!("it is cut off after {read} of {length} bytes")));
    }
    open_rest(&rest).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{FromHost, JobId, ToTaskManager};
    use proptest::prelude::*;

    fn sample() -> Vec<u8> {
        seal(LeaderEpoch(7), &ToTaskManager::StopHost { job: JobId(5) }).unwrap()
    }

    #[test]
    fn what_is_sealed_is_opened_also_from_a_stream() {
        let (epoch, message) = open::<ToTaskManager>(&sample()).unwrap();
        assert!(
            epoch == LeaderEpoch(7) && matches!(message, ToTaskManager::StopHost { job: JobId(5) })
        );
        let two = [sample(), sample()].concat();
        let mut stream = &two[..];
        assert!(read::<ToTaskManager>(&mut stream).unwrap().is_some());
        assert!(read::<ToTaskManager>(&mut stream).unwrap().is_some());
        assert!(read::<ToTaskManager>(&mut stream).unwrap().is_none());
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() {
        let whole = sample();
        for len in 0..whole.len() {
            assert!(open::<ToTaskManager>(&whole[..len]).is_err(), "cut to {len}");
            let is_error = read::<ToTaskManager>(&mut &whole[..len]).is_err();
            assert_eq!(is_error, len > 0, "stream cut to {len}");
        }
        for bit in (0..whole.len() * 8).filter(|bit| !(48..112).contains(bit)) {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(open::<ToTaskManager>(&bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn another_version_is_told_from_damage() {
        let mut bytes = sample();
        bytes[4] = 9;
        let error = open::<ToTaskManager>(&bytes).unwrap_err().to_string();
        assert!(error.contains("version 9") && error.contains("same release"), "{error}");
    }

    #[test]
    fn a_claimed_length_allocates_nothing() {
        let mut bytes = u32::MAX.to_le_bytes().to_vec();
        bytes.extend([0; 64]);
        let error = read::<FromHost>(&mut &bytes[..]).unwrap_err().to_string();
        assert!(error.contains("claims to have 4294967295 bytes"), "{error}");
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_and_no_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = open::<FromHost>(&bytes);
            let _ = read::<FromHost>(&mut &bytes[..]);
            // Also behind a header that is right.
            let checksum = crc32fast::hash(&bytes);
            let mut whole = ((bytes.len() + HEADER) as u32).to_le_bytes().to_vec();
            whole.extend(VERSION.to_le_bytes());
            whole.extend([0; 8]);
            whole.extend(checksum.to_le_bytes());
            whole.append(&mut bytes);
            let _ = open::<FromHost>(&whole);
        }
    }
}
