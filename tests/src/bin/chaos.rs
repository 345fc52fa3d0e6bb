//! `make soak CHAOS=n`: clusters of real processes that are hurt, n of them, three at a time; before that, every query on
//! clusters of one, two and three task managers.
//!
//! Every trial is told by its number; `make soak CHAOS=1 FIRST_SEED=…` makes one again. `HURT=KillJobManager` has all of
//! them hurt by the same. What came of it all is a row in `SOAK.md`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use millstream_tests::chaos::{Hurt, trial};
use millstream_tests::cluster::Cluster;
use millstream_tests::compare::compare_sorted;
use millstream_tests::data::data_dir;
use millstream_tests::program::example;
use millstream_tests::queries::QUERIES;
use millstream_tests::soak::{Kind, exit_code, number};

/// Clusters at a time.
const N_AT_A_TIME: usize = 3;
/// From so many trials on, the queries are run too.
const N_FOR_QUERIES: u64 = 20;

const TABLE: Kind = Kind {
    heading: "Hurt clusters (`make soak CHAOS=n`)",
    columns: &["what", "trials", "hurts", "seeds", "violations"],
};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.is_empty());
    let mut number = |default| number(arguments.next(), default);
    let only = match std::env::var("HURT") {
        Ok(text) if !text.is_empty() => text.parse().map(Some),
        _ => Ok(None),
    };
    let done = only.and_then(|only| Ok((number(20)?, number(0)?, only)));
    exit_code(done.and_then(|(n, first, only)| soak(n, first, only)))
}

/// Runs it all; how many violations there were.
fn soak(n: u64, first: u64, only: Option<Hurt>) -> Result<usize, String> {
    let mut n_violations = 0;
    if let Some(data) = data_dir().filter(|_| n >= N_FOR_QUERIES && only.is_none()) {
        let problems: Vec<String> = (1..=3).flat_map(|n| queries(n, &data)).collect();
        problems.iter().for_each(|problem| println!("VIOLATION: {problem}"));
        n_violations += problems.len();
        add("every query on 1, 2 and 3 task managers, full data", (39, 0), "", problems.len())?;
    }
    let (next, n_hurts) = (AtomicU64::new(first), AtomicU64::new(0));
    let n_in_checkpoint = AtomicU64::new(0);
    let violations = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..N_AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= first + n {
                        return;
                    }
                    let outcome = trial(seed, only);
                    println!("seed {seed}: {outcome}");
                    n_hurts.fetch_add(outcome.n_hurts, Ordering::SeqCst);
                    n_in_checkpoint.fetch_add(outcome.n_in_checkpoint, Ordering::SeqCst);
                    if outcome.violation.is_some() {
                        violations.lock().expect("nobody panics with it").push(seed);
                    }
                }
            });
        }
    });
    let mut violations = violations.into_inner().expect("nobody panics with it");
    violations.sort_unstable();
    if !violations.is_empty() {
        println!("violations at seeds {violations:?}");
    }
    let seeds = format!("{n} from {first}");
    let n_in_checkpoint = n_in_checkpoint.into_inner();
    let what = match only {
        None => {
            let hurts = "kills, pauses, user code, network, cuts between hosts, full disk";
            format!("{hurts}: a job hurt, a query beside")
        }
        Some(Hurt::KillJobManager) => {
            format!("KillJobManager, {n_in_checkpoint} of them in the middle of a checkpoint")
        }
        Some(hurt) => format!("{hurt:?}"),
    };
    add(&what, (n, n_hurts.into_inner()), &seeds, violations.len())?;
    Ok(n_violations + violations.len())
}

fn add(
    what: &str,
    (n, n_hurts): (u64, u64),
    seeds: &str,
    n_violations: usize,
) -> Result<(), String> {
    let cells = [what, &n.to_string(), &n_hurts.to_string(), seeds, &n_violations.to_string()];
    let path = TABLE.add(&cells.map(str::to_owned)).map_err(|e| format!("SOAK.md: {e}"))?;
    println!("{n} trials, {n_hurts} hurts, {n_violations} violations: see {}", path.display());
    Ok(())
}

/// Runs every query on so many task managers; what differs.
fn queries(n_task_managers: usize, data: &Path) -> Vec<String> {
    let cluster = Cluster::start(n_task_managers, 2);
    let mut problems = Vec::new();
    for query in &QUERIES {
        let case = format!("{} on {n_task_managers} task managers", query.id);
        let out = cluster.dir().join(query.id);
        let mut command = example("queries");
        command.arg(query.id).arg("--data").arg(data).arg("--out").arg(&out);
        let ended = cluster.run({
            command.args(["-p", &(2 * n_task_managers).to_string()]);
            command
        });
        if !ended.status.success() {
            problems.push(format!("{case} ended with {}:\n{}", ended.status, ended.stderr));
            continue;
        }
        match query.expected(&query.expected_dir(data)) {
            Ok(expected) => problems.extend(expected.iter().filter_map(|(name, file)| {
                let mismatch = compare_sorted(&out.join(name), file).err()?;
                Some(format!("{case}, {name}: {mismatch}"))
            })),
            Err(problem) => problems.push(problem),
        }
        println!("{case}: done");
    }
    problems
}
