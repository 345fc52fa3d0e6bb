//! The table of options.

use super::{BackendKind, Config, DriverKind, ShowProgress};
use millstream_model::CheckpointMode;
use millstream_model::settings::{RestartStrategy, RestoreFrom};
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

/// A duration in milliseconds: `200ms`, `1s`, `5min`, `1h`.
fn duration_ms(text: &str) -> Result<u64, String> {
    let error = || "use a number with ms, s, min or h".to_string();
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let n: u64 = text[..digits].replace('_', "").parse().map_err(|_| error())?;
    let unit = match text[digits..].trim() {
        "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err(error()),
    };
    n.checked_mul(unit).ok_or_else(error)
}

/// `none`, `fixed-delay 3 10s`, `exponential-delay 100ms 1min`, `failure-rate 3 5min 10s`.
fn restart_strategy(text: &str) -> Result<RestartStrategy, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let count =
        |text: &str| number(text, 0).and_then(|n| u32::try_from(n).map_err(|e| e.to_string()));
    match words[..] {
        ["none"] => Ok(RestartStrategy::None),
        ["fixed-delay", attempts, delay] => Ok(RestartStrategy::FixedDelay {
            attempts: count(attempts)?,
            delay_ms: duration_ms(delay)?,
        }),
        ["exponential-delay"] => Ok(RestartStrategy::exponential()),
        ["exponential-delay", initial, max] => Ok(RestartStrategy::ExponentialDelay {
            initial_ms: duration_ms(initial)?,
            max_ms: duration_ms(max)?,
            multiplier: 2.0,
            reset_after_ms: 60_000,
            jitter_percent: 0,
        }),
        ["failure-rate", failures, interval, delay] => Ok(RestartStrategy::FailureRate {
            max_failures: count(failures)?,
            interval_ms: duration_ms(interval)?,
            delay_ms: duration_ms(delay)?,
        }),
        _ => Err("use `none`, `fixed-delay ATTEMPTS DELAY`, `exponential-delay [INITIAL MAX]` or \
                  `failure-rate FAILURES INTERVAL DELAY`"
            .into()),
    }
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
        values: "a number from 1 to 1048576",
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
        key: "checkpoint-dir",
        values: "a folder",
        default: "none: no checkpoints",
        doc: "Where checkpoints are kept. A job with such a folder takes checkpoints and is restarted when it fails. Also `--checkpoint-dir DIR`.",
        set: |c, v| {
            c.checkpoint_dir = Some(v.into());
            Ok(())
        },
    },
    OptionSpec {
        key: "checkpoint-interval",
        values: "a duration: `200ms`, `10s`, `5min`, `1h`",
        default: "none: only savepoints, and a last one when the input ends",
        doc: "Time from the start of a checkpoint to the start of the next. Also `--checkpoint-interval TIME`.",
        set: |c, v| {
            c.checkpoints.interval_ms = Some(duration_ms(v)?.max(1));
            Ok(())
        },
    },
    OptionSpec {
        key: "checkpoint-mode",
        values: "`exactly-once`, `unaligned` or `at-least-once`",
        default: "`exactly-once`",
        doc: "How barriers travel. `exactly-once`: channels wait for each other at a barrier. `unaligned`: a barrier overtakes what is queued, which becomes part of the checkpoint, so that checkpoints do not wait under backpressure; not what every subtask gets, what the program or `global` says where to send, or what comes before watermarks that are made in mid-stream. With both, every record counts once after a recovery. `at-least-once`: nobody waits; some records may count twice.",
        set: |c, v| {
            c.checkpoint_mode = match v {
                "exactly-once" => CheckpointMode::ExactlyOnce,
                "unaligned" => CheckpointMode::Unaligned,
                "at-least-once" => CheckpointMode::AtLeastOnce,
                _ => return Err("use `exactly-once`, `unaligned` or `at-least-once`".into()),
            };
            Ok(())
        },
    },
    OptionSpec {
        key: "checkpoint-aligned-timeout",
        values: "a duration",
        default: "none: they wait as long as it takes",
        doc: "With `checkpoint-mode=exactly-once`: a barrier that has waited for so long at a task overtakes from there on, as with `unaligned`.",
        set: |c, v| {
            let us = i64::try_from(duration_ms(v)?).ok().and_then(|ms| ms.checked_mul(1000));
            c.aligned_timeout_us = Some(us.ok_or("use a shorter time")?);
            Ok(())
        },
    },
    OptionSpec {
        key: "checkpoint-min-pause",
        values: "a duration",
        default: "`0ms`",
        doc: "Least time from the end of a checkpoint to the start of the next.",
        set: |c, v| {
            c.checkpoints.min_pause_ms = duration_ms(v)?;
            Ok(())
        },
    },
    OptionSpec {
        key: "checkpoint-timeout",
        values: "a duration",
        default: "`10min`",
        doc: "A checkpoint that takes longer is given up; the job runs on.",
        set: |c, v| {
            c.checkpoints.timeout_ms = duration_ms(v)?.max(1);
            Ok(())
        },
    },
    OptionSpec {
        key: "checkpoint-tolerable-failures",
        values: "a number from 0",
        default: "any number",
        doc: "How many checkpoints may fail in a row before the job is failed (and restarted).",
        set: |c, v| {
            c.checkpoints.tolerable_failures =
                Some(number(v, 0)?.try_into().map_err(|_| "use a smaller number".to_string())?);
            Ok(())
        },
    },
    OptionSpec {
        key: "checkpoints-retained",
        values: "a number from 1",
        default: "1",
        doc: "How many completed checkpoints are kept.",
        set: |c, v| {
            c.checkpoints.retained = number(v, 1)?;
            Ok(())
        },
    },
    OptionSpec {
        key: "restore",
        values: "`latest` or the folder of a checkpoint or savepoint",
        default: "none: begin at the beginning",
        doc: "What the job goes on from. `latest` is the newest checkpoint in `checkpoint-dir`; if none was ever completed, the job begins at the beginning and discards output that was not committed. Also `--restore PATH`.",
        set: |c, v| {
            c.restore = Some(match v {
                "latest" => RestoreFrom::Latest,
                path => RestoreFrom::Path(path.into()),
            });
            Ok(())
        },
    },
    OptionSpec {
        key: "restore-mode",
        values: "`no-claim` or `claim`",
        default: "`no-claim`",
        doc: "Whose the checkpoint or savepoint is that `restore` names. `no-claim`: the user's; the job never touches it. `claim`: the job's, which deletes it when it has a checkpoint of its own. Either way nothing refers to it from then on.",
        set: |c, v| {
            c.claims = match v {
                "no-claim" => false,
                "claim" => true,
                _ => return Err("use `no-claim` or `claim`".into()),
            };
            Ok(())
        },
    },
    OptionSpec {
        key: "allow-non-restored",
        values: "`true` or `false`",
        default: "`false`",
        doc: "Whether state in the checkpoint that no operator of the program asks for is left behind, instead of being an error.",
        set: |c, v| {
            c.allow_non_restored = boolean(v)?;
            Ok(())
        },
    },
    OptionSpec {
        key: "allow-older",
        values: "`true` or `false`",
        default: "`false`",
        doc: "Whether `restore latest` may pass over a checkpoint that is damaged or gone and take an older one. Output that was committed since may then be written twice.",
        set: |c, v| {
            c.allow_older = boolean(v)?;
            Ok(())
        },
    },
    OptionSpec {
        key: "state-backend",
        values: "`memory` or `rocksdb`",
        default: "`memory`",
        doc: "Where keyed state lies: in memory, or in RocksDB with the entries in use cached in memory, for state that is larger than memory (feature `rocksdb`). Also `--backend NAME`.",
        set: |c, v| {
            c.backend = match v {
                "memory" => BackendKind::Memory,
                "rocksdb" if cfg!(feature = "rocksdb") => BackendKind::RocksDb,
                "rocksdb" => {
                    return Err("this program was built without it: add the feature `rocksdb` of \
                                `millstream`"
                        .into());
                }
                _ => return Err("use `memory` or `rocksdb`".into()),
            };
            Ok(())
        },
    },
    OptionSpec {
        key: "state-memory",
        values: "bytes, KiB, MiB or GiB",
        default: "1 GiB",
        doc: "Memory for the state of all tasks of the process with `state-backend=rocksdb`: entries, windows and timers in use, blocks and write buffers. Eight entries of each state stay in memory, however large they are.",
        set: |c, v| {
            c.state_memory = bytes(v)?;
            Ok(())
        },
    },
    OptionSpec {
        key: "state-dir",
        values: "a folder",
        default: "the system's folder for temporary files",
        doc: "Where RocksDB keeps its files while the job runs. On the disk of `checkpoint-dir`, checkpoints are taken without copying. What a process that was killed (in a cluster every task host is) has left there, the next one on that machine deletes.",
        set: |c, v| {
            c.state_dir = Some(v.into());
            Ok(())
        },
    },
    OptionSpec {
        key: "restart-strategy",
        values: "`none`, `fixed-delay ATTEMPTS DELAY`, `exponential-delay [INITIAL MAX]` or `failure-rate FAILURES INTERVAL DELAY`",
        default: "`exponential-delay` with checkpoints, `none` without",
        doc: "Whether a job that failed is run again, from its newest checkpoint, and after how long. `exponential-delay` begins at once, then waits 100 ms, and up to a minute.",
        set: |c, v| {
            c.restart = Some(restart_strategy(v)?);
            Ok(())
        },
    },
    OptionSpec {
        key: "cluster",
        values: "`HOST:PORT`, or several with commas between",
        default: "none: the program's own process runs its jobs",
        doc: "The job managers of the cluster that runs the program's jobs; the program sends itself there. Also `--cluster HOST:PORT`. Needs the feature `cluster`.",
        set: |c, v| {
            c.cluster = Some(v.to_string()).filter(|v| !v.is_empty());
            Ok(())
        },
    },
    OptionSpec {
        key: "detached",
        values: "`true` or `false`",
        default: "`false`",
        doc: "Whether `execute` prints the id of a job that was submitted to a cluster and ends the program, instead of waiting for the job.",
        set: |c, v| {
            c.detached = boolean(v)?;
            Ok(())
        },
    },
    OptionSpec {
        key: "pass-environment",
        values: "names with commas between",
        default: "none",
        doc: "Variables of the environment that the program sees also where a cluster runs it; it sees no others there.",
        set: |c, v| {
            let names = v.split(',').map(str::trim).filter(|name| !name.is_empty());
            c.pass_environment = names.map(str::to_string).collect();
            Ok(())
        },
    },
    OptionSpec {
        key: "cancel-timeout",
        values: "a duration, such as `30s`",
        default: "`30s`",
        doc: "In a cluster, how long tasks may take to end when the job is cancelled or fails; then their process is ended.",
        set: |c, v| {
            c.cancel_timeout_ms = duration_ms(v)?;
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
         (`Environment::builder().set(\"batch-size\", \"256\")`). `Environment::from_args()` reads the first three, and later ones win; a builder takes\n\
         what the code says, and from outside only what `.args(…)` is given. An unknown option is an error.\n\n\
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
         | `--backend NAME` | `-D state-backend=NAME` |\n\
         | `--checkpoint-dir DIR`, `--checkpoint-interval TIME`, `--restore PATH` | `-D checkpoint-dir=DIR` and so on |\n\
         | `--cluster HOST:PORT` | runs the job on this cluster (feature `cluster`) |\n\
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
