//! A job manager that is reached over TLS: with a certificate of its cluster, and not at all without. Its RPC, and its REST.

use super::*;
use millstream_proto::security::{JOB_MANAGER_NAME, Security};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{ErrorKind, Read, Write};
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

/// A cluster whose REST interface wants TLS, and the files of its folder.
fn with_rest(dir: &Path, change: impl FnOnce(&mut JobManagerConfig)) -> Cluster {
    let security = files(dir);
    Cluster::with(|config| {
        (config.security, config.rest_tls) = (security, true);
        change(config);
    })
}

/// What a client trusts and shows. It may show nothing.
fn client(trusts: &Security, shows: Option<&Security>) -> ClientConfig {
    let mut authorities = RootCertStore::empty();
    let ca = trusts.ca.as_ref().unwrap();
    authorities.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(authorities);
    match shows {
        None => client.with_no_client_auth(),
        Some(Security { cert, key, .. }) => {
            let cert = CertificateDer::from_pem_file(cert.as_ref().unwrap()).unwrap();
            let key = PrivateKeyDer::from_pem_file(key.as_ref().unwrap()).unwrap();
            client.with_client_auth_cert(vec![cert], key).unwrap()
        }
    }
}

fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Asks for a page under the job manager's name; the answer, or why there is none.
fn ask(address: SocketAddr, config: ClientConfig, header: &str) -> Result<String, String> {
    let name = JOB_MANAGER_NAME.try_into().unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, dial(address));
    let mut text = String::new();
    let mut talk = || {
        write!(
            stream,
            "GET /overview HTTP/1.1\r\nHost: {JOB_MANAGER_NAME}\r\nConnection: close\r\n{header}\r\n"
        )?;
        stream.read_to_string(&mut text)
    };
    talk().map(drop).map_err(|error| error.to_string())?;
    Ok(text)
}

#[test]
fn rest_is_read_with_a_certificate_of_the_cluster_and_not_without() {
    let (dir, other_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cluster = with_rest(dir.path(), |_| ());
    let (address, own) = (cluster.rest_address(), &cluster.config.security);
    // Under a name, because here a name is proved.
    let page = ask(address, client(own, Some(own)), "").unwrap();
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("taskmanagers"), "{page}");

    let refused = ask(address, client(own, None), "").unwrap_err();
    assert!(refused.contains("CertificateRequired"), "{refused}");
    let other = files(other_dir.path());
    let refused = ask(address, client(own, Some(&other)), "").unwrap_err();
    assert!(refused.contains("DecryptError") || refused.contains("UnknownCA"), "{refused}");
    let refused = ask(address, client(&other, Some(own)), "").unwrap_err();
    assert!(refused.contains("invalid peer certificate"), "{refused}");

    let mut stream = dial(address);
    write!(stream, "GET /overview HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 400") && text.contains("use https://"), "{text}");
    let page = ask(address, client(own, Some(own)), "").unwrap();
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
}

#[test]
fn a_certificate_does_not_stand_for_a_token() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = with_rest(dir.path(), |config| config.security.token = Some("hush".into()));
    let (address, own) = (cluster.rest_address(), &cluster.config.security);
    let asked = |header: &str| ask(address, client(own, Some(own)), header).unwrap();
    assert!(asked("").starts_with("HTTP/1.1 401"));
    assert!(asked("Authorization: Bearer wrong\r\n").starts_with("HTTP/1.1 401"));
    assert!(asked("Authorization: Bearer hush\r\n").starts_with("HTTP/1.1 200"));
}

#[test]
fn who_is_slow_or_talks_nonsense_holds_up_nobody_and_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = with_rest(dir.path(), |config| config.max_connections = 8);
    let (address, own) = (cluster.rest_address(), &cluster.config.security);
    let mut slow: Vec<TcpStream> = Vec::new();
    for begin in [&b""[..], b"\x16", b"\x16\x03\x01\x40\x00\x01", b"\x16\x03\x01\x02\x00\x01\x00"] {
        let mut stream = dial(address);
        stream.write_all(begin).unwrap();
        slow.push(stream);
    }
    for nonsense in [
        &b"\x16\x03\x01\xff\xff\xff\xff\xff\xff\xff\xff"[..],
        b"\x00\xff\x00",
        b"\x16\xff\xff\xff\xff\xff",
    ] {
        let mut stream = dial(address);
        stream.write_all(nonsense).unwrap();
        // It may be told why before that.
        let _ = stream.read_to_end(&mut Vec::new());
    }
    let last = dial(address);
    let page = ask(address, client(own, Some(own)), "").unwrap();
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    last.set_nonblocking(true).unwrap();
    let still_open = last.peek(&mut [0]).map_err(|error| error.kind());
    assert_eq!(still_open, Err(ErrorKind::WouldBlock), "it waited for those that are slow");
    last.set_nonblocking(false).unwrap();
    slow.push(last);
    // As many as may be: whoever comes then is served when those that are slow are closed.
    while slow.len() < 8 {
        slow.push(dial(address));
    }
    let page = ask(address, client(own, Some(own)), "").unwrap();
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    for mut stream in slow {
        // Reset, if not everything was read; what would fail here is the deadline.
        let closed = stream.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
        assert!(closed.is_ok() || closed == Err(ErrorKind::ConnectionReset), "{closed:?}");
    }
}
