//! Damage to a checkpoint: to each kind of file of both backends, in each way. A job that is to go on from it ends with an error
//! that names the file, and no record has come through its operators before.

use super::recovery::{N_KEYS, UNHURRIED, environment};
use super::restores::{checkpoints, files, run_for_a_while, told, way};
use super::until;
use millstream::prelude::*;
use millstream_state::snapshot::{LocalStorage, read_manifest};
use millstream_tests::crash::BACKENDS;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a file is, by its name.
fn kind_of(path: &Path) -> &'static str {
    let name = path.file_name().unwrap().to_str().unwrap();
    match (path.display().to_string().contains(".tree"), name) {
        (false, "manifest") => "manifest",
        (false, _) => "state file",
        (true, name) if name.ends_with(".sst") => "table of a tree",
        (true, name) if name.starts_with("MANIFEST") => "manifest of a tree",
        (true, name) if name.starts_with("CURRENT") => "current of a tree",
        (true, name) if name.starts_with("OPTIONS") => "options of a tree",
        (true, name) if name.ends_with(".log") => "log of a tree",
        (true, name) => panic!("what is `{name}`?"),
    }
}

/// A way to damage a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// One bit of its middle is flipped.
    Flipped,
    /// Its second half is missing.
    Truncated,
    Emptied,
    Missing,
    /// In its place lies another one of its kind.
    Swapped,
}

impl Damage {
    const ALL: [Damage; 5] =
        [Damage::Flipped, Damage::Truncated, Damage::Emptied, Damage::Missing, Damage::Swapped];

    /// What is left of a file, if anything; `None` if there is nothing to put into its place.
    fn of(self, mut bytes: Vec<u8>, other: Option<&PathBuf>) -> Option<Option<Vec<u8>>> {
        let middle = bytes.len() / 2;
        match self {
            Damage::Flipped => bytes[middle] ^= 1,
            Damage::Truncated => bytes.truncate(middle),
            Damage::Emptied => bytes.clear(),
            Damage::Missing => return Some(None),
            Damage::Swapped => bytes = std::fs::read(other?).unwrap(),
        }
        Some(Some(bytes))
    }
}

fn copy(from: &Path, to: &Path) {
    for path in files(from) {
        let there = to.join(path.strip_prefix(from).unwrap());
        std::fs::create_dir_all(there.parent().unwrap()).unwrap();
        std::fs::copy(path, there).unwrap();
    }
}

/// A keyed job of four tasks, with state in each; what comes out of its operators is counted.
fn job(
    dir: &Path,
    backend: &str,
    rate: u64,
    more: &[(&str, &str)],
) -> (Environment, Arc<AtomicU64>) {
    // Tasks restore one after the other, and each has a thread on which it could go on.
    let mut settings =
        vec![("state-backend", backend), ("restart-strategy", "none"), ("driver", "threads")];
    settings.extend(more);
    let env = environment(way(2), dir, &settings);
    let n_seen = Arc::new(AtomicU64::new(0));
    let counted = || {
        let n_seen = Arc::clone(&n_seen);
        move |record| {
            n_seen.fetch_add(1, Ordering::SeqCst);
            record
        }
    };
    let numbers = Generator::new(1_000_000, |i| i).rate(rate);
    env.source(numbers, Watermarks::none())
        .uid("numbers")
        .map(counted())
        .uid("read")
        .key_by(|i| i % N_KEYS)
        .count()
        .uid("counts")
        .map({
            let counted = counted();
            move |(key, n): (u64, u64)| (counted(key), n)
        })
        .uid("shown")
        .discard();
    (env, n_seen)
}

