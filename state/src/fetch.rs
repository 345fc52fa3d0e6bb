//! The files of a tree on their way out of storage.

use crate::lsm::{Content, LsmFile};
use crate::snapshot::{CheckpointStorage, FileRef, read_error};
use crate::store::{Backend, tree_name};
use millstream_model::{Error, Result};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

impl Backend {
    /// Brings the files of a tree out of storage, verified, into a folder if the engine wants them on the disk; but for those
    /// of which there is a copy, if that may be used.
    ///
    /// # Errors
    /// If a file is missing or damaged, or the storage or the disk fails.
    pub fn fetch(
        &self,
        storage: &dyn CheckpointStorage,
        files: &[FileRef],
        dir: &Path,
        use_copies: bool,
    ) -> Result<Vec<LsmFile>> {
        let unusable = |e: io::Error| {
            Error::external(format!("`{}` cannot hold state", dir.display())).caused_by(e)
        };
        let in_memory = self.engine.takes_files_in_memory();
        if !in_memory {
            std::fs::create_dir_all(dir).map_err(unusable)?;
        }
        let mut fetched = Vec::new();
        for file in files {
            let name = tree_name(&file.path);
            // Tables are named after who made them, and never change; the rest is the checkpoint's own.
            let immutable = name.contains('/');
            let copy =
                if immutable && use_copies { self.copies.find(&name, file.bytes) } else { None };
            if let Some(copy) = copy {
                let content = Content::File(copy);
                fetched.push(LsmFile { name, bytes: file.bytes, immutable, content });
                continue;
            }
            let mut source = storage.read(file)?;
            let unreadable = |e| read_error(&storage.locate(&file.path), e);
            let content = if in_memory {
                let mut bytes = Vec::new();
                source.read_to_end(&mut bytes).map_err(unreadable)?;
                Content::Memory(bytes.into())
            } else {
                let path = dir.join(name.replace('/', "~"));
                let mut target = File::create(&path).map_err(unusable)?;
                io::copy(&mut source, &mut target).map_err(unreadable)?;
                Content::File(path)
            };
            fetched.push(LsmFile { name, bytes: file.bytes, immutable, content });
        }
        Ok(fetched)
    }
}
