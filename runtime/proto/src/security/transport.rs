//! Connections as the settings want them: TLS on both sides, the token shown and checked.
//!
//! Files are read and looked into here, because what a TLS library says of a wrong file names neither the file nor
//! what is wrong with it. The name expected of the other side is that of its role, see the module above.

use super::{JOB_MANAGER_NAME, Security, TlsFiles};
use crate::wire::{TOKEN_HEADER, reasons};
use millstream_model::{Error, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::path::Path;
use std::sync::{Arc, Once};
use std::time::Duration;
use subtle::ConstantTimeEq;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig};
use tonic::{Request, Status};

/// Time for a connection, and then for its handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes ring what rustls computes with, in the whole process. Whoever uses rustls calls this first.
pub fn use_ring() {
    static ONCE: Once = Once::new();
    // An error says that the program has chosen a provider of its own, which is as good.
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

impl TlsFiles {
    fn read_all(&self) -> Result<(Vec<u8>, Vec<u8>, Vec<u8>)> {
        let ca = read(&self.ca, "the authority's certificate")?;
        let cert = read(&self.cert, "the certificate")?;
        Ok((ca, cert, read(&self.key, "the private key")?))
    }

    fn read(&self) -> Result<(Certificate, Identity)> {
        let (ca, cert, key) = self.read_all()?;
        let mut authorities = RootCertStore::empty();
        for authority in certificates(&self.ca, &ca)? {
            authorities
                .add(authority)
                .map_err(|error| not_pem(&self.ca, "a certificate", error))?;
        }
        certificates(&self.cert, &cert)?;
        PrivateKeyDer::from_pem_slice(&key)
            .map_err(|error| not_pem(&self.key, "a private key", error))?;
        Ok((Certificate::from_pem(ca), Identity::from_pem(cert, key)))
    }

    /// A server of HTTP/1.1 that only those may connect to who show a certificate of the cluster's authority.
    ///
    /// # Errors
    /// If a file cannot be read or is not what it should be.
    pub fn pages(&self) -> Result<Arc<ServerConfig>> {
        let (ca, cert, key) = self.read_all()?;
        let mut authorities = RootCertStore::empty();
        for authority in certificates(&self.ca, &ca)? {
            authorities.add(authority).map_err(|e| not_pem(&self.ca, "a certificate", e))?;
        }
        let key = PrivateKeyDer::from_pem_slice(&key)
            .map_err(|e| not_pem(&self.key, "a private key", e))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(
            Arc::new(authorities),
            Arc::clone(&provider),
        )
        .build()
        .map_err(|e| not_pem(&self.ca, "a certificate", e))?;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| self.refused(&e))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates(&self.cert, &cert)?, key)
            .map_err(|e| self.refused(&e))?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(server))
    }

    fn refused(&self, error: &dyn std::error::Error) -> Error {
        Error::user(format!(
            "the certificate {} and the key {} cannot be used: {}",
            self.cert.display(),
            self.key.display(),
            reasons(error)
        ))
    }
}

fn read(file: &Path, what: &str) -> Result<Vec<u8>> {
    std::fs::read(file).map_err(|error| {
        Error::user(format!("{what} {} cannot be read", file.display())).caused_by(error)
    })
}

fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(not_pem(file, "a certificate", "it has none")),
        Err(error) => Err(not_pem(file, "a certificate", error)),
    }
}

fn not_pem(file: &Path, what: &str, why: impl std::fmt::Display) -> Error {
    Error::user(format!("{} is not {what} in PEM form: {why}", file.display()))
}

impl Security {
    /// A server as these settings want it: clients must show a certificate of the cluster's authority. Check the
    /// address first ([`Security::check_listen`]) and put services behind the [`Guard`].
    ///
    /// # Errors
    /// If a file cannot be read or is not what it should be.
    pub fn server(&self) -> Result<Server> {
        let server = Server::builder().tcp_nodelay(true);
        let Some(files) = self.tls()? else { return Ok(server) };
        use_ring();
        let (ca, identity) = files.read()?;
        let tls = ServerTlsConfig::new().identity(identity).client_ca_root(ca);
        server.tls_config(tls.timeout(CONNECT_TIMEOUT)).map_err(|error| files.refused(&error))
    }

