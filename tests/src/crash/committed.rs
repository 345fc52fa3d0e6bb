//! What a reader of `part-*` has seen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::compare::{self, Mismatch};

/// What a reader of `part-*` has seen so far.
#[derive(Debug, Default)]
pub(super) struct Committed {
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Committed {
    pub(super) fn n_files(&self) -> usize {
        self.files.len()
    }

    /// Reads the results in `out` again: what was read before is still the same, nothing is there that is not
    /// expected, and if `whole` nothing is missing.
    pub(super) fn look(
        &mut self,
        out: &Path,
        expected: &[(&'static str, Vec<u8>)],
        whole: bool,
    ) -> Result<(), String> {
        let now = read(out, expected, whole)?;
        self.holds(|path, content| now.get(path) == Some(content))?;
        self.files = now;
        Ok(())
    }

    /// The same of output that may not be on the disk yet: what is gone now may come back, until the next [`look`](Self::look).
    pub(super) fn glance(
        &mut self,
        out: &Path,
        expected: &[(&'static str, Vec<u8>)],
    ) -> Result<(), String> {
        let now = read(out, expected, false)?;
        self.holds(|path, content| now.get(path).is_none_or(|now| now == content))?;
        self.files.extend(now);
        Ok(())
    }

    fn holds(&self, is_so: impl Fn(&PathBuf, &Vec<u8>) -> bool) -> Result<(), String> {
        match self.files.iter().find(|(path, content)| !is_so(path, content)) {
            Some((path, _)) => {
                Err(format!("{} was committed and is changed or gone", path.display()))
            }
            None => Ok(()),
        }
    }
}

/// The committed files in `out`: nothing is in them that is not expected, and if `whole` nothing is missing.
fn read(
    out: &Path,
    expected: &[(&'static str, Vec<u8>)],
    whole: bool,
) -> Result<BTreeMap<PathBuf, Vec<u8>>, String> {
    let said = |mismatch: Mismatch| mismatch.to_string();
    let mut files = BTreeMap::new();
    for (name, expected) in expected {
        let mut parts = Vec::new();
        for path in compare::part_files(&out.join(name)).map_err(said)? {
            parts.push((compare::read(&path).map_err(said)?, path));
        }
        let lines = parts.iter().flat_map(|(content, _)| compare::lines(content)).collect();
        match compare::compare_lines(expected, lines) {
            Err(difference) if whole || difference.n_unexpected > 0 => {
                return Err(format!("{name}: {difference}"));
            }
            _ => files.extend(parts.into_iter().map(|(content, path)| (path, content))),
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: &[u8] = b"header\na\nb\nb\n";

    /// What the reader says of the folder `R` with these files, after it has read those of the first round.
    fn looks(rounds: &[&[(&str, &str)]], whole: bool) -> Result<(), String> {
        let out = tempfile::tempdir().unwrap();
        let dir = out.path().join("R");
        let mut committed = Committed::default();
        for (round, files) in rounds.iter().enumerate() {
            let _ = std::fs::remove_dir_all(&dir);
            std::fs::create_dir(&dir).unwrap();
            files.iter().for_each(|(name, text)| std::fs::write(dir.join(name), text).unwrap());
            let is_last = round + 1 == rounds.len();
            committed.look(out.path(), &[("R", EXPECTED.to_vec())], whole && is_last)?;
        }
        Ok(())
    }

    #[test]
    fn what_is_committed_may_only_grow_towards_what_is_expected() {
        let begun: &[(&str, &str)] = &[("part-1-0-0", "b\n"), (".part-1-1-0.pending", "c\n")];
        let all: &[(&str, &str)] = &[("part-1-0-0", "b\n"), ("part-2-0-0", "a\nb\n")];
        assert_eq!(looks(&[&[], begun, all], true), Ok(()));
        assert_eq!(looks(&[begun], false), Ok(()));
    }

    #[test]
    fn what_is_wrong_is_seen() {
        let begun: &[(&str, &str)] = &[("part-1-0-0", "b\n")];
        let cases: [(&[&[(&str, &str)]], &str); 4] = [
            (&[begun], "2 missing"),
            (&[&[("part-1-0-0", "b\nb\nb\n")]], "1 unexpected"),
            (&[begun, &[("part-1-0-0", "b\na\nb\n")]], "changed or gone"),
            (&[begun, &[("part-2-0-0", "b\na\nb\n")]], "changed or gone"),
        ];
        for (rounds, problem) in cases {
            let said = looks(rounds, true).unwrap_err();
            assert!(said.contains(problem), "{said}");
        }
    }

    #[test]
    fn what_is_seen_in_passing_may_come_back_later_but_must() {
        let out = tempfile::tempdir().unwrap();
        let part = out.path().join("R/part-1-0-0");
        std::fs::create_dir(out.path().join("R")).unwrap();
        let expected = [("R", EXPECTED.to_vec())];
        let mut committed = Committed::default();
        std::fs::write(&part, "b\n").unwrap();
        committed.glance(out.path(), &expected).unwrap();
        std::fs::remove_file(&part).unwrap();
        committed.glance(out.path(), &expected).unwrap();
        std::fs::write(&part, "a\n").unwrap();
        assert!(committed.glance(out.path(), &expected).unwrap_err().contains("changed"));
        std::fs::write(out.path().join("R/part-2-0-0"), "b\nb\n").unwrap();
        assert!(committed.look(out.path(), &expected, true).unwrap_err().contains("changed"));
        std::fs::write(&part, "b\n").unwrap();
        std::fs::write(out.path().join("R/part-2-0-0"), "a\nb\n").unwrap();
        committed.look(out.path(), &expected, true).unwrap();
    }
}
