//! A program that runs its job on a cluster: it sends itself, and what it has built.
//!
//! What a closure captures is computed again by every host's `main`; so everything that `main` depends on is taken
//! along: arguments, the variables that were named, the settings, the folder, and what was computed once.

mod far;

use crate::cluster::{Connection, Security, UploadProgress, addresses};
use crate::config::Config;
use crate::job::JobHandle;
use crate::local::Program;
use far::FarJob;
use millstream_model::{Error, Result};
use millstream_proto::executable;
use millstream_proto::message::{
    ClientReply, ClientRequest, HostStart, JobId, RequestId, Submission,
};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Calls of `execute` of this process that went to a cluster.
static N_EXECUTES: AtomicU32 = AtomicU32::new(0);

/// Submits a program's job to the cluster that its settings name.
pub(crate) fn submit(program: Program, once: Vec<(String, Vec<u8>)>) -> Result<JobHandle> {
    let nth_execute = N_EXECUTES.fetch_add(1, Ordering::SeqCst);
    let Some(cluster) = &program.config.cluster else {
        return Err(Error::internal("nobody said which cluster is to run the job"));
    };
    let mut security = Security::default();
    security.read_variables(|name| std::env::var(name).ok())?;
    let connection = Connection::open(&addresses(cluster)?, &security)?;
    let executable = executable::own().map_err(|e| {
        Error::external("the program's own executable cannot be found").caused_by(e)
    })?;
    let progress = Upload::new(&program.config);
    let (id, program_bytes) = connection.upload(&executable, |p| progress.show(p))?;
    progress.clear();
    let mut config = program.config.clone();
    make_absolute(&mut config)?;
    let start = HostStart {
        // Given by the job manager.
        job: JobId(0),
        arguments: arguments()?,
        environment: passed(&config.pass_environment)?,
        folder: std::env::current_dir()?,
        nth_execute,
        graph: program.compiled.graph.clone(),
        config: config.encoded()?,
        once,
    };
    let submission = Submission {
        request: draw_request(),
        program: id,
        program_bytes,
        settings: config.job_settings(),
        start,
    };
    match connection.call(ClientRequest::Submit(Box::new(submission)))? {
        ClientReply::Submitted(id) => {
            tracing::info!(%id, "the job was submitted");
            Ok(JobHandle::new(FarJob::new(connection, id, program)))
        }
        other => Err(Error::internal(format!("a submission was answered by {other:?}"))),
    }
}

fn arguments() -> Result<Vec<String>> {
    let text = |argument: std::ffi::OsString| {
        argument.into_string().map_err(|argument| {
            Error::user(format!(
                "the argument `{}` is not UTF-8, so it cannot travel to the cluster",
                argument.display()
            ))
        })
    };
    std::env::args_os().skip(1).map(text).collect()
}

/// The variables that hosts are to see.
fn passed(names: &[String]) -> Result<Vec<(String, String)>> {
    let value = |name: &String| match std::env::var(name) {
        Ok(value) => Ok((name.clone(), value)),
        Err(e) => {
            Err(Error::user(format!("the variable `{name}` cannot be passed on")).caused_by(e))
        }
    };
    names.iter().map(value).collect()
}

/// Other processes have other folders.
fn make_absolute(config: &mut Config) -> Result<()> {
    let absolute = |path: &Path| -> Result<PathBuf> {
        std::path::absolute(path)
            .map_err(|e| Error::user(format!("`{}` is no path", path.display())).caused_by(e))
    };
    if let Some(dir) = &mut config.checkpoint_dir {
        *dir = absolute(dir)?;
    }
    if let Some(millstream_model::settings::RestoreFrom::Path(path)) = &mut config.restore {
        *path = absolute(path)?;
    }
    Ok(())
}

fn draw_request() -> RequestId {
    let draw = |salt: u32| u128::from(RandomState::new().hash_one((salt, std::process::id())));
    RequestId(draw(0) << 64 | draw(1))
}

/// A bar while the program is sent.
struct Upload(Option<indicatif::ProgressBar>);

impl Upload {
    fn new(config: &Config) -> Self {
        Upload(config.shows_progress().then(|| {
            let style = "sending the program {wide_bar} {bytes}/{total_bytes}";
            let bar = indicatif::ProgressBar::new(0);
            bar.with_style(
                indicatif::ProgressStyle::with_template(style)
                    .unwrap_or_else(|_| indicatif::ProgressStyle::default_bar()),
            )
        }))
    }

    fn show(&self, progress: UploadProgress) {
        if let (Some(bar), UploadProgress::Sending { done, total }) = (&self.0, progress) {
            bar.set_length(total);
            bar.set_position(done);
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
