//! O6 and B4: the words of the Bible.
//!
//! Neither has event time. O6 wants final counts, so a word's window is all of time and fires once, when the
//! input has ended. B4 cuts each word's occurrences into hundreds, names the verse that completes each, and
//! numbers them by a second keyed operator.

use crate::run::Run;
use millstream::prelude::*;
use millstream_examples::records::Verse;
use std::fmt::Write;

pub(crate) const COUNTS: &str = "O6_kjv_word_count";
pub(crate) const WINDOWS: &str = "B4_count_windows";

/// O6.
pub(crate) fn build_counts(run: &Run) {
    let counts = run
        .events(Watermarks::none())
        .flat_map_into(|verse: &Verse, out| verse.words().for_each(|word| out.emit(word)))
        .parallelism(1)
        .key_by_ref(|word| word)
        .window(Global)
        .trigger(EventTimeTrigger)
        .count()
        .uid("counts");
    run.write(counts, COUNTS, |(word, _, n), out| write!(out, "{word},{n}"));
}

/// B4.
pub(crate) fn build_windows(run: &Run) {
    let windows = run
        .events(Watermarks::none())
        .flat_map_into(|verse: &Verse, out| {
            verse.words().for_each(|word| out.emit((word, verse.reference.clone())));
        })
        .parallelism(1)
        .key_by_ref(|(word, _)| word)
        .count_window(100)
        .reduce(|_, last| last)
        .uid("hundreds")
        .key_by_ref(|(word, _)| word)
        .map_with_state(|n: &mut u64, (word, reference)| {
            *n += 1;
            (word, *n, reference)
        })
        .uid("numbers");
    run.write(windows, WINDOWS, |(word, n, reference), out| write!(out, "{word},{n},{reference}"));
}
