//! What every checkpoint storage promises, held against each; and what only one of them does.

use super::*;
use crate::snapshot::memory::Fault;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Runs a test on an empty storage of every kind.
fn on_each(test: impl Fn(&dyn CheckpointStorage, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    let scratch = dir.path().join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    test(&LocalStorage::new(dir.path().join("a/b")).unwrap(), &scratch);
    let scratch = dir.path().join("scratch of memory");
    std::fs::create_dir(&scratch).unwrap();
    test(&MemoryStorage::new(), &scratch);
}

fn local_file(scratch: &Path, bytes: &[u8]) -> PathBuf {
    let path = scratch.join("000017.table");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn an_object_appears_when_it_is_finished() {
    on_each(|storage, _| {
        let mut writer = storage.create("chk-1-1/a").unwrap();
        writer.write(b"hello, ").unwrap();
        writer.write(b"world").unwrap();
        assert!(storage.open("chk-1-1/a").is_err());
        let file = writer.finish().unwrap();
        // XXH3-128 of these bytes, as `xxhsum -H2` prints it.
        assert_eq!((file.path.as_str(), file.bytes), ("chk-1-1/a", 12));
        assert_eq!(file.digest, "11c83d9c1ee368164c0abe17b55db69c");
        assert_eq!(storage.read_all(&file).unwrap(), b"hello, world");
        assert_eq!(storage.list("").unwrap(), ["chk-1-1/a"]);
        let empty = storage.create("empty").unwrap().finish().unwrap();
        assert_eq!((storage.read_all(&empty).unwrap(), empty.bytes), (Vec::new(), 0));
    });
}

#[test]
fn an_object_dropped_unfinished_was_never_there() {
    on_each(|storage, _| {
        let mut writer = storage.create("chk-1-1/a").unwrap();
        writer.write(&[7; 100_000]).unwrap();
        drop(writer);
        assert_eq!(storage.list("").unwrap(), [""; 0]);
        storage.publish("chk-1-1/a", b"second try").unwrap();
        assert_eq!(raw(storage, "chk-1-1/a"), b"second try");
    });
}

#[test]
fn what_is_there_is_never_overwritten() {
    on_each(|storage, scratch| {
        let (first, second) = (storage.create("a").unwrap(), storage.create("a").unwrap());
        first.finish().unwrap();
        let is_refused = |result: Result<()>| {
            let error = result.unwrap_err().to_string();
            assert!(error.contains("a` is there already"), "{error}");
        };
        is_refused(second.finish().map(drop));
        is_refused(storage.create("a").map(drop));
        is_refused(storage.publish("a", b"x"));
        is_refused(import(storage, &local_file(scratch, b"x"), "a").map(drop));
        assert_eq!(raw(storage, "a"), b"");
        assert_eq!(storage.list("").unwrap(), ["a"]);
    });
}

#[test]
fn of_many_who_publish_at_once_one_succeeds() {
    on_each(|storage, _| {
        let publish = |n: u8| storage.publish("chk-1-1/manifest", &[n; 1000]).is_ok();
        let winners: Vec<u8> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|n| (n, scope.spawn(move || publish(n)))).collect();
            let won = threads.into_iter().filter_map(|(n, t)| t.join().unwrap().then_some(n));
            won.collect()
        });
        assert_eq!(winners.len(), 1, "{winners:?}");
        assert_eq!(raw(storage, "chk-1-1/manifest"), [winners[0]; 1000]);
        assert_eq!(storage.list("").unwrap(), ["chk-1-1/manifest"]);
    });
}

#[test]
fn a_local_file_is_taken_in() {
    on_each(|storage, scratch| {
        let local = local_file(scratch, b"hello, world");
        let file = import(storage, &local, "chk-1-1/t").unwrap();
        assert_eq!(file.digest, "11c83d9c1ee368164c0abe17b55db69c");
        std::fs::remove_file(&local).unwrap();
        assert_eq!(storage.read_all(&file).unwrap(), b"hello, world");
        let error = import(storage, &local, "chk-1-1/u").unwrap_err().to_string();
        assert!(error.contains("000017.table"), "{error}");
        assert_eq!(storage.list("").unwrap(), ["chk-1-1/t"]);
    });
}

