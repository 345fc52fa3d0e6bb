//! Frames: how what goes through a connection is cut into pieces that can be checked.
//!
//! A header names the length, the kind and the channel; the checksum is over all of it. A length is checked
//! against the limit before anything else is believed, and memory grows with what has arrived, not with what was
//! announced. Nothing is skipped: after a frame that is wrong nothing in the connection can be trusted.

use super::wire::MAX_PAYLOAD;
use millstream_model::{Error, Result};
use std::fmt;

/// Bytes before a payload: length, kind, flags, two that are zero, channel, checksum.
pub(super) const HEADER_BYTES: usize = 24;
const CHECKSUM_AT: usize = 20;
const COMPRESSED: u8 = 1;
/// Bytes that are read at a time.
const READ_BYTES: usize = 256 << 10;

/// Which channel: between which subtasks, over which edge of the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId {
    /// Number of the job edge.
    pub edge: u32,
    /// The producing subtask.
    pub from: u32,
    /// The consuming subtask.
    pub to: u32,
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "edge {}, subtask {} to {}", self.edge, self.from + 1, self.to + 1)
    }
}

impl ChannelId {
    /// What frames name that belong to no channel.
    pub(super) const NONE: ChannelId = ChannelId { edge: u32::MAX, from: 0, to: 0 };
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Records, in columns.
    Batch = 1,
    /// A signal in its place among them.
    Signal = 2,
    /// A barrier that overtook, and how many messages of its channel it did not.
    Barrier = 3,
    /// How much more may be sent.
    Credit = 4,
    /// The other side is done with the connection.
    Close = 5,
}

impl Kind {
    fn of(byte: u8) -> Option<Kind> {
        [Kind::Batch, Kind::Signal, Kind::Barrier, Kind::Credit, Kind::Close]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// A frame that arrived whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) kind: Kind,
    pub(super) is_compressed: bool,
    pub(super) channel: ChannelId,
    pub(super) payload: &'a [u8],
}

/// Makes room for a header in an empty buffer; the payload is appended next.
pub(super) fn begin(out: &mut Vec<u8>) {
    out.clear();
    out.resize(HEADER_BYTES, 0);
}

/// Writes the header before the payload.
///
/// # Errors
/// If the payload is too long.
pub(super) fn finish(
    out: &mut [u8],
    kind: Kind,
    is_compressed: bool,
    channel: ChannelId,
) -> Result<()> {
    let n = out.len() - HEADER_BYTES;
    if n > MAX_PAYLOAD {
        return Err(Error::user(format!(
            "a batch of {n} bytes is too large for the network, which takes {MAX_PAYLOAD}: make its records \
             smaller, or keep large values elsewhere and send their names"
        )));
    }
    out[..4].copy_from_slice(&(n as u32).to_le_bytes());
    out[4..8].copy_from_slice(&[kind as u8, if is_compressed { COMPRESSED } else { 0 }, 0, 0]);
    let ids = [channel.edge, channel.from, channel.to];
    for (to, id) in out[8..CHECKSUM_AT].as_chunks_mut::<4>().0.iter_mut().zip(ids) {
        *to = id.to_le_bytes();
    }
    let checksum = checksum(out).to_le_bytes();
    out[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&checksum);
    Ok(())
}

/// Of everything but itself.
fn checksum(frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[..CHECKSUM_AT]);
    hasher.update(&frame[HEADER_BYTES..]);
    hasher.finalize()
}

/// Bytes as they arrive, and the frames in them.
pub(super) struct Arriving {
    buffer: Vec<u8>,
    /// What has arrived and was not yet taken.
    start: usize,
    end: usize,
}

impl Arriving {
    /// Nothing has arrived.
    pub(super) fn new() -> Arriving {
        Arriving { buffer: vec![0; READ_BYTES], start: 0, end: 0 }
    }

