//! From a compiled job to tasks: channels first, then each chain from its tail to its head.
//!
//! Of a job in a cluster only the tasks that were placed here are made; channels from and to the others cross the
//! network, and neither a writer nor a gate knows.

use super::Program;
use super::neighbours::Neighbours;
use crate::graph::{
    AnyGate, AnyPush, AnySender, BuildSource, Make, Node, NodeId, OpContext, RawOuts, Tag,
    WriterContext,
};
use millstream_jobmanager::job;
use millstream_model::job_graph::{JobVertex, Ship};
use millstream_model::{CheckpointId, CheckpointMode, Error, Result};
use millstream_runtime::TaskContext;
use millstream_runtime::chain::Site;
use millstream_runtime::context::JobContext;
use millstream_runtime::exchange::{Limits, MemoryPool};
use millstream_runtime::operator::{STAGED_PART, SinkStart, Staged};
use millstream_runtime::task::{Checkpointing, Control, Head, Restore, Snapshots, Task, Waker};
use millstream_state::store::Backend;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Bytes a full batch may have.
const BATCH_BYTES: usize = 64 << 10;

struct Assembly<'a> {
    program: &'a Program,
    limits: Limits,
    /// Who reads an output: fused consumers, and job edges.
    consumers: HashMap<(NodeId, Tag), (Vec<NodeId>, Vec<usize>)>,
    /// Senders by job edge and producing subtask, in order of the receiving subtask.
    senders: HashMap<(usize, usize), Vec<AnySender>>,
    /// Gates by node, input and subtask.
    gates: HashMap<(NodeId, usize, usize), AnyGate>,
    sources: HashMap<NodeId, BuildSource>,
    mode: CheckpointMode,
    /// Of each vertex, whether watermarks are made in it, or in one behind it: not those of a source.
    makes_time: Vec<bool>,
}

/// Where an attempt begins.
pub(crate) enum Begin {
    /// At the beginning, for the first time.
    Fresh,
    /// At the beginning, although the job ran before: no checkpoint was completed.
    Anew,
    /// At a checkpoint.
    At(Restore),
}

impl From<job::Begin> for Begin {
    fn from(begin: job::Begin) -> Self {
        match begin {
            job::Begin::Fresh => Begin::Fresh,
            job::Begin::Anew => Begin::Anew,
            job::Begin::At(restored) => Begin::At(restored.restore),
        }
    }
}

/// What was found before any task of an attempt existed: the splits of each source, as bytes.
pub(crate) type Prepared = BTreeMap<NodeId, Vec<u8>>;

/// The mailbox of each task that runs here.
pub(crate) type Mailboxes = dyn Fn(usize) -> Option<Arc<Control>>;

/// One attempt of a job.
pub(crate) struct Attempt<'a> {
    pub(crate) number: u32,
    pub(crate) begin: Begin,
    /// What the tasks need to take part in checkpoints, if there are any.
    pub(crate) snapshots: Option<(Arc<dyn Snapshots>, &'a Mailboxes)>,
    /// What keeps the state, if that is not memory alone.
    pub(crate) backend: Option<&'a Backend>,
    /// Where the other tasks are.
    pub(crate) neighbours: &'a Neighbours<'a>,
}

