//! Runs the stories in `testdata/slots/*.txt`: a command a line, begun by the time, and below `----` what came of it.
//! Then random histories, and what must hold in all of them.

use super::*;
use millstream_model::Machine;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fmt::Write;

/// `pool spread timeout 5000 grace 0 reattach 10000`, and what is not the default.
fn pool(line: &str) -> SlotPool {
    let mut config = CONFIG;
    let mut words = line.split_whitespace();
    while let Some(word) = words.next() {
        let mut number = || words.next().unwrap().parse().unwrap();
        match word {
            "timeout" => config.timeout_ms = number(),
            "grace" => config.reconnect_grace_ms = number(),
            "reattach" => config.reattach_timeout_ms = number(),
            placement => config.placement = placement.parse().unwrap(),
        }
    }
    SlotPool::new(config)
}

const CONFIG: Config = Config {
    placement: Placement::Spread,
    timeout_ms: 5000,
    reconnect_grace_ms: 0,
    reattach_timeout_ms: 10_000,
};

/// A task manager is a small letter, a job a large one.
fn tm(name: &str) -> TaskManagerId {
    TaskManagerId(u128::from(name.as_bytes()[0]))
}

fn job(name: &str) -> JobId {
    JobId(u128::from(name.as_bytes()[0]))
}

fn letter(number: u128) -> char {
    char::from(number as u8)
}

fn letters(ids: &[TaskManagerId]) -> String {
    ids.iter().map(|id| letter(id.0)).collect()
}

fn input(command: &str) -> Input {
    let words: Vec<_> = command.split_whitespace().collect();
    let error = || Error::external("connection reset");
    match words[..] {
        ["adopt", j, slots] => Input::Adopted {
            job: job(j),
            slots: slots.split("").filter(|s| !s.is_empty()).map(tm).collect(),
        },
        ["join", id, n] => Input::Joined { id: tm(id), n_slots: n.parse().unwrap() },
        ["heard", id] => Input::Heard { id: tm(id) },
        ["broke", id] => Input::Broke { id: tm(id), error: error() },
        ["request", j, n] => {
            Input::Requested { job: job(j), n_slots: n.parse().unwrap(), in_use: Vec::new() }
        }
        ["request", j, n, "uses", slots] => Input::Requested {
            job: job(j),
            n_slots: n.parse().unwrap(),
            in_use: slots.split("").filter(|s| !s.is_empty()).map(tm).collect(),
        },
        ["release", j] => Input::Released { job: job(j) },
        ["tick"] => Input::Tick,
        _ => panic!("unknown command {command}"),
    }
}

fn describe(effect: &Effect) -> String {
    match effect {
        Effect::Granted { job, slots } => format!("{} gets {}", letter(job.0), letters(slots)),
        Effect::Missing { job, n_slots } => format!("{} lacks {n_slots}", letter(job.0)),
        Effect::Lost { id, error } => {
            let error = error.to_string().replace(&id.to_string(), &letter(id.0).to_string());
            format!("{} is lost: {error}", letter(id.0))
        }
        Effect::WakeAt(at_ms) => format!("wake at {at_ms}"),
    }
}

fn standing(pool: &SlotPool) -> String {
    let view = |view: TaskManagerView| {
        let jobs: String = view.jobs.iter().map(|job| letter(job.0)).collect();
        let presence = match view.presence {
            Presence::Here { .. } => "",
            Presence::Broken { .. } => " broken",
            Presence::Awaited { .. } => " awaited",
        };
        format!("{}{presence} {}/{} free [{jobs}]", letter(view.id.0), view.n_free, view.n_slots)
    };
    let views: Vec<_> = pool.task_managers().map(view).collect();
    if views.is_empty() { "nobody".into() } else { views.join(", ") }
}

