//! Real crashes: a process that takes checkpoints into a directory dies at every failpoint, every time it
//! passes it, and what it leaves behind is looked at.

use super::*;
use crate::failpoint;
use crate::snapshot::tools::verify;
use std::path::Path;
use std::process::Command;

const THIS_TEST: &str =
    "snapshot::tests::crash::a_crash_at_any_failpoint_leaves_whole_checkpoints_only";
const FOLDER: &str = "MILLSTREAM_TEST_FOLDER";

/// Two checkpoints, with a file of both, the first of which is swept.
fn story(dir: &Path) -> Result<()> {
    let storage = LocalStorage::new(dir.join("checkpoints"))?;
    let local = dir.join("local");
    std::fs::write(&local, b"a local file")?;
    let imported = import(&storage, &local, "chk-1-1/imported")?;
    store(&storage, 1, 1, std::slice::from_ref(&imported))?;
    let second = store(&storage, 2, 1, &[imported])?;
    sweep(&storage, &[&second], &[], u64::MAX).map(drop)
}

/// Runs itself again in processes that die.
#[test]
fn a_crash_at_any_failpoint_leaves_whole_checkpoints_only() {
    if let Some(dir) = std::env::var_os(FOLDER) {
        story(Path::new(&dir)).unwrap();
        return;
    }
    let of_storage = |name: &&&str| name.starts_with("storage.") || name.starts_with("manifest.");
    for name in failpoint::NAMES.iter().filter(of_storage) {
        let n_passed = (1..).find(|n| !crashes(name, *n)).unwrap() - 1;
        assert!(n_passed > 0, "the story does not pass {name}");
    }
}

/// Whether the story dies at the `n`-th time it passes a failpoint. What it left is looked at.
fn crashes(name: &str, n: usize) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", THIS_TEST, "--nocapture"]).env(FOLDER, dir.path());
    let output = child.env(failpoint::VARIABLE, format!("{name}:{n}")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let died = said.contains(&format!("failpoint {name} reached"));
    assert_eq!(output.status.success(), !died, "{name}:{n}: {said}");

    let storage = LocalStorage::new(dir.path().join("checkpoints")).unwrap();
    for folder in completed(&storage).unwrap() {
        let problems = verify(&storage, &folder);
        assert!(problems.is_empty(), "{name}:{n}: {problems:?}");
    }
    let newest = latest(&storage, false).unwrap();
    let keep: Vec<&Manifest> = newest.iter().map(|newest| &newest.manifest).collect();
    sweep(&storage, &keep, &[], u64::MAX).unwrap();
    let mut named: Vec<String> = Vec::new();
    if let Some(newest) = &newest {
        named.extend(newest.manifest.files().map(|file| file.path.clone()));
        named.push(format!("{}/manifest", newest.folder));
    }
    named.sort_unstable();
    named.dedup();
    assert_eq!(storage.list("").unwrap(), named, "{name}:{n}");
    // The next run goes on where this one died, under the next number.
    store(&storage, 3, 1, &[]).unwrap();
    assert_eq!(latest(&storage, false).unwrap().unwrap().folder, "chk-3-1");
    died
}