/// Makes the tasks of a job that run here, with their numbers, in order.
pub(crate) fn assemble(
    program: &Program,
    job: &Arc<JobContext>,
    attempt: &Attempt<'_>,
    prepared: &Prepared,
    wakers: &dyn Fn(usize) -> Waker,
    memory: &Arc<MemoryPool>,
) -> Result<Vec<(usize, Task)>> {
    let vertices = &program.compiled.graph.vertices;
    let n_tasks = program.compiled.graph.n_tasks().max(1);
    let mut assembly = Assembly {
        program,
        limits: Limits {
            batch_records: program.config.batch_size,
            batch_bytes: BATCH_BYTES.min((memory.limit() / 4 / n_tasks).max(1)),
            writer_bytes: (memory.limit() / 4 / n_tasks).max(1),
        },
        consumers: HashMap::new(),
        senders: HashMap::new(),
        gates: HashMap::new(),
        sources: HashMap::new(),
        mode: job.checkpoints.unwrap_or_default(),
        makes_time: Vec::new(),
    };
    assembly.find_time();
    assembly.build_sources(prepared)?;
    assembly.find_consumers();
    assembly.connect(wakers, memory, attempt.neighbours)?;
    let mut tasks = Vec::new();
    let mut next_number = 0;
    for (v, vertex) in vertices.iter().enumerate() {
        for subtask in 0..vertex.parallelism {
            let number = next_number;
            next_number += 1;
            if !attempt.neighbours.is_here(number) {
                continue;
            }
            let waker = wakers(number);
            let context = TaskContext::new(
                Arc::clone(job),
                subtask,
                vertex.parallelism,
                vertex.max_parallelism,
                attempt.number,
                waker,
            )
            .numbered(number);
            let places = vertex.operators.iter().map(|o| context.place(&o.name)).collect();
            let head = assembly.head(v, subtask, &context)?;
            let ids = vertex.operators.iter().map(|o| o.id).collect();
            let mut task = Task::new(head, context, places, ids);
            if let Some((snapshots, mailboxes)) = &attempt.snapshots {
                let mailbox = mailboxes(number);
                let control = mailbox.ok_or_else(|| Error::internal("a task has no mailbox"))?;
                let snapshots = Arc::clone(snapshots);
                task = task.checkpointed(Checkpointing {
                    task: number,
                    vertex: v,
                    control,
                    snapshots,
                    aligned_timeout_us: program.config.aligned_timeout_us,
                });
            }
            task.check_state()?;
            if let Some(backend) = attempt.backend {
                task = task.stored_in(backend.clone(), number);
            }
            if let Begin::At(restore) = &attempt.begin {
                task = task.restored_from(restore.clone());
            }
            tasks.push((number, task));
        }
    }
    Ok(tasks)
}

/// Runs what must happen once before any task of an attempt exists: sinks are prepared and, unless the attempt is of a
/// `part` of the tasks, splits are found. Then `prepared` is replaced: those that come back as a part read on in what was
/// found for all.
pub(crate) fn prepare(
    program: &Program,
    begin: &Begin,
    part: Option<&[usize]>,
    prepared: &mut Prepared,
) -> Result<()> {
    let mut first_task = 0;
    for vertex in &program.compiled.graph.vertices {
        let tasks = first_task..first_task + vertex.parallelism;
        first_task = tasks.end;
        let is_here = |task: &usize| part.is_none_or(|part| part.contains(task));
        let subtasks: Vec<usize> =
            tasks.clone().filter(is_here).map(|task| task - tasks.start).collect();
        if subtasks.is_empty() {
            continue;
        }
        for operator in &vertex.operators {
            let node = &program.graph.nodes[operator.node];
            let locate = |e: Error| {
                let place = millstream_model::Place {
                    operator: node.name.clone(),
                    subtask: 0,
                    parallelism: vertex.parallelism,
                    attempt: 0,
                };
                e.at(&place)
            };
            if let Some(prepare) = &node.prepare {
                let staged = match begin {
                    Begin::Fresh | Begin::Anew => Vec::new(),
                    Begin::At(restore) => restore
                        .entries_of::<(CheckpointId, Staged)>(operator.id, STAGED_PART)
                        .map_err(locate)?
                        .into_iter()
                        .map(|(_, staged)| staged)
                        .collect(),
                };
                let start = match begin {
                    Begin::Fresh => SinkStart::Fresh,
                    _ if subtasks.len() < vertex.parallelism => {
                        SinkStart::RecoveringPart { subtasks: subtasks.clone(), staged }
                    }
                    _ => SinkStart::Recovering(staged),
                };
                prepare(&start).map_err(locate)?;
            }
            if let (Make::Source { discover, .. }, None) = (&node.make, part) {
                let splits = discover(vertex.parallelism).map_err(locate)?;
                prepared.insert(operator.node, splits);
            }
        }
    }
    Ok(())
}

