//! Whole jobs in a simulated world: one seed, one history of everything that runs and of everything that goes wrong.
//!
//! A failing seed is shrunk (faults that had no part in it are left out, records too) and printed with its history; the same
//! seed gives the same history. `SEEDS=n FIRST_SEED=m` say which are run, `make soak` runs many.

mod check;
mod disk;
mod fail;
mod faults;
mod job;
mod model;
mod operators;
mod prng;
mod regressions;
mod run;
mod source;
mod storage;
mod weather;

use run::{Outcome, Setting, run};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use millstream::model::sabotage::{Bug, is_planted as sabotage, plant};

/// Seeds of a quick run.
const N_SEEDS: u64 = 200;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |n| n.parse().expect("a number"))
}

/// Leaves out what is not needed for a violation, and tells the rest.
fn shrink(mut setting: Setting) -> Outcome {
    let faults = run(&setting).faults;
    for fault in faults {
        let mut less = setting.clone();
        less.without.insert(fault);
        if !run(&less).violations.is_empty() {
            setting = less;
        }
    }
    for n_records in [5, 10, 20, 40] {
        let less = Setting { n_records, ..setting.clone() };
        if !run(&less).violations.is_empty() {
            setting = less;
            break;
        }
    }
    setting.is_told = true;
    run(&setting)
}

fn report(seed: u64, outcome: &Outcome) -> String {
    let n_last = outcome.history.len().saturating_sub(number("LINES", 400) as usize);
    format!(
        "seed {seed} ({}): {}\nfaults that had a part in it: {:?}\n{:?}\n{}",
        outcome.mode,
        outcome.violations.join("; "),
        outcome.faults,
        outcome.job,
        outcome.history[n_last..].join("\n")
    )
}

/// Panics that a history plans are not printed.
fn hush() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref::<&str>() != Some(&fail::PLANNED) {
            print(info);
        }
    }));
}

#[test]
fn seeds() {
    hush();
    let (first, n_seeds) = (number("FIRST_SEED", 0), number("SEEDS", N_SEEDS));
    let next = AtomicU64::new(first);
    let total = Mutex::new([0; 5]);
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + n_seeds || total.lock().unwrap()[4] >= 3 {
                        return;
                    }
                    let o = run(&Setting::new(seed));
                    let n_wrong = u64::from(!o.violations.is_empty());
                    for (sum, n) in total.lock().unwrap().iter_mut().zip([
                        o.n_actions,
                        o.n_processes,
                        o.n_parts,
                        o.n_checkpoints,
                        n_wrong,
                    ]) {
                        *sum += n;
                    }
                    if n_wrong > 0 {
                        eprintln!("{}", report(seed, &shrink(Setting::new(seed))));
                    }
                }
            });
        }
    });
    let [n_actions, n_processes, n_parts, n_checkpoints, n_wrong] = total.into_inner().unwrap();
    println!(
        "{n_seeds} seeds from {first}: {n_actions} actions, {n_processes} processes, {n_parts} restarts of a part, \
         {n_checkpoints} checkpoints, {n_wrong} violations"
    );
    assert_eq!(n_wrong, 0, "violations");
    assert!(n_parts > 0 || n_seeds < N_SEEDS, "regions were not told apart");
}

#[test]
fn a_seed_has_one_history() {
    hush();
    for seed in 0..20 {
        let told = || run(&Setting { is_told: true, ..Setting::new(seed) });
        let (one, other) = (told(), told());
        let differs = one.history.iter().zip(&other.history).find(|(one, other)| one != other);
        assert_eq!((differs, one.history.len()), (None, other.history.len()), "seed {seed}");
    }
}

/// A checker that has never caught anything proves nothing.
#[test]
fn planted_bugs_are_caught() {
    hush();
    /// Within so many seeds.
    const N_SEEDS: u64 = 2000;
    let caught = |bug: Bug| {
        let _planted = plant(bug);
        (0..N_SEEDS).find(|seed| !run(&Setting::new(*seed)).violations.is_empty())
    };
    let missed: Vec<Bug> = Bug::ALL
        .into_iter()
        .filter(|bug| {
            let seed = caught(*bug);
            println!("{bug:?} is caught by seed {seed:?}");
            seed.is_none()
        })
        .collect();
    assert_eq!(missed, []);
}
