//! One trial, from the drawing of its number to the comparison of its output.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use millstream::cluster::message::{ClientReply, ClientRequest, JobDetail, JobId, JobPhase};
use nix::sys::signal::Signal;

use super::disk::SmallDisk;
use super::{HURTS, Hurt};
use crate::cluster::{Cluster, Network, Plan, cut_connections_to, signal, until};
use crate::compare::{compare_sorted, lines, read};
use crate::data::sample_dir;
use crate::program::example;
use crate::queries::{Query, SAMPLE};
use crate::random::Random;
use crate::unruly::{Unruly, UnrulyJob, What};

/// How long the query takes that runs beside the job, in ms.
const BESIDE_MS: u64 = 8_000;
/// Records of the job in a second: it takes about as long.
const RATE: u64 = 1_000;
/// How long a job manager is away when it is away for long, in ms.
const AWAY_MS: u64 = 10_000;
const CODE: [What; 5] = [What::Panic, What::Abort, What::Quit, What::Loop, What::Hog];
/// What a host may allocate where one takes all it can have.
const HOST_BYTES: &str = "805306368";

/// See the module's text.
pub(super) struct Trial {
    random: Random,
    hurt: Hurt,
    /// Whether no subtask of the job that is hurt sends to another.
    is_apart: bool,
    code: What,
    query: &'static Query,
    parallelism: u64,
    settings: Vec<String>,
    n_in_checkpoint: u64,
    /// The system lets nobody do it, or there was nothing to be hurt.
    may_hurt_nothing: bool,
}

/// The jobs of a trial.
struct Jobs {
    hurt: UnrulyJob,
    beside: JobId,
}

impl Trial {
    pub(super) fn draw(seed: u64, only: Option<Hurt>) -> Trial {
        let mut random = Random(seed);
        let mut pick = |words: &[&str]| words[random.below(words.len() as u64) as usize].to_owned();
        let mode = pick(&["exactly-once", "exactly-once", "unaligned"]);
        let settings = [
            format!("driver={}", pick(&["cooperative", "threads"])),
            format!("chaining={}", pick(&["true", "false"])),
            format!("batch-size={}", pick(&["1024", "64"])),
            format!("checkpoint-mode={mode}"),
            format!("checkpoint-interval={}", pick(&["50ms", "200ms", "500ms"])),
        ];
        let settings = settings.into_iter().flat_map(|s| ["-D".to_owned(), s]).collect();
        let hurt = only.unwrap_or(HURTS[(seed % HURTS.len() as u64) as usize]);
        // One host alone has no connections.
        let least = if hurt == Hurt::CutBetweenHosts { 2 } else { 1 };
        // Where nobody sends to another, no connection can be cut.
        let is_apart = hurt != Hurt::CutBetweenHosts && random.below(3) == 0;
        Trial {
            hurt,
            is_apart,
            code: CODE[(seed / HURTS.len() as u64 % CODE.len() as u64) as usize],
            query: Query::of(SAMPLE[random.below(SAMPLE.len() as u64) as usize]),
            parallelism: random.between(least, 4),
            settings,
            n_in_checkpoint: 0,
            may_hurt_nothing: false,
            random,
        }
    }

    pub(super) fn what(&self) -> String {
        let code = match self.hurt {
            Hurt::UserCode => format!(" ({})", self.code.word()),
            _ => String::new(),
        };
        let (hurt, id, parallelism) = (self.hurt, self.query.id, self.parallelism);
        let settings = self.settings.iter().filter(|word| *word != "-D").cloned();
        let settings = settings.collect::<Vec<_>>().join(" ");
        let apart = if self.is_apart { " apart" } else { "" };
        format!("{hurt:?}{code} at {parallelism}{apart}, {id} beside, {settings}")
    }

    /// Runs it; how often the cluster was hurt, and how often of these in the middle of a checkpoint.
    pub(super) fn run(&mut self) -> (u64, u64) {
        let mut plan = Plan::new(2, 4);
        plan.is_proxied = self.hurt == Hurt::Network;
        // Where silence is what is tried, it is soon noticed; elsewhere a busy machine is no reason for a loss.
        let timeout_ms = match self.hurt {
            Hurt::PauseTaskManager | Hurt::Network => "1500",
            _ => "20000",
        };
        plan.job_manager =
            ["--heartbeat", "300", "--heartbeat-timeout", timeout_ms].map(Into::into).into();
        if self.hurt == Hurt::UserCode {
            plan.task_manager = ["--host-memory", HOST_BYTES].map(Into::into).into();
        }
        let mut cluster = Cluster::with(plan);
        let dir = cluster.dir().join("hurt");
        // Held to the end: the output lies on it.
        let disk = if self.hurt == Hurt::FullDisk { SmallDisk::mount(&dir) } else { None };
        if self.hurt == Hurt::FullDisk && disk.is_none() {
            eprintln!("no disk can be mounted here, so none is full");
            return (0, 0);
        }
        let jobs = self.start(&cluster, &dir);
        let n_hurts = self.hurt(&mut cluster, disk.as_ref(), &jobs);
        self.check(&cluster, &jobs);
        (n_hurts, self.n_in_checkpoint)
    }

