//! Configuration: one table of options, filled from a file, the environment, the command line and code.
//!
//! Later wins: defaults, `millstream.toml`, `MILLSTREAM_…` variables, flags and `-D key=value`, then the
//! builder's calls. Every option is one entry of [`options::OPTIONS`], which also writes the reference page;
//! so an option without documentation, or a documented one that does nothing, cannot exist.

mod arguments;
mod carried;
mod options;

pub(crate) use arguments::Arguments;
pub use arguments::ExplainFormat;
pub(crate) use carried::VARIABLE as CARRIED;
#[cfg(feature = "cluster")]
pub use carried::carried;
pub use options::reference;

use millstream_model::settings::{CheckpointConfig, JobSettings, RestartStrategy, RestoreFrom};
use millstream_model::{CheckpointMode, Error, Result};
use millstream_taskmanager::host::Driver;
use options::OPTIONS;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// Who steps the tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DriverKind {
    /// A few workers, one per core, share all tasks.
    Cooperative,
    /// Every subtask has a thread.
    Threads,
}

/// When a progress bar is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ShowProgress {
    Auto,
    Always,
    Never,
}

/// Where state lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum BackendKind {
    /// In memory.
    Memory,
    /// In RocksDB, with a cache in memory.
    RocksDb,
}

/// The engine's settings.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Config {
    pub(crate) parallelism: usize,
    pub(crate) max_parallelism: Option<u32>,
    pub(crate) driver: DriverKind,
    pub(crate) workers: usize,
    pub(crate) batch_size: usize,
    pub(crate) network_memory: usize,
    pub(crate) chaining: bool,
    pub(crate) strict_uids: bool,
    pub(crate) progress: ShowProgress,
    pub(crate) checkpoints: CheckpointConfig,
    pub(crate) checkpoint_mode: CheckpointMode,
    /// How long barriers wait before they overtake, if they do.
    pub(crate) aligned_timeout_us: Option<i64>,
    pub(crate) checkpoint_dir: Option<PathBuf>,
    pub(crate) restore: Option<RestoreFrom>,
    /// Whether what the job is restored from is its own to delete.
    pub(crate) claims: bool,
    pub(crate) allow_non_restored: bool,
    pub(crate) allow_older: bool,
    pub(crate) restart: Option<RestartStrategy>,
    /// How long tasks may take to end when they are told to.
    pub(crate) cancel_timeout_ms: u64,
    pub(crate) backend: BackendKind,
    pub(crate) state_memory: usize,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) parameters: BTreeMap<String, String>,
    /// The job managers of the cluster that runs the program's jobs, if one does.
    pub(crate) cluster: Option<String>,
    /// Whether the program ends when its job is submitted.
    pub(crate) detached: bool,
    /// Variables of the environment that the program sees also there.
    pub(crate) pass_environment: Vec<String>,
}

pub(crate) fn available_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Default for Config {
    fn default() -> Self {
        Config {
            parallelism: available_cores(),
            max_parallelism: None,
            driver: DriverKind::Cooperative,
            workers: available_cores(),
            batch_size: 1024,
            network_memory: 128 << 20,
            chaining: true,
            strict_uids: false,
            progress: ShowProgress::Auto,
            checkpoints: CheckpointConfig::default(),
            checkpoint_mode: CheckpointMode::default(),
            aligned_timeout_us: None,
            checkpoint_dir: None,
            restore: None,
            claims: false,
            allow_non_restored: false,
            allow_older: false,
            restart: None,
            cancel_timeout_ms: 30_000,
            backend: BackendKind::Memory,
            state_memory: 1 << 30,
            state_dir: None,
            parameters: BTreeMap::new(),
            cluster: None,
            detached: false,
            pass_environment: Vec::new(),
        }
    }
}

impl Config {
    pub(crate) fn driver(&self) -> Driver {
        match self.driver {
            DriverKind::Cooperative => Driver::Cooperative { workers: self.workers },
            DriverKind::Threads => Driver::ThreadPerSubtask,
        }
    }

    /// How barriers travel.
    pub(crate) fn mode(&self) -> CheckpointMode {
        match (self.checkpoint_mode, self.aligned_timeout_us) {
            (CheckpointMode::ExactlyOnce, Some(_)) => CheckpointMode::Timed,
            (mode, _) => mode,
        }
    }

    /// How the job is restarted: not at all without checkpoints, unless the program says otherwise.
    pub(crate) fn restart(&self) -> RestartStrategy {
        match (&self.restart, &self.checkpoint_dir) {
            (Some(strategy), _) => strategy.clone(),
            (None, Some(_)) => RestartStrategy::exponential(),
            (None, None) => RestartStrategy::None,
        }
    }

    /// What whoever runs the job must know.
    pub(crate) fn job_settings(&self) -> JobSettings {
        JobSettings {
            checkpoints: self.checkpoints.clone(),
            checkpoint_dir: self.checkpoint_dir.clone(),
            restore: self.restore.clone(),
            claims: self.claims,
            allow_non_restored: self.allow_non_restored,
            allow_older: self.allow_older,
            restart: self.restart(),
            cancel_timeout_ms: self.cancel_timeout_ms,
        }
    }

