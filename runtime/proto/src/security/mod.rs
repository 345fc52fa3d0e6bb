//! Who may speak with a cluster, and who can listen to it.
//!
//! A cluster runs what it is sent, so whoever reaches its ports owns it. Therefore it is reached from its own machine
//! only, unless one of two things was said: how connections are encrypted and both sides prove who they are, or
//! that the network is trusted. The settings are plain values, the same for every process, and travel to task
//! hosts as such; what makes connections of them is in `transport` (feature `wire`).
//!
//! With TLS every process shows a certificate of the cluster's own authority (`millstream certs` makes one), clients
//! too. Certificates say what a process *is* ([`JOB_MANAGER_NAME`]), not where it runs: addresses change, and
//! whoever has been given a certificate for a client cannot pose as the job manager.

#[cfg(feature = "pages")]
mod hall;
#[cfg(feature = "wire")]
mod transport;

#[cfg(feature = "pages")]
pub use hall::{Hall, Refused, Visitor, accept};

#[cfg(feature = "wire")]
pub use transport::{Bearer, Guard, use_ring};

use millstream_model::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// The name in every job manager's certificate, which clients and task managers expect.
pub const JOB_MANAGER_NAME: &str = "jobmanager.millstream";

/// The name in every task manager's certificate, which other task hosts expect.
pub const TASK_MANAGER_NAME: &str = "taskmanager.millstream";

/// See the module's text.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Security {
    /// File with the certificate of the cluster's authority, in PEM.
    pub ca: Option<PathBuf>,
    /// File with this process's certificate, in PEM.
    pub cert: Option<PathBuf>,
    /// File with this process's private key, in PEM.
    pub key: Option<PathBuf>,
    /// What clients and task managers must show.
    pub token: Option<String>,
    /// Whether the network is trusted: connections to other machines need not be encrypted.
    pub insecure: bool,
}

/// The three files that TLS needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsFiles {
    /// The certificate of the cluster's authority.
    pub ca: PathBuf,
    /// This process's certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The variables that carry the settings to programs, and how each is read and written.
const VARIABLES: [&str; 5] = [
    "MILLSTREAM_TLS_CA",
    "MILLSTREAM_TLS_CERT",
    "MILLSTREAM_TLS_KEY",
    "MILLSTREAM_TOKEN",
    "MILLSTREAM_INSECURE",
];

impl Security {
    /// The files for TLS, if it is used.
    ///
    /// # Errors
    /// If some are named and others are not.
    pub fn tls(&self) -> Result<Option<TlsFiles>> {
        match (&self.ca, &self.cert, &self.key) {
            (None, None, None) => Ok(None),
            (Some(ca), Some(cert), Some(key)) => {
                Ok(Some(TlsFiles { ca: ca.clone(), cert: cert.clone(), key: key.clone() }))
            }
            (ca, cert, key) => {
                let missing = [(ca, "tls-ca"), (cert, "tls-cert"), (key, "tls-key")];
                let missing: Vec<_> = missing
                    .iter()
                    .filter(|(file, _)| file.is_none())
                    .map(|(_, name)| format!("`{name}`"))
                    .collect();
                Err(Error::user(format!(
                    "TLS needs the authority's certificate, and a certificate and key of this process, but {} \
                     is not set: `millstream certs DIR` makes all of them",
                    missing.join(" and ")
                )))
            }
        }
    }

    /// Whether a process may listen at this address, with TLS if that is configured.
    ///
    /// # Errors
    /// If other machines could reach it without TLS and nobody said that this is meant.
    pub fn check_listen(&self, what: &str, address: SocketAddr) -> Result<()> {
        if self.tls()?.is_some() || address.ip().is_loopback() || self.insecure {
            return Ok(());
        }
        Err(Error::user(format!(
            "{what} would listen at {address}, where other machines reach it, without TLS: listen at 127.0.0.1, \
             make certificates (`millstream certs DIR`) and name them, or say `--insecure` if everybody in that \
             network is trusted"
        )))
    }

