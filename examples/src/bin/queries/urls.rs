//! O5: every minute the five most requested pages of the last ten.
//!
//! Counting is parallel by page; ranking needs all pages of a window and is parallel by window. A count
//! carries the last millisecond of its window, so the counts of windows that end in the same minute, which
//! is one, meet in a tumbling window of a minute: no second clock is needed.

use crate::run::Run;
use millstream::prelude::*;
use millstream_examples::records::Hit;
use std::cmp::Reverse;
use std::fmt::Write;

pub(crate) const RESULT: &str = "O5_top5_urls_sliding_10m_1m";

const N_RANKS: usize = 5;

/// A page's count; the order is that of the ranks.
type Ranked = (Reverse<u64>, Text);

/// Keeps the first ranks.
#[derive(Clone)]
struct Top;

impl Aggregate<(EventTime, Ranked)> for Top {
    type Acc = Vec<Ranked>;
    type Out = Vec<Ranked>;

    fn create(&self) -> Vec<Ranked> {
        Vec::new()
    }

    fn add(&self, top: &mut Vec<Ranked>, (_, page): (EventTime, Ranked)) {
        let at = top.partition_point(|other| *other < page);
        if at < N_RANKS {
            top.truncate(N_RANKS - 1);
            top.insert(at, page);
        }
    }

    fn merge(&self, top: &mut Vec<Ranked>, other: &Vec<Ranked>) {
        top.extend_from_slice(other);
        top.sort_unstable();
        top.truncate(N_RANKS);
    }

    fn result(&self, top: &Vec<Ranked>) -> Vec<Ranked> {
        top.clone()
    }
}

pub(crate) fn build(run: &Run) {
    let counts = run
        .events(Watermarks::monotonous().on(|hit: &Hit| hit.ts))
        .key_by_ref(|hit| &hit.url)
        .window(Sliding::of(mins(10), mins(1)))
        .count()
        .uid("counts");
    let top = counts
        .map(|(url, window, n)| (window.start, (Reverse(n), url)))
        .key_by(|(start, _)| *start)
        .window(Tumbling::of(mins(1)))
        .aggregate_with(Top, |start, pages, _, out| {
            for (rank, (Reverse(n), url)) in (1..).zip(pages) {
                out.emit((*start, rank, *n, url.clone()));
            }
            Ok(())
        })
        .uid("ranks");
    run.write(top, RESULT, |(start, rank, n, url): &(EventTime, u32, u64, Text), out| {
        write!(out, "{start},{rank},{n},{url}")
    });
}
