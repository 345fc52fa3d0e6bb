//! Watching a folder: the enumerator of a file source without end.
//!
//! A look lists everything that the path means, and what was not there before is assigned, in order of the names. What
//! was seen is known by its path, and for ever: a file that is moved away and back is not read again, and neither
//! is one that is written anew under an old name. A folder says nothing else that could be trusted after a restore: times can be
//! the same or go back, and a listing has no order.
//!
//! So the state grows by a path per file, some ten bytes more than its length in every checkpoint. It is kept in order, and a
//! look costs a search per file that is there. The folder is listed by the enumerator's own task, as files are read by
//! their readers': nobody else waits for it but the barrier of a checkpoint.

use super::input::{is_gone, look};
use super::source::FileSplit;
use millstream_model::{Error, EventTime, Result};
use millstream_runtime::source::{
    Assignments, Enumeration, EnumeratorContext, OperatorListState, OperatorStateSet,
    SplitEnumerator, operator_states,
};
use std::path::PathBuf;
use std::time::Duration;

/// The paths that were assigned, in order.
const SEEN: OperatorListState<String> = OperatorListState::split("files");

/// See the module's text.
pub(super) struct Monitor {
    path: PathBuf,
    every_us: EventTime,
    next_look_us: EventTime,
    /// Whether there was something to look at.
    has_looked: bool,
}

impl Monitor {
    /// Looks at what a path means, at most so often.
    pub(super) fn new(path: PathBuf, every: Duration) -> Self {
        let every_us = EventTime::try_from(every.as_micros()).unwrap_or(EventTime::MAX);
        Monitor { path, every_us, next_look_us: EventTime::MIN, has_looked: false }
    }
}

impl SplitEnumerator<FileSplit> for Monitor {
    fn states(&self) -> OperatorStateSet {
        operator_states![SEEN]
    }

    fn open(&mut self, context: &EnumeratorContext<'_>) -> Result<()> {
        context.state(&SEEN).sort_unstable();
        Ok(())
    }

    fn poll(
        &mut self,
        context: &EnumeratorContext<'_>,
        out: &mut Assignments<FileSplit>,
    ) -> Result<Enumeration> {
        if context.now_us() < self.next_look_us {
            return Ok(Enumeration::Wait { until_us: self.next_look_us });
        }
        let mut seen = context.state(&SEEN);
        let mut new = Vec::new();
        let found = match look(&self.path) {
            // It was there: a file that was moved away, or a folder that will come back.
            Err(_) if (self.has_looked || !seen.is_empty()) && is_gone(&self.path) => Vec::new(),
            found => found?,
        };
        self.has_looked = true;
        for path in found {
            let Some(name) = path.to_str() else {
                return Err(Error::user(format!(
                    "the name of `{}` is no UTF-8, so it cannot be kept in a checkpoint: rename the file",
                    path.display()
                )));
            };
            if seen.binary_search_by(|known| known.as_str().cmp(name)).is_err() {
                new.push(name.to_string());
                out.assign(FileSplit::whole(path));
            }
        }
        if !new.is_empty() {
            seen.append(&mut new);
            // Two runs in order, which the sort merges.
            seen.sort();
        }
        // Looks do not follow each other without a pause, however long they take.
        self.next_look_us = context.now_us().saturating_add(self.every_us);
        Ok(Enumeration::Wait { until_us: self.next_look_us })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Surroundings;
    use crate::{FileSource, Paced};
    use millstream_runtime::source::{OperatorStates, Source};
    use std::fs;
    use std::path::Path;
    use std::sync::atomic::Ordering;

    /// An enumerator that is asked by hand, and what it has to remember.
    struct Asked {
        monitor: Monitor,
        states: OperatorStates,
        at: Surroundings,
        n_readers: usize,
    }

    impl Asked {
        fn new(path: &Path) -> Self {
            let monitor = Monitor::new(path.to_owned(), Duration::from_secs(1));
            let states = OperatorStates::new(monitor.states()).unwrap();
            Asked { monitor, states, at: Surroundings::new(0, 1), n_readers: 2 }
        }

        /// What is assigned at once, as reader and name.
        fn ask(&mut self) -> Result<Vec<(u32, String)>> {
            let context = EnumeratorContext::new(&self.at.operator, &self.states);
            let mut out = Assignments::new(self.n_readers);
            let found = self.monitor.poll(&context, &mut out)?;
            assert_eq!(found, Enumeration::Wait { until_us: self.monitor.next_look_us });
            let name = |split: FileSplit| split.path.file_name().unwrap().display().to_string();
            Ok(out.take().map(|a| (a.reader, name(a.split))).collect())
        }

        /// What is assigned a second later.
        fn later(&mut self) -> Result<Vec<(u32, String)>> {
            self.at.clock.0.fetch_add(1_000_000, Ordering::SeqCst);
            self.ask()
        }
    }

    fn of(assigned: &[(u32, &str)]) -> Vec<(u32, String)> {
        assigned.iter().map(|(reader, name)| (*reader, (*name).to_string())).collect()
    }

    #[test]
    fn files_are_assigned_once_in_order_of_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str| fs::write(dir.path().join(name), "").unwrap();
        let mut asked = Asked::new(dir.path());
        assert_eq!(asked.ask().unwrap(), []);
        ["b", "c", "a", ".hidden"].into_iter().for_each(write);
        // It is not time to look yet.
        assert_eq!(asked.ask().unwrap(), []);
        assert_eq!(asked.later().unwrap(), of(&[(0, "a"), (1, "b"), (0, "c")]));
        // One that was moved away and back, and one that was written anew, are what they were.
        fs::remove_file(dir.path().join("a")).unwrap();
        assert_eq!(asked.later().unwrap(), []);
        ["a", "b", "bb", "0"].into_iter().for_each(write);
        assert_eq!(asked.later().unwrap(), of(&[(0, "0"), (1, "bb")]));

        // After a restore the states are what they were, in whatever order.
        let mut restored = Asked::new(dir.path());
        let seen = std::mem::take(&mut *asked.states.of(&SEEN));
        restored.states.of(&SEEN).extend(seen.into_iter().rev());
        let context = EnumeratorContext::new(&restored.at.operator, &restored.states);
        restored.monitor.open(&context).unwrap();
        write("d");
        assert_eq!(restored.ask().unwrap(), of(&[(0, "d")]));
    }