fn run(story: &str) -> String {
    let mut out = String::new();
    let mut machine = None;
    for block in story.split("\n\n").filter(|b| !b.trim().is_empty()) {
        let mut effects = Vec::new();
        let mut acts = false;
        for line in block.lines().take_while(|l| *l != "----") {
            writeln!(out, "{line}").unwrap();
            if line.starts_with('#') {
                continue;
            }
            acts = true;
            if let Some(config) = line.strip_prefix("pool") {
                machine = Some(pool(config));
                continue;
            }
            let (now_ms, command) = line.trim_start().split_once(' ').unwrap();
            machine.as_mut().unwrap().step(now_ms.parse().unwrap(), input(command), &mut effects);
        }
        if acts {
            writeln!(out, "----").unwrap();
            for effect in &effects {
                writeln!(out, "{}", describe(effect)).unwrap();
            }
            writeln!(out, "({})", standing(machine.as_ref().unwrap())).unwrap();
        }
        writeln!(out).unwrap();
    }
    out
}

#[test]
fn stories() {
    crate::stories::hold("slots", run);
}

/// What the outside knows: who is there, and what jobs were told.
#[derive(Default)]
struct World {
    /// The task managers that have a session, with their slots.
    here: BTreeMap<u128, usize>,
    /// What jobs hold, as far as they were told and have not been lost.
    held: BTreeMap<u128, Vec<TaskManagerId>>,
    /// Those that wait, by the order in which they first asked, with what they need.
    waiting: BTreeMap<usize, (u128, usize)>,
    asked: Vec<u128>,
    /// What they were told last.
    missing: BTreeMap<u128, usize>,
}

impl World {
    fn n_free(&self) -> usize {
        let used = |id: u128| self.held.values().flatten().filter(|slot| slot.0 == id).count();
        self.here.iter().map(|(id, n)| n.saturating_sub(used(*id))).sum()
    }

    fn order(&mut self, job: u128) -> usize {
        if let Some(order) = self.asked.iter().position(|asked| *asked == job) {
            return order;
        }
        self.asked.push(job);
        self.asked.len() - 1
    }

    /// Before the pool takes the input.
    fn acts(&mut self, input: &Input) {
        match input {
            Input::Joined { id, n_slots } => drop(self.here.insert(id.0, *n_slots)),
            Input::Broke { id, .. } => drop(self.here.remove(&id.0)),
            Input::Requested { job, n_slots, in_use } => {
                let order = self.order(job.0);
                self.held.insert(job.0, in_use.clone());
                self.missing.remove(&job.0);
                self.waiting.insert(order, (job.0, *n_slots));
            }
            Input::Released { job } => {
                self.held.remove(&job.0);
                self.missing.remove(&job.0);
                self.waiting.retain(|_, (waiting, _)| *waiting != job.0);
                // It is as good as a new one when it asks again.
                for asked in self.asked.iter_mut().filter(|asked| **asked == job.0) {
                    *asked = u128::MAX;
                }
            }
            Input::Adopted { .. } | Input::Heard { .. } | Input::Tick => {}
        }
    }

    fn hears(&mut self, effect: &Effect) -> Result<(), TestCaseError> {
        match effect {
            Effect::Granted { job, slots } => {
                let Some((&order, &(_, n_slots))) =
                    self.waiting.iter().find(|(_, (waiting, _))| *waiting == job.0)
                else {
                    return Err(TestCaseError::fail("granted to a job that did not ask"));
                };
                prop_assert_eq!(slots.len(), n_slots, "all or nothing");
                self.waiting.remove(&order);
                // What it went on using is its own until it is lost, also without a session.
                let mut kept = self.held.insert(job.0, slots.clone()).unwrap_or_default();
                for (id, n) in &self.here {
                    let used = self.held.values().flatten().filter(|slot| slot.0 == *id).count();
                    prop_assert!(used <= *n, "{used} of {n} slots granted");
                }
                for slot in slots {
                    let used = kept.iter().position(|kept| kept == slot);
                    let is_kept = used.map(|index| kept.swap_remove(index)).is_some();
                    let is_here = self.here.contains_key(&slot.0);
                    prop_assert!(is_here || is_kept, "granted on a lost one");
                }
                prop_assert!(kept.is_empty(), "what it uses was taken away");
            }
            Effect::Missing { job, n_slots } => {
                let before = self.missing.insert(job.0, *n_slots);
                prop_assert_ne!(before, Some(*n_slots), "told what it knows");
            }
            Effect::Lost { id, .. } => {
                self.here.remove(&id.0);
                self.held.values_mut().for_each(|slots| slots.retain(|slot| slot != id));
            }
            Effect::WakeAt(_) => {}
        }
        Ok(())
    }

