//! Looking at snapshots: which there are, whether they are whole, and what is in them.
//!
//! For people and for the last resort, so damage is what these functions report, not what they fail with.

use super::format::StateFileReader;
use super::manifest::{parse_checkpoint_folder, read_manifest};
use super::mark::{self, Mark};
use super::storage::{CheckpointStorage, damaged, read_error};
use super::{FileRef, Manifest, PartKind, TaskSnapshot};
use millstream_model::checkpoint::{CheckpointId, SnapshotKind};
use millstream_model::job_graph::OperatorId;
use millstream_model::{Error, Result};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::{fmt, io};

/// A snapshot found in a storage.
#[derive(Debug)]
pub struct Listed {
    /// Its folder; `""` is the storage itself.
    pub folder: String,
    /// What its manifest says, or why that cannot be read.
    pub summary: Result<Summary>,
}

/// A snapshot in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its number.
    pub id: CheckpointId,
    /// Which leader completed it.
    pub epoch: u64,
    /// What it was taken for.
    pub kind: SnapshotKind,
    /// When it was completed, in milliseconds since 1970.
    pub completed_at_ms: i64,
    /// Number of files without the manifest.
    pub n_files: usize,
    /// Their length; a file that other snapshots name too counts in each.
    pub n_bytes: u64,
}

impl Summary {
    fn of(manifest: &Manifest) -> Self {
        let files: HashSet<&FileRef> = manifest.files().collect();
        Summary {
            id: manifest.id,
            epoch: manifest.epoch,
            kind: manifest.kind,
            completed_at_ms: manifest.completed_at_ms,
            n_files: files.len(),
            n_bytes: files.iter().map(|file| file.bytes).sum(),
        }
    }
}

/// All snapshots of a storage, oldest first, checkpoints and savepoints; those that cannot be read last, and the newest checkpoint
/// among them if its manifest is gone.
///
/// # Errors
/// If the storage cannot be listed.
pub fn list(storage: &dyn CheckpointStorage) -> Result<Vec<Listed>> {
    let mut found = Vec::new();
    for path in storage.list("")? {
        let folder = match path.rsplit_once('/') {
            Some((folder, "manifest")) => folder.to_owned(),
            None if path == "manifest" => String::new(),
            _ => continue,
        };
        let summary = read_manifest(storage, &folder).map(|manifest| Summary::of(&manifest));
        found.push(Listed { folder, summary });
    }
    // One that is lost is to be seen, too.
    let of_folder = |listed: &Listed| parse_checkpoint_folder(&listed.folder);
    let newest = found.iter().filter_map(of_folder).max();
    if let Ok(Some(mark)) = mark::newest(storage)
        && Some(mark.number()) > newest
        && let Mark::Completed(_, folder) = mark
    {
        let summary = read_manifest(storage, &folder).map(|manifest| Summary::of(&manifest));
        found.push(Listed { folder, summary });
    }
    found.sort_by_key(|listed| {
        let number = listed.summary.as_ref().ok().map(|summary| (summary.id, summary.epoch));
        (number.is_none(), number)
    });
    Ok(found)
}

/// Something wrong with a snapshot.
#[derive(Debug)]
pub struct Problem {
    /// The file, relative to the storage.
    pub file: String,
    /// What is wrong with it.
    pub error: Error,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

/// Reads all of a snapshot and checks everything there is to check; empty if it is whole.
pub fn verify(storage: &dyn CheckpointStorage, folder: &str) -> Vec<Problem> {
    let manifest = match read_manifest(storage, folder) {
        Ok(manifest) => manifest,
        Err(error) => {
            return vec![Problem { file: super::manifest::manifest_path(folder), error }];
        }
    };
    let mut problems = Vec::new();
    let mut note = |file: &FileRef, checked: Result<()>| {
        if let Err(error) = checked {
            problems.push(Problem { file: file.path.clone(), error });
        }
    };
    let mut shared = BTreeSet::new();
    for task in &manifest.tasks {
        if let Some(file) = &task.file {
            note(file, verify_state_file(storage, file, task));
        }
        // Subtasks of a job that was rescaled may name the same file.
        for file in task.shared.iter().filter(|file| shared.insert(*file)) {
            note(file, verify_digest(storage, file));
        }
    }
    problems
}

fn verify_digest(storage: &dyn CheckpointStorage, file: &FileRef) -> Result<()> {
    io::copy(&mut storage.read(file)?, &mut io::sink())
        .map(drop)
        .map_err(|e| read_error(&storage.locate(&file.path), e))
}

/// Also counts the entries, which only the manifest and the file together can get wrong.
fn verify_state_file(
    storage: &dyn CheckpointStorage,
    file: &FileRef,
    task: &TaskSnapshot,
) -> Result<()> {
    let mut n_entries: BTreeMap<u32, u64> = BTreeMap::new();
    for block in StateFileReader::open(storage, file)? {
        let block = block?;
        *n_entries.entry(block.part).or_default() += u64::from(block.n_entries);
    }
    let parts = task.operators.iter().flat_map(|operator| &operator.parts);
    for (number, part) in (0u32..).zip(parts) {
        let n = n_entries.remove(&number).unwrap_or(0);
        // What a task keeps in shared files is not in its own.
        if n != part.n_entries && (n > 0 || task.shared.is_empty()) {
            return Err(damaged(
                &storage.locate(&file.path),
                format_args!("holds {n} entries of `{}` instead of {}", part.name, part.n_entries),
            ));
        }
    }
    match n_entries.keys().next() {
        None => Ok(()),
        Some(number) => Err(damaged(
            &storage.locate(&file.path),
            format_args!("holds entries of part {number}, which the manifest does not know"),
        )),
    }
}

/// What is in a snapshot. [`Display`](fmt::Display) shows it as text.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspection {
    /// The job's name.
    pub job: String,
    /// The snapshot in short.
    pub summary: Summary,
    /// Its parts, operator by operator.
    pub parts: Vec<InspectedPart>,
    /// Files of trees, in which keyed state lies: how many, and their length.
    pub shared: (usize, u64),
    /// Whether the parts count what lies in trees, too.
    pub counts_trees: bool,
}

