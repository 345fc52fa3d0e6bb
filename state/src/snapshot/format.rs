//! The state file: what one task contributes to a checkpoint, as blocks of entries.
//!
//! All numbers are little-endian.
//!
//! ```text
//! header   "MSSTATE\0"  u16 version  u8 codec  5 × 0
//! block    u32 length   u32 part     u64 first entry   u32 entries   u32 crc32   payload
//! closing  u32 16       u32 MAX      u64 0             u32 0         u32 crc32   u64 blocks  u64 entries
//! ```
//!
//! The checksum of a block covers its head and its payload, so that nothing is handed out before it was
//! verified; the digest of the whole file, which the manifest knows, is checked behind the closing block.
//! A file that ends without one is cut off.
//!
//! A damaged length must not make a reader take memory without end. So a block's payload is at most
//! [`MAX_PAYLOAD`]: far above the slices that tasks write, and little to allocate. What is larger (an entry
//! can be) is written as several blocks, all but the last with the top bit of their length set, and put
//! together again from pieces that were verified one by one. So there is no entry that a writer accepts and
//! a reader refuses.

use super::FileRef;
use super::storage::{CheckpointStorage, ObjectWriter, damaged, read_error};
use crate::codec;
use crate::part::Written;
use millstream_model::sabotage::{Bug, is_planted};
use millstream_model::{Domain, Error, Result};
use std::io::{ErrorKind, Read};

/// The version of the format that is written, and the only one that is read.
pub const VERSION: u16 = 1;

/// The longest payload of one block in the file.
pub const MAX_PAYLOAD: usize = 16 << 20;

const MAGIC: [u8; 8] = *b"MSSTATE\0";
const HEADER: usize = 16;
const HEAD: usize = 24;
const CLOSING: u32 = u32::MAX;
/// In a length: the next block goes on with this one's payload.
const MORE: u32 = 1 << 31;

/// Writes a state file.
pub struct StateFileWriter {
    object: Box<dyn ObjectWriter>,
    n_entries: Entries,
    n_blocks: u64,
}

impl StateFileWriter {
    /// Begins a file.
    ///
    /// # Errors
    /// As [`CheckpointStorage::create`].
    pub fn create(storage: &dyn CheckpointStorage, path: &str) -> Result<Self> {
        let mut object = storage.create(path)?;
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(&MAGIC);
        header[8..10].copy_from_slice(&VERSION.to_le_bytes());
        header[10] = codec::FORMAT;
        object.write(&header)?;
        Ok(StateFileWriter { object, n_entries: Entries::default(), n_blocks: 0 })
    }

    /// Appends entries of a part, the next ones after those it has in the file already; none is nothing.
    /// Parts are numbered over all operators of the task in order and may take turns.
    ///
    /// # Errors
    /// If the storage fails.
    pub fn block(&mut self, part: u32, entries: &Written) -> Result<()> {
        if entries.n_entries == 0 && entries.bytes.is_empty() {
            return Ok(());
        }
        let n_entries = u32::try_from(entries.n_entries).ok().filter(|n| *n > 0 && part != CLOSING);
        let Some(n_entries) = n_entries else {
            return Err(Error::internal(format!(
                "a block of part {part} with {} entries in {} bytes",
                entries.n_entries,
                entries.bytes.len()
            )));
        };
        let first = self.n_entries.of(part);
        let mut pieces = entries.bytes.chunks(MAX_PAYLOAD).peekable();
        loop {
            let piece = pieces.next().unwrap_or_default();
            let more = pieces.peek().is_some();
            self.write(Head { part, first, n_entries, len: piece.len(), more }, piece)?;
            if !more {
                break;
            }
        }
        self.n_entries.add(part, n_entries);
        self.n_blocks += 1;
        Ok(())
    }

    /// Closes the file; durable when it returns.
    ///
    /// # Errors
    /// As [`ObjectWriter::finish`].
    pub fn finish(mut self) -> Result<FileRef> {
        let mut payload = [0; 16];
        payload[..8].copy_from_slice(&self.n_blocks.to_le_bytes());
        payload[8..].copy_from_slice(&self.n_entries.total().to_le_bytes());
        let head = Head { part: CLOSING, first: 0, n_entries: 0, len: 16, more: false };
        self.write(head, &payload)?;
        self.object.finish()
    }

