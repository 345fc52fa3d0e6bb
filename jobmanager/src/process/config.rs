//! What a job manager's process is told when it starts.

use crate::dispatcher;
use crate::programs;
use crate::resource::{self, Placement};
use millstream_model::{Error, Result};
use millstream_proto::security::Security;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// See the module's text. All of it are plain values, with defaults that suit a cluster on one machine.
#[derive(Clone, Debug, PartialEq)]
pub struct JobManagerConfig {
    /// Where task managers and clients connect to. Port 0: a free one.
    pub listen: SocketAddr,
    /// Where the REST interface listens; `None`: nowhere.
    pub rest_listen: Option<SocketAddr>,
    /// Whether it wants TLS at an address of this machine, too, where others may have accounts.
    pub rest_tls: bool,
    /// The folder in which the job manager keeps what must outlive it.
    pub dir: PathBuf,
    /// How often job manager and task managers say something, at least, in ms.
    pub heartbeat_ms: u64,
    /// Who has said nothing for so long, in ms, is taken for gone.
    pub timeout_ms: u64,
    /// How long after its connection broke a task manager may come back, in ms, before its tasks count as lost. With 0
    /// a process that dies is noticed at once, and so is a connection that was merely cut.
    pub reconnect_grace_ms: u64,
    /// How long hosts run on without a leader, in ms.
    pub orphan_timeout_ms: u64,
    /// How long task managers may take to find a job manager that was started again, in ms.
    pub reattach_timeout_ms: u64,
    /// Who may connect, and how.
    pub security: Security,
    /// Which of the free slots a job is given.
    pub placement: Placement,
    /// The most jobs that run or wait at a time.
    pub max_jobs: usize,
    /// How many jobs are remembered after they have ended.
    pub n_history: usize,
    /// The longest program, in bytes.
    pub max_program_bytes: u64,
    /// All programs together, in bytes.
    pub max_programs_bytes: u64,
    /// The most connections at a time.
    pub max_connections: usize,
    /// The most bytes that wait to be read by one task manager.
    pub max_outbox_bytes: usize,
}

