//! Who may come in: which attempts this host takes part in, and what becomes of somebody who knocks.
//!
//! Several attempts of a job may be here at a time, of different tasks each. One that has ended is refused from then on: no
//! data of an attempt that was given up gets in, however late it comes. Somebody of an attempt that is not there yet waits: other
//! hosts may be faster. A pure machine; connections, and how long they wait, are its shell's.

use super::hello::{Hello, is_same};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How many ended attempts of a job are remembered. Who comes of an older one waits in vain, instead of being told.
const MAX_ENDED: usize = 1024;

/// The attempts of a host, and what belongs to each.
pub(super) struct Admission<A> {
    jobs: HashMap<u128, Job<A>>,
}

struct Job<A> {
    current: BTreeMap<u32, Current<A>>,
    /// Those that have ended, the newest of them.
    ended: BTreeSet<u32>,
}

impl<A> Default for Job<A> {
    fn default() -> Self {
        Job { current: BTreeMap::new(), ended: BTreeSet::new() }
    }
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

    /// A new attempt begins. An error if it was here before.
    pub(super) fn begin(
        &mut self,
        job: u128,
        number: u32,
        token: &[u8],
        me: u32,
        attempt: A,
    ) -> Result<(), String> {
        let known = self.jobs.entry(job).or_default();
        if known.current.contains_key(&number) || known.ended.contains(&number) {
            return Err(format!("attempt {number} was here before"));
        }
        let current = Current { token: token.to_vec(), me, is_started: false, attempt };
        known.current.insert(number, current);
        Ok(())
    }

    /// From now on the attempt's connections are let in.
    pub(super) fn start(&mut self, job: u128, number: u32) {
        let known = self.jobs.get_mut(&job);
        if let Some(current) = known.and_then(|known| known.current.get_mut(&number)) {
            current.is_started = true;
        }
    }

    /// The attempt has ended.
    pub(super) fn end(&mut self, job: u128, number: u32) {
        if let Some(known) = self.jobs.get_mut(&job)
            && known.current.remove(&number).is_some()
        {
            known.ended.insert(number);
            if known.ended.len() > MAX_ENDED {
                known.ended.pop_first();
            }
        }
    }

    /// All attempts that have not ended, which now do.
    pub(super) fn end_all(&mut self) -> Vec<A> {
        let current = self.jobs.values_mut().flat_map(|job| std::mem::take(&mut job.current));
        current.map(|(_, current)| current.attempt).collect()
    }

    /// What becomes of who says this.
    pub(super) fn judge(&self, hello: &Hello) -> Verdict<A> {
        let Some(job) = self.jobs.get(&hello.job) else { return Verdict::Wait };
        let Some(current) = job.current.get(&hello.attempt) else {
            return match job.ended.contains(&hello.attempt) {
                true => Verdict::Refuse(format!("attempt {} has ended here", hello.attempt)),
                false => Verdict::Wait,
            };
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
        let known = self.jobs.get(&hello.job);
        let what = if known.is_some_and(|job| job.current.contains_key(&hello.attempt)) {
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
        assert_eq!(admission.begin(1, 3, b"secret", 1, 'a'), Ok(()));
        assert_eq!(admission.judge(&hello(3)), Verdict::Wait);
        assert!(admission.not_there(&hello(3)).contains("was not started"));
        assert!(admission.not_there(&hello(4)).contains("is not known"));
        admission.start(1, 3);
        assert_eq!(admission.judge(&hello(3)), Verdict::Enter('a'));
        assert_eq!(admission.judge(&hello(4)), Verdict::Wait);
        admission.end(1, 3);
        assert!(refusal(admission.judge(&hello(3))).contains("has ended"));
        // What an attempt does that is over is of no account.
        admission.start(1, 3);
        assert!(refusal(admission.judge(&hello(3))).contains("has ended"));
        assert!(admission.begin(1, 3, b"secret", 1, 'c').is_err());
        assert_eq!(admission.end_all(), []);
    }

    #[test]
    fn attempts_of_different_tasks_are_there_side_by_side() {
        let mut admission = Admission::new();
        admission.begin(1, 3, b"secret", 1, 'a').unwrap();
        admission.start(1, 3);
        admission.begin(1, 5, b"secret", 1, 'b').unwrap();
        admission.start(1, 5);
        // One may be overtaken on its way to the hosts.
        assert_eq!(admission.judge(&hello(4)), Verdict::Wait);
        admission.begin(1, 4, b"secret", 1, 'c').unwrap();
        admission.start(1, 4);
        for (number, attempt) in [(3, 'a'), (4, 'c'), (5, 'b')] {
            assert_eq!(admission.judge(&hello(number)), Verdict::Enter(attempt));
        }
        assert!(admission.begin(1, 4, b"secret", 1, 'd').is_err());
        admission.end(1, 4);
        assert!(refusal(admission.judge(&hello(4))).contains("has ended"));
        assert_eq!(admission.judge(&hello(3)), Verdict::Enter('a'));
        assert_eq!(admission.end_all(), ['a', 'b']);
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