    fn write(&mut self, head: Head, payload: &[u8]) -> Result<()> {
        self.object.write(&head.to_bytes(payload))?;
        self.object.write(payload)
    }
}

/// Entries of a part, read from a state file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The part's number, over all operators of the task in order.
    pub part: u32,
    /// Index of the first entry among those of the part in this file.
    pub first: u64,
    /// How many there are.
    pub n_entries: u32,
    /// The entries, as [`Written`] holds them.
    pub bytes: Vec<u8>,
}

/// Reads a state file: an iterator of blocks, each verified before it is handed out. Only when it has given
/// `None` has the whole file been verified; after an error it gives `None`, too, and what came before is
/// not to be used.
pub struct StateFileReader {
    object: Box<dyn Read + Send>,
    name: String,
    offset: u64,
    n_entries: Entries,
    n_blocks: u64,
    ended: bool,
}

impl StateFileReader {
    /// Opens a file and checks its header.
    ///
    /// # Errors
    /// If it is not there, if it is no state file, or one of another version or codec.
    pub fn open(storage: &dyn CheckpointStorage, file: &FileRef) -> Result<Self> {
        let mut reader = StateFileReader {
            object: storage.read(file)?,
            name: storage.locate(&file.path),
            offset: 0,
            n_entries: Entries::default(),
            n_blocks: 0,
            ended: false,
        };
        let mut header = [0; HEADER];
        reader.fill(&mut header)?;
        if header[..8] != MAGIC {
            return Err(damaged(
                &reader.name,
                "is no state file: it does not begin as one (offset 0)",
            ));
        }
        let version = u16::from_le_bytes([header[8], header[9]]);
        if (version, header[10]) != (VERSION, codec::FORMAT) || header[11..] != [0; 5] {
            return Err(Error::external(format!(
                "`{}` is a state file of version {version}, codec {}, and this program reads version \
                 {VERSION}, codec {} (offset 8); restore it with the release that wrote it",
                reader.name,
                header[10],
                codec::FORMAT
            )));
        }
        Ok(reader)
    }

    /// Why entries of this file were refused. That they are those that were written is known only at its end: if they are not,
    /// that is the reason.
    pub fn explain(self, refused: Error) -> Error {
        let (name, damage) = (self.name.clone(), self.filter_map(Result::err).next());
        match damage {
            Some(damage) if std::error::Error::source(&damage).is_some() => damage,
            Some(damage) => damage.caused_by(refused),
            None if refused.domain() != Domain::External => refused,
            None => Error::external(format!("`{name}` cannot be restored")).caused_by(refused),
        }
    }

    fn next_block(&mut self) -> Result<Option<Block>> {
        let start = self.offset;
        let mut bytes = Vec::new();
        let head = self.piece(&mut bytes)?;
        if head.part == CLOSING {
            self.close(start, &bytes)?;
            return Ok(None);
        }
        let mut more = head.more;
        while more {
            let at = self.offset;
            let next = self.piece(&mut bytes)?;
            if (next.part, next.first, next.n_entries) != (head.part, head.first, head.n_entries) {
                return Err(self.wrong(at, "the block before goes on, but not here"));
            }
            more = next.more;
        }
        let expected = self.n_entries.of(head.part);
        if head.first != expected || head.n_entries == 0 {
            return Err(self.wrong(
                start,
                format_args!(
                    "entries {} of part {} should come, and these are {} from {}",
                    expected, head.part, head.n_entries, head.first
                ),
            ));
        }
        self.n_entries.add(head.part, head.n_entries);
        self.n_blocks += 1;
        let Head { part, first, n_entries, .. } = head;
        Ok(Some(Block { part, first, n_entries, bytes }))
    }

