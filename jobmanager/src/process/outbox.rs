//! What waits to be sent to a task manager.
//!
//! Whoever says something never waits: messages are sealed by the thread that has them and queued. The queue is
//! bounded in bytes, with an allowance for each message; a task manager that does not read what it is told has its
//! session closed, and is lost as one that is silent. Messages of one sender arrive in order.

use super::metrics::Metrics;
use millstream_model::LeaderEpoch;
use millstream_proto::message::{TaskManagerId, ToTaskManager};
use millstream_proto::wire::Envelope;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Context, Poll};
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tonic::Status;

/// What a message costs besides its bytes.
const ALLOWANCE: usize = 256;

/// The sending side of a session. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Outbox {
    epoch: LeaderEpoch,
    limit: usize,
    sender: Arc<Mutex<Option<mpsc::UnboundedSender<Envelope>>>>,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Shared {
    n_bytes: AtomicUsize,
    /// Why the session was closed, when it is.
    closed: watch::Sender<Option<Status>>,
}

/// What the transport takes messages from.
#[derive(Debug)]
pub(super) struct Outgoing {
    receiver: mpsc::UnboundedReceiver<Envelope>,
    shared: Arc<Shared>,
    is_over: bool,
}

/// A new session's outbox, and its other end.
pub(super) fn outbox(
    epoch: LeaderEpoch,
    limit: usize,
    metrics: &Arc<Metrics>,
) -> (Outbox, Outgoing) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let shared =
        Arc::new(Shared { n_bytes: AtomicUsize::new(0), closed: watch::Sender::new(None) });
    let outgoing = Outgoing { receiver, shared: shared.clone(), is_over: false };
    let sender = Arc::new(Mutex::new(Some(sender)));
    (Outbox { epoch, limit, sender, shared, metrics: metrics.clone() }, outgoing)
}

impl Outbox {
    /// Queues a message. Does nothing once the session is closed.
    pub(super) fn send(&self, message: &ToTaskManager) {
        let envelope = match Envelope::seal(self.epoch, message) {
            Ok(envelope) => envelope,
            Err(error) => {
                self.close(Status::internal(error.to_string()));
                return;
            }
        };
        let size = envelope.sealed.len() + ALLOWANCE;
        let before = self.shared.n_bytes.fetch_add(size, Ordering::Relaxed);
        // A single message is always taken, however long it is.
        if before > 0 && before + size > self.limit {
            let status = format!("does not read what it is told: {before} bytes wait");
            self.close(Status::resource_exhausted(status));
            return;
        }
        if let Some(sender) = &*self.sender() {
            self.metrics.messages_sent.add(1);
            // Where nobody receives any more the session is about to be told broken.
            let _ = sender.send(envelope);
        }
    }

    /// Ends the session; what has not been sent is dropped.
    pub(super) fn close(&self, why: Status) {
        self.shared.closed.send_if_modified(|closed| {
            let is_first = closed.is_none();
            closed.get_or_insert(why);
            is_first
        });
        // Only now, because it wakes the other end, which looks for the reason.
        self.sender().take();
    }

    /// Waits until the session is closed from this side; why.
    pub(super) async fn closed(&self) -> Status {
        let mut closed = self.shared.closed.subscribe();
        match closed.wait_for(Option::is_some).await {
            Ok(status) => status.clone().unwrap_or_else(|| Status::ok("")),
            Err(_) => Status::ok(""),
        }
    }

    fn sender(&self) -> MutexGuard<'_, Option<mpsc::UnboundedSender<Envelope>>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream for Outgoing {
    type Item = Result<Envelope, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let closed = self.shared.closed.borrow().clone();
        if let Some(status) = closed {
            self.is_over = true;
            return Poll::Ready(Some(Err(status)));
        }
        match self.receiver.poll_recv(cx) {
            Poll::Ready(Some(envelope)) => {
                let size = envelope.sealed.len() + ALLOWANCE;
                self.shared.n_bytes.fetch_sub(size, Ordering::Relaxed);
                Poll::Ready(Some(Ok(envelope)))
            }
            // Closed while it was looked at.
            Poll::Ready(None) if self.shared.closed.borrow().is_some() => self.poll_next(cx),
            other => other.map(|_| None),
        }
    }
}

/// The outboxes of all task managers that have a session.
#[derive(Debug, Default)]
pub(super) struct Outboxes {
    by_id: RwLock<HashMap<TaskManagerId, Outbox>>,
}

impl Outboxes {
    /// Says something; whether there is a session to say it in.
    pub(super) fn send(&self, to: TaskManagerId, message: &ToTaskManager) -> bool {
        let outbox = self.get(to);
        outbox.inspect(|outbox| outbox.send(message)).is_some()
    }

    pub(super) fn get(&self, id: TaskManagerId) -> Option<Outbox> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    pub(super) fn insert(&self, id: TaskManagerId, outbox: Outbox) -> Option<Outbox> {
        self.by_id.write().unwrap_or_else(PoisonError::into_inner).insert(id, outbox)
    }

    pub(super) fn remove(&self, id: TaskManagerId) -> Option<Outbox> {
        self.by_id.write().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }

    pub(super) fn all(&self) -> Vec<Outbox> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_proto::message::JobId;
    use tokio_stream::StreamExt;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().unwrap()
    }

    #[test]
    fn messages_come_in_order_and_carry_the_epoch() {
        let (outbox, mut outgoing) = outbox(LeaderEpoch(3), 1 << 20, &Arc::default());
        for job in 0..3 {
            outbox.send(&ToTaskManager::StopHost { job: JobId(job) });
        }
        runtime().block_on(async {
            for expected in 0..3 {
                let envelope = outgoing.next().await.unwrap().unwrap();
                let (epoch, message) = envelope.open::<ToTaskManager>().unwrap();
                assert_eq!(epoch, LeaderEpoch(3));
                assert!(
                    matches!(message, ToTaskManager::StopHost { job } if job == JobId(expected))
                );
            }
        });
        assert_eq!(outbox.shared.n_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn who_does_not_read_is_closed() {
        let (outbox, mut outgoing) = outbox(LeaderEpoch(3), 1000, &Arc::default());
        for _ in 0..10 {
            outbox.send(&ToTaskManager::Heartbeat);
        }
        runtime().block_on(async {
            let status = outgoing.next().await.unwrap().unwrap_err();
            assert_eq!(status.code(), tonic::Code::ResourceExhausted);
            assert!(outgoing.next().await.is_none());
            assert_eq!(outbox.closed().await.code(), tonic::Code::ResourceExhausted);
        });
    }

    #[test]
    fn a_close_wakes_who_waits() {
        let (outbox, mut outgoing) = outbox(LeaderEpoch(3), 1000, &Arc::default());
        runtime().block_on(async {
            let waiting = tokio::task::LocalSet::new();
            waiting
                .run_until(async {
                    let reader = tokio::task::spawn_local(async move { outgoing.next().await });
                    tokio::task::yield_now().await;
                    outbox.close(Status::aborted("replaced"));
                    outbox.close(Status::aborted("again"));
                    let status = reader.await.unwrap().unwrap().unwrap_err();
                    assert_eq!(status.message(), "replaced");
                })
                .await;
        });
    }
}
