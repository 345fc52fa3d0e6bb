//! Where the tasks are that do not run here, and how to reach them.
//!
//! In one process there are none. Other tasks of the job may not be neighbours at all, but of an attempt of their own: what
//! is not of this attempt is nowhere.

use crate::graph::{AnySender, InputPort};
use millstream_model::Result;
#[cfg(feature = "cluster")]
use millstream_runtime::exchange::net::NetAttempt;
use millstream_runtime::task::Waker;
use std::collections::BTreeSet;
#[cfg(feature = "cluster")]
use std::sync::Arc;

/// A channel: the job edge, the producing and the consuming subtask.
pub(crate) type Channel = (usize, usize, usize);

/// See the module's text.
pub(crate) struct Neighbours<'a> {
    here: BTreeSet<usize>,
    elsewhere: Option<Elsewhere<'a>>,
}

#[cfg(feature = "cluster")]
struct Elsewhere<'a> {
    placement: &'a [u32],
    net: &'a Arc<NetAttempt>,
}

#[cfg(not(feature = "cluster"))]
struct Elsewhere<'a>(std::convert::Infallible, std::marker::PhantomData<&'a ()>);

impl Neighbours<'_> {
    /// These tasks run here, and they are all of the attempt.
    pub(crate) fn none(tasks: &[usize]) -> Self {
        Neighbours { here: tasks.iter().copied().collect(), elsewhere: None }
    }

    /// Whether a task runs here.
    pub(crate) fn is_here(&self, task: usize) -> bool {
        self.here.contains(&task)
    }

    /// The tasks that run here.
    pub(crate) fn here(&self) -> &BTreeSet<usize> {
        &self.here
    }
}

#[cfg(not(feature = "cluster"))]
impl Neighbours<'_> {
    /// All channels are there: lets records cross the network.
    pub(crate) fn connect(&self) -> Result<()> {
        match &self.elsewhere {
            None => Ok(()),
            Some(Elsewhere(nobody, _)) => match *nobody {},
        }
    }

    pub(crate) fn sender(
        &self,
        _: &dyn InputPort,
        _: usize,
        _: Channel,
        _: Waker,
    ) -> Result<AnySender> {
        Err(millstream_model::Error::internal("all tasks of this process are here"))
    }

    pub(crate) fn inlet(
        &self,
        _: &dyn InputPort,
        _: usize,
        _: Channel,
        _: AnySender,
    ) -> Result<()> {
        Err(millstream_model::Error::internal("all tasks of this process are here"))
    }
}

#[cfg(feature = "cluster")]
impl<'a> Neighbours<'a> {
    /// The host with number `me` runs the tasks that `placement` says.
    pub(crate) fn of(me: u32, placement: &'a [u32], net: &'a Arc<NetAttempt>) -> Self {
        let here = placement.iter().enumerate().filter(|(_, host)| **host == me);
        let here = here.map(|(task, _)| task).collect();
        Neighbours { here, elsewhere: Some(Elsewhere { placement, net }) }
    }

    /// All channels are there: lets records cross the network.
    pub(crate) fn connect(&self) -> Result<()> {
        self.elsewhere.as_ref().map_or(Ok(()), |elsewhere| elsewhere.net.start())
    }

    fn elsewhere(&self, task: usize) -> Result<(&Elsewhere<'a>, u32)> {
        let found = self.elsewhere.as_ref().and_then(|e| Some((e, *e.placement.get(task)?)));
        found.ok_or_else(|| millstream_model::Error::internal("nobody said where a task runs"))
    }

    /// The sending end of a channel to a task elsewhere; the waker is that of the sending task.
    pub(crate) fn sender(
        &self,
        port: &dyn InputPort,
        to_task: usize,
        channel: Channel,
        waker: Waker,
    ) -> Result<AnySender> {
        let (elsewhere, host) = self.elsewhere(to_task)?;
        port.remote_sender(elsewhere.net, host, channel_id(channel), waker)
    }

    /// Lets what a task elsewhere sends in through one of a gate's senders.
    pub(crate) fn inlet(
        &self,
        port: &dyn InputPort,
        from_task: usize,
        channel: Channel,
        sender: AnySender,
    ) -> Result<()> {
        let (elsewhere, host) = self.elsewhere(from_task)?;
        port.inlet(elsewhere.net, host, channel_id(channel), sender)
    }
}

#[cfg(feature = "cluster")]
fn channel_id((edge, from, to): Channel) -> millstream_runtime::exchange::net::ChannelId {
    let (edge, from, to) = (edge as u32, from as u32, to as u32);
    millstream_runtime::exchange::net::ChannelId { edge, from, to }
}
