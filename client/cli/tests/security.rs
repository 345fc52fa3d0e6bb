//! Certificates of `millstream certs` in use: who is let in, and who is not.

use crate::world::{JobManager, Ran, cluster, jobs, millstream};
use millstream::cluster::message::{ClientRequest, JobPhase};
use millstream::cluster::{Connection, Security};
use std::path::Path;

fn certificates(dir: &Path) {
    Ran::of(&mut millstream(&format!("certs {}", dir.display()))).expect(0);
}

fn of(dir: &Path, role: &str) -> Security {
    Security {
        ca: Some(dir.join("ca.pem")),
        cert: Some(dir.join(format!("{role}.pem"))),
        key: Some(dir.join(format!("{role}.key"))),
        ..Security::default()
    }
}

fn serving(security: &Security) -> JobManager {
    JobManager::with(security, Vec::new(), |_| cluster(jobs([JobPhase::Running; 2])))
}

fn asked(manager: &JobManager, security: &Security) -> Result<(), String> {
    Connection::open(std::slice::from_ref(&manager.address), security)
        .and_then(|connection| connection.call(ClientRequest::Cluster))
        .map(drop)
        .map_err(|error| error.to_string())
}

#[test]
fn certificates_of_one_authority_let_each_other_in() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, others) = (dir.path().join("ours"), dir.path().join("others"));
    certificates(&ours);
    certificates(&others);
    let manager = serving(&of(&ours, "jobmanager"));
    for role in ["client", "taskmanager"] {
        asked(&manager, &of(&ours, role)).unwrap();
    }
    let line = format!(
        "list --cluster {0} --tls-ca {1}/ca.pem --tls-cert {1}/client.pem --tls-key {1}/client.key",
        manager.address,
        ours.display()
    );
    let listed = Ran::of(&mut millstream(&line)).expect(0).out;
    assert!(listed.contains("flights"), "{listed}");

    let stranger = asked(&manager, &of(&others, "client")).unwrap_err();
    assert!(stranger.contains("certificate"), "{stranger}");
    // A job manager that another authority vouches for is not believed, even if it believes the client.
    let mut trusting = of(&ours, "client");
    trusting.ca = Some(others.join("ca.pem"));
    assert!(asked(&manager, &trusting).unwrap_err().contains("certificate"));
    // Without TLS nothing is understood, and without a certificate nobody is let in.
    asked(&manager, &Security::default()).unwrap_err();
}

#[test]
fn a_certificate_is_good_for_one_role_only() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    for role in ["client", "taskmanager"] {
        let impostor = serving(&of(dir.path(), role));
        let error = asked(&impostor, &of(dir.path(), "client")).unwrap_err();
        assert!(error.contains("certificate"), "{role}: {error}");
    }
    let manager = serving(&of(dir.path(), "jobmanager"));
    asked(&manager, &of(dir.path(), "jobmanager")).unwrap_err();
}

#[test]
fn a_key_of_another_certificate_is_named() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let mut mixed = of(dir.path(), "client");
    mixed.key = Some(dir.path().join("taskmanager.key"));
    let error = mixed.server().map(drop).unwrap_err().to_string();
    assert!(error.contains("taskmanager.key cannot be used"), "{error}");
    let again = Ran::of(&mut millstream(&format!("certs {}", dir.path().display()))).expect(2).err;
    assert!(again.contains("is there already"), "{again}");
}

#[test]
fn a_wrong_token_is_refused() {
    let security = Security { token: Some("right".into()), ..Security::default() };
    let manager = serving(&security);
    let with = |token: &str| {
        let mut command = millstream("list");
        command.env("MILLSTREAM_CLUSTER", &manager.address).env("MILLSTREAM_TOKEN", token);
        Ran::of(&mut command)
    };
    with("right").expect(0);
    let wrong = with("wrong").expect(5).err;
    assert!(wrong.contains("does not take this client"), "{wrong}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "right\n").unwrap();
    manager.run(&format!("list --token-file {}", file.display())).expect(0);
}