#[test]
fn of_many_local_files_each_is_taken_in_under_its_path() {
    on_each(|storage, scratch| {
        let paths = ["chk-1-1/b", "chk-1-1/x/a", "chk-2-1/c"];
        let local = paths.map(|path| {
            let local = scratch.join(path.replace('/', "."));
            std::fs::write(&local, path).unwrap();
            (local, path.to_owned())
        });
        let files = storage.import_all(&local).unwrap();
        assert_eq!(files.iter().map(|file| &*file.path).collect::<Vec<_>>(), paths);
        for (file, path) in files.iter().zip(paths) {
            assert_eq!(storage.read_all(file).unwrap(), path.as_bytes());
        }
        assert_eq!(storage.import_all(&[]).unwrap(), []);
    });
}

#[test]
fn paths_are_listed_by_prefix_and_deleted() {
    on_each(|storage, _| {
        for path in ["chk-2-1/b", "chk-10-1/manifest", "chk-2-1/a", "chk-2-1/x/y", "other"] {
            storage.publish(path, path.as_bytes()).unwrap();
        }
        let all = ["chk-10-1/manifest", "chk-2-1/a", "chk-2-1/b", "chk-2-1/x/y", "other"];
        assert_eq!(storage.list("").unwrap(), all);
        assert_eq!(storage.list("chk-").unwrap(), all[..4]);
        assert_eq!(storage.list("chk-2-1/").unwrap(), all[1..4]);
        assert_eq!(storage.list("chk-2-1/x/y").unwrap(), all[3..4]);
        assert_eq!(storage.list("none/at/all").unwrap(), [""; 0]);
        for _ in 0..2 {
            storage.delete("chk-2-1/a").unwrap();
            storage.delete("chk-2-1/x/y").unwrap();
        }
        assert_eq!(storage.list("").unwrap(), ["chk-10-1/manifest", "chk-2-1/b", "other"]);
        storage.publish("chk-2-1/a", b"again").unwrap();
        assert_eq!(raw(storage, "chk-2-1/a"), b"again");
        let all = ["chk-2-1/b", "chk-10-1/manifest", "none", "chk-2-1/a"].map(str::to_owned);
        storage.delete_all(&all).unwrap();
        assert_eq!(storage.list("").unwrap(), ["other"]);
    });
}

#[test]
fn paths_stay_within_the_storage() {
    on_each(|storage, scratch| {
        let file = |path: &str| FileRef { path: path.to_owned(), bytes: 0, digest: String::new() };
        let local = local_file(scratch, b"");
        for path in ["", "/etc/passwd", "..", "a/../../b", "./a", "a//b", "a/", "a\\b", "a\0"] {
            let errors = [
                storage.create(path).map(drop),
                import(storage, &local, path).map(drop),
                storage.read(&file(path)).map(drop),
                storage.open(path).map(drop),
                storage.publish(path, b""),
                storage.delete(path),
            ];
            for error in errors {
                let error = error.unwrap_err().to_string();
                assert!(error.contains("is not a path within"), "{path:?}: {error}");
            }
        }
        assert_eq!(storage.list("").unwrap(), [""; 0]);
    });
}

#[test]
fn what_is_read_is_held_to_its_length_and_digest() {
    on_each(|storage, _| {
        let good = {
            let mut writer = storage.create("chk-1-1/a").unwrap();
            writer.write(b"hello, world").unwrap();
            writer.finish().unwrap()
        };
        let fails = |file: &FileRef, what: &str| {
            let error = storage.read_all(file).unwrap_err().to_string();
            assert!(error.contains("chk-1-1/a") && error.contains(what), "{what}: {error}");
        };
        fails(&FileRef { bytes: 11, ..good.clone() }, "longer than the checkpoint says");
        fails(&FileRef { bytes: 13, ..good.clone() }, "12 bytes instead of 13");
        fails(
            &FileRef { digest: "0".repeat(32), ..good.clone() },
            "its digest is 11c83d9c1ee368164c0abe17b55db69c",
        );
        storage.delete("chk-1-1/a").unwrap();
        fails(&good, "not complete");
    });
}