    /// The files for TLS of an interface for people, scripts and monitoring at this address. On this machine it does without
    /// unless that `is_wanted`: what reads it there need not have a certificate.
    ///
    /// # Errors
    /// As [`tls`](Self::tls), and if it is wanted and there are none.
    pub fn page_files(&self, address: SocketAddr, is_wanted: bool) -> Result<Option<TlsFiles>> {
        match self.tls()? {
            None if is_wanted => Err(Error::user(format!(
                "TLS is wanted at {address}, and there are no certificates: make them (`millstream certs DIR`) and \
                 name them (`tls-ca`, `tls-cert`, `tls-key`)"
            ))),
            files => Ok(files.filter(|_| is_wanted || !address.ip().is_loopback())),
        }
    }

    /// Whether `HOST:PORT` may be connected to, with TLS if that is configured.
    ///
    /// # Errors
    /// If it may be another machine, there is no TLS, and nobody said that this is meant; if it is no address.
    pub fn check_connect(&self, address: &str) -> Result<()> {
        let host = host_of(address)?;
        let is_here = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        if is_here || self.insecure || self.tls()?.is_some() {
            return Ok(());
        }
        Err(Error::user(format!(
            "{address} is not on this machine, and the connection would not be encrypted: name the cluster's \
             certificates (`tls-ca`, `tls-cert`, `tls-key`), or say `--insecure` if everybody in the network \
             between is trusted"
        )))
    }

    /// Reads `MILLSTREAM_TLS_CA`, `MILLSTREAM_TLS_CERT`, `MILLSTREAM_TLS_KEY`, `MILLSTREAM_TOKEN` and
    /// `MILLSTREAM_INSECURE`; those that are not set or empty leave the setting as it is.
    ///
    /// # Errors
    /// If `MILLSTREAM_INSECURE` is neither `true` nor `false`.
    pub fn read_variables(&mut self, variable: impl Fn(&str) -> Option<String>) -> Result<()> {
        let [ca, cert, key, token, insecure] =
            VARIABLES.map(|name| variable(name).filter(|value| !value.is_empty()));
        let files = [(&mut self.ca, ca), (&mut self.cert, cert), (&mut self.key, key)];
        for (setting, value) in files {
            *setting = value.map(PathBuf::from).or_else(|| setting.take());
        }
        self.token = token.or_else(|| self.token.take());
        match insecure.as_deref() {
            None => {}
            Some("true") => self.insecure = true,
            Some("false") => self.insecure = false,
            Some(other) => {
                return Err(Error::user(format!(
                    "variable MILLSTREAM_INSECURE cannot be `{other}`: use `true` or `false`"
                )));
            }
        }
        Ok(())
    }

    /// The variables from which `read_variables` reads these settings. A value of `None` says that the variable must
    /// not be set.
    ///
    /// # Errors
    /// If a path is not text.
    pub fn to_variables(&self) -> Result<Vec<(&'static str, Option<String>)>> {
        let text = |path: &Option<PathBuf>| match path.as_deref().map(|path| (path, path.to_str()))
        {
            None => Ok(None),
            Some((_, Some(text))) => Ok(Some(text.to_string())),
            Some((path, None)) => Err(not_text(path)),
        };
        let values = [
            text(&self.ca)?,
            text(&self.cert)?,
            text(&self.key)?,
            self.token.clone(),
            self.insecure.then(|| "true".to_string()),
        ];
        Ok(VARIABLES.into_iter().zip(values).collect())
    }
}

fn not_text(path: &Path) -> Error {
    Error::user(format!("the path {} is not UTF-8: rename it", path.display()))
}

