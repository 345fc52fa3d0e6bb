//! Checkpoints of state that is too large to be written at once: tasks are held up often and shortly instead of once.

use millstream::prelude::*;
use millstream::runtime::metrics::MetricValue;
use millstream::runtime::task::CHECKPOINT_HOLD;

const N_KEYS: u64 = 20_000;
const SIZE: usize = 512;
/// What a task writes at a time is less.
const MANY_BYTES: usize = 128 << 10;

#[test]
fn large_state_is_written_in_slices_and_each_is_measured() {
    let dir = tempfile::tempdir().unwrap();
    let env = Environment::builder()
        .parallelism(1)
        .set("checkpoint-dir", &dir.path().display().to_string())
        .build()
        .unwrap();
    env.generate(N_KEYS, |i| i)
        .key_by(|i| *i)
        .map_with_state(|blob: &mut Vec<u8>, i| {
            blob.resize(SIZE, 7);
            i
        })
        .uid("blobs")
        .discard();
    let metrics = env.execute("blobs").unwrap().metrics();
    let holds = metrics.iter().filter_map(|((operator, name, _), value)| match value {
        MetricValue::Distribution { n, max, .. } if name == CHECKPOINT_HOLD => {
            Some((operator.as_str(), *n, *max))
        }
        _ => None,
    });
    let holds: Vec<_> = holds.collect();
    // The only checkpoint is that of the end; the task that reads has nothing to write.
    let most = holds.iter().max_by_key(|(_, n, _)| *n).expect("tasks were held up");
    let n_slices = N_KEYS as usize * SIZE / MANY_BYTES;
    assert!(most.1 as usize > n_slices, "{holds:?}");
    assert!(holds.iter().any(|(operator, n, _)| *operator != most.0 && *n < 5), "{holds:?}");
    assert!(holds.iter().all(|(_, _, max)| *max > 0), "{holds:?}");
}
