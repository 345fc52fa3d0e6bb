//! The check finds what is wrong with a sink in memory that can be broken in several ways.

use super::*;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fault {
    #[default]
    None,
    ShowsWhatIsStaged,
    CommitsTwice,
    ForgetsToCommit,
    ForgetsToRecover,
    KeepsWhatWasStaged,
    CommitsEverything,
}

#[derive(Default)]
struct Content {
    staged: BTreeMap<Staged, Vec<u64>>,
    visible: Vec<u64>,
}

#[derive(Clone, Default)]
struct Shelf {
    content: Arc<Mutex<Content>>,
    fault: Fault,
}

impl Shelf {
    fn with<R>(&self, act: impl FnOnce(&mut Content) -> R) -> R {
        act(&mut self.content.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Place for Shelf {
    type Sink = Shelf;
    fn sink(&self) -> Shelf {
        self.clone()
    }
    fn visible(&self) -> Result<Vec<u64>> {
        Ok(self.with(|content| content.visible.clone()))
    }
}

impl Sink<u64> for Shelf {
    fn prepare(&self, start: &SinkStart) -> Result<()> {
        if let SinkStart::Recovering(staged) = start {
            if self.fault != Fault::ForgetsToRecover {
                self.clone().commit(staged)?;
            }
            if self.fault != Fault::KeepsWhatWasStaged {
                self.with(|content| content.staged.clear());
            }
        }
        Ok(())
    }
    fn writer(&self, context: &OperatorContext) -> Result<Box<dyn SinkWriter<u64>>> {
        Ok(Box::new(Writer { shelf: self.clone(), subtask: context.subtask(), written: vec![] }))
    }
    fn committer(&self) -> Option<Box<dyn Committer>> {
        Some(Box::new(self.clone()))
    }
}

struct Writer {
    shelf: Shelf,
    subtask: usize,
    written: Vec<u64>,
}

impl SinkWriter<u64> for Writer {
    fn write(&mut self, batch: &mut Batch<u64>) -> Result<()> {
        self.written.append(&mut batch.values);
        Ok(())
    }
    fn stage(&mut self, checkpoint: CheckpointId) -> Result<Vec<Staged>> {
        let (written, fault) = (std::mem::take(&mut self.written), self.shelf.fault);
        if written.is_empty() {
            return Ok(Vec::new());
        }
        let name = format!("{checkpoint}-{}", self.subtask).into_bytes();
        self.shelf.with(|content| match fault {
            Fault::ShowsWhatIsStaged => content.visible.extend(written),
            _ => content.staged.entry(name.clone()).or_default().extend(written),
        });
        Ok(vec![name])
    }
}

impl Committer for Shelf {
    fn commit(&mut self, staged: &[Staged]) -> Result<()> {
        let fault = self.fault;
        self.with(|content| match fault {
            Fault::ForgetsToCommit => {}
            Fault::CommitsTwice => {
                let due = staged.iter().filter_map(|name| content.staged.get(name));
                content.visible.extend(due.flatten());
            }
            Fault::CommitsEverything => {
                let all = std::mem::take(&mut content.staged);
                content.visible.extend(all.into_values().flatten());
            }
            _ => {
                let due = staged.iter().filter_map(|name| content.staged.remove(name));
                content.visible.extend(due.flatten());
            }
        });
        Ok(())
    }
}

#[test]
fn a_sink_that_keeps_the_contract_passes() {
    let n_histories = check(Shelf::default, 4, 1000, 1).unwrap();
    assert!(n_histories > 1300, "{n_histories}");
}

#[test]
fn one_that_breaks_it_does_not() {
    for fault in [
        Fault::ShowsWhatIsStaged,
        Fault::CommitsTwice,
        Fault::ForgetsToCommit,
        Fault::ForgetsToRecover,
        Fault::KeepsWhatWasStaged,
        Fault::CommitsEverything,
    ] {
        let shelf = || Shelf { fault, ..Shelf::default() };
        let violation = check(shelf, 4, 1000, 1).expect_err(&format!("{fault:?}"));
        assert!(violation.what.contains("must be visible"), "{violation}");
    }
}