#[test]
fn a_reader_checks_where_it_ends() {
    let storage = MemoryStorage::new();
    storage.publish("a", &[1, 2, 3]).unwrap();
    let wrong = FileRef { path: "a".to_owned(), bytes: 3, digest: "0".repeat(32) };
    let mut reader = storage.read(&wrong).unwrap();
    let mut buffer = [0; 3];
    assert_eq!(reader.read(&mut buffer).unwrap(), 3);
    assert_eq!(reader.read(&mut []).unwrap(), 0);
    let error = read_error("a", reader.read(&mut buffer).unwrap_err());
    assert!(error.message().starts_with("`a` does not hold what was written"), "{error}");
}

#[test]
fn a_directory_links_what_it_takes_in_and_leaves_no_empty_folders() {
    let dir = tempfile::tempdir().unwrap();
    let storage = LocalStorage::new(dir.path().join("checkpoints")).unwrap();
    let local = local_file(dir.path(), b"table");
    import(&storage, &local, "chk-1-1/t").unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        assert_eq!(std::fs::metadata(&local).unwrap().nlink(), 2);
        // What a symbolic link points at is taken in, not the link.
        let symbolic = dir.path().join("symbolic");
        std::os::unix::fs::symlink(&local, &symbolic).unwrap();
        import(&storage, &symbolic, "chk-1-1/u").unwrap();
        assert_eq!(std::fs::metadata(&local).unwrap().nlink(), 3);
        storage.delete("chk-1-1/u").unwrap();
    }
    storage.delete("chk-1-1/t").unwrap();
    assert_eq!(std::fs::read_dir(storage.dir()).unwrap().count(), 0);
    assert!(local.exists() && storage.dir().exists());
}

/// No file system links to another one's files.
#[cfg(target_os = "linux")]
#[test]
fn a_directory_copies_what_it_cannot_link() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let storage = LocalStorage::new(dir.path()).unwrap();
    let foreign = ["/dev/shm", "/tmp"].map(Path::new).into_iter().find(|foreign| {
        std::fs::metadata(foreign).is_ok_and(|f| f.dev() != dir.path().metadata().unwrap().dev())
    });
    let mut local =
        tempfile::NamedTempFile::new_in(foreign.expect("a second file system for the test"))
            .unwrap();
    let bytes = vec![5; 600_000];
    local.write_all(&bytes).unwrap();
    let file = import(&storage, local.path(), "chk-1-1/t").unwrap();
    assert_eq!(storage.read_all(&file).unwrap(), bytes);
    assert_eq!(local.path().metadata().unwrap().nlink(), 1);
    assert_eq!(storage.list("").unwrap(), ["chk-1-1/t"]);
}

#[test]
fn what_a_crash_left_is_in_nobodys_way() {
    let dir = tempfile::tempdir().unwrap();
    let storage = LocalStorage::new(dir.path()).unwrap();
    std::fs::create_dir(dir.path().join("chk-1-1")).unwrap();
    std::fs::write(dir.path().join("chk-1-1/a.tmp0"), b"half").unwrap();
    storage.publish("chk-1-1/a", b"whole").unwrap();
    assert_eq!(raw(&storage, "chk-1-1/a"), b"whole");
    // It is seen, so that it can be swept.
    assert_eq!(storage.list("chk-1-1/").unwrap(), ["chk-1-1/a", "chk-1-1/a.tmp0"]);
}

#[test]
fn a_crash_of_memory_loses_what_was_not_finished() {
    let storage = MemoryStorage::new();
    let file = storage.create("a").unwrap().finish().unwrap();
    let mut writer = storage.create("b").unwrap();
    writer.write(b"b").unwrap();
    storage.crash();
    assert!(writer.write(b"c").unwrap_err().to_string().contains("lost in a crash"));
    assert!(writer.finish().is_err());
    assert_eq!(storage.list("").unwrap(), ["a"]);
    assert_eq!(storage.read_all(&file).unwrap(), b"");
    storage.publish("b", b"after the crash").unwrap();
}

#[test]
fn memory_fails_at_the_named_operation() {
    let storage = MemoryStorage::new();
    storage.fail_at(1, Fault::Refused);
    let mut writer = storage.create("a").unwrap();
    assert!(writer.write(b"lost").unwrap_err().to_string().contains("cannot write `a`"));
    writer.write(b"kept").unwrap();
    storage.fail_at(0, Fault::AnswerLost);
    assert!(writer.finish().is_err());
    assert_eq!(storage.bytes("a").unwrap(), b"kept");
    assert_eq!(storage.n_operations(), 4);
}
