//! How a process begins: from what, with which configuration, and where it keeps its state.

use super::super::faults::Fault;
use super::super::prng::Prng;
use super::super::storage::{newest_manifest, newest_stop};
use super::{From, Run, retained};
use millstream::prelude::*;
use millstream::runtime::task::Restore;
use millstream::state::lsm::MemoryBudget;
use millstream::state::lsm::model::ModelEngine;
use millstream::state::snapshot::{Manifest, read_manifest};
use millstream::state::store::Backend;
use millstream::testing::world::Process;
use std::path::Path;
use std::sync::Arc;

impl Run {
    /// Where the next process begins: at the newest of what is complete.
    pub(super) fn choose_start(&mut self) {
        let truth = self.storages.truth(&self.dir);
        let stop = newest_stop(&truth).map(|(number, _)| number);
        let newest = newest_manifest(&truth).map(|(_, m)| m.id.0);
        // Also a stop of which nobody heard.
        let newest = newest.max(
            stop.filter(|stop| self.savepoint.as_ref().is_some_and(|(number, ..)| number != stop)),
        );
        self.from = match &self.savepoint {
            Some((number, path, dir)) if newest.is_none_or(|newest| newest < *number) => {
                let from = From::Savepoint(path.clone());
                if *dir == self.dir && self.chance.below(2) == 0 {
                    // The mark says the same.
                    From::Latest
                } else {
                    if newest.is_some() {
                        self.n_dirs += 1;
                        self.dir = format!("checkpoints-{}", self.n_dirs).into();
                    }
                    if self.faults.contains(&Fault::Rescale) {
                        // Any backend can read it.
                        self.has_trees = self.chance.below(2) == 0;
                    }
                    from
                }
            }
            _ => From::Latest,
        };
    }

    /// Whether the job has been stopped for good, whoever heard of it: then nothing comes after what its savepoint holds.
    pub(super) fn look_for_drain(&mut self) -> Result<()> {
        let truth = self.storages.truth(&self.dir);
        let newest = newest_manifest(&truth).map(|(_, m)| m.id.0);
        let Some((_, path)) = newest_stop(&truth).filter(|(number, _)| Some(*number) > newest)
        else {
            return Ok(());
        };
        let (root, folder) = (path.parent().unwrap_or(&path), path.file_name());
        let storage = self.storages.truth(root);
        let folder = folder.unwrap_or_default().to_string_lossy();
        let manifest = read_manifest(&storage, &folder)?;
        self.note_drain(root, &Arc::new(manifest))
    }

    /// Somebody goes on from there: if it is a savepoint that was drained, nothing comes after it.
    pub(super) fn note_drain(&mut self, dir: &Path, manifest: &Arc<Manifest>) -> Result<()> {
        if manifest.kind.drains() {
            let (storage, manifest) = (Arc::new(self.storages.truth(dir)), Arc::clone(manifest));
            let savepoint = Restore { storage, manifest, allow_non_restored: false };
            self.expected = self.job.before(&savepoint)?;
            self.is_drained = true;
            self.tell(|_| format!("nothing comes after checkpoint {}", savepoint.manifest.id));
        }
        Ok(())
    }

    /// What keeps the state of a process, if that is not memory alone.
    fn backend(&self) -> Option<Backend> {
        let mut sizes = Prng::new(self.setting.seed, "sizes of trees");
        self.has_trees.then(|| {
            Backend::new(
                Arc::new(ModelEngine::new(sizes.pick(&[1, 100, 1000, 1 << 20]))),
                MemoryBudget::new(sizes.pick(&[1, 200, 1000, 1 << 20])),
                "world-trees".into(),
                format!("process-{}", self.n_processes),
            )
        })
    }

    fn environment(&mut self) -> Result<Environment> {
        let rescales = self.faults.contains(&Fault::Rescale);
        let turn = if rescales { self.chance.next() } else { 0 };
        let mut shape = Prng::new(self.setting.seed ^ turn, "shape");
        let mut fixed = Prng::new(self.setting.seed, "config");
        let (mut parallelism, mut chaining) =
            (1 + shape.below(4), shape.pick(&["true", "true", "false"]));
        let (own, fused) = (1 + fixed.below(4), fixed.pick(&["true", "false"]));
        if matches!(self.mode, "unaligned" | "timed") {
            // What a barrier overtook belongs to an edge, so the edges have to stay.
            chaining = fused;
            // With other subtasks, a record that was overtaken may be taken where a watermark that was overtaken with it
            // would have made it late: the one thing that no model can tell.
            if self.job.has_late {
                parallelism = own;
            }
        }
        let restart =
            fixed.pick(&["none", "fixed-delay 3 5ms", "fixed-delay 100 0ms", "exponential-delay"]);
        let interval = format!("{}ms", fixed.pick(&[1, 1, 2, 3, 8]));
        let timeout = format!("{}ms", fixed.pick(&[40, 100, 400]));
        let tolerable = fixed.pick(&[None, None, Some("0"), Some("2")]);
        let retained = retained(self.setting.seed).to_string();
        let mut builder = Environment::builder()
            .parallelism(parallelism)
            .batch_size(shape.pick(&[1, 2, 7, 1024]))
            .set("chaining", chaining)
            .set("network-memory", shape.pick(&["64 MiB", "8 KiB"]))
            .set("max-parallelism", &self.job.max_parallelism.to_string())
            .set("checkpoint-dir", &self.dir.display().to_string())
            .set("checkpoint-interval", &interval)
            .set("checkpoint-min-pause", fixed.pick(&["0ms", "3ms"]))
            .set("checkpoint-timeout", &timeout)
            .set("checkpoints-retained", &retained)
            .set("restart-strategy", restart);
        builder = match self.mode {
            "timed" => {
                let timeout = fixed.pick(&["0ms", "1ms", "3ms"]);
                builder.set("checkpoint-aligned-timeout", timeout)
            }
            mode => builder.set("checkpoint-mode", mode),
        };
        if let Some(tolerable) = tolerable {
            builder = builder.set("checkpoint-tolerable-failures", tolerable);
        }
        match &self.from {
            From::Beginning => {}
            From::Latest => builder = builder.set("restore", "latest"),
            From::Savepoint(path) => builder = builder.set("restore", &path.display().to_string()),
        }
        builder.build()
    }

    pub(super) fn start(&mut self) -> Result<Process> {
        let env = self.environment()?;
        self.job.build(&env, &self.disk, &self.fuse);
        Process::start(&self.world, &env, "world", self.backend())
    }
}
