//! Who may come in: which attempts this host takes part in, and what becomes of somebody who knocks.
//!
//! A newer attempt of a job replaces the older ones, and from then on those are refused: no data of an attempt
//! that was given up gets in, however late it comes. Somebody of an attempt that is not there yet waits: other
//! hosts may be faster. A pure machine; connections, and how long they wait, are its shell's.

use super::hello::{Hello, is_same};
use std::collections::HashMap;

/// The attempts of a host, and what belongs to each.
pub(super) struct Admission<A> {
    jobs: HashMap<u128, Job<A>>,
}

struct Job<A> {
    /// The newest attempt ever heard of.
    newest: u32,
    current: Option<Current<A>>,
}

struct Current<A> {
    token: Vec<u8>,
    me: u32,
    is_started: bool,
    attempt: A,
}

/// What becomes of somebody who knocks.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict<A> {
    /// It belongs to this attempt.
    Enter(A),
    /// It may belong to something that has yet to come.
    Wait,
    /// It does not, for this reason.
    Refuse(String),
}

impl<A: Clone> Admission<A> {
    pub(super) fn new() -> Self {
        Admission { jobs: HashMap::new() }
    }

    /// A new attempt begins; what it replaces. An error if a newer one has begun, or this one before.
    pub(super) fn begin(
        &mut self,
        job: u128,
        number: u32,
        token: &[u8],
        me: u32,
        attempt: A,
    ) -> Result<Option<A>, String> {
        let current = Current { token: token.to_vec(), me, is_started: false, attempt };
        match self.jobs.get_mut(&job) {
            Some(known) if known.newest >= number => {
                Err(format!("attempt {number} was replaced: attempt {} has begun", known.newest))
            }
            Some(known) => {
                known.newest = number;
                Ok(known.current.replace(current).map(|old| old.attempt))
            }
            None => {
                self.jobs.insert(job, Job { newest: number, current: Some(current) });
                Ok(None)
            }
        }
    }

    fn current(&mut self, job: u128, number: u32) -> Option<&mut Current<A>> {
        self.jobs.get_mut(&job).filter(|job| job.newest == number)?.current.as_mut()
    }

    /// From now on the attempt's connections are let in.
    pub(super) fn start(&mut self, job: u128, number: u32) {
        if let Some(current) = self.current(job, number) {
            current.is_started = true;
        }
    }

    /// The attempt has ended.
    pub(super) fn end(&mut self, job: u128, number: u32) {
        if let Some(known) = self.jobs.get_mut(&job).filter(|job| job.newest == number) {
            known.current = None;
        }
    }

    /// All attempts that have not ended, which now do.
    pub(super) fn end_all(&mut self) -> Vec<A> {
        self.jobs.values_mut().filter_map(|job| Some(job.current.take()?.attempt)).collect()
    }

    /// What becomes of who says this.
    pub(super) fn judge(&self, hello: &Hello) -> Verdict<A> {
        let Some(job) = self.jobs.get(&hello.job) else { return Verdict::Wait };
        if hello.attempt > job.newest {
            return Verdict::Wait;
        }
        if hello.attempt < job.newest {
            return Verdict::Refuse(format!(
                "attempt {} was replaced: attempt {} has begun",
                hello.attempt, job.newest
            ));
        }
        let Some(current) = &job.current else {
            return Verdict::Refuse(format!("attempt {} has ended here", hello.attempt));
        };
        if !is_same(&current.token, &hello.token) {
            return Verdict::Refuse("that is not the job's secret".into());
        }
        if current.me != hello.to {
            return Verdict::Refuse(format!("this is host {}, not {}", current.me, hello.to));
        }
        if current.is_started { Verdict::Enter(current.attempt.clone()) } else { Verdict::Wait }
    }

    /// Why who waited so long cannot come in.
    pub(super) fn not_there(&self, hello: &Hello) -> String {
        let what = if self.jobs.get(&hello.job).is_some_and(|job| job.newest == hello.attempt) {
            "was not started"
        } else {
            "is not known"
        };
        format!("attempt {} of the job {what} here in time", hello.attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(attempt: u32) -> Hello {
        Hello { job: 1, attempt, from: 0, to: 1, token: b"secret".to_vec() }
    }

    fn refusal(verdict: Verdict<char>) -> String {
        match verdict {
            Verdict::Refuse(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_comes_too_early_waits_and_who_comes_too_late_is_refused() {
        let mut admission = Admission::new();
        assert_eq!(admission.judge(&hello(3)), Verdict::Wait);
        assert_eq!(admission.begin(1, 3, b"secret", 1, 'a'), Ok(None));
        assert_eq!(admission.judge(&hello(3)), Verdict::Wait);
        assert!(admission.not_there(&hello(3)).contains("was not started"));
        assert!(admission.not_there(&hello(4)).contains("is not known"));
        admission.start(1, 3);
        assert_eq!(admission.judge(&hello(3)), Verdict::Enter('a'));
        assert_eq!(admission.judge(&hello(4)), Verdict::Wait);
        assert!(refusal(admission.judge(&hello(2))).contains("attempt 3 has begun"));
        assert_eq!(admission.begin(1, 4, b"secret", 1, 'b'), Ok(Some('a')));
        assert!(refusal(admission.judge(&hello(3))).contains("attempt 4 has begun"));
        // What a replaced attempt does is of no account.
        admission.start(1, 3);
        admission.end(1, 3);
        assert_eq!(admission.judge(&hello(4)), Verdict::Wait);
        admission.start(1, 4);
        assert_eq!(admission.judge(&hello(4)), Verdict::Enter('b'));
        admission.end(1, 4);
        assert!(refusal(admission.judge(&hello(4))).contains("has ended"));
        assert!(admission.begin(1, 4, b"secret", 1, 'c').is_err());
        assert!(admission.begin(1, 2, b"secret", 1, 'c').is_err());
        assert_eq!(admission.end_all(), []);
    }

    #[test]
    fn who_is_wrong_here_is_told_so() {
        let mut admission = Admission::new();
        admission.begin(1, 3, b"secret", 1, 'a').unwrap();
        admission.start(1, 3);
        let stranger = Hello { token: b"secreT".to_vec(), ..hello(3) };
        assert!(refusal(admission.judge(&stranger)).contains("secret"));
        assert!(refusal(admission.judge(&Hello { to: 0, ..hello(3) })).contains("this is host 1"));
        assert_eq!(admission.judge(&Hello { job: 2, ..hello(3) }), Verdict::Wait);
        assert_eq!(admission.end_all(), ['a']);
    }
}
