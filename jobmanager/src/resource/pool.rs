//! The pool itself. What is free is counted from what is held, each time: nothing can disagree.

use super::placement::Candidate;
use super::{Config, Effect, Input};
use millstream_model::{Error, Machine};
use millstream_proto::message::{JobId, TaskManagerId};
use std::collections::BTreeMap;

/// See the text of [`resource`](super).
#[derive(Debug)]
pub struct SlotPool {
    config: Config,
    /// In the order in which they came first: the number is the key.
    members: BTreeMap<u64, Member>,
    /// The jobs that hold slots or wait, in the order in which they first asked.
    jobs: BTreeMap<u64, Claim>,
    n_members: u64,
    n_jobs: u64,
    /// When the shell will send the next `Tick`.
    wake_at_ms: Option<u64>,
}

/// Whether a task manager can be spoken to.
#[derive(Clone, Debug)]
pub enum Presence {
    /// It has a session, and was last heard then.
    Here {
        /// When, on the pool's clock.
        heard_ms: u64,
    },
    /// Its session broke; it is lost if it has no new one then.
    Broken {
        /// When it is lost, on the pool's clock.
        until_ms: u64,
        /// How the session broke.
        error: Error,
    },
    /// A former leader had it; it is lost if it has not come by then.
    Awaited {
        /// When it is lost, on the pool's clock.
        until_ms: u64,
    },
}

#[derive(Debug)]
struct Member {
    id: TaskManagerId,
    n_slots: usize,
    presence: Presence,
}

#[derive(Debug)]
struct Claim {
    job: JobId,
    standing: Standing,
}

#[derive(Debug)]
enum Standing {
    Holds(Vec<TaskManagerId>),
    Waits {
        n_slots: usize,
        /// What it does not give back while it waits.
        kept: Vec<TaskManagerId>,
        /// What it had besides: it is given that again, if it can.
        before: Vec<TaskManagerId>,
        /// How many slots it was told are missing.
        told: Option<usize>,
    },
}

/// A task manager as others see it.
#[derive(Clone, Debug)]
pub struct TaskManagerView {
    /// Which.
    pub id: TaskManagerId,
    /// The slots it offers.
    pub n_slots: usize,
    /// Those that could be granted.
    pub n_free: usize,
    /// The jobs that hold slots on it.
    pub jobs: Vec<JobId>,
    /// Whether it can be spoken to.
    pub presence: Presence,
}

impl SlotPool {
    /// A pool without task managers.
    pub fn new(config: Config) -> Self {
        SlotPool {
            config,
            members: BTreeMap::new(),
            jobs: BTreeMap::new(),
            n_members: 0,
            n_jobs: 0,
            wake_at_ms: None,
        }
    }

    /// The task managers, in the order in which they came.
    pub fn task_managers(&self) -> impl Iterator<Item = TaskManagerView> {
        self.members.values().map(|member| {
            let mut jobs: Vec<JobId> = self
                .jobs
                .values()
                .filter(|claim| claim.held().contains(&member.id))
                .map(|claim| claim.job)
                .collect();
            jobs.sort_unstable();
            TaskManagerView {
                id: member.id,
                n_slots: member.n_slots,
                n_free: self.n_free(member),
                jobs,
                presence: member.presence.clone(),
            }
        })
    }

    /// The slots a job holds; while it waits, those it uses.
    pub fn slots_of(&self, job: JobId) -> &[TaskManagerId] {
        self.jobs.values().find(|claim| claim.job == job).map_or(&[], Claim::held)
    }

    fn is_here(&self, id: TaskManagerId) -> bool {
        self.members.values().any(|m| m.id == id && matches!(m.presence, Presence::Here { .. }))
    }

    fn member(&mut self, id: TaskManagerId) -> Option<&mut Member> {
        self.members.values_mut().find(|member| member.id == id)
    }

    fn n_free(&self, member: &Member) -> usize {
        if !matches!(member.presence, Presence::Here { .. }) {
            return 0;
        }
        let held = self.jobs.values().flat_map(Claim::held);
        // Former leaders may have left more claims than there are slots.
        member.n_slots.saturating_sub(held.filter(|id| **id == member.id).count())
    }

