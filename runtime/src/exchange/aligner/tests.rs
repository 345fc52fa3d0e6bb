//! Stories of one input, then two properties over random histories: the aligner answers as a model does that
//! remembers everything and forgets nothing, and a gate that obeys it cuts every channel at its barrier.

use super::*;
use millstream_model::SnapshotKind;
use proptest::prelude::*;
use std::collections::VecDeque;

const MODES: [CheckpointMode; 3] =
    [CheckpointMode::ExactlyOnce, CheckpointMode::AtLeastOnce, CheckpointMode::Unaligned];

const NOTHING: Alignment = Alignment { abandoned: None, passage: Passage::Nothing };

fn checkpoint(id: u64) -> Barrier {
    Barrier { checkpoint: CheckpointId(id), kind: SnapshotKind::Checkpoint }
}

fn savepoint(id: u64) -> Barrier {
    Barrier { checkpoint: CheckpointId(id), kind: SnapshotKind::Savepoint }
}

fn passes(passage: Passage) -> Alignment {
    Alignment { abandoned: None, passage }
}

fn abandons(id: u64, passage: Passage) -> Alignment {
    Alignment { abandoned: Some(CheckpointId(id)), passage }
}

fn blocked(aligner: &BarrierAligner) -> Vec<usize> {
    (0..aligner.channels.len()).filter(|&c| aligner.is_blocked(c)).collect()
}

fn recorded(aligner: &BarrierAligner) -> Vec<usize> {
    (0..aligner.channels.len()).filter(|&c| aligner.is_recorded(c)).collect()
}

#[test]
fn a_channel_waits_for_the_others_at_a_barrier() {
    let mut a = BarrierAligner::new(3, CheckpointMode::ExactlyOnce);
    assert_eq!(a.barrier(1, checkpoint(1)), NOTHING);
    assert_eq!((blocked(&a), a.pending()), (vec![1], Some(checkpoint(1))));
    assert_eq!(a.barrier(0, checkpoint(1)), NOTHING);
    assert_eq!(blocked(&a), [0, 1]);
    assert_eq!(a.barrier(2, checkpoint(1)), passes(Passage::Complete(checkpoint(1))));
    assert_eq!((blocked(&a), a.pending()), (vec![], None));
    assert_eq!(a.barrier(2, checkpoint(2)), NOTHING);
    assert_eq!(blocked(&a), [2]);
}

#[test]
fn one_channel_waits_for_nobody() {
    for mode in MODES {
        let mut a = BarrierAligner::new(1, mode);
        assert_eq!(a.barrier(0, checkpoint(1)), passes(Passage::Complete(checkpoint(1))));
        assert_eq!((blocked(&a), recorded(&a), a.pending()), (vec![], vec![], None));
    }
}

#[test]
fn at_least_once_holds_nobody_back_and_completes_with_the_last() {
    let mut a = BarrierAligner::new(2, CheckpointMode::AtLeastOnce);
    assert_eq!(a.barrier(1, checkpoint(1)), NOTHING);
    assert_eq!((blocked(&a), recorded(&a)), (vec![], vec![]));
    assert_eq!(a.barrier(0, checkpoint(1)), passes(Passage::Complete(checkpoint(1))));
}

#[test]
fn an_unaligned_barrier_overtakes_and_its_channel_state_is_closed_by_the_last() {
    let mut a = BarrierAligner::new(3, CheckpointMode::Unaligned);
    assert_eq!(a.barrier(1, checkpoint(1)), passes(Passage::Overtake(checkpoint(1))));
    assert_eq!((blocked(&a), recorded(&a)), (vec![], vec![0, 2]));
    assert_eq!(a.barrier(0, checkpoint(1)), NOTHING);
    assert_eq!(recorded(&a), [2]);
    assert_eq!(a.barrier(2, checkpoint(1)), passes(Passage::Closed(CheckpointId(1))));
    assert_eq!((recorded(&a), a.pending()), (vec![], None));
}

#[test]
fn savepoints_are_aligned_in_every_mode() {
    let stop = Barrier { kind: SnapshotKind::Stop { drain: true }, ..checkpoint(1) };
    for mode in MODES {
        for barrier in [savepoint(1), stop] {
            let mut a = BarrierAligner::new(2, mode);
            assert_eq!(a.barrier(0, barrier), NOTHING);
            assert_eq!((blocked(&a), recorded(&a)), (vec![0], vec![]));
            assert_eq!(a.barrier(1, barrier), passes(Passage::Complete(barrier)));
            assert!(blocked(&a).is_empty());
        }
    }
}

