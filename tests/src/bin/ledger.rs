//! A job manager and two clients of it, in one process: `ledger DIR SEED`.
//!
//! The clients submit jobs and let them end, each as the seed says; what they and the masters are told goes into a ledger in the
//! folder. What becomes of it when the power goes is looked at by `power_cut::ledger`. Masters are played: nothing runs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded, never, unbounded};
use millstream::cluster::message::{
    ClientReply, ClientRequest, Drain, JobId, JobPhase, Outcome, RequestId,
};
use millstream::cluster::{Connection, Security};
use millstream_ha::{Election, Standalone};
use millstream_jobmanager::job::link::{AttemptRecord, JobInput, JobSpec, Link};
use millstream_jobmanager::process::{JobManager, JobManagerConfig, StartJob};
use millstream_model::{Error, Result};
use millstream_tests::decoders;
use millstream_tests::power_cut::ledger::{JOB_MANAGER, LEADER, Ledger, Told, program};
use millstream_tests::program::exit_code;
use millstream_tests::random::Random;

/// Jobs that each client submits.
const N_JOBS: u64 = 5;
/// Different programs: some are stored by both clients at the same time.
const N_PROGRAMS: u64 = 4;
/// The argument of a job that ends by itself.
const ENDS: &str = "ends";

fn main() -> ExitCode {
    exit_code(run())
}

fn run() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().map(PathBuf::from);
    let seed = arguments.next().and_then(|seed| seed.parse::<u64>().ok());
    let (Some(root), Some(seed)) = (root, seed) else {
        return Err(Error::user("say in which folder, and a number: `ledger DIR SEED`"));
    };
    let ledger = Ledger::open(&root)?;
    let mut config = JobManagerConfig::new(root.join(JOB_MANAGER));
    (config.listen, config.rest_listen) = (SocketAddr::from(([127, 0, 0, 1], 0)), None);
    config.n_history = 1000;
    let leadership = Standalone::new(config.dir.join(LEADER)).campaign(&never())?;
    let leadership = leadership.ok_or_else(|| Error::internal("nobody stopped the election"))?;
    let epoch = leadership.epoch().0;
    ledger.tell(Told::Leads(epoch))?;

    let (stop, stopped) = bounded(1);
    let (recorded, records) = unbounded();
    let n_masters = Arc::new(AtomicUsize::new(0));
    let masters = masters(&ledger, &n_masters, recorded);
    let manager = JobManager::start(config, masters, leadership, stopped)?;
    let address = manager.address().to_string();
    let mut random = Random(seed);
    let clients = [1, 2].map(|number| {
        let (random, ledger, address) = (Random(random.number()), ledger.clone(), address.clone());
        thread::spawn(move || client(epoch << 32 | number << 16, &address, random, &ledger))
    });
    for client in clients {
        client.join().map_err(|_| Error::internal("a client panicked"))??;
    }
    // A job manager that leaves waits some seconds for masters, and what one does to files after that would be half told.
    for _ in 0..n_masters.load(Ordering::SeqCst) {
        records.recv().map_err(|_| Error::internal("a master is gone"))?;
    }
    drop(stop);
    manager.wait()
}