/// A part of an operator, over all subtasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectedPart {
    /// The operator.
    pub operator: OperatorId,
    /// The operator's name; its uid if it has one.
    pub operator_name: String,
    /// Name of the state.
    pub name: String,
    /// How its entries are dealt out.
    pub kind: PartKind,
    /// The versions of its type that the program wrote, in general one.
    pub versions: BTreeSet<u32>,
    /// How many subtasks have it.
    pub n_subtasks: usize,
    /// How many entries it has in all, without those in trees unless these were counted.
    pub n_entries: u64,
    /// The bytes of these.
    pub n_bytes: u64,
}

/// Sums up what the manifest of a snapshot says; reads nothing else. With what lies in trees: [`super::trees::inspect`].
///
/// # Errors
/// If the manifest cannot be read.
pub fn inspect(storage: &dyn CheckpointStorage, folder: &str) -> Result<Inspection> {
    let manifest = read_manifest(storage, folder)?;
    let operators = manifest.vertices.iter().flat_map(|vertex| &vertex.operators);
    let names: BTreeMap<OperatorId, &str> =
        operators.map(|(id, name, uid)| (*id, uid.as_ref().unwrap_or(name).as_str())).collect();
    let mut parts: Vec<InspectedPart> = Vec::new();
    let mut places = BTreeMap::new();
    for operator in manifest.tasks.iter().flat_map(|task| &task.operators) {
        for part in &operator.parts {
            let place = *places.entry((operator.id, part.name.as_str())).or_insert_with(|| {
                parts.push(InspectedPart {
                    operator: operator.id,
                    operator_name: (*names.get(&operator.id).unwrap_or(&"?")).to_owned(),
                    name: part.name.clone(),
                    kind: part.kind,
                    versions: BTreeSet::new(),
                    n_subtasks: 0,
                    n_entries: 0,
                    n_bytes: 0,
                });
                parts.len() - 1
            });
            let sum = &mut parts[place];
            sum.versions.insert(part.version);
            sum.n_subtasks += 1;
            sum.n_entries += part.n_entries;
            sum.n_bytes += part.n_bytes;
        }
    }
    let shared: HashSet<&FileRef> = manifest.tasks.iter().flat_map(|task| &task.shared).collect();
    let shared = (shared.len(), shared.iter().map(|file| file.bytes).sum());
    Ok(Inspection {
        job: manifest.job.clone(),
        summary: Summary::of(&manifest),
        parts,
        shared,
        counts_trees: false,
    })
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { id, epoch, kind, n_files, n_bytes, .. } = &self.summary;
        let kind = match kind {
            SnapshotKind::Checkpoint => "checkpoint",
            SnapshotKind::Savepoint => "savepoint",
            SnapshotKind::Stop { drain: false } => "savepoint at stop",
            SnapshotKind::Stop { drain: true } => "savepoint at drained stop",
        };
        let job = &self.job;
        writeln!(f, "{kind} {id} of `{job}`, epoch {epoch}: {n_files} files, {n_bytes} bytes")?;
        let titles =
            ["operator", "name", "state", "kind", "version", "subtasks", "entries", "bytes"];
        let mut rows = vec![titles.map(str::to_owned)];
        rows.extend(self.parts.iter().map(|part| {
            let versions: Vec<String> = part.versions.iter().map(u32::to_string).collect();
            [
                part.operator.to_string(),
                part.operator_name.clone(),
                part.name.clone(),
                format!("{:?}", part.kind).to_lowercase(),
                versions.join(","),
                part.n_subtasks.to_string(),
                part.n_entries.to_string(),
                part.n_bytes.to_string(),
            ]
        }));
        let width = |column: usize| {
            rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
        };
        let widths: [usize; 8] = std::array::from_fn(width);
        for row in &rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
                // Words stand left, numbers right.
                line += &if column < 5 {
                    format!("{cell:<width$}  ")
                } else {
                    format!("{cell:>width$}  ")
                };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        if let (n_files @ 1.., n_bytes) = self.shared {
            let entries = if self.counts_trees { "counted" } else { "not counted here" };
            writeln!(
                f,
                "Keyed state lies also in {n_files} files of trees ({n_bytes} bytes), whose entries are {entries}."
            )?;
        }
        Ok(())
    }
}
