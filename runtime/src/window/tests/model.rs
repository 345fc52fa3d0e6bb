//! The window operator, one event at a time and without a thought for speed: what the fast ones must equal.

use super::super::TimeWindow;
use super::kit::Fired;
use millstream_model::{EventTime, MIN_TIME};
use std::collections::BTreeMap;

/// Which windows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Every multiple of the slide (plus the offset) begins one.
    Aligned {
        size: i64,
        slide: i64,
        offset: i64,
    },
    Session {
        gap: i64,
    },
}

/// Keyed event-time windows with the default trigger.
pub(crate) struct Model {
    kind: Kind,
    lateness: i64,
    watermark: EventTime,
    /// Values in order of arrival.
    content: BTreeMap<(String, TimeWindow), Vec<i64>>,
}

impl Model {
    pub(crate) fn new(kind: Kind, lateness: i64) -> Self {
        Model { kind, lateness, watermark: MIN_TIME, content: BTreeMap::new() }
    }

    fn dropped_at(&self, window: &TimeWindow) -> EventTime {
        (window.end - 1).saturating_add(self.lateness)
    }

    fn windows(&self, time: EventTime) -> Vec<TimeWindow> {
        match self.kind {
            Kind::Session { gap } => vec![TimeWindow { start: time, end: time + gap }],
            Kind::Aligned { size, slide, offset } => (time - size + 1..=time)
                .filter(|start| (start - offset).rem_euclid(slide) == 0)
                .map(|start| TimeWindow { start, end: start + size })
                .collect(),
        }
    }

    /// What fires at once, in order of the windows' ends, and whether the record is late.
    pub(crate) fn element(&mut self, key: &str, time: EventTime, value: i64) -> (Vec<Fired>, bool) {
        let (mut fired, mut taken) = (Vec::new(), false);
        for window in self.windows(time) {
            let absorbed: Vec<TimeWindow> = match self.kind {
                Kind::Aligned { .. } => Vec::new(),
                Kind::Session { .. } => self
                    .content
                    .keys()
                    .filter(|(k, w)| k == key && w.start <= window.end && window.start <= w.end)
                    .map(|(_, w)| *w)
                    .collect(),
            };
            let window = absorbed.iter().fold(window, |merged, w| TimeWindow {
                start: merged.start.min(w.start),
                end: merged.end.max(w.end),
            });
            if self.dropped_at(&window) <= self.watermark {
                continue;
            }
            taken = true;
            let mut values: Vec<i64> = absorbed
                .iter()
                .flat_map(|w| self.content.remove(&(key.to_string(), *w)).unwrap())
                .collect();
            values.push(value);
            let held = self.content.entry((key.to_string(), window)).or_default();
            held.append(&mut values);
            if window.end - 1 <= self.watermark {
                fired.push((key.to_string(), window, held.clone()));
            }
        }
        (fired, !taken && time.saturating_add(self.lateness) <= self.watermark)
    }

    /// What fires, in order of the windows' ends.
    pub(crate) fn watermark(&mut self, watermark: EventTime) -> Vec<Fired> {
        if watermark <= self.watermark {
            return Vec::new();
        }
        let due = |w: &TimeWindow| w.end - 1 > self.watermark && w.end - 1 <= watermark;
        let mut fired: Vec<Fired> = self
            .content
            .iter()
            .filter(|((_, w), _)| due(w))
            .map(|((k, w), values)| (k.clone(), *w, values.clone()))
            .collect();
        fired.sort_by_key(|(_, w, _)| w.end);
        self.watermark = watermark;
        let over: Vec<_> =
            self.content.keys().filter(|(_, w)| self.dropped_at(w) <= watermark).cloned().collect();
        for window in over {
            self.content.remove(&window);
        }
        fired
    }
}
