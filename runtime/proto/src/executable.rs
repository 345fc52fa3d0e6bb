//! The executable that this process runs.
//!
//! Its path is a poor name for it: whoever builds or installs a newer one puts that in its place, and what is found there
//! is another program, or nothing. Linux keeps a name for what really runs.

use std::io;
use std::path::PathBuf;

/// A path at which this process's own executable can be read, also when it was replaced or removed meanwhile (on Linux).
///
/// # Errors
/// If the system does not tell.
pub fn own() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() }
}
