//! The certificates of a cluster.
//!
//! An authority of the cluster's own signs them, so that nothing else in the world can vouch for a process. Each
//! carries what a process is, and may be used for that only: a client's cannot answer as a job manager, and a job
//! manager's cannot submit jobs. All is made before any of it is written, and nothing is ever written over:
//! keys that are in use would be gone.

use super::{now_ms, print, write_out};
use crate::args;
use crate::failure::{Failure, Outcome};
use crate::table::date;
use millstream::cluster::{JOB_MANAGER_NAME, TASK_MANAGER_NAME};
use millstream::model::{Error, Result};
use millstream::runtime::folder::make_folder;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use serde_json::json;
use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

const DAY_MS: i64 = 86_400_000;

/// A file to write: its name, what is in it, and whether only its owner may read it.
type Made = (String, String, bool);

pub(crate) fn certs(json: bool, certs: &args::Certs) -> Outcome {
    let files = make(certs.days, now_ms()).map_err(|error| {
        let text = "certificates cannot be made";
        Failure::refused(Error::internal(text).caused_by(error))
    })?;
    write(&certs.dir, &files).map_err(Failure::usage)?;
    if json {
        let names: Vec<_> = files.iter().map(|(name, ..)| certs.dir.join(name)).collect();
        return print(true, &json!({ "files": names }), String::new);
    }
    for (name, _, is_secret) in &files {
        let secret = if *is_secret { "   (keep it secret)" } else { "" };
        write_out(format!("{}{secret}\n", certs.dir.join(name).display()).as_bytes());
    }
    let dir = certs.dir.display();
    write_out(
        format!(
            "\nEvery process is given the authority's certificate and its own two files, for instance a client:\n  \
             millstream --tls-ca {dir}/ca.pem --tls-cert {dir}/client.pem --tls-key {dir}/client.key list\n\
             Nobody needs ca.key, unless there are to be more certificates of this authority: put it away.\n"
        )
        .as_bytes(),
    );
    Ok(())
}

fn make(days: u32, now_ms: i64) -> Result<Vec<Made>, rcgen::Error> {
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let day = |ms: i64| {
        let (year, month, day) = date(ms.div_euclid(DAY_MS));
        date_time_ymd(i32::try_from(year).unwrap_or(i32::MAX), month, day)
    };
    let params = |what: &str| {
        let mut params = CertificateParams::default();
        // Clocks of other machines may be behind.
        params.not_before = day(now_ms - DAY_MS);
        params.not_after = day(now_ms + i64::from(days) * DAY_MS);
        params.distinguished_name.push(DnType::CommonName, format!("Millstream {what}"));
        params.use_authority_key_identifier_extension = true;
        params
    };
    let mut authority = params("cluster authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let mut files = vec![
        ("ca.pem".to_string(), authority.pem(), false),
        ("ca.key".to_string(), authority.key().serialize_pem(), true),
    ];
    let roles = [
        ("jobmanager", Some(JOB_MANAGER_NAME), vec![ServerAuth]),
        ("taskmanager", Some(TASK_MANAGER_NAME), vec![ServerAuth, ClientAuth]),
        ("client", None, vec![ClientAuth]),
    ];
    for (role, name, purposes) in roles {
        let key = KeyPair::generate()?;
        let mut params = params(role);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = purposes;
        if let Some(name) = name {
            params.subject_alt_names = vec![rcgen::SanType::DnsName(name.try_into()?)];
        }
        let certificate = params.signed_by(&key, &authority)?;
        files.push((format!("{role}.pem"), certificate.pem(), false));
        files.push((format!("{role}.key"), key.serialize_pem(), true));
    }
    Ok(files)
}

fn write(dir: &Path, files: &[Made]) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| {
        Error::user(format!("the folder {} cannot be made", dir.display())).caused_by(error)
    })?;
    if let Some((taken, ..)) = files.iter().find(|(name, ..)| dir.join(name).exists()) {
        return Err(Error::user(format!(
            "{} is there already, and is not written over: choose another folder, or delete it",
            dir.join(taken).display()
        )));
    }
    for (name, text, is_secret) in files {
        let path = dir.join(name);
        let mode = if *is_secret { 0o600 } else { 0o644 };
        let file = File::options().write(true).create_new(true).mode(mode).open(&path);
        file.and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .map_err(|error| {
            Error::user(format!("{} cannot be written", path.display())).caused_by(error)
        })?;
    }
    make_folder(dir).map_err(|error| {
        Error::user(format!("the folder {} cannot be synced", dir.display())).caused_by(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn keys_are_for_their_owner_only_and_nothing_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("certs");
        let files = make(30, now_ms()).unwrap();
        write(&dir, &files).unwrap();
        for (name, text, is_secret) in &files {
            let path = dir.join(name);
            let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode & 0o077 == 0, *is_secret, "{name}: {mode:o}");
            assert_eq!(text.contains("PRIVATE KEY"), *is_secret, "{name}");
        }
        std::fs::remove_file(dir.join("ca.pem")).unwrap();
        let before = std::fs::read(dir.join("client.key")).unwrap();
        let error = write(&dir, &make(30, now_ms()).unwrap()).unwrap_err().to_string();
        assert!(error.contains("is there already"), "{error}");
        assert_eq!(std::fs::read(dir.join("client.key")).unwrap(), before);
        assert!(!dir.join("ca.pem").exists(), "half of another set was written");
    }
}
