//! Opening a task's store: empty, or with the files of a checkpoint.
//!
//! If the task owns the key groups that one task owned then, the files are taken as they are and only read
//! when they are asked for. If the parallelism has changed, what belongs here is copied out of the trees of
//! all those that wrote some of it.

use super::Head;
use super::restore::{Restore, Subtask, not_declared};
use super::snapshot::in_state;
use crate::chain::{ChainVisitor, Site, Stateful};
use millstream_model::job_graph::OperatorId;
use millstream_model::key_group::range_of;
use millstream_model::{Error, Result};
use millstream_state::lsm::{Expiry, Lsm, Open};
use millstream_state::part::IsExpired;
use millstream_state::schema::{Compatibility, compatible};
use millstream_state::snapshot::{Assignment, FileRef, PartKind, PartSnapshot, TaskSnapshot};
use millstream_state::store::{Backend, Store, expiry_of, has_part, part_prefix, part_range};
use millstream_state::{Part, Visitor};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

/// Opens the store of a task and puts it beneath the parts behind `head` that can lie in one; `None` if none
/// can.
pub(super) fn open(
    backend: &Backend,
    (task, attempt): (usize, u32),
    head: &mut dyn Head,
    restore: Option<&Restore>,
    subtask: &Subtask<'_>,
) -> Result<Option<Arc<Store>>> {
    let mut keyed =
        Keyed { ids: subtask.ids, operator: None, declared: HashSet::new(), parts: Vec::new() };
    head.visit(&mut keyed)?;
    let Keyed { parts, declared, .. } = keyed;
    let expiring = parts
        .iter()
        .filter_map(|(id, name, is_expired)| Some((part_prefix(*id, name), is_expired.clone()?)));
    let expiry = expiry_of(expiring);
    if parts.is_empty() {
        return Ok(None);
    }
    let trees: Vec<(&TaskSnapshot, Assignment)> = match restore {
        Some(restore) => restore
            .writers(subtask.ids)
            .filter(|(writer, _)| !writer.shared.is_empty())
            .map(|(writer, n_writers)| (writer, subtask.assignment(writer.subtask, n_writers)))
            .filter(|(_, assignment)| assignment.overlaps())
            .collect(),
        None => Vec::new(),
    };
    head.visit(&mut Unchanged { ids: subtask.ids, operator: None, trees: &trees })?;
    let opening = Opening {
        backend,
        task,
        attempt,
        restore,
        subtask,
        trees: &trees,
        parts: &parts,
        declared: &declared,
    };
    let use_copies = backend.copies.may_try(attempt);
    let store = match opening.open(expiry.clone(), use_copies) {
        // Storage may have what is damaged here.
        Err(_) if use_copies => opening.open(expiry, false)?,
        opened => opened?,
    };
    head.visit(&mut Attach { store: &store, subtask, is_empty: trees.is_empty(), operator: None })?;
    Ok(Some(store))
}

/// A store that is being opened.
struct Opening<'a> {
    backend: &'a Backend,
    task: usize,
    attempt: u32,
    restore: Option<&'a Restore>,
    subtask: &'a Subtask<'a>,
    /// What wrote trees of which something belongs here.
    trees: &'a [(&'a TaskSnapshot, Assignment)],
    parts: &'a [StoredPart],
    declared: &'a HashSet<(OperatorId, String)>,
}

impl Opening<'_> {
    fn open(&self, expiry: Expiry, use_copies: bool) -> Result<Arc<Store>> {
        let Opening { backend, task, attempt, .. } = *self;
        let fetched = backend.dir.join(format!("{}-{attempt}-{task}-restored", backend.run));
        let opened = self.open_over(&fetched, expiry, use_copies);
        // What cannot be deleted lies in the job's own folder.
        let _ = std::fs::remove_dir_all(&fetched);
        opened
    }

    fn open_over(&self, fetched: &Path, expiry: Expiry, use_copies: bool) -> Result<Arc<Store>> {
        let Opening { backend, task, attempt, subtask, .. } = *self;
        let fetch = |files: &[FileRef], dir: &Path| match self.restore {
            Some(restore) => backend.fetch(&*restore.storage, files, dir, use_copies),
            None => Ok(Vec::new()),
        };
        if let [(writer, assignment)] = self.trees
            && assignment.n_writers == assignment.parallelism
            && self.is_all_here(writer)
        {
            return backend.open(task, attempt, &fetch(&writer.shared, fetched)?, expiry);
        }
        let store = backend.open(task, attempt, &[], expiry)?;
        for (index, &(writer, _)) in self.trees.iter().enumerate() {
            let dir = fetched.join(index.to_string());
            let tree = backend.engine.open(Open {
                dir: &dir.join("tree"),
                instance: &format!("{}-{attempt}-{task}-from-{index}", backend.run),
                files: &fetch(&writer.shared, &dir)?,
                expiry: Expiry::never(),
            })?;
            self.refuse_undeclared(writer, &*tree)?;
            let written = self.parts.iter().filter(|(id, ..)| has_written(writer, *id));
            copy(&store, &*tree, written, subtask)?;
        }
        Ok(store)
    }

    /// Whether all that a task has written is of operators of this one, and of states that they declare. Else its tree may not
    /// be taken as it is: nobody here would ever delete what it has of the others, and one day they would be found again.
    fn is_all_here(&self, writer: &TaskSnapshot) -> bool {
        writer.operators.iter().all(|operator| self.subtask.ids.contains(&operator.id))
            && self.undeclared(writer).next().is_none()
    }

    /// States of this task's operators that may lie in a tree and are no longer declared.
    fn undeclared<'w>(
        &'w self,
        writer: &'w TaskSnapshot,
    ) -> impl Iterator<Item = (OperatorId, &'w PartSnapshot)> {
        let operators = writer.operators.iter().filter(|o| self.subtask.ids.contains(&o.id));
        let parts = operators.flat_map(|o| o.parts.iter().map(|part| (o.id, part)));
        parts.filter(|(id, part)| {
            part.kind == PartKind::Keyed && !self.declared.contains(&(*id, part.name.clone()))
        })
    }

    /// Fails if a tree holds something of them, unless that may be left behind.
    fn refuse_undeclared(&self, writer: &TaskSnapshot, tree: &dyn Lsm) -> Result<()> {
        if self.restore.is_some_and(|restore| restore.allow_non_restored) {
            return Ok(());
        }
        for (id, part) in self.undeclared(writer) {
            if has_part(tree, id, &part.name)? {
                return Err(not_declared(&part.name));
            }
        }
        Ok(())
    }
}

