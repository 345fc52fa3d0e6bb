//! What task hosts send each other.

use super::{Decoder, nothing_to_mend};
use millstream_runtime::exchange::net::received;

/// Frames with records, signals and credit.
pub(super) const FRAMES: Decoder = Decoder {
    name: "frames",
    samples: || {
        let mut samples = received::frame_samples().expect("a sample is short");
        samples.push(samples.concat());
        samples
    },
    takes: |bytes| {
        let whole = received::frames(bytes, usize::MAX);
        // How it was cut on its way must not matter.
        let in_pieces = received::frames(bytes, 7);
        assert_eq!(whole.as_ref().ok(), in_pieces.as_ref().ok());
        whole.is_ok_and(|n_frames| n_frames > 0)
    },
    mend: received::mended_frames,
};

/// The first word of who connects.
pub(super) const HELLO: Decoder = Decoder {
    name: "hello",
    samples: received::hello_samples,
    takes: |bytes| received::hello(bytes).is_ok(),
    mend: nothing_to_mend,
};

/// And its answer.
pub(super) const ANSWER: Decoder = Decoder {
    name: "answer",
    samples: received::answer_samples,
    takes: |bytes| received::answer(bytes).is_ok(),
    mend: nothing_to_mend,
};
