//! What the shell knows of a task manager: its session, and which of its words it has heard.
//!
//! A task manager numbers what hosts say and repeats what was not confirmed, also in its next session and to the
//! next leader. Here each number is taken once. What is confirmed is not said again; so the last words of a host,
//! its results, are confirmed only when the end of their job is stored: a leader that takes over in between is told
//! them again. A host that is started anew ends that, and so does half a minute or a number of further messages: a
//! task manager has only so many unconfirmed ones under way, and other jobs' are among them.

use millstream_proto::message::{Hello, JobId};

/// How long a confirmation waits for the end of a job, in ms.
const HOLD_MS: u64 = 30_000;

/// How many messages it waits with.
const MAX_HELD: u64 = 256;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) session: u64,
    pub(super) hello: Hello,
    /// When it was lost, if it is.
    pub(super) lost_at_ms: Option<u64>,
    /// When it was last heard, in ms since the epoch.
    pub(super) heard_at_ms: i64,
    heard: u64,
    confirmed: u64,
    holds: Vec<Hold>,
}

#[derive(Debug)]
struct Hold {
    number: u64,
    job: JobId,
    until_ms: u64,
}

/// What is to be done with a numbered message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hearing {
    /// It is new.
    New,
    /// It is new, but so many before it never came.
    Gap(u64),
    /// It was heard before.
    Known,
}

impl Peer {
    pub(super) fn new(session: u64, hello: Hello, heard_at_ms: i64) -> Self {
        Peer {
            session,
            hello,
            lost_at_ms: None,
            heard_at_ms,
            heard: 0,
            confirmed: 0,
            holds: Vec::new(),
        }
    }

    /// Begins another session of the same process: what was confirmed in the last one may not have arrived.
    pub(super) fn begin(&mut self, session: u64, hello: Hello, heard_at_ms: i64) {
        (self.session, self.hello, self.heard_at_ms) = (session, hello, heard_at_ms);
        self.lost_at_ms = None;
        self.confirmed = 0;
    }

    /// Takes a number in.
    pub(super) fn hear(&mut self, number: u64) -> Hearing {
        if number <= self.heard {
            // Said again because the confirmation was lost.
            self.confirmed = self.confirmed.min(number.saturating_sub(1));
            return Hearing::Known;
        }
        // The first one that a leader hears may have any number.
        let n_missing = if self.heard == 0 { 0 } else { number - self.heard - 1 };
        self.heard = number;
        if n_missing == 0 { Hearing::New } else { Hearing::Gap(n_missing) }
    }

    /// Does not confirm this number before the job is over.
    pub(super) fn hold(&mut self, now_ms: u64, number: u64, job: JobId) {
        self.holds.push(Hold { number, job, until_ms: now_ms.saturating_add(HOLD_MS) });
    }

    /// The job is over, or a host of it runs again.
    pub(super) fn release(&mut self, job: JobId) {
        self.holds.retain(|hold| hold.job != job);
    }

    /// The number to confirm now, if there is a new one.
    pub(super) fn confirm(&mut self, now_ms: u64) -> Option<u64> {
        let heard = self.heard;
        self.holds
            .retain(|hold| hold.until_ms > now_ms && heard.saturating_sub(hold.number) < MAX_HELD);
        let held = self.holds.iter().map(|hold| hold.number.saturating_sub(1)).min();
        let number = held.map_or(self.heard, |held| held.min(self.heard));
        if number <= self.confirmed {
            return None;
        }
        self.confirmed = number;
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_model::LeaderEpoch;
    use millstream_proto::message::TaskManagerId;

    fn hello() -> Hello {
        Hello {
            id: TaskManagerId(1),
            version: "0".into(),
            hostname: "h".into(),
            pid: 1,
            n_slots: 1,
            epoch: LeaderEpoch(0),
            hosts: Vec::new(),
            metrics_address: None,
        }
    }

    #[test]
    fn each_number_is_taken_once_and_confirmed_also_when_it_is_repeated() {
        let mut peer = Peer::new(1, hello(), 0);
        // The first that this leader hears.
        assert_eq!(peer.hear(40), Hearing::New);
        assert_eq!(peer.hear(41), Hearing::New);
        assert_eq!(peer.confirm(0), Some(41));
        assert_eq!(peer.confirm(0), None);
        assert_eq!(peer.hear(41), Hearing::Known);
        assert_eq!(peer.confirm(0), Some(41));
        peer.begin(2, hello(), 0);
        assert_eq!(peer.hear(40), Hearing::Known);
        assert_eq!(peer.hear(45), Hearing::Gap(3));
        assert_eq!(peer.confirm(0), Some(45));
    }

    #[test]
    fn results_are_confirmed_when_the_end_of_their_job_is_stored() {
        let mut peer = Peer::new(1, hello(), 0);
        for number in 1..6 {
            peer.hear(number);
        }
        peer.hold(0, 3, JobId(1));
        peer.hold(0, 5, JobId(2));
        assert_eq!(peer.confirm(1), Some(2));
        peer.release(JobId(1));
        assert_eq!(peer.confirm(1), Some(4));
        assert_eq!(peer.confirm(HOLD_MS - 1), None);
        assert_eq!(peer.confirm(HOLD_MS), Some(5));
        // Nor do they hold up what others say.
        peer.hear(6);
        peer.hold(HOLD_MS, 6, JobId(3));
        for number in 7..6 + MAX_HELD {
            peer.hear(number);
        }
        assert_eq!(peer.confirm(HOLD_MS), None);
        peer.hear(6 + MAX_HELD);
        assert_eq!(peer.confirm(HOLD_MS), Some(6 + MAX_HELD));
    }
}
