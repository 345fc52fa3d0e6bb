//! With real files, and pieces from memory.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;

fn program(byte: u8, n: usize) -> (ProgramId, Vec<u8>) {
    let bytes = vec![byte; n];
    (ProgramId(Sha256::digest(&bytes).into()), bytes)
}

type Pieces = tokio_stream::Iter<std::vec::IntoIter<Result<Vec<u8>>>>;

async fn pieces(bytes: Vec<u8>) -> Result<Pieces> {
    let pieces: Vec<_> = bytes.chunks(7).map(|piece| Ok(piece.to_vec())).collect();
    Ok(tokio_stream::iter(pieces))
}

async fn none() -> Result<Pieces> {
    Err(Error::external("nothing is fetched"))
}

fn files(dir: &TempDir) -> Vec<String> {
    let names = std::fs::read_dir(dir.path()).unwrap();
    let mut names: Vec<String> =
        names.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_program_is_fetched_once_and_found_again() {
    let dir = TempDir::new().unwrap();
    let (id, bytes) = program(1, 100);
    let programs = Programs::open(dir.path(), 1000).unwrap();
    let n_fetches = AtomicUsize::new(0);
    let fetch = || async {
        n_fetches.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        pieces(bytes.clone()).await
    };
    let (a, b, c) = tokio::join!(
        programs.get(id, 100, fetch()),
        programs.get(id, 100, fetch()),
        programs.get(id, 100, fetch())
    );
    assert_eq!(std::fs::read(a.unwrap().path()).unwrap(), bytes);
    assert!(b.is_ok() && c.is_ok());
    assert_eq!(n_fetches.load(Ordering::SeqCst), 1);
    assert_eq!(files(&dir), [id.to_string()]);
    let mode = std::fs::metadata(programs.path(id)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, MODE);

    // The next life of the process finds it, and nothing else.
    std::fs::write(dir.path().join("incoming-7"), "half").unwrap();
    drop(programs);
    let programs = Programs::open(dir.path(), 1000).unwrap();
    assert_eq!(files(&dir), [id.to_string()]);
    programs.get(id, 100, none()).await.unwrap();
    assert!(programs.state().locks.is_empty());
}

#[tokio::test]
async fn what_is_not_what_was_asked_for_is_refused() {
    let dir = TempDir::new().unwrap();
    let programs = Programs::open(dir.path(), 1000).unwrap();
    let (id, bytes) = program(1, 100);
    let other = program(2, 100).1;
    for (came, error) in [
        (other, "damaged or exchanged"),
        (bytes[..99].to_vec(), "and 99 came"),
        ([&bytes[..], &[1]].concat(), "and 101 came"),
    ] {
        let refused = programs.get(id, 100, pieces(came)).await.err().unwrap().to_string();
        assert!(refused.contains(error), "{refused}");
    }
    assert_eq!((files(&dir), programs.n_bytes()), (vec![], 0));
    programs.get(id, 100, pieces(bytes)).await.unwrap();
}

#[tokio::test]
async fn a_file_that_was_changed_is_fetched_anew() {
    let dir = TempDir::new().unwrap();
    let programs = Programs::open(dir.path(), 1000).unwrap();
    let (id, bytes) = program(1, 100);
    let first = programs.get(id, 100, pieces(bytes.clone())).await.unwrap();
    std::fs::set_permissions(first.path(), Permissions::from_mode(0o700)).unwrap();
    std::fs::write(first.path(), program(2, 100).1).unwrap();
    let failed = programs.get(id, 100, none()).await.err().unwrap().to_string();
    assert!(failed.contains("nothing is fetched"), "{failed}");
    let second = programs.get(id, 100, pieces(bytes.clone())).await.unwrap();
    assert_eq!(std::fs::read(second.path()).unwrap(), bytes);
    drop((first, second));
    // Touched, but the same: hashed and found sound.
    std::fs::set_permissions(programs.path(id), Permissions::from_mode(0o700)).unwrap();
    programs.get(id, 100, none()).await.unwrap();
    std::fs::remove_file(programs.path(id)).unwrap();
    assert!(programs.get(id, 100, none()).await.is_err());
    assert_eq!(programs.state().entries[&id].n_leases, 0);
}

#[tokio::test]
async fn what_was_not_used_for_longest_makes_room() {
    let dir = TempDir::new().unwrap();
    let programs = Programs::open(dir.path(), 250).unwrap();
    let [one, two, three] = [1, 2, 3].map(|byte| program(byte, 100));
    programs.get(one.0, 100, pieces(one.1.clone())).await.unwrap();
    programs.get(two.0, 100, pieces(two.1.clone())).await.unwrap();
    let one_used = programs.get(one.0, 100, none()).await.unwrap();
    let three_used = programs.get(three.0, 100, pieces(three.1)).await.unwrap();
    let mut left = [one.0.to_string(), three.0.to_string()];
    left.sort();
    assert_eq!(files(&dir), left);
    // Those in use stay.
    let full = programs.get(two.0, 100, pieces(two.1.clone())).await.err().unwrap().to_string();
    assert!(full.contains("200 are in use"), "{full}");
    drop((one_used, three_used));
    programs.get(two.0, 100, pieces(two.1)).await.unwrap();
    assert_eq!(programs.n_bytes(), 200);
    let large = programs.get(one.0, 251, none()).await.err().unwrap().to_string();
    assert!(large.contains("does not fit into the cache of 250 bytes"), "{large}");
}

#[tokio::test]
async fn a_fetch_that_is_given_up_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    let programs = Programs::open(dir.path(), 150).unwrap();
    let (id, bytes) = program(1, 100);
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let forever = async { Ok(tokio_stream::wrappers::ReceiverStream::new(receiver)) };
    let mut get = Box::pin(programs.get(id, 100, forever));
    sender.send(Ok(bytes[..50].to_vec())).await.unwrap();
    while files(&dir).is_empty() {
        assert!(futures_once(&mut get).await.is_none());
    }
    drop(get);
    assert_eq!(files(&dir), [""; 0]);
    programs.get(id, 100, pieces(bytes)).await.unwrap();
}

/// What a future has come to, once the runtime had its turn.
async fn futures_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = tokio::task::yield_now() => None,
    }
}

#[test]
fn names_are_digits_only() {
    let id = ProgramId([0xab; 32]);
    assert_eq!(id_of_name(&id.to_string()), Some(id));
    for wrong in ["", "ab", &"AB".repeat(32), &"+1".repeat(32), &"é".repeat(32)] {
        assert_eq!(id_of_name(wrong), None, "{wrong}");
    }
}
