//! What a process does to its files, in the order in which it does it: written by one program, read by another.
//!
//! The writer (`recorder.rs`) is loaded into a process that must be disturbed as little as possible and may be killed at any
//! moment; so an entry is one `write` of a line, and a line that was cut off is none.
//!
//! Files and folders are called by their inode numbers. Only names and content are of interest: times, owners and
//! permissions mean nothing to a checkpoint.

use serde::{Deserialize, Serialize};

/// The environment variable with the folder whose files are followed; without it nothing is.
pub const ROOT: &str = "POWER_CUT_ROOT";
/// The environment variable with the file that the journal goes to.
pub const JOURNAL: &str = "POWER_CUT_JOURNAL";
/// The environment variable with the name of a folder that is slow to be synced, with all that is in it.
pub const SLOW: &str = "POWER_CUT_SLOW";

/// How a recorder begins its last words, before it aborts its process.
pub const GAVE_UP: &str = "the recorder of files gave up:";

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The folder.
    pub folder: u64,
    /// The name, as the system has it.
    pub name: Vec<u8>,
}

/// Something that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// A new, empty file.
    Create {
        /// Its name.
        at: Entry,
        /// The file.
        file: u64,
    },
    /// A new, empty folder.
    MakeFolder {
        /// Its name.
        at: Entry,
        /// The folder.
        folder: u64,
    },
    /// Content of a file, in place of what was there.
    Write {
        /// The file.
        file: u64,
        /// Where it begins.
        offset: u64,
        /// The content.
        bytes: Vec<u8>,
    },
    /// Another length of a file: it is cut, or goes on with zeros.
    SetLength {
        /// The file.
        file: u64,
        /// How long it is now.
        length: u64,
    },
    /// One more name of a file.
    Link {
        /// The name.
        at: Entry,
        /// The file.
        file: u64,
    },
    /// Another name for what has one; what had the new name is gone.
    Rename {
        /// The old name.
        from: Entry,
        /// The new name.
        to: Entry,
    },
    /// A name less; with its last one a file is gone.
    Unlink {
        /// The name.
        at: Entry,
    },
    /// Everything that concerns a file's content, or the names in a folder, and was done before the sync began, survives now
    /// that it has ended.
    Sync {
        /// The file or the folder.
        what: u64,
        /// How many entries the journal had when it began.
        began: u64,
    },
}

/// What an entry of the journal looks like.
///
/// # Errors
/// None is known.
pub fn encode(op: &Op) -> serde_json::Result<Vec<u8>> {
    let mut entry = serde_json::to_vec(op)?;
    entry.push(b'\n');
    Ok(entry)
}

/// Everything that a journal says.
///
/// # Errors
/// An entry that is whole and says nothing.
pub fn decode(journal: &[u8]) -> serde_json::Result<Vec<Op>> {
    let lines = journal.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| line.ends_with(b"\n")).map(serde_json::from_slice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_an_entry_cut_off_is_none() {
        let at = Entry { folder: 7, name: b"a".to_vec() };
        let ops = [
            Op::Create { at, file: 8 },
            Op::Write { file: 8, offset: 300, bytes: vec![1; 1000] },
            Op::Sync { what: 8, began: 2 },
        ];
        let mut journal = Vec::new();
        let ends = ops.each_ref().map(|op| {
            journal.extend(encode(op).unwrap());
            journal.len()
        });
        for cut in 0..=journal.len() {
            let n_whole = ends.iter().filter(|end| **end <= cut).count();
            assert_eq!(decode(&journal[..cut]).unwrap(), ops[..n_whole]);
        }
    }
}