impl JobManagerConfig {
    /// The defaults, in this folder.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        JobManagerConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 7455)),
            rest_listen: Some(SocketAddr::from(([127, 0, 0, 1], 7456))),
            rest_tls: false,
            dir: dir.into(),
            heartbeat_ms: 1000,
            timeout_ms: 5000,
            reconnect_grace_ms: 0,
            orphan_timeout_ms: 600_000,
            reattach_timeout_ms: 10_000,
            security: Security::default(),
            placement: Placement::default(),
            max_jobs: 1000,
            n_history: 100,
            max_program_bytes: 1 << 30,
            max_programs_bytes: 8 << 30,
            max_connections: 1000,
            max_outbox_bytes: 256 << 20,
        }
    }

    /// Whether the values make sense together.
    ///
    /// # Errors
    /// If they do not.
    pub fn check(&self) -> Result<()> {
        self.security.check_listen("the job manager", self.listen)?;
        if let Some(address) = self.rest_listen {
            self.security.check_listen("the job manager's REST interface", address)?;
            self.security.page_files(address, self.rest_tls)?;
        }
        if self.heartbeat_ms == 0 || self.timeout_ms < 2 * self.heartbeat_ms {
            return Err(Error::user(format!(
                "a timeout of {} ms is too short for heartbeats every {} ms: it must be at least twice as long, \
                 and heartbeats at least 1 ms apart",
                self.timeout_ms, self.heartbeat_ms
            )));
        }
        let counts = [("max-jobs", self.max_jobs), ("max-connections", self.max_connections)];
        match counts.iter().find(|(_, count)| *count == 0) {
            Some((name, _)) => Err(Error::user(format!("`{name}` cannot be 0"))),
            None => Ok(()),
        }
    }

    /// Names and values, for people. No secrets.
    pub fn entries(&self) -> Vec<(&'static str, String)> {
        let rest = self.rest_listen.map_or("none".into(), |address| address.to_string());
        let tls = if self.security.cert.is_some() { "mutual" } else { "none" };
        let page_files = |address| self.security.page_files(address, self.rest_tls).ok().flatten();
        let rest_tls =
            if self.rest_listen.and_then(page_files).is_some() { "mutual" } else { "none" };
        let token = if self.security.token.is_some() { "required" } else { "none" };
        vec![
            ("listen", self.listen.to_string()),
            ("rest-listen", rest),
            ("dir", self.dir.display().to_string()),
            ("heartbeat-ms", self.heartbeat_ms.to_string()),
            ("timeout-ms", self.timeout_ms.to_string()),
            ("reconnect-grace-ms", self.reconnect_grace_ms.to_string()),
            ("orphan-timeout-ms", self.orphan_timeout_ms.to_string()),
            ("reattach-timeout-ms", self.reattach_timeout_ms.to_string()),
            ("placement", self.placement.to_string()),
            ("max-jobs", self.max_jobs.to_string()),
            ("history", self.n_history.to_string()),
            ("max-program-bytes", self.max_program_bytes.to_string()),
            ("max-programs-bytes", self.max_programs_bytes.to_string()),
            ("max-connections", self.max_connections.to_string()),
            ("max-outbox-bytes", self.max_outbox_bytes.to_string()),
            ("tls", tls.into()),
            ("rest-tls", rest_tls.into()),
            ("token", token.into()),
            ("insecure", self.security.insecure.to_string()),
        ]
    }

    pub(super) fn pool(&self) -> resource::Config {
        resource::Config {
            placement: self.placement,
            timeout_ms: self.timeout_ms,
            reconnect_grace_ms: self.reconnect_grace_ms,
            reattach_timeout_ms: self.reattach_timeout_ms,
        }
    }

    pub(super) fn dispatcher(&self) -> dispatcher::Config {
        dispatcher::Config { max_jobs: self.max_jobs, n_history: self.n_history }
    }

    pub(super) fn programs(&self) -> programs::Limits {
        programs::Limits {
            max_program_bytes: self.max_program_bytes,
            max_total_bytes: self.max_programs_bytes,
        }
    }

    pub(super) fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms)
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_do_not_fit_together_are_refused() {
        let good = JobManagerConfig::new("dir");
        good.check().unwrap();
        let refused = |change: fn(&mut JobManagerConfig), why: &str| {
            let mut config = good.clone();
            change(&mut config);
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        refused(|c| c.heartbeat_ms = 0, "at least 1 ms");
        refused(|c| c.timeout_ms = 1999, "at least twice");
        refused(|c| c.max_jobs = 0, "`max-jobs`");
        refused(|c| c.max_connections = 0, "`max-connections`");
        refused(|c| c.listen = "0.0.0.0:1".parse().unwrap(), "--insecure");
        refused(|c| c.rest_listen = Some("0.0.0.0:1".parse().unwrap()), "REST");
        refused(|c| c.rest_tls = true, "there are no certificates");
        refused(|c| c.security.ca = Some("ca.pem".into()), "`tls-cert` and `tls-key`");
    }

    #[test]
    fn certificates_let_it_listen_elsewhere_and_are_used_there() {
        let file = |name: &str| Some(name.into());
        let mut config = JobManagerConfig::new("dir");
        let (ca, cert, key) = (file("ca.pem"), file("cert.pem"), file("key.pem"));
        config.security = Security { ca, cert, key, ..Security::default() };
        let rest_tls = |config: &JobManagerConfig| {
            config.check().unwrap();
            config.entries().into_iter().find(|(name, _)| *name == "rest-tls").unwrap().1
        };
        assert_eq!(rest_tls(&config), "none", "on this machine");
        config.rest_tls = true;
        assert_eq!(rest_tls(&config), "mutual");
        (config.rest_tls, config.rest_listen) = (false, Some("0.0.0.0:1".parse().unwrap()));
        assert_eq!(rest_tls(&config), "mutual");
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut config = JobManagerConfig::new("dir");
        config.security.token = Some("hush".into());
        let shown = format!("{:?} {config:?}", config.entries());
        assert!(!shown.contains("hush"), "{shown}");
    }
}
