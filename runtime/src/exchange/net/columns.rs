//! A batch as bytes, column by column.
//!
//! Times and hashes are written as they lie in memory; what they are is known without serde, and a loop over
//! numbers is several times faster. Times of one batch are close to each other, so they are written as
//! distances from the lowest, in as few bytes as the largest distance needs. Only the values go through the
//! codec.

use super::wire;
use millstream_model::{Batch, Data, Error, Mark, Result};

/// Records that a batch may have: a bound for those that take no bytes at all.
const MAX_RECORDS: usize = 1 << 24;
const MARK_BYTES: usize = 12;

/// Appends a batch's bytes.
///
/// # Errors
/// If its records cannot be encoded.
pub(super) fn encode<T: Data>(batch: &Batch<T>, out: &mut Vec<u8>) -> Result<()> {
    let Batch { values, times, hashes, marks } = batch;
    for n in [values.len(), times.len(), hashes.len(), marks.len()] {
        let n = u32::try_from(n).ok().filter(|n| *n as usize <= MAX_RECORDS);
        let n = n.ok_or_else(|| Error::internal("a batch has too many records to be sent"))?;
        out.extend_from_slice(&n.to_le_bytes());
    }
    encode_times(times, out);
    encode_column(hashes, out, |hash| hash.to_le_bytes());
    encode_column(marks, out, |mark| {
        let mut bytes = [0; MARK_BYTES];
        bytes[..4].copy_from_slice(&mark.at.to_le_bytes());
        bytes[4..].copy_from_slice(&mark.watermark.to_le_bytes());
        bytes
    });
    wire::encode_each(values, out)
}

#[inline(always)]
fn encode_column<const N: usize, V>(
    column: &[V],
    out: &mut Vec<u8>,
    bytes_of: impl Fn(&V) -> [u8; N],
) {
    let start = out.len();
    out.resize(start + N * column.len(), 0);
    for (to, value) in out[start..].as_chunks_mut::<N>().0.iter_mut().zip(column) {
        *to = bytes_of(value);
    }
}

fn encode_times(times: &[i64], out: &mut Vec<u8>) {
    let Some(&first) = times.first() else { return };
    let (low, high) =
        times.iter().fold((first, first), |(low, high), &t| (low.min(t), high.max(t)));
    let distance = |time: &i64| time.wrapping_sub(low) as u64;
    let width: u8 = match distance(&high) {
        0 => 0,
        d if d <= u64::from(u8::MAX) => 1,
        d if d <= u64::from(u16::MAX) => 2,
        d if d <= u64::from(u32::MAX) => 4,
        _ => 8,
    };
    out.push(width);
    out.extend_from_slice(&low.to_le_bytes());
    match width {
        0 => {}
        1 => encode_column(times, out, |t| [distance(t) as u8]),
        2 => encode_column(times, out, |t| (distance(t) as u16).to_le_bytes()),
        4 => encode_column(times, out, |t| (distance(t) as u32).to_le_bytes()),
        _ => encode_column(times, out, |t| distance(t).to_le_bytes()),
    }
}

/// Reads a batch that takes all of `bytes` into an empty one, whose buffers are used again.
///
/// # Errors
/// If they are not the bytes of such a batch.
pub(super) fn decode<T: Data>(mut bytes: &[u8], batch: &mut Batch<T>) -> Result<()> {
    let bytes = &mut bytes;
    let mut count = || -> Result<usize> {
        let n = u32::from_le_bytes(*take(bytes)?) as usize;
        if n <= MAX_RECORDS { Ok(n) } else { Err(damaged("too many records")) }
    };
    let (n, n_times, n_hashes, n_marks) = (count()?, count()?, count()?, count()?);
    if n_times > n || n_hashes > 0 && n_hashes != n {
        return Err(damaged("columns that do not fit the records"));
    }
    decode_times(n_times, bytes, &mut batch.times)?;
    decode_column(n_hashes, bytes, &mut batch.hashes, u64::from_le_bytes)?;
    decode_column(n_marks, bytes, &mut batch.marks, |mark: [u8; MARK_BYTES]| {
        let (at, watermark) = (take(&mut &mark[..4]), take(&mut &mark[4..]));
        Mark {
            at: u32::from_le_bytes(at.copied().unwrap_or_default()),
            watermark: i64::from_le_bytes(watermark.copied().unwrap_or_default()),
        }
    })?;
    if !batch.marks.is_sorted_by(|a, b| a.at < b.at)
        || batch.marks.last().is_some_and(|mark| mark.at as usize > n)
    {
        return Err(damaged("watermarks out of place"));
    }
    wire::decode_each(n, bytes, &mut batch.values)
}

fn decode_times(n: usize, bytes: &mut &[u8], times: &mut Vec<i64>) -> Result<()> {
    if n == 0 {
        return Ok(());
    }
    let [width] = *take(bytes)?;
    let low = i64::from_le_bytes(*take(bytes)?);
    let time = |distance: u64| low.wrapping_add(distance as i64);
    match width {
        0 => {
            times.resize(n, low);
            Ok(())
        }
        1 => decode_column(n, bytes, times, |[d]: [u8; 1]| time(d.into())),
        2 => decode_column(n, bytes, times, |d| time(u16::from_le_bytes(d).into())),
        4 => decode_column(n, bytes, times, |d| time(u32::from_le_bytes(d).into())),
        8 => decode_column(n, bytes, times, |d| time(u64::from_le_bytes(d))),
        _ => Err(damaged("times of an unknown width")),
    }
}