impl Assembly<'_> {
    fn node(&self, id: NodeId) -> &Node {
        &self.program.graph.nodes[id]
    }

    fn build_sources(&mut self, prepared: &Prepared) -> Result<()> {
        for vertex in &self.program.compiled.graph.vertices {
            let id = vertex.operators[0].node;
            if let Make::Source { build, .. } = &self.node(id).make {
                let splits = prepared
                    .get(&id)
                    .ok_or_else(|| Error::internal("nobody has found the splits of a source"))?;
                self.sources.insert(id, build(splits, vertex.parallelism)?);
            }
        }
        Ok(())
    }

    fn find_consumers(&mut self) {
        let compiled = &self.program.compiled;
        for vertex in &compiled.graph.vertices {
            for operator in vertex.operators.iter().skip(1) {
                let edge = &self.program.graph.nodes[operator.node].inputs[0].edges[0];
                self.consumers.entry((edge.from, edge.tag)).or_default().0.push(operator.node);
            }
        }
        for (e, &(node, input, k)) in compiled.edge_origins.iter().enumerate() {
            let edge = &self.program.graph.nodes[node].inputs[input].edges[k];
            self.consumers.entry((edge.from, edge.tag)).or_default().1.push(e);
        }
    }

    fn connect(
        &mut self,
        wakers: &dyn Fn(usize) -> Waker,
        memory: &Arc<MemoryPool>,
        neighbours: &Neighbours<'_>,
    ) -> Result<()> {
        let program = self.program;
        let graph = &program.compiled.graph;
        let mut first_task = vec![0];
        for v in &graph.vertices {
            first_task.push(first_task.last().unwrap_or(&0) + v.parallelism);
        }
        for (v, vertex) in graph.vertices.iter().enumerate() {
            let head = vertex.operators[0].node;
            for (input, i) in program.graph.nodes[head].inputs.iter().enumerate() {
                let edges: Vec<usize> =
                    graph.inputs_of(v).filter(|(_, e)| e.input == input).map(|(e, _)| e).collect();
                for down in 0..vertex.parallelism {
                    let receiver = first_task[v] + down;
                    // The edge, the sending subtask, its task.
                    let mut ends = Vec::new();
                    for &e in &edges {
                        let edge = &graph.edges[e];
                        let n_up = graph.vertices[edge.from].parallelism;
                        for up in 0..n_up {
                            if edge.ship.connects((up, n_up), (down, vertex.parallelism)) {
                                ends.push((e, up, first_task[edge.from] + up));
                            }
                        }
                    }
                    if !neighbours.is_here(receiver) {
                        for (e, up, sender) in ends {
                            if neighbours.is_here(sender) {
                                let (channel, waker) = ((e, up, down), wakers(sender));
                                let sender =
                                    neighbours.sender(&*i.port, receiver, channel, waker)?;
                                self.senders.entry((e, up)).or_default().push(sender);
                            }
                        }
                        continue;
                    }
                    let ups: Vec<_> = ends.iter().map(|(.., task)| wakers(*task)).collect();
                    let (senders, gate) =
                        i.port.connect(memory, &ups, wakers(receiver), self.mode_into(v));
                    for ((e, up, task), sender) in ends.into_iter().zip(senders) {
                        if neighbours.is_here(task) {
                            self.senders.entry((e, up)).or_default().push(sender);
                        } else {
                            neighbours.inlet(&*i.port, task, (e, up, down), sender)?;
                        }
                    }
                    self.gates.insert((head, input, down), gate);
                }
            }
        }
        Ok(())
    }

    /// Goes back from where watermarks are made.
    fn find_time(&mut self) {
        let graph = &self.program.compiled.graph;
        let makes_time = |vertex: &JobVertex| {
            vertex.operators.iter().any(|operator| {
                let node = self.node(operator.node);
                node.watermarks.is_some() && node.source.is_none()
            })
        };
        let mut found: Vec<bool> = graph.vertices.iter().map(makes_time).collect();
        let mut last: Vec<usize> = (0..found.len()).filter(|v| found[*v]).collect();
        while let Some(v) = last.pop() {
            for edge in graph.edges.iter().filter(|edge| edge.to == v) {
                if !std::mem::replace(&mut found[edge.from], true) {
                    last.push(edge.from);
                }
            }
        }
        self.makes_time = found;
    }

    /// How barriers travel into a vertex. They overtake only what can be dealt out anew: not what every subtask
    /// gets, nor what goes where the program or the number of the subtask says; and nothing that comes before watermarks
    /// are made, because with another parallelism it would come in another order.
    fn mode_into(&self, v: usize) -> CheckpointMode {
        let can_overtake = |ship| matches!(ship, Ship::Hash | Ship::Rebalance | Ship::Shuffle);
        let all = self.program.compiled.graph.inputs_of(v).all(|(_, e)| can_overtake(e.ship));
        match self.mode {
            mode if mode.may_overtake() && (!all || self.makes_time[v]) => {
                CheckpointMode::ExactlyOnce
            }
            mode => mode,
        }
    }

    fn operator_context(&self, v: usize, id: NodeId, task: &TaskContext) -> OpContext {
        let operators = &self.program.compiled.graph.vertices[v].operators;
        let index = operators.iter().position(|o| o.node == id).unwrap_or_default();
        let name = &self.node(id).name;
        let site = Site::new(task.place(name), Arc::clone(task.current()), index);
        OpContext {
            task: task.clone(),
            operator: task.operator(name),
            site,
            mode: self.mode_into(v),
        }
    }

    fn head(&mut self, v: usize, subtask: usize, task: &TaskContext) -> Result<Box<dyn Head>> {
        let id = self.program.compiled.graph.vertices[v].operators[0].node;
        let context = self.operator_context(v, id, task);
        let outs = self.outs(v, id, task, &context)?;
        let mut gate = |input| {
            self.gates
                .remove(&(id, input, subtask))
                .ok_or_else(|| Error::internal("an input has no gate"))
        };
        let built = match &self.program.graph.nodes[id].make {
            Make::Source { .. } => match self.sources.get(&id) {
                Some(build) => build(&context, outs),
                None => Err(Error::internal("a source was not prepared")),
            },
            Make::Enumerator(make) => make(&context, outs, self.n_readers(v)),
            Make::Reader(make) => {
                let gate = gate(0)?;
                make(&context, outs, gate)
            }
            Make::One { link, head } => {
                let gate = gate(0)?;
                link(&context, outs).and_then(|link| head(gate, link, &context))
            }
            Make::Two(make) => {
                let (left, right) = (gate(0)?, gate(1)?);
                make(&context, outs, left, right)
            }
        };
        context.site.locate(built)
    }

    /// Number of subtasks that read what the enumerator of a vertex assigns.
    fn n_readers(&self, v: usize) -> usize {
        let graph = &self.program.compiled.graph;
        let readers = graph.edges.iter().find(|edge| edge.from == v);
        readers.map_or(1, |edge| graph.vertices[edge.to].parallelism)
    }

    fn link(&mut self, v: usize, id: NodeId, task: &TaskContext) -> Result<AnyPush> {
        let context = self.operator_context(v, id, task);
        let outs = self.outs(v, id, task, &context)?;
        match &self.node(id).make {
            Make::One { link, .. } => context.site.locate(link(&context, outs)),
            _ => Err(Error::internal("only one-input operators are fused")),
        }
    }

    /// What comes after an operator: fused consumers and writers, joined per output.
    fn outs(
        &mut self,
        v: usize,
        id: NodeId,
        task: &TaskContext,
        context: &OpContext,
    ) -> Result<RawOuts> {
        let capacity = self.program.config.batch_size;
        let mut outs = RawOuts { main: None, sides: Vec::new(), capacity };
        let tags: Vec<Tag> = self.node(id).outputs.keys().copied().collect();
        for tag in tags {
            let (fused, edges) = self.consumers.get(&(id, tag)).cloned().unwrap_or_default();
            let mut consumers = Vec::new();
            for consumer in fused {
                consumers.push(self.link(v, consumer, task)?);
            }
            for e in edges {
                consumers.push(self.writer(e, task.subtask(), &context.site)?);
            }
            let Some(joined) = self.node(id).outputs[&tag].join(consumers)? else { continue };
            match tag {
                None => outs.main = Some(joined),
                Some(tag) => {
                    let side = self.node(id).outputs[&Some(tag)].side(
                        tag,
                        joined,
                        capacity,
                        context.site.clone(),
                    )?;
                    outs.sides.push(side);
                }
            }
        }
        Ok(outs)
    }

    fn writer(&mut self, e: usize, subtask: usize, site: &Site) -> Result<AnyPush> {
        let compiled = &self.program.compiled;
        let (node, input, k) = compiled.edge_origins[e];
        let edge = &compiled.graph.edges[e];
        let down = &compiled.graph.vertices[edge.to];
        // By whom it goes to: the numbers of edges change with what is fused.
        let head = down.operators.first();
        let to = head.ok_or_else(|| Error::internal("a vertex without an operator"))?.id;
        let context = WriterContext {
            ship: edge.ship,
            subtask,
            down_parallelism: down.parallelism,
            max_parallelism: down.max_parallelism,
            limits: self.limits,
            site: site.clone(),
            output: format!("to {to} {input}.{k}"),
            mode: self.mode_into(edge.to),
        };
        let senders = self.senders.remove(&(e, subtask)).unwrap_or_default();
        (self.program.graph.nodes[node].inputs[input].edges[k].writer)(senders, &context)
    }
}