    pub(crate) fn shows_progress(&self) -> bool {
        match self.progress {
            ShowProgress::Auto => std::io::stderr().is_terminal(),
            ShowProgress::Always => true,
            ShowProgress::Never => false,
        }
    }

    /// Sets one option; `source` says where it came from, for errors.
    pub(crate) fn set(&mut self, key: &str, value: &str, source: &str) -> Result<()> {
        if let Some(parameter) = key.strip_prefix("parameters.") {
            self.parameters.insert(parameter.to_string(), value.to_string());
            return Ok(());
        }
        let Some(option) = OPTIONS.iter().find(|o| o.key == key) else {
            let nearest = OPTIONS
                .iter()
                .map(|o| (strsim::damerau_levenshtein(o.key, key), o.key))
                .min()
                .filter(|(distance, k)| *distance <= k.len().max(key.len()) / 2);
            let hint = nearest.map_or_else(
                || {
                    format!(
                        "known options: {}",
                        OPTIONS.iter().map(|o| o.key).collect::<Vec<_>>().join(", ")
                    )
                },
                |(_, k)| format!("did you mean `{k}`?"),
            );
            return Err(Error::user(format!("unknown option `{key}` ({source}): {hint}")));
        };
        (option.set)(self, value)
            .map_err(|e| Error::user(format!("option `{key}` ({source}) cannot be `{value}`: {e}")))
    }

    /// Reads `millstream.toml`. Tables nest: `[parameters] input = "x"` is `parameters.input`.
    pub(crate) fn read_file(&mut self, path: &Path) -> Result<()> {
        let source = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| {
            Error::user(format!("configuration file {source} cannot be read")).caused_by(e)
        })?;
        let table: toml::Table = text.parse().map_err(|e| {
            Error::user(format!("configuration file {source} is not valid TOML")).caused_by(e)
        })?;
        self.set_table("", &table, &source)
    }

    fn set_table(&mut self, prefix: &str, table: &toml::Table, source: &str) -> Result<()> {
        for (key, value) in table {
            // These say to the command how a cluster is reached, which tells programs by variables.
            let of_command = ["tls-ca", "tls-cert", "tls-key", "token", "insecure"];
            if prefix.is_empty() && of_command.contains(&key.as_str()) {
                continue;
            }
            let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            match value {
                toml::Value::Table(inner) => self.set_table(&key, inner, source)?,
                toml::Value::String(s) => self.set(&key, s, source)?,
                other => self.set(&key, &other.to_string(), source)?,
            }
        }
        Ok(())
    }

    /// Reads `MILLSTREAM_…` variables: `MILLSTREAM_BATCH_SIZE` is `batch-size`.
    pub(crate) fn read_variables(
        &mut self,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<()> {
        for (name, value) in variables {
            let Some(rest) = name.strip_prefix("MILLSTREAM_") else { continue };
            // These speak to the project's own scripts and tests, not to the engine.
            let of_others =
                ["DATA", "REQUIRE_DATA", "SKIPPED", "CONFIG", "SETTINGS", "LOG", "FAILPOINT"];
            if of_others.contains(&rest) {
                continue;
            }
            // These say how a cluster is reached, and that a process is part of one.
            let of_cluster = ["TLS_", "TOKEN", "INSECURE", "HOST_CHANNEL", "DATA_BIND"];
            if of_cluster.iter().any(|prefix| rest.starts_with(prefix)) {
                continue;
            }
            let key = rest.to_ascii_lowercase().replace('_', "-");
            self.set(&key, &value, &format!("variable {name}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_options_are_errors_with_a_suggestion() {
        let e = Config::default().set("paralelism", "2", "-D").unwrap_err();
        assert_eq!(e.to_string(), "unknown option `paralelism` (-D): did you mean `parallelism`?");
        let e = Config::default().set("zzzzzzzzzzzzzzzzzzzzzzz", "2", "-D").unwrap_err();
        assert!(e.to_string().contains("known options: parallelism"), "{e}");
    }

    #[test]
    fn a_wrong_value_names_option_source_and_what_is_allowed() {
        let e = Config::default().set("driver", "fast", "millstream.toml").unwrap_err();
        let text =
            "option `driver` (millstream.toml) cannot be `fast`: use `cooperative` or `threads`";
        assert_eq!(e.to_string(), text);
    }

    #[test]
    fn files_and_variables_set_options_and_parameters() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("millstream.toml");
        std::fs::write(
            &path,
            "parallelism = 3\nnetwork-memory = \"2 MiB\"\n[parameters]\ninput = \"x\"\n",
        )
        .unwrap();
        let mut config = Config::default();
        config.read_file(&path).unwrap();
        config
            .read_variables([("MILLSTREAM_BATCH_SIZE".to_string(), "7".to_string())].into_iter())
            .unwrap();
        assert_eq!((config.parallelism, config.network_memory, config.batch_size), (3, 2 << 20, 7));
        assert_eq!(config.parameters["input"], "x");
    }
}
