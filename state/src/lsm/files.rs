//! The files of a tree, and names that make them shareable between checkpoints.
//!
//! A tree numbers its tables and never uses a number twice. But a tree restored from an older checkpoint
//! goes on at that checkpoint's number, and would give a name that a newer one already used to other
//! content. So a table is named after the *opening* that made it and its number, `<instance>/<number>.sst`,
//! and keeps that name for ever: a restored tree calls the tables it came with what they were called, and
//! those it makes after its own instance. Within one tree the numbers of both kinds never meet.
//!
//! A job that must not refer to another's files restores them under names of its own instance: the same
//! argument holds.

use millstream_model::{Error, Result};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// A file of a checkpoint of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LsmFile {
    /// Its name, with `/` between folders. That of an immutable file is given once in a job's life; others
    /// are only told apart within their checkpoint.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Whether it is a table: never changed, and perhaps part of other checkpoints too.
    pub immutable: bool,
    /// What is in it.
    pub content: Content,
}

/// What is in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// It is on the disk.
    File(PathBuf),
    /// It is here.
    Memory(Arc<[u8]>),
}

impl LsmFile {
    /// What the tree calls it in its folder: the last part of its name.
    pub(super) fn local_name(&self) -> &str {
        self.name.rsplit('/').next().expect("splitting gives at least one part")
    }

    /// All of it.
    ///
    /// # Errors
    /// If it cannot be read, or is not as long as it should be.
    pub fn read(&self) -> Result<Arc<[u8]>> {
        let content = match &self.content {
            Content::Memory(bytes) => Arc::clone(bytes),
            Content::File(path) => fs::read(path).map_err(|e| self.unusable(e))?.into(),
        };
        self.check_length(content.len() as u64)?;
        Ok(content)
    }

    /// Fails unless it is as long as it should be.
    pub(super) fn check_length(&self, bytes: u64) -> Result<()> {
        if bytes == self.bytes {
            return Ok(());
        }
        Err(Error::external(format!(
            "the state file {} has {bytes} bytes and should have {}; it is damaged",
            self.name, self.bytes
        )))
    }

    /// What to say when there is something wrong with it.
    #[cold]
    pub(super) fn unusable(&self, e: io::Error) -> Error {
        Error::external(format!("the state file {} cannot be used", self.name)).caused_by(e)
    }
}

/// The names of a tree's tables.
pub(super) struct Names {
    instance: String,
    /// Those it was restored with, by what the tree calls them.
    restored: BTreeMap<String, String>,
}

impl Names {
    /// Of a tree that is opened with these files.
    pub(super) fn new(instance: &str, files: &[LsmFile]) -> Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if instance.is_empty() || !instance.chars().all(plain) {
            return Err(Error::internal(format!("`{instance}` cannot be part of a file's name")));
        }
        let mut restored = BTreeMap::new();
        for file in files {
            let former = restored.insert(file.local_name().to_owned(), file.name.clone());
            if let Some(former) = former {
                return Err(Error::external(format!(
                    "the state files {former} and {} cannot be of one checkpoint",
                    file.name
                )));
            }
        }
        Ok(Names { instance: instance.to_owned(), restored })
    }

    /// Of a table, given what the tree calls it.
    pub(super) fn of(&self, local: &str) -> String {
        match self.restored.get(local) {
            Some(name) => name.clone(),
            None => format!("{}/{local}", self.instance),
        }
    }
}
