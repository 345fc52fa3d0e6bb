//! Who listens, who calls, and the words that are exchanged before frames are.
//!
//! Everything that somebody else may drag out has a deadline, and those who have not shown the job's secret are
//! few at a time: a port that is knocked at by strangers goes on serving its job.

use super::admission::{Admission, Verdict};
use super::attempt::NetAttempt;
use super::connection::{self, WriteHalf};
use super::hello::{ANSWER_BYTES, Answer, HELLO_BYTES, Hello};
use super::link::Link;
use super::{NetConfig, tls};
use millstream_model::{Error, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

/// How long who knocks may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// How many may knock or wait at a time.
const MAX_WAITING: usize = 512;

/// What all attempts of a process share.
pub(super) struct Shell {
    pub(super) config: NetConfig,
    tls: Option<tls::Tls>,
    runtime: tokio::runtime::Handle,
    admission: Mutex<Admission<Arc<NetAttempt>>>,
    /// Told whenever somebody who waits may be let in.
    changed: Notify,
    /// Held by every connection, so that one can wait for all.
    alive: mpsc::WeakSender<()>,
}

impl Shell {
    pub(super) fn new(
        config: NetConfig,
        runtime: tokio::runtime::Handle,
        alive: mpsc::WeakSender<()>,
    ) -> Result<Shell> {
        let tls = config.tls.as_ref().map(tls::Tls::load).transpose()?;
        let admission = Mutex::new(Admission::new());
        Ok(Shell { config, tls, runtime, admission, changed: Notify::new(), alive })
    }

    fn admission(&self) -> MutexGuard<'_, Admission<Arc<NetAttempt>>> {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new attempt.
    pub(super) fn begin(&self, attempt: &Arc<NetAttempt>) -> Result<()> {
        let NetAttempt { job, number, token, me, .. } = &**attempt;
        let begun = self.admission().begin(*job, *number, token, *me, Arc::clone(attempt));
        begun.map_err(Error::internal)?;
        self.changed.notify_waiters();
        Ok(())
    }

    /// Lets connections of an attempt in.
    pub(super) fn admit(&self, attempt: &NetAttempt) {
        self.admission().start(attempt.job, attempt.number);
        self.changed.notify_waiters();
    }

    /// Lets them in no more.
    pub(super) fn forget(&self, attempt: &NetAttempt) {
        self.admission().end(attempt.job, attempt.number);
        self.changed.notify_waiters();
    }

    /// Closes every attempt.
    pub(super) fn close(&self) {
        let attempts = self.admission().end_all();
        attempts.iter().for_each(|attempt| attempt.close());
    }

    /// Calls another host, or waits for its call: the host with the lower number calls.
    pub(super) fn expect(
        self: &Arc<Self>,
        attempt: &Arc<NetAttempt>,
        link: &Arc<Link>,
    ) -> AbortHandle {
        let (shell, link) = (Arc::clone(self), Arc::clone(link));
        let hello = Hello {
            job: attempt.job,
            attempt: attempt.number,
            from: attempt.me,
            to: link.host,
            token: attempt.token.clone(),
        };
        let task = self.runtime.spawn(async move {
            if hello.from > hello.to {
                tokio::time::sleep(shell.config.patience).await;
                if !link.is_connected() {
                    link.lose(&format!("it has not called within {:?}", shell.config.patience));
                }
            } else if let Err(e) = shell.call(&hello, &link).await {
                link.lose(&e);
            }
        });
        task.abort_handle()
    }

    /// Calls another host and leaves the connection to work.
    async fn call(self: &Arc<Self>, hello: &Hello, link: &Arc<Link>) -> Result<()> {
        let connecting = timeout(self.config.patience, TcpStream::connect(link.address)).await;
        let stream = connecting
            .map_err(|_| Error::external("it does not answer"))?
            .map_err(|e| Error::external("it cannot be reached").caused_by(e))?;
        stream.set_nodelay(true)?;
        // The other side lets it wait as long as its own patience lasts.
        let deadline = self.config.patience + HELLO_TIMEOUT;
        let late = |_| Error::external("it does not answer the greeting");
        match &self.tls {
            None => {
                let mut stream = stream;
                timeout(deadline, greet(&mut stream, hello)).await.map_err(late)??;
                link.connect();
                let (from, to) = stream.into_split();
                self.run(link, from, WriteHalf::Socket(Arc::new(to)));
            }
            Some(tls) => {
                let greeted = async {
                    let mut stream = tls.connect(stream).await?;
                    greet(&mut stream, hello).await?;
                    Ok::<_, Error>(stream)
                };
                let stream = timeout(deadline, greeted).await.map_err(late)??;
                link.connect();
                let (from, to) = tokio::io::split(stream);
                self.run(link, from, WriteHalf::Wrapped(Box::new(to)));
            }
        }
        Ok(())
    }

    fn run(&self, link: &Arc<Link>, from: impl AsyncRead + Unpin + Send + 'static, to: WriteHalf) {
        let (link, alive) = (Arc::clone(link), self.alive.upgrade());
        self.runtime.spawn(async move {
            connection::run(link, from, to).await;
            drop(alive);
        });
    }

    /// Takes calls, for as long as the process lives.
    pub(super) async fn listen(self: Arc<Self>, listener: TcpListener) {
        let waiting = Arc::new(Semaphore::new(MAX_WAITING));
        loop {
            let Ok(permit) = Arc::clone(&waiting).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, from)) => {
                    let shell = Arc::clone(&self);
                    self.runtime.spawn(async move {
                        if let Err(e) = shell.answer(stream).await {
                            tracing::warn!("a caller from {from} was turned away: {e}");
                        }
                        drop(permit);
                    });
                }
                Err(e) => {
                    // Out of descriptors, most likely: others may be closed meanwhile.
                    tracing::warn!("a call could not be taken: {e}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// Takes a call: lets it in or says why not.
    async fn answer(self: &Arc<Self>, stream: TcpStream) -> Result<()> {
        stream.set_nodelay(true)?;
        match &self.tls {
            None => {
                let mut stream = stream;
                let link = self.let_in(&mut stream).await?;
                let (from, to) = stream.into_split();
                self.run(&link, from, WriteHalf::Socket(Arc::new(to)));
            }
            Some(tls) => {
                let accepted = timeout(HELLO_TIMEOUT, tls.accept(stream)).await;
                let mut stream = accepted.map_err(|_| Error::external("it says nothing"))??;
                let link = self.let_in(&mut stream).await?;
                let (from, to) = tokio::io::split(stream);
                self.run(&link, from, WriteHalf::Wrapped(Box::new(to)));
            }
        }
        Ok(())
    }

    async fn let_in<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: &mut S) -> Result<Arc<Link>> {
        let hello = timeout(HELLO_TIMEOUT, read_hello(stream)).await;
        let hello = hello.map_err(|_| Error::external("it says nothing"))??;
        let entered = self.enter(&hello).await;
        let answer = match &entered {
            Ok(_) => Answer::Welcome,
            Err(reason) => Answer::Refused(reason.clone()),
        };
        let sent = timeout(HELLO_TIMEOUT, async {
            stream.write_all(&answer.to_bytes()).await?;
            stream.flush().await
        });
        let sent = sent.await.map_err(|_| Error::external("it does not listen"));
        match entered {
            Ok(link) => match sent.and_then(|sent| Ok(sent?)) {
                Ok(()) => Ok(link),
                Err(e) => {
                    link.lose(&e);
                    Err(e)
                }
            },
            Err(reason) => Err(Error::external(format!("{hello:?}: {reason}"))),
        }
    }

    /// The link that somebody belongs to, which now has its connection; or why there is none.
    async fn enter(&self, hello: &Hello) -> std::result::Result<Arc<Link>, String> {
        let deadline = Instant::now() + self.config.patience;
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let verdict = self.admission().judge(hello);
            match verdict {
                Verdict::Enter(attempt) => {
                    let link = attempt.link(hello.from).map_err(|e| e.message().to_owned())?;
                    if hello.from > hello.to {
                        return Err("the host with the lower number calls".into());
                    }
                    if !link.connect() {
                        return Err("it is connected already".into());
                    }
                    return Ok(Arc::clone(link));
                }
                Verdict::Refuse(reason) => return Err(reason),
                Verdict::Wait => {}
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return Err(self.admission().not_there(hello));
            }
        }
    }
}

async fn read_hello(stream: &mut (impl AsyncRead + Unpin)) -> Result<Hello> {
    let mut bytes = [0; HELLO_BYTES];
    stream.read_exact(&mut bytes).await?;
    let (mut hello, n_token) = Hello::of(&bytes)?;
    hello.token.resize(n_token, 0);
    stream.read_exact(&mut hello.token).await?;
    Ok(hello)
}

/// Says who calls, and waits to be let in.
async fn greet(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), hello: &Hello) -> Result<()> {
    let broken = |e| Error::external("it ended the connection at the greeting").caused_by(e);
    let greeting = async {
        stream.write_all(&hello.to_bytes()).await?;
        stream.flush().await?;
        let mut bytes = [0; ANSWER_BYTES];
        stream.read_exact(&mut bytes).await?;
        std::io::Result::Ok(bytes)
    };
    let bytes = greeting.await.map_err(broken)?;
    let Some(n_reason) = Answer::of(&bytes)? else { return Ok(()) };
    let mut reason = vec![0; n_reason];
    stream.read_exact(&mut reason).await.map_err(broken)?;
    Err(Error::external(format!("it refuses: {}", String::from_utf8_lossy(&reason))))
}
