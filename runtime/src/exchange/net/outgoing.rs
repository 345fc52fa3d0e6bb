//! What a link has to send, in the order in which it is written, and who writes.
//!
//! One at a time takes a lot of frames and writes it, outside of the lock. What a socket did not take of it is
//! put back and goes first. A pure machine.

use std::collections::VecDeque;
use std::io::IoSlice;

/// Frames and bytes that one write carries.
const WRITE_FRAMES: usize = 64;
const WRITE_BYTES: usize = 1 << 20;

/// See the module's text.
#[derive(Default)]
pub(super) struct Outgoing {
    /// What goes before the frames.
    pub(super) urgent: VecDeque<Vec<u8>>,
    /// With the bytes that are counted for each.
    pub(super) frames: VecDeque<(Vec<u8>, usize)>,
    /// What was taken and could not be written.
    rest: Writing,
    is_writing: bool,
    /// Whether somebody found no memory.
    pub(super) is_waited_for: bool,
    pub(super) phase: Phase,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    #[default]
    Open,
    /// What lies here is sent, and nothing after it.
    Closing,
    Closed,
}

/// What a writer has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Write what it was given, and say how much of it was written.
    Write,
    /// Wait: there is nothing, or another is writing.
    Wait,
    /// Everything was written that ever will be.
    Finish,
    /// Nothing must be written any more.
    Stop,
}

/// Frames that are being written.
#[derive(Default)]
pub(super) struct Writing {
    frames: VecDeque<(Vec<u8>, usize)>,
    /// Bytes of the first that were written already.
    n_written: usize,
}

impl Outgoing {
    /// Whether there is nothing to take.
    pub(super) fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.is_empty_of_data()
    }

    /// The same, whatever is urgent.
    pub(super) fn is_empty_of_data(&self) -> bool {
        self.frames.is_empty() && !self.has_rest()
    }

    /// Whether a writer was told to go on with something.
    pub(super) fn has_rest(&self) -> bool {
        !self.rest.frames.is_empty()
    }

    /// Takes what is to be written next.
    pub(super) fn take(&mut self, writing: &mut Writing) -> Next {
        if self.phase == Phase::Closed {
            return Next::Stop;
        }
        if self.is_writing {
            return Next::Wait;
        }
        *writing = std::mem::take(&mut self.rest);
        let mut bytes = 0;
        while writing.frames.len() < WRITE_FRAMES
            && bytes < WRITE_BYTES
            && let Some(frame) =
                self.urgent.pop_front().map(|f| (f, 0)).or_else(|| self.frames.pop_front())
        {
            bytes += frame.0.len();
            writing.frames.push_back(frame);
        }
        self.is_writing = !writing.frames.is_empty();
        match self.phase {
            _ if self.is_writing => Next::Write,
            Phase::Closing => Next::Finish,
            _ => Next::Wait,
        }
    }

    /// The writer has written what it could; this is left. The bytes that were counted for what is dropped.
    pub(super) fn put_back(&mut self, rest: Writing) -> usize {
        self.is_writing = false;
        if self.phase == Phase::Closed {
            return rest.frames.iter().map(|(_, counted)| counted).sum();
        }
        self.rest = rest;
        0
    }

    /// Nothing goes any more. The bytes that were counted for what is dropped.
    pub(super) fn close(&mut self) -> usize {
        self.phase = Phase::Closed;
        self.urgent.clear();
        let rest = std::mem::take(&mut self.rest).frames;
        self.frames.drain(..).chain(rest).map(|(_, counted)| counted).sum()
    }
}