    #[test]
    fn a_pattern_may_match_later_but_a_folder_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let mut asked = Asked::new(&dir.path().join("*/*.log"));
        assert_eq!(asked.ask().unwrap(), []);
        fs::create_dir(dir.path().join("new")).unwrap();
        fs::write(dir.path().join("new/a.log"), "").unwrap();
        fs::write(dir.path().join("new/a.txt"), "").unwrap();
        assert_eq!(asked.later().unwrap(), of(&[(0, "a.log")]));
        fs::remove_dir_all(dir.path().join("new")).unwrap();
        assert_eq!(asked.later().unwrap(), []);
        let error = Asked::new(&dir.path().join("missing")).ask().unwrap_err().to_string();
        assert!(error.contains("there is no file"), "{error}");
    }

    #[test]
    fn what_was_there_may_be_moved_away() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("today.log");
        fs::write(&file, "").unwrap();
        let mut asked = Asked::new(&file);
        assert_eq!(asked.ask().unwrap(), of(&[(0, "today.log")]));
        fs::remove_file(&file).unwrap();
        assert_eq!(asked.later().unwrap(), []);
        // Nor does a restore need it.
        let mut restored = Asked::new(&file);
        restored.states.of(&SEEN).push(file.to_str().unwrap().to_string());
        assert_eq!(restored.ask().unwrap(), []);
    }

    #[cfg(unix)]
    #[test]
    fn a_name_that_cannot_be_kept_is_refused() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
        let error = Asked::new(dir.path()).ask().unwrap_err().to_string();
        assert!(error.contains("is no UTF-8"), "{error}");
    }

    #[test]
    fn only_a_source_that_goes_on_looking_has_an_enumerator() {
        let once = FileSource::lines("in").strings();
        let on = || FileSource::lines("in").monitor_continuously(Duration::from_secs(1)).strings();
        assert!(once.is_bounded() && once.enumerator().is_none());
        assert!(!on().is_bounded() && on().enumerator().is_some() && on().size_hint().is_none());
        assert!(on().results().enumerator().is_some() && !on().results().is_bounded());
        let paced = Paced::new(on(), 10);
        assert!(paced.enumerator().is_some_and(|e| OperatorStates::new(e.states()).is_ok()));
    }
}
