//! What connectors read: files of users, logs of other jobs, and what checkpoints hold for sinks.

use super::{Decoder, folder, nothing_to_mend};
use millstream_connectors::received;
use millstream_model::Result;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Files of lines, compressed or not. What is cut off is right as well, unless it ends within a character.
pub(super) const LINES: Decoder = Decoder {
    name: "lines",
    samples: || vec!["one\r\n\ntwo\nthree ä".into(), gzip(b"one\ntwo\n")],
    takes: |bytes| in_file(bytes, received::lines),
    mend: nothing_to_mend,
};

/// Those whose lines are JSON.
pub(super) const JSON_LINES: Decoder = Decoder {
    name: "json-lines",
    samples: || vec![b"[1,-7,\"one\",0.5]\n\n[2,null,\"two \\u00e4\",1e300]".to_vec()],
    takes: |bytes| in_file(bytes, received::json_lines),
    mend: nothing_to_mend,
};

/// Those of comma-separated values.
pub(super) const CSV: Decoder = Decoder {
    name: "csv",
    samples: || {
        let text = b"number,small,name,ratio\n1,-7,\"one, \"\"two\"\"\nthree\",0.5\n\n2,,four,1e3";
        vec![gzip(text), text.to_vec()]
    },
    takes: |bytes| in_file(bytes, received::csv),
    mend: nothing_to_mend,
};

/// What a log says of itself.
pub(super) const LOG_META: Decoder = Decoder {
    name: "log-meta",
    samples: || vec![in_sample_log("meta")],
    takes: |bytes| in_log("meta", bytes),
    mend: mend_json,
};

/// A transaction of a log.
pub(super) const LOG_COMMIT: Decoder = Decoder {
    name: "log-commit",
    samples: || vec![in_sample_log(COMMIT)],
    takes: |bytes| in_log(COMMIT, bytes),
    mend: mend_json,
};

/// The records of a transaction in a partition.
pub(super) const LOG_SEGMENT: Decoder = Decoder {
    name: "log-segment",
    samples: || vec![in_sample_log(SEGMENT)],
    takes: |bytes| in_log(SEGMENT, bytes),
    mend: mend_segment,
};

/// What a file sink stages.
pub(super) const STAGED_FILES: Decoder = Decoder {
    name: "staged-files",
    samples: || vec![b"7\n10 part-7-0-0\n2000 part-7-0-1".to_vec()],
    takes: |bytes| received::staged_files(bytes).is_ok(),
    mend: nothing_to_mend,
};

/// What a log sink stages.
pub(super) const STAGED_LOG: Decoder = Decoder {
    name: "staged-log",
    samples: || {
        let named =
            |name: &str| format!("{{\"at\":{{\"epoch\":1,\"checkpoint\":7}},\"name\":{name}}}");
        vec![named("\"1-0-0\"").into(), named("null").into()]
    },
    takes: |bytes| received::staged_log(bytes).is_ok(),
    mend: nothing_to_mend,
};

const COMMIT: &str = "commits/00000000000000000000";
const SEGMENT: &str = "segments/1-0-0-p0";
/// Before the records of a segment, and before each.
const SEGMENT_HEADER: usize = 16;
const RECORD_HEAD: usize = 8;

fn in_file(bytes: &[u8], read: fn(&Path) -> Result<usize>) -> bool {
    let dir = folder();
    let path: PathBuf = dir.path().join("input");
    std::fs::write(&path, bytes).expect("there is room for a file");
    read(&path).is_ok()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes it")
}

fn in_sample_log(file: &str) -> Vec<u8> {
    let dir = folder();
    received::sample_log(dir.path()).expect("an empty folder can be written");
    std::fs::read(dir.path().join(file)).expect("it was written")
}

/// Whether a log with this file in it can be read to its end.
fn in_log(file: &str, bytes: &[u8]) -> bool {
    static SAMPLES: OnceLock<[Vec<u8>; 3]> = OnceLock::new();
    const FILES: [&str; 3] = ["meta", COMMIT, SEGMENT];
    let dir = folder();
    for (name, sample) in FILES.iter().zip(SAMPLES.get_or_init(|| FILES.map(in_sample_log))) {
        let path = dir.path().join(name);
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let content = if *name == file { bytes } else { sample };
        made.and_then(|()| std::fs::write(&path, content)).expect("there is room for a file");
    }
    received::log(dir.path()).is_ok()
}

/// Magic, length, checksum, and what they are of.
fn mend_json(bytes: &[u8]) -> Option<Vec<u8>> {
    let json = bytes.get(16..)?;
    let mut mended = bytes.to_vec();
    mended[8..12].copy_from_slice(&(json.len() as u32).to_le_bytes());
    mended[12..16].copy_from_slice(&crc32fast::hash(json).to_le_bytes());
    Some(mended)
}

/// Makes the checksums of records right for as long as their lengths lead to another one.
fn mend_segment(bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut mended, mut at) = (bytes.to_vec(), SEGMENT_HEADER);
    while let Some(head) = mended.get(at..at + RECORD_HEAD) {
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let begin = at + RECORD_HEAD;
        let Some(payload) = mended.get(begin..begin + length) else { break };
        let crc = crc32fast::hash(payload).to_le_bytes();
        mended[at + 4..begin].copy_from_slice(&crc);
        at = begin + length;
    }
    (at > SEGMENT_HEADER).then_some(mended)
}