#[test]
fn a_newer_barrier_gives_up_the_older_and_frees_its_channels() {
    let mut a = BarrierAligner::new(3, CheckpointMode::ExactlyOnce);
    a.barrier(0, checkpoint(1));
    a.barrier(1, checkpoint(1));
    assert_eq!(a.barrier(2, checkpoint(2)), abandons(1, Passage::Nothing));
    assert_eq!((blocked(&a), a.pending()), (vec![2], Some(checkpoint(2))));
    // What follows the older barrier in the freed channels is the newer one.
    assert_eq!(a.barrier(0, checkpoint(2)), NOTHING);
    assert_eq!(a.barrier(1, checkpoint(2)), passes(Passage::Complete(checkpoint(2))));
}

#[test]
fn a_newer_barrier_may_complete_at_once() {
    for (mode, then) in [
        (CheckpointMode::ExactlyOnce, Passage::Complete(checkpoint(2))),
        (CheckpointMode::AtLeastOnce, Passage::Complete(checkpoint(2))),
        (CheckpointMode::Unaligned, Passage::Complete(checkpoint(2))),
    ] {
        let mut a = BarrierAligner::new(2, mode);
        a.barrier(0, checkpoint(1));
        assert_eq!(a.ended(0), NOTHING);
        assert_eq!(a.barrier(1, checkpoint(2)), abandons(1, then), "{mode:?}");
        assert_eq!(a.pending(), None);
    }
}

#[test]
fn a_newer_barrier_overtakes_where_an_older_did() {
    let mut a = BarrierAligner::new(2, CheckpointMode::Unaligned);
    a.barrier(0, checkpoint(1));
    assert_eq!(a.barrier(0, checkpoint(2)), abandons(1, Passage::Overtake(checkpoint(2))));
    assert_eq!(recorded(&a), [1]);
    assert_eq!(a.barrier(1, checkpoint(1)), NOTHING, "too late");
    assert_eq!(recorded(&a), [1], "still before the newer barrier");
    assert_eq!(a.barrier(1, checkpoint(2)), passes(Passage::Closed(CheckpointId(2))));
}

#[test]
fn a_savepoint_blocks_what_an_unaligned_checkpoint_left_open() {
    let mut a = BarrierAligner::new(2, CheckpointMode::Unaligned);
    a.barrier(0, checkpoint(1));
    assert_eq!(a.barrier(0, savepoint(2)), abandons(1, Passage::Nothing));
    assert_eq!((blocked(&a), recorded(&a)), (vec![0], vec![]));
}

#[test]
fn older_and_repeated_barriers_are_ignored() {
    let mut a = BarrierAligner::new(2, CheckpointMode::ExactlyOnce);
    a.barrier(0, checkpoint(5));
    assert_eq!(a.barrier(0, checkpoint(5)), NOTHING);
    assert_eq!(a.barrier(1, checkpoint(4)), NOTHING);
    assert_eq!((blocked(&a), a.pending()), (vec![0], Some(checkpoint(5))));
    assert_eq!(a.barrier(1, checkpoint(5)), passes(Passage::Complete(checkpoint(5))));
    assert_eq!(a.barrier(1, checkpoint(5)), NOTHING);
    assert_eq!((blocked(&a), a.pending()), (vec![], None));
}

#[test]
fn a_cancelled_checkpoint_frees_its_channels_and_is_not_begun_again() {
    for mode in MODES {
        let mut a = BarrierAligner::new(2, mode);
        a.barrier(0, checkpoint(1));
        assert_eq!(a.cancel(CheckpointId(1)), abandons(1, Passage::Nothing));
        assert_eq!((blocked(&a), recorded(&a), a.pending()), (vec![], vec![], None));
        assert_eq!(a.barrier(1, checkpoint(1)), NOTHING);
        assert_eq!(a.cancel(CheckpointId(1)), NOTHING);
        a.barrier(1, checkpoint(2));
        assert_ne!(a.barrier(0, checkpoint(2)), NOTHING);
    }
}