    /// Reads one block as it lies in the file, and appends its payload.
    fn piece(&mut self, payload: &mut Vec<u8>) -> Result<Head> {
        let start = self.offset;
        let mut head = [0; HEAD];
        self.fill(&mut head)?;
        let (head, crc) = Head::from_bytes(&head);
        if head.len > MAX_PAYLOAD {
            let what = format!("a block of {} bytes, and {MAX_PAYLOAD} is the most", head.len);
            return Err(self.wrong(start, what));
        }
        let before = payload.len();
        payload.resize(before + head.len, 0);
        self.fill(&mut payload[before..])?;
        let found = head.crc(&payload[before..]);
        if found != crc && !is_planted(Bug::IgnoreChecksums) {
            let what = format!("the block's checksum is {found:08x} instead of {crc:08x}");
            return Err(self.wrong(start, what));
        }
        Ok(head)
    }

    /// Checks the closing block, and that nothing follows; the digest of the whole with it.
    fn close(&mut self, start: u64, payload: &[u8]) -> Result<()> {
        let mut expected = self.n_blocks.to_le_bytes().to_vec();
        expected.extend(self.n_entries.total().to_le_bytes());
        if payload != expected {
            return Err(self
                .wrong(start, "the number of blocks or entries is not the one that was written"));
        }
        loop {
            match self.object.read(&mut [0]) {
                Ok(0) => return Ok(()),
                Ok(_) => return Err(self.wrong(self.offset, "something follows the last block")),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(read_error(&self.name, e)),
            }
        }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<()> {
        match self.object.read_exact(buffer) {
            Ok(()) => {
                self.offset += buffer.len() as u64;
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => {
                Err(self.wrong(self.offset, "it is cut off"))
            }
            Err(e) => Err(read_error(&self.name, e)),
        }
    }

    #[cold]
    fn wrong(&self, offset: u64, what: impl std::fmt::Display) -> Error {
        damaged(&self.name, format_args!("is damaged at offset {offset}: {what}"))
    }
}

impl Iterator for StateFileReader {
    type Item = Result<Block>;

    fn next(&mut self) -> Option<Result<Block>> {
        if self.ended {
            return None;
        }
        let next = self.next_block().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

/// What stands before a payload.
struct Head {
    part: u32,
    first: u64,
    n_entries: u32,
    len: usize,
    more: bool,
}

impl Head {
    fn to_bytes(&self, payload: &[u8]) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        let len = self.len as u32 | if self.more { MORE } else { 0 };
        bytes[..4].copy_from_slice(&len.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.part.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.first.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.n_entries.to_le_bytes());
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes[..20]);
        crc.update(payload);
        bytes[20..].copy_from_slice(&crc.finalize().to_le_bytes());
        bytes
    }

    /// The head, and the checksum that stands in it.
    fn from_bytes(bytes: &[u8; HEAD]) -> (Head, u32) {
        let u32_at = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let len = u32_at(0);
        let head = Head {
            part: u32_at(4),
            first: u64::from(u32_at(8)) | u64::from(u32_at(12)) << 32,
            n_entries: u32_at(16),
            len: (len & !MORE) as usize,
            more: len & MORE != 0,
        };
        (head, u32_at(20))
    }

    fn crc(&self, payload: &[u8]) -> u32 {
        Head::from_bytes(&self.to_bytes(payload)).1
    }
}

/// How many entries each part has so far.
#[derive(Default)]
struct Entries(std::collections::BTreeMap<u32, u64>);

impl Entries {
    fn of(&self, part: u32) -> u64 {
        self.0.get(&part).copied().unwrap_or(0)
    }

    fn add(&mut self, part: u32, n: u32) {
        *self.0.entry(part).or_default() += u64::from(n);
    }

    fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::MemoryStorage;

    fn written(bytes: &[u8], n_entries: u64) -> Written {
        Written { bytes: bytes.to_vec(), n_entries }
    }

    #[test]
    fn bytes_are_pinned() {
        let storage = MemoryStorage::new();
        let mut writer = StateFileWriter::create(&storage, "f").unwrap();
        writer.block(0, &written(b"ab", 2)).unwrap();
        writer.block(7, &written(b"c", 1)).unwrap();
        writer.block(7, &written(b"", 0)).unwrap();
        writer.block(0, &written(b"de", 1)).unwrap();
        let file = writer.finish().unwrap();
        let mut expected = b"MSSTATE\0\x01\0\x01\0\0\0\0\0".to_vec();
        // The checksums are those of Python's `zlib.crc32` over head and payload.
        for (head, crc, payload) in [
            ([2u32, 0, 0, 0, 2], 0x14eb83f9, &b"ab"[..]),
            ([1, 7, 0, 0, 1], 0x1797230c, b"c"),
            ([2, 0, 2, 0, 1], 0x9002541c, b"de"),
            ([16, u32::MAX, 0, 0, 0], 0xc080c0d3, b"\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0"),
        ] {
            expected.extend(head.into_iter().chain([crc]).flat_map(u32::to_le_bytes));
            expected.extend(payload);
        }
        assert_eq!(storage.bytes("f").unwrap(), expected);

        let blocks: Vec<Block> =
            StateFileReader::open(&storage, &file).unwrap().map(Result::unwrap).collect();
        let block = |part, first, n_entries, bytes: &[u8]| Block {
            part,
            first,
            n_entries,
            bytes: bytes.to_vec(),
        };
        assert_eq!(blocks, [block(0, 0, 2, b"ab"), block(7, 0, 1, b"c"), block(0, 2, 1, b"de")]);
    }

    #[test]
    fn an_entry_of_any_size_is_read_back() {
        let storage = MemoryStorage::new();
        let mut writer = StateFileWriter::create(&storage, "f").unwrap();
        let sizes = [MAX_PAYLOAD - 1, MAX_PAYLOAD, MAX_PAYLOAD + 1, 2 * MAX_PAYLOAD, 1];
        let entry = |n: usize| -> Vec<u8> { (0..sizes[n]).map(|i| (i % 251 + n) as u8).collect() };
        for n in 0..sizes.len() {
            writer.block(3, &written(&entry(n), 1)).unwrap();
        }
        let file = writer.finish().unwrap();
        let mut reader = StateFileReader::open(&storage, &file).unwrap();
        for (n, size) in sizes.into_iter().enumerate() {
            let block = reader.next().unwrap().unwrap();
            assert_eq!((block.first, block.n_entries, block.bytes.len()), (n as u64, 1, size));
            assert!(block.bytes == entry(n), "entry {n}");
        }
        assert!(reader.next().is_none());
    }

    /// The error of a file with these bytes, of which the digest is right.
    fn error_of(bytes: &[u8]) -> String {
        let storage = MemoryStorage::new();
        let mut object = storage.create("f").unwrap();
        object.write(bytes).unwrap();
        let file = object.finish().unwrap();
        let end = StateFileReader::open(&storage, &file).and_then(|reader| reader.last().unwrap());
        end.unwrap_err().to_string()
    }

    #[test]
    fn a_block_that_goes_on_elsewhere_is_damage() {
        let mut bytes = b"MSSTATE\0\x01\0\x01\0\0\0\0\0".to_vec();
        let piece = |part, first, n_entries, more| {
            let head = Head { part, first, n_entries, len: 2, more };
            [&head.to_bytes(b"ab")[..], b"ab"].concat()
        };
        bytes.extend(piece(1, 0, 1, true));
        assert!(error_of(&bytes).contains("offset 42: it is cut off"), "{}", error_of(&bytes));
        for next in [piece(2, 0, 1, false), piece(1, 1, 1, false), piece(1, 0, 2, false)] {
            let error = error_of(&[&bytes[..], &next].concat());
            assert!(error.contains("offset 42: the block before goes on"), "{error}");
        }
    }

    #[test]
    fn another_version_or_codec_is_refused() {
        let bytes = b"MSSTATE\0\x01\0\x01\0\0\0\0\0";
        for (at, what) in [(8, "version 7, codec 1"), (10, "version 1, codec 7")] {
            let mut bytes = *bytes;
            bytes[at] = 7;
            let error = error_of(&bytes);
            assert!(error.contains(what) && error.contains("reads version 1, codec 1"), "{error}");
        }
    }
}