    fn start(&mut self, cluster: &Cluster, dir: &Path) -> Jobs {
        let (data, out) = (sample_dir(), cluster.dir().join("beside"));
        let input = read(&data.join(self.query.input)).expect("the sample is there");
        let rate = (lines(&input).len() as u64 * 1000 / BESIDE_MS).max(1);
        let mut beside = example("queries");
        beside.arg(self.query.id).arg("--data").arg(&data).arg("--out").arg(&out);
        beside.args(["--rate", &rate.to_string(), "-p", "2", "--checkpoint-interval", "200ms"]);
        beside.arg("--checkpoint-dir").arg(cluster.dir().join("beside-checkpoints"));
        let beside = cluster.submit(beside);

        let n = match self.hurt {
            Hurt::KillJobManager => self.random.between(12_000, 24_000),
            _ => self.random.between(6_000, 12_000),
        };
        let parallelism = self.parallelism.to_string();
        let settings: Vec<&str> = self.settings.iter().map(String::as_str).collect();
        let job = Unruly::paced(dir, n, RATE).args(&settings).args(&["-p", &parallelism]);
        let job = if self.is_apart { job.apart() } else { job };
        let job = match self.hurt {
            Hurt::UserCode => job.args(&["-D", "cancel-timeout=500ms"]).does(self.code),
            _ => job,
        };
        Jobs { hurt: job.submit(cluster), beside }
    }

    fn wait(&mut self, from_ms: u64, to_ms: u64) {
        thread::park_timeout(Duration::from_millis(self.random.between(from_ms, to_ms)));
    }