    /// After a step nobody waits who could be served, and everybody knows what he waits for.
    fn settles(&self) -> Result<(), TestCaseError> {
        let n_free = self.n_free();
        let mut n_needed = 0;
        for (job, n_slots) in self.waiting.values() {
            let n_wanted = n_slots - self.held.get(job).map_or(0, Vec::len);
            n_needed += n_wanted;
            prop_assert!(n_needed > n_free, "job {job} could be served");
            let expected = (n_needed - n_free).min(n_wanted);
            prop_assert_eq!(self.missing.get(job), Some(&expected));
        }
        Ok(())
    }
}

fn inputs() -> impl Strategy<Value = Input> {
    let id = || (0..4u128).prop_map(TaskManagerId);
    let job = || (100..105u128).prop_map(JobId);
    prop_oneof![
        4 => (id(), 0..5usize).prop_map(|(id, n_slots)| Input::Joined { id, n_slots }),
        2 => id().prop_map(|id| Input::Broke { id, error: Error::external("reset") }),
        2 => id().prop_map(|id| Input::Heard { id }),
        6 => (job(), 0..7usize, 0..4usize).prop_map(|(job, n_slots, n_used)| {
            // As many of what it holds, which is only known then.
            Input::Requested { job, n_slots, in_use: vec![TaskManagerId(0); n_used] }
        }),
        3 => job().prop_map(|job| Input::Released { job }),
        3 => Just(Input::Tick),
    ]
}

/// The same process offers the same slots whenever it joins, and a job uses some of what it holds.
fn as_it_is(input: Input, offers: &mut BTreeMap<u128, usize>, world: &World) -> Input {
    match input {
        Input::Requested { job, n_slots, in_use } => {
            let held = world.held.get(&job.0).cloned().unwrap_or_default();
            let here = held.into_iter().filter(|slot| world.here.contains_key(&slot.0));
            let in_use = here.take(in_use.len().min(n_slots)).collect();
            Input::Requested { job, n_slots, in_use }
        }
        Input::Joined { id, n_slots } => {
            Input::Joined { id, n_slots: *offers.entry(id.0).or_insert(n_slots) }
        }
        input => input,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn slots_are_granted_once_in_order_and_come_back(
        packed in any::<bool>(),
        grace_ms in prop_oneof![Just(0u64), Just(300)],
        steps in proptest::collection::vec((0..400u64, inputs()), 1..120),
    ) {
        let placement = if packed { Placement::Packed } else { Placement::Spread };
        let config = Config { placement, reconnect_grace_ms: grace_ms, timeout_ms: 1000, ..CONFIG };
        let mut pool = SlotPool::new(config);
        let mut world = World::default();
        let mut offers = BTreeMap::new();
        let (mut now_ms, mut wake_at_ms) = (0, None);
        let mut effects = Vec::new();
        let mut step = |pool: &mut SlotPool, world: &mut World, now_ms, input| {
            world.acts(&input);
            pool.step(now_ms, input, &mut effects);
            for effect in effects.drain(..) {
                world.hears(&effect)?;
                if let Effect::WakeAt(at_ms) = effect {
                    wake_at_ms = Some(at_ms);
                }
            }
            world.settles()?;
            Ok::<_, TestCaseError>(wake_at_ms)
        };
        let mut wake = None;
        for (pass_ms, input) in steps {
            now_ms += pass_ms;
            while let Some(at_ms) = wake.filter(|at_ms| *at_ms <= now_ms) {
                wake = step(&mut pool, &mut world, at_ms, Input::Tick)?.filter(|next| *next > at_ms);
            }
            let input = as_it_is(input, &mut offers, &world);
            wake = step(&mut pool, &mut world, now_ms, input)?;
        }
        for job in 100..105 {
            step(&mut pool, &mut world, now_ms, Input::Released { job: JobId(job) })?;
        }
        for view in pool.task_managers() {
            let is_here = matches!(view.presence, Presence::Here { .. });
            prop_assert_eq!(view.n_free, if is_here { view.n_slots } else { 0 });
            prop_assert_eq!(is_here, world.here.contains_key(&view.id.0));
        }
    }
}