    /// Where a job manager is, `HOST:PORT`, to be connected to as these settings want it.
    ///
    /// # Errors
    /// If the address may not be connected to, or is none; if a file cannot be read or is not what it should be.
    pub fn endpoint(&self, address: &str) -> Result<Endpoint> {
        self.check_connect(address)?;
        let files = self.tls()?;
        let scheme = if files.is_some() { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
            .map_err(|error| Error::user(format!("`{address}`: {}", reasons(&error))))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true);
        let Some(files) = files else { return Ok(endpoint) };
        use_ring();
        let (ca, identity) = files.read()?;
        let tls = ClientTlsConfig::new()
            .ca_certificate(ca)
            .identity(identity)
            .domain_name(JOB_MANAGER_NAME)
            .timeout(CONNECT_TIMEOUT);
        endpoint.tls_config(tls).map_err(|error| files.refused(&error))
    }

    /// What stands before a server's services and checks the token.
    ///
    /// # Errors
    /// If the token cannot be sent.
    pub fn guard(&self) -> Result<Guard> {
        let header = self.bearer()?.header;
        Ok(Guard { expected: header.map(|header| header.as_bytes().into()) })
    }

    /// What shows the token with every request.
    ///
    /// # Errors
    /// If the token cannot be sent.
    pub fn bearer(&self) -> Result<Bearer> {
        let Some(token) = &self.token else { return Ok(Bearer { header: None }) };
        let header = match token.is_empty() || token.contains(char::is_whitespace) {
            true => None,
            false => MetadataValue::try_from(format!("Bearer {token}")).ok(),
        };
        match header {
            Some(mut header) => {
                header.set_sensitive(true);
                Ok(Bearer { header: Some(header) })
            }
            None => Err(Error::user(
                "the cluster's token must be visible ASCII characters, without blanks: is there a line break \
                 at its end?",
            )),
        }
    }
}

/// Lets requests pass that show the right token; all, if there is none.
#[derive(Clone)]
pub struct Guard {
    expected: Option<Arc<[u8]>>,
}

impl Interceptor for Guard {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let Some(expected) = &self.expected else { return Ok(request) };
        match request.metadata().get(TOKEN_HEADER) {
            // In a time that does not tell how much of it was right.
            Some(shown) if bool::from(shown.as_bytes().ct_eq(expected)) => Ok(request),
            Some(_) => Err(Status::unauthenticated("the token is not this cluster's")),
            None => Err(Status::unauthenticated("this cluster wants a token")),
        }
    }
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.expected.is_some() { "Guard(token)" } else { "Guard(open)" })
    }
}

/// Shows the token with every request, if there is one.
#[derive(Clone, Debug)]
pub struct Bearer {
    header: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(header) = &self.header {
            request.metadata_mut().insert(TOKEN_HEADER, header.clone());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn with_token(token: &str) -> Security {
        Security { token: Some(token.into()), ..Security::default() }
    }

    #[test]
    fn only_the_right_token_passes() {
        let mut guard = with_token("secret").guard().unwrap();
        let mut pass = |security: Security| {
            let request = security.bearer().unwrap().call(Request::new(())).unwrap();
            guard.call(request).map(|_| ()).map_err(|status| status.message().to_string())
        };
        assert_eq!(pass(with_token("secret")), Ok(()));
        for wrong in ["secreT", "secre", "secrets"] {
            assert_eq!(pass(with_token(wrong)), Err("the token is not this cluster's".into()));
        }
        assert_eq!(pass(Security::default()), Err("this cluster wants a token".into()));
        let mut open = Security::default().guard().unwrap();
        assert!(open.call(Request::new(())).is_ok());
    }

    #[test]
    fn a_token_that_cannot_be_sent_is_noticed_at_once() {
        for wrong in ["", "a b", "secret\n", "gehéim\u{7f}"] {
            let error = with_token(wrong).guard().unwrap_err().to_string();
            assert!(error.contains("visible ASCII"), "{error}");
        }
    }

    #[test]
    fn a_wrong_file_is_named_with_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let file = |name: &str, text: &str| -> PathBuf {
            std::fs::write(dir.join(name), text).unwrap();
            dir.join(name)
        };
        let block = |kind| format!("-----BEGIN {kind}-----\nAAAA\n-----END {kind}-----\n");
        let key = file("key.pem", &block("PRIVATE KEY"));
        let garbage = file("garbage.pem", "not a certificate");
        let not_der = file("not-der.pem", &block("CERTIFICATE"));
        for (ca, expected) in [
            (dir.join("absent.pem"), "absent.pem cannot be read: "),
            (garbage, "garbage.pem is not a certificate in PEM form: it has none"),
            (not_der, "not-der.pem is not a certificate in PEM form: "),
        ] {
            let (ca, cert, key) = (Some(ca), Some(key.clone()), Some(key.clone()));
            let security = Security { ca, cert, key, ..Security::default() };
            let error = security.server().map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            let the_same = security.endpoint("127.0.0.1:1").map(|_| ()).unwrap_err();
            assert_eq!(error, the_same.to_string());
        }
    }
}
