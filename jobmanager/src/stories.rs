//! Stories: golden text in which a reviewer reads what a machine is told and what it wants done.

use std::path::Path;

/// Holds every story of a folder in `testdata` to what `run` makes of it; with `UPDATE_GOLDEN` set, writes it down anew.
///
/// # Panics
/// If one is told differently, or there is none.
#[track_caller]
pub(crate) fn hold(folder: &str, run: impl Fn(&str) -> String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(folder);
    let mut n_stories = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let expected = std::fs::read_to_string(&path).unwrap();
        let actual = run(&expected);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, actual.trim_end().to_owned() + "\n").unwrap();
        } else {
            assert_eq!(actual.trim(), expected.trim(), "{}", path.display());
        }
        n_stories += 1;
    }
    assert!(n_stories > 0);
}
