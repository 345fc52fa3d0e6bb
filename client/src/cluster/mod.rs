//! The way to a cluster, for programs that submit themselves and for the command line.
//!
//! Everything is asked in the messages of [`message`], over one [`Connection`]. It blocks, because the programs
//! that use it do: what is asynchronous about a network stays on a thread of its own, so a caller may or may not
//! have a runtime for futures, and must not know of ours.

mod connection;
mod download;
mod route;
#[cfg(test)]
mod tests;
mod upload;

pub use crate::config::carried;
pub use connection::{Connection, UploadProgress};
pub use millstream_proto::message;
pub use millstream_proto::security::{JOB_MANAGER_NAME, Security, TASK_MANAGER_NAME};

use millstream_model::{Error, Result};

/// The addresses of a cluster's job managers, from `HOST:PORT` or several with commas between.
///
/// # Errors
/// If there is none.
///
/// ```
/// assert_eq!(millstream::cluster::addresses("a:7455, b:7455").unwrap(), ["a:7455", "b:7455"]);
/// assert!(millstream::cluster::addresses(" ,").is_err());
/// ```
pub fn addresses(text: &str) -> Result<Vec<String>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let addresses: Vec<String> = parts.map(String::from).collect();
    match addresses.is_empty() {
        true => Err(Error::user(format!(
            "`{text}` names no job manager: use HOST:PORT, such as 127.0.0.1:7455, or several with commas between"
        ))),
        false => Ok(addresses),
    }
}
