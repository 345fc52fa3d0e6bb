//! A job manager that is reached over TLS: with a certificate of its cluster, and not at all without.

use super::*;
use millstream_proto::security::{JOB_MANAGER_NAME, Security};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

/// The files of a cluster of its own, with a certificate that serves on both sides.
fn files(dir: &Path) -> Security {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::DnsName(JOB_MANAGER_NAME.try_into().unwrap())];
    let certificate = params.signed_by(&key, &authority).unwrap();
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    };
    Security {
        ca: write("ca.pem", authority.pem()),
        cert: write("cert.pem", certificate.pem()),
        key: write("key.pem", key.serialize_pem()),
        ..Security::default()
    }
}

#[test]
fn those_of_the_cluster_are_served_and_nobody_else_is() {
    let (dir, other_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let security = files(dir.path());
    let cluster = Cluster::with(|config| config.security = security);
    let reply = cluster.call(&ClientRequest::Cluster);
    assert!(matches!(reply, ClientReply::Cluster(_)), "{reply:?}");
    let session = cluster.attach(5, 1, &[]);
    assert_eq!(session.epoch, LeaderEpoch(1));

    let address = cluster.address().to_string();
    let ask = |security: &Security| {
        let endpoint = security.endpoint(&address).unwrap();
        cluster.runtime.block_on(async move {
            let mut client = JobsClient::new(endpoint.connect().await.map_err(drop)?);
            let envelope = Envelope::seal(LeaderEpoch(0), &ClientRequest::Cluster).unwrap();
            client.call(envelope).await.map(drop).map_err(drop)
        })
    };
    assert_eq!(ask(&cluster.config.security), Ok(()));
    assert_eq!(ask(&files(other_dir.path())), Err(()), "of another cluster");
    assert_eq!(ask(&Security::default()), Err(()), "without TLS");

    let mut stream = TcpStream::connect(cluster.address()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    // Closed, or reset because not everything was read.
    let _ = stream.read_to_end(&mut bytes);
    assert!(bytes.is_empty(), "{bytes:?}");
    let reply = cluster.call(&ClientRequest::Cluster);
    assert!(matches!(reply, ClientReply::Cluster(_)), "{reply:?}");
}
