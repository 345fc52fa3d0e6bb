//! Partitioners: which subtask a record goes to.

use super::writer::Lanes;
use crate::keyed::KeySelector;
use millstream_model::key_group::{key_group, subtask_of};
use millstream_model::{Batch, Data, Error, Result};
use std::sync::Arc;

/// Splits batches over the lanes of a writer.
pub trait Partition<T>: Send {
    /// Puts every record of `batch` into the lane or lanes it belongs to.
    ///
    /// # Errors
    /// If a record cannot be placed (a refused key, a custom partitioner out of range).
    fn split(&mut self, batch: &mut Batch<T>, lanes: &mut Lanes<T>) -> Result<()>;
}

/// By key group. Computes the key's hash once; it travels with the record.
pub struct Hash<T, K> {
    selector: Arc<dyn KeySelector<T, K>>,
    max_parallelism: u32,
    lane_of_group: Vec<u32>,
}

impl<T, K> Hash<T, K> {
    /// Spreads the key groups over `parallelism` lanes.
    pub fn new(
        selector: Arc<dyn KeySelector<T, K>>,
        parallelism: u32,
        max_parallelism: u32,
    ) -> Self {
        let lane_of_group =
            (0..max_parallelism).map(|g| subtask_of(g, parallelism, max_parallelism)).collect();
        Hash { selector, max_parallelism, lane_of_group }
    }
}

impl<T: Data, K> Partition<T> for Hash<T, K> {
    fn split(&mut self, batch: &mut Batch<T>, lanes: &mut Lanes<T>) -> Result<()> {
        batch.hashes.clear();
        self.selector.hash_all(&batch.values, &mut batch.hashes)?;
        let (table, max) = (&self.lane_of_group, self.max_parallelism);
        lanes.put_each(batch, |_, hash, _| table[key_group(hash, max) as usize] as usize);
        Ok(())
    }
}

/// To one lane: forward and global.
pub struct Single(pub usize);

impl<T: Data> Partition<T> for Single {
    fn split(&mut self, batch: &mut Batch<T>, lanes: &mut Lanes<T>) -> Result<()> {
        batch.hashes.clear();
        lanes.put_all(self.0, batch);
        Ok(())
    }
}

/// In turn: rebalance and rescale. Large batches move whole, small ones record by record, so that few
/// records are spread as well as many.
pub struct RoundRobin {
    next: usize,
}

impl RoundRobin {
    /// Starts at lane `first` (subtasks start at different ones).
    pub fn new(first: usize) -> Self {
        RoundRobin { next: first }
    }
}

const WHOLE_BATCH: usize = 256;

impl<T: Data> Partition<T> for RoundRobin {
    fn split(&mut self, batch: &mut Batch<T>, lanes: &mut Lanes<T>) -> Result<()> {
        batch.hashes.clear();
        let n = lanes.len();
        if batch.len() >= WHOLE_BATCH {
            lanes.put_all(self.next % n, batch);
            self.next = (self.next + 1) % n;
        } else {
            let first = self.next;
            let count = batch.len();
            lanes.put_each(batch, |_, _, i| (first + i) % n);
            self.next = (first + count) % n;
        }
        Ok(())
    }
}

/// To a pseudo-random lane (xorshift64*, Vigna 2016; seeded by the subtask, so that a run can be repeated).
pub struct Shuffle {
    state: u64,
}

impl Shuffle {
    /// The shuffle of a subtask.
    pub fn new(subtask: usize) -> Self {
        Shuffle { state: (subtask as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) }
    }
}

impl<T: Data> Partition<T> for Shuffle {
    fn split(&mut self, batch: &mut Batch<T>, lanes: &mut Lanes<T>) -> Result<()> {
        batch.hashes.clear();
        let n = lanes.len() as u64;
        let state = &mut self.state;
        lanes.put_each(batch, |_, _, _| {
            *state ^= *state >> 12;
            *state ^= *state << 25;
            *state ^= *state >> 27;
            let random = state.wrapping_mul(0x2545_F491_4F6C_DD1D);
            (((random >> 32) * n) >> 32) as usize
        });
        Ok(())
    }
}

/// To every lane.
pub struct Broadcast;

impl<T: Data + Clone> Partition<T> for Broadcast {
    fn split(&mut self, batch: &mut Batch<T>, lanes: &mut Lanes<T>) -> Result<()> {
        batch.hashes.clear();
        lanes.put_everywhere(batch);
        Ok(())
    }
}

/// Where the user's function says.
pub struct Custom<F>(pub F);

impl<T: Data, F: Fn(&T, usize) -> usize + Send> Partition<T> for Custom<F> {
    fn split(&mut self, batch: &mut Batch<T>, lanes: &mut Lanes<T>) -> Result<()> {
        batch.hashes.clear();
        let n = lanes.len();
        let mut wrong = None;
        lanes.put_each(batch, |value, _, _| {
            let lane = (self.0)(value, n);
            if lane < n {
                lane
            } else {
                wrong = Some(lane);
                0
            }
        });
        match wrong {
            None => Ok(()),
            Some(lane) => Err(Error::user(format!(
                "the custom partitioner chose subtask {lane}, but there are only {n} (0 to {}): return the choice modulo its second argument",
                n - 1
            ))),
        }
    }
}
