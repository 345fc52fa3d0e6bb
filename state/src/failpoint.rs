//! Failpoints: named places at which a test makes the process die, as a crash would.
//!
//! What a crash leaves behind can only be shown by crashing. So every durable step (a file made, synced,
//! linked, deleted) has a name before and after it, and the environment variable `MILLSTREAM_FAILPOINT`
//! says at which the process aborts: `storage.before-link`, or `storage.before-link:3` for the third time
//! it is passed. There is no clean-up on the way out; that is the point. Without the variable a failpoint
//! costs one relaxed load, so they are in every build and what is tested is what runs.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// All failpoints, for tests that go through them; a test holds the list to the source.
pub const NAMES: &[&str] = &[
    "file.after-commit",
    "file.after-create",
    "file.after-delete",
    "file.after-finish",
    "file.after-stage",
    "file.after-sync",
    "file.before-commit",
    "file.before-create",
    "file.before-delete",
    "file.before-finish",
    "file.before-stage",
    "file.before-sync",
    "log.after-commit",
    "log.after-delete",
    "log.after-epoch",
    "log.after-move",
    "log.after-stage",
    "log.before-commit",
    "log.before-delete",
    "log.before-epoch",
    "log.before-move",
    "log.before-stage",
    "manifest.after-publish",
    "manifest.before-publish",
    "storage.after-create",
    "storage.after-delete",
    "storage.after-import",
    "storage.after-link",
    "storage.after-sync",
    "storage.before-delete",
    "storage.before-import",
    "storage.before-link",
    "storage.before-sync",
];

/// The environment variable that arms one of them.
pub const VARIABLE: &str = "MILLSTREAM_FAILPOINT";

static OFF: AtomicBool = AtomicBool::new(false);
static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

#[derive(Debug)]
struct Armed {
    name: &'static str,
    /// How often it is passed before it strikes.
    spared: AtomicU64,
}

/// Passes the failpoint of that name: aborts the process if the environment says so.
#[inline]
pub fn hit(name: &str) {
    if !OFF.load(Ordering::Relaxed) {
        pass(name);
    }
}

#[cold]
fn pass(name: &str) {
    let Some(armed) = ARMED.get_or_init(read_environment) else {
        OFF.store(true, Ordering::Relaxed);
        return;
    };
    if armed.name == name && armed.spared.fetch_sub(1, Ordering::Relaxed) == 0 {
        eprintln!("failpoint {name} reached: aborting");
        std::process::abort();
    }
}

/// What a misspelt name would test is nothing; so it ends the process too, with another message.
fn read_environment() -> Option<Armed> {
    let text = std::env::var_os(VARIABLE)?;
    let armed = text.to_str().and_then(parse);
    if armed.is_none() {
        eprintln!(
            "{VARIABLE} is {text:?}, but must be `name` or `name:n`, n from 1, with one of these names: {}",
            NAMES.join(", ")
        );
        std::process::abort();
    }
    armed
}

fn parse(text: &str) -> Option<Armed> {
    let (name, n) = match text.split_once(':') {
        Some((name, n)) => (name, n.parse::<u64>().ok()?),
        None => (text, 1),
    };
    let name = NAMES.iter().find(|known| **known == name)?;
    Some(Armed { name, spared: AtomicU64::new(n.checked_sub(1)?) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::process::Command;

    /// Every name in a call of `failpoint::hit` below a folder.
    fn used(folder: &Path, names: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                used(&path, names);
            } else if name.ends_with(".rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                // In two pieces, so that this line is not found.
                for call in text.split(concat!("failpoint::", "hit(\"")).skip(1) {
                    names.insert(call[..call.find('"').unwrap()].to_owned());
                }
            }
        }
    }

    #[test]
    fn the_list_is_that_of_the_source() {
        let mut names = BTreeSet::new();
        used(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), &mut names);
        let names: Vec<String> = names.into_iter().collect();
        assert_eq!(names, NAMES, "the failpoints in the source, sorted, and those in NAMES");
    }

    #[test]
    fn a_name_and_a_count_are_understood() {
        let spared = |text: &str| parse(text).map(|armed| armed.spared.into_inner());
        assert_eq!(spared("storage.before-link"), Some(0));
        assert_eq!(spared("storage.before-link:3"), Some(2));
        for bad in ["", "storage", "storage.before-link:", "storage.before-link:0", ":1"] {
            assert_eq!(spared(bad), None, "{bad:?}");
        }
    }

    /// Runs itself again in processes that die.
    #[test]
    fn the_process_dies_at_the_named_hit() {
        if std::env::var_os(VARIABLE).is_some() {
            for round in ["first", "second"] {
                eprintln!("round: {round}");
                hit("storage.before-link");
                hit("storage.after-link");
            }
            return;
        }
        let run = |value: &str| {
            let mut child = Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", "--nocapture"]);
            child.arg("failpoint::tests::the_process_dies_at_the_named_hit");
            let output = child.env(VARIABLE, value).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            (output.status.success(), said.matches("round: ").count(), said)
        };
        let (survived, n_rounds, said) = run("storage.after-link");
        assert_eq!((survived, n_rounds), (false, 1), "{said}");
        assert!(said.contains("failpoint storage.after-link reached"), "{said}");
        let (survived, n_rounds, said) = run("storage.after-link:2");
        assert_eq!((survived, n_rounds), (false, 2), "{said}");
        let (survived, n_rounds, said) = run("storage.after-link:3");
        assert_eq!((survived, n_rounds), (true, 2), "{said}");
        let (survived, _, said) = run("storage.after-lunch");
        assert!(!survived && said.contains("with one of these names"), "{said}");
    }
}