    fn place_of(&mut self, job: JobId) -> u64 {
        match self.jobs.iter().find(|(_, claim)| claim.job == job) {
            Some((place, _)) => *place,
            None => {
                self.n_jobs += 1;
                self.n_jobs
            }
        }
    }

    fn insert(&mut self, member: Member) {
        self.n_members += 1;
        self.members.insert(self.n_members, member);
    }

    fn adopt(&mut self, now_ms: u64, job: JobId, slots: Vec<TaskManagerId>) {
        let until_ms = now_ms.saturating_add(self.config.reattach_timeout_ms);
        for &id in &slots {
            if self.member(id).is_none() {
                self.insert(Member { id, n_slots: 0, presence: Presence::Awaited { until_ms } });
            }
        }
        let place = self.place_of(job);
        self.jobs.insert(place, Claim { job, standing: Standing::Holds(slots) });
    }

    fn join(&mut self, now_ms: u64, id: TaskManagerId, n_slots: usize) {
        let presence = Presence::Here { heard_ms: now_ms };
        match self.member(id) {
            Some(member) => (member.n_slots, member.presence) = (n_slots, presence),
            None => self.insert(Member { id, n_slots, presence }),
        }
    }

    fn break_off(&mut self, now_ms: u64, id: TaskManagerId, error: Error) {
        let until_ms = now_ms.saturating_add(self.config.reconnect_grace_ms);
        if let Some(member) = self.member(id)
            && let Presence::Here { .. } = member.presence
        {
            member.presence = Presence::Broken { until_ms, error };
        }
    }

    fn request(
        &mut self,
        job: JobId,
        n_slots: usize,
        mut kept: Vec<TaskManagerId>,
    ) -> Option<Effect> {
        let place = self.place_of(job);
        let (mut slots, waits) = match self.jobs.remove(&place).map(|claim| claim.standing) {
            None => (Vec::new(), false),
            Some(Standing::Holds(slots)) => (slots, false),
            Some(Standing::Waits { kept, mut before, .. }) => {
                before.splice(0..0, kept);
                (before, true)
            }
        };
        // Nobody keeps what it did not have. What it uses it keeps as long as that is not lost, also without a session.
        kept.retain(|id| {
            let had = slots.iter().position(|slot| slot == id);
            had.map(|index| slots.remove(index)).is_some()
                && self.members.values().any(|member| member.id == *id)
        });
        kept.truncate(n_slots);
        slots.retain(|id| self.is_here(*id));
        let (standing, effect) = if !waits && kept.len() + slots.len() >= n_slots {
            slots.splice(0..0, kept);
            slots.truncate(n_slots);
            let effect = Effect::Granted { job, slots: slots.clone() };
            (Standing::Holds(slots), Some(effect))
        } else {
            (Standing::Waits { n_slots, kept, before: slots, told: None }, None)
        };
        self.jobs.insert(place, Claim { job, standing });
        effect
    }

    /// Time in which this process did not run is nobody's silence.
    fn excuse(&mut self, now_ms: u64) {
        let late_ms = self.wake_at_ms.map_or(0, |at_ms| now_ms.saturating_sub(at_ms));
        if late_ms <= self.config.timeout_ms / 2 {
            return;
        }
        for member in self.members.values_mut() {
            let (Presence::Here { heard_ms: at_ms }
            | Presence::Broken { until_ms: at_ms, .. }
            | Presence::Awaited { until_ms: at_ms }) = &mut member.presence;
            *at_ms = at_ms.saturating_add(late_ms);
        }
        self.wake_at_ms = None;
    }

    /// Task managers whose time is over are lost. Silence is looked for by a `Tick` only: what they have said may
    /// still be behind another input.
    fn expire(&mut self, now_ms: u64, is_tick: bool, effects: &mut Vec<Effect>) {
        let config = self.config;
        let is_over = |member: &Member| {
            (is_tick || matches!(member.presence, Presence::Broken { .. }))
                && member.deadline_ms(&config) <= now_ms
        };
        let over: Vec<u64> =
            self.members.iter().filter(|(_, m)| is_over(m)).map(|(place, _)| *place).collect();
        for member in over.into_iter().filter_map(|place| self.members.remove(&place)) {
            let id = member.id;
            let error = match member.presence {
                Presence::Here { .. } => Error::external(format!(
                    "task manager {id} has said nothing for {} ms",
                    config.timeout_ms
                )),
                Presence::Broken { error, .. } => error,
                Presence::Awaited { .. } => Error::external(format!(
                    "task manager {id} has not come back within {} ms after the job manager did",
                    config.reattach_timeout_ms
                )),
            };
            for claim in self.jobs.values_mut() {
                if let Standing::Holds(slots) = &mut claim.standing {
                    slots.retain(|slot| *slot != id);
                }
            }
            effects.push(Effect::Lost { id, error });
        }
    }

