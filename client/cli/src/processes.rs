//! The processes of a cluster, as the command line configures them.
//!
//! The defaults are those of the packages that run them: a flag that is not given changes nothing.

use crate::args;
use crate::failure::{Failure, Kind, Outcome};
use crate::settings::Settings;
use millstream::cluster;
use millstream::model::Error;
use millstream_jobmanager::job::cluster as master;
use millstream_jobmanager::process::JobManagerConfig;
use millstream_taskmanager::hosts::HostLimits;
use millstream_taskmanager::process::TaskManagerConfig;
use std::io::IsTerminal;
use std::sync::Arc;
use tracing_subscriber::EnvFilter;

/// Sets what was given.
macro_rules! set {
    ($config:ident: $($field:ident = $value:expr;)*) => {
        $(if let Some(value) = $value {
            $config.$field = value;
        })*
    };
}

pub(crate) fn job_manager(settings: &Settings, flags: &args::JobManager) -> Outcome {
    let mut config = JobManagerConfig::new(&flags.dir);
    config.listen = flags.listen;
    config.rest_listen = flags.rest_listen.0;
    config.rest_tls = flags.rest_tls;
    config.security = settings.security.clone();
    set! { config:
        heartbeat_ms = flags.heartbeat;
        timeout_ms = flags.heartbeat_timeout;
        reconnect_grace_ms = flags.reconnect_grace;
        orphan_timeout_ms = flags.orphan_timeout;
        reattach_timeout_ms = flags.reattach_timeout;
        placement = flags.placement;
        max_jobs = flags.max_jobs;
        n_history = flags.history;
        max_program_bytes = flags.max_program_bytes;
        max_programs_bytes = flags.max_programs_bytes;
        max_connections = flags.max_connections;
    }
    config.check().map_err(Failure::usage)?;
    log_to_stderr();
    let masters = master::Settings { reattach_timeout_ms: config.reattach_timeout_ms };
    let start = Arc::new(move |spec, link| master::start(spec, link, masters));
    millstream_jobmanager::process::run(config, start).map_err(failed)
}

pub(crate) fn task_manager(settings: &Settings, flags: &args::TaskManager) -> Outcome {
    let mut config = TaskManagerConfig::new(flags.dir.clone());
    config.job_managers = cluster::addresses(&settings.cluster).map_err(Failure::usage)?;
    config.data_bind = flags.data_listen;
    config.metrics_listen = flags.metrics_listen.0;
    config.metrics_tls = flags.metrics_tls;
    config.security = settings.security.clone();
    let limits = HostLimits { memory_bytes: flags.host_memory, open_files: flags.host_files };
    config.host_limits = limits;
    set! { config:
        n_slots = flags.slots.map(usize::from);
        log_bytes = flags.log_bytes;
        program_bytes = flags.program_bytes;
    }
    log_to_stderr();
    millstream_taskmanager::process::run(config).map_err(failed)
}

fn failed(error: Error) -> Failure {
    Failure::Error(Kind::Refused, error)
}

fn log_to_stderr() {
    let filter =
        EnvFilter::try_from_env("MILLSTREAM_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // Colours would only be in the way in a file.
    let is_shown = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    log.with_ansi(is_shown).init();
}
