//! Checkpoints at rest, made by a job of a few lines.

use crate::world::{Ran, millstream};
use millstream::prelude::*;
use std::path::{Path, PathBuf};

/// The one checkpoint that a bounded job leaves.
fn checkpoint(dir: &Path, backend: &str) -> PathBuf {
    let env = Environment::builder()
        .parallelism(2)
        .set("state-backend", backend)
        .set("checkpoint-dir", dir.to_str().unwrap())
        .build()
        .unwrap();
    env.generate(1000, |i| i).key_by(|i| i % 7).count().uid("counts").discard();
    env.execute("numbers").unwrap();
    let manifest =
        |entry: std::fs::DirEntry| entry.path().join("manifest").exists().then(|| entry.path());
    let mut found: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(Result::unwrap).filter_map(manifest).collect();
    assert_eq!(found.len(), 1);
    found.pop().unwrap()
}

#[test]
fn a_checkpoint_is_shown_and_checked_without_a_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let path = checkpoint(dir.path(), "memory");
    let run = |line: String| Ran::of(&mut millstream(&line));
    let shown = run(format!("inspect {}", path.display())).expect(0).out;
    assert!(shown.contains("numbers") && shown.contains("counts"), "{shown}");
    let json = run(format!("inspect --json {}", path.display())).expect(0).out;
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["job"], "numbers");
    for folder in [&path, dir.path()] {
        let verdict = run(format!("verify {}", folder.display())).expect(0).out;
        assert!(verdict.ends_with(" whole\n"), "{verdict}");
    }

    let mut manifest = std::fs::read(path.join("manifest")).unwrap();
    let middle = manifest.len() / 2;
    manifest[middle] ^= 1;
    std::fs::write(path.join("manifest"), manifest).unwrap();
    let damaged = run(format!("verify {}", path.display())).expect(6);
    assert!(damaged.out.contains("DAMAGED"), "{damaged:?}");
    let json = run(format!("verify --json {}", path.display())).expect(6).out;
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value[0]["problems"].as_array().unwrap().len(), 1);
    run(format!("inspect {}", path.display())).expect(6);
    run(format!("verify {}", dir.path().join("absent").display())).expect(4);
}

#[cfg(feature = "rocksdb")]
#[test]
fn what_lies_in_trees_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = checkpoint(dir.path(), "rocksdb");
    let run = |line: String| Ran::of(&mut millstream(&line));
    let json = run(format!("inspect --json {}", path.display())).expect(0).out;
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["counts-trees"], true);
    let parts = value["parts"].as_array().unwrap();
    let counts = parts.iter().find(|part| part["operator"] == "counts" && part["kind"] == "Keyed");
    assert_eq!(counts.unwrap()["entries"], 7, "{json}");
    let shown = run(format!("inspect {}", path.display())).expect(0).out;
    assert!(shown.ends_with("are counted.\n"), "{shown}");

    // What can be told is told all the same.
    let trees = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
    let tree =
        trees.into_iter().find(|path| path.extension().is_some_and(|e| e == "tree")).unwrap();
    std::fs::remove_dir_all(&tree).unwrap();
    let shown = run(format!("inspect {}", path.display())).expect(0).out;
    let name = tree.display().to_string();
    assert!(shown.contains("cannot be counted") && shown.contains(&name), "{shown}");
    run(format!("verify {}", path.display())).expect(6);
    std::fs::remove_dir_all(&path).unwrap();
    // Its mark tells that it was there.
    let verdict = run(format!("verify {}", dir.path().display())).expect(6).out;
    assert!(verdict.contains("DAMAGED") && verdict.contains("manifest"), "{verdict}");
}
