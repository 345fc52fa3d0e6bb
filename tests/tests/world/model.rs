//! What a job must give, computed record by record without the engine.

use super::disk::Row;
use super::job::{Job, Operator, pair};
use super::source::{BOUND_MS, Event};
use millstream::prelude::EventTime;
use std::collections::BTreeMap;

/// What each sink must have in the end, sorted.
pub(super) struct Expected {
    pub(super) main: Vec<Row>,
    pub(super) late: Vec<Row>,
}

impl Expected {
    pub(super) fn of(job: &Job) -> Self {
        let mut streams = (0..job.sources.len()).map(|source| stream(job, source));
        let (mut main, mut late) = (Vec::new(), Vec::new());
        match job.operator {
            Operator::Pass => main.extend(streams.flatten().map(|(e, _)| (e.key, e.time, e.value))),
            Operator::Count => {
                let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
                for (event, _) in streams.flatten() {
                    let count = counts.entry(event.key).or_default();
                    *count += 1;
                    main.push((event.key, 0, *count));
                }
            }
            Operator::Tumbling { size } => {
                windows(job, streams.flatten(), size, size, &mut main, &mut late);
            }
            Operator::Sliding { size, slide } => {
                windows(job, streams.flatten(), size, slide, &mut main, &mut late);
            }
            Operator::Session { gap } => sessions(streams.flatten(), gap, &mut main),
            Operator::Buckets { size } => {
                let mut sums: BTreeMap<(u64, EventTime), u64> = BTreeMap::new();
                for (event, watermark) in streams.flatten() {
                    let end = event.time / size * size + size;
                    if job.has_late && end <= watermark {
                        main.push((event.key, -event.time, event.value));
                    } else {
                        *sums.entry((event.key, end)).or_default() += event.value;
                    }
                }
                main.extend(sums.into_iter().map(|((key, end), sum)| (key, end, sum)));
            }
            Operator::Nested { size } => {
                let mut small = Vec::new();
                windows(job, streams.flatten(), size, size, &mut small, &mut late);
                let of_small = small.into_iter().map(|(key, end, value)| {
                    (Event { key: key % 2, time: end - 1, value }, EventTime::MIN)
                });
                windows(job, of_small, size * 3, size * 3, &mut main, &mut late);
            }
            Operator::Join { size } => {
                join(&mut streams, &mut main, |l, r| l / size == r / size);
            }
            Operator::Interval { reach } => {
                join(&mut streams, &mut main, |l, r| (l - r).abs() <= reach);
            }
            Operator::Broadcast => {
                let (asked, prices) = (streams.next(), streams.next());
                let (asked, prices) = (asked.unwrap_or_default(), prices.unwrap_or_default());
                for (event, _) in asked {
                    let due = prices.iter().filter(|(price, _)| price.time <= event.time);
                    let sum = due.map(|(price, _)| price.value).sum();
                    main.push((event.key, event.time, sum));
                }
            }
        }
        main.sort_unstable();
        late.sort_unstable();
        Expected { main, late }
    }
}

/// The records of a source behind the steps, each with the watermark of its split before it.
fn stream(job: &Job, source: usize) -> Vec<(Event, EventTime)> {
    let mut stream = Vec::new();
    for split in &*job.sources[source].splits {
        let mut watermark = EventTime::MIN;
        for event in split {
            let mut events = vec![event.clone()];
            for step in &job.steps {
                events = events.iter().flat_map(|event| step.of(event)).collect();
            }
            stream.extend(events.into_iter().map(|event| (event, watermark)));
            watermark = watermark.max(event.time - BOUND_MS - 1);
        }
    }
    stream
}

/// Sums per key and window of records of which none is late, or which come from one split.
fn windows(
    job: &Job,
    events: impl Iterator<Item = (Event, EventTime)>,
    size: EventTime,
    slide: EventTime,
    main: &mut Vec<Row>,
    late: &mut Vec<Row>,
) {
    let mut sums: BTreeMap<(u64, EventTime), u64> = BTreeMap::new();
    for (event, watermark) in events {
        let watermark = if job.has_late { watermark } else { EventTime::MIN };
        let last_end = event.time.div_euclid(slide) * slide + size;
        let ends = (0..size / slide).map(|n| last_end - n * slide);
        let mut is_late = true;
        for end in ends.filter(|end| end - 1 > watermark) {
            is_late = false;
            *sums.entry((event.key, end)).or_default() += event.value;
        }
        if is_late {
            late.push((event.key, event.time, event.value));
        }
    }
    main.extend(sums.into_iter().map(|((key, end), sum)| (key, end, sum)));
}

fn sessions(events: impl Iterator<Item = (Event, EventTime)>, gap: EventTime, main: &mut Vec<Row>) {
    let mut by_key: BTreeMap<u64, Vec<(EventTime, u64)>> = BTreeMap::new();
    for (event, _) in events {
        by_key.entry(event.key).or_default().push((event.time, event.value));
    }
    for (key, mut events) in by_key {
        events.sort_unstable();
        let mut open: Option<(EventTime, u64)> = None;
        for (time, value) in events {
            open = Some(match open {
                Some((end, sum)) if time < end => (time + gap, sum + value),
                closed => {
                    main.extend(closed.map(|(end, sum)| (key, end, sum)));
                    (time + gap, value)
                }
            });
        }
        main.extend(open.map(|(end, sum)| (key, end, sum)));
    }
}

fn join(
    streams: &mut impl Iterator<Item = Vec<(Event, EventTime)>>,
    main: &mut Vec<Row>,
    meet: impl Fn(EventTime, EventTime) -> bool,
) {
    let (left, right) = (streams.next().unwrap_or_default(), streams.next().unwrap_or_default());
    for (l, _) in &left {
        let met = right.iter().filter(|(r, _)| r.key == l.key && meet(l.time, r.time));
        main.extend(met.map(|(r, _)| pair(l, r)));
    }
}
