//! Which cluster is meant and how it is reached: flags, then `MILLSTREAM_…` variables, then `millstream.toml`.
//!
//! The same file configures programs; their options are passed over here, as ours are there.

use crate::args::Common;
use millstream::cluster::{self, Connection, Security};
use millstream::model::{Error, Result};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Where a cluster on this machine listens if nothing else was said.
pub(crate) const DEFAULT_ADDRESS: &str = "127.0.0.1:7455";

/// See the module's text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// `HOST:PORT`, or several with commas between.
    pub(crate) cluster: String,
    pub(crate) security: Security,
}

/// What of the file is for the command line.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct File {
    cluster: Option<String>,
    tls_ca: Option<PathBuf>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    token: Option<String>,
    insecure: bool,
}

impl Settings {
    pub(crate) fn read(flags: &Common) -> Result<Self> {
        Settings::of(flags, &|name| std::env::var(name).ok())
    }

    fn of(flags: &Common, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let file = File::read(flags, variable)?;
        let mut security = Security {
            ca: file.tls_ca,
            cert: file.tls_cert,
            key: file.tls_key,
            token: file.token,
            insecure: file.insecure,
        };
        security.read_variables(variable)?;
        security.ca = flags.tls_ca.clone().or(security.ca).map(absolute).transpose()?;
        security.cert = flags.tls_cert.clone().or(security.cert).map(absolute).transpose()?;
        security.key = flags.tls_key.clone().or(security.key).map(absolute).transpose()?;
        security.insecure |= flags.insecure;
        if let Some(file) = &flags.token_file {
            let token = std::fs::read_to_string(file).map_err(|error| {
                Error::user(format!("the token file {} cannot be read", file.display()))
                    .caused_by(error)
            })?;
            security.token = Some(token.trim_end().to_string());
        }
        let named = variable("MILLSTREAM_CLUSTER").filter(|address| !address.is_empty());
        let named = flags.cluster.clone().or(named).or(file.cluster);
        let cluster = cluster::addresses(named.as_deref().unwrap_or(DEFAULT_ADDRESS))?.join(",");
        Ok(Settings { cluster, security })
    }

    /// # Errors
    /// See [`Connection::open`].
    pub(crate) fn connect(&self) -> Result<Connection> {
        Connection::open(&cluster::addresses(&self.cluster)?, &self.security)
    }
}

impl File {
    fn read(flags: &Common, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let named = flags.config.clone().or_else(|| variable("MILLSTREAM_CONFIG").map(Into::into));
        let path = match &named {
            Some(path) => path,
            None if !Path::new("millstream.toml").is_file() => return Ok(File::default()),
            None => Path::new("millstream.toml"),
        };
        let name = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| {
            Error::user(format!("configuration file {name} cannot be read")).caused_by(error)
        })?;
        toml::from_str(&text).map_err(|error| {
            Error::user(format!("configuration file {name} is not valid")).caused_by(error)
        })
    }
}

/// A path that means the same in another process.
pub(crate) fn absolute(path: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&path).map_err(|error| {
        Error::user(format!("the path {} cannot be used", path.display())).caused_by(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_variables_and_variables_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("millstream.toml");
        let text = "cluster = \"file:1\"\ntoken = \"file\"\nbatch-size = 7\n[parameters]\na = 1\n";
        std::fs::write(&config, text).unwrap();
        let mut flags = Common { config: Some(config), ..Common::default() };
        let none = |_: &str| None;
        let some = |name: &str| match name {
            "MILLSTREAM_CLUSTER" => Some("variable:1".to_string()),
            "MILLSTREAM_TOKEN" => Some("variable".to_string()),
            _ => None,
        };
        let read = |flags: &Common, variable: &dyn Fn(&str) -> Option<String>| {
            let settings = Settings::of(flags, variable).unwrap();
            (settings.cluster, settings.security.token.unwrap_or_default())
        };
        assert_eq!(read(&flags, &none), ("file:1".into(), "file".into()));
        assert_eq!(read(&flags, &some), ("variable:1".into(), "variable".into()));
        let token_file = dir.path().join("token");
        std::fs::write(&token_file, "flag\n").unwrap();
        flags.token_file = Some(token_file);
        flags.cluster = Some("a:1, b:1".into());
        assert_eq!(read(&flags, &some), ("a:1,b:1".into(), "flag".into()));
        flags.config = Some(dir.path().join("absent.toml"));
        let error = Settings::of(&flags, &none).unwrap_err().to_string();
        assert!(error.contains("absent.toml cannot be read"), "{error}");
    }
}
