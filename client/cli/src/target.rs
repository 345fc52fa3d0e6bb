//! Which job or task manager is meant by the beginning of an id.

use crate::failure::{Failure, Outcome, ask, unexpected};
use millstream::cluster::Connection;
use millstream::cluster::message::{ClientReply, ClientRequest, Cluster, JobDetail, JobId};
use millstream::model::Error;

/// The cluster as it is now.
pub(crate) fn cluster(connection: &Connection) -> Outcome<Cluster> {
    match ask(connection, ClientRequest::Cluster)? {
        ClientReply::Cluster(cluster) => Ok(*cluster),
        other => Err(unexpected(&other)),
    }
}

/// The job whose id begins so.
pub(crate) fn job(connection: &Connection, text: &str) -> Outcome<JobId> {
    let jobs = cluster(connection)?.jobs;
    one("job", text, jobs.iter().map(|job| (job.id, job.name.as_str())))
}

/// Its details.
pub(crate) fn detail(connection: &Connection, text: &str) -> Outcome<JobDetail> {
    let job = job(connection, text)?;
    match ask(connection, ClientRequest::Job(job))? {
        ClientReply::Job(detail) => Ok(*detail),
        other => Err(unexpected(&other)),
    }
}

/// The one thing whose id begins so; `all` are ids with names for people.
pub(crate) fn one<'a, I: Copy + ToString>(
    what: &str,
    text: &str,
    all: impl Iterator<Item = (I, &'a str)>,
) -> Outcome<I> {
    let lower = text.to_ascii_lowercase();
    if lower.is_empty() || lower.len() > 32 || !lower.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Failure::usage(format!(
            "`{text}` is not the id of a {what}, nor the beginning of one: ids have hexadecimal digits"
        )));
    }
    let found: Vec<_> = all.filter(|(id, _)| id.to_string().starts_with(&lower)).collect();
    match found[..] {
        [(id, _)] => Ok(id),
        [] => Err(Failure::not_found(Error::user(format!("there is no {what} `{text}`")))),
        _ => {
            let list = found.iter().map(|(id, name)| format!("\n  {} {name}", id.to_string()));
            let list: String = list.collect();
            Err(Failure::usage(format!("`{text}` is the beginning of more than one {what}:{list}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Kind;

    fn find(text: &str) -> Result<u128, (Kind, String)> {
        let ids = [JobId(0xab << 120), JobId(0xabc << 116), JobId(0xc << 124)];
        let all = ids.into_iter().zip(["words", "flights", "counts"]);
        match one("job", text, all) {
            Ok(JobId(id)) => Ok(id),
            Err(Failure::Error(kind, error)) => Err((kind, error.to_string())),
            Err(Failure::Program(code)) => panic!("exit code {code}"),
        }
    }

    #[test]
    fn a_beginning_that_no_other_has_is_enough() {
        assert_eq!(find("c"), Ok(0xc << 124));
        assert_eq!(find("ABC"), Ok(0xabc << 116));
        assert_eq!(find("ab000000000000000000000000000000"), Ok(0xab << 120));
    }

    #[test]
    fn others_say_why_they_are_not() {
        assert_eq!(find("d"), Err((Kind::NotFound, "there is no job `d`".into())));
        let (kind, error) = find("ab").unwrap_err();
        assert_eq!(kind, Kind::Usage);
        assert!(error.contains("more than one job") && error.contains("flights"), "{error}");
        for wrong in ["", "words", "../a", "abc000000000000000000000000000000"] {
            assert_eq!(find(wrong).unwrap_err().0, Kind::Usage, "{wrong}");
        }
    }
}