/// Fails if a checkpoint holds trees and the state is to be kept in memory.
pub(super) fn refuse_trees(restore: Option<&Restore>, subtask: &Subtask<'_>) -> Result<()> {
    let holds_trees = |restore: &Restore| {
        restore.writers(subtask.ids).any(|(writer, _)| !writer.shared.is_empty())
    };
    if restore.is_some_and(holds_trees) {
        return Err(Error::user(
            "the checkpoint was taken with another `state-backend`: restore it with that one, or restore a \
             savepoint, which any backend can read",
        ));
    }
    Ok(())
}

/// Whether an operator was part of a task.
fn has_written(writer: &TaskSnapshot, id: OperatorId) -> bool {
    writer.operators.iter().any(|operator| operator.id == id)
}

/// Copies what belongs to a subtask out of the tree of another.
fn copy<'p>(
    store: &Store,
    tree: &dyn Lsm,
    parts: impl Iterator<Item = &'p StoredPart>,
    subtask: &Subtask<'_>,
) -> Result<()> {
    let groups =
        range_of(subtask.subtask as u32, subtask.parallelism as u32, subtask.max_parallelism);
    for (id, part, _) in parts {
        let (from, to) = part_range(part_prefix(*id, part), groups.clone());
        store.copy_from(tree, &from, &to)?;
    }
    Ok(())
}

/// A part that can lie in a store: of which operator, its name, and what of it expires.
type StoredPart = (OperatorId, String, Option<IsExpired>);

/// Finds the parts that can lie in a store.
struct Keyed<'a> {
    ids: &'a [OperatorId],
    operator: Option<OperatorId>,
    /// Those that cannot, too.
    declared: HashSet<(OperatorId, String)>,
    parts: Vec<StoredPart>,
}

impl ChainVisitor for Keyed<'_> {
    fn operator(&mut self, site: &Site, operator: &mut dyn Stateful) -> Result<()> {
        self.operator = self.ids.get(site.index()).copied();
        operator.parts(self)
    }
}

impl Visitor for Keyed<'_> {
    fn part(&mut self, name: &str, part: &mut dyn Part) -> Result<()> {
        let Some(id) = self.operator else { return Ok(()) };
        self.declared.insert((id, name.to_owned()));
        if part.can_attach() {
            self.parts.push((id, name.to_owned(), part.expiry()));
        }
        Ok(())
    }
}

/// Makes sure that what lies in trees can be read as it is: nobody migrates it when it is taken over.
struct Unchanged<'a> {
    ids: &'a [OperatorId],
    operator: Option<OperatorId>,
    trees: &'a [(&'a TaskSnapshot, Assignment)],
}

impl ChainVisitor for Unchanged<'_> {
    fn operator(&mut self, site: &Site, operator: &mut dyn Stateful) -> Result<()> {
        self.operator = self.ids.get(site.index()).copied();
        operator.parts(self).map_err(|e| e.at(site.place()))
    }
}

impl Visitor for Unchanged<'_> {
    fn part(&mut self, name: &str, part: &mut dyn Part) -> Result<()> {
        if self.trees.is_empty() || !part.can_attach() {
            return Ok(());
        }
        let (shape, version) = (part.shape().map_err(|e| in_state(name, &e))?, part.version());
        let operators = self.trees.iter().flat_map(|(writer, _)| &writer.operators);
        let parts = operators.filter(|o| Some(o.id) == self.operator).flat_map(|o| &o.parts);
        for written in parts.filter(|written| written.name == name) {
            if written.version != version
                || compatible(&written.shape, &shape) != Compatibility::Same
            {
                return Err(Error::user(format!(
                    "state `{name}` has changed since the checkpoint was taken, and checkpoints of this \
                     `state-backend` hold it in files that are taken over as they are: go on from a \
                     savepoint of the release before, or undo the change. \
                     Written (version {}):\n{}\nNow (version {version}):\n{shape}",
                    written.version, written.shape
                )));
            }
        }
        Ok(())
    }
}

/// Puts a store beneath the parts that can lie in one.
struct Attach<'a> {
    store: &'a Arc<Store>,
    subtask: &'a Subtask<'a>,
    is_empty: bool,
    operator: Option<OperatorId>,
}

impl ChainVisitor for Attach<'_> {
    fn operator(&mut self, site: &Site, operator: &mut dyn Stateful) -> Result<()> {
        self.operator = self.subtask.ids.get(site.index()).copied();
        operator.parts(self)
    }
}

impl Visitor for Attach<'_> {
    fn part(&mut self, name: &str, part: &mut dyn Part) -> Result<()> {
        if part.can_attach()
            && let Some(id) = self.operator
        {
            let space = self.store.space(id, name, self.subtask.max_parallelism);
            part.attach(space, self.is_empty).map_err(|e| in_state(name, &e))?;
        }
        Ok(())
    }
}