#[inline(always)]
fn decode_column<const N: usize, V>(
    n: usize,
    bytes: &mut &[u8],
    column: &mut Vec<V>,
    value_of: impl Fn([u8; N]) -> V,
) -> Result<()> {
    let (taken, rest) =
        bytes.split_at_checked(n * N).ok_or_else(|| damaged("a column is cut off"))?;
    *bytes = rest;
    column.extend(taken.as_chunks::<N>().0.iter().map(|bytes| value_of(*bytes)));
    Ok(())
}

fn take<'a, const N: usize>(bytes: &mut &'a [u8]) -> Result<&'a [u8; N]> {
    let (taken, rest) = bytes.split_first_chunk().ok_or_else(|| damaged("it is cut off"))?;
    *bytes = rest;
    Ok(taken)
}

#[cold]
fn damaged(how: &str) -> Error {
    Error::external(format!("a batch that arrived is damaged: {how}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded<T: Data>(batch: &Batch<T>) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(batch, &mut bytes).unwrap();
        bytes
    }

    fn decoded<T: Data>(bytes: &[u8]) -> Result<Batch<T>> {
        let mut batch = Batch::default();
        decode(bytes, &mut batch).map(|()| batch)
    }

    fn batches() -> impl Strategy<Value = Batch<(u64, String)>> {
        let record = (any::<u64>(), ".{0,9}", any::<u64>());
        let scale = prop_oneof![Just(0i64), Just(9), Just(3000), Just(1 << 30), Just(i64::MAX)];
        let marks = proptest::collection::btree_map(0u32..20, any::<i64>(), 0..5);
        let columns = (proptest::collection::vec(record, 0..20), any::<i64>(), scale, marks);
        (columns, any::<(bool, bool)>()).prop_map(|((records, base, scale, marks), has)| {
            let n = records.len() as u32;
            let time = |i: u64| base.wrapping_add((i as i64).checked_rem(scale).unwrap_or(0));
            Batch {
                times: records.iter().map(|r| time(r.2)).filter(|_| has.0).collect(),
                hashes: records.iter().map(|r| r.2).filter(|_| has.1).collect(),
                values: records.into_iter().map(|(a, b, _)| (a, b)).collect(),
                marks: marks
                    .into_iter()
                    .filter(|(at, _)| *at <= n)
                    .map(|(at, watermark)| Mark { at, watermark })
                    .collect(),
            }
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(batch in batches()) {
            prop_assert_eq!(decoded(&encoded(&batch)).unwrap(), batch);
        }

        #[test]
        fn what_is_cut_or_flipped_is_an_error_or_another_batch(
            batch in batches(), cut in any::<prop::sample::Index>(), bit in 0..8u32
        ) {
            let mut bytes = encoded(&batch);
            let at = cut.index(bytes.len());
            prop_assert!(decoded::<(u64, String)>(&bytes[..at]).is_err());
            bytes[at] ^= 1 << bit;
            if let Ok(other) = decoded::<(u64, String)>(&bytes) {
                prop_assert_ne!(other, batch);
            }
        }

        #[test]
        fn garbage_is_not_a_batch(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            // Whatever it is, it is neither a panic nor an allocation without bound.
            let _ = decoded::<(u64, String)>(&bytes);
            let _ = decoded::<()>(&bytes);
            let _ = decoded::<Vec<Vec<u8>>>(&bytes);
        }
    }

    #[test]
    fn times_take_as_few_bytes_as_they_need() {
        for (step, width) in [(0, 0), (1, 1), (200, 2), (1 << 20, 4), (1 << 40, 8)] {
            let times: Vec<i64> = (0..100).map(|i| -77 + i * step).collect();
            let batch = Batch { values: vec![(); 100], times, ..Batch::default() };
            let bytes = encoded(&batch);
            assert_eq!(bytes.len(), 16 + 9 + 100 * width);
            assert_eq!(decoded::<()>(&bytes).unwrap(), batch);
        }
        let ends =
            Batch { values: vec![(); 2], times: vec![i64::MIN, i64::MAX], ..Batch::default() };
        assert_eq!(decoded::<()>(&encoded(&ends)).unwrap(), ends);
    }

    #[test]
    fn a_length_is_not_believed() {
        let header = |counts: [u32; 4]| counts.iter().flat_map(|n| n.to_le_bytes()).collect();
        let refused = |bytes: Vec<u8>| decoded::<String>(&bytes).unwrap_err().to_string();
        assert!(refused(header([u32::MAX, 0, 0, 0])).contains("too many records"));
        assert!(refused(header([1, 2, 0, 0])).contains("columns that do not fit"));
        assert!(refused(header([2, 0, 1, 0])).contains("columns that do not fit"));
        assert!(refused(header([1, 0, 0, 1 << 20])).contains("cut off"));
        // A text of so many bytes.
        let mut bytes: Vec<u8> = header([1, 0, 0, 0]);
        bytes.extend_from_slice(&(u64::MAX / 2).to_le_bytes());
        assert!(refused(bytes).contains("what arrived is not"));
    }
}