#[test]
fn a_cancellation_that_is_faster_than_the_barrier_keeps_it_out() {
    let mut a = BarrierAligner::new(2, CheckpointMode::ExactlyOnce);
    assert_eq!(a.cancel(CheckpointId(3)), NOTHING);
    assert_eq!(a.barrier(0, checkpoint(3)), NOTHING);
    assert_eq!((blocked(&a), a.pending()), (vec![], None));
}

#[test]
fn cancelling_ends_what_is_older_and_leaves_what_is_newer() {
    let mut a = BarrierAligner::new(2, CheckpointMode::ExactlyOnce);
    a.barrier(0, checkpoint(2));
    assert_eq!(a.cancel(CheckpointId(1)), NOTHING);
    assert_eq!(blocked(&a), [0]);
    // Nobody begins a third one before the second is over.
    assert_eq!(a.cancel(CheckpointId(3)), abandons(2, Passage::Nothing));
    assert!(blocked(&a).is_empty());
}

#[test]
fn an_end_delivers_every_barrier() {
    let mut a = BarrierAligner::new(3, CheckpointMode::ExactlyOnce);
    assert_eq!(a.ended(0), NOTHING);
    assert_eq!(a.barrier(1, checkpoint(1)), NOTHING);
    assert_eq!(a.ended(2), passes(Passage::Complete(checkpoint(1))), "the last that was missing");
    assert_eq!(a.ended(2), NOTHING);
    assert_eq!(a.barrier(1, checkpoint(2)), passes(Passage::Complete(checkpoint(2))));
    assert_eq!(a.ended(1), NOTHING);
    assert_eq!(a.pending(), None);
}

#[test]
fn an_end_closes_channel_state() {
    let mut a = BarrierAligner::new(2, CheckpointMode::Unaligned);
    a.barrier(0, checkpoint(1));
    assert_eq!(a.ended(1), passes(Passage::Closed(CheckpointId(1))));
    assert_eq!(a.pending(), None);
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Barrier(usize, Barrier),
    Ended(usize),
    Cancel(CheckpointId),
}

/// Remembers every event and works everything out from the beginning.
struct Model {
    n_channels: usize,
    mode: CheckpointMode,
    history: Vec<Event>,
}

/// Where the model stands after its history.
#[derive(Default, PartialEq)]
struct Standing {
    /// The newest checkpoint that was begun and not cancelled, and the channels that count as past it.
    begun: Option<(Barrier, Vec<bool>)>,
}

impl Standing {
    fn pending(&self) -> Option<Barrier> {
        let (barrier, past) = self.begun.as_ref()?;
        past.contains(&false).then_some(*barrier)
    }
}

impl Model {
    fn has_ended(&self, channel: usize, until: usize) -> bool {
        self.history[..until].iter().any(|e| matches!(e, Event::Ended(c) if *c == channel))
    }

    fn standing(&self, until: usize) -> Standing {
        let history = &self.history[..until];
        let accepted = |(at, event): (usize, &Event)| match *event {
            Event::Barrier(channel, barrier) => {
                (!self.has_ended(channel, at)).then_some((channel, barrier))
            }
            _ => None,
        };
        let newest = history.iter().enumerate().filter_map(accepted).max_by_key(|b| b.1.checkpoint);
        let Some((_, barrier)) = newest else { return Standing::default() };
        // Whatever is cancelled at any time before it is over, is void; after that it does not matter.
        let mut past = vec![false; self.n_channels];
        let mut begun = false;
        let mut cancelled = false;
        for (at, event) in history.iter().enumerate() {
            match event {
                Event::Cancel(id) => {
                    let over = begun && !past.contains(&false);
                    cancelled |= *id >= barrier.checkpoint && !over;
                }
                Event::Ended(channel) => past[*channel] = true,
                Event::Barrier(..) => {
                    if let Some((channel, b)) = accepted((at, event))
                        && b == barrier
                        && !cancelled
                    {
                        begun = true;
                        past[channel] = true;
                    }
                }
            }
        }
        if cancelled || !begun {
            Standing::default()
        } else {
            Standing { begun: Some((barrier, past)) }
        }
    }

    fn overtakes(&self, barrier: Barrier) -> bool {
        self.mode == CheckpointMode::Unaligned && barrier.kind == SnapshotKind::Checkpoint
    }

