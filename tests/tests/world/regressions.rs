//! What the simulation has found, each as the smallest story that shows it.

use super::disk::Row;
use super::fail::Fuse;
use super::prng::Prng;
use super::run::{Setting, run};
use super::source::{BOUND_MS, Event, Events};
use super::storage::Storages;
use millstream::model::Batch;
use millstream::prelude::*;
use millstream::runtime::operator::{Sink, SinkStart, SinkWriter};
use millstream::testing::world::{Process, World};
use std::sync::{Arc, Mutex};

/// Each showed a barrier that overtook and lost or repeated something: what another input was still replaying, what an
/// earlier checkpoint had written down already, the place of a barrier that came before its recording began anew; a clock
/// that went back to that of the slowest subtask. They are seeds of the jobs that are drawn today; when those change they are
/// seeds like others.
#[test]
fn seeds_that_once_failed() {
    super::hush();
    for seed in [4, 29, 272, 638, 1046, 17777] {
        let violations = run(&Setting::new(seed)).violations;
        assert!(violations.is_empty(), "seed {seed}: {violations:?}");
    }
}

/// Notes where its job begins.
#[derive(Clone, Default)]
struct Starts(Arc<Mutex<Vec<SinkStart>>>);

impl Sink<Row> for Starts {
    fn prepare(&self, start: &SinkStart) -> Result<()> {
        self.0.lock().unwrap().push(start.clone());
        Ok(())
    }

    fn writer(&self, _: &OperatorContext) -> Result<Box<dyn SinkWriter<Row>>> {
        Ok(Box::new(self.clone()))
    }
}

impl SinkWriter<Row> for Starts {
    fn write(&mut self, batch: &mut Batch<Row>) -> Result<()> {
        batch.clear();
        Ok(())
    }
}

/// Sinks were told that it was the first time, and found output of another run in their way.
#[test]
fn a_job_that_failed_before_its_first_checkpoint_is_recovering() {
    super::hush();
    let storages = Storages::new(Prng::new(0, "storage"));
    let world = World::new(move |dir| Ok(storages.open(dir)));
    let builder = Environment::builder().parallelism(1).set("checkpoint-dir", "checkpoints");
    let env = builder.set("restart-strategy", "fixed-delay 1 0ms").build().unwrap();
    let (fuse, starts) = (Fuse::new(Prng::new(0, "code")), Starts::default());
    let events = Events::draw(&mut Prng::new(1, "job"), 1, 60, false);
    env.source(events, Watermarks::bounded(millis(BOUND_MS as u64)).on(|e: &Event| e.time))
        .map_with(fuse.clone())
        .map(|e| (e.key, e.time, e.value))
        .sink(starts.clone());
    let mut process = Process::start(&world, &env, "world", None).unwrap();
    fuse.blow(false);
    let mut actions = Vec::new();
    while process.ended().is_none() {
        process.actions(&mut actions);
        match actions.first() {
            Some(action) => process.perform(*action),
            None => world.advance_to(process.next_due_us().unwrap()),
        }
    }
    assert_eq!(process.failures().len(), 1);
    assert_eq!(*starts.0.lock().unwrap(), [SinkStart::Fresh, SinkStart::Recovering(Vec::new())]);
}