/// The host in `HOST:PORT`, `[V6]:PORT` without brackets.
fn host_of(address: &str) -> Result<&str> {
    let parts = address.rsplit_once(':').filter(|(host, port)| {
        let is_plain = !host.contains([':', '/', ' ']) && !host.is_empty();
        let is_v6 = host.starts_with('[') && host.ends_with(']');
        (is_plain || is_v6) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    match parts {
        Some((host, _)) => Ok(host.trim_start_matches('[').trim_end_matches(']')),
        None => Err(Error::user(format!(
            "`{address}` is not the address of a job manager: that is HOST:PORT, such as 127.0.0.1:7455"
        ))),
    }
}

/// Does not show the token.
impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Security")
            .field("ca", &self.ca)
            .field("cert", &self.cert)
            .field("key", &self.key)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("insecure", &self.insecure)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_files(n: usize) -> Security {
        let file = |i| (i < n).then(|| PathBuf::from(format!("{i}.pem")));
        Security { ca: file(0), cert: file(1), key: file(2), ..Security::default() }
    }

    #[test]
    fn listening_elsewhere_needs_tls_or_a_word() {
        let here = "127.0.0.1:7455".parse().unwrap();
        let everywhere = "0.0.0.0:7455".parse().unwrap();
        let trusted = Security { insecure: true, ..Security::default() };
        for security in [Security::default(), trusted.clone(), with_files(3)] {
            security.check_listen("the job manager", here).unwrap();
        }
        trusted.check_listen("the job manager", everywhere).unwrap();
        with_files(3).check_listen("the job manager", everywhere).unwrap();
        let refused = Security::default().check_listen("the job manager", everywhere);
        let refused = refused.unwrap_err().to_string();
        assert!(
            refused.starts_with("the job manager would listen at 0.0.0.0:7455")
                && refused.contains("millstream certs DIR")
                && refused.contains("--insecure"),
            "{refused}"
        );
        // What only people and scripts read has TLS where it is needed.
        assert!(with_files(3).page_files(everywhere, false).unwrap().is_some());
        assert!(with_files(3).page_files(here, true).unwrap().is_some());
        assert_eq!(with_files(3).page_files(here, false).unwrap(), None);
        assert_eq!(trusted.page_files(everywhere, false).unwrap(), None);
        with_files(2).page_files(everywhere, false).unwrap_err();
        let refused = trusted.page_files(here, true).unwrap_err().to_string();
        assert!(refused.contains("millstream certs DIR"), "{refused}");
    }

    #[test]
    fn connecting_elsewhere_does_too() {
        for here in ["127.0.0.1:1", "localhost:7455", "[::1]:7455"] {
            Security::default().check_connect(here).unwrap();
        }
        for there in ["10.0.0.1:7455", "cluster:7455", "[fe80::1]:7455", "localhost.evil.org:1"] {
            let refused = Security::default().check_connect(there).unwrap_err().to_string();
            assert!(refused.contains("not on this machine"), "{refused}");
            with_files(3).check_connect(there).unwrap();
        }
        for wrong in
            ["", "localhost", "localhost:", ":7455", "localhost:99999", "::1:7455", "http://a:1"]
        {
            let refused = Security::default().check_connect(wrong).unwrap_err().to_string();
            assert!(refused.contains("HOST:PORT"), "{wrong}: {refused}");
        }
    }

    #[test]
    fn half_of_the_files_are_not_enough() {
        assert_eq!(with_files(0).tls().unwrap(), None);
        assert!(with_files(3).tls().unwrap().is_some());
        let refused = with_files(1).tls().unwrap_err().to_string();
        assert!(refused.contains("`tls-cert` and `tls-key` is not set"), "{refused}");
    }

    #[test]
    fn variables_carry_the_settings_to_programs() {
        let all = Security { token: Some("secret".into()), insecure: true, ..with_files(3) };
        for security in [Security::default(), with_files(3), all] {
            let variables = security.to_variables().unwrap();
            let lookup = |name: &str| variables.iter().find(|(n, _)| *n == name)?.1.clone();
            let mut read = Security::default();
            read.read_variables(lookup).unwrap();
            assert_eq!(read, security);
        }
        let wrong = Security::default()
            .read_variables(|name| (name == "MILLSTREAM_INSECURE").then(|| "maybe".into()))
            .unwrap_err();
        assert!(wrong.to_string().contains("use `true` or `false`"), "{wrong}");
    }

    #[test]
    fn the_token_is_not_printed() {
        let security = Security { token: Some("secret".into()), ..Security::default() };
        assert!(!format!("{security:?}").contains("secret"));
    }
}