#[test]
fn every_kind_of_damage_is_found_before_a_record_is_emitted() {
    let mut wrong = Vec::new();
    for backend in BACKENDS {
        let dir = tempfile::tempdir().unwrap();
        let (first, n_seen) = job(dir.path(), backend, UNHURRIED, &[("checkpoints-retained", "2")]);
        run_for_a_while(&first, dir.path(), 4);
        assert!(n_seen.load(Ordering::SeqCst) > 0);
        let newest = checkpoints(dir.path()).pop().unwrap();
        let folder = newest.file_name().unwrap().to_str().unwrap();
        let manifest = read_manifest(&LocalStorage::new(dir.path()).unwrap(), folder).unwrap();
        let named = manifest.files().map(|file| dir.path().join(&file.path));
        let mut of_kind: BTreeMap<&str, Vec<PathBuf>> = BTreeMap::new();
        for path in named.chain([newest.join("manifest")]) {
            of_kind.entry(kind_of(&path)).or_default().push(path);
        }
        let kinds: Vec<&str> = of_kind.keys().copied().collect();
        match *backend {
            "memory" => assert_eq!(kinds, ["manifest", "state file"]),
            _ => assert!(kinds.contains(&"table of a tree") && kinds.len() > 4, "{kinds:?}"),
        }
        let all = files(dir.path());
        for (kind, paths) in of_kind {
            // The last: others may have been restored by then.
            let path = paths.last().unwrap();
            let whole = std::fs::read(path).unwrap();
            let differs =
                |other: &&PathBuf| kind_of(other) == kind && std::fs::read(other).unwrap() != whole;
            let other = all.iter().find(differs);
            for damage in Damage::ALL {
                let Some(left) = damage.of(whole.clone(), other) else { continue };
                let what = format!("{backend}: {kind} {damage:?}");
                let damaged = tempfile::tempdir().unwrap();
                copy(dir.path(), damaged.path());
                let path = damaged.path().join(path.strip_prefix(dir.path()).unwrap());
                std::fs::remove_file(&path).unwrap();
                if let Some(bytes) = left {
                    std::fs::write(&path, bytes).unwrap();
                }
                let restore = [("restore", "latest")];
                let (env, n_seen) = job(damaged.path(), backend, 1_000_000, &restore);
                let told =
                    env.execute("restored").map_or_else(|error| told(&error), |_| "nothing".into());
                let n_seen = n_seen.load(Ordering::SeqCst);
                if !told.contains(&path.display().to_string()) || n_seen > 0 {
                    wrong.push(format!("{what}: {n_seen} records, told {told}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What another job has claimed is not missed: its newest checkpoint is its own affair.
#[test]
fn a_checkpoint_that_another_job_has_claimed_is_not_missed() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [("checkpoints-retained", "1")];
    let (first, _) = job(&dir.path().join("first"), "memory", UNHURRIED, &settings);
    run_for_a_while(&first, &dir.path().join("first"), 3);
    let newest = checkpoints(&dir.path().join("first")).pop().unwrap();
    let place = newest.display().to_string();
    let claims = [("restore", place.as_str()), ("restore-mode", "claim")];
    let (second, n_seen) = job(&dir.path().join("second"), "memory", 1_000_000, &claims);
    second.execute("second").unwrap();
    assert!(n_seen.load(Ordering::SeqCst) > 0);
    assert_eq!(files(&dir.path().join("first")), [""; 0].map(PathBuf::from));
    let (third, _) = job(&dir.path().join("first"), "memory", 1_000_000, &[]);
    third.execute("third").unwrap();
}

/// What was passed over stays until there is something newer, so that it can be mended.
#[test]
fn a_damaged_checkpoint_is_there_to_be_mended_until_there_is_a_newer_one() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = job(dir.path(), "memory", UNHURRIED, &[("checkpoints-retained", "2")]);
    run_for_a_while(&first, dir.path(), 3);
    let newest = checkpoints(dir.path()).pop().unwrap();
    let damaged = files(&newest).into_iter().max().unwrap();
    let whole = std::fs::read(&damaged).unwrap();
    std::fs::write(&damaged, &whole[..whole.len() / 2]).unwrap();
    let allowed = [("restore", "latest"), ("allow-older", "true"), ("checkpoint-interval", "1h")];
    let (second, n_seen) = job(dir.path(), "memory", UNHURRIED, &allowed);
    let running = second.execute_async("second").unwrap();
    until("records were read", || n_seen.load(Ordering::SeqCst) > 0);
    running.cancel();
    running.wait().unwrap();
    let (third, _) = job(dir.path(), "memory", 1_000_000, &[("restore", "latest")]);
    let told = told(&third.execute("third").unwrap_err());
    assert!(told.contains(&damaged.display().to_string()), "{told}");
    std::fs::write(&damaged, &whole).unwrap();
    let (fourth, n_seen) = job(dir.path(), "memory", 1_000_000, &[("restore", "latest")]);
    fourth.execute("fourth").unwrap();
    assert!(n_seen.load(Ordering::SeqCst) > 0);
}

#[test]
fn a_stop_whose_savepoint_is_damaged_is_passed_over_if_that_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("own");
    let (first, _) = job(&own, "memory", UNHURRIED, &[]);
    let running = first.execute_async("first").unwrap();
    until("a checkpoint was completed", || running.status().last_checkpoint.is_some());
    let savepoint = running.stop_with_savepoint(dir.path().join("saved"), false).unwrap();
    running.wait().unwrap();
    let damaged = files(&savepoint).into_iter().max().unwrap();
    std::fs::write(&damaged, b"").unwrap();
    let (second, n_seen) = job(&own, "memory", 1_000_000, &[("restore", "latest")]);
    let told = told(&second.execute("second").unwrap_err());
    assert!(told.contains(&damaged.display().to_string()), "{told}");
    assert_eq!(n_seen.load(Ordering::SeqCst), 0);
    let allowed = [("restore", "latest"), ("allow-older", "true")];
    let (third, _) = job(&own, "memory", 1_000_000, &allowed);
    let running = third.execute_async("third").unwrap();
    assert_eq!(running.status().passed_over, [savepoint.display().to_string()]);
    running.wait().unwrap();
}

#[test]
fn a_savepoint_may_be_asked_for_while_state_is_restored() {
    for backend in BACKENDS {
        let dir = tempfile::tempdir().unwrap();
        let (first, _) = job(dir.path(), backend, UNHURRIED, &[]);
        run_for_a_while(&first, dir.path(), 3);
        let (second, _) = job(dir.path(), backend, UNHURRIED, &[("restore", "latest")]);
        let running = second.execute_async("second").unwrap();
        let stopped = running.stop_with_savepoint(dir.path().join("saved"), false);
        assert!(stopped.unwrap().join("manifest").is_file(), "{backend}");
        running.wait().unwrap();
    }
}

#[test]
fn a_checkpoint_without_its_manifest_is_not_replaced_by_an_older_one_unless_that_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = job(dir.path(), "memory", UNHURRIED, &[("checkpoints-retained", "2")]);
    run_for_a_while(&first, dir.path(), 3);
    let newest = checkpoints(dir.path()).pop().unwrap();
    std::fs::remove_dir_all(&newest).unwrap();
    let run = |settings: &[(&str, &str)]| {
        let (env, n_seen) = job(dir.path(), "memory", 1_000_000, settings);
        let ended = env.execute_async("restored").and_then(|job| {
            let passed_over = job.status().passed_over;
            job.wait().map(|_| passed_over)
        });
        (ended, n_seen.load(Ordering::SeqCst))
    };
    let place = newest.display().to_string();
    let (refused, n_seen) = run(&[("restore", "latest")]);
    let error = refused.unwrap_err().to_string();
    assert!(error.contains(&place) && error.contains("allow-older"), "{error}");
    let (refused, _) = run(&[]);
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("checkpoints of an earlier run"), "{error}");
    assert_eq!(n_seen, 0);

    let (passed_over, n_seen) = run(&[("restore", "latest"), ("allow-older", "true")]);
    assert_eq!(passed_over.unwrap(), [place]);
    assert!(n_seen > 0);
    // With a newer checkpoint nothing is lacking any more.
    let (finished, n_seen) = run(&[("restore", "latest")]);
    assert_eq!((finished.unwrap().len(), n_seen), (0, 0));
}
