//! Damage: every kind of file, damaged in every way, is known for damaged by `verify` and by whoever reads
//! it to restore; nothing depends on the one having been asked before the other.
//!
//! The files are small, so nothing is drawn: every bit and every length has its turn.

use super::*;
use crate::snapshot::storage::CheckpointStorage;
use crate::snapshot::tools::verify;
use proptest::prelude::*;

const FOLDER: &str = "chk-2-1";

/// A file of each kind, and one of the same kind in the same and in another checkpoint.
const FILES: [(&str, &[&str]); 3] = [
    ("chk-2-1/manifest", &["chk-1-1/manifest", "chk-2-2/manifest"]),
    ("chk-2-1/0-0.state", &["chk-2-1/0-1.state", "chk-1-1/0-0.state"]),
    ("chk-2-1/0-0.table", &["chk-2-1/0-1.table", "chk-1-1/0-0.table"]),
];

fn stored() -> MemoryStorage {
    let storage = MemoryStorage::new();
    for (id, epoch) in [(1, 1), (2, 1), (2, 2)] {
        store(&storage, id, epoch, &[]).unwrap();
    }
    storage
}

/// Both ways of reading must fail and name the file.
fn is_detected(storage: &MemoryStorage, path: &str, how: &str) {
    let error = restore(storage, FOLDER).expect_err(how).to_string();
    assert!(error.contains(path), "restoring with {path} {how}: {error}");
    let problems = verify(storage, FOLDER);
    assert!(
        problems.iter().any(|problem| problem.file == path && problem.to_string().contains(path)),
        "verifying with {path} {how}: {problems:?}"
    );
}

#[test]
fn what_is_not_damaged_is_read() {
    let storage = stored();
    assert!(verify(&storage, FOLDER).is_empty());
    assert_eq!(restore(&storage, FOLDER).unwrap().len(), 8);
}

#[test]
fn every_flipped_bit_is_detected() {
    let storage = stored();
    for (path, _) in FILES {
        for bit in 0..8 * storage.bytes(path).unwrap().len() {
            storage.flip_bit(path, bit);
            is_detected(&storage, path, &format!("with bit {bit} flipped"));
            storage.flip_bit(path, bit);
        }
    }
    assert!(verify(&storage, FOLDER).is_empty());
}

#[test]
fn every_cut_is_detected() {
    for (path, _) in FILES {
        let storage = stored();
        for len in (0..storage.bytes(path).unwrap().len()).rev() {
            storage.truncate(path, len);
            is_detected(&storage, path, &format!("cut to {len} bytes"));
        }
    }
}

#[test]
fn what_was_appended_is_detected() {
    for (path, _) in FILES {
        for tail in [&b"\0"[..], b"more"] {
            let storage = stored();
            storage.damage(path, |bytes| bytes.extend_from_slice(tail));
            is_detected(&storage, path, "grown");
            // Doubled, it has a good end, too.
            let storage = stored();
            storage.damage(path, |bytes| bytes.extend_from_within(..));
            is_detected(&storage, path, "doubled");
        }
    }
}

#[test]
fn what_is_missing_is_detected() {
    for (path, _) in FILES {
        let storage = stored();
        assert!(storage.lose(path));
        is_detected(&storage, path, "missing");
    }
}

#[test]
fn what_was_swapped_is_detected() {
    for (path, others) in FILES {
        for other in others {
            let storage = stored();
            storage.swap(path, other);
            is_detected(&storage, path, &format!("swapped with {other}"));
        }
    }
}

/// A [`FileRef`] that fits the content, whatever that is.
fn reference(bytes: &[u8]) -> (MemoryStorage, FileRef) {
    let storage = MemoryStorage::new();
    let mut writer = storage.create("f").unwrap();
    writer.write(bytes).unwrap();
    let file = writer.finish().unwrap();
    (storage, file)
}

/// The blocks that are handed out of a state file, and whether it came to a good end.
fn blocks(bytes: &[u8]) -> (Vec<Block>, bool) {
    let (storage, file) = reference(bytes);
    let Ok(reader) = StateFileReader::open(&storage, &file) else { return (Vec::new(), false) };
    let (good, bad): (Vec<_>, Vec<_>) = reader.partition(|block| block.is_ok());
    (good.into_iter().map(Result::unwrap).collect(), bad.is_empty())
}