    /// Those whose turn it is get their slots; the others hear how many are missing.
    fn serve(&mut self, effects: &mut Vec<Effect>) {
        let members = &self.members;
        for claim in self.jobs.values_mut() {
            if let Standing::Waits { kept, .. } = &mut claim.standing {
                kept.retain(|id| members.values().any(|member| member.id == *id));
            }
        }
        let candidate = |member: &Member| Candidate {
            id: member.id,
            n_slots: member.n_slots,
            n_free: self.n_free(member),
        };
        let mut candidates: Vec<Candidate> = self.members.values().map(candidate).collect();
        let mut n_free: usize = candidates.iter().map(|c| c.n_free).sum();
        // What this job and those before it lack together.
        let mut n_lacking = 0;
        for claim in self.jobs.values_mut() {
            let Standing::Waits { n_slots, kept, before, told } = &mut claim.standing else {
                continue;
            };
            let n_wanted = *n_slots - kept.len();
            if n_lacking == 0 && n_wanted <= n_free {
                let mut slots = std::mem::take(kept);
                slots.extend(self.config.placement.allot(n_wanted, before, &mut candidates));
                n_free -= n_wanted;
                effects.push(Effect::Granted { job: claim.job, slots: slots.clone() });
                claim.standing = Standing::Holds(slots);
                continue;
            }
            n_lacking += n_wanted.saturating_sub(std::mem::take(&mut n_free));
            let n_missing = n_lacking.min(n_wanted);
            if *told != Some(n_missing) {
                *told = Some(n_missing);
                effects.push(Effect::Missing { job: claim.job, n_slots: n_missing });
            }
        }
    }

    fn plan_to_wake(&mut self, is_tick: bool, effects: &mut Vec<Effect>) {
        let next_ms = self.members.values().map(|member| member.deadline_ms(&self.config)).min();
        let is_sooner = match (next_ms, self.wake_at_ms) {
            (Some(next_ms), Some(at_ms)) => next_ms < at_ms,
            (next_ms, _) => next_ms.is_some(),
        };
        if is_tick || is_sooner {
            self.wake_at_ms = next_ms;
            effects.extend(next_ms.map(Effect::WakeAt));
        }
    }
}

impl Claim {
    fn held(&self) -> &[TaskManagerId] {
        match &self.standing {
            Standing::Holds(slots) => slots,
            Standing::Waits { kept, .. } => kept,
        }
    }
}

impl Member {
    /// When it is lost, if nothing happens until then.
    fn deadline_ms(&self, config: &Config) -> u64 {
        match self.presence {
            Presence::Here { heard_ms } => heard_ms.saturating_add(config.timeout_ms),
            Presence::Broken { until_ms, .. } | Presence::Awaited { until_ms } => until_ms,
        }
    }
}

impl Machine for SlotPool {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, now_ms: u64, input: Input, effects: &mut Vec<Effect>) {
        let is_tick = matches!(input, Input::Tick);
        self.excuse(now_ms);
        match input {
            Input::Adopted { job, slots } => self.adopt(now_ms, job, slots),
            Input::Joined { id, n_slots } => self.join(now_ms, id, n_slots),
            Input::Heard { id } => {
                if let Some(Presence::Here { heard_ms }) =
                    self.member(id).map(|member| &mut member.presence)
                {
                    *heard_ms = now_ms.max(*heard_ms);
                }
            }
            Input::Broke { id, error } => self.break_off(now_ms, id, error),
            Input::Requested { job, n_slots, in_use } => {
                effects.extend(self.request(job, n_slots, in_use));
            }
            Input::Released { job } => self.jobs.retain(|_, claim| claim.job != job),
            Input::Tick => {}
        }
        self.expire(now_ms, is_tick, effects);
        self.serve(effects);
        self.plan_to_wake(is_tick, effects);
    }
}