    fn step(&mut self, event: Event) -> Alignment {
        let before = self.standing(self.history.len());
        self.history.push(event);
        let after = self.standing(self.history.len());
        let continues = |p: &Barrier| after.begun.as_ref().is_some_and(|(b, _)| b == p);
        let abandoned = before.pending().filter(|p| !continues(p)).map(|p| p.checkpoint);
        let was_begun = |b: &Barrier| before.begun.as_ref().is_some_and(|(old, _)| old == b);
        let passage = match (&after.begun, after.pending()) {
            (None, _) => Passage::Nothing,
            (Some((barrier, _)), None) if !was_begun(barrier) => Passage::Complete(*barrier),
            (Some((barrier, _)), None) if before.pending() == Some(*barrier) => {
                if self.overtakes(*barrier) {
                    Passage::Closed(barrier.checkpoint)
                } else {
                    Passage::Complete(*barrier)
                }
            }
            (Some((barrier, _)), Some(_)) if !was_begun(barrier) && self.overtakes(*barrier) => {
                Passage::Overtake(*barrier)
            }
            _ => Passage::Nothing,
        };
        Alignment { abandoned, passage }
    }

    fn is_blocked(&self, channel: usize) -> bool {
        let standing = self.standing(self.history.len());
        let Some(barrier) = standing.pending() else { return false };
        let aligned =
            barrier.kind != SnapshotKind::Checkpoint || self.mode == CheckpointMode::ExactlyOnce;
        aligned
            && !self.has_ended(channel, self.history.len())
            && standing.begun.is_some_and(|(_, past)| past[channel])
    }
}

/// Every fourth checkpoint is a savepoint.
fn numbered(id: u64) -> Barrier {
    if id % 4 == 3 { savepoint(id) } else { checkpoint(id) }
}

fn any_mode() -> impl Strategy<Value = CheckpointMode> {
    prop::sample::select(MODES.to_vec())
}

fn any_event(n_channels: usize) -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => (0..n_channels, 0..10u64).prop_map(|(c, id)| Event::Barrier(c, numbered(id))),
        1 => (0..n_channels).prop_map(Event::Ended),
        1 => (0..10u64).prop_map(|id| Event::Cancel(CheckpointId(id))),
    ]
}

/// What comes through a channel.
#[derive(Clone, Copy, Debug)]
enum Item {
    Data,
    Barrier(u64),
    End,
}

/// A channel's whole content: stretches of data, between them barriers in order, some left out (their
/// checkpoint was aborted before it came so far), perhaps an end.
fn any_channel() -> impl Strategy<Value = Vec<Item>> {
    let stretch = (0..4usize, prop::bool::weighted(0.8));
    (prop::collection::vec(stretch, 6), any::<bool>()).prop_map(|(stretches, ends)| {
        let mut items = Vec::new();
        for (id, (n_data, has_barrier)) in stretches.into_iter().enumerate() {
            items.extend(std::iter::repeat_n(Item::Data, n_data));
            items.extend(has_barrier.then_some(Item::Barrier(id as u64)));
        }
        items.extend(ends.then_some(Item::End));
        items
    })
}

/// The data of a channel that belongs before a barrier; `None` if it does not have that barrier.
fn data_before(items: &[Item], id: u64) -> Option<usize> {
    let end = items.iter().position(|i| match i {
        Item::Barrier(b) => *b == id,
        Item::End => true,
        Item::Data => false,
    })?;
    Some(items[..end].iter().filter(|i| matches!(i, Item::Data)).count())
}

/// A gate that obeys the aligner, and counts what its task would see.
struct Gate {
    aligner: BarrierAligner,
    stashes: Vec<VecDeque<Item>>,
    /// Data handed to the task, by channel.
    seen: Vec<usize>,
    /// What is in the snapshot, by channel: seen before the barrier, or channel state.
    covered: Vec<usize>,
    /// Checkpoints whose snapshots are whole, and what they cover.
    snapshots: Vec<(CheckpointId, Vec<usize>)>,
}

impl Gate {
    fn new(n_channels: usize, mode: CheckpointMode) -> Self {
        Gate {
            aligner: BarrierAligner::new(n_channels, mode),
            stashes: vec![VecDeque::new(); n_channels],
            seen: vec![0; n_channels],
            covered: Vec::new(),
            snapshots: Vec::new(),
        }
    }

