//! A small disk of its own, which can be full.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Enough for a job's checkpoints and output, and soon full.
const OPTIONS: &str = "size=16m";

/// A file system in memory, mounted on a folder.
pub(super) struct SmallDisk {
    dir: PathBuf,
}

impl SmallDisk {
    /// Mounts one; `None` where this process may not.
    pub(super) fn mount(dir: &Path) -> Option<SmallDisk> {
        std::fs::create_dir_all(dir).expect("a folder to mount on");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", OPTIONS, "millstream-small-disk"]).arg(dir);
        let is_done = mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        is_done.then(|| SmallDisk { dir: dir.to_owned() })
    }

    /// Leaves no room.
    pub(super) fn fill(&self) {
        let mut filler = File::create(self.filler()).expect("a file on the small disk");
        for size in [1 << 16, 1 << 12, 1] {
            while filler.write_all(&vec![0; size]).is_ok() {}
        }
    }

    /// Makes room again.
    pub(super) fn clear(&self) {
        std::fs::remove_file(self.filler()).expect("the filler is there");
    }

    fn filler(&self) -> PathBuf {
        self.dir.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What still has files open there keeps them until it ends.
        let _ = Command::new("umount").arg("-l").arg(&self.dir).status();
    }
}
