//! Types, erased and found again.
//!
//! A box of `Any` holds exactly one kind of typed thing per alias below. A wrong type here is a bug of the
//! API layer, never of a program: it is reported as an internal error, not a panic.

use millstream_model::{CheckpointMode, Data, Error, Result};
use millstream_runtime::chain::{AnySide, Discard, Output, Push, SideOutput, Site, Tee};
use millstream_runtime::context::{OperatorContext, TaskContext};
#[cfg(feature = "cluster")]
use millstream_runtime::exchange::net::{ChannelId, NetAttempt};
use millstream_runtime::exchange::{Gate, MemoryPool, Sender, connect};
use millstream_runtime::task::Waker;
use std::any::{Any, TypeId, type_name};
use std::sync::Arc;

/// A `Box<dyn Push<T>>`.
pub(crate) type AnyPush = Box<dyn Any + Send>;
/// A `Gate<T>`.
pub(crate) type AnyGate = Box<dyn Any + Send>;
/// A `Sender<T>`.
pub(crate) type AnySender = Box<dyn Any + Send>;

pub(crate) fn erase_push<T: 'static>(push: Box<dyn Push<T>>) -> AnyPush {
    Box::new(push)
}

pub(crate) fn erase_gate<T: Send + 'static>(gate: Gate<T>) -> AnyGate {
    Box::new(gate)
}

/// The typed thing in a box.
pub(crate) fn typed<X: 'static>(any: Box<dyn Any + Send>) -> Result<X> {
    match any.downcast::<X>() {
        Ok(x) => Ok(*x),
        Err(_) => Err(Error::internal(format!("a link does not carry {}", type_name::<X>()))),
    }
}

/// What a node's factory is given of where it runs.
pub(crate) struct OpContext {
    pub(crate) task: TaskContext,
    pub(crate) operator: OperatorContext,
    pub(crate) site: Site,
    /// How barriers travel into the task.
    pub(crate) mode: CheckpointMode,
}

/// What comes after a node, types unknown.
pub(crate) struct RawOuts {
    pub(crate) main: Option<AnyPush>,
    pub(crate) sides: Vec<Box<dyn AnySide>>,
    pub(crate) capacity: usize,
}

/// What comes after a node that emits `O`.
pub(crate) struct Outs<O> {
    pub(crate) next: Box<dyn Push<O>>,
    sides: Vec<Box<dyn AnySide>>,
    capacity: usize,
    site: Site,
}

impl RawOuts {
    pub(crate) fn typed<O: Send + 'static>(self, site: &Site) -> Result<Outs<O>> {
        let next = match self.main {
            Some(push) => typed::<Box<dyn Push<O>>>(push)?,
            None => Box::new(Discard),
        };
        Ok(Outs { next, sides: self.sides, capacity: self.capacity, site: site.clone() })
    }
}

impl<O: Send + 'static> Outs<O> {
    /// The output of an operator.
    pub(crate) fn output(self) -> Output<O> {
        Output::new(self.next, self.capacity, self.site, self.sides)
    }
}

/// An output of a node, its type known inside.
pub(crate) trait OutputPort: Send + Sync {
    /// Whether more than one consumer can be served.
    fn can_fan_out(&self) -> bool;
    /// Whether its records are of this type.
    fn carries(&self, record: TypeId) -> bool;
    /// One link for all consumers.
    fn join(&self, consumers: Vec<AnyPush>) -> Result<Option<AnyPush>>;
    /// The side output of this type into a link.
    fn side(
        &self,
        tag: &'static str,
        next: AnyPush,
        capacity: usize,
        site: Site,
    ) -> Result<Box<dyn AnySide>>;
}

type MakeTee<T> = fn(Vec<Box<dyn Push<T>>>) -> Box<dyn Push<T>>;

/// An output of records of type `T`.
pub(crate) struct PortOf<T> {
    tee: Option<MakeTee<T>>,
}

impl<T> PortOf<T> {
    pub(crate) fn single() -> Self {
        PortOf { tee: None }
    }
}

impl<T: Clone + Send + 'static> PortOf<T> {
    /// A port that can serve several consumers.
    pub(crate) fn cloning() -> Self {
        PortOf { tee: Some(|consumers| Box::new(Tee::new(consumers))) }
    }
}

impl<T: Send + 'static> OutputPort for PortOf<T> {
    fn can_fan_out(&self) -> bool {
        self.tee.is_some()
    }

    fn carries(&self, record: TypeId) -> bool {
        TypeId::of::<T>() == record
    }

    fn join(&self, mut consumers: Vec<AnyPush>) -> Result<Option<AnyPush>> {
        if consumers.len() <= 1 {
            return Ok(consumers.pop());
        }
        let Some(tee) = self.tee else {
            return Err(Error::internal("an output without a tee has several consumers"));
        };
        let consumers =
            consumers.into_iter().map(typed::<Box<dyn Push<T>>>).collect::<Result<Vec<_>>>()?;
        Ok(Some(erase_push(tee(consumers))))
    }

    fn side(
        &self,
        tag: &'static str,
        next: AnyPush,
        capacity: usize,
        site: Site,
    ) -> Result<Box<dyn AnySide>> {
        Ok(Box::new(SideOutput::<T>::new(tag, typed(next)?, capacity, site)))
    }
}

/// An input of a node, its type known inside.
pub(crate) trait InputPort: Send + Sync {
    /// Connects senders to one receiving subtask.
    fn connect(
        &self,
        memory: &Arc<MemoryPool>,
        senders: &[Waker],
        receiver: Waker,
        mode: CheckpointMode,
    ) -> (Vec<AnySender>, AnyGate);
    /// The sending end of a channel to a task in another process.
    #[cfg(feature = "cluster")]
    fn remote_sender(
        &self,
        net: &NetAttempt,
        host: u32,
        channel: ChannelId,
        waker: Waker,
    ) -> Result<AnySender>;
    /// Lets what arrives from another process in through one of a gate's senders.
    #[cfg(feature = "cluster")]
    fn inlet(
        &self,
        net: &NetAttempt,
        host: u32,
        channel: ChannelId,
        sender: AnySender,
    ) -> Result<()>;
}

/// An input of records of type `T`.
pub(crate) struct InputOf<T>(std::marker::PhantomData<fn(T)>);

impl<T> InputOf<T> {
    pub(crate) fn new() -> Self {
        InputOf(std::marker::PhantomData)
    }
}

impl<T: Data> InputPort for InputOf<T> {
    fn connect(
        &self,
        memory: &Arc<MemoryPool>,
        senders: &[Waker],
        receiver: Waker,
        mode: CheckpointMode,
    ) -> (Vec<AnySender>, AnyGate) {
        let (ends, gate) = connect::<T>(memory, senders, receiver, mode);
        let ends = ends.into_iter().map(|s: Sender<T>| Box::new(s) as AnySender).collect();
        (ends, erase_gate(gate))
    }

    #[cfg(feature = "cluster")]
    fn remote_sender(
        &self,
        net: &NetAttempt,
        host: u32,
        channel: ChannelId,
        waker: Waker,
    ) -> Result<AnySender> {
        Ok(Box::new(net.sender::<T>(host, channel, waker)?))
    }

    #[cfg(feature = "cluster")]
    fn inlet(
        &self,
        net: &NetAttempt,
        host: u32,
        channel: ChannelId,
        sender: AnySender,
    ) -> Result<()> {
        net.inlet(host, channel, typed::<Sender<T>>(sender)?)
    }
}
