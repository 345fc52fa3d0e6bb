//! What is made of bytes that another host sent, for those who try what becomes of wrong ones.
//!
//! Only fuzz targets and tests build this (feature `fuzzing`). It goes the way that a connection's bytes go, up to where they
//! would be given to a channel.

use super::frame::{Arriving, ChannelId, Frame, Kind, begin, finish};
use super::hello::{ANSWER_BYTES, Answer, HELLO_BYTES, Hello};
use super::{columns, compress, wire};
use crate::exchange::in_flight::{Held, InFlight, Message};
use crate::watermark::Valve;
use millstream_model::{Barrier, Batch, CheckpointId, Error, Mark, Result, Signal, SnapshotKind};
use millstream_state::part::{Entries, Written};
use millstream_state::snapshot::Assignment;

/// Records of some variety.
type Record = (u64, String, Option<Vec<i32>>);

const CHANNEL: ChannelId = ChannelId { edge: 1, from: 0, to: 1 };

/// Takes what arrives on a connection after its handshake, in pieces of so many bytes; how many frames there were.
///
/// # Errors
/// If it is not what a host sends.
pub fn frames(mut bytes: &[u8], piece: usize) -> Result<usize> {
    let (mut arriving, mut n_frames) = (Arriving::new(), 0);
    while !bytes.is_empty() {
        let room = arriving.room();
        let n = piece.max(1).min(room.len()).min(bytes.len());
        let (now, later) = bytes.split_at(n);
        room[..n].copy_from_slice(now);
        bytes = later;
        arriving.arrived(n);
        while let Some(frame) = arriving.next()? {
            content(&frame)?;
            n_frames += 1;
        }
    }
    if arriving.is_whole() { Ok(n_frames) } else { Err(cut("a frame")) }
}

fn content(frame: &Frame<'_>) -> Result<()> {
    let mut expanded = Vec::new();
    let payload = match frame.is_compressed {
        true => compress::expand(frame.payload, &mut expanded)?,
        false => frame.payload,
    };
    match frame.kind {
        Kind::Batch => {
            let mut batch = Batch::<Record>::default();
            columns::decode(payload, &mut batch)?;
            assert!(batch.is_whole(), "a batch whose columns do not fit goes into a gate");
            Ok(())
        }
        Kind::Signal => wire::decode_all::<Signal>(payload).map(drop),
        Kind::Barrier => wire::decode_all::<(Barrier, u64)>(payload).map(drop),
        Kind::Credit => wire::decode_all::<(u32, u64)>(payload).map(drop),
        Kind::Close => Ok(()),
    }
}

/// The same bytes with checksums that are right, and with a last frame that is as long as what is left; if they begin
/// with a frame.
pub fn mended_frames(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut mended, mut frame) = (Vec::new(), Vec::new());
    while !bytes.is_empty() {
        begin(&mut frame);
        let n_header = frame.len();
        let header = bytes.get(..n_header)?;
        let n_payload = u32::from_le_bytes(*header.first_chunk()?) as usize;
        let n =
            if n_payload <= bytes.len() - n_header { n_header + n_payload } else { bytes.len() };
        let (now, later) = bytes.split_at(n);
        let kinds = [Kind::Batch, Kind::Signal, Kind::Barrier, Kind::Credit, Kind::Close];
        let kind = kinds.into_iter().find(|kind| *kind as u8 == header[4])?;
        frame.extend_from_slice(&now[n_header..]);
        finish(&mut frame, kind, header[5] == 1, CHANNEL).ok()?;
        mended.append(&mut frame);
        bytes = later;
    }
    (!mended.is_empty()).then_some(mended)
}

/// Takes the channel state of a gate, as its task restores and replays it; how many records it has.
///
/// # Errors
/// If it is not what a gate writes.
pub fn channel_state(bytes: &[u8], assignment: &Assignment) -> Result<usize> {
    let mut in_flight = InFlight::<Record>::new();
    let shape = InFlight::<Record>::shape()?;
    in_flight.restore(&Entries { bytes, assignment, shape: &shape, version: 0, first: 0 })?;
    let mut n_records = 0;
    let mut replay = in_flight.replay.unwrap_or_default();
    while let Some(batch) = replay.next() {
        assert!(batch.is_whole(), "a batch whose columns do not fit goes into a task");
        n_records += batch.len();
    }
    Ok(n_records)
}