    /// Where to put what arrives next; never empty.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            // A large frame was an exception.
            if self.buffer.len() > 4 * READ_BYTES {
                self.buffer = vec![0; READ_BYTES];
            }
        } else if self.end == self.buffer.len() {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            }
            if self.buffer.len() - self.end < READ_BYTES / 4 {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
        }
        &mut self.buffer[self.end..]
    }

    /// So many bytes were put there.
    pub(super) fn arrived(&mut self, n: usize) {
        self.end += n;
    }

    /// Whether the last frame was taken whole.
    pub(super) fn is_whole(&self) -> bool {
        self.start == self.end
    }

    /// The next frame, if all of it has arrived.
    ///
    /// # Errors
    /// If what has arrived is not a frame.
    pub(super) fn next(&mut self) -> Result<Option<Frame<'_>>> {
        let arrived = &self.buffer[self.start..self.end];
        let Some(header) = arrived.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let word = |at: usize| {
            let bytes = header[at..].first_chunk().copied();
            u32::from_le_bytes(bytes.unwrap_or_default())
        };
        let n = word(0) as usize;
        if n > MAX_PAYLOAD {
            return Err(damaged(&format!("it announces {n} bytes")));
        }
        let kind = Kind::of(header[4]).ok_or_else(|| damaged("it is of an unknown kind"))?;
        if header[5] > COMPRESSED || header[6..8] != [0, 0] {
            return Err(damaged("it has unknown flags"));
        }
        let Some(frame) = arrived.get(..HEADER_BYTES + n) else { return Ok(None) };
        if checksum(frame) != word(CHECKSUM_AT) {
            return Err(damaged("its checksum is wrong"));
        }
        let channel = ChannelId { edge: word(8), from: word(12), to: word(16) };
        let is_compressed = header[5] == COMPRESSED;
        self.start += frame.len();
        Ok(Some(Frame { kind, is_compressed, channel, payload: &frame[HEADER_BYTES..] }))
    }
}

#[cold]
fn damaged(how: &str) -> Error {
    Error::external(format!("what arrives is not a frame of this protocol: {how}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHANNEL: ChannelId = ChannelId { edge: 1, from: 2, to: 3 };

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        begin(&mut out);
        out.extend_from_slice(payload);
        finish(&mut out, Kind::Signal, false, CHANNEL).unwrap();
        out
    }

    /// Feeds bytes in pieces of this size; the payloads, or the error.
    fn read(bytes: &[u8], piece: usize) -> Result<Vec<Vec<u8>>> {
        let (mut arriving, mut payloads) = (Arriving::new(), Vec::new());
        for mut piece in bytes.chunks(piece.max(1)) {
            while !piece.is_empty() {
                let room = arriving.room();
                let n = room.len().min(piece.len());
                room[..n].copy_from_slice(&piece[..n]);
                piece = &piece[n..];
                arriving.arrived(n);
                while let Some(frame) = arriving.next()? {
                    assert_eq!((frame.kind, frame.channel), (Kind::Signal, CHANNEL));
                    payloads.push(frame.payload.to_vec());
                }
            }
        }
        Ok(payloads)
    }

    proptest! {
        #[test]
        fn frames_are_found_however_they_are_cut(
            sizes in proptest::collection::vec(0usize..70_000, 1..12), piece in 1usize..400_000
        ) {
            let payloads: Vec<Vec<u8>> =
                sizes.iter().map(|n| (0..*n).map(|i| (i * 7 + n) as u8).collect()).collect();
            let bytes: Vec<u8> = payloads.iter().flat_map(|p| frame(p)).collect();
            prop_assert_eq!(read(&bytes, piece).unwrap(), payloads);
        }

        #[test]
        fn a_flipped_bit_is_noticed(payload in proptest::collection::vec(any::<u8>(), 0..60),
            at in any::<prop::sample::Index>(), bit in 0..8u32
        ) {
            let mut bytes = frame(&payload);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            // A longer length is still waited for.
            prop_assert_eq!(read(&bytes, 1000).unwrap_or_default(), Vec::<Vec<u8>>::new());
        }

        #[test]
        fn garbage_is_no_frame(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(read(&bytes, 50).unwrap_or_default(), Vec::<Vec<u8>>::new());
        }
    }

    #[test]
    fn a_large_frame_takes_memory_as_it_arrives_and_gives_it_back() {
        let mut arriving = Arriving::new();
        let large = frame(&vec![7; 5 << 20]);
        let mut rest = &large[..];
        while !rest.is_empty() {
            let seen = large.len() - rest.len();
            let room = arriving.room();
            assert!(room.len() <= 2 * (seen + READ_BYTES), "{} after {seen}", room.len());
            let n = room.len().min(rest.len()).min(10_000);
            room[..n].copy_from_slice(&rest[..n]);
            rest = &rest[n..];
            arriving.arrived(n);
            if !rest.is_empty() {
                assert_eq!(arriving.next().unwrap(), None);
            }
        }
        assert_eq!(arriving.next().unwrap().unwrap().payload.len(), 5 << 20);
        assert_eq!(arriving.room().len(), READ_BYTES);
    }

    #[test]
    fn what_is_too_long_is_refused_on_both_sides() {
        let mut out = vec![0; HEADER_BYTES + MAX_PAYLOAD + 1];
        let refused = finish(&mut out, Kind::Batch, false, CHANNEL).unwrap_err();
        assert!(refused.to_string().contains("too large for the network"), "{refused}");
        let mut header = frame(&[]);
        header[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(read(&header, 99).unwrap_err().to_string().contains("announces 4294967295 bytes"));
    }
}