/// Without the digest's help: a block is verified before it is handed out, and the end is known.
#[test]
fn a_state_file_knows_its_damage_before_its_digest_does() {
    let bytes = stored().bytes("chk-2-1/0-0.state").unwrap();
    let (good, whole) = blocks(&bytes);
    assert!(whole && good.len() == 3);
    let damaged = |bytes: &[u8], how: String| {
        let (handed_out, whole) = blocks(bytes);
        assert!(!whole, "{how}");
        assert!(good.starts_with(&handed_out), "{how}: {handed_out:?}");
    };
    for bit in 0..8 * bytes.len() {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        damaged(&bytes, format!("bit {bit} flipped"));
    }
    for len in 0..bytes.len() {
        damaged(&bytes[..len], format!("cut to {len} bytes"));
    }
    // A header of 16 bytes, three blocks of 24 + 3, the closing one of 24 + 16.
    let (header, rest) = bytes.split_at(16);
    let at = |n: usize| &rest[27 * n..if n < 3 { 27 * (n + 1) } else { rest.len() }];
    // Blocks of different parts may take turns; otherwise none may lack, come twice or elsewhere.
    let good_orders: [&[usize]; 3] = [&[0, 1, 2, 3], &[0, 2, 1, 3], &[1, 0, 2, 3]];
    for n_blocks in 0..=4 {
        for n in 0..4usize.pow(n_blocks) {
            let order: Vec<usize> = (0..n_blocks).map(|digit| n >> (2 * digit) & 3).collect();
            let shuffled: Vec<u8> = std::iter::once(header)
                .chain(order.iter().map(|n| at(*n)))
                .flatten()
                .copied()
                .collect();
            let is_good = good_orders.contains(&order.as_slice());
            assert_eq!(blocks(&shuffled).1, is_good, "blocks in the order {order:?}");
        }
    }
}

#[test]
fn a_claimed_length_takes_no_memory() {
    let bytes = stored().bytes("chk-2-1/0-0.state").unwrap();
    for len in [u32::MAX >> 1, u32::MAX, 16 << 20, (16 << 20) + 1] {
        let mut bytes = bytes.clone();
        bytes[16..20].copy_from_slice(&len.to_le_bytes());
        let (storage, file) = reference(&bytes);
        let error = StateFileReader::open(&storage, &file).unwrap().next().unwrap().unwrap_err();
        let what = if len == 16 << 20 { "it is cut off" } else { "16777216 is the most" };
        let error = error.to_string();
        assert!(error.contains("`f` is damaged at offset") && error.contains(what), "{error}");
    }
}

proptest! {
    /// Any blocks are read back as they were written, in their order.
    #[test]
    fn blocks_are_read_back(
        written in prop::collection::vec(
            (0u32..4, 1u64..100, prop::collection::vec(any::<u8>(), 0..200)), 0..20),
    ) {
        let storage = MemoryStorage::new();
        let mut writer = StateFileWriter::create(&storage, "f").unwrap();
        let mut expected = Vec::new();
        let mut counts = [0; 4];
        for (part, n_entries, bytes) in written {
            writer.block(part, &Written { bytes: bytes.clone(), n_entries }).unwrap();
            let first = counts[part as usize];
            expected.push(Block { part, first, n_entries: n_entries as u32, bytes });
            counts[part as usize] += n_entries;
        }
        let file = writer.finish().unwrap();
        let read: Vec<Block> =
            StateFileReader::open(&storage, &file).unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(read, expected);
    }

    /// Whatever is in a file, it is an error or nothing, never a panic.
    #[test]
    fn noise_is_refused(noise in prop::collection::vec(any::<u8>(), 0..300), keep in 0usize..300) {
        let good = stored();
        for path in ["chk-2-1/0-0.state", "chk-2-1/manifest"] {
            let mut bytes = good.bytes(path).unwrap();
            bytes.truncate(keep);
            bytes.extend(&noise);
            if bytes == good.bytes(path).unwrap() {
                continue;
            }
            prop_assert!(!blocks(&bytes).1);
            good.damage(path, |content| *content = bytes);
            prop_assert!(read_manifest(&good, FOLDER).is_err() || path.ends_with("state"));
        }
    }
}
