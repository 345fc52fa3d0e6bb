//! Connections that nobody else can read or join: TLS, where both sides show a certificate of the cluster.
//!
//! One authority signs for the whole cluster, and every certificate carries the cluster's name instead of a
//! host's: hosts come and go, and who may take part is the question, not where it runs.

use millstream_model::{Error, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// Where the certificates are; PEM files.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// This host's certificate, and those between it and the authority's.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authority that signs for the cluster.
    pub authority: PathBuf,
    /// The name that every certificate of the cluster carries.
    pub name: String,
}

/// See the module's text.
pub(super) struct Tls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// Reads the files.
    pub(super) fn load(config: &TlsConfig) -> Result<Tls> {
        let wrong = |what: &str| Error::user(format!("the {what} for TLS cannot be used"));
        let certificates = certificates(&config.certificate)?;
        let key =
            PrivateKeyDer::from_pem_file(&config.key).map_err(|e| unreadable(&config.key, e))?;
        let mut roots = RootCertStore::empty();
        for certificate in self::certificates(&config.authority)? {
            roots.add(certificate).map_err(|e| wrong("authority").caused_by(e))?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(|e| wrong("authority").caused_by(e))?;
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| wrong("protocol").caused_by(e))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates.clone(), key.clone_key())
            .map_err(|e| wrong("certificate").caused_by(e))?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| wrong("protocol").caused_by(e))?
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates, key)
            .map_err(|e| wrong("certificate").caused_by(e))?;
        let name = ServerName::try_from(config.name.clone());
        Ok(Tls {
            acceptor: TlsAcceptor::from(Arc::new(server)),
            connector: TlsConnector::from(Arc::new(client)),
            name: name.map_err(|e| wrong("name").caused_by(e))?,
        })
    }

    pub(super) async fn connect(&self, stream: TcpStream) -> Result<client::TlsStream<TcpStream>> {
        let connected = self.connector.connect(self.name.clone(), stream).await;
        connected.map_err(|e| Error::external("no secure connection can be made").caused_by(e))
    }

    pub(super) async fn accept(&self, stream: TcpStream) -> Result<server::TlsStream<TcpStream>> {
        let accepted = self.acceptor.accept(stream).await;
        accepted.map_err(|e| Error::external("it makes no secure connection").caused_by(e))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|e| unreadable(path, e))?;
    if certificates.is_empty() {
        return Err(Error::user(format!("{} holds no certificate", path.display())));
    }
    Ok(certificates)
}

fn unreadable(path: &Path, cause: rustls::pki_types::pem::Error) -> Error {
    Error::user(format!("{} cannot be read as PEM", path.display())).caused_by(cause)
}
