//! Segments: records with a length and a checksum each, behind a header that says whose they are.
//!
//! ```text
//! header   "MSLOGSEG"  u32 version  u32 crc32 of the segment's name
//! record   u32 length  u32 crc32 of the payload  payload
//! ```

use super::folder::Segment;
use crate::durable::failed;
use millstream_model::{Error, Result};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const MAGIC: [u8; 8] = *b"MSLOGSEG";
const VERSION: u32 = 1;
const HEADER: usize = 16;
const HEAD: usize = 8;
const BUFFER: usize = 64 * 1024;

fn header(name: &str) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..].copy_from_slice(&crc32fast::hash(name.as_bytes()).to_le_bytes());
    header
}

/// Writes a segment.
pub(super) struct SegmentWriter {
    file: BufWriter<File>,
    path: PathBuf,
    segment: Segment,
}

impl SegmentWriter {
    pub(super) fn create(path: PathBuf, partition: u32, name: String) -> Result<Self> {
        let file = File::create_new(&path).map_err(|e| failed(&path, "cannot be made", e))?;
        let header = header(&name);
        let mut writer = SegmentWriter {
            file: BufWriter::with_capacity(BUFFER, file),
            path,
            segment: Segment { partition, name, size_bytes: 0, n_records: 0 },
        };
        writer.write(&header)?;
        Ok(writer)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| failed(&self.path, "cannot be written", e))?;
        self.segment.size_bytes += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn record(&mut self, payload: &[u8]) -> Result<()> {
        let Ok(len) = u32::try_from(payload.len()) else {
            return Err(Error::user("a record of 4 GiB or more cannot be written to a log"));
        };
        self.write(&len.to_le_bytes())?;
        self.write(&crc32fast::hash(payload).to_le_bytes())?;
        self.write(payload)?;
        self.segment.n_records += 1;
        Ok(())
    }

    /// Completes the segment; durably, but for its name.
    pub(super) fn finish(self) -> Result<Segment> {
        let SegmentWriter { file, path, segment } = self;
        let synced = file.into_inner().map_err(|e| e.into_error()).and_then(|file| file.sync_all());
        synced.map_err(|e| failed(&path, "cannot be synced", e))?;
        Ok(segment)
    }
}

/// Reads a segment, from any record on.
pub(super) struct SegmentReader {
    file: BufReader<File>,
    path: PathBuf,
    segment: Segment,
    /// Position of the next record; 0 before the header was read.
    pub(super) offset: u64,
    payload: Vec<u8>,
}

impl SegmentReader {
    /// Opens it at the record at `offset`.
    pub(super) fn open(path: &Path, segment: Segment, offset: u64) -> Result<Self> {
        let mut file = File::open(path).map_err(|e| failed(path, "cannot be opened", e))?;
        let mut found = [0; HEADER];
        let read = file.metadata().and_then(|meta| {
            file.read_exact(&mut found)?;
            file.seek(SeekFrom::Start(offset.max(HEADER as u64)))?;
            Ok(meta.len())
        });
        let mut reader = SegmentReader {
            file: BufReader::with_capacity(BUFFER, file),
            path: path.to_owned(),
            segment,
            offset: offset.max(HEADER as u64),
            payload: Vec::new(),
        };
        match read {
            Ok(len) if len != reader.segment.size_bytes => {
                let committed = reader.segment.size_bytes;
                Err(reader.damaged(&format!("it has {len} bytes, and {committed} were committed")))
            }
            Ok(_) if found != header(&reader.segment.name) => {
                reader.offset = 0;
                Err(reader.damaged("it does not begin as this segment of a log, in version 1"))
            }
            Ok(_) => Ok(reader),
            Err(e) => Err(failed(path, "cannot be read", e)),
        }
    }

    #[cold]
    fn damaged(&self, what: &str) -> Error {
        Error::external(format!(
            "`{}` is damaged at offset {}: {what}; restore the log from a copy",
            self.path.display(),
            self.offset
        ))
    }

    /// The next record's bytes; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>> {
        let left = self.segment.size_bytes.saturating_sub(self.offset);
        if left == 0 {
            return Ok(None);
        }
        let mut head = [0; HEAD];
        self.fill(left, Some(&mut head))?;
        let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let crc = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        self.payload.clear();
        if len as u64 > left - HEAD as u64 {
            return Err(self.damaged("a record is longer than the segment"));
        }
        self.payload.resize(len, 0);
        self.fill(left, None)?;
        if crc32fast::hash(&self.payload) != crc {
            return Err(self.damaged("a record's checksum is wrong"));
        }
        self.offset += (HEAD + len) as u64;
        Ok(Some(&self.payload))
    }

    /// Reads a record's head, or its payload.
    fn fill(&mut self, left: u64, head: Option<&mut [u8; HEAD]>) -> Result<()> {
        if left < HEAD as u64 {
            return Err(self.damaged("a record is cut off"));
        }
        let read = match head {
            Some(head) => self.file.read_exact(head),
            None => self.file.read_exact(&mut self.payload),
        };
        read.map_err(|e| failed(&self.path, "cannot be read", e))
    }
}
