//! What programs see of the connection: calls that block.
//!
//! The futures run on one thread of the connection's own. They are spawned there and waited for, never entered: so a
//! connection may be used and dropped inside of somebody else's runtime too.

use super::message::{ClientReply, ClientRequest, JobDetail, JobId, Outcome, ProgramId};
use super::route::Route;
use super::{Security, download, upload};
use crossbeam_channel::{Receiver, bounded};
use millstream_model::{Error, Result};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// How long a cluster that has answered before may be silent before a call fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a wait tells how the job is, in ms.
const DETAIL_INTERVAL_MS: u64 = 1000;

/// A connection to the job manager, or to whichever of several leads. Clones are the same connection.
///
/// A cluster that cannot be reached at first is an error at once. Later, what can be asked twice is asked again, at
/// every address, until the cluster is back or its time ([`Connection::with_patience`]) is over.
///
/// ```no_run
/// use millstream::cluster::message::{ClientReply, ClientRequest};
/// use millstream::cluster::{Connection, Security};
///
/// # fn main() -> millstream::model::Result<()> {
/// let connection = Connection::open(&["127.0.0.1:7455".into()], &Security::default())?;
/// if let ClientReply::Cluster(cluster) = connection.call(ClientRequest::Cluster)? {
///     println!("{} jobs", cluster.jobs.len());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Connection {
    route: Arc<Route>,
    thread: Arc<Background>,
    patience: Duration,
}

/// How far an upload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadProgress {
    /// The program is being read, to know which it is.
    Reading {
        /// Bytes read.
        done: u64,
        /// Of how many.
        total: u64,
    },
    /// The cluster does not have it; it is being sent.
    Sending {
        /// Bytes sent.
        done: u64,
        /// Of how many.
        total: u64,
    },
}

/// The thread that the futures run on.
struct Background(Option<Runtime>);

impl Background {
    fn start() -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("millstream-connection")
            .enable_all()
            .build();
        let cannot = "the thread for the connection to the cluster cannot be started";
        runtime
            .map(|runtime| Background(Some(runtime)))
            .map_err(|error| Error::external(cannot).caused_by(error))
    }

    fn start_task<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Receiver<Result<T>> {
        let (sender, receiver) = bounded(1);
        let runtime = self.0.as_ref().expect("it is taken when it is dropped");
        runtime.spawn(async move { drop(sender.send(future.await)) });
        receiver
    }

    fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        received(&self.start_task(future))
    }
}

fn received<T>(receiver: &Receiver<Result<T>>) -> Result<T> {
    let panicked = |_| Err(Error::internal("a request to the cluster panicked"));
    receiver.recv().unwrap_or_else(panicked)
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Waiting is not allowed inside of somebody else's runtime, and there is nothing to wait for.
            runtime.shutdown_background();
        }
    }
}

impl Connection {
    /// Connects to the first of these job managers (`HOST:PORT`) that can be reached.
    ///
    /// # Errors
    /// If none can be reached, an address is none, or the security settings do not allow it.
    pub fn open(addresses: &[String], security: &Security) -> Result<Self> {
        let route = Arc::new(Route::new(addresses, security)?);
        let thread = Arc::new(Background::start()?);
        let connecting = route.clone();
        thread.run(async move { connecting.reach().await })?;
        Ok(Connection { route, thread, patience: PATIENCE })
    }

    /// The same connection, which waits so long for a cluster that has answered before. A minute, if nothing is
    /// said.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Asks, and gives whatever was answered.
    ///
    /// # Errors
    /// If there was no answer: the cluster cannot be reached (an external error), or it does not take this client
    /// (a user's).
    pub fn ask(&self, request: ClientRequest) -> Result<ClientReply> {
        let (route, patience) = (self.route.clone(), self.patience);
        self.thread.run(async move { route.ask(&request, patience).await })
    }

    /// Asks; what the cluster refuses is an error.
    ///
    /// # Errors
    /// As for [`Connection::ask`]; if the request is refused, the reason.
    pub fn call(&self, request: ClientRequest) -> Result<ClientReply> {
        match self.ask(request)? {
            ClientReply::Refused(error) => Err(error),
            reply => Ok(reply),
        }
    }

    /// Makes sure that the cluster has a program: gives its id, and the length of its executable in bytes.
    ///
    /// # Errors
    /// If the file cannot be read, or the cluster cannot be reached or refuses it.
    pub fn upload(
        &self,
        program: &Path,
        mut on_progress: impl FnMut(UploadProgress),
    ) -> Result<(ProgramId, u64)> {
        let file = upload::Executable::read(program, |done, total| {
            on_progress(UploadProgress::Reading { done, total });
        })?;
        let (id, total) = (file.id, file.total_bytes);
        match self.call(ClientRequest::HasProgram(id))? {
            ClientReply::Yes => return Ok((id, total)),
            ClientReply::No => {}
            other => return Err(unexpected("whether it has a program", &other)),
        }
        let (sender, progress) = bounded(16);
        let sending = upload::send(self.route.clone(), Arc::new(file), self.patience, sender);
        let reply = self.thread.start_task(sending);
        for done in progress {
            on_progress(UploadProgress::Sending { done, total });
        }
        let reply = received(&reply)?;
        match reply {
            ClientReply::Yes => Ok((id, total)),
            ClientReply::Refused(error) => Err(error),
            other => Err(unexpected("to take a program", &other)),
        }
    }

    /// Writes a program that the cluster has to an executable file.
    ///
    /// # Errors
    /// If the cluster cannot be reached or does not have it, or the file cannot be written.
    pub fn download(&self, program: ProgramId, to: &Path) -> Result<()> {
        let (route, to) = (self.route.clone(), to.to_path_buf());
        self.thread.run(download::fetch(route, program, to, self.patience))
    }

    /// Waits until a job has ended; tells how it is once a second.
    ///
    /// # Errors
    /// If the cluster cannot be reached for too long, or does not know the job. That the job failed is no error but
    /// its outcome.
    pub fn wait(&self, job: JobId, mut on_detail: impl FnMut(&JobDetail)) -> Result<Outcome> {
        loop {
            match self.call(ClientRequest::Await { job, timeout_ms: DETAIL_INTERVAL_MS })? {
                ClientReply::Ended(outcome) => return Ok(*outcome),
                ClientReply::Job(detail) => on_detail(&detail),
                other => return Err(unexpected("to wait for a job", &other)),
            }
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("addresses", &self.route.addresses()).finish()
    }
}

fn unexpected(what: &str, reply: &ClientReply) -> Error {
    let reply = format!("{reply:?}");
    let kind = reply.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    Error::internal(format!("the job manager was asked {what} and answered `{kind}`"))
}
