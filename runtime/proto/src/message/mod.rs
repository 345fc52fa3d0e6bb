//! The messages, by who speaks: clients, task managers, task hosts, each with the job manager.

pub mod client;
pub mod events;
pub mod host;
pub mod id;
pub mod status;
pub mod task_manager;

pub use client::{ClientReply, ClientRequest, Drain, Outcome, Submission};
pub use events::{HostEvent, SnapshotEvent, TaskEvent};
pub use host::{
    AttemptReport, Begin, Deployment, FromHost, HostReport, HostStart, NOWHERE, TargetFolder,
    TaskState, ToHost,
};
pub use id::{JobId, LeaderEpoch, ProgramId, RequestId, TaskManagerId};
pub use status::{
    CheckpointRow, CheckpointState, Cluster, ExceptionRow, JobDetail, JobOverview, JobPhase,
    MetricSample, MetricValue, TaskManagerRow, VertexRow,
};
pub use task_manager::{FromTaskManager, Hello, HostRun, HostSpec, LogStream, ToTaskManager};
