//! The table of options.

use super::{Config, DriverKind, ShowProgress};
use std::fmt::Write;

pub(super) struct OptionSpec {
    pub(super) key: &'static str,
    pub(super) values: &'static str,
    pub(super) default: &'static str,
    pub(super) doc: &'static str,
    pub(super) set: fn(&mut Config, &str) -> Result<(), String>,
}

fn number(text: &str, least: usize) -> Result<usize, String> {
    match text.replace('_', "").parse() {
        Ok(n) if n >= least => Ok(n),
        _ => Err(format!("use a whole number of at least {least}")),
    }
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("use `true` or `false`".into()),
    }
}

fn bytes(text: &str) -> Result<usize, String> {
    let error = || "use a number of bytes, or one with KiB, MiB or GiB".to_string();
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let n: usize = text[..digits].replace('_', "").parse().map_err(|_| error())?;
    let shift = match text[digits..].trim() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err(error()),
    };
    n.checked_mul(1 << shift).filter(|n| *n > 0).ok_or_else(error)
}

pub(super) const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        key: "parallelism",
        values: "a number from 1",
        default: "the number of cores",
        doc: "Subtasks of every operator that does not set its own parallelism. Also `--parallelism N` or `-p N`.",
        set: |c, v| {
            c.parallelism = number(v, 1)?;
            Ok(())
        },
    },
    OptionSpec {
        key: "max-parallelism",
        values: "1 to 32768",
        default: "128, or the next power of two above the parallelism",
        doc: "Number of key groups: the most subtasks a keyed operator can ever be spread over.",
        set: |c, v| {
            c.max_parallelism =
                Some(number(v, 1)?.try_into().map_err(|_| "too large".to_string())?);
            Ok(())
        },
    },
    OptionSpec {
        key: "driver",
        values: "`cooperative` or `threads`",
        default: "`cooperative`",
        doc: "Who runs the subtasks: one worker per core for all of them, or a thread for each.",
        set: |c, v| {
            c.driver = match v {
                "cooperative" => DriverKind::Cooperative,
                "threads" => DriverKind::Threads,
                _ => return Err("use `cooperative` or `threads`".into()),
            };
            Ok(())
        },
    },
    OptionSpec {
        key: "workers",
        values: "a number from 1",
        default: "the number of cores",
        doc: "Worker threads of the cooperative driver.",
        set: |c, v| {
            c.workers = number(v, 1)?;
            Ok(())
        },
    },
    OptionSpec {
        key: "batch-size",
        values: "a number from 1",
        default: "1024",
        doc: "Records in a full batch. Results never depend on it; speed does.",
        set: |c, v| {
            c.batch_size = number(v, 1)?.min(1 << 20);
            Ok(())
        },
    },
    OptionSpec {
        key: "network-memory",
        values: "bytes, KiB, MiB or GiB",
        default: "128 MiB",
        doc: "Memory for records under way between tasks, for the whole process.",
        set: |c, v| {
            c.network_memory = bytes(v)?;
            Ok(())
        },
    },
    OptionSpec {
        key: "chaining",
        values: "`true` or `false`",
        default: "`true`",
        doc: "Whether operators are fused into one task where they can be. Results never depend on it.",
        set: |c, v| {
            c.chaining = boolean(v)?;
            Ok(())
        },
    },
    OptionSpec {
        key: "strict-uids",
        values: "`true` or `false`",
        default: "`false`",
        doc: "Whether a stateful operator without a uid is an error instead of a warning.",
        set: |c, v| {
            c.strict_uids = boolean(v)?;
            Ok(())
        },
    },
    OptionSpec {
        key: "progress",
        values: "`auto`, `always` or `never`",
        default: "`auto`: on a terminal",
        doc: "Whether a bounded job shows a progress bar (on standard error).",
        set: |c, v| {
            c.progress = match v {
                "auto" => ShowProgress::Auto,
                "always" => ShowProgress::Always,
                "never" => ShowProgress::Never,
                _ => return Err("use `auto`, `always` or `never`".into()),
            };
            Ok(())
        },
    },
];

/// The reference page of all options, as Markdown.
///
/// ```
/// let page = millstream::configuration_reference();
/// assert!(page.contains("| `parallelism` |"));
/// ```
pub fn reference() -> String {
    let mut page = String::from(
        "# Configuration\n\n\
         Every option can be set in `millstream.toml` (in the working directory, or named by `--config FILE` or\n\
         `MILLSTREAM_CONFIG`), by a variable (`MILLSTREAM_BATCH_SIZE=256`), on the command line (`-D batch-size=256`), or in code\n\
         (`Environment::builder().set(\"batch-size\", \"256\")`). Later ones win, in this order. An unknown option is an error.\n\n\
         Values for the program itself go under `parameters.`: `-D parameters.limit=5`, read by `ctx.parameter(\"limit\")`.\n\n\
         This page is generated from the code.\n\n\
         | option | values | default | meaning |\n|---|---|---|---|\n",
    );
    for o in OPTIONS {
        // Writing to a string cannot fail.
        let _ = writeln!(page, "| `{}` | {} | {} | {} |", o.key, o.values, o.default, o.doc);
    }
    page.push_str(
        "\n## Flags\n\n\
         | flag | meaning |\n|---|---|\n\
         | `--parallelism N`, `-p N` | `-D parallelism=N` |\n\
         | `-D key=value` | sets an option |\n\
         | `--config FILE` | reads this file instead of `millstream.toml` |\n\
         | `--explain[=text\\|dot\\|json]` | prints the plan of the job and exits instead of running it |\n\n\
         `Environment::from_args()` takes these and leaves everything else to the program (`env.args()`, `env.arg(\"name\")`).\n",
    );
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_page_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, reference()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == reference(),
            "docs/configuration.md is not what the code says: run with UPDATE_GOLDEN=1"
        );
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes("64 MiB"), Ok(64 << 20));
        assert_eq!(bytes("1_000"), Ok(1000));
        assert!(bytes("5 MB").is_err() && bytes("").is_err() && bytes("0").is_err());
    }
}
