//! Settings that one run of a program hands to another, whole.
//!
//! A job that is rescaled is submitted again by another run of its program, in another shell, perhaps months later. What
//! files and variables said when it was submitted may be gone or different, and a job that had checkpoints must not
//! go on without them. So the settings it was submitted with travel, in the variable [`VARIABLE`], in place of all files; the few that
//! are to be others are given as variables and flags, as always.

use super::Config;
use millstream_model::{Error, Result};
use millstream_state::codec;

/// Where they are looked for.
pub(crate) const VARIABLE: &str = "MILLSTREAM_SETTINGS";

impl Config {
    /// As they travel with a submission.
    #[cfg(feature = "cluster")]
    pub(crate) fn encoded(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        codec::encode(self, &mut bytes)?;
        Ok(bytes)
    }

    /// Takes the settings of another run.
    pub(crate) fn take_carried(&mut self, text: &str) -> Result<()> {
        let pairs = text.as_bytes().chunks(2);
        let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = pairs.map(byte).collect();
        let read = bytes.and_then(|bytes| codec::decode_all(&bytes).ok());
        *self = read.ok_or_else(|| {
            Error::user(format!(
                "the settings that the job was submitted with ({VARIABLE}) are of another release of Millstream: run the \
                 program yourself, with its settings and `--restore`"
            ))
        })?;
        Ok(())
    }
}

/// The variable, and its value for the settings of a submission.
#[cfg(feature = "cluster")]
pub fn carried(config: &[u8]) -> (&'static str, String) {
    (VARIABLE, config.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(all(test, feature = "cluster"))]
mod tests {
    use super::*;

    #[test]
    fn settings_arrive_as_they_were() {
        let mut config = Config::default();
        config.set("checkpoint-dir", "/a", "test").unwrap();
        config.set("parameters.input", "x", "test").unwrap();
        let mut other = Config::default();
        other.set("batch-size", "7", "test").unwrap();
        other.take_carried(&carried(&config.encoded().unwrap()).1).unwrap();
        assert_eq!(other.encoded().unwrap(), config.encoded().unwrap());
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for text in ["", "0", "zz", "ff", "€"] {
            let error = Config::default().take_carried(text).unwrap_err().to_string();
            assert!(error.contains("another release"), "{error}");
        }
    }
}