    fn arrive(&mut self, channel: usize, item: Item) {
        self.stashes[channel].push_back(item);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(channel) = (0..self.stashes.len())
            .find(|&c| !self.aligner.is_blocked(c) && !self.stashes[c].is_empty())
        {
            match self.stashes[channel].pop_front().unwrap() {
                Item::Data => {
                    if self.aligner.is_recorded(channel) {
                        self.covered[channel] += 1;
                    }
                    self.seen[channel] += 1;
                }
                Item::Barrier(id) => {
                    let alignment = self.aligner.barrier(channel, numbered(id));
                    self.take(alignment);
                }
                Item::End => {
                    let alignment = self.aligner.ended(channel);
                    self.take(alignment);
                }
            }
        }
    }

    fn take(&mut self, alignment: Alignment) {
        match alignment.passage {
            Passage::Nothing => {}
            Passage::Overtake(_) => self.covered = self.seen.clone(),
            Passage::Closed(id) => self.snapshots.push((id, self.covered.clone())),
            Passage::Complete(barrier) => {
                self.snapshots.push((barrier.checkpoint, self.seen.clone()));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn answers_as_the_model_that_remembers_everything(
        n_channels in 1..4usize,
        mode in any_mode(),
        events in prop::collection::vec(any_event(12), 1..40),
    ) {
        let mut aligner = BarrierAligner::new(n_channels, mode);
        let mut model = Model { n_channels, mode, history: Vec::new() };
        for event in events {
            let event = match event {
                Event::Barrier(c, b) => Event::Barrier(c % n_channels, b),
                Event::Ended(c) => Event::Ended(c % n_channels),
                cancel => cancel,
            };
            let answer = match event {
                Event::Barrier(channel, barrier) => aligner.barrier(channel, barrier),
                Event::Ended(channel) => aligner.ended(channel),
                Event::Cancel(id) => aligner.cancel(id),
            };
            prop_assert_eq!(answer, model.step(event), "{:?}", model.history);
            prop_assert_eq!(aligner.pending(), model.standing(model.history.len()).pending());
            for channel in 0..n_channels {
                prop_assert_eq!(aligner.is_blocked(channel), model.is_blocked(channel));
            }
        }
    }

    #[test]
    fn a_snapshot_covers_what_was_before_its_barrier(
        channels in prop::collection::vec(any_channel(), 1..4),
        mode in any_mode(),
        turns in prop::collection::vec((0..12usize, prop::option::weighted(0.03, 0..6u64)), 0..120),
    ) {
        let n_channels = channels.len();
        let mut gate = Gate::new(n_channels, mode);
        let mut queues: Vec<VecDeque<Item>> =
            channels.iter().map(|items| items.iter().copied().collect()).collect();
        // All of it comes in the end, in whatever order.
        let rest = (0..n_channels).flat_map(|c| std::iter::repeat_n((c, None), channels[c].len()));
        for (turn, cancelled) in turns.into_iter().chain(rest) {
            if let Some(id) = cancelled {
                let alignment = gate.aligner.cancel(CheckpointId(id));
                gate.take(alignment);
                gate.drain();
            }
            if let Some(item) = queues[turn % n_channels].pop_front() {
                gate.arrive(turn % n_channels, item);
            }
        }
        for (id, covered) in &gate.snapshots {
            for (channel, covered) in covered.iter().enumerate() {
                let before = data_before(&channels[channel], id.0);
                let exact = mode != CheckpointMode::AtLeastOnce || numbered(id.0).kind.is_savepoint();
                if exact {
                    prop_assert_eq!(Some(*covered), before, "checkpoint {}, channel {}", id, channel);
                } else {
                    prop_assert!(Some(*covered) >= before && before.is_some());
                }
            }
        }
        // Nothing is held back for ever by a barrier that every channel has, or that nobody waits for.
        let all_ended = channels.iter().all(|items| matches!(items.last(), Some(Item::End)));
        if all_ended {
            prop_assert_eq!(gate.aligner.pending(), None);
            for (channel, items) in channels.iter().enumerate() {
                let n_data = items.iter().filter(|i| matches!(i, Item::Data)).count();
                prop_assert_eq!(gate.seen[channel], n_data);
            }
        }
    }
}