    fn any<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        of.get(self.random.below(of.len() as u64) as usize).copied()
    }

    fn hurt(&mut self, cluster: &mut Cluster, disk: Option<&SmallDisk>, jobs: &Jobs) -> u64 {
        if self.hurt == Hurt::UserCode {
            if self.code == What::Loop {
                let flag = jobs.hurt.out.with_file_name("done");
                until("the job loops", || flag.exists().then_some(()));
                self.wait(0, 1000);
                let reply = cluster.ask(ClientRequest::Cancel(jobs.hurt.id));
                assert!(matches!(reply, ClientReply::Yes), "{reply:?}");
            }
            return 1;
        }
        // Sometimes while the jobs are only being started.
        if self.hurt == Hurt::KillJobManager {
            // Tasks that are only being deployed are started once more; those that run are left alone.
            cluster.wait_until(jobs.beside, "it runs", |detail| detail.overview.records > 0);
            cluster.checkpoint_after(jobs.hurt.id, None);
        } else if self.hurt == Hurt::CutBetweenHosts || self.random.below(4) > 0 {
            cluster.wait_until(jobs.hurt.id, "it runs", |detail| detail.overview.records > 0);
        }
        let (mut n_hurts, mut n_left) = (0, self.random.between(1, 4));
        while n_left > 0 {
            self.wait(0, 1500);
            if cluster.detail(jobs.hurt.id).overview.state.is_terminal() {
                break;
            }
            let is_hurt = self.hurt_once(cluster, disk, jobs);
            n_hurts += u64::from(is_hurt);
            // Where there is nothing to be hurt yet, there will be.
            n_left -= u64::from(is_hurt || n_hurts > 0 || self.may_hurt_nothing);
        }
        assert!(n_hurts > 0 || self.may_hurt_nothing, "the job had ended before it could be hurt");
        n_hurts
    }

    /// Whether there was anything to be hurt.
    fn hurt_once(&mut self, cluster: &mut Cluster, disk: Option<&SmallDisk>, jobs: &Jobs) -> bool {
        match self.hurt {
            Hurt::KillTaskManager => {
                let Some(victim) = self.any(&cluster.task_managers()) else { return false };
                cluster.kill_task_manager(victim);
                self.wait(0, 500);
                cluster.add_task_manager();
            }
            Hurt::KillHost => {
                let Some(pid) = self.any(&jobs.hurt.hosts(cluster)) else { return false };
                signal(pid, Signal::SIGKILL);
            }
            Hurt::KillJobManager => {
                let newest = |detail: &JobDetail| detail.overview.last_checkpoint;
                let before = newest(&cluster.detail(jobs.hurt.id));
                if self.random.below(2) == 0 {
                    let kept = jobs.hurt.out.with_file_name("checkpoints");
                    self.n_in_checkpoint += u64::from(is_being_taken(&kept));
                }
                cluster.kill_job_manager();
                if self.random.below(3) == 0 {
                    self.wait(AWAY_MS, AWAY_MS + 1);
                } else {
                    self.wait(0, 1500);
                }
                cluster.restart_job_manager();
                // The one after may have been completed before the kill.
                cluster.wait_until(jobs.hurt.id, "checkpoints go on", |detail| {
                    detail.overview.state.is_terminal()
                        || newest(detail) > before.map(|checkpoint| checkpoint + 1)
                });
            }
            Hurt::PauseTaskManager => {
                let Some(number) = self.any(&cluster.task_managers()) else { return false };
                let pid = cluster.task_manager(number);
                self.pause(pid);
            }
            Hurt::PauseHost => {
                let Some(pid) = self.any(&jobs.hurt.hosts(cluster)) else { return false };
                self.pause(pid);
            }
            Hurt::Network => {
                let network = if self.random.below(2) == 0 { Network::Slow } else { Network::Cut };
                cluster.set_network(network);
                self.wait(0, 2500);
                cluster.set_network(Network::Fast);
            }
            Hurt::CutBetweenHosts => {
                // Of two hosts one has connected to the other, and only that one's port can be aimed at.
                let cuts: Option<Vec<bool>> =
                    jobs.hurt.hosts(cluster).into_iter().map(cut_connections_to).collect();
                self.may_hurt_nothing |= cuts.is_none();
                return cuts.is_some_and(|cuts| cuts.contains(&true));
            }
            Hurt::FullDisk => {
                let Some(disk) = disk else { return false };
                disk.fill();
                self.wait(100, 2000);
                disk.clear();
            }
            Hurt::UserCode => return false,
        }
        true
    }

    fn pause(&mut self, pid: u32) {
        signal(pid, Signal::SIGSTOP);
        self.wait(100, 4000);
        signal(pid, Signal::SIGCONT);
    }

    fn check(&self, cluster: &Cluster, jobs: &Jobs) {
        match (self.hurt, self.code) {
            (Hurt::UserCode, What::Loop) => {
                let state = cluster.ended(jobs.hurt.id).overview.state;
                assert_eq!(state, JobPhase::Canceled, "the job that loops was cancelled");
            }
            (Hurt::UserCode, _) => jobs.hurt.finishes(cluster, 1),
            (Hurt::PauseHost | Hurt::KillJobManager, _) => jobs.hurt.finishes(cluster, 0),
            _ => drop(jobs.hurt.succeeds(cluster)),
        }
        let beside = cluster.ended(jobs.beside).overview;
        let exceptions = cluster.detail(jobs.beside).exceptions;
        assert_eq!(beside.state, JobPhase::Finished, "the job beside: {exceptions:#?}");
        let is_untouched = matches!(
            self.hurt,
            Hurt::CutBetweenHosts
                | Hurt::KillHost
                | Hurt::KillJobManager
                | Hurt::PauseHost
                | Hurt::UserCode
                | Hurt::FullDisk
        );
        assert!(
            !is_untouched || beside.n_restarts == 0,
            "the job beside had no part in it and was restarted: {exceptions:#?}"
        );
        let expected = self.query.expected(&sample_dir().join("expected"));
        for (name, file) in expected.expect("the sample answers its queries") {
            compare_sorted(&cluster.dir().join("beside").join(name), &file)
                .unwrap_or_else(|mismatch| panic!("{}, {name}: {mismatch}", self.query.id));
        }
        for job in [jobs.hurt.id, jobs.beside] {
            let ours = cluster.detail(job).exceptions;
            let ours: Vec<_> = ours.iter().filter(|e| e.domain == "internal").collect();
            assert!(ours.is_empty(), "failures of the engine's own: {ours:#?}");
        }
    }
}

/// Waits until files of a checkpoint are being written, which can be seen by a folder that has no manifest yet; whether
/// that was seen soon.
fn is_being_taken(kept: &Path) -> bool {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        let folders = std::fs::read_dir(kept).into_iter().flatten().flatten();
        let mut taken = folders.filter(|folder| {
            folder.file_name().to_string_lossy().starts_with("chk-")
                && !folder.path().join("manifest").exists()
        });
        if taken.next().is_some() {
            return true;
        }
        thread::park_timeout(Duration::from_micros(200));
    }
    false
}