impl Writing {
    /// What to write.
    pub(super) fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut skip = self.n_written;
        let rest = |(frame, _): &'_ (Vec<u8>, usize)| std::mem::take(&mut skip)..frame.len();
        let ranges: Vec<_> = self.frames.iter().map(rest).collect();
        self.frames
            .iter()
            .zip(ranges)
            .map(|((frame, _), range)| IoSlice::new(&frame[range]))
            .collect()
    }

    /// So many more bytes were written. The frames that are done, with the bytes counted for them.
    pub(super) fn advance(&mut self, n: usize) -> Vec<(Vec<u8>, usize)> {
        self.n_written += n;
        let mut done = Vec::new();
        while let Some((frame, _)) = self.frames.front()
            && frame.len() <= self.n_written
        {
            self.n_written -= frame.len();
            done.extend(self.frames.pop_front());
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing() -> Outgoing {
        let frames = (0..3).map(|i| (vec![i; 10], 10)).collect();
        Outgoing { frames, urgent: [vec![9; 4]].into(), ..Outgoing::default() }
    }

    fn bytes(writing: &Writing) -> Vec<u8> {
        writing.slices().iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn what_is_urgent_goes_first_and_one_writes_at_a_time() {
        let (mut outgoing, mut writing, mut other) =
            (outgoing(), Writing::default(), Writing::default());
        assert_eq!(outgoing.take(&mut writing), Next::Write);
        let expected = [vec![9; 4], vec![0; 10], vec![1; 10], vec![2; 10]].concat();
        assert_eq!(bytes(&writing), expected);
        outgoing.frames.push_back((vec![3; 10], 10));
        assert_eq!(outgoing.take(&mut other), Next::Wait);
        assert_eq!(writing.advance(34).len(), 4);
        assert!(writing.frames.is_empty());
        assert_eq!(outgoing.put_back(writing), 0);
        assert_eq!(outgoing.take(&mut other), Next::Write);
        assert_eq!(bytes(&other), [3; 10]);
    }

    #[test]
    fn what_was_not_written_goes_before_what_is_urgent() {
        let (mut outgoing, mut writing) = (outgoing(), Writing::default());
        outgoing.take(&mut writing);
        let done: Vec<usize> =
            writing.advance(17).into_iter().map(|(_, counted)| counted).collect();
        assert_eq!(done, [0, 10]);
        outgoing.put_back(writing);
        outgoing.urgent.push_back(vec![8; 4]);
        assert!(outgoing.has_rest() && !outgoing.is_empty_of_data());
        let mut writing = Writing::default();
        outgoing.take(&mut writing);
        assert_eq!(bytes(&writing), [vec![1; 7], vec![2; 10], vec![8; 4]].concat());
    }

    #[test]
    fn a_lot_is_bounded() {
        let mut outgoing = Outgoing::default();
        outgoing.frames.extend((0..100).map(|_| (vec![0; 10], 10)));
        let mut writing = Writing::default();
        outgoing.take(&mut writing);
        assert_eq!(bytes(&writing).len(), WRITE_FRAMES * 10);
        writing.advance(WRITE_FRAMES * 10);
        outgoing.put_back(writing);
        outgoing.frames.extend([(vec![0; 2 * WRITE_BYTES], 0), (vec![0; 10], 0)]);
        let mut writing = Writing::default();
        outgoing.take(&mut writing);
        assert_eq!(bytes(&writing).len(), 36 * 10 + 2 * WRITE_BYTES);
    }

    #[test]
    fn what_is_closing_finishes_and_what_is_closed_stops() {
        let (mut closing, mut writing) = (outgoing(), Writing::default());
        closing.phase = Phase::Closing;
        assert_eq!(closing.take(&mut writing), Next::Write);
        assert_eq!(closing.take(&mut Writing::default()), Next::Wait);
        writing.advance(34);
        closing.put_back(writing);
        assert_eq!(closing.take(&mut Writing::default()), Next::Finish);
        let (mut closed, mut writing) = (outgoing(), Writing::default());
        closed.take(&mut writing);
        closed.frames.push_back((vec![3; 10], 10));
        assert_eq!(closed.close(), 10);
        writing.advance(20);
        assert_eq!(closed.put_back(writing), 20);
        assert_eq!(closed.take(&mut Writing::default()), Next::Stop);
    }
}
