//! A task manager's session, from its `Hello` to its end.
//!
//! Whatever ends it is told to the shell, at once and with the reason. So many messages are under way to the shell and
//! no more: one that says more waits, and in the end its sender does. Every message carries the leader it is meant
//! for: one for an older leader is refused with the session, because its sender has not heard the `Welcome` of this
//! one; one for a newer leader says that this one is deposed.

use super::event::Event;
use super::outbox::Outbox;
use super::shared::Shared;
use millstream_model::{Domain, Error, LeaderEpoch, Result};
use millstream_proto::message::{FromTaskManager, Hello, TaskManagerId};
use millstream_proto::wire::Envelope;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tonic::{Code, Status, Streaming};

/// How many messages of a session may be on their way to the shell.
const MAX_UNDER_WAY: usize = 256;

/// The most slots a task manager may offer.
const MAX_SLOTS: usize = 100_000;

/// Takes what a task manager says until its session ends.
pub(super) async fn attend(
    shared: Arc<Shared>,
    number: u64,
    mut inbound: Streaming<Envelope>,
    outbox: Outbox,
    peer: SocketAddr,
) {
    let hello = tokio::select! {
        hello = greet(&shared, &mut inbound) => hello,
        () = tokio::time::sleep(shared.config.timeout()) => {
            Err(Error::external("it did not introduce itself in time"))
        }
    };
    let hello = match hello {
        Ok(hello) => hello,
        Err(error) => {
            tracing::warn!(%peer, %error, "a session was refused");
            shared.metrics.requests_refused.add(1);
            // A user's error is for somebody to correct; after another one it may be tried again.
            let code = match error.domain() {
                Domain::User => Code::PermissionDenied,
                Domain::External | Domain::Internal => Code::FailedPrecondition,
            };
            outbox.close(Status::new(code, error.to_string()));
            return;
        }
    };
    let id = hello.id;
    shared.tell(Event::Attached { session: number, hello, outbox: outbox.clone() });
    let error = tokio::select! {
        error = listen(&shared, id, number, &mut inbound) => error,
        why = outbox.closed() => Error::external(why.message().to_owned()),
    };
    outbox.close(Status::aborted(error.to_string()));
    shared.metrics.sessions_ended.add(1);
    shared.tell(Event::Detached { id, session: number, error });
}

async fn greet(shared: &Shared, inbound: &mut Streaming<Envelope>) -> Result<Hello> {
    let (epoch, message) = next(inbound).await?;
    let FromTaskManager::Hello(hello) = message else {
        return Err(Error::external("the first word of a session is a Hello"));
    };
    let heard = epoch.max(hello.epoch);
    if heard > shared.epoch {
        return Err(Error::external(format!(
            "task manager {} has heard a leader of epoch {heard}, and this one is {}: either a newer leader is \
             elsewhere, or this one was given another folder than before",
            hello.id, shared.epoch
        )));
    }
    if hello.n_slots > MAX_SLOTS {
        return Err(Error::user(format!(
            "a task manager cannot have {} slots: {MAX_SLOTS} are the most",
            hello.n_slots
        )));
    }
    Ok(hello)
}

/// Takes messages until there are no more; why.
async fn listen(
    shared: &Shared,
    from: TaskManagerId,
    session: u64,
    inbound: &mut Streaming<Envelope>,
) -> Error {
    let under_way = Arc::new(Semaphore::new(MAX_UNDER_WAY));
    loop {
        let message = match next(inbound).await {
            Ok((epoch, message)) => check(shared.epoch, epoch).map(|()| message),
            Err(error) => Err(error),
        };
        let message = match message {
            Ok(message) => message,
            Err(error) => return error,
        };
        let Ok(permit) = under_way.clone().acquire_owned().await else {
            return Error::internal("the semaphore of a session was closed");
        };
        shared.tell(Event::Said { from, session, message, permit });
    }
}

fn check(leader: LeaderEpoch, epoch: LeaderEpoch) -> Result<()> {
    match epoch.cmp(&leader) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Less => Err(Error::external(format!(
            "a message for the leader of epoch {epoch} is refused: this one is {leader}"
        ))),
        std::cmp::Ordering::Greater => Err(Error::external(format!(
            "there is a leader of epoch {epoch}, newer than this one, {leader}"
        ))),
    }
}

async fn next(inbound: &mut Streaming<Envelope>) -> Result<(LeaderEpoch, FromTaskManager)> {
    match inbound.message().await {
        Ok(Some(envelope)) => envelope.open(),
        Ok(None) => Err(Error::external("the task manager closed the connection")),
        Err(status) => {
            let message = format!("the connection to the task manager broke: {}", status.message());
            Err(Error::external(message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_for_one_leader() {
        let leader = LeaderEpoch(5);
        check(leader, LeaderEpoch(5)).unwrap();
        let older = check(leader, LeaderEpoch(4)).unwrap_err().to_string();
        assert!(older.contains("is refused"), "{older}");
        let newer = check(leader, LeaderEpoch(6)).unwrap_err().to_string();
        assert!(newer.contains("newer than this one"), "{newer}");
    }
}