/// Submits jobs whose numbers begin here, one after the other, and lets them end or not.
fn client(first: u64, address: &str, mut random: Random, ledger: &Ledger) -> Result<()> {
    let connection = Connection::open(&[address.to_owned()], &Security::default())?;
    let dir = tempfile::tempdir()?;
    for job in first..first + N_JOBS {
        let end = random.below(4);
        submit(&connection, job, end == 0, random.below(N_PROGRAMS), dir.path(), ledger)?;
        let id = JobId(u128::from(job));
        match end {
            1 => {
                let stop = Some(Drain(false));
                let wish = ClientRequest::Savepoint { job: id, dir: "/saved".into(), stop };
                match connection.call(wish)? {
                    ClientReply::Savepoint(_) => {
                        ledger.tell(Told::Ended(job, JobPhase::Finished))?
                    }
                    other => {
                        return Err(Error::internal(format!("a stop was answered by {other:?}")));
                    }
                }
            }
            // One that takes so long that it is sent twice may come when the job is ending: then nobody promises anything.
            2 if connection.call(ClientRequest::Cancel(id)).is_ok() => {
                ledger.tell(Told::Cancelled(job))?;
            }
            _ => {}
        }
        // What is shown is told, too.
        if let ClientReply::Job(detail) = connection.call(ClientRequest::Job(id))?
            && detail.overview.state.is_terminal()
        {
            ledger.tell(Told::Ended(job, detail.overview.state))?;
        }
        if end == 0 || end == 2 {
            ledger.tell(Told::Ended(job, connection.wait(id, |_| ())?.overview.state))?;
        }
    }
    Ok(())
}

fn submit(
    connection: &Connection,
    job: u64,
    ends: bool,
    number: u64,
    dir: &Path,
    ledger: &Ledger,
) -> Result<()> {
    let path = dir.join(number.to_string());
    std::fs::write(&path, program(number))?;
    let (id, n_bytes) = connection.upload(&path, |_| ())?;
    let mut submission = decoders::submission();
    submission.request = RequestId(u128::from(job));
    (submission.program, submission.program_bytes) = (id, n_bytes);
    submission.start.arguments = if ends { vec![ENDS.into()] } else { Vec::new() };
    match connection.call(ClientRequest::Submit(Box::new(submission)))? {
        ClientReply::Submitted(_) => {
            ledger.tell(Told::Submitted { job, program: number, id: id.0 })
        }
        other => Err(Error::internal(format!("a submission was answered by {other:?}"))),
    }
}

/// Starts masters that do what they are told. They are counted, and each says when it has recorded its attempt.
fn masters(ledger: &Ledger, n_masters: &Arc<AtomicUsize>, recorded: Sender<()>) -> StartJob {
    let (ledger, n_masters) = (ledger.clone(), n_masters.clone());
    Arc::new(move |spec: JobSpec, link: Box<dyn Link>| {
        n_masters.fetch_add(1, Ordering::SeqCst);
        let (inputs, inbox) = unbounded();
        let (ledger, recorded) = (ledger.clone(), recorded.clone());
        thread::spawn(move || {
            if let Err(error) = record(&spec, &*link, &ledger) {
                eprintln!("the master of {}: {error}", spec.id);
                std::process::exit(1);
            }
            let _ = recorded.send(());
            lead(&spec, &*link, &inbox);
        });
        Ok(inputs)
    })
}

fn record(spec: &JobSpec, link: &dyn Link, ledger: &Ledger) -> Result<()> {
    let attempt = spec.attempt.as_ref().map_or(0, |last| last.attempt + 1);
    link.record(&AttemptRecord { attempt, slots: Vec::new(), running: Vec::new() })?;
    ledger.tell(Told::Attempted(spec.id.0 as u64, attempt))
}

fn lead(spec: &JobSpec, link: &dyn Link, inbox: &Receiver<JobInput>) {
    let job = spec.id;
    let end = |state: JobPhase| {
        let mut overview = decoders::outcome().overview;
        (overview.id, overview.state) = (job, state);
        link.ended(Outcome { overview, error: None, results: Vec::new(), metrics: Vec::new() });
    };
    if spec.submission.start.arguments == [ENDS] {
        return end(JobPhase::Finished);
    }
    for input in inbox {
        match input {
            JobInput::Cancel => return end(JobPhase::Canceled),
            JobInput::Savepoint { dir, reply, .. } => {
                reply.answer(Ok(dir));
                return end(JobPhase::Finished);
            }
            JobInput::Detail(reply) => {
                let mut detail = decoders::detail();
                (detail.overview.id, detail.overview.state) = (job, JobPhase::Running);
                reply.answer(detail);
            }
            JobInput::Abandon => return,
            _ => {}
        }
    }
}