/// Takes what a host says first.
///
/// # Errors
/// If it is not a hello.
pub fn hello(bytes: &[u8]) -> Result<()> {
    let Some((head, rest)) = bytes.split_first_chunk::<HELLO_BYTES>() else {
        return Err(cut("a greeting"));
    };
    let (_, n_token) = Hello::of(head)?;
    if rest.len() == n_token { Ok(()) } else { Err(cut("a secret")) }
}

/// Takes what a host answers.
///
/// # Errors
/// If it is not an answer.
pub fn answer(bytes: &[u8]) -> Result<()> {
    let Some((head, rest)) = bytes.split_first_chunk::<ANSWER_BYTES>() else {
        return Err(cut("a greeting"));
    };
    let n_reason = Answer::of(head)?.unwrap_or(0);
    if rest.len() == n_reason { Ok(()) } else { Err(cut("a reason")) }
}

fn cut(what: &str) -> Error {
    Error::external(format!("{what} is cut off"))
}

/// Frames of all kinds.
///
/// # Errors
/// None of them is too long.
pub fn frame_samples() -> Result<Vec<Vec<u8>>> {
    let batch = Batch {
        values: (0..40u64).map(|i| (i, "word ".repeat(3), Some(vec![i as i32; 3]))).collect(),
        times: (0..40).map(|i| 1_600_000_000_000 + 10 * i).collect(),
        hashes: (0..40).map(|i: u64| i.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect(),
        marks: vec![Mark { at: 7, watermark: 5 }, Mark { at: 40, watermark: 9 }],
    };
    let barrier = Barrier { checkpoint: CheckpointId(3), kind: SnapshotKind::Checkpoint };
    let mut payloads = Vec::new();
    let mut push = |kind, is_compressed, payload: Vec<u8>| {
        payloads.push((kind, is_compressed, payload));
    };
    let mut columns_of = Vec::new();
    columns::encode::<Record>(&batch, &mut columns_of)?;
    let mut small = Vec::new();
    if compress::compress(&columns_of, &mut small) {
        push(Kind::Batch, true, small);
    }
    push(Kind::Batch, false, columns_of);
    for signal in [Signal::Idle, Signal::Active, Signal::Barrier(barrier), Signal::End] {
        let mut bytes = Vec::new();
        wire::encode(&signal, &mut bytes)?;
        push(Kind::Signal, false, bytes);
    }
    let (mut overtaking, mut credit) = (Vec::new(), Vec::new());
    wire::encode(&(barrier, 12u64), &mut overtaking)?;
    wire::encode(&(16u32, 1u64 << 20), &mut credit)?;
    push(Kind::Barrier, false, overtaking);
    push(Kind::Credit, false, credit);
    push(Kind::Close, false, Vec::new());
    let sealed = payloads.into_iter().map(|(kind, is_compressed, payload)| {
        let mut out = Vec::new();
        begin(&mut out);
        out.extend(payload);
        finish(&mut out, kind, is_compressed, CHANNEL).map(|()| out)
    });
    sealed.collect()
}

/// Channel state of all kinds.
///
/// # Errors
/// None of it is too long.
pub fn channel_state_samples() -> Result<Vec<Vec<u8>>> {
    let mut in_flight = InFlight::<Record>::new();
    let checkpoint = CheckpointId(3);
    in_flight.record(checkpoint, vec![Some(9), None], &Valve::new(2));
    let batch = Batch {
        values: vec![(7, "word".into(), None), (8, "other".into(), Some(vec![1, -1]))],
        times: vec![5, 9],
        hashes: vec![1, u64::MAX],
        marks: vec![Mark { at: 1, watermark: 5 }],
    };
    for (number, message) in
        [Message::Batch(batch, 99), Message::Signal(Signal::Idle), Message::Signal(Signal::End)]
            .into_iter()
            .enumerate()
    {
        in_flight.take(&mut Held::new(number % 2, number as u64, message));
    }
    let mut written = Written::default();
    in_flight.write(&mut written, usize::MAX)?;
    Ok(vec![written.bytes])
}

/// What hosts say first.
pub fn hello_samples() -> Vec<Vec<u8>> {
    let hello = Hello { job: 7, attempt: 2, from: 0, to: 1, token: vec![9; 16] };
    vec![hello.to_bytes(), Hello { token: Vec::new(), ..hello }.to_bytes()]
}

/// What hosts answer.
pub fn answer_samples() -> Vec<Vec<u8>> {
    [Answer::Welcome, Answer::Refused("there is no such attempt".into())]
        .iter()
        .map(Answer::to_bytes)
        .collect()
}
