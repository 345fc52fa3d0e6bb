//! What the commands do; one file for what belongs together.

pub(crate) mod certs;
pub(crate) mod jobs;
pub(crate) mod logs;
pub(crate) mod rescale;
pub(crate) mod run;
pub(crate) mod snapshots;

use crate::failure::{Failure, Outcome};
use crate::settings::Settings;
use millstream::cluster::Connection;
use serde::Serialize;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// The cluster of these settings.
pub(crate) fn connect(settings: &Settings) -> Outcome<Connection> {
    settings.connect().map_err(|error| match error.domain() {
        millstream::model::Domain::External => Failure::of_connection(error),
        _ => Failure::usage(error),
    })
}

/// Shows a value: as JSON, or as text.
pub(crate) fn print(json: bool, value: &impl Serialize, text: impl FnOnce() -> String) -> Outcome {
    let shown = match json {
        false => text(),
        true => match serde_json::to_string_pretty(value) {
            Ok(json) => json + "\n",
            Err(error) => {
                let text = format!("the answer cannot be shown as JSON: {error}");
                return Err(Failure::refused(millstream::model::Error::internal(text)));
            }
        },
    };
    write_out(shown.as_bytes());
    Ok(())
}

/// Writes to standard output. Whoever reads it may have read enough (`millstream list | head -1`).
pub(crate) fn write_out(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    drop(out.write_all(bytes).and_then(|()| out.flush()));
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
