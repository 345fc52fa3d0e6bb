//! TLS between hosts: who has a certificate of the cluster takes part, and nobody else.

use super::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::path::{Path, PathBuf};

/// Removed with everything in it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn folder(name: &str) -> Folder {
    let path = std::env::temp_dir().join(format!("millstream-tls-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    Folder(path)
}

/// Makes an authority and a certificate of its own, which carries this name.
fn certify(folder: &Path, authority: &str, name: &str) -> TlsConfig {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let write = |what: &str, text: String| {
        let path = folder.join(format!("{authority}-{what}.pem"));
        std::fs::write(&path, text).unwrap();
        path
    };
    TlsConfig {
        certificate: write("certificate", certificate.pem()),
        key: write("key", key.serialize_pem()),
        authority: write("authority", issuer.pem()),
        name: name.to_owned(),
    }
}

fn hosts_with(tls: [Option<&TlsConfig>; 2]) -> Hosts {
    let config = |tls: Option<&TlsConfig>| NetConfig { tls: tls.cloned(), ..config() };
    hosts_of(tls.map(config).into(), 1 << 20)
}

#[test]
fn hosts_of_one_cluster_understand_each_other() {
    let folder = folder("one");
    let tls = certify(&folder.0, "ours", "cluster");
    let hosts = hosts_with([Some(&tls), Some(&tls)]);
    let (sender, mut gate) = hosts.channel(CheckpointMode::ExactlyOnce);
    hosts.start();
    let mut seen = Seen::nothing();
    for value in 0..2000 {
        let mut batch = Batch::of(vec![value; 500]);
        until("there is credit", || {
            while seen.take(&mut gate) {}
            sender.try_send(&mut batch, 4000).unwrap()
        });
    }
    signal(&sender, Signal::End);
    hosts.attempts[0].close();
    until("the end has crossed", || {
        while seen.take(&mut gate) {}
        seen.has_ended()
    });
    assert!(seen.values.iter().copied().eq((0..2000).flat_map(|value| vec![value; 500])));
    assert_eq!((hosts.losses(0), hosts.losses(1)), (vec![], vec![]));
}

#[test]
fn who_has_no_certificate_of_the_cluster_is_kept_out() {
    let folder = folder("other");
    let ours = certify(&folder.0, "ours", "cluster");
    let theirs = certify(&folder.0, "theirs", "cluster");
    // It trusts us, but we do not know who signed for it.
    let stranger = TlsConfig { authority: ours.authority.clone(), ..theirs };
    let renamed = TlsConfig { name: "another".into(), ..ours.clone() };
    for caller in [Some(&stranger), Some(&renamed), None] {
        let hosts = hosts_with([caller, Some(&ours)]);
        let (sender, _gate) = hosts.channel(CheckpointMode::ExactlyOnce);
        hosts.start();
        until("the caller is told", || !hosts.losses(0).is_empty());
        assert!(sender.try_send(&mut Batch::of(vec![1]), 8).is_err());
        assert_eq!(hosts.losses(1), []);
    }
}

#[test]
fn certificates_that_cannot_be_used_are_named() {
    let folder = folder("wrong");
    let tls = certify(&folder.0, "ours", "cluster");
    let refused = |tls: TlsConfig| {
        let listening = Exchange::listen(NetConfig { tls: Some(tls), ..config() });
        listening.map(drop).unwrap_err().to_string()
    };
    let missing = TlsConfig { key: folder.0.join("nothing.pem"), ..tls.clone() };
    assert!(refused(missing).contains("nothing.pem"));
    let not_one = TlsConfig { certificate: tls.key.clone(), ..tls.clone() };
    assert!(refused(not_one).contains("holds no certificate"));
    let other = certify(&folder.0, "theirs", "cluster");
    let mixed = TlsConfig { key: other.key, ..tls };
    assert!(refused(mixed).contains("certificate for TLS cannot be used"));
}
