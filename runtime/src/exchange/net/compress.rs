//! Payloads made smaller (LZ4), where the network is slower than the processor.
//!
//! Per frame, and only if it is worth it: what does not shrink by an eighth is sent as it is.

use super::wire::MAX_PAYLOAD;
use lz4_flex::block;
use millstream_model::{Error, Result};

const LENGTH_BYTES: usize = 4;

/// Appends a payload made smaller; false if it is not worth it, then nothing of use was appended.
pub(super) fn compress(payload: &[u8], out: &mut Vec<u8>) -> bool {
    let Ok(n) = u32::try_from(payload.len()) else { return false };
    out.extend_from_slice(&n.to_le_bytes());
    let start = out.len();
    out.resize(start + block::get_maximum_output_size(payload.len()), 0);
    match block::compress_into(payload, &mut out[start..]) {
        Ok(n) => {
            out.truncate(start + n);
            n + LENGTH_BYTES <= payload.len() - payload.len() / 8
        }
        Err(_) => false,
    }
}

/// The payload again, in `out`.
///
/// # Errors
/// If it is none, or too long.
pub(super) fn expand<'a>(payload: &[u8], out: &'a mut Vec<u8>) -> Result<&'a [u8]> {
    let damaged = || Error::external("a compressed frame is damaged");
    let (n, compressed) = payload.split_first_chunk::<LENGTH_BYTES>().ok_or_else(damaged)?;
    let n = u32::from_le_bytes(*n) as usize;
    // A byte stands for 255 at most.
    if n > MAX_PAYLOAD || n / 255 > compressed.len() {
        return Err(damaged());
    }
    if out.len() < n {
        out.resize(n, 0);
    }
    match block::decompress_into(compressed, &mut out[..n]) {
        Ok(read) if read == n => Ok(&out[..n]),
        _ => Err(damaged()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_shrinks_is_read_again(seed in any::<u8>(), n in 0usize..3000, period in 1usize..50) {
            let payload: Vec<u8> = (0..n).map(|i| (i % period) as u8 ^ seed).collect();
            let (mut small, mut again) = (Vec::new(), Vec::new());
            if compress(&payload, &mut small) {
                prop_assert!(small.len() < payload.len());
                prop_assert_eq!(expand(&small, &mut again).unwrap(), &payload);
                prop_assert!(expand(&small[..small.len() - 1], &mut again).is_err());
            } else {
                prop_assert!(n < 100 || period > 10, "{} of {}", small.len(), n);
            }
        }

        #[test]
        fn garbage_is_an_error_or_something_short(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut out = Vec::new();
            let n = expand(&bytes, &mut out).map_or(0, <[u8]>::len);
            prop_assert!(n <= 255 * (bytes.len() + 1) && out.len() <= 256 * (bytes.len() + 1));
        }
    }

    #[test]
    fn an_announced_length_is_not_believed() {
        let mut bytes = u32::MAX.to_le_bytes().to_vec();
        bytes.extend_from_slice(&[0; 100]);
        let mut out = Vec::new();
        assert!(expand(&bytes, &mut out).is_err() && out.is_empty());
    }
}
