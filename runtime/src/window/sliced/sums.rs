//! The contents of several windows of one key, each at once: for windows that a late record makes fire.
//!
//! Two stacks: the front one holds sums of what is still to leave, the back one a sum of what entered since
//! the front was last filled. Every part is merged a fixed number of times, however many windows it is in.

use super::super::time_window::TimeWindow;
use super::Merge;
use millstream_model::EventTime;

/// The sum of the parts in each of these windows, for windows and parts in order of time. A part begins at
/// the given time and lies in a window or outside of it as a whole. A window without parts is left out.
pub(super) fn sums<Acc: Clone>(
    merge: &impl Merge<Acc>,
    parts: &[(EventTime, &Acc)],
    windows: &[TimeWindow],
) -> Vec<(TimeWindow, Acc)> {
    let mut found = Vec::with_capacity(windows.len());
    let mut front: Vec<Acc> = Vec::new();
    let mut back: Option<Acc> = None;
    let (mut left, mut entered) = (0, 0);
    for window in windows {
        while let Some((_, part)) = parts.get(entered).filter(|p| p.0 < window.end) {
            add(merge, &mut back, part);
            entered += 1;
        }
        while left < entered && parts[left].0 < window.start {
            if front.is_empty() {
                for (_, part) in parts[left..entered].iter().rev() {
                    let mut sum = Some((*part).clone());
                    if let Some(later) = front.last() {
                        add(merge, &mut sum, later);
                    }
                    front.extend(sum);
                }
                back = None;
            }
            front.pop();
            left += 1;
        }
        let mut sum = front.last().cloned();
        if let Some(back) = &back {
            add(merge, &mut sum, back);
        }
        found.extend(sum.map(|sum| (*window, sum)));
    }
    found
}

/// Merges into what may be nothing yet.
pub(super) fn add<Acc: Clone>(merge: &impl Merge<Acc>, sum: &mut Option<Acc>, other: &Acc) {
    match sum {
        Some(sum) => merge.merge(sum, other),
        None => *sum = Some(other.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Concat;

    impl Merge<Vec<i64>> for Concat {
        fn merge(&self, acc: &mut Vec<i64>, other: &Vec<i64>) {
            acc.extend(other);
            acc.sort_unstable();
        }
        fn retract(&self, _: &mut Vec<i64>, _: &Vec<i64>) -> bool {
            false
        }
    }

    #[test]
    fn each_window_gets_its_parts() {
        let accs: Vec<Vec<i64>> = [0, 1, 2, 5, 6, 9].iter().map(|t| vec![*t]).collect();
        let parts: Vec<_> = accs.iter().map(|acc| (acc[0], acc)).collect();
        let windows: Vec<_> = (-3..12).map(|start| TimeWindow { start, end: start + 4 }).collect();
        let expected: Vec<_> = windows
            .iter()
            .map(|w| (*w, parts.iter().map(|p| p.0).filter(|t| w.start <= *t && *t < w.end)))
            .map(|(w, times)| (w, times.collect::<Vec<_>>()))
            .filter(|(_, times)| !times.is_empty())
            .collect();
        assert_eq!(sums(&Concat, &parts, &windows), expected);
    }
}
